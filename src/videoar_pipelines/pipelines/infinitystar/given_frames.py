# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Images and videos that a user gives, as pixel frames of the size of the result."""

import math
from collections.abc import Sequence

import numpy as np
import PIL.Image
import torch
import torch.nn.functional as F


Frame = PIL.Image.Image | np.ndarray | torch.Tensor

# The share of a picture that may be cut off before its shape counts as unfit.
LARGEST_CROP = 0.25


def frame_size(frame: Frame) -> tuple[int, int]:
    """Height and width of a picture: PIL, `(height, width, 3)` array or `(3, height, width)` tensor."""
    if isinstance(frame, PIL.Image.Image):
        return frame.height, frame.width
    return tuple(frame.shape[-2:]) if isinstance(frame, torch.Tensor) else tuple(frame.shape[:2])


def nearest_shape(size: tuple[int, int], sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The one of `sizes` (height, width) whose ratio of height to width is nearest to that of `size`."""
    return min(sizes, key=lambda other: abs(math.log(other[0] * size[1] / (other[1] * size[0]))))


def cropped_share(size: tuple[int, int], target: tuple[int, int]) -> float:
    """The share of a picture of `size` (height, width) that is cut off when it has to fill `target`."""
    ratio = size[0] * target[1] / (size[1] * target[0])
    return 1 - min(ratio, 1 / ratio)


def load_frames(frames: Sequence[Frame], height: int, width: int) -> torch.Tensor:
    """
    Pictures, resized until they cover `height` x `width`, then cropped in the middle.

    Args:
        frames (`Sequence[PIL.Image.Image | np.ndarray | torch.Tensor]`):
            PIL images, `(h, w, 3)` arrays or `(3, h, w)` tensors; arrays and tensors in `[0, 1]`, or `uint8` in `[0, 255]`.
        height (`int`): Of the result, pixels.
        width (`int`): Of the result, pixels.

    Returns:
        `torch.Tensor` of shape `(3, F, height, width)`: Float32 in [-1, 1].

    Raises:
        `ValueError`: Values are out of range.
    """
    return torch.stack([_load_frame(frame, height, width) for frame in frames], dim=1)


def _load_frame(frame: Frame, height: int, width: int) -> torch.Tensor:
    """One picture as `(3, height, width)`; images are resized with PIL, as the models' authors do."""
    old_height, old_width = frame_size(frame)
    scale = max(height / old_height, width / old_width)
    # Rounded down, as there, but never below what has to be covered.
    covering = (max(height, int(old_height * scale)), max(width, int(old_width * scale)))
    if isinstance(frame, PIL.Image.Image):
        frame = frame.convert("RGB")
        if covering != (old_height, old_width):
            frame = frame.resize(covering[::-1], PIL.Image.Resampling.LANCZOS)
        frame = np.asarray(frame)
    if isinstance(frame, np.ndarray):
        frame = torch.from_numpy(frame.copy()).permute(2, 0, 1)
    if frame.dtype == torch.uint8:
        frame = frame.float() / 255
    lowest, highest = frame.min().item(), frame.max().item()
    if not (lowest >= -1e-3 and highest <= 1 + 1e-3):  # written so that NaN is refused as well
        raise ValueError(
            f"A given picture has values from {lowest:.4g} to {highest:.4g}: pass floats in [0, 1], or `uint8` levels."
        )
    frame = frame.float() * 2 - 1
    if tuple(frame.shape[-2:]) != covering:
        frame = F.interpolate(frame[None], size=covering, mode="bicubic", antialias=True)[0].clamp(-1, 1)
    top, left = (covering[0] - height) // 2, (covering[1] - width) // 2
    return frame[:, top : top + height, left : left + width]
