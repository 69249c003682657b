# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
From clips to features: the network with its resizing, and a cache on disk that a run continues from.

A cache is a folder for one set of clips, one network and one alteration, named by a hash of all that decides its numbers. It
holds chunks of clips, each a file that appears when it is complete; several processes make different chunks of one cache.
Features and the measures of motion come from the same pass over the clips.

Letters used in shapes: `B` clips of a batch, `N` clips, `F` pixel frames, `D` numbers of a feature.
"""

import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from ..utils.files import complete_or_absent
from .clips import ClipSet, resize_frames
from .i3d import I3D, INPUT_SIZE
from .motion import measure_motion
from .protocols import NetworkProtocol
from .weights import I3D_DIGEST, find_i3d_weights, sha256_of_file


CHUNK_SIZE = 32  # clips that a run loses at most when it is killed
CACHE_FORMAT = 2  # to be raised when the code computes other numbers from the same clips


class FeatureExtractor:
    """
    The network of a protocol, with the resizing in front of it.

    Args:
        settings ([`NetworkProtocol`]): Of the protocol.
        device (`str`, defaults to `"cpu"`): Where it runs, in float32.
        torchscript (`str` or `Path`, *optional*):
            A TorchScript file to take instead of our network, such as `i3d_torchscript.pt` of StyleGAN-V: it is called with
            `rescale=False, resize=False, return_features=True` and gives logits. A file runs as code: take your own.
        network (`torch.nn.Module`, *optional*): Another network to take, with the call of [`I3D`]; for tests.
        digest (`str`, *optional*): What `network` is called in results and caches.

    Attributes:
        digest (`str`): SHA-256 of the weights; of a TorchScript file, of the file.
    """

    def __init__(
        self,
        settings: NetworkProtocol,
        device: torch.device | str = "cpu",
        torchscript: str | Path | None = None,
        network: torch.nn.Module | None = None,
        digest: str | None = None,
    ):
        self.settings, self.device = settings, torch.device(device)
        if network is not None:
            self.network, self.digest = network, digest or "given"
        elif torchscript is not None:
            if settings.features != "logits":
                raise ValueError(f"`torchscript` gives logits, but the protocol asks for {settings.features!r}.")
            script = torch.jit.load(torchscript, map_location=self.device).eval()
            self.network, self.digest = _TorchScriptLogits(script), sha256_of_file(torchscript)
        else:
            self.network, self.digest = I3D.from_file(find_i3d_weights()), I3D_DIGEST
        self.network = self.network.to(self.device)

    @torch.inference_mode()
    def __call__(self, clips: torch.Tensor) -> dict[str, torch.Tensor]:
        """
        Args:
            clips (`torch.Tensor` of shape `(B, 3, F, H, W)`): RGB in [-1, 1].

        Returns:
            `dict[str, torch.Tensor]`: `logits` of shape `(B, 400)`, and `pooled` of shape `(B, 1024)` where the network gives
            it; float32 on the CPU.
        """
        settings = self.settings
        sizes = {"kernel": settings.kernel, "antialias": settings.antialias, "alignment": settings.alignment}
        resized = resize_frames(clips.to(self.device), INPUT_SIZE, INPUT_SIZE, **sizes)
        return {name: features.float().cpu() for name, features in self.network(resized).items()}

    def describe(self) -> dict[str, Any]:
        return dataclasses.asdict(self.settings) | {"sha256": self.digest}


class _TorchScriptLogits(torch.nn.Module):
    def __init__(self, script: torch.nn.Module):
        super().__init__()
        self.script = script

    def forward(self, video: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": self.script(video, rescale=False, resize=False, return_features=True)}


class ChunkedCache:
    """
    What was computed for the clips of a set, chunk by chunk.

    Args:
        root (`Path`): Folder of caches.
        description (`dict`): All that decides the numbers; it names the cache and is written into it.
        num_clips (`int`): `N`.
    """

    def __init__(self, root: Path, description: dict[str, Any], num_clips: int):
        description = description | {"cache_format": CACHE_FORMAT, "chunk_size": CHUNK_SIZE}
        text = json.dumps(description, indent=2, sort_keys=True)
        self.folder = root / hashlib.sha256(text.encode()).hexdigest()[:20]
        self.num_clips, self.num_chunks = num_clips, math.ceil(num_clips / CHUNK_SIZE)
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "description.json").exists():
            with complete_or_absent(self.folder / "description.json") as path:
                path.write_text(text)

    def path_of(self, chunk: int) -> Path:
        return self.folder / f"chunk-{chunk:06d}.safetensors"

    def rows_of(self, chunk: int) -> range:
        return range(chunk * CHUNK_SIZE, min((chunk + 1) * CHUNK_SIZE, self.num_clips))

    def missing(self, rank: int = 0, world_size: int = 1) -> list[int]:
        """The chunks that a process has to make."""
        return [chunk for chunk in range(rank, self.num_chunks, world_size) if not self.path_of(chunk).exists()]

    def write(self, chunk: int, tensors: dict[str, torch.Tensor]) -> None:
        with complete_or_absent(self.path_of(chunk)) as path:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)

    def chunks(self) -> Iterator[dict[str, torch.Tensor]]:
        """
        The chunks in their order, each a dictionary of tensors with as many rows as clips.

        Raises:
            `RuntimeError`: A chunk is missing.
        """
        missing = self.missing()
        if missing:
            raise RuntimeError(f"{self.folder} lacks {len(missing)} of {self.num_chunks} chunks: compute them first.")
        for chunk in range(self.num_chunks):
            yield load_file(self.path_of(chunk))

    def table(self) -> dict[str, torch.Tensor]:
        """All chunks together."""
        chunks = list(self.chunks())
        return {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}


def read_chunks(
    clips: ClipSet, cache: ChunkedCache, store: "FeatureStore"
) -> Iterator[tuple[int, Iterator[torch.Tensor]]]:
    """The clips of the missing chunks of a process: the number of a chunk, and its batches `(B, 3, F, H, W)`, to be used up."""
    batches = {
        chunk: [list(rows[start : start + store.batch_size]) for start in range(0, len(rows), store.batch_size)]
        for chunk in cache.missing(store.rank, store.world_size)
        for rows in [cache.rows_of(chunk)]
    }
    sampler = [batch for chunk_batches in batches.values() for batch in chunk_batches]
    loader = iter(DataLoader(clips, batch_sampler=sampler, num_workers=store.num_workers))
    for chunk, chunk_batches in batches.items():
        yield chunk, itertools.islice(loader, len(chunk_batches))


@dataclasses.dataclass(frozen=True)
class FeatureStore:
    """
    Computes features and measures of motion once, and keeps them.

    Args:
        extractor ([`FeatureExtractor`]): Of the protocol.
        cache_root (`Path`): Folder of caches; clips that another run has seen are not computed again.
        rank, world_size (`int`): This process makes every `world_size`-th chunk. The numbers do not depend on it.
        batch_size (`int`, defaults to 4): Clips at a time.
        num_workers (`int`, defaults to 0): Processes that decode ahead.
        progress (`bool`, defaults to `True`): Whether to show a progress bar.
    """

    extractor: FeatureExtractor
    cache_root: Path
    rank: int = 0
    world_size: int = 1
    batch_size: int = 4
    num_workers: int = 0
    progress: bool = True

    def compute(self, clips: ClipSet, name: str = "features") -> ChunkedCache:
        """
        Computes what the cache lacks of a set of `N` clips. Where several processes take part, all have to call this.

        Args:
            clips ([`ClipSet`]): `N` clips.
            name (`str`, defaults to `"features"`): What the progress bar says.

        Returns:
            [`ChunkedCache`]: Complete, with `logits` `(N, 400)`, `pooled` `(N, 1024)` and what [`measure_motion`] gives.
        """
        # Both features are kept, so which one a protocol takes does not decide what is computed.
        network = {key: value for key, value in self.extractor.describe().items() if key != "features"}
        cache = ChunkedCache(self.cache_root, {"clips": clips.describe(), "network": network}, len(clips))
        total = sum(len(cache.rows_of(chunk)) for chunk in cache.missing(self.rank, self.world_size))
        with tqdm(total=total, desc=name, unit="clip", disable=not self.progress or total == 0) as bar:
            for chunk, batches in read_chunks(clips, cache, self):
                parts = []
                for batch in batches:
                    parts.append(self.extractor(batch) | measure_motion(batch))
                    bar.update(len(batch))
                cache.write(chunk, {key: torch.cat([part[key] for part in parts]) for key in parts[0]})
        wait_for_all()
        return cache


def wait_for_all() -> None:
    """Until every process of `torch.distributed` is here."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
