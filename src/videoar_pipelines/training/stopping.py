# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
What asks a run to stop: SIGTERM (Slurm, `kill`), SIGINT (Ctrl-C), and the death of its launcher.

Under `accelerate launch` of one process a SIGTERM ends the launcher at once and never reaches the script; a launcher that is
killed by SIGKILL tells nobody. So a process that a launcher started asks after every step whether its parent is still there.
"""

import logging
import os
import signal
import time


logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Variables of which each launcher sets at least one. A run without a launcher goes on when its parent, a shell, ends.
_LAUNCHER_VARIABLES = ("TORCHELASTIC_RUN_ID", "ACCELERATE_MIXED_PRECISION")
# Ctrl-C reaches a process from the terminal and once more from torchrun: only a later one means "do not save".
_SECONDS_TO_INSIST = 5


class StopRequest:
    """
    Whether this process was asked to stop, and by what. Watches inside a `with`, which has to be in the main thread.

    Attributes:
        reason (`str`, *optional*): `"SIGTERM"`, `"SIGINT"` or `"the end of its launcher"`.
    """

    def __init__(self):
        self.reason = None
        self._time = None
        is_launched = any(name in os.environ for name in _LAUNCHER_VARIABLES)
        self._launcher = os.getppid() if is_launched else None

    def __enter__(self) -> "StopRequest":
        self._previous = {number: signal.signal(number, self._receive) for number in SIGNALS}
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @property
    def is_made(self) -> bool:
        """Asks for the launcher, too."""
        if self.reason is None and self._launcher is not None and os.getppid() != self._launcher:
            self._note("the end of its launcher")
        return self.reason is not None

    def _receive(self, number: int, frame) -> None:
        if self.reason is None:
            self._note(signal.Signals(number).name)
        elif number == signal.SIGINT and time.monotonic() - self._time > _SECONDS_TO_INSIST:
            raise KeyboardInterrupt

    def _note(self, reason: str) -> None:
        self.reason, self._time = reason, time.monotonic()
