# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
The quality, semantic and total score of [VBench](https://huggingface.co/papers/2311.17982), from what its scorer wrote for each of the 16
dimensions. The scorer itself, which looks at videos, is VBench's: it runs in an environment of its own.

A dimension is stretched from its range to [0, 1]. Quality is the mean of seven dimensions, among which the dynamic degree has half a
weight; semantic is the mean of the other nine; the total is `(4 * quality + semantic) / 5`. Ranges and weights are those of
`scripts/constant.py` in the repository Vchitect/VBench; eleven published rows give them back to the printed decimals
(`tests/evaluation/test_vbench.py`).
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


RESULT_SUFFIX = "_eval_results.json"
QUALITY_WEIGHT, SEMANTIC_WEIGHT = 4, 1  # of the two scores in the total


@dataclass(frozen=True)
class VBenchDimension:
    """
    One of the 16 dimensions.

    Args:
        name (`str`): As the scorer names it.
        kind (`str`): `"quality"` or `"semantic"`.
        num_prompts (`int`): Entries of VBench's list of prompts that it is scored on; each has five videos.
        lowest (`float`, defaults to 0.0): The score that counts as 0.
        highest (`float`, defaults to 1.0): The score that counts as 1.
        weight (`float`, defaults to 1.0): In the mean of its kind.
    """

    name: str
    kind: str
    num_prompts: int
    lowest: float = 0.0
    highest: float = 1.0
    weight: float = 1.0

    def normalize(self, score: float) -> float:
        """Stretches a score from the dimension's range to [0, 1]; what lies outside of the range is not cut off."""
        return (score - self.lowest) / (self.highest - self.lowest)


# In the order of the columns of VBench's leaderboard and of most papers.
VBENCH_DIMENSIONS = (
    VBenchDimension("subject_consistency", "quality", 72, lowest=0.1462),
    VBenchDimension("background_consistency", "quality", 86, lowest=0.2615),
    VBenchDimension("temporal_flickering", "quality", 75, lowest=0.6293),
    VBenchDimension("motion_smoothness", "quality", 72, lowest=0.706, highest=0.9975),
    VBenchDimension("dynamic_degree", "quality", 72, weight=0.5),
    VBenchDimension("aesthetic_quality", "quality", 93),
    VBenchDimension("imaging_quality", "quality", 93),
    VBenchDimension("object_class", "semantic", 79),
    VBenchDimension("multiple_objects", "semantic", 82),
    VBenchDimension("human_action", "semantic", 100),
    VBenchDimension("color", "semantic", 85),
    VBenchDimension("spatial_relationship", "semantic", 84),
    VBenchDimension("scene", "semantic", 86, highest=0.8222),
    VBenchDimension("appearance_style", "semantic", 90, lowest=0.0009, highest=0.2855),
    VBenchDimension("temporal_style", "semantic", 100, highest=0.364),
    VBenchDimension("overall_consistency", "semantic", 93, highest=0.364),
)
DIMENSION_NAMES = tuple(dimension.name for dimension in VBENCH_DIMENSIONS)


@dataclass(frozen=True)
class VBenchScores:
    """
    Args:
        normalized (`dict[str, float]`): Of every dimension that was given, stretched to [0, 1].
        quality (`float`, *optional*): In [0, 1]; `None` if one of its seven dimensions is missing.
        semantic (`float`, *optional*): In [0, 1]; `None` if one of its nine dimensions is missing.
        total (`float`, *optional*): In [0, 1]; `None` if a dimension is missing.
        missing (`tuple[str, ...]`): Dimensions that were not given.
    """

    normalized: dict[str, float]
    quality: float | None
    semantic: float | None
    total: float | None
    missing: tuple[str, ...]


def vbench_scores(dimensions: Mapping[str, float]) -> VBenchScores:
    """
    Computes the three scores. A missing dimension leaves out what depends on it; it does not count as 0.

    Args:
        dimensions (`Mapping[str, float]`): Score of each dimension by its name, in [0, 1].

    Raises:
        `ValueError`: A name is no dimension of VBench, or a score is not in [0, 1].
    """
    unknown = sorted(set(dimensions) - set(DIMENSION_NAMES))
    if unknown:
        raise ValueError(f"`dimensions` has {', '.join(unknown)}: VBench's are {', '.join(DIMENSION_NAMES)}.")
    for name, score in dimensions.items():
        if not 0 <= score <= 1:  # written so that NaN is refused as well
            raise ValueError(
                f"`dimensions` has {name} = {score}: a score lies between 0 and 1. Divide percentages by 100."
            )

    given = [dimension for dimension in VBENCH_DIMENSIONS if dimension.name in dimensions]
    normalized = {dimension.name: dimension.normalize(dimensions[dimension.name]) for dimension in given}
    quality, semantic = (_weighted_mean(normalized, kind) for kind in ("quality", "semantic"))
    total = None
    if quality is not None and semantic is not None:
        total = (QUALITY_WEIGHT * quality + SEMANTIC_WEIGHT * semantic) / (QUALITY_WEIGHT + SEMANTIC_WEIGHT)
    missing = tuple(name for name in DIMENSION_NAMES if name not in dimensions)
    return VBenchScores(normalized, quality, semantic, total, missing)


def _weighted_mean(normalized: Mapping[str, float], kind: str) -> float | None:
    dimensions = [dimension for dimension in VBENCH_DIMENSIONS if dimension.kind == kind]
    if any(dimension.name not in normalized for dimension in dimensions):
        return None
    weighted_sum = sum(dimension.weight * normalized[dimension.name] for dimension in dimensions)
    return weighted_sum / sum(dimension.weight for dimension in dimensions)


def parse_vbench_row(percentages: Sequence[float]) -> dict[str, float]:
    """
    A row of a table, as papers and the leaderboard print it.

    Args:
        percentages (`Sequence[float]`): 16 numbers in percent, in the order of `VBENCH_DIMENSIONS`.

    Returns:
        `dict[str, float]`: Score of each dimension, in [0, 1].

    Raises:
        `ValueError`: There are not 16 numbers, or they are not in percent.
    """
    if len(percentages) != len(DIMENSION_NAMES):
        raise ValueError(
            f"A row has {len(DIMENSION_NAMES)} numbers, got {len(percentages)}. Their order: {', '.join(DIMENSION_NAMES)}."
        )
    if not max(percentages) > 1:
        raise ValueError(f"A row is in percent, got {list(percentages)}: multiply by 100.")
    return {name: percentage / 100 for name, percentage in zip(DIMENSION_NAMES, percentages)}


@dataclass(frozen=True)
class VBenchResult:
    """
    What the scorer found for one dimension.

    Args:
        score (`float`): In [0, 1].
        num_videos (`int`, *optional*): Videos that entered it, if the file tells.
        file (`Path`): Where it was read.
    """

    score: float
    num_videos: int | None
    file: Path


def read_vbench_results(paths: Iterable[Path]) -> dict[str, VBenchResult]:
    """
    Reads what VBench's scorer wrote: `{"dimension": [score, [one entry for each video]], ...}` with one dimension or several in a
    file.

    Args:
        paths (`Iterable[Path]`): Files, and folders that are searched, with all folders in them, for `*_eval_results.json`.

    Returns:
        `dict[str, VBenchResult]`: By dimension, in the order of `VBENCH_DIMENSIONS`.

    Raises:
        `ValueError`: A path holds no results, a file is no result file, or two files disagree on a dimension.
    """
    results = {}
    for path in paths:
        for file in _result_files(path):
            for name, result in _read_result_file(file).items():
                other = results.setdefault(name, result)
                if other.score != result.score:
                    raise ValueError(
                        f"Two files disagree on {name}: {other.file} has {other.score}, {file} has {result.score}. Pass the "
                        "files of one evaluation."
                    )
    return {name: results[name] for name in DIMENSION_NAMES if name in results}


def _result_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    files = sorted(path.rglob(f"*{RESULT_SUFFIX}"))
    if not files:
        raise ValueError(
            f"There is no file *{RESULT_SUFFIX} in {str(path)!r}. Pass the scorer's --output_path, or its result files."
        )
    return files


def _read_result_file(file: Path) -> dict[str, VBenchResult]:
    try:
        contents = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{str(file)!r} is not valid JSON: {error}.") from error
    if not isinstance(contents, dict):
        raise ValueError(
            f"{str(file)!r} holds no results: they are an object with dimensions as keys, in a file *{RESULT_SUFFIX}."
        )
    results = {}
    for key, value in contents.items():
        name = key.replace(" ", "_")
        if name not in DIMENSION_NAMES:
            raise ValueError(f"{str(file)!r} has {key!r}, which is no dimension of VBench (2.0 and I2V have others).")
        score, videos = value if isinstance(value, list) and len(value) == 2 else (value, None)
        if not isinstance(score, (int, float)) or not math.isfinite(score):
            raise ValueError(
                f"{str(file)!r} has {value!r} for {name}, not a score. The scorer writes NaN where it found no video: check "
                "the names of the videos."
            )
        results[name] = VBenchResult(float(score), len(videos) if isinstance(videos, list) else None, file)
    return results
