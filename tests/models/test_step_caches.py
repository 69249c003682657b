# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Caches of diffusers that skip work between denoising steps are refused, and leave the transformers as they were."""

import pytest
import torch
from diffusers import FirstBlockCacheConfig, PyramidAttentionBroadcastConfig, TextKVCacheConfig
from diffusers.models.cache_utils import CacheMixin

from tests.transformer_clips import make_clip, make_model, run_map_by_map
from videoar_pipelines import InfinityStarTransformer3DModel, VideoARTransformer3DModel


CONFIGS = [FirstBlockCacheConfig, PyramidAttentionBroadcastConfig, TextKVCacheConfig]


@pytest.mark.parametrize("config", CONFIGS)
def test_a_cache_between_denoising_steps_is_refused_with_the_reason(config):
    model, clip = make_model(), make_clip()
    expected = run_map_by_map(model, clip)
    message = f"`enable_cache` was called with `{config.__name__}`, but .* other tokens in every step.*always cached"
    with pytest.raises(ValueError, match=message):
        model.enable_cache(config())
    assert not model.is_cache_enabled
    assert torch.equal(run_map_by_map(model, clip), expected)


def test_code_for_any_transformer_finds_no_cache_enabled():
    """What generic code calls: a context for every guidance branch, and the end of caching."""
    assert issubclass(VideoARTransformer3DModel, CacheMixin) and issubclass(InfinityStarTransformer3DModel, CacheMixin)
    model, clip = make_model(), make_clip()
    expected = run_map_by_map(model, clip)
    with model.cache_context("cond"):
        assert torch.equal(run_map_by_map(model, clip), expected)
    model.disable_cache()
    assert torch.equal(run_map_by_map(model, clip), expected)
