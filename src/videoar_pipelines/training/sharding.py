# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Models that are shared by processes: weights (FSDP2) or sequences (context parallelism); and models with averaged weights,
shared or not.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
import torch.nn as nn
from diffusers import ContextParallelConfig, ModelMixin
from diffusers.training_utils import EMAModel
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from .optimization import trainable_parameters


def shard_model(model: nn.Module, mesh: DeviceMesh | None = None) -> nn.Module:
    """
    Shards a model in place with FSDP2. Every module of a class in `_no_split_modules` is gathered by itself when it is
    needed; what remains is gathered once a step. Weights stay in their dtype, so that the optimiser sees float32 and autocast
    decides the precision of the computation, as in a run that is not sharded.

    Args:
        model (`nn.Module`): The same weights on all processes; on the device it is to train on.
        mesh (`DeviceMesh`, *optional*): Processes to shard over; all of them by default.
    """
    # Nothing here changes an output in place.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    for module in model.modules():
        if type(module).__name__ in model._no_split_modules:
            fully_shard(module, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def split_sequences(model: ModelMixin, degree: int) -> None:
    """
    Splits every sequence over `degree` consecutive processes, in place (DeepSpeed-Ulysses, by diffusers' `enable_parallelism`).
    All of a group hold the same weights and read the same batch. Each then computes the whole loss, but its gradients are those
    of its own tokens: they have to be *summed* over the group, so that where gradients are averaged over all processes the loss
    has to be multiplied by `degree`.

    Args:
        model (`ModelMixin`): With a `_cp_plan`.
        degree (`int`): Processes in a group, a divisor of their number and of the number of attention heads.

    Raises:
        `ValueError`: It is no such divisor, or there is no accelerator.
    """
    num_processes = dist.get_world_size() if dist.is_initialized() else 1
    for name, number in (("processes", num_processes), ("attention heads", model.config.num_attention_heads)):
        if degree < 1 or number % degree != 0:
            raise ValueError(
                f"`context_parallel_degree` is {degree}: pass a divisor of the number of {name}, {number}."
            )
    if torch.accelerator.device_count() == 0:
        raise ValueError(f"`context_parallel_degree` is {degree}, but there is no accelerator: pass 1 on a CPU.")
    accelerator = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    mesh = init_device_mesh(
        accelerator.type,
        (num_processes // degree, 1, degree),
        mesh_dim_names=("data", "ring", "ulysses"),
    )
    model.enable_parallelism(config=ContextParallelConfig(ulysses_degree=degree, mesh=mesh["ring", "ulysses"]))


def unsharded_class(model: nn.Module) -> type[nn.Module]:
    """The class a model had before `fully_shard` changed it."""
    return next(base for base in type(model).__mro__ if not issubclass(base, FSDPModule))


@contextmanager
def averaged_weights(model: nn.Module, average: EMAModel, is_main_process: bool) -> Iterator[nn.Module | None]:
    """
    A model that can be used and saved like any other, with averaged weights, inside a `with`.

    If the model is not shared it is the model itself: its weights and the averages change places, one tensor at a time, and
    change back at the end. One with sharded weights or split sequences is gathered, on the main process only, into a new model
    on the same device. All processes enter together.

    Args:
        model (`nn.Module`): Not wrapped by DDP.
        average (`EMAModel`): Of the model, see `optimization.make_average`.
        is_main_process (`bool`): Whether this process needs the result.

    Yields:
        `nn.Module` or `None`: In evaluation mode; `None` for a shared model on other processes than the main one.
    """
    if isinstance(model, FSDPModule) or getattr(model, "_parallel_config", None) is not None:
        yield _gather(model, average, is_main_process)
        return
    was_training = model.training
    _exchange(model, average)
    model.eval()
    try:
        yield model
    finally:
        model.train(was_training)
        _exchange(model, average)


@torch.no_grad()
def _exchange(model: nn.Module, average: EMAModel) -> None:
    for (_, parameter), averaged in zip(trainable_parameters(model), average.shadow_params):
        own = parameter.detach().clone()
        parameter.copy_(averaged)
        averaged.copy_(own)


@torch.no_grad()
def _gather(model: nn.Module, average: EMAModel, is_main_process: bool) -> nn.Module | None:
    averages = {name: averaged for (name, _), averaged in zip(trainable_parameters(model), average.shadow_params)}
    gathered = {}
    for name, parameter in model.named_parameters():
        weight = averages.get(name, parameter)  # what is frozen has no average
        full = weight.full_tensor() if isinstance(weight, DTensor) else weight
        if is_main_process:
            gathered[name] = full.cpu()
    if not is_main_process:
        return None
    model_class = unsharded_class(model)
    build = getattr(model_class, "from_config", model_class)
    copy = build(model.config)
    # Not strict: the second name of a tied weight is not among the parameters.
    copy.load_state_dict(gathered, strict=False)
    return copy.to(average.shadow_params[0].device).eval()
