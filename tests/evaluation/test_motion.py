# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Motion of clips: what stands still, what moves, and how two sets differ."""

import pytest
import torch

from videoar_pipelines.evaluation.motion import HISTOGRAM_BORDERS, compare_motion, measure_motion


def moving_bars(speeds, num_frames=9):
    """Gray bars `(B, 3, F, 32, 32)` that move to the right by some pixels a frame."""
    columns = torch.arange(32.0)
    times = torch.arange(num_frames)[:, None]
    bars = [(2 * torch.pi * (columns - speed * times) / 16).sin() for speed in speeds]  # each (F, 32)
    return torch.stack(bars)[:, None, :, None, :].expand(-1, 3, -1, 32, -1)


def test_the_score_is_the_mean_change_in_levels():
    video = torch.zeros(1, 3, 5, 16, 16)
    video[:, :, 1::2] = 10 / 127.5  # ten levels up and down, everywhere
    measures = measure_motion(video)
    assert measures["motion_score"].item() == pytest.approx(10, rel=1e-5)
    [filled] = measures["motion_histogram"][0].nonzero().flatten().tolist()
    assert HISTOGRAM_BORDERS[filled - 1] < 10 <= HISTOGRAM_BORDERS[filled]


def test_a_frozen_clip_has_no_motion_and_a_moving_one_is_dynamic():
    still, moving = measure_motion(moving_bars([0, 0])), measure_motion(moving_bars([1, 2]))
    assert still["motion_score"].tolist() == [0, 0] and still["motion_histogram"][:, 0].tolist() == [1, 1]
    comparison = compare_motion(moving, still)
    assert comparison.dynamic_share == (1, 0) and comparison.histogram_distance == 1
    assert compare_motion(moving, moving).histogram_distance == 0


def test_faster_clips_are_further_away():
    slow, fast, faster = (measure_motion(moving_bars([speed])) for speed in (0.5, 1, 3))
    assert slow["motion_score"] < fast["motion_score"] < faster["motion_score"]
    near, far = compare_motion(slow, fast), compare_motion(slow, faster)
    assert 0 < near.histogram_distance < far.histogram_distance <= 1
    assert near.mean_score == (slow["motion_score"].item(), pytest.approx(fast["motion_score"].item()))


def test_motion_in_a_corner_shows_in_the_histogram():
    video = torch.zeros(1, 3, 9, 64, 64)
    video[..., :8, :8] = moving_bars([1], 9)[..., :8, :8]
    measures = measure_motion(video)
    assert measures["motion_histogram"][0, 0] == pytest.approx(63 / 64)  # one of 64 cells moves
