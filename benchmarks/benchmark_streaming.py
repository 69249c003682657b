# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Time and memory of every latent frame of a long video, with and without a sliding window, with random weights.

    python benchmarks/benchmark_streaming.py --config tiny --device cpu --num_frames 1000 --plot streaming.svg

Sampling and decoding are timed together, as in `pipe.stream`. Two tables:

- Along each video, at some latent frames: `ms`, the median of the frames around it, `cache MB`, the keys and values, and
  `process MB`, on CUDA what tensors take, on a CPU the resident memory of the process.
- The last frames of the video with a window against frame 20 of a second one, taken in turns, so that whatever else the machine
  does falls on both: the ratio of the medians, and of the memory.
"""

import statistics
from pathlib import Path

import torch
from measuring import (
    CLOCKS,
    CONFIGS,
    DTYPES,
    TOKENIZERS,
    describe_machine,
    make_parser,
    make_pipeline,
    print_table,
    random_text,
    refuse_graphs_without_cuda,
    set_up_torch,
    synchronize,
    write_json,
)

from videoar_pipelines import VideoARPipeline
from videoar_pipelines.pipelines.frame_sampler import FrameSampler
from videoar_pipelines.utils.command_line import run_command_line


EARLY_FRAME = 20


def parse_args(arguments=None):
    parser = make_parser(__doc__)
    parser.add_argument("--config", choices=CONFIGS, default="tiny")
    parser.add_argument("--tokenizer", choices=TOKENIZERS, default="tiny", help="Whose decoder is timed.")
    parser.add_argument("--num_frames", type=int, default=1000, help="Latent frames with a window.")
    parser.add_argument(
        "--num_frames_without_window", type=int, default=100, help="Their cost grows with their number."
    )
    parser.add_argument("--window", type=int, default=4, help="Latent frames.")
    parser.add_argument("--height", type=int, default=128)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--text_length", type=int, default=16)
    parser.add_argument("--turns", type=int, default=100, help="Pairs of frames for the comparison.")
    parser.add_argument("--cuda_graphs", action="store_true", help="Replay every step as a CUDA graph.")
    parser.add_argument("--plot", type=Path, help="SVG file.")
    args = parser.parse_args(arguments)
    refuse_graphs_without_cuda(args)
    return args


class TimedVideo:
    """
    A video in the making that records the duration of every latent frame, and the memory after it.

    Args:
        pipeline ([`VideoARPipeline`]): Without a text encoder.
        num_latent_frames (`int`, *optional*): As many as the cache has room for; `None` needs a window.
        window (`int`, *optional*): Latent frames.
        args: Of the command line.
    """

    def __init__(self, pipeline: VideoARPipeline, num_latent_frames: int | None, window: int | None, args):
        self.pipeline = pipeline
        self.device = args.device
        self.clock = CLOCKS[args.clock]
        scale_factor = pipeline.vae_scale_factor_spatial
        self.sampler = FrameSampler(
            pipeline.transformer,
            pipeline.scheduler,
            pipeline.vae,
            random_text(pipeline.transformer, 1, args.text_length),
            pipeline.scheduler.sampling_options(5.0),
            pipeline.scheduler.get_scale_schedule(args.height // scale_factor, args.width // scale_factor),
            num_frames=num_latent_frames,
            window=window,
            runner=pipeline._runner,
        )
        self.decoder_state = None
        self.seconds: list[float] = []
        self.memory: list[int] = []

    def next_frame(self) -> float:
        """Seconds of sampling and decoding the next latent frame."""
        synchronize(self.device)
        start = self.clock()
        latents = self.sampler.sample_frame()[:, :, None]
        _, self.decoder_state = self.pipeline._runner.decode_chunk(self.pipeline.vae, latents, self.decoder_state)
        synchronize(self.device)
        self.seconds.append(self.clock() - start)
        self.memory.append(memory_bytes(self.device))
        return self.seconds[-1]

    @property
    def cache_bytes(self) -> int:
        return self.sampler.kv_cache.keys.nbytes + self.sampler.kv_cache.values.nbytes

    def row(self, name: str, frame: int) -> dict:
        """One line of the table: around latent frame `frame`, counted from 1."""
        around = self.seconds[max(0, frame - 10) : frame + 10]
        return {
            "video": name,
            "latent frame": frame,
            "ms": 1000 * statistics.median(around),
            "cache MB": self.cache_bytes / 1e6,
            "process MB": self.memory[frame - 1] / 1e6,
        }


def memory_bytes(device: str) -> int:
    """On CUDA, what tensors take now; on a CPU (Linux), the resident memory of the process."""
    if torch.device(device).type == "cuda":
        return torch.cuda.memory_allocated()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def marks(num_frames: int) -> list[int]:
    """Latent frames that get a line in the table."""
    return [frame for frame in (5, EARLY_FRAME, 50, 100, 200, 500, 1000) if frame < num_frames] + [num_frames]


def draw_plot(path: Path, curves: dict[str, list[float]]) -> None:
    """Milliseconds over latent frames, medians of 10, as an SVG."""
    smooth = {
        name: [1000 * statistics.median(values[i : i + 10]) for i in range(0, len(values), 10)]
        for name, values in curves.items()
    }
    width, height, margin = 640, 320, 50
    largest = max(max(values) for values in smooth.values())
    longest = max(len(values) for values in curves.values())
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<path d="M{margin} 20V{height - margin}H{width - 20}" fill="none" stroke="black"/>',
        f'<text x="{width / 2}" y="{height - 12}" text-anchor="middle">latent frame</text>',
        f'<text x="{margin - 6}" y="24" text-anchor="end">{largest:.0f} ms</text>',
        f'<text x="{margin - 6}" y="{height - margin}" text-anchor="end">0</text>',
        f'<text x="{width - 20}" y="{height - margin + 16}" text-anchor="end">{longest}</text>',
    ]
    for index, (name, values) in enumerate(smooth.items()):
        color = ("#0072b2", "#d55e00")[index % 2]
        points = " ".join(
            f"{margin + (i * 10 + 5) / longest * (width - margin - 20):.1f},"
            f"{height - margin - value / largest * (height - margin - 20):.1f}"
            for i, value in enumerate(values)
        )
        lines.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>')
        lines.append(f'<text x="{width - 30}" y="{40 + 18 * index}" text-anchor="end" fill="{color}">{name}</text>')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*lines, "</svg>"]) + "\n")


@torch.no_grad()
def main(args):
    # 1. The model
    set_up_torch(args)
    pipeline = make_pipeline(args.config, args.tokenizer, args.device, DTYPES[args.dtype])
    pipeline.transformer.fuse_qkv_projections()
    if args.cuda_graphs:
        pipeline.enable_cuda_graphs()

    # 2. A video with and one without a window
    rows, curves = [], {}
    for window, num_frames in ((None, args.num_frames_without_window), (args.window, args.num_frames)):
        name = "no window" if window is None else f"window of {window}"
        video = TimedVideo(pipeline, num_frames if window is None else None, window, args)
        for _ in range(num_frames):
            video.next_frame()
        rows += [video.row(name, frame) for frame in marks(num_frames)]
        curves[name] = list(video.seconds)

    # 3. The end of the video with a window, and frame 20 of another one, in turns
    late, late_memory = [], video.memory[-1]
    early_memory = video.memory[min(EARLY_FRAME, args.num_frames) - 1]
    early = []
    while len(early) < args.turns:
        fresh = TimedVideo(pipeline, None, args.window, args)
        for _ in range(EARLY_FRAME - 5):
            fresh.next_frame()
        for _ in range(10):
            early.append(fresh.next_frame())
            late.append(video.next_frame())
    comparison = {
        "late frame": args.num_frames,
        "early frame": EARLY_FRAME,
        "late ms": 1000 * statistics.median(late),
        "early ms": 1000 * statistics.median(early),
        "time ratio": statistics.median(late) / statistics.median(early),
        "memory ratio": late_memory / early_memory,
    }

    # 4. Output
    machine = describe_machine(args)
    print(machine)
    print_table(rows)
    print_table([comparison])
    if args.plot is not None:
        draw_plot(args.plot, curves)
    arguments = {name: str(value) for name, value in vars(args).items() if name != "output"}
    results = {"machine": machine, "arguments": arguments, "rows": rows, "comparison": comparison}
    write_json(args.output, results)


if __name__ == "__main__":
    run_command_line(main, parse_args)
