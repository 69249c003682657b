# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
The same video by every road: one call, a stream, a batch, given noise, recorded steps, the sampler by hand, modular blocks, copies of the
pipeline, a thread. What each road adds of its own is tested where it is at home.
"""

import copy
import pickle
import threading

import pytest
import torch

from tests.pipelines.test_cuda_graphs import RepeatedRunner
from tests.tiny_components import make_tiny_pipeline
from videoar_pipelines import FrameSampler, PromptStates, VideoARBlocks, VideoARPipeline
from videoar_pipelines.schedulers.scheduling_videoar import draw_uniform_noise


PROMPT = "a red circle moves to the right"
# Shorter and longer, so that a batch is padded.
OTHER_PROMPTS = ["a", "a green square moves up and down on black"]

# Arguments of a video.
MODES = {
    "plain": {},
    "image": {"num_frames": 1},
    "without guidance": {"guidance_scale": 1.0},
    "away from": {"negative_prompt": "a blue square"},
    "sampled otherwise": {"temperature": [0.5, 1.0], "top_p": 0.9},
    "wide": {"height": 32, "width": 96},
    "window": {"window": 2},
    "window with sinks": {"window": 1, "sink_size": 1, "num_frames": 17},
    "refined": {"refinements": [2, 1], "window": 1},
    "continued": {"video": torch.rand(5, 3, 64, 64, generator=torch.Generator().manual_seed(1))},
    "re-encoded": {"reencode_at": 3, "num_frames": 21},
    "re-encoded in a window": {"reencode_at": 4, "window": 3, "context_frames": 9, "num_frames": 21},
    "re-encoded and refined": {"reencode_at": 3, "refinements": [1, 2], "num_frames": 21},
    "continued and re-encoded": {"reencode_at": 4, "video": torch.full((1, 3, 64, 64), 0.7), "num_frames": 21},
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def call(pipe, **arguments):
    return pipe(**({"prompt": PROMPT, "generator": generator(), "num_frames": 13} | arguments)).frames


def stream(pipe, **arguments):
    chunks = pipe.stream(**({"prompt": PROMPT, "generator": generator(), "num_frames": 13} | arguments))
    return torch.cat(list(chunks), dim=2 if arguments["output_type"] == "latent" else 1)


# 1. Roads: each takes a pipeline and a call's arguments


def stream_with_overlap(pipe, **arguments):
    return stream(pipe, overlap_decoding=True, **arguments)


def in_a_batch(pipe, road=call, **arguments):
    """The second of three videos."""
    if "video" in arguments:
        arguments["video"] = [1 - arguments["video"], arguments["video"], arguments["video"]]
    prompts = [OTHER_PROMPTS[0], PROMPT, OTHER_PROMPTS[1]]
    return road(pipe, **arguments, prompt=prompts, generator=[generator(5), generator(), generator(6)])[1:2]


def streamed_in_a_batch(pipe, **arguments):
    return in_a_batch(pipe, stream, **arguments)


def as_one_of_several(pipe, **arguments):
    return call(pipe, **arguments, num_videos_per_prompt=2, generator=[generator(5), generator()])[1:]


def from_noise(pipe, **arguments):
    size = [arguments.get(side, 64) // 16 for side in ("height", "width")]
    steps = pipe.scheduler.frame_steps(0, pipe.scheduler.get_scale_schedule(*size), arguments.get("refinements", ()))
    num_given = (len(arguments["video"]) + 3) // 4 if "video" in arguments else 0
    source, shape = generator(), (1, sum(step.num_tokens for step in steps), 8)
    num_frames = (arguments.get("num_frames", 13) + 3) // 4 - num_given
    noise = torch.stack([draw_uniform_noise(shape, source) for _ in range(num_frames)], dim=1)
    return call(pipe, **arguments, latents=noise, generator=None)


def from_text_states(pipe, negative_prompt=None, **arguments):
    states = pipe.encode_prompt(PROMPT, negative_prompt)
    names = ["prompt_embeds", "negative_prompt_embeds", "prompt_attention_mask", "negative_prompt_attention_mask"]
    return call(pipe, **arguments, prompt=None, **dict(zip(names, states)))


def in_inference_mode(pipe, **arguments):
    with torch.inference_mode():
        return call(pipe, **arguments)


def watched(pipe, **arguments):
    names = ["latents", "prompt_embeds", "negative_prompt_embeds"]
    return call(pipe, **arguments, callback_on_step_end=lambda *a: a[3], callback_on_step_end_tensor_inputs=names)


def recorded(pipe, road=call, **arguments):
    """After a video with other randomness, whose steps were recorded."""
    pipe = VideoARPipeline.from_pipe(pipe)
    pipe.set_progress_bar_config(disable=True)
    pipe._runner = RepeatedRunner()
    road(pipe, **arguments, generator=generator(7))
    return road(pipe, **arguments)


def recorded_stream(pipe, **arguments):
    return recorded(pipe, stream, **arguments)


def by_hand(pipe, output_type, negative_prompt=None, video=None, window=None, sink_size=0, **arguments):
    text = PromptStates(*pipe.encode_prompt(PROMPT, negative_prompt, arguments.get("guidance_scale") != 1.0))
    names = ("guidance_scale", "temperature", "top_p", "refinements")
    options = pipe.scheduler.sampling_options(**{name: arguments.get(name) for name in names})
    schedule = pipe.scheduler.get_scale_schedule(*(arguments.get(side, 64) // 16 for side in ("height", "width")))
    num_frames = (arguments.get("num_frames", 13) + 3) // 4
    components = pipe.transformer, pipe.scheduler, pipe.vae
    sampler = FrameSampler(*components, text, options, schedule, num_frames, window, sink_size, generator())
    latents = []
    if video is not None:
        maps = sampler.encode_frames(2 * video.transpose(0, 1)[None] - 1)
        sampler.write_frames(maps)
        latents += maps.latents.unbind(dim=2)
    while len(latents) < num_frames:
        latents.append(sampler.sample_frame())
    latents = torch.stack(latents, dim=2)
    return latents if output_type == "latent" else pipe.vae.decode(latents).sample.transpose(1, 2) / 2 + 0.5


def by_blocks(pipe, **arguments):
    blocks = VideoARBlocks().init_pipeline()
    blocks.update_components(**pipe.components)
    blocks.set_progress_bar_config(disable=True)
    return blocks(**({"prompt": PROMPT, "generator": generator(), "num_frames": 13} | arguments), output="videos")


def pickled(pipe, **arguments):
    with pipe.stream(OTHER_PROMPTS[0]):  # a video in the making does not go along
        other = pickle.loads(pickle.dumps(pipe))
        other._interrupt = True
    return call(other, **arguments)


def deep_copied(pipe, **arguments):
    pipe = VideoARPipeline.from_pipe(pipe)
    pipe.set_progress_bar_config(disable=True)
    pipe._runner = RepeatedRunner()
    return call(copy.deepcopy(pipe), **arguments)


def with_shared_components(pipe, **arguments):
    other = VideoARPipeline.from_pipe(pipe)
    other.set_progress_bar_config(disable=True)
    assert other.transformer is pipe.transformer and other.vae is pipe.vae
    return call(other, **arguments)


def in_a_thread(pipe, **arguments):
    videos = []
    # Gradients are on in a new thread, whatever they are here.
    thread = threading.Thread(target=lambda: videos.append(call(pipe, **arguments)))
    thread.start()
    call(pipe, output_type="latent", prompt=OTHER_PROMPTS[1], refinements=[1])
    thread.join()
    return videos[0]


ROADS = [
    *(call, stream, stream_with_overlap, in_a_batch, streamed_in_a_batch, as_one_of_several, from_noise),
    *(from_text_states, in_inference_mode, watched, recorded, recorded_stream, by_hand, by_blocks, pickled),
    *(deep_copied, with_shared_components, in_a_thread),
]


# 2. The test


@pytest.fixture(scope="module")
def pipe():
    return make_tiny_pipeline()


@pytest.fixture(scope="module", params=sorted(MODES))
def mode(pipe, request):
    """Arguments, and the video that they give as latents (where these are handed out) and as pixels."""
    arguments = MODES[request.param]
    output_types = ["pt"] if "reencode_at" in arguments else ["latent", "pt"]
    return arguments, {name: call(pipe, output_type=name, **arguments) for name in output_types}


@pytest.mark.parametrize("road", ROADS, ids=lambda road: road.__name__)
@torch.no_grad()
def test_every_road_leads_to_the_same_video(pipe, mode, road):
    arguments, expected = mode
    if road in (by_hand, from_noise) and "reencode_at" in arguments:
        pytest.skip("there is no such thing")
    for output_type, video in expected.items():
        # Bits are the same; convolutions over other numbers of frames or videos may round differently.
        tolerance = 1e-5 if output_type == "pt" else 0
        result = road(pipe, output_type=output_type, **arguments)
        torch.testing.assert_close(result, video, atol=tolerance, rtol=0)


def test_the_modes_give_different_videos(pipe):
    lasts = [call(pipe, output_type="pt", **MODES[name])[:, -1] for name in sorted(MODES) if name != "wide"]
    for index, last in enumerate(lasts):
        assert not any(torch.equal(last, other) for other in lasts[:index])
