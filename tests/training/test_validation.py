# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Held-out numbers: what they are, that they are the same every time, and that they leave the run alone."""

import argparse
from dataclasses import replace

import pytest
import torch

from tests.tiny_components import make_tiny_pipeline, make_tiny_vae
from tests.tiny_data import make_tiny_videos, parse_data_arguments
from videoar_pipelines.data.manifest import read_manifest
from videoar_pipelines.models.quantization import features_to_maps
from videoar_pipelines.training.tokenizer_step import TokenizerObjective, generator_step
from videoar_pipelines.training.transformer_step import TransformerStepOptions, batch_to_features, transformer_step
from videoar_pipelines.training.validation import (
    add_held_out_arguments,
    held_out_metrics,
    held_out_tokenizer_loss,
    mean_over_clips,
    read_held_out,
)


# As a run has them that drops texts and hides frames at random.
OPTIONS = TransformerStepOptions(16, text_drop_probability=0.5, window=1, frame_mask_probability=0.5)
NAMES = ("loss", "bit_accuracy", "token_accuracy")


@pytest.fixture(scope="module")
def pipeline():
    pipeline = make_tiny_pipeline()
    for model in (pipeline.text_encoder, pipeline.vae, pipeline.transformer):
        model.requires_grad_(False)
    return pipeline


@pytest.fixture(scope="module")
def batches():
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "pixel_values": torch.rand(2, 3, frames, 32, 32, generator=generator) * 2 - 1,
            "captions": ["a red circle"] * 2,
        }
        for frames in (9, 5)
    ]


def data_arguments(*arguments):
    args = parse_data_arguments(*arguments)
    parser = argparse.ArgumentParser()
    add_held_out_arguments(parser, default_batches=None)
    return argparse.Namespace(**vars(args) | vars(parser.parse_args([])) | {"seed": 0})


def test_values_are_given_in_total_and_by_scale_and_frame(pipeline, batches):
    metrics = held_out_metrics(pipeline, batches, OPTIONS)
    # 32 pixels are a latent grid of 2x2 of two scales; 9 pixel frames are 3 latent frames.
    parts = ["", "/scale_0", "/scale_1", "/frame_0", "/frame_1", "/frame_2"]
    assert set(metrics) == {
        f"{kind}/{name}{part}" for kind in ("clean", "flipped") for name in NAMES for part in parts
    }


def test_the_clean_loss_is_that_of_a_step_without_anything_random(pipeline, batches):
    metrics = held_out_metrics(pipeline, batches[:1], OPTIONS)
    plain = replace(OPTIONS, text_drop_probability=0.0, frame_mask_probability=0.0)
    output = transformer_step(
        batches[0],
        pipeline.transformer,
        pipeline.scheduler,
        pipeline.vae,
        pipeline.tokenizer,
        pipeline.text_encoder,
        plain,
        strength=0.0,
    )
    assert metrics["clean/loss"] == output.loss.item()
    assert metrics["flipped/loss"] != metrics["clean/loss"]


def test_values_do_not_depend_on_the_random_state_and_leave_it_alone(pipeline, batches):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = held_out_metrics(pipeline, batches, OPTIONS)
    assert torch.get_rng_state().equal(before)
    torch.manual_seed(2)
    assert held_out_metrics(pipeline, batches, OPTIONS) == first


def test_features_give_what_pixels_give_and_bits_alone_give_clean_values(pipeline, batches):
    pixels = batches[0]
    features = {"features": batch_to_features(pixels, pipeline.vae), "captions": pixels["captions"]}
    expected = held_out_metrics(pipeline, [pixels], OPTIONS)
    assert held_out_metrics(pipeline, [features], OPTIONS) == expected
    schedule = pipeline.scheduler.get_scale_schedule(2, 2)
    bits = {"bits": features_to_maps(features["features"], schedule).bits, "captions": pixels["captions"]}
    clean = {name: value for name, value in expected.items() if name.startswith("clean/")}
    assert held_out_metrics(pipeline, [bits], OPTIONS) == clean


def test_stored_text_states_are_used_only_where_the_text_encoder_is_not_trained(pipeline, batches):
    states = torch.randn(2, 16, 16, generator=torch.Generator().manual_seed(0))
    stored = batches[0] | {"text_states": states, "text_mask": torch.ones(2, 16, dtype=torch.bool)}
    encoded = held_out_metrics(pipeline, batches[:1], OPTIONS)
    assert held_out_metrics(pipeline, [stored], OPTIONS) != encoded
    assert held_out_metrics(pipeline, [stored], replace(OPTIONS, train_text_encoder=True)) == encoded


def test_means_are_over_clips_and_over_the_batches_that_have_a_value():
    results = [(1, {"loss": 1.0, "frame_1": 8.0}), (3, {"loss": 3.0})]
    assert mean_over_clips(results) == {"loss": 2.5, "frame_1": 8.0}
    assert mean_over_clips([]) == {}


def test_held_out_clips_are_the_same_in_every_run(caplog):
    runs = [read_held_out(argparse.Namespace(**vars(data_arguments()) | {"seed": seed}), 2) for seed in (0, 1)]
    assert len(runs[0]) == 4
    for first, second in zip(*runs):
        assert first["files"] == second["files"] and first["pixel_values"].equal(second["pixel_values"])
        assert all("held_out" in file for file in first["files"])


def test_data_without_held_out_clips_are_an_error_only_where_they_are_asked_for(tmp_path, caplog):
    manifest = make_tiny_videos(tmp_path)
    args = data_arguments("--data", str(manifest))
    with caplog.at_level("INFO"):
        assert read_held_out(args, 2) == []
    assert "There is no held-out loss. The manifest" in caplog.text
    args.validation_batches = 1
    with pytest.raises(ValueError, match="no column 'split'"):
        read_held_out(args, 2)
    args.validation_split = "train"
    assert len(read_held_out(args, 2)) == 1
    args.validation_batches = 0
    assert read_held_out(args, 2) == []


def test_held_out_clips_may_be_other_data(tmp_path):
    args = data_arguments("--data", str(make_tiny_videos(tmp_path)))
    args.validation_data = "moving_shapes"
    assert "moving_shapes" in read_held_out(args, 2)[0]["files"][0]


def test_a_manifest_of_held_out_clips_alone_counts_as_a_whole(tmp_path):
    (tmp_path / "other").mkdir()
    other = make_tiny_videos(tmp_path / "other")
    args = data_arguments("--data", str(make_tiny_videos(tmp_path)))
    expected = set(read_manifest(str(other)).files)
    args.validation_data, args.validation_batches, args.unsplit = str(other), len(expected), "hashed"
    assert {file for batch in read_held_out(args, 1) for file in batch["files"]} == expected
    # The manifest of the training data, by its folder or by its name, is not another one.
    args.validation_data, args.validation_batches = str(tmp_path), 1
    held_out = {file for batch in read_held_out(args, 1) for file in batch["files"]}
    assert held_out <= set(read_manifest(args.data, split="validation", unsplit="hashed").files)


def test_the_held_out_loss_of_the_tokenizer_is_its_objective_with_all_scales(pipeline, batches):
    vae = make_tiny_vae()
    objective = TokenizerObjective(entropy_weight=0.1, scale_drop_probability=0.9, adversarial_weight=1.0)
    values = held_out_tokenizer_loss(vae, batches[:1], pipeline.scheduler, objective)
    assert not vae.training
    schedule = pipeline.scheduler.get_scale_schedule(2, 2)
    whole = replace(objective, scale_drop_probability=0.0)
    expected = generator_step(vae.train(), batches[0]["pixel_values"], schedule, whole)
    assert values["loss"] == expected.loss.item()
    assert set(values) == {"loss", *(f"loss/{name}" for name in expected.terms)}
