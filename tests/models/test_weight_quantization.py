# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Weight-only quantisation with torchao, which is an optional extra (`pip install videoar_pipelines[quantization]`)."""

import pytest
import torch

from tests.tiny_components import make_tiny_transformer
from videoar_pipelines.models.token_layout import video_token_ids


quantization = pytest.importorskip("torchao.quantization", exc_type=ImportError)


@torch.no_grad()
def test_int8_weights_choose_the_bits_of_the_full_model_and_take_a_quarter_of_its_memory():
    torch.manual_seed(0)
    transformers = []
    for _ in range(2):
        transformer = make_tiny_transformer(num_layers=4, num_attention_heads=4, attention_head_dim=32)
        for parameter in transformer.parameters():
            if parameter.ndim == 2:
                parameter.normal_(0, parameter.shape[1] ** -0.5)
        transformers.append(transformer)
    full, quantized = transformers
    quantized.load_state_dict(full.state_dict())
    quantization.quantize_(quantized.blocks, quantization.Int8WeightOnlyConfig())

    schedule = ((1, 1), (2, 2), (3, 3), (4, 4))
    inputs, token_ids, text = torch.randn(8, 90, 8), video_token_ids(schedule, 3), torch.randn(8, 6, 16)
    expected, result = (model(inputs, token_ids, text).sample for model in transformers)
    # Random weights give logits around zero; a trained model is surer of its bits.
    assert ((expected > 0) == (result > 0)).float().mean() > 0.99

    weight = quantized.blocks[0].attn.to_q.weight
    assert weight.qdata.dtype == torch.int8 and weight.qdata.shape == full.blocks[0].attn.to_q.weight.shape
