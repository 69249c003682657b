# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Make a video much longer than the clips of training, in one of two ways, at constant memory.

    python examples/inference/long_video.py --prompt "a red circle moves to the right"
"""

from pathlib import Path

import torch

from videoar_pipelines import VideoARPipeline
from videoar_pipelines.utils import VideoWriter
from videoar_pipelines.utils.command_line import CommandLineParser, loading, run_command_line


CHECKPOINT = Path(__file__).resolve().parents[2] / "checkpoints" / "videoar-moving-shapes"


def parse_args():
    parser = CommandLineParser("Make a video much longer than the clips of training.")
    parser.add_argument("--checkpoint", default=CHECKPOINT, help="Folder of a saved pipeline, or its id on the Hub.")
    parser.add_argument("--prompt", required=True, help="What the video shows.")
    parser.add_argument("--num_frames", type=int, default=201, help="Pixel frames, 4n+1.")
    parser.add_argument(
        "--method",
        choices=["window", "reencode"],
        default="reencode",
        help="window: a frame sees the last four latent frames. reencode: every time the video has grown to the length of a "
        "training clip, its tail is decoded, encoded again, and continued like a given video.",
    )
    parser.add_argument("--seed", type=int, default=0, help="The same seed gives the same video.")
    parser.add_argument("--output", type=Path, default=Path("outputs/long_video.mp4"))
    return parser.parse_args()


def main():
    args = parse_args()
    with loading("--checkpoint", args.checkpoint):
        pipe = VideoARPipeline.from_pretrained(args.checkpoint)
    pipe.to("cuda" if torch.cuda.is_available() else "cpu")
    trained_length = pipe.transformer.config.sample_frames  # latent frames
    methods = {"window": {"window": trained_length - 1}, "reencode": {"reencode_at": trained_length}}

    generator = torch.Generator("cpu").manual_seed(args.seed)
    stream = pipe.stream(args.prompt, num_frames=args.num_frames, generator=generator, **methods[args.method])
    with VideoWriter(args.output, fps=8, title=args.prompt) as writer:
        for chunk in stream:
            writer.write(chunk[0])
    print(args.output)


if __name__ == "__main__":
    run_command_line(main)
