# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Runs under the real launchers that are stopped: by SIGTERM, by Ctrl-C, and by the death of the launcher."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.examples.training_scripts import TINY_RUN, TRAIN_TOKENIZER, save_tiny_pipeline, start_command
from videoar_pipelines.training.checkpoints import list_checkpoints


ACCELERATE = (
    "accelerate.commands.launch --cpu --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no"
)
TORCHRUN = "torch.distributed.run --standalone --nproc_per_node 2"
LAUNCHERS = {"accelerate": ACCELERATE.split(), "torchrun": TORCHRUN.split()}


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    return save_tiny_pipeline(tmp_path_factory.mktemp("pipeline")) / "vae"


def processes_of(output_dir: Path) -> list[int]:
    """All that have the folder in their command line, the launcher included."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
            is_dead = (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            continue
        if str(output_dir).encode() in command and not is_dead:
            found.append(int(entry.name))
    return found


def wait_until(condition, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


def start_endless_run(launcher: str, vae: Path, output_dir: Path) -> subprocess.Popen:
    """A run that neither ends nor saves by itself, in a process group of its own, in the middle of its steps."""
    arguments = [*TINY_RUN, "--pretrained_vae", vae, "--max_train_steps", 10**6, "--checkpointing_steps", 10**6]
    arguments += ["--logging_steps", 1, "--output_dir", output_dir]
    command = [sys.executable, "-m", *LAUNCHERS[launcher], TRAIN_TOKENIZER, *arguments]
    process = start_command(*command, start_new_session=True)
    wait_until(lambda: (output_dir / "metrics.jsonl").exists() or process.poll() is not None)
    assert process.poll() is None, process.communicate()[0]
    return process


# What the launcher itself ends with. The scripts have no say in it: accelerate does not handle SIGTERM, torchrun reports every
# signal as a failure of its own.
LAUNCHER_STATUS = {
    ("accelerate", "SIGTERM"): -signal.SIGTERM,
    ("accelerate", "Ctrl-C"): -signal.SIGINT,
    ("accelerate", "SIGKILL"): -signal.SIGKILL,
    ("torchrun", "SIGTERM"): 1,
    ("torchrun", "Ctrl-C"): 1,
    ("torchrun", "SIGKILL"): -signal.SIGKILL,
}


@pytest.mark.parametrize("launcher, how", LAUNCHER_STATUS, ids=[" ".join(case) for case in LAUNCHER_STATUS])
def test_a_stopped_run_saves_and_no_process_is_left(vae, tmp_path, launcher, how):
    process = start_endless_run(launcher, vae, tmp_path / "run")
    try:
        if how == "Ctrl-C":
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        else:
            process.send_signal(signal.SIGTERM if how == "SIGTERM" else signal.SIGKILL)
        output, _ = process.communicate(timeout=120)
        wait_until(lambda: not processes_of(tmp_path / "run"), seconds=60)
    finally:
        for number in processes_of(tmp_path / "run"):
            os.kill(number, signal.SIGKILL)
    assert process.returncode == LAUNCHER_STATUS[launcher, how], output
    assert "goes on" in output
    (step, checkpoint), *others = list_checkpoints(tmp_path / "run")
    assert step >= 1 and not others and (checkpoint / "training_state.json").exists()
    assert not (tmp_path / "run/vae").exists() and not list((tmp_path / "run").glob("tmp-*"))
