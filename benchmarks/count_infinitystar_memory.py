# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
How much memory a video of InfinityStar takes, counted without a GPU and without weights.

    python benchmarks/count_infinitystar_memory.py --sizes 480p 720p --seconds 5 10

The models are made on PyTorch's meta device, where tensors have shapes and no numbers. Every operation of the largest pass and of the
decoder is run there, and the bytes of all tensors that live at the same time are added up; the largest sum is the peak. It is what
PyTorch's allocator would report as allocated, without the workspace of kernels, the CUDA context (0.3 to 0.6 GB) and fragmentation.
One row for every combination:

- `weights`: of transformer and tokenizer, in the dtypes given; int8 and fp8 are one byte for every weight of a block's linear layers.
- `cache`: keys and values of the text and of one pass, of both guidance branches.
- `pass`: the peak of the largest pass beyond weights and cache.
- `decode`: the peak of decoding a clip beyond weights, states included.
- `total`: weights, cache, and the larger of `pass` and `decode`; 1 GB is 1e9 bytes.
"""

import itertools
from pathlib import Path

import torch
from measuring import LiveBytes, attend_without_weights, print_table, write_json

from videoar_pipelines import AutoencoderInfinityStar, InfinityStarScheduler, InfinityStarTransformer3DModel
from videoar_pipelines.models import transformer_infinitystar
from videoar_pipelines.schedulers.scheduling_infinitystar import PRESETS
from videoar_pipelines.utils.command_line import CommandLineParser, run_command_line


FRAMES_PER_SECOND = 16
LATENT_GRIDS = {"480p": (30, 53), "720p": (45, 80)}  # of 16:9
WEIGHTS = ("bfloat16", "int8")
TINY_TRANSFORMER = {
    "num_layers": 2,
    "num_attention_heads": 4,
    "attention_head_dim": 32,
    "num_key_value_heads": 2,
    "intermediate_size": 2048,
    "text_embed_dim": 48,
}
TINY_VAE = {"block_out_channels": (4, 8, 16, 16)}


def parse_args(arguments=None):
    parser = CommandLineParser(__doc__)
    parser.add_argument("--sizes", nargs="+", choices=LATENT_GRIDS, default=list(LATENT_GRIDS))
    parser.add_argument("--seconds", nargs="+", type=int, default=[5])
    parser.add_argument("--text_length", type=int, default=128, help="Text tokens.")
    parser.add_argument("--chunk_size", type=int, default=8192, help="Of the SwiGLU, where it is chunked.")
    parser.add_argument("--tiny", action="store_true", help="Tiny models, to try the script.")
    parser.add_argument("--output", type=Path, help="JSON file for the results.")
    return parser.parse_args(arguments)


def weight_bytes(model: torch.nn.Module, weights: str = "bfloat16") -> int:
    """Bytes of all parameters; with `int8`, of which the linear layers of the blocks have one byte, and two for every row."""
    kept = model._keep_in_fp32_modules or []
    total = 0
    for name, parameter in model.named_parameters():
        if weights != "bfloat16" and name.startswith("blocks.") and parameter.ndim == 2:
            total += parameter.numel() + 2 * len(parameter)
        else:
            total += parameter.numel() * (4 if any(module in name for module in kept) else 2)
    return total


@torch.no_grad()
def count_pass(transformer: InfinityStarTransformer3DModel, clips: list, text_length: int, is_sequential: bool):
    """Bytes of the caches before the largest pass, and its peak beyond them, guidance and sampling included."""
    scheduler = InfinityStarScheduler()
    largest = max((item for clip in clips for item in clip), key=lambda item: item.num_tokens)
    previous = clips[largest.clip - 1][-1] if largest.clip > 0 else None
    is_seen_again = largest.is_last_of_clip and largest.clip + 1 < len(clips)
    config = transformer.config
    batch_size = 1 if is_sequential else 2
    caches = [transformer.make_cache() for _ in range(2 // batch_size)]
    for kv_cache in caches:
        transformer.encode_text(torch.empty(batch_size, text_length, config.text_embed_dim), kv_cache)
        if previous is not None:
            inputs = torch.empty(batch_size, previous.num_tokens, config.in_channels)
            transformer(inputs, [previous], kv_cache=kv_cache, keep_map=True)
    cache_bytes = sum(kv_cache.num_bytes for kv_cache in caches)

    with LiveBytes() as live:
        sample = torch.empty(1, config.in_channels, *largest.grid)
        inputs = scheduler.scale_model_input(sample, largest)
        logits = []
        for kv_cache in caches:
            output = transformer(
                torch.cat([inputs] * batch_size), [largest], kv_cache=kv_cache, keep_map=is_seen_again
            ).logits[0]
            logits += output.chunk(batch_size)
        del output
        guided = scheduler.guide(*logits, largest, scheduler.get_options())
        scheduler.step(guided, largest, sample, noise=torch.empty_like(guided))
    return cache_bytes, live.peak


@torch.no_grad()
def count_decoding(vae: AutoencoderInfinityStar, grid: tuple[int, int], clips: list) -> int:
    """The peak of decoding the second clip, with the first frame; or the third one, with the state after the second."""

    def make_latents(number: int) -> torch.Tensor:
        num_frames = sum(clip[0].grid[0] for clip in clips[:2]) if number == 1 else clips[number][0].grid[0]
        return torch.empty(1, vae.config.latent_channels, num_frames, *grid)

    with LiveBytes() as live:
        if len(clips) == 2:
            vae.decode(make_latents(1))
        else:
            _, state = vae.decode_chunk(make_latents(1), return_dict=False)
            vae.decode_chunk(make_latents(2), state)
    return live.peak


def main(args):
    # Attention weights are never written out, so that flash attention is what is counted.
    attend, transformer_infinitystar.dispatch_attention_fn = (
        transformer_infinitystar.dispatch_attention_fn,
        attend_without_weights,
    )
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("meta"):
            transformer = InfinityStarTransformer3DModel(**(TINY_TRANSFORMER if args.tiny else {}))
            vae = AutoencoderInfinityStar(**(TINY_VAE if args.tiny else {}))
            rows = [row for size in args.sizes for row in count_size(transformer, vae, size, args)]
    finally:
        torch.set_default_dtype(torch.float32)
        transformer_infinitystar.dispatch_attention_fn = attend
    print_table(rows)
    write_json(args.output, {"arguments": {**vars(args), "output": str(args.output)}, "rows": rows})


def count_size(transformer: InfinityStarTransformer3DModel, vae: AutoencoderInfinityStar, size: str, args):
    """The rows of one size."""
    grid = LATENT_GRIDS[size]
    scheduler = InfinityStarScheduler(**PRESETS[size])
    for seconds in args.seconds:
        clips = scheduler.get_passes(seconds * FRAMES_PER_SECOND // 4 + 1, *grid)
        decoding = {}
        for is_tiled in (False, True):
            vae.use_tiling = is_tiled
            decoding[is_tiled] = count_decoding(vae, grid, clips)
        for is_sequential, is_chunked in itertools.product((False, True), (False, True)):
            if is_chunked:
                transformer.enable_forward_chunking(args.chunk_size)
            else:
                transformer.disable_forward_chunking()
            cache, largest_pass = count_pass(transformer, clips, args.text_length, is_sequential)
            for weights, is_tiled in itertools.product(WEIGHTS, (False, True)):
                model_bytes = weight_bytes(transformer, weights) + weight_bytes(vae)
                yield {
                    "size": size,
                    "seconds": seconds,
                    "branches": "in turn" if is_sequential else "together",
                    "SwiGLU": "chunked" if is_chunked else "whole",
                    "decoder": "tiled" if is_tiled else "whole",
                    "weights": weights,
                    "weights GB": model_bytes / 1e9,
                    "cache GB": cache / 1e9,
                    "pass GB": largest_pass / 1e9,
                    "decode GB": decoding[is_tiled] / 1e9,
                    "total GB": (model_bytes + cache + max(largest_pass, decoding[is_tiled])) / 1e9,
                }


if __name__ == "__main__":
    run_command_line(main, parse_args)
