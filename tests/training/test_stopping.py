# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Claims about what asks a run to stop; runs under the real launchers are in tests/examples/test_stopping.py."""

import os
import signal
import time

import pytest

from tests.examples.training_scripts import run_in_child
from videoar_pipelines.training import stopping
from videoar_pipelines.training.stopping import StopRequest


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_is_a_request_and_its_handler_is_given_back(number):
    before = signal.getsignal(number)
    with StopRequest() as request:
        assert not request.is_made
        os.kill(os.getpid(), number)
        assert request.is_made and request.reason == number.name
    assert signal.getsignal(number) == before


def test_a_second_ctrl_c_ends_at_once_only_after_some_seconds(monkeypatch):
    """torchrun hands Ctrl-C on to processes that got it from the terminal already."""
    with StopRequest():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        monkeypatch.setattr(stopping, "_SECONDS_TO_INSIST", 0)
        time.sleep(0.01)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("variable", [None, "TORCHELASTIC_RUN_ID", "ACCELERATE_MIXED_PRECISION"])
def test_the_end_of_the_parent_is_a_request_only_under_a_launcher(monkeypatch, tmp_path, variable):
    """A run that was started in the background goes on when its shell ends."""
    for name in ("TORCHELASTIC_RUN_ID", "ACCELERATE_MIXED_PRECISION"):
        monkeypatch.delenv(name, raising=False)
    if variable is not None:
        monkeypatch.setenv(variable, "no")
    ready, answer = tmp_path / "ready", tmp_path / "answer"

    def parent():
        if os.fork() == 0:
            with StopRequest() as request:
                before, parent_id = request.is_made, os.getppid()
                ready.touch()
                while os.getppid() == parent_id:
                    time.sleep(0.01)
                (tmp_path / "tmp").write_text(f"{before} {request.is_made}")
            (tmp_path / "tmp").rename(answer)
            os._exit(0)
        while not ready.exists():
            time.sleep(0.01)

    assert run_in_child(parent) == 0
    deadline = time.monotonic() + 30
    while not answer.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert answer.read_text() == f"False {variable is not None}"
