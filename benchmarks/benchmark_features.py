# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
How fast are the features of FVD, and how far is that from the hardware's limit?

    python benchmarks/benchmark_features.py --device cpu --threads 1 --clock processor

Random weights and random clips. Columns:
- `part`: the network alone; with the resizing to 224x224 and the measures of motion; and all of it from files, as `fvd.py` does.
- `ms per clip`, `clips per s`; and `min for 1000`, minutes for a thousand clips.
- `x flops`: the time over that of the network's operations at the rate of a large matrix product, measured in the same run. A
  convolution can be faster than the product, so this can be under one.
"""

import tempfile
from pathlib import Path

import torch
from measuring import (
    describe_machine,
    make_parser,
    measure_rates,
    median_seconds,
    print_table,
    set_up_torch,
    write_json,
)
from torch.utils.flop_counter import FlopCounterMode

from videoar_pipelines.evaluation.clips import open_clips
from videoar_pipelines.evaluation.features import FeatureExtractor, FeatureStore
from videoar_pipelines.evaluation.i3d import I3D, INPUT_SIZE
from videoar_pipelines.evaluation.motion import measure_motion
from videoar_pipelines.evaluation.protocols import ClipProtocol, NetworkProtocol
from videoar_pipelines.utils.command_line import run_command_line
from videoar_pipelines.utils.video_io import save_video


def parse_args(arguments=None):
    parser = make_parser(__doc__)
    parser.add_argument("--num_frames", type=int, default=16)
    parser.add_argument("--side", type=int, default=128, help="Height and width of the clips, in pixels.")
    parser.add_argument("--batch_size", type=int, default=4)
    args = parser.parse_args(arguments)
    if args.dtype != "float32":
        parser.error("features are in float32, as in every published FVD")
    return args


def make_files(args, folder):
    """As many clips as a batch has, of moving noise that H.264 can write small."""
    coarse = torch.rand(args.batch_size, 3, 4, 8, 8)
    clips = torch.nn.functional.interpolate(coarse, (args.num_frames, args.side, args.side), mode="trilinear")
    for index, clip in enumerate(clips):
        save_video(clip.permute(1, 2, 3, 0), folder / f"{index:06d}.mp4")


@torch.inference_mode()
def measure(args, folder):
    torch.manual_seed(0)
    network = I3D()
    extractor = FeatureExtractor(NetworkProtocol(), args.device, network=network)
    clips = torch.rand(args.batch_size, 3, args.num_frames, args.side, args.side, device=args.device) * 2 - 1
    large = torch.rand(args.batch_size, 3, args.num_frames, INPUT_SIZE, INPUT_SIZE, device=args.device) * 2 - 1
    with FlopCounterMode(display=False) as counter:
        network(large)
    flops = counter.get_total_flops() / args.batch_size

    make_files(args, folder)
    settings = ClipProtocol(args.num_frames, args.side, args.side, start="first")

    def compute_from_files():
        with tempfile.TemporaryDirectory() as cache:  # a new one, or nothing would be computed
            store = FeatureStore(extractor, Path(cache), batch_size=args.batch_size, progress=False)
            store.compute(open_clips(folder, settings))

    parts = {
        "network": lambda: network(large),
        "network, resizing, motion": lambda: (extractor(clips), measure_motion(clips)),
        "from files": compute_from_files,
    }
    rates = measure_rates(torch.float32, args)
    limit = flops / rates["gemm_flops_per_s"]
    rows = []
    for name, function in parts.items():
        seconds = median_seconds(function, args) / args.batch_size
        rows.append(
            {
                "part": name,
                "ms per clip": seconds * 1e3,
                "clips per s": 1 / seconds,
                "min for 1000": seconds * 1000 / 60,
                "x flops": seconds / limit,
            }
        )
    return {"gflop_per_clip": flops / 1e9, **rates}, rows


def main(args):
    set_up_torch(args)
    with tempfile.TemporaryDirectory() as folder:
        rates, rows = measure(args, Path(folder))
    machine = describe_machine(args)
    print(f"{machine['device']}, {machine['threads']} thread(s)")
    print(f"{args.num_frames} frames, {rates['gflop_per_clip']:.1f} GFLOP a clip")
    print_table(rows)
    settings = {key: str(value) for key, value in vars(args).items()}
    write_json(args.output, {"machine": machine, "settings": settings, "rates": rates, "rows": rows})


if __name__ == "__main__":
    run_command_line(main, parse_args)
