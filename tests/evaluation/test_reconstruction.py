# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Reconstruction by a tokenizer, measured clip by clip and kept."""

import dataclasses

import numpy as np
import pytest
import torch

from tests.evaluation.tiny_i3d import TinyExtractorNetwork
from tests.tiny_components import make_tiny_vae
from videoar_pipelines.evaluation.clips import open_clips
from videoar_pipelines.evaluation.features import FeatureExtractor, FeatureStore
from videoar_pipelines.evaluation.frechet import FeatureStatistics, frechet_distance
from videoar_pipelines.evaluation.protocols import ClipProtocol, NetworkProtocol
from videoar_pipelines.evaluation.reconstruction import (
    Reconstruction,
    format_reconstructions,
    reconstruct_clips,
    score_anchors,
    score_reconstructions,
)
from videoar_pipelines.evaluation.scoring import Comparison


SCHEDULE = ((1, 1), (2, 2))
COMPARISON = Comparison(num_resamples=5)


@pytest.fixture
def clips(tmp_path):
    random = np.random.RandomState(0)
    (tmp_path / "clips").mkdir()
    for index in range(6):
        np.save(tmp_path / "clips" / f"{index}.npy", random.randint(0, 256, (9, 32, 32, 3), dtype=np.uint8))
    return open_clips(tmp_path / "clips", ClipProtocol(9, 32, 32, start="first"))


@pytest.fixture
def vae():
    torch.manual_seed(0)
    return make_tiny_vae()


def make_store(folder):
    extractor = FeatureExtractor(NetworkProtocol(), network=TinyExtractorNetwork(), digest="tiny")
    return FeatureStore(extractor, folder, progress=False, batch_size=4)


def test_scores_are_those_of_the_decoded_clips(clips, vae, tmp_path):
    store = make_store(tmp_path / "cache")
    reconstruction = Reconstruction(vae, SCHEDULE, (1, 2), lambda left, right: (left - right).abs().mean(), "L1")
    cache = reconstruct_clips(clips, reconstruction, store)
    scores = score_reconstructions(cache, clips, reconstruction, COMPARISON)

    video = torch.stack([clips[index] for index in range(6)])
    with torch.inference_mode():
        bits = vae.quantize(vae.encode(video).latents, SCHEDULE).bits
        for kept in (1, 2):
            decoded = vae.decode(vae.bits_to_latents(bits[:kept], SCHEDULE)).sample.clamp(-1, 1)
            decoded = ((decoded + 1) * 127.5).round() / 127.5 - 1  # the round trip to 8 bits
            own = scores[str(kept)]
            assert own["psnr"] == pytest.approx(-10 * ((video - decoded).square().mean() / 4).log10().item(), abs=1e-3)
            assert own["lpips"] == pytest.approx((video - decoded).abs().mean().item(), rel=1e-4)
            features = [FeatureStatistics.of(store.extractor(part)["logits"]) for part in (video, decoded)]
            assert own["fvd"]["value"] == pytest.approx(frechet_distance(*features), rel=1e-3)
            assert own["num_clips"] == [6, 6] and -1 <= own["ssim"] <= 1

    floats = dataclasses.replace(reconstruction, kept_scales=(2,), round_trip="none")
    with torch.inference_mode():
        decoded = vae.decode(vae.bits_to_latents(bits[:2], SCHEDULE)).sample.clamp(-1, 1)
    errors = reconstruct_clips(clips, floats, store).table()["scales_2/squared_error"]
    torch.testing.assert_close(errors, (video - decoded).square().mean(dim=(1, 3, 4)) / 4, rtol=1e-4, atol=1e-7)

    anchors = score_anchors(clips, store, COMPARISON)
    frozen = video[:, :, :1].expand_as(video)
    features = [FeatureStatistics.of(store.extractor(part)["logits"]) for part in (video, frozen)]
    assert anchors["frozen"]["fvd"]["value"] == pytest.approx(frechet_distance(*features), rel=1e-3)
    lines = format_reconstructions(scores, anchors, "real clips")
    assert lines[0] == "reconstruction of 6 real clips" and "2 scale(s) kept: rFVD" in lines[2]
    assert lines[3].startswith("  the same clips, frozen at their first frame: FVD") and "shuffled" in lines[4]


def test_another_tokenizer_is_measured_anew_and_the_same_one_is_not(clips, vae, tmp_path):
    store = make_store(tmp_path / "cache")
    first = reconstruct_clips(clips, Reconstruction(vae, SCHEDULE, (2,)), store)
    again = reconstruct_clips(clips, Reconstruction(vae, SCHEDULE, (2,)), store)
    assert again.folder == first.folder
    with torch.no_grad():
        next(vae.parameters()).mul_(2)
    assert reconstruct_clips(clips, Reconstruction(vae, SCHEDULE, (2,)), store).folder != first.folder


def test_scales_that_are_not_there_are_refused(vae):
    with pytest.raises(ValueError, match=r"`kept_scales` is \(3,\): pass numbers from 1 to 2"):
        Reconstruction(vae, SCHEDULE, (3,))
