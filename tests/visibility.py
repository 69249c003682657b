# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""The rule of visibility, token by token and without blocks or tables, to compare the library with."""

import torch
import torch.nn.functional as F

from videoar_pipelines.models.token_layout import FRAME, SCALE


def expected_mask(query_ids, key_ids, window=None, sink_size=0, frame_keep=None, text_mask=None) -> torch.Tensor:
    """
    Everyone sees the text, text sees only text, a video token sees its own map, the coarser maps of its frame, and all maps of the
    earlier frames (VideoAR equation 9): of the last `window` of them and the first `sink_size` of the video, and of those that
    `frame_keep` `(B, T, T)` keeps.
    """
    query_frame, query_scale = query_ids[:, None, FRAME], query_ids[:, None, SCALE]
    key_frame, key_scale = key_ids[None, :, FRAME], key_ids[None, :, SCALE]
    earlier = key_frame < query_frame
    if window is not None:
        earlier = earlier & ((key_frame >= query_frame - window) | (key_frame < sink_size))
    mask = ((key_frame < 0) | earlier | ((key_frame == query_frame) & (key_scale <= query_scale)))[None]
    if frame_keep is not None:
        is_earlier = (key_frame >= 0) & (key_frame < query_frame)
        kept = frame_keep[:, query_frame.clamp(min=0), key_frame.clamp(min=0)]  # (B, Q, S)
        mask = mask & (kept | ~is_earlier)
    if text_mask is not None:
        padding = F.pad(text_mask.bool(), (0, len(key_ids) - text_mask.shape[1]), value=True)
        mask = mask & padding[:, None, :]
    return mask[:, None]
