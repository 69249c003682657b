# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
What the transformer of InfinityStar takes for a small video of random weights, compared with its operations alone.

    python benchmarks/benchmark_infinitystar.py --device cpu --threads 1 --clock processor

A video of 17 frames of 256x256 (the first frame and one clip of four latent frames), eleven square scales, 64 text tokens, projected
guidance; the sizes are those of the reference's recorded runs A (one pass a scale) and D (three, as published). One row for each:

- `passes`, `tokens`: of the video, one guidance branch.
- `seconds`: of sampling, text included, decoding not.
- `operations`: seconds of nothing but the matrix products and attentions of all passes, on tensors of the same shapes.
- `x operations`: the one over the other.
"""

import torch
import torch.nn.functional as F
from measuring import (
    DTYPES,
    describe_machine,
    make_parser,
    make_random,
    median_seconds,
    print_table,
    set_up_torch,
    write_json,
)

from videoar_pipelines import InfinityStarScheduler, InfinityStarTransformer3DModel
from videoar_pipelines.pipelines.infinitystar.clip_sampler import ClipSampler, TextBranch
from videoar_pipelines.utils.command_line import run_command_line


SQUARE = [[side, side] for side in (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16)]
TRANSFORMERS = {
    "recorded": {
        "num_layers": 4,
        "num_attention_heads": 8,
        "attention_head_dim": 64,
        "num_key_value_heads": 2,
        "intermediate_size": 2048,
    },
    "tiny": {
        "num_layers": 1,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "num_key_value_heads": 1,
        "intermediate_size": 32,
    },
}
REPETITIONS = {"A": ([1] * 11, [1] * 11), "D": ([3] * 11, [3] * 9 + [2, 1])}
NUM_LATENT_FRAMES = 5
TEXT_LENGTH = 64


def parse_args(arguments=None):
    parser = make_parser(__doc__)
    parser.add_argument("--config", choices=TRANSFORMERS, default="recorded")
    parser.add_argument("--runs", nargs="+", choices=REPETITIONS, default=list(REPETITIONS))
    return parser.parse_args(arguments)


def make_clips(scheduler: InfinityStarScheduler):
    return scheduler.get_passes(NUM_LATENT_FRAMES, *SQUARE[-1])


def sample_video(transformer: InfinityStarTransformer3DModel, scheduler: InfinityStarScheduler, args) -> None:
    generator = torch.Generator(args.device).manual_seed(0)
    shape = (1, TEXT_LENGTH, transformer.config.text_embed_dim)
    text = torch.randn(shape, generator=generator, device=args.device)
    mask = torch.ones(shape[:2], dtype=torch.bool, device=args.device)
    branches = [TextBranch(text, mask), TextBranch(transformer.null_text_embeds(1, TEXT_LENGTH), mask)]
    sampler = ClipSampler(transformer, scheduler, make_clips(scheduler), scheduler.get_options(), branches, generator)
    while not sampler.has_ended:
        sampler.sample_clip()


def make_operations(transformer: InfinityStarTransformer3DModel, scheduler: InfinityStarScheduler):
    """A function that runs the matrix products and attentions of all passes, of both branches, and nothing else."""
    config, block = transformer.config, transformer.blocks[0]
    weights = [
        block.attn.to_q,
        block.attn.to_k,
        block.attn.to_v,
        block.attn.to_out[0],
        block.ff.net[0].proj,
        block.ff.net[2],
    ]
    weights = [layer.weight for layer in weights]
    device, dtype = weights[0].device, weights[0].dtype
    calls = []
    clips = make_clips(scheduler)
    for clip in clips:
        num_seen = TEXT_LENGTH + (clips[clip[0].clip - 1][-1].num_tokens if clip[0].clip > 0 else 0)
        calls += [(item.num_tokens, num_seen) for item in clip]
    calls.insert(0, (TEXT_LENGTH, 0))
    inputs = {
        (num_tokens, width): torch.randn(2, num_tokens, width, device=device).to(dtype)
        for num_tokens, _ in calls
        for width in {weight.shape[1] for weight in weights}
    }

    def heads(number: int, num_tokens: int) -> torch.Tensor:
        shape = (2, number, num_tokens, config.attention_head_dim)
        return torch.randn(shape, device=device).to(dtype)

    attended = {
        (num_tokens, num_seen): (
            heads(config.num_attention_heads, num_tokens),
            heads(config.num_key_value_heads, num_seen + num_tokens),
            heads(config.num_key_value_heads, num_seen + num_tokens),
        )
        for num_tokens, num_seen in calls
    }

    def run() -> None:
        for num_tokens, num_seen in calls:
            for _ in range(config.num_layers):
                for weight in weights:
                    F.linear(inputs[num_tokens, weight.shape[1]], weight)
                F.scaled_dot_product_attention(*attended[num_tokens, num_seen], enable_gqa=True)

    return run


@torch.no_grad()
def main(args):
    set_up_torch(args)
    transformer = make_random(
        InfinityStarTransformer3DModel, TRANSFORMERS[args.config], args.device, DTYPES[args.dtype]
    )
    results = {"machine": describe_machine(args), "rows": []}
    for run in args.runs:
        image, video = REPETITIONS[run]
        scheduler = InfinityStarScheduler(
            scale_schedules={"16x16": SQUARE}, image_repetitions=image, video_repetitions=video
        )
        passes = [item for clip in make_clips(scheduler) for item in clip]
        seconds = median_seconds(lambda: sample_video(transformer, scheduler, args), args)
        operations = median_seconds(make_operations(transformer, scheduler), args)
        results["rows"].append(
            {
                "run": run,
                "passes": len(passes),
                "tokens": sum(item.num_tokens for item in passes),
                "seconds": seconds,
                "operations": operations,
                "x operations": seconds / operations,
            }
        )
        write_json(args.output, results)
    print_table(results["rows"])


if __name__ == "__main__":
    run_command_line(main, parse_args)
