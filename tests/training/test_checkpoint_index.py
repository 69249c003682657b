# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Claims about sharded checkpoints: they are written and read whole, and nothing in them is executed."""

import io
import json
import os
import pickle

import pytest
import torch
import torch.distributed.checkpoint as distributed_checkpoint

from videoar_pipelines.training.checkpoint_index import INDEX_NAME, load_sharded, save_sharded
from videoar_pipelines.utils.command_line import UsageError


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def make_state():
    return {
        "weights": {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.bfloat16)},
        "groups": [{"lr": 1e-3, "betas": (0.9, 0.95), "amsgrad": False, "maximize": None}],
    }


def make_blank_state():
    blank = {"a": torch.zeros(2, 3), "b": torch.zeros(2, dtype=torch.bfloat16)}
    return {"weights": blank, "groups": [{"lr": 0.0, "betas": (0, 0), "amsgrad": True, "maximize": True}]}


def test_what_is_written_is_read(tmp_path):
    save_sharded(make_state(), tmp_path)
    state, expected = make_blank_state(), make_state()
    load_sharded(state, tmp_path)
    assert state["groups"] == expected["groups"]
    assert all(state["weights"][name].equal(tensor) for name, tensor in expected["weights"].items())


def test_torchs_own_reader_reads_it_too(tmp_path):
    save_sharded(make_state(), tmp_path)
    state = {"weights": make_blank_state()["weights"]}
    distributed_checkpoint.load(state, checkpoint_id=tmp_path, no_dist=True)
    assert state["weights"]["a"].equal(make_state()["weights"]["a"])


def test_a_payload_in_the_pickled_index_is_not_executed(tmp_path):
    save_sharded(make_state(), tmp_path)
    (tmp_path / ".metadata").write_bytes(pickle.dumps(Payload(tmp_path / "executed")))
    load_sharded(make_blank_state(), tmp_path)
    assert not (tmp_path / "executed").exists()
    (tmp_path / INDEX_NAME).unlink()
    with pytest.raises(UsageError, match="no index.json"):
        load_sharded(make_blank_state(), tmp_path)
    assert not (tmp_path / "executed").exists()


def test_a_payload_in_the_place_of_a_value_is_not_executed(tmp_path):
    save_sharded(make_state(), tmp_path)
    index = json.loads((tmp_path / INDEX_NAME).read_text())
    entry = next(entry for entry in index["stored"] if entry["name"] == "groups.0.lr")
    contents = io.BytesIO()
    torch.save(Payload(tmp_path / "executed"), contents)
    (tmp_path / "foreign.distcp").write_bytes(contents.getvalue())
    entry |= {"file": "foreign.distcp", "start": 0, "length": len(contents.getvalue())}
    (tmp_path / INDEX_NAME).write_text(json.dumps(index))
    with pytest.raises(UsageError, match="does not fit this run .UnpicklingError: .*[Ww]eights.only"):
        load_sharded(make_blank_state(), tmp_path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("change", ["half of it", "another folder", "unknown dtype"])
def test_a_damaged_index_is_refused_by_name(tmp_path, change):
    save_sharded(make_state(), tmp_path)
    text = (tmp_path / INDEX_NAME).read_text()
    wrong = {
        "half of it": text[: len(text) // 2],
        "another folder": text.replace("__0_0.distcp", "../__0_0.distcp"),
        "unknown dtype": text.replace("torch.bfloat16", "torch.float3"),
    }
    (tmp_path / INDEX_NAME).write_text(wrong[change])
    with pytest.raises(UsageError, match="index.json is damaged .*: use another checkpoint"):
        load_sharded(make_blank_state(), tmp_path)
