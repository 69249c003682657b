# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
# /// script
# dependencies = ["videoar_pipelines[train]"]
# ///
"""
Fine-tunes a text-to-video pipeline with LoRA layers (peft), saved in diffusers' layout: `pipe.load_lora_weights(folder)`.

    accelerate launch train_text_to_video_lora.py --pretrained_pipeline checkpoints/videoar --data folder/manifest.jsonl \
        --output_dir runs/lora
"""

import logging

import torch
from diffusers.models.attention_dispatch import attention_backend
from diffusers.training_utils import _collate_lora_metadata, cast_training_params
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from videoar_pipelines import VideoARPipeline
from videoar_pipelines.data.sources import add_data_arguments, make_batches
from videoar_pipelines.training.arguments import add_run_arguments, parse_args_with_config_file
from videoar_pipelines.training.attention_masks import (
    add_attention_arguments,
    backend_of,
    choose_attention_mask,
    compile_blocks,
)
from videoar_pipelines.training.checkpoints import TrainingState
from videoar_pipelines.training.components import check_components, check_frame_conditions
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
    take_step,
    trainable_parameters,
    update_average,
)
from videoar_pipelines.training.publishing import push_to_hub, replaced_folder, save_model_card
from videoar_pipelines.training.sharding import averaged_weights
from videoar_pipelines.training.transformer_step import TransformerStepOptions, bit_metrics, transformer_step
from videoar_pipelines.training.validation import add_held_out_arguments, held_out_metrics, read_held_out
from videoar_pipelines.training.validation_fvd import make_validation_fvd, sampled_fvd
from videoar_pipelines.training.validation_videos import check_validation, sample_validation_videos
from videoar_pipelines.utils.command_line import (
    CommandLineParser,
    Number,
    UsageError,
    loading,
    positive_int,
    probability,
    run_command_line,
)


logger = logging.getLogger(__name__)


def parse_args(arguments=None):
    parser = CommandLineParser(__doc__)
    add_run_arguments(parser, learning_rate=1e-4, lr_warmup_steps=50, weight_decay=0.01, ema_decay=0.99)
    add_data_arguments(parser)
    parser.add_argument("--pretrained_pipeline", required=True, help="Folder or Hub id of the pipeline to fine-tune.")
    parser.add_argument("--train_batch_size", type=positive_int, default=1, help="Clips per process and batch.")
    parser.add_argument(
        "--max_sequence_length", type=positive_int, help="Text tokens; the transformer's longest by default."
    )

    lora = parser.add_argument_group("LoRA")
    lora.add_argument("--rank", type=positive_int, default=16)
    lora.add_argument("--lora_alpha", type=positive_int, default=16, help="The layers are scaled by alpha / rank.")
    lora.add_argument("--lora_dropout", type=probability, default=0.0)
    lora.add_argument(
        "--lora_layers",
        nargs="+",
        default=["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"],
        help="Endings of the names of the layers that get one.",
    )

    parser.add_argument("--text_drop_probability", type=probability, default=0.1, help="For classifier-free guidance.")
    parser.add_argument("--no_error_correction", action="store_true", help="Train on clean maps.")
    add_attention_arguments(parser.add_argument_group("attention"))
    parser.add_argument("--validation_prompts", nargs="*", help="No validation videos without them.")
    parser.add_argument("--validation_guidance_scale", type=Number(float), help="The scheduler's by default.")
    parser.add_argument("--validation_fps", type=positive_int, default=8)
    add_held_out_arguments(parser.add_argument_group("held-out clips"), default_batches=None)
    args = parse_args_with_config_file(parser, arguments)
    if args.fsdp:
        raise UsageError("`--fsdp` is for training all weights: LoRA layers are small, so train them without it.")
    return args


def save_lora(transformer, folder):
    VideoARPipeline.save_lora_weights(
        folder,
        transformer_lora_layers=get_peft_model_state_dict(transformer),
        **_collate_lora_metadata({"transformer": transformer}),
    )


def main(args):
    accelerator = start_run(args)
    train(accelerator, args)
    end_run(accelerator)


def train(accelerator, args):
    """All of a run between its start and its end; nothing that it builds outlives it."""
    device = accelerator.device
    attention, is_compiled = choose_attention_mask(args.attention, device, args.compile)

    # 1. Models: everything is frozen, in the precision of the computation; the LoRA layers are float32
    frozen_dtype = torch.bfloat16 if accelerator.mixed_precision == "bf16" else torch.float32
    with loading("--pretrained_pipeline", args.pretrained_pipeline):
        pipeline = VideoARPipeline.from_pretrained(args.pretrained_pipeline, dtype=frozen_dtype).to(device)
    if args.validation_prompts:
        check_validation(pipeline, args)
    vae, transformer, scheduler = pipeline.vae, pipeline.transformer, pipeline.scheduler
    if args.max_sequence_length is None:
        args.max_sequence_length = transformer.config.max_text_length
    check_components(transformer.config, vae, pipeline.text_encoder, scheduler, args.max_sequence_length)
    check_frame_conditions(transformer.config, args.condition_columns)
    for model in (pipeline.text_encoder, vae, transformer):
        model.requires_grad_(False)
    try:
        transformer.add_adapter(
            LoraConfig(
                r=args.rank,
                lora_alpha=args.lora_alpha,
                lora_dropout=args.lora_dropout,
                target_modules=args.lora_layers,
                init_lora_weights="gaussian",
            )
        )
    except ValueError as error:  # peft's, when no layer has such a name
        raise UsageError(f"`--lora_layers` {' '.join(args.lora_layers)} cannot be used: {error}") from error
    cast_training_params(transformer, dtype=torch.float32)
    transformer.train()
    if args.gradient_checkpointing:
        transformer.enable_gradient_checkpointing()
    if is_compiled:
        compile_blocks(transformer, attention)

    # 2. Optimiser, averages, data
    parameters = [parameter for _, parameter in trainable_parameters(transformer)]
    bare_optimizer = make_optimizer(parameters, args)
    lr_scheduler = make_lr_schedule(bare_optimizer, args)
    wrapped, optimizer = accelerator.prepare(transformer, bare_optimizer)
    average = make_average(transformer, args.ema_decay)
    batches = make_batches(
        args,
        args.train_batch_size,
        seed=args.seed,
        device=device,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        log_dir=args.output_dir,
        vae=vae,
        scheduler=scheduler,
        text_encoder=pipeline.text_encoder,
    )
    held_out_models = {"vae": vae, "scheduler": scheduler, "text_encoder": pipeline.text_encoder}
    held_out = []
    if accelerator.is_main_process:
        held_out = read_held_out(args, args.train_batch_size, args.output_dir, **held_out_models)
    fvd = make_validation_fvd(accelerator, args, args.train_batch_size, **held_out_models)
    state = TrainingState(
        {"transformer": transformer},
        [bare_optimizer],
        {"transformer": average},
        shared_objects(accelerator, lr_scheduler),
        {"data": batches},
        save_extra=lambda folder: save_lora(transformer, folder),
    )
    start_trackers(accelerator, args, "text_to_video_lora")
    num_weights = sum(parameter.numel() for parameter in parameters)
    logger.info("%.2f million weights in LoRA layers of rank %d.", num_weights / 1e6, args.rank)

    # 3. Train
    strength = 0.0 if args.no_error_correction else 1.0
    options = TransformerStepOptions(
        max_sequence_length=args.max_sequence_length,
        text_drop_probability=args.text_drop_probability,
        attention=attention,
    )
    backend = attention_backend(backend_of(attention))
    with backend, TrainingLoop(accelerator, state, args) as loop:
        for _ in loop:
            for _ in range(args.gradient_accumulation_steps):
                batch = next(batches)
                with accelerator.accumulate(wrapped):
                    with accelerator.autocast():
                        output = transformer_step(
                            batch,
                            wrapped,
                            scheduler,
                            vae,
                            pipeline.tokenizer,
                            pipeline.text_encoder,
                            options,
                            strength,
                        )
                    norm = take_step(accelerator, output.loss, optimizer, parameters, args.max_grad_norm)
                loop.watch(batch, loss=output.loss)
            update_average(average, transformer)
            loop.watch_gradients(gradient_norm=norm)

            if loop.is_logging_step:
                metrics = bit_metrics(output.logits, output.target_bits, output.scale_schedule)
                loop.log({"lr": lr_scheduler.get_last_lr()[0]} | metrics, show=("token_accuracy/scale_0",))
            if loop.is_validation_step:
                with (
                    averaged_weights(transformer, average, accelerator.is_main_process),
                    attention_backend("native"),
                ):
                    values = {}
                    if accelerator.is_main_process:
                        with accelerator.autocast():
                            values |= held_out_metrics(pipeline, held_out, options)
                    if accelerator.is_main_process and args.validation_prompts:
                        strips = sample_validation_videos(
                            pipeline,
                            args.validation_prompts,
                            args.output_dir / "validation" / f"step-{loop.step:07d}",
                            args.height,
                            args.width,
                            args.num_frames,
                            args.validation_guidance_scale,
                            args.seed,
                            args.validation_fps,
                        )
                        log_images(accelerator, "validation", strips, loop.step)
                    if fvd is not None:
                        values |= sampled_fvd(fvd, pipeline, args.validation_guidance_scale)
                    loop.log_validation(values)
                accelerator.wait_for_everyone()
            lr_scheduler.step()

    # 4. Save the averaged LoRA layers
    if accelerator.is_main_process and not loop.is_stopped:
        folder = args.output_dir / "lora"
        with replaced_folder(folder, loop.state.num_bytes) as temporary:
            with averaged_weights(transformer, average, accelerator.is_main_process):
                save_lora(transformer, temporary)
            save_model_card(
                temporary,
                description=f"LoRA layers for `{args.pretrained_pipeline}`, trained with videoar_pipelines.",
                usage="from videoar_pipelines import VideoARPipeline\n\n"
                f'pipe = VideoARPipeline.from_pretrained("{args.pretrained_pipeline}")\n'
                f'pipe.load_lora_weights("{args.hub_model_id or folder}")',
                facts={
                    "data": args.data,
                    "steps": str(loop.step),
                    "rank": str(args.rank),
                    "hardware": hardware_name(accelerator),
                    "weights": describe_average(args.ema_decay, loop.step),
                },
                args=args,
                final_values=loop.last_logs,
                tags=["text-to-video", "lora"],
                base_model=args.pretrained_pipeline,
            )
        logger.info("Saved the LoRA layers to %s.", folder)
        if args.push_to_hub:
            push_to_hub(folder, args.hub_model_id or args.output_dir.name, loop.step)


if __name__ == "__main__":
    run_command_line(main, parse_args)
