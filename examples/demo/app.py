# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
A web page with an endless video in real time. Its prompt changes while it runs, an image can be its first frame, and it can be
downloaded.

    pip install -e ".[demo]"
    python examples/demo/app.py

Here is the page alone; the videos are in `live_video.py`, and what plays them in the browser in `player.js`.
"""

import base64
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from live_video import METHODS, LiveVideos, Settings

from videoar_pipelines import VideoARPipeline
from videoar_pipelines.utils.command_line import (
    CommandLineParser,
    loading,
    positive_float,
    positive_int,
    run_command_line,
)


CHECKPOINT = Path(__file__).resolve().parents[2] / "checkpoints" / "videoar-moving-shapes"

TITLE = "VideoAR: an endless video"
INTRODUCTION = f"""
# {TITLE}
Made while you watch, frame by frame, by next-frame and next-scale prediction. The model knows one moving shape: its shape, colour and size, the
background and the motion. Change the prompt while it runs.
"""
PROMPTS = [
    "a red circle moves to the right on a white background",
    "a large blue star bounces up and down on a beige background",
    "a small green triangle moves down and to the left on a gray background",
    "a yellow cross stays still on a black background",
]
VIDEO = '<figure><img alt="The video"><figcaption></figcaption></figure>'
VIDEO_STYLE = """
figure { margin: 0; text-align: center; }
img { width: 100%; max-width: 512px; aspect-ratio: 1; background: #eee; }
img:not([src]) { visibility: hidden; }
figcaption { min-height: 1.5em; color: #666; font-variant-numeric: tabular-nums; }
"""


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


class ImageFile(gr.Image):
    """An image that the visitor gives, as the path of its file. It is read where an error can be explained."""

    def preprocess(self, payload: Any) -> str | None:
        return None if payload is None else payload.path

    def get_block_name(self) -> str:
        return "image"


@contextlib.contextmanager
def shown_in_page() -> Iterator[None]:
    """What cannot work is told to the visitor."""
    try:
        yield
    except ValueError as error:
        raise gr.Error(str(error), print_exception=False) from error


def make_page(videos: LiveVideos) -> gr.Blocks:
    """The page, not yet served. A visitor is an open tab."""
    fps = videos.settings.fps

    # 1. What the buttons do
    def start(prompt: str, image_path: str | None, request: gr.Request) -> Iterator[dict[str, Any] | None]:
        with shown_in_page():
            video = videos.start(request.session_hash, prompt, image_path)
        for files in video.frames():
            frames = [f"data:image/jpeg;base64,{base64.b64encode(file).decode()}" for file in files]
            yield {"first": video.num_frames - len(frames), "fps": fps, "frames": frames}
        yield None

    def change_prompt(prompt: str, request: gr.Request) -> None:
        with shown_in_page():
            videos.of(request.session_hash).change_prompt(prompt)

    def stop(request: gr.Request) -> None:
        with shown_in_page():
            videos.of(request.session_hash).stop()

    def save(request: gr.Request) -> str:
        # In the folder of which gradio clears old files.
        Path(download.GRADIO_CACHE).mkdir(parents=True, exist_ok=True)
        path = Path(tempfile.mkdtemp(dir=download.GRADIO_CACHE)) / "videoar.mp4"
        with shown_in_page():
            videos.of(request.session_hash).save(path)
        return str(path)

    def leave(request: gr.Request) -> None:
        videos.forget(request.session_hash)

    # 2. What it looks like
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.Markdown(INTRODUCTION)
        with gr.Row():
            with gr.Column():
                prompt = gr.Textbox(PROMPTS[0], label="Prompt", max_length=500, elem_id="prompt")
                with gr.Row():
                    start_button = gr.Button("Start", variant="primary", elem_id="start")
                    change_button = gr.Button("Change prompt", elem_id="change")
                    stop_button = gr.Button("Stop", elem_id="stop")
                save_button = gr.Button("Download mp4", elem_id="save")
                image = ImageFile(label="First frame (optional)", sources=["upload", "clipboard"], height=200)
                gr.Examples([[text] for text in PROMPTS], prompt, label="Prompts", cache_examples=False)
            with gr.Column():
                video = gr.HTML(
                    html_template=VIDEO,
                    css_template=VIDEO_STYLE,
                    js_on_load=Path(__file__).with_name("player.js").read_text(),
                    elem_id="video",
                )
        download = gr.DownloadButton(visible="hidden", elem_id="download")

        # 3. What happens when. Every video has a thread of its own; `LiveVideos` says how many there may be.
        gr.on(
            [start_button.click],
            start,
            [prompt, image],
            video,
            api_name="start",
            concurrency_limit=None,
            trigger_mode="multiple",
            show_progress="hidden",
        )
        gr.on([change_button.click, prompt.submit], change_prompt, prompt, api_name="change_prompt", queue=False)
        stop_button.click(stop, api_name="stop", queue=False)
        saved = save_button.click(save, outputs=download, api_name="save")
        saved.success(js="() => document.querySelector('#download').click()")
        page.unload(leave)
    return page


def main():
    args = parse_args()
    torch.set_num_threads(1)  # one core for every video
    with loading("--checkpoint", args.checkpoint):
        pipeline = VideoARPipeline.from_pretrained(args.checkpoint)
    pipeline.to("cuda" if torch.cuda.is_available() else "cpu")

    settings = Settings(
        method=args.method, fps=args.fps, longest_seconds=60 * args.minutes, most_videos=args.visitors
    )
    videos = LiveVideos(pipeline, settings)
    pipeline(PROMPTS[0], num_frames=9)  # the first call of a process is slow

    # Fonts of the machine: nothing is loaded from elsewhere.
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    make_page(videos).launch(
        server_name=args.host,
        server_port=args.port,
        theme=theme,
        footer_links=[],
        run_history=False,
        show_error=True,
    )


if __name__ == "__main__":
    run_command_line(main)
