# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
The small files of a saved model from which diffusers takes its class. They hold no code of the model: they import it from this
package, or say in one line what to install.
"""

import json
from pathlib import Path

import diffusers

from .. import __version__


PACKAGE = __name__.split(".")[0]
INSTALL_COMMAND = f"pip install {PACKAGE}"

# diffusers takes the only pipeline class of `pipeline.py`, whatever its name. The name is always the same: a second model of another
# class, loaded in the same process, takes the place of the first.
PIPELINE_FILE = "pipeline.py"
PIPELINE_NAME = "Pipeline"
BLOCKS_FILE = "modular_blocks.py"
BLOCKS_CONFIG_FILE = "modular_config.json"

_LOADER = '''# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Read by {reader} with `trust_remote_code=True`. The code is in the package {package}."""

try:
    from {package} import {class_name}
except ModuleNotFoundError as error:
    if error.name != "{package}":
        raise
    raise ImportError("This model needs the package {package}: {install_command}") from None

__all__ = ["{name}"]
'''


def is_of_package(cls: type) -> bool:
    """Whether a class is one of this package, not one that a user derived from it."""
    return cls.__module__.startswith(f"{PACKAGE}.")


def class_of_package(cls: type) -> type:
    """The class itself, or the one of this package that a user's class is derived from."""
    return next(base for base in cls.__mro__ if is_of_package(base))


def write_pipeline_loader(folder: Path, class_name: str) -> None:
    """Writes `pipeline.py`, for `DiffusionPipeline.from_pretrained(..., custom_pipeline="pipeline")`."""
    _write_loader(folder / PIPELINE_FILE, "DiffusionPipeline", class_name, PIPELINE_NAME)


def write_model_loader(folder: Path, module: str, class_name: str) -> None:
    """Writes the file of a component to which `auto_map` in its `config.json` points, for `AutoModel`."""
    _write_loader(folder / f"{module}.py", "AutoModel", class_name)


def write_blocks_loader(folder: Path, class_name: str) -> None:
    """
    Writes `modular_config.json`, as `save_pretrained` of the blocks does, and its code file, for `ModularPipeline`. There is no
    `modular_model_index.json`: it would name the repository of every component, and a copy of the model would load the original's.
    Without one diffusers reads `model_index.json`.
    """
    _write_loader(folder / BLOCKS_FILE, "ModularPipeline", class_name)
    config = {
        "_class_name": class_name,
        "_diffusers_version": diffusers.__version__,
        "auto_map": {"ModularPipelineBlocks": f"{Path(BLOCKS_FILE).stem}.{class_name}"},
        "requirements": requirements(),
    }
    write_text(folder / BLOCKS_CONFIG_FILE, json.dumps(config, indent=2, sort_keys=True) + "\n")


def requirements() -> dict[str, str]:
    """What the blocks need, as diffusers checks it: by package, the versions."""
    return {PACKAGE: f">={__version__}"}


def _write_loader(path: Path, reader: str, class_name: str, name: str | None = None) -> None:
    imported = class_name if name is None else f"{class_name} as {name}"
    text = _LOADER.format(
        reader=f"`{reader}.from_pretrained`",
        package=PACKAGE,
        class_name=imported,
        name=name or class_name,
        install_command=INSTALL_COMMAND,
    )
    write_text(path, text)


def write_text(path: Path, text: str) -> None:
    """Writes a file that appears when it is complete."""
    from ..utils.files import complete_or_absent  # here, since `utils` needs PyAV, which takes its time to import

    with complete_or_absent(path) as temporary_path:
        temporary_path.write_text(text, encoding="utf-8")
