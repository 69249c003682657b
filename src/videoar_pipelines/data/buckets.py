# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Which clips are in which batch: a pure function of the seed and the number of the step, so that a run can be resumed anywhere
without replaying what it has seen.

A *bucket* holds clips of one shape: images or videos, at one of the given sizes. Every step takes the clips of all ranks from
one bucket and deals them out, so ranks never differ in the shape or the number of their clips. In an epoch every clip of a
bucket is taken once, in an order drawn for that epoch; what does not fill a step at its end is dropped.
"""

import hashlib
import logging
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np


logger = logging.getLogger(__name__)


class Bucket(NamedTuple):
    """
    Args:
        is_image (`bool`): Whether its clips are single frames.
        height (`int`): Pixels.
        width (`int`): Pixels.
    """

    is_image: bool
    height: int
    width: int

    def __str__(self) -> str:
        return f"{'images' if self.is_image else 'videos'} of {self.height}x{self.width}"


class BatchRequest(NamedTuple):
    """
    The clips of one batch.

    Args:
        bucket ([`Bucket`]): Shape of the clips.
        rows (`np.ndarray` of shape `(B,)`): Rows of the data set.
        draws (`np.ndarray` of shape `(B,)`): How often each row had been taken before, which picks a part of a long video.
    """

    bucket: Bucket
    rows: np.ndarray
    draws: np.ndarray


def random_state(*key: object) -> np.random.RandomState:
    """Random numbers that depend on `key` alone. NumPy promises that `RandomState` never changes them."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.RandomState(np.frombuffer(digest[:16], dtype="<u4"))


class EpochStream:
    """
    Steps over buckets, epoch after epoch.

    Args:
        name (`str`): Tells the random numbers of streams apart.
        members (`dict[Bucket, np.ndarray]`): Rows of every bucket.
        global_batch_size (`int`): Clips of a step, all ranks together.
        seed (`int`): Of all orders.
        repeats (`int`): How often an epoch takes every clip.
    """

    def __init__(self, name: str, members: dict[Bucket, np.ndarray], global_batch_size: int, seed: int, repeats: int):
        self.name = name
        self.seed = seed
        self.repeats = repeats
        self.global_batch_size = global_batch_size
        self.members = {bucket: rows for bucket, rows in members.items() if repeats * len(rows) >= global_batch_size}
        self.steps_per_epoch = sum(repeats * len(rows) // global_batch_size for rows in self.members.values())
        for bucket in sorted(members.keys() - self.members.keys()):
            logger.warning(
                "The %d %s are never used, since a step takes %d clips.",
                len(members[bucket]),
                bucket,
                global_batch_size,
            )
        self._epoch = None

    def step(self, index: int) -> tuple[Bucket, np.ndarray, np.ndarray]:
        """Bucket, rows and draws of a step; `(global_batch_size,)` each."""
        epoch, step = divmod(index, self.steps_per_epoch)
        if epoch != self._epoch:
            self._plan, self._epoch = self._plan_epoch(epoch), epoch
        order, orders_of_buckets = self._plan
        bucket_index, start = order[step]
        rows, draws = orders_of_buckets[bucket_index]
        taken = slice(start, start + self.global_batch_size)
        return list(self.members)[bucket_index], rows[taken], draws[taken]

    def _plan_epoch(self, epoch: int) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
        steps, orders_of_buckets = [], []
        for bucket_index, (bucket, members) in enumerate(self.members.items()):
            state = random_state(self.seed, self.name, epoch, *bucket)
            rows = np.concatenate([members[state.permutation(len(members))] for _ in range(self.repeats)])
            draws = np.arange(self.repeats * epoch, self.repeats * (epoch + 1)).repeat(len(members))
            orders_of_buckets.append((rows, draws))
            last_start = len(rows) - self.global_batch_size
            steps += [(bucket_index, start) for start in range(0, last_start + 1, self.global_batch_size)]
        return random_state(self.seed, self.name, epoch).permutation(np.array(steps)), orders_of_buckets


class BucketPlan:
    """
    The batches of a run.

    Args:
        is_image (`np.ndarray` of shape `(rows,)`): Boolean, for every row of the data set.
        size_indices (`np.ndarray` of shape `(rows,)`): Which of `sizes` a row has, -1 for rows that cannot be used.
        sizes (`Sequence[tuple[int, int]]`): Heights and widths in pixels.
        batch_size (`int`): Clips `B` per batch and rank.
        world_size (`int`, defaults to 1): Number of ranks.
        seed (`int`, defaults to 0): Of all orders.
        image_ratio (`float`, *optional*):
            Share of batches that hold images, spread evenly. They are taken from the data set's images, or where it has none
            from single frames of its videos. `None` takes images and videos as often as they are in the data set.
        repeats (`int`, defaults to 1): How often an epoch takes every clip.

    Raises:
        `ValueError`: An argument is out of its range, or no bucket has enough clips for a step.
    """

    def __init__(
        self,
        is_image: np.ndarray,
        size_indices: np.ndarray,
        sizes: Sequence[tuple[int, int]],
        batch_size: int,
        world_size: int = 1,
        seed: int = 0,
        image_ratio: float | None = None,
        repeats: int = 1,
    ):
        if batch_size < 1 or repeats < 1:
            raise ValueError(f"`batch_size` and `repeats` must be at least 1, but are {batch_size} and {repeats}.")
        if image_ratio is not None and not 0 <= image_ratio <= 1:
            raise ValueError(f"`image_ratio` is {image_ratio}: pass a share between 0 and 1.")
        self.batch_size = batch_size
        self.world_size = world_size
        self.seed = seed

        def find_members(rows_are_images: bool, as_images: bool) -> dict[Bucket, np.ndarray]:
            found = {}
            for index, (height, width) in enumerate(sizes):
                rows = np.flatnonzero((size_indices == index) & (is_image == rows_are_images))
                if len(rows) > 0:
                    found[Bucket(as_images, height, width)] = rows
            return found

        images, videos = find_members(True, as_images=True), find_members(False, as_images=False)
        if image_ratio is None:
            self.image_ratio = Fraction(0)
            members = {"images": {}, "videos": images | videos}
        else:
            # As a fraction, so that counting the batches of images before a step is exact at any step.
            self.image_ratio = Fraction(image_ratio).limit_denominator(10_000)
            members = {"images": images or find_members(False, as_images=True), "videos": videos}
        self._streams = {
            name: EpochStream(name, members[name], batch_size * world_size, seed, repeats)
            for name, share in (("images", self.image_ratio), ("videos", 1 - self.image_ratio))
            if share > 0
        }
        for name, stream in self._streams.items():
            if not members[name]:
                asked = "" if image_ratio is None else f" {name}, of which `image_ratio` {image_ratio} asks for some"
                raise ValueError(f"The data set has no usable{asked or ' clips'}.")
            if stream.steps_per_epoch == 0:
                raise ValueError(
                    f"No bucket has the {batch_size * world_size} clips of a step (`batch_size` {batch_size} on each of"
                    f" {world_size} rank(s)); the fullest has {max(map(len, members[name].values()))}. Lower the batch"
                    " size, give fewer sizes, or take every clip several times per epoch (`--data_repeats`)."
                )

    @property
    def members(self) -> dict[Bucket, np.ndarray]:
        """Rows of every bucket that is used."""
        return {bucket: rows for stream in self._streams.values() for bucket, rows in stream.members.items()}

    @property
    def steps_per_epoch(self) -> int | None:
        """Steps after which every video was taken, or `None` where images and videos have epochs of their own."""
        return next(iter(self._streams.values())).steps_per_epoch if len(self._streams) == 1 else None

    def request(self, position: int, rank: int = 0) -> BatchRequest:
        """The batch of step `position` on a rank; a pure function."""
        # Images come first: they would else fall on every tenth step with a ratio of 0.1, and on every step that is logged.
        images_before = math.ceil(position * self.image_ratio)
        is_image_step = math.ceil((position + 1) * self.image_ratio) > images_before
        if is_image_step:
            bucket, rows, draws = self._streams["images"].step(images_before)
        else:
            bucket, rows, draws = self._streams["videos"].step(position - images_before)
        taken = slice(rank * self.batch_size, (rank + 1) * self.batch_size)
        return BatchRequest(bucket, rows[taken], draws[taken])
