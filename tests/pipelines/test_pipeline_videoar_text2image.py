# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Images: the single frames of videos, as a text-to-image pipeline of diffusers returns them."""

import numpy as np
import pytest
import torch

from tests.tiny_components import make_tiny_pipeline
from tests.tiny_videos import PROMPT, make_generator
from videoar_pipelines import VideoARPipeline, VideoARTextToImagePipeline


@pytest.fixture(scope="module")
def pipe():
    pipeline = VideoARTextToImagePipeline.from_pipe(make_tiny_pipeline())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_images_are_the_frames_of_videos_of_one_frame(pipe):
    prompts, arguments = [PROMPT, "a blue square"], {"guidance_scale": 2.0, "height": 32}
    to_video = VideoARPipeline.from_pipe(pipe)
    to_video.set_progress_bar_config(disable=True)
    for output_type, axis in (("np", 1), ("pt", 1), ("latent", 2)):
        videos = to_video(
            prompts,
            num_frames=1,
            num_videos_per_prompt=2,
            generator=make_generator(),
            output_type=output_type,
            **arguments,
        ).frames
        images = pipe(
            prompts, num_images_per_prompt=2, generator=make_generator(), output_type=output_type, **arguments
        ).images
        expected = torch.as_tensor(videos).select(axis, 0)
        assert len(images) == 4 and torch.equal(torch.as_tensor(images), expected)


def test_by_default_they_are_pictures_of_the_size_of_the_model(pipe):
    (image,) = pipe(PROMPT, generator=make_generator()).images
    assert image.size == (64, 64)
    ((other,),) = pipe(PROMPT, generator=make_generator(), return_dict=False)
    assert np.array_equal(np.asarray(image), np.asarray(other))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_images_per_prompt": 0}, "`num_images_per_prompt` has to be at least 1, got 0"),
        ({"num_videos_per_prompt": 2}, "it is called `num_images_per_prompt`"),
        ({"num_frames": 5}, "`num_frames` is no argument .*use `VideoARPipeline.from_pipe"),
        ({"num_inference_steps": 5}, "`num_inference_steps` is no argument of VideoARTextToImagePipeline"),
        ({"height": 8}, "`height` has to be a multiple of 16, got 8"),
    ],
)
def test_what_cannot_work_is_named_with_what_would(pipe, arguments, message):
    with pytest.raises(ValueError, match=message):
        pipe(PROMPT, **arguments)
