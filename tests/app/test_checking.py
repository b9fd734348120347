"""`tocsin check`: destinations are asked and sent a marked test event by the real connectors and senders."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from servers import free_port
from typing_extensions import override

from bridge.app.checking import check
from bridge.errors import ConfigError


class Service:
    """A destination that remembers what it got."""

    def __init__(self) -> None:
        self.status = 202
        self.got: list[Any] = []
        self.url = ""


@pytest.fixture
def service() -> Iterator[Service]:
    it = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            it.got.append(json.loads(body))
            answer = b'{"status":"success"}'
            self.send_response(it.status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        @override
        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    it.url = f"http://127.0.0.1:{server.server_port}/v2/enqueue"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield it
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def configured(tmp_path: Path, service: Service) -> Path:
    path = tmp_path / "tocsin.yaml"
    path.write_text(
        "destinations:\n"
        f"  - {{name: file, kind: file, path: {tmp_path}/out.jsonl}}\n"
        f"  - {{name: lost, kind: file, path: {tmp_path}/tocsin.yaml/out.jsonl}}\n"
        f"  - {{name: pager, kind: pagerduty, routing_key: '{'0' * 32}', url: '{service.url}'}}\n"
        f"  - {{name: gone, kind: splunk, token: secret-of-splunk, url: 'http://127.0.0.1:{free_port()}'}}\n"
        "routes: [{to: [file, lost, pager, gone]}]\n"
    )
    return path


def test_without_being_asked_no_destination_is_touched(configured: Path, service: Service) -> None:
    answer = check(configured)
    assert answer.good
    assert answer.findings == ()
    assert not (configured.parent / "out.jsonl").exists()
    assert service.got == []


def test_each_destination_is_asked_and_what_is_wrong_is_said(configured: Path, service: Service) -> None:
    heard: list[str] = []
    answer = check(configured, connect=True, say=heard.append)
    assert {each.destination: each.good for each in answer.findings} == {
        "file": True, "lost": False, "pager": True, "gone": False
    }  # fmt: skip
    assert not answer.good
    assert "--send-test pager" in " ".join(heard), "what cannot be asked is not said to be well"
    assert "secret-of-splunk" not in " ".join(heard)
    assert service.got == []
    assert (configured.parent / "out.jsonl").read_bytes() == b""


def test_a_test_event_says_that_it_is_one(configured: Path) -> None:
    assert check(configured, send_test="file").good
    [event] = [json.loads(line) for line in (configured.parent / "out.jsonl").read_bytes().splitlines()]
    assert event["incident"]["id"].startswith("test-")
    assert event["incident"]["title"] == "Test event from Tocsin, please ignore"
    assert event["incident"]["severity"] == "info"
    assert event["incident"]["common_labels"]["test"] == "true"


def test_a_page_that_was_opened_for_a_test_is_closed_again(configured: Path, service: Service) -> None:
    assert check(configured, send_test="pager").good
    assert [got["event_action"] for got in service.got] == ["trigger", "resolve"]
    assert len({got["dedup_key"] for got in service.got}) == 1


def test_a_test_event_that_is_refused_is_bad(configured: Path, service: Service) -> None:
    service.status = 403
    answer = check(configured, send_test="pager")
    assert not answer.good
    assert "403" in answer.findings[0].text


def test_a_test_to_nobody_says_who_there_is(configured: Path) -> None:
    with pytest.raises(ConfigError, match="file, lost, pager, gone"):
        check(configured, send_test="nobody")
