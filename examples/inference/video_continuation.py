# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Continue a video: its last frames become the context of new ones, which are appended.

    python examples/inference/video_continuation.py --video outputs/a-red-circle-moves-to-the-right-seed0.mp4 \
        --prompt "a red circle moves to the right"
"""

from pathlib import Path

import torch

from videoar_pipelines import VideoARVideoToVideoPipeline
from videoar_pipelines.utils import VideoWriter, load_video
from videoar_pipelines.utils.command_line import CommandLineParser, loading, run_command_line


CHECKPOINT = Path(__file__).resolve().parents[2] / "checkpoints" / "videoar-moving-shapes"


def parse_args():
    parser = CommandLineParser("Continue a video.")
    parser.add_argument("--checkpoint", default=CHECKPOINT, help="Folder of a saved pipeline, or its id on the Hub.")
    parser.add_argument("--video", required=True, help="File to continue, of the size that the checkpoint makes.")
    parser.add_argument("--prompt", required=True, help="What the video shows.")
    parser.add_argument("--context_frames", type=int, default=9, help="Last frames that the model sees, 4n+1.")
    parser.add_argument("--num_new_frames", type=int, default=8, help="Frames to append, a multiple of 4.")
    parser.add_argument("--seed", type=int, default=0, help="The same seed gives the same video.")
    parser.add_argument("--output", type=Path, default=Path("outputs/video_continuation.mp4"))
    return parser.parse_args()


def main():
    args = parse_args()
    with loading("--checkpoint", args.checkpoint):
        pipe = VideoARVideoToVideoPipeline.from_pretrained(args.checkpoint)
    pipe.to("cuda" if torch.cuda.is_available() else "cpu")

    video, fps = load_video(args.video)  # (3, F, H, W) in [-1, 1]
    given = video.transpose(0, 1) / 2 + 0.5  # (F, 3, H, W) in [0, 1]
    context = given[-args.context_frames :]  # all of a shorter video
    height, width = given.shape[-2:]
    continued = pipe(
        context,
        args.prompt,
        num_frames=len(context) + args.num_new_frames,
        height=height,
        width=width,
        generator=torch.Generator("cpu").manual_seed(args.seed),
    ).frames[0]  # (F, H, W, 3) in [0, 1]; the context comes first, as the tokenizer reconstructs it

    with VideoWriter(args.output, fps, title=args.prompt) as writer:
        writer.write(given.permute(0, 2, 3, 1))
        writer.write(continued[len(context) :])
    print(args.output)


if __name__ == "__main__":
    run_command_line(main)
