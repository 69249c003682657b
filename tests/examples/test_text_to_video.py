# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.tiny_components import make_tiny_pipeline
from videoar_pipelines.utils import load_video


SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "inference" / "text_to_video.py"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    make_tiny_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture
def generate(checkpoint, tmp_path, monkeypatch):
    def run_script(output_dir, *arguments):
        size = ["--num_frames", "5", "--height", "64", "--width", "64"]
        common = ["--checkpoint", checkpoint, "--output_dir", tmp_path / output_dir, *size, *arguments]
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, common)])
        runpy.run_path(str(SCRIPT), run_name="__main__")
        return tmp_path / output_dir

    return run_script


def test_the_command_writes_a_video_a_gif_and_a_contact_sheet(generate, capsys):
    folder = generate("outputs", "--prompt", "A red circle, moves/right!", "--seed", 3, "--fps", 4)
    video, fps = load_video(folder / "a-red-circle-moves-right-seed3.mp4")
    assert video.shape == (3, 5, 64, 64) and fps == 4
    with Image.open(folder / "a-red-circle-moves-right-seed3.gif") as gif:
        assert gif.size == (64, 64) and gif.n_frames == 5
    with Image.open(folder / "a-red-circle-moves-right-seed3.png") as sheet:
        assert np.asarray(sheet).ndim == 3
    assert len(list(folder.iterdir())) == 3
    printed = capsys.readouterr().out
    assert all(str(path) in printed for path in folder.iterdir())


def test_the_same_seed_gives_the_same_video_and_another_seed_does_not(generate):
    def read_frames(output_dir, seed):
        folder = generate(output_dir, "--prompt", "a blue square", "--seed", seed)
        return load_video(folder / f"a-blue-square-seed{seed}.mp4")[0]

    # The encoder spreads a pixel that rounds the other way over its block, so the files are compared by their mean.
    first = read_frames("first", 0)
    assert (first - read_frames("second", 0)).abs().mean() < 0.02
    assert (first - read_frames("third", 1)).abs().mean() > 0.1


@pytest.mark.parametrize(
    "arguments", [["--guidance_scale", 1.0], ["--negative_prompt", "green"], ["--dtype", "bfloat16"]]
)
def test_every_option_of_the_sampler_changes_the_video(generate, arguments):
    plain = generate("plain", "--prompt", "a white circle") / "a-white-circle-seed0.mp4"
    changed = generate("changed", "--prompt", "a white circle", *arguments) / "a-white-circle-seed0.mp4"
    assert not load_video(plain)[0].equal(load_video(changed)[0])
