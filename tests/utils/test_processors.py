# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Claims about the number of threads on a machine that does other things as well."""

import os
import subprocess
import sys
import time

import pytest
import torch

from videoar_pipelines.utils import processors
from videoar_pipelines.utils.command_line import run_command_line
from videoar_pipelines.utils.processors import free_processors, use_free_processors


NUM_PROCESSORS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
pytestmark = pytest.mark.skipif(not os.path.exists("/proc/stat"), reason="only Linux says how busy its processors are")


@pytest.fixture
def four_threads(monkeypatch):
    """A process in which PyTorch chose four threads, and the user nothing."""
    for name in list(os.environ):
        if name.startswith(("OMP_", "GOMP_", "KMP_", "MKL_")):
            monkeypatch.delenv(name)
    num_threads = torch.get_num_threads()
    torch.set_num_threads(4)
    processors._threads_of_pytorch.cache_clear()
    yield
    torch.set_num_threads(num_threads)
    processors._threads_of_pytorch.cache_clear()


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A file in the place of `/proc/stat`, in whose processors as much idle time passes as is asked for."""
    path, ticks = tmp_path / "stat", os.sysconf("SC_CLK_TCK")
    own = sorted(os.sched_getaffinity(0))
    sleep = time.sleep

    def write(idle_ticks):
        # Another processor, which this process may not use, is always idle.
        lines = [f"cpu{number} 5 0 5 {idle_ticks // len(own)} 0 0 0 0 0 0" for number in own]
        path.write_text("\n".join(["cpu 9 9 9 9 9 9 9 9 9 9", *lines, f"cpu{own[-1] + 1} 5 0 5 {time.time_ns()} 0 0"]))

    def set_free(num_free):
        write(0)

        def let_time_pass(seconds):
            sleep(seconds)
            write(round(num_free * seconds * ticks))

        monkeypatch.setattr(processors.time, "sleep", let_time_pass)

    monkeypatch.setattr(processors, "_PROCESSOR_TIMES", path)
    return set_free


@pytest.mark.parametrize("num_free, num_threads", [(0, 1), (2, 2), (64, 4)])
def test_there_are_as_many_threads_as_free_processors_but_one_at_least(four_threads, machine, num_free, num_threads):
    machine(num_free)
    assert use_free_processors(0.2) == torch.get_num_threads() == num_threads


def test_threads_come_back_when_the_machine_is_calm_again(four_threads, machine):
    machine(0)
    assert use_free_processors(0.02) == 1
    machine(64)
    assert use_free_processors(0.02) == 4


@pytest.mark.parametrize("name, value", [("OMP_NUM_THREADS", "4"), ("GOMP_SPINCOUNT", "0"), ("MKL_NUM_THREADS", "4")])
def test_what_the_user_has_set_stays(four_threads, machine, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    machine(0)
    assert use_free_processors(0.02) == torch.get_num_threads() == 4


def test_a_system_that_does_not_tell_changes_nothing(four_threads, monkeypatch, tmp_path):
    monkeypatch.setattr(processors, "_PROCESSOR_TIMES", tmp_path / "absent")
    assert use_free_processors(0.02) == 4


def test_processors_that_count_are_not_free():
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(NUM_PROCESSORS)]
    try:
        time.sleep(0.2)
        assert free_processors(0.2) < NUM_PROCESSORS / 2
    finally:
        for process in busy:
            process.kill()
            process.wait()


def test_a_script_begins_with_the_free_processors(four_threads, machine):
    machine(2)
    seen = []
    run_command_line(lambda: seen.append(torch.get_num_threads()))
    assert seen == [2]
