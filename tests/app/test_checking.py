"""`tocsin check`: destinations are asked and sent a marked test event by the real connectors and senders."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from alertmanagers import Alertmanager, entry
from servers import free_port
from typing_extensions import override

import connectors
from bridge.app.checking import Checked, check
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


# ---- Alertmanagers -----------------------------------------------------------------------------------------


def asked(folder: Path, url: str, more: str = "") -> Path:
    path = folder / "tocsin.yaml"
    path.write_text(
        f"storage: {{path: {folder}/data}}\nsources: [{{name: prod, alertmanagers: [{url}]{more}}}]\n",
        "utf-8",
    )
    return path


async def connected(path: Path) -> Checked:
    return await asyncio.to_thread(check, path, connect=True)


async def test_an_alertmanager_is_asked_what_it_lists_for_our_receiver(tmp_path: Path) -> None:
    async with Alertmanager().serving() as peer:
        peer.alerts = [entry("Down"), entry("Other", receivers=[{"name": "pager"}])]
        checked = await connected(asked(tmp_path, peer.url))
        assert checked.good
        (found,) = checked.record()["alertmanagers"]
        assert found == {
            "alertmanager": f"prod ({peer.url})", "good": True, "text": "answers; 1 alert(s) for tocsin are listed",
        }  # fmt: skip


async def test_a_receiver_that_is_not_there_is_said_with_those_that_are(tmp_path: Path) -> None:
    async with Alertmanager().serving() as peer:
        checked = await connected(asked(tmp_path, peer.url, ", receiver: db"))
        assert not checked.good
        assert "has no receiver 'db'" in checked.peers[0].text
        assert "tocsin, pager" in checked.peers[0].text


async def test_an_alertmanager_that_does_not_answer_is_bad(tmp_path: Path) -> None:
    async with Alertmanager().serving() as peer:
        peer.authorization = "Bearer right"
        checked = await connected(asked(tmp_path, peer.url, ", token: wrong"))
        assert (checked.good, checked.peers[0].text) == (False, "/api/v2/status is answered 401")
    checked = await connected(asked(tmp_path, f"http://127.0.0.1:{free_port()}"))
    assert "no connection to 127.0.0.1" in checked.peers[0].text


async def test_without_connect_nobody_is_asked(tmp_path: Path) -> None:
    async with Alertmanager().serving() as peer:
        assert (await asyncio.to_thread(check, asked(tmp_path, peer.url))).peers == ()
        assert peer.asked == 0


# ---- credentials and what is not installed ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, b'{"text":"Invalid token","code":4}', "Invalid token"),
        (403, b'{"text":"Invalid token","code":4}', "Invalid token"),
        (200, b"<html>log in</html>", "not"),
    ],
)
def test_a_wrong_credential_is_told_by_one_question_that_changes_nothing(
    tmp_path: Path, status: int, body: bytes, said: str
) -> None:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(f"{self.path} {self.rfile.read(int(self.headers.get('Content-Length', 0)))!r}")
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST  # noqa: N815

        @override
        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    path = tmp_path / "tocsin.yaml"
    path.write_text(
        "destinations: [{name: siem, kind: splunk, token: secret-of-splunk, "
        f"url: 'http://127.0.0.1:{server.server_port}'}}]\n"
    )
    try:
        answer = check(path, connect=True)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

    assert not answer.good
    assert said in answer.findings[0].text
    assert "secret-of-splunk" not in answer.findings[0].text
    assert len(asked) == 1
    assert "incident" not in asked[0]


def test_an_extra_that_is_missing_is_named_where_it_is_needed_and_only_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connectors.EXTRAS, "splunk", "nothing")
    monkeypatch.setitem(connectors.MODULES, "nothing", ("no_such_module.at_all",))
    without, needing = tmp_path / "without.yaml", tmp_path / "needing.yaml"
    without.write_text(f"destinations: [{{name: file, kind: file, path: {tmp_path}/out}}]\n")
    needing.write_text(
        "destinations:\n  - name: siem\n    kind: splunk\n    token: x\n    url: https://a.example.com\n"
    )

    assert check(without).good
    (fault,) = check(needing).faults
    assert fault.startswith(f"{needing}:3: destinations.siem.kind: ")
    assert 'pip install "tocsin[nothing]"' in fault


def test_a_package_of_others_that_cannot_be_imported_stops_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "broken-1.0.dist-info"
    made.mkdir()
    (made / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (made / "entry_points.txt").write_text("[tocsin.connectors]\nbroken = no_such_package:Kind\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "tocsin.yaml"
    path.write_text("destinations: [{name: a, kind: broken}]\n")

    (fault,) = check(path).faults

    assert (
        "the kind 'broken' cannot be loaded (ModuleNotFoundError: No module named 'no_such_package')" in fault
    )
    path.write_text(f"destinations: [{{name: file, kind: file, path: {tmp_path}/out}}]\n")
    assert check(path).good
