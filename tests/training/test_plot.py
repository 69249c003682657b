# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""The plot of runs: what is read from their logs, which panels there are, and the files."""

import json
import xml.etree.ElementTree as ElementTree

import pytest
from PIL import Image

from videoar_pipelines.training.plot import choose_panels, main, name_runs, read_metrics


def write_run(folder, *lines):
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def a_line(step, loss):
    return {
        "step": step,
        "loss": loss,
        "token_accuracy/scale_0": 0.5,
        "token_accuracy/scale_10": 0.25,
        "validation/flipped/loss": loss + 0.1,
        "validation/clean/loss": loss - 0.1,
        "validation/clean/token_accuracy/scale_2": 0.125,
        "validation/fvd_of_8_clips": 100 * loss,
    }


def test_steps_that_were_done_again_count_as_they_were_done_last(tmp_path):
    """The run went to step 30, was killed, and continued from a checkpoint of step 10."""
    lines = [a_line(10, 0.6), a_line(20, 0.5), {**a_line(30, 0.4), "validation/loss": 9.0}, a_line(20, 0.3)]
    metrics = read_metrics(write_run(tmp_path / "run", *lines))
    assert metrics["loss"] == {10: 0.6, 20: 0.3}
    assert "validation/loss" not in metrics


def test_a_line_that_is_being_written_is_left_out_and_a_broken_one_is_named(tmp_path):
    path = write_run(tmp_path / "run", a_line(1, 0.6)) / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 2, "lo')
    assert read_metrics(path.parent)["loss"] == {1: 0.6}
    path.write_text("{\n" + path.read_text())
    with pytest.raises(ValueError, match="Line 1 of"):
        read_metrics(path.parent)


def test_runs_are_named_by_what_tells_them_apart(tmp_path):
    assert name_runs([tmp_path / "a", tmp_path / "b"]) == ["a", "b"]
    assert name_runs([tmp_path / "a" / "run", tmp_path / "b" / "run"]) == ["a/run", "b/run"]
    with pytest.raises(ValueError, match="twice"):
        name_runs([tmp_path / "a", tmp_path / "a"])


def test_training_and_held_out_values_of_all_runs_share_a_panel(tmp_path):
    folders = [write_run(tmp_path / name, a_line(1, 0.6), a_line(2, 0.5)) for name in ("a", "b")]
    panels = choose_panels({folder.name: read_metrics(folder) for folder in folders})
    assert list(panels) == [
        "loss",
        "fvd_of_8_clips",
        "token_accuracy/scale_0",
        "token_accuracy/scale_2",
        "token_accuracy/scale_10",
    ]
    drawn = {(curve.run, curve.kind) for curve in panels["loss"]}
    kinds = ("", "validation/flipped/", "validation/clean/")
    assert drawn == {(run, kind) for run in ("a", "b") for kind in kinds}
    assert panels["loss"][0].steps == [1, 2] and panels["loss"][0].values == [0.6, 0.5]


def test_a_command_draws_png_and_svg(tmp_path, capsys):
    folders = [str(write_run(tmp_path / name, a_line(1, 0.6), a_line(2, 0.5))) for name in ("first", "second")]
    main([*folders, "--output", str(tmp_path / "plot.svg")])
    assert capsys.readouterr().out.strip() == str(tmp_path / "plot.svg")
    texts = {"".join(text.itertext()).strip() for text in ElementTree.parse(tmp_path / "plot.svg").iter() if text.text}
    assert {"first", "second", "token accuracy, scale 10", "FVD of 8 clips", "training batches"} <= texts

    main([folders[0], "--output", str(tmp_path / "plot.png"), "--values", "loss"])
    image = Image.open(tmp_path / "plot.png")
    assert len(image.convert("RGB").getcolors(maxcolors=2**24)) > 10 and image.width > 300
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["missing"], "has no metrics.jsonl"),
        (["run", "--output", "plot.jpg"], "ends in .png or .svg"),
        (["run", "--values", "accuracy"], "No run has a value of the names accuracy. There are: fvd_of_8_clips, loss"),
        (["run", "--values", "("], "no regular expression"),
    ],
)
def test_mistakes_are_said_in_a_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "run", a_line(1, 0.6))
    with pytest.raises(SystemExit):
        main(arguments)
    assert message in capsys.readouterr().err
