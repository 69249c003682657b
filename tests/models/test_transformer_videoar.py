# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0

import copy
import inspect
import json
import re
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_module
from diffusers.models.attention_dispatch import _AttentionBackendRegistry
from diffusers.models.embeddings import get_1d_rotary_pos_embed
from torch._dynamo.testing import CompileCounter

from tests.tiny_components import make_tiny_transformer
from tests.visibility import expected_mask
from videoar_pipelines.models import transformer_videoar
from videoar_pipelines.models.quantization import tokens_per_frame
from videoar_pipelines.models.token_layout import text_token_ids, video_token_ids
from videoar_pipelines.models.transformer_videoar import (
    TRANSFORMER_CONFIGS,
    VideoARAttnProcessor,
    VideoARRotaryPosEmbed,
    VideoARTransformer3DModel,
    apply_rotary_embedding,
)


SCHEDULE = ((1, 1), (2, 2), (3, 3), (4, 4))
TOKENS_PER_FRAME = tokens_per_frame(SCHEDULE)
MAP_SIZES = [height * width for height, width in SCHEDULE]

ARCHITECTURES = {
    "plain": {},
    "grouped_queries": {"num_attention_heads": 4, "num_key_value_heads": 2, "attention_head_dim": 8},
    "one_key_value_head": {"num_attention_heads": 4, "num_key_value_heads": 1, "attention_head_dim": 8},
    "sectioned_axes": {"rope_axes_layout": "sectioned"},
    "rope_1d": {"rope_type": "1d"},
    "without_qk_norm": {"qk_norm": False},
    "previous_frame_everywhere": {"in_channels": 16},
}


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


def run_at_once(model, clip, window=None, frame_keep=None, **kwargs):
    """Teacher forcing, with the mask that training builds."""
    ids = torch.cat([text_token_ids(clip.num_text_tokens), clip.token_ids])
    mask = expected_mask(ids, ids, window=window, frame_keep=frame_keep, text_mask=clip.text_mask)
    return model(
        clip.hidden_states,
        clip.token_ids,
        encoder_hidden_states=clip.text,
        encoder_attention_mask=clip.text_mask,
        attention_mask=mask,
        **kwargs,
    ).sample


def make_filled_cache(model, clip, window=None, num_frames="all", **kwargs):
    cache = model.make_cache(
        batch_size=len(clip.text),
        text_length=clip.num_text_tokens,
        tokens_per_frame=TOKENS_PER_FRAME,
        num_frames=clip.num_frames if num_frames == "all" else num_frames,
        window=window,
    )
    model.encode_text(clip.text, cache, clip.text_mask, **kwargs)
    return cache


@torch.no_grad()
def run_map_by_map(model, clip, window=None, cache=None, attention_kwargs=None, num_frames="all"):
    if cache is None:
        cache = make_filled_cache(model, clip, window, num_frames, attention_kwargs=attention_kwargs)
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


@pytest.fixture
def restored_attention_backend():
    """`set_attention_backend` also sets the default of the process, and nothing else puts it back."""
    backend = _AttentionBackendRegistry._active_backend
    yield
    _AttentionBackendRegistry._active_backend = backend


# 1. Teacher forcing and cached decoding


@pytest.mark.parametrize("padded", [False, True], ids=["text_unpadded", "text_padded"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_decoding_map_by_map_equals_teacher_forcing(architecture, padded):
    model = make_model(**ARCHITECTURES[architecture])
    clip = make_clip(num_channels=model.config.in_channels, padded=padded)
    assert_same_logits(run_map_by_map(model, clip), run_at_once(model, clip))


@pytest.mark.parametrize("padded", [False, True], ids=["text_unpadded", "text_padded"])
@pytest.mark.parametrize("rope_type", ["multiscale_temporal", "1d"])
@pytest.mark.parametrize("window", [1, 2, 3])
def test_the_ring_of_frames_equals_teacher_forcing_with_a_window(window, rope_type, padded):
    model = make_model(rope_type=rope_type)
    clip = make_clip(num_frames=8, padded=padded)
    expected = run_at_once(model, clip, window=window)
    assert_same_logits(run_map_by_map(model, clip, window=window), expected)
    assert_different(run_at_once(model, clip), expected)


def test_a_video_without_end_needs_no_more_memory_than_its_window():
    model = make_model()
    clip = make_clip(num_frames=8)
    cache = make_filled_cache(model, clip, window=2, num_frames=None)
    assert cache.keys.shape[2] == clip.num_text_tokens + 3 * TOKENS_PER_FRAME + 1  # and one token to spare
    storage = cache.keys.data_ptr()
    assert_same_logits(run_map_by_map(model, clip, cache=cache), run_at_once(model, clip, window=2))
    assert cache.keys.data_ptr() == storage and cache.num_written == 8 * TOKENS_PER_FRAME


def test_a_window_longer_than_the_video_changes_nothing():
    model, clip = make_model(), make_clip()
    cache = make_filled_cache(model, clip, window=10)
    assert cache.keys.shape[2] == clip.num_text_tokens + 3 * TOKENS_PER_FRAME + 1  # and one token to spare
    assert torch.equal(run_map_by_map(model, clip, cache=cache), run_map_by_map(model, clip))


def test_several_maps_in_one_pass_equal_map_by_map():
    model, clip = make_model(), make_clip(num_frames=3, padded=True)
    expected = run_map_by_map(model, clip)
    cache = make_filled_cache(model, clip)
    known_ids = text_token_ids(clip.num_text_tokens)
    logits = []
    # Two whole frames at once, one map, then the rest of the frame.
    for tokens in (slice(0, 60), slice(60, 61), slice(61, 90)):
        ids = clip.token_ids[tokens]
        known_ids = torch.cat([known_ids, ids])
        mask = expected_mask(ids, known_ids, text_mask=clip.text_mask)
        logits.append(model(clip.hidden_states[:, tokens], ids, kv_cache=cache, attention_mask=mask).sample)
    assert_same_logits(torch.cat(logits, dim=1), expected)


def test_a_cache_that_is_cleared_starts_anew():
    model, clip = make_model(), make_clip(num_frames=4, padded=True)
    cache = make_filled_cache(model, clip, window=2)
    expected = run_map_by_map(model, clip, cache=cache)
    cache.clear()
    model.encode_text(clip.text, cache, clip.text_mask)
    assert torch.equal(run_map_by_map(model, clip, cache=cache), expected)


def test_the_model_keeps_no_state_between_calls():
    model, clip = make_model(), make_clip()
    expected = run_map_by_map(model, clip)
    half_way = make_filled_cache(model, clip)
    model(clip.hidden_states[:, :1], clip.token_ids[:1], kv_cache=half_way)
    assert torch.equal(run_map_by_map(model, clip), expected)


class ShiftedTextReference:
    """
    Teacher forcing in which the text stands where `max_text_distance` wants it for each frame: its keys are rotated from
    scratch for every frame, one attention call a frame.
    """

    _attention_backend = None
    _parallel_config = None

    def __init__(self, model, clip):
        self.rope = model.rope
        self.clip = clip
        self.max_text_distance = model.config.max_text_distance

    def text_positions(self, frame):
        valid = self.clip.num_text_tokens if self.clip.text_mask is None else self.clip.text_mask.sum(1, keepdim=True)
        positions = (torch.arange(self.clip.num_text_tokens) - valid).reshape(-1, self.clip.num_text_tokens, 1)
        shift = max(0, frame - self.max_text_distance)
        if self.rope.rope_type == "1d":
            return positions.expand(-1, -1, 3) + shift * TOKENS_PER_FRAME
        return positions + torch.tensor([shift, 0, 0])

    def __call__(self, attn, hidden_states, rotary_embedding, attention_mask=None, cache_layer=None):
        num_text = self.clip.num_text_tokens
        query, key, value = (
            projection(hidden_states).unflatten(-1, (attn.heads, -1))
            for projection in (attn.to_q, attn.to_k, attn.to_v)
        )
        query, key = attn.norm_q(query), attn.norm_k(key)
        rotated_query = apply_rotary_embedding(query, rotary_embedding)
        rotated_key = apply_rotary_embedding(key, rotary_embedding)
        outputs = []
        for frame in range(-1, self.clip.num_frames):
            start = 0 if frame < 0 else num_text + frame * TOKENS_PER_FRAME
            rows = slice(start, num_text + (frame + 1) * TOKENS_PER_FRAME)
            text_key = apply_rotary_embedding(key[:, :num_text], self.rope(self.text_positions(frame)))
            keys = torch.cat([text_key, rotated_key[:, num_text:]], dim=1)
            attended = F.scaled_dot_product_attention(
                rotated_query[:, rows].transpose(1, 2),
                keys.transpose(1, 2),
                value.transpose(1, 2),
                attn_mask=attention_mask[:, :, rows],
            )
            outputs.append(attended.transpose(1, 2).flatten(2))
        return attn.to_out[0](torch.cat(outputs, dim=1))


@pytest.mark.parametrize("padded", [False, True], ids=["text_unpadded", "text_padded"])
@pytest.mark.parametrize(
    ("rope_type", "axes_layout"),
    [("multiscale_temporal", "interleaved"), ("multiscale_temporal", "sectioned"), ("1d", "interleaved")],
)
def test_text_that_follows_the_video_equals_text_placed_anew_for_every_frame(rope_type, axes_layout, padded):
    model = make_model(max_text_distance=2, rope_type=rope_type, rope_axes_layout=axes_layout)
    clip = make_clip(num_frames=6, padded=padded)
    logits = run_map_by_map(model, clip, window=3)

    unlimited = make_model(rope_type=rope_type, rope_axes_layout=axes_layout)
    fallen_back = run_map_by_map(unlimited, clip, window=3)
    assert torch.equal(logits[:, : 3 * TOKENS_PER_FRAME], fallen_back[:, : 3 * TOKENS_PER_FRAME])
    assert_different(logits[:, 3 * TOKENS_PER_FRAME :], fallen_back[:, 3 * TOKENS_PER_FRAME :])

    for block in model.blocks:
        block.attn.processor = ShiftedTextReference(model, clip)
    assert_same_logits(logits, run_at_once(model, clip, window=3))


@pytest.mark.parametrize("max_text_distance", [None, 1])
def test_text_can_be_replaced_while_the_video_is_made(max_text_distance):
    model = make_model(max_text_distance=max_text_distance)
    clip, half = make_clip(num_frames=4), 2 * TOKENS_PER_FRAME
    expected = run_map_by_map(model, clip)

    def run_with_text_replaced_by(text):
        cache, logits = make_filled_cache(model, clip), []
        for frame, scale, tokens in clip.map_slices:
            if (frame, scale) == (2, 0):
                model.encode_text(text, cache)
            logits.append(model(clip.hidden_states[:, tokens], clip.token_ids[tokens], kv_cache=cache).sample)
        return torch.cat(logits, dim=1)

    assert_same_logits(run_with_text_replaced_by(clip.text), expected)
    replaced = run_with_text_replaced_by(clip.text.flip(1))
    assert torch.equal(replaced[:, :half], expected[:, :half])
    assert_different(replaced[:, half:], expected[:, half:])


# 2. What a token sees


def test_a_map_sees_itself_and_what_is_before_it_and_nothing_later():
    model, clip = make_model(), make_clip(batch_size=1)
    logits = run_at_once(model, clip)
    for index, (_, _, tokens) in enumerate(clip.map_slices[1:], start=1):
        perturbed = copy.copy(clip)
        perturbed.hidden_states = clip.hidden_states.clone()
        # The last token of the map alone: all tokens of the map must notice.
        perturbed.hidden_states[:, tokens.stop - 1] += 1
        changes = (run_at_once(model, perturbed) - logits).abs().amax(dim=(0, 2))
        assert not changes[: tokens.start].any(), "a map saw a finer scale of its frame, or a later frame"
        assert changes[tokens].gt(1e-5).all(), "a token does not see its whole own map"
        for _, _, later in clip.map_slices[index + 1 :]:
            assert changes[later].gt(1e-5).all(), "a map does not see an earlier one"


def test_the_very_first_map_reads_the_start_embedding_and_no_input():
    model, clip = make_model(), make_clip()
    expected = run_at_once(model, clip)
    clip.hidden_states = clip.hidden_states.clone()
    clip.hidden_states[:, 0] = 100
    assert torch.equal(run_at_once(model, clip), expected)
    model.start_embedding.add_(1)
    assert_different(run_at_once(model, clip), expected)


def test_text_sees_text_alone_and_every_map_sees_the_text():
    model, clip = make_model(), make_clip(batch_size=1)
    states = {}
    handle = model.blocks[-1].register_forward_hook(lambda module, inputs, output: states.update(last=output))
    expected = run_at_once(model, clip)
    text_states = states["last"][:, : clip.num_text_tokens]
    perturbed = copy.copy(clip)
    perturbed.hidden_states = -clip.hidden_states
    run_at_once(model, perturbed)
    assert torch.equal(states["last"][:, : clip.num_text_tokens], text_states)
    handle.remove()

    clip.text = clip.text.clone()
    clip.text[:, -1] += 1
    changes = (run_at_once(model, clip) - expected).abs().amax(dim=(0, 2))
    assert changes.gt(1e-5).all()


def test_a_window_hides_the_frames_before_it():
    # One layer: through more of them a frame hears of older ones from those in between.
    model, clip = make_model(num_layers=1), make_clip(num_frames=4)
    logits = run_at_once(model, clip, window=2)
    clip.hidden_states = clip.hidden_states.clone()
    clip.hidden_states[:, clip.frame_slice(0)] += 1
    changes = (run_at_once(model, clip, window=2) - logits).abs().amax(dim=(0, 2)).split(TOKENS_PER_FRAME)
    assert changes[1].gt(1e-5).all() and changes[2].gt(1e-5).all()
    assert not changes[3].any()


def test_random_frame_mask_hides_exactly_the_masked_frame():
    model, clip = make_model(num_layers=1), make_clip(num_frames=4)
    frame_keep = torch.ones(2, 4, 4, dtype=torch.bool)
    frame_keep[1, 3, 1] = False  # in the second sample, frame 3 does not see frame 1
    frame_keep[:, 2, 2] = False  # a frame always sees itself
    logits = run_at_once(model, clip, frame_keep=frame_keep)
    expected = run_at_once(model, clip)
    assert torch.equal(logits[0], expected[0])
    assert torch.equal(logits[1, : 3 * TOKENS_PER_FRAME], expected[1, : 3 * TOKENS_PER_FRAME])

    for frame in range(3):
        perturbed = copy.copy(clip)
        perturbed.hidden_states = clip.hidden_states.clone()
        perturbed.hidden_states[:, clip.frame_slice(frame)] += 1
        changes = (run_at_once(model, perturbed, frame_keep=frame_keep) - logits).abs().amax(dim=2)
        seen = changes[:, clip.frame_slice(3)]
        assert seen[0].gt(1e-5).all()
        assert not seen[1].any() if frame == 1 else seen[1].gt(1e-5).all()


def test_padded_text_has_no_influence():
    model, clip = make_model(), make_clip(padded=True)
    logits = run_at_once(model, clip)
    garbage = copy.copy(clip)
    garbage.text = clip.text.clone()
    garbage.text[1, 3:] = 1e3
    assert torch.equal(run_at_once(model, garbage), logits)
    assert torch.equal(run_map_by_map(model, garbage), run_map_by_map(model, clip))
    for row, length in ((0, 5), (1, 3)):
        alone = copy.copy(clip)
        alone.hidden_states, alone.text, alone.text_mask = (
            clip.hidden_states[row : row + 1],
            clip.text[row : row + 1, :length],
            None,
        )
        assert_same_logits(run_at_once(model, alone), logits[row : row + 1])


def test_the_default_mask_is_the_block_causal_one():
    model, clip = make_model(), make_clip(padded=True)
    logits = model(clip.hidden_states, clip.token_ids, clip.text, clip.text_mask).sample
    assert torch.equal(logits, run_at_once(model, clip))


# 3. Positions


@pytest.mark.parametrize("axes_layout", ["interleaved", "sectioned"])
def test_a_token_with_equal_indices_rotates_as_in_one_dimension(axes_layout):
    rope = VideoARRotaryPosEmbed(32, 10000.0, axes_layout, "multiscale_temporal")
    indices = torch.tensor([0, 1, 5, 100])
    cosine, sine = rope(indices[:, None].expand(-1, 3))
    expected = get_1d_rotary_pos_embed(32, indices.float(), use_real=True, repeat_interleave_real=False)
    torch.testing.assert_close(cosine[:, 0], expected[0][:, :16], atol=1e-5, rtol=0)
    torch.testing.assert_close(sine[:, 0], expected[1][:, :16], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("axes_layout", "axes"),
    [("interleaved", [0, 1, 2, 0, 1, 2, 0, 1]), ("sectioned", [0, 0, 0, 1, 1, 1, 2, 2])],
)
def test_every_frequency_band_belongs_to_one_axis(axes_layout, axes):
    rope = VideoARRotaryPosEmbed(16, 10000.0, axes_layout, "multiscale_temporal")
    _, sines = rope(torch.eye(3)[:, None])  # a step on one axis at a time
    assert [(sines[:, 0, 0, band] != 0).nonzero().item() for band in range(8)] == axes


def test_video_positions_are_raw_grid_indices_of_the_own_scale():
    rope = VideoARRotaryPosEmbed(16, 10000.0, "interleaved", "multiscale_temporal")
    positions = rope.video_positions(video_token_ids(((1, 1), (2, 2)), 2))
    frame = [[0, 0, 0], [0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1]]
    assert positions.tolist() == [[t, h, w] for t in range(2) for _, h, w in frame]


@pytest.mark.parametrize("padded", [False, True], ids=["text_unpadded", "text_padded"])
def test_the_absolute_positions_of_the_paper_give_the_same_logits(padded):
    model, clip = make_model(), make_clip(padded=padded)
    expected = run_at_once(model, clip)

    class PaperRope(VideoARRotaryPosEmbed):
        # Text token i stands at (i, i, i), video tokens at (t + N, h + N, w + N), where N is the sample's own text length.
        def text_positions(self, text_mask, num_tokens, device):
            return torch.arange(num_tokens)[None, :, None].expand(2, -1, 3)

        def forward(self, positions):
            lengths = torch.tensor([5, 5]) if clip.text_mask is None else clip.text_mask.sum(dim=1)
            shifted = positions.clone()
            shifted[:, 5:] += lengths[:, None, None]
            return super().forward(shifted)

    model.rope = PaperRope(16, 10000.0, "interleaved", "multiscale_temporal")
    assert_same_logits(run_at_once(model, clip), expected)


def test_scales_are_told_apart_by_their_embedding():
    model, clip = make_model(), make_clip()
    expected = run_at_once(model, clip)
    model.scale_embedding.weight[2] += 1
    changed = run_at_once(model, clip)
    before = sum(MAP_SIZES[:2])
    assert torch.equal(changed[:, :before], expected[:, :before])
    assert_different(changed[:, before:], expected[:, before:])


# 4. Sizes


@pytest.mark.parametrize(
    ("name", "lowest", "highest"),
    [("L", 0.97 * 926e6, 1.03 * 926e6), ("XL", 2.0e9, 2.2e9), ("4B", 3.7e9, 4.1e9)],
)
def test_the_models_of_the_paper_have_its_parameter_counts(name, lowest, highest):
    with torch.device("meta"):
        model = VideoARTransformer3DModel(**TRANSFORMER_CONFIGS[name])
    assert lowest <= sum(parameter.numel() for parameter in model.parameters()) <= highest


def test_weights_for_training_from_scratch_shrink_with_depth_on_residual_branches():
    model = make_model(num_layers=8)
    model.initialize_weights(torch.Generator().manual_seed(0))
    first = copy.deepcopy(model.state_dict())
    assert model.blocks[0].attn.to_q.weight.std() == pytest.approx(0.02, rel=0.1)
    for branch in (model.blocks[0].attn.to_out[0], model.blocks[0].ff.net[2]):
        assert branch.weight.std() == pytest.approx(0.02 / 4, rel=0.1)
    model.initialize_weights(torch.Generator().manual_seed(0))
    assert all(torch.equal(value, first[key]) for key, value in model.state_dict().items())


# 5. Attention processors and backends


def test_neighbouring_query_heads_share_a_key_value_head():
    grouped, clip = make_model(**ARCHITECTURES["grouped_queries"]), make_clip()
    full = make_model(num_attention_heads=4, attention_head_dim=8)
    weights = grouped.state_dict()
    for name, weight in weights.items():
        if name.endswith(("to_k.weight", "to_v.weight")):
            weights[name] = weight.unflatten(0, (2, 8)).repeat_interleave(2, dim=0).flatten(0, 1)
    full.load_state_dict(weights)
    assert_same_logits(run_at_once(grouped, clip), run_at_once(full, clip))


@pytest.mark.parametrize("architecture", ["plain", "grouped_queries"])
def test_fused_projections_change_nothing_and_can_be_undone(architecture):
    model, clip = make_model(**ARCHITECTURES[architecture]), make_clip(padded=True)
    expected, keys = run_at_once(model, clip), set(model.state_dict())
    model.fuse_qkv_projections()
    calls = []
    for block in model.blocks:
        block.attn.to_qkv.register_forward_hook(lambda *_: calls.append("fused"))
        block.attn.to_q.register_forward_hook(lambda *_: calls.append("plain"))
    assert_same_logits(run_at_once(model, clip), expected)
    assert_same_logits(run_map_by_map(model, clip), expected)
    assert set(calls) == {"fused"}
    model.unfuse_qkv_projections()
    assert set(model.state_dict()) == keys
    assert torch.equal(run_at_once(model, clip), expected)


@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
def test_every_attention_call_goes_through_the_dispatcher_of_diffusers(fused, monkeypatch):
    model, clip = make_model(), make_clip()
    if fused:
        model.fuse_qkv_projections()
    calls = []
    dispatch = transformer_videoar.dispatch_attention_fn
    monkeypatch.setattr(
        transformer_videoar,
        "dispatch_attention_fn",
        lambda *args, **kwargs: calls.append(1) or dispatch(*args, **kwargs),
    )
    run_map_by_map(model, clip)
    assert len(calls) == len(model.blocks) * (1 + len(clip.map_slices))


@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
@pytest.mark.parametrize("backend", ["native", "_native_math", "flex"])
def test_attention_backends_agree(backend, fused, restored_attention_backend):
    model, clip = make_model(num_layers=1), make_clip(num_frames=2, padded=True)
    expected = run_at_once(model, clip)
    if fused:
        model.fuse_qkv_projections()
    model.requires_grad_(False)  # the flex backend has no gradients on a CPU
    model.set_attention_backend(backend)
    assert model.blocks[0].attn.processor._attention_backend == backend
    assert_same_logits(run_at_once(model, clip), expected)
    assert_same_logits(run_map_by_map(model, clip), expected)


def test_attention_processors_can_be_read_and_replaced():
    model, clip = make_model(), make_clip()
    assert list(model.attn_processors) == [f"blocks.{index}.attn.processor" for index in range(2)]
    expected = run_at_once(model, clip)

    class SilentProcessor(VideoARAttnProcessor):
        def __call__(self, attn, hidden_states, *args, **kwargs):
            return torch.zeros_like(hidden_states)

    model.set_attn_processor(SilentProcessor())
    assert_different(run_at_once(model, clip), expected)
    model.set_attn_processor(VideoARAttnProcessor())
    assert torch.equal(run_at_once(model, clip), expected)


# 6. Text


def test_dropped_text_is_the_null_text():
    model, clip = make_model(), make_clip()
    dropped = run_at_once(model, clip, text_drop_mask=torch.tensor([False, True]))
    null_text = model.null_text_embeds(2, clip.num_text_tokens)
    assert null_text.shape == clip.text.shape
    clip.text = torch.stack([clip.text[0], null_text[1]])
    assert torch.equal(dropped, run_at_once(model, clip))


def test_the_null_text_can_be_trained():
    model, clip = make_model().requires_grad_(True), make_clip()
    run_at_once(model, clip, text_drop_mask=torch.tensor([False, True])).square().mean().backward()
    gradient = model.null_text.grad.abs().sum(dim=1)
    assert gradient[: clip.num_text_tokens].gt(0).all() and not gradient[clip.num_text_tokens :].any()


# 7. Training


def test_the_loss_trains_every_parameter():
    model, clip = make_model().requires_grad_(True), make_clip()
    logits = run_at_once(model, clip, text_drop_mask=torch.tensor([False, True]))
    logits.square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_gradient_checkpointing_recomputes_the_blocks_and_gives_the_same_gradients():
    model, clip = make_model().requires_grad_(True).train(), make_clip(padded=True)
    checkpointed = copy.deepcopy(model)
    checkpointed.enable_gradient_checkpointing()
    calls = []
    checkpointed.blocks[0].register_forward_pre_hook(lambda *_: calls.append(1))
    for network in (model, checkpointed):
        run_at_once(network, clip).square().mean().backward()
    assert len(calls) == 2
    for plain, recomputed in zip(model.parameters(), checkpointed.parameters(), strict=True):
        if plain.grad is not None:
            torch.testing.assert_close(recomputed.grad, plain.grad)


def test_gradient_checkpointing_does_not_disturb_cached_decoding():
    model, clip = make_model(), make_clip()
    expected = run_map_by_map(model, clip)
    model.enable_gradient_checkpointing()
    with torch.enable_grad():  # frozen weights, but nobody switched gradients off
        cache = make_filled_cache(model, clip)
        first = model(clip.hidden_states[:, :1], clip.token_ids[:1], kv_cache=cache).sample
        second = model(clip.hidden_states[:, 1:5], clip.token_ids[1:5], kv_cache=cache).sample
    assert torch.equal(torch.cat([first, second], dim=1), expected[:, :5])


# 8. LoRA


def add_lora(model, adapter_name="default"):
    peft = pytest.importorskip("peft")
    targets = ["to_q", "to_k", "to_v", "to_out.0", "net.2"]
    model.add_adapter(
        peft.LoraConfig(r=4, lora_alpha=4, target_modules=targets, init_lora_weights=False), adapter_name=adapter_name
    )
    return model


def test_lora_is_added_saved_loaded_fused_and_disabled(tmp_path):
    model, clip = make_model(), make_clip()
    base = run_at_once(model, clip)
    add_lora(model)
    adapted = run_at_once(model, clip)
    assert_different(adapted, base)
    model.save_lora_adapter(tmp_path)

    model.disable_lora()
    assert torch.equal(run_at_once(model, clip), base)
    model.enable_lora()
    assert torch.equal(run_at_once(model, clip), adapted)

    loaded = make_model()
    loaded.load_lora_adapter(tmp_path, prefix=None, use_safetensors=True)
    assert torch.equal(run_at_once(loaded, clip), adapted)
    loaded.fuse_lora()
    assert_same_logits(run_at_once(loaded, clip), adapted)
    loaded.unfuse_lora()
    assert_same_logits(run_at_once(loaded, clip), adapted)
    loaded.unload_lora()
    assert_same_logits(run_at_once(loaded, clip), base)


@pytest.mark.parametrize("scale", [0.0, 0.5, 2.0])
def test_the_scale_of_a_lora_reaches_text_and_maps_alike(scale):
    model, clip = make_model(), make_clip()
    base = run_at_once(model, clip)
    adapted = run_at_once(add_lora(model), clip)
    scaled = run_at_once(model, clip, attention_kwargs={"scale": scale})
    assert_different(scaled, adapted)
    if scale == 0:
        assert_same_logits(scaled, base)
    assert_same_logits(run_map_by_map(model, clip, attention_kwargs={"scale": scale}), scaled)
    assert torch.equal(run_at_once(model, clip), adapted), "the scale was not put back"


# 9. Saving, loading, casting


def test_saving_and_loading_gives_the_same_model(tmp_path):
    # Every argument differs from its default: one that is not saved, or not read back, is noticed.
    config = {
        "in_channels": 16,
        "out_channels": 6,
        "num_layers": 1,
        "num_attention_heads": 4,
        "attention_head_dim": 8,
        "num_key_value_heads": 2,
        "intermediate_size": 40,
        "text_embed_dim": 16,
        "max_text_length": 12,
        "max_scales": 5,
        "qk_norm": False,
        "norm_eps": 1e-5,
        "rope_theta": 500.0,
        "rope_axes_layout": "sectioned",
        "rope_type": "1d",
        "max_text_distance": 4,
        "sample_height": 4,
        "sample_width": 6,
        "sample_frames": 3,
        "frame_conditions": {"action": {"vector_size": 3}},
    }
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(VideoARTransformer3DModel.__init__).parameters.items()
        if name != "self"
    }
    assert config.keys() == defaults.keys() and all(config[name] != defaults[name] for name in config)
    model, clip = make_model(**config), make_clip(num_channels=16, padded=True)
    model.save_pretrained(tmp_path)
    loaded = VideoARTransformer3DModel.from_pretrained(tmp_path)
    assert {name: loaded.config[name] for name in config} == config
    assert not loaded.training
    assert torch.equal(run_at_once(loaded, clip), run_at_once(model, clip))


def test_saving_in_shards_and_variants_and_loading_in_another_dtype(tmp_path):
    model, clip = make_model(), make_clip()
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    index = json.loads((tmp_path / "diffusion_pytorch_model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 1
    assert torch.equal(
        run_at_once(VideoARTransformer3DModel.from_pretrained(tmp_path), clip), run_at_once(model, clip)
    )

    model.to(torch.float16).save_pretrained(tmp_path, variant="fp16")
    loaded = VideoARTransformer3DModel.from_pretrained(tmp_path, variant="fp16", dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}
    with pytest.raises(OSError, match="ema"):
        VideoARTransformer3DModel.from_pretrained(tmp_path, variant="ema")


def test_half_precision_takes_float32_inputs_and_keeps_positions_exact():
    model, clip = make_model(), make_clip()
    expected = run_at_once(model, clip)
    model.to(torch.bfloat16)
    logits, cached = run_at_once(model, clip), run_map_by_map(model, clip)
    assert logits.dtype == cached.dtype == torch.bfloat16
    # Eight bits of mantissa in every weight and activation.
    assert (logits - expected).abs().mean() < 0.05 * expected.std()
    assert (cached - expected).abs().mean() < 0.05 * expected.std()


@pytest.mark.parametrize(
    ("storage_dtype", "compute_dtype"), [(torch.bfloat16, torch.float32), (torch.float8_e4m3fn, torch.bfloat16)]
)
def test_weights_can_be_stored_in_fewer_bits_than_they_compute_in(storage_dtype, compute_dtype):
    model, clip = make_model(), make_clip()
    expected = run_at_once(model, clip)
    model.to(compute_dtype).enable_layerwise_casting(storage_dtype=storage_dtype, compute_dtype=compute_dtype)
    assert model.blocks[0].attn.to_q.weight.dtype == storage_dtype
    assert model.null_text.dtype == model.scale_embedding.weight.dtype == compute_dtype
    logits, cached = run_at_once(model, clip), run_map_by_map(model, clip)
    assert logits.dtype == cached.dtype == compute_dtype
    # Three bits of mantissa in every weight.
    assert (logits - expected).abs().mean() < 0.3 * expected.std()
    assert (cached - logits).abs().mean() < 0.1 * expected.std()


# 10. Placement and compilation


@pytest.mark.parametrize(
    "options", [{"offload_type": "leaf_level"}, {"offload_type": "block_level", "num_blocks_per_group": 1}], ids=str
)
def test_group_offloading_serves_every_entry_point(options, tmp_path):
    model, clip = make_model(), make_clip()
    expected, null_text = run_map_by_map(model, clip), model.null_text_embeds(2, 5).clone()
    # Groups on disk leave uninitialised memory behind: a weight that nobody brings back is noticed on a CPU too.
    model.enable_group_offload(onload_device=torch.device("cpu"), offload_to_disk_path=str(tmp_path), **options)
    assert torch.equal(model.null_text_embeds(2, 5), null_text)
    assert torch.equal(run_map_by_map(model, clip), expected)


def test_every_entry_point_runs_the_offload_hook_of_accelerate():
    model, clip, calls = make_model(), make_clip(), []

    class CountingHook(ModelHook):
        def pre_forward(self, module, *args, **kwargs):
            calls.append(module)
            return args, kwargs

    add_hook_to_module(model, CountingHook())
    model.null_text_embeds(1, 3)
    cache = make_filled_cache(model, clip)
    model(clip.hidden_states[:, :1], clip.token_ids[:1], kv_cache=cache)
    assert len(calls) == 3
    remove_hook_from_module(model)


@pytest.mark.parametrize("device_map", ["auto", "cpu", "partly_on_disk"])
def test_a_device_map_places_the_model(device_map, tmp_path):
    model, clip = make_model(), make_clip()
    if device_map == "partly_on_disk":
        device_map = dict.fromkeys((name.split(".")[0] for name in model.state_dict()), "cpu")
        del device_map["blocks"]
        device_map |= {"blocks.0": "cpu", "blocks.1": "disk", "text_embedder": "disk", "proj_out": "disk"}
    model.save_pretrained(tmp_path / "model")
    loaded = VideoARTransformer3DModel.from_pretrained(
        tmp_path / "model", device_map=device_map, offload_folder=tmp_path / "offload"
    )
    assert_same_logits(run_map_by_map(loaded, clip), run_map_by_map(model, clip))


@pytest.mark.parametrize(
    "backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)], ids=["traced", "compiled"]
)
def test_blocks_compile_to_one_graph_for_training_and_cached_decoding(backend):
    # The `eager` backend traces like any other and needs no C++ compiler.
    model, clip = make_model(), make_clip()
    expected = run_at_once(model, clip)
    model.compile_repeated_blocks(fullgraph=True, dynamic=True, backend=backend)
    with torch.no_grad():
        assert_same_logits(run_at_once(model, clip), expected)
        assert_same_logits(run_map_by_map(model, clip, window=2), expected)
    torch.compiler.reset()


def test_later_frames_compile_no_further_graphs():
    counter = CompileCounter()
    model, clip = make_model(), make_clip(num_frames=4)
    model.compile_repeated_blocks(fullgraph=True, backend=counter)
    counts = []
    with torch.no_grad():
        cache = make_filled_cache(model, clip, window=2)
        for _, scale, tokens in clip.map_slices:
            model(clip.hidden_states[:, tokens], clip.token_ids[tokens], kv_cache=cache)
            if scale == len(SCHEDULE) - 1:
                counts.append(counter.frame_count)
    assert 1 <= counts[0] <= len(SCHEDULE) and counts == counts[:1] * 4
    torch.compiler.reset()


# 11. Errors


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_attention_heads": 2, "num_key_value_heads": 3}, r"`num_key_value_heads` \(3\) must divide .* \(2\)"),
        ({"rope_axes_layout": "mixed"}, "`rope_axes_layout` must be 'interleaved' or 'sectioned', got 'mixed'"),
        ({"rope_type": "2d"}, "`rope_type` must be 'multiscale_temporal' or '1d', got '2d'"),
    ],
)
def test_a_configuration_without_meaning_is_refused(config, message):
    with pytest.raises(ValueError, match=message):
        make_tiny_transformer(**config)


def test_a_call_needs_either_text_or_a_cache():
    model, clip = make_model(), make_clip()
    cache = make_filled_cache(model, clip)
    for kwargs in ({}, {"encoder_hidden_states": clip.text, "kv_cache": cache}):
        with pytest.raises(ValueError, match="exactly one of `encoder_hidden_states` .* and `kv_cache`"):
            model(clip.hidden_states, clip.token_ids, **kwargs)


def test_a_null_text_longer_than_the_longest_text_is_refused():
    with pytest.raises(ValueError, match="`num_tokens` is 17, the longest text of this model is 16 tokens"):
        make_model().null_text_embeds(1, 17)


def test_a_cache_without_end_needs_a_window():
    with pytest.raises(ValueError, match="needs a `window`"):
        make_model().make_cache(1, 5, TOKENS_PER_FRAME, num_frames=None)


@pytest.mark.parametrize("window", [None, 1, 5])
def test_a_full_cache_refuses_another_frame(window):
    model, clip = make_model(), make_clip(num_frames=4)
    with pytest.raises(ValueError, match="`kv_cache` was made for 3 latent frames"):
        run_map_by_map(model, clip, window=window, num_frames=3)


def test_text_of_another_length_than_the_cache_is_refused():
    model, clip = make_model(), make_clip()
    cache = make_filled_cache(model, clip)
    with pytest.raises(ValueError, match="has 4 text tokens, but `kv_cache` was made for 5"):
        model.encode_text(clip.text[:, :4], cache)


# 12. Documentation


@pytest.mark.parametrize("name", ["__init__", "forward", "encode_text"])
def test_every_argument_is_documented(name):
    method = getattr(VideoARTransformer3DModel, name)
    documentation = VideoARTransformer3DModel.__doc__ if name == "__init__" else inspect.unwrap(method).__doc__
    names = [parameter for parameter in inspect.signature(method).parameters if parameter != "self"]
    documented = re.findall(r"^ +(\w+) \(", documentation.split("Args:")[1], flags=re.MULTILINE)
    assert names == documented[: len(names)]
