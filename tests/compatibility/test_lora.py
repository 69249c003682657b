# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""LoRA as in diffusers and peft: added, saved, loaded, combined, scaled, fused, unloaded."""

import importlib.util

import pytest
import torch

from tests.tiny_components import make_tiny_pipeline
from tests.tiny_videos import sample
from tests.transformer_clips import (
    assert_different,
    assert_same_logits,
    make_clip,
    make_model,
    run_at_once,
    run_map_by_map,
)
from videoar_pipelines import VideoARPipeline


needs_peft = pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="needs peft")


def add_lora(model, adapter_name="default"):
    peft = pytest.importorskip("peft")
    targets = ["to_q", "to_k", "to_v", "to_out.0", "net.2"]
    model.add_adapter(
        peft.LoraConfig(r=4, lora_alpha=4, target_modules=targets, init_lora_weights=False), adapter_name=adapter_name
    )
    return model


def test_lora_is_added_saved_loaded_fused_and_disabled(tmp_path):
    model, clip = make_model(), make_clip()
    base = run_at_once(model, clip)
    add_lora(model)
    adapted = run_at_once(model, clip)
    assert_different(adapted, base)
    model.save_lora_adapter(tmp_path)

    model.disable_lora()
    assert torch.equal(run_at_once(model, clip), base)
    model.enable_lora()
    assert torch.equal(run_at_once(model, clip), adapted)

    loaded = make_model()
    loaded.load_lora_adapter(tmp_path, prefix=None, use_safetensors=True)
    assert torch.equal(run_at_once(loaded, clip), adapted)
    loaded.fuse_lora()
    assert_same_logits(run_at_once(loaded, clip), adapted)
    loaded.unfuse_lora()
    assert_same_logits(run_at_once(loaded, clip), adapted)
    loaded.unload_lora()
    assert_same_logits(run_at_once(loaded, clip), base)


@pytest.mark.parametrize("scale", [0.0, 0.5, 2.0])
def test_the_scale_of_a_lora_reaches_text_and_maps_alike(scale):
    model, clip = make_model(), make_clip()
    base = run_at_once(model, clip)
    adapted = run_at_once(add_lora(model), clip)
    scaled = run_at_once(model, clip, attention_kwargs={"scale": scale})
    assert_different(scaled, adapted)
    if scale == 0:
        assert_same_logits(scaled, base)
    assert_same_logits(run_map_by_map(model, clip, attention_kwargs={"scale": scale}), scaled)
    assert torch.equal(run_at_once(model, clip), adapted), "the scale was not put back"


def add_lora_to_pipeline(pipe, adapter_name, seed):
    from peft import LoraConfig

    torch.manual_seed(seed)
    config = LoraConfig(r=4, lora_alpha=4, target_modules=["to_q", "to_v", "net.2"], init_lora_weights=False)
    pipe.transformer.add_adapter(config, adapter_name=adapter_name)


def save_lora(folder, seed):
    from peft import get_peft_model_state_dict

    pipe = make_tiny_pipeline()
    add_lora_to_pipeline(pipe, "default", seed)
    layers = get_peft_model_state_dict(pipe.transformer)
    VideoARPipeline.save_lora_weights(folder, transformer_lora_layers=layers)
    return sample(pipe)


@needs_peft
def test_lora_weights_are_saved_loaded_combined_fused_and_unloaded(pipe, own_pipe, tmp_path):
    base = sample(pipe)
    first, second = save_lora(tmp_path / "first", 1), save_lora(tmp_path / "second", 2)
    assert not torch.equal(first, base) and not torch.equal(second, first)

    own_pipe.load_lora_weights(tmp_path / "first", adapter_name="first")
    assert torch.equal(sample(own_pipe), first)
    own_pipe.load_lora_weights(tmp_path / "second", adapter_name="second")
    own_pipe.set_adapters("second")
    assert torch.equal(sample(own_pipe), second)
    assert own_pipe.get_active_adapters() == ["second"]
    assert own_pipe.get_list_adapters() == {"transformer": ["first", "second"]}
    own_pipe.set_adapters(["first", "second"], adapter_weights=[0.7, 0.5])
    both = sample(own_pipe)
    assert not torch.equal(both, first) and not torch.equal(both, second)
    own_pipe.disable_lora()
    assert torch.equal(sample(own_pipe), base)
    own_pipe.enable_lora()
    assert torch.equal(sample(own_pipe), both)

    own_pipe.set_adapters("first")
    own_pipe.delete_adapters("second")
    own_pipe.fuse_lora()
    own_pipe.unload_lora_weights()
    assert torch.equal(sample(own_pipe), first)
    assert not any("lora" in name for name in own_pipe.transformer.state_dict())


@needs_peft
def test_the_scale_of_a_lora_is_an_argument_of_the_call(pipe, own_pipe, tmp_path):
    adapted = save_lora(tmp_path, 1)
    own_pipe.load_lora_weights(tmp_path)
    assert torch.equal(sample(own_pipe, attention_kwargs={"scale": 0.0}), sample(pipe))
    assert torch.equal(sample(own_pipe, attention_kwargs={"scale": 1.0}), adapted)
    own_pipe.set_adapters("default_0", 0.5)
    halved = sample(own_pipe)
    own_pipe.set_adapters("default_0", 1.0)
    assert torch.equal(sample(own_pipe, attention_kwargs={"scale": 0.5}), halved)
    assert not torch.equal(halved, adapted)


@needs_peft
def test_fused_projections_never_leave_an_adapter_out(tmp_path):
    from peft import LoraConfig

    add_lora(make_model()).save_lora_adapter(tmp_path)
    adapted, fused = add_lora(make_model()), make_model()
    with pytest.raises(ValueError, match="leave out the layers that an adapter has at `to_q`"):
        adapted.fuse_qkv_projections()
    clip = make_clip()
    fused.fuse_qkv_projections()
    expected = run_at_once(fused, clip)
    for add in (add_lora, lambda model: model.load_lora_adapter(tmp_path, prefix=None, use_safetensors=True)):
        with pytest.raises(ValueError, match="which are fused and would not be run: call .*unfuse_qkv_projections"):
            add(fused)
        assert torch.equal(run_at_once(fused, clip), expected)
    # Adapters elsewhere stay when another one is refused.
    for name in ("elsewhere", "there"):
        fused.add_adapter(LoraConfig(r=2, target_modules=["net.2"], init_lora_weights=False), adapter_name=name)
    fused.set_adapter(["elsewhere", "there"])
    expected = run_at_once(fused, clip)
    with pytest.raises(ValueError, match="which are fused"):
        add_lora(fused)
    assert torch.equal(run_at_once(fused, clip), expected) and list(fused.peft_config) == ["elsewhere", "there"]
    fused.unfuse_qkv_projections()
    add_lora(fused)

    # Merged layers are weights of the model, and layers elsewhere are run as they are.
    adapted.fuse_lora()
    merged = run_at_once(adapted, clip)
    adapted.unload_lora()
    adapted.fuse_qkv_projections()
    assert_same_logits(run_at_once(adapted, clip), merged)
    adapted.add_adapter(LoraConfig(r=2, target_modules=["net.2"], init_lora_weights=False))
    assert_different(run_at_once(adapted, clip), merged)
