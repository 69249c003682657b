# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
The network that FVD looks through: Inflated Inception (I3D) for RGB, trained on Kinetics-400.

Carreira and Zisserman, "Quo Vadis, Action Recognition?" (arXiv 1705.07750), in the form of the public TensorFlow module
`deepmind/i3d-kinetics-400/1`. It only ever runs in evaluation mode, where batch normalisation is a fixed affine map, so
`weights.py` folds it into the convolutions when it converts the published arrays.

Letters used in shapes: `B` clips, `F` pixel frames, `t` frames inside the network, `(h, w)` positions inside the network.
"""

from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import load_file


NUM_CLASSES = 400
POOLED_CHANNELS = 1024
INPUT_SIZE = 224
# Below this many frames, fewer than two are left where the last pooling takes two.
MINIMUM_FRAMES = 9

# Channels of each mixed layer: the 1x1 branch; reduction and 3x3x3 of two branches; the branch after the pooling.
MIXED_CHANNELS = {
    "3b": (64, (96, 128), (16, 32), 32),
    "3c": (128, (128, 192), (32, 96), 64),
    "4b": (192, (96, 208), (16, 48), 64),
    "4c": (160, (112, 224), (24, 64), 64),
    "4d": (128, (128, 256), (24, 64), 64),
    "4e": (112, (144, 288), (32, 64), 64),
    "4f": (256, (160, 320), (32, 128), 128),
    "5b": (256, (160, 320), (32, 128), 128),
    "5c": (384, (192, 384), (48, 128), 128),
}


def pad_same(hidden_states: torch.Tensor, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> torch.Tensor:
    """
    TensorFlow's "SAME" padding: an axis of `n` becomes `ceil(n / stride)` long, and an odd pixel is added at the end.

    Zeros serve for the poolings too, where TensorFlow pads with minus infinity: they follow a ReLU.
    """
    padding = []
    for size, width, step in zip(reversed(hidden_states.shape[2:]), reversed(kernel), reversed(stride)):
        total = max((-(-size // step) - 1) * step + width - size, 0)
        padding += [total // 2, total - total // 2]
    return F.pad(hidden_states, padding) if any(padding) else hidden_states


class I3DConvolution(nn.Module):
    """A convolution with "SAME" padding and a ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 1, stride: int = 1):
        super().__init__()
        self.kernel, self.stride = (kernel_size,) * 3, (stride,) * 3
        # Padding is the same at both ends where the stride is one, and the convolution can do it itself.
        padding = kernel_size // 2 if stride == 1 else 0
        self.conv = nn.Conv3d(in_channels, out_channels, kernel_size, stride, padding)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if self.stride != (1, 1, 1):
            hidden_states = pad_same(hidden_states, self.kernel, self.stride)
        return F.relu(self.conv(hidden_states))


class I3DPooling(nn.Module):
    """A maximum with "SAME" padding."""

    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]):
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return F.max_pool3d(pad_same(hidden_states, self.kernel, self.stride), self.kernel, self.stride)


class I3DMixed(nn.Module):
    """Four branches side by side, see `MIXED_CHANNELS`."""

    def __init__(self, in_channels: int, channels: tuple):
        super().__init__()
        point, (reduced_1, out_1), (reduced_2, out_2), pooled = channels
        self.branch_0 = I3DConvolution(in_channels, point)
        self.branch_1 = nn.Sequential(I3DConvolution(in_channels, reduced_1), I3DConvolution(reduced_1, out_1, 3))
        self.branch_2 = nn.Sequential(I3DConvolution(in_channels, reduced_2), I3DConvolution(reduced_2, out_2, 3))
        self.branch_3 = nn.Sequential(nn.MaxPool3d(3, stride=1, padding=1), I3DConvolution(in_channels, pooled))
        self.out_channels = point + out_1 + out_2 + pooled

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        branches = (self.branch_0, self.branch_1, self.branch_2, self.branch_3)
        return torch.cat([branch(hidden_states) for branch in branches], dim=1)


class I3D(nn.Module):
    """
    I3D with random weights; [`I3D.from_file`] gives it the published ones.

    Its two features are those of the field: `logits`, 400 numbers before the softmax, averaged over time, and `pooled`, 1024
    numbers before the last layer, averaged over time.
    """

    def __init__(self):
        super().__init__()
        # 1. Stem
        self.conv_1a = I3DConvolution(3, 64, kernel_size=7, stride=2)
        self.pool_2a = I3DPooling((1, 3, 3), (1, 2, 2))
        self.conv_2b = I3DConvolution(64, 64)
        self.conv_2c = I3DConvolution(64, 192, kernel_size=3)
        self.pool_3a = I3DPooling((1, 3, 3), (1, 2, 2))

        # 2. Mixed layers
        self.pool_4a = I3DPooling((3, 3, 3), (2, 2, 2))
        self.pool_5a = I3DPooling((2, 2, 2), (2, 2, 2))
        channels = 192
        for name, branches in MIXED_CHANNELS.items():
            layer = I3DMixed(channels, branches)
            self.add_module(f"mixed_{name}", layer)
            channels = layer.out_channels

        # 3. Classes
        self.logits = nn.Conv3d(channels, NUM_CLASSES, kernel_size=1)

        # Channels last is what convolutions on a CPU are fastest in; the numbers are the same.
        self.to(memory_format=torch.channels_last_3d)
        self.requires_grad_(False).eval()

    @classmethod
    def from_file(cls, path: str | Path) -> "I3D":
        """The network with the weights of a safetensors file that `weights.py` wrote."""
        network = cls()
        network.load_state_dict(load_file(path))
        return network

    def forward(self, video: torch.Tensor) -> dict[str, torch.Tensor]:
        """
        Args:
            video (`torch.Tensor` of shape `(B, 3, F, 224, 224)`): RGB in [-1, 1], at least 9 frames.

        Returns:
            `dict[str, torch.Tensor]`: `logits` of shape `(B, 400)` and `pooled` of shape `(B, 1024)`.

        Raises:
            `ValueError`: The video has another layout or too few frames.
        """
        if video.ndim != 5 or video.shape[1] != 3 or tuple(video.shape[3:]) != (INPUT_SIZE, INPUT_SIZE):
            raise ValueError(
                f"`video` has the shape {tuple(video.shape)}: pass (clips, 3, frames, {INPUT_SIZE}, {INPUT_SIZE})."
            )
        if video.shape[2] < MINIMUM_FRAMES:
            raise ValueError(
                f"`video` has {video.shape[2]} frames: I3D has no features of fewer than {MINIMUM_FRAMES}."
            )
        # 1. Stem
        hidden_states = self.pool_2a(self.conv_1a(video.contiguous(memory_format=torch.channels_last_3d)))
        hidden_states = self.pool_3a(self.conv_2c(self.conv_2b(hidden_states)))  # (B, 192, F / 2, 28, 28)

        # 2. Mixed layers
        for name in MIXED_CHANNELS:
            if name == "4b":
                hidden_states = self.pool_4a(hidden_states)  # (B, 480, F / 4, 14, 14)
            elif name == "5b":
                hidden_states = self.pool_5a(hidden_states)  # (B, 832, F / 8, 7, 7)
            hidden_states = self.get_submodule(f"mixed_{name}")(hidden_states)

        # 3. Classes of every two frames, then their mean
        pooled = F.avg_pool3d(hidden_states, (2, 7, 7), stride=1)  # (B, 1024, t, 1, 1)
        return {
            "logits": self.logits(pooled).mean(dim=(2, 3, 4)),
            "pooled": pooled.mean(dim=(2, 3, 4)),
        }
