# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""The scoring scripts from their command lines, at tiny size and with a tiny network."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.evaluation.tiny_i3d import TinyNetwork
from tests.examples.training_scripts import run_script
from tests.tiny_components import make_tiny_pipeline


ROOT = Path(__file__).resolve().parents[2]
FVD = ROOT / "examples" / "evaluation" / "fvd.py"
RECONSTRUCTION = ROOT / "examples" / "evaluation" / "reconstruction.py"
WRITE_CLIPS = ROOT / "examples" / "moving_shapes" / "write_clips.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twenty-eight real clips with a manifest, sixteen others as samples, a network and a checkpoint."""
    folder = tmp_path_factory.mktemp("evaluation")
    size = ["--num_frames", 9, "--height", 32, "--width", 32]
    run_script(WRITE_CLIPS, "--num_clips", 28, "--output_dir", folder / "real", *size)
    run_script(WRITE_CLIPS, "--num_clips", 28, "--seed", 1, "--output_dir", folder / "samples" / "videos", *size)
    records = [
        {"file": f"videos/{index:06d}.npy", "seed": index, "checkpoint": "tiny", "guidance_scale": 3.0}
        for index in range(28)
    ]
    (folder / "samples" / "samples.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    torch.jit.script(TinyNetwork()).save(str(folder / "network.pt"))
    make_tiny_pipeline().save_pretrained(folder / "checkpoint")
    return folder


def common(folder, *arguments):
    size = ["--num_frames", "9", "--height", "32", "--width", "32", "--num_resamples", "3", "--device", "cpu"]
    return [
        *map(str, arguments),
        *size,
        "--torchscript",
        str(folder / "network.pt"),
        "--cache_dir",
        str(folder / "cache"),
    ]


def test_samples_are_scored_under_two_protocols_with_all_that_a_reader_needs(folder, tmp_path, capsys):
    output = tmp_path / "scores.json"
    arguments = ["--real", folder / "real" / "manifest.jsonl", "--samples", folder / "samples"]
    arguments += ["--protocols", "any-17", "moving-shapes", "--output_file", output]
    run_script(FVD, *common(folder, *arguments))
    printed = capsys.readouterr().out
    assert "any-17: FVD" in printed and "moving-shapes: FVD" in printed
    assert "(28 against 28 clips)" in printed and "floor" in printed and "frozen" in printed
    assert "not comparable with any-17: changed" in printed and "samples: guidance_scale 3.0" in printed

    written = json.loads(output.read_text())
    assert written["run"]["arguments"]["seed"] == 0 and written["run"]["code"]
    results = written["results"]["any-17"]
    assert results["changed_by_flags"] == {"num_frames": 9, "height": 32, "width": 32}
    assert results["samples_made_with"] == {
        "file": "28 different",
        "seed": "0 to 27",
        "checkpoint": "tiny",
        "guidance_scale": 3.0,
    }
    assert results["protocol"]["clips"]["num_frames"] == 9 and len(results["network_sha256"]) == 64
    assert results["samples"]["fvd"]["low"] < results["samples"]["fvd"]["value"]
    assert set(results["real_clips"]) == {"floor", "frozen", "shuffled"}


def test_two_processes_write_what_one_does(folder, tmp_path):
    results = []
    for count in (1, 2):
        output = tmp_path / f"{count}.json"
        arguments = [
            "--real",
            folder / "real",
            "--samples",
            folder / "samples",
            "--output_file",
            output,
            "--no_anchors",
        ]
        arguments = common(folder, *arguments)
        arguments[arguments.index("--cache_dir") + 1] = str(tmp_path / f"cache-{count}")
        if count == 1:
            run_script(FVD, *arguments)
        else:
            launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", str(count)]
            launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
            environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
            subprocess.run([*launch, str(FVD), *arguments], check=True, capture_output=True, env=environment)
        results.append(json.loads(output.read_text())["results"])
    assert results[0] == results[1]


def write_prediction_protocol(path):
    path.write_text(
        "title: Mine\ndata: any\nsplit: all\ngiven_frames: 1\nhorizons: [4]\n"
        "clips: {num_frames: 9, height: 32, width: 32}\n"
    )
    return path


def test_predictions_are_scored_per_horizon(folder, tmp_path, capsys):
    for name in ("real", "videos"):
        (tmp_path / "dump" / name).mkdir(parents=True)
    for index in range(4):
        clip = np.load(folder / "real" / f"{index:06d}.npy")
        np.save(tmp_path / "dump" / "real" / f"{index:06d}.npy", clip)
        clip[6:] = 0
        np.save(tmp_path / "dump" / "videos" / f"{index:06d}.npy", clip)
    records = [json.dumps({"file": f"videos/{index:06d}.npy", "given_frames": 1}) for index in range(4)]
    (tmp_path / "dump" / "samples.jsonl").write_text("\n".join(records))
    protocol = write_prediction_protocol(tmp_path / "mine.yaml")
    run_script(FVD, *common(folder, "--samples", tmp_path / "dump", "--protocols", protocol))
    printed = capsys.readouterr().out
    assert "prediction of 4 real clips, 1 given frame(s)" in printed
    assert "after 4 frame(s): FVD undefined" in printed and "after 8 frame(s): FVD" in printed


def test_a_tokenizer_is_scored_by_number_of_scales(folder, tmp_path, capsys):
    output = tmp_path / "reconstruction.json"
    arguments = [
        "--checkpoint",
        folder / "checkpoint",
        "--data",
        folder / "real",
        "--num_real",
        8,
        "--output_file",
        output,
    ]
    run_script(RECONSTRUCTION, *common(folder, *arguments))
    printed = capsys.readouterr().out
    assert "reconstruction of 8 real clips" in printed and "1 scale(s) kept: rFVD" in printed
    results = json.loads(output.read_text())["results"]["any-17"]
    assert list(results["kept_scales"]) == ["1", "2"]
    assert {"psnr", "psnr_of_clips", "ssim", "fvd", "kvd", "motion"} <= set(results["kept_scales"]["2"])
    assert results["reconstruction"]["perceptual"] is None
    # A tokenizer alone has no scheduler, and gets the default scales.
    alone = common(folder, *arguments[:-2])
    alone[alone.index("--checkpoint") + 1] = str(folder / "checkpoint" / "vae")
    run_script(RECONSTRUCTION, *alone, "--kept_scales", "2")
    assert "2 scale(s) kept" in capsys.readouterr().out


def test_flags_that_would_have_no_effect_are_refused(folder, tmp_path):
    protocol = write_prediction_protocol(tmp_path / "mine.yaml")
    predictions = ["--samples", tmp_path, "--protocols", protocol]
    for arguments, flag in (
        ([*predictions, "--num_real", 4], "num_real"),
        ([*predictions, "--no_anchors"], "no_anchors"),
        (["--real", folder / "real", "--vgg_weights", "vgg.pth"], "vgg_weights"),
        (["--real", folder / "real", "--num_fake", 0], "num_fake"),
    ):
        with pytest.raises(ValueError, match=f"`--{flag}` has no effect, since "):
            run_script(FVD, *common(folder, *arguments))
    with pytest.raises(ValueError, match="`--num_fake` has no effect, since there are no samples"):
        arguments = ["--checkpoint", folder / "checkpoint", "--data", folder / "real", "--num_fake", 4]
        run_script(RECONSTRUCTION, *common(folder, *arguments))


def test_what_is_missing_is_said(folder, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run_script(FVD, "--protocols", "any-17")
    assert "pass --real, or --samples with real/ in it" in capsys.readouterr().err
    with pytest.raises(ValueError, match="'any-17' needs `--real`"):
        run_script(FVD, *common(folder, "--samples", folder / "samples"))
    with pytest.raises(ValueError, match="scores predictions: pass `--samples`"):
        protocol = write_prediction_protocol(tmp_path / "mine.yaml")
        run_script(FVD, *common(folder, "--real", folder / "real", "--protocols", protocol))
