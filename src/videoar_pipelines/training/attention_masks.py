# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
What a token sees while the transformer trains on whole sequences. The rule itself is `transformer_videoar.is_visible`; here it
becomes a FlexAttention `BlockMask` on GPUs and a 4D boolean mask elsewhere, and Random Frame Mask is drawn.

Why the boolean mask on a CPU: one call of masked attention over the whole sequence was measured against one call without a
mask for every (frame, scale) map (batch 4, 4 heads of 64, 5 latent frames of 8x8, 682 tokens, forward and backward, one thread
of an x86 server): 76 against 104 milliseconds in float32, 66 against 158 in bfloat16. FlexAttention has no backward on a CPU.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from ..models.quantization import ScaleSchedule
from ..models.transformer_videoar import (
    FRAME,
    SCALE,
    block_causal_mask,
    is_visible,
    text_token_ids,
    video_token_ids,
)


@lru_cache(maxsize=1)
def _compiled_create_block_mask():
    return torch.compile(create_block_mask)


@dataclass(frozen=True, eq=False)
class SequenceLayout:
    """
    Where the tokens of a training sequence stand.

    Args:
        scale_schedule (`tuple[tuple[int, int], ...]`): Grids `(h_k, w_k)`.
        num_frames (`int`): `T`, latent frames.
        video_ids (`torch.Tensor` of shape `(T * L, 5)`): Token ids of the video.
        token_ids (`torch.Tensor` of shape `(N + T * L, 5)`): The same behind those of the text.
    """

    scale_schedule: ScaleSchedule
    num_frames: int
    video_ids: torch.Tensor
    token_ids: torch.Tensor


@lru_cache(maxsize=64)
def sequence_layout(
    scale_schedule: ScaleSchedule, num_frames: int, num_text_tokens: int, device: torch.device
) -> SequenceLayout:
    """The [`SequenceLayout`] of `num_text_tokens` of text and `num_frames` latent frames; made once for each shape."""
    video_ids = video_token_ids(scale_schedule, num_frames, device=device)
    token_ids = torch.cat([text_token_ids(num_text_tokens, device), video_ids])
    return SequenceLayout(scale_schedule, num_frames, video_ids, token_ids)


def random_frame_keep(
    batch_size: int,
    num_frames: int,
    mask_probability: float,
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """
    Random Frame Mask (VideoAR section 4.2): hides every earlier frame from every frame with a probability, independently.

    Args:
        batch_size (`int`): `B`.
        num_frames (`int`): `T`, latent frames.
        mask_probability (`float`): `p_mask`.
        device (`torch.device`, *optional*): Of the result.
        generator (`torch.Generator`, *optional*): On `device`.

    Returns:
        `torch.Tensor` of shape `(B, T, T)`: Boolean, `False` at `[b, i, j]` hides frame `j` from frame `i`.
    """
    noise = torch.rand(batch_size, num_frames, num_frames, device=device, generator=generator)
    return noise >= mask_probability


def flex_block_mask(
    token_ids: torch.Tensor,
    text_mask: torch.Tensor,
    window: int | None = None,
    frame_keep: torch.Tensor | None = None,
) -> BlockMask:
    """
    The same visibility as `block_causal_mask(token_ids, token_ids, ...)`, for FlexAttention.

    Args:
        token_ids (`torch.Tensor` of shape `(S, 5)`): Token ids of the whole sequence, text first.
        text_mask (`torch.Tensor` of shape `(B, N)`): `False` at padded text tokens.
        window (`int`, *optional*): Number of earlier latent frames that a token sees.
        frame_keep (`torch.Tensor` of shape `(B, T, T)`, *optional*): See [`random_frame_keep`].

    Returns:
        `BlockMask` of shape `(B, 1, S, S)`.
    """
    num_tokens, num_text_tokens = len(token_ids), text_mask.shape[1]
    frames, scales = token_ids[:, FRAME].contiguous(), token_ids[:, SCALE].contiguous()
    is_real = torch.nn.functional.pad(text_mask.bool(), (0, num_tokens - num_text_tokens), value=True)  # (B, S)

    def mask_mod(batch, head, query, key):
        query_frame, key_frame = frames[query], frames[key]
        visible = is_visible(query_frame, scales[query], key_frame, scales[key], window) & is_real[batch, key]
        if frame_keep is None:
            return visible
        is_earlier = (key_frame >= 0) & (key_frame < query_frame)
        return visible & (frame_keep[batch, query_frame.clamp(min=0), key_frame.clamp(min=0)] | ~is_earlier)

    # A long sequence would not fit on a GPU as a dense mask, which only the compiled function does without.
    create = _compiled_create_block_mask() if token_ids.is_cuda else create_block_mask
    return create(mask_mod, len(text_mask), None, num_tokens, num_tokens, device=token_ids.device)


def training_attention_mask(
    layout: SequenceLayout,
    text_mask: torch.Tensor,
    kind: str,
    window: int | None = None,
    frame_mask_probability: float = 0.0,
) -> torch.Tensor | BlockMask:
    """
    The mask of a training step.

    Args:
        layout ([`SequenceLayout`]): Of the batch.
        text_mask (`torch.Tensor` of shape `(B, N)`): `False` at padded text tokens.
        kind (`str`): `"flex"` or `"boolean"`.
        window (`int`, *optional*): Number of earlier latent frames that a token sees; all of them when `None`.
        frame_mask_probability (`float`, defaults to 0.0): `p_mask` of Random Frame Mask.

    Returns:
        `torch.Tensor` of shape `(B, 1, S, S)`, boolean, or `BlockMask`.
    """
    frame_keep = None
    if frame_mask_probability > 0:
        frame_keep = random_frame_keep(len(text_mask), layout.num_frames, frame_mask_probability, text_mask.device)
    if kind == "flex":
        return flex_block_mask(layout.token_ids, text_mask, window, frame_keep)
    return block_causal_mask(layout.token_ids, layout.token_ids, window, frame_keep, text_mask)


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
