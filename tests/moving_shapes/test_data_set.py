# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
import itertools
import random

import pytest
import torch

from videoar_pipelines.moving_shapes.data_set import (
    ATTRIBUTES,
    BACKGROUNDS,
    BORDER_FREE_FRAMES,
    COLORS,
    MOTIONS,
    SHAPES,
    MovingShapesBatches,
    MovingShapesClip,
    canonical_caption,
    caption_for,
    clip_centers,
    draw_clip,
    is_held_out,
    render_clips,
    shape_coverage,
)


def make_clip(**changes):
    arguments = {
        "shape": "circle",
        "color": "red",
        "size": "small",
        "background": "white",
        "motion": "right",
        "start_x": 0.25,
        "start_y": 0.5,
        "speed": 0.02,
        "radius": 0.125,
    }
    return MovingShapesClip(**(arguments | changes))


# Drawing


def test_a_clip_is_a_pure_function_of_seed_and_index():
    assert draw_clip(7, seed=3) == draw_clip(7, seed=3)
    assert draw_clip(7, seed=3) != draw_clip(8, seed=3)
    assert draw_clip(7, seed=3) != draw_clip(7, seed=4)


def test_training_never_sees_a_held_out_combination_and_the_held_out_split_sees_nothing_else():
    for index in range(300):
        train, held_out = draw_clip(index, split="train"), draw_clip(index, split="held_out")
        assert not is_held_out(train.shape, train.color, train.motion)
        assert is_held_out(held_out.shape, held_out.color, held_out.motion)


def test_every_shape_and_color_has_exactly_one_held_out_motion():
    for shape, color in itertools.product(SHAPES, COLORS):
        assert sum(is_held_out(shape, color, motion) for motion in MOTIONS) == 1


def test_every_attribute_value_is_drawn():
    clips = [draw_clip(index) for index in range(300)]
    for attribute, table in ATTRIBUTES.items():
        assert {getattr(clip, attribute) for clip in clips} == set(table)


def test_table_colors_are_well_apart():
    colors = list(COLORS.values())
    pairs = [*itertools.combinations(colors, 2), *itertools.product(colors, BACKGROUNDS.values())]
    for first, second in pairs:
        assert sum((a - b) ** 2 for a, b in zip(first, second)) >= 100**2


def test_most_clips_keep_clear_of_the_border_and_some_do_not():
    pixels = render_clips([draw_clip(index) for index in range(200)], BORDER_FREE_FRAMES, 32, 32)
    border = torch.cat([pixels[..., 0, :], pixels[..., -1, :], pixels[..., :, 0], pixels[..., :, -1]], dim=-1)
    shows_two_colors = (border != border[..., :1]).flatten(1).any(dim=1)
    share_crossing = shows_two_colors.float().mean()
    assert 0.1 < share_crossing < 0.4


def test_a_bounce_reverses_within_any_17_frames():
    clips = [clip for clip in map(draw_clip, range(400)) if clip.motion == "bounce"]
    steps = clip_centers(clips, 64)[..., 1].diff(dim=1)
    steps = steps - steps.round()
    for first_step in range(64 - 17):
        window = steps[:, first_step : first_step + 16]
        assert ((window > 0).any(dim=1) & (window < 0).any(dim=1)).all()


# Rendering


def test_pixels_are_float32_in_minus_one_to_one_with_time_after_the_channels():
    pixels = render_clips([draw_clip(index) for index in range(6)], num_frames=5, height=24, width=40)
    assert pixels.shape == (6, 3, 5, 24, 40)
    assert pixels.dtype == torch.float32
    assert pixels.min() >= -1 and pixels.max() <= 1


def test_a_clip_looks_the_same_alone_and_in_a_batch():
    clips = [draw_clip(index) for index in range(6)]
    batch = render_clips(clips, 3, 32, 32)
    for index, clip in enumerate(clips):
        # 1e-5: sums of float32 may be vectorised differently.
        torch.testing.assert_close(batch[index : index + 1], render_clips([clip], 3, 32, 32), rtol=0, atol=1e-5)


def test_rendering_can_start_at_any_frame():
    clips = [draw_clip(index) for index in range(10)]
    whole = render_clips(clips, 9, 32, 32)
    torch.testing.assert_close(render_clips(clips, 4, 32, 32, first_frame=5), whole[:, :, 5:], rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_has_the_area_centroid_and_extent_of_its_table_entry(shape):
    side, radius = 256, 0.2
    coverage = shape_coverage(shape, torch.tensor([0.5, 0.5]), torch.tensor(radius), side, side)
    places = (torch.arange(side) + 0.5) / side - 0.5
    # 1 %: antialiasing is exact along straight edges only.
    assert coverage.sum().item() / side**2 == pytest.approx(SHAPES[shape].area * radius**2, rel=0.01)
    assert (coverage.sum(0) @ places / coverage.sum()).item() == pytest.approx(0, abs=0.002)
    assert (coverage.sum(1) @ places / coverage.sum()).item() == pytest.approx(0, abs=0.002)
    reach = max(places[coverage.amax(dim) > 0.5].abs().max().item() for dim in (0, 1))
    assert reach <= SHAPES[shape].extent * radius + 1 / side
    assert reach >= SHAPES[shape].extent * radius - 3 / side  # a sharp corner covers less than half of its last pixels


@pytest.mark.parametrize("shape", SHAPES)
def test_what_leaves_on_one_side_re_enters_on_the_other(shape):
    centre = render_clips([make_clip(shape=shape, start_x=0.5, start_y=0.5, radius=0.2)], 1, 32, 32)
    corner = render_clips([make_clip(shape=shape, start_x=0.0, start_y=0.0, radius=0.2)], 1, 32, 32)
    torch.testing.assert_close(corner.roll((16, 16), dims=(-2, -1)), centre, rtol=0, atol=1e-4)


@pytest.mark.parametrize("motion", [motion for motion, direction in MOTIONS.items() if any(direction)])
def test_straight_motions_go_where_they_say(motion):
    centers = clip_centers([make_clip(motion=motion, start_x=0.5, start_y=0.5)], 2)[0]
    torch.testing.assert_close((centers[1] - centers[0]).float() / 0.02, torch.tensor(MOTIONS[motion]))


# Captions


def test_the_plain_caption_reads_as_expected():
    clip = make_clip(color="orange", background="gray", motion="up-left")
    assert canonical_caption(make_clip()) == "a red circle moves to the right on a white background"
    assert canonical_caption(clip) == "an orange circle moves up and to the left on a gray background"
    assert canonical_caption(clip, mention_size=True).startswith("a small orange circle")


def test_the_plain_caption_is_one_of_the_drawn_ones():
    drawn = {caption_for(make_clip(), random.Random(seed)).text for seed in range(1000)}
    assert canonical_caption(make_clip()) in drawn
    assert len(drawn) > 100


def test_a_caption_says_what_it_mentions_and_half_mention_the_size():
    captions = [caption_for(make_clip(), random.Random(seed)) for seed in range(400)]
    size_words = {"small", "little"}
    for caption in captions:
        assert ("size" in caption.mentioned) == bool(size_words & set(caption.text.split()))
        assert {"shape", "color", "background", "motion"} <= set(caption.mentioned)
    assert 0.4 < sum("size" in caption.mentioned for caption in captions) / len(captions) < 0.6


def test_the_caption_of_an_image_has_no_motion():
    caption = caption_for(make_clip(), random.Random(0), mention_motion=False)
    assert "motion" not in caption.mentioned
    assert not {"right", "moves", "moving"} & set(caption.text.split())


# Batches


def test_batches_continue_after_a_resume_as_if_never_interrupted():
    batches = MovingShapesBatches(batch_size=2, num_frames=2, height=16, width=16)
    next(batches)
    state = batches.state_dict()
    expected = next(batches)

    resumed = MovingShapesBatches(batch_size=2, num_frames=2, height=16, width=16)
    resumed.load_state_dict(state)
    actual = next(resumed)
    assert actual["captions"] == expected["captions"]
    assert actual["clips"] == expected["clips"]
    torch.testing.assert_close(actual["pixel_values"], expected["pixel_values"], rtol=0, atol=0)


def test_ranks_share_no_clip_and_together_see_what_one_process_sees():
    arguments = {"num_frames": 1, "height": 16, "width": 16}
    ranks = [MovingShapesBatches(batch_size=2, rank=rank, world_size=2, **arguments) for rank in range(2)]
    alone = MovingShapesBatches(batch_size=4, **arguments)
    for position in range(3):
        clips = [clip for rank in ranks for clip in rank.batch_at(position)["clips"]]
        assert clips == alone.batch_at(position)["clips"]


def test_image_ratio_gives_that_share_of_one_frame_batches_on_every_rank_alike():
    arguments = {"batch_size": 1, "num_frames": 2, "height": 16, "width": 16, "image_ratio": 0.5, "world_size": 2}
    ranks = [MovingShapesBatches(rank=rank, **arguments) for rank in range(2)]
    lengths = [[rank.batch_at(position)["pixel_values"].shape[2] for position in range(60)] for rank in ranks]
    assert lengths[0] == lengths[1]
    assert 15 < lengths[0].count(1) < 45
    assert set(lengths[0]) == {1, 2}


# Errors


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: draw_clip(0, split="test"), "`split` is 'test': pass one of train"),
        (lambda: make_clip(color="mauve"), "`color` is 'mauve': pass one of red"),
        (lambda: is_held_out("circle", "red", "spin"), "`motion` is 'spin'"),
        (lambda: render_clips([], 1, 16, 16), "`clips` is empty"),
        (lambda: render_clips([make_clip()], 0, 16, 16), "`num_frames` is 0: pass at least 1"),
        (lambda: render_clips([make_clip()], 1, 4, 16), "`height` is 4: pass at least 8"),
        (lambda: MovingShapesBatches(batch_size=0), "`batch_size` is 0"),
        (lambda: MovingShapesBatches(batch_size=1, image_ratio=2), "`image_ratio` is 2"),
        (lambda: MovingShapesBatches(batch_size=1, rank=2, world_size=2), "`rank` is 2: pass a number from 0 to 1"),
    ],
)
def test_wrong_arguments_are_named_with_a_remedy(call, message):
    with pytest.raises(ValueError, match=message):
        call()
