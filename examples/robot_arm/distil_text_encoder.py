# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Teaches a small T5 what a large sentence encoder makes of a text, so that instructions that mean alike are alike before a transformer has
seen any: with few clips, a text encoder that is trained along with it learns their instructions by heart.

    python ../moving_shapes/build_text_encoder.py --data data/manifest.jsonl --vocab_size 5000 --num_layers 4 \\
        --words_of sentence-transformers/all-MiniLM-L6-v2 --output_dir runs/text
    python distil_text_encoder.py --text_encoder runs/text --data data/manifest.jsonl --output_dir runs/text_distilled

1. Texts are drawn without end: instructions of training clips, some of their words left out or replaced, and a few loose words.
2. The mean of the T5's states, through a linear layer that is thrown away, is fitted to the teacher's: the mean of its states, normalised.
3. Every `--logging_steps` steps the two are compared on the instructions of `--held_out_split`.
"""

import copy
import random
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerBase

from videoar_pipelines.data.manifest import read_manifest
from videoar_pipelines.training.components import frequent_words, load_text_models
from videoar_pipelines.utils.command_line import (
    CommandLineParser,
    check_is_new,
    loading,
    positive_float,
    positive_int,
    run_command_line,
)
from videoar_pipelines.utils.files import complete_or_absent


# Of the words of a drawn instruction: the shares left out, and replaced by a word of the instructions, or of the teacher.
LEFT_OUT, OF_INSTRUCTIONS, OF_THE_TEACHER = 0.08, 0.08, 0.14
SHARE_OF_LOOSE_WORDS = 0.2
# Of the loss: how much the similarities of the texts of a batch count beside the texts themselves.
RELATIONS = 5.0


def parse_args(arguments=None):
    parser = CommandLineParser(__doc__)
    parser.add_argument("--text_encoder", required=True, help="Folder with `tokenizer` and `text_encoder` to teach.")
    parser.add_argument("--teacher", default="sentence-transformers/all-MiniLM-L6-v2", help="Folder or Hub id.")
    parser.add_argument("--data", required=True, help="A manifest; its instructions of the split train.")
    parser.add_argument("--held_out_split", default="validation", help="Whose instructions are compared.")
    parser.add_argument("--max_train_steps", type=positive_int, default=700)
    parser.add_argument("--train_batch_size", type=positive_int, default=128, help="Texts at a time.")
    parser.add_argument("--learning_rate", type=positive_float, default=2e-3, help="The highest of one cycle.")
    parser.add_argument("--max_sequence_length", type=positive_int, default=32, help="Longest text in tokens.")
    parser.add_argument("--logging_steps", type=positive_int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output_dir", type=Path, required=True, help="New folder for tokenizer/ and text_encoder/.")
    args = parser.parse_args(arguments)
    check_is_new("--output_dir", args.output_dir)
    return args


def draw_text(instructions: list[str], own_words: list[str], words: list[str], rng: random.Random) -> str:
    """One text of step 1."""
    if rng.random() < SHARE_OF_LOOSE_WORDS:
        return " ".join(rng.choices(words, k=rng.randint(1, 3)))
    drawn = []
    for word in rng.choice(instructions).split():
        draw = rng.random() - LEFT_OUT
        if draw < 0:
            continue
        if draw < OF_INSTRUCTIONS:
            word = rng.choice(own_words)
        elif draw < OF_INSTRUCTIONS + OF_THE_TEACHER:
            word = rng.choice(words)
        drawn.append(word)
    return " ".join(drawn) or rng.choice(words)


def mean_states(
    tokenizer: PreTrainedTokenizerBase, encoder: nn.Module, texts: list[str], max_length: int
) -> torch.Tensor:
    """The mean `(B, C)` of the states of every text, without padding."""
    inputs = tokenizer(texts, return_tensors="pt", padding=True, truncation=True, max_length=max_length)
    states = encoder(**inputs).last_hidden_state.float()
    mask = inputs["attention_mask"][..., None]
    return (states * mask).sum(dim=1) / mask.sum(dim=1)


def agreement(student: torch.Tensor, teacher: torch.Tensor) -> tuple[float, float]:
    """Of normalised texts `(B, C)`: the mean cosine, and the correlation of the similarities of all pairs."""
    first, second = torch.triu_indices(len(student), len(student), 1)
    similarities = torch.stack([(vectors @ vectors.T)[first, second] for vectors in (student, teacher)])
    return (student * teacher).sum(dim=1).mean().item(), torch.corrcoef(similarities)[0, 1].item()


def main(args):
    with loading("--text_encoder", args.text_encoder):
        tokenizer, student = load_text_models(args.text_encoder, torch.float32)
    # One that has encoded anything would write down how: cut and padded to this script's lengths.
    unused_tokenizer = copy.deepcopy(tokenizer)
    with loading("--teacher", args.teacher):
        teacher_tokenizer = AutoTokenizer.from_pretrained(args.teacher)
        teacher = AutoModel.from_pretrained(args.teacher).eval().requires_grad_(False)
    instructions = [caption.lower() for caption in read_manifest(args.data).captions]
    held_out = list(read_manifest(args.data, split=args.held_out_split).captions)
    own_words = sorted({word for instruction in instructions for word in instruction.split()})
    words = frequent_words(teacher_tokenizer)
    rng = random.Random(args.seed)
    torch.manual_seed(args.seed)
    head = nn.Linear(student.config.d_model, teacher.config.hidden_size)

    def teach(texts: list[str]) -> torch.Tensor:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            return F.normalize(mean_states(teacher_tokenizer, teacher, texts, 2 * args.max_sequence_length), dim=1)

    def learn(texts: list[str]) -> torch.Tensor:
        return F.normalize(head(mean_states(tokenizer, student, texts, args.max_sequence_length)), dim=1)

    parameters = [*student.train().parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, args.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.learning_rate, args.max_train_steps, pct_start=0.05)
    target = teach(held_out)
    for step in range(1, args.max_train_steps + 1):
        texts = [draw_text(instructions, own_words, words, rng) for _ in range(args.train_batch_size)]
        taught, learnt = teach(texts), learn(texts)
        relations = F.mse_loss(learnt @ learnt.T, taught @ taught.T)
        loss = 1 - (taught * learnt).sum(dim=1).mean() + RELATIONS * relations
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % args.logging_steps == 0 or step == args.max_train_steps:
            with torch.no_grad():
                cosine, correlation = agreement(learn(held_out), target)
            print(f"step {step}: loss {loss.item():.3f}; held-out cosine {cosine:.3f}, correlation {correlation:.3f}")

    with complete_or_absent(args.output_dir) as folder:
        unused_tokenizer.save_pretrained(folder / "tokenizer")
        student.eval().save_pretrained(folder / "text_encoder")
    print(f"Saved to {args.output_dir}")


if __name__ == "__main__":
    run_command_line(main, parse_args)
