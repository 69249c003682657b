# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Offloading and placement of diffusers and accelerate: every entry point finds its weights, and the bits stay."""

import numpy as np
import pytest
import torch
from accelerate import cpu_offload
from accelerate.hooks import CpuOffload, ModelHook, add_hook_to_module, remove_hook_from_module

from tests.tiny_components import make_tiny_pipeline
from tests.tiny_videos import PROMPT, assert_close_pixels, load, make_generator, sample
from tests.transformer_clips import (
    assert_same_logits,
    make_clip,
    make_filled_cache,
    make_model,
    run_at_once,
    run_map_by_map,
)
from videoar_pipelines import VideoARTransformer3DModel


@pytest.mark.parametrize(
    "options", [{"offload_type": "leaf_level"}, {"offload_type": "block_level", "num_blocks_per_group": 1}], ids=str
)
def test_group_offloading_serves_every_entry_point(options, tmp_path):
    model, clip = make_model(), make_clip()
    expected, null_text = run_map_by_map(model, clip), model.null_text_embeds(2, 5).clone()
    # Groups on disk leave uninitialised memory behind: a weight that nobody brings back is noticed on a CPU too.
    model.enable_group_offload(onload_device=torch.device("cpu"), offload_to_disk_path=str(tmp_path), **options)
    assert torch.equal(model.null_text_embeds(2, 5), null_text)
    assert torch.equal(run_map_by_map(model, clip), expected)


def test_every_entry_point_runs_the_offload_hook_of_accelerate():
    model, clip, calls = make_model(), make_clip(), []

    class CountingHook(ModelHook):
        def pre_forward(self, module, *args, **kwargs):
            calls.append(module)
            return args, kwargs

    add_hook_to_module(model, CountingHook())
    model.null_text_embeds(1, 3)
    cache = make_filled_cache(model, clip)
    model(clip.hidden_states[:, :1], clip.token_ids[:1], kv_cache=cache)
    assert len(calls) == 3
    remove_hook_from_module(model)


@pytest.mark.parametrize("device_map", ["auto", "cpu", "partly_on_disk"])
def test_a_device_map_places_the_model(device_map, tmp_path):
    model, clip = make_model(), make_clip()
    if device_map == "partly_on_disk":
        device_map = dict.fromkeys((name.split(".")[0] for name in model.state_dict()), "cpu")
        del device_map["blocks"]
        device_map |= {"blocks.0": "cpu", "blocks.1": "disk", "text_embedder": "disk", "proj_out": "disk"}
    model.save_pretrained(tmp_path / "model")
    loaded = VideoARTransformer3DModel.from_pretrained(
        tmp_path / "model", device_map=device_map, offload_folder=tmp_path / "offload"
    )
    assert_same_logits(run_map_by_map(loaded, clip), run_map_by_map(model, clip))


def test_moving_and_casting_go_through_every_model(own_pipe):
    own_pipe.to("meta")
    assert own_pipe.device.type == "meta"
    assert {own_pipe.text_encoder.device, own_pipe.vae.device, own_pipe.transformer.device} == {torch.device("meta")}


@pytest.mark.parametrize("refinements", [[], [1]])
def test_model_offload_runs_its_hooks_and_changes_nothing(pipe, own_pipe, monkeypatch, refinements):
    expected = pipe(PROMPT, refinements=refinements, generator=make_generator()).frames
    calls, pre_forward = [], CpuOffload.pre_forward

    def noted_pre_forward(hook, module, *args, **kwargs):
        calls.append(type(module).__name__)
        return pre_forward(hook, module, *args, **kwargs)

    monkeypatch.setattr(CpuOffload, "pre_forward", noted_pre_forward)
    own_pipe.enable_model_cpu_offload(device="cpu")
    for _ in range(2):  # the second call finds everything put back
        calls.clear()
        video = own_pipe(PROMPT, refinements=refinements, generator=make_generator()).frames
        assert_close_pixels(video, expected)
        assert list(dict.fromkeys(calls)) == ["T5EncoderModel", "VideoARTransformer3DModel", "AutoencoderVideoAR"]


@pytest.mark.parametrize("is_interrupted", [False, True])
def test_a_call_ends_by_freeing_the_offloaded_models(own_pipe, monkeypatch, is_interrupted):
    def maybe_interrupt(pipeline, step, timestep, callback_kwargs):
        assert not calls
        pipeline._interrupt = is_interrupted
        return callback_kwargs

    calls = []
    monkeypatch.setattr(own_pipe, "maybe_free_model_hooks", lambda: calls.append("freed"))
    for output_type in ("np", "latent"):
        calls.clear()
        own_pipe(PROMPT, output_type=output_type, callback_on_step_end=maybe_interrupt)
        assert calls == ["freed"]


@pytest.mark.parametrize("refinements", [[], [1]])
def test_sequential_offload_changes_nothing(pipe, own_pipe, refinements):
    # What `enable_sequential_cpu_offload` does to every model; from a CPU to a CPU accelerate manages these two.
    cpu_offload(own_pipe.transformer, "cpu")
    cpu_offload(own_pipe.vae, "cpu")
    expected = pipe(PROMPT, refinements=refinements, generator=make_generator()).frames
    for _ in range(2):
        assert own_pipe.transformer.null_text.device.type == "meta"
        assert own_pipe.vae.decoder.conv_out.weight.device.type == "meta"
        video = own_pipe(PROMPT, refinements=refinements, generator=make_generator()).frames
        assert_close_pixels(video, expected)


@pytest.mark.parametrize(
    "options", [{"offload_type": "leaf_level"}, {"offload_type": "block_level", "num_blocks_per_group": 1}], ids=str
)
def test_group_offload_of_all_models_changes_nothing(pipe, own_pipe, tmp_path, options):
    # Groups on disk leave uninitialised memory behind: a weight that nobody brings back is noticed on a CPU too.
    own_pipe.enable_group_offload(
        onload_device=torch.device("cpu"),
        offload_to_disk_path=str(tmp_path),
        exclude_modules="text_encoder",
        **options,
    )
    assert own_pipe._execution_device == torch.device("cpu")
    for refinements in ([], [1], [1]):
        arguments = {"prompt": PROMPT, "refinements": refinements}
        assert_close_pixels(
            own_pipe(**arguments, generator=make_generator()).frames,
            pipe(**arguments, generator=make_generator()).frames,
        )


@pytest.mark.gpu
@pytest.mark.parametrize(
    "offload",
    [
        lambda pipe: pipe.enable_model_cpu_offload(),
        lambda pipe: pipe.enable_sequential_cpu_offload(),
        lambda pipe: pipe.enable_group_offload(onload_device=torch.device("cuda"), offload_type="leaf_level"),
    ],
    ids=["model", "sequential", "group"],
)
def test_offloading_from_a_gpu_changes_nothing(own_pipe, offload):
    expected = sample(make_tiny_pipeline().to("cuda"))
    offload(own_pipe)
    for _ in range(2):
        assert torch.equal(sample(own_pipe), expected)
        assert np.isfinite(own_pipe(PROMPT, refinements=[1]).frames).all()


@pytest.mark.parametrize("device_map", ["cpu", "balanced"])
def test_a_device_map_places_a_pipeline(pipe, saved_pipeline, device_map):
    assert torch.equal(sample(load(saved_pipeline, device_map=device_map)), sample(pipe))


@pytest.mark.parametrize("is_given", [True, False])
def test_sequential_offload_serves_conditions_and_their_nulls(is_given):
    model, clip = make_model(frame_conditions={"action": {"vector_size": 3}}), make_clip()
    torch.nn.init.normal_(model.condition_embedders["action"].null)
    conditions = {"frame_conditions": {"action": torch.randn(2, 3, 3)}} if is_given else {}
    expected = run_at_once(model, clip, **conditions)
    cpu_offload(model, "cpu")
    assert_same_logits(run_at_once(model, clip, **conditions), expected)
