# Copyright 2026 The VideoAR Pipelines Authors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Which tests run: those marked `gpu` where there is a CUDA device, those marked `slow` with `RUN_SLOW=1`, all others."""

import os

import pytest
import torch


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
