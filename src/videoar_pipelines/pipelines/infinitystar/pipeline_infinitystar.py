# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
The pipeline of InfinityStar: prompts, images and videos in, videos out. It checks what the user asks for, encodes text and given
frames, and hands over to a sampler of clips and a stream that decodes them.

Differences from the reference, which the pipeline makes on purpose:

- Prompts of a batch may differ in length, and a negative prompt from its prompt: padding is masked. There a batch is one prompt,
  and a shorter negative prompt leaves rows of zeros that are attended to.
- Given frames are the mean of the tokenizer's posterior, so that a seed decides the result; there they are drawn from it.
- The sum of the codes is held in float32; there in bfloat16.
- The last clip may be shorter than 20 latent frames after a full one (6 to 9 seconds), and a single frame is an image; both fail
  there.
- Frame 0 is what was decoded; there it is overwritten by frame 1.
- An image (one frame) gets no duration in its prompt.
"""

import functools
import gc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import PIL.Image
import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.loaders import CogVideoXLoraLoaderMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils import replace_example_docstring
from diffusers.video_processor import VideoProcessor
from transformers import T5EncoderModel, T5TokenizerFast

from ...hub.mixins import HubPipelineMixin
from ...models.autoencoder_infinitystar import AutoencoderInfinityStar
from ...models.quantization_infinitystar import clip_lengths
from ...models.text_encoding import encode_text, pad_text
from ...models.token_layout_infinitystar import InfinityStarPass
from ...models.transformer_infinitystar import InfinityStarTransformer3DModel
from ...schedulers.scheduling_infinitystar import InfinityStarScheduler
from ..call_arguments import (
    FOREIGN_ARGUMENTS,
    TextArguments,
    check_attention_kwargs,
    check_callback,
    check_callback_outputs,
    check_generator,
    check_integer,
    check_num_frames,
    check_output_type,
    check_padding,
    check_text,
    describe_arguments,
    refuse_foreign_arguments,
)
from ..pipeline_output import VideoARPipelineOutput
from .clip_sampler import ClipSampler, ClipSamplerState, TextBranch
from .clip_stream import InfinityStarStream
from .given_frames import LARGEST_CROP, Frame, cropped_share, frame_size, load_frames, nearest_shape


EXAMPLE_DOC_STRING = """
    Examples:
        ```python
        >>> import torch
        >>> from diffusers.utils import export_to_video
        >>> from videoar_pipelines import InfinityStarPipeline

        >>> pipe = InfinityStarPipeline.from_pretrained("infinitystar-480p", dtype=torch.bfloat16).to("cuda")
        >>> pipe.transformer.enable_forward_chunking()
        >>> video = pipe("A humpback whale leaps out of the sea at sunset", sequential_guidance=True).frames[0]
        >>> export_to_video(video, "whale.mp4", fps=16)
        ```
"""

FRAMES_PER_SECOND = 16
# What the models' authors put around a prompt.
DURATION_HINT = "<<<t={seconds}s>>>"
DETAIL_HINT = ", Close-up on big objects, emphasize scale and detail"
# Height over width of a video without a given size.
DEFAULT_SHAPE = (9, 16)


# What the docstrings of `__call__` and `stream` share.
ARGUMENTS = {
    "arguments": """
            prompt (`str` or `list[str]`, *optional*): What the videos show. Either this or `prompt_embeds`.
            negative_prompt (`str` or `list[str]`, *optional*):
                What to guide away from. Without it the transformer's learned null text is used.
            image (`PIL.Image.Image`, `np.ndarray`, `torch.Tensor` or a list of one of these, *optional*):
                The first frame: `(height, width, 3)` arrays or `(3, height, width)` tensors in [0, 1]. Several make as many
                videos, with as many prompts or one for all; one image may also go with several prompts.
            video (`list`, `np.ndarray` or `torch.Tensor`, *optional*):
                Frames that are continued, `80 * n + 1` of them, or a list of such videos.
            height (`int`, *optional*): Pixels; with `width` one of [`sizes`]. Defaults to the shape nearest to that of `image` or
                `video`, else to 16:9.
            width (`int`, *optional*): Pixels.
            num_frames (`int`, *optional*):
                Pixel frames of the result, the given ones included, `4 * n + 1`; 1 gives an image. The models were trained for
                whole seconds of 16 frames up to 10. Defaults to one clip after the first frame or the given ones: 81 for text
                and images.
            guidance_scale (`float`, *optional*): 1 is off, which halves the work. Defaults to the scheduler's.
            guidance_type (`str`, *optional*): `"projected"` or `"plain"`. Defaults to the scheduler's.
            image_temperature (`float`, *optional*): Of the first frame, instead of the scheduler's.
            video_temperature (`float`, *optional*): Of every later clip, instead of the scheduler's.
            sequential_guidance (`bool`, defaults to `False`):
                Whether the guidance branches run one after the other, which halves the activations.
            num_videos_per_prompt (`int`, defaults to 1): Videos for each prompt.
            generator (`torch.Generator` or `list[torch.Generator]`, *optional*):
                For reproducible videos. With a list, one for each video, a video does not depend on its batch.
            prompt_embeds (`torch.Tensor` of shape `(B, N, C)`, *optional*): Text states to use instead of `prompt`.
            negative_prompt_embeds (`torch.Tensor` of shape `(B, N, C)`, *optional*): Instead of `negative_prompt`.
            prompt_attention_mask (`torch.Tensor` of shape `(B, N)`, *optional*): `False` at padding of `prompt_embeds`.
            negative_prompt_attention_mask (`torch.Tensor` of shape `(B, N)`, *optional*): Of `negative_prompt_embeds`.
            add_prompt_hints (`bool`, defaults to `True`): Whether [`add_hints`] completes `prompt`.
            output_type (`str`, defaults to `"np"`): `"np"`, `"pt"`, `"pil"` or `"latent"`.
            attention_kwargs (`dict`, *optional*): `{"scale": s}` scales LoRA layers.
            callback_on_step_end (`Callable`, *optional*):
                Called as `callback(pipeline, step, timestep, callback_kwargs)` after every sampled pass; `timestep` is the number of
                the pass in the video. `latents`, `(B, c, T, H', W')`, is the clip being sampled; what is returned replaces it.
            callback_on_step_end_tensor_inputs (`list[str]`, defaults to `["latents"]`): Tensors handed to the callback.
            max_sequence_length (`int`, *optional*): Longer prompts are cut. Defaults to the transformer's longest text.""",
    "resume_from": """
            resume_from ([`ClipSamplerState`], *optional*):
                What [`InfinityStarStream.state`] gave, of a stream with the same arguments: the stream begins after the clips
                that were finished, and samples the same bits.""",
}
# What other pipelines take and this one cannot, and why.
REASONS = FOREIGN_ARGUMENTS | {
    "temperature": "the first frame and the clips have one each: pass `image_temperature` or `video_temperature`.",
    "latents": "the noise of bits is drawn from `generator`: pass a seeded one.",
    "window": "a clip sees the end of the one before and no more. Leave it out.",
}


class InfinityStarPipeline(HubPipelineMixin, DiffusionPipeline, CogVideoXLoraLoaderMixin):
    r"""
    Text to video, text to image (`num_frames=1`), image to video (`image=`) and continuation of a video (`video=`) with
    [InfinityStar](https://huggingface.co/papers/2511.04675).

    This model inherits from [`DiffusionPipeline`]. Check the superclass documentation for the generic methods implemented for
    all pipelines (downloading, saving, running on a particular device, etc.).

    Args:
        tokenizer ([`T5TokenizerFast`]): Tokenizer of the text encoder.
        text_encoder ([`T5EncoderModel`]): Flan-T5-XL.
        vae ([`AutoencoderInfinityStar`]): Video tokenizer.
        transformer ([`InfinityStarTransformer3DModel`]): Predicts the bits of a pass.
        scheduler ([`InfinityStarScheduler`]): Knows the passes, guides, samples bits.
    """

    model_cpu_offload_seq = "text_encoder->transformer->vae"
    _optional_components = ["tokenizer", "text_encoder"]
    _callback_tensor_inputs = ["latents"]

    def __init__(
        self,
        tokenizer: T5TokenizerFast | None,
        text_encoder: T5EncoderModel | None,
        vae: AutoencoderInfinityStar,
        transformer: InfinityStarTransformer3DModel,
        scheduler: InfinityStarScheduler,
    ):
        super().__init__()
        self.register_modules(
            tokenizer=tokenizer, text_encoder=text_encoder, vae=vae, transformer=transformer, scheduler=scheduler
        )
        vae = getattr(self, "vae", None)
        self.vae_scale_factor_spatial = vae.spatial_compression_ratio if vae is not None else 16
        self.vae_scale_factor_temporal = vae.temporal_compression_ratio if vae is not None else 4
        self.video_processor = VideoProcessor(vae_scale_factor=self.vae_scale_factor_spatial, do_resize=False)
        self._interrupt = False

    # 1. Text

    def free_text_encoder(self) -> None:
        """
        Takes the text encoder out of the pipeline and frees its memory (2.4 GB in bfloat16). From then on the pipeline needs
        `prompt_embeds`, which [`encode_prompt`] gave before.
        """
        self.register_modules(text_encoder=None)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def add_hints(self, prompt: str, num_frames: int) -> str:
        """
        A prompt as the models were trained on and are used by their authors: with the duration in front, and a phrase about detail
        after it.

        Raises:
            `ValueError`: The video does not last whole seconds.
        """
        seconds, rest = divmod(num_frames - 1, FRAMES_PER_SECOND)
        if rest != 0:
            below = seconds * FRAMES_PER_SECOND + 1
            raise ValueError(
                f"`num_frames` is {num_frames}: the duration in the prompt is whole seconds of {FRAMES_PER_SECOND} frames. Pass "
                f"{below} or {below + FRAMES_PER_SECOND}, or `add_prompt_hints=False` for a prompt as it is."
            )
        duration = DURATION_HINT.format(seconds=seconds) if seconds > 0 else ""
        return f"{duration}{prompt}{DETAIL_HINT}"

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
        padding: str = "longest",
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor, torch.Tensor | None]:
        r"""
        Encodes prompts for both guidance branches. Prompts are taken as they are, see [`add_hints`].

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
            padding (`str`, defaults to `"longest"`):
                `"longest"`: `N` is the number of tokens of the longest prompt. `"max_length"`: `N` is `max_sequence_length`, so
                that embeddings of any two prompts have one shape and can be stored or stacked; zeros after the text, which the
                masks hide and no video depends on. Attention is over `N` tokens.

        Returns:
            `tuple`: `prompt_embeds` and `negative_prompt_embeds`, `(B * num_videos_per_prompt, N, C)`, and their masks
            `(B * num_videos_per_prompt, N)`; the negative ones are `None` without guidance.

        Raises:
            `ValueError`: `padding` is unknown, or given states are longer than what they are to be padded to.
        """
        device = device or self._execution_device
        max_sequence_length = max_sequence_length or self.transformer.config.max_text_length
        states = {"prompt_embeds": prompt_embeds, "negative_prompt_embeds": negative_prompt_embeds}
        check_padding(padding, max_sequence_length, states)
        prompt_embeds, prompt_attention_mask = self._text_states(
            prompt, prompt_embeds, prompt_attention_mask, max_sequence_length, device
        )
        if padding == "max_length":
            prompt_embeds, prompt_attention_mask = pad_text(prompt_embeds, prompt_attention_mask, max_sequence_length)
        if not do_classifier_free_guidance:
            negative_prompt_embeds, negative_prompt_attention_mask = None, None
        elif negative_prompt is None and negative_prompt_embeds is None:
            negative_prompt_embeds = self.transformer.null_text_embeds(*prompt_embeds.shape[:2]).to(prompt_embeds)
            negative_prompt_attention_mask = prompt_attention_mask
        else:
            if isinstance(negative_prompt, str):
                negative_prompt = [negative_prompt] * len(prompt_embeds)
            negative_prompt_embeds, negative_prompt_attention_mask = self._text_states(
                negative_prompt, negative_prompt_embeds, negative_prompt_attention_mask, max_sequence_length, device
            )
            if padding == "max_length":
                negative_prompt_embeds, negative_prompt_attention_mask = pad_text(
                    negative_prompt_embeds, negative_prompt_attention_mask, max_sequence_length
                )
        return tuple(
            None if tensor is None else tensor.repeat_interleave(num_videos_per_prompt, dim=0)
            for tensor in (
                prompt_embeds,
                negative_prompt_embeds,
                prompt_attention_mask,
                negative_prompt_attention_mask,
            )
        )

    def _text_states(
        self,
        prompt: str | list[str] | None,
        embeds: torch.Tensor | None,
        mask: torch.Tensor | None,
        max_sequence_length: int,
        device: torch.device,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Text states `(B, N, C)`, those that are given or of the prompts, padded to the longest; and their mask `(B, N)`."""
        if embeds is not None:
            mask = torch.ones(embeds.shape[:2], dtype=torch.bool) if mask is None else mask.bool()
            return embeds.to(device), mask.to(device)
        prompts = [prompt] if isinstance(prompt, str) else prompt
        return encode_text(self.tokenizer, self.text_encoder, prompts, max_sequence_length, device=device)

    # 2. Inputs

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Every size (height, width), in pixels, that the scheduler has a schedule for."""
        ratio = self.vae_scale_factor_spatial
        return [(height * ratio, width * ratio) for height, width in self.scheduler.latent_grids]

    def _choose_size(self, height: int | None, width: int | None, given: list[list[Frame]] | None) -> tuple[int, int]:
        """Height and width of the video: as asked for, or the nearest to the given frames, or to 16:9."""
        if (height is None) != (width is None):
            raise ValueError(f"Pass both of `height` and `width`, or none: got {height} and {width}.")
        if height is not None:
            if (height, width) not in self.sizes:
                nearest = nearest_shape((height, width), self.sizes) if min(height, width) > 0 else self.sizes[0]
                known = ", ".join(f"{known_height}x{known_width}" for known_height, known_width in self.sizes)
                raise ValueError(
                    f"`height` and `width` are {height}x{width}, which the model was not trained for. The nearest shape is "
                    f"{nearest[0]}x{nearest[1]}; all: {known}."
                )
            return height, width
        if given is None:
            return nearest_shape(DEFAULT_SHAPE, self.sizes)
        size = frame_size(given[0][0])
        nearest = nearest_shape(size, self.sizes)
        share = cropped_share(size, nearest)
        if share > LARGEST_CROP:
            raise ValueError(
                f"The given frames are {size[0]}x{size[1]} (height x width): the nearest shape of the model is "
                f"{nearest[0]}x{nearest[1]}, which would cut off {share:.0%} of the picture. Crop it, or pass `height` and `width` "
                "to cut it all the same."
            )
        return nearest

    def _check_length(self, num_frames: int, num_given_frames: int) -> None:
        ratio = self.vae_scale_factor_temporal
        check_num_frames("num_frames", num_frames, ratio)
        if num_given_frames == 0:
            return
        per_clip = self.scheduler.config.latents_per_clip * ratio
        if (num_given_frames - 1) % per_clip != 0:
            below = (num_given_frames - 1) // per_clip * per_clip + 1
            raise ValueError(
                f"`video` has {num_given_frames} frames. The model goes on from whole clips, {per_clip} * n + 1 frames: pass "
                f"{below} or {below + per_clip}."
            )
        if num_frames <= num_given_frames:
            raise ValueError(
                f"`num_frames` counts the {num_given_frames} given frames and has to be more than these, got {num_frames}. Pass "
                f"{num_given_frames + per_clip} for one more clip."
            )

    def _load_given(self, image, video) -> list[list[Frame]] | None:
        """The given frames of every sample, one list each; `None` without."""
        if image is not None and video is not None:
            raise ValueError("Pass at most one of `image` and `video`: the first frame of a video is an image.")
        if image is not None:
            images = list(image) if isinstance(image, (list, tuple)) or getattr(image, "ndim", 3) == 4 else [image]
            given = [[item] for item in images]
        elif video is None:
            return None
        else:
            is_batch = isinstance(video, (list, tuple)) and len(video) > 0
            is_batch = is_batch and (isinstance(video[0], (list, tuple)) or getattr(video[0], "ndim", 3) == 4)
            is_batch = is_batch or getattr(video, "ndim", 4) == 5
            given = [list(item) for item in video] if is_batch else [list(video)]
        name = "image" if image is not None else "video"
        if not given or not given[0]:
            raise ValueError(f"`{name}` is empty. Pass at least one picture.")
        if len({len(frames) for frames in given}) > 1:
            raise ValueError(
                f"The videos of `video` have {[len(frames) for frames in given]} frames; pass equally many."
            )
        for frame in (frame for frames in given for frame in frames):
            if not isinstance(frame, (PIL.Image.Image, np.ndarray, torch.Tensor)):
                raise ValueError(f"`{name}` has to hold PIL images, arrays or tensors, got {type(frame)}.")
            has_colours = isinstance(frame, PIL.Image.Image) or (
                frame.ndim == 3 and frame.shape[0 if isinstance(frame, torch.Tensor) else -1] == 3
            )
            if not has_colours:
                raise ValueError(
                    f"`{name}` has a picture of shape {tuple(frame.shape)}: arrays are (height, width, 3), tensors (3, height, "
                    "width)."
                )
        return given

    def _check_text(self, text: TextArguments, max_sequence_length: int | None) -> None:
        config = self.transformer.config
        check_text(text, self.text_encoder is not None, config.text_embed_dim, config.max_text_length)
        if max_sequence_length is not None:
            check_integer("max_sequence_length", max_sequence_length, 1, config.max_text_length)

    # 3. Whole videos

    @property
    def num_timesteps(self):
        return self._num_timesteps

    @property
    def interrupt(self):
        return self._interrupt

    @torch.no_grad()
    @functools.partial(describe_arguments, texts=ARGUMENTS)
    @functools.partial(refuse_foreign_arguments, reasons=REASONS)
    def stream(
        self,
        prompt: str | list[str] | None = None,
        negative_prompt: str | list[str] | None = None,
        image: Frame | list[Frame] | None = None,
        video: list[Frame] | list[list[Frame]] | np.ndarray | torch.Tensor | None = None,
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        guidance_scale: float | None = None,
        guidance_type: str | None = None,
        image_temperature: float | None = None,
        video_temperature: float | None = None,
        sequential_guidance: bool = False,
        num_videos_per_prompt: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        prompt_embeds: torch.Tensor | None = None,
        negative_prompt_embeds: torch.Tensor | None = None,
        prompt_attention_mask: torch.Tensor | None = None,
        negative_prompt_attention_mask: torch.Tensor | None = None,
        add_prompt_hints: bool = True,
        output_type: str = "np",
        attention_kwargs: dict[str, Any] | None = None,
        callback_on_step_end: Callable[[Any, int, int, dict], dict]
        | PipelineCallback
        | MultiPipelineCallbacks
        | None = None,
        callback_on_step_end_tensor_inputs: list[str] = ["latents"],
        max_sequence_length: int | None = None,
        resume_from: ClipSamplerState | None = None,
    ) -> InfinityStarStream:
        r"""
        Generates videos clip by clip: the first pixel frame, then 80 at a time (5 seconds), each clip as soon as it is finished.

        Args:
            {arguments}
            {resume_from}

        Returns:
            [`InfinityStarStream`]: An iterator. Its chunks, concatenated along time, are what `__call__` returns.

        Raises:
            `ValueError`: An argument cannot work; the message names it, its value and what would.
        """
        if isinstance(callback_on_step_end, (PipelineCallback, MultiPipelineCallbacks)):
            callback_on_step_end_tensor_inputs = callback_on_step_end.tensor_inputs

        # 1. Check inputs
        given = self._load_given(image, video)
        num_given_frames = 0 if given is None else len(given[0])
        text = TextArguments(
            prompt,
            negative_prompt,
            prompt_embeds,
            negative_prompt_embeds,
            prompt_attention_mask,
            negative_prompt_attention_mask,
        )
        if given is not None:
            text = text.repeated(len(given))
        self._check_text(text, max_sequence_length)
        num_prompts = text.num_prompts
        if given is not None and len(given) not in (1, num_prompts):
            name = "image" if image is not None else "video"
            raise ValueError(
                f"`{name}` has {len(given)} entries for {num_prompts} prompts. Pass one, or {num_prompts}."
            )
        check_integer("num_videos_per_prompt", num_videos_per_prompt, least=1)
        num_videos = num_prompts * num_videos_per_prompt
        check_generator(generator, num_videos, self.transformer.tensor_parallel_degree)
        check_output_type(output_type)
        check_attention_kwargs(attention_kwargs)
        check_callback(callback_on_step_end, callback_on_step_end_tensor_inputs, self._callback_tensor_inputs)
        if num_frames is None:
            clip = self.scheduler.config.latents_per_clip * self.vae_scale_factor_temporal
            num_frames = max(1, num_given_frames) + clip
        self._check_length(num_frames, num_given_frames)
        height, width = self._choose_size(height, width, given)
        given_videos = None if given is None else torch.stack([load_frames(frames, height, width) for frames in given])
        options = self.scheduler.get_options(guidance_scale, guidance_type, image_temperature, video_temperature)
        self._interrupt = False
        device = self._execution_device

        # 2. Encode prompts
        if text.prompt is not None and add_prompt_hints:
            prompts = [text.prompt] if isinstance(text.prompt, str) else text.prompt
            text = replace(text, prompt=[self.add_hints(each, num_frames) for each in prompts])
        prompt_embeds, negative_prompt_embeds, prompt_attention_mask, negative_prompt_attention_mask = (
            self.encode_prompt(
                **text.text(),
                do_classifier_free_guidance=options.has_guidance,
                num_videos_per_prompt=num_videos_per_prompt,
                max_sequence_length=max_sequence_length,
                device=device,
            )
        )
        branches = [TextBranch(prompt_embeds, prompt_attention_mask)]
        if options.has_guidance:
            branches.append(TextBranch(negative_prompt_embeds, negative_prompt_attention_mask))

        # 3. Encode given frames
        given_clips = []
        if given_videos is not None:
            features = self.vae.encode(given_videos.to(device), return_dict=False)[0].float()  # (B, c, T, H', W')
            features = features.repeat_interleave(num_videos // len(features), dim=0)
            lengths = clip_lengths(features.shape[2], self.scheduler.config.latents_per_clip)
            given_clips = list(features.split(lengths, dim=2))

        # 4. Hand over
        ratio = self.vae_scale_factor_spatial
        num_latent_frames = (num_frames - 1) // self.vae_scale_factor_temporal + 1
        sampler = ClipSampler(
            self.transformer,
            self.scheduler,
            self.scheduler.get_passes(num_latent_frames, height // ratio, width // ratio),
            options,
            branches,
            generator,
            sequential_guidance,
            attention_kwargs,
        )
        on_pass_end = None
        if callback_on_step_end is not None:

            def on_pass_end(stream: InfinityStarStream, step: int, current_pass: InfinityStarPass) -> None:
                tensors = {"latents": stream.sampler.latents}
                tensors = {name: tensors[name] for name in callback_on_step_end_tensor_inputs}
                outputs = callback_on_step_end(self, step, torch.tensor(current_pass.step, device=device), tensors)
                check_callback_outputs(outputs, {"latents": stream.sampler.latents})
                stream.sampler.latents = outputs.get("latents", stream.sampler.latents)

        stream = InfinityStarStream(self, sampler, given_clips, output_type, on_pass_end)
        if resume_from is not None:
            stream.resume(resume_from)
        self._num_timesteps = stream.num_passes
        return stream

    @torch.no_grad()
    @replace_example_docstring(EXAMPLE_DOC_STRING)
    @functools.partial(describe_arguments, texts=ARGUMENTS)
    @functools.partial(refuse_foreign_arguments, reasons=REASONS)
    def __call__(
        self,
        prompt: str | list[str] | None = None,
        negative_prompt: str | list[str] | None = None,
        image: Frame | list[Frame] | None = None,
        video: list[Frame] | list[list[Frame]] | np.ndarray | torch.Tensor | None = None,
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        guidance_scale: float | None = None,
        guidance_type: str | None = None,
        image_temperature: float | None = None,
        video_temperature: float | None = None,
        sequential_guidance: bool = False,
        num_videos_per_prompt: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        prompt_embeds: torch.Tensor | None = None,
        negative_prompt_embeds: torch.Tensor | None = None,
        prompt_attention_mask: torch.Tensor | None = None,
        negative_prompt_attention_mask: torch.Tensor | None = None,
        add_prompt_hints: bool = True,
        output_type: str = "np",
        attention_kwargs: dict[str, Any] | None = None,
        callback_on_step_end: Callable[[Any, int, int, dict], dict]
        | PipelineCallback
        | MultiPipelineCallbacks
        | None = None,
        callback_on_step_end_tensor_inputs: list[str] = ["latents"],
        max_sequence_length: int | None = None,
        return_dict: bool = True,
    ) -> VideoARPipelineOutput | tuple:
        r"""
        Generates videos.

        Args:
            {arguments}
            return_dict (`bool`, defaults to `True`): Whether to return an output object instead of a tuple.

        Examples:

        Returns:
            [`VideoARPipelineOutput`] or `tuple`: `frames`. When interrupted (`pipe._interrupt = True` in a callback), the clips
            that were finished; an empty list if there is none.

        Raises:
            `ValueError`: An argument cannot work; the message names it, its value and what would.
        """
        arguments = {name: value for name, value in locals().items() if name not in ("self", "return_dict")}
        stream = self.stream(**arguments)
        with self.progress_bar(total=stream.num_passes) as progress_bar:
            frames = stream.run(progress_bar.update)
        if not return_dict:
            return (frames,)
        return VideoARPipelineOutput(frames=frames)

    def postprocess(
        self, pixels: torch.Tensor, output_type: str
    ) -> np.ndarray | torch.Tensor | list[list[PIL.Image.Image]]:
        """Pixel frames `(B, 3, F, H, W)` in [-1, 1] as `output_type`; latents as they are."""
        if output_type == "latent":
            return pixels
        return self.video_processor.postprocess_video(pixels, output_type=output_type)
