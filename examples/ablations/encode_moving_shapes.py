# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Draws moving shapes and writes them as token shards, as encode_data_set.py does with files. The clips are those of
`moving_shapes/write_clips.py` with the same split and seed.

    python encode_moving_shapes.py --pretrained_pipeline ../../checkpoints/videoar-moving-shapes --num_clips 8192 \
        --output_dir data/moving_shapes/train
    python encode_moving_shapes.py --pretrained_pipeline ../../checkpoints/videoar-moving-shapes --num_clips 256 --seed 1 \
        --split validation --output_dir data/moving_shapes/validation
"""

import random
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from videoar_pipelines import VideoARPipeline, VideoARScheduler
from videoar_pipelines.data.token_shards import (
    ShardSettings,
    TokenShardWriter,
    fingerprint_of_encoder,
    read_settings,
    round_features,
    shard_path,
    shard_rows,
)
from videoar_pipelines.models.quantization import features_to_maps
from videoar_pipelines.models.text_encoding import encode_text
from videoar_pipelines.moving_shapes.data_set import SPLITS as COMBINATIONS
from videoar_pipelines.moving_shapes.data_set import caption_for, draw_clip, render_clips
from videoar_pipelines.training.components import config_of
from videoar_pipelines.utils.command_line import CommandLineParser, loading, positive_int, run_command_line
from videoar_pipelines.utils.provenance import fingerprint_of


def parse_args(arguments=None):
    parser = CommandLineParser(__doc__)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--num_clips", type=positive_int, required=True)
    parser.add_argument("--num_shards", type=positive_int, default=1)
    parser.add_argument(
        "--split", choices=["train", "validation"], default="train", help="What training takes them for."
    )
    parser.add_argument("--combinations", choices=COMBINATIONS, default="train", help="Of attributes.")
    parser.add_argument("--seed", type=int, default=0, help="Names the data set.")
    parser.add_argument("--num_frames", type=int, default=17)
    parser.add_argument("--height", type=int, default=64)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--pretrained_pipeline", required=True, help="Folder of the tokenizer and the text encoder.")
    parser.add_argument("--vae", help="Another tokenizer.")
    parser.add_argument(
        "--scheduler_config", type=config_of(VideoARScheduler), default={}, help="JSON: for its scales."
    )
    parser.add_argument("--max_sequence_length", type=positive_int, default=32)
    parser.add_argument("--batch_size", type=positive_int, default=16)
    return parser.parse_args(arguments)


@dataclass
class DrawnClips:
    """What a shard says of its clips, see `data.clips.ClipDataSet`."""

    files: list[str]
    captions: list[str]
    is_image: np.ndarray
    size_indices: np.ndarray
    unusable: dict[int, str] = field(default_factory=dict)
    frame_conditions: dict[str, np.ndarray] = field(default_factory=dict)


def load_pipeline(args) -> VideoARPipeline:
    with loading("--pretrained_pipeline", args.pretrained_pipeline):
        pipeline = VideoARPipeline.from_pretrained(args.pretrained_pipeline, transformer=None)
    if args.vae is not None:
        with loading("--vae", args.vae):
            pipeline.register_modules(vae=type(pipeline.vae).from_pretrained(args.vae))
    return pipeline


def make_settings(args, pipeline: VideoARPipeline, scheduler: VideoARScheduler) -> ShardSettings:
    ratio = pipeline.vae.spatial_compression_ratio
    return ShardSettings(
        vae_fingerprint=fingerprint_of_encoder(pipeline.vae),
        text_encoder_fingerprint=fingerprint_of(pipeline.text_encoder),
        max_text_length=args.max_sequence_length,
        num_bits=pipeline.vae.config.latent_channels,
        stores_features=True,
        num_frames=args.num_frames,
        num_latent_frames=(args.num_frames - 1) // pipeline.vae.temporal_compression_ratio + 1,
        scale_schedules={
            f"{args.height}x{args.width}": scheduler.get_scale_schedule(args.height // ratio, args.width // ratio)
        },
        num_variants=1,
        num_rows=args.num_clips,
        num_shards=args.num_shards,
        data={"rows": "moving shapes", "split": args.split, "combinations": args.combinations, "seed": args.seed},
    )


def draw_clips(args) -> tuple[list, DrawnClips]:
    clips = [draw_clip(index, args.seed, args.combinations) for index in range(args.num_clips)]
    captions = [caption_for(clip, random.Random(f"{args.seed}-{index}")).text for index, clip in enumerate(clips)]
    numbers = np.zeros(len(clips), dtype=np.int16)
    return clips, DrawnClips(
        [f"{index:06d}.npy" for index in range(len(clips))], captions, numbers.astype(bool), numbers
    )


@torch.no_grad()
def encode_shard(args, index: int, settings: ShardSettings, pipeline: VideoARPipeline, clips: list, facts: DrawnClips):
    schedule = next(iter(settings.scale_schedules.values()))
    writer = TokenShardWriter(args.output_dir, index, settings, facts)
    rows = shard_rows(index, settings.num_shards, settings.num_rows)
    for start in range(rows.start, rows.stop, args.batch_size):
        batch = range(start, min(start + args.batch_size, rows.stop))
        video = render_clips([clips[row] for row in batch], args.num_frames, args.height, args.width)
        features = round_features(pipeline.vae.encode(video).latents)
        bits = features_to_maps(features, schedule).bits
        states, mask = encode_text(
            pipeline.tokenizer,
            pipeline.text_encoder,
            [facts.captions[row] for row in batch],
            args.max_sequence_length,
            padding="rounded",
            warns_of_cuts=False,
        )
        for number, row in enumerate(batch):
            one = slice(number, number + 1)
            writer.add_clip(row, [scale_bits[one] for scale_bits in bits], features[one])
            writer.add_text(row, states[number][mask[number]])
    writer.finish()


def main(args):
    args.output_dir.mkdir(parents=True, exist_ok=True)
    pipeline = load_pipeline(args)
    settings = make_settings(args, pipeline, VideoARScheduler.from_config(args.scheduler_config))
    clips, facts = draw_clips(args)
    for index in range(args.num_shards):
        path = shard_path(args.output_dir, index)
        if not path.exists():
            encode_shard(args, index, settings, pipeline, clips, facts)
        elif differences := settings.differences(read_settings(path)):
            raise ValueError(
                f"`--output_dir` has a shard {index} that differs in {', '.join(differences)}: pass a new folder."
            )
        print(f"{path}: {len(shard_rows(index, settings.num_shards, settings.num_rows))} clips")


if __name__ == "__main__":
    run_command_line(main, parse_args)
