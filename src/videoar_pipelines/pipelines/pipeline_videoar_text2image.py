# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""VideoARTextToImagePipeline: [`VideoARPipeline`] for a single frame, with images as its result, the way diffusers users know it."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from diffusers.utils import replace_example_docstring

from .call_arguments import FOREIGN_ARGUMENTS, check_integer, describe_arguments, refuse_foreign_arguments
from .pipeline_videoar import VideoARPipeline


EXAMPLE_DOC_STRING = """
    Examples:
        ```python
        >>> import torch
        >>> from diffusers import AutoPipelineForText2Image
        >>> import videoar_pipelines

        >>> pipe = AutoPipelineForText2Image.from_pretrained("checkpoints/videoar-moving-shapes")
        >>> image = pipe(
        ...     "a red circle moves to the right on a white background",
        ...     generator=torch.Generator("cpu").manual_seed(0),
        ... ).images[0]
        >>> image.save("circle.png")
        ```
"""

# A single frame has no earlier ones to see, and none after it.
_OF_VIDEOS = "it is of videos: use `VideoARPipeline.from_pipe(pipe)`."
REASONS = {
    name: reason for name, reason in FOREIGN_ARGUMENTS.items() if name != "num_images_per_prompt"
} | dict.fromkeys(("num_frames", "window", "sink_size", "reencode_at", "context_frames", "video", "image"), _OF_VIDEOS)
REASONS["num_videos_per_prompt"] = "it is called `num_images_per_prompt`."


class VideoARTextToImagePipeline(VideoARPipeline):
    r"""
    Images from text ([VideoAR](https://huggingface.co/papers/2601.05966)): the first frames of videos, which the model was trained
    on as images too. [`~diffusers.AutoPipelineForText2Image`] finds this class.

    The components are those of [`VideoARPipeline`], see there; `VideoARTextToImagePipeline.from_pipe(pipe)` shares them.
    """

    @torch.no_grad()
    @replace_example_docstring(EXAMPLE_DOC_STRING)
    @describe_arguments
    @functools.partial(refuse_foreign_arguments, reasons=REASONS)
    def __call__(
        self,
        prompt: str | list[str] | None = None,
        negative_prompt: str | list[str] | None = None,
        height: int | None = None,
        width: int | None = None,
        guidance_scale: float | None = None,
        num_images_per_prompt: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        prompt_embeds: torch.Tensor | None = None,
        negative_prompt_embeds: torch.Tensor | None = None,
        prompt_attention_mask: torch.Tensor | None = None,
        negative_prompt_attention_mask: torch.Tensor | None = None,
        temperature: float | list[float] | None = None,
        top_p: float | None = None,
        refinements: list[int] | None = None,
        frame_conditions: dict[str, torch.Tensor] | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        attention_kwargs: dict[str, Any] | None = None,
        callback_on_step_end: Callable[[Any, int, int, dict], dict]
        | PipelineCallback
        | MultiPipelineCallbacks
        | None = None,
        callback_on_step_end_tensor_inputs: list[str] = ["latents"],
        max_sequence_length: int | None = None,
    ) -> ImagePipelineOutput | tuple:
        r"""
        Generates images from prompts.

        Args:
            {prompt}
            {guidance_scale}
            num_images_per_prompt (`int`, defaults to 1): Images for each prompt.
            {frame_sampling}
            {frame_conditions}
            output_type (`str`, defaults to `"pil"`): `"np"`, `"pt"`, `"pil"` or `"latent"`.
            {return_dict}
            {callbacks}

        Examples:

        Returns:
            [`~diffusers.ImagePipelineOutput`] or `tuple`: `images`, as of [`VideoARPipelineOutput`] without the axis of frames.

        Raises:
            `ValueError`: An argument cannot work; the message names it, its value and what would.
        """
        arguments = {name: value for name, value in locals().items() if name not in ("self", "return_dict")}
        check_integer("num_images_per_prompt", num_images_per_prompt, least=1)
        arguments["num_videos_per_prompt"] = arguments.pop("num_images_per_prompt")
        (videos,) = self._call(False, None, "video", num_frames=1, **arguments)
        if output_type == "latent":
            images = videos[:, :, 0]  # (B, d, H', W')
        elif output_type == "pil":
            images = [frames[0] for frames in videos]
        else:
            images = videos[:, 0]  # (B, H, W, 3) or (B, 3, H, W)
        if not return_dict:
            return (images,)
        return ImagePipelineOutput(images=images)
