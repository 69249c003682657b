# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Errors of frames against the true ones: squared error, SSIM, and LPIPS where the caller has it.

Letters used in shapes: `B` clips, `F` pixel frames, `(H, W)` pixels.
"""

import math
from collections.abc import Callable

import torch


# Distance of two videos `(B, 3, F, H, W)` in [-1, 1], one number for all of their frames.
PerceptualDistance = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def squared_errors(video: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Of every frame of videos `(B, 3, F, H, W)` in [-1, 1], in units of the range 0 to 1: `(B, F)`. A single frame of `other` is held."""
    return (video - other).square().mean(dim=(1, 3, 4)) / 4


def structural_similarity(video: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """
    SSIM of every frame of videos `(B, 3, F, H, W)` in [-1, 1]: `(B, F)`. As papers print it, of levels in [0, 1], where dark
    means near 0; windows of 11 pixels (Gaussian, sigma 1.5), averaged over the channels (Wang et al., 2004).
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    levels = [
        (clip.clamp(-1, 1) + 1).div(2).transpose(1, 2).flatten(0, 1) for clip in (other, video)
    ]  # (B * F, 3, H, W)
    ssim = structural_similarity_index_measure(*levels, reduction="none", data_range=1.0)
    return ssim.reshape(video.shape[0], video.shape[2])


@torch.no_grad()
def frame_errors(
    video: torch.Tensor, other: torch.Tensor, perceptual: PerceptualDistance | None = None
) -> dict[str, torch.Tensor]:
    """
    Args:
        video (`torch.Tensor` of shape `(B, 3, F, H, W)`): True frames, RGB in [-1, 1].
        other (`torch.Tensor` of shape `(B, 3, F, H, W)`): Frames to be measured.
        perceptual (`Callable`, *optional*): LPIPS.

    Returns:
        `dict[str, torch.Tensor]`: `squared_error` in units of the range 0 to 1, `ssim`, and `lpips` if asked for, of shape
        `(B, F)` each, float32 on the CPU.
    """
    video, other = video.float(), other.float()
    errors = {"squared_error": squared_errors(video, other), "ssim": structural_similarity(video, other)}
    if perceptual is not None:
        shape = video.shape[0], video.shape[2]
        frames, other_frames = (clip.transpose(1, 2).flatten(0, 1)[:, :, None] for clip in (video, other))
        pairs = zip(frames.split(1), other_frames.split(1))  # each (1, 3, 1, H, W)
        errors["lpips"] = torch.stack([perceptual(true, made) for true, made in pairs]).reshape(shape)
    return {name: values.float().cpu() for name, values in errors.items()}


def psnr(squared_error: float) -> float:
    """Decibel of a mean squared error in units of the range 0 to 1."""
    return -10 * math.log10(max(squared_error, 1e-12))


def mean_psnr(squared_errors: torch.Tensor) -> float:
    """Mean of the PSNR of every row of `(N, ...)`: how papers that average over clips print it."""
    return sum(psnr(error) for error in squared_errors.double().flatten(1).mean(dim=1).tolist()) / len(squared_errors)
