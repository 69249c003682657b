# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
What users get wrong: each ends before the first step, with status 2 and one line that names flag, value and remedy. Mistakes in
data and in model configurations are tested with their own modules.
"""

import json
import re
import runpy
import shutil
import sys
from collections import namedtuple
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState, GradientState

from tests.examples.training_scripts import (
    ENCODE_DATA_SET,
    REPOSITORY,
    TINY_RUN,
    TRAIN_LORA,
    TRAIN_TEXT_TO_VIDEO,
    TRAIN_TOKENIZER,
    save_tiny_pipeline,
)
from videoar_pipelines.training import publishing


CONVERT = REPOSITORY / "conversion" / "convert_training_checkpoint.py"
TEXT_TO_VIDEO = REPOSITORY / "examples" / "inference" / "text_to_video.py"
SAMPLE = REPOSITORY / "examples" / "evaluation" / "sample.py"

# `{p}` is a pipeline, `{t}` the folder of the test.
TOKENIZER = "--pretrained_vae {p}/vae"
TRANSFORMER = "--pretrained_pipeline {p} --max_sequence_length 16"
LORA = "--pretrained_pipeline {p}"


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return save_tiny_pipeline(tmp_path_factory.mktemp("pipeline"))


@pytest.fixture
def run_and_fail(monkeypatch, capsys, tmp_path, pipeline):
    """Runs a script as its command line would, and gives the last line of stderr."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def run(script: Path, arguments: str, tiny_run=True) -> str:
        words = [word.format(p=pipeline, t=tmp_path) for word in arguments.split()]
        if script in (TRAIN_TOKENIZER, TRAIN_TEXT_TO_VIDEO, TRAIN_LORA):
            words = [*TINY_RUN, "--output_dir", str(tmp_path / "run"), *words]
        monkeypatch.setattr(sys, "argv", [str(script), *words])
        for state in (AcceleratorState, GradientState):
            state._reset_state(**({"reset_partial_state": True} if state is AcceleratorState else {}))
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(script), run_name="__main__")
        assert ended.value.code == 2
        assert not (tmp_path / "run/metrics.jsonl").exists(), "the run had started"
        return capsys.readouterr().err.splitlines()[-1]

    return run


WRONG_NUMBERS = [
    (TRAIN_TOKENIZER, flag, value)
    for flag in (
        "gradient_accumulation_steps",
        "checkpointing_steps",
        "checkpoints_total_limit",
        "logging_steps",
        "validation_steps",
        "max_train_steps",
        "train_batch_size",
    )
    for value in ("0", "-1")
] + [
    (TRAIN_TEXT_TO_VIDEO, "num_validation_videos", "0"),
    (TRAIN_LORA, "rank", "0"),
    (TRAIN_LORA, "validation_fps", "0"),
]


def test_a_negative_number_of_validation_batches_is_refused(run_and_fail):
    """0 turns held-out clips off."""
    line = run_and_fail(TRAIN_TOKENIZER, f"{TOKENIZER} --validation_batches -1")
    assert "`--validation_batches` is '-1': pass a whole number of at least 0." in line


@pytest.mark.parametrize("script, flag, value", WRONG_NUMBERS, ids=lambda item: getattr(item, "stem", item))
def test_zero_and_negative_numbers_are_refused(run_and_fail, script, flag, value):
    arguments = TOKENIZER if script == TRAIN_TOKENIZER else LORA
    line = run_and_fail(script, f"{arguments} --{flag} {value}")
    assert f"`--{flag}` is '{value}': pass a whole number of at least 1." in line


MISTAKES = [
    (TRAIN_TOKENIZER, "", "--vae_config"),
    (TRAIN_TOKENIZER, "--vae_config {p}/missing.json", "argument --vae_config: .* is no file"),
    (TRAIN_TOKENIZER, f"{TOKENIZER} --learning_rate -1", "`--learning_rate` is '-1': pass a number above 0"),
    (TRAIN_TOKENIZER, f"{TOKENIZER} --learning_rate nan", "`--learning_rate` is 'nan'"),
    (TRAIN_TOKENIZER, f"{TOKENIZER} --validation_batches -1", "`--validation_batches` is '-1': pass .* at least 0"),
    (TRAIN_TOKENIZER, f"{TOKENIZER} --adam_beta1 1", "`--adam_beta1` is '1': pass .* below 1"),
    (TRAIN_TOKENIZER, f"{TOKENIZER} --ema_decay 2", "`--ema_decay` is '2'"),
    (TRAIN_TOKENIZER, f"{TOKENIZER} --lr_scheduler cosin", "`--lr_scheduler` is 'cosin': .*Did you mean `cosine`"),
    (TRAIN_TOKENIZER, f"{TOKENIZER} --lr_scheduler piecewise_constant", "`--lr_scheduler` is 'piecewise_constant'"),
    (
        TRAIN_TOKENIZER,
        f"{TOKENIZER} --mixed_precision fp16 --adversarial_weight 0.1 --adversarial_weight_mode adaptive",
        "`--adversarial_weight_mode adaptive` compares gradients",
    ),
    (
        TRAIN_TEXT_TO_VIDEO,
        f"{TRANSFORMER} --corruption_min 0.4",
        "`corruption_min` is 0.4, more than `corruption_max` = 0.25",
    ),
    (TRAIN_TOKENIZER, f"{TOKENIZER} --fsdp", "`--fsdp` shares the training state among processes"),
    (TRAIN_TOKENIZER, f"{TOKENIZER} --report_to wandbb", "`--report_to` is 'wandbb': .*Did you mean `wandb`"),
    (TRAIN_TOKENIZER, f"{TOKENIZER} --report_to comet_ml", "`--report_to` is 'comet_ml', which is not installed"),
    (TRAIN_TOKENIZER, f"{TOKENIZER} --lpips_weights x", "`--lpips_weights` has no effect without `--vgg_weights`"),
    (TRAIN_TOKENIZER, f"{TOKENIZER} --vgg_weights x --perceptual_weight 0", "`--vgg_weights` has no effect with"),
    (TRAIN_TOKENIZER, f"{TOKENIZER} --vgg_weights {{t}}/vgg.pth", "`--vgg_weights` .*vgg.pth is no file"),
    (TRAIN_TOKENIZER, f"{TOKENIZER} --vgg_weights {{p}}/model_index.json", "`--vgg_weights` .* cannot be loaded"),
    (TRAIN_TOKENIZER, "--pretrained_vae {p}", "`--pretrained_vae` '.*' cannot be loaded"),
    (TRAIN_TOKENIZER, "--pretrained_vae {p}/vea", "`--pretrained_vae` .*Did you mean `.*vae`"),
    (TRAIN_TOKENIZER, "--config_file {t}/none.yaml", "`--config_file` .*none.yaml is no file"),
    (TRAIN_TOKENIZER, "--config_file {p}/transformer/diffusion_pytorch_model.safetensors", "is not valid YAML"),
    (TRAIN_TOKENIZER, f"{TOKENIZER} --output_dir {{p}}/model_index.json", "`--output_dir` .* cannot be written to"),
    (
        TRAIN_TOKENIZER,
        f"{TOKENIZER} --resume_from_checkpoint checkpoint-3",
        "'checkpoint-3', which is not a checkpoint",
    ),
    (TRAIN_TOKENIZER, f"{TOKENIZER} --data {{t}}/no.csv", "`--data` .*no.csv': no such file"),
    (TRAIN_TOKENIZER, f"{TOKENIZER} --data movin_shapes", "`--data` 'movin_shapes'"),
    (TRAIN_TOKENIZER, f"{TOKENIZER} --fps 4", "`--fps` has no effect"),
    (TRAIN_TOKENIZER, f"{TOKENIZER} --mixed_precision bf61", "`--mixed_precision` is 'bf61': .*Did you mean `bf16`"),
    (TRAIN_TEXT_TO_VIDEO, "--transformer_config L", "Pass `--vae`"),
    (TRAIN_TEXT_TO_VIDEO, f"{TRANSFORMER} --transformer_config XXL", "argument --transformer_config: 'XXL'"),
    (TRAIN_TEXT_TO_VIDEO, f"{TRANSFORMER} --text_encoder {{p}}/vae", "`--text_encoder` .* cannot be loaded"),
    (TRAIN_TEXT_TO_VIDEO, f"{TRANSFORMER} --max_sequence_length 99", "`--max_sequence_length` is 99"),
    (TRAIN_TEXT_TO_VIDEO, f"{TRANSFORMER} --caption_contrast -1", "`--caption_contrast` is '-1'"),
    (TRAIN_TEXT_TO_VIDEO, f"{TRANSFORMER} --text_drop_probability 2", "`--text_drop_probability` is '2'"),
    (TRAIN_TEXT_TO_VIDEO, f"{TRANSFORMER} --validation_guidance_scale nan", "`--validation_guidance_scale` is 'nan'"),
    (TRAIN_TEXT_TO_VIDEO, f"{TRANSFORMER} --frame_window 0", "`--frame_window` is '0'"),
    (TRAIN_TEXT_TO_VIDEO, f"{TRANSFORMER} --context_parallel_degree 3", "context_parallel_degree"),
    (TRAIN_TEXT_TO_VIDEO, f"{TRANSFORMER} --height 33", "33"),
    (TRAIN_TEXT_TO_VIDEO, f"{TRANSFORMER} --num_frames 4", "4"),
    (TRAIN_LORA, f"{LORA} --max_sequence_length 99", "`--max_sequence_length` is 99"),
    (TRAIN_LORA, f"{LORA} --lora_layers to_z", "`--lora_layers` to_z cannot be used"),
    (TRAIN_LORA, f"{LORA} --fsdp", "`--fsdp`"),
    (
        TRAIN_LORA,
        f"{LORA} --validation_prompts a --validation_guidance_scale inf",
        "`--validation_guidance_scale` is 'inf'",
    ),
    (TRAIN_LORA, "--pretrained_pipeline {p}/vae", "`--pretrained_pipeline` .* cannot be loaded"),
    (ENCODE_DATA_SET, "--output_dir {t}/shards", "`--vae`"),
    (ENCODE_DATA_SET, "--vae {t}/x --text_encoder {p} --output_dir {t}/shards", "`--vae` .* is no folder"),
    (
        ENCODE_DATA_SET,
        "--vae {p}/vae --text_encoder {t}/x --output_dir {t}/shards",
        "`--text_encoder` .* is no folder",
    ),
    (CONVERT, "--checkpoint_path {p} --output_path {t}/new", "`--checkpoint_path` .* is not a complete checkpoint"),
    (TEXT_TO_VIDEO, "--prompt a --checkpoint {p} --num_frames 4 --height 64 --width 64", "`num_frames`"),
    (TEXT_TO_VIDEO, "--prompt a --checkpoint {p}/vae", "`--checkpoint` .* cannot be loaded"),
    (TEXT_TO_VIDEO, "--prompt a --checkpoint {p} --device cudda", "argument --device: 'cudda' is no device here"),
    (SAMPLE, "--checkpoint {t}/x --data moving_shapes --num_samples 1 --output_dir {t}/s", "`--checkpoint`"),
]


@pytest.mark.parametrize("script, arguments, line", MISTAKES, ids=[f"{case[0].stem} {case[1]}" for case in MISTAKES])
def test_a_mistake_is_one_line_before_the_first_step(run_and_fail, script, arguments, line):
    printed = run_and_fail(script, arguments)
    assert re.search(line, printed), printed
    assert printed.startswith(script.name)


def test_a_repository_that_cannot_be_written_to_ends_the_run_before_it_starts(run_and_fail, monkeypatch):
    def refuse(repo_id, exist_ok):
        raise OSError("401 Unauthorized\nmore")

    monkeypatch.setattr(publishing, "create_repo", refuse)
    line = run_and_fail(TRAIN_TOKENIZER, f"{TOKENIZER} --push_to_hub")
    assert "`--push_to_hub` cannot write to the repository 'run' (OSError: 401 Unauthorized)" in line


def test_a_disk_without_room_for_a_checkpoint_ends_the_run_before_it_starts(run_and_fail, monkeypatch, pipeline):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("Usage", "total used free")(1, 1, 1000))
    line = run_and_fail(TRAIN_TOKENIZER, TOKENIZER)
    assert "The first checkpoint does not fit into" in line and "1 kB are free now" in line


def test_a_used_folder_ends_the_run_before_it_starts(run_and_fail, tmp_path):
    (tmp_path / "run/checkpoint-2").mkdir(parents=True)
    (tmp_path / "run/checkpoint-2/training_state.json").write_text(json.dumps({"step": 2}))
    line = run_and_fail(TRAIN_TOKENIZER, TOKENIZER)
    assert "holds a run already (checkpoint-2)" in line and "`--overwrite_output_dir`" in line
    assert (tmp_path / "run/checkpoint-2").exists()
