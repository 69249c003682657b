# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""The arguments of a call as one object, the checks of what a user passed, and the texts that describe it."""

import functools
import inspect
import math
import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback


LONGEST = 1_000_000  # latent frames of a window, or between two re-encodings
OUTPUT_TYPES = ("np", "pt", "pil", "latent")
CALLBACK_TENSORS = ("latents", "prompt_embeds", "negative_prompt_embeds")

# Texts of arguments that the calls of some pipelines share.
_GUIDANCE_SCALE = """
            guidance_scale (`float`, *optional*):
                Largest value of the scheduler's guidance schedule. Guidance is off at 1 or below, which halves the work. Defaults
                to the scheduler's `guidance_scale`."""
_FRAME_SAMPLING = """
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
                sampled again; `[]` for none, as in the paper. See [`VideoARScheduler`]."""
_FRAME_CONDITIONS = """
            frame_conditions (`dict[str, torch.Tensor]`, *optional*):
                For a transformer that was trained with conditions: by name, a vector `(B, T, c)` or label `(B, T, 1)` of every
                latent frame. What is left out is the learned null."""

# What the calls and streams of all pipelines share; `describe_arguments` puts it in their docstrings.
ARGUMENTS = {
    "prompt": """
            prompt (`str` or `list[str]`, *optional*): What the videos show. Either this or `prompt_embeds`.
            negative_prompt (`str` or `list[str]`, *optional*):
                What to guide away from. Without it the transformer's learned null text is used.
            height (`int`, *optional*): Pixels, a multiple of 16. Defaults to the transformer's `sample_height`.
            width (`int`, *optional*): Pixels, a multiple of 16. Defaults to the transformer's `sample_width`.""",
    "guidance_scale": _GUIDANCE_SCALE,
    "frame_sampling": _FRAME_SAMPLING,
    "frame_conditions": _FRAME_CONDITIONS,
    "sampling": _GUIDANCE_SCALE
    + """
            num_videos_per_prompt (`int`, defaults to 1): Videos for each prompt."""
    + _FRAME_SAMPLING
    + """
            window (`int`, *optional*):
                Last latent frames that a frame sees before itself; all earlier ones when `None`. The cache is a ring of so many
                frames: memory and cost of a frame stay constant.
            sink_size (`int`, defaults to 0):
                With `window`, the attention sink: so many first latent frames of the video stay visible to all later ones, besides
                the window. They keep their true positions, so that their distance grows with the video, beyond that of training
                if it is longer. With `reencode_at`, the first ones of each stretch. Not in the paper.
            reencode_at (`int`, *optional*):
                Latent frames after which the last `context_frames` are encoded again from their pixels, and become the beginning
                of the next stretch, with positions starting over: the paper's duration extension, for videos longer than those
                of training. Never when `None`.
            context_frames (`int`, *optional*):
                Pixel frames that are re-encoded, `4 * n + 1`, fewer than `reencode_at` latent frames. Defaults to half of
                these."""
    + _FRAME_CONDITIONS
    + """
            output_type (`str`, defaults to `"np"`): `"np"`, `"pt"`, `"pil"` or `"latent"`.""",
    "return_dict": """
            return_dict (`bool`, defaults to `True`): Whether to return an output object instead of a tuple.""",
    "overlap_decoding": """
            overlap_decoding (`bool`, defaults to `False`):
                Whether to sample a latent frame ahead, from the second chunk on, while a chunk is decoded; on a GPU both run at
                the same time. A new prompt then takes effect a frame later.""",
    "callbacks": """
            attention_kwargs (`dict`, *optional*):
                `{"scale": s}` scales LoRA layers. These are the transformer's: do not pass it in calls that run at the same time in
                several threads.
            callback_on_step_end (`Callable`, *optional*):
                Called as `callback(pipeline, step, timestep, callback_kwargs)` after every map, where `timestep` is
                `t * K + k` of latent frame `t` and scale `k`. What it returns replaces the tensors; `latents` is the latent
                frame `(B, d, H', W')` being sampled. Text embeddings keep their shape, and only a new tensor takes effect, since the
                cache holds what was made of the old one.
            callback_on_step_end_tensor_inputs (`list[str]`, defaults to `["latents"]`): Tensors handed to the callback.
            max_sequence_length (`int`, *optional*): Longer prompts are cut. Defaults to the transformer's longest text.""",
}

_NO_STEPS = (
    "there are no denoising steps. A step is a map of a latent frame: the length (`num_frames`) and the scheduler's scales decide how "
    "many there are, `pipe.num_timesteps` after a call. Leave it out."
)
_NO_VOCABULARY = (
    "there is no vocabulary of tokens to choose from: every bit of a token has a probability of its own, and two values. Use a "
    "temperature."
)
# What other pipelines take and these cannot, and why.
FOREIGN_ARGUMENTS = {
    "num_inference_steps": _NO_STEPS,
    "timesteps": _NO_STEPS,
    "sigmas": _NO_STEPS,
    "strength": "given frames are the beginning of the video and are not changed. Leave it out.",
    "guidance_rescale": "guidance is on logits, whose scale is their certainty. Lower `guidance_scale`.",
    "top_k": _NO_VOCABULARY,
    "min_p": _NO_VOCABULARY,
    "typical_p": _NO_VOCABULARY,
    "repetition_penalty": _NO_VOCABULARY,
    "num_beams": _NO_VOCABULARY,
    "do_sample": "bits are always sampled. The lower a temperature, the nearer to the likelier values.",
    "num_images_per_prompt": "it is called `num_videos_per_prompt`; an image is a video with `num_frames=1`.",
    "cross_attention_kwargs": "there is no cross-attention. The strength of LoRA layers is `attention_kwargs={'scale': s}`.",
    "joint_attention_kwargs": "it is called `attention_kwargs`.",
    "fps": "the model knows frames, not seconds. Pass the rate where the video is saved.",
    "frame_rate": "the model knows frames, not seconds. Pass the rate where the video is saved.",
    "seed": "pass `generator=torch.Generator().manual_seed(seed)`.",
    "image": "pass it as the first frame: `video=[image]`, or use the image-to-video pipeline (`from_pipe`).",
}


def describe_arguments(method: Callable, texts: dict[str, str] = ARGUMENTS) -> Callable:
    """Decorator: `{prompt}`, `{sampling}`, ... on lines of their own in a docstring become the texts of that name."""
    method.__doc__ = fill_in(method.__doc__, texts)
    return method


def fill_in(docstring: str, texts: dict[str, str]) -> str:
    """See [`describe_arguments`]. A text is indented like its line: Python 3.13 takes away what all lines of a docstring have."""

    def text_of(match: re.Match) -> str:
        return textwrap.indent(textwrap.dedent(texts[match["name"]]).strip("\n"), match["indent"])

    return re.sub(r"^(?P<indent> *)\{(?P<name>\w+)\}$", text_of, docstring, flags=re.MULTILINE)


def refuse_foreign_arguments(method: Callable, reasons: dict[str, str] = FOREIGN_ARGUMENTS) -> Callable:
    """Decorator: an argument that a method does not have and `reasons` knows is a `ValueError` that says why."""
    own = inspect.signature(method).parameters

    @functools.wraps(method)
    def wrapper(self, *args, **kwargs):
        for name in kwargs:
            if name in reasons and name not in own:
                raise ValueError(f"`{name}` is no argument of {type(self).__name__}: {reasons[name]}")
        return method(self, *args, **kwargs)

    return wrapper


@dataclass(frozen=True)
class TextArguments:
    """What a user says of the text, see [`VideoARPipeline.__call__`]."""

    prompt: str | list[str] | None = None
    negative_prompt: str | list[str] | None = None
    prompt_embeds: torch.Tensor | None = None
    negative_prompt_embeds: torch.Tensor | None = None
    prompt_attention_mask: torch.Tensor | None = None
    negative_prompt_attention_mask: torch.Tensor | None = None

    @property
    def num_prompts(self) -> int:
        if self.prompt is None:
            return len(self.prompt_embeds)
        return 1 if isinstance(self.prompt, str) else len(self.prompt)

    def text(self) -> dict[str, Any]:
        """The text's arguments by name."""
        return {name: getattr(self, name) for name in TextArguments.__dataclass_fields__}

    def repeated(self, num_videos: int) -> Self:
        """The same with one text, where there is no more than one, for every given video."""
        is_one_prompt = isinstance(self.prompt, str) or (isinstance(self.prompt, list) and len(self.prompt) == 1)
        if not (is_one_prompt or _is_of_one(self.prompt_embeds)):
            return self
        changes = {}
        if is_one_prompt:
            changes["prompt"] = num_videos * ([self.prompt] if isinstance(self.prompt, str) else self.prompt)
        if isinstance(self.negative_prompt, list) and len(self.negative_prompt) == 1:
            changes["negative_prompt"] = num_videos * self.negative_prompt
        for name in ("prompt", "negative_prompt"):
            states = {key: getattr(self, key) for key in (f"{name}_embeds", f"{name}_attention_mask")}
            states = {key: value for key, value in states.items() if value is not None}
            if all(map(_is_of_one, states.values())):
                changes |= {key: value.expand(num_videos, *value.shape[1:]) for key, value in states.items()}
        return replace(self, **changes)


def _is_of_one(states: Any) -> bool:
    return isinstance(states, torch.Tensor) and states.ndim > 0 and len(states) == 1


@dataclass(frozen=True)
class CallArguments(TextArguments):
    """
    All arguments of a call, see [`VideoARPipeline.__call__`]. `given_frames` are the pixel frames `(3, F, H, W)` in [-1, 1] of an image
    or video, and `given_name` is the argument they came in.
    """

    height: int | None = None
    width: int | None = None
    num_frames: int | None = None
    guidance_scale: float | None = None
    num_videos_per_prompt: int = 1
    generator: torch.Generator | list[torch.Generator] | None = None
    latents: torch.Tensor | None = None
    temperature: float | list[float] | None = None
    top_p: float | None = None
    refinements: list[int] | None = None
    window: int | None = None
    sink_size: int = 0
    reencode_at: int | None = None
    context_frames: int | None = None
    frame_conditions: dict[str, torch.Tensor] | None = None
    output_type: str = "np"
    attention_kwargs: dict[str, Any] | None = None
    callback_on_step_end: Callable | PipelineCallback | MultiPipelineCallbacks | None = None
    callback_on_step_end_tensor_inputs: list[str] = field(default_factory=lambda: ["latents"])
    max_sequence_length: int | None = None
    given_frames: list[torch.Tensor] | None = None
    given_name: str = "video"

    @property
    def num_given_frames(self) -> int:
        return 0 if self.given_frames is None else self.given_frames[0].shape[1]

    @property
    def num_videos(self) -> int:
        return self.num_prompts * self.num_videos_per_prompt


# 1. Single values


def check_integer(name: str, value: Any, least: int | None = None, most: int | None = None) -> None:
    """
    Raises:
        `ValueError`: `value` is no integer, or out of range.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        hint = ""
        if isinstance(value, float) and value.is_integer():
            hint = f" Pass {int(value)}."
        elif isinstance(value, str) and value.strip().isdigit():
            hint = f" Pass {int(value)}, without quotes."
        raise ValueError(f"`{name}` has to be an integer, got {value!r}.{hint}")
    if (least is not None and value < least) or (most is not None and value > most):
        bounds = f"at least {least}" if most is None else f"at most {most}"
        if least is not None and most is not None:
            bounds = f"between {least} and {most}"
        raise ValueError(f"`{name}` has to be {bounds}, got {value}.")


def check_multiple(name: str, value: Any, multiple: int) -> None:
    """
    Raises:
        `ValueError`: `value` is no positive multiple of `multiple`.
    """
    check_integer(name, value)
    if value < multiple or value % multiple != 0:
        below = max(multiple, value // multiple * multiple)
        raise ValueError(
            f"`{name}` has to be a multiple of {multiple}, got {value}. The nearest that work are {below} and "
            f"{below + multiple}."
        )


def check_num_frames(name: str, num_frames: Any, ratio: int) -> None:
    """
    Raises:
        `ValueError`: `num_frames` is not `ratio * n + 1`.
    """
    check_integer(name, num_frames)
    if num_frames < 1 or (num_frames - 1) % ratio != 0:
        below = max(0, (num_frames - 1) // ratio) * ratio + 1
        raise ValueError(
            f"`{name}` has to be {ratio} * n + 1, got {num_frames}. The nearest that work are {below} and {below + ratio}."
        )


def num_latent_frames(num_frames: int, ratio: int) -> int:
    """Latent frames of `ratio * n + 1` pixel frames; 0 of none."""
    return math.ceil(num_frames / ratio)


def check_attention_kwargs(attention_kwargs: Any) -> None:
    """
    Raises:
        `ValueError`: `attention_kwargs` is anything but `{"scale": s}`, which is all that the transformer reads.
    """
    if attention_kwargs is None:
        return
    if not isinstance(attention_kwargs, dict):
        raise ValueError(f"`attention_kwargs` has to be a dictionary, got {attention_kwargs!r}.")
    unknown = [key for key in attention_kwargs if key != "scale"]
    if unknown:
        raise ValueError(f"`attention_kwargs` may only have 'scale', the strength of LoRA layers, got {unknown}.")
    scale = attention_kwargs.get("scale", 1.0)
    if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not abs(scale) <= sys.float_info.max:
        raise ValueError(f"`attention_kwargs['scale']` has to be a finite number, got {scale!r}.")


def check_output_type(output_type: Any) -> None:
    """
    Raises:
        `ValueError`: `output_type` is none that there is.
    """
    if not isinstance(output_type, str) or output_type not in OUTPUT_TYPES:
        raise ValueError(f"`output_type` has to be 'np', 'pt', 'pil' or 'latent', got {output_type!r}.")


def check_callback(callback: Any, tensor_inputs: Any, known: Sequence[str] = CALLBACK_TENSORS) -> None:
    """
    Raises:
        `ValueError`: The callback cannot be called, or asks for tensors that there are not.
    """
    if callback is not None and not callable(callback):
        raise ValueError(f"`callback_on_step_end` has to be a function or a `PipelineCallback`, got {callback!r}.")
    if not isinstance(tensor_inputs, (list, tuple)):
        raise ValueError(f"`callback_on_step_end_tensor_inputs` has to be a list of names, got {tensor_inputs!r}.")
    unknown = [name for name in tensor_inputs if name not in known]
    if unknown:
        raise ValueError(f"`callback_on_step_end_tensor_inputs` has to be in {list(known)}, but found {unknown}.")


def check_callback_outputs(outputs: Any, tensors: dict[str, torch.Tensor | None]) -> None:
    """
    What a callback returned, where `tensors` are what it may replace.

    Raises:
        `ValueError`: It is no dictionary, or holds a tensor of another kind or shape.
    """
    if not isinstance(outputs, dict):
        raise ValueError(
            f"`callback_on_step_end` has to return a dictionary of the tensors that it replaces, `{{}}` for none, got {outputs!r}."
        )
    for name, tensor in tensors.items():
        new = outputs.get(name, tensor)
        if new is tensor:
            continue
        if tensor is None or not _is_float_tensor(new) or new.shape != tensor.shape:
            expected = (
                "nothing: guidance is off" if tensor is None else f"a float tensor of shape {tuple(tensor.shape)}"
            )
            raise ValueError(f"`callback_on_step_end` has to return as `{name}` {expected}, got {describe(new)}.")
        if not torch.isfinite(new).all():
            raise ValueError(f"`callback_on_step_end` returned `{name}` with values that are not finite.")


# 2. Groups of arguments


def check_lengths(arguments: CallArguments, ratio: int) -> None:
    """
    Lengths of the video, of what is given, of window and sink, and of re-encoding, where `ratio` pixel frames are a latent one.

    Raises:
        `ValueError`: They do not fit together.
    """
    num_frames, num_given_frames = arguments.num_frames, arguments.num_given_frames
    window, reencode_at, context_frames = arguments.window, arguments.reencode_at, arguments.context_frames
    if num_frames is not None:
        check_num_frames("num_frames", num_frames, ratio)
        if num_frames <= num_given_frames:
            raise ValueError(
                f"`num_frames` counts the {num_given_frames} given frames and has to be more than these, got {num_frames}. "
                f"The smallest that works is {num_given_frames + ratio}."
            )
    if window is not None:
        check_integer("window", window, most=LONGEST)
        if window < 1:
            raise ValueError(f"`window` has to be at least 1 latent frame, or `None` for all, got {window}.")
    check_integer("sink_size", arguments.sink_size, 0, LONGEST)
    if window is None and arguments.sink_size > 0:
        raise ValueError(
            f"`sink_size` is {arguments.sink_size}, but without `window` every frame sees all earlier ones. Pass `window` as well, or "
            "`sink_size=0`."
        )
    if reencode_at is None and context_frames is not None:
        raise ValueError(
            f"`context_frames` is {context_frames}, but without `reencode_at` nothing is re-encoded. Pass both, or none."
        )
    contexts = {f"`{arguments.given_name}`": num_given_frames}
    if reencode_at is not None:
        check_integer("reencode_at", reencode_at, most=LONGEST)
        if reencode_at < 2:
            raise ValueError(
                f"`reencode_at` has to be at least 2 latent frames (one of context and a new one), got {reencode_at}."
            )
        check_num_frames("context_frames", context_frames, ratio)
        contexts["`context_frames`"] = context_frames
    # The first frame after a context sees all of it.
    limits = []
    if window is not None:
        sink = f" and `sink_size` = {arguments.sink_size}" if arguments.sink_size > 0 else ""
        limits.append(("window", f"`window` = {window}{sink}", window, window + arguments.sink_size))
    if reencode_at is not None:
        limits.append(("reencode_at", f"`reencode_at` = {reencode_at}", reencode_at, reencode_at - 1))
    for name, num_pixel_frames in contexts.items():
        num_latents = num_latent_frames(num_pixel_frames, ratio)
        for limit_name, limit, value, most in limits:
            if num_latents > most:
                raise ValueError(
                    f"{name} has {num_pixel_frames} pixel frames, {num_latents} latent ones: too long for {limit}, which has room "
                    f"for {most}. Pass at most {(most - 1) * ratio + 1} pixel frames, or a `{limit_name}` of at least "
                    f"{value + num_latents - most}."
                )


def check_text(
    arguments: TextArguments, has_text_encoder: bool, width: int | None = None, longest: int | None = None
) -> None:
    """
    Prompts and text states, for a transformer that reads states of `width` and at most `longest` tokens; any where these are
    `None`.

    Raises:
        `ValueError`: Some are missing, too many, or of another kind, number or shape.
    """
    prompt, negative_prompt = arguments.prompt, arguments.negative_prompt
    if (prompt is None) == (arguments.prompt_embeds is None):
        raise ValueError("Provide exactly one of `prompt` and `prompt_embeds`.")
    for name, texts in (("prompt", prompt), ("negative_prompt", negative_prompt)):
        _check_texts(name, texts)
    if not has_text_encoder and (prompt is not None or negative_prompt is not None):
        raise ValueError(
            "`prompt` and `negative_prompt` need a text encoder, and this pipeline has none: pass `prompt_embeds` and "
            "`negative_prompt_embeds`."
        )
    if negative_prompt is not None and arguments.negative_prompt_embeds is not None:
        raise ValueError("Provide at most one of `negative_prompt` and `negative_prompt_embeds`.")
    for name in ("prompt", "negative_prompt"):
        embeds, mask = getattr(arguments, f"{name}_embeds"), getattr(arguments, f"{name}_attention_mask")
        if embeds is not None:
            _check_states(f"{name}_embeds", embeds, width, longest)
        elif mask is not None:
            raise ValueError(
                f"`{name}_attention_mask` belongs to `{name}_embeds`, which were not passed; the mask of `{name}` is made with it. "
                "Drop the mask."
            )
        if mask is not None:
            _check_mask(f"{name}_attention_mask", mask, f"{name}_embeds", tuple(embeds.shape[:2]))
    num_prompts = arguments.num_prompts
    if isinstance(negative_prompt, list) and len(negative_prompt) != num_prompts:
        raise ValueError(
            f"`negative_prompt` has {len(negative_prompt)} entries for {num_prompts} prompts. Pass one string, or a list of "
            f"{num_prompts}."
        )
    if arguments.negative_prompt_embeds is not None and len(arguments.negative_prompt_embeds) != num_prompts:
        raise ValueError(
            f"`negative_prompt_embeds` has {len(arguments.negative_prompt_embeds)} entries for {num_prompts} prompts. Pass "
            f"{num_prompts}."
        )


def check_padding(padding: Any, max_sequence_length: int, states: dict[str, torch.Tensor | None]) -> None:
    """
    The arguments of `encode_prompt` that decide how long text states are, and the states it was given, by name.

    Raises:
        `ValueError`: `padding` is unknown, or states are longer than what they are to be padded to.
    """
    if padding not in ("longest", "max_length"):
        raise ValueError(f"`padding` has to be 'longest' or 'max_length', got {padding!r}.")
    for name, embeds in states.items():
        if padding == "max_length" and embeds is not None and embeds.shape[1] > max_sequence_length:
            raise ValueError(
                f"`{name}` has {embeds.shape[1]} tokens and cannot be padded to `max_sequence_length` = {max_sequence_length}. "
                f"Pass at least {embeds.shape[1]}, or `padding='longest'`."
            )


def _check_texts(name: str, texts: Any) -> None:
    if texts is None or isinstance(texts, str):
        return
    if not isinstance(texts, list):
        raise ValueError(f"`{name}` has to be of type `str` or `list[str]`, got {type(texts)}.")
    if not texts:
        raise ValueError(f"`{name}` is an empty list. Pass at least one prompt.")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"`{name}` has to be of type `str` or `list[str]`, but `{name}[{index}]` is {text!r}.")


def _is_float_tensor(value: Any) -> bool:
    """Whether `value` is a tensor of floats that can be looked at."""
    return (
        isinstance(value, torch.Tensor)
        and value.is_floating_point()
        and value.layout == torch.strided
        and value.device.type != "meta"
    )


def describe(value: Any) -> str:
    """A tensor's kind and shape, for an error."""
    if not isinstance(value, torch.Tensor):
        return str(type(value))
    kind = str(value.dtype) if value.layout == torch.strided else f"{value.dtype}, {value.layout}"
    return f"{kind} of shape {tuple(value.shape)} on {str(value.device)!r}"


def _check_states(name: str, embeds: Any, width: int | None, longest: int | None) -> None:
    expected = f"(batch, tokens, {width or 'width'})"
    if not _is_float_tensor(embeds) or embeds.ndim != 3:
        raise ValueError(f"`{name}` has to be a float tensor {expected}, got {describe(embeds)}.")
    if embeds.shape[2] != (width or embeds.shape[2]) or 0 in embeds.shape:
        raise ValueError(f"`{name}` has to be {expected}, got {tuple(embeds.shape)}.")
    if longest is not None and embeds.shape[1] > longest:
        raise ValueError(
            f"`{name}` has {embeds.shape[1]} tokens, the longest text of this model is {longest} tokens: lower "
            "`max_sequence_length` where they are made."
        )
    if not torch.isfinite(embeds).all():
        raise ValueError(f"`{name}` holds values that are not finite.")


def _check_mask(name: str, mask: Any, embeds_name: str, shape: tuple[int, int]) -> None:
    if not isinstance(mask, torch.Tensor) or mask.layout != torch.strided or tuple(mask.shape) != shape:
        raise ValueError(f"`{name}` has to be a tensor of the shape {shape} of `{embeds_name}`, got {describe(mask)}.")
    if mask.device.type == "meta" or not ((mask == 0) | (mask == 1)).all():
        raise ValueError(f"`{name}` has to hold 1 (or `True`) at text and 0 at padding, got {mask}.")
    mask = mask.bool()
    if not mask[:, 0].all() or (mask[:, 1:] & ~mask[:, :-1]).any():
        raise ValueError(
            f"`{name}` has to hold the text first, one token at least, and the padding after it, got {mask.int().tolist()}."
        )


def check_generator(generator: Any, num_videos: int, num_processes: int = 1) -> None:
    """
    Args:
        generator (`torch.Generator` or `list[torch.Generator]`, *optional*): To be checked.
        num_videos (`int`): Videos of the call.
        num_processes (`int`, defaults to 1): Processes that have to draw the same, since they share a model.

    Raises:
        `ValueError`: `generator` is neither a generator nor a list of one for each video, or missing where several processes draw.
    """
    if generator is None and num_processes > 1:
        raise ValueError(
            f"`generator` is `None`, but {num_processes} processes share the transformer and have to draw the same bits: pass "
            "`torch.Generator().manual_seed(seed)` with one seed on all of them."
        )
    if isinstance(generator, list) and len(generator) != num_videos:
        raise ValueError(
            f"`generator` is a list of {len(generator)}, but {num_videos} videos are asked for. Pass one generator, or a "
            f"list of {num_videos}."
        )
    generators = generator if isinstance(generator, list) else [generator]
    if generator is not None and not all(isinstance(item, torch.Generator) for item in generators):
        raise ValueError(
            f"`generator` has to be a `torch.Generator` or a list of them, got {generator!r}. For a seed, pass "
            "`torch.Generator().manual_seed(seed)`."
        )


def check_noise(noise: Any, shape: tuple[int, ...]) -> None:
    """
    Raises:
        `ValueError`: `noise`, the argument `latents`, is not uniform noise of the shape.
    """
    if not isinstance(noise, torch.Tensor) or tuple(noise.shape) != shape:
        got = tuple(noise.shape) if isinstance(noise, torch.Tensor) else type(noise)
        raise ValueError(f"`latents` has to have the shape {shape}, got {got}.")
    if not _is_float_tensor(noise):
        raise ValueError(f"`latents` has to hold floats, as from `torch.rand`, got {describe(noise)}.")
    lowest, highest = noise.min().item(), noise.max().item()
    if not (lowest >= 0 and highest <= 1):  # written so that NaN is refused as well
        raise ValueError(
            f"`latents` has to be uniform noise in [0, 1], as from `torch.rand`, got values from {lowest:.3g} to {highest:.3g}."
        )


def check_frame_conditions(
    conditions: Any, known: dict[str, dict], batch_size: int, num_frames: int | None, is_single: bool = False
) -> None:
    """
    Conditions of latent frames against the transformer's configuration `known`.

    Args:
        conditions (`dict[str, torch.Tensor]`): By name, `(B, T, c)`; with `is_single` `(B, c)`.
        known (`dict[str, dict]`): `frame_conditions` of the configuration.
        batch_size (`int`): `B`.
        num_frames (`int`, *optional*): `T`; any when `None`.
        is_single (`bool`, defaults to `False`): Whether they are of one frame.

    Raises:
        `ValueError`: A name is unknown, a tensor has another shape, or a label is out of range.
    """
    if conditions is None:
        return
    if not isinstance(conditions, dict):
        raise ValueError(f"`frame_conditions` has to be a dictionary of tensors, got {type(conditions)}.")
    for name, condition in conditions.items():
        if name not in known:
            raise ValueError(
                f"`frame_conditions` has {name!r}, but the transformer knows {sorted(known) or 'no conditions'}. Leave it out."
            )
        channels, num_labels = known[name].get("vector_size", 1), known[name].get("num_labels")
        frames = () if is_single else (num_frames or "T",)
        shape = tuple(condition.shape) if isinstance(condition, torch.Tensor) else ()
        expected = (batch_size, *frames, channels)
        if len(shape) != len(expected) or any(b != a != "T" for a, b in zip(expected, shape)) or 0 in shape:
            got = shape or type(condition)
            raise ValueError(f"`frame_conditions[{name!r}]` has to have the shape {expected}, got {got}.")
        if num_labels is not None and not (condition.min() >= 0 and condition.max() < num_labels):
            raise ValueError(
                f"`frame_conditions[{name!r}]` has to hold labels from 0 to {num_labels - 1}, got {condition.min().item()} to "
                f"{condition.max().item()}."
            )
        if not torch.isfinite(condition.float()).all():
            raise ValueError(f"`frame_conditions[{name!r}]` holds values that are not finite.")
