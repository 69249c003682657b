# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0

import copy
import json

import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module

from videoar_pipelines.models.autoencoder_videoar import AutoencoderVideoAR
from videoar_pipelines.models.causal_convolutions import VideoARCausalConv3d
from videoar_pipelines.models.quantization import bits_to_codes, flatten_bits
from videoar_pipelines.models.tiling import blend_weights, tile_spans


# The paper's family: Infinity's network with strides in time.
STRIDED = {
    "latent_channels": 8,
    "block_out_channels": (8, 16, 16),
    "layers_per_block": 1,
    "decoder_layers_per_block": 2,
    "temporal_kernel_sizes": (3, 3, 3, 3),
    "temporal_downsample": (True, True),
    "norm_num_groups": 4,
}
# The small shipped family: patches of space and time, no statistic over space, shortcuts around the resamplers.
PATCHED = {
    "latent_channels": 8,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "decoder_layers_per_block": 1,
    "temporal_kernel_sizes": (1, 1, 3),
    "temporal_downsample": (False,),
    "patch_size": 2,
    "temporal_patch_size": 4,
    "norm_type": "rms_norm",
    "resampling": "residual",
}
# Both ways to shorten time at once, kernels of different lengths, shortcuts over strides in time.
MIXED = {
    "latent_channels": 8,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "decoder_layers_per_block": 1,
    "temporal_kernel_sizes": (2, 3, 4),
    "temporal_downsample": (True,),
    "patch_size": 2,
    "temporal_patch_size": 2,
    "norm_type": "rms_norm",
    "resampling": "residual",
}
CONFIGS = {"strided": STRIDED, "patched": PATCHED, "mixed": MIXED}

# Chunks are other shapes for the same kernels, and these sum in another order: float32 rounding.
ROUNDING = {"atol": 1e-5, "rtol": 0}


def make_model(config: dict) -> AutoencoderVideoAR:
    torch.manual_seed(0)
    return AutoencoderVideoAR(**config).eval().requires_grad_(False)


def make_video(batch_size: int = 1, num_frames: int = 17, height: int = 16, width: int = 24) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(batch_size, 3, num_frames, height, width, generator=generator) * 2 - 1


def make_latents(num_frames: int = 5, height: int = 4, width: int = 6) -> torch.Tensor:
    bits = torch.rand(1, num_frames, height, width, 8, generator=torch.Generator().manual_seed(2)) < 0.5
    return bits_to_codes(bits).permute(0, 4, 1, 2, 3).contiguous()


def encode_in_chunks(model: AutoencoderVideoAR, video: torch.Tensor, chunk_lengths: list[int]) -> torch.Tensor:
    """`chunk_lengths` in latent frames."""
    latents, state, start = [], None, 0
    for length in chunk_lengths:
        end = start + 4 * length - (3 if start == 0 else 0)
        output = model.encode_chunk(video[:, :, start:end], state)
        latents.append(output.latents)
        state, start = output.state, end
    assert start == video.shape[2]
    return torch.cat(latents, dim=2)


def decode_in_chunks(model: AutoencoderVideoAR, latents: torch.Tensor, chunk_lengths: list[int]) -> torch.Tensor:
    samples, state = [], None
    for chunk in latents.split(chunk_lengths, dim=2):
        output = model.decode_chunk(chunk, state)
        samples.append(output.sample)
        state = output.state
    return torch.cat(samples, dim=2)


@pytest.fixture(params=CONFIGS)
def model(request):
    return make_model(CONFIGS[request.param])


# 1. Shapes


def test_every_style_compresses_space_and_time_by_four(model):
    assert (model.spatial_compression_ratio, model.temporal_compression_ratio) == (4, 4)
    latents = model.encode(make_video()).latents
    assert latents.shape == (1, 8, 5, 4, 6)
    assert model.decode(latents).sample.shape == (1, 3, 17, 16, 24)


def test_the_defaults_are_the_papers_tokenizer():
    with torch.device("meta"):
        model = AutoencoderVideoAR()
        latents = model.encoder(torch.empty(1, 3, 17, 32, 32))[0]
        sample = model.decoder(latents)[0]
    assert (model.spatial_compression_ratio, model.temporal_compression_ratio) == (16, 4)
    assert latents.shape == (1, 48, 5, 2, 2) and sample.shape == (1, 3, 17, 32, 32)


def test_outputs_are_also_given_as_tuples(model):
    video = make_video(num_frames=5)
    latents = model.encode(video).latents
    assert torch.equal(model.encode(video, return_dict=False)[0], latents)
    assert torch.equal(model.encode_chunk(video, return_dict=False)[0], latents)
    sample = model.decode(latents).sample
    assert torch.equal(model.decode(latents, return_dict=False)[0], sample)
    assert torch.equal(model.decode_chunk(latents, return_dict=False)[0], sample)
    assert torch.equal(model(video, return_dict=False)[0], model(video).sample)


# 2. Causality


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
    torch.testing.assert_close(
        model.encode(video[:, :, :1]).latents, model.encode(video).latents[:, :, :1], **ROUNDING
    )
    torch.testing.assert_close(
        model.decode(latents[:, :, :1]).sample, model.decode(latents).sample[:, :, :1], **ROUNDING
    )


def test_a_still_video_is_encoded_as_its_image(model):
    image = make_video(num_frames=1)
    still = image.expand(-1, -1, 9, -1, -1)
    expected = model.encode(image).latents.expand(-1, -1, 3, -1, -1)
    torch.testing.assert_close(model.encode(still).latents, expected, **ROUNDING)


# 3. Streams


@pytest.mark.parametrize("chunk_lengths", [[1, 1, 1, 1, 1], [2, 3], [1, 3, 1], [4, 1]])
def test_encoding_in_chunks_equals_encoding_at_once(model, chunk_lengths):
    video = make_video(batch_size=2)
    latents = encode_in_chunks(model, video, chunk_lengths)
    torch.testing.assert_close(latents, model.encode(video).latents, **ROUNDING)


@pytest.mark.parametrize("chunk_lengths", [[1, 1, 1, 1, 1], [2, 3], [1, 3, 1], [4, 1]])
def test_decoding_in_chunks_equals_decoding_at_once(model, chunk_lengths):
    latents = make_latents()
    sample = decode_in_chunks(model, latents, chunk_lengths)
    torch.testing.assert_close(sample, model.decode(latents).sample, **ROUNDING)


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


def test_two_streams_do_not_disturb_each_other(model):
    videos = make_video(), -make_video()
    states, latents = [None, None], [[], []]
    for start, end in ((0, 5), (5, 9), (9, 17)):
        for stream, video in enumerate(videos):
            output = model.encode_chunk(video[:, :, start:end], states[stream])
            states[stream] = output.state
            latents[stream].append(output.latents)
    for video, chunks in zip(videos, latents):
        torch.testing.assert_close(torch.cat(chunks, dim=2), model.encode(video).latents, **ROUNDING)


def test_the_state_does_not_grow_with_the_video(model):
    def stored_bytes(state):  # of the memory behind the tensors, which a view of a chunk would keep alive
        return sum(frames.untyped_storage().nbytes() for tile in state.tiles for frames in tile)

    short = model.decode_chunk(make_latents(1)).state
    long = model.decode_chunk(make_latents(5)).state
    longer = model.decode_chunk(make_latents(5), long).state
    assert stored_bytes(short) == stored_bytes(long) == stored_bytes(longer)
    short = model.encode_chunk(make_video(num_frames=5)).state
    long = model.encode_chunk(make_video(num_frames=17)).state
    assert stored_bytes(short) == stored_bytes(long)


def test_calls_leave_nothing_in_the_model(model):
    before = {name: dict(vars(module)) for name, module in model.named_modules()}
    model.decode_chunk(make_latents(2), model.decode_chunk(make_latents(2)).state)
    model(make_video())
    after = {name: dict(vars(module)) for name, module in model.named_modules()}
    for name in before:
        assert before[name].keys() == after[name].keys()
        assert all(before[name][key] is after[name][key] for key in before[name])


# 4. Layers


@pytest.mark.parametrize("kernel_size", [1, 2, 3])
def test_a_causal_convolution_is_a_3d_convolution_after_copies_of_the_first_frame(kernel_size):
    class FirstChunk:
        is_first_chunk, future = True, None

    torch.manual_seed(0)
    convolution = VideoARCausalConv3d(4, 6, kernel_size)
    hidden_states = torch.randn(2, 5, 4, 8, 8)
    padded = torch.cat([hidden_states[:, :1]] * (kernel_size - 1) + [hidden_states], dim=1).transpose(1, 2)
    expected = torch.nn.functional.conv3d(padded, convolution.weight, convolution.bias, padding=(0, 1, 1))
    output = convolution(hidden_states, FirstChunk())
    torch.testing.assert_close(output.transpose(1, 2), expected, **ROUNDING)


def test_resampling_shortcuts_have_no_parameters():
    plain, residual = make_model({**MIXED, "resampling": "conv"}), make_model(MIXED)
    assert plain.state_dict().keys() == residual.state_dict().keys()
    video = make_video()
    assert not torch.equal(plain.encode(video).latents, residual.encode(video).latents)


# 5. Bits


def test_bits_are_the_video(model):
    quantized = model.quantize(model.encode(make_video()).latents)
    assert torch.equal(model.bits_to_latents(quantized.bits), quantized.latents)
    output = model(make_video())
    assert torch.equal(flatten_bits(output.bits), flatten_bits(quantized.bits))
    assert torch.equal(output.sample, model.decode(quantized.latents).sample)


def test_fewer_scales_give_a_coarser_video(model):
    latents = model.encode(make_video()).latents
    schedule = ((1, 1), (2, 3), (4, 6))
    bits = model.quantize(latents, schedule).bits
    errors = [
        (model.bits_to_latents(bits[:scales], schedule) - latents).square().mean().item() for scales in (1, 2, 3)
    ]
    assert model.bits_to_latents(bits[:1], schedule).shape == latents.shape
    assert errors == sorted(errors, reverse=True)


def test_a_masked_scale_is_dropped_in_training(model):
    video, mask = make_video(), torch.tensor([[True, False, True]])
    schedule = ((1, 1), (2, 3), (4, 6))
    without = model(video, ((1, 1), (4, 6))).sample
    assert torch.equal(model(video, schedule, scale_mask=mask).sample, without)


# 6. Memory savers


def test_slicing_changes_nothing(model):
    video = make_video(batch_size=3)
    latents, sample = model.encode(video).latents, model(video).sample
    model.enable_slicing()
    torch.testing.assert_close(model.encode(video).latents, latents, **ROUNDING)
    torch.testing.assert_close(encode_in_chunks(model, video, [2, 3]), latents, **ROUNDING)
    torch.testing.assert_close(model.decode(model.quantize(latents).latents).sample, sample, **ROUNDING)


def test_tiles_cover_the_frame_and_weights_fall_linearly_over_the_overlap():
    assert tile_spans(10, 4, 3) == [(0, 4), (3, 7), (6, 10)]
    assert tile_spans(11, 4, 3) == [(0, 4), (3, 7), (6, 10), (7, 11)]
    assert tile_spans(3, 4, 3) == [(0, 3)]
    left, right = blend_weights([(0, 4), (2, 6)])
    torch.testing.assert_close(left, torch.tensor([1, 1, 2 / 3, 1 / 3]))
    torch.testing.assert_close(right, torch.tensor([1 / 3, 2 / 3, 1, 1]))


def test_tiling_is_exact_away_from_the_seams():
    # Without statistics over space a position depends on its surroundings only, here on 9 latent positions around it.
    # The tiles are columns 0:64 and 32:96 of 96: the outermost ones have one tile each and do not see its inner edge.
    model = make_model(PATCHED)
    video = make_video(num_frames=5, height=16, width=96)
    latents, sample = model.encode(video).latents, model(video).sample
    quantized = model.quantize(latents).latents
    model.enable_tiling(64, 64, 32, 32)
    tiled_latents, tiled_sample = model.encode(video).latents, model.decode(quantized).sample
    for columns in (slice(0, 4), slice(-4, None)):
        torch.testing.assert_close(tiled_latents[..., columns], latents[..., columns], **ROUNDING)
    for columns in (slice(0, 8), slice(-8, None)):
        torch.testing.assert_close(tiled_sample[..., columns], sample[..., columns], **ROUNDING)
    # At the seams a tile sees zeros instead of its neighbour, and the ramps weigh that down.
    assert (tiled_latents - latents).abs().mean() < 0.1 * latents.abs().mean()


def test_a_frame_that_fits_in_one_tile_is_not_changed_by_tiling(model):
    video = make_video()
    sample = model(video).sample
    model.enable_tiling(16, 24, 16, 16)
    assert torch.equal(model(video).sample, sample)


def test_tiled_streams_equal_tiling_at_once(model):
    video, latents = make_video(batch_size=2, height=24, width=24), make_latents(height=6, width=6)
    model.enable_tiling(16, 16, 8, 8)
    torch.testing.assert_close(encode_in_chunks(model, video, [2, 3]), model.encode(video).latents, **ROUNDING)
    torch.testing.assert_close(decode_in_chunks(model, latents, [1, 4]), model.decode(latents).sample, **ROUNDING)


def test_gradient_checkpointing_gives_the_same_gradients(model):
    checkpointed = copy.deepcopy(model.requires_grad_(True)).train()
    checkpointed.enable_gradient_checkpointing()
    assert checkpointed.is_gradient_checkpointing
    for network in (model.train(), checkpointed):
        network(make_video(num_frames=5)).sample.square().mean().backward()
    for plain, recomputed in zip(model.parameters(), checkpointed.parameters(), strict=True):
        torch.testing.assert_close(recomputed.grad, plain.grad)


# 7. Training


def test_the_reconstruction_trains_every_parameter(model):
    model.train().requires_grad_(True)
    output = model(make_video(num_frames=9))
    output.sample.square().mean().backward()  # reaches the encoder straight through the bits
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_losses_of_the_quantiser_train_the_encoder_alone(model):
    model.train().requires_grad_(True)
    output = model(make_video(num_frames=5))
    (output.commitment_loss + output.entropy_loss).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.encoder.parameters())
    assert all(parameter.grad is None for parameter in model.decoder.parameters())


def test_only_training_leaves_the_reconstruction_unclamped(model):
    model.decoder.conv_out.bias.fill_(5.0)
    assert model(make_video()).sample.max() == 1
    assert model.decode(make_latents()).sample.max() == 1
    assert model.train()(make_video()).sample.max() > 1


# 8. The library around it


def test_saving_and_loading_gives_the_same_model(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = AutoencoderVideoAR.from_pretrained(tmp_path)
    for name, value in model.config.items():
        if not name.startswith("_"):
            assert json.dumps(loaded.config[name]) == json.dumps(value), name
    assert torch.equal(loaded(make_video()).sample, model(make_video()).sample)


def test_saving_in_shards_and_variants_and_loading_in_another_dtype(model, tmp_path):
    model.to(torch.bfloat16).save_pretrained(tmp_path, variant="bf16", max_shard_size="20KB")
    index = json.loads((tmp_path / "diffusion_pytorch_model.safetensors.index.bf16.json").read_text())
    assert len(set(index["weight_map"].values())) > 1
    loaded = AutoencoderVideoAR.from_pretrained(tmp_path, variant="bf16", dtype=torch.bfloat16)
    for (name, saved), parameter in zip(model.state_dict().items(), loaded.state_dict().values(), strict=True):
        assert parameter.dtype == torch.bfloat16 and torch.equal(parameter, saved), name


def test_a_half_precision_model_takes_and_gives_float32_bits(model):
    model.to(torch.bfloat16)
    latents = model.encode(make_video()).latents
    quantized = model.quantize(latents.float()).latents
    assert latents.dtype == torch.bfloat16 and quantized.dtype == torch.float32
    sample = model.decode(quantized).sample
    assert sample.dtype == torch.bfloat16 and sample.isfinite().all()


def test_every_entry_point_runs_the_offload_hook(model):
    calls = []

    class CountingHook(ModelHook):
        def pre_forward(self, module, *args, **kwargs):
            calls.append(module)
            return args, kwargs

    add_hook_to_module(model, CountingHook())
    video = make_video(num_frames=5)
    latents = model.encode(video).latents
    quantized = model.quantize(latents)
    model.bits_to_latents(quantized.bits)
    model.decode(quantized.latents)
    model.decode_chunk(quantized.latents)
    model.encode_chunk(video)
    model(video)
    assert len(calls) == 7


def test_the_networks_compile_to_one_graph(model):
    # The `eager` backend traces like any other and needs no C++ compiler.
    latents = make_latents()
    decoder = torch.compile(model.decoder, fullgraph=True, backend="eager")
    first, state = decoder(latents[:, :, :2], None, True)
    second, _ = decoder(latents[:, :, 2:], state, False)
    torch.testing.assert_close(torch.cat([first, second], dim=2), model.decoder(latents)[0], **ROUNDING)
    encoder = torch.compile(model.encoder, fullgraph=True, backend="eager")
    torch.testing.assert_close(encoder(make_video())[0], model.encode(make_video()).latents, **ROUNDING)


def test_float8_storage_keeps_the_result_close(model):
    model.to(torch.bfloat16)
    expected = model.decode(make_latents()).sample
    model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.bfloat16)
    sample = model.decode(make_latents()).sample
    assert sample.dtype == torch.bfloat16
    # Three bits of mantissa in every weight.
    assert (sample - expected).abs().mean() < 0.2 * expected.abs().mean()


# 9. Errors


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 6, 16, 16), r"4n \+ 1 frames, got 6. The nearest is 5"),
        ((1, 3, 0, 16, 16), r"4n \+ 1 frames, got 0. The nearest is 1"),
        ((1, 3, 5, 18, 16), "video height.*multiple of 4, got 18. The nearest is 16"),
        ((1, 3, 5, 16, 2), "video width.*multiple of 4, got 2. The nearest is 4"),
        ((1, 4, 5, 16, 16), r"batch, 3, frames, height, width\), got \(1, 4, 5, 16, 16\)"),
        ((3, 5, 16, 16), r"got \(3, 5, 16, 16\)"),
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
    for call in (model.decode, model.decode_chunk, model.quantize):
        with pytest.raises(ValueError, match=r"batch, 8, frames, height, width\), got \(1, 6, 5, 4, 4\)"):
            call(torch.zeros(1, 6, 5, 4, 4))


def test_a_state_of_another_stream_is_refused(model):
    state = model.decode_chunk(make_latents()).state
    with pytest.raises(ValueError, match=r"`state` is for chunks of .* \(1, 4, 6\) in 1 tile"):
        model.decode_chunk(make_latents(height=6), state)
    model.enable_tiling(8, 8, 4, 4)
    with pytest.raises(ValueError, match=r"`state` is for chunks of .* in 1 tile"):
        model.decode_chunk(make_latents(), state)


def test_a_schedule_of_another_grid_is_refused(model):
    latents = make_latents()
    with pytest.raises(ValueError, match=r"`scale_schedule` ends in \(4, 4\)"):
        model.quantize(latents, ((1, 1), (4, 4)))
    bits = model.quantize(latents, ((1, 1), (4, 6))).bits
    with pytest.raises(ValueError, match="`bits` have the grids"):
        model.bits_to_latents(bits, ((2, 2), (4, 6)))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"tile_sample_min_height": 18}, "`tile_sample_min_height` must be a positive multiple of 4, got 18"),
        ({"tile_sample_min_width": 16, "tile_sample_stride_width": 32}, "Use at most 16"),
    ],
)
def test_tiles_that_cannot_cover_a_frame_are_refused(model, sizes, message):
    with pytest.raises(ValueError, match=message):
        model.enable_tiling(**sizes)
    assert not model.use_tiling


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temporal_kernel_sizes": (3, 3)}, "`temporal_kernel_sizes` needs .* 4 in all"),
        ({"temporal_downsample": (True,)}, "`temporal_downsample` needs .* 2 in all"),
        ({"temporal_kernel_sizes": (1, 3, 3, 3)}, r"`temporal_kernel_sizes\[0\]` is 1"),
        ({"norm_type": "batch_norm"}, "got 'batch_norm'"),
        ({"resampling": "bilinear"}, "got 'bilinear'"),
    ],
)
def test_a_configuration_without_meaning_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        AutoencoderVideoAR(**{**STRIDED, **change})
