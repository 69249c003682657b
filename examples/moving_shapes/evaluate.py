# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Scores a checkpoint on moving shapes: is what a prompt says what the pixels show? The judge is classical image analysis.

    python examples/moving_shapes/evaluate.py --checkpoint checkpoints/videoar-moving-shapes --output_file evaluation.json

1. Reconstruction: clips that training never drew go through the tokenizer; PSNR, and the judge's verdict per attribute.
2. Generation: prompts of trained and of never-trained combinations apart; the verdict for every attribute that the prompt
   names, and for all of them together.
"""

import json
import math
import multiprocessing
import random
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from videoar_pipelines import VideoARPipeline
from videoar_pipelines.moving_shapes.data_set import caption_for, draw_clip, render_clips
from videoar_pipelines.moving_shapes.judge import accuracy, judge
from videoar_pipelines.utils.command_line import CommandLineParser, device, loading, run_command_line
from videoar_pipelines.utils.files import complete_or_absent


def parse_args(arguments=None):
    parser = CommandLineParser(__doc__)
    parser.add_argument("--checkpoint", default="checkpoints/videoar-moving-shapes")
    parser.add_argument("--num_prompts", type=int, default=200, help="Prompts of each kind of combination.")
    parser.add_argument("--num_clips", type=int, default=200, help="Clips for the reconstruction.")
    parser.add_argument("--num_frames", type=int, default=17)
    parser.add_argument("--height", type=int, default=128)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--guidance_scale", type=float, help="Instead of the checkpoint's.")
    parser.add_argument("--temperature", type=float, help="Instead of the checkpoint's.")
    parser.add_argument("--top_p", type=float, help="Instead of the checkpoint's.")
    parser.add_argument("--refinements", type=int, nargs="*", help="Instead of the checkpoint's; no number: none.")
    parser.add_argument("--batch_size", type=int, default=20)
    parser.add_argument("--num_workers", type=int, default=2, help="Processes of the judge.")
    parser.add_argument("--device", type=device, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--seed", type=int, default=20260101, help="Of clips, captions and samples; not training's seed."
    )
    parser.add_argument("--output_file", type=Path, help="Where to write the numbers as JSON.")
    return parser.parse_args(arguments)


def use_one_thread() -> None:
    torch.set_num_threads(1)


def score(videos: list[torch.Tensor], expected: list[dict[str, str]], pool: ProcessPoolExecutor) -> dict[str, float]:
    """Share of right verdicts for every attribute, and for all that were asked for of a video."""
    return accuracy(list(pool.map(judge, videos, expected)))


@torch.no_grad()
def evaluate_reconstruction(pipe: VideoARPipeline, args, pool: ProcessPoolExecutor) -> dict[str, float]:
    """PSNR of the mean squared error over all clips, in dB, and the judge's scores."""
    clips = [draw_clip(index, args.seed, "all") for index in range(args.num_clips)]
    videos, errors = [], []
    for start in range(0, len(clips), args.batch_size):
        original = render_clips(
            clips[start : start + args.batch_size], args.num_frames, args.height, args.width, args.device
        )
        reconstruction = pipe.vae(original.to(pipe.vae.dtype)).sample.float()
        errors.append((reconstruction - original).square().mean(dim=(1, 2, 3, 4)).cpu())
        videos.extend(((reconstruction + 1) / 2).transpose(1, 2).cpu())
    scores = score(videos, [clip.attributes for clip in clips], pool)
    return {"psnr": 10 * math.log10(4 / torch.cat(errors).mean().item())} | scores


def evaluate_prompts(pipe: VideoARPipeline, split: str, args, pool: ProcessPoolExecutor) -> dict[str, float]:
    """Scores of videos sampled for prompts of a split; every video has its own generator."""
    clips = [draw_clip(index, args.seed, split) for index in range(args.num_prompts)]
    captions = [caption_for(clip, random.Random(f"{args.seed}-{index}")) for index, clip in enumerate(clips)]
    videos = []
    for start in range(0, len(clips), args.batch_size):
        batch = captions[start : start + args.batch_size]
        frames = pipe(
            [caption.text for caption in batch],
            num_frames=args.num_frames,
            height=args.height,
            width=args.width,
            guidance_scale=args.guidance_scale,
            temperature=args.temperature,
            top_p=args.top_p,
            refinements=args.refinements,
            generator=[torch.Generator().manual_seed(args.seed + start + index) for index in range(len(batch))],
            output_type="pt",
        ).frames
        videos.extend(frames.float().cpu())
    expected = [
        {attribute: clip.attributes[attribute] for attribute in caption.mentioned}
        for clip, caption in zip(clips, captions)
    ]
    return score(videos, expected, pool)


def main(args):
    with loading("--checkpoint", args.checkpoint):
        pipe = VideoARPipeline.from_pretrained(args.checkpoint).to(args.device)
    pipe.set_progress_bar_config(disable=True)
    # Fresh processes: a fork of a process whose thread pool has run can hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.num_workers, context, initializer=use_one_thread) as pool:
        results = {
            "reconstruction": evaluate_reconstruction(pipe, args, pool),
            "trained combinations": evaluate_prompts(pipe, "train", args, pool),
            "never-trained combinations": evaluate_prompts(pipe, "held_out", args, pool),
        }
    for name, scores in results.items():
        numbers = ", ".join(
            f"{key} {value:.2f} dB" if key == "psnr" else f"{key} {100 * value:.1f} %" for key, value in scores.items()
        )
        print(f"{name}: {numbers}")
    if args.output_file is not None:
        settings = {key: str(value) for key, value in vars(args).items()}
        with complete_or_absent(args.output_file) as temporary:
            temporary.write_text(json.dumps({"settings": settings, "results": results}, indent=2))


if __name__ == "__main__":
    run_command_line(main, parse_args)
