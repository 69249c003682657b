#!/usr/bin/env python
# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Does the instruction matter? For held-out clips: how often the model finds a clip more likely under its own instruction than under a
wrong one. Nothing is sampled: the likelihood of a clip's bits is that of teacher forcing.

    python examples/robot_arm/instructions.py --checkpoint runs/transformer/pipeline --data data/manifest.jsonl --split test

Two kinds of wrong instruction are drawn for every clip:
    - `another`: that of another clip of the split;
    - `verb`: its own with another first word, which is the verb in these data; first words of the split, none that means the same
      text. Such a sentence may make no sense.
"""

import argparse
import json
import random
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

from videoar_pipelines import VideoARPipeline
from videoar_pipelines.data.buckets import Bucket
from videoar_pipelines.data.clips import ClipSettings, MediaClips, UnreadableClipError
from videoar_pipelines.data.manifest import read_manifest
from videoar_pipelines.models.quantization import flatten_bits
from videoar_pipelines.models.text_encoding import encode_text
from videoar_pipelines.training.transformer_step import TransformerStepOptions, batch_to_maps, predict_bits
from videoar_pipelines.utils.command_line import (
    CommandLineParser,
    UsageError,
    positive_float,
    positive_int,
    run_command_line,
)
from videoar_pipelines.utils.files import complete_or_absent


KINDS = ("another", "verb")
NUM_RESAMPLES = 2000


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = CommandLineParser(__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="A saved pipeline.")
    parser.add_argument("--data", required=True, help="A manifest.")
    parser.add_argument("--split", default="test", help="Which of its rows.")
    parser.add_argument("--fps", type=positive_float, default=12, help="Frames per second of the clips.")
    parser.add_argument("--num_frames", type=positive_int, help="Pixel frames (default: the checkpoint's).")
    parser.add_argument("--num_clips", type=positive_int, help="The first so many rows (default: all).")
    parser.add_argument(
        "--num_wrong", type=positive_int, default=4, help="Wrong instructions of each kind for a clip."
    )
    parser.add_argument("--seed", type=int, default=0, help="Of the wrong instructions and of the interval.")
    parser.add_argument("--output_file", type=Path, help="Where the result goes as JSON.")
    return parser.parse_args(arguments)


def wrong_instructions(captions: list[str], kind: str, num_wrong: int, rng: random.Random) -> list[list[str]]:
    """For every caption `num_wrong` others of a kind, none equal to it; they may recur where there are few."""
    chosen = []
    for caption in captions:
        if kind == "another":
            candidates = captions
        else:
            rest = caption.partition(" ")[2]
            candidates = [f"{other.partition(' ')[0]} {rest}" for other in captions]
        candidates = sorted({other for other in candidates if other.lower() != caption.lower()})
        if not candidates:
            raise UsageError(f"`--data` has no wrong instruction beside {caption!r}: use a split with several.")
        chosen.append([rng.choice(candidates) for _ in range(num_wrong)])
    return chosen


@torch.no_grad()
def information(pipe: VideoARPipeline, clip: dict[str, torch.Tensor], instructions: list[str]) -> torch.Tensor:
    """Bits that one clip takes under every instruction, by latent frame: `(number of instructions, T)`, float64."""
    maps = batch_to_maps(clip, pipe.scheduler, pipe.vae, strength=0.0)
    num_latent_frames = maps.latents.shape[2]
    targets = flatten_bits(maps.bits)  # (1, T * L, d)
    options = TransformerStepOptions(pipe.transformer.config.max_text_length)
    states, mask = encode_text(
        pipe.tokenizer, pipe.text_encoder, instructions, options.max_sequence_length, padding="rounded"
    )
    # One instruction at a time: a batch of one text length each gives the same numbers whatever the others are.
    rows = []
    for own_states, own_mask in zip(states, mask):
        logits = predict_bits(pipe.transformer, pipe.scheduler, maps, own_states[None], own_mask[None], options)
        nats = F.binary_cross_entropy_with_logits(logits.double(), targets.double(), reduction="none")
        rows.append(nats.unflatten(1, (num_latent_frames, -1)).sum(dim=(0, 2, 3)) / torch.log(torch.tensor(2.0)))
    return torch.stack(rows)


def summarise(differences: torch.Tensor, seed: int) -> dict[str, float | list[float]]:
    """
    Of what wrong instructions take more than the right one, `(clips, wrong instructions)` in bits: the share above zero with a 95 %
    interval, clips drawn anew with all of their pairs, and the mean.
    """
    shares = (differences > 0).double().mean(dim=1)
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randint(len(shares), (NUM_RESAMPLES, len(shares)), generator=generator)
    interval = shares[draws].mean(dim=1).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
    return {
        "right_is_likelier": shares.mean().item(),
        "interval": interval.tolist(),
        "mean_difference_bits": differences.mean().item(),
        "clips": len(differences),
        "pairs": differences.numel(),
    }


def read_clip(clips: MediaClips, row: int, bucket: Bucket) -> np.ndarray:
    try:
        return clips.read(row, 0, bucket)
    except UnreadableClipError as error:
        raise UsageError(f"`--data` names {clips.files[row]!r}, which is {error}. Leave its row out.") from error


def main(args: argparse.Namespace) -> None:
    pipe = VideoARPipeline.from_pretrained(args.checkpoint)
    config = pipe.transformer.config
    height, width = (size * pipe.vae_scale_factor_spatial for size in (config.sample_height, config.sample_width))
    num_frames = args.num_frames or (config.sample_frames - 1) * pipe.vae_scale_factor_temporal + 1
    table = read_manifest(args.data, split=args.split)
    clips = MediaClips(table, ClipSettings(num_frames, ((height, width),), fps=args.fps, clip_start="center"))
    captions = list(table.captions)[: args.num_clips]
    rng = random.Random(args.seed)
    wrong = {kind: wrong_instructions(captions, kind, args.num_wrong, rng) for kind in KINDS}

    bucket = Bucket(False, height, width)
    videos = [read_clip(clips, index, bucket) for index in range(len(captions))]

    # Rows of a clip: its own instruction, then the wrong ones, kind by kind
    taken = []
    for index, video in enumerate(tqdm(videos, unit="clip")):
        clip = clips.to_training(clips.collate([video]), bucket, "cpu")
        instructions = [captions[index], *(text for kind in KINDS for text in wrong[kind][index])]
        taken.append(information(pipe, clip, instructions))
    taken = torch.stack(taken)  # (clips, 1 + kinds * wrong, T)

    result = {
        "checkpoint": str(args.checkpoint),
        "split": args.split,
        "seed": args.seed,
        "bits_of_a_clip": taken[:, 0].sum(dim=-1).mean().item(),
    }
    for part, frames in (("whole clip", slice(None)), ("after the first latent frame", slice(1, None))):
        totals = taken[:, :, frames].sum(dim=-1)
        differences = (totals[:, 1:] - totals[:, :1]).unflatten(1, (len(KINDS), args.num_wrong))
        for number, kind in enumerate(KINDS):
            values = summarise(differences[:, number], args.seed)
            result[f"{kind}, {part}"] = values
            low, high = values["interval"]
            print(
                f"{kind}, {part}: the right instruction is likelier in {values['right_is_likelier']:.1%} [{low:.1%},"
                f" {high:.1%}] of {values['pairs']} pairs of {values['clips']} clips, by"
                f" {values['mean_difference_bits']:.1f} bits in the mean (chance: 50 %)"
            )
    if args.output_file is not None:
        with complete_or_absent(args.output_file) as path:
            path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_command_line(main, parse_args)
