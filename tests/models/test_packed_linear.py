# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
import torch.nn as nn

from tests.tiny_components import make_tiny_pipeline, make_tiny_transformer
from videoar_pipelines.models.packed_linear import PackedLinear, pack_linear_layers


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_a_packed_layer_computes_what_the_layer_computes(dtype, tolerance, bias):
    torch.manual_seed(0)
    linear = nn.Linear(48, 96, bias=bias).to(dtype)
    packed = PackedLinear(linear)
    for num_tokens in (1, 2, 37):
        hidden_states = torch.randn(2, num_tokens, 48, dtype=dtype)
        # Sums of 48 products of about 0.1, in another order: relative to their size, a few roundings of the dtype.
        with torch.no_grad():
            torch.testing.assert_close(packed(hidden_states), linear(hidden_states), rtol=tolerance, atol=tolerance)


def test_the_state_dict_is_that_of_the_layer():
    linear = nn.Linear(48, 96)
    state_dict = PackedLinear(linear).state_dict()
    assert state_dict.keys() == linear.state_dict().keys()
    for name, tensor in linear.state_dict().items():
        assert torch.equal(state_dict[name], tensor)


@pytest.mark.parametrize("fused", [False, True])
def test_a_packed_transformer_makes_the_same_video(fused):
    videos = []
    for packed in (False, True):
        pipeline = make_tiny_pipeline()
        if fused:
            pipeline.transformer.fuse_qkv_projections()
        if packed:
            pipeline.transformer.pack_linear_layers()
            assert any(isinstance(module, PackedLinear) for module in pipeline.transformer.modules())
            attention = pipeline.transformer.blocks[0].attn
            assert isinstance(attention.to_qkv if fused else attention.to_q, PackedLinear)
        generator = torch.Generator().manual_seed(0)
        videos.append(pipeline("a red circle", generator=generator, output_type="latent").frames)
    torch.testing.assert_close(videos[1], videos[0])


def test_a_packed_transformer_is_saved_like_the_original(tmp_path):
    transformer = make_tiny_transformer()
    expected = {name: tensor.clone() for name, tensor in transformer.state_dict().items()}
    transformer.pack_linear_layers()
    transformer.save_pretrained(tmp_path)
    loaded = type(transformer).from_pretrained(tmp_path).state_dict()
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize(("device", "dtype"), [("meta", torch.float32), ("cpu", torch.float16)])
def test_what_cannot_be_packed_is_named_and_nothing_is_changed(device, dtype):
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4).to(device, dtype))
    with pytest.raises(ValueError, match=f"`1` is on '{device}' in {dtype}"):
        pack_linear_layers(model)
    assert type(model[0]) is nn.Linear
