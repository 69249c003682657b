# SPDX-FileCopyrightText: 2026 The VideoAR Pipelines Authors
# SPDX-License-Identifier: Apache-2.0
"""
A Hub on this machine, for tests of what a user does over HTTP: it answers the endpoints that `huggingface_hub` asks to load from a model
repository and to upload to one. Every repository is a folder and has one commit.
"""

import base64
import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


COMMIT = hashlib.sha1(b"the only commit").hexdigest()


class LoopbackHub(ThreadingHTTPServer):
    """
    Serves `root / "user/name"` as the repository `user/name`.

    Attributes:
        requests (`list`): Method, path and status of all requests so far.
    """

    def __init__(self, root: Path):
        super().__init__(("127.0.0.1", 0), HubRequestHandler)
        self.root, self.requests = root, []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def environment(self, cache: Path) -> dict[str, str]:
        """For a process that shall take this server for the Hub."""
        return os.environ | {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(cache),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
        }


class HubRequestHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: LoopbackHub

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        self.answer_reading(with_body=True)

    def do_HEAD(self):
        self.answer_reading(with_body=False)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = self.read_chunks()
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[:3] == ["api", "repos", "create"]:
            request = json.loads(body)
            name = "/".join(filter(None, [request.get("organization"), request["name"]]))
            (self.server.root / name).mkdir(parents=True, exist_ok=True)
            answer = {"url": f"{self.server.url}/{name}", "id": name}
        elif parts[:2] == ["api", "validate-yaml"]:
            answer = {"errors": [], "warnings": []}
        elif parts[4] == "preupload":
            answer = {
                "files": [
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for file in json.loads(body)["files"]
                ]
            }
        else:
            self.commit(self.server.root / "/".join(parts[2:4]), body)
            url = f"{self.server.url}/{'/'.join(parts[2:4])}/commit/{COMMIT}"
            answer = {"success": True, "commitOid": COMMIT, "commitUrl": url, "hookOutput": ""}
        self.send(200, json.dumps(answer).encode(), {}, with_body=True)

    def read_chunks(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def commit(self, folder: Path, body: bytes) -> None:
        for line in body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                path = folder / entry["value"]["path"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(base64.b64decode(entry["value"]["content"]))

    def answer_reading(self, with_body: bool) -> None:
        # The branch and its commit are the same here.
        parts = self.path.split("?")[0].replace(COMMIT, "main").strip("/").split("/")
        is_api = parts[:2] == ["api", "models"]
        repository, route = "/".join(parts[2:4] if is_api else parts[:2]), "/".join(parts[4:] if is_api else parts[2:])
        folder = self.server.root / repository
        files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        headers, file_name = {"X-Repo-Commit": COMMIT}, route.removeprefix("resolve/main/")
        if not folder.is_dir():
            status, body = 404, b""
            headers["X-Error-Code"] = "RepoNotFound"
        elif is_api and route in ("", "revision/main"):
            siblings = [{"rfilename": name} for name in files]
            status, body = 200, json.dumps({"id": repository, "sha": COMMIT, "siblings": siblings}).encode()
        elif is_api and route == "tree/main":
            status, body = 200, json.dumps([self.tree_entry(folder, name) for name in files]).encode()
        elif file_name in files:
            status, body = 200, (folder / file_name).read_bytes()
            headers["ETag"] = f'"{hashlib.sha1(body).hexdigest()}"'
        else:
            status, body = 404, b""
            headers["X-Error-Code"] = "EntryNotFound"
        self.send(status, body, headers, with_body)

    def send(self, status: int, body: bytes, headers: dict[str, str], with_body: bool) -> None:
        self.server.requests.append((self.command, self.path, status))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def tree_entry(self, folder: Path, name: str) -> dict:
        content = (folder / name).read_bytes()
        return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}


@contextlib.contextmanager
def serving(root: Path) -> Iterator[LoopbackHub]:
    with LoopbackHub(root) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
