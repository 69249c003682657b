# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Layers and blocks of the tokenizer: convolutions that are causal in time, norms of single frames, resamplers. Nothing here looks
ahead; what a convolution needs of earlier chunks travels in a [`CausalStream`].

A tensor is `(B, T, C, H, W)` (frames before channels), so that every per-frame operation is a 2D one on `(B * T, C, H, W)`; `T`, `H`
and `W` are those of the layer. On a CPU it lies in memory as it is written. On a GPU channels lie last, `(B, T, H, W, C)`, as the
convolutions of its tensor cores read them: a 3D convolution takes that without a copy, frames need not become channels, and every
operation between two convolutions keeps it.
"""

from collections.abc import Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F


# 1. Layers


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


def convolve(
    frames: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> torch.Tensor:
    """
    `F.conv2d` of `(N, C, H, W)`. For one small frame on a CPU PyTorch leaves oneDNN for a slower way, which rounds differently; here
    one frame gets what it gets among many.
    """
    is_left_out = len(frames) == 1 and frames[0].numel() <= 20480 and weight.shape[-1] > 1
    is_left_out = is_left_out and frames.device.type == "cpu" and frames.dtype == torch.float32
    # A compiler chooses its own way, and cannot trace the question.
    if is_left_out and not torch.compiler.is_compiling() and _has_onednn():
        return torch.mkldnn_convolution(frames, weight, bias, padding, stride, dilation=(1, 1), groups=1)
    return F.conv2d(frames, weight, bias, stride, padding)


def _has_onednn() -> bool:
    return torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled


class VideoARBiasSum(nn.Module):
    """
    The sum of a convolution's output and its bias, and of a residual. PyTorch adds a bias to what cuDNN gives in a pass of its own, in
    this layout a slow one. A module, so that a compiler makes one pass of all.
    """

    def forward(self, output: torch.Tensor, bias: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        """`(B, T, C, H, W)`, `(C,)` and `(B, T, C, H, W)`; in the dtype of the output."""
        output = output + bias.to(output.dtype)[:, None, None]
        return output if residual is None else residual + output


class VideoARCausalConv3d(nn.Conv3d):
    """
    A convolution that is causal in time. Its weight is always `(out, in, kernel_t, kernel_h, kernel_w)`.

    A video starts with `kernel_t - 1` copies of the first input frame, so a still video is seen as the same frame all along.

    On a CPU the frames of a window become channels of one 2D convolution. It computes what a 3D one would, needs no other memory
    layout than the per-frame operations around it, and is faster, twice for `kernel_t = 1`. On a GPU it is the 3D one.

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
        self.num_frames = temporal_kernel_size  # of a window, as they come
        self.add_bias = VideoARBiasSum()
        self.state_index = None  # set by `number_causal_convolutions`

    def forward(
        self,
        hidden_states: torch.Tensor,
        stream: CausalStream,
        has_past: bool = False,
        residual: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """
        Args:
            hidden_states (`torch.Tensor` of shape `(B, T, C, H, W)`): The next frames.
            stream ([`CausalStream`]): What came before them.
            has_past (`bool`, defaults to `False`):
                Whether what the first window needs besides is in front of the frames already, see [`VideoARNormSiLU`].
            residual (`torch.Tensor`, *optional*): Added to the output.
        """
        frames = hidden_states if has_past else put_in_front(hidden_states, self.past(stream), self.num_frames - 1)
        self.leave_past(frames, stream)
        if has_channels_last(frames):
            output = F.conv3d(as_volume(frames), self.weight, None, self.stride, self.padding).transpose(1, 2)
            del frames  # its memory is that of the sum
            return self.add_bias(output, self.bias, residual)
        frames = windows_as_channels(frames, self.num_frames, self.stride[0])
        output = convolve(
            frames.flatten(0, 1), self.weight.flatten(1, 2), self.bias, self.stride[1:], self.padding[1:]
        )
        output = output.unflatten(0, frames.shape[:2])
        return output if residual is None else residual + output

    def past(self, stream: CausalStream) -> torch.Tensor | None:
        """The frames that the chunk before left for the first window; `None` in the first chunk of a video."""
        return None if self.num_frames == 1 or stream.is_first_chunk else stream.past[self.state_index]

    def leave_past(self, frames: torch.Tensor, stream: CausalStream) -> None:
        """Leaves to the next chunk what its first window needs of `frames`, which begin with what the first window of this one did."""
        if self.num_frames > 1 and stream.future is not None:
            stride = self.stride[0]
            next_window = (frames.shape[1] - self.num_frames) // stride * stride + stride
            stream.future[self.state_index] = concatenate_frames([frames[:, next_window:]])


def has_channels_last(frames: torch.Tensor) -> bool:
    """Whether the channels of `(B, T, C, H, W)` are to lie last, see the top of this file. Tensors without numbers stand for a GPU's."""
    return frames.device.type in ("cuda", "meta")


def as_volume(frames: torch.Tensor) -> torch.Tensor:
    """`(B, T, C, H, W)` as `(B, C, T, H, W)` with the channels last in memory; a copy only of frames that lie otherwise."""
    return frames.transpose(1, 2).contiguous(memory_format=torch.channels_last_3d)


def put_in_front(frames: torch.Tensor, past: torch.Tensor | None, num_past: int) -> torch.Tensor:
    """The frames `(B, T, C, H, W)` behind `num_past` others: `past`, or, where that is `None`, copies of the first."""
    if num_past == 0:
        return frames
    if past is None:
        past = frames[:, :1].expand(-1, num_past, -1, -1, -1)
    return concatenate_frames([past, frames])


def concatenate_frames(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Parts `(B, n, C, H, W)` of a video as one new tensor."""
    if has_channels_last(parts[-1]):
        return torch.cat([part.permute(0, 1, 3, 4, 2) for part in parts], dim=1).permute(0, 1, 4, 2, 3)
    return torch.cat(parts, dim=1)


def windows_as_channels(frames: torch.Tensor, num_frames: int, stride: int = 1) -> torch.Tensor:
    """Windows of `num_frames` frames, `stride` frames apart, as `(B, T, C * num_frames, H, W)`, the frames of a channel together."""
    if num_frames == 1:
        return frames
    windows = frames.unfold(1, num_frames, stride)  # (B, T, C, H, W, num_frames)
    return windows.permute(0, 1, 2, 5, 3, 4).flatten(2, 3)


class VideoARUpsamplingConv3d(VideoARCausalConv3d):
    """
    A causal convolution of frames of twice the height and width and, with `temporal_upsampling = 2`, of twice as many frames, all by
    nearest repetition.

    On a GPU it is computed on the frames as they come. Where a kernel covers copies of one pixel, their weights are added up first:
    instead of 3x3 pixels an output pixel sees 2x2, in time two frames instead of three. That is 4/9 of the operations, or 8/27. Output
    pixels of even and odd rows and columns have sums of their own, which together are a transposed convolution of 4x4 pixels and
    stride 2. On a CPU such a one rounds one frame differently from many, and trains no faster: there the frames are repeated.

    Args:
        channels (`int`): Channels in and out.
        temporal_kernel_size (`int`): Frames of a window, after the repetition.
        temporal_upsampling (`int`): 1, or 2: `n` frames become `2n - 1` (later chunks: `2n`).
    """

    def __init__(self, channels: int, temporal_kernel_size: int, temporal_upsampling: int):
        super().__init__(channels, channels, temporal_kernel_size)
        self.temporal_upsampling = temporal_upsampling
        self.num_frames = temporal_kernel_size if temporal_upsampling == 1 else temporal_kernel_size // 2 + 1
        self.register_buffer("fold", folding_matrix(temporal_kernel_size, temporal_upsampling), persistent=False)

    def forward(self, hidden_states: torch.Tensor, stream: CausalStream) -> torch.Tensor:
        frames = put_in_front(hidden_states, self.past(stream), self.num_frames - 1)
        self.leave_past(frames, stream)
        output = self.convolve_once(frames) if has_channels_last(frames) else self.convolve_repeated(frames)
        return output[:, self.temporal_upsampling - 1 :] if stream.is_first_chunk else output

    def convolve_repeated(self, frames: torch.Tensor) -> torch.Tensor:
        """Of `(B, T + n - 1, C, H, W)` with windows of `n` frames: `(B, T * copies, C, 2H, 2W)`."""
        kernel_size, num_copies = self.kernel_size[0], self.temporal_upsampling
        surplus = num_copies * (self.num_frames - 1) - (kernel_size - 1)  # copies in front of the first window
        repeated = repeat_frames(frames, num_copies)[:, surplus:]
        windows = windows_as_channels(repeated, kernel_size)
        output = convolve(windows.flatten(0, 1), self.weight.flatten(1, 2), self.bias, (1, 1), self.padding[1:])
        return output.unflatten(0, windows.shape[:2])

    def convolve_once(self, frames: torch.Tensor) -> torch.Tensor:
        """The same with channels last, and without repetition."""
        # 1. The sums of weights
        num_copies = self.temporal_upsampling
        weight = self.folded_weight()  # (n * in, copies * out, 4, 4)

        # 2. The frames of a window as channels
        volume = as_volume(frames)  # (B, in, T + n - 1, H, W)
        num_windows = volume.shape[2] - self.num_frames + 1
        windows = torch.cat([volume[:, :, tap : tap + num_windows] for tap in range(self.num_frames)], dim=1)
        windows = windows.transpose(1, 2).flatten(0, 1)  # (B * T, n * in, H, W)

        # 3. Convolve, and put the copies of a frame one after the other
        output = F.conv_transpose2d(windows, weight, None, stride=2, padding=1).permute(0, 2, 3, 1)
        output = output.unflatten(0, (len(frames), -1)).unflatten(-1, (num_copies, -1))  # (B, T, 2H, 2W, copies, out)
        output = output.permute(0, 1, 4, 2, 3, 5).flatten(1, 2).permute(0, 1, 4, 2, 3)
        return self.add_bias(output, self.bias)

    def folded_weight(self) -> torch.Tensor:
        """The kernels of the transposed convolution, `(n * in, copies * out, 4, 4)` with channels last."""
        weight = self.weight.flatten(2) @ self.fold.to(self.weight)  # (out, in, copies * n * 16)
        weight = weight.unflatten(2, (self.temporal_upsampling, self.num_frames, 4, 4))
        weight = weight.permute(3, 1, 2, 0, 4, 5).flatten(2, 3).flatten(0, 1)
        return weight.contiguous(memory_format=torch.channels_last)


def repeat_frames(frames: torch.Tensor, num_copies: int) -> torch.Tensor:
    """`(B, T, C, H, W)` to `(B, T * num_copies, C, 2H, 2W)`, each frame and pixel repeated."""
    if num_copies > 1:
        frames = frames.repeat_interleave(num_copies, dim=1)
    repeated = F.interpolate(frames.flatten(0, 1), scale_factor=2.0, mode="nearest")
    return repeated.unflatten(0, frames.shape[:2])


def fold_space(weight: torch.Tensor) -> torch.Tensor:
    """Kernels `(..., 3, 3)` for pixels that are there twice as transposed ones `(..., 4, 4)` of stride 2 for single pixels."""
    for _ in range(2):
        first, middle, last = weight.unbind(-1)
        weight = torch.stack([last, middle + last, first + middle, first], dim=-1).transpose(-1, -2)
    return weight


def fold_time(weight: torch.Tensor) -> torch.Tensor:
    """
    Kernels `(out, in, k, h, w)` for frames that are there twice as two kernels for single frames, `(2, out, in, k // 2 + 1, h, w)`:
    one for the first copy of a frame as the current one, one for the second.
    """
    kernel_size = weight.shape[2]
    num_past = kernel_size // 2
    phases = []
    for phase in range(2):
        taps = weight.new_zeros(*weight.shape[:2], num_past + 1, *weight.shape[3:])
        for tap in range(kernel_size):
            taps[:, :, num_past + (phase - kernel_size + 1 + tap) // 2] += weight[:, :, tap]
        phases.append(taps)
    return torch.stack(phases)


def folding_matrix(kernel_size: int, num_copies: int) -> torch.Tensor:
    """`(kernel_size * 9, num_copies * n * 16)`: kernels for what is there several times, times this, are those for what is there once."""
    kernels = torch.eye(kernel_size * 9).unflatten(1, (kernel_size, 3, 3))[:, None]  # (k * 9, 1, k, 3, 3)
    kernels = fold_time(kernels) if num_copies == 2 else kernels[None]
    return fold_space(kernels).movedim(0, 2).flatten(1)


def number_causal_convolutions(network: nn.Module) -> int:
    """Gives every convolution that needs earlier frames its place in the state, and returns their number."""
    convolutions = [
        module for module in network.modules() if isinstance(module, VideoARCausalConv3d) and module.kernel_size[0] > 1
    ]
    for state_index, convolution in enumerate(convolutions):
        convolution.state_index = state_index
    return len(convolutions)


class VideoARNormSiLU(nn.Module):
    """
    What stands in front of a causal convolution: a normalisation, SiLU, and the frames before the first that the convolution needs.
    One module, so that a compiler makes one pass of it.

    Subclasses have `normalize`, and `num_past`: the convolution's frames of a window but one.
    """

    def forward(self, hidden_states: torch.Tensor, past: torch.Tensor | None = None) -> torch.Tensor:
        """`(B, T, C, H, W)` to `(B, num_past + T, C, H, W)`, see [`put_in_front`]; `past` is normalised already."""
        normalized = self.normalize_and_activate(hidden_states)
        if past is None and torch.compiler.is_compiling():
            # What is read once is written where it belongs; what is read twice would be written, then copied
            past = self.normalize_and_activate(hidden_states[:, :1]).expand(-1, self.num_past, -1, -1, -1)
        return put_in_front(normalized, past, self.num_past)

    def normalize_and_activate(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return F.silu(self.normalize(hidden_states))


class VideoARGroupNormSiLU(VideoARNormSiLU, nn.GroupNorm):
    """Group normalisation of every frame by itself: statistics over time would look ahead."""

    def __init__(self, num_groups: int, num_channels: int, eps: float, num_past: int):
        nn.GroupNorm.__init__(self, num_groups, num_channels, eps)
        self.num_past = num_past

    def normalize(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if has_channels_last(hidden_states):
            return self.normalize_channels_last(hidden_states)
        frames = nn.GroupNorm.forward(self, hidden_states.flatten(0, 1))
        return frames.unflatten(0, hidden_states.shape[:2])

    def normalize_channels_last(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """
        The normalisation of frames with channels last, which PyTorch's kernel would copy before and after. Sums over pixels first,
        which are read in order, then over the channels of a group.
        """
        dtype = torch.promote_types(hidden_states.dtype, torch.float32)
        num_pixels = hidden_states.shape[-2] * hidden_states.shape[-1]
        sums = hidden_states.sum(dim=(-2, -1), dtype=dtype)  # (B, T, C)
        squares = torch.linalg.vector_norm(hidden_states, dim=(-2, -1), dtype=dtype).square()
        mean, mean_square = (
            value.unflatten(-1, (self.num_groups, -1)).mean(-1, keepdim=True) / num_pixels for value in (sums, squares)
        )  # (B, T, groups, 1)
        inverse_deviation = torch.rsqrt((mean_square - mean.square()).clamp(min=0) + self.eps)
        weight, bias = (value.to(dtype).unflatten(0, (self.num_groups, -1)) for value in (self.weight, self.bias))
        scale = inverse_deviation * weight  # (B, T, groups, C / groups)
        shift = bias - mean * scale
        scale, shift = (value.flatten(2).to(hidden_states.dtype)[..., None, None] for value in (scale, shift))
        return torch.addcmul(shift, hidden_states, scale)


class VideoARRMSNormSiLU(VideoARNormSiLU):
    """
    Root-mean-square normalisation over the channels of every position by itself. Without any statistic over space, a crop of a frame
    is processed like the frame, borders apart.
    """

    def __init__(self, num_channels: int, eps: float, num_past: int):
        super().__init__()
        self.eps = eps
        self.num_past = num_past
        self.weight = nn.Parameter(torch.ones(num_channels))

    def normalize(self, hidden_states: torch.Tensor) -> torch.Tensor:
        mean_square = hidden_states.to(torch.float32).square().mean(dim=2, keepdim=True)
        inverse_rms = torch.rsqrt(mean_square + self.eps).to(hidden_states.dtype)
        return hidden_states * inverse_rms * self.weight.to(hidden_states.dtype)[:, None, None]


def make_norm_silu(
    norm_type: str, num_channels: int, norm_num_groups: int, temporal_kernel_size: int
) -> VideoARNormSiLU:
    """What stands in front of a convolution of a `temporal_kernel_size`; `norm_type` is `"group_norm"` or `"rms_norm"`."""
    num_past = temporal_kernel_size - 1
    if norm_type == "group_norm":
        return VideoARGroupNormSiLU(norm_num_groups, num_channels, eps=1e-6, num_past=num_past)
    return VideoARRMSNormSiLU(num_channels, eps=1e-6, num_past=num_past)


class VideoARResnetBlock(nn.Module):
    def __init__(
        self, in_channels: int, out_channels: int, temporal_kernel_size: int, norm_type: str, norm_num_groups: int
    ):
        super().__init__()
        self.norm1 = make_norm_silu(norm_type, in_channels, norm_num_groups, temporal_kernel_size)
        self.conv1 = VideoARCausalConv3d(in_channels, out_channels, temporal_kernel_size)
        self.norm2 = make_norm_silu(norm_type, out_channels, norm_num_groups, temporal_kernel_size)
        self.conv2 = VideoARCausalConv3d(out_channels, out_channels, temporal_kernel_size)
        self.conv_shortcut = None
        if in_channels != out_channels:
            self.conv_shortcut = VideoARCausalConv3d(
                in_channels, out_channels, temporal_kernel_size=1, spatial_kernel_size=1, spatial_padding=0
            )

    def forward(self, hidden_states: torch.Tensor, stream: CausalStream) -> torch.Tensor:
        residual = hidden_states
        hidden_states = self.norm1(hidden_states, self.conv1.past(stream))
        hidden_states = self.conv1(hidden_states, stream, has_past=True)
        hidden_states = self.norm2(hidden_states, self.conv2.past(stream))
        if self.conv_shortcut is not None:
            residual = self.conv_shortcut(residual, stream)
        return self.conv2(hidden_states, stream, has_past=True, residual=residual)


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
        # Zeros on the right and at the bottom; of single frames, which keep their memory layout
        padded = F.pad(hidden_states.flatten(0, 1), (0, 1, 0, 1)).unflatten(0, hidden_states.shape[:2])
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
        self.conv = VideoARUpsamplingConv3d(channels, temporal_kernel_size, temporal_upsampling=temporal_stride)

    def forward(self, hidden_states: torch.Tensor, stream: CausalStream) -> torch.Tensor:
        output = self.conv(hidden_states, stream)
        return self.add_repeated(output, hidden_states, stream) if self.residual else output

    def add_repeated(self, output: torch.Tensor, hidden_states: torch.Tensor, stream: CausalStream) -> torch.Tensor:
        """The sum of the output and the repeated input, which is not made for it."""
        if self.temporal_stride == 2:
            hidden_states = hidden_states.repeat_interleave(2, dim=1)
            if stream.is_first_chunk:
                hidden_states = hidden_states[:, 1:]
        height, width = hidden_states.shape[-2:]
        pixels = output.unflatten(-1, (width, 2)).unflatten(-3, (height, 2))  # (B, T, C, H, 2, W, 2)
        return (pixels + hidden_states[..., :, None, :, None]).flatten(-2).flatten(-3, -2)


# 2. Blocks


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
