# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0

import pytest
import torch

from tests.infinitystar_runs import GRID, RecordedRun, make_run_scheduler, recorded, run_facts
from videoar_pipelines import InfinityStarScheduler
from videoar_pipelines.schedulers.scheduling_infinitystar import (
    GRIDS,
    PRESETS,
    draw_bit_noise,
    projected_guidance,
)


RUNS = ("t2v_apg", "t2v_cfg", "i2v", "v2v", "unguided")


# 1. Passes


@pytest.mark.parametrize("name", ["t2v_480p_5s", "t2v_480p_10s", "t2v_720p_5s", "t2i_480p", "t2i_720p"])
def test_passes_of_the_published_models_are_those_of_the_reference(name):
    facts = run_facts()["schedule"]
    schedule = facts["schedules"][name]
    rows = [dict(zip(facts["columns"], row)) for row in schedule["passes"]]
    scheduler = InfinityStarScheduler(**PRESETS["480p" if "480p" in name else "720p"])
    height, width = schedule["pixels"]
    clips = scheduler.get_passes(schedule["latent_frames"], height // 16, width // 16)
    passes = [item for clip in clips for item in clip]
    assert len(passes) == schedule["visual_passes"]
    assert sum(item.num_tokens for item in passes) == schedule["tokens_pushed"]
    for item, row in zip(passes, rows, strict=True):
        assert (item.clip, item.scale, item.repetition, item.step) == (
            row["clip"],
            row["scale"],
            row["repetition"],
            row["pass"],
        )
        assert item.grid == (row["T"], row["h"], row["w"]) and item.num_bits == row["bits_per_token"]
        assert (item.first_frame, item.first_frame + item.grid[0]) == (row["frame_start"], row["frame_end"])
        temperature = scheduler.config.image_temperature if item.clip == 0 else scheduler.config.video_temperature
        assert temperature == row["tau"]
    assert [item for item in passes if item.is_last_of_clip] == [clip[-1] for clip in clips]


def test_the_default_is_480p():
    # `None` for the repetitions stands for those of the preset, at either size.
    for preset, grid in (("480p", (30, 53)), ("720p", (45, 80))):
        short = InfinityStarScheduler(**{name: PRESETS[preset][name] for name in ("num_scales", "min_detail_tokens")})
        assert short.get_passes(21, *grid) == InfinityStarScheduler(**PRESETS[preset]).get_passes(21, *grid)
    assert InfinityStarScheduler().get_passes(41, 30, 53) == InfinityStarScheduler(**PRESETS["480p"]).get_passes(
        41, 30, 53
    )


@pytest.mark.parametrize(("preset", "num_semantic_scales"), [("480p", 11), ("720p", 12)])
def test_all_fifteen_aspect_ratios_have_their_grids_and_the_head_that_goes_with_their_bits(
    preset, num_semantic_scales
):
    # The reference chooses bits by the number of tokens and the head by the number of the scale; here the bits decide both.
    scheduler = InfinityStarScheduler(**PRESETS[preset])
    published = [[tuple(grid) for grid in grids] for grids in run_facts()["schedule"]["grids"].values()]
    num_scales = scheduler.config.num_scales
    assert sorted(scheduler.latent_grids) == sorted(grids[num_scales - 1] for grids in published)
    assert len(published) == 2 * len(GRIDS) - 1 == 15
    for grids in published:
        assert list(scheduler.get_scale_schedule(*grids[num_scales - 1])) == grids[:num_scales]
        passes = scheduler.get_passes(21, *grids[num_scales - 1])[1]
        assert all((item.num_bits == 16) == (item.scale < num_semantic_scales) for item in passes)


def test_the_last_clip_may_be_shorter():
    clips = InfinityStarScheduler().get_passes(29, 30, 53)
    assert [clip[-1].grid[0] for clip in clips] == [1, 20, 8]
    assert [clip[0].first_frame for clip in clips] == [0, 1, 21]


# 2. Guidance


@pytest.mark.parametrize("case", run_facts()["guidance_cases"], ids=lambda case: f"case {case['case']}")
def test_projected_guidance_is_that_of_the_reference(case):
    conditional, unconditional, expected = (
        recorded()[f"guidance.{case['case']}.{name}"] for name in ("cond", "uncond", "out")
    )
    guided = projected_guidance(
        conditional, unconditional, case["scale"], case["norm_threshold"] or None, case["eta"]
    )  # a threshold of 0 is none there
    assert (guided - expected).abs().max() <= 1e-5


def test_projected_guidance_does_not_mix_the_samples_of_a_batch():
    generator = torch.Generator().manual_seed(0)
    conditional, unconditional = torch.randn(2, 3, 5, 16, 2, generator=generator)
    together = projected_guidance(conditional, unconditional, 34.0, 0.05)
    alone = [
        projected_guidance(conditional[index : index + 1], unconditional[index : index + 1], 34.0, 0.05)
        for index in range(3)
    ]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize("name", ["t2v_apg", "t2v_cfg"])
def test_guided_logits_are_made_of_the_reference_s_logits(name):
    run, scheduler = RecordedRun.load(name), make_run_scheduler()
    compared = 0
    for item in run.passes:
        logits, guided = run.get(item, "logits"), run.get(item, "guided")
        if logits is not None and guided is not None:
            result = scheduler.guide(logits[:1], logits[1:], item, run.options)
            assert (result - guided).abs().max() <= 1e-4
            compared += 1
    assert compared == (14 if name == "t2v_apg" else 0)


def test_a_guidance_scale_of_one_gives_the_conditional_logits():
    scheduler = make_run_scheduler()
    item = scheduler.get_passes(3, *GRID)[1][0]
    conditional, unconditional = torch.randn(2, 1, 2, 16, 2)
    for guidance_type in ("plain", "projected"):
        options = scheduler.get_options(1.0, guidance_type)
        assert not options.has_guidance
        guided = scheduler.guide(conditional, unconditional, item, options)
        assert (guided - conditional / 0.4).abs().max() <= 1e-5


# 3. Sampling


@pytest.mark.parametrize("name", RUNS)
def test_sums_are_those_of_the_reference(name):
    run, scheduler = RecordedRun.load(name), make_run_scheduler()
    sums = []
    for clip in run.clips[run.num_forced_clips :]:
        total = torch.zeros(1, 64, clip[0].grid[0], *GRID)
        for item in clip:
            bits = run.get(item, "bits")  # (1, T, h, w, d)
            # Logits so sure that any noise draws these bits.
            logits = torch.stack([~bits, bits], dim=-1).flatten(1, 3) * 1e4
            total, drawn = scheduler.step(logits, item, total, torch.Generator(), return_dict=False)
            assert torch.equal(drawn, bits)
        sums.append(total)
    sampled = torch.cat(sums, dim=2)
    assert (sampled - run.latents[:, :, -sampled.shape[2] :]).abs().max() <= 1e-6


def test_bits_are_those_that_multinomial_draws():
    # The reference draws with `torch.multinomial`; on a CPU that is the race of two exponential clocks.
    logits = 3 * torch.randn(1, 50, 16, 2, generator=torch.Generator().manual_seed(0))
    noise = draw_bit_noise(tuple(logits.shape), torch.Generator().manual_seed(41))
    bits = make_run_scheduler().sample_bits(logits, noise)
    probabilities = logits.softmax(dim=-1).flatten(0, 2)
    expected = torch.multinomial(probabilities, 1, replacement=True, generator=torch.Generator().manual_seed(41))
    assert torch.equal(bits.flatten(), expected.flatten().bool())


def test_bits_come_as_often_as_their_probability_says():
    logits = torch.tensor([0.0, 1.5]).expand(1, 20_000, 1, 2)
    noise = draw_bit_noise(tuple(logits.shape), torch.Generator().manual_seed(0))
    share = make_run_scheduler().sample_bits(logits, noise).float().mean().item()
    probability = torch.tensor(1.5).sigmoid().item()
    # Four standard deviations of 20,000 draws.
    assert share == pytest.approx(probability, abs=4 * (probability * (1 - probability) / 20_000) ** 0.5)


@pytest.mark.parametrize("name", RUNS)
def test_every_bit_of_the_reference_is_drawn_from_its_guided_logits(name):
    run, scheduler = RecordedRun.load(name), make_run_scheduler()
    generator, compared = torch.Generator().manual_seed(run.seed), 0
    for item in run.passes:
        # Every pass draws, forced ones too, and those whose logits were not written down.
        noise = draw_bit_noise((1, item.num_tokens, item.num_bits, 2), generator)
        guided = run.get(item, "guided")
        if guided is not None and item.clip >= run.num_forced_clips:
            bits = scheduler.sample_bits(guided, noise).unflatten(1, item.grid)
            assert torch.equal(bits, run.get(item, "bits"))
            compared += 1
    assert compared == {"t2v_apg": 28, "t2v_cfg": 5, "i2v": 1, "v2v": 1, "unguided": 0}[name]


def test_a_list_of_generators_draws_every_sample_by_itself():
    generators = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    noise = draw_bit_noise((2, 5, 16, 2), generators)
    for seed, sample in zip((3, 4), noise):
        assert torch.equal(sample[None], draw_bit_noise((1, 5, 16, 2), torch.Generator().manual_seed(seed)))
    with pytest.raises(ValueError, match="`generator` is a list of 2 for a batch of 3"):
        draw_bit_noise((3, 5, 16, 2), generators)


# 4. Configuration and errors


def test_a_saved_scheduler_gives_the_same_passes(tmp_path):
    scheduler = make_run_scheduler(guidance_type="plain", guidance_cap=None)
    scheduler.save_pretrained(tmp_path)
    loaded = InfinityStarScheduler.from_pretrained(tmp_path)
    assert loaded.get_passes(5, *GRID) == scheduler.get_passes(5, *GRID)
    assert loaded.get_options() == scheduler.get_options()
    assert loaded.latent_grids == [GRID]


def test_options_of_a_call_replace_those_of_the_configuration():
    options = make_run_scheduler().get_options(guidance_scale=3.0, video_temperature=0.5)
    assert (options.guidance_scale, options.guidance_type) == (3.0, "projected")
    assert (options.image_temperature, options.video_temperature) == (1.0, 0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"guidance_type": "adaptive"}, "`guidance_type` must be one of .*, got 'adaptive'"),
        ({"guidance_scale": 0.5}, "`guidance_scale` has to be at least 1 \\(off\\), got 0.5"),
        ({"image_temperature": 0.0}, "`image_temperature` has to be above 0, got 0.0"),
        ({"video_temperature": -1.0}, "`video_temperature` has to be above 0, got -1.0"),
    ],
)
def test_options_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_run_scheduler().get_options(**arguments)
    with pytest.raises(ValueError, match=message):
        make_run_scheduler(**arguments)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_scales": 16}, "`num_scales` has to be between 1 and 15, got 16"),
        ({"guidance_cap": 0.0}, "`guidance_cap` has to be above 0, or `None` for no limit, got 0.0"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(config, message):
    with pytest.raises(ValueError, match=message):
        InfinityStarScheduler(**config)


def test_a_size_without_a_schedule_is_refused():
    with pytest.raises(ValueError, match="no scale schedule for the latent grid 30x54. Those .*30x53"):
        InfinityStarScheduler().get_passes(21, 30, 54)
    with pytest.raises(ValueError, match="no scale schedule for the latent grid 4x8"):
        make_run_scheduler().get_scale_schedule(4, 8)


@pytest.mark.parametrize("repetitions", [[2] * 4, [2, 2, 2, 2, 0]])
def test_repetitions_that_do_not_fit_the_scales_are_refused(repetitions):
    with pytest.raises(ValueError, match="`video_repetitions` has to be 5 positive numbers"):
        make_run_scheduler(video_repetitions=repetitions).get_passes(3, *GRID)
    assert len(make_run_scheduler(video_repetitions=repetitions).get_passes(1, *GRID)) == 1
