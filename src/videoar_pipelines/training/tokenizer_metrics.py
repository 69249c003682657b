# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""What tells early that a tokenizer goes wrong: use of its bits, stability of a round trip, quality for every number of scales."""

import math

import torch
import torch.nn.functional as F

from ..evaluation.frame_errors import structural_similarity
from ..models.autoencoder_videoar import AutoencoderVideoAR
from ..models.quantization import ScaleSchedule


@torch.no_grad()
def bit_usage(bits: list[torch.Tensor]) -> torch.Tensor:
    """
    How often every bit is one.

    Args:
        bits (`list[torch.Tensor]`): For every scale, boolean `(B, T, h_k, w_k, d)`.

    Returns:
        `torch.Tensor` of shape `(K, d)`: Float32, in `[0, 1]`.
    """
    return torch.stack([scale_bits.float().flatten(0, -2).mean(dim=0) for scale_bits in bits])


@torch.no_grad()
def bit_entropy(usage: torch.Tensor) -> torch.Tensor:
    """Entropy, in bits, of every bit whose usage `(K, d)` is given: 1 for a fair bit, 0 for a dead one."""
    usage = usage.clamp(1e-6, 1 - 1e-6)
    return -(usage * usage.log2() + (1 - usage) * (1 - usage).log2())


@torch.no_grad()
def bit_statistics(bits: list[torch.Tensor]) -> dict[str, float]:
    """For every scale, the mean and the lowest entropy of a bit over the batch, in bits: near 0 the scale has collapsed."""
    entropies = bit_entropy(bit_usage(bits))
    statistics = {}
    for scale, (mean, lowest) in enumerate(zip(entropies.mean(dim=1).tolist(), entropies.amin(dim=1).tolist())):
        statistics[f"bit_entropy/scale_{scale}"] = mean
        statistics[f"bit_entropy_min/scale_{scale}"] = lowest
    return statistics


@torch.no_grad()
def round_trip_flips(
    vae: AutoencoderVideoAR, bits: list[torch.Tensor], scale_schedule: ScaleSchedule
) -> dict[str, float]:
    """
    Share of bits that change when a video is decoded from its bits and encoded again. The transformer continues videos that
    were decoded and encoded again, so flips are noise in its context.

    Args:
        vae ([`AutoencoderVideoAR`]): In evaluation mode.
        bits (`list[torch.Tensor]`): For every scale, boolean `(B, T, h_k, w_k, d)`.
        scale_schedule (`tuple[tuple[int, int], ...]`): Grids.

    Returns:
        `dict[str, float]`: `round_trip_flips/scale_k`, and `round_trip_flips/all` over all bits.
    """
    decoded = vae.decode(vae.bits_to_latents(bits, scale_schedule)).sample
    again = vae.quantize(vae.encode(decoded).latents, scale_schedule).bits
    flipped = [(first != second).float() for first, second in zip(bits, again)]
    flips = {f"round_trip_flips/scale_{scale}": part.mean().item() for scale, part in enumerate(flipped)}
    return flips | {"round_trip_flips/all": torch.cat([part.flatten() for part in flipped]).mean().item()}


def peak_signal_to_noise_ratio(video: torch.Tensor, reconstruction: torch.Tensor) -> float:
    """PSNR in decibel of videos in `[-1, 1]`, from the mean squared error over all of them."""
    error = F.mse_loss(reconstruction.clamp(-1, 1).float(), video.float()).item()
    return 10 * math.log10(4 / max(error, 1e-12))


@torch.no_grad()
def reconstructions_by_scales(
    vae: AutoencoderVideoAR, bits: list[torch.Tensor], scale_schedule: ScaleSchedule
) -> list[torch.Tensor]:
    """Videos `(B, 3, F, H, W)` in `[-1, 1]`, decoded from the first scale, from the first two, ..., from all."""
    return [
        vae.decode(vae.bits_to_latents(bits[: count + 1], scale_schedule)).sample.float()
        for count in range(len(scale_schedule))
    ]


@torch.no_grad()
def quality_by_scales(video: torch.Tensor, reconstructions: list[torch.Tensor]) -> dict[str, float]:
    """
    PSNR and SSIM for every number of scales kept.

    Args:
        video (`torch.Tensor` of shape `(B, 3, F, H, W)`): Pixel frames in `[-1, 1]`.
        reconstructions (`list[torch.Tensor]`): See [`reconstructions_by_scales`].

    Returns:
        `dict[str, float]`: `psnr/scales_n` in decibel and `ssim/scales_n`, SSIM per frame.
    """
    video, quality = video.float(), {}
    for count, reconstruction in enumerate(reconstructions, start=1):
        quality[f"psnr/scales_{count}"] = peak_signal_to_noise_ratio(video, reconstruction)
        quality[f"ssim/scales_{count}"] = structural_similarity(video, reconstruction).mean().item()
    return quality


@torch.no_grad()
def comparison_grid(video: torch.Tensor, reconstructions: list[torch.Tensor], max_clips: int = 4) -> torch.Tensor:
    """
    A picture with one row for each clip: first and last frame of the original, then both frames for 1 to K scales.

    Args:
        video (`torch.Tensor` of shape `(B, 3, F, H, W)`): Pixel frames in `[-1, 1]`.
        reconstructions (`list[torch.Tensor]`): See [`reconstructions_by_scales`].
        max_clips (`int`, defaults to 4): Rows.

    Returns:
        `torch.Tensor` of shape `(rows * H, 2 * (K + 1) * W, 3)`: uint8, on the CPU.
    """
    rows = [
        torch.cat([clip[clip_index, :, frame] for clip in (video, *reconstructions) for frame in (0, -1)], dim=-1)
        for clip_index in range(min(max_clips, len(video)))
    ]
    picture = torch.cat([row.float() for row in rows], dim=1)
    return ((picture.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).cpu()


@torch.no_grad()
def usage_picture(usage: torch.Tensor, cell: int = 8) -> torch.Tensor:
    """Usage `(K, d)` of all bits as a picture `(K * cell, d * cell, 3)`, uint8: grey for a fair bit, black or white for a dead one."""
    picture = (usage * 255).round().to(torch.uint8).cpu()
    return picture.repeat_interleave(cell, 0).repeat_interleave(cell, 1)[..., None].expand(-1, -1, 3).contiguous()
