# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
The tokenizer with its channels last, as on a GPU, against the tokenizer as on a CPU, and the convolution of repeated frames against
repeating them. Without a GPU the layout is asked for on a CPU, which computes the same.
"""

import pytest
import torch
import torch.nn.functional as F
from accelerate import cpu_offload

from videoar_pipelines import AutoencoderVideoAR
from videoar_pipelines.models import causal_convolutions
from videoar_pipelines.models.causal_convolutions import CausalStream, VideoARCausalConv3d, VideoARUpsampler


SHAPE = {"latent_channels": 8, "layers_per_block": 1, "decoder_layers_per_block": 1, "norm_num_groups": 4}
CONFIGS = {
    "group norm": {"block_out_channels": (8, 16, 16), "temporal_kernel_sizes": (3, 3, 2, 3)},
    "rms norm": {
        "block_out_channels": (8, 16, 16),
        "temporal_kernel_sizes": (2, 2, 1, 2),
        "patch_size": 2,
        "temporal_patch_size": 2,
        "norm_type": "rms_norm",
        "resampling": "residual",
    },
}

TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}  # norms are computed in float32 at some places


def make_vae(config, dtype=torch.float64):
    torch.manual_seed(0)
    vae = AutoencoderVideoAR(**SHAPE, temporal_downsample=(True, True), **CONFIGS[config])
    for name, parameter in vae.named_parameters():
        if parameter.ndim == 1:  # norms and biases
            parameter.data.uniform_(-0.5, 0.5).add_(1.0 if name.endswith("weight") else 0.0)
    return vae.to(dtype)


def make_video(dtype=torch.float64):
    return torch.rand(2, 3, 17, 16, 24, generator=torch.Generator().manual_seed(1)).to(dtype) * 2 - 1


def encode_and_decode(vae, video):
    latents = vae.encode(video).latents
    return latents, vae.decode(latents).sample


def in_chunks(vae, video, latents):
    """Features and frames from one latent frame at a time."""
    ratio = vae.temporal_compression_ratio
    features, frames, encoder_state, decoder_state = [], [], None, None
    for chunk in (video[:, :, :1], *video[:, :, 1:].split(ratio, dim=2)):
        part, encoder_state = vae.encode_chunk(chunk, encoder_state, return_dict=False)
        features.append(part)
    for chunk in latents.split(1, dim=2):
        part, decoder_state = vae.decode_chunk(chunk, decoder_state, return_dict=False)
        frames.append(part)
    return torch.cat(features, dim=2), torch.cat(frames, dim=2)


@pytest.fixture
def channels_last(monkeypatch):
    """A function that asks for the layout of a GPU, whose convolutions give back what they get; those of a CPU do not."""

    def keep(convolve, memory_format):
        return lambda *args, **kwargs: convolve(*args, **kwargs).contiguous(memory_format=memory_format)

    def ask():
        monkeypatch.setattr(causal_convolutions, "has_channels_last", lambda frames: True)
        monkeypatch.setattr(F, "conv3d", keep(F.conv3d, torch.channels_last_3d))
        monkeypatch.setattr(F, "conv_transpose2d", keep(F.conv_transpose2d, torch.channels_last))

    return ask


@pytest.mark.parametrize("config", CONFIGS)
def test_the_layout_changes_no_number_and_no_gradient(config, channels_last):
    vae, video = make_vae(config), make_video().requires_grad_()
    results = []
    for ask in (lambda: None, channels_last):
        ask()
        latents, frames = encode_and_decode(vae, video)
        gradients = torch.autograd.grad(frames.square().sum(), [video, *vae.parameters()])
        results.append(((latents, frames), gradients))
    (outputs, gradients), (expected, expected_gradients) = results
    torch.testing.assert_close(outputs, expected, **TOLERANCE)
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("config", CONFIGS)
@torch.no_grad()
def test_chunks_are_the_whole_with_channels_last(config, channels_last):
    channels_last()
    vae, video = make_vae(config), make_video()
    latents, frames = encode_and_decode(vae, video)
    torch.testing.assert_close(in_chunks(vae, video, latents), (latents, frames), **TOLERANCE)


@pytest.mark.parametrize("config", CONFIGS)
@torch.no_grad()
def test_between_two_convolutions_channels_stay_last(config, channels_last):
    channels_last()
    vae = make_vae(config)
    copied = []

    def note(module, inputs):
        if not inputs[0].transpose(1, 2).is_contiguous(memory_format=torch.channels_last_3d):
            copied.append(module)

    for module in vae.modules():
        if isinstance(module, VideoARCausalConv3d):
            module.register_forward_pre_hook(note)
    encode_and_decode(vae, make_video()[:1])
    assert copied == [vae.encoder.conv_in, vae.decoder.conv_in]  # what comes from outside


@pytest.mark.parametrize("is_last", [False, True])
@pytest.mark.parametrize(("kernel_size", "stride"), [(1, 1), (2, 1), (3, 1), (4, 1), (2, 2), (3, 2), (4, 2)])
@torch.no_grad()
def test_the_upsampler_convolves_repeated_frames(kernel_size, stride, is_last, channels_last):
    if is_last:
        channels_last()
    torch.manual_seed(0)
    upsampler = VideoARUpsampler(6, kernel_size, stride, residual=False).double()
    upsampler.conv.state_index = 0
    frames = torch.randn(2, 3, 6, 5, 4, dtype=torch.double)

    repeated = frames.repeat_interleave(stride, dim=1)[:, stride - 1 :]  # a video's first frame is there once
    repeated = F.interpolate(repeated.flatten(0, 1), scale_factor=2.0, mode="nearest").unflatten(0, repeated.shape[:2])
    convolution = VideoARCausalConv3d(6, 6, kernel_size).double()
    convolution.load_state_dict(upsampler.conv.state_dict())
    expected = convolution(repeated, CausalStream(None, 1, keep_state=False))

    outputs, past = [], None
    for chunk in frames.split([1, 2], dim=1):
        stream = CausalStream(past, 1, keep_state=True)
        outputs.append(upsampler(chunk, stream))
        past = stream.future
    torch.testing.assert_close(torch.cat(outputs, dim=1), expected)
    torch.testing.assert_close(upsampler(frames, CausalStream(None, 1, keep_state=False)), expected)


@pytest.mark.parametrize("is_last", [False, True])
@torch.no_grad()
def test_weights_may_be_elsewhere_until_their_layer_runs(is_last, channels_last):
    if is_last:
        channels_last()
    vae, video = make_vae("group norm", torch.float32), make_video(torch.float32)
    expected = encode_and_decode(vae, video)
    cpu_offload(vae, execution_device=torch.device("cpu"))
    assert next(vae.parameters()).is_meta
    assert all(map(torch.equal, encode_and_decode(vae, video), expected))


@pytest.mark.parametrize("arguments", [{}, {"device_map": "cpu"}, {"low_cpu_mem_usage": False}])
@torch.no_grad()
def test_a_loaded_tokenizer_has_what_is_not_saved(arguments, tmp_path, channels_last):
    channels_last()
    vae, latents = make_vae("group norm", torch.float32), torch.randn(1, 8, 2, 4, 4)
    vae.save_pretrained(tmp_path)
    loaded = AutoencoderVideoAR.from_pretrained(tmp_path, **arguments)
    assert torch.equal(loaded.decode(latents).sample, vae.decode(latents).sample)


@pytest.mark.parametrize("config", CONFIGS)
@torch.no_grad()
def test_compiled_parts_are_few_and_change_no_number(config, channels_last):
    channels_last()
    vae, video = make_vae(config, torch.float32), make_video(torch.float32)
    expected = encode_and_decode(vae, video)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    vae.compile_repeated_blocks(fullgraph=True, dynamic=True)
    stats = torch._dynamo.utils.counters["stats"]
    torch.testing.assert_close(encode_and_decode(vae, video), expected, rtol=1e-4, atol=1e-5)
    assert stats["unique_graphs"] <= 12
    torch.testing.assert_close(in_chunks(vae, video, expected[0]), expected, rtol=1e-4, atol=1e-5)
    num_graphs = stats["unique_graphs"]
    encode_and_decode(vae, torch.cat([video, video], dim=-1)[:, :, :9])  # other sizes
    assert stats["unique_graphs"] == num_graphs <= 32


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS)
def test_compiled_parts_change_no_gradient(config, channels_last):
    channels_last()
    vae, video = make_vae(config, torch.float32), make_video(torch.float32).requires_grad_()

    def gradients():
        latents, frames = encode_and_decode(vae, video)
        return torch.autograd.grad(latents.square().mean() + frames.square().mean(), [video, *vae.parameters()])

    expected = gradients()
    torch._dynamo.reset()
    vae.compile_repeated_blocks(fullgraph=True, dynamic=True)
    torch.testing.assert_close(gradients(), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("is_compiled", [False, True])
@torch.no_grad()
def test_a_gpu_gives_the_numbers_of_a_cpu(config, is_compiled):
    vae, video = make_vae(config), make_video()
    expected = encode_and_decode(vae, video)
    vae, video = vae.to("cuda", memory_format=torch.channels_last_3d), video.to("cuda")
    if is_compiled:
        vae.compile_repeated_blocks(fullgraph=True, dynamic=True)
    latents, frames = encode_and_decode(vae, video)
    torch.testing.assert_close((latents.cpu(), frames.cpu()), expected, **TOLERANCE)
    torch.testing.assert_close(in_chunks(vae, video, latents), (latents, frames), **TOLERANCE)
