# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
What a data set of clips is, and the one made of video and image files: which part of a video is taken, and how it is resized and
cropped. Which clips are in which batch is not decided here.

Letters used in shapes: `B` clips of a batch, `F` pixel frames, `(H, W)` pixels.
"""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

import fsspec
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from ..utils.video_io import CENTRE, Crop, VideoReader, levels_to_video, load_image
from .buckets import BatchRequest, Bucket, random_state
from .manifest import MediaTable


logger = logging.getLogger(__name__)

CLIP_STARTS = ("random", "center")
_PROBING_THREADS = 16
# A video may be so much slower than the rate that is asked for: 29.97 frames per second do for 30.
_RATE_TOLERANCE = 0.01


class UnreadableClipError(Exception):
    """A clip cannot be used; the message says why."""


class ClipDataSet(Protocol):
    """
    Clips that can be read by row, in any order and by any process: [`MediaClips`] and [`token_shards.TokenShards`].

    A row stands for one video or image. It keeps its number whether it can be used or not.

    Args:
        files, captions (`Sequence[str]`): Of every row.
        is_image, size_indices (`np.ndarray` of shape `(rows,)`): See [`buckets.BucketPlan`].
        sizes (`Sequence[tuple[int, int]]`): Heights and widths in pixels that `size_indices` choose from.
        unusable (`dict[int, str]`): Rows that are known from the start to be of no use, and why.
        frame_conditions (`dict[str, np.ndarray]`): By name `(rows, T, c)`, float32, see [`manifest.MediaTable`].
    """

    files: Sequence[str]
    captions: Sequence[str]
    is_image: np.ndarray
    size_indices: np.ndarray
    sizes: Sequence[tuple[int, int]]
    unusable: dict[int, str]
    frame_conditions: dict[str, np.ndarray]

    def read(self, row: int, draw: int, bucket: Bucket) -> Any:
        """
        One clip, a pure function of the arguments; called in a worker process.

        Args:
            row (`int`): Which video or image.
            draw (`int`): How often it had been taken before, which picks a part of a long video.
            bucket ([`Bucket`]): The shape to bring it to.

        Raises:
            [`UnreadableClipError`]: The clip cannot be used.
        """
        ...

    def collate(self, clips: list[Any]) -> dict[str, torch.Tensor]:
        """Clips of one bucket as tensors that are cheap to hand from process to process; called in a worker process."""
        ...

    def to_training(
        self, batch: dict[str, torch.Tensor], bucket: Bucket, device: torch.device | str
    ) -> dict[str, Any]:
        """What [`~collate`] gave, as a [`sources.BatchSource`] hands it out; called in the training process."""
        ...


def room_for_clip(
    num_source_frames: int, source_fps: float | None, num_frames: int, fps: float | None = None, frame_stride: int = 1
) -> tuple[float, float]:
    """
    How far apart the frames of a clip are in its video, and the last place at which it can begin, both in frames of the video.

    Args:
        num_source_frames (`int`): Frames of the video.
        source_fps (`float`, *optional*): Frames per second of the video; frames without a rate are taken by the stride.
        num_frames (`int`): Of the clip.
        fps, frame_stride: See [`ClipSettings`].

    Raises:
        [`UnreadableClipError`]: The video is too short, or has fewer frames per second than are asked for.
    """
    fps = fps if source_fps is not None else None
    if fps is not None and source_fps < fps * (1 - _RATE_TOLERANCE):
        raise UnreadableClipError(f"too slow: {source_fps:.4g} frames per second, but {fps:g} are asked for (`fps`)")
    step = frame_stride if fps is None else source_fps / fps
    # The last moment takes the frame nearest to it, so it may come half a frame after the last one.
    latest = num_source_frames - 0.5 - (num_frames - 1) * step
    if latest < 0:
        source_rate = f" at {source_fps:.4g} frames per second" if source_fps is not None else ""
        rate = f"at {fps} frames per second" if fps is not None else f"with stride {frame_stride}"
        raise UnreadableClipError(
            f"too short: {num_source_frames} frames{source_rate}, but {num_frames} are needed {rate}"
        )
    return step, latest


@dataclass(frozen=True)
class ClipSettings:
    """
    How a clip is cut out of a video.

    Args:
        num_frames (`int`): Pixel frames `F`.
        sizes (`tuple[tuple[int, int], ...]`): Heights and widths to choose from; a file gets the one nearest in proportions.
        fps (`float`, *optional*):
            Frames per second to sample at; as many as the file has if `None`. A video of fewer is not used: its frames would be
            repeated, and a model would learn to stand still.
        frame_stride (`int`, defaults to 1): Without `fps`, take every so many-th frame.
        clip_start (`str`, defaults to `"random"`): `"random"`, another part of the video in every epoch; or `"center"`.
        seed (`int`, defaults to 0): Of all that is random.
        random_crop (`float`, *optional*):
            Cut every clip at another place after resizing it by a factor between 1 and so much, drawn evenly. The centre of the
            smallest picture that covers the size if `None`.
        random_flip (`bool`, defaults to `False`): Exchange left and right in every second clip.
    """

    num_frames: int
    sizes: tuple[tuple[int, int], ...]
    fps: float | None = None
    frame_stride: int = 1
    clip_start: str = "random"
    seed: int = 0
    random_crop: float | None = None
    random_flip: bool = False

    def __post_init__(self):
        for name in ("num_frames", "frame_stride"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, but is {getattr(self, name)}.")
        if self.fps is not None and not 0 < self.fps < float("inf"):
            raise ValueError(f"`fps` must be positive, but is {self.fps}.")
        if self.fps is not None and self.frame_stride != 1:
            raise ValueError(f"`fps` ({self.fps}) and `frame_stride` ({self.frame_stride}) exclude each other.")
        if self.clip_start not in CLIP_STARTS:
            raise ValueError(f"`clip_start` is {self.clip_start!r}: pass one of {', '.join(CLIP_STARTS)}.")
        if self.random_crop is not None and not 1 <= self.random_crop < float("inf"):
            raise ValueError(
                f"`random_crop` is the largest zoom, at least 1, but is {self.random_crop}: 1.5 keeps two thirds of a side."
            )
        if not self.sizes or min(map(min, self.sizes)) < 1:
            raise ValueError(f"`sizes` must be heights and widths of at least 1 pixel, but are {self.sizes}.")

    def choose_start(self, num_source_frames: int, source_fps: float, row: int, draw: int) -> int:
        """
        First frame of a clip; a pure function of the seed, the row and the draw.

        Args:
            num_source_frames (`int`): Frames of the video.
            source_fps (`float`): Frames per second of the video.
            row (`int`): Of the data set.
            draw (`int`): How often the row had been taken before.

        Raises:
            [`UnreadableClipError`]: The video is too short, or has fewer frames per second than are asked for.
        """
        _, latest = room_for_clip(num_source_frames, source_fps, self.num_frames, self.fps, self.frame_stride)
        latest = int(latest)
        if self.clip_start == "center":
            return latest // 2
        return int(random_state(self.seed, "start", row, draw).randint(latest + 1))

    def choose_crop(self, row: int, draw: int) -> Crop:
        """How a clip is cut; a pure function of the seed, the row and the draw, see [`~choose_start`]."""
        if self.random_crop is None and not self.random_flip:
            return CENTRE
        zoom, top, left, coin = random_state(self.seed, "crop", row, draw).random_sample(4).tolist()
        is_mirrored = self.random_flip and coin < 0.5
        if self.random_crop is None:
            return Crop(is_mirrored=is_mirrored)
        return Crop(1 + zoom * (self.random_crop - 1), (top, left), is_mirrored)


@contextlib.contextmanager
def open_media(file: str) -> Iterator[str | BinaryIO]:
    """What readers take: the path of a file on this machine, or a URL opened by fsspec."""
    if "://" in file:
        with fsspec.open(file, "rb") as opened:
            yield opened
    else:
        yield file


def nearest_size(height: int, width: int, sizes: Sequence[tuple[int, int]]) -> int:
    """Index of the size whose proportions are nearest; of equal ones, that whose area is."""
    return min(
        range(len(sizes)),
        key=lambda index: (
            round(abs(np.log(height / width) - np.log(sizes[index][0] / sizes[index][1])), 6),
            abs(np.log(height * width) - np.log(sizes[index][0] * sizes[index][1])),
        ),
    )


def probe_size(file: str, is_image: bool) -> tuple[int, int]:
    """Height and width of a file as it is displayed, without decoding more than one frame."""
    with open_media(file) as source:
        if is_image:
            with Image.open(source) as image:
                is_turned = image.getexif().get(0x0112, 1) >= 5
                return image.size if is_turned else image.size[::-1]
        with VideoReader(source, num_threads=1) as reader:
            return reader.displayed_size()


def assign_sizes(
    table: MediaTable, sizes: Sequence[tuple[int, int]], rows: Sequence[int], rank: int = 0, world_size: int = 1
) -> tuple[np.ndarray, dict[int, str]]:
    """
    Gives every row one of the sizes. Looks into the files only if there are several sizes and the table does not tell; then
    ranks that can talk to each other (`torch.distributed`) share the work.

    Args:
        table ([`MediaTable`]): The files.
        sizes (`Sequence[tuple[int, int]]`): Heights and widths.
        rows (`Sequence[int]`): Rows to look at.
        rank (`int`, defaults to 0): This process.
        world_size (`int`, defaults to 1): Number of processes.

    Returns:
        `tuple[np.ndarray, dict[int, str]]`: For every row of the table the index of its size, -1 for rows that cannot be
        used or were not to be looked at; and for rows of which nothing could be read, why.
    """
    indices = np.full(len(table), -1, dtype=np.int16)
    usable = [row for row in rows if row not in table.unusable]
    if len(sizes) == 1:
        indices[usable] = 0
        return indices, {}
    probed = {row: tuple(table.sizes[row]) for row in usable if table.sizes[row].min() > 0}
    to_probe = [row for row in usable if row not in probed]

    def probe(row: int) -> tuple[int, int] | str:
        try:
            return probe_size(table.files[row], bool(table.is_image[row]))
        except Exception as error:  # whatever decoders raise for broken files
            return f"{type(error).__name__}: {error}"

    is_shared = world_size > 1 and torch.distributed.is_initialized()
    own = to_probe[rank::world_size] if is_shared else to_probe
    with ThreadPoolExecutor(_PROBING_THREADS) as threads:
        found = dict(zip(own, threads.map(probe, own)))
    if is_shared:
        parts = [None] * world_size
        torch.distributed.all_gather_object(parts, found)
        found = {row: result for part in parts for row, result in part.items()}

    unreadable = {row: result for row, result in sorted(found.items()) if isinstance(result, str)}
    probed |= {row: result for row, result in found.items() if not isinstance(result, str)}
    for row, (height, width) in probed.items():
        indices[row] = nearest_size(height, width, sizes)
    return indices, unreadable


class MediaClips:
    """
    Clips of the files of a table, a [`ClipDataSet`].

    Args:
        table ([`MediaTable`]): The files and their captions.
        settings ([`ClipSettings`]): How clips are cut out.
        rows (`Sequence[int]`, *optional*): Rows that will be used, all if not given.
        rank (`int`, defaults to 0): This process.
        world_size (`int`, defaults to 1): Number of processes.

    """

    def __init__(
        self,
        table: MediaTable,
        settings: ClipSettings,
        rows: Sequence[int] | None = None,
        rank: int = 0,
        world_size: int = 1,
    ):
        if table.frame_conditions and settings.clip_start == "random":
            raise ValueError(
                "Frame conditions are those of one clip of every video, but `clip_start` is 'random': pass 'center'."
            )
        self.settings = settings
        self.frame_conditions = table.frame_conditions
        self.files, self.captions, self.is_image, self.sizes = (
            table.files,
            table.captions,
            table.is_image,
            settings.sizes,
        )
        rows = range(len(table)) if rows is None else rows
        self.size_indices, unreadable = assign_sizes(table, settings.sizes, rows, rank, world_size)
        self.unusable = table.unusable | unreadable

    def read(self, row: int, draw: int, bucket: Bucket) -> np.ndarray:
        """
        Decodes one clip. Where a bucket of images is filled from videos, the clip is the first frame of the one that a bucket
        of videos would get.

        Args:
            row (`int`): Which file.
            draw (`int`): How often it had been taken before.
            bucket ([`Bucket`]): The shape to bring it to.

        Returns:
            `np.ndarray` of shape `(F, H, W, 3)`: Levels, `uint8`.

        Raises:
            [`UnreadableClipError`]: For whatever reason.
        """
        try:
            with open_media(self.files[row]) as source:
                if self.is_image[row]:
                    crop = self.settings.choose_crop(row, draw)
                    return load_image(source, bucket.height, bucket.width, crop)[None]
                return self._read_video(source, row, draw, bucket)
        except UnreadableClipError:
            raise
        except Exception as error:  # whatever decoders raise for broken files
            raise UnreadableClipError(f"{type(error).__name__}: {error}") from error

    def _read_video(self, source: str | BinaryIO, row: int, draw: int, bucket: Bucket) -> np.ndarray:
        settings = self.settings
        sampling = (bucket.height, bucket.width, settings.fps, settings.frame_stride)
        num_frames = 1 if bucket.is_image else settings.num_frames
        crop = settings.choose_crop(row, draw)
        with VideoReader(source, num_threads=1) as reader:
            start = settings.choose_start(reader.num_frames, reader.fps, row, draw)
            try:
                return reader.read(num_frames, *sampling, start_frame=start, crop=crop)
            except ValueError:
                if start == 0:
                    raise
                # Headers may claim more frames than there are: a video is too short only if its beginning is.
                return reader.read(num_frames, *sampling, start_frame=0, crop=crop)

    def collate(self, clips: list[np.ndarray]) -> dict[str, torch.Tensor]:
        """Clips of one bucket as tensors that are cheap to hand from process to process."""
        return {"levels": torch.from_numpy(np.stack(clips))}

    def to_training(
        self, batch: dict[str, torch.Tensor], bucket: Bucket, device: torch.device | str
    ) -> dict[str, Any]:
        """What [`~collate`] gave, as training takes it: `pixel_values` `(B, 3, F, H, W)` in [-1, 1] on the device."""
        return {"pixel_values": levels_to_video(batch["levels"].to(device, non_blocking=True))}


class _OrderedReader(Dataset):
    """Reads requests one after the other, in workers."""

    def __init__(self, clips: MediaClips, requests: list[BatchRequest]):
        self.clips = clips
        self.requests = requests

    def __len__(self) -> int:
        return len(self.requests)

    def __getitem__(self, index: int) -> tuple[BatchRequest, list[np.ndarray | str]]:
        request, results = self.requests[index], []
        for row, draw in zip(request.rows, request.draws):
            try:
                results.append(self.clips.read(int(row), int(draw), request.bucket))
            except UnreadableClipError as error:
                results.append(str(error))
        return request, results


def hand_over(read: Any) -> Any:
    """The collate function of loaders whose workers make whole batches."""
    return read


def read_in_order(
    clips: MediaClips, rows: Sequence[int], num_draws: int, batch_size: int, num_workers: int = 0
) -> Iterator[tuple[BatchRequest, list[np.ndarray | str]]]:
    """
    Reads all clips of some rows once, bucket by bucket, row by row, draw by draw.

    Args:
        clips ([`MediaClips`]): Reads clips.
        rows (`Sequence[int]`): Which; those that cannot be used are left out.
        num_draws (`int`): Clips of every video. Of an image there is one.
        batch_size (`int`): Clips to hand out at once, all of one bucket.
        num_workers (`int`, defaults to 0): Processes that read ahead.

    Returns:
        `Iterator[tuple[BatchRequest, list[np.ndarray | str]]]`: For every clip of a request its levels `(F, H, W, 3)`, or why it
        cannot be read.
    """
    wanted = {}
    for row in rows:
        if clips.size_indices[row] >= 0:
            is_image = bool(clips.is_image[row])
            bucket = Bucket(is_image, *clips.sizes[clips.size_indices[row]])
            wanted.setdefault(bucket, []).extend((row, draw) for draw in range(1 if is_image else num_draws))
    requests = [
        BatchRequest(bucket, *np.array(pairs[start : start + batch_size]).T)
        for bucket, pairs in sorted(wanted.items())
        for start in range(0, len(pairs), batch_size)
    ]
    reader = _OrderedReader(clips, requests)
    return iter(DataLoader(reader, batch_size=None, collate_fn=hand_over, num_workers=num_workers))
