# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""The ablations at tiny size: from shards to a table, by the command lines of their page."""

import json
import re
import runpy
import shlex
import statistics
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from tests.evaluation.tiny_i3d import TinyExtractorNetwork
from tests.examples.training_scripts import REPOSITORY, run_script
from tests.tiny_components import make_tiny_pipeline
from videoar_pipelines.evaluation.features import FeatureExtractor, FeatureStore
from videoar_pipelines.models.quantization import features_to_maps
from videoar_pipelines.utils.command_line import UsageError


FOLDER = REPOSITORY / "examples" / "ablations"
SIZES = "--num_frames 9 --height 32 --width 32 --max_sequence_length 16".split()


@pytest.fixture(scope="module", autouse=True)
def modules_of_the_folder():
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))


def load(name):
    import importlib

    return importlib.import_module(name)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Token shards of tiny clips: 3 latent frames of 2x2 tokens; and the same clips with rows as frames."""
    folder = tmp_path_factory.mktemp("data")
    make_tiny_pipeline().save_pretrained(folder / "pipeline")
    common = [*SIZES, "--pretrained_pipeline", folder / "pipeline", "--batch_size", 4, "--num_shards", 2]
    for split, seed in (("train", 0), ("validation", 1)):
        own = ["--split", split, "--seed", seed, "--num_clips", 5]
        run_script(FOLDER / "encode_moving_shapes.py", *common, *own, "--output_dir", folder / split)
        one_scale = ["--scheduler_config", '{"scale_schedules": {"2x2": [[2, 2]]}}']
        target = folder / "one" / split
        run_script(FOLDER / "encode_moving_shapes.py", *common, *own, *one_scale, "--output_dir", target)
        run_script(FOLDER / "cut_rows.py", "--shards", target, "--output_dir", folder / "rows" / split)
    return folder


def write_arms(path: Path, data_dir: Path) -> Path:
    training = {
        "data": "{data}/train",
        "num_frames": 9,
        "height": 32,
        "width": 32,
        "num_workers": 0,
        "pretrained_pipeline": str(data_dir / "pipeline"),
        "max_sequence_length": 16,
        "transformer_config": {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 8, "max_scales": 4},
        "scheduler_config": {"guidance_scale": 2.0},
        "train_batch_size": 2,
        "max_train_steps": 3,
        "checkpointing_steps": 2,
        "validation_steps": 3,
        "num_validation_videos": 1,
        "lr_warmup_steps": 1,
        "report_to": "none",
    }
    rows = {
        "data": "{data}/rows/train",
        "num_frames": 21,
        "height": 16,
        "condition_columns": ["row"],
        "transformer_config": {"frame_conditions": {"row": {"num_labels": 2}}},
        "scheduler_config": {"scale_schedules": {"1x2": [[1, 2]]}, "error_inheritance": False},
    }
    content = {
        "training": training,
        "evaluation": {
            "data": "{data}/validation",
            "num_batches": 2,
            "num_samples": 3,
            "given_frames": 1,
            "drift_frames": [3, 4],
            "shapes": {"seed": 1, "split": "train"},
            "save_samples": True,
        },
        "seeds": [0],
        "tables": [{"title": "All", "reference": "plain", "arms": ["plain", "rows", "more"]}],
        "arms": {
            "plain": None,
            "rows": {"training": rows, "evaluation": {"data": "{data}/rows/validation", "rows": 2}},
            "more": {"weights_of": "plain", "evaluation": {"attempts": 2, "refinements": [1]}},
        },
    }
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def finished(data_dir, tmp_path_factory):
    """The folder of a run of three arms, two of them trained, and its YAML file."""
    folder = tmp_path_factory.mktemp("runs")
    arms_file = write_arms(folder / "arms.yaml", data_dir)
    run_script(FOLDER / "run.py", "--arms_file", arms_file, "--data_dir", data_dir, "--output_dir", folder)
    return folder, arms_file


def read(folder: Path, arm: str) -> dict:
    return json.loads((folder / "results" / f"{arm}-seed-0.json").read_text())


# 1. From shards to results


def test_every_arm_is_a_run_of_the_training_script_and_one_file_of_numbers(finished):
    folder, _ = finished
    plain, rows, more = (read(folder, name) for name in ("plain", "rows", "more"))
    assert (folder / "plain" / "seed-0" / "pipeline" / "model_index.json").exists()
    assert not (folder / "more").exists()  # it has the weights of another arm
    for result, num_scales in ((plain, 2), (rows, 1)):
        for bits in result["held_out_bits"].values():
            assert len(bits["by_scale"]) == num_scales and len(bits["by_frame"]) == 3
            assert statistics.mean(bits["by_frame"]) == pytest.approx(bits["per_token"], rel=1e-4)  # float32 means
            assert 0 < bits["per_token"] < 12  # 8 bits a token; a fair coin needs 8
        assert set(result["continued"]) == {"3", "4"}
    tokens = {"plain": 1 + 4, "rows": 4}
    for name, result in (("plain", plain), ("rows", rows)):
        bits = result["held_out_bits"]["clean"]
        assert bits["per_frame"] == pytest.approx(tokens[name] * bits["per_token"], rel=1e-6)
    assert more["held_out_bits"] == plain["held_out_bits"]
    assert more["seconds_per_video"] > plain["seconds_per_video"]
    # What the tokenizer shows of the held-out clips does not depend on an arm's weights or sampling.
    assert plain["ceiling"] == more["ceiling"] and 0 < plain["ceiling"]["psnr"] < 30


def test_saved_videos_are_of_the_clips_lengths(finished):
    folder, _ = finished
    for arm in ("plain", "rows"):
        shapes = {path.stem: np.load(path).shape for path in (folder / "samples" / f"{arm}-seed-0").glob("*.npy")}
        assert shapes == dict.fromkeys(("ceiling", "text", "continued-003", "continued-004"), (3, 9, 32, 32, 3))


def test_saved_videos_are_scored_against_real_clips(finished, tmp_path):
    folder, _ = finished
    samples = folder / "samples" / "plain-seed-0"
    real = samples / "ceiling.npy"
    arguments = ["--fvd_clips", 3, "--real_clips", real, "--output_dir", tmp_path, "--data_dir", tmp_path]
    run = load("run")
    args = run.parse_args([str(item) for item in ("--arms_file", finished[1], *arguments)])

    def make_store(protocol, cache_root):
        extractor = FeatureExtractor(protocol.network, network=TinyExtractorNetwork())
        return FeatureStore(extractor, cache_root, progress=False)

    args.fvd_of = ["text"]
    known = run.score_fvd(samples, args, {"num_clips": 2, "text": None}, make_store)
    assert known.keys() == {"num_clips", "text"} and known["num_clips"] == 3 and known["text"] is not None
    args.fvd_of = None
    scores = run.score_fvd(samples, args, known, make_store)
    assert scores.keys() == {"num_clips", "ceiling", "text", "continued-003", "continued-004"}
    assert scores["text"] is known["text"]
    assert scores["ceiling"]["value"] == pytest.approx(0, abs=1e-6)  # the same clips
    assert all(scores[kind]["value"] > 1e-3 for kind in ("text", "continued-003", "continued-004"))


def test_fvd_of_videos_that_are_not_there_is_refused(finished):
    run, samples = load("run"), finished[0] / "samples" / "plain-seed-0"
    with pytest.raises(UsageError, match="'txt' is not in .*, which has ceiling, "):
        run.score_fvd(samples, Namespace(fvd_clips=3, fvd_of=["txt"]), {})


def test_a_finished_arm_is_skipped_and_a_killed_one_goes_on(finished, data_dir):
    folder, arms_file = finished
    before = read(folder, "plain")
    command = [FOLDER / "run.py", "--arms_file", arms_file, "--data_dir", data_dir, "--output_dir", folder]
    run = folder / "plain" / "seed-0"
    result = folder / "results" / "plain-seed-0.json"
    weights = (run / "pipeline" / "transformer" / "diffusion_pytorch_model.safetensors").read_bytes()
    stamp = (folder / "results" / "rows-seed-0.json").stat().st_mtime_ns

    # As if it had been killed after the last checkpoint and before the pipeline was saved.
    result.unlink()
    (run / "pipeline").rename(run / "lost")
    run_script(*command)
    after = read(folder, "plain")
    assert (run / "pipeline" / "transformer" / "diffusion_pytorch_model.safetensors").read_bytes() == weights
    times = ("seconds_per_video", "evaluation_processor_seconds")
    assert {key: after[key] for key in after if key not in times} == {
        key: before[key] for key in before if key not in times
    }
    assert (folder / "results" / "rows-seed-0.json").stat().st_mtime_ns == stamp


def test_the_table_and_the_plots_are_made_from_a_run(finished, monkeypatch, capsys, tmp_path):
    folder, arms_file = finished
    arguments = ["--arms_file", arms_file, "--output_dir", folder]
    arguments += ["--markdown", tmp_path / "table.md", "--plots_dir", tmp_path]
    monkeypatch.setattr(sys, "argv", [str(FOLDER / "table.py"), *map(str, arguments)])
    runpy.run_path(str(FOLDER / "table.py"), run_name="__main__")
    text = (tmp_path / "table.md").read_text()
    assert capsys.readouterr().out.strip() == text.strip()
    lines = text.splitlines()
    assert lines[0] == "### All"
    value = read(folder, "plain")["held_out_bits"]["clean"]["per_token"]
    assert any(line.startswith(f"| `plain` | 1 | {value:.3f} |") for line in lines)
    # The arm with other sampling has the likelihood of the arm whose weights it has; the rows have one scale.
    start = lines.index(next(line for line in lines if line.startswith("| minus `plain`")))
    assert lines[start + 3].startswith("| `more` | 1 | +0.000 | +0.000 | +0.00 | +0.00 | +0.0 |")
    assert lines[start + 2].split(" | ")[5] == ""
    assert {path.name for path in tmp_path.glob("*.svg")} == {"bits-1.svg", "right-1.svg", "distance-1.svg"}


# 2. Rows


def test_rows_are_the_bits_of_one_scale():
    features = torch.randn(3, 8, 2, 4, generator=torch.Generator().manual_seed(0))  # (T, d, H', W')
    rows = load("cut_rows").cut(features)
    assert rows.shape == (1, 8, 6, 1, 4)
    of_rows = features_to_maps(rows, ((1, 4),))
    of_frames = features_to_maps(features.transpose(0, 1)[None], ((2, 4),))
    join_rows = load("evaluate_arm").join_rows
    assert torch.equal(join_rows(of_rows.latents, 2), of_frames.latents)
    assert torch.equal(of_rows.bits[0].reshape(-1), of_frames.bits[0].reshape(-1))


# 3. The intervals


def test_the_interval_is_that_of_student():
    estimate = load("table").estimate
    # Of 1, 2, 3: deviation 1, standard error 1 / sqrt(3), quantile 0.975 of t with 2 degrees of freedom 4.303.
    value = estimate([1.0, 2.0, 3.0])
    assert (value.mean, value.count) == (2.0, 3)
    assert value.half_width == pytest.approx(4.303 / 3**0.5)
    # In 95 % of experiments it holds the true mean; 2,000 experiments have a deviation of 0.5 %.
    generator = torch.Generator().manual_seed(0)
    experiments = [
        estimate(values) for values in torch.randn(2000, 4, generator=generator, dtype=torch.float64).tolist()
    ]
    share = statistics.mean(abs(value.mean) <= value.half_width for value in experiments)
    assert share == pytest.approx(0.95, abs=0.02)


def test_quantiles_are_those_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    quantiles = load("table").T_QUANTILES
    assert quantiles == pytest.approx([stats.t.ppf(0.975, df) for df in range(1, len(quantiles) + 1)], abs=6e-4)


def test_differences_are_paired_by_seed():
    paired_difference = load("table").paired_difference
    # Seeds differ by much, arms by 1 in every seed that both have.
    difference = paired_difference({0: 11.0, 1: 101.0, 2: 1001.0, 3: 5.0}, {2: 1000.0, 1: 100.0, 0: 10.0})
    assert (difference.mean, difference.half_width, difference.count) == (1.0, 0.0, 3)
    assert difference.is_different_from_zero
    assert paired_difference({0: 1.0}, {1: 1.0}) is None


def test_only_a_difference_whose_interval_leaves_out_zero_is_bold():
    table = load("table")
    assert table.format_difference(table.Estimate(-0.5, 0.2, 3), 2) == "**-0.50 ± 0.20**"
    assert table.format_difference(table.Estimate(-0.5, 0.6, 3), 2) == "-0.50 ± 0.60"
    assert table.format_difference(table.estimate([0.5]), 2) == "+0.50"


def test_a_table_is_of_the_seeds_that_are_asked_for(tmp_path):
    arms = load("arms")
    ablation = arms.read_ablation(write_arms(tmp_path / "arms.yaml", tmp_path), tmp_path)
    for seed in (0, 7):
        path = arms.result_path(tmp_path, "plain", seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"seed": seed}))
    read_results = load("table").read_results
    assert read_results(ablation, tmp_path) == {"plain": {0: {"seed": 0}}}
    assert read_results(ablation, tmp_path, [7]) == {"plain": {7: {"seed": 7}}}


# 4. Files of arms


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_files_of_arms_can_be_trained(path, tmp_path, monkeypatch):
    """Every flag is one of the training script, and every option one of the judgement."""
    monkeypatch.chdir(FOLDER)
    ablation = load("arms").read_ablation(path, tmp_path)
    run = load("run")
    script = run.load_training_script()
    for arm in ablation.arms.values():
        load("evaluate_arm").EvaluationOptions(**arm.evaluation)
        args = run.training_args(script, arm, 3, tmp_path / arm.name)
        assert args.seed == 3 and args.output_dir == tmp_path / arm.name
        assert args.max_train_steps == args.validation_steps
        assert args.scheduler_config.keys() >= arm.training["scheduler_config"].keys()
        assert {"data", "pretrained_pipeline"} <= arm.training.keys() and "rows" not in arm.training
    assert all(table.reference in table.arms for table in ablation.tables)


def test_an_arm_changes_what_it_names_and_nothing_else(tmp_path):
    arms = load("arms")
    ablation = arms.read_ablation(write_arms(tmp_path / "arms.yaml", tmp_path), tmp_path)
    plain, rows, more = ablation.arms.values()
    assert plain.training["data"] == f"{tmp_path}/train"
    assert rows.training["scheduler_config"] == {
        "guidance_scale": 2.0,
        "scale_schedules": {"1x2": [[1, 2]]},
        "error_inheritance": False,
    }
    changed = {key for key in rows.training if rows.training[key] != plain.training.get(key)}
    assert changed == {"data", "num_frames", "height", "condition_columns", "transformer_config", "scheduler_config"}
    assert more.training == plain.training and more.evaluation["attempts"] == 2


def test_a_file_changes_what_it_names_of_its_base(tmp_path):
    write_arms(tmp_path / "base.yaml", tmp_path)
    changes = {
        "base": "base.yaml",
        "seeds": [5],
        "training": {"scheduler_config": {"top_p": 0.5}},
        "arms": {"new": None},
    }
    (tmp_path / "arms.yaml").write_text(yaml.safe_dump(changes, sort_keys=False))
    ablation = load("arms").read_ablation(tmp_path / "arms.yaml", tmp_path)
    assert ablation.seeds == [5] and list(ablation.arms) == ["plain", "rows", "more", "new"]
    assert ablation.arms["new"].training["scheduler_config"] == {"guidance_scale": 2.0, "top_p": 0.5}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arm": {}}, "unknown key `arm`"),
        ({"arms": {"plain": {"trainig": {}}}}, "unknown key `trainig`. Did you mean `training`"),
        ({"arms": {"plain": {"weights_of": "other"}}}, "`weights_of: other`: name an earlier arm"),
        (
            {"tables": [{"title": "All", "reference": "plain", "arms": ["plan"]}]},
            "unknown arm `plan`. Did you mean `plain`",
        ),
    ],
)
def test_a_mistake_in_a_file_of_arms_is_named(tmp_path, change, message):
    path = tmp_path / "arms.yaml"
    content = {"training": {}, "evaluation": {}, "seeds": [0], "tables": [], "arms": {"plain": None}}
    path.write_text(yaml.safe_dump(content | change, sort_keys=False))
    with pytest.raises(UsageError, match=message):
        load("arms").read_ablation(path, tmp_path)


# 5. The page


def commands_of_the_page() -> list[list[str]]:
    """The commands of the README, with the variables of its loops filled in."""
    variables = {
        "$1": "4",
        "$2": "[[1, 1], [4, 4]]",
        "${split%% *}": "train",
        "--split $split": "--split train --num_clips 4096 --num_shards 4",
        "$split": "train",
    }
    blocks = re.findall(r"```bash\n(.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL)
    text = "\n".join(blocks).replace("\\\n", " ")
    for name, value in variables.items():
        text = text.replace(name, value)
    lines = [shlex.split(line) for line in text.splitlines() if ".py " in line]
    return [line[line.index("launch") + 1 if "launch" in line else 1 :] for line in lines]


@pytest.mark.parametrize("command", commands_of_the_page(), ids=lambda command: Path(command[0]).stem)
def test_the_commands_of_the_page_are_understood(command, monkeypatch):
    monkeypatch.chdir(FOLDER)
    script, *arguments = command
    module = runpy.run_path(script)
    module["parse_args"](arguments)
