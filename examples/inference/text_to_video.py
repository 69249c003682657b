# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Generate a video from a text, and write it as .mp4, as .gif and as a contact sheet of its frames.

    python examples/inference/text_to_video.py --prompt "a red circle moves to the right"
"""

import re
from pathlib import Path

import torch

from videoar_pipelines import VideoARPipeline
from videoar_pipelines.utils import save_contact_sheet, save_gif, save_video
from videoar_pipelines.utils.command_line import CommandLineParser, device, loading, run_command_line


REPOSITORY_ROOT = Path(__file__).resolve().parents[2]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def parse_args(arguments=None):
    parser = CommandLineParser("Generate a video from a text.")
    parser.add_argument(
        "--checkpoint",
        default="checkpoints/videoar-moving-shapes",
        help="Folder of a saved pipeline (also looked up from the root of this repository), or its id on the Hub.",
    )
    parser.add_argument("--prompt", required=True, help="What the video shows.")
    parser.add_argument("--negative_prompt", default=None, help="What guidance steers away from.")
    parser.add_argument("--num_frames", type=int, default=17, help="Pixel frames, 4n+1; 1 makes an image.")
    parser.add_argument("--height", type=int, help="Pixels, a multiple of 16. Default: the checkpoint's.")
    parser.add_argument("--width", type=int, help="Pixels, a multiple of 16. Default: the checkpoint's.")
    parser.add_argument("--guidance_scale", type=float, default=None, help="Default: what the checkpoint recommends.")
    parser.add_argument("--seed", type=int, default=0, help="The same seed gives the same video.")
    parser.add_argument("--fps", type=float, default=8, help="Frames per second of the files written.")
    parser.add_argument("--output_dir", type=Path, default=Path("outputs"))
    parser.add_argument(
        "--device", type=device, default="auto", help="`auto` takes a GPU where there is one; or `cpu`, `cuda:1`, ..."
    )
    parser.add_argument("--dtype", choices=["auto", *DTYPES], default="auto", help="`auto`: bfloat16 on GPUs.")
    return parser.parse_args(arguments)


def find_checkpoint(checkpoint):
    in_repository = REPOSITORY_ROOT / checkpoint
    return in_repository if not Path(checkpoint).exists() and in_repository.exists() else checkpoint


def main():
    args = parse_args()

    # 1. Load the pipeline
    device = ("cuda" if torch.cuda.is_available() else "cpu") if args.device == "auto" else args.device
    default_dtype = torch.float32 if device == "cpu" else torch.bfloat16
    dtype = DTYPES.get(args.dtype, default_dtype)
    with loading("--checkpoint", args.checkpoint):
        pipe = VideoARPipeline.from_pretrained(find_checkpoint(args.checkpoint), dtype=dtype).to(device)

    # 2. Generate
    video = pipe(
        prompt=args.prompt,
        negative_prompt=args.negative_prompt,
        num_frames=args.num_frames,
        height=args.height,
        width=args.width,
        guidance_scale=args.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(args.seed),
    ).frames[0]  # (F, H, W, 3) in [0, 1]

    # 3. Write the files, named after the prompt
    name = re.sub(r"\W+", "-", args.prompt.lower()).strip("-")[:60] or "video"
    path = args.output_dir / f"{name}-seed{args.seed}"
    save_video(video, f"{path}.mp4", args.fps, title=args.prompt)
    save_gif(video, f"{path}.gif", args.fps, title=args.prompt)
    save_contact_sheet([video], f"{path}.png", captions=[args.prompt])
    print(f"video:         {path}.mp4\nanimation:     {path}.gif\ncontact sheet: {path}.png")


if __name__ == "__main__":
    run_command_line(main)
