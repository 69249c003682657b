# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Gives the tokens of a trained pipeline more bits, to go on training from what is learnt.

    python widen_bits.py --pretrained_pipeline runs/transformer/pipeline --latent_channels 64 --output_dir runs/wide

The tokenizer decodes at first nearly what it did: the decoder does not read the new bits yet, and the old ones keep their weight though a bit is
now a smaller step. The transformer predicts the old bits as before and knows nothing of the new ones. Both need training after it.
"""

from pathlib import Path

import torch

from videoar_pipelines import AutoencoderVideoAR, VideoARPipeline, VideoARTransformer3DModel
from videoar_pipelines.utils.command_line import (
    CommandLineParser,
    UsageError,
    check_is_new,
    loading,
    positive_int,
    run_command_line,
)
from videoar_pipelines.utils.files import complete_or_absent


# New columns of the embedding of maps begin smaller than usual: what they read is noise to the trained blocks.
SHARE_OF_NEW_COLUMNS = 0.3


def parse_args(arguments=None):
    parser = CommandLineParser(__doc__)
    parser.add_argument("--pretrained_pipeline", required=True, help="Folder or Hub id of a trained pipeline.")
    parser.add_argument("--latent_channels", type=positive_int, required=True, help="Bits of a token, more than now.")
    parser.add_argument("--seed", type=int, default=0, help="Of the new weights.")
    parser.add_argument("--output_dir", type=Path, required=True, help="For the new pipeline.")
    return parser.parse_args(arguments)


def widen_tokenizer(vae: AutoencoderVideoAR, latent_channels: int, seed: int) -> AutoencoderVideoAR:
    """A tokenizer of `latent_channels` bits with the weights of `vae`; new bits are random mixtures of what the encoder knows."""
    old_channels = vae.config.latent_channels
    torch.manual_seed(seed)
    wide = AutoencoderVideoAR.from_config(dict(vae.config) | {"latent_channels": latent_channels})
    # A bit is a step of 1 / sqrt(bits): features shrink with it, and the decoder makes up for that.
    scale = (latent_channels / old_channels) ** 0.5
    weights = vae.state_dict()
    encoder_out, decoder_in = weights["encoder.conv_out.weight"], weights["decoder.conv_in.weight"]
    new_channels = latent_channels - old_channels
    new_rows = torch.randn(new_channels, *encoder_out.shape[1:]) * encoder_out.std(0, keepdim=True)
    bias = weights["encoder.conv_out.bias"]
    weights["encoder.conv_out.weight"] = torch.cat([encoder_out, new_rows]) / scale
    weights["encoder.conv_out.bias"] = torch.cat([bias, bias.new_zeros(new_channels)]) / scale
    unread = decoder_in.new_zeros(decoder_in.shape[0], new_channels, *decoder_in.shape[2:])
    weights["decoder.conv_in.weight"] = torch.cat([decoder_in, unread], dim=1) * scale
    wide.load_state_dict(weights)
    return wide


def widen_transformer(
    transformer: VideoARTransformer3DModel, latent_channels: int, seed: int
) -> VideoARTransformer3DModel:
    """A transformer for `latent_channels` bits with the weights of `transformer`."""
    old_channels = transformer.config.out_channels
    # A map is embedded from its own sum and, with `all_scales`, that of the previous frame beside it.
    num_sums = transformer.config.in_channels // old_channels
    sizes = {"in_channels": num_sums * latent_channels, "out_channels": latent_channels}
    torch.manual_seed(seed)
    wide = VideoARTransformer3DModel.from_config(dict(transformer.config) | sizes)
    scale = (latent_channels / old_channels) ** 0.5
    weights, new = transformer.state_dict(), wide.state_dict()
    embedder = new["map_embedder.weight"].unflatten(1, (num_sums, latent_channels)) * SHARE_OF_NEW_COLUMNS
    embedder[:, :, :old_channels] = weights["map_embedder.weight"].unflatten(1, (num_sums, old_channels)) * scale
    weights["map_embedder.weight"] = embedder.flatten(1)
    for name in ("proj_out.weight", "proj_out.bias"):
        weights[name] = torch.cat([weights[name], new[name][old_channels:]])
    wide.load_state_dict(weights)
    return wide


def main(args):
    check_is_new("--output_dir", args.output_dir)
    with loading("--pretrained_pipeline", args.pretrained_pipeline):
        pipe = VideoARPipeline.from_pretrained(args.pretrained_pipeline)
    old_channels = pipe.vae.config.latent_channels
    if args.latent_channels <= old_channels:
        raise UsageError(
            f"`--latent_channels` is {args.latent_channels}, and a token has {old_channels} bits already: pass more."
        )
    wide = {
        "vae": widen_tokenizer(pipe.vae, args.latent_channels, args.seed),
        "transformer": widen_transformer(pipe.transformer, args.latent_channels, args.seed),
    }
    with complete_or_absent(args.output_dir) as folder:
        VideoARPipeline(**pipe.components | wide).save_pretrained(folder)
    print(f"{old_channels} bits to {args.latent_channels}: {args.output_dir}")


if __name__ == "__main__":
    run_command_line(main, parse_args)
