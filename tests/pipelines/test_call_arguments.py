# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""What a user reads of arguments: every one in the docstrings, and why those of other pipelines are none here."""

import inspect
import re
import textwrap

import pytest

from tests.infinitystar_runs import make_run_pipeline
from tests.tiny_components import make_tiny_pipeline
from tests.tiny_videos import PROMPT
from videoar_pipelines import (
    InfinityStarPipeline,
    VideoARImageToVideoPipeline,
    VideoARPipeline,
    VideoARTextToImagePipeline,
    VideoARVideoToVideoPipeline,
)
from videoar_pipelines.pipelines.call_arguments import FOREIGN_ARGUMENTS


PIPELINES = [
    VideoARPipeline,
    VideoARTextToImagePipeline,
    VideoARImageToVideoPipeline,
    VideoARVideoToVideoPipeline,
    InfinityStarPipeline,
]


@pytest.mark.parametrize("method", ["__call__", "stream", "encode_prompt"])
@pytest.mark.parametrize("pipeline_class", PIPELINES)
def test_every_argument_is_described_once_and_no_other(pipeline_class, method):
    function = getattr(pipeline_class, method)
    described = textwrap.dedent(re.split(r"\n\n", function.__doc__.split("Args:\n")[1])[0])  # 3.13 indents by less
    names = re.findall(r"^(\w+) \((?:`|\[)", described, flags=re.MULTILINE)
    assert sorted(names) == sorted(set(inspect.signature(function).parameters) - {"self"})
    assert "{" not in re.sub(r"\{.scale.: s\}", "", function.__doc__)  # nothing is left to fill in


@pytest.fixture(scope="module")
def pipe():
    return make_tiny_pipeline()


@pytest.fixture(scope="module")
def infinitystar():
    return make_run_pipeline()


@pytest.mark.parametrize("method", ["__call__", "stream"])
@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("num_inference_steps", 50, "the length \\(`num_frames`\\) and the scheduler's scales decide"),
        ("top_k", 900, "no vocabulary .* every bit of a token has a probability of its own, and two values"),
        ("seed", 0, "pass `generator=torch.Generator\\(\\).manual_seed\\(seed\\)`"),
        ("num_images_per_prompt", 2, "it is called `num_videos_per_prompt`"),
    ],
)
def test_arguments_of_other_pipelines_are_answered_with_the_reason(pipe, infinitystar, method, name, value, reason):
    for pipeline in (pipe, VideoARVideoToVideoPipeline.from_pipe(pipe), infinitystar):
        message = f"`{name}` is no argument of {type(pipeline).__name__}: .*{reason}"
        with pytest.raises(ValueError, match=message):
            getattr(pipeline, method)(PROMPT, **{name: value})


def test_no_reason_is_about_an_argument_that_a_pipeline_has(pipe, infinitystar):
    """Only of images there are two: they are an argument where they are given."""
    assert not FOREIGN_ARGUMENTS.keys() & inspect.signature(VideoARPipeline.__call__).parameters.keys()
    with pytest.raises(ValueError, match="`image` is no argument of VideoARPipeline: .*`video=\\[image\\]`"):
        pipe(PROMPT, image=None)
    with pytest.raises(ValueError, match="`temperature` is no argument .*`image_temperature` or `video_temperature`"):
        infinitystar(PROMPT, temperature=1.0)


def test_any_other_name_is_a_mistake_as_in_python(pipe):
    with pytest.raises(TypeError, match="unexpected keyword argument 'num_frame'"):
        pipe(PROMPT, num_frame=5)
