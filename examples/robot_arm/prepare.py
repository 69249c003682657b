# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Writes the manifest of the robot arm's clips, with splits by episode.

    git clone https://github.com/droid-dataset/droid-dataset.github.io
    python examples/robot_arm/prepare.py --data droid-dataset.github.io --output_file data/robot_arm/manifest.jsonl

With `--copy_size` and `--copy_fps` it writes lossless copies too, in the folder `clips` beside the manifest, and the manifest names
these. They hold just what training reads from the videos at that size and rate, and a small one is decoded far faster.
`--mirror` adds every training clip once more with left and right exchanged, in the picture and in the instruction.

`--data` is a clone of the public page of DROID (clips under `visualizer/videos`, instructions in `visualizer/index.html`), or a
folder with a `manifest.jsonl` whose rows have `file`, `caption` and `source`, the path of the clip in that repository.

An *episode* is one recording, the folder of `source`: all its cameras fall into one split. The split goes by a hash of the
episode's name. The same clips give the same file, whatever their order.
"""

import argparse
import hashlib
import json
import os
import re
from pathlib import Path, PurePosixPath

import av

from videoar_pipelines.utils.command_line import (
    CommandLineParser,
    UsageError,
    did_you_mean_path,
    non_negative_int,
    positive_float,
    positive_int,
    run_command_line,
)
from videoar_pipelines.utils.files import complete_or_absent
from videoar_pipelines.utils.video_io import Crop, VideoReader


PAGE = "visualizer/index.html"
MANIFEST = "manifest.jsonl"
# The page holds its clips as `JSON.parse('{...}')`, one a line.
_ENTRY = re.compile(r"JSON\.parse\('((?:[^'\\]|\\.)*)'\)")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))")
# What a mirror exchanges, word by word. What stands right way up still does.
_MIRRORED = {"left": "right", "clockwise": "counterclockwise", "leftmost": "rightmost"}
_MIRRORED |= {mirrored: word for word, mirrored in _MIRRORED.items()}
_SIDED = re.compile(rf"\b(?:{'|'.join(_MIRRORED)})\b(?! (?:way|side) up\b)", re.IGNORECASE)


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = CommandLineParser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help=f"Clone of the page, or a folder with a {MANIFEST}.")
    parser.add_argument("--output_file", type=Path, required=True, help="The manifest to write, a .jsonl file.")
    parser.add_argument("--validation_episodes", type=non_negative_int, default=60)
    parser.add_argument("--test_episodes", type=non_negative_int, default=120)
    parser.add_argument(
        "--min_seconds",
        type=positive_float,
        default=1.5,
        help="Leave shorter videos out; 17 frames at 12 frames per second are 1.42 s.",
    )
    parser.add_argument(
        "--copy_size",
        type=positive_int,
        nargs="+",
        metavar="PIXELS",
        help="Write copies of that size: of a square, or height and width.",
    )
    parser.add_argument("--copy_fps", type=positive_int, help="Frames per second of the copies.")
    parser.add_argument("--mirror", action="store_true", help="Add mirrored copies of the training clips.")
    args = parser.parse_args(arguments)
    if args.copy_size is not None and len(args.copy_size) > 2:
        raise UsageError(f"`--copy_size` is {args.copy_size}: pass one number, or height and width.")
    if args.mirror and args.copy_size is None:
        raise UsageError("`--mirror` writes copies: pass `--copy_size` and `--copy_fps` too.")
    if (args.copy_size is None) != (args.copy_fps is None):
        raise UsageError("`--copy_size` and `--copy_fps` say what copies are like: pass both, or neither.")
    return args


def without_full_stop(caption: str) -> str:
    """Some instructions of the page end in a full stop, or in three where the page cut them; most do not."""
    return caption.rstrip(".")


def read_page(folder: Path) -> list[dict[str, str]]:
    """The clips that the page names: `file` relative to `folder`, `caption`, and `source`, the same as `file`."""
    rows = []
    for literal in _ENTRY.findall((folder / PAGE).read_text(encoding="utf-8")):
        entry = json.loads(_ESCAPE.sub(lambda match: chr(int(match[1], 16)) if match[1] else match[2], literal))
        caption = entry["info"].partition("<br>")[0].strip()
        source = f"{PurePosixPath(PAGE).parent}/{entry['src']}"
        rows.append({"file": source, "caption": without_full_stop(caption), "source": source})
    if not rows:
        raise UsageError(f"`--data` {folder}: {PAGE} names no clip. Pass a whole clone of the page's repository.")
    return rows


def read_folder(folder: Path) -> list[dict[str, str]]:
    """The rows of a `manifest.jsonl`: `file`, `caption` and `source`."""
    rows = []
    for number, line in enumerate((folder / MANIFEST).read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        row = json.loads(line)
        missing = [name for name in ("file", "caption", "source") if name not in row]
        if missing:
            raise UsageError(
                f"`--data` {folder}: line {number} of {MANIFEST} has no {missing[0]!r}. Every row needs file, caption, source."
            )
        rows.append(
            {"file": row["file"], "caption": without_full_stop(row["caption"].strip()), "source": row["source"]}
        )
    return rows


def seconds_of(path: Path) -> float:
    """How long a video is, by its header."""
    with av.open(str(path)) as container:
        return container.duration / av.time_base


def episode_of(row: dict[str, str]) -> str:
    return str(PurePosixPath(row["source"]).parent)


def split_episodes(episodes: set[str], num_validation: int, num_test: int) -> dict[str, str]:
    """`train`, `validation` or `test` for every episode: the first in the order of their hashes are for the test."""
    ordered = sorted(episodes, key=lambda episode: hashlib.sha256(episode.encode()).hexdigest())
    splits = dict.fromkeys(ordered, "train")
    splits |= dict.fromkeys(ordered[:num_test], "test")
    splits |= dict.fromkeys(ordered[num_test : num_test + num_validation], "validation")
    return splits


def mirrored_caption(caption: str) -> str:
    """The instruction of a mirrored clip: "left" and "right" exchanged, and what else a mirror exchanges."""

    def exchange(match: re.Match) -> str:
        word = _MIRRORED[match[0].lower()]
        return word.capitalize() if match[0][0].isupper() else word

    return _SIDED.sub(exchange, caption)


def write_copy(source: Path, target: Path, height: int, width: int, fps: int, is_mirrored: bool) -> None:
    """Writes the frames that training reads from `source`, every one a key frame of lossless FFV1."""
    with VideoReader(source) as reader:
        frames = reader.read(height=height, width=width, fps=fps, crop=Crop(is_mirrored=is_mirrored))
    with complete_or_absent(target) as path, av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=fps, width=width, height=height, pix_fmt="bgr0")
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def report(rows: list[dict[str, str]]) -> None:
    """Prints what each split has, and how many of its instructions no clip of the training split has."""
    trained = {row["caption"] for row in rows if row["split"] == "train"}
    for split in ("train", "validation", "test"):
        chosen = [row for row in rows if row["split"] == split]
        unseen = "" if split == "train" else f", {sum(row['caption'] not in trained for row in chosen)} of them unseen"
        num_episodes = len({row["episode"] for row in chosen})
        print(f"{split}: {len(chosen)} clips of {num_episodes} episodes, each with an instruction{unseen}")


def main(args: argparse.Namespace) -> None:
    # 1. Read what there is
    if (args.data / PAGE).is_file():
        rows = read_page(args.data)
    elif (args.data / MANIFEST).is_file():
        rows = read_folder(args.data)
    else:
        raise UsageError(
            f"`--data` {args.data} has neither {PAGE} nor {MANIFEST}: pass one of the two.{did_you_mean_path(args.data)}"
        )
    missing = [row["file"] for row in rows if not (args.data / row["file"]).is_file()]
    if missing:
        raise UsageError(
            f"`--data` {args.data} lacks {len(missing)} of {len(rows)} clips, such as {missing[0]}: get it whole."
        )

    # 2. Leave out what is too short for a clip, or has no instruction
    long_enough = [row for row in rows if seconds_of(args.data / row["file"]) >= args.min_seconds]
    kept = [row for row in long_enough if row["caption"]]
    print(f"{len(rows) - len(long_enough)} of {len(rows)} videos are shorter than {args.min_seconds} s and left out")
    print(f"{len(long_enough) - len(kept)} have no instruction and are left out")

    # 3. Split
    episodes = {episode_of(row) for row in kept}
    held_out = args.validation_episodes + args.test_episodes
    if held_out >= len(episodes):
        raise UsageError(
            f"`--validation_episodes` and `--test_episodes` ask for {held_out} of {len(episodes)} episodes, and none is left to"
            " train with: ask for fewer."
        )
    splits = split_episodes(episodes, args.validation_episodes, args.test_episodes)

    # 4. Rows, those of mirrored clips after all others
    rows = [
        {**row, "split": splits[episode_of(row)], "is_mirrored": False}
        for row in sorted(kept, key=lambda row: row["source"])
    ]
    if args.mirror:
        rows += [
            {**row, "caption": mirrored_caption(row["caption"]), "is_mirrored": True}
            for row in rows
            if row["split"] == "train"
        ]

    # 5. Files: copies, where an earlier run has not written them, or what there is
    folder = args.output_file.resolve().parent
    files = [(args.data / row["file"]).resolve() for row in rows]
    if args.copy_size is not None:
        height, width = args.copy_size[0], args.copy_size[-1]
        copies = folder / "clips" / f"{height}x{width}px_{args.copy_fps}fps"
        copies.mkdir(parents=True, exist_ok=True)
        for index, row in enumerate(rows):
            name = hashlib.sha256(row["source"].encode()).hexdigest()[:16]
            source, files[index] = files[index], copies / f"{name}{'_mirrored' if row['is_mirrored'] else ''}.mkv"
            if not files[index].exists():
                write_copy(source, files[index], height, width, args.copy_fps, row["is_mirrored"])

    # 6. Write
    written = [
        {
            "file": os.path.relpath(file, folder),
            "caption": row["caption"],
            "split": row["split"],
            "episode": episode_of(row),
        }
        for row, file in zip(rows, files)
    ]
    with complete_or_absent(args.output_file) as path:
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in written), encoding="utf-8")
    report(written)


if __name__ == "__main__":
    run_command_line(main, parse_args)
