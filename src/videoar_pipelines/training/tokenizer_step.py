# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
The objective of the tokenizer (VideoAR section 4.1): reconstruction, perceptual, adversarial, commitment and entropy terms of
the generator half, and the discriminator half with LeCAM. Backward, optimisers and processes are not part of it.

Letters used in shapes: `B` clips, `F` pixel frames, `(H, W)` pixels, `T` latent frames, `(H', W')` latent grid, `K` scales,
`(h_k, w_k)` grid of scale `k`, `d` bits of a token.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F

from ..models.autoencoder_videoar import AutoencoderVideoAR
from ..models.quantization import ScaleSchedule
from .discriminator import LeCamRegularizer, adaptive_weight, discriminator_loss, generator_loss
from .perceptual import FeatureDistance


RECONSTRUCTION_LOSSES = {"l1": F.l1_loss, "l2": F.mse_loss}
ADVERSARIAL_WEIGHT_MODES = ("fixed", "adaptive")


@dataclass(frozen=True)
class TokenizerObjective:
    """
    The terms of the objective and their weights.

    Args:
        reconstruction_loss (`str`, defaults to `"l2"`): Or `"l1"`, on pixels.
        reconstruction_weight (`float`, defaults to 1.0): Of that term.
        perceptual_weight (`float`, defaults to 1.0): Of the perceptual distance.
        perceptual_frames (`int`, *optional*):
            How many frames of a clip, drawn anew at every step, that distance looks at: all if `None`. Its expectation stays.
        commitment_weight (`float`, defaults to 0.1): Of the distance from features to their codes.
        entropy_weight (`float`, defaults to 0.0): Of the entropy term, which keeps bits in use.
        scale_drop_probability (`float`, defaults to 0.0): Share of clips without fine scales, see [`random_scale_mask`].
        adversarial_weight (`float`, defaults to 0.0): Of what the discriminator says of reconstructions.
        adversarial_weight_mode (`str`, defaults to `"fixed"`):
            Or `"adaptive"`: times the factor that makes it pull at the decoder's last layer as hard as the terms on pixels.
        adversarial_loss (`str`, defaults to `"hinge"`): Or `"non_saturating"`.
        lecam_weight (`float`, defaults to 0.001): Of LeCAM, in the discriminator half.
    """

    reconstruction_loss: str = "l2"
    reconstruction_weight: float = 1.0
    perceptual_weight: float = 1.0
    perceptual_frames: int | None = None
    commitment_weight: float = 0.1
    entropy_weight: float = 0.0
    scale_drop_probability: float = 0.0
    adversarial_weight: float = 0.0
    adversarial_weight_mode: str = "fixed"
    adversarial_loss: str = "hinge"
    lecam_weight: float = 0.001


@dataclass
class GeneratorStepOutput:
    """
    What the generator half gives.

    Args:
        loss (`torch.Tensor`): Scalar with a graph, the sum of the terms.
        terms (`dict[str, torch.Tensor]`): By name, weighted.
        reconstruction (`torch.Tensor` of shape `(B, 3, F, H, W)`): Float32, with a graph.
        features (`torch.Tensor` of shape `(B, d, T, H', W')`): Before quantisation.
        bits (`list[torch.Tensor]`): For every scale, boolean `(B, T, h_k, w_k, d)`.
        adaptive_weight (`torch.Tensor`): Factor of the adversarial term; 1 if it is fixed.
    """

    loss: torch.Tensor
    terms: dict[str, torch.Tensor]
    reconstruction: torch.Tensor
    features: torch.Tensor
    bits: list[torch.Tensor]
    adaptive_weight: torch.Tensor


@dataclass
class DiscriminatorStepOutput:
    """
    What the discriminator half gives.

    Args:
        loss (`torch.Tensor`): Scalar with a graph, the sum of the terms.
        terms (`dict[str, torch.Tensor]`): By name, weighted.
        real_logits (`torch.Tensor` of shape `(B, 1, f, h, w)`): Of the videos, a logit for every patch.
        fake_logits (`torch.Tensor` of shape `(B, 1, f, h, w)`): Of the reconstructions.
    """

    loss: torch.Tensor
    terms: dict[str, torch.Tensor]
    real_logits: torch.Tensor
    fake_logits: torch.Tensor


def random_scale_mask(
    batch_size: int,
    num_scales: int,
    probability: float,
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """
    Drops fine scales at random, so that coarse scales carry more: with `probability` a sample keeps its first `n` scales
    only, `n` uniform between 1 and `num_scales - 1`.

    Args:
        batch_size (`int`): `B`.
        num_scales (`int`): `K`.
        probability (`float`): Share of samples that lose scales.
        device (`torch.device`, *optional*): Of the result.
        generator (`torch.Generator`, *optional*): On `device`.

    Returns:
        `torch.Tensor` of shape `(B, K)`: Boolean, `False` for a dropped scale.
    """
    is_cut = torch.rand(batch_size, device=device, generator=generator) < probability
    kept = torch.randint(1, max(2, num_scales), (batch_size,), device=device, generator=generator)
    kept = torch.where(is_cut, kept, num_scales)
    return torch.arange(num_scales, device=device) < kept[:, None]


def drawn_frames(num_frames: int, num_drawn: int | None) -> list[int]:
    """Numbers of `num_drawn` different frames in order, by torch's global generator; of all if it is `None` or as many."""
    if num_drawn is None or num_drawn >= num_frames:
        return list(range(num_frames))
    return sorted(torch.randperm(num_frames)[:num_drawn].tolist())


@contextmanager
def _frozen(model: nn.Module) -> Iterator[nn.Module]:
    """A model through which gradients pass without reaching its weights."""
    model.requires_grad_(False)
    try:
        yield model
    finally:
        model.requires_grad_(True)


def generator_step(
    vae: AutoencoderVideoAR,
    video: torch.Tensor,
    scale_schedule: ScaleSchedule,
    objective: TokenizerObjective,
    perceptual: FeatureDistance | None = None,
    discriminator: nn.Module | None = None,
    last_layer: torch.Tensor | None = None,
) -> GeneratorStepOutput:
    """
    What the tokenizer minimises. Call it under the autocast of the run; terms are float32 in any case.

    Args:
        vae ([`AutoencoderVideoAR`]): In training mode; may be wrapped for distributed training.
        video (`torch.Tensor` of shape `(B, 3, F, H, W)`): Pixel frames in `[-1, 1]`, float32.
        scale_schedule (`tuple[tuple[int, int], ...]`): Grids.
        objective ([`TokenizerObjective`]): Terms and weights.
        perceptual ([`FeatureDistance`], *optional*): The perceptual term is 0 without it.
        discriminator (`nn.Module`, *optional*): There is no adversarial term without it. Its weights get no gradients.
        last_layer (`torch.Tensor`, *optional*): Weight of the decoder's last layer, for an adaptive adversarial weight.

    Returns:
        [`GeneratorStepOutput`]
    """
    # 1. Reconstruct
    scale_mask = None
    if objective.scale_drop_probability > 0:
        scale_mask = random_scale_mask(len(video), len(scale_schedule), objective.scale_drop_probability, video.device)
    output = vae(video, scale_schedule, scale_mask)
    reconstruction = output.sample.float()
    perceptual_distance = torch.zeros((), device=video.device)
    if perceptual is not None:
        frames = drawn_frames(video.shape[2], objective.perceptual_frames)
        perceptual_distance = perceptual(video[:, :, frames], output.sample[:, :, frames])

    # 2. Terms on pixels and on features
    distance = RECONSTRUCTION_LOSSES[objective.reconstruction_loss]
    terms = {
        "reconstruction": objective.reconstruction_weight * distance(reconstruction, video),
        "perceptual": objective.perceptual_weight * perceptual_distance,
        "commitment": objective.commitment_weight * output.commitment_loss,
        "entropy": objective.entropy_weight * output.entropy_loss,
    }

    # 3. The adversarial term
    balance = torch.ones((), device=video.device)
    if discriminator is not None:
        with _frozen(discriminator):
            fake_logits = discriminator(reconstruction).float()
        adversarial = generator_loss(fake_logits, objective.adversarial_loss)
        if objective.adversarial_weight_mode == "adaptive":
            balance = adaptive_weight(terms["reconstruction"] + terms["perceptual"], adversarial, last_layer)
        terms["adversarial"] = objective.adversarial_weight * balance * adversarial
    return GeneratorStepOutput(sum(terms.values()), terms, reconstruction, output.latents, output.bits, balance)


def discriminator_step(
    discriminator: nn.Module,
    lecam: LeCamRegularizer,
    video: torch.Tensor,
    reconstruction: torch.Tensor,
    objective: TokenizerObjective,
) -> DiscriminatorStepOutput:
    """
    What the discriminator minimises. Moves LeCAM's running means by one step, after they were used. All processes call it
    together, under the autocast of the run; terms are float32 in any case.

    Args:
        discriminator (`nn.Module`): May be wrapped for distributed training.
        lecam ([`LeCamRegularizer`]): Holds running means of the logits.
        video (`torch.Tensor` of shape `(B, 3, F, H, W)`): Pixel frames in `[-1, 1]`, float32.
        reconstruction (`torch.Tensor` of shape `(B, 3, F, H, W)`): From [`generator_step`]; no gradients reach it.
        objective ([`TokenizerObjective`]): Terms and weights.

    Returns:
        [`DiscriminatorStepOutput`]
    """
    both = torch.cat([video, reconstruction.detach()])  # (2 * B, 3, F, H, W)
    real_logits, fake_logits = discriminator(both).float().chunk(2)
    terms = {
        "discriminator": discriminator_loss(real_logits, fake_logits, objective.adversarial_loss),
        "lecam": objective.lecam_weight * lecam(real_logits, fake_logits),
    }
    lecam.update(real_logits, fake_logits)
    return DiscriminatorStepOutput(sum(terms.values()), terms, real_logits, fake_logits)
