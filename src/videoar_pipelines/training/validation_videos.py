# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Videos that show how far the training of a transformer is."""

from argparse import Namespace
from pathlib import Path

import numpy as np
import torch

from ..pipelines.call_arguments import CallArguments
from ..pipelines.pipeline_videoar import VideoARPipeline
from ..utils.video_io import save_video


def check_validation(pipeline: VideoARPipeline, args: Namespace) -> None:
    """
    Checks before the first step what [`sample_validation_videos`] will ask of the pipeline.

    Args:
        pipeline ([`VideoARPipeline`]): As it will be sampled from, trained or not.
        args (`argparse.Namespace`): With the flags of sizes and validation.

    Raises:
        `ValueError`: The pipeline would refuse it.
    """
    arguments = CallArguments(
        prompt=args.validation_prompts or ["a caption of the data"],
        height=args.height,
        width=args.width,
        num_frames=args.num_frames,
        guidance_scale=args.validation_guidance_scale,
    )
    pipeline.check_inputs(pipeline._with_defaults(arguments))


@torch.no_grad()
def sample_validation_videos(
    pipeline: VideoARPipeline,
    prompts: list[str],
    folder: Path,
    height: int,
    width: int,
    num_frames: int,
    guidance_scale: float | None,
    seed: int,
    fps: int,
) -> np.ndarray:
    """
    Generates one video for each prompt, with its own generator, and saves it to `folder` as `00.mp4`, `01.mp4`, ...

    Args:
        pipeline ([`VideoARPipeline`]): To generate with.
        prompts (`list[str]`): Texts.
        folder (`Path`): Made if there is none; the prompts are written beside the videos.
        height (`int`): Pixels.
        width (`int`): Pixels.
        num_frames (`int`): Pixel frames.
        guidance_scale (`float`, *optional*): The scheduler's by default.
        seed (`int`): Of the first video; the next has the next.
        fps (`int`): Frames per second of the files.

    Returns:
        `np.ndarray` of shape `(len(prompts), height, 4 * width, 3)`: uint8, four frames of every video side by side.
    """
    pipeline.set_progress_bar_config(disable=True)
    device = pipeline._execution_device
    generators = [torch.Generator(device).manual_seed(seed + index) for index in range(len(prompts))]
    videos = pipeline(
        prompts,
        height=height,
        width=width,
        num_frames=num_frames,
        guidance_scale=guidance_scale,
        generator=generators,
    ).frames  # (B, F, H, W, 3)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prompts.txt").write_text("".join(f"{prompt}\n" for prompt in prompts))
    for index, (video, prompt) in enumerate(zip(videos, prompts)):
        save_video(video, folder / f"{index:02d}.mp4", fps=fps, title=prompt)
    shown = np.linspace(0, num_frames - 1, 4).round().astype(int)
    strips = np.concatenate([videos[:, frame] for frame in shown], axis=2)  # (B, H, 4 * W, 3)
    return (strips * 255).round().astype(np.uint8)
