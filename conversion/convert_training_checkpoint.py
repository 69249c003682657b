# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Turns a checkpoint of a training script, sharded over any number of processes or not, into a folder for `from_pretrained`: a whole
pipeline from train_text_to_video.py, also of a run that was interrupted, and the tokenizer from train_video_tokenizer.py.

    python conversion/convert_training_checkpoint.py --checkpoint_path runs/transformer/checkpoint-5000 --output_path converted

1. The checkpoint's index says which tensors there are; one process is enough, however many wrote it.
2. The tensors are dealt out to files of at most `--max_shard_size`; each file is filled and written before the next, so that
   memory holds little more than one of them.
3. Every trained model that has a configuration becomes a folder, `converted/transformer` for example.
4. What was not trained is added, from where training took it or from `--vae` and `--text_encoder`: the other parts of a pipeline, and
   the encoder of a tokenizer whose decoder was trained alone.
5. Everything is written to a temporary folder, which is renamed when it is complete.

Nothing in a checkpoint is executed.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from checkpoint_files import ConversionError
from huggingface_hub import ModelCard, ModelCardData, split_torch_state_dict_into_shards
from safetensors.torch import save_file
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from videoar_pipelines.training.checkpoint_index import ShardedReader, load_sharded
from videoar_pipelines.training.checkpoints import STATE_FOLDER
from videoar_pipelines.training.pipeline_parts import SOURCES_NAME, complete_pipeline, load_frozen_weights
from videoar_pipelines.utils.command_line import CommandLineParser, check_is_new, run_command_line
from videoar_pipelines.utils.files import complete_or_absent


# What `--weights` chooses: where the training scripts keep the tensors of a model.
SECTIONS = {"averaged": "averages", "raw": "models"}


def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    check_is_new("--output_path", args.output_path)
    tensors = open_checkpoint(args.checkpoint_path)
    models = [path.parent.name for path in sorted(args.checkpoint_path.glob("*/config.json"))]
    named = {model: model_tensors(tensors, model, args.weights) for model in models}
    named = {model: names for model, names in named.items() if names}
    if not named:
        raise ConversionError(
            f"{args.checkpoint_path} holds no {args.weights} weights. Its models: {', '.join(models)}."
        )

    frozen = load_frozen_weights(args.checkpoint_path, named["vae"], args.vae) if "vae" in named else {}

    with complete_or_absent(args.output_path) as temporary:
        for model, names in named.items():
            others = frozen if model == "vae" else {}
            num_files = convert(tensors, names, others, args.checkpoint_path / model, temporary / model, args)
            untrained = f" and {len(others)} that were not trained" if others else ""
            print(
                f"{model}: {len(names)} {args.weights} tensors{untrained} in {num_files} file(s), {args.output_path / model}"
            )
        if (args.checkpoint_path / SOURCES_NAME).is_file():
            complete_pipeline(args.checkpoint_path, temporary, {"vae": args.vae, "text_encoder": args.text_encoder})
            print(f"The pipeline is complete: VideoARPipeline.from_pretrained({str(args.output_path)!r})")
        elif (args.vae is not None and not frozen) or args.text_encoder is not None:
            raise ConversionError(
                f"`--vae` and `--text_encoder` are for what a checkpoint lacks, {args.checkpoint_path} lacks nothing: leave them out."
            )
        write_card(args, temporary)


def parse_args(arguments: list[str] | None) -> argparse.Namespace:
    parser = CommandLineParser("Turn a training checkpoint into a folder for `from_pretrained`.")
    parser.add_argument("--checkpoint_path", type=Path, required=True, help="A folder `checkpoint-N` of a run.")
    parser.add_argument("--output_path", type=Path, required=True, help="The folder to write, which must not exist.")
    parser.add_argument(
        "--weights", choices=SECTIONS, default="averaged", help="The exponential average, or the raw ones."
    )
    parser.add_argument("--max_shard_size", default="5GB", help="Of a safetensors file; memory needs little more.")
    parser.add_argument(
        "--vae",
        help="Folder or Hub id of the tokenizer, or of the one that a decoder was trained of, if it is no longer where training took"
        " it from.",
    )
    parser.add_argument("--text_encoder", help="The same for the text encoder.")
    return parser.parse_args(arguments)


def open_checkpoint(path: Path) -> dict[str, TensorStorageMetadata]:
    """The index: what is known of every tensor without reading it."""
    if not (path / "training_state.json").is_file() and not (path / STATE_FOLDER).is_dir():
        raise ConversionError(
            f"`--checkpoint_path` {path} is not a complete checkpoint: name a folder `checkpoint-N`."
        )
    entries = ShardedReader(path / STATE_FOLDER).read_metadata().state_dict_metadata
    return {name: entry for name, entry in entries.items() if isinstance(entry, TensorStorageMetadata)}


def model_tensors(tensors: dict[str, TensorStorageMetadata], model: str, weights: str) -> dict[str, str]:
    """The parameters of a model: their names in the model, and in the checkpoint."""
    prefix = f"{SECTIONS[weights]}.{model}."
    names = {name.removeprefix(prefix): name for name in tensors if name.startswith(prefix)}
    if any("lora_" in name for name in names):
        raise ConversionError(
            f"The checkpoint holds LoRA layers of the {model} and not the model. They lie beside it in diffusers' layout, "
            "`pytorch_lora_weights.safetensors`, for `load_lora_weights`."
        )
    return names


def convert(
    tensors: dict[str, TensorStorageMetadata],
    names: dict[str, str],
    others: dict[str, torch.Tensor],
    source: Path,
    target: Path,
    args: argparse.Namespace,
) -> int:
    """Writes one model, of a checkpoint's tensors and others; the number of files."""
    target.mkdir(parents=True)
    for file in source.iterdir():
        shutil.copy(file, target / file.name)
    config = json.loads((source / "config.json").read_text())
    stem = "diffusion_pytorch_model" if "_class_name" in config else "model"
    outlines = {
        name: torch.empty(tensors[stored].size, dtype=tensors[stored].properties.dtype, device="meta")
        for name, stored in names.items()
    }
    outlines |= {name: tensor.to("meta") for name, tensor in others.items()}
    split = split_torch_state_dict_into_shards(
        outlines, filename_pattern=f"{stem}{{suffix}}.safetensors", max_shard_size=args.max_shard_size
    )
    for filename, members in split.filename_to_tensors.items():
        shard = {name: torch.empty_like(outlines[name], device="cpu") for name in members if name in names}
        load_sharded({names[name]: tensor for name, tensor in shard.items()}, source.parent / STATE_FOLDER)
        shard |= {name: others[name].contiguous() for name in members if name in others}
        save_file(shard, target / filename, metadata={"format": "pt"})
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (target / f"{stem}.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
    return len(split.filename_to_tensors)


def write_card(args: argparse.Namespace, folder: Path) -> None:
    """What one has to know of a model that comes out of the middle of a run."""
    path = args.checkpoint_path / "training_state.json"
    steps = json.loads(path.read_text())["step"] if path.is_file() else "unknown"
    text = f"Checkpoint `{args.checkpoint_path.name}` of a training run with videoar_pipelines.\n\n- steps: {steps}\n"
    text += f"- weights: {'exponential average' if args.weights == 'averaged' else 'raw'}\n"
    ModelCard(f"---\n{ModelCardData(library_name='diffusers').to_yaml()}\n---\n\n{text}").save(folder / "README.md")


if __name__ == "__main__":
    run_command_line(main)
