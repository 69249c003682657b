# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Claims about prompts and their text states."""

import pytest
import torch

from tests.tiny_components import make_tiny_text_encoder, make_tiny_tokenizer
from videoar_pipelines.models.text_encoding import clean_prompt, encode_text, padded_text_length


PROMPTS = ["a red circle", "a red circle moves to the right"]


@pytest.fixture(scope="module")
def tokenizer():
    return make_tiny_tokenizer()


@pytest.fixture(scope="module")
def text_encoder(tokenizer):
    torch.manual_seed(0)
    return make_tiny_text_encoder(len(tokenizer)).requires_grad_(False)


def test_prompts_are_cleaned():
    assert clean_prompt("  a cat &amp;\n\t a   dog ") == "a cat & a dog"


@pytest.mark.parametrize(("max_length", "divisor"), [(512, 1), (32, 1), (30, 4), (7, 1), (77, 3), (16, 8)])
def test_padded_lengths_are_few_long_enough_and_differ_by_multiples(max_length, divisor):
    lengths = [padded_text_length(longest, max_length, divisor) for longest in range(1, max_length + 1)]
    assert all(longest <= length <= max_length for longest, length in enumerate(lengths, start=1))
    assert len(set(lengths)) <= 5 and all((max_length - length) % divisor == 0 for length in lengths)


def test_a_short_text_is_padded_to_a_sixteenth_of_the_longest():
    assert [padded_text_length(longest, 512) for longest in (1, 32, 33, 200, 300)] == [32, 32, 64, 256, 512]


@pytest.mark.parametrize(("padding", "num_tokens"), [("rounded", 8), ("max_length", 16)])
def test_states_do_not_depend_on_padding(tokenizer, text_encoder, padding, num_tokens):
    expected, expected_mask = encode_text(tokenizer, text_encoder, PROMPTS[:1], 16)
    states, mask = encode_text(tokenizer, text_encoder, PROMPTS[:1], 16, padding)
    assert states.shape[1] == num_tokens and torch.equal(mask[:, : expected.shape[1]], expected_mask)
    # float32, in products of other sizes
    torch.testing.assert_close(states[mask], expected[expected_mask], rtol=1e-5, atol=1e-6)


def test_states_do_not_depend_on_white_space(tokenizer, text_encoder):
    states, mask = encode_text(tokenizer, text_encoder, ["a red circle"], 16)
    other_states, other_mask = encode_text(tokenizer, text_encoder, ["  a\nred   circle "], 16)
    assert torch.equal(states, other_states) and torch.equal(mask, other_mask)


def test_the_mask_says_which_states_are_padding(tokenizer, text_encoder):
    states, mask = encode_text(tokenizer, text_encoder, PROMPTS, 16)
    lengths = [len(ids) for ids in tokenizer(PROMPTS).input_ids]
    assert states.shape == (2, max(lengths), text_encoder.config.d_model)
    assert mask.dtype == torch.bool and mask.sum(dim=1).tolist() == lengths


def test_padding_does_not_change_the_states(tokenizer, text_encoder):
    for padding, length in (("longest", None), ("max_length", 16)):
        states, mask = encode_text(tokenizer, text_encoder, PROMPTS, 16, padding=padding)
        assert length is None or mask.shape == (2, length)
        alone, _ = encode_text(tokenizer, text_encoder, PROMPTS[:1], 16)
        # Padding changes the order in which the attention sums up, hence the tolerance.
        torch.testing.assert_close(states[:1][mask[:1]], alone[0], atol=1e-5, rtol=1e-5)


def test_a_prompt_is_cut_with_one_warning(tokenizer, text_encoder, caplog):
    long_prompt = "a red circle moves to the right " * 10  # more than the tokenizer's `model_max_length`, too
    states, _ = encode_text(tokenizer, text_encoder, ["a red circle", long_prompt], 4)
    assert states.shape[1] == 4
    assert [record.getMessage().split(": ")[0] for record in caplog.records] == [
        f"A prompt of {len(tokenizer(long_prompt, verbose=False).input_ids)} tokens was cut to `max_sequence_length` = 4"
    ]


def test_captions_are_cut_without_a_warning_if_none_is_wanted(tokenizer, text_encoder, caplog):
    encode_text(tokenizer, text_encoder, ["a red circle moves to the right " * 10], 4, warns_of_cuts=False)
    assert not caplog.records


def test_gradients_reach_a_text_encoder_that_is_trained(tokenizer):
    text_encoder = make_tiny_text_encoder(len(tokenizer))
    encode_text(tokenizer, text_encoder, PROMPTS, 16)[0].square().sum().backward()
    assert all(parameter.grad is not None for parameter in text_encoder.parameters())
