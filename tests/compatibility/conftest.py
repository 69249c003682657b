# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Pipelines for tests of what diffusers brings along."""

import pytest

from tests.tiny_components import make_tiny_pipeline


@pytest.fixture(scope="module")
def pipe():
    """Shared by tests that change nothing in it."""
    return make_tiny_pipeline()


@pytest.fixture
def own_pipe():
    return make_tiny_pipeline()


@pytest.fixture(scope="module")
def saved_pipeline(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    make_tiny_pipeline().save_pretrained(folder)
    return folder
