# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""The flags that the scoring scripts share, and what is made of them."""

import argparse
import json
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState

from ..utils.command_line import is_given
from ..utils.files import complete_or_absent
from ..utils.provenance import code_version
from .clips import ClipSet, open_clips
from .features import FeatureExtractor, FeatureStore
from .protocols import Protocol, load_protocol, protocol_names
from .scoring import Comparison
from .weights import cache_folder, sha256_of_file


# Fields of a protocol that a flag may change.
CHANGES = ("num_real", "num_fake", "num_frames", "height", "width", "windows", "start", "split", "features")


def add_scoring_arguments(parser: argparse.ArgumentParser, default_protocol: str) -> None:
    """Adds the flags that [`load_protocols`], [`make_store`] and [`open_real_clips`] read."""
    names = ", ".join(protocol_names())
    group = parser.add_argument_group("protocol")
    group.add_argument("--protocols", nargs="+", default=[default_protocol], help=f"YAML files, or some of: {names}.")
    group.add_argument("--torchscript", type=Path, help="A TorchScript I3D to take instead of the one from PyPI.")
    for name, meaning in (
        ("num_real", "Real clips"),
        ("num_fake", "Samples"),
        ("num_frames", "Pixel frames of a clip"),
        ("height", "Pixels"),
        ("width", "Pixels"),
    ):
        group.add_argument(f"--{name}", type=int, help=f"{meaning}, instead of the protocol's.")
    for name in ("windows", "start", "split", "features"):
        group.add_argument(f"--{name}", help="Instead of the protocol's.")
    group.add_argument("--group_column", help="Column of a manifest that names the recording of each file.")
    group.add_argument("--file_column", help="Column of a manifest that names the files (default: file).")

    group = parser.add_argument_group("run")
    group.add_argument("--seed", type=int, default=0, help="Of the draw of clips, random starts and resampling.")
    group.add_argument("--num_resamples", type=int, default=100, help="Of the bootstrap.")
    group.add_argument("--device", help="Default: that of the process, a GPU where there is one.")
    group.add_argument("--batch_size", type=int, default=4, help="Clips that go through the network at once.")
    group.add_argument("--num_workers", type=int, default=0, help="Processes that decode clips ahead.")
    group.add_argument(
        "--cache_dir",
        type=Path,
        default=cache_folder() / "features",
        help="Features are kept here (default: %(default)s).",
    )
    group.add_argument("--output_file", type=Path, help="JSON with the numbers and all that they depend on.")


def add_perceptual_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("LPIPS")
    group.add_argument("--vgg_weights", type=Path, help="torchvision's VGG16 file.")
    group.add_argument("--lpips_weights", type=Path, help="The linear heads for VGG of the lpips package.")


def load_protocols(args: argparse.Namespace) -> list[tuple[Protocol, dict[str, Any]]]:
    """The protocols with the changes of the flags, and for each what the flags have changed."""
    flags = {name: getattr(args, name) for name in CHANGES if getattr(args, name) is not None}
    loaded = []
    for name in args.protocols:
        plain, protocol = load_protocol(name).to_dict(), load_protocol(name, **flags)
        fields = plain | plain["clips"] | plain["network"]
        loaded.append((protocol, {key: value for key, value in flags.items() if fields[key] != value}))
    return loaded


def refuse_flags(args: argparse.Namespace, names: Sequence[str], reason: str) -> None:
    """
    What is given in vain is an error.

    Raises:
        `ValueError`: One of these flags is given.
    """
    for name in names:
        if is_given(getattr(args, name)):
            raise ValueError(f"`--{name}` has no effect, since {reason}: leave it out.")


def make_store(args: argparse.Namespace, protocol: Protocol) -> FeatureStore:
    state = PartialState()
    return FeatureStore(
        FeatureExtractor(protocol.network, args.device or state.device, args.torchscript),
        args.cache_dir,
        rank=state.process_index,
        world_size=state.num_processes,
        batch_size=args.batch_size,
        num_workers=args.num_workers,
        progress=state.is_main_process,
    )


def make_comparison(args: argparse.Namespace, protocol: Protocol) -> Comparison:
    return Comparison(protocol.network.features, args.num_resamples, args.seed)


def open_real_clips(args: argparse.Namespace, path: Path, protocol: Protocol) -> ClipSet:
    return open_clips(
        path,
        protocol.real_clips,
        protocol.split,
        protocol.num_real,
        args.seed,
        group_column=args.group_column,
        file_column=args.file_column,
    )


def load_perceptual(args: argparse.Namespace, perceptual_class: type) -> tuple[Callable | None, str | None]:
    """LPIPS and its name, or `None` twice where no weights are given. `perceptual_class` is `PerceptualLoss` of training."""
    if args.vgg_weights is None:
        if args.lpips_weights is not None:
            raise ValueError("`--lpips_weights` has no effect without `--vgg_weights`: pass both, or neither.")
        return None, None
    name = f"VGG16 {sha256_of_file(args.vgg_weights)[:12]}"
    heads = f"linear heads {sha256_of_file(args.lpips_weights)[:12]}" if args.lpips_weights else "equal weights"
    return perceptual_class.from_files(args.vgg_weights, args.lpips_weights), f"{name}, {heads}"


def describe_run(args: argparse.Namespace) -> dict[str, Any]:
    """What every result carries besides its protocol."""
    return {
        "code": code_version(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "arguments": {key: _plain(value) for key, value in vars(args).items()},
    }


def write_results(path: Path | None, results: dict[str, Any]) -> None:
    if path is not None:
        with complete_or_absent(path) as temporary:
            temporary.write_text(json.dumps(results, indent=2) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else str(value) if isinstance(value, Path) else value
