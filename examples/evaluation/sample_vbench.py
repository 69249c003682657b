# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Samples the videos that VBench's scorer looks at, under the names that it wants.

    git clone https://github.com/Vchitect/VBench
    accelerate launch examples/evaluation/sample_vbench.py --checkpoint runs/videoar/pipeline --vbench VBench --output_dir runs/vbench

Five videos for each of the 944 prompts, 25 for the 75 of temporal flickering: 6,220. Any number of processes writes the same files, and a
run that was stopped continues where it was. VBENCH.md says how they are scored.
"""

from videoar_pipelines.evaluation.vbench import DIMENSION_NAMES
from videoar_pipelines.evaluation.vbench_prompts import prompts_for, read_vbench_prompts
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
    parser.add_argument(
        "--vbench",
        required=True,
        help="Your copy of VBench: the repository, VBench_full_info.json, the folder prompts_per_dimension, or a table of a Hub"
        " data set (.jsonl, .parquet with `prompt_en` and `dimension`).",
    )
    parser.add_argument("--dimensions", nargs="+", choices=DIMENSION_NAMES, help="Only what these are scored on.")
    parser.add_argument(
        "--rewritten_prompts",
        help="Give the model these instead (VBench's augmented_prompts, or a JSON object from original to rewritten prompt); files"
        " keep the original names, as the scorer wants them.",
    )
    args = parser.parse_args(arguments)
    if args.format != "mp4":
        raise ValueError(f"`--format` is {args.format!r}: VBench's scorer reads mp4.")
    return args


def list_samples(args) -> list[Sample]:
    prompts = read_vbench_prompts(args.vbench, args.rewritten_prompts)
    if args.dimensions is not None:
        prompts = prompts_for(prompts, args.dimensions)
    return [
        Sample(
            prompt.file_name(number, suffix=""),
            prompt.text if prompt.rewritten is None else prompt.rewritten,
            {"vbench_prompt": prompt.text, "number": number, "dimensions": list(prompt.dimensions)},
        )
        for prompt in prompts
        for number in range(prompt.num_samples)
    ]


def main(args):
    share = ProcessShare.from_environment()
    samples = list_samples(args)
    pipe, options, settings = start_sampling(args, share)
    settings["rewritten_prompts"] = args.rewritten_prompts
    folder = SampleFolder(args.output_dir, samples, settings, args.seed, args.format, args.fps)
    sample_many(pipe, samples, folder, options, args.batch_size, share)


if __name__ == "__main__":
    run_command_line(main, parse_args)
