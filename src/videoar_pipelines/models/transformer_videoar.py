# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
The block-causal transformer of VideoAR (section 4.2 of the paper): one sequence `[text | frame 0: scale 0 … K-1 | frame 1 …]`,
LLaMA-like blocks, Multi-scale Temporal RoPE, one logit for every bit.

Letters used in shapes: `B` batch, `T` latent frames, `K` scales, `L` tokens of a frame, `S` video tokens of a call, `N` text
tokens, `D` width, `H` heads, `d` bits of a token.
"""

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

from ..hub.mixins import HubModelMixin
from .compilation import compiled_for_many_sizes, make_alike
from .config_checks import check_kinds, check_numbers, check_positive_integers
from .kv_cache import AttentionPart, VideoARKVCache, VideoARKVLayerCache
from .offloading import apply_offload_hooks
from .packed_linear import pack_linear_layers
from .parallelism import ParallelTransformerMixin
from .step_caches import NoStepCacheMixin
from .token_layout import COLUMN, FRAME, INDEX, ROW, SCALE, block_causal_mask, token_blocks


# Width is `num_attention_heads * attention_head_dim`. Table of the paper, appendix A.
TRANSFORMER_CONFIGS = {
    "L": {"num_layers": 24, "num_attention_heads": 12, "attention_head_dim": 128},
    "XL": {"num_layers": 32, "num_attention_heads": 16, "attention_head_dim": 128},
    "4B": {"num_layers": 36, "num_attention_heads": 32, "attention_head_dim": 80},
}


# 1. Multi-scale Temporal RoPE


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


# 2. Attention


def attend_by_products(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """
    Attention by two matrix products. It keeps all probabilities for the backward pass, and there, in bfloat16 on a CPU, takes less than
    half the time of PyTorch's fused kernel, see `training.attention_masks`.

    Args:
        query (`torch.Tensor` of shape `(B, Q, H, head_dim)`): Queries.
        key (`torch.Tensor` of shape `(B, S, H, head_dim)`): Keys.
        value (`torch.Tensor` of shape `(B, S, H, head_dim)`): Values.
        mask (`torch.Tensor` of shape `(1 or B, 1, 1 or Q, S)`, *optional*): Boolean, `True` where a query sees a key.

    Returns:
        `torch.Tensor` of shape `(B, Q, H, head_dim)`
    """
    query, key, value = (states.transpose(1, 2) for states in (query, key, value))
    scores = (query * query.shape[-1] ** -0.5) @ key.mT  # (B, H, Q, S)
    if mask is not None:
        scores = torch.where(mask, scores, torch.finfo(scores.dtype).min)
    return (scores.softmax(dim=-1) @ value).transpose(1, 2)


class VideoARAttnProcessor:
    """
    Self-attention over text and maps, with separate or fused (`fuse_qkv_projections`) projections, through any diffusers
    attention backend. Parts that attend by themselves are trained in bfloat16 on a CPU by [`attend_by_products`].
    """

    _attention_backend = None
    _parallel_config = None

    def __call__(
        self,
        attn: "VideoARAttention",
        hidden_states: torch.Tensor,
        rotary_embedding: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | tuple[AttentionPart, ...] | None = None,
        kv_cache: VideoARKVLayerCache | None = None,
    ) -> torch.Tensor:
        if attn.fused_projections:
            query, key, value = attn.to_qkv(hidden_states).split(attn.projection_sizes, dim=-1)
        else:
            query, key, value = attn.to_q(hidden_states), attn.to_k(hidden_states), attn.to_v(hidden_states)
        query = query.unflatten(-1, (-1, attn.head_dim))  # (B, S, H, head_dim)
        key = key.unflatten(-1, (-1, attn.head_dim))
        value = value.unflatten(-1, (-1, attn.head_dim))

        if attn.norm_q is not None:
            query, key = attn.norm_q(query), attn.norm_k(key)
        query = apply_rotary_embedding(query, rotary_embedding)
        key = apply_rotary_embedding(key, rotary_embedding)

        if kv_cache is not None:
            key, value = kv_cache.update(key, value)
        if attn.key_value_heads != attn.heads:
            key = key.repeat_interleave(attn.heads // attn.key_value_heads, dim=2)
            value = value.repeat_interleave(attn.heads // attn.key_value_heads, dim=2)

        if isinstance(attention_mask, tuple):
            is_trained = query.requires_grad and query.device.type == "cpu" and query.dtype == torch.bfloat16
            attend = attend_by_products if is_trained else self.attend
            queries = query.split([part.num_queries for part in attention_mask], dim=1)
            hidden_states = torch.cat(
                [
                    attend(part_query, key[:, : part.num_keys], value[:, : part.num_keys], part.mask)
                    for part_query, part in zip(queries, attention_mask)
                ],
                dim=1,
            )
        else:
            hidden_states = self.attend(query, key, value, attention_mask)
        return attn.to_out[0](hidden_states.flatten(2))  # (B, S, D)

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        return dispatch_attention_fn(
            query,
            key,
            value,
            attn_mask=mask,
            backend=self._attention_backend,
            parallel_config=self._parallel_config,
        )


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
        self.head_dim = head_dim
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
        attention_mask: torch.Tensor | tuple[AttentionPart, ...] | None = None,
        kv_cache: VideoARKVLayerCache | None = None,
    ) -> torch.Tensor:
        return self.processor(self, hidden_states, rotary_embedding, attention_mask, kv_cache)


# 3. Block


class VideoARTransformerBlock(nn.Module):
    """Pre-norm attention and SwiGLU, without biases."""

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
        rotary_embedding: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | tuple[AttentionPart, ...] | None = None,
        kv_cache: VideoARKVLayerCache | None = None,
    ) -> torch.Tensor:
        attention_output = self.attn(self.norm1(hidden_states), rotary_embedding, attention_mask, kv_cache)
        hidden_states = hidden_states + attention_output
        return hidden_states + self.ff(self.norm2(hidden_states))  # (B, S, D)


# 4. Conditions of latent frames


class VideoARFrameCondition(nn.Module):
    """
    One condition of every latent frame, such as an action or a label, as a vector that is added to the inputs of all maps of the
    frame; with a learned null for the unconditional branch and for models that are given none.

    Args:
        dim (`int`): Width `D`.
        vector_size (`int`, *optional*): Length `c` of a vector; a linear layer embeds it.
        num_labels (`int`, *optional*): Number of labels; the condition is then one label in `0 … num_labels - 1`.
    """

    def __init__(self, dim: int, vector_size: int | None = None, num_labels: int | None = None):
        super().__init__()
        self.embedder = nn.Linear(vector_size, dim) if num_labels is None else nn.Embedding(num_labels, dim)
        self.null = nn.Parameter(torch.zeros(dim))

    def forward(
        self, condition: torch.Tensor | None, drop_mask: torch.Tensor | None, dtype: torch.dtype
    ) -> torch.Tensor:
        """
        `(B, T, c)` vectors, which are brought to `dtype`, or `(B, T, 1)` labels to `(B, T, D)`; the null where `drop_mask` `(B,)` is
        `True`. Without a condition the null, `(1, 1, D)`.
        """
        if condition is None:
            return self.null[None, None]
        if isinstance(self.embedder, nn.Embedding):
            embedded = self.embedder(condition[..., 0].long())
        else:
            embedded = self.embedder(condition.to(dtype))
        if drop_mask is None:
            return embedded
        return torch.where(drop_mask[:, None, None], self.null.to(embedded.dtype), embedded)


# 5. Model


class VideoARTransformer3DModel(
    HubModelMixin,
    ParallelTransformerMixin,
    NoStepCacheMixin,
    ModelMixin,
    ConfigMixin,
    PeftAdapterMixin,
    AttentionMixin,
):
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
        frame_conditions (`dict[str, dict]`, *optional*):
            Conditions of every latent frame by name, each `{"vector_size": c}` or `{"num_labels": n}`. Not in the paper.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ["VideoARTransformerBlock"]
    _repeated_blocks = ["VideoARTransformerBlock"]
    _skip_layerwise_casting_patterns = ["map_embedder", "scale_embedding"]
    _skip_keys = ["kv_cache"]
    # Whole sequences, as in training: text and maps are split behind the embedders and joined as bit logits.
    _cp_plan = {
        "rope": {
            0: ContextParallelInput(split_dim=1, expected_dims=4, split_output=True),
            1: ContextParallelInput(split_dim=1, expected_dims=4, split_output=True),
        },
        "blocks.0": {
            "hidden_states": ContextParallelInput(split_dim=1, expected_dims=3),
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
        frame_conditions: dict[str, dict] | None = None,
    ):
        super().__init__()
        self._check_config()
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
        for name, arguments in (frame_conditions or {}).items():
            if not isinstance(arguments, dict) or list(arguments) not in (["vector_size"], ["num_labels"]):
                raise ValueError(
                    f"`frame_conditions[{name!r}]` must be {{'vector_size': c}} or {{'num_labels': n}}, got {arguments}."
                )

        # 1. Maps, conditions and text
        self.map_embedder = nn.Linear(in_channels, dim)
        self.start_embedding = nn.Parameter(torch.randn(dim) * 0.02)
        self.scale_embedding = nn.Embedding(max_scales, dim)
        self.condition_embedders = nn.ModuleDict(
            {name: VideoARFrameCondition(dim, **arguments) for name, arguments in (frame_conditions or {}).items()}
        )
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

    def _check_config(self) -> None:
        config = self.config
        counts = [
            *(
                "in_channels",
                "out_channels",
                "num_layers",
                "num_attention_heads",
                "attention_head_dim",
                "text_embed_dim",
            ),
            *("max_text_length", "max_scales", "sample_height", "sample_width", "sample_frames"),
        ]
        check_kinds(config, counts, int)
        check_positive_integers(config, [*counts, "num_key_value_heads", "intermediate_size"])
        check_positive_integers(config, ["max_text_distance"], least=0)
        check_numbers(config, ["norm_eps"], 0, 1)
        check_numbers(config, ["rope_theta"], 1, 1e12)
        check_kinds(config, ["qk_norm"], bool)
        check_kinds(config, ["frame_conditions"], dict, type(None))
        if config.attention_head_dim % 2 != 0:
            raise ValueError(f"`attention_head_dim` must be even, got {config.attention_head_dim}.")

    def compile_repeated_blocks(self, *args, **kwargs) -> None:
        """
        As in diffusers. With `dynamic=True` all calls of a pipeline together compile at most four graphs: for one sequence or
        several, with or without a mask.
        """
        super().compile_repeated_blocks(*args, **kwargs)
        for block in self.blocks:
            block._compiled_call_impl = compiled_for_many_sizes(block._compiled_call_impl)

    @property
    def _has_compiled_blocks(self) -> bool:
        return self.blocks[0]._compiled_call_impl is not None if self.blocks else False

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
            `ValueError`: The model is not on a CPU, neither in float32 nor in bfloat16, or shared by processes.
        """
        self._check_not_tensor_parallel("pack_linear_layers")
        pack_linear_layers(self.blocks)

    def make_cache(
        self,
        batch_size: int,
        text_length: int,
        tokens_per_frame: int,
        num_frames: int | None,
        window: int | None = None,
        sink_size: int = 0,
        device: torch.device | str | None = None,
    ) -> VideoARKVCache:
        """
        An empty [`VideoARKVCache`] for this model, in its dtype, on `device` (its own when `None`); with tensor parallelism, for the
        heads of this process.
        """
        num_heads = self.config.num_key_value_heads or self.config.num_attention_heads
        return VideoARKVCache(
            num_layers=self.config.num_layers,
            batch_size=batch_size,
            num_key_value_heads=num_heads // self.tensor_parallel_degree,
            head_dim=self.config.attention_head_dim,
            text_length=text_length,
            tokens_per_frame=tokens_per_frame,
            num_frames=num_frames,
            window=window,
            sink_size=sink_size,
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
        length = kv_cache.begin_text()
        if self._has_compiled_blocks:
            hidden_states, rotary_embedding, attention_mask = make_alike(
                hidden_states, rotary_embedding, attention_mask
            )
        for index, block in enumerate(self.blocks):
            hidden_states = block(hidden_states, rotary_embedding, attention_mask, kv_cache.get(index))
        kv_cache.end_text(length, encoder_attention_mask)
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
        if kv_cache.time_shift == kv_cache.cursor.text_shift:
            return
        kv_cache.cursor.text_shift = kv_cache.time_shift
        shift = self.rope.time_shift(kv_cache.time_shift, kv_cache.tokens_per_frame, kv_cache.keys.device)
        kv_cache.keys[:, :, : kv_cache.text_length] = apply_rotary_embedding(kv_cache.text_keys, self.rope(shift))

    def _embed_conditions(
        self,
        frames: torch.Tensor,
        hidden_states: torch.Tensor,
        frame_conditions: dict[str, torch.Tensor],
        drop_mask: torch.Tensor | None,
    ) -> torch.Tensor:
        """The sum `(1 or B, S, D)` of all conditions, for tokens of the latent frames `frames` `(S,)`."""
        frames = frames - frames[0]
        total = torch.zeros_like(hidden_states[:1])
        for name, embedder in self.condition_embedders.items():
            embedded = embedder(frame_conditions.get(name), drop_mask, total.dtype)
            if name in frame_conditions:
                embedded = embedded[:, frames]  # (B, T, D) to (B, S, D)
            total = total + embedded.to(total.dtype)
        return total

    @apply_lora_scale("attention_kwargs")
    def forward(
        self,
        hidden_states: torch.Tensor,
        token_ids: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        text_drop_mask: torch.Tensor | None = None,
        attention_mask: torch.Tensor | tuple[AttentionPart, ...] | None = None,
        kv_cache: VideoARKVCache | None = None,
        rotary_embedding: tuple[torch.Tensor, torch.Tensor] | None = None,
        frame_conditions: dict[str, torch.Tensor] | None = None,
        condition_drop_mask: torch.Tensor | None = None,
        attention_kwargs: dict | None = None,
        return_dict: bool = True,
    ) -> Transformer2DModelOutput | tuple[torch.Tensor]:
        """
        Either a whole sequence at once (teacher forcing, `encoder_hidden_states` given), or the next map or maps after a
        cache (`kv_cache` given, its text written by [`encode_text`]). Both give the same logits.

        Args:
            hidden_states (`torch.Tensor` of shape `(B, S, in_channels)`): Map inputs, see `quantization.map_inputs`.
            token_ids (`torch.Tensor` of shape `(S, 5)`): See [`video_token_ids`].
            encoder_hidden_states (`torch.Tensor` of shape `(B, N, text_embed_dim)`, *optional*): Text states.
            encoder_attention_mask (`torch.Tensor` of shape `(B, N)`, *optional*):
                Boolean, `False` at padded text. Padding stands after the text.
            text_drop_mask (`torch.Tensor` of shape `(B,)`, *optional*):
                Boolean; text of these samples is replaced by the learned null text (guidance dropout in training).
            attention_mask (`torch.Tensor`, `BlockMask` or `tuple[AttentionPart, ...]`, *optional*):
                Boolean, `(1 or B, 1, N + S, N + S)`, or with a cache `(1 or B, 1, S, filled + S)`. Without a cache `None`
                stands for the block-causal mask over all earlier frames; with a cache, for "sees everything in the cache
                and all of this call", which is right for a call with one map. Several maps after a cache need
                [`~VideoARKVCache.maps_attention_mask`], or parts that attend by themselves,
                [`~VideoARKVCache.round_attention_parts`].
            kv_cache ([`VideoARKVCache`], *optional*): Changed in place.
            rotary_embedding (`tuple[torch.Tensor, torch.Tensor]`, *optional*):
                With a cache, [`~VideoARTransformer3DModel.rotary_embedding`] of `token_ids`; computed if not given.
            frame_conditions (`dict[str, torch.Tensor]`, *optional*):
                By name, the condition `(B, T, c)` of every latent frame of this call (labels: `(B, T, 1)`), those of the
                configuration. A condition that is not given is the learned null.
            condition_drop_mask (`torch.Tensor` of shape `(B,)`, *optional*):
                Boolean; conditions of these samples are replaced by the learned null.
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
        if len(self.condition_embedders) > 0:
            hidden_states = hidden_states + self._embed_conditions(
                frames, hidden_states, frame_conditions or {}, condition_drop_mask
            )

        # 2. Text in front, or the cache
        num_text_tokens = 0
        if kv_cache is not None:
            self.begin_frame(kv_cache)
            if rotary_embedding is None:
                rotary_embedding = self.rotary_embedding(token_ids)
            if attention_mask is None:
                attention_mask = kv_cache.attention_mask(token_ids.shape[0])
            kv_cache.begin_maps(token_ids.shape[0])
            if self._has_compiled_blocks:
                hidden_states, rotary_embedding, attention_mask = make_alike(
                    hidden_states, rotary_embedding, attention_mask
                )
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
                blocks = F.pad(token_blocks(token_ids, self.config.max_scales), (num_text_tokens, 0))
                attention_mask = block_causal_mask(blocks, blocks, encoder_attention_mask)

        # 3. Blocks
        for index, block in enumerate(self.blocks):
            if torch.is_grad_enabled() and self.gradient_checkpointing and kv_cache is None:
                hidden_states = self._gradient_checkpointing_func(
                    block, hidden_states, rotary_embedding, attention_mask
                )
            else:
                layer_cache = kv_cache.get(index) if kv_cache is not None else None
                hidden_states = block(hidden_states, rotary_embedding, attention_mask, layer_cache)
        if kv_cache is not None:
            kv_cache.advance(token_ids.shape[0])

        # 4. Bits; the text is left out last, because only the logits of a sequence that was split are whole
        num_tokens = num_text_tokens + token_ids.shape[0]
        logits = self.proj_out(self.norm_out(hidden_states))[:, num_text_tokens:num_tokens]  # (B, S, d)
        if not return_dict:
            return (logits,)
        return Transformer2DModelOutput(sample=logits)
