# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
How fast one 3x3x3 convolution of the tokenizer is in three forms, which compute the same: what the choice of
`models/causal_convolutions.py` rests on.

    python benchmarks/benchmark_convolutions.py --device cuda --dtype bfloat16 --cudnn_benchmark

For every layer of one clip, given as `IN:OUT:FRAMES:SIDE` (channels, frames, height and width), one row:

- `2D first`, `2D last`: the frames of a window as channels of a 2D convolution, channels first or last in memory; without making
  the windows.
- `window`: the copy that makes them, channels last. `3D` needs none.
- `3D`: a 3D convolution, channels last.

Each in ms, the median of `--repeats`, and the convolutions also in TFLOP/s.
"""

import functools

import torch
import torch.nn.functional as F
from measuring import (
    DTYPES,
    describe_machine,
    make_parser,
    median_seconds,
    print_table,
    set_up_torch,
    write_json,
)

from videoar_pipelines.utils.command_line import UsageError, run_command_line


# Of the paper's decoder for 17x128x128, fine to coarse.
PAPER_LAYERS = [
    "128:128:17:128",
    "256:128:17:128",
    "256:256:17:64",
    "512:256:17:64",
    "512:512:17:32",
    "512:512:9:16",
    "512:512:5:8",
]


def parse_args(arguments=None):
    parser = make_parser(__doc__)
    parser.add_argument("--layers", nargs="+", default=PAPER_LAYERS, metavar="IN:OUT:FRAMES:SIDE")
    args = parser.parse_args(arguments)
    for layer in args.layers:
        numbers = layer.split(":")
        if len(numbers) != 4 or not all(number.isdecimal() and int(number) > 0 for number in numbers):
            raise UsageError(
                f"`--layers {layer}` must be four positive numbers, IN:OUT:FRAMES:SIDE, such as 128:128:17:128."
            )
    return args


def make_windows(frames: torch.Tensor) -> torch.Tensor:
    """`(T + 2, H, W, C)` as windows of three frames, `(T, H, W, 3 * C)`."""
    num_windows = len(frames) - 2
    return torch.cat([frames[tap : tap + num_windows] for tap in range(3)], dim=-1)


@torch.no_grad()
def benchmark(layer: str, args) -> dict:
    """One row of the table."""
    in_channels, out_channels, num_frames, side = map(int, layer.split(":"))
    random = functools.partial(torch.randn, device=args.device, dtype=DTYPES[args.dtype])
    frames = random(num_frames + 2, side, side, in_channels)
    weight = random(out_channels, 3, 3, 3, in_channels)  # time, height and width before the channels
    bias = random(out_channels)

    windows = make_windows(frames).permute(0, 3, 1, 2)  # (T, 3 * C, H, W), channels last
    weight_2d = weight.permute(0, 1, 4, 2, 3).flatten(1, 2)
    images = {"2D first": torch.contiguous_format, "2D last": torch.channels_last}
    calls = {
        name: functools.partial(
            F.conv2d,
            windows.contiguous(memory_format=layout),
            weight_2d.contiguous(memory_format=layout),
            bias,
            padding=1,
        )
        for name, layout in images.items()
    }
    calls["window"] = functools.partial(make_windows, frames)
    volume, weight_3d = frames.permute(3, 0, 1, 2)[None], weight.permute(0, 4, 1, 2, 3)
    calls["3D"] = functools.partial(F.conv3d, volume, weight_3d, bias, padding=(0, 1, 1))

    flops = 2 * num_frames * side**2 * out_channels * weight[0].numel()
    row = {"layer": layer, "GFLOP": flops / 1e9}
    for name, call in calls.items():
        seconds = median_seconds(call, args)
        row[f"{name} ms"] = 1000 * seconds
        if name != "window":
            row[f"{name} TFLOP/s"] = flops / seconds / 1e12
    return row


def main(args):
    set_up_torch(args)
    results = {"machine": describe_machine(args), "arguments": {}, "rows": []}
    results["arguments"] = {name: value for name, value in vars(args).items() if name != "output"}
    print(results["machine"])
    for layer in args.layers:
        results["rows"].append(benchmark(layer, args))
        write_json(args.output, results)
    print_table(results["rows"])


if __name__ == "__main__":
    run_command_line(main, parse_args)
