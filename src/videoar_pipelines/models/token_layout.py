# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
The layout of a sequence `[text | frame 0: scale 0 … K-1 | frame 1: …]`: where every token stands, which block it belongs to, and
which block sees which.

A *block* is the text (number 0) or one (latent frame, scale) map (number `1 + t * K + k`). Tokens of one block see each other, so
visibility is a small table over blocks. Equation 9 of VideoAR, a window and Random Frame Mask are three ways to fill it; a dense
mask gathers from it, and FlexAttention looks it up.

Letters used in shapes: `B` batch, `T` latent frames, `K` scales, `L` tokens of a frame, `N` text tokens, `S` tokens of a call.
"""

import functools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from .quantization import ScaleSchedule, tokens_per_frame


# 1. Token ids and blocks

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


def token_blocks(token_ids: torch.Tensor, num_scales: int) -> torch.Tensor:
    """
    Block numbers `(S,)` of tokens: 0 for text, `1 + t * K + k` for a map.

    Args:
        token_ids (`torch.Tensor` of shape `(S, 5)`): See [`video_token_ids`].
        num_scales (`int`): `K`, or any larger number where only the order of blocks matters.
    """
    return (token_ids[:, FRAME] * num_scales + token_ids[:, SCALE] + 1).clamp(min=0)


@dataclass(frozen=True, eq=False)
class SequenceLayout:
    """
    A sequence of text and whole frames.

    Args:
        scale_schedule (`tuple[tuple[int, int], ...]`): Grids `(h_k, w_k)`.
        num_frames (`int`): `T`, latent frames.
        video_ids (`torch.Tensor` of shape `(T * L, 5)`): Token ids of the video.
        blocks (`torch.Tensor` of shape `(N + T * L,)`): Block number of every token, the text first.
    """

    scale_schedule: ScaleSchedule
    num_frames: int
    video_ids: torch.Tensor
    blocks: torch.Tensor


@functools.lru_cache(maxsize=64)
def sequence_layout(
    scale_schedule: ScaleSchedule, num_frames: int, num_text_tokens: int, device: torch.device
) -> SequenceLayout:
    """The [`SequenceLayout`] of `num_text_tokens` of text and `num_frames` latent frames; made once for each shape."""
    video_ids = video_token_ids(scale_schedule, num_frames, device=device)
    token_ids = torch.cat([text_token_ids(num_text_tokens, device), video_ids])
    return SequenceLayout(scale_schedule, num_frames, video_ids, token_blocks(token_ids, len(scale_schedule)))


# 2. Which block sees which

FRAME_MASK_DRAWS = ("pair", "frame")


def visible_blocks(
    num_frames: int,
    num_scales: int,
    window: int | None = None,
    frame_keep: torch.Tensor | None = None,
    device: torch.device | str | None = None,
) -> torch.Tensor:
    """
    The table of visibility. Every block sees itself and all earlier ones (VideoAR equation 9), but for the earlier *frames* that a
    window or Random Frame Mask hides. The text and the coarser maps of the own frame are never hidden.

    Args:
        num_frames (`int`): `T`, latent frames.
        num_scales (`int`): `K`.
        window (`int`, *optional*): Number of earlier latent frames that a frame sees; all of them when `None`.
        frame_keep (`torch.Tensor` of shape `(B, T, T)`, *optional*):
            Random Frame Mask: `False` at `[b, i, j]` hides frame `j` from frame `i > j`.
        device (`torch.device`, *optional*): Of the result.

    Returns:
        `torch.Tensor` of shape `(1 or B, 1 + T * K, 1 + T * K)`: Boolean, `True` where a row sees a column.
    """
    num_blocks = 1 + num_frames * num_scales
    visible = torch.ones(num_blocks, num_blocks, dtype=torch.bool, device=device).tril()[None]
    frames = torch.arange(num_frames, device=device)
    is_earlier = frames[None, :] < frames[:, None]  # (T, T)
    hidden = torch.zeros(1, num_frames, num_frames, dtype=torch.bool, device=device)
    if window is not None:
        hidden = hidden | (is_earlier & (frames[None, :] < frames[:, None] - window))
    if frame_keep is not None:
        hidden = hidden | (is_earlier & ~frame_keep)
    hidden_maps = hidden.repeat_interleave(num_scales, dim=1).repeat_interleave(num_scales, dim=2)
    return visible & ~F.pad(hidden_maps, (1, 0, 1, 0))  # the text is block 0


def random_frame_keep(
    batch_size: int,
    num_frames: int,
    mask_probability: float,
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
    drawn_per: str = "pair",
) -> torch.Tensor:
    """
    Random Frame Mask (VideoAR section 4.2): hides earlier frames with a probability.

    Args:
        batch_size (`int`): `B`.
        num_frames (`int`): `T`, latent frames.
        mask_probability (`float`): `p_mask`.
        device (`torch.device`, *optional*): Of the result.
        generator (`torch.Generator`, *optional*): On `device`.
        drawn_per (`str`, defaults to `"pair"`):
            `"pair"`: for every frame, every earlier frame is drawn anew. `"frame"`: a frame is hidden from all later ones or from
            none. The paper does not say.

    Returns:
        `torch.Tensor` of shape `(B, T, T)`: Boolean, `False` at `[b, i, j]` hides frame `j` from frame `i`.
    """
    num_rows = num_frames if drawn_per == "pair" else 1
    noise = torch.rand(batch_size, num_rows, num_frames, device=device, generator=generator)
    return (noise >= mask_probability).expand(-1, num_frames, -1)


# 3. Masks over tokens


def block_causal_mask(
    query_blocks: torch.Tensor, key_blocks: torch.Tensor, text_mask: torch.Tensor | None = None
) -> torch.Tensor:
    """
    VideoAR equation 9 as a dense mask. Where nothing else is hidden, comparing block numbers needs no table.

    Args:
        query_blocks (`torch.Tensor` of shape `(Q,)`): Block numbers of the queries.
        key_blocks (`torch.Tensor` of shape `(S,)`): Block numbers of the keys; text first.
        text_mask (`torch.Tensor` of shape `(B, N)`, *optional*): `False` at padded text tokens, the first `N` keys.

    Returns:
        `torch.Tensor` of shape `(1 or B, 1, Q, S)`: Boolean, `True` where a query sees a key.
    """
    mask = (key_blocks[None, :] <= query_blocks[:, None])[None, None]
    return _hide_padding(mask, text_mask)


def dense_mask(visible: torch.Tensor, blocks: torch.Tensor, text_mask: torch.Tensor | None = None) -> torch.Tensor:
    """
    A table of visibility as a dense mask over a whole sequence.

    Args:
        visible (`torch.Tensor` of shape `(1 or B, 1 + T * K, 1 + T * K)`): See [`visible_blocks`].
        blocks (`torch.Tensor` of shape `(S,)`): Block number of every token; text first.
        text_mask (`torch.Tensor` of shape `(B, N)`, *optional*): `False` at padded text tokens, the first `N`.

    Returns:
        `torch.Tensor` of shape `(1 or B, 1, S, S)`: Boolean.
    """
    mask = visible[:, blocks[:, None], blocks[None, :]][:, None]
    return _hide_padding(mask, text_mask)


def _hide_padding(mask: torch.Tensor, text_mask: torch.Tensor | None) -> torch.Tensor:
    if text_mask is None:
        return mask
    is_real = F.pad(text_mask.bool(), (0, mask.shape[-1] - text_mask.shape[1]), value=True)  # (B, S)
    return mask & is_real[:, None, None, :]


@functools.lru_cache(maxsize=1)
def _compiled_create_block_mask():
    return torch.compile(create_block_mask)


def flex_mask(visible: torch.Tensor, blocks: torch.Tensor, text_mask: torch.Tensor) -> BlockMask:
    """The mask of [`dense_mask`] for FlexAttention: a `BlockMask` of shape `(B, 1, S, S)`, never dense in memory."""
    num_tokens = len(blocks)
    is_real = F.pad(text_mask.bool(), (0, num_tokens - text_mask.shape[1]), value=True)  # (B, S)
    visible = visible.expand(len(text_mask), -1, -1)

    def mask_mod(batch, head, query, key):
        return visible[batch, blocks[query], blocks[key]] & is_real[batch, key]

    # A long sequence would not fit on a GPU as a dense mask, which only the compiled function does without.
    create = _compiled_create_block_mask() if blocks.is_cuda else create_block_mask
    return create(mask_mod, len(text_mask), None, num_tokens, num_tokens, device=blocks.device)
