# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Ways to run the training scripts at tiny size: in this process, in children of it that may be killed, from a command line."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as distributed_checkpoint
from accelerate.state import AcceleratorState, GradientState

from tests.tiny_components import make_tiny_pipeline


REPOSITORY = Path(__file__).resolve().parents[2]
TRAIN_TOKENIZER = REPOSITORY / "examples" / "video_tokenizer" / "train_video_tokenizer.py"
TRAIN_TEXT_TO_VIDEO = REPOSITORY / "examples" / "text_to_video" / "train_text_to_video.py"
TRAIN_LORA = REPOSITORY / "examples" / "text_to_video" / "train_text_to_video_lora.py"
ENCODE_DATA_SET = REPOSITORY / "examples" / "text_to_video" / "encode_data_set.py"

# Clips of 5 frames of 32x32: two latent frames of 2x2.
TINY_RUN = """
    --num_frames 5 --height 32 --width 32 --train_batch_size 2 --num_workers 0 --max_train_steps 6 --checkpointing_steps 2
    --logging_steps 2 --validation_steps 100 --lr_warmup_steps 1 --report_to none
""".split()


def save_tiny_pipeline(folder: Path) -> Path:
    pipeline = make_tiny_pipeline()
    pipeline.transformer.initialize_weights(torch.Generator().manual_seed(0))
    pipeline.save_pretrained(folder)
    return folder


def run_script(script: Path, *arguments) -> None:
    """Runs a script's `main` in this process."""
    spec = importlib.util.spec_from_file_location(script.stem, script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    _forget_accelerate()
    try:
        module.main(module.parse_args([str(argument) for argument in arguments]))
    finally:
        _forget_accelerate()


def _forget_accelerate() -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def run_in_child(function: Callable[[], None]) -> int:
    """Runs `function` in a fork of this process; the exit status, or the negative signal that ended it."""
    return _wait_for(_start_child(function))


def run_in_two_processes(function: Callable[[], None]) -> None:
    run_in_processes(function, 2)


def run_in_processes(function: Callable[[], None], number: int) -> None:
    """Runs `function` in forks of this process that can talk to each other by gloo."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": str(number), "LOCAL_WORLD_SIZE": str(number)}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}

    def run(rank):
        os.environ.update(shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        function()
        if dist.is_initialized():
            dist.barrier()  # the first process holds the store, which the others may still be reading
            dist.destroy_process_group()

    children = [_start_child(lambda: run(rank)) for rank in range(number)]
    statuses = [_wait_for(child) for child in children]
    assert statuses == [0] * number, f"exit statuses {statuses}"


def _start_child(function: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            torch.set_num_threads(1)  # a fork has no OpenMP threads to share work with
            function()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return child


def _wait_for(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def start_command(*command, **options) -> subprocess.Popen:
    """Starts a command line in a process of its own, which Ctrl-C reaches even where the tests run in the background of a shell."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "src"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [str(part) for part in command],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Such a shell has SIGINT ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **options,
    )


def read_checkpoint(folder: Path) -> dict:
    """Everything in a checkpoint: tensors by their full names, and the contents of its other files."""
    reader = distributed_checkpoint.FileSystemReader(folder / "state")
    entries = reader.read_metadata().state_dict_metadata
    contents = {
        name: torch.empty(entry.size, dtype=entry.properties.dtype) if hasattr(entry, "size") else None
        for name, entry in entries.items()
    }
    distributed_checkpoint.load(contents, storage_reader=reader, no_dist=True)
    for path in sorted(folder.glob("*.pt")):
        contents[path.name] = torch.load(path, weights_only=True)
    return contents


def assert_same_contents(first, second, where="checkpoint") -> None:
    """Equal to the last bit, tensors in nested containers included."""
    assert type(first) is type(second), where
    if isinstance(first, torch.Tensor):
        assert first.equal(second), where
    elif isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for name in first:
            assert_same_contents(first[name], second[name], f"{where}/{name}")
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second), where
        for index, (one, other) in enumerate(zip(first, second)):
            assert_same_contents(one, other, f"{where}/{index}")
    else:
        assert first == second, where
