# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Time, memory and distance from the hardware's limit of generating a video, with random weights.

    python benchmarks/benchmark_generation.py --configs L --device cuda --dtype bfloat16 \
        --modes eager graphed compiled+graphed --batch_sizes 1 8 32

For every model size, mode and batch size, one row:

- `text ms`, `sample ms`, `decode ms`: writing the text to the cache; all steps of the video, guidance and sampling included;
  the tokenizer's decoder for the whole video. `decode share` is its part of the three.
- `first frame ms`: text, the first latent frame and its decoding, that is, the time until there are pixels.
- `ms per step`, `clips/s`: of `sample ms`.
- `first call ms`, `call ms`: with `--from_prompt`, what a user waits for: from the prompt to `uint8` frames in the memory of the
  host, tokenizer, text encoder and decoder included. The first call of the mode and batch size, which compiles and records what
  no row before it did, and the median of later ones.
- `streamed call ms`: the same through `pipe.stream(..., overlap_decoding=True)`, to the last chunk: on CUDA a latent frame is decoded
  while the next one is sampled.
- `peak GB`: on CUDA, of all tensors while sampling and decoding; on a CPU, of the process so far.
- `x flops`: `sample ms` over the time that the same operations take at the rate of a large matrix product, measured in this run; of
  float8 weights too, whose products may be faster.
- `x roofline`: `sample ms` over the sum, over the steps, of the larger of two times: the operations at that rate, and the bytes
  of weights and cache at the rate of a large copy, measured in this run.

The other times are without a text encoder: the text is `--text_length` random states. That of `--from_prompt` is as large as
flan-t5-xl, and its prompt has as many tokens.
"""

import functools
import importlib.util
import json

import numpy as np
import torch
from measuring import (
    CONFIGS,
    DTYPES,
    TOKENIZERS,
    add_text_encoder,
    describe_machine,
    first_seconds,
    generation_steps,
    make_parser,
    make_pipeline,
    measure_rates,
    median_seconds,
    peak_memory_bytes,
    print_table,
    random_text,
    reset_peak_memory,
    set_up_torch,
    step_bytes,
    step_flops,
    synchronize,
    write_json,
)

from videoar_pipelines import VideoARPipeline, VideoARTransformer3DModel
from videoar_pipelines.pipelines.frame_sampler import FrameSampler
from videoar_pipelines.utils.command_line import UsageError, run_command_line
from videoar_pipelines.utils.video_io import frames_to_uint8


MODES = ("eager", "graphed", "compiled", "compiled+graphed")
QUANTIZATIONS = ("int8", "fp8")


def parse_args(arguments=None):
    parser = make_parser(__doc__)
    parser.add_argument("--configs", nargs="+", choices=CONFIGS, default=["tiny"])
    parser.add_argument("--tokenizer", choices=TOKENIZERS, default="paper", help="Whose decoder is timed.")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=["eager"])
    parser.add_argument("--batch_sizes", nargs="+", type=int, default=[1], help="Videos at a time.")
    parser.add_argument("--num_frames", type=int, default=17, help="Pixel frames.")
    parser.add_argument("--height", type=int, default=128)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--text_length", type=int, default=32, help="Text tokens.")
    parser.add_argument("--guidance_scale", type=float, default=5.0, help="1 is off: one branch instead of two.")
    parser.add_argument(
        "--from_prompt", action="store_true", help="Also time whole calls, from the prompt to uint8 frames."
    )
    parser.add_argument("--attention_backend", help="One that diffusers knows, such as _native_flash.")
    parser.add_argument(
        "--compile_options",
        type=json.loads,
        help="JSON: `options` of torch.compile, such as '{\"aggressive_fusion\": true}'.",
    )
    parser.add_argument(
        "--quantize",
        choices=QUANTIZATIONS,
        help="The linear layers of the blocks, with torchao: 'int8' the weights alone, 'fp8' weights and inputs, a scale for every row.",
    )
    parser.add_argument(
        "--pack_linear_layers", action="store_true", help="Weights in oneDNN's layout; CPU, eager only."
    )
    args = parser.parse_args(arguments)
    if args.quantize == "fp8" and torch.device(args.device).type != "cuda":
        raise UsageError(
            f"`--quantize fp8` needs `--device cuda`, got {args.device}: pass that, or `--quantize int8`."
        )
    if args.quantize is not None and importlib.util.find_spec("torchao") is None:
        raise UsageError(
            f'`--quantize {args.quantize}` needs torchao: `pip install -e ".[quantization]"`, or leave it out.'
        )
    return args


def quantize_blocks(transformer: VideoARTransformer3DModel, name: str) -> None:
    """Stores the linear layers of the blocks as a quantisation of [`QUANTIZATIONS`]."""
    from torchao.quantization import (  # optional
        Float8DynamicActivationFloat8WeightConfig,
        Int8WeightOnlyConfig,
        PerRow,
        quantize_,
    )

    if name == "int8":
        quantize_(transformer.blocks, Int8WeightOnlyConfig())
    else:
        quantize_(transformer.blocks, Float8DynamicActivationFloat8WeightConfig(granularity=PerRow()))


def open_sampler(pipeline: VideoARPipeline, batch_size: int, args, seed: int = 0) -> FrameSampler:
    """A sampler whose text is random states, before its first frame."""
    num_latent_frames = (args.num_frames - 1) // pipeline.vae_scale_factor_temporal + 1
    latent_size = (args.height // pipeline.vae_scale_factor_spatial, args.width // pipeline.vae_scale_factor_spatial)
    generator = torch.Generator(pipeline.transformer.device).manual_seed(seed)
    return FrameSampler(
        pipeline.transformer,
        pipeline.scheduler,
        pipeline.vae,
        random_text(pipeline.transformer, batch_size, args.text_length, args.guidance_scale > 1, generator),
        pipeline.scheduler.sampling_options(args.guidance_scale),
        pipeline.scheduler.get_scale_schedule(*latent_size),
        num_frames=num_latent_frames,
        generator=generator,
        runner=pipeline._runner,
    )


def sample(sampler: FrameSampler) -> torch.Tensor:
    """All latent frames `(B, d, T, H', W')`, from the first on, with the text that is there."""
    sampler.start_over()
    return torch.stack([sampler.sample_frame() for _ in range(sampler.num_frames)], dim=2)


def sample_first_chunk(pipeline: VideoARPipeline, batch_size: int, args) -> torch.Tensor:
    """Pixels of the first latent frame, from the text on."""
    sampler = open_sampler(pipeline, batch_size, args)
    latents = sampler.sample_frame()[:, :, None]
    pixels, _ = pipeline._runner.decode_chunk(pipeline.vae, latents, None)
    sampler.close()
    return pixels


def make_frames(pipeline: VideoARPipeline, batch_size: int, args, is_streamed: bool = False) -> list[np.ndarray]:
    """
    Videos `(F, H, W, 3)`, `uint8`, of prompts of `--text_length` tokens, the one that ends a text included. Streamed, a latent frame is
    decoded while the next one is sampled.
    """
    arguments = {
        "prompt": [" ".join(["a"] * (args.text_length - 1))] * batch_size,
        "height": args.height,
        "width": args.width,
        "num_frames": args.num_frames,
        "guidance_scale": args.guidance_scale,
        "generator": torch.Generator(pipeline.transformer.device).manual_seed(0),
    }
    if is_streamed:
        videos = np.concatenate(list(pipeline.stream(**arguments, overlap_decoding=True)), axis=1)
    else:
        videos = pipeline(**arguments).frames
    return [frames_to_uint8(video) for video in videos]


def time_calls(pipeline: VideoARPipeline, batch_size: int, args) -> dict[str, float]:
    """Columns of the whole calls; none without `--from_prompt`. To be run before all else of a row."""
    if not args.from_prompt:
        return {}
    call = functools.partial(make_frames, pipeline, batch_size, args)
    streamed_call = functools.partial(make_frames, pipeline, batch_size, args, is_streamed=True)
    return {
        "first call ms": 1000 * first_seconds(call, args),
        "call ms": 1000 * median_seconds(call, args),
        "streamed call ms": 1000 * median_seconds(streamed_call, args),
    }


def time_parts(pipeline: VideoARPipeline, batch_size: int, args) -> dict[str, float]:
    """Seconds of the parts of a generation, and bytes of memory."""
    timed = functools.partial(median_seconds, args=args)
    reset_peak_memory(args.device)
    sampler = open_sampler(pipeline, batch_size, args)
    latents = sample(sampler)  # compiles and records
    parts = {"sample": timed(lambda: sample(sampler))}
    parts["sample memory"] = peak_memory_bytes(args.device)
    parts["decode"] = timed(lambda: pipeline._runner.decode_chunk(pipeline.vae, latents, None))
    parts["peak memory"] = peak_memory_bytes(args.device)

    def write_text() -> None:
        sampler.start_over()
        sampler.write_text(sampler.text)

    parts["text"] = timed(write_text)
    sampler.close()
    return parts


@torch.no_grad()
def benchmark(pipeline: VideoARPipeline, config: str, mode: str, batch_size: int, rates: dict, args) -> dict:
    """One row of the table. The pipeline is compiled and graphed already, as `mode` says."""
    calls = time_calls(pipeline, batch_size, args)
    parts = time_parts(pipeline, batch_size, args)
    first_frame_seconds = median_seconds(lambda: sample_first_chunk(pipeline, batch_size, args), args)

    transformer = pipeline.transformer
    latent_size = (args.height // pipeline.vae_scale_factor_spatial, args.width // pipeline.vae_scale_factor_spatial)
    schedule = pipeline.scheduler.get_scale_schedule(*latent_size)
    branches = batch_size * (2 if args.guidance_scale > 1 else 1)
    num_latent_frames = (args.num_frames - 1) // pipeline.vae_scale_factor_temporal + 1
    steps = generation_steps(schedule, num_latent_frames, args.text_length)
    flops = [step_flops(transformer, num_tokens, num_keys, branches) for num_tokens, num_keys in steps]
    weight_bytes = None if args.quantize is None else 1
    bytes_read = [step_bytes(transformer, num_keys, branches, weight_bytes) for _, num_keys in steps]
    flops_seconds = sum(flops) / rates["gemm_flops_per_s"]
    roofline_seconds = sum(
        max(operations / rates["gemm_flops_per_s"], size / rates["copy_bytes_per_s"])
        for operations, size in zip(flops, bytes_read)
    )
    return {
        "config": config,
        "mode": mode,
        "batch": batch_size,
        "text ms": 1000 * parts["text"],
        "sample ms": 1000 * parts["sample"],
        "decode ms": 1000 * parts["decode"],
        "first frame ms": 1000 * first_frame_seconds,
        **calls,
        "decode share": parts["decode"] / (parts["text"] + parts["sample"] + parts["decode"]),
        "ms per step": 1000 * parts["sample"] / len(steps),
        "clips/s": batch_size / parts["sample"],
        "tokens": sum(num_tokens for num_tokens, _ in steps),
        "TFLOP": sum(flops) / 1e12,
        "sample GB": parts["sample memory"] / 1e9,
        "peak GB": parts["peak memory"] / 1e9,
        "x flops": parts["sample"] / flops_seconds,
        "x roofline": parts["sample"] / roofline_seconds,
    }


@torch.no_grad()
def main(args):
    # 1. The machine
    set_up_torch(args)
    dtype = DTYPES[args.dtype]
    rates = measure_rates(dtype, args)
    results = {"machine": describe_machine(args), "arguments": {}, "rates": rates, "rows": []}
    results["arguments"] = {name: value for name, value in vars(args).items() if name != "output"}
    print(f"{results['machine']}\nmatrix product {rates['gemm_flops_per_s'] / 1e12:.3g} TFLOP/s, ", end="")
    print(f"copy {rates['copy_bytes_per_s'] / 1e9:.4g} GB/s")

    # 2. Every size, mode and batch size; JSON is written after each row, so that a run cut short loses nothing
    for config in args.configs:
        pipeline = make_pipeline(config, args.tokenizer, args.device, dtype)
        if args.from_prompt:
            add_text_encoder(pipeline, config)
        pipeline.transformer.fuse_qkv_projections()
        if torch.device(args.device).type == "cuda":
            pipeline.vae.to(memory_format=torch.channels_last_3d)
        if args.quantize is not None:
            quantize_blocks(pipeline.transformer, args.quantize)
        if args.attention_backend is not None:
            pipeline.transformer.set_attention_backend(args.attention_backend)
        if args.pack_linear_layers:
            pipeline.transformer.pack_linear_layers()
        is_compiled = False
        for mode in sorted(args.modes, key=MODES.index):
            if "compiled" in mode and not is_compiled:
                pipeline.transformer.compile_repeated_blocks(
                    fullgraph=True, dynamic=True, options=args.compile_options
                )
                pipeline.vae.compile_repeated_blocks(fullgraph=True, dynamic=True)
                is_compiled = True
            if "graphed" in mode:
                pipeline.enable_cuda_graphs()
            else:
                pipeline.disable_cuda_graphs()
            for batch_size in args.batch_sizes:
                results["rows"].append(benchmark(pipeline, config, mode, batch_size, rates, args))
                write_json(args.output, results)
        del pipeline
        synchronize(args.device)
    print_table(results["rows"])


if __name__ == "__main__":
    run_command_line(main, parse_args)
