# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
import json
import runpy
import sys
from pathlib import Path

from PIL import Image

from tests.tiny_components import make_tiny_pipeline


SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "moving_shapes" / "draw_long_videos.py"


def test_the_pictures_of_the_docs_and_their_numbers_are_written(tmp_path, monkeypatch, capsys):
    make_tiny_pipeline().save_pretrained(tmp_path / "checkpoint")
    output_dir = tmp_path / "docs" / "images"
    arguments = ["--checkpoint", tmp_path / "checkpoint", "--output_dir", output_dir, "--device", "cpu"]
    arguments += ["--num_prompts", 3, "--batch_size", 2, "--num_frames", 37, "--refinements"]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
    runpy.run_path(str(SCRIPT), run_name="__main__")

    assert {path.name for path in output_dir.iterdir()} == {
        "given_frames.png",
        "accuracy_over_time.svg",
        "accuracy_over_time.json",
    }
    numbers = json.loads((output_dir / "accuracy_over_time.json").read_text())
    accuracies = numbers["accuracy of every 17 frames"]
    assert numbers["settings"]["num_prompts"] == "3"
    for shares in accuracies.values():
        assert list(shares) == ["shape", "color", "size", "background", "motion", "all"]
        assert all(len(over_time) == 2 for over_time in shares.values())  # 37 frames hold 17 twice
        assert all(
            0 <= share <= min(shares[name][time] for name in shares) for time, share in enumerate(shares["all"])
        )
    with Image.open(output_dir / "given_frames.png") as sheet:
        assert sheet.width > 9 * 64
    printed = capsys.readouterr().out
    assert all(name in printed for name in accuracies)
