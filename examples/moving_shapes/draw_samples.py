# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Draws the picture of the README: prompts and the clips that a checkpoint makes of them.

    python examples/moving_shapes/draw_samples.py --output_file docs/images/samples.png
"""

from pathlib import Path

import torch

from videoar_pipelines import VideoARImageToVideoPipeline, VideoARPipeline
from videoar_pipelines.utils import save_contact_sheet
from videoar_pipelines.utils.command_line import CommandLineParser, loading, run_command_line


# The last two are combinations of shape, colour and motion that training never saw.
PROMPTS = [
    "a red circle moves to the right on a white background",
    "a large blue star bounces up and down on a beige background",
    "a small yellow square moves down on a black background",
    "a green triangle stays still on a gray background",
    "a red circle moves to the left on a white background",
    "a large blue star moves to the right on a black background",
]


def parse_args(arguments=None):
    parser = CommandLineParser(__doc__)
    parser.add_argument("--checkpoint", default="checkpoints/videoar-moving-shapes")
    parser.add_argument("--output_file", type=Path, required=True)
    parser.add_argument("--prompts", nargs="+", default=PROMPTS)
    parser.add_argument("--num_frames", type=int, default=17)
    parser.add_argument("--max_frames", type=int, default=9, help="Frames shown of each clip.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--from_first_frame", action="store_true", help="Make an image of each prompt first, then continue the image."
    )
    return parser.parse_args(arguments)


def main(args):
    with loading("--checkpoint", args.checkpoint):
        pipe = VideoARPipeline.from_pretrained(args.checkpoint)
    generators = [torch.Generator("cpu").manual_seed(args.seed + index) for index in range(len(args.prompts))]
    if args.from_first_frame:
        images = pipe(args.prompts, num_frames=1, generator=generators, output_type="pil").frames
        pipe = VideoARImageToVideoPipeline(**pipe.components)
        given = [frames[0] for frames in images]
        videos = pipe(given, args.prompts, num_frames=args.num_frames, generator=generators).frames
    else:
        videos = pipe(args.prompts, num_frames=args.num_frames, generator=generators).frames
    args.output_file.parent.mkdir(parents=True, exist_ok=True)
    save_contact_sheet(list(videos), args.output_file, args.prompts, args.max_frames, args.max_frames)


if __name__ == "__main__":
    run_command_line(main, parse_args)
