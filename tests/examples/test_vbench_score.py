# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
import json
import runpy
import sys
from pathlib import Path

import pytest

from videoar_pipelines.evaluation.vbench import DIMENSION_NAMES


SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "evaluation" / "vbench_score.py"
ROW = "95.51 97.85 98.83 98.37 61.39 63.42 60.71 94.98 72.88 94.40 90.73 56.14 50.52 22.68 25.11 27.44".split()


@pytest.fixture
def score(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
        runpy.run_path(str(SCRIPT), run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.fixture
def results(tmp_path):
    """What the scorer writes, a file for each dimension."""
    folder = tmp_path / "evaluation_results"
    folder.mkdir()
    for name, number in zip(DIMENSION_NAMES, ROW):
        score = float(number) / 100
        contents = {name: [score, [{"video_path": f"a-{index}.mp4", "video_results": score} for index in range(360)]]}
        (folder / f"results_{name}_eval_results.json").write_text(json.dumps(contents))
    return folder


def test_a_printed_row_gives_the_printed_scores(score):
    lines = score("--row", *ROW).splitlines()
    assert [line.split() for line in lines[-3:]] == [["quality", "82.89"], ["semantic", "77.15"], ["total", "81.74"]]
    assert lines[1].split() == ["subject_consistency", "95.51", "94.74", "1"]


def test_results_are_told_with_all_that_made_them(score, results, tmp_path):
    samples = tmp_path / "samples.jsonl"
    record = {
        "file": "videos/a-0.mp4",
        "prompt": "a",
        "seed": 1,
        "number": 0,
        "dimensions": ["color"],
        "vbench_prompt": "a",
    }
    lines = [record | {"seed": seed, "guidance_scale": 3.0, "commit": "abc", "run_seed": 5} for seed in range(2)]
    samples.write_text("\n".join(map(json.dumps, lines)))
    printed = score(results, "--samples", samples, "--output_file", tmp_path / "vbench.json")
    assert "360 of 360" in printed and "360 of 430" in printed
    assert "guidance_scale: 3.0\ncommit: abc\nrun_seed: 5\nnum_videos: 2" in printed

    report = json.loads((tmp_path / "vbench.json").read_text())
    assert report["total"] == pytest.approx(0.81739, abs=1e-5) and report["missing"] == []
    assert report["samples"] == {"guidance_scale": 3.0, "commit": "abc", "run_seed": 5, "num_videos": 2}
    scene = report["dimensions"]["scene"]
    assert (scene["score"], scene["highest"], scene["videos"], scene["expected_videos"]) == (0.5052, 0.8222, 360, 430)
    assert scene["file"].endswith("results_scene_eval_results.json") and len(scene["file_sha256"]) == 64


def test_missing_dimensions_are_an_error_with_a_table_of_the_others(score, results, tmp_path, capsys):
    (results / "results_color_eval_results.json").unlink()
    with pytest.raises(SystemExit, match="1 of 16 dimensions are missing: color.*--allow_missing"):
        score(results, "--output_file", tmp_path / "vbench.json")
    lines = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()}
    assert lines["color"] == ["missing"] and lines["quality"] == ["82.89"] and lines["total"] == ["-"]
    assert json.loads((tmp_path / "vbench.json").read_text())["total"] is None
    assert score(results, "--allow_missing").splitlines()[-1].split() == ["total", "-"]


@pytest.mark.parametrize("arguments", [[], ["folder", "--row", "1"]])
def test_results_or_a_row_is_needed(score, arguments, capsys):
    with pytest.raises(SystemExit):
        score(*arguments)
    assert "error: Pass result files (or folders with them), or `--row`." in capsys.readouterr().err


def test_an_empty_list_of_samples_is_refused(score, results, tmp_path, capsys):
    (tmp_path / "samples.jsonl").touch()
    with pytest.raises(SystemExit):
        score(results, "--samples", tmp_path / "samples.jsonl")
    assert "samples.jsonl' is empty" in capsys.readouterr().err
