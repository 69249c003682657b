# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
The quantiser of InfinityStar, as pure functions: latents to the bits of every pass, and bits to sums of codes.

Like the quantiser of VideoAR (`quantization.py`, whose bits and codes it uses) it writes a latent frame as a sum of
coarser and finer codes, frame by frame. What is different: a scale has its own number of bits, so the channels of the
latents are resampled together with rows and columns; a scale may be coded several times in a row; and a video is cut
into clips, each with a sum of its own.

Letters used in shapes: `B` batch, `T` latent frames of a clip, `c` channels of the latents (64), `(H', W')` grid of the
latents, `(h, w)` grid of a pass, `d` its bits per token (16 or 64), `N` frames (`B * T`).

Sums are kept in float32. The reference does so when it encodes; when it generates, autocast makes its sums bfloat16.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from diffusers.utils import BaseOutput

from .quantization import bits_to_codes, features_to_bits, merge_frames, split_frames


# 1. Passes and clips


class BitPass(NamedTuple):
    """What one pass writes for every frame of its clip: a grid `(height, width)` of tokens of `num_bits` bits."""

    height: int
    width: int
    num_bits: int


def make_passes(
    grids: Sequence[tuple[int, int]],
    repetitions: Sequence[int],
    min_detail_tokens: int,
    semantic_bits: int = 16,
    detail_bits: int = 64,
) -> tuple[BitPass, ...]:
    """
    The passes of one clip, coarse to fine.

    Args:
        grids (`Sequence[tuple[int, int]]`): `(height, width)` of every scale.
        repetitions (`Sequence[int]`): How often each scale is coded.
        min_detail_tokens (`int`):
            From this number of tokens a frame on, a scale has `detail_bits`, else `semantic_bits`.
        semantic_bits (`int`, defaults to 16): Bits of a token of a coarse scale.
        detail_bits (`int`, defaults to 64): Bits of a token of a fine scale.

    Raises:
        `ValueError`: There is not one repetition count for each grid.
    """
    if len(repetitions) != len(grids):
        raise ValueError(
            f"`repetitions` must have one entry per scale, {len(grids)} in all, got {len(repetitions)}: {repetitions}."
        )
    passes = []
    for (height, width), repeats in zip(grids, repetitions):
        num_bits = detail_bits if height * width >= min_detail_tokens else semantic_bits
        passes += [BitPass(height, width, num_bits)] * repeats
    return tuple(passes)


def check_passes(passes: Sequence[BitPass], num_channels: int, latent_height: int, latent_width: int) -> None:
    """
    Raises:
        `ValueError`: There is no pass, a pass has a size under one or more bits than the latents have channels, or the
            last one is not on the grid of the latents.
    """
    if not passes:
        raise ValueError("`passes` is empty. A clip has at least one pass.")
    for number, bit_pass in enumerate(passes):
        height, width, num_bits = bit_pass
        if min(height, width) < 1 or not 1 <= num_bits <= num_channels:
            raise ValueError(
                f"`passes[{number}]` is {tuple(bit_pass)}; it must have a grid of at least (1, 1) and from 1 to "
                f"{num_channels} bits."
            )
    if tuple(passes[-1][:2]) != (latent_height, latent_width):
        raise ValueError(
            f"The last of `passes` has the grid {tuple(passes[-1][:2])}, but that of the latents is "
            f"{(latent_height, latent_width)}. Use the grids of this size."
        )


def clip_lengths(num_latent_frames: int, latents_per_clip: int) -> list[int]:
    """Latent frames of every clip: the first frame alone, then `latents_per_clip` each; the last one may be shorter."""
    full_clips, rest = divmod(num_latent_frames - 1, latents_per_clip)
    return [1] + [latents_per_clip] * full_clips + ([rest] if rest > 0 else [])


# 2. Resizing over channels, rows and columns


def pool_latents(latents: torch.Tensor, num_channels: int, grid: tuple[int, int]) -> torch.Tensor:
    """`area` resampling of `(N, c, H', W')` to `(N, num_channels, *grid)`, channels included."""
    size = (num_channels, *grid)
    if tuple(latents.shape[1:]) == size:
        return latents
    return F.interpolate(latents[:, None], size=size, mode="area")[:, 0]


def spread_codes(codes: torch.Tensor, num_channels: int, grid: tuple[int, int]) -> torch.Tensor:
    """Trilinear resampling (no corner alignment) of `(N, d, h, w)` to `(N, num_channels, *grid)`, channels included."""
    size = (num_channels, *grid)
    if tuple(codes.shape[1:]) == size:
        return codes
    return F.interpolate(codes[:, None], size=size, mode="trilinear", align_corners=False)[:, 0]


def accumulate_pass(accumulated: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    """
    Adds the codes of one pass to the sum of the passes before it.

    Args:
        accumulated (`torch.Tensor` of shape `(N, c, H', W')`): Float32 sum; zeros at the beginning of a clip.
        bits (`torch.Tensor` of shape `(N, h, w, d)`): Boolean bits of the pass.

    Returns:
        `torch.Tensor` of shape `(N, c, H', W')`: The new sum, a new tensor.
    """
    codes = bits_to_codes(bits).permute(0, 3, 1, 2)  # (N, d, h, w)
    return accumulated + spread_codes(codes, accumulated.shape[1], accumulated.shape[-2:])


def pass_inputs(accumulated: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """
    What the transformer reads when it predicts a pass: the sum of the passes before it, on the grid of the pass but
    with all channels. For the first pass of a clip that sum is zero.

    Args:
        accumulated (`torch.Tensor` of shape `(N, c, H', W')`): Sum of the passes before.
        grid (`tuple[int, int]`): Grid `(h, w)` of the pass.

    Returns:
        `torch.Tensor` of shape `(N, h * w, c)`: Float32.
    """
    inputs = pool_latents(accumulated, accumulated.shape[1], grid)
    return inputs.flatten(2).transpose(1, 2).contiguous()


# 3. Whole clips


@dataclass
class ClipBits(BaseOutput):
    """
    Args:
        bits (`list[torch.Tensor]`): For every pass, boolean bits `(B, T, h, w, d)`.
        latents (`torch.Tensor` of shape `(B, c, T, H', W')`): The sum of all passes, float32.
    """

    bits: list[torch.Tensor]
    latents: torch.Tensor


@torch.no_grad()
def quantize_clip(latents: torch.Tensor, passes: Sequence[BitPass]) -> ClipBits:
    """
    Writes one clip as bits: every pass has the signs of what the passes before it left over.

    Args:
        latents (`torch.Tensor` of shape `(B, c, T, H', W')`): Features before quantisation, of one clip.
        passes (`Sequence[BitPass]`): From [`make_passes`]; the last grid is `(H', W')`.

    Returns:
        [`ClipBits`]

    Raises:
        `ValueError`: See [`check_passes`].
    """
    check_passes(passes, latents.shape[1], *latents.shape[-2:])
    frames = merge_frames(latents)  # (N, c, H', W')
    accumulated = torch.zeros_like(frames)
    bits = []
    for height, width, num_bits in passes:
        residual = pool_latents(frames - accumulated, num_bits, (height, width))
        pass_bits = features_to_bits(residual).permute(0, 2, 3, 1)  # (N, h, w, d)
        accumulated = accumulate_pass(accumulated, pass_bits)
        bits.append(pass_bits.unflatten(0, (latents.shape[0], -1)))
    return ClipBits(bits=bits, latents=split_frames(accumulated, latents.shape[0]))


@torch.no_grad()
def clip_bits_to_latents(bits: Sequence[torch.Tensor], num_channels: int, grid: tuple[int, int]) -> torch.Tensor:
    """
    The sum that goes with given bits. Fewer passes than a clip has give a coarser picture of it.

    Args:
        bits (`Sequence[torch.Tensor]`): For every pass, boolean bits `(B, T, h, w, d)`.
        num_channels (`int`): `c`, channels of the latents.
        grid (`tuple[int, int]`): Grid `(H', W')` of the latents.

    Returns:
        `torch.Tensor` of shape `(B, c, T, H', W')`: Float32.
    """
    batch_size, num_frames = bits[0].shape[:2]
    accumulated = torch.zeros(batch_size * num_frames, num_channels, *grid, device=bits[0].device)
    for pass_bits in bits:
        accumulated = accumulate_pass(accumulated, pass_bits.flatten(0, 1))
    return split_frames(accumulated, batch_size)
