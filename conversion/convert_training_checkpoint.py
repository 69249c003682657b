# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Turns a checkpoint of a training script, sharded over any number of processes or not, into folders for `from_pretrained`.

    python conversion/convert_training_checkpoint.py --checkpoint_path runs/transformer/checkpoint-5000 --output_path converted

1. The checkpoint's index says which tensors there are; one process is enough, however many wrote it.
2. The tensors are dealt out to files of at most `--max_shard_size`; each file is filled and written before the next, so that
   memory holds little more than one of them.
3. Every trained model that has a configuration becomes a folder, `converted/transformer` for example.
4. Everything is written to a temporary folder, which is renamed when it is complete.

Read only checkpoints of your own: their index is a pickle.
"""

import argparse
import json
import shutil
import sys
import warnings
from pathlib import Path

import torch
import torch.distributed.checkpoint as distributed_checkpoint
from checkpoint_files import ConversionError, check_is_new, complete_folder
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from videoar_pipelines.training.checkpoints import STATE_FOLDER


# What `--weights` chooses: where the training scripts keep the tensors of a model.
SECTIONS = {"averaged": "averages", "raw": "models"}


def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    check_is_new(args.output_path)
    reader, tensors = open_checkpoint(args.checkpoint_path)
    models = [path.parent.name for path in sorted(args.checkpoint_path.glob("*/config.json"))]
    named = {model: model_tensors(tensors, model, args.weights) for model in models}
    named = {model: names for model, names in named.items() if names}
    if not named:
        raise ConversionError(
            f"{args.checkpoint_path} holds no {args.weights} weights. Its models: {', '.join(models)}."
        )

    with complete_folder(args.output_path) as temporary:
        for model, names in named.items():
            num_files = convert(reader, tensors, names, args.checkpoint_path / model, temporary / model, args)
            print(f"{model}: {len(names)} {args.weights} tensors in {num_files} file(s), {args.output_path / model}")


def parse_args(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Turn a training checkpoint into folders for `from_pretrained`.")
    parser.add_argument("--checkpoint_path", type=Path, required=True, help="A folder `checkpoint-N` of a run.")
    parser.add_argument("--output_path", type=Path, required=True, help="The folder to write, which must not exist.")
    parser.add_argument(
        "--weights", choices=SECTIONS, default="averaged", help="The exponential average, or the raw ones."
    )
    parser.add_argument("--max_shard_size", default="5GB", help="Of a safetensors file; memory needs little more.")
    return parser.parse_args(arguments)


def open_checkpoint(
    path: Path,
) -> tuple[distributed_checkpoint.FileSystemReader, dict[str, TensorStorageMetadata]]:
    """A reader, and the index: what is known of every tensor without reading it."""
    if not (path / STATE_FOLDER / ".metadata").is_file():
        raise ConversionError(f"{path} is not a complete checkpoint: it has no {STATE_FOLDER}/.metadata.")
    reader = distributed_checkpoint.FileSystemReader(path / STATE_FOLDER)
    entries = reader.read_metadata().state_dict_metadata
    return reader, {name: entry for name, entry in entries.items() if isinstance(entry, TensorStorageMetadata)}


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
    reader: distributed_checkpoint.FileSystemReader,
    tensors: dict[str, TensorStorageMetadata],
    names: dict[str, str],
    source: Path,
    target: Path,
    args: argparse.Namespace,
) -> int:
    """Writes one model; the number of files."""
    target.mkdir(parents=True)
    for file in source.iterdir():
        shutil.copy(file, target / file.name)
    config = json.loads((source / "config.json").read_text())
    stem = "diffusion_pytorch_model" if "_class_name" in config else "model"
    outlines = {
        name: torch.empty(tensors[stored].size, dtype=tensors[stored].properties.dtype, device="meta")
        for name, stored in names.items()
    }
    split = split_torch_state_dict_into_shards(
        outlines, filename_pattern=f"{stem}{{suffix}}.safetensors", max_shard_size=args.max_shard_size
    )
    for filename, members in split.filename_to_tensors.items():
        shard = {name: torch.empty_like(outlines[name], device="cpu") for name in members}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            distributed_checkpoint.load(
                {names[name]: tensor for name, tensor in shard.items()}, storage_reader=reader, no_dist=True
            )
        save_file(shard, target / filename, metadata={"format": "pt"})
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (target / f"{stem}.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
    return len(split.filename_to_tensors)


if __name__ == "__main__":
    try:
        main()
    except ConversionError as error:
        sys.exit(f"error: {error}")
