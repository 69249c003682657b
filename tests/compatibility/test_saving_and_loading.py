# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Saving and loading with diffusers: folders, components, variants, shards, dtypes."""

import json

import numpy as np
import pytest
import torch

from tests.tiny_components import make_tiny_pipeline
from tests.tiny_videos import PROMPT, load, make_generator, sample
from tests.transformer_clips import make_clip, make_model, run_at_once
from videoar_pipelines import AutoencoderVideoAR, VideoARPipeline, VideoARScheduler, VideoARTransformer3DModel


def test_saving_in_shards_and_variants_and_loading_in_another_dtype(tmp_path):
    model, clip = make_model(), make_clip()
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    index = json.loads((tmp_path / "diffusion_pytorch_model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 1
    assert torch.equal(
        run_at_once(VideoARTransformer3DModel.from_pretrained(tmp_path), clip), run_at_once(model, clip)
    )

    model.to(torch.float16).save_pretrained(tmp_path, variant="fp16")
    loaded = VideoARTransformer3DModel.from_pretrained(tmp_path, variant="fp16", dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}
    with pytest.raises(OSError, match="ema"):
        VideoARTransformer3DModel.from_pretrained(tmp_path, variant="ema")


def test_a_saved_pipeline_makes_the_same_videos(pipe, saved_pipeline):
    loaded = load(saved_pipeline)
    assert torch.equal(sample(loaded), sample(pipe))
    for name, value in pipe.scheduler.config.items():
        assert name.startswith("_") or loaded.scheduler.config[name] == value, name
    for name, component in loaded.components.items():
        if isinstance(component, torch.nn.Module):
            assert not component.training, name


def test_a_component_is_loaded_alone(pipe, saved_pipeline):
    for name, component_class in (
        ("transformer", VideoARTransformer3DModel),
        ("vae", AutoencoderVideoAR),
        ("scheduler", VideoARScheduler),
    ):
        loaded = component_class.from_pretrained(saved_pipeline, subfolder=name)
        assert type(loaded) is type(getattr(pipe, name))
    weights = pipe.vae.state_dict()
    loaded = AutoencoderVideoAR.from_pretrained(saved_pipeline, subfolder="vae").state_dict()
    assert all(torch.equal(loaded[key], weights[key]) for key in weights)


def test_components_can_be_replaced_while_loading(pipe, saved_pipeline):
    other = make_tiny_pipeline(seed=1)
    loaded = load(saved_pipeline, transformer=other.transformer, scheduler=other.scheduler)
    assert loaded.transformer is other.transformer and loaded.scheduler is other.scheduler
    assert not torch.equal(sample(loaded), sample(pipe))


def test_a_whole_pipeline_runs_in_bfloat16(pipe, saved_pipeline):
    half = load(saved_pipeline, dtype=torch.bfloat16)
    for name in ("text_encoder", "vae", "transformer"):
        assert {parameter.dtype for parameter in getattr(half, name).parameters()} == {torch.bfloat16}, name
    assert sample(half, refinements=[1]).dtype == torch.float32
    video = half(PROMPT, generator=make_generator()).frames
    assert video.dtype == np.float32 and np.isfinite(video).all() and video.std() > 0.01


def test_each_component_can_have_its_dtype(saved_pipeline):
    mixed = load(saved_pipeline, dtype={"transformer": torch.bfloat16, "default": torch.float32})
    assert (mixed.transformer.dtype, mixed.vae.dtype) == (torch.bfloat16, torch.float32)
    assert np.isfinite(mixed(PROMPT, refinements=[1]).frames).all()


def test_a_float32_pipeline_runs_under_autocast(pipe):
    with torch.autocast("cpu", torch.bfloat16):
        assert np.isfinite(pipe(PROMPT, generator=make_generator()).frames).all()


def test_variants_and_shards_are_saved_and_loaded(own_pipe, tmp_path):
    own_pipe.to(torch.float16).save_pretrained(tmp_path, variant="fp16", max_shard_size="20KB")
    assert all(".fp16" in path.name for path in tmp_path.rglob("*.safetensors"))
    index = json.loads((tmp_path / "transformer/diffusion_pytorch_model.safetensors.index.fp16.json").read_text())
    assert len(set(index["weight_map"].values())) > 1
    loaded = load(tmp_path, variant="fp16", dtype=torch.float16)
    weights = own_pipe.transformer.state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in loaded.transformer.state_dict().items())
    with pytest.raises((OSError, ValueError), match="ema"):
        VideoARPipeline.from_pretrained(tmp_path, variant="ema")
