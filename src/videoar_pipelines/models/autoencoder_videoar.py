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
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput
from diffusers.utils.accelerate_utils import apply_forward_hook

from ..hub.mixins import HubModelMixin
from .causal_autoencoder import AutoencoderVideoARState, CausalAutoencoderMixin
from .causal_convolutions import (
    CausalStream,
    VideoARCausalConv3d,
    VideoARDownBlock,
    VideoARDownsampler,
    VideoARMidBlock,
    VideoARUpBlock,
    VideoARUpsampler,
    make_norm_silu,
    number_causal_convolutions,
)
from .compilation import compiled_as_one_pass
from .config_checks import check_kinds, check_positive_integers
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


# 2. Networks


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
        self.conv_norm_out = make_norm_silu(norm_type, mid_channels, norm_num_groups, mid_kernel_size)
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
        hidden_states = self.conv_norm_out(hidden_states, self.conv_out.past(stream))
        hidden_states = self.conv_out(hidden_states, stream, has_past=True)  # (B, T, d, H', W')
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
        self.conv_norm_out = make_norm_silu(norm_type, channels, norm_num_groups, temporal_kernel_sizes[0])
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
        hidden_states = self.conv_norm_out(hidden_states, self.conv_out.past(stream))
        hidden_states = self.conv_out(hidden_states, stream, has_past=True)
        frames = self.unpatchify(hidden_states, stream)  # (B, F, 3, H, W)
        return frames.transpose(1, 2).contiguous(), stream.future

    def unpatchify(self, hidden_states: torch.Tensor, stream: CausalStream) -> torch.Tensor:
        """The inverse of the encoder's `patchify`: what stands for the copies of the first frame is dropped."""
        frames = hidden_states.unflatten(2, (self.temporal_patch_size, -1)).flatten(1, 2)
        frames = F.pixel_shuffle(frames, self.patch_size)
        return frames[:, self.temporal_patch_size - 1 :] if stream.is_first_chunk else frames


# 3. The model


class AutoencoderVideoAR(HubModelMixin, ModelMixin, CausalAutoencoderMixin, ConfigMixin):
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
    _group_offload_block_modules = ["encoder", "decoder"]
    # What a compiler fuses: all that lies between two convolutions. The convolutions are cuDNN's in any case, and around a whole network the
    # compiler changes their layout: on an H200 that was slower, from half as fast for a batch to equal for one clip.
    _repeated_blocks = ["VideoARGroupNormSiLU", "VideoARRMSNormSiLU", "VideoARBiasSum"]

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
        lists = ["block_out_channels", "temporal_kernel_sizes", "temporal_downsample"]
        check_kinds(self.config, lists, tuple, list)
        counts = [
            *("in_channels", "out_channels", "latent_channels", "layers_per_block", "decoder_layers_per_block"),
            *("patch_size", "temporal_patch_size", "norm_num_groups"),
        ]
        check_kinds(self.config, counts, int)
        check_positive_integers(self.config, [*counts, "block_out_channels", "temporal_kernel_sizes"])
        num_levels = len(block_out_channels)
        if num_levels == 0:
            raise ValueError("`block_out_channels` must have one level at least, got none.")
        if not all(isinstance(strided, bool) for strided in temporal_downsample):
            raise ValueError(f"`temporal_downsample` must be booleans, got {temporal_downsample}.")
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

        if norm_type == "group_norm" and any(channels % norm_num_groups for channels in block_out_channels):
            raise ValueError(
                f"`norm_num_groups` must divide all of `block_out_channels` {tuple(block_out_channels)}, got {norm_num_groups}."
            )

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

    def compile_repeated_blocks(self, *args, **kwargs) -> None:
        """
        As in diffusers. Compiles what lies between convolutions: norms, each with its activation and the frames put in front, and sums with
        biases and residuals. A small graph for every number of channels, for single frames and several, whatever the sizes.
        """
        super().compile_repeated_blocks(*args, **kwargs)
        for module in self.modules():
            if type(module).__name__ in self._repeated_blocks:
                module._compiled_call_impl = compiled_as_one_pass(module._compiled_call_impl)

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
