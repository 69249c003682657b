# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""The site builds strictly, without a network and from source alone, and its pages ask no other host for anything."""

import re
import socket

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config

import videoar_pipelines
from tests.docs.site_pages import ROOT, page_uris


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")

    def refuse(*arguments):
        pytest.fail(f"the build asks for {arguments}")

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(socket, "getaddrinfo", refuse)
        monkeypatch.setattr(socket.socket, "connect", refuse)
        monkeypatch.chdir(ROOT)
        build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True))  # a warning is an error
    return folder


def test_every_page_is_there_and_asks_no_other_host(site):
    pages = {path.relative_to(site): path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    assert len(pages) > len(page_uris())
    for name, text in pages.items():
        loaded = re.findall(r'<(?:script|img|iframe|source)[^>]+src="([^"]*)"|<link[^>]+href="([^"]*)"', text)
        for address in map("".join, loaded):
            assert not re.match(r"(https?:)?//", address), f"{name} loads {address}"


def test_the_api_has_every_public_class_and_the_arguments_of_a_call(site):
    text = (site / "docs" / "api" / "pipelines" / "index.html").read_text(encoding="utf-8")
    index = (site / "docs" / "api" / "index.html").read_text(encoding="utf-8")
    for name in set(videoar_pipelines.__all__) - {"ModelMixin", "SchedulerMixin"}:
        assert re.search(rf'href="[^"]*#videoar_pipelines\.[\w.]*\.{name}"', index), name
    call = text.partition('id="videoar_pipelines.pipelines.pipeline_videoar.VideoARPipeline.__call__"')[2]
    assert "guidance schedule. Guidance is off at 1 or below" in call  # filled in by `describe_arguments`


def test_a_page_says_what_runs_its_commands_and_shows_linked_sources(site):
    text = (site / "examples" / "inference" / "index.html").read_text(encoding="utf-8")
    assert "Started by <code>tests/examples/test_inference.py</code>" in text
    assert (site / "examples" / "inference" / "unrolled_loop.py" / "index.html").is_file()
