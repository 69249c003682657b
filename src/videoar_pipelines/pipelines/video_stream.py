# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
A video in the making, as an iterator of the chunks that are finished. It asks a sampler for latent frames, decodes them and extends
the video; it never sees a pipeline.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image
import torch

from ..models.autoencoder_videoar import AutoencoderVideoARState
from ..models.quantization import MultiScaleMaps
from ..schedulers.scheduling_videoar import SamplingStep
from .call_arguments import check_frame_conditions
from .frame_sampler import DECODED_TOGETHER, FrameConditions, FrameSampler, PromptStates


Chunk = np.ndarray | torch.Tensor | list[list[PIL.Image.Image]]


@dataclass(frozen=True)
class StreamLength:
    """
    How long a video is, and how it goes on after the length that the model was trained on.

    Args:
        num_latent_frames (`int`, *optional*): Of the whole video, given frames included; `None` for one without end.
        reencode_at (`int`, *optional*): Latent frames after which the tail is encoded again; never when `None`.
        context_frames (`int`, *optional*): Pixel frames of the tail.
    """

    num_latent_frames: int | None
    reencode_at: int | None = None
    context_frames: int | None = None

    @property
    def num_positions(self) -> int | None:
        """Latent frames until the video ends or positions start over; `None` if neither happens."""
        lengths = [length for length in (self.num_latent_frames, self.reencode_at) if length is not None]
        return min(lengths) if lengths else None


@dataclass(frozen=True)
class StreamHooks:
    """
    What a pipeline hands to its streams.

    Args:
        decode (`Callable`, *optional*):
            `decode(latents, state)` gives pixel frames in [-1, 1] and the next state; `None` hands out latents as they are.
        postprocess (`Callable`): Makes what the user gets of pixel frames `(B, 3, F, H, W)`.
        encode_prompt (`Callable`): The arguments of [`VideoARStream.set_prompt`] to [`PromptStates`].
        on_step_end (`Callable`, *optional*): `on_step_end(stream, number of the step, step, frame_sum)`, see [`FrameSampler`].
        on_close (`Callable`): Called with the stream when it ends.
    """

    decode: Callable[..., tuple[torch.Tensor, AutoencoderVideoARState]] | None
    postprocess: Callable[[torch.Tensor], Chunk]
    encode_prompt: Callable[..., PromptStates]
    on_step_end: Callable[["VideoARStream", int, SamplingStep, torch.Tensor], torch.Tensor] | None
    on_close: Callable[["VideoARStream"], None]


class VideoARStream:
    """
    Samples and decodes latent frame by latent frame, as long as the caller asks for more. Made by the `stream` method of a
    pipeline; `__call__` runs one to its end.

    Iterating yields one chunk for every latent frame: 1 pixel frame, then 4 at a time. A chunk has the layout of
    [`VideoARPipelineOutput`] with these frames only, so the batch comes first (`chunk[0]` for a single prompt), and all
    chunks, concatenated along time, are what `__call__` returns. Given frames of an image-to-video or continuation pipeline
    come first.

    The memory of a stream does not grow with its length. It is freed when the stream ends, is closed, or is left as a context
    manager:

        >>> with pipe.stream("a red circle moves to the right") as stream:
        ...     for chunk in stream:
        ...         writer.write(chunk[0])
        ...         if enough():
        ...             break

    Several streams and calls of one pipeline may take turns or run in threads: each holds its own state. [`~stop`] ends this one,
    `pipe._interrupt = True` all that run now. A stream that raised an error, or was cancelled with Ctrl-C, has ended.

    Args:
        sampler ([`FrameSampler`]): Text and given frames are in its cache.
        length ([`StreamLength`]): Of the video.
        hooks ([`StreamHooks`]): What comes from the pipeline.
        given_maps ([`MultiScaleMaps`], *optional*): The given frames, decoded before the sampled ones.
        frame_conditions (`dict[str, torch.Tensor]`, *optional*): Of all latent frames, each `(B, T, c)`.
        overlap_decoding (`bool`): Whether to sample the next latent frame while one is decoded, see [`VideoARPipeline.stream`].
    """

    def __init__(
        self,
        sampler: FrameSampler,
        length: StreamLength,
        hooks: StreamHooks,
        given_maps: MultiScaleMaps | None = None,
        frame_conditions: FrameConditions | None = None,
        overlap_decoding: bool = False,
    ):
        self.sampler = sampler
        self.length = length
        self.hooks = hooks
        self.frame_conditions = frame_conditions
        self.overlap_decoding = overlap_decoding

        self.latent_frame = 0  # finished latent frames
        self.step = 0  # sampled maps
        self._given_frames = [] if given_maps is None else list(given_maps.latents.unbind(dim=2))
        self._sampled_ahead = []
        self._own_conditions: list[FrameConditions | None] = []  # of the frames that may be re-encoded
        self._next_conditions: FrameConditions | None = None
        # All work on it begins with what the current stream has been given so far, and the current stream waits for it before any
        # tensor that both have touched can be freed.
        self._decoding_stream = None
        if overlap_decoding and sampler.frame_sum.is_cuda:
            self._decoding_stream = torch.cuda.Stream(sampler.frame_sum.device)
        self._decoder_state = None
        self._on_progress = None
        self._tail = None  # the last `context_frames` pixel frames, (B, 3, F, H, W)
        self._is_at_work = False
        self._failure: str | None = None  # not the error, whose traceback would keep all it had at hand in memory

        # Maps that are sampled; `None` for a video without end.
        self.num_timesteps = None
        if length.num_latent_frames is not None:
            steps = sampler.scheduler.frame_steps(0, sampler.scale_schedule, sampler.options.refinements)
            self.num_timesteps = (length.num_latent_frames - len(self._given_frames)) * len(steps)
        self._description = self.describe_call()

    # 1. The iterator

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        return self.next_frame()

    @torch.no_grad()
    def next_frame(self, conditions: FrameConditions | None = None) -> Chunk:
        """
        The next chunk, as from iterating.

        Args:
            conditions (`dict[str, torch.Tensor]`, *optional*):
                By name, what the transformer is told of this latent frame, each `(B, c)`, instead of `frame_conditions`. With
                `overlap_decoding` it is of the frame that is sampled ahead.

        Raises:
            `StopIteration`: The video is finished.
            `RuntimeError`: The stream ended with an error, or is asked by its own callback.
        """
        if conditions is not None and not self.is_closed:
            known = self.sampler.transformer.config.frame_conditions or {}
            frame_sum = self.sampler.frame_sum
            check_frame_conditions(conditions, known, len(frame_sum), num_frames=None, is_single=True)
            conditions = {name: condition.to(frame_sum.device) for name, condition in conditions.items()}
        with self._work():
            self._next_conditions = conditions
            latent_frames = self._sampled_ahead or self._next_latent_frames(most=1)
            self._sampled_ahead = []
            if latent_frames:
                chunk = self._decode(latent_frames)
                # The first chunk waits for nothing.
                if self.overlap_decoding and self.latent_frame > 1:
                    if self.sampler.wants_pixels:
                        self._wait_for_decoder()
                    self._sampled_ahead = self._next_latent_frames(most=1)
                self._wait_for_decoder()
                return self.hooks.postprocess(chunk)
        self.close()
        raise StopIteration

    @torch.no_grad()
    def run(self, on_progress: Callable[[], None]) -> Chunk:
        """
        Samples to the end, decodes only then or before a re-encoding (with refinement, frame by frame), and closes the stream.

        Args:
            on_progress (`Callable`): Called after every map.

        Returns:
            The whole video, in the layout of a chunk.
        """
        parts = []
        with self._work():
            self._on_progress = on_progress
            most = 1 if self.sampler.wants_pixels else None
            while latent_frames := self._next_latent_frames(most, at_least_one=True):
                parts.append(self._decode(latent_frames))
                self._wait_for_decoder()
        self.close()
        return self.hooks.postprocess(torch.cat(parts, dim=2))

    @torch.no_grad()
    def sample_frames(self, most: int | None, on_progress: Callable[[], None] | None = None) -> list[torch.Tensor]:
        """
        The next latent frames, for a caller who looks at them before [`~decode_frames`] or decodes several together.

        Args:
            most (`int`, *optional*): How many, if there are as many. `None` goes on to the end, or to the next re-encoding.
            on_progress (`Callable`, *optional*): Called after every map.

        Returns:
            `list[torch.Tensor]`: Each `(B, d, H', W')`; empty at the end of the video.
        """
        with self._work():
            self._on_progress = on_progress
            return self._next_latent_frames(most, at_least_one=True)

    @torch.no_grad()
    def decode_frames(self, latent_frames: list[torch.Tensor]) -> torch.Tensor:
        """
        Decodes what [`~sample_frames`] gave, all of it and in this order.

        Returns:
            `torch.Tensor`: Pixel frames `(B, 3, F, H, W)` in [-1, 1]; with `output_type="latent"` the latent frames
            `(B, d, T, H', W')`. [`~postprocess`] makes of it what the call would return.
        """
        with self._work():
            pixels = self._decode(latent_frames)
            self._wait_for_decoder()
            return pixels

    def postprocess(self, video: torch.Tensor) -> Chunk:
        """Chunks of [`~decode_frames`], concatenated along time, as the `output_type` of the stream."""
        return self.hooks.postprocess(video)

    def stop(self) -> None:
        """Ends the video after the present step; the frames that are finished are still handed out."""
        if not self.is_closed:
            self.sampler.is_stopped = True

    def close(self) -> None:
        """Ends the stream and frees its cache. Closing twice does nothing; closed by its own callback, it ends after the step."""
        if self._is_at_work:
            self.stop()
        if self._is_at_work or self.is_closed:
            return
        self._description = self.describe_call()
        self.sampler.close()
        self.sampler = self._decoder_state = self._tail = None
        self._given_frames, self._sampled_ahead = [], []
        self.hooks.on_close(self)

    def describe_call(self) -> dict[str, Any]:
        """`guidance_scale` as it is now, `attention_kwargs` and `num_timesteps`."""
        if self.is_closed:
            return self._description
        return {
            "guidance_scale": self.sampler.guidance_scale,
            "attention_kwargs": self.sampler.attention_kwargs,
            "num_timesteps": self.num_timesteps,
        }

    @property
    def is_closed(self) -> bool:
        return self.sampler is None

    def __enter__(self) -> "VideoARStream":
        return self

    def __exit__(self, *exception_details) -> None:
        self.close()

    @contextlib.contextmanager
    def _work(self) -> Iterator[None]:
        """Ends the stream where an error leaves it half way: what would follow could not be right."""
        if self._failure is not None:
            raise RuntimeError(f"This stream ended with an error ({self._failure}). Call `stream` for another one.")
        if self._is_at_work:
            raise RuntimeError("This stream is at work: its own callback cannot ask it for another frame or prompt.")
        self._is_at_work = True
        try:
            yield
        except BaseException as error:
            self._failure = f"{type(error).__name__}: {error}"
            self._is_at_work = False
            self.close()
            raise
        self._is_at_work = False

    # 2. Prompts on the way

    @torch.no_grad()
    def set_prompt(
        self,
        prompt: str | list[str] | None = None,
        negative_prompt: str | list[str] | None = None,
        prompt_embeds: torch.Tensor | None = None,
        negative_prompt_embeds: torch.Tensor | None = None,
        prompt_attention_mask: torch.Tensor | None = None,
        negative_prompt_attention_mask: torch.Tensor | None = None,
    ) -> None:
        """
        Goes on with another text from the next latent frame on.

        The text's keys and values in the cache are replaced. Those of the frames so far stay what they were under the old
        text, until they leave the window; with re-encoding, the next re-encoding reads its context under the new text. The new
        text may be longer or shorter than the old one.

        Args:
            prompt (`str` or `list[str]`, *optional*):
                As many as the stream was made with, or one for all where frames were given. Either this or `prompt_embeds`.
            negative_prompt (`str` or `list[str]`, *optional*): Without a new one, the old one stays.
            prompt_embeds (`torch.Tensor` of shape `(B, N, C)`, *optional*): Text states to use instead of `prompt`.
            negative_prompt_embeds (`torch.Tensor` of shape `(B, N, C)`, *optional*): Instead of `negative_prompt`.
            prompt_attention_mask (`torch.Tensor` of shape `(B, N)`, *optional*): `False` at padding of `prompt_embeds`.
            negative_prompt_attention_mask (`torch.Tensor` of shape `(B, N)`, *optional*): Of `negative_prompt_embeds`.

        Raises:
            `ValueError`: The stream is closed, or the prompts are none, both, or another number than before. The stream goes on
                with the old text.
        """
        if self.is_closed:
            raise ValueError("`set_prompt` was called on a stream that has ended. Call `stream` for another one.")
        text = self.hooks.encode_prompt(
            prompt=prompt,
            negative_prompt=negative_prompt,
            prompt_embeds=prompt_embeds,
            negative_prompt_embeds=negative_prompt_embeds,
            prompt_attention_mask=prompt_attention_mask,
            negative_prompt_attention_mask=negative_prompt_attention_mask,
        )
        with self._work():
            self.sampler.write_text(text)

    # 3. Sampling and decoding

    def _next_latent_frames(self, most: int | None, at_least_one: bool = False) -> list[torch.Tensor]:
        """
        The next latent frames, each `(B, d, H', W')`: `most` of them, fewer where the video ends or is stopped, or where they have
        to be decoded before the tail can be re-encoded. With `at_least_one` a video that is stopped before it begins has its first
        frame all the same, after one step.
        """
        latent_frames = []
        while len(latent_frames) != most:
            is_owed = at_least_one and self.latent_frame == 0 and not self.is_closed
            if self.has_ended and not is_owed:
                break
            if not self._given_frames and self.sampler.frame == self.length.reencode_at:
                if latent_frames:
                    break
                self._reencode()
            conditions = self._take_conditions()
            if self._given_frames:
                latent_frame = self._given_frames.pop(0)
            else:
                latent_frame = self.sampler.sample_frame(conditions, self._after_step)
            if self.sampler.is_stopped and not self.sampler.is_frame_complete and self.latent_frame > 0:
                break  # only the first frame of a video is handed out unfinished
            latent_frames.append(latent_frame)
            self.latent_frame += 1
        return latent_frames

    @property
    def has_ended(self) -> bool:
        """Whether all latent frames have been sampled."""
        return self.is_closed or self.sampler.is_stopped or self.latent_frame == self.length.num_latent_frames

    def _take_conditions(self) -> FrameConditions | None:
        """The conditions of the next latent frame, which are kept as long as it may be re-encoded."""
        conditions, self._next_conditions = self._next_conditions, None
        if conditions is None and self.frame_conditions:
            num_frames = min(values.shape[1] for values in self.frame_conditions.values())
            if self.latent_frame >= num_frames:
                raise ValueError(
                    f"`frame_conditions` has {num_frames} latent frames, and the video goes on after them. Pass the others one by "
                    "one, with `next_frame(conditions=...)`."
                )
            conditions = {name: values[:, self.latent_frame] for name, values in self.frame_conditions.items()}
        if self.length.reencode_at is not None:
            self._own_conditions = [*self._own_conditions, conditions][-self.length.reencode_at :]
        return conditions

    def _after_step(self, step: SamplingStep, frame_sum: torch.Tensor) -> torch.Tensor:
        if self.hooks.on_step_end is not None:
            frame_sum = self.hooks.on_step_end(self, self.step, step, frame_sum)
        self.step += 1
        if self._on_progress is not None:
            self._on_progress()
        return frame_sum

    def _decode(self, latent_frames: list[torch.Tensor]) -> torch.Tensor:
        """Pixel frames `(B, 3, F, H, W)` of the next latent frames; without a decoder these as one tensor."""
        latents = torch.stack(latent_frames, dim=2)  # (B, d, T, H', W')
        if self.hooks.decode is None:
            return latents
        if self._decoding_stream is not None:
            self._decoding_stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._decoding_stream):  # without one, nothing happens here
            chunks = []
            for chunk in latents.split(DECODED_TOGETHER, dim=2):
                pixels, self._decoder_state = self.hooks.decode(chunk, self._decoder_state)
                chunks.append(pixels)
            pixels = torch.cat(chunks, dim=2)
            if self.length.context_frames is not None:
                tail = pixels if self._tail is None else torch.cat([self._tail, pixels], dim=2)
                self._tail = tail[:, :, -self.length.context_frames :].clone()
        if len(latent_frames) == 1:
            self.sampler.hand_on(pixels, self._decoder_state)
        return pixels

    def _wait_for_decoder(self) -> None:
        if self._decoding_stream is not None:
            torch.cuda.current_stream().wait_stream(self._decoding_stream)

    def _reencode(self) -> None:
        """Starts positions and cache over with the last pixel frames as context (VideoAR section 4.2, duration extension)."""
        self._wait_for_decoder()
        tail = self._tail
        maps = self.sampler.encode_frames(tail)
        num_frames = maps.latents.shape[2]
        conditions = self._own_conditions[-num_frames:]
        self.sampler.write_frames(maps, _stack_conditions(conditions))
        # For the decoder's state. The frames have been handed out, and as such they stay the tail.
        self._decoder_state = None
        self._decode(list(maps.latents.unbind(dim=2)))
        self._wait_for_decoder()
        self._tail = tail


def _stack_conditions(conditions: list[FrameConditions | None]) -> FrameConditions | None:
    """Conditions of single frames, each `(B, c)`, as one `(B, T, c)` by name; those that not all frames have are left out."""
    if any(frame is None for frame in conditions):
        return None
    names = set.intersection(*(set(frame) for frame in conditions))
    return {name: torch.stack([frame[name] for frame in conditions], dim=1) for name in sorted(names)} or None
