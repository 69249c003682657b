# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
The key-value cache of one video: preallocated, written in place, and with a window a ring of frames. It stores what the transformer
gives it and knows nothing of sampling.
"""

import copy
import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from .token_layout import block_causal_mask


@dataclass
class VideoARCacheCursor:
    """
    How much of a cache is filled. The cache and its layers share one, so that they need no reference to each other: a cache that
    nobody uses any more is freed at once.

    Args:
        length (`int`): Filled tokens, text included.
        num_written (`int`): Video tokens written so far, those that left the ring included.
        least_end (`int`):
            Where the tokens of the present call start, plus two. A compiler makes a graph of its own for a number that is zero.
        num_visible (`int`): Tokens that those of the present call may attend to, themselves included.
        has_padding (`bool`): Whether the text has padding.
        text_shift (`int`): By how many latent frames the cached text keys have followed the video.
    """

    length: int = 0
    num_written: int = 0
    least_end: int = 2
    num_visible: int = 0
    has_padding: bool = False
    text_shift: int = 0


@dataclass(frozen=True)
class AttentionPart:
    """
    Queries of a call that attend by themselves, as they would in a call of their own.

    Args:
        num_queries (`int`): Tokens of the call, after those of the parts before.
        num_keys (`int`): What they may attend to, from the start of the cache.
        mask (`torch.Tensor` of shape `(1 or B, 1, 1 or num_queries, num_keys)`, *optional*): Boolean.
    """

    num_queries: int
    num_keys: int
    mask: torch.Tensor | None


class VideoARKVLayerCache:
    """
    Keys and values of one layer: views of the storage of a [`VideoARKVCache`].

    Args:
        cursor ([`VideoARCacheCursor`]): How much is filled.
        keys (`torch.Tensor` of shape `(B, capacity, H, head_dim)`): Storage.
        values (`torch.Tensor` of shape `(B, capacity, H, head_dim)`): Storage.
    """

    def __init__(self, cursor: VideoARCacheCursor, keys: torch.Tensor, values: torch.Tensor):
        self.cursor = cursor
        # The same memory, but no views: compiled blocks would be compiled anew whenever the shape of what they view changes.
        self.keys = keys.data
        self.values = values.data

    def update(self, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes the tokens `(B, S, H, head_dim)` of the present call; returns all that they may attend to."""
        start, num_visible = self.cursor.least_end - 2, self.cursor.num_visible
        end = start + key.shape[1]
        self.keys[:, start:end] = key
        self.values[:, start:end] = value
        return self.keys[:, :num_visible], self.values[:, :num_visible]


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Zeros that do not begin where their memory does, so that the views of all layers are alike to a compiler."""
    offset = 256  # keeps the alignment
    return torch.zeros(offset + math.prod(shape), dtype=dtype, device=device)[offset:].view(shape)


class VideoARKVCache:
    """
    Preallocated keys and values of one video. The storage is `[text | sinks | ring of w frames | current frame]`, one slot for each
    frame: a frame is written to the first free slot, and when all are filled, the frame just finished replaces the oldest one of
    the ring, so that memory and the cost of a step stay constant. The sinks, the first frames, are never replaced. Attention does
    not depend on the order of keys, so everything visible is always one contiguous slice and no mask is needed.

    Args:
        num_layers (`int`): Transformer layers.
        batch_size (`int`): Sequences, both guidance branches counted.
        num_key_value_heads (`int`): Heads of keys and values.
        head_dim (`int`): Width of a head.
        text_length (`int`): `N`, text tokens with padding.
        tokens_per_frame (`int`): `L`.
        num_frames (`int`, *optional*): Latent frames that will be written; `None` for an endless video (needs `window`).
        window (`int`, *optional*): Last latent frames that a frame sees before itself; `None` for all.
        sink_size (`int`): First latent frames that every frame sees besides, at their true positions; 0 without `window`.
        max_text_distance (`int`, *optional*): See [`VideoARTransformer3DModel`].
        dtype (`torch.dtype`): Of the storage.
        device (`torch.device`): Of the storage.

    Raises:
        `ValueError`: Neither `num_frames` nor `window` is given.
    """

    def __init__(
        self,
        num_layers: int,
        batch_size: int,
        num_key_value_heads: int,
        head_dim: int,
        text_length: int,
        tokens_per_frame: int,
        num_frames: int | None,
        window: int | None,
        sink_size: int,
        max_text_distance: int | None,
        dtype: torch.dtype,
        device: torch.device,
    ):
        if num_frames is None and window is None:
            raise ValueError("A video without end needs a `window`: pass `window` (latent frames) or `num_frames`.")
        slots = num_frames
        if window is not None:
            slots = min(sink_size + window + 1, math.inf if num_frames is None else num_frames)
        # One token more than there are: see `begin_maps`.
        shape = (num_layers, batch_size, text_length + slots * tokens_per_frame + 1, num_key_value_heads, head_dim)
        self.num_frames = num_frames
        self.window = window
        self.sink_size = sink_size
        self.max_text_distance = max_text_distance
        self.tokens_per_frame = tokens_per_frame
        self.cursor = VideoARCacheCursor()
        self._set_storage(_zeros(shape, dtype, device), _zeros(shape, dtype, device), text_length)

    def _set_storage(self, keys: torch.Tensor, values: torch.Tensor, text_length: int) -> None:
        """Takes over storage of shape `(layers, B, capacity, H, head_dim)`. Recorded CUDA graphs rely on its addresses."""
        self.keys, self.values = keys, values
        self.text_length = text_length
        self.text_mask_storage = torch.ones(keys.shape[1], text_length, dtype=torch.bool, device=keys.device)
        # Unshifted keys of the text, needed once the video outgrows `max_text_distance`.
        self.text_keys = None if self.max_text_distance is None else torch.zeros_like(keys[:, :, :text_length])
        self.layer_caches = [VideoARKVLayerCache(self.cursor, *storage) for storage in zip(keys, values)]

    def get(self, layer_idx: int) -> VideoARKVLayerCache:
        """The keys and values of a layer."""
        return self.layer_caches[layer_idx]

    # 1. How much is filled

    @property
    def length(self) -> int:
        """Filled tokens, text included."""
        return self.cursor.length

    @property
    def num_written(self) -> int:
        """Video tokens written so far, those that left the ring included."""
        return self.cursor.num_written

    @property
    def is_between_frames(self) -> bool:
        """Whether the next token is the first of a frame."""
        return self.num_written % self.tokens_per_frame == 0

    def clear(self) -> None:
        """Forgets everything; the storage is kept."""
        cursor = self.cursor
        cursor.length, cursor.num_written, cursor.has_padding, cursor.text_shift = 0, 0, False, 0

    def begin_maps(self, num_tokens: int) -> None:
        """
        The next call writes `num_tokens` video tokens. It may write one more after them, which nobody sees and the call after it
        overwrites.
        """
        self.cursor.least_end = self.length + 2
        self.cursor.num_visible = self.length + num_tokens

    def advance(self, num_tokens: int) -> None:
        """Counts video tokens that every layer has written."""
        self.cursor.length += num_tokens
        self.cursor.num_written += num_tokens

    def rewind(self, num_tokens: int) -> None:
        """Forgets the last video tokens, which are of the current frame or of the one just finished."""
        self.advance(-num_tokens)

    # 2. Text

    def begin_text(self) -> int:
        """The text is written from the start of the storage; returns the length to go back to with [`end_text`]."""
        self.cursor.least_end, self.cursor.num_visible = 2, self.text_length
        return max(self.length, self.text_length)

    def end_text(self, length: int, text_mask: torch.Tensor | None) -> None:
        """The text has been written; `text_mask` `(B, N)` is `False` at padding, `None` without padding."""
        self.cursor.length = length
        self.cursor.has_padding = text_mask is not None
        self.cursor.text_shift = 0
        if text_mask is not None:
            self.text_mask_storage.copy_(text_mask)
        if self.text_keys is not None:
            self.text_keys.copy_(self.keys[:, :, : self.text_length])

    @property
    def text_mask(self) -> torch.Tensor | None:
        """`(B, N)`, `False` at padding; `None` if nothing is padded."""
        return self.text_mask_storage if self.cursor.has_padding else None

    def with_text_length(self, text_length: int) -> "VideoARKVCache":
        """A copy that has room for another number of text tokens. The frames are kept, the text has to be written again."""
        resized = copy.copy(self)
        length = self.length - self.text_length + text_length
        resized.cursor = replace(self.cursor, length=length, has_padding=False)
        shape = list(self.keys.shape)
        shape[2] += text_length - self.text_length
        keys, values = (_zeros(tuple(shape), self.keys.dtype, self.keys.device) for _ in range(2))
        keys[:, :, text_length:] = self.keys[:, :, self.text_length :]
        values[:, :, text_length:] = self.values[:, :, self.text_length :]
        resized._set_storage(keys, values, text_length)
        return resized

    @property
    def time_shift(self) -> int:
        """By how many frames the text has to follow the current frame to stay within `max_text_distance`."""
        frame = self.num_written // self.tokens_per_frame
        return 0 if self.max_text_distance is None else max(0, frame - self.max_text_distance)

    # 3. Frames

    def clear_frames(self) -> None:
        """Forgets the video and keeps the text: the next token is the first of latent frame 0."""
        cursor = self.cursor
        cursor.length, cursor.num_written, cursor.text_shift = self.text_length, 0, 0
        if self.text_keys is not None:
            self.keys[:, :, : self.text_length] = self.text_keys

    def make_room(self) -> None:
        """Between frames, when all slots are filled: moves the finished frame into the ring and frees the last slot."""
        if self.length < self.keys.shape[2] - 1:
            return
        if self.num_frames is not None and self.num_written == self.num_frames * self.tokens_per_frame:
            raise ValueError(
                f"`kv_cache` was made for {self.num_frames} latent frames, which it holds: make a longer one."
            )
        finished = self.num_written // self.tokens_per_frame - 1
        source = self.length - self.tokens_per_frame
        slot = self.sink_size + (finished - self.sink_size) % self.window
        target = self.text_length + slot * self.tokens_per_frame
        for storage in (self.keys, self.values):
            storage[:, :, target : target + self.tokens_per_frame] = storage[:, :, source : self.length]
        self.cursor.length = source

    # 4. Masks

    def attention_mask(self, num_new_tokens: int) -> torch.Tensor | None:
        """`None`, or the padding of the text as a mask `(B, 1, 1, length + num_new_tokens)`."""
        if self.text_mask is None:
            return None
        padding = F.pad(self.text_mask, (0, self.length + num_new_tokens - self.text_length), value=True)
        return padding[:, None, None, :]

    def maps_attention_mask(self, blocks: torch.Tensor) -> torch.Tensor:
        """
        The mask of several maps after the cache, which see everything in it.

        Args:
            blocks (`torch.Tensor` of shape `(S,)`): Block numbers of the maps' tokens, see `token_layout.token_blocks`.

        Returns:
            `torch.Tensor` of shape `(1 or B, 1, S, length + S)`: Boolean.
        """
        mask = F.pad(block_causal_mask(blocks, blocks), (self.length, 0), value=True)
        padding = self.attention_mask(len(blocks))
        return mask if padding is None else mask & padding

    def round_attention_parts(self, blocks: torch.Tensor, num_sampled: int) -> tuple[AttentionPart, AttentionPart]:
        """
        Several known maps and one that is sampled after them, in one call, with the rounding of two.

        Args:
            blocks (`torch.Tensor` of shape `(S,)`): Block numbers of all tokens.
            num_sampled (`int`): How many of these, the last ones, are of the sampled map.
        """
        num_known = len(blocks) - num_sampled
        known = AttentionPart(num_known, self.length + num_known, self.maps_attention_mask(blocks[:num_known]))
        return known, AttentionPart(num_sampled, self.length + len(blocks), self.attention_mask(len(blocks)))
