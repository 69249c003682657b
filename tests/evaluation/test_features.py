# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""Features of clips: what is kept on disk, what a stopped run continues, and what several processes compute."""

import os

import numpy as np
import pytest
import torch
import torch.distributed as dist

from tests.evaluation.tiny_i3d import TinyExtractorNetwork, TinyNetwork
from tests.examples.training_scripts import run_in_processes
from videoar_pipelines.evaluation import features
from videoar_pipelines.evaluation.clips import ClipSet, open_clips
from videoar_pipelines.evaluation.features import FeatureExtractor, FeatureStore
from videoar_pipelines.evaluation.protocols import ClipProtocol, NetworkProtocol
from videoar_pipelines.evaluation.weights import sha256_of_file


SETTINGS = ClipProtocol(9, 16, 16, start="first")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "clips").mkdir()
    random = np.random.RandomState(0)
    for index in range(11):
        np.save(tmp_path / "clips" / f"{index:02d}.npy", random.randint(0, 256, (9, 16, 16, 3), dtype=np.uint8))
    return tmp_path / "clips"


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(features, "CHUNK_SIZE", 3)


def make_store(cache, **options):
    extractor = FeatureExtractor(NetworkProtocol(), network=TinyExtractorNetwork(), digest="tiny")
    return FeatureStore(extractor, cache, **({"progress": False, "batch_size": 2} | options))


def test_features_are_those_of_the_clips_in_their_order(folder, tmp_path):
    clips = open_clips(folder, SETTINGS)
    table = make_store(tmp_path / "cache").compute(clips).table()
    assert table["logits"].shape == (11, 36) and table["pooled"].shape == (11, 12)
    assert table["motion_score"].shape == (11,)
    resized = torch.nn.functional.interpolate(clips[7][None], (9, 224, 224), mode="trilinear")
    # Trilinear resizing without a change in time is bilinear resizing of every frame.
    torch.testing.assert_close(table["logits"][7], TinyNetwork()(resized)[0], rtol=1e-5, atol=1e-6)


def test_nothing_is_computed_twice(folder, tmp_path, monkeypatch):
    store, clips = make_store(tmp_path / "cache"), open_clips(folder, SETTINGS)
    first = store.compute(clips).table()
    monkeypatch.setattr(ClipSet, "__getitem__", lambda *_: pytest.fail("a clip was read again"))
    again = make_store(tmp_path / "cache").compute(clips).table()
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_a_run_that_was_stopped_continues(folder, tmp_path, monkeypatch):
    clips, whole = (
        open_clips(folder, SETTINGS),
        make_store(tmp_path / "whole").compute(open_clips(folder, SETTINGS)).table(),
    )
    read, original = [], ClipSet.__getitem__

    def read_until_the_eighth(self, index):
        if len(read) == 8:
            raise KeyboardInterrupt
        read.append(index)
        return original(self, index)

    monkeypatch.setattr(ClipSet, "__getitem__", read_until_the_eighth)
    with pytest.raises(KeyboardInterrupt):
        make_store(tmp_path / "cache").compute(clips)
    monkeypatch.setattr(ClipSet, "__getitem__", lambda self, index: read.append(index) or original(self, index))
    table = make_store(tmp_path / "cache").compute(clips).table()
    assert read == [*range(8), *range(6, 11)]  # two chunks were complete, the third is begun again
    assert all(torch.equal(table[name], whole[name]) for name in whole)


def test_two_processes_compute_what_one_does(folder, tmp_path):
    clips = open_clips(folder, SETTINGS)

    def compute_share():
        dist.init_process_group("gloo", rank=int(os.environ["RANK"]), world_size=int(os.environ["WORLD_SIZE"]))
        torch.set_num_threads(1)
        make_store(tmp_path / "shared", rank=dist.get_rank(), world_size=2).compute(clips).table()
        dist.barrier()
        dist.destroy_process_group()

    run_in_processes(compute_share, 2)
    shared, alone = (make_store(tmp_path / name).compute(clips) for name in ("shared", "alone"))
    assert shared.folder.name == alone.folder.name
    for name, values in alone.table().items():
        assert torch.equal(shared.table()[name], values)


def test_an_incomplete_cache_is_not_read(folder, tmp_path):
    cache = make_store(tmp_path / "cache", rank=0, world_size=2).compute(open_clips(folder, SETTINGS))
    with pytest.raises(RuntimeError, match="lacks 2 of 4 chunks"):
        cache.table()


def test_another_set_has_another_cache(folder, tmp_path):
    clips, store = open_clips(folder, SETTINGS), make_store(tmp_path / "cache")
    folders = {store.compute(other).folder for other in (clips, clips.altered("frozen"), clips.select(range(5)))}
    assert len(folders) == 3
    frozen = store.compute(clips.altered("frozen")).table()
    assert frozen["motion_score"].abs().max() == 0 and frozen["logits"][:, 24:].abs().max() == 0


def test_a_torchscript_file_is_taken_and_named_by_its_hash(folder, tmp_path):
    path = tmp_path / "network.pt"
    torch.jit.script(TinyNetwork()).save(str(path))
    extractor = FeatureExtractor(NetworkProtocol(), torchscript=path)
    assert extractor.digest == extractor.describe()["sha256"] == sha256_of_file(path)
    clips = open_clips(folder, SETTINGS)
    taken = FeatureStore(extractor, tmp_path / "script", progress=False).compute(clips).table()
    own = make_store(tmp_path / "own").compute(clips).table()
    torch.testing.assert_close(taken["logits"], own["logits"])
    with pytest.raises(ValueError, match="`torchscript` gives logits, but the protocol asks for 'pooled'"):
        FeatureExtractor(NetworkProtocol(features="pooled"), torchscript=path)
