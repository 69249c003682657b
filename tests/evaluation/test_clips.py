# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Sets of clips: which frames are read of what, how they are resized, and what is refused."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
import torch

from videoar_pipelines.evaluation.clips import (
    alter,
    describe_dump,
    fit_frames,
    open_clips,
    open_samples,
    pass_through,
    resize_frames,
    split_halves,
)
from videoar_pipelines.evaluation.protocols import ClipProtocol
from videoar_pipelines.utils.video_io import save_video


def settings(num_frames=5, size=16, **changes):
    return ClipProtocol(num_frames, size, size, **({"start": "first"} | changes))


def numbered_frames(count, offset=0, size=16):
    """Frames that say which they are: level `10 * frame + offset` everywhere."""
    levels = (10 * np.arange(count) + offset).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, size, size, 3)).copy()


def numbers_of(clip):
    """Which frames a clip `(3, F, H, W)` of numbered frames shows."""
    return ((clip[0, :, 0, 0] + 1) * 12.75).round().int().tolist()


# 1. Resizing


def test_resizing_from_the_corner_is_tensorflows():
    video = torch.tensor([0.0, 3.0, 6.0])[None, None, None, :]  # (1, 1, 1, 3)
    resized = resize_frames(video, 1, 6, "bilinear", False, "corner")
    assert resized.flatten().tolist() == [0, 1.5, 3, 4.5, 6, 6]  # pixel i lies at i / 2, the last one beyond the edge
    smaller = resize_frames(torch.arange(12.0)[None, None, :, None], 4, 1, "bilinear", False, "corner")
    assert smaller.flatten().tolist() == [0, 3, 6, 9]


def test_antialiasing_widens_the_kernel():
    stripes = torch.tensor([1.0, -1.0]).repeat(16)[None, None, None, :].expand(1, 1, 32, 32)
    assert resize_frames(stripes, 8, 8, "bilinear", True).abs().max() < 0.2
    assert resize_frames(stripes, 8, 8, "area", False).abs().max() < 1e-6
    shifted = stripes.roll(1, dims=-1)
    plain = resize_frames(stripes, 7, 7, "bilinear", False)
    assert plain.abs().max() > 0.5 and not torch.allclose(plain, resize_frames(shifted, 7, 7, "bilinear", False))


def test_covering_crops_the_centre_and_squashing_keeps_everything():
    video = torch.linspace(-1, 1, 40).expand(3, 2, 20, 40)  # brightness grows to the right
    covered = fit_frames(video, settings(fit="cover", size=10))
    squashed = fit_frames(video, settings(fit="squash", size=10))
    assert covered.shape == squashed.shape == (3, 2, 10, 10)
    assert covered[0, 0, 0, 0] == pytest.approx(-0.5, abs=0.06) and covered[0, 0, 0, -1] == pytest.approx(
        0.5, abs=0.06
    )
    assert squashed[0, 0, 0, 0] < -0.9 and squashed[0, 0, 0, -1] > 0.9


def test_round_trips():
    video = torch.rand(3, 5, 16, 16, generator=torch.Generator().manual_seed(0)) * 2.4 - 1.2
    clamped = video.clamp(-1, 1)
    assert torch.equal(pass_through(video, "none"), clamped)
    rounded = pass_through(video, "uint8")
    assert (rounded - clamped).abs().max() <= 0.5 / 127.5 + 1e-6
    assert torch.equal(pass_through(rounded, "uint8"), rounded)
    smooth = torch.linspace(-0.8, 0.8, 15)[:, None].expand(3, 5, 15, 17)  # odd sides, which H.264 pads
    compressed = pass_through(smooth, "mp4")
    assert compressed.shape == smooth.shape
    assert 0 < (compressed - smooth).abs().max() < 0.1  # lossy, but not by much


def test_alterations():
    video = torch.arange(5.0)[None, :, None, None].expand(3, 5, 2, 2)
    assert alter(video, "frozen", 0)[0, :, 0, 0].tolist() == [0] * 5
    assert alter(video, "frozen", 0, moving_frames=3)[0, :, 0, 0].tolist() == [0, 1, 2, 2, 2]
    shuffled = alter(video, "shuffled", 0)[0, :, 0, 0].tolist()
    assert sorted(shuffled) == [0, 1, 2, 3, 4] and shuffled != [0, 1, 2, 3, 4]
    assert all(alter(video[:, :2], "shuffled", seed)[0, 0, 0, 0] == 1 for seed in range(20))  # never its own order
    assert alter(video, "none", 0) is video


# 2. Reading


def test_clips_of_arrays_and_videos_are_the_frames_that_are_asked_for(tmp_path):
    np.save(tmp_path / "a.npy", numbered_frames(20))
    save_video(numbered_frames(20), tmp_path / "b.mp4", fps=10)
    for stride in (1, 3):
        clips = open_clips(tmp_path, settings(frame_stride=stride))
        assert len(clips) == 2
        for clip in clips:
            assert clip.shape == (3, 5, 16, 16) and clip.dtype == torch.float32
            assert numbers_of(clip) == list(range(0, 5 * stride, stride))
    assert numbers_of(open_clips(tmp_path / "b.mp4", settings(fps=5))[0]) == [0, 2, 4, 6, 8]


def test_where_a_clip_starts(tmp_path):
    np.save(tmp_path / "a.npy", numbered_frames(20))
    assert numbers_of(open_clips(tmp_path, settings(start="center"))[0])[0] == 7
    starts = {open_clips(tmp_path, settings(start="random"), seed=seed).starts[0] for seed in range(200)}
    assert starts == set(range(16))
    again = open_clips(tmp_path, settings(start="random"), seed=3)
    assert again.starts == open_clips(tmp_path, settings(start="random"), seed=3).starts
    windows = open_clips(tmp_path, settings(windows="all"))
    assert [numbers_of(clip) for clip in windows] == [list(range(first, first + 5)) for first in (0, 5, 10, 15)]


def test_short_files_are_left_out_and_counted(tmp_path):
    np.save(tmp_path / "a.npy", numbered_frames(4))
    np.save(tmp_path / "b.npy", numbered_frames(5))
    clips = open_clips(tmp_path, settings())
    assert len(clips) == 1 and clips.left_out == 1 and clips.files[0].endswith("b.npy")
    with pytest.raises(ValueError, match="1 samples .* have fewer than 5 frames"):
        open_samples(tmp_path, settings())
    with pytest.raises(ValueError, match="a.npy' is too short: 4 frames, but 6 are needed"):
        open_clips(tmp_path, settings(num_frames=6))


def test_videos_slower_than_the_protocol_are_left_out_as_in_training(tmp_path):
    save_video(numbered_frames(20), tmp_path / "slow.mp4", fps=6)
    with pytest.raises(ValueError, match="slow.mp4' is too slow: 6 frames per second, but 12 are asked for"):
        open_clips(tmp_path, settings(fps=12))
    save_video(numbered_frames(20), tmp_path / "video.mp4", fps=12)
    clips = open_clips(tmp_path, settings(fps=12))
    assert clips.left_out == 1 and [numbers_of(clip) for clip in clips] == [[0, 1, 2, 3, 4]]


def test_arrays_have_no_rate_and_give_their_frames(tmp_path):
    np.save(tmp_path / "a.npy", numbered_frames(5))
    assert numbers_of(open_clips(tmp_path, settings(fps=12, start="center"))[0]) == [0, 1, 2, 3, 4]


def test_a_window_beyond_the_end_of_a_damaged_video_is_no_second_first_one(tmp_path):
    frames = np.random.RandomState(0).randint(256, size=(60, 64, 64, 3)).astype(np.uint8)
    save_video(frames, tmp_path / "a.mkv", fps=10)
    contents = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "a.mkv").write_bytes(contents[: len(contents) // 2])
    windows = open_clips(tmp_path, settings(windows="all", size=64))
    assert 3 <= len(windows) <= 6  # the header says 60 frames
    clips = [windows[index] for index in range(len(windows) - 1)]
    assert all((first - second).abs().max() > 0.5 for first, second in itertools.combinations(clips, 2))
    with pytest.raises(ValueError, match="a.mkv.* It is damaged, or its frame rate varies: mend it, or leave it out"):
        dataclasses.replace(windows, starts=(50,), files=windows.files[:1])[0]
    one = open_clips(tmp_path, settings(start="center", size=64), seed=0)
    assert one[0].shape == (3, 5, 64, 64)


def test_a_file_of_many_clips_is_a_set(tmp_path):
    np.savez_compressed(tmp_path / "all.npz", videos=np.stack([numbered_frames(6, offset) for offset in range(4)]))
    clips = open_samples(tmp_path / "all.npz", settings(), num_clips=3)
    assert len(clips) == 3
    levels = [round((clip[0, 0, 0, 0].item() + 1) * 127.5) for clip in clips]
    assert levels == [0, 1, 2]
    with pytest.raises(ValueError, match="all.npz' is too short: 6 frames, but 7 are needed"):
        open_samples(tmp_path / "all.npz", settings(num_frames=7))


def test_a_file_of_no_clips_is_no_set(tmp_path):
    np.save(tmp_path / "none.npy", np.zeros((0, 6, 16, 16, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match="none.npy' is empty"):
        open_clips(tmp_path / "none.npy", settings())


def test_floats_are_taken_in_0_to_1_only(tmp_path):
    np.save(tmp_path / "a.npy", numbered_frames(5) / 255.0)
    assert numbers_of(open_clips(tmp_path, settings(round_trip="none"))[0]) == [0, 1, 2, 3, 4]
    np.save(tmp_path / "a.npy", numbered_frames(5) / 127.5 - 1)
    with pytest.raises(ValueError, match=r"floats in \[0, 1\]"):
        open_clips(tmp_path, settings())[0]
    np.save(tmp_path / "a.npy", np.zeros((5, 3, 16, 16)))
    with pytest.raises(ValueError, match=r"pass \(F, H, W, 3\)"):
        open_clips(tmp_path, settings())


def test_a_draw_of_clips_depends_on_the_seed_alone(tmp_path):
    for index in range(30):
        np.save(tmp_path / f"{index:02d}.npy", numbered_frames(5))
    drawn = [open_clips(tmp_path, settings(), num_clips=10, seed=seed).files for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2] and list(drawn[0]) == sorted(set(drawn[0]))
    with pytest.raises(ValueError, match="has 30 clips, but 31 are asked for"):
        open_clips(tmp_path, settings(), num_clips=31)
    # Samples are not drawn: the first ones are taken.
    assert [file[-6:-4] for file in open_samples(tmp_path, settings(), 3).files] == ["00", "01", "02"]
    with pytest.raises(ValueError, match="needs 31 samples, but .* has 30"):
        open_samples(tmp_path, settings(), 31)


def test_manifests_name_recordings_and_splits(tmp_path):
    rows = [
        ("a.npy", "rec1/cam1.mp4", "train"),
        ("b.npy", "rec1/cam2.mp4", "train"),
        ("c.npy", "rec2/x.mp4", "validation"),
    ]
    for file, _, _ in rows:
        np.save(tmp_path / file, numbered_frames(5))
    lines = [json.dumps({"file": file, "source": source, "split": split}) for file, source, split in rows]
    (tmp_path / "manifest.jsonl").write_text("\n".join(lines))
    manifest = tmp_path / "manifest.jsonl"
    assert open_clips(manifest, settings(), group_column="source").groups == ("rec1", "rec1", "rec2")
    assert len(open_clips(manifest, settings(), split="train")) == 2
    assert [file[-5:] for file in open_clips(manifest, settings(), split="validation").files] == ["c.npy"]
    for column in ("group_column", "file_column"):
        with pytest.raises(ValueError, match=f"`{column}` has no effect"):
            open_clips(tmp_path, settings(), **{column: "source"})
    with pytest.raises(ValueError, match="`split` is 'train', but"):
        open_clips(tmp_path, settings(), split="train")


def test_all_rows_of_a_manifest_are_all_and_its_columns_may_have_other_names_and_types(tmp_path):
    for file in "abcd":
        np.save(tmp_path / f"{file}.npy", numbered_frames(5))
    rows = [("a", "train", 17), ("b", "val", 17), ("c", "", 18), ("d", None, 0)]
    lines = [json.dumps({"path": f"{file}.npy", "split": split, "episode": episode}) for file, split, episode in rows]
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("\n".join(lines))
    clips = open_clips(manifest, settings(), group_column="episode", file_column="path")
    assert clips.groups == ("17", "17", "18", "0") and [file[-5] for file in clips.files] == ["a", "b", "c", "d"]
    manifest.write_text("\n".join([*lines, json.dumps({"path": "a.npy", "episode": " "})]))
    with pytest.raises(ValueError, match="nothing in the column 'episode' for .*a.npy"):
        open_clips(manifest, settings(), group_column="episode", file_column="path")
    with pytest.raises(ValueError, match="no column 'file'"):
        open_clips(manifest, settings())
    manifest.write_text(json.dumps({"file": None}))
    with pytest.raises(ValueError, match="no row that can be used.*no file in the column 'file'"):
        open_clips(manifest, settings())


def test_ucf101_is_read_by_its_lists_and_grouped_by_recording(tmp_path):
    (tmp_path / "ucfTrainTestlist").mkdir()
    names = ["Archery/v_Archery_g08_c01.avi", "Archery/v_Archery_g08_c02.avi", "Biking/v_Biking_g01_c01.avi"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        save_video(numbered_frames(6), (tmp_path / name).with_suffix(".mp4"))
        (tmp_path / name).with_suffix(".mp4").rename(tmp_path / name)
    (tmp_path / "ucfTrainTestlist" / "trainlist01.txt").write_text(f"{names[0]} 1\n{names[1]} 1\n")
    (tmp_path / "ucfTrainTestlist" / "testlist01.txt").write_text(f"{names[2]}\n")
    assert len(open_clips(tmp_path, settings(), split="train")) == 2
    everything = open_clips(tmp_path, settings(), split="all")
    assert everything.groups == ("v_Archery_g08", "v_Archery_g08", "v_Biking_g01")
    assert numbers_of(everything[2]) == [0, 1, 2, 3, 4]


def test_halves_share_no_recording():
    groups = [f"rec{index // 3}" for index in range(31)]
    first, second = split_halves(groups)
    assert sorted(first + second) == list(range(31)) and abs(len(first) - len(second)) <= 3
    assert not {groups[row] for row in first} & {groups[row] for row in second}
    assert split_halves(groups) == (first, second) != split_halves(groups, seed=1)


# 3. Dumps of samples


def test_a_dump_is_read_in_the_order_of_its_records(tmp_path):
    (tmp_path / "videos").mkdir()
    records = []
    for index in range(3):
        np.save(tmp_path / "videos" / f"{index}.npy", numbered_frames(5, offset=index))
        records.append(
            # A line separator of Unicode is no end of a line of JSON.
            {"file": f"videos/{index}.npy", "seed": 7 + index, "prompt": f"p\u2028{index}", "guidance_scale": 4.0}
        )
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in reversed(records)]
    (tmp_path / "samples.jsonl").write_text("".join(lines), encoding="utf-8")
    samples = open_samples(tmp_path, settings())
    assert [file[-5:] for file in samples.files] == ["2.npy", "1.npy", "0.npy"]
    assert describe_dump(tmp_path) == {
        "file": "3 different",
        "seed": "7 to 9",
        "prompt": "3 different",
        "guidance_scale": 4.0,
    }
    assert describe_dump(tmp_path / "videos") == {}
    (tmp_path / "videos" / "1.npy").unlink()
    with pytest.raises(ValueError, match="lacks 1 of 3 samples"):
        open_samples(tmp_path, settings())


def test_a_description_changes_with_the_clips_and_not_with_the_folder(tmp_path):
    descriptions = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "a.npy", numbered_frames(9))
        descriptions.append(open_clips(tmp_path / folder, settings()).describe())
    assert descriptions[0] == descriptions[1]
    clips = open_clips(tmp_path / "one", settings())
    assert clips.altered("frozen").describe() != descriptions[0]
    assert open_clips(tmp_path / "one", settings(start="center")).describe() != descriptions[0]
    np.save(tmp_path / "one" / "a.npy", numbered_frames(9, offset=1))  # as many bytes under the same name
    assert open_clips(tmp_path / "one", settings()).describe() != descriptions[0]
