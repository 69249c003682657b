# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Puts the pipelines into the tables of diffusers' `AutoPipelineFor...` classes. The tables hold classes, and importing them takes
seconds: so it happens when diffusers imports the tables, and not before.
"""

import importlib
import importlib.util
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


TABLES = "diffusers.pipelines.auto_pipeline"
# For every family the names of its pipelines by table.
FAMILIES = {
    "videoar": {
        "AUTO_TEXT2IMAGE_PIPELINES_MAPPING": "VideoARTextToImagePipeline",
        "AUTO_TEXT2VIDEO_PIPELINES_MAPPING": "VideoARPipeline",
        "AUTO_IMAGE2VIDEO_PIPELINES_MAPPING": "VideoARImageToVideoPipeline",
        "AUTO_VIDEO2VIDEO_PIPELINES_MAPPING": "VideoARVideoToVideoPipeline",
    },
    "infinitystar": {
        "AUTO_TEXT2VIDEO_PIPELINES_MAPPING": "InfinityStarPipeline",
        "AUTO_IMAGE2VIDEO_PIPELINES_MAPPING": "InfinityStarPipeline",
        "AUTO_VIDEO2VIDEO_PIPELINES_MAPPING": "InfinityStarPipeline",
    },
}


def fill_tables(tables: ModuleType) -> None:
    """Adds the pipelines to the tables in the module of diffusers."""
    package = importlib.import_module(__package__)
    for family, pipelines in FAMILIES.items():
        for table, name in pipelines.items():
            getattr(tables, table)[family] = getattr(package, name)


class _TablesFinder(MetaPathFinder):
    """Finds the module of the tables as Python does, and fills them once it has been executed."""

    def find_spec(self, fullname: str, path=None, target=None) -> ModuleSpec | None:
        if fullname != TABLES:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        execute = spec.loader.exec_module

        def execute_and_fill(module: ModuleType) -> None:
            execute(module)
            fill_tables(module)

        spec.loader.exec_module = execute_and_fill
        return spec


def register_auto_pipelines() -> None:
    """Fills the tables, now or when they are imported."""
    if TABLES in sys.modules:
        fill_tables(sys.modules[TABLES])
    else:
        sys.meta_path.insert(0, _TablesFinder())
