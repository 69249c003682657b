# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""VideoARImageToVideoPipeline: [`VideoARPipeline`] with image as its first argument, the way diffusers users know it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import PIL.Image
import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.utils import replace_example_docstring

from .call_arguments import CallArguments, describe_arguments, refuse_foreign_arguments
from .pipeline_output import VideoARPipelineOutput
from .pipeline_videoar import VideoARPipeline
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

    @torch.no_grad()
    @replace_example_docstring(EXAMPLE_DOC_STRING)
    @describe_arguments
    @refuse_foreign_arguments
    def __call__(
        self,
        image: Image | list[Image],
        prompt: str | list[str] | None = None,
        negative_prompt: str | list[str] | None = None,
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        guidance_scale: float | None = None,
        num_videos_per_prompt: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        prompt_embeds: torch.Tensor | None = None,
        negative_prompt_embeds: torch.Tensor | None = None,
        prompt_attention_mask: torch.Tensor | None = None,
        negative_prompt_attention_mask: torch.Tensor | None = None,
        temperature: float | list[float] | None = None,
        top_p: float | None = None,
        refinements: list[int] | None = None,
        window: int | None = None,
        sink_size: int = 0,
        reencode_at: int | None = None,
        context_frames: int | None = None,
        frame_conditions: dict[str, torch.Tensor] | None = None,
        output_type: str = "np",
        return_dict: bool = True,
        attention_kwargs: dict[str, Any] | None = None,
        callback_on_step_end: Callable[[Any, int, int, dict], dict]
        | PipelineCallback
        | MultiPipelineCallbacks
        | None = None,
        callback_on_step_end_tensor_inputs: list[str] = ["latents"],
        max_sequence_length: int | None = None,
    ) -> VideoARPipelineOutput | tuple:
        r"""
        Generates videos from images and prompts. Randomness is drawn for sampled frames only: the first draw from
        `generator`, and the first frame of the noise `latents`, belong to the first latent frame after the image.

        Args:
            image (`PIL.Image.Image`, `np.ndarray`, `torch.Tensor` or a list of one of these):
                The first frame: `(height, width, 3)` arrays or `(3, height, width)` tensors in [0, 1]. Several, as a list or with
                a leading batch axis, make as many videos, with as many prompts or one prompt for all; one image may also go with
                several prompts. An image of another size is resized until it covers `height` x `width`, then cropped in the
                middle.
            {prompt}
            num_frames (`int`, *optional*):
                Pixel frames of the result, the image included, `4 * n + 1` and more than 1. Defaults to the transformer's
                `sample_frames`.
            {sampling}
            {return_dict}
            {callbacks}

        Examples:

        Returns:
            [`VideoARPipelineOutput`] or `tuple`: `frames`. The first one is the image as the tokenizer reconstructs it, so that
            the video is one causal decode, without a seam after the image.

        Raises:
            `ValueError`: An argument cannot work; the message names it, its value and what would.
        """
        arguments = {name: value for name, value in locals().items() if name not in ("self", "image", "return_dict")}
        return self._call(return_dict, self._load_videos(as_videos(image), "image"), "image", **arguments)

    @torch.no_grad()
    @describe_arguments
    @refuse_foreign_arguments
    def stream(
        self,
        image: Image | list[Image],
        prompt: str | list[str] | None = None,
        negative_prompt: str | list[str] | None = None,
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        guidance_scale: float | None = None,
        num_videos_per_prompt: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        prompt_embeds: torch.Tensor | None = None,
        negative_prompt_embeds: torch.Tensor | None = None,
        prompt_attention_mask: torch.Tensor | None = None,
        negative_prompt_attention_mask: torch.Tensor | None = None,
        temperature: float | list[float] | None = None,
        top_p: float | None = None,
        refinements: list[int] | None = None,
        window: int | None = None,
        sink_size: int = 0,
        reencode_at: int | None = None,
        context_frames: int | None = None,
        frame_conditions: dict[str, torch.Tensor] | None = None,
        output_type: str = "np",
        attention_kwargs: dict[str, Any] | None = None,
        callback_on_step_end: Callable | PipelineCallback | MultiPipelineCallbacks | None = None,
        callback_on_step_end_tensor_inputs: list[str] = ["latents"],
        max_sequence_length: int | None = None,
        overlap_decoding: bool = False,
    ) -> VideoARStream:
        r"""
        Generates videos chunk by chunk, see [`VideoARPipeline.stream`]. The first chunk is the reconstructed image.

        Args:
            image (`PIL.Image.Image`, `np.ndarray`, `torch.Tensor` or a list of one of these):
                The first frame: `(height, width, 3)` arrays or `(3, height, width)` tensors in [0, 1]. Several, as a list or with
                a leading batch axis, make as many videos, with as many prompts or one prompt for all; one image may also go with
                several prompts. An image of another size is resized until it covers `height` x `width`, then cropped in the
                middle.
            {prompt}
            num_frames (`int`, *optional*): Pixel frames, the given ones included; `None` goes on until the caller stops.
            {overlap_decoding}
            {sampling}
            {callbacks}
        """
        own = {"self", "image", "overlap_decoding"}
        arguments = {name: value for name, value in locals().items() if name not in own | {"own"}}
        given_frames = self._load_videos(as_videos(image), "image")
        return self._open_stream(
            CallArguments(given_frames=given_frames, given_name="image", **arguments), overlap_decoding
        )


def as_videos(image: Image | list[Image]) -> list[list[Image]]:
    """Every image as a video of one frame."""
    if isinstance(image, (np.ndarray, torch.Tensor)) and image.ndim == 4:
        image = list(image)
    return [[item] for item in (image if isinstance(image, list) else [image])]
