# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Inflates a public image tokenizer of Infinity to a video tokenizer, [`AutoencoderVideoAR`].

    python conversion/convert_infinity_vae_to_videoar.py --checkpoint_path infinity_vae_d32reg.pth --output_path vae

1. The file is read as tensors only; nothing in it is executed.
2. Every tensor is renamed; levels, widths, blocks and the number of bits are read from the shapes.
3. Every tensor must be used and every parameter filled, or the conversion fails and says what is different.
4. 3x3 convolutions become 3x3x3: the last slice in time is the image's, the others are zero or random.
5. The model is written to a temporary folder, which is renamed when it is complete.
"""

import argparse
import re
from pathlib import Path

import torch
from checkpoint_files import (
    VAE_WRAPPERS,
    ConversionError,
    check_complete,
    describe,
    first_of,
    read_checkpoint,
    unwrap,
)

from videoar_pipelines import AutoencoderVideoAR
from videoar_pipelines.utils.command_line import CommandLineParser, check_is_new, run_command_line
from videoar_pipelines.utils.files import complete_or_absent


# Public name without ".weight" or ".bias" -> ours. Layers are stored with or without a wrapper of their own ("conv",
# "norm"). The decoder's levels are counted from fine to coarse there and in the order of execution here: `{step}`.
_LAYER = r"(?:(?P<norm>norm[12])(?:\.norm)?|(?P<conv>conv[12])(?:\.conv)?|(?P<shortcut>nin_shortcut)(?:\.conv)?)"
_LEVEL = r"(?P<level>\d+)"
_BLOCK = rf"{_LEVEL}\.block\.(?P<block>\d+)\.{_LAYER}"
RENAMES = (
    (r"(?P<net>encoder|decoder)\.(?P<conv>conv_in|conv_out)(?:\.conv)?", "{net}.{layer}"),
    (r"(?P<net>encoder|decoder)\.norm_out(?:\.norm)?", "{net}.conv_norm_out"),
    (rf"encoder\.down\.{_BLOCK}", "encoder.down_blocks.{level}.resnets.{block}.{layer}"),
    (rf"decoder\.up\.{_BLOCK}", "decoder.up_blocks.{step}.resnets.{block}.{layer}"),
    (rf"(?P<net>encoder|decoder)\.mid\.block_1\.{_LAYER}", "{net}.mid_block.resnets.0.{layer}"),
    (rf"(?P<net>encoder|decoder)\.mid\.block_2\.{_LAYER}", "{net}.mid_block.resnets.1.{layer}"),
    (rf"encoder\.down\.{_LEVEL}\.downsample\.conv(?:\.conv)?", "encoder.down_blocks.{level}.downsamplers.0.conv"),
    (rf"decoder\.up\.{_LEVEL}\.upsample\.conv(?:\.conv)?", "decoder.up_blocks.{step}.upsamplers.0.conv"),
)
# Powers of two that number the codes; bits need no number.
DROPPED = r"(quantizer|quantize)\.lfq\.mask"

# What the number of bits decides. `--latent_channels` initialises these anew.
BIT_TENSORS = ("encoder.conv_out.weight", "encoder.conv_out.bias", "decoder.conv_in.weight")

# The paper's factor of four in time: the two coarsest downsamplers also halve the frame rate, whether there are four (16
# pixels to a token) or three (8 pixels).
NUM_TEMPORAL_DOWNSAMPLES = 2


def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    check_is_new("--output_path", args.output_path)
    torch.manual_seed(args.seed)

    public = load_tensors(args.checkpoint_path)
    tensors = rename(public)
    config = read_config(tensors)
    check_complete(tensors, image_shapes(config))

    new_bits = args.latent_channels not in (None, config["latent_channels"])
    if new_bits:
        tensors = {name: tensor for name, tensor in tensors.items() if name not in BIT_TENSORS}
        config["latent_channels"] = args.latent_channels
    model = AutoencoderVideoAR(**config)
    inflate(model, tensors, args.inflation)
    with complete_or_absent(args.output_path) as folder:
        model.save_pretrained(folder)

    print(f"Converted {len(tensors)} tensors to {args.output_path}, inflation {args.inflation}: {config}")
    if new_bits:
        print(f"Initialised anew for {args.latent_channels} bits, to be trained: {', '.join(BIT_TENSORS)}")


def parse_args(arguments: list[str] | None) -> argparse.Namespace:
    parser = CommandLineParser("Inflate a public image tokenizer of Infinity to AutoencoderVideoAR.")
    parser.add_argument(
        "--checkpoint_path", type=Path, required=True, help="A public file, such as infinity_vae_d32reg.pth."
    )
    parser.add_argument("--output_path", type=Path, required=True, help="The folder to write, which must not exist.")
    parser.add_argument(
        "--inflation",
        choices=("zero", "random"),
        default="zero",
        help="What the other slices in time are: `zero` keeps the image tokenizer exactly, `random` is the paper's.",
    )
    parser.add_argument(
        "--latent_channels",
        type=int,
        help="Another number of bits than the file's; the tensors it decides start anew.",
    )
    parser.add_argument("--seed", type=int, default=0, help="For everything that starts at random.")
    return parser.parse_args(arguments)


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    return unwrap(
        read_checkpoint(path),
        path,
        VAE_WRAPPERS,
        is_ours=lambda key: key.startswith("encoder."),
        absent="no tokenizer: there is no key 'encoder.*'",
    )


def rename(public: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Our name of every tensor. Each key is renamed exactly once."""
    levels = [int(match[1]) for key in public if (match := re.match(r"decoder\.up\.(\d+)\.", key))]
    tensors, unknown = {}, []
    for key, tensor in public.items():
        if re.fullmatch(DROPPED, key):
            continue
        name = rename_key(key, last_level=max(levels, default=0))
        if name is None or not isinstance(tensor, torch.Tensor):
            unknown.append(f"{key} {describe(tensor)}")
        elif name in tensors:
            raise ConversionError(f"The checkpoint holds {name} twice, in both spellings of its key.")
        else:
            tensors[name] = tensor
    if unknown:
        raise ConversionError(f"The checkpoint has {first_of(unknown)} that this tokenizer does not have.")
    return tensors


def rename_key(key: str, last_level: int) -> str | None:
    stem, _, kind = key.rpartition(".")
    for pattern, template in RENAMES:
        match = re.fullmatch(pattern, stem)
        if match and kind in ("weight", "bias"):
            groups = {name: value for name, value in match.groupdict().items() if value is not None}
            layer = "conv_shortcut" if "shortcut" in groups else groups.get("norm", groups.get("conv"))
            step = last_level - int(groups.get("level", 0))
            return f"{template.format(**groups, layer=layer, step=step)}.{kind}"
    return None


def read_config(tensors: dict[str, torch.Tensor]) -> dict:
    """The configuration that the tensors' shapes tell."""

    def size(name: str, axis: int) -> int:
        if name not in tensors or tensors[name].ndim <= axis:
            raise ConversionError(f"The checkpoint lacks {name}, which tells the size of the tokenizer.")
        return tensors[name].shape[axis]

    def count(pattern: str) -> int:
        return len({match[0] for name in tensors if (match := re.match(pattern, name))})

    num_levels = max(1, count(r"encoder\.down_blocks\.\d+\."))
    widths = [size(f"encoder.down_blocks.{level}.resnets.0.conv1.weight", 0) for level in range(num_levels)]
    groups = next((groups for groups in (32, 24) if all(width % groups == 0 for width in widths)), None)
    if groups is None:
        raise ConversionError(f"The widths {widths} are neither all multiples of 32 nor of 24, the norms' groups.")
    num_downsamples = num_levels - 1
    return {
        "in_channels": size("encoder.conv_in.weight", 1),
        "out_channels": size("decoder.conv_out.weight", 0),
        "latent_channels": size("encoder.conv_out.weight", 0),
        "block_out_channels": widths,
        "layers_per_block": count(r"encoder\.down_blocks\.0\.resnets\.\d+\."),
        "decoder_layers_per_block": count(r"decoder\.up_blocks\.0\.resnets\.\d+\."),
        "temporal_kernel_sizes": [3] * (num_levels + 1),
        "temporal_downsample": [
            level >= num_downsamples - NUM_TEMPORAL_DOWNSAMPLES for level in range(num_downsamples)
        ],
        "norm_num_groups": groups,
    }


def image_shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Our names, with the shapes that the image model has."""
    with torch.device("meta"):
        parameters = AutoencoderVideoAR(**config).state_dict()
    # A 5D weight without its axis of time is the image model's.
    return {
        name: (*parameter.shape[:2], *parameter.shape[3:]) if parameter.ndim == 5 else tuple(parameter.shape)
        for name, parameter in parameters.items()
    }


@torch.no_grad()
def inflate(model: AutoencoderVideoAR, tensors: dict[str, torch.Tensor], inflation: str) -> None:
    """Fills the model; of a weight with an axis of time, only the last slice, which sees the current frame."""
    for name, parameter in model.named_parameters():
        if name not in tensors:
            continue  # of another number of bits
        if parameter.ndim < 5:
            parameter.copy_(tensors[name])
            continue
        if inflation == "zero":
            parameter.zero_()
        parameter[:, :, -1] = tensors[name]


if __name__ == "__main__":
    run_command_line(main)
