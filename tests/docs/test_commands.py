# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Every command of the site is run by a test, or docs/commands.yaml says why not. Python blocks that can be are run here as they stand."""

import re

import pytest

from tests.docs.site_pages import ROOT, hooks, page_uris


def blocks(language):
    for uri in page_uris():
        text = (ROOT / uri).read_text(encoding="utf-8")
        yield from ((uri, match["code"]) for match in hooks.FENCED.finditer(text) if match["language"] == language)


def test_every_shell_command_is_started_by_a_test_or_says_why_not():
    commands = [(uri, command) for uri, code in blocks("bash") for command in hooks.shell_commands(code)]
    assert len(commands) > 80
    unknown = [f"{uri}: {command[:100]}" for uri, command in commands if hooks.find_command(command) == (None, None)]
    assert not unknown, f"not in docs/commands.yaml: {unknown}"


@pytest.mark.parametrize("script, test", hooks.read_registry()["scripts"].items())
def test_the_test_of_a_script_names_it(script, test):
    name = script.removesuffix(".py")
    text = (ROOT / test).read_text(encoding="utf-8")
    assert re.search(rf"\b{re.escape(name)}\b|\b{name.upper()}\b|from {re.escape(name.rpartition('.')[0])}\b", text)


def test_every_python_block_is_run_or_says_why_not():
    for uri, code in blocks("python"):
        entry = hooks.find_python(uri, code)
        assert entry is not None, f"{uri}: not in docs/commands.yaml: {code[:200]}"
        assert entry.get("run") or (ROOT / entry["tests"]).is_file()
    for uri, entries in hooks.read_registry()["python"].items():
        assert all(entry["has"] in (ROOT / uri).read_text(encoding="utf-8") for entry in entries)


@pytest.mark.parametrize(
    "uri", [uri for uri, entries in hooks.read_registry()["python"].items() if entries[0].get("run")]
)
def test_python_blocks_run_as_they_stand(uri, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints").symlink_to(ROOT / "checkpoints")
    names = {}
    for page, code in blocks("python"):
        entry = hooks.find_python(page, code)
        if page == uri and entry.get("run"):
            exec(compile(code, f"{uri}: {entry['has']}", "exec"), names)
    config = names["pipe"].transformer.config
    ratio = names["pipe"].vae.spatial_compression_ratio
    assert names["video"].shape == (17, config.sample_height * ratio, config.sample_width * ratio, 3)
    assert list(tmp_path.glob("*.mp4"))
