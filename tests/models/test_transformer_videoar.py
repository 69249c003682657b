# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0

import copy
import inspect
import re

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.embeddings import get_1d_rotary_pos_embed
from torch._dynamo.testing import CompileCounter

from tests.tiny_components import make_tiny_transformer
from tests.transformer_clips import (
    MAP_SIZES,
    SCHEDULE,
    TOKENS_PER_FRAME,
    assert_different,
    assert_same_logits,
    make_clip,
    make_filled_cache,
    make_model,
    run_at_once,
    run_map_by_map,
)
from tests.visibility import expected_mask
from videoar_pipelines.models.token_layout import text_token_ids, video_token_ids
from videoar_pipelines.models.transformer_videoar import (
    TRANSFORMER_CONFIGS,
    VideoARRotaryPosEmbed,
    VideoARTransformer3DModel,
    apply_rotary_embedding,
)


ARCHITECTURES = {
    "plain": {},
    "grouped_queries": {"num_attention_heads": 4, "num_key_value_heads": 2, "attention_head_dim": 8},
    "one_key_value_head": {"num_attention_heads": 4, "num_key_value_heads": 1, "attention_head_dim": 8},
    "sectioned_axes": {"rope_axes_layout": "sectioned"},
    "rope_1d": {"rope_type": "1d"},
    "without_qk_norm": {"qk_norm": False},
    "previous_frame_everywhere": {"in_channels": 16},
}


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


@pytest.mark.parametrize("padded", [False, True], ids=["text_unpadded", "text_padded"])
@pytest.mark.parametrize("rope_type", ["multiscale_temporal", "1d"])
@pytest.mark.parametrize(("window", "sink_size"), [(1, 1), (2, 1), (1, 3), (3, 2)])
def test_a_ring_with_sinks_equals_teacher_forcing_with_the_first_frames_visible(window, sink_size, rope_type, padded):
    model = make_model(rope_type=rope_type)
    clip = make_clip(num_frames=8, padded=padded)
    expected = run_at_once(model, clip, window, sink_size)
    assert_same_logits(run_map_by_map(model, clip, window, sink_size), expected)
    # The first frame that differs from one without sinks is the one that the first sink would have left.
    without, first = run_at_once(model, clip, window), clip.frame_slice(window + 1).start
    assert torch.equal(without[:, :first], expected[:, :first])
    assert_different(without[:, first:], expected[:, first:])


@pytest.mark.parametrize("sink_size", [0, 2])
def test_a_video_without_end_needs_no_more_memory_than_its_window_and_sinks(sink_size):
    model = make_model()
    clip = make_clip(num_frames=8)
    cache = make_filled_cache(model, clip, window=2, sink_size=sink_size, num_frames=None)
    num_slots = sink_size + 3
    assert cache.keys.shape[2] == clip.num_text_tokens + num_slots * TOKENS_PER_FRAME + 1  # and one token to spare
    storage = cache.keys.data_ptr()
    assert_same_logits(run_map_by_map(model, clip, cache=cache), run_at_once(model, clip, 2, sink_size))
    assert cache.keys.data_ptr() == storage and cache.num_written == 8 * TOKENS_PER_FRAME


@pytest.mark.parametrize(("window", "sink_size"), [(10, 0), (1, 10), (1, 1)])
def test_a_window_with_sinks_that_show_all_of_the_video_changes_nothing(window, sink_size):
    """Also the last frame of three sees the other two by a window and a sink of one each."""
    model, clip = make_model(), make_clip()
    cache = make_filled_cache(model, clip, window, sink_size)
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
    cache = make_filled_cache(model, clip, window=1, sink_size=1)
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

    def __call__(self, attn, hidden_states, rotary_embedding, attention_mask=None, kv_cache=None):
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


# 5. Attention


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


# 8. Saving, loading, casting


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


def test_half_precision_takes_float32_inputs_and_keeps_positions_exact():
    model, clip = make_model(), make_clip()
    expected = run_at_once(model, clip)
    model.to(torch.bfloat16)
    logits, cached = run_at_once(model, clip), run_map_by_map(model, clip)
    assert logits.dtype == cached.dtype == torch.bfloat16
    # Eight bits of mantissa in every weight and activation.
    assert (logits - expected).abs().mean() < 0.05 * expected.std()
    assert (cached - expected).abs().mean() < 0.05 * expected.std()


# 9. Placement and compilation


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


# 10. Errors


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


# 11. Documentation


@pytest.mark.parametrize("name", ["__init__", "forward", "encode_text"])
def test_every_argument_is_documented(name):
    method = getattr(VideoARTransformer3DModel, name)
    documentation = VideoARTransformer3DModel.__doc__ if name == "__init__" else inspect.unwrap(method).__doc__
    names = [parameter for parameter in inspect.signature(method).parameters if parameter != "self"]
    documented = re.findall(r"^ +(\w+) \(", documentation.split("Args:")[1], flags=re.MULTILINE)
    assert names == documented[: len(names)]
