# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Sequences that several processes share: the same logits and gradients as in one process."""

import os

import pytest
import torch
import torch.distributed as dist

from tests.examples.training_scripts import run_in_processes
from tests.tiny_components import make_tiny_transformer
from tests.visibility import expected_mask
from videoar_pipelines.models.token_layout import text_token_ids, video_token_ids
from videoar_pipelines.training.sharding import split_sequences


SCHEDULE = ((1, 1), (2, 2), (4, 4))


@pytest.fixture
def two_accelerators(monkeypatch):
    """diffusers asks for their number, which is zero on a CPU."""
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)


def start_gloo():
    """`torch.accelerator` must not be asked which backend fits."""
    dist.init_process_group("gloo", rank=int(os.environ["RANK"]), world_size=int(os.environ["WORLD_SIZE"]))


@pytest.mark.parametrize("key_value_heads", [4, 2], ids=["", "grouped queries"])
@pytest.mark.parametrize("degree", [2, 4])
def test_processes_that_share_a_sequence_compute_what_one_does(two_accelerators, tmp_path, degree, key_value_heads):
    ids = video_token_ids(SCHEDULE, 3)  # 63 tokens
    text_mask = torch.arange(5) < torch.tensor([[5], [3]])
    all_ids = torch.cat([text_token_ids(5), ids])
    mask = expected_mask(all_ids, all_ids, window=1, text_mask=text_mask)
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, len(ids), 8, generator=generator, dtype=torch.float64)
    text = torch.randn(2, 5, 16, generator=generator, dtype=torch.float64)
    weights = torch.randn(2, len(ids), 8, generator=generator, dtype=torch.float64)

    def logits_and_gradients(degree):
        torch.manual_seed(0)
        transformer = make_tiny_transformer(num_attention_heads=4, num_key_value_heads=key_value_heads).double()
        if degree > 1:
            split_sequences(transformer, degree)
        states = text.clone().requires_grad_()
        logits = transformer(inputs, ids, states, text_mask, text_mask[:, 4], attention_mask=mask).sample
        (logits * weights).sum().backward()
        return logits, [states.grad, *(parameter.grad for parameter in transformer.parameters())]

    expected_logits, expected_gradients = logits_and_gradients(1)

    def check():
        start_gloo()
        logits, gradients = logits_and_gradients(degree)
        torch.testing.assert_close(logits, expected_logits)
        for gradient, expected in zip(gradients, expected_gradients, strict=True):
            # A process has the gradients of its own tokens.
            dist.all_reduce(gradient)
            torch.testing.assert_close(gradient, expected)

    run_in_processes(check, degree)


def test_what_cannot_be_shared_is_refused(two_accelerators):
    def check():
        start_gloo()
        transformer = make_tiny_transformer()  # two heads
        with pytest.raises(ValueError, match="`context_parallel_degree` is 3: .* number of processes, 2"):
            split_sequences(transformer, 3)
        with pytest.raises(ValueError, match="`context_parallel_degree` is 2: .* number of attention heads, 3"):
            split_sequences(make_tiny_transformer(num_attention_heads=3), 2)
        split_sequences(transformer, 2)
        ids = video_token_ids(SCHEDULE, 1)
        with pytest.raises(ValueError, match="27 tokens .* pad the text by 1 tokens"):
            transformer(torch.zeros(1, 21, 8), ids, torch.zeros(1, 6, 16))
        kv_cache = transformer.make_cache(1, 4, 21, 1)
        with pytest.raises(ValueError, match="Generate with a model without it"):
            transformer.encode_text(torch.zeros(1, 4, 16), kv_cache)
        with pytest.raises(ValueError, match="Generate with a model without it"):
            transformer(torch.zeros(1, 1, 8), ids[:1], kv_cache=kv_cache)

    run_in_processes(check, 2)


def test_without_accelerators_sequences_are_not_shared():
    def check():
        start_gloo()
        with pytest.raises(ValueError, match="`context_parallel_degree` is 2, but there is no accelerator"):
            split_sequences(make_tiny_transformer(), 2)

    run_in_processes(check, 2)
