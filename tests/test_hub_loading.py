# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
A pipeline is loaded from the Hub as a user does it: in a fresh process, by its id, over HTTP. The Hub is played by a server on
this machine that answers the endpoints `huggingface_hub` asks. Loading from a folder takes another path through diffusers and
cannot show that the registration in the root of the package works.
"""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from safetensors.torch import load_file

from tests.tiny_components import make_tiny_pipeline


REPOSITORY = "videoar-tests/tiny"
COMMIT = hashlib.sha1(b"the only commit").hexdigest()

LOAD_AND_SAVE_AGAIN = """
import sys

from videoar_pipelines import VideoARPipeline

VideoARPipeline.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[2])
"""


class HubRequestHandler(BaseHTTPRequestHandler):
    """Serves the folder `self.server.folder` as the repository `REPOSITORY` with one commit."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(with_body=True)

    def do_HEAD(self):
        self.answer(with_body=False)

    def log_message(self, *arguments):
        pass

    def answer(self, with_body):
        # The branch and its commit are the same here.
        route = self.path.split("?")[0].replace(COMMIT, "main")
        file_name = route.removeprefix(f"/{REPOSITORY}/resolve/main/")
        headers = {"X-Repo-Commit": COMMIT}
        if route in (f"/api/models/{REPOSITORY}", f"/api/models/{REPOSITORY}/revision/main"):
            siblings = [{"rfilename": name} for name in self.file_names()]
            status, body = 200, json.dumps({"id": REPOSITORY, "sha": COMMIT, "siblings": siblings}).encode()
        elif route == f"/api/models/{REPOSITORY}/tree/main":
            status, body = 200, json.dumps([self.tree_entry(name) for name in self.file_names()]).encode()
        elif file_name in self.file_names():
            status, body = 200, (self.server.folder / file_name).read_bytes()
            headers["ETag"] = f'"{hashlib.sha1(body).hexdigest()}"'
        else:
            status, body = 404, b""
            headers["X-Error-Code"] = "EntryNotFound"
        self.server.requests.append((self.command, self.path, status))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def file_names(self):
        folder = self.server.folder
        return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())

    def tree_entry(self, name):
        content = (self.server.folder / name).read_bytes()
        return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}


@pytest.fixture
def saved_pipeline(tmp_path):
    folder = tmp_path / "saved"
    make_tiny_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture
def hub(saved_pipeline):
    with ThreadingHTTPServer(("127.0.0.1", 0), HubRequestHandler) as server:
        server.folder, server.requests = saved_pipeline, []
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def load_and_save_again(folder, hub, cache, **more_environment):
    environment = os.environ | {
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_address[1]}",
        "HF_HOME": str(cache),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
        **more_environment,
    }
    finished = subprocess.run(
        [sys.executable, "-c", LOAD_AND_SAVE_AGAIN, REPOSITORY, str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, f"{finished.stderr[-4000:]}\n{hub.requests}"


def assert_same_pipeline(folder, expected_folder):
    def read_index(folder):
        index = json.loads((folder / "model_index.json").read_text())
        return {name: value for name, value in index.items() if name != "_name_or_path"}

    assert read_index(folder) == read_index(expected_folder)
    weight_names = [path.relative_to(expected_folder) for path in expected_folder.rglob("*.safetensors")]
    assert len(weight_names) == 3, "the text encoder, the transformer and the tokenizer of videos have weights"
    for name in weight_names:
        weights, expected_weights = load_file(folder / name), load_file(expected_folder / name)
        assert weights.keys() == expected_weights.keys()
        assert all(weights[key].equal(expected_weights[key]) for key in weights)


def test_saved_components_are_named_by_the_package_and_not_by_its_files(saved_pipeline):
    index = json.loads((saved_pipeline / "model_index.json").read_text())
    assert index["_class_name"] == "VideoARPipeline"
    assert index["vae"] == ["videoar_pipelines", "AutoencoderVideoAR"]
    assert index["transformer"] == ["videoar_pipelines", "VideoARTransformer3DModel"]
    assert index["scheduler"] == ["videoar_pipelines", "VideoARScheduler"]


def test_a_pipeline_loads_from_the_hub_and_then_without_a_network(saved_pipeline, hub, tmp_path):
    load_and_save_again(tmp_path / "from_hub", hub, cache=tmp_path / "cache")
    assert_same_pipeline(tmp_path / "from_hub", saved_pipeline)
    assert any(path.endswith(".safetensors") for _, path, _ in hub.requests)

    hub.requests.clear()
    load_and_save_again(tmp_path / "from_cache", hub, cache=tmp_path / "cache", HF_HUB_OFFLINE="1")
    assert_same_pipeline(tmp_path / "from_cache", saved_pipeline)
    assert hub.requests == []
