# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Errors of frames: the formulas, and which axis is which."""

import math

import pytest
import torch

from videoar_pipelines.evaluation.frame_errors import frame_errors, mean_psnr, psnr, structural_similarity


def make_video(seed=0):
    return torch.rand(2, 3, 4, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_errors_are_per_clip_and_frame():
    video, other = make_video(), make_video()
    other[1, :, 2] += 0.2  # a tenth of the range
    errors = frame_errors(video, other, perceptual=lambda left, right: (left - right).abs().mean())
    assert set(errors) == {"squared_error", "ssim", "lpips"}
    for values in errors.values():
        assert values.shape == (2, 4)
        assert values.flatten().argsort(stable=True)[-1 if values is not errors["ssim"] else 0] == 6
    assert errors["squared_error"][1, 2] == pytest.approx(0.01, rel=1e-5)
    assert errors["lpips"][1, 2] == pytest.approx(0.2, rel=1e-5)
    assert errors["squared_error"].sum() == errors["squared_error"][1, 2]
    assert errors["ssim"][0].tolist() == pytest.approx([1] * 4, abs=1e-5)


def test_similarity_is_of_levels_from_0_to_1_as_papers_print_it():
    # Of flat pictures only the term of luminance is left, which depends on where 0 is.
    for levels in ((0.5, 0.6), (0.1, 0.2), (0.0, 1.0)):
        video, other = (torch.full((1, 3, 1, 16, 16), 2 * level - 1) for level in levels)
        expected = (2 * levels[0] * levels[1] + 1e-4) / (levels[0] ** 2 + levels[1] ** 2 + 1e-4)
        assert structural_similarity(video, other).item() == pytest.approx(expected, rel=1e-4)
    assert structural_similarity(video, other + 9).item() == pytest.approx(expected, rel=1e-4)  # beyond white is white


def test_psnr_of_all_and_of_clips():
    errors = torch.tensor([[0.01, 0.01], [0.0001, 0.0001]])
    assert psnr(0.01) == pytest.approx(20)
    assert mean_psnr(errors) == pytest.approx(30)  # of 20 and 40
    assert psnr(errors.mean().item()) == pytest.approx(10 * math.log10(1 / 0.00505))
