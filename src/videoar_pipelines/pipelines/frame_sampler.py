# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
The sampler: all state of one video (or one batch of videos) while its latent frames are sampled. The components compute and hold
nothing; whoever owns a sampler owns the video. It neither decodes for the user nor knows of a pipeline.

Letters used in shapes: `B` videos, `d` bits, `(H', W')` latent grid, `L` tokens of a frame, `N` text tokens, `S` tokens of a call.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..models.autoencoder_videoar import AutoencoderVideoAR, AutoencoderVideoARState
from ..models.kv_cache import AttentionPart, VideoARKVCache
from ..models.quantization import MultiScaleMaps, ScaleSchedule, features_to_maps, tokens_per_frame
from ..models.text_encoding import pad_text
from ..models.token_layout import FRAME, INDEX, token_blocks, video_token_ids
from ..models.transformer_videoar import VideoARTransformer3DModel
from ..schedulers.scheduling_videoar import SamplingOptions, SamplingStep, VideoARScheduler, draw_uniform_noise
from .cuda_graphs import EagerRunner
from .refinement import FrameRefiner


# Latent frames that the tokenizer decodes, and pixel frames that it encodes, together; bounds its memory.
DECODED_TOGETHER = 5
ENCODED_TOGETHER = 16

# By name, a condition of each latent frame, `(B, T, c)`; of a single frame, `(B, c)`.
FrameConditions = dict[str, torch.Tensor]


@dataclass(frozen=True)
class PromptStates:
    """
    The text of both guidance branches, as [`VideoARPipeline.encode_prompt`] returns it.

    Args:
        prompt_embeds (`torch.Tensor` of shape `(B, N, C)`): Text states.
        negative_prompt_embeds (`torch.Tensor` of shape `(B, N, C)`, *optional*):
            Of the unconditional branch; `None` without guidance.
        prompt_attention_mask (`torch.Tensor` of shape `(B, N)`): `False` at padding of `prompt_embeds`.
        negative_prompt_attention_mask (`torch.Tensor` of shape `(B, N)`, *optional*): Of `negative_prompt_embeds`.
    """

    prompt_embeds: torch.Tensor
    negative_prompt_embeds: torch.Tensor | None
    prompt_attention_mask: torch.Tensor
    negative_prompt_attention_mask: torch.Tensor | None

    @property
    def has_unconditional_branch(self) -> bool:
        return self.negative_prompt_embeds is not None

    def joined(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Both branches as one batch `(2B, N, C)`, conditional first; the mask is `None` if nothing is padded."""
        branches = [(self.prompt_embeds, self.prompt_attention_mask)]
        if self.has_unconditional_branch:
            negative_embeds = self.negative_prompt_embeds.to(self.prompt_embeds.dtype)
            branches.append((negative_embeds, self.negative_prompt_attention_mask))
        # A text of one token would be a graph of its own.
        length = max(2, *(embeds.shape[1] for embeds, _ in branches))
        embeds, mask = map(torch.cat, zip(*(pad_text(*branch, length) for branch in branches)))
        return embeds, None if bool(mask.all()) else mask


@dataclass
class _FrameTokens:
    """
    Where the tokens of one latent frame stand.

    Args:
        ids (`torch.Tensor` of shape `(L, 5)`): Token ids.
        rotary_tables (`tuple[torch.Tensor, torch.Tensor]`): Cosines and sines of all tokens.
        of_map (`list`): For every scale, token ids and rotary tables of its map.
    """

    ids: torch.Tensor
    rotary_tables: tuple[torch.Tensor, torch.Tensor]
    of_map: list[tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]]


class FrameSampler:
    """
    Samples latent frame after latent frame of one video.

    ```python
    sampler = FrameSampler(pipe.transformer, pipe.scheduler, pipe.vae, text, options, scale_schedule, num_frames=5)
    latents = torch.stack([sampler.sample_frame() for _ in range(5)], dim=2)
    ```

    Args:
        transformer ([`VideoARTransformer3DModel`]): Predicts bits.
        scheduler ([`VideoARScheduler`]): Steps, guidance, sampling.
        vae ([`AutoencoderVideoAR`], *optional*): Only given frames and refinement need it.
        text ([`PromptStates`]): Of both guidance branches.
        options ([`SamplingOptions`]): How to sample.
        scale_schedule (`tuple[tuple[int, int], ...]`): Grids of the video.
        num_frames (`int`, *optional*): Latent frames of the video, or of one stretch; `None` for one without end.
        window (`int`, *optional*): Last latent frames that a frame sees before itself; all of them when `None`.
        sink_size (`int`, defaults to 0): With `window`, first latent frames that every frame sees besides.
        generator (`torch.Generator` or `list[torch.Generator]`, *optional*): Source of all randomness.
        noise (`torch.Tensor` of shape `(B, T, L, d)`, *optional*):
            Uniform noise of the sampled frames to use instead; with refinement `L` counts maps as often as they are sampled.
        attention_kwargs (`dict`, *optional*): For the transformer.
        runner ([`EagerRunner`], *optional*): Runs the steps; a [`CUDAGraphRunner`] records and replays them.

    Attributes:
        frame (`int`): Position of the latent frame that comes next; re-encoding starts it over.
        frame_sum (`torch.Tensor` of shape `(B, d, H', W')`): The latent frame being sampled, float32.
        guidance_scale (`float`): Largest value of the guidance schedule; may be changed between steps.
        is_stopped (`bool`): Set it to end the frame after the present step.
        is_frame_complete (`bool`): Whether the last frame was sampled to its last step.
    """

    def __init__(
        self,
        transformer: VideoARTransformer3DModel,
        scheduler: VideoARScheduler,
        vae: AutoencoderVideoAR | None,
        text: PromptStates,
        options: SamplingOptions,
        scale_schedule: ScaleSchedule,
        num_frames: int | None = None,
        window: int | None = None,
        sink_size: int = 0,
        generator: torch.Generator | list[torch.Generator] | None = None,
        noise: torch.Tensor | None = None,
        attention_kwargs: dict[str, Any] | None = None,
        runner: EagerRunner | None = None,
    ):
        self.transformer = transformer
        self.scheduler = scheduler
        self.vae = vae
        self.options = options
        self.scale_schedule = scale_schedule
        self.num_frames = num_frames
        self.generator = generator
        self.noise = noise
        self.attention_kwargs = attention_kwargs
        self.runner = runner or EagerRunner()
        # All that decides what a step does, besides its inputs and the filled part of the cache.
        self._settings = repr((scale_schedule, dict(scheduler.config), options, attention_kwargs))

        device = text.prompt_embeds.device
        self._first_frame_ids = video_token_ids(scale_schedule, 1, device=device)
        self.frame_sum = torch.zeros(
            len(text.prompt_embeds), transformer.config.out_channels, *scale_schedule[-1], device=device
        )
        self.previous_frame = torch.zeros_like(self.frame_sum)
        self.frame = 0
        self.num_sampled_frames = 0
        self.guidance_scale = options.guidance_scale
        self.is_stopped = False
        self.is_frame_complete = True
        self._refiner = None
        if options.refinements:
            self._refiner = FrameRefiner(vae, scheduler, scale_schedule, self.runner)

        self.text = text
        embeds, mask = text.joined()
        self._lent_cache = self.kv_cache = self.runner.lend_cache(
            transformer,
            batch_size=len(embeds),
            text_length=embeds.shape[1],
            tokens_per_frame=tokens_per_frame(scale_schedule),
            num_frames=num_frames,
            window=window,
            sink_size=sink_size,
            device=device,
        )
        self._write_text(embeds, mask)

    def close(self) -> None:
        """Frees the cache. The sampler cannot go on."""
        if self.kv_cache is not None:
            self.runner.take_back(self._lent_cache)
            self._lent_cache = self.kv_cache = None

    def start_over(self) -> None:
        """Forgets all frames; the text stays, and the next latent frame is the first of a video."""
        self.kv_cache.clear_frames()
        self.frame = self.num_sampled_frames = 0
        self.previous_frame = torch.zeros_like(self.frame_sum)
        if self._refiner is not None:
            self._refiner.start_over()

    # 1. Text

    def write_text(self, text: PromptStates) -> None:
        """Goes on with another text, of any length. Frames in the cache keep what they read of the old one."""
        embeds, mask = text.joined()
        if embeds.shape[1] != self.kv_cache.text_length:
            self.kv_cache = self.kv_cache.with_text_length(embeds.shape[1])
        self._write_text(embeds, mask)
        self.text = text

    def _write_text(self, embeds: torch.Tensor, mask: torch.Tensor | None) -> None:
        kv_cache = self.kv_cache

        def encode_text(embeds: torch.Tensor, mask: torch.Tensor | None) -> None:
            self.transformer.encode_text(embeds, kv_cache, mask, attention_kwargs=self.attention_kwargs)

        # Once there are frames, the text's place depends on their number: that is not recorded.
        run = self.runner.run if kv_cache.num_written == 0 else EagerRunner().run
        run(kv_cache, ("text", repr(self.attention_kwargs)), encode_text, embeds, mask)

    # 2. Given frames

    def encode_frames(self, video: torch.Tensor) -> MultiScaleMaps:
        """
        Encodes and quantises pixel frames.

        Args:
            video (`torch.Tensor` of shape `(B, 3, 4n + 1, H, W)`): In [-1, 1].

        Returns:
            [`MultiScaleMaps`]: Of `n + 1` latent frames.
        """
        features, state = [], None
        first_chunk = 1 + ENCODED_TOGETHER
        for chunk in (video[:, :, :first_chunk], *video[:, :, first_chunk:].split(ENCODED_TOGETHER, dim=2)):
            if chunk.shape[2] > 0:
                chunk_features, state = self.vae.encode_chunk(chunk, state, return_dict=False)
                features.append(chunk_features)
        return features_to_maps(torch.cat(features, dim=2), self.scale_schedule)

    def write_frames(self, maps: MultiScaleMaps, conditions: FrameConditions | None = None) -> None:
        """
        Makes latent frames the beginning of the video: their maps enter the cache in one pass of the transformer. Other frames
        are forgotten. Only frames beyond the transformer's `max_text_distance`, where the text moves along from frame to frame,
        take a pass each.

        Args:
            maps ([`MultiScaleMaps`]): The frames; no more than the cache has room for.
            conditions (`dict[str, torch.Tensor]`, *optional*): Of these frames, each `(B, T, c)`.
        """
        self.kv_cache.clear_frames()
        num_frames = maps.latents.shape[2]
        inputs = self.scheduler.scale_clip_input(maps, self.scale_schedule)
        token_ids = video_token_ids(self.scale_schedule, num_frames, device=inputs.device)
        num_tokens = tokens_per_frame(self.scale_schedule)

        text_distance = self.transformer.config.max_text_distance
        together = num_frames if text_distance is None else min(num_frames, text_distance + 1)
        first = 0
        for last in range(together, num_frames + 1):
            tokens = slice(first * num_tokens, last * num_tokens)
            part = conditions and {name: condition[:, first:last] for name, condition in conditions.items()}
            mask = self.kv_cache.maps_attention_mask(self._blocks(token_ids[tokens]))
            self._predict(self.kv_cache, inputs[:, tokens], token_ids[tokens], None, part, mask)
            first = last
        self.frame = num_frames
        self.previous_frame = maps.latents[:, :, -1]

        if self._refiner is not None:
            self._refiner.start_over()
            if num_frames > 1:
                for chunk in maps.latents[:, :, :-1].split(DECODED_TOGETHER, dim=2):
                    self._refiner.follow(chunk)

    def _predict(
        self,
        kv_cache: VideoARKVCache,
        model_input: torch.Tensor,
        token_ids: torch.Tensor,
        rotary_tables: tuple[torch.Tensor, torch.Tensor] | None = None,
        conditions: FrameConditions | None = None,
        attention_mask: torch.Tensor | tuple[AttentionPart, ...] | None = None,
    ) -> torch.Tensor:
        """
        Writes maps to the cache: `model_input` `(B, S, c)` of the tokens `token_ids` `(S, 5)`. Several maps need a
        mask.

        Returns:
            `torch.Tensor` of shape `(B or 2B, S, d)`: Logits of all branches.
        """
        model_input, conditions, drop_mask = self._for_both_branches(model_input, conditions)
        return self.transformer(
            model_input,
            token_ids,
            attention_mask=attention_mask,
            kv_cache=kv_cache,
            rotary_embedding=rotary_tables,
            frame_conditions=conditions,
            condition_drop_mask=drop_mask,
            attention_kwargs=self.attention_kwargs,
            return_dict=False,
        )[0]

    def _blocks(self, token_ids: torch.Tensor) -> torch.Tensor:
        return token_blocks(token_ids, len(self.scale_schedule))

    def _for_both_branches(
        self, model_input: torch.Tensor, conditions: FrameConditions | None
    ) -> tuple[torch.Tensor, FrameConditions | None, torch.Tensor | None]:
        """Inputs and conditions, twice where there is an unconditional branch, and which samples drop their conditions."""
        if not self.text.has_unconditional_branch:
            return model_input, conditions, None
        drop_mask = None
        if conditions:
            conditions = {name: torch.cat([condition, condition]) for name, condition in conditions.items()}
            positions = torch.arange(2 * len(model_input), device=model_input.device)
            drop_mask = positions >= len(model_input)
        return torch.cat([model_input, model_input]), conditions, drop_mask

    # 3. Sampling

    def sample_frame(
        self,
        conditions: FrameConditions | None = None,
        on_step_end: Callable[[SamplingStep, torch.Tensor], torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """
        Samples the next latent frame, scale by scale (VideoAR section 4.2), with the rounds of refinement of the options.

        Args:
            conditions (`dict[str, torch.Tensor]`, *optional*): Of this frame, each `(B, c)`.
            on_step_end (`Callable`, *optional*):
                Called as `on_step_end(step, frame_sum)` after every map; what it returns goes on as the sum.

        Returns:
            `torch.Tensor` of shape `(B, d, H', W')`: The latent frame, float32.
        """
        conditions = conditions and {name: condition[:, None] for name, condition in conditions.items()}
        if self._refiner is not None and self.frame > 0:
            self._refiner.follow(self.previous_frame[:, :, None])
        self.transformer.begin_frame(self.kv_cache)
        tokens = self._frame_tokens()
        steps = self.scheduler.frame_steps(self.frame, self.scale_schedule, self.options.refinements)
        self.frame_sum = torch.zeros_like(self.frame_sum)
        self.is_frame_complete = False

        for step, noise in zip(steps, self._draw_noise(steps)):
            if step.begins_round:
                self.frame_sum = self._begin_round(step, tokens, noise, conditions)
            else:
                self.frame_sum = self._run(
                    ("sample", step.scale),
                    functools.partial(self._sample_map, self.kv_cache, step),
                    *(self.frame_sum, self.previous_frame, *tokens.of_map[step.scale]),
                    *(noise, self._guidance_at(step), conditions),
                )
            self.is_frame_complete = step is steps[-1]
            if on_step_end is not None:
                self.frame_sum = on_step_end(step, self.frame_sum)
            if self.is_stopped:
                break

        self.previous_frame = self.frame_sum
        self.frame += 1
        self.num_sampled_frames += 1
        return self.frame_sum

    @property
    def wants_pixels(self) -> bool:
        """Whether [`hand_on`] spares the next frame a decoding."""
        return self._refiner is not None

    def hand_on(self, pixels: torch.Tensor, decoder_state: AutoencoderVideoARState) -> None:
        """
        What the last latent frame was decoded to. The rounds of refinement of the next one begin with it; without, they decode it.

        Args:
            pixels (`torch.Tensor` of shape `(B, 3, F, H, W)`): Pixel frames of this latent frame, in [-1, 1].
            decoder_state ([`AutoencoderVideoARState`]): The decoder's state after it.
        """
        if self._refiner is not None:
            self._refiner.hand_on(pixels, decoder_state)

    def _frame_tokens(self) -> _FrameTokens:
        num_tokens = len(self._first_frame_ids)
        ids = self._first_frame_ids.clone()
        ids[:, FRAME] += self.frame
        ids[:, INDEX] += self.frame * num_tokens
        sizes = [height * width for height, width in self.scale_schedule]
        tables = self.transformer.rotary_embedding(ids)
        # Copies, since compiled blocks would be compiled anew for every shape of what a view looks at.
        tables_of_map = zip(*(torch.split_with_sizes_copy(table, sizes, dim=1) for table in tables))
        return _FrameTokens(ids, tables, list(zip(ids.split(sizes), tables_of_map)))

    def _draw_noise(self, steps: list[SamplingStep]) -> tuple[torch.Tensor, ...]:
        """Uniform noise of one frame, `(B, h_k * w_k, d)` for each step."""
        sizes = [step.num_tokens for step in steps]
        batch_size, num_bits = self.frame_sum.shape[:2]
        device = self.frame_sum.device
        if self.noise is None:
            noise = draw_uniform_noise((batch_size, sum(sizes), num_bits), self.generator, device)
        else:
            noise = self.noise[:, self.num_sampled_frames].to(device)
        return noise.split(sizes, dim=1)

    def _guidance_at(self, step: SamplingStep) -> float | None:
        """`None` without the unconditional branch."""
        if not self.text.has_unconditional_branch:
            return None
        num_frames = self.num_frames or self.transformer.config.sample_frames
        return self.scheduler.guidance_at(step, num_frames, len(self.scale_schedule), self.guidance_scale)

    def _run(self, key: tuple, function: Callable[..., torch.Tensor], *inputs: Any) -> torch.Tensor:
        return self.runner.run(self.kv_cache, (key, self._settings), function, *inputs)

    def _sample_map(
        self,
        kv_cache: VideoARKVCache,
        step: SamplingStep,
        frame_sum: torch.Tensor,
        previous_frame: torch.Tensor,
        token_ids: torch.Tensor,
        rotary_tables: tuple[torch.Tensor, torch.Tensor],
        noise: torch.Tensor,
        guidance: float | torch.Tensor | None,
        conditions: FrameConditions | None,
    ) -> torch.Tensor:
        """
        The sum `(B, d, H', W')` with one more map. All that differs between frames is a tensor, so that a CUDA graph can record it:
        of `step` only scale and grid matter.
        """
        model_input = self.scheduler.scale_model_input(frame_sum, step, previous_frame)
        logits = self._predict(kv_cache, model_input, token_ids, rotary_tables, conditions)
        return self._add_map(step, logits, frame_sum, noise, guidance)

    def _add_map(
        self,
        step: SamplingStep,
        logits: torch.Tensor,
        frame_sum: torch.Tensor,
        noise: torch.Tensor,
        guidance: float | torch.Tensor | None,
    ) -> torch.Tensor:
        """The sum with a map sampled from the logits `(B or 2B, h_k * w_k, d)` of all branches."""
        logits = logits.float()
        if guidance is not None:
            conditional, unconditional = logits.chunk(2)
            logits = unconditional + guidance * (conditional - unconditional)
        return self.scheduler.step(logits, step, frame_sum, noise=noise, options=self.options, return_dict=False)[0]

    # 4. Refinement

    def _begin_round(
        self, step: SamplingStep, tokens: _FrameTokens, noise: torch.Tensor, conditions: FrameConditions | None
    ) -> torch.Tensor:
        """
        The first step of a round of refinement. One pass writes the coarser maps of the encoded frame to the cache, in place of the
        old ones, and samples the map after them; to the sum `(B, d, H', W')` with this map.
        """
        features = self._refiner.features_of(self.frame_sum)
        self.kv_cache.rewind(len(tokens.ids))
        end = sum(height * width for height, width in self.scale_schedule[: step.scale + 1])
        return self._run(
            ("return", step.scale),
            functools.partial(self._keep_and_sample, self.kv_cache, step),
            *(features, self.previous_frame, tokens.ids[:end]),
            *(tuple(table[:, :end].clone() for table in tokens.rotary_tables),),
            *(noise, self._guidance_at(step), conditions),
        )

    def _keep_and_sample(
        self,
        kv_cache: VideoARKVCache,
        step: SamplingStep,
        features: torch.Tensor,
        previous_frame: torch.Tensor,
        token_ids: torch.Tensor,
        rotary_tables: tuple[torch.Tensor, torch.Tensor],
        noise: torch.Tensor,
        guidance: float | torch.Tensor | None,
        conditions: FrameConditions | None,
    ) -> torch.Tensor:
        """As [`_sample_map`], of all maps up to the step's: the coarser ones are those of `features` `(B, d, H', W')`."""
        kept_input, frame_sum = self._refiner.coarser_maps(step, features, previous_frame)
        sampled_input = self.scheduler.scale_model_input(frame_sum, step, previous_frame)
        model_input = torch.cat([kept_input, sampled_input], dim=1)
        mask = kv_cache.round_attention_parts(self._blocks(token_ids), step.num_tokens)
        logits = self._predict(kv_cache, model_input, token_ids, rotary_tables, conditions, mask)
        return self._add_map(step, logits[:, -step.num_tokens :], frame_sum, noise, guidance)
