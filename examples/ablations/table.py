# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Makes the Markdown tables and the plots of an ablation from what `run.py` has written.

    python table.py --arms_file moving_shapes.yaml --output_dir runs/moving_shapes --markdown ablations.md --plots_dir images

A value is the mean over seeds with a 95 % t-interval. The difference to the reference arm is paired, seed by seed, over the seeds that
both have; it is bold where its interval does not hold 0. An interval tells what other seeds would give, not other held-out clips.
"""

import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arms import Ablation, Table, fvd_path, read_ablation, result_path

from videoar_pipelines.utils import save_line_plot
from videoar_pipelines.utils.command_line import CommandLineParser, run_command_line
from videoar_pipelines.utils.files import complete_or_absent


# Quantile 0.975 of Student's t by degrees of freedom.
T_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


def parse_args(arguments=None):
    parser = CommandLineParser(__doc__)
    parser.add_argument("--arms_file", type=Path, required=True)
    parser.add_argument("--output_dir", type=Path, required=True, help="That of run.py.")
    parser.add_argument("--markdown", type=Path, help="File for the tables; they are printed too.")
    parser.add_argument("--seeds", type=int, nargs="+", help="Instead of the file's, as for run.py.")
    parser.add_argument("--plots_dir", type=Path, help="Folder for plots, `.svg`.")
    return parser.parse_args(arguments)


# 1. Intervals


@dataclass(frozen=True)
class Estimate:
    """
    A mean over seeds.

    Args:
        mean (`float`): Of the values.
        half_width (`float`): Of its 95 % interval; not a number for a single value.
        count (`int`): Of the values.
    """

    mean: float
    half_width: float
    count: int

    @property
    def is_different_from_zero(self) -> bool:
        return abs(self.mean) > self.half_width


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and t-interval of independent values, at most ten."""
    count = len(values)
    if not 1 <= count <= len(T_QUANTILES) + 1:
        raise ValueError(f"`values` has {count} values: pass 1 to {len(T_QUANTILES) + 1}.")
    if count == 1:
        return Estimate(values[0], math.nan, 1)
    error = statistics.stdev(values) / math.sqrt(count)
    return Estimate(statistics.mean(values), T_QUANTILES[count - 2] * error, count)


def paired_difference(values: dict[int, float], reference: dict[int, float]) -> Estimate | None:
    """Of the values by seed, `values - reference` over the seeds that both have; `None` if there are none."""
    shared = sorted(values.keys() & reference.keys())
    return estimate([values[seed] - reference[seed] for seed in shared]) if shared else None


# 2. What is in a table


@dataclass(frozen=True)
class Column:
    """
    A number of every run.

    Args:
        title (`str`): Above the column.
        value (`Callable`): Gives the number of a result, or raises `KeyError` or `IndexError` where it has none.
        digits (`int`): After the point.
    """

    title: str
    value: Callable[[dict[str, Any]], float]
    digits: int


def columns_of(results: list[dict[str, Any]]) -> list[list[Column]]:
    """The columns for which at least one run has a number, in blocks: likelihood, what videos show, distances."""
    bits, frames = (lambda result: result["held_out_bits"]), list(results[0]["continued"])
    num_scales = max(len(bits(result)["clean"]["by_scale"]) for result in results)
    blocks = [
        [
            Column("bits a token", lambda result: bits(result)["clean"]["per_token"], 3),
            Column("10 % flipped", lambda result: bits(result)["corrupted"]["per_token"], 3),
            *(
                Column(f"scale {scale}", lambda result, scale=scale: bits(result)["clean"]["by_scale"][scale], 2)
                for scale in range(num_scales)
            ),
            Column("bits a latent frame", lambda result: bits(result)["clean"]["per_frame"], 1),
        ],
        [
            Column("text, all right, %", lambda result: 100 * result["text"]["right"]["all"], 1),
            *(
                Column(f"frame {frame}, all right, %", lambda result, frame=frame: 100 * right_at(result, frame), 1)
                for frame in frames
            ),
            *(
                Column(f"frame {frame}, attributes, %", lambda result, frame=frame: 100 * mean_right(result, frame), 1)
                for frame in frames
            ),
            Column("ceiling, all right, %", lambda result: 100 * result["ceiling"]["right"]["all"], 1),
            Column("ceiling, PSNR", lambda result: result["ceiling"]["psnr"], 1),
        ],
        [
            *(
                Column(f"frame {frame}, distance", lambda result, frame=frame: distance_at(result, frame), 4)
                for frame in frames
            ),
            Column("FVD, text", lambda result: result["fvd"]["text"]["value"], 0),
            *(
                Column(f"FVD, frame {frame}", lambda result, frame=frame: fvd_at(result, frame)["value"], 0)
                for frame in frames
            ),
            Column("FVD, ceiling", lambda result: result["fvd"]["ceiling"]["value"], 0),
            Column("seconds a video", lambda result: result["seconds_per_video"], 3),
        ],
    ]
    present = [[column for column in block if any(has(column, result) for result in results)] for block in blocks]
    return [block for block in present if block]


def right_at(result: dict[str, Any], frame: str) -> float:
    return result["continued"][frame]["right"]["all"]


def mean_right(result: dict[str, Any], frame: str) -> float:
    """Mean over the attributes of the shares that are right."""
    shares = result["continued"][frame]["right"]
    return statistics.mean(share for name, share in shares.items() if name != "all")


def distance_at(result: dict[str, Any], frame: str) -> float:
    return result["continued"][frame]["latent_distance"]


def fvd_at(result: dict[str, Any], frame: str) -> dict[str, float]:
    return result["fvd"][f"continued-{int(frame):03d}"]


def has(column: Column, result: dict[str, Any]) -> bool:
    try:
        column.value(result)
    except (KeyError, IndexError):
        return False
    return True


def read_results(
    ablation: Ablation, output_dir: Path, seeds: Sequence[int] | None = None
) -> dict[str, dict[int, dict[str, Any]]]:
    """What there is by arm and seed; the FVD, where it was computed, as `fvd`."""
    results = {}
    for name in ablation.arms:
        for seed in seeds or ablation.seeds:
            path, fvd = result_path(output_dir, name, seed), fvd_path(output_dir, name, seed)
            if path.exists():
                result = json.loads(path.read_text())
                if fvd.exists():
                    result["fvd"] = json.loads(fvd.read_text())
                results.setdefault(name, {})[seed] = result
    return results


# 3. Markdown


def format_value(value: Estimate, digits: int) -> str:
    if value.count == 1:
        return f"{value.mean:.{digits}f}"
    return f"{value.mean:.{digits}f} ± {value.half_width:.{digits}f}"


def format_difference(value: Estimate | None, digits: int) -> str:
    if value is None:
        return ""
    if value.count == 1:
        return f"{value.mean:+.{digits}f}"
    text = f"{value.mean:+.{digits}f} ± {value.half_width:.{digits}f}"
    return f"**{text}**" if value.is_different_from_zero else text


def values_of(column: Column, results: dict[int, dict[str, Any]]) -> dict[int, float]:
    return {seed: column.value(result) for seed, result in results.items() if has(column, result)}


def format_table(table: Table, results: dict[str, dict[int, dict[str, Any]]]) -> list[str]:
    """The lines of a table: block by block the values, then the differences to the reference."""
    present = {name: results[name] for name in table.arms if name in results}
    lines = [f"### {table.title}", ""]
    for columns in columns_of([result for runs in present.values() for result in runs.values()]) if present else ():
        lines += format_rows("arm", columns, {name: value_cells(columns, runs) for name, runs in present.items()})
        reference = present.get(table.reference)
        others = {name: runs for name, runs in present.items() if name != table.reference}
        if reference is not None and others:
            cells = {name: difference_cells(columns, runs, reference) for name, runs in others.items()}
            lines += format_rows(f"minus `{table.reference}`, same seeds", columns, cells)
    missing = [name for name in table.arms if name not in present]
    return lines + (["Not run: " + ", ".join(f"`{name}`" for name in missing) + ".", ""] if missing else [])


def format_rows(title: str, columns: list[Column], cells: dict[str, list[str]]) -> list[str]:
    lines = [f"| {title} | seeds | " + " | ".join(column.title for column in columns) + " |"]
    lines += ["|" + "---|" * (len(columns) + 2)]
    return [*lines, *(f"| `{name}` | " + " | ".join(row) + " |" for name, row in cells.items()), ""]


def value_cells(columns: list[Column], runs: dict[int, dict[str, Any]]) -> list[str]:
    cells = [str(len(runs))]
    for column in columns:
        values = values_of(column, runs)
        cells.append(format_value(estimate(list(values.values())), column.digits) if values else "")
    return cells


def difference_cells(
    columns: list[Column], runs: dict[int, dict[str, Any]], reference: dict[int, dict[str, Any]]
) -> list[str]:
    cells = [str(len(runs.keys() & reference.keys()))]
    for column in columns:
        difference = paired_difference(values_of(column, runs), values_of(column, reference))
        cells.append(format_difference(difference, column.digits))
    return cells


# 4. Plots


def draw_plots(number: int, table: Table, results: dict[str, dict[int, dict[str, Any]]], folder: Path) -> None:
    """Over the latent frames: held-out bits a token, and of continued videos what is right and the distance of latents."""
    present = [name for name in table.arms if name in results]
    if not present:
        return

    def draw(name: str, points: Callable[[dict[str, Any]], dict[int, float]], y_label: str) -> None:
        series = {}
        for arm in present:
            runs = [points(result) for result in results[arm].values()]
            frames = sorted(set.intersection(*(set(run) for run in runs)))
            if frames:
                series[arm] = (frames, [statistics.mean(run[frame] for run in runs) for frame in frames])
        if series:
            save_line_plot(series, folder / f"{name}-{number}.svg", table.title, "latent frame", y_label)

    draw(
        "bits",
        lambda result: dict(enumerate(result["held_out_bits"]["clean"]["by_frame"], start=1)),
        "held-out bits a token",
    )
    draw(
        "right",
        lambda result: {
            int(frame): 100 * mean_right(result, frame)
            for frame, score in result["continued"].items()
            if "right" in score
        },
        "attributes right, %",
    )
    draw(
        "distance",
        lambda result: {int(frame): score["latent_distance"] for frame, score in result["continued"].items()},
        "distance of latents",
    )


def main(args):
    ablation = read_ablation(args.arms_file)
    results = read_results(ablation, args.output_dir, args.seeds)
    lines = []
    for number, table in enumerate(ablation.tables, start=1):
        lines += format_table(table, results)
        if args.plots_dir is not None:
            args.plots_dir.mkdir(parents=True, exist_ok=True)
            draw_plots(number, table, results, args.plots_dir)
    text = "\n".join(lines)
    print(text)
    if args.markdown is not None:
        with complete_or_absent(args.markdown) as path:
            path.write_text(text)


if __name__ == "__main__":
    run_command_line(main, parse_args)
