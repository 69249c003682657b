# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Writes clips of moving shapes as arrays, with a manifest: the real clips that `examples/evaluation` scores against.

    python examples/moving_shapes/write_clips.py --split held_out --num_clips 512 --seed 1 --output_dir clips

It is not needed for training, which draws its clips anew for every batch.
"""

import json
import random
from pathlib import Path

import numpy as np

from videoar_pipelines.moving_shapes.data_set import SPLITS, caption_for, draw_clip, render_clips
from videoar_pipelines.utils.command_line import CommandLineParser, run_command_line
from videoar_pipelines.utils.files import complete_or_absent


def parse_args(arguments=None):
    parser = CommandLineParser(__doc__)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--num_clips", type=int, required=True)
    parser.add_argument("--split", choices=SPLITS, default="held_out", help="Of combinations of attributes.")
    parser.add_argument(
        "--manifest_split", help="Value of a column `split` of the manifest; no such column if not given."
    )
    parser.add_argument("--seed", type=int, default=0, help="Names the data set; training's is 0 by default.")
    parser.add_argument("--num_frames", type=int, default=17)
    parser.add_argument("--height", type=int, default=128)
    parser.add_argument("--width", type=int, default=128)
    return parser.parse_args(arguments)


def main(args):
    rows = []
    for index in range(args.num_clips):
        clip = draw_clip(index, args.seed, args.split)
        video = render_clips([clip], args.num_frames, args.height, args.width)[0]  # (3, F, H, W) in [-1, 1]
        levels = ((video + 1) * 127.5).round().byte().permute(1, 2, 3, 0).numpy()
        with complete_or_absent(args.output_dir / f"{index:06d}.npy") as path:
            np.save(path, levels)
        caption = caption_for(clip, random.Random(f"{args.seed}-{index}")).text
        row = {"file": f"{index:06d}.npy", "caption": caption}
        rows.append(row if args.manifest_split is None else row | {"split": args.manifest_split})
    with complete_or_absent(args.output_dir / "manifest.jsonl") as path:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(f"{args.num_clips} clips in {args.output_dir}")


if __name__ == "__main__":
    run_command_line(main, parse_args)
