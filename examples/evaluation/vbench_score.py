# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Computes VBench's quality, semantic and total score from what its scorer wrote.

    python examples/evaluation/vbench_score.py evaluation_results --samples runs/vbench/samples.jsonl --output_file vbench.json
    python examples/evaluation/vbench_score.py --row 95.51 97.85 98.83 98.37 61.39 63.42 60.71 94.98 72.88 94.40 90.73 56.14 50.52 22.68 \
        25.11 27.44

It looks at no video: VBENCH.md says how the scorer is run.
"""

import hashlib
import json
import sys
from pathlib import Path

from videoar_pipelines.evaluation.vbench import (
    VBENCH_DIMENSIONS,
    VBenchResult,
    VBenchScores,
    parse_vbench_row,
    read_vbench_results,
    vbench_scores,
)
from videoar_pipelines.evaluation.vbench_prompts import NUM_SAMPLES
from videoar_pipelines.utils.command_line import CommandLineParser, run_command_line
from videoar_pipelines.utils.files import complete_or_absent, read_json_lines


PER_VIDEO = ("file", "prompt", "seed", "vbench_prompt", "number", "dimensions")


def parse_args(arguments=None):
    parser = CommandLineParser(__doc__)
    parser.add_argument(
        "results", nargs="*", type=Path, help="Result files of the scorer (*_eval_results.json), or folders with them."
    )
    parser.add_argument(
        "--row", type=float, nargs="+", help="Instead: 16 numbers in percent, in the order in which papers print them."
    )
    parser.add_argument("--samples", type=Path, help="samples.jsonl of sample_vbench.py, to be told with the scores.")
    parser.add_argument("--output_file", type=Path, help="Where to write everything as JSON.")
    parser.add_argument(
        "--allow_missing",
        action="store_true",
        help="A part of the dimensions is no error; what needs the others is left out.",
    )
    args = parser.parse_args(arguments)
    if bool(args.results) == (args.row is not None):
        raise ValueError("Pass result files (or folders with them), or `--row`.")
    return args


def read_settings(path: Path) -> dict:
    """What all samples have in common."""
    records = read_json_lines(path)
    if not records:
        raise ValueError(f"`--samples` {str(path)!r} is empty.")
    settings = {key: value for key, value in records[0].items() if key not in PER_VIDEO}
    return settings | {"num_videos": len(records)}


def make_report(
    dimensions: dict[str, float], results: dict[str, VBenchResult], scores: VBenchScores, settings: dict | None
) -> dict:
    rows = {}
    for dimension in VBENCH_DIMENSIONS:
        if dimension.name not in dimensions:
            continue
        rows[dimension.name] = {
            "score": dimensions[dimension.name],
            "normalized": scores.normalized[dimension.name],
            "lowest": dimension.lowest,
            "highest": dimension.highest,
            "weight": dimension.weight,
            "kind": dimension.kind,
            "expected_videos": NUM_SAMPLES * dimension.num_prompts,
        }
        if dimension.name in results:
            result = results[dimension.name]
            sha256 = hashlib.sha256(result.file.read_bytes()).hexdigest()
            rows[dimension.name] |= {"videos": result.num_videos, "file": str(result.file), "file_sha256": sha256}
    return {
        "total": scores.total,
        "quality": scores.quality,
        "semantic": scores.semantic,
        "dimensions": rows,
        "missing": list(scores.missing),
        "samples": settings,
    }


def format_report(report: dict) -> str:
    lines = [f"{'dimension':24}{'score':>8}{'of range':>10}{'weight':>8}   videos"]
    for dimension in VBENCH_DIMENSIONS:
        row = report["dimensions"].get(dimension.name)
        if row is None:
            lines.append(f"{dimension.name:24}{'missing':>8}")
            continue
        videos = "" if row.get("videos") is None else f"{row['videos']} of {row['expected_videos']}"
        lines.append(
            f"{dimension.name:24}{100 * row['score']:8.2f}{100 * row['normalized']:10.2f}{dimension.weight:8g}   {videos}".rstrip()
        )
    for name in ("quality", "semantic", "total"):
        value = report[name]
        lines.append(f"{name:24}{'-' if value is None else format(100 * value, '.2f'):>8}")
    if report["samples"] is not None:
        lines += [f"{name}: {value}" for name, value in report["samples"].items()]
    return "\n".join(lines)


def main(args):
    if args.row is not None:
        results, dimensions = {}, parse_vbench_row(args.row)
    else:
        results = read_vbench_results(args.results)
        dimensions = {name: result.score for name, result in results.items()}
    scores = vbench_scores(dimensions)
    settings = None if args.samples is None else read_settings(args.samples)
    report = make_report(dimensions, results, scores, settings)
    print(format_report(report))
    if args.output_file is not None:
        with complete_or_absent(args.output_file) as temporary_path:
            temporary_path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if scores.missing and not args.allow_missing:
        sys.exit(
            f"error: {len(scores.missing)} of {len(VBENCH_DIMENSIONS)} dimensions are missing: {', '.join(scores.missing)}. Run the "
            "scorer for them, or pass --allow_missing for a table without what needs them."
        )


if __name__ == "__main__":
    run_command_line(main, parse_args)
