# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""The pages of the site and the hooks that make them, for tests. Builds nothing."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import yaml


ROOT = Path(__file__).resolve().parents[2]
hooks = SimpleNamespace(**runpy.run_path(str(ROOT / "docs" / "hooks" / "pages.py")))


class _Loader(yaml.SafeLoader):
    """Reads mkdocs.yml without calling what its tags name."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: None)


def page_uris() -> list[str]:
    """The Markdown files of the navigation that lie in the repository."""
    nav = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), _Loader)["nav"]
    return [uri for uri in hooks.nav_pages(nav) if (ROOT / uri).is_file()]
