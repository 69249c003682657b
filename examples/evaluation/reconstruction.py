# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
# /// script
# dependencies = ["videoar_pipelines[evaluate]"]
# ///
"""
Scores a tokenizer: PSNR, SSIM, LPIPS where weights are given, and rFVD, for every number of scales kept, in one pass;
beside it FVD of the same clips frozen and shuffled.

    python examples/evaluation/reconstruction.py --checkpoint runs/tokenizer/vae --data data/ucf101 \
        --protocols ucf101-reconstruction-test

`accelerate launch` shares the work; what was measured is kept, and a run that was stopped continues.
"""

from pathlib import Path

from accelerate import PartialState

from videoar_pipelines import AutoencoderVideoAR, VideoARScheduler
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
from videoar_pipelines.evaluation.reconstruction import (
    Reconstruction,
    format_reconstructions,
    reconstruct_clips,
    score_anchors,
    score_reconstructions,
)
from videoar_pipelines.evaluation.scoring import describe_protocol, describe_unit
from videoar_pipelines.training.perceptual import PerceptualLoss
from videoar_pipelines.utils.command_line import CommandLineParser, run_command_line


def parse_args(arguments=None):
    parser = CommandLineParser(__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="A saved pipeline, or a saved tokenizer.")
    parser.add_argument(
        "--data", type=Path, required=True, help="UCF-101, a manifest, or a folder of videos or arrays."
    )
    parser.add_argument("--kept_scales", type=int, nargs="+", help="Numbers of scales to decode from (default: all).")
    parser.add_argument("--no_anchors", action="store_true", help="Leave out frozen and shuffled clips.")
    add_scoring_arguments(parser, default_protocol="any-17")
    add_perceptual_arguments(parser)
    args = parser.parse_args(arguments)
    refuse_flags(args, ("num_fake",), "there are no samples")
    return args


def load_tokenizer(checkpoint, device):
    """The tokenizer, and the scheduler that knows its scales: the pipeline's, else the default one."""
    is_pipeline = (checkpoint / "model_index.json").is_file()
    vae = AutoencoderVideoAR.from_pretrained(checkpoint, subfolder="vae" if is_pipeline else None)
    scheduler = (
        VideoARScheduler.from_pretrained(checkpoint, subfolder="scheduler") if is_pipeline else VideoARScheduler()
    )
    return vae.to(device).eval(), scheduler


def score(args, protocol):
    store, comparison = make_store(args, protocol), make_comparison(args, protocol)
    vae, scheduler = load_tokenizer(args.checkpoint, store.extractor.device)
    sides = (side // vae.spatial_compression_ratio for side in (protocol.clips.height, protocol.clips.width))
    schedule = scheduler.get_scale_schedule(*sides)
    kept_scales = tuple(args.kept_scales or range(1, len(schedule) + 1))
    perceptual, perceptual_name = load_perceptual(args, PerceptualLoss)
    reconstruction = Reconstruction(vae, schedule, kept_scales, perceptual, perceptual_name, protocol.clips.round_trip)

    clips = open_real_clips(args, args.data, protocol)
    cache = reconstruct_clips(clips, reconstruction, store)
    scores = score_reconstructions(cache, clips, reconstruction, comparison)
    anchors = {} if args.no_anchors else score_anchors(clips, store, comparison)
    results = {
        "protocol": protocol.to_dict(),
        "network_sha256": store.extractor.digest,
        "reconstruction": reconstruction.describe(),
        "sets": {"real": clips.describe() | {"left_out": clips.left_out}},
        "kept_scales": scores,
        "anchors": anchors,
    }
    return results, format_reconstructions(scores, anchors, describe_unit(protocol))


def main(args):
    everything = {"run": describe_run(args), "results": {}}
    for protocol, changes in load_protocols(args):
        results, lines = score(args, protocol)
        results["changed_by_flags"] = changes
        everything["results"][protocol.name] = results
        if PartialState().is_main_process:
            print(*lines, describe_protocol(protocol, results["network_sha256"]), sep="\n")
            details = results["reconstruction"]
            print(f"  tokenizer sha256 {details['tokenizer_sha256'][:12]}, scales {details['scale_schedule']}")
            print(
                f"  LPIPS {details['perceptual'] or 'not measured'}; seed {args.seed}, code {everything['run']['code']}"
            )
            if changes:
                print(f"  not comparable with {protocol.name}: changed {changes}")
            write_results(args.output_file, everything)


if __name__ == "__main__":
    run_command_line(main, parse_args)
