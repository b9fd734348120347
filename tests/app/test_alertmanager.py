"""A real Alertmanager (Debian's) in front of a real sidecar: from alert to delivered incident and back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from servers import free_port, require_server

ROOT = Path(__file__).parents[2]
TOKEN = "the-sender-of-the-tests-0123456789"

TOCSIN = """
listen: 127.0.0.1:{tocsin}
storage: {{path: {folder}/data}}
tenants:
  - name: shop
    tokens: [{{token: {token}, role: sender}}]
analysis: {{models: false, close_after: 1s}}
destinations: [{{name: file, kind: file, path: {folder}/incidents.jsonl}}]
routes: [{{to: [file]}}]
"""
ALERTMANAGER = """
route: {{receiver: tocsin, group_by: [alertname], group_wait: 1s, group_interval: 2s, repeat_interval: 1h}}
receivers:
  - name: tocsin
    webhook_configs:
      - url: http://127.0.0.1:{tocsin}/v1/alertmanager/prod
        max_alerts: 0
        http_config:
          follow_redirects: false
          authorization: {{type: Bearer, credentials_file: {folder}/token}}
"""


class Bench:
    """One Alertmanager and one sidecar, on ports and in a folder of their own."""

    def __init__(self, folder: Path, alertmanager: str) -> None:
        self.folder = folder
        self.alertmanager = alertmanager
        self.tocsin_port, self.alertmanager_port = free_port(), free_port()
        names = {"tocsin": self.tocsin_port, "folder": folder, "token": TOKEN}
        (folder / "tocsin.yaml").write_text(TOCSIN.format(**names), "utf-8")
        (folder / "alertmanager.yml").write_text(ALERTMANAGER.format(**names), "utf-8")
        (folder / "token").write_text(TOKEN, "utf-8")
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        commands = {
            "tocsin": [sys.executable, "-m", "bridge", "serve", "--config", str(self.folder / "tocsin.yaml")],
            "alertmanager": [
                self.alertmanager, f"--config.file={self.folder}/alertmanager.yml",
                f"--storage.path={self.folder}/am", f"--web.listen-address=127.0.0.1:{self.alertmanager_port}",
                "--cluster.listen-address=",
            ],
        }  # fmt: skip
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(commands[name], cwd=ROOT, stdout=log, stderr=log, env=os.environ)
        self.running[name] = process
        port = self.tocsin_port if name == "tocsin" else self.alertmanager_port
        self.until(lambda: self.is_ready(port), f"{name} is ready")

    def end(self, name: str, number: signal.Signals) -> None:
        process = self.running.pop(name)
        process.send_signal(number)
        process.wait(20)

    def is_ready(self, port: int) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def tell(self, alerts: list[dict[str, Any]]) -> None:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.alertmanager_port}/api/v2/alerts",
            data=json.dumps(alerts).encode(), headers={"Content-Type": "application/json"},
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200

    def events(self) -> list[dict[str, Any]]:
        path = self.folder / "incidents.jsonl"
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []

    def kinds(self) -> list[str]:
        return [event["kind"] for event in self.events()]

    def until(self, look: Callable[[], object], what: str, patience_s: float = 40.0) -> None:
        deadline = time.monotonic() + patience_s
        while not look():
            assert time.monotonic() < deadline, f"never seen: {what}; told so far: {self.kinds()}"
            time.sleep(0.05)  # nothing tells when another process has done something


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path, require_server("prometheus-alertmanager"))
    try:
        bench.start("tocsin")
        bench.start("alertmanager")
        yield bench
    finally:
        for name in list(bench.running):
            bench.end(name, signal.SIGKILL)


def alerts(number: int, *, ended: bool = False) -> list[dict[str, Any]]:
    now = datetime.now(UTC)
    times = {"startsAt": (now - timedelta(minutes=5)).isoformat()}
    if ended:
        times["endsAt"] = now.isoformat()
    return [
        {
            "labels": {"alertname": "PodCrashLooping", "node": "node-7", "pod": f"shop-{n}", "severity": "critical"},
            "annotations": {"summary": f"Pod shop-{n} restarts again and again."}, **times,
        }
        for n in range(number)
    ]  # fmt: skip


def test_fifty_alerts_become_one_incident_that_closes_and_survives_restarts(bench: Bench) -> None:
    """Alert, restart of both, resolve: one incident, opened once and closed once."""
    bench.tell(alerts(50))
    bench.until(lambda: "opened" in bench.kinds(), "the incident")
    first = bench.events()[0]
    assert first["tenant"] == "shop"
    assert first["incident"]["severity"] == "critical"
    bench.end("tocsin", signal.SIGKILL)
    bench.end("alertmanager", signal.SIGTERM)
    bench.start("tocsin")
    bench.start("alertmanager")
    bench.tell(alerts(50))
    bench.tell(alerts(50, ended=True))
    bench.until(lambda: "closed" in bench.kinds(), "its end")
    last = bench.events()[-1]
    assert last["incident"]["alerts_total"] == 50
    assert last["incident"]["alerts_firing"] == 0
    assert {event["incident"]["id"] for event in bench.events()} == {first["incident"]["id"]}
    # A file is told at least once: a kill between a line and its commit writes that line again, as it was.
    events = bench.events()
    told = {event["event_id"]: event for event in events}
    kinds = [event["kind"] for event in told.values()]
    assert kinds.count("opened") == kinds.count("closed") == 1
    assert all(told[event["event_id"]] == event for event in events)
    assert len(events) - len(told) <= 1


def test_what_alertmanager_sends_while_the_sidecar_is_down_arrives_when_it_is_back(bench: Bench) -> None:
    """Connection refused is temporary to Alertmanager: it tries again, and nothing is lost."""
    bench.end("tocsin", signal.SIGTERM)
    bench.tell(alerts(3))
    log = bench.folder / "alertmanager.log"
    bench.until(lambda: "connection refused" in log.read_text("utf-8"), "a refused webhook")
    bench.start("tocsin")
    bench.until(bench.events, "the incident")
    assert bench.events()[-1]["incident"]["alerts_total"] == 3


def test_a_wrong_token_is_refused(bench: Bench) -> None:
    """401, and nothing comes of it."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{bench.tocsin_port}/v1/alertmanager", data=b'{"alerts":[]}',
        headers={"Content-Type": "application/json", "Authorization": "Bearer wrong"},
    )  # fmt: skip
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)
    assert refused.value.code == 401
    refused.value.close()
