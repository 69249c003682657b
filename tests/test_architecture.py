# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""The rule of the house: which room may import which, how long a file is, how many hands a function has, and what every file begins with."""

import ast
from pathlib import Path

import pytest


PACKAGE = Path(__file__).resolve().parents[1] / "src" / "videoar_pipelines"
FILES = sorted(PACKAGE.rglob("*.py"))
HEADER = "# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors\n# SPDX-License-Identifier: Apache-2.0\n"

# Arrows point downward only.
MAY_IMPORT = {
    "utils": set(),
    "hub": {"utils"},
    "models": {"hub"},
    "moving_shapes": set(),
    "schedulers": {"hub", "models"},
    "data": {"models", "schedulers", "moving_shapes", "utils"},
    "pipelines": {"hub", "models", "schedulers", "utils"},
    "evaluation": {"models", "schedulers", "moving_shapes", "data", "pipelines", "utils"},
    "training": {"models", "schedulers", "moving_shapes", "data", "pipelines", "evaluation", "utils"},
}
# A diffusers user expects one argument for each thing here; elsewhere more than twelve are a missing noun.
PUBLIC_CALLS = {"__call__", "stream"}


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imported_modules(path: Path) -> set[tuple[str, ...]]:
    """Modules of the package that a file imports, as parts of their path."""
    own = path.relative_to(PACKAGE).parent.parts
    modules = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom) and node.level > 0:
            base = own[: len(own) - node.level + 1]
            parts = tuple((node.module or "").split(".")) if node.module else ()
            if parts:
                modules.add((*base, *parts))
            else:
                modules.update((*base, alias.name) for alias in node.names)
    return modules


def test_rooms_import_downward_only():
    for path in FILES:
        own = path.relative_to(PACKAGE).parts
        if len(own) == 1:
            continue
        others = {parts[0] for parts in imported_modules(path)} & MAY_IMPORT.keys() - {own[0]}
        assert others <= MAY_IMPORT[own[0]], f"{'/'.join(own)} imports {sorted(others - MAY_IMPORT[own[0]])}"


def test_no_files_import_each_other_in_a_circle():
    modules = {path.relative_to(PACKAGE).with_suffix("").parts: path for path in FILES if path.name != "__init__.py"}
    arrows = {name: imported_modules(path) & modules.keys() for name, path in modules.items()}
    while leaves := {name for name, targets in arrows.items() if not targets & arrows.keys()}:
        for name in leaves:
            del arrows[name]
    assert not arrows, f"in or before a circle: {sorted('/'.join(name) for name in arrows)}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_says_what_it_is_and_is_not_too_long(path):
    text = path.read_text()
    assert text.startswith(HEADER)
    assert ast.get_docstring(ast.parse(text)), "no module docstring"
    assert len(text.splitlines()) <= 800


def test_no_function_has_more_than_twelve_parameters():
    for path in FILES:
        for node in ast.walk(tree_of(path)):
            if not isinstance(node, ast.FunctionDef) or node.name in PUBLIC_CALLS | {"__init__"}:
                continue
            arguments = node.args
            names = [item.arg for item in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
            names = [name for name in names if name not in ("self", "cls")]
            assert len(names) <= 12, f"{path.relative_to(PACKAGE)}: {node.name} has {len(names)} parameters"
