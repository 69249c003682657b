# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Measure the demo as visitors see it: starts it, opens the page in headless Chromium on the same machine, a browser profile for each
visitor, presses Start, and counts in the page the frames that are painted.

    pip install -e ".[demo]" playwright
    python examples/demo/measure.py --visitors 2 --seconds 60 --output measured.json

Needs Linux and an installed Chromium (Debian: `apt-get install chromium`).
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil  # comes with accelerate

from videoar_pipelines.utils.command_line import (
    CommandLineParser,
    UsageError,
    positive_float,
    positive_int,
    run_command_line,
)


APP = Path(__file__).with_name("app.py")
PROMPTS = [
    "a red circle moves to the right on a white background",
    "a large blue star bounces up and down on a beige background",
]
# Counts pictures when they are painted: those that are loaded before a frame of the browser, the last one of them.
COUNT_PAINTED = """() => {
    const log = window.measured = {clicked: null, painted: []};
    document.querySelector("#start").addEventListener("click", event => { log.clicked = event.timeStamp; }, true);
    document.querySelector("#video img").addEventListener("load", () => requestAnimationFrame(now => {
        if (log.painted.at(-1) !== now) log.painted.push(now);
    }));
}"""


def parse_args(arguments=None):
    parser = CommandLineParser("Measure frames per second, latency and memory of the demo in a browser.")
    parser.add_argument("--seconds", type=positive_float, default=60)
    parser.add_argument("--visitors", type=positive_int, default=1)
    parser.add_argument("--chromium", help="Program; looked for in PATH without it.")
    parser.add_argument("--screenshot", type=Path, help="PNG of the page of the first visitor.")
    parser.add_argument("--output", type=Path, help="JSON file.")
    parser.add_argument("app", nargs="*", help="Arguments of app.py, after `--`.")
    return parser.parse_args(arguments)


class Server:
    """The demo in a process of its own."""

    def __init__(self, arguments: list[str]):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process = psutil.Popen(
            [sys.executable, str(APP), "--port", str(self.port), *arguments], stdout=subprocess.PIPE, text=True
        )
        self.url = self.process.stdout.readline().split(" ")[0]  # printed when it serves
        if not self.url:
            raise UsageError("The demo did not start, see above.")

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *exception_details) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait()


def processor_seconds(processes: list[psutil.Process]) -> float:
    """Of all threads of processes, since they began; what has ended meanwhile does not count."""
    seconds = 0.0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            seconds += times.user + times.system
    return seconds


@contextlib.contextmanager
def open_browser(program: str | None) -> Iterator[Any]:
    """A headless Chromium."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise UsageError(f"A browser is driven by playwright ({error}): pip install playwright") from error
    program = program or shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        raise UsageError("`--chromium`: no Chromium is in PATH. Install one (Debian: apt-get install chromium).")
    with sync_playwright() as playwright:
        # Chromium refuses its sandbox to root, and throttles pages that it takes for hidden.
        arguments = ["--no-sandbox", "--disable-backgrounding-occluded-windows", "--disable-renderer-backgrounding"]
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


def open_page(browser: Any, url: str) -> Any:
    """The page of a new visitor."""
    page = browser.new_context(viewport={"width": 1000, "height": 600}).new_page()
    page.goto(url)
    page.wait_for_selector("#video img", state="attached")
    page.evaluate(COUNT_PAINTED)
    return page


def describe_frames(log: dict[str, Any], seconds: float) -> dict[str, float]:
    """
    What one visitor saw.

    Args:
        log (`dict`): Milliseconds: `clicked`, and `painted`, one for each frame.
        seconds (`float`): After the first frame, that count.
    """
    first = log["painted"][0]
    painted = [time for time in log["painted"] if time - first <= 1000 * seconds]
    gaps = [later - earlier for earlier, later in zip(painted[:-1], painted[1:])]
    return {
        "first_frame_seconds": (first - log["clicked"]) / 1000,
        "frames_per_second": (len(painted) - 1) / seconds,
        "median_gap_milliseconds": statistics.median(gaps),
        "longest_gap_milliseconds": max(gaps),
    }


def main(args):
    with open_browser(args.chromium) as browser, Server(args.app) as server:
        # 1. Visitors come one after the other, and press Start
        memory = {"idle": server.process.memory_info().rss / 1e6}
        pages = []
        for index in range(args.visitors):
            pages.append(open_page(browser, server.url))
            pages[-1].fill("#prompt textarea", PROMPTS[index % len(PROMPTS)])
            pages[-1].click("#start")
            pages[-1].wait_for_function("window.measured.painted.length > 0")

        # 2. They watch
        load_before = os.getloadavg()[0]
        browsers = [process for process in psutil.Process().children(recursive=True) if process != server.process]
        start, before = time.monotonic(), {"server": processor_seconds([server.process])}
        before["browser"] = processor_seconds(browsers)
        while (elapsed := time.monotonic() - start) < args.seconds + 2:
            memory[f"{elapsed:.0f} s"] = server.process.memory_info().rss / 1e6
            time.sleep(min(10, args.seconds + 2 - elapsed))
        elapsed = time.monotonic() - start
        busy_cores = {
            "server": (processor_seconds([server.process]) - before["server"]) / elapsed,
            "browser": (processor_seconds(browsers) - before["browser"]) / elapsed,
        }
        visitors = [describe_frames(page.evaluate("window.measured"), args.seconds) for page in pages]
        if args.screenshot is not None:
            pages[0].screenshot(path=args.screenshot)

        # 3. They close their tabs
        for page in pages:
            page.context.close()
        time.sleep(3)
        start, before = time.monotonic(), processor_seconds([server.process])
        time.sleep(3)
        after_closing = {
            "server_memory_megabytes": server.process.memory_info().rss / 1e6,
            "server_busy_cores": (processor_seconds([server.process]) - before) / (time.monotonic() - start),
        }

    results = {
        "arguments": {"visitors": args.visitors, "seconds": args.seconds, "app": args.app},
        "cores": os.cpu_count(),
        "load_before_and_after": [load_before, os.getloadavg()[0]],
        "visitors": visitors,
        "busy_cores": busy_cores,
        "server_memory_megabytes": memory,
        "after_closing": after_closing,
    }
    text = json.dumps(results, indent=2)
    print(text)
    if args.output is not None:
        args.output.write_text(text + "\n")


if __name__ == "__main__":
    run_command_line(main, parse_args)
