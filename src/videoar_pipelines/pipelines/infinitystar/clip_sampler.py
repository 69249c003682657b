# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
The state of one InfinityStar video (or batch) in the making, and how it goes on by a clip. Nothing here knows of pixels, prompts as
words, or progress bars.

Letters used in shapes: `B` batch, `N` text tokens, `C` width of the text encoder, `T` latent frames of a clip, `c` channels of the
latents, `(H', W')` latent grid.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ...models.kv_cache_infinitystar import InfinityStarKVCache
from ...models.quantization import merge_frames, split_frames
from ...models.quantization_infinitystar import accumulate_pass, quantize_clip
from ...models.text_encoding import pad_text
from ...models.token_layout_infinitystar import InfinityStarPass
from ...models.transformer_infinitystar import InfinityStarTransformer3DModel
from ...schedulers.scheduling_infinitystar import (
    InfinityStarSamplingOptions,
    InfinityStarScheduler,
    draw_bit_noise,
)


@dataclass
class TextBranch:
    """
    The text of one guidance branch.

    Args:
        embeds (`torch.Tensor` of shape `(B, N, C)`): Text states.
        mask (`torch.Tensor` of shape `(B, N)`): Boolean, `False` at padding, which stands after the text.
    """

    embeds: torch.Tensor
    mask: torch.Tensor


@dataclass
class ClipSamplerState:
    """
    All that a video needs to go on after a clip, small enough to be saved: the cache is made again from it.

    Args:
        latents (`list[torch.Tensor]`): Of the finished clips, each `(B, c, T, H', W')`.
        last_sums (`list[torch.Tensor]`): The same clips before their last pass, which reads them.
        generator_states (`list[torch.Tensor]`): Of the generators, in the order of the batch; empty without generators.
    """

    latents: list[torch.Tensor]
    last_sums: list[torch.Tensor]
    generator_states: list[torch.Tensor]


class ClipSampler:
    """
    Samples clip after clip. The caches, the sum of the current clip and the number of the next clip are all its state.

    Args:
        transformer ([`InfinityStarTransformer3DModel`]): Predicts bits.
        scheduler ([`InfinityStarScheduler`]): Guides, samples and adds.
        clips (`list[tuple[InfinityStarPass, ...]]`): From the scheduler's `get_passes`.
        options ([`InfinityStarSamplingOptions`]): From the scheduler's `get_options`.
        branches (`list[TextBranch]`): The conditional one, and with guidance the unconditional one.
        generator (`torch.Generator` or `list[torch.Generator]`, *optional*): One, or one for each sample.
        sequential_guidance (`bool`, defaults to `False`):
            Whether the transformer runs the branches one after the other, with half the activations, instead of as one batch.
        attention_kwargs (`dict`, *optional*): Handed to the transformer.
    """

    def __init__(
        self,
        transformer: InfinityStarTransformer3DModel,
        scheduler: InfinityStarScheduler,
        clips: list[tuple[InfinityStarPass, ...]],
        options: InfinityStarSamplingOptions,
        branches: list[TextBranch],
        generator: torch.Generator | list[torch.Generator] | None = None,
        sequential_guidance: bool = False,
        attention_kwargs: dict | None = None,
    ):
        self.transformer = transformer
        self.scheduler = scheduler
        self.clips = clips
        self.options = options
        self.num_branches = len(branches)
        self.generator = generator
        self.attention_kwargs = attention_kwargs
        self.device = branches[0].embeds.device
        self.batch_size = len(branches[0].embeds)
        self.clip = 0  # number of the clip that comes next
        self.latents: torch.Tensor | None = None  # sum of the current clip, (B, c, T, H', W')
        self.finished: list[torch.Tensor] = []  # latents of the clips before
        self.last_sums: list[torch.Tensor] = []  # the same before their last pass
        groups = [[branch] for branch in branches] if sequential_guidance else [branches]
        self.caches = [self._write_text(group) for group in groups]

    def _write_text(self, branches: list[TextBranch]) -> InfinityStarKVCache:
        """A cache whose batch is that of the branches one after the other."""
        length = max(branch.embeds.shape[1] for branch in branches)
        dtype = branches[0].embeds.dtype
        padded = (pad_text(branch.embeds.to(dtype), branch.mask, length) for branch in branches)
        embeds, mask = map(torch.cat, zip(*padded))
        kv_cache = self.transformer.make_cache()
        self.transformer.encode_text(
            embeds, kv_cache, None if bool(mask.all()) else mask, attention_kwargs=self.attention_kwargs
        )
        return kv_cache

    @property
    def has_ended(self) -> bool:
        return self.clip == len(self.clips)

    # 1. A clip

    def sample_clip(self, on_pass_end: Callable[[InfinityStarPass], bool] | None = None) -> torch.Tensor | None:
        """
        Samples the next clip, pass by pass.

        Args:
            on_pass_end (`Callable`, *optional*): Called after every pass; may replace `latents`. `True` ends the clip early.

        Returns:
            `torch.Tensor` of shape `(B, c, T, H', W')`: The latents of the clip, float32; `None` if it ended early.
        """
        passes = self.clips[self.clip]
        self.latents = self._empty_clip(passes)
        for current_pass in passes:
            if current_pass.is_last_of_clip:
                last_sum = self.latents
            logits = self._logits(self.latents, current_pass)
            logits = self.scheduler.guide(*logits, current_pass, self.options)
            self.latents, _ = self.scheduler.step(
                logits, current_pass, self.latents, self.generator, return_dict=False
            )
            ends = on_pass_end is not None and on_pass_end(current_pass)
            if ends and not current_pass.is_last_of_clip:
                return None
        return self._finish_clip(self.latents, last_sum)

    def force_clip(self, features: torch.Tensor) -> torch.Tensor:
        """
        Takes the next clip as given. Of its passes only the last is seen again, so only that one runs, and none if no clip
        follows. The generator moves on as if all had been sampled, so that a later clip does not depend on what was skipped.

        Args:
            features (`torch.Tensor` of shape `(B, c, T, H', W')`): Before quantisation.

        Returns:
            `torch.Tensor` of shape `(B, c, T, H', W')`: The latents of the clip, quantised, float32.
        """
        passes = self.clips[self.clip]
        clip = quantize_clip(features, [item.bit_pass for item in passes])
        last_sum = merge_frames(self._empty_clip(passes))
        for current_pass, bits in zip(passes, clip.bits):
            if not current_pass.is_last_of_clip:
                last_sum = accumulate_pass(last_sum, bits.flatten(0, 1))
            shape = (self.batch_size, current_pass.num_tokens, current_pass.num_bits, 2)
            draw_bit_noise(shape, self.generator, self.device)
        last_sum = split_frames(last_sum, self.batch_size)
        self._run_last_pass(last_sum)
        return self._finish_clip(clip.latents, last_sum)

    def _empty_clip(self, passes: tuple[InfinityStarPass, ...]) -> torch.Tensor:
        num_channels = self.transformer.config.in_channels
        num_frames, height, width = passes[-1].grid
        return torch.zeros(self.batch_size, num_channels, num_frames, height, width, device=self.device)

    def _finish_clip(self, latents: torch.Tensor, last_sum: torch.Tensor) -> torch.Tensor:
        self.finished.append(latents)
        self.last_sums.append(last_sum)
        self.clip += 1
        return latents

    def _run_last_pass(self, last_sum: torch.Tensor) -> None:
        """Writes the last pass of the current clip to the cache, if a clip follows."""
        if self.clip + 1 < len(self.clips):
            self._logits(last_sum, self.clips[self.clip][-1])

    def _logits(
        self, latents: torch.Tensor, current_pass: InfinityStarPass
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Logits `(B, L, d, 2)` of the conditional branch and of the other one, `None` without guidance."""
        model_input = self.scheduler.scale_model_input(latents, current_pass)  # (B, L, c)
        branches_together = self.num_branches // len(self.caches)
        is_seen_again = current_pass.is_last_of_clip and current_pass.clip + 1 < len(self.clips)
        logits = []
        for kv_cache in self.caches:
            output = self.transformer(
                torch.cat([model_input] * branches_together),
                [current_pass],
                kv_cache=kv_cache,
                keep_map=is_seen_again,
                attention_kwargs=self.attention_kwargs,
                return_dict=False,
            )[0]
            logits.extend(output[0].chunk(branches_together))
        return logits[0], logits[1] if self.num_branches == 2 else None

    # 2. Going on later

    def state(self) -> ClipSamplerState:
        """What [`restore`] needs. To be asked for between two clips, after the first."""
        return ClipSamplerState(
            latents=list(self.finished),
            last_sums=list(self.last_sums),
            generator_states=[generator.get_state() for generator in self._generators],
        )

    def restore(self, state: ClipSamplerState) -> list[torch.Tensor]:
        """
        Goes on where another sampler of the same video stopped, with the same bits: runs the last pass of every clip, of which the
        next clip sees that of the last one, and sets the generators.

        Returns:
            `list[torch.Tensor]`: Latents `(B, c, T, H', W')` of the clips that are finished.
        """
        for latents, last_sum in zip(state.latents, state.last_sums):
            last_sum = last_sum.to(self.device)
            self._run_last_pass(last_sum)
            self._finish_clip(latents.to(self.device), last_sum)
        for generator, generator_state in zip(self._generators, state.generator_states):
            generator.set_state(generator_state)
        return list(self.finished)

    @property
    def _generators(self) -> list[torch.Generator]:
        if self.generator is None:
            return []
        return self.generator if isinstance(self.generator, list) else [self.generator]
