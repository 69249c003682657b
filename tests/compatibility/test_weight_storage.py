# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Weights that are stored in fewer bits than they compute in: layerwise casting of diffusers, and torchao."""

import numpy as np
import pytest
import torch

from tests.tiny_videos import PROMPT, load
from tests.transformer_clips import make_clip, make_model, run_at_once, run_map_by_map


@pytest.mark.parametrize(
    ("storage_dtype", "compute_dtype"), [(torch.bfloat16, torch.float32), (torch.float8_e4m3fn, torch.bfloat16)]
)
def test_weights_can_be_stored_in_fewer_bits_than_they_compute_in(storage_dtype, compute_dtype):
    model, clip = make_model(), make_clip()
    expected = run_at_once(model, clip)
    model.to(compute_dtype).enable_layerwise_casting(storage_dtype=storage_dtype, compute_dtype=compute_dtype)
    assert model.blocks[0].attn.to_q.weight.dtype == storage_dtype
    assert model.null_text.dtype == model.scale_embedding.weight.dtype == compute_dtype
    logits, cached = run_at_once(model, clip), run_map_by_map(model, clip)
    assert logits.dtype == cached.dtype == compute_dtype
    # Three bits of mantissa in every weight.
    assert (logits - expected).abs().mean() < 0.3 * expected.std()
    assert (cached - logits).abs().mean() < 0.1 * expected.std()


def test_float8_storage_of_the_transformer_runs(own_pipe):
    own_pipe.to(torch.bfloat16)
    own_pipe.transformer.enable_layerwise_casting(torch.float8_e4m3fn, torch.bfloat16)
    assert np.isfinite(own_pipe(PROMPT).frames).all()
    assert own_pipe.transformer.blocks[0].ff.net[2].weight.dtype == torch.float8_e4m3fn


def test_weights_quantised_by_torchao_run(saved_pipeline):
    pytest.importorskip("torchao")
    from diffusers import PipelineQuantizationConfig, TorchAoConfig
    from torchao.quantization import Int8WeightOnlyConfig

    quantization = PipelineQuantizationConfig(quant_mapping={"transformer": TorchAoConfig(Int8WeightOnlyConfig())})
    quantised = load(saved_pipeline, quantization_config=quantization, dtype=torch.bfloat16)
    assert np.isfinite(quantised(PROMPT).frames).all()


def test_conditions_go_with_weights_that_are_stored_in_eight_bits():
    model, clip = make_model(frame_conditions={"action": {"vector_size": 3}}), make_clip()
    conditions = {"action": torch.randn(2, 3, 3)}
    expected = run_at_once(model, clip, frame_conditions=conditions)
    model.enable_layerwise_casting(torch.float8_e4m3fn, torch.float32)
    logits = run_at_once(model, clip, frame_conditions=conditions)
    assert (logits - expected).abs().mean() < 0.1 * expected.abs().mean()
