# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Which mask a training step uses: a FlexAttention `BlockMask` on GPUs and a 4D boolean mask elsewhere, both of the table that
`models.token_layout` fills.

Why the boolean mask on a CPU: one call of masked attention over the whole sequence was measured against one call without a
mask for every (frame, scale) map (batch 4, 4 heads of 64, 5 latent frames of 8x8, 682 tokens, forward and backward, one thread
of an x86 server): 76 against 104 milliseconds in float32, 66 against 158 in bfloat16. FlexAttention has no backward on a CPU.
"""

import torch
from torch.nn.attention.flex_attention import BlockMask

from ..models.token_layout import SequenceLayout, dense_mask, flex_mask, random_frame_keep, visible_blocks


def training_attention_mask(
    layout: SequenceLayout,
    text_mask: torch.Tensor,
    kind: str,
    window: int | None = None,
    frame_mask_probability: float = 0.0,
    frame_mask_drawn_per: str = "pair",
) -> torch.Tensor | BlockMask:
    """
    The mask of a training step.

    Args:
        layout ([`SequenceLayout`]): Of the batch.
        text_mask (`torch.Tensor` of shape `(B, N)`): `False` at padded text tokens.
        kind (`str`): `"flex"` or `"boolean"`.
        window (`int`, *optional*): Number of earlier latent frames that a token sees; all of them when `None`.
        frame_mask_probability (`float`, defaults to 0.0): `p_mask` of Random Frame Mask.
        frame_mask_drawn_per (`str`, defaults to `"pair"`): See `token_layout.random_frame_keep`.

    Returns:
        `torch.Tensor` of shape `(B, 1, S, S)`, boolean, or `BlockMask`.
    """
    frame_keep = None
    if frame_mask_probability > 0:
        frame_keep = random_frame_keep(
            len(text_mask), layout.num_frames, frame_mask_probability, text_mask.device, drawn_per=frame_mask_drawn_per
        )
    visible = visible_blocks(
        layout.num_frames, len(layout.scale_schedule), window, frame_keep, device=text_mask.device
    )
    make_mask = flex_mask if kind == "flex" else dense_mask
    return make_mask(visible, layout.blocks, text_mask)


def choose_attention_mask(kind: str, device: torch.device, splits_sequences: bool = False) -> str:
    """
    `"flex"` or `"boolean"` for the flag's `"auto"`.

    Args:
        kind (`str`): `"auto"`, `"flex"` or `"boolean"`.
        device (`torch.device`): To train on.
        splits_sequences (`bool`, defaults to `False`): Whether processes share sequences, see `sharding.split_sequences`.

    Raises:
        `ValueError`: `"flex"` where it cannot train.
    """
    if kind == "auto":
        return "flex" if device.type == "cuda" and not splits_sequences else "boolean"
    if kind == "flex" and device.type != "cuda":
        raise ValueError(f"`--attention flex` needs a CUDA device, this is {device.type}: pass `boolean` or `auto`.")
    if kind == "flex" and splits_sequences:
        raise ValueError("`--attention flex` does not go with `--context_parallel_degree`: pass `boolean` or `auto`.")
    return kind
