# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
The passes of InfinityStar, where their tokens stand, and which of them see each other. No tensor of a model is touched here.

A *clip* is the first latent frame (clip 0) or a run of latent frames after it (20 in the public models). All frames of a clip are
predicted together, scale by scale, and a scale several times in a row: one such prediction is a *pass*. Tokens of a pass are
ordered frame, row, column.

Letters used in shapes: `T` latent frames of a clip, `(h, w)` grid of a pass, `(H, W)` finest grid, `S` tokens of a call, `N` text
tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .quantization_infinitystar import BitPass


# The columns of positions: running number of the pass (or of the text token), latent frame, row and column on the finest grid.
STEP, FRAME, ROW, COLUMN = range(4)


@dataclass(frozen=True)
class InfinityStarPass:
    """
    One pass of the transformer: the bits of one scale of one clip.

    Args:
        clip (`int`): Number of the clip.
        scale (`int`): Number of the scale inside the clip.
        repetition (`int`): Number of the repetition of the scale.
        step (`int`): Running number of the pass; repetitions count, and it goes on from clip to clip.
        first_frame (`int`): Latent frame at which the clip begins.
        grid (`tuple[int, int, int]`): `(T, h, w)`.
        finest_grid (`tuple[int, int]`): `(H, W)`.
        num_bits (`int`): Bits of a token.
        is_last_of_clip (`bool`): Whether this is the last repetition of the finest scale, which the next clip sees.
    """

    clip: int
    scale: int
    repetition: int
    step: int
    first_frame: int
    grid: tuple[int, int, int]
    finest_grid: tuple[int, int]
    num_bits: int
    is_last_of_clip: bool

    @property
    def num_tokens(self) -> int:
        """`T * h * w`."""
        frames, height, width = self.grid
        return frames * height * width

    @property
    def bit_pass(self) -> BitPass:
        """What the quantiser needs to know of it."""
        return BitPass(*self.grid[1:], self.num_bits)


def pass_positions(
    current_pass: InfinityStarPass, step_offset: int, device: torch.device | str | None = None
) -> torch.Tensor:
    """
    Positions `(T * h * w, 4)` of the tokens of a pass, long. Rows and columns of a coarse grid are spread over the finest grid.

    Args:
        current_pass ([`InfinityStarPass`]): The pass.
        step_offset (`int`): Added to the number of the pass; the longest text, so that no pass stands where text does.
        device (`torch.device`, *optional*): Of the result.
    """
    num_frames, height, width = current_pass.grid
    finest_height, finest_width = current_pass.finest_grid
    frames = torch.arange(current_pass.first_frame, current_pass.first_frame + num_frames, device=device)
    rows = _spread(height, finest_height).to(device)
    columns = _spread(width, finest_width).to(device)
    frames, rows, columns = torch.meshgrid(frames, rows, columns, indexing="ij")
    steps = torch.full_like(frames, step_offset + current_pass.step)
    return torch.stack([steps, frames, rows, columns], dim=-1).flatten(0, 2)


def _spread(size: int, finest_size: int) -> torch.Tensor:
    """`size` places on a side of `finest_size`: `i * finest_size / size`, rounded half to even."""
    # The ratio first, and in float32, as the models were trained: it decides ties (14 rows on 57: row 7 stands at 29).
    return (torch.arange(size) * (finest_size / size)).round().long()


def text_positions(num_tokens: int, device: torch.device | str | None = None) -> torch.Tensor:
    """Positions `(N, 4)` of text tokens: `(i, 0, 0, 0)`."""
    return F.pad(torch.arange(num_tokens, device=device)[:, None], (0, 3))


def sequence_mask(
    passes: Sequence[InfinityStarPass],
    num_text_tokens: int,
    text_mask: torch.Tensor | None = None,
    device: torch.device | str | None = None,
) -> torch.Tensor:
    """
    Who sees whom in the sequence `[text | passes]` (teacher forcing). Everyone sees the text. A pass sees itself and the last pass
    of the clip before, and nothing else: neither coarser scales of its clip nor older clips. Text sees only text.

    Args:
        passes (`Sequence[InfinityStarPass]`): In any order; not all passes of a video need to be there.
        num_text_tokens (`int`): `N`.
        text_mask (`torch.Tensor` of shape `(B, N)`, *optional*): Boolean, `False` at padding.
        device (`torch.device`, *optional*): Of the result.

    Returns:
        `torch.Tensor` of shape `(1 or B, 1, N + S, N + S)`: Boolean, `True` where a query sees a key.
    """
    table = [[key is None for key in (None, *passes)]]
    for query in passes:
        seen = [key == query or (key.is_last_of_clip and key.clip == query.clip - 1) for key in passes]
        table.append([True, *seen])
    lengths = torch.tensor([num_text_tokens, *(item.num_tokens for item in passes)], device=device)
    mask = torch.tensor(table, device=device)
    mask = mask.repeat_interleave(lengths, dim=0).repeat_interleave(lengths, dim=1)[None, None]
    if text_mask is not None:
        is_token = F.pad(text_mask.bool(), (0, mask.shape[-1] - num_text_tokens), value=True)
        mask = mask & is_token[:, None, None, :]
    return mask
