# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""The network of FVD: against its published layers applied one by one, at the edges of its padding, and with its weights."""

import os

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.evaluation.tiny_i3d import random_i3d_arrays
from videoar_pipelines.evaluation.i3d import I3D, MIXED_CHANNELS, pad_same
from videoar_pipelines.evaluation.weights import cached_i3d_weights, convert_arrays


needs_weights = pytest.mark.skipif(
    cached_i3d_weights() is None, reason="needs the weights of I3D: run `make evaluation-weights`"
)


@pytest.fixture(scope="module")
def arrays():
    return random_i3d_arrays()


@pytest.fixture(scope="module")
def network(arrays):
    network = I3D()
    network.load_state_dict(convert_arrays(arrays))
    return network


def make_video(num_frames, seed=0):
    return torch.rand(1, 3, num_frames, 224, 224, generator=torch.Generator().manual_seed(seed)) * 2 - 1


class PublishedLayers:
    """The network as TensorFlow computes it, in float64: no folding, and padding with minus infinity before a maximum."""

    def __init__(self, arrays):
        self.arrays = {name: torch.from_numpy(array).double() for name, array in arrays.items()}

    def pad(self, states, kernel, stride, value):
        for axis, (width, step) in enumerate(zip(kernel, stride), start=2):
            size = states.shape[axis]
            total = max((int(np.ceil(size / step)) - 1) * step + width - size, 0)
            shape = list(states.shape)
            for length, at_end in ((total // 2, False), (total - total // 2, True)):
                shape[axis] = length
                ends = [states, torch.full(shape, value, dtype=states.dtype)]
                states = torch.cat(ends if at_end else ends[::-1], dim=axis)
        return states

    def convolve(self, states, name, stride=1):
        kernel = self.arrays[f"params/{name}/Conv_0/kernel"].permute(4, 3, 0, 1, 2)
        padded = self.pad(states, kernel.shape[2:], (stride,) * 3, 0.0)
        states = F.conv3d(padded, kernel, stride=stride)
        mean, variance = (
            self.arrays[f"batch_stats/{name}/BatchNorm_0/{key}"].reshape(-1, 1, 1, 1) for key in ("mean", "var")
        )
        bias = self.arrays[f"params/{name}/BatchNorm_0/bias"].reshape(-1, 1, 1, 1)
        return ((states - mean) / (variance + 1e-3).sqrt() + bias).clamp(min=0)

    def pool(self, states, kernel, stride):
        return F.max_pool3d(self.pad(states, kernel, stride, -torch.inf), kernel, stride)

    def mix(self, states, name):
        branch = f"Mixed_{name}/Branch_"
        parts = [self.convolve(states, f"{branch}0/Conv3d_0a_1x1")]
        for number in (1, 2):
            reduced = self.convolve(states, f"{branch}{number}/Conv3d_0a_1x1")
            parts.append(self.convolve(reduced, f"{branch}{number}/Conv3d_0b_3x3"))
        pooled = self.pool(states, (3, 3, 3), (1, 1, 1))
        return torch.cat([*parts, self.convolve(pooled, f"{branch}3/Conv3d_0b_1x1")], dim=1)

    def logits(self, video):
        states = self.pool(self.convolve(video.double(), "Conv3d_1a_7x7", stride=2), (1, 3, 3), (1, 2, 2))
        states = self.convolve(self.convolve(states, "Conv3d_2b_1x1"), "Conv3d_2c_3x3")
        states = self.pool(states, (1, 3, 3), (1, 2, 2))
        for name in MIXED_CHANNELS:
            if name == "4b":
                states = self.pool(states, (3, 3, 3), (2, 2, 2))
            if name == "5b":
                states = self.pool(states, (2, 2, 2), (2, 2, 2))
            states = self.mix(states, name)
        windows = states.unfold(2, 2, 1).mean(dim=(3, 4, 5))  # (B, 1024, t)
        kernel = self.arrays["params/Logits/Conv3d_0c_1x1/Conv_0/kernel"].reshape(1024, 400)
        return windows.mean(dim=2) @ kernel + self.arrays["params/Logits/Conv3d_0c_1x1/Conv_0/bias"]


@torch.inference_mode()
def test_the_converted_network_computes_what_its_published_layers_do(arrays, network):
    video = make_video(num_frames=10)  # 5, 3 and 2 frames inside: odd numbers meet every rule of padding
    expected = PublishedLayers(arrays).logits(video)
    # float32 against float64 through 22 layers of convolutions
    torch.testing.assert_close(network(video)["logits"].double(), expected, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_features_have_the_sizes_of_the_field_and_repeat(network):
    video = torch.cat([make_video(9), make_video(9, seed=1)])
    features = network(video)
    assert features["logits"].shape == (2, 400) and features["pooled"].shape == (2, 1024)
    again = network(video)
    assert torch.equal(features["logits"], again["logits"]) and torch.equal(features["pooled"], again["pooled"])
    alone = network(video[1:])
    # Convolutions of one clip and of two may add in another order.
    torch.testing.assert_close(alone["logits"], features["logits"][1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "before", "after"),
    [
        (224, 7, 2, 2, 3),
        (17, 7, 2, 3, 3),
        (112, 3, 2, 0, 1),
        (9, 3, 2, 1, 1),
        (8, 3, 2, 0, 1),
        (5, 2, 2, 0, 1),
        (5, 3, 1, 1, 1),
    ],
)
def test_padding_is_that_of_tensorflow(size, kernel, stride, before, after):
    states = torch.ones(1, 1, size, 1, 1)
    padded = pad_same(states, (kernel, 1, 1), (stride, 1, 1)).flatten()
    assert padded.tolist() == [0] * before + [1] * size + [0] * after
    assert (len(padded) - kernel) // stride + 1 == -(-size // stride)


def test_a_clip_that_the_network_cannot_see_is_refused(network):
    with pytest.raises(ValueError, match="`video` has 8 frames"):
        network(make_video(8))
    with pytest.raises(ValueError, match=r"\(1, 3, 9, 128, 128\): pass \(clips, 3, frames, 224, 224\)"):
        network(torch.zeros(1, 3, 9, 128, 128))


@needs_weights
@torch.inference_mode()
def test_published_weights_see_what_they_saw():
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 224), torch.linspace(-1, 1, 224), indexing="ij")
    frames = [
        torch.stack([(6 * columns + 0.3 * f).sin(), (5 * rows - 0.2 * f).cos(), rows * columns]) for f in range(17)
    ]
    network = I3D.from_file(cached_i3d_weights())
    logits = network(torch.stack(frames, dim=1)[None])["logits"][0]
    assert logits.topk(3).indices.tolist() == [374, 157, 373]
    # Recorded on an x86-64 CPU; other processors add in another order.
    torch.testing.assert_close(logits[:5], torch.tensor([4.2318, 6.895, 4.363, 5.0941, -0.5435]), rtol=0, atol=2e-3)


@needs_weights
@pytest.mark.skipif(
    "I3D_TORCHSCRIPT" not in os.environ, reason="needs `I3D_TORCHSCRIPT`, the path of i3d_torchscript.pt"
)
@torch.inference_mode()
def test_the_torchscript_of_stylegan_v_gives_the_same_logits():
    video = make_video(16)
    script = torch.jit.load(os.environ["I3D_TORCHSCRIPT"]).eval()
    expected = script(video, rescale=False, resize=False, return_features=True)
    torch.testing.assert_close(I3D.from_file(cached_i3d_weights())(video)["logits"], expected, rtol=0, atol=1e-2)
