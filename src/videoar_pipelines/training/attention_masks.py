# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
How a training step attends: with a FlexAttention `BlockMask` on GPUs, frame by frame with boolean masks on a CPU, and with one boolean
mask elsewhere. All are of the table that `models.token_layout` fills.

What is fast on a CPU was measured on one thread of an x86 server: one layer, forward and backward, batch 16, 4 heads of 64, 5 latent
frames of 8x8, 682 tokens. One call for the whole sequence takes 320 ms in bfloat16 and 334 ms in float32; one call for every latent
frame, which computes three fifths of the scores, 296 and 254 ms, and by matrix products instead of the fused kernel 148 and 275 ms.
FlexAttention has no backward on a CPU.
"""

import argparse

import torch
from torch.nn.attention.flex_attention import BlockMask

from ..models.kv_cache import AttentionPart
from ..models.token_layout import SequenceLayout, dense_mask, flex_mask, random_frame_keep, visible_blocks
from ..models.transformer_videoar import VideoARTransformer3DModel


ATTENTIONS = ("flex", "per_frame", "boolean")


def training_attention_mask(
    layout: SequenceLayout,
    text_mask: torch.Tensor,
    kind: str,
    window: int | None = None,
    frame_mask_probability: float = 0.0,
    frame_mask_drawn_per: str = "pair",
    num_clips: int | None = None,
) -> torch.Tensor | BlockMask | tuple[AttentionPart, ...]:
    """
    The mask of a training step.

    Args:
        layout ([`SequenceLayout`]): Of the batch.
        text_mask (`torch.Tensor` of shape `(B, N)`): `False` at padded text tokens.
        kind (`str`): `"flex"`, `"per_frame"` or `"boolean"`.
        window (`int`, *optional*): Number of earlier latent frames that a token sees; all of them when `None`.
        frame_mask_probability (`float`, defaults to 0.0): `p_mask` of Random Frame Mask.
        frame_mask_drawn_per (`str`, defaults to `"pair"`): See `token_layout.random_frame_keep`.
        num_clips (`int`, *optional*):
            How many clips the batch has, if it has them several times, one after the other: Random Frame Mask hides the same of a
            clip every time. `B` by default.

    Returns:
        `BlockMask`; or for every latent frame the part of a boolean mask that its tokens need, the text with the first; or the whole
        boolean mask, `torch.Tensor` of shape `(B, 1, S, S)`.
    """
    frame_keep = None
    if frame_mask_probability > 0:
        num_clips = num_clips or len(text_mask)
        frame_keep = random_frame_keep(
            num_clips, layout.num_frames, frame_mask_probability, text_mask.device, drawn_per=frame_mask_drawn_per
        ).repeat(len(text_mask) // num_clips, 1, 1)
    visible = visible_blocks(
        layout.num_frames, len(layout.scale_schedule), window, frame_keep, device=text_mask.device
    )
    if kind == "flex":
        return flex_mask(visible, layout.blocks, text_mask)
    mask = dense_mask(visible, layout.blocks, text_mask)
    return split_by_frame(mask, layout) if kind == "per_frame" else mask


def split_by_frame(mask: torch.Tensor, layout: SequenceLayout) -> tuple[AttentionPart, ...]:
    """A causal boolean mask `(1 or B, 1, S, S)` as one part for every latent frame; the text belongs to the first."""
    tokens_per_frame = len(layout.video_ids) // layout.num_frames
    ends = range(
        len(layout.blocks) - len(layout.video_ids) + tokens_per_frame, len(layout.blocks) + 1, tokens_per_frame
    )
    return tuple(AttentionPart(end - start, end, mask[:, :, start:end, :end]) for start, end in zip([0, *ends], ends))


def add_attention_arguments(group: argparse._ArgumentGroup) -> None:
    """Flags of scripts that train the transformer: the values of [`choose_attention_mask`]."""
    group.add_argument("--attention", choices=["auto", *ATTENTIONS], default="auto", help="The kind of mask.")
    group.add_argument("--compile", action=argparse.BooleanOptionalAction, help="The blocks; `flex` needs it.")


def choose_attention_mask(
    kind: str, device: torch.device, is_compiled: bool | None = None, splits_sequences: bool = False
) -> tuple[str, bool]:
    """
    What `--attention` and `--compile` come to.

    Args:
        kind (`str`): `"auto"`, or one of `ATTENTIONS`.
        device (`torch.device`): To train on.
        is_compiled (`bool`, *optional*): What the flag says; by default the blocks are compiled where FlexAttention needs it.
        splits_sequences (`bool`, defaults to `False`): Whether processes share sequences, see `sharding.split_sequences`.

    Returns:
        `tuple[str, bool]`: One of `ATTENTIONS`, and whether the blocks are compiled.

    Raises:
        `ValueError`: A kind that cannot train there.
    """
    if kind == "auto":
        kind = "boolean" if splits_sequences else {"cuda": "flex", "cpu": "per_frame"}.get(device.type, "boolean")
    if kind == "flex" and device.type != "cuda":
        raise ValueError(f"`--attention flex` needs a CUDA device, this is {device.type}: pass `auto`.")
    if kind != "boolean" and splits_sequences:
        raise ValueError(
            f"`--attention {kind}` does not go with `--context_parallel_degree`: pass `boolean` or `auto`."
        )
    if kind == "flex" and is_compiled is False:
        raise ValueError(
            "FlexAttention is only fast and small when compiled: drop `--no-compile`, or pass `--attention boolean`."
        )
    return kind, kind == "flex" if is_compiled is None else is_compiled


def backend_of(kind: str) -> str:
    """The attention backend of diffusers that a kind of mask is for, one of `ATTENTIONS`."""
    return "flex" if kind == "flex" else "native"


def compile_blocks(transformer: VideoARTransformer3DModel, kind: str) -> None:
    """Compiles the blocks of a transformer that trains with a kind of mask, one of `ATTENTIONS`."""
    # The parts of a frame-by-frame mask are as many sizes as frames, and no compiler of unknown sizes copes with them.
    transformer.compile_repeated_blocks(dynamic=False if kind == "per_frame" else None)
