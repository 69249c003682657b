# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""The page on memory and time has the tables of benchmarks/count_memory.py, and what the script counts is right."""

import json
import runpy
import sys

import pytest
import torch

from tests.examples.training_scripts import REPOSITORY


FOLDER = REPOSITORY / "benchmarks"
PAGE = (REPOSITORY / "docs" / "memory_and_time.md").read_text(encoding="utf-8")
TOKENIZER_WEIGHTS = 0.66  # GB, bfloat16
RESULTS = json.loads((FOLDER / "results" / "memory-counted.json").read_text(encoding="utf-8"))


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return runpy.run_path(str(FOLDER / "count_memory.py"))


def rows_of(results, kind):
    return [row for row in results[kind] if (row["model"], row["video"]) == ("L", "17x128x128")]


def test_the_page_has_the_tables_of_the_results(script):
    assert script["with_tables"](PAGE, RESULTS) == PAGE


@pytest.mark.skipif(
    torch.__version__.split("+")[0] != RESULTS["torch"], reason="the results are those of another version of PyTorch"
)
def test_the_results_are_those_of_the_script(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    page, output = tmp_path / "page.md", tmp_path / "memory.json"
    page.write_text(PAGE, encoding="utf-8")
    arguments = ["--models", "L", "--videos", "17x128x128", "--output", str(output), "--page", str(page)]
    monkeypatch.setattr(sys, "argv", ["count_memory.py", *arguments])
    runpy.run_path(str(FOLDER / "count_memory.py"), run_name="__main__")
    results = json.loads(output.read_text())
    for kind in ("generation", "training"):
        assert results[kind] == rows_of(RESULTS, kind)
    assert page.read_text(encoding="utf-8").count("| L | 17x128x128 |") == 5


def test_what_is_counted_is_near_to_what_was_measured():
    measured = json.loads((FOLDER / "results" / "generation-eager-h200.json").read_text())["rows"][0]
    counted = rows_of(RESULTS, "generation")[0]
    fused_copies = 2 * 24 * 3 * 1536**2 / 1e9  # kept in the measured run
    while_sampling = counted["weights GB"] + counted["cache GB"] + counted["step GB"] + fused_copies
    # The allocator rounds up and kernels have workspaces.
    assert 0.95 < while_sampling / measured["sample GB"] < 1
    rows = json.loads((FOLDER / "results" / "tokenizer-paper-h200.json").read_text())["rows"]
    decoding = next(row for row in rows if (row["part"], row["batch"]) == ("decode", 1))
    # What is counted holds what the next chunk of a stream needs.
    assert 1 < (counted["decode GB"] + TOKENIZER_WEIGHTS) / decoding["peak GB"] < 1.1
