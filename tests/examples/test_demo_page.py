# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
The page of examples/demo, as programs see it (gradio's client) and as people do (headless Chromium). Skipped where gradio, playwright
or Chromium is missing.
"""

import base64
import contextlib
import io
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import PIL.Image
import pytest

from tests.tiny_components import make_tiny_pipeline
from videoar_pipelines.utils import load_video
from videoar_pipelines.utils.video_io import frames_to_uint8, load_image


FOLDER = Path(__file__).resolve().parents[2] / "examples" / "demo"
RED_CIRCLE = FOLDER.parent / "inference" / "red_circle.png"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

gradio_client = pytest.importorskip("gradio_client", reason="needs gradio: pip install -e '.[demo]'")
pytest.importorskip("gradio", reason="needs gradio: pip install -e '.[demo]'")


@contextlib.contextmanager
def demo_importable():
    sys.path.insert(0, str(FOLDER))
    try:
        yield
    finally:
        sys.path.remove(str(FOLDER))


with demo_importable():
    from live_video import LiveVideos, Settings, to_jpeg
    from page import serve_page


@pytest.fixture(scope="module")
def served():
    """The page and the videos behind it, of a pipeline of random weights."""
    pipe = make_tiny_pipeline()
    videos = LiveVideos(pipe, Settings(method="window", fps=12, lead_seconds=0.5))
    page = serve_page(videos, "127.0.0.1", port=None)
    yield page, videos, pipe
    page.close()


def wait_until(is_so, seconds=60):
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def connect(served):
    """Makes clients, each a visitor; all have left afterwards."""
    page, videos, pipe = served
    clients = []

    def connect_one():
        clients.append(gradio_client.Client(page.local_url, verbose=False))
        return clients[-1]

    yield connect_one
    for name in list(videos._videos):
        videos.forget(name)
    wait_until(lambda: len(pipe._open_streams) == 0)
    for client in clients:
        client.close()


# 1. A program


def test_a_program_gets_batches_of_pictures_and_changes_the_prompt(served, connect, tmp_path):
    _, videos, _ = served
    client = connect()
    job = client.submit("a red circle", None, api_name="/start")
    wait_until(lambda: len(job.outputs()) >= 3)
    for index, batch in enumerate(job.outputs()[:3]):
        assert (
            batch["first"] == max(0, 4 * index - 3) and len(batch["frames"]) == (1, 4, 4)[index] and batch["fps"] == 12
        )
        for frame in batch["frames"]:
            header, _, data = frame.partition(",")
            assert header == "data:image/jpeg;base64"
            assert PIL.Image.open(io.BytesIO(base64.b64decode(data))).size == (64, 64)
    client.predict("a green square", api_name="/change_prompt")
    saved = client.predict(api_name="/save")
    assert load_video(saved)[0].shape[1] >= 9
    client.predict(api_name="/stop")
    wait_until(job.done)
    assert job.outputs()[-1]["frames"] == [] and videos.num_running == 0


def test_a_program_is_told_what_cannot_work(connect, tmp_path):
    client = connect()
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    for image, prompt, message in (
        (None, " ", "The prompt is empty"),
        (gradio_client.handle_file(str(broken)), "a red circle", "broken.png' cannot be read as an image"),
    ):
        with pytest.raises(Exception, match=message) as caught:
            client.predict(prompt, image, api_name="/start")
        assert "/gradio" not in str(caught.value)
    with pytest.raises(Exception, match="There is no video yet. Press Start."):
        client.predict(api_name="/save")


def test_each_program_has_a_video_of_its_own_and_a_third_is_refused(served, connect):
    _, videos, _ = served
    jobs = [connect().submit("a red circle", None, api_name="/start") for _ in range(2)]
    wait_until(lambda: all(len(job.outputs()) >= 2 for job in jobs))
    assert jobs[0].outputs()[1]["frames"] != jobs[1].outputs()[1]["frames"]
    with pytest.raises(Exception, match="2 videos are running"):
        connect().predict("a red circle", None, api_name="/start")
    assert videos.num_running == 2


# 2. A person


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    if CHROMIUM is None:
        pytest.skip("needs Chromium (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as manager:
        # Chromium refuses its sandbox to root.
        yield manager.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture
def open_tab(served, browser):
    page, videos, pipe = served
    contexts, requests, errors = [], [], []

    def open_one():
        contexts.append(browser.new_context())
        tab = contexts[-1].new_page()
        tab.on("request", lambda request: requests.append(request.url))
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        tab.goto(page.local_url)
        tab.wait_for_selector("#video img", state="attached")
        return tab

    yield open_one
    for context in contexts:
        context.close()
    wait_until(lambda: videos.num_running == 0 and len(pipe._open_streams) == 0)
    assert requests and all(url.startswith((page.local_url, "data:", "blob:")) for url in requests)
    assert errors == []


def start(tab, prompt="a red circle"):
    tab.fill("#prompt textarea", prompt)
    tab.click("#start")


def wait_for_frame(tab, number):
    tab.wait_for_function(
        "number => Number(document.querySelector('#video figcaption').textContent.split(' ')[1]) >= number", arg=number
    )


def wait_for_message(tab, text):
    tab.get_by_text(text).first.wait_for()


def test_a_person_watches_changes_the_prompt_and_downloads(served, open_tab, tmp_path):
    _, videos, _ = served
    tab = open_tab()
    start(tab)
    wait_for_frame(tab, 9)
    assert tab.evaluate("document.querySelector('#video img').naturalWidth") == 64
    tab.fill("#prompt textarea", "a green square")
    tab.click("#change")
    (video,) = videos._videos.values()
    wait_until(lambda: video.prompt == "a green square")
    with tab.expect_download() as download:
        tab.click("#save")
    download.value.save_as(tmp_path / "video.mp4")
    assert download.value.suggested_filename == "videoar.mp4"
    assert load_video(tmp_path / "video.mp4")[0].shape[1] >= 9
    tab.click("#stop")
    wait_until(lambda: videos.num_running == 0)


def test_an_image_that_a_person_gives_is_the_first_frame(served, open_tab):
    _, videos, pipe = served
    tab = open_tab()
    tab.set_input_files("input[type=file]", RED_CIRCLE)
    tab.get_by_label("Remove Image").or_(tab.get_by_label("Clear")).first.wait_for()  # it has been sent
    start(tab)
    wait_for_frame(tab, 1)
    (video,) = videos._videos.values()
    given = load_image(RED_CIRCLE, 64, 64)
    with pipe.stream("a red circle", window=2, video=[PIL.Image.fromarray(given)]) as stream:
        expected = to_jpeg(frames_to_uint8(next(stream)[0])[0])
    assert video._kept[0] == expected


def test_a_person_is_told_what_cannot_work(open_tab, tmp_path):
    tab = open_tab()
    start(tab, " ")
    wait_for_message(tab, "The prompt is empty. Write what the video shows")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    tab.set_input_files("input[type=file]", broken)
    tab.get_by_label("Remove Image").or_(tab.get_by_label("Clear")).first.wait_for()
    start(tab)
    wait_for_message(tab, "'broken.png' cannot be read as an image")


def test_a_tab_that_is_closed_frees_its_video_and_its_place(served, open_tab):
    _, videos, pipe = served
    first, second, third = open_tab(), open_tab(), open_tab()
    for tab in (first, second):
        start(tab)
        wait_for_frame(tab, 1)
    start(third)
    wait_for_message(third, "2 videos are running")
    first.close()
    wait_until(lambda: videos.num_running == 1 and len(pipe._open_streams) == 1)
    start(third)
    wait_for_frame(third, 1)
    assert len(videos._videos) == 2


# 3. The measurement


@pytest.mark.slow
def test_the_measurement_of_the_demo_runs(browser, tmp_path):
    make_tiny_pipeline().save_pretrained(tmp_path / "tiny")
    output, screenshot = tmp_path / "measured.json", tmp_path / "page.png"
    # A process of its own: playwright allows one of its loops in each.
    command = [sys.executable, FOLDER / "measure.py", "--seconds", 1, "--visitors", 2]
    command += ["--output", output, "--screenshot", screenshot, "--", "--checkpoint", tmp_path / "tiny", "--fps", 20]
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE)
    measured = json.loads(output.read_text())
    assert len(measured["visitors"]) == 2
    assert all(0 < visitor["frames_per_second"] <= 21 for visitor in measured["visitors"])
    assert measured["after_closing"]["server_busy_cores"] < 0.5
    assert PIL.Image.open(screenshot).size == (1000, 600)
