# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
import argparse
import copy
import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests.tiny_components import make_tiny_pipeline
from tests.tiny_data import (
    TINY_VIDEOS,
    make_broken_files,
    make_tiny_images,
    make_tiny_videos,
    parse_data_arguments,
    write_manifest,
)
from videoar_pipelines import VideoARScheduler
from videoar_pipelines.data.sources import make_batches
from videoar_pipelines.data.token_shards import read_settings, round_features
from videoar_pipelines.models.quantization import flatten_bits
from videoar_pipelines.models.text_encoding import encode_text
from videoar_pipelines.training.transformer_step import batch_to_maps
from videoar_pipelines.training.validation import read_held_out


SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "text_to_video" / "encode_data_set.py"
SIZES = ("--num_frames", 5, "--height", 64, "--width", 64, "--num_workers", 0)
TOLERANT = ("--max_skipped_share", 1)


@pytest.fixture(scope="module")
def pipeline():
    pipeline = make_tiny_pipeline()
    # Sample by sample, and shards clip by clip: then no arithmetic depends on the size of a batch, and all is equal to the bit.
    pipeline.vae.enable_slicing()
    return pipeline


@pytest.fixture(scope="module")
def checkpoint(pipeline, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Videos, images, and files that cannot be used."""
    folder = tmp_path_factory.mktemp("videos")
    make_tiny_videos(folder)
    names = [*TINY_VIDEOS, *make_tiny_images(folder, 3)]
    names[2:2] = make_broken_files(folder)
    write_manifest(folder / "mixed.csv", [(name, "a red circle") for name in names] + [("no-caption.mp4", " ")])
    return folder


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(SCRIPT))


@pytest.fixture(scope="module")
def encode(script, checkpoint, videos):
    def run(output_dir, *flags, data="mixed.csv"):
        common = ["--data", videos / data, "--pretrained_pipeline", checkpoint, "--output_dir", output_dir, *SIZES]
        arguments = [*common, "--max_sequence_length", 16, "--batch_size", 1, *TOLERANT, *flags]
        script["main"](script["parse_args"](list(map(str, arguments))))
        return output_dir

    return run


@pytest.fixture(scope="module")
def shards(encode, tmp_path_factory):
    """Shards with everything in them."""
    flags = ("--store_features", "--num_variants", 4, "--num_shards", 3, "--seed", 2)
    return encode(tmp_path_factory.mktemp("shards") / "shards", *flags)


def make_source(data, pipeline, *flags, batch_size=2, **kwargs):
    args = parse_data_arguments("--data", data, *SIZES, *TOLERANT, *flags)
    models = {"vae": pipeline.vae, "scheduler": pipeline.scheduler, "text_encoder": pipeline.text_encoder}
    return make_batches(args, batch_size, **(models | kwargs))


def take(source, count):
    return [next(source) for _ in range(count)]


def assert_same_training(from_files, from_shards, pipeline, strengths=(0.0, 1.0)):
    for file_batch, shard_batch in zip(from_files, from_shards, strict=True):
        assert file_batch["captions"] == shard_batch["captions"] and file_batch["files"] == shard_batch["files"]
        assert "pixel_values" not in shard_batch
        features = round_features(pipeline.vae.encode(file_batch["pixel_values"]).latents)
        for strength in strengths:
            maps, shard_maps = (
                batch_to_maps(batch, pipeline.scheduler, strength=strength, generator=torch.Generator().manual_seed(5))
                for batch in ({"features": features}, shard_batch)
            )
            assert torch.equal(flatten_bits(maps.bits), flatten_bits(shard_maps.bits))
            assert torch.equal(maps.latents, shard_maps.latents)


# 1. The same batches


@pytest.mark.parametrize(
    "flags",
    [(), ("--image_ratio", 0.5), ("--data_repeats", 2), ("--image_ratio", 0)],
    ids=["", "images", "repeats", "videos"],
)
def test_training_from_shards_and_from_files_gives_the_same_batches(shards, videos, pipeline, flags):
    from_files = make_source(videos / "mixed.csv", pipeline, *flags, seed=2)
    from_shards = make_source(shards, pipeline, *flags, seed=2)
    # More than an epoch: random starts differ from epoch to epoch, and broken files are replaced.
    assert_same_training(take(from_files, 9), take(from_shards, 9), pipeline)
    assert from_files.skipped.descriptions == from_shards.skipped.descriptions != {}
    assert from_files.state_dict() == from_shards.state_dict()


def test_single_frames_of_videos_are_the_first_latent_frames_of_shards(encode, videos, pipeline, tmp_path):
    shards = encode(tmp_path / "shards", "--store_features", data="manifest.csv")
    sources = [make_source(data, pipeline, "--image_ratio", 0.5) for data in (videos / "manifest.csv", shards)]
    from_files, from_shards = (take(source, 6) for source in sources)
    assert {batch["pixel_values"].shape[2] for batch in from_files} == {1, 5}
    assert_same_training(from_files, from_shards, pipeline)


def test_several_sizes_and_a_rate_are_kept(encode, videos, pipeline, tmp_path):
    flags = ("--buckets", "64x64", "32x96", "96x64", "--fps", 12, "--clip_start", "center")
    shards = encode(tmp_path / "shards", "--store_features", *flags, "--num_shards", 2)
    from_files = take(make_source(videos / "mixed.csv", pipeline, *flags, batch_size=1), 8)
    assert len({batch["pixel_values"].shape for batch in from_files}) >= 3
    assert_same_training(from_files, take(make_source(shards, pipeline, batch_size=1), 8), pipeline)


def test_crops_and_mirrored_pictures_are_those_of_training_from_files(encode, videos, pipeline, tmp_path):
    flags = ("--random_crop", 1.5, "--random_flip")
    shards = encode(tmp_path / "shards", "--store_features", "--num_variants", 2, *flags, data="manifest.csv")
    from_files = take(make_source(videos / "manifest.csv", pipeline, *flags), 2)
    assert_same_training(from_files, take(make_source(shards, pipeline), 2), pipeline)
    unchanged = take(make_source(videos / "manifest.csv", pipeline), 2)
    assert not torch.equal(from_files[0]["pixel_values"], unchanged[0]["pixel_values"])


def test_text_states_are_those_of_the_text_encoder(shards, pipeline):
    for batch in take(make_source(shards, pipeline), 4):
        with torch.no_grad():
            states, mask = encode_text(pipeline.tokenizer, pipeline.text_encoder, batch["captions"], 16)
        assert torch.equal(batch["text_mask"], mask)
        assert batch["text_states"].dtype == torch.bfloat16
        # bfloat16 keeps eight bits.
        torch.testing.assert_close(batch["text_states"][mask].float(), states[mask], rtol=2**-8, atol=0)
        assert (batch["text_states"][~mask] == 0).all()


def test_frame_conditions_of_shards_are_those_of_the_manifest(encode, videos, pipeline, tmp_path):
    rows = [
        {"file": str(videos / name), "caption": "a video", "action": [[number, 0.5], [number, 1.5]]}
        for number, name in enumerate(TINY_VIDEOS)
    ]
    (videos / "actions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ("--condition_columns", "action", "--clip_start", "center")
    shards = encode(tmp_path / "shards", "--store_features", *flags, data="actions.jsonl")
    for more in ((), ("--image_ratio", 1)):
        from_files = take(make_source(videos / "actions.jsonl", pipeline, *flags, *more), 4)
        from_shards = take(make_source(shards, pipeline, "--condition_columns", "action", *more), 4)
        assert_same_training(from_files, from_shards, pipeline)
        for file_batch, shard_batch in zip(from_files, from_shards):
            numbers = [list(TINY_VIDEOS).index(Path(file).name) for file in file_batch["files"]]
            expected = torch.tensor([[[number, 0.5], [number, 1.5]] for number in numbers])
            num_frames = 1 if more else 2
            for batch in (file_batch, shard_batch):
                assert batch["frame_conditions"]["action"].equal(expected[:, :num_frames])
    with pytest.raises(ValueError, match="no frame condition 'speed'"):
        make_source(shards, pipeline, "--condition_columns", "speed")
    with pytest.raises(ValueError, match="`clip_start` is 'random': pass 'center'"):
        make_source(videos / "actions.jsonl", pipeline, "--condition_columns", "action")


def test_bits_alone_train_on_clean_maps_and_refuse_corruption(encode, videos, pipeline, tmp_path):
    shards = encode(tmp_path / "shards", "--no_text_states", "--num_variants", 2)
    from_files, from_shards = (take(make_source(data, pipeline), 6) for data in (videos / "mixed.csv", shards))
    assert set(from_shards[0]) == {"bits", "captions", "files"}
    assert_same_training(from_files, from_shards, pipeline, strengths=(0.0,))
    with pytest.raises(ValueError, match="`strength` must be 0 for token shards without features.*`--store_features`"):
        batch_to_maps(from_shards[0], pipeline.scheduler, strength=0.5)


def test_a_token_of_bits_takes_its_bits(encode, tmp_path):
    # 4x4 latent grid: 1 + 4 + 9 + 16 tokens a frame, two latent frames a clip, eight bits a token; features take 16 bits each.
    shards = encode(tmp_path / "shards", "--store_features", data="manifest.csv")
    arrays = safetensors.torch.load_file(shards / "shard-00000.safetensors")
    assert arrays["bits"].dtype == torch.uint8 and arrays["bits"].shape == (len(TINY_VIDEOS) * 2 * 30,)
    assert arrays["features"].dtype == torch.float16 and arrays["features"].shape == (len(TINY_VIDEOS) * 2 * 16 * 8,)


def test_shards_resume_like_files(shards, pipeline):
    never_stopped, stopped = (make_source(shards, pipeline, "--num_workers", workers) for workers in (0, 1))
    take(stopped, 3)
    resumed = make_source(shards, pipeline)
    resumed.load_state_dict(stopped.state_dict())
    for batch, other in zip(take(never_stopped, 6)[3:], take(resumed, 3)):
        assert batch["files"] == other["files"]
        assert torch.equal(flatten_bits(batch["bits"]), flatten_bits(other["bits"]))


# 2. Writing


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_shard_depends_on_its_index_alone(encode, tmp_path):
    flags = ("--num_shards", 3, "--store_features")
    together = contents(encode(tmp_path / "together", *flags))
    encode(tmp_path / "apart", *flags, "--shard_index", 2)
    assert sorted(path.name for path in (tmp_path / "apart").iterdir()) == [
        "shard-00002.jsonl",
        "shard-00002.safetensors",
    ]
    encode(tmp_path / "apart", *flags, "--shard_index", 0, 1)
    assert contents(tmp_path / "apart") == together and len(together) == 6


def test_finished_shards_are_skipped_and_lost_ones_made_again(encode, tmp_path):
    flags = ("--num_shards", 2)
    shards = encode(tmp_path / "shards", *flags)
    before = contents(shards)
    kept = (shards / "shard-00000.safetensors").stat().st_mtime_ns
    (shards / "shard-00001.safetensors").unlink()
    encode(shards, *flags)
    assert contents(shards) == before
    assert (shards / "shard-00000.safetensors").stat().st_mtime_ns == kept


def test_shards_of_other_settings_are_not_mixed_in(encode, tmp_path):
    shards = encode(tmp_path / "shards", "--num_shards", 2, "--shard_index", 0)
    with pytest.raises(
        ValueError, match="`--output_dir` has a shard 0 that differs in num_frames, num_latent_frames, num_shards"
    ):
        encode(shards, "--num_frames", 9, "--num_shards", 3)
    with pytest.raises(ValueError, match="differs in data"):
        encode(shards, "--num_shards", 2, "--seed", 1)


def test_an_interrupted_shard_leaves_nothing(encode, tmp_path, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("videoar_pipelines.data.token_shards.save_file", stop)
    with pytest.raises(KeyboardInterrupt):
        encode(tmp_path / "shards")
    assert list((tmp_path / "shards").iterdir()) == []


def test_others_may_read_what_one_has_written(shards, tmp_path):
    (tmp_path / "ordinary").touch()
    assert {path.stat().st_mode for path in shards.iterdir()} == {(tmp_path / "ordinary").stat().st_mode}


def test_lines_tell_what_became_of_every_row(shards):
    lines = [json.loads(line) for path in sorted(shards.glob("*.jsonl")) for line in path.read_text().splitlines()]
    by_name = {Path(line["file"]).name: line for line in lines}
    assert [line["row"] for line in lines] == list(range(15))
    assert len(by_name["long.mp4"]["clips"]) == 4 and len(by_name["image-0.png"]["clips"]) == 1
    assert "too short" in by_name["short.mp4"]["clips"][0]["unreadable"]
    assert by_name["no-caption.mp4"]["size"] is None and "no caption" in by_name["no-caption.mp4"]["unusable"]


def test_too_many_files_that_cannot_be_read_stop_the_shard(encode, tmp_path):
    with pytest.raises(RuntimeError, match=r"more than the share 0.2 \(`max_skipped_share`\) of 15 clips"):
        encode(tmp_path / "shards", "--max_skipped_share", 0.2)
    assert list((tmp_path / "shards").iterdir()) == []


@pytest.mark.parametrize(
    ("shard_index", "num_shards", "environment", "expected"),
    [
        (None, None, {}, ([0], 1)),
        (None, 3, {}, ([0, 1, 2], 3)),
        ([2], 3, {}, ([2], 3)),
        (None, None, {"ID": 2, "COUNT": 4, "MIN": 0, "STEP": 1}, ([2], 4)),
        (None, 10, {"ID": 2, "COUNT": 4, "MIN": 0, "STEP": 1}, ([2, 6], 10)),
        (None, None, {"ID": 1, "COUNT": 4, "MIN": 1, "STEP": 1}, ([0], 4)),
        (None, 9, {"ID": 30, "COUNT": 4, "MIN": 10, "STEP": 10}, ([2, 6], 9)),
        ([5], 10, {"ID": 2, "COUNT": 4, "MIN": 0, "STEP": 1}, ([5], 10)),
    ],
)
def test_the_tasks_of_a_slurm_array_share_the_shards(script, shard_index, num_shards, environment, expected):
    variables = {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in environment.items()}
    indices, count = script["choose_shards"](shard_index, num_shards, variables)
    assert (list(indices), count) == expected


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--num_shards", 2, "--shard_index", 2), "must be from 0 to 1"),
        (("--num_shards", 0), "`--num_shards` must be at least 1"),
        (("--num_shards", 99), "`--num_shards` is 99, but the data set has 15 rows"),
        (("--num_variants", 0), "`--num_variants` and `--batch_size` must be at least 1"),
        (("--data", "moving_shapes"), "has no files to read"),
        (("--split", "validation", "--random_crop", 1.5), "leave it out with `--split validation`"),
    ],
)
def test_flags_that_make_no_sense_are_refused(encode, tmp_path, flags, message):
    with pytest.raises(ValueError, match=message):
        encode(tmp_path / "shards", *flags)


@pytest.mark.parametrize("flag", ["--vae", "--text_encoder"])
def test_models_have_to_be_named(script, tmp_path, flag):
    given = ["--vae", "somewhere"] if flag == "--text_encoder" else []
    with pytest.raises(ValueError, match=f"`{flag}` or `--pretrained_pipeline` is needed"):
        script["parse_args"](["--output_dir", str(tmp_path), *given])


def test_the_script_runs_from_its_command_line_with_a_file_of_flags(checkpoint, videos, tmp_path):
    flags = {"data": str(videos / "manifest.csv"), "num_frames": 5, "height": 64, "width": 64, "num_workers": 1}
    (tmp_path / "flags.json").write_text(json.dumps(flags))  # JSON is YAML
    command = [sys.executable, SCRIPT, "--config_file", tmp_path / "flags.json", "--vae", checkpoint / "vae"]
    subprocess.run(
        [*command, "--no_text_states", "--output_dir", tmp_path / "shards"], check=True, capture_output=True
    )
    settings = read_settings(tmp_path / "shards" / "shard-00000.safetensors")
    assert settings.num_rows == len(TINY_VIDEOS) and settings.text_encoder_fingerprint is None


# 3. Shards that do not fit


@pytest.fixture(scope="module")
def two_shards(script, checkpoint, videos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    arguments = ["--data", videos / "manifest.csv", "--pretrained_pipeline", checkpoint, "--output_dir", folder]
    script["main"](script["parse_args"](list(map(str, [*arguments, *SIZES, "--num_shards", 2]))))
    return folder


def test_shards_of_another_tokenizer_are_refused(two_shards, pipeline):
    other = make_tiny_pipeline(seed=1)
    with pytest.raises(
        ValueError,
        match="were made by a tokenizer whose encoder has other weights or settings. Encode the data set again",
    ):
        make_source(two_shards, pipeline, vae=other.vae)
    make_source(two_shards, pipeline)


def test_shards_go_with_any_decoder_of_their_tokenizer(two_shards, pipeline):
    other = copy.deepcopy(pipeline.vae)
    for parameter in other.decoder.parameters():
        parameter.data.add_(0.1)
    make_source(two_shards, pipeline, vae=other)
    other.encoder.conv_in.bias.data.add_(0.1)
    with pytest.raises(ValueError, match="whose encoder has other weights"):
        make_source(two_shards, pipeline, vae=other)


def test_shards_of_another_text_encoder_are_refused(two_shards, pipeline):
    other = make_tiny_pipeline(seed=1)
    with pytest.raises(ValueError, match="were made by a text encoder of other weights"):
        make_source(two_shards, pipeline, text_encoder=other.text_encoder)
    make_source(two_shards, pipeline, text_encoder=None)


def test_shards_of_another_scale_schedule_are_refused(two_shards, pipeline):
    scheduler = VideoARScheduler(scale_schedules={"4x4": [[1, 1], [2, 2], [4, 4]]})
    with pytest.raises(
        ValueError, match=r"have the scale schedule \(\(1, 1\), .* for 64x64 pixels, the scheduler has"
    ):
        make_source(two_shards, pipeline, scheduler=scheduler)


def test_missing_shards_are_named(two_shards, pipeline, tmp_path):
    shutil.copy(two_shards / "shard-00001.safetensors", tmp_path)
    shutil.copy(two_shards / "shard-00001.jsonl", tmp_path)
    with pytest.raises(ValueError, match="lacks 1 of 2 shards: run encode_data_set.py with `--shard_index 0`"):
        make_source(tmp_path, pipeline)


def test_shards_of_two_settings_are_refused(two_shards, pipeline, encode, tmp_path):
    encode(tmp_path / "shards", "--num_shards", 2, "--num_variants", 2, data="manifest.csv")
    for name in ("shard-00001.safetensors", "shard-00001.jsonl"):
        shutil.copy(two_shards / name, tmp_path / "shards" / name)
    with pytest.raises(ValueError, match="Shards 0 and 1 in .* differ in .*num_variants"):
        make_source(tmp_path / "shards", pipeline)


def test_other_safetensors_files_are_no_shards(tmp_path, pipeline):
    safetensors.torch.save_file({"bits": torch.zeros(1)}, tmp_path / "shard-00000.safetensors")
    with pytest.raises(ValueError, match="shard-00000.safetensors` is no token shard"):
        make_source(tmp_path, pipeline)


@pytest.mark.parametrize(
    ("flags", "kwargs", "message"),
    [
        (("--num_frames", 9), {}, "hold clips of `--num_frames 5` at `--height 64 --width 64`, but 9 frames of 64x64"),
        (("--height", 32), {}, "but 5 frames of 32x64 are asked for"),
        (("--fps", 8), {}, "`--fps` has no effect on `--data .*token shards"),
        ((), {"split": "validation"}, "were encoded from the split 'train', but 'validation' is asked for"),
        ((), {"vae": None}, "holds token shards: they train a transformer"),
    ],
)
def test_flags_that_do_not_fit_the_shards_are_refused(two_shards, pipeline, flags, kwargs, message):
    with pytest.raises(ValueError, match=message):
        make_source(two_shards, pipeline, *flags, **kwargs)


def test_texts_longer_than_those_of_the_run_are_refused_before_it_starts(two_shards, pipeline):
    source = make_source(two_shards, pipeline)
    longest = max(batch["text_mask"].sum(dim=1).max().item() for batch in take(source, 4))

    def open_with(**flags):
        args = parse_data_arguments("--data", two_shards, *SIZES)
        vars(args).update(flags)
        return make_batches(args, 2, vae=pipeline.vae, scheduler=pipeline.scheduler)

    open_with(max_sequence_length=longest)
    message = f"texts of up to {longest} tokens, but `--max_sequence_length` is {longest - 1}: pass at least {longest}"
    with pytest.raises(ValueError, match=message):
        open_with(max_sequence_length=longest - 1)
    open_with(max_sequence_length=longest - 1, train_text_encoder=True)  # then captions are encoded


def test_flags_for_videos_go_with_shards_where_the_run_validates_on_videos(two_shards, videos, pipeline):
    args = parse_data_arguments("--data", two_shards, *SIZES, *TOLERANT, "--fps", 4)
    args.validation_data, args.validation_split, args.validation_batches = str(videos / "manifest.csv"), "train", 1
    models = {"vae": pipeline.vae, "scheduler": pipeline.scheduler}
    assert "bits" in next(make_batches(args, 2, **models))
    (held_out,) = read_held_out(args, 1, **models)
    assert "pixel_values" in held_out
    args.fps = None
    for flag, value in (
        ("ucf101_fold", 2),
        ("random_flip", True),
        ("random_crop", 1.5),
    ):  # the last two are for training
        changed = argparse.Namespace(**vars(args) | {flag: value})
        with pytest.raises(ValueError, match=f"`--{flag}` has no effect"):
            make_batches(changed, 2, **models)
    args.validation_data = "nowhere"
    with pytest.raises(ValueError, match="`--validation_data` 'nowhere' is neither"):
        make_batches(args, 2, **models)
