# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Time, memory and share of the hardware's rate of training the transformer, with random weights and random clips.

    python benchmarks/benchmark_training.py --config L --device cuda --mixed_precision bf16 --compile \
        --masks flex boolean --batch_sizes 16

A step is what `examples/text_to_video/train_text_to_video.py` does with a batch after tokenizer and text encoder: the mask,
forward, loss, backward, clipping, AdamW. For every mask and batch size, one row:

- `step ms`, `tokens/s` (text tokens counted), `clips/s`.
- `TFLOP`: operations of a step, three times those of the forward pass (`measuring.step_flops`), of which attention counts only
  the pairs that the mask lets through. Recomputation of gradient checkpointing does not count.
- `MFU`: `TFLOP` over `step ms`, as a share of the rate of a large matrix product measured in this run; `MFU of peak`: of
  `--peak_tflops`, the rate on the data sheet, if that is given.
- `peak GB`: on CUDA, of all tensors in a step; on a CPU, of the process so far.
"""

import torch
from measuring import (
    CONFIGS,
    DTYPES,
    describe_machine,
    make_parser,
    make_random,
    measure_rates,
    median_seconds,
    peak_memory_bytes,
    print_table,
    reset_peak_memory,
    set_up_torch,
    step_flops,
    write_json,
)

from videoar_pipelines import VideoARScheduler, VideoARTransformer3DModel
from videoar_pipelines.models.token_layout import SequenceLayout, block_causal_mask, sequence_layout
from videoar_pipelines.training.attention_masks import ATTENTIONS, backend_of, training_attention_mask
from videoar_pipelines.training.transformer_step import bit_cross_entropy
from videoar_pipelines.utils.command_line import run_command_line


def parse_args(arguments=None):
    parser = make_parser(__doc__)
    parser.add_argument("--config", choices=CONFIGS, default="tiny")
    parser.add_argument("--masks", nargs="+", choices=ATTENTIONS, default=["boolean"])
    parser.add_argument("--batch_sizes", nargs="+", type=int, default=[2], help="Clips at a time.")
    parser.add_argument("--num_latent_frames", type=int, default=5, help="5 for 17 pixel frames.")
    parser.add_argument("--latent_height", type=int, default=8, help="8 for 128 pixels.")
    parser.add_argument("--latent_width", type=int, default=8)
    parser.add_argument("--text_length", type=int, default=32, help="Text tokens, padding included.")
    parser.add_argument(
        "--mixed_precision", choices=["no", "bf16"], default="no", help="Autocast, weights as --dtype."
    )
    parser.add_argument("--compile", action="store_true", help="Compile the blocks.")
    parser.add_argument("--gradient_checkpointing", action="store_true")
    parser.add_argument("--peak_tflops", type=float, help="Rate on the data sheet, for `MFU of peak`.")
    return parser.parse_args(arguments)


def make_step(transformer: VideoARTransformer3DModel, layout: SequenceLayout, mask: str, batch_size: int, args):
    """A training step on a random batch, as a function without arguments."""
    config, device = transformer.config, args.device
    num_tokens = len(layout.video_ids)
    inputs = torch.randn(batch_size, num_tokens, config.in_channels, device=device)
    target_bits = torch.rand(batch_size, num_tokens, config.out_channels, device=device) < 0.5
    text = torch.randn(batch_size, args.text_length, config.text_embed_dim, device=device)
    text_mask = torch.ones(batch_size, args.text_length, dtype=torch.bool, device=device)
    parameters = list(transformer.parameters())
    optimizer = torch.optim.AdamW(parameters, 1e-4, (0.9, 0.95), fused=True)
    device_type = torch.device(device).type

    def step() -> None:
        attention_mask = training_attention_mask(layout, text_mask, mask)
        with torch.autocast(device_type, torch.bfloat16, enabled=args.mixed_precision == "bf16"):
            logits = transformer(
                inputs, layout.video_ids, text, text_mask, attention_mask=attention_mask, return_dict=False
            )[0]
        loss = bit_cross_entropy(logits, target_bits, layout.scale_schedule)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def benchmark(transformer: VideoARTransformer3DModel, mask: str, batch_size: int, rates: dict, args) -> dict:
    """One row of the table."""
    schedule = VideoARScheduler().get_scale_schedule(args.latent_height, args.latent_width)
    layout = sequence_layout(schedule, args.num_latent_frames, args.text_length, torch.device(args.device))
    transformer.set_attention_backend(backend_of(mask))
    reset_peak_memory(args.device)
    step = make_step(transformer, layout, mask, batch_size, args)
    seconds = median_seconds(step, args)

    num_tokens = len(layout.blocks)
    visible_share = block_causal_mask(layout.blocks, layout.blocks).float().mean().item()
    flops = 3 * step_flops(transformer, num_tokens, num_tokens, batch_size, visible_share)
    row = {
        "config": args.config,
        "mask": mask,
        "batch": batch_size,
        "step ms": 1000 * seconds,
        "tokens/s": batch_size * num_tokens / seconds,
        "clips/s": batch_size / seconds,
        "TFLOP": flops / 1e12,
        "MFU": flops / seconds / rates["gemm_flops_per_s"],
    }
    if args.peak_tflops is not None:
        row["MFU of peak"] = flops / seconds / args.peak_tflops / 1e12
    row["peak GB"] = peak_memory_bytes(args.device) / 1e9
    return row


def main(args):
    # 1. The machine
    set_up_torch(args)
    computed_in = torch.bfloat16 if args.mixed_precision == "bf16" else DTYPES[args.dtype]
    rates = measure_rates(computed_in, args)
    results = {"machine": describe_machine(args), "arguments": {}, "rates": rates, "rows": []}
    results["arguments"] = {name: value for name, value in vars(args).items() if name != "output"}
    print(f"{results['machine']}\nmatrix product {rates['gemm_flops_per_s'] / 1e12:.3g} TFLOP/s")

    # 2. Every mask and batch size; JSON is written after each row, so that a run cut short loses nothing
    transformer = make_random(VideoARTransformer3DModel, CONFIGS[args.config], args.device, DTYPES[args.dtype]).train()
    transformer.initialize_weights(torch.Generator(args.device).manual_seed(0))
    if args.gradient_checkpointing:
        transformer.enable_gradient_checkpointing()
    if args.compile:
        transformer.compile_repeated_blocks(fullgraph=True)
    for mask in args.masks:
        for batch_size in args.batch_sizes:
            results["rows"].append(benchmark(transformer, mask, batch_size, rates, args))
            write_json(args.output, results)
    print_table(results["rows"])


if __name__ == "__main__":
    run_command_line(main, parse_args)
