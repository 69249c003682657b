# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Draws what runs logged in their `metrics.jsonl`, several runs over each other: loss, accuracy, PSNR and FVD, each in a panel.

    python -m videoar_pipelines.training.plot runs/a runs/b
    python -m videoar_pipelines.training.plot runs/a --output accuracy.svg --values "token_accuracy/.*"

A colour is a run. Thin lines are training batches, lines with dots are held-out clips.
"""

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..utils.files import complete_or_absent
from .run_folder import METRICS_NAME


SUFFIXES = (".png", ".svg")
# What is drawn if nothing is asked for, one panel each, in this order.
DEFAULT_VALUES = (
    "loss",
    "token_accuracy",
    r"r?fvd_of_\d+_clips",
    "psnr",
    r"token_accuracy/scale_\d+",
    r"psnr/scales_\d+",
)
# Where a value is from: prefix of its name, and how its line looks. The first prefix that fits counts.
KINDS = {
    "validation/flipped/": ("held-out clips, flipped bits", {"linewidth": 1.8, "marker": "o", "markersize": 3.5}),
    "validation/clean/": (
        "held-out clips, clean",
        {"linewidth": 1.8, "marker": "o", "markersize": 3.5, "linestyle": "--", "markerfacecolor": "white"},
    ),
    "validation/": ("held-out clips", {"linewidth": 1.8, "marker": "o", "markersize": 3.5}),
    "": ("training batches", {"linewidth": 0.9, "alpha": 0.5}),
}
COLUMNS = 3
PANEL_SIZE = (4.6, 3.1)  # inches
# Told apart by readers who are colour-blind (Okabe and Ito), the yellow left out.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")


@dataclass
class Curve:
    """
    One value of one run.

    Args:
        run (`str`): Name of the run.
        kind (`str`): A prefix of `KINDS`.
        name (`str`): What is left of the name; curves of one name share a panel.
        steps (`list[int]`): Ascending.
        values (`list[float]`): One for each.
    """

    run: str
    kind: str
    name: str
    steps: list[int]
    values: list[float]


# 1. Read


def read_metrics(folder: Path) -> dict[str, dict[int, float]]:
    """
    What a run has logged: by name, the values of its steps in their order. Where a run went back to a checkpoint, the steps after
    it count as they were done last. A last line that is still being written is left out.

    Args:
        folder (`Path`): Of the run.

    Raises:
        `ValueError`: There is no such file, it has no line, or a line is no JSON.
    """
    path = folder / METRICS_NAME
    if not path.is_file():
        raise ValueError(f"{folder} has no {METRICS_NAME}: pass the `--output_dir` of a run that has logged a step.")
    steps, lines = {}, path.read_text().splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                break
            raise ValueError(f"Line {number} of {path} is no JSON ({error}).") from error
        step = values.pop("step")
        # A step that was done before: the run went back, and what came after it was of weights that are gone.
        steps = {earlier: known for earlier, known in steps.items() if earlier < step} | {step: values}
    if not steps:
        raise ValueError(f"{path} has no line yet: wait for the first step that is logged.")
    metrics = {}
    for step, values in steps.items():
        for name, value in values.items():
            metrics.setdefault(name, {})[step] = value
    return metrics


def name_runs(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell the runs apart."""
    paths = [folder.resolve().parts for folder in folders]
    for length in range(1, max(map(len, paths)) + 1):
        names = ["/".join(parts[-length:]) for parts in paths]
        if len(set(names)) == len(names):
            return names
    raise ValueError(f"A run is given twice: {', '.join(map(str, folders))}. Pass each once.")


def split_name(name: str) -> tuple[str, str]:
    """`validation/clean/loss` to its kind, `validation/clean/`, and `loss`."""
    kind = next(prefix for prefix in KINDS if name.startswith(prefix))
    return kind, name.removeprefix(kind)


# 2. Choose


def choose_panels(
    runs: dict[str, dict[str, dict[int, float]]], patterns: Sequence[str] = DEFAULT_VALUES
) -> dict[str, list[Curve]]:
    """
    The panels of a figure, by their names, in the order of the patterns and, within one, of the numbers in the names.

    Args:
        runs (`dict`): By name, what [`read_metrics`] gives.
        patterns (`Sequence[str]`): Regular expressions for whole names, without the prefixes of `KINDS`.

    Raises:
        `ValueError`: A pattern is no regular expression, or no run has a value of such a name.
    """
    curves = {}
    for run, metrics in runs.items():
        for full_name, values in metrics.items():
            kind, name = split_name(full_name)
            curves.setdefault(name, []).append(Curve(run, kind, name, list(values), list(values.values())))
    panels = {}
    for pattern in patterns:
        try:
            found = [name for name in curves if re.fullmatch(pattern, name)]
        except re.error as error:
            raise ValueError(f"`--values` {pattern!r} is no regular expression: {error}.") from error
        panels |= {name: curves[name] for name in sorted(found, key=_natural_order)}
    if not panels:
        raise ValueError(
            f"No run has a value of the names {', '.join(patterns)}. There are: {', '.join(sorted(curves))}."
        )
    return panels


def _natural_order(name: str) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


# 3. Draw


def draw_panels(panels: dict[str, list[Curve]], runs: Sequence[str]) -> Any:
    """A figure of matplotlib with a panel for each entry, colours for the runs, and one legend."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(columns * PANEL_SIZE[0], rows * PANEL_SIZE[1] + 0.6), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    colors = {run: COLORS[number % len(COLORS)] for number, run in enumerate(runs)}
    every_curve = [curve for curves in panels.values() for curve in curves]
    kinds = [kind for kind in KINDS if any(curve.kind == kind for curve in every_curve)]
    last_step = 1.03 * max(curve.steps[-1] for curve in every_curve)

    # 1. Panels; training first, so that held-out clips lie above it
    for axis, (name, curves) in zip(axes, panels.items()):
        for curve in sorted(curves, key=lambda curve: curve.kind != ""):
            _, style = KINDS[curve.kind]
            axis.plot(curve.steps, curve.values, color=colors[curve.run], **style)
        axis.set_title(_title(name), fontsize=10)
        axis.grid(color="#dddddd", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_xlabel("optimiser step", fontsize=8)
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axis.set_xlim(0, last_step)
        if "accuracy" in name:
            # From nothing right; a share of 0 all along is a line at the bottom, not in the middle.
            axis.set_ylim(0, max(0.01, 1.05 * max(value for curve in curves for value in curve.values)))
    for axis in axes[len(panels) :]:
        axis.set_visible(False)

    # 2. Legend
    entries = [Line2D([], [], color=colors[run], linewidth=3, label=run) for run in runs]
    entries += [Line2D([], [], color="#444444", label=KINDS[kind][0], **KINDS[kind][1]) for kind in kinds]
    figure.legend(handles=entries, loc="outside upper left", ncols=4, fontsize=9, frameon=False)
    return figure


def _title(name: str) -> str:
    """`token_accuracy/scale_3` to `token accuracy, scale 3`, `psnr/scales_2` to `PSNR (dB), first 2 scales`."""
    words = re.sub(r"/scales_(\d+)", r", first \1 scales", name).replace("first 1 scales", "first scale")
    words = words.replace("/", ", ").replace("_", " ")
    written = {"psnr": "PSNR (dB)", "fvd": "FVD", "rfvd": "rFVD", "ssim": "SSIM"}
    return re.sub(r"\b(psnr|fvd|rfvd|ssim)\b", lambda match: written[match[0]], words)


def save_figure(figure: Any, output: Path) -> None:
    """Writes `.png` or `.svg`; text in an SVG file stays text."""
    import matplotlib

    with complete_or_absent(output) as path, matplotlib.rc_context({"svg.fonttype": "none"}):
        figure.savefig(path, dpi=150)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m videoar_pipelines.training.plot",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("runs", nargs="+", type=Path, help="Folders of runs: their --output_dir.")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("training.png"),
        help="File to write, .png or .svg (default: training.png).",
    )
    parser.add_argument(
        "--values",
        nargs="+",
        default=DEFAULT_VALUES,
        metavar="PATTERN",
        help="Regular expressions for the names of the values to draw, without `validation/` and what comes before the value:"
        ' "bit_accuracy/scale_.*", "lr". By default loss, token accuracy, PSNR and FVD.',
    )
    args = parser.parse_args(arguments)
    if args.output.suffix not in SUFFIXES:
        parser.error(f"`--output` is {args.output}: pass a name that ends in {' or '.join(SUFFIXES)}.")
    try:
        names = name_runs(args.runs)
        panels = choose_panels({name: read_metrics(run) for name, run in zip(names, args.runs)}, args.values)
    except ValueError as error:
        parser.error(str(error))
    save_figure(draw_panels(panels, names), args.output)
    print(args.output)


if __name__ == "__main__":
    main()
