# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Modular blocks: the same videos as the pipeline's, and what one takes blocks for. That the road is the same for every mode is in
test_every_road.py; that they load by `ModularPipeline.from_pretrained`, in tests/test_hub_loading.py.
"""

import json

import pytest
import torch
from diffusers.modular_pipelines import InputParam, ModularPipelineBlocks

from tests.tiny_components import make_tiny_pipeline
from videoar_pipelines import VideoARBlocks, VideoARImageToVideoPipeline
from videoar_pipelines.pipelines.modular_blocks import STREAM_ARGUMENTS, TEXT_STATES, describe


PROMPT = "a red circle moves to the right"
IMAGE = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def pipe():
    return make_tiny_pipeline()


def make_blocks(pipe, blocks=None):
    modular = (blocks or VideoARBlocks()).init_pipeline()
    modular.update_components(**pipe.components)
    modular.set_progress_bar_config(disable=True)
    return modular


def seeds(*values):
    return [torch.Generator().manual_seed(value) for value in values]


MODES = {
    "batch and guidance": {"prompt": [PROMPT, "a"], "guidance_scale": 4.0, "negative_prompt": "a blue square"},
    "long": {"prompt": PROMPT, "num_videos_per_prompt": 2, "num_frames": 29},
    "re-encoded": {"guidance_scale": 1.0, "refinements": [2, 1], "reencode_at": 3, "num_frames": 21},
    "continued": {"prompt": [PROMPT, "a"], "video": IMAGE.expand(5, 3, 64, 64), "num_frames": 13, "window": 2},
    "default": {"prompt": PROMPT, "output_type": "np"},
}


@pytest.mark.parametrize("mode", sorted(MODES))
def test_blocks_give_the_pixels_of_a_call(pipe, mode):
    arguments = {"prompt": PROMPT, "output_type": "pt"} | MODES[mode]
    num_videos = 2 if mode in ("batch and guidance", "long", "continued") else 1
    expected = pipe(**arguments, generator=seeds(*range(num_videos))).frames
    result = make_blocks(pipe)(**arguments, generator=seeds(*range(num_videos)), output="videos")
    assert torch.equal(torch.as_tensor(result), torch.as_tensor(expected))


def test_an_image_is_the_first_frame(pipe):
    arguments = {"image": IMAGE, "prompt": PROMPT, "output_type": "pt"}
    expected = VideoARImageToVideoPipeline.from_pipe(pipe)(**arguments, generator=seeds(0)).frames
    assert torch.equal(make_blocks(pipe)(**arguments, generator=seeds(0), output="videos"), expected)


def test_the_size_of_a_chunk_decides_only_when_frames_are_decoded(pipe):
    modular, lengths = make_blocks(pipe), []
    hook = pipe.vae.decoder.register_forward_hook(lambda module, inputs, output: lengths.append(inputs[0].shape[2]))
    arguments = {"prompt": PROMPT, "num_frames": 25, "output_type": "pt", "output": "videos"}
    whole = modular(**arguments, generator=seeds(0))
    by_two = modular(**arguments, generator=seeds(0), frames_per_chunk=2)
    hook.remove()
    assert lengths == [5, 2, 2, 2, 2, 1]
    # Convolutions over other numbers of frames may round differently.
    torch.testing.assert_close(by_two, whole, atol=1e-5, rtol=0)


class InvertStep(ModularPipelineBlocks):
    """Turns all bits of a chunk around."""

    model_name = "videoar"

    @property
    def inputs(self):
        return [InputParam("latent_frames", required=True)]

    def __call__(self, components, block_state):
        block_state.latent_frames = [-frame for frame in block_state.latent_frames]
        return components, block_state


def test_a_block_of_the_users_sees_latent_frames_before_they_are_decoded(pipe):
    blocks = VideoARBlocks()
    blocks.sub_blocks["sample_and_decode"].sub_blocks.insert("invert", InvertStep(), 1)
    arguments = {"prompt": PROMPT, "output_type": "latent", "output": "videos"}
    inverted = make_blocks(pipe, blocks)(**arguments, generator=seeds(0))
    assert torch.equal(inverted, -make_blocks(pipe)(**arguments, generator=seeds(0)))


def test_text_states_come_in_where_the_text_block_is_taken_out(pipe):
    blocks = VideoARBlocks()
    blocks.sub_blocks.pop("text_encoder")
    states = dict(zip(TEXT_STATES, pipe.encode_prompt(PROMPT, "a blue square")))
    expected = pipe(PROMPT, "a blue square", generator=seeds(0), output_type="pt").frames
    modular = make_blocks(pipe, blocks)
    assert "text_encoder" not in modular.components
    assert torch.equal(modular(**states, generator=seeds(0), output_type="pt", output="videos"), expected)


def test_the_state_after_a_call_goes_into_the_next_and_holds_no_models(pipe):
    modular = make_blocks(pipe)
    state = modular(prompt=PROMPT, generator=seeds(0), output_type="pt")
    assert state.get("stream") is None and state.get("video_chunks") is None
    again = modular(state=state, generator=seeds(0), output="videos")
    assert torch.equal(again, state.get("videos"))


def test_the_configuration_that_a_pipeline_saves_is_that_of_the_blocks(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "pipeline")
    VideoARBlocks().save_pretrained(tmp_path / "blocks")
    saved, expected = (
        json.loads((tmp_path / name / "modular_config.json").read_text()) for name in ("pipeline", "blocks")
    )
    assert saved == expected and list(saved["requirements"]) == ["videoar_pipelines"]


def test_every_input_is_described():
    names = [item.name for item in VideoARBlocks().inputs]
    assert {*STREAM_ARGUMENTS, "prompt", "image", "video"} <= {*names}
    assert all(item.description for item in VideoARBlocks().inputs)
    assert describe("top_p") == "Instead of the scheduler's."


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Required input 'prompt' is missing"),
        ({"prompt": PROMPT, "height": 60}, "`height` has to be a multiple of 16"),
        ({"prompt": PROMPT, "num_frames": 12}, "`num_frames` has to be 4 \\* n \\+ 1, got 12"),
        ({"prompt": PROMPT, "frames_per_chunk": 0}, "`frames_per_chunk`"),
        ({"prompt": PROMPT, "image": IMAGE, "video": IMAGE[None]}, "`image` and `video` were both passed"),
        ({"prompt": PROMPT, "image": "circle.png"}, "`image` cannot be read as images"),
    ],
)
def test_wrong_inputs_are_refused(pipe, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_blocks(pipe)(**arguments)


def test_components_that_are_not_loaded_are_named():
    with pytest.raises(
        ValueError, match=r"\['tokenizer', 'text_encoder'\] are not loaded: call `load_components\(\)`"
    ):
        VideoARBlocks().init_pipeline()(prompt=PROMPT)
