# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Files and folders that appear when they are complete. No reader meets half of one, and a killed run leaves nothing under its name."""

import contextlib
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is another user's
        pass
    return True


def remove_path(path: Path) -> None:
    """Deletes a file, a link or a whole folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def read_json_lines(path: Path) -> list[Any]:
    """What the lines of a file hold, empty ones left out. Text in them may hold U+2028, which ends a line for `splitlines` and not here."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]


def _remove_leftovers(path: Path, host: str) -> None:
    """Deletes what writers of `path` that were killed on this machine left under temporary names."""
    leftover = re.compile(re.escape(f".{path.stem}.{host}.") + r"(\d+)" + re.escape(path.suffix))
    for sibling in path.parent.iterdir():
        match = leftover.fullmatch(sibling.name)
        if match and not _is_running(int(match[1])):
            remove_path(sibling)


@contextlib.contextmanager
def complete_or_absent(path: Path) -> Iterator[Path]:
    """
    Gives a temporary path beside `path`, for a file or a folder; renames it to `path` on success, deletes it on failure. A folder
    takes the place of none that holds files. What a killed process leaves under its temporary name, the next one that writes
    `path` on that machine deletes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    host = re.sub(r"\W", "-", socket.gethostname())
    _remove_leftovers(path, host)
    temporary_path = path.with_name(f".{path.stem}.{host}.{os.getpid()}{path.suffix}")
    try:
        yield temporary_path
        temporary_path.replace(path)
    finally:
        remove_path(temporary_path)
