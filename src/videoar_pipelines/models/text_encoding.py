# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Prompts to text states: clean, tokenise, encode. Generation, training and the encoding of data sets all read text here, so that
a model sees the same states of the same words everywhere. Guidance and the learned null text are not part of it.
"""

import html
import math
import re
import threading
from collections.abc import Callable

import torch
import torch.nn as nn
import torch.nn.functional as F
from diffusers.utils import logging
from transformers import PreTrainedTokenizerBase


logger = logging.get_logger(__name__)

# A fast tokenizer sets padding and truncation on itself for every call: two threads at once would get each other's.
_TOKENIZER_LOCK = threading.Lock()


def clean_prompt(prompt: str) -> str:
    """Unescapes HTML entities, collapses white space, and strips both ends."""
    return re.sub(r"\s+", " ", html.unescape(prompt)).strip()


def padded_text_length(longest: int, max_length: int, divisor: int = 1) -> int:
    """
    Tokens to pad a batch of texts to: the longest one, rounded up to one of at most five lengths, so that compiled shapes stay few
    and short texts do not cost what long ones do. Of 512 they are 32, 64, 128, 256 and 512.

    Args:
        longest (`int`): Tokens of the longest text of the batch, at most `max_length`.
        max_length (`int`): Tokens of the longest text that there may be.
        divisor (`int`, defaults to 1): The lengths differ by multiples of this, and of 8.
    """
    step = math.lcm(8, divisor)
    lengths = [max_length - (max_length - max_length // 2**halvings) // step * step for halvings in range(5)]
    return min(length for length in lengths if length >= longest)


def run_text_encoder(text_encoder: nn.Module, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Text states `(B, N, C)` of tokens `(B, N)` and their mask `(B, N)`, or one that is ready to be added, `(B, 1, 1, N)`."""
    return text_encoder(input_ids, attention_mask).last_hidden_state


def encode_text(
    tokenizer: PreTrainedTokenizerBase,
    text_encoder: nn.Module,
    prompts: list[str],
    max_sequence_length: int,
    padding: str = "longest",
    device: torch.device | str | None = None,
    warns_of_cuts: bool = True,
    length_divisor: int = 1,
    run: Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor] = run_text_encoder,
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Text states of prompts, with gradients if the text encoder's weights want them.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): Of the text encoder.
        text_encoder (`nn.Module`): A `T5EncoderModel`, which may be wrapped for distributed training.
        prompts (`list[str]`): As the user wrote them: they are cleaned here.
        max_sequence_length (`int`): Longest text in tokens; longer prompts are cut.
        padding (`str`, defaults to `"longest"`):
            `"longest"`: `N` is the number of tokens of the longest prompt. `"rounded"`: that of [`padded_text_length`].
            `"max_length"`: `max_sequence_length`. What a model makes of a text does not depend on it.
        device (`torch.device` or `str`, *optional*): To encode on; that of the text encoder's weights by default.
        warns_of_cuts (`bool`, defaults to `True`): Whether to log a warning for every prompt that is cut.
        length_divisor (`int`, defaults to 1): With `"rounded"`, see [`padded_text_length`].
        run (`Callable`, defaults to [`run_text_encoder`]): With its arguments and result.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: Text states `(B, N, C)` in the text encoder's dtype, and their boolean mask
        `(B, N)`, `False` at padding.
    """
    prompts = [clean_prompt(prompt) for prompt in prompts]
    with _TOKENIZER_LOCK:
        padded_length = max_sequence_length
        if padding == "rounded":
            ids = tokenizer(prompts, max_length=max_sequence_length, truncation=True).input_ids
            padding = "max_length"
            padded_length = padded_text_length(max(map(len, ids)), max_sequence_length, length_divisor)
        inputs = tokenizer(prompts, padding=padding, max_length=padded_length, truncation=True, return_tensors="pt")
        if warns_of_cuts:
            _warn_of_cuts(tokenizer, prompts, max_sequence_length)
    inputs = inputs.to(device or next(text_encoder.parameters()).device)
    states = run(text_encoder, inputs.input_ids, inputs.attention_mask)
    return states, inputs.attention_mask.bool()


def pad_text(states: torch.Tensor, mask: torch.Tensor, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Text states with zeros after them, which the mask hides.

    Args:
        states (`torch.Tensor` of shape `(B, N, C)`): See [`encode_text`].
        mask (`torch.Tensor` of shape `(B, N)`): `False` at padding.
        length (`int`): At least `N`.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: `(B, length, C)` and `(B, length)`.
    """
    missing = length - states.shape[1]
    return F.pad(states, (0, 0, 0, missing)), F.pad(mask, (0, missing))


def _warn_of_cuts(tokenizer: PreTrainedTokenizerBase, prompts: list[str], max_sequence_length: int) -> None:
    # `verbose=False`: else transformers warns that such ids would fail in the model, which never sees them.
    for prompt, ids in zip(prompts, tokenizer(prompts, verbose=False).input_ids):
        if len(ids) > max_sequence_length:
            logger.warning(
                f"A prompt of {len(ids)} tokens was cut to `max_sequence_length` = {max_sequence_length}: {prompt!r}"
            )
