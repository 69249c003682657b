# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
How much moves in a set of clips: beside FVD, which hardly tells a still video from a moving one at small numbers of clips.

Frames are compared with the next one by their brightness in cells of 1/8 of the height and width. The *score* of a clip is
the mean absolute difference, and a clip is dynamic if it is above a level. The *histogram* counts the differences of all cells
and frames; two sets are compared by the share of the counts that would have to move (total variation, 0 to 1).

Letters used in shapes: `B` clips, `F` pixel frames, `(H, W)` pixels.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F


GRID = 8  # cells along each side
# Mean absolute difference of brightness from frame to frame, in levels of 0 to 255, above which a clip is dynamic.
DYNAMIC_LEVEL = 0.5
# Borders of the histogram in the same levels: nothing at all, then three bins for every doubling from 1/16 to 64.
HISTOGRAM_BORDERS = tuple(2 ** (exponent / 3) for exponent in range(-12, 19))
LUMINANCE = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class MotionComparison:
    """Shares of dynamic clips, mean scores in levels, and the distance of the histograms in [0, 1]."""

    dynamic_share: tuple[float, float]
    mean_score: tuple[float, float]
    histogram_distance: float


@torch.no_grad()
def measure_motion(video: torch.Tensor) -> dict[str, torch.Tensor]:
    """
    Args:
        video (`torch.Tensor` of shape `(B, 3, F, H, W)`): RGB in [-1, 1], at least two frames.

    Returns:
        `dict[str, torch.Tensor]`: `motion_score` of shape `(B,)`, float32, in levels of 0 to 255, and `motion_histogram` of
        shape `(B, bins)`, float32, for every clip with sum 1.
    """
    weights = torch.tensor(LUMINANCE, device=video.device)
    brightness = torch.einsum("bcfhw,c->bfhw", video.float(), weights) * 127.5
    differences = brightness.diff(dim=1).abs()
    score = differences.mean(dim=(1, 2, 3))
    cells = F.adaptive_avg_pool2d(differences, GRID).flatten(1)  # (B, (F - 1) * 64)
    borders = torch.tensor(HISTOGRAM_BORDERS, device=video.device)
    bins = F.one_hot(torch.bucketize(cells, borders), len(HISTOGRAM_BORDERS) + 1)
    return {"motion_score": score.cpu(), "motion_histogram": bins.float().mean(dim=1).cpu()}


def compare_motion(
    first: dict[str, torch.Tensor | np.ndarray], second: dict[str, torch.Tensor | np.ndarray]
) -> MotionComparison:
    """Compares what [`measure_motion`] gave for two sets of clips."""
    scores = [torch.as_tensor(measures["motion_score"]).double() for measures in (first, second)]
    histograms = [torch.as_tensor(measures["motion_histogram"]).double().mean(dim=0) for measures in (first, second)]
    return MotionComparison(
        dynamic_share=tuple((score > DYNAMIC_LEVEL).double().mean().item() for score in scores),
        mean_score=tuple(score.mean().item() for score in scores),
        histogram_distance=(histograms[0] - histograms[1]).abs().sum().item() / 2,
    )
