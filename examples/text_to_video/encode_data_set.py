# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
# /// script
# dependencies = ["videoar_pipelines[train]"]
# ///
"""
Runs the tokenizer and the text encoder over a data set, once, and writes token shards for train_text_to_video.py.

    python encode_data_set.py --data clips/manifest.jsonl --pretrained_pipeline runs/stage1/pipeline --store_features \
        --output_dir clips/shards --num_shards 64 --shard_index 0 1 2

Each shard depends on the flags and its index alone, and appears when it is complete. Start it as often as you like, on as many
hosts as you like: finished shards are skipped. In a Slurm array the tasks share the shards among them without `--shard_index`.

Steps:
1. Load the models and list the data set.
2. For every shard that is not finished: read its clips, encode them, quantise them, encode their captions.
3. Write it under another name, and rename it.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from videoar_pipelines import AutoencoderVideoAR, VideoARScheduler
from videoar_pipelines.data.batches import SkippedClips
from videoar_pipelines.data.clips import read_in_order
from videoar_pipelines.data.manifest import fingerprint_of_rows
from videoar_pipelines.data.sources import SPLITS, add_clip_arguments, open_clips, read_table
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
from videoar_pipelines.training.arguments import parse_args_with_config_file
from videoar_pipelines.training.components import config_of, load_text_models
from videoar_pipelines.utils.command_line import CommandLineParser, device, loading, run_command_line
from videoar_pipelines.utils.provenance import fingerprint_of
from videoar_pipelines.utils.video_io import levels_to_video


logger = logging.getLogger(__name__)
# What decides how clips are cut out of the files.
_CUTTING_FLAGS = ("split", "fps", "frame_stride", "clip_start", "random_crop", "random_flip", "seed")


def parse_args(arguments=None):
    parser = CommandLineParser(__doc__)
    add_clip_arguments(parser)
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--seed", type=int, default=0, help="Of random starts: that of the training run.")
    parser.add_argument("--output_dir", type=Path, required=True, help="Folder for the shards, shared by all hosts.")
    parser.add_argument("--num_shards", type=int, help="Default: the tasks of the Slurm array, or 1.")
    parser.add_argument(
        "--shard_index", type=int, nargs="+", help="Shards to write. Default: this task's part of all."
    )
    parser.add_argument(
        "--num_variants",
        type=int,
        default=1,
        help="Clips of every video: as many epochs of random starts as there are, before they begin again.",
    )
    parser.add_argument(
        "--store_features",
        action="store_true",
        help="Store the features before quantisation too, 2 bytes per channel: error correction needs them.",
    )
    parser.add_argument("--max_sequence_length", type=int, default=32, help="Text tokens; longer captions are cut.")

    model = parser.add_argument_group("models, each a folder or Hub id")
    model.add_argument("--pretrained_pipeline", help="Where all models come from that have no flag of their own.")
    model.add_argument("--vae", help="The tokenizer.")
    model.add_argument("--text_encoder", help="A T5, or a folder with `tokenizer` and `text_encoder`.")
    model.add_argument(
        "--no_text_states", action="store_true", help="Leave text to training, which may then train it."
    )
    model.add_argument("--scheduler_config", type=config_of(VideoARScheduler), help="JSON: its arguments.")

    run = parser.add_argument_group("run")
    run.add_argument("--batch_size", type=int, default=8, help="Clips to encode at once.")
    run.add_argument("--mixed_precision", choices=["no", "fp16", "bf16"], default="no", help="As in training.")
    run.add_argument("--device", type=device, default="cuda" if torch.cuda.is_available() else "cpu")
    args = parse_args_with_config_file(parser, arguments)

    if args.vae is None and args.pretrained_pipeline is None:
        raise ValueError("`--vae` or `--pretrained_pipeline` is needed.")
    if args.text_encoder is None and args.pretrained_pipeline is None and not args.no_text_states:
        raise ValueError("`--text_encoder` or `--pretrained_pipeline` is needed, or `--no_text_states`.")
    for flag in ("random_crop", "random_flip"):
        if args.split != "train" and getattr(args, flag):
            raise ValueError(f"`--{flag}` changes training clips alone: leave it out with `--split {args.split}`.")
    if min(args.num_variants, args.batch_size) < 1:
        raise ValueError(
            f"`--num_variants` and `--batch_size` must be at least 1, but are {args.num_variants} and {args.batch_size}."
        )
    return args


def choose_shards(
    shard_index: Sequence[int] | None, num_shards: int | None, environment: Mapping[str, str]
) -> tuple[Sequence[int], int]:
    """
    Which shards this process writes, and how many there are.

    Args:
        shard_index (`Sequence[int]`, *optional*): From the command line.
        num_shards (`int`, *optional*): From the command line.
        environment (`Mapping[str, str]`): With Slurm's variables, if it is a task of an array.
    """
    num_tasks = int(environment.get("SLURM_ARRAY_TASK_COUNT", 1))
    first, step = (
        int(environment.get(f"SLURM_ARRAY_TASK_{name}", default)) for name, default in (("MIN", 0), ("STEP", 1))
    )
    task = (int(environment.get("SLURM_ARRAY_TASK_ID", first)) - first) // step
    num_shards = num_tasks if num_shards is None else num_shards
    if num_shards < 1:
        raise ValueError(f"`--num_shards` must be at least 1, but is {num_shards}.")
    if shard_index is None:
        return range(task, num_shards, num_tasks), num_shards
    if not all(0 <= index < num_shards for index in shard_index):
        raise ValueError(f"`--shard_index` {shard_index} must be from 0 to {num_shards - 1} (`--num_shards` - 1).")
    return shard_index, num_shards


def load_models(args):
    source = args.vae or args.pretrained_pipeline
    with loading("--vae" if args.vae else "--pretrained_pipeline", source):
        vae = AutoencoderVideoAR.from_pretrained(source, subfolder=None if args.vae else "vae")
    config = args.scheduler_config
    if config is None:
        config = {}
        if args.pretrained_pipeline is not None:
            with loading("--pretrained_pipeline", args.pretrained_pipeline):
                config = VideoARScheduler.load_config(args.pretrained_pipeline, subfolder="scheduler")
    text_tokenizer = text_encoder = None
    if not args.no_text_states:
        dtype = torch.bfloat16 if args.mixed_precision == "bf16" else torch.float32
        source = args.text_encoder or args.pretrained_pipeline
        with loading("--text_encoder" if args.text_encoder else "--pretrained_pipeline", source):
            text_tokenizer, text_encoder = load_text_models(source, dtype)
        text_encoder.to(args.device).eval().requires_grad_(False)
    vae.to(args.device).eval().requires_grad_(False)
    return vae, VideoARScheduler.from_config(config), text_tokenizer, text_encoder


def make_settings(args, num_shards, table, vae, scheduler, text_encoder):
    """What all shards have in common, the same on all hosts."""
    ratio = vae.spatial_compression_ratio
    sizes = args.buckets or [(args.height, args.width)]
    return ShardSettings(
        vae_fingerprint=fingerprint_of_encoder(vae),
        text_encoder_fingerprint=None if text_encoder is None else fingerprint_of(text_encoder),
        max_text_length=None if text_encoder is None else args.max_sequence_length,
        num_bits=vae.config.latent_channels,
        stores_features=args.store_features,
        num_frames=args.num_frames,
        num_latent_frames=(args.num_frames - 1) // vae.temporal_compression_ratio + 1,
        scale_schedules={
            f"{height}x{width}": scheduler.get_scale_schedule(height // ratio, width // ratio)
            for height, width in sizes
        },
        num_variants=args.num_variants,
        num_rows=len(table),
        num_shards=num_shards,
        data={
            "rows": fingerprint_of_rows(table.files, table.captions),
            **{name: getattr(args, name) for name in _CUTTING_FLAGS},
            "mixed_precision": args.mixed_precision,
        },
    )


def autocast(args):
    dtypes = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    device_type = torch.device(args.device).type
    return torch.autocast(device_type, dtypes[args.mixed_precision], enabled=args.mixed_precision != "no")


@torch.no_grad()
def encode_shard(args, shard_index, settings, table, vae, text_tokenizer, text_encoder):
    # 1. What there is
    rows = shard_rows(shard_index, settings.num_shards, settings.num_rows)
    clips = open_clips(args, table, args.seed, rows, is_training=args.split == "train")
    writer = TokenShardWriter(args.output_dir, shard_index, settings, clips)
    skipped = SkippedClips(len(rows), args.max_skipped_share, log_path=None)
    for row in clips.unusable.keys() & set(rows):
        skipped.add(row, clips.files[row], clips.unusable[row])
    skipped.check_share(len(rows))

    # 2. Clips
    described = set()
    progress = tqdm(desc=f"shard {shard_index}", unit="clip", mininterval=5)
    for request, results in read_in_order(clips, rows, args.num_variants, args.batch_size, args.num_workers):
        levels = [result for result in results if not isinstance(result, str)]
        if levels:
            video = levels_to_video(torch.from_numpy(np.stack(levels)).to(args.device))
            with autocast(args):
                features = round_features(vae.encode(video).latents)
            bits = features_to_maps(features, settings.schedule_of(request.bucket)).bits
        index = 0
        for row, result in zip(request.rows.tolist(), results):
            if isinstance(result, str):
                writer.add_unreadable_clip(row, result)
                skipped.add(row, clips.files[row], result)
            else:
                one = slice(index, index + 1)
                writer.add_clip(row, [scale_bits[one] for scale_bits in bits], features[one])
                described.add(row)
                index += 1
        progress.update(len(results))
    progress.close()
    skipped.check_share(len(rows))

    # 3. Captions
    if text_encoder is not None:
        described = sorted(described)
        for start in range(0, len(described), args.batch_size):
            batch = described[start : start + args.batch_size]
            captions = [clips.captions[row] for row in batch]
            with autocast(args):
                states, mask = encode_text(
                    text_tokenizer,
                    text_encoder,
                    captions,
                    args.max_sequence_length,
                    padding="rounded",
                    warns_of_cuts=False,
                )
            for row, row_states, row_mask in zip(batch, states, mask):
                writer.add_text(row, row_states[row_mask])

    writer.finish()
    logger.info("Wrote %s: %d rows, %d of them skipped.", writer.path, len(rows), len(skipped.descriptions))


def main(args):
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    args.output_dir.mkdir(parents=True, exist_ok=True)
    shard_indices, num_shards = choose_shards(args.shard_index, args.num_shards, os.environ)
    vae, scheduler, text_tokenizer, text_encoder = load_models(args)
    table = read_table(args, args.split)
    if num_shards > len(table):
        raise ValueError(f"`--num_shards` is {num_shards}, but the data set has {len(table)} rows: pass at most that.")
    settings = make_settings(args, num_shards, table, vae, scheduler, text_encoder)

    for shard_index in shard_indices:
        path = shard_path(args.output_dir, shard_index)
        if not path.exists():
            encode_shard(args, shard_index, settings, table, vae, text_tokenizer, text_encoder)
            continue
        differences = settings.differences(read_settings(path))
        if differences:
            raise ValueError(
                f"`--output_dir` has a shard {shard_index} that differs in {', '.join(differences)}: pass a new folder."
            )
        logger.info("Shard %d is finished.", shard_index)


if __name__ == "__main__":
    run_command_line(main, parse_args)
