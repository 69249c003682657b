# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from videoar_pipelines.evaluation.vbench import (
    DIMENSION_NAMES,
    VBENCH_DIMENSIONS,
    parse_vbench_row,
    read_vbench_results,
    vbench_scores,
)


VIDEOAR = "VideoAR, arXiv 2601.05966, VBench table"
FLASHVIDEO = "FlashVideo, arXiv 2502.05179, table 1"
ACCVIDEO = "AccVideo, README of github.com/aejion/AccVideo at 6469eb6"

# Model and source; quality, semantic and total as printed; the 16 columns as printed.
PUBLISHED_ROWS = {
    ("VideoAR-4B", VIDEOAR): (
        (82.88, 77.15, 81.74),
        "95.51 97.85 98.83 98.37 61.39 63.42 60.71 94.98 72.88 94.40 90.73 56.14 50.52 22.68 25.11 27.44",
    ),
    ("Vchitect-2.0 with VEnhancer", FLASHVIDEO): (
        (83.54, 77.06, 82.24),
        "96.83 96.66 98.57 98.98 63.89 60.41 65.35 86.61 68.84 97.20 87.04 57.55 56.57 23.73 25.01 27.57",
    ),
    ("CogVideoX-1.5", FLASHVIDEO): (
        (82.78, 79.76, 82.17),
        "96.87 97.35 98.88 98.31 50.93 62.79 65.02 87.47 69.65 97.20 87.55 80.25 52.91 24.89 25.19 27.30",
    ),
    ("CogVideoX-5B", FLASHVIDEO): (
        (82.75, 77.04, 81.61),
        "96.23 96.52 98.66 96.92 70.97 61.98 62.90 85.23 62.11 99.40 82.81 66.35 53.20 24.91 25.38 27.59",
    ),
    ("CogVideoX-2B", FLASHVIDEO): (
        (82.51, 77.79, 81.57),
        "96.42 96.53 98.45 97.76 58.33 61.47 65.60 87.81 69.35 97.00 86.87 54.64 57.51 24.93 25.56 28.01",
    ),
    ("Mochi-1", FLASHVIDEO): (
        (82.64, 70.08, 80.13),
        "96.99 97.28 99.40 99.02 61.85 56.94 60.64 86.51 50.47 94.60 79.73 69.24 36.99 20.33 23.65 25.15",
    ),
    ("LTX-Video", FLASHVIDEO): (
        (82.30, 70.79, 80.00),
        "96.56 97.20 99.34 98.96 54.35 59.81 60.28 83.45 45.43 92.80 81.45 65.43 51.07 21.47 22.62 25.19",
    ),
    ("OpenSoraPlan-V1.1", FLASHVIDEO): (
        (80.91, 66.38, 78.00),
        "95.73 96.73 99.03 98.28 47.72 56.85 62.28 76.30 40.35 86.80 89.19 53.11 27.17 22.90 23.87 26.52",
    ),
    ("FlashVideo, 24 fps", FLASHVIDEO): (
        (83.35, 81.56, 82.99),
        "97.19 97.09 98.52 98.89 56.88 62.11 65.40 88.38 78.93 99.40 84.84 82.16 57.43 24.36 25.26 27.59",
    ),
    ("AccVideo-HunyuanT2V", ACCVIDEO): (
        (84.58, 77.96, 83.26),
        "94.46 97.45 99.18 98.79 75.00 62.08 65.64 92.99 67.33 95.60 94.11 75.70 54.72 19.87 23.71 27.21",
    ),
    ("AccVideo-WanXT2V", ACCVIDEO): (
        (86.62, 83.25, 85.95),
        "95.02 97.75 99.54 97.95 93.33 64.21 68.42 98.38 86.58 97.40 92.04 75.68 59.82 23.88 24.62 27.34",
    ),
}
ROW = PUBLISHED_ROWS["VideoAR-4B", VIDEOAR][1]


def parse(row):
    return parse_vbench_row([float(number) for number in row.split()])


@pytest.mark.parametrize("key", PUBLISHED_ROWS, ids=lambda key: key[0])
def test_published_totals_follow_from_their_columns(key):
    printed, row = PUBLISHED_ROWS[key]
    scores = vbench_scores(parse(row))
    # Columns are rounded to 0.005, and the narrowest range (0.28) stretches that to 0.02 of a ninth of the semantic score.
    assert [100 * value for value in (scores.quality, scores.semantic, scores.total)] == pytest.approx(
        printed, abs=0.02
    )


def test_the_best_scores_of_all_ranges_make_a_total_of_one():
    scores = vbench_scores({dimension.name: dimension.highest for dimension in VBENCH_DIMENSIONS})
    assert (scores.quality, scores.semantic, scores.total) == pytest.approx((1, 1, 1))
    worst = vbench_scores({dimension.name: dimension.lowest for dimension in VBENCH_DIMENSIONS})
    assert (worst.quality, worst.semantic, worst.total) == pytest.approx((0, 0, 0), abs=1e-12)


def test_a_missing_dimension_is_not_counted_as_zero():
    dimensions = parse(ROW)
    complete = vbench_scores(dimensions)
    del dimensions["color"]
    scores = vbench_scores(dimensions)
    assert scores.quality == complete.quality
    assert scores.semantic is None and scores.total is None
    assert scores.missing == ("color",)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"colour": 0.5}, "colour.*VBench's are"),
        ({"color": 90.73}, "color = 90.73.*100"),
        ({"color": float("nan")}, "color"),
    ],
)
def test_scores_that_cannot_be_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        vbench_scores(parse(ROW) | change)


def test_rows_of_another_length_or_unit_are_refused():
    with pytest.raises(ValueError, match="16 numbers, got 15.*subject_consistency"):
        parse_vbench_row([50.0] * 15)
    with pytest.raises(ValueError, match="in percent"):
        parse_vbench_row([0.5] * 16)


# Result files


def entry(score, num_videos=2):
    """What the scorer writes for a dimension."""
    return [
        score,
        [{"video_path": f"videos/a circle-{index}.mp4", "video_results": score} for index in range(num_videos)],
    ]


def write(path, contents):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(contents))
    return path


def test_one_file_for_all_and_a_file_for_each_dimension_are_read_alike(tmp_path):
    dimensions = parse(ROW)
    together = write(
        tmp_path / "together" / "results_1_eval_results.json", {k: entry(v) for k, v in dimensions.items()}
    )
    write(
        tmp_path / "together" / "results_1_full_info.json", [{"prompt_en": "a circle"}]
    )  # of the scorer too, no result
    for name, score in dimensions.items():
        write(tmp_path / "apart" / name / f"{name}_eval_results.json", {name.replace("_", " "): entry(score, 5)})
    for path in (together, tmp_path / "together", tmp_path / "apart"):
        results = read_vbench_results([path])
        assert tuple(results) == DIMENSION_NAMES
        assert {name: result.score for name, result in results.items()} == dimensions
    assert {result.num_videos for result in results.values()} == {5}


def test_the_same_result_twice_is_fine_and_two_results_are_not(tmp_path):
    write(tmp_path / "a_eval_results.json", {"color": entry(0.5)})
    write(tmp_path / "b_eval_results.json", {"color": entry(0.5)})
    assert read_vbench_results([tmp_path])["color"].score == 0.5
    write(tmp_path / "b_eval_results.json", {"color": entry(0.6)})
    with pytest.raises(ValueError, match="disagree on color.*a_eval.*0.5.*b_eval.*0.6"):
        read_vbench_results([tmp_path])


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "not valid JSON"),
        ("[]", "holds no results"),
        ('{"camera_motion": [0.5, []]}', "camera_motion.*no dimension"),
        ('{"color": [NaN, []]}', "NaN.*names of the videos"),
        ('{"color": "high"}', "not a score"),
    ],
)
def test_files_that_hold_no_results_are_refused(tmp_path, text, message):
    path = tmp_path / "x_eval_results.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_vbench_results([path])


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no file .*_eval_results.json"):
        read_vbench_results([tmp_path])
