"""Whoever copies the commands of the README gets the first incident into Slack, or Splunk, and sees what it shows."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from servers import free_port, require_server
from typing_extensions import override

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PATIENCE_S = 30.0


def commands(section: str) -> list[str]:
    """Return the commands of a section's console blocks, each with its lines that go on, without outputs."""
    text = README.partition(f"\n### {section}\n")[2].partition("\n#")[0]
    found: list[str] = []
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = part.splitlines()
            end = next(number for number in range(1, len(lines) + 1) if is_whole("\n".join(lines[:number])))
            found.append("\n".join(lines[:end]))
    return found


def output_of(command: str) -> str:
    """Return what the README shows below a command that ends its block."""
    return README.partition(f"$ {command}\n")[2].partition("```")[0]


def words(output: str) -> list[str]:
    """Return the lines of an output without its numbers: times, ids and weights are another reader's."""
    return [re.sub(r"\d", "0", re.sub(r"inc-\w{16}", "inc-", line)).rstrip() for line in output.splitlines()]


def is_whole(command: str) -> bool:
    """Return whether a shell would not wait for more lines."""
    here = re.search(r"<<'(\w+)'", command)
    if here:
        return command.splitlines()[-1] == here[1]
    try:
        shlex.split(command, comments=True)
    except ValueError:
        return False
    return True


class Service:
    """Slack's incoming webhook and Splunk's collector in one."""

    def __init__(self) -> None:
        self.got: list[tuple[str, str | None, str]] = []
        self.url = ""


@pytest.fixture
def service() -> Iterator[Service]:
    it = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # Splunk's health
            self._answer(b'{"text":"HEC is healthy","code":17}')

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            it.got.append((self.path, self.headers.get("Authorization"), body))
            self._answer(b"ok" if self.path.startswith("/services/T") else b'{"text":"Success","code":0}')

        def _answer(self, answer: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        @override
        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    it.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield it
    server.shutdown()
    thread.join()
    server.server_close()


class Reader:
    """Somebody with a shell in an empty directory, who is told what stands for what."""

    def __init__(self, folder: Path, service: Service) -> None:
        self.folder = folder
        self.port = free_port()
        self._running: subprocess.Popen[str] | None = None
        self._environ = os.environ | {
            "PYTHONPATH": str(ROOT), "TOCSIN_URL": f"http://127.0.0.1:{self.port}",
            "SLACK_WEBHOOK_URL": f"{service.url}/services/T0/B0/x",
        }  # fmt: skip
        self._words = {
            ".venv/bin/tocsin": f"{sys.executable} -m bridge",
            "http://127.0.0.1:9195": f"http://127.0.0.1:{self.port}",
            "https://splunk.example.com:8088": service.url,
        }

    def run(self, command: str) -> str:
        """Run one command to its end and return what it printed."""
        if command.startswith("export "):
            name = command.removeprefix("export ").partition("=")[0]
            assert name in self._environ, f"nothing stands for {name}"
            return ""
        for word, real in self._words.items():
            command = command.replace(word, real)
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=self._environ, capture_output=True, text=True,
            timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def serve(self, command: str) -> None:
        """Start a sidecar and wait until it understands webhooks."""
        words = [
            sys.executable,
            "-m",
            "bridge",
            *shlex.split(command)[1:],
            "--listen",
            f"127.0.0.1:{self.port}",
        ]
        self._running = subprocess.Popen(
            words, cwd=self.folder, env=self._environ, stderr=subprocess.PIPE, text=True
        )
        self.until(self._is_up, "the sidecar is up")

    def stop(self) -> None:
        """Press Ctrl-C."""
        assert self._running is not None
        self._running.send_signal(signal.SIGINT)
        _, said = self._running.communicate(timeout=PATIENCE_S)
        assert self._running.returncode == 0, said
        self._running = None

    def kill(self) -> None:
        """End what is left when a test has failed."""
        if self._running is not None:
            self._running.kill()
            self._running.communicate()

    def until(self, look: Callable[[], Any], what: str) -> Any:
        """Look again and again until it is found."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := look()):
            assert time.monotonic() < deadline, f"never seen: {what}"
            time.sleep(0.05)  # nothing tells when another process has done something
        return found

    def _is_up(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/stats", timeout=5) as answer:
                return bool(json.load(answer)["analyst"]["up"])
        except OSError:
            return False


@pytest.fixture
def reader(tmp_path: Path, service: Service) -> Iterator[Reader]:
    it = Reader(tmp_path, service)
    yield it
    it.kill()


@pytest.mark.parametrize("kind", ["slack", "splunk"])
def test_the_first_incident_arrives(reader: Reader, service: Service, kind: str) -> None:
    require_server("curl")
    require_server("bash")
    reader.serve("tocsin serve")  # what `make run` does at its end
    first, listing, shown = commands("Send it alerts")
    assert reader.run(first) == '{"received":2}'
    row = reader.until(lambda: re.search(r"inc-(\w+)$", reader.run(listing), re.MULTILINE), "the incident")
    assert words(reader.run(listing)) == words(output_of(listing))
    page = re.sub(r"[0-9a-f]{4}$", row[1][:4], shown)
    reader.until(lambda: "delivered" in reader.run(page), "the delivery stands on the page")
    assert words(reader.run(page)) == words(output_of(shown))
    reader.stop()

    export, slack, test, serve, token, splunk, check, serve_too, second, listing = commands(
        "Into Slack or Splunk"
    )
    assert serve == serve_too
    for command in (export, slack, test) if kind == "slack" else (token, splunk, check):
        reader.run(command)
    before = len(service.got)
    reader.serve(serve.removeprefix(".venv/bin/"))
    assert reader.run(second) == '{"received":1}'
    reader.until(lambda: len(service.got) > before, "the message")
    path, authorization, body = service.got[-1]
    assert "CheckoutErrors" in body
    if kind == "slack":
        assert path == "/services/T0/B0/x"
        assert "please ignore" in service.got[0][2], "the marked test came first"
    else:
        assert (path, authorization) == ("/services/collector/event", f"Splunk {token.split(chr(39))[1]}")
    name = "chat" if kind == "slack" else "siem"
    reader.until(
        lambda: re.search(rf"{name} +delivered +opened", reader.run(listing)), "the delivery is listed"
    )
    if kind == "slack":
        assert words(reader.run(listing)) == words(output_of(listing))
    reader.stop()
