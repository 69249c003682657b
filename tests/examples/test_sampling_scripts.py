# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""The scripts that sample many videos, at tiny size: from their command lines, in one process and in two, and after a kill."""

import json
import signal
import sys

import numpy as np
import pytest

from tests.examples.training_scripts import (
    REPOSITORY,
    run_in_child,
    run_in_processes,
    run_script,
    start_command,
)
from tests.tiny_components import make_tiny_pipeline
from tests.tiny_data import make_tiny_videos
from videoar_pipelines.data.ucf101 import ucf101_caption
from videoar_pipelines.evaluation.vbench_prompts import SHARED_LISTS
from videoar_pipelines.pipelines.many_samples import SampleFolder
from videoar_pipelines.utils import load_video


SAMPLE = REPOSITORY / "examples" / "evaluation" / "sample.py"
SAMPLE_VBENCH = REPOSITORY / "examples" / "evaluation" / "sample_vbench.py"
GENERATE_MANY = REPOSITORY / "examples" / "inference" / "generate_many.py"
TINY = "--num_frames 5 --height 32 --width 32 --batch_size 2 --seed 3".split()
PROMPTS = ["a red circle moves to the right", "a blue square", "a green circle on white", "a square moves up"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    make_tiny_pipeline().save_pretrained(
        folder
    )  # not with the weights before training, which make nothing of a prompt
    return folder


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    path = tmp_path_factory.mktemp("prompts") / "prompts.txt"
    path.write_text("\n\n".join(PROMPTS))
    return path


@pytest.fixture(scope="module")
def vbench(tmp_path_factory):
    """A copy of VBench with three prompts, one of them twice and one in capitals too."""
    path = tmp_path_factory.mktemp("vbench") / "VBench_full_info.json"
    subject = list(SHARED_LISTS["subject_consistency"])
    entries = [
        {"prompt_en": "a red circle.", "dimension": subject},
        {"prompt_en": "A red circle.", "dimension": ["color"], "auxiliary_info": {"color": {"color": "red"}}},
        {"prompt_en": "a red circle.", "dimension": ["scene", "background_consistency"]},
        {"prompt_en": "a still square, façade", "dimension": ["temporal_flickering"]},
    ]
    path.write_text(json.dumps(entries))
    return path


@pytest.fixture(scope="module")
def commands(checkpoint, prompts, vbench, tmp_path_factory):
    """Every script's arguments, and those of sample.py that need data."""
    manifest = make_tiny_videos(tmp_path_factory.mktemp("videos"))
    common = ["--checkpoint", checkpoint, *TINY]
    return {
        "sample": (SAMPLE, [*common, "--ucf101_classes", "--num_samples", 5]),
        "predict": (
            SAMPLE,
            [*common, "--data", manifest, "--given_frames", 1, "--shuffle", "--frame_stride", 2, "--keep_real_clips"],
        ),
        "sample_vbench": (SAMPLE_VBENCH, [*common, "--vbench", vbench]),
        "generate_many": (GENERATE_MANY, [*common, "--prompts", prompts]),
    }


@pytest.fixture(scope="module")
def by_one_process(commands, tmp_path_factory):
    folders = {}
    for name, (script, arguments) in commands.items():
        folders[name] = tmp_path_factory.mktemp(name)
        run_script(script, *arguments, "--output_dir", folders[name])
    return folders


def read(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def records_of(folder):
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()]


COMMANDS = ("sample", "predict", "sample_vbench", "generate_many")


# 1. The same files


@pytest.mark.parametrize("name", COMMANDS)
def test_two_and_three_processes_write_the_files_of_one(commands, by_one_process, tmp_path, name):
    script, arguments = commands[name]
    for number in (2, 3):
        folder = tmp_path / str(number)
        run_in_processes(lambda: run_script(script, *arguments, "--output_dir", folder), number)
        assert read(folder) == read(by_one_process[name])


@pytest.mark.parametrize("name", COMMANDS)
def test_a_killed_run_continues_with_the_same_files(commands, by_one_process, tmp_path, name):
    script, arguments = commands[name]

    def killed_while_writing():
        original, written = SampleFolder._write, []

        def write(folder, frames, path, prompt):
            original(folder, frames, path, prompt)
            written.append(path)
            if len(written) == 3:
                path.rename(folder.folder / ".unfinished" / path.name)  # written, but not yet in its place
                signal.raise_signal(signal.SIGKILL)

        SampleFolder._write = write
        run_script(script, *arguments, "--output_dir", tmp_path)

    assert run_in_child(killed_while_writing) == -signal.SIGKILL
    assert 0 < len(list((tmp_path / "videos").iterdir())) < len(records_of(tmp_path))
    # It was one process, and goes on as two.
    run_in_processes(lambda: run_script(script, *arguments, "--output_dir", tmp_path), 2)
    assert read(tmp_path) == read(by_one_process[name])


def test_torchrun_shares_the_work_and_shows_progress(commands, by_one_process, tmp_path):
    script, arguments = commands["generate_many"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", 2]
    process = start_command(*launcher, script, *arguments, "--output_dir", tmp_path)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "4/4" in output and "videos/min]" in output and f"4 videos in {tmp_path / 'videos'}" in output
    assert read(tmp_path) == read(by_one_process["generate_many"])


# 2. What is in them


def test_records_say_how_a_video_is_made(by_one_process, checkpoint):
    records = records_of(by_one_process["sample"])
    assert [record["file"] for record in records] == [f"videos/{index:06d}.npy" for index in range(5)]
    assert len({record["seed"] for record in records}) == 5
    for record in records:
        assert record["prompt"] == ucf101_caption(record["class"])
        assert record["guidance_scale"] == 3.0 and record["temperature"] == 1.0  # the checkpoint's
        assert record["checkpoint"] == str(checkpoint) and len(record["checkpoint_sha256"]) == 64
        assert (record["num_frames"], record["height"], record["run_seed"]) == (5, 32, 3) and record["commit"]
        video = np.load(by_one_process["sample"] / record["file"])
        assert video.shape == (5, 32, 32, 3) and video.dtype == np.uint8


def test_predictions_come_with_the_real_clips_that_they_continue(by_one_process):
    records = records_of(by_one_process["predict"])
    assert sorted(record["row"] for record in records) == list(range(6))
    for record in records:
        assert record["given_frames"] == 1 and record["clip_start"] == "center"
        real = np.load(by_one_process["predict"] / record["file"].replace("videos", "real"))
        assert real.shape == np.load(by_one_process["predict"] / record["file"]).shape == (5, 32, 32, 3)


def test_vbench_videos_have_the_names_that_the_scorer_looks_for(by_one_process):
    names = {path.name for path in (by_one_process["sample_vbench"] / "videos").iterdir()}
    expected = {f"{prompt} red circle.-{number}.mp4" for prompt in "aA" for number in range(5)}
    # The scorer takes the suffix of any file there for that of all: nothing else may lie among the videos.
    assert names == expected | {f"a still square, façade-{number}.mp4" for number in range(25)}
    [record] = [
        record for record in records_of(by_one_process["sample_vbench"]) if "a red circle.-4" in record["file"]
    ]
    assert record["vbench_prompt"] == record["prompt"] == "a red circle." and record["rewritten_prompts"] is None
    assert record["dimensions"] == [*SHARED_LISTS["subject_consistency"], *SHARED_LISTS["scene"]]


def test_a_part_of_vbench_has_the_videos_of_the_whole(commands, by_one_process, tmp_path):
    script, arguments = commands["sample_vbench"]
    run_script(script, *arguments, "--output_dir", tmp_path, "--dimensions", "color", "--batch_size", 1)
    whole, part = read(by_one_process["sample_vbench"] / "videos"), read(tmp_path / "videos")
    assert part == {f"A red circle.-{number}.mp4": whole[f"A red circle.-{number}.mp4"] for number in range(5)}


def test_rewritten_prompts_keep_the_original_names(commands, by_one_process, tmp_path):
    rewritten = tmp_path / "longer.txt"
    rewritten.write_text("a large red circle\na red circle moves\nnot used\na blue square\n")
    script, arguments = commands["sample_vbench"]
    folder = tmp_path / "run"
    run_script(script, *arguments, "--output_dir", folder, "--rewritten_prompts", rewritten)
    whole = read(by_one_process["sample_vbench"])
    assert read(folder).keys() == whole.keys()
    changed = {name.partition("-")[0] for name, content in read(folder).items() if content != whole[name]}
    assert {"videos/a red circle.", "videos/A red circle.", "videos/a still square, façade"} <= changed
    records = records_of(folder)
    assert {record["prompt"] for record in records} == {"a large red circle", "a red circle moves", "a blue square"}
    assert records[0]["vbench_prompt"] == "a red circle." and records[0]["rewritten_prompts"] == str(rewritten)


def test_generated_files_are_named_after_their_prompts(by_one_process, commands, tmp_path):
    names = sorted(path.name for path in (by_one_process["generate_many"] / "videos").iterdir())
    assert names[0] == "00000-0-a-red-circle-moves-to-the-right.mp4" and len(names) == 4
    video, fps = load_video(by_one_process["generate_many"] / "videos" / names[0])
    assert video.shape == (3, 5, 32, 32) and fps == 8
    script, arguments = commands["generate_many"]
    run_script(script, *arguments, "--output_dir", tmp_path, "--num_videos_per_prompt", 2, "--format", "npy")
    assert len({path.read_bytes() for path in (tmp_path / "videos").iterdir()}) == 8


def test_moving_shapes_need_no_files(checkpoint, tmp_path):
    arguments = ["--checkpoint", checkpoint, *TINY, "--output_dir", tmp_path, "--data", "moving_shapes"]
    run_script(SAMPLE, *arguments, "--split", "validation", "--num_samples", 3, "--given_frames", 1)
    assert [record["data_split"] for record in records_of(tmp_path)] == ["validation"] * 3


# 3. Bad input


@pytest.mark.parametrize(
    "flags, message",
    [
        ("--prompts {tmp}/missing.txt", "missing.txt.*cannot be read"),
        ("--ucf101_classes", "`--num_samples` is needed"),
        ("--ucf101_classes --num_samples 0", "`--num_samples` must be at least 1, but is 0"),
        ("--ucf101_classes --num_samples 2 --batch_size 0", "`--batch_size` must be at least 1, but is 0"),
        ("--ucf101_classes --num_samples 2 --shuffle", "`--shuffle` has no effect without `--data`"),
        (
            "--data moving_shapes --num_samples 2 --clip_start center",
            "`--clip_start` has no effect without `--given_frames`",
        ),
        ("--data moving_shapes --num_samples 2 --shuffle", "`--shuffle` has no effect on moving shapes"),
        ("--data moving_shapes --num_samples 2 --file_column path", "`--file_column` has no effect on moving shapes"),
        ("--data {tmp}/missing --num_samples 2", "`--data` .*missing"),
        ("--ucf101_classes --num_samples 2 --num_frames 6", "`num_frames`.*got 6.*5 and 9"),
        ("--data moving_shapes --num_samples 2 --given_frames 0", "`--given_frames` must be at least 1, but is 0"),
        ("--data moving_shapes --num_samples 2 --given_frames 2", "got 2. The nearest that work are 1 and 5"),
        ("--data moving_shapes --num_samples 2 --given_frames 5", "`num_frames` counts the 5 given frames"),
    ],
)
def test_sample_refuses_what_cannot_work(checkpoint, tmp_path, flags, message):
    arguments = ["--checkpoint", checkpoint, *TINY, "--output_dir", tmp_path / "run"]
    with pytest.raises(ValueError, match=message):
        run_script(SAMPLE, *arguments, *flags.format(tmp=tmp_path).split())
    assert not list(tmp_path.rglob("*.npy"))


def test_other_prompts_do_not_mix_with_those_of_a_folder(commands, by_one_process, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(["a new first line", *PROMPTS]))
    script, arguments = commands["generate_many"]
    folder = by_one_process["generate_many"]
    before = read(folder)
    with pytest.raises(ValueError, match="begun with other settings: line 1 has file.*Pass a new folder"):
        run_script(script, *arguments, "--prompts", prompts, "--output_dir", folder)
    assert read(folder) == before


def test_scripts_refuse_what_their_readers_cannot_read(commands, tmp_path):
    script, arguments = commands["sample_vbench"]
    with pytest.raises(ValueError, match="`--format` is 'npy': VBench's scorer reads mp4"):
        run_script(script, *arguments, "--output_dir", tmp_path, "--format", "npy")
    with pytest.raises(ValueError, match="no list of VBench's prompts"):
        run_script(script, *arguments, "--output_dir", tmp_path, "--vbench", tmp_path)
    script, arguments = commands["generate_many"]
    with pytest.raises(ValueError, match="`--num_videos_per_prompt` must be at least 1, but is 0"):
        run_script(script, *arguments, "--output_dir", tmp_path, "--num_videos_per_prompt", 0)


def test_a_folder_without_real_clips_is_not_continued_with_them(checkpoint, tmp_path):
    arguments = [
        "--checkpoint",
        checkpoint,
        *TINY,
        "--output_dir",
        tmp_path,
        "--data",
        "moving_shapes",
        "--num_samples",
        2,
    ]
    run_script(SAMPLE, *arguments, "--given_frames", 1)
    with pytest.raises(
        ValueError, match="begun with other settings: line 1 has keep_real_clips = False, this run True"
    ):
        run_script(SAMPLE, *arguments, "--given_frames", 1, "--keep_real_clips")
