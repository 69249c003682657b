# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""A run that is killed and continued ends where a run that was never killed ends, bit for bit."""

import json
import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.examples.training_scripts import (
    TINY_RUN,
    TRAIN_LORA,
    TRAIN_TEXT_TO_VIDEO,
    TRAIN_TOKENIZER,
    assert_same_contents,
    read_checkpoint,
    run_in_child,
    run_in_two_processes,
    run_script,
    save_tiny_pipeline,
    start_command,
)
from tests.tiny_data import make_tiny_videos
from videoar_pipelines.training import checkpoints
from videoar_pipelines.training.loop import TrainingLoop
from videoar_pipelines.utils.command_line import UsageError


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    """The arguments of every script, with all that has a state."""
    pipeline = save_tiny_pipeline(tmp_path_factory.mktemp("pipeline"))
    adversarial = (
        "--adversarial_weight 0.1 --adversarial_start_step 1 --discriminator_channels 4 --discriminator_layers 2"
    )
    more = "--image_ratio 0.3 --gradient_accumulation_steps 2 --scale_drop_probability 0.3"
    text = f"--pretrained_pipeline {pipeline} --max_sequence_length 16"
    drawn = "--corruption_warmup_steps 3 --frame_window 1 --frame_mask_probability 0.5 --word_drop_probability 0.3"
    return {
        TRAIN_TOKENIZER: [*TINY_RUN, *f"--pretrained_vae {pipeline}/vae {adversarial} {more}".split()],
        TRAIN_TEXT_TO_VIDEO: [*TINY_RUN, *f"{text} --train_text_encoder {drawn}".split()],
        TRAIN_LORA: [*TINY_RUN, *f"{text} --rank 2 --lora_dropout 0.1".split()],
    }


@pytest.fixture(scope="module")
def never_killed(commands, tmp_path_factory):
    """The output folder of every script's uninterrupted run."""
    folders = {}
    for script, arguments in commands.items():
        folders[script] = tmp_path_factory.mktemp(script.stem)
        run_script(script, *arguments, "--output_dir", folders[script])
    return folders


def kill_before(owner, name, condition):
    """Makes the process kill itself when `owner.name` is called with arguments that fulfil the condition."""
    original = getattr(owner, name)

    def killing(*arguments, **keywords):
        if condition(*arguments, **keywords):
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **keywords)

    setattr(owner, name, killing)


def kill_in_step_4():
    kill_before(TrainingLoop, "_end_step", lambda loop: loop.step == 4)


def kill_before_weights_are_written():
    kill_before(checkpoints, "save_sharded", lambda state, folder: "tmp-checkpoint-4" in str(folder))


def kill_between_files():
    kill_before(torch, "save", lambda contents, file: "tmp-checkpoint-4/process" in str(file))


def kill_before_renaming():
    kill_before(Path, "rename", lambda path, target: path.name == "tmp-checkpoint-4")


def kill_before_pruning():
    kill_before(checkpoints, "list_checkpoints", lambda folder: (folder / "checkpoint-4").exists())


def kill_while_pruning():
    def delete_half(folder, **options):
        if folder.name == "tmp-checkpoint-2" and (folder.parent / "checkpoint-4").exists():
            shutil.move(folder / "training_state.json", folder.parent)
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoints.shutil.rmtree = delete_half


# What a child does before it runs a script, and the checkpoint it then leaves as the last.
MOMENTS = {
    kill_in_step_4: 2,
    kill_before_weights_are_written: 2,
    kill_between_files: 2,
    kill_before_renaming: 2,
    kill_before_pruning: 4,
    kill_while_pruning: 4,
}


def assert_continues_exactly(script, arguments, output_dir, never_killed, last):
    written = checkpoints.list_checkpoints(output_dir)
    assert written and written[-1][0] == last
    run_script(script, *arguments, "--output_dir", output_dir, "--resume_from_checkpoint", "latest")
    assert_same_contents(read_checkpoint(never_killed / "checkpoint-6"), read_checkpoint(output_dir / "checkpoint-6"))
    assert not list(output_dir.glob("tmp-*"))


@pytest.mark.parametrize("prepare, last", MOMENTS.items(), ids=lambda value: getattr(value, "__name__", None))
def test_a_run_killed_at_any_moment_continues_exactly(commands, never_killed, tmp_path, prepare, last):
    arguments = [*commands[TRAIN_TEXT_TO_VIDEO], "--checkpoints_total_limit", "1"]

    def run():
        prepare()
        run_script(TRAIN_TEXT_TO_VIDEO, *arguments, "--output_dir", tmp_path)

    assert run_in_child(run) == -signal.SIGKILL
    assert_continues_exactly(TRAIN_TEXT_TO_VIDEO, arguments, tmp_path, never_killed[TRAIN_TEXT_TO_VIDEO], last)
    assert [step for step, _ in checkpoints.list_checkpoints(tmp_path)] == [6]


@pytest.mark.parametrize("script", [TRAIN_TOKENIZER, TRAIN_LORA], ids=lambda script: script.stem)
def test_the_other_scripts_killed_while_saving_continue_exactly(commands, never_killed, tmp_path, script):
    def run():
        kill_before_renaming()
        run_script(script, *commands[script], "--output_dir", tmp_path)

    assert run_in_child(run) == -signal.SIGKILL
    assert_continues_exactly(script, commands[script], tmp_path, never_killed[script], 2)


@pytest.mark.parametrize("script", [TRAIN_TOKENIZER, TRAIN_TEXT_TO_VIDEO], ids=lambda script: script.stem)
def test_validation_leaves_no_trace(commands, never_killed, tmp_path, script):
    run_script(script, *commands[script], "--output_dir", tmp_path, "--validation_steps", 2, "--logging_steps", 1)
    assert len(list((tmp_path / "validation").glob("step-0000002*"))) > 0
    assert_same_contents(
        read_checkpoint(never_killed[script] / "checkpoint-6"), read_checkpoint(tmp_path / "checkpoint-6")
    )


def test_two_processes_that_are_killed_continue_exactly(commands, tmp_path):
    arguments = [*commands[TRAIN_TEXT_TO_VIDEO], "--max_train_steps", "4"]

    def run(*more):
        run_in_two_processes(lambda: run_script(TRAIN_TEXT_TO_VIDEO, *arguments, *more))

    run("--output_dir", tmp_path / "whole")
    own_states = [torch.load(tmp_path / f"whole/checkpoint-4/process-0000{rank}.pt") for rank in range(2)]
    assert not own_states[0]["random_states"]["torch"].equal(own_states[1]["random_states"]["torch"])
    shutil.copytree(tmp_path / "whole" / "checkpoint-2", tmp_path / "killed" / "checkpoint-2")
    run("--output_dir", tmp_path / "killed", "--resume_from_checkpoint", "latest")
    whole, continued = (read_checkpoint(tmp_path / name / "checkpoint-4") for name in ("whole", "killed"))
    assert_same_contents(whole, continued)


def test_a_run_continues_on_another_number_of_processes(commands, tmp_path, caplog):
    arguments = [*commands[TRAIN_TEXT_TO_VIDEO], "--output_dir", tmp_path]
    run_in_two_processes(lambda: run_script(TRAIN_TEXT_TO_VIDEO, *arguments, "--max_train_steps", "2"))
    run_script(TRAIN_TEXT_TO_VIDEO, *arguments, "--resume_from_checkpoint", "checkpoint-2")
    assert "written by 2 processes and is continued by 1" in caplog.text
    assert checkpoints.list_checkpoints(tmp_path)[-1][0] == 6


def test_a_command_killed_from_outside_continues_exactly(commands, never_killed, tmp_path):
    arguments = [*commands[TRAIN_TOKENIZER], "--output_dir", tmp_path]
    process = start_command(sys.executable, TRAIN_TOKENIZER, *arguments, "--checkpoints_total_limit", "1")
    deadline = time.monotonic() + 120
    while not (tmp_path / "checkpoint-2").exists() and time.monotonic() < deadline:
        time.sleep(0.002)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "the run ended before it could be killed"
    last = checkpoints.list_checkpoints(tmp_path)[-1][0]
    assert_continues_exactly(TRAIN_TOKENIZER, arguments, tmp_path, never_killed[TRAIN_TOKENIZER], last)


def signal_in_step_3(number=signal.SIGTERM, rank="0"):
    original = TrainingLoop._end_step

    def end_step(loop):
        if loop.step == 3 and os.environ.get("RANK", "0") == rank:
            os.kill(os.getpid(), number)
        original(loop)

    TrainingLoop._end_step = end_step


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_saves_and_exits_cleanly(commands, never_killed, tmp_path, number):
    arguments = [*commands[TRAIN_TEXT_TO_VIDEO], "--output_dir", tmp_path, "--checkpointing_steps", "100"]

    def run():
        signal_in_step_3(number)
        run_script(TRAIN_TEXT_TO_VIDEO, *arguments)

    assert run_in_child(run) == 0
    assert not (tmp_path / "pipeline").exists()
    assert_continues_exactly(TRAIN_TEXT_TO_VIDEO, arguments, tmp_path, never_killed[TRAIN_TEXT_TO_VIDEO], 3)
    assert (tmp_path / "pipeline" / "model_index.json").exists()


def test_all_processes_save_and_exit_when_one_gets_sigterm(commands, tmp_path):
    arguments = [*commands[TRAIN_TEXT_TO_VIDEO], "--output_dir", tmp_path, "--checkpointing_steps", "100"]

    def run():
        signal_in_step_3(rank="1")
        run_script(TRAIN_TEXT_TO_VIDEO, *arguments)

    run_in_two_processes(run)
    assert [step for step, _ in checkpoints.list_checkpoints(tmp_path)] == [3]
    assert not (tmp_path / "pipeline").exists()


def test_only_the_asked_number_of_checkpoints_is_kept(never_killed):
    for folder in never_killed.values():
        assert [step for step, _ in checkpoints.list_checkpoints(folder)] == [4, 6]


def test_a_checkpoint_that_does_not_exist_is_an_error_that_names_those_that_do(commands, never_killed):
    output_dir = never_killed[TRAIN_TEXT_TO_VIDEO]
    arguments = [*commands[TRAIN_TEXT_TO_VIDEO], "--output_dir", output_dir]
    with pytest.raises(ValueError, match="checkpoint-5.*checkpoint-4, checkpoint-6"):
        run_script(TRAIN_TEXT_TO_VIDEO, *arguments, "--resume_from_checkpoint", "checkpoint-5")


# What is not exact, on purpose


def test_a_run_resumed_at_its_last_step_keeps_its_number_of_steps(commands, tmp_path):
    arguments = [*commands[TRAIN_TOKENIZER], "--output_dir", tmp_path, "--max_train_steps", "2"]
    run_script(TRAIN_TOKENIZER, *arguments)
    first = (tmp_path / "vae/README.md").read_text()
    run_script(TRAIN_TOKENIZER, *arguments, "--resume_from_checkpoint", "latest")
    second = (tmp_path / "vae/README.md").read_text()
    assert "steps: 2" in first and "steps: 2" in second
    assert re.findall(r"\| loss .*", second) == re.findall(r"\| loss .*", first) != []


def test_a_checkpoint_after_the_last_step_is_refused(commands, never_killed):
    arguments = [*commands[TRAIN_TOKENIZER], "--output_dir", never_killed[TRAIN_TOKENIZER], "--max_train_steps", "5"]
    with pytest.raises(UsageError, match="`--max_train_steps` is 5, but .* is of step 6: pass at least 6"):
        run_script(TRAIN_TOKENIZER, *arguments, "--resume_from_checkpoint", "latest")


def test_flags_that_differ_from_the_checkpoint_count_and_are_named(commands, never_killed, tmp_path, caplog):
    shutil.copytree(never_killed[TRAIN_TEXT_TO_VIDEO] / "checkpoint-4", tmp_path / "checkpoint-4")
    changed = ["--learning_rate", "1e-5", "--train_batch_size", "1", "--resume_from_checkpoint", "latest"]
    arguments = [*commands[TRAIN_TEXT_TO_VIDEO], "--output_dir", tmp_path, "--lr_scheduler", "constant", *changed]
    run_script(TRAIN_TEXT_TO_VIDEO, *arguments, "--logging_steps", "1")
    assert "`--learning_rate` was 0.001 in the run of checkpoint-4 and is 1e-05 now: 1e-05 counts" in caplog.text
    assert "`--train_batch_size` was 2 in the run of checkpoint-4 and is 1 now: 1 counts" in caplog.text
    metrics = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["lr"] for line in metrics] == [1e-5, 1e-5]


def test_changed_data_are_refused_in_numbers_and_allowed_by_a_flag(commands, tmp_path, caplog):
    manifest = make_tiny_videos(tmp_path / "videos")
    arguments = [*commands[TRAIN_TOKENIZER], "--output_dir", tmp_path / "run", "--data", manifest]
    run_script(TRAIN_TOKENIZER, *arguments, "--max_train_steps", "2", "--validation_split", "train")
    with open(manifest, "a") as file:
        file.write("plain.mp4,once more\n")
    arguments += ["--resume_from_checkpoint", "latest", "--max_train_steps", "4", "--validation_split", "train"]
    with pytest.raises(ValueError, match=r"\+1 files \(6 then, 7 now\)(.|\n)*--allow_changed_data"):
        run_script(TRAIN_TOKENIZER, *arguments)
    assert checkpoints.list_checkpoints(tmp_path / "run")[-1][0] == 2
    run_script(TRAIN_TOKENIZER, *arguments, "--allow_changed_data")
    assert "+1 files (6 then, 7 now)" in caplog.text
    assert checkpoints.list_checkpoints(tmp_path / "run")[-1][0] == 4
