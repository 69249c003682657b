# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Lists of videos and images with captions: manifests in CSV, JSON Lines or Parquet, on this machine or wherever fsspec reaches.

A row keeps its number for good, whether it can be used or not: this is what makes an order of clips repeatable. Rows that
cannot be used are remembered with the reason.
"""

import csv
import hashlib
import json
import logging
import os
import re
import reprlib
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import fsspec
import numpy as np


logger = logging.getLogger(__name__)

# The share of a manifest without a `split` column that is held out, where a run validates on it.
HELD_OUT_SHARE = 0.05
IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
MANIFEST_SUFFIXES = (".csv", ".jsonl", ".parquet")
# Larger sizes than this are no pictures.
_LARGEST_SIDE = 2**20
_LONGEST_CSV_FIELD = 2**31 - 1
_csv_limit_lock = threading.Lock()
_shorten = reprlib.Repr()
_shorten.maxstring = _shorten.maxother = 80
# What undecodable bytes were replaced by, and halves of characters beyond U+FFFF, which JSON can hold.
_NO_TEXT = re.compile("[\ufffd\ud800-\udfff]")
MANIFEST_NAMES = tuple(f"{stem}{suffix}" for stem in ("manifest", "metadata") for suffix in MANIFEST_SUFFIXES)


class StringTable(Sequence):
    """Strings in one block of memory, which the workers of a data loader share instead of copying it page by page."""

    def __init__(self, strings: Iterable[str]):
        encoded = [string.encode() for string in strings]
        self._bytes = b"".join(encoded)
        self._ends = np.cumsum([len(string) for string in encoded], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> str:
        start = self._ends[index - 1] if index > 0 else 0
        return self._bytes[start : self._ends[index]].decode()


@dataclass
class MediaTable:
    """
    Videos and images with captions, by row.

    Args:
        files (`Sequence[str]`): Path or URL of every row.
        captions (`Sequence[str]`): Text of every row.
        is_image (`np.ndarray` of shape `(rows,)`): Boolean, `False` for videos.
        sizes (`np.ndarray` of shape `(rows, 2)`): Height and width in pixels as far as the manifest tells them, else 0.
        unusable (`dict[int, str]`): Rows that cannot be used, and why.
        frame_conditions (`dict[str, np.ndarray]`):
            By name `(rows, T, c)`, float32: a vector, or with `c = 1` a number, for every latent frame of the clip of a row.
            Zeros fill what an image, or a row that cannot be used, does not have.
    """

    files: Sequence[str]
    captions: Sequence[str]
    is_image: np.ndarray
    sizes: np.ndarray
    unusable: dict[int, str]
    frame_conditions: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.files)


def fingerprint_of_rows(files: Sequence[str], captions: Sequence[str]) -> str:
    """A hash of names and captions in their order. Folders do not count, so that a data set can be moved."""
    digest = hashlib.sha256()
    for file, caption in zip(files, captions):
        digest.update(f"{file.rpartition('/')[2]}\0{caption}\0".encode())
    return digest.hexdigest()


def is_image_file(file: str) -> bool:
    """Whether a path or URL names an image by its suffix; everything else is taken for a video."""
    return file.partition("::")[0].lower().endswith(IMAGE_SUFFIXES)


def join_path(folder: str, file: str) -> str:
    """`file` relative to `folder`, both paths or URLs (`zip://folder::s3://bucket/archive.zip` too); else `file` itself."""
    if "://" in file or os.path.isabs(file):
        return file
    inner, chain, rest = folder.partition("::")
    separator = "" if not inner or inner.endswith("/") else "/"
    return f"{inner}{separator}{file}{chain}{rest}"


def parent_of(path: str) -> str:
    """The folder of a path or URL."""
    inner, chain, rest = path.partition("::")
    scheme, marker, inner = inner.rpartition("://")
    return f"{scheme}{marker}{os.path.dirname(inner)}{chain}{rest}"


def read_manifest(
    path: str,
    file_column: str = "file",
    caption_column: str = "caption",
    split: str | None = "train",
    condition_columns: Sequence[str] = (),
    needs_captions: bool = True,
    unsplit: str = "train",
) -> MediaTable:
    """
    Reads a manifest: one row for each video or image.

    Two more columns are used where a manifest has them: `split`, of which only rows with the value `split` are taken, and
    `height` with `width`, which save a look into each file when there are several buckets.

    Args:
        path (`str`): A `.csv`, `.jsonl` or `.parquet` file, path or URL.
        file_column (`str`, defaults to `"file"`): Column of the files: absolute, URLs, or relative to the manifest's folder.
        caption_column (`str`, defaults to `"caption"`): Column of the captions.
        split (`str`, *optional*, defaults to `"train"`): Which rows of a manifest with a `split` column to take; all if `None`.
        condition_columns (`Sequence[str]`, defaults to none):
            Columns of frame conditions: for every latent frame of the clip a number (a label) or a list of numbers, all of one
            length. In CSV the cell holds them as JSON, `[[0.5, 1], [0.2, 0]]`.
        needs_captions (`bool`, defaults to `True`):
            Whether a row without a readable caption, or a manifest without that column, is of no use. Else its caption is empty.
        unsplit (`str`, defaults to `"train"`):
            What the rows of a manifest without a `split` column are: `"train"`, of that split alone; `"any"`, of the split that is
            asked for; or `"hashed"`: those whose names hash below `HELD_OUT_SHARE` (or lowest, if none does) are of the validation
            split, so that a run can validate on files that it does not train on. A file keeps its split when others come and go.
            The log says so.

    Returns:
        [`MediaTable`]: Rows without a file, with a caption that is no readable text, or with other frame conditions than that
        are in its `unusable`.

    Raises:
        `ValueError`: A column is missing, no row is left, or a Parquet file is given without pyarrow.
    """
    columns, rows = _read_rows(path)
    flags_and_columns = [("file_column", file_column)]
    flags_and_columns += [("caption_column", caption_column)] if needs_captions else []
    flags_and_columns += [("condition_columns", column) for column in condition_columns]
    for flag, column in flags_and_columns:
        if rows and column not in columns:
            raise ValueError(
                f"The manifest {path!r} has no column {column!r} (`{flag}`), only {', '.join(sorted(columns))}."
            )
    if split is None or ("split" not in columns and unsplit == "any"):
        pass
    elif "split" in columns:
        rows = _rows_with_split(rows, split)
    elif unsplit == "hashed" and split != "test":
        rows = _rows_by_hash(rows, file_column, split, path)
    elif split != "train":
        raise ValueError(
            f"The manifest {path!r} has no column 'split' to find its {split!r} rows by: add one, or ask for the split 'train'."
        )
    if not rows:
        raise ValueError(
            f"The manifest {path!r} has no rows" + (f" of the split {split!r}." if columns and split else ".")
        )

    folder, files, captions, sizes, unusable = parent_of(path), [], [], [], {}
    conditions = {}
    for number, (line, row) in enumerate(rows):
        parsed = {} if isinstance(row, str) else {name: _to_condition(row.get(name)) for name in condition_columns}
        problem = row
        if not isinstance(row, str):
            problem = _find_problem(row, file_column, caption_column if needs_captions else None, parsed)
        if problem is not None:
            unusable[number] = problem
            file = None if isinstance(row, str) else row.get(file_column)
            files.append(
                join_path(folder, file) if isinstance(file, str) and _is_text(file) else f"{path}, line {line}"
            )
            captions.append("")
            sizes.append((0, 0))
        else:
            files.append(join_path(folder, row[file_column]))
            caption = row.get(caption_column)
            captions.append(caption.strip() if isinstance(caption, str) and _is_text(caption) else "")
            conditions[number] = parsed
            sizes.append((_to_size(row.get("height")), _to_size(row.get("width"))))
    table = make_media_table(files, captions, np.array(sizes, dtype=np.int32), unusable)
    for name in condition_columns:
        values = {number: parsed[name] for number, parsed in conditions.items() if number not in table.unusable}
        table.frame_conditions[name] = _stack_conditions(values, table, name)
    return table


def read_column(path: str, column: str, split: str | None = "train") -> list[Any]:
    """
    What a column holds, whatever its type, for every row of the table that [`read_manifest`] gives for that split; `None` where
    there is nothing.

    Raises:
        `ValueError`: There is no such column.
    """
    columns, rows = _read_rows(path)
    if column not in columns:
        raise ValueError(f"The manifest {path!r} has no column {column!r}, only {', '.join(sorted(columns))}.")
    if split is not None and "split" in columns:
        rows = _rows_with_split(rows, split)
    return [None if isinstance(row, str) else row.get(column) for _, row in rows]


def make_media_table(
    files: list[str], captions: list[str], sizes: np.ndarray | None = None, unusable: dict[int, str] | None = None
) -> MediaTable:
    """A [`MediaTable`] of lists, with unknown sizes if none are given."""
    return MediaTable(
        files=StringTable(files),
        captions=StringTable(captions),
        is_image=np.array([is_image_file(file) for file in files]),
        sizes=np.zeros((len(files), 2), dtype=np.int32) if sizes is None else sizes,
        unusable=unusable or {},
    )


# A row is a dictionary, or a string that says why the line could not be read. It comes with its line number.
Rows = list[tuple[int, dict[str, Any] | str]]


def _read_rows(path: str) -> tuple[set[str], Rows]:
    suffix = os.path.splitext(path.partition("::")[0])[1].lower()
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    if suffix not in readers:
        raise ValueError(f"The manifest {path!r} must be one of {', '.join(MANIFEST_SUFFIXES)}.")
    return readers[suffix](path)


def _rows_with_split(rows: Rows, split: str) -> Rows:
    return [(line, row) for line, row in rows if isinstance(row, str) or row.get("split") == split]


def _read_lines(path: str) -> Iterator[str]:
    # Bytes that are no text become U+FFFD, which marks the caption as broken instead of ending the run.
    with fsspec.open(path, "rt", encoding="utf-8-sig", errors="replace", newline="") as file:
        for line in file:
            yield line.replace("\0", "\ufffd")


def _read_csv(path: str) -> tuple[set[str], Rows]:
    # The csv module refuses fields over 131,072 characters, and only knows one limit for the whole process.
    with _csv_limit_lock:
        limit = csv.field_size_limit(_LONGEST_CSV_FIELD)
        try:
            reader = csv.DictReader(_read_lines(path))
            rows = [(reader.line_num, row) for row in reader]
            return set(reader.fieldnames or ()), rows
        finally:
            csv.field_size_limit(limit)


def _read_jsonl(path: str) -> tuple[set[str], Rows]:
    columns, rows = set(), []
    for number, line in enumerate(_read_lines(path), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:  # no JSON, a number of thousands of digits, or endless nesting
            row = f"the line is not valid JSON: {error}"
        else:
            row = row if isinstance(row, dict) else "the line is not a JSON object"
        columns.update(row if isinstance(row, dict) else ())
        rows.append((number, row))
    return columns, rows


def _read_parquet(path: str) -> tuple[set[str], Rows]:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError(
            f"The manifest {path!r} is Parquet, which needs pyarrow: `pip install pyarrow`, or convert it to .jsonl."
        ) from error
    with fsspec.open(path, "rb") as file:
        table = pyarrow.parquet.read_table(file)
        return set(table.column_names), list(enumerate(table.to_pylist(), start=1))


def _rows_by_hash(rows: Rows, file_column: str, split: str, path: str) -> Rows:
    """The rows of a split that the hashes of the files decide; rows without a file are for training."""

    def position(row: dict[str, Any] | str) -> float:
        file = None if isinstance(row, str) else row.get(file_column)
        if not isinstance(file, str):
            return 1.0
        return int.from_bytes(hashlib.sha256(file.encode("utf-8", "replace")).digest()[:4]) / 2**32

    positions = [position(row) for _, row in rows]
    bound = max(HELD_OUT_SHARE, min(positions, default=0.0) + 2.0**-33)
    chosen = [row for row, place in zip(rows, positions) if (place < bound) == (split == "validation")]
    logger.info(
        "The manifest %s has no column 'split': the hashes of the files hold out %d of %d rows for validation.",
        path,
        sum(place < bound for place in positions),
        len(rows),
    )
    return chosen


def _find_problem(
    row: dict[str, Any], file_column: str, caption_column: str | None, conditions: dict[str, np.ndarray | str]
) -> str | None:
    file = row.get(file_column)
    if not isinstance(file, str) or not file.strip() or not _is_text(file):
        return f"no file in the column {file_column!r}: {_shorten.repr(file)}"
    if caption_column is not None:
        caption = row.get(caption_column)
        if not isinstance(caption, str) or not caption.strip():
            return f"no caption in the column {caption_column!r}: {_shorten.repr(caption)}"
        if not _is_text(caption):
            return f"the caption is not valid UTF-8 text: {_shorten.repr(caption)}"
    for name, values in conditions.items():
        if isinstance(values, str):
            return f"the column {name!r} holds {values}"
    return None


def _to_condition(cell: Any) -> np.ndarray | str:
    """The frame conditions `(T, c)` in a cell, or why they cannot be read."""
    try:
        values = np.array(json.loads(cell) if isinstance(cell, str) else cell, dtype=np.float32)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return f"no list of numbers, or of lists of numbers, of one length: {_shorten.repr(cell)}"
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or values.size == 0 or not np.isfinite(values).all():
        return f"no list of finite numbers, or of lists of them: {_shorten.repr(cell)}"
    return values


def _stack_conditions(values: dict[int, np.ndarray], table: MediaTable, column: str) -> np.ndarray:
    """Conditions of usable rows as one array `(rows, T, c)`; rows of another length or width than most become unusable."""
    shapes = Counter(value.shape for number, value in values.items() if not table.is_image[number])
    shapes = shapes or Counter(value.shape for value in values.values())
    num_frames, width = shapes.most_common(1)[0][0] if shapes else (1, 1)
    stacked = np.zeros((len(table), num_frames, width), dtype=np.float32)
    for number, value in values.items():
        expected = (1 if table.is_image[number] else num_frames, width)
        if value.shape == expected:
            stacked[number, : len(value)] = value
        else:
            table.unusable[number] = (
                f"conditions of {value.shape[0]} latent frames and width {value.shape[1]} in the column {column!r}, where"
                f" {expected[0]} and {expected[1]} are expected"
            )
    return stacked


def _is_text(string: str) -> bool:
    return _NO_TEXT.search(string) is None


def _to_size(value: Any) -> int:
    try:
        size = int(value)
    except (TypeError, ValueError, OverflowError):
        return 0
    return size if 0 < size <= _LARGEST_SIDE else 0
