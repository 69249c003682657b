# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Claims about the folder of a run: who may write into it, and what happens to what is there."""

import json
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from videoar_pipelines.training.run_folder import (
    RunLock,
    keep_metrics_until,
    prepare_folder,
    set_aside_later_checkpoints,
)
from videoar_pipelines.utils.command_line import UsageError


SOURCE = Path(__file__).resolve().parents[2] / "src"
HOLD = "import pathlib, sys; from videoar_pipelines.training.run_folder import RunLock; "
HOLD += "lock = RunLock(pathlib.Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder."""
    environment = os.environ | {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def flags(folder, resume=None, overwrite=False):
    return Namespace(output_dir=folder, resume_from_checkpoint=resume, overwrite_output_dir=overwrite)


def make_run(folder, steps=(2, 4)):
    for step in steps:
        (folder / f"checkpoint-{step}").mkdir(parents=True)
        (folder / f"checkpoint-{step}" / "training_state.json").write_text(json.dumps({"step": step}))
    lines = [json.dumps({"step": step, "loss": 1 / step}) for step in (1, 2, 3, 4)]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_in_use_is_refused_with_its_process_until_that_is_killed(holder, tmp_path):
    with pytest.raises(UsageError, match=f"`--output_dir` .* is in use by process {holder.pid} on .* another folder"):
        prepare_folder(flags(tmp_path, resume="latest"))
    holder.kill()
    holder.wait()
    prepare_folder(flags(tmp_path, resume="latest")).release()


def test_a_lock_is_not_inherited_by_processes_that_read_data(tmp_path):
    lock = RunLock(tmp_path)
    child = os.fork()
    if child == 0:
        try:
            RunLock(tmp_path)
        except UsageError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    lock.release()


def test_a_folder_with_a_run_is_refused_and_left_as_it_is(tmp_path):
    make_run(tmp_path)
    remedies = "holds a run already .checkpoint-2, checkpoint-4, metrics.jsonl.*--resume_from_checkpoint latest.*"
    with pytest.raises(UsageError, match=remedies + "--overwrite_output_dir"):
        prepare_folder(flags(tmp_path))
    # A checkpoint of another run makes this a new run, too.
    elsewhere = make_run(tmp_path / "elsewhere", steps=(6,)) / "checkpoint-6"
    with pytest.raises(UsageError, match="holds a run already"):
        prepare_folder(flags(tmp_path, resume=str(elsewhere)))
    assert {"checkpoint-2", "checkpoint-4", "metrics.jsonl"} < set(names(tmp_path))


@pytest.mark.parametrize("resume", ["latest", "checkpoint-2"])
def test_a_run_is_continued_where_asked(tmp_path, resume):
    make_run(tmp_path)
    prepare_folder(flags(tmp_path, resume=resume)).release()
    assert names(tmp_path) == ["checkpoint-2", "checkpoint-4", "metrics.jsonl", "run.lock"]


def test_overwriting_deletes_the_run_and_nothing_else(tmp_path):
    make_run(tmp_path)
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "my notes.txt").write_text("kept")
    prepare_folder(flags(tmp_path, overwrite=True)).release()
    assert names(tmp_path) == ["my notes.txt", "run.lock"]
    make_run(tmp_path)
    with pytest.raises(UsageError, match="would delete `--resume_from_checkpoint latest`"):
        prepare_folder(flags(tmp_path, resume="latest", overwrite=True))
    assert "checkpoint-4" in names(tmp_path)


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="`--output_dir` .* cannot be written to .Not a directory.: name another"):
        prepare_folder(flags(tmp_path / "file" / "run"))


def test_later_checkpoints_are_set_aside_and_later_metrics_dropped(tmp_path):
    make_run(tmp_path)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 5, "lo')  # what a killed run left
    set_aside_later_checkpoints(tmp_path, 2)
    assert keep_metrics_until(tmp_path, 2) == {"loss": 0.5}
    assert names(tmp_path) == ["checkpoint-2", "metrics.jsonl", "set-aside-checkpoint-4"]
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [1, 2]
