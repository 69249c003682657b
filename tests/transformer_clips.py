# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""A tiny transformer, the inputs of a whole clip, and the two ways to run it, which the tests share."""

from dataclasses import dataclass

import torch

from tests.tiny_components import make_tiny_transformer
from tests.visibility import expected_mask
from videoar_pipelines.models.quantization import tokens_per_frame
from videoar_pipelines.models.token_layout import text_token_ids, video_token_ids


SCHEDULE = ((1, 1), (2, 2), (3, 3), (4, 4))
TOKENS_PER_FRAME = tokens_per_frame(SCHEDULE)
MAP_SIZES = [height * width for height, width in SCHEDULE]


@dataclass
class Clip:
    """Inputs of a whole clip. Map inputs are features here: what they are made of is the quantiser's business."""

    hidden_states: torch.Tensor
    token_ids: torch.Tensor
    text: torch.Tensor
    text_mask: torch.Tensor | None
    num_frames: int

    @property
    def num_text_tokens(self):
        return self.text.shape[1]

    @property
    def map_slices(self):
        """`(frame, scale, slice of the video tokens)` in sequence order."""
        slices, start = [], 0
        for frame in range(self.num_frames):
            for scale, size in enumerate(MAP_SIZES):
                slices.append((frame, scale, slice(start, start + size)))
                start += size
        return slices

    def frame_slice(self, frame):
        return slice(frame * TOKENS_PER_FRAME, (frame + 1) * TOKENS_PER_FRAME)


def make_clip(num_frames=3, batch_size=2, num_channels=8, padded=False):
    generator = torch.Generator().manual_seed(1)
    text_mask = None
    if padded:
        text_mask = torch.ones(batch_size, 5, dtype=torch.bool)
        text_mask[1, 3:] = False
    return Clip(
        hidden_states=torch.randn(batch_size, num_frames * TOKENS_PER_FRAME, num_channels, generator=generator),
        token_ids=video_token_ids(SCHEDULE, num_frames),
        text=torch.randn(batch_size, 5, 16, generator=generator),
        text_mask=text_mask,
        num_frames=num_frames,
    )


def make_model(**config):
    torch.manual_seed(0)
    return make_tiny_transformer(**config).requires_grad_(False)


def run_at_once(model, clip, window=None, sink_size=0, frame_keep=None, **kwargs):
    """Teacher forcing, with the mask that training builds."""
    ids = torch.cat([text_token_ids(clip.num_text_tokens), clip.token_ids])
    mask = expected_mask(ids, ids, window, sink_size, frame_keep, clip.text_mask)
    return model(
        clip.hidden_states,
        clip.token_ids,
        encoder_hidden_states=clip.text,
        encoder_attention_mask=clip.text_mask,
        attention_mask=mask,
        **kwargs,
    ).sample


def make_filled_cache(model, clip, window=None, sink_size=0, num_frames="all", **kwargs):
    cache = model.make_cache(
        batch_size=len(clip.text),
        text_length=clip.num_text_tokens,
        tokens_per_frame=TOKENS_PER_FRAME,
        num_frames=clip.num_frames if num_frames == "all" else num_frames,
        window=window,
        sink_size=sink_size,
    )
    model.encode_text(clip.text, cache, clip.text_mask, **kwargs)
    return cache


@torch.no_grad()
def run_map_by_map(model, clip, window=None, sink_size=0, cache=None, attention_kwargs=None, num_frames="all"):
    if cache is None:
        cache = make_filled_cache(model, clip, window, sink_size, num_frames, attention_kwargs=attention_kwargs)
    logits = [
        model(
            clip.hidden_states[:, tokens],
            clip.token_ids[tokens],
            kv_cache=cache,
            attention_kwargs=attention_kwargs,
            return_dict=False,
        )[0]
        for _, _, tokens in clip.map_slices
    ]
    return torch.cat(logits, dim=1)


def assert_same_logits(logits, expected):
    """Up to 1e-5 on logits of unit scale: float32 sums in another order."""
    assert logits.shape == expected.shape
    error = (logits - expected).abs().max() / expected.std()
    assert error <= 1e-5, f"logits differ by {error:.2e} of their scale"


def assert_different(logits, other):
    assert (logits - other).abs().max() > 1e-3 * other.std()
