# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Training data from the command line: one interface for the moving shapes, for videos and images listed in a manifest, for
UCF-101, and for token shards.

A *batch source* is an endless iterator whose batch number `n` is a pure function of its arguments and `n`. Its state is that
number, so a run that is resumed sees the very batches that a run never stopped would have seen.

Letters used in shapes: `B` clips of a batch, `F` pixel frames, `(H, W)` pixels, `T` latent frames, `(H', W')` latent grid,
`(h_k, w_k)` grid of scale `k`, `d` bits of a token, `N` text tokens, `C` width of the text states.
"""

import argparse
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import fsspec
import torch
from transformers import T5EncoderModel

from ..models.autoencoder_videoar import AutoencoderVideoAR
from ..moving_shapes.data_set import MovingShapesBatches
from ..schedulers.scheduling_videoar import VideoARScheduler
from .batches import BucketBatches
from .buckets import BucketPlan
from .clips import CLIP_STARTS, ClipSettings, MediaClips
from .manifest import MANIFEST_NAMES, MANIFEST_SUFFIXES, MediaTable, join_path, read_manifest
from .token_shards import TokenShards, list_shards
from .ucf101 import UCF101_LISTS_FOLDER, read_ucf101


SPLITS = ("train", "validation", "test")

# Flags that only some kinds of data know; where one is given in vain, the run does not start.
_FILE_FLAGS = ("buckets", "fps", "frame_stride", "clip_start")
_CHANGES = ("random_crop", "random_flip")  # of the pictures that training sees
_FLAGS_OF_KIND = {
    "moving_shapes": (),
    "manifest": (*_FILE_FLAGS, *_CHANGES, "file_column", "caption_column", "condition_columns", "data_repeats"),
    "ucf101": (*_FILE_FLAGS, *_CHANGES, "ucf101_fold", "data_repeats"),
    "token_shards": ("condition_columns", "data_repeats"),
}
_SPECIAL_FLAGS = sorted({flag for flags in _FLAGS_OF_KIND.values() for flag in flags})


# 1. What training scripts see


class BatchSource(Protocol):
    """
    Endless batches of training data.

    Iterating yields dictionaries with
        - `captions` (`list[str]`): One text for each clip.
        - `files` (`list[str]`): Where each clip comes from, to be named when a step goes wrong.
        - from pixels: `pixel_values` (`torch.Tensor` of shape `(B, 3, F, H, W)`), float32 in [-1, 1] on the device. `F` is 1 in
          a batch of images; `(F, H, W)` is the same on all ranks at every step, and differs between steps.
        - from token shards, instead of `pixel_values`: `bits` (`list[torch.Tensor]`), for every scale the boolean bits
          `(B, T, h_k, w_k, d)` on the device; `features` (`torch.Tensor` of shape `(B, d, T, H', W')`), float32, before
          quantisation, if the shards hold them; `text_states` (`torch.Tensor` of shape `(B, N, C)`), bfloat16, and
          `text_mask` (`torch.Tensor` of shape `(B, N)`), boolean, `False` at padding, if the shards hold them. They are the states
          of the text encoder that the shards were made with: who trains the text encoder goes by `captions`.
        - if the data have them: `frame_conditions` (`dict[str, torch.Tensor]`), by name float32 `(B, T, c)` on the device, a vector
          for every latent frame, or a label where `c` is 1.
    """

    position: int  # number of the next batch

    def __iter__(self) -> Iterator[dict[str, Any]]: ...

    def __next__(self) -> dict[str, Any]: ...

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to continue at the next batch; the same on every rank, and safe to load as weights only."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues at the batch that `state_dict` names."""
        ...


def bucket_size(text: str) -> tuple[int, int]:
    """`"96x160"` to `(96, 160)`, for argparse."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no HEIGHTxWIDTH, such as 96x160")
    return int(match[1]), int(match[2])


def add_clip_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that say which clips there are: those that encode_data_set.py and training share."""
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data",
        default="moving_shapes",
        help=f"'moving_shapes'; a manifest ({', '.join(MANIFEST_SUFFIXES)}) or a folder with one ({MANIFEST_NAMES[0]}, ...);"
        f" a folder with UCF-101 and its lists in {UCF101_LISTS_FOLDER}/; a folder of token shards. URLs that fsspec opens work"
        " too, but for token shards.",
    )
    group.add_argument("--num_frames", type=int, default=17, help="Pixel frames of a clip.")
    group.add_argument("--height", type=int, default=128, help="Pixels: clips are resized to cover it, then cropped.")
    group.add_argument("--width", type=int, default=128, help="Pixels.")
    group.add_argument(
        "--buckets",
        type=bucket_size,
        nargs="+",
        metavar="HEIGHTxWIDTH",
        help="Instead of one size, several: every file gets the one that is nearest to its proportions.",
    )
    group.add_argument(
        "--fps",
        type=float,
        help="Frames per second to sample videos at; as stored if not given. Slower videos are skipped.",
    )
    group.add_argument("--frame_stride", type=int, help="Instead of --fps, take every so many-th frame (default: 1).")
    group.add_argument(
        "--clip_start", choices=CLIP_STARTS, help="Which part of a longer video a clip is (default: random)."
    )
    group.add_argument(
        "--random_crop",
        type=float,
        metavar="ZOOM",
        help="Resize every training clip by a factor between 1 and ZOOM more than it takes to cover the size, and crop it anywhere.",
    )
    group.add_argument(
        "--random_flip",
        action="store_true",
        default=None,
        help="Exchange left and right in half of the training clips. Not where captions or conditions tell them apart.",
    )
    group.add_argument("--file_column", help="Column of a manifest (default: file).")
    group.add_argument("--caption_column", help="Column of a manifest (default: caption).")
    group.add_argument(
        "--condition_columns",
        nargs="+",
        help="Columns of a manifest with a number, or a list of numbers, for every latent frame of a clip: the transformer's"
        " `frame_conditions` of these names.",
    )
    group.add_argument("--ucf101_fold", type=int, choices=(1, 2, 3), help="Pair of UCF-101's lists (default: 1).")
    group.add_argument("--num_workers", type=int, default=4, help="Processes that read files, for each rank.")
    group.add_argument(
        "--max_skipped_share",
        type=float,
        default=0.05,
        help="Stop when more than this share of the files cannot be used. Up to it they are listed in the log.",
    )


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that [`make_batches`] reads."""
    add_clip_arguments(parser)
    group = parser.add_argument_group("batches")
    group.add_argument(
        "--image_ratio",
        type=float,
        help="Share of batches that hold images, or single frames where the data have no images. If not given, files are"
        " taken as they come.",
    )
    group.add_argument(
        "--allow_changed_data",
        action="store_true",
        help="Resume although files, captions or sizes are others than the checkpoint's; the order of the clips changes.",
    )
    group.add_argument("--data_repeats", type=int, help="Take every file so often per epoch (default: 1).")
    group.add_argument("--prefetch_factor", type=int, default=2, help="Batches that each worker reads ahead.")
    group.add_argument(
        "--worker_timeout", type=float, default=600, help="Seconds without a batch after which the run is stopped."
    )


def make_batches(
    args: argparse.Namespace,
    batch_size: int,
    seed: int = 0,
    split: str = "train",
    device: torch.device | str = "cpu",
    rank: int = 0,
    world_size: int = 1,
    log_dir: Path | str | None = None,
    vae: AutoencoderVideoAR | None = None,
    scheduler: VideoARScheduler | None = None,
    text_encoder: T5EncoderModel | None = None,
) -> BatchSource:
    """
    The batch source that the flags of [`add_data_arguments`] ask for.

    Args:
        args (`argparse.Namespace`): With the flags of [`add_data_arguments`].
        batch_size (`int`): Clips `B` per batch and rank.
        seed (`int`, defaults to 0): Of the order of the clips and of their first frames.
        split (`str`, defaults to `"train"`):
            `"train"`, `"validation"` or `"test"`: rows of a manifest with that `split` column, or shards that were encoded from it.
            `"validation"` of moving shapes are the held-out combinations, and there is no `"test"`; of UCF-101 both are the test
            list.
        device (`torch.device` or `str`, defaults to `"cpu"`): Of the tensors of a batch.
        rank (`int`, defaults to 0): This process.
        world_size (`int`, defaults to 1): Number of processes. All call this function alike.
        log_dir (`Path` or `str`, *optional*):
            Folder for the lists of skipped files, `skipped_files_rank{rank}.jsonl`. Without it they only go to the logger.
        vae ([`AutoencoderVideoAR`], *optional*):
            The tokenizer in use, needed for token shards only: those of another tokenizer are refused.
        scheduler ([`VideoARScheduler`], *optional*): The scheduler in use; like `vae`, for its scale schedules.
        text_encoder (`T5EncoderModel`, *optional*):
            The text encoder in use: shards with text states of another are refused. Leave it out where it is trained.

    Returns:
        [`BatchSource`]

    Raises:
        `ValueError`: A flag does not fit the data, a column is missing, there is nothing to train on, or the shards were not
            made by these models.
        `RuntimeError`: More files than `--max_skipped_share` allows are known to be unusable from the start.
    """
    if split not in SPLITS:
        raise ValueError(f"`split` is {split!r}: pass one of {', '.join(SPLITS)}.")
    is_held_out_data = args.data != getattr(args, "training_data", args.data)
    kind = find_kind(args.data, "--validation_data" if is_held_out_data else "--data")
    _check_flags(args, kind)
    if kind == "moving_shapes":
        if split == "test":
            raise ValueError(
                "The moving shapes have no split 'test': ask for 'validation', the held-out combinations."
            )
        return MovingShapesBatches(
            batch_size,
            args.num_frames,
            args.height,
            args.width,
            split="train" if split == "train" else "held_out",
            image_ratio=args.image_ratio or 0.0,
            seed=seed,
            rank=rank,
            world_size=world_size,
            device=device,
        )
    if kind == "token_shards":
        if vae is None or scheduler is None:
            raise ValueError(
                f"`--data {args.data}` holds token shards: they train a transformer. Tokenizers are trained from pixels."
            )
        clips = TokenShards(Path(args.data), vae, scheduler, text_encoder, args.condition_columns or ())
        _check_shards(args, clips, split)
    else:
        table = read_table(args, split)
        clips = open_clips(args, table, seed, rank=rank, world_size=world_size, is_training=split == "train")
    plan = BucketPlan(
        clips.is_image,
        clips.size_indices,
        clips.sizes,
        batch_size,
        world_size,
        seed,
        args.image_ratio,
        1 if args.data_repeats is None else args.data_repeats,
    )
    return BucketBatches(
        clips,
        plan,
        rank,
        device,
        args.num_workers,
        args.prefetch_factor,
        args.worker_timeout,
        args.max_skipped_share,
        None if log_dir is None else Path(log_dir) / f"skipped_files_rank{rank}.jsonl",
        args.allow_changed_data,
    )


# 2. What they are made of


def find_kind(data: str, flag: str = "--data") -> str:
    """
    Which kind of data a path or URL names: `"moving_shapes"`, `"manifest"`, `"ucf101"` or `"token_shards"`. `flag` is for the error.

    Raises:
        `ValueError`: It is nothing of the kind.
    """
    if data == "moving_shapes":
        return "moving_shapes"
    if data.partition("::")[0].lower().endswith(MANIFEST_SUFFIXES):
        return "manifest"
    file_system, path = fsspec.core.url_to_fs(data)
    if file_system.isdir(join_path(path, UCF101_LISTS_FOLDER)):
        return "ucf101"
    if "://" not in data and list_shards(Path(data)):
        return "token_shards"
    if _find_manifest(data) is not None:
        return "manifest"
    raise ValueError(
        f"`{flag}` {data!r} is neither 'moving_shapes', nor a manifest ({', '.join(MANIFEST_SUFFIXES)}), nor a folder with"
        f" {UCF101_LISTS_FOLDER}/, with token shards or with one of {', '.join(MANIFEST_NAMES)}."
    )


def _find_manifest(folder: str) -> str | None:
    file_system, path = fsspec.core.url_to_fs(folder)
    names = [name for name in MANIFEST_NAMES if file_system.isfile(join_path(path, name))]
    return join_path(folder, names[0]) if names else None


def _manifest_of(data: str) -> str | None:
    """The manifest that is named, or the one in the folder that is."""
    return data if data.partition("::")[0].lower().endswith(MANIFEST_SUFFIXES) else _find_manifest(data)


def has_held_out_data(args: argparse.Namespace) -> bool:
    """Whether `--validation_data` names other data than `--data`, which may be named by its folder or by its manifest."""
    names = [args.data, getattr(args, "validation_data", None)]
    if names[1] is None or names[0] == names[1]:
        return False
    if all(find_kind(name, flag) == "manifest" for name, flag in zip(names, ("--data", "--validation_data"))):
        first, second = map(_manifest_of, names)
        return first != second and os.path.realpath(first) != os.path.realpath(second)
    return True


def read_table(args: argparse.Namespace, split: str) -> MediaTable:
    """
    The files that `--data` names, of a manifest or of UCF-101. A script that reads no captions sets `args.needs_captions` to
    `False`, one that validates on the data that it trains on sets `args.unsplit` to `"hashed"`: see [`manifest.read_manifest`].
    """
    kind = find_kind(args.data)
    _check_flags(args, kind)
    if kind == "ucf101":
        return read_ucf101(args.data, split, args.ucf101_fold or 1)
    if kind != "manifest":
        raise ValueError(f"`--data` {args.data!r} has no files to read: pass a manifest or a folder with UCF-101.")
    return read_manifest(
        _manifest_of(args.data),
        args.file_column or "file",
        args.caption_column or "caption",
        split,
        args.condition_columns or (),
        needs_captions=getattr(args, "needs_captions", True),
        unsplit=getattr(args, "unsplit", "train"),
    )


def open_clips(
    args: argparse.Namespace,
    table: MediaTable,
    seed: int,
    rows: Sequence[int] | None = None,
    rank: int = 0,
    world_size: int = 1,
    is_training: bool = False,
) -> MediaClips:
    """
    The clips that the flags cut out of files.

    Args:
        args (`argparse.Namespace`): With the flags of [`add_clip_arguments`].
        table ([`MediaTable`]): The files, see [`read_table`].
        seed (`int`): Of all that is random.
        rows (`Sequence[int]`, *optional*): Rows that will be used; all if not given.
        rank (`int`, defaults to 0): This process.
        world_size (`int`, defaults to 1): Number of processes.
        is_training (`bool`, defaults to `False`): Whether `--random_crop` and `--random_flip` hold.
    """
    settings = ClipSettings(
        num_frames=args.num_frames,
        sizes=tuple(args.buckets or [(args.height, args.width)]),
        fps=args.fps,
        frame_stride=1 if args.frame_stride is None else args.frame_stride,
        clip_start=args.clip_start or "random",
        seed=seed,
        random_crop=args.random_crop if is_training else None,
        random_flip=is_training and bool(args.random_flip),
    )
    return MediaClips(table, settings, rows, rank, world_size)


def _check_flags(args: argparse.Namespace, kind: str) -> None:
    """Every flag has an effect on these data, or on those that the same run trains or validates on."""
    useful = {*_FLAGS_OF_KIND[kind]}
    if (training_data := getattr(args, "training_data", None)) is not None:
        useful.update(_FLAGS_OF_KIND[find_kind(training_data)])
    if (validation_data := getattr(args, "validation_data", None)) is not None:
        held_out_kind = find_kind(validation_data, "--validation_data")
        useful.update({*_FLAGS_OF_KIND[held_out_kind]} - {*_CHANGES, "data_repeats"})  # those are for training
    given = [flag for flag in _SPECIAL_FLAGS if getattr(args, flag, None) is not None]
    in_vain = [flag for flag in given if flag not in useful]
    if in_vain:
        raise ValueError(
            f"`--{in_vain[0]}` has no effect on `--data {args.data}`, which is {kind.replace('_', ' ')}: leave it out."
        )


def _check_shards(args: argparse.Namespace, shards: TokenShards, split: str) -> None:
    settings = shards.settings
    if args.num_frames != settings.num_frames or (args.height, args.width) not in shards.sizes:
        sizes = " or ".join(f"`--height {height} --width {width}`" for height, width in shards.sizes)
        raise ValueError(
            f"The token shards in {args.data!r} hold clips of `--num_frames {settings.num_frames}` at {sizes}, but"
            f" {args.num_frames} frames of {args.height}x{args.width} are asked for."
        )
    if split != settings.data["split"]:
        raise ValueError(
            f"The token shards in {args.data!r} were encoded from the split {settings.data['split']!r}, but {split!r} is asked"
            " for: encode that split into another folder."
        )
    reads_texts = not getattr(args, "train_text_encoder", False) and getattr(args, "word_drop_probability", 0) == 0
    longest = getattr(args, "max_sequence_length", None)
    if longest is not None and reads_texts and shards.longest_text > longest:
        raise ValueError(
            f"The token shards in {args.data!r} hold texts of up to {shards.longest_text} tokens, but `--max_sequence_length` is"
            f" {longest}: pass at least {shards.longest_text}, or encode the data set with `--max_sequence_length {longest}`."
        )
