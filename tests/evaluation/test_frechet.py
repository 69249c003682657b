# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Distances of sets of features: against scipy and closed forms, streamed and shared, and what few clips do to them."""

import os

import numpy as np
import pytest
import scipy.linalg
import torch
import torch.distributed as dist

from tests.examples.training_scripts import run_in_processes
from videoar_pipelines.evaluation.frechet import (
    FeatureStatistics,
    bootstrap_frechet,
    frechet_at_infinity,
    frechet_distance,
    gather_statistics,
    kernel_distance,
)


def make_features(count, dimension, seed=0, shift=0.0):
    """Normal features whose directions differ as much as those of I3D: few of them matter."""
    random = np.random.RandomState(seed)
    scales = np.arange(1, dimension + 1) ** -0.7
    return random.randn(count, dimension) * 3 * np.roll(scales, 3 * seed) + shift


def scipy_distance(first, second):
    covariances = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1])
    means = np.square(first.mean(axis=0) - second.mean(axis=0)).sum()
    return means + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * np.trace(root).real


def distance_of(first, second):
    return frechet_distance(FeatureStatistics.of(first), FeatureStatistics.of(second))


@pytest.mark.parametrize("dimension", [400, 1024])
@pytest.mark.parametrize("count", [64, 400, 1024, 4096])
def test_the_frechet_distance_is_that_of_scipy(count, dimension):
    first, second = make_features(count, dimension), make_features(count, dimension, seed=1, shift=0.1)
    # scipy takes the root of a product, which is singular and loses half of the digits for few clips.
    assert distance_of(first, second) == pytest.approx(scipy_distance(first, second), rel=1e-6)


@pytest.mark.parametrize("count", [16, 64, 255])
def test_fewer_clips_than_dimensions_cost_no_digits(count):
    first, second = make_features(count, 256), make_features(count, 256, seed=1)
    centred = [(features - features.mean(axis=0)) / np.sqrt(count - 1) for features in (first, second)]
    root_trace = np.linalg.svd(centred[0] @ centred[1].T, compute_uv=False).sum()  # the same in the space of clips
    expected = np.square(first.mean(axis=0) - second.mean(axis=0)).sum() - 2 * root_trace
    expected += sum(np.square(part).sum() for part in centred)
    assert distance_of(first, second) == pytest.approx(expected, rel=1e-12)


def test_closed_forms():
    features = make_features(500, 40)
    assert distance_of(features, features) == pytest.approx(0, abs=1e-10)
    assert distance_of(features, features + 2.0) == pytest.approx(40 * 4, rel=1e-12)
    assert distance_of(features, 3 * features) == pytest.approx(
        (4 * FeatureStatistics.of(features).covariance.trace() + np.square(2 * features.mean(axis=0)).sum()).item()
    )
    rotation = np.linalg.qr(np.random.RandomState(0).randn(40, 40))[0]
    other = make_features(300, 40, seed=1)
    assert distance_of(features @ rotation, other @ rotation) == pytest.approx(distance_of(features, other), rel=1e-10)


def test_streamed_and_merged_statistics_equal_those_of_the_whole():
    features = make_features(1000, 64, shift=100.0)  # far from zero, where sums of squares would lose digits
    whole, other = FeatureStatistics.of(features), FeatureStatistics.of(make_features(300, 64, seed=1))
    streamed = FeatureStatistics.empty(64)
    for part in np.array_split(features, 37):
        streamed.update(part)
    merged = FeatureStatistics.empty(64)
    for part in np.array_split(features, 4):
        merged = merged.merge(FeatureStatistics.of(part))
    for statistics in (streamed, merged):
        assert statistics.count == whole.count
        torch.testing.assert_close(statistics.mean, whole.mean, rtol=1e-12, atol=0)
        torch.testing.assert_close(statistics.covariance, whole.covariance, rtol=0, atol=1e-9)
        assert frechet_distance(statistics, other) == pytest.approx(frechet_distance(whole, other), rel=1e-9)


def test_four_processes_gather_what_one_has(tmp_path):
    features, other = make_features(501, 48, shift=10.0), FeatureStatistics.of(make_features(200, 48, seed=1))

    def measure_share():
        dist.init_process_group("gloo", rank=int(os.environ["RANK"]), world_size=int(os.environ["WORLD_SIZE"]))
        rank = dist.get_rank()
        gathered = gather_statistics(FeatureStatistics.of(features[rank::4]))
        gathered.save(tmp_path / f"{rank}.safetensors")
        dist.barrier()
        dist.destroy_process_group()

    run_in_processes(measure_share, 4)
    whole = frechet_distance(FeatureStatistics.of(features), other)
    for rank in range(4):
        gathered = FeatureStatistics.load(tmp_path / f"{rank}.safetensors")
        assert gathered.count == 501
        assert frechet_distance(gathered, other) == pytest.approx(whole, rel=1e-9)


def test_weights_count_a_clip_as_often_as_they_say():
    features = make_features(30, 8)
    weights = torch.from_numpy(np.random.RandomState(0).randint(0, 4, size=30))
    repeated = FeatureStatistics.of(np.repeat(features, weights.numpy(), axis=0))
    weighted = FeatureStatistics.of(features, weights)
    assert weighted.count == repeated.count
    torch.testing.assert_close(weighted.mean, repeated.mean)
    torch.testing.assert_close(weighted.covariance, repeated.covariance)


def test_the_kernel_distance_is_unbiased_and_finds_a_difference():
    random = np.random.RandomState(0)
    alike = [kernel_distance(random.randn(60, 10), random.randn(80, 10)) for _ in range(40)]
    distances, errors = np.array(alike).T
    assert abs(distances.mean()) < 3 * distances.std() / np.sqrt(40)  # zero on average
    assert errors.mean() == pytest.approx(distances.std(), rel=0.5)  # the standard error is one
    distance, error = kernel_distance(random.randn(60, 10), random.randn(80, 10) + 0.7)
    assert distance > 5 * error


def test_the_kernel_distance_is_the_formula():
    first, second = make_features(23, 5), make_features(31, 5, seed=1)
    kernels = [(left @ right.T / 5 + 1) ** 3 for left, right in ((first, first), (second, second), (first, second))]
    own = [(kernel.sum() - np.trace(kernel)) / (len(kernel) * (len(kernel) - 1)) for kernel in kernels[:2]]
    assert kernel_distance(first, second)[0] == pytest.approx(own[0] + own[1] - 2 * kernels[2].mean(), rel=1e-12)


def test_the_kernel_distance_of_pairs_is_the_formula_without_a_clip_and_its_partner():
    first, second = make_features(23, 5), make_features(23, 5, seed=1)
    kernels = [(left @ right.T / 5 + 1) ** 3 for left, right in ((first, first), (second, second), (first, second))]
    own = [(kernel.sum() - np.trace(kernel)) / (23 * 22) for kernel in kernels]
    assert kernel_distance(first, second, paired=True)[0] == pytest.approx(own[0] + own[1] - 2 * own[2], rel=1e-12)


def test_the_kernel_distance_of_pairs_is_unbiased():
    random, distances = np.random.RandomState(0), []
    for _ in range(40):
        shared = random.randn(60, 10)  # both sets are of one distribution, and a clip is like its partner
        pair = (0.9 * shared + 0.436 * random.randn(60, 10) for _ in range(2))
        distances.append([kernel_distance(*pair, paired=True)[0]])
    distances = np.array(distances)
    assert abs(distances.mean()) < 3 * distances.std() / np.sqrt(40)
    clips = random.randn(60, 10)
    assert kernel_distance(clips, clips, paired=True) == pytest.approx((0, 0), abs=1e-12)


def test_a_bootstrap_interval_covers_what_other_draws_give():
    random = np.random.RandomState(0)
    pairs = [(random.randn(150, 12), random.randn(150, 12) * 1.3) for _ in range(30)]
    values = [distance_of(*pair) for pair in pairs]
    covered = 0
    for first, second in pairs:
        interval = bootstrap_frechet(first, second, num_resamples=60)
        assert interval.low < interval.value < interval.high
        covered += interval.low <= np.mean(values) <= interval.high
    assert covered >= 24  # of 30, at 95 %: fewer than 24 come once in ten thousand such tests


def test_reconstructions_are_drawn_with_their_clips():
    random = np.random.RandomState(0)
    clips = 3 * random.randn(100, 6)
    reconstructions = clips + 0.5 * random.randn(100, 6)
    apart, together = (bootstrap_frechet(clips, reconstructions, paired=paired) for paired in (False, True))
    assert apart.value == together.value
    # Which clips are drawn moves both sets alike, so it hardly moves their distance.
    assert together.high - together.low < 0.5 * (apart.high - apart.low)


def test_clips_of_one_recording_are_drawn_together():
    random = np.random.RandomState(0)
    first, second = (np.repeat(random.randn(40, 6), 5, axis=0) for _ in range(2))  # five equal clips of each recording
    groups = np.repeat(np.arange(40), 5).tolist()
    alone = bootstrap_frechet(first, second)
    together = bootstrap_frechet(first, second, groups, groups)
    assert together.value == alone.value
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


def test_the_distance_at_infinity_takes_the_bias_of_few_clips_away():
    random, true = np.random.RandomState(0), 40 * (0.5**2 + 0.2**2)
    same = [(random.randn(400, 40), random.randn(400, 40)) for _ in range(6)]
    other = [(first, 1.5 * second + 0.2) for first, second in same]
    for pairs, expected in ((same, 0.0), (other, true)):
        plain = np.mean([distance_of(*pair) for pair in pairs])
        continued = np.mean([frechet_at_infinity(*pair).value for pair in pairs])
        assert plain > expected + 1.5
        assert continued == pytest.approx(expected, abs=0.5)  # means of six, each within about one


def test_too_few_clips_are_refused():
    with pytest.raises(ValueError, match="at least 2 clips, but there are 1"):
        distance_of(make_features(1, 4), make_features(5, 4))
    with pytest.raises(ValueError, match="at least 4 clips of each"):
        kernel_distance(make_features(3, 4), make_features(9, 4))
    with pytest.raises(ValueError, match="smallest subset would have 5 clips"):
        frechet_at_infinity(make_features(10, 4), make_features(100, 4))
    with pytest.raises(ValueError, match="4 and 5 dimensions"):
        distance_of(make_features(9, 4), make_features(9, 5))
