# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
The pipeline talks to the user: it checks what is asked for, encodes the text, opens a stream and hands out frames. It holds nothing
of a video: that is the sampler's ([`FrameSampler`]) and the stream's ([`VideoARStream`]).
"""

import contextvars
import functools
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.loaders import CogVideoXLoraLoaderMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils import logging, replace_example_docstring
from diffusers.video_processor import VideoProcessor
from transformers import T5EncoderModel, T5TokenizerFast

from ..hub.mixins import HubPipelineMixin
from ..models.autoencoder_videoar import AutoencoderVideoAR
from ..models.quantization import tokens_per_frame
from ..models.text_encoding import encode_text, pad_text
from ..models.transformer_videoar import VideoARTransformer3DModel
from ..schedulers.scheduling_videoar import SamplingStep, VideoARScheduler
from .call_arguments import (
    CALLBACK_TENSORS,
    CallArguments,
    TextArguments,
    check_attention_kwargs,
    check_callback,
    check_callback_outputs,
    check_frame_conditions,
    check_generator,
    check_integer,
    check_lengths,
    check_multiple,
    check_noise,
    check_output_type,
    check_padding,
    check_text,
    describe_arguments,
    num_latent_frames,
    refuse_foreign_arguments,
)
from .cuda_graphs import CUDAGraphsMixin
from .frame_sampler import FrameSampler, PromptStates
from .given_frames import Video, load_videos, resize_to_cover
from .pipeline_output import VideoARPipelineOutput
from .video_stream import Chunk, StreamHooks, StreamLength, VideoARStream


logger = logging.get_logger(__name__)

# The stream whose callback is running, and its step; every thread has its own.
_RUNNING_CALLBACK: contextvars.ContextVar[tuple[VideoARStream, int] | None] = contextvars.ContextVar(
    "running_callback", default=None
)

EXAMPLE_DOC_STRING = """
    Examples:
        ```python
        >>> import torch
        >>> from diffusers.utils import export_to_video
        >>> from videoar_pipelines import VideoARPipeline

        >>> pipe = VideoARPipeline.from_pretrained("checkpoints/videoar-moving-shapes")
        >>> video = pipe(
        ...     "a red circle moves to the right on a white background",
        ...     generator=torch.Generator("cpu").manual_seed(0),
        ... ).frames[0]
        >>> export_to_video(video, "circle.mp4", fps=8)
        ```
"""


class VideoARPipeline(HubPipelineMixin, DiffusionPipeline, CogVideoXLoraLoaderMixin, CUDAGraphsMixin):
    r"""
    Text-to-video generation by next-frame and next-scale prediction ([VideoAR](https://huggingface.co/papers/2601.05966)).
    With `num_frames=1` it generates images.

    This model inherits from [`DiffusionPipeline`]. Check the superclass documentation for the generic methods implemented for
    all pipelines (downloading, saving, running on a particular device, etc.).

    Args:
        tokenizer ([`T5TokenizerFast`]): Tokenizer of the text encoder.
        text_encoder ([`T5EncoderModel`]): Text encoder.
        vae ([`AutoencoderVideoAR`]): Multi-scale bitwise video tokenizer.
        transformer ([`VideoARTransformer3DModel`]): Predicts the bits of one (frame, scale) map at a time.
        scheduler ([`VideoARScheduler`]): Walks over (frame, scale) pairs and samples bits.
    """

    model_cpu_offload_seq = "text_encoder->transformer->vae"
    _callback_tensor_inputs = list(CALLBACK_TENSORS)
    blocks_class_name = "VideoARBlocks"

    def __init__(
        self,
        tokenizer: T5TokenizerFast,
        text_encoder: T5EncoderModel,
        vae: AutoencoderVideoAR,
        transformer: VideoARTransformer3DModel,
        scheduler: VideoARScheduler,
    ):
        super().__init__()
        self.register_modules(
            tokenizer=tokenizer, text_encoder=text_encoder, vae=vae, transformer=transformer, scheduler=scheduler
        )
        vae = getattr(self, "vae", None)
        self.vae_scale_factor_spatial = vae.spatial_compression_ratio if vae is not None else 16
        self.vae_scale_factor_temporal = vae.temporal_compression_ratio if vae is not None else 4
        self.video_processor = VideoProcessor(
            vae_scale_factor=self.vae_scale_factor_spatial, do_resize=False, do_convert_rgb=True
        )
        self._open_streams: weakref.WeakSet[VideoARStream] = weakref.WeakSet()
        # For those who look at the pipeline after a call.
        self._last_call = {"guidance_scale": None, "attention_kwargs": None, "num_timesteps": None}

    def __getstate__(self) -> dict[str, Any]:
        """A copy, or a pipeline sent to another process, has no videos in the making and no recorded CUDA graphs."""
        return {name: value for name, value in vars(self).items() if name not in ("_open_streams", "_runner")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _open_streams=weakref.WeakSet())

    @classmethod
    def from_pipe(cls, pipeline: DiffusionPipeline, **kwargs):
        """
        A pipeline of this class with the components of another one; nothing is copied. As in diffusers, but without a `dtype` the
        weights keep theirs (diffusers casts them to float32, in both pipelines).
        """
        if kwargs.keys() & {"dtype", "torch_dtype"}:
            return super().from_pipe(pipeline, **kwargs)
        return cls(**(pipeline.components | kwargs))

    def describe_default_size(self) -> str:
        if self.transformer is None:
            return ""
        config, ratio = self.transformer.config, self.vae_scale_factor_spatial
        size = f"{config.sample_height * ratio}x{config.sample_width * ratio} (height x width)"
        return f"By default it makes {self._default_num_frames()} frames of {size}."

    # 1. Text

    def encode_prompt(
        self,
        prompt: str | list[str] | None,
        negative_prompt: str | list[str] | None = None,
        do_classifier_free_guidance: bool = True,
        num_videos_per_prompt: int = 1,
        prompt_embeds: torch.Tensor | None = None,
        negative_prompt_embeds: torch.Tensor | None = None,
        prompt_attention_mask: torch.Tensor | None = None,
        negative_prompt_attention_mask: torch.Tensor | None = None,
        max_sequence_length: int | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        padding: str = "longest",
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor, torch.Tensor | None]:
        r"""
        Encodes prompts for both guidance branches.

        Args:
            prompt (`str` or `list[str]`, *optional*): Prompt or prompts.
            negative_prompt (`str` or `list[str]`, *optional*):
                Prompts to guide away from. Without them the unconditional branch gets the transformer's learned null text, as
                long as the prompt.
            do_classifier_free_guidance (`bool`, defaults to `True`): Whether the unconditional branch is needed.
            num_videos_per_prompt (`int`, defaults to 1): Copies of every prompt.
            prompt_embeds (`torch.Tensor` of shape `(B, N, C)`, *optional*): Text states to use instead of `prompt`.
            negative_prompt_embeds (`torch.Tensor` of shape `(B, N, C)`, *optional*): Instead of `negative_prompt`.
            prompt_attention_mask (`torch.Tensor` of shape `(B, N)`, *optional*): `False` at padding of `prompt_embeds`.
            negative_prompt_attention_mask (`torch.Tensor` of shape `(B, N)`, *optional*): Of `negative_prompt_embeds`.
            max_sequence_length (`int`, *optional*): Longer prompts are cut. Defaults to the transformer's longest text.
            device (`torch.device`, *optional*): Defaults to the execution device.
            dtype (`torch.dtype`, *optional*): Defaults to the text encoder's.
            padding (`str`, defaults to `"longest"`):
                `"longest"`: `N` is the number of tokens of the longest prompt. `"max_length"`: `N` is `max_sequence_length`, so
                that embeddings of any two prompts have one shape and can be stored or stacked; zeros after the text, which the
                masks hide and no video depends on. Attention is over `N` tokens.

        Returns:
            `tuple`: `prompt_embeds` and `negative_prompt_embeds`, `(B * num_videos_per_prompt, N, C)`, and their masks
            `(B * num_videos_per_prompt, N)`; the negative ones are `None` without guidance, and in a pipeline without a
            transformer, which would have the null text.

        Raises:
            `ValueError`: An argument cannot work; the message names it, its value and what would.
        """
        self._check_text(
            TextArguments(
                prompt,
                negative_prompt,
                prompt_embeds,
                negative_prompt_embeds,
                prompt_attention_mask,
                negative_prompt_attention_mask,
            )
        )
        check_integer("num_videos_per_prompt", num_videos_per_prompt, least=1)
        device = device or self._execution_device
        if dtype is None and self.text_encoder is not None:
            dtype = self.text_encoder.dtype
        if max_sequence_length is None:
            max_sequence_length = self.transformer.config.max_text_length if self.transformer is not None else 512
        check_integer("max_sequence_length", max_sequence_length, least=1)
        states = {"prompt_embeds": prompt_embeds, "negative_prompt_embeds": negative_prompt_embeds}
        check_padding(padding, max_sequence_length, states)

        def encode(prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
            states, mask = encode_text(
                self.tokenizer,
                self.text_encoder,
                prompts,
                max_sequence_length,
                device=device,
                run=self._runner.encode_text,
            )
            return states.to(dtype), mask

        def mask_of(embeds: torch.Tensor) -> torch.Tensor:
            return torch.ones(embeds.shape[:2], dtype=torch.bool, device=device)

        if prompt_embeds is None:
            prompt_embeds, prompt_attention_mask = encode([prompt] if isinstance(prompt, str) else prompt)
        elif prompt_attention_mask is None:
            logger.warning(
                f"`prompt_embeds` came without `prompt_attention_mask`: all {prompt_embeds.shape[1]} tokens are read as text. If some "
                "are padding, pass the mask that `encode_prompt` returned with them."
            )
            prompt_attention_mask = mask_of(prompt_embeds)
        batch_size = len(prompt_embeds)
        if padding == "max_length":
            prompt_embeds, prompt_attention_mask = pad_text(prompt_embeds, prompt_attention_mask, max_sequence_length)

        if not do_classifier_free_guidance:
            negative_prompt_embeds, negative_prompt_attention_mask = None, None
        elif negative_prompt_embeds is not None:
            if negative_prompt_attention_mask is None:
                negative_prompt_attention_mask = mask_of(negative_prompt_embeds)
        elif negative_prompt is not None:
            negative_prompt = [negative_prompt] * batch_size if isinstance(negative_prompt, str) else negative_prompt
            negative_prompt_embeds, negative_prompt_attention_mask = encode(negative_prompt)
        elif self.transformer is not None:
            negative_prompt_embeds = self.transformer.null_text_embeds(batch_size, prompt_embeds.shape[1])
            negative_prompt_embeds = negative_prompt_embeds.to(device=device, dtype=prompt_embeds.dtype)
            negative_prompt_attention_mask = prompt_attention_mask
        if negative_prompt_embeds is not None and padding == "max_length":
            negative_prompt_embeds, negative_prompt_attention_mask = pad_text(
                negative_prompt_embeds, negative_prompt_attention_mask, max_sequence_length
            )

        repeats = num_videos_per_prompt
        prompt_embeds = prompt_embeds.to(device).repeat_interleave(repeats, dim=0)
        prompt_attention_mask = prompt_attention_mask.to(device).bool().repeat_interleave(repeats, dim=0)
        if negative_prompt_embeds is not None:
            negative_prompt_embeds = negative_prompt_embeds.to(device).repeat_interleave(repeats, dim=0)
            negative_prompt_attention_mask = (
                negative_prompt_attention_mask.to(device).bool().repeat_interleave(repeats, dim=0)
            )
        return prompt_embeds, negative_prompt_embeds, prompt_attention_mask, negative_prompt_attention_mask

    # 2. Inputs

    def check_inputs(self, arguments: CallArguments) -> None:
        """
        Checks the arguments of a call, sizes and lengths filled in.

        Raises:
            `ValueError`: One cannot work; the message names it, its value and what would.
        """
        config = self.transformer.config
        spatial_ratio, temporal_ratio = self.vae_scale_factor_spatial, self.vae_scale_factor_temporal
        check_multiple("height", arguments.height, spatial_ratio)
        check_multiple("width", arguments.width, spatial_ratio)
        check_integer("num_videos_per_prompt", arguments.num_videos_per_prompt, least=1)
        check_lengths(arguments, temporal_ratio)
        check_output_type(arguments.output_type)
        self._check_tokenizer_use(arguments)
        check_callback(arguments.callback_on_step_end, arguments.callback_on_step_end_tensor_inputs)
        check_attention_kwargs(arguments.attention_kwargs)
        self._check_text(arguments)
        if arguments.max_sequence_length is not None:
            check_integer("max_sequence_length", arguments.max_sequence_length, 1, config.max_text_length)
        if arguments.given_frames is not None and len(arguments.given_frames) not in (1, arguments.num_prompts):
            raise ValueError(
                f"`{arguments.given_name}` has {len(arguments.given_frames)} entries for {arguments.num_prompts} prompts. Pass one, "
                f"or {arguments.num_prompts}."
            )
        num_processes = 1 if arguments.latents is not None else self.transformer.tensor_parallel_degree
        check_generator(arguments.generator, arguments.num_videos, num_processes)
        num_frames = arguments.num_frames
        if num_frames is not None:
            num_frames = num_latent_frames(num_frames, temporal_ratio)
        check_frame_conditions(
            arguments.frame_conditions, config.frame_conditions or {}, arguments.num_videos, num_frames
        )
        num_given = num_latent_frames(arguments.num_given_frames, temporal_ratio)
        for name, condition in (arguments.frame_conditions or {}).items():
            if condition.shape[1] < num_given:
                raise ValueError(
                    f"`frame_conditions[{name!r}]` has {condition.shape[1]} latent frames, but `{arguments.given_name}` gives"
                    f" {num_given}: pass at least those of the given frames."
                )

        options = self._sampling_options(arguments)
        schedule = self.scheduler.get_scale_schedule(
            arguments.height // spatial_ratio, arguments.width // spatial_ratio
        )
        if len(schedule) > config.max_scales:
            known = config.sample_height * spatial_ratio, config.sample_width * spatial_ratio
            raise ValueError(
                f"`height` {arguments.height} and `width` {arguments.width} take {len(schedule)} scales, and the transformer knows "
                f"{config.max_scales}: pass a smaller size, such as `height={known[0]}, width={known[1]}`."
            )
        steps = self.scheduler.frame_steps(0, schedule, options.refinements)  # refuses wrong `refinements`
        if arguments.latents is not None:
            if num_frames is None:
                raise ValueError("`latents` is the noise of a video of known length: pass `num_frames`.")
            num_sampled_frames = num_frames - num_latent_frames(arguments.num_given_frames, temporal_ratio)
            num_tokens = tokens_per_frame([step.grid for step in steps])
            check_noise(arguments.latents, (arguments.num_videos, num_sampled_frames, num_tokens, config.out_channels))

    def _check_tokenizer_use(self, arguments: CallArguments) -> None:
        if arguments.output_type == "latent" and arguments.reencode_at is not None:
            raise ValueError(
                "`output_type='latent'` does not go with `reencode_at`: latents from before and after a re-encoding belong to "
                "different streams of the tokenizer and do not decode as one video. Ask for pixels, or use `window`."
            )
        if self.vae is not None:
            return
        if arguments.output_type != "latent":
            raise ValueError(
                f"`output_type={arguments.output_type!r}` needs a `vae`, and this pipeline has none: pass 'latent'."
            )
        if arguments.given_frames is not None:
            raise ValueError(
                f"`{arguments.given_name}` needs a `vae` to encode it, and this pipeline has none: load one."
            )
        if self._sampling_options(arguments).refinements:
            raise ValueError(
                "`refinements` need a `vae` to decode and encode frames, and this pipeline has none: pass `refinements=[]`."
            )

    def _check_text(self, arguments: TextArguments) -> None:
        has_text_encoder = self.text_encoder is not None and self.tokenizer is not None
        if self.transformer is None:
            check_text(arguments, has_text_encoder)
        else:
            config = self.transformer.config
            check_text(arguments, has_text_encoder, config.text_embed_dim, config.max_text_length)

    def _sampling_options(self, arguments: CallArguments):
        refinements = arguments.refinements
        if refinements is not None:
            if not isinstance(refinements, (list, tuple)):
                raise ValueError(
                    f"`refinements` has to be a list such as [2, 1], or [] for none, got {refinements!r}."
                )
            for index, num_maps in enumerate(refinements):
                check_integer(f"refinements[{index}]", num_maps)
        return self.scheduler.sampling_options(
            arguments.guidance_scale, arguments.temperature, arguments.top_p, refinements
        )

    def _default_num_frames(self, num_given_frames: int = 1) -> int:
        """As many pixel frames after the given ones (after the first one, without) as the model generates by default."""
        return num_given_frames + (self.transformer.config.sample_frames - 1) * self.vae_scale_factor_temporal

    def _load_videos(self, video: Video | list[Video], name: str) -> list[torch.Tensor]:
        """Pixel frames `(3, F, H, W)` in [-1, 1], in the size they are given in, of one or several videos."""
        return load_videos(video, name, self.video_processor, self.vae_scale_factor_temporal)

    # 3. What callbacks of diffusers read and set: it is of the video whose callback is running

    @property
    def guidance_scale(self) -> float:
        return self._guidance_scale

    @property
    def do_classifier_free_guidance(self) -> bool:
        return self._guidance_scale > 1

    @property
    def attention_kwargs(self) -> dict[str, Any] | None:
        return self._of_running_call("attention_kwargs")

    @property
    def num_timesteps(self) -> int | None:
        """Maps that the video samples; `None` for a video without end."""
        return self._of_running_call("num_timesteps")

    @property
    def current_timestep(self) -> int | None:
        """`t * K + k` of the map just sampled, in a callback; else `None`."""
        running = _RUNNING_CALLBACK.get()
        return None if running is None else running[1]

    @property
    def _guidance_scale(self) -> float:
        return self._of_running_call("guidance_scale")

    @_guidance_scale.setter
    def _guidance_scale(self, value: float) -> None:
        running = _RUNNING_CALLBACK.get()
        if running is not None:
            running[0].sampler.guidance_scale = value
        self._last_call = self._last_call | {"guidance_scale": value}

    @property
    def interrupt(self) -> bool:
        running = _RUNNING_CALLBACK.get()
        return running is not None and running[0].sampler.is_stopped

    @property
    def _interrupt(self) -> bool:
        return self.interrupt

    @_interrupt.setter
    def _interrupt(self, value: bool) -> None:
        if value:
            for stream in list(self._open_streams):
                stream.stop()

    def _of_running_call(self, name: str) -> Any:
        running = _RUNNING_CALLBACK.get()
        return self._last_call[name] if running is None else running[0].describe_call()[name]

    # 4. Whole videos

    @torch.no_grad()
    @replace_example_docstring(EXAMPLE_DOC_STRING)
    @describe_arguments
    @refuse_foreign_arguments
    def __call__(
        self,
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
        video: Video | list[Video] | None = None,
    ) -> VideoARPipelineOutput | tuple:
        r"""
        Generates videos from prompts, and from the frames they begin with if any are given.

        Args:
            {prompt}
            num_frames (`int`, *optional*):
                Pixel frames, `4 * n + 1`, given ones included; 1 gives an image. Defaults to the transformer's `sample_frames`, or
                to as many new ones after a given video.
            {sampling}
            {return_dict}
            {callbacks}
            video (`list[PIL.Image.Image]`, `np.ndarray`, `torch.Tensor` or a list of one of these, *optional*):
                The beginning, `4 * n + 1` pixel frames (an image is a video of one), see [`VideoARVideoToVideoPipeline`].

        Examples:

        Returns:
            [`VideoARPipelineOutput`] or `tuple`: `frames`. When interrupted (`pipe._interrupt = True` in a callback), the latent
            frames that were finished; the unfinished first one if there is none. Given frames are as the tokenizer reconstructs
            them, so that the video is one causal decode, without a seam.

        Raises:
            `ValueError`: An argument cannot work; the message names it, its value and what would.
        """
        arguments = {name: value for name, value in locals().items() if name not in ("self", "video", "return_dict")}
        given_frames = None if video is None else self._load_videos(video, "video")
        return self._call(return_dict, given_frames, "video", **arguments)

    def _call(
        self, return_dict: bool, given_frames: list[torch.Tensor] | None, given_name: str, **arguments: Any
    ) -> VideoARPipelineOutput | tuple:
        """A whole video; `given_frames` came in the argument `given_name`, the others are those of `__call__`."""
        stream = self._open_call(given_frames, given_name, **arguments)
        with self.progress_bar(total=stream.num_timesteps) as progress_bar:
            frames = stream.run(progress_bar.update)
        self._last_call = stream.describe_call()
        if not return_dict:
            return (frames,)
        return VideoARPipelineOutput(frames=frames)

    def _open_call(
        self, given_frames: list[torch.Tensor] | None, given_name: str, num_frames: int | None, **arguments: Any
    ) -> VideoARStream:
        """The stream of a video of finite length."""
        if num_frames is None:
            num_frames = self._default_num_frames(1 if given_frames is None else given_frames[0].shape[1])
        return self._open_stream(
            CallArguments(num_frames=num_frames, given_frames=given_frames, given_name=given_name, **arguments)
        )

    # 5. Streams

    @torch.no_grad()
    @describe_arguments
    @refuse_foreign_arguments
    def stream(
        self,
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
        video: Video | list[Video] | None = None,
        overlap_decoding: bool = False,
    ) -> VideoARStream:
        r"""
        Generates videos chunk by chunk: 1 pixel frame, then 4 at a time, each as soon as its latent frame is sampled.
        [`VideoARStream.set_prompt`] changes the prompt on the way.

        Args:
            {prompt}
            num_frames (`int`, *optional*):
                Pixel frames, `4 * n + 1`, given ones included. `None` goes on until the caller stops. Such a video walks through
                the temporal part of the guidance schedule in the first `sample_frames` latent frames, and unless `window` or
                `reencode_at` is given, its frames see as far back as the last of these (at least all given frames): memory stays
                constant.
            {overlap_decoding}
            {sampling}
            {callbacks}
            video (`list[PIL.Image.Image]`, `np.ndarray`, `torch.Tensor` or a list of one of these, *optional*):
                The beginning, see `__call__`; its chunks come first.

        Returns:
            [`VideoARStream`]: An iterator. Its chunks, concatenated along time, are what `__call__` returns for the same
            arguments.
        """
        own = {"self", "video", "overlap_decoding"}
        arguments = {name: value for name, value in locals().items() if name not in own | {"own"}}
        given_frames = None if video is None else self._load_videos(video, "video")
        return self._open_stream(CallArguments(given_frames=given_frames, **arguments), overlap_decoding)

    def _open_stream(self, arguments: CallArguments, overlap_decoding: bool = False) -> VideoARStream:
        """All that comes before the first sampled frame."""
        # 1. Fill in and check the arguments
        arguments = self._with_defaults(arguments)
        self.check_inputs(arguments)
        options = self._sampling_options(arguments)
        latent_size = [side // self.vae_scale_factor_spatial for side in (arguments.height, arguments.width)]
        num_frames = arguments.num_frames
        if num_frames is not None:
            num_frames = num_latent_frames(num_frames, self.vae_scale_factor_temporal)
        length = StreamLength(num_frames, arguments.reencode_at, arguments.context_frames)

        # 2. Encode the text
        device = self._execution_device
        text_settings = {
            "do_classifier_free_guidance": options.guidance_scale > 1,
            "num_videos_per_prompt": arguments.num_videos_per_prompt,
            "max_sequence_length": arguments.max_sequence_length,
            "device": device,
        }
        text = PromptStates(*self.encode_prompt(**arguments.text(), **text_settings))

        # 3. Open the sampler
        sampler = FrameSampler(
            self.transformer,
            self.scheduler,
            self.vae,
            text,
            options,
            self.scheduler.get_scale_schedule(*latent_size),
            num_frames=length.num_positions,
            window=arguments.window,
            sink_size=arguments.sink_size,
            generator=arguments.generator,
            noise=arguments.latents,
            attention_kwargs=arguments.attention_kwargs,
            runner=self._runner,
        )

        # 4. Write the given frames
        given_maps, conditions = None, arguments.frame_conditions
        if conditions is not None:
            conditions = {name: condition.to(device) for name, condition in conditions.items()}
        if arguments.given_frames is not None:
            size = (arguments.height, arguments.width)
            videos = torch.stack([resize_to_cover(video.to(device), *size) for video in arguments.given_frames])
            videos = videos.repeat_interleave(arguments.num_videos // len(videos), dim=0)
            given_maps = sampler.encode_frames(videos)
            num_given = given_maps.latents.shape[2]
            sampler.write_frames(
                given_maps, conditions and {name: condition[:, :num_given] for name, condition in conditions.items()}
            )

        # 5. Hand over
        is_latent = arguments.output_type == "latent"
        hooks = StreamHooks(
            decode=None if is_latent else functools.partial(self._runner.decode_chunk, self.vae),
            postprocess=functools.partial(self._postprocess, output_type=arguments.output_type),
            encode_prompt=_TextOfStream(self, arguments, text_settings),
            on_step_end=self._callback_adapter(arguments),
            on_close=self._on_close,
        )
        stream = VideoARStream(sampler, length, hooks, given_maps, conditions, overlap_decoding)
        self._open_streams.add(stream)
        self._last_call = stream.describe_call()
        return stream

    def _with_defaults(self, arguments: CallArguments) -> CallArguments:
        """Sizes and lengths that were left open, and one prompt for all given videos."""
        config, ratio = self.transformer.config, self.vae_scale_factor_temporal
        if arguments.given_frames is not None:
            arguments = arguments.repeated(len(arguments.given_frames))
        changes = {}
        for side in ("height", "width"):
            if getattr(arguments, side) is None:
                changes[side] = getattr(config, f"sample_{side}") * self.vae_scale_factor_spatial
        if arguments.num_frames is None and arguments.window is None and arguments.reencode_at is None:
            num_given = num_latent_frames(arguments.num_given_frames, ratio)
            changes["window"] = max(1, config.sample_frames - 1, num_given)
        if isinstance(arguments.reencode_at, (int, np.integer)) and arguments.context_frames is None:
            changes["context_frames"] = max(0, arguments.reencode_at // 2 - 1) * ratio + 1
        if isinstance(arguments.callback_on_step_end, (PipelineCallback, MultiPipelineCallbacks)):
            changes["callback_on_step_end_tensor_inputs"] = arguments.callback_on_step_end.tensor_inputs
        return replace(arguments, **changes)

    def _callback_adapter(
        self, arguments: CallArguments
    ) -> Callable[[VideoARStream, int, SamplingStep, torch.Tensor], torch.Tensor] | None:
        """The user's callback as a stream calls it."""
        callback = arguments.callback_on_step_end
        if callback is None:
            return None

        def on_step_end(
            stream: VideoARStream, index: int, step: SamplingStep, frame_sum: torch.Tensor
        ) -> torch.Tensor:
            sampler = stream.sampler
            text = {name: getattr(sampler.text, name) for name in ("prompt_embeds", "negative_prompt_embeds")}
            tensors = {"latents": frame_sum} | text
            timestep = step.frame * len(sampler.scale_schedule) + step.scale
            token = _RUNNING_CALLBACK.set((stream, timestep))
            try:
                outputs = callback(
                    self,
                    index,
                    torch.tensor(timestep, device=frame_sum.device),
                    {name: tensors[name] for name in arguments.callback_on_step_end_tensor_inputs},
                )
            finally:
                _RUNNING_CALLBACK.reset(token)
            check_callback_outputs(outputs, {"latents": frame_sum} | text)
            changed = {name: outputs[name] for name in text if outputs.get(name, text[name]) is not text[name]}
            if changed:
                sampler.write_text(replace(sampler.text, **changed))
            return outputs.get("latents", frame_sum)

        return on_step_end

    def _on_close(self, stream: VideoARStream) -> None:
        self._open_streams.discard(stream)
        self.maybe_free_model_hooks()

    def _postprocess(self, video: torch.Tensor, output_type: str) -> Chunk:
        """Pixel frames `(B, 3, F, H, W)` in [-1, 1] as `output_type`; latents as they are."""
        if output_type == "latent":
            return video
        return self.video_processor.postprocess_video(video, output_type=output_type)


class _TextOfStream:
    """
    Checks and encodes the prompts that a stream is given on the way. A negative prompt stays until it is changed.

    Args:
        pipeline ([`VideoARPipeline`]): That encodes.
        arguments ([`CallArguments`]): What the stream was opened with.
        settings (`dict`): Arguments of `encode_prompt` that do not change.
    """

    def __init__(self, pipeline: VideoARPipeline, arguments: CallArguments, settings: dict[str, Any]):
        self.pipeline = pipeline
        self.num_prompts = arguments.num_prompts
        self.has_given_videos = arguments.given_frames is not None
        self.settings = settings
        self.negative_text = {name: value for name, value in arguments.text().items() if name.startswith("negative")}

    def __call__(self, **text: Any) -> PromptStates:
        text = TextArguments(**text)
        if self.has_given_videos:
            text = text.repeated(self.num_prompts)
        self.pipeline._check_text(text)
        if text.num_prompts != self.num_prompts:
            name = "prompt" if text.prompt_embeds is None else "prompt_embeds"
            raise ValueError(
                f"`{name}` has {text.num_prompts} entries, but the stream was made for {self.num_prompts}. Pass "
                f"{self.num_prompts}."
            )
        negative_text = self.negative_text
        if text.negative_prompt is not None or text.negative_prompt_embeds is not None:
            negative_text = {name: value for name, value in text.text().items() if name.startswith("negative")}
        states = PromptStates(*self.pipeline.encode_prompt(**(text.text() | negative_text), **self.settings))
        self.negative_text = negative_text
        return states
