"""What is true now, with real Alertmanagers (Debian's, a cluster of two) beside a real sidecar, and one that hangs."""

from __future__ import annotations

import json
import signal
import socket
import statistics
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from servers import free_port, require_server
from sidecars import Sidecar, until

ALERTMANAGER = """
route: {{receiver: tocsin, group_by: [alertname], group_wait: 1s, group_interval: 2s, repeat_interval: 1h}}
receivers:
  - name: tocsin
    webhook_configs: [{{url: "{webhook}", max_alerts: 0}}]
  - name: nobody
"""
TOCSIN = """
analysis: {{models: false, close_after: 1s, dispute: 30s}}
sources:
  - {{name: pair, alertmanagers: [{peers}], group_interval: 2s, repeat_interval: 1h, poll_interval: 1s}}
"""


class Pair:
    """Two Alertmanagers that know each other, and what is told to both as Prometheus would."""

    def __init__(self, folder: Path, program: str) -> None:
        self.folder = folder
        self.program = program
        self.ports = [free_port(), free_port()]
        self.cluster = [free_port(), free_port()]
        self.running: list[subprocess.Popen[bytes]] = []

    @property
    def urls(self) -> list[str]:
        return [f"http://127.0.0.1:{port}" for port in self.ports]

    def start(self, webhook: str) -> None:
        config = self.folder / "alertmanager.yml"
        config.write_text(ALERTMANAGER.format(webhook=webhook), "utf-8")
        for number in (0, 1):
            command = [
                self.program, f"--config.file={config}", f"--storage.path={self.folder}/am-{number}",
                f"--web.listen-address=127.0.0.1:{self.ports[number]}",
                f"--cluster.listen-address=127.0.0.1:{self.cluster[number]}",
                f"--cluster.peer=127.0.0.1:{self.cluster[1 - number]}",
                "--cluster.gossip-interval=50ms", "--cluster.pushpull-interval=1s", "--cluster.settle-timeout=1s",
                "--cluster.peer-timeout=1s",
            ]  # fmt: skip
            with (self.folder / f"am-{number}.log").open("ab") as log:
                self.running.append(subprocess.Popen(command, stdout=log, stderr=log))
        for url in self.urls:
            until(lambda url=url: is_ready(url), "an Alertmanager is ready")
        until(lambda: len(self.ask(0, "status")["cluster"]["peers"]) == 2, "the pair")

    def point_at(self, webhook: str) -> None:
        """Send webhooks elsewhere from here on."""
        (self.folder / "alertmanager.yml").write_text(ALERTMANAGER.format(webhook=webhook), "utf-8")
        for url in self.urls:
            post(f"{url}/-/reload", b"")

    def ask(self, number: int, what: str) -> Any:
        with urllib.request.urlopen(f"{self.urls[number]}/api/v2/{what}", timeout=10) as answer:
            return json.load(answer)

    def tell(self, name: str, *, ended: bool = False) -> None:
        now = datetime.now(UTC)
        alert = {
            "labels": {"alertname": name, "instance": f"{name}:9100", "severity": "critical"},
            "annotations": {"summary": f"{name} is wrong"}, "startsAt": (now - timedelta(minutes=5)).isoformat(),
            "endsAt": (now if ended else now + timedelta(minutes=5)).isoformat(),
        }  # fmt: skip
        for url in self.urls:
            post(f"{url}/api/v2/alerts", json.dumps([alert]).encode())

    def silence(self, name: str) -> str:
        now = datetime.now(UTC)
        body = {
            "matchers": [{"name": "alertname", "value": name, "isRegex": False}], "createdBy": "test", "comment": "test",
            "startsAt": now.isoformat(), "endsAt": (now + timedelta(hours=1)).isoformat(),
        }  # fmt: skip
        return str(
            json.loads(post(f"{self.urls[0]}/api/v2/silences", json.dumps(body).encode()))["silenceID"]
        )

    def unsilence(self, silence: str) -> None:
        request = urllib.request.Request(f"{self.urls[0]}/api/v2/silence/{silence}", method="DELETE")
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200

    def end(self) -> None:
        for process in self.running:
            process.send_signal(signal.SIGKILL)
            process.wait(20)


def is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def post(url: str, body: bytes) -> bytes:
    request = urllib.request.Request(
        url, data=body, headers={"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return bytes(answer.read())


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(tmp_path, require_server("prometheus-alertmanager"))
    try:
        yield pair
    finally:
        pair.end()


def episodes(sidecar: Sidecar) -> dict[str, dict[str, Any]]:
    """Return the newest episode of each alert, as the API shows it."""
    items = json.loads(sidecar.ask("GET", "/api/v1/incidents")[1])["items"]
    whole = [json.loads(sidecar.ask("GET", f"/api/v1/incidents/{each['incident']}")[1]) for each in items]
    return {each["labels"]["alertname"]: each for one in reversed(whole) for each in one["episodes"]}


@pytest.mark.timeout(120)
def test_a_real_pair_is_believed_where_webhooks_were_missed(pair: Pair, make: Callable[..., Sidecar]) -> None:
    """A silence marks and does not end; a resolve and a firing that no webhook told are found; what fires on stays."""
    sidecar = make(TOCSIN.format(peers=", ".join(pair.urls)))
    sidecar.start()
    pair.start(f"http://127.0.0.1:{sidecar.port}/v1/alertmanager/pair")
    for name in ("Kept", "Lost", "Quiet"):
        pair.tell(name)
    until(lambda: set(episodes(sidecar)) == {"Kept", "Lost", "Quiet"}, "what webhooks told")
    whole = 'tocsin_polls_total{result="answered",source="pair"}'
    until(lambda: sidecar.metric(whole) >= 2, "peers that are not young any more")
    silence = pair.silence("Quiet")
    until(lambda: episodes(sidecar)["Quiet"]["suppressed"] == "silenced", "the silence")
    pair.point_at(f"http://127.0.0.1:{free_port()}/nobody")
    pair.tell("Lost", ended=True)
    pair.tell("Missed")
    until(lambda: "Missed" in episodes(sidecar), "the firing that no webhook named")
    lost = until(
        lambda: (found := episodes(sidecar)["Lost"])["ends_at"] and found, "the end that no webhook told"
    )
    assert "gone from Alertmanager, no resolve came" in lost["why"]
    told = episodes(sidecar)
    assert "no webhook named it" in told["Missed"]["why"]
    assert [told[name]["ends_at"] for name in ("Kept", "Quiet", "Missed")] == [None] * 3
    assert (told["Quiet"]["suppressed"], told["Kept"]["suppressed"]) == ("silenced", "")
    pair.unsilence(silence)
    until(lambda: episodes(sidecar)["Quiet"]["suppressed"] == "", "the end of the silence")
    assert sidecar.metric('tocsin_reconciled_total{what="ended"}') == 1
    assert sidecar.metric('tocsin_reconciled_total{what="opened"}') == 1
    assert sidecar.end() == 0


class Hole:
    """A peer that accepts connections and never says anything."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.taken: list[socket.socket] = []
        self.thread = threading.Thread(target=self._accept)
        self.thread.start()

    def _accept(self) -> None:
        while True:
            try:
                self.taken.append(self.listener.accept()[0])
            except OSError:
                return

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()
        for one in self.taken:
            one.close()


def slowest_s(sidecar: Sidecar, name: str) -> float:
    """Return the time within which 97 of 100 webhooks were answered."""
    taken = []
    for number in range(100):
        started = time.monotonic()
        sidecar.send(f"{name}{number}")
        taken.append(time.monotonic() - started)
    return statistics.quantiles(taken, n=33)[-1]


def test_a_peer_that_hangs_is_felt_by_nobody(make: Callable[..., Sidecar]) -> None:
    hole = Hole()
    try:
        sidecar = make(TOCSIN.format(peers=hole.url))
        sidecar.start()
        until(lambda: hole.taken, "the peer is asked")
        assert slowest_s(sidecar, "Down") < 1.0  # the peer is given ten
        seen = 'tocsin_alerts_total{change="first_seen"}'
        until(lambda: sidecar.metric(seen) == 100, "all of them are understood")
        assert sidecar.metric('tocsin_polls_total{result="answered",source="pair"}') == 0
        started = time.monotonic()
        assert sidecar.end() == 0
        assert time.monotonic() - started < 10.0
    finally:
        hole.close()
