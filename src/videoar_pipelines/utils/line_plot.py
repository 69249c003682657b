# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Line plots as SVG, so that scripts draw them without another dependency."""

import html
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path


LINE_COLORS = ("#1f5fbf", "#c8501e", "#2e8540", "#7a3fa0", "#8a6d00", "#555555")
WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 40, 60  # margins
LETTER = 7.5  # width of one in the legend, about


def axis_ticks(lowest: float, highest: float, most: int = 6) -> list[float]:
    """Round values, at least two and about `most`, whose first and last enclose the range."""
    span = (highest - lowest) or abs(highest) or 1.0
    magnitude = 10 ** math.floor(math.log10(span / most))
    step = next(factor * magnitude for factor in (1, 2, 5, 10, 20) if span / (factor * magnitude) <= most)
    first, last = math.floor(lowest / step + 1e-9), math.ceil(highest / step - 1e-9)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def save_line_plot(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    path: str | os.PathLike,
    title: str,
    x_label: str,
    y_label: str,
    y_range: tuple[float, float] | None = None,
) -> None:
    """
    Write a plot with one line for each series, a legend and a grid.

    Args:
        series: For each name the values on both axes, equally many and at least one.
        path: File to write, `.svg`.
        title: Above the plot.
        x_label: Below the horizontal axis.
        y_label: Beside the vertical axis.
        y_range: Ends of the vertical axis; those of the values if `None`.
    """
    for name, (x_values, y_values) in series.items():
        if len(x_values) != len(y_values) or len(x_values) == 0:
            raise ValueError(
                f"`series[{name!r}]` has {len(x_values)} and {len(y_values)} values: pass as many for both axes, at least one."
            )
    all_x = [value for x_values, _ in series.values() for value in x_values]
    all_y = [value for _, y_values in series.values() for value in y_values]
    x_ticks = axis_ticks(min(all_x), max(all_x))
    y_ticks = axis_ticks(*(y_range or (min(all_y), max(all_y))))

    def x_place(value: float) -> float:
        return LEFT + (value - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]) * (WIDTH - LEFT - RIGHT)

    def y_place(value: float) -> float:
        return HEIGHT - BOTTOM - (value - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]) * (HEIGHT - TOP - BOTTOM)

    def text(x: float, y: float, content: str, anchor: str = "middle", more: str = "") -> str:
        return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{html.escape(content)}</text>'

    def line(x1: float, y1: float, x2: float, y2: float, more: str) -> str:
        return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {more}/>'

    # 1. Axes and labels
    grid = 'stroke="#dddddd"'
    parts = [text(WIDTH / 2, 24, title, more='font-size="16"'), text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, x_label)]
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(text(18, middle, y_label, more=f'transform="rotate(-90 18 {middle})"'))
    for tick in x_ticks:
        parts.append(line(x_place(tick), TOP, x_place(tick), HEIGHT - BOTTOM, grid))
        parts.append(text(x_place(tick), HEIGHT - BOTTOM + 18, f"{tick:.6g}"))
    for tick in y_ticks:
        parts.append(line(LEFT, y_place(tick), WIDTH - RIGHT, y_place(tick), grid))
        parts.append(text(LEFT - 8, y_place(tick) + 4, f"{tick:.6g}", "end"))

    # 2. Lines and legend
    for index, (name, (x_values, y_values)) in enumerate(series.items()):
        color = LINE_COLORS[index % len(LINE_COLORS)]
        points = " ".join(f"{x_place(x):.1f},{y_place(y):.1f}" for x, y in zip(x_values, y_values))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>')
        x, y = WIDTH - 6, TOP + 12 + 18 * index  # beside the plot, where no line can be
        parts.append(line(x, y - 4, x + 24, y - 4, f'stroke="{color}" stroke-width="2"'))
        parts.append(text(x + 30, y, name, "start"))

    width = round(WIDTH + 30 + LETTER * max(len(name) for name in series))
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{HEIGHT}" viewBox="0 0 {width} {HEIGHT}" '
        'font-family="sans-serif" font-size="13">'
    )
    background = f'<rect width="{width}" height="{HEIGHT}" fill="white"/>'
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([head, background, *parts, "</svg>"]) + "\n")
