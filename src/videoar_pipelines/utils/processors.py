# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
How many threads PyTorch computes with, where other processes keep some of the processors busy.

The threads of an operation wait for each other by spinning. If one of them has to share its processor with another process, the
others spin until that process has had its turn, at every operation: two threads on two processors, both of which are busy, take a
multiple of the time of a single thread. This module sets no environment variable: PyTorch's OpenMP reads them once, when it is loaded.
"""

import functools
import os
import time
from pathlib import Path

import torch


# Who sets one of these has chosen.
_OWN_SETTINGS = ("OMP_", "GOMP_", "KMP_", "MKL_")
_PROCESSOR_TIMES = Path("/proc/stat")


def use_free_processors(seconds: float = 0.1) -> int:
    """
    Lets PyTorch use as many threads in the calling thread as there are processors that no other process keeps busy: at least one,
    and at most what PyTorch chose for itself. On a calm machine nothing changes, nor where an `OMP_*`, `GOMP_*`, `KMP_*` or `MKL_*`
    variable is set, nor on systems other than Linux. What a program that runs for long does once at its start, a server does
    before each piece of work.

    Args:
        seconds (`float`, defaults to 0.1): How long to look. This process should do nothing else meanwhile.

    Returns:
        `int`: The number of threads.
    """
    most = _threads_of_pytorch()
    if most > 1 and not any(name.startswith(_OWN_SETTINGS) for name in os.environ):
        num_free = free_processors(seconds)
        if num_free is not None:
            torch.set_num_threads(max(1, min(most, round(num_free))))
    return torch.get_num_threads()


@functools.cache
def _threads_of_pytorch() -> int:
    return torch.get_num_threads()


def free_processors(seconds: float) -> float | None:
    """
    Processors of this process that were idle, as a mean over the next `seconds`: 1.5 if one was all the time and another half of it.
    `None` where the system does not tell.
    """
    if not _PROCESSOR_TIMES.exists():
        return None
    before, start = _idle_seconds(), time.perf_counter()
    time.sleep(seconds)
    after, end = _idle_seconds(), time.perf_counter()
    return (after - before) / (end - start)


def _idle_seconds() -> float:
    """Seconds since the start of the system in which processors of this process were idle or waited for a disk, all together."""
    own = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    lines = (line.split() for line in _PROCESSOR_TIMES.read_text().splitlines())
    ticks = sum(int(fields[4]) + int(fields[5]) for fields in lines if fields[0] in own)  # man 5 proc: idle, iowait
    return ticks / os.sysconf("SC_CLK_TCK")
