# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""A video in the making, as an iterator of the chunks that are finished."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
import torch


if TYPE_CHECKING:
    from .pipeline_videoar import VideoARGeneration, VideoARPipeline


# Latent frames that the tokenizer decodes together, those of a 17-frame clip; bounds its memory.
DECODED_TOGETHER = 5


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

    Several streams and calls of one pipeline may take turns. Setting `pipe._interrupt = True` ends them all.

    Args:
        pipeline ([`VideoARPipeline`]): Whose components are used.
        generation ([`VideoARGeneration`]): Text and given frames are in its cache.
        given_frames (`list[torch.Tensor]`): Latents `(B, d, H', W')` of the given frames, decoded before the sampled ones.
        num_latent_frames (`int`, *optional*): Length of the video, the given frames included; `None` for one without end.
        reencode_at (`int`, *optional*): Latent frames after which the tail is re-encoded.
        context_frames (`int`, *optional*): Pixel frames of the tail.
        text_arguments (`dict`): Arguments of `encode_prompt` that [`~set_prompt`] does not change.
        output_type (`str`): `"np"`, `"pt"`, `"pil"` or `"latent"`.
        overlap_decoding (`bool`): Whether to sample the next latent frame while one is decoded, see [`VideoARPipeline.stream`].
        on_step_end (`Callable`, *optional*): Called as `on_step_end(stream, step, timestep)` after every map.
    """

    def __init__(
        self,
        pipeline: "VideoARPipeline",
        generation: "VideoARGeneration",
        given_frames: list[torch.Tensor],
        num_latent_frames: int | None,
        reencode_at: int | None,
        context_frames: int | None,
        text_arguments: dict,
        output_type: str,
        overlap_decoding: bool,
        on_step_end: Callable[["VideoARStream", int, int], None] | None,
    ):
        self.pipeline = pipeline
        self.generation = generation
        self.num_latent_frames = num_latent_frames
        self.reencode_at = reencode_at
        self.context_frames = context_frames
        self.text_arguments = text_arguments
        self.output_type = output_type
        self.overlap_decoding = overlap_decoding
        self.on_step_end = on_step_end

        self.latent_frame = 0  # finished latent frames
        self.step = 0  # sampled maps
        self._given_frames = list(given_frames)
        self._sampled_ahead = []
        # All work on it begins with what the pipeline's stream has been given so far, and the pipeline's stream waits for it
        # before any tensor that both have touched can be freed.
        self._decoding_stream = None
        if overlap_decoding and generation.latents.is_cuda:
            self._decoding_stream = torch.cuda.Stream(generation.latents.device)
        self._decoder_state = None
        self._on_progress = None
        self._tail = None  # the last `context_frames` pixel frames, (B, 3, F, H, W)
        # See `_resume`.
        self._scheduler_arguments = (
            pipeline.scheduler.num_latent_frames,
            *generation.latents.shape[-2:],
            generation.latents.device,
            pipeline.scheduler.refinements,
        )
        self._guidance_scale = pipeline._guidance_scale
        self._attention_kwargs = pipeline._attention_kwargs

    # 1. The iterator

    def __iter__(self) -> "VideoARStream":
        return self

    @torch.no_grad()
    def __next__(self) -> np.ndarray | torch.Tensor | list[list[PIL.Image.Image]]:
        latent_frames = self._sampled_ahead or self._next_latent_frames(most=1)
        self._sampled_ahead = []
        if not latent_frames:
            self.close()
            raise StopIteration
        chunk = self._decode(latent_frames)
        # The first chunk waits for nothing.
        if self.overlap_decoding and self.latent_frame > 1:
            self._sampled_ahead = self._next_latent_frames(most=1)
        self._wait_for_decoder()
        return self.pipeline._postprocess(chunk, self.output_type)

    def run(self, on_progress: Callable[[], None]) -> torch.Tensor:
        """
        Samples to the end, decodes only then or before a re-encoding, and closes the stream.

        Args:
            on_progress (`Callable`): Called after every map.

        Returns:
            `torch.Tensor`: Pixel frames `(B, 3, F, H, W)` in [-1, 1], or latents `(B, d, T, H', W')`.
        """
        parts = []
        self._on_progress = on_progress
        while latent_frames := self._next_latent_frames(most=None):
            parts.append(self._decode(latent_frames))
            self._wait_for_decoder()
        self.close()
        return torch.cat(parts, dim=2)

    def close(self) -> None:
        """Ends the stream and frees its cache. Closing twice does nothing."""
        if self.is_closed:
            return
        self.generation = self._decoder_state = self._tail = None
        self._given_frames = self._sampled_ahead = []
        self.pipeline.maybe_free_model_hooks()

    @property
    def is_closed(self) -> bool:
        return self.generation is None

    def __enter__(self) -> "VideoARStream":
        return self

    def __exit__(self, *exception_details) -> None:
        self.close()

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
            prompt (`str` or `list[str]`, *optional*): As many as the stream was made with. Either this or `prompt_embeds`.
            negative_prompt (`str` or `list[str]`, *optional*): Without a new one, the old one stays.
            prompt_embeds (`torch.Tensor` of shape `(B, N, C)`, *optional*): Text states to use instead of `prompt`.
            negative_prompt_embeds (`torch.Tensor` of shape `(B, N, C)`, *optional*): Instead of `negative_prompt`.
            prompt_attention_mask (`torch.Tensor` of shape `(B, N)`, *optional*): `False` at padding of `prompt_embeds`.
            negative_prompt_attention_mask (`torch.Tensor` of shape `(B, N)`, *optional*): Of `negative_prompt_embeds`.

        Raises:
            `ValueError`: The stream is closed, or the prompts are none, both, or another number than before.
        """
        if self.is_closed:
            raise ValueError("`set_prompt` was called on a stream that has ended. Call `stream` for another one.")
        self._resume()
        pipeline = self.pipeline
        num_prompts = len(self.generation.latents) // self.text_arguments["num_videos_per_prompt"]
        pipeline._check_text_inputs(prompt, negative_prompt, prompt_embeds, negative_prompt_embeds)
        if pipeline._batch_size(prompt, prompt_embeds) != num_prompts:
            name = "prompt" if prompt_embeds is None else "prompt_embeds"
            raise ValueError(
                f"`{name}` has {pipeline._batch_size(prompt, prompt_embeds)} entries, but the stream was made for "
                f"{num_prompts}. Pass {num_prompts}."
            )
        if negative_prompt is not None or negative_prompt_embeds is not None:
            self.text_arguments = self.text_arguments | {
                "negative_prompt": negative_prompt,
                "negative_prompt_embeds": negative_prompt_embeds,
                "negative_prompt_attention_mask": negative_prompt_attention_mask,
            }
        generation = self.generation
        (
            generation.prompt_embeds,
            generation.negative_prompt_embeds,
            generation.prompt_attention_mask,
            generation.negative_prompt_attention_mask,
        ) = pipeline.encode_prompt(
            prompt=prompt,
            prompt_embeds=prompt_embeds,
            prompt_attention_mask=prompt_attention_mask,
            **self.text_arguments,
        )
        pipeline.write_text(generation)

    # 3. Sampling and decoding

    def _next_latent_frames(self, most: int | None) -> list[torch.Tensor]:
        """
        The next latent frames, each `(B, d, H', W')`: `most` of them, fewer where the video ends or is interrupted, or where
        they have to be decoded before the tail can be re-encoded.
        """
        if self.is_closed:
            return []
        self._resume()
        latent_frames = []
        while not self._has_ended and len(latent_frames) != most:
            if self._given_frames:
                latent_frame = self._given_frames.pop(0)
            else:
                if self.generation.frame == self.reencode_at:
                    if latent_frames:
                        break
                    self._reencode()
                latent_frame = self._sample()
                if latent_frame is None:
                    break
            latent_frames.append(latent_frame)
            self.latent_frame += 1
        self._guidance_scale = self.pipeline.guidance_scale  # a callback may have changed it
        return latent_frames

    @property
    def _has_ended(self) -> bool:
        return self.pipeline.interrupt or self.latent_frame == self.num_latent_frames

    def _resume(self) -> None:
        """Puts back what the pipeline holds while it samples; other calls may have changed it since the last chunk."""
        pipeline = self.pipeline
        pipeline.scheduler.set_timesteps(*self._scheduler_arguments)
        pipeline._guidance_scale = self._guidance_scale
        pipeline._attention_kwargs = self._attention_kwargs

    def _sample(self) -> torch.Tensor | None:
        """The next latent frame, or `None` if it was interrupted and is not the first of the video."""
        pipeline = self.pipeline
        last_timestep = (self.generation.frame + 1) * len(pipeline.scheduler.scale_schedule) - 1
        latent_frame = pipeline.sample_frame(self.generation, self._after_step)
        is_unfinished = pipeline.interrupt and pipeline.current_timestep != last_timestep
        pipeline._current_timestep = None
        return None if is_unfinished and self.latent_frame > 0 else latent_frame

    def _after_step(self, timestep: int) -> None:
        if self.on_step_end is not None:
            self.on_step_end(self, self.step, timestep)
        self.step += 1
        if self._on_progress is not None:
            self._on_progress()

    def _decode(self, latent_frames: list[torch.Tensor]) -> torch.Tensor:
        """Pixel frames `(B, 3, F, H, W)` of the next latent frames; with `output_type="latent"` these as one tensor."""
        latents = torch.stack(latent_frames, dim=2)  # (B, d, T, H', W')
        if self.output_type == "latent":
            return latents
        if self._decoding_stream is not None:
            self._decoding_stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._decoding_stream):  # without one, nothing happens here
            chunks = []
            for chunk in latents.split(DECODED_TOGETHER, dim=2):
                pixels, self._decoder_state = self.pipeline.decode_chunk(chunk, self._decoder_state)
                chunks.append(pixels)
            pixels = torch.cat(chunks, dim=2)
            if self.context_frames is not None:
                tail = pixels if self._tail is None else torch.cat([self._tail, pixels], dim=2)
                self._tail = tail[:, :, -self.context_frames :].clone()
        return pixels

    def _wait_for_decoder(self) -> None:
        if self._decoding_stream is not None:
            torch.cuda.current_stream().wait_stream(self._decoding_stream)

    def _reencode(self) -> None:
        """Starts positions and cache over with the last pixel frames as context (VideoAR section 4.2, duration extension)."""
        self._wait_for_decoder()
        tail = self._tail
        maps = self.pipeline.encode_frames(tail)
        self.pipeline.write_frames(self.generation, maps)
        # For the decoder's state. The frames have been handed out, and as such they stay the tail.
        self._decoder_state = None
        self._decode(list(maps.latents.unbind(dim=2)))
        self._wait_for_decoder()
        self._tail = tail
