# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
`torch.distributed.checkpoint` without running anything that is in a file.

torch (2.13) unpickles the index of a checkpoint, `.metadata`, and its entries that are no tensors, so that a file made for the
purpose runs any code. Here the same index is written as JSON beside it and alone is read; other entries are loaded as plain
values. `.metadata` stays for torch's own tools.
"""

import io
import json
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as distributed_checkpoint
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.storage import WriteResult

from ..utils.command_line import UsageError


INDEX_NAME = "index.json"

_DTYPES = {str(dtype): dtype for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)}


# 1. Writing


def save_sharded(state: dict[str, Any], folder: Path) -> None:
    """Writes nested dictionaries of tensors, sharded or not, and of plain values. All processes call it together."""
    is_distributed = dist.is_available() and dist.is_initialized()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        try:
            distributed_checkpoint.save(state, storage_writer=ShardedWriter(folder), no_dist=not is_distributed)
        except distributed_checkpoint.CheckpointException as error:
            raise RuntimeError(f"{folder} could not be written.") from _first_failure(error)


class ShardedWriter(distributed_checkpoint.FileSystemWriter):
    """A writer that leaves the JSON index too."""

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        super().finish(metadata, results)
        # From the results: in some versions of torch (2.11) `metadata` itself does not learn what is stored where
        metadata.storage_data = {result.index: result.storage_data for part in results for result in part}
        (Path(self.path) / INDEX_NAME).write_text(json.dumps(_index_to_json(metadata)) + "\n")


def _index_to_json(metadata: Metadata) -> dict[str, Any]:
    tensors = {
        name: {
            "dtype": str(entry.properties.dtype),
            "size": list(entry.size),
            "chunks": [[list(chunk.offsets), list(chunk.sizes)] for chunk in entry.chunks],
        }
        for name, entry in metadata.state_dict_metadata.items()
        if isinstance(entry, TensorStorageMetadata)
    }
    return {
        "tensors": tensors,
        "values": [name for name in metadata.state_dict_metadata if name not in tensors],
        "stored": [
            {
                "name": place.fqn,
                "offset": None if place.offset is None else list(place.offset),
                "index": place.index,
                "file": stored.relative_path,
                "start": stored.offset,
                "length": stored.length,
            }
            for place, stored in metadata.storage_data.items()
        ],
    }


# 2. Reading


def load_sharded(state: dict[str, Any], folder: Path) -> None:
    """
    Fills what [`save_sharded`] wrote into `state`: tensors in place, plain values in their dictionaries. All processes call it
    together.

    Raises:
        `UsageError`: The folder is no complete checkpoint.
    """
    is_distributed = dist.is_available() and dist.is_initialized()
    reader, planner = ShardedReader(folder), _PlainLoadPlanner()
    reader.read_metadata()  # an error of the index is raised as itself; inside `load` the processes would wrap it
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        try:
            distributed_checkpoint.load(state, storage_reader=reader, planner=planner, no_dist=not is_distributed)
        except distributed_checkpoint.CheckpointException as error:
            failure = _first_failure(error)
            reason = (str(failure).strip() or "no reason given").splitlines()[0]
            raise UsageError(
                f"{folder.parent} does not fit this run ({type(failure).__name__}: {reason}). It is damaged, of other models, or of another `--optimizer`:"
                " pass `--resume_from_checkpoint` another one."
            ) from failure


def _first_failure(error: distributed_checkpoint.CheckpointException) -> BaseException:
    """torch wraps the errors of all processes in one that is no `Exception`."""
    return next(iter(error.failures.values()))[0]


class ShardedReader(distributed_checkpoint.FileSystemReader):
    """A reader that knows the folder by its JSON index."""

    def read_metadata(self, *arguments: Any, **keywords: Any) -> Metadata:
        path = Path(self.path) / INDEX_NAME
        if not path.is_file():
            raise UsageError(
                f"{path.parent} is not a complete checkpoint: it has no {INDEX_NAME}. Name one that a training script wrote."
            )
        try:
            metadata = _index_from_json(json.loads(path.read_text()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(
                f"{path} is damaged ({type(error).__name__}: {error}): use another checkpoint."
            ) from error
        metadata.storage_meta = StorageMeta(load_id=self.load_id)
        return metadata


class _PlainLoadPlanner(DefaultLoadPlanner):
    """What is no tensor has to be a plain value."""

    def load_bytes(self, read_item: Any, value: io.BytesIO) -> None:
        plain = io.BytesIO()
        torch.save(torch.load(value, weights_only=True), plain)
        plain.seek(0)
        super().load_bytes(read_item, plain)


def _index_from_json(index: dict[str, Any]) -> Metadata:
    entries = {
        name: TensorStorageMetadata(
            TensorProperties(_DTYPES[entry["dtype"]]),
            torch.Size(entry["size"]),
            [ChunkStorageMetadata(torch.Size(offsets), torch.Size(sizes)) for offsets, sizes in entry["chunks"]],
        )
        for name, entry in index["tensors"].items()
    }
    stored = {}
    for place in index["stored"]:
        if Path(place["file"]).name != place["file"]:
            raise ValueError(f"{place['file']!r} is no file of this folder")
        offset = None if place["offset"] is None else torch.Size(place["offset"])
        key = MetadataIndex(place["name"], offset, place["index"])
        stored[key] = _StorageInfo(place["file"], place["start"], place["length"])
    return Metadata(entries | {name: BytesStorageMetadata() for name in index["values"]}, storage_data=stored)
