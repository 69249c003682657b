# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch

from tests.tiny_components import make_tiny_vae
from videoar_pipelines.training.tokenizer_metrics import (
    bit_statistics,
    bit_usage,
    comparison_grid,
    peak_signal_to_noise_ratio,
    quality_by_scales,
    reconstructions_by_scales,
    round_trip_flips,
    usage_picture,
)


SCHEDULE = ((1, 1), (2, 2), (4, 4))


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    return make_tiny_vae()


@pytest.fixture(scope="module")
def video():
    return torch.rand(2, 3, 5, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(scope="module")
def bits(vae, video):
    with torch.no_grad():
        return vae.quantize(vae.encode(video).latents, SCHEDULE).bits


def test_statistics_tell_a_dead_bit_from_a_fair_one():
    fair = torch.tensor([True, False]).repeat(8).reshape(1, 1, 4, 4, 1)
    bits = [torch.cat([fair, torch.ones_like(fair)], dim=-1)]
    assert bit_usage(bits).tolist() == [[0.5, 1.0]]
    statistics = bit_statistics(bits)
    assert statistics["bit_entropy/scale_0"] == pytest.approx(0.5, abs=1e-4)
    assert statistics["bit_entropy_min/scale_0"] == pytest.approx(0, abs=1e-4)
    assert usage_picture(bit_usage(bits), cell=2).shape == (2, 4, 3)


def test_flips_count_the_bits_that_a_round_trip_changes(vae, bits):
    flips = round_trip_flips(vae, bits, SCHEDULE)
    with torch.no_grad():
        decoded = vae.decode(vae.bits_to_latents(bits, SCHEDULE)).sample
        again = vae.quantize(vae.encode(decoded).latents, SCHEDULE).bits
    changed, total = sum((a != b).sum() for a, b in zip(bits, again)), sum(scale_bits.numel() for scale_bits in bits)
    assert flips["round_trip_flips/all"] == pytest.approx((changed / total).item())
    assert 0 < flips["round_trip_flips/all"] < 1 and len(flips) == len(SCHEDULE) + 1


def test_psnr_is_that_of_the_mean_squared_error(video):
    noisy = (video + 0.1).clamp(-1, 1)
    expected = 10 * math.log10(4 / (noisy - video).square().mean().item())
    assert peak_signal_to_noise_ratio(video, noisy) == pytest.approx(expected, abs=1e-3)


def test_quality_is_measured_for_every_number_of_scales(vae, video, bits):
    pytest.importorskip("torchmetrics")
    reconstructions = reconstructions_by_scales(vae, bits, SCHEDULE)
    with torch.no_grad():
        torch.testing.assert_close(reconstructions[-1], vae(video, SCHEDULE).sample, rtol=1e-4, atol=1e-5)
    quality = quality_by_scales(video, [*reconstructions[:2], video])
    assert quality["psnr/scales_1"] == pytest.approx(peak_signal_to_noise_ratio(video, reconstructions[0]), abs=1e-3)
    assert quality["ssim/scales_3"] == pytest.approx(1, abs=1e-5) and quality["ssim/scales_1"] < 0.9
    assert len(quality) == 6


def test_the_grid_shows_first_and_last_frame_of_every_version(video):
    grid = comparison_grid(video, [video, -video], max_clips=1)
    assert grid.shape == (64, 2 * 3 * 64, 3)
    original = ((video[0, :, -1] + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0)
    assert grid[:, 64:128].equal(original) and grid[:, 192:256].equal(original) and not grid[:, 320:].equal(original)
