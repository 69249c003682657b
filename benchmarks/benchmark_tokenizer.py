# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Time, memory and distance from the hardware's limit of the tokenizer: encoder, decoder and training, with random weights and clips.

    python benchmarks/benchmark_tokenizer.py --config paper --device cuda --dtype bfloat16 --mixed_precision bf16 \
        --batch_sizes 1 16 --peak_tflops 989

For every part and batch size, one row. The parts:

- `encode`, `decode`: a whole clip at once, weights in `--dtype`.
- `stream`: the decoder again, `--chunk_size` latent frames at a time, with the state that goes from chunk to chunk.
- `quantize`: the quantiser in training mode, with the backward pass of its losses; the loop over the scales.
- `train`: a step of `examples/video_tokenizer/train_video_tokenizer.py` with a batch: forward, the terms, backward, clipping, AdamW,
  averaged weights. Weights are in float32, with autocast as `--mixed_precision` says. With `+perceptual` the perceptual network
  compares all frames, with `+gan` the discriminator is trained as well.

The columns:

- `ms per clip`, `clips/s`.
- `TFLOP`: operations of a clip, as PyTorch counts them: of convolutions and products alone, those of the frames that are repeated
  before a video included. Recomputation of gradient checkpointing does not count.
- `x flops`, `x conv`: the time over that of the same operations at the rate of a large matrix product, and of a convolution of 512
  channels, both measured in this run in the dtype of the part. A convolution can be faster than the product, so `x flops` can be
  under one.
- `share of peak`: of `--peak_tflops`, the rate on the data sheet, if that is given.
- `peak GB`: on CUDA, of all tensors in the part; on a CPU, of the process so far.
"""

import functools
import itertools
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace

import torch
from accelerate import Accelerator
from measuring import (
    DTYPES,
    TOKENIZERS,
    describe_machine,
    make_parser,
    make_random,
    measure_convolution_rate,
    measure_rates,
    median_seconds,
    peak_memory_bytes,
    print_table,
    refuse_graphs_without_cuda,
    reset_peak_memory,
    set_up_torch,
    write_json,
)
from torch.utils.flop_counter import FlopCounterMode

from videoar_pipelines import AutoencoderVideoAR
from videoar_pipelines.models.quantization import default_scale_schedule
from videoar_pipelines.pipelines.cuda_graphs import CUDAGraphRunner, EagerRunner
from videoar_pipelines.training.discriminator import LeCamRegularizer, VideoPatchDiscriminator
from videoar_pipelines.training.efficientnet import EfficientNetDistance
from videoar_pipelines.training.optimization import make_average, make_optimizer, update_average
from videoar_pipelines.training.perceptual import PerceptualLoss
from videoar_pipelines.training.tokenizer_step import (
    ADVERSARIAL_WEIGHT_MODES,
    TokenizerObjective,
    discriminator_step,
    generator_step,
)
from videoar_pipelines.training.tokenizer_training import TokenizerTraining, TrainedModel, compile_layers
from videoar_pipelines.utils.command_line import UsageError, positive_float, positive_int, run_command_line


INFERENCE_PARTS = ("encode", "decode", "stream")
TRAINING_PARTS = ("train", "train+perceptual", "train+gan", "train+perceptual+gan")
PARTS = (*INFERENCE_PARTS, "quantize", *TRAINING_PARTS)
PERCEPTUAL_NETWORKS = {"vgg16": PerceptualLoss, "efficientnet_lite0": EfficientNetDistance}
# Of examples/video_tokenizer/configs/objective.yaml.
OBJECTIVE = TokenizerObjective(
    reconstruction_loss="l1", commitment_weight=0.25, entropy_weight=0.1, scale_drop_probability=0.1
)
OPTIMIZATION = Namespace(learning_rate=1e-4, weight_decay=0.05, adam_beta1=0.9, adam_beta2=0.95)
MAX_GRAD_NORM = 1.0


def parse_args(arguments=None):
    parser = make_parser(__doc__)
    parser.add_argument("--config", choices=TOKENIZERS, default="tiny")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--batch_sizes", nargs="+", type=positive_int, default=[1], help="Clips at a time.")
    parser.add_argument("--num_frames", type=positive_int, default=17, help="Pixel frames.")
    parser.add_argument("--height", type=positive_int, default=128)
    parser.add_argument("--width", type=positive_int, default=128)
    parser.add_argument("--chunk_size", type=positive_int, default=1, help="Latent frames at a time of `stream`.")
    parser.add_argument(
        "--cuda_graphs",
        action="store_true",
        help="Replay `decode` (of small clips) and `stream` (where its chunks are single frames) as CUDA graphs.",
    )
    parser.add_argument("--compile", action="store_true", help="Compile what lies between convolutions.")
    parser.add_argument("--mixed_precision", choices=["no", "bf16"], default="no", help="Autocast of training.")
    parser.add_argument("--gradient_checkpointing", action="store_true")
    parser.add_argument("--perceptual_network", choices=PERCEPTUAL_NETWORKS, default="vgg16")
    parser.add_argument("--adversarial_weight_mode", choices=ADVERSARIAL_WEIGHT_MODES, default="adaptive")
    parser.add_argument("--peak_tflops", type=positive_float, help="Rate on the data sheet, for `share of peak`.")
    args = parser.parse_args(arguments)
    refuse_graphs_without_cuda(args)
    if args.cuda_graphs and args.chunk_size > 1:
        raise UsageError(
            f"`--cuda_graphs` has no effect with `--chunk_size {args.chunk_size}`: single latent frames alone become graphs."
        )
    return args


def random_video(batch_size: int, args, device: str) -> torch.Tensor:
    """Pixel frames in [-1, 1], `(B, 3, F, H, W)`."""
    return torch.rand(batch_size, 3, args.num_frames, args.height, args.width, device=device) * 2 - 1


def make_vae(args, device: str, dtype: torch.dtype) -> AutoencoderVideoAR:
    """A tokenizer of random weights, which lie in memory as a GPU's convolutions read them."""
    vae = make_random(AutoencoderVideoAR, TOKENIZERS[args.config], device, dtype)
    if torch.device(device).type == "cuda":
        vae.to(memory_format=torch.channels_last_3d)
    if args.compile:
        compile_layers(vae)
    return vae


# 1. Encoder, decoder, quantiser


def decode_in_chunks(vae: AutoencoderVideoAR, latents: torch.Tensor, chunk_size: int, runner: EagerRunner) -> None:
    state = None
    for chunk in latents.split(chunk_size, dim=2):
        _, state = runner.decode_chunk(vae, chunk, state)


def quantize_and_go_back(vae: AutoencoderVideoAR, features: torch.Tensor) -> None:
    output = vae.quantize(features)
    (output.latents.sum() + output.commitment_loss + output.entropy_loss).backward()


def make_part(vae: AutoencoderVideoAR, part: str, batch_size: int, args) -> Callable[[], None]:
    """A part of [`INFERENCE_PARTS`], or the quantiser, as a function without arguments."""
    if part == "encode":
        return functools.partial(vae.encode, random_video(batch_size, args, vae.device).to(vae.dtype))
    num_latent_frames = (args.num_frames - 1) // vae.temporal_compression_ratio + 1
    grid = [side // vae.spatial_compression_ratio for side in (args.height, args.width)]
    shape = (batch_size, vae.config.latent_channels, num_latent_frames, *grid)
    features = torch.randn(shape, device=vae.device, dtype=vae.dtype)
    if part == "quantize":
        return functools.partial(quantize_and_go_back, vae, features.requires_grad_())
    latents = vae.quantize(features).latents
    if part == "decode" and not args.cuda_graphs:
        return functools.partial(vae.decode, latents)
    runner = CUDAGraphRunner() if args.cuda_graphs else EagerRunner()
    chunk_size = num_latent_frames if part == "decode" else args.chunk_size
    return functools.partial(decode_in_chunks, vae, latents, chunk_size, runner)


# 2. Training


def make_models(part: str, args, device: str) -> tuple:
    """Tokenizer, perceptual network and discriminator of a part; `None` for one that it lacks."""
    vae = make_vae(args, device, torch.float32).train()
    if args.gradient_checkpointing:
        vae.enable_gradient_checkpointing()
    with torch.device(device):
        perceptual = PERCEPTUAL_NETWORKS[args.perceptual_network]() if "perceptual" in part else None
        discriminator = VideoPatchDiscriminator() if "gan" in part else None
    return vae, perceptual, discriminator


def objective_of(part: str, args) -> TokenizerObjective:
    return replace(
        OBJECTIVE,
        perceptual_weight=1.0 if "perceptual" in part else 0.0,
        adversarial_weight=0.5 if "gan" in part else 0.0,
        adversarial_weight_mode=args.adversarial_weight_mode,
    )


def scale_schedule_of(vae: AutoencoderVideoAR, args):
    return default_scale_schedule(*(side // vae.spatial_compression_ratio for side in (args.height, args.width)))


def prepare(model: torch.nn.Module, accelerator: Accelerator) -> TrainedModel:
    parameters = list(model.parameters())
    wrapped, optimizer = accelerator.prepare(model, make_optimizer(parameters, OPTIMIZATION))
    return TrainedModel(model, wrapped, optimizer, parameters)


def make_training_step(part: str, batch_size: int, accelerator: Accelerator, args) -> Callable[[], None]:
    """A training step on a random batch, as a function without arguments."""
    vae, perceptual, discriminator = make_models(part, args, args.device)
    training = TokenizerTraining(
        accelerator,
        objective_of(part, args),
        prepare(vae, accelerator),
        MAX_GRAD_NORM,
        perceptual,
        None if discriminator is None else prepare(discriminator, accelerator),
        LeCamRegularizer().to(args.device),
    )
    average = make_average(vae, 0.9999)
    video, schedule = random_video(batch_size, args, args.device), scale_schedule_of(vae, args)

    def step() -> None:
        training.train_on(video, schedule, is_adversarial=discriminator is not None)
        update_average(average, vae)

    return step


# 3. Operations


def count_flops(part: str, args) -> int:
    """Operations of one clip, counted on tensors without numbers."""
    args = Namespace(**vars(args) | {"gradient_checkpointing": False, "cuda_graphs": False, "compile": False})
    with FlopCounterMode(display=False) as counter:
        if part in TRAINING_PARTS:
            vae, perceptual, discriminator = make_models(part, args, "meta")
            video, objective = random_video(1, args, "meta"), objective_of(part, args)
            output = generator_step(
                vae,
                video,
                scale_schedule_of(vae, args),
                objective,
                perceptual,
                discriminator,
                vae.decoder.conv_out.weight,
            )
            output.loss.backward()
            if discriminator is not None:
                lecam = LeCamRegularizer().to("meta")
                discriminator_step(discriminator, lecam, video, output.reconstruction, objective).loss.backward()
        else:
            vae = make_random(AutoencoderVideoAR, TOKENIZERS[args.config], "meta", torch.float32)
            with torch.no_grad():
                make_part(vae, part, 1, args)()
    return counter.get_total_flops()


# 4. The table


def computed_in(part: str, args) -> str:
    """Name of the dtype of a part's convolutions."""
    if part in TRAINING_PARTS:
        return "bfloat16" if args.mixed_precision == "bf16" else "float32"
    return args.dtype


def measure_seconds(part: str, batch_size: int, accelerator: Accelerator, args) -> float:
    reset_peak_memory(args.device)
    if part in TRAINING_PARTS:
        return median_seconds(make_training_step(part, batch_size, accelerator, args), args)
    vae = make_vae(args, args.device, DTYPES[args.dtype])
    if part == "quantize":
        return median_seconds(make_part(vae.train(), part, batch_size, args), args)
    with torch.no_grad():
        return median_seconds(make_part(vae, part, batch_size, args), args)


def benchmark(part: str, batch_size: int, rates: dict, accelerator: Accelerator, args) -> dict:
    """One row of the table."""
    seconds = measure_seconds(part, batch_size, accelerator, args) / batch_size
    row = {
        "config": args.config,
        "part": part,
        "dtype": computed_in(part, args),
        "batch": batch_size,
        "ms per clip": 1000 * seconds,
        "clips/s": 1 / seconds,
    }
    if part == "quantize":  # neither products nor convolutions
        row |= dict.fromkeys(("TFLOP", "x flops", "x conv", "share of peak"), "-")
    else:
        flops, rate = count_flops(part, args), rates[row["dtype"]]
        row |= {
            "TFLOP": flops / 1e12,
            "x flops": seconds * rate["gemm_flops_per_s"] / flops,
            "x conv": seconds * rate["conv_flops_per_s"] / flops,
            "share of peak": "-" if args.peak_tflops is None else flops / seconds / args.peak_tflops / 1e12,
        }
    row["peak GB"] = peak_memory_bytes(args.device) / 1e9
    return row


def main(args):
    # 1. The machine
    set_up_torch(args)
    rates = {}
    for name in {computed_in(part, args) for part in args.parts}:
        rates[name] = measure_rates(DTYPES[name], args)
        rates[name]["conv_flops_per_s"] = measure_convolution_rate(DTYPES[name], args)
    results = {"machine": describe_machine(args), "arguments": {}, "rates": rates, "rows": []}
    results["arguments"] = {name: value for name, value in vars(args).items() if name != "output"}
    print(results["machine"])
    for name, rate in rates.items():
        product, convolution = rate["gemm_flops_per_s"] / 1e12, rate["conv_flops_per_s"] / 1e12
        print(f"{name}: matrix product {product:.3g} TFLOP/s, convolution {convolution:.3g} TFLOP/s")

    # 2. Every part and batch size; JSON is written after each row, so that a run cut short loses nothing
    accelerator = Accelerator(
        cpu=torch.device(args.device).type == "cpu", mixed_precision=args.mixed_precision, device_placement=False
    )
    for part, batch_size in itertools.product(args.parts, args.batch_sizes):
        results["rows"].append(benchmark(part, batch_size, rates, accelerator, args))
        write_json(args.output, results)
        accelerator.free_memory()  # or it would keep the models of all rows
    print_table(results["rows"])


if __name__ == "__main__":
    run_command_line(main, parse_args)
