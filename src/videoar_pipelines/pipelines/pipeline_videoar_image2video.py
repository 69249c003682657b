# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
from typing import Any

import numpy as np
import PIL.Image
import torch
from diffusers.utils import replace_example_docstring

from .pipeline_output import VideoARPipelineOutput
from .pipeline_videoar import VideoARPipeline, accepts_arguments_of
from .video_stream import VideoARStream


Image = PIL.Image.Image | np.ndarray | torch.Tensor

EXAMPLE_DOC_STRING = """
    Examples:
        ```python
        >>> import torch
        >>> from diffusers.utils import export_to_video, load_image
        >>> from videoar_pipelines import VideoARImageToVideoPipeline

        >>> pipe = VideoARImageToVideoPipeline.from_pretrained("checkpoints/videoar-moving-shapes")
        >>> video = pipe(
        ...     load_image("circle.png"),
        ...     "a red circle moves to the right on a white background",
        ...     generator=torch.Generator("cpu").manual_seed(0),
        ... ).frames[0]
        >>> export_to_video(video, "circle.mp4", fps=8)
        ```
"""


class VideoARImageToVideoPipeline(VideoARPipeline):
    r"""
    Videos that begin with a given image ([VideoAR](https://huggingface.co/papers/2601.05966), section 4.2). No fine-tuning is
    needed: the image is pixel frame 0, its maps are those of latent frame 0, and the model continues.

    The components are those of [`VideoARPipeline`], see there; `VideoARImageToVideoPipeline.from_pipe(pipe)` shares them.
    """

    _given_argument = "image"

    @torch.no_grad()
    @accepts_arguments_of(VideoARPipeline.__call__)
    @replace_example_docstring(EXAMPLE_DOC_STRING)
    def __call__(
        self,
        image: Image | list[Image],
        prompt: str | list[str] | None = None,
        num_frames: int | None = None,
        return_dict: bool = True,
        **kwargs: Any,
    ) -> VideoARPipelineOutput | tuple:
        r"""
        Generates videos from images and prompts.

        Args:
            image (`PIL.Image.Image`, `np.ndarray`, `torch.Tensor` or a list of one of these):
                The first frame: `(height, width, 3)` arrays or `(3, height, width)` tensors in [0, 1]. Several, as a list or with
                a leading batch axis, make as many videos, with as many prompts or one prompt for all; one image may also go with
                several prompts. An image of another size is resized until it covers `height` x `width`, then cropped in the
                middle.
            prompt (`str` or `list[str]`, *optional*): What the videos show. Either this or `prompt_embeds`.
            num_frames (`int`, *optional*):
                Pixel frames of the result, the image included, `4 * n + 1` and more than 1. Defaults to the transformer's
                `sample_frames`.
            return_dict (`bool`, defaults to `True`): Whether to return an output object instead of a tuple.
            kwargs:
                Every other argument of [`VideoARPipeline.__call__`]. Randomness is drawn for sampled frames only: the first draw
                from `generator`, and the first frame of the noise `latents`, belong to latent frame 1.

        Examples:

        Returns:
            [`VideoARPipelineOutput`] or `tuple`: `frames`. The first one is the image as the tokenizer reconstructs it, so that
            the video is one causal decode, without a seam behind the image.

        Raises:
            `ValueError`: An argument cannot work; the message names it, its value and what would.
        """
        num_frames = self._default_num_frames() if num_frames is None else num_frames
        return self._run_stream(self.stream(image, prompt, num_frames=num_frames, **kwargs), return_dict)

    @torch.no_grad()
    @accepts_arguments_of(VideoARPipeline.stream)
    def stream(
        self, image: Image | list[Image], prompt: str | list[str] | None = None, **kwargs: Any
    ) -> VideoARStream:
        r"""
        Generates videos chunk by chunk, see [`VideoARPipeline.stream`]. The first chunk is the reconstructed image.

        Args:
            image (`PIL.Image.Image`, `np.ndarray`, `torch.Tensor` or a list of one of these): The first frame.
            prompt (`str` or `list[str]`, *optional*): What the videos show.
            num_frames (`int`, *optional*): Pixel frames, the image included; `None` goes on until the caller stops.
            kwargs: Every other argument of `__call__` but `return_dict`.
        """
        if isinstance(image, (np.ndarray, torch.Tensor)) and image.ndim == 4:
            image = list(image)
        images = image if isinstance(image, list) else [image]
        return self._open_stream(self._load_given_frames([[item] for item in images]), prompt, **kwargs)
