# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
What an arm of an ablation is judged by, from held-out token shards alone: likelihood, videos from text, and continued videos.

Letters used in shapes: `B` clips, `T` latent frames, `F` pixel frames, `(H', W')` latent grid, `d` bits of a token.
"""

import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from videoar_pipelines import VideoARPipeline, VideoARScheduler
from videoar_pipelines.evaluation.frechet import FeatureStatistics, frechet_distance
from videoar_pipelines.models.quantization import features_to_maps, tokens_per_frame
from videoar_pipelines.moving_shapes.data_set import MovingShapesClip, caption_for, draw_clip, render_clips
from videoar_pipelines.moving_shapes.judge import accuracy, judge
from videoar_pipelines.pipelines.frame_sampler import FrameSampler, PromptStates
from videoar_pipelines.training.transformer_step import TransformerStepOptions
from videoar_pipelines.training.validation import held_out_metrics
from videoar_pipelines.utils.files import complete_or_absent


@dataclass(frozen=True)
class EvaluationOptions:
    """
    How an arm is judged.

    Args:
        data (`str`): Folder of the held-out token shards, with features and text states.
        split (`str`, defaults to `"validation"`): Their split.
        num_batches (`int`, defaults to 8): Held-out batches for the likelihood, of as many clips as in training.
        num_samples (`int`, defaults to 64): Held-out clips whose text and beginning videos are sampled for.
        given_frames (`int`, defaults to 2): Latent frames of a held-out clip that are continued.
        drift_frames (`list[int]`, defaults to `[5, 10, 25]`): Latent frames, counted from 1, at which continued videos are judged.
        flip_probability (`float`, defaults to 0.1): The fixed corruption of the robustness figure.
        refinements (`list[int]`, defaults to none): See [`VideoARScheduler`].
        attempts (`int`, defaults to 1):
            Videos sampled for every text and beginning. It counts whether *any* of them is right: what as many more samples
            give by chance, to one who can tell the right one.
        rows (`int`, defaults to 1): Rows of a latent frame that the shards hold as frames of their own, see `cut_rows.py`.
        shapes (`dict`, *optional*):
            `seed` and `split` of `write_clips.py`, if the clips are moving shapes: then the judge looks at the videos.
        save_samples (`bool`, defaults to `False`): Whether the videos are kept, for FVD.
    """

    data: str
    split: str = "validation"
    num_batches: int = 8
    num_samples: int = 64
    given_frames: int = 2
    drift_frames: list[int] = field(default_factory=lambda: [5, 10, 25])
    flip_probability: float = 0.1
    refinements: list[int] = field(default_factory=list)
    attempts: int = 1
    rows: int = 1
    shapes: dict[str, Any] | None = None
    save_samples: bool = False


# 1. Likelihood


def held_out_bits(
    pipeline: VideoARPipeline, batches: Sequence[dict[str, Any]], flip_probability: float, rows: int = 1
) -> dict[str, dict[str, Any]]:
    """
    Bits per token of held-out clips under teacher forcing: what the bits of a token cost, of `d` at most for a fair coin.

    Args:
        pipeline ([`VideoARPipeline`]): To judge.
        batches (`Sequence[dict]`): With features and text states.
        flip_probability (`float`): Of every bit that enters a sum, for `"corrupted"`.
        rows (`int`, defaults to 1): See [`EvaluationOptions`].

    Returns:
        `dict`: `clean` and `corrupted`, each with `per_token`, `per_frame` (of all tokens of a latent frame together), `by_scale`
        and `by_frame` (both per token).
    """
    flips = {"corruption_min": flip_probability, "corruption_max": flip_probability, "corruption_growth": 0.0}
    scheduler = VideoARScheduler.from_config(
        pipeline.scheduler.config, **flips, corruption_min_growth=0.0, error_inheritance=False
    )
    judged = VideoARPipeline(**pipeline.components | {"scheduler": scheduler})
    options = TransformerStepOptions(max_sequence_length=pipeline.transformer.config.max_text_length)
    metrics = held_out_metrics(judged, batches, options)
    schedule = scheduler.get_scale_schedule(*batches[0]["features"].shape[-2:])
    bits_of_nats = pipeline.transformer.config.out_channels / math.log(2)

    def values_of(kind: str) -> dict[str, Any]:
        def series(name: str, count: int) -> list[float]:
            return [metrics[f"{kind}/loss/{name}_{index}"] * bits_of_nats for index in range(count)]

        per_token = metrics[f"{kind}/loss"] * bits_of_nats
        by_frame = series("frame", batches[0]["features"].shape[2])
        return {
            "per_token": per_token,
            "per_frame": per_token * tokens_per_frame(schedule) * rows,
            "by_scale": series("scale", len(schedule)),
            "by_frame": [sum(by_frame[start : start + rows]) / rows for start in range(0, len(by_frame), rows)],
        }

    return {"clean": values_of("clean"), "corrupted": values_of("flipped")}


# 2. Sampling


@torch.no_grad()
def sample_latents(
    pipeline: VideoARPipeline,
    batch: dict[str, Any],
    num_frames: int,
    given_frames: int,
    options: EvaluationOptions,
    generators: list[torch.Generator],
) -> torch.Tensor:
    """
    Videos for the texts of held-out clips.

    Args:
        pipeline ([`VideoARPipeline`]): To sample from.
        batch (`dict`): Held-out clips.
        num_frames (`int`): Latent frames `T`, the given ones included.
        given_frames (`int`): Latent frames of the clips that are continued; 0 samples from text alone.
        options ([`EvaluationOptions`]): `refinements` and `rows`.
        generators (`list[torch.Generator]`): One for each clip.

    Returns:
        `torch.Tensor` of shape `(B, d, T, H', W')`: Latents.
    """
    transformer, scheduler, rows = pipeline.transformer, pipeline.scheduler, options.rows
    schedule = scheduler.get_scale_schedule(*batch["features"].shape[-2:])
    text = pipeline.encode_prompt(
        None, prompt_embeds=batch["text_states"].float(), prompt_attention_mask=batch["text_mask"]
    )

    def conditions(first: int, count: int) -> dict[str, torch.Tensor] | None:
        if rows == 1:
            return None
        labels = torch.arange(first, first + count).remainder(rows).float()
        return {"row": labels.expand(len(generators), -1)[..., None]}

    sampler = FrameSampler(
        transformer,
        scheduler,
        pipeline.vae,
        PromptStates(*text),
        scheduler.sampling_options(refinements=options.refinements),
        schedule,
        num_frames=num_frames * rows,
        # No frame looks back further than in training.
        window=min(num_frames * rows, transformer.config.sample_frames) - 1,
        generator=generators,
    )
    frames = []
    if given_frames > 0:
        maps = features_to_maps(batch["features"][:, :, : given_frames * rows], schedule)
        sampler.write_frames(maps, conditions(0, given_frames * rows))
        frames.extend(maps.latents.unbind(2))
    while len(frames) < num_frames * rows:
        condition = conditions(len(frames), 1)
        frames.append(sampler.sample_frame(condition and {"row": condition["row"][:, 0]}))
    sampler.close()
    return join_rows(torch.stack(frames, dim=2), rows)


def join_rows(latents: torch.Tensor, rows: int) -> torch.Tensor:
    """Rows that stand as frames of their own, `(B, d, T * rows, h, W')`, as frames again, `(B, d, T, rows * h, W')`."""
    return latents.unflatten(2, (-1, rows)).flatten(3, 4)


@torch.no_grad()
def decode(pipeline: VideoARPipeline, latents: torch.Tensor) -> torch.Tensor:
    """Latents `(B, d, T, H', W')` to video `(B, F, 3, H, W)` in [0, 1]."""
    video = torch.cat([pipeline.vae.decode(part).sample for part in latents.split(8)])
    return ((video.clamp(-1, 1) + 1) / 2).transpose(1, 2)


# 3. Judging


def clips_of(batch: dict[str, Any], shapes: dict[str, Any]) -> list[tuple[MovingShapesClip, tuple[str, ...]]]:
    """For every clip of a batch what it shows, and which attributes its caption names, as `write_clips.py` drew them."""
    clips = []
    for file in batch["files"]:
        index = int(Path(file).stem)
        clip = draw_clip(index, shapes["seed"], shapes["split"])
        caption = caption_for(clip, random.Random(f"{shapes['seed']}-{index}"))
        clips.append((clip, caption.mentioned))
    return clips


def best_verdicts(attempts: list[list[dict[str, bool]]]) -> list[dict[str, bool]]:
    """For every clip the verdict of the attempt that has most right; of equal ones, the first."""
    return [max(verdicts, key=lambda verdict: sum(verdict.values())) for verdicts in zip(*attempts)]


def window_end(latent_frame: int, ratio: int = 4) -> int:
    """How many pixel frames the first `latent_frame` latent frames are."""
    return 1 + ratio * (latent_frame - 1)


def to_levels(videos: torch.Tensor) -> np.ndarray:
    """`(N, F, 3, H, W)` in [0, 1] to uint8 `(N, F, H, W, 3)`."""
    return (videos * 255).round().to(torch.uint8).permute(0, 1, 3, 4, 2).numpy()


def take_clips(batches: Sequence[dict[str, Any]], count: int) -> Iterator[dict[str, Any]]:
    """The first `count` clips, batch by batch."""
    for batch in batches:
        size = min(count, len(batch["files"]))
        if size > 0:
            kept = ("features", "text_states", "text_mask", "files", "captions")
            yield {name: batch[name][:size] for name in kept}
        count -= size


class VideoScores:
    """
    Collects videos of one kind, and scores them.

    Args:
        real_tokens (`torch.Tensor` of shape `(N, d)`): Latent tokens of held-out clips.
        is_judged (`bool`): Whether the videos are of moving shapes.
    """

    def __init__(self, real_tokens: torch.Tensor, is_judged: bool):
        self.real_tokens, self.is_judged = real_tokens, is_judged
        self.tokens, self.verdicts, self.videos = [], [], []

    def add(self, latent_frames: torch.Tensor, attempts: list[torch.Tensor], expected: list | None) -> None:
        """
        Args:
            latent_frames (`torch.Tensor` of shape `(B, d, T, H', W')`): Those whose tokens are compared with the real ones.
            attempts (`list[torch.Tensor]`): Videos `(B, F, 3, H, W)` of the same clips, one tensor an attempt.
            expected (`list`, *optional*): For every clip, what the judge asks for.
        """
        self.tokens.append(latent_frames.movedim(1, -1).flatten(0, -2))
        self.videos.append(to_levels(attempts[0]))
        if self.is_judged:
            verdicts = [[judge(video, asked) for video, asked in zip(videos, expected)] for videos in attempts]
            self.verdicts.extend(best_verdicts(verdicts))

    def results(self) -> dict[str, Any]:
        """`latent_distance`, the Frechet distance of latent tokens, and `right`, the share of right videos by attribute."""
        sets = (FeatureStatistics.of(tokens) for tokens in (self.real_tokens, torch.cat(self.tokens)))
        scores = {"latent_distance": frechet_distance(*sets)}
        return scores | ({"right": accuracy(self.verdicts)} if self.is_judged else {})


def quantised(pipeline: VideoARPipeline, batch: dict[str, Any], rows: int) -> torch.Tensor:
    """Latents `(B, d, T, H', W')` of held-out clips: the best that a transformer could do."""
    schedule = pipeline.scheduler.get_scale_schedule(*batch["features"].shape[-2:])
    return join_rows(features_to_maps(batch["features"], schedule).latents, rows)


def judge_videos(
    pipeline: VideoARPipeline, batches: Sequence[dict[str, Any]], options: EvaluationOptions, folder: Path | None
) -> dict[str, Any]:
    """
    Videos from text and continued clips, scored; the clips and the random numbers are the same for all arms.

    Args:
        pipeline ([`VideoARPipeline`]): To judge.
        batches (`Sequence[dict]`): Held-out clips, with features and text states.
        options ([`EvaluationOptions`]): How.
        folder (`Path`, *optional*): For the videos, `text.npy` and `continued-005.npy`, …, `(N, F, H, W, 3)`.

    Returns:
        `dict`: `ceiling` (held-out clips through the tokenizer), `text` and `continued` (by latent frame, as text), each with
        `latent_distance` and for moving shapes `right` (and the ceiling's `psnr`, in dB); and `seconds_per_video` of processor time, of sampling from text.
    """
    batches = list(take_clips(batches, options.num_samples))
    length = batches[0]["features"].shape[2] // options.rows  # latent frames of a clip of training
    real = [quantised(pipeline, batch, options.rows) for batch in batches]
    real_tokens = torch.cat([latents[:, :, 1:].movedim(1, -1).flatten(0, -2) for latents in real])
    kinds = ["ceiling", "text", *(f"continued-{frame:03d}" for frame in options.drift_frames)]
    scores = {kind: VideoScores(real_tokens, options.shapes is not None) for kind in kinds}
    seconds, errors = 0.0, []

    for number, (batch, real_latents) in enumerate(zip(batches, real)):
        asked = shown = None
        if options.shapes is not None:
            clips = clips_of(batch, options.shapes)
            shown = [clip.attributes for clip, _ in clips]
            asked = [{name: clip.attributes[name] for name in mentioned} for clip, mentioned in clips]

        def sample(num_frames: int, given_frames: int) -> list[torch.Tensor]:
            generators = [torch.Generator().manual_seed(1000 * number + clip) for clip in range(len(real_latents))]
            return [
                sample_latents(pipeline, batch, num_frames, given_frames, options, generators)
                for _ in range(options.attempts)
            ]

        start = time.process_time()
        from_text = sample(length, 0)
        seconds += time.process_time() - start
        decoded = decode(pipeline, real_latents)
        scores["ceiling"].add(real_latents[:, :, 1:], [decoded], shown)
        if options.shapes is not None:
            original = render_clips([clip for clip, _ in clips], decoded.shape[1], *decoded.shape[3:])
            errors.append((decoded.transpose(1, 2) - (original + 1) / 2).square().mean(dim=(1, 2, 3, 4)))
        scores["text"].add(from_text[0][:, :, 1:], [decode(pipeline, latents) for latents in from_text], asked)

        continued = sample(max(options.drift_frames), options.given_frames)
        videos = [decode(pipeline, latents) for latents in continued]
        for frame in options.drift_frames:
            end = window_end(frame)
            windows = [video[:, max(0, end - window_end(length)) : end] for video in videos]
            scores[f"continued-{frame:03d}"].add(continued[0][:, :, frame - 1 : frame], windows, shown)

    if folder is not None:
        for kind, score in scores.items():
            with complete_or_absent(folder / f"{kind}.npy") as path:
                np.save(path, np.concatenate(score.videos))
    results = {kind: score.results() for kind, score in scores.items()}
    if errors:
        results["ceiling"]["psnr"] = -10 * torch.cat(errors).mean().log10().item()
    return {
        "ceiling": results["ceiling"],
        "text": results["text"],
        "continued": {str(frame): results[f"continued-{frame:03d}"] for frame in options.drift_frames},
        "seconds_per_video": seconds / sum(len(batch["files"]) for batch in batches),
    }
