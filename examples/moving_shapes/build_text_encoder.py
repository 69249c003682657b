#!/usr/bin/env python
# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Make the text side of a small model: a T5 tokenizer of the captions of its data set and a random T5 encoder.

Steps:
1. Train a SentencePiece unigram model on captions of the moving shapes, or of a manifest; letters are folded to lower case.
2. Hand its pieces to a `T5TokenizerFast`. All of printable ASCII is in the vocabulary: unknown words are spelled.
3. Initialise a small `T5EncoderModel`, to be trained together with the transformer.
4. Save both to `OUTPUT_DIR/tokenizer` and `OUTPUT_DIR/text_encoder`.

    python examples/moving_shapes/build_text_encoder.py --output_dir runs/text
    python examples/moving_shapes/build_text_encoder.py --data data/manifest.jsonl --vocab_size 768 --output_dir runs/text
"""

import argparse
import io
import random
import string
from pathlib import Path

import sentencepiece
import torch
from sentencepiece import sentencepiece_model_pb2
from transformers import AutoTokenizer, T5Config, T5EncoderModel, T5TokenizerFast

from videoar_pipelines.data.manifest import read_manifest
from videoar_pipelines.moving_shapes.data_set import canonical_caption, caption_for, draw_clip
from videoar_pipelines.training.components import frequent_words
from videoar_pipelines.utils.command_line import CommandLineParser, check_is_new, loading, run_command_line
from videoar_pipelines.utils.files import complete_or_absent


# How often a caption is read where words of another tokenizer are: a piece has to be worth its place.
REPEATED_CAPTIONS = 10


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = CommandLineParser("Make the tokenizer and the text encoder of a small model.")
    parser.add_argument("--data", default="moving_shapes", help="'moving_shapes', or a manifest: its split train.")
    parser.add_argument("--output_dir", type=Path, required=True, help="New folder for tokenizer/ and text_encoder/.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the captions and of the encoder's weights.")
    parser.add_argument(
        "--num_captions",
        type=int,
        help="Captions the tokenizer is trained on (default: 20000 of the moving shapes; all of a manifest).",
    )
    parser.add_argument(
        "--words_of", help="Folder or Hub id of another tokenizer, whose most frequent words are to be known besides."
    )
    parser.add_argument("--vocab_size", type=int, default=256, help="Upper bound of the vocabulary, at least 160.")
    parser.add_argument("--model_max_length", type=int, default=64, help="Longest prompt in tokens.")
    parser.add_argument("--d_model", type=int, default=128, help="Width of the encoder.")
    parser.add_argument("--d_ff", type=int, default=256, help="Width of its feed-forward layers.")
    parser.add_argument("--num_layers", type=int, default=2, help="Number of its layers.")
    parser.add_argument("--num_heads", type=int, default=4, help="Attention heads per layer.")
    parser.add_argument("--d_kv", type=int, default=32, help="Width of an attention head.")
    args = parser.parse_args(arguments)

    check_is_new("--output_dir", args.output_dir)
    if args.vocab_size < 160:
        raise ValueError(
            f"`--vocab_size` is {args.vocab_size}: pass at least 160, for ASCII and the words of captions."
        )
    if args.num_captions is not None and args.data != "moving_shapes":
        raise ValueError(
            f"`--num_captions` is {args.num_captions}, but `--data` is {args.data!r}, of which all captions are read: leave it"
            " out."
        )
    return args


def draw_captions(num_captions: int, seed: int) -> list[str]:
    """Captions with and without motion and size, as training sees them, after the plain ones."""
    rng = random.Random(seed)
    clips = [draw_clip(index, seed, split="all") for index in range(num_captions)]
    plain_captions = [canonical_caption(clip) for clip in clips[: num_captions // 2]]
    return plain_captions + [
        caption_for(clip, rng, mention_motion=rng.random() < 0.9).text for clip in clips[num_captions // 2 :]
    ]


def read_captions(data: str, num_captions: int | None, seed: int) -> list[str]:
    """Captions of the moving shapes, or those of a manifest that training sees."""
    if data == "moving_shapes":
        return draw_captions(20_000 if num_captions is None else num_captions, seed)
    return list(read_manifest(data).captions)


def train_tokenizer(captions: list[str], vocab_size: int, model_max_length: int) -> T5TokenizerFast:
    """Train a unigram model with T5's special tokens at T5's places, and wrap it as a T5 tokenizer."""
    # Only what recurs in different words becomes a piece: "circle." next to "circle" keeps the word whole.
    punctuated = [" ".join(f"{word}." for word in caption.split()) for caption in captions[::50]]
    model_file = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(captions + punctuated),
        model_writer=model_file,
        model_type="unigram",
        vocab_size=vocab_size,
        hard_vocab_limit=False,
        character_coverage=1.0,
        required_chars=string.ascii_lowercase + string.digits + string.punctuation,
        normalization_rule_name="nmt_nfkc_cf",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    model = sentencepiece_model_pb2.ModelProto.FromString(model_file.getvalue())
    return T5TokenizerFast(
        vocab=[(piece.piece, piece.score) for piece in model.pieces],
        _spm_precompiled_charsmap=model.normalizer_spec.precompiled_charsmap,
        extra_ids=0,
        model_max_length=model_max_length,
    )


def main(args: argparse.Namespace) -> None:
    # 1. and 2. Tokenizer
    captions = read_captions(args.data, args.num_captions, args.seed)
    if args.words_of is not None:
        with loading("--words_of", args.words_of):
            words = frequent_words(AutoTokenizer.from_pretrained(args.words_of))
        captions = REPEATED_CAPTIONS * captions + words
    tokenizer = train_tokenizer(captions, args.vocab_size, args.model_max_length)

    # 3. Text encoder
    torch.manual_seed(args.seed)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=args.d_model,
        d_ff=args.d_ff,
        d_kv=args.d_kv,
        num_layers=args.num_layers,
        num_heads=args.num_heads,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu",
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    text_encoder = T5EncoderModel(config)

    # 4. Save
    with complete_or_absent(args.output_dir) as folder:
        tokenizer.save_pretrained(folder / "tokenizer")
        text_encoder.save_pretrained(folder / "text_encoder")
    print(f"{len(tokenizer)} pieces and {text_encoder.num_parameters():,} parameters saved to {args.output_dir}")


if __name__ == "__main__":
    run_command_line(main, parse_args)
