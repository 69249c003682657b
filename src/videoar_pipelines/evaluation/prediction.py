# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Prediction of frames: a model was given the first frames of real clips, and its continuations are scored per horizon.

At the horizon `h`, FVD and KVD are of the first `given + h` frames of both sets, and PSNR, SSIM and LPIPS are of the predicted frame
`h` against the true one and of all predicted frames up to it. What holding the last given frame would score is beside them: the true
frame, and for the FVD too that of the predictions, which has gone through the tokenizer.

Letters used in shapes: `N` clips, `F` pixel frames.
"""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from .clips import ClipSet
from .features import ChunkedCache, FeatureStore, wait_for_all
from .frame_errors import PerceptualDistance, frame_errors, mean_psnr, squared_errors
from .i3d import MINIMUM_FRAMES
from .protocols import Protocol
from .scoring import Comparison


class _Pairs(torch.utils.data.Dataset):
    def __init__(self, real: ClipSet, predictions: ClipSet, rows: list[int]):
        self.real, self.predictions, self.rows = real, predictions, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.real[self.rows[index]], self.predictions[self.rows[index]]


def check_pairs(real: ClipSet, predictions: ClipSet) -> None:
    """
    Raises:
        `ValueError`: The sets cannot be the same clips.
    """
    if len(real) != len(predictions):
        raise ValueError(
            f"There are {len(real)} real clips and {len(predictions)} predictions: clip by clip they must belong together."
        )
    names = [[Path(file).stem for file in clips.files] for clips in (real, predictions)]
    different = [row for row, (left, right) in enumerate(zip(*names)) if left != right]
    if len(set(real.files)) == len(real) and different:
        row = different[0]
        raise ValueError(
            f"Clip {row} is {names[0][row]!r} among the real clips and {names[1][row]!r} among the predictions: pass the"
            " real clips under the names of their predictions, as `sample.py --keep_real_clips` writes them."
        )


def measure_predictions(
    real: ClipSet,
    predictions: ClipSet,
    given_frames: int,
    store: FeatureStore,
    perceptual: PerceptualDistance | None = None,
    perceptual_name: str | None = None,
) -> ChunkedCache:
    """
    Errors of every frame against the true one, and of the last given frame against it, the true one and the one of the predictions.

    Returns:
        [`ChunkedCache`]: `squared_error`, `ssim` and perhaps `lpips`, `held_squared_error` and `frozen_squared_error` (of the true
        frame held, and of the predictions frozen after the given frames), all of shape `(N, F)`.
    """
    check_pairs(real, predictions)
    description = {
        "real": real.describe(),
        "predictions": predictions.describe(),
        "given_frames": given_frames,
        "perceptual": perceptual_name,
        "anchors": ["held", "frozen"],
    }
    cache = ChunkedCache(store.cache_root, description, len(real))
    missing = cache.missing(store.rank, store.world_size)
    for chunk in tqdm(missing, desc="errors of frames", disable=not store.progress or not missing):
        pairs = _Pairs(real, predictions, list(cache.rows_of(chunk)))
        parts = []
        for video, predicted in DataLoader(pairs, batch_size=store.batch_size, num_workers=store.num_workers):
            last_given = slice(given_frames - 1, given_frames)
            anchors = {
                "held_squared_error": squared_errors(video, video[:, :, last_given]),
                "frozen_squared_error": squared_errors(video, predicted[:, :, last_given]),
            }
            parts.append(frame_errors(video, predicted, perceptual) | anchors)
        cache.write(chunk, {key: torch.cat([part[key] for part in parts]) for key in parts[0]})
    wait_for_all()
    return cache


def score_predictions(
    real: ClipSet,
    predictions: ClipSet,
    protocol: Protocol,
    store: FeatureStore,
    comparison: Comparison,
    errors: ChunkedCache,
) -> dict[str, Any]:
    """
    The scores at every horizon of the protocol, and at the end of its clips.

    Args:
        real ([`ClipSet`]): Whole real clips, `N` of them.
        predictions ([`ClipSet`]): Whole clips that begin with the given frames, in the same order.
        protocol ([`Protocol`]): With `given_frames`.
        store, comparison: As for `score_samples`.
        errors ([`ChunkedCache`]): Of [`measure_predictions`].

    Returns:
        `dict[str, Any]`: `given` with the PSNR of the given frames, which is low if the pairs do not belong together; and for
        every horizon, as text, `fvd` and `kvd` (`None` below 9 frames in all, for which I3D has no features), `psnr`, `ssim` and
        perhaps `lpips` of the frame at it, the same with `mean_` of all predicted frames up to it, and the anchors: `held_psnr` of the
        last given frame, `frozen_psnr` and `frozen_fvd` of the predictions frozen at it.
    """
    if protocol.given_frames == 0:
        raise ValueError(f"The protocol {protocol.name!r} gives no frames: pass one with `given_frames`.")
    table, given = errors.table(), protocol.given_frames
    longest = protocol.clips.num_frames - given
    scores = {"given": {"num_frames": given, "psnr": mean_psnr(table["squared_error"][:, :given])}}
    for horizon in sorted({*protocol.horizons, longest}):
        frames = given + horizon
        values = {"num_clips": [len(real), len(predictions)], "fvd": None, "kvd": None, "frozen_fvd": None}
        if frames >= MINIMUM_FRAMES:
            short = [_shortened(clips, frames) for clips in (real, predictions)]
            short.append(short[1].altered("frozen", given))
            names = (f"{name}, {frames} frames" for name in ("real", "predictions", "frozen predictions"))
            true, predicted, frozen = (store.compute(clips, name).table() for clips, name in zip(short, names))
            groups = list(real.groups), list(predictions.groups)
            values |= comparison.distances(true, predicted, *groups, paired=True)
            values["frozen_fvd"] = comparison.distances(true, frozen, *groups, paired=True)["fvd"]
        values |= {
            "psnr": mean_psnr(table["squared_error"][:, frames - 1 : frames]),
            "mean_psnr": mean_psnr(table["squared_error"][:, given:frames]),
            "held_psnr": mean_psnr(table["held_squared_error"][:, frames - 1 : frames]),
            "frozen_psnr": mean_psnr(table["frozen_squared_error"][:, frames - 1 : frames]),
        }
        for name in ("ssim", "lpips"):
            if name in table:
                values[name] = table[name][:, frames - 1].double().mean().item()
                values[f"mean_{name}"] = table[name][:, given:frames].double().mean().item()
        scores[str(horizon)] = values
    return scores


def _shortened(clips: ClipSet, num_frames: int) -> ClipSet:
    return dataclasses.replace(clips, settings=dataclasses.replace(clips.settings, num_frames=num_frames))


def format_predictions(scores: dict[str, Any], unit: str) -> list[str]:
    """Lines for people, one for each horizon."""
    given = scores["given"]
    horizons = {name: values for name, values in scores.items() if name != "given"}
    count = next(iter(horizons.values()))["num_clips"][0]
    lines = [f"prediction of {count} {unit}, {given['num_frames']} given frame(s) (PSNR {given['psnr']:.2f} dB)"]
    for horizon, values in horizons.items():
        fvd = values["fvd"]
        distance = (
            f"FVD {fvd['value']:.2f} [{fvd['low']:.2f}, {fvd['high']:.2f}] (frozen {values['frozen_fvd']['value']:.2f})"
            if fvd
            else "FVD undefined"
        )
        lpips = f", LPIPS {values['lpips']:.4f}" if "lpips" in values else ""
        lines.append(
            f"  after {horizon} frame(s): {distance}, PSNR {values['psnr']:.2f} dB (mean to here {values['mean_psnr']:.2f}, frozen"
            f" {values['frozen_psnr']:.2f}, last given frame held {values['held_psnr']:.2f}), SSIM {values['ssim']:.4f}{lpips}"
        )
    return lines
