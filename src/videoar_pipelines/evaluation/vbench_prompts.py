# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
VBench's prompts, read from the user's copy of VBench, and the names that its scorer wants for the videos.

The scorer looks for `{prompt}-{number}.mp4` with the prompt as it is, nothing escaped. The standard list has 946 entries but 944 prompts:
two stand in it twice, and their videos serve both entries. Two more differ in nothing but a capital letter.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..utils.files import read_json_lines
from .vbench import DIMENSION_NAMES


FULL_INFO_NAME = "VBench_full_info.json"
PER_DIMENSION_FOLDER = "prompts_per_dimension"
# A list of prompts per file serves the dimension of its name and these.
SHARED_LISTS = {
    "subject_consistency": ("subject_consistency", "dynamic_degree", "motion_smoothness"),
    "scene": ("scene", "background_consistency"),
    "overall_consistency": ("overall_consistency", "aesthetic_quality", "imaging_quality"),
}
NUM_SAMPLES = 5
# Of the videos of a prompt for temporal flickering, VBench's filter keeps five that are nearly still.
NUM_FLICKERING_SAMPLES = 25
LONGEST_FILE_NAME = 255  # bytes, of common file systems


@dataclass(frozen=True)
class VBenchPrompt:
    """
    Args:
        text (`str`): The prompt of the list, which names the files.
        dimensions (`tuple[str, ...]`): What its videos are scored for.
        rewritten (`str`, *optional*): What the model is asked for instead, if prompts were rewritten.
    """

    text: str
    dimensions: tuple[str, ...]
    rewritten: str | None = None

    @property
    def num_samples(self) -> int:
        """Videos that VBench asks for."""
        return NUM_FLICKERING_SAMPLES if "temporal_flickering" in self.dimensions else NUM_SAMPLES

    def file_name(self, number: int, suffix: str = ".mp4") -> str:
        """The name under which the scorer looks for a video."""
        return f"{self.text}-{number}{suffix}"


def read_vbench_prompts(source: str | Path, rewritten: str | Path | None = None) -> list[VBenchPrompt]:
    """
    Reads the list of prompts.

    Args:
        source (`str` or `Path`):
            `VBench_full_info.json`; a folder with it or with `prompts_per_dimension/` (a clone of VBench, the installed
            package); the folder `prompts_per_dimension/` itself; or a table (`.jsonl`, `.parquet`) of a data set on the Hub,
            with the columns `prompt_en` and `dimension`.
        rewritten (`str` or `Path`, *optional*):
            Prompts to give to the model instead: a text file with as many lines as `VBench_full_info.json` has entries, in its
            order (VBench's `augmented_prompts`), or a JSON object with the original prompts as keys.

    Returns:
        `list[VBenchPrompt]`: Each prompt once.

    Raises:
        `ValueError`: There is no such list, an entry is malformed, a prompt cannot name a file, or rewritten prompts do not fit.
    """
    source = _find_list(Path(source))
    entries = _read_folder(source) if source.is_dir() else _READERS[source.suffix](source)
    for text, dimensions in entries:
        _check_entry(text, dimensions, source)
    texts = [text for text, _ in entries]
    instead = {}
    if rewritten is not None:
        if source.is_dir() and Path(rewritten).suffix != ".json":
            raise ValueError(
                f"`rewritten` {str(rewritten)!r} is in the order of {FULL_INFO_NAME}: pass that as `source`."
            )
        instead = _read_rewritten(Path(rewritten), texts)

    dimensions_of = {}
    for text, dimensions in entries:
        seen = dimensions_of.setdefault(text, [])
        seen.extend(name for name in dimensions if name not in seen)
    return [VBenchPrompt(text, tuple(dimensions), instead.get(text)) for text, dimensions in dimensions_of.items()]


def prompts_for(prompts: Sequence[VBenchPrompt], dimensions: Sequence[str]) -> list[VBenchPrompt]:
    """
    The prompts that some dimensions are scored on.

    Raises:
        `ValueError`: A name is no dimension of VBench.
    """
    unknown = sorted(set(dimensions) - set(DIMENSION_NAMES))
    if unknown:
        raise ValueError(f"`dimensions` has {', '.join(unknown)}: VBench's are {', '.join(DIMENSION_NAMES)}.")
    return [prompt for prompt in prompts if set(prompt.dimensions) & set(dimensions)]


Entries = list[tuple[str, tuple[str, ...]]]


def _find_list(source: Path) -> Path:
    """The file with the list, or the folder with a list per dimension."""
    if source.is_dir():
        for candidate in (source / FULL_INFO_NAME, source / "vbench" / FULL_INFO_NAME):
            if candidate.is_file():
                return candidate
        for candidate in (source / "prompts" / PER_DIMENSION_FOLDER, source / PER_DIMENSION_FOLDER, source):
            if _lists_per_dimension(candidate):
                return candidate
    elif source.is_file() and source.suffix in _READERS:
        return source
    raise ValueError(
        f"There is no list of VBench's prompts at {str(source)!r}. Pass a clone of https://github.com/Vchitect/VBench, its "
        f"{FULL_INFO_NAME} or {PER_DIMENSION_FOLDER}/, or a table ({', '.join(_READERS)}) with the dimensions of each prompt."
    )


def _lists_per_dimension(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.glob("*.txt")) if file.stem in DIMENSION_NAMES]


def _read_folder(folder: Path) -> Entries:
    return [
        (line.strip(), SHARED_LISTS.get(file.stem, (file.stem,)))
        for file in _lists_per_dimension(folder)
        for line in file.read_text(encoding="utf-8").splitlines()
        if line.strip()
    ]


def _read_json(file: Path) -> Entries:
    return _parse_rows(json.loads(file.read_text(encoding="utf-8")), file)


def _read_jsonl(file: Path) -> Entries:
    return _parse_rows(read_json_lines(file), file)


def _read_parquet(file: Path) -> Entries:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError(f"{str(file)!r} is Parquet, which needs pyarrow: `pip install pyarrow`.") from error
    return _parse_rows(pyarrow.parquet.read_table(file).to_pylist(), file)


_READERS = {".json": _read_json, ".jsonl": _read_jsonl, ".parquet": _read_parquet}


def _parse_rows(rows: Any, file: Path) -> Entries:
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and isinstance(row.get("prompt_en"), str) and row.get("dimension") for row in rows
    ):
        raise ValueError(f"{str(file)!r} must be a list of entries with `prompt_en` and `dimension`.")
    dimensions = [row["dimension"] for row in rows]
    return [
        (row["prompt_en"], (names,) if isinstance(names, str) else tuple(names))
        for row, names in zip(rows, dimensions)
    ]


def _check_entry(text: str, dimensions: tuple[str, ...], source: Path) -> None:
    unknown = sorted(set(dimensions) - set(DIMENSION_NAMES))
    if unknown:
        raise ValueError(
            f"{str(source)!r} has the dimensions {', '.join(unknown)}, which VBench's scorer does not know."
        )
    longest = len(f"{text}-{NUM_FLICKERING_SAMPLES - 1}.mp4".encode())
    if "/" in text or "\0" in text or longest > LONGEST_FILE_NAME:
        raise ValueError(
            f"{str(source)!r} has the prompt {text!r}, which cannot be part of a file name ('/', or {longest} of at most "
            f"{LONGEST_FILE_NAME} bytes). VBench's scorer looks for the prompt as it is, so it could not be scored: leave it out."
        )


def _read_rewritten(file: Path, texts: Sequence[str]) -> dict[str, str]:
    """The rewritten prompt of every original one."""
    if not file.is_file():
        raise ValueError(f"`rewritten` {str(file)!r} is no file.")
    contents = file.read_text(encoding="utf-8")
    if file.suffix == ".json":
        instead = json.loads(contents)
        if not isinstance(instead, dict):
            raise ValueError(f"`rewritten` {str(file)!r} must be a JSON object with the original prompts as keys.")
    else:
        lines = [line.strip() for line in contents.splitlines()]
        if len(lines) != len(texts):
            raise ValueError(
                f"`rewritten` {str(file)!r} has {len(lines)} lines for {len(texts)} entries: line n rewrites entry n."
            )
        instead = dict(reversed(list(zip(texts, lines))))  # where a prompt stands twice, the first line counts
    lacking = [text for text in texts if not str(instead.get(text, "")).strip()]
    if lacking:
        raise ValueError(f"`rewritten` {str(file)!r} has nothing for {len(lacking)} prompts, such as {lacking[0]!r}.")
    return {text: instead[text] for text in texts}
