# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0

import pytest
import torch

from tests.infinitystar_fixtures import everything_expected, expected, facts, public_passes
from videoar_pipelines.models.quantization import features_to_maps
from videoar_pipelines.models.quantization_infinitystar import (
    BitPass,
    accumulate_pass,
    check_passes,
    clip_bits_to_latents,
    clip_lengths,
    make_passes,
    pass_inputs,
    pool_latents,
    quantize_clip,
    spread_codes,
)


# The reference's sums are float32 sums of the same numbers in the same order.
EXACT = {"atol": 1e-6, "rtol": 0}
PASSES = make_passes(((1, 1), (2, 3), (4, 6)), (2, 2, 1), min_detail_tokens=6, semantic_bits=4, detail_bits=8)


def make_latents(batch_size: int = 2, num_frames: int = 3) -> torch.Tensor:
    return torch.randn(batch_size, 8, num_frames, 4, 6, generator=torch.Generator().manual_seed(0))


def quantize_video(features: torch.Tensor):
    """The tiny clip of the reference, clip by clip: `(clip number, what quantize_clip gives)`."""
    image_passes, video_passes = public_passes()
    lengths = clip_lengths(features.shape[2], facts()["generation"]["latents_per_clip"])
    for number, clip in enumerate(features.split(lengths, dim=2)):
        yield number, quantize_clip(clip, image_passes if number == 0 else video_passes)


# 1. Against the reference


def test_every_bit_of_every_pass_is_the_references():
    bits = [bits for _, clip in quantize_video(expected()["encode.features"]) for bits in clip.bits]
    assert len(bits) == 28
    for number, pass_bits in enumerate(bits):
        assert torch.equal(pass_bits, expected()[f"quant.p{number:03d}.bits"].bool()), number


def test_the_sums_of_the_clips_are_the_references():
    sums = [clip.latents for _, clip in quantize_video(expected()["encode.features"])]
    torch.testing.assert_close(torch.cat(sums, dim=2), expected()["decode.codes"], **EXACT)


def test_the_sums_that_go_with_given_bits_are_the_references():
    bits = [expected()[f"quant.p{number:03d}.bits"].bool() for number in range(28)]
    for passes in (slice(0, 10), slice(10, 19), slice(19, 28)):
        latents = clip_bits_to_latents(bits[passes], 64, (4, 7))
        torch.testing.assert_close(latents, expected()[f"quant.p{passes.stop - 1:03d}.acc"], **EXACT)


@pytest.mark.parametrize("number", [2, 12, 26])
def test_what_the_transformer_reads_is_the_references(number):
    first = max(first for first in (0, 10, 19) if first <= number)
    bits = [expected()[f"quant.p{earlier:03d}.bits"].bool() for earlier in range(first, number)]
    reference = expected()[f"quant.p{number:03d}.var_input"]  # (1, 64, T, h, w)
    accumulated = clip_bits_to_latents(bits, 64, (4, 7)).transpose(1, 2).flatten(0, 1)
    inputs = pass_inputs(accumulated, tuple(reference.shape[-2:]))  # (T, h * w, 64)
    torch.testing.assert_close(inputs, reference[0].flatten(2).permute(1, 2, 0), **EXACT)


def test_every_step_of_every_pass_is_the_references():
    arrays = everything_expected()
    image_passes, video_passes = public_passes()
    features = arrays["encode.features"]
    for start, end, first, passes in ((0, 1, 0, image_passes), (1, 3, 10, video_passes), (3, 5, 19, video_passes)):
        frames = features[0, :, start:end].transpose(0, 1)  # (T, 64, 4, 7)
        accumulated = torch.zeros_like(frames)
        for number, (height, width, num_bits) in enumerate(passes, start=first):
            name = f"quant.p{number:03d}"
            inputs = pass_inputs(accumulated, (height, width))
            torch.testing.assert_close(inputs, arrays[f"{name}.var_input"][0].flatten(2).permute(1, 2, 0), **EXACT)
            residual = pool_latents(frames - accumulated, num_bits, (height, width))
            torch.testing.assert_close(residual, arrays[f"{name}.residual_down"][0].transpose(0, 1), **EXACT)
            accumulated = accumulate_pass(accumulated, arrays[f"{name}.bits"][0].bool())
            torch.testing.assert_close(accumulated, arrays[f"{name}.acc"][0].transpose(0, 1), **EXACT)


@pytest.mark.parametrize(("name", "num_frames"), [("image", 1), ("prefix", 3)])
def test_the_bits_of_an_image_and_of_a_shorter_clip_are_the_references(name, num_frames):
    arrays = everything_expected()
    bits = [bits for _, clip in quantize_video(arrays[f"{name}.features"]) for bits in clip.bits]
    assert arrays[f"{name}.features"].shape[2] == num_frames
    for number, pass_bits in enumerate(bits):
        assert torch.equal(pass_bits, arrays[f"{name}.p{number:03d}.bits"].bool()), number
    assert f"{name}.p{len(bits):03d}.bits" not in arrays


# 2. The rule


def test_bits_are_the_clip():
    clip = quantize_clip(make_latents(), PASSES)
    assert [tuple(bits.shape[1:]) for bits in clip.bits] == [(3, *bit_pass) for bit_pass in PASSES]
    assert all(bits.dtype == torch.bool for bits in clip.bits)
    assert torch.equal(clip_bits_to_latents(clip.bits, 8, (4, 6)), clip.latents)


def test_more_passes_give_a_closer_picture():
    latents = make_latents()
    bits = quantize_clip(latents, PASSES).bits
    errors = [
        (clip_bits_to_latents(bits[:number], 8, (4, 6)) - latents).square().mean().item() for number in (1, 3, 5)
    ]
    assert errors == sorted(errors, reverse=True)


def test_frames_and_samples_do_not_mix():
    latents = make_latents()
    together = quantize_clip(latents, PASSES)
    for sample in range(2):
        for frame in range(3):
            alone = quantize_clip(latents[sample : sample + 1, :, frame : frame + 1], PASSES)
            for bits, own in zip(together.bits, alone.bits):
                assert torch.equal(bits[sample : sample + 1, frame : frame + 1], own)


def test_with_all_bits_in_every_pass_the_rule_is_that_of_videoar():
    schedule = ((1, 1), (2, 3), (4, 6))
    ours = quantize_clip(make_latents(), [BitPass(*grid, 8) for grid in schedule])
    maps = features_to_maps(make_latents(), schedule)
    for bits, map_bits in zip(ours.bits, maps.bits, strict=True):
        assert torch.equal(bits, map_bits)
    # Over channels the trilinear weights are one and zero; what is left is rounding.
    torch.testing.assert_close(ours.latents, maps.latents, **EXACT)


def test_channels_are_resampled_with_rows_and_columns():
    latents = torch.arange(8.0)[None, :, None, None].expand(1, 8, 2, 2)
    assert pool_latents(latents, 4, (1, 1)).flatten().tolist() == [0.5, 2.5, 4.5, 6.5]
    codes = torch.tensor([1.0, -1.0])[None, :, None, None]
    assert spread_codes(codes, 4, (1, 1)).flatten().tolist() == [1.0, 0.5, -0.5, -1.0]


def test_the_first_pass_of_a_clip_reads_zeros():
    assert not pass_inputs(torch.zeros(2, 8, 4, 6), (2, 3)).any()


# 3. Passes and clips


def test_a_scale_has_detail_bits_from_a_number_of_tokens_on():
    assert PASSES == ((1, 1, 4), (1, 1, 4), (2, 3, 8), (2, 3, 8), (4, 6, 8))


def test_the_first_frame_is_a_clip_of_its_own():
    assert clip_lengths(1, 20) == [1]
    assert clip_lengths(21, 20) == [1, 20]
    assert clip_lengths(41, 20) == [1, 20, 20]
    assert clip_lengths(29, 20) == [1, 20, 8]


def test_repetitions_of_other_scales_are_refused():
    with pytest.raises(ValueError, match="`repetitions` must have one entry per scale, 2 in all, got 1"):
        make_passes(((1, 1), (2, 2)), (3,), 4)


@pytest.mark.parametrize(
    ("passes", "message"),
    [
        ([], "`passes` is empty"),
        ([BitPass(1, 1, 16), BitPass(4, 6, 8)], r"`passes\[0\]` is \(1, 1, 16\).* from 1 to 8 bits"),
        ([BitPass(0, 1, 4), BitPass(4, 6, 8)], r"`passes\[0\]` is \(0, 1, 4\)"),
        ([BitPass(1, 1, 4), BitPass(4, 4, 8)], r"grid \(4, 4\), but that of the latents is \(4, 6\)"),
    ],
)
def test_passes_that_cannot_write_a_clip_are_refused(passes, message):
    with pytest.raises(ValueError, match=message):
        quantize_clip(make_latents(), passes)
    with pytest.raises(ValueError, match=message):
        check_passes(passes, 8, 4, 6)
