# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Which tests run: those marked `gpu` where there is a CUDA device, those marked `slow` with `RUN_SLOW=1`, all others. And what no test
may leave behind for the next one.
"""

import os

import pytest
import torch
from diffusers.models.attention_dispatch import _AttentionBackendRegistry


def pytest_collection_modifyitems(items):
    skipped = {}
    if not torch.cuda.is_available():
        skipped["gpu"] = pytest.mark.skip(reason="needs a CUDA device")
    if os.environ.get("RUN_SLOW", "0") != "1":
        skipped["slow"] = pytest.mark.skip(reason="slow, runs with RUN_SLOW=1")
    for item in items:
        for name, mark in skipped.items():
            if item.get_closest_marker(name) is not None:
                item.add_marker(mark)


@pytest.fixture(autouse=True)
def same_attention_backend():
    """`set_attention_backend` of one model makes its backend the default of the whole process."""
    before = _AttentionBackendRegistry._active_backend
    yield
    _AttentionBackendRegistry._active_backend = before
