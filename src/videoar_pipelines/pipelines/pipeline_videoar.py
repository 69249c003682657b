# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
import functools
import html
import inspect
import re
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image
import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.loaders import CogVideoXLoraLoaderMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils import logging, replace_example_docstring
from diffusers.video_processor import VideoProcessor
from transformers import T5EncoderModel, T5TokenizerFast

from ..models.autoencoder_videoar import AutoencoderVideoAR, AutoencoderVideoARState
from ..models.kv_cache import VideoARKVCache
from ..models.quantization import MultiScaleMaps, latents_to_maps, sequence_inputs, tokens_per_frame
from ..models.token_layout import token_blocks, video_token_ids
from ..models.transformer_videoar import VideoARTransformer3DModel
from ..schedulers.scheduling_videoar import VideoARScheduler, draw_uniform_noise
from .cuda_graphs import CUDAGraphsMixin
from .pipeline_output import VideoARPipelineOutput
from .video_stream import DECODED_TOGETHER, VideoARStream


logger = logging.get_logger(__name__)

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


# Pixel frames of a given video that the tokenizer encodes together; bounds its memory.
ENCODED_TOGETHER = 16


def clean_prompt(prompt: str) -> str:
    """Unescapes HTML entities and collapses white space."""
    return re.sub(r"\s+", " ", html.unescape(prompt)).strip()


def accepts_arguments_of(call: Callable, without: tuple[str, ...] = ()) -> Callable:
    """
    Decorator of a method whose `**kwargs` are arguments of `call`: `help` and `inspect.signature` show them by name.
    """

    def decorate(method: Callable) -> Callable:
        own = inspect.signature(method).parameters
        handed_on = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for name, parameter in inspect.signature(call).parameters.items()
            if name not in own and name not in without
        ]
        named = [parameter for parameter in own.values() if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
        method.__signature__ = inspect.Signature([*named, *handed_on])
        return method

    return decorate


def resize_to_cover(video: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Pixel frames `(3, F, h, w)`, resized until they cover `height` x `width`, then cropped in the middle."""
    if video.shape[-2:] == (height, width):
        return video
    scale = max(height / video.shape[-2], width / video.shape[-1])
    covering_size = (max(height, round(video.shape[-2] * scale)), max(width, round(video.shape[-1] * scale)))
    resized = torch.nn.functional.interpolate(
        video, size=covering_size, mode="bicubic", align_corners=False, antialias=True
    ).clamp(-1, 1)
    top, left = (covering_size[0] - height) // 2, (covering_size[1] - width) // 2
    return resized[..., top : top + height, left : left + width]


@dataclass
class VideoARGeneration:
    """
    A video in the making: all state of one generation, handed from frame to frame.

    Args:
        kv_cache ([`VideoARKVCache`]): Text and the frames so far; conditional half of the batch first.
        prompt_embeds (`torch.Tensor` of shape `(B, N, C)`): Text states in the cache, and their mask `(B, N)`.
        negative_prompt_embeds (`torch.Tensor` of shape `(B, N, C)`, *optional*):
            Of the unconditional branch, the second half of the cache's batch, if there is one; and their mask.
        frame_token_ids (`torch.Tensor` of shape `(L, 5)`): Token ids of latent frame 0.
        latents (`torch.Tensor` of shape `(B, d, H', W')`): The latent frame being sampled, float32.
        previous_frame (`torch.Tensor` of shape `(B, d, H', W')`, *optional*): The one before.
        frame (`int`): Position of the latent frame that comes next; re-encoding starts it over.
        num_sampled_frames (`int`): Latent frames sampled so far.
        generator (`torch.Generator` or `list[torch.Generator]`, *optional*): Source of all randomness.
        noise (`torch.Tensor` of shape `(B, T, L, d)`, *optional*):
            Uniform noise of the sampled frames to use instead; `L` tokens are sampled for a frame.
        temperature, top_p (`float`, *optional*): Instead of the scheduler's.
        tokenizer_states (`tuple[AutoencoderVideoARState | None, AutoencoderVideoARState | None]`):
            Of the tokenizer's decoder and encoder, before `previous_frame`. Only refinement needs and moves them.
    """

    kv_cache: VideoARKVCache
    prompt_embeds: torch.Tensor
    negative_prompt_embeds: torch.Tensor | None
    prompt_attention_mask: torch.Tensor
    negative_prompt_attention_mask: torch.Tensor | None
    frame_token_ids: torch.Tensor
    latents: torch.Tensor
    previous_frame: torch.Tensor | None
    frame: int
    num_sampled_frames: int
    generator: torch.Generator | list[torch.Generator] | None
    noise: torch.Tensor | None
    temperature: float | list[float] | None
    top_p: float | None
    tokenizer_states: tuple[AutoencoderVideoARState | None, AutoencoderVideoARState | None] = (None, None)


class VideoARPipeline(DiffusionPipeline, CogVideoXLoraLoaderMixin, CUDAGraphsMixin):
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
    _callback_tensor_inputs = ["latents", "prompt_embeds", "negative_prompt_embeds"]
    _given_argument = None  # the argument with given frames, in pipelines that have one

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

    @classmethod
    def from_pipe(cls, pipeline: DiffusionPipeline, **kwargs):
        """
        A pipeline of this class with the components of another one; nothing is copied. As in diffusers, but without a `dtype` the
        weights keep theirs (diffusers casts them to float32, in both pipelines).
        """
        if kwargs.keys() & {"dtype", "torch_dtype"}:
            return super().from_pipe(pipeline, **kwargs)
        return cls(**(pipeline.components | kwargs))

    # 1. Text

    def _get_t5_prompt_embeds(
        self,
        prompt: list[str],
        max_sequence_length: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Text states `(B, N, C)` of the prompts, padded to the longest, and their mask `(B, N)`."""
        inputs = self.tokenizer(
            [clean_prompt(text) for text in prompt],
            padding="longest",
            max_length=max_sequence_length,
            truncation=True,
            return_tensors="pt",
        )
        untruncated = self.tokenizer([clean_prompt(text) for text in prompt]).input_ids
        for text, ids in zip(prompt, untruncated):
            if len(ids) > max_sequence_length:
                logger.warning(
                    f"A prompt of {len(ids)} tokens was cut to `max_sequence_length` = {max_sequence_length}: {text!r}"
                )
        mask = inputs.attention_mask.to(device)
        embeds = self.text_encoder(inputs.input_ids.to(device), mask).last_hidden_state
        return embeds.to(dtype), mask.bool()

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
    ):
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

        Returns:
            `tuple`: `prompt_embeds` and `negative_prompt_embeds`, `(B * num_videos_per_prompt, N, C)`, and their masks
            `(B * num_videos_per_prompt, N)`; the negative ones are `None` without guidance.
        """
        device = device or self._execution_device
        if dtype is None and self.text_encoder is not None:
            dtype = self.text_encoder.dtype
        if max_sequence_length is None:
            max_sequence_length = self.transformer.config.max_text_length if self.transformer is not None else 512

        if prompt_embeds is None:
            prompt = [prompt] if isinstance(prompt, str) else prompt
            prompt_embeds, prompt_attention_mask = self._get_t5_prompt_embeds(
                prompt, max_sequence_length, device, dtype
            )
        elif prompt_attention_mask is None:
            prompt_attention_mask = torch.ones(prompt_embeds.shape[:2], dtype=torch.bool, device=device)
        batch_size = len(prompt_embeds)

        if not do_classifier_free_guidance:
            negative_prompt_embeds, negative_prompt_attention_mask = None, None
        elif negative_prompt_embeds is not None:
            if negative_prompt_attention_mask is None:
                negative_prompt_attention_mask = torch.ones(
                    negative_prompt_embeds.shape[:2], dtype=torch.bool, device=device
                )
        elif negative_prompt is not None:
            negative_prompt = [negative_prompt] * batch_size if isinstance(negative_prompt, str) else negative_prompt
            negative_prompt_embeds, negative_prompt_attention_mask = self._get_t5_prompt_embeds(
                negative_prompt, max_sequence_length, device, dtype
            )
        else:
            negative_prompt_embeds = self.transformer.null_text_embeds(batch_size, prompt_embeds.shape[1])
            negative_prompt_embeds = negative_prompt_embeds.to(device=device, dtype=prompt_embeds.dtype)
            negative_prompt_attention_mask = prompt_attention_mask

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

    def check_inputs(
        self,
        prompt,
        negative_prompt,
        height,
        width,
        num_frames,
        num_videos_per_prompt,
        generator,
        latents,
        prompt_embeds,
        negative_prompt_embeds,
        temperature,
        top_p,
        refinements,
        window,
        reencode_at,
        context_frames,
        num_given_frames,
        max_sequence_length,
        output_type,
        callback_on_step_end_tensor_inputs,
    ) -> None:
        multiple = self.vae_scale_factor_spatial
        for name, size in (("height", height), ("width", width)):
            if size < multiple or size % multiple != 0:
                below = max(multiple, size // multiple * multiple)
                raise ValueError(
                    f"`{name}` has to be a multiple of {multiple}, got {size}. The nearest that work are {below} and "
                    f"{below + multiple}."
                )
        if num_videos_per_prompt < 1:
            raise ValueError(f"`num_videos_per_prompt` has to be at least 1, got {num_videos_per_prompt}.")
        self._check_lengths(num_frames, num_given_frames, window, reencode_at, context_frames)
        if output_type not in ("np", "pt", "pil", "latent"):
            raise ValueError(f"`output_type` has to be 'np', 'pt', 'pil' or 'latent', got {output_type!r}.")
        if output_type != "latent" and self.vae is None:
            raise ValueError(
                f"`output_type={output_type!r}` needs a `vae`, and this pipeline has none: pass 'latent'."
            )
        if num_given_frames > 0 and self.vae is None:
            raise ValueError(
                f"`{self._given_argument}` needs a `vae` to encode it, and this pipeline has none: load one."
            )
        if output_type == "latent" and reencode_at is not None:
            raise ValueError(
                "`output_type='latent'` does not go with `reencode_at`: latents from before and after a re-encoding belong to "
                "different streams of the tokenizer and do not decode as one video. Ask for pixels, or use `window`."
            )
        unknown = [name for name in callback_on_step_end_tensor_inputs if name not in self._callback_tensor_inputs]
        if unknown:
            raise ValueError(
                f"`callback_on_step_end_tensor_inputs` has to be in {self._callback_tensor_inputs}, but found {unknown}."
            )

        self._check_text_inputs(prompt, negative_prompt, prompt_embeds, negative_prompt_embeds)
        longest = self.transformer.config.max_text_length
        if max_sequence_length is not None and not 1 <= max_sequence_length <= longest:
            raise ValueError(f"`max_sequence_length` has to be between 1 and {longest}, got {max_sequence_length}.")
        temperatures = temperature if isinstance(temperature, (list, tuple)) else [temperature]
        if any(value is not None and value < 0 for value in temperatures):
            raise ValueError(f"`temperature` has to be at least 0 (greedy), got {temperature}.")
        if top_p is not None and not 0 < top_p <= 1:
            raise ValueError(f"`top_p` has to be above 0 and at most 1 (off), got {top_p}.")
        latent_size = (height // self.vae_scale_factor_spatial, width // self.vae_scale_factor_spatial)
        schedule = self.scheduler.get_scale_schedule(*latent_size)
        sampled_scales = self.scheduler.get_sampled_scales(schedule, refinements)  # refuses wrong `refinements`
        if self.vae is None and len(sampled_scales) > len(schedule):
            raise ValueError(
                "`refinements` need a `vae` to decode and encode frames, and this pipeline has none: pass `refinements=[]`."
            )

        num_videos = self._batch_size(prompt, prompt_embeds) * num_videos_per_prompt
        if isinstance(generator, list) and len(generator) != num_videos:
            raise ValueError(
                f"`generator` is a list of {len(generator)}, but {num_videos} videos are asked for. Pass one generator, or a "
                f"list of {num_videos}."
            )
        if latents is not None:
            if num_frames is None:
                raise ValueError("`latents` is the noise of a video of known length: pass `num_frames`.")
            num_latent_frames = self._num_latent_frames(num_frames - num_given_frames)
            num_sampled_tokens = tokens_per_frame([schedule[scale] for scale in sampled_scales])
            shape = (num_videos, num_latent_frames, num_sampled_tokens, self.transformer.config.out_channels)
            if tuple(latents.shape) != shape:
                raise ValueError(f"`latents` has to have the shape {shape}, got {tuple(latents.shape)}.")
            lowest, highest = latents.min().item(), latents.max().item()
            if lowest < 0 or highest > 1:
                raise ValueError(
                    f"`latents` has to be uniform noise in [0, 1], as from `torch.rand`, got values from {lowest:.3g} to "
                    f"{highest:.3g}."
                )

    def _check_text_inputs(self, prompt, negative_prompt, prompt_embeds, negative_prompt_embeds) -> None:
        if (prompt is None) == (prompt_embeds is None):
            raise ValueError("Provide exactly one of `prompt` and `prompt_embeds`.")
        if prompt is not None and not isinstance(prompt, (str, list)):
            raise ValueError(f"`prompt` has to be of type `str` or `list[str]`, got {type(prompt)}.")
        if isinstance(prompt, list) and not prompt:
            raise ValueError("`prompt` is an empty list. Pass at least one prompt.")
        if self.text_encoder is None and (prompt is not None or negative_prompt is not None):
            raise ValueError(
                "`prompt` and `negative_prompt` need a text encoder, and this pipeline has none: pass `prompt_embeds` and "
                "`negative_prompt_embeds`."
            )
        if negative_prompt is not None and negative_prompt_embeds is not None:
            raise ValueError("Provide at most one of `negative_prompt` and `negative_prompt_embeds`.")
        if negative_prompt is not None and not isinstance(negative_prompt, (str, list)):
            raise ValueError(f"`negative_prompt` has to be of type `str` or `list[str]`, got {type(negative_prompt)}.")
        batch_size = self._batch_size(prompt, prompt_embeds)
        if isinstance(negative_prompt, list) and len(negative_prompt) != batch_size:
            raise ValueError(
                f"`negative_prompt` has {len(negative_prompt)} entries for {batch_size} prompts. Pass one string, or a list of "
                f"{batch_size}."
            )
        if negative_prompt_embeds is not None and len(negative_prompt_embeds) != batch_size:
            raise ValueError(
                f"`negative_prompt_embeds` has {len(negative_prompt_embeds)} entries for {batch_size} prompts."
            )

    def _check_lengths(self, num_frames, num_given_frames, window, reencode_at, context_frames) -> None:
        if num_frames is not None:
            self._check_num_frames("num_frames", num_frames)
            if num_frames <= num_given_frames:
                raise ValueError(
                    f"`num_frames` counts the {num_given_frames} given frames and has to be more than these, got {num_frames}. "
                    f"The smallest that works is {num_given_frames + self.vae_scale_factor_temporal}."
                )
        if window is not None and window < 1:
            raise ValueError(f"`window` has to be at least 1 latent frame, or `None` for all, got {window}.")
        if reencode_at is None and context_frames is not None:
            raise ValueError(
                f"`context_frames` is {context_frames}, but without `reencode_at` nothing is re-encoded. Pass both, or none."
            )
        ratio = self.vae_scale_factor_temporal
        contexts = {f"`{self._given_argument}`": num_given_frames}
        if reencode_at is not None:
            if reencode_at < 2:
                raise ValueError(
                    f"`reencode_at` has to be at least 2 latent frames (one of context and a new one), got {reencode_at}."
                )
            self._check_num_frames("context_frames", context_frames)
            contexts["`context_frames`"] = context_frames
        # The first frame behind a context sees all of it.
        for name, num_pixel_frames in contexts.items():
            num_latent_frames = self._num_latent_frames(num_pixel_frames)
            for limit_name, limit, most in (
                ("window", window, window),
                ("reencode_at", reencode_at, reencode_at and reencode_at - 1),
            ):
                if limit is not None and num_latent_frames > most:
                    raise ValueError(
                        f"{name} has {num_pixel_frames} pixel frames, {num_latent_frames} latent ones: too long for "
                        f"`{limit_name}` = {limit}, which has room for {most}. Pass at most {(most - 1) * ratio + 1} pixel "
                        f"frames, or a `{limit_name}` of at least {limit + num_latent_frames - most}."
                    )

    def _check_num_frames(self, name: str, num_frames: int) -> None:
        ratio = self.vae_scale_factor_temporal
        if num_frames < 1 or (num_frames - 1) % ratio != 0:
            below = max(0, (num_frames - 1) // ratio) * ratio + 1
            raise ValueError(
                f"`{name}` has to be {ratio} * n + 1, got {num_frames}. The nearest that work are {below} and "
                f"{below + ratio}."
            )

    def _num_latent_frames(self, num_frames: int) -> int:
        """Latent frames of `4 * n + 1` pixel frames; 0 of none."""
        return -(-num_frames // self.vae_scale_factor_temporal)

    @staticmethod
    def _batch_size(prompt, prompt_embeds) -> int:
        if prompt is None:
            return len(prompt_embeds)
        return 1 if isinstance(prompt, str) else len(prompt)

    # 3. Sampling

    def prepare_generation(
        self,
        prompt_embeds: torch.Tensor,
        negative_prompt_embeds: torch.Tensor | None,
        prompt_attention_mask: torch.Tensor,
        negative_prompt_attention_mask: torch.Tensor | None,
        num_latent_frames: int | None,
        window: int | None,
        generator: torch.Generator | list[torch.Generator] | None,
        noise: torch.Tensor | None,
        temperature: float | list[float] | None,
        top_p: float | None,
    ) -> VideoARGeneration:
        """
        Allocates the cache and writes the text to it. The scheduler's timesteps must be set.

        Returns:
            [`VideoARGeneration`]: Before its first frame.
        """
        device = prompt_embeds.device
        schedule = self.scheduler.scale_schedule
        batch_size = len(prompt_embeds)
        branches = [embeds for embeds in (prompt_embeds, negative_prompt_embeds) if embeds is not None]
        make_cache = self.transformer.make_cache
        if self._cuda_graph_steps is not None:
            make_cache = functools.partial(self._cuda_graph_steps.lend_cache, self.transformer)
        kv_cache = make_cache(
            batch_size=batch_size * len(branches),
            text_length=max(embeds.shape[1] for embeds in branches),
            tokens_per_frame=tokens_per_frame(schedule),
            num_frames=num_latent_frames,
            window=window,
            device=device,
        )
        num_bits = self.transformer.config.out_channels
        generation = VideoARGeneration(
            kv_cache=kv_cache,
            prompt_embeds=prompt_embeds,
            negative_prompt_embeds=negative_prompt_embeds,
            prompt_attention_mask=prompt_attention_mask,
            negative_prompt_attention_mask=negative_prompt_attention_mask,
            frame_token_ids=video_token_ids(schedule, 1, device=device),
            latents=torch.zeros(batch_size, num_bits, *schedule[-1], device=device),
            previous_frame=None,
            frame=0,
            num_sampled_frames=0,
            generator=generator,
            noise=noise,
            temperature=temperature,
            top_p=top_p,
        )
        if self._cuda_graph_steps is not None:
            weakref.finalize(generation, self._cuda_graph_steps.take_back, kv_cache)
        self.write_text(generation)
        return generation

    def write_text(self, generation: VideoARGeneration) -> None:
        """Writes the text of `generation` to its cache, instead of the one before, which may have had another length."""
        text_embeds, text_mask = self._join_branches(
            generation.prompt_embeds,
            generation.negative_prompt_embeds,
            generation.prompt_attention_mask,
            generation.negative_prompt_attention_mask,
        )
        if text_embeds.shape[1] != generation.kv_cache.text_length:
            generation.kv_cache = generation.kv_cache.with_text_length(text_embeds.shape[1])
        kv_cache = generation.kv_cache

        def encode_text(embeds: torch.Tensor, mask: torch.Tensor | None) -> None:
            self.transformer.encode_text(embeds, kv_cache, mask, attention_kwargs=self.attention_kwargs)

        # Once there are frames, the text's place depends on their number.
        if self._cuda_graph_steps is None or kv_cache.num_written > 0:
            encode_text(text_embeds, text_mask)
        else:
            self._cuda_graph_steps.encode_text(
                kv_cache, repr(self.attention_kwargs), encode_text, text_embeds, text_mask
            )

    @staticmethod
    def _join_branches(
        prompt_embeds: torch.Tensor,
        negative_prompt_embeds: torch.Tensor | None,
        prompt_attention_mask: torch.Tensor,
        negative_prompt_attention_mask: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Both branches as one batch `(2B, N, C)`, conditional first; the mask is `None` if nothing is padded."""
        embeds, masks = [prompt_embeds], [prompt_attention_mask]
        if negative_prompt_embeds is not None:
            embeds.append(negative_prompt_embeds.to(prompt_embeds.dtype))
            masks.append(negative_prompt_attention_mask)
        length = max(item.shape[1] for item in embeds)
        embeds = torch.cat(
            [torch.nn.functional.pad(item, (0, 0, 0, length - item.shape[1])) for item in embeds], dim=0
        )
        mask = torch.cat([torch.nn.functional.pad(item, (0, length - item.shape[1])) for item in masks], dim=0)
        return embeds, None if bool(mask.all()) else mask

    def sample_frame(
        self, generation: VideoARGeneration, on_step_end: Callable[[int], None] | None = None
    ) -> torch.Tensor:
        """
        Samples the next latent frame, scale by scale, with the rounds of refinement that the scheduler asks for.

        Args:
            generation ([`VideoARGeneration`]): Moved on by one frame.
            on_step_end (`Callable`, *optional*):
                Called with the timestep after every map; may replace `generation.latents`. The frame ends early when
                `self.interrupt` is set.

        Returns:
            `torch.Tensor` of shape `(B, d, H', W')`: The latent frame, float32.
        """
        scheduler = self.scheduler
        schedule = scheduler.scale_schedule
        batch_size, num_bits = generation.latents.shape[:2]
        num_tokens = len(generation.frame_token_ids)
        device = generation.latents.device
        has_unconditional_branch = generation.negative_prompt_embeds is not None
        if self._has_refinement and generation.previous_frame is not None:
            # Not before now: nothing waits for it, and behind the last frame nobody needs it.
            _, generation.tokenizer_states = self._reencode(
                generation.previous_frame[:, :, None], generation.tokenizer_states
            )
        generation.latents = torch.zeros_like(generation.latents)
        sizes = [height * width for height, width in schedule]
        sampled_sizes = [sizes[scale] for scale in scheduler.sampled_scales]
        if generation.noise is None:
            noise = draw_uniform_noise((batch_size, sum(sampled_sizes), num_bits), generation.generator, device)
        else:
            noise = generation.noise[:, generation.num_sampled_frames].to(device)
        token_ids = generation.frame_token_ids.clone()
        token_ids[:, 0] += generation.frame
        token_ids[:, -1] += generation.frame * num_tokens
        noise = noise.split(sampled_sizes, dim=1)  # one for every step
        # Copies, since compiled blocks would be compiled anew for every shape of what a view looks at.
        tables = self.transformer.rotary_embedding(token_ids)
        rotary_embeddings = list(zip(*(torch.split_with_sizes_copy(table, sizes, dim=1) for table in tables)))
        map_token_ids = token_ids.split(sizes)
        previous_frame = generation.previous_frame
        if previous_frame is None:
            previous_frame = torch.zeros_like(generation.latents)
        if self._cuda_graph_steps is not None:
            self.transformer.begin_frame(generation.kv_cache)
            # All that decides what a recorded step does, besides its inputs and the filled part of the cache.
            settings = repr(
                (schedule, dict(scheduler.config), generation.temperature, generation.top_p, self.attention_kwargs)
            )

        def run_step(key: tuple, num_tokens: int, step: Callable[..., torch.Tensor], *inputs: Any) -> torch.Tensor:
            if self._cuda_graph_steps is None:
                return step(*inputs)
            return self._cuda_graph_steps.run_step(generation.kv_cache, (key, settings), num_tokens, step, *inputs)

        for index, scale in enumerate(scheduler.sampled_scales):
            timestep = generation.frame * len(schedule) + scale
            self._current_timestep = timestep

            # 1. Come back from the finest scale to a coarser one, for a round of refinement
            if index > 0 and scale <= scheduler.sampled_scales[index - 1]:
                features, _ = self._reencode(generation.latents[:, :, None], generation.tokenizer_states)
                generation.kv_cache.rewind(num_tokens)
                num_kept = sum(sizes[:scale])
                generation.latents = run_step(
                    ("return", scale),
                    num_kept,
                    functools.partial(self._return_to_scale, generation.kv_cache, scale, has_unconditional_branch),
                    features[:, :, 0],
                    previous_frame,
                    token_ids[:num_kept],
                    tuple(table[:, :num_kept].clone() for table in tables),
                )

            # 2. Sample a map
            guidance = None
            if has_unconditional_branch:
                guidance = scheduler.guidance_scale_at(
                    timestep, self.guidance_scale, self.transformer.config.sample_frames
                )
            generation.latents = run_step(
                ("sample", scale),
                sizes[scale],
                functools.partial(
                    self._sample_map, generation.kv_cache, timestep, generation.temperature, generation.top_p
                ),
                generation.latents,
                previous_frame,
                map_token_ids[scale],
                rotary_embeddings[scale],
                noise[index],
                guidance,
            )
            if on_step_end is not None:
                on_step_end(timestep)
            if self.interrupt:
                break

        generation.previous_frame = generation.latents
        generation.frame += 1
        generation.num_sampled_frames += 1
        return generation.latents

    def _sample_map(
        self,
        kv_cache: VideoARKVCache,
        timestep: int,
        temperature: float | list[float] | None,
        top_p: float | None,
        latents: torch.Tensor,
        previous_frame: torch.Tensor,
        token_ids: torch.Tensor,
        rotary_embedding: tuple[torch.Tensor, torch.Tensor],
        noise: torch.Tensor,
        guidance: float | torch.Tensor | None,
    ) -> torch.Tensor:
        """
        Samples one map. Everything that differs between calls for the same scale is a tensor, so that a CUDA graph can record it.

        Args:
            kv_cache ([`VideoARKVCache`]): Moved on by one map.
            timestep (`int`): Only its scale matters.
            temperature, top_p (`float`, *optional*): See [`VideoARScheduler.step`].
            latents (`torch.Tensor` of shape `(B, d, H', W')`): Sum of the frame's coarser maps.
            previous_frame (`torch.Tensor` of shape `(B, d, H', W')`): The frame before, zeros before the first.
            token_ids (`torch.Tensor` of shape `(h_k * w_k, 5)`): Token ids of the map.
            rotary_embedding (`tuple[torch.Tensor, torch.Tensor]`): Of these, see [`VideoARTransformer3DModel`].
            noise (`torch.Tensor` of shape `(B, h_k * w_k, d)`): Uniform noise.
            guidance (`float` or scalar `torch.Tensor`, *optional*): `None` without the unconditional branch.

        Returns:
            `torch.Tensor` of shape `(B, d, H', W')`: The sum with the new map.
        """
        model_input = self.scheduler.scale_model_input(latents, timestep, previous_frame)
        if guidance is not None:
            model_input = torch.cat([model_input, model_input])
        logits = self.transformer(
            model_input,
            token_ids,
            kv_cache=kv_cache,
            rotary_embedding=rotary_embedding,
            attention_kwargs=self.attention_kwargs,
            return_dict=False,
        )[0].float()
        if guidance is not None:
            conditional, unconditional = logits.chunk(2)
            logits = unconditional + guidance * (conditional - unconditional)
        return self.scheduler.step(
            logits,
            timestep,
            latents,
            noise=noise,
            temperature=temperature,
            top_p=top_p,
            return_dict=False,
        )[0]

    @property
    def _has_refinement(self) -> bool:
        return len(self.scheduler.sampled_scales) > len(self.scheduler.scale_schedule)

    def _reencode(
        self,
        latents: torch.Tensor,
        tokenizer_states: tuple[AutoencoderVideoARState | None, AutoencoderVideoARState | None],
    ) -> tuple[torch.Tensor, tuple[AutoencoderVideoARState, AutoencoderVideoARState]]:
        """
        Decodes the next latent frames of a video and encodes what they show.

        Args:
            latents (`torch.Tensor` of shape `(B, d, T, H', W')`): Quantised.
            tokenizer_states (`tuple[AutoencoderVideoARState, AutoencoderVideoARState]`):
                Of decoder and encoder behind the frames before, `None` before the first.

        Returns:
            `tuple[torch.Tensor, tuple[AutoencoderVideoARState, AutoencoderVideoARState]]`: Features before quantisation
            `(B, d, T, H', W')`, and the states behind these frames.
        """
        decoder_state, encoder_state = tokenizer_states
        # Not by `self.decode_chunk`: a stream may be decoding with its CUDA graph at the same time.
        pixels, decoder_state = self.vae.decode_chunk(latents, decoder_state, return_dict=False)
        features, encoder_state = self.vae.encode_chunk(pixels, encoder_state, return_dict=False)
        return features, (decoder_state, encoder_state)

    def _return_to_scale(
        self,
        kv_cache: VideoARKVCache,
        scale: int,
        has_unconditional_branch: bool,
        features: torch.Tensor,
        previous_frame: torch.Tensor,
        token_ids: torch.Tensor,
        rotary_embedding: tuple[torch.Tensor, torch.Tensor],
    ) -> torch.Tensor:
        """
        Begins a round of refinement: quantises a finished and re-encoded frame and writes its maps that are coarser than `scale`
        to the cache. Those sampled before the finer ones may not agree with what these made of the frame.

        Args:
            kv_cache ([`VideoARKVCache`]): At the beginning of the frame; moved on by these maps.
            scale (`int`): The first scale that is sampled again.
            has_unconditional_branch (`bool`): Whether the second half of the cache's batch is the unconditional branch.
            features (`torch.Tensor` of shape `(B, d, H', W')`): The finished frame, re-encoded.
            previous_frame (`torch.Tensor` of shape `(B, d, H', W')`): The frame before, zeros before the first.
            token_ids (`torch.Tensor` of shape `(S, 5)`): Token ids of the coarser maps.
            rotary_embedding (`tuple[torch.Tensor, torch.Tensor]`): Of these, see [`VideoARTransformer3DModel`].

        Returns:
            `torch.Tensor` of shape `(B, d, H', W')`: The sum of the coarser maps.
        """
        maps = latents_to_maps(features[:, :, None], self.scheduler.scale_schedule)
        model_input = torch.cat(
            [
                self.scheduler.scale_model_input(partial_sum, timestep, previous_frame)
                for timestep, partial_sum in enumerate(maps.partial_sums[:scale])
            ],
            dim=1,
        )
        self._write_maps(kv_cache, has_unconditional_branch, model_input, token_ids, rotary_embedding)
        return maps.partial_sums[scale]

    def _write_maps(
        self,
        kv_cache: VideoARKVCache,
        has_unconditional_branch: bool,
        model_input: torch.Tensor,
        token_ids: torch.Tensor,
        rotary_embedding: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> None:
        """
        Writes known maps to the cache in one pass of the transformer.

        Args:
            kv_cache ([`VideoARKVCache`]): Moved on by these maps.
            has_unconditional_branch (`bool`): Whether the second half of the cache's batch is the unconditional branch.
            model_input (`torch.Tensor` of shape `(B, S, c)`): What the transformer reads for the maps.
            token_ids (`torch.Tensor` of shape `(S, 5)`): Token ids of the maps.
            rotary_embedding (`tuple[torch.Tensor, torch.Tensor]`, *optional*): See [`VideoARTransformer3DModel`].
        """
        if has_unconditional_branch:
            model_input = torch.cat([model_input, model_input])
        self.transformer(
            model_input,
            token_ids,
            attention_mask=kv_cache.maps_attention_mask(token_blocks(token_ids, self.transformer.config.max_scales)),
            kv_cache=kv_cache,
            rotary_embedding=rotary_embedding,
            attention_kwargs=self.attention_kwargs,
        )

    # 4. Given frames

    def _load_given_frames(self, videos: list) -> list[torch.Tensor]:
        """
        Given videos, each a list of images or an array, as tensors.

        Returns:
            `list[torch.Tensor]`: For each video its pixel frames `(3, F, H, W)` in [-1, 1], in the size they are given in.
        """
        try:
            tensors = [self.video_processor.preprocess(video).transpose(0, 1).float() for video in videos]
        except (ValueError, IndexError, TypeError, AttributeError, RuntimeError) as error:
            raise ValueError(
                f"`{self._given_argument}` cannot be read as images: {error} Pass `PIL.Image.Image`, arrays `(height, width, 3)` "
                "or tensors `(3, height, width)` with values in [0, 1]; the frames of one video have one size."
            ) from error
        lengths = {tensor.shape[1] for tensor in tensors}
        if len(lengths) != 1 or any(len(tensor) != 3 for tensor in tensors):
            raise ValueError(
                f"`{self._given_argument}` has to hold RGB frames, as many for each video of a batch, got (channels, frames, "
                f"height, width) of {[tuple(tensor.shape) for tensor in tensors]}."
            )
        lowest, highest = (torch.stack([getattr(tensor, name)() for tensor in tensors]) for name in ("amin", "amax"))
        if not (lowest.min() >= -1 - 1e-3 and highest.max() <= 1 + 1e-3):  # written so that NaN is refused as well
            raise ValueError(
                f"`{self._given_argument}` as arrays or tensors has to be in [0, 1], got values from "
                f"{(lowest.min() + 1) / 2:.4g} to {(highest.max() + 1) / 2:.4g}. Divide levels of 0 to 255 by 255."
            )
        return tensors

    def encode_frames(self, video: torch.Tensor) -> MultiScaleMaps:
        """
        Encodes and quantises pixel frames. The scheduler's timesteps must be set.

        Args:
            video (`torch.Tensor` of shape `(B, 3, 4n + 1, H, W)`): In [-1, 1].

        Returns:
            [`MultiScaleMaps`]: Of `n + 1` latent frames.
        """
        latents, state = [], None
        first_chunk = 1 + ENCODED_TOGETHER
        for chunk in (video[:, :, :first_chunk], *video[:, :, first_chunk:].split(ENCODED_TOGETHER, dim=2)):
            if chunk.shape[2] > 0:
                chunk_latents, state = self.vae.encode_chunk(chunk, state, return_dict=False)
                latents.append(chunk_latents)
        return latents_to_maps(torch.cat(latents, dim=2), self.scheduler.scale_schedule)

    def write_frames(self, generation: VideoARGeneration, maps: MultiScaleMaps) -> None:
        """
        Makes latent frames the beginning of a video: their maps enter the cache in one pass of the transformer. What
        `generation` holds of other frames is forgotten.

        Only frames beyond the transformer's `max_text_distance`, where the text moves along from frame to frame, take a pass
        each.

        Args:
            generation ([`VideoARGeneration`]): Moved on to the frame behind them.
            maps ([`MultiScaleMaps`]): The frames; no more than the cache has room for.
        """
        kv_cache = generation.kv_cache
        kv_cache.forget_frames()
        schedule = self.scheduler.scale_schedule
        num_frames = maps.latents.shape[2]
        inputs = sequence_inputs(maps, schedule, self.scheduler.config.previous_frame_context)  # (B, T * L, c)
        has_unconditional_branch = generation.negative_prompt_embeds is not None
        token_ids = video_token_ids(schedule, num_frames, device=inputs.device)

        text_distance = self.transformer.config.max_text_distance
        together = num_frames if text_distance is None else min(num_frames, text_distance + 1)
        start = 0
        for last_frame in range(together, num_frames + 1):
            end = last_frame * tokens_per_frame(schedule)
            self._write_maps(kv_cache, has_unconditional_branch, inputs[:, start:end], token_ids[start:end])
            start = end
        generation.frame = num_frames
        generation.previous_frame = maps.latents[:, :, -1]

        generation.tokenizer_states = (None, None)
        if self._has_refinement and num_frames > 1:
            for chunk in maps.latents[:, :, :-1].split(DECODED_TOGETHER, dim=2):
                _, generation.tokenizer_states = self._reencode(chunk, generation.tokenizer_states)

    # 5. Whole videos

    @property
    def guidance_scale(self):
        return self._guidance_scale

    @property
    def do_classifier_free_guidance(self):
        return self._guidance_scale > 1

    @property
    def num_timesteps(self):
        return self._num_timesteps

    @property
    def current_timestep(self):
        return self._current_timestep

    @property
    def attention_kwargs(self):
        return self._attention_kwargs

    @property
    def interrupt(self):
        return self._interrupt

    @torch.no_grad()
    @replace_example_docstring(EXAMPLE_DOC_STRING)
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
        reencode_at: int | None = None,
        context_frames: int | None = None,
        output_type: str = "np",
        return_dict: bool = True,
        attention_kwargs: dict[str, Any] | None = None,
        callback_on_step_end: Callable[[Any, int, int, dict], dict]
        | PipelineCallback
        | MultiPipelineCallbacks
        | None = None,
        callback_on_step_end_tensor_inputs: list[str] = ["latents"],
        max_sequence_length: int | None = None,
    ):
        r"""
        Generates videos from prompts.

        Args:
            prompt (`str` or `list[str]`, *optional*): What the videos show. Either this or `prompt_embeds`.
            negative_prompt (`str` or `list[str]`, *optional*):
                What to guide away from. Without it the transformer's learned null text is used.
            height (`int`, *optional*): Pixels, a multiple of 16. Defaults to the transformer's `sample_height`.
            width (`int`, *optional*): Pixels, a multiple of 16. Defaults to the transformer's `sample_width`.
            num_frames (`int`, *optional*):
                Pixel frames, `4 * n + 1`; 1 gives an image. Defaults to the transformer's `sample_frames`.
            guidance_scale (`float`, *optional*):
                Largest value of the scheduler's guidance schedule. Guidance is off at 1 or below, which halves the work. Defaults
                to the scheduler's `guidance_scale`.
            num_videos_per_prompt (`int`, defaults to 1): Videos for each prompt.
            generator (`torch.Generator` or `list[torch.Generator]`, *optional*):
                For reproducible videos. With a list, one for each video, a video does not depend on its batch.
            latents (`torch.Tensor` of shape `(B, T, L, d)`, *optional*):
                Uniform noise in [0, 1) from which the bits are sampled, instead of drawing it from `generator`. With refinement,
                `L` counts maps as often as they are sampled.
            prompt_embeds (`torch.Tensor` of shape `(B, N, C)`, *optional*): Text states to use instead of `prompt`.
            negative_prompt_embeds (`torch.Tensor` of shape `(B, N, C)`, *optional*): Instead of `negative_prompt`.
            prompt_attention_mask (`torch.Tensor` of shape `(B, N)`, *optional*): `False` at padding of `prompt_embeds`.
            negative_prompt_attention_mask (`torch.Tensor` of shape `(B, N)`, *optional*): Of `negative_prompt_embeds`.
            temperature (`float` or `list[float]`, *optional*): Instead of the scheduler's. 0 is greedy.
            top_p (`float`, *optional*): Instead of the scheduler's.
            refinements (`list[int]`, *optional*):
                Rounds of refinement of every latent frame, instead of the scheduler's, each the number of finest maps that are
                sampled again; `[]` for none, as in the paper. See [`VideoARScheduler`].
            window (`int`, *optional*):
                Earlier latent frames that a frame sees; all of them when `None`. The cache is a ring of so many frames: memory and
                cost of a frame stay constant.
            reencode_at (`int`, *optional*):
                Latent frames after which the last `context_frames` are encoded again from their pixels, and become the beginning
                of the next stretch, with positions starting over: the paper's duration extension, for videos longer than those
                of training. Never when `None`.
            context_frames (`int`, *optional*):
                Pixel frames that are re-encoded, `4 * n + 1`, fewer than `reencode_at` latent frames. Defaults to half of
                these.
            output_type (`str`, defaults to `"np"`): `"np"`, `"pt"`, `"pil"` or `"latent"`.
            return_dict (`bool`, defaults to `True`): Whether to return an output object instead of a tuple.
            attention_kwargs (`dict`, *optional*): `{"scale": s}` scales LoRA layers.
            callback_on_step_end (`Callable`, *optional*):
                Called as `callback(pipeline, step, timestep, callback_kwargs)` after every map. What it returns replaces the
                tensors; `latents` is the latent frame `(B, d, H', W')` being sampled, text embeddings keep their shape.
            callback_on_step_end_tensor_inputs (`list[str]`, defaults to `["latents"]`): Tensors handed to the callback.
            max_sequence_length (`int`, *optional*): Longer prompts are cut. Defaults to the transformer's longest text.

        Examples:

        Returns:
            [`VideoARPipelineOutput`] or `tuple`: `frames`. When interrupted (`pipe._interrupt = True` in a callback), the latent
            frames that were finished; the unfinished first one if there is none.

        Raises:
            `ValueError`: An argument cannot work; the message names it, its value and what would.
        """
        if num_frames is None:
            num_frames = self._default_num_frames()
        stream = self._open_stream(
            None,
            prompt,
            negative_prompt=negative_prompt,
            height=height,
            width=width,
            num_frames=num_frames,
            guidance_scale=guidance_scale,
            num_videos_per_prompt=num_videos_per_prompt,
            generator=generator,
            latents=latents,
            prompt_embeds=prompt_embeds,
            negative_prompt_embeds=negative_prompt_embeds,
            prompt_attention_mask=prompt_attention_mask,
            negative_prompt_attention_mask=negative_prompt_attention_mask,
            temperature=temperature,
            top_p=top_p,
            refinements=refinements,
            window=window,
            reencode_at=reencode_at,
            context_frames=context_frames,
            output_type=output_type,
            attention_kwargs=attention_kwargs,
            callback_on_step_end=callback_on_step_end,
            callback_on_step_end_tensor_inputs=callback_on_step_end_tensor_inputs,
            max_sequence_length=max_sequence_length,
        )
        return self._run_stream(stream, return_dict)

    def _default_num_frames(self, num_given_frames: int = 1) -> int:
        """As many pixel frames behind the given ones (behind the first one, without) as the model generates by default."""
        return num_given_frames + (self.transformer.config.sample_frames - 1) * self.vae_scale_factor_temporal

    def _open_stream(
        self,
        given_frames: list[torch.Tensor] | None,
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
        reencode_at: int | None = None,
        context_frames: int | None = None,
        output_type: str = "np",
        attention_kwargs: dict[str, Any] | None = None,
        callback_on_step_end: Callable | PipelineCallback | MultiPipelineCallbacks | None = None,
        callback_on_step_end_tensor_inputs: list[str] = ["latents"],
        max_sequence_length: int | None = None,
        overlap_decoding: bool = False,
    ) -> VideoARStream:
        """
        All that comes before the first sampled frame. `given_frames`, each `(3, F, H, W)` in [-1, 1], begin the videos;
        `num_frames=None` means without end; the other arguments are those of `__call__`.
        """
        if isinstance(callback_on_step_end, (PipelineCallback, MultiPipelineCallbacks)):
            callback_on_step_end_tensor_inputs = callback_on_step_end.tensor_inputs
        config = self.transformer.config
        height = height if height is not None else config.sample_height * self.vae_scale_factor_spatial
        width = width if width is not None else config.sample_width * self.vae_scale_factor_spatial
        num_given_frames = 0
        if given_frames is not None:
            num_given_frames = given_frames[0].shape[1]
            prompt = [prompt] * len(given_frames) if isinstance(prompt, str) else prompt
        if num_frames is None and window is None and reencode_at is None:
            window = max(1, config.sample_frames - 1, self._num_latent_frames(num_given_frames))
        if reencode_at is not None and context_frames is None:
            context_frames = max(0, reencode_at // 2 - 1) * self.vae_scale_factor_temporal + 1

        # 1. Check inputs
        self.check_inputs(
            prompt,
            negative_prompt,
            height,
            width,
            num_frames,
            num_videos_per_prompt,
            generator,
            latents,
            prompt_embeds,
            negative_prompt_embeds,
            temperature,
            top_p,
            refinements,
            window,
            reencode_at,
            context_frames,
            num_given_frames,
            max_sequence_length,
            output_type,
            callback_on_step_end_tensor_inputs,
        )
        num_prompts = self._batch_size(prompt, prompt_embeds)
        if given_frames is not None and len(given_frames) not in (1, num_prompts):
            raise ValueError(
                f"`{self._given_argument}` has {len(given_frames)} entries for {num_prompts} prompts. Pass one, or "
                f"{num_prompts}."
            )
        self._guidance_scale = guidance_scale if guidance_scale is not None else self.scheduler.config.guidance_scale
        self._attention_kwargs = attention_kwargs
        self._current_timestep = None
        self._interrupt = False
        device = self._execution_device

        # 2. Encode prompts
        text_arguments = {
            "negative_prompt": negative_prompt,
            "negative_prompt_embeds": negative_prompt_embeds,
            "negative_prompt_attention_mask": negative_prompt_attention_mask,
            "do_classifier_free_guidance": self.do_classifier_free_guidance,
            "num_videos_per_prompt": num_videos_per_prompt,
            "max_sequence_length": max_sequence_length,
            "device": device,
        }
        prompt_embeds, negative_prompt_embeds, prompt_attention_mask, negative_prompt_attention_mask = (
            self.encode_prompt(
                prompt, prompt_embeds=prompt_embeds, prompt_attention_mask=prompt_attention_mask, **text_arguments
            )
        )

        # 3. Prepare timesteps
        latent_size = (height // self.vae_scale_factor_spatial, width // self.vae_scale_factor_spatial)
        num_latent_frames = None if num_frames is None else self._num_latent_frames(num_frames)
        lengths = [length for length in (num_latent_frames, reencode_at) if length is not None]
        num_positions = min(lengths) if lengths else None
        self.scheduler.set_timesteps(num_positions, *latent_size, device, refinements)
        self._num_timesteps = None
        if num_frames is not None:
            num_sampled_frames = num_latent_frames - self._num_latent_frames(num_given_frames)
            self._num_timesteps = num_sampled_frames * len(self.scheduler.sampled_scales)

        # 4. Prepare the cache
        generation = self.prepare_generation(
            prompt_embeds,
            negative_prompt_embeds,
            prompt_attention_mask,
            negative_prompt_attention_mask,
            num_positions,
            window,
            generator,
            latents,
            temperature,
            top_p,
        )

        # 5. Write the given frames
        given_latent_frames = []
        if given_frames is not None:
            videos = torch.stack([resize_to_cover(video.to(device), height, width) for video in given_frames])
            videos = videos.repeat_interleave(len(generation.latents) // len(videos), dim=0)
            maps = self.encode_frames(videos)
            self.write_frames(generation, maps)
            given_latent_frames = list(maps.latents.unbind(dim=2))

        # 6. Hand over
        on_step_end = None
        if callback_on_step_end is not None:

            def on_step_end(stream: VideoARStream, step: int, timestep: int) -> None:
                generation = stream.generation
                callback_kwargs = {name: getattr(generation, name) for name in callback_on_step_end_tensor_inputs}
                outputs = callback_on_step_end(self, step, torch.tensor(timestep, device=device), callback_kwargs)
                generation.latents = outputs.get("latents", generation.latents)
                is_new_text = False
                for name in ("prompt_embeds", "negative_prompt_embeds"):
                    embeds = outputs.get(name, getattr(generation, name))
                    is_new_text |= embeds is not getattr(generation, name)
                    setattr(generation, name, embeds)
                if is_new_text:
                    self.write_text(generation)

        return VideoARStream(
            self,
            generation,
            given_latent_frames,
            num_latent_frames,
            reencode_at,
            context_frames,
            text_arguments,
            output_type,
            overlap_decoding,
            on_step_end,
        )

    @torch.no_grad()
    @accepts_arguments_of(__call__, without=("return_dict",))
    def stream(
        self, prompt: str | list[str] | None = None, overlap_decoding: bool = False, **kwargs: Any
    ) -> VideoARStream:
        r"""
        Generates videos chunk by chunk: 1 pixel frame, then 4 at a time, each as soon as its latent frame is sampled.

        Args:
            prompt (`str` or `list[str]`, *optional*): What the videos show. [`VideoARStream.set_prompt`] changes it on the way.
            num_frames (`int`, *optional*):
                Pixel frames, `4 * n + 1`. `None` goes on until the caller stops. Such a video walks through the temporal part of
                the guidance schedule in the first `sample_frames` latent frames, and unless `window` or `reencode_at` is given,
                its frames see as far back as the last of these (at least all given frames): memory stays constant.
            overlap_decoding (`bool`, defaults to `False`):
                Whether to sample a latent frame ahead, from the second chunk on, while a chunk is decoded; on a GPU both run at
                the same time. A new prompt then takes effect a frame later.
            kwargs: Every other argument of `__call__` but `return_dict`.

        Returns:
            [`VideoARStream`]: An iterator. Its chunks, concatenated along time, are what `__call__` returns for the same
            arguments.
        """
        return self._open_stream(None, prompt, overlap_decoding=overlap_decoding, **kwargs)

    def _run_stream(self, stream: VideoARStream, return_dict: bool) -> VideoARPipelineOutput | tuple:
        """The whole video of a stream."""
        with self.progress_bar(total=self._num_timesteps) as progress_bar:
            video = self._postprocess(stream.run(progress_bar.update), stream.output_type)
        if not return_dict:
            return (video,)
        return VideoARPipelineOutput(frames=video)

    def _postprocess(
        self, video: torch.Tensor, output_type: str
    ) -> np.ndarray | torch.Tensor | list[list[PIL.Image.Image]]:
        """Pixel frames `(B, 3, F, H, W)` in [-1, 1] as `output_type`; latents as they are."""
        if output_type == "latent":
            return video
        return self.video_processor.postprocess_video(video, output_type=output_type)
