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


Video = list[PIL.Image.Image] | np.ndarray | torch.Tensor

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
    of the given frames become the context of the frames behind them.

    The components are those of [`VideoARPipeline`], see there; `VideoARVideoToVideoPipeline.from_pipe(pipe)` shares them.
    """

    _given_argument = "video"

    @torch.no_grad()
    @accepts_arguments_of(VideoARPipeline.__call__)
    @replace_example_docstring(EXAMPLE_DOC_STRING)
    def __call__(
        self,
        video: Video | list[Video],
        prompt: str | list[str] | None = None,
        num_frames: int | None = None,
        return_dict: bool = True,
        **kwargs: Any,
    ) -> VideoARPipelineOutput | tuple:
        r"""
        Continues videos.

        Args:
            video (`list[PIL.Image.Image]`, `np.ndarray`, `torch.Tensor` or a list of one of these):
                The beginning, `4 * n + 1` pixel frames: `(frames, height, width, 3)` arrays or `(frames, 3, height, width)`
                tensors in [0, 1], as a pipeline returns them. Several, as a list or with a leading batch axis, have to be of one
                length and size, and go with as many prompts or one prompt for all; one video may also go with several prompts.
                Frames of another size are resized until they cover `height` x `width`, then cropped in the middle.
            prompt (`str` or `list[str]`, *optional*): What the videos show. Either this or `prompt_embeds`.
            num_frames (`int`, *optional*):
                Pixel frames of the result, the given ones included, `4 * n + 1`. Defaults to as many new ones as the transformer's
                `sample_frames` has behind its first.
            return_dict (`bool`, defaults to `True`): Whether to return an output object instead of a tuple.
            kwargs:
                Every other argument of [`VideoARPipeline.__call__`]. Randomness is drawn for sampled frames only: the first draw
                from `generator`, and the first frame of the noise `latents`, belong to the first latent frame behind the given
                ones.

        Examples:

        Returns:
            [`VideoARPipelineOutput`] or `tuple`: `frames`. The given ones are as the tokenizer reconstructs them, so that the video
            is one causal decode, without a seam behind them.

        Raises:
            `ValueError`: An argument cannot work; the message names it, its value and what would.
        """
        given_frames = self._load_videos(video)
        num_frames = self._default_num_frames(given_frames[0].shape[1]) if num_frames is None else num_frames
        stream = self._open_stream(given_frames, prompt, num_frames=num_frames, **kwargs)
        return self._run_stream(stream, return_dict)

    @torch.no_grad()
    @accepts_arguments_of(VideoARPipeline.stream)
    def stream(
        self, video: Video | list[Video], prompt: str | list[str] | None = None, **kwargs: Any
    ) -> VideoARStream:
        r"""
        Continues videos chunk by chunk, see [`VideoARPipeline.stream`]. The first chunks are the reconstructed given frames.

        Args:
            video (`list[PIL.Image.Image]`, `np.ndarray`, `torch.Tensor` or a list of one of these): The beginning.
            prompt (`str` or `list[str]`, *optional*): What the videos show.
            num_frames (`int`, *optional*): Pixel frames, the given ones included; `None` goes on until the caller stops.
            kwargs: Every other argument of `__call__` but `return_dict`.
        """
        return self._open_stream(self._load_videos(video), prompt, **kwargs)

    def _load_videos(self, video: Video | list[Video]) -> list[torch.Tensor]:
        """Videos `(3, F, H, W)` in [-1, 1] from one or several in any of the accepted forms."""
        if isinstance(video, list):
            is_batch = len(video) > 0 and (isinstance(video[0], list) or getattr(video[0], "ndim", 3) == 4)
        else:
            is_batch = getattr(video, "ndim", 4) == 5
        given_frames = self._load_given_frames(list(video) if is_batch else [video])
        self._check_num_frames("len(video)", given_frames[0].shape[1])
        return given_frames
