# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
# /// script
# dependencies = ["videoar_pipelines[evaluate]"]
# ///
"""
Scores samples against real clips under one or more protocols: FVD and KVD with intervals, floor, anchors and motion.

    python examples/evaluation/fvd.py --real data/ucf101 --samples runs/samples --protocols ucf101-tats ucf101-larp

Without `--samples` it prints what the real clips alone tell. A protocol that gives frames scores predictions per horizon:
`--samples` is then what `sample.py --given_frames 5 --keep_real_clips` wrote. `accelerate launch` shares the work; features
are kept, and a run that was stopped continues.
"""

from pathlib import Path

from accelerate import PartialState

from videoar_pipelines.evaluation.arguments import (
    add_perceptual_arguments,
    add_scoring_arguments,
    describe_run,
    load_perceptual,
    load_protocols,
    make_comparison,
    make_store,
    open_real_clips,
    refuse_flags,
    write_results,
)
from videoar_pipelines.evaluation.clips import describe_dump, open_samples
from videoar_pipelines.evaluation.prediction import format_predictions, measure_predictions, score_predictions
from videoar_pipelines.evaluation.scoring import (
    describe_protocol,
    describe_unit,
    format_scores,
    score_real_clips,
    score_samples,
)
from videoar_pipelines.training.perceptual import PerceptualLoss
from videoar_pipelines.utils.command_line import CommandLineParser, run_command_line


# Flags for the real clips of plain protocols: those of predictions are the clips that they continue.
CHOICES_OF_REAL_CLIPS = ("num_real", "split", "windows", "start", "group_column", "file_column", "no_anchors")
PERCEPTUAL_FLAGS = ("vgg_weights", "lpips_weights")


def parse_args(arguments=None):
    parser = CommandLineParser(__doc__)
    parser.add_argument(
        "--real", type=Path, help="UCF-101, a manifest, or a folder. Default for predictions: real/ of the samples."
    )
    parser.add_argument("--samples", type=Path, help="A dump of sample.py, a folder of videos or arrays, or an array.")
    parser.add_argument("--no_anchors", action="store_true", help="Leave out frozen and shuffled clips.")
    add_scoring_arguments(parser, default_protocol="any-17")
    add_perceptual_arguments(parser)
    args = parser.parse_args(arguments)
    if args.real is None and args.samples is None:
        parser.error("pass --real, or --samples with real/ in it")
    return args


def score(args, protocol):
    """The results under one protocol, and the lines that tell them."""
    store, comparison = make_store(args, protocol), make_comparison(args, protocol)
    results = {"protocol": protocol.to_dict(), "network_sha256": store.extractor.digest}
    samples = None
    if args.samples is not None:
        samples = open_samples(args.samples, protocol.clips, protocol.num_fake)
        results["samples_made_with"] = describe_dump(args.samples)
    if protocol.given_frames > 0:
        return score_given_frames(args, protocol, samples, store, comparison, results)

    if args.real is None:
        raise ValueError(f"The protocol {protocol.name!r} needs `--real`: the clips to score against.")
    real = open_real_clips(args, args.real, protocol)
    results["real_clips"] = score_real_clips(real, store, comparison, anchors=not args.no_anchors)
    if samples is not None:
        results["samples"] = score_samples(real, samples, store, comparison)
    results["sets"] = {"real": real.describe() | {"left_out": real.left_out}} | (
        {"samples": samples.describe()} if samples else {}
    )
    return results, format_scores(protocol, results)


def score_given_frames(args, protocol, samples, store, comparison, results):
    if samples is None:
        raise ValueError(f"The protocol {protocol.name!r} scores predictions: pass `--samples`.")
    # The whole clips that the predictions continue, in the same order and from their first frame.
    real = open_samples(args.real or args.samples / "real", protocol.real_clips, protocol.num_fake)
    perceptual, perceptual_name = load_perceptual(args, PerceptualLoss)
    errors = measure_predictions(real, samples, protocol.given_frames, store, perceptual, perceptual_name)
    results["prediction"] = score_predictions(real, samples, protocol, store, comparison, errors)
    results["sets"] = {"real": real.describe(), "samples": samples.describe()}
    return results, format_predictions(results["prediction"], describe_unit(protocol))


def main(args):
    protocols = load_protocols(args)
    are_predictions = [protocol.given_frames > 0 for protocol, _ in protocols]
    if all(are_predictions):
        refuse_flags(args, CHOICES_OF_REAL_CLIPS, "predictions are scored against the clips that they continue")
    if args.samples is None:
        refuse_flags(args, ("num_fake",), "there are no samples")
    if not any(are_predictions):
        refuse_flags(
            args, PERCEPTUAL_FLAGS, "LPIPS compares predictions with true frames, and no protocol gives frames"
        )
    everything = {"run": describe_run(args), "results": {}}
    for protocol, changes in protocols:
        results, lines = score(args, protocol)
        results["changed_by_flags"] = changes
        everything["results"][protocol.name] = results
        if PartialState().is_main_process:
            print(*lines, describe_protocol(protocol, results["network_sha256"]), sep="\n")
            print(f"  seed {args.seed}, code {everything['run']['code']}")
            if changes:
                print(f"  not comparable with {protocol.name}: changed {changes}")
            for key, value in results.get("samples_made_with", {}).items():
                print(f"  samples: {key} {value}")
            write_results(args.output_file, everything)


if __name__ == "__main__":
    run_command_line(main, parse_args)
