# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
import argparse
import re
import runpy
import shlex
from pathlib import Path

import pytest
import torch

from tests.tiny_components import make_tiny_text_encoder, make_tiny_vae
from tests.tiny_data import (
    TINY_VIDEOS,
    make_frames,
    make_tiny_images,
    make_tiny_videos,
    parse_data_arguments,
    write_manifest,
)
from tests.video_files import write_with_codec
from videoar_pipelines import VideoARScheduler
from videoar_pipelines.data.sources import SPLITS, add_data_arguments, find_kind, make_batches
from videoar_pipelines.data.token_shards import ShardSettings, fingerprint_of, round_features, shard_rows
from videoar_pipelines.data.ucf101 import ucf101_caption
from videoar_pipelines.models.quantization import features_to_maps, pack_bits, tokens_per_frame
from videoar_pipelines.moving_shapes.data_set import is_held_out


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    make_tiny_videos(folder)
    return folder


@pytest.fixture(scope="module")
def ucf101(tmp_path_factory):
    """Three classes of two videos each, in the published layout and format."""
    root = tmp_path_factory.mktemp("ucf101")
    lists = {"trainlist01": [], "testlist01": [], "trainlist02": []}
    for number, name in enumerate(["Archery", "Biking", "YoYo"]):
        (root / "UCF-101" / name).mkdir(parents=True)
        for group in (1, 2):
            file = f"{name}/v_{name}_g{group:02d}_c01.avi"
            frames = make_frames(8, 24, 32, seed=number)
            write_with_codec(root / "UCF-101" / file, "mpeg4", frames, fps=25, bf="2")
            lists["trainlist01" if group == 1 else "testlist01"].append(f"{file} {number + 1}" if group == 1 else file)
            if group == 2:
                lists["trainlist02"].append(f"{file} {number + 1}")
    (root / "ucfTrainTestlist").mkdir()
    for name, lines in lists.items():
        (root / "ucfTrainTestlist" / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return root


def take(source, count):
    return [next(source) for _ in range(count)]


# 1. Every kind of data


def test_moving_shapes_need_no_files():
    args = parse_data_arguments("--image_ratio", 0.5)
    batches = take(make_batches(args, 2, seed=3), 8)
    assert {tuple(batch["pixel_values"].shape) for batch in batches} == {(2, 3, 5, 32, 32), (2, 3, 1, 32, 32)}
    assert all(len(set(batch["files"])) == 2 for batch in batches)
    held_out = take(make_batches(args, 2, split="validation"), 4)
    for batches_of_split, expected in ((batches, False), (held_out, True)):
        clips = [clip for batch in batches_of_split for clip in batch["clips"]]
        assert all(is_held_out(clip.shape, clip.color, clip.motion) == expected for clip in clips)


@pytest.mark.parametrize("as_folder", [False, True])
def test_a_manifest_is_named_by_itself_or_by_its_folder(folder, as_folder):
    data = folder if as_folder else folder / "manifest.csv"
    assert find_kind(str(data)) == "manifest"
    batch = next(make_batches(parse_data_arguments("--data", data), 2))
    assert batch["pixel_values"].shape == (2, 3, 5, 32, 32)
    assert batch["captions"] == [f"a video, {file.rpartition('/')[2]}" for file in batch["files"]]


def test_columns_splits_and_repeats_reach_the_data(folder, tmp_path):
    lines = [
        f"{folder / name},{name} text,{split}" for name, split in zip(TINY_VIDEOS, ["train", "validation", "test"] * 2)
    ]
    (tmp_path / "metadata.csv").write_text("\n".join(["path,text,split", *lines]) + "\n")
    flags = ["--data", tmp_path, "--file_column", "path", "--caption_column", "text", "--data_repeats", 4]
    for first, split in enumerate(SPLITS):
        source = make_batches(parse_data_arguments(*flags), 4, split=split)
        assert source.plan.steps_per_epoch == 2
        captions = {caption for batch in take(source, 2) for caption in batch["captions"]}
        assert captions == {f"{name} text" for name in list(TINY_VIDEOS)[first::3]}


def test_ucf101_is_read_in_its_published_layout(ucf101):
    assert find_kind(str(ucf101)) == "ucf101"
    for split, group, flags in (
        ("train", 1, []),
        ("validation", 2, []),
        ("test", 2, []),
        ("train", 2, ["--ucf101_fold", 2]),
    ):
        source = make_batches(parse_data_arguments("--data", ucf101, *flags), 3, split=split)
        batch = next(source)
        assert batch["pixel_values"].shape == (3, 3, 5, 32, 32)
        assert all(f"_g{group:02d}_" in file for file in batch["files"])
        assert set(batch["captions"]) == {ucf101_caption(name) for name in ("Archery", "Biking", "YoYo")}
        assert source.skipped.descriptions == {}
    with pytest.raises(ValueError, match="testlist02.txt"):
        make_batches(parse_data_arguments("--data", ucf101, "--ucf101_fold", 2), 1, split="validation")


@pytest.mark.parametrize(
    ("flags", "frames"),
    [(["--frame_stride", 2], slice(None, None, 2)), (["--fps", 4], slice(None, None, 2)), ([], slice(2, 7))],
)
def test_sampling_flags_reach_the_clips(folder, tmp_path, flags, frames):
    write_manifest(tmp_path / "manifest.csv", [(str(folder / "plain.mp4"), "nine frames at eight per second")])
    common = ["--data", tmp_path, "--clip_start", "center"]
    whole = next(make_batches(parse_data_arguments(*common, "--num_frames", 9), 1))["pixel_values"]
    clip = next(make_batches(parse_data_arguments(*common, *flags), 1))["pixel_values"]
    assert torch.equal(clip, whole[:, :, frames])


def test_data_that_are_nothing_known_are_refused(tmp_path):
    for data in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ValueError, match="is neither 'moving_shapes', nor a manifest .* nor a folder with"):
            find_kind(str(data))


@pytest.mark.parametrize(
    ("data", "flags", "named"),
    [
        ("moving_shapes", ["--fps", 8], "fps"),
        ("moving_shapes", ["--buckets", "32x32"], "buckets"),
        ("manifest", ["--ucf101_fold", 1], "ucf101_fold"),
        ("ucf101", ["--caption_column", "text"], "caption_column"),
    ],
)
def test_a_flag_that_does_nothing_for_the_data_is_refused(folder, ucf101, data, flags, named):
    path = {"moving_shapes": data, "manifest": folder, "ucf101": ucf101}[data]
    with pytest.raises(ValueError, match=f"`--{named}` has no effect on `--data .*leave it out"):
        make_batches(parse_data_arguments("--data", path, *flags), 1)


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="`split` is 'held_out': pass one of train, validation, test"):
        make_batches(parse_data_arguments(), 1, split="held_out")


def test_moving_shapes_have_no_test_split():
    with pytest.raises(ValueError, match="no split 'test': ask for 'validation'"):
        make_batches(parse_data_arguments(), 1, split="test")


@pytest.mark.parametrize("text", ["32", "32x", "x32", "32x32x3", "32*32"])
def test_a_bucket_is_height_by_width(text, capsys):
    parser = argparse.ArgumentParser()
    add_data_arguments(parser)
    assert parser.parse_args(["--buckets", "96x160", "128x128"]).buckets == [(96, 160), (128, 128)]
    with pytest.raises(SystemExit):
        parser.parse_args(["--buckets", text])
    assert f"{text!r} is no HEIGHTxWIDTH" in capsys.readouterr().err


def test_images_alone_are_a_data_set(tmp_path):
    write_manifest(tmp_path / "manifest.csv", [(name, "an image") for name in make_tiny_images(tmp_path, 4)])
    source = make_batches(parse_data_arguments("--data", tmp_path), 2)
    assert {tuple(batch["pixel_values"].shape) for batch in take(source, 4)} == {(2, 3, 1, 32, 32)}


# 2. Features and bits


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    return make_tiny_vae()


def test_rounding_features_hardly_changes_their_bits():
    features = torch.randn(4, 48, 5, 8, 8, generator=torch.Generator().manual_seed(0)) * 48**-0.5
    schedule = VideoARScheduler().get_scale_schedule(8, 8)
    exact, rounded = (features_to_maps(values, schedule).bits for values in (features, round_features(features)))
    assert torch.cat([(a == b).flatten() for a, b in zip(exact, rounded)]).float().mean() > 0.999


def test_bits_do_not_determine_the_bits_of_their_latents():
    # Why error correction from shards needs the features.
    features = torch.randn(4, 48, 5, 8, 8, generator=torch.Generator().manual_seed(0)) * 48**-0.5
    schedule = VideoARScheduler().get_scale_schedule(8, 8)
    maps = features_to_maps(features, schedule)
    again = features_to_maps(maps.latents, schedule).bits
    assert torch.cat([(a == b).flatten() for a, b in zip(maps.bits, again)]).float().mean() == pytest.approx(
        0.79, abs=0.01
    )


# 3. What shards are told apart by


def test_a_fingerprint_changes_with_any_weight_and_any_setting(vae):
    fingerprint = fingerprint_of(vae)
    torch.manual_seed(0)
    same, other_setting = make_tiny_vae(), make_tiny_vae()
    assert fingerprint_of(same) == fingerprint
    next(iter(same.parameters())).data.view(-1)[0] += 0.1
    assert fingerprint_of(same) != fingerprint
    other_setting.register_to_config(norm_type="group_norm")
    assert fingerprint_of(other_setting) != fingerprint


def test_a_model_in_bfloat16_has_the_fingerprint_of_the_one_it_was_rounded_from():
    text_encoder = make_tiny_text_encoder(32)
    fingerprint = fingerprint_of(text_encoder)
    assert fingerprint_of(text_encoder.to(torch.bfloat16)) == fingerprint


@pytest.mark.parametrize(("num_shards", "num_rows"), [(1, 5), (3, 10), (7, 7), (64, 1000)])
def test_shards_divide_the_rows_evenly(num_shards, num_rows):
    parts = [shard_rows(index, num_shards, num_rows) for index in range(num_shards)]
    assert [row for part in parts for row in part] == list(range(num_rows))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_settings_of_shards_survive_their_header():
    settings = ShardSettings(
        vae_fingerprint="a",
        text_encoder_fingerprint=None,
        max_text_length=None,
        num_bits=8,
        stores_features=True,
        num_frames=17,
        num_latent_frames=5,
        scale_schedules={"96x160": ((1, 1), (6, 10)), "128x128": ((1, 1), (8, 8))},
        num_variants=2,
        num_rows=10,
        num_shards=1,
        data={"fps": None, "split": "train"},
    )
    restored = ShardSettings.from_json(settings.to_json())
    assert restored == settings and restored.sizes == ((96, 160), (128, 128)) and settings.differences(restored) == []


# 4. The page about data


DOCS = Path(__file__).resolve().parents[2] / "docs" / "training_data.md"


def documented_commands():
    blocks = re.findall(r"```bash\n(.*?)```", DOCS.read_text(), re.DOTALL)
    return [shlex.split(block.replace("\\\n", " ")) for block in blocks]


@pytest.mark.parametrize("command", documented_commands(), ids=lambda command: " ".join(command)[:60])
def test_documented_commands_are_understood(command):
    (script,) = [word for word in command if word.endswith(".py")]
    arguments = command[command.index(script) + 1 :]
    parsed = runpy.run_path(str(DOCS.parents[1] / script))["parse_args"](arguments)
    assert str(parsed.data) == arguments[arguments.index("--data") + 1]


def test_documented_flags_exist(capsys):
    for name in ("encode_data_set.py", "train_text_to_video.py"):
        with pytest.raises(SystemExit):
            runpy.run_path(str(DOCS.parents[1] / "examples" / "text_to_video" / name))["parse_args"](["--help"])
    known = set(re.findall(r"--[a-z_0-9]+", capsys.readouterr().out))
    mentioned = set(re.findall(r"(?<![\w-])--[a-z_0-9]+", DOCS.read_text())) - {"--array", "--wrap"}
    assert len(mentioned) > 15 and mentioned <= known


def test_the_documented_size_of_a_clip_is_right():
    schedule = VideoARScheduler().get_scale_schedule(8, 8)
    bits = pack_bits(torch.zeros(5, tokens_per_frame(schedule), 48, dtype=torch.bool))
    assert f"| bits | {bits.numel():,} | 6 a token |" in DOCS.read_text()
    assert f"| {5 * 48 * 8 * 8 * 2:,} |" in DOCS.read_text() and f"| {30 * 2048 * 2:,} |" in DOCS.read_text()
