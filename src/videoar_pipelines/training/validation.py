# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Numbers of held-out clips while a model is trained: the same clips and the same flips every time, so that two validations, or two
runs, differ by their weights alone. It trains nothing, and draws nothing from the random generators of the run. `validation_fvd.py`
has the distance between generated and real clips.

Letters used in shapes: see `transformer_step.py`.
"""

import argparse
import logging
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from ..data.sources import SPLITS, BatchSource, has_held_out_data, make_batches
from ..models.autoencoder_videoar import AutoencoderVideoAR
from ..models.quantization import flatten_bits
from ..pipelines.pipeline_videoar import VideoARPipeline
from ..schedulers.scheduling_videoar import VideoARScheduler
from ..utils.command_line import non_negative_int
from .perceptual import PerceptualLoss
from .tokenizer_step import TokenizerObjective, generator_step
from .transformer_step import (
    TransformerStepOptions,
    batch_to_features,
    batch_to_maps,
    batch_to_text,
    bit_cross_entropy,
    bit_metrics,
    predict_bits,
)


logger = logging.getLogger(__name__)

# Of the order of the held-out clips and of their flips. The same in all runs, whatever their `--seed`.
HELD_OUT_SEED = 0
# Kinds of maps that a transformer is asked about: share of the scheduler's flips.
_STRENGTHS = {"clean": 0.0, "flipped": 1.0}


# 1. Held-out clips


def add_held_out_arguments(parser: argparse.ArgumentParser, default_batches: int | None) -> None:
    """
    Adds the flags that [`read_held_out`] and `validation_fvd.make_validation_fvd` read.

    Args:
        parser (`argparse.ArgumentParser`): Or a group of one; changed in place.
        default_batches (`int`, *optional*): Of `--validation_batches`. With `None`, data without held-out clips are no error.
    """
    default = "4 where the data have the split" if default_batches is None else default_batches
    parser.add_argument(
        "--validation_data",
        help="Where the held-out clips are, like --data (default: --data). All rows of a manifest without a split column.",
    )
    parser.add_argument(
        "--validation_split", choices=SPLITS, default="validation", help="Which split of it is held out."
    )
    parser.add_argument(
        "--validation_batches",
        type=non_negative_int,
        default=default_batches,
        help=f"Held-out batches: the first ones of the split, the same every time (default: {default}; 0: none).",
    )
    parser.add_argument(
        "--validation_fvd_clips",
        type=non_negative_int,
        default=0,
        help="FVD at every validation, over so many clips (default: 0, none). Only values of as many clips can be compared.",
    )


def open_held_out(args: Namespace, batch_size: int, log_dir: Path | None = None, **models: Any) -> BatchSource:
    """
    The held-out clips, in an order that neither the run's seed nor the number of processes changes.

    Args:
        args (`argparse.Namespace`): With the flags of `data.sources.add_data_arguments` and [`add_held_out_arguments`].
        batch_size (`int`): Clips of a batch, fewer where the split holds fewer. Another size makes other batches of the same clips.
        log_dir (`Path`, *optional*): See `data.sources.make_batches`.
        models: `vae`, `scheduler` and `text_encoder`, see `data.sources.make_batches`.

    Raises:
        `ValueError`: The data have no such split.
    """
    changes = {"data": args.validation_data or args.data, "training_data": args.data, "data_repeats": None}
    settings = Namespace(**vars(args) | changes)
    if has_held_out_data(args):
        settings.unsplit = "any"  # a manifest of its own is held out as a whole
    shared = {"seed": HELD_OUT_SEED, "split": args.validation_split, "log_dir": log_dir, **models}
    while True:
        try:
            return make_batches(settings, batch_size, **shared)
        except ValueError:
            if batch_size == 1:
                raise
            batch_size //= 2  # the split may hold fewer clips than a batch of training


def read_held_out(
    args: Namespace, batch_size: int, log_dir: Path | None = None, **models: Any
) -> list[dict[str, Any]]:
    """
    The first `--validation_batches` held-out batches, on the CPU; see [`open_held_out`]. Where the flag is not given and the data
    have no such split there are none, and the log says why.
    """
    if args.validation_batches == 0:
        return []
    try:
        source = open_held_out(args, batch_size, log_dir, **models)
    except ValueError as error:
        if args.validation_batches is not None or args.validation_data is not None:
            raise
        logger.info("There is no held-out loss. %s Or pass --validation_data.", error)
        return []
    return list(islice(source, 4 if args.validation_batches is None else args.validation_batches))


def to_device(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """The batch with its tensors, those in lists and dictionaries included, on a device."""

    def move(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.to(device)
        if isinstance(value, dict):
            return {name: move(item) for name, item in value.items()}
        if isinstance(value, list):
            return [move(item) for item in value]
        return value

    return {name: move(value) for name, value in batch.items()}


def mean_over_clips(results: Sequence[tuple[int, dict[str, float]]]) -> dict[str, float]:
    """
    Means of what batches gave, each weighted by its number of clips.

    Args:
        results (`Sequence[tuple[int, dict[str, float]]]`): For every batch its clips and its values by name. A batch may lack a
            name that others have, as images lack later frames: it then does not count for it.
    """
    sums, counts = {}, {}
    for num_clips, values in results:
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + num_clips * value
            counts[name] = counts.get(name, 0) + num_clips
    return {name: total / counts[name] for name, total in sums.items()}


# 2. The transformer


@torch.no_grad()
def held_out_metrics(
    pipeline: VideoARPipeline, batches: Sequence[dict[str, Any]], options: TransformerStepOptions
) -> dict[str, float]:
    """
    Loss, bit accuracy and token accuracy of held-out clips under teacher forcing, in total, for every scale and for every latent
    frame: once on clean maps, once on maps with all flips of the scheduler (whatever the warm-up of training), which come from a
    generator that is seeded alike every time. No text is dropped and no frame is masked at random; a frame window stays.

    Call it under the autocast of the run.

    Args:
        pipeline ([`VideoARPipeline`]): With the models to judge, in evaluation mode.
        batches (`Sequence[dict]`): From [`read_held_out`].
        options ([`TransformerStepOptions`]): Those of training.

    Returns:
        `dict[str, float]`: `clean/loss`, `flipped/token_accuracy`, `clean/bit_accuracy/scale_k`, `flipped/loss/frame_t`, …, means
        over the clips. There are no `flipped/` values of batches that hold bits alone.
    """
    device = pipeline.transformer.device
    # FlexAttention is for compiled blocks and its own backend, which validation does not run with.
    attention = "boolean" if options.attention == "flex" else options.attention
    options = replace(options, text_drop_probability=0.0, attention=attention, frame_mask_probability=0.0)
    results = []
    # `predict_bits` draws from the global generators even where nothing is dropped.
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        for number, batch in enumerate(batches):
            values = {}
            for kind, logits, target_bits, scale_schedule in _predictions(
                pipeline, to_device(batch, device), options, HELD_OUT_SEED + number
            ):
                right = (logits > 0) == target_bits
                own = {
                    "loss": bit_cross_entropy(logits, target_bits, scale_schedule, options.scale_weighting).item(),
                    "bit_accuracy": right.float().mean().item(),
                    "token_accuracy": right.all(dim=-1).float().mean().item(),
                }
                own |= bit_metrics(logits, target_bits, scale_schedule)
                values |= {f"{kind}/{name}": value for name, value in own.items()}
            results.append((len(batch["captions"]), values))
    return mean_over_clips(results)


def _predictions(
    pipeline: VideoARPipeline, batch: dict[str, Any], options: TransformerStepOptions, seed: int
) -> Iterator[tuple]:
    """For clean and for flipped maps: the kind, logits and target bits `(B, T * L, d)`, and the schedule."""
    features = batch_to_features(batch, pipeline.vae)
    # States that the data hold are those of the text encoder before it was trained.
    text = {name: value for name, value in batch.items() if not options.train_text_encoder or name == "captions"}
    text_states, text_mask = batch_to_text(
        text, pipeline.tokenizer, pipeline.text_encoder, options.max_sequence_length
    )
    for kind, strength in _STRENGTHS.items():
        if features is None and strength > 0:
            continue
        generator = torch.Generator(text_mask.device).manual_seed(seed)
        maps = batch_to_maps(
            batch if features is None else {"features": features},
            pipeline.scheduler,
            strength=strength,
            generator=generator,
        )
        logits = predict_bits(
            pipeline.transformer,
            pipeline.scheduler,
            maps,
            text_states,
            text_mask,
            options,
            batch.get("frame_conditions"),
        )
        schedule = pipeline.scheduler.get_scale_schedule(*maps.latents.shape[-2:])
        yield kind, logits, flatten_bits(maps.bits), schedule


# 3. The video tokenizer


@torch.no_grad()
def held_out_tokenizer_loss(
    vae: AutoencoderVideoAR,
    batches: Sequence[dict[str, Any]],
    scheduler: VideoARScheduler,
    objective: TokenizerObjective,
    perceptual: PerceptualLoss | None = None,
) -> dict[str, float]:
    """
    The objective on held-out clips with all scales, without its adversarial term. Call it under the autocast of the run.

    Args:
        vae ([`AutoencoderVideoAR`]): In either mode, which it keeps.
        batches (`Sequence[dict]`): From [`read_held_out`].
        scheduler ([`VideoARScheduler`]): For its scale schedules.
        objective ([`TokenizerObjective`]): That of training.
        perceptual ([`PerceptualLoss`], *optional*): That of training.

    Returns:
        `dict[str, float]`: `loss`, and its terms `loss/reconstruction`, `loss/perceptual`, …, weighted; means over the clips.
    """
    objective = replace(objective, scale_drop_probability=0.0, perceptual_frames=None)
    results, was_training = [], vae.training
    vae.train()  # the terms on features exist in training mode only; nothing in the model is random or keeps statistics
    try:
        for batch in batches:
            video = batch["pixel_values"].to(vae.device)
            latent_size = (side // vae.spatial_compression_ratio for side in video.shape[-2:])
            output = generator_step(vae, video, scheduler.get_scale_schedule(*latent_size), objective, perceptual)
            terms = {f"loss/{name}": value.item() for name, value in output.terms.items()}
            results.append((len(video), {"loss": output.loss.item()} | terms))
    finally:
        vae.train(was_training)
    return mean_over_clips(results)
