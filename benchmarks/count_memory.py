# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
How much memory VideoAR-L, XL and 4B take to generate and to train, and the least time that a clip takes, counted without a GPU and
without weights. It writes the tables of `docs/memory_and_time.md`.

    python benchmarks/count_memory.py --output benchmarks/results/memory-counted.json --page docs/memory_and_time.md

The models are made of tensors that have shapes and no numbers. Every operation of the largest step of a video, of its decoding, or of a
training step is run on them, and the bytes of all tensors that live at the same time are added up; the largest sum is the peak. It is
what PyTorch's allocator would report as allocated, without the workspace of kernels, the CUDA context and fragmentation. GB are 1e9
bytes, and a GPU of "24 GB" counts as 24e9 of its 25.8e9 bytes: the rest is for what is not counted. Blocks are alike and so are
clips, so models of one and of two blocks are counted with a few clips, and the rest follows on straight lines.

A row of `generation`, bfloat16, both guidance branches, the text encoder freed: `weights` of transformer and tokenizer; for a video
`cache`, `step` (the peak of the last and largest step) and `decode` (of the decoder; `tiled`); `videos` at once on each GPU.

A row of `training`, bfloat16 autocast, gradient checkpointing, blocks that are not compiled: `state` (weights, two moments, average;
frozen tokenizer and text encoder), `peak` at several batch sizes, gradients included; `clips` at once on each GPU. `sharded` is the
same with everything but the frozen models shared by eight GPUs. `LoRA` has frozen weights in bfloat16.
"""

import bisect
import contextlib
import itertools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from measuring import (
    CONFIGS,
    T5_XL,
    LiveBytes,
    attend_without_weights,
    cache_bytes,
    generation_steps,
    make_random,
    print_table,
    step_bytes,
    step_flops,
    write_json,
)
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode
from transformers import T5Config, T5EncoderModel

from videoar_pipelines import AutoencoderVideoAR, VideoARScheduler, VideoARTransformer3DModel
from videoar_pipelines.models import transformer_videoar
from videoar_pipelines.models.quantization import tokens_per_frame
from videoar_pipelines.models.token_layout import sequence_layout, video_token_ids
from videoar_pipelines.pipelines.frame_sampler import DECODED_TOGETHER
from videoar_pipelines.utils.command_line import CommandLineParser, UsageError, run_command_line
from videoar_pipelines.utils.files import complete_or_absent


MODELS = ("L", "XL", "4B")
# Pixel frames, height, width: UCF-101, the first and the last stage of training.
VIDEOS = {"17x128x128": (17, 128, 128), "17x256x256": (17, 256, 256), "33x384x672": (33, 384, 672)}
# Memory, and from the data sheet: dense bfloat16 operations with float32 sums and bytes read, both a second.
GPUS = {
    "24 GB": ("RTX 4090", 24e9, 165e12, 1.01e12),
    "48 GB": ("L40S", 48e9, 362e12, 0.86e12),
    "80 GB": ("H100 SXM", 80e9, 989e12, 3.35e12),
}
TEXT_LENGTH = 32
COUNTED_CLIPS = (4, 8)
SHOWN_CLIPS = (1, 8, 32)
PROCESSES = 8
BYTES_OF_STATE = 16  # of a trained weight: itself, two moments, average; float32
TRAINING_RATE = 0.4  # of a GPU's dense bfloat16 rate; 0.48 measured without checkpointing on an H200
LORA_RANK = 16  # on all linear layers of the blocks, as `train_text_to_video_lora.py` puts them


def parse_args(arguments=None):
    parser = CommandLineParser(__doc__)
    parser.add_argument("--models", nargs="+", choices=CONFIGS, default=list(MODELS))
    parser.add_argument("--videos", nargs="+", choices=VIDEOS, default=list(VIDEOS))
    parser.add_argument("--output", type=Path, help="JSON file for the results.")
    parser.add_argument("--page", type=Path, help="Markdown file whose tables are written anew.")
    return parser.parse_args(arguments)


# 1. Generation


@contextlib.contextmanager
def bfloat16_on_meta():
    """New tensors are in bfloat16 and without numbers, and attention makes nothing but its result."""
    attend, transformer_videoar.dispatch_attention_fn = (
        transformer_videoar.dispatch_attention_fn,
        attend_without_weights,
    )
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("meta"), torch.no_grad():
            yield
    finally:
        torch.set_default_dtype(torch.float32)
        transformer_videoar.dispatch_attention_fn = attend


def num_bytes(model: torch.nn.Module) -> int:
    return sum(parameter.nbytes for parameter in model.parameters())


def grids(video: str) -> tuple[int, tuple[tuple[int, int], ...]]:
    """Latent frames and scales of a video."""
    num_frames, height, width = VIDEOS[video]
    return 1 + (num_frames - 1) // 4, VideoARScheduler().get_scale_schedule(height // 16, width // 16)


def count_step(model: str, video: str) -> int:
    """The peak of the last step, that of the finest scale, guidance and sampling included. One block makes what all of them make."""
    num_frames, schedule = grids(video)
    transformer = VideoARTransformer3DModel(**{**CONFIGS[model], "num_layers": 1})
    scheduler = VideoARScheduler()
    step = scheduler.frame_steps(num_frames - 1, schedule)[-1]
    sample = torch.empty(1, transformer.config.out_channels, *schedule[-1], dtype=torch.float32)
    kv_cache = transformer.make_cache(2, TEXT_LENGTH, tokens_per_frame(schedule), num_frames)
    cursor = kv_cache.cursor
    cursor.length = cursor.num_written = TEXT_LENGTH + num_frames * tokens_per_frame(schedule) - step.num_tokens
    token_ids = video_token_ids(schedule, 1, num_frames - 1, "meta")[-step.num_tokens :]
    with LiveBytes() as live:
        inputs = scheduler.scale_model_input(sample, step, sample)
        logits = transformer(torch.cat([inputs, inputs]), token_ids, kv_cache=kv_cache, return_dict=False)[0].float()
        conditional, unconditional = logits.chunk(2)
        logits = unconditional + 5.0 * (conditional - unconditional)
        noise = torch.empty(logits.shape, dtype=torch.float32)
        scheduler.step(logits, step, sample, noise=noise, options=scheduler.sampling_options())
    return live.peak


def count_decoding(vae: AutoencoderVideoAR, video: str) -> int:
    """The peak of decoding as a pipeline does, five latent frames at a time, beyond the weights; the frames so far included."""
    num_frames, schedule = grids(video)
    with LiveBytes() as live:
        latents = torch.empty(1, vae.config.latent_channels, num_frames, *schedule[-1])
        frames, state = [], None
        for chunk in latents.split(DECODED_TOGETHER, dim=2):
            pixels, state = vae.decode_chunk(chunk, state, return_dict=False)
            frames.append(pixels)
        torch.cat(frames, dim=2)
    return live.peak


def decoder_flops(vae: AutoencoderVideoAR, video: str) -> int:
    num_frames, schedule = grids(video)
    with FlopCounterMode(display=False) as counter:
        vae.decode(torch.empty(1, vae.config.latent_channels, num_frames, *schedule[-1]))
    return counter.get_total_flops()


def limit_seconds(transformer: VideoARTransformer3DModel, video: str, flops_of_decoder: int, gpu: str) -> float:
    """The larger of operations and bytes of every step at the data sheet's rates, and the operations of decoding."""
    num_frames, schedule = grids(video)
    _, _, flops_per_second, bytes_per_second = GPUS[gpu]
    steps = generation_steps(schedule, num_frames, TEXT_LENGTH)
    sampling = sum(
        max(
            step_flops(transformer, num_tokens, num_keys, 2) / flops_per_second,
            step_bytes(transformer, num_keys, 2) / bytes_per_second,
        )
        for num_tokens, num_keys in steps
    )
    return sampling + flops_of_decoder / flops_per_second


def count_generation(args) -> list[dict]:
    rows = []
    with bfloat16_on_meta():
        vae = AutoencoderVideoAR()
        decoding = {}
        for video in args.videos:
            vae.disable_tiling()
            whole, flops = count_decoding(vae, video), decoder_flops(vae, video)
            vae.enable_tiling()
            decoding[video] = (whole, count_decoding(vae, video), flops)
        transformers = {model: VideoARTransformer3DModel(**CONFIGS[model]) for model in args.models}
        for (model, transformer), video in itertools.product(transformers.items(), args.videos):
            num_frames, schedule = grids(video)
            whole, tiled, flops = decoding[video]
            weights = num_bytes(transformer) + num_bytes(vae)
            cache = cache_bytes(transformer, 2, TEXT_LENGTH, tokens_per_frame(schedule), num_frames)
            step = count_step(model, video)
            of_a_video = cache + max(step, min(whole, tiled))
            rows.append(
                {
                    "model": model,
                    "video": video,
                    "weights GB": weights / 1e9,
                    "cache GB": cache / 1e9,
                    "step GB": step / 1e9,
                    "decode GB": whole / 1e9,
                    "tiled GB": tiled / 1e9,
                    "total GB": (weights + of_a_video) / 1e9,
                    "videos": {name: max(0, int((gpu[1] - weights) // of_a_video)) for name, gpu in GPUS.items()},
                    "limit ms": {name: 1000 * limit_seconds(transformer, video, flops, name) for name in GPUS},
                }
            )
    return rows


# 2. Training


class _Attention(torch.autograd.Function):
    """In place of attention: what FlexAttention keeps for its backward pass."""

    @staticmethod
    def forward(ctx, query, key, value):
        output = torch.empty_like(query)
        sums = query.new_empty(query.shape[:3], dtype=torch.float32)  # (B, S, heads)
        ctx.save_for_backward(query, key, value, output, sums)
        return output

    @staticmethod
    def backward(ctx, gradient):
        return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors[:3])


def attend_with_gradient(query, key, value, **kwargs):
    return _Attention.apply(query, key, value)


class _LoRALinear(torch.nn.Module):
    """A frozen linear layer with what peft puts beside it, in float32. peft itself cannot be put into models without numbers."""

    def __init__(self, base: torch.nn.Linear, rank: int):
        super().__init__()
        self.base = base
        self.down = torch.nn.Linear(base.in_features, rank, bias=False)
        self.up = torch.nn.Linear(rank, base.out_features, bias=False)

    def forward(self, inputs):
        return self.base(inputs) + self.up(self.down(inputs.float()))


def add_lora_layers(transformer: VideoARTransformer3DModel) -> None:
    for module in list(transformer.blocks.modules()):
        for name, child in list(module.named_children()):
            if type(child) is torch.nn.Linear:
                setattr(module, name, _LoRALinear(child, LORA_RANK))


@contextlib.contextmanager
def counted_training():
    """
    Tensors without numbers on a CPU, where autocast works as on a GPU. Real tensors may go in: what the package keeps for the next
    call must not be one without numbers.
    """
    attend, transformer_videoar.dispatch_attention_fn = transformer_videoar.dispatch_attention_fn, attend_with_gradient
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), warnings.catch_warnings(action="ignore"):
            with LiveBytes() as live:
                yield live
    finally:
        transformer_videoar.dispatch_attention_fn = attend


class StepBytes(NamedTuple):
    """
    Of a training step, beyond weights and moments.

    Args:
        forward: At the end of the forward pass, the copies of the weights in bfloat16 included, which autocast keeps till then.
        kept: After it: what the backward pass needs.
        block: The most that the backward pass adds for a block, without gradients of other blocks.
    """

    forward: float
    kept: float
    block: float


def count_training_step(model: str, video: str, num_layers: int, batch_size: int, kind: str) -> StepBytes:
    """
    A step of a model with fewer blocks.

    Args:
        model: One of `CONFIGS`.
        video: One of `VIDEOS`.
        num_layers: Blocks.
        batch_size: Clips.
        kind: What is trained, `"all"` or `"LoRA"`.
    """
    num_frames, schedule = grids(video)
    layout = sequence_layout(schedule, num_frames, TEXT_LENGTH, torch.device("cpu"))
    with counted_training() as live:
        dtype = torch.bfloat16 if kind == "LoRA" else torch.float32
        config = {**CONFIGS[model], "num_layers": num_layers}
        transformer = make_random(VideoARTransformer3DModel, config, "cpu", dtype).train()
        if kind == "LoRA":
            transformer.requires_grad_(False)
            add_lora_layers(transformer)
        transformer.enable_gradient_checkpointing()
        for parameter in transformer.parameters():
            if parameter.requires_grad:  # gradients of finished blocks are added by `peak_bytes`
                parameter.register_post_accumulate_grad_hook(lambda parameter: setattr(parameter, "grad", None))
        inputs = torch.empty(batch_size, len(layout.video_ids), transformer.config.in_channels)
        text = torch.empty(batch_size, TEXT_LENGTH, transformer.config.text_embed_dim)
        mask = torch.ones(batch_size, TEXT_LENGTH, dtype=torch.bool)
        before = live.now
        with torch.autocast("cpu", torch.bfloat16):
            logits = transformer(inputs, layout.video_ids, text, mask, return_dict=False)[0]
            forward = live.now - before
        kept, live.peak = live.now - before, live.now
        logits.backward(torch.empty_like(logits))
        return StepBytes(forward, kept, live.peak - before - kept)


def step_lines(model: str, video: str, kind: str) -> Callable[[int], tuple[StepBytes, float]]:
    """For any number of clips: the bytes of a step at full depth, and what a block keeps for the backward pass."""
    num_layers = CONFIGS[model]["num_layers"]
    counts = {
        (layers, clips): np.array(count_training_step(model, video, layers, clips, kind))
        for layers, clips in itertools.product((1, 2), COUNTED_CLIPS)
    }

    def at(batch_size: int) -> tuple[StepBytes, float]:
        first, second = COUNTED_CLIPS
        share = (batch_size - first) / (second - first)
        one, two = (
            counts[layers, first] + share * (counts[layers, second] - counts[layers, first]) for layers in (1, 2)
        )
        of_a_block = two - one
        forward, kept = (one + (num_layers - 1) * of_a_block)[:2]
        return StepBytes(forward, kept, max(one[2], two[2])), of_a_block[1]

    return at


def peak_bytes(step: StepBytes, kept_by_block: float, gradients_of_block: float, num_layers: int) -> float:
    """
    The peak of a step. While the backward pass goes from the last block to the first, what blocks kept is freed and their
    gradients are added, so that the most is there at its beginning or at its end.
    """
    at_the_end = step.kept + num_layers * (gradients_of_block - kept_by_block) + step.block
    return max(step.forward, step.kept + step.block, at_the_end)


def trained_and_frozen(model: str, kind: str) -> tuple[int, int]:
    """Numbers of trained weights, and bytes of the frozen ones of the transformer."""
    with torch.device("meta"):
        transformer = VideoARTransformer3DModel(**CONFIGS[model])
        if kind != "LoRA":
            return transformer.num_parameters(), 0
        frozen = 2 * transformer.num_parameters()
        transformer.requires_grad_(False)
        add_lora_layers(transformer)
        return transformer.num_parameters(only_trainable=True), frozen


def frozen_bytes() -> int:
    """The tokenizer in float32 and the encoder of flan-t5-xl in bfloat16, which stay on the GPU while a transformer trains."""
    with torch.device("meta"):
        return num_bytes(AutoencoderVideoAR()) + num_bytes(T5EncoderModel(T5Config(**T5_XL))) // 2


def count_training(args) -> list[dict]:
    frozen_models = frozen_bytes()
    rows = []
    for model, video in itertools.product(args.models, args.videos):
        num_layers = CONFIGS[model]["num_layers"]
        lines = {kind: step_lines(model, video, kind) for kind in ("all", "LoRA")}
        for name, kind, processes in (("all", "all", 1), ("sharded", "all", PROCESSES), ("LoRA", "LoRA", 1)):
            trained, frozen = trained_and_frozen(model, kind)
            state = frozen_models + frozen + BYTES_OF_STATE * trained / processes
            # Shared weights and gradients are whole for the block at work and the next one.
            gathered = 2 * 2 * 4 * trained / num_layers if processes > 1 else 0
            gradients = 4 * trained / num_layers / processes

            def need(batch_size: int) -> float:
                return state + gathered + peak_bytes(*lines[kind](batch_size), gradients, num_layers)

            rows.append(
                {
                    "model": model,
                    "video": video,
                    "trained": name,
                    "state GB": state / 1e9,
                    "peak GB": {batch_size: need(batch_size) / 1e9 for batch_size in SHOWN_CLIPS},
                    "clips": {gpu_name: most_clips(need, gpu[1]) for gpu_name, gpu in GPUS.items()},
                    "clips/s": {gpu_name: training_speed(model, video, gpu[2]) for gpu_name, gpu in GPUS.items()},
                }
            )
    return rows


def most_clips(need: Callable[[int], float], room: float) -> int:
    """The largest number of clips whose need fits into `room`; need grows with the number."""
    return bisect.bisect_right(range(1, 10_000), room, key=need)


def training_speed(model: str, video: str, flops_per_second: float) -> float:
    """Clips a second, with recomputation; about half of the pairs of tokens see each other."""
    with torch.device("meta"):
        transformer = VideoARTransformer3DModel(**{**CONFIGS[model], "num_layers": 1})
    num_frames, schedule = grids(video)
    num_tokens = TEXT_LENGTH + num_frames * tokens_per_frame(schedule)
    of_a_pass = CONFIGS[model]["num_layers"] * step_flops(transformer, num_tokens, num_tokens, 1, causal_share=0.5)
    return TRAINING_RATE * flops_per_second / (4 * of_a_pass)


# 3. The page


def generation_table(rows: list[dict]) -> str:
    lines = [
        "| model | video | weights | cache | step | decode | total | "
        + " | ".join(f"on {name}" for name in GPUS)
        + " |",
        "|---|---|" + "---|" * (5 + len(GPUS)),
    ]
    for row in rows:
        sizes = [
            row["weights GB"],
            row["cache GB"],
            row["step GB"],
            min(row["decode GB"], row["tiled GB"]),
            row["total GB"],
        ]
        cells = [row["model"], row["video"], *map(gigabytes, sizes), *map(count_cell, row["videos"].values())]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def training_table(rows: list[dict]) -> str:
    lines = [
        "| model | clip | trained | state | peak at 1, 8, 32 clips | "
        + " | ".join(f"on {name}" for name in GPUS)
        + " |",
        "|---|---|---|---|---|" + "---|" * len(GPUS),
    ]
    names = {"all": "all weights", "sharded": f"all, `--fsdp` on {PROCESSES} GPUs", "LoRA": "LoRA, rank 16"}
    for row in rows:
        peaks = ", ".join(map(gigabytes, row["peak GB"].values()))
        cells = [row["model"], row["video"], names[row["trained"]], gigabytes(row["state GB"]), peaks]
        lines.append("| " + " | ".join([*cells, *map(count_cell, row["clips"].values())]) + " |")
    return "\n".join(lines)


def time_table(generation: list[dict], training: list[dict]) -> str:
    header = [f"{name}, {gpu[0]}" for name, gpu in GPUS.items()]
    lines = [
        "| model | video | " + " | ".join(f"generate on {name}" for name in header) + " | train on one of these |",
        "|---|---|" + "---|" * (len(GPUS) + 1),
    ]
    speeds = {(row["model"], row["video"]): row["clips/s"] for row in training}
    for row in generation:
        limits = [f"{milliseconds / 1000:.2g} s" for milliseconds in row["limit ms"].values()]
        speed = ", ".join(f"{value:.2g}" for value in speeds[row["model"], row["video"]].values())
        lines.append("| " + " | ".join([row["model"], row["video"], *limits, f"{speed} clips/s"]) + " |")
    return "\n".join(lines)


def gigabytes(value: float) -> str:
    return f"{value:.2f}" if value < 1 else f"{value:.1f}"


def count_cell(number: int) -> str:
    return str(number) if number > 0 else "no"


def tables(results: dict) -> dict[str, str]:
    """The page's tables by name."""
    return {
        "generation": generation_table(results["generation"]),
        "training": training_table(results["training"]),
        "time": time_table(results["generation"], results["training"]),
    }


def with_tables(page: str, results: dict) -> str:
    """A page with its tables written anew, each between `<!-- table: name -->` and `<!-- end -->`."""
    for name, table in tables(results).items():
        before, begin, rest = page.partition(f"<!-- table: {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        if not end:
            raise UsageError(f"`--page` has no place for a table: write `<!-- table: {name} -->` and `<!-- end -->`.")
        page = f"{before}{begin}\n{table}\n\n{end}{after}"
    return page


def main(args):
    results = {"generation": count_generation(args), "training": count_training(args)}
    for rows in results.values():
        print_table(rows)
    # What operations keep for the backward pass differs between versions.
    write_json(args.output, {"torch": torch.__version__.split("+")[0], **results})
    if args.page is not None:
        page = with_tables(args.page.read_text(encoding="utf-8"), results)
        with complete_or_absent(args.page) as temporary_path:
            temporary_path.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    run_command_line(main, parse_args)
