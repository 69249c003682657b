# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
import xml.etree.ElementTree as ElementTree

import pytest

from videoar_pipelines.utils import save_line_plot
from videoar_pipelines.utils.line_plot import axis_ticks


SVG = "{http://www.w3.org/2000/svg}"


def test_ticks_are_round_and_enclose_the_range():
    assert axis_ticks(0, 1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert axis_ticks(17, 201) == [0, 50, 100, 150, 200, 250]
    for lowest, highest in [(0.93, 0.97), (-3, 1000), (5, 5), (0, 0)]:
        ticks = axis_ticks(lowest, highest)
        assert ticks[0] <= lowest + 1e-9 and ticks[-1] >= highest - 1e-9 and 2 <= len(ticks) <= 8


def test_a_plot_has_a_line_for_every_series_from_corner_to_corner(tmp_path):
    path = tmp_path / "docs" / "plot.svg"
    save_line_plot(
        {"rising": ([0, 10], [0, 1]), "falling & <low>": ([0, 5, 10], [1, 0.5, 0])}, path, "A plot", "frame", "share"
    )
    plot = ElementTree.parse(path).getroot()
    lines = [line.get("points") for line in plot.iter(f"{SVG}polyline")]
    assert lines == ["70.0,340.0 700.0,40.0", "70.0,40.0 385.0,190.0 700.0,340.0"]
    texts = [text.text for text in plot.iter(f"{SVG}text")]
    assert {"A plot", "frame", "share", "rising", "falling & <low>", "0.2", "10"} <= set(texts)


def test_a_given_range_sets_the_vertical_axis(tmp_path):
    save_line_plot({"half": ([0, 1], [0.5, 0.5])}, tmp_path / "plot.svg", "", "", "", y_range=(0, 1))
    points = next(ElementTree.parse(tmp_path / "plot.svg").getroot().iter(f"{SVG}polyline")).get("points")
    assert points == "70.0,190.0 700.0,190.0"


@pytest.mark.parametrize("values", [([], []), ([1, 2], [1])])
def test_a_series_without_a_line_is_refused(tmp_path, values):
    with pytest.raises(ValueError, match="`series\\['a'\\]` has"):
        save_line_plot({"a": values}, tmp_path / "plot.svg", "", "", "")
    assert not list(tmp_path.iterdir())
