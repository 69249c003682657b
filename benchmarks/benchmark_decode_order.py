# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
What the order of decoding costs: the same transformer, cache, guidance and dtype, with the step pattern of VideoAR and of other
autoregressive video models for 17 frames of 128x128. This isolates the order from engineering.

    python benchmarks/benchmark_decode_order.py --config L --device cpu

A pattern is the number of tokens of every step. Each step reads its tokens at once, attends to everything before and to its own
tokens, and writes them to the cache; sampling and the tokenizer's decoder are left out. One row for every pattern:

- `tokens`, `steps`: of a clip.
- `seconds`: of all steps. With `--method measured` every step of the pattern is run and timed. With `integrated` the cost of a
  step is measured for every number of tokens at `--cache_lengths` fill levels of the cache, interpolated between them, and summed
  over the pattern: long patterns take minutes instead of hours.
- `ms per step`, and `x frame and scale`: seconds over those of the first pattern.
"""

import itertools

import torch
from measuring import (
    CONFIGS,
    DTYPES,
    describe_machine,
    make_parser,
    make_random,
    median_seconds,
    print_table,
    refuse_graphs_without_cuda,
    set_up_torch,
    write_json,
)

from videoar_pipelines import VideoARTransformer3DModel
from videoar_pipelines.models.kv_cache import VideoARKVCache
from videoar_pipelines.models.quantization import default_scale_schedule
from videoar_pipelines.models.token_layout import video_token_ids
from videoar_pipelines.pipelines.cuda_graphs import CUDAGraphRunner, EagerRunner
from videoar_pipelines.utils.command_line import UsageError, run_command_line


FRAME_AND_SCALE = "frame and scale"
# Tokens of every step. The foreign grids are 16x16 tokens and 5 latent frames, as published for 17 frames of 128x128.
PATTERNS = {
    FRAME_AND_SCALE: [height * width for height, width in default_scale_schedule(8, 8)] * 5,
    "raster, same grid": [1] * 320,
    "row-parallel, 16x16 grid (NBP, PAR-16x)": [1] * 16 + [16] * 79,
    "PAR-4x, 16x16 grid": [1] * 4 + [4] * 319,
    "raster, 16x16 grid": [1] * 1280,
}


def parse_args(arguments=None):
    parser = make_parser(__doc__)
    parser.add_argument("--config", choices=CONFIGS, default="tiny")
    parser.add_argument("--patterns", nargs="+", choices=PATTERNS, default=list(PATTERNS))
    parser.add_argument("--method", choices=["integrated", "measured"], default="integrated")
    parser.add_argument("--cache_lengths", type=int, default=4, help="Fill levels at which a step is measured.")
    parser.add_argument("--batch_size", type=int, default=2, help="Sequences; 2 is one video with guidance.")
    parser.add_argument("--text_length", type=int, default=32)
    parser.add_argument(
        "--pack_linear_layers", action="store_true", help="Weights in oneDNN's layout; CPU, not compiled."
    )
    parser.add_argument("--compile", action="store_true", help="Compile the blocks.")
    parser.add_argument("--cuda_graphs", action="store_true", help="Replay every step as a CUDA graph.")
    args = parser.parse_args(arguments)
    refuse_graphs_without_cuda(args)
    if args.cuda_graphs and args.warm_ups == 0:
        raise UsageError("`--cuda_graphs` needs `--warm_ups` of at least 1: the first call of a step records it.")
    return args


class StepTimer:
    """
    Times steps of any number of tokens at any fill level of a cache.

    Args:
        transformer ([`VideoARTransformer3DModel`]): The model.
        args: Of the command line.
    """

    def __init__(self, transformer: VideoARTransformer3DModel, args):
        self.transformer = transformer
        self.args = args
        self.runner = CUDAGraphRunner() if args.cuda_graphs else EagerRunner()
        longest = max(sum(pattern) for pattern in PATTERNS.values())
        # One "frame" that holds the longest pattern: positions do not matter for time, and no ring is needed.
        self.kv_cache: VideoARKVCache = transformer.make_cache(args.batch_size, args.text_length, longest, 1)
        self.token_ids = video_token_ids(((longest, 1),), 1, device=args.device)
        self.inputs = torch.randn(args.batch_size, longest, transformer.config.in_channels, device=args.device)

    def run(self, num_tokens: int, num_before: int) -> torch.Tensor:
        """A step of `num_tokens` after `num_before` video tokens: its logits `(B, num_tokens, d)`."""
        self.kv_cache.cursor.length = self.args.text_length + num_before
        self.kv_cache.cursor.num_written = num_before
        inputs = (self.inputs[:, :num_tokens], self.token_ids[num_before : num_before + num_tokens])
        return self.runner.run(self.kv_cache, "step", self._step, *inputs)

    def _step(self, inputs: torch.Tensor, token_ids: torch.Tensor) -> torch.Tensor:
        return self.transformer(inputs, token_ids, kv_cache=self.kv_cache, return_dict=False)[0]

    def step_seconds(self, num_tokens: int, num_before: int) -> float:
        """Median duration of a step."""
        return median_seconds(lambda: self.run(num_tokens, num_before), self.args)

    def pattern_seconds(self, pattern: list[int]) -> float:
        """Median duration of all steps of a pattern, one after the other."""
        starts = [0, *itertools.accumulate(pattern)]

        def run_pattern() -> None:
            for num_tokens, start in zip(pattern, starts):
                self.run(num_tokens, start)

        return median_seconds(run_pattern, self.args)


def interpolate(position: float, points: list[tuple[float, float]]) -> float:
    """Piecewise linear through `points`, sorted by position; the outer pieces go on beyond the ends."""
    if len(points) == 1:
        return points[0][1]
    index = next((i for i in range(1, len(points) - 1) if position < points[i][0]), len(points) - 1)
    (left, low), (right, high) = points[index - 1], points[index]
    return low + (high - low) * (position - left) / (right - left)


def integrate(pattern: list[int], costs: dict[int, list[tuple[float, float]]]) -> float:
    """The sum of a pattern's step costs; `costs` holds, for every number of tokens, (tokens before, seconds)."""
    starts = [0, *itertools.accumulate(pattern)]
    return sum(interpolate(start, costs[num_tokens]) for num_tokens, start in zip(pattern, starts))


def measure_costs(
    timer: StepTimer, patterns: list[list[int]], num_levels: int
) -> dict[int, list[tuple[float, float]]]:
    """For every number of tokens that occurs, its cost at some of the fill levels at which it occurs."""
    starts: dict[int, set[int]] = {}
    for pattern in patterns:
        for num_tokens, start in zip(pattern, [0, *itertools.accumulate(pattern)]):
            starts.setdefault(num_tokens, set()).add(start)
    costs = {}
    for num_tokens, occurring in starts.items():
        occurring = sorted(occurring)
        count = min(num_levels, len(occurring))
        chosen = sorted({occurring[i * (len(occurring) - 1) // max(1, count - 1)] for i in range(count)})
        costs[num_tokens] = [(start, timer.step_seconds(num_tokens, start)) for start in chosen]
    return costs


@torch.no_grad()
def main(args):
    # 1. The model
    set_up_torch(args)
    transformer = make_random(VideoARTransformer3DModel, CONFIGS[args.config], args.device, DTYPES[args.dtype])
    transformer.fuse_qkv_projections()
    if args.pack_linear_layers:
        transformer.pack_linear_layers()
    if args.compile:
        transformer.compile_repeated_blocks(fullgraph=True, dynamic=True)
    timer = StepTimer(transformer, args)

    # 2. The patterns
    patterns = {name: PATTERNS[name] for name in PATTERNS if name in args.patterns}
    if args.method == "integrated":
        costs = measure_costs(timer, list(patterns.values()), args.cache_lengths)
        seconds = {name: integrate(pattern, costs) for name, pattern in patterns.items()}
    else:
        seconds = {name: timer.pattern_seconds(pattern) for name, pattern in patterns.items()}

    # 3. The table
    reference = next(iter(seconds.values()))
    rows = [
        {
            "pattern": name,
            "tokens": sum(patterns[name]),
            "steps": len(patterns[name]),
            "seconds": duration,
            "ms per step": 1000 * duration / len(patterns[name]),
            f"x {next(iter(seconds))}": duration / reference,
            "method": args.method,
        }
        for name, duration in seconds.items()
    ]
    machine = describe_machine(args)
    print(machine)
    print_table(rows)
    arguments = {name: value for name, value in vars(args).items() if name != "output"}
    write_json(args.output, {"machine": machine, "arguments": arguments, "rows": rows})


if __name__ == "__main__":
    run_command_line(main, parse_args)
