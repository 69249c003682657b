# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""One training step's forward pass of the transformer, and the videos that show how far it is."""

from pathlib import Path

import numpy as np
import torch

from ..models.quantization import MultiScaleMaps, flatten_bits, sequence_inputs
from ..models.token_layout import sequence_layout
from ..models.transformer_videoar import VideoARTransformer3DModel
from ..pipelines.pipeline_videoar import VideoARPipeline
from ..schedulers.scheduling_videoar import VideoARScheduler
from ..utils.video_io import save_video
from .attention_masks import training_attention_mask


def predict_bits(
    transformer: VideoARTransformer3DModel,
    scheduler: VideoARScheduler,
    maps: MultiScaleMaps,
    text_states: torch.Tensor,
    text_mask: torch.Tensor,
    text_drop_probability: float = 0.0,
    attention: str = "boolean",
    window: int | None = None,
    frame_mask_probability: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Predicts all bits of whole clips at once (teacher forcing).

    Args:
        transformer ([`VideoARTransformer3DModel`]): May be wrapped for distributed training.
        scheduler ([`VideoARScheduler`]): Owns the scale schedule and what the maps read.
        maps ([`MultiScaleMaps`]): Of the clips, corrupted or not.
        text_states (`torch.Tensor` of shape `(B, N, C)`): Padded text.
        text_mask (`torch.Tensor` of shape `(B, N)`): `False` at padding.
        text_drop_probability (`float`, defaults to 0.0): Share of samples that get the learned null text, for guidance.
        attention (`str`, defaults to `"boolean"`): Or `"flex"`, see `attention_masks.training_attention_mask`.
        window (`int`, *optional*): Earlier latent frames that a frame sees; all of them when `None`.
        frame_mask_probability (`float`, defaults to 0.0): `p_mask` of Random Frame Mask.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: Bit logits `(B, T * L, d)` and boolean targets of that shape.
    """
    batch_size, _, num_frames, *latent_size = maps.latents.shape
    scale_schedule = scheduler.get_scale_schedule(*latent_size)
    layout = sequence_layout(scale_schedule, num_frames, text_mask.shape[1], text_mask.device)
    text_drop_mask = torch.rand(batch_size, device=text_mask.device) < text_drop_probability
    logits = transformer(
        sequence_inputs(maps, scale_schedule, scheduler.config.previous_frame_context),
        layout.video_ids,
        text_states,
        text_mask,
        text_drop_mask,
        attention_mask=training_attention_mask(layout, text_mask, attention, window, frame_mask_probability),
        return_dict=False,
    )[0]
    return logits, flatten_bits(maps.bits)


def corruption_strength(step: int, warmup_steps: int) -> float:
    """Factor of the flip probabilities: rises linearly from 0 over `warmup_steps` steps, then stays 1."""
    return 1.0 if warmup_steps == 0 else min(1.0, step / warmup_steps)


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
    for index, video in enumerate(videos):
        save_video(video, folder / f"{index:02d}.mp4", fps=fps)
    shown = np.linspace(0, num_frames - 1, 4).round().astype(int)
    strips = np.concatenate([videos[:, frame] for frame in shown], axis=2)  # (B, H, 4 * W, 3)
    return (strips * 255).round().astype(np.uint8)
