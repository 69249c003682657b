# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""FVD while training: over which clips it is, that processes share them, and that it leaves the run alone."""

import json
from argparse import Namespace

import numpy as np
import pytest
import torch
import torch.distributed as dist

from tests.evaluation.tiny_i3d import TinyExtractorNetwork
from tests.examples.training_scripts import run_in_processes
from tests.tiny_components import make_tiny_pipeline
from tests.tiny_data import parse_data_arguments
from videoar_pipelines.evaluation.features import FeatureExtractor
from videoar_pipelines.evaluation.frechet import FeatureStatistics, frechet_distance
from videoar_pipelines.evaluation.protocols import NetworkProtocol
from videoar_pipelines.training.validation_fvd import (
    ValidationFVD,
    make_validation_fvd,
    reconstruction_fvd,
    sampled_fvd,
)
from videoar_pipelines.utils import save_video
from videoar_pipelines.utils.command_line import UsageError


def make_batches(num_frames=9, batch_size=2, number=3):
    generator = torch.Generator().manual_seed(0)
    shape = (batch_size, 3, num_frames, 32, 32)
    levels = [torch.randint(0, 256, shape, generator=generator) for _ in range(number)]
    return [{"pixel_values": level / 127.5 - 1, "captions": ["a red circle"] * batch_size} for level in levels]


@pytest.fixture(scope="module")
def extractor():
    return FeatureExtractor(NetworkProtocol(), network=TinyExtractorNetwork(), digest="tiny")


def frozen(batch, first):
    return batch["pixel_values"][:, :, :1].expand(-1, -1, 9, -1, -1)


def test_clips_have_no_distance_to_themselves_and_frozen_ones_have_one(extractor):
    fvd = ValidationFVD(make_batches(), 6, extractor, keeps_pixels=True)
    assert abs(fvd(lambda batch, first: batch["pixel_values"])) < 1e-8  # rounding of roots in float64
    assert fvd(frozen) > 1


def test_the_distance_is_over_the_first_clips(extractor):
    """Five of three batches of two."""
    fvd = ValidationFVD(make_batches(), 5, extractor, keeps_pixels=True)
    clips = torch.cat([batch["pixel_values"] for batch in make_batches()])[:5]
    own, still = (extractor(part)["logits"] for part in (clips, clips[:, :, :1].expand(-1, -1, 9, -1, -1)))
    expected = frechet_distance(FeatureStatistics.of(own), FeatureStatistics.of(still))
    assert fvd(frozen) == pytest.approx(expected, rel=1e-9)
    assert [len(batch["captions"]) for batch in fvd.batches.values()] == [2, 2, 1]


def test_processes_share_the_clips_and_find_the_same(extractor, tmp_path):
    def measure():
        dist.init_process_group("gloo")
        fvd = ValidationFVD(make_batches(), 6, extractor, dist.get_rank(), dist.get_world_size(), keeps_pixels=True)
        found = {"clips": sorted(fvd.batches), "fvd": fvd(frozen)}
        (tmp_path / f"{dist.get_rank()}.json").write_text(json.dumps(found))

    run_in_processes(measure, 2)
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert [part["clips"] for part in found] == [[0, 4], [2]]
    alone = ValidationFVD(make_batches(), 6, extractor, keeps_pixels=True)(frozen)
    assert [part["fvd"] for part in found] == [alone, alone]


def test_videos_are_the_same_every_time_and_leave_the_random_state_alone(extractor):
    pipeline = make_tiny_pipeline()
    fvd = ValidationFVD(make_batches(), 4, extractor)
    assert all("pixel_values" not in batch for batch in fvd.batches.values())
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = sampled_fvd(fvd, pipeline)
    assert torch.get_rng_state().equal(before)
    torch.manual_seed(2)
    assert sampled_fvd(fvd, pipeline) == first and list(first) == ["fvd_of_4_clips"]
    assert sampled_fvd(fvd, pipeline, guidance_scale=1.0) != first


def test_reconstructions_are_measured_against_their_own_clips(extractor):
    pipeline = make_tiny_pipeline()
    fvd = ValidationFVD(make_batches(), 4, extractor, keeps_pixels=True)
    clips = torch.cat([batch["pixel_values"] for batch in make_batches()])[:4]
    with torch.no_grad():
        decoded = pipeline.vae(clips, pipeline.scheduler.get_scale_schedule(2, 2)).sample
    decoded = ((decoded + 1) * 127.5).round() / 127.5 - 1
    parts = [FeatureStatistics.of(extractor(part)["logits"]) for part in (clips, decoded)]
    # Relative to distances of hundreds: a batch of two and one of four round differently.
    expected = pytest.approx(frechet_distance(*parts), rel=1e-3)
    assert reconstruction_fvd(fvd, pipeline.vae, pipeline.scheduler) == {"rfvd_of_4_clips": expected}


@pytest.mark.parametrize("flags", [[], ["--data_repeats", 3], ["--image_ratio", 0.5]])
def test_no_clip_is_taken_twice(extractor, tmp_path, flags):
    frames = np.random.default_rng(0).random((9, 32, 32, 3), dtype=np.float32)
    for number in range(5):
        save_video(frames, tmp_path / f"{number}.mp4", fps=8)
    lines = [f"{number}.mp4,a red circle,validation" for number in range(5)]
    (tmp_path / "manifest.csv").write_text("\n".join(["file,caption,split", *lines]))
    args = parse_data_arguments("--data", tmp_path / "manifest.csv", *flags)
    args.num_frames, args.validation_data, args.validation_split = 9, None, "validation"
    accelerator = Namespace(process_index=0, num_processes=1, device="cpu")
    for num_clips, batch_size, num_held_out in ((4, 2, 4), (5, 1, 5), (5, 2, 4), (4, 8, 4)):
        args.validation_fvd_clips = num_clips
        if num_clips > num_held_out:
            with pytest.raises(UsageError, match="`--validation_fvd_clips` is 5, but there are 4 .* batches of 2"):
                make_validation_fvd(accelerator, args, batch_size, extractor=extractor)
            continue
        fvd = make_validation_fvd(accelerator, args, batch_size, extractor=extractor)
        assert sum(len(batch["captions"]) for batch in fvd.batches.values()) == num_clips


def test_token_shards_and_short_clips_are_refused(extractor):
    with pytest.raises(ValueError, match="`--validation_data`"):
        ValidationFVD([{"bits": [], "captions": ["a red circle"]}], 2, extractor)
    with pytest.raises(ValueError, match="at least 9 frames, these have 5"):
        ValidationFVD(make_batches(num_frames=5), 2, extractor)
