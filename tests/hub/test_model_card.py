# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""The model card that a saved pipeline carries: it is true of the model, its code runs, and it replaces nothing that somebody wrote."""

import re
import sys

import numpy as np
import pytest
from diffusers.utils import dynamic_modules_utils
from huggingface_hub import ModelCard, ModelCardData
from PIL import Image

from tests.infinitystar_runs import make_run_pipeline
from tests.tiny_components import make_tiny_pipeline
from videoar_pipelines import (
    VideoARImageToVideoPipeline,
    VideoARPipeline,
    VideoARTextToImagePipeline,
    VideoARVideoToVideoPipeline,
)
from videoar_pipelines.utils import load_video, save_video


PIPELINES = [VideoARPipeline, VideoARImageToVideoPipeline, VideoARVideoToVideoPipeline, VideoARTextToImagePipeline]


@pytest.fixture(scope="module")
def pipe():
    return make_tiny_pipeline()


@pytest.fixture
def own_modules(tmp_path, monkeypatch):
    """Code of repositories goes to a folder of this test."""
    monkeypatch.setattr(dynamic_modules_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    modules = set(sys.modules)
    yield
    for name in {*sys.modules} - modules:
        if name.startswith("diffusers_modules"):
            del sys.modules[name]


@pytest.mark.parametrize("pipeline_class", PIPELINES, ids=lambda item: item.__name__)
def test_the_code_of_a_card_runs(pipe, pipeline_class, tmp_path, monkeypatch, own_modules):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    pipeline_class.from_pipe(pipe).save_pretrained("saved")
    frames = np.random.default_rng(0).random((17, 64, 64, 3), dtype=np.float32)
    save_video(frames, "beginning.mp4", fps=8)
    if pipeline_class is VideoARImageToVideoPipeline:
        Image.fromarray((frames[0] * 255).astype(np.uint8)).save("image.png")

    blocks = re.findall(r"```python\n(.*?)```", (tmp_path / "saved/README.md").read_text(), flags=re.DOTALL)
    assert len(blocks) == 3
    names = {}
    for block in blocks:
        exec(block, names)
        assert type(names["pipe"]).__name__ in (pipeline_class.__name__, "ModularPipeline")
    if pipeline_class is VideoARTextToImagePipeline:
        assert Image.open("image.png").mode == "RGB" and not (tmp_path / "video.mp4").exists()
        return
    assert load_video("video.mp4")[0].shape[1] == (25 if pipeline_class is VideoARVideoToVideoPipeline else 9)


@pytest.mark.parametrize("make_pipeline", [make_tiny_pipeline, make_run_pipeline])
def test_a_card_is_valid_and_its_links_lead_somewhere(make_pipeline):
    pipeline = make_pipeline()
    text = pipeline.model_card("user/model")
    card = ModelCard(text)
    assert card.data.library_name == "diffusers" and card.data.pipeline_tag == "text-to-video"
    assert "videoar_pipelines" in card.data.tags
    links = re.findall(r"\]\((.*?)\)", text)
    assert links and all(link.startswith("https://") for link in links)
    assert text.count('from_pretrained("user/model"') == (4 if pipeline.blocks_class_name else 3)
    assert "{" not in text and "# model\n" in text
    for name, component in pipeline.components.items():
        assert f"| {name} | " in text
        if component is None:
            assert f"| {name} | none" in text


def test_a_card_says_what_the_pipeline_makes_and_of_how_many_parameters(pipe):
    card = pipe.model_card("user/model")
    assert "By default it makes 9 frames of 64x64 (height x width)." in card
    count = sum(parameter.numel() for parameter in pipe.transformer.parameters())
    assert f"| transformer | `VideoARTransformer3DModel` | {count:,} |" in card


def test_a_card_that_somebody_wrote_stays_and_a_written_one_is_brought_up_to_date(pipe, tmp_path):
    card = tmp_path / "README.md"
    card.write_text(pipe.model_card("user/old"))
    pipe.save_pretrained(tmp_path)
    assert card.read_text() == pipe.model_card(tmp_path.name)
    card.write_text("My own words.")
    pipe.save_pretrained(tmp_path)
    assert card.read_text() == "My own words."


def test_the_card_of_diffusers_is_replaced_and_what_somebody_added_to_it_is_not(pipe, tmp_path):
    filler = "This is the model card of a diffusers pipeline. This model card has been automatically generated."
    card = tmp_path / "README.md"
    written = ModelCard.from_template(ModelCardData(), model_description=filler)
    written.data.license = "mit"
    written.save(card)
    with_a_section = card.read_text() + "\n## Training data\n\nMine.\n"
    pipe.save_pretrained(tmp_path)
    assert card.read_text() == pipe.model_card(tmp_path.name)
    card.write_text(with_a_section)
    pipe.save_pretrained(tmp_path)
    assert card.read_text() == with_a_section


def test_the_card_of_a_component_alone_loads_it(pipe):
    card = pipe.vae.model_card("user/vae")
    assert 'AutoencoderVideoAR.from_pretrained("user/vae")' in card and "AutoModel" in card
    assert "AutoModel" not in pipe.scheduler.model_card("user/scheduler")
