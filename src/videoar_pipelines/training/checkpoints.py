# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Checkpoints of the training scripts.

A checkpoint is written under a temporary name and renamed when it is complete, so that a run killed at any moment leaves
either a whole checkpoint or none. One layout serves one process, DDP and FSDP2:

```
checkpoint-1000/
  training_state.json      the step, the number of processes and the names of the trained models
  settings.json            the flags of the run, to say at the next start which of them have changed
  transformer/config.json  the configuration of a trained model, one folder each
  state/                   weights, averaged weights and optimiser state: torch.distributed.checkpoint, sharded
  shared_state.pt          what is the same in all processes: learning-rate schedule, gradient scaler, ...
  process-00000.pt         what is not: random states, position in the data
```

Nothing in it is unpickled. Reading one runs no code, and none is written that holds a value that is not finite.
"""

import json
import logging
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn as nn
from diffusers.training_utils import EMAModel
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.optim.lr_scheduler import LambdaLR

from ..utils.command_line import UsageError
from .checkpoint_index import load_sharded, save_sharded
from .disk_space import explaining_full_disk
from .optimization import trainable_parameters


logger = logging.getLogger(__name__)

STATE_FOLDER = "state"
# Flags of which nobody wants to hear that they have changed.
_UNCOMPARED_SETTINGS = (
    "output_dir",
    "resume_from_checkpoint",
    "overwrite_output_dir",
    "allow_changed_data",
    "config_file",
)
_CHECKPOINT_NAME = re.compile(r"checkpoint-(\d+)")


# 1. Random states


def get_random_states() -> dict[str, Any]:
    """States of Python's, NumPy's and PyTorch's global generators, as plain types and tensors."""
    name, keys, index, has_gauss, cached = np.random.get_state()
    states = {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), index, has_gauss, cached),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_random_states(states: dict[str, Any]) -> None:
    """Restores what [`get_random_states`] returned."""
    name, keys, index, has_gauss, cached = states["numpy"]
    random.setstate(states["python"])
    np.random.set_state((name, keys.numpy().astype(np.uint32), index, has_gauss, cached))
    torch.set_rng_state(states["torch"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


# 2. The state of a run


class TrainingState:
    """
    All that a run has to remember, by name.

    Args:
        models (`dict[str, nn.Module]`):
            Trained models, not wrapped by DDP; sharded by `fully_shard` or not. Frozen parameters are not saved.
        optimizers (`list[torch.optim.Optimizer]`): Together they optimise parameters of `models`.
        averages (`dict[str, EMAModel]`): Averaged weights of some of the models, see `optimization.make_average`.
        shared (`dict[str, Any]`):
            Objects with `state_dict` and `load_state_dict` whose state is the same in all processes.
        per_process (`dict[str, Any]`): The same for objects whose state is not, such as the data.
        save_extra (`Callable[[Path], None]`, *optional*): Called on the main process to add files to a checkpoint.

    Attributes:
        settings (`dict[str, str]`): The flags of the run by name, written with every checkpoint.
    """

    def __init__(
        self,
        models: dict[str, nn.Module],
        optimizers: list[torch.optim.Optimizer],
        averages: dict[str, EMAModel],
        shared: dict[str, Any],
        per_process: dict[str, Any],
        save_extra: Callable[[Path], None] | None = None,
    ):
        self.models = models
        self.optimizers = optimizers
        self.averages = averages
        self.shared = shared
        self.per_process = per_process
        self.save_extra = save_extra
        self.settings = {}
        self._container = nn.ModuleDict(models)
        self._options = StateDictOptions(ignore_frozen_params=True, strict=False)

    def _sharded_state(self) -> dict[str, Any]:
        """References to all large tensors: loading a checkpoint into them restores averaged weights in place."""
        untouched = [optimizer for optimizer in self.optimizers if not optimizer.state]
        averages = {
            name: {
                key: averaged
                for (key, _), averaged in zip(trainable_parameters(self.models[name]), average.shadow_params)
            }
            for name, average in self.averages.items()
        }
        state = {
            "models": get_model_state_dict(self._container, options=self._options),
            "averages": averages,
            "optimizers": get_optimizer_state_dict(self._container, self.optimizers, options=self._options),
        }
        # PyTorch makes the state of an optimiser that has made no step yet by a step with gradients of zero, and counts that.
        for optimizer in untouched:
            for moments in optimizer.state.values():
                if "step" in moments:
                    moments["step"].zero_()
        return state

    @property
    def num_bytes(self) -> int:
        """Size of a checkpoint: weights, their averages, Adam's two moments or Muon's one. Without what is small."""
        tensors = [parameter for model in self.models.values() for _, parameter in trainable_parameters(model)]
        tensors += [tensor for average in self.averages.values() for tensor in average.shadow_params]
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                tensors += group["params"] * (2 if "betas" in group else 1)
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def save(self, folder: Path, step: int) -> None:
        """
        Writes the checkpoint of `step` into `folder`. All processes call it together.

        Raises:
            `FloatingPointError`: A value is not finite; nothing was written.
        """
        state = self._sharded_state()
        _check_finite(state, step)
        folder.mkdir(parents=True, exist_ok=True)
        save_sharded(state, folder / STATE_FOLDER)
        if _rank() == 0:
            shared = {name: item.state_dict() for name, item in self.shared.items()}
            shared["average_steps"] = {name: average.optimization_step for name, average in self.averages.items()}
            torch.save(shared, folder / "shared_state.pt")
            for name, model in self.models.items():
                _save_config(model, folder / name)
            description = {"step": step, "num_processes": _world_size(), "models": list(self.models)}
            if self.save_extra is not None:
                self.save_extra(folder)
            (folder / "settings.json").write_text(json.dumps(self.settings, indent=2) + "\n")
            (folder / "training_state.json").write_text(json.dumps(description, indent=2) + "\n")
        own = {name: item.state_dict() for name, item in self.per_process.items()}
        own["random_states"] = get_random_states()
        torch.save(own, folder / f"process-{_rank():05d}.pt")

    def load(self, folder: Path) -> int:
        """
        Restores the checkpoint in `folder`. All processes call it together.

        What the optimisers were made with counts, not what the checkpoint holds: learning rate, betas and weight decay; so do
        all other flags, and those that differ from the checkpoint's are logged.

        With another number of processes than it was written by, weights, optimiser and schedule are restored exactly, but
        the data continues at the first process's position with fresh random states: the run goes on, not bit for bit.

        Returns:
            `int`: The step after which it was written.

        Raises:
            `ValueError`: The data are others than those of the checkpoint.
        """
        # 1. The data first, which may refuse
        description = json.loads((folder / "training_state.json").read_text())
        same_processes = description["num_processes"] == _world_size()
        process_file = folder / f"process-{_rank() if same_processes else 0:05d}.pt"
        own = torch.load(process_file, map_location="cpu", weights_only=True)
        for name, item in self.per_process.items():
            item.load_state_dict(own[name])

        # 2. Weights, averages, optimisers, schedules
        options_by_flags = [_group_options(optimizer) for optimizer in self.optimizers]
        state = self._sharded_state()
        load_sharded(state, folder / STATE_FOLDER)
        set_model_state_dict(self._container, state["models"], options=self._options)
        set_optimizer_state_dict(self._container, self.optimizers, state["optimizers"], options=self._options)
        shared = torch.load(folder / "shared_state.pt", map_location="cpu", weights_only=True)
        for name, item in self.shared.items():
            item.load_state_dict(shared[name])
        for name, average in self.averages.items():
            average.optimization_step = shared["average_steps"][name]

        # 3. The flags, the random numbers
        for optimizer, options in zip(self.optimizers, options_by_flags):
            for group, group_options in zip(optimizer.param_groups, options):
                group.update(group_options)
        for item in self.shared.values():
            if isinstance(item, LambdaLR):
                _follow_base_rates(item)
        if _rank() == 0:
            self._log_changed_settings(folder)
        if same_processes:
            set_random_states(own["random_states"])
        elif _rank() == 0:
            logger.warning(
                "%s was written by %d processes and is continued by %d: not bit for bit the same run.",
                folder,
                description["num_processes"],
                _world_size(),
            )
        return description["step"]

    def _log_changed_settings(self, folder: Path) -> None:
        path = folder / "settings.json"
        before = json.loads(path.read_text()) if path.is_file() else {}
        for name in sorted(before.keys() & self.settings.keys() - set(_UNCOMPARED_SETTINGS)):
            if before[name] != self.settings[name]:
                logger.warning(
                    "`--%s` was %s in the run of %s and is %s now: %s counts from here on.",
                    name,
                    before[name],
                    folder.name,
                    self.settings[name],
                    self.settings[name],
                )


def _group_options(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """What the flags say, of every group. Where a schedule moves the rate, `initial_lr` is the flag's."""
    return [
        {
            name: group[name]
            for name in ("initial_lr" if "initial_lr" in group else "lr", "betas", "weight_decay")
            if name in group
        }
        for group in optimizer.param_groups
    ]


def _follow_base_rates(schedule: LambdaLR) -> None:
    """Computes the rates of the present step from `initial_lr`, with the expression that the schedule itself uses."""
    groups = schedule.optimizer.param_groups
    schedule.base_lrs = [group["initial_lr"] for group in groups]
    for group, factor in zip(groups, schedule.lr_lambdas):
        group["lr"] = group["initial_lr"] * factor(schedule.last_epoch)
    schedule._last_lr = [group["lr"] for group in groups]


def _named_tensors(state: Any, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(state, torch.Tensor):
        yield name, state
    elif isinstance(state, dict):
        for key, value in state.items():
            yield from _named_tensors(value, f"{name}.{key}" if name else str(key))


def _check_finite(state: dict[str, Any], step: int) -> None:
    """Of sharded tensors each process looks at its part; all raise when one does."""
    names, are_finite = [], []
    for name, tensor in _named_tensors(state):
        if tensor.is_floating_point():
            local = tensor.to_local() if hasattr(tensor, "to_local") else tensor
            names.append(name)
            are_finite.append(torch.isfinite(local).all())
    wrong = []
    if names:
        devices = {flag.device for flag in are_finite}
        flags = torch.stack([flag.to(next(iter(devices))) if len(devices) > 1 else flag for flag in are_finite])
        wrong = [name for name, is_finite in zip(names, flags.tolist()) if not is_finite]
    everyone = [wrong]
    if _is_distributed():
        everyone = [None] * _world_size()
        dist.all_gather_object(everyone, wrong)
    if any(everyone):
        wrong = sorted(set().union(*everyone))
        raise FloatingPointError(
            f"{len(wrong)} of {len(names)} tensors are not finite after step {step}, so no checkpoint of it is written:"
            f" {', '.join(wrong[:3])}{', ...' if len(wrong) > 3 else ''}. Continue from an earlier checkpoint with a lower"
            " `--learning_rate` or `--max_grad_norm`."
        )


def _save_config(model: nn.Module, folder: Path) -> None:
    """Diffusers and transformers models know how to save their configuration; other modules have none."""
    if hasattr(model, "save_config"):
        model.save_config(folder)
    elif hasattr(model, "config"):
        model.config.save_pretrained(folder)


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def _rank() -> int:
    return dist.get_rank() if _is_distributed() else 0


def _world_size() -> int:
    return dist.get_world_size() if _is_distributed() else 1


def _wait_for_everyone() -> None:
    if _is_distributed():
        dist.barrier()


# 3. Checkpoints of a run


def list_checkpoints(output_dir: str | Path) -> list[tuple[int, Path]]:
    """Complete checkpoints `(step, folder)` of a run, oldest first."""
    folders = Path(output_dir).iterdir() if Path(output_dir).is_dir() else []
    matches = [(_CHECKPOINT_NAME.fullmatch(folder.name), folder) for folder in folders]
    return sorted((int(match[1]), folder) for match, folder in matches if match)


def save_checkpoint(
    state: TrainingState, output_dir: str | Path, step: int, checkpoints_total_limit: int | None = None
) -> Path:
    """
    Writes a checkpoint and prunes old ones afterwards. All processes call it together; they share `output_dir`.

    Args:
        state ([`TrainingState`]): What to save.
        output_dir (`str` or `Path`): The run's folder.
        step (`int`): Optimiser steps done.
        checkpoints_total_limit (`int`, *optional*): How many checkpoints to keep, the new one included.

    Returns:
        `Path`: The checkpoint's folder, `output_dir/checkpoint-{step}`.

    Raises:
        `DiskFullError`: There is no room; what was written of it is deleted again.
        `FloatingPointError`: A value is not finite.
    """
    output_dir = Path(output_dir)
    folder, temporary = output_dir / f"checkpoint-{step}", output_dir / f"tmp-checkpoint-{step}"
    if _rank() == 0:
        shutil.rmtree(temporary, ignore_errors=True)
    _wait_for_everyone()
    last = list_checkpoints(output_dir)
    safe = f"{last[-1][1].name} is whole" if last else "nothing, no checkpoint has been written yet"
    with explaining_full_disk(output_dir, state.num_bytes, folder.name, safe):
        try:
            state.save(temporary, step)
        except Exception:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    _wait_for_everyone()
    if _rank() == 0:
        if folder.exists():
            # A run that was continued from an older checkpoint comes by here again.
            replaced = output_dir / f"tmp-replaced-checkpoint-{step}"
            shutil.rmtree(replaced, ignore_errors=True)
            folder.rename(replaced)
        temporary.rename(folder)
        remove_unfinished_checkpoints(output_dir)
        if checkpoints_total_limit is not None:
            for _, old in list_checkpoints(output_dir)[:-checkpoints_total_limit]:
                # Renamed first: a run killed while deleting must not leave half a checkpoint under a checkpoint's name.
                shutil.rmtree(old.rename(output_dir / f"tmp-{old.name}"))
    _wait_for_everyone()
    return folder


def remove_unfinished_checkpoints(output_dir: str | Path) -> None:
    """Deletes what a killed run left half written or half deleted."""
    for folder in Path(output_dir).glob("tmp-*checkpoint-*"):
        shutil.rmtree(folder)


def find_checkpoint(output_dir: str | Path, name: str | None) -> Path | None:
    """
    The checkpoint to continue from.

    Args:
        output_dir (`str` or `Path`): The run's folder.
        name (`str`, *optional*): `"latest"`, or the name of a checkpoint in `output_dir`, or a path; `None` starts anew.

    Returns:
        `Path`, *optional*: `None` for a new run, also for `"latest"` in a folder without checkpoints.

    Raises:
        `UsageError`: The named checkpoint does not exist.
    """
    if name is None:
        return None
    checkpoints = list_checkpoints(output_dir)
    if name == "latest":
        return checkpoints[-1][1] if checkpoints else None
    folder = Path(name) if Path(name).is_dir() else Path(output_dir) / name
    if not (folder / "training_state.json").is_file():
        known = ", ".join(path.name for _, path in checkpoints) or "none"
        raise UsageError(
            f"`--resume_from_checkpoint` is {name!r}, which is not a checkpoint. In {output_dir}: {known}."
        )
    return folder


def is_checkpoint_of(output_dir: str | Path, name: str) -> bool:
    """Whether a name as in [`find_checkpoint`] is one of this folder, and not of another run."""
    if name == "latest":
        return True
    folder = Path(name) if Path(name).is_dir() else Path(output_dir) / name
    return folder.resolve().parent == Path(output_dir).resolve()
