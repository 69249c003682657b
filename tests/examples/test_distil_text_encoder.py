# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""A small T5 that learns from a sentence encoder, from its command line, with a tiny teacher of random weights."""

import json
import re

import pytest
import torch


pytest.importorskip("sentencepiece")

from transformers import BertConfig, BertModel, BertTokenizerFast, T5EncoderModel, T5TokenizerFast  # noqa: E402

from tests.examples.training_scripts import REPOSITORY, run_script  # noqa: E402
from videoar_pipelines.training.components import frequent_words  # noqa: E402


BUILD = REPOSITORY / "examples" / "moving_shapes" / "build_text_encoder.py"
DISTIL = REPOSITORY / "examples" / "robot_arm" / "distil_text_encoder.py"
INSTRUCTIONS = ["Put the cup on the plate", "Move the lid", "Open the drawer", "Wipe the table", "Close the small box"]
UNSEEN = ["Move the cup", "Open the small box", "Put the lid on the table", "Close the drawer"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A manifest, a teacher, and a student that was built to know the teacher's words."""
    folder = tmp_path_factory.mktemp("distil")
    rows = [{"file": "a.mp4", "caption": text, "split": "train"} for text in INSTRUCTIONS]
    rows += [{"file": "b.mp4", "caption": text, "split": "validation"} for text in UNSEEN]
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    words = sorted({word for text in INSTRUCTIONS for word in text.lower().split()}) + ["kettle", "spoon", "xy", "##s"]
    vocabulary = {piece: number for number, piece in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words])}
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    BertModel(config).save_pretrained(folder / "teacher")
    BertTokenizerFast(vocab=vocabulary).save_pretrained(folder / "teacher")

    sizes = ("--d_model", 32, "--d_ff", 32, "--num_heads", 2, "--d_kv", 8, "--num_layers", 1)
    words_of = ("--words_of", folder / "teacher")
    run_script(BUILD, "--data", folder / "manifest.jsonl", *words_of, *sizes, "--output_dir", folder / "text")
    return folder


def test_the_teachers_words_are_whole_ones_and_the_tokenizer_spells_with_their_letters(folder):
    words = frequent_words(BertTokenizerFast.from_pretrained(folder / "teacher"), num_words=100)
    assert words[-2:] == ["kettle", "spoon"] and "cup" in words
    tokenizer = T5TokenizerFast.from_pretrained(folder / "text" / "tokenizer")
    assert "▁cup" in tokenizer.get_vocab() and tokenizer.unk_token not in tokenizer.tokenize("a kettle")


def test_the_student_learns_to_see_unseen_instructions_as_the_teacher_does(folder, capsys):
    arguments = (
        "--text_encoder",
        folder / "text",
        "--teacher",
        folder / "teacher",
        "--data",
        folder / "manifest.jsonl",
    )
    few = ("--train_batch_size", 16, "--logging_steps", 5, "--max_train_steps", 120)
    run_script(DISTIL, *arguments, *few, "--output_dir", folder / "distilled")
    numbers = re.findall(r"held-out cosine (\S+), correlation (\S+)", capsys.readouterr().out)
    cosines = [float(cosine) for cosine, _ in numbers]
    assert len(numbers) == 24 and cosines[0] < 0.75 < cosines[-1]

    before, after = (T5EncoderModel.from_pretrained(folder / name / "text_encoder") for name in ("text", "distilled"))
    assert not torch.equal(before.shared.weight, after.shared.weight)
    text, distilled = (T5TokenizerFast.from_pretrained(folder / name / "tokenizer") for name in ("text", "distilled"))
    assert text(UNSEEN).input_ids == distilled(UNSEEN).input_ids
    saved = json.loads((folder / "distilled" / "tokenizer" / "tokenizer.json").read_text())
    assert saved["truncation"] is None and saved["padding"] is None


def test_a_folder_that_exists_is_not_overwritten(folder):
    arguments = (
        "--text_encoder",
        folder / "text",
        "--data",
        folder / "manifest.jsonl",
        "--output_dir",
        folder / "text",
    )
    with pytest.raises(ValueError, match="`--output_dir` .*text exists already"):
        run_script(DISTIL, *arguments)
