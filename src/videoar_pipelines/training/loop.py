# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
What all training scripts do around their own arithmetic: start the processes, count steps, watch the loss, show progress, log,
save checkpoints and stop in time.
"""

import gc
import json
import logging
import math
import os
import platform
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from accelerate.utils import ProjectConfiguration, broadcast_object_list, set_seed
from tqdm.auto import tqdm

from ..utils.command_line import UsageError, did_you_mean, end_in_silence
from .checkpoints import (
    TrainingState,
    find_checkpoint,
    list_checkpoints,
    remove_unfinished_checkpoints,
    save_checkpoint,
)
from .disk_space import DiskFullError, check_room
from .publishing import repository_of
from .run_folder import METRICS_NAME, keep_metrics_until, prepare_folder, set_aside_later_checkpoints
from .stopping import StopRequest


logger = logging.getLogger(__name__)


# 1. Before the first step


def start_run(args: Namespace) -> Accelerator:
    """
    Starts accelerate, Python's logging, the random generators (alike in all processes, so that all build the same models)
    and the run's folder, and checks what would otherwise fail late: the checkpoint to continue from, the tracker, the Hub.

    Args:
        args (`argparse.Namespace`): With the flags of `arguments.add_run_arguments`.

    Raises:
        `UsageError`: The flags do not fit each other, the folder, the machine or the launcher.
    """
    _check_tracker(args.report_to)
    accelerator = Accelerator(
        # Without this, accelerate takes each of several CPU processes for the only one.
        cpu=not torch.accelerator.is_available(),
        mixed_precision=args.mixed_precision,
        gradient_accumulation_steps=args.gradient_accumulation_steps,
        log_with=None if args.report_to == "none" else args.report_to,
        project_config=ProjectConfiguration(str(args.output_dir), str(args.output_dir / "logs")),
    )
    if accelerator.num_processes != int(os.environ.get("WORLD_SIZE", 1)):
        raise UsageError(
            f"`WORLD_SIZE` is {os.environ['WORLD_SIZE']}, but accelerate runs {accelerator.num_processes} process(es): each would "
            "train by itself. Start them with torchrun, or with `accelerate launch --multi_gpu`."
        )
    if accelerator.distributed_type not in ("NO", "MULTI_GPU", "MULTI_CPU"):
        raise UsageError(
            f"accelerate's configuration asks for {accelerator.distributed_type.value}. Start plain processes (a "
            "configuration with `distributed_type: MULTI_GPU`) and pass `--fsdp` to shard the training state."
        )
    if args.fsdp and not torch.distributed.is_initialized() and "RANK" not in os.environ:
        raise UsageError(
            "`--fsdp` shares the training state among processes, and this is one alone: start it with `accelerate launch` or `torchrun`"
            " on several, or pass `--no-fsdp`."
        )
    if args.fsdp and accelerator.mixed_precision == "fp16":
        raise UsageError("`--fsdp` does not scale gradients as fp16 needs it: pass `--mixed_precision bf16`.")
    logging.basicConfig(
        level=logging.INFO if accelerator.is_main_process else logging.ERROR,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    # Held by the accelerator until `end_run`, or until the process ends.
    accelerator.run_lock = on_main_process(accelerator, lambda: prepare_folder(args))
    on_main_process(accelerator, lambda: _check_checkpoint(args))
    if args.push_to_hub:
        on_main_process(accelerator, lambda: repository_of(args.hub_model_id or args.output_dir.name))
    set_seed(args.seed)
    return accelerator


def on_main_process(accelerator: Accelerator, function: Callable[[], Any]) -> Any:
    """Calls a function that may refuse to go on, on the main process; the others end with it and leave the words to it."""
    result, error = None, None
    if accelerator.is_main_process:
        try:
            result = function()
        except (UsageError, DiskFullError) as raised:
            error = raised
    if accelerator.num_processes > 1:
        is_refused = broadcast_object_list([error is not None])[0]
        if is_refused and error is None:
            end_in_silence()
    if error is not None:
        raise error
    return result


def _check_tracker(name: str) -> None:
    known = [str(kind) for kind in LOGGER_TYPE_TO_CLASS] + ["none"]
    if name not in known:
        raise UsageError(f"`--report_to` is {name!r}: choose from {', '.join(known)}.{did_you_mean(name, known)}")
    if name != "none" and name not in [str(kind) for kind in get_available_trackers()]:
        raise UsageError(
            f"`--report_to` is {name!r}, which is not installed: pip install {name}, or pass `--report_to none`."
        )


def _check_checkpoint(args: Namespace) -> None:
    checkpoint = find_checkpoint(args.output_dir, args.resume_from_checkpoint)
    if checkpoint is not None:
        step = json.loads((checkpoint / "training_state.json").read_text())["step"]
        if step > args.max_train_steps:
            raise UsageError(
                f"`--max_train_steps` is {args.max_train_steps}, but {checkpoint} is of step {step}: pass at least {step}."
            )


def start_trackers(accelerator: Accelerator, args: Namespace, name: str) -> None:
    """Starts the trackers of `--report_to` with all settings of the run, under the name of the project."""
    if args.report_to != "none":
        try:
            accelerator.init_trackers(name, {key: str(value) for key, value in vars(args).items()})
        except Exception as error:
            raise UsageError(
                f"`--report_to` {args.report_to} cannot be started ({type(error).__name__}: {error}). Set it up, or pass"
                " `--report_to none`."
            ) from error


def shared_objects(accelerator: Accelerator, lr_scheduler: Any) -> dict[str, Any]:
    """What a run's [`TrainingState`] holds as `shared`: the learning-rate schedule and, for fp16, the gradient scaler."""
    shared = {"lr_scheduler": lr_scheduler}
    if accelerator.scaler is not None:
        shared["scaler"] = accelerator.scaler
    return shared


def end_run(accelerator: Accelerator) -> None:
    """
    Closes the trackers and the process group. Nothing that `accelerator.prepare` wrapped may be referenced any more.

    A DDP model that outlives the process group is the last owner of gloo's threads, and its destructor waits for them while it
    holds Python's interpreter lock, which they may need to end (torch 2.13): now and then such a run never exits.
    """
    accelerator.free_memory()
    # A DDP model and its hooks refer to each other.
    gc.collect()
    accelerator.end_training()
    if accelerator.run_lock is not None:
        accelerator.run_lock.release()


def hardware_name(accelerator: Accelerator) -> str:
    """For example `8 x NVIDIA H100`."""
    is_cuda = accelerator.device.type == "cuda"
    name = torch.cuda.get_device_name(accelerator.device) if is_cuda else f"CPU process ({platform.machine()})"
    return f"{accelerator.num_processes} x {name}"


# 2. Watching the loss


class _Report:
    """Scalars of one step, being averaged over the processes and copied to the CPU."""

    def __init__(self, step: int, values: dict[str, torch.Tensor], stop_requested: bool, sources: list[str]):
        self.step = step
        self.names = list(values)
        self.sources = sources
        self.local = torch.stack([*values.values(), torch.full_like(next(iter(values.values())), stop_requested)])
        reduced = self.local.clone()
        if dist.is_initialized():
            dist.all_reduce(reduced)
            reduced /= dist.get_world_size()
        self._event = None
        self._copy = reduced
        if reduced.is_cuda:
            self._copy = torch.empty(reduced.shape, pin_memory=True)
            self._copy.copy_(reduced, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def read(self) -> tuple[dict[str, float], bool]:
        """Waits for the copy; mean values by name, and whether any process was asked to stop."""
        if self._event is not None:
            self._event.synchronize()
        *values, stop = self._copy.tolist()
        return dict(zip(self.names, values)), stop > 0


# 3. The loop


class TrainingLoop:
    """
    Counts optimiser steps. Iterating yields the number of steps done so far; the body of the `for` makes one more:

    ```python
    with TrainingLoop(accelerator, state, args) as loop:
        for step in loop:
            for _ in range(args.gradient_accumulation_steps):
                ...
                loop.watch(batch, loss=loss)
                ...
            loop.watch_gradients(norm)
            if loop.is_logging_step:
                loop.log({"lr": lr})
    ```

    After the body it stops the run if a watched value is not finite, writes checkpoints, and when the run is asked to stop (see
    [`StopRequest`]) writes one and ends the iteration. Values are averaged over the processes together with the question whether to
    stop. On a GPU they are read one step later, so that watching costs no wait; a checkpoint is written only when its own
    step is known to be finite.

    Args:
        accelerator (`Accelerator`): The run's.
        state ([`TrainingState`]): What checkpoints hold.
        args (`argparse.Namespace`): With the flags of `arguments.add_run_arguments`.
        context_parallel_degree (`int`, defaults to 1):
            Number of consecutive processes that share their batches and random numbers, see `sharding.split_sequences`.

    Attributes:
        last_logs (`dict[str, float]`): What was logged last.
        is_stopped (`bool`): Whether the run ended early because it was asked to.
    """

    def __init__(
        self, accelerator: Accelerator, state: TrainingState, args: Namespace, context_parallel_degree: int = 1
    ):
        self.accelerator = accelerator
        self.state = state
        self.args = args
        self.context_parallel_degree = context_parallel_degree
        self.last_logs = {}
        self.is_stopped = False
        self._request = StopRequest()
        self._step = 0
        self._saved_step = None
        self._watched = {}
        self._sources = []
        self._num_samples = 0
        self._report = None
        self._values = {}
        self._line = {}

    def __enter__(self) -> "TrainingLoop":
        self._request.__enter__()
        return self

    def __exit__(self, *exception) -> None:
        self._request.__exit__(*exception)

    def __iter__(self) -> Iterator[int]:
        # 1. Resume; from here on processes with other batches have other random numbers
        output_dir = self.args.output_dir
        if self.accelerator.is_main_process:
            remove_unfinished_checkpoints(output_dir)
        on_main_process(
            self.accelerator,
            lambda: check_room(output_dir, self.state.num_bytes, "The first checkpoint", "all that is there"),
        )
        set_seed(self.args.seed + self.accelerator.process_index // self.context_parallel_degree)
        self.state.settings = {name: str(value) for name, value in vars(self.args).items()}
        checkpoint = find_checkpoint(output_dir, self.args.resume_from_checkpoint)
        first_step = 0
        if checkpoint is not None:
            first_step = self._saved_step = self.state.load(checkpoint)
            logger.info("Continuing after step %d from %s.", first_step, checkpoint)
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            set_aside_later_checkpoints(output_dir, first_step)
            self.last_logs = keep_metrics_until(output_dir, first_step)
        self._step = first_step - 1  # what `step` says if there is none left to do

        # 2. Steps
        self._last_log_time = time.perf_counter()
        with tqdm(
            initial=first_step,
            total=self.args.max_train_steps,
            disable=not self.accelerator.is_main_process,
            mininterval=1,
            unit="step",
        ) as self._progress:
            for self._step in range(first_step, self.args.max_train_steps):
                yield self._step
                self._end_step()
                if self.is_stopped:
                    logger.info(
                        "Stopped by %s after step %d: `--resume_from_checkpoint latest` goes on.",
                        self._request.reason or "another process",
                        self.step,
                    )
                    return

    @property
    def step(self) -> int:
        """Optimiser steps done, the present one included."""
        return self._step + 1

    @property
    def is_last_step(self) -> bool:
        return self.step == self.args.max_train_steps

    @property
    def is_logging_step(self) -> bool:
        return self.step % self.args.logging_steps == 0 or self.is_last_step

    @property
    def is_validation_step(self) -> bool:
        return self.step % self.args.validation_steps == 0 or self.is_last_step

    def watch(self, batch: dict[str, Any], **losses: torch.Tensor) -> None:
        """
        Watches scalars of a batch; those of the batches of one optimiser step are averaged.

        Args:
            batch (`dict`): Its `files` are counted, and named when a loss is not finite.
            losses (`torch.Tensor`): Scalars by name. The one called `loss` is shown in the progress bar.
        """
        for name, loss in losses.items():
            self._watched.setdefault(name, []).append(loss.detach().float())
        self._sources.extend(batch["files"])
        self._num_samples += len(batch["files"])

    def watch_gradients(self, **norms: torch.Tensor) -> None:
        """
        Watches gradient norms, by name. With a gradient scaler (fp16) it does not: gradients that are not finite are expected
        there, and the scaler skips such steps.
        """
        if self.accelerator.scaler is None:
            for name, norm in norms.items():
                norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
                self._watched[name] = [norm.detach().float()]

    def log(self, values: dict[str, float], show: tuple[str, ...] = ()) -> None:
        """
        Logs the step to the trackers and to `metrics.jsonl` in the run's folder: watched values, the given ones, speed and
        memory. All processes call it. The line is written when the step ends.

        Args:
            values (`dict[str, float]`): Those of the main process are logged.
            show (`tuple[str, ...]`): Names of values for the progress bar, beside the loss.
        """
        self._send_report()
        self._read_report()
        now = time.perf_counter()
        num_samples = self._num_samples * self.accelerator.num_processes // self.context_parallel_degree
        logs = self._values | values | {"samples_per_second": num_samples / (now - self._last_log_time)}
        if self.accelerator.device.type == "cuda":
            logs["memory_gib"] = torch.cuda.max_memory_allocated(self.accelerator.device) / 2**30
        self._num_samples, self._last_log_time = 0, now
        self._progress.set_postfix({name: f"{logs[name]:.4g}" for name in ("loss", *show)}, refresh=False)
        self.accelerator.log(logs, step=self.step)
        self._line |= logs
        self.last_logs = logs

    def log_validation(self, values: dict[str, float]) -> None:
        """
        Logs what validation found to the trackers and, in the line of its step, to `metrics.jsonl`. Call it after [`log`].

        Args:
            values (`dict[str, float]`): By name, without the prefix `validation/` that they get. Those of the main process are
                logged.
        """
        values = {f"validation/{name}": value for name, value in values.items()}
        if values:
            self.accelerator.log(values, step=self.step)
        self._line |= values
        self.last_logs = self.last_logs | values

    def _write_line(self) -> None:
        line, self._line = self._line, {}
        if line and self.accelerator.is_main_process:
            with open(self.args.output_dir / METRICS_NAME, "a") as file:
                file.write(json.dumps({"step": self.step, **line}) + "\n")

    def _end_step(self) -> None:
        self._write_line()
        self._send_report()
        is_due = self.step % self.args.checkpointing_steps == 0 or self.is_last_step
        if is_due or not self.accelerator.device.type == "cuda":
            self._read_report()
        self._progress.update()
        if (is_due or self.is_stopped) and self._saved_step != self.step:
            self._read_report()
            save_checkpoint(self.state, self.args.output_dir, self.step, self.args.checkpoints_total_limit)
            self._saved_step = self.step
        self.is_stopped = self.is_stopped and not self.is_last_step

    def _send_report(self) -> None:
        """Sends the values of this step on their way, after reading those of the step before."""
        if self._watched:
            self._read_report()
            values = {name: torch.stack(losses).mean() for name, losses in self._watched.items()}
            self._report = _Report(self.step, values, self._request.is_made, self._sources)
            self._watched, self._sources = {}, []

    def _read_report(self) -> None:
        if self._report is None:
            return
        report, self._report = self._report, None
        self._values, self.is_stopped = report.read()
        if all(math.isfinite(value) for value in self._values.values()):
            return
        own = ", ".join(f"{name} {value:g}" for name, value in zip(report.names, report.local.tolist()))
        checkpoints = list_checkpoints(self.args.output_dir)
        raise FloatingPointError(
            f"A value is not finite at step {report.step}: {self._values}. In process {self.accelerator.process_index}: {own}, "
            f"from the batch {report.sources}. The last good checkpoint is "
            f"{checkpoints[-1][1] if checkpoints else 'none: the run has not written one yet'}."
        )


# 4. Pictures


def log_images(accelerator: Accelerator, name: str, images: np.ndarray, step: int) -> None:
    """
    Hands pictures to the trackers that can take them.

    Args:
        accelerator (`Accelerator`): The run's.
        name (`str`): Of the pictures.
        images (`np.ndarray` of shape `(N, H, W, 3)`): uint8.
        step (`int`): Optimiser steps done.
    """
    for tracker in accelerator.trackers:
        if tracker.name == "tensorboard":
            tracker.log_images({name: images}, step=step, dataformats="NHWC")
        elif tracker.name == "wandb":
            tracker.log_images({name: list(images)}, step=step)
