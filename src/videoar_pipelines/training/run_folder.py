# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
The folder of a run: one process at a time writes into it, and a new run neither deletes nor continues an old one unasked.
"""

import contextlib
import errno
import json
import logging
import os
import shlex
import shutil
import socket
import sys
import time
from argparse import Namespace
from pathlib import Path

from ..utils.command_line import UsageError
from ..utils.files import remove_path
from .checkpoints import is_checkpoint_of, list_checkpoints


try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


logger = logging.getLogger(__name__)

LOCK_NAME = "run.lock"
METRICS_NAME = "metrics.jsonl"
# What a run writes, checkpoints aside; nothing else in its folder is ever deleted.
_RESULTS = ("pipeline", "vae", "lora")
_LEFTOVERS = ("logs", "validation", METRICS_NAME)
_PATTERNS = ("skipped_files_rank*.jsonl", "tmp-*", "set-aside-*")


# 1. One run at a time


class RunLock:
    """
    A lock on a folder that ends with its process, however that ends. The file `run.lock` says who holds it.

    Args:
        folder (`Path`): Exists.

    Raises:
        `UsageError`: Another process holds the lock.
    """

    def __init__(self, folder: Path):
        # A record lock is not inherited by the processes that read data, which may outlive a killed run by seconds.
        self._file = open(folder / LOCK_NAME, "a+")
        if fcntl is None:
            return
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                logger.warning("%s cannot be locked (%s): see that no other run writes into it.", folder, error)
                return
            holder = _read_holder(self._file)
            self._file.close()
            raise UsageError(
                f"`--output_dir` {folder} is in use by {holder}: wait for it, stop it, or name another folder."
            ) from error
        self._file.truncate(0)
        holder = {
            "host": socket.gethostname(),
            "process": os.getpid(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
            "command": shlex.join(sys.argv),
        }
        self._file.write(json.dumps(holder) + "\n")
        self._file.flush()

    def release(self) -> None:
        self._file.close()


def _read_holder(file) -> str:
    try:
        file.seek(0)
        holder = json.loads(file.read())
        return f"process {holder['process']} on {holder['host']} since {holder['since']} ({holder['command']})"
    except (ValueError, KeyError, TypeError):
        return "another process"


# 2. What is there already


def prepare_folder(args: Namespace) -> RunLock:
    """
    Makes and locks the folder of a run, and refuses one that holds another. Called by the main process alone.

    Args:
        args (`argparse.Namespace`): With the flags of `arguments.add_run_arguments`.

    Returns:
        [`RunLock`]: To be held as long as the run lasts.

    Raises:
        `UsageError`: The folder cannot be written to, is in use, or holds a run that is neither continued nor overwritten; or the
            checkpoint to continue from does not exist.
    """
    folder = args.output_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = RunLock(folder)
    except UsageError:
        raise
    except OSError as error:
        raise UsageError(
            f"`--output_dir` {folder} cannot be written to ({error.strerror}): name another folder."
        ) from error
    try:
        _check_use(args)
    except BaseException:
        lock.release()
        raise
    return lock


def _check_use(args: Namespace) -> None:
    folder, name = args.output_dir, args.resume_from_checkpoint
    is_own = name is not None and is_checkpoint_of(folder, name)
    if args.overwrite_output_dir:
        if is_own:
            raise UsageError(
                f"`--overwrite_output_dir` would delete `--resume_from_checkpoint {name}`: pass one of the two."
            )
        _delete_run(folder)
    elif not is_own and (found := _describe_run(folder)):
        raise UsageError(
            f"`--output_dir` {folder} holds a run already ({found}). Pass `--resume_from_checkpoint latest` to continue it,"
            " `--overwrite_output_dir` to delete it, or another folder."
        )


def _describe_run(folder: Path) -> str:
    checkpoints = [path.name for _, path in list_checkpoints(folder)]
    return ", ".join(checkpoints + [name for name in (METRICS_NAME, *_RESULTS) if (folder / name).exists()])


def _delete_run(folder: Path) -> None:
    paths = [path for _, path in list_checkpoints(folder)] + [folder / name for name in _RESULTS + _LEFTOVERS]
    for path in paths + [path for pattern in _PATTERNS for path in folder.glob(pattern)]:
        remove_path(path)


def set_aside_later_checkpoints(folder: Path, step: int) -> None:
    """
    Renames the checkpoints after `step`, which belong to another branch of the run: `latest` must not find them, and they must
    not push out new ones.
    """
    for later, path in list_checkpoints(folder):
        if later > step:
            target = folder / f"set-aside-{path.name}"
            if target.exists():
                shutil.rmtree(target)
            path.rename(target)
            logger.warning("%s is of a later step than this run continues from: kept as %s.", path, target.name)


def keep_metrics_until(folder: Path, step: int) -> dict[str, float]:
    """Drops the lines of `metrics.jsonl` after `step`; the values of the last line that is left, without its step."""
    path = folder / METRICS_NAME
    if not path.is_file():
        return {}
    kept = []
    for line in path.read_text().splitlines():
        with contextlib.suppress(ValueError):  # a line that a killed run left half written
            values = json.loads(line)
            if values["step"] <= step:
                kept.append(values)
    temporary = path.with_name(f"tmp-{METRICS_NAME}")
    temporary.write_text("".join(json.dumps(values) + "\n" for values in kept))
    temporary.replace(path)
    return {name: value for name, value in kept[-1].items() if name != "step"} if kept else {}
