# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
The scheduler of InfinityStar: which passes a video has, how guidance joins the logits of the two branches, and how bits are drawn
and added up. It holds nothing of a video.

Letters used in shapes: `B` batch, `T` latent frames of a clip, `(h, w)` grid of a pass, `L = T * h * w` its tokens, `d` bits of a
token, `c` channels of the latents, `(H', W')` latent grid.
"""

from dataclasses import dataclass, replace

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput

from ..hub.mixins import HubCardMixin
from ..models.quantization import ScaleSchedule, check_scale_schedule, merge_frames, split_frames
from ..models.quantization_infinitystar import accumulate_pass, clip_lengths, make_passes, pass_inputs
from ..models.token_layout_infinitystar import InfinityStarPass


GUIDANCE_TYPES = ("projected", "plain")

# The published grids (height, width), wide or square; a tall one is the mirror image. A model uses the first 14 (480p) or all 15
# (720p) of a row, and the last of those is its latent grid.
GRIDS = (
    ((1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6), (7, 7), (8, 8), (10, 10), (12, 12), (16, 16), (24, 24), (32, 32))
    + ((40, 40), (60, 60)),
    ((1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6), (6, 8), (7, 9), (9, 11), (11, 13), (15, 17), (22, 26), (30, 34))
    + ((37, 43), (56, 65)),
    ((1, 1), (2, 2), (3, 3), (3, 5), (4, 6), (5, 7), (6, 8), (7, 9), (9, 12), (10, 14), (14, 18), (21, 28), (28, 37))
    + ((35, 46), (52, 69)),
    ((1, 1), (2, 2), (2, 4), (3, 5), (4, 6), (5, 7), (6, 9), (7, 10), (8, 12), (10, 15), (13, 20), (20, 29), (26, 39))
    + ((33, 49), (49, 73)),
    ((1, 1), (2, 3), (2, 4), (3, 5), (4, 7), (4, 8), (5, 9), (6, 11), (8, 13), (9, 16), (12, 21), (18, 32), (24, 43))
    + ((30, 53), (45, 80)),
    ((1, 1), (1, 3), (2, 4), (3, 6), (4, 7), (4, 8), (5, 10), (6, 11), (7, 14), (8, 17), (11, 23), (17, 34), (23, 45))
    + ((28, 57), (42, 85)),
    ((1, 2), (1, 3), (2, 5), (3, 6), (3, 8), (4, 9), (4, 11), (5, 13), (6, 16), (8, 19), (10, 25), (15, 38), (20, 51))
    + ((25, 63), (38, 95)),
    ((1, 2), (1, 3), (2, 5), (2, 7), (3, 9), (3, 10), (4, 12), (5, 14), (6, 17), (7, 21), (9, 28), (14, 42), (18, 55))
    + ((23, 69), (35, 104)),
)

# What the public models differ in. Both are published as 480p and 720p.
PRESETS = {
    "480p": {
        "num_scales": 14,
        "image_repetitions": [3] * 14,
        "video_repetitions": [3] * 12 + [2, 1],
        "min_detail_tokens": 350,
    },
    "720p": {
        "num_scales": 15,
        "image_repetitions": [3] * 15,
        "video_repetitions": [3] * 12 + [2, 1, 1],
        "min_detail_tokens": 750,
    },
}


@dataclass(frozen=True)
class InfinityStarSamplingOptions:
    """
    How the bits of one video are drawn; made by [`InfinityStarScheduler.get_options`].

    Args:
        guidance_scale (`float`): 1 is off; then there is no unconditional branch.
        guidance_type (`str`): `"projected"` or `"plain"`.
        image_temperature (`float`): Divides the logits of the first frame.
        video_temperature (`float`): Divides the logits of every later clip.
    """

    guidance_scale: float
    guidance_type: str
    image_temperature: float
    video_temperature: float

    @property
    def has_guidance(self) -> bool:
        return self.guidance_scale != 1


@dataclass
class InfinityStarSchedulerOutput(BaseOutput):
    """
    Args:
        prev_sample (`torch.Tensor` of shape `(B, c, T, H', W')`): Sum of the passes of the clip, the new one included; float32.
        bits (`torch.Tensor` of shape `(B, T, h, w, d)`): The sampled pass, boolean.
    """

    prev_sample: torch.Tensor
    bits: torch.Tensor


def draw_bit_noise(
    shape: tuple[int, ...],
    generator: torch.Generator | list[torch.Generator] | None = None,
    device: torch.device | str | None = None,
) -> torch.Tensor:
    """
    Exponentially distributed noise of mean 1, float32: two numbers for every bit, `shape` is `(B, L, d, 2)`. With a list of
    generators every sample of the batch has its own, so that it does not depend on its neighbours. Numbers are drawn on the
    generator's device and moved to `device`.

    Raises:
        `ValueError`: The list of generators is not as long as the batch.
    """
    if isinstance(generator, list):
        if len(generator) != shape[0]:
            raise ValueError(
                f"`generator` is a list of {len(generator)} for a batch of {shape[0]}. Pass one generator, or a list of "
                f"{shape[0]}."
            )
        return torch.cat([draw_bit_noise((1, *shape[1:]), item, device) for item in generator])
    source = device if generator is None else generator.device
    noise = torch.empty(shape, device=source).exponential_(generator=generator)
    # From the CPU, the copy does not wait for the work that the GPU still has to do.
    return noise.to(device, non_blocking=noise.device.type == "cpu")


def projected_guidance(
    conditional: torch.Tensor,
    unconditional: torch.Tensor,
    guidance_scale: float,
    cap: float | None = None,
    eta: float = 0.0,
) -> torch.Tensor:
    """
    Adaptive projected guidance. The difference of the branches is scaled down where its root mean square over the whole pass
    exceeds `cap`; of its part along the conditional logits, a share of `eta` is kept; the rest is added `guidance_scale - 1`
    times. (diffusers' `AdaptiveProjectedGuidance` caps the norm instead, which grows with the size of the pass.)

    Args:
        conditional (`torch.Tensor` of shape `(B, ...)`): Logits; everything but the batch is one vector.
        unconditional (`torch.Tensor` of shape `(B, ...)`): Logits.
        guidance_scale (`float`): 1 gives the conditional logits.
        cap (`float`, *optional*): Largest root mean square; `None` for no limit.
        eta (`float`, defaults to 0): In `[0, 1]`.

    Returns:
        `torch.Tensor` of shape `(B, ...)`: In the dtype of the input.
    """
    axes = tuple(range(1, conditional.ndim))
    difference = conditional - unconditional
    if cap is not None:
        root_mean_square = difference.square().mean(dim=axes, keepdim=True).sqrt()
        difference = difference * (cap / root_mean_square).clamp(max=1)
    # Two vectors of millions of numbers: in float32 their product would be off in the fourth digit.
    direction, wide = conditional.double(), difference.double()
    direction = direction / direction.square().sum(dim=axes, keepdim=True).sqrt().clamp(min=1e-12)
    parallel = (wide * direction).sum(dim=axes, keepdim=True) * direction
    update = wide - parallel + eta * parallel
    return conditional + (guidance_scale - 1) * update.to(conditional.dtype)


class InfinityStarScheduler(HubCardMixin, SchedulerMixin, ConfigMixin):
    """
    Owns the passes, guidance, and the sampling of bits. The defaults are the public 480p model; see `PRESETS`.

    Args:
        scale_schedules (`dict[str, list]`, *optional*):
            Grids by latent grid, `{"30x53": [[1, 1], [2, 3], ...]}`. Other sizes are refused. `None` stands for the published
            fifteen aspect ratios.
        num_scales (`int`, defaults to 14): How many of the published grids are used; only without `scale_schedules`.
        image_repetitions (`list[int]`, *optional*): How often each scale of the first frame is predicted. Three times if `None`.
        video_repetitions (`list[int]`, *optional*):
            The same for every later clip. If `None` three times, but twice for scale 12, and once for every finer one.
        latents_per_clip (`int`, defaults to 20): Latent frames of a clip after the first frame.
        min_detail_tokens (`int`, defaults to 350): From this number of tokens a frame on, a scale has `detail_bits`.
        semantic_bits (`int`, defaults to 16): Bits of a token of a coarse scale.
        detail_bits (`int`, defaults to 64): Bits of a token of a fine scale.
        guidance_scale (`float`, defaults to 34): Guidance when the caller names none.
        guidance_type (`str`, defaults to `"projected"`): `"projected"` or `"plain"` (for which 3 is a usual scale).
        guidance_cap (`float`, *optional*, defaults to 0.05): Of projected guidance, see [`projected_guidance`].
        guidance_eta (`float`, defaults to 0): Of projected guidance.
        image_temperature (`float`, defaults to 1.0): Divides the logits of the first frame, before guidance.
        video_temperature (`float`, defaults to 0.4): Divides the logits of every later clip.
    """

    order = 1

    @register_to_config
    def __init__(
        self,
        scale_schedules: dict[str, list] | None = None,
        num_scales: int = 14,
        image_repetitions: list[int] | None = None,
        video_repetitions: list[int] | None = None,
        latents_per_clip: int = 20,
        min_detail_tokens: int = 350,
        semantic_bits: int = 16,
        detail_bits: int = 64,
        guidance_scale: float = 34.0,
        guidance_type: str = "projected",
        guidance_cap: float | None = 0.05,
        guidance_eta: float = 0.0,
        image_temperature: float = 1.0,
        video_temperature: float = 0.4,
    ):
        if not 1 <= num_scales <= len(GRIDS[0]):
            raise ValueError(f"`num_scales` has to be between 1 and {len(GRIDS[0])}, got {num_scales}.")
        if guidance_cap is not None and not guidance_cap > 0:
            raise ValueError(f"`guidance_cap` has to be above 0, or `None` for no limit, got {guidance_cap}.")
        self.get_options()

    # 1. Passes

    @property
    def latent_grids(self) -> list[tuple[int, int]]:
        """Every latent grid `(H', W')` that has a schedule, wide ones first."""
        if self.config.scale_schedules is not None:
            return [tuple(int(side) for side in key.split("x")) for key in self.config.scale_schedules]
        wide = [grids[self.config.num_scales - 1] for grids in GRIDS]
        tall = [(width, height) for height, width in wide if height != width]
        return wide[::-1] + tall

    def get_scale_schedule(self, latent_height: int, latent_width: int) -> ScaleSchedule:
        """
        The grids of a latent grid, coarse to fine.

        Raises:
            `ValueError`: The configuration has none for this size.
        """
        if self.config.scale_schedules is not None:
            schedule = self.config.scale_schedules.get(f"{latent_height}x{latent_width}")
            if schedule is not None:
                return check_scale_schedule(schedule, latent_height, latent_width)
        else:
            for grids in GRIDS:
                for schedule in (grids, tuple((width, height) for height, width in grids)):
                    if schedule[self.config.num_scales - 1] == (latent_height, latent_width):
                        return schedule[: self.config.num_scales]
        known = ", ".join(f"{height}x{width}" for height, width in self.latent_grids)
        raise ValueError(
            f"There is no scale schedule for the latent grid {latent_height}x{latent_width}. Those of this scheduler are: {known}."
        )

    def get_passes(
        self, num_latent_frames: int, latent_height: int, latent_width: int
    ) -> list[tuple[InfinityStarPass, ...]]:
        """
        The passes of a video.

        Args:
            num_latent_frames (`int`): Latent frames of the video.
            latent_height (`int`): `H'`.
            latent_width (`int`): `W'`.

        Returns:
            `list[tuple[InfinityStarPass, ...]]`: For every clip, its passes in order. The first clip is the first latent frame; the
            last one may be shorter than the others.

        Raises:
            `ValueError`: There is no schedule for this size, or repetitions for another number of scales.
        """
        schedule = self.get_scale_schedule(latent_height, latent_width)
        clips, step, first_frame = [], 0, 0
        for clip, num_frames in enumerate(clip_lengths(num_latent_frames, self.config.latents_per_clip)):
            repetitions = self._repetitions(len(schedule), is_image=clip == 0)
            scales = make_passes(
                schedule,
                [1] * len(schedule),
                self.config.min_detail_tokens,
                self.config.semantic_bits,
                self.config.detail_bits,
            )
            passes = []
            for scale, (height, width, num_bits) in enumerate(scales):
                for repetition in range(repetitions[scale]):
                    is_last = scale == len(scales) - 1 and repetition == repetitions[scale] - 1
                    grid = (num_frames, height, width)
                    passes.append(
                        InfinityStarPass(
                            clip, scale, repetition, step, first_frame, grid, schedule[-1], num_bits, is_last
                        )
                    )
                    step += 1
            clips.append(tuple(passes))
            first_frame += num_frames
        return clips

    def _repetitions(self, num_scales: int, is_image: bool) -> list[int]:
        name = "image_repetitions" if is_image else "video_repetitions"
        repetitions = self.config[name]
        if repetitions is None:
            return [3 if is_image or scale < 12 else 2 if scale == 12 else 1 for scale in range(num_scales)]
        if len(repetitions) != num_scales or min(repetitions) < 1:
            raise ValueError(
                f"`{name}` has to be {num_scales} positive numbers, one for each scale, got {list(repetitions)}."
            )
        return repetitions

    # 2. Guidance

    def get_options(
        self,
        guidance_scale: float | None = None,
        guidance_type: str | None = None,
        image_temperature: float | None = None,
        video_temperature: float | None = None,
    ) -> InfinityStarSamplingOptions:
        """
        The options of one video: those that are given, and the configuration's for the others.

        Raises:
            `ValueError`: An option is out of range.
        """
        options = InfinityStarSamplingOptions(
            guidance_scale=self.config.guidance_scale,
            guidance_type=self.config.guidance_type,
            image_temperature=self.config.image_temperature,
            video_temperature=self.config.video_temperature,
        )
        given = {
            "guidance_scale": guidance_scale,
            "guidance_type": guidance_type,
            "image_temperature": image_temperature,
            "video_temperature": video_temperature,
        }
        options = replace(options, **{name: value for name, value in given.items() if value is not None})
        if options.guidance_type not in GUIDANCE_TYPES:
            raise ValueError(f"`guidance_type` must be one of {GUIDANCE_TYPES}, got {options.guidance_type!r}.")
        if options.guidance_scale < 1:
            raise ValueError(f"`guidance_scale` has to be at least 1 (off), got {options.guidance_scale}.")
        for name in ("image_temperature", "video_temperature"):
            if not getattr(options, name) > 0:
                raise ValueError(
                    f"`{name}` has to be above 0, got {getattr(options, name)}. Pass a small one to sample what is likeliest."
                )
        return options

    def guide(
        self,
        conditional: torch.Tensor,
        unconditional: torch.Tensor | None,
        current_pass: InfinityStarPass,
        options: InfinityStarSamplingOptions,
    ) -> torch.Tensor:
        """
        Divides the logits by the temperature of the clip, then joins the branches.

        Args:
            conditional (`torch.Tensor` of shape `(B, L, d, 2)`): Logits of bit 0 and bit 1.
            unconditional (`torch.Tensor` of shape `(B, L, d, 2)`, *optional*): `None` without guidance.
            current_pass ([`InfinityStarPass`]): The pass.
            options ([`InfinityStarSamplingOptions`]): Guidance and temperatures.

        Returns:
            `torch.Tensor` of shape `(B, L, d, 2)`: What is sampled.
        """
        temperature = options.image_temperature if current_pass.clip == 0 else options.video_temperature
        conditional = conditional * (1 / temperature)
        if unconditional is None:
            return conditional
        unconditional = unconditional * (1 / temperature)
        if options.guidance_type == "plain":
            return unconditional + options.guidance_scale * (conditional - unconditional)
        return projected_guidance(
            conditional, unconditional, options.guidance_scale, self.config.guidance_cap, self.config.guidance_eta
        )

    # 3. Sampling

    def scale_model_input(self, sample: torch.Tensor, current_pass: InfinityStarPass) -> torch.Tensor:
        """
        What the transformer reads at a pass.

        Args:
            sample (`torch.Tensor` of shape `(B, c, T, H', W')`): Sum of the clip's passes so far, zeros before the first.
            current_pass ([`InfinityStarPass`]): The pass.

        Returns:
            `torch.Tensor` of shape `(B, L, c)`: Float32.
        """
        inputs = pass_inputs(merge_frames(sample), current_pass.grid[1:])  # (B * T, h * w, c)
        return inputs.unflatten(0, (len(sample), -1)).flatten(1, 2)

    def sample_bits(self, logits: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """
        Draws bits by the race of two exponential clocks: the value whose probability over noise is larger. On a CPU, these are the
        numbers that `torch.multinomial` draws.

        Args:
            logits (`torch.Tensor` of shape `(..., 2)`): Logits of bit 0 and bit 1.
            noise (`torch.Tensor` of shape `(..., 2)`): From [`draw_bit_noise`].

        Returns:
            `torch.Tensor` of shape `(...)`: Boolean.
        """
        zero, one = (logits.float().softmax(dim=-1) / noise).unbind(dim=-1)
        return one > zero

    def step(
        self,
        model_output: torch.Tensor,
        current_pass: InfinityStarPass,
        sample: torch.Tensor,
        generator: torch.Generator | list[torch.Generator] | None = None,
        noise: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> InfinityStarSchedulerOutput | tuple[torch.Tensor, torch.Tensor]:
        """
        Samples one pass and adds it to its clip.

        Args:
            model_output (`torch.Tensor` of shape `(B, L, d, 2)`): Logits, from [`guide`].
            current_pass ([`InfinityStarPass`]): The pass.
            sample (`torch.Tensor` of shape `(B, c, T, H', W')`): Sum of the clip's passes so far, zeros before the first.
            generator (`torch.Generator` or `list[torch.Generator]`, *optional*): One, or one for each sample.
            noise (`torch.Tensor` of shape `(B, L, d, 2)`, *optional*): From [`draw_bit_noise`], instead of `generator`.
            return_dict (`bool`, defaults to `True`): Whether to return an output object instead of a tuple.

        Returns:
            [`InfinityStarSchedulerOutput`] or `tuple`
        """
        if noise is None:
            noise = draw_bit_noise(tuple(model_output.shape), generator, model_output.device)
        bits = self.sample_bits(model_output, noise).unflatten(1, current_pass.grid)  # (B, T, h, w, d)
        prev_sample = split_frames(accumulate_pass(merge_frames(sample), bits.flatten(0, 1)), len(sample))
        if not return_dict:
            return (prev_sample, bits)
        return InfinityStarSchedulerOutput(prev_sample=prev_sample, bits=bits)
