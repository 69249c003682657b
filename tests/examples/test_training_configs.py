# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""What the READMEs of the training examples tell to type, and the configurations that lie beside them."""

import os
import re
import runpy
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file

from tests.examples.training_scripts import REPOSITORY, TRAIN_TEXT_TO_VIDEO
from videoar_pipelines.models.quantization import default_scale_schedule
from videoar_pipelines.models.transformer_videoar import TRANSFORMER_CONFIGS
from videoar_pipelines.training.arguments import model_config


EXAMPLES = REPOSITORY / "examples"
FOLDERS = ("video_tokenizer", "text_to_video", "robot_arm", "moving_shapes")
LAUNCHERS = ("accelerate launch", "torchrun --nproc_per_node 2")
LAUNCH_FILES = sorted((EXAMPLES / "accelerate_configs").glob("*.yaml"))


def read_commands(folder: str) -> list[list[str]]:
    """The commands of a README's shell blocks that run a training script, with their variables filled in."""
    blocks = re.findall(r"```bash\n(.*?)```", (EXAMPLES / folder / "README.md").read_text(), re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    assignments = re.findall(r'^(\w+)="(.*)"$', "\n".join(lines), re.MULTILINE)
    variables = dict(assignments)
    assert len(variables) == len(assignments), f"A variable of {folder}/README.md is set twice."
    for name, value in variables.items():
        lines = [line.replace(f"${name}", value) for line in lines]
    return [shlex.split(line) for line in lines if line.startswith(LAUNCHERS)]


COMMANDS = [(folder, command) for folder in FOLDERS for command in read_commands(folder)]


@pytest.mark.parametrize(
    "folder, command", COMMANDS, ids=lambda value: " ".join(value[-2:]) if type(value) is list else ""
)
def test_commands_of_the_readmes_are_understood(folder, command, monkeypatch):
    monkeypatch.chdir(EXAMPLES if folder == "moving_shapes" else EXAMPLES / folder)
    script = next(index for index, part in enumerate(command) if part.endswith(".py"))
    launcher = command[2:script] if command[0] == "accelerate" else []
    if launcher:
        assert launcher[0] == "--config_file" and Path(launcher[1]).resolve() in LAUNCH_FILES
    args = runpy.run_path(command[script])["parse_args"](command[script + 1 :])
    assert args.output_dir.parts[0] == "runs"


def test_every_configuration_is_part_of_a_command_or_of_the_text():
    assert len(COMMANDS) == 35
    for folder in FOLDERS:
        text = (EXAMPLES / folder / "README.md").read_text()
        for path in (EXAMPLES / folder / "configs").iterdir():
            assert f"configs/{path.name}" in text


@pytest.mark.parametrize("size, name", [("L", "videoar_l"), ("XL", "videoar_xl"), ("4B", "videoar_4b")])
def test_the_published_settings_are_those_of_the_paper(size, name, monkeypatch):
    monkeypatch.chdir(EXAMPLES / "text_to_video")
    parse_args = runpy.run_path(str(TRAIN_TEXT_TO_VIDEO))["parse_args"]
    models = ["--vae", "v", "--text_encoder", "t", "--output_dir", "o"]
    args = parse_args(["--config_file", f"configs/{name}.yaml", *models])
    assert args.transformer_config == TRANSFORMER_CONFIGS[size]
    assert (args.learning_rate, args.lr_scheduler, args.weight_decay) == (1e-4, "cosine", 0.05)
    assert (args.adam_beta1, args.adam_beta2) == (0.9, 0.95)
    assert (args.corruption_min, args.corruption_max, args.corruption_growth) == (0, 0.25, 0.01)
    assert args.error_inheritance and not args.no_error_correction
    assert args.mixed_precision == "bf16" and args.gradient_checkpointing

    args = parse_args(["--config_file", f"configs/{name}.yaml", "configs/ucf101_l.yaml", *models])
    assert (args.num_frames, args.height, args.width, args.frame_mask_probability) == (17, 128, 128, 0)
    assert args.scheduler_config == {"guidance_scale": 10.0, "guidance_schedule": "rising"}


def test_each_stage_starts_from_the_output_of_the_one_before():
    stages = [
        yaml.safe_load((EXAMPLES / f"text_to_video/configs/stage{stage}.yaml").read_text()) for stage in (1, 2, 3)
    ]
    assert "pretrained_pipeline" not in stages[0]
    for before, after in zip(stages, stages[1:]):
        assert after["pretrained_pipeline"] == f"{before['output_dir']}/pipeline"
        pixels, pixels_before = (stage["num_frames"] * stage["height"] * stage["width"] for stage in (after, before))
        assert pixels > pixels_before
    assert [stage["image_ratio"] > 0 for stage in stages] == [True, True, False]


def test_scales_keep_their_meaning_from_stage_to_stage_and_inference_sees_what_was_trained():
    stages = [
        yaml.safe_load((EXAMPLES / f"text_to_video/configs/stage{stage}.yaml").read_text()) for stage in (1, 2, 3)
    ]
    sizes = [[tuple(map(int, size.split("x"))) for size in stage.get("buckets", [])] for stage in stages]
    sizes[2] = [(stages[2]["height"], stages[2]["width"])]
    schedules = [[default_scale_schedule(height // 16, width // 16) for height, width in stage] for stage in sizes]
    for before, after in zip(schedules, schedules[1:]):
        for schedule in after:
            assert any(schedule[: len(coarser)] == coarser for coarser in before)
    assert {stage["fps"] for stage in stages} == {8} and stages[2]["num_frames"] == 4 * 8 + 1
    assert not any("frame_window" in stage for stage in stages)


def test_the_ablation_leaves_warm_up_before_its_end():
    ablation = [command for _, command in COMMANDS if "1000" in command]
    assert len(ablation) == 4
    assert all(command[command.index("--lr_warmup_steps") + 1] == "0" for command in ablation)


def test_the_model_configurations_can_be_built():
    import torch

    from videoar_pipelines import AutoencoderVideoAR

    with torch.device("meta"):
        vae = AutoencoderVideoAR.from_config(model_config(str(EXAMPLES / "video_tokenizer/configs/vae.json")))
    assert (vae.spatial_compression_ratio, vae.temporal_compression_ratio, vae.config.latent_channels) == (16, 4, 48)


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda path: path.stem)
def test_launch_configurations_are_accelerates(path):
    config = load_config_from_file(str(path))
    expected = {"one_gpu": (1, 1), "eight_gpus": (8, 1), "four_hosts_fsdp2": (32, 4)}[path.stem]
    assert (config.num_processes, config.num_machines) == expected
    assert str(config.distributed_type.value) == ("NO" if path.stem == "one_gpu" else "MULTI_GPU")


def test_the_slurm_script_starts_a_process_for_each_task_that_knows_the_others(tmp_path):
    commands = {
        "scontrol": 'printf "%s\\n" host-a host-b',
        "srun": 'shift; for task in 0 1; do SLURM_PROCID=$task SLURM_LOCALID=$task "$@"; done',
        "python": 'echo "$RANK $LOCAL_RANK $WORLD_SIZE $MASTER_ADDR $MASTER_PORT" "$@"',
    }
    for name, body in commands.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    slurm = {"SLURM_JOB_NODELIST": "host-[a-b]", "SLURM_JOB_ID": "12345", "SLURM_NTASKS": "2"}
    command = ["bash", EXAMPLES / "accelerate_configs/train.slurm", "train.py", "--fsdp", "--data", "a b"]
    environment = os.environ | slurm | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    arguments = "2 host-a 32345 train.py --fsdp --data a b --resume_from_checkpoint latest"
    assert output.splitlines() == [f"{task} {task} {arguments}" for task in range(2)]
