# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Scores under a protocol: the floor and the anchors stand where they should, and the lines name what they are of."""

import numpy as np
import pytest
import torch

from tests.evaluation.tiny_i3d import TinyExtractorNetwork
from videoar_pipelines.evaluation.clips import open_clips, open_samples
from videoar_pipelines.evaluation.features import FeatureExtractor, FeatureStore
from videoar_pipelines.evaluation.frechet import FeatureStatistics, frechet_distance
from videoar_pipelines.evaluation.protocols import ClipProtocol, NetworkProtocol, Protocol
from videoar_pipelines.evaluation.scoring import (
    Comparison,
    describe_protocol,
    format_scores,
    score_real_clips,
    score_samples,
)


PROTOCOL = Protocol("tiny", "Tiny", "stripes", "validation", ClipProtocol(9, 16, 16, start="first"))
COMPARISON = Comparison(num_resamples=10)


def write_clips(folder, count, seed, contrast=1.0):
    """Stripes of random direction and colour that move."""
    folder.mkdir()
    random = np.random.RandomState(seed)
    rows, columns, times = np.meshgrid(np.arange(16), np.arange(16), np.arange(9), indexing="ij")
    for index in range(count):
        waves = random.randn(2, 3) * 0.4
        phase = waves[0, 0] * rows + waves[0, 1] * columns + 2 * waves[0, 2] * times + random.rand() * 6
        clip = 0.5 + 0.4 * contrast * np.sin(phase)[..., None] * random.rand(3)
        np.save(folder / f"{index:03d}.npy", clip.transpose(2, 0, 1, 3).astype(np.float32))
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    extractor = FeatureExtractor(NetworkProtocol(), network=TinyExtractorNetwork(), digest="tiny")
    return FeatureStore(extractor, tmp_path_factory.mktemp("cache"), progress=False, batch_size=16)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    return open_clips(write_clips(tmp_path_factory.mktemp("data") / "real", 80, seed=0), PROTOCOL.clips)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return open_samples(
        write_clips(tmp_path_factory.mktemp("data") / "fake", 60, seed=1, contrast=0.5), PROTOCOL.clips
    )


@pytest.fixture(scope="module")
def results(real, samples, store):
    return {
        "real_clips": score_real_clips(real, store, COMPARISON),
        "samples": score_samples(real, samples, store, COMPARISON),
    }


def test_the_floor_lies_below_the_anchors_and_the_samples(results):
    floor, frozen, shuffled = (results["real_clips"][name] for name in ("floor", "frozen", "shuffled"))
    assert floor["num_clips"] == frozen["num_clips"] == shuffled["num_clips"] == [40, 40]
    for scores in (floor, frozen, shuffled, results["samples"]):
        assert scores["fvd"]["low"] < scores["fvd"]["value"] < scores["fvd"]["high"]
    assert floor["fvd"]["high"] < frozen["fvd"]["low"] and floor["fvd"]["high"] < shuffled["fvd"]["low"]
    assert abs(floor["fvd_infinity"]["value"]) < floor["fvd"]["value"]
    assert floor["fvd"]["value"] < results["samples"]["at_floor"]["fvd"]["value"]
    assert results["samples"]["at_floor"]["num_clips"] == [40, 40]


def test_a_line_through_subsets_smaller_than_the_dimensions_is_too_high_and_says_so():
    for num_clips, too_few in ((40, True), (60, False)):  # of 24 dimensions; the smallest subsets are half as large
        features = [torch.randn(num_clips, 24, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
        assert COMPARISON.at_infinity(*({"logits": table} for table in features))["too_few"] is too_few


def test_motion_tells_frozen_clips_from_moving_ones(results):
    motion = {name: scores["motion"] for name, scores in results["real_clips"].items()}
    assert motion["frozen"]["dynamic_share"][1] == 0 and motion["floor"]["dynamic_share"][1] > 0.9
    assert motion["floor"]["histogram_distance"] < 0.3 < motion["frozen"]["histogram_distance"]


def test_the_score_is_the_distance_of_all_clips(real, samples, store, results):
    tables = [store.compute(clips).table()["logits"] for clips in (real, samples)]
    expected = frechet_distance(*map(FeatureStatistics.of, tables))
    assert results["samples"]["fvd"]["value"] == pytest.approx(expected, rel=1e-12)
    assert results["samples"]["num_clips"] == [80, 60]
    pooled = score_samples(real, samples, store, Comparison("pooled", num_resamples=2))
    assert pooled["fvd"]["value"] < results["samples"]["fvd"]["value"]  # of fewer numbers


def test_the_lines_name_unit_number_and_interval(results):
    lines = format_scores(PROTOCOL, results)
    assert "samples against real held-out clips of stripes" in lines[0]
    assert "(60 against 80 clips)" in lines[0] and "[" in lines[0]
    text = "\n".join(lines)
    for part in ("infinitely many", "(floor)", "frozen at their first frame", "frames shuffled", "% dynamic"):
        assert part in text
    assert format_scores(PROTOCOL, {"real_clips": results["real_clips"]})[0].endswith("stripes alone")
    protocol_line = describe_protocol(PROTOCOL, "0123456789abcdef")
    for part in ("9 frames", "stride 1", "16x16", "cover", "bilinear", "uint8", "logits", "0123456789ab"):
        assert part in protocol_line


def test_anchors_can_be_left_out(real, store):
    assert set(score_real_clips(real, store, COMPARISON, anchors=False)) == {"floor"}
