# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
[`VideoARPipeline`] as diffusers' modular blocks: text, stream, a loop over chunks of latent frames, output. Every block hands over to the
pipeline and its [`VideoARStream`]; nothing of the method is written here a second time.

```python
pipe = ModularPipeline.from_pretrained("checkpoints/videoar-moving-shapes", trust_remote_code=True)
pipe.load_components()
video = pipe(prompt="a red circle moves to the right on a white background", output="videos")[0]
```
"""

import dataclasses
import re
from typing import Any

import torch
from diffusers.modular_pipelines import (
    BlockState,
    ComponentSpec,
    InputParam,
    LoopSequentialPipelineBlocks,
    ModularPipeline,
    ModularPipelineBlocks,
    OutputParam,
    PipelineState,
    SequentialPipelineBlocks,
)
from transformers import T5EncoderModel, T5TokenizerFast

from ..hub.loaders import requirements
from ..models.autoencoder_videoar import AutoencoderVideoAR
from ..models.transformer_videoar import VideoARTransformer3DModel
from ..schedulers.scheduling_videoar import VideoARScheduler
from .call_arguments import ARGUMENTS, CallArguments, check_integer
from .frame_sampler import DECODED_TOGETHER
from .pipeline_videoar import VideoARPipeline
from .pipeline_videoar_image2video import as_videos


COMPONENTS = {
    "tokenizer": T5TokenizerFast,
    "text_encoder": T5EncoderModel,
    "vae": AutoencoderVideoAR,
    "transformer": VideoARTransformer3DModel,
    "scheduler": VideoARScheduler,
}
TEXT_STATES = ("prompt_embeds", "negative_prompt_embeds", "prompt_attention_mask", "negative_prompt_attention_mask")
# Arguments of a call that the stream is opened with, besides the text and the given frames. Blocks take the place of callbacks.
STREAM_ARGUMENTS = tuple(
    field.name
    for field in dataclasses.fields(CallArguments)
    if not re.match("prompt|negative|given|callback|max_sequence", field.name)
)
DESCRIPTIONS = {
    "image": "The first frame, see `VideoARImageToVideoPipeline`.",
    "video": "The beginning, see `VideoARVideoToVideoPipeline`.",
    "frames_per_chunk": "Latent frames that are sampled and then decoded together.",
    "stream": "The video in the making, a `VideoARStream`.",
    "latent_frames": "The latent frames of a chunk, each `(B, d, H', W')`.",
    "video_chunks": "What has been decoded, each `(B, 3, F, H, W)` in [-1, 1].",
    "num_frames": "Pixel frames, `4 * n + 1`, given ones included.",
}


def describe(name: str) -> str:
    """What a call says of one of its arguments."""
    if name in DESCRIPTIONS:
        return DESCRIPTIONS[name]
    text = re.search(
        rf"^ +{name} \(.*?\):(.*?)(?=^ {{12}}\w|\Z)", "\n".join(ARGUMENTS.values()), re.DOTALL | re.MULTILINE
    )
    return " ".join(text[1].split())


def input_of(name: str, **options: Any) -> InputParam:
    """An argument of a call as the input of a block, with the call's default."""
    field = CallArguments.__dataclass_fields__.get(name)
    known = {} if field is None else {"type_hint": field.type, "default": field.default}
    return InputParam(name, description=describe(name), **(known | options))


def specs_of(*names: str) -> list[ComponentSpec]:
    return [ComponentSpec(name, COMPONENTS[name]) for name in names]


def pipeline_of(components: ModularPipeline, *needed: str) -> VideoARPipeline:
    """
    A pipeline that shares the components.

    Raises:
        `ValueError`: One that is needed is not loaded.
    """
    parts = {name: getattr(components, name, None) for name in COMPONENTS}
    missing = [name for name in needed if parts[name] is None]
    if missing:
        raise ValueError(f"The components {missing} are not loaded: call `load_components()` before the pipeline.")
    return VideoARPipeline(**parts)


class VideoARTextEncoderStep(ModularPipelineBlocks):
    """Prompts to text states. To pass these instead of prompts, take the block out."""

    model_name = "videoar"

    @property
    def description(self) -> str:
        return "Encodes the prompts, and the negative prompts if there are any."

    @property
    def expected_components(self) -> list[ComponentSpec]:
        return specs_of("tokenizer", "text_encoder")

    @property
    def inputs(self) -> list[InputParam]:
        return [input_of("prompt", required=True), input_of("negative_prompt"), input_of("max_sequence_length")]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        return [OutputParam(name, torch.Tensor, describe(name)) for name in TEXT_STATES]

    def __call__(self, components: ModularPipeline, state: PipelineState) -> tuple[ModularPipeline, PipelineState]:
        block_state = self.get_block_state(state)
        pipeline = pipeline_of(components, "tokenizer", "text_encoder")
        embeds, negative_embeds, mask, negative_mask = pipeline.encode_prompt(
            block_state.prompt,
            block_state.negative_prompt,
            # Without a negative prompt the stream takes the transformer's null text.
            do_classifier_free_guidance=block_state.negative_prompt is not None,
            max_sequence_length=block_state.max_sequence_length,
        )
        for name, value in zip(TEXT_STATES, (embeds, negative_embeds, mask, negative_mask)):
            block_state[name] = value
        self.set_block_state(state, block_state)
        return components, state


class VideoAROpenStreamStep(ModularPipelineBlocks):
    """Checks the arguments of a call, and opens the stream with the text and the given frames in its cache."""

    model_name = "videoar"

    @property
    def description(self) -> str:
        return (
            "Opens the stream of a video: its cache holds the text and, if an image or a video is given, these frames."
        )

    @property
    def expected_components(self) -> list[ComponentSpec]:
        return specs_of("vae", "transformer", "scheduler")

    @property
    def inputs(self) -> list[InputParam]:
        text = [input_of(name, required=name == "prompt_embeds") for name in TEXT_STATES]
        return [*text, *(input_of(name) for name in (*STREAM_ARGUMENTS, "image", "video"))]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        return [OutputParam("stream", description=describe("stream"))]

    def __call__(self, components: ModularPipeline, state: PipelineState) -> tuple[ModularPipeline, PipelineState]:
        block_state = self.get_block_state(state)
        pipeline = pipeline_of(components, "transformer", "scheduler")
        image, video = block_state.image, block_state.video
        if image is not None and video is not None:
            raise ValueError("`image` and `video` were both passed, and both are the beginning. Pass one.")
        name = "video" if image is None else "image"
        given = video if image is None else as_videos(image)
        given_frames = None if given is None else pipeline._load_videos(given, name)
        arguments = {name: block_state[name] for name in (*TEXT_STATES, *STREAM_ARGUMENTS)}
        block_state.stream = pipeline._open_call(given_frames, name, **arguments)
        self.set_block_state(state, block_state)
        return components, state


class VideoARSampleStep(ModularPipelineBlocks):
    """Samples the latent frames of a chunk."""

    model_name = "videoar"

    @property
    def description(self) -> str:
        return "Samples the next latent frames, scale by scale."

    @property
    def inputs(self) -> list[InputParam]:
        return [
            InputParam("stream", required=True, description=describe("stream")),
            input_of("frames_per_chunk", type_hint=int, default=DECODED_TOGETHER),
        ]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        return [OutputParam("latent_frames", list[torch.Tensor], describe("latent_frames"))]

    def __call__(self, components: ModularPipeline, block_state: BlockState) -> tuple[ModularPipeline, BlockState]:
        check_integer("frames_per_chunk", block_state.frames_per_chunk, least=1)
        block_state.latent_frames = block_state.stream.sample_frames(
            block_state.frames_per_chunk, block_state.progress_bar.update
        )
        return components, block_state


class VideoARDecodeStep(ModularPipelineBlocks):
    """Decodes the latent frames of a chunk; the decoder's state goes on from chunk to chunk."""

    model_name = "videoar"

    @property
    def description(self) -> str:
        return "Decodes the latent frames of the chunk; latents stay what they are where `output_type` is 'latent'."

    @property
    def inputs(self) -> list[InputParam]:
        return [
            InputParam("stream", required=True, description=describe("stream")),
            InputParam("latent_frames", required=True, description=describe("latent_frames")),
        ]

    def __call__(self, components: ModularPipeline, block_state: BlockState) -> tuple[ModularPipeline, BlockState]:
        if block_state.latent_frames:
            block_state.video_chunks.append(block_state.stream.decode_frames(block_state.latent_frames))
        return components, block_state


class VideoARChunkLoop(LoopSequentialPipelineBlocks):
    """The loop over chunks of latent frames. Blocks put between its two see or change `latent_frames` before they are decoded."""

    model_name = "videoar"
    block_classes = [VideoARSampleStep, VideoARDecodeStep]
    block_names = ["sample", "decode"]

    @property
    def description(self) -> str:
        return "Until the video ends: samples a chunk of latent frames, then decodes it."

    @property
    def loop_intermediate_outputs(self) -> list[OutputParam]:
        return [OutputParam("video_chunks", list[torch.Tensor], describe("video_chunks"))]

    def __call__(self, components: ModularPipeline, state: PipelineState) -> tuple[ModularPipeline, PipelineState]:
        block_state = self.get_block_state(state)
        block_state.video_chunks = []
        with block_state.stream as stream, self.progress_bar(total=stream.num_timesteps) as progress_bar:
            block_state.progress_bar = progress_bar
            while not stream.has_ended:
                components, block_state = self.loop_step(components, block_state)
        self.set_block_state(state, block_state)
        return components, state


class VideoAROutputStep(ModularPipelineBlocks):
    """The chunks as one video, in the layout that was asked for."""

    model_name = "videoar"

    @property
    def description(self) -> str:
        return "Puts the chunks together, as `output_type` says."

    @property
    def inputs(self) -> list[InputParam]:
        return [
            InputParam("stream", required=True, description=describe("stream")),
            InputParam("video_chunks", required=True, description=describe("video_chunks")),
        ]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        return [OutputParam.template("videos")]

    def __call__(self, components: ModularPipeline, state: PipelineState) -> tuple[ModularPipeline, PipelineState]:
        block_state = self.get_block_state(state)
        block_state.videos = block_state.stream.postprocess(torch.cat(block_state.video_chunks, dim=2))
        # The state is copied when it is passed to the next call: it should hold no models.
        block_state.stream = block_state.video_chunks = None
        self.set_block_state(state, block_state)
        return components, state


class VideoARBlocks(SequentialPipelineBlocks):
    """Text, an image or a video to video. The inputs are the arguments of `VideoARPipeline.__call__`."""

    model_name = "videoar"
    block_classes = [VideoARTextEncoderStep, VideoAROpenStreamStep, VideoARChunkLoop, VideoAROutputStep]
    block_names = ["text_encoder", "open_stream", "sample_and_decode", "output"]
    _requirements = requirements()

    @property
    def description(self) -> str:
        return "Text to video by next-frame and next-scale prediction (VideoAR), from a first image or video if one is given."

    @property
    def outputs(self) -> list[OutputParam]:
        return [OutputParam.template("videos")]
