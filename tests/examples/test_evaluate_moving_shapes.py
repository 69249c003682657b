# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.tiny_components import make_tiny_pipeline


SCRIPTS = Path(__file__).resolve().parents[2] / "examples" / "moving_shapes"


def test_evaluation_writes_a_score_for_every_attribute(tmp_path):
    make_tiny_pipeline().save_pretrained(tmp_path / "checkpoint")
    output_file = tmp_path / "evaluation.json"
    arguments = ["--checkpoint", tmp_path / "checkpoint", "--output_file", output_file, "--device", "cpu"]
    arguments += ["--num_prompts", 2, "--num_clips", 2, "--height", 64, "--width", 64, "--num_workers", 1]
    arguments += ["--refinements", 1]
    subprocess.run([sys.executable, SCRIPTS / "evaluate.py", *map(str, arguments)], check=True, capture_output=True)

    results = json.loads(output_file.read_text())["results"]
    assert set(results) == {"reconstruction", "trained combinations", "never-trained combinations"}
    for scores in results.values():
        psnr = scores.pop("psnr", None)
        assert set(scores) == {"shape", "color", "size", "background", "motion", "all"}
        assert all(0 <= score <= 1 for score in scores.values())
        assert scores["all"] == 0  # random weights draw no shapes
    assert psnr is None  # of generated videos there is no original


@pytest.mark.parametrize("flags", ([], ["--from_first_frame"]))
def test_samples_are_drawn_with_their_prompts(flags, tmp_path, monkeypatch):
    make_tiny_pipeline().save_pretrained(tmp_path / "checkpoint")
    output_file = tmp_path / "images" / "samples.png"
    arguments = ["--checkpoint", tmp_path / "checkpoint", "--output_file", output_file, "--num_frames", 5]
    arguments += ["--max_frames", 3, "--prompts", "a red circle", "a blue square", *flags]
    monkeypatch.setattr(sys, "argv", ["draw_samples.py", *map(str, arguments)])
    runpy.run_path(str(SCRIPTS / "draw_samples.py"), run_name="__main__")
    with Image.open(output_file) as sheet:
        assert sheet.width >= 3 * 64 and sheet.height >= 2 * 64
