# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Videos that continue given ones."""

import inspect

import numpy as np
import pytest
import torch

from tests.tiny_components import make_tiny_pipeline, make_tiny_transformer
from videoar_pipelines import VideoARImageToVideoPipeline, VideoARVideoToVideoPipeline
from videoar_pipelines.models.quantization import sequence_inputs, tokens_per_frame
from videoar_pipelines.models.token_layout import video_token_ids
from videoar_pipelines.pipelines.frame_sampler import FrameSampler, PromptStates
from videoar_pipelines.pipelines.refinement import FrameRefiner


PROMPT = "a red circle moves to the right"
SCHEDULE = ((1, 1), (2, 2), (3, 3), (4, 4))


@pytest.fixture(scope="module")
def text_pipe():
    return make_tiny_pipeline()


@pytest.fixture(scope="module")
def pipe(text_pipe):
    pipe = VideoARVideoToVideoPipeline.from_pipe(text_pipe)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def make_video(num_frames=9, seed=0, height=64, width=64):
    """`(num_frames, 3, height, width)` in [0, 1]."""
    return torch.rand(num_frames, 3, height, width, generator=generator(seed))


# 1. Given frames in the cache


def open_sampler(pipe, prompts, num_latent_frames=None, window=None, sink_size=0, noise=None, schedule=SCHEDULE):
    text = PromptStates(*pipe.encode_prompt(prompts, None, do_classifier_free_guidance=True))
    options = pipe.scheduler.sampling_options(guidance_scale=3.0)
    components = pipe.transformer, pipe.scheduler, pipe.vae
    return FrameSampler(*components, text, options, schedule, num_latent_frames, window, sink_size, noise=noise)


@pytest.mark.parametrize("max_text_distance", [None, 1])
@pytest.mark.parametrize("previous_frame_context", ["first_scale", "all_scales"])
@pytest.mark.parametrize(("window", "sink_size"), [(None, 0), (4, 0), (2, 2)])
@torch.no_grad()
def test_writing_given_frames_at_once_equals_forcing_them_map_by_map(
    max_text_distance, previous_frame_context, window, sink_size
):
    pipe = VideoARVideoToVideoPipeline(**make_tiny_pipeline().components)
    channels = 8 if previous_frame_context == "first_scale" else 16
    pipe.transformer = make_tiny_transformer(max_text_distance=max_text_distance, in_channels=channels)
    pipe.scheduler.register_to_config(previous_frame_context=previous_frame_context)
    # Prompts of unequal length: the text is padded. Guidance: two branches.
    prompts = [PROMPT, "a blue square"]
    num_given, num_frames = 4, 6
    video = torch.stack([make_video(4 * num_given - 3, seed) for seed in range(2)]).transpose(1, 2) * 2 - 1

    calls = []
    hook = pipe.transformer.register_forward_hook(lambda *arguments: calls.append(1))
    noise = torch.rand(2, 2, tokens_per_frame(SCHEDULE), 8, generator=generator())
    at_once = open_sampler(pipe, prompts, num_frames, window, sink_size, noise)
    maps = at_once.encode_frames(video)
    at_once.write_frames(maps)
    hook.remove()
    # After `max_text_distance` the text moves along, so these frames take a pass each.
    assert len(calls) == (1 if max_text_distance is None else num_given - max_text_distance)

    forced = open_sampler(pipe, prompts, num_frames, window, sink_size, noise)
    inputs = torch.cat([sequence_inputs(maps, SCHEDULE, previous_frame_context)] * 2)
    token_ids = video_token_ids(SCHEDULE, num_given)
    start = 0
    for _ in range(num_given):
        for height, width in SCHEDULE:
            end = start + height * width
            pipe.transformer(inputs[:, start:end], token_ids[start:end], kv_cache=forced.kv_cache)
            start = end
    assert start == num_given * tokens_per_frame(SCHEDULE)

    assert at_once.kv_cache.length == forced.kv_cache.length == forced.kv_cache.text_length + start
    # The same sums in another order.
    torch.testing.assert_close(at_once.kv_cache.keys, forced.kv_cache.keys, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(at_once.kv_cache.values, forced.kv_cache.values, atol=1e-4, rtol=1e-4)

    # And what is sampled after them is the same.
    forced.frame, forced.previous_frame = num_given, maps.latents[:, :, -1]
    for _ in range(2):
        assert torch.equal(at_once.sample_frame(), forced.sample_frame())


def test_the_video_begins_with_the_given_frames_as_the_tokenizer_reconstructs_them(pipe):
    video = make_video(9)
    result = pipe(video, PROMPT, num_frames=17, generator=generator(), output_type="pt").frames
    assert result.shape == (1, 17, 3, 64, 64)
    with torch.no_grad():
        features = pipe.vae.encode(video.transpose(0, 1)[None] * 2 - 1).latents
        latents = pipe.vae.quantize(features, SCHEDULE).latents
        expected = pipe.vae.decode(latents).sample.transpose(1, 2) / 2 + 0.5
    torch.testing.assert_close(result[:, :9], expected, atol=1e-5, rtol=0)


def test_a_long_given_video_is_encoded_chunk_by_chunk_with_the_result_of_one_pass(pipe):
    video = make_video(45, height=32, width=32).transpose(0, 1)[None] * 2 - 1
    schedule = pipe.scheduler.get_scale_schedule(2, 2)
    sampler = open_sampler(pipe, PROMPT, window=2, schedule=schedule)
    lengths = []
    hook = pipe.vae.encoder.register_forward_hook(lambda module, inputs, output: lengths.append(inputs[0].shape[2]))
    with torch.no_grad():
        maps = sampler.encode_frames(video)
    hook.remove()
    assert lengths == [17, 16, 12]
    with torch.no_grad():
        expected = pipe.vae.quantize(pipe.vae.encode(video).latents, schedule).latents
    assert ((maps.latents - expected).abs() > 1e-6).float().mean() < 1e-3  # features next to zero


@torch.no_grad()
def test_refinement_encodes_a_frame_after_the_given_ones(pipe, monkeypatch):
    features, features_of = [], FrameRefiner.features_of

    def note_features(refiner, frame):
        features.append(features_of(refiner, frame))
        return features[-1]

    monkeypatch.setattr(FrameRefiner, "features_of", note_features)
    unrefined = []

    def note(pipeline, step, timestep, callback_kwargs):
        if step % 5 == 3:  # four maps, and one of a round
            unrefined.append(callback_kwargs["latents"])
        return {}

    arguments = {"num_frames": 33, "refinements": [1], "output_type": "latent", "callback_on_step_end": note}
    latents = pipe(make_video(25), PROMPT, generator=generator(), **arguments).frames
    assert latents.shape[2] == 9 and len(features) == 2
    for frame in (7, 8):  # after more given frames than are decoded together
        video = torch.cat([latents[:, :, :frame], unrefined[frame - 7][:, :, None]], dim=2)
        expected = pipe.vae.encode(pipe.vae.decode(video).sample).latents[:, :, -1]
        torch.testing.assert_close(features[frame - 7], expected, atol=1e-5, rtol=0)


def test_one_given_frame_is_image_to_video(pipe):
    video = make_video(1)
    images = VideoARImageToVideoPipeline.from_pipe(pipe)
    images.set_progress_bar_config(disable=True)
    arguments = {"num_frames": 9, "output_type": "latent"}
    expected = images(video[0], PROMPT, generator=generator(), **arguments).frames
    assert torch.equal(pipe(video, PROMPT, generator=generator(), **arguments).frames, expected)


def test_all_given_frames_matter(pipe):
    arguments = {"prompt": PROMPT, "num_frames": 13, "output_type": "latent"}
    video = make_video(9)
    changed = torch.cat([1 - video[:1], video[1:]])
    first = pipe(video, generator=generator(), **arguments).frames
    second = pipe(changed, generator=generator(), **arguments).frames
    assert not torch.equal(first[:, :, 3:], second[:, :, 3:])


# 2. Forms and batches


@pytest.mark.parametrize(
    "convert",
    [
        lambda video: video.permute(0, 2, 3, 1).numpy(),
        lambda video: video[None],
        lambda video: list(video),
        lambda video: [video],
        lambda video: [list(video)],
        lambda video: video[None].permute(0, 1, 3, 4, 2).numpy(),
    ],
    ids=["array", "batch of tensors", "list of frames", "list of videos", "list of lists", "batch of arrays"],
)
def test_a_video_may_come_in_any_form(pipe, convert):
    video = make_video(5)
    arguments = {"prompt": PROMPT, "num_frames": 9, "output_type": "latent"}
    expected = pipe(video, generator=generator(), **arguments).frames
    assert torch.equal(pipe(convert(video), generator=generator(), **arguments).frames, expected)


@pytest.mark.parametrize("output_type", ["np", "pt", "pil"])
def test_what_a_pipeline_returns_can_be_continued(pipe, text_pipe, output_type):
    video = text_pipe([PROMPT, "blue"], num_frames=5, generator=generator(), output_type=output_type).frames
    result = pipe(video, [PROMPT, "blue"], num_frames=9, generator=generator(), output_type=output_type).frames
    assert len(result) == 2 and len(result[0]) == 9 and type(result) is type(video)


# 3. Like the text pipeline


def test_nothing_is_sampled_for_the_chunks_of_given_frames(pipe):
    steps = []

    def note_step(pipeline, step, timestep, callback_kwargs):
        steps.append(step)
        return callback_kwargs

    stream = pipe.stream(make_video(9), PROMPT, window=3, callback_on_step_end=note_step)
    for _ in range(3):
        next(stream)
    assert steps == []
    next(stream)
    assert steps == [0, 1, 2, 3]
    stream.close()


def test_a_stream_without_end_sees_all_given_frames_unless_told(pipe):
    def first_latent_frames(**mode):
        with pipe.stream(make_video(17), PROMPT, generator=generator(), output_type="latent", **mode) as stream:
            return torch.cat([next(stream) for _ in range(8)], dim=2)

    assert torch.equal(first_latent_frames(), first_latent_frames(window=5))


def test_as_many_new_frames_as_the_model_makes_by_default_unless_told(pipe):
    (video,) = pipe(make_video(9), PROMPT, return_dict=False)
    assert video.shape == (1, 9 + 8, 64, 64, 3)


def test_the_arguments_are_those_of_the_text_pipeline_behind_the_video(pipe, text_pipe):
    for method in ("__call__", "stream"):
        parameters = list(inspect.signature(getattr(pipe, method)).parameters)
        assert parameters[:2] == ["video", "prompt"]
        assert set(parameters) == {"video", *inspect.signature(getattr(text_pipe, method)).parameters}


# 4. What cannot work


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            {"video": make_video(6)},
            "`len\\(video\\)` has to be 4 \\* n \\+ 1, got 6. The nearest that work are 5 and 9",
        ),
        (
            {"video": make_video(9), "num_frames": 9},
            "`num_frames` counts the 9 given frames.*smallest that works is 13",
        ),
        (
            {"video": make_video(9), "window": 2},
            "`video` has 9 pixel frames, 3 latent ones: too long for `window` = 2",
        ),
        (
            {"video": make_video(9), "reencode_at": 3},
            "`video` has 9 .*`reencode_at` = 3, .*Pass at most 5 .*at least 4",
        ),
        ({"video": [make_video(5)] * 2, "prompt": ["red"] * 3}, "`video` has 2 entries for 3 prompts. Pass one, or 3"),
        ({"video": [make_video(5), make_video(9)]}, "`video` has to hold RGB frames, as many for each video"),
        ({"video": make_video(5) * 255}, "`video` as arrays or tensors has to be in \\[0, 1\\].*Divide"),
        ({"video": make_video(5)[:, :2]}, "`video` has to hold RGB frames"),
        ({"video": make_video(5)[0, 0]}, "`video` cannot be read"),
        ({"video": []}, "`video` is an empty list"),
        ({"video": None}, "`video` cannot be read"),
        ({"video": "circle.mp4"}, "`video` cannot be read"),
        ({"video": make_video(5), "num_frames": 9, "latents": np.zeros(3)}, "`latents`"),
    ],
)
def test_what_cannot_work_is_named_with_its_value_and_what_would(pipe, arguments, message):
    with pytest.raises(ValueError, match=message):
        pipe(**({"prompt": PROMPT} | arguments))
