# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""VideoARVideoToVideoPipeline: [`VideoARPipeline`] with video as its first argument, the way diffusers users know it."""

from collections.abc import Callable
from typing import Any

import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.utils import replace_example_docstring

from .call_arguments import CallArguments, describe_arguments, refuse_foreign_arguments
from .given_frames import Video
from .pipeline_output import VideoARPipelineOutput
from .pipeline_videoar import VideoARPipeline
from .video_stream import VideoARStream


EXAMPLE_DOC_STRING = """
    Examples:
        ```python
        >>> import torch
        >>> from diffusers.utils import export_to_video, load_video
        >>> from videoar_pipelines import VideoARVideoToVideoPipeline

        >>> pipe = VideoARVideoToVideoPipeline.from_pretrained("checkpoints/videoar-moving-shapes")
        >>> video = pipe(
        ...     load_video("circle.mp4")[:9],
        ...     "a red circle moves to the right on a white background",
        ...     generator=torch.Generator("cpu").manual_seed(0),
        ... ).frames[0]
        >>> export_to_video(video, "longer.mp4", fps=8)
        ```
"""


class VideoARVideoToVideoPipeline(VideoARPipeline):
    r"""
    Continues a given video ([VideoAR](https://huggingface.co/papers/2601.05966), section 4.2). No fine-tuning is needed: the maps
    of the given frames become the context of the frames after them.

    The components are those of [`VideoARPipeline`], see there; `VideoARVideoToVideoPipeline.from_pipe(pipe)` shares them.
    """

    @torch.no_grad()
    @replace_example_docstring(EXAMPLE_DOC_STRING)
    @describe_arguments
    @refuse_foreign_arguments
    def __call__(
        self,
        video: Video | list[Video],
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
        Continues videos. Randomness is drawn for sampled frames only: the first draw from `generator`, and the first frame of
        the noise `latents`, belong to the first latent frame after the given ones.

        Args:
            video (`list[PIL.Image.Image]`, `np.ndarray`, `torch.Tensor` or a list of one of these):
                The beginning, `4 * n + 1` pixel frames: `(frames, height, width, 3)` arrays or `(frames, 3, height, width)`
                tensors in [0, 1], as a pipeline returns them. Several, as a list or with a leading batch axis, have to be of one
                length and size, and go with as many prompts or one prompt for all; one video may also go with several prompts.
                Frames of another size are resized until they cover `height` x `width`, then cropped in the middle.
            {prompt}
            num_frames (`int`, *optional*):
                Pixel frames of the result, the given ones included, `4 * n + 1`. Defaults to as many new ones as the transformer's
                `sample_frames` has after its first.
            {sampling}
            {return_dict}
            {callbacks}

        Examples:

        Returns:
            [`VideoARPipelineOutput`] or `tuple`: `frames`. The given ones are as the tokenizer reconstructs them, so that the video
            is one causal decode, without a seam after them.

        Raises:
            `ValueError`: An argument cannot work; the message names it, its value and what would.
        """
        arguments = {name: value for name, value in locals().items() if name not in ("self", "video", "return_dict")}
        return self._call(return_dict, self._load_videos(video, "video"), "video", **arguments)

    @torch.no_grad()
    @describe_arguments
    @refuse_foreign_arguments
    def stream(
        self,
        video: Video | list[Video],
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
        Continues videos chunk by chunk, see [`VideoARPipeline.stream`]. The first chunks are the reconstructed given frames.

        Args:
            video (`list[PIL.Image.Image]`, `np.ndarray`, `torch.Tensor` or a list of one of these):
                The beginning, `4 * n + 1` pixel frames: `(frames, height, width, 3)` arrays or `(frames, 3, height, width)`
                tensors in [0, 1], as a pipeline returns them. Several, as a list or with a leading batch axis, have to be of one
                length and size, and go with as many prompts or one prompt for all; one video may also go with several prompts.
                Frames of another size are resized until they cover `height` x `width`, then cropped in the middle.
            {prompt}
            num_frames (`int`, *optional*): Pixel frames, the given ones included; `None` goes on until the caller stops.
            {overlap_decoding}
            {sampling}
            {callbacks}
        """
        own = {"self", "video", "overlap_decoding"}
        arguments = {name: value for name, value in locals().items() if name not in own | {"own"}}
        given_frames = self._load_videos(video, "video")
        return self._open_stream(
            CallArguments(given_frames=given_frames, given_name="video", **arguments), overlap_decoding
        )
