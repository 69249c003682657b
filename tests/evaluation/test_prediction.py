# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Prediction of frames: scores per horizon of continuations that are right for a while, and pairs that do not belong together."""

import numpy as np
import pytest
import torch

from tests.evaluation.tiny_i3d import TinyExtractorNetwork
from videoar_pipelines.evaluation.clips import open_samples
from videoar_pipelines.evaluation.features import FeatureExtractor, FeatureStore
from videoar_pipelines.evaluation.frechet import FeatureStatistics, frechet_distance
from videoar_pipelines.evaluation.prediction import format_predictions, measure_predictions, score_predictions
from videoar_pipelines.evaluation.protocols import ClipProtocol, NetworkProtocol, Protocol
from videoar_pipelines.evaluation.scoring import Comparison


PROTOCOL = Protocol("tiny", "Tiny", "any", "all", ClipProtocol(13, 16, 16), given_frames=5, horizons=(2, 4, 8))


@pytest.fixture
def folders(tmp_path):
    """Real clips, and predictions that are exact for four frames and then wrong by forty levels."""
    random = np.random.RandomState(0)
    for name in ("real", "predicted"):
        (tmp_path / name).mkdir()
    for index in range(8):
        clip = random.randint(50, 200, (1, 16, 16, 3)) + 5 * np.arange(13)[:, None, None, None]
        wrong = clip + 40 * (np.arange(13) >= 9)[:, None, None, None]
        for name, frames in (("real", clip), ("predicted", wrong)):
            np.save(tmp_path / name / f"{index}.npy", frames.clip(0, 255).astype(np.uint8))
    return tmp_path


def make_store(folder):
    extractor = FeatureExtractor(NetworkProtocol(), network=TinyExtractorNetwork(), digest="tiny")
    return FeatureStore(extractor, folder, progress=False)


def open_pair(folders):
    return tuple(open_samples(folders / name, PROTOCOL.clips) for name in ("real", "predicted"))


def test_scores_follow_the_horizon(folders):
    real, predicted = open_pair(folders)
    store = make_store(folders / "cache")
    errors = measure_predictions(real, predicted, 5, store)
    scores = score_predictions(real, predicted, PROTOCOL, store, Comparison(num_resamples=3), errors)
    assert set(scores) == {"given", "2", "4", "8"}
    assert scores["given"]["psnr"] > 100 and scores["2"]["psnr"] > 100  # exact
    assert scores["2"]["fvd"] is None  # 7 frames are too few for I3D
    assert scores["4"]["fvd"]["value"] == pytest.approx(0, abs=1e-6)
    assert scores["8"]["fvd"]["value"] > 0.1
    assert scores["8"]["psnr"] == pytest.approx(20 * np.log10(255 / 40), abs=1)  # forty levels, some cut at white
    assert scores["8"]["psnr"] < scores["8"]["mean_psnr"]
    # Every frame is five levels brighter than the one before.
    assert scores["2"]["held_psnr"] == pytest.approx(20 * np.log10(255 / 10), abs=0.1)
    assert scores["8"]["held_psnr"] < scores["4"]["held_psnr"] < scores["2"]["held_psnr"]
    # The given frames of these predictions are exact, so both are the same picture.
    assert scores["4"]["frozen_psnr"] == scores["4"]["held_psnr"]
    video, frozen = (
        torch.stack([clips[index] for index in range(8)]) for clips in (real, predicted.altered("frozen", 5))
    )
    assert (frozen[:, :, 5:] == frozen[:, :, 4:5]).all() and (frozen[:, :, :5] == video[:, :, :5]).all()
    features = [FeatureStatistics.of(store.extractor(part)["logits"]) for part in (video, frozen)]
    assert scores["8"]["frozen_fvd"]["value"] == pytest.approx(frechet_distance(*features), rel=1e-3)
    assert scores["2"]["frozen_fvd"] is None
    lines = format_predictions(scores, "real clips")
    assert "8 real clips, 5 given frame(s)" in lines[0] and "FVD undefined" in lines[1] and len(lines) == 4


def test_pairs_that_do_not_belong_together_are_refused(folders):
    real, predicted = open_pair(folders)
    store = make_store(folders / "cache")
    with pytest.raises(ValueError, match="There are 8 real clips and 7 predictions"):
        measure_predictions(real, predicted.select(range(7)), 5, store)
    with pytest.raises(ValueError, match="Clip 0 is '0' among the real clips and '7' among the predictions"):
        measure_predictions(real, predicted.select(range(7, -1, -1)), 5, store)


def test_a_protocol_without_given_frames_is_refused(folders):
    real, predicted = open_pair(folders)
    store = make_store(folders / "cache")
    errors = measure_predictions(real, predicted, 5, store)
    protocol = Protocol("tiny", "Tiny", "any", "all", ClipProtocol(13, 16, 16))
    with pytest.raises(ValueError, match="'tiny' gives no frames"):
        score_predictions(real, predicted, protocol, store, Comparison(), errors)
