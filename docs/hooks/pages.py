# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Hooks of mkdocs that make the site out of the Markdown files of the repository, where they lie. No text is copied: a page has the
path that its file has in the repository, so relative links work in both.

- `on_files` collects the pages of the navigation, the files that they link to, and one API page for every room of the package.
- `on_page_markdown` points links to folders and to source files at their pages, and says below every command what runs it
  (`docs/commands.yaml`).

What a page says is no matter of this file; how docstrings become Markdown is that of `docstrings.py`.
"""

import ast
import functools
import json
import os
import posixpath
import re
from pathlib import Path

import yaml
from mkdocs.structure.files import File, Files


ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "videoar_pipelines"
LANGUAGES = {".cff": "yaml", ".json": "json", ".jsonl": "json", ".py": "python", ".slurm": "bash", ".yaml": "yaml"}
SHOWN_AS_THEY_ARE = (".gif", ".mp4", ".png", ".svg")
FENCED = re.compile(
    r"^(?P<indent> *)(?P<fence>```+)(?P<language>\w*)[^\n]*\n(?P<code>.*?)^ *(?P=fence) *$", re.M | re.S
)
CODE = re.compile(r"`[^`]*`")
# How docs/paper.md names a place in the package.
PLACE = re.compile(r"`(?P<module>[\w.]+)::(?P<name>[\w.]+)`")
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)(?=[)#\s])")


# 1. The pages


def on_files(files, config):
    """In place of the files of `docs_dir`: the pages of the navigation and all that they link to."""
    found = {file.src_uri: file for file in files if file.src_dir != config.docs_dir}
    waiting = [*nav_pages(config.nav), *filter(exists, config.extra_css)]
    while waiting:
        uri = waiting.pop()
        if uri in found:
            continue
        found[uri] = make_file(uri, config)
        if uri.endswith(".md"):
            waiting += [page_of(target) for target in links_of(uri, found[uri].content_string) if exists(target)]
    return Files(found.values())


def nav_pages(nav):
    """All paths of a navigation."""
    for item in nav:
        value = next(iter(item.values())) if isinstance(item, dict) else item
        yield from nav_pages(value) if isinstance(value, list) else [value]


def make_file(uri, config):
    """The file of a page or picture: from the disk, or made from what lies there."""
    source = ROOT / uri.removesuffix(".md")
    if uri.startswith("docs/api/"):
        return File.generated(config, uri, content=api_page(Path(uri).stem))
    if uri.endswith(".ipynb.md"):
        return File.generated(config, uri, content=notebook_page(source))
    if uri.endswith("/folder.md"):
        return File.generated(config, uri, content=folder_page(source.parent))
    if uri.endswith(".md") and source.is_file():
        return File.generated(config, uri, content=source_page(source))
    return File(uri, str(ROOT), config.site_dir, config.use_directory_urls)


def exists(target):
    """Whether a link leads to anything in the repository. Those that do not stay as they are, and mkdocs names them."""
    return (ROOT / target).exists()


def page_of(target):
    """The page that shows a file or folder of the repository."""
    if target.endswith((".md", *SHOWN_AS_THEY_ARE)):
        return target
    if not (ROOT / target).is_dir():
        return f"{target}.md"
    return f"{target}/README.md" if (ROOT / target / "README.md").is_file() else f"{target}/folder.md"


def links_of(uri, text):
    """Paths in the repository that a page links to."""
    return [resolve(uri, match[1]) for match in LINK.finditer(FENCED.sub("", text))]


def resolve(uri, link):
    return posixpath.normpath(posixpath.join(posixpath.dirname(uri), link))


# 2. Pages that are made


def source_page(source):
    """A source file, to be read."""
    language = LANGUAGES.get(source.suffix, "text")
    path = source.relative_to(ROOT).as_posix()
    text = source.read_text(encoding="utf-8").rstrip()
    return f"---\nsearch:\n  exclude: true\n---\n# `{path}`\n\n`````{language}\n{text}\n`````\n"


def folder_page(folder):
    """What lies in a folder without a README."""
    names = sorted(path.name for path in folder.iterdir() if path.suffix in LANGUAGES and path.name != "__init__.py")
    path = folder.relative_to(ROOT).as_posix()
    return f"# `{path}`\n\n" + "".join(f"- [`{name}`]({name})\n" for name in names)


def notebook_page(source):
    """A notebook's text and code; it is kept without outputs."""
    cells = json.loads(source.read_text(encoding="utf-8"))["cells"]
    texts = ["".join(cell["source"]) for cell in cells]
    return "\n\n".join(
        f"```python\n{text}\n```" if cell["cell_type"] == "code" else text for cell, text in zip(cells, texts)
    )


def api_page(room):
    """All modules of a room with their docstrings; of `index`, what the package exports."""
    if room == "index":
        return api_index()
    modules = [path for path in sorted((PACKAGE / room).rglob("*.py")) if path.name != "__init__.py"]
    names = [".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in modules]
    names.sort(
        key=lambda name: name not in public_classes().values()
    )  # those first; sorting keeps the order of the rest
    about = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8"))) or ""
    texts = [
        f"## `{name}`\n\n::: videoar_pipelines.{name}\n"
        "    options:\n      show_root_heading: false\n      show_root_toc_entry: false\n"
        for name in names
    ]
    return f"# `{room}`\n\n{about}\n\n" + "\n".join(texts)


def api_index():
    """What the package exports, and where the rest is."""
    classes = "\n".join(
        f"- [`{name}`][videoar_pipelines.{module}.{name}]" for name, module in public_classes().items()
    )
    rooms = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
    links = "\n".join(f"- [`videoar_pipelines.{room}`]({room}.md)" for room in rooms)
    return (
        "# API\n\nThese are imported from the package itself, such as `from videoar_pipelines import VideoARPipeline`:"
        f"\n\n{classes}\n\nThe modules, by room:\n\n{links}\n"
    )


@functools.cache
def public_classes():
    """The table of the package, name to module."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    tables = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("_SAVED_CLASSES", "_PUBLIC_CLASSES")
    ]
    literals = [ast.literal_eval(node) for table in tables for node in ast.walk(table) if isinstance(node, ast.Dict)]
    return {name: module for literal in literals for name, module in literal.items()}


# 3. The text of a page


def on_page_markdown(markdown, page, config, files):
    uri = page.file.src_uri
    parts, end = [], 0
    for block in FENCED.finditer(markdown):
        parts += [point_links(uri, markdown[end : block.start()]), block[0]]
        sentence = describe(uri.removesuffix(".md") if uri.endswith(".ipynb.md") else uri, block)
        if sentence:
            parts.append(f"\n\n{block['indent']}<small>{sentence}</small>\n")
        end = block.end()
    return "".join([*parts, point_links(uri, markdown[end:])])


def point_links(uri, text):
    """Links to folders and source files become links to their pages, and places in the package links to the API."""

    def point(match):
        target = resolve(uri, match[1])
        return os.path.relpath(page_of(target), posixpath.dirname(uri) or ".") if exists(target) else match[1]

    text = LINK.sub(point, text)
    text = PLACE.sub(r'<autoref optional identifier="videoar_pipelines.\g<module>.\g<name>">\g<0></autoref>', text)
    # In a table GitHub takes the backslash from a bar in code; Python-Markdown keeps it, and needs none.
    return re.sub(
        r"^\|.*`.*$", lambda row: CODE.sub(lambda code: code[0].replace("\\|", "|"), row[0]), text, flags=re.M
    )


# 4. What runs a command


@functools.cache
def read_registry():
    """`docs/commands.yaml`."""
    return yaml.safe_load((ROOT / "docs" / "commands.yaml").read_text(encoding="utf-8"))


def shell_commands(code):
    """The commands of a shell block, each on one line and without its comment."""
    lines = (line.strip() for line in code.replace("\\\n", " ").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def find_command(command):
    """The test that starts a command and `None`, or `None` and the reason why none does; twice `None` for an unknown command."""
    registry = read_registry()
    for word in command.split():
        if word.rpartition("/")[2] in registry["scripts"]:
            return registry["scripts"][word.rpartition("/")[2]], None
    others = [beginning for beginning in registry["others"] if command.startswith(beginning)]
    return None, registry["others"][max(others, key=len)] if others else None


def find_python(uri, code):
    """The entry of a Python block, or `None`."""
    entries = read_registry()["python"].get(uri, [])
    return next((entry for entry in entries if entry["has"] in code), None)


def describe(uri, block):
    """What runs the commands of a block, as a sentence; nothing for text and source files."""
    if block["language"] == "bash":
        found = [find_command(command) for command in shell_commands(block["code"])]
        tests = sorted({test for test, _ in found if test})
        if tests:
            return f"Started by {', '.join(f'`{test}`' for test in tests)}."
        reasons = [reason for _, reason in found if reason]
        return f"Not run by a test: this {reasons[0]}." if reasons else None
    entry = find_python(uri, block["code"]) if block["language"] == "python" else None
    if entry is None:
        return None
    if entry.get("run"):
        return "Run as it stands by `tests/docs/test_commands.py`."
    reason = f"; not as it stands, since {entry['why_not']}" if "why_not" in entry else ""
    return f"Run by `{entry['tests']}`{reason}."
