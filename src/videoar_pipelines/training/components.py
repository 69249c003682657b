# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""The text models that a run reads text with, and the transformer that fits video tokenizer, text encoder and scheduler."""

import argparse
import difflib
import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin
from transformers import PreTrainedTokenizerBase, T5Config, T5EncoderModel, T5TokenizerFast

from ..models.autoencoder_videoar import AutoencoderVideoAR
from ..models.transformer_videoar import TRANSFORMER_CONFIGS, VideoARTransformer3DModel
from ..schedulers.scheduling_videoar import VideoARScheduler
from .arguments import model_config


def load_text_models(source: str, dtype: torch.dtype) -> tuple[T5TokenizerFast, T5EncoderModel]:
    """
    Text tokenizer and text encoder of a folder or Hub id: of a pipeline, in its folders `tokenizer` and `text_encoder`, or of a T5
    such as `google/flan-t5-xl`.

    Args:
        source (`str`): Folder or Hub id.
        dtype (`torch.dtype`): Of the encoder.
    """
    try:
        T5Config.from_pretrained(source, subfolder="text_encoder")
        folders = ("tokenizer", "text_encoder")
    except OSError:
        folders = ("", "")
    text_tokenizer = T5TokenizerFast.from_pretrained(source, subfolder=folders[0])
    return text_tokenizer, T5EncoderModel.from_pretrained(source, subfolder=folders[1], dtype=dtype)


def frequent_words(tokenizer: PreTrainedTokenizerBase, num_words: int = 6000) -> list[str]:
    """The first words of three to twelve small letters in a vocabulary, where the most frequent usually stand first."""
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    words = (piece.removeprefix("▁") for piece, _ in vocabulary)
    return [word for word in words if re.fullmatch("[a-z]{3,12}", word)][:num_words]


def config_of(component: type[ConfigMixin]) -> Callable[[str], dict[str, Any]]:
    """
    The type of a flag that takes the configuration of a component, see `arguments.model_config`, and refuses keys that the
    component does not know. What `save_pretrained` writes besides, `auto_map` and keys with a leading underscore, may stay.
    """

    def component_config(text: str) -> dict[str, Any]:
        config, known = model_config(text), set(inspect.signature(component).parameters)
        config.pop("auto_map", None)
        for key in config:
            if key not in known and not key.startswith("_"):
                nearest = difflib.get_close_matches(key, known, n=1)
                hint = f"Did you mean {nearest[0]!r}?" if nearest else f"It has {', '.join(sorted(known))}."
                raise argparse.ArgumentTypeError(f"`{component.__name__}` has no {key!r}. {hint}")
        return config

    return component_config


def transformer_config(text: str) -> dict[str, Any]:
    """The value of `--transformer_config`: a size of the paper (`L`, `XL`, `4B`), a JSON file, or JSON itself."""
    if text in TRANSFORMER_CONFIGS:
        return dict(TRANSFORMER_CONFIGS[text])
    try:
        return config_of(VideoARTransformer3DModel)(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error} A size, {', '.join(TRANSFORMER_CONFIGS)}, works too.")


def decided_transformer_config(
    vae: AutoencoderVideoAR,
    text_encoder: T5EncoderModel,
    scheduler: VideoARScheduler,
    height: int,
    width: int,
    num_frames: int,
    max_sequence_length: int,
) -> dict[str, Any]:
    """
    What the other components and the training clips decide in the configuration of a [`VideoARTransformer3DModel`].

    Args:
        vae ([`AutoencoderVideoAR`]): Decides the number of bits.
        text_encoder (`T5EncoderModel`): Decides the width of the text states.
        scheduler ([`VideoARScheduler`]): Decides the channels of the inputs.
        height (`int`): Pixels of a training clip; with the next two the pipeline's default size.
        width (`int`): Pixels.
        num_frames (`int`): Pixel frames.
        max_sequence_length (`int`): Longest text, in tokens.
    """
    return _required_widths(vae, text_encoder, scheduler) | {
        "max_text_length": max_sequence_length,
        "sample_height": height // vae.spatial_compression_ratio,
        "sample_width": width // vae.spatial_compression_ratio,
        "sample_frames": (num_frames - 1) // vae.temporal_compression_ratio + 1,
    }


def check_components(
    transformer_config: dict[str, Any],
    vae: AutoencoderVideoAR,
    text_encoder: T5EncoderModel,
    scheduler: VideoARScheduler,
    max_sequence_length: int,
) -> None:
    """
    Raises:
        `ValueError`: The transformer does not fit one of the other components.
    """
    for name, width in _required_widths(vae, text_encoder, scheduler).items():
        if transformer_config[name] != width:
            raise ValueError(
                f"The transformer's `{name}` is {transformer_config[name]}, but the video tokenizer, the text encoder and the "
                f"scheduler's `previous_frame_context` ({scheduler.config.previous_frame_context!r}) need {width}."
            )
    if max_sequence_length > transformer_config["max_text_length"]:
        raise ValueError(
            f"`--max_sequence_length` is {max_sequence_length}, the transformer's longest text is "
            f"{transformer_config['max_text_length']}: pass at most that."
        )


def check_frame_conditions(transformer_config: dict[str, Any], condition_columns: Sequence[str] | None) -> None:
    """
    Raises:
        `ValueError`: The data do not have the very conditions that the transformer is made for.
    """
    expected, given = sorted(transformer_config["frame_conditions"] or {}), sorted(condition_columns or ())
    if expected != given:
        raise ValueError(
            f"The transformer's `frame_conditions` are {expected}, `--condition_columns` are {given}: pass the same names."
        )


def _required_widths(
    vae: AutoencoderVideoAR, text_encoder: T5EncoderModel, scheduler: VideoARScheduler
) -> dict[str, int]:
    num_bits = vae.config.latent_channels
    reads_previous_frame = scheduler.config.previous_frame_context == "all_scales"
    return {
        "in_channels": num_bits * (2 if reads_previous_frame else 1),
        "out_channels": num_bits,
        "text_embed_dim": text_encoder.config.d_model,
    }
