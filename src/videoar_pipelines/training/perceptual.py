# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
The perceptual part of the tokenizer's objective: LPIPS on a VGG16, from weight files that the user names. What it shares with
the other network, EfficientNet-Lite0 in `efficientnet.py`, is [`FeatureDistance`].

torchvision and the `lpips` package are not needed: the parameter names are torchvision's (`features.0.weight`, ...), those of
the linear heads are the `lpips` package's (`lin0.model.1.weight`, ...), so the published files load as they are.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn as nn
from safetensors.torch import load_file

from ..utils.command_line import loading


# Widths of VGG16's convolutions, level by level; the features that each level gives are compared.
VGG16_LEVELS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
# What the published heads expect of an image in [-1, 1].
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)


class VGG16Features(nn.Module):
    """The convolutions of VGG16, with torchvision's parameter names."""

    def __init__(self, levels: tuple[tuple[int, ...], ...] = VGG16_LEVELS):
        super().__init__()
        layers, self.level_ends, channels = [], [], 3
        for index, widths in enumerate(levels):
            if index > 0:
                layers.append(nn.MaxPool2d(2))
            for width in widths:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            self.level_ends.append(len(layers) - 1)
        self.features = nn.Sequential(*layers)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Features `(N, C_i, h_i, w_i)` that every level gives, of normalised images `(N, 3, H, W)`."""
        outputs = []
        for index, layer in enumerate(self.features):
            images = layer(images)
            if index in self.level_ends:
                outputs.append(images)
        return outputs


class FeatureDistance(nn.Module):
    """
    A distance of videos, frozen: features of several depths are normalised to unit length at every place, then compared.
    All channels of a level weigh alike until something else is written into the heads.

    Args:
        network (`nn.Module`): Gives features `(N, C_i, h_i, w_i)` of normalised images `(N, 3, H, W)`, as a list.
        widths (`Sequence[int]`): `C_i`.
        shift (`tuple[float, float, float]`): What the network wants subtracted from images in [-1, 1].
        scale (`tuple[float, float, float]`): What it wants them divided by after that.
    """

    def __init__(
        self,
        network: nn.Module,
        widths: Sequence[int],
        shift: tuple[float, float, float],
        scale: tuple[float, float, float],
    ):
        super().__init__()
        self.network = network
        for index, width in enumerate(widths):
            self.register_buffer(f"head_{index}", torch.full((width,), 1 / width))
        self.register_buffer("shift", torch.tensor(shift)[:, None, None])
        self.register_buffer("scale", torch.tensor(scale)[:, None, None])
        self.requires_grad_(False).eval()

    def forward(self, video: torch.Tensor, reconstruction: torch.Tensor) -> torch.Tensor:
        """
        Args:
            video (`torch.Tensor` of shape `(B, 3, F, H, W)`): Pixel frames in `[-1, 1]`; every frame is compared by itself.
            reconstruction (`torch.Tensor` of shape `(B, 3, F, H, W)`): The same.

        Returns:
            `torch.Tensor`: Scalar, the mean over all frames.
        """
        frames = torch.cat([video, reconstruction]).transpose(1, 2).flatten(0, 1)  # (2 * B * F, 3, H, W)
        distance = 0.0
        for index, features in enumerate(self.network((frames - self.shift) / self.scale)):
            unit = features * (features.square().sum(dim=1, keepdim=True) + 1e-10).rsqrt()
            original, decoded = unit.chunk(2)
            weights = getattr(self, f"head_{index}")[:, None, None]
            distance = distance + ((original - decoded).square() * weights).sum(dim=1).mean()
        return distance


class PerceptualLoss(FeatureDistance):
    """
    LPIPS on VGG16, frozen. Without the published linear heads all channels of a level weigh alike.

    Args:
        levels (`tuple[tuple[int, ...], ...]`): Widths of the convolutions, VGG16's by default.
    """

    def __init__(self, levels: tuple[tuple[int, ...], ...] = VGG16_LEVELS):
        super().__init__(VGG16Features(levels), [widths[-1] for widths in levels], _SHIFT, _SCALE)

    @classmethod
    def from_files(cls, vgg_weights: str | Path, lpips_weights: str | Path | None = None) -> "PerceptualLoss":
        """
        Args:
            vgg_weights (`str` or `Path`): torchvision's VGG16 file, or safetensors with the same names.
            lpips_weights (`str` or `Path`, *optional*): The linear heads for VGG as the `lpips` package publishes them.

        Raises:
            `ValueError`: A file lacks a tensor, or has it in another shape.
        """
        loss = cls()
        with loading("--vgg_weights", vgg_weights):
            tensors = _load_tensors(vgg_weights)
        for name, parameter in loss.network.named_parameters():
            parameter.data.copy_(_pick(tensors, name, parameter.shape, "vgg_weights", vgg_weights))
        if lpips_weights is not None:
            with loading("--lpips_weights", lpips_weights):
                tensors = _load_tensors(lpips_weights)
            for index in range(len(VGG16_LEVELS)):
                head = getattr(loss, f"head_{index}")
                name = f"lin{index}.model.1.weight"
                head.copy_(_pick(tensors, name, (1, len(head), 1, 1), "lpips_weights", lpips_weights).flatten())
        return loss


def _load_tensors(path: str | Path) -> dict[str, torch.Tensor]:
    if str(path).endswith(".safetensors"):
        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _pick(tensors: dict[str, torch.Tensor], name: str, shape, argument: str, path: str | Path) -> torch.Tensor:
    if name not in tensors or tuple(tensors[name].shape) != tuple(shape):
        found = f"has it as {tuple(tensors[name].shape)}" if name in tensors else "does not have it"
        raise ValueError(f"`{argument}` needs the tensor {name!r} of shape {tuple(shape)}, but {path} {found}.")
    return tensors[name]
