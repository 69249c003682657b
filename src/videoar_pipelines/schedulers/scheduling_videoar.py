# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
The scheduler of next-frame, next-scale generation. Where a diffusion scheduler walks over noise levels, this one walks over
(latent frame, scale) pairs. It says which steps a frame has and how much guidance each gets, and samples and accumulates bits; it
holds nothing of a video, so that any number of videos share one.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput

from ..hub.mixins import HubCardMixin
from ..models.config_checks import check_kinds, check_numbers, check_positive_integers, is_integer, is_number
from ..models.quantization import (
    MultiScaleMaps,
    ScaleSchedule,
    accumulate,
    check_scale_schedule,
    default_scale_schedule,
    features_to_maps,
    map_inputs,
    sequence_inputs,
)


GUIDANCE_SCHEDULES = ("constant", "rising", "falling")
GUIDANCE_PROGRESSES = ("mean", "product", "maximum")
PREVIOUS_FRAME_CONTEXTS = ("first_scale", "all_scales")
PREVIOUS_FRAME_RESAMPLINGS = ("bilinear", "area")
CORRUPTION_DRAWS = ("map", "frame")


@dataclass(frozen=True)
class SamplingOptions:
    """
    How one video is sampled. Made by [`VideoARScheduler.sampling_options`], which fills in what the caller leaves open.

    Args:
        guidance_scale (`float`): Largest value of the guidance schedule; at 1 or below guidance is off.
        temperature (`float` or `tuple[float, ...]`):
            Divides the logits; one value, or one for each scale, the last for all finer ones. 0 is greedy.
        top_p (`float`): A bit whose likelier value has at least this probability takes that value.
        refinements (`tuple[int, ...]`): Finest maps that each round of refinement samples again; empty for none.
    """

    guidance_scale: float
    temperature: float | tuple[float, ...]
    top_p: float
    refinements: tuple[int, ...]


@dataclass(frozen=True)
class SamplingStep:
    """
    One map to sample.

    Args:
        frame (`int`): Latent frame `t`.
        scale (`int`): Scale `k`.
        grid (`tuple[int, int]`): `(h_k, w_k)`.
        begins_round (`bool`): Whether a round of refinement begins with this step.
    """

    frame: int
    scale: int
    grid: tuple[int, int]
    begins_round: bool = False

    @property
    def num_tokens(self) -> int:
        return self.grid[0] * self.grid[1]


@dataclass
class VideoARSchedulerOutput(BaseOutput):
    """
    Args:
        prev_sample (`torch.Tensor` of shape `(B, d, H', W')`): Sum of the maps of the frame, the new one included; float32.
        bits (`torch.Tensor` of shape `(B, h_k, w_k, d)`): The sampled map, boolean.
    """

    prev_sample: torch.Tensor
    bits: torch.Tensor


def draw_uniform_noise(
    shape: tuple[int, ...],
    generator: torch.Generator | list[torch.Generator] | None = None,
    device: torch.device | str | None = None,
) -> torch.Tensor:
    """
    Uniform noise in `[0, 1)`, float32. With a list of generators every sample of the batch has its own, so that it does not
    depend on its neighbours. Numbers are drawn on the generator's device and moved to `device`.

    Raises:
        `ValueError`: The list of generators is not as long as the batch.
    """
    if isinstance(generator, list):
        if len(generator) != shape[0]:
            raise ValueError(
                f"`generator` is a list of {len(generator)} for a batch of {shape[0]}. Pass one generator, or a list of "
                f"{shape[0]}."
            )
        return torch.cat([draw_uniform_noise((1, *shape[1:]), item, device) for item in generator])
    source = device if generator is None else generator.device
    noise = torch.rand(shape, generator=generator, device=source)
    # From the CPU, the copy does not wait for the work that the GPU still has to do.
    return noise.to(device, non_blocking=noise.device.type == "cpu")


def check_sampling_values(guidance_scale: float, temperature: float | Sequence[float], top_p: float) -> None:
    """
    Raises:
        `ValueError`: A value has no meaning; the message names the argument, its value and what would work.
    """

    if not is_number(guidance_scale):
        raise ValueError(f"`guidance_scale` has to be a finite number (1 or below is off), got {guidance_scale!r}.")
    temperatures = temperature if isinstance(temperature, (list, tuple)) else [temperature]
    if not temperatures or not all(is_number(value) and value >= 0 for value in temperatures):
        raise ValueError(f"`temperature` has to be at least 0 (greedy), got {temperature}.")
    if not is_number(top_p) or not 0 < top_p <= 1:
        raise ValueError(f"`top_p` has to be above 0 and at most 1 (off), got {top_p!r}.")


class VideoARScheduler(HubCardMixin, SchedulerMixin, ConfigMixin):
    """
    Owns the scale schedules, the guidance schedule, the sampling of bits, and for training the corruption of
    Cross-Frame Error Correction.

    Args:
        scale_schedules (`dict[str, list]`, *optional*):
            Scale schedule by latent grid, `{"8x8": [[1, 1], [2, 2], ...]}`. Grids that are not in the table get
            `quantization.default_scale_schedule`.
        previous_frame_context (`str`, defaults to `"first_scale"`):
            Which maps read the previous frame, see `quantization.map_inputs`. `"first_scale"` is the paper.
        previous_frame_resampling (`str`, defaults to `"bilinear"`):
            What brings the previous frame down to a map's grid, `"bilinear"` or `"area"`, see `quantization.map_inputs`. The paper
            does not say.
        guidance_scale (`float`, defaults to 5.0): Guidance that the pipeline uses when the caller names none.
        guidance_schedule (`str`, defaults to `"falling"`):
            `"constant"`; `"falling"`, the paper's for text-to-video: from `guidance_scale` down to `guidance_end` of it (but at
            least 1), along frames and scales alike (5 to 3); `"rising"`, the paper's for UCF-101: at the first scale from 1 to
            `guidance_first_scale` of `guidance_scale` (but at least 1) over the frames, and within each frame up to
            `guidance_scale` (1 to 5, then up to 10).
        guidance_end (`float`, defaults to 0.6): With `"falling"`, the share of `guidance_scale` that the last step gets.
        guidance_progress (`str`, defaults to `"mean"`):
            With `"falling"`, how the progress over frames and that over scales become one: `"mean"`, `"product"` or `"maximum"`.
            The paper says that guidance falls along both.
        guidance_first_scale (`float`, defaults to 0.5):
            With `"rising"`, the share of `guidance_scale` that the first scale of the last frame gets.
        temperature (`float` or `list[float]`, defaults to 1.0): See [`SamplingOptions`].
        top_p (`float`, defaults to 1.0): See [`SamplingOptions`].
        refinements (`list[int]`, *optional*):
            Rounds of refinement of every latent frame, each the number of finest maps that it samples again. Not in the paper. A
            round decodes the finished frame and encodes what it shows, as training encodes frames: the coarser maps are then those
            of a picture, and the finest are sampled once more, given these. Bits of a map are sampled independently of each
            other, so what they show may not fit together; every round gives the frame another chance to. None by default.
        corruption_min (`float`, defaults to 0.0): `p_min` of time-dependent corruption.
        corruption_max (`float`, defaults to 0.25): `p_max`.
        corruption_growth (`float`, defaults to 0.01): `delta`, added to both for every latent frame.
        corruption_min_growth (`float`, *optional*):
            Added to `p_min` instead of `corruption_growth`. The paper's equation 8 adds the same to both; its figure 3 keeps the
            lower bound at 0, which is 0 here (and `delta = 0.03`).
        corruption_drawn_per (`str`, defaults to `"map"`):
            `"map"`: every map has a flip probability of its own; `"frame"`: all maps of a frame share one. The paper does not say.
        error_inheritance (`bool`, defaults to `True`):
            Whether the first scale of a frame is corrupted at least as much as the last scale of the frame before; with
            `corruption_drawn_per="frame"`, the whole frame.
    """

    order = 1

    @register_to_config
    def __init__(
        self,
        scale_schedules: dict[str, list] | None = None,
        previous_frame_context: str = "first_scale",
        previous_frame_resampling: str = "bilinear",
        guidance_scale: float = 5.0,
        guidance_schedule: str = "falling",
        guidance_end: float = 0.6,
        guidance_progress: str = "mean",
        guidance_first_scale: float = 0.5,
        temperature: float | list[float] = 1.0,
        top_p: float = 1.0,
        refinements: list[int] | None = None,
        corruption_min: float = 0.0,
        corruption_max: float = 0.25,
        corruption_growth: float = 0.01,
        corruption_min_growth: float | None = None,
        corruption_drawn_per: str = "map",
        error_inheritance: bool = True,
    ):
        for name, value, choices in (
            ("previous_frame_context", previous_frame_context, PREVIOUS_FRAME_CONTEXTS),
            ("previous_frame_resampling", previous_frame_resampling, PREVIOUS_FRAME_RESAMPLINGS),
            ("corruption_drawn_per", corruption_drawn_per, CORRUPTION_DRAWS),
            ("guidance_schedule", guidance_schedule, GUIDANCE_SCHEDULES),
            ("guidance_progress", guidance_progress, GUIDANCE_PROGRESSES),
        ):
            if value not in choices:
                raise ValueError(f"`{name}` must be one of {choices}, got {value!r}.")
        check_sampling_values(guidance_scale, temperature, top_p)
        check_numbers(self.config, ["guidance_end", "guidance_first_scale"], 0, 1)
        check_numbers(self.config, ["corruption_min", "corruption_max", "corruption_growth"], 0, 100)  # cut off at 1
        if corruption_min_growth is not None:
            check_numbers(self.config, ["corruption_min_growth"], 0, 100)
        if corruption_min > corruption_max:
            raise ValueError(
                f"`corruption_min` is {corruption_min}, more than `corruption_max` = {corruption_max}: pass at most that."
            )
        check_kinds(self.config, ["error_inheritance"], bool)
        check_kinds(self.config, ["refinements"], list, tuple, type(None))
        check_positive_integers(self.config, ["refinements"])
        check_kinds(self.config, ["scale_schedules"], dict, type(None))
        for grid, schedule in (scale_schedules or {}).items():
            self._check_table_entry(grid, schedule)

    @staticmethod
    def _check_table_entry(grid: str, schedule: list) -> None:
        size = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", grid)
        if size is None:
            raise ValueError(f"`scale_schedules` must have grids such as '8x8' as keys, got {grid!r}.")
        is_grids = isinstance(schedule, (list, tuple)) and all(
            isinstance(item, (list, tuple)) and len(item) == 2 and all(is_integer(side) and side > 0 for side in item)
            for item in schedule
        )
        if not is_grids:
            raise ValueError(f"`scale_schedules[{grid!r}]` must be a list of [height, width], got {schedule!r}.")
        check_scale_schedule(schedule, int(size[1]), int(size[2]))

    # 1. Schedules

    def get_scale_schedule(self, latent_height: int, latent_width: int) -> ScaleSchedule:
        """The scale schedule of a latent grid: from the table of the configuration, else the default rule."""
        table = self.config.scale_schedules or {}
        schedule = table.get(f"{latent_height}x{latent_width}", default_scale_schedule(latent_height, latent_width))
        return check_scale_schedule(schedule, latent_height, latent_width)

    def sampling_options(
        self,
        guidance_scale: float | None = None,
        temperature: float | list[float] | None = None,
        top_p: float | None = None,
        refinements: Sequence[int] | None = None,
    ) -> SamplingOptions:
        """
        The options of one video; what is `None` is the configuration's.

        Args:
            guidance_scale (`float`, *optional*): See [`SamplingOptions`].
            temperature (`float` or `list[float]`, *optional*): See [`SamplingOptions`].
            top_p (`float`, *optional*): See [`SamplingOptions`].
            refinements (`list[int]`, *optional*): See [`SamplingOptions`].

        Raises:
            `ValueError`: A value has no meaning; whether `refinements` fit a schedule is only known with the schedule, see
                [`frame_steps`].
        """

        def given_or(value, default):
            return default if value is None else value

        config = self.config
        guidance_scale = given_or(guidance_scale, config.guidance_scale)
        temperature, top_p = given_or(temperature, config.temperature), given_or(top_p, config.top_p)
        check_sampling_values(guidance_scale, temperature, top_p)
        if isinstance(temperature, (list, tuple)):
            temperature = tuple(temperature)
        return SamplingOptions(
            guidance_scale, temperature, top_p, tuple(given_or(refinements, config.refinements or ()))
        )

    def frame_steps(
        self, frame: int, scale_schedule: ScaleSchedule, refinements: Sequence[int] = ()
    ) -> list[SamplingStep]:
        """
        The steps of one latent frame: all scales, coarse to fine, then the finest ones again for every round of refinement.

        Args:
            frame (`int`): Latent frame `t`.
            scale_schedule (`tuple[tuple[int, int], ...]`): Grids.
            refinements (`tuple[int, ...]`, *optional*): See [`SamplingOptions`].

        Raises:
            `ValueError`: A round has no map to sample, or none to keep.
        """
        num_scales = len(scale_schedule)
        for num_maps in refinements:
            if not 1 <= num_maps < num_scales:
                raise ValueError(
                    f"`refinements` is {list(refinements)}: a round samples at least 1 and at most {num_scales - 1} of the "
                    f"{num_scales} maps of a frame again. Pass such numbers, or `[]` for no refinement."
                )
        steps = [SamplingStep(frame, scale, grid) for scale, grid in enumerate(scale_schedule)]
        for num_maps in refinements:
            first = num_scales - num_maps
            steps += [
                SamplingStep(frame, scale, scale_schedule[scale], begins_round=scale == first)
                for scale in range(first, num_scales)
            ]
        return steps

    def guidance_at(
        self, step: SamplingStep, num_frames: int, num_scales: int, guidance_scale: float | None = None
    ) -> float:
        """
        Temporal-spatial adaptive guidance (VideoAR section 4.2).

        Args:
            step ([`SamplingStep`]): A frame and a scale.
            num_frames (`int`): Latent frames over which a video walks through the temporal part of the schedule.
            num_scales (`int`): `K`.
            guidance_scale (`float`, *optional*):
                The schedule's largest value, instead of the configuration's; at 1 or below guidance is off.

        Returns:
            `float`: The factor of `unconditional + factor * (conditional - unconditional)`.
        """
        config = self.config
        if guidance_scale is None:
            guidance_scale = config.guidance_scale
        if config.guidance_schedule == "constant" or guidance_scale <= 1:
            return max(1.0, guidance_scale)  # below 1 it would not be off, but towards the unconditional branch
        over_frames = min(1.0, step.frame / max(1, num_frames - 1))
        over_scales = step.scale / max(1, num_scales - 1)
        if config.guidance_schedule == "falling":
            progress = {
                "mean": (over_frames + over_scales) / 2,
                "product": over_frames * over_scales,
                "maximum": max(over_frames, over_scales),
            }[config.guidance_progress]
            return max(1.0, guidance_scale * (1 - (1 - config.guidance_end) * progress))
        at_first_scale = 1 + (max(1.0, guidance_scale * config.guidance_first_scale) - 1) * over_frames
        return at_first_scale + (guidance_scale - at_first_scale) * over_scales

    # 2. Sampling

    def scale_model_input(
        self, sample: torch.Tensor, step: SamplingStep, previous_frame: torch.Tensor
    ) -> torch.Tensor:
        """
        What the transformer reads at a step.

        Args:
            sample (`torch.Tensor` of shape `(B, d, H', W')`): Sum of the frame's coarser maps.
            step ([`SamplingStep`]): The map.
            previous_frame (`torch.Tensor` of shape `(B, d, H', W')`): The previous frame, zeros before the first.

        Returns:
            `torch.Tensor` of shape `(B, h_k * w_k, c)`: See `quantization.map_inputs`.
        """
        config = self.config
        return map_inputs(
            sample,
            previous_frame,
            step.grid,
            step.scale == 0,
            config.previous_frame_context,
            config.previous_frame_resampling,
        )

    def scale_clip_input(self, maps: MultiScaleMaps, scale_schedule: ScaleSchedule) -> torch.Tensor:
        """
        What the transformer reads of a whole clip: [`scale_model_input`] of every map, in sequence order.

        Args:
            maps ([`MultiScaleMaps`]): Of the clip.
            scale_schedule (`tuple[tuple[int, int], ...]`): Grids.

        Returns:
            `torch.Tensor` of shape `(B, T * L, c)`: See `quantization.sequence_inputs`.
        """
        config = self.config
        return sequence_inputs(maps, scale_schedule, config.previous_frame_context, config.previous_frame_resampling)

    def sample_bits(
        self, logits: torch.Tensor, noise: torch.Tensor, scale: int, options: SamplingOptions | None = None
    ) -> torch.Tensor:
        """
        Draws bits from their logits.

        Args:
            logits (`torch.Tensor`): Logit of each bit being one; any shape.
            noise (`torch.Tensor`): Uniform in `[0, 1)`, same shape.
            scale (`int`): Picks from several temperatures.
            options ([`SamplingOptions`], *optional*): Instead of the configuration's.

        Returns:
            `torch.Tensor`: Boolean, same shape.
        """
        options = options or self.sampling_options()
        temperature = options.temperature
        if isinstance(temperature, tuple):
            temperature = temperature[min(scale, len(temperature) - 1)]
        likelier = logits > 0
        if temperature == 0:
            return likelier
        probability = torch.sigmoid(logits.to(torch.float32) / temperature)
        bits = noise < probability
        if options.top_p < 1:
            bits = torch.where(torch.maximum(probability, 1 - probability) >= options.top_p, likelier, bits)
        return bits

    def step(
        self,
        model_output: torch.Tensor,
        step: SamplingStep,
        sample: torch.Tensor,
        generator: torch.Generator | list[torch.Generator] | None = None,
        noise: torch.Tensor | None = None,
        options: SamplingOptions | None = None,
        return_dict: bool = True,
    ) -> VideoARSchedulerOutput | tuple[torch.Tensor, torch.Tensor]:
        """
        Samples one map and adds it to its frame.

        Args:
            model_output (`torch.Tensor` of shape `(B, h_k * w_k, d)`): Bit logits, guidance applied.
            step ([`SamplingStep`]): The map.
            sample (`torch.Tensor` of shape `(B, d, H', W')`): Sum of the frame's coarser maps, zeros at the first scale.
            generator (`torch.Generator` or `list[torch.Generator]`, *optional*): One, or one for each sample.
            noise (`torch.Tensor` of shape `(B, h_k * w_k, d)`, *optional*): Uniform noise to use instead of `generator`.
            options ([`SamplingOptions`], *optional*): Instead of the configuration's.
            return_dict (`bool`, defaults to `True`): Whether to return an output object instead of a tuple.

        Returns:
            [`VideoARSchedulerOutput`] or `tuple`
        """
        if noise is None:
            noise = draw_uniform_noise(tuple(model_output.shape), generator, model_output.device)
        bits = self.sample_bits(model_output, noise, step.scale, options)
        bits = bits.unflatten(1, step.grid)  # (B, h_k, w_k, d)
        prev_sample = accumulate(sample, bits)
        if not return_dict:
            return (prev_sample, bits)
        return VideoARSchedulerOutput(prev_sample=prev_sample, bits=bits)

    # 3. Training

    def corruption_probabilities(
        self,
        batch_size: int,
        num_frames: int,
        num_scales: int,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        strength: float = 1.0,
    ) -> torch.Tensor:
        """
        Flip probabilities of Cross-Frame Error Correction (VideoAR section 4.2): `U(p_min + delta * t, p_max + delta * t)`
        for every map, and with error inheritance `U(p of the previous frame's last scale, p_max + delta * t)` for the first
        scale of a frame. `corruption_min_growth` and `corruption_drawn_per` are other readings of it.

        Args:
            batch_size (`int`): `B`.
            num_frames (`int`): `T`, latent frames.
            num_scales (`int`): `K`.
            generator (`torch.Generator`, *optional*): On `device`.
            device (`torch.device`, *optional*): Of the result.
            strength (`float`, defaults to 1.0): Factor of all probabilities, to ramp the corruption up.

        Returns:
            `torch.Tensor` of shape `(B, T, K)`: Float32, in `[0, 1]`.
        """
        config = self.config
        min_growth = config.corruption_growth if config.corruption_min_growth is None else config.corruption_min_growth
        frames = torch.arange(num_frames, device=device)[:, None]  # (T, 1)
        high = config.corruption_max + config.corruption_growth * frames
        low = (config.corruption_min + min_growth * frames).minimum(high)
        num_draws = num_scales if config.corruption_drawn_per == "map" else 1
        uniform = torch.rand(batch_size, num_frames, num_draws, device=device, generator=generator)
        probabilities = low + uniform * (high - low)
        if config.error_inheritance:
            for frame in range(1, num_frames):
                inherited = probabilities[:, frame - 1, -1]
                probabilities[:, frame, 0] = inherited + uniform[:, frame, 0] * (high[frame] - inherited)
        return (strength * probabilities).clamp(max=1.0).expand(-1, -1, num_scales)

    def add_noise(
        self, original_samples: torch.Tensor, generator: torch.Generator | None = None, strength: float = 1.0
    ) -> MultiScaleMaps:
        """
        Cross-Frame Error Correction: quantises clips with flipped bits and re-quantised targets.

        Args:
            original_samples (`torch.Tensor` of shape `(B, d, T, H', W')`): Features before quantisation.
            generator (`torch.Generator`, *optional*): On the device of the samples.
            strength (`float`, defaults to 1.0): Factor of the flip probabilities; 0 gives the clean maps.

        Returns:
            [`MultiScaleMaps`]: Target bits, corrupted latents and corrupted partial sums.
        """
        schedule = self.get_scale_schedule(*original_samples.shape[-2:])
        if strength == 0:
            return features_to_maps(original_samples, schedule)
        probabilities = self.corruption_probabilities(
            original_samples.shape[0],
            original_samples.shape[2],
            len(schedule),
            generator,
            original_samples.device,
            strength,
        )
        return features_to_maps(original_samples, schedule, flip_probabilities=probabilities, generator=generator)
