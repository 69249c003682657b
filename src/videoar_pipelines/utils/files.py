# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Files that appear when they are complete. No reader meets half of one, and a killed run leaves nothing under its name."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def complete_or_absent(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path` to write to; renames it to `path` on success, deletes it on failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary_path = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary_path
        temporary_path.replace(path)
    finally:
        temporary_path.unlink(missing_ok=True)
