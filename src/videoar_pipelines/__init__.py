# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
VideoAR: text-to-video by next-frame and next-scale prediction, as a diffusers-style library.

Importing the package registers it with diffusers; the classes themselves are imported when they are first asked for.
"""

import importlib

from diffusers import ModelMixin, SchedulerMixin
from diffusers.pipelines.pipeline_loading_utils import LOADABLE_CLASSES

from .auto_pipelines import register_auto_pipelines


__version__ = "0.1.0"

# Where each public class lives.
_PUBLIC_CLASSES = {
    "AutoencoderVideoAR": "models.autoencoder_videoar",
    "VideoARTransformer3DModel": "models.transformer_videoar",
    "VideoARScheduler": "schedulers.scheduling_videoar",
    "VideoARPipeline": "pipelines.pipeline_videoar",
    "VideoARTextToImagePipeline": "pipelines.pipeline_videoar_text2image",
    "VideoARImageToVideoPipeline": "pipelines.pipeline_videoar_image2video",
    "VideoARVideoToVideoPipeline": "pipelines.pipeline_videoar_video2video",
    "VideoARStream": "pipelines.video_stream",
    "FrameSampler": "pipelines.frame_sampler",
    "PromptStates": "pipelines.frame_sampler",
    "SamplingOptions": "schedulers.scheduling_videoar",
    "SamplingStep": "schedulers.scheduling_videoar",
    "VideoARPipelineOutput": "pipelines.pipeline_output",
    "AutoencoderInfinityStar": "models.autoencoder_infinitystar",
    "InfinityStarTransformer3DModel": "models.transformer_infinitystar",
    "InfinityStarScheduler": "schedulers.scheduling_infinitystar",
    "InfinityStarPipeline": "pipelines.infinitystar.pipeline_infinitystar",
    "InfinityStarStream": "pipelines.infinitystar.clip_stream",
}

__all__ = ["ModelMixin", "SchedulerMixin", *_PUBLIC_CLASSES]

# diffusers downloads and loads only components of libraries in this table. With this entry `model_index.json` says
# `["videoar_pipelines", "VideoARScheduler"]`, whatever file a class is in, and loads from the Hub as from a folder. The
# base classes named here, and every class named in a `model_index.json`, must be attributes of this module.
LOADABLE_CLASSES["videoar_pipelines"] = {
    "ModelMixin": ["save_pretrained", "from_pretrained"],
    "SchedulerMixin": ["save_pretrained", "from_pretrained"],
}


def __getattr__(name):
    if name not in _PUBLIC_CLASSES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    public_class = getattr(importlib.import_module(f".{_PUBLIC_CLASSES[name]}", __name__), name)
    globals()[name] = public_class
    return public_class


def __dir__():
    return sorted({*globals(), *__all__})


register_auto_pipelines()
