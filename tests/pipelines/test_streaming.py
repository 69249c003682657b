# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Streams, long videos, and prompts that change on the way."""

import gc
import inspect
import itertools
import weakref

import numpy as np
import pytest
import torch

from tests.tiny_components import make_tiny_pipeline
from tests.visibility import expected_mask
from videoar_pipelines import VideoARVideoToVideoPipeline
from videoar_pipelines.models.quantization import MultiScaleMaps, sequence_inputs, tokens_per_frame
from videoar_pipelines.models.token_layout import text_token_ids, video_token_ids


PROMPT = "a red circle moves to the right"
LONG_VIDEO_MODES = [
    {},
    {"window": 2},
    {"window": 1, "sink_size": 2},
    {"reencode_at": 3},
    {"reencode_at": 4, "window": 3, "context_frames": 9},
    {"reencode_at": 5, "window": 1, "sink_size": 2, "context_frames": 9},
    {"reencode_at": 3, "refinements": [1, 2]},
]


@pytest.fixture(scope="module")
def pipe():
    return make_tiny_pipeline()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# 1. A stream is the video


@pytest.mark.parametrize("mode", LONG_VIDEO_MODES)
def test_the_chunks_of_a_stream_are_the_video_of_a_call(pipe, mode):
    arguments = {"num_frames": 29, "output_type": "pt", **mode}
    whole = pipe(PROMPT, generator=generator(), **arguments).frames
    chunks = list(pipe.stream(PROMPT, generator=generator(), **arguments))
    assert [chunk.shape[1] for chunk in chunks] == [1] + [4] * 7
    # Convolutions over one frame and over many may round differently.
    torch.testing.assert_close(torch.cat(chunks, dim=1), whole, atol=1e-5, rtol=0)


def test_a_long_video_is_decoded_in_parts(pipe):
    lengths = []
    hook = pipe.vae.decoder.register_forward_hook(lambda module, inputs, output: lengths.append(inputs[0].shape[2]))
    pipe(PROMPT, num_frames=49, generator=generator())
    hook.remove()
    assert lengths == [5, 5, 3]


@pytest.mark.parametrize("output_type", ["np", "pil"])
def test_a_chunk_has_the_layout_of_a_video(pipe, output_type):
    arguments = {"num_frames": 5, "output_type": output_type, "num_videos_per_prompt": 2}
    whole = pipe(PROMPT, generator=generator(), **arguments).frames
    first, second = pipe.stream(PROMPT, generator=generator(), **arguments)
    if output_type == "np":
        assert first.shape == (2, 1, 64, 64, 3)
        np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole, atol=1e-5, rtol=0)
    else:
        assert [len(first[0]), len(second[1])] == [1, 4]
        for streamed, called in zip(first[1] + second[1], whole[1]):
            difference = np.asarray(streamed).astype(int) - np.asarray(called).astype(int)
            assert np.abs(difference).max() <= 1  # one level, where rounding goes the other way


def test_the_first_chunk_comes_before_the_second_frame_is_sampled(pipe):
    steps = []

    def note_step(pipeline, step, timestep, callback_kwargs):
        steps.append((step, int(timestep)))
        return callback_kwargs

    stream = pipe.stream(PROMPT, num_frames=9, generator=generator(), callback_on_step_end=note_step)
    assert steps == []
    next(stream)
    num_scales = len(pipe.scheduler.get_scale_schedule(4, 4))
    assert steps == [(step, step) for step in range(num_scales)]
    next(stream)
    assert steps == [(step, step) for step in range(2 * num_scales)]


def test_a_stream_without_end_begins_like_a_finite_video(pipe):
    finite = pipe(PROMPT, num_frames=9, window=2, generator=generator(), output_type="latent").frames
    with pipe.stream(PROMPT, window=2, generator=generator(), output_type="latent") as stream:
        endless = torch.cat(list(itertools.islice(stream, 8)), dim=2)
    assert endless.shape[2] == 8
    assert torch.equal(endless[:, :, :3], finite)


def test_a_stream_without_end_sees_as_far_back_as_a_clip_of_training_unless_told(pipe):
    def first_latent_frames(**mode):
        with pipe.stream(PROMPT, generator=generator(), output_type="latent", **mode) as stream:
            return torch.cat(list(itertools.islice(stream, 6)), dim=2)

    default = first_latent_frames()
    assert pipe.transformer.config.sample_frames == 3
    assert torch.equal(default, first_latent_frames(window=2))
    assert not torch.equal(default, first_latent_frames(window=1))


def test_streams_and_calls_of_one_pipeline_may_take_turns(pipe):
    def open_stream():
        arguments = {"num_frames": 9, "guidance_scale": 4.0, "refinements": [2], "output_type": "pt"}
        return pipe.stream(PROMPT, generator=generator(), **arguments)

    undisturbed = list(open_stream())
    stream = open_stream()
    other = pipe.stream("a blue square", num_frames=5, height=32, width=48, guidance_scale=1.0, generator=generator())
    disturbed = []
    for chunk in stream:
        disturbed.append(chunk)
        next(other, None)
        pipe("green", num_frames=1, height=48, width=32, guidance_scale=2.0)
    assert torch.equal(torch.cat(disturbed, dim=1), torch.cat(undisturbed, dim=1))


@pytest.mark.gpu
@pytest.mark.parametrize("mode", LONG_VIDEO_MODES)
def test_decoding_on_a_stream_of_its_own_gives_the_same_video(mode):
    pipe = make_tiny_pipeline().to("cuda")
    arguments = {"num_frames": 61, "output_type": "pt", **mode}
    in_turns = list(pipe.stream(PROMPT, generator=generator(), **arguments))
    for _ in range(5):
        overlapping = list(pipe.stream(PROMPT, generator=generator(), overlap_decoding=True, **arguments))
        torch.testing.assert_close(torch.cat(overlapping, dim=1), torch.cat(in_turns, dim=1), atol=1e-5, rtol=0)


def test_one_frame_is_sampled_ahead_from_the_second_chunk_on_when_decoding_overlaps(pipe):
    steps = []

    def note_step(pipeline, step, timestep, callback_kwargs):
        steps.append(step)
        return callback_kwargs

    stream = pipe.stream(PROMPT, num_frames=13, overlap_decoding=True, callback_on_step_end=note_step)
    finished_frames = [len(steps) // 4 for _ in stream]
    assert finished_frames == [1, 3, 4, 4]


def test_guidance_that_a_callback_changed_stays_changed_for_the_next_chunk(pipe):
    def lower_guidance(pipeline, step, timestep, callback_kwargs):
        pipeline._guidance_scale = 1.5
        return callback_kwargs

    arguments = {"num_frames": 9, "output_type": "latent"}
    called = pipe(PROMPT, generator=generator(), callback_on_step_end=lower_guidance, **arguments).frames
    streamed = list(pipe.stream(PROMPT, generator=generator(), callback_on_step_end=lower_guidance, **arguments))
    assert torch.equal(torch.cat(streamed, dim=2), called)
    assert not torch.equal(called, pipe(PROMPT, generator=generator(), **arguments).frames)


def test_the_arguments_of_a_stream_are_those_of_a_call(pipe):
    called = [name for name in inspect.signature(pipe.__call__).parameters if name != "return_dict"]
    assert list(inspect.signature(pipe.stream).parameters) == [*called, "overlap_decoding"]


# 2. Ending


def interrupt_at(last_step):
    def interrupt(pipeline, step, timestep, callback_kwargs):
        pipeline._interrupt = step == last_step
        return callback_kwargs

    return interrupt


@pytest.mark.parametrize("step, num_frames", [(7, 5), (9, 5), (11, 9)])
def test_interrupting_returns_the_frames_that_are_finished(pipe, step, num_frames):
    # 4 maps a latent frame: steps 7 and 11 finish a frame, step 9 does not.
    whole = pipe(PROMPT, num_frames=13, generator=generator(), output_type="pt").frames
    arguments = {"num_frames": 13, "output_type": "pt", "callback_on_step_end": interrupt_at(step)}
    called = pipe(PROMPT, generator=generator(), **arguments).frames
    streamed = torch.cat(list(pipe.stream(PROMPT, generator=generator(), **arguments)), dim=1)
    assert called.shape[1] == streamed.shape[1] == num_frames
    torch.testing.assert_close(called, whole[:, :num_frames], atol=1e-5, rtol=0)
    torch.testing.assert_close(streamed, called, atol=1e-5, rtol=0)


def exhaust(stream):
    for _ in stream:
        pass


def leave_as_context(stream):
    with stream:
        next(stream)


def close_twice(stream):
    next(stream)
    stream.close()
    stream.close()


@pytest.mark.parametrize("end", [exhaust, leave_as_context, close_twice])
def test_ending_a_stream_frees_its_cache(pipe, end):
    stream = pipe.stream(PROMPT, num_frames=9, reencode_at=2)
    cache = weakref.ref(stream.sampler.kv_cache)
    gc.collect()
    gc.disable()  # nothing has to wait for the collector of cycles
    try:
        end(stream)
        assert cache() is None and stream.is_closed
    finally:
        gc.enable()
    assert list(stream) == []


def test_a_stream_that_is_dropped_frees_its_cache_at_once(pipe):
    stream = pipe.stream(PROMPT, num_frames=9, reencode_at=2)
    next(stream)
    cache = weakref.ref(stream.sampler.kv_cache)
    gc.collect()
    gc.disable()
    try:
        del stream
        assert cache() is None
    finally:
        gc.enable()


def tensor_bytes():
    """Bytes of all tensors that Python can reach, each storage once."""
    gc.collect()
    storages = {}
    for item in gc.get_objects():
        if type(item) in (torch.Tensor, torch.nn.Parameter):
            storages[item.untyped_storage().data_ptr()] = item.untyped_storage().nbytes()
    return sum(storages.values())


@pytest.mark.parametrize("mode", [{"window": 4}, {"window": 2, "sink_size": 2}, {"reencode_at": 5}])
def test_frame_500_takes_the_memory_of_frame_50(mode):
    pipe = make_tiny_pipeline()
    pipe.transformer.register_to_config(max_text_distance=2)
    before = tensor_bytes()
    with pipe.stream(PROMPT, height=32, width=32, **mode) as stream:
        bytes_at = {}
        for latent_frame, chunk in enumerate(stream):
            first, last = max(0, 4 * latent_frame - 3), 4 * latent_frame
            bytes_at |= {frame: tensor_bytes() - before for frame in (50, 500) if first <= frame <= last}
            if 500 in bytes_at:
                break
    assert bytes_at[50] > 10_000  # the cache is counted
    assert abs(bytes_at[500] / bytes_at[50] - 1) < 0.02


# 3. Windows and re-encoding


@pytest.mark.parametrize("sink_size", [0, 2])
def test_a_frame_in_a_ring_window_is_that_of_a_recomputation_with_the_same_visible_frames(pipe, sink_size):
    window, num_latent_frames = 2, 7
    logits, sums = [], []

    def note_sum(pipeline, step, timestep, callback_kwargs):
        sums.append(callback_kwargs["latents"])
        return callback_kwargs

    hook = pipe.transformer.register_forward_hook(lambda module, inputs, output: logits.append(output[0]))
    latents = pipe(
        PROMPT,
        num_frames=4 * num_latent_frames - 3,
        window=window,
        sink_size=sink_size,
        generator=generator(),
        guidance_scale=1.0,
        output_type="latent",
        callback_on_step_end=note_sum,
    ).frames
    hook.remove()

    # The same sequence at once, every token with the text, the sinks, the two frames before and its own frame.
    schedule = pipe.scheduler.get_scale_schedule(4, 4)
    sums = [torch.cat(sums[scale :: len(schedule)]) for scale in range(len(schedule))]  # one (T, d, H', W') a scale
    partial_sums = [torch.zeros_like(sums[0]), *sums[:-1]]
    inputs = sequence_inputs(MultiScaleMaps(bits=[], latents=latents, partial_sums=partial_sums), schedule)
    embeds, *_ = pipe.encode_prompt(PROMPT, do_classifier_free_guidance=False)
    token_ids = video_token_ids(schedule, num_latent_frames)
    ids = torch.cat([text_token_ids(embeds.shape[1]), token_ids])
    with torch.no_grad():
        mask = expected_mask(ids, ids, window, sink_size)
        at_once = pipe.transformer(inputs, token_ids, encoder_hidden_states=embeds, attention_mask=mask).sample
        whole_past = pipe.transformer(inputs, token_ids, encoder_hidden_states=embeds).sample
    # The same sums in another order.
    torch.testing.assert_close(torch.cat(logits, dim=1), at_once, atol=1e-4, rtol=1e-4)
    # The window matters: the first frame that does not see all of the past is another one than with all of it.
    first_blind = (window + sink_size + 1) * tokens_per_frame(schedule)
    assert (whole_past - at_once)[:, first_blind:].abs().max() > 0.1
    torch.testing.assert_close(whole_past[:, :first_blind], at_once[:, :first_blind], atol=1e-4, rtol=1e-4)


def continue_video(pipe, video, prompt, noise, num_frames):
    """New pixel frames behind the given ones, in a video of `num_frames`."""
    continuation = VideoARVideoToVideoPipeline.from_pipe(pipe)
    continuation.set_progress_bar_config(disable=True)
    frames = continuation(video, prompt, num_frames=num_frames, latents=noise, output_type="pt").frames
    return frames[:, video.shape[1] :]


@pytest.mark.parametrize("context_frames, max_text_distance", [(1, None), (5, None), (9, None), (5, 2)])
def test_reencoding_continues_the_decoded_tail_as_a_given_video(context_frames, max_text_distance):
    pipe = make_tiny_pipeline()
    pipe.transformer.register_to_config(max_text_distance=max_text_distance)
    noise = torch.rand(1, 10, 30, 8, generator=generator())
    arguments = {"reencode_at": 4, "context_frames": context_frames, "output_type": "pt"}
    whole = pipe(PROMPT, num_frames=37, latents=noise, **arguments).frames
    # A stretch is 4 latent frames, 13 pixel frames, of which the first ones are those of the stretch before.
    new_latent_frames = (13 - context_frames) // 4
    video = pipe(PROMPT, num_frames=13, latents=noise[:, :4], output_type="pt").frames
    for start in range(4, 10 - new_latent_frames + 1, new_latent_frames):
        new_noise = noise[:, start : start + new_latent_frames]
        new_frames = continue_video(pipe, video[:, -context_frames:], PROMPT, new_noise, num_frames=13)
        video = torch.cat([video, new_frames], dim=1)
    assert video.shape[1] == 37
    # Features next to zero may turn with the rounding of pixels, but hardly any do.
    assert ((whole - video).abs() > 1e-5).float().mean() < 0.01


def test_reencoding_reads_its_context_under_the_new_prompt(pipe):
    noise = torch.rand(1, 5, 30, 8, generator=generator())
    chunks = []
    with pipe.stream(PROMPT, num_frames=17, latents=noise, reencode_at=3, output_type="pt") as stream:
        for index, chunk in enumerate(stream):
            chunks.append(chunk)
            if index == 2:
                stream.set_prompt("a blue square")
    video = torch.cat(chunks, dim=1)
    second = continue_video(pipe, video[:, 8:9], "a blue square", noise[:, 3:], num_frames=9)
    torch.testing.assert_close(video[:, 9:], second, atol=1e-5, rtol=0)


def test_half_of_a_stretch_is_its_context_unless_told(pipe):
    arguments = {"num_frames": 25, "reencode_at": 4, "output_type": "pt"}
    default = pipe(PROMPT, generator=generator(), **arguments).frames
    explicit = pipe(PROMPT, generator=generator(), context_frames=5, **arguments).frames
    other = pipe(PROMPT, generator=generator(), context_frames=1, **arguments).frames
    assert torch.equal(default, explicit)
    assert not torch.equal(default, other)


# 4. Prompts on the way


def stream_with_prompt(pipe, change, **arguments):
    arguments = {"num_frames": 13, "window": 2, "generator": generator(), "output_type": "latent"} | arguments
    chunks = []
    with pipe.stream(PROMPT, **arguments) as stream:
        for index, chunk in enumerate(stream):
            chunks.append(chunk)
            if index == 1:
                change(stream)
    return torch.cat(chunks, dim=2)


@pytest.mark.parametrize("new_prompt", ["a blue square", "a green square moves up and down on a black background"])
def test_a_new_prompt_takes_effect_at_the_next_frame(pipe, new_prompt):
    unchanged = stream_with_prompt(pipe, lambda stream: None)
    changed = stream_with_prompt(pipe, lambda stream: stream.set_prompt(new_prompt))
    assert torch.equal(changed[:, :, :2], unchanged[:, :, :2])
    assert not torch.equal(changed[:, :, 2], unchanged[:, :, 2])


def test_a_new_prompt_leaves_the_frames_in_the_cache_as_they_are(pipe):
    def change_and_change_back(stream):
        stream.set_prompt("a blue square")
        stream.set_prompt("a green square moves up and down on a black background")
        stream.set_prompt(PROMPT)

    unchanged = stream_with_prompt(pipe, lambda stream: None)
    assert torch.equal(stream_with_prompt(pipe, change_and_change_back), unchanged)


def test_a_new_prompt_may_come_as_embeddings_and_with_a_negative_prompt(pipe):
    text = stream_with_prompt(pipe, lambda stream: stream.set_prompt("a blue square", negative_prompt="green"))
    embeds, negative_embeds, _, _ = pipe.encode_prompt("a blue square", "green")
    from_embeds = stream_with_prompt(
        pipe, lambda stream: stream.set_prompt(prompt_embeds=embeds, negative_prompt_embeds=negative_embeds)
    )
    without_negative = stream_with_prompt(pipe, lambda stream: stream.set_prompt("a blue square"))
    assert torch.equal(from_embeds, text)
    assert not torch.equal(without_negative, text)


def test_the_negative_prompt_stays_until_it_is_changed(pipe):
    kept = stream_with_prompt(pipe, lambda stream: stream.set_prompt("a blue square"), negative_prompt="green")
    repeated = stream_with_prompt(
        pipe, lambda stream: stream.set_prompt("a blue square", "green"), negative_prompt="green"
    )
    assert torch.equal(kept, repeated)


def test_a_stream_of_several_prompts_takes_as_many_new_ones(pipe):
    def change(stream):
        with pytest.raises(ValueError, match="`prompt` has 1 entries, but the stream was made for 2"):
            stream.set_prompt("a blue square")
        stream.set_prompt(["a blue square", "a green circle moves up"])

    arguments = {"num_frames": 9, "num_videos_per_prompt": 2, "output_type": "latent", "generator": generator()}
    chunks = []
    with pipe.stream([PROMPT, "a square"], **arguments) as stream:
        for chunk in stream:
            chunks.append(chunk)
            change(stream)
    assert [tuple(chunk.shape) for chunk in chunks] == [(4, 8, 1, 4, 4)] * 3


def test_a_prompt_for_a_stream_that_has_ended_is_refused(pipe):
    stream = pipe.stream(PROMPT, num_frames=1)
    stream.close()
    with pytest.raises(ValueError, match="has ended"):
        stream.set_prompt("a blue square")


# 5. What cannot work


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"num_frames": 8}, "`num_frames` has to be 4 \\* n \\+ 1, got 8. The nearest that work are 5 and 9"),
        ({"num_frames": 9, "height": 50}, "`height` has to be a multiple of 16, got 50"),
        ({"num_frames": 9, "window": 0}, "`window` has to be at least 1 latent frame.*got 0"),
        ({"num_frames": 9, "window": 2, "sink_size": -1}, "`sink_size` has to be between 0 and 1000000, got -1"),
        ({"num_frames": 9, "window": 2, "sink_size": 0.5}, "`sink_size` has to be an integer, got 0.5"),
        (
            {"num_frames": 9, "sink_size": 1},
            "`sink_size` is 1, but without `window` every frame sees all earlier ones",
        ),
        ({"num_frames": 9, "sink_size": 1, "reencode_at": 3}, "`sink_size` is 1, but without `window`"),
        ({"num_frames": 9, "reencode_at": 1}, "`reencode_at` has to be at least 2 latent frames .*got 1"),
        ({"num_frames": 9, "context_frames": 5}, "`context_frames` is 5, but without `reencode_at`"),
        ({"reencode_at": 4, "context_frames": 6}, "`context_frames` has to be 4 \\* n \\+ 1, got 6"),
        (
            {"reencode_at": 3, "context_frames": 9},
            "`context_frames` has 9 pixel frames, 3 latent ones.*`reencode_at` = 3",
        ),
        ({"reencode_at": 5, "context_frames": 9, "window": 2}, "`context_frames` has 9 .*too long for `window` = 2"),
        (
            {"reencode_at": 5, "context_frames": 13, "window": 2, "sink_size": 1},
            "13 pixel frames, 4 latent ones: too long for `window` = 2 and `sink_size` = 1, which has room for 3. Pass at most 9 "
            "pixel frames, or a `window` of at least 3",
        ),
        ({"reencode_at": 3, "output_type": "latent"}, "`output_type='latent'` does not go with `reencode_at`"),
        ({"window": 2, "latents": torch.rand(1, 3, 30, 8)}, "`latents` is the noise of a video of known length"),
        ({"num_frames": 9, "generator": [None, None]}, "`generator` is a list of 2, but 1 videos"),
        ({"num_frames": 9, "prompt": None}, "exactly one of `prompt` and `prompt_embeds`"),
    ],
)
def test_what_cannot_work_is_named_with_its_value_and_what_would(pipe, arguments, message):
    with pytest.raises(ValueError, match=message):
        pipe.stream(**({"prompt": PROMPT} | arguments))
