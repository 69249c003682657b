# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
What InfinityStar remembers of a video: keys and values of the text, and of the last pass of the previous clip. Nothing else is
seen again, so nothing else is kept. At 720p and 5 s that is 0.5 GiB for one guidance branch.
"""

import torch
import torch.nn.functional as F


class InfinityStarCacheLayer:
    """
    Keys and values of one layer. Each is a pair of tensors `(B, tokens, key-value heads, head_dim)`, or `None`.

    Args:
        container ([`InfinityStarKVCache`]): Knows what is to be kept.
    """

    def __init__(self, container: "InfinityStarKVCache"):
        self.container = container
        self.text = None
        self.map = None

    def update(self, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Takes keys and values of the current tokens; returns all that these may see, the text first."""
        keeps = self.container.keeps
        seen = [] if keeps == "text" else [pair for pair in (self.text, self.map) if pair is not None]
        seen.append((key, value))
        if keeps is not None:
            # A slice of a fused projection would hold on to all of it.
            setattr(self, keeps, (key.contiguous(), value.contiguous()))
        if len(seen) == 1:
            return key, value
        keys, values = zip(*seen)
        return torch.cat(keys, dim=1), torch.cat(values, dim=1)


class InfinityStarKVCache:
    """
    The cache of one video or batch, handed to [`InfinityStarTransformer3DModel`]. A guidance branch is a part of the batch, or
    has a cache of its own.

    Args:
        num_layers (`int`): Transformer layers.
    """

    def __init__(self, num_layers: int):
        self.layers = [InfinityStarCacheLayer(self) for _ in range(num_layers)]
        self.keeps: str | None = None  # what the layers keep of the current call: "text", "map", or nothing
        self.text_mask: torch.Tensor | None = None

    def __getitem__(self, layer: int) -> InfinityStarCacheLayer:
        return self.layers[layer]

    @property
    def num_text_tokens(self) -> int:
        """`N`, 0 before the text has been written."""
        return 0 if self.layers[0].text is None else self.layers[0].text[0].shape[1]

    @property
    def num_map_tokens(self) -> int:
        """Tokens of the previous clip's last pass, 0 before the second clip."""
        return 0 if self.layers[0].map is None else self.layers[0].map[0].shape[1]

    @property
    def num_bytes(self) -> int:
        """Size of all keys and values."""
        pairs = [pair for layer in self.layers for pair in (layer.text, layer.map) if pair is not None]
        return sum(tensor.numel() * tensor.element_size() for pair in pairs for tensor in pair)

    def forget_video(self) -> None:
        """Forgets the video and keeps the text."""
        for layer in self.layers:
            layer.map = None

    def attention_mask(self, num_new_tokens: int) -> torch.Tensor | None:
        """`None`, or the padding of the text as a mask `(B, 1, 1, seen + num_new_tokens)`."""
        if self.text_mask is None:
            return None
        mask = F.pad(self.text_mask, (0, self.num_map_tokens + num_new_tokens), value=True)
        return mask[:, None, None, :]
