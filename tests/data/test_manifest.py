# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
import builtins
import csv
import json
import re
import zipfile

import fsspec
import numpy as np
import pytest

from videoar_pipelines.data.manifest import (
    StringTable,
    fingerprint_of_rows,
    is_image_file,
    join_path,
    parent_of,
    read_manifest,
)
from videoar_pipelines.data.ucf101 import UCF101_PHRASES, read_ucf101, ucf101_caption


ROWS = [("a.mp4", "a red circle"), ("b/c.PNG", "ein grüner Kreis, mit Komma"), ("/abs/d.mkv", "two\nlines")]


def write(path, rows, columns=("file", "caption")):
    if path.suffix == ".jsonl":
        path.write_text(
            "".join(json.dumps(dict(zip(columns, row)), ensure_ascii=False) + "\n" for row in rows), "utf-8"
        )
    elif path.suffix == ".parquet":
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.table({name: list(values) for name, values in zip(columns, zip(*rows))}), path)
    else:
        quoted = [",".join('"' + str(value).replace('"', '""') + '"' for value in row) for row in [columns, *rows]]
        path.write_text("\n".join(quoted) + "\n", "utf-8")
    return str(path)


# 1. Manifests


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_all_kinds_of_manifests_read_alike(tmp_path, suffix):
    table = read_manifest(write(tmp_path / f"manifest{suffix}", ROWS))
    assert list(table.files) == [f"{tmp_path}/a.mp4", f"{tmp_path}/b/c.PNG", "/abs/d.mkv"]
    assert list(table.captions) == [caption for _, caption in ROWS]
    assert table.is_image.tolist() == [False, True, False]
    assert table.sizes.tolist() == [[0, 0]] * 3 and table.unusable == {}


def test_columns_can_have_other_names(tmp_path):
    path = write(tmp_path / "manifest.jsonl", [("a.mp4", "text", 720, 1280)], ("path", "text", "height", "width"))
    table = read_manifest(path, file_column="path", caption_column="text")
    assert list(table.captions) == ["text"] and table.sizes.tolist() == [[720, 1280]]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize(("column", "flag"), [("file", "file_column"), ("caption", "caption_column")])
def test_a_missing_column_is_an_error_that_names_those_there_are(tmp_path, suffix, column, flag):
    columns = [name if name != column else "other" for name in ("file", "caption")]
    path = write(tmp_path / f"manifest{suffix}", ROWS, columns)
    with pytest.raises(ValueError, match=rf"has no column '{column}' \(`{flag}`\), only .*other"):
        read_manifest(path)


@pytest.mark.parametrize("content", ["", "file,caption\n"])
def test_an_empty_manifest_is_an_error(tmp_path, content):
    for name in ("manifest.csv", "manifest.jsonl") if content == "" else ("manifest.csv",):
        (tmp_path / name).write_text(content)
        with pytest.raises(ValueError, match="has no rows"):
            read_manifest(str(tmp_path / name))


def test_broken_captions_keep_their_row_and_say_what_is_wrong(tmp_path):
    lines = [
        b'{"file": "a.mp4", "caption": "good"}',
        b'{"file": "b.mp4", "caption": "   "}',
        b'{"file": "c.mp4"}',
        b'{"file": "d.mp4", "caption": ["two", "texts"]}',
        b'{"file": "e.mp4", "caption": "cut \xe2\x82"}',
        b'{"file": "f.mp4", "caption": "half a pair \\ud83d"}',
        b'{"file": "g.mp4", "caption": "no end',
        b'"a string"',
        b'{"caption": "no file"}',
        b'{"file": "h.mp4", "caption": "also good"}',
    ]
    (tmp_path / "manifest.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    table = read_manifest(str(tmp_path / "manifest.jsonl"))
    assert len(table) == 10 and sorted(table.unusable) == list(range(1, 9))
    assert table.captions[9] == "also good" and table.files[9].endswith("/h.mp4")
    for row, reason in [(1, "no caption"), (2, "None"), (3, "two"), (4, "UTF-8"), (5, "UTF-8"), (6, "not valid JSON")]:
        assert reason in table.unusable[row]
    assert "not a JSON object" in table.unusable[7] and "no file" in table.unusable[8]
    assert table.files[4].endswith("/e.mp4"), "a broken caption names its file"
    assert table.files[6].endswith("manifest.jsonl, line 7"), "a broken line names itself"


def test_a_csv_with_a_byte_order_mark_and_short_rows_is_read(tmp_path):
    (tmp_path / "manifest.csv").write_bytes(
        b"\xef\xbb\xbffile,caption\r\na.mp4,text\r\nb.mp4\r\nc.mp4,with \x00 zero\r\n"
    )
    table = read_manifest(str(tmp_path / "manifest.csv"))
    assert table.captions[0] == "text" and sorted(table.unusable) == [1, 2]


def test_a_split_column_chooses_rows(tmp_path):
    rows = [("a.mp4", "one", "train"), ("b.mp4", "two", "validation"), ("c.mp4", "three", "train")]
    path = write(tmp_path / "manifest.csv", rows, ("file", "caption", "split"))
    assert list(read_manifest(path).captions) == ["one", "three"]
    assert list(read_manifest(path, split="validation").captions) == ["two"]
    with pytest.raises(ValueError, match="has no column 'split' to find its 'validation' rows by"):
        read_manifest(write(tmp_path / "other.csv", ROWS), split="validation")


def test_without_a_split_column_the_hash_of_a_file_decides_where_a_run_validates(tmp_path, caplog):
    caplog.set_level("INFO")
    rows = [(f"{number}.mp4", "text") for number in range(400)]
    path = write(tmp_path / "manifest.csv", rows)
    train, held_out = (read_manifest(path, split=split, unsplit="hashed") for split in ("train", "validation"))
    assert sorted([*train.files, *held_out.files]) == sorted(read_manifest(path).files)
    assert 8 <= len(held_out) <= 35  # 20 are expected, with a deviation of 4.4
    assert f"no column 'split': the hashes of the files hold out {len(held_out)} of 400 rows" in caplog.text
    fewer = read_manifest(write(tmp_path / "fewer.csv", rows[::2]), split="validation", unsplit="hashed")
    assert set(fewer.files) == set(held_out.files) & {f"{tmp_path}/{file}" for file, _ in rows[::2]}


def test_few_files_hold_out_one(tmp_path):
    path = write(tmp_path / "manifest.csv", ROWS)
    train, held_out = (read_manifest(path, split=split, unsplit="hashed") for split in ("train", "validation"))
    assert (len(train), len(held_out)) == (2, 1)


def test_without_a_split_column_there_are_no_test_rows(tmp_path):
    path = write(tmp_path / "manifest.csv", ROWS)
    for unsplit in ("train", "hashed"):
        with pytest.raises(ValueError, match="has no column 'split' to find its 'test' rows by"):
            read_manifest(path, split="test", unsplit=unsplit)


def test_rows_without_a_split_may_be_of_any(tmp_path):
    path = write(tmp_path / "manifest.csv", ROWS)
    assert len(read_manifest(path, split="test", unsplit="any")) == len(read_manifest(path, split=None)) == 3
    path = write(
        tmp_path / "split.csv", [("a.mp4", "one", "train"), ("b.mp4", "two", "val")], ("file", "caption", "split")
    )
    assert list(read_manifest(path, unsplit="any").captions) == ["one"]
    assert list(read_manifest(path, split=None).captions) == ["one", "two"]


def test_captions_are_only_asked_for_where_they_are_needed(tmp_path):
    path = write(tmp_path / "manifest.jsonl", [("a.mp4",), ("b.mp4",)], ("file",))
    assert list(read_manifest(path, needs_captions=False).captions) == ["", ""]
    path = write(tmp_path / "captions.jsonl", [("a.mp4", " "), ("b.mp4", " text"), ("c.mp4", 3)])
    table = read_manifest(path, needs_captions=False)
    assert list(table.captions) == ["", "text", ""] and table.unusable == {}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"file": "a.mp4", "caption": "c", "height": Infinity, "width": 1e400}', None),
        ('{"file": "a.mp4", "caption": "c", "height": 1e30, "width": -1}', None),
        ('{"file": "a.mp4", "caption": "c", "height": ' + "9" * 5000 + "}", "not valid JSON: .*digits"),
        ('{"file": "a.mp4", "caption": ' + "[" * 100_000, "not valid JSON"),
        ('{"file": "a.mp4", "caption": ' + "[" * 300 + "]" * 300 + "}", "no caption in the column 'caption'"),
    ],
    ids=["infinity", "no-size", "digits", "nesting", "list"],
)
def test_an_odd_row_ends_nothing(tmp_path, line, problem):
    path = tmp_path / "manifest.jsonl"
    path.write_text('{"file": "b.mp4", "caption": "text"}\n' + line + "\n")
    table = read_manifest(str(path))
    assert len(table) == 2 and table.captions[0] == "text" and table.sizes[1].tolist() == [0, 0]
    if problem is None:
        assert table.unusable == {}
    else:
        assert re.search(problem, table.unusable[1]) and len(table.unusable[1]) < 300


def test_a_caption_of_any_length_is_read_from_csv(tmp_path):
    limit = csv.field_size_limit()
    table = read_manifest(write(tmp_path / "manifest.csv", [("a.mp4", "word " * 40_000), ("b.mp4", "short")]))
    assert [len(caption) for caption in table.captions] == [199_999, 5] and csv.field_size_limit() == limit


def test_parquet_without_pyarrow_says_what_to_do(tmp_path, monkeypatch):
    real_import = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ValueError, match="needs pyarrow: `pip install pyarrow`, or convert it to .jsonl"):
        read_manifest(str(tmp_path / "manifest.parquet"))


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must be one of .csv, .jsonl, .parquet"):
        read_manifest(str(tmp_path / "manifest.txt"))


def test_a_remote_manifest_names_remote_files(tmp_path):
    with fsspec.open("memory://bucket/set/manifest.jsonl", "wt") as file:
        file.write('{"file": "a.mp4", "caption": "one"}\n{"file": "s3://other/b.mp4", "caption": "two"}\n')
    table = read_manifest("memory://bucket/set/manifest.jsonl")
    assert list(table.files) == ["memory://bucket/set/a.mp4", "s3://other/b.mp4"]


def test_a_manifest_in_an_archive_names_files_in_the_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("set/manifest.csv", "file,caption\na.mp4,one\n")
        archive.writestr("set/a.mp4", b"content")
    table = read_manifest(f"zip://set/manifest.csv::{tmp_path}/set.zip")
    with fsspec.open(table.files[0], "rb") as file:
        assert file.read() == b"content"


@pytest.mark.parametrize(
    ("folder", "file", "expected"),
    [
        ("", "a.mp4", "a.mp4"),
        ("/data", "b/a.mp4", "/data/b/a.mp4"),
        ("/data", "/a.mp4", "/a.mp4"),
        ("s3://bucket", "a.mp4", "s3://bucket/a.mp4"),
        ("memory://", "a.mp4", "memory://a.mp4"),
        ("zip://set::s3://bucket/set.zip", "a.mp4", "zip://set/a.mp4::s3://bucket/set.zip"),
    ],
)
def test_paths_are_joined_and_taken_apart(folder, file, expected):
    assert join_path(folder, file) == expected
    if file == "a.mp4":
        assert parent_of(expected) == folder


def test_images_are_told_by_their_suffix():
    assert [is_image_file(name) for name in ("a.JPG", "zip://a.png::s3://b/c.zip", "a.mp4", "png")] == [
        True,
        True,
        False,
        False,
    ]


def test_a_table_of_strings_is_a_list_of_strings():
    strings = ["", "a", "grün", "", "日本語"]
    table = StringTable(strings)
    assert list(table) == strings and len(table) == 5 and table[4] == "日本語"


def test_the_fingerprint_knows_order_and_captions_but_not_folders():
    fingerprint = fingerprint_of_rows(["/data/a.mp4", "/data/b.mp4"], ["one", "two"])
    assert fingerprint == fingerprint_of_rows(["s3://x/a.mp4", "b.mp4"], ["one", "two"])
    assert fingerprint != fingerprint_of_rows(["/data/b.mp4", "/data/a.mp4"], ["two", "one"])
    assert fingerprint != fingerprint_of_rows(["/data/a.mp4", "/data/b.mp4"], ["one", "three"])


# 2. UCF-101


@pytest.fixture(params=["beside the lists", "in UCF-101"])
def ucf101(request, tmp_path):
    lists = tmp_path / "ucfTrainTestlist"
    lists.mkdir()
    train = "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\r\nYoYo/v_YoYo_g25_c02.avi 101\r\n"
    (lists / "trainlist01.txt").write_bytes(train.encode())
    (lists / "testlist01.txt").write_text("Archery/v_Archery_g01_c01.avi\n")
    (lists / "trainlist02.txt").write_text("Archery/v_Archery_g01_c01.avi 3\n")
    if request.param == "in UCF-101":
        (tmp_path / "UCF-101").mkdir()
        return tmp_path, tmp_path / "UCF-101"
    return tmp_path, tmp_path


def test_the_lists_of_ucf101_are_read(ucf101):
    root, videos = ucf101
    table = read_ucf101(str(root))
    assert list(table.files) == [
        f"{videos}/ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi",
        f"{videos}/YoYo/v_YoYo_g25_c02.avi",
    ]
    assert table.captions[0] == "Generate a video of a person applying eye makeup"
    assert not np.any(table.is_image)
    assert read_ucf101(str(root), split="validation").files[0] == f"{videos}/Archery/v_Archery_g01_c01.avi"
    assert read_ucf101(str(root), fold=2).captions[0] == "Generate a video of a person practicing archery"


def test_a_missing_or_empty_list_of_ucf101_is_an_error(ucf101):
    root, _ = ucf101
    with pytest.raises(ValueError, match="has no .*trainlist03.txt'"):
        read_ucf101(str(root), fold=3)
    (root / "ucfTrainTestlist" / "trainlist02.txt").write_text("\n")
    with pytest.raises(ValueError, match="trainlist02.txt' of UCF-101 is empty"):
        read_ucf101(str(root), fold=2)


def test_every_class_of_ucf101_has_a_caption_of_its_own():
    assert len(UCF101_PHRASES) == 101
    assert len({ucf101_caption(name) for name in UCF101_PHRASES}) == 101
    assert list(UCF101_PHRASES) == sorted(UCF101_PHRASES)


def test_other_class_names_are_split_at_their_capitals():
    assert ucf101_caption("FeedingCats") == "Generate a video of feeding cats"


# 3. Frame conditions


def write_conditions(path, cells, files=None):
    """A manifest with a column `action`, of videos if no files are named."""
    files = files or [f"{number}.mp4" for number in range(len(cells))]
    rows = [
        (file, "a caption", cell if path.suffix != ".csv" else json.dumps(cell)) for file, cell in zip(files, cells)
    ]
    return write(path, rows, ("file", "caption", "action"))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_vectors_and_labels_of_latent_frames_are_read(tmp_path, suffix):
    path = write_conditions(tmp_path / f"manifest{suffix}", [[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]])
    actions = read_manifest(path, condition_columns=["action"]).frame_conditions["action"]
    assert actions.dtype == np.float32 and actions.tolist() == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    path = write_conditions(tmp_path / f"manifest{suffix}", [[0, 3], [2, 1]])
    assert read_manifest(path, condition_columns=["action"]).frame_conditions["action"].tolist() == [
        [[0], [3]],
        [[2], [1]],
    ]
    assert read_manifest(path).frame_conditions == {}


def test_an_image_has_one_condition(tmp_path):
    path = write_conditions(tmp_path / "manifest.jsonl", [[[1.0]], [[2.0], [3.0]]], ["a.png", "b.mp4"])
    table = read_manifest(path, condition_columns=["action"])
    assert table.frame_conditions["action"].tolist() == [[[1], [0]], [[2], [3]]] and table.unusable == {}


@pytest.mark.parametrize(
    "cell, reason",
    [
        (None, "no list of finite numbers"),
        ([[1.0, 2.0], [3.0]], "no list of numbers"),
        (["left", "right"], "no list of numbers"),
        (5, "no list of finite numbers"),
        ([1.0, float("nan")], "no list of finite numbers"),
        ([1.0, 2.0, 3.0], "of 3 latent frames and width 1"),
        ([[1.0, 2.0], [1.0, 2.0]], "of 2 latent frames and width 2"),
    ],
)
def test_rows_with_other_conditions_cannot_be_used(tmp_path, cell, reason):
    path = write_conditions(tmp_path / "manifest.jsonl", [[1.0, 2.0], cell, [3.0, 4.0]])
    table = read_manifest(path, condition_columns=["action"])
    assert list(table.unusable) == [1] and reason in table.unusable[1] and "'action'" in table.unusable[1]
    assert table.frame_conditions["action"].tolist() == [[[1], [2]], [[0], [0]], [[3], [4]]]


def test_a_missing_column_of_conditions_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no column 'speed' \\(`condition_columns`\\)"):
        read_manifest(write_conditions(tmp_path / "manifest.jsonl", [[1.0]]), condition_columns=["speed"])
