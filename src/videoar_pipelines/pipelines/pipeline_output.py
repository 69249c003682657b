# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""What a pipeline returns."""

from dataclasses import dataclass

import numpy as np
import PIL.Image
import torch
from diffusers.utils import BaseOutput


@dataclass
class VideoARPipelineOutput(BaseOutput):
    r"""
    Args:
        frames (`np.ndarray`, `torch.Tensor` or `list[list[PIL.Image.Image]]`):
            The videos, one entry for each: `(B, F, H, W, 3)` in [0, 1] for `"np"`, `(B, F, 3, H, W)` in [0, 1] for `"pt"`, lists
            of images for `"pil"`, latents `(B, d, T, H', W')` for `"latent"`.
    """

    frames: np.ndarray | torch.Tensor | list[list[PIL.Image.Image]]
