# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
import argparse
import json

import pytest

from videoar_pipelines.training.arguments import add_run_arguments, model_config, parse_args_with_config_file
from videoar_pipelines.training.components import transformer_config


@pytest.fixture
def parse(tmp_path):
    def parse_with_file(yaml_text, *command_line, before=()):
        parser = argparse.ArgumentParser(allow_abbrev=False)
        add_run_arguments(parser, learning_rate=1e-3, lr_warmup_steps=10, weight_decay=0.1, ema_decay=0.99)
        parser.add_argument("--vae_config", type=model_config)
        parser.add_argument("--prompts", nargs="*")
        parser.add_argument("--no_error_correction", action="store_true")
        path = tmp_path / "config.yaml"
        path.write_text(yaml_text)
        return parse_args_with_config_file(parser, ["--config_file", *map(str, before), str(path), *command_line])

    return parse_with_file


def test_values_of_the_file_are_defaults_that_the_command_line_overrides(parse):
    args = parse("output_dir: a\nmax_train_steps: 7\nseed: 3\ngradient_checkpointing: true", "--seed", "4")
    assert (str(args.output_dir), args.max_train_steps, args.seed) == ("a", 7, 4)
    assert args.gradient_checkpointing and args.weight_decay == 0.1
    assert not parse("output_dir: a\nfsdp: true", "--no-fsdp").fsdp


def test_later_files_override_earlier_ones(parse, tmp_path):
    (tmp_path / "base.yaml").write_text("seed: 1\nmax_train_steps: 5")
    args = parse("output_dir: a\nseed: 2", before=[tmp_path / "base.yaml"])
    assert (args.seed, args.max_train_steps) == (2, 5)


def test_a_later_file_takes_back_a_switch_or_a_value(parse, tmp_path):
    (tmp_path / "base.yaml").write_text("no_error_correction: true\nprompts: [a]\nseed: 3")
    args = parse(
        "output_dir: a\nno_error_correction: false\nprompts: null\nseed: null", before=[tmp_path / "base.yaml"]
    )
    assert (args.no_error_correction, args.prompts, args.seed) == (False, None, parse("output_dir: a").seed)


def test_a_number_that_yaml_reads_as_text_is_a_number(parse):
    assert parse("output_dir: a\nlearning_rate: 1e-4").learning_rate == 1e-4


def test_mappings_lists_and_switches_reach_their_flags(parse):
    text = "output_dir: a\nvae_config: {latent_channels: 8, block_out_channels: [8, 16]}\nprompts: [a red circle, b]\n"
    args = parse(text + "no_error_correction: true")
    assert args.vae_config == {"latent_channels": 8, "block_out_channels": [8, 16]}
    assert args.prompts == ["a red circle", "b"]
    assert args.no_error_correction


@pytest.mark.parametrize(
    "text, message",
    [
        ("output_dir: a\nlearning_rat: 1", "unknown key `learning_rat`. Did you mean `learning_rate`"),
        ("output_dir: a\nmixed_precision: no", "put the value in quotes"),
        ("output_dir: a\nfsdp: 1", "is a switch"),
        ("output_dir: a\nseed: [1, 2]", "takes one value"),
        ("- output_dir", "mapping of flags"),
    ],
)
def test_a_wrong_file_is_an_error_that_names_the_key(parse, text, message):
    with pytest.raises(ValueError, match=message):
        parse(text)


@pytest.mark.parametrize("text", ["output_dir: a\nmixed_precision: fp8", "output_dir: a\nseed: one", "seed: 1"])
def test_types_choices_and_required_flags_are_checked_as_on_the_command_line(parse, text, capsys):
    with pytest.raises(SystemExit):
        parse(text)
    assert "error" in capsys.readouterr().err


def test_a_model_configuration_is_a_size_of_the_paper_a_file_or_json(tmp_path):
    path = tmp_path / "transformer.json"
    path.write_text(json.dumps({"num_layers": 3}))
    assert transformer_config(str(path)) == transformer_config('{"num_layers": 3}') == {"num_layers": 3}
    assert transformer_config("XL") == {"num_layers": 32, "num_attention_heads": 16, "attention_head_dim": 128}
    for wrong in ("XXL", "{num_layers", "[1]"):
        with pytest.raises(argparse.ArgumentTypeError):
            transformer_config(wrong)
