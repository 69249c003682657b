# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch.nn.attention.flex_attention import create_mask

from tests.tiny_components import make_tiny_transformer
from tests.visibility import expected_mask
from videoar_pipelines.models.token_layout import (
    FRAME,
    SCALE,
    block_causal_mask,
    dense_mask,
    flex_mask,
    random_frame_keep,
    sequence_layout,
    text_token_ids,
    token_blocks,
    video_token_ids,
    visible_blocks,
)
from videoar_pipelines.training.attention_masks import choose_attention_mask, training_attention_mask


SCHEDULE = ((1, 1), (2, 2), (4, 4), (8, 8))  # 85 tokens a frame
NUM_FRAMES, NUM_TEXT_TOKENS = 4, 12


def make_layout(device="cpu"):
    return sequence_layout(SCHEDULE, NUM_FRAMES, NUM_TEXT_TOKENS, torch.device(device))


def all_ids(layout):
    return torch.cat([text_token_ids(NUM_TEXT_TOKENS), layout.video_ids])


def make_text_mask(device="cpu"):
    return torch.arange(NUM_TEXT_TOKENS, device=device) < torch.tensor([[12], [5], [1]], device=device)


def test_token_ids_name_frame_scale_row_column_and_index():
    ids = video_token_ids(((1, 1), (2, 3)), num_frames=2, first_frame=4)
    assert ids[0].tolist() == [4, 0, 0, 0, 28] and ids[-1].tolist() == [5, 1, 1, 2, 41]
    assert torch.equal(video_token_ids(SCHEDULE, 5)[2 * 85 :], video_token_ids(SCHEDULE, 3, 2))
    assert text_token_ids(3)[:, [FRAME, SCALE]].eq(-1).all()


def test_blocks_are_numbered_in_the_order_of_the_sequence():
    layout = make_layout()
    assert layout.blocks[:NUM_TEXT_TOKENS].eq(0).all() and layout.blocks.diff().unique().tolist() == [0, 1]
    assert layout.blocks.unique().tolist() == list(range(1 + NUM_FRAMES * len(SCHEDULE)))
    assert torch.equal(token_blocks(all_ids(layout), len(SCHEDULE)), layout.blocks)


@pytest.mark.parametrize("window", [None, 1, 2])
@pytest.mark.parametrize("frame_mask_probability", [None, 0.0, 0.5, 1.0])
def test_the_table_shows_what_the_rule_says_token_by_token(window, frame_mask_probability):
    layout, text_mask, ids = make_layout(), make_text_mask(), all_ids(make_layout())
    frame_keep = None
    if frame_mask_probability is not None:
        generator = torch.Generator().manual_seed(0)
        frame_keep = random_frame_keep(len(text_mask), NUM_FRAMES, frame_mask_probability, generator=generator)
    visible = visible_blocks(NUM_FRAMES, len(SCHEDULE), window, frame_keep)
    for mask in (None, text_mask):
        expected = expected_mask(ids, ids, window, frame_keep=frame_keep, text_mask=mask)
        assert torch.equal(dense_mask(visible, layout.blocks, mask), expected)


@pytest.mark.parametrize("window", [None, 1, 2])
@pytest.mark.parametrize("frame_mask_probability", [0.0, 0.5, 1.0])
def test_the_flex_mask_shows_what_the_boolean_mask_shows(window, frame_mask_probability):
    layout, text_mask = make_layout(), make_text_mask()
    generator = torch.Generator().manual_seed(0)
    frame_keep = random_frame_keep(len(text_mask), NUM_FRAMES, frame_mask_probability, generator=generator)
    visible = visible_blocks(NUM_FRAMES, len(SCHEDULE), window, frame_keep)
    block_mask = flex_mask(visible, layout.blocks, text_mask)
    boolean = dense_mask(visible, layout.blocks, text_mask)
    num_tokens = len(layout.blocks)
    assert create_mask(block_mask.mask_mod, len(text_mask), 1, num_tokens, num_tokens, device="cpu").equal(boolean)

    # FlexAttention skips the blocks that are not listed: none of them may hold something visible.
    size = block_mask.BLOCK_SIZE[0]
    padding = -num_tokens % size
    blocks = (
        torch.nn.functional.pad(boolean, (0, padding, 0, padding)).unflatten(3, (-1, size)).unflatten(2, (-1, size))
    )
    assert block_mask.to_dense().bool().equal(blocks.any(dim=5).any(dim=3))


def test_without_random_frame_mask_and_window_both_kinds_are_the_models_own_mask():
    layout, text_mask = make_layout(), make_text_mask()
    own = block_causal_mask(layout.blocks, layout.blocks, text_mask)
    assert training_attention_mask(layout, text_mask, "boolean").equal(own)
    block_mask = training_attention_mask(layout, text_mask, "flex")
    num_tokens = len(layout.blocks)
    assert create_mask(block_mask.mask_mod, 3, 1, num_tokens, num_tokens, device="cpu").equal(own)


def test_random_frame_mask_never_hides_text_or_the_own_frame():
    layout, text_mask = make_layout(), make_text_mask()
    hidden = training_attention_mask(layout, text_mask, "boolean", frame_mask_probability=1.0)
    plain = training_attention_mask(layout, text_mask, "boolean")
    frames = all_ids(layout)[:, FRAME]
    is_earlier_frame = (frames[None] >= 0) & (frames[None] < frames[:, None])
    assert not (hidden & is_earlier_frame).any()
    assert (hidden == plain)[..., ~is_earlier_frame].all()


def test_random_frame_mask_can_hide_a_frame_from_all_later_ones_alike():
    keep = random_frame_keep(500, 10, 0.3, generator=torch.Generator().manual_seed(0), drawn_per="frame")
    assert keep.shape == (500, 10, 10) and torch.equal(keep, keep[:, :1].expand(-1, 10, -1))
    assert abs(keep.float().mean() - 0.7) < 0.03  # four standard deviations of 5,000 draws are 0.026


def test_random_frame_mask_keeps_frames_with_its_probability():
    keep = random_frame_keep(500, 10, 0.3, generator=torch.Generator().manual_seed(0))
    assert abs(keep.float().mean() - 0.7) < 0.01  # four standard deviations of 50,000 draws are 0.008
    assert keep.float().mean(dim=0).amin() > 0.6


def test_flex_attention_is_refused_where_it_cannot_train():
    assert choose_attention_mask("auto", torch.device("cpu")) == ("per_frame", False)
    assert choose_attention_mask("auto", torch.device("cpu"), is_compiled=True) == ("per_frame", True)
    assert choose_attention_mask("auto", torch.device("mps")) == ("boolean", False)
    assert choose_attention_mask("auto", torch.device("cuda")) == ("flex", True)
    for device in ("cuda", "cpu"):
        assert choose_attention_mask("auto", torch.device(device), splits_sequences=True) == ("boolean", False)
    with pytest.raises(ValueError, match="--attention flex"):
        choose_attention_mask("flex", torch.device("cpu"))
    with pytest.raises(ValueError, match="drop `--no-compile`"):
        choose_attention_mask("auto", torch.device("cuda"), is_compiled=False)
    for kind in ("flex", "per_frame"):
        with pytest.raises(ValueError, match=f"--attention {kind}.*--context_parallel_degree"):
            choose_attention_mask(kind, torch.device("cuda"), splits_sequences=True)


def gradients_of(kind, dtype, layout, text_mask, frame_mask_probability=0.0, window=None, is_compiled=False):
    """Logits and gradients of a tiny transformer that trains with masks of a kind, under autocast to `dtype`."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(3, len(layout.video_ids), 8, generator=generator)
    text_states = torch.randn(3, NUM_TEXT_TOKENS, 16, generator=generator)
    torch.manual_seed(0)  # of weights and Random Frame Mask
    transformer = make_tiny_transformer(num_attention_heads=2, attention_head_dim=32)
    if is_compiled:
        transformer.compile_repeated_blocks(fullgraph=True)
    mask = training_attention_mask(layout, text_mask, kind, window, frame_mask_probability)
    is_bfloat16 = dtype == torch.bfloat16
    with torch.autocast("cpu", dtype, enabled=is_bfloat16):
        logits = transformer(inputs, layout.video_ids, text_states, text_mask, attention_mask=mask).sample
    logits.float().square().mean().backward()
    return torch.cat(
        [
            logits.detach().float().flatten(),
            *(p.grad.flatten() for p in transformer.parameters() if p.grad is not None),
        ]
    )


@pytest.mark.parametrize(("window", "frame_mask_probability"), [(None, 0.0), (2, 0.0), (None, 0.5)])
def test_training_frame_by_frame_equals_training_with_the_whole_mask(window, frame_mask_probability):
    layout, text_mask = make_layout(), make_text_mask()
    arguments = (torch.float32, layout, text_mask, frame_mask_probability, window)
    whole, by_frame = (gradients_of(kind, *arguments) for kind in ("boolean", "per_frame"))
    torch.testing.assert_close(by_frame, whole, rtol=1e-5, atol=1e-6 * whole.abs().max().item())


@pytest.mark.parametrize("is_compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_frame_by_frame_bfloat16_is_as_near_to_float32_as_with_the_whole_mask(is_compiled):
    layout, text_mask = make_layout(), make_text_mask()
    exact = gradients_of("boolean", torch.float32, layout, text_mask)
    whole = gradients_of("boolean", torch.bfloat16, layout, text_mask)
    by_frame = gradients_of("per_frame", torch.bfloat16, layout, text_mask, is_compiled=is_compiled)
    assert 0 < (by_frame - exact).norm() < 1.3 * (whole - exact).norm() < 0.3 * exact.norm()


@pytest.mark.gpu
def test_training_with_flex_attention_equals_training_with_the_boolean_mask():
    from diffusers.models.attention_dispatch import attention_backend

    from videoar_pipelines.models.quantization import tokens_per_frame

    layout, text_mask = make_layout("cuda"), make_text_mask("cuda")
    generator = torch.Generator("cuda").manual_seed(0)
    num_tokens = NUM_FRAMES * tokens_per_frame(SCHEDULE)
    inputs = torch.randn(3, num_tokens, 8, device="cuda", generator=generator)
    text_states = torch.randn(3, NUM_TEXT_TOKENS, 16, device="cuda", generator=generator)
    gradients = {}
    for kind, backend in (("boolean", "native"), ("flex", "flex")):
        torch.manual_seed(0)
        transformer = make_tiny_transformer(num_attention_heads=2, attention_head_dim=32).to("cuda")
        if kind == "flex":
            transformer.compile_repeated_blocks()
        mask = training_attention_mask(layout, text_mask, kind, window=2)
        with attention_backend(backend):
            logits = transformer(inputs, layout.video_ids, text_states, text_mask, attention_mask=mask).sample
            logits.square().mean().backward()
        trained = [parameter.grad for parameter in transformer.parameters() if parameter.grad is not None]
        gradients[kind] = [logits.detach(), *trained]
    assert len(gradients["flex"]) == len(gradients["boolean"]) > 10
    for plain, flex in zip(gradients["boolean"], gradients["flex"]):
        # The compiled kernel may multiply in TF32, which has 10 bits of mantissa.
        torch.testing.assert_close(flex, plain, rtol=2e-2, atol=2e-2 * plain.abs().max().item())


@pytest.mark.slow
def test_a_compiled_block_with_flex_attention_gives_the_boolean_masks_logits():
    from diffusers.models.attention_dispatch import attention_backend

    layout, text_mask = make_layout(), make_text_mask()
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(3, len(layout.video_ids), 8, generator=generator)
    text_states = torch.randn(3, NUM_TEXT_TOKENS, 16, generator=generator)
    transformer = make_tiny_transformer(num_attention_heads=2, attention_head_dim=32)
    frame_keep = random_frame_keep(3, NUM_FRAMES, 0.3, generator=generator)
    arguments = (inputs, layout.video_ids, text_states, text_mask)
    visible = visible_blocks(NUM_FRAMES, len(SCHEDULE), 2, frame_keep)
    boolean = dense_mask(visible, layout.blocks, text_mask)
    with torch.no_grad():
        plain = transformer(*arguments, attention_mask=boolean).sample
        transformer.compile_repeated_blocks(fullgraph=True)
        with attention_backend("flex"):
            block_mask = flex_mask(visible, layout.blocks, text_mask)
            compiled = transformer(*arguments, attention_mask=block_mask).sample
    torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-4)  # logits are near 10; 8e-6 was seen
