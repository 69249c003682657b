# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0

import inspect
import json
import re

import pytest
import torch

from videoar_pipelines import VideoARScheduler
from videoar_pipelines.models.quantization import (
    features_to_maps,
    flatten_bits,
    flip_bits,
    maps_to_latents,
    sequence_inputs,
    tokens_per_frame,
)
from videoar_pipelines.schedulers.scheduling_videoar import SamplingStep, draw_uniform_noise


SCHEDULE = ((1, 1), (2, 2), (3, 3), (4, 4))
NUM_FRAMES, NUM_SCALES = 3, 4


def make_generator(seed=0):
    return torch.Generator().manual_seed(seed)


def make_features(batch_size=2, num_frames=NUM_FRAMES):
    """Smooth in space, as features are: then coarse scales carry something."""
    generator = make_generator()
    coarse = torch.randn(batch_size, 8, num_frames, 2, 2, generator=generator)
    fine = torch.randn(batch_size, 8, num_frames, 4, 4, generator=generator)
    return 0.7 * coarse.repeat_interleave(2, dim=3).repeat_interleave(2, dim=4) + 0.3 * fine


def make_scheduler(**config):
    return VideoARScheduler(**{"scale_schedules": {"4x4": SCHEDULE}, **config})


def all_steps(scheduler, num_frames, schedule=SCHEDULE, refinements=()):
    return [step for frame in range(num_frames) for step in scheduler.frame_steps(frame, schedule, refinements)]


def step_at(scale, frame=0):
    return SamplingStep(frame, scale, SCHEDULE[scale])


def sample_share(scheduler, logit, temperature=None, top_p=None, scale=0, number=40_000):
    """Share of ones among bits of one logit."""
    logits = torch.full((number,), float(logit))
    noise = draw_uniform_noise((number,), make_generator())
    options = scheduler.sampling_options(temperature=temperature, top_p=top_p)
    return scheduler.sample_bits(logits, noise, scale, options).float().mean().item()


# 1. Schedules


def test_a_clip_of_the_paper_takes_thirty_steps():
    scheduler = VideoARScheduler()
    schedule = scheduler.get_scale_schedule(8, 8)
    assert schedule == ((1, 1), (2, 2), (3, 3), (4, 4), (6, 6), (8, 8))
    assert len(all_steps(scheduler, 5, schedule)) == 30


def test_steps_walk_over_the_scales_of_one_frame_after_the_other():
    steps = all_steps(make_scheduler(), NUM_FRAMES)
    expected = [(frame, scale) for frame in range(NUM_FRAMES) for scale in range(NUM_SCALES)]
    assert [(step.frame, step.scale) for step in steps] == expected
    assert [step.grid for step in steps] == list(SCHEDULE) * NUM_FRAMES and not any(
        step.begins_round for step in steps
    )
    assert [step.num_tokens for step in steps[:4]] == [1, 4, 9, 16]


def test_the_table_of_the_configuration_wins_over_the_rule():
    scheduler = VideoARScheduler(scale_schedules={"8x8": [[2, 2], [8, 8]]})
    assert scheduler.get_scale_schedule(8, 8) == ((2, 2), (8, 8))
    assert scheduler.get_scale_schedule(8, 12) == VideoARScheduler().get_scale_schedule(8, 12)
    assert scheduler.get_scale_schedule(8, 12)[-1] == (8, 12)


def test_refinement_comes_back_to_the_finest_scales_of_every_frame():
    scheduler = make_scheduler(refinements=[2, 1, 1])
    assert scheduler.sampling_options().refinements == (2, 1, 1)
    steps = all_steps(scheduler, 2, refinements=(2, 1, 1))
    pairs = [(frame, scale) for frame in range(2) for scale in (0, 1, 2, 3, 2, 3, 3, 3)]
    assert [(step.frame, step.scale) for step in steps] == pairs
    assert [step.begins_round for step in steps[:8]] == [False] * 4 + [True, False, True, True]
    assert scheduler.sampling_options(refinements=[3]).refinements == (3,)  # instead of the configuration's
    assert scheduler.sampling_options(refinements=[]).refinements == ()


@pytest.mark.parametrize("num_maps", [0, -1, 4])
def test_a_round_of_refinement_keeps_some_maps_and_samples_some(num_maps):
    with pytest.raises(ValueError, match=rf"`refinements` is \[1, {num_maps}\].*at most 3 of the 4 maps"):
        make_scheduler().frame_steps(0, SCHEDULE, (1, num_maps))


def test_a_scheduler_keeps_nothing_of_a_video():
    scheduler = make_scheduler()
    before = dict(vars(scheduler))
    for step in all_steps(scheduler, 1):
        scheduler.guidance_at(step, 1, NUM_SCALES)
        scheduler.scale_model_input(torch.zeros(1, 8, 4, 4), step, torch.zeros(1, 8, 4, 4))
        scheduler.step(torch.zeros(1, step.num_tokens, 8), step, torch.zeros(1, 8, 4, 4), make_generator())
    assert vars(scheduler) == before


# 2. Guidance


def guidance_table(scheduler, guidance_scale, num_frames=NUM_FRAMES, schedule=SCHEDULE):
    """Guidance of every (frame, scale)."""
    steps = all_steps(scheduler, num_frames, schedule)
    values = [scheduler.guidance_at(step, num_frames, len(schedule), guidance_scale) for step in steps]
    return torch.tensor(values, dtype=torch.float64).unflatten(0, (-1, len(schedule)))


def paper_table(scheduler, guidance_scale):
    return guidance_table(scheduler, guidance_scale, num_frames=5, schedule=scheduler.get_scale_schedule(8, 8))


def test_rising_guidance_is_that_of_the_paper_for_class_conditional_videos():
    table = paper_table(VideoARScheduler(guidance_schedule="rising"), 10.0)
    assert table[:, 0].tolist() == [1, 2, 3, 4, 5]
    assert table[:, -1].tolist() == [10] * 5
    steps = table.diff(dim=1)
    torch.testing.assert_close(steps, steps[:, :1].expand(-1, 5))  # linear inside a frame


def test_falling_guidance_is_that_of_the_paper_for_text_to_video():
    table = paper_table(VideoARScheduler(guidance_schedule="falling"), 5.0)
    assert table[0, 0] == 5 and table[-1, -1] == pytest.approx(3)
    assert table[-1, 0] == table[0, -1] == pytest.approx(4)
    assert (table.diff(dim=0) < 0).all() and (table.diff(dim=1) < 0).all()


@pytest.mark.parametrize(("progress", "middle"), [("mean", 4), ("product", 5), ("maximum", 3)])
def test_progress_over_frames_and_scales_becomes_one_as_configured(progress, middle):
    table = paper_table(VideoARScheduler(guidance_progress=progress), 5.0)
    assert table[0, 0] == 5 and table[-1, -1] == pytest.approx(3)
    assert table[-1, 0] == pytest.approx(middle) and table[0, -1] == pytest.approx(middle)


def test_the_numbers_of_the_guidance_schedules_are_configured():
    assert paper_table(VideoARScheduler(guidance_end=0.2), 5.0)[-1, -1] == pytest.approx(1)
    rising = VideoARScheduler(guidance_schedule="rising", guidance_first_scale=0.3)
    assert paper_table(rising, 10.0)[-1, 0] == pytest.approx(3)


def test_constant_guidance_is_constant():
    assert (guidance_table(make_scheduler(guidance_schedule="constant"), 4.5) == 4.5).all()


@pytest.mark.parametrize("guidance_schedule", ["constant", "rising", "falling"])
def test_no_schedule_switches_guidance_on_where_it_is_off(guidance_schedule):
    scheduler = make_scheduler(guidance_schedule=guidance_schedule)
    for guidance_scale in (0.0, 0.7, 1.0):
        assert (guidance_table(scheduler, guidance_scale) == 1).all()  # the conditional branch alone


@pytest.mark.parametrize(("guidance_schedule", "sign"), [("rising", 1), ("falling", -1)])
def test_low_guidance_never_falls_below_the_conditional_branch(guidance_schedule, sign):
    table = guidance_table(make_scheduler(guidance_schedule=guidance_schedule), 1.5)
    assert (sign * table.diff(dim=0) >= 0).all() and (sign * table.diff(dim=1) >= 0).all()
    assert table.min() == 1 and table.max() == 1.5


@pytest.mark.parametrize(("guidance_schedule", "first", "last"), [("rising", 1, 10), ("falling", 10, 6)])
def test_a_video_longer_than_the_schedule_stays_at_its_end(guidance_schedule, first, last):
    scheduler = make_scheduler(guidance_schedule=guidance_schedule)
    assert scheduler.guidance_at(step_at(0), 5, NUM_SCALES, 10.0) == first
    for frame in (4, 5, 1_000_000):
        assert scheduler.guidance_at(step_at(3, frame), 5, NUM_SCALES, 10.0) == pytest.approx(last)


@pytest.mark.parametrize("guidance_schedule", ["rising", "falling"])
def test_one_frame_of_one_scale_starts_the_schedule(guidance_schedule):
    scheduler = VideoARScheduler(guidance_schedule=guidance_schedule)
    step = SamplingStep(0, 0, (4, 4))
    assert scheduler.guidance_at(step, 1, 1, 10.0) == {"rising": 1, "falling": 10}[guidance_schedule]


# 3. Sampling


@pytest.mark.parametrize("resampling", ["bilinear", "area"])
@pytest.mark.parametrize("previous_frame_context", ["first_scale", "all_scales"])
def test_forced_bits_walk_through_the_inputs_of_teacher_forcing_to_the_encoded_video(
    previous_frame_context, resampling
):
    features = make_features()
    maps = features_to_maps(features, SCHEDULE)
    expected_inputs = sequence_inputs(maps, SCHEDULE, previous_frame_context, resampling)
    scheduler = make_scheduler(previous_frame_context=previous_frame_context, previous_frame_resampling=resampling)
    assert torch.equal(scheduler.scale_clip_input(maps, SCHEDULE), expected_inputs)

    inputs, frames, previous_frame = [], [], torch.zeros(2, 8, 4, 4)
    for index, step in enumerate(all_steps(scheduler, NUM_FRAMES)):
        if step.scale == 0:
            sample = torch.zeros(2, 8, 4, 4)
        inputs.append(scheduler.scale_model_input(sample, step, previous_frame))
        bits = maps.bits[step.scale][:, step.frame]
        logits = torch.where(bits, 1e4, -1e4).flatten(1, 2)
        output = scheduler.step(logits, step, sample, make_generator(index))
        assert torch.equal(output.bits, bits)
        sample = output.prev_sample
        if step.scale == NUM_SCALES - 1:
            frames.append(sample)
            previous_frame = sample
    assert torch.equal(torch.stack(frames, dim=2), maps.latents)
    assert torch.equal(torch.cat(inputs, dim=1), expected_inputs)


def test_steps_add_up_to_the_latents_of_the_sampled_bits():
    scheduler, generator = make_scheduler(), make_generator()
    sample, bits = torch.zeros(2, 8, 4, 4), []
    for step in all_steps(scheduler, 1):
        logits = torch.randn(2, step.num_tokens, 8, generator=generator)
        before = sample.clone()
        output = scheduler.step(logits, step, sample, generator)
        assert torch.equal(sample, before), "the input was changed in place"
        bits.append(output.bits.unsqueeze(1))
        sample = output.prev_sample
    assert sample.dtype == torch.float32 and bits[-1].dtype == torch.bool
    assert torch.equal(sample, maps_to_latents(bits, SCHEDULE).squeeze(2))
    assert 0.3 < flatten_bits(bits).float().mean() < 0.7


def test_a_tuple_holds_the_same_as_the_output_object():
    scheduler, logits = make_scheduler(), torch.randn(2, 1, 8, generator=make_generator())
    output = scheduler.step(logits, step_at(0), torch.zeros(2, 8, 4, 4), make_generator())
    prev_sample, bits = scheduler.step(
        logits, step_at(0), torch.zeros(2, 8, 4, 4), make_generator(), return_dict=False
    )
    assert torch.equal(prev_sample, output.prev_sample) and torch.equal(bits, output.bits)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_bits_follow_their_probability_at_any_temperature(temperature):
    expected = torch.sigmoid(torch.tensor(0.8 / temperature)).item()
    # 40,000 draws: four standard deviations.
    assert sample_share(make_scheduler(temperature=temperature), 0.8) == pytest.approx(expected, abs=0.01)
    assert sample_share(make_scheduler(), 0.8, temperature=temperature) == pytest.approx(expected, abs=0.01)


def test_temperature_zero_is_greedy():
    scheduler = make_scheduler()
    assert sample_share(scheduler, 1e-3, temperature=0) == 1 and sample_share(scheduler, -1e-3, temperature=0) == 0


def test_each_scale_can_have_its_temperature_and_the_last_is_for_all_finer_ones():
    scheduler = make_scheduler(temperature=[1.0, 0.0])
    assert 0.4 < sample_share(scheduler, 0.1, scale=0) < 0.6
    assert sample_share(scheduler, 0.1, scale=1) == sample_share(scheduler, 0.1, scale=3) == 1


@pytest.mark.parametrize("sign", [1, -1])
def test_top_p_decides_the_bits_that_are_likely_enough(sign):
    scheduler = make_scheduler(top_p=0.9)
    sure, unsure = 2.5 * sign, 2.0 * sign  # probabilities 0.924 and 0.881
    assert sample_share(scheduler, sure) == (sign > 0)
    assert sample_share(scheduler, unsure) == pytest.approx(torch.sigmoid(torch.tensor(unsure)).item(), abs=0.01)
    assert 0 < sample_share(scheduler, sure, top_p=1.0) < 1


def test_impossible_bits_are_never_drawn():
    scheduler, noise = make_scheduler(), torch.tensor([0.0, 0.5, 1 - 2**-24])
    assert scheduler.sample_bits(torch.full((3,), 200.0), noise, 0).all()
    assert not scheduler.sample_bits(torch.full((3,), -200.0), noise, 0).any()


def test_samples_with_their_own_generators_do_not_depend_on_the_batch():
    scheduler = make_scheduler()
    logits = torch.randn(3, 4, 8, generator=make_generator())
    sample = torch.zeros(3, 8, 4, 4)
    together = scheduler.step(logits, step_at(1), sample, [make_generator(seed) for seed in (5, 6, 7)])
    for row, seed in enumerate((5, 6, 7)):
        alone = scheduler.step(logits[row : row + 1], step_at(1), sample[row : row + 1], make_generator(seed))
        assert torch.equal(alone.bits[0], together.bits[row])
    assert not torch.equal(together.bits[0], together.bits[1])


def test_noise_takes_the_place_of_a_generator():
    scheduler, logits = make_scheduler(), torch.randn(2, 4, 8, generator=make_generator())
    sample = torch.zeros(2, 8, 4, 4)
    noise = draw_uniform_noise((2, 4, 8), make_generator(3))
    drawn = scheduler.step(logits, step_at(1), sample, make_generator(3))
    assert torch.equal(scheduler.step(logits, step_at(1), sample, noise=noise).bits, drawn.bits)
    assert scheduler.step(logits, step_at(1), sample, noise=torch.zeros(2, 4, 8)).bits.all()


def test_noise_of_a_frame_is_the_same_drawn_at_once_or_map_by_map():
    frame = draw_uniform_noise((1, tokens_per_frame(SCHEDULE), 8), [make_generator()])
    generators = [make_generator()]
    maps = [draw_uniform_noise((1, height * width, 8), generators) for height, width in SCHEDULE]
    assert torch.equal(torch.cat(maps, dim=1), frame)


def test_only_the_given_generator_is_used():
    state = torch.get_rng_state()
    make_scheduler().step(torch.zeros(2, 1, 8), step_at(0), torch.zeros(2, 8, 4, 4), make_generator())
    make_scheduler().add_noise(make_features(), make_generator())
    assert torch.equal(torch.get_rng_state(), state)


# 4. Corruption


def test_no_corruption_changes_nothing():
    features = make_features()
    clean = features_to_maps(features, SCHEDULE)
    off = make_scheduler(corruption_max=0.0, corruption_growth=0.0)
    for maps in (off.add_noise(features, make_generator()), make_scheduler().add_noise(features, strength=0)):
        assert torch.equal(maps.latents, clean.latents)
        assert torch.equal(flatten_bits(maps.bits), flatten_bits(clean.bits))
        assert all(map(torch.equal, maps.partial_sums, clean.partial_sums))


@pytest.mark.parametrize("error_inheritance", [False, True])
def test_corruption_rises_with_time_as_the_formula_says(error_inheritance):
    scheduler = VideoARScheduler(
        corruption_min=0.02, corruption_max=0.2, corruption_growth=0.03, error_inheritance=error_inheritance
    )
    probabilities = scheduler.corruption_probabilities(20_000, 4, 3, make_generator())
    assert probabilities.shape == (20_000, 4, 3)
    for frame in range(4):
        low, high = 0.02 + 0.03 * frame, 0.2 + 0.03 * frame
        independent = probabilities[:, frame, 1:] if error_inheritance else probabilities[:, frame]
        assert low - 1e-6 <= independent.min() and probabilities[:, frame].max() <= high + 1e-6
        # The mean of 20,000 or more uniform draws: four standard deviations.
        assert independent.mean().item() == pytest.approx((low + high) / 2, abs=0.0015)
        assert independent.std().item() == pytest.approx((high - low) / 12**0.5, rel=0.02)


def test_a_frame_inherits_at_least_the_corruption_that_the_previous_one_ended_with():
    scheduler = VideoARScheduler()
    probabilities = scheduler.corruption_probabilities(1_000, 6, 4, make_generator())
    first, previous_last = probabilities[:, 1:, 0], probabilities[:, :-1, -1]
    assert (first >= previous_last).all()
    independent = VideoARScheduler(error_inheritance=False).corruption_probabilities(1_000, 6, 4, make_generator())
    assert (independent[:, 1:, 0] < independent[:, :-1, -1]).any()
    # All but the first scales are the same draws.
    assert torch.equal(probabilities[:, :, 1:], independent[:, :, 1:])
    assert torch.equal(probabilities[:, 0], independent[:, 0])


def test_the_lower_bound_can_stay_as_in_figure_3_while_the_upper_one_grows():
    scheduler = VideoARScheduler(corruption_growth=0.03, corruption_min_growth=0.0, error_inheritance=False)
    probabilities = scheduler.corruption_probabilities(20_000, 2, 3, make_generator())
    # 60,000 draws reach within 0.001 of both bounds.
    for frame, high in enumerate((0.25, 0.28)):
        assert probabilities[:, frame].min().item() == pytest.approx(0, abs=1e-3)
        assert probabilities[:, frame].max().item() == pytest.approx(high, abs=1e-3)


@pytest.mark.parametrize("error_inheritance", [False, True])
def test_maps_of_a_frame_can_share_one_flip_ratio(error_inheritance):
    config = {"corruption_drawn_per": "frame", "error_inheritance": error_inheritance}
    probabilities = VideoARScheduler(**config).corruption_probabilities(100, 3, 4, make_generator())
    assert probabilities.shape == (100, 3, 4) and torch.equal(probabilities, probabilities[..., :1].expand(-1, -1, 4))
    ratios = probabilities[..., 0]
    assert (ratios[:, 1:] >= ratios[:, :-1]).all().item() == error_inheritance


def test_strength_ramps_all_probabilities_and_none_exceeds_one():
    scheduler = VideoARScheduler()
    full = scheduler.corruption_probabilities(10, 3, 4, make_generator())
    half = scheduler.corruption_probabilities(10, 3, 4, make_generator(), strength=0.5)
    torch.testing.assert_close(half, full / 2)
    assert VideoARScheduler(corruption_min=0.9, corruption_max=2.0).corruption_probabilities(50, 3, 4).max() == 1


def test_the_share_of_flipped_bits_is_the_ratio():
    # One scale, so that the label is known: the residual is the feature itself.
    features = make_features(batch_size=8, num_frames=8)
    scheduler = VideoARScheduler(
        scale_schedules={"4x4": [[4, 4]]},
        corruption_min=0.2,
        corruption_max=0.2,
        corruption_growth=0.05,
        error_inheritance=False,
    )
    maps = scheduler.add_noise(features, make_generator())
    assert torch.equal(maps.bits[0], (features > 0).permute(0, 2, 3, 4, 1))
    flipped = (maps.latents > 0) != (features > 0)
    for frame in range(8):
        # 1,024 bits a frame: four standard deviations.
        assert flipped[:, :, frame].float().mean().item() == pytest.approx(0.2 + 0.05 * frame, abs=0.065)


def test_later_labels_repair_earlier_flips():
    features = make_features(batch_size=4)
    scheduler = make_scheduler(corruption_min=0.25, corruption_max=0.25)
    repaired = scheduler.add_noise(features, make_generator())

    # The same flips on the labels of the clean video, which do not know of them.
    generator = make_generator()
    probabilities = scheduler.corruption_probabilities(4, NUM_FRAMES, NUM_SCALES, generator)
    clean_bits = features_to_maps(features, SCHEDULE).bits
    flipped = [flip_bits(bits, probabilities[..., scale], generator) for scale, bits in enumerate(clean_bits)]
    assert torch.equal(repaired.bits[0], clean_bits[0])
    error = (repaired.latents - features).square().mean()
    unrepaired_error = (maps_to_latents(flipped, SCHEDULE) - features).square().mean()
    assert error < 0.9 * unrepaired_error


def test_the_next_frame_starts_from_the_corrupted_one():
    features = make_features()
    scheduler = make_scheduler(corruption_min=0.25, corruption_max=0.25)
    maps = scheduler.add_noise(features, make_generator())
    inputs = sequence_inputs(maps, SCHEDULE).unflatten(1, (NUM_FRAMES, -1))
    for frame in range(1, NUM_FRAMES):
        expected = scheduler.scale_model_input(
            torch.zeros(2, 8, 4, 4), step_at(0, frame), maps.latents[:, :, frame - 1]
        )
        assert torch.equal(inputs[:, frame, :1], expected)
    clean = sequence_inputs(features_to_maps(features, SCHEDULE), SCHEDULE).unflatten(1, (NUM_FRAMES, -1))
    assert not torch.equal(inputs[:, 1, :1], clean[:, 1, :1])


def test_the_same_seed_corrupts_alike():
    scheduler, features = make_scheduler(), make_features()
    first, second = (scheduler.add_noise(features, make_generator(7)) for _ in range(2))
    assert torch.equal(first.latents, second.latents)
    assert not torch.equal(scheduler.add_noise(features, make_generator(8)).latents, first.latents)


# 5. Configuration


def test_saving_and_loading_gives_the_same_scheduler(tmp_path):
    config = {
        "scale_schedules": {"4x4": [[1, 1], [4, 4]], "8x4": [[2, 1], [8, 4]]},
        "previous_frame_context": "all_scales",
        "previous_frame_resampling": "area",
        "guidance_scale": 7.5,
        "guidance_schedule": "rising",
        "guidance_end": 0.5,
        "guidance_progress": "product",
        "guidance_first_scale": 0.4,
        "temperature": [1.0, 0.8],
        "top_p": 0.95,
        "refinements": [2, 1],
        "corruption_min": 0.1,
        "corruption_max": 0.3,
        "corruption_growth": 0.02,
        "corruption_min_growth": 0.0,
        "corruption_drawn_per": "frame",
        "error_inheritance": False,
    }
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(VideoARScheduler.__init__).parameters.items()
        if name != "self"
    }
    assert config.keys() == defaults.keys() and all(config[name] != defaults[name] for name in config)
    VideoARScheduler(**config).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "scheduler_config.json").read_text())["_class_name"] == "VideoARScheduler"
    loaded = VideoARScheduler.from_pretrained(tmp_path)
    assert {name: loaded.config[name] for name in config} == config
    assert loaded.get_scale_schedule(8, 4) == ((2, 1), (8, 4))


def test_a_scheduler_is_swapped_by_its_configuration():
    swapped = VideoARScheduler.from_config(make_scheduler().config, guidance_schedule="constant")
    assert swapped.config.guidance_schedule == "constant"
    assert swapped.get_scale_schedule(4, 4) == SCHEDULE


# 6. Errors


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"previous_frame_context": "none"}, "`previous_frame_context` must be one of .*'first_scale'.* got 'none'"),
        ({"previous_frame_resampling": "cubic"}, "`previous_frame_resampling` must be .*'area'.* got 'cubic'"),
        ({"corruption_drawn_per": "clip"}, "`corruption_drawn_per` must be one of .*'frame'.* got 'clip'"),
        ({"guidance_schedule": "cosine"}, "`guidance_schedule` must be one of .*'falling'.* got 'cosine'"),
        ({"guidance_progress": "sum"}, "`guidance_progress` must be one of .*'mean'.* got 'sum'"),
        ({"temperature": -1}, "`temperature` has to be at least 0 .*got -1"),
        ({"temperature": float("nan")}, "`temperature` has to be at least 0 .*got nan"),
        ({"temperature": []}, "`temperature` has to be at least 0 .*got "),
        ({"top_p": 5}, "`top_p` has to be above 0 and at most 1 .*got 5"),
        ({"guidance_scale": float("nan")}, "`guidance_scale` has to be a finite number .*got nan"),
    ],
)
def test_a_configuration_without_meaning_is_refused(config, message):
    with pytest.raises(ValueError, match=message):
        VideoARScheduler(**config)


def test_a_schedule_that_does_not_end_in_its_grid_is_refused():
    with pytest.raises(ValueError, match=r"`scale_schedule` ends in \(4, 4\) but the latents are \(8, 8\)"):
        VideoARScheduler(scale_schedules={"8x8": SCHEDULE})


def test_generators_that_do_not_match_the_batch_are_refused():
    with pytest.raises(ValueError, match="`generator` is a list of 1 for a batch of 2"):
        make_scheduler().step(torch.zeros(2, 1, 8), step_at(0), torch.zeros(2, 8, 4, 4), [make_generator()])


# 7. Documentation


@pytest.mark.parametrize(
    "name",
    [
        "__init__",
        "sampling_options",
        "frame_steps",
        "guidance_at",
        "scale_model_input",
        "sample_bits",
        "step",
        "corruption_probabilities",
        "add_noise",
    ],
)
def test_every_argument_is_documented(name):
    method = getattr(VideoARScheduler, name)
    documentation = VideoARScheduler.__doc__ if name == "__init__" else method.__doc__
    names = [parameter for parameter in inspect.signature(method).parameters if parameter != "self"]
    documented = re.findall(r"^ +(\w+) \(", documentation.split("Args:")[1], flags=re.MULTILINE)
    assert names == documented[: len(names)]
