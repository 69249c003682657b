# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Batches of a data set of clips, read ahead by worker processes.

A clip that cannot be read is replaced by another one of its bucket, chosen by the seed, so that batches stay full and ranks
stay in step without communication. It is counted and listed; over a given share the run stops.
"""

import contextlib
import hashlib
import itertools
import json
import logging
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from .buckets import BatchRequest, Bucket, BucketPlan, random_state
from .clips import ClipDataSet, UnreadableClipError, hand_over
from .manifest import fingerprint_of_rows


logger = logging.getLogger(__name__)

# After so many clips in a row that cannot be read the reader gives up, instead of trying a whole bucket.
_MAX_REPLACEMENTS = 32
# The share of skipped clips is not judged by fewer clips than this.
_MIN_CLIPS_OF_A_SHARE = 100
_MAX_NAMED_FILES = 20
_SECONDS_AFTER_SIGTERM = 30
# A worker that dies is a `RuntimeError` of the loader, or a connection that breaks, whichever is seen first.
_READ_ERRORS = (RuntimeError, OSError, EOFError)


class SkippedClips:
    """
    Counts and lists clips that could not be used.

    Args:
        num_rows (`int`): Rows of the data set.
        max_share (`float`): The run stops over this share, in [0, 1].
        log_path (`Path`, *optional*): JSONL file that is appended to; every row is listed once.
    """

    def __init__(self, num_rows: int, max_share: float, log_path: Path | None):
        if not 0 <= max_share <= 1:
            raise ValueError(f"`max_skipped_share` is {max_share}: pass a share between 0 and 1.")
        self.num_rows = num_rows
        self.max_share = max_share
        self.log_path = log_path
        self.descriptions = {}
        self.reasons = {}

    def add(self, row: int, file: str, reason: str) -> None:
        """Lists a row, unless it is listed already."""
        if row in self.descriptions:
            return
        self.descriptions[row] = f"{file}: {reason}"
        self.reasons[row] = reason
        if len(self.descriptions) <= _MAX_NAMED_FILES:
            logger.warning("Skipped %s: %s", file, reason)
        if self.log_path is not None:
            self.log_path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.log_path, "a", encoding="utf-8") as log:
                log.write(json.dumps({"row": row, "file": file, "reason": reason}, ensure_ascii=False) + "\n")

    def check_share(self, num_tried: int) -> None:
        """
        Args:
            num_tried (`int`): Clips tried so far.

        Raises:
            `RuntimeError`: More than the given share of them were skipped; the error names files.
        """
        num_tried = max(min(num_tried, self.num_rows), min(_MIN_CLIPS_OF_A_SHARE, self.num_rows))
        if len(self.descriptions) > self.max_share * num_tried:
            self.stop(f"more than the share {self.max_share} (`max_skipped_share`) of {num_tried} clips")

    def stop(self, amount: str) -> None:
        """Ends the run, naming files."""
        kinds = Counter(reason.partition(":")[0] for reason in self.reasons.values())
        counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        named = "\n  ".join(list(self.descriptions.values())[-_MAX_NAMED_FILES:])
        listed = "" if self.log_path is None else f" All are listed in {self.log_path}."
        raise RuntimeError(
            f"{len(self.descriptions)} clips could not be used, {amount} ({counts}):\n  {named}\n{listed}".rstrip()
        )


@dataclass
class _ReadBatch:
    """
    What a worker hands over.

    Args:
        bucket ([`Bucket`]): Shape of the clips.
        rows (`list[int]`): Rows of the clips, replacements included.
        tensors (`dict[str, torch.Tensor]`, *optional*): The clips; `None` if there was nothing to replace a clip by.
        skipped (`list[tuple[int, str]]`): Rows that could not be read, and why.
    """

    bucket: Bucket
    rows: list[int]
    tensors: dict[str, torch.Tensor] | None
    skipped: list[tuple[int, str]]

    def pin_memory(self) -> "_ReadBatch":
        self.tensors = self.tensors and {name: tensor.pin_memory() for name, tensor in self.tensors.items()}
        return self


class _BatchReader(Dataset):
    """Reads the clips of a request, in a worker."""

    def __init__(self, clips: ClipDataSet, members: dict[Bucket, np.ndarray], seed: int):
        self.clips = clips
        self.members = members
        self.seed = seed

    def __getitem__(self, request: BatchRequest) -> _ReadBatch:
        rows, read_clips, skipped = [], [], []
        for row, draw in zip(request.rows.tolist(), request.draws.tolist()):
            for candidate in itertools.chain([row], self._replacements(row, draw, request.bucket)):
                try:
                    read_clips.append(self.clips.read(candidate, draw, request.bucket))
                except UnreadableClipError as error:
                    skipped.append((candidate, str(error)))
                else:
                    rows.append(candidate)
                    break
            else:
                return _ReadBatch(request.bucket, rows, None, skipped)
        return _ReadBatch(request.bucket, rows, self.clips.collate(read_clips), skipped)

    def _replacements(self, row: int, draw: int, bucket: Bucket) -> Iterator[int]:
        """Other rows of the bucket, from a place that depends on the seed."""
        members = self.members[bucket]
        start = random_state(self.seed, "replacement", row, draw).randint(len(members))
        others = (int(members[(start + step) % len(members)]) for step in range(len(members)))
        return itertools.islice((other for other in others if other != row), _MAX_REPLACEMENTS)


class _Requests(Sampler):
    """The requests of one rank, from a position on."""

    def __init__(self, plan: BucketPlan, rank: int, position: int):
        self.plan = plan
        self.rank = rank
        self.position = position

    def __iter__(self) -> Iterator[BatchRequest]:
        return (self.plan.request(position, self.rank) for position in itertools.count(self.position))


def _prepare_worker(worker: int) -> None:
    # Slurm sends SIGTERM to workers too. They go on, since the run will take some more batches before it has saved and ends
    # them; but not for long, in case it is gone.
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_SECONDS_AFTER_SIGTERM))


class BucketBatches:
    """
    Endless batches of clips, a [`sources.BatchSource`]. Batch number `n` is a pure function of the arguments and `n`, whatever the
    number of workers: the position counts batches that were handed out, not those that were read ahead.

    Args:
        clips ([`clips.ClipDataSet`]): Reads clips.
        plan ([`BucketPlan`]): Says which.
        rank (`int`, defaults to 0): This process.
        device (`torch.device` or `str`, defaults to `"cpu"`): Of the batches.
        num_workers (`int`, defaults to 0): Processes that read ahead; with 0 batches are read when they are asked for.
        prefetch_factor (`int`, defaults to 2): Batches that each worker reads ahead.
        worker_timeout (`float`, defaults to 600): Seconds to wait for a batch before the run is stopped.
        max_skipped_share (`float`, defaults to 0.05): See [`SkippedClips`].
        log_path (`Path`, *optional*): See [`SkippedClips`].
        allow_changed_data (`bool`, defaults to `False`): Whether a state of other data may be continued from.

    Raises:
        `RuntimeError`: Too many clips cannot be used; the error names files.
    """

    def __init__(
        self,
        clips: ClipDataSet,
        plan: BucketPlan,
        rank: int = 0,
        device: torch.device | str = "cpu",
        num_workers: int = 0,
        prefetch_factor: int = 2,
        worker_timeout: float = 600,
        max_skipped_share: float = 0.05,
        log_path: Path | None = None,
        allow_changed_data: bool = False,
    ):
        self.clips = clips
        self.plan = plan
        self.rank = rank
        self.device = torch.device(device)
        self.allow_changed_data = allow_changed_data
        self.position = 0
        self.skipped = SkippedClips(len(clips.files), max_skipped_share, log_path)
        self._num_tried = 0
        self._reader = _BatchReader(clips, plan.members, plan.seed)
        self._loader_options = {"num_workers": num_workers, "pin_memory": self.device.type == "cuda"}
        if num_workers > 0:
            self._loader_options |= {
                "prefetch_factor": prefetch_factor,
                "timeout": worker_timeout,
                "worker_init_fn": _prepare_worker,
            }
        self._iterator = None

        # Every rank knows the same rows to be unusable; the first one lists them.
        unusable = SkippedClips(len(clips.files), max_skipped_share, log_path if rank == 0 else None)
        for row, reason in clips.unusable.items():
            unusable.add(row, clips.files[row], reason)
        unusable.check_share(len(clips.files))

        digest = hashlib.sha256(clips.is_image.tobytes() + clips.size_indices.tobytes())
        for name, values in clips.frame_conditions.items():
            digest.update(name.encode() + values.tobytes())
        self._fingerprints = {
            "files or captions": fingerprint_of_rows(clips.files, clips.captions),
            "sizes or conditions": digest.hexdigest(),
        }

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self

    def __next__(self) -> dict[str, Any]:
        # 1. Read
        try:
            batch = self._read()
        except _READ_ERRORS as error:  # once more, since the loader can raise while `_read` handles its first error
            rows = self.plan.request(self.position, self.rank).rows
            names = ", ".join(self.clips.files[row] for row in rows)
            raise RuntimeError(
                f"Batch {self.position} could not be read ({type(error).__name__}: {error}). It was to hold {names}."
            ) from error

        # 2. Account for what was skipped
        for row, reason in batch.skipped:
            self.skipped.add(row, self.clips.files[row], reason)
        if batch.tensors is None:
            self.skipped.stop(
                f"and none of the {batch.bucket} was left to replace one in batch {self.position}: check the files, or give"
                " fewer sizes"
            )
        self.position += 1
        self._num_tried += self.plan.batch_size + len(batch.skipped)
        if batch.skipped:
            self.skipped.check_share(self._num_tried)

        # 3. Hand out
        captions = [self.clips.captions[row] for row in batch.rows]
        files = [self.clips.files[row] for row in batch.rows]
        tensors = self.clips.to_training(batch.tensors, batch.bucket, self.device)
        if self.clips.frame_conditions:
            tensors["frame_conditions"] = self._frame_conditions(batch)
        return tensors | {"captions": captions, "files": files}

    def _frame_conditions(self, batch: _ReadBatch) -> dict[str, torch.Tensor]:
        num_frames = 1 if batch.bucket.is_image else None
        return {
            name: torch.from_numpy(values[batch.rows, :num_frames]).to(self.device)
            for name, values in self.clips.frame_conditions.items()
        }

    def _read(self) -> _ReadBatch:
        try:
            if self._iterator is None:
                # A generator of its own: the loader draws a number when it starts, which must not disturb training.
                loader = DataLoader(
                    self._reader,
                    batch_size=None,
                    sampler=_Requests(self.plan, self.rank, self.position),
                    collate_fn=hand_over,
                    generator=torch.Generator(),
                    **self._loader_options,
                )
                self._iterator = iter(loader)
            return next(self._iterator)
        except _READ_ERRORS:
            self._end_workers()
            raise

    def _end_workers(self) -> None:
        # The loader raises an error in the main thread, at whatever line it is, when the news of a worker's death comes in.
        # Nothing may raise any more after the caller was told, so this waits for the workers.
        if self._loader_options["num_workers"] > 0 and self._iterator is not None:
            with contextlib.suppress(RuntimeError):
                self._iterator._shutdown_workers()
            for worker in self._iterator._workers:
                worker.join(timeout=5)  # torch before 2.13 ends those that hang, and does not wait
        self._iterator = None

    def state_dict(self) -> dict[str, Any]:
        """The number of the next batch and what it means; the same on every rank."""
        return {
            "position": self.position,
            "clips_per_step": self.plan.batch_size * self.plan.world_size,
            "num_files": len(self.clips.files),
            "num_images": int(self.clips.is_image.sum()),
            "fingerprints": self._fingerprints,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """
        Continues at the batch that `state_dict` names. With another number of clips per step, it is the batch before which as
        many clips were taken; with other data (`allow_changed_data`) too.

        Raises:
            `ValueError`: The state belongs to another data set.
        """
        difference = self._difference_to(state_dict)
        if difference and not self.allow_changed_data:
            raise ValueError(
                f"The data have changed since the checkpoint was made: {difference}. Resume with the data it was made with, or"
                " pass `--allow_changed_data` to go on with these: weights, optimiser and schedule stay, the order of the clips"
                " is another."
            )
        if difference:
            logger.warning("The data have changed since the checkpoint was made: %s. Going on with these.", difference)
        clips_per_step = self.plan.batch_size * self.plan.world_size
        self.position = state_dict["position"] * state_dict.get("clips_per_step", clips_per_step) // clips_per_step
        self._iterator = None

    def _difference_to(self, state_dict: dict[str, Any]) -> str:
        """What has changed, in numbers; empty if nothing has."""
        now = self.state_dict()
        if "fingerprints" not in state_dict:
            return f"it was made with moving shapes, these are {now['num_files']} files"
        if state_dict["fingerprints"] == now["fingerprints"]:
            return ""
        changes = [
            f"{now[key] - state_dict[key]:+d} {kind} ({state_dict[key]} then, {now[key]} now)"
            for key, kind in (("num_files", "files"), ("num_images", "images among them"))
            if now[key] != state_dict[key]
        ]
        changed = [name for name, value in now["fingerprints"].items() if value != state_dict["fingerprints"][name]]
        return ", ".join(
            changes or [f"as many files as before ({now['num_files']}), but other {' and '.join(changed)}"]
        )
