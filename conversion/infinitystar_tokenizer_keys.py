# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
The names of InfinityStar's tokenizer there and here, as a table, and the conversion of its tensors, without any file.

Every key is renamed exactly once or dropped by name, every parameter of [`AutoencoderInfinityStar`] is filled, and the
widths are read from the shapes.
"""

import re

import torch
from checkpoint_files import ConversionError, check_complete, describe, first_of

from videoar_pipelines.models.autoencoder_infinitystar import AutoencoderInfinityStar


# Public key -> ours. A pattern matches a whole key; what is named in it carries over.
_KIND = r"(?P<kind>weight|bias)"
_DOWN = r"encoder\.down_blocks\.(?P<level>\d+)"
_UP = r"decoder\.up_blocks\.(?P<level>\d+)"
_RESNET = r"resnets\.(?P<block>\d+)"
_CONV = rf"(?P<conv>conv[12])\.conv\.{_KIND}"
_NORM = r"(?P<norm>norm[12])"
_PLAIN_NORM = rf"{_NORM}\.gamma"
_LATENT_NORM = rf"{_NORM}\.norm_layer\.gamma"
_LATENT_SCALE = rf"{_NORM}\.conv_y\.conv\.{_KIND}"
_LATENT_SHIFT = rf"{_NORM}\.conv_b\.conv\.{_KIND}"
RENAMES = (
    # 1. Both networks
    (rf"(?P<net>encoder|decoder)\.(?P<conv>conv_in|conv_out)\.conv\.{_KIND}", "{net}.{conv}.{kind}"),
    (rf"(?P<net>encoder|decoder)\.mid_block\.{_RESNET}\.{_CONV}", "{net}.mid_block.resnets.{block}.{conv}.{kind}"),
    # 2. Encoder
    (rf"{_DOWN}\.{_RESNET}\.{_CONV}", "encoder.down_blocks.{level}.resnets.{block}.{conv}.{kind}"),
    (rf"{_DOWN}\.{_RESNET}\.{_PLAIN_NORM}", "encoder.down_blocks.{level}.resnets.{block}.{norm}.weight"),
    (rf"{_DOWN}\.downsamplers\.0\.conv\.norm\.gamma", "encoder.down_blocks.{level}.downsamplers.0.norm.weight"),
    (
        rf"{_DOWN}\.downsamplers\.0\.conv\.conv\.conv\.{_KIND}",
        "encoder.down_blocks.{level}.downsamplers.0.conv.{kind}",
    ),
    (rf"encoder\.mid_block\.{_RESNET}\.{_PLAIN_NORM}", "encoder.mid_block.resnets.{block}.{norm}.weight"),
    (r"encoder\.norm_out\.gamma", "encoder.conv_norm_out.weight"),
    # 3. Decoder
    (rf"{_UP}\.{_RESNET}\.{_CONV}", "decoder.up_blocks.{level}.resnets.{block}.{conv}.{kind}"),
    (rf"{_UP}\.{_RESNET}\.{_LATENT_NORM}", "decoder.up_blocks.{level}.resnets.{block}.{norm}.weight"),
    (rf"{_UP}\.{_RESNET}\.{_LATENT_SCALE}", "decoder.up_blocks.{level}.resnets.{block}.{norm}.conv_scale.{kind}"),
    (rf"{_UP}\.{_RESNET}\.{_LATENT_SHIFT}", "decoder.up_blocks.{level}.resnets.{block}.{norm}.conv_shift.{kind}"),
    (rf"{_UP}\.upsamplers\.0\.conv\.norm\.gamma", "decoder.up_blocks.{level}.upsamplers.0.norm.weight"),
    (rf"{_UP}\.upsamplers\.0\.conv\.conv\.conv\.{_KIND}", "decoder.up_blocks.{level}.upsamplers.0.conv.{kind}"),
    (rf"decoder\.mid_block\.{_RESNET}\.{_LATENT_NORM}", "decoder.mid_block.resnets.{block}.{norm}.weight"),
    (rf"decoder\.mid_block\.{_RESNET}\.{_LATENT_SCALE}", "decoder.mid_block.resnets.{block}.{norm}.conv_scale.{kind}"),
    (rf"decoder\.mid_block\.{_RESNET}\.{_LATENT_SHIFT}", "decoder.mid_block.resnets.{block}.{norm}.conv_shift.{kind}"),
    (r"decoder\.norm_out\.norm_layer\.gamma", "decoder.conv_norm_out.weight"),
    (rf"decoder\.norm_out\.conv_y\.conv\.{_KIND}", "decoder.conv_norm_out.conv_scale.{kind}"),
    (rf"decoder\.norm_out\.conv_b\.conv\.{_KIND}", "decoder.conv_norm_out.conv_shift.{kind}"),
    # 4. Between them
    (rf"proj_down\.{_KIND}", "quant_proj.{kind}"),
    (rf"proj_up\.{_KIND}", "post_quant_proj.{kind}"),
    (r"scale_learnable_parameters", "latent_gain"),
)

# What nothing reads when a video is encoded or decoded.
DROPPED = (
    r"proj_(down|up)_two\.(weight|bias)",  # of a second branch in training
    r"quantizer?\.lfq_(semantic|detail)\.mask",  # powers of two that number the codes; one quantiser under two names
)


def rename_key(key: str) -> str | None:
    """Our name of a public key; `None` if it is not one that a parameter is filled from."""
    for pattern, template in RENAMES:
        match = re.fullmatch(pattern, key)
        if match:
            return template.format(**match.groupdict())
    return None


def is_dropped(key: str) -> bool:
    """Whether a public key is known and not needed."""
    return any(re.fullmatch(pattern, key) for pattern in DROPPED)


def convert_tensor(key: str, tensor: torch.Tensor) -> torch.Tensor:
    """The tensor of a public key in the shape that our parameter has."""
    if key == "scale_learnable_parameters":
        return tensor[:1]  # of four; the others belong to the second branch
    if key.endswith(".gamma"):
        return tensor.flatten()  # (C, 1, 1, 1) to (C,)
    return tensor


def convert_tokenizer(public: dict[str, torch.Tensor]) -> tuple[dict, dict[str, torch.Tensor]]:
    """
    Args:
        public (`dict[str, torch.Tensor]`): The reference's state dictionary, 301 tensors for the published tokenizer.

    Returns:
        `tuple[dict, dict[str, torch.Tensor]]`: Configuration and state dictionary of [`AutoencoderInfinityStar`].

    Raises:
        `ConversionError`: A key is unknown, a parameter stays empty, or a shape is wrong; the text names them.
    """
    tensors, unknown = {}, []
    for key, tensor in public.items():
        name = rename_key(key)
        if name is not None and isinstance(tensor, torch.Tensor):
            tensors[name] = convert_tensor(key, tensor)
        elif not is_dropped(key):
            unknown.append(f"{key} {describe(tensor)}")
    if unknown:
        raise ConversionError(f"The checkpoint has {first_of(unknown)} that this tokenizer does not have.")
    config = read_config(tensors)
    check_complete(tensors, model_shapes(config))
    return config, tensors


def read_config(tensors: dict[str, torch.Tensor]) -> dict:
    """The configuration that the shapes of the renamed tensors tell."""

    def size(name: str, axis: int = 0) -> int:
        if name not in tensors or tensors[name].ndim <= axis:
            raise ConversionError(f"The checkpoint lacks {name}, which tells the size of the tokenizer.")
        return tensors[name].shape[axis]

    def count(pattern: str) -> int:
        return len({match[0] for name in tensors if (match := re.match(pattern, name))})

    num_levels = max(1, count(r"encoder\.down_blocks\.\d+\."))
    widths = [size(f"encoder.down_blocks.{level}.resnets.0.conv1.weight") for level in range(num_levels)]
    # An upsampler makes four positions of one, and with time eight; the finest is the decoder's last.
    folded = [
        size(f"decoder.up_blocks.{num_levels - 1 - level}.upsamplers.0.conv.weight") for level in range(num_levels - 1)
    ]
    return {
        "in_channels": size("encoder.conv_in.weight", 1),
        "out_channels": size("decoder.conv_out.weight"),
        "latent_channels": size("quant_proj.weight"),
        "block_out_channels": widths,
        "layers_per_block": count(r"encoder\.down_blocks\.0\.resnets\.\d+\."),
        "decoder_layers_per_block": count(r"decoder\.up_blocks\.0\.resnets\.\d+\."),
        "temporal_downsample": [channels == width * 8 for channels, width in zip(folded, widths)],
    }


def model_shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Names and shapes of our parameters."""
    with torch.device("meta"):
        parameters = AutoencoderInfinityStar(**config).state_dict()
    return {name: tuple(parameter.shape) for name, parameter in parameters.items()}
