# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""docs/paper.md names code: every name has to exist, and every statement has exactly one home."""

import functools
import importlib
import inspect
import re
from pathlib import Path

import pytest


TEXT = (Path(__file__).resolve().parents[2] / "docs" / "paper.md").read_text()
PLACE = re.compile(r"`([\w.]+)::([\w.]+)`(?: `(\w+)`)?")
PLACES = sorted(set(PLACE.findall(TEXT)))


@pytest.mark.parametrize(("module", "name", "field"), PLACES)
def test_a_place_exists(module, name, field):
    place = functools.reduce(getattr, name.split("."), importlib.import_module(f"videoar_pipelines.{module}"))
    if field:
        assert field in inspect.signature(place.__init__).parameters


def test_every_statement_of_the_method_has_exactly_one_home():
    rows = TEXT.split("## The method")[1].split("\n## ")[0].splitlines()
    rows = [row for row in rows if row.startswith("| ")][1:]
    assert len(rows) > 25 and all(len(PLACE.findall(row)) == 1 for row in rows)
    homes = [PLACE.findall(row)[0][:2] for row in rows]
    assert len(set(homes)) == len(homes)
