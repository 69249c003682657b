# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
The tokenizer of VideoAR: a causal 3D convolutional encoder and decoder around the multi-scale bitwise quantiser.

Nothing in it looks ahead in time. A clip can therefore be encoded and decoded chunk by chunk, at any length, with the
result of one pass: every causal convolution keeps the few input frames that its next window needs, and these leave and
enter the model as an explicit state object.

Letters used in shapes: `B` batch, `F` pixel frames, `T` latent frames, `(H, W)` pixels, `(H', W')` latent grid, `d`
bits of a token. Inside the networks a tensor is `(B, T, C, H, W)` (frames before channels) so that every per-frame
operation is a 2D one on `(B * T, C, H, W)`; there `T`, `H` and `W` are those of the layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import AutoencoderMixin, DecoderOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput
from diffusers.utils.accelerate_utils import apply_forward_hook

from .quantization import (
    MultiScaleBitwiseQuantizer,
    QuantizerOutput,
    ScaleSchedule,
    check_scale_schedule,
    default_scale_schedule,
    maps_to_latents,
)


# 1. What goes in and out


@dataclass
class AutoencoderVideoARState:
    """
    What one network, encoder or decoder, must remember between two chunks of a video. It is never changed: every chunk
    gives a new one, so a stream can be continued twice from the same point.

    Args:
        chunk_shape (`tuple[int, int, int]`): Batch size, height and width of the chunks of this stream.
        tiles (`tuple[tuple[torch.Tensor, ...], ...]`):
            For every spatial tile (one without tiling), for every convolution that sees more than one frame, the input
            frames `(B, n, C, h, w)` that its next window needs.
    """

    chunk_shape: tuple[int, int, int]
    tiles: tuple[tuple[torch.Tensor, ...], ...]


@dataclass
class AutoencoderVideoAREncoderOutput(BaseOutput):
    """
    Args:
        latents (`torch.Tensor` of shape `(B, d, T, H', W')`): Features before quantisation.
        state ([`AutoencoderVideoARState`], *optional*): For the next chunk; only `encode_chunk` gives it.
    """

    latents: torch.Tensor
    state: AutoencoderVideoARState | None = None


@dataclass
class AutoencoderVideoARDecoderOutput(BaseOutput):
    """
    Args:
        sample (`torch.Tensor` of shape `(B, 3, F, H, W)`): Pixel frames in `[-1, 1]`.
        state ([`AutoencoderVideoARState`]): For the next chunk.
    """

    sample: torch.Tensor
    state: AutoencoderVideoARState


@dataclass
class AutoencoderVideoAROutput(BaseOutput):
    """
    Args:
        sample (`torch.Tensor` of shape `(B, 3, F, H, W)`):
            Reconstruction; in `[-1, 1]`, except in training mode, where it is not clamped.
        latents (`torch.Tensor` of shape `(B, d, T, H', W')`): Features before quantisation.
        bits (`list[torch.Tensor]`): For every scale, boolean bits `(B, T, h_k, w_k, d)`.
        commitment_loss (`torch.Tensor`, *optional*): Scalar, training mode only, see [`QuantizerOutput`].
        entropy_loss (`torch.Tensor`, *optional*): Scalar, training mode only, see [`QuantizerOutput`].
    """

    # Defaults let accelerate rebuild the output from a dictionary when it casts a mixed-precision forward to float32.
    sample: torch.Tensor
    latents: torch.Tensor | None = None
    bits: list[torch.Tensor] | None = None
    commitment_loss: torch.Tensor | None = None
    entropy_loss: torch.Tensor | None = None


# 2. Layers


class CausalStream:
    """
    Hands every causal convolution of one network the frames that the chunk before left for it, and collects what this
    chunk leaves for the next. Lives for one call of the network.

    Args:
        past (`Sequence[torch.Tensor]`, *optional*): What the chunk before left; `None` for the first chunk of a video.
        num_states (`int`): Number of convolutions that leave something.
        keep_state (`bool`): Whether another chunk follows.
    """

    def __init__(self, past: Sequence[torch.Tensor] | None, num_states: int, keep_state: bool):
        self.past = past
        self.future = [None] * num_states if keep_state else None

    @property
    def is_first_chunk(self) -> bool:
        return self.past is None


class VideoARCausalConv3d(nn.Conv3d):
    """
    A convolution that is causal in time. Its weight is always `(out, in, kernel_t, kernel_h, kernel_w)`.

    A video starts with `kernel_t - 1` copies of the first input frame, so a still video is seen as the same frame all
    along. The frames of a window become channels of one 2D convolution. It computes what a 3D one would, needs no
    other memory layout than the per-frame operations around it, and is faster on a CPU, twice for `kernel_t = 1`.

    Args:
        in_channels (`int`): Channels in.
        out_channels (`int`): Channels out.
        temporal_kernel_size (`int`): Frames of a window; its last frame is the current one.
        spatial_kernel_size (`int`, defaults to 3): Height and width of the kernel.
        temporal_stride (`int`, defaults to 1): Output `i` is that of input frame `i * temporal_stride`.
        spatial_stride (`int`, defaults to 1): Stride over height and width.
        spatial_padding (`int`, defaults to 1): Zeros on every side of a frame.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        temporal_kernel_size: int,
        spatial_kernel_size: int = 3,
        temporal_stride: int = 1,
        spatial_stride: int = 1,
        spatial_padding: int = 1,
    ):
        super().__init__(
            in_channels,
            out_channels,
            kernel_size=(temporal_kernel_size, spatial_kernel_size, spatial_kernel_size),
            stride=(temporal_stride, spatial_stride, spatial_stride),
            padding=(0, spatial_padding, spatial_padding),
        )
        self.state_index = None  # set by `number_causal_convolutions`

    def forward(self, hidden_states: torch.Tensor, stream: CausalStream) -> torch.Tensor:
        batch_size = hidden_states.shape[0]
        kernel_size, stride = self.kernel_size[0], self.stride[0]
        if kernel_size > 1:
            if stream.is_first_chunk:
                past = hidden_states[:, :1].expand(-1, kernel_size - 1, -1, -1, -1)
            else:
                past = stream.past[self.state_index]
            hidden_states = torch.cat([past, hidden_states], dim=1)
            if stream.future is not None:
                next_window = (hidden_states.shape[1] - kernel_size) // stride * stride + stride
                stream.future[self.state_index] = hidden_states[:, next_window:].clone()
            windows = hidden_states.unfold(1, kernel_size, stride)  # (B, T, C, H, W, kernel)
            hidden_states = windows.permute(0, 1, 2, 5, 3, 4).flatten(2, 3)  # (B, T, C * kernel, H, W)
        frames = hidden_states.flatten(0, 1)  # (B * T, C * kernel, H, W)
        frames = F.conv2d(
            frames, self.weight.flatten(1, 2), self.bias, stride=self.stride[1:], padding=self.padding[1:]
        )
        return frames.unflatten(0, (batch_size, -1))


def number_causal_convolutions(network: nn.Module) -> int:
    """Gives every convolution that needs earlier frames its place in the state, and returns their number."""
    convolutions = [
        module for module in network.modules() if isinstance(module, VideoARCausalConv3d) and module.kernel_size[0] > 1
    ]
    for state_index, convolution in enumerate(convolutions):
        convolution.state_index = state_index
    return len(convolutions)


class VideoARFrameGroupNorm(nn.GroupNorm):
    """Group normalisation of every frame by itself; statistics over time would look ahead."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return super().forward(hidden_states.flatten(0, 1)).unflatten(0, hidden_states.shape[:2])


class VideoARChannelRMSNorm(nn.Module):
    """
    Root-mean-square normalisation over the channels of every position by itself. Without any statistic over space, a
    crop of a frame is processed like the frame, borders apart.
    """

    def __init__(self, num_channels: int, eps: float):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(num_channels))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        mean_square = hidden_states.to(torch.float32).square().mean(dim=2, keepdim=True)
        inverse_rms = torch.rsqrt(mean_square + self.eps).to(hidden_states.dtype)
        return hidden_states * inverse_rms * self.weight.to(hidden_states.dtype)[:, None, None]


def make_norm(norm_type: str, num_channels: int, norm_num_groups: int) -> nn.Module:
    """The normalisation layer of a `norm_type`, `"group_norm"` or `"rms_norm"`."""
    if norm_type == "group_norm":
        return VideoARFrameGroupNorm(norm_num_groups, num_channels, eps=1e-6)
    return VideoARChannelRMSNorm(num_channels, eps=1e-6)


class VideoARResnetBlock(nn.Module):
    def __init__(
        self, in_channels: int, out_channels: int, temporal_kernel_size: int, norm_type: str, norm_num_groups: int
    ):
        super().__init__()
        self.norm1 = make_norm(norm_type, in_channels, norm_num_groups)
        self.conv1 = VideoARCausalConv3d(in_channels, out_channels, temporal_kernel_size)
        self.norm2 = make_norm(norm_type, out_channels, norm_num_groups)
        self.conv2 = VideoARCausalConv3d(out_channels, out_channels, temporal_kernel_size)
        self.conv_shortcut = None
        if in_channels != out_channels:
            self.conv_shortcut = VideoARCausalConv3d(
                in_channels, out_channels, temporal_kernel_size=1, spatial_kernel_size=1, spatial_padding=0
            )

    def forward(self, hidden_states: torch.Tensor, stream: CausalStream) -> torch.Tensor:
        residual = hidden_states
        hidden_states = self.conv1(F.silu(self.norm1(hidden_states)), stream)
        hidden_states = self.conv2(F.silu(self.norm2(hidden_states)), stream)
        if self.conv_shortcut is not None:
            residual = self.conv_shortcut(residual, stream)
        return residual + hidden_states


class VideoARDownsampler(nn.Module):
    """
    Halves height and width and, with `temporal_stride = 2`, takes `2n + 1` frames to `n + 1` (later chunks: `2n` to
    `n`).

    With `residual`, a shortcut without parameters adds the mean of what an output position covers.
    """

    def __init__(self, channels: int, temporal_kernel_size: int, temporal_stride: int, residual: bool):
        super().__init__()
        self.residual = residual
        self.temporal_stride = temporal_stride
        self.conv = VideoARCausalConv3d(
            channels,
            channels,
            temporal_kernel_size,
            temporal_stride=temporal_stride,
            spatial_stride=2,
            spatial_padding=0,
        )

    def forward(self, hidden_states: torch.Tensor, stream: CausalStream) -> torch.Tensor:
        padded = F.pad(hidden_states, (0, 1, 0, 1))  # zeros on the right and at the bottom
        output = self.conv(padded, stream)
        if self.residual:
            output = output + self.average(hidden_states, stream)
        return output

    def average(self, hidden_states: torch.Tensor, stream: CausalStream) -> torch.Tensor:
        frames = F.avg_pool2d(hidden_states.flatten(0, 1), kernel_size=2)
        average = frames.unflatten(0, hidden_states.shape[:2])
        if self.temporal_stride == 2:
            if stream.is_first_chunk:
                average = torch.cat([average[:, :1], average], dim=1)
            average = average.unflatten(1, (-1, 2)).mean(dim=2)  # pairs of frames, the second one is the current
        return average


class VideoARUpsampler(nn.Module):
    """
    Doubles height and width and, with `temporal_stride = 2`, takes `n` frames to `2n - 1` (later chunks: `n` to `2n`).

    With `residual`, a shortcut without parameters adds the repeated input.
    """

    def __init__(self, channels: int, temporal_kernel_size: int, temporal_stride: int, residual: bool):
        super().__init__()
        self.residual = residual
        self.temporal_stride = temporal_stride
        self.conv = VideoARCausalConv3d(channels, channels, temporal_kernel_size)

    def forward(self, hidden_states: torch.Tensor, stream: CausalStream) -> torch.Tensor:
        if self.temporal_stride == 2:
            hidden_states = hidden_states.repeat_interleave(2, dim=1)
            if stream.is_first_chunk:
                hidden_states = hidden_states[:, 1:]
        frames = F.interpolate(hidden_states.flatten(0, 1), scale_factor=2.0, mode="nearest")
        repeated = frames.unflatten(0, hidden_states.shape[:2])
        output = self.conv(repeated, stream)
        if self.residual:
            output = output + repeated
        return output


# 3. Blocks


class VideoARMidBlock(nn.Module):
    """Residual blocks of one width."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_layers: int,
        temporal_kernel_size: int,
        norm_type: str,
        norm_num_groups: int,
    ):
        super().__init__()
        self.resnets = nn.ModuleList(
            VideoARResnetBlock(
                in_channels if layer == 0 else out_channels,
                out_channels,
                temporal_kernel_size,
                norm_type,
                norm_num_groups,
            )
            for layer in range(num_layers)
        )
        self.gradient_checkpointing = False

    def forward(self, hidden_states: torch.Tensor, stream: CausalStream) -> torch.Tensor:
        for resnet in self.resnets:
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                hidden_states = self._gradient_checkpointing_func(resnet, hidden_states, stream)
            else:
                hidden_states = resnet(hidden_states, stream)
        return hidden_states


class VideoARDownBlock(VideoARMidBlock):
    """One level of the encoder: residual blocks, then a downsampler on every level but the last."""

    def __init__(self, *args, downsampler: VideoARDownsampler | None):
        super().__init__(*args)
        self.downsamplers = nn.ModuleList([] if downsampler is None else [downsampler])

    def forward(self, hidden_states: torch.Tensor, stream: CausalStream) -> torch.Tensor:
        hidden_states = super().forward(hidden_states, stream)
        for downsampler in self.downsamplers:
            hidden_states = downsampler(hidden_states, stream)
        return hidden_states


class VideoARUpBlock(VideoARMidBlock):
    """One level of the decoder: residual blocks, then an upsampler on every level but the last."""

    def __init__(self, *args, upsampler: VideoARUpsampler | None):
        super().__init__(*args)
        self.upsamplers = nn.ModuleList([] if upsampler is None else [upsampler])

    def forward(self, hidden_states: torch.Tensor, stream: CausalStream) -> torch.Tensor:
        hidden_states = super().forward(hidden_states, stream)
        for upsampler in self.upsamplers:
            hidden_states = upsampler(hidden_states, stream)
        return hidden_states


# 4. Networks


class VideoAREncoder3d(nn.Module):
    """
    Pixel frames to features. The arguments are those of [`AutoencoderVideoAR`]; `out_channels` are the latents'.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        block_out_channels: Sequence[int],
        layers_per_block: int,
        temporal_kernel_sizes: Sequence[int],
        temporal_downsample: Sequence[bool],
        patch_size: int,
        temporal_patch_size: int,
        norm_type: str,
        norm_num_groups: int,
        resampling: str,
    ):
        super().__init__()
        self.patch_size = patch_size
        self.temporal_patch_size = temporal_patch_size
        patch_channels = in_channels * patch_size**2 * temporal_patch_size
        mid_kernel_size, mid_channels = temporal_kernel_sizes[-1], block_out_channels[-1]

        # 1. Stem
        self.conv_in = VideoARCausalConv3d(patch_channels, block_out_channels[0], temporal_kernel_sizes[0])

        # 2. Levels, fine to coarse
        self.down_blocks = nn.ModuleList()
        channels = block_out_channels[0]
        for level, level_channels in enumerate(block_out_channels):
            kernel_size = temporal_kernel_sizes[level]
            downsampler = None
            if level < len(block_out_channels) - 1:
                temporal_stride = 2 if temporal_downsample[level] else 1
                downsampler = VideoARDownsampler(
                    level_channels, kernel_size, temporal_stride, residual=resampling == "residual"
                )
            self.down_blocks.append(
                VideoARDownBlock(
                    channels,
                    level_channels,
                    layers_per_block,
                    kernel_size,
                    norm_type,
                    norm_num_groups,
                    downsampler=downsampler,
                )
            )
            channels = level_channels

        # 3. Middle
        self.mid_block = VideoARMidBlock(mid_channels, mid_channels, 2, mid_kernel_size, norm_type, norm_num_groups)

        # 4. Head
        self.conv_norm_out = make_norm(norm_type, mid_channels, norm_num_groups)
        self.conv_out = VideoARCausalConv3d(mid_channels, out_channels, mid_kernel_size)

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
            `tuple`: Features `(B, d, T, H', W')`, and the frames for the next chunk or `None`.
        """
        stream = CausalStream(past, self.num_states, keep_state)

        # 1. Stem
        hidden_states = self.patchify(sample.transpose(1, 2), stream)  # (B, T, C, H, W)
        hidden_states = self.conv_in(hidden_states, stream)

        # 2. Levels, fine to coarse
        for down_block in self.down_blocks:
            hidden_states = down_block(hidden_states, stream)

        # 3. Middle
        hidden_states = self.mid_block(hidden_states, stream)

        # 4. Head
        hidden_states = F.silu(self.conv_norm_out(hidden_states))
        hidden_states = self.conv_out(hidden_states, stream)  # (B, T, d, H', W')
        return hidden_states.transpose(1, 2).contiguous(), stream.future

    def patchify(self, frames: torch.Tensor, stream: CausalStream) -> torch.Tensor:
        """Space and time to channels; a video starts with copies of its first frame, which fill the first patch."""
        if stream.is_first_chunk and self.temporal_patch_size > 1:
            copies = frames[:, :1].expand(-1, self.temporal_patch_size - 1, -1, -1, -1)
            frames = torch.cat([copies, frames], dim=1)
        frames = F.pixel_unshuffle(frames, self.patch_size)
        return frames.unflatten(1, (-1, self.temporal_patch_size)).flatten(2, 3)


class VideoARDecoder3d(nn.Module):
    """
    Latents to pixel frames. The arguments are those of [`AutoencoderVideoAR`]; `in_channels` are the latents'.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        block_out_channels: Sequence[int],
        layers_per_block: int,
        temporal_kernel_sizes: Sequence[int],
        temporal_downsample: Sequence[bool],
        patch_size: int,
        temporal_patch_size: int,
        norm_type: str,
        norm_num_groups: int,
        resampling: str,
    ):
        super().__init__()
        self.patch_size = patch_size
        self.temporal_patch_size = temporal_patch_size
        patch_channels = out_channels * patch_size**2 * temporal_patch_size
        mid_kernel_size, mid_channels = temporal_kernel_sizes[-1], block_out_channels[-1]

        # 1. Stem
        self.conv_in = VideoARCausalConv3d(in_channels, mid_channels, mid_kernel_size)

        # 2. Middle
        self.mid_block = VideoARMidBlock(mid_channels, mid_channels, 2, mid_kernel_size, norm_type, norm_num_groups)

        # 3. Levels, coarse to fine
        self.up_blocks = nn.ModuleList()
        channels = mid_channels
        for level in reversed(range(len(block_out_channels))):
            level_channels, kernel_size = block_out_channels[level], temporal_kernel_sizes[level]
            upsampler = None
            if level > 0:
                temporal_stride = 2 if temporal_downsample[level - 1] else 1
                upsampler = VideoARUpsampler(
                    level_channels, kernel_size, temporal_stride, residual=resampling == "residual"
                )
            self.up_blocks.append(
                VideoARUpBlock(
                    channels,
                    level_channels,
                    layers_per_block,
                    kernel_size,
                    norm_type,
                    norm_num_groups,
                    upsampler=upsampler,
                )
            )
            channels = level_channels

        # 4. Head
        self.conv_norm_out = make_norm(norm_type, channels, norm_num_groups)
        self.conv_out = VideoARCausalConv3d(channels, patch_channels, temporal_kernel_sizes[0])

        self.num_states = number_causal_convolutions(self)

    def forward(
        self, latents: torch.Tensor, past: Sequence[torch.Tensor] | None = None, keep_state: bool = False
    ) -> tuple[torch.Tensor, list[torch.Tensor] | None]:
        """
        Args:
            latents (`torch.Tensor` of shape `(B, d, T, H', W')`): Quantised latents.
            past (`Sequence[torch.Tensor]`, *optional*): What the chunk before returned; `None` starts a video.
            keep_state (`bool`, defaults to `False`): Whether to return the frames that the next chunk needs.

        Returns:
            `tuple`: Pixel frames `(B, 3, F, H, W)`, not clamped, and the frames for the next chunk or `None`.
        """
        stream = CausalStream(past, self.num_states, keep_state)

        # 1. Stem
        hidden_states = self.conv_in(latents.transpose(1, 2), stream)  # (B, T, C, H', W')

        # 2. Middle
        hidden_states = self.mid_block(hidden_states, stream)

        # 3. Levels, coarse to fine
        for up_block in self.up_blocks:
            hidden_states = up_block(hidden_states, stream)

        # 4. Head
        hidden_states = F.silu(self.conv_norm_out(hidden_states))
        hidden_states = self.conv_out(hidden_states, stream)
        frames = self.unpatchify(hidden_states, stream)  # (B, F, 3, H, W)
        return frames.transpose(1, 2).contiguous(), stream.future

    def unpatchify(self, hidden_states: torch.Tensor, stream: CausalStream) -> torch.Tensor:
        """The inverse of the encoder's `patchify`: what stands for the copies of the first frame is dropped."""
        frames = hidden_states.unflatten(2, (self.temporal_patch_size, -1)).flatten(1, 2)
        frames = F.pixel_shuffle(frames, self.patch_size)
        return frames[:, self.temporal_patch_size - 1 :] if stream.is_first_chunk else frames


# 5. Tiles


def tile_spans(size: int, tile_size: int, stride: int) -> list[tuple[int, int]]:
    """`(start, end)` of the tiles that cover `size`, all of one size; the last one is moved back to end at `size`."""
    if size <= tile_size:
        return [(0, size)]
    starts = [*range(0, size - tile_size, stride), size - tile_size]
    return [(start, start + tile_size) for start in starts]


def blend_weights(spans: list[tuple[int, int]]) -> list[torch.Tensor]:
    """For every span, a float32 weight for each position: one, with linear ramps where it overlaps its neighbours."""
    weights = []
    for index, (start, end) in enumerate(spans):
        positions = torch.arange(start, end)
        weight = torch.ones(end - start)
        if index > 0:
            overlap = spans[index - 1][1] - start
            weight = torch.minimum(weight, (positions - start + 1) / (overlap + 1))
        if index < len(spans) - 1:
            overlap = end - spans[index + 1][0]
            weight = torch.minimum(weight, (end - positions) / (overlap + 1))
        weights.append(weight)
    return weights


# 6. The model


class AutoencoderVideoAR(ModelMixin, AutoencoderMixin, ConfigMixin):
    r"""
    A causal video tokenizer with a multi-scale bitwise quantiser, for images and videos alike: an image is a video of
    one frame. The defaults are the tokenizer of the VideoAR paper, Infinity's image tokenizer inflated to 3D.

    This model inherits from [`ModelMixin`]. Check the superclass documentation for its generic methods.

    Args:
        in_channels (`int`, defaults to 3): Channels of a pixel frame.
        out_channels (`int`, defaults to 3): Channels of a decoded pixel frame.
        latent_channels (`int`, defaults to 48): `d`, the bits of a token.
        block_out_channels (`tuple[int, ...]`, defaults to `(128, 256, 512, 512, 512)`):
            Width of every level, fine to coarse. Every level but the last halves height and width.
        layers_per_block (`int`, defaults to 2): Residual blocks of an encoder level.
        decoder_layers_per_block (`int`, defaults to 3): Residual blocks of a decoder level.
        temporal_kernel_sizes (`tuple[int, ...]`, defaults to `(3, 3, 3, 3, 3, 3)`):
            Frames that a convolution sees, for every level and, last, for the middle. `1` works on each frame by
            itself. The resamplers use their block's entry, the stem of the encoder and the head of the decoder the
            first one, the head of the encoder and the stem of the decoder the last one.
        temporal_downsample (`tuple[bool, ...]`, defaults to `(False, False, True, True)`):
            For every level but the last, whether its downsampler also halves the frame rate; the decoder mirrors it.
        patch_size (`int`, defaults to 1): Pixels of a square that become channels before the first convolution.
        temporal_patch_size (`int`, defaults to 1):
            Pixel frames that become channels before the first convolution. The first frame of a video is repeated to
            fill a patch of its own.
        norm_type (`str`, defaults to `"group_norm"`):
            `"group_norm"` over groups of channels and the space of one frame, `"rms_norm"` over the channels of one
            position.
        norm_num_groups (`int`, defaults to 32): Groups of `"group_norm"`.
        resampling (`str`, defaults to `"conv"`):
            `"conv"`: a strided convolution down, nearest repetition and a convolution up. `"residual"`: the same plus
            shortcuts without parameters (mean down, repetition up).
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ["VideoARResnetBlock", "VideoARDownsampler", "VideoARUpsampler"]
    _repeated_blocks = ["VideoARResnetBlock"]
    _skip_layerwise_casting_patterns = ["norm"]
    _group_offload_block_modules = ["encoder", "decoder"]

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        latent_channels: int = 48,
        block_out_channels: tuple[int, ...] = (128, 256, 512, 512, 512),
        layers_per_block: int = 2,
        decoder_layers_per_block: int = 3,
        temporal_kernel_sizes: tuple[int, ...] = (3, 3, 3, 3, 3, 3),
        temporal_downsample: tuple[bool, ...] = (False, False, True, True),
        patch_size: int = 1,
        temporal_patch_size: int = 1,
        norm_type: str = "group_norm",
        norm_num_groups: int = 32,
        resampling: str = "conv",
    ):
        super().__init__()
        num_levels = len(block_out_channels)
        if len(temporal_kernel_sizes) != num_levels + 1:
            raise ValueError(
                f"`temporal_kernel_sizes` needs one entry per level of `block_out_channels` and one for the middle, "
                f"{num_levels + 1} in all, got {temporal_kernel_sizes}."
            )
        if len(temporal_downsample) != num_levels - 1:
            raise ValueError(
                f"`temporal_downsample` needs one entry per level of `block_out_channels` but the last, "
                f"{num_levels - 1} in all, got {temporal_downsample}."
            )
        for level, strided in enumerate(temporal_downsample):
            if strided and temporal_kernel_sizes[level] < 2:
                raise ValueError(
                    f"`temporal_downsample[{level}]` is True, but `temporal_kernel_sizes[{level}]` is "
                    f"{temporal_kernel_sizes[level]}. A stride of two frames needs a kernel of at least two."
                )
        if norm_type not in ("group_norm", "rms_norm"):
            raise ValueError(f"`norm_type` must be 'group_norm' or 'rms_norm', got {norm_type!r}.")
        if resampling not in ("conv", "residual"):
            raise ValueError(f"`resampling` must be 'conv' or 'residual', got {resampling!r}.")

        shared = {
            "block_out_channels": block_out_channels,
            "temporal_kernel_sizes": temporal_kernel_sizes,
            "temporal_downsample": temporal_downsample,
            "patch_size": patch_size,
            "temporal_patch_size": temporal_patch_size,
            "norm_type": norm_type,
            "norm_num_groups": norm_num_groups,
            "resampling": resampling,
        }
        self.encoder = VideoAREncoder3d(in_channels, latent_channels, layers_per_block=layers_per_block, **shared)
        self.quantizer = MultiScaleBitwiseQuantizer()
        self.decoder = VideoARDecoder3d(
            latent_channels, out_channels, layers_per_block=decoder_layers_per_block, **shared
        )

        self.spatial_compression_ratio = patch_size * 2 ** (num_levels - 1)
        self.temporal_compression_ratio = temporal_patch_size * 2 ** sum(temporal_downsample)

        self.use_slicing = False
        self.use_tiling = False
        self.tile_sample_min_height = 256
        self.tile_sample_min_width = 256
        self.tile_sample_stride_height = 192
        self.tile_sample_stride_width = 192

    def enable_tiling(
        self,
        tile_sample_min_height: int | None = None,
        tile_sample_min_width: int | None = None,
        tile_sample_stride_height: int | None = None,
        tile_sample_stride_width: int | None = None,
    ) -> None:
        """
        Encodes and decodes frames that are larger than a tile in overlapping spatial tiles, blended linearly where
        they overlap: memory then depends on the tile and not on the frame. Near the seams the result differs a little
        from one pass.

        Args:
            tile_sample_min_height (`int`, *optional*): Height of a tile in pixels; 256 at first.
            tile_sample_min_width (`int`, *optional*): Width of a tile in pixels; 256 at first.
            tile_sample_stride_height (`int`, *optional*): Rows between two tiles; 192 at first.
            tile_sample_stride_width (`int`, *optional*): Columns between two tiles; 192 at first.
        """
        sizes = {
            "tile_sample_min_height": tile_sample_min_height,
            "tile_sample_min_width": tile_sample_min_width,
            "tile_sample_stride_height": tile_sample_stride_height,
            "tile_sample_stride_width": tile_sample_stride_width,
        }
        sizes = {name: getattr(self, name) if size is None else size for name, size in sizes.items()}
        for name, size in sizes.items():
            self._check_multiple(name, size)
        for side in ("height", "width"):
            tile, stride = sizes[f"tile_sample_min_{side}"], sizes[f"tile_sample_stride_{side}"]
            if stride > tile:
                raise ValueError(
                    f"`tile_sample_stride_{side}` is {stride}: that leaves gaps between tiles of {tile}. Use at "
                    f"most {tile}."
                )
        self.use_tiling = True
        for name, size in sizes.items():
            setattr(self, name, size)

    # Encoding

    @apply_forward_hook
    def encode(
        self, video: torch.Tensor, return_dict: bool = True
    ) -> AutoencoderVideoAREncoderOutput | tuple[torch.Tensor]:
        """
        Args:
            video (`torch.Tensor` of shape `(B, 3, F, H, W)`):
                Pixel frames in `[-1, 1]`. `F` is a multiple of the temporal compression ratio plus one; `H` and `W`
                are multiples of the spatial one.
            return_dict (`bool`, defaults to `True`): Whether to return an output object instead of a tuple.

        Returns:
            [`AutoencoderVideoAREncoderOutput`] or `tuple`: `.latents` are the features before quantisation.
        """
        self._check_video(video, is_first_chunk=True)
        latents, _ = self._encode(video, state=None, keep_state=False)
        if not return_dict:
            return (latents,)
        return AutoencoderVideoAREncoderOutput(latents=latents)

    @apply_forward_hook
    def encode_chunk(
        self, video: torch.Tensor, state: AutoencoderVideoARState | None = None, return_dict: bool = True
    ) -> AutoencoderVideoAREncoderOutput | tuple[torch.Tensor, AutoencoderVideoARState]:
        """
        Encodes the next frames of a video. The latents of all chunks, concatenated, are those of [`~encode`].

        Args:
            video (`torch.Tensor` of shape `(B, 3, F, H, W)`):
                Pixel frames in `[-1, 1]`. `F` is a multiple of the temporal compression ratio, plus one in the first
                chunk.
            state ([`AutoencoderVideoARState`], *optional*): What the chunk before returned; `None` starts a video.
            return_dict (`bool`, defaults to `True`): Whether to return an output object instead of a tuple.

        Returns:
            [`AutoencoderVideoAREncoderOutput`] or `tuple`: `.latents` of these frames and the new `.state`.
        """
        self._check_video(video, is_first_chunk=state is None)
        latents, state = self._encode(video, state, keep_state=True)
        if not return_dict:
            return (latents, state)
        return AutoencoderVideoAREncoderOutput(latents=latents, state=state)

    def _encode(
        self, video: torch.Tensor, state: AutoencoderVideoARState | None, keep_state: bool
    ) -> tuple[torch.Tensor, AutoencoderVideoARState | None]:
        latent_size = [side // self.spatial_compression_ratio for side in video.shape[-2:]]
        input_scale, output_scale = self.spatial_compression_ratio, 1
        return self._run(self.encoder, video.to(self.dtype), latent_size, input_scale, output_scale, state, keep_state)

    # Quantisation

    @apply_forward_hook
    def quantize(
        self,
        latents: torch.Tensor,
        scale_schedule: ScaleSchedule | None = None,
        scale_mask: torch.Tensor | None = None,
    ) -> QuantizerOutput:
        """
        Args:
            latents (`torch.Tensor` of shape `(B, d, T, H', W')`): Features before quantisation.
            scale_schedule (`tuple[tuple[int, int], ...]`, *optional*):
                Grids `(h_k, w_k)`, coarse to fine, the last one `(H', W')`; [`default_scale_schedule`] if not given.
            scale_mask (`torch.Tensor` of shape `(B, K)`, *optional*): Boolean; a `False` scale contributes nothing.

        Returns:
            [`QuantizerOutput`]: `.latents` quantised, `.bits`, and in training mode the losses.
        """
        self._check_latents(latents)
        scale_schedule = self._scale_schedule(scale_schedule, latents.shape[-2:])
        return self.quantizer(latents, scale_schedule, scale_mask)

    @apply_forward_hook
    def bits_to_latents(self, bits: list[torch.Tensor], scale_schedule: ScaleSchedule | None = None) -> torch.Tensor:
        """
        Args:
            bits (`list[torch.Tensor]`):
                For every scale, boolean bits `(B, T, h_k, w_k, d)`. With fewer scales than the schedule has, the
                latents are a coarser version of the same frames.
            scale_schedule (`tuple[tuple[int, int], ...]`, *optional*):
                Grids `(h_k, w_k)`, coarse to fine; [`default_scale_schedule`] of the last bits' grid if not given.

        Returns:
            `torch.Tensor` of shape `(B, d, T, H', W')`: Quantised latents, float32.
        """
        grids = [tuple(scale_bits.shape[2:4]) for scale_bits in bits]
        last_grid = grids[-1] if scale_schedule is None else scale_schedule[-1]
        scale_schedule = self._scale_schedule(scale_schedule, last_grid)
        if tuple(grids) != scale_schedule[: len(grids)]:
            raise ValueError(
                f"`bits` have the grids {grids}, which is not how the schedule {scale_schedule} begins. Pass the "
                "`scale_schedule` that the bits were made with."
            )
        return maps_to_latents(bits, scale_schedule)

    def _scale_schedule(self, scale_schedule: ScaleSchedule | None, latent_size: Sequence[int]) -> ScaleSchedule:
        if scale_schedule is None:
            return default_scale_schedule(*latent_size)
        return check_scale_schedule(scale_schedule, *latent_size)

    # Decoding

    @apply_forward_hook
    def decode(self, latents: torch.Tensor, return_dict: bool = True) -> DecoderOutput | tuple[torch.Tensor]:
        """
        Args:
            latents (`torch.Tensor` of shape `(B, d, T, H', W')`): Quantised latents.
            return_dict (`bool`, defaults to `True`): Whether to return an output object instead of a tuple.

        Returns:
            `DecoderOutput` or `tuple`: `.sample` are pixel frames `(B, 3, F, H, W)` in `[-1, 1]`, where `F` is `T - 1`
            times the temporal compression ratio, plus one.
        """
        self._check_latents(latents)
        sample, _ = self._decode(latents, state=None, keep_state=False)
        sample = sample.clamp(-1, 1)
        if not return_dict:
            return (sample,)
        return DecoderOutput(sample=sample)

    @apply_forward_hook
    def decode_chunk(
        self, latents: torch.Tensor, state: AutoencoderVideoARState | None = None, return_dict: bool = True
    ) -> AutoencoderVideoARDecoderOutput | tuple[torch.Tensor, AutoencoderVideoARState]:
        """
        Decodes the next latent frames of a video. The frames of all chunks, concatenated, are those of [`~decode`].

        Args:
            latents (`torch.Tensor` of shape `(B, d, T, H', W')`): Quantised latents, any `T`.
            state ([`AutoencoderVideoARState`], *optional*): What the chunk before returned; `None` starts a video.
            return_dict (`bool`, defaults to `True`): Whether to return an output object instead of a tuple.

        Returns:
            [`AutoencoderVideoARDecoderOutput`] or `tuple`: `.sample` of these latent frames, in `[-1, 1]`, and the new
            `.state`.
        """
        self._check_latents(latents)
        sample, state = self._decode(latents, state, keep_state=True)
        sample = sample.clamp(-1, 1)
        if not return_dict:
            return (sample, state)
        return AutoencoderVideoARDecoderOutput(sample=sample, state=state)

    def _decode(
        self, latents: torch.Tensor, state: AutoencoderVideoARState | None, keep_state: bool
    ) -> tuple[torch.Tensor, AutoencoderVideoARState | None]:
        latent_size = list(latents.shape[-2:])
        input_scale, output_scale = 1, self.spatial_compression_ratio
        return self._run(
            self.decoder, latents.to(self.dtype), latent_size, input_scale, output_scale, state, keep_state
        )

    # Both ways

    def forward(
        self,
        sample: torch.Tensor,
        scale_schedule: ScaleSchedule | None = None,
        scale_mask: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> AutoencoderVideoAROutput | tuple[torch.Tensor]:
        """
        Encodes, quantises and decodes.

        Args:
            sample (`torch.Tensor` of shape `(B, 3, F, H, W)`): Pixel frames in `[-1, 1]`, as [`~encode`] takes them.
            scale_schedule (`tuple[tuple[int, int], ...]`, *optional*): See [`~quantize`].
            scale_mask (`torch.Tensor` of shape `(B, K)`, *optional*): See [`~quantize`].
            return_dict (`bool`, defaults to `True`): Whether to return an output object instead of a tuple.

        Returns:
            [`AutoencoderVideoAROutput`] or `tuple`: The reconstruction and, in the output object, what led to it. In
            training mode the reconstruction is not clamped, so that every pixel has a gradient.
        """
        self._check_video(sample, is_first_chunk=True)
        latents, _ = self._encode(sample, state=None, keep_state=False)
        quantized = self.quantizer(latents, self._scale_schedule(scale_schedule, latents.shape[-2:]), scale_mask)
        reconstruction, _ = self._decode(quantized.latents, state=None, keep_state=False)
        if not self.training:
            reconstruction = reconstruction.clamp(-1, 1)
        if not return_dict:
            return (reconstruction,)
        return AutoencoderVideoAROutput(
            sample=reconstruction,
            latents=latents,
            bits=quantized.bits,
            commitment_loss=quantized.commitment_loss,
            entropy_loss=quantized.entropy_loss,
        )

    def _run(
        self,
        network: VideoAREncoder3d | VideoARDecoder3d,
        inputs: torch.Tensor,
        latent_size: list[int],
        input_scale: int,
        output_scale: int,
        state: AutoencoderVideoARState | None,
        keep_state: bool,
    ) -> tuple[torch.Tensor, AutoencoderVideoARState | None]:
        """Runs a network on a chunk, sample by sample with slicing, tile by tile with tiling."""
        # 1. Where the tiles are, in latent positions; a tile of a network's input or output is a multiple of it
        row_spans, column_spans = [(0, latent_size[0])], [(0, latent_size[1])]
        if self.use_tiling:
            ratio = self.spatial_compression_ratio
            row_spans = tile_spans(
                latent_size[0], self.tile_sample_min_height // ratio, self.tile_sample_stride_height // ratio
            )
            column_spans = tile_spans(
                latent_size[1], self.tile_sample_min_width // ratio, self.tile_sample_stride_width // ratio
            )
        tiles = [(rows, columns) for rows in row_spans for columns in column_spans]

        # 2. The state belongs to chunks of this shape and to these tiles
        chunk_shape = (inputs.shape[0], *inputs.shape[-2:])
        if state is not None and (state.chunk_shape != chunk_shape or len(state.tiles) != len(tiles)):
            raise ValueError(
                f"`state` is for chunks of (batch, height, width) {state.chunk_shape} in {len(state.tiles)} tile(s), "
                f"this chunk is {chunk_shape} in {len(tiles)}. Pass the state that the chunk before it returned."
            )

        # 3. Run
        outputs, states = [], []
        for index, (rows, columns) in enumerate(tiles):
            past = None if state is None else state.tiles[index]
            tile = inputs
            if len(tiles) > 1:
                tile = inputs[..., slice(*(input_scale * i for i in rows)), slice(*(input_scale * i for i in columns))]
            output, future = self._run_samples(network, tile, past, keep_state)
            outputs.append(output)
            states.append(future)

        # 4. Put together
        output_rows = [(output_scale * start, output_scale * end) for start, end in row_spans]
        output_columns = [(output_scale * start, output_scale * end) for start, end in column_spans]
        output = outputs[0] if len(tiles) == 1 else self._blend(outputs, output_rows, output_columns)
        new_state = AutoencoderVideoARState(chunk_shape=chunk_shape, tiles=tuple(states)) if keep_state else None
        return output, new_state

    def _run_samples(
        self,
        network: VideoAREncoder3d | VideoARDecoder3d,
        inputs: torch.Tensor,
        past: tuple[torch.Tensor, ...] | None,
        keep_state: bool,
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...] | None]:
        if not self.use_slicing or inputs.shape[0] == 1:
            output, future = network(inputs, past, keep_state)
            return output, tuple(future) if keep_state else None
        outputs, futures = [], []
        for index, sample in enumerate(inputs.split(1)):
            sample_past = None if past is None else [frames[index : index + 1] for frames in past]
            output, future = network(sample, sample_past, keep_state)
            outputs.append(output)
            futures.append(future)
        return torch.cat(outputs), tuple(torch.cat(frames) for frames in zip(*futures)) if keep_state else None

    def _blend(
        self, tiles: list[torch.Tensor], row_spans: list[tuple[int, int]], column_spans: list[tuple[int, int]]
    ) -> torch.Tensor:
        """Weighted mean of tiles `(B, C, T, h, w)`, in float32, row by row of the grid of tiles."""
        height, width = row_spans[-1][1], column_spans[-1][1]
        total = torch.zeros(*tiles[0].shape[:-2], height, width, device=tiles[0].device)
        total_weight = torch.zeros(height, width, device=tiles[0].device)
        row_weights, column_weights = blend_weights(row_spans), blend_weights(column_spans)
        positions = [(row, column) for row in range(len(row_spans)) for column in range(len(column_spans))]
        for tile, (row, column) in zip(tiles, positions):
            weight = torch.outer(row_weights[row], column_weights[column]).to(tile.device)
            rows, columns = slice(*row_spans[row]), slice(*column_spans[column])
            total[..., rows, columns] += tile * weight
            total_weight[rows, columns] += weight
        return (total / total_weight).to(tiles[0].dtype)

    # Checks

    def _check_multiple(self, name: str, size: int) -> None:
        ratio = self.spatial_compression_ratio
        if size < ratio or size % ratio != 0:
            nearest = max(ratio, round(size / ratio) * ratio)
            raise ValueError(f"`{name}` must be a positive multiple of {ratio}, got {size}. The nearest is {nearest}.")

    def _check_video(self, video: torch.Tensor, is_first_chunk: bool) -> None:
        if video.ndim != 5 or video.shape[1] != self.config.in_channels:
            raise ValueError(
                f"`video` must be (batch, {self.config.in_channels}, frames, height, width), got {tuple(video.shape)}."
            )
        num_frames, height, width = video.shape[2:]
        ratio, extra = self.temporal_compression_ratio, 1 if is_first_chunk else 0
        fewest = 1 if is_first_chunk else ratio
        if num_frames < fewest or (num_frames - extra) % ratio != 0:
            nearest = max(fewest, round((num_frames - extra) / ratio) * ratio + extra)
            rule = f"{ratio}n + 1 frames" if is_first_chunk else f"{ratio}n frames after the first chunk"
            raise ValueError(f"`video` must have {rule}, got {num_frames}. The nearest is {nearest}.")
        self._check_multiple("video height", height)
        self._check_multiple("video width", width)

    def _check_latents(self, latents: torch.Tensor) -> None:
        if latents.ndim != 5 or latents.shape[1] != self.config.latent_channels:
            raise ValueError(
                f"`latents` must be (batch, {self.config.latent_channels}, frames, height, width), got "
                f"{tuple(latents.shape)}."
            )
