# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
# /// script
# dependencies = ["videoar_pipelines[train]"]
# ///
"""
Samples videos to be scored: one dump that all protocols read.

    accelerate launch examples/evaluation/sample.py --checkpoint runs/ucf101/pipeline --ucf101_classes --num_samples 10000 \
        --output_dir runs/samples

It is no scorer; `fvd.py` is. A video depends on the checkpoint, the options, `--seed` and its number. Any number of processes writes the
same files, and a run that was stopped continues where it was.
"""

from pathlib import Path

from videoar_pipelines.data.clips import CLIP_STARTS, ClipSettings
from videoar_pipelines.data.sources import SPLITS, read_table
from videoar_pipelines.evaluation.sample_lists import (
    read_prompt_file,
    samples_of_files,
    samples_of_moving_shapes,
    samples_of_prompts,
    samples_of_ucf101_classes,
)
from videoar_pipelines.pipelines.many_samples import (
    ProcessShare,
    SampleFolder,
    add_sampling_arguments,
    sample_many,
    start_sampling,
)
from videoar_pipelines.utils.command_line import CommandLineParser, is_given, run_command_line


def parse_args(arguments=None):
    parser = CommandLineParser(__doc__)
    # Lossless: distances between sets of videos see what H.264 takes away.
    add_sampling_arguments(parser, video_format="npy")

    prompts = parser.add_argument_group("prompts: one of these")
    source = prompts.add_mutually_exclusive_group(required=True)
    source.add_argument("--prompts", type=Path, help="A text file, one prompt a line.")
    source.add_argument("--ucf101_classes", action="store_true", help="Captions of the classes of UCF-101, in turn.")
    source.add_argument("--data", help="The captions of a manifest, of a folder with UCF-101, or of 'moving_shapes'.")
    parser.add_argument("--num_samples", type=int, help="Default: one for each prompt or row.")

    data = parser.add_argument_group("with --data")
    data.add_argument("--split", choices=SPLITS, help="Default: train.")
    data.add_argument("--shuffle", action="store_true", help="Take the rows in an order drawn from --seed.")
    data.add_argument("--file_column", help="Column of a manifest (default: file).")
    data.add_argument("--caption_column", help="Column of a manifest (default: caption).")
    data.add_argument("--ucf101_fold", type=int, choices=(1, 2, 3), help="Pair of UCF-101's lists (default: 1).")
    data.add_argument("--given_frames", type=int, help="Continue the first frames of real clips: 1, 5, ... (4n+1).")
    data.add_argument(
        "--clip_fps", type=float, help="Frames per second to read real clips at; as stored if not given."
    )
    data.add_argument("--frame_stride", type=int, help="Instead of --clip_fps, take every so many-th frame.")
    data.add_argument("--clip_start", choices=CLIP_STARTS, help="Which part of a longer video (default: center).")
    data.add_argument("--keep_real_clips", action="store_true", help="Write the whole real clips to real/ too.")
    parser.set_defaults(condition_columns=None)  # a flag of the same room; conditions of frames are not read here
    args = parser.parse_args(arguments)
    check_args(args)
    return args


def check_args(args):
    if args.num_samples is not None and args.num_samples < 1:
        raise ValueError(f"`--num_samples` must be at least 1, but is {args.num_samples}.")
    if args.num_samples is None and (args.ucf101_classes or args.data == "moving_shapes"):
        raise ValueError("`--num_samples` is needed: neither classes nor moving shapes have a number of their own.")
    reading = ("clip_fps", "frame_stride", "clip_start", "keep_real_clips")
    for needed, given, flags in (
        ("--data", args.data, ("split", "shuffle", "file_column", "caption_column", "ucf101_fold", "given_frames")),
        ("--given_frames", args.given_frames, reading),
    ):
        in_vain = [flag for flag in flags if is_given(getattr(args, flag))]
        if in_vain and given is None:
            raise ValueError(f"`--{in_vain[0]}` has no effect without `{needed}`.")
    if args.data == "moving_shapes":
        of_files = ("shuffle", "file_column", "caption_column", "ucf101_fold", *reading[:3])
        in_vain = [flag for flag in of_files if is_given(getattr(args, flag))]
        if in_vain:
            raise ValueError(
                f"`--{in_vain[0]}` has no effect on moving shapes, which are drawn for each sample: leave it out."
            )
    if args.given_frames is not None and args.given_frames < 1:
        raise ValueError(f"`--given_frames` must be at least 1, but is {args.given_frames}.")


def list_samples(args, options):
    """The samples, and what reads the real clip of one, if `--data` was given."""
    if args.prompts is not None:
        return samples_of_prompts(read_prompt_file(args.prompts), args.num_samples), None
    if args.ucf101_classes:
        return samples_of_ucf101_classes(args.num_samples), None
    split = args.split or "train"
    num_frames, height, width = (options[name] for name in ("num_frames", "height", "width"))
    if args.data == "moving_shapes":
        split = "train" if split == "train" else "held_out"
        return samples_of_moving_shapes(args.num_samples, num_frames, height, width, split, args.seed)
    settings = ClipSettings(
        num_frames=num_frames,
        sizes=((height, width),),
        fps=args.clip_fps,
        frame_stride=args.frame_stride or 1,
        clip_start=args.clip_start or "center",
        seed=args.seed,
    )
    return samples_of_files(read_table(args, split), args.num_samples, settings, args.shuffle)


def main(args):
    share = ProcessShare.from_environment()
    pipe, options, settings = start_sampling(args, share)
    samples, read_clip = list_samples(args, options)
    if args.data is not None:
        settings |= {"data": args.data, "data_split": args.split or "train"}  # `split` would be a column of manifests
    if args.given_frames is not None:
        reading = {"clip_fps": args.clip_fps, "frame_stride": args.frame_stride or 1}
        settings |= {"given_frames": args.given_frames, "clip_start": args.clip_start or "center"} | reading
        settings |= {"keep_real_clips": args.keep_real_clips}
    folder = SampleFolder(args.output_dir, samples, settings, args.seed, args.format, args.fps)
    sample_many(
        pipe,
        samples,
        folder,
        options,
        args.batch_size,
        share,
        read_clip if args.given_frames is not None else None,
        args.given_frames or 0,
        args.keep_real_clips,
    )


if __name__ == "__main__":
    run_command_line(main, parse_args)
