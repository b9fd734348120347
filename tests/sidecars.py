"""The whole sidecar as its users run it: a real process that is started, asked, told and killed."""

from __future__ import annotations

import json
import os
import re
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from servers import free_port

ROOT = Path(__file__).parents[1]
PATIENCE_S = 40.0
Found = TypeVar("Found")
#: Different alerts are in different incidents here, however close in time.
NO_MODELS = "analysis: {models: false, grouping: entities}\n"


def until(look: Callable[[], Found], what: str, patience_s: float = PATIENCE_S) -> Found:
    """Look again and again until it is found."""
    deadline = time.monotonic() + patience_s
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"never seen: {what}"
        time.sleep(0.02)  # nothing tells when another process has done something


class Sidecar:
    """One `tocsin serve` that can be started anew on the same directory."""

    def __init__(self, folder: Path, configuration: str = NO_MODELS, **environ: str) -> None:
        self.data = folder / "data"
        self.file = folder / "tocsin.yaml"
        self.file.write_text(configuration, "utf-8")
        self.environ = os.environ | environ
        self.port = free_port()
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self.trust: ssl.SSLContext | None = None  # where it listens with TLS

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        self.port = free_port()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "bridge", "serve", "--config", str(self.file),
                 "--listen", f"127.0.0.1:{self.port}", "--data", str(self.data)],
                stdout=subprocess.DEVNULL, stderr=log, cwd=ROOT, env=self.environ,
            )  # fmt: skip
        until(lambda: self.is_ready() or self.process.poll() is not None, "the front is ready")  # type: ignore[union-attr]
        assert self.process.poll() is None, self.log.read_text("utf-8")

    def is_ready(self) -> bool:
        try:
            return self.ask("GET", "/-/ready")[0] == 200
        except OSError:
            return False

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        scheme = "http" if self.trust is None else "https"
        request = urllib.request.Request(
            f"{scheme}://127.0.0.1:{self.port}{path}", data=body, method=method,
            headers={"Content-Type": "application/json"} | dict(headers or {}),
        )  # fmt: skip
        try:
            with urllib.request.urlopen(request, timeout=20, context=self.trust) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def send(self, *names: str) -> None:
        status, answer = self.ask("POST", "/v1/alertmanager", webhook(*names))
        assert (status, answer) == (200, f'{{"received":{len(names)}}}')

    def metric(self, series: str) -> float:
        found = re.search(rf"^{re.escape(series)} (\S+)$", self.ask("GET", "/metrics")[1], re.MULTILINE)
        return float(found[1]) if found else 0.0

    def events(self, file: str = "incidents.jsonl") -> list[dict[str, Any]]:
        path = self.data / file
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    def heard_of(self, name: str, file: str = "incidents.jsonl") -> list[dict[str, Any]]:
        """The events in which an alert of this name stands."""
        return [event for event in self.events(file)
                if any(each["labels"]["alertname"] == name for each in event["incident"]["episodes"])]  # fmt: skip

    def understood(self) -> list[str]:
        """The names of all alerts that stand in an incident."""
        incidents = json.loads(self.ask("GET", "/api/v1/incidents")[1])["items"]
        whole = [
            json.loads(self.ask("GET", f"/api/v1/incidents/{each['incident']}")[1]) for each in incidents
        ]
        return [episode["labels"]["alertname"] for one in whole for episode in one["episodes"]]

    def logged(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.read_text("utf-8").splitlines()]
        return [line for line in lines if line["event"] == event]

    def analyst(self) -> int:
        """The process id of the newest analyst that is ready."""
        until(lambda: self.metric("tocsin_analyst_up") == 1, "the analyst is ready")
        return int(self.logged("analyst_started")[-1]["pid"])

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


def webhook(*names: str) -> bytes:
    """Return a webhook with an alert of each name. What joins an open incident is told with its next update only."""
    alerts = [
        {
            "status": "firing", "labels": {"alertname": name, "severity": "critical", "host": name, "cluster": name},
            "annotations": {"summary": f"{name} is wrong"}, "startsAt": "2026-01-01T00:00:00Z",
            "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "",
        }
        for name in names
    ]  # fmt: skip
    body = {"version": "4", "groupKey": f"{{}}:{names[0]}", "truncatedAlerts": 0, "status": "firing", "receiver": "tocsin",
            "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "", "alerts": alerts}  # fmt: skip
    return json.dumps(body).encode()
