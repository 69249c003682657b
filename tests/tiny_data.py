# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""A tiny data set of awkward files that the tests of training data share."""

import argparse
import csv
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from videoar_pipelines.data.sources import add_data_arguments
from videoar_pipelines.utils import save_video


# name: (frames, height, width, frames per second)
TINY_VIDEOS = {
    "plain.mp4": (9, 32, 32, 8),
    "long.mp4": (30, 32, 32, 8),
    "odd-size.mp4": (12, 37, 51, 8),
    "portrait.mkv": (12, 64, 36, 12),
    "broadcast.mp4": (16, 32, 48, Fraction(30000, 1001)),
    "wide.mp4": (10, 24, 80, 24),
}


def make_frames(num_frames: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """`(F, H, W, 3)` in [0, 1]; every frame has its own colour, and a darker left half."""
    colours = np.random.default_rng(seed).uniform(0.3, 1, size=(num_frames, 1, 1, 3)).astype(np.float32)
    frames = colours.repeat(height, axis=1).repeat(width, axis=2)
    frames[:, :, : width // 2] *= 0.5
    return frames


def write_manifest(path: Path, rows: list[tuple[str, str]]) -> Path:
    """A CSV manifest of files and captions."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("file", "caption"), *rows])
    return path


def make_tiny_videos(folder: Path) -> Path:
    """Writes the videos of `TINY_VIDEOS` and a manifest, whose path is returned."""
    for seed, (name, (num_frames, height, width, fps)) in enumerate(TINY_VIDEOS.items()):
        save_video(make_frames(num_frames, height, width, seed), folder / name, fps)
    return write_manifest(folder / "manifest.csv", [(name, f"a video, {name}") for name in TINY_VIDEOS])


def make_broken_files(folder: Path) -> list[str]:
    """Writes files that cannot be used, for clips of five frames and more; gives their names."""
    save_video(make_frames(3, 32, 32), folder / "short.mp4", 8)
    content = (folder / "plain.mp4").read_bytes()
    (folder / "truncated.mp4").write_bytes(content[: len(content) // 2])
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "broken.png").write_bytes(b"no image at all")
    return ["short.mp4", "truncated.mp4", "empty.mp4", "broken.png", "missing.mp4"]


def make_tiny_images(folder: Path, count: int = 4) -> list[str]:
    """Writes images of several sizes; gives their names."""
    names = [f"image-{index}.png" for index in range(count)]
    for index, name in enumerate(names):
        levels = np.full((24 + 8 * index, 40, 3), 40 * index, dtype=np.uint8)
        Image.fromarray(levels).save(folder / name)
    return names


def parse_data_arguments(*arguments: object) -> argparse.Namespace:
    """Flags of `add_data_arguments`, with the sizes of the tiny data set and without workers."""
    parser = argparse.ArgumentParser()
    add_data_arguments(parser)
    tiny = ["--num_frames", 5, "--height", 32, "--width", 32, "--num_workers", 0]
    return parser.parse_args(list(map(str, [*tiny, *arguments])))
