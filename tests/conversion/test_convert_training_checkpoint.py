# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
import re
import runpy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import T5EncoderModel

from tests.examples.training_scripts import (
    REPOSITORY,
    TINY_RUN,
    TRAIN_LORA,
    TRAIN_TEXT_TO_VIDEO,
    TRAIN_TOKENIZER,
    read_checkpoint,
    run_in_child,
    run_in_two_processes,
    run_script,
    save_tiny_pipeline,
)
from videoar_pipelines import AutoencoderVideoAR, VideoARPipeline, VideoARTransformer3DModel
from videoar_pipelines.training.checkpoint_index import save_sharded
from videoar_pipelines.utils.command_line import UsageError


CONVERT = REPOSITORY / "conversion" / "convert_training_checkpoint.py"


def test_a_sharded_checkpoint_becomes_folders_for_from_pretrained(tmp_path, capsys):
    models = ["--pretrained_pipeline", save_tiny_pipeline(tmp_path / "tiny"), "--max_sequence_length", 16]
    arguments = [
        *TINY_RUN,
        *models,
        "--train_text_encoder",
        "--fsdp",
        "--max_train_steps",
        2,
        "--output_dir",
        tmp_path,
    ]
    run_in_two_processes(lambda: run_script(TRAIN_TEXT_TO_VIDEO, *arguments))
    convert = runpy.run_path(str(CONVERT))["main"]
    checkpoint = ["--checkpoint_path", str(tmp_path / "checkpoint-2")]
    convert([*checkpoint, "--output_path", str(tmp_path / "converted"), "--max_shard_size", "20KB"])
    assert len(list((tmp_path / "converted/transformer").glob("*.safetensors"))) > 2
    assert "averaged tensors in" in capsys.readouterr().out
    for name, model_class in (("transformer", VideoARTransformer3DModel), ("text_encoder", T5EncoderModel)):
        converted = model_class.from_pretrained(tmp_path / "converted" / name).state_dict()
        saved = model_class.from_pretrained(tmp_path / "pipeline" / name).state_dict()
        assert converted.keys() == saved.keys() and all(converted[key].equal(saved[key]) for key in saved)

    convert([*checkpoint, "--output_path", str(tmp_path / "raw"), "--weights", "raw"])
    raw = VideoARTransformer3DModel.from_pretrained(tmp_path / "raw/transformer").state_dict()
    contents = read_checkpoint(tmp_path / "checkpoint-2")
    assert all(tensor.equal(contents[f"models.transformer.{name}"]) for name, tensor in raw.items())
    assert not raw["proj_out.weight"].equal(contents["averages.transformer.proj_out.weight"])


@pytest.mark.parametrize("trained", ["--no-train_text_encoder", "--train_text_encoder"])
def test_a_run_that_was_interrupted_becomes_a_whole_pipeline(tmp_path, trained, capsys):
    """The same that the run would have saved, had it ended with this step, and with the number of its steps."""
    models = ["--pretrained_pipeline", save_tiny_pipeline(tmp_path / "tiny"), "--max_sequence_length", 16, trained]
    arguments = [*TINY_RUN, *models, "--max_train_steps", 2, "--output_dir", tmp_path / "run"]
    run_script(TRAIN_TEXT_TO_VIDEO, *arguments)
    (tmp_path / "run/pipeline").rename(tmp_path / "expected")
    main = runpy.run_path(str(CONVERT))["main"]
    main(["--checkpoint_path", str(tmp_path / "run/checkpoint-2"), "--output_path", str(tmp_path / "whole")])
    assert "The pipeline is complete" in capsys.readouterr().out
    assert "steps: 2" in (tmp_path / "whole/README.md").read_text()

    converted, expected = (VideoARPipeline.from_pretrained(tmp_path / name) for name in ("whole", "expected"))
    for name in ("transformer", "vae", "text_encoder"):
        first, second = (getattr(pipe, name).state_dict() for pipe in (converted, expected))
        assert first.keys() == second.keys() and all(first[key].equal(second[key]) for key in second)
    assert dict(converted.scheduler.config) == dict(expected.scheduler.config)
    sizes = {"num_frames": 5, "height": 32, "width": 32, "output_type": "pt"}
    videos = [
        pipe("a red circle", generator=torch.Generator().manual_seed(0), **sizes).frames
        for pipe in (converted, expected)
    ]
    assert videos[0].equal(videos[1])


def test_frozen_models_that_have_moved_are_named_by_flags(tmp_path):
    tiny = save_tiny_pipeline(tmp_path / "tiny")
    models = ["--vae", tiny / "vae", "--pretrained_pipeline", tiny, "--max_sequence_length", 16]
    run_script(TRAIN_TEXT_TO_VIDEO, *TINY_RUN, *models, "--max_train_steps", 1, "--output_dir", tmp_path / "run")
    tiny.rename(tmp_path / "moved")
    main = runpy.run_path(str(CONVERT))["main"]
    arguments = ["--checkpoint_path", str(tmp_path / "run/checkpoint-1"), "--output_path", str(tmp_path / "whole")]
    with pytest.raises(UsageError, match="`--vae` '.*tiny/vae' is no folder"):
        main(arguments)
    assert not (tmp_path / "whole").exists()
    main([*arguments, "--vae", str(tmp_path / "moved/vae"), "--text_encoder", str(tmp_path / "moved")])
    VideoARPipeline.from_pretrained(tmp_path / "whole")


def test_a_decoder_alone_gets_the_encoder_that_training_began_with(tmp_path):
    tiny = save_tiny_pipeline(tmp_path / "tiny")
    arguments = ["--pretrained_vae", tiny / "vae", "--freeze_encoder", "--fsdp", "--max_train_steps", 2]
    run_in_two_processes(lambda: run_script(TRAIN_TOKENIZER, *TINY_RUN, *arguments, "--output_dir", tmp_path / "run"))
    saved, before = (
        AutoencoderVideoAR.from_pretrained(folder / "vae").state_dict() for folder in (tmp_path / "run", tiny)
    )
    for name, weight in saved.items():
        assert weight.equal(before[name]) == (not name.startswith("decoder.")), name

    main = runpy.run_path(str(CONVERT))["main"]
    checkpoint = ["--checkpoint_path", str(tmp_path / "run/checkpoint-2"), "--output_path"]
    main([*checkpoint, str(tmp_path / "whole")])
    converted = AutoencoderVideoAR.from_pretrained(tmp_path / "whole/vae").state_dict()
    assert converted.keys() == saved.keys() and all(converted[name].equal(saved[name]) for name in saved)

    tiny.rename(tmp_path / "moved")
    with pytest.raises(UsageError, match="`--vae` '.*tiny/vae' is no folder"):
        main([*checkpoint, str(tmp_path / "again")])
    other = save_tiny_pipeline(tmp_path / "other")
    vae = AutoencoderVideoAR.from_pretrained(other / "vae")
    with torch.no_grad():
        vae.encoder.conv_in.weight.mul_(2)
    vae.save_pretrained(other / "vae")
    with pytest.raises(
        UsageError, match="is not the tokenizer that .*checkpoint-2 began with: its encoder has other weights"
    ):
        main([*checkpoint, str(tmp_path / "again"), "--vae", str(other / "vae")])
    (tmp_path / "run/checkpoint-2/encoder_source.json").unlink()
    with pytest.raises(
        UsageError, match="weights of the tokenizer, encoder.*name the tokenizer that training began with"
    ):
        main([*checkpoint, str(tmp_path / "again")])
    main([*checkpoint, str(tmp_path / "again"), "--vae", str(tmp_path / "moved/vae")])
    again = AutoencoderVideoAR.from_pretrained(tmp_path / "again/vae").state_dict()
    assert all(again[name].equal(saved[name]) for name in saved)


def test_conversion_holds_little_more_than_one_file_in_memory(tmp_path):
    folder = tmp_path / "checkpoint-1"
    (folder / "model").mkdir(parents=True)
    (folder / "model/config.json").write_text('{"_class_name": "Any"}')
    tensors = {f"layer_{index}": torch.full((2**20,), float(index)) for index in range(32)}  # 4 MiB each, 128 in all
    save_sharded({"averages": {"model": tensors}}, folder / "state")
    del tensors
    convert = runpy.run_path(str(CONVERT))["main"]
    arguments = ["--checkpoint_path", folder, "--output_path", tmp_path / "converted", "--max_shard_size", "8MB"]

    def memory(name):
        return int(re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text()).group(1)) / 1024

    def convert_and_measure():
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before = memory("VmRSS")
        convert([str(argument) for argument in arguments])
        assert memory("VmHWM") - before < 48

    assert run_in_child(convert_and_measure) == 0
    files = sorted((tmp_path / "converted/model").glob("*.safetensors"))
    assert len(files) >= 16
    stored = {name: tensor for file in files for name, tensor in load_file(file).items()}
    assert all(stored[f"layer_{index}"].unique().tolist() == [index] for index in range(32))


def test_what_is_no_checkpoint_is_refused_and_leaves_nothing(tmp_path):
    convert = runpy.run_path(str(CONVERT))
    with pytest.raises(convert["ConversionError"], match="not a complete checkpoint"):
        convert["main"](["--checkpoint_path", str(tmp_path), "--output_path", str(tmp_path / "converted")])
    with pytest.raises(UsageError, match="`--output_path` .* exists already"):
        convert["main"](["--checkpoint_path", str(tmp_path), "--output_path", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_of_lora_layers_is_refused_with_a_remedy(tmp_path):
    arguments = ["--pretrained_pipeline", save_tiny_pipeline(tmp_path / "tiny"), "--output_dir", tmp_path]
    run_script(TRAIN_LORA, *TINY_RUN, *arguments, "--max_train_steps", 1)
    convert = runpy.run_path(str(CONVERT))
    with pytest.raises(convert["ConversionError"], match="load_lora_weights"):
        convert["main"](["--checkpoint_path", str(tmp_path / "checkpoint-1"), "--output_path", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
