# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Endless videos of several visitors at once, in real time. This is the demo without its page: nothing here knows of gradio or of a
browser.

Letters used in shapes: `F` pixel frames, `(H, W)` pixels.
"""

import io
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch

from videoar_pipelines import VideoARPipeline
from videoar_pipelines.pipelines.video_stream import VideoARStream
from videoar_pipelines.utils.video_io import VideoWriter, frames_to_uint8, load_image


# What a pipeline's `stream` is told so that a video has no end; the numbers are latent frames, see `examples/inference/long_video.py`.
METHODS = {
    "window": lambda trained_length: {"window": trained_length - 1},
    "reencode": lambda trained_length: {"reencode_at": trained_length},
}

MOST_ENDED_VIDEOS = 8  # of which the end can still be saved; a few megabytes each


@dataclass(frozen=True)
class Settings:
    """
    What holds for the videos of all visitors.

    Args:
        method (`str`): How a video goes on without end, a key of `METHODS`.
        fps (`float`): Pixel frames a second that a player shows.
        lead_seconds (`float`): How far a video may run ahead of its player. A changed prompt is seen after about this time.
        kept_seconds (`float`): The end of a video that can be saved.
        longest_seconds (`float`): After which a video ends by itself, so that a forgotten tab does not hold a place.
        most_videos (`int`): Videos that run at the same time.
    """

    method: str = "reencode"
    fps: float = 9
    lead_seconds: float = 1
    kept_seconds: float = 120
    longest_seconds: float = 600
    most_videos: int = 2


def to_jpeg(image: np.ndarray) -> bytes:
    """`(H, W, 3)`, `uint8`, as a file of a few kilobytes."""
    file = io.BytesIO()
    PIL.Image.fromarray(image).save(file, format="JPEG", quality=95, subsampling=0)
    return file.getvalue()


def check_prompt(prompt: str) -> str:
    """
    The prompt without spaces around it.

    Raises:
        `ValueError`: Nothing is left.
    """
    prompt = prompt.strip()
    if not prompt:
        raise ValueError("The prompt is empty. Write what the video shows, such as: a red circle moves to the right.")
    return prompt


class LiveVideo:
    """
    One visitor's video: sampled no faster than it is watched, its end kept for saving. One thread takes its frames; any other may
    change its prompt, stop it or save it.

    Args:
        stream ([`VideoARStream`]): Of one video, without end.
        prompt (`str`): That it was made with.
        settings ([`Settings`]): For all videos.
    """

    def __init__(self, stream: VideoARStream, prompt: str, settings: Settings):
        self.prompt = prompt  # of the next latent frame
        self.settings = settings
        self.num_frames = 0  # handed out
        self._stream = stream
        self._kept: deque[bytes] = deque(maxlen=max(1, round(settings.kept_seconds * settings.fps)))
        self._kept_lock = threading.Lock()
        self._is_stopped = threading.Event()
        self._has_ended = threading.Event()
        # When the player showed the first frame, as if it had not paused since.
        self._start_of_play = float("-inf")

    def frames(self) -> Iterator[list[bytes]]:
        """
        JPEG files, as many at a time as a latent frame has pixel frames: 1, then 4. Waits where the player has enough to show.
        Frees the memory of the stream when it ends or is closed.
        """
        end = time.monotonic() + self.settings.longest_seconds
        prompt = self.prompt
        try:
            while (chunk := self._next_chunk()) is not None:  # (1, F, H, W, 3) in [0, 1]
                files = [to_jpeg(image) for image in frames_to_uint8(chunk[0])]
                with self._kept_lock:
                    self._kept.extend(files)
                self.num_frames += len(files)
                yield files
                self._wait_for_player()
                if self.is_stopped or time.monotonic() > end:
                    break
                if self.prompt != prompt:
                    prompt = self.prompt
                    self._stream.set_prompt(prompt)
        finally:
            self._stream.close()
            self._has_ended.set()

    def _next_chunk(self) -> np.ndarray | None:
        # One core for every video. It holds for the thread that runs this, and each time it may be another one.
        torch.set_num_threads(1)
        return next(self._stream, None)

    def _wait_for_player(self) -> None:
        now, seconds_of_play = time.monotonic(), self.num_frames / self.settings.fps
        # A player that has shown all it had pauses, and does not hurry later.
        self._start_of_play = max(self._start_of_play, now - seconds_of_play)
        self._is_stopped.wait(self._start_of_play + seconds_of_play - self.settings.lead_seconds - now)

    def change_prompt(self, prompt: str) -> None:
        """
        Goes on with another prompt from the next latent frame on.

        Raises:
            `ValueError`: The prompt is empty, or the video has ended.
        """
        prompt = check_prompt(prompt)
        if not self.is_running:
            raise ValueError("The video has ended. Press Start for another one.")
        self.prompt = prompt

    @property
    def is_stopped(self) -> bool:
        """Whether it was asked to end."""
        return self._is_stopped.is_set()

    @property
    def is_running(self) -> bool:
        return not (self._is_stopped.is_set() or self._has_ended.is_set())

    def stop(self) -> None:
        """Ends the video after the latent frame that is being made."""
        self._is_stopped.set()

    def wait_for_end(self, timeout_seconds: float) -> None:
        """Returns when the stream has been freed, or after a time."""
        self._has_ended.wait(timeout_seconds)

    def save(self, path: Path) -> None:
        """
        Writes the end of the video, as it was shown.

        Args:
            path (`Path`): An `.mp4` file.

        Raises:
            `ValueError`: There is no frame yet.
        """
        with self._kept_lock:
            files = list(self._kept)
        if not files:
            raise ValueError("There is no frame to save yet. Wait for the first one.")
        with VideoWriter(path, fps=self.settings.fps) as writer:
            for file in files:
                writer.write([PIL.Image.open(io.BytesIO(file))])


class LiveVideos:
    """
    The videos of all visitors: at most one each, and at most `most_videos` that run.

    Args:
        pipeline ([`VideoARPipeline`]): Makes them all; every video has its own state, and is sampled in the thread that takes its
            frames.
        settings ([`Settings`]): For all videos.
    """

    def __init__(self, pipeline: VideoARPipeline, settings: Settings):
        self.pipeline = pipeline
        self.settings = settings
        self._videos: dict[str, LiveVideo] = {}
        self._lock = threading.Lock()

        config = pipeline.transformer.config
        self.height = config.sample_height * pipeline.vae_scale_factor_spatial
        self.width = config.sample_width * pipeline.vae_scale_factor_spatial
        self._method = METHODS[settings.method](config.sample_frames)

    def start(self, visitor: str, prompt: str, image_path: str | None = None, seed: int | None = None) -> LiveVideo:
        """
        A new video of a visitor, which ends the one before.

        Args:
            visitor (`str`): Any name of one visitor.
            prompt (`str`): What the video shows.
            image_path (`str`, *optional*): A file with the first frame; it is resized and cropped.
            seed (`int`, *optional*): The same seed gives the same video; drawn without one.

        Raises:
            `ValueError`: The prompt is empty, the file is no image, or as many videos run as can.
        """
        prompt = check_prompt(prompt)
        arguments: dict[str, Any] = {"prompt": prompt} | self._method
        if image_path is not None:
            arguments["video"] = [self._load_image(Path(image_path))]
        arguments["generator"] = torch.Generator("cpu")
        if seed is None:
            arguments["generator"].seed()
        else:
            arguments["generator"].manual_seed(seed)
        with self._lock:
            before = self._videos.get(visitor)  # stays, to be saved, until there is a new one
            if before is not None:
                before.stop()
                before.wait_for_end(timeout_seconds=5)
            others = [video for video in self._videos.values() if video is not before]
            if sum(video.is_running for video in others) >= self.settings.most_videos:
                raise ValueError(
                    f"{self.settings.most_videos} videos are running, as many as this machine makes in real time. Try again "
                    "when a visitor has left."
                )
            self._forget_old_ones()
            video = self._videos[visitor] = LiveVideo(self.pipeline.stream(**arguments), prompt, self.settings)
        return video

    def _forget_old_ones(self) -> None:
        """Not every visitor says that he has left."""
        ended = [visitor for visitor, video in self._videos.items() if not video.is_running]
        for visitor in ended[:-MOST_ENDED_VIDEOS]:
            del self._videos[visitor]

    def _load_image(self, path: Path) -> PIL.Image.Image:
        try:
            return PIL.Image.fromarray(load_image(path, self.height, self.width))
        except ValueError as error:
            # The folder is ours, and means nothing to a visitor.
            raise ValueError(f"The first frame: {error}".replace(f"{path.parent}/", "")) from error

    def of(self, visitor: str) -> LiveVideo:
        """
        The last video of a visitor, running or ended.

        Raises:
            `ValueError`: There is none.
        """
        video = self._videos.get(visitor)
        if video is None:
            raise ValueError("There is no video yet. Press Start.")
        return video

    def forget(self, visitor: str) -> None:
        """Ends the video of a visitor who has left, and frees what was kept of it."""
        with self._lock:
            video = self._videos.pop(visitor, None)
        if video is not None:
            video.stop()

    @property
    def num_running(self) -> int:
        return sum(video.is_running for video in list(self._videos.values()))
