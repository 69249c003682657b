# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Reconstruction by a tokenizer: PSNR, SSIM, LPIPS and rFVD for every number of scales kept, in one pass over the clips.

    rFVD   Frechet distance of the clips and their reconstructions: the same clips, so it has no floor from drawing others

Letters used in shapes: `B` clips of a batch, `N` clips, `F` pixel frames.
"""

import dataclasses
from typing import Any

import torch
from tqdm.auto import tqdm

from ..models.autoencoder_videoar import AutoencoderVideoAR
from ..models.quantization import ScaleSchedule
from ..utils.provenance import fingerprint_of
from .clips import ClipSet, pass_through
from .features import ChunkedCache, FeatureStore, read_chunks, wait_for_all
from .frame_errors import PerceptualDistance, frame_errors, mean_psnr, psnr
from .motion import compare_motion, measure_motion
from .scoring import ANCHORS, Comparison, describe_distance


@dataclasses.dataclass(frozen=True)
class Reconstruction:
    """
    What is reconstructed and measured.

    Args:
        vae ([`AutoencoderVideoAR`]): The tokenizer, on the device of the extractor.
        scale_schedule (`tuple[tuple[int, int], ...]`): Grids of the `K` scales.
        kept_scales (`tuple[int, ...]`): Numbers of scales to decode from, each from 1 to `K`.
        perceptual (`Callable`, *optional*): LPIPS of two videos; see [`frame_errors`].
        perceptual_name (`str`, *optional*): Names it and its weights, for results and caches.
        round_trip (`str`, defaults to `"uint8"`): What reconstructions go through, as samples do; see [`ClipProtocol`].
    """

    vae: AutoencoderVideoAR
    scale_schedule: ScaleSchedule
    kept_scales: tuple[int, ...]
    perceptual: PerceptualDistance | None = None
    perceptual_name: str | None = None
    round_trip: str = "uint8"

    def __post_init__(self):
        num_scales = len(self.scale_schedule)
        if not self.kept_scales or not all(1 <= kept <= num_scales for kept in self.kept_scales):
            raise ValueError(f"`kept_scales` is {self.kept_scales}: pass numbers from 1 to {num_scales}.")

    def describe(self) -> dict[str, Any]:
        return {
            "tokenizer_sha256": fingerprint_of(self.vae),
            "dtype": str(self.vae.dtype).removeprefix("torch."),
            "scale_schedule": [list(grid) for grid in self.scale_schedule],
            "kept_scales": list(self.kept_scales),
            "perceptual": self.perceptual_name,
            "round_trip": self.round_trip,
        }

    @torch.inference_mode()
    def decode_kept(self, video: torch.Tensor) -> dict[int, torch.Tensor]:
        """For every number of scales, what a video `(B, 3, F, H, W)` in [-1, 1] is decoded to from its first scales."""
        latents = self.vae.encode(video.to(self.vae.device, self.vae.dtype)).latents
        bits = self.vae.quantize(latents, self.scale_schedule).bits
        return {
            kept: self.vae.decode(self.vae.bits_to_latents(bits[:kept], self.scale_schedule)).sample.float().cpu()
            for kept in self.kept_scales
        }


def reconstruct_clips(clips: ClipSet, reconstruction: Reconstruction, store: FeatureStore) -> ChunkedCache:
    """
    Measures the reconstructions of `N` clips, and continues where another run stopped.

    Returns:
        [`ChunkedCache`]: For the clips `logits`, `pooled` and measures of motion; for `n` scales kept the same under
        `scales_n/...`, and `squared_error`, `ssim` and perhaps `lpips` of shape `(N, F)`.
    """
    network = {key: value for key, value in store.extractor.describe().items() if key != "features"}
    description = {"clips": clips.describe(), "network": network, "reconstruction": reconstruction.describe()}
    cache = ChunkedCache(store.cache_root, description, len(clips))
    total = sum(len(cache.rows_of(chunk)) for chunk in cache.missing(store.rank, store.world_size))
    with tqdm(total=total, desc="reconstruction", unit="clip", disable=not store.progress or total == 0) as bar:
        for chunk, batches in read_chunks(clips, cache, store):
            parts = []
            for batch in batches:
                parts.append(_measure(batch, reconstruction, store))
                bar.update(len(batch))
            cache.write(chunk, {key: torch.cat([part[key] for part in parts]) for key in parts[0]})
    wait_for_all()
    return cache


def _measure(video: torch.Tensor, reconstruction: Reconstruction, store: FeatureStore) -> dict[str, torch.Tensor]:
    measures = store.extractor(video) | measure_motion(video)
    for kept, decoded in reconstruction.decode_kept(video).items():
        decoded = torch.stack([pass_through(clip, reconstruction.round_trip) for clip in decoded])
        errors = frame_errors(video, decoded, reconstruction.perceptual)
        own = store.extractor(decoded) | measure_motion(decoded) | errors
        measures |= {f"scales_{kept}/{name}": values for name, values in own.items()}
    return measures


def score_reconstructions(
    cache: ChunkedCache, clips: ClipSet, reconstruction: Reconstruction, comparison: Comparison
) -> dict[str, Any]:
    """
    The scores of what [`reconstruct_clips`] measured.

    Returns:
        `dict[str, Any]`: For every number of scales, as text, `psnr` of the mean squared error of all clips, `psnr_of_clips`
        (the mean over clips of the PSNR of each), `ssim`, perhaps `lpips`, `fvd` with its interval, `kvd` and `motion`.
    """
    table = cache.table()
    scores = {}
    for kept in reconstruction.kept_scales:
        prefix = f"scales_{kept}/"
        own = {name.removeprefix(prefix): values for name, values in table.items() if name.startswith(prefix)}
        squared = own["squared_error"]
        scores[str(kept)] = {
            "psnr": psnr(squared.double().mean().item()),
            "psnr_of_clips": mean_psnr(squared),
            "ssim": own["ssim"].double().mean().item(),
            **({"lpips": own["lpips"].double().mean().item()} if "lpips" in own else {}),
            **comparison.distances(table, own, list(clips.groups), list(clips.groups), paired=True),
            "motion": dataclasses.asdict(compare_motion(table, own)),
        }
    return scores


def score_anchors(clips: ClipSet, store: FeatureStore, comparison: Comparison) -> dict[str, Any]:
    """FVD and KVD of the same clips frozen at their first frame, and with their frames shuffled: what an rFVD is read beside."""
    real, groups = store.compute(clips, "real").table(), list(clips.groups)
    return {
        name: comparison.distances(real, store.compute(clips.altered(name), name).table(), groups, groups, paired=True)
        for name in ANCHORS
    }


def format_reconstructions(scores: dict[str, Any], anchors: dict[str, Any], unit: str) -> list[str]:
    """A table for people, one line for each number of scales kept, and for each anchor."""
    lines = []
    for kept, values in scores.items():
        fvd = values["fvd"]
        lpips = f", LPIPS {values['lpips']:.4f}" if "lpips" in values else ""
        lines.append(
            f"  {kept} scale(s) kept: rFVD {fvd['value']:.2f} [{fvd['low']:.2f}, {fvd['high']:.2f}], PSNR"
            f" {values['psnr']:.2f} dB (mean of clips {values['psnr_of_clips']:.2f}), SSIM {values['ssim']:.4f}{lpips}"
        )
    lines += [
        f"  the same clips, {ANCHORS[name]}: FVD {describe_distance(values)}" for name, values in anchors.items()
    ]
    return [f"reconstruction of {next(iter(scores.values()))['num_clips'][0]} {unit}", *lines]
