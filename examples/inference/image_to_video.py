# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Let an image move: it becomes the first frame of a video.

    python examples/inference/image_to_video.py --image examples/inference/red_circle.png \
        --prompt "a red circle moves to the right on a white background"
"""

from pathlib import Path

import torch
from diffusers.utils import load_image

from videoar_pipelines import VideoARImageToVideoPipeline
from videoar_pipelines.utils import save_video
from videoar_pipelines.utils.command_line import CommandLineParser, loading, run_command_line


CHECKPOINT = Path(__file__).resolve().parents[2] / "checkpoints" / "videoar-moving-shapes"


def parse_args():
    parser = CommandLineParser("Let an image move.")
    parser.add_argument("--checkpoint", default=CHECKPOINT, help="Folder of a saved pipeline, or its id on the Hub.")
    parser.add_argument(
        "--image", required=True, help="File or URL; resized to cover the video, then cropped in the middle."
    )
    parser.add_argument("--prompt", required=True, help="What the video shows.")
    parser.add_argument("--num_frames", type=int, default=17, help="Pixel frames, the image included, 4n+1.")
    parser.add_argument("--seed", type=int, default=0, help="The same seed gives the same video.")
    parser.add_argument("--output", type=Path, default=Path("outputs/image_to_video.mp4"))
    return parser.parse_args()


def main():
    args = parse_args()
    with loading("--checkpoint", args.checkpoint):
        pipe = VideoARImageToVideoPipeline.from_pretrained(args.checkpoint)
    pipe.to("cuda" if torch.cuda.is_available() else "cpu")
    video = pipe(
        load_image(args.image),
        args.prompt,
        num_frames=args.num_frames,
        generator=torch.Generator("cpu").manual_seed(args.seed),
    ).frames[0]  # (F, H, W, 3) in [0, 1]
    save_video(video, args.output, fps=8, title=args.prompt)
    print(args.output)


if __name__ == "__main__":
    run_command_line(main)
