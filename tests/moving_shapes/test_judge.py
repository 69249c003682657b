# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
from collections import Counter

import pytest
import torch
import torch.nn.functional as F

from videoar_pipelines.moving_shapes.data_set import ATTRIBUTES, MovingShapesClip, draw_clip, render_clips
from videoar_pipelines.moving_shapes.judge import accuracy, describe, judge, judge_windows


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


def render(clip, num_frames=17, side=64, first_frame=0):
    return (render_clips([clip], num_frames, side, side, first_frame=first_frame)[0].transpose(0, 1) + 1) / 2


def accuracies(num_clips, side, first_frame=0, change=lambda video: video):
    correct = Counter()
    for index in range(num_clips):
        clip = draw_clip(index, seed=1, split="all")
        correct.update(judge(change(render(clip, side=side, first_frame=first_frame)), clip))
    return {attribute: correct[attribute] / num_clips for attribute in ATTRIBUTES}


@pytest.mark.parametrize("num_clips, side, first_frame", [(100, 64, 0), (100, 64, 150), (20, 128, 0)])
def test_at_least_99_percent_of_rendered_attributes_are_recognised(num_clips, side, first_frame):
    assert min(accuracies(num_clips, side, first_frame).values()) >= 0.99


def test_blur_and_noise_as_of_a_tokenizer_change_few_verdicts():
    generator = torch.Generator().manual_seed(0)

    def degrade(video):
        blurred = F.avg_pool2d(F.pad(video, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        return (blurred + 0.04 * torch.randn(video.shape, generator=generator)).clamp(0, 1)

    # 5 %: one clip in twenty is allowed for a small star or cross whose arms are three pixels wide.
    assert min(accuracies(60, 64, change=degrade).values()) >= 0.95


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_a_video_is_wrong_in_exactly_the_attribute_that_differs(attribute):
    right = make_clip()
    for value in ATTRIBUTES[attribute]:
        radius = 0.21 if value == "large" else 0.125
        verdicts = judge(render(make_clip(**{attribute: value, "radius": radius})), right)
        assert verdicts.pop(attribute) == (value == getattr(right, attribute))
        assert all(verdicts.values())


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_there_is_nothing_in_an_empty_video(level):
    video = torch.full((17, 3, 64, 64), level)
    assert describe(video) is None
    assert judge(video, make_clip()) == dict.fromkeys(ATTRIBUTES, False)


def test_there_is_nothing_in_noise():
    assert describe(torch.rand(17, 3, 64, 64, generator=torch.Generator().manual_seed(0))) is None


def test_a_video_whose_shape_disappears_half_way_shows_nothing():
    video = render(make_clip())
    video[8:] = video[0, :, :1, :1]
    assert describe(video) is None


def test_a_color_that_flickers_is_no_color():
    red, blue = render(make_clip()), render(make_clip(color="blue"))
    is_odd = torch.arange(17)[:, None, None, None] % 2 == 1
    recognised = describe(torch.where(is_odd, red, blue))
    assert recognised["color"] is None
    assert recognised["motion"] == "right"


@pytest.mark.parametrize("background", ATTRIBUTES["background"])
def test_a_shape_of_two_colors_has_no_color(background):
    one, other = (render(make_clip(color=color, background=background, motion="still")) for color in ("red", "orange"))
    assert describe(torch.cat([one[..., :32, :], other[..., 32:, :]], dim=-2))["color"] is None


def test_a_shape_that_turns_into_another_is_no_shape():
    circle, star = render(make_clip()), render(make_clip(shape="star"))
    recognised = describe(torch.cat([circle[:9], star[9:]]))
    assert recognised["shape"] is None
    assert recognised["color"] == "red"


def test_a_background_that_changes_is_no_background_to_be_seen():
    white, black = render(make_clip()), render(make_clip(background="black"))
    assert describe(torch.cat([white[:9], black[9:]])) is None


def test_a_video_played_backwards_moves_the_other_way():
    assert describe(render(make_clip()).flip(0))["motion"] == "left"


def test_frames_in_random_order_show_no_motion():
    order = torch.randperm(17, generator=torch.Generator().manual_seed(0))
    assert describe(render(make_clip(speed=0.03)))["motion"] == "right"
    assert describe(render(make_clip(speed=0.03))[order])["motion"] is None


def test_two_shapes_are_no_shape():
    left, right = (render(make_clip(motion="still", start_x=start_x)) for start_x in (0.25, 0.75))
    assert describe(torch.minimum(left, right))["shape"] is None


def test_one_frame_shows_everything_but_motion():
    assert describe(render(make_clip(), num_frames=1)) == make_clip().attributes | {"motion": None}


def test_only_expected_attributes_are_judged():
    assert judge(render(make_clip()), {"color": "red", "motion": "left"}) == {"color": True, "motion": False}


def test_windows_of_a_long_video_are_judged_one_by_one():
    video = torch.cat([render(make_clip(), num_frames=34), render(make_clip(color="blue"), 17, first_frame=34)])
    verdicts = judge_windows(video, {"color": "red", "motion": "right"}, window=17, stride=17)
    assert verdicts == [{"color": color, "motion": True} for color in (True, True, False)]


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: describe(torch.zeros(3, 17, 64, 64)), r"`video` has shape \(3, 17, 64, 64\)"),
        (lambda: describe(torch.zeros(17, 3, 64, 64, dtype=torch.uint8)), "`video` has dtype torch.uint8"),
        (lambda: describe(torch.full((17, 3, 64, 64), -1.0)), "`video` has values in .* pass RGB in"),
        (lambda: judge(torch.zeros(17, 3, 64, 64), {"colour": "red"}), "`expected` has attribute 'colour'"),
        (lambda: judge(torch.zeros(17, 3, 64, 64), {"color": "mauve"}), "is 'mauve': pass one of red"),
        (
            lambda: judge_windows(torch.zeros(17, 3, 64, 64), {"color": "red"}, window=18),
            "`window` is 18: pass 1 to 17",
        ),
        (lambda: judge_windows(torch.zeros(17, 3, 64, 64), {"color": "red"}, stride=0), "`stride` is 0"),
    ],
)
def test_wrong_arguments_are_named_with_a_remedy(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_accuracy_counts_an_attribute_where_it_was_asked_for():
    verdicts = [{"shape": True, "color": True}, {"shape": False, "color": True, "size": True}, {"shape": True}]
    scores = accuracy(verdicts)
    assert scores["shape"] == scores["all"] == pytest.approx(2 / 3)
    assert (scores["color"], scores["size"], scores["motion"]) == (1.0, 1.0, 0.0)
