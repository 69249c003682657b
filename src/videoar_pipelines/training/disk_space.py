# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Room on the disk of a run: asked for before the first step, and explained when it runs out."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from ..utils.command_line import FULL_DISK_ERRORS, UsageError


class DiskFullError(RuntimeError):
    """What was to be written does not fit; says what is safe."""


def _bytes(number: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            return f"{number:.3g} {unit}" if unit != "bytes" else f"{number:.0f} bytes"
        number /= 1000


def check_room(folder: Path, num_bytes: int, what: str, safe: str) -> None:
    """
    Raises:
        `DiskFullError`: The disk of `folder` has less than `num_bytes` left.
    """
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise DiskFullError(_full(folder, num_bytes, what, free, safe))


@contextlib.contextmanager
def explaining_full_disk(folder: Path, num_bytes: int, what: str, safe: str) -> Iterator[None]:
    """
    Turns what libraries make of a full disk (a `RuntimeError` of torch's zip writer, a `SafetensorError`, ...) into an error
    that names the folder, the bytes and what is safe.

    Args:
        folder (`Path`): That of the run.
        num_bytes (`int`): How many are to be written.
        what (`str`): What they are, such as `"checkpoint-100"`.
        safe (`str`): What is not lost.

    Raises:
        `DiskFullError`: In its place.
    """
    try:
        yield
    except (FloatingPointError, UsageError):
        raise
    except Exception as error:
        free = shutil.disk_usage(folder).free
        if not _is_full_disk(error) and free >= num_bytes:
            raise
        raise DiskFullError(_full(folder, num_bytes, what, free, safe)) from error


def _is_full_disk(error: BaseException | None) -> bool:
    while error is not None:
        text = str(error)
        if isinstance(error, OSError) and error.errno in FULL_DISK_ERRORS:
            return True
        # torch's zip writer forgets the reason; so do the processes that report to the first one.
        if "inline_container" in text or "PytorchStreamWriter" in text or "No space left on device" in text:
            return True
        error = error.__cause__ or error.__context__
    return False


def _full(folder: Path, num_bytes: int, what: str, free: int, safe: str) -> str:
    return (
        f"{what} does not fit into {folder}: it needs more than {_bytes(num_bytes)}, {_bytes(free)} are free now (a quota may leave less)."
        f" Safe: {safe}. Make room, or lower `--checkpoints_total_limit`, and continue with"
        " `--resume_from_checkpoint latest`."
    )
