# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
The block-causal transformer of VideoAR (section 4.2 of the paper): one sequence `[text | frame 0: scale 0 … K-1 | frame 1 …]`,
LLaMA-like blocks, Multi-scale Temporal RoPE, one logit for every bit.

Letters used in shapes: `B` batch, `T` latent frames, `K` scales, `L` tokens of a frame, `S` video tokens of a call, `N` text
tokens, `D` width, `H` heads, `d` bits of a token.
"""

import copy
import functools

import torch
import torch.nn as nn
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders import PeftAdapterMixin
from diffusers.models._modeling_parallel import ContextParallelInput, ContextParallelOutput
from diffusers.models.attention import AttentionMixin, AttentionModuleMixin, FeedForward
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.embeddings import PixArtAlphaTextProjection
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import apply_lora_scale

from .packed_linear import pack_linear_layers
from .quantization import ScaleSchedule, tokens_per_frame


# Width is `num_attention_heads * attention_head_dim`. Table of the paper, appendix A.
TRANSFORMER_CONFIGS = {
    "L": {"num_layers": 24, "num_attention_heads": 12, "attention_head_dim": 128},
    "XL": {"num_layers": 32, "num_attention_heads": 16, "attention_head_dim": 128},
    "4B": {"num_layers": 36, "num_attention_heads": 32, "attention_head_dim": 80},
}


# 1. Token ids and visibility

# The columns of token ids. Text tokens have frame -1 and scale -1.
FRAME, SCALE, ROW, COLUMN, INDEX = range(5)


def video_token_ids(
    scale_schedule: ScaleSchedule, num_frames: int, first_frame: int = 0, device: torch.device | str | None = None
) -> torch.Tensor:
    """
    Where the tokens of whole frames stand.

    Args:
        scale_schedule (`tuple[tuple[int, int], ...]`): Grids, coarse to fine.
        num_frames (`int`): Number of latent frames.
        first_frame (`int`, defaults to 0): Index of the first of them.
        device (`torch.device`, *optional*): Device of the result.

    Returns:
        `torch.Tensor` of shape `(num_frames * L, 5)`: Long; columns are latent frame, scale, row, column (of the scale's own
        grid) and index in the sequence of video tokens.
    """
    rows = [
        (0, scale, row, column, 0)
        for scale, (height, width) in enumerate(scale_schedule)
        for row in range(height)
        for column in range(width)
    ]
    ids = torch.tensor(rows, dtype=torch.long, device=device).repeat(num_frames, 1)
    frames = torch.arange(first_frame, first_frame + num_frames, device=device)
    ids[:, FRAME] = frames.repeat_interleave(tokens_per_frame(scale_schedule))
    ids[:, INDEX] = torch.arange(len(ids), device=device) + first_frame * tokens_per_frame(scale_schedule)
    return ids


def text_token_ids(num_tokens: int, device: torch.device | str | None = None) -> torch.Tensor:
    """Ids of text tokens, shape `(num_tokens, 5)`: frame and scale -1."""
    ids = torch.zeros(num_tokens, 5, dtype=torch.long, device=device)
    ids[:, [FRAME, SCALE]] = -1
    return ids


def is_visible(query_frame, query_scale, key_frame, key_scale, window=None):
    """
    The visibility rule, elementwise on tensors of ids that broadcast: everyone sees the text, text sees only text, a video
    token sees its own map, the coarser maps of its frame, and all maps of the earlier frames (VideoAR equation 9), of the
    last `window` of them if a window is given.
    """
    earlier = key_frame < query_frame
    if window is not None:
        earlier = earlier & (key_frame >= query_frame - window)
    return (key_frame < 0) | earlier | ((key_frame == query_frame) & (key_scale <= query_scale))


def block_causal_mask(
    query_ids: torch.Tensor,
    key_ids: torch.Tensor,
    window: int | None = None,
    frame_keep: torch.Tensor | None = None,
    text_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """
    The visibility rule as a 4D boolean mask.

    Args:
        query_ids (`torch.Tensor` of shape `(Q, 5)`): Token ids of the queries.
        key_ids (`torch.Tensor` of shape `(S, 5)`): Token ids of the keys; text first.
        window (`int`, *optional*): Number of earlier latent frames that a token sees; all of them when `None`.
        frame_keep (`torch.Tensor` of shape `(B, T, T)`, *optional*):
            Random Frame Mask: `False` at `[b, i, j]` hides frame `j` from the tokens of frame `i > j`.
        text_mask (`torch.Tensor` of shape `(B, N)`, *optional*): `False` at padded text tokens, the first `N` keys.

    Returns:
        `torch.Tensor` of shape `(1 or B, 1, Q, S)`: Boolean, `True` where a query sees a key.
    """
    query_frame, query_scale = query_ids[:, None, FRAME], query_ids[:, None, SCALE]
    key_frame, key_scale = key_ids[None, :, FRAME], key_ids[None, :, SCALE]
    mask = is_visible(query_frame, query_scale, key_frame, key_scale, window)[None]  # (1, Q, S)
    if frame_keep is not None:
        is_earlier = (key_frame >= 0) & (key_frame < query_frame)
        kept = frame_keep[:, query_frame.clamp(min=0), key_frame.clamp(min=0)]  # (B, Q, S)
        mask = mask & (kept | ~is_earlier)
    if text_mask is not None:
        padding = F.pad(text_mask.bool(), (0, len(key_ids) - text_mask.shape[1]), value=True)
        mask = mask & padding[:, None, :]
    return mask[:, None]


# 2. Multi-scale Temporal RoPE


class VideoARRotaryPosEmbed(nn.Module):
    """
    Multi-scale Temporal RoPE (VideoAR section 4.2). A video token of latent frame `t` at `(h, w)` of its scale's own grid has
    the position `(t, h, w)`, text token `i` of `N` has `(i - N, i - N, i - N)`. Attention depends on differences alone, so
    this is the paper's `(t + N, h + N, w + N)` and `(i, i, i)`, with video positions that do not depend on the prompt. Scales
    are told apart by the scale embedding alone.

    Every frequency band belongs to one axis, and a token with equal indices rotates as in one-dimensional RoPE.

    Args:
        head_dim (`int`): Width of a head, even.
        theta (`float`): Base of the frequencies.
        axes_layout (`str`):
            `"interleaved"`: bands go to time, height, width in turn. `"sectioned"`: the first third belongs to time, the
            second to height, the last to width.
        rope_type (`str`): `"multiscale_temporal"`, or `"1d"` for the index in the sequence on every band (the ablation).
    """

    def __init__(self, head_dim: int, theta: float, axes_layout: str, rope_type: str):
        super().__init__()
        self.num_bands = head_dim // 2
        self.theta = theta
        self.axes_layout = axes_layout
        self.rope_type = rope_type

    def video_positions(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Positions `(S, 3)` of video tokens."""
        if self.rope_type == "1d":
            return token_ids[:, INDEX, None].expand(-1, 3)
        # A list as index would be copied to the device, which a CUDA graph cannot record.
        return torch.stack([token_ids[:, axis] for axis in (FRAME, ROW, COLUMN)], dim=-1)

    def text_positions(self, text_mask: torch.Tensor | None, num_tokens: int, device: torch.device) -> torch.Tensor:
        """Positions `(1 or B, N, 3)` of text tokens, whose mask `(B, N)` is `False` at the padding behind them."""
        positions = torch.arange(num_tokens, device=device)[None]  # (1, N)
        if text_mask is None:
            positions = positions - num_tokens
        else:
            positions = positions - text_mask.sum(dim=1, keepdim=True)  # (B, N)
        return positions[..., None].expand(-1, -1, 3)

    def time_shift(self, num_frames: int, tokens_per_frame: int, device: torch.device) -> torch.Tensor:
        """The difference `(1, 3)` between positions that lie `num_frames` latent frames apart."""
        if self.rope_type == "1d":
            return torch.full((1, 3), num_frames * tokens_per_frame, device=device)
        return F.pad(torch.full((1, 1), num_frames, device=device), (0, 2))

    def forward(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            positions (`torch.Tensor` of shape `(..., S, 3)`): Position on each axis.

        Returns:
            `tuple[torch.Tensor, torch.Tensor]`: Cosines and sines, `(..., S, 1, head_dim // 2)`, float32.
        """
        # Computed on the device at every call: a buffer would lose its precision in a model cast to bfloat16.
        bands = torch.arange(self.num_bands, device=positions.device)
        frequencies = self.theta ** (-bands.to(torch.float32) / self.num_bands)
        axes = bands % 3 if self.axes_layout == "interleaved" else bands * 3 // self.num_bands
        angles = positions[..., None, axes].to(torch.float32) * frequencies  # (..., S, 1, bands)
        return angles.cos(), angles.sin()


def apply_rotary_embedding(hidden_states: torch.Tensor, rotary_embedding: tuple[torch.Tensor, torch.Tensor]):
    """Rotates `(B, S, H, head_dim)`; band `i` rotates channels `i` and `i + head_dim / 2`. Computed in float32."""
    cosine, sine = rotary_embedding
    # The float32 tables raise every product to float32 without a copy of the hidden states.
    first, second = hidden_states.chunk(2, dim=-1)
    rotated_first = torch.addcmul(first * cosine, second, sine, value=-1)
    rotated_second = torch.addcmul(second * cosine, first, sine)
    return torch.cat([rotated_first, rotated_second], dim=-1).to(hidden_states.dtype)


# 3. Key-value cache


class VideoARCacheLayer:
    """
    Keys and values of one layer: views of the container's storage.

    Args:
        container ([`VideoARKVCache`]): Knows how much is filled.
        keys (`torch.Tensor` of shape `(B, capacity, H, head_dim)`): Storage.
        values (`torch.Tensor` of shape `(B, capacity, H, head_dim)`): Storage.
    """

    def __init__(self, container: "VideoARKVCache", keys: torch.Tensor, values: torch.Tensor):
        self.container = container
        # The same memory, but no views: compiled blocks would be compiled anew whenever the shape of what they view changes.
        self.keys = keys.data
        self.values = values.data

    def update(self, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes new tokens `(B, S, H, head_dim)` behind the filled part; returns all that they may attend to."""
        start = self.container.length
        end = start + key.shape[1]
        self.keys[:, start:end] = key
        self.values[:, start:end] = value
        return self.keys[:, :end], self.values[:, :end]

    def get(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Filled keys and values, `(B, length, H, head_dim)`."""
        return self.keys[:, : self.container.length], self.values[:, : self.container.length]


class VideoARKVCache:
    """
    Preallocated keys and values of one generation. The storage is `[text | w frame slots | slot of the current frame]`: a
    frame is written to the first free slot, and when all are filled, the frame just finished replaces the oldest one of the
    ring, so that memory and the cost of a step stay constant. Attention does not depend on the order of keys, so everything
    visible is always one contiguous slice and no mask is needed.

    Args:
        num_layers (`int`): Transformer layers.
        batch_size (`int`): Sequences, both guidance branches counted.
        num_key_value_heads (`int`): Heads of keys and values.
        head_dim (`int`): Width of a head.
        text_length (`int`): `N`, text tokens with padding.
        tokens_per_frame (`int`): `L`.
        num_frames (`int`, *optional*): Latent frames that will be written; `None` for an endless video (needs `window`).
        window (`int`, *optional*): Earlier latent frames that a frame sees; `None` for all.
        max_text_distance (`int`, *optional*): See [`VideoARTransformer3DModel`].
        dtype (`torch.dtype`): Of the storage.
        device (`torch.device`): Of the storage.

    Raises:
        `ValueError`: Neither `num_frames` nor `window` is given.
    """

    def __init__(
        self,
        num_layers: int,
        batch_size: int,
        num_key_value_heads: int,
        head_dim: int,
        text_length: int,
        tokens_per_frame: int,
        num_frames: int | None,
        window: int | None,
        max_text_distance: int | None,
        dtype: torch.dtype,
        device: torch.device,
    ):
        if num_frames is None and window is None:
            raise ValueError("A video without end needs a `window`: pass `window` (latent frames) or `num_frames`.")
        slots = num_frames if window is None else window + 1 if num_frames is None else min(num_frames, window + 1)
        shape = (num_layers, batch_size, text_length + slots * tokens_per_frame, num_key_value_heads, head_dim)
        self.num_frames = num_frames
        self.window = window
        self.max_text_distance = max_text_distance
        self.text_length = text_length
        self.tokens_per_frame = tokens_per_frame
        # All storage is allocated here and never replaced: a recorded CUDA graph reads and writes fixed addresses.
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.text_mask_storage = torch.ones(batch_size, text_length, dtype=torch.bool, device=device)
        # Unshifted keys of the text, needed once the video outgrows `max_text_distance`.
        self.text_keys = None if max_text_distance is None else torch.zeros_like(self.keys[:, :, :text_length])
        self.layers = [VideoARCacheLayer(self, keys, values) for keys, values in zip(self.keys, self.values)]
        self.reset()

    def __getitem__(self, layer: int) -> VideoARCacheLayer:
        return self.layers[layer]

    def reset(self) -> None:
        """Forgets everything; the storage is kept."""
        self.length = 0
        self.num_written = 0
        self.text_mask = None
        self.text_shift = 0

    def set_text(self, text_mask: torch.Tensor | None) -> None:
        """Called when the text has been written; `text_mask` `(B, N)` is `False` at padding, `None` without padding."""
        self.length = max(self.length, self.text_length)
        self.text_mask = None if text_mask is None else self.text_mask_storage.copy_(text_mask)
        self.text_shift = 0
        if self.text_keys is not None:
            self.text_keys.copy_(self.keys[:, :, : self.text_length])

    def forget_frames(self) -> None:
        """Forgets the video and keeps the text: the next token is the first of latent frame 0."""
        self.length = self.text_length
        self.num_written = 0
        self.text_shift = 0
        if self.text_keys is not None:
            self.keys[:, :, : self.text_length] = self.text_keys

    def with_text_length(self, text_length: int) -> "VideoARKVCache":
        """A copy that has room for another number of text tokens. The frames are kept, the text has to be written again."""
        resized = copy.copy(self)
        resized.text_length = text_length
        resized.length = self.length - self.text_length + text_length
        resized.text_mask = None
        for name in ("keys", "values"):
            frames = getattr(self, name)[:, :, self.text_length :]
            setattr(resized, name, F.pad(frames, (0, 0, 0, 0, text_length, 0)))
        resized.text_mask_storage = self.text_mask_storage.new_ones(len(self.text_mask_storage), text_length)
        if self.text_keys is not None:
            resized.text_keys = torch.zeros_like(resized.keys[:, :, :text_length])
        resized.layers = [
            VideoARCacheLayer(resized, keys, values) for keys, values in zip(resized.keys, resized.values)
        ]
        return resized

    @property
    def time_shift(self) -> int:
        """By how many frames the text has to follow the current frame to stay within `max_text_distance`."""
        frame = self.num_written // self.tokens_per_frame
        return 0 if self.max_text_distance is None else max(0, frame - self.max_text_distance)

    @property
    def is_between_frames(self) -> bool:
        """Whether the next token is the first of a frame."""
        return self.num_written % self.tokens_per_frame == 0

    def make_room(self) -> None:
        """Between frames, when all slots are filled: moves the finished frame into the ring and frees the last slot."""
        if self.length < self.keys.shape[2]:
            return
        if self.num_frames is not None and self.num_written == self.num_frames * self.tokens_per_frame:
            raise ValueError(
                f"`kv_cache` was made for {self.num_frames} latent frames, which it holds: make a longer one."
            )
        finished = self.num_written // self.tokens_per_frame - 1
        source = self.length - self.tokens_per_frame
        target = self.text_length + (finished % self.window) * self.tokens_per_frame
        for storage in (self.keys, self.values):
            storage[:, :, target : target + self.tokens_per_frame] = storage[:, :, source : self.length]
        self.length = source

    def rewind(self, num_tokens: int) -> None:
        """Forgets the last video tokens, which are of the current frame or of the one just finished."""
        self.length -= num_tokens
        self.num_written -= num_tokens

    def advance(self, num_tokens: int) -> None:
        """Counts video tokens that every layer has written."""
        self.length += num_tokens
        self.num_written += num_tokens

    def attention_mask(self, num_new_tokens: int) -> torch.Tensor | None:
        """`None`, or the padding of the text as a mask `(B, 1, 1, length + num_new_tokens)`."""
        if self.text_mask is None:
            return None
        padding = F.pad(self.text_mask, (0, self.length + num_new_tokens - self.text_length), value=True)
        return padding[:, None, None, :]

    def maps_attention_mask(self, token_ids: torch.Tensor) -> torch.Tensor:
        """
        The mask of several maps behind the cache, which see everything in it.

        Args:
            token_ids (`torch.Tensor` of shape `(S, 5)`): Of the maps.

        Returns:
            `torch.Tensor` of shape `(1 or B, 1, S, length + S)`: Boolean.
        """
        mask = F.pad(block_causal_mask(token_ids, token_ids), (self.length, 0), value=True)
        padding = self.attention_mask(len(token_ids))
        return mask if padding is None else mask & padding


# 4. Attention


class VideoARAttnProcessor:
    """
    Self-attention over text and maps, with separate or fused (`fuse_qkv_projections`) projections, through any diffusers
    attention backend.
    """

    _attention_backend = None
    _parallel_config = None

    def __call__(
        self,
        attn: "VideoARAttention",
        hidden_states: torch.Tensor,
        rotary_embedding: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None = None,
        cache_layer: VideoARCacheLayer | None = None,
    ) -> torch.Tensor:
        if attn.fused_projections:
            query, key, value = attn.to_qkv(hidden_states).split(attn.projection_sizes, dim=-1)
        else:
            query, key, value = attn.to_q(hidden_states), attn.to_k(hidden_states), attn.to_v(hidden_states)
        query = query.unflatten(-1, (attn.heads, -1))  # (B, S, H, head_dim)
        key = key.unflatten(-1, (attn.key_value_heads, -1))
        value = value.unflatten(-1, (attn.key_value_heads, -1))

        if attn.norm_q is not None:
            query, key = attn.norm_q(query), attn.norm_k(key)
        query = apply_rotary_embedding(query, rotary_embedding)
        key = apply_rotary_embedding(key, rotary_embedding)

        if cache_layer is not None:
            key, value = cache_layer.update(key, value)
        if attn.key_value_heads != attn.heads:
            key = key.repeat_interleave(attn.heads // attn.key_value_heads, dim=2)
            value = value.repeat_interleave(attn.heads // attn.key_value_heads, dim=2)

        hidden_states = dispatch_attention_fn(
            query,
            key,
            value,
            attn_mask=attention_mask,
            backend=self._attention_backend,
            parallel_config=self._parallel_config,
        )
        return attn.to_out[0](hidden_states.flatten(2))  # (B, S, D)


class VideoARAttention(nn.Module, AttentionModuleMixin):
    """
    Args:
        dim (`int`): Width `D`.
        heads (`int`): Heads of queries.
        key_value_heads (`int`): Heads of keys and values, a divisor of `heads`.
        head_dim (`int`): Width of a head.
        qk_norm (`bool`): RMSNorm of queries and keys, per head.
        eps (`float`): Of the norms.
    """

    _default_processor_cls = VideoARAttnProcessor
    _available_processors = [VideoARAttnProcessor]

    def __init__(self, dim: int, heads: int, key_value_heads: int, head_dim: int, qk_norm: bool, eps: float):
        super().__init__()
        self.heads = heads
        self.key_value_heads = key_value_heads
        self.projection_sizes = (heads * head_dim, key_value_heads * head_dim, key_value_heads * head_dim)
        self.use_bias = False
        self.is_cross_attention = False
        self.to_q = nn.Linear(dim, self.projection_sizes[0], bias=False)
        self.to_k = nn.Linear(dim, self.projection_sizes[1], bias=False)
        self.to_v = nn.Linear(dim, self.projection_sizes[2], bias=False)
        self.norm_q = nn.RMSNorm(head_dim, eps=eps) if qk_norm else None
        self.norm_k = nn.RMSNorm(head_dim, eps=eps) if qk_norm else None
        self.to_out = nn.ModuleList([nn.Linear(heads * head_dim, dim, bias=False)])
        self.set_processor(self._default_processor_cls())

    def forward(
        self,
        hidden_states: torch.Tensor,
        rotary_embedding: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None = None,
        cache_layer: VideoARCacheLayer | None = None,
    ) -> torch.Tensor:
        return self.processor(self, hidden_states, rotary_embedding, attention_mask, cache_layer)


# 5. Block


class VideoARTransformerBlock(nn.Module):
    """
    Pre-norm attention and SwiGLU, without biases. What the SwiGLU adds is handed to the next block, which takes the sum right
    before its first norm, where a compiler makes one kernel of both.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        key_value_heads: int,
        head_dim: int,
        intermediate_size: int,
        qk_norm: bool,
        eps: float,
    ):
        super().__init__()
        self.norm1 = nn.RMSNorm(dim, eps=eps)
        self.attn = VideoARAttention(dim, heads, key_value_heads, head_dim, qk_norm, eps)
        self.norm2 = nn.RMSNorm(dim, eps=eps)
        self.ff = FeedForward(dim, inner_dim=intermediate_size, activation_fn="swiglu", bias=False)

    def forward(
        self,
        hidden_states: torch.Tensor,
        update: torch.Tensor,
        rotary_embedding: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None = None,
        cache_layer: VideoARCacheLayer | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        hidden_states = hidden_states + update
        attention_output = self.attn(self.norm1(hidden_states), rotary_embedding, attention_mask, cache_layer)
        hidden_states = hidden_states + attention_output
        return hidden_states, self.ff(self.norm2(hidden_states))


# 6. Model


def apply_offload_hooks(method):
    """
    Lets a method other than `forward` find the model's weights where it needs them: runs the hooks of accelerate's offloading
    and of diffusers' group offloading before and after it. (diffusers' own `apply_forward_hook` knows only the first, and only
    before.)
    """

    @functools.wraps(method)
    def wrapper(self, *args, **kwargs):
        registry = getattr(self, "_diffusers_hook", None)
        group_offloading = registry.get_hook("group_offloading") if registry is not None else None
        hooks = [hook for hook in (getattr(self, "_hf_hook", None), group_offloading) if hook is not None]
        for hook in hooks:
            hook.pre_forward(self)
        output = method(self, *args, **kwargs)
        for hook in reversed(hooks):
            output = hook.post_forward(self, output)
        return output

    return wrapper


class VideoARTransformer3DModel(ModelMixin, ConfigMixin, PeftAdapterMixin, AttentionMixin):
    r"""
    Predicts all bits of one (frame, scale) map at once, from the text, the earlier frames and the coarser maps of the frame.

    Args:
        in_channels (`int`, defaults to 48):
            Channels of the map inputs: `d`, or `2 * d` with the scheduler's `previous_frame_context="all_scales"`.
        out_channels (`int`, defaults to 48): `d`, bits of a token: one logit each.
        num_layers (`int`, defaults to 24): Blocks.
        num_attention_heads (`int`, defaults to 12): Heads.
        attention_head_dim (`int`, defaults to 128): Width of a head; the model's width is the product with the heads.
        num_key_value_heads (`int`, *optional*): Heads of keys and values; as many as heads when `None`.
        intermediate_size (`int`, *optional*): Hidden width of the SwiGLU; four times the model's width when `None`.
        text_embed_dim (`int`, defaults to 2048): Width of the text encoder.
        max_text_length (`int`, defaults to 512): Longest text, in tokens.
        max_scales (`int`, defaults to 16): Number of scale embeddings.
        qk_norm (`bool`, defaults to `True`): RMSNorm of queries and keys.
        norm_eps (`float`, defaults to 1e-6): Of every norm.
        rope_theta (`float`, defaults to 10000): Base of the rotary frequencies.
        rope_axes_layout (`str`, defaults to `"interleaved"`): `"interleaved"` or `"sectioned"`.
        rope_type (`str`, defaults to `"multiscale_temporal"`): Or `"1d"`.
        max_text_distance (`int`, *optional*):
            In a cached video, the text follows the current frame at this distance in latent frames, instead of falling back
            further than in training. Set it to the number of latent frames of the training clips, less one. Without it a
            video longer than those asks for distances never seen.
        sample_height (`int`, defaults to 8): Height of the latent grid that the pipeline generates by default.
        sample_width (`int`, defaults to 8): Width of that grid.
        sample_frames (`int`, defaults to 5): Latent frames that the pipeline generates by default.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ["VideoARTransformerBlock"]
    _repeated_blocks = ["VideoARTransformerBlock"]
    _skip_layerwise_casting_patterns = ["map_embedder", "scale_embedding", "start_embedding", "null_text", "norm"]
    _skip_keys = ["kv_cache"]
    # Whole sequences, as in training: text and maps are split behind the embedders and joined as bit logits.
    _cp_plan = {
        "rope": {
            0: ContextParallelInput(split_dim=1, expected_dims=4, split_output=True),
            1: ContextParallelInput(split_dim=1, expected_dims=4, split_output=True),
        },
        "blocks.0": {
            "hidden_states": ContextParallelInput(split_dim=1, expected_dims=3),
            "update": ContextParallelInput(split_dim=1, expected_dims=3),
        },
        "proj_out": ContextParallelOutput(gather_dim=1, expected_dims=3),
    }

    @register_to_config
    def __init__(
        self,
        in_channels: int = 48,
        out_channels: int = 48,
        num_layers: int = 24,
        num_attention_heads: int = 12,
        attention_head_dim: int = 128,
        num_key_value_heads: int | None = None,
        intermediate_size: int | None = None,
        text_embed_dim: int = 2048,
        max_text_length: int = 512,
        max_scales: int = 16,
        qk_norm: bool = True,
        norm_eps: float = 1e-6,
        rope_theta: float = 10000.0,
        rope_axes_layout: str = "interleaved",
        rope_type: str = "multiscale_temporal",
        max_text_distance: int | None = None,
        sample_height: int = 8,
        sample_width: int = 8,
        sample_frames: int = 5,
    ):
        super().__init__()
        dim = num_attention_heads * attention_head_dim
        key_value_heads = num_key_value_heads or num_attention_heads
        if num_attention_heads % key_value_heads != 0:
            raise ValueError(
                f"`num_key_value_heads` ({num_key_value_heads}) must divide `num_attention_heads` ({num_attention_heads})."
            )
        if rope_axes_layout not in ("interleaved", "sectioned"):
            raise ValueError(f"`rope_axes_layout` must be 'interleaved' or 'sectioned', got {rope_axes_layout!r}.")
        if rope_type not in ("multiscale_temporal", "1d"):
            raise ValueError(f"`rope_type` must be 'multiscale_temporal' or '1d', got {rope_type!r}.")

        # 1. Maps and text
        self.map_embedder = nn.Linear(in_channels, dim)
        self.start_embedding = nn.Parameter(torch.randn(dim) * 0.02)
        self.scale_embedding = nn.Embedding(max_scales, dim)
        self.text_embedder = PixArtAlphaTextProjection(text_embed_dim, dim)
        self.null_text = nn.Parameter(torch.randn(max_text_length, text_embed_dim) * text_embed_dim**-0.5)

        # 2. Positions
        self.rope = VideoARRotaryPosEmbed(attention_head_dim, rope_theta, rope_axes_layout, rope_type)

        # 3. Blocks
        self.blocks = nn.ModuleList(
            VideoARTransformerBlock(
                dim,
                num_attention_heads,
                key_value_heads,
                attention_head_dim,
                intermediate_size or 4 * dim,
                qk_norm,
                norm_eps,
            )
            for _ in range(num_layers)
        )

        # 4. Bits
        self.norm_out = nn.RMSNorm(dim, eps=norm_eps)
        self.proj_out = nn.Linear(dim, out_channels)

        self.gradient_checkpointing = False

    @torch.no_grad()
    def initialize_weights(self, generator: torch.Generator | None = None) -> None:
        """Weights for training from scratch: normal with deviation 0.02, outputs of residual branches scaled by depth."""
        for name, parameter in self.named_parameters():
            if parameter.ndim < 2 or name == "null_text":
                continue
            residual = name.endswith(("attn.to_out.0.weight", "ff.net.2.weight"))
            deviation = 0.02 * ((2 * self.config.num_layers) ** -0.5 if residual else 1)
            parameter.normal_(0, deviation, generator=generator)

    @apply_offload_hooks
    def null_text_embeds(self, batch_size: int, num_tokens: int) -> torch.Tensor:
        """
        The learned text of the unconditional branch, as long as the conditional one.

        Returns:
            `torch.Tensor` of shape `(batch_size, num_tokens, text_embed_dim)`.

        Raises:
            `ValueError`: `num_tokens` is more than `max_text_length`.
        """
        if num_tokens > self.config.max_text_length:
            raise ValueError(
                f"`num_tokens` is {num_tokens}, the longest text of this model is {self.config.max_text_length} tokens: "
                "lower `max_sequence_length`."
            )
        return self.null_text[:num_tokens].expand(batch_size, -1, -1)

    def pack_linear_layers(self) -> None:
        """
        Lays the weights of the blocks out for oneDNN, which makes inference on a CPU faster (1.3 to 2 times). They have no
        gradients afterwards and cannot move to another device or dtype. Call it after `fuse_qkv_projections()` and after
        loading adapters.

        Raises:
            `ValueError`: The model is not on a CPU, or neither in float32 nor in bfloat16.
        """
        pack_linear_layers(self.blocks)

    def make_cache(
        self,
        batch_size: int,
        text_length: int,
        tokens_per_frame: int,
        num_frames: int | None,
        window: int | None = None,
        device: torch.device | str | None = None,
    ) -> VideoARKVCache:
        """An empty [`VideoARKVCache`] for this model, in its dtype, on `device` (its own when `None`)."""
        return VideoARKVCache(
            num_layers=self.config.num_layers,
            batch_size=batch_size,
            num_key_value_heads=self.config.num_key_value_heads or self.config.num_attention_heads,
            head_dim=self.config.attention_head_dim,
            text_length=text_length,
            tokens_per_frame=tokens_per_frame,
            num_frames=num_frames,
            window=window,
            max_text_distance=self.config.max_text_distance,
            dtype=self.dtype,
            device=self.device if device is None else device,
        )

    @apply_offload_hooks
    @apply_lora_scale("attention_kwargs")
    def encode_text(
        self,
        encoder_hidden_states: torch.Tensor,
        kv_cache: VideoARKVCache,
        encoder_attention_mask: torch.Tensor | None = None,
        attention_kwargs: dict | None = None,
    ) -> None:
        """
        Writes the text to the cache. On a cache that already holds frames, the text is replaced from the next map on: old
        frames keep the keys and values they got from the old text.

        Args:
            encoder_hidden_states (`torch.Tensor` of shape `(B, N, text_embed_dim)`): Text states.
            kv_cache ([`VideoARKVCache`]): Changed in place.
            encoder_attention_mask (`torch.Tensor` of shape `(B, N)`, *optional*):
                Boolean, `False` at padding. Pass `None` when nothing is padded.
            attention_kwargs (`dict`, *optional*): `{"scale": s}` scales LoRA layers.

        Raises:
            `ValueError`: The cache was made for a text of another length.
        """
        if encoder_hidden_states.shape[1] != kv_cache.text_length:
            raise ValueError(
                f"`encoder_hidden_states` has {encoder_hidden_states.shape[1]} text tokens, but `kv_cache` was made for "
                f"{kv_cache.text_length}: make a new cache, or pad the text."
            )
        self._check_not_context_parallel()
        hidden_states = self.text_embedder(encoder_hidden_states.to(self.dtype))
        num_tokens = hidden_states.shape[1]
        positions = self.rope.text_positions(encoder_attention_mask, num_tokens, hidden_states.device)
        rotary_embedding = self.rope(positions)
        attention_mask = None if encoder_attention_mask is None else encoder_attention_mask.bool()[:, None, None, :]
        update = torch.zeros_like(hidden_states)
        length, kv_cache.length = kv_cache.length, 0
        for index, block in enumerate(self.blocks):
            hidden_states, update = block(hidden_states, update, rotary_embedding, attention_mask, kv_cache[index])
        kv_cache.length = length
        kv_cache.set_text(None if encoder_attention_mask is None else encoder_attention_mask.bool())
        self._shift_text(kv_cache)

    def rotary_embedding(self, token_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        What [`forward`] with a cache needs of positions. Its slices along `S` are those of the slices of `token_ids`, so one
        call serves all maps of a frame.

        Args:
            token_ids (`torch.Tensor` of shape `(S, 5)`): See [`video_token_ids`].

        Returns:
            `tuple[torch.Tensor, torch.Tensor]`: Cosines and sines, `(1, S, 1, head_dim // 2)`, float32.
        """
        return self.rope(self.rope.video_positions(token_ids)[None])

    def begin_frame(self, kv_cache: VideoARKVCache) -> None:
        """
        Between two frames, frees a slot of the cache and lets the text follow. `forward` calls it; to call it before, as one
        does to keep what differs from frame to frame out of a recorded CUDA graph, changes nothing.
        """
        if kv_cache.is_between_frames:
            kv_cache.make_room()
            self._shift_text(kv_cache)

    def _shift_text(self, kv_cache: VideoARKVCache) -> None:
        """Turns the cached text keys so that the text stays within `max_text_distance` of the current frame."""
        if kv_cache.time_shift == kv_cache.text_shift:
            return
        kv_cache.text_shift = kv_cache.time_shift
        shift = self.rope.time_shift(kv_cache.time_shift, kv_cache.tokens_per_frame, kv_cache.keys.device)
        kv_cache.keys[:, :, : kv_cache.text_length] = apply_rotary_embedding(kv_cache.text_keys, self.rope(shift))

    @property
    def _context_parallel_degree(self) -> int:
        config = self._parallel_config and self._parallel_config.context_parallel_config
        return config.ulysses_degree * config.ring_degree if config else 1

    def _check_context_parallel(self, num_tokens: int) -> None:
        degree = self._context_parallel_degree
        if num_tokens % degree != 0:
            raise ValueError(
                f"The sequence has {num_tokens} tokens of text and video, which cannot be split evenly over {degree} processes "
                f"(`enable_parallelism`): pad the text by {-num_tokens % degree} tokens."
            )

    def _check_not_context_parallel(self) -> None:
        if self._context_parallel_degree > 1:
            raise ValueError(
                "`enable_parallelism` splits whole sequences, as in training; a step with `kv_cache` may have a single token. "
                "Generate with a model without it."
            )

    @apply_lora_scale("attention_kwargs")
    def forward(
        self,
        hidden_states: torch.Tensor,
        token_ids: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        text_drop_mask: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        kv_cache: VideoARKVCache | None = None,
        rotary_embedding: tuple[torch.Tensor, torch.Tensor] | None = None,
        attention_kwargs: dict | None = None,
        return_dict: bool = True,
    ) -> Transformer2DModelOutput | tuple[torch.Tensor]:
        """
        Either a whole sequence at once (teacher forcing, `encoder_hidden_states` given), or the next map or maps behind a
        cache (`kv_cache` given, its text written by [`encode_text`]). Both give the same logits.

        Args:
            hidden_states (`torch.Tensor` of shape `(B, S, in_channels)`): Map inputs, see `quantization.map_inputs`.
            token_ids (`torch.Tensor` of shape `(S, 5)`): See [`video_token_ids`].
            encoder_hidden_states (`torch.Tensor` of shape `(B, N, text_embed_dim)`, *optional*): Text states.
            encoder_attention_mask (`torch.Tensor` of shape `(B, N)`, *optional*):
                Boolean, `False` at padded text. Padding stands behind the text.
            text_drop_mask (`torch.Tensor` of shape `(B,)`, *optional*):
                Boolean; text of these samples is replaced by the learned null text (guidance dropout in training).
            attention_mask (`torch.Tensor` or `BlockMask`, *optional*):
                Boolean, `(1 or B, 1, N + S, N + S)`, or with a cache `(1 or B, 1, S, filled + S)`. Without a cache `None`
                stands for the block-causal mask over all earlier frames; with a cache, for "sees everything in the cache
                and all of this call", which is right for a call with one map. Several maps behind a cache need
                [`~VideoARKVCache.maps_attention_mask`].
            kv_cache ([`VideoARKVCache`], *optional*): Changed in place.
            rotary_embedding (`tuple[torch.Tensor, torch.Tensor]`, *optional*):
                With a cache, [`~VideoARTransformer3DModel.rotary_embedding`] of `token_ids`; computed if not given.
            attention_kwargs (`dict`, *optional*): `{"scale": s}` scales LoRA layers.
            return_dict (`bool`, defaults to `True`): Whether to return an output object instead of a tuple.

        Returns:
            [`~diffusers.models.modeling_outputs.Transformer2DModelOutput`] or `tuple`: `sample`, the bit logits
            `(B, S, out_channels)`.

        Raises:
            `ValueError`: Not exactly one of `encoder_hidden_states` and `kv_cache` is given, or the cache is full; or with context
                parallelism, the sequence cannot be split evenly, or there is a cache.
        """
        if (encoder_hidden_states is None) == (kv_cache is None):
            raise ValueError(
                "Pass exactly one of `encoder_hidden_states` (a whole sequence) and `kv_cache` (the next maps; its text is "
                "written by `encode_text`)."
            )

        if kv_cache is None:
            self._check_context_parallel(encoder_hidden_states.shape[1] + token_ids.shape[0])
        else:
            self._check_not_context_parallel()

        # 1. Maps
        frames, scales = token_ids[:, FRAME], token_ids[:, SCALE]
        # The dtype of a parameter that no hook changes: `self.dtype` looks at every module, which takes longer than a block.
        hidden_states = self.map_embedder(hidden_states.to(self.start_embedding.dtype))  # (B, S, D)
        is_start = ((frames == 0) & (scales == 0))[:, None]
        hidden_states = torch.where(is_start, self.start_embedding.to(hidden_states.dtype), hidden_states)
        hidden_states = hidden_states + self.scale_embedding(scales).to(hidden_states.dtype)

        # 2. Text in front, or the cache
        num_text_tokens = 0
        if kv_cache is not None:
            self.begin_frame(kv_cache)
            if rotary_embedding is None:
                rotary_embedding = self.rotary_embedding(token_ids)
            if attention_mask is None:
                attention_mask = kv_cache.attention_mask(token_ids.shape[0])
        else:
            num_text_tokens = encoder_hidden_states.shape[1]
            if text_drop_mask is not None:
                null_text = self.null_text[:num_text_tokens].to(encoder_hidden_states.dtype)
                encoder_hidden_states = torch.where(text_drop_mask[:, None, None], null_text, encoder_hidden_states)
            text = self.text_embedder(encoder_hidden_states.to(self.dtype))
            hidden_states = torch.cat([text.to(hidden_states.dtype), hidden_states], dim=1)  # (B, N + S, D)
            text_positions = self.rope.text_positions(encoder_attention_mask, num_text_tokens, token_ids.device)
            positions = self.rope.video_positions(token_ids).expand(text_positions.shape[0], -1, -1)
            rotary_embedding = self.rope(torch.cat([text_positions, positions], dim=1))
            if attention_mask is None:
                ids = torch.cat([text_token_ids(num_text_tokens, token_ids.device), token_ids])
                attention_mask = block_causal_mask(ids, ids, text_mask=encoder_attention_mask)

        # 3. Blocks
        update = torch.zeros_like(hidden_states)
        for index, block in enumerate(self.blocks):
            if torch.is_grad_enabled() and self.gradient_checkpointing and kv_cache is None:
                hidden_states, update = self._gradient_checkpointing_func(
                    block, hidden_states, update, rotary_embedding, attention_mask
                )
            else:
                cache_layer = kv_cache[index] if kv_cache is not None else None
                hidden_states, update = block(hidden_states, update, rotary_embedding, attention_mask, cache_layer)
        if kv_cache is not None:
            kv_cache.advance(token_ids.shape[0])

        # 4. Bits; the text is left out last, because only the logits of a sequence that was split are whole
        logits = self.proj_out(self.norm_out(hidden_states + update))[:, num_text_tokens:]  # (B, S, d)
        if not return_dict:
            return (logits,)
        return Transformer2DModelOutput(sample=logits)
