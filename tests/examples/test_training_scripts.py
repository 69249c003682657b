# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""The training scripts at tiny size: from their command lines, with every kind of data, in one process and in two."""

import gc
import json
import math
import os
import re
import runpy
import socket
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from torch.nn.parallel import DistributedDataParallel

from tests.examples.training_scripts import (
    ENCODE_DATA_SET,
    REPOSITORY,
    TINY_RUN,
    TRAIN_LORA,
    TRAIN_TEXT_TO_VIDEO,
    TRAIN_TOKENIZER,
    assert_same_contents,
    read_checkpoint,
    run_in_processes,
    run_in_two_processes,
    run_script,
    save_tiny_pipeline,
    start_command,
)
from tests.tiny_components import make_tiny_transformer
from tests.tiny_data import TINY_VIDEOS, make_frames, make_tiny_videos
from videoar_pipelines import AutoencoderVideoAR, VideoARPipeline, VideoARTransformer3DModel
from videoar_pipelines.training import publishing
from videoar_pipelines.training.discriminator import VideoPatchDiscriminator
from videoar_pipelines.training.perceptual import VGG16Features
from videoar_pipelines.training.transformer_step import CONTRAST_TEMPERATURE
from videoar_pipelines.utils import load_video, save_video


TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")


@pytest.fixture(scope="module")
def pipeline_folder(tmp_path_factory):
    return save_tiny_pipeline(tmp_path_factory.mktemp("pipeline"))


@pytest.fixture(scope="module")
def text_to_video(pipeline_folder):
    return [*TINY_RUN, "--pretrained_pipeline", pipeline_folder, "--max_sequence_length", 16]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return make_tiny_videos(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def ucf101(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ucf101")
    names = [f"Archery/v_Archery_g0{group}_c01" for group in (1, 2, 3, 4)]
    (folder / "Archery").mkdir()
    for seed, name in enumerate(names):
        # The published files are .avi; what they are called decides nothing.
        save_video(make_frames(8, 24, 32, seed), folder / "clip.mkv", 8)
        (folder / "clip.mkv").rename(folder / f"{name}.avi")
    (folder / "ucfTrainTestlist").mkdir()
    (folder / "ucfTrainTestlist" / "classInd.txt").write_text("1 Archery\n")
    (folder / "ucfTrainTestlist" / "trainlist01.txt").write_text(f"{names[0]}.avi 1\n{names[1]}.avi 1\n")
    (folder / "ucfTrainTestlist" / "testlist01.txt").write_text(f"{names[2]}.avi\n{names[3]}.avi\n")
    return folder


def read_metrics(output_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (output_dir / "metrics.jsonl").read_text().splitlines()]


# 1. Command lines


def run_command(*command) -> str:
    process = start_command(*command)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def test_the_transformer_is_trained_by_a_command_in_two_processes(pipeline_folder, tmp_path):
    """With the layout of a YAML file, from scratch, with validation videos, a tracker and a model card."""
    config = f"""
        pretrained_pipeline: {pipeline_folder}
        transformer_config: {{num_layers: 1, num_attention_heads: 2, attention_head_dim: 8, intermediate_size: 16}}
        output_dir: {tmp_path}/run
        max_sequence_length: 16
        validation_prompts: [a red circle, a blue square]
        report_to: tensorboard
        max_train_steps: 100
    """
    (tmp_path / "config.yaml").write_text(config)
    arguments = [*TINY_RUN, "--config_file", tmp_path / "config.yaml", "--report_to", "tensorboard"]
    output = run_command(*TORCHRUN, TRAIN_TEXT_TO_VIDEO, *arguments, "--max_train_steps", 2, "--validation_steps", 2)
    assert re.search(r"100%.*2/2 .*step.*loss=", output), output  # speed and time left stand before the loss
    state = json.loads((tmp_path / "run/checkpoint-2/training_state.json").read_text())
    assert state == {"step": 2, "num_processes": 2, "models": ["transformer"]}
    assert load_video(tmp_path / "run/validation/step-0000002/01.mp4")[0].shape == (3, 5, 32, 32)
    assert list((tmp_path / "run/logs").rglob("events.out.tfevents.*"))

    card = (tmp_path / "run/pipeline/README.md").read_text()
    for fact in (
        "clips per step: 4",
        "steps: 2",
        "2 x CPU",
        "train_text_to_video.py --num_frames 5",
        "text-to-video",
        "| loss |",
    ):
        assert fact in card
    pipeline = VideoARPipeline.from_pretrained(tmp_path / "run/pipeline")
    assert pipeline.transformer.config.num_layers == 1 and pipeline.transformer.config.sample_frames == 2


def test_the_tokenizer_is_trained_by_a_command_in_two_processes(pipeline_folder, tmp_path):
    arguments = ["--pretrained_vae", pipeline_folder / "vae", "--adversarial_weight", 0.1, "--output_dir", tmp_path]
    arguments += ["--adversarial_weight_mode", "adaptive", "--discriminator_channels", 4, "--validation_steps", 2]
    output = run_command(*TORCHRUN, TRAIN_TOKENIZER, *TINY_RUN, *arguments, "--max_train_steps", 2)
    assert "The perceptual loss is off" in output
    metrics = read_metrics(tmp_path)[-1]
    assert {"loss/adversarial", "loss/discriminator", "loss/lecam", "adaptive_weight", "psnr"} <= set(metrics)
    validation = json.loads((tmp_path / "validation/validation.jsonl").read_text())
    assert {"psnr/scales_1", "ssim/scales_2", "round_trip_flips/all", "bit_entropy_min/scale_0"} <= set(validation)
    assert len(validation["bit_usage"]) == 2 and len(validation["bit_usage"][0]) == 8
    assert len(list((tmp_path / "validation").glob("step-0000002-*.png"))) == 2
    assert AutoencoderVideoAR.from_pretrained(tmp_path / "vae").config.latent_channels == 8
    assert "2 x CPU" in (tmp_path / "vae/README.md").read_text()


def test_lora_layers_are_trained_by_a_command_and_loaded_by_the_pipeline(pipeline_folder, tmp_path):
    arguments = [
        "--pretrained_pipeline",
        pipeline_folder,
        "--output_dir",
        tmp_path,
        "--rank",
        2,
        "--learning_rate",
        0.1,
    ]
    arguments += ["--validation_prompts", "a red circle", "--validation_steps", 2, "--max_train_steps", 2]
    run_command(sys.executable, TRAIN_LORA, *TINY_RUN, *arguments)
    assert (tmp_path / "validation/step-0000002/00.mp4").exists()
    assert (tmp_path / "checkpoint-2/pytorch_lora_weights.safetensors").exists()
    layers = load_file(tmp_path / "lora/pytorch_lora_weights.safetensors")
    assert all(name.startswith("transformer.blocks.") and ".lora_" in name for name in layers)
    assert len(layers) == 2 * 2 * 6  # A and B of six layers in two blocks

    pipeline = VideoARPipeline.from_pretrained(pipeline_folder)
    pipeline.set_progress_bar_config(disable=True)

    def sample():
        generator = torch.Generator().manual_seed(0)
        return pipeline("a red circle", num_frames=5, generator=generator, output_type="latent").frames

    before = sample()
    pipeline.load_lora_weights(tmp_path / "lora")
    loaded = pipeline.transformer.blocks[0].attn.to_q.lora_B["default_0"].weight
    assert loaded.equal(layers["transformer.blocks.0.attn.to_q.lora_B.weight"]) and loaded.abs().max() > 0
    assert not sample().equal(before)
    pipeline.unload_lora_weights()
    assert sample().equal(before)


# 2. Data


@pytest.mark.parametrize("data", ["manifest", "ucf101"])
@pytest.mark.parametrize("script", [TRAIN_TOKENIZER, TRAIN_TEXT_TO_VIDEO, TRAIN_LORA], ids=lambda script: script.stem)
def test_every_script_trains_on_files(script, data, pipeline_folder, tmp_path, request):
    source = "--pretrained_pipeline" if script != TRAIN_TOKENIZER else "--pretrained_vae"
    model = pipeline_folder if script != TRAIN_TOKENIZER else pipeline_folder / "vae"
    arguments = [*TINY_RUN, source, model, "--data", request.getfixturevalue(data), "--output_dir", tmp_path]
    if script == TRAIN_TEXT_TO_VIDEO:
        arguments += ["--max_sequence_length", 16, "--image_ratio", 0.5]
    run_script(script, *arguments, "--max_train_steps", 2)
    assert read_metrics(tmp_path)[-1]["step"] == 2


def test_the_tokenizer_trains_on_a_bare_list_of_files(pipeline_folder, manifest, tmp_path, caplog):
    caplog.set_level("INFO")
    for (
        name
    ) in TINY_VIDEOS:  # by their names, since an absolute path would have another hash in every run of the tests
        (tmp_path / name).symlink_to(manifest.parent / name)
    (tmp_path / "manifest.jsonl").write_text("\n".join(json.dumps({"file": name}) for name in TINY_VIDEOS))
    flags = ["--pretrained_vae", pipeline_folder / "vae", "--data", tmp_path, "--output_dir", tmp_path / "run"]
    steps = ["--max_train_steps", 2, "--train_batch_size", 1, "--validation_steps", 2]
    run_script(TRAIN_TOKENIZER, *TINY_RUN, *flags, *steps)
    assert (tmp_path / "run" / "validation" / "validation.jsonl").is_file()
    assert "the hashes of the files hold out 1 of 6 rows for validation" in caplog.text


def test_token_shards_and_the_videos_they_were_made_from_train_alike(
    text_to_video, manifest, pipeline_folder, tmp_path
):
    size = ["--num_frames", 5, "--height", 32, "--width", 32, "--num_workers", 0]
    models = ["--pretrained_pipeline", pipeline_folder, "--max_sequence_length", 16, "--store_features"]
    variants = ["--num_variants", 2]  # six steps are two epochs
    run_script(ENCODE_DATA_SET, "--data", manifest, *size, *models, *variants, "--output_dir", tmp_path / "shards")
    losses = {}
    for name, data in (("videos", manifest), ("shards", tmp_path / "shards")):
        output_dir = tmp_path / name
        run_script(
            TRAIN_TEXT_TO_VIDEO, *text_to_video, "--data", data, "--output_dir", output_dir, "--logging_steps", 1
        )
        losses[name] = [line["loss"] for line in read_metrics(output_dir)]
    # Text states are stored in bfloat16.
    assert losses["shards"] == pytest.approx(losses["videos"], abs=2e-3) and len(losses["videos"]) == 6


@pytest.mark.parametrize("script", [TRAIN_TEXT_TO_VIDEO, TRAIN_LORA], ids=lambda script: script.stem)
def test_frame_conditions_of_a_manifest_are_trained(script, pipeline_folder, manifest, tmp_path):
    rows = [
        {"file": str(manifest.parent / name), "caption": "a video", "room": [number % 2, 1]}
        for number, name in enumerate(TINY_VIDEOS)
    ]
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pipeline = VideoARPipeline.from_pretrained(pipeline_folder)
    pipeline.transformer = make_tiny_transformer(frame_conditions={"room": {"num_labels": 2}})
    pipeline.save_pretrained(tmp_path / "pipeline")
    arguments = [*TINY_RUN, "--pretrained_pipeline", tmp_path / "pipeline", "--data", tmp_path / "manifest.jsonl"]
    arguments += ["--max_sequence_length", 16, "--clip_start", "center", "--output_dir", tmp_path / "run"]
    with pytest.raises(ValueError, match=r"`frame_conditions` are \['room'\], `--condition_columns` are \[\]"):
        run_script(script, *arguments)
    run_script(script, *arguments, "--condition_columns", "room", "--max_train_steps", 2)
    assert read_metrics(tmp_path / "run")[-1]["step"] == 2
    if script == TRAIN_TEXT_TO_VIDEO:
        contents = read_checkpoint(tmp_path / "run/checkpoint-2")
        moment = contents["optimizers.state.transformer.condition_embedders.room.embedder.weight.exp_avg"]
        assert (moment.abs().sum(dim=1) > 0).all()


def test_the_pipeline_makes_by_default_what_it_was_trained_on_last(text_to_video, tmp_path):
    run_script(
        TRAIN_TEXT_TO_VIDEO, *text_to_video, "--max_train_steps", 1, "--num_frames", 9, "--output_dir", tmp_path
    )
    config = VideoARTransformer3DModel.load_config(tmp_path / "pipeline", subfolder="transformer")
    assert (config["sample_frames"], config["sample_height"], config["sample_width"]) == (3, 2, 2)


# 3. Steps


def test_the_weight_of_the_contrast_of_captions_reaches_the_loss(text_to_video, tmp_path):
    def first_step(weight):
        folder = tmp_path / str(weight)
        arguments = f"--caption_contrast {weight} --train_batch_size 4 --logging_steps 1 --max_train_steps 1"
        run_script(TRAIN_TEXT_TO_VIDEO, *text_to_video, *arguments.split(), "--output_dir", folder)
        return read_metrics(folder)[0]

    weak, strong = first_step(1e-12), first_step(1.0)
    assert 0 <= weak["right_caption_likelier"] <= 1 and abs(weak["caption_margin"]) < 0.1
    # Where margins are zero, as under a new transformer, the contrast is that of a coin.
    assert strong["loss"] - weak["loss"] == pytest.approx(CONTRAST_TEMPERATURE * math.log(2), abs=0.1)


@pytest.fixture(scope="module")
def plain_run(text_to_video, tmp_path_factory):
    """Arguments of a run whose batches do not depend on how they are cut, and its output folder."""
    arguments = [*text_to_video, "--no_error_correction", "--text_drop_probability", 0, "--logging_steps", 1]
    output_dir = tmp_path_factory.mktemp("plain")
    run_script(TRAIN_TEXT_TO_VIDEO, *arguments, "--output_dir", output_dir, "--train_batch_size", 4)
    losses = [line["loss"] for line in read_metrics(output_dir)]
    assert losses[-1] < losses[0]
    return arguments, output_dir


def assert_close_runs(first: Path, second: Path) -> None:
    losses = [[line["loss"] for line in read_metrics(folder)] for folder in (first, second)]
    assert len(set(losses[0])) == 6
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    weights = [read_checkpoint(folder / "checkpoint-6") for folder in (first, second)]
    for name, tensor in weights[0].items():
        if name.startswith("models."):
            # Adam divides small gradients by their own size, so that rounding can turn a step of 1e-3 around.
            torch.testing.assert_close(weights[1][name], tensor, rtol=0, atol=2e-3)


def test_accumulated_batches_are_one_large_batch(plain_run, tmp_path):
    arguments, output_dir = plain_run
    accumulation = ["--gradient_accumulation_steps", 2, "--gradient_checkpointing"]
    run_script(TRAIN_TEXT_TO_VIDEO, *arguments, *accumulation, "--output_dir", tmp_path)
    assert_close_runs(output_dir, tmp_path)


@pytest.mark.parametrize("sharding", [["--no-fsdp"], ["--fsdp"]], ids=["ddp", "fsdp2"])
def test_two_processes_train_like_one(plain_run, tmp_path, sharding):
    arguments, output_dir = plain_run

    def run(*more):
        run_in_two_processes(lambda: run_script(TRAIN_TEXT_TO_VIDEO, *arguments, *sharding, *more))

    run("--output_dir", tmp_path)
    assert_close_runs(output_dir, tmp_path)
    if sharding == ["--no-fsdp"]:
        return
    # What is sharded is written by both processes, resumed exactly, and gathered at the end.
    assert len(list((tmp_path / "checkpoint-6/state").glob("*.distcp"))) == 2
    whole = read_checkpoint(tmp_path / "checkpoint-6")
    run("--output_dir", tmp_path, "--resume_from_checkpoint", "checkpoint-4")
    resumed = read_checkpoint(tmp_path / "checkpoint-6")
    assert_same_contents(whole, resumed)
    weights = VideoARTransformer3DModel.from_pretrained(tmp_path / "pipeline/transformer").state_dict()
    assert all(tensor.equal(whole[f"averages.transformer.{name}"]) for name, tensor in weights.items())


def test_muon_trains_alike_in_one_process_in_two_and_sharded_and_resumes(plain_run, tmp_path):
    arguments = [*plain_run[0], "--optimizer", "muon"]
    run_script(TRAIN_TEXT_TO_VIDEO, *arguments, "--output_dir", tmp_path / "one", "--train_batch_size", 4)
    for sharding in ("--no-fsdp", "--fsdp"):
        command = [*arguments, sharding, "--output_dir", tmp_path / sharding]
        run_in_two_processes(lambda: run_script(TRAIN_TEXT_TO_VIDEO, *command))
        assert_close_runs(tmp_path / "one", tmp_path / sharding)
    whole = read_checkpoint(tmp_path / "--fsdp/checkpoint-6")
    command += ["--resume_from_checkpoint", "checkpoint-4"]
    run_in_two_processes(lambda: run_script(TRAIN_TEXT_TO_VIDEO, *command))
    assert_same_contents(whole, read_checkpoint(tmp_path / "--fsdp/checkpoint-6"))
    moved_by_muon = [name for name in whole if name.endswith(".momentum_buffer")]
    assert any("blocks.0.attn.to_q.weight" in name for name in moved_by_muon)
    assert not any("proj_out" in name for name in moved_by_muon)


def test_two_hosts_train_like_one_process(plain_run, tmp_path):
    """As a launcher on each of two machines starts them: one process each, weights sharded over both."""
    arguments, output_dir = plain_run
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = ["--master_addr", "127.0.0.1", "--master_port", port]
    hosts = []
    for rank in range(2):
        launcher = [sys.executable, "-m", "torch.distributed.run", "--nnodes", 2, "--node_rank", rank, *address]
        hosts.append(start_command(*launcher, TRAIN_TEXT_TO_VIDEO, *arguments, "--fsdp", "--output_dir", tmp_path))
    for host in hosts:
        output, _ = host.communicate(timeout=300)
        assert host.returncode == 0, output
    assert_close_runs(output_dir, tmp_path)
    assert "2 x CPU" in (tmp_path / "pipeline/README.md").read_text()


@pytest.mark.parametrize("sharding", [["--no-fsdp"], ["--fsdp"]], ids=["ddp", "fsdp2"])
def test_processes_that_share_sequences_train_like_one(plain_run, tmp_path, monkeypatch, sharding):
    """Two groups of two; clips of a group are the same, those of the groups are not."""
    arguments, output_dir = plain_run
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 4)
    arguments = [*arguments, *sharding, "--context_parallel_degree", 2, "--output_dir", tmp_path]
    arguments += ["--validation_steps", 6, "--validation_prompts", "a red circle", "--gradient_checkpointing"]
    run_in_processes(lambda: run_script(TRAIN_TEXT_TO_VIDEO, *arguments), 4)
    assert_close_runs(output_dir, tmp_path)
    assert (tmp_path / "validation/step-0000006/00.mp4").exists()
    assert "clips per step: 4" in (tmp_path / "pipeline/README.md").read_text()
    weights = VideoARTransformer3DModel.from_pretrained(tmp_path / "pipeline/transformer").state_dict()
    averages = read_checkpoint(tmp_path / "checkpoint-6")
    assert all(tensor.equal(averages[f"averages.transformer.{name}"]) for name, tensor in weights.items())


def test_no_wrapped_model_outlives_the_process_group(text_to_video, pipeline_folder, tmp_path, monkeypatch):
    """One that does may wait for gloo's threads for ever, see `end_run`."""
    destroy = dist.destroy_process_group

    def check_and_destroy(*args):
        (tmp_path / f"checked-{os.environ['RANK']}").touch()
        assert not any(isinstance(item, DistributedDataParallel) for item in gc.get_objects())
        destroy(*args)

    monkeypatch.setattr(dist, "destroy_process_group", check_and_destroy)
    tokenizer = [*TINY_RUN, "--pretrained_vae", pipeline_folder / "vae", "--adversarial_weight", 0.1]
    tokenizer += ["--discriminator_channels", 4]
    lora = [*TINY_RUN, "--pretrained_pipeline", pipeline_folder]
    for script, arguments in ((TRAIN_TEXT_TO_VIDEO, text_to_video), (TRAIN_TOKENIZER, tokenizer), (TRAIN_LORA, lora)):
        arguments = [*arguments, "--max_train_steps", 1, "--output_dir", tmp_path / script.stem]
        run_in_two_processes(lambda: run_script(script, *arguments))
        for rank in range(2):
            (tmp_path / f"checked-{rank}").unlink()


def test_a_sharded_tokenizer_trains_like_one_that_is_not(pipeline_folder, tmp_path):
    models = ["--pretrained_vae", pipeline_folder / "vae", "--adversarial_weight", 0.1, "--discriminator_channels", 4]
    arguments = [*TINY_RUN, *models, "--logging_steps", 1, "--validation_steps", 3]
    for sharding in ("--no-fsdp", "--fsdp"):
        output_dir = tmp_path / sharding
        run_in_two_processes(lambda: run_script(TRAIN_TOKENIZER, *arguments, sharding, "--output_dir", output_dir))
        AutoencoderVideoAR.from_pretrained(output_dir / "vae")
    assert_close_runs(tmp_path / "--no-fsdp", tmp_path / "--fsdp")


def test_a_compiled_tokenizer_trains_like_one_that_is_not(pipeline_folder, tmp_path):
    models = ["--pretrained_vae", pipeline_folder / "vae", "--adversarial_weight", 0.1, "--discriminator_channels", 4]
    arguments = [*TINY_RUN, *models, "--adversarial_weight_mode", "adaptive", "--logging_steps", 1]
    for compiling in ("--no-compile", "--compile"):
        torch._dynamo.reset()
        run_script(TRAIN_TOKENIZER, *arguments, compiling, "--output_dir", tmp_path / compiling)
        AutoencoderVideoAR.from_pretrained(tmp_path / compiling / "vae")
    assert_close_runs(tmp_path / "--no-compile", tmp_path / "--compile")


def test_compiled_lora_layers_train_like_those_that_are_not(pipeline_folder, tmp_path):
    arguments = [*TINY_RUN, "--pretrained_pipeline", pipeline_folder, "--rank", 2, "--logging_steps", 1]
    for compiling in ("--no-compile", "--compile"):
        torch._dynamo.reset()
        run_script(TRAIN_LORA, *arguments, compiling, "--output_dir", tmp_path / compiling)
    assert_close_runs(tmp_path / "--no-compile", tmp_path / "--compile")


def test_a_loss_that_is_not_finite_names_step_files_and_last_good_checkpoint(text_to_video, manifest, tmp_path):
    arguments = [*text_to_video, "--data", manifest, "--output_dir", tmp_path, "--checkpointing_steps", 1]
    message = r"not finite at step 2(.|\n)*loss nan(.|\n)*\.mp4(.|\n)*last good checkpoint is .*checkpoint-1"
    with pytest.raises(FloatingPointError, match=message):
        run_script(TRAIN_TEXT_TO_VIDEO, *arguments, "--learning_rate", 1e30, "--lr_scheduler", "constant")
    assert [path.name for path in sorted(tmp_path.glob("*checkpoint-*"))] == ["checkpoint-1"]


def test_a_gradient_of_the_discriminator_that_is_not_finite_stops_the_run(pipeline_folder, tmp_path, monkeypatch):
    """While its loss is finite: clipping would spread the value over all of its weights."""
    build = VideoPatchDiscriminator.__init__

    def build_with_a_bad_gradient(model, *arguments, **keywords):
        build(model, *arguments, **keywords)
        next(model.parameters()).register_hook(lambda gradient: gradient * float("nan"))

    monkeypatch.setattr(VideoPatchDiscriminator, "__init__", build_with_a_bad_gradient)
    arguments = ["--pretrained_vae", pipeline_folder / "vae", "--adversarial_weight", 0.1, "--output_dir", tmp_path]
    message = r"not finite at step 1(.|\n)*discriminator_gradient_norm nan"
    with pytest.raises(FloatingPointError, match=message):
        run_script(TRAIN_TOKENIZER, *TINY_RUN, *arguments, "--discriminator_channels", 4, "--checkpointing_steps", 1)
    assert not list(tmp_path.glob("*checkpoint-*"))


def test_the_norm_of_gradients_is_clipped(text_to_video, tmp_path):
    weights = {}
    for norm in ("1e-12", "1"):
        arguments = ["--max_grad_norm", norm, "--weight_decay", 0, "--max_train_steps", 1]
        run_script(TRAIN_TEXT_TO_VIDEO, *text_to_video, *arguments, "--output_dir", tmp_path / norm)
        weights[norm] = read_checkpoint(tmp_path / norm / "checkpoint-1")[
            "optimizers.state.transformer.proj_out.weight.exp_avg"
        ]
    assert 0 < weights["1e-12"].norm() <= 1e-13 < weights["1"].norm() <= 0.1


# 4. The objective and the precision of the computation


def test_the_perceptual_loss_reads_the_named_files(pipeline_folder, tmp_path):
    weights = {name: torch.randn_like(value) * 0.05 for name, value in VGG16Features().named_parameters()}
    torch.save(weights, tmp_path / "vgg16.pth")
    arguments = ["--pretrained_vae", pipeline_folder / "vae", "--output_dir", tmp_path, "--max_train_steps", 1]
    terms = ["--vgg_weights", tmp_path / "vgg16.pth", "--perceptual_weight", 2, "--reconstruction_loss", "l1"]
    run_script(TRAIN_TOKENIZER, *TINY_RUN, *arguments, *terms, "--entropy_weight", 0.1, "--commitment_weight", 0.2)
    values = read_metrics(tmp_path)[-1]
    losses = [values[f"loss/{term}"] for term in ("reconstruction", "perceptual", "commitment", "entropy")]
    assert all(loss != 0 for loss in losses) and values["loss"] == pytest.approx(sum(losses), rel=1e-5)


def test_a_frozen_encoder_keeps_its_weights_and_the_decoder_moves(pipeline_folder, tmp_path):
    arguments = ["--pretrained_vae", pipeline_folder / "vae", "--freeze_encoder", "--output_dir", tmp_path]
    run_script(TRAIN_TOKENIZER, *TINY_RUN, *arguments, "--adversarial_weight", 0.1, "--discriminator_channels", 4)
    before, after = (
        AutoencoderVideoAR.from_pretrained(folder / "vae").state_dict() for folder in (pipeline_folder, tmp_path)
    )
    moved = {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"decoder"}


@pytest.mark.parametrize("script", [TRAIN_TOKENIZER, TRAIN_TEXT_TO_VIDEO, TRAIN_LORA], ids=lambda script: script.stem)
def test_every_script_trains_in_bfloat16(script, pipeline_folder, tmp_path):
    models = ["--pretrained_pipeline", pipeline_folder]
    if script == TRAIN_TOKENIZER:
        models = ["--pretrained_vae", pipeline_folder / "vae", "--adversarial_weight", 0.1]
    if script == TRAIN_TEXT_TO_VIDEO:
        models += ["--max_sequence_length", 16]
    precision = ["--mixed_precision", "bf16", "--gradient_checkpointing", "--validation_steps", 2]
    run_script(script, *TINY_RUN, *models, *precision, "--max_train_steps", 2, "--output_dir", tmp_path)
    assert read_metrics(tmp_path)[-1]["step"] == 2
    contents = read_checkpoint(tmp_path / "checkpoint-2")
    assert all(tensor.dtype == torch.float32 for name, tensor in contents.items() if name.startswith("models."))


# 5. The Hub


def test_results_are_pushed_where_asked(text_to_video, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(publishing, "create_repo", lambda repo_id, exist_ok: Namespace(repo_id=f"user/{repo_id}"))
    monkeypatch.setattr(publishing, "upload_folder", lambda **keywords: calls.append(keywords))
    hub = ["--push_to_hub", "--hub_model_id", "videoar-test", "--max_train_steps", 1, "--output_dir", tmp_path]
    run_script(TRAIN_TEXT_TO_VIDEO, *text_to_video, *hub)
    (call,) = calls
    assert (call["repo_id"], call["folder_path"]) == ("user/videoar-test", tmp_path / "pipeline")
    card = ModelCard.load(tmp_path / "pipeline/README.md")
    assert card.data.library_name == "diffusers" and "text-to-video" in card.data.tags
    assert card.data.base_model is None  # a local folder means nothing to others
    assert 'VideoARPipeline.from_pretrained("videoar-test")' in card.text


# 6. Flags


@pytest.mark.parametrize("script", [TRAIN_TOKENIZER, TRAIN_TEXT_TO_VIDEO, TRAIN_LORA], ids=lambda script: script.stem)
def test_every_flag_is_read(script):
    package = REPOSITORY / "src/videoar_pipelines"
    sources = [script, *(package / "training").glob("*.py"), *(package / "data").glob("*.py")]
    text = "".join(source.read_text() for source in sources)
    names = {"output_dir": "run", "pretrained_pipeline": "p", "pretrained_vae": "p"}
    required = [
        f"--{name}={value}"
        for name, value in names.items()
        if f'"--{name}"' in script.read_text() or name == "output_dir"
    ]
    args = runpy.run_path(str(script))["parse_args"](required)
    overrides = (
        re.findall(r'"(\w+)"', re.search(r"flags = \((.*?)\)", text, re.DOTALL).group(1))
        if script == TRAIN_TEXT_TO_VIDEO
        else []
    )
    unread = [name for name in vars(args) if not re.search(rf"args\.{name}\b", text) and name not in overrides]
    assert unread == ["config_file"]


def test_flags_that_do_not_go_together_are_refused(pipeline_folder):
    def parse(script, *arguments):
        return runpy.run_path(str(script))["parse_args"](["--output_dir", "run", *map(str, arguments)])

    with pytest.raises(ValueError, match="--vae_config"):
        parse(TRAIN_TOKENIZER)
    with pytest.raises(ValueError, match="adaptive"):
        parse(TRAIN_TOKENIZER, "--pretrained_vae", "v", "--fsdp", "--adversarial_weight_mode", "adaptive")
    with pytest.raises(ValueError, match="--freeze_encoder"):
        parse(TRAIN_TOKENIZER, "--vae_config", TRAIN_TOKENIZER.parent / "configs" / "vae.json", "--freeze_encoder")
    with pytest.raises(ValueError, match="--perceptual_frames"):
        parse(TRAIN_TOKENIZER, "--pretrained_vae", "v", "--perceptual_weight", 0, "--perceptual_frames", 2)
    with pytest.raises(ValueError, match="--perceptual_frames"):  # VGG16 without a file of weights is off
        parse(TRAIN_TOKENIZER, "--pretrained_vae", "v", "--perceptual_frames", 2)
    with pytest.raises(ValueError, match="--vae"):
        parse(TRAIN_TEXT_TO_VIDEO, "--transformer_config", "L")
    with pytest.raises(ValueError, match="--transformer_config"):
        parse(TRAIN_TEXT_TO_VIDEO, "--vae", "v", "--text_encoder", "t")
    with pytest.raises(ValueError, match="--rope_type"):
        parse(TRAIN_TEXT_TO_VIDEO, "--pretrained_pipeline", "p", "--rope_type", "1d")
    with pytest.raises(ValueError, match="--rope_type"):
        models = ["--vae", "v", "--text_encoder", "t", "--pretrained_transformer", "p"]
        parse(TRAIN_TEXT_TO_VIDEO, *models, "--rope_type", "1d")
    with pytest.raises(ValueError, match="--caption_contrast.*--train_batch_size"):
        parse(TRAIN_TEXT_TO_VIDEO, "--pretrained_pipeline", "p", "--caption_contrast", 1e-3, "--train_batch_size", 1)
    with pytest.raises(ValueError, match="--fsdp"):
        parse(TRAIN_LORA, "--pretrained_pipeline", "p", "--fsdp")


def test_a_transformer_that_does_not_fit_the_other_components_is_refused(text_to_video, tmp_path):
    wrong = ["--transformer_config", '{"num_layers": 1, "in_channels": 32}', "--output_dir", tmp_path]
    with pytest.raises(ValueError, match="`in_channels` is 32.*need 8"):
        run_script(TRAIN_TEXT_TO_VIDEO, *text_to_video, *wrong)
    with pytest.raises(ValueError, match="--max_sequence_length"):
        run_script(TRAIN_TEXT_TO_VIDEO, *text_to_video, "--max_sequence_length", 17, "--output_dir", tmp_path)
