# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
One batch of the tokenizer's training: the generator half, then the discriminator half, each with its backward pass and its
optimiser. What the halves minimise is in `tokenizer_step.py`; the order of the steps, averages and logs are the script's.
"""

from dataclasses import dataclass

import torch
import torch._functorch.config
import torch.nn as nn
from accelerate import Accelerator

from ..models.autoencoder_videoar import AutoencoderVideoAR
from ..models.quantization import ScaleSchedule
from .discriminator import LeCamRegularizer
from .optimization import take_step
from .perceptual import FeatureDistance
from .tokenizer_step import (
    DiscriminatorStepOutput,
    GeneratorStepOutput,
    TokenizerObjective,
    discriminator_step,
    generator_step,
)


def compile_layers(vae: AutoencoderVideoAR) -> None:
    """Compiles what lies between convolutions, of a tokenizer that is to be trained."""
    # The adaptive weight of the discriminator goes backward twice: buffers may not be given away after the first time
    torch._functorch.config.donated_buffer = False
    vae.compile_repeated_blocks(fullgraph=True, dynamic=True)


@dataclass(frozen=True)
class TrainedModel:
    """
    A model and what moves its weights.

    Args:
        model (`nn.Module`): As it was made.
        wrapped (`nn.Module`): As it is called in training: what `accelerator.prepare` gave, or `model` itself.
        optimizer (`torch.optim.Optimizer`): As `accelerator.prepare` gave it.
        parameters (`list[nn.Parameter]`): Those of the optimiser.
    """

    model: nn.Module
    wrapped: nn.Module
    optimizer: torch.optim.Optimizer
    parameters: list[nn.Parameter]


@dataclass(frozen=True)
class TrainedBatch:
    """
    What a batch gave.

    Args:
        generator (`GeneratorStepOutput`): Of the generator half.
        discriminator (`DiscriminatorStepOutput`, *optional*): Of the discriminator half; `None` without one.
        norms (`dict[str, torch.Tensor | None]`): Gradient norms, see [`take_step`].
    """

    generator: GeneratorStepOutput
    discriminator: DiscriminatorStepOutput | None
    norms: dict[str, torch.Tensor | None]

    @property
    def terms(self) -> dict[str, torch.Tensor]:
        """The weighted terms of both halves, by name."""
        return self.generator.terms | (self.discriminator.terms if self.discriminator is not None else {})


@dataclass(frozen=True)
class TokenizerTraining:
    """
    Trains a tokenizer, batch by batch.

    Args:
        accelerator (`Accelerator`): The run's: autocast, accumulation of gradients, processes.
        objective ([`TokenizerObjective`]): Terms and weights.
        tokenizer ([`TrainedModel`]): An [`AutoencoderVideoAR`] in training mode.
        max_grad_norm (`float`): Longer gradients are shortened to this.
        perceptual ([`FeatureDistance`], *optional*): The perceptual term is 0 without it.
        discriminator ([`TrainedModel`], *optional*): A [`VideoPatchDiscriminator`]; needs `lecam`.
        lecam ([`LeCamRegularizer`], *optional*): On the device of the run.
    """

    accelerator: Accelerator
    objective: TokenizerObjective
    tokenizer: TrainedModel
    max_grad_norm: float
    perceptual: FeatureDistance | None = None
    discriminator: TrainedModel | None = None
    lecam: LeCamRegularizer | None = None

    def train_on(self, video: torch.Tensor, scale_schedule: ScaleSchedule, is_adversarial: bool) -> TrainedBatch:
        """
        Args:
            video (`torch.Tensor` of shape `(B, 3, F, H, W)`): Pixel frames in `[-1, 1]`, float32.
            scale_schedule (`tuple[tuple[int, int], ...]`): Grids.
            is_adversarial (`bool`): Whether the discriminator takes part; needs one.
        """
        discriminator = self.discriminator if is_adversarial else None
        trained = [self.tokenizer.wrapped, *([] if discriminator is None else [discriminator.wrapped])]
        judged, norms = None, {}
        with self.accelerator.accumulate(*trained):
            # 1. The tokenizer
            with self.accelerator.autocast():
                output = generator_step(
                    self.tokenizer.wrapped,
                    video,
                    scale_schedule,
                    self.objective,
                    self.perceptual,
                    None if discriminator is None else discriminator.model,
                    self.tokenizer.model.decoder.conv_out.weight,
                )
            norms["gradient_norm"] = self._take_step(self.tokenizer, output.loss)

            # 2. The discriminator
            if discriminator is not None:
                with self.accelerator.autocast():
                    judged = discriminator_step(
                        discriminator.wrapped, self.lecam, video, output.reconstruction, self.objective
                    )
                norms["discriminator_gradient_norm"] = self._take_step(discriminator, judged.loss)
        return TrainedBatch(output, judged, norms)

    def _take_step(self, trained: TrainedModel, loss: torch.Tensor) -> torch.Tensor | None:
        return take_step(self.accelerator, loss, trained.optimizer, trained.parameters, self.max_grad_norm)
