# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
# /// script
# dependencies = ["videoar_pipelines[train]"]
# ///
"""
Trains the transformer, `VideoARTransformer3DModel`, on the bits of a trained tokenizer, with Cross-Frame Error Correction and
Random Frame Mask (VideoAR section 4.2).

    accelerate launch train_text_to_video.py --vae runs/tokenizer/vae --text_encoder runs/text --train_text_encoder \
        --transformer_config configs/transformer.json --scheduler_config configs/scheduler.json --output_dir runs/transformer
    accelerate launch train_text_to_video.py --config_file configs/ucf101_l.yaml --vae runs/tokenizer/vae
"""

import argparse
import logging
from contextlib import ExitStack

import torch
from diffusers.models.attention_dispatch import attention_backend

from videoar_pipelines import AutoencoderVideoAR, VideoARPipeline, VideoARScheduler, VideoARTransformer3DModel
from videoar_pipelines.data.sources import add_data_arguments, make_batches
from videoar_pipelines.models.token_layout import FRAME_MASK_DRAWS
from videoar_pipelines.schedulers.scheduling_videoar import CORRUPTION_DRAWS
from videoar_pipelines.training.arguments import add_run_arguments, parse_args_with_config_file
from videoar_pipelines.training.attention_masks import (
    add_attention_arguments,
    backend_of,
    choose_attention_mask,
    compile_blocks,
)
from videoar_pipelines.training.checkpoints import TrainingState
from videoar_pipelines.training.components import (
    check_components,
    check_frame_conditions,
    config_of,
    decided_transformer_config,
    load_text_models,
    transformer_config,
)
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
    block_matrices,
    describe_average,
    make_average,
    make_lr_schedule,
    make_optimizer,
    take_step,
    update_average,
)
from videoar_pipelines.training.pipeline_parts import save_parts
from videoar_pipelines.training.publishing import push_to_hub, replaced_folder, save_model_card
from videoar_pipelines.training.sharding import averaged_weights, shard_model, split_sequences
from videoar_pipelines.training.transformer_step import (
    SCALE_WEIGHTINGS,
    TransformerStepOptions,
    bit_metrics,
    caption_metrics,
    corruption_strength,
    transformer_step,
)
from videoar_pipelines.training.validation import add_held_out_arguments, held_out_metrics, read_held_out
from videoar_pipelines.training.validation_fvd import make_validation_fvd, sampled_fvd
from videoar_pipelines.training.validation_videos import check_validation, sample_validation_videos
from videoar_pipelines.utils.command_line import (
    CommandLineParser,
    Number,
    UsageError,
    loading,
    non_negative_int,
    positive_int,
    probability,
    run_command_line,
)


logger = logging.getLogger(__name__)


def parse_args(arguments=None):
    parser = CommandLineParser(__doc__)
    add_run_arguments(parser, learning_rate=1e-3, lr_warmup_steps=200, weight_decay=0.05, ema_decay=0.9995)
    add_data_arguments(parser)
    parser.add_argument("--train_batch_size", type=positive_int, default=8, help="Clips per process and batch.")
    parser.add_argument("--max_sequence_length", type=positive_int, default=32, help="Longest text in tokens.")

    model = parser.add_argument_group("models, each a folder or Hub id")
    model.add_argument("--pretrained_pipeline", help="Where all models come from that have no flag of their own.")
    model.add_argument("--vae", help="A trained tokenizer.")
    model.add_argument("--text_encoder", help="A T5, or a folder with `tokenizer` and `text_encoder`.")
    model.add_argument("--train_text_encoder", action=argparse.BooleanOptionalAction, default=False)
    model.add_argument("--pretrained_transformer", help="A transformer to start from.")
    model.add_argument("--transformer_config", type=transformer_config, help="From scratch: L, XL, 4B, or JSON.")
    model.add_argument("--rope_type", choices=["multiscale_temporal", "1d"], help="Instead of the configuration's.")
    model.add_argument("--scheduler_config", type=config_of(VideoARScheduler), help="JSON: its arguments.")

    objective = parser.add_argument_group("objective; corruption flags override the scheduler's configuration")
    objective.add_argument(
        "--text_drop_probability", type=probability, default=0.1, help="For classifier-free guidance."
    )
    objective.add_argument(
        "--word_drop_probability", type=probability, default=0.0, help="Share of words left out of captions."
    )
    objective.add_argument(
        "--caption_contrast",
        type=Number(float, least=0),
        default=0.0,
        help="Weight of the contrast with the next clip's caption, nats a bit for every nat of a clip.",
    )
    objective.add_argument("--scale_weighting", choices=SCALE_WEIGHTINGS, default="tokens")
    objective.add_argument("--no_error_correction", action="store_true", help="Train on clean maps.")
    objective.add_argument("--corruption_min", type=float, help="`p_min` of time-dependent corruption.")
    objective.add_argument("--corruption_max", type=float, help="`p_max`.")
    objective.add_argument("--corruption_growth", type=float, help="`delta`, for every latent frame.")
    objective.add_argument(
        "--corruption_min_growth", type=float, help="Of `p_min`; `delta` by default, 0 is figure 3."
    )
    objective.add_argument(
        "--corruption_drawn_per", choices=CORRUPTION_DRAWS, help="What has a flip ratio of its own."
    )
    objective.add_argument("--error_inheritance", action=argparse.BooleanOptionalAction, default=None)
    objective.add_argument(
        "--corruption_warmup_steps", type=non_negative_int, default=1000, help="Steps over which flips ramp up."
    )
    objective.add_argument(
        "--frame_window", type=positive_int, help="Random Frame Mask: latent frames that a frame looks back."
    )
    objective.add_argument(
        "--frame_mask_probability", type=probability, default=0.0, help="Random Frame Mask: `p_mask`."
    )
    objective.add_argument(
        "--frame_mask_drawn_per",
        choices=FRAME_MASK_DRAWS,
        default="pair",
        help="Random Frame Mask: what is hidden anew.",
    )

    optimiser = parser.add_argument_group("optimiser")
    optimiser.add_argument(
        "--optimizer", choices=["adamw", "muon"], default="adamw", help="muon: of the matrices of blocks; AdamW else."
    )

    speed = parser.add_argument_group("attention")
    add_attention_arguments(speed)
    speed.add_argument(
        "--context_parallel_degree",
        type=positive_int,
        default=1,
        help="Processes that share every sequence, for long ones (Ulysses, with a boolean mask).",
    )

    validation = parser.add_argument_group("validation videos")
    validation.add_argument("--validation_prompts", nargs="+", help="Captions of the batch at hand by default.")
    validation.add_argument(
        "--num_validation_videos", type=positive_int, default=4, help="Without --validation_prompts."
    )
    validation.add_argument("--validation_guidance_scale", type=Number(float), help="The scheduler's by default.")
    validation.add_argument("--validation_fps", type=positive_int, default=8)
    add_held_out_arguments(parser.add_argument_group("held-out clips"), default_batches=None)

    args = parse_args_with_config_file(parser, arguments)
    for name in ("vae", "text_encoder"):
        if getattr(args, name) is None and args.pretrained_pipeline is None:
            raise UsageError(f"Pass `--{name}`, or a `--pretrained_pipeline` that has one.")
    starts = [args.transformer_config, args.pretrained_transformer, args.pretrained_pipeline]
    if all(start is None for start in starts) or (args.transformer_config and args.pretrained_transformer):
        raise UsageError(
            "Pass one of `--transformer_config` (from scratch), `--pretrained_transformer`, `--pretrained_pipeline`."
        )
    if args.transformer_config is None and args.rope_type is not None:
        raise UsageError("`--rope_type` is for training from scratch: a trained transformer has one.")
    if args.caption_contrast > 0 and args.train_batch_size == 1:
        raise UsageError(
            "`--caption_contrast` compares the clips of a batch: pass a `--train_batch_size` of at least 2."
        )
    return args


def load_models(args, accelerator):
    """The pipeline's components by name; what is not trained is frozen, and in bfloat16 where training is."""

    def load(model_class, flag, subfolder):
        own = getattr(args, flag)
        with loading(f"--{flag}" if own else "--pretrained_pipeline", own or args.pretrained_pipeline):
            return model_class.from_pretrained(own or args.pretrained_pipeline, subfolder=None if own else subfolder)

    device, is_bfloat16 = accelerator.device, accelerator.mixed_precision == "bf16"
    frozen_dtype = torch.bfloat16 if is_bfloat16 and not args.train_text_encoder else torch.float32
    with loading(
        "--text_encoder" if args.text_encoder else "--pretrained_pipeline",
        args.text_encoder or args.pretrained_pipeline,
    ):
        text_tokenizer, text_encoder = load_text_models(args.text_encoder or args.pretrained_pipeline, frozen_dtype)
    text_encoder.train(args.train_text_encoder).requires_grad_(args.train_text_encoder).to(device)
    vae = load(AutoencoderVideoAR, "vae", "vae").to(device).eval().requires_grad_(False)

    if args.scheduler_config is not None or args.pretrained_pipeline is None:
        config = args.scheduler_config or {}
    else:
        with loading("--pretrained_pipeline", args.pretrained_pipeline):
            config = VideoARScheduler.load_config(args.pretrained_pipeline, subfolder="scheduler")
    flags = (
        "corruption_min",
        "corruption_max",
        "corruption_growth",
        "corruption_min_growth",
        "corruption_drawn_per",
        "error_inheritance",
    )
    overrides = {flag: getattr(args, flag) for flag in flags if getattr(args, flag) is not None}
    scheduler = VideoARScheduler.from_config(config, **overrides)

    decided = decided_transformer_config(
        vae, text_encoder, scheduler, args.height, args.width, args.num_frames, args.max_sequence_length
    )
    if args.transformer_config is None:
        transformer = load(VideoARTransformer3DModel, "pretrained_transformer", "transformer")
        # The pipeline's default size is that of the last training.
        sizes = ("sample_height", "sample_width", "sample_frames")
        transformer.register_to_config(**{name: decided[name] for name in sizes})
    else:
        config = decided | args.transformer_config
        if args.rope_type is not None:
            config["rope_type"] = args.rope_type
        transformer = VideoARTransformer3DModel.from_config(config)
        transformer.initialize_weights(torch.Generator().manual_seed(args.seed))
    check_components(transformer.config, vae, text_encoder, scheduler, args.max_sequence_length)
    check_frame_conditions(transformer.config, args.condition_columns)
    return {
        "tokenizer": text_tokenizer,
        "text_encoder": text_encoder,
        "vae": vae,
        "transformer": transformer,
        "scheduler": scheduler,
    }


def main(args):
    accelerator = start_run(args)
    train(accelerator, args)
    end_run(accelerator)


def train(accelerator, args):
    """All of a run between its start and its end; nothing that it builds outlives it."""
    device = accelerator.device
    degree = args.context_parallel_degree
    attention, is_compiled = choose_attention_mask(args.attention, device, args.compile, splits_sequences=degree > 1)

    # 1. Models
    components = load_models(args, accelerator)
    vae, transformer, scheduler = components["vae"], components["transformer"], components["scheduler"]
    transformer.train()
    if args.gradient_checkpointing:
        transformer.enable_gradient_checkpointing()
    if is_compiled:
        compile_blocks(transformer, attention)
    if degree > 1:
        split_sequences(transformer, degree)
    trained = {"transformer": transformer}
    if args.train_text_encoder:
        trained["text_encoder"] = components["text_encoder"]
    if args.fsdp:
        for model in trained.values():
            shard_model(model.to(device))
        wrapped = trained
    else:
        wrapped = {name: accelerator.prepare(model) for name, model in trained.items()}

    # 2. Optimiser, averages, data
    parameters = [parameter for model in trained.values() for parameter in model.parameters()]
    has_muon = args.optimizer == "muon"
    matrices = [weight for model in trained.values() for weight in block_matrices(model)] if has_muon else []
    bare_optimizer = make_optimizer(parameters, args, matrices=matrices)
    lr_scheduler = make_lr_schedule(bare_optimizer, args)
    optimizer = accelerator.prepare(bare_optimizer)
    averages = {name: make_average(model, args.ema_decay) for name, model in trained.items()}
    frozen_text_encoder = None if args.train_text_encoder else components["text_encoder"]
    batches = make_batches(
        args,
        args.train_batch_size,
        seed=args.seed,
        device=device,
        rank=accelerator.process_index // degree,
        world_size=accelerator.num_processes // degree,
        log_dir=args.output_dir,
        vae=vae,
        scheduler=scheduler,
        text_encoder=frozen_text_encoder,
    )
    held_out_models = {"vae": vae, "scheduler": scheduler, "text_encoder": frozen_text_encoder}
    held_out = []
    if accelerator.is_main_process:
        held_out = read_held_out(args, args.train_batch_size, args.output_dir, **held_out_models)
    fvd = make_validation_fvd(accelerator, args, args.train_batch_size, **held_out_models)
    shared = shared_objects(accelerator, lr_scheduler)
    state = TrainingState(
        trained,
        [bare_optimizer],
        averages,
        shared,
        {"data": batches},
        save_extra=lambda folder: save_parts(
            folder,
            scheduler,
            components["tokenizer"],
            vae=args.vae or args.pretrained_pipeline,
            text_encoder=None if args.train_text_encoder else args.text_encoder or args.pretrained_pipeline,
            dtype=components["text_encoder"].dtype,
        ),
    )
    check_validation(VideoARPipeline(**components), args)
    start_trackers(accelerator, args, "text_to_video")

    # 3. Train
    options = TransformerStepOptions(
        max_sequence_length=args.max_sequence_length,
        train_text_encoder=args.train_text_encoder,
        text_drop_probability=args.text_drop_probability,
        word_drop_probability=args.word_drop_probability,
        caption_contrast=args.caption_contrast,
        attention=attention,
        window=args.frame_window,
        frame_mask_probability=args.frame_mask_probability,
        frame_mask_drawn_per=args.frame_mask_drawn_per,
        scale_weighting=args.scale_weighting,
        text_length_divisor=degree,
    )
    backend = attention_backend(backend_of(attention))
    with backend, TrainingLoop(accelerator, state, args, degree) as loop:
        for step in loop:
            strength = 0.0 if args.no_error_correction else corruption_strength(step, args.corruption_warmup_steps)
            for _ in range(args.gradient_accumulation_steps):
                batch = next(batches)
                with accelerator.accumulate(*wrapped.values()):
                    with accelerator.autocast():
                        output = transformer_step(
                            batch,
                            wrapped["transformer"],
                            scheduler,
                            vae,
                            components["tokenizer"],
                            wrapped.get("text_encoder", components["text_encoder"]),
                            options,
                            strength,
                        )
                    # Gradients are averaged over all processes; those that share a sequence each hold a part of them.
                    norm = take_step(accelerator, output.loss * degree, optimizer, parameters, args.max_grad_norm)
                loop.watch(batch, loss=output.loss)
            for name, model in trained.items():
                update_average(averages[name], model)
            loop.watch_gradients(gradient_norm=norm)

            if loop.is_logging_step:
                values = {"lr": lr_scheduler.get_last_lr()[0], "corruption_strength": strength}
                values |= bit_metrics(output.logits, output.target_bits, output.scale_schedule)
                if output.caption_margins is not None:
                    values |= caption_metrics(output.caption_margins, output.has_two_texts)
                loop.log(values, show=("token_accuracy/scale_0",))
            if loop.is_validation_step:
                with ExitStack() as stack:
                    stack.enter_context(attention_backend("native"))
                    is_used = accelerator.is_main_process or fvd is not None
                    pipeline = averaged_pipeline(stack, is_used, trained, averages, components)
                    values = {}
                    if accelerator.is_main_process:
                        with accelerator.autocast():
                            values |= held_out_metrics(pipeline, held_out, options)
                        validate(args, accelerator, pipeline, batch["captions"], loop.step)
                    if fvd is not None:
                        values |= sampled_fvd(fvd, pipeline, args.validation_guidance_scale)
                    loop.log_validation(values)
                accelerator.wait_for_everyone()
            lr_scheduler.step()

    # 4. Save the pipeline with the averaged weights
    with ExitStack() as stack:
        pipeline = averaged_pipeline(stack, accelerator.is_main_process, trained, averages, components)
        if accelerator.is_main_process and not loop.is_stopped:
            save_pipeline(args, accelerator, pipeline, loop)


def averaged_pipeline(stack, is_used, trained, averages, components):
    """A pipeline with averaged weights on the processes that use it, until `stack` is closed."""
    models = {
        name: stack.enter_context(averaged_weights(model, averages[name], is_used)) for name, model in trained.items()
    }
    # Compiled for whole sequences; a cached step has other shapes.
    stack.callback(torch.compiler.set_stance, "default")
    torch.compiler.set_stance("force_eager")
    return VideoARPipeline(**components | models) if is_used else None


def validate(args, accelerator, pipeline, captions, step):
    """Generates videos and hands them to the trackers."""
    strips = sample_validation_videos(
        pipeline,
        args.validation_prompts or captions[: args.num_validation_videos],
        args.output_dir / "validation" / f"step-{step:07d}",
        args.height,
        args.width,
        args.num_frames,
        args.validation_guidance_scale,
        args.seed,
        args.validation_fps,
    )
    log_images(accelerator, "validation", strips, step)


def save_pipeline(args, accelerator, pipeline, loop):
    folder = args.output_dir / "pipeline"
    with replaced_folder(folder, loop.state.num_bytes) as temporary:
        pipeline.save_pretrained(temporary)
        save_card(args, accelerator, temporary, loop)
    logger.info("Saved the pipeline to %s.", folder)
    if args.push_to_hub:
        push_to_hub(folder, args.hub_model_id or args.output_dir.name, loop.step)


def save_card(args, accelerator, folder, loop):
    save_model_card(
        folder,
        description="A text-to-video model by next-frame and next-scale prediction "
        "([VideoAR](https://huggingface.co/papers/2601.05966)), trained with videoar_pipelines.",
        usage="from videoar_pipelines import VideoARPipeline\nfrom videoar_pipelines.utils import save_video\n\n"
        f'pipe = VideoARPipeline.from_pretrained("{args.hub_model_id or args.output_dir / "pipeline"}")\n'
        f'video = pipe("...", num_frames={args.num_frames}, height={args.height}, width={args.width}).frames[0]\n'
        'save_video(video, "video.mp4", fps=8)',
        facts={
            "data": args.data,
            "clips": f"{args.num_frames} frames of {args.height}x{args.width}",
            "steps": str(loop.step),
            "clips per step": str(
                args.train_batch_size
                * args.gradient_accumulation_steps
                * (accelerator.num_processes // args.context_parallel_degree)
            ),
            "hardware": hardware_name(accelerator),
            "weights": describe_average(args.ema_decay, loop.step),
        },
        args=args,
        final_values=loop.last_logs,
        tags=["text-to-video"],
        base_model=args.pretrained_transformer or args.pretrained_pipeline,
    )


if __name__ == "__main__":
    run_command_line(main, parse_args)
