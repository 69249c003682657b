# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch

from videoar_pipelines.training.losses import bit_cross_entropy, bit_metrics, scale_weights


SCHEDULE = ((1, 1), (2, 2), (4, 4))  # 21 tokens


def make_bits(generator_seed=0):
    generator = torch.Generator().manual_seed(generator_seed)
    return torch.rand(2, 2 * 21, 8, generator=generator) < 0.5


def test_undecided_logits_cost_log_two_whatever_the_weighting():
    for weighting in ("tokens", "sqrt_area", "scales"):
        loss = bit_cross_entropy(torch.zeros(2, 42, 8), make_bits(), SCHEDULE, weighting)
        assert math.isclose(loss.item(), math.log(2), rel_tol=1e-6)


def test_weights_have_mean_one_and_make_scales_equal_where_asked():
    per_scale = [part.sum() for part in scale_weights(SCHEDULE, "scales").split([1, 4, 16])]
    torch.testing.assert_close(torch.stack(per_scale), torch.full((3,), 7.0))
    torch.testing.assert_close(scale_weights(SCHEDULE, "sqrt_area").mean(), torch.tensor(1.0))
    assert scale_weights(SCHEDULE, "tokens").unique().tolist() == [1.0]
    with pytest.raises(ValueError, match="weighting"):
        scale_weights(SCHEDULE, "area")


def test_metrics_tell_a_wrong_bit_from_a_wrong_token():
    bits = make_bits()
    logits = torch.where(bits, 9.0, -9.0)
    logits[:, 21, 0] *= -1  # one bit of the first scale of the second frame
    metrics = bit_metrics(logits, bits, SCHEDULE)
    assert metrics["token_accuracy/scale_0"] == 0.5
    assert metrics["bit_accuracy/scale_0"] == pytest.approx(15 / 16)
    assert metrics["token_accuracy/frame_1"] == pytest.approx(20 / 21)
    assert metrics["token_accuracy/frame_0"] == metrics["token_accuracy/scale_2"] == 1
    assert metrics["loss/frame_1"] > metrics["loss/frame_0"]
