# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0

import re

import pytest
import torch
from checkpoint_files import ConversionError
from infinitystar_tokenizer_keys import DROPPED, RENAMES, convert_tokenizer, is_dropped, rename_key

from tests.infinitystar_fixtures import facts, public_tensors
from videoar_pipelines import AutoencoderInfinityStar


def full_size_tensors() -> dict[str, torch.Tensor]:
    """Names and shapes of the published tokenizer, without numbers."""
    shapes = facts()["full_size"]["shapes"]
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


def test_the_published_tokenizer_is_the_default_configuration():
    config, tensors = convert_tokenizer(full_size_tensors())
    with torch.device("meta"):
        model = AutoencoderInfinityStar()
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {
        name: tuple(parameter.shape) for name, parameter in model.state_dict().items()
    }
    assert {name: model.config[name] for name in config} == {
        name: tuple(value) if isinstance(value, list) else value for name, value in config.items()
    }


def test_every_published_tensor_is_a_parameter_or_known_as_not_needed():
    public = full_size_tensors()
    _, tensors = convert_tokenizer(public)
    dropped = [key for key in public if is_dropped(key)]
    assert (len(public), len(tensors), len(dropped)) == (301, 293, 8)
    buffers = facts()["full_size"]["buffers"]
    assert set(buffers) <= set(dropped)
    # Three of four gains are not needed either.
    not_needed = sum(public[key].numel() for key in dropped if key not in buffers) + 3
    filled = sum(tensor.numel() for tensor in tensors.values())
    assert filled + not_needed == facts()["full_size"]["parameters"] == 184_659_383
    assert not_needed == 2 * (64 * 64 + 64) + 3


def test_every_key_matches_exactly_one_pattern():
    patterns = [pattern for pattern, _ in RENAMES] + list(DROPPED)
    names = []
    for key in full_size_tensors():
        assert sum(re.fullmatch(pattern, key) is not None for pattern in patterns) == 1, key
        names += [name] if (name := rename_key(key)) is not None else []
    assert len(set(names)) == len(names)
    for pattern in patterns:
        assert any(re.fullmatch(pattern, key) for key in full_size_tensors()), pattern


def test_the_tiny_reference_is_converted_without_a_missing_or_unused_key():
    config, tensors = convert_tokenizer(public_tensors())
    model = AutoencoderInfinityStar(**config)
    assert config["block_out_channels"] == [4, 8, 16, 16] and config["temporal_downsample"] == [True, True, False]
    model.load_state_dict(tensors)  # strict
    assert torch.equal(model.latent_gain, public_tensors()["scale_learnable_parameters"][:1])
    gamma = public_tensors()["encoder.down_blocks.0.resnets.1.norm2.gamma"]
    assert torch.equal(model.encoder.down_blocks[0].resnets[1].norm2.weight, gamma.flatten())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder.extra.weight": torch.zeros(2)}, r"has 1 tensor\(s\): encoder.extra.weight \(2,\) that this"),
        ({"prefix.proj_down.weight": torch.zeros(2)}, "prefix.proj_down.weight"),
        ({"proj_up.weight": None}, r"lacks 1 tensor\(s\): post_quant_proj.weight \(64, 64\)"),
        ({"encoder.conv_in.conv.weight": None}, "lacks encoder.conv_in.weight"),
        ({"proj_up.weight": torch.zeros(64, 32)}, r"another shape for .* post_quant_proj.weight \(64, 32\) instead"),
        ({"proj_up.weight": "text"}, "proj_up.weight of type str"),
        ({"decoder.up_blocks.0.resnets.3.conv1.conv.bias": torch.zeros(16)}, r"lacks 55 tensor.*resnets\.3"),
    ],
)
def test_a_checkpoint_that_is_not_this_tokenizer_is_refused_by_name(change, message):
    tensors = {key: value for key, value in {**public_tensors(), **change}.items() if value is not None}
    with pytest.raises(ConversionError, match=message):
        convert_tokenizer(tensors)
