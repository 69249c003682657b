# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Tiny real components that the tests share."""

import torch
from transformers import T5Config, T5EncoderModel, T5TokenizerFast

from videoar_pipelines import AutoencoderVideoAR, VideoARPipeline, VideoARScheduler, VideoARTransformer3DModel


TINY_VOCABULARY = (
    "a red green blue circle square moves still to the left right up down on white black background".split()
)


def make_tiny_tokenizer() -> T5TokenizerFast:
    """A T5 tokenizer that knows a few words and all lower-case letters."""
    pieces = ["<pad>", "</s>", "<unk>", "▁", *(f"▁{word}" for word in TINY_VOCABULARY), *map(chr, range(97, 123))]
    scores = [0.0, 0.0, 0.0, -2.0, *(-3.0 for _ in TINY_VOCABULARY), *(-6.0 for _ in range(26))]
    return T5TokenizerFast(vocab=list(dict(zip(pieces, scores)).items()), extra_ids=0, model_max_length=16)


def make_tiny_text_encoder(vocab_size: int) -> T5EncoderModel:
    config = T5Config(vocab_size=vocab_size, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, dropout_rate=0.0)
    return T5EncoderModel(config).eval()


def make_tiny_vae(**config) -> AutoencoderVideoAR:
    arguments = {
        "latent_channels": 8,
        "block_out_channels": (8, 8, 8),
        "layers_per_block": 1,
        "decoder_layers_per_block": 1,
        "temporal_kernel_sizes": (1, 1, 1, 2),
        "temporal_downsample": (False, False),
        "patch_size": 4,
        "temporal_patch_size": 4,
        "norm_type": "rms_norm",
        "resampling": "residual",
    }
    return AutoencoderVideoAR(**(arguments | config)).eval()


def make_tiny_transformer(**config) -> VideoARTransformer3DModel:
    arguments = {
        "in_channels": 8,
        "out_channels": 8,
        "num_layers": 2,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "intermediate_size": 48,
        "text_embed_dim": 16,
        "max_text_length": 16,
        "max_scales": 8,
        "sample_height": 4,
        "sample_width": 4,
        "sample_frames": 3,
    }
    transformer = VideoARTransformer3DModel(**(arguments | config)).eval()
    # Larger weights than those of training: attention has to matter for a test to notice a wrong mask.
    for parameter in transformer.parameters():
        if parameter.ndim == 2:
            parameter.data.normal_(0, 0.3)
    return transformer


def make_tiny_pipeline(seed: int = 0) -> VideoARPipeline:
    """A pipeline of random weights that makes 9 frames of 64x64 by default (3 latent frames of 4 scales)."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tokenizer = make_tiny_tokenizer()
        pipeline = VideoARPipeline(
            tokenizer=tokenizer,
            text_encoder=make_tiny_text_encoder(len(tokenizer)),
            vae=make_tiny_vae(),
            transformer=make_tiny_transformer(),
            scheduler=VideoARScheduler(guidance_scale=3.0),
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
