# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""How often the blocks are compiled. Tracing alone is enough to see it, so nothing here needs a C++ compiler."""

import pytest
import torch

from tests.tiny_components import make_tiny_pipeline, make_tiny_transformer


@pytest.fixture
def compiled_pipeline():
    """A pipeline whose blocks are traced, and the list of their traces."""
    traces = []

    def count(graph_module, example_inputs):
        traces.append(graph_module)
        return graph_module.forward

    torch._dynamo.reset()
    pipeline = make_tiny_pipeline()
    # Sizes that differ, as in real models: of equal ones (two heads, two branches) dynamo assumes that they always are.
    pipeline.transformer = make_tiny_transformer(num_attention_heads=11)
    pipeline.transformer.compile_repeated_blocks(fullgraph=True, dynamic=True, backend=count)
    yield pipeline, traces
    torch._dynamo.reset()


def generate(pipeline, prompt, **arguments):
    sizes = {"num_frames": 5, "height": 64, "width": 64, "output_type": "latent"}
    return pipeline(prompt, generator=torch.Generator().manual_seed(0), **(sizes | arguments)).frames


def test_two_compilations_serve_every_size_and_length(compiled_pipeline):
    pipeline, traces = compiled_pipeline
    generate(pipeline, "a red circle")
    assert len(traces) == 2  # one token, and more
    generate(pipeline, "a blue square moves to the right")
    generate(pipeline, ["a red circle"] * 3)
    generate(pipeline, "a red circle", window=1)
    generate(pipeline, "a red circle", num_frames=9)
    generate(pipeline, "a red circle", height=96)
    assert len(traces) == 2


@pytest.mark.slow
def test_padded_text_needs_no_more_than_dynamo_allows(compiled_pipeline):
    pipeline, traces = compiled_pipeline
    generate(pipeline, "a red circle")
    generate(pipeline, ["a red circle moves", "a"])
    number = len(traces)
    assert number <= 6 < torch._dynamo.config.recompile_limit
    generate(pipeline, ["a", "a blue square moves to the right", "a red circle"])
    assert len(traces) == number


def test_traced_blocks_give_the_same_video(compiled_pipeline):
    pipeline, _ = compiled_pipeline
    expected = make_tiny_pipeline()
    expected.transformer = make_tiny_transformer(num_attention_heads=11)
    expected.transformer.load_state_dict(pipeline.transformer.state_dict())
    torch.testing.assert_close(generate(pipeline, "a red circle"), generate(expected, "a red circle"))
