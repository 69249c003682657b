# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""What visitors of examples/demo get, without its page: neither gradio nor a browser is needed."""

import io
import itertools
import sys
import threading
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from tests.tiny_components import make_tiny_pipeline
from videoar_pipelines.utils import load_video
from videoar_pipelines.utils.video_io import frames_to_uint8, load_image


FOLDER = Path(__file__).resolve().parents[2] / "examples" / "demo"
RED_CIRCLE = FOLDER.parent / "inference" / "red_circle.png"
sys.path.insert(0, str(FOLDER))
try:
    from live_video import MOST_ENDED_VIDEOS, LiveVideo, LiveVideos, Settings, to_jpeg
finally:
    sys.path.remove(str(FOLDER))

# So fast that no test waits for a player.
HURRIED = {"fps": 10_000, "lead_seconds": 10}


@pytest.fixture(scope="module")
def pipe():
    return make_tiny_pipeline()


@pytest.fixture
def videos(pipe):
    return LiveVideos(pipe, Settings(**HURRIED))


def take(video, num_batches):
    """The first batches of a video; it goes on afterwards."""
    return list(itertools.islice(video.frames(), num_batches))


def take_stream(pipe, num_chunks, prompt, seed, next_prompt=None, next_at=None, **arguments):
    """The same from the pipeline itself."""
    batches = []
    generator = torch.Generator("cpu").manual_seed(seed)
    with pipe.stream(prompt, generator=generator, reencode_at=3, **arguments) as stream:
        for chunk in itertools.islice(stream, num_chunks):
            batches.append([to_jpeg(image) for image in frames_to_uint8(chunk[0])])
            if len(batches) == next_at:
                stream.set_prompt(next_prompt)
    return batches


def test_a_visitor_gets_the_stream_of_the_pipeline(pipe, videos):
    batches = take(videos.start("a", " a red circle ", seed=3), 5)
    assert [len(batch) for batch in batches] == [1, 4, 4, 4, 4]
    assert PIL.Image.open(io.BytesIO(batches[0][0])).size == (64, 64)
    assert batches == take_stream(pipe, 5, "a red circle", seed=3)


def test_a_changed_prompt_holds_from_the_next_latent_frame_on(pipe, videos):
    video = videos.start("a", "a red circle moves left", seed=3)
    batches = []
    for batch in video.frames():
        batches.append(batch)
        if len(batches) == 2:
            video.change_prompt("a green square")
            video.change_prompt("a blue square moves right")  # the last one counts
        if len(batches) == 5:
            video.stop()
    assert batches == take_stream(pipe, 5, "a red circle moves left", 3, "a blue square moves right", next_at=2)
    assert batches != take_stream(pipe, 5, "a red circle moves left", 3)


def test_an_image_is_the_first_frame(pipe, videos):
    batches = take(videos.start("a", "a red circle", str(RED_CIRCLE), seed=3), 3)
    image = PIL.Image.fromarray(load_image(RED_CIRCLE, 64, 64))
    assert batches == take_stream(pipe, 3, "a red circle", 3, video=[image])


def test_visitors_at_once_get_what_each_gets_alone(pipe, videos):
    started = {seed: videos.start(str(seed), "a red circle", seed=seed) for seed in (1, 2)}
    taken = {}
    threads = [
        threading.Thread(target=lambda seed=seed, video=video: taken.update({seed: take(video, 4)}))
        for seed, video in started.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken == {seed: take_stream(pipe, 4, "a red circle", seed) for seed in (1, 2)}
    assert taken[1] != taken[2]


def test_one_visitor_too_many_is_refused_until_another_leaves(videos):
    for visitor in ("a", "b"):
        videos.start(visitor, "a red circle")
    with pytest.raises(ValueError, match="2 videos are running.*Try again when a visitor has left"):
        videos.start("c", "a red circle")
    videos.forget("a")
    assert videos.start("c", "a red circle").is_running
    assert videos.num_running == 2


def test_a_video_that_has_ended_stays_until_there_is_a_new_one(pipe, tmp_path):
    videos = LiveVideos(pipe, Settings(most_videos=1, **HURRIED))
    ended = videos.start("a", "a red circle")
    next(ended.frames())
    ended.stop()
    ended.wait_for_end(timeout_seconds=10)
    videos.start("b", "a green square")
    with pytest.raises(ValueError, match="1 videos are running"):
        videos.start("a", "a red circle")
    assert videos.of("a") is ended
    videos.forget("b")


def test_a_new_video_of_a_visitor_ends_his_old_one(pipe):
    videos = LiveVideos(pipe, Settings(most_videos=1, **HURRIED))
    first = videos.start("a", "a red circle")
    frames = first.frames()
    next(frames)
    rest = []
    thread = threading.Thread(target=lambda: rest.extend(frames))
    thread.start()
    second = videos.start("a", "a green square")
    thread.join(timeout=10)
    assert not thread.is_alive() and not first.is_running
    assert second.is_running and videos.of("a") is second


@pytest.mark.parametrize("how", ["stopped", "closed", "failed", "late"])
def test_a_video_that_ends_frees_its_stream(pipe, how):
    videos = LiveVideos(pipe, Settings(longest_seconds=0 if how == "late" else 600, **HURRIED))
    video = videos.start("a", "a red circle")
    frames = video.frames()
    next(frames)
    assert len(pipe._open_streams) == 1
    if how == "stopped":
        video.stop()
        assert list(frames) == []
    elif how == "closed":  # as when the tab is closed
        frames.close()
    elif how == "late":
        assert list(frames) == [] and not video.is_stopped
    else:
        with pytest.raises(ZeroDivisionError):
            frames.throw(ZeroDivisionError)
    assert len(pipe._open_streams) == 0 and not video.is_running and videos.num_running == 0


def test_a_video_is_made_no_faster_than_it_is_watched(pipe):
    fps, lead = 20, 0.1  # four frames last 200 ms, and are made in a quarter of it
    video = LiveVideos(pipe, Settings(fps=fps, lead_seconds=lead)).start("a", "a red circle")
    frames = video.frames()
    next(frames)
    start = time.monotonic()
    for _ in range(4):
        num_shown = video.num_frames
        next(frames)
        # What was made before has been watched, but for the lead.
        assert time.monotonic() - start > num_shown / fps - lead - 0.06
    # A player that paused does not hurry later, so neither does the video.
    time.sleep(0.8)
    next(frames)
    start = time.monotonic()
    next(frames)
    next(frames)
    assert time.monotonic() - start > 4 / fps - lead - 0.06


def test_the_end_of_a_video_is_saved_as_it_was_shown(pipe, tmp_path):
    videos = LiveVideos(pipe, Settings(fps=8, lead_seconds=10, kept_seconds=1))
    video = videos.start("a", "a red circle")
    with pytest.raises(ValueError, match="no frame to save yet"):
        video.save(tmp_path / "video.mp4")
    shown = np.stack([np.asarray(PIL.Image.open(io.BytesIO(file))) for file in sum(take(video, 4), [])])
    video.save(tmp_path / "video.mp4")
    saved, fps = load_video(tmp_path / "video.mp4")
    assert saved.shape == (3, 8, 64, 64) and fps == 8
    saved = ((saved + 1) * 127.5).permute(1, 2, 3, 0).numpy()
    # The codec stores colour at half the size, and these are random weights: between frames the distance is several times as large.
    assert np.abs(saved - shown[-8:]).mean() < np.abs(saved - shown[-9:-1]).mean()


def test_what_cannot_work_is_said_plainly(videos, tmp_path):
    with pytest.raises(ValueError, match="The prompt is empty. Write what the video shows"):
        videos.start("a", "  ")
    with pytest.raises(ValueError, match="There is no video yet. Press Start."):
        videos.of("a")
    broken = tmp_path / "broken.png"
    broken.write_bytes(RED_CIRCLE.read_bytes()[:100])
    with pytest.raises(ValueError, match="The first frame: .*'broken.png' cannot be read as an image") as caught:
        videos.start("a", "a red circle", str(broken))
    assert str(tmp_path) not in str(caught.value)
    video = videos.start("a", "a red circle")
    with pytest.raises(ValueError, match="The prompt is empty"):
        video.change_prompt("")
    video.stop()
    with pytest.raises(ValueError, match="The video has ended"):
        video.change_prompt("a green square")


def test_what_is_kept_of_visitors_who_never_left_is_bounded(videos):
    for visitor in range(MOST_ENDED_VIDEOS + 5):
        videos.start(str(visitor), "a red circle").stop()
    assert len(videos._videos) == MOST_ENDED_VIDEOS + 1
    with pytest.raises(ValueError, match="There is no video yet"):
        videos.of("0")
    assert isinstance(videos.of(str(MOST_ENDED_VIDEOS + 4)), LiveVideo)
