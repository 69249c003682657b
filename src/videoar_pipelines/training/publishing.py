# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Model cards of trained models, and the way to the Hub."""

import shlex
import shutil
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diffusers.utils.hub_utils import populate_model_card
from huggingface_hub import ModelCard, ModelCardData, create_repo, upload_folder

from ..utils.command_line import UsageError
from .disk_space import explaining_full_disk


_TEMPLATE = "---\n{{ card_data }}\n---\n\n{{ text }}\n"


def save_model_card(
    folder: Path,
    description: str,
    usage: str,
    facts: dict[str, str],
    args: Namespace,
    final_values: dict[str, float],
    tags: list[str],
    base_model: str | None = None,
) -> Path:
    """
    Writes `README.md` beside a trained model.

    Args:
        folder (`Path`): Of the model or pipeline.
        description (`str`): What it is, a sentence or two.
        usage (`str`): Python code that loads and uses it.
        facts (`dict[str, str]`): What to know about the run, by name: data, steps, hardware, ...
        args (`argparse.Namespace`): All settings of the run.
        final_values (`dict[str, float]`): What was logged last.
        tags (`list[str]`): For the Hub.
        base_model (`str`, *optional*): What the training started from; the Hub is told if it is no local folder.

    Returns:
        `Path`: The card's.
    """
    settings = "\n".join(f"{name}: {value}" for name, value in sorted(vars(args).items()) if value is not None)
    values = "\n".join(f"| {name} | {value:.5g} |" for name, value in final_values.items())
    parts = [
        f"# {folder.resolve().name}\n\n{description}",
        f"## Use\n\n```python\n{usage}\n```",
        "## Training\n\n" + "\n".join(f"- {name}: {value}" for name, value in facts.items()),
        f"The command:\n\n```bash\n{shlex.join(['python', *sys.argv])}\n```",
        f"Last values of the log (`validation/`: of held-out clips; others: of training data, one batch per process):\n\n| value | |\n|---|---|\n{values}",
        f"<details><summary>All settings</summary>\n\n```\n{settings}\n```\n\n</details>",
    ]
    if base_model is not None and Path(base_model).exists():
        base_model = None
    card = ModelCard.from_template(
        card_data=ModelCardData(library_name="diffusers", base_model=base_model),
        template_str=_TEMPLATE,
        text="\n\n".join(parts),
    )
    path = folder / "README.md"
    populate_model_card(card, tags=["diffusers-training", *tags]).save(path)
    return path


@contextmanager
def replaced_folder(folder: Path, num_bytes: int) -> Iterator[Path]:
    """
    A temporary folder for a result of a run, which takes the place of `folder` when it is complete.

    Args:
        folder (`Path`): In the folder of the run.
        num_bytes (`int`): About how many will be written, for the error.

    Raises:
        `DiskFullError`: There is no room. An older `folder` is still there.
    """
    temporary = folder.with_name(f"tmp-{folder.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    with explaining_full_disk(folder.parent, num_bytes, folder.name, "the last checkpoint is whole"):
        try:
            yield temporary
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    if folder.exists():
        shutil.rmtree(folder)
    temporary.rename(folder)


def repository_of(repo_id: str) -> str:
    """
    The full id of a model repository, which is made if there is none.

    Raises:
        `UsageError`: The Hub cannot be reached, or does not allow it.
    """
    try:
        return create_repo(repo_id, exist_ok=True).repo_id
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(
            f"`--push_to_hub` cannot write to the repository {repo_id!r} ({type(error).__name__}: {reason}). Log in with `hf"
            " auth login`, name another repository by `--hub_model_id`, or pass `--no-push_to_hub`."
        ) from error


def push_to_hub(folder: Path, repo_id: str, step: int) -> str:
    """Uploads a folder to a model repository, see [`repository_of`]; the repository's address."""
    return upload_folder(repo_id=repository_of(repo_id), folder_path=folder, commit_message=f"Training, {step} steps")
