# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""An InfinityStar video in the making, as an iterator of its clips: the sampler's latents, decoded one clip after the other."""

from collections.abc import Callable

import numpy as np
import PIL.Image
import torch
from diffusers import DiffusionPipeline

from ...models.token_layout_infinitystar import InfinityStarPass
from .clip_sampler import ClipSampler, ClipSamplerState


class InfinityStarStream:
    """
    Made by [`InfinityStarPipeline.stream`]. Iterating yields one chunk for every clip: the first pixel frame, then the 80 of every
    later clip. A chunk has the layout of the pipeline's output with these frames only, so the batch comes first, and all chunks,
    concatenated along time, are what `__call__` returns. Given frames come first, as the tokenizer reconstructs them.

    Its memory is freed when it ends, is closed, or is left as a context manager. Several streams and calls of one pipeline may take
    turns. Setting `pipe._interrupt = True` ends them all; a clip that is not finished is lost. A stream that raised an error, or was
    cancelled with Ctrl-C, has ended.

    Args:
        pipeline ([`InfinityStarPipeline`]): Whose tokenizer decodes, and whose interruption ends the video.
        sampler ([`ClipSampler`]): The state of the video.
        given (`list[torch.Tensor]`): Features `(B, c, T, H', W')` of the clips that are given.
        output_type (`str`): `"np"`, `"pt"`, `"pil"` or `"latent"`.
        on_pass_end (`Callable`, *optional*): Called as `on_pass_end(stream, step, pass)` after every sampled pass.
    """

    def __init__(
        self,
        pipeline: DiffusionPipeline,
        sampler: ClipSampler,
        given: list[torch.Tensor],
        output_type: str,
        on_pass_end: Callable[["InfinityStarStream", int, InfinityStarPass], None] | None = None,
    ):
        self.pipeline = pipeline
        self.sampler = sampler
        self.output_type = output_type
        self.on_pass_end = on_pass_end
        self.step = 0  # sampled passes
        self._given = list(given)
        self._first_latents = None  # decoded already, for the decoder's state
        self._decoder_state = None
        self._on_progress = None
        self._failure: str | None = None  # not the error, whose traceback would keep all it had at hand in memory

    @property
    def num_passes(self) -> int:
        """Passes that are still to be sampled."""
        if self.is_closed:
            return 0
        first = self.sampler.clip + len(self._given)
        return sum(len(passes) for passes in self.sampler.clips[first:])

    # 1. The iterator

    def __iter__(self) -> "InfinityStarStream":
        return self

    @torch.no_grad()
    def __next__(self) -> np.ndarray | torch.Tensor | list[list[PIL.Image.Image]]:
        if self._failure is not None:
            raise RuntimeError(f"This stream ended with an error ({self._failure}). Call `stream` for another one.")
        try:
            latents = self._next_clip()
            if latents is not None:
                return self.pipeline.postprocess(self._decode(latents), self.output_type)
        except BaseException as error:  # half of a clip is sampled, and the generator has moved on
            self._failure = f"{type(error).__name__}: {error}"
            self.close()
            raise
        self.close()
        raise StopIteration

    def run(self, on_progress: Callable[[], None]) -> np.ndarray | torch.Tensor | list[list[PIL.Image.Image]]:
        """
        All clips as one video.

        Args:
            on_progress (`Callable`): Called after every sampled pass.
        """
        self._on_progress = on_progress
        chunks = list(self)
        if not chunks:  # interrupted in the first clip
            return []
        if isinstance(chunks[0], list):
            return [sum(frames, []) for frames in zip(*chunks)]
        if isinstance(chunks[0], np.ndarray):
            return np.concatenate(chunks, axis=1)
        return torch.cat(chunks, dim=2 if self.output_type == "latent" else 1)

    def _next_clip(self) -> torch.Tensor | None:
        """Latents of the next clip, `None` at the end."""
        if self.is_closed or self.sampler.has_ended or self.pipeline.interrupt:
            return None
        if self._given:
            return self.sampler.force_clip(self._given.pop(0))
        return self.sampler.sample_clip(self._after_pass)

    def _after_pass(self, current_pass: InfinityStarPass) -> bool:
        if self.on_pass_end is not None:
            self.on_pass_end(self, self.step, current_pass)
        self.step += 1
        if self._on_progress is not None:
            self._on_progress()
        return self.pipeline.interrupt

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pixel frames `(B, 3, F, H, W)` of the next clip; with `output_type="latent"` the clip itself."""
        if self.output_type == "latent":
            return latents
        vae = self.pipeline.vae
        # At 720p the decoder's state takes 7 GB. So it is not kept after the first frame, which is decoded once more with the second
        # clip, and not after the last.
        if self._first_latents is None:
            self._first_latents = latents
            return vae.decode(latents, return_dict=False)[0]
        num_known = 0
        if self._decoder_state is None:
            num_known = (self._first_latents.shape[2] - 1) * vae.temporal_compression_ratio + 1
            latents = torch.cat([self._first_latents, latents], dim=2)
            if self.sampler.has_ended:
                return vae.decode(latents, return_dict=False)[0][:, :, num_known:]
        pixels, self._decoder_state = vae.decode_chunk(latents, self._decoder_state, return_dict=False)
        return pixels[:, :, num_known:]

    # 2. Closing, and going on later

    def close(self) -> None:
        """Ends the stream and frees its memory. Closing twice does nothing."""
        if self.is_closed:
            return
        self.sampler = self._first_latents = self._decoder_state = None
        self._given = []
        self.pipeline.maybe_free_model_hooks()

    @property
    def is_closed(self) -> bool:
        return self.sampler is None

    def __enter__(self) -> "InfinityStarStream":
        return self

    def __exit__(self, *exception_details) -> None:
        self.close()

    def state(self) -> ClipSamplerState:
        """
        What is needed to go on later, in another process: the clips so far as latents, and where the generators are. Some
        megabytes; `torch.save` keeps it. Hand it to [`InfinityStarPipeline.stream`] as `resume_from`.

        Raises:
            `ValueError`: No clip is finished, or the stream has ended.
        """
        if self.is_closed or self.sampler.clip == 0:
            raise ValueError("`state` was called before the first clip or after the end: call it between two clips.")
        return self.sampler.state()

    @torch.no_grad()
    def resume(self, state: ClipSamplerState) -> None:
        """Moves on to the end of the clips of `state`, which are decoded once more for the sake of the decoder, and not yielded."""
        for number, latents in enumerate(self.sampler.restore(state)):
            is_read_again = number == 0 or number + 1 < len(self.sampler.clips)
            if is_read_again:
                self._decode(latents)
        del self._given[: self.sampler.clip]
