# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
VideoAR: text-to-video by next-frame and next-scale prediction, as a diffusers-style library.

Importing the package registers it with diffusers; the classes themselves are imported when they are first asked for.
"""

import importlib

import diffusers
from diffusers import ModelMixin, SchedulerMixin
from diffusers.pipelines.pipeline_loading_utils import LOADABLE_CLASSES

from .auto_pipelines import register_auto_pipelines


__version__ = "0.1.0"

# Where each class lives that a saved pipeline may name.
_SAVED_CLASSES = {
    "AutoencoderVideoAR": "models.autoencoder_videoar",
    "VideoARTransformer3DModel": "models.transformer_videoar",
    "VideoARScheduler": "schedulers.scheduling_videoar",
    "VideoARPipeline": "pipelines.pipeline_videoar",
    "VideoARTextToImagePipeline": "pipelines.pipeline_videoar_text2image",
    "VideoARImageToVideoPipeline": "pipelines.pipeline_videoar_image2video",
    "VideoARVideoToVideoPipeline": "pipelines.pipeline_videoar_video2video",
    "AutoencoderInfinityStar": "models.autoencoder_infinitystar",
    "InfinityStarTransformer3DModel": "models.transformer_infinitystar",
    "InfinityStarScheduler": "schedulers.scheduling_infinitystar",
    "InfinityStarPipeline": "pipelines.infinitystar.pipeline_infinitystar",
}

# Where each public class lives.
_PUBLIC_CLASSES = _SAVED_CLASSES | {
    "VideoARBlocks": "pipelines.modular_blocks",
    "VideoARStream": "pipelines.video_stream",
    "FrameSampler": "pipelines.frame_sampler",
    "PromptStates": "pipelines.frame_sampler",
    "SamplingOptions": "schedulers.scheduling_videoar",
    "SamplingStep": "schedulers.scheduling_videoar",
    "VideoARPipelineOutput": "pipelines.pipeline_output",
    "InfinityStarStream": "pipelines.infinitystar.clip_stream",
}

__all__ = ["ModelMixin", "SchedulerMixin", *_PUBLIC_CLASSES]

# diffusers saves and loads only components of libraries in this table. The base classes named here have to be attributes of this module,
# and so has every class that a saved pipeline names.
LOADABLE_CLASSES["videoar_pipelines"] = {
    "ModelMixin": ["save_pretrained", "from_pretrained"],
    "SchedulerMixin": ["save_pretrained", "from_pretrained"],
}


def _add_classes_to_diffusers():
    """
    `DiffusionPipeline.from_pretrained` looks the classes of a saved pipeline up in `diffusers` itself. For names that it does not have,
    it is given a `__getattr__` (PEP 562) that finds ours, so that they are imported only when they are asked for.
    """
    getattr_before = vars(diffusers).get("__getattr__")

    def find_class(name):
        if name in _SAVED_CLASSES:
            return __getattr__(name)
        if getattr_before is not None:
            return getattr_before(name)
        raise AttributeError(f"module {diffusers.__name__!r} has no attribute {name!r}")

    diffusers.__getattr__ = find_class


def __getattr__(name):
    if name not in _PUBLIC_CLASSES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    public_class = getattr(importlib.import_module(f".{_PUBLIC_CLASSES[name]}", __name__), name)
    globals()[name] = public_class
    return public_class


def __dir__():
    return sorted({*globals(), *__all__})


_add_classes_to_diffusers()
register_auto_pipelines()
