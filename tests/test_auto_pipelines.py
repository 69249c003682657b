# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""`AutoPipelineFor...` of diffusers finds the pipelines, in whatever order the two are imported."""

import subprocess
import sys

import pytest
from diffusers.pipelines import auto_pipeline

import videoar_pipelines
from tests.tiny_components import make_tiny_pipeline
from videoar_pipelines.auto_pipelines import FAMILIES


LOAD = """
import sys

{imports}

pipe = AutoPipelineForText2Image.from_pretrained(sys.argv[1])
assert type(pipe).__name__ == "VideoARTextToImagePipeline", type(pipe)
assert not any(type(finder).__name__ == "_TablesFinder" for finder in sys.meta_path)
"""
ORDERS = {
    "diffusers first": "from diffusers import AutoPipelineForText2Image\nimport videoar_pipelines",
    "diffusers last": "import videoar_pipelines\nfrom diffusers import AutoPipelineForText2Image",
}


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
def test_a_saved_pipeline_loads_as_text_to_image(tmp_path, order):
    make_tiny_pipeline().save_pretrained(tmp_path)
    program = LOAD.format(imports=ORDERS[order])
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, capture_output=True, text=True)


def test_the_tables_of_diffusers_hold_our_pipelines_and_theirs():
    # Private to diffusers in all but name: this test says so when they move.
    for family, pipelines in FAMILIES.items():
        for table, name in pipelines.items():
            assert getattr(auto_pipeline, table)[family] is getattr(videoar_pipelines, name)
            assert len(getattr(auto_pipeline, table)) > len(FAMILIES)


def test_a_pipeline_becomes_one_of_images_and_a_task_that_is_not_there_is_said(tmp_path):
    pipeline = make_tiny_pipeline()
    to_image = auto_pipeline.AutoPipelineForText2Image.from_pipe(pipeline)
    assert type(to_image) is videoar_pipelines.VideoARTextToImagePipeline
    assert to_image.transformer is pipeline.transformer
    with pytest.raises(ValueError, match="can't find a pipeline linked to VideoARPipeline for videoar"):
        auto_pipeline.AutoPipelineForImage2Image.from_pipe(pipeline)
