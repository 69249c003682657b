# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0

import json
import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import torch
from convert_infinitystar_to_diffusers import ConversionError, main
from diffusers import DiffusionPipeline
from infinitystar_transformer_keys import check_plans, plan_tensors, read_config, to_half_split_rotation
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import T5Config, T5EncoderModel

from tests.infinitystar_fixtures import FOLDER, public_tensors
from tests.infinitystar_runs import (
    RecordedRun,
    make_run_scheduler,
    public_transformer_tensors,
    run_facts,
    run_text,
)
from tests.tiny_components import make_tiny_tokenizer
from videoar_pipelines import InfinityStarPipeline, InfinityStarTransformer3DModel
from videoar_pipelines.utils.command_line import UsageError


ROOT = Path(__file__).parents[2]


def convert(output_path: Path, *arguments: str, **paths: Path) -> Path:
    """Converts the tiny weights to `output_path`; `paths` replace theirs."""
    paths = {
        "transformer_path": FOLDER / "transformer.safetensors",
        "vae_path": FOLDER / "vae.safetensors",
        "output_path": output_path,
    } | paths
    options = [text for name, path in paths.items() for text in (f"--{name}", str(path))]
    main([*options, "--preset", "480p", *arguments])
    return output_path


def write_shards(folder: Path, number: int = 3, suffix: str = "safetensors") -> Path:
    """The tiny transformer as the public one is stored: shards and an index. Gate and up projections are apart."""
    folder.mkdir()
    tensors, weight_map = public_transformer_tensors(), {}
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    for shard in range(number):
        name = f"{stem}-{shard + 1:05d}-of-{number:05d}.{suffix}"
        part = {key: tensors[key] for key in sorted(tensors)[shard::number]}
        if suffix == "safetensors":
            save_file(part, folder / name)
        else:
            torch.save(part, folder / name)
        weight_map |= dict.fromkeys(part, name)
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def load_transformer_files(folder: Path) -> dict[str, torch.Tensor]:
    return {
        name: tensor
        for file in sorted((folder / "transformer").glob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }


def full_size_shapes() -> dict[str, tuple[int, ...]]:
    return {name: tuple(shape) for name, shape in run_facts()["full_size"]["shapes"].items()}


# 1. What comes out


def test_the_converted_folder_draws_every_bit_of_the_reference(tmp_path):
    convert(tmp_path / "converted", "--dtype", "float32")
    assert {path.name for path in (tmp_path / "converted").iterdir()} == {
        "README.md",
        "model_index.json",
        "pipeline.py",
        "scheduler",
        "transformer",
        "vae",
    }
    assert 'from_pretrained("converted")' in (tmp_path / "converted" / "README.md").read_text()
    transformer, info = InfinityStarTransformer3DModel.from_pretrained(
        tmp_path / "converted" / "transformer", output_loading_info=True
    )
    assert not any(info.values()), info
    pipeline = DiffusionPipeline.from_pretrained(tmp_path / "converted")
    assert isinstance(pipeline, InfinityStarPipeline)
    assert pipeline.scheduler.config.num_scales == 14 and pipeline.text_encoder is None
    pipeline.register_modules(scheduler=make_run_scheduler())
    pipeline.set_progress_bar_config(disable=True)
    latents = pipeline(
        prompt_embeds=run_text(), num_frames=17, generator=torch.Generator().manual_seed(41), output_type="latent"
    ).frames
    assert (latents - RecordedRun.load("t2v_apg").latents).abs().max() <= 1e-6


def test_weights_are_bfloat16_but_for_the_heads(tmp_path):
    tensors = load_transformer_files(convert(tmp_path / "converted"))
    heads = {"proj_out_semantic.weight", "proj_out_semantic.bias", "proj_out_detail.weight", "proj_out_detail.bias"}
    assert {name for name, tensor in tensors.items() if tensor.dtype == torch.float32} == heads
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32, torch.bfloat16}
    full = load_transformer_files(convert(tmp_path / "full", "--dtype", "float32"))
    assert full.keys() == tensors.keys()
    assert all(torch.equal(full[name].to(tensor.dtype), tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_shards_give_what_one_file_gives(tmp_path, suffix):
    whole = load_transformer_files(convert(tmp_path / "whole"))
    shards = write_shards(tmp_path / "shards", suffix=suffix)
    converted = convert(tmp_path / "converted", "--max_shard_gb", "3e-4", transformer_path=shards)
    tensors = load_transformer_files(converted)
    assert tensors.keys() == whole.keys()
    assert all(torch.equal(tensors[name], whole[name]) for name in whole)
    files = sorted((converted / "transformer").glob("*.safetensors"))
    assert len(files) >= 4 and max(file.stat().st_size for file in files) < 3.2e5
    for file in files:
        with safe_open(file, "pt") as opened:
            assert opened.metadata() == {"format": "pt"}
    assert InfinityStarTransformer3DModel.from_pretrained(converted / "transformer").config.num_layers == 4


def test_a_text_encoder_comes_with_its_tokenizer(tmp_path):
    tokenizer = make_tiny_tokenizer()
    config = T5Config(vocab_size=len(tokenizer), d_model=48, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    text_path = tmp_path / "flan-t5-tiny"
    tokenizer.save_pretrained(text_path)
    T5EncoderModel(config).save_pretrained(text_path)
    convert(tmp_path / "converted", text_encoder_path=text_path)
    pipeline = InfinityStarPipeline.from_pretrained(
        tmp_path / "converted", scheduler=make_run_scheduler(), dtype=torch.bfloat16
    )
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline.text_encoder.dtype == torch.bfloat16
    assert pipeline("a red circle", num_frames=1).frames.shape == (1, 1, 64, 112, 3)


@pytest.mark.parametrize(("preset", "num_scales", "min_detail_tokens"), [("480p", 14, 350), ("720p", 15, 750)])
def test_presets_differ_in_the_scheduler(tmp_path, preset, num_scales, min_detail_tokens):
    convert(tmp_path / "converted", "--preset", preset)  # the later one counts
    config = json.loads((tmp_path / "converted" / "scheduler" / "scheduler_config.json").read_text())
    assert (config["num_scales"], config["min_detail_tokens"]) == (num_scales, min_detail_tokens)
    assert len(config["image_repetitions"]) == len(config["video_repetitions"]) == num_scales


# 2. Names and shapes


def test_the_published_transformer_is_converted_to_the_default_configuration():
    shapes = full_size_shapes()
    config = read_config(shapes)
    with torch.device("meta"):
        model = InfinityStarTransformer3DModel()
    assert config == {name: model.config[name] for name in config}
    plans = plan_tensors(shapes, config)
    check_plans(plans, shapes, model)
    used = [source for plan in plans.values() for source in plan.sources]
    assert len(used) == len(set(used)) == 406 and set(shapes) - set(used) == {"sos_token"}
    # Two of the public tensors make one of ours in every layer.
    assert len(plans) == 406 - 36
    num_parameters = sum(torch.Size(shapes[name]).numel() for name in used)
    assert num_parameters + 4096 == 8_768_382_112
    assert sum(parameter.numel() for parameter in model.parameters()) == num_parameters


def test_layers_are_numbered_through_their_chunks():
    shapes = full_size_shapes()
    plans = plan_tensors(shapes, read_config(shapes))
    assert plans["blocks.13.norm1.weight"].sources == ("block_chunks.2.module.1.input_layernorm.weight",)
    assert plans["blocks.35.ff.net.0.proj.weight"].sources == (
        "block_chunks.5.module.5.mlp.up_proj.weight",
        "block_chunks.5.module.5.mlp.gate_proj.weight",
    )


def test_pairs_that_rotate_together_come_to_lie_half_a_head_apart():
    rows = torch.arange(16)[:, None] * torch.ones(1, 3)  # two heads of 8
    reordered = to_half_split_rotation(rows, 8)[:, 0].tolist()
    assert reordered == [0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15]


# 3. Errors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("head.bias"), "lacks 1 tensor\\(s\\): head.bias"),
        (lambda tensors: tensors.pop("word_embed.weight"), "lacks word_embed.weight, which tells the size"),
        (
            lambda tensors: tensors.pop("block_chunks.1.module.0.mlp.up_proj.weight"),
            "lacks 1 tensor\\(s\\): block_chunks.1.module.0.mlp.up_proj.weight",
        ),
        (lambda tensors: tensors.update(extra=torch.zeros(3)), "has 1 tensor\\(s\\): extra \\(3,\\) that this"),
        (
            lambda tensors: tensors.update({"head.weight": torch.zeros(128, 64)}),
            "another shape for 1 tensor\\(s\\): head.weight \\(128, 64\\) instead of \\(128, 128\\)",
        ),
        (
            lambda tensors: tensors.update({"block_chunks.0.module.1.mlp.gate_proj.weight": torch.zeros(256, 64)}),
            "another shape for 1 tensor\\(s\\): block_chunks.0.module.1.mlp.up_proj.weight \\+ ",
        ),
    ],
    ids=["no bias", "no size", "no up projection", "unknown", "wrong head", "wrong gate"],
)
def test_a_transformer_that_is_not_the_model_is_refused(tmp_path, change, message):
    tensors = dict(public_transformer_tensors())
    change(tensors)
    save_file(tensors, tmp_path / "changed.safetensors")
    with pytest.raises(ConversionError, match=message):
        convert(tmp_path / "converted", transformer_path=tmp_path / "changed.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["changed.safetensors"]


def test_shards_that_are_missing_or_wrong_are_refused(tmp_path):
    shards = write_shards(tmp_path / "shards")
    names = sorted(path.name for path in shards.glob("*.safetensors"))

    def refuses(message):
        with pytest.raises(ConversionError, match=message):
            convert(tmp_path / "converted", transformer_path=shards)
        assert not (tmp_path / "converted").exists()

    whole = (shards / names[1]).read_bytes()
    (shards / names[1]).unlink()
    refuses(f"lacks 1 of 3 shards: {names[1]}")
    shutil.copy(shards / names[0], shards / names[1])  # a shard under another's name
    refuses(f"is in {names[0]} and in {names[1]}")
    other = {f"other.{name}": tensor for name, tensor in load_file(shards / names[0]).items()}
    save_file(other, shards / names[1])  # a shard of another model
    refuses("are not those of model.safetensors.index.json: .*not in model-00002-of-00003")
    (shards / names[1]).write_bytes(whole[: len(whole) // 2])
    refuses(f"{names[1]} is truncated or damaged. Download it again")
    (shards / names[1]).write_bytes(whole)
    (shards / "model.safetensors.index.json").write_text("{}")
    refuses("is not an index of shards: it has no `weight_map`")
    (shards / "model.safetensors.index.json").unlink()
    refuses("has no index \\(model.safetensors.index.json or pytorch_model.bin.index.json\\)")


def test_files_that_are_not_there_or_something_else_are_refused(tmp_path):
    with pytest.raises(ConversionError, match="`--transformer_path` .*nothing.safetensors is not a file"):
        convert(tmp_path / "converted", transformer_path=tmp_path / "nothing.safetensors")
    with pytest.raises(ConversionError, match="`--vae_path` .*nothing.pth is not a file"):
        convert(tmp_path / "converted", vae_path=tmp_path / "nothing.pth")
    with pytest.raises(ConversionError, match="`--text_encoder_path` .* is no folder of a text encoder"):
        convert(tmp_path / "converted", text_encoder_path=tmp_path)
    torch.save({"model": public_transformer_tensors(), "step": 3}, tmp_path / "training.pth")
    with pytest.raises(ConversionError, match="training.pth is not a plain dictionary of tensors"):
        convert(tmp_path / "converted", transformer_path=tmp_path / "training.pth")
    tokenizer = dict(public_tensors())
    del tokenizer["encoder.conv_in.conv.weight"]
    save_file(tokenizer, tmp_path / "vae.safetensors")
    with pytest.raises(ConversionError, match="lacks encoder.conv_in.weight"):
        convert(tmp_path / "converted", vae_path=tmp_path / "vae.safetensors")
    with pytest.raises(ConversionError, match="holds no tokenizer: there is no key 'encoder.\\*'"):
        convert(tmp_path / "converted", vae_path=FOLDER / "transformer.safetensors")
    with pytest.raises(ConversionError, match="`--max_shard_gb` has to be above 0, got -1"):
        convert(tmp_path / "converted", "--max_shard_gb", "-1")
    assert not (tmp_path / "converted").exists()
    (tmp_path / "converted").mkdir()
    with pytest.raises(UsageError, match="`--output_path` .*converted exists already"):
        convert(tmp_path / "converted")


def test_the_script_says_what_is_wrong_in_one_line(tmp_path, monkeypatch, capsys):
    script = ROOT / "conversion" / "convert_infinitystar_to_diffusers.py"
    arguments = ["--transformer_path", str(tmp_path / "nothing"), "--vae_path", str(FOLDER / "vae.safetensors")]
    arguments += ["--preset", "480p", "--output_path", str(tmp_path / "converted")]
    monkeypatch.setattr(sys, "argv", [str(script), *arguments])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(script), run_name="__main__")
    printed = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"error: `--transformer_path` .* is not a file\.$", printed)
