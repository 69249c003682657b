# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0

import copy
import json
import re

import pytest
import torch
import torch.nn.functional as F
from accelerate.hooks import ModelHook, add_hook_to_module

from tests.infinitystar_fixtures import everything_expected, expected, facts, make_public_tokenizer, public_video
from videoar_pipelines.models.autoencoder_infinitystar import (
    AutoencoderInfinityStar,
    InfinityStarDownsampler,
    InfinityStarRMSNorm,
    InfinityStarUpsampler,
    average_pairs,
    depth_to_space,
    space_to_depth,
    spread,
)


# Sums of the same products in another order: float32 rounding. A wrong order of channels shows as 0.5 or more.
REFERENCE = {"atol": 1e-5, "rtol": 0}
ROUNDING = {"atol": 1e-5, "rtol": 0}


@pytest.fixture
def model():
    return make_public_tokenizer()


def make_video(batch_size: int = 1, num_frames: int = 17, height: int = 32, width: int = 48) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(batch_size, 3, num_frames, height, width, generator=generator) * 2 - 1


def make_latents(batch_size: int = 1, num_frames: int = 5, height: int = 2, width: int = 3) -> torch.Tensor:
    return torch.randn(batch_size, 64, num_frames, height, width, generator=torch.Generator().manual_seed(2))


def encode_in_chunks(model, video, chunk_lengths, generator=None) -> torch.Tensor:
    """`chunk_lengths` in latent frames."""
    latents, state, start = [], None, 0
    for length in chunk_lengths:
        end = start + 4 * length - (3 if start == 0 else 0)
        output = model.encode_chunk(video[:, :, start:end], state, generator)
        latents.append(output.latents)
        state, start = output.state, end
    assert start == video.shape[2]
    return torch.cat(latents, dim=2)


def decode_in_chunks(model, latents, chunk_lengths) -> torch.Tensor:
    samples, state = [], None
    for chunk in latents.split(chunk_lengths, dim=2):
        output = model.decode_chunk(chunk, state)
        samples.append(output.sample)
        state = output.state
    return torch.cat(samples, dim=2)


def decode_unclamped(model, latents) -> torch.Tensor:
    z = model.post_quant_proj((latents / model.latent_gain).movedim(1, -1)).movedim(-1, 1)
    return model.decoder(z)[0]


def make_small_model() -> AutoencoderInfinityStar:
    """Two widths and a single block each: it compiles fast, and a position depends on few others."""
    torch.manual_seed(0)
    model = AutoencoderInfinityStar(
        latent_channels=8,
        block_out_channels=(4, 8),
        layers_per_block=1,
        decoder_layers_per_block=1,
        temporal_downsample=(True,),
    )
    return model.eval().requires_grad_(False)


# 1. Against the reference


def test_the_posterior_is_the_references(model):
    moments = model.encode(public_video()).latent_dist.parameters
    torch.testing.assert_close(moments, expected()["encode.moments"], **REFERENCE)


def test_the_features_are_the_references(model):
    output = model.encode(public_video())
    torch.testing.assert_close(output.latents, expected()["encode.features_of_mean"], **REFERENCE)
    z = output.latent_dist.mean + output.latent_dist.std * expected()["encode.noise"]
    torch.testing.assert_close(model.posterior_to_latents(z), expected()["encode.features"], **REFERENCE)


def test_the_decoded_clip_is_the_references(model):
    sample = model.decode(expected()["decode.codes"]).sample
    frames = facts()["decode_video_frames_index"]
    torch.testing.assert_close(sample[:, :, frames], expected()["decode.video_frames"], **REFERENCE)


@pytest.mark.parametrize("num_frames", [1, 3, 4])
def test_clips_of_other_lengths_are_decoded_as_by_the_reference(model, num_frames):
    latents = expected()["decode.codes"][:, :, :num_frames, :2, :2]
    reference = expected()[f"lengths.decode{num_frames}"]
    torch.testing.assert_close(decode_unclamped(model, latents), reference, **REFERENCE)
    torch.testing.assert_close(model.decode(latents).sample, reference.clamp(-1, 1), **REFERENCE)


def test_a_first_chunk_of_another_length_is_encoded_as_by_the_reference(model):
    # The reference encodes 13 frames as one chunk, this model as 9 and 4.
    moments = model.encode(public_video()[:, :, :13, :32, :32]).latent_dist.parameters
    reference = F.pixel_unshuffle(expected()["lengths.encode13"].transpose(1, 2), 2).transpose(1, 2)
    torch.testing.assert_close(moments, reference, **REFERENCE)


def test_everything_that_the_reference_wrote_down_about_clips_and_images(model):
    arrays = everything_expected()
    video = public_video()
    for num_frames in (1, 5, 9, 17):
        moments = model.encode(video[:, :, :num_frames, :32, :32]).latent_dist.parameters
        reference = F.pixel_unshuffle(arrays[f"lengths.encode{num_frames:02d}"].transpose(1, 2), 2).transpose(1, 2)
        torch.testing.assert_close(moments, reference, **REFERENCE)
    for name, num_frames in (("image", 1), ("prefix", 9)):
        posterior = model.encode(video[:, :, :num_frames]).latent_dist
        features = model.posterior_to_latents(posterior.mean + posterior.std * arrays[f"{name}.noise"])
        torch.testing.assert_close(features, arrays[f"{name}.features"], **REFERENCE)
    image = model.decode(arrays["image.codes"]).sample
    torch.testing.assert_close(image, arrays["image.decoded"].clamp(-1, 1), **REFERENCE)
    sample = model.decode(arrays["decode.codes"]).sample
    torch.testing.assert_close(sample[:, :, [0, 9, 16]], arrays["decode.video_frames"], **REFERENCE)
    # Half precision of the file: 2^-12 near one.
    torch.testing.assert_close(sample, arrays["decode.video_f16"].float(), atol=2.5e-4, rtol=0)


def test_every_stage_gives_what_the_references_gives(model):
    arrays = everything_expected()
    names = {"conv_norm_out": "norm_out"}
    inputs = {
        "encoder": public_video()[:, :, :9, :32, :32],
        "decoder": arrays["decode.decoder_input"][:, :, :3, :4, :4],
    }
    inputs["decoder"] = F.pixel_unshuffle(inputs["decoder"].transpose(1, 2), 2).transpose(1, 2)
    for network, frames in inputs.items():
        stages, outputs = getattr(model, network), {}
        for name, stage in stages.named_modules():
            if re.fullmatch(r"conv_in|(down_blocks|up_blocks)\.\d|mid_block|conv_norm_out|conv_out", name):
                stage.register_forward_hook(lambda module, _, output, name=name: outputs.update({name: output}))
        stages(frames)
        assert len(outputs) == 8
        for name, output in outputs.items():
            output = output.transpose(1, 2)
            reference = arrays.get(f"blocks.{network}.{names.get(name, name)}")
            if reference is None:
                reference = arrays[f"blocks.{network}.{names.get(name, name)}.first_frame_and_last"]
                output = output[:, :, [0, -1]]
            torch.testing.assert_close(output, reference, **REFERENCE, msg=lambda text: f"{network}.{name}: {text}")


# 2. Shapes and causality


def test_the_defaults_compress_space_by_sixteen_and_time_by_four():
    with torch.device("meta"):
        model = AutoencoderInfinityStar()
        latents = model.encode(torch.empty(1, 3, 17, 64, 32)).latents
        sample = model.decode(latents).sample
    assert (model.spatial_compression_ratio, model.temporal_compression_ratio) == (16, 4)
    assert latents.shape == (1, 64, 5, 4, 2) and sample.shape == (1, 3, 17, 64, 32)


def test_outputs_are_also_given_as_tuples(model):
    video = make_video(num_frames=5)
    latents = model.encode(video).latents
    assert torch.equal(model.encode(video, return_dict=False)[0], latents)
    assert torch.equal(model.encode_chunk(video, return_dict=False)[0], latents)
    sample = model.decode(latents).sample
    assert torch.equal(model.decode(latents, return_dict=False)[0], sample)
    assert torch.equal(model.decode_chunk(latents, return_dict=False)[0], sample)
    assert torch.equal(model(video, return_dict=False)[0], sample)


@pytest.mark.parametrize("frame", [1, 4, 5, 8, 13, 16])
def test_the_encoder_does_not_look_ahead(model, frame):
    video = make_video()
    changed = video.clone()
    changed[:, :, frame] += 0.5
    before, after = model.encode(video).latents, model.encode(changed).latents
    own = -(-frame // 4)  # latent frame t covers pixel frames up to 4t
    assert torch.equal(before[:, :, :own], after[:, :, :own])
    assert not torch.equal(before[:, :, own], after[:, :, own])


@pytest.mark.parametrize("frame", [1, 2, 4])
def test_the_decoder_does_not_look_ahead(model, frame):
    latents = make_latents()
    changed = latents.clone()
    changed[:, :, frame] *= -1
    before, after = model.decode(latents).sample, model.decode(changed).sample
    own = 4 * frame - 3  # its first pixel frame
    assert torch.equal(before[:, :, :own], after[:, :, :own])
    assert not torch.equal(before[:, :, own], after[:, :, own])


def test_an_image_is_the_first_frame_of_a_clip(model):
    video, latents = make_video(), make_latents()
    image, clip = model.encode(video[:, :, :1]).latents, model.encode(video).latents
    torch.testing.assert_close(image, clip[:, :, :1], **ROUNDING)
    image, clip = model.decode(latents[:, :, :1]).sample, model.decode(latents).sample
    torch.testing.assert_close(image, clip[:, :, :1], **ROUNDING)


def test_two_latent_frames_can_be_decoded(model):
    # The reference raises. The frames are those that it makes of them at the beginning of a longer clip.
    latents = expected()["decode.codes"][:, :, :2, :2, :2]
    reference = expected()["lengths.decode3"][:, :, :5]
    torch.testing.assert_close(decode_unclamped(model, latents), reference, **REFERENCE)


# 3. Chunks and streams


@pytest.mark.parametrize("chunk_length", [4, 8, 16])
def test_the_length_of_the_encoders_chunks_changes_nothing(model, chunk_length):
    video = make_video(num_frames=21)
    latents = model.encode(video).latents
    model.num_sample_frames_batch_size = chunk_length
    torch.testing.assert_close(model.encode(video).latents, latents, **ROUNDING)


@pytest.mark.parametrize("chunk_length", [1, 3, 6])
def test_the_length_of_the_decoders_chunks_changes_nothing(model, chunk_length):
    latents = make_latents(num_frames=6)
    sample = model.decode(latents).sample
    model.num_latent_frames_batch_size = chunk_length
    torch.testing.assert_close(model.decode(latents).sample, sample, **ROUNDING)


@pytest.mark.parametrize("chunk_lengths", [[1, 1, 1, 1, 1], [2, 3], [1, 3, 1], [4, 1]])
def test_encoding_in_chunks_equals_encoding_at_once(model, chunk_lengths):
    video = make_video(batch_size=2)
    latents = encode_in_chunks(model, video, chunk_lengths)
    torch.testing.assert_close(latents, model.encode(video).latents, **ROUNDING)


@pytest.mark.parametrize("chunk_lengths", [[1, 1, 1, 1, 1], [2, 3], [1, 3, 1], [4, 1]])
def test_decoding_in_chunks_equals_decoding_at_once(model, chunk_lengths):
    latents = make_latents(batch_size=2)
    sample = decode_in_chunks(model, latents, chunk_lengths)
    torch.testing.assert_close(sample, model.decode(latents).sample, **ROUNDING)


def test_chunks_of_the_networks_own_length_are_bit_identical(model):
    # The same kernels on the same shapes: three latent frames, then two at a time.
    video, latents = make_video(), make_latents()
    assert torch.equal(encode_in_chunks(model, video, [3, 2]), model.encode(video).latents)
    assert torch.equal(decode_in_chunks(model, latents, [3, 2]), model.decode(latents).sample)


def test_a_state_can_be_continued_twice(model):
    video, latents = make_video(), make_latents()
    for step, first, second in (
        (model.encode_chunk, video[:, :, :5], video[:, :, 5:]),
        (model.decode_chunk, latents[:, :, :2], latents[:, :, 2:]),
    ):
        state = step(first).state
        untouched = copy.deepcopy(state)
        once, twice = step(second, state)[0], step(second, state)[0]
        assert torch.equal(once, twice)
        for before, after in zip(untouched.tiles[0], state.tiles[0], strict=True):
            assert torch.equal(before, after)


def test_the_state_does_not_grow_with_the_video(model):
    def stored_bytes(state):  # of the memory behind the tensors, which a view of a chunk would keep alive
        return sum(frames.untyped_storage().nbytes() for tile in state.tiles for frames in tile)

    short = model.decode_chunk(make_latents(num_frames=1)).state
    long = model.decode_chunk(make_latents(num_frames=5)).state
    longer = model.decode_chunk(make_latents(num_frames=5), long).state
    assert stored_bytes(short) == stored_bytes(long) == stored_bytes(longer)
    short = model.encode_chunk(make_video(num_frames=5)).state
    long = model.encode_chunk(make_video(num_frames=17)).state
    assert stored_bytes(short) == stored_bytes(long)


def test_calls_leave_nothing_in_the_model(model):
    before = {name: dict(vars(module)) for name, module in model.named_modules()}
    model.decode_chunk(make_latents(), model.decode_chunk(make_latents()).state)
    model(make_video())
    after = {name: dict(vars(module)) for name, module in model.named_modules()}
    for name in before:
        assert before[name].keys() == after[name].keys()
        assert all(before[name][key] is after[name][key] for key in before[name])


# 4. The posterior


def test_a_generator_draws_from_the_posterior(model):
    video = make_video()
    mean = model.encode(video).latents
    drawn = [model.encode(video, torch.Generator().manual_seed(seed)).latents for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2]) and not torch.equal(drawn[0], mean)


def test_what_is_drawn_has_the_mean_and_deviation_of_the_posterior(model):
    generator = torch.Generator().manual_seed(0)
    output = model.encode(public_video(), generator)
    generator.manual_seed(0)
    noise = [torch.randn(1, 64, 1, 4, 7, generator=generator) for _ in range(5)]
    z = output.latent_dist.mean + output.latent_dist.std * torch.cat(noise, dim=2)
    torch.testing.assert_close(output.latents, model.posterior_to_latents(z), **ROUNDING)


def test_drawing_in_chunks_equals_drawing_at_once(model):
    video = make_video(batch_size=2)
    at_once = model.encode(video, torch.Generator().manual_seed(0)).latents
    in_chunks = encode_in_chunks(model, video, [1, 3, 1], torch.Generator().manual_seed(0))
    torch.testing.assert_close(in_chunks, at_once, **ROUNDING)


def test_a_sample_with_its_own_generator_is_drawn_as_alone(model):
    video = make_video(batch_size=2)
    batch = model.encode(video, [torch.Generator().manual_seed(seed) for seed in (3, 4)]).latents
    alone = model.encode(video[1:], torch.Generator().manual_seed(4)).latents
    torch.testing.assert_close(batch[1:], alone, **ROUNDING)


# 5. Layers


def test_squares_become_channels_in_the_order_row_column_channel():
    frames = torch.arange(8.0).reshape(1, 1, 2, 2, 2)  # channel 0: 0 1 / 2 3, channel 1: 4 5 / 6 7
    folded = space_to_depth(frames)
    assert folded.flatten().tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
    assert torch.equal(depth_to_space(folded, 1), frames)
    two = torch.randn(2, 6, 16, 3, 5)
    assert torch.equal(depth_to_space(two, 2)[:, 0::2], depth_to_space(two[:, :, :8], 1))
    assert torch.equal(depth_to_space(two, 2)[:, 1::2], depth_to_space(two[:, :, 8:], 1))


def test_pairs_are_averaged_and_the_first_frame_of_a_video_stays():
    frames = torch.arange(6.0).reshape(1, 6, 1, 1, 1)
    assert average_pairs(frames, is_first_chunk=False).flatten().tolist() == [0.5, 2.5, 4.5]
    assert average_pairs(frames[:, :5], is_first_chunk=True).flatten().tolist() == [0, 1.5, 3.5]
    assert average_pairs(frames[:, :1], is_first_chunk=True).flatten().tolist() == [0]


@pytest.mark.parametrize("size", [1e3, 1, 1e-8])
def test_the_norm_counts_small_inputs_in_full(size):
    norm = InfinityStarRMSNorm(8).requires_grad_(False)
    norm.weight.copy_(torch.rand(8))
    frames = torch.randn(1, 2, 8, 3, 3)
    reference = F.normalize(frames, dim=2) * 8**0.5 * norm.weight[:, None, None]
    torch.testing.assert_close(norm(frames * size), reference)
    assert not norm(torch.zeros(1, 2, 8, 3, 3)).any()


@pytest.mark.parametrize("ratio", [1, 2, 4])
def test_a_latent_frame_is_repeated_over_the_frames_that_it_covers(ratio):
    latents = torch.arange(1.0, 4).reshape(1, 3, 1, 1, 1)
    first = torch.zeros(1, 1 + 2 * ratio, 1, 2, 2)
    later = torch.zeros(1, 3 * ratio, 1, 2, 2)
    assert spread(latents, first, True)[0, :, 0, 1, 1].tolist() == [1] + [2] * ratio + [3] * ratio
    assert spread(latents, later, False)[0, :, 0, 0, 1].tolist() == [1] * ratio + [2] * ratio + [3] * ratio
    assert spread(latents[:, :1], first[:, :1], True).flatten().tolist() == [1] * 4


class FirstChunk:
    is_first_chunk, future = True, None


def test_resamplers_without_their_convolution_average_and_repeat():
    frames = torch.randn(1, 3, 8, 4, 4)
    down = InfinityStarDownsampler(8, 8, temporal_stride=1)
    torch.nn.init.zeros_(down.conv.weight), torch.nn.init.zeros_(down.conv.bias)
    expected_mean = F.avg_pool2d(frames.flatten(0, 1), 2).unflatten(0, (1, 3))
    torch.testing.assert_close(down(frames, FirstChunk()), expected_mean)
    up = InfinityStarUpsampler(8, 8, temporal_stride=1)
    torch.nn.init.zeros_(up.conv.weight), torch.nn.init.zeros_(up.conv.bias)
    repeated = F.interpolate(frames.flatten(0, 1), scale_factor=2.0).unflatten(0, (1, 3))
    assert torch.equal(up(frames, FirstChunk()), repeated)


# 6. Memory savers


def test_slicing_changes_nothing(model):
    video = make_video(batch_size=3)
    latents, sample = model.encode(video).latents, model(video).sample
    model.enable_slicing()
    torch.testing.assert_close(model.encode(video).latents, latents, **ROUNDING)
    torch.testing.assert_close(encode_in_chunks(model, video, [2, 3]), latents, **ROUNDING)
    torch.testing.assert_close(model.decode(latents).sample, sample, **ROUNDING)


def test_a_frame_that_fits_in_one_tile_is_not_changed_by_tiling(model):
    video = make_video()
    sample = model(video).sample
    model.enable_tiling(32, 48, 32, 32)
    assert torch.equal(model(video).sample, sample)


def test_tiling_is_exact_away_from_the_seams():
    # No layer has a statistic over space: a position depends on its surroundings only. Small networks, so that these end
    # inside a tile: tiles are columns 0:160 and 80:240 of 240, and 48 pixels away from an inner edge nothing sees it.
    model = make_small_model()
    video = make_video(num_frames=5, height=16, width=240)
    latents = model.encode(video).latents
    sample = model.decode(latents).sample
    model.enable_tiling(160, 160, 80, 80)
    tiled_latents, tiled_sample = model.encode(video).latents, model.decode(latents).sample
    for columns in (slice(0, 8), slice(-8, None)):
        torch.testing.assert_close(tiled_latents[..., columns], latents[..., columns], **ROUNDING)
    for columns in (slice(0, 32), slice(-32, None)):
        torch.testing.assert_close(tiled_sample[..., columns], sample[..., columns], **ROUNDING)
    assert not torch.equal(tiled_latents, latents)
    # At the seams a tile sees zeros instead of its neighbour, and the ramps weigh that down.
    assert (tiled_latents - latents).abs().mean() < 0.1 * latents.abs().mean()


def test_tiled_streams_equal_tiling_at_once(model):
    video, latents = make_video(batch_size=2, height=48, width=48), make_latents(height=3, width=3)
    model.enable_tiling(32, 32, 16, 16)
    torch.testing.assert_close(encode_in_chunks(model, video, [2, 3]), model.encode(video).latents, **ROUNDING)
    torch.testing.assert_close(decode_in_chunks(model, latents, [1, 4]), model.decode(latents).sample, **ROUNDING)


def test_gradient_checkpointing_gives_the_same_gradients(model):
    checkpointed = copy.deepcopy(model.requires_grad_(True)).train()
    checkpointed.enable_gradient_checkpointing()
    assert checkpointed.is_gradient_checkpointing
    for network in (model.train(), checkpointed):
        network(make_video(num_frames=13)).sample.square().mean().backward()
    for (name, plain), recomputed in zip(model.named_parameters(), checkpointed.parameters(), strict=True):
        if name != "latent_gain":  # multiplied and divided by, with no quantiser in between
            assert plain.grad.abs().max() > 0, name
        torch.testing.assert_close(recomputed.grad, plain.grad, msg=lambda text: f"{name}: {text}")


# 7. Files, precision, hooks


def test_a_saved_model_is_loaded_as_it_was(model, tmp_path):
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["_class_name"] == "AutoencoderInfinityStar"
    loaded = AutoencoderInfinityStar.from_pretrained(tmp_path).requires_grad_(False)
    assert torch.equal(loaded.decode(make_latents()).sample, model.decode(make_latents()).sample)


def test_half_precision_stays_close(model):
    latents = make_latents()
    expected_sample = model.decode(latents).sample
    model.to(torch.bfloat16)
    sample = model.decode(latents).sample
    assert sample.dtype == torch.bfloat16
    # Eight bits of mantissa in every layer.
    assert (sample.float() - expected_sample).abs().mean() < 0.05 * expected_sample.abs().mean()
    assert model.encode(make_video()).latents.dtype == torch.bfloat16


def test_float8_storage_keeps_the_result_close(model):
    model.to(torch.bfloat16)
    before = model.decode(make_latents()).sample
    model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.bfloat16)
    sample = model.decode(make_latents()).sample
    assert sample.dtype == torch.bfloat16
    # Three bits of mantissa in every weight.
    assert (sample - before).abs().mean() < 0.3 * before.abs().mean()


def test_every_entry_point_runs_the_offload_hook(model):
    calls = []

    class CountingHook(ModelHook):
        def pre_forward(self, module, *args, **kwargs):
            calls.append(module)
            return args, kwargs

    add_hook_to_module(model, CountingHook())
    video = make_video(num_frames=5)
    for call, argument in (
        (model.encode, video),
        (model.encode_chunk, video),
        (model.posterior_to_latents, make_latents()),
        (model.decode, make_latents()),
        (model.decode_chunk, make_latents()),
        (model.forward, video),
    ):
        calls.clear()
        call(argument)
        assert calls, call


def test_the_networks_compile_to_one_graph():
    # The `eager` backend traces like any other and needs no C++ compiler.
    model = make_small_model()
    latents, video = torch.randn(1, 8, 3, 2, 2), make_video(num_frames=3, height=8, width=8)
    decoder = torch.compile(model.decoder, fullgraph=True, backend="eager")
    first, state = decoder(latents[:, :, :2], None, True)
    second, _ = decoder(latents[:, :, 2:], state, False)
    torch.testing.assert_close(torch.cat([first, second], dim=2), model.decoder(latents)[0], **ROUNDING)
    encoder = torch.compile(model.encoder, fullgraph=True, backend="eager")
    torch.testing.assert_close(encoder(video)[0], model.encoder(video)[0], **ROUNDING)


# 8. Errors


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 6, 32, 32), r"4n \+ 1 frames, got 6. The nearest is 5"),
        ((1, 3, 0, 32, 32), r"4n \+ 1 frames, got 0. The nearest is 1"),
        ((1, 3, 5, 40, 32), "video height.*multiple of 16, got 40. The nearest is 32"),
        ((1, 3, 5, 32, 8), "video width.*multiple of 16, got 8. The nearest is 16"),
        ((1, 4, 5, 32, 32), r"batch, 3, frames, height, width\), got \(1, 4, 5, 32, 32\)"),
        ((3, 5, 32, 32), r"got \(3, 5, 32, 32\)"),
    ],
)
def test_a_video_that_cannot_be_encoded_is_refused(model, shape, message):
    for call in (model.encode, model.encode_chunk, model):
        with pytest.raises(ValueError, match=message):
            call(torch.zeros(shape))


def test_a_later_chunk_must_have_whole_latent_frames(model):
    state = model.encode_chunk(make_video(num_frames=5)).state
    with pytest.raises(ValueError, match="4n frames after the first chunk, got 5. The nearest is 4"):
        model.encode_chunk(make_video(num_frames=5), state)


def test_latents_of_another_model_are_refused(model):
    for call in (model.decode, model.decode_chunk, model.posterior_to_latents):
        with pytest.raises(ValueError, match=r"batch, 64, frames, height, width\), got \(1, 16, 5, 4, 4\)"):
            call(torch.zeros(1, 16, 5, 4, 4))


def test_a_state_of_another_stream_is_refused(model):
    state = model.decode_chunk(make_latents()).state
    with pytest.raises(ValueError, match=r"`state` is for chunks of .* \(1, 2, 3\) in 1 tile"):
        model.decode_chunk(make_latents(height=3), state)


@pytest.mark.parametrize("number", [1, 3])
def test_a_list_of_generators_of_another_length_is_refused(model, number):
    generators = [torch.Generator() for _ in range(number)]
    for call in (model.encode, model.encode_chunk, model):
        with pytest.raises(ValueError, match=f"`generator` is a list of {number} for a batch of 2"):
            call(make_video(batch_size=2, num_frames=1), generator=generators)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"tile_sample_min_height": 40}, "`tile_sample_min_height` must be a positive multiple of 16, got 40"),
        ({"tile_sample_min_width": 64, "tile_sample_stride_width": 128}, "Use at most 64"),
    ],
)
def test_tiles_that_cannot_cover_a_frame_are_refused(model, sizes, message):
    with pytest.raises(ValueError, match=message):
        model.enable_tiling(**sizes)
    assert not model.use_tiling


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latent_channels": 18}, "`latent_channels` must be a multiple of 4, got 18"),
        ({"temporal_downsample": (True,)}, "`temporal_downsample` needs .* 3 in all"),
        ({"block_out_channels": (4, 8, 12, 16)}, "`block_out_channels` has 12 after 8"),
        ({"block_out_channels": (4, 8, 16, 18)}, "`block_out_channels` has 18 after 16"),
    ],
)
def test_a_configuration_without_meaning_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        AutoencoderInfinityStar(**{"block_out_channels": (4, 8, 16, 16), **change})
