# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
The multi-scale bitwise residual quantiser, and every rule that the tokenizer, the scheduler and training share.

Letters used in shapes: `B` batch, `T` latent frames, `K` scales, `(h_k, w_k)` grid of scale `k`, `(H', W')` the last grid,
`L` tokens of a frame (`sum h_k * w_k`), `d` bits of a token. A *map* is the bits of one scale of one frame, a *code* is a
bit mapped to `±1/sqrt(d)`, *latents* are accumulated codes, a *scale schedule* is the tuple of grids, coarse to fine.

A latent frame is written as a sum of maps: scale `k` quantises what the coarser scales left over (resampled to its grid by
`area`), and its codes are resampled back to the full grid (bilinear) and added to the sum. Frames never mix
(VideoAR section 4.1, "temporal-independent quantisation"); every sum is kept in float32.
"""

from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from diffusers.utils import BaseOutput


ScaleSchedule = tuple[tuple[int, int], ...]

# Grids of the published image tokenizers, (height, width), tall or square; a wide grid uses the mirrored template. Any prefix
# is a schedule of its own: the last grid of a schedule is the latent grid. "1.000" with the grids 1 2 3 4 6 8 is the
# six-scale schedule of a 128x128 video.
SCALE_TEMPLATES = (
    ((1, 1), (2, 2), (3, 3), (4, 4), (6, 6), (8, 8)),
    ((1, 1), (2, 2), (4, 4), (6, 6), (8, 8), (12, 12), (16, 16), (20, 20), (24, 24), (32, 32), (40, 40), (48, 48))
    + ((64, 64),),
    ((1, 1), (2, 2), (3, 3), (5, 4), (10, 8), (15, 12), (20, 16), (25, 20), (30, 24), (35, 28), (45, 36), (55, 44))
    + ((70, 56),),
    ((1, 1), (2, 2), (4, 3), (8, 6), (12, 9), (16, 12), (20, 15), (24, 18), (28, 21), (36, 27), (48, 36), (60, 45))
    + ((72, 54),),
    ((1, 1), (2, 2), (3, 2), (6, 4), (9, 6), (15, 10), (21, 14), (27, 18), (33, 22), (39, 26), (48, 32), (63, 42))
    + ((78, 52),),
    ((1, 1), (2, 2), (3, 3), (7, 4), (11, 6), (14, 8), (21, 12), (28, 16), (35, 20), (42, 24), (56, 32), (70, 40))
    + ((84, 48),),
    ((1, 1), (2, 2), (4, 2), (6, 3), (10, 5), (16, 8), (22, 11), (30, 15), (38, 19), (46, 23), (60, 30), (74, 37))
    + ((90, 45),),
    ((1, 1), (2, 2), (5, 2), (10, 4), (15, 6), (20, 8), (25, 10), (30, 12), (40, 16), (50, 20), (65, 26), (80, 32))
    + ((100, 40),),
    ((1, 1), (2, 2), (6, 2), (9, 3), (15, 5), (21, 7), (27, 9), (36, 12), (45, 15), (54, 18), (72, 24), (90, 30))
    + ((111, 37),),
)
_FEW_SCALES = (1 / 8, 2 / 8, 3 / 8, 4 / 8, 6 / 8, 1)
_MANY_SCALES = (1 / 16, 2 / 16, 4 / 16, 6 / 16, 8 / 16, 12 / 16, 1)


# 1. Scale schedules


def default_scale_schedule(latent_height: int, latent_width: int) -> ScaleSchedule:
    """
    The schedule of a latent grid: the template that contains the grid, cut after it; else the fractions of the 8x8 template
    (sides under 16) or of the 16x16 template, rounded, with repeated grids dropped.

    Args:
        latent_height (`int`): Height of the latent grid.
        latent_width (`int`): Width of the latent grid.

    Returns:
        `tuple[tuple[int, int], ...]`: Grids, coarse to fine; the last one is `(latent_height, latent_width)`.
    """
    grid = (latent_height, latent_width)
    for template in SCALE_TEMPLATES:
        for candidate in (template, tuple((width, height) for height, width in template)):
            if grid in candidate[3:]:
                return candidate[: candidate.index(grid) + 1]
    fractions = _FEW_SCALES if max(grid) < 16 else _MANY_SCALES
    grids = [tuple(max(1, round(side * fraction)) for side in grid) for fraction in fractions]
    return tuple(dict.fromkeys(grids))


def check_scale_schedule(scale_schedule, latent_height: int, latent_width: int) -> ScaleSchedule:
    """
    Returns `scale_schedule` as a tuple of pairs of `int`.

    Raises:
        `ValueError`: The schedule is empty, has a grid that is not two positive integers or is smaller than the one before
            it on a side, or does not end in `(latent_height, latent_width)`.
    """
    schedule = tuple((int(height), int(width)) for height, width in scale_schedule)
    grows = all(a[0] <= b[0] and a[1] <= b[1] for a, b in zip(schedule, schedule[1:]))
    if not schedule or min(min(grid) for grid in schedule) < 1 or not grows:
        raise ValueError(
            f"`scale_schedule` must be a non-empty list of (height, width) that grow from coarse to fine, got {schedule}."
        )
    if schedule[-1] != (latent_height, latent_width):
        raise ValueError(
            f"`scale_schedule` ends in {schedule[-1]} but the latents are {(latent_height, latent_width)}. Its last grid must "
            f"be the latent grid, for example {default_scale_schedule(latent_height, latent_width)}."
        )
    return schedule


def tokens_per_frame(scale_schedule: ScaleSchedule) -> int:
    """`L`, the number of tokens of one latent frame: the sum of `h_k * w_k`."""
    return sum(height * width for height, width in scale_schedule)


# 2. Bits and codes


def bits_to_codes(bits: torch.Tensor) -> torch.Tensor:
    """Boolean bits `(..., d)` to float32 codes `(..., d)`: `True` is `+1/sqrt(d)`, `False` is `-1/sqrt(d)`."""
    magnitude = bits.shape[-1] ** -0.5
    return bits.to(torch.float32) * (2 * magnitude) - magnitude


def features_to_bits(features: torch.Tensor) -> torch.Tensor:
    """Features `(..., d)` to boolean bits of the same shape: the sign, with zero giving `False`."""
    return features > 0


def pack_bits(bits: torch.Tensor) -> torch.Tensor:
    """
    Boolean bits `(..., d)` to bytes `(..., ceil(d / 8))`, `uint8`: bit `i` of a token is bit `i % 8` (of value `2 ** (i % 8)`)
    of its byte `i // 8`; the rest of the last byte is zero.
    """
    bits = F.pad(bits.to(torch.uint8), (0, -bits.shape[-1] % 8)).unflatten(-1, (-1, 8))
    return (bits << torch.arange(8, dtype=torch.uint8, device=bits.device)).sum(dim=-1, dtype=torch.uint8)


def unpack_bits(packed: torch.Tensor, num_bits: int) -> torch.Tensor:
    """The inverse of [`pack_bits`]: bytes `(..., ceil(d / 8))` to boolean bits `(..., d)`, where `num_bits` is `d`."""
    bits = packed[..., None] >> torch.arange(8, dtype=torch.uint8, device=packed.device)
    return (bits & 1).bool().flatten(-2)[..., :num_bits]


def flip_bits(bits: torch.Tensor, probability: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """
    Flips every bit independently: `b ^ Bernoulli(p)` (VideoAR section 4.2).

    Args:
        bits (`torch.Tensor` of shape `(B, T, h_k, w_k, d)`): Boolean bits.
        probability (`torch.Tensor` of shape `(B, T)`): Flip probability of each frame's map, in `[0, 1]`.
        generator (`torch.Generator`, *optional*): Source of randomness, on the device of `bits`.
    """
    noise = torch.rand(bits.shape, device=bits.device, generator=generator)
    return bits ^ (noise < probability[:, :, None, None, None])


# 3. The resample-and-accumulate rule


def resample_latents(latents: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """
    Bilinear resampling (no corner alignment, no antialiasing) of `(N, d, h, w)` to `(N, d, *grid)`: brings codes up to the
    full grid, and the accumulated latents down to the grid of the next map.
    """
    if tuple(latents.shape[-2:]) == tuple(grid):
        return latents
    # With channels last the result is the same, but a GPU shares the work between all elements; otherwise it has one thread for
    # every position of the grid, which walks over all frames and channels.
    latents = latents.contiguous(memory_format=torch.channels_last)
    return F.interpolate(latents, size=grid, mode="bilinear", align_corners=False)


def pool_latents(latents: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """`area` resampling, the mean over cells, of `(N, d, H', W')` to `(N, d, *grid)`: of a residual, what a scale quantises."""
    if tuple(latents.shape[-2:]) == tuple(grid):
        return latents
    return F.interpolate(latents, size=grid, mode="area")


def accumulate(accumulated: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    """
    Adds one map to the sum of the coarser maps of its frame.

    Args:
        accumulated (`torch.Tensor` of shape `(N, d, H', W')`): Float32 sum of the coarser maps.
        bits (`torch.Tensor` of shape `(N, h_k, w_k, d)`): Boolean bits of the map.

    Returns:
        `torch.Tensor` of shape `(N, d, H', W')`: The new sum, a new tensor.
    """
    codes = bits_to_codes(bits).permute(0, 3, 1, 2)  # (N, d, h_k, w_k)
    return accumulated + resample_latents(codes, accumulated.shape[-2:])


def map_inputs(
    accumulated: torch.Tensor,
    previous_frame: torch.Tensor,
    grid: tuple[int, int],
    is_first_scale: bool,
    previous_frame_context: str = "first_scale",
    previous_frame_resampling: str = "bilinear",
) -> torch.Tensor:
    """
    What the transformer reads when it predicts one map (VideoAR section 4.2): the sum of the frame's coarser maps, brought
    to the map's grid; for the first scale, the final sum of the previous frame. The very first map of a video has no input:
    the transformer puts its `<SOS>` embedding there.

    Args:
        accumulated (`torch.Tensor` of shape `(N, d, H', W')`): Sum of the frame's coarser maps.
        previous_frame (`torch.Tensor` of shape `(N, d, H', W')`): Final sum of the previous frame, zeros before the first.
        grid (`tuple[int, int]`): Grid `(h_k, w_k)` of the map.
        is_first_scale (`bool`): Whether the map is its frame's coarsest.
        previous_frame_context (`str`, defaults to `"first_scale"`):
            `"first_scale"` is the paper. `"all_scales"` appends the previous frame, brought to the map's grid, to the
            channels of every map, so that its finest maps are seen at more than the first scale's resolution.
        previous_frame_resampling (`str`, defaults to `"bilinear"`):
            What brings the previous frame down to a map's grid. `"bilinear"`, without antialiasing, reads 4 cells for each cell of
            a coarser grid: of 8x8 the four in the middle become the 1x1 of the first map. `"area"` reads all.

    Returns:
        `torch.Tensor` of shape `(N, h_k * w_k, c)`: Float32, `c` is `d`, or `2 * d` with `"all_scales"`.
    """
    bring_down_previous = pool_latents if previous_frame_resampling == "area" else resample_latents
    inputs = bring_down_previous(previous_frame, grid) if is_first_scale else resample_latents(accumulated, grid)
    if previous_frame_context == "all_scales":
        inputs = torch.cat([inputs, bring_down_previous(previous_frame, grid)], dim=1)
    return inputs.flatten(2).transpose(1, 2).contiguous()


# 4. Whole clips


@dataclass
class MultiScaleMaps(BaseOutput):
    """
    A clip as maps.

    Args:
        bits (`list[torch.Tensor]`): For every scale, the target bits `(B, T, h_k, w_k, d)`, boolean.
        latents (`torch.Tensor` of shape `(B, d, T, H', W')`): The sum of all maps, flips included, float32.
        partial_sums (`list[torch.Tensor]`):
            For every scale, the sum of the *coarser* maps, `(B * T, d, H', W')`; the first is zero.
    """

    bits: list[torch.Tensor]
    latents: torch.Tensor
    partial_sums: list[torch.Tensor]


def merge_frames(latents: torch.Tensor) -> torch.Tensor:
    """`(B, d, T, H', W')` to float32 `(B * T, d, H', W')`."""
    return latents.to(torch.float32).transpose(1, 2).flatten(0, 1)


def split_frames(frames: torch.Tensor, batch_size: int) -> torch.Tensor:
    """`(B * T, d, H', W')` to `(B, d, T, H', W')`."""
    return frames.unflatten(0, (batch_size, -1)).transpose(1, 2).contiguous()


@torch.no_grad()
def features_to_maps(
    features: torch.Tensor,
    scale_schedule: ScaleSchedule,
    flip_probabilities: torch.Tensor | None = None,
    scale_mask: torch.Tensor | None = None,
    generator: torch.Generator | None = None,
) -> MultiScaleMaps:
    """
    Quantises every latent frame by itself, coarse to fine.

    With `flip_probabilities` the maps that enter the sum are corrupted, while the target bits are those of the residual
    *against the corrupted sum*: later targets repair earlier flips (self-correction with re-quantised targets).

    Args:
        features (`torch.Tensor` of shape `(B, d, T, H', W')`): Features before quantisation.
        scale_schedule (`tuple[tuple[int, int], ...]`): Grids, the last one is `(H', W')`.
        flip_probabilities (`torch.Tensor` of shape `(B, T, K)`, *optional*): Probability of a flip for each map's bits.
        scale_mask (`torch.Tensor` of shape `(B, K)`, *optional*): Boolean; a `False` scale contributes nothing to the sum.
        generator (`torch.Generator`, *optional*): For the flips, on the device of `features`.

    Returns:
        [`MultiScaleMaps`]
    """
    return _quantize_scales(features, scale_schedule, flip_probabilities, scale_mask, generator)[0]


def _quantize_scales(
    features: torch.Tensor,
    scale_schedule: ScaleSchedule,
    flip_probabilities: torch.Tensor | None = None,
    scale_mask: torch.Tensor | None = None,
    generator: torch.Generator | None = None,
) -> tuple[MultiScaleMaps, list[torch.Tensor]]:
    """[`features_to_maps`], and what every scale quantised, `(B * T, d, h_k, w_k)`: gradients pass through these alone."""
    batch_size, num_frames = features.shape[0], features.shape[2]
    frames = merge_frames(features)
    accumulated = torch.zeros_like(frames)
    bits, partial_sums, residuals = [], [], []
    for scale, grid in enumerate(scale_schedule):
        partial_sums.append(accumulated)
        residual = pool_latents(frames - accumulated, grid)
        residuals.append(residual)
        target = features_to_bits(residual).permute(0, 2, 3, 1).unflatten(0, (batch_size, num_frames))
        bits.append(target)
        entering = target
        if flip_probabilities is not None:
            entering = flip_bits(target, flip_probabilities[:, :, scale], generator)
        updated = accumulate(accumulated, entering.flatten(0, 1))
        if scale_mask is not None:
            keep = scale_mask[:, scale].repeat_interleave(num_frames)[:, None, None, None]
            updated = torch.where(keep, updated, accumulated)
        accumulated = updated
    maps = MultiScaleMaps(bits=bits, latents=split_frames(accumulated, batch_size), partial_sums=partial_sums)
    return maps, residuals


@torch.no_grad()
def bits_to_maps(bits: list[torch.Tensor], scale_schedule: ScaleSchedule) -> MultiScaleMaps:
    """
    The sums that go with given bits, without corruption.

    Args:
        bits (`list[torch.Tensor]`): For every scale, boolean bits `(B, T, h_k, w_k, d)`. Fewer scales than the schedule
            has give a coarser picture.
        scale_schedule (`tuple[tuple[int, int], ...]`): Grids, the last one is the latent grid.

    Returns:
        [`MultiScaleMaps`]
    """
    batch_size, num_frames, num_bits = bits[0].shape[0], bits[0].shape[1], bits[0].shape[-1]
    accumulated = torch.zeros(batch_size * num_frames, num_bits, *scale_schedule[-1], device=bits[0].device)
    partial_sums = []
    for scale_bits in bits:
        partial_sums.append(accumulated)
        accumulated = accumulate(accumulated, scale_bits.flatten(0, 1))
    return MultiScaleMaps(bits=bits, latents=split_frames(accumulated, batch_size), partial_sums=partial_sums)


def maps_to_latents(bits: list[torch.Tensor], scale_schedule: ScaleSchedule) -> torch.Tensor:
    """The sum of all maps, `(B, d, T, H', W')`, float32; the arguments are those of [`bits_to_maps`]."""
    return bits_to_maps(bits, scale_schedule).latents


def sequence_inputs(
    maps: MultiScaleMaps,
    scale_schedule: ScaleSchedule,
    previous_frame_context: str = "first_scale",
    previous_frame_resampling: str = "bilinear",
) -> torch.Tensor:
    """
    The transformer's inputs for a whole clip at once (teacher forcing): [`map_inputs`] of every map, in sequence order.

    Returns:
        `torch.Tensor` of shape `(B, T * L, c)`: Float32. Rows of the very first map are zeros with `"first_scale"`.
    """
    batch_size = maps.latents.shape[0]
    previous = torch.zeros_like(maps.latents)
    previous[:, :, 1:] = maps.latents[:, :, :-1]
    previous = merge_frames(previous)
    inputs = [
        map_inputs(partial_sum, previous, grid, scale == 0, previous_frame_context, previous_frame_resampling)
        for scale, (partial_sum, grid) in enumerate(zip(maps.partial_sums, scale_schedule))
    ]
    return torch.cat(inputs, dim=1).unflatten(0, (batch_size, -1)).flatten(1, 2)


def flatten_bits(bits: list[torch.Tensor]) -> torch.Tensor:
    """Maps `(B, T, h_k, w_k, d)`, one tensor a scale, to one tensor `(B, T * L, d)` in sequence order."""
    return torch.cat([scale_bits.flatten(2, 3) for scale_bits in bits], dim=2).flatten(1, 2)


def unflatten_bits(bits: torch.Tensor, scale_schedule: ScaleSchedule) -> list[torch.Tensor]:
    """The inverse of [`flatten_bits`]: `(B, T * L, d)` to one `(B, T, h_k, w_k, d)` a scale."""
    sizes = [height * width for height, width in scale_schedule]
    frames = bits.unflatten(1, (-1, sum(sizes)))  # (B, T, L, d)
    return [part.unflatten(2, grid) for part, grid in zip(frames.split(sizes, dim=2), scale_schedule)]


# 5. Training terms


@dataclass
class QuantizerOutput(BaseOutput):
    """
    Args:
        latents (`torch.Tensor` of shape `(B, d, T, H', W')`):
            Quantised latents, in the dtype of the input; in training mode gradients pass straight through to the input.
        bits (`list[torch.Tensor]`): For every scale, boolean bits `(B, T, h_k, w_k, d)`.
        commitment_loss (`torch.Tensor`, *optional*): Scalar, training mode only: `mean((features - latents)^2)`.
        entropy_loss (`torch.Tensor`, *optional*):
            Scalar, training mode only: entropy of each bit (to be low) minus entropy over the batch (to be high), averaged
            over scales and bits, in nats.
    """

    latents: torch.Tensor
    bits: list[torch.Tensor]
    commitment_loss: torch.Tensor | None = None
    entropy_loss: torch.Tensor | None = None


def bit_entropies(
    residuals: list[torch.Tensor], inverse_temperature: float = 100.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Soft bit entropies of the residuals that the scales quantise.

    A residual is normalised over its channels, and a bit is one with probability `sigmoid(4 * beta * z / sqrt(d))`. All scales are
    computed together, and their means at the end: one by one they are so small that a GPU would wait for launches.

    Args:
        residuals (`list[torch.Tensor]`): For every scale, float32 `(N, d, h_k, w_k)`.
        inverse_temperature (`float`, defaults to 100): `beta`; larger is closer to the hard sign.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: For every scale, mean entropy of a bit at a position, and mean entropy of a bit over
        the batch; `(K,)` in nats, `0` to `log 2`.
    """
    tokens = torch.cat([residual.flatten(2) for residual in residuals], dim=2)  # (N, d, L)
    sizes = [residual.shape[2] * residual.shape[3] for residual in residuals]
    logits = F.normalize(tokens, dim=1) * (4 * inverse_temperature * tokens.shape[1] ** -0.5)
    probability = torch.sigmoid(logits)
    # The entropy from the logits stays finite where the probability saturates.
    per_sample = F.softplus(logits) - logits * probability
    mean = torch.stack([scale.mean(dim=(0, 2)) for scale in probability.split(sizes, dim=2)])  # (K, d)
    mean = mean.clamp(1e-6, 1 - 1e-6)
    per_batch = -(mean * mean.log() + (1 - mean) * (1 - mean).log())
    return torch.stack([scale.mean() for scale in per_sample.split(sizes, dim=2)]), per_batch.mean(dim=1)


class MultiScaleBitwiseQuantizer(nn.Module):
    """
    The quantiser of a tokenizer: [`features_to_maps`] with a straight-through gradient on the *sum* of the maps. One
    straight-through step per scale was found to collapse: every scale ends up carrying the same bits.

    It has no parameters.
    """

    def forward(
        self,
        latents: torch.Tensor,
        scale_schedule: ScaleSchedule,
        scale_mask: torch.Tensor | None = None,
    ) -> QuantizerOutput:
        """
        Args:
            latents (`torch.Tensor` of shape `(B, d, T, H', W')`): Features before quantisation.
            scale_schedule (`tuple[tuple[int, int], ...]`): Grids, the last one is `(H', W')`.
            scale_mask (`torch.Tensor` of shape `(B, K)`, *optional*): Boolean; a `False` scale is dropped.
        """
        if not self.training:
            maps = features_to_maps(latents, scale_schedule, scale_mask=scale_mask)
            return QuantizerOutput(latents=maps.latents.to(latents.dtype), bits=maps.bits)
        features = latents.to(torch.float32)
        maps, residuals = _quantize_scales(features, scale_schedule, scale_mask=scale_mask)
        commitment_loss = F.mse_loss(features, maps.latents)
        per_sample, per_batch = bit_entropies(residuals)
        entropy_loss = (per_sample - per_batch).mean()
        straight_through = features + (maps.latents - features).detach()
        return QuantizerOutput(
            latents=straight_through.to(latents.dtype),
            bits=maps.bits,
            commitment_loss=commitment_loss,
            entropy_loss=entropy_loss,
        )
