# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
What keeps the compiled blocks of a transformer few, inputs that look alike to the compiler, and how the small layers of a tokenizer are
compiled. Nothing here compiles.

Letters used in shapes: `B` batch, `S` tokens of a call, `D` width.
"""

import functools
from collections.abc import Callable
from types import ModuleType

import torch
import torch._inductor.config
import torch.fx.experimental._config
import torch.nn.functional as F

from .kv_cache import AttentionPart


def make_alike(
    hidden_states: torch.Tensor,
    rotary_embedding: tuple[torch.Tensor, torch.Tensor],
    attention_mask: torch.Tensor | tuple[AttentionPart, ...] | None,
) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor], torch.Tensor | None]:
    """
    The inputs of a block with a cache in a form that is the same for text and maps of any size. A compiler makes a graph of its own
    for every dimension that is one, for views and for repeated values.

    Args:
        hidden_states (`torch.Tensor` of shape `(B, S, D)`): A single token is doubled; its double is to be left out of the result.
        rotary_embedding (`tuple[torch.Tensor, torch.Tensor]`): Tables `(1 or B, S, 1, head_dim // 2)`.
        attention_mask (`torch.Tensor` of shape `(1 or B, 1, 1 or S, length)`, *optional*):
            Boolean; or parts that attend by themselves, which become one mask.
    """
    batch_size, num_tokens = len(hidden_states), max(2, hidden_states.shape[1])

    def fill(tensor: torch.Tensor, *shape: int) -> torch.Tensor:
        return tensor.expand(*shape).clone(memory_format=torch.contiguous_format)

    hidden_states = fill(hidden_states, batch_size, num_tokens, -1)
    cosine, sine = (fill(table, batch_size, num_tokens, -1, -1) for table in rotary_embedding)
    if isinstance(attention_mask, tuple):
        attention_mask = join_attention_parts(attention_mask, hidden_states)
    if attention_mask is not None:
        attention_mask = fill(attention_mask, batch_size, -1, num_tokens, -1)
    return hidden_states, (cosine, sine), attention_mask


def join_attention_parts(parts: tuple[AttentionPart, ...], hidden_states: torch.Tensor) -> torch.Tensor:
    """One boolean mask `(B, 1, S, length)` of the parts of a call whose input is `hidden_states` `(B, S, D)`."""
    rows = []
    for part in parts:
        mask = part.mask
        if mask is None:
            mask = torch.ones(1, 1, 1, part.num_keys, dtype=torch.bool, device=hidden_states.device)
        mask = mask.expand(len(hidden_states), -1, part.num_queries, -1)
        rows.append(F.pad(mask, (0, parts[-1].num_keys - part.num_keys), value=False))
    return torch.cat(rows, dim=2)


def compiled_for_many_sizes(function: Callable) -> Callable:
    """
    Compiles `function` without the guess that sizes which are equal in its first call always are; and where sizes are compiled in, for
    as many as there are.
    """
    function = _compiled_for_every_size(function)
    return _with_settings(function, torch.fx.experimental._config, use_duck_shape=False)


def compiled_as_one_pass(function: Callable) -> Callable:
    """
    Compiles a layer of few operations: for as many shapes as there are, where a model has it in a known number of widths and layouts;
    and without writing a tensor of full size between its inputs and its output because it depends on many.
    """
    function = _compiled_for_every_size(function)
    return _with_settings(function, torch._inductor.config, realize_reads_threshold=16)


def _compiled_for_every_size(function: Callable) -> Callable:
    """Where sizes are compiled in, for more of them than the eight after which PyTorch gives up."""
    return _with_settings(function, torch._dynamo.config, recompile_limit=64)


def _with_settings(function: Callable, config: ModuleType, **settings) -> Callable:
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        with config.patch(**settings):
            return function(*args, **kwargs)

    return wrapper
