# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
import os
import signal

import pytest

from videoar_pipelines.utils.files import complete_or_absent


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "folder" / "file.json"
    with complete_or_absent(path) as temporary_path:
        temporary_path.write_text("new")
        assert not path.exists() and temporary_path.suffix == ".json"
    assert path.read_text() == "new" and list(path.parent.iterdir()) == [path]


def write_half(path, is_folder):
    if is_folder:
        path.mkdir()
        path = path / "file"
    path.write_text("half")


@pytest.mark.parametrize("is_folder", [False, True], ids=["file", "folder"])
def test_what_a_killed_process_left_is_deleted_and_what_others_write_is_not(tmp_path, is_folder):
    path = tmp_path / "video.mp4"
    child = os.fork()
    if child == 0:
        with complete_or_absent(path) as temporary_path:
            write_half(temporary_path, is_folder)
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (left,) = tmp_path.iterdir()
    running = left.with_name(left.name.replace(str(child), str(os.getppid())))
    running.write_text("another process is at it")
    with complete_or_absent(path) as temporary_path:
        temporary_path.write_text("whole")
    assert sorted(tmp_path.iterdir()) == sorted([path, running])


def test_an_error_leaves_what_was_there(tmp_path):
    path = tmp_path / "file.json"
    path.write_text("old")
    with pytest.raises(RuntimeError), complete_or_absent(path) as temporary_path:
        temporary_path.write_text("ne")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_nothing_of_a_folder(tmp_path):
    with pytest.raises(RuntimeError), complete_or_absent(tmp_path / "folder") as temporary_path:
        write_half(temporary_path, is_folder=True)
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
