# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
The arms of an ablation, read from one YAML file. It trains and scores nothing.

    training      flags of train_text_to_video.py that all arms share
    evaluation    how all arms are judged, see `evaluate_arm.EvaluationOptions`
    seeds         the seeds of every arm
    tables        titles, each with its arms and the arm that the others are compared with
    arms          by name, what an arm changes in `training` and `evaluation`; or the arm whose weights it samples from, `weights_of`
    base          another such file, of which this one changes and adds to what it names

Mappings inside `training`, such as `scheduler_config`, are merged too. `{data}` stands for the folder of the token shards.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from videoar_pipelines.utils.command_line import UsageError, did_you_mean


_KEYS = {"training", "evaluation", "seeds", "tables", "arms"}
_ARM_KEYS = {"training", "evaluation", "weights_of"}
_TABLE_KEYS = {"title", "reference", "arms"}


@dataclass(frozen=True)
class Arm:
    """
    One arm.

    Args:
        name (`str`): Of its folder and of its row in the table.
        training (`dict`): Flags of train_text_to_video.py, without those of the folder and the seed.
        evaluation (`dict`): Arguments of `evaluate_arm.EvaluationOptions`.
        weights_of (`str`, *optional*): The arm whose weights it is judged with; it is not trained.
    """

    name: str
    training: dict[str, Any]
    evaluation: dict[str, Any]
    weights_of: str | None = None


@dataclass(frozen=True)
class Table:
    """
    Arms that are compared with each other.

    Args:
        title (`str`): Above the table.
        reference (`str`): The arm that the others are compared with.
        arms (`list[str]`): In the order of the rows, the reference among them.
    """

    title: str
    reference: str
    arms: list[str]


@dataclass(frozen=True)
class Ablation:
    """All that a YAML file says."""

    seeds: list[int]
    tables: list[Table]
    arms: dict[str, Arm] = field(default_factory=dict)


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with `changes`; mappings that both have are merged in turn."""
    result = dict(base)
    for name, value in changes.items():
        if isinstance(value, dict) and isinstance(result.get(name), dict):
            value = merged(result[name], value)
        result[name] = value
    return result


def read_ablation(path: Path, data_dir: Path | None = None) -> Ablation:
    """
    Args:
        path (`Path`): The YAML file.
        data_dir (`Path`, *optional*): What `{data}` in the file stands for.

    Raises:
        `UsageError`: The file is missing, is no YAML, or has a key that means nothing.
    """
    content = _read_content(path, data_dir)
    _check_keys(path, content, _KEYS, required=_KEYS)
    arms = {}
    for name, changes in content["arms"].items():
        changes = changes or {}
        _check_keys(path, changes, _ARM_KEYS)
        source = changes.get("weights_of")
        if source is not None and (source not in arms or "training" in changes):
            raise UsageError(
                f"The arm `{name}` in {path} has `weights_of: {source}`: name an earlier arm, and give it no `training`."
            )
        arms[name] = Arm(
            name,
            arms[source].training if source else merged(content["training"], changes.get("training", {})),
            merged(arms[source].evaluation if source else content["evaluation"], changes.get("evaluation", {})),
            source,
        )
    tables = []
    for table in content["tables"]:
        _check_keys(path, table, _TABLE_KEYS, required=_TABLE_KEYS)
        for name in [table["reference"], *table["arms"]]:
            if name not in arms:
                raise UsageError(f"A table in {path} names the unknown arm `{name}`.{did_you_mean(name, arms)}")
        tables.append(Table(**table))
    return Ablation(content["seeds"], tables, arms)


def _read_content(path: Path, data_dir: Path | None) -> dict[str, Any]:
    if not path.is_file():
        raise UsageError(f"`--arms_file` {path} is no file: pass a YAML file of arms.")
    try:
        content = yaml.safe_load(path.read_text().replace("{data}", str(data_dir)))
    except yaml.YAMLError as error:
        raise UsageError(f"`--arms_file` {path} is not valid YAML: {error}. Mend the file.") from error
    if not isinstance(content, dict) or "base" not in content:
        return content
    base = _read_content(path.parent / content.pop("base"), data_dir)
    return merged(base, content)


def _check_keys(path: Path, mapping: Any, known: set[str], required: set[str] = frozenset()) -> None:
    if not isinstance(mapping, dict):
        raise UsageError(f"{path} has {mapping!r} where a mapping with {', '.join(sorted(known))} is needed.")
    for key in mapping:
        if key not in known:
            raise UsageError(f"{path} has the unknown key `{key}`.{did_you_mean(str(key), known)} Mend or remove it.")
    missing = sorted(required - mapping.keys())
    if missing:
        raise UsageError(f"{path} lacks `{missing[0]}`: it needs {', '.join(sorted(required))}.")


def result_path(output_dir: Path, arm: str, seed: int) -> Path:
    """Where the numbers of an arm and a seed are."""
    return output_dir / "results" / f"{arm}-seed-{seed}.json"


def fvd_path(output_dir: Path, arm: str, seed: int) -> Path:
    """Where the FVD of an arm and a seed is."""
    return output_dir / "results" / f"{arm}-seed-{seed}-fvd.json"
