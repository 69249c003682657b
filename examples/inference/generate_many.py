# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Generates a video for every line of a text file, on as many GPUs as there are.

    accelerate launch examples/inference/generate_many.py --prompts prompts.txt --output_dir outputs/many \
        --checkpoint checkpoints/videoar-moving-shapes

Every process takes its share. Any number of processes writes the same files, and a run that was stopped continues where it was.
"""

import re
from pathlib import Path

from videoar_pipelines.evaluation.sample_lists import read_prompt_file
from videoar_pipelines.pipelines.many_samples import (
    ProcessShare,
    Sample,
    SampleFolder,
    add_sampling_arguments,
    sample_many,
    start_sampling,
)
from videoar_pipelines.utils.command_line import CommandLineParser, run_command_line


def parse_args(arguments=None):
    parser = CommandLineParser(__doc__)
    add_sampling_arguments(parser, video_format="mp4")
    parser.add_argument("--prompts", type=Path, required=True, help="A text file, one prompt a line.")
    parser.add_argument("--num_videos_per_prompt", type=int, default=1)
    args = parser.parse_args(arguments)
    if args.num_videos_per_prompt < 1:
        raise ValueError(f"`--num_videos_per_prompt` must be at least 1, but is {args.num_videos_per_prompt}.")
    return args


def file_name(index: int, number: int, prompt: str) -> str:
    words = re.sub(r"\W+", "-", prompt.lower()).strip("-")[:48].strip("-")
    return f"{index:05d}-{number}-{words}"


def main(args):
    share = ProcessShare.from_environment()
    samples = [
        Sample(file_name(index, number, prompt), prompt)
        for index, prompt in enumerate(read_prompt_file(args.prompts))
        for number in range(args.num_videos_per_prompt)
    ]
    pipe, options, settings = start_sampling(args, share)
    folder = SampleFolder(args.output_dir, samples, settings, args.seed, args.format, args.fps)
    sample_many(pipe, samples, folder, options, args.batch_size, share)


if __name__ == "__main__":
    run_command_line(main, parse_args)
