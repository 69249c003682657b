# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from videoar_pipelines.models.quantization import (
    MultiScaleBitwiseQuantizer,
    bit_entropies,
    bits_to_codes,
    bits_to_maps,
    check_scale_schedule,
    default_scale_schedule,
    features_to_bits,
    features_to_maps,
    flatten_bits,
    flip_bits,
    map_inputs,
    maps_to_latents,
    merge_frames,
    pack_bits,
    resample_latents,
    sequence_inputs,
    tokens_per_frame,
    unflatten_bits,
    unpack_bits,
)


SCHEDULE = ((1, 1), (2, 2), (3, 3), (4, 4))
INFINITY = Path(__file__).parents[1] / "fixtures" / "infinity-image-vae"


@pytest.fixture
def latents():
    """Smooth in space, as features are: then coarse scales carry something."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(2, 8, 3, 2, 2, generator=generator)
    fine = torch.randn(2, 8, 3, 4, 4, generator=generator)
    return 0.7 * coarse.repeat_interleave(2, dim=3).repeat_interleave(2, dim=4) + 0.3 * fine


@pytest.fixture(scope="module")
def infinity():
    """Features, bits and sums of a small model like Infinity's tokenizers, made with its published code."""
    arrays = load_file(INFINITY / "expected.safetensors")
    config = json.loads((INFINITY / "config.json").read_text())
    return arrays, tuple(tuple(grid) for grid in config["scale_schedule"])


# 1. Parity with Infinity


def test_bits_equal_those_of_infinity(infinity):
    arrays, schedule = infinity
    maps = features_to_maps(arrays["features"].unsqueeze(2), schedule)
    expected = flatten_bits([arrays[f"bits.{scale}"].bool() for scale in range(len(schedule))])
    # A residual within rounding of zero may fall on either side.
    assert (flatten_bits(maps.bits) == expected).float().mean() >= 0.9999


def test_quantised_latents_equal_those_of_infinity(infinity):
    arrays, schedule = infinity
    bits = [arrays[f"bits.{scale}"].bool() for scale in range(len(schedule))]
    latents = maps_to_latents(bits, schedule)
    # The reference sums in another order: float32 rounding.
    torch.testing.assert_close(latents.squeeze(2), arrays["quantized"], atol=1e-5, rtol=0)


def test_inputs_of_the_next_scale_equal_those_of_infinity(infinity):
    arrays, schedule = infinity
    maps = features_to_maps(arrays["features"].unsqueeze(2), schedule)
    inputs = sequence_inputs(maps, schedule)  # Infinity has no input for the first scale
    torch.testing.assert_close(inputs[:, 1:], arrays["next_scale_inputs"], atol=1e-5, rtol=0)


# 2. Bits and codes


def test_codes_are_the_bits_on_the_unit_sphere():
    bits = torch.rand(5, 8, generator=torch.Generator().manual_seed(0)) < 0.5
    codes = bits_to_codes(bits)
    assert torch.equal(features_to_bits(codes), bits)
    torch.testing.assert_close(codes.norm(dim=-1), torch.ones(5))


def test_zero_is_the_bit_false():
    assert not features_to_bits(torch.zeros(1)).item()


def test_flips_follow_the_probability_of_their_frame():
    bits = torch.zeros(1, 3, 32, 32, 8, dtype=torch.bool)
    flipped = flip_bits(bits, torch.tensor([[0.0, 0.25, 1.0]]), torch.Generator().manual_seed(0))
    share = flipped.float().mean(dim=(0, 2, 3, 4))
    assert share[0] == 0 and share[2] == 1
    assert abs(share[1] - 0.25) < 0.02  # 8192 draws: four standard deviations


@pytest.mark.parametrize("num_bits", [1, 8, 12, 48, 64])
def test_packing_bits_can_be_undone(num_bits):
    bits = torch.rand(2, 3, 5, num_bits, generator=torch.Generator().manual_seed(num_bits)) < 0.5
    packed = pack_bits(bits)
    assert packed.dtype == torch.uint8 and packed.shape == (2, 3, 5, -(-num_bits // 8))
    assert torch.equal(unpack_bits(packed, num_bits), bits)


def test_the_order_of_packed_bits_is_fixed():
    bits = torch.zeros(12, dtype=torch.bool)
    bits[[0, 3, 9]] = True
    assert pack_bits(bits).tolist() == [1 + 8, 2]


# 3. Whole clips


def test_frames_are_quantised_independently(latents):
    maps = features_to_maps(latents, SCHEDULE)
    for frame in range(latents.shape[2]):
        alone = features_to_maps(latents[:, :, frame : frame + 1], SCHEDULE)
        assert torch.equal(alone.latents[:, :, 0], maps.latents[:, :, frame])
        for bits, bits_alone in zip(maps.bits, alone.bits):
            assert torch.equal(bits[:, frame], bits_alone[:, 0])


def test_latents_are_the_sum_of_the_maps(latents):
    maps = features_to_maps(latents, SCHEDULE)
    assert torch.equal(maps_to_latents(maps.bits, SCHEDULE), maps.latents)


def test_partial_sums_are_the_sums_of_the_coarser_maps(latents):
    maps = features_to_maps(latents, SCHEDULE)
    for scale in range(1, len(SCHEDULE)):
        coarser = maps_to_latents(maps.bits[:scale], SCHEDULE)
        assert torch.equal(maps.partial_sums[scale], merge_frames(coarser))


@pytest.mark.parametrize("grid", [(1, 1), (3, 3), (6, 5), (16, 24)])
def test_resampling_does_not_depend_on_the_memory_layout(latents, grid):
    frames = merge_frames(latents)
    plain = torch.nn.functional.interpolate(frames, size=grid, mode="bilinear", align_corners=False)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        assert torch.equal(resample_latents(frames.contiguous(memory_format=memory_format), grid), plain)


def test_sums_can_be_made_from_the_bits_alone(latents):
    maps = features_to_maps(latents, SCHEDULE)
    from_bits = bits_to_maps(maps.bits, SCHEDULE)
    assert torch.equal(from_bits.latents, maps.latents)
    assert all(map(torch.equal, from_bits.bits, maps.bits))
    assert all(map(torch.equal, from_bits.partial_sums, maps.partial_sums))


@pytest.mark.parametrize("schedule", [((4, 4),), ((2, 1), (3, 4), (4, 4)), ((1, 1), (1, 3), (4, 4)), SCHEDULE])
def test_any_schedule_that_ends_in_the_latent_grid_works(latents, schedule):
    maps = features_to_maps(latents, check_scale_schedule(schedule, 4, 4))
    assert [tuple(bits.shape) for bits in maps.bits] == [(2, 3, height, width, 8) for height, width in schedule]
    assert flatten_bits(maps.bits).shape == (2, 3 * tokens_per_frame(schedule), 8)


def test_more_scales_are_closer_to_the_features(latents):
    bits = features_to_maps(latents, SCHEDULE).bits
    errors = [
        (maps_to_latents(bits[: scale + 1], SCHEDULE) - latents).square().mean() for scale in range(len(SCHEDULE))
    ]
    assert errors == sorted(errors, reverse=True)


def test_flattening_bits_can_be_undone(latents):
    bits = features_to_maps(latents, SCHEDULE).bits
    for before, after in zip(bits, unflatten_bits(flatten_bits(bits), SCHEDULE)):
        assert torch.equal(before, after)


def test_the_first_scale_reads_the_frame_before(latents):
    maps = features_to_maps(latents, SCHEDULE)
    inputs = sequence_inputs(maps, SCHEDULE).unflatten(1, (3, -1))  # (B, T, L, d)
    assert not inputs[:, 0, 0].any()
    expected = map_inputs(maps.latents[:, :, 0], maps.latents[:, :, 0], (1, 1), is_first_scale=True)
    assert torch.equal(inputs[:, 1, :1], expected)


# 4. Corruption and repair


@pytest.mark.parametrize(("resampling", "cells"), [("bilinear", 4), ("area", 64)])
def test_the_first_map_sees_four_cells_of_the_frame_before_or_all(resampling, cells):
    frame = torch.zeros(1, 1, 8, 8, requires_grad=True)
    map_inputs(frame, frame, (1, 1), True, previous_frame_resampling=resampling).sum().backward()
    assert (frame.grad != 0).sum() == cells
    assert frame.grad.sum().item() == pytest.approx(1)


def test_the_finest_map_of_a_frame_reaches_later_frames_through_those_cells_alone():
    schedule = default_scale_schedule(8, 8)
    maps = features_to_maps(torch.randn(1, 4, 2, 8, 8, generator=torch.Generator().manual_seed(0)), schedule)
    inputs = sequence_inputs(maps, schedule)
    maps.bits[-1][:, 0] ^= True  # of the first frame
    flipped = sequence_inputs(bits_to_maps(maps.bits, schedule), schedule)
    num_tokens = tokens_per_frame(schedule)
    changed = (inputs != flipped).any(dim=-1)[0].nonzero().flatten().tolist()
    assert changed == [num_tokens]  # the first map of the second frame


def test_flip_probability_zero_changes_nothing(latents):
    clean = features_to_maps(latents, SCHEDULE)
    flipped = features_to_maps(latents, SCHEDULE, flip_probabilities=torch.zeros(2, 3, len(SCHEDULE)))
    assert torch.equal(flipped.latents, clean.latents)
    assert torch.equal(flatten_bits(flipped.bits), flatten_bits(clean.bits))


def test_later_targets_repair_earlier_flips(latents):
    probabilities = torch.full((2, 3, len(SCHEDULE)), 0.3)
    probabilities[..., -1] = 0  # the last scale has nobody to repair it
    repaired = features_to_maps(latents, SCHEDULE, probabilities, generator=torch.Generator().manual_seed(0)).latents

    generator = torch.Generator().manual_seed(0)  # the same flips, on targets that do not know of them
    clean_bits = features_to_maps(latents, SCHEDULE).bits
    flipped_bits = [flip_bits(bits, probabilities[..., scale], generator) for scale, bits in enumerate(clean_bits)]
    unrepaired = maps_to_latents(flipped_bits, SCHEDULE)

    assert (repaired - latents).square().mean() < (unrepaired - latents).square().mean()


def test_targets_before_the_first_flip_are_the_clean_ones(latents):
    probabilities = torch.zeros(2, 3, len(SCHEDULE))
    probabilities[..., 1] = 1
    clean = features_to_maps(latents, SCHEDULE)
    flipped = features_to_maps(latents, SCHEDULE, probabilities)
    assert torch.equal(flipped.bits[0], clean.bits[0]) and torch.equal(flipped.bits[1], clean.bits[1])
    assert not torch.equal(flipped.bits[2], clean.bits[2])


def test_a_masked_scale_contributes_nothing(latents):
    mask = torch.ones(2, len(SCHEDULE), dtype=torch.bool)
    mask[1, 2] = False
    masked = features_to_maps(latents, SCHEDULE, scale_mask=mask)
    without = features_to_maps(latents[1:], SCHEDULE[:2] + SCHEDULE[3:])
    assert torch.equal(masked.latents[:1], features_to_maps(latents[:1], SCHEDULE).latents)
    assert torch.equal(masked.latents[1:], without.latents)


# 5. The layer


def test_gradients_pass_straight_through_the_quantiser(latents):
    latents.requires_grad_(True)
    output = MultiScaleBitwiseQuantizer().train()(latents, SCHEDULE)
    weight = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
    (output.latents * weight).sum().backward()
    torch.testing.assert_close(latents.grad, weight)


def test_losses_exist_only_in_training_mode_and_have_gradients(latents):
    quantizer = MultiScaleBitwiseQuantizer().eval()
    assert quantizer(latents, SCHEDULE).commitment_loss is None
    latents.requires_grad_(True)
    output = quantizer.train()(latents, SCHEDULE)
    for loss in (output.commitment_loss, output.entropy_loss):
        (gradient,) = torch.autograd.grad(loss, latents, retain_graph=True)
        assert gradient.isfinite().all() and gradient.abs().sum() > 0


def test_training_mode_gives_the_bits_and_latents_of_evaluation(latents):
    quantizer, mask = MultiScaleBitwiseQuantizer(), torch.ones(2, len(SCHEDULE), dtype=torch.bool)
    mask[1, 1] = False
    trained, evaluated = (quantizer.train(mode)(latents, SCHEDULE, mask) for mode in (True, False))
    assert all(map(torch.equal, trained.bits, evaluated.bits))
    torch.testing.assert_close(trained.latents, evaluated.latents)  # features are added and subtracted


def test_the_entropies_of_all_scales_are_those_of_each_by_itself():
    generator = torch.Generator().manual_seed(0)
    residuals = [0.1 * torch.randn(6, 8, *grid, generator=generator) for grid in SCHEDULE]
    per_sample, per_batch = bit_entropies(residuals, inverse_temperature=2.0)
    for scale, residual in enumerate(residuals):
        unit = residual.double() / residual.double().norm(dim=1, keepdim=True)
        probability = torch.sigmoid(4 * 2.0 * unit / 8**0.5)
        mean = probability.mean(dim=(0, 2, 3))
        for entropy, of in ((per_sample, probability), (per_batch, mean)):
            expected = (torch.special.entr(of) + torch.special.entr(1 - of)).mean()
            torch.testing.assert_close(entropy[scale].double(), expected, rtol=1e-5, atol=0)  # of float32


def test_the_sum_is_kept_in_float32(latents):
    bfloat16 = latents.to(torch.bfloat16)
    output = MultiScaleBitwiseQuantizer().eval()(bfloat16, SCHEDULE)
    exact = features_to_maps(bfloat16.float(), SCHEDULE)
    assert torch.equal(flatten_bits(output.bits), flatten_bits(exact.bits))
    assert torch.equal(output.latents, exact.latents.to(torch.bfloat16))


# 6. Schedules


@pytest.mark.parametrize(
    "grid", [(1, 1), (2, 2), (4, 4), (8, 8), (16, 16), (64, 64), (20, 16), (16, 20), (24, 42), (5, 9)]
)
def test_the_default_schedule_grows_to_the_grid(grid):
    schedule = default_scale_schedule(*grid)
    assert check_scale_schedule(schedule, *grid) == schedule


def test_the_default_schedule_of_a_128_pixel_video_is_the_papers():
    assert default_scale_schedule(8, 8) == ((1, 1), (2, 2), (3, 3), (4, 4), (6, 6), (8, 8))


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ((), "non-empty"),
        (((1, 1), (0, 2), (4, 4)), "grow"),
        (((1, 1), (3, 3), (2, 4), (4, 4)), "grow"),
        (((1, 1), (2, 2)), r"ends in \(2, 2\) but the latents are \(4, 4\)"),
    ],
)
def test_a_wrong_schedule_is_refused(schedule, message):
    with pytest.raises(ValueError, match=message):
        check_scale_schedule(schedule, 4, 4)
