# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
FVD while a model is trained: the distance between held-out clips and what the model makes of them, clips sampled for their
captions or reconstructions. It is a curve to watch, over few clips; numbers to publish come from `examples/evaluation`.

Letters used in shapes: `B` clips of a batch, `N` clips, `F` pixel frames, `D` numbers of a feature.
"""

from argparse import Namespace
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator

from ..data.batches import BucketBatches
from ..evaluation.features import FeatureExtractor
from ..evaluation.frechet import FeatureStatistics, frechet_distance
from ..evaluation.i3d import MINIMUM_FRAMES
from ..evaluation.protocols import NetworkProtocol
from ..evaluation.weights import find_i3d_weights
from ..models.autoencoder_videoar import AutoencoderVideoAR
from ..pipelines.pipeline_videoar import VideoARPipeline
from ..schedulers.scheduling_videoar import VideoARScheduler
from ..utils.command_line import UsageError
from .loop import on_main_process
from .validation import HELD_OUT_SEED, open_held_out, to_device


class ValidationFVD:
    """
    FVD over the first `N` held-out clips. Processes share the clips; their number does not change the value.

    Args:
        source (`Iterable[dict]`): Held-out batches with `pixel_values`, all of `B` clips; the same in all processes.
        num_clips (`int`): `N`.
        extractor ([`FeatureExtractor`]): Of the features.
        rank (`int`, defaults to 0): This process.
        world_size (`int`, defaults to 1): Number of processes. All construct and call it together.
        keeps_pixels (`bool`, defaults to `False`): Whether batches keep their `pixel_values`, for reconstructions.

    Raises:
        `UsageError`: A batch has no pixels, or fewer frames than the network needs.
    """

    def __init__(
        self,
        source: Any,
        num_clips: int,
        extractor: FeatureExtractor,
        rank: int = 0,
        world_size: int = 1,
        keeps_pixels: bool = False,
    ):
        self.num_clips, self.extractor = num_clips, extractor
        self.batches, real, first = {}, {}, 0
        for number, batch in enumerate(source):
            kept = min(len(batch["captions"]), num_clips - first)
            if number % world_size == rank:
                clips = _pixels_of(batch)[:kept]
                real[first] = self._features(clips)
                self.batches[first] = _keep(batch, kept) | ({"pixel_values": clips} if keeps_pixels else {})
            first += kept
            if first == num_clips:
                break
        self.real = FeatureStatistics.of(_gather(real))

    def __call__(self, make: Callable[[dict[str, Any], int], torch.Tensor]) -> float:
        """
        Args:
            make (`Callable`):
                From a batch and the number of its first clip to clips `(B, 3, F, H, W)` in [-1, 1]. The batch has, on the CPU,
                `captions`, the `size` `(F, H, W)`, `frame_conditions`, and `pixel_values` if they are kept. It must not draw from
                the random generators of the run.
        """
        made = {first: self._features(make(batch, first)) for first, batch in self.batches.items()}
        return frechet_distance(self.real, FeatureStatistics.of(_gather(made)))

    def _features(self, clips: torch.Tensor) -> torch.Tensor:
        # Rounded to the levels of a video file, as real clips are.
        levels = ((clips.float().clamp(-1, 1) + 1) * 127.5).round()
        return self.extractor(levels / 127.5 - 1)[self.extractor.settings.features]


def _pixels_of(batch: dict[str, Any]) -> torch.Tensor:
    if "pixel_values" not in batch:
        raise UsageError(
            "`--validation_fvd_clips` needs held-out videos, but the data are token shards: pass the videos as"
            " `--validation_data`."
        )
    num_frames = batch["pixel_values"].shape[2]
    if num_frames < MINIMUM_FRAMES:
        raise UsageError(
            f"`--validation_fvd_clips` needs clips of at least {MINIMUM_FRAMES} frames, these have {num_frames}: pass a larger"
            " `--num_frames`, or leave it out."
        )
    return batch["pixel_values"]


def _keep(batch: dict[str, Any], kept: int) -> dict[str, Any]:
    """What it takes to make the first clips of a batch: captions, sizes and conditions."""
    return {
        "captions": batch["captions"][:kept],
        "size": tuple(batch["pixel_values"].shape[2:]),
        "frame_conditions": {name: value[:kept] for name, value in batch.get("frame_conditions", {}).items()},
    }


def _gather(features: dict[int, torch.Tensor]) -> torch.Tensor:
    """Features `(N, D)` of all processes, in the order of the clips."""
    parts = [features]
    if dist.is_initialized():
        parts = [None] * dist.get_world_size()
        dist.all_gather_object(parts, features)
    rows = {first: part for own in parts for first, part in own.items()}
    return torch.cat([rows[first] for first in sorted(rows)])


def _find_weights() -> None:
    try:
        find_i3d_weights()
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"`--validation_fvd_clips` needs the network I3D. {error}") from error


def make_validation_fvd(
    accelerator: Accelerator,
    args: Namespace,
    batch_size: int,
    keeps_pixels: bool = False,
    extractor: FeatureExtractor | None = None,
    **models: Any,
) -> ValidationFVD | None:
    """
    What `--validation_fvd_clips` asks for; `None` if it is 0. Loads I3D, after a download on its first use on a machine, and
    computes the features of the real clips. All processes call it together.

    Args:
        accelerator (`Accelerator`): The run's.
        args (`argparse.Namespace`): With the flags of `data.sources.add_data_arguments` and `validation.add_held_out_arguments`.
        batch_size (`int`): Clips `B` to make at a time.
        keeps_pixels (`bool`, defaults to `False`): See [`ValidationFVD`].
        extractor ([`FeatureExtractor`], *optional*): That of the published FVD by default.
        models: `vae`, `scheduler` and `text_encoder`, see `data.sources.make_batches`.

    Raises:
        `UsageError`: There are too few clips or frames, the data have no held-out videos, or I3D is not in the cache and could
            not be downloaded; the message says what to do.
    """
    num_clips = args.validation_fvd_clips
    if num_clips == 0:
        return None
    if num_clips < 2:
        raise UsageError(f"`--validation_fvd_clips` is {num_clips}: pass at least 2, or 0 for none.")
    if args.num_frames < MINIMUM_FRAMES:
        raise UsageError(
            f"`--validation_fvd_clips` needs clips of at least {MINIMUM_FRAMES} frames, `--num_frames` is {args.num_frames}."
        )
    # Videos alone, where training mixes images in.
    args = Namespace(**vars(args) | {"image_ratio": None if args.image_ratio is None else 0.0})
    if extractor is None:
        on_main_process(accelerator, _find_weights)
        extractor = FeatureExtractor(NetworkProtocol(), accelerator.device)
    source = open_held_out(args, batch_size, **models)
    if isinstance(source, BucketBatches):  # the moving shapes never repeat
        num_held_out = source.plan.steps_per_epoch * source.plan.batch_size
        if num_clips > num_held_out:
            raise UsageError(
                f"`--validation_fvd_clips` is {num_clips}, but there are {num_held_out} held-out clips in whole batches of"
                f" {source.plan.batch_size}: pass at most that."
            )
    return ValidationFVD(
        source,
        num_clips,
        extractor,
        accelerator.process_index,
        accelerator.num_processes,
        keeps_pixels,
    )


@torch.no_grad()
def sampled_fvd(
    fvd: ValidationFVD, pipeline: VideoARPipeline, guidance_scale: float | None = None
) -> dict[str, float]:
    """
    The FVD of videos that a pipeline makes for the captions of the held-out clips, each with a generator of its own that is seeded
    alike every time.

    Args:
        fvd ([`ValidationFVD`]): Of the run.
        pipeline ([`VideoARPipeline`]): On every process.
        guidance_scale (`float`, *optional*): The scheduler's by default.

    Returns:
        `dict[str, float]`: `fvd_of_N_clips`.
    """
    pipeline.set_progress_bar_config(disable=True)
    device = pipeline._execution_device

    def sample(batch: dict[str, Any], first: int) -> torch.Tensor:
        captions, (num_frames, height, width) = batch["captions"], batch["size"]
        seeds = range(HELD_OUT_SEED + first, HELD_OUT_SEED + first + len(captions))
        videos = pipeline(
            captions,
            height=height,
            width=width,
            num_frames=num_frames,
            guidance_scale=guidance_scale,
            generator=[torch.Generator(device).manual_seed(seed) for seed in seeds],
            frame_conditions=to_device(batch["frame_conditions"], device) or None,
            output_type="pt",
        ).frames  # (B, F, 3, H, W) in [0, 1]
        return videos.transpose(1, 2) * 2 - 1

    return {f"fvd_of_{fvd.num_clips}_clips": fvd(sample)}


@torch.no_grad()
def reconstruction_fvd(fvd: ValidationFVD, vae: AutoencoderVideoAR, scheduler: VideoARScheduler) -> dict[str, float]:
    """
    The FVD of reconstructions of the held-out clips with all scales (rFVD).

    Args:
        fvd ([`ValidationFVD`]): Of the run, with `keeps_pixels`.
        vae ([`AutoencoderVideoAR`]): In evaluation mode, on every process.
        scheduler ([`VideoARScheduler`]): For its scale schedules.

    Returns:
        `dict[str, float]`: `rfvd_of_N_clips`.
    """

    def reconstruct(batch: dict[str, Any], first: int) -> torch.Tensor:
        schedule = scheduler.get_scale_schedule(*(side // vae.spatial_compression_ratio for side in batch["size"][1:]))
        return vae(batch["pixel_values"].to(vae.device), schedule).sample

    return {f"rfvd_of_{fvd.num_clips}_clips": fvd(reconstruct)}
