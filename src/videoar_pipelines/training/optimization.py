# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""How weights move, the same in all training scripts: AdamW, its learning-rate schedule, one step, and averaged weights."""

from argparse import Namespace
from collections.abc import Iterable

import torch
import torch.nn as nn
from accelerate import Accelerator
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel


def trainable_parameters(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Names and parameters that are trained."""
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


# 1. The optimiser


def parameter_groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict]:
    """
    Parameters in at most two groups: matrices and kernels (two dimensions or more) decay, biases and the gains of norms, which
    have nothing to gain from being small, do not. A group without parameters is left out.
    """
    parameters = list(parameters)
    groups = [
        {"params": [parameter for parameter in parameters if parameter.ndim >= 2], "weight_decay": weight_decay},
        {"params": [parameter for parameter in parameters if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def make_optimizer(
    parameters: Iterable[nn.Parameter], args: Namespace, learning_rate: float | None = None
) -> torch.optim.AdamW:
    """
    AdamW, fused.

    Args:
        parameters (`Iterable[nn.Parameter]`): To train.
        args (`argparse.Namespace`): With the flags of `arguments.add_run_arguments`.
        learning_rate (`float`, *optional*): Instead of `--learning_rate`.
    """
    return torch.optim.AdamW(
        parameter_groups(parameters, args.weight_decay),
        args.learning_rate if learning_rate is None else learning_rate,
        (args.adam_beta1, args.adam_beta2),
        fused=True,
    )


def make_lr_schedule(optimizer: torch.optim.Optimizer, args: Namespace) -> torch.optim.lr_scheduler.LRScheduler:
    """The schedule that the flags ask for; it moves once an optimiser step."""
    return get_scheduler(
        args.lr_scheduler,
        optimizer,
        num_warmup_steps=args.lr_warmup_steps,
        num_training_steps=args.max_train_steps,
    )


def take_step(
    accelerator: Accelerator,
    loss: torch.Tensor,
    optimizer: torch.optim.Optimizer,
    parameters: list[nn.Parameter],
    max_grad_norm: float,
) -> torch.Tensor | None:
    """
    Backward, and with the last batch of an optimiser step: clipping and the step itself. Call it inside
    `accelerator.accumulate`.

    Args:
        accelerator (`Accelerator`): The run's.
        loss (`torch.Tensor`): Scalar with a graph.
        optimizer (`torch.optim.Optimizer`): As `accelerator.prepare` gave it.
        parameters (`list[nn.Parameter]`): Those of the optimiser.
        max_grad_norm (`float`): Longer gradients are shortened to this.

    Returns:
        `torch.Tensor`, *optional*: The norm of the gradients before clipping; `None` if more batches of the step follow.
    """
    accelerator.backward(loss)
    norm = accelerator.clip_grad_norm_(parameters, max_grad_norm) if accelerator.sync_gradients else None
    optimizer.step()
    optimizer.zero_grad()
    return norm


# 2. Averaged weights


def make_average(model: nn.Module, decay: float) -> EMAModel:
    """
    An exponential average of the trained weights, which follows them closely at first: its decay is `1 - (1 + n)^-0.75` after
    `n` steps, until that reaches `decay`.
    """
    parameters = [parameter for _, parameter in trainable_parameters(model)]
    return EMAModel(parameters, decay=decay, use_ema_warmup=True, power=0.75, foreach=True)


def average_decay(decay: float, num_steps: int) -> float:
    """The decay with which an average of [`make_average`] made the last of `num_steps` steps: at most `decay`, less in a short run."""
    return min(decay, max(0.0, 1 - max(1, num_steps) ** -0.75))


def update_average(average: EMAModel, model: nn.Module) -> None:
    """Moves an average of [`make_average`] by one step."""
    average.step([parameter for _, parameter in trainable_parameters(model)])
