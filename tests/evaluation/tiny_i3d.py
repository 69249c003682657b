# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Stand-ins for the published weights of I3D, which tests may not have: random arrays of its layout, and a tiny network."""

import numpy as np
import torch

from videoar_pipelines.evaluation.i3d import MIXED_CHANNELS


def i3d_layers() -> dict[str, tuple[int, int, int]]:
    """Published name of every convolution with batch normalisation: channels in and out, and kernel size."""
    layers = {"Conv3d_1a_7x7": (3, 64, 7), "Conv3d_2b_1x1": (64, 64, 1), "Conv3d_2c_3x3": (64, 192, 3)}
    channels = 192
    for name, (point, (reduced_1, out_1), (reduced_2, out_2), pooled) in MIXED_CHANNELS.items():
        layers |= {
            f"Mixed_{name}/Branch_0/Conv3d_0a_1x1": (channels, point, 1),
            f"Mixed_{name}/Branch_1/Conv3d_0a_1x1": (channels, reduced_1, 1),
            f"Mixed_{name}/Branch_1/Conv3d_0b_3x3": (reduced_1, out_1, 3),
            f"Mixed_{name}/Branch_2/Conv3d_0a_1x1": (channels, reduced_2, 1),
            f"Mixed_{name}/Branch_2/Conv3d_0b_3x3": (reduced_2, out_2, 3),
            f"Mixed_{name}/Branch_3/Conv3d_0b_1x1": (channels, pooled, 1),
        }
        channels = point + out_1 + out_2 + pooled
    return layers


def random_i3d_arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """Arrays with the names and shapes of the published ones, of a scale at which every layer matters."""
    random, arrays = np.random.default_rng(seed), {}

    def draw(*shape: int, scale: float = 1.0) -> np.ndarray:
        return random.standard_normal(shape, dtype=np.float32) * np.float32(scale)

    for name, (channels, out_channels, size) in i3d_layers().items():
        fan_in = channels * size**3
        arrays[f"params/{name}/Conv_0/kernel"] = draw(size, size, size, channels, out_channels, scale=fan_in**-0.5)
        arrays[f"params/{name}/BatchNorm_0/bias"] = draw(out_channels, scale=0.3)
        arrays[f"batch_stats/{name}/BatchNorm_0/mean"] = draw(1, 1, 1, 1, out_channels, scale=0.1)
        arrays[f"batch_stats/{name}/BatchNorm_0/var"] = draw(1, 1, 1, 1, out_channels) ** 2 + np.float32(0.05)
    arrays["params/Logits/Conv3d_0c_1x1/Conv_0/kernel"] = draw(1, 1, 1, 1024, 400, scale=1024**-0.5)
    arrays["params/Logits/Conv3d_0c_1x1/Conv_0/bias"] = draw(400)
    return arrays


def nest(arrays: dict[str, np.ndarray]) -> dict:
    """The nested dictionaries that the published pickle has: names of layers keep their slash."""
    nested = {}
    for path, array in arrays.items():
        kind, *layer, group, name = path.split("/")
        nested.setdefault(kind, {}).setdefault("/".join(layer), {}).setdefault(group, {})[name] = array
    return nested


class TinyNetwork(torch.nn.Module):
    """Features of a clip of any size, with the call of a TorchScript I3D: brightness and motion of a few regions."""

    def forward(
        self, video: torch.Tensor, rescale: bool = False, resize: bool = False, return_features: bool = True
    ) -> torch.Tensor:
        frames = torch.nn.functional.adaptive_avg_pool3d(video, [2, 2, 2]).flatten(1)  # (B, 24)
        changes = torch.nn.functional.adaptive_avg_pool3d((video[:, :, 1:] - video[:, :, :-1]).abs(), [1, 2, 2])
        return torch.cat([frames, 10 * changes.flatten(1)], dim=1)  # (B, 36)


class TinyExtractorNetwork(torch.nn.Module):
    """The same with the call of our I3D."""

    def __init__(self):
        super().__init__()
        self.network = TinyNetwork()

    def forward(self, video: torch.Tensor) -> dict[str, torch.Tensor]:
        features = self.network(video)
        return {"logits": features, "pooled": features[:, :12]}
