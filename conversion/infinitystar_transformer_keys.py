# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
The names of InfinityStar's transformer there and here, as tables, and what is done to its tensors, without any file.

Every key is used exactly once or dropped by name, and every parameter of [`InfinityStarTransformer3DModel`] is filled.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from checkpoint_files import ConversionError, first_of

from videoar_pipelines.models.transformer_infinitystar import InfinityStarTransformer3DModel


def to_half_split_rotation(rows: torch.Tensor, head_dim: int) -> torch.Tensor:
    """
    Reorders the rows of a query or key projection, or the entries of its norm, so that our rotation is theirs: there channels
    `2i` and `2i + 1` of a head rotate together, here `i` and `i + head_dim / 2`.
    """
    return rows.unflatten(0, (-1, head_dim // 2, 2)).transpose(1, 2).flatten(0, 2)


# Our name -> public names, and what is done to them. SwiGLU's first half is not activated here: up, then gate.
LAYER_TENSORS = {
    "norm1.weight": ("input_layernorm.weight",),
    "attn.to_q.weight": ("attn.q_proj.weight",),
    "attn.to_k.weight": ("attn.k_proj.weight",),
    "attn.to_v.weight": ("attn.v_proj.weight",),
    "attn.norm_q.weight": ("attn.q_norm.weight",),
    "attn.norm_k.weight": ("attn.k_norm.weight",),
    "attn.to_out.0.weight": ("attn.o_proj.weight",),
    "norm2.weight": ("post_attention_layernorm.weight",),
    "ff.net.0.proj.weight": ("mlp.up_proj.weight", "mlp.gate_proj.weight"),
    "ff.net.2.weight": ("mlp.down_proj.weight",),
}
ROTATED = ("attn.to_q.weight", "attn.to_k.weight", "attn.norm_q.weight", "attn.norm_k.weight")
OTHER_TENSORS = {
    "null_text": "cfg_uncond",
    "map_embedder.weight": "word_embed.weight",
    "map_embedder.bias": "word_embed.bias",
    "text_embedder.weight": "text_proj.weight",
    "text_embedder.bias": "text_proj.bias",
    "norm_out.weight": "norm_hidden_sates.weight",
    "proj_out_semantic.weight": "semantic_head2.weight",
    "proj_out_semantic.bias": "semantic_head2.bias",
    "proj_out_detail.weight": "head.weight",
    "proj_out_detail.bias": "head.bias",
}
# Nothing reads it there: the input of a first pass is zeros.
DROPPED = ("sos_token",)

# The layers stand in chunks of equal size.
LAYER_KEY = re.compile(r"block_chunks\.(?P<chunk>\d+)\.module\.(?P<layer>\d+)\.(?P<name>.+)")


@dataclass(frozen=True)
class TensorPlan:
    """
    How one of our tensors is made.

    Args:
        sources (`tuple[str, ...]`): Public names.
        convert (`Callable`): Takes their tensors.
    """

    sources: tuple[str, ...]
    convert: Callable[..., torch.Tensor]


def read_config(shapes: dict[str, tuple[int, ...]]) -> dict:
    """The configuration that the shapes of the public tensors tell."""

    def size(name: str, axis: int = 0) -> int:
        if name not in shapes or len(shapes[name]) <= axis:
            raise ConversionError(f"The checkpoint lacks {name}, which tells the size of the transformer.")
        return shapes[name][axis]

    first = "block_chunks.0.module.0"
    head_dim = size(f"{first}.attn.q_norm.weight")
    return {
        "in_channels": size("word_embed.weight", 1),
        "semantic_bits": size("semantic_head2.weight") // 2,
        "detail_bits": size("head.weight") // 2,
        "num_layers": len({match.group("chunk", "layer") for key in shapes if (match := LAYER_KEY.fullmatch(key))}),
        "num_attention_heads": size(f"{first}.attn.q_proj.weight") // head_dim,
        "attention_head_dim": head_dim,
        "num_key_value_heads": size(f"{first}.attn.k_proj.weight") // head_dim,
        "intermediate_size": size(f"{first}.mlp.gate_proj.weight"),
        "text_embed_dim": size("text_proj.weight", 1),
        "max_text_length": size("cfg_uncond"),
    }


def plan_tensors(shapes: dict[str, tuple[int, ...]], config: dict) -> dict[str, TensorPlan]:
    """How each of our tensors is made from the public ones."""
    places = sorted(
        {(int(match["chunk"]), int(match["layer"])) for key in shapes if (match := LAYER_KEY.fullmatch(key))}
    )
    head_dim = config["attention_head_dim"]
    plans = {name: TensorPlan((source,), lambda tensor: tensor) for name, source in OTHER_TENSORS.items()}
    for index, (chunk, layer) in enumerate(places):
        for name, sources in LAYER_TENSORS.items():
            convert = (lambda rows: to_half_split_rotation(rows, head_dim)) if name in ROTATED else concatenate
            sources = tuple(f"block_chunks.{chunk}.module.{layer}.{source}" for source in sources)
            plans[f"blocks.{index}.{name}"] = TensorPlan(sources, convert)
    return plans


def concatenate(*tensors: torch.Tensor) -> torch.Tensor:
    return torch.cat(tensors) if len(tensors) > 1 else tensors[0]


def check_plans(
    plans: dict[str, TensorPlan], shapes: dict[str, tuple[int, ...]], model: InfinityStarTransformer3DModel
) -> None:
    """
    Every public tensor is used once, every parameter of ours is filled, and every shape is right. `model` may be on the meta
    device.

    Raises:
        `ConversionError`: The text names what is missing, not known or of another shape.
    """
    used = [source for plan in plans.values() for source in plan.sources]
    missing = [name for name in used if name not in shapes]
    if missing:
        raise ConversionError(f"The checkpoint lacks {first_of(missing)}.")
    known = {*used, *DROPPED}
    unknown = [f"{name} {shape}" for name, shape in shapes.items() if name not in known]
    if unknown:
        raise ConversionError(f"The checkpoint has {first_of(unknown)} that this transformer does not have.")
    parameters = model.state_dict()
    if plans.keys() != parameters.keys():
        raise ConversionError(f"Nothing fills {first_of(sorted(plans.keys() ^ parameters.keys()))}.")
    wrong = []
    for name, plan in plans.items():
        sources = [torch.empty(shapes[source], device="meta") for source in plan.sources]
        try:
            shape = tuple(plan.convert(*sources).shape)
        except RuntimeError:
            shape = tuple(sources[0].shape)
        if shape != tuple(parameters[name].shape):
            wrong.append(f"{' + '.join(plan.sources)} {shape} instead of {tuple(parameters[name].shape)}")
    if wrong:
        raise ConversionError(f"The checkpoint has another shape for {first_of(wrong)}.")
