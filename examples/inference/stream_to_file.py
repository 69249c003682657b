# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Write a video to a file while it is generated, and change the prompt half-way.

    python examples/inference/stream_to_file.py --prompt "a red circle moves to the right" \
        --next_prompt "a red circle moves down"
"""

import time
from pathlib import Path

import torch

from videoar_pipelines import VideoARPipeline
from videoar_pipelines.utils import VideoWriter
from videoar_pipelines.utils.command_line import CommandLineParser, loading, run_command_line


CHECKPOINT = Path(__file__).resolve().parents[2] / "checkpoints" / "videoar-moving-shapes"


def parse_args():
    parser = CommandLineParser("Write a video to a file while it is generated.")
    parser.add_argument("--checkpoint", default=CHECKPOINT, help="Folder of a saved pipeline, or its id on the Hub.")
    parser.add_argument("--prompt", required=True, help="What the video shows.")
    parser.add_argument("--next_prompt", help="What its second half shows.")
    parser.add_argument("--num_frames", type=int, default=33, help="Frames after which to stop.")
    parser.add_argument("--seed", type=int, default=0, help="The same seed gives the same video.")
    parser.add_argument("--output", type=Path, default=Path("outputs/stream.mp4"))
    return parser.parse_args()


def main():
    args = parse_args()
    with loading("--checkpoint", args.checkpoint):
        pipe = VideoARPipeline.from_pretrained(args.checkpoint)
    pipe.to("cuda" if torch.cuda.is_available() else "cpu")
    generator = torch.Generator("cpu").manual_seed(args.seed)

    start = time.perf_counter()
    stream = pipe.stream(args.prompt, generator=generator)
    with stream, VideoWriter(args.output, fps=8, title=args.prompt) as writer:
        for chunk in stream:  # (1, F, H, W, 3) in [0, 1]: 1 frame, then 4 at a time, without end
            writer.write(chunk[0])
            print(f"{writer.num_frames} frames after {time.perf_counter() - start:.2f} s")
            if writer.num_frames >= args.num_frames:
                break
            if args.next_prompt is not None and writer.num_frames >= args.num_frames / 2:
                stream.set_prompt(args.next_prompt)
                args.next_prompt = None
    print(args.output)


if __name__ == "__main__":
    run_command_line(main)
