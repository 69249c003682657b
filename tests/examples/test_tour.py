# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""The notebook examples/videoar_tour.ipynb, run from top to bottom by IPython, which is what runs the cells in Jupyter too."""

import ast
import json

import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell

from tests.examples.training_scripts import REPOSITORY


NOTEBOOK = json.loads((REPOSITORY / "examples" / "videoar_tour.ipynb").read_text(encoding="utf-8"))
CODE = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


@pytest.fixture
def shell(monkeypatch):
    monkeypatch.chdir(REPOSITORY / "examples")
    yield InteractiveShell.instance()
    InteractiveShell.clear_instance()


def test_the_notebook_is_kept_without_outputs():
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    names = [cell["id"] for cell in NOTEBOOK["cells"]]
    assert len(set(names)) == len(names)
    for cell in NOTEBOOK["cells"]:
        assert cell.get("outputs", []) == [] and cell.get("execution_count") is None


def test_the_notebook_runs_from_top_to_bottom(shell, capsys):
    for code in CODE:
        shell.run_cell(code).raise_error()
    names = shell.user_ns
    assert np.array_equal(names["batch"][1], names["alone"])
    assert names["more"].shape == (25, 128, 128, 3) and len(names["frames"]) == 33
    assert len(names["errors"]) == 6 and max(names["errors"]) == names["errors"][-1] > names["errors"][0] + 5
    assert names["losses"][-1] < names["losses"][0]
    assert names["scores"]["background"] == 1
    printed = capsys.readouterr().out
    assert printed.count("Image object") >= 5  # what the cells show


def test_the_notebook_uses_all_that_it_imports():
    tree = ast.parse("\n".join(CODE))
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert imported <= used
