# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Converts the public weights of InfinityStar to a folder that [`InfinityStarPipeline`] loads.

    python conversion/convert_infinitystar_to_diffusers.py \
        --transformer_path InfinityStar/infinitystar_8b_480p_weights --vae_path InfinityStar/infinitystar_videovae.pth \
        --text_encoder_path InfinityStar/text_encoder/flan-t5-xl-official --preset 480p --output_path infinitystar-480p

1. Names and shapes of all tensors are read from the shards, without their numbers; nothing in a file is executed.
2. Every tensor must be known and used and every parameter filled, or the conversion fails and says what is different.
3. The transformer is read tensor by tensor, cast to bfloat16 (its two heads stay in float32) and written in shards: of 35 GB,
   never more than one shard of the result and one tensor of the source are in memory.
4. Query and key rows are reordered so that our rotary embedding is theirs; the gate and up projections become one.
5. Tokenizer, scheduler and text encoder follow; the whole folder gets its name when it is complete.
"""

import argparse
import json
from pathlib import Path

import torch
from checkpoint_files import VAE_WRAPPERS, ConversionError, first_of, read_checkpoint, unwrap
from infinitystar_tokenizer_keys import convert_tokenizer
from infinitystar_transformer_keys import TensorPlan, check_plans, plan_tensors, read_config
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers import AutoTokenizer, T5EncoderModel

from videoar_pipelines import (
    AutoencoderInfinityStar,
    InfinityStarPipeline,
    InfinityStarScheduler,
    InfinityStarTransformer3DModel,
)
from videoar_pipelines.hub.model_card import write_card
from videoar_pipelines.schedulers.scheduling_infinitystar import PRESETS
from videoar_pipelines.utils.command_line import CommandLineParser, check_is_new, run_command_line
from videoar_pipelines.utils.files import complete_or_absent


INDEX_NAMES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
FILE_NAME = "diffusion_pytorch_model"


def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    check_is_new("--output_path", args.output_path)
    source = ShardedCheckpoint(args.transformer_path)
    config = read_config(source.shapes)
    with torch.device("meta"):
        transformer = InfinityStarTransformer3DModel(**config)
    plans = plan_tensors(source.shapes, config)
    check_plans(plans, source.shapes, transformer)
    vae = load_vae(args.vae_path)
    scheduler = InfinityStarScheduler(**PRESETS[args.preset])

    with complete_or_absent(args.output_path) as folder:
        vae.save_pretrained(folder / "vae")
        vae.to("meta")  # what follows needs its memory
        writer = ShardWriter(getattr(torch, args.dtype), int(args.max_shard_gb * 1e9))
        writer.write(transformer, plans, source, folder / "transformer")
        scheduler.save_pretrained(folder / "scheduler")
        tokenizer, text_encoder = None, None
        if args.text_encoder_path is not None:
            tokenizer, text_encoder = load_text_encoder(args.text_encoder_path)
            tokenizer.save_pretrained(folder / "tokenizer")
            text_encoder.save_pretrained(folder / "text_encoder")
        pipeline = InfinityStarPipeline(tokenizer, text_encoder, vae, transformer, scheduler)
        pipeline.save_config(folder)
        write_card(folder, pipeline.model_card(args.output_path.name))  # the folder's name is not yet its own

    num_parameters = sum(parameter.numel() for parameter in transformer.parameters())
    print(f"Converted {len(source.shapes)} tensors, {num_parameters:,} parameters, to {args.output_path}: {config}")
    if text_encoder is None:
        print("The folder has no text encoder: the pipeline will ask for `prompt_embeds`.")


def parse_args(arguments: list[str] | None) -> argparse.Namespace:
    parser = CommandLineParser("Convert the public weights of InfinityStar to a diffusers folder.")
    parser.add_argument(
        "--transformer_path",
        type=Path,
        required=True,
        help="A folder of shards with their index, or a single file of PyTorch or safetensors.",
    )
    parser.add_argument("--vae_path", type=Path, required=True, help="The file of the video tokenizer.")
    parser.add_argument(
        "--text_encoder_path",
        type=Path,
        help="A folder of Flan-T5-XL with its tokenizer; left out, the pipeline asks for `prompt_embeds`.",
    )
    parser.add_argument(
        "--preset", choices=tuple(PRESETS), required=True, help="For which size the transformer was trained."
    )
    parser.add_argument("--output_path", type=Path, required=True, help="The folder to write, which must not exist.")
    parser.add_argument(
        "--dtype", choices=("bfloat16", "float32"), default="bfloat16", help="Of the transformer but its two heads."
    )
    parser.add_argument(
        "--max_shard_gb", type=float, default=2.0, help="Largest file of the transformer, in 1e9 bytes."
    )
    args = parser.parse_args(arguments)
    if args.max_shard_gb <= 0:
        raise ConversionError(f"`--max_shard_gb` has to be above 0, got {args.max_shard_gb}.")
    return args


class ShardedCheckpoint:
    """
    Names and shapes of tensors in one or several files, and their numbers one tensor at a time. A file is opened anew for every
    tensor, so that nothing of it stays in memory.

    Args:
        path (`Path`): A folder with an index (`*.index.json`), or a file.

    Raises:
        `ConversionError`: Something is missing, damaged, or not where the index says.
    """

    def __init__(self, path: Path):
        self.files = {}  # name -> file
        self.shapes = {}
        if path.is_dir():
            self._add_shards(path)
        else:
            self._add_file(path)

    def _add_shards(self, folder: Path) -> None:
        index_path = next((folder / name for name in INDEX_NAMES if (folder / name).is_file()), None)
        if index_path is None:
            single = sorted(folder.glob("*.safetensors"))
            if len(single) != 1:
                raise ConversionError(
                    f"`--transformer_path` {folder} has no index ({' or '.join(INDEX_NAMES)}). Name the folder that has it, or a "
                    "single file."
                )
            self._add_file(single[0])
            return
        try:
            listed = json.loads(index_path.read_text())["weight_map"]
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise ConversionError(f"{index_path} is not an index of shards: it has no `weight_map`.") from error
        shards = sorted(set(listed.values()))
        absent = [shard for shard in shards if not (folder / shard).is_file()]
        if absent:
            raise ConversionError(f"{folder} lacks {len(absent)} of {len(shards)} shards: {', '.join(absent)}.")
        for shard in shards:
            self._add_file(folder / shard)
        misplaced = [
            f"{name} (not in {shard})"
            for name, shard in listed.items()
            if name not in self.files or self.files[name].name != shard
        ]
        misplaced += [
            f"{name} (in {self.files[name].name}, not in the index)" for name in self.files if name not in listed
        ]
        if misplaced:
            raise ConversionError(
                f"The shards in {folder} are not those of {index_path.name}: {first_of(misplaced)}. Download them again, all of "
                "one model."
            )

    def _add_file(self, path: Path) -> None:
        for name, shape in read_shapes(path).items():
            if name in self.files:
                raise ConversionError(f"{name} is in {self.files[name].name} and in {path.name}.")
            self.files[name] = path
            self.shapes[name] = shape

    def read(self, name: str) -> torch.Tensor:
        path = self.files[name]
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                return file.get_tensor(name)
        return read_checkpoint(path, mmap=True)[name]


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    if path.suffix == ".safetensors" and path.is_file():
        try:
            with safe_open(path, "pt") as file:
                return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
        except SafetensorError as error:
            raise ConversionError(f"{path} is truncated or damaged. Download it again.") from error
    checkpoint = read_checkpoint(path, name="--transformer_path", mmap=True)
    if not isinstance(checkpoint, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in checkpoint.values()):
        raise ConversionError(f"{path} is not a plain dictionary of tensors. Ask for a file with the state dict only.")
    return {name: tuple(tensor.shape) for name, tensor in checkpoint.items()}


def load_vae(path: Path) -> AutoencoderInfinityStar:
    public = unwrap(
        read_checkpoint(path, name="--vae_path"),
        path,
        VAE_WRAPPERS,
        is_ours=lambda key: key.startswith("encoder."),
        absent="no tokenizer: there is no key 'encoder.*'",
    )
    config, tensors = convert_tokenizer(public)
    vae = AutoencoderInfinityStar(**config)
    vae.load_state_dict(tensors)
    return vae


def load_text_encoder(path: Path):
    if not (path / "config.json").is_file():
        raise ConversionError(f"`--text_encoder_path` {path} is no folder of a text encoder: it has no config.json.")
    return AutoTokenizer.from_pretrained(path), T5EncoderModel.from_pretrained(path, dtype=torch.bfloat16)


class ShardWriter:
    """
    Writes a transformer, one shard after the other.

    Args:
        dtype (`torch.dtype`): Of all tensors but those of the heads, which are float32.
        max_shard_size (`int`): Bytes of a file; a tensor that is larger gets its own.
    """

    def __init__(self, dtype: torch.dtype, max_shard_size: int):
        self.dtype = dtype
        self.max_shard_size = max_shard_size

    @torch.no_grad()
    def write(
        self,
        model: InfinityStarTransformer3DModel,
        plans: dict[str, TensorPlan],
        source: ShardedCheckpoint,
        folder: Path,
    ) -> None:
        """Writes configuration, shards and index. `model` may be on the meta device: only its names and shapes are used."""
        shards, sizes = self._plan_shards(model)
        model.save_config(folder)
        weight_map = {}
        for number, names in enumerate(shards, start=1):
            tensors = {}
            for name in names:
                sources = [source.read(key) for key in plans[name].sources]
                # A copy, so that the source's file is let go of.
                tensors[name] = plans[name].convert(*sources).to(self._dtype_of(name), copy=True).contiguous()
            file_name = f"{FILE_NAME}-{number:05d}-of-{len(shards):05d}.safetensors"
            save_file(tensors, folder / file_name, metadata={"format": "pt"})
            weight_map |= dict.fromkeys(names, file_name)
        index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map}
        (folder / f"{FILE_NAME}.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")

    def _plan_shards(self, model: InfinityStarTransformer3DModel) -> tuple[list[list[str]], dict[str, int]]:
        """The names in each file, and the bytes of each tensor."""
        sizes = {
            name: parameter.numel() * self._dtype_of(name).itemsize for name, parameter in model.state_dict().items()
        }
        shards, room = [], 0
        for name, size in sizes.items():
            if size > room:
                shards.append([])
                room = self.max_shard_size
            shards[-1].append(name)
            room -= size
        return shards, sizes

    def _dtype_of(self, name: str) -> torch.dtype:
        is_head = any(module in name for module in InfinityStarTransformer3DModel._keep_in_fp32_modules)
        return torch.float32 if is_head else self.dtype


if __name__ == "__main__":
    run_command_line(main)
