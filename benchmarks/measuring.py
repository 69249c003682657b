# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
What the benchmarks share: models of a named size with random weights, the rates of the machine measured in the same run, the
number of operations and bytes that a step needs at least, timing, and the output as a table and JSON.
"""

import argparse
import json
import platform
import resource
import statistics
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import T5Config, T5EncoderModel, T5TokenizerFast

from videoar_pipelines import (
    AutoencoderVideoAR,
    ModelMixin,
    VideoARPipeline,
    VideoARScheduler,
    VideoARTransformer3DModel,
)
from videoar_pipelines.models.quantization import ScaleSchedule
from videoar_pipelines.models.transformer_videoar import TRANSFORMER_CONFIGS
from videoar_pipelines.pipelines.frame_sampler import PromptStates
from videoar_pipelines.utils.command_line import CommandLineParser, UsageError, device


TINY_TRANSFORMER = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 32, "text_embed_dim": 64}
TINY_VAE = {
    "block_out_channels": (8, 8, 8),
    "layers_per_block": 1,
    "decoder_layers_per_block": 1,
    "temporal_kernel_sizes": (1, 1, 1, 2),
    "temporal_downsample": (False, False),
    "patch_size": 4,
    "temporal_patch_size": 4,
    "norm_type": "rms_norm",
    "resampling": "residual",
}
# Of the moving-shapes checkpoint, but for the bits of a token: 3 million parameters instead of the paper's 330.
SMALL_VAE = {
    **TINY_VAE,
    "block_out_channels": (128, 128, 128),
    "decoder_layers_per_block": 2,
}
TOKENIZERS = {"tiny": TINY_VAE, "small": SMALL_VAE, "paper": {}}
# flan-t5-xl, and one as wide as the text of the tiny transformer.
T5_XL = {
    "d_model": 2048,
    "d_kv": 64,
    "d_ff": 5120,
    "num_layers": 24,
    "num_heads": 32,
    "feed_forward_proj": "gated-gelu",
}
TINY_T5 = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 1, "num_heads": 4, "feed_forward_proj": "gated-gelu"}
CONFIGS = {"tiny": TINY_TRANSFORMER, **TRANSFORMER_CONFIGS}
# How to time on a CPU: the wall clock, or the processor time of this process, for a machine that does other things as well.
# Processor time adds up over threads: it goes with `--threads 1`.
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


# 1. Arguments


def refuse_graphs_without_cuda(args) -> None:
    """
    Raises:
        `UsageError`: `--cuda_graphs` on another device.
    """
    if args.cuda_graphs and torch.device(args.device).type != "cuda":
        raise UsageError(f"`--cuda_graphs` needs `--device cuda`, got {args.device}: pass that, or leave it out.")


def make_parser(description: str) -> argparse.ArgumentParser:
    """A parser with the flags that every benchmark has."""
    parser = CommandLineParser(description)
    parser.add_argument("--device", type=device, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--threads", type=int, help="CPU threads; PyTorch's choice when not given.")
    parser.add_argument(
        "--cudnn_benchmark",
        action="store_true",
        help="CUDA: try convolutions when they first run, and keep the fastest.",
    )
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="'processor' for one thread on a busy machine."
    )
    parser.add_argument("--repeats", type=int, default=5, help="Timed runs, of which the median counts.")
    parser.add_argument("--warm_ups", type=int, default=2, help="Runs before the timed ones.")
    parser.add_argument("--output", type=Path, help="JSON file for the results.")
    return parser


def set_up_torch(args) -> None:
    """Threads and the choice of convolutions, as the command line says."""
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    torch.backends.cudnn.benchmark = args.cudnn_benchmark


# 2. Models of random weights


def make_random(model_class: type[ModelMixin], config: dict, device: str, dtype: torch.dtype) -> ModelMixin:
    """A model with random weights, created where and as it is used."""
    previous_dtype = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return model_class(**config).eval()
    finally:
        torch.set_default_dtype(previous_dtype)


def make_pipeline(config: str, tokenizer: str, device: str, dtype: torch.dtype) -> VideoARPipeline:
    """A pipeline of random weights without a text encoder. `tokenizer` is one of `TOKENIZERS`."""
    pipeline = VideoARPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=make_random(AutoencoderVideoAR, TOKENIZERS[tokenizer], device, dtype),
        transformer=make_random(VideoARTransformer3DModel, CONFIGS[config], device, dtype),
        scheduler=VideoARScheduler(guidance_schedule="constant"),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def add_text_encoder(pipeline: VideoARPipeline, config: str) -> None:
    """
    A T5 encoder of random weights, of flan-t5-xl's size (a tiny one for the tiny transformer), with a tokenizer whose only word is
    "a", which is one token.
    """
    pieces = {"<pad>": 0.0, "</s>": 0.0, "<unk>": 0.0, "▁a": -1.0}
    with torch.device(pipeline.transformer.device):
        text_encoder = T5EncoderModel(T5Config(**(TINY_T5 if config == "tiny" else T5_XL)))
    pipeline.register_modules(
        tokenizer=T5TokenizerFast(vocab=list(pieces.items()), extra_ids=0),
        text_encoder=text_encoder.to(pipeline.transformer.dtype).eval(),
    )


# 3. What a step needs at least


def step_flops(
    transformer: VideoARTransformer3DModel, num_tokens: int, num_keys: int, batch_size: int, causal_share: float = 1.0
) -> int:
    """
    Floating-point operations of one forward pass: two for every weight of the blocks and every token, and four for every
    query, key and channel of the attention. Embeddings, norms and the output layer are not counted (under 1 % for L).

    Args:
        transformer ([`VideoARTransformer3DModel`]): The model.
        num_tokens (`int`): Tokens of a sequence in this pass.
        num_keys (`int`): Tokens that each of them attends to.
        batch_size (`int`): Sequences, both guidance branches counted.
        causal_share (`float`, defaults to 1.0): Share of the (query, key) pairs that is visible.
    """
    config = transformer.config
    weights = num_block_weights(transformer)
    width = config.num_attention_heads * config.attention_head_dim
    attention = 4 * width * config.num_layers * num_keys * causal_share
    return int(batch_size * num_tokens * (2 * weights + attention))


def step_bytes(
    transformer: VideoARTransformer3DModel, num_keys: int, batch_size: int, weight_bytes: int | None = None
) -> int:
    """
    Bytes that one forward pass has to read at least: every weight of the blocks, of `weight_bytes` each if they are quantised, and the
    keys and values.
    """
    config = transformer.config
    heads = config.num_key_value_heads or config.num_attention_heads
    cache = 2 * config.num_layers * num_keys * heads * config.attention_head_dim
    element_size = transformer.start_embedding.element_size()
    return num_block_weights(transformer) * (weight_bytes or element_size) + batch_size * cache * element_size


def num_block_weights(transformer: VideoARTransformer3DModel) -> int:
    """Numbers in the matrices of the blocks: queries and output, keys and values, and three of the SwiGLU."""
    config = transformer.config
    width = config.num_attention_heads * config.attention_head_dim
    key_value_width = (config.num_key_value_heads or config.num_attention_heads) * config.attention_head_dim
    intermediate_size = config.intermediate_size or 4 * width
    return config.num_layers * width * (2 * width + 2 * key_value_width + 3 * intermediate_size)


def cache_bytes(
    transformer: VideoARTransformer3DModel,
    batch_size: int,
    text_length: int,
    tokens_per_frame: int,
    num_latent_frames: int,
    window: int | None = None,
) -> int:
    """Bytes of keys and values: two times layers, sequences, tokens and channels. A window keeps its frames and the current one."""
    config = transformer.config
    slots = num_latent_frames if window is None else min(num_latent_frames, window + 1)
    channels = (config.num_key_value_heads or config.num_attention_heads) * config.attention_head_dim
    num_tokens = text_length + slots * tokens_per_frame + 1  # a spare one, which compiled blocks write
    element_size = transformer.start_embedding.element_size()
    return 2 * config.num_layers * batch_size * num_tokens * channels * element_size


def generation_steps(scale_schedule: ScaleSchedule, num_latent_frames: int, text_length: int) -> list[tuple[int, int]]:
    """Tokens and visible keys, those tokens included, of every step of a video without a window."""
    steps, num_keys = [], text_length
    for height, width in scale_schedule * num_latent_frames:
        num_keys += height * width
        steps.append((height * width, num_keys))
    return steps


# 4. Bytes of tensors without numbers


class LiveBytes(TorchDispatchMode):
    """
    Adds up the bytes of the storages that were made inside and still live, those that autograd saves included. On the meta device
    and in a `FakeTensorMode` tensors have shapes and no numbers, so models of any size can be counted.

    Attributes:
        now (`int`): Bytes that live.
        peak (`int`): The most that lived at the same time.
    """

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._known = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = {storage._cdata for storage in _storages((args, kwargs or {}))}
        output = function(*args, **(kwargs or {}))
        for storage in _storages(output):
            if storage._cdata not in given | self._known:  # no view of what was there before, such as a weight
                self._add(storage)
        return output

    def _add(self, storage: torch.UntypedStorage) -> None:
        self._known.add(storage._cdata)
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._remove, storage._cdata, storage.nbytes())

    def _remove(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def _storages(tree) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def attend_without_weights(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **kwargs) -> torch.Tensor:
    """In place of attention: its result. Flash attention makes nothing else that is as large."""
    return torch.empty_like(query)


# 5. What the machine can do


def measure_rates(dtype: torch.dtype, args) -> dict[str, float]:
    """
    The two rates that bound every step.

    Returns:
        `dict`: `gemm_flops_per_s`, of a large matrix product of random numbers, and `copy_bytes_per_s`, of a large copy,
        bytes read and written counted.
    """
    is_cuda = torch.device(args.device).type == "cuda"
    size = 8192 if is_cuda else 2048
    left, right = (torch.randn(size, size, device=args.device).to(dtype) for _ in range(2))
    gemm_seconds = fastest_seconds(lambda: left @ right, args)
    num_bytes = 2**31 if is_cuda else 2**28
    source = torch.randn(num_bytes // 4, device=args.device)
    target = torch.empty_like(source)
    copy_seconds = fastest_seconds(lambda: target.copy_(source), args)
    return {"gemm_flops_per_s": 2 * size**3 / gemm_seconds, "copy_bytes_per_s": 2 * num_bytes / copy_seconds}


def measure_convolution_rate(dtype: torch.dtype, args) -> float:
    """
    Operations a second of a 3x3 convolution of 512 channels, in the memory layout that is faster. On a CPU oneDNN's convolution can
    be faster than the matrix product, which is MKL's.
    """
    batch_size, side = (64, 64) if torch.device(args.device).type == "cuda" else (1, 48)
    images = torch.randn(batch_size, 512, side, side, device=args.device).to(dtype)
    weight = torch.randn(512, 512, 3, 3, device=args.device).to(dtype)
    seconds = []
    for layout in (torch.contiguous_format, torch.channels_last):
        inputs = images.to(memory_format=layout), weight.to(memory_format=layout)
        seconds.append(fastest_seconds(lambda: torch.nn.functional.conv2d(*inputs, padding=1), args))
    return 2 * batch_size * side**2 * 9 * 512**2 / min(seconds)


def synchronize(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def median_seconds(function: Callable[[], object], args) -> float:
    """Median duration of a call by the clock of the command line, work on the device included."""
    return statistics.median(_durations(function, args, args.warm_ups, args.repeats))


def first_seconds(function: Callable[[], object], args) -> float:
    """Duration of one call, without any before it: what it compiles, records and allocates counts."""
    return _durations(function, args, warm_ups=0, repeats=1)[0]


def fastest_seconds(function: Callable[[], object], args) -> float:
    """Shortest duration of twenty calls: of a limit, which what is slower for other reasons says nothing about."""
    return min(_durations(function, args, warm_ups=3, repeats=20))


def _durations(function: Callable[[], object], args, warm_ups: int, repeats: int) -> list[float]:
    clock = CLOCKS[args.clock]
    for _ in range(warm_ups):
        function()
    durations = []
    for _ in range(repeats):
        synchronize(args.device)
        start = clock()
        function()
        synchronize(args.device)
        durations.append(clock() - start)
    return durations


def reset_peak_memory(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats()


def peak_memory_bytes(device: str) -> int:
    """On CUDA, the most that tensors took since [`reset_peak_memory`]; on a CPU, the most that the process ever took."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def describe_machine(args) -> dict[str, str | int]:
    if torch.device(args.device).type == "cuda":
        name = torch.cuda.get_device_name()
    else:
        name = f"{platform.machine()} CPU, capability {torch.backends.cpu.get_cpu_capability()}"
    return {"device": name, "threads": torch.get_num_threads(), "clock": args.clock, "torch": torch.__version__}


# 6. Output


def print_table(rows: list[dict]) -> None:
    """Rows with the same keys as an aligned table; numbers with three digits that matter."""
    if not rows:
        return
    cells = [list(rows[0])] + [[format_cell(value) for value in row.values()] for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    for line in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths)))


def format_cell(value) -> str:
    return (
        f"{value:.3g}"
        if isinstance(value, float) and abs(value) < 1000
        else f"{value:.0f}"
        if isinstance(value, float)
        else str(value)
    )


def write_json(path: Path | None, results: dict) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results, indent=2) + "\n")


def random_text(
    transformer: VideoARTransformer3DModel,
    batch_size: int,
    num_tokens: int,
    has_unconditional_branch: bool = True,
    generator: torch.Generator | None = None,
) -> PromptStates:
    """Random text states for `batch_size` videos, without padding; the learned null text for the unconditional branch."""
    shape = (batch_size, num_tokens, transformer.config.text_embed_dim)
    states = torch.randn(shape, generator=generator, device=transformer.device, dtype=transformer.dtype)
    mask = torch.ones(shape[:2], dtype=torch.bool, device=transformer.device)
    null_text = transformer.null_text_embeds(batch_size, num_tokens) if has_unconditional_branch else None
    return PromptStates(states, null_text, mask, mask)
