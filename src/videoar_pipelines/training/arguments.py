# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Command lines of the training scripts: the flags they share, and YAML files whose values are defaults of the flags."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from diffusers.optimization import SchedulerType

from ..utils.command_line import (
    Number,
    UsageError,
    did_you_mean,
    did_you_mean_path,
    non_negative_float,
    non_negative_int,
    positive_float,
    positive_int,
)


def model_config(text: str) -> dict[str, Any]:
    """
    The value of a flag that takes the configuration of a model: a JSON file, or JSON itself (in a YAML file, a mapping).

    Raises:
        `argparse.ArgumentTypeError`: It is neither, or the JSON is no object.
    """
    is_inline = text.lstrip().startswith("{")
    if not is_inline and not Path(text).is_file():
        raise argparse.ArgumentTypeError(
            f"{text!r} is no file. Pass a JSON file, or JSON that starts with '{{'.{did_you_mean_path(text)}"
        )
    try:
        config = json.loads(text if is_inline else Path(text).read_text())
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not valid JSON: {error}")
    if not isinstance(config, dict):
        raise argparse.ArgumentTypeError(f"{text!r} has to hold a JSON object, got {type(config).__name__}.")
    return config


def parse_args_with_config_file(
    parser: argparse.ArgumentParser, arguments: list[str] | None = None
) -> argparse.Namespace:
    """
    Parses a command line whose `--config_file` names YAML files of flags. A flag on the command line overrides the files.

    Args:
        parser (`argparse.ArgumentParser`): With all flags but `--config_file`, which is added here.
        arguments (`list[str]`, *optional*): Instead of the process's command line.

    Raises:
        `UsageError`: A file is missing or no YAML, has a key that is no flag, or a value of the wrong kind.
    """
    parser.add_argument(
        "--config_file",
        type=Path,
        nargs="+",
        help="YAML files of flags; each overrides those before it, and the command line all.",
    )
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config_file", type=Path, nargs="+", default=[])
    paths = finder.parse_known_args(arguments)[0].config_file
    # Merged before argparse sees them: there is no flag that takes a switch back, or a value.
    values = {key: (value, path) for path in paths for key, value in _read_config_file(parser, path).items()}
    actions = _actions_by_key(parser)
    from_files = []
    for key, (value, path) in values.items():
        from_files += [] if value is None else _flag_arguments(actions[key], key, value, path)
    return parser.parse_args([*from_files, *arguments])


def _actions_by_key(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    return {action.dest: action for action in parser._actions if action.option_strings}


def _read_config_file(parser: argparse.ArgumentParser, path: Path) -> dict[str, Any]:
    import yaml

    if not path.is_file():
        raise UsageError(f"`--config_file` {path} is no file: pass a YAML file.{did_you_mean_path(path)}")
    try:
        values = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"`--config_file` {path} is not valid YAML: {error}. Mend the file.") from error
    if not isinstance(values, dict):
        raise UsageError(f"`--config_file` {path} has to hold a mapping of flags to values.")
    actions = _actions_by_key(parser)
    for key in values:
        if key not in actions or key == "config_file":
            raise UsageError(
                f"`--config_file` {path} has the unknown key `{key}`.{did_you_mean(str(key), actions)} Mend or remove it."
            )
    return values


def _flag_arguments(action: argparse.Action, key: str, value: Any, path: Path) -> list[str]:
    """A value of a YAML file as a command line has it, so that argparse checks types, choices and required flags of both alike."""
    option = action.option_strings[0]
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise UsageError(f"`{key}` in {path} is a switch: its value has to be true or false, got {value!r}.")
        if isinstance(action, argparse.BooleanOptionalAction):
            return [action.option_strings[0 if value else 1]]
        return [option] if value else []
    if isinstance(value, bool):
        raise UsageError(
            f"`{key}` in {path} is {value}, but it is no switch. YAML reads yes, no, on and off as true and false: put the "
            "value in quotes."
        )
    if isinstance(value, list):
        if action.nargs not in ("*", "+"):
            raise UsageError(f"`{key}` in {path} takes one value, got the list {value}.")
        return [option, *(str(item) for item in value)]
    return [f"{option}={json.dumps(value) if isinstance(value, dict) else value}"]


_BETA = Number(float, least=0, below=1)
# A piecewise constant one would need its rules.
_LR_SCHEDULES = [kind.value for kind in SchedulerType if kind != SchedulerType.PIECEWISE_CONSTANT]


def add_run_arguments(
    parser: argparse.ArgumentParser,
    learning_rate: float,
    lr_warmup_steps: int,
    weight_decay: float,
    ema_decay: float,
) -> None:
    """
    Adds the flags that every training script has: the run's folder, optimisation, precision, checkpoints, logging, the Hub.

    Args:
        parser (`argparse.ArgumentParser`): Changed in place.
        learning_rate (`float`): A default.
        lr_warmup_steps (`int`): A default.
        weight_decay (`float`): A default.
        ema_decay (`float`): A default.
    """
    run = parser.add_argument_group("run")
    run.add_argument(
        "--output_dir", type=Path, required=True, help="Checkpoints, logs and results; shared by all hosts."
    )
    run.add_argument(
        "--overwrite_output_dir",
        action="store_true",
        help="Delete the run that --output_dir holds. Without this or --resume_from_checkpoint such a folder is refused.",
    )
    run.add_argument("--seed", type=non_negative_int, default=0)
    run.add_argument("--max_train_steps", type=positive_int, default=5000, help="Optimiser steps.")

    optimisation = parser.add_argument_group("optimisation")
    optimisation.add_argument(
        "--gradient_accumulation_steps", type=positive_int, default=1, help="Batches per optimiser step."
    )
    optimisation.add_argument("--learning_rate", type=positive_float, default=learning_rate)
    optimisation.add_argument("--lr_scheduler", choices=_LR_SCHEDULES, default="cosine")
    optimisation.add_argument("--lr_warmup_steps", type=non_negative_int, default=lr_warmup_steps)
    optimisation.add_argument("--adam_beta1", type=_BETA, default=0.9)
    optimisation.add_argument("--adam_beta2", type=_BETA, default=0.95)
    optimisation.add_argument("--weight_decay", type=non_negative_float, default=weight_decay)
    optimisation.add_argument("--max_grad_norm", type=positive_float, default=1.0)
    optimisation.add_argument("--ema_decay", type=_BETA, default=ema_decay, help="Of the averaged weights.")

    machine = parser.add_argument_group("memory and speed")
    machine.add_argument("--mixed_precision", choices=["no", "fp16", "bf16"], help="accelerate's setting by default.")
    machine.add_argument("--gradient_checkpointing", action=argparse.BooleanOptionalAction, default=False)
    machine.add_argument(
        "--fsdp",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="Shard weights, gradients and optimiser state over all processes (FSDP2).",
    )

    checkpoints = parser.add_argument_group("checkpoints")
    checkpoints.add_argument("--checkpointing_steps", type=positive_int, default=1000)
    checkpoints.add_argument("--checkpoints_total_limit", type=positive_int, default=2)
    checkpoints.add_argument("--resume_from_checkpoint", help="'latest', or the name or folder of a checkpoint.")

    logs = parser.add_argument_group("logs")
    logs.add_argument("--logging_steps", type=positive_int, default=50)
    logs.add_argument("--validation_steps", type=positive_int, default=1000)
    logs.add_argument("--report_to", default="tensorboard", help="A tracker that accelerate knows, or 'none'.")

    hub = parser.add_argument_group("Hub")
    hub.add_argument("--push_to_hub", action=argparse.BooleanOptionalAction, default=False)
    hub.add_argument("--hub_model_id", help="Repository to push to; the name of --output_dir by default.")
