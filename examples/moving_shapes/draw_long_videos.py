# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Draws the two pictures of the docs on given frames and long videos, and writes the numbers behind the second one.

    python examples/moving_shapes/draw_long_videos.py --output_dir docs/images

1. `given_frames.png`: one prompt as text to video, with a given image, and as the continuation of a given clip.
2. `accuracy_over_time.svg` and `.json`: many times as long as the clips of training, is the video still what the prompt says?
   For both ways to make long videos, the share of videos in which everything that the prompt names is right, for every 17
   frames; in the numbers also for every attribute by itself.
"""

import json
from pathlib import Path

import torch

from videoar_pipelines import VideoARImageToVideoPipeline, VideoARPipeline, VideoARVideoToVideoPipeline
from videoar_pipelines.moving_shapes.data_set import canonical_caption, draw_clip, render_clips
from videoar_pipelines.moving_shapes.judge import accuracy, judge_windows
from videoar_pipelines.utils import save_contact_sheet, save_line_plot
from videoar_pipelines.utils.command_line import CommandLineParser, device, loading, run_command_line


def parse_args(arguments=None):
    parser = CommandLineParser(__doc__)
    parser.add_argument("--checkpoint", default="checkpoints/videoar-moving-shapes")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--num_prompts", type=int, default=50, help="Videos for each way.")
    parser.add_argument("--num_frames", type=int, default=205, help="Pixel frames of a long video, 4n+1.")
    parser.add_argument("--refinements", type=int, nargs="*", help="Instead of the checkpoint's; no number: none.")
    parser.add_argument("--batch_size", type=int, default=10)
    parser.add_argument("--device", type=device, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=20260101, help="Of clips and samples; not training's seed.")
    return parser.parse_args(arguments)


def draw_given_frames(pipe: VideoARPipeline, args) -> None:
    """Three rows: nothing given, one frame given, nine frames given; all of one clip that training never drew."""
    clip = draw_clip(0, args.seed, "train")
    prompt = canonical_caption(clip, mention_size=True)
    height, width = (
        side * pipe.vae_scale_factor_spatial
        for side in (pipe.transformer.config.sample_height, pipe.transformer.config.sample_width)
    )
    given = (render_clips([clip], 9, height, width)[0].transpose(0, 1) + 1) / 2  # (9, 3, H, W) in [0, 1]
    image_to_video = VideoARImageToVideoPipeline.from_pipe(pipe)
    continuation = VideoARVideoToVideoPipeline.from_pipe(pipe)
    generators = [torch.Generator().manual_seed(args.seed) for _ in range(3)]
    rows = {
        prompt: pipe(prompt, num_frames=17, generator=generators[0]).frames[0],
        f"{prompt} (first frame given)": image_to_video(
            given[0], prompt, num_frames=17, generator=generators[1]
        ).frames[0],
        f"{prompt} (first 9 frames given)": continuation(given, prompt, num_frames=17, generator=generators[2]).frames[
            0
        ],
    }
    save_contact_sheet(list(rows.values()), args.output_dir / "given_frames.png", list(rows))


def accuracy_over_time(pipe: VideoARPipeline, way: dict, args) -> dict[str, list[float]]:
    """For every attribute, and for all of them together, the share of videos that are right, in every 17 frames."""
    clips = [draw_clip(index, args.seed, "train") for index in range(args.num_prompts)]
    verdicts = []  # for every video, one for every 17 frames
    for start in range(0, len(clips), args.batch_size):
        batch = clips[start : start + args.batch_size]
        videos = pipe(
            [canonical_caption(clip, mention_size=True) for clip in batch],
            num_frames=args.num_frames,
            generator=[torch.Generator().manual_seed(args.seed + start + index) for index in range(len(batch))],
            refinements=args.refinements,
            output_type="pt",
            **way,
        ).frames
        for video, clip in zip(videos.float().cpu(), batch):
            verdicts.append(judge_windows(video, clip))
    scores = [accuracy(at_one_time) for at_one_time in zip(*verdicts)]
    return {name: [round(score[name], 3) for score in scores] for name in scores[0]}


def main(args):
    with loading("--checkpoint", args.checkpoint):
        pipe = VideoARPipeline.from_pretrained(args.checkpoint).to(args.device)
    pipe.set_progress_bar_config(disable=True)
    trained_length = pipe.transformer.config.sample_frames  # latent frames
    ways = {
        f"window of {trained_length - 1} latent frames": {"window": trained_length - 1},
        f"re-encoding every {trained_length} latent frames": {"reencode_at": trained_length},
    }
    args.output_dir.mkdir(parents=True, exist_ok=True)
    draw_given_frames(pipe, args)

    accuracies = {name: accuracy_over_time(pipe, way, args) for name, way in ways.items()}
    series = {
        name: ([17 * (index + 1) for index in range(len(shares["all"]))], shares["all"])
        for name, shares in accuracies.items()
    }
    save_line_plot(
        series,
        args.output_dir / "accuracy_over_time.svg",
        f"Is the video still what the prompt says? ({args.num_prompts} prompts)",
        "frame",
        "share of videos with everything right",
        y_range=(0, 1),
    )
    settings = {key: str(value) for key, value in vars(args).items()}
    numbers = json.dumps({"settings": settings, "accuracy of every 17 frames": accuracies}, indent=2)
    (args.output_dir / "accuracy_over_time.json").write_text(numbers + "\n")
    for name, shares in accuracies.items():
        print(
            f"{name}: first 17 frames {100 * shares['all'][0]:.0f} %, last 17 frames {100 * shares['all'][-1]:.0f} %"
        )


if __name__ == "__main__":
    run_command_line(main, parse_args)
