# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Reading and writing videos, with PyAV and Pillow only.

Letters used in shapes: `F` pixel frames, `(H, W)` pixels. What is written is `(F, H, W, 3)`, as pipelines return it: floats
in [0, 1] (NumPy or PyTorch), or `uint8`, or a list of `PIL.Image.Image`. What is read is `(3, F, H, W)` in [-1, 1], as the
tokenizer takes it. Files are written under a temporary name and renamed when complete, so no reader meets half of one.
"""

import contextlib
import itertools
import math
import os
import textwrap
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, NamedTuple

import av
import numpy as np
import torch
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from PIL import Image, ImageDraw, ImageFont, ImageOps

from .files import complete_or_absent


Frames = np.ndarray | torch.Tensor | Sequence[Image.Image]

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv")
IMAGE_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")  # those with 8 bits per channel
# Pixels of a picture, as stored or resized until it covers a size: a file of a kilobyte can ask for gigabytes of memory.
MAX_PIXELS = 2**27
MAX_GIF_FPS = 50  # a GIF counts time in 1/100 s, and viewers slow down what claims less than 2/100 s a frame


def frames_to_uint8(frames: Frames) -> np.ndarray:
    """
    Bring frames to the one form the writers work on.

    Args:
        frames: `(F, H, W, 3)` floats in [0, 1] or `uint8`, or a list of `PIL.Image.Image` of one size.

    Returns:
        `np.ndarray`: `(F, H, W, 3)`, `uint8`, rounded to the nearest level.
    """
    if isinstance(frames, torch.Tensor):
        frames = frames.detach().cpu()
        frames = frames.float().numpy() if frames.is_floating_point() else frames.numpy()
    elif not isinstance(frames, np.ndarray):
        images = [
            np.asarray(_to_rgb(image, "An image of `frames`") if isinstance(image, Image.Image) else image)
            for image in frames
        ]
        shapes = sorted({image.shape for image in images})
        if len(shapes) > 1:
            raise ValueError(f"`frames` must all have one size, but has the shapes {shapes}: resize them first.")
        frames = np.stack(images) if images else np.empty(0)

    if frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise ValueError(
            f"`frames` must have the shape (frames, height, width, 3), but has {tuple(frames.shape)}. Pass one video"
            " of a batch, channels last: `output.frames[0]`, or `video.permute(1, 2, 3, 0)` for a (3, F, H, W) tensor."
        )
    if frames.dtype == np.uint8:
        return frames
    if not np.issubdtype(frames.dtype, np.floating):
        raise ValueError(f"`frames` must be uint8 or floating point, but is {frames.dtype}.")
    lowest, highest = float(frames.min()), float(frames.max())
    if not (lowest >= -1e-3 and highest <= 1 + 1e-3):  # written so that NaN is refused as well
        raise ValueError(
            f"`frames` as floats must be in [0, 1], but spans [{lowest:.4g}, {highest:.4g}]. Map a video in [-1, 1] with"
            " `(frames + 1) / 2`, pass levels 0 to 255 as uint8."
        )
    return np.rint(frames.clip(0, 1) * 255).astype(np.uint8)


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    """In 8 bits per channel. Pillow would clip deeper images to white."""
    if image.mode not in IMAGE_MODES:
        raise ValueError(
            f"{name} has the mode {image.mode!r}: save it with 8 bits per channel, as one of {', '.join(IMAGE_MODES)}."
        )
    return image.convert("RGB")


def _check_num_pixels(name: str, height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise ValueError(
            f"{name} takes a picture of {height}x{width} pixels, more than {MAX_PIXELS}: crop it, or make it smaller."
        )


def _to_frame_rate(fps: float | Fraction) -> Fraction:
    if not (math.isfinite(fps) and fps > 0):
        raise ValueError(f"`fps` must be a positive number of frames per second, but is {fps}.")
    # 1001 is the denominator of the broadcast rates (24000/1001, 30000/1001), which are often given as floats.
    return fps if isinstance(fps, Fraction) else Fraction(fps).limit_denominator(1001)


class VideoWriter:
    """
    Write a video piece by piece, for example as a pipeline streams it. H.264 in 4:2:0, which plays everywhere, with the index of an
    `.mp4` or `.mov` in front, so that a browser plays it while it loads; an odd height or width is padded by repeating the last
    row or column, never resized.

    Args:
        path: File to write, `.mp4`, `.mov` or `.mkv`. It appears when the writer is left without an error.
        fps: Frames per second; a `Fraction` is kept exactly.
        crf: Constant rate factor of x264: 0 is best and largest, 17 is hard to tell from the original.
        reproducible: Whether the same frames always give the same file, to the bit. It is then encoded by one thread, without
            B-frames and without looking ahead, and half as large again. Otherwise x264 now and then writes other bits (of
            videos of 32x32 and 64x64 pixels, about 3 in 1000).
        title: What players show as the title, such as the prompt.

    Example:
        >>> with VideoWriter("long.mp4", fps=8) as writer:
        ...     for chunk in pipe.stream("a red circle moves to the right", num_frames=1000):
        ...         writer.write(chunk[0])
    """

    def __init__(
        self,
        path: str | os.PathLike,
        fps: float | Fraction,
        crf: int = 17,
        reproducible: bool = False,
        title: str | None = None,
    ):
        self.path = Path(path)
        if self.path.suffix.lower() not in VIDEO_SUFFIXES:
            raise ValueError(f"`path` must end in one of {', '.join(VIDEO_SUFFIXES)}, but is {str(path)!r}.")
        self.frame_rate = _to_frame_rate(fps)
        self.crf = crf
        self.reproducible = reproducible
        self.title = title
        self.num_frames = 0
        self._frame_shape = None
        # Its own: PyAV 19 has one for all frames, whose threads a fork of this process would wait for without end.
        self._reformatter = VideoReformatter()

    def __enter__(self) -> "VideoWriter":
        self._clean_up = contextlib.ExitStack()
        temporary_path = self._clean_up.enter_context(complete_or_absent(self.path))
        options = {} if self.path.suffix.lower() == ".mkv" else {"movflags": "faststart"}
        self._container = self._clean_up.enter_context(av.open(str(temporary_path), "w", options=options))
        if self.title is not None:
            self._container.metadata["title"] = self.title
        return self

    def write(self, frames: Frames) -> None:
        """
        Append frames.

        Args:
            frames: `(F, H, W, 3)` floats in [0, 1] or `uint8`, or a list of `PIL.Image.Image`; of the same `(H, W)` in
                every call.
        """
        frames = frames_to_uint8(frames)
        frame_shape = frames.shape[1:]
        if self._frame_shape is None:
            self._frame_shape = frame_shape
            self._stream = self._open_stream(frame_shape[0], frame_shape[1])
        elif frame_shape != self._frame_shape:
            raise ValueError(
                f"`frames` must keep the size of the first ones, {self._frame_shape[:2]}, but has {frame_shape[:2]}."
            )
        # 4:2:0 stores colour for blocks of 2x2 pixels, so both sides must be even.
        frames = np.pad(frames, ((0, 0), (0, frame_shape[0] % 2), (0, frame_shape[1] % 2), (0, 0)), mode="edge")
        for image in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame = self._reformatter.reformat(frame, format="yuv420p", dst_colorspace=Colorspace.ITU709)
            frame.pts, frame.time_base = self.num_frames, 1 / self.frame_rate
            self._container.mux(self._stream.encode(frame))
            self.num_frames += 1

    def _open_stream(self, height: int, width: int) -> av.VideoStream:
        options = {"crf": str(self.crf)}
        if self.reproducible:
            options |= {"bf": "0", "x264-params": "mbtree=0:rc-lookahead=0"}
        stream = self._container.add_stream("libx264", rate=self.frame_rate, options=options)
        stream.height, stream.width = height + height % 2, width + width % 2
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1 if self.reproducible else 0  # 0: as many as suit the machine
        # Say which matrix the colours were converted with; players guess by the height otherwise.
        stream.codec_context.colorspace = Colorspace.ITU709
        stream.codec_context.color_range = ColorRange.MPEG
        return stream

    def __exit__(self, *exception_details) -> None:
        if exception_details[0] is not None:
            self._clean_up.__exit__(*exception_details)
            return
        with self._clean_up:
            if self.num_frames == 0:
                raise ValueError(f"No frames were written to {str(self.path)!r}: call `write` at least once.")
            self._container.mux(self._stream.encode())


def save_video(frames: Frames, path: str | os.PathLike, fps: float | Fraction = 8, title: str | None = None) -> None:
    """
    Write a video file, see [`VideoWriter`].

    Args:
        frames: `(F, H, W, 3)` floats in [0, 1] or `uint8`, or a list of `PIL.Image.Image`.
        path: File to write, `.mp4`, `.mov` or `.mkv`.
        fps: Frames per second.
        title: What players show as the title, such as the prompt.
    """
    with VideoWriter(path, fps, title=title) as writer:
        writer.write(frames)


def save_gif(frames: Frames, path: str | os.PathLike, fps: float | Fraction = 8, title: str | None = None) -> None:
    """
    Write an endlessly repeating GIF. Its delays are whole hundredths of a second; they are spread so that the total is right
    (12 frames per second become delays of 8, 9, 8 hundredths). Every frame has a palette of its own, of 256 colours chosen by
    k-means and not dithered.

    Args:
        frames: `(F, H, W, 3)` floats in [0, 1] or `uint8`, or a list of `PIL.Image.Image`.
        path: File to write.
        fps: Frames per second, at most 50.
        title: Written into the file as its comment, such as the prompt.
    """
    frame_rate = _to_frame_rate(fps)
    if frame_rate > MAX_GIF_FPS:
        raise ValueError(f"`fps` of a GIF must be at most {MAX_GIF_FPS}, but is {fps}. Drop frames, or write an .mp4.")
    # Measured on clips of the moving-shapes checkpoint, root mean square error of 255 levels: 0.35 to 1.2 this way, 0.5 to 1.7 with
    # Pillow's default (median cut) and files twice as large, 0.6 to 2.0 dithered, 0.8 to 2.0 with one palette for all frames.
    images = [
        Image.fromarray(image).quantize(method=Image.Quantize.MAXCOVERAGE, kmeans=1)
        for image in frames_to_uint8(frames)
    ]
    comment = {} if title is None else {"comment": title}
    ends = [round(100 * index / frame_rate) for index in range(len(images) + 1)]
    milliseconds = [10 * (end - start) for start, end in zip(ends[:-1], ends[1:])]
    with complete_or_absent(Path(path)) as temporary_path:
        images[0].save(
            temporary_path,
            format="GIF",
            save_all=True,
            append_images=images[1:],
            duration=milliseconds,
            loop=0,
            **comment,
        )


def save_contact_sheet(
    videos: Sequence[Frames],
    path: str | os.PathLike,
    captions: Sequence[str] | None = None,
    columns: int = 9,
    max_frames: int = 9,
) -> None:
    """
    Write one PNG that shows videos at a glance: a row for each, of evenly spaced frames from the first to the last, its
    caption above.

    Args:
        videos: A list of videos, each `(F, H, W, 3)` floats in [0, 1] or `uint8`, or a list of `PIL.Image.Image`.
        path: File to write.
        captions: A text for each video.
        columns: Frames side by side; a row with more is continued below.
        max_frames: Frames shown of a video; a shorter video is shown whole.
    """
    captions = [None] * len(videos) if captions is None else captions
    if len(videos) == 0:
        raise ValueError("`videos` must hold at least one video, but is empty.")
    if len(captions) != len(videos):
        raise ValueError(f"`captions` must hold one text per video, {len(videos)}, but holds {len(captions)}.")
    if columns < 1 or max_frames < 1:
        raise ValueError(f"`columns` and `max_frames` must be at least 1, but are {columns} and {max_frames}.")

    margin, min_tile_height, font_size = 6, 96, 16
    font = ImageFont.load_default(size=font_size)

    # 1. Lay out every row as an image of its own
    rows = []
    for video, caption in zip(videos, captions):
        video = frames_to_uint8(video)
        indices = np.unique(np.rint(np.linspace(0, len(video) - 1, max_frames)).astype(int))
        tiles = [Image.fromarray(video[index]) for index in indices]
        # Small videos are enlarged by a whole factor, so that pixels stay square and captions fit.
        factor = math.ceil(min_tile_height / video.shape[1])
        tile_height, tile_width = factor * video.shape[1], factor * video.shape[2]
        row_columns = min(columns, len(tiles))
        row_lines = math.ceil(len(tiles) / row_columns)
        row_width = row_columns * (tile_width + margin) - margin

        caption_lines = []
        if caption is not None:
            average_letter_width = font.getlength("abcdefghijklmnopqrstuvwxyz ") / 27
            caption_lines = textwrap.wrap(caption, width=max(1, int(row_width / average_letter_width)))
        caption_height = len(caption_lines) * (font_size + 4)

        row = Image.new("RGB", (row_width, caption_height + row_lines * (tile_height + margin) - margin), "white")
        ImageDraw.Draw(row).multiline_text((0, 0), "\n".join(caption_lines), fill="black", font=font, spacing=4)
        for index, tile in enumerate(tiles):
            left = (index % row_columns) * (tile_width + margin)
            top = caption_height + (index // row_columns) * (tile_height + margin)
            row.paste(tile.resize((tile_width, tile_height), Image.Resampling.NEAREST), (left, top))
        rows.append(row)

    # 2. Stack the rows
    sheet_width = max(row.width for row in rows) + 2 * margin
    sheet_height = sum(row.height + 2 * margin for row in rows)
    sheet = Image.new("RGB", (sheet_width, sheet_height), "white")
    top = margin
    for row in rows:
        sheet.paste(row, (margin, top))
        top += row.height + 2 * margin
    with complete_or_absent(Path(path)) as temporary_path:
        sheet.save(temporary_path, format="PNG")


class Crop(NamedTuple):
    """
    How a picture is cut to a size.

    Args:
        zoom (`float`, defaults to 1.0): It is resized until it covers so many times the size, so that `1 / zoom` of it is kept.
        place (`tuple[float, float]`, defaults to the centre): From 0, the top and the left, to 1.
        is_mirrored (`bool`, defaults to `False`): Left and right exchanged.
    """

    zoom: float = 1.0
    place: tuple[float, float] = (0.5, 0.5)
    is_mirrored: bool = False

    def covering_size(self, size: tuple[int, int], height: int, width: int) -> tuple[int, int]:
        """The smallest size of the proportions of `size` that covers `(height, width)`, times the zoom."""
        scale = self.zoom * max(height / size[0], width / size[1])
        return max(height, round(size[0] * scale)), max(width, round(size[1] * scale))

    def cut(self, image: np.ndarray, height: int, width: int) -> np.ndarray:
        """`(height, width, 3)` of an image that covers it."""
        top, left = (int(share * (side - kept)) for share, side, kept in zip(self.place, image.shape, (height, width)))
        cut = image[top : top + height, left : left + width]
        return cut[:, ::-1] if self.is_mirrored else cut


CENTRE = Crop()


class VideoReader:
    """
    Reads clips from a video. Only what is asked for is decoded: the reader seeks to the clip.

    A rotation that the file asks of its player (phones write portrait videos so) is applied, pixels that are not square are
    made square when frames are resized, and damaged frames are an error.

    Args:
        source: A path, or a seekable binary file; anything FFmpeg decodes.
        num_threads: Threads of the decoder, 0 for as many as there are processors.

    Example:
        >>> with VideoReader("clip.mp4") as reader:
        ...     frames = reader.read(num_frames=17, height=128, width=128, start_frame=reader.num_frames // 2)
    """

    def __init__(self, source: str | os.PathLike | BinaryIO, num_threads: int = 0):
        self.source = source
        self.num_threads = num_threads
        self._container = None
        self._reformatter = VideoReformatter()  # its own, as in `VideoWriter`

    @property
    def name(self) -> str:
        """What errors call the video."""
        return _name_of(self.source)

    def __enter__(self) -> "VideoReader":
        self._open()
        return self

    def __exit__(self, *exception_details) -> None:
        self._container.close()

    def _open(self) -> None:
        if self._container is not None:
            self._container.close()
        is_file = hasattr(self.source, "read")
        if is_file:
            self.source.seek(0)
        with self._naming_the_video():
            self._container = av.open(self.source if is_file else str(self.source))
        if not self._container.streams.video:
            self._container.close()
            raise ValueError(f"`path` {self.name!r} has no video stream.")
        self._stream = self._container.streams.video[0]
        if self._stream.codec_context is None or not self._rate():
            self._container.close()
            raise ValueError(
                f"`path` {self.name!r} has a damaged header, or is in a format that this FFmpeg does not decode."
            )
        _check_num_pixels(f"`path` {self.name!r}", self._stream.height, self._stream.width)
        self._stream.thread_type = "AUTO"
        self._stream.codec_context.thread_count = self.num_threads
        self._is_at_the_beginning = True

    @contextlib.contextmanager
    def _naming_the_video(self) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, PermissionError, IsADirectoryError):
            raise
        except (av.error.FFmpegError, EOFError, UnicodeDecodeError) as error:
            raise ValueError(
                f"`path` {self.name!r} cannot be decoded as a video: {error}. Check that the file is complete."
            ) from error

    @property
    def fps(self) -> float:
        """Frames per second, on average."""
        return float(self._rate())

    def _rate(self) -> Fraction | None:
        return self._stream.average_rate or self._stream.guessed_rate

    @property
    def num_frames(self) -> int:
        """Pixel frames by the header, or by the duration, which is not exact; counted in a file that tells neither."""
        if self._stream.frames > 0:
            return self._stream.frames
        if self._stream.duration is not None:
            return round(float(self._stream.duration * self._stream.time_base) * self.fps)
        if "DURATION" in self._stream.metadata:  # Matroska, where the container may have longer sound
            hours, minutes, seconds = self._stream.metadata["DURATION"].split(":")
            return round((int(hours) * 3600 + int(minutes) * 60 + float(seconds)) * self.fps)
        if self._container.duration is not None:
            return round(self._container.duration / av.time_base * self.fps)
        return self.count_frames()

    def count_frames(self, up_to_damage: bool = False) -> int:
        """
        Pixel frames, by reading the whole file without decoding it.

        Args:
            up_to_damage: Of a damaged file, count those before the damage instead of raising an error.
        """
        if not self._is_at_the_beginning:
            self._open()
        self._is_at_the_beginning = False
        count = 0
        with contextlib.suppress(av.error.FFmpegError) if up_to_damage else self._naming_the_video():
            for packet in self._container.demux(self._stream):
                count += packet.size > 0
        return count

    def displayed_size(self) -> tuple[int, int]:
        """Height and width that a player shows: rotated, with square pixels. Decodes one frame."""
        return self._displayed_size(next(self._frames_from(0)))

    def read(
        self,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        fps: float | None = None,
        frame_stride: int = 1,
        start_frame: int = 0,
        crop: Crop = CENTRE,
    ) -> np.ndarray:
        """
        Read a clip.

        Args:
            num_frames: Pixel frames to read, after the change to `fps` or `frame_stride`; to the end if `None`. A shorter
                video is an error.
            height: Height to bring the frames to, together with `width`: they are resized until they cover the given size,
                then cropped in the centre. As stored if `None`.
            width: Width to bring the frames to.
            fps: Frames per second to sample at: the frame nearest to each moment is taken.
            frame_stride: Without `fps`, take every so many-th frame.
            start_frame: First frame of the clip, counted from the beginning of the video at its average frame rate.
            crop: With `height` and `width`, how frames are cut.

        Returns:
            `np.ndarray`: `(F, H, W, 3)`, `uint8`.
        """
        if fps is not None:
            _to_frame_rate(fps)  # refuses what is no rate
        frames = self._frames_from(start_frame)
        if fps is None:
            frames = itertools.islice(frames, 0, None, frame_stride)
        else:
            frames = _sample_at(frames, self.fps, fps)
        with self._naming_the_video():
            images = [self._to_image(frame, height, width, crop) for frame in itertools.islice(frames, num_frames)]
        if len(images) < (num_frames or 1):
            rate = "" if fps is None else f" at {fps} frames per second"
            rate += "" if frame_stride == 1 else f" with `frame_stride` {frame_stride}"
            rate += "" if start_frame == 0 else f" after frame {start_frame}"
            raise ValueError(
                f"`path` {self.name!r} has {len(images)} frames{rate}, but {num_frames or 1} are needed. Lower"
                " `num_frames`, raise `fps`, or take a longer video."
            )
        return np.stack(images)

    def _frames_from(self, start_frame: int) -> Iterator[av.VideoFrame]:
        """Decoded frames from the one at `start_frame`."""
        if not self._is_at_the_beginning:
            self._open()
        self._is_at_the_beginning = False
        frames = self._container.decode(self._stream)
        if start_frame == 0:
            yield from frames
            return

        # 1. The clock of the file starts at its first frame; raw streams have no clock, there frames are counted
        first = next(frames, None)
        if first is None or first.pts is None:
            yield from itertools.islice(frames, start_frame - 1, None)
            return
        earliest = first.pts + (start_frame - 0.5) / self.fps / float(self._stream.time_base)

        # 2. A seek lands on the key frame before; where the index of the file is poor it lands anywhere, then read it all
        target = first.pts + round(start_frame / self.fps / self._stream.time_base)
        self._container.seek(target, stream=self._stream)
        frames = self._container.decode(self._stream)
        landed = next(frames, None)
        if landed is None or landed.pts > target:
            self._open()
            self._is_at_the_beginning = False
            landed, frames = first, self._container.decode(self._stream)
        yield from (frame for frame in itertools.chain([landed], frames) if frame.pts >= earliest)

    def _displayed_size(self, frame: av.VideoFrame) -> tuple[int, int]:
        pixel_aspect = float(self._stream.sample_aspect_ratio or 1)
        size = (frame.height, round(frame.width * pixel_aspect))
        return size if frame.rotation % 180 == 0 else size[::-1]

    def _to_image(self, frame: av.VideoFrame, height: int | None, width: int | None, crop: Crop) -> np.ndarray:
        if frame.is_corrupt:
            raise ValueError(f"`path` {self.name!r} has damaged frames. Check that the file is complete.")
        quarter_turns = frame.rotation // 90
        if height is None:
            return np.rot90(self._to_array(frame), quarter_turns)
        covering_size = crop.covering_size(self._displayed_size(frame), height, width)
        _check_num_pixels(f"`path` {self.name!r}", *covering_size)
        stored_height, stored_width = covering_size if quarter_turns % 2 == 0 else covering_size[::-1]
        image = self._to_array(frame, height=stored_height, width=stored_width, interpolation="BICUBIC")
        return crop.cut(np.rot90(image, quarter_turns), height, width)

    def _to_array(self, frame: av.VideoFrame, **scaling) -> np.ndarray:
        return self._reformatter.reformat(frame, format="rgb24", threads=self.num_threads, **scaling).to_ndarray()


def load_video(
    path: str | os.PathLike,
    num_frames: int | None = None,
    height: int | None = None,
    width: int | None = None,
    fps: float | None = None,
) -> tuple[torch.Tensor, float]:
    """
    Read the beginning of a video.

    Args:
        path: File to read; anything FFmpeg decodes.
        num_frames: Pixel frames to read, after the change to `fps`; all of them if `None`. A shorter video is an error.
        height: Height to bring the frames to, together with `width`: they are resized until they cover the given size, then
            cropped in the centre. As stored if `None`.
        width: Width to bring the frames to.
        fps: Frames per second to sample at: the frame nearest to each moment is taken. As stored if `None`.

    Returns:
        `tuple[torch.Tensor, float]`: The video, `(3, F, H, W)`, float32 in [-1, 1], and its frames per second.
    """
    if (height is None) != (width is None):
        raise ValueError(f"`height` and `width` must be given together, but are {height} and {width}.")
    for name, value in (("num_frames", num_frames), ("height", height), ("width", width), ("fps", fps)):
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"`{name}` must be positive, but is {value}.")
    with VideoReader(path) as reader:
        frames = reader.read(num_frames, height, width, fps)
        return levels_to_video(torch.from_numpy(frames)), float(fps or reader.fps)


def load_image(source: str | os.PathLike | BinaryIO, height: int, width: int, crop: Crop = CENTRE) -> np.ndarray:
    """
    Read an image, upright as its EXIF data says, resized until it covers the given size and cropped.

    Args:
        source: A path, or a binary file; anything Pillow reads with 8 bits per channel.
        height: Height of the result in pixels.
        width: Width of the result in pixels.
        crop: How it is cut: in the centre by default.

    Returns:
        `np.ndarray`: `(H, W, 3)`, `uint8`. Transparency is dropped.
    """
    name = _name_of(source)
    try:
        with Image.open(source) as image:
            # Before they are decoded; a picture may lie on its side.
            _check_num_pixels(f"`source` {name!r}", image.height, image.width)
            for stored_size in (image.size, image.size[::-1]):
                covering_size = crop.covering_size(stored_size, height, width)
                _check_num_pixels(f"`source` {name!r}, to cover {height}x{width},", *covering_size)
            image = _to_rgb(ImageOps.exif_transpose(image), f"`source` {name!r}")
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"`source` {name!r} cannot be read as an image: {error}. Check that the file is complete."
        ) from error
    covering_height, covering_width = crop.covering_size((image.height, image.width), height, width)
    image = image.resize((covering_width, covering_height), Image.Resampling.BICUBIC)
    return crop.cut(np.asarray(image), height, width)


def _name_of(source: str | os.PathLike | BinaryIO) -> str:
    return str(getattr(source, "name", source) if hasattr(source, "read") else source)


def levels_to_video(levels: torch.Tensor) -> torch.Tensor:
    """`(..., F, H, W, 3)` levels 0 to 255, `uint8`, to `(..., 3, F, H, W)` float32 in [-1, 1], on the same device."""
    return levels.movedim(-1, -4).float().div_(127.5).sub_(1)


def _sample_at(frames: Iterator[av.VideoFrame], source_fps: float, fps: float) -> Iterator[av.VideoFrame]:
    """Yield, for every moment `n / fps`, the frame nearest to it; frames are repeated where `fps` is above the source's."""
    start_time, times, previous, count = None, (0.0, 0.0), None, 0
    for number, frame in enumerate(frames):
        times = (times[1], number / source_fps if frame.pts is None else frame.time)
        start_time = times[1] if start_time is None else start_time
        while previous is not None and count / fps < sum(times) / 2 - start_time:
            yield previous
            count += 1
        previous = frame
    while previous is not None and count / fps < times[1] - start_time + 0.5 / source_fps:
        yield previous
        count += 1
