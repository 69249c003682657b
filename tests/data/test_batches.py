# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
import copy
import io
import json
import os
import pickle
import signal
import time

import numpy as np
import pytest
import torch
import torch.multiprocessing

from tests.tiny_data import (
    TINY_VIDEOS,
    make_broken_files,
    make_tiny_images,
    make_tiny_videos,
    parse_data_arguments,
    write_manifest,
)
from videoar_pipelines.data.batches import BucketBatches
from videoar_pipelines.data.sources import make_batches


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Good videos and images, and among them files that cannot be used."""
    folder = tmp_path_factory.mktemp("videos")
    make_tiny_videos(folder)
    good = [*TINY_VIDEOS, *make_tiny_images(folder, 3)]
    write_manifest(folder / "good.csv", [(name, f"caption of {name}") for name in good])
    mixed = [name for pair in zip(good, make_broken_files(folder)) for name in pair] + good[5:]
    write_manifest(folder / "mixed.csv", [(name, f"caption of {name}") for name in mixed])
    return folder


def make_source(folder, manifest="good.csv", *flags, batch_size=2, **kwargs):
    return make_batches(parse_data_arguments("--data", folder / manifest, *flags), batch_size, **kwargs)


def take(source, count):
    return [next(source) for _ in range(count)]


def assert_same_batches(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others):
        assert batch["files"] == other["files"] and batch["captions"] == other["captions"]
        assert torch.equal(batch["pixel_values"], other["pixel_values"])


TOLERANT = ("--max_skipped_share", 1)
MIXED = ("mixed.csv", *TOLERANT, "--buckets", "32x32", "16x48", "--image_ratio", 0.25)


# 1. What a batch is


def test_batches_hold_pixels_captions_and_files(folder):
    for batch in take(make_source(folder, "good.csv", "--image_ratio", 0.5), 6):
        video = batch["pixel_values"]
        assert video.dtype == torch.float32 and video.min() >= -1 and video.max() <= 1
        assert tuple(video.shape) in {(2, 3, 5, 32, 32), (2, 3, 1, 32, 32)}
        assert all(file.endswith(".png") == (video.shape[2] == 1) for file in batch["files"])
        assert batch["captions"] == [f"caption of {file.rpartition('/')[2]}" for file in batch["files"]]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_change_nothing(folder, num_workers):
    source = make_source(folder, *MIXED, "--num_workers", num_workers)
    assert_same_batches(take(source, 12), take(make_source(folder, *MIXED), 12))


def test_another_seed_gives_other_batches(folder):
    first, second = (take(make_source(folder, seed=seed), 4) for seed in (0, 1))
    assert [batch["files"] for batch in first] != [batch["files"] for batch in second]


def test_every_epoch_takes_other_parts_of_long_videos(folder):
    source = make_source(folder, "good.csv", "--image_ratio", 0, batch_size=1)
    seen = {}
    for batch in take(source, 6 * len(TINY_VIDEOS)):
        seen.setdefault(batch["files"][0], []).append(batch["pixel_values"])
    clips = next(clips for file, clips in seen.items() if file.endswith("long.mp4"))
    assert len(clips) == 6 and any(not torch.equal(clips[0], clip) for clip in clips[1:])


def test_reading_leaves_the_random_numbers_of_training_alone(folder):
    before = torch.get_rng_state()
    state = np.random.get_state()[1].copy()
    take(make_source(folder, *MIXED), 3)
    take(make_source(folder, *MIXED, "--num_workers", 1), 3)
    assert torch.equal(before, torch.get_rng_state()) and (np.random.get_state()[1] == state).all()


# 2. Resuming


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_resumed_source_continues_exactly(folder, num_workers):
    flags = (*MIXED, "--num_workers", num_workers)
    never_stopped = take(make_source(folder, *MIXED), 11)
    stopped = make_source(folder, *flags)
    take(stopped, 4)  # with workers, more batches were read than were handed out
    checkpoint = io.BytesIO()
    torch.save(stopped.state_dict(), checkpoint)
    checkpoint.seek(0)
    resumed = make_source(folder, *flags)
    take(resumed, 2)  # a source that has started already can be set too
    resumed.load_state_dict(torch.load(checkpoint, weights_only=True))
    assert_same_batches(take(resumed, 7), never_stopped[4:])


def test_a_state_of_other_data_is_refused(folder, tmp_path):
    state = make_source(folder).state_dict()
    with pytest.raises(ValueError, match="The data have changed since the checkpoint"):
        make_source(folder, "mixed.csv", *TOLERANT).load_state_dict(state)
    with pytest.raises(ValueError, match="The data have changed since the checkpoint"):
        make_source(folder, "good.csv", "--buckets", "32x32", "16x48").load_state_dict(state)


def test_a_moved_data_set_can_be_resumed(folder, tmp_path):
    state = make_source(folder).state_dict()
    write_manifest(
        tmp_path / "good.csv",
        [
            (f"elsewhere/{name}", f"caption of {name}")
            for name in [*TINY_VIDEOS, "image-0.png", "image-1.png", "image-2.png"]
        ],
    )
    make_source(tmp_path).load_state_dict(state)


def test_another_number_of_ranks_continues_after_as_many_clips(folder):
    two_ranks = make_source(folder, batch_size=1, rank=1, world_size=2)
    take(two_ranks, 5)
    one_rank = make_source(folder, batch_size=1)
    one_rank.load_state_dict(two_ranks.state_dict())
    assert one_rank.position == 10


# 3. Ranks


def test_ranks_have_the_same_shapes_at_every_step_and_share_no_clip(folder):
    flags = ("good.csv", "--buckets", "32x32", "16x48", "--image_ratio", 0.25)
    ranks = [take(make_source(folder, *flags, batch_size=1, rank=rank, world_size=2), 10) for rank in range(2)]
    for first, second in zip(*ranks):
        assert first["pixel_values"].shape == second["pixel_values"].shape
        assert set(first["files"]).isdisjoint(second["files"])


def _probe_on_a_rank(rank, folder, results):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    source = make_source(folder, *MIXED, batch_size=1, rank=rank, world_size=2)
    results[rank] = (source.clips.size_indices.tolist(), source.clips.unusable, source.state_dict())
    torch.distributed.destroy_process_group()


def test_ranks_share_the_look_into_the_files(folder):
    with torch.multiprocessing.Manager() as manager:
        results = manager.dict()
        torch.multiprocessing.start_processes(_probe_on_a_rank, (folder, results), nprocs=2, start_method="fork")
        first, second = results[0], results[1]
    alone = make_source(folder, *MIXED, batch_size=1, world_size=2)
    assert first == second == (alone.clips.size_indices.tolist(), alone.clips.unusable, alone.state_dict())


# 4. Files that cannot be used


def test_a_clip_that_cannot_be_read_is_replaced_and_listed(folder, tmp_path):
    flags = ("mixed.csv", *TOLERANT, "--image_ratio", 0.3)
    source = make_source(folder, *flags, log_dir=tmp_path / "logs")
    names = [os.path.basename(file) for batch in take(source, 16) for file in batch["files"]]
    assert len(names) == 32 and set(names) <= {*TINY_VIDEOS, "image-0.png", "image-1.png", "image-2.png"}
    lines = [json.loads(line) for line in (tmp_path / "logs" / "skipped_files_rank0.jsonl").read_text().splitlines()]
    assert sorted(os.path.basename(line["file"]) for line in lines) == sorted(
        ["broken.png", "empty.mp4", "missing.mp4", "short.mp4", "truncated.mp4"]
    ), "every file once"
    assert all(line["reason"] for line in lines)
    assert_same_batches(take(make_source(folder, *flags), 16), take(make_source(folder, *flags), 16))


def test_over_the_given_share_the_run_stops_and_names_files(folder, tmp_path):
    with pytest.raises(
        RuntimeError, match=r"clips could not be used, more than the share 0.1 .*of 14 clips"
    ) as caught:
        take(make_source(folder, "mixed.csv", "--max_skipped_share", 0.1, log_dir=tmp_path), 100)
    listed = (tmp_path / "skipped_files_rank0.jsonl").read_text().splitlines()
    assert 2 <= len(listed) < 5 and all(json.loads(line)["file"] in str(caught.value) for line in listed)
    assert "skipped_files_rank0.jsonl" in str(caught.value)


def test_slow_videos_are_counted(folder):
    source = make_source(folder, "good.csv", "--fps", 24, "--max_skipped_share", 0.2)
    with pytest.raises(RuntimeError, match=r"could not be used, more than the share 0.2 .* \(\d too slow.*\):"):
        take(source, 10)


def test_broken_captions_count_from_the_start(tmp_path):
    write_manifest(tmp_path / "manifest.csv", [("a.mp4", "text"), ("b.mp4", ""), ("c.mp4", "text"), ("d.mp4", "text")])
    flags = ("manifest.csv", "--max_skipped_share")
    with pytest.raises(
        RuntimeError, match=r"1 clips could not be used, more than the share 0.2 .*\n.*b.mp4: no caption"
    ):
        make_source(tmp_path, *flags, 0.2)
    make_source(tmp_path, *flags, 0.25, log_dir=tmp_path, rank=1, world_size=2, batch_size=1)
    assert not list(tmp_path.glob("skipped*")), "one rank lists what all know"
    make_source(tmp_path, *flags, 0.25, log_dir=tmp_path)
    assert "b.mp4" in (tmp_path / "skipped_files_rank0.jsonl").read_text()


def test_a_folder_without_its_files_stops_at_once(folder, tmp_path):
    write_manifest(tmp_path / "manifest.csv", [(f"{index}.mp4", "text") for index in range(500)])
    for max_share in (0.05, 1):
        source = make_source(tmp_path, "manifest.csv", "--max_skipped_share", max_share, "--num_workers", 1)
        with pytest.raises(
            RuntimeError,
            match=r"33 clips could not be used, and none of the videos of 32x32 was left .*(\n.*)*\.mp4: FileNot",
        ):
            next(source)


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_that_is_none_is_refused(folder, share):
    with pytest.raises(ValueError, match="`max_skipped_share` is"):
        make_source(folder, "good.csv", "--max_skipped_share", share)


# 5. Workers


def test_what_workers_need_can_be_handed_to_a_new_interpreter(folder):
    # Python 3.14 starts workers afresh instead of forking them.
    source = make_source(folder, *MIXED)
    reader = pickle.loads(pickle.dumps(source._reader))
    for position in range(4):
        batch, other = (each[source.plan.request(position)] for each in (reader, source._reader))
        assert batch.rows == other.rows and torch.equal(batch.tensors["levels"], other.tensors["levels"])


def test_workers_survive_the_signal_that_slurm_sends(folder):
    source = make_source(folder, "good.csv", "--num_workers", 2)
    expected = take(make_source(folder), 8)
    batches = take(source, 2)
    workers = [process for process in torch.multiprocessing.active_children() if process.is_alive()]
    assert len(workers) >= 2
    for worker in workers:
        os.kill(worker.pid, signal.SIGTERM)
    assert_same_batches(batches + take(source, 6), expected)


def with_read(clips, read):
    """The same clips, read by another function."""
    clips = copy.copy(clips)
    clips.read = read
    return clips


def be_killed(row, draw, bucket):
    """What happens to a worker when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def take_too_long(row, draw, bucket):
    """What happens to a worker whose storage does not answer."""
    time.sleep(3)


def test_a_worker_that_dies_is_one_error_and_no_hang(folder):
    source = make_source(folder)
    # The news of the death comes as a broken connection, as a signal, or as both; in which order is chance.
    for _ in range(20):
        batches = BucketBatches(with_read(source.clips, be_killed), source.plan, num_workers=1, worker_timeout=30)
        with pytest.raises(RuntimeError, match=r"Batch 0 could not be read .*It was to hold .*/videos"):
            next(batches)


def test_a_worker_that_hangs_is_an_error_after_the_timeout(folder):
    source = make_source(folder)
    stuck = BucketBatches(with_read(source.clips, take_too_long), source.plan, num_workers=1, worker_timeout=1)
    others = torch.multiprocessing.active_children()
    with pytest.raises(
        RuntimeError, match=r"Batch 0 could not be read \(RuntimeError: DataLoader timed out after 1 seconds\)"
    ):
        next(stuck)
    # None is left whose death could raise another error, anywhere, later.
    assert set(torch.multiprocessing.active_children()) <= set(others)
