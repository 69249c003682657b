# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
The model card that a saved pipeline or component carries: what it is, how it is loaded, what it consists of. It says only what can be
read from the model; a card that somebody wrote is left as it is.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard, ModelCardData

from .loaders import INSTALL_COMMAND, PACKAGE, PIPELINE_FILE, write_text


CARD_FILE = "README.md"
# A card with one of these was written by a program.
_MARKER = f"<!-- Written by {PACKAGE}. Remove this line to keep your changes: a card with it is written anew. -->"
_FILLER_OF_DIFFUSERS = "This model card has been automatically generated"


@dataclass(frozen=True)
class CardText:
    """
    What a card says of a class of pipelines.

    Args:
        task (`str`): The Hub's name of the task.
        description (`str`): One sentence.
        inputs (`str`): Lines of Python, if any, before the call.
        call (`str`): The arguments of the call.
        fps (`int`): Frames a second of the saved video.
        makes_images (`bool`): Whether the call gives images.
    """

    task: str
    description: str
    call: str
    inputs: str = ""
    fps: int = 8
    makes_images: bool = False


_VIDEOAR = "by next-frame and next-scale prediction ([VideoAR](https://huggingface.co/papers/2601.05966))"

CARD_TEXTS = {
    "VideoARPipeline": CardText("text-to-video", f"Text to video {_VIDEOAR}.", '"a prompt"'),
    "VideoARImageToVideoPipeline": CardText(
        "image-to-video",
        f"Text and a first image to video {_VIDEOAR}.",
        'image, "a prompt"',
        inputs='image = load_image("image.png")\n',
    ),
    "VideoARVideoToVideoPipeline": CardText(
        "video-to-video",
        f"Continues a video {_VIDEOAR}.",
        'video=frames, prompt="a prompt"',
        inputs='frames = load_video("beginning.mp4")[:17]\n',
    ),
    "VideoARTextToImagePipeline": CardText(
        "text-to-image", f"Text to image, the first frame of a video {_VIDEOAR}.", '"a prompt"', makes_images=True
    ),
    "InfinityStarPipeline": CardText(
        "text-to-video",
        "Text to video with the weights of [InfinityStar](https://huggingface.co/papers/2511.04675).",
        '"a prompt"',
        fps=16,
    ),
}

_PIPELINE_CARD = """---
library_name: diffusers
pipeline_tag: {task}
tags:
- {task}
- diffusers
- {package}
---

{marker}

# {title}

{description}{size}

## Use

```bash
{install_command}
```

```python
import torch
import {package}  # makes its classes known to diffusers
from diffusers import DiffusionPipeline
{import_of_helpers}
pipe = DiffusionPipeline.from_pretrained("{name}")
{inputs}{result} = pipe({call}, generator=torch.Generator("cpu").manual_seed(0)).{results}[0]
{save}
```

{where}`{class_name}.from_pretrained("{name}")` is the same, with `from {package} import {class_name}`.

Where the package is installed and you trust this repository, its file `{pipeline_file}` stands for the import:

```python
pipe = DiffusionPipeline.from_pretrained("{name}", custom_pipeline="{custom_pipeline}", trust_remote_code=True)
```
{modular}
## Parts

| part | class | parameters |
|---|---|---|
{parts}

This card was written when the model was saved. It knows the parts, and not what they were trained on, how good they are, or under which
license they may be used: whoever publishes the model should add that.
"""

_MODULAR = """
As modular blocks, which you can take apart and combine with others:

```python
import torch
from diffusers import ModularPipeline

pipe = ModularPipeline.from_pretrained("{name}", trust_remote_code=True)
pipe.load_components()
video = pipe(prompt="a prompt", generator=torch.Generator("cpu").manual_seed(0), output="videos")[0]
```
"""

_COMPONENT_CARD = """---
library_name: diffusers
tags:
- diffusers
- {package}
---

{marker}

# {title}

`{class_name}`{parameters}, a component of [VideoAR](https://huggingface.co/papers/2601.05966)-style pipelines.

```bash
{install_command}
```

```python
from {package} import {class_name}

component = {class_name}.from_pretrained("{name}")
```
{auto_model}
This card was written when the component was saved. It does not know what it was trained on or under which license it may be used: whoever
publishes it should add that.
"""

_AUTO_MODEL = """
Or, if you trust this repository, `diffusers.AutoModel.from_pretrained("{name}", trust_remote_code=True)`.
"""


def write_card(folder: Path, card: str) -> None:
    """Writes `README.md`, unless there is one that somebody wrote."""
    path = folder / CARD_FILE
    if not is_written_by_hand(path):
        write_text(path, card)


def is_written_by_hand(path: Path) -> bool:
    if not path.is_file():
        return False
    text = path.read_text(encoding="utf-8", errors="replace")
    return _MARKER not in text and not _is_filler_of_diffusers(text)


def _is_filler_of_diffusers(text: str) -> bool:
    """Whether a card is the one that diffusers puts where there is none, and no word more below its metadata."""
    line = next((line for line in text.splitlines() if _FILLER_OF_DIFFUSERS in line), None)
    if line is None:
        return False
    try:
        filler = ModelCard.from_template(ModelCardData(), model_description=line.strip()).text
    except ImportError:  # without jinja2 diffusers writes none
        return False
    own_text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    return own_text.split() == filler.split()


def pipeline_card(
    class_name: str, components: dict[str, Any], name: str, size: str = "", has_blocks: bool = False
) -> str:
    """
    The card of a pipeline.

    Args:
        class_name (`str`): A key of `CARD_TEXTS`.
        components (`dict`): Of the pipeline.
        name (`str`): The model's id on the Hub, or its folder.
        size (`str`): What the pipeline makes by default, a sentence.
        has_blocks (`bool`): Whether it carries modular blocks.
    """
    text = CARD_TEXTS[class_name]
    helpers = [] if text.makes_images else ["export_to_video"]
    helpers += [helper for helper in ("load_image", "load_video") if helper in text.inputs]
    return _PIPELINE_CARD.format(
        task=text.task,
        description=text.description,
        inputs=text.inputs,
        call=text.call,
        result="image" if text.makes_images else "video",
        results="images" if text.makes_images else "frames",
        save='image.save("image.png")'
        if text.makes_images
        else f'export_to_video(video, "video.mp4", fps={text.fps})',
        import_of_helpers=f"from diffusers.utils import {', '.join(helpers)}\n" if helpers else "",
        size=f" {size}" if size else "",
        package=PACKAGE,
        # The helpers of diffusers write and read videos with imageio.
        install_command=f"{INSTALL_COMMAND} imageio imageio-ffmpeg" if helpers else INSTALL_COMMAND,
        marker=_MARKER,
        title=title_of(name),
        name=name,
        class_name=class_name,
        where=""
        if "/" in name
        else f"`{name}` stands for this folder or, once it is uploaded, for its id on the Hub. ",
        pipeline_file=PIPELINE_FILE,
        custom_pipeline=Path(PIPELINE_FILE).stem,
        modular=_MODULAR.format(name=name) if has_blocks else "",
        parts="\n".join(_part_row(part, component) for part, component in sorted(components.items())),
    )


def component_card(class_name: str, component: Any, name: str) -> str:
    """The card of a component that has a repository of its own."""
    is_model = isinstance(component, torch.nn.Module)
    return _COMPONENT_CARD.format(
        package=PACKAGE,
        install_command=INSTALL_COMMAND,
        marker=_MARKER,
        title=title_of(name),
        name=name,
        class_name=class_name,
        parameters=f", {_num_parameters(component)} parameters" if is_model else "",
        auto_model=_AUTO_MODEL.format(name=name) if is_model else "",
    )


def title_of(name: str) -> str:
    return name.rstrip("/").split("/")[-1]


def _part_row(part: str, component: Any) -> str:
    if component is None:
        return f"| {part} | none: pass one, or what it would compute | |"
    count = _num_parameters(component) if isinstance(component, torch.nn.Module) else ""
    return f"| {part} | `{type(component).__name__}` | {count} |"


def _num_parameters(module: torch.nn.Module) -> str:
    count = sum(parameter.numel() for parameter in module.parameters())
    for unit, size in (("B", 1e9), ("M", 1e6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:,}"
