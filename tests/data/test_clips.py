# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
import itertools

import fsspec
import numpy as np
import pytest
import torch

from tests.tiny_data import TINY_VIDEOS, make_broken_files, make_frames, make_tiny_images, make_tiny_videos
from videoar_pipelines.data.buckets import Bucket
from videoar_pipelines.data.clips import (
    ClipSettings,
    MediaClips,
    UnreadableClipError,
    assign_sizes,
    nearest_size,
    probe_size,
    read_in_order,
)
from videoar_pipelines.data.manifest import make_media_table, read_manifest
from videoar_pipelines.utils import VideoReader, load_video, save_video
from videoar_pipelines.utils.video_io import Crop


VIDEO = Bucket(False, 32, 32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    make_tiny_videos(folder)
    return folder


def make_clips(folder, names=None, **settings):
    settings = ClipSettings(**({"num_frames": 5, "sizes": ((32, 32),)} | settings))
    names = list(TINY_VIDEOS) if names is None else names
    return MediaClips(make_media_table([str(folder / name) for name in names], [""] * len(names)), settings)


# 1. Which part of a video


@pytest.mark.parametrize("clip_start", ["random", "center"])
def test_a_start_is_a_pure_function_of_seed_row_and_draw(clip_start):
    settings = ClipSettings(5, ((32, 32),), clip_start=clip_start, seed=1)
    starts = [settings.choose_start(100, 24, row, draw) for row in range(8) for draw in range(8)]
    assert starts == [settings.choose_start(100, 24, row, draw) for row in range(8) for draw in range(8)]
    if clip_start == "center":
        assert set(starts) == {47}
    else:
        assert len(set(starts)) > 30
        other_seed = ClipSettings(5, ((32, 32),), clip_start=clip_start, seed=2)
        assert starts != [other_seed.choose_start(100, 24, row, draw) for row in range(8) for draw in range(8)]


@pytest.mark.parametrize(("sampling", "last_start"), [({}, 5), ({"frame_stride": 2}, 1), ({"fps": 12}, 1)])
def test_random_starts_reach_from_the_first_to_the_last_possible_frame(sampling, last_start):
    settings = ClipSettings(5, ((32, 32),), **sampling)
    starts = {settings.choose_start(10, 24, 0, draw) for draw in range(200)}
    assert starts == set(range(last_start + 1))


@pytest.mark.parametrize(
    "sampling", [{}, {"frame_stride": 2}, {"frame_stride": 3}, {"fps": 8}, {"fps": 7}, {"fps": 30}]
)
def test_every_start_leaves_enough_frames(folder, sampling):
    for name, (num_frames, _, _, fps) in TINY_VIDEOS.items():
        settings = ClipSettings(4, ((32, 32),), **sampling)
        with VideoReader(folder / name) as reader:
            assert reader.num_frames == num_frames and reader.fps == pytest.approx(float(fps))
            try:
                starts = {settings.choose_start(reader.num_frames, reader.fps, 0, draw) for draw in range(50)}
            except UnreadableClipError as error:
                if "too slow" in str(error):
                    continue
                with pytest.raises(ValueError, match="but 4 are needed"):
                    reader.read(4, 32, 32, **sampling)
                continue
            for start in (min(starts), max(starts)):
                assert reader.read(4, 32, 32, **sampling, start_frame=start).shape == (4, 32, 32, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_frames": 0}, "`num_frames` must be at least 1, but is 0"),
        ({"frame_stride": 0}, "`frame_stride` must be at least 1"),
        ({"fps": 0}, "`fps` must be positive, but is 0"),
        ({"fps": 8, "frame_stride": 2}, r"`fps` \(8\) and `frame_stride` \(2\) exclude each other"),
        ({"clip_start": "end"}, "`clip_start` is 'end': pass one of random, center"),
        ({"sizes": ()}, "`sizes` must be"),
        ({"random_crop": 0.5}, "`random_crop` is the largest zoom, at least 1, but is 0.5"),
    ],
)
def test_settings_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ClipSettings(**({"num_frames": 5, "sizes": ((32, 32),)} | arguments))


def test_a_video_slower_than_the_rate_that_is_asked_for_is_refused_and_not_repeated():
    settings = ClipSettings(4, ((32, 32),), fps=30)
    assert settings.choose_start(100, 30000 / 1001, row=0, draw=0) >= 0
    with pytest.raises(UnreadableClipError, match="too slow: 24 frames per second, but 30 are asked for"):
        settings.choose_start(100, 24, row=0, draw=0)


def test_a_random_crop_is_a_pure_function_of_seed_row_and_draw_and_a_flip_comes_every_second_time():
    settings = ClipSettings(5, ((32, 32),), random_crop=2.0, random_flip=True, seed=1)
    crops = [settings.choose_crop(row, draw) for row in range(20) for draw in range(20)]
    assert crops == [settings.choose_crop(row, draw) for row in range(20) for draw in range(20)]
    zooms, places = torch.tensor([crop.zoom for crop in crops]), torch.tensor([crop.place for crop in crops])
    assert 1 <= zooms.min() < 1.05 and 1.95 < zooms.max() <= 2
    assert 0 <= places.min() < 0.05 and 0.95 < places.max() <= 1
    assert 150 < sum(crop.is_mirrored for crop in crops) < 250
    assert ClipSettings(5, ((32, 32),)).choose_crop(0, 0) == Crop()


def test_a_clip_is_cropped_alike_in_all_of_its_frames(folder):
    name = list(TINY_VIDEOS)[0]
    clips = make_clips(folder, [name], random_crop=1.5, random_flip=True, clip_start="center")
    with VideoReader(folder / name) as reader:
        start = clips.settings.choose_start(reader.num_frames, reader.fps, 0, 0)
        for draw in range(6):
            crop = clips.settings.choose_crop(0, draw)
            whole = reader.read(5, *crop.covering_size(reader.displayed_size(), 32, 32), start_frame=start)
            if crop.is_mirrored:
                whole = whole[:, :, ::-1]
            found = clips.read(0, draw, VIDEO)
            places = itertools.product(range(whole.shape[1] - 31), range(whole.shape[2] - 31))
            assert any(np.array_equal(whole[:, top : top + 32, left : left + 32], found) for top, left in places)


# 2. Pixels


@pytest.mark.parametrize("name", TINY_VIDEOS)
def test_a_clip_is_the_part_of_the_video_that_was_chosen(folder, name):
    clips = make_clips(folder, [name])
    with VideoReader(folder / name) as reader:
        whole = reader.read(height=32, width=32)
        for draw in range(3):
            start = clips.settings.choose_start(reader.num_frames, reader.fps, 0, draw)
            np.testing.assert_array_equal(clips.read(0, draw, VIDEO), whole[start : start + 5])


def test_pixels_are_those_of_load_video(folder):
    clips = make_clips(folder, ["plain.mp4"], num_frames=9)
    batch = clips.to_training(clips.collate([clips.read(0, 0, VIDEO)]), VIDEO, "cpu")
    expected, _ = load_video(folder / "plain.mp4", height=32, width=32)
    assert batch["pixel_values"].dtype == torch.float32 and torch.equal(batch["pixel_values"][0], expected)


def test_a_single_frame_of_a_video_is_the_first_of_its_clip(folder):
    clips = make_clips(folder, ["long.mp4"])
    for draw in range(3):
        frame = clips.read(0, draw, Bucket(True, 32, 32))
        np.testing.assert_array_equal(frame, clips.read(0, draw, VIDEO)[:1])


def test_an_image_is_a_clip_of_one_frame(tmp_path):
    names = make_tiny_images(tmp_path)
    clips = make_clips(tmp_path, names)
    assert clips.is_image.all()
    for row in range(4):
        assert (clips.read(row, 0, Bucket(True, 32, 32)) == 40 * row).all()


def test_remote_files_are_read_like_local_ones(folder):
    names = ["long.mp4", "portrait.mkv"]
    for name in names:
        with fsspec.open(f"memory://videos/{name}", "wb") as file:
            file.write((folder / name).read_bytes())
    local = make_clips(folder, names)
    urls = make_media_table([f"memory://videos/{name}" for name in names], ["", ""])
    remote = MediaClips(urls, local.settings)
    for row in range(2):
        np.testing.assert_array_equal(remote.read(row, 1, VIDEO), local.read(row, 1, VIDEO))


def test_every_broken_file_says_what_is_wrong(folder, tmp_path):
    (tmp_path / "plain.mp4").write_bytes((folder / "plain.mp4").read_bytes())
    names = make_broken_files(tmp_path)
    clips = make_clips(tmp_path, names)
    reasons = {}
    for row, name in enumerate(names):
        with pytest.raises(UnreadableClipError) as caught:
            clips.read(row, 0, Bucket(name.endswith(".png"), 32, 32))
        reasons[name] = str(caught.value)
    assert reasons["short.mp4"].startswith("too short: 3 frames at 8 frames per second, but 5 are needed")
    assert "cannot be decoded" in reasons["truncated.mp4"] and "cannot be decoded" in reasons["empty.mp4"]
    assert "cannot be read as an image" in reasons["broken.png"] and "FileNotFoundError" in reasons["missing.mp4"]


def test_a_header_that_promises_too_much_is_forgiven(tmp_path, monkeypatch):
    save_video(make_frames(8, 32, 32), tmp_path / "video.mp4", 8)
    clips = make_clips(tmp_path, ["video.mp4"])
    monkeypatch.setattr(VideoReader, "num_frames", property(lambda reader: 40))
    late = next(draw for draw in range(20) if clips.settings.choose_start(40, 8, 0, draw) > 8)
    with VideoReader(tmp_path / "video.mp4") as reader:
        beginning = reader.read(5, 32, 32)
    np.testing.assert_array_equal(clips.read(0, late, VIDEO), beginning)


# 3. Aspect buckets


def test_a_file_gets_the_size_of_the_nearest_proportions(folder):
    sizes = ((32, 32), (16, 48), (48, 28))
    clips = make_clips(folder, sizes=sizes)
    chosen = {name: sizes[index] for name, index in zip(TINY_VIDEOS, clips.size_indices)}
    assert chosen == {
        "plain.mp4": (32, 32),
        "long.mp4": (32, 32),
        "odd-size.mp4": (32, 32),
        "portrait.mkv": (48, 28),
        "broadcast.mp4": (32, 32),
        "wide.mp4": (16, 48),
    }
    assert clips.read(3, 0, Bucket(False, 48, 28)).shape == (5, 48, 28, 3)


def test_of_equal_proportions_the_nearest_area_is_chosen():
    assert nearest_size(720, 1280, ((90, 160), (180, 320))) == 1
    assert nearest_size(96, 160, ((90, 160), (180, 320))) == 0


def test_sizes_are_read_from_images_and_videos(folder, tmp_path):
    assert probe_size(str(folder / "portrait.mkv"), False) == (64, 36)
    assert probe_size(str(folder / "odd-size.mp4"), False) == (38, 52), "as stored: padded to even sides"
    (name,) = make_tiny_images(tmp_path, 1)
    assert probe_size(str(tmp_path / name), True) == (24, 40)


def test_files_that_cannot_be_looked_into_are_left_out_and_explained(folder, tmp_path):
    (tmp_path / "plain.mp4").write_bytes((folder / "plain.mp4").read_bytes())
    names = ["plain.mp4", *make_broken_files(tmp_path)]
    clips = make_clips(tmp_path, names, sizes=((32, 32), (16, 32)))
    # A video that is too short has a size; this is found out when it is read.
    assert clips.size_indices.tolist() == [0, 0, -1, -1, -1, -1]
    assert sorted(clips.unusable) == [2, 3, 4, 5] and "FileNotFoundError" in clips.unusable[5]


def test_sizes_in_the_manifest_save_the_look_into_the_files(tmp_path):
    (tmp_path / "manifest.csv").write_text("file,caption,height,width\na.mp4,one,720,1280\nb.mp4,two,1280,720\n")
    table = read_manifest(str(tmp_path / "manifest.csv"))
    indices, unreadable = assign_sizes(table, ((16, 32), (32, 16)), range(2))
    assert indices.tolist() == [0, 1] and unreadable == {}


def test_with_one_size_no_file_is_opened(tmp_path):
    table = make_media_table([str(tmp_path / "missing.mp4")], [""])
    indices, unreadable = assign_sizes(table, ((32, 32),), range(1))
    assert indices.tolist() == [0] and unreadable == {}


# 4. All clips once


@pytest.mark.parametrize("num_workers", [0, 2])
def test_reading_in_order_gives_every_clip_once(folder, tmp_path, num_workers):
    for name in TINY_VIDEOS:
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    names = [*TINY_VIDEOS, *make_broken_files(tmp_path), *make_tiny_images(tmp_path, 1)]
    clips = make_clips(tmp_path, names)
    results = {}
    for request, clips_or_reasons in read_in_order(clips, range(1, len(names)), 2, 3, num_workers):
        assert len(clips_or_reasons) == len(request.rows) <= 3
        for row, draw, result in zip(request.rows.tolist(), request.draws.tolist(), clips_or_reasons):
            assert (row, draw) not in results and request.bucket.is_image == clips.is_image[row]
            results[row, draw] = result
    draws = {row: 1 if clips.is_image[row] else 2 for row in range(1, len(names))}
    assert set(results) == {(row, draw) for row, count in draws.items() for draw in range(count)}
    for (row, draw), result in results.items():
        if names[row] in TINY_VIDEOS:
            np.testing.assert_array_equal(result, clips.read(row, draw, VIDEO))
    assert sum(isinstance(result, str) for result in results.values()) == 4 * 2 + 1
