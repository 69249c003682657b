# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
from collections import Counter

import numpy as np
import pytest

from videoar_pipelines.data.buckets import Bucket, BucketPlan, random_state


SIZES = ((32, 32), (24, 48))
# 11 videos of the first size, 7 of the second, 5 and 3 images, and two rows that cannot be used.
IS_IMAGE = np.array([False] * 18 + [True] * 8 + [False, True])
SIZE_INDICES = np.array([0] * 11 + [1] * 7 + [0] * 5 + [1] * 3 + [-1, -1])


def make_plan(batch_size=2, world_size=1, **kwargs):
    return BucketPlan(IS_IMAGE, SIZE_INDICES, SIZES, batch_size, world_size, **kwargs)


def take(plan, positions, rank=0):
    return [
        (request.bucket, request.rows.tolist(), request.draws.tolist()) for request in requests(plan, positions, rank)
    ]


def requests(plan, positions, rank=0):
    return [plan.request(position, rank) for position in positions]


def test_a_request_is_a_pure_function_of_its_position():
    in_order, out_of_order = make_plan(seed=3), make_plan(seed=3)
    positions = np.random.default_rng(0).permutation(60).tolist()
    shuffled = dict(zip(positions, take(out_of_order, positions)))
    assert take(in_order, range(60)) == [shuffled[position] for position in range(60)]


def test_seeds_and_epochs_have_other_orders():
    plan = make_plan()
    steps = plan.steps_per_epoch
    first_epoch, second_epoch = take(plan, range(steps)), take(plan, range(steps, 2 * steps))
    assert [rows for _, rows, _ in first_epoch] != [rows for _, rows, _ in second_epoch]
    assert take(make_plan(seed=1), range(steps)) != first_epoch
    assert {draw for _, _, draws in first_epoch for draw in draws} == {0}
    assert {draw for _, _, draws in second_epoch for draw in draws} == {1}


def test_the_order_of_a_seed_never_changes():
    # Golden values: another order would make old checkpoints resume with other data, without a word.
    assert random_state(0, "name", 1).randint(1000, size=4).tolist() == [522, 599, 913, 587]
    assert [rows for _, rows, _ in take(make_plan(seed=0, image_ratio=0.0), range(4))] == [
        [17, 13],
        [8, 7],
        [3, 9],
        [14, 11],
    ]


def test_an_epoch_takes_every_clip_once_but_for_the_tails():
    plan = make_plan(batch_size=2)
    assert plan.steps_per_epoch == 11 // 2 + 7 // 2 + 5 // 2 + 3 // 2
    rows = [row for request in requests(plan, range(plan.steps_per_epoch)) for row in request.rows]
    assert len(rows) == len(set(rows)) == 2 * plan.steps_per_epoch
    assert SIZE_INDICES[rows].min() >= 0, "rows that cannot be used are never asked for"
    over_epochs = {row for request in requests(plan, range(20 * plan.steps_per_epoch)) for row in request.rows}
    assert over_epochs == set(range(26)), "no row is in the dropped tail of every epoch"


def test_a_batch_comes_from_one_bucket():
    for request in requests(make_plan(), range(40)):
        assert {bool(IS_IMAGE[row]) for row in request.rows} == {request.bucket.is_image}
        assert {SIZES[SIZE_INDICES[row]] for row in request.rows} == {request.bucket[1:]}


def test_ranks_share_the_bucket_of_a_step_and_no_clip():
    plan, one_rank = make_plan(batch_size=1, world_size=3), make_plan(batch_size=3)
    for position in range(30):
        parts = [plan.request(position, rank) for rank in range(3)]
        assert len({part.bucket for part in parts}) == 1
        assert [len(part.rows) for part in parts] == [1, 1, 1]
        together = np.concatenate([part.rows for part in parts])
        assert len(set(together)) == 3
        assert together.tolist() == one_rank.request(position).rows.tolist(), "the step of one rank, dealt out"


def test_buckets_are_mixed_and_not_taken_one_after_the_other():
    buckets = [request.bucket for request in requests(make_plan(batch_size=1), range(26))]
    changes = sum(a != b for a, b in zip(buckets, buckets[1:]))
    assert changes > 8


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.25, 1 / 3, 0.5, 1.0])
def test_batches_of_images_are_spread_evenly(ratio):
    plan = make_plan(image_ratio=ratio)
    is_image = [request.bucket.is_image for request in requests(plan, range(120))]
    for start in range(0, 60, 7):
        # Any stretch has its share, to the step.
        assert abs(sum(is_image[start : start + 60]) - 60 * ratio) < 1
    rows = [row for request in requests(plan, range(120)) for row in request.rows]
    assert {bool(IS_IMAGE[row]) for row in rows} == {
        flag for flag, share in ((True, ratio), (False, 1 - ratio)) if share > 0
    }


def test_what_is_logged_every_tenth_step_is_of_videos_where_every_tenth_batch_has_images():
    logged = requests(make_plan(image_ratio=0.1), range(9, 120, 10))
    assert not any(request.bucket.is_image for request in logged)


def test_without_images_single_frames_of_videos_take_their_place():
    plan = BucketPlan(np.zeros(8, dtype=bool), np.zeros(8, dtype=int), ((32, 32),), 2, image_ratio=0.5)
    counts = Counter(request.bucket for request in requests(plan, range(40)))
    assert counts == {Bucket(True, 32, 32): 20, Bucket(False, 32, 32): 20}


def test_repeats_lengthen_an_epoch_and_count_as_draws():
    plan = BucketPlan(np.zeros(2, dtype=bool), np.zeros(2, dtype=int), ((32, 32),), batch_size=4, repeats=6)
    assert plan.steps_per_epoch == 3
    pairs = [
        pair for request in requests(plan, range(6)) for pair in zip(request.rows.tolist(), request.draws.tolist())
    ]
    assert sorted(pairs) == [(row, draw) for row in range(2) for draw in range(12)]


def test_a_bucket_that_never_fills_a_step_is_reported(caplog):
    plan = make_plan(batch_size=4)
    assert "The 3 images of 24x48 are never used, since a step takes 4 clips." in caplog.text
    assert Bucket(True, 24, 48) not in plan.members and len(plan.members) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "`batch_size` and `repeats` must be at least 1, but are 0 and 1"),
        ({"image_ratio": 1.5}, "`image_ratio` is 1.5"),
        (
            {"batch_size": 6, "world_size": 2},
            r"No bucket has the 12 clips of a step .* the fullest has 11.*--data_repeats",
        ),
    ],
)
def test_a_plan_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_plan(**arguments)


@pytest.mark.parametrize(("is_image", "ratio", "message"), [(True, 0.5, "no usable videos"), (True, None, None)])
def test_a_share_of_nothing_is_refused(is_image, ratio, message):
    arguments = (np.full(4, is_image), np.zeros(4, dtype=int), ((32, 32),), 2)
    if message is None:
        assert BucketPlan(*arguments, image_ratio=ratio).steps_per_epoch == 2
    else:
        with pytest.raises(ValueError, match=message):
            BucketPlan(*arguments, image_ratio=ratio)
    with pytest.raises(ValueError, match="no usable clips"):
        BucketPlan(np.full(4, is_image), np.full(4, -1), ((32, 32),), 2)
