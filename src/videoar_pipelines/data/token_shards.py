# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Token shards: a data set after the tokenizer and the text encoder have been over it once, for training without either.

A shard is two files, `shard-00003.safetensors` with the arrays and `shard-00003.jsonl` with a line for every row of the data set.
The arrays are written last and renamed when complete, so a shard is finished when they exist.

| array | dtype | content |
|---|---|---|
| `bits` | uint8 | of every clip, frame by frame, scale by scale, token by token: `ceil(d / 8)` bytes a token |
| `features` | float16 | optional; of every clip `(T, d, H', W')`, the features before quantisation |
| `text_states` | bfloat16 `(tokens, C)` | optional; of every caption, without padding |

Bits alone are enough for training on clean maps. Error correction needs the features: its targets are quantised again against a
corrupted sum, and bits do not determine them. Of the bits of white noise (`d = 48`, 8x8 grids of six scales), quantising the latents
that they stand for gives 79 % again, less than that for smooth features, and features in float16 give more than 99.9 %
(`tests/data/test_sources.py` holds both). So training rounds features to float16 in any case, and then training from shards and
from files sees the same bits.

Letters used in shapes: `B` clips of a batch, `T` latent frames, `(H', W')` latent grid, `L` tokens of a frame, `d` bits of a
token, `N` text tokens, `C` width of the text states.
"""

import functools
import json
import math
import re
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import T5EncoderModel

from ..models.autoencoder_videoar import AutoencoderVideoAR
from ..models.quantization import (
    ScaleSchedule,
    flatten_bits,
    pack_bits,
    tokens_per_frame,
    unflatten_bits,
    unpack_bits,
)
from ..schedulers.scheduling_videoar import VideoARScheduler
from ..utils.provenance import fingerprint_of
from .buckets import Bucket
from .clips import MediaClips, UnreadableClipError
from .manifest import StringTable


_SHARD_NAME = re.compile(r"shard-(\d+)\.safetensors")
_METADATA_KEY = "videoar_token_shard"


# 1. What shards are made with


def round_features(features: torch.Tensor) -> torch.Tensor:
    """Features as training quantises them: rounded to float16, in which shards hold them, and back to float32."""
    return features.to(torch.float16).to(torch.float32)


def fingerprint_of_encoder(vae: AutoencoderVideoAR) -> str:
    """
    A hash of a tokenizer without its decoder, which has no part in its tokens: it can go on learning, or be exchanged, with the
    same shards.
    """
    return fingerprint_of(vae, leave_out=("decoder",))


@dataclass(frozen=True)
class ShardSettings:
    """
    What all shards of a data set have in common.

    Args:
        vae_fingerprint (`str`): Of the tokenizer without its decoder, see [`fingerprint_of_encoder`].
        text_encoder_fingerprint (`str`, *optional*): Of the text encoder, if there are text states.
        max_text_length (`int`, *optional*): Text tokens `N`, if there are text states.
        num_bits (`int`): `d`.
        stores_features (`bool`): Whether there are features.
        num_frames (`int`): Pixel frames of a clip.
        num_latent_frames (`int`): `T` of a clip.
        scale_schedules (`dict[str, ScaleSchedule]`): By size in pixels, `{"128x128": ((1, 1), ...)}`.
        num_variants (`int`): Clips of every video; training takes another one in every epoch.
        num_rows (`int`): Rows of the data set, of all shards together.
        num_shards (`int`): Number of shards.
        data (`dict`): How the data were read: path, split, sampling of frames, seed, precision.
    """

    vae_fingerprint: str
    text_encoder_fingerprint: str | None
    max_text_length: int | None
    num_bits: int
    stores_features: bool
    num_frames: int
    num_latent_frames: int
    scale_schedules: dict[str, ScaleSchedule]
    num_variants: int
    num_rows: int
    num_shards: int
    data: dict[str, Any]

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Heights and widths in pixels, in the order they were given in."""
        return tuple(tuple(map(int, size.split("x"))) for size in self.scale_schedules)

    def schedule_of(self, bucket: Bucket) -> ScaleSchedule:
        """The scale schedule of a bucket."""
        return self.scale_schedules[f"{bucket.height}x{bucket.width}"]

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "ShardSettings":
        fields = json.loads(text)
        if fields.keys() != {field.name for field in dataclass_fields(cls)}:
            raise ValueError(
                "The token shard was written by another version of this library: encode the data set again."
            )
        fields["scale_schedules"] = {
            size: tuple(map(tuple, schedule)) for size, schedule in fields["scale_schedules"].items()
        }
        return cls(**fields)

    def differences(self, other: "ShardSettings") -> list[str]:
        """Names of the fields in which two settings differ."""
        mine, others = json.loads(self.to_json()), json.loads(other.to_json())
        return [name for name in mine if mine[name] != others[name]]


def shard_rows(shard_index: int, num_shards: int, num_rows: int) -> range:
    """The rows of a shard: consecutive, and as many as in any other shard or one more."""
    return range(num_rows * shard_index // num_shards, num_rows * (shard_index + 1) // num_shards)


def shard_path(folder: Path, shard_index: int) -> Path:
    """Where the arrays of a shard are."""
    return folder / f"shard-{shard_index:05d}.safetensors"


def list_shards(folder: Path) -> dict[int, Path]:
    """The finished shards in a folder, by index."""
    matches = [(_SHARD_NAME.fullmatch(path.name), path) for path in folder.glob("*.safetensors")]
    return dict(sorted((int(match[1]), path) for match, path in matches if match))


def read_settings(path: Path) -> ShardSettings:
    """The settings of a finished shard, from its header alone."""
    with safe_open(path, "pt") as arrays:
        metadata = arrays.metadata() or {}
    if _METADATA_KEY not in metadata:
        raise ValueError(f"`{path}` is no token shard: write shards with encode_data_set.py.")
    return ShardSettings.from_json(metadata[_METADATA_KEY])


# 2. Writing


class TokenShardWriter:
    """
    Collects one shard in memory and writes it.

    Args:
        folder (`Path`): Of all shards.
        shard_index (`int`): Which one.
        settings ([`ShardSettings`]): Of all shards.
        source ([`MediaClips`]): The data set.
    """

    def __init__(self, folder: Path, shard_index: int, settings: ShardSettings, source: MediaClips):
        self.path = shard_path(folder, shard_index)
        self.settings = settings
        self._arrays = {"bits": []}
        if settings.stores_features:
            self._arrays["features"] = []
        if settings.text_encoder_fingerprint is not None:
            self._arrays["text_states"] = []
        self._ends = dict.fromkeys(self._arrays, 0)
        self._lines = {}
        for row in shard_rows(shard_index, settings.num_shards, settings.num_rows):
            size_index = int(source.size_indices[row])
            self._lines[row] = {
                "row": row,
                "file": source.files[row],
                "caption": source.captions[row],
                "is_image": bool(source.is_image[row]),
                "size": None if size_index < 0 else list(settings.sizes[size_index]),
                "unusable": source.unusable.get(row),
                "frame_conditions": {name: values[row].tolist() for name, values in source.frame_conditions.items()},
                "clips": [],
            }

    def _append(self, name: str, array: torch.Tensor) -> list[int]:
        start = self._ends[name]
        self._arrays[name].append(array.cpu())
        self._ends[name] += len(array)
        return [start, self._ends[name]]

    def add_clip(self, row: int, bits: list[torch.Tensor], features: torch.Tensor) -> None:
        """
        Adds the next variant of a row.

        Args:
            row (`int`): Of the data set.
            bits (`list[torch.Tensor]`): For every scale, boolean bits `(1, T, h_k, w_k, d)`.
            features (`torch.Tensor` of shape `(1, d, T, H', W')`): The features that the bits are of, see [`round_features`].
        """
        clip = {"bits": self._append("bits", pack_bits(flatten_bits(bits)).flatten())}
        if self.settings.stores_features:
            clip["features"] = self._append("features", features[0].transpose(0, 1).to(torch.float16).flatten())
        self._lines[row]["clips"].append(clip)

    def add_unreadable_clip(self, row: int, reason: str) -> None:
        """Notes that the next variant of a row cannot be read, and why."""
        self._lines[row]["clips"].append({"unreadable": reason})

    def add_text(self, row: int, text_states: torch.Tensor) -> None:
        """
        Args:
            row (`int`): Of the data set.
            text_states (`torch.Tensor` of shape `(tokens, C)`): Of its caption, without padding.
        """
        self._lines[row]["text_states"] = self._append("text_states", text_states.to(torch.bfloat16))

    def finish(self) -> None:
        """Writes the shard: the lines, then the arrays."""
        # Another name for every process: where two write the same shard at once, one complete file replaces the other.
        mark = uuid.uuid4().hex[:8]
        temporary_lines = self.path.with_name(f".{self.path.stem}-{mark}.jsonl")
        temporary_arrays = self.path.with_name(f".{self.path.stem}-{mark}.safetensors")
        try:
            with open(temporary_lines, "w", encoding="utf-8") as file:
                for line in self._lines.values():
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
            arrays = {name: torch.cat(parts) for name, parts in self._arrays.items() if parts}
            save_file(arrays, temporary_arrays, metadata={_METADATA_KEY: self.settings.to_json()})
            temporary_arrays.chmod(temporary_lines.stat().st_mode)  # safetensors lets nobody else read them
            temporary_lines.replace(self.path.with_suffix(".jsonl"))
            temporary_arrays.replace(self.path)
        finally:
            temporary_lines.unlink(missing_ok=True)
            temporary_arrays.unlink(missing_ok=True)


# 3. Reading


@functools.lru_cache(maxsize=32)
def _open_arrays(path: Path) -> Any:
    """A memory-mapped shard; the most recent ones stay open in every worker."""
    return safe_open(path, "pt")


class TokenShards:
    """
    Clips of token shards, a [`clips.ClipDataSet`] like [`clips.MediaClips`]: rows, buckets and rows that cannot be used are
    those of the data set that was encoded.

    Args:
        folder (`Path`): With all shards.
        vae ([`AutoencoderVideoAR`]): The tokenizer in use.
        scheduler ([`VideoARScheduler`]): The scheduler in use.
        text_encoder (`T5EncoderModel`, *optional*): The text encoder in use; without it text states are not checked.
        condition_columns (`Sequence[str]`, defaults to none): Names of the frame conditions to hand out.

    Raises:
        `ValueError`: Shards are missing, were made with different settings, or do not fit the models in use.
    """

    def __init__(
        self,
        folder: Path,
        vae: AutoencoderVideoAR,
        scheduler: VideoARScheduler,
        text_encoder: T5EncoderModel | None = None,
        condition_columns: Sequence[str] = (),
    ):
        # 1. All shards of one set, made by the models in use
        self._paths = list_shards(folder)
        if not self._paths:
            raise ValueError(f"`{folder}` has no token shards: write them with encode_data_set.py.")
        settings = {index: read_settings(path) for index, path in self._paths.items()}
        first, self.settings = next(iter(settings.items()))
        for index, other in settings.items():
            if other != self.settings:
                raise ValueError(
                    f"Shards {first} and {index} in `{folder}` differ in {', '.join(self.settings.differences(other))}:"
                    " encode the data set into a new folder."
                )
        missing = sorted(set(range(self.settings.num_shards)) - set(settings))
        if missing:
            raise ValueError(
                f"`{folder}` lacks {len(missing)} of {self.settings.num_shards} shards: run encode_data_set.py with"
                f" `--shard_index {' '.join(map(str, missing[:20]))}`{', and more' if len(missing) > 20 else ''}."
            )
        self._check_models(folder, vae, scheduler, text_encoder)

        # 2. The rows of all shards
        self.sizes = self.settings.sizes
        files, captions, is_image, size_indices, shards, text_spans, starts = [], [], [], [], [], [], []
        self.unusable, self._reasons = {}, {}
        conditions = {name: [] for name in condition_columns}
        for index, path in self._paths.items():
            with open(path.with_suffix(".jsonl"), encoding="utf-8") as file:
                lines = [json.loads(line) for line in file]
            for line in lines:
                files.append(line["file"])
                captions.append(line["caption"])
                is_image.append(line["is_image"])
                size_indices.append(-1 if line["size"] is None else self.sizes.index(tuple(line["size"])))
                shards.append(index)
                text_spans.append(line.get("text_states", (0, 0)))
                for name, values in conditions.items():
                    if name not in line["frame_conditions"]:
                        raise ValueError(
                            f"The shards in `{folder}` have no frame condition {name!r} (`condition_columns`): encode the data"
                            " set with it, into a new folder."
                        )
                    values.append(line["frame_conditions"][name])
                if line["unusable"] is not None:
                    self.unusable[line["row"]] = line["unusable"]
                row_starts = np.full((self.settings.num_variants, 2), -1, dtype=np.int64)
                for variant, clip in enumerate(line["clips"]):
                    if "unreadable" in clip:
                        self._reasons[line["row"], variant] = clip["unreadable"]
                    else:
                        row_starts[variant] = clip["bits"][0], clip.get("features", (-1,))[0]
                starts.append(row_starts)
        self.files, self.captions = StringTable(files), StringTable(captions)
        self.frame_conditions = {name: np.array(values, dtype=np.float32) for name, values in conditions.items()}
        self.is_image, self.size_indices = np.array(is_image), np.array(size_indices, dtype=np.int16)
        self._shards, self._text_spans, self._starts = np.array(shards), np.array(text_spans), np.stack(starts)
        self.longest_text = int((self._text_spans[:, 1] - self._text_spans[:, 0]).max())  # tokens

    def _check_models(
        self,
        folder: Path,
        vae: AutoencoderVideoAR,
        scheduler: VideoARScheduler,
        text_encoder: T5EncoderModel | None,
    ) -> None:
        remedy = "Encode the data set again, into a new folder, or train with the models it was encoded with."
        if fingerprint_of_encoder(vae) != self.settings.vae_fingerprint:
            raise ValueError(
                f"The shards in `{folder}` were made by a tokenizer whose encoder has other weights or settings. {remedy}"
            )
        for (height, width), stored in zip(self.settings.sizes, self.settings.scale_schedules.values()):
            ratio = vae.spatial_compression_ratio
            in_use = scheduler.get_scale_schedule(height // ratio, width // ratio)
            if in_use != stored:
                raise ValueError(
                    f"The shards in `{folder}` have the scale schedule {stored} for {height}x{width} pixels, the scheduler"
                    f" has {in_use}. {remedy}"
                )
        stored = self.settings.text_encoder_fingerprint
        if None not in (stored, text_encoder) and fingerprint_of(text_encoder) != stored:
            raise ValueError(f"The text states in `{folder}` were made by a text encoder of other weights. {remedy}")

    def read(self, row: int, draw: int, bucket: Bucket) -> dict[str, torch.Tensor]:
        """
        Reads one clip. Where a bucket of images is filled from videos, it is the first latent frame, which by the causality of
        the tokenizer is the encoded first frame.

        Args:
            row (`int`): Of the data set.
            draw (`int`): How often it had been taken before.
            bucket ([`Bucket`]): Its shape.

        Returns:
            `dict[str, torch.Tensor]`: `bits` `(T * L, bytes)`; `features` `(T, d, H', W')` and `text_states` `(tokens, C)` if the
            shards hold them.

        Raises:
            [`UnreadableClipError`]: The clip could not be read when the shards were written.
        """
        settings, schedule = self.settings, self.settings.schedule_of(bucket)
        variant = 0 if self.is_image[row] else draw % settings.num_variants
        if (row, variant) in self._reasons:
            raise UnreadableClipError(self._reasons[row, variant])
        arrays = _open_arrays(self._paths[self._shards[row]])
        num_latent_frames = 1 if bucket.is_image else settings.num_latent_frames
        bits_start, features_start = self._starts[row, variant].tolist()

        num_tokens, token_bytes = num_latent_frames * tokens_per_frame(schedule), -(-settings.num_bits // 8)
        bits = arrays.get_slice("bits")[bits_start : bits_start + num_tokens * token_bytes]
        clip = {"bits": bits.unflatten(0, (num_tokens, token_bytes))}
        if settings.stores_features:
            shape = (num_latent_frames, settings.num_bits, *schedule[-1])
            features = arrays.get_slice("features")[features_start : features_start + math.prod(shape)]
            clip["features"] = features.unflatten(0, shape)
        if settings.text_encoder_fingerprint is not None:
            start, end = self._text_spans[row].tolist()
            clip["text_states"] = arrays.get_slice("text_states")[start:end]
        return clip

    def collate(self, clips: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Clips of one bucket as one tensor each, text padded to the `N` tokens of the longest one."""
        batch = {name: torch.stack([clip[name] for clip in clips]) for name in clips[0] if name != "text_states"}
        if self.settings.text_encoder_fingerprint is not None:
            states = [clip["text_states"] for clip in clips]
            batch["text_states"] = states[0].new_zeros(len(clips), max(map(len, states)), states[0].shape[1])
            batch["text_mask"] = torch.zeros(batch["text_states"].shape[:2], dtype=torch.bool)
            for index, text_states in enumerate(states):
                batch["text_states"][index, : len(text_states)] = text_states
                batch["text_mask"][index, : len(text_states)] = True
        return batch

    def to_training(
        self, batch: dict[str, torch.Tensor], bucket: Bucket, device: torch.device | str
    ) -> dict[str, Any]:
        """What [`~collate`] gave, as training takes it: see [`sources.BatchSource`]."""
        batch = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
        bits = unpack_bits(batch["bits"], self.settings.num_bits)  # (B, T * L, d)
        batch["bits"] = unflatten_bits(bits, self.settings.schedule_of(bucket))
        if "features" in batch:
            batch["features"] = batch["features"].to(torch.float32).transpose(1, 2)  # (B, d, T, H', W')
        return batch
