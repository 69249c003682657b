# Copyright 2026 The VideoAR Pipelines Authors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
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
