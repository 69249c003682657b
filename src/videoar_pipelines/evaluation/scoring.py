# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
The score of a set of samples under a protocol, with what it takes to read it: intervals, floor, anchors, motion.

    score_samples      FVD, KVD and motion of samples against real clips
    score_real_clips   what the real clips alone tell: the floor and the anchors
    format_scores      the lines for people; the dictionaries are for JSON

The *floor* is the distance of two disjoint halves of the real clips. The *anchors* are the first half against the second
with each clip frozen at its first frame, and with its frames in another order. All of them are of half as many clips as the
score, and a distance grows as clips get fewer; so the samples are scored at that number too.
"""

import dataclasses
from typing import Any

import torch

from .clips import ClipSet, split_halves
from .features import FeatureStore
from .frechet import (
    SMALLEST_SHARE,
    SMALLEST_SUBSET,
    Interval,
    bootstrap_frechet,
    frechet_at_infinity,
    kernel_distance,
)
from .motion import compare_motion
from .protocols import Protocol


Table = dict[str, torch.Tensor]
ANCHORS = {"frozen": "frozen at their first frame", "shuffled": "frames shuffled"}


@dataclasses.dataclass(frozen=True)
class Comparison:
    """
    How two sets of clips are compared.

    Args:
        features (`str`, defaults to `"logits"`): Or `"pooled"`.
        num_resamples (`int`, defaults to 100): Of the bootstrap.
        seed (`int`, defaults to 0): Of the bootstrap and of the subsets.
    """

    features: str = "logits"
    num_resamples: int = 100
    seed: int = 0

    def distances(
        self, first: Table, second: Table, first_groups: list, second_groups: list, paired: bool = False
    ) -> dict[str, Any]:
        """FVD with its interval, and KVD with its standard error, of tables of features; `paired` if they are of the same clips."""
        left, right = first[self.features], second[self.features]
        options = {"num_resamples": self.num_resamples, "seed": self.seed, "paired": paired}
        fvd = bootstrap_frechet(left, right, first_groups, second_groups, **options)
        kvd, error = kernel_distance(left, right, paired=paired)
        return {"num_clips": [len(left), len(right)], "fvd": dataclasses.asdict(fvd), "kvd": [kvd, error]}

    def at_infinity(self, first: Table, second: Table) -> dict[str, float | bool] | None:
        """FVD for infinitely many clips, `too_few` if that may still be too high, or `None` where nothing can be told."""
        left, right = first[self.features], second[self.features]
        if min(len(left), len(right)) * SMALLEST_SHARE < SMALLEST_SUBSET:
            return None
        too_few = min(len(left), len(right)) * SMALLEST_SHARE <= left.shape[1]  # of the smallest subsets already
        return dataclasses.asdict(frechet_at_infinity(left, right, seed=self.seed)) | {"too_few": too_few}


def score_real_clips(
    real: ClipSet, store: FeatureStore, comparison: Comparison, anchors: bool = True
) -> dict[str, Any]:
    """
    Floor and anchors.

    Args:
        real ([`ClipSet`]): Real clips. No group of them is in both halves.
        store ([`FeatureStore`]): Where features come from.
        comparison ([`Comparison`]): How sets are compared.
        anchors (`bool`, defaults to `True`): Whether the anchors are computed too, one more pass over half of the clips each.

    Returns:
        `dict[str, Any]`: `floor`, `frozen` and `shuffled`, each with `num_clips`, `fvd`, `kvd` and `motion`.
    """
    table = store.compute(real, "real").table()
    first_rows, second_rows = split_halves(real.groups)
    first, second = _rows(table, first_rows), _rows(table, second_rows)
    first_groups, second_groups = ([real.groups[row] for row in rows] for rows in (first_rows, second_rows))
    second_clips = real.select(second_rows)

    scores = {}
    for name in ("floor", *(ANCHORS if anchors else ())):
        other = second if name == "floor" else store.compute(second_clips.altered(name), name).table()
        scores[name] = comparison.distances(first, other, first_groups, second_groups)
        scores[name]["motion"] = dataclasses.asdict(compare_motion(first, other))
    scores["floor"]["fvd_infinity"] = comparison.at_infinity(first, second)
    return scores


def score_samples(real: ClipSet, samples: ClipSet, store: FeatureStore, comparison: Comparison) -> dict[str, Any]:
    """
    Samples against real clips.

    Returns:
        `dict[str, Any]`: `num_clips`, `fvd`, `kvd`, `fvd_infinity` and `motion`; and `at_floor`, the distances of as many
        clips as the floor has.
    """
    real_table, table = store.compute(real, "real").table(), store.compute(samples, "samples").table()
    scores = comparison.distances(real_table, table, list(real.groups), list(samples.groups))
    scores["fvd_infinity"] = comparison.at_infinity(real_table, table)
    scores["motion"] = dataclasses.asdict(compare_motion(real_table, table))

    first_rows, second_rows = split_halves(real.groups)
    few = range(min(len(second_rows), len(samples)))
    scores["at_floor"] = comparison.distances(
        _rows(real_table, first_rows),
        _rows(table, few),
        [real.groups[row] for row in first_rows],
        [samples.groups[row] for row in few],
    )
    return scores


def _rows(table: Table, rows: list[int] | range) -> Table:
    return {name: tensor[list(rows)] for name, tensor in table.items()}


# What is printed


def format_scores(protocol: Protocol, results: dict[str, Any]) -> list[str]:
    """
    Lines for people.

    Args:
        protocol ([`Protocol`]): That the scores are of.
        results (`dict`): `real_clips` of [`score_real_clips`], and `samples` of [`score_samples`] if there are any.
    """
    unit, rows = describe_unit(protocol), []
    if "samples" in results:
        scores = results["samples"]
        title = f"{protocol.name}: FVD {describe_distance(scores)}, samples against {unit}"
        rows += [("for infinitely many clips", _at_infinity(scores["fvd_infinity"]))]
        rows += [("samples at the floor's number", describe_distance(scores["at_floor"]))]
    else:
        title = f"{protocol.name}: {unit} alone"
    for name, scores in results["real_clips"].items():
        rows += [
            (f"real, {ANCHORS[name]}" if name in ANCHORS else "real against real (floor)", describe_distance(scores))
        ]
        if "fvd_infinity" in scores:
            rows += [("floor, infinitely many clips", _at_infinity(scores["fvd_infinity"]))]
    parts = results["real_clips"] | ({"samples": results["samples"]} if "samples" in results else {})
    for name, scores in parts.items():
        motion = scores["motion"]
        shares = [f"{100 * share:.1f} %" for share in motion["dynamic_share"]]
        distance = f"histogram distance {motion['histogram_distance']:.3f}"
        rows += [(f"motion of {name}", f"{shares[1]} dynamic (real {shares[0]}), {distance}")]
    width = max(len(label) for label, _ in rows)
    return [title, *(f"  {label:<{width}}  {text}" for label, text in rows)]


def describe_unit(protocol: Protocol) -> str:
    """What one real clip is: `"real train clips of ucf101"`."""
    split = {"train": "train ", "validation": "held-out ", "test": "test ", "all": ""}[protocol.split]
    data = "" if protocol.data == "any" else f" of {protocol.data}"
    return f"real {split}clips{data}"


def describe_protocol(protocol: Protocol, digest: str) -> str:
    """One line of all that decides a number besides the clips."""
    clips, network = protocol.clips, protocol.network
    rate = f"{clips.fps:g} fps" if clips.fps is not None else f"stride {clips.frame_stride}"
    antialias = "antialiased" if clips.antialias else "not antialiased"
    return (
        f"  {clips.num_frames} frames, {rate}, {clips.windows} window(s) from {clips.start}, {clips.height}x{clips.width}"
        f" by {clips.fit}, {clips.kernel} {antialias}, round trip {clips.round_trip}; {network.name} {network.features},"
        f" {network.kernel} {network.alignment} to 224, sha256 {digest[:12]}"
    )


def describe_distance(scores: dict[str, Any]) -> str:
    """FVD with its interval, KVD with its standard error and the numbers of clips, of [`Comparison.distances`]."""
    kvd, error = scores["kvd"]
    first, second = scores["num_clips"]
    return f"{_interval(scores['fvd'])}, KVD {kvd:.3g} +- {error:.1g} ({second} against {first} clips)"


def _at_infinity(fields: dict[str, float | bool] | None) -> str:
    if fields is None:
        return "too few clips to tell"
    note = (
        " (perhaps too high: half of the clips are fewer than the dimensions of the features)"
        if fields["too_few"]
        else ""
    )
    return f"{_interval({name: fields[name] for name in ('value', 'low', 'high')})}{note}"


def _interval(fields: dict[str, float]) -> str:
    return str(Interval(**fields))
