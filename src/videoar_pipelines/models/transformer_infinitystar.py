# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
The transformer of InfinityStar (https://huggingface.co/papers/2511.04675): predicts all bits of one scale of one clip at once.
Grouped key-value heads, RMSNorm of queries and keys, SwiGLU, rotary positions on four axes, two logits for every bit.

Letters used in shapes: `B` batch, `S` video tokens of a call, `N` text tokens, `D` width, `H` heads, `d` bits of a token.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders import PeftAdapterMixin
from diffusers.models._modeling_parallel import ContextParallelInput, ContextParallelOutput
from diffusers.models.attention import AttentionMixin, AttentionModuleMixin, FeedForward
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry, dispatch_attention_fn
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput, apply_lora_scale

from ..hub.mixins import HubModelMixin
from .kv_cache_infinitystar import InfinityStarKVCache, KeyValue
from .offloading import apply_offload_hooks
from .packed_linear import pack_linear_layers
from .parallelism import ParallelTransformerMixin
from .step_caches import NoStepCacheMixin
from .token_layout_infinitystar import InfinityStarPass, pass_positions, sequence_mask, text_positions
from .transformer_videoar import apply_rotary_embedding


# 1. Positions


class InfinityStarRotaryPosEmbed(nn.Module):
    """
    Rotary positions on four axes. The bands are shared out evenly, a run for each axis, and frequencies start over with every
    axis: band `j` of an axis has `theta ** (-j / bands of the axis)`.

    Args:
        head_dim (`int`): Width of a head, a multiple of 8.
        theta (`float`): Base of the frequencies.
    """

    def __init__(self, head_dim: int, theta: float):
        super().__init__()
        self.bands_per_axis = head_dim // 8
        self.theta = theta

    def forward(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            positions (`torch.Tensor` of shape `(1, S, 4)`): Position on each axis, see `token_layout_infinitystar`.

        Returns:
            `tuple[torch.Tensor, torch.Tensor]`: Cosines and sines, `(1, S, 1, head_dim // 2)`, float32.
        """
        # Computed on the device at every call: a buffer would lose its precision in a model cast to bfloat16.
        bands = torch.arange(self.bands_per_axis, device=positions.device, dtype=torch.float32)
        frequencies = self.theta ** (-bands / self.bands_per_axis)
        angles = positions[..., None].to(torch.float32) * frequencies  # (1, S, 4, bands of an axis)
        angles = angles.flatten(-2)[:, :, None]  # (1, S, 1, head_dim // 2)
        return angles.cos(), angles.sin()


# 2. Attention


class InfinityStarAttnProcessor:
    """
    Self-attention over text and one map, with separate or fused (`fuse_qkv_projections`) projections, through any diffusers
    attention backend.
    """

    _attention_backend = None
    _parallel_config = None

    def __call__(
        self,
        attn: "InfinityStarAttention",
        hidden_states: torch.Tensor,
        rotary_embedding: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None = None,
        seen: KeyValue | None = None,
    ) -> tuple[torch.Tensor, KeyValue]:
        if attn.fused_projections:
            query, key, value = attn.to_qkv(hidden_states).split(attn.projection_sizes, dim=-1)
        else:
            query, key, value = attn.to_q(hidden_states), attn.to_k(hidden_states), attn.to_v(hidden_states)
        query = query.unflatten(-1, (-1, attn.head_dim))  # (B, S, H, head_dim)
        key = key.unflatten(-1, (-1, attn.head_dim))  # (B, S, key-value heads, head_dim)
        value = value.unflatten(-1, (-1, attn.head_dim))

        query = apply_rotary_embedding(attn.norm_q(query), rotary_embedding)
        key = apply_rotary_embedding(attn.norm_k(key), rotary_embedding)
        own = (key, value)
        if seen is not None:
            key, value = (torch.cat(pair, dim=1) for pair in zip(seen, own))

        is_grouped = attn.key_value_heads != attn.heads
        if is_grouped and not self._takes_grouped_heads(attention_mask):
            key = key.repeat_interleave(attn.heads // attn.key_value_heads, dim=2)
            value = value.repeat_interleave(attn.heads // attn.key_value_heads, dim=2)
            is_grouped = False
        hidden_states = dispatch_attention_fn(
            query,
            key,
            value,
            attn_mask=attention_mask,
            enable_gqa=is_grouped,
            backend=self._attention_backend,
            parallel_config=self._parallel_config,
        )
        return attn.to_out[0](hidden_states.flatten(2)), own  # (B, S, D)

    def _takes_grouped_heads(self, attention_mask: torch.Tensor | None) -> bool:
        """
        Whether the backend attends with fewer heads of keys than of queries. PyTorch's own does, but with a mask only by writing
        out all attention weights.
        """
        backend = self._attention_backend or _AttentionBackendRegistry.get_active_backend()[0]
        # Backends are strings too; making one of its name is what not every compiler can trace (torch 2.11)
        is_native = backend == AttentionBackendName.NATIVE
        return is_native and attention_mask is None and self._parallel_config is None


class InfinityStarAttention(nn.Module, AttentionModuleMixin):
    """
    Args:
        dim (`int`): Width `D`.
        heads (`int`): Heads of queries.
        key_value_heads (`int`): Heads of keys and values, a divisor of `heads`.
        head_dim (`int`): Width of a head.
        eps (`float`): Of the norms of queries and keys.
    """

    _default_processor_cls = InfinityStarAttnProcessor
    _available_processors = [InfinityStarAttnProcessor]

    def __init__(self, dim: int, heads: int, key_value_heads: int, head_dim: int, eps: float):
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
        self.norm_q = nn.RMSNorm(head_dim, eps=eps)
        self.norm_k = nn.RMSNorm(head_dim, eps=eps)
        self.to_out = nn.ModuleList([nn.Linear(heads * head_dim, dim, bias=False)])
        self.set_processor(self._default_processor_cls())

    def forward(
        self,
        hidden_states: torch.Tensor,
        rotary_embedding: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None = None,
        seen: KeyValue | None = None,
    ) -> tuple[torch.Tensor, KeyValue]:
        return self.processor(self, hidden_states, rotary_embedding, attention_mask, seen)


# 3. Block


class InfinityStarTransformerBlock(nn.Module):
    """
    Pre-norm attention and SwiGLU, without biases. Returns the keys and values of its tokens too: what is kept of them is decided
    outside, so that a compiled block has no state.
    """

    def __init__(self, dim: int, heads: int, key_value_heads: int, head_dim: int, intermediate_size: int, eps: float):
        super().__init__()
        self.norm1 = nn.RMSNorm(dim, eps=eps)
        self.attn = InfinityStarAttention(dim, heads, key_value_heads, head_dim, eps)
        self.norm2 = nn.RMSNorm(dim, eps=eps)
        self.ff = FeedForward(dim, inner_dim=intermediate_size, activation_fn="swiglu", bias=False)
        self.forward_chunk_size = None

    def forward(
        self,
        hidden_states: torch.Tensor,
        rotary_embedding: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None = None,
        seen: KeyValue | None = None,
    ) -> tuple[torch.Tensor, KeyValue]:
        attention_output, own = self.attn(self.norm1(hidden_states), rotary_embedding, attention_mask, seen)
        hidden_states = hidden_states + attention_output
        if self.forward_chunk_size is None:
            return hidden_states + self.ff(self.norm2(hidden_states)), own
        parts = [part + self.ff(self.norm2(part)) for part in hidden_states.split(self.forward_chunk_size, dim=1)]
        return torch.cat(parts, dim=1), own


# 4. Model


class Float32Linear(nn.Linear):
    """
    A linear layer computed in float32, whatever the dtype of the model. Guidance multiplies small differences of logits, which
    bfloat16 does not have.
    """

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return F.linear(hidden_states.float(), self.weight.float(), self.bias.float())


@dataclass
class InfinityStarTransformerOutput(BaseOutput):
    """
    Args:
        logits (`list[torch.Tensor]`):
            For every pass, `(B, T * h * w, d, 2)`, float32: the logits of bit 0 and bit 1. Their softmax is the probability of a
            bit; guidance is not a function of their difference, so both are needed.
    """

    logits: list[torch.Tensor]


class InfinityStarTransformer3DModel(
    HubModelMixin,
    ParallelTransformerMixin,
    NoStepCacheMixin,
    ModelMixin,
    ConfigMixin,
    PeftAdapterMixin,
    AttentionMixin,
):
    r"""
    Predicts the bits of a pass from the text, the sum of the passes before it in its clip (its input), and the last pass of the
    clip before. The defaults are the public 8B model.

    Args:
        in_channels (`int`, defaults to 64): Channels of the latents.
        semantic_bits (`int`, defaults to 16): Bits of a token of the coarse scales, which have a head of their own.
        detail_bits (`int`, defaults to 64): Bits of a token of the fine scales.
        num_layers (`int`, defaults to 36): Blocks.
        num_attention_heads (`int`, defaults to 32): Heads.
        attention_head_dim (`int`, defaults to 128):
            Width of a head, a multiple of 8; the model's width is the product with the heads.
        num_key_value_heads (`int`, defaults to 8): Heads of keys and values, a divisor of the heads.
        intermediate_size (`int`, defaults to 16384): Hidden width of the SwiGLU.
        text_embed_dim (`int`, defaults to 2048): Width of the text encoder.
        max_text_length (`int`, defaults to 512): Longest text, in tokens; passes are numbered from there on.
        norm_eps (`float`, defaults to 1e-6): Of every norm.
        rope_theta (`float`, defaults to 10000): Base of the rotary frequencies.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ["InfinityStarTransformerBlock"]
    _repeated_blocks = ["InfinityStarTransformerBlock"]
    _keep_in_fp32_modules = ["proj_out_semantic", "proj_out_detail"]
    _skip_layerwise_casting_patterns = ["map_embedder", "text_embedder", "null_text", "norm", "proj_out"]
    _skip_keys = ["kv_cache"]
    # Whole sequences, as in training: text and passes are split after the embedders and joined after the last norm.
    _cp_plan = {
        "rope": {
            0: ContextParallelInput(split_dim=1, expected_dims=4, split_output=True),
            1: ContextParallelInput(split_dim=1, expected_dims=4, split_output=True),
        },
        "blocks.0": {"hidden_states": ContextParallelInput(split_dim=1, expected_dims=3)},
        "norm_out": ContextParallelOutput(gather_dim=1, expected_dims=3),
    }

    @register_to_config
    def __init__(
        self,
        in_channels: int = 64,
        semantic_bits: int = 16,
        detail_bits: int = 64,
        num_layers: int = 36,
        num_attention_heads: int = 32,
        attention_head_dim: int = 128,
        num_key_value_heads: int = 8,
        intermediate_size: int = 16384,
        text_embed_dim: int = 2048,
        max_text_length: int = 512,
        norm_eps: float = 1e-6,
        rope_theta: float = 10000.0,
    ):
        super().__init__()
        dim = num_attention_heads * attention_head_dim
        if num_attention_heads % num_key_value_heads != 0:
            raise ValueError(
                f"`num_key_value_heads` ({num_key_value_heads}) must divide `num_attention_heads` ({num_attention_heads})."
            )
        if attention_head_dim % 8 != 0:
            raise ValueError(
                f"`attention_head_dim` ({attention_head_dim}) must be a multiple of 8: four axes share its pairs of channels."
            )

        # 1. Maps and text
        self.map_embedder = nn.Linear(in_channels, dim)
        self.text_embedder = nn.Linear(text_embed_dim, dim)
        self.null_text = nn.Parameter(torch.randn(max_text_length, text_embed_dim) * text_embed_dim**-0.5)

        # 2. Positions
        self.rope = InfinityStarRotaryPosEmbed(attention_head_dim, rope_theta)

        # 3. Blocks
        self.blocks = nn.ModuleList(
            InfinityStarTransformerBlock(
                dim, num_attention_heads, num_key_value_heads, attention_head_dim, intermediate_size, norm_eps
            )
            for _ in range(num_layers)
        )

        # 4. Bits
        self.norm_out = nn.RMSNorm(dim, eps=norm_eps)
        self.proj_out_semantic = Float32Linear(dim, 2 * semantic_bits)
        self.proj_out_detail = Float32Linear(dim, 2 * detail_bits)

        self.gradient_checkpointing = False

    def enable_forward_chunking(self, chunk_size: int = 8192) -> None:
        """
        Runs the SwiGLU of every block on `chunk_size` tokens at a time. At 720p its hidden states take 9.4 GiB a branch
        otherwise. The result is the same up to rounding.

        Raises:
            `ValueError`: `chunk_size` is less than 1.
        """
        if chunk_size < 1:
            raise ValueError(f"`chunk_size` has to be at least 1 token, got {chunk_size}.")
        for block in self.blocks:
            block.forward_chunk_size = chunk_size

    def disable_forward_chunking(self) -> None:
        """Undoes [`enable_forward_chunking`]."""
        for block in self.blocks:
            block.forward_chunk_size = None

    def pack_linear_layers(self) -> None:
        """
        Lays the weights of the blocks out for oneDNN, which makes inference on a CPU faster. They have no gradients afterwards
        and cannot move to another device or dtype. Call it after `fuse_qkv_projections()` and after loading adapters.

        Raises:
            `ValueError`: The model is not on a CPU, neither in float32 nor in bfloat16, or shared by processes.
        """
        self._check_not_tensor_parallel("pack_linear_layers")
        pack_linear_layers(self.blocks)

    def make_cache(self) -> InfinityStarKVCache:
        """An empty [`InfinityStarKVCache`] for this model."""
        return InfinityStarKVCache(self.config.num_layers)

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

    @apply_offload_hooks
    @apply_lora_scale("attention_kwargs")
    def encode_text(
        self,
        encoder_hidden_states: torch.Tensor,
        kv_cache: InfinityStarKVCache,
        encoder_attention_mask: torch.Tensor | None = None,
        attention_kwargs: dict | None = None,
    ) -> None:
        """
        Writes the text to the cache. A text and a video that were there are forgotten.

        Args:
            encoder_hidden_states (`torch.Tensor` of shape `(B, N, text_embed_dim)`): Text states.
            kv_cache ([`InfinityStarKVCache`]): Changed in place.
            encoder_attention_mask (`torch.Tensor` of shape `(B, N)`, *optional*):
                Boolean, `False` at padding, which stands after the text. `None` when nothing is padded.
            attention_kwargs (`dict`, *optional*): `{"scale": s}` scales LoRA layers.

        Raises:
            `ValueError`: The text is longer than `max_text_length`.
        """
        self._check_text_length(encoder_hidden_states)
        self._check_not_context_parallel()
        hidden_states = self.text_embedder(encoder_hidden_states.to(self.dtype))  # (B, N, D)
        rotary_embedding = self.rope(text_positions(hidden_states.shape[1], hidden_states.device)[None])
        text_mask = None if encoder_attention_mask is None else encoder_attention_mask.bool()
        attention_mask = None if text_mask is None else text_mask[:, None, None, :]
        for index, block in enumerate(self.blocks):
            hidden_states, own = block(hidden_states, rotary_embedding, attention_mask)
            kv_cache.get(index).store_text(*own)
        kv_cache.text_mask = text_mask

    @apply_lora_scale("attention_kwargs")
    def forward(
        self,
        hidden_states: torch.Tensor,
        passes: Sequence[InfinityStarPass],
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        text_drop_mask: torch.Tensor | None = None,
        kv_cache: InfinityStarKVCache | None = None,
        keep_map: bool = False,
        attention_kwargs: dict | None = None,
        return_dict: bool = True,
    ) -> InfinityStarTransformerOutput | tuple[list[torch.Tensor]]:
        """
        Either several passes at once (teacher forcing, `encoder_hidden_states` given), or the next pass of a video (`kv_cache`
        given, its text written by [`encode_text`]). Both give the same logits.

        Args:
            hidden_states (`torch.Tensor` of shape `(B, S, in_channels)`):
                Inputs of the passes, one after the other: the sum of the passes before, brought to the grid of the pass; zeros for
                the first pass of a clip.
            passes (`Sequence[InfinityStarPass]`): Their tokens are `S` together; exactly one with a cache.
            encoder_hidden_states (`torch.Tensor` of shape `(B, N, text_embed_dim)`, *optional*): Text states.
            encoder_attention_mask (`torch.Tensor` of shape `(B, N)`, *optional*):
                Boolean, `False` at padding, which stands after the text. `None` when nothing is padded.
            text_drop_mask (`torch.Tensor` of shape `(B,)`, *optional*):
                Boolean; text of these samples is replaced by the learned null text (guidance dropout in training).
            kv_cache ([`InfinityStarKVCache`], *optional*): Read, and with `keep_map` changed in place.
            keep_map (`bool`, defaults to `False`):
                With a cache, whether the next clip will see this pass. It replaces that of the clip before.
            attention_kwargs (`dict`, *optional*): `{"scale": s}` scales LoRA layers.
            return_dict (`bool`, defaults to `True`): Whether to return an output object instead of a tuple.

        Returns:
            [`InfinityStarTransformerOutput`] or `tuple`: `logits`, for every pass `(B, T * h * w, d, 2)`.

        Raises:
            `ValueError`: Not exactly one of `encoder_hidden_states` and `kv_cache` is given, there is not one pass with a cache,
                the passes do not have `S` tokens, or the text is too long; or with context parallelism, the sequence cannot be
                split evenly, or there is a cache.
        """
        self._check_inputs(hidden_states, passes, encoder_hidden_states, kv_cache)

        # 1. Maps
        device = hidden_states.device
        positions = torch.cat([pass_positions(item, self.config.max_text_length, device) for item in passes])
        hidden_states = self.map_embedder(hidden_states.to(self.dtype))  # (B, S, D)

        # 2. Text in front, or the cache
        num_text_tokens = 0
        if kv_cache is not None:
            attention_mask = kv_cache.attention_mask(len(positions))
        else:
            num_text_tokens = encoder_hidden_states.shape[1]
            if text_drop_mask is not None:
                null_text = self.null_text[:num_text_tokens].to(encoder_hidden_states.dtype)
                encoder_hidden_states = torch.where(text_drop_mask[:, None, None], null_text, encoder_hidden_states)
            text = self.text_embedder(encoder_hidden_states.to(self.dtype))
            hidden_states = torch.cat([text, hidden_states], dim=1)  # (B, N + S, D)
            positions = torch.cat([text_positions(num_text_tokens, device), positions])
            attention_mask = sequence_mask(passes, num_text_tokens, encoder_attention_mask, device)
        rotary_embedding = self.rope(positions[None])

        # 3. Blocks
        for index, block in enumerate(self.blocks):
            if torch.is_grad_enabled() and self.gradient_checkpointing and kv_cache is None:
                hidden_states, own = self._gradient_checkpointing_func(
                    block, hidden_states, rotary_embedding, attention_mask
                )
            else:
                seen = None if kv_cache is None else kv_cache.get(index).get()
                hidden_states, own = block(hidden_states, rotary_embedding, attention_mask, seen)
            if keep_map and kv_cache is not None:
                kv_cache.get(index).store_map(*own)

        # 4. Bits; the text is left out after the norm, because only there a sequence that was split is whole
        hidden_states = self.norm_out(hidden_states)[:, num_text_tokens:]  # (B, S, D)
        logits = []
        for item, states in zip(passes, hidden_states.split([item.num_tokens for item in passes], dim=1)):
            head = self.proj_out_semantic if item.num_bits == self.config.semantic_bits else self.proj_out_detail
            logits.append(head(states).unflatten(-1, (item.num_bits, 2)))  # (B, T * h * w, d, 2)
        if not return_dict:
            return (logits,)
        return InfinityStarTransformerOutput(logits=logits)

    def _check_inputs(self, hidden_states, passes, encoder_hidden_states, kv_cache) -> None:
        if (encoder_hidden_states is None) == (kv_cache is None):
            raise ValueError(
                "Pass exactly one of `encoder_hidden_states` (several passes at once) and `kv_cache` (the next pass; its text is "
                "written by `encode_text`)."
            )
        num_tokens = sum(item.num_tokens for item in passes)
        if num_tokens != hidden_states.shape[1]:
            raise ValueError(
                f"`hidden_states` has {hidden_states.shape[1]} tokens, but `passes` have {num_tokens}: pass the inputs of all of "
                "them and of no other."
            )
        if kv_cache is None:
            self._check_text_length(encoder_hidden_states)
            self._check_context_parallel(encoder_hidden_states.shape[1] + num_tokens)
            return
        self._check_not_context_parallel()
        if len(passes) != 1:
            raise ValueError(f"`passes` has {len(passes)} passes; with `kv_cache` a call is one pass.")
        if kv_cache.num_text_tokens == 0:
            raise ValueError("`kv_cache` has no text yet: call `encode_text` first.")

    def _check_text_length(self, encoder_hidden_states: torch.Tensor) -> None:
        if encoder_hidden_states.shape[1] > self.config.max_text_length:
            raise ValueError(
                f"`encoder_hidden_states` has {encoder_hidden_states.shape[1]} text tokens, the longest text of this model is "
                f"{self.config.max_text_length}: cut it."
            )
