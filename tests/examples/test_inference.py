# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""The scripts of examples/inference, run from their command lines with the checkpoint of the repository."""

import runpy
import sys
from pathlib import Path

import pytest
import torch

from videoar_pipelines import VideoARPipeline
from videoar_pipelines.moving_shapes.judge import describe
from videoar_pipelines.utils import load_image, load_video, save_video


SCRIPTS = Path(__file__).resolve().parents[2] / "examples" / "inference"
PROMPT = "a large red circle moves to the right on a white background"


@pytest.fixture
def run_script(tmp_path, monkeypatch, capsys):
    def run(name, *arguments):
        """Runs a script; the video it wrote, `(F, 3, H, W)` in [0, 1], and what it printed."""
        output = tmp_path / f"{name}.mp4"
        script = SCRIPTS / f"{name}.py"
        monkeypatch.setattr(sys, "argv", [str(script), "--output", str(output), *map(str, arguments)])
        runpy.run_path(str(script), run_name="__main__")
        printed = capsys.readouterr().out
        assert printed.splitlines()[-1] == str(output)
        return read_frames(output), printed

    return run


def read_frames(path):
    video, fps = load_video(path)
    assert fps == 8
    return video.transpose(0, 1) / 2 + 0.5


def assert_shows(video, **expected):
    recognised = describe(video)
    assert recognised is not None
    assert {name: recognised[name] for name in expected} == expected


# Not the shape: one sample in ten misses it, and which ones depends on the arithmetic of the machine.
RED_ON_WHITE = {"color": "red", "background": "white"}


def test_image_to_video_makes_the_image_move(run_script):
    image_file = SCRIPTS / "red_circle.png"
    video, _ = run_script("image_to_video", "--image", image_file, "--prompt", PROMPT)
    assert video.shape == (17, 3, 128, 128)
    image = torch.tensor(load_image(image_file, 128, 128)).permute(2, 0, 1) / 255
    assert (video[0] - image).abs().mean() < 0.03  # tokenizer and codec
    assert_shows(video, motion="right", **RED_ON_WHITE)


def test_video_continuation_appends_frames_to_a_file(run_script, tmp_path):
    given, _ = run_script("image_to_video", "--image", SCRIPTS / "red_circle.png", "--prompt", PROMPT)
    video, _ = run_script("video_continuation", "--video", tmp_path / "image_to_video.mp4", "--prompt", PROMPT)
    assert video.shape == (25, 3, 128, 128)
    assert (video[:17] - given).abs().mean() < 0.01  # encoded a second time
    assert_shows(video, motion="right", **RED_ON_WHITE)


def test_a_video_shorter_than_the_context_is_continued_from_all_of_it(run_script, tmp_path):
    frames = torch.zeros(5, 128, 128, 3, dtype=torch.uint8)
    save_video(frames.numpy(), tmp_path / "short.mp4", fps=8)
    video, _ = run_script("video_continuation", "--video", tmp_path / "short.mp4", "--prompt", PROMPT)
    assert video.shape == (5 + 8, 3, 128, 128)


def test_stream_to_file_follows_a_prompt_that_changes_half_way(run_script):
    next_prompt = PROMPT.replace("to the right", "down")
    arguments = ["--prompt", PROMPT, "--next_prompt", next_prompt, "--num_frames", 41]
    video, printed = run_script("stream_to_file", *arguments)
    assert video.shape == (41, 3, 128, 128)
    assert [int(line.split()[0]) for line in printed.splitlines()[:-1]] == list(range(1, 42, 4))
    assert_shows(video[:21], motion="right", **RED_ON_WHITE)
    assert_shows(video[-17:], motion="down", **RED_ON_WHITE)


@pytest.mark.parametrize("method", ["window", "reencode"])
def test_long_video_stays_what_the_prompt_says(run_script, method):
    video, _ = run_script("long_video", "--prompt", PROMPT, "--num_frames", 53, "--method", method)
    assert video.shape == (53, 3, 128, 128)
    for start in (0, 17, 34):
        assert_shows(video[start : start + 17], motion="right", **RED_ON_WHITE)


def test_the_unrolled_loop_gives_the_bits_of_a_call(tmp_path, monkeypatch):
    script = runpy.run_path(str(SCRIPTS / "unrolled_loop.py"))
    pipe = VideoARPipeline.from_pretrained("checkpoints/videoar-moving-shapes")
    called = pipe(PROMPT, num_frames=9, generator=torch.Generator().manual_seed(3), output_type="pt").frames
    with torch.no_grad():
        video = script["generate"](pipe, PROMPT, 3, torch.Generator().manual_seed(3))
    assert torch.equal(video.transpose(1, 2) / 2 + 0.5, called)


def test_the_unrolled_loop_writes_a_video(run_script):
    video, _ = run_script("unrolled_loop", "--prompt", PROMPT)
    assert video.shape == (17, 3, 128, 128)
    assert_shows(video, motion="right", **RED_ON_WHITE)
