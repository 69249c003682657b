# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
What InfinityStar remembers of a video: keys and values of the text, and of the last pass of the previous clip. Nothing else is
seen again, so nothing else is kept. At 720p and 5 s that is 0.5 GiB for one guidance branch.
"""

import torch
import torch.nn.functional as F


# Keys and values, each `(B, tokens, key-value heads, head_dim)`.
KeyValue = tuple[torch.Tensor, torch.Tensor]


class InfinityStarKVCache:
    """
    The cache of one video or batch, handed to [`InfinityStarTransformer3DModel`]. A guidance branch is a part of the batch, or
    has a cache of its own.

    Args:
        num_layers (`int`): Transformer layers.
    """

    def __init__(self, num_layers: int):
        self.text: list[KeyValue | None] = [None] * num_layers
        self.seen: list[KeyValue | None] = [None] * num_layers  # the text, then the last pass of the previous clip
        self.text_mask: torch.Tensor | None = None

    @property
    def num_text_tokens(self) -> int:
        """`N`, 0 before the text has been written."""
        return 0 if self.text[0] is None else self.text[0][0].shape[1]

    @property
    def num_map_tokens(self) -> int:
        """Tokens of the previous clip's last pass, 0 before the second clip."""
        return 0 if self.seen[0] is None else self.seen[0][0].shape[1] - self.num_text_tokens

    @property
    def num_bytes(self) -> int:
        """Size of all keys and values."""
        tensors = {id(tensor): tensor for pair in (*self.text, *self.seen) if pair is not None for tensor in pair}
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())

    def write_text(self, layer: int, text: KeyValue) -> None:
        """Replaces the text of a layer, and forgets the video there."""
        # A slice of a fused projection would hold on to all of it.
        self.text[layer] = self.seen[layer] = tuple(tensor.contiguous() for tensor in text)

    def write_map(self, layer: int, last_pass: KeyValue) -> None:
        """Replaces what a layer sees of the previous clip."""
        self.seen[layer] = tuple(torch.cat(pair, dim=1) for pair in zip(self.text[layer], last_pass))

    def forget_video(self) -> None:
        """Forgets the video and keeps the text."""
        self.seen = list(self.text)

    def attention_mask(self, num_new_tokens: int) -> torch.Tensor | None:
        """`None`, or the padding of the text as a mask `(B, 1, 1, seen + num_new_tokens)`."""
        if self.text_mask is None:
            return None
        mask = F.pad(self.text_mask, (0, self.num_map_tokens + num_new_tokens), value=True)
        return mask[:, None, None, :]
