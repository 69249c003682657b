# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
What an evaluation samples: a list of prompts, classes of UCF-101 in turn, the captions of a data set, or the continuations of its clips.

All are lists of [`Sample`] named by their number, `000000`, `000001`, ... A sample depends on its number and the run's seed; a longer
list begins with the shorter one.
"""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..data.buckets import Bucket, random_state
from ..data.clips import ClipSettings, MediaClips, UnreadableClipError
from ..data.manifest import MediaTable
from ..data.ucf101 import UCF101_PHRASES, ucf101_caption
from ..moving_shapes.data_set import caption_for, draw_clip, render_clips
from ..pipelines.many_samples import Sample


ReadClip = Callable[[Sample], np.ndarray]


def read_prompt_file(path: Path) -> list[str]:
    """
    Prompts of a text file, one a line; empty lines do not count.

    Raises:
        `ValueError`: There is no such file, it is no UTF-8 text, or it has no prompt.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # no other separator of Unicode ends a prompt
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"The prompts {str(path)!r} cannot be read: {error}. Pass a text file, one prompt a line."
        ) from error
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise ValueError(f"{str(path)!r} has no prompt. Write one a line.")
    return prompts


def samples_of_prompts(prompts: Sequence[str], num_samples: int | None = None) -> list[Sample]:
    """
    Samples of prompts in their order, again from the first where there are more samples than prompts.

    Args:
        prompts (`Sequence[str]`): At least one.
        num_samples (`int`, *optional*): As many as there are prompts if not given.
    """
    num_samples = len(prompts) if num_samples is None else num_samples
    return [Sample(f"{index:06d}", prompts[index % len(prompts)]) for index in range(num_samples)]


def samples_of_ucf101_classes(num_samples: int) -> list[Sample]:
    """
    Captions of the 101 classes in turn, so that the classes of any number of samples differ by one at most.

    Args:
        num_samples (`int`): 2121 are 21 a class.
    """
    classes = sorted(UCF101_PHRASES)
    names = [classes[index % len(classes)] for index in range(num_samples)]
    return [Sample(f"{index:06d}", ucf101_caption(name), {"class": name}) for index, name in enumerate(names)]


def samples_of_files(
    table: MediaTable, num_samples: int | None, settings: ClipSettings, shuffle: bool
) -> tuple[list[Sample], ReadClip]:
    """
    Samples with the captions of a data set.

    Args:
        table ([`MediaTable`]): The files and captions.
        num_samples (`int`, *optional*): As many as there are rows if not given; with more, every row is taken again.
        settings ([`ClipSettings`]): How clips are cut out of the files; one size.
        shuffle (`bool`): Whether rows come in an order drawn from the seed of `settings` instead of that of the table.

    Returns:
        `tuple[list[Sample], ReadClip]`: The samples, whose facts name file, row and draw; and what reads the clip of a sample, levels
        `(F, H, W, 3)`.

    Raises:
        `ValueError`: A row has no file or no caption.
    """
    if table.unusable:
        row, reason = next(iter(table.unusable.items()))
        raise ValueError(
            f"{len(table.unusable)} rows of `--data` cannot be used, such as row {row}: {reason}. Take them out."
        )
    num_samples = len(table) if num_samples is None else num_samples
    samples, order = [], range(len(table))
    for index in range(num_samples):
        draw, position = divmod(index, len(table))
        if shuffle and position == 0:
            order = random_state(settings.seed, "order of samples", draw).permutation(len(table))
        row = int(order[position])
        facts = {"real_file": table.files[row], "row": row, "draw": draw}
        samples.append(Sample(f"{index:06d}", table.captions[row], facts))
    clips = MediaClips(table, settings)
    bucket = Bucket(False, *settings.sizes[0])

    def read_clip(sample: Sample) -> np.ndarray:
        row, draw = sample.facts["row"], sample.facts["draw"]
        if clips.is_image[row]:
            raise ValueError(f"`--given_frames` needs videos, but {clips.files[row]!r} is an image.")
        try:
            return clips.read(row, draw, bucket)
        except UnreadableClipError as error:
            raise ValueError(f"{clips.files[row]!r} of `--data` cannot be used: {error}. Take it out.") from error

    return samples, read_clip


def samples_of_moving_shapes(
    num_samples: int, num_frames: int, height: int, width: int, split: str, seed: int
) -> tuple[list[Sample], ReadClip]:
    """
    Captions of moving shapes, see [`moving_shapes`].

    Args:
        num_samples (`int`): How many.
        num_frames (`int`): Pixel frames `F` of real clips.
        height (`int`): Pixels `H`.
        width (`int`): Pixels `W`.
        split (`str`): `"train"`, `"held_out"` or `"all"` combinations of shape, colour and motion.
        seed (`int`): Of clips and captions.

    Returns:
        `tuple[list[Sample], ReadClip]`: The samples, and what renders the clip of a sample, levels `(F, H, W, 3)`.
    """
    clips = [draw_clip(index, seed, split) for index in range(num_samples)]
    samples = [
        Sample(
            f"{index:06d}",
            caption_for(clip, random.Random(f"{seed}-{index}")).text,
            {"attributes": dict(clip.attributes)},
        )
        for index, clip in enumerate(clips)
    ]

    def read_clip(sample: Sample) -> np.ndarray:
        video = render_clips([clips[int(sample.name)]], num_frames, height, width)[0]  # (3, F, H, W) in [-1, 1]
        return ((video.permute(1, 2, 3, 0) + 1) * 127.5).round().clamp(0, 255).byte().numpy()

    return samples, read_clip
