# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Many videos into one folder, by any number of processes, and after any number of restarts.

A video depends on its prompt, its own seed and the options alone. Which videos share a batch is fixed by the list; processes take
whole batches, so the files of one process and of many are the same to the bit. Finished files are skipped. No process talks to
another one: what is done shows in the folder, and each learns its number from the variables that `accelerate launch` and `torchrun` set.

    folder/samples.jsonl    one line for each video: its file, prompt, seed, and all that is needed to sample it again
    folder/videos/          the videos, and nothing else
    folder/real/            where real clips are continued and kept: the whole real clips, under the same names
    folder/.unfinished/     what is being written; removed at the end

Letters used in shapes: `B` videos of a batch, `F` pixel frames, `(H, W)` pixels.
"""

import argparse
import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from ..utils.command_line import loading
from ..utils.files import complete_or_absent, read_json_lines
from ..utils.provenance import code_version, fingerprint_of_pipeline
from ..utils.video_io import Frames, VideoWriter, frames_to_uint8
from .pipeline_videoar import VideoARPipeline
from .pipeline_videoar_video2video import VideoARVideoToVideoPipeline


FORMATS = ("npy", "mp4")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
RECORDS_NAME = "samples.jsonl"


# 1. What is sampled


@dataclass(frozen=True)
class Sample:
    """
    A video to sample.

    Args:
        name (`str`): Of its file, without the suffix.
        prompt (`str`): What the model is asked for.
        facts (`dict`): What else the records say about it.
    """

    name: str
    prompt: str
    facts: dict[str, Any] = field(default_factory=dict)


def seed_of(run_seed: int, name: str) -> int:
    """
    The seed of one video, a hash of the seed of the run and the video's name: runs whose seeds are near to each other have nothing
    in common, and a video is the same whatever else the list holds.
    """
    digest = hashlib.sha256(f"{run_seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:6], "little")  # exact in JSON, where a number may be read as a float


@dataclass(frozen=True)
class ProcessShare:
    """
    Which part of the work a process does.

    Args:
        index (`int`, defaults to 0): Of the process, among all.
        count (`int`, defaults to 1): Processes in all.
        local_index (`int`, defaults to 0): Of the process, among those on its machine.
    """

    index: int = 0
    count: int = 1
    local_index: int = 0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "ProcessShare":
        """The share of a process that `accelerate launch` or `torchrun` started, else all of the work."""
        environment = os.environ if environment is None else environment
        return cls(*(int(environment.get(*item)) for item in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))))

    def of(self, batches: Sequence) -> Sequence:
        """The batches that this process samples."""
        return batches[self.index :: self.count]

    def device(self) -> torch.device:
        """
        A device of this process alone; the CPU where there is no other.

        Raises:
            `ValueError`: The machine has fewer devices than processes.
        """
        if not torch.accelerator.is_available():
            return torch.device("cpu")
        num_devices = torch.accelerator.device_count()
        if self.local_index >= num_devices:
            raise ValueError(
                f"`LOCAL_RANK` is {self.local_index}, but this machine has {num_devices} device(s): start one process for each."
            )
        return torch.device(torch.accelerator.current_accelerator().type, self.local_index)


# 2. Where it is written


class SampleFolder:
    """
    The folder of a run.

    Args:
        folder (`Path`): Created if needed.
        samples (`Sequence[Sample]`): All videos of the run, whoever samples them.
        settings (`dict`): What all of them have in common, as JSON can hold it.
        run_seed (`int`): See [`seed_of`].
        video_format (`str`): `"npy"`, `uint8` `(F, H, W, 3)` without loss; or `"mp4"`.
        fps (`float`): Of `.mp4` files.

    Attributes:
        seeds (`dict[str, int]`): Of every video, by its name.

    Raises:
        `ValueError`: Two videos would have one name on this file system; or the folder holds videos of other prompts or
            settings.
    """

    def __init__(
        self,
        folder: Path,
        samples: Sequence[Sample],
        settings: dict[str, Any],
        run_seed: int,
        video_format: str,
        fps: float,
    ):
        self.folder = folder
        self.suffix = f".{video_format}"
        self.fps = fps
        self.names = {sample.name for sample in samples}
        self.seeds = {sample.name: seed_of(run_seed, sample.name) for sample in samples}
        self._unfinished = folder / ".unfinished"
        (folder / "videos").mkdir(parents=True, exist_ok=True)
        self._check_names(samples)
        self._write_records([self._record(sample, settings) for sample in samples])

    def _check_names(self, samples: Sequence[Sample]) -> None:
        if len(self.names) < len(samples):
            raise ValueError(f"`samples` has {len(samples)} entries, but only {len(self.names)} names.")
        known = {}
        for name in sorted(self.names):
            other = known.setdefault(name.casefold(), name)
            if other != name and self._ignores_case():
                raise ValueError(
                    f"The file system of {str(self.folder)!r} does not tell capital from small letters, and {other!r} and {name!r} "
                    "would be one file. Pass a folder on another file system."
                )

    def _ignores_case(self) -> bool:
        probe = self.folder / f"CASE-{socket.gethostname()}-{os.getpid()}"
        probe.touch()
        try:
            return probe.with_name(probe.name.replace("CASE", "case")).exists()
        finally:
            probe.unlink()

    def _record(self, sample: Sample, settings: dict[str, Any]) -> dict[str, Any]:
        record = {
            "file": f"videos/{sample.name}{self.suffix}",
            "prompt": sample.prompt,
            "seed": self.seeds[sample.name],
        }
        return record | sample.facts | settings

    def _write_records(self, records: list[dict[str, Any]]) -> None:
        """Writes the records, or continues those that are there, with which they must agree once there are videos."""
        path = self.folder / RECORDS_NAME
        records = json.loads(json.dumps(records))  # tuples become lists, as in the file
        present = []
        if path.exists() and any((self.folder / "videos").iterdir()):
            present = read_json_lines(path)
        for number, (old, new) in enumerate(zip(present, records), start=1):
            differing = [key for key in {**old, **new} if old.get(key) != new.get(key)]
            if differing:
                key = differing[0]
                raise ValueError(
                    f"{str(path)!r} was begun with other settings: line {number} has {key} = {old.get(key)!r}, this run "
                    f"{new.get(key)!r}. Pass a new folder, or what the folder was begun with."
                )
        if len(records) > len(present):
            with complete_or_absent(path) as temporary_path:
                lines = (json.dumps(record, ensure_ascii=False) for record in records)
                temporary_path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def finished(self) -> set[str]:
        """Names of the videos that are there."""
        present = (Path(name) for name in os.listdir(self.folder / "videos"))
        return {path.stem for path in present if path.suffix == self.suffix} & self.names

    def save(self, sample: Sample, frames: Frames, real_frames: np.ndarray | None = None) -> None:
        """
        Writes one video, and the real clip that it continues.

        Args:
            sample ([`Sample`]): Which.
            frames: `(F, H, W, 3)` floats in [0, 1] or `uint8`.
            real_frames (`np.ndarray` of shape `(F, H, W, 3)`, *optional*): Levels, `uint8`.
        """
        if real_frames is not None:
            self._write(real_frames, self.folder / "real" / f"{sample.name}{self.suffix}", sample.prompt)
        # The video comes last: where it is, all is.
        self._write(frames, self.folder / "videos" / f"{sample.name}{self.suffix}", sample.prompt)

    def _write(self, frames: Frames, path: Path, title: str) -> None:
        # A name of its own: that of the video may be as long as file names can be.
        self._unfinished.mkdir(exist_ok=True)
        temporary_path = self._unfinished / f"{socket.gethostname()}-{os.getpid()}{self.suffix}"
        if self.suffix == ".npy":
            np.save(temporary_path, frames_to_uint8(frames))
        else:
            with VideoWriter(temporary_path, self.fps, reproducible=True, title=title) as writer:
                writer.write(frames)
        path.parent.mkdir(exist_ok=True)
        temporary_path.replace(path)

    def close(self) -> None:
        """Removes what killed processes left; for the time when all videos are there."""
        shutil.rmtree(self._unfinished, ignore_errors=True)


# 3. Sampling


class VideoProgress(tqdm):
    """A progress bar whose rate is in videos per minute, of all processes together."""

    def __init__(self, total: int, done: int, **kwargs):
        bar_format = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {videos_per_minute:.1f} videos/min]"
        super().__init__(total=total, initial=done, bar_format=bar_format, smoothing=0, **kwargs)

    @property
    def videos_per_minute(self) -> float:
        elapsed = super().format_dict["elapsed"]
        return 60 * (self.n - self.initial) / elapsed if elapsed > 0 else 0.0

    @property
    def format_dict(self) -> dict[str, Any]:
        return super().format_dict | {"videos_per_minute": self.videos_per_minute}

    def show(self, done: int) -> None:
        """Videos that are there now, whoever made them."""
        self.update(done - self.n)


def sample_many(
    pipe: VideoARPipeline,
    samples: Sequence[Sample],
    folder: SampleFolder,
    options: dict[str, Any],
    batch_size: int,
    share: ProcessShare,
    read_clip: Callable[[Sample], np.ndarray] | None = None,
    num_given_frames: int = 0,
    keep_real_clips: bool = False,
) -> None:
    """
    Samples the videos of a process that are not there yet. The first process shows the progress of all, and stays until all videos
    are there.

    Args:
        pipe ([`VideoARPipeline`]): On the device of the process.
        samples (`Sequence[Sample]`): All videos of the run, in the same order in every process.
        folder ([`SampleFolder`]): Of these.
        options (`dict`): Arguments of `pipe(...)`.
        batch_size (`int`): Videos `B` to sample at once.
        share ([`ProcessShare`]): Of this process.
        read_clip (`Callable`, *optional*): Gives the real clip of a sample, levels `(F, H, W, 3)`, to continue its first frames.
        num_given_frames (`int`, defaults to 0): How many of them, `4 * n + 1`.
        keep_real_clips (`bool`, defaults to `False`): Whether to write real clips beside the videos.
    """
    if read_clip is not None:
        pipe = VideoARVideoToVideoPipeline.from_pipe(pipe)
    pipe.set_progress_bar_config(disable=True)
    batches = [samples[start : start + batch_size] for start in range(0, len(samples), batch_size)]
    finished = folder.finished()
    is_first = share.index == 0
    with VideoProgress(len(samples), len(finished), desc="videos", disable=not is_first) as progress:
        for batch in share.of(batches):
            missing = [sample.name for sample in batch if sample.name not in finished]
            if not missing:
                continue
            # The whole batch, even for one of its videos: what a video shares its batch with can move its last bits.
            generators = [torch.Generator().manual_seed(folder.seeds[sample.name]) for sample in batch]
            clips = [read_clip(sample) if read_clip is not None else None for sample in batch]
            given = [] if read_clip is None else [[clip[:num_given_frames] / np.float32(255) for clip in clips]]
            prompts = [sample.prompt for sample in batch]
            videos = pipe(*given, prompt=prompts, generator=generators, output_type="np", **options).frames
            for sample, video, clip in zip(batch, videos, clips):
                if sample.name in missing:
                    folder.save(sample, video, clip if keep_real_clips else None)
            if is_first:
                progress.show(len(folder.finished()))
        while is_first and progress.n < len(samples):
            time.sleep(0.2)
            progress.show(len(folder.finished()))
    if is_first:
        folder.close()
        print(f"{len(samples)} videos in {folder.folder / 'videos'}")


# 4. Flags that scripts share


def add_sampling_arguments(parser: argparse.ArgumentParser, video_format: str, batch_size: int = 8) -> None:
    """
    Adds the flags of [`start_sampling`].

    Args:
        parser (`argparse.ArgumentParser`): Changed in place.
        video_format (`str`): The default of `--format`.
        batch_size (`int`, defaults to 8): The default of `--batch_size`.
    """
    parser.add_argument("--checkpoint", required=True, help="Folder of a saved pipeline, or its id on the Hub.")
    parser.add_argument("--output_dir", type=Path, required=True, help="Shared by all processes and hosts.")
    parser.add_argument(
        "--seed", type=int, default=0, help="Every video has its own seed, from this one and its name."
    )
    parser.add_argument("--num_frames", type=int, help="Pixel frames, 4n+1. Default: the checkpoint's.")
    parser.add_argument("--height", type=int, help="Pixels, a multiple of 16. Default: the checkpoint's.")
    parser.add_argument("--width", type=int, help="Pixels, a multiple of 16. Default: the checkpoint's.")
    parser.add_argument("--guidance_scale", type=float, help="Instead of the checkpoint's.")
    parser.add_argument(
        "--temperature", type=float, nargs="+", help="Instead of the checkpoint's; one, or one a scale."
    )
    parser.add_argument("--top_p", type=float, help="Instead of the checkpoint's.")
    parser.add_argument("--refinements", type=int, nargs="*", help="Instead of the checkpoint's; no number: none.")
    parser.add_argument("--negative_prompt", help="What guidance steers away from.")
    parser.add_argument("--batch_size", type=int, default=batch_size, help="Videos to sample at once in each process.")
    parser.add_argument("--fps", type=float, default=8, help="Frames per second of .mp4 files.")
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default=video_format,
        help=f"npy: uint8 (frames, height, width, 3), lossless; mp4: H.264. Default: {video_format}.",
    )
    parser.add_argument("--dtype", choices=["auto", *DTYPES], default="auto", help="auto: bfloat16, on a CPU float32.")


def start_sampling(args: argparse.Namespace, share: ProcessShare) -> tuple[VideoARPipeline, dict[str, Any], dict]:
    """
    Loads the pipeline that the flags of [`add_sampling_arguments`] name.

    Args:
        args (`argparse.Namespace`): With these flags.
        share ([`ProcessShare`]): Of this process.

    Returns:
        `tuple[VideoARPipeline, dict, dict]`: The pipeline; the options to call it with; and the settings to record, with the values that
        take effect where the checkpoint's are used.

    Raises:
        `ValueError`: `--batch_size` is not positive, or there are fewer devices than processes.
    """
    if args.batch_size < 1:
        raise ValueError(f"`--batch_size` must be at least 1, but is {args.batch_size}.")
    device = share.device()
    dtype = DTYPES.get(args.dtype, torch.float32 if device.type == "cpu" else torch.bfloat16)
    with loading("--checkpoint", args.checkpoint):
        pipe = VideoARPipeline.from_pretrained(args.checkpoint, dtype=dtype)
    pipe.to(device)

    config, scheduler_config = pipe.transformer.config, pipe.scheduler.config
    temperature = args.temperature[0] if args.temperature and len(args.temperature) == 1 else args.temperature
    defaults = {
        "num_frames": 1 + (config.sample_frames - 1) * pipe.vae_scale_factor_temporal,
        "height": config.sample_height * pipe.vae_scale_factor_spatial,
        "width": config.sample_width * pipe.vae_scale_factor_spatial,
    }
    options = {name: value if getattr(args, name) is None else getattr(args, name) for name, value in defaults.items()}
    options |= {
        "guidance_scale": args.guidance_scale,
        "temperature": temperature,
        "top_p": args.top_p,
        "refinements": args.refinements,
        "negative_prompt": args.negative_prompt,
    }
    settings = options | {
        name: scheduler_config[name]
        for name in ("guidance_scale", "temperature", "top_p", "refinements")
        if options[name] is None
    }
    settings |= {
        "guidance_schedule": scheduler_config["guidance_schedule"],
        "fps": args.fps,
        "dtype": str(dtype).removeprefix("torch."),
        "run_seed": args.seed,
        "checkpoint": str(args.checkpoint),
        "checkpoint_sha256": fingerprint_of_pipeline(pipe),
        "commit": code_version(),
    }
    return pipe, options, settings
