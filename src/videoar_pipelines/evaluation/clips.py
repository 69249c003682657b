# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Sets of clips to be scored: of a data set, or of what a model has written.

    files   a folder of videos and arrays, a dump of samples, a manifest, a folder with UCF-101, or one array of many clips
    arrays  .npy, or .npz with one array: (F, H, W, 3), or (N, F, H, W, 3) for many; uint8, or floats in [0, 1]

Whatever it is, a set has a length and reads its clips one by one, as a protocol cuts and resizes them.

Letters used in shapes: `F` pixel frames, `(H, W)` pixels.
"""

import dataclasses
import functools
import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ..data.clips import UnreadableClipError, room_for_clip
from ..data.manifest import MANIFEST_SUFFIXES, parent_of, read_column, read_manifest
from ..data.ucf101 import UCF101_LISTS_FOLDER, read_ucf101
from ..utils.files import read_json_lines
from ..utils.video_io import CENTRE, VideoReader, VideoWriter
from .protocols import ClipProtocol


VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm")
ARRAY_SUFFIXES = (".npy", ".npz")
RECORDS_NAME = "samples.jsonl"  # of a dump: one line for each sample, with its file
ALTERATIONS = ("none", "frozen", "shuffled")
_PROBING_THREADS = 8
_MP4_FPS = 8  # of the files of a round trip; it has no influence on the frames


# 1. Frames to the size that is asked for


def resize_frames(
    video: torch.Tensor, height: int, width: int, kernel: str, antialias: bool, alignment: str = "half_pixel"
) -> torch.Tensor:
    """
    Stretches every frame.

    Args:
        video (`torch.Tensor` of shape `(..., H, W)`): Floats.
        height, width (`int`): Of the result.
        kernel, antialias, alignment: See [`ClipProtocol`] and [`NetworkProtocol`].

    Returns:
        `torch.Tensor` of shape `(..., height, width)`.
    """
    if tuple(video.shape[-2:]) == (height, width):
        return video
    if alignment == "corner":
        return _interpolate_from_corner(_interpolate_from_corner(video, height, -2), width, -1)
    frames = video.reshape(-1, 1, *video.shape[-2:])
    if kernel == "area":
        frames = F.interpolate(frames, (height, width), mode="area")
    else:
        frames = F.interpolate(frames, (height, width), mode=kernel, align_corners=False, antialias=antialias)
    return frames.reshape(*video.shape[:-2], height, width)


def _interpolate_from_corner(video: torch.Tensor, size: int, axis: int) -> torch.Tensor:
    """TensorFlow 1's linear resizing: pixel `i` of the result lies at `i * old / new`, not half a pixel further."""
    old_size = video.shape[axis]
    positions = torch.arange(size, device=video.device) * (old_size / size)
    lower = positions.long()
    upper = (lower + 1).clamp(max=old_size - 1)
    share = (positions - lower).to(video.dtype)
    share = share[:, None] if axis == -2 else share
    return video.index_select(axis, lower).lerp(video.index_select(axis, upper), share)


def fit_frames(video: torch.Tensor, settings: ClipProtocol) -> torch.Tensor:
    """Brings a clip `(3, F, H, W)` to the protocol's height and width, by covering and cropping or by stretching."""
    height, width = settings.height, settings.width
    if settings.fit == "squash":
        return resize_frames(video, height, width, settings.kernel, settings.antialias)
    covering = CENTRE.covering_size(video.shape[-2:], height, width)
    video = resize_frames(video, *covering, settings.kernel, settings.antialias)
    top, left = (covering[0] - height) // 2, (covering[1] - width) // 2
    return video[..., top : top + height, left : left + width]


def pass_through(video: torch.Tensor, round_trip: str) -> torch.Tensor:
    """A clip `(3, F, H, W)` in [-1, 1] after the protocol's round trip, in [-1, 1] again."""
    video = video.clamp(-1, 1)
    if round_trip == "none":
        return video
    levels = ((video + 1) * 127.5).round()
    if round_trip == "mp4":
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "clip.mp4"
            with VideoWriter(path, _MP4_FPS) as writer:
                writer.write(levels.permute(1, 2, 3, 0).to(torch.uint8))
            with VideoReader(path, num_threads=1) as reader:
                frames = torch.from_numpy(reader.read())[:, : video.shape[2], : video.shape[3]]
        levels = frames.permute(3, 0, 1, 2).float()
    return levels / 127.5 - 1


def alter(video: torch.Tensor, alteration: str, seed: int, moving_frames: int = 1) -> torch.Tensor:
    """
    What a number is anchored with: a clip `(3, F, H, W)` that stands still after its first frames, or with its frames in another order.

    Args:
        alteration (`str`): `"none"`, `"frozen"` or `"shuffled"`.
        seed (`int`): Of the order, which is never the clip's own.
        moving_frames (`int`, defaults to 1): Of a frozen clip: how many of its frames are shown before it stands still.
    """
    if alteration == "frozen":
        shown = torch.arange(video.shape[1]).clamp(max=moving_frames - 1)
        return video[:, shown]
    if alteration == "shuffled":
        random, order = np.random.RandomState(seed), np.arange(video.shape[1])
        while (order == np.arange(len(order))).all() and len(order) > 1:
            order = random.permutation(len(order))
        return video[:, torch.from_numpy(order)]
    return video


# 2. Sets of clips


@dataclasses.dataclass(frozen=True)
class ClipSet:
    """
    Clips of files.

    Args:
        files (`tuple[str, ...]`): Of every clip.
        starts (`tuple[int, ...]`): First frame of every clip; of a file with many clips, which of them.
        settings ([`ClipProtocol`]): How clips are cut and resized.
        groups (`tuple[str, ...]`): What every clip was cut from: its recording if the manifest tells it, else its file.
        alteration (`str`, defaults to `"none"`), moving_frames (`int`, defaults to 1): See [`alter`].
        left_out (`int`, defaults to 0): Files that are too short or too slow for a clip.
    """

    files: tuple[str, ...]
    starts: tuple[int, ...]
    settings: ClipProtocol
    groups: tuple[str, ...]
    alteration: str = "none"
    moving_frames: int = 1
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        """One clip: `(3, F, H, W)`, float32 RGB in [-1, 1]."""
        frames = _read_frames(self.files[index], self.starts[index], self.settings)
        video = torch.from_numpy(np.array(frames)).permute(3, 0, 1, 2).float()
        video = video / 127.5 - 1 if frames.dtype == np.uint8 else video * 2 - 1
        video = pass_through(fit_frames(video, self.settings), self.settings.round_trip)
        return alter(video, self.alteration, seed=index, moving_frames=self.moving_frames)

    def select(self, indices: Sequence[int]) -> "ClipSet":
        """Some of the clips, in the given order."""
        picked = {
            name: tuple(getattr(self, name)[index] for index in indices) for name in ("files", "starts", "groups")
        }
        return dataclasses.replace(self, **picked)

    def altered(self, alteration: str, moving_frames: int = 1) -> "ClipSet":
        """The same clips, altered as in [`alter`]."""
        return dataclasses.replace(self, alteration=alteration, moving_frames=moving_frames)

    def describe(self) -> dict[str, Any]:
        """What decides the clips, for results and for the names of caches. A folder may move, its files may not change."""
        digest = hashlib.sha256()
        for file, start in zip(self.files, self.starts):
            status = os.stat(file)
            contents = _sha256_of_contents(file, status.st_size, status.st_mtime_ns)
            digest.update(f"{os.path.basename(file)} {contents} {start}\n".encode())
        return {
            "num_clips": len(self),
            "files_sha256": digest.hexdigest(),
            "clips": dataclasses.asdict(self.settings),
            "alteration": self.alteration
            if self.moving_frames == 1
            else f"{self.alteration} after {self.moving_frames} frames",
        }


@functools.lru_cache(maxsize=None)
def _sha256_of_contents(file: str, size: int, changed: int) -> str:
    """Of a file on this machine, read once in a process. Size and time of the last change tell a new file of the same name."""
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def split_halves(groups: Sequence[str], seed: int = 0) -> tuple[list[int], list[int]]:
    """
    Two disjoint halves of clips whose groups they are: no group is in both, and the halves differ by at most one group.

    Returns:
        `tuple[list[int], list[int]]`: Indices of the clips of each half, ascending.
    """
    names, numbers, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    counts, sides = [0, 0], np.zeros(len(names), dtype=int)
    for group in np.random.RandomState(seed).permutation(len(names)):
        sides[group] = int(counts[1] < counts[0])
        counts[sides[group]] += sizes[group]
    return tuple(np.flatnonzero(sides[numbers] == side).tolist() for side in (0, 1))


def open_clips(
    path: str | Path,
    settings: ClipProtocol,
    split: str = "all",
    num_clips: int | None = None,
    seed: int = 0,
    group_column: str | None = None,
    file_column: str | None = None,
) -> ClipSet:
    """
    The clips of a data set.

    Args:
        path (`str` or `Path`): A folder of videos and arrays, a manifest, a folder with UCF-101, or a file of many clips.
        settings ([`ClipProtocol`]): How clips are cut and resized.
        split (`str`, defaults to `"all"`): `"train"`, `"validation"`, `"test"` or `"all"`, of UCF-101 or of a manifest with that column.
        num_clips (`int`, *optional*): So many, drawn by the seed; all if not given.
        seed (`int`, defaults to 0): Of the draw and of random starts.
        group_column (`str`, *optional*): Column of a manifest that names the recording a file is of; of a path, its folder.
        file_column (`str`, *optional*): Column of a manifest that names the files, `"file"` if not given.

    Raises:
        `ValueError`: There is nothing to read, too little, or a column is named that has no effect or holds nothing.
    """
    files, groups = list_files(path, split, group_column, file_column)
    clips, problems = _cut(files, settings, seed)
    if not clips:
        raise ValueError(f"No file of {str(path)!r} can be used; {files[0]!r} is {next(iter(problems), 'empty')}.")
    rows = range(len(clips))
    if num_clips is not None:
        if num_clips > len(clips):
            raise ValueError(
                f"{str(path)!r} has {len(clips)} clips, but {num_clips} are asked for: lower their number."
            )
        rows = sorted(np.random.RandomState(seed).permutation(len(clips))[:num_clips].tolist())
    chosen = [clips[row] for row in rows]
    return ClipSet(
        files=tuple(files[row] for row, _ in chosen),
        starts=tuple(start for _, start in chosen),
        settings=settings,
        groups=tuple(groups[row] for row, _ in chosen),
        left_out=len(problems),
    )


def open_samples(path: str | Path, settings: ClipProtocol, num_clips: int | None = None) -> ClipSet:
    """
    The clips that a model has written: the first ones by name, each from its first frame on with stride 1.

    Args:
        path (`str` or `Path`): As for [`open_clips`].
        settings ([`ClipProtocol`]): The protocol's; stride, rate and start are those of samples instead.
        num_clips (`int`, *optional*): So many; all if not given.

    Raises:
        `ValueError`: There are fewer, or one of them is too short.
    """
    settings = dataclasses.replace(settings, frame_stride=1, fps=None, windows="one", start="first")
    samples = open_clips(path, settings)
    if samples.left_out:
        raise ValueError(
            f"{samples.left_out} samples in {str(path)!r} have fewer than {settings.num_frames} frames: generate longer ones."
        )
    if num_clips is not None and num_clips > len(samples):
        raise ValueError(
            f"The protocol needs {num_clips} samples, but {str(path)!r} has {len(samples)}: generate the rest, or pass"
            " `--num_fake` for a number that is not comparable."
        )
    return samples.select(range(len(samples) if num_clips is None else num_clips))


def list_files(
    path: str | Path, split: str = "all", group_column: str | None = None, file_column: str | None = None
) -> tuple[list[str], list[str]]:
    """Files and groups of whatever `path` is, in a fixed order."""
    path = Path(path)
    if path.name.endswith(MANIFEST_SUFFIXES):
        return _list_manifest(str(path), split, group_column, file_column or "file")
    for name, column in (("group_column", group_column), ("file_column", file_column)):
        if column is not None:
            raise ValueError(f"`{name}` has no effect on {str(path)!r}, which is no manifest: leave it out.")
    if (path / UCF101_LISTS_FOLDER).is_dir():
        splits = ("train", "validation") if split == "all" else (split,)
        files = [file for name in splits for file in read_ucf101(str(path), name).files]
        # "v_Archery_g08_c01.avi": clips of one group are of one recording.
        return files, [os.path.basename(file).rpartition("_c")[0] for file in files]
    if split != "all":
        raise ValueError(f"`split` is {split!r}, but {str(path)!r} is no UCF-101 and no manifest: pass 'all'.")
    if path.is_file():
        return [str(path)], [str(path)]
    if (path / RECORDS_NAME).is_file():
        files = [str(path / record["file"]) for record in read_json_lines(path / RECORDS_NAME)]
        absent = [file for file in files if not os.path.exists(file)]
        if absent:
            raise ValueError(f"{str(path)!r} lacks {len(absent)} of {len(files)} samples: run `sample.py` to its end.")
        return files, files
    suffixes = VIDEO_SUFFIXES + ARRAY_SUFFIXES
    files = sorted(
        str(file) for file in path.glob("*") if file.name.lower().endswith(suffixes) and file.name[0] != "."
    )
    if not files:
        raise ValueError(f"{str(path)!r} has no videos ({', '.join(VIDEO_SUFFIXES)}) and no arrays (.npy, .npz).")
    return files, files


def _list_manifest(path: str, split: str, group_column: str | None, file_column: str) -> tuple[list[str], list[str]]:
    rows_of = None if split == "all" else split
    table = read_manifest(path, file_column=file_column, split=rows_of, needs_captions=False)
    rows = [row for row in range(len(table)) if row not in table.unusable]
    files = [table.files[row] for row in rows]
    if not files:
        raise ValueError(
            f"The manifest {path!r} has no row that can be used; {table.files[0]!r}: {table.unusable[0]}."
        )
    if group_column is None:
        return files, files
    names = read_column(path, group_column, rows_of)
    groups = []
    for row, file in zip(rows, files):
        name = "" if names[row] is None else str(names[row]).strip()
        if not name:
            raise ValueError(
                f"The manifest {path!r} has nothing in the column {group_column!r} for {file!r}: fill it in."
            )
        groups.append(parent_of(name) or name)  # where the column holds paths, the folder is the recording
    return files, groups


def _cut(files: Sequence[str], settings: ClipProtocol, seed: int) -> tuple[list[tuple[int, int]], list[str]]:
    """The clips as rows of `files` and first frames, and why the other files are of no use."""
    with ThreadPoolExecutor(_PROBING_THREADS) as threads:
        lengths = list(threads.map(functools.partial(_probe, counts=settings.windows == "all"), files))
    clips, problems = [], []
    for row, (count, fps, num_clips) in enumerate(lengths):
        try:
            step, latest = room_for_clip(count, fps, settings.num_frames, settings.fps, settings.frame_stride)
        except UnreadableClipError as error:
            problems.append(str(error))
            continue
        if num_clips is not None:
            clips += [(row, index) for index in range(num_clips)]
        elif settings.windows == "all":
            clips += [(row, int(start)) for start in np.arange(0, latest + 1e-9, settings.num_frames * step)]
        else:
            clips.append((row, _start(settings.start, int(latest), seed, row)))
    return clips, problems


def _start(kind: str, latest: int, seed: int, row: int) -> int:
    if kind == "random":
        return int(np.random.RandomState([seed, row]).randint(latest + 1))
    return latest // 2 if kind == "center" else 0


def _probe(file: str, counts: bool) -> tuple[int, float | None, int | None]:
    """
    Frames and frames per second of a file; an array has no rate, and one of many clips has their number. What a header says is near
    enough for one clip; where all windows are taken, frames are counted.
    """
    if file.lower().endswith(ARRAY_SUFFIXES):
        array = _open_array(file)
        return (array.shape[0], None, None) if array.ndim == 4 else (array.shape[1], None, array.shape[0])
    with VideoReader(file, num_threads=1) as reader:
        return reader.count_frames(up_to_damage=True) if counts else reader.num_frames, reader.fps, None


def _open_array(file: str) -> np.ndarray:
    array = np.load(file, mmap_mode="r", allow_pickle=False)
    if isinstance(array, np.lib.npyio.NpzFile):
        if len(array.files) != 1:
            raise ValueError(f"{file} holds the arrays {', '.join(array.files)}: a file of clips has exactly one.")
        array = array[array.files[0]]
    if array.ndim not in (4, 5) or array.shape[-1] != 3:
        raise ValueError(f"{file} holds an array of the shape {array.shape}: pass (F, H, W, 3) or (N, F, H, W, 3).")
    return array


def _read_frames(file: str, start: int, settings: ClipProtocol) -> np.ndarray:
    """`(F, H, W, 3)`, as stored: `uint8`, or floats in [0, 1]."""
    if not file.lower().endswith(ARRAY_SUFFIXES):
        with VideoReader(file, num_threads=1) as reader:
            sampling = {"fps": settings.fps, "frame_stride": settings.frame_stride}
            try:
                return reader.read(settings.num_frames, start_frame=start, **sampling)
            except ValueError as error:
                # Headers may claim more frames than there are: a video is too short only if its beginning is.
                if settings.windows == "one" and start > 0:
                    return reader.read(settings.num_frames, **sampling)
                raise ValueError(
                    f"{error} It is damaged, or its frame rate varies: mend it, or leave it out."
                ) from error
    array = _open_array(file)
    frames = array[start] if array.ndim == 5 else array[start:]
    frames = frames[:: settings.frame_stride][: settings.num_frames]
    if len(frames) < settings.num_frames:
        raise ValueError(f"{file} has {len(frames)} frames, but {settings.num_frames} are needed.")
    if frames.dtype == np.uint8:
        return frames
    if not np.issubdtype(frames.dtype, np.floating) or frames.min() < -1e-3 or frames.max() > 1 + 1e-3:
        raise ValueError(
            f"{file} holds {frames.dtype} in [{frames.min():.3g}, {frames.max():.3g}]: pass uint8 levels, or floats in [0, 1]."
        )
    return frames.astype(np.float32)


# 3. How samples were made


def describe_dump(path: str | Path) -> dict[str, Any]:
    """
    How a dump of samples was made, from the lines of its `samples.jsonl`: a value that all lines share as it is, numbers that
    differ as their range, all else as how many different ones there are. Empty if there is no such file.
    """
    file = Path(path) / RECORDS_NAME
    if not file.is_file():
        return {}
    lines = read_json_lines(file)
    summary = {}
    for key in {key: None for line in lines for key in line}:
        values = [line.get(key) for line in lines]
        different = {json.dumps(value, sort_keys=True) for value in values}
        if len(different) == 1:
            summary[key] = values[0]
        elif all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
            summary[key] = f"{min(values)} to {max(values)}"
        else:
            summary[key] = f"{len(different)} different"
    return summary
