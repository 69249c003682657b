# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
Serve a web page with an endless video in real time. Its prompt changes while it runs, an image can be its first frame, and it can be
downloaded.

    pip install -e ".[demo]"
    python examples/demo/app.py
"""

from pathlib import Path

import torch
from live_video import METHODS, LiveVideos, Settings

from videoar_pipelines import VideoARPipeline
from videoar_pipelines.utils.command_line import (
    CommandLineParser,
    UsageError,
    loading,
    positive_float,
    positive_int,
    run_command_line,
)


CHECKPOINT = Path(__file__).resolve().parents[2] / "checkpoints" / "videoar-moving-shapes"


def parse_args():
    parser = CommandLineParser("Serve a web page with an endless video in real time.")
    parser.add_argument("--checkpoint", default=CHECKPOINT, help="Folder of a saved pipeline, or its id on the Hub.")
    parser.add_argument("--host", default="127.0.0.1", help="Pass 0.0.0.0 to be seen from other machines.")
    parser.add_argument("--port", type=positive_int, default=7860)
    parser.add_argument("--visitors", type=positive_int, default=2, help="Videos at the same time, a core for each.")
    parser.add_argument("--fps", type=positive_float, default=Settings.fps, help="Frames a second that are shown.")
    parser.add_argument("--method", choices=METHODS, default=Settings.method, help="See inference/long_video.py.")
    parser.add_argument("--minutes", type=positive_float, default=10, help="After which a video ends by itself.")
    return parser.parse_args()


def main():
    args = parse_args()
    try:
        from page import serve_page
    except ImportError as error:
        raise UsageError(f'The page needs gradio ({error}): pip install -e ".[demo]"') from error
    with loading("--checkpoint", args.checkpoint):
        pipeline = VideoARPipeline.from_pretrained(args.checkpoint)
    pipeline.to("cuda" if torch.cuda.is_available() else "cpu")
    pipeline.set_progress_bar_config(disable=True)
    pipeline("a red circle", num_frames=9)  # the first call of a process is slow

    settings = Settings(method=args.method, fps=args.fps, longest_seconds=60 * args.minutes, most_videos=args.visitors)
    try:
        page = serve_page(LiveVideos(pipeline, settings), args.host, args.port)
    except OSError as error:
        raise UsageError(f"`--host` {args.host!r}, `--port` {args.port}: {error} Pass others.") from error
    print(f"{page.local_url} (Ctrl-C ends it)", flush=True)
    page.block_thread()


if __name__ == "__main__":
    run_command_line(main)
