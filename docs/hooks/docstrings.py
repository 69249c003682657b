# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
An extension of griffe that turns the docstrings of this package, written in the manner of diffusers, into what mkdocstrings shows.
It reads their source; it changes the pages, never the docstrings.

- ``[`Name`]`` becomes a link to the object of that name, or its name alone where the package has no such object, or several.
- ``argument (`type` of shape `(B, N)`, *optional*): ...`` becomes ``argument: `(B, N)`. ...``: the type stands in the signature.
- ``{prompt}`` on a line of its own becomes the text that `describe_arguments` puts there.
"""

import re

import griffe

from videoar_pipelines.pipelines import call_arguments
from videoar_pipelines.pipelines.infinitystar import pipeline_infinitystar


REFERENCE = re.compile(r"\[`~?(?P<name>[\w.]+)`\](?![\[(])")
ARGUMENT = re.compile(r"^(?P<start> +\*{0,2}\w+) \((?P<type>\[?`.*?)\):", re.M)
# The types of a section "Returns", "Yields" or "Raises", up to the colon.
RESULT = re.compile(r"^ {4}\[?`[^:\n]*(?=: )", re.M)
# By name, what stands in the docstrings of several pipelines.
SHARED_ARGUMENTS = call_arguments.ARGUMENTS | pipeline_infinitystar.ARGUMENTS


class DiffusersDocstrings(griffe.Extension):
    """Applied once to a whole package, before any docstring is parsed."""

    def on_package(self, *, pkg, loader, **kwargs):
        objects = list(walk(pkg))
        paths = {}
        for item in objects:
            if is_shown(item):
                for name in names_of(item.path):
                    paths.setdefault(name, set()).add(item.path)
        for item in objects:
            if item.docstring is not None:
                item.docstring.value = convert(item.docstring.value, item, paths)


def walk(parent):
    """All modules, classes, functions and attributes of a package."""
    yield parent
    for member in parent.members.values():
        if not member.is_alias:
            yield from walk(member)


def is_shown(item):
    """Whether the pages show an object: it is public, and has a docstring."""
    names = item.path.replace("__call__", "call").split(".")
    return item.docstring is not None and not item.is_init_module and not any(name.startswith("_") for name in names)


def names_of(path):
    """What an object is called in docstrings: the last one, two or three parts of its path."""
    parts = path.split(".")
    return {".".join(parts[-length:]) for length in (1, 2, 3)}


def shorten(match):
    """The beginning of an argument without its type, but with its shape, which no signature shows."""
    shape = re.search(r"of shape (`[^`]*`)", match["type"])
    return f"{match['start']}:" + (f" {shape[1]}." if shape else "")


def convert(text, item, paths):
    def link(match):
        found = paths.get(match["name"], set())
        if len(found) > 1:  # the one of the same class or file
            found = {path for path in found if path.rpartition(".")[0] in (item.path, item.path.rpartition(".")[0])}
        return f"[`{match['name']}`][{found.pop()}]" if len(found) == 1 else f"`{match['name']}`"

    text = call_arguments.fill_in(text, SHARED_ARGUMENTS)
    text = ARGUMENT.sub(shorten, text)
    text = RESULT.sub(lambda match: re.sub(r"[`~]|\[(?=`)|(?<=`)\]", "", match[0]), text)
    return REFERENCE.sub(link, text)
