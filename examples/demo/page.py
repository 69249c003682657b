# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
The web page of the demo, in gradio: what a visitor sees, and what his buttons do. The videos are in `live_video.py`, and what plays them
in the browser in `player.js`.
"""

import base64
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from live_video import LiveVideos


TITLE = "VideoAR: an endless video"
INTRODUCTION = f"""
# {TITLE}
Made while you watch, frame by frame, by next-frame and next-scale prediction. The model knows one moving shape: its form, colour and
size, the background and the motion. Change the prompt while it runs.
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
img { width: 100%; max-width: 384px; aspect-ratio: auto 1; background: #eee; }
img:not([src]) { visibility: hidden; }
figcaption { min-height: 1.5em; color: #666; font-variant-numeric: tabular-nums; }
"""


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
    def start(prompt: str, image_path: str | None, request: gr.Request) -> Iterator[dict[str, Any]]:
        with shown_in_page():
            video = videos.start(request.session_hash, prompt, image_path)
        for files in video.frames():
            frames = [f"data:image/jpeg;base64,{base64.b64encode(file).decode()}" for file in files]
            yield {"first": video.num_frames - len(frames), "fps": fps, "frames": frames}
        yield {"first": 0, "fps": fps, "frames": []}
        if not video.is_stopped:
            minutes = videos.settings.longest_seconds / 60
            gr.Info(f"The video has ended after {minutes:g} minutes. Press Start for another one.")

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
                    start_button = gr.Button("Start", variant="primary", size="md", min_width=80, elem_id="start")
                    change_button = gr.Button("Change prompt", size="md", min_width=80, elem_id="change")
                with gr.Row():
                    stop_button = gr.Button("Stop", size="md", min_width=80, elem_id="stop")
                    save_button = gr.Button("Download mp4", size="md", min_width=80, elem_id="save")
                image = gr.Image(label="First frame (optional)", sources=["upload", "clipboard"], height=200)
                # Where it is, unread: gradio would show an error of Pillow's.
                image.preprocess = lambda payload: None if payload is None else payload.path
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
        start_button.click(
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


def serve_page(videos: LiveVideos, host: str, port: int | None) -> gr.Blocks:
    """
    Serves the page from a thread of its own.

    Args:
        videos ([`LiveVideos`]): Of all visitors.
        host (`str`): Address to listen at.
        port (`int`, *optional*): The first free one above 7859 if `None`.

    Returns:
        `gr.Blocks`: The page, whose `local_url` says where it is.

    Raises:
        `OSError`: The port is in use.
    """
    page = make_page(videos)
    page.launch(
        server_name=host,
        server_port=port,
        # Fonts of the visitor's machine: nothing is loaded from elsewhere.
        theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
        footer_links=[],
        run_history=False,
        show_error=True,
        prevent_thread_lock=True,
        quiet=True,
    )
    return page
