# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Images and videos that a user gives, as pixel frames: what may be given, and how it is brought to the size of the result."""

from typing import Any

import numpy as np
import PIL.Image
import torch
from diffusers.video_processor import VideoProcessor

from .call_arguments import check_num_frames


# A video in any form a user may have it in: images, or arrays and tensors with values in [0, 1].
Video = list[PIL.Image.Image] | np.ndarray | torch.Tensor


def _check_image_modes(video: Any, name: str) -> None:
    """Images with more than 8 bits per channel would be clipped to white."""
    from ..utils.video_io import IMAGE_MODES  # here, since it needs PyAV, which takes its time to import

    if isinstance(video, list):
        for item in video:
            _check_image_modes(item, name)
    elif isinstance(video, PIL.Image.Image) and video.mode not in IMAGE_MODES:
        raise ValueError(
            f"`{name}` has an image of the mode {video.mode!r}: convert it to 8 bits per channel, one of "
            f"{', '.join(IMAGE_MODES)}."
        )


def load_videos(
    video: Video | list[Video], name: str, video_processor: VideoProcessor, temporal_ratio: int
) -> list[torch.Tensor]:
    """
    One or several videos, in the size they are given in.

    Args:
        video (`Video` or `list[Video]`): What the user passed.
        name (`str`): The argument it came in.
        video_processor ([`VideoProcessor`]): Reads frames.
        temporal_ratio (`int`): Pixel frames of a latent frame.

    Returns:
        `list[torch.Tensor]`: Pixel frames `(3, F, H, W)` in [-1, 1].

    Raises:
        `ValueError`: They cannot be read, differ in length, hold other values, or are not `temporal_ratio * n + 1` frames.
    """
    if isinstance(video, list) and not video:
        raise ValueError(f"`{name}` is an empty list. Pass at least one image.")
    if isinstance(video, list):
        is_batch = len(video) > 0 and (isinstance(video[0], list) or getattr(video[0], "ndim", 3) == 4)
    else:
        is_batch = getattr(video, "ndim", 4) == 5
    _check_image_modes(video, name)
    try:
        tensors = [
            video_processor.preprocess(item).transpose(0, 1).float() for item in (list(video) if is_batch else [video])
        ]
    except (ValueError, IndexError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(
            f"`{name}` cannot be read as images: {error} Pass `PIL.Image.Image`, arrays `(height, width, 3)` "
            "or tensors `(3, height, width)` with values in [0, 1]; the frames of one video have one size."
        ) from error
    lengths = {tensor.shape[1] for tensor in tensors}
    if len(lengths) != 1 or any(len(tensor) != 3 for tensor in tensors):
        raise ValueError(
            f"`{name}` has to hold RGB frames, as many for each video of a batch, got (channels, frames, "
            f"height, width) of {[tuple(tensor.shape) for tensor in tensors]}."
        )
    lowest, highest = (torch.stack([getattr(tensor, key)() for tensor in tensors]) for key in ("amin", "amax"))
    if not (lowest.min() >= -1 - 1e-3 and highest.max() <= 1 + 1e-3):  # written so that NaN is refused as well
        raise ValueError(
            f"`{name}` as arrays or tensors has to be in [0, 1], got values from "
            f"{(lowest.min() + 1) / 2:.4g} to {(highest.max() + 1) / 2:.4g}. Divide levels of 0 to 255 by 255."
        )
    check_num_frames(f"len({name})", tensors[0].shape[1], temporal_ratio)
    return tensors


def resize_to_cover(video: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Pixel frames `(3, F, h, w)`, resized until they cover `height` x `width`, then cropped in the middle."""
    if video.shape[-2:] == (height, width):
        return video
    from ..utils.video_io import CENTRE  # here, since it needs PyAV

    covering_size = CENTRE.covering_size(video.shape[-2:], height, width)
    resized = torch.nn.functional.interpolate(
        video, size=covering_size, mode="bicubic", align_corners=False, antialias=True
    ).clamp(-1, 1)
    top, left = (covering_size[0] - height) // 2, (covering_size[1] - width) // 2
    return resized[..., top : top + height, left : left + width]
