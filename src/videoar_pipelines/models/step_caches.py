# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Why the caches of diffusers that skip work between denoising steps (`enable_cache`) do not go with autoregressive transformers."""

from typing import Any

from diffusers.models.cache_utils import CacheMixin


class NoStepCacheMixin(CacheMixin):
    """
    Of a transformer that diffusers' caching techniques cannot make faster: `enable_cache` says why, and the other methods of
    [`CacheMixin`] find no cache.
    """

    def enable_cache(self, config: Any) -> None:
        """
        Refuses.

        Raises:
            `ValueError`: Always. What can be kept is kept already: keys and values of the text and of earlier maps.
        """
        raise ValueError(
            f"`enable_cache` was called with `{type(config).__name__}`, but caches of diffusers keep what the denoising step before "
            f"computed for the same tokens, and {type(self).__name__} computes other tokens in every step: the next map. What later "
            "steps need again, keys and values of the text and of earlier maps, is always cached (`make_cache`). To be faster, see "
            "`compile_repeated_blocks`, `fuse_qkv_projections`, and `enable_cuda_graphs` of the pipeline where it has it."
        )
