# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Attention backends and processors of diffusers."""

import pytest
import torch
from diffusers.models.attention_dispatch import _AttentionBackendRegistry, attention_backend

from tests.tiny_videos import sample
from tests.transformer_clips import (
    assert_different,
    assert_same_logits,
    make_clip,
    make_model,
    run_at_once,
    run_map_by_map,
)
from videoar_pipelines.models import transformer_videoar
from videoar_pipelines.models.transformer_videoar import VideoARAttnProcessor


@pytest.fixture
def restored_attention_backend():
    """`set_attention_backend` also sets the default of the process, and nothing else puts it back."""
    backend = _AttentionBackendRegistry._active_backend
    yield
    _AttentionBackendRegistry._active_backend = backend


@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
def test_every_attention_call_goes_through_the_dispatcher_of_diffusers(fused, monkeypatch):
    model, clip = make_model(), make_clip()
    if fused:
        model.fuse_qkv_projections()
    calls = []
    dispatch = transformer_videoar.dispatch_attention_fn
    monkeypatch.setattr(
        transformer_videoar,
        "dispatch_attention_fn",
        lambda *args, **kwargs: calls.append(1) or dispatch(*args, **kwargs),
    )
    run_map_by_map(model, clip)
    assert len(calls) == len(model.blocks) * (1 + len(clip.map_slices))


@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
@pytest.mark.parametrize("backend", ["native", "_native_math", "flex"])
def test_attention_backends_agree(backend, fused, restored_attention_backend):
    model, clip = make_model(num_layers=1), make_clip(num_frames=2, padded=True)
    expected = run_at_once(model, clip)
    if fused:
        model.fuse_qkv_projections()
    model.requires_grad_(False)  # the flex backend has no gradients on a CPU
    model.set_attention_backend(backend)
    assert model.blocks[0].attn.processor._attention_backend == backend
    assert_same_logits(run_at_once(model, clip), expected)
    assert_same_logits(run_map_by_map(model, clip), expected)


def test_attention_processors_can_be_read_and_replaced():
    model, clip = make_model(), make_clip()
    assert list(model.attn_processors) == [f"blocks.{index}.attn.processor" for index in range(2)]
    expected = run_at_once(model, clip)

    class SilentProcessor(VideoARAttnProcessor):
        def __call__(self, attn, hidden_states, *args, **kwargs):
            return torch.zeros_like(hidden_states)

    model.set_attn_processor(SilentProcessor())
    assert_different(run_at_once(model, clip), expected)
    model.set_attn_processor(VideoARAttnProcessor())
    assert torch.equal(run_at_once(model, clip), expected)


def test_attention_backends_are_chosen_for_a_pipeline_or_a_block_of_code(pipe, own_pipe):
    expected, backend = sample(pipe), _AttentionBackendRegistry._active_backend
    try:
        for name in ("_native_math", "_native_flash"):
            own_pipe.transformer.set_attention_backend(name)
            assert torch.equal(sample(own_pipe), expected)
        own_pipe.transformer.reset_attention_backend()
    finally:
        _AttentionBackendRegistry._active_backend = backend
    with attention_backend("_native_math"):
        assert torch.equal(sample(pipe), expected)
