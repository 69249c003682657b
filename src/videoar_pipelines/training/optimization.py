# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""How weights move in the training scripts: AdamW or Muon, the learning-rate schedule, one step, and averaged weights."""

from argparse import Namespace
from collections.abc import Iterable
from typing import Any

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


def block_matrices(model: nn.Module) -> list[nn.Parameter]:
    """Trained weights of the linear layers inside the model's blocks: what Muon is for. Embeddings and the output are not."""
    weights = {
        layer.weight: None  # a set that keeps its order: a list of blocks may lie inside another
        for blocks in model.modules()
        if isinstance(blocks, nn.ModuleList)
        for layer in blocks.modules()
        if isinstance(layer, nn.Linear) and layer.weight.requires_grad
    }
    return list(weights)


class MuonAdamW(torch.optim.Optimizer):
    """
    Muon (Jordan et al., 2024) for matrices and AdamW for all other weights, behind one list of groups and one state: schedules,
    checkpoints and accelerate see a single optimiser.

    Muon steps along the momentum with all its singular values made equal. A step is as large as AdamW's (Liu et al., arXiv
    2502.16982), so that one learning rate and one weight decay serve both.

    Args:
        matrices (`Iterable[nn.Parameter]`): Of two dimensions, for Muon.
        adamw ([`torch.optim.AdamW`]): With all other weights.
        learning_rate (`float`): Of the matrices.
        weight_decay (`float`): Of the matrices.
    """

    def __init__(
        self, matrices: Iterable[nn.Parameter], adamw: torch.optim.AdamW, learning_rate: float, weight_decay: float
    ):
        muon = torch.optim.Muon(matrices, learning_rate, weight_decay, adjust_lr_fn="match_rms_adamw")
        self._parts = (muon, adamw)
        super().__init__([*muon.param_groups, *adamw.param_groups], defaults={"lr": learning_rate})
        self._share()

    def _share(self) -> None:
        """Lets both parts work on this optimiser's groups and state."""
        first = 0
        for part in self._parts:
            last = first + len(part.param_groups)
            part.param_groups, part.state = self.param_groups[first:last], self.state
            first = last

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._share()

    def step(self, closure: None = None) -> None:
        for part in self._parts:
            part.step()


def make_optimizer(
    parameters: Iterable[nn.Parameter],
    args: Namespace,
    learning_rate: float | None = None,
    matrices: Iterable[nn.Parameter] = (),
) -> torch.optim.Optimizer:
    """
    AdamW, fused; of some matrices Muon.

    Args:
        parameters (`Iterable[nn.Parameter]`): To train.
        args (`argparse.Namespace`): With the flags of `arguments.add_run_arguments`.
        learning_rate (`float`, *optional*): Instead of `--learning_rate`.
        matrices (`Iterable[nn.Parameter]`, *optional*): Those of `parameters` that Muon moves, see [`block_matrices`].
    """
    learning_rate = args.learning_rate if learning_rate is None else learning_rate
    matrices = list(matrices)
    of_muon = set(matrices)
    adamw = torch.optim.AdamW(
        parameter_groups((parameter for parameter in parameters if parameter not in of_muon), args.weight_decay),
        learning_rate,
        (args.adam_beta1, args.adam_beta2),
        fused=True,
    )
    return MuonAdamW(matrices, adamw, learning_rate, args.weight_decay) if matrices else adamw


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
    norm = None
    if accelerator.sync_gradients:
        # Not `accelerator.clip_grad_norm_`, which in fp16 unscales the gradients of every optimiser, also of one that comes later.
        accelerator.unscale_gradients(optimizer)
        norm = nn.utils.clip_grad_norm_(parameters, max_grad_norm)
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


def describe_average(decay: float, num_steps: int) -> str:
    """What a model card says of an average of [`make_average`] after `num_steps` steps."""
    return f"exponential average, decay {average_decay(decay, num_steps):.5f} at the last step"


def update_average(average: EMAModel, model: nn.Module) -> None:
    """Moves an average of [`make_average`] by one step."""
    average.step([parameter for _, parameter in trainable_parameters(model)])
