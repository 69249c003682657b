# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Does a call keep its time on a CPU that has other things to do?

Each row is a process of its own, which loads the checkpoint and calls it, while so many others count as fast as they can. Wall clock;
for the calm rows nothing else may run. Where that cannot be had, start it with a priority, which the counting processes inherit:
`nice -n -15 python benchmarks/benchmark_contention.py`.

    python benchmarks/benchmark_contention.py

Columns: `way`: how the process was started, see `--ways`. `busy`: other processes. `threads`: that PyTorch used. `median s`, `worst s`:
of the calls. `x calm`: the worst over the median of the same way with no other process.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from measuring import print_table, write_json

from videoar_pipelines import VideoARPipeline
from videoar_pipelines.utils.command_line import (
    CommandLineParser,
    loading,
    non_negative_int,
    positive_int,
    run_command_line,
)


CHECKPOINT = Path(__file__).resolve().parents[1] / "checkpoints" / "videoar-moving-shapes"
# As a program that uses the library: nothing between PyTorch and the user.
AS_A_PROGRAM = ["-c", "import benchmark_contention; benchmark_contention.main(benchmark_contention.parse_args())"]
AS_A_SCRIPT = [__file__]
# How to start Python, and with which environment.
WAYS = {
    "script": (AS_A_SCRIPT, {}),
    "library": (AS_A_PROGRAM, {}),
    "library, 1 thread": (AS_A_PROGRAM, {"OMP_NUM_THREADS": "1"}),
    "library, passive": (AS_A_PROGRAM, {"OMP_WAIT_POLICY": "PASSIVE"}),
    "library, short spins": (AS_A_PROGRAM, {"GOMP_SPINCOUNT": "10000"}),
}


def parse_args(arguments=None):
    parser = CommandLineParser(__doc__)
    parser.add_argument("--checkpoint", default=str(CHECKPOINT), help="Folder of a saved pipeline.")
    parser.add_argument("--num_frames", type=positive_int, default=17, help="Pixel frames of a video, 4n+1.")
    parser.add_argument(
        "--ways",
        nargs="+",
        choices=WAYS,
        default=list(WAYS),
        help="'script': as the scripts of this repository. 'library': as a program that imports the package, with the environment "
        "as it is, or with OMP_NUM_THREADS=1, OMP_WAIT_POLICY=PASSIVE or GOMP_SPINCOUNT=10000.",
    )
    parser.add_argument(
        "--busy",
        nargs="+",
        type=non_negative_int,
        default=[0, 1, os.cpu_count()],
        help="Numbers of other processes. Default: none, one, one a processor.",
    )
    parser.add_argument("--repeats", type=positive_int, default=20, help="Timed calls of a process.")
    parser.add_argument("--warm_ups", type=non_negative_int, default=2, help="Calls before these.")
    parser.add_argument("--output", type=Path, help="JSON file for the results.")
    parser.add_argument("--only_time_calls", action="store_true", help="In this process; prints seconds as JSON.")
    return parser.parse_args(arguments)


def time_calls(args) -> dict:
    """The wall time of calls in this process."""
    with loading("--checkpoint", args.checkpoint):
        pipe = VideoARPipeline.from_pretrained(args.checkpoint)
    pipe.set_progress_bar_config(disable=True)
    seconds = []
    for index in range(args.warm_ups + args.repeats):
        start = time.perf_counter()
        pipe(
            "a red circle moves to the right",
            num_frames=args.num_frames,
            generator=torch.Generator().manual_seed(index),
        )
        seconds.append(time.perf_counter() - start)
    return {"threads": torch.get_num_threads(), "seconds": seconds[args.warm_ups :]}


@contextlib.contextmanager
def busy_processes(number: int) -> Iterator[None]:
    """Processes that only count, until the context is left."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def run_way(way: str, args) -> dict:
    """[`time_calls`] in a process that is started in this way."""
    command, settings = WAYS[way]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment |= {"PYTHONPATH": os.pathsep.join(paths)} | settings
    flags = ["--checkpoint", args.checkpoint, "--num_frames", args.num_frames, "--repeats", args.repeats]
    flags += ["--warm_ups", args.warm_ups, "--only_time_calls"]
    process = subprocess.run(
        [sys.executable, *command, *map(str, flags)], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(process.stdout)


def main(args):
    if args.only_time_calls:
        print(json.dumps(time_calls(args)))
        return
    results = {
        "machine": {
            "processors": os.cpu_count(),
            "niceness": os.nice(0),
            "load before": os.getloadavg()[0],
            "capability": torch.backends.cpu.get_cpu_capability(),
            "torch": torch.__version__,
        },
        "settings": {"num_frames": args.num_frames, "repeats": args.repeats, "warm_ups": args.warm_ups},
        "rows": [],
    }
    calm_medians = {}
    for num_busy in sorted(args.busy):
        for way in args.ways:
            with busy_processes(num_busy):
                result = run_way(way, args)
            median, worst = statistics.median(result["seconds"]), max(result["seconds"])
            if num_busy == 0:
                calm_medians[way] = median
            results["rows"].append(
                {
                    "way": way,
                    "busy": num_busy,
                    "threads": result["threads"],
                    "median s": median,
                    "worst s": worst,
                    "x calm": worst / calm_medians[way] if way in calm_medians else None,
                }
            )
            write_json(args.output, results)  # what was measured stays, whatever ends the rest
    print_table(results["rows"])


if __name__ == "__main__":
    run_command_line(main, parse_args)
