# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch


pytest.importorskip("sentencepiece")

from transformers import T5EncoderModel, T5TokenizerFast  # noqa: E402

from tests.examples.training_scripts import run_script  # noqa: E402


REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / "examples" / "moving_shapes" / "build_text_encoder.py"


@pytest.fixture(scope="module")
def output_dir(tmp_path_factory):
    output_dir = tmp_path_factory.mktemp("text") / "new" / "text"
    sizes = ["--num_captions", "2000", "--d_model", "16", "--d_ff", "32", "--num_heads", "2", "--d_kv", "8"]
    command = [sys.executable, str(SCRIPT), "--output_dir", str(output_dir), *sizes]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "src"), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return output_dir


@pytest.fixture(scope="module")
def tokenizer(output_dir):
    return T5TokenizerFast.from_pretrained(output_dir / "tokenizer")


def test_every_word_of_a_caption_is_one_piece(tokenizer):
    caption = "a large red circle moves to the right on a white background"
    pieces = tokenizer.convert_ids_to_tokens(tokenizer(caption).input_ids)
    assert pieces == ["▁" + word for word in caption.split()] + ["</s>"]


def test_upper_case_reads_as_lower_case(tokenizer):
    assert tokenizer("A RED Circle").input_ids == tokenizer("a red circle").input_ids


def test_an_unknown_word_is_spelled(tokenizer):
    tokens = tokenizer("zebra #7?").input_ids
    assert tokenizer.unk_token_id not in tokens
    assert tokenizer.decode(tokens, skip_special_tokens=True) == "zebra #7?"


def test_special_tokens_are_where_t5_has_them(tokenizer):
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (0, 1, 2)
    assert len(tokenizer) <= 256


def test_the_text_encoder_has_the_asked_sizes_and_encodes_a_prompt(output_dir, tokenizer):
    text_encoder = T5EncoderModel.from_pretrained(output_dir / "text_encoder")
    assert text_encoder.config.vocab_size == len(tokenizer)
    assert text_encoder.config.feed_forward_proj == "gated-gelu"
    inputs = tokenizer(["a red circle", "a blue star stays still"], padding=True, return_tensors="pt")
    with torch.no_grad():
        states = text_encoder(**inputs).last_hidden_state
    assert states.shape == (2, 6, 16)
    assert states.isfinite().all()


def test_nothing_but_the_result_is_left_behind(output_dir):
    assert [path.name for path in output_dir.parent.iterdir()] == ["text"]
    assert sorted(path.name for path in output_dir.iterdir()) == ["text_encoder", "tokenizer"]


def test_wrong_arguments_are_named_with_a_remedy(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    from build_text_encoder import parse_args

    with pytest.raises(ValueError, match=f"`--output_dir` {tmp_path} exists already"):
        parse_args(["--output_dir", str(tmp_path)])
    with pytest.raises(ValueError, match="`--vocab_size` is 50: pass at least 160"):
        parse_args(["--output_dir", str(tmp_path / "text"), "--vocab_size", "50"])
    with pytest.raises(ValueError, match="`--num_captions` is 5, but `--data` is 'clips.jsonl'"):
        parse_args(["--output_dir", str(tmp_path / "text"), "--num_captions", "5", "--data", "clips.jsonl"])


def test_words_of_a_manifest_are_pieces_where_it_trains(tmp_path):
    rows = [("Put the marker in the mug", "train")] * 30 + [("Fold the napkin", "train")] * 30 + [("Wipe it", "test")]
    lines = [json.dumps({"file": f"{i}.mp4", "caption": row[0], "split": row[1]}) for i, row in enumerate(rows)]
    (tmp_path / "manifest.jsonl").write_text("\n".join(lines))
    sizes = ["--vocab_size", "300", "--d_model", "16", "--d_ff", "32", "--num_heads", "2", "--d_kv", "8"]
    run_script(SCRIPT, "--data", tmp_path / "manifest.jsonl", "--output_dir", tmp_path / "text", *sizes)
    tokenizer = T5TokenizerFast.from_pretrained(tmp_path / "text" / "tokenizer")
    pieces = tokenizer.convert_ids_to_tokens(tokenizer("fold the marker").input_ids)
    assert pieces == ["▁fold", "▁the", "▁marker", "</s>"]
    assert "▁wipe" not in tokenizer.get_vocab()
