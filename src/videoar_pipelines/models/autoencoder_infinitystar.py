# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
The video tokenizer of InfinityStar: a causal 3D convolutional encoder and decoder, without its quantiser.

The quantiser has no parameters and is in `quantization_infinitystar.py`. What is the same as in the tokenizer of
VideoAR, causal convolutions, streams, slices and tiles, is imported.

Letters used in shapes: `B` batch, `F` pixel frames, `T` latent frames, `(H, W)` pixels, `(H', W')` latent grid, `d`
channels of the latents (64). Inside the networks a tensor is `(B, T, C, H, W)` (frames before channels); there `T`, `H`
and `W` are those of the layer. The networks end and begin on a grid of twice `(H', W')` with a quarter of the channels;
its 2x2 squares are folded into the channels of one latent position.

Where this model differs from the reference on purpose:

- `encode` gives the mean of the posterior unless a generator is passed; the reference always draws. Numbers are drawn
  frame by frame, so that a stream draws what the whole clip does.
- Chunks are one frame and 8 (encoder) or one and 2 (decoder), then 8 or 2 each; the reference puts what remains of the
  division into its first chunk. Chunks of any length give the same, and two latent frames, for which the reference
  raises an error, can be decoded.
- It computes in the type of its weights. The reference decodes under bfloat16 autocast with float32 weights.
- The projections and gains of a second branch, which the reference does not read either, do not exist.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn as nn
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from diffusers.utils.torch_utils import randn_tensor

from ..hub.mixins import HubModelMixin
from .causal_autoencoder import AutoencoderVideoARState, CausalAutoencoderMixin
from .causal_convolutions import (
    CausalStream,
    VideoARCausalConv3d,
    number_causal_convolutions,
)


# 1. Moving squares and pairs of frames between space, time and channels


def space_to_depth(hidden_states: torch.Tensor) -> torch.Tensor:
    """`(B, T, C, 2h, 2w)` to `(B, T, 4C, h, w)`; the new channels are ordered row, column, old channel."""
    squares = hidden_states.unflatten(4, (-1, 2)).unflatten(3, (-1, 2))  # (B, T, C, h, row, w, column)
    return squares.permute(0, 1, 4, 6, 2, 3, 5).flatten(2, 4)


def depth_to_space(hidden_states: torch.Tensor, num_frames: int) -> torch.Tensor:
    """`(B, T, n * 4C, h, w)` to `(B, T * n, C, 2h, 2w)`; channels are ordered frame, row, column, new channel."""
    squares = hidden_states.unflatten(2, (num_frames, 2, 2, -1))  # (B, T, frame, row, column, C, h, w)
    squares = squares.permute(0, 1, 2, 5, 6, 3, 7, 4)  # (B, T, frame, C, h, row, w, column)
    return squares.flatten(6, 7).flatten(4, 5).flatten(1, 2)


def average_pairs(hidden_states: torch.Tensor, is_first_chunk: bool) -> torch.Tensor:
    """Means of two frames: `(B, 2n, C, H, W)` to `n`. In a first chunk `2n + 1` to `n + 1`, where the first one stays."""
    first, pairs = hidden_states[:, :0], hidden_states
    if is_first_chunk:
        first, pairs = hidden_states[:, :1], hidden_states[:, 1:]
    return torch.cat([first, pairs.unflatten(1, (-1, 2)).mean(dim=2)], dim=1) if pairs.shape[1] > 0 else first


def spread(condition: torch.Tensor, hidden_states: torch.Tensor, is_first_chunk: bool) -> torch.Tensor:
    """
    Brings `(B, T', C, H', W')` to the frames and the size of `hidden_states` by repetition. Every latent frame covers
    as many frames as the others; the first of a video covers one.
    """
    first = 1 if is_first_chunk else 0
    num_frames = hidden_states.shape[1]
    repeats = (num_frames - first) // max(condition.shape[1] - first, 1)
    if repeats > 1:
        condition = condition.repeat_interleave(repeats, dim=1)[:, -num_frames:]
    frames = F.interpolate(condition.flatten(0, 1), size=hidden_states.shape[-2:], mode="nearest")
    return frames.unflatten(0, hidden_states.shape[:2])


# 2. Layers


class InfinityStarRMSNorm(nn.Module):
    """
    Root-mean-square normalisation over the channels of every position by itself: channels of length one, times the
    square root of their number and a weight. The length is bounded below and not shifted, so small inputs count in full.
    """

    def __init__(self, num_channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_channels))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return unit_channels(hidden_states) * self.scale(hidden_states)

    def scale(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """What the unit channels are multiplied with, `(C, 1, 1)`."""
        return (self.weight * len(self.weight) ** 0.5).to(hidden_states.dtype)[:, None, None]


def unit_channels(hidden_states: torch.Tensor) -> torch.Tensor:
    """`(B, T, C, H, W)` divided by the length of the channels of every position, which is computed in float32."""
    length = torch.linalg.vector_norm(hidden_states, dim=2, keepdim=True, dtype=torch.float32)
    return hidden_states / length.clamp(min=1e-12).to(hidden_states.dtype)


class InfinityStarLatentNorm(InfinityStarRMSNorm):
    """
    A channel RMS norm of the decoder with a second scale, and a shift, that are read from the latents being decoded.

    Args:
        num_channels (`int`): Channels in and out.
        latent_channels (`int`): Channels of the latents.
    """

    def __init__(self, num_channels: int, latent_channels: int):
        super().__init__(num_channels)
        self.conv_scale = VideoARCausalConv3d(latent_channels, num_channels, 1, 1, spatial_padding=0)
        self.conv_shift = VideoARCausalConv3d(latent_channels, num_channels, 1, 1, spatial_padding=0)

    def forward(self, hidden_states: torch.Tensor, latents: torch.Tensor, stream: CausalStream) -> torch.Tensor:
        # Both are products of one position, so they come before the repetition, where there are fewer positions.
        scale = self.conv_scale(latents, stream) * self.scale(hidden_states)
        scale = spread(scale, hidden_states, stream.is_first_chunk)
        shift = spread(self.conv_shift(latents, stream), hidden_states, stream.is_first_chunk)
        return torch.addcmul(shift, unit_channels(hidden_states), scale)


class InfinityStarResnetBlock(nn.Module):
    """
    Args:
        channels (`int`): Channels in and out.
        latent_channels (`int`, *optional*): Channels of the latents that condition the norms; `None` in the encoder.
    """

    def __init__(self, channels: int, latent_channels: int | None = None):
        super().__init__()
        self.norm1 = make_norm(channels, latent_channels)
        self.conv1 = VideoARCausalConv3d(channels, channels, 3)
        self.norm2 = make_norm(channels, latent_channels)
        self.conv2 = VideoARCausalConv3d(channels, channels, 3)

    def forward(self, hidden_states: torch.Tensor, latents: torch.Tensor | None, stream: CausalStream) -> torch.Tensor:
        condition = () if latents is None else (latents, stream)
        residual = hidden_states
        hidden_states = self.conv1(F.silu(self.norm1(hidden_states, *condition)), stream)
        hidden_states = self.conv2(F.silu(self.norm2(hidden_states, *condition)), stream)
        return residual + hidden_states


def make_norm(num_channels: int, latent_channels: int | None) -> nn.Module:
    if latent_channels is None:
        return InfinityStarRMSNorm(num_channels)
    return InfinityStarLatentNorm(num_channels, latent_channels)


class InfinityStarDownsampler(nn.Module):
    """
    Halves height and width by folding 2x2 squares into the channels and, with `temporal_stride = 2`, takes `2n + 1`
    frames to `n + 1` (later chunks: `2n` to `n`) by averaging pairs. A shortcut without parameters does the same to the
    input, and averages the folded channels whose numbers differ by a multiple of `out_channels`.
    """

    def __init__(self, in_channels: int, out_channels: int, temporal_stride: int):
        super().__init__()
        self.out_channels = out_channels
        self.temporal_stride = temporal_stride
        self.norm = InfinityStarRMSNorm(in_channels)
        self.conv = VideoARCausalConv3d(in_channels, out_channels // 4, 3)

    def forward(self, hidden_states: torch.Tensor, stream: CausalStream) -> torch.Tensor:
        shortcut = space_to_depth(hidden_states).unflatten(2, (-1, self.out_channels)).mean(dim=2)
        hidden_states = self.conv(F.silu(self.norm(hidden_states)), stream)
        hidden_states = space_to_depth(hidden_states) + shortcut
        if self.temporal_stride == 2:
            hidden_states = average_pairs(hidden_states, stream.is_first_chunk)
        return hidden_states


class InfinityStarUpsampler(nn.Module):
    """
    Doubles height and width by unfolding channels and, with `temporal_stride = 2`, takes `n` frames to `2n - 1` (later
    chunks: `n` to `2n`). A shortcut without parameters repeats channels.
    """

    def __init__(self, in_channels: int, out_channels: int, temporal_stride: int):
        super().__init__()
        self.temporal_stride = temporal_stride
        self.norm = InfinityStarRMSNorm(in_channels)
        self.conv = VideoARCausalConv3d(in_channels, out_channels * 4 * temporal_stride, 3)

    def forward(self, hidden_states: torch.Tensor, stream: CausalStream) -> torch.Tensor:
        shortcut = hidden_states[:, :, None]  # (B, T, 1, C, H, W), for every group of C folded channels
        hidden_states = self.conv(F.silu(self.norm(hidden_states)), stream).unflatten(2, (-1, shortcut.shape[3]))
        hidden_states = depth_to_space((hidden_states + shortcut).flatten(2, 3), self.temporal_stride)
        if self.temporal_stride == 2 and stream.is_first_chunk:  # a video starts with one frame, the mean of its two
            first = hidden_states[:, :2].mean(dim=1, keepdim=True)
            hidden_states = torch.cat([first, hidden_states[:, 2:]], dim=1)
        return hidden_states


# 3. Blocks


class InfinityStarBlock(nn.Module):
    """
    Residual blocks of one width, then a resampler where there is one.

    Args:
        channels (`int`): Width of the residual blocks.
        num_layers (`int`): Number of residual blocks.
        latent_channels (`int`, *optional*): Channels of the latents that condition the norms; `None` in the encoder.
        downsampler ([`InfinityStarDownsampler`], *optional*): Ends a level of the encoder.
        upsampler ([`InfinityStarUpsampler`], *optional*): Ends a level of the decoder.
    """

    def __init__(
        self,
        channels: int,
        num_layers: int,
        latent_channels: int | None = None,
        downsampler: InfinityStarDownsampler | None = None,
        upsampler: InfinityStarUpsampler | None = None,
    ):
        super().__init__()
        self.resnets = nn.ModuleList(InfinityStarResnetBlock(channels, latent_channels) for _ in range(num_layers))
        self.downsamplers = nn.ModuleList([] if downsampler is None else [downsampler])
        self.upsamplers = nn.ModuleList([] if upsampler is None else [upsampler])
        self.gradient_checkpointing = False

    def forward(self, hidden_states: torch.Tensor, latents: torch.Tensor | None, stream: CausalStream) -> torch.Tensor:
        for resnet in self.resnets:
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                hidden_states = self._gradient_checkpointing_func(resnet, hidden_states, latents, stream)
            else:
                hidden_states = resnet(hidden_states, latents, stream)
        for resampler in (*self.downsamplers, *self.upsamplers):
            hidden_states = resampler(hidden_states, stream)
        return hidden_states


# 4. Networks


class InfinityStarEncoder3d(nn.Module):
    """Pixel frames to the moments of the posterior. The arguments are those of [`AutoencoderInfinityStar`]."""

    def __init__(
        self,
        in_channels: int,
        latent_channels: int,
        block_out_channels: Sequence[int],
        layers_per_block: int,
        temporal_downsample: Sequence[bool],
    ):
        super().__init__()
        mid_channels = block_out_channels[-1]

        # 1. Stem
        self.conv_in = VideoARCausalConv3d(in_channels, block_out_channels[0], 3)

        # 2. Levels, fine to coarse
        self.down_blocks = nn.ModuleList()
        for level, channels in enumerate(block_out_channels):
            downsampler = None
            if level < len(block_out_channels) - 1:
                temporal_stride = 2 if temporal_downsample[level] else 1
                downsampler = InfinityStarDownsampler(channels, block_out_channels[level + 1], temporal_stride)
            self.down_blocks.append(InfinityStarBlock(channels, layers_per_block, downsampler=downsampler))

        # 3. Middle
        self.mid_block = InfinityStarBlock(mid_channels, 2)

        # 4. Head: mean and logarithm of the variance, of a quarter of the channels on twice the grid
        self.conv_norm_out = InfinityStarRMSNorm(mid_channels)
        self.conv_out = VideoARCausalConv3d(mid_channels, 2 * latent_channels // 4, 3)

        self.num_states = number_causal_convolutions(self)

    def forward(
        self, sample: torch.Tensor, past: Sequence[torch.Tensor] | None = None, keep_state: bool = False
    ) -> tuple[torch.Tensor, list[torch.Tensor] | None]:
        """
        Args:
            sample (`torch.Tensor` of shape `(B, 3, F, H, W)`): Pixel frames.
            past (`Sequence[torch.Tensor]`, *optional*): What the chunk before returned; `None` starts a video.
            keep_state (`bool`, defaults to `False`): Whether to return the frames that the next chunk needs.

        Returns:
            `tuple`: Moments `(B, 2d, T, H', W')`, the `d` means first, and the frames for the next chunk or `None`.
        """
        stream = CausalStream(past, self.num_states, keep_state)

        # 1. Stem
        hidden_states = self.conv_in(sample.transpose(1, 2), stream)  # (B, T, C, H, W)

        # 2. Levels, fine to coarse
        for down_block in self.down_blocks:
            hidden_states = down_block(hidden_states, None, stream)

        # 3. Middle
        hidden_states = self.mid_block(hidden_states, None, stream)

        # 4. Head
        hidden_states = self.conv_out(F.silu(self.conv_norm_out(hidden_states)), stream)
        moments = F.pixel_unshuffle(hidden_states, 2)  # (B, T, 2d, H', W')
        return moments.transpose(1, 2).contiguous(), stream.future


class InfinityStarDecoder3d(nn.Module):
    """Projected latents to pixel frames. The arguments are those of [`AutoencoderInfinityStar`]."""

    def __init__(
        self,
        latent_channels: int,
        out_channels: int,
        block_out_channels: Sequence[int],
        layers_per_block: int,
        temporal_downsample: Sequence[bool],
    ):
        super().__init__()
        channels = block_out_channels[-1]
        unfolded_channels = latent_channels // 4

        # 1. Stem
        self.conv_in = VideoARCausalConv3d(unfolded_channels, channels, 3)

        # 2. Middle
        self.mid_block = InfinityStarBlock(channels, 2, unfolded_channels)

        # 3. Levels, coarse to fine; the first has no upsampler, and the finest width has no level of its own
        self.up_blocks = nn.ModuleList([InfinityStarBlock(channels, layers_per_block, unfolded_channels)])
        for level in reversed(range(len(block_out_channels) - 1)):
            temporal_stride = 2 if temporal_downsample[level] else 1
            upsampler = InfinityStarUpsampler(channels, block_out_channels[level], temporal_stride)
            self.up_blocks.append(
                InfinityStarBlock(channels, layers_per_block, unfolded_channels, upsampler=upsampler)
            )
            channels = block_out_channels[level]

        # 4. Head
        self.conv_norm_out = InfinityStarLatentNorm(channels, unfolded_channels)
        self.conv_out = VideoARCausalConv3d(channels, out_channels, 3)

        self.num_states = number_causal_convolutions(self)

    def forward(
        self, latents: torch.Tensor, past: Sequence[torch.Tensor] | None = None, keep_state: bool = False
    ) -> tuple[torch.Tensor, list[torch.Tensor] | None]:
        """
        Args:
            latents (`torch.Tensor` of shape `(B, d, T, H', W')`): Latents after their projection.
            past (`Sequence[torch.Tensor]`, *optional*): What the chunk before returned; `None` starts a video.
            keep_state (`bool`, defaults to `False`): Whether to return the frames that the next chunk needs.

        Returns:
            `tuple`: Pixel frames `(B, 3, F, H, W)`, not clamped, and the frames for the next chunk or `None`.
        """
        stream = CausalStream(past, self.num_states, keep_state)

        # 1. Stem
        latents = F.pixel_shuffle(latents.transpose(1, 2), 2)  # (B, T, d / 4, 2H', 2W')
        hidden_states = self.conv_in(latents, stream)

        # 2. Middle
        hidden_states = self.mid_block(hidden_states, latents, stream)

        # 3. Levels, coarse to fine
        for up_block in self.up_blocks:
            hidden_states = up_block(hidden_states, latents, stream)

        # 4. Head
        hidden_states = F.silu(self.conv_norm_out(hidden_states, latents, stream))
        frames = self.conv_out(hidden_states, stream)  # (B, F, 3, H, W)
        return frames.transpose(1, 2).contiguous(), stream.future


def run_in_chunks(
    network: InfinityStarEncoder3d | InfinityStarDecoder3d,
    chunk_length: int,
    inputs: torch.Tensor,
    past: Sequence[torch.Tensor] | None,
    keep_state: bool,
) -> tuple[torch.Tensor, list[torch.Tensor] | None]:
    """
    Runs a network on `chunk_length` frames of `(B, C, T, H, W)` at a time, one more at the beginning of a video, and hands
    the state on from chunk to chunk. The result is that of one pass, but no activation is longer than a chunk.
    """
    outputs, start, num_frames = [], 0, inputs.shape[2]
    while start < num_frames:
        end = min(num_frames, start + chunk_length + (1 if past is None else 0))
        output, past = network(inputs[:, :, start:end], past, keep_state or end < num_frames)
        outputs.append(output)
        start = end
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2), past


# 5. The model


@dataclass
class AutoencoderInfinityStarEncoderOutput(BaseOutput):
    """
    Args:
        latents (`torch.Tensor` of shape `(B, d, T, H', W')`): Features before quantisation, projected and scaled.
        latent_dist (`DiagonalGaussianDistribution`):
            The posterior that they are the mean or a sample of, before the projection; of the same shape.
        state ([`AutoencoderVideoARState`], *optional*): For the next chunk; only `encode_chunk` gives it.
    """

    latents: torch.Tensor
    latent_dist: DiagonalGaussianDistribution
    state: AutoencoderVideoARState | None = None


@dataclass
class AutoencoderInfinityStarDecoderOutput(BaseOutput):
    """
    Args:
        sample (`torch.Tensor` of shape `(B, 3, F, H, W)`): Pixel frames in `[-1, 1]`.
        state ([`AutoencoderVideoARState`]): For the next chunk.
    """

    sample: torch.Tensor
    state: AutoencoderVideoARState


class AutoencoderInfinityStar(HubModelMixin, ModelMixin, CausalAutoencoderMixin, ConfigMixin):
    r"""
    The causal video tokenizer of InfinityStar, for images and videos alike: an image is a video of one frame. The
    defaults are those of the published weights. A latent covers 16x16 pixels and 4 frames; how latents are written as
    bits is in `quantization_infinitystar.py`.

    This model inherits from [`ModelMixin`]. Check the superclass documentation for its generic methods.

    Args:
        in_channels (`int`, defaults to 3): Channels of a pixel frame.
        out_channels (`int`, defaults to 3): Channels of a decoded pixel frame.
        latent_channels (`int`, defaults to 64): `d`, a multiple of 4: the networks work on a quarter of them.
        block_out_channels (`tuple[int, ...]`, defaults to `(96, 192, 384, 384)`):
            Width at every resolution, fine to coarse, each half of the one before. The coarsest is folded once more, so
            the spatial compression is `2 ** len(block_out_channels)`.
        layers_per_block (`int`, defaults to 2): Residual blocks of an encoder level.
        decoder_layers_per_block (`int`, defaults to 3): Residual blocks of a decoder level.
        temporal_downsample (`tuple[bool, ...]`, defaults to `(True, True, False)`):
            For every width but the last, whether its downsampler also halves the frame rate; the decoder mirrors it.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ["InfinityStarResnetBlock", "InfinityStarDownsampler", "InfinityStarUpsampler"]
    _skip_layerwise_casting_patterns = ["norm"]
    _group_offload_block_modules = ["encoder", "decoder"]

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        latent_channels: int = 64,
        block_out_channels: tuple[int, ...] = (96, 192, 384, 384),
        layers_per_block: int = 2,
        decoder_layers_per_block: int = 3,
        temporal_downsample: tuple[bool, ...] = (True, True, False),
    ):
        super().__init__()
        check_config(latent_channels, block_out_channels, temporal_downsample)
        self.encoder = InfinityStarEncoder3d(
            in_channels, latent_channels, block_out_channels, layers_per_block, temporal_downsample
        )
        self.quant_proj = nn.Linear(latent_channels, latent_channels)
        self.latent_gain = nn.Parameter(torch.ones(1))
        self.post_quant_proj = nn.Linear(latent_channels, latent_channels)
        self.decoder = InfinityStarDecoder3d(
            latent_channels, out_channels, block_out_channels, decoder_layers_per_block, temporal_downsample
        )

        self.spatial_compression_ratio = 2 ** len(block_out_channels)
        self.temporal_compression_ratio = 2 ** sum(temporal_downsample)

        # Frames that a network works on at a time; `encode` and `decode` cut longer clips. Other lengths give the same.
        self.num_sample_frames_batch_size = 2 * self.temporal_compression_ratio
        self.num_latent_frames_batch_size = 2

    # Encoding

    @apply_forward_hook
    def encode(
        self,
        video: torch.Tensor,
        generator: torch.Generator | list[torch.Generator] | None = None,
        return_dict: bool = True,
    ) -> AutoencoderInfinityStarEncoderOutput | tuple[torch.Tensor]:
        """
        Args:
            video (`torch.Tensor` of shape `(B, 3, F, H, W)`):
                Pixel frames in `[-1, 1]`. `F` is a multiple of the temporal compression ratio plus one; `H` and `W`
                are multiples of the spatial one.
            generator (`torch.Generator` or `list[torch.Generator]`, *optional*):
                Draws the latents from the posterior, as the transformer saw them in training; a list has one generator
                for each sample. Without one the latents are the mean of the posterior.
            return_dict (`bool`, defaults to `True`): Whether to return an output object instead of a tuple.

        Returns:
            [`AutoencoderInfinityStarEncoderOutput`] or `tuple`: `.latents` are the features before quantisation.
        """
        self._check_video(video, is_first_chunk=True)
        self._check_generator(generator, video.shape[0])
        latents, latent_dist, _ = self._encode(video, generator, state=None, keep_state=False)
        if not return_dict:
            return (latents,)
        return AutoencoderInfinityStarEncoderOutput(latents=latents, latent_dist=latent_dist)

    @apply_forward_hook
    def encode_chunk(
        self,
        video: torch.Tensor,
        state: AutoencoderVideoARState | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        return_dict: bool = True,
    ) -> AutoencoderInfinityStarEncoderOutput | tuple[torch.Tensor, AutoencoderVideoARState]:
        """
        Encodes the next frames of a video. The latents of all chunks, concatenated, are those of [`~encode`], drawn
        ones too.

        Args:
            video (`torch.Tensor` of shape `(B, 3, F, H, W)`):
                Pixel frames in `[-1, 1]`. `F` is a multiple of the temporal compression ratio, plus one in the first
                chunk.
            state ([`AutoencoderVideoARState`], *optional*): What the chunk before returned; `None` starts a video.
            generator (`torch.Generator` or `list[torch.Generator]`, *optional*): See [`~encode`].
            return_dict (`bool`, defaults to `True`): Whether to return an output object instead of a tuple.

        Returns:
            [`AutoencoderInfinityStarEncoderOutput`] or `tuple`: `.latents` of these frames and the new `.state`.
        """
        self._check_video(video, is_first_chunk=state is None)
        self._check_generator(generator, video.shape[0])
        latents, latent_dist, state = self._encode(video, generator, state, keep_state=True)
        if not return_dict:
            return (latents, state)
        return AutoencoderInfinityStarEncoderOutput(latents=latents, latent_dist=latent_dist, state=state)

    def _encode(
        self,
        video: torch.Tensor,
        generator: torch.Generator | list[torch.Generator] | None,
        state: AutoencoderVideoARState | None,
        keep_state: bool,
    ) -> tuple[torch.Tensor, DiagonalGaussianDistribution, AutoencoderVideoARState | None]:
        latent_size = [side // self.spatial_compression_ratio for side in video.shape[-2:]]
        input_scale, output_scale = self.spatial_compression_ratio, 1
        encoder = partial(run_in_chunks, self.encoder, self.num_sample_frames_batch_size)
        moments, state = self._run(
            encoder, video.to(self.dtype), latent_size, input_scale, output_scale, state, keep_state
        )
        latent_dist = DiagonalGaussianDistribution(moments)
        z = latent_dist.mean
        if generator is not None:
            # Frame by frame, so that a video draws the same numbers in chunks as at once.
            frame_shape = (*z.shape[:2], 1, *z.shape[3:])
            noise = [randn_tensor(frame_shape, generator, z.device, z.dtype) for _ in range(z.shape[2])]
            z = z + latent_dist.std * torch.cat(noise, dim=2)
        return self.posterior_to_latents(z), latent_dist, state

    @apply_forward_hook
    def posterior_to_latents(self, z: torch.Tensor) -> torch.Tensor:
        """The features before quantisation of a mean or sample `(B, d, T, H', W')` of the posterior; the same shape."""
        self._check_latents(z)
        return self.quant_proj(z.movedim(1, -1)).movedim(-1, 1) * self.latent_gain

    # Decoding

    @apply_forward_hook
    def decode(self, latents: torch.Tensor, return_dict: bool = True) -> DecoderOutput | tuple[torch.Tensor]:
        """
        Args:
            latents (`torch.Tensor` of shape `(B, d, T, H', W')`): Sums of codes.
            return_dict (`bool`, defaults to `True`): Whether to return an output object instead of a tuple.

        Returns:
            `DecoderOutput` or `tuple`: `.sample` are pixel frames `(B, 3, F, H, W)` in `[-1, 1]`, where `F` is `T - 1`
            times the temporal compression ratio, plus one.
        """
        self._check_latents(latents)
        sample, _ = self._decode(latents, state=None, keep_state=False)
        if not return_dict:
            return (sample,)
        return DecoderOutput(sample=sample)

    @apply_forward_hook
    def decode_chunk(
        self, latents: torch.Tensor, state: AutoencoderVideoARState | None = None, return_dict: bool = True
    ) -> AutoencoderInfinityStarDecoderOutput | tuple[torch.Tensor, AutoencoderVideoARState]:
        """
        Decodes the next latent frames of a video. The frames of all chunks, concatenated, are those of [`~decode`].

        Args:
            latents (`torch.Tensor` of shape `(B, d, T, H', W')`): Sums of codes, any `T`.
            state ([`AutoencoderVideoARState`], *optional*): What the chunk before returned; `None` starts a video.
            return_dict (`bool`, defaults to `True`): Whether to return an output object instead of a tuple.

        Returns:
            [`AutoencoderInfinityStarDecoderOutput`] or `tuple`: `.sample` of these latent frames, in `[-1, 1]`, and the new
            `.state`.
        """
        self._check_latents(latents)
        sample, state = self._decode(latents, state, keep_state=True)
        if not return_dict:
            return (sample, state)
        return AutoencoderInfinityStarDecoderOutput(sample=sample, state=state)

    def _decode(
        self, latents: torch.Tensor, state: AutoencoderVideoARState | None, keep_state: bool
    ) -> tuple[torch.Tensor, AutoencoderVideoARState | None]:
        z = latents.to(self.dtype) / self.latent_gain
        z = self.post_quant_proj(z.movedim(1, -1)).movedim(-1, 1)
        latent_size = list(latents.shape[-2:])
        input_scale, output_scale = 1, self.spatial_compression_ratio
        decoder = partial(run_in_chunks, self.decoder, self.num_latent_frames_batch_size)
        sample, state = self._run(decoder, z, latent_size, input_scale, output_scale, state, keep_state)
        return sample.clamp(-1, 1), state

    # Both ways

    def forward(
        self,
        sample: torch.Tensor,
        generator: torch.Generator | list[torch.Generator] | None = None,
        return_dict: bool = True,
    ) -> DecoderOutput | tuple[torch.Tensor]:
        """
        Encodes and decodes, without the quantiser in between.

        Args:
            sample (`torch.Tensor` of shape `(B, 3, F, H, W)`): Pixel frames in `[-1, 1]`, as [`~encode`] takes them.
            generator (`torch.Generator` or `list[torch.Generator]`, *optional*): See [`~encode`].
            return_dict (`bool`, defaults to `True`): Whether to return an output object instead of a tuple.

        Returns:
            `DecoderOutput` or `tuple`: `.sample` is the reconstruction, in `[-1, 1]`.
        """
        latents = self.encode(sample, generator).latents
        return self.decode(latents, return_dict=return_dict)

    # Checks

    def _check_generator(self, generator: torch.Generator | list[torch.Generator] | None, batch_size: int) -> None:
        if isinstance(generator, list) and len(generator) != batch_size:
            raise ValueError(
                f"`generator` is a list of {len(generator)} for a batch of {batch_size}. Pass one generator for each "
                "sample, or a single one."
            )


def check_config(latent_channels: int, block_out_channels: Sequence[int], temporal_downsample: Sequence[bool]) -> None:
    """Raises `ValueError` for widths that cannot be folded or a list of another length."""
    if latent_channels % 4 != 0:
        raise ValueError(f"`latent_channels` must be a multiple of 4, got {latent_channels}.")
    if len(temporal_downsample) != len(block_out_channels) - 1:
        raise ValueError(
            f"`temporal_downsample` needs one entry per width of `block_out_channels` but the last, "
            f"{len(block_out_channels) - 1} in all, got {temporal_downsample}."
        )
    for level, (fine, coarse) in enumerate(zip(block_out_channels, block_out_channels[1:])):
        unfolded = fine * 4 * (2 if temporal_downsample[level] else 1)
        if coarse % 4 != 0 or fine * 4 % coarse != 0 or unfolded % coarse != 0:
            raise ValueError(
                f"`block_out_channels` has {coarse} after {fine}: a width must be a multiple of 4 that divides four "
                "times the one before it, because the shortcuts fold squares into channels."
            )
