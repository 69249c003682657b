# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""The tokenizer of InfinityStar at tiny size, and what the public code gave for it (`tests/fixtures/infinitystar-tiny`)."""

import json
from functools import cache
from pathlib import Path

import pytest
import torch
from infinitystar_tokenizer_keys import convert_tokenizer
from safetensors.torch import load_file

from videoar_pipelines import AutoencoderInfinityStar
from videoar_pipelines.models.quantization_infinitystar import BitPass, make_passes


FOLDER = Path(__file__).parent / "fixtures" / "infinitystar-tiny"


@cache
def public_tensors() -> dict[str, torch.Tensor]:
    """The weights under their public names."""
    return load_file(FOLDER / "vae.safetensors")


@cache
def expected() -> dict[str, torch.Tensor]:
    """What the public code gave."""
    return load_file(FOLDER / "vae_expected.safetensors")


@cache
def everything_expected() -> dict[str, torch.Tensor]:
    """All that was written down, every pass and every block. It is not part of the repository: skips where it is not."""
    candidates = (parent / "shared" / "fixtures" / "infinitystar-tiny" for parent in Path(__file__).parents)
    folder = next((folder for folder in candidates if folder.is_dir()), None)
    if folder is None:
        pytest.skip("needs the whole of the reference's arrays, shared/fixtures/infinitystar-tiny")
    return load_file(folder / "vae_trace.safetensors")


@cache
def facts() -> dict:
    return json.loads((FOLDER / "vae_facts.json").read_text())


def make_public_tokenizer() -> AutoencoderInfinityStar:
    """A model with the weights of the reference."""
    config, tensors = convert_tokenizer(public_tensors())
    model = AutoencoderInfinityStar(**config)
    model.load_state_dict(tensors)
    return model.eval().requires_grad_(False)


def public_video() -> torch.Tensor:
    """The clip `(1, 3, 17, 64, 112)` in `[-1, 1]`."""
    return expected()["video_u8"][None].float() / 255 * 2 - 1


def public_passes() -> tuple[tuple[BitPass, ...], tuple[BitPass, ...]]:
    """The passes of the first frame, and those of every clip after it."""
    generation = facts()["generation"]
    grids, detail = generation["grids"], generation["detail_scale_min_tokens"]
    return (
        make_passes(grids, generation["image_scale_repetition"], detail),
        make_passes(grids, generation["video_scale_repetition"], detail),
    )
