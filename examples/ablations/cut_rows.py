# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Token shards for the row-parallel order of NBP and PAR: every row of every latent frame becomes a latent frame of its own, one map of
`1 x W'` tokens. What is trained on them predicts a row at once, given all earlier rows, and reads the row before it.

    python cut_rows.py --shards data/moving_shapes/scales-1/validation --output_dir data/moving_shapes/rows-4/validation

The bits are those of the same tokenizer with one scale. The number of the row is a frame condition, `row`. It prints the flags of
training that belong to the new shards.
"""

import dataclasses
import json
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

from videoar_pipelines.data.token_shards import ShardSettings, TokenShardWriter, list_shards, read_settings, shard_path
from videoar_pipelines.models.quantization import features_to_maps
from videoar_pipelines.utils.command_line import CommandLineParser, run_command_line


def parse_args(arguments=None):
    parser = CommandLineParser(__doc__)
    parser.add_argument(
        "--shards", type=Path, required=True, help="Folder of token shards with features and text states."
    )
    parser.add_argument("--output_dir", type=Path, required=True)
    return parser.parse_args(arguments)


@dataclasses.dataclass
class RowClips:
    """What a shard says of its clips, see `data.clips.ClipDataSet`."""

    files: dict[int, str]
    captions: dict[int, str]
    is_image: dict[int, bool]
    size_indices: dict[int, int]
    unusable: dict[int, str]
    frame_conditions: dict[str, dict[int, np.ndarray]]


def row_settings(settings: ShardSettings) -> tuple[ShardSettings, int]:
    """The settings of the new shards, and how many rows a latent frame has."""
    (size, schedule), *others = settings.scale_schedules.items()
    if others or not settings.stores_features or settings.text_encoder_fingerprint is None:
        raise ValueError("`--shards` must hold clips of one size, with features and text states.")
    rows, columns = schedule[-1]
    height, width = map(int, size.split("x"))
    num_rows = settings.num_latent_frames * rows
    ratio = (settings.num_frames - 1) // max(1, settings.num_latent_frames - 1)
    return dataclasses.replace(
        settings,
        num_frames=1 + ratio * (num_rows - 1),
        num_latent_frames=num_rows,
        scale_schedules={f"{height // rows}x{width}": ((1, columns),)},
        data=settings.data | {"rows_of_a_frame": rows},
    ), rows


def cut(features: torch.Tensor) -> torch.Tensor:
    """Features `(T, d, H', W')` to those of rows, `(1, d, T * H', 1, W')`."""
    return features.permute(1, 0, 2, 3).flatten(1, 2)[None, :, :, None]


def cut_shard(args, index: int, path: Path, settings: ShardSettings, new_settings: ShardSettings, rows: int) -> None:
    with open(path.with_suffix(".jsonl"), encoding="utf-8") as file:
        lines = {line["row"]: line for line in map(json.loads, file)}
    labels = np.arange(new_settings.num_latent_frames, dtype=np.float32)[:, None] % rows
    clips = RowClips(
        {row: line["file"] for row, line in lines.items()},
        {row: line["caption"] for row, line in lines.items()},
        dict.fromkeys(lines, False),
        dict.fromkeys(lines, 0),
        {row: line["unusable"] for row, line in lines.items() if line["unusable"] is not None},
        {"row": dict.fromkeys(lines, labels)},
    )
    grid = next(iter(settings.scale_schedules.values()))[-1]
    shape = (settings.num_latent_frames, settings.num_bits, *grid)
    writer = TokenShardWriter(args.output_dir, index, new_settings, clips)
    with safe_open(path, "pt") as arrays:
        features, states = arrays.get_tensor("features"), arrays.get_tensor("text_states")
    for row, line in lines.items():
        for clip in line["clips"]:
            if "unreadable" in clip:
                writer.add_unreadable_clip(row, clip["unreadable"])
                continue
            row_features = cut(features[slice(*clip["features"])].view(shape).float())
            bits = features_to_maps(row_features, ((1, grid[1]),)).bits
            writer.add_clip(row, bits, row_features)
        if "text_states" in line:
            writer.add_text(row, states[slice(*line["text_states"])])
    writer.finish()


def main(args):
    shards = list_shards(args.shards)
    if not shards:
        raise ValueError(f"`--shards` {args.shards} has no token shards: write them first.")
    args.output_dir.mkdir(parents=True, exist_ok=True)
    for index, path in shards.items():
        settings = read_settings(path)
        new_settings, rows = row_settings(settings)
        if not shard_path(args.output_dir, index).exists():
            cut_shard(args, index, path, settings, new_settings, rows)
    height, width = new_settings.sizes[0]
    columns = new_settings.scale_schedules[f"{height}x{width}"][0][1]
    print(
        f"--num_frames {new_settings.num_frames} --height {height} --width {width} --condition_columns row, frame_conditions"
        f' {{"row": {{"num_labels": {rows}}}}}, scale_schedules {{"1x{columns}": [[1, {columns}]]}},'
        f" max_text_distance {new_settings.num_latent_frames - 1}"
    )


if __name__ == "__main__":
    run_command_line(main, parse_args)
