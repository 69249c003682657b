# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
from collections import Counter

import numpy as np
import pytest

from tests.tiny_data import make_tiny_images, make_tiny_videos, write_manifest
from videoar_pipelines.data.clips import ClipSettings
from videoar_pipelines.data.manifest import make_media_table, read_manifest
from videoar_pipelines.evaluation.sample_lists import (
    read_prompt_file,
    samples_of_files,
    samples_of_moving_shapes,
    samples_of_prompts,
    samples_of_ucf101_classes,
)
from videoar_pipelines.moving_shapes.data_set import is_held_out
from videoar_pipelines.utils.video_io import VideoReader


CENTER = ClipSettings(num_frames=5, sizes=((32, 32),), clip_start="center")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return read_manifest(str(make_tiny_videos(tmp_path_factory.mktemp("videos"))))


# 1. Prompts


def test_a_prompt_file_has_a_prompt_a_line(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_bytes("\ufeffa red\u2028circle\r\n\n  a façade \n".encode())
    assert read_prompt_file(path) == ["a red\u2028circle", "a façade"]


@pytest.mark.parametrize(
    "content, message", [(None, "cannot be read"), (b"\xff\xfe\xff", "cannot be read"), (b" \n", "no prompt")]
)
def test_a_prompt_file_without_prompts_is_refused(tmp_path, content, message):
    path = tmp_path / "prompts.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_prompt_file(path)


def test_prompts_are_taken_in_turn():
    samples = samples_of_prompts(["a", "b"], 3)
    assert [(sample.name, sample.prompt) for sample in samples] == [("000000", "a"), ("000001", "b"), ("000002", "a")]
    assert samples_of_prompts(["a", "b"]) == samples[:2]


@pytest.mark.parametrize("num_samples", [1, 101, 2048, 2121])
def test_classes_of_ucf101_are_balanced(num_samples):
    samples = samples_of_ucf101_classes(num_samples)
    counts = Counter(sample.facts["class"] for sample in samples)
    assert len(counts) == min(101, num_samples) and max(counts.values()) - min(counts.values()) <= 1
    assert samples[0].prompt == "Generate a video of a person applying eye makeup"


# 2. Clips of files


def test_captions_and_clips_are_those_of_the_rows(table):
    samples, read_clip = samples_of_files(table, None, CENTER, shuffle=False)
    assert [sample.prompt for sample in samples] == list(table.captions)
    assert [sample.facts["real_file"] for sample in samples] == list(table.files)
    with VideoReader(table.files[0]) as reader:  # 9 frames of 32x32
        assert np.array_equal(read_clip(samples[0]), reader.read(5, 32, 32, start_frame=2))


def test_a_longer_list_of_rows_continues_a_shorter_one(table):
    for shuffle in (False, True):
        longer, _ = samples_of_files(table, 14, CENTER, shuffle)
        shorter, _ = samples_of_files(table, 3, CENTER, shuffle)
        assert longer[:3] == shorter
        for draw in range(2):
            rows = [sample.facts["row"] for sample in longer if sample.facts["draw"] == draw]
            assert sorted(rows) == list(range(len(table))) and (rows == sorted(rows)) != shuffle


def test_another_draw_of_a_row_is_another_part_of_its_video(table):
    samples, read_clip = samples_of_files(table, 2 * len(table), ClipSettings(5, ((32, 32),), seed=3), shuffle=False)
    row = list(table.files).index(next(file for file in table.files if file.endswith("long.mp4")))
    assert not np.array_equal(read_clip(samples[row]), read_clip(samples[row + len(table)]))


def test_rows_that_cannot_be_used_are_refused(table, tmp_path):
    [image] = make_tiny_images(tmp_path, 1)
    no_caption = read_manifest(str(write_manifest(tmp_path / "a.csv", [(image, "an image"), ("b.mp4", " ")])))
    with pytest.raises(ValueError, match="1 rows.*row 1: no caption.*Take them out"):
        samples_of_files(no_caption, None, CENTER, False)
    files = make_media_table([str(tmp_path / image), str(tmp_path / "missing.mp4")], ["an image", "a video"])
    samples, read_clip = samples_of_files(files, None, CENTER, False)
    with pytest.raises(ValueError, match="--given_frames.*image-0.png' is an image"):
        read_clip(samples[0])
    with pytest.raises(ValueError, match="missing.mp4.*cannot be used.*Take it out"):
        read_clip(samples[1])


# 3. Moving shapes


def test_moving_shapes_are_what_their_captions_say():
    samples, read_clip = samples_of_moving_shapes(20, 5, 32, 48, "held_out", seed=7)
    for sample in samples:
        attributes = sample.facts["attributes"]
        assert is_held_out(attributes["shape"], attributes["color"], attributes["motion"])
        assert attributes["color"] in sample.prompt
    on_white = next(sample for sample in samples if sample.facts["attributes"]["background"] == "white")
    clip = read_clip(on_white)
    assert clip.shape == (5, 32, 48, 3) and clip.dtype == np.uint8
    assert (clip > 240).all(axis=-1).mean() > 0.5
    assert samples_of_moving_shapes(4, 5, 32, 48, "held_out", seed=7)[0] == samples[:4]
