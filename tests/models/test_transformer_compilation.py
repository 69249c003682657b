# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""How often blocks are compiled. Tracing alone is enough to see it, so nothing here needs a C++ compiler."""

import random

import pytest
import torch

from tests.tiny_components import make_tiny_pipeline, make_tiny_transformer
from videoar_pipelines import AutoencoderInfinityStar, AutoencoderVideoAR
from videoar_pipelines.models.token_layout import sequence_layout
from videoar_pipelines.training.attention_masks import training_attention_mask


CALLS = [
    {},
    {"prompt": "a blue square moves to the right"},
    {"prompt": ["a red circle"] * 3},
    {"prompt": ""},  # a text of one token
    {"prompt": ["a red circle moves", "a"]},  # padded
    {"negative_prompt": "a blue square moves to the right"},  # padded
    {"window": 1, "num_frames": 9},
    {"height": 96},
    {"height": 16, "width": 16},  # maps of one token only
    {"refinements": [2]},
    {"refinements": [1, 3], "prompt": ["a", "a blue square moves"]},
    {"guidance_scale": 1.0},
    {"guidance_scale": 1.0, "prompt": ""},
    {"guidance_scale": 1.0, "refinements": [2, 1]},
    {"guidance_scale": 1.0, "prompt": ["a", "a blue square"], "refinements": [3]},
    {"guidance_scale": 1.0, "prompt": ["a red circle"] * 4},
]


@pytest.fixture
def traces():
    """What has been traced, and nothing at first."""
    torch._dynamo.reset()
    yield []
    torch._dynamo.reset()


def make_compiled_pipeline(num_heads, traces):
    def trace(graph_module, example_inputs):
        traces.append(graph_module)
        return graph_module.forward

    pipeline = make_tiny_pipeline()
    pipeline.transformer = make_tiny_transformer(num_attention_heads=num_heads)
    pipeline.transformer.compile_repeated_blocks(fullgraph=True, dynamic=True, backend=trace)
    return pipeline


def generate(pipeline, prompt="a red circle", **arguments):
    sizes = {"num_frames": 5, "height": 64, "width": 64, "output_type": "latent"}
    return pipeline(prompt, generator=torch.Generator().manual_seed(0), **(sizes | arguments)).frames


# Some of these numbers of heads are also batch sizes, numbers of tokens or widths of a head.
@pytest.mark.parametrize("num_heads", [4, 11, *(pytest.param(heads, marks=pytest.mark.slow) for heads in (8, 12, 16))])
def test_any_sequence_of_calls_compiles_at_most_four_graphs_and_gives_the_same_videos(num_heads, traces):
    pipeline, eager = make_compiled_pipeline(num_heads, traces), make_tiny_pipeline()
    eager.transformer = make_tiny_transformer(num_attention_heads=num_heads)
    eager.transformer.load_state_dict(pipeline.transformer.state_dict())
    generate(pipeline)
    assert len(traces) == 1  # text and all maps
    calls = CALLS.copy()
    random.Random(num_heads).shuffle(calls)
    for arguments in calls:
        torch.testing.assert_close(generate(pipeline, **arguments), generate(eager, **arguments))
    assert len(traces) <= 4  # one sequence or several, with or without a mask; PyTorch 2.9 needs two for all


def test_training_frame_by_frame_compiles_a_graph_for_every_size_and_none_again(traces):
    def trace(graph_module, example_inputs):
        traces.append(graph_module)
        return graph_module.forward

    transformer = make_tiny_transformer()
    transformer.compile_repeated_blocks(fullgraph=True, dynamic=False, backend=trace)
    sizes = [(num_frames, num_text_tokens) for num_frames in (1, 2, 3) for num_text_tokens in (4, 8, 12, 16)]
    for num_frames, num_text_tokens in sizes * 2:
        text_mask = torch.ones(2, num_text_tokens, dtype=torch.bool)
        layout = sequence_layout(((1, 1), (2, 2)), num_frames, num_text_tokens, torch.device("cpu"))
        inputs, text = torch.randn(2, len(layout.video_ids), 8), torch.randn(2, num_text_tokens, 16)
        mask = training_attention_mask(layout, text_mask, "per_frame")
        with torch.autocast("cpu", torch.bfloat16):
            transformer(inputs, layout.video_ids, text, text_mask, attention_mask=mask).sample.sum().backward()
    assert len(traces) == len(sizes)  # all blocks share them


def test_streams_with_given_frames_and_new_prompts_compile_no_further_graphs(traces):
    pipeline = make_compiled_pipeline(4, traces)
    video = torch.rand(5, 3, 64, 64)
    with pipeline.stream("a red circle", video=video, window=2, height=64, width=64) as stream:
        for index, _ in zip(range(6), stream):
            stream.set_prompt("a blue square moves" if index % 2 else "a")
    assert len(traces) <= 2


def test_residual_blocks_of_a_tokenizer_are_not_compiled_one_by_one():
    # Each would be a graph of its own: another place in the state, another width. Norms have no place in the state.
    assert AutoencoderVideoAR._repeated_blocks == ["VideoARGroupNormSiLU", "VideoARRMSNormSiLU", "VideoARBiasSum"]
    assert not AutoencoderInfinityStar._repeated_blocks
