# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Trains and judges the arms of an ablation, which differ in what a YAML file says and in nothing else.

    python run.py --arms_file moving_shapes.yaml --data_dir data/moving_shapes --output_dir runs/moving_shapes
    python run.py ... --fvd_clips 128 --real_clips data/moving_shapes/clips/validation

Every arm and seed is one run of `text_to_video/train_text_to_video.py`, whose flags are in `ARM/seed-N/config.yaml`. Table by table
and seed by seed, so that what is there can be compared at any time. Start it as often as you like: an arm with a result in
`results/` is skipped, one that was killed goes on from its last checkpoint.
"""

import dataclasses
import gc
import importlib.util
import json
import logging
import time
from argparse import Namespace
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
import yaml
from arms import Ablation, Arm, fvd_path, read_ablation, result_path
from evaluate_arm import EvaluationOptions, held_out_bits, judge_videos

from videoar_pipelines import VideoARPipeline
from videoar_pipelines.evaluation.clips import open_clips, open_samples
from videoar_pipelines.evaluation.features import FeatureExtractor, FeatureStore
from videoar_pipelines.evaluation.frechet import bootstrap_frechet
from videoar_pipelines.evaluation.protocols import Protocol, load_protocol
from videoar_pipelines.training.checkpoints import list_checkpoints
from videoar_pipelines.training.validation import open_held_out
from videoar_pipelines.utils.command_line import (
    CommandLineParser,
    UsageError,
    did_you_mean,
    non_negative_int,
    positive_float,
    run_command_line,
)
from videoar_pipelines.utils.files import complete_or_absent


TRAINING_SCRIPT = Path(__file__).resolve().parents[1] / "text_to_video" / "train_text_to_video.py"
logger = logging.getLogger(__name__)


def parse_args(arguments=None):
    parser = CommandLineParser(__doc__)
    parser.add_argument("--arms_file", type=Path, required=True, help="YAML file, see arms.py.")
    parser.add_argument("--data_dir", type=Path, required=True, help="What `{data}` in the file stands for.")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--arms", nargs="+", help="Some of the arms only.")
    parser.add_argument("--seeds", type=int, nargs="+", help="Instead of the file's.")
    parser.add_argument(
        "--fvd_clips", type=non_negative_int, default=0, help="FVD of so many saved videos of each arm."
    )
    parser.add_argument(
        "--fvd_of",
        nargs="+",
        metavar="NAME",
        help="Some of the saved videos only, such as ceiling text continued-025 (default: all there are).",
    )
    parser.add_argument("--real_clips", type=Path, help="For FVD: folder or manifest of real clips.")
    parser.add_argument("--real_fps", type=positive_float, help="Rate to read real clips at; as stored if not given.")
    parser.add_argument("--real_split", default="all", help="Of a manifest of real clips.")
    args = parser.parse_args(arguments)
    if args.fvd_clips > 0 and args.real_clips is None:
        raise UsageError("`--fvd_clips` needs `--real_clips`, a folder of the real clips.")
    if args.fvd_of is not None and args.fvd_clips == 0:
        raise UsageError("`--fvd_of` has no effect without `--fvd_clips`: pass both, or neither.")
    args.ablation = read_ablation(args.arms_file, args.data_dir.resolve())
    for name in args.arms or ():
        if name not in args.ablation.arms:
            raise UsageError(
                f"`--arms` {name!r} is no arm of {args.arms_file}.{did_you_mean(name, args.ablation.arms)}"
            )
    return args


def order_of_runs(ablation: Ablation, names: list[str] | None, seeds: list[int] | None) -> list[tuple[Arm, int]]:
    """Arms and seeds, table by table and seed by seed, each once; an arm comes after the one whose weights it has."""
    runs = {}
    for table in ablation.tables:
        for seed in ablation.seeds if seeds is None else seeds:
            for name in table.arms:
                if names is None or name in names:
                    source = ablation.arms[name].weights_of
                    if source is not None:
                        runs.setdefault((source, seed))
                    runs.setdefault((name, seed))
    return [(ablation.arms[name], seed) for name, seed in runs]


# 1. Training


def load_training_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location(TRAINING_SCRIPT.stem, TRAINING_SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def training_args(script: ModuleType, arm: Arm, seed: int, folder: Path) -> Namespace:
    """The arguments of the training script; as a file, they are in the folder of the run."""
    config = folder / "config.yaml"
    with complete_or_absent(config) as path:
        path.write_text(yaml.safe_dump(arm.training, sort_keys=False))
    arguments = ["--config_file", config, "--seed", seed, "--output_dir", folder, "--resume_from_checkpoint", "latest"]
    if not list_checkpoints(folder):
        arguments[-2:] = ["--overwrite_output_dir"]
    return script.parse_args([str(argument) for argument in arguments])


def train_arm(script: ModuleType, arm: Arm, seed: int, folder: Path) -> Namespace:
    """
    Trains what is left to train of an arm.

    Returns:
        `Namespace`: The arguments of the training script.

    Raises:
        `SystemExit`: The run was asked to stop; a checkpoint is saved.
    """
    folder.mkdir(parents=True, exist_ok=True)
    args = training_args(script, arm, seed, folder)
    if not (folder / "pipeline").exists():
        start = time.process_time()
        script.main(args)
        gc.collect()
        if not (folder / "pipeline").exists():
            raise SystemExit(f"{arm.name}, seed {seed}: stopped; the same command goes on.")
        seconds = time.process_time() - start
        with complete_or_absent(folder / "training_time.json") as path:
            path.write_text(json.dumps({"processor_seconds_since_last_start": seconds}))
    return args


# 2. Judging


def judge_arm(arm: Arm, args: Namespace, folder: Path, samples_dir: Path) -> dict:
    """The numbers of a trained arm; `args` are those of the training script."""
    options = EvaluationOptions(**arm.evaluation)
    pipeline = VideoARPipeline.from_pretrained(folder / "pipeline", local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    held_out = Namespace(**vars(args) | {"validation_data": options.data, "validation_split": options.split})
    models = {name: getattr(pipeline, name) for name in ("vae", "scheduler", "text_encoder")}
    batches = list(islice(open_held_out(held_out, args.train_batch_size, **models), options.num_batches))
    start = time.process_time()
    results = {"held_out_bits": held_out_bits(pipeline, batches, options.flip_probability, options.rows)}
    results |= judge_videos(pipeline, batches, options, samples_dir if options.save_samples else None)
    return results | {
        "num_parameters": sum(parameter.numel() for parameter in pipeline.transformer.parameters()),
        "num_clips": sum(len(batch["files"]) for batch in batches),
        "training_steps": args.max_train_steps,
        "training_clips": args.max_train_steps * args.train_batch_size * args.gradient_accumulation_steps,
        "evaluation": dataclasses.asdict(options),
        "evaluation_processor_seconds": time.process_time() - start,
    }


def make_store(protocol: Protocol, cache_root: Path) -> FeatureStore:
    return FeatureStore(FeatureExtractor(protocol.network), cache_root)


def score_fvd(
    samples_dir: Path, args: Namespace, known: dict, store: Callable[[Protocol, Path], FeatureStore] = make_store
) -> dict[str, int | dict[str, float]]:
    """
    FVD with its bootstrap interval of every kind of saved videos, against as many real clips of their length and size.

    Args:
        samples_dir (`Path`): With files `(N, F, H, W, 3)`.
        args (`Namespace`): Of the command line.
        known (`dict`): What this function gave earlier: its scores of as many clips stay.
        store (`Callable`): Makes the store of features of a protocol.

    Raises:
        `UsageError`: `--fvd_of` names videos that are not there.
    """
    paths = {path.stem: path for path in sorted(samples_dir.glob("*.npy"))}
    for name in args.fvd_of or ():
        if name not in paths:
            raise UsageError(f"`--fvd_of` {name!r} is not in {samples_dir}, which has {', '.join(paths)}.")
    scores = dict(known) if known.get("num_clips") == args.fvd_clips else {"num_clips": args.fvd_clips}
    for name in args.fvd_of or paths:
        if name in scores:
            continue
        path = paths[name]
        _, num_frames, height, width, _ = np.load(path, mmap_mode="r").shape
        protocol = load_protocol("any-17", num_frames=num_frames, height=height, width=width)
        features = store(protocol, args.output_dir / "features")
        samples = features.compute(open_samples(path, protocol.clips, args.fvd_clips), name).table()
        settings = dataclasses.replace(protocol.clips, fps=args.real_fps)
        real = features.compute(open_clips(args.real_clips, settings, args.real_split, args.fvd_clips), "real").table()
        scores[name] = dataclasses.asdict(bootstrap_frechet(samples["logits"], real["logits"]))
    return scores


def write_json(path: Path, content: dict) -> None:
    with complete_or_absent(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def main(args):
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    script = load_training_script()
    for arm, seed in order_of_runs(args.ablation, args.arms, args.seeds):
        samples_dir = args.output_dir / "samples" / f"{arm.name}-seed-{seed}"
        if not result_path(args.output_dir, arm.name, seed).exists():
            logger.info("%s, seed %d", arm.name, seed)
            source = args.ablation.arms[arm.weights_of or arm.name]
            folder = args.output_dir / source.name / f"seed-{seed}"
            with torch.random.fork_rng(devices=[]):
                training = train_arm(script, source, seed, folder)
                results = judge_arm(arm, training, folder, samples_dir)
            results = {"arm": arm.name, "seed": seed, "training": arm.training} | results
            write_json(result_path(args.output_dir, arm.name, seed), results)
        fvd = fvd_path(args.output_dir, arm.name, seed)
        if args.fvd_clips > 0 and samples_dir.exists():
            known = json.loads(fvd.read_text()) if fvd.exists() else {}
            scores = score_fvd(samples_dir, args, known)
            if scores != known:
                write_json(fvd, scores)


if __name__ == "__main__":
    run_command_line(main, parse_args)
