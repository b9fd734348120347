"""From a webhook to a blob: the whole sidecar against a storage on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from sidecars import NO_MODELS, Sidecar, until

SIGNATURE = "sv=2022-11-02&sp=cw&sig=a%2Bsignature%3D"


class Storage(ThreadingHTTPServer):
    """Takes blobs as Azure does, the second of a name with 409; is busy once."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.busy = 1
        super().__init__(("127.0.0.1", 0), Putting)


class Putting(BaseHTTPRequestHandler):
    server: Storage
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path, _, query = self.path.partition("?")
        if query.replace("+", "%2B") != SIGNATURE:
            return self.answer(403, "AuthenticationFailed")
        if self.server.busy:
            self.server.busy -= 1
            return self.answer(503, "ServerBusy", {"Retry-After": "1"})
        if path in self.server.blobs and self.headers["If-None-Match"] == "*":
            return self.answer(409, "BlobAlreadyExists")
        self.server.blobs[path] = body
        return self.answer(201, "", {"ETag": '"0x1"'})

    def answer(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        body = f"<Error><Code>{code}</Code></Error>".encode() if code else b""
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def storage() -> Iterator[Storage]:
    with Storage() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)


def test_an_incident_becomes_a_line_in_a_blob(storage: Storage, tmp_path: Path):
    lake = {
        "name": "lake", "kind": "blob", "url": f"http://127.0.0.1:{storage.server_port}/account",
        "container": "incidents", "sas_token": SIGNATURE,
    }  # fmt: skip
    sidecar = Sidecar(tmp_path, NO_MODELS + f"destinations: [{json.dumps(lake)}]\n")
    sidecar.start()
    try:
        sidecar.send("NodeDown")
        until(lambda: storage.blobs, "a blob", patience_s=30)
    finally:
        sidecar.end()

    (path, body), *_ = storage.blobs.items()
    event = json.loads(body.splitlines()[0])
    assert unquote(urlsplit(path).path).startswith("/account/incidents/incidents/year=")
    assert event["incident"]["episodes"][0]["labels"]["alertname"] == "NodeDown"
    assert "signature" not in sidecar.log.read_text("utf-8")
