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


class InfinityStarKVLayerCache:
    """Keys and values of one layer: those of the text, and those of the last pass of the previous clip."""

    def __init__(self):
        self.text: KeyValue | None = None
        self._seen: KeyValue | None = None  # the text, then the last pass

    def store_text(self, key: torch.Tensor, value: torch.Tensor) -> None:
        """Replaces the text, and forgets the video."""
        # A slice of a fused projection would hold on to all of it.
        self.text = self._seen = (key.contiguous(), value.contiguous())

    def store_map(self, key: torch.Tensor, value: torch.Tensor) -> None:
        """Replaces what is seen of the previous clip."""
        self._seen = (torch.cat([self.text[0], key], dim=1), torch.cat([self.text[1], value], dim=1))

    def get(self) -> KeyValue | None:
        """All that the next pass sees besides itself; `None` before the text has been stored."""
        return self._seen

    def clear(self) -> None:
        """Forgets everything."""
        self.text = self._seen = None

    def clear_frames(self) -> None:
        """Forgets the video and keeps the text."""
        self._seen = self.text


class InfinityStarKVCache:
    """
    The cache of one video or batch, handed to [`InfinityStarTransformer3DModel`]. A guidance branch is a part of the batch, or
    has a cache of its own.

    Args:
        num_layers (`int`): Transformer layers.
    """

    def __init__(self, num_layers: int):
        self.layer_caches = [InfinityStarKVLayerCache() for _ in range(num_layers)]
        self.text_mask: torch.Tensor | None = None

    def get(self, layer_idx: int) -> InfinityStarKVLayerCache:
        """The keys and values of a layer."""
        return self.layer_caches[layer_idx]

    @property
    def num_text_tokens(self) -> int:
        """`N`, 0 before the text has been written."""
        text = self.layer_caches[0].text
        return 0 if text is None else text[0].shape[1]

    @property
    def num_map_tokens(self) -> int:
        """Tokens of the previous clip's last pass, 0 before the second clip."""
        seen = self.layer_caches[0].get()
        return 0 if seen is None else seen[0].shape[1] - self.num_text_tokens

    @property
    def num_bytes(self) -> int:
        """Size of all keys and values."""
        pairs = [pair for layer in self.layer_caches for pair in (layer.text, layer.get()) if pair is not None]
        tensors = {id(tensor): tensor for pair in pairs for tensor in pair}
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())

    def clear(self) -> None:
        """Forgets everything."""
        for layer_cache in self.layer_caches:
            layer_cache.clear()
        self.text_mask = None

    def clear_frames(self) -> None:
        """Forgets the video and keeps the text."""
        for layer_cache in self.layer_caches:
            layer_cache.clear_frames()

    def attention_mask(self, num_new_tokens: int) -> torch.Tensor | None:
        """`None`, or the padding of the text as a mask `(B, 1, 1, seen + num_new_tokens)`."""
        if self.text_mask is None:
            return None
        mask = F.pad(self.text_mask, (0, self.num_map_tokens + num_new_tokens), value=True)
        return mask[:, None, None, :]
