# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""The adversarial part of the tokenizer's objective: a 3D patch discriminator, its losses, LeCAM and the adaptive weight."""

import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin


ADVERSARIAL_LOSSES = ("hinge", "non_saturating")


class Conv3d(nn.Conv3d):
    """
    `nn.Conv3d`, which on a CPU computes in float32, whatever autocast and the weights say.

    oneDNN 3.12, in PyTorch 2.13, reads memory that was never written when it computes the weight gradient of a bfloat16
    convolution over a padded input of few frames on a CPU with AVX-512: the gradient is then wrong, or NaN.
    """

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(B, c, F, H, W)` to `(B, c', f, h, w)`, on a CPU in the dtype of the input."""
        if hidden_states.device.type != "cpu":
            return super().forward(hidden_states)
        with torch.autocast("cpu", enabled=False):
            bias = None if self.bias is None else self.bias.float()
            output = self._conv_forward(hidden_states.float(), self.weight.float(), bias)
        return output.to(hidden_states.dtype)


class VideoPatchDiscriminator(ModelMixin, ConfigMixin):
    """
    Judges overlapping patches of a video in space and time; an image is a video of one frame.

    Args:
        in_channels (`int`, defaults to 3): Channels of a pixel frame.
        base_channels (`int`, defaults to 64): Width of the first layer; every further layer doubles it, up to eight times.
        num_layers (`int`, defaults to 3): Layers that halve height and width. All but the first also halve the frame rate.
    """

    @register_to_config
    def __init__(self, in_channels: int = 3, base_channels: int = 64, num_layers: int = 3):
        super().__init__()
        widths = [base_channels * min(2**layer, 8) for layer in range(num_layers + 1)]
        layers = [Conv3d(in_channels, widths[0], (3, 4, 4), stride=(1, 2, 2), padding=1), nn.LeakyReLU(0.2)]
        for layer in range(1, num_layers + 1):
            stride = (2, 2, 2) if layer < num_layers else 1
            layers += [
                Conv3d(widths[layer - 1], widths[layer], (3, 4, 4), stride=stride, padding=1, bias=False),
                nn.GroupNorm(min(32, widths[layer] // 2), widths[layer]),
                nn.LeakyReLU(0.2),
            ]
        layers.append(Conv3d(widths[-1], 1, (3, 4, 4), padding=1))
        self.layers = nn.Sequential(*layers)

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        """
        Args:
            video (`torch.Tensor` of shape `(B, 3, F, H, W)`): Pixel frames in `[-1, 1]`.

        Returns:
            `torch.Tensor` of shape `(B, 1, f, h, w)`: A logit for every patch, positive for "real".
        """
        return self.layers(video)


def discriminator_loss(real_logits: torch.Tensor, fake_logits: torch.Tensor, kind: str) -> torch.Tensor:
    """
    What the discriminator minimises.

    Args:
        real_logits (`torch.Tensor`): Of data; any shape.
        fake_logits (`torch.Tensor`): Of reconstructions, which must be detached from the tokenizer.
        kind (`str`): `"hinge"` or `"non_saturating"`.
    """
    if kind == "hinge":
        return F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def generator_loss(fake_logits: torch.Tensor, kind: str) -> torch.Tensor:
    """What the tokenizer minimises: `-logit` (`"hinge"`) or `-log sigmoid(logit)` (`"non_saturating"`)."""
    return -fake_logits.mean() if kind == "hinge" else F.softplus(-fake_logits).mean()


class LeCamRegularizer(nn.Module):
    """
    LeCAM: holds the discriminator's logits near running means of the *other* side, which keeps it from winning outright when
    data are few.

    Args:
        decay (`float`, defaults to 0.999): Of the running means.
    """

    def __init__(self, decay: float = 0.999):
        super().__init__()
        self.decay = decay
        self.register_buffer("real_mean", torch.zeros(()))
        self.register_buffer("fake_mean", torch.zeros(()))

    @torch.no_grad()
    def update(self, real_logits: torch.Tensor, fake_logits: torch.Tensor) -> None:
        """Moves the running means by one step; all processes call it together and keep the same means."""
        means = torch.stack([real_logits.float().mean(), fake_logits.float().mean()])
        if dist.is_initialized():
            dist.all_reduce(means)
            means /= dist.get_world_size()
        self.real_mean.lerp_(means[0], 1 - self.decay)
        self.fake_mean.lerp_(means[1], 1 - self.decay)

    def forward(self, real_logits: torch.Tensor, fake_logits: torch.Tensor) -> torch.Tensor:
        """The regularisation, a scalar."""
        real_term = F.relu(real_logits.float() - self.fake_mean).square().mean()
        return real_term + F.relu(self.real_mean - fake_logits.float()).square().mean()


def adaptive_weight(
    reconstruction_loss: torch.Tensor, adversarial_loss: torch.Tensor, last_layer: torch.Tensor
) -> torch.Tensor:
    """
    The factor that makes both losses pull equally hard at the decoder's last layer.

    Args:
        reconstruction_loss (`torch.Tensor`): Scalar with a graph, all terms on pixels.
        adversarial_loss (`torch.Tensor`): Scalar with a graph.
        last_layer (`torch.Tensor`): Weight of the decoder's last layer.

    Returns:
        `torch.Tensor`: Scalar in `[0, 10000]`, without a graph.
    """
    reconstruction_gradient = torch.autograd.grad(reconstruction_loss, last_layer, retain_graph=True)[0]
    adversarial_gradient = torch.autograd.grad(adversarial_loss, last_layer, retain_graph=True)[0]
    ratio = reconstruction_gradient.norm() / (adversarial_gradient.norm() + 1e-4)
    return ratio.clamp(0.0, 1e4).detach()


@torch.no_grad()
def discriminator_balance(real_logits: torch.Tensor, fake_logits: torch.Tensor) -> dict[str, float]:
    """
    Who is winning: mean logits, and the share of patches that the discriminator tells right. Near 1 it has won and teaches
    nothing, near 0.5 it is guessing.
    """
    return {
        "discriminator/real_logit": real_logits.float().mean().item(),
        "discriminator/fake_logit": fake_logits.float().mean().item(),
        "discriminator/real_accuracy": (real_logits > 0).float().mean().item(),
        "discriminator/fake_accuracy": (fake_logits < 0).float().mean().item(),
    }
