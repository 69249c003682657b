# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
The scheduler of next-frame, next-scale generation. Where a diffusion scheduler walks over noise levels, this one walks over
(frame, scale) pairs: timestep `t * K + k` is scale `k` of latent frame `t`. With refinement it comes back to the finest scales
of a frame before it goes on to the next.
"""

from dataclasses import dataclass

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput

from ..models.quantization import (
    MultiScaleMaps,
    ScaleSchedule,
    accumulate,
    check_scale_schedule,
    default_scale_schedule,
    latents_to_maps,
    map_inputs,
)


GUIDANCE_SCHEDULES = ("constant", "rising", "falling")
PREVIOUS_FRAME_CONTEXTS = ("first_scale", "all_scales")


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


class VideoARScheduler(SchedulerMixin, ConfigMixin):
    """
    Owns the scale schedules, the guidance schedule, the sampling of bits, and for training the corruption of
    Cross-Frame Error Correction.

    Args:
        scale_schedules (`dict[str, list]`, *optional*):
            Scale schedule by latent grid, `{"8x8": [[1, 1], [2, 2], ...]}`. Grids that are not in the table get
            `quantization.default_scale_schedule`.
        previous_frame_context (`str`, defaults to `"first_scale"`):
            Which maps read the previous frame, see `quantization.map_inputs`. `"first_scale"` is the paper.
        guidance_scale (`float`, defaults to 5.0): Guidance that the pipeline uses when the caller names none.
        guidance_schedule (`str`, defaults to `"falling"`):
            `"constant"`; `"falling"`, the paper's for text-to-video: from `guidance_scale` to 0.6 of it (but at least 1),
            along frames and scales alike (5 to 3); `"rising"`, the paper's for UCF-101: at the first scale from 1 to half of
            `guidance_scale` (but at least 1) over the frames, and within each frame up to `guidance_scale` (1 to 5, then up to
            10).
        temperature (`float` or `list[float]`, defaults to 1.0):
            Divides the logits; one value, or one for each scale, the last for all finer ones. 0 is greedy.
        top_p (`float`, defaults to 1.0): A bit whose likelier value has at least this probability takes that value.
        refinements (`list[int]`, *optional*):
            Rounds of refinement of every latent frame, each the number of finest maps that it samples again. Not in the paper. A
            round decodes the finished frame and encodes what it shows, as training encodes frames: the coarser maps are then those
            of a picture, and the finest are sampled once more, given these. Bits of a map are sampled independently of each
            other, so what they show may not fit together; every round gives the frame another chance to. None by default.
        corruption_min (`float`, defaults to 0.0): `p_min` of time-dependent corruption.
        corruption_max (`float`, defaults to 0.25): `p_max`.
        corruption_growth (`float`, defaults to 0.01): `delta`, added to both for every latent frame.
        error_inheritance (`bool`, defaults to `True`):
            Whether the first scale of a frame is corrupted at least as much as the last scale of the frame before.
    """

    order = 1

    @register_to_config
    def __init__(
        self,
        scale_schedules: dict[str, list] | None = None,
        previous_frame_context: str = "first_scale",
        guidance_scale: float = 5.0,
        guidance_schedule: str = "falling",
        temperature: float | list[float] = 1.0,
        top_p: float = 1.0,
        refinements: list[int] | None = None,
        corruption_min: float = 0.0,
        corruption_max: float = 0.25,
        corruption_growth: float = 0.01,
        error_inheritance: bool = True,
    ):
        if previous_frame_context not in PREVIOUS_FRAME_CONTEXTS:
            raise ValueError(
                f"`previous_frame_context` must be one of {PREVIOUS_FRAME_CONTEXTS}, got {previous_frame_context!r}."
            )
        if guidance_schedule not in GUIDANCE_SCHEDULES:
            raise ValueError(f"`guidance_schedule` must be one of {GUIDANCE_SCHEDULES}, got {guidance_schedule!r}.")
        self.timesteps = None
        self.num_latent_frames = None
        self.scale_schedule = None
        self.refinements = None
        self.sampled_scales = None

    # 1. Schedules

    def get_scale_schedule(self, latent_height: int, latent_width: int) -> ScaleSchedule:
        """The scale schedule of a latent grid: from the table of the configuration, else the default rule."""
        table = self.config.scale_schedules or {}
        schedule = table.get(f"{latent_height}x{latent_width}", default_scale_schedule(latent_height, latent_width))
        return check_scale_schedule(schedule, latent_height, latent_width)

    def get_sampled_scales(self, scale_schedule: ScaleSchedule, refinements: list[int] | None = None) -> list[int]:
        """
        The scales of the maps that are sampled for one latent frame, in order: all of a schedule, then the finest ones again for
        every round of refinement. A scale that is not larger than the one before begins a round.

        Args:
            scale_schedule (`tuple[tuple[int, int], ...]`): Grids.
            refinements (`list[int]`, *optional*): Instead of the configuration's; `[]` for none.

        Raises:
            `ValueError`: A round has no map to sample, or none to keep.
        """
        num_scales = len(scale_schedule)
        refinements = (self.config.refinements or []) if refinements is None else refinements
        for num_maps in refinements:
            if not 1 <= num_maps < num_scales:
                raise ValueError(
                    f"`refinements` is {list(refinements)}: a round samples at least 1 and at most {num_scales - 1} of the "
                    f"{num_scales} maps of a frame again. Pass such numbers, or `[]` for no refinement."
                )
        rounds = [range(num_scales - num_maps, num_scales) for num_maps in refinements]
        return [*range(num_scales), *(scale for scales in rounds for scale in scales)]

    def set_timesteps(
        self,
        num_latent_frames: int | None,
        latent_height: int,
        latent_width: int,
        device: torch.device | str | None = None,
        refinements: list[int] | None = None,
    ) -> None:
        """
        Sets `scale_schedule`, `refinements` (as passed), `sampled_scales` (of the maps that are sampled for a latent frame, see
        [`get_sampled_scales`]) and `timesteps` (`T` times as many, without refinement `T * K`; `None` for a video without end).

        Args:
            num_latent_frames (`int`, *optional*): `T`, or `None` for a video without end.
            latent_height (`int`): `H'`.
            latent_width (`int`): `W'`.
            device (`torch.device`, *optional*): Of `timesteps`.
            refinements (`list[int]`, *optional*): Rounds of refinement, instead of the configuration's; `[]` for none.
        """
        self.scale_schedule = self.get_scale_schedule(latent_height, latent_width)
        self.refinements = refinements
        self.sampled_scales = self.get_sampled_scales(self.scale_schedule, refinements)
        self.num_latent_frames = num_latent_frames
        self.timesteps = None
        if num_latent_frames is not None:
            starts = torch.arange(num_latent_frames, device=device)[:, None] * len(self.scale_schedule)
            self.timesteps = (starts + torch.tensor(self.sampled_scales, device=device)).flatten()

    def frame_and_scale(self, timestep: int) -> tuple[int, int]:
        """
        Latent frame and scale of a timestep.

        Raises:
            `ValueError`: [`set_timesteps`] has not been called.
        """
        if self.scale_schedule is None:
            raise ValueError("The scheduler has no timesteps yet: call `set_timesteps` first.")
        return divmod(int(timestep), len(self.scale_schedule))

    def guidance_scale_at(self, timestep: int, guidance_scale: float, num_trained_frames: int = 5) -> float:
        """
        Temporal-spatial adaptive guidance (VideoAR section 4.2).

        Args:
            timestep (`int`): `t * K + k`.
            guidance_scale (`float`): The schedule's largest value; at 1 or below guidance is off.
            num_trained_frames (`int`, defaults to 5):
                Latent frames over which a video without end walks through the temporal part of the schedule.

        Returns:
            `float`: The factor of `unconditional + factor * (conditional - unconditional)`.
        """
        if self.config.guidance_schedule == "constant" or guidance_scale <= 1:
            return guidance_scale
        frame, scale = self.frame_and_scale(timestep)
        num_frames = self.num_latent_frames or num_trained_frames
        frame_progress = min(1.0, frame / max(1, num_frames - 1))
        scale_progress = scale / max(1, len(self.scale_schedule) - 1)
        if self.config.guidance_schedule == "falling":
            return max(1.0, guidance_scale * (1 - 0.4 * (frame_progress + scale_progress) / 2))
        at_first_scale = 1 + (max(1.0, guidance_scale / 2) - 1) * frame_progress
        return at_first_scale + (guidance_scale - at_first_scale) * scale_progress

    # 2. Sampling

    def scale_model_input(
        self, sample: torch.Tensor, timestep: int, previous_frame: torch.Tensor | None = None
    ) -> torch.Tensor:
        """
        What the transformer reads at a timestep.

        Args:
            sample (`torch.Tensor` of shape `(B, d, H', W')`): Sum of the frame's coarser maps.
            timestep (`int`): `t * K + k`.
            previous_frame (`torch.Tensor` of shape `(B, d, H', W')`, *optional*): The previous frame, `None` before the first.

        Returns:
            `torch.Tensor` of shape `(B, h_k * w_k, c)`: See `quantization.map_inputs`.
        """
        _, scale = self.frame_and_scale(timestep)
        if previous_frame is None:
            previous_frame = torch.zeros_like(sample)
        return map_inputs(
            sample, previous_frame, self.scale_schedule[scale], scale == 0, self.config.previous_frame_context
        )

    def sample_bits(
        self,
        logits: torch.Tensor,
        noise: torch.Tensor,
        scale: int = 0,
        temperature: float | list[float] | None = None,
        top_p: float | None = None,
    ) -> torch.Tensor:
        """
        Draws bits from their logits.

        Args:
            logits (`torch.Tensor`): Logit of each bit being one; any shape.
            noise (`torch.Tensor`): Uniform in `[0, 1)`, same shape.
            scale (`int`, defaults to 0): Picks from a list of temperatures.
            temperature (`float` or `list[float]`, *optional*): Instead of the configuration's.
            top_p (`float`, *optional*): Instead of the configuration's.

        Returns:
            `torch.Tensor`: Boolean, same shape.
        """
        temperature = self.config.temperature if temperature is None else temperature
        top_p = self.config.top_p if top_p is None else top_p
        if isinstance(temperature, (list, tuple)):
            temperature = temperature[min(scale, len(temperature) - 1)]
        likelier = logits > 0
        if temperature == 0:
            return likelier
        probability = torch.sigmoid(logits.to(torch.float32) / temperature)
        bits = noise < probability
        if top_p < 1:
            bits = torch.where(torch.maximum(probability, 1 - probability) >= top_p, likelier, bits)
        return bits

    def step(
        self,
        model_output: torch.Tensor,
        timestep: int,
        sample: torch.Tensor,
        generator: torch.Generator | list[torch.Generator] | None = None,
        noise: torch.Tensor | None = None,
        temperature: float | list[float] | None = None,
        top_p: float | None = None,
        return_dict: bool = True,
    ) -> VideoARSchedulerOutput | tuple[torch.Tensor, torch.Tensor]:
        """
        Samples one map and adds it to its frame.

        Args:
            model_output (`torch.Tensor` of shape `(B, h_k * w_k, d)`): Bit logits, guidance applied.
            timestep (`int`): `t * K + k`.
            sample (`torch.Tensor` of shape `(B, d, H', W')`): Sum of the frame's coarser maps, zeros at the first scale.
            generator (`torch.Generator` or `list[torch.Generator]`, *optional*): One, or one for each sample.
            noise (`torch.Tensor` of shape `(B, h_k * w_k, d)`, *optional*): Uniform noise to use instead of `generator`.
            temperature (`float` or `list[float]`, *optional*): Instead of the configuration's.
            top_p (`float`, *optional*): Instead of the configuration's.
            return_dict (`bool`, defaults to `True`): Whether to return an output object instead of a tuple.

        Returns:
            [`VideoARSchedulerOutput`] or `tuple`
        """
        _, scale = self.frame_and_scale(timestep)
        if noise is None:
            noise = draw_uniform_noise(tuple(model_output.shape), generator, model_output.device)
        bits = self.sample_bits(model_output, noise, scale, temperature, top_p)
        bits = bits.unflatten(1, self.scale_schedule[scale])  # (B, h_k, w_k, d)
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
        scale of a frame.

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
        growth = self.config.corruption_growth * torch.arange(num_frames, device=device)[:, None]  # (T, 1)
        low = self.config.corruption_min + growth
        high = self.config.corruption_max + growth
        uniform = torch.rand(batch_size, num_frames, num_scales, device=device, generator=generator)
        probabilities = low + uniform * (high - low)
        if self.config.error_inheritance:
            for frame in range(1, num_frames):
                inherited = probabilities[:, frame - 1, -1]
                probabilities[:, frame, 0] = inherited + uniform[:, frame, 0] * (high[frame] - inherited)
        return (strength * probabilities).clamp(max=1.0)

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
            return latents_to_maps(original_samples, schedule)
        probabilities = self.corruption_probabilities(
            original_samples.shape[0],
            original_samples.shape[2],
            len(schedule),
            generator,
            original_samples.device,
            strength,
        )
        return latents_to_maps(original_samples, schedule, flip_probabilities=probabilities, generator=generator)
