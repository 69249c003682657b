# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
import configparser
import json
import subprocess
import sys
from pathlib import Path

import diffusers
import pytest
from diffusers.pipelines.pipeline_loading_utils import LOADABLE_CLASSES

import videoar_pipelines


ROOT = Path(__file__).resolve().parents[1]
PUBLIC_CLASSES = [
    "AutoencoderInfinityStar",
    "AutoencoderVideoAR",
    "InfinityStarPipeline",
    "InfinityStarScheduler",
    "InfinityStarStream",
    "InfinityStarTransformer3DModel",
    "VideoARBlocks",
    "VideoARImageToVideoPipeline",
    "VideoARPipeline",
    "VideoARPipelineOutput",
    "VideoARScheduler",
    "VideoARStream",
    "VideoARTextToImagePipeline",
    "FrameSampler",
    "PromptStates",
    "SamplingOptions",
    "SamplingStep",
    "VideoARTransformer3DModel",
    "VideoARVideoToVideoPipeline",
]


def list_modules_after(statement):
    """Names of the modules a fresh interpreter has loaded after `statement`."""
    program = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(finished.stdout))


def test_the_package_is_registered_with_diffusers():
    # A private table of diffusers: this test says so when it moves, tests/test_hub_loading.py what it is for.
    load_and_save = ["save_pretrained", "from_pretrained"]
    assert LOADABLE_CLASSES["videoar_pipelines"] == {"ModelMixin": load_and_save, "SchedulerMixin": load_and_save}
    assert LOADABLE_CLASSES["videoar_pipelines"].items() <= LOADABLE_CLASSES["diffusers"].items()


def test_the_base_classes_diffusers_looks_for_are_in_the_root():
    assert videoar_pipelines.ModelMixin is diffusers.ModelMixin
    assert videoar_pipelines.SchedulerMixin is diffusers.SchedulerMixin


def test_every_public_class_is_listed():
    assert sorted(videoar_pipelines.__all__) == sorted([*PUBLIC_CLASSES, "ModelMixin", "SchedulerMixin"])
    assert set(PUBLIC_CLASSES) <= set(dir(videoar_pipelines))


@pytest.mark.parametrize("name", PUBLIC_CLASSES)
def test_public_classes_resolve_to_the_class_of_that_name(name):
    public_class = getattr(videoar_pipelines, name)
    assert public_class.__name__ == name and public_class.__module__.startswith("videoar_pipelines.")
    assert getattr(videoar_pipelines, name) is public_class


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'videoar_pipelines' has no attribute 'VideoARUnknown'"):
        videoar_pipelines.VideoARUnknown


def test_importing_the_package_loads_none_of_its_classes():
    modules = list_modules_after("import videoar_pipelines")
    own = {module for module in modules if module.startswith("videoar_pipelines.")}
    assert own == {"videoar_pipelines.auto_pipelines"}  # which knows only their names
    # The costly parts that only pipelines need.
    assert modules.isdisjoint({"diffusers.pipelines.pipeline_utils", "transformers.models.t5.modeling_t5"})


def test_importing_every_public_class_needs_no_optional_dependency():
    modules = list_modules_after(f"from videoar_pipelines import {', '.join(PUBLIC_CLASSES)}")
    # Not peft and sentencepiece: diffusers itself imports them where they are installed.
    optional = {"av", "imageio", "tensorboard", "torchmetrics", "torchvision"}
    assert modules.isdisjoint(optional)
    assert not any(
        module.startswith(("videoar_pipelines.training", "videoar_pipelines.evaluation")) for module in modules
    )


@pytest.mark.parametrize("folder", ["text_to_video", "video_tokenizer"])
def test_the_requirements_of_an_example_are_those_of_the_package(folder):
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = [config["options"]["install_requires"], *config["options.extras_require"].values()]
    known = {line.strip() for text in lines for line in text.splitlines()}
    required = (ROOT / "examples" / folder / "requirements.txt").read_text().split()
    assert required and set(required) <= known
