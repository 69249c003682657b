# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""The state of a video is its own: videos of one pipeline do not touch each other, errors end one of them, and its memory goes at once."""

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from tests.pipelines.test_cuda_graphs import RepeatedRunner
from tests.tiny_components import make_tiny_pipeline
from videoar_pipelines import VideoARPipeline


PROMPT = "a red circle moves to the right"
OTHER_PROMPT = "a blue square"
NUM_SCALES = 4


@pytest.fixture
def pipe():
    return make_tiny_pipeline()


@pytest.fixture
def no_collector():
    """Nothing has to wait for the collector of cycles."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def sample(pipe, prompt=PROMPT, **arguments):
    return pipe(prompt, **(settings() | arguments)).frames


def settings(**arguments):
    return {"generator": torch.Generator().manual_seed(0), "output_type": "pt", "num_frames": 13} | arguments


def join(chunks):
    return torch.cat(chunks, dim=1)


def at_step(number, action):
    """A callback that does something at one step."""

    def callback(pipeline, step, timestep, callback_kwargs):
        if step == number:
            action()
        return callback_kwargs

    return callback


def fail():
    raise ZeroDivisionError("stop")


# 1. Memory


@pytest.fixture
def caches(pipe, monkeypatch):
    """Weak references to all caches that are made."""
    references, make_cache = [], pipe.transformer.make_cache

    def make_noted_cache(*args, **kwargs):
        cache = make_cache(*args, **kwargs)
        references.append(weakref.ref(cache))
        return cache

    monkeypatch.setattr(pipe.transformer, "make_cache", make_noted_cache)
    return references


def num_alive(caches):
    return sum(cache() is not None for cache in caches)


def test_one_cache_is_alive_in_forty_calls(pipe, caches, no_collector):
    alive = []

    def note(pipeline, step, timestep, callback_kwargs):
        alive.append(num_alive(caches))
        return callback_kwargs

    for number in range(40):
        sample(pipe, num_frames=5, refinements=[1] if number % 2 else [], callback_on_step_end=note)
        assert num_alive(caches) == 0
    assert len(caches) == 40 and set(alive) == {1}


def test_sixty_closed_streams_hold_no_cache(pipe, caches, no_collector):
    streams = []
    for number in range(60):
        stream = pipe.stream(PROMPT, window=1, overlap_decoding=number % 2 == 0, **settings(num_frames=None))
        next(stream)
        stream.set_prompt("a red circle moves to the left and up")  # moves into a longer cache
        next(stream)
        stream.close()
        streams.append(stream)
        assert num_alive(caches) == 0
    assert all(stream.is_closed for stream in streams)


def test_calls_and_streams_that_fail_free_their_cache(pipe, caches, no_collector):
    for module in (pipe.transformer.blocks[0].ff, pipe.vae.decoder):
        stream = pipe.stream(PROMPT, **settings())
        next(stream)
        hook = module.register_forward_hook(lambda *arguments: fail())
        with pytest.raises(ZeroDivisionError):
            sample(pipe)
        with pytest.raises(ZeroDivisionError):
            next(stream)
        hook.remove()
        assert num_alive(caches) == 0 and stream.is_closed


# 2. Threads


VIDEOS = [
    {"guidance_scale": 1.0},
    {"guidance_scale": 5.0, "refinements": [2, 1]},
    {"height": 32, "width": 48},
    {"temperature": 0.5, "top_p": 0.9, "window": 1, "sink_size": 1},
    {"prompt": [OTHER_PROMPT, PROMPT], "negative_prompt": "green"},
    {"reencode_at": 3, "guidance_scale": 2.0},
]


@pytest.mark.parametrize("runner", [None, RepeatedRunner], ids=["eager", "recorded"])
def test_threads_and_copies_of_a_pipeline_give_the_bits_of_one_after_the_other(pipe, runner):
    expected = [sample(pipe, **arguments) for arguments in VIDEOS]
    copy = VideoARPipeline.from_pipe(pipe)
    copy.set_progress_bar_config(disable=True)
    if runner is not None:
        pipe._runner = runner()
    start = threading.Barrier(2 * len(VIDEOS))

    def run(number):
        start.wait()
        pipeline, arguments = (pipe, copy)[number % 2], VIDEOS[number // 2]
        if number % 3:
            return sample(pipeline, **arguments)
        return join(list(pipeline.stream(**({"prompt": PROMPT} | settings(**arguments)))))

    with ThreadPoolExecutor(2 * len(VIDEOS)) as pool:
        for number, video in enumerate(pool.map(run, range(2 * len(VIDEOS)))):
            # A stream decodes frame by frame, which may round differently.
            tolerance = {"atol": 0 if number % 3 else 1e-5, "rtol": 0}
            torch.testing.assert_close(video, expected[number // 2], **tolerance)


# 3. Callbacks and interruptions


@pytest.mark.parametrize("overlap_decoding", [False, True])
def test_a_stream_whose_callback_raised_has_ended_and_says_so(pipe, overlap_decoding):
    expected = sample(pipe)
    arguments = settings(num_frames=None, callback_on_step_end=at_step(2 * NUM_SCALES + 1, fail))
    stream = pipe.stream(PROMPT, window=2, overlap_decoding=overlap_decoding, **arguments)
    with pytest.raises(ZeroDivisionError):
        list(stream)
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"ended with an error \(ZeroDivisionError: stop\). Call `stream`"):
            next(stream)
    with pytest.raises(ValueError, match="has ended"):
        stream.set_prompt(OTHER_PROMPT)
    assert torch.equal(sample(pipe), expected)


def test_a_call_that_is_stopped_before_it_begins_has_its_first_frame_unfinished(pipe):
    steps = []
    stream = pipe.stream(PROMPT, **settings(callback_on_step_end=lambda *arguments: steps.append(arguments[1]) or {}))
    stream.stop()
    video = stream.run(lambda: None)
    assert video.shape[1] == 1 and steps == [0] and stream.is_closed
    stream = pipe.stream(PROMPT, **settings())
    stream.stop()
    assert list(stream) == []  # who iterates asks for what is finished


@pytest.mark.parametrize("where", ["decoder", "transformer", "callback"])
def test_a_stream_cancelled_from_the_keyboard_has_ended_and_says_so(pipe, where):
    def cancel(*arguments):
        raise KeyboardInterrupt

    expected = join(list(pipe.stream(PROMPT, **settings())))
    callback = at_step(NUM_SCALES, cancel) if where == "callback" else None
    stream = pipe.stream(PROMPT, **settings(callback_on_step_end=callback))
    assert torch.equal(next(stream), expected[:, :1])
    module = {"decoder": pipe.vae.decoder, "transformer": pipe.transformer.blocks[1]}.get(where)
    hook = module.register_forward_hook(cancel) if module is not None else None
    with pytest.raises(KeyboardInterrupt):
        next(stream)
    if hook is not None:
        hook.remove()
    with pytest.raises(RuntimeError, match="ended with an error \\(KeyboardInterrupt"):
        next(stream)
    assert torch.equal(join(list(pipe.stream(PROMPT, **settings()))), expected)


def test_a_callback_may_call_the_pipeline_and_ask_other_streams(pipe):
    expected, other_expected = sample(pipe, guidance_scale=4.0), sample(pipe, OTHER_PROMPT, height=32)
    other = pipe.stream(OTHER_PROMPT, **settings(height=32))
    other_chunks = []

    def disturb(pipeline, step, timestep, callback_kwargs):
        assert pipeline.guidance_scale == 4.0 and pipeline.current_timestep == step
        if step % NUM_SCALES == 2:
            pipeline("green", num_frames=1, guidance_scale=1.0, refinements=[1])
            other_chunks.append(next(other))
            pipeline._guidance_scale = 4.0
        assert pipeline.guidance_scale == 4.0 and pipeline.current_timestep == step
        return callback_kwargs

    assert torch.equal(sample(pipe, guidance_scale=4.0, callback_on_step_end=disturb), expected)
    # Decoding frame by frame may round differently.
    torch.testing.assert_close(join(other_chunks), other_expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("ask", [next, lambda stream: stream.set_prompt(OTHER_PROMPT)], ids=["next", "set_prompt"])
def test_a_callback_that_asks_its_own_stream_gets_an_error_and_changes_nothing(pipe, ask):
    expected = join(list(pipe.stream(PROMPT, **settings())))

    def ask_and_forgive():
        with pytest.raises(RuntimeError, match="its own callback cannot ask it"):
            ask(stream)

    stream = pipe.stream(PROMPT, **settings(callback_on_step_end=at_step(NUM_SCALES + 1, ask_and_forgive)))
    assert torch.equal(join(list(stream)), expected)
    stream = pipe.stream(PROMPT, **settings(callback_on_step_end=at_step(NUM_SCALES + 1, lambda: ask(stream))))
    with pytest.raises(RuntimeError, match="its own callback cannot ask it"):
        list(stream)
    assert stream.is_closed


@pytest.mark.parametrize("end", ["close", "stop"])
def test_a_callback_may_end_its_own_stream(pipe, end):
    expected = join(list(pipe.stream(PROMPT, **settings())))
    action = at_step(2 * NUM_SCALES + 1, lambda: getattr(stream, end)())
    stream = pipe.stream(PROMPT, **settings(callback_on_step_end=action))
    assert torch.equal(join(list(stream)), expected[:, :5])  # the two latent frames that were finished
    assert stream.is_closed and list(stream) == []


def test_an_interrupted_stream_stays_so_when_others_are_opened(pipe):
    expected = sample(pipe)
    interrupted = pipe.stream(PROMPT, **settings())
    next(interrupted)
    pipe._interrupt = True
    other = pipe.stream(PROMPT, **settings())
    assert torch.equal(sample(pipe), expected)
    assert list(interrupted) == []
    torch.testing.assert_close(join(list(other)), expected, atol=1e-5, rtol=0)


def test_after_a_prompt_that_could_not_be_encoded_the_stream_goes_on_and_takes_another(pipe):
    def run(disturb):
        chunks = []
        with pipe.stream(PROMPT, **settings(negative_prompt="green")) as stream:
            for chunk in stream:
                chunks.append(chunk)
                if len(chunks) == 2:
                    disturb(stream)
                    stream.set_prompt(OTHER_PROMPT)
        return join(chunks)

    def fail_once(stream):
        hook = pipe.text_encoder.register_forward_hook(lambda *arguments: fail())
        with pytest.raises(ZeroDivisionError):
            stream.set_prompt("a black square", negative_prompt="white")
        hook.remove()
        with pytest.raises(ValueError, match="`prompt`"):
            stream.set_prompt([None], negative_prompt="white")

    assert torch.equal(run(fail_once), run(lambda stream: None))
