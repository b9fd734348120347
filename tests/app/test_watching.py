"""What is watched, in the whole: a sidecar that is killed, and a recording that warms one up."""

from __future__ import annotations

import http.server
import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from sidecars import Sidecar, until
from timeline import START, row

from bridge.analysis.samples import Line, Samples
from bridge.app import exporting
from bridge.app.replay import Wishes, replay
from bridge.model import RowKind
from bridge.pipeline import advance
from bridge.storage.state import StateStore

STEP_S = 60.0
#: How long before it was started the stand-in's series became strange.
STRANGE_S = 180.0


class Prometheus:
    """Answers range queries: a quiet day, and a level nobody has seen since shortly before it began."""

    def __init__(self) -> None:
        self.begun_s = time.time()
        self.asked: list[dict[str, str]] = []
        standing = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if not self.path.startswith("/api/v1/query_range?"):  # who calls whom, it does not know
                    self.send_error(404)
                    return
                query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
                standing.asked.append(query)
                body = standing.matrix(float(query["start"]), float(query["end"]))
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def value(self, at_s: float) -> float:
        wave = 10.0 + 3.0 * math.sin(2.0 * math.pi * at_s / 86_400.0) + math.sin(at_s * 12.9898)
        return wave + 80.0 * (at_s > self.begun_s - STRANGE_S)

    def matrix(self, start_s: float, end_s: float) -> bytes:
        times = [start_s + STEP_S * number for number in range(round((end_s - start_s) / STEP_S) + 1)]
        values = [[at_s, repr(self.value(at_s))] for at_s in times]
        result = [{"metric": {"service": "shop"}, "values": values}]
        return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}}).encode()


@pytest.fixture
def prometheus() -> Iterator[Prometheus]:
    made = Prometheus()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.mark.timeout(150)
def test_a_killed_sidecar_goes_on_watching_with_all_it_had_learned(
    make: Callable[..., Sidecar], prometheus: Prometheus, tmp_path: Path
) -> None:
    file = tmp_path / "anomalies.jsonl"
    sidecar = make(f"""
sources: [{{name: eu, prometheus: "{prometheus.url}"}}]
analysis:
  models: false
  series: [{{name: load, query: "sum by (service) (load)"}}]
destinations:
  - {{name: file, kind: file, path: {tmp_path}/incidents.jsonl}}
  - {{name: anomalies, kind: file, path: {file}}}
routes: [{{to: [file]}}, {{to: [anomalies], origin: [anomaly]}}]
""")

    def series() -> dict[str, Any]:
        items = json.loads(sidecar.ask("GET", "/api/v1/models")[1])["items"]
        return next((each for each in items if each["name"] == "series"), {})

    sidecar.start()
    until(lambda: file.exists() and file.read_bytes().endswith(b"\n"), "the anomaly is told", 100.0)
    before = series()
    assert before["series"] == 'load{service="shop"}'
    assert before["values"] > 9_000
    assert before["unusual_since"]
    os.kill(sidecar.analyst(), signal.SIGKILL)
    sidecar.end(signal.SIGKILL)
    sidecar.start()
    sidecar.analyst()
    until(lambda: sidecar.metric('tocsin_series_watched{what="samples"}') == 1, "it is watched again")
    after = series()
    assert after["values"] >= before["values"]
    if after["model"] == before["model"]:  # its class may have been looked at once more in between
        assert after["since"] == before["since"]
    assert after["unusual_since"] == before["unusual_since"]
    told = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert [event["kind"] for event in told].count("opened") == 1
    assert told[0]["incident"]["origin"] == "anomaly"
    assert not (tmp_path / "incidents.jsonl").exists()
    starts = [float(asked["start"]) for asked in prometheus.asked]
    assert starts == sorted(starts)  # of its past nothing was asked for once more
    assert sidecar.metric('tocsin_samples_refused_total{reason="late"}') == 0
    assert sidecar.end() == 0


def samples(minute: int, value: float) -> bytes:
    line = Line(labels={"service": "shop"}, points=((START.timestamp() + 60.0 * minute, value),))
    return msgspec.json.encode(Samples(name="load", step_s=60.0, lines=(line,)))


def test_a_recording_warms_up_what_is_watched(tmp_path: Path) -> None:
    """What was exported is replayed into a store, and a sidecar that begins with it knows what is usual."""
    (tmp_path / "live").mkdir()
    with closing(StateStore(tmp_path / "live" / "state.db")) as store:
        rows = [
            row(minute + 1, START + timedelta(minutes=minute), samples(minute, 10.0 + minute % 7), kind=RowKind.SAMPLES)
            for minute in range(200)
        ]  # fmt: skip
        live = store.load()
        for first in range(0, len(rows), 50):
            store.commit(
                advance(live, rows[first : first + 50]), front="front-1", rows=rows[first : first + 50]
            )
    lines = exporting.lines_of(tmp_path / "live", "webhooks")
    recording, _ = exporting.write(lines, tmp_path / "out", "webhooks", lambda _: None)
    told: list[str] = []
    until_at = START + timedelta(minutes=201)
    wishes = Wishes(store=tmp_path / "warm", until=until_at, no_models=True)
    replay([str(recording)], wishes, say=told.append)
    assert told == []
    with closing(StateStore(tmp_path / "warm" / "state.db")) as store:
        warm = store.load()
    known, lived = (state.tenants["default"].measured for state in (warm, live))
    assert known == lived
    banks = [state.tenants["default"].banks for state in (warm, live)]
    assert known['load{service="shop"}'].standing.model == "shape"
    assert len({bank.row('load{service="shop"}', "shape") for bank in banks}) == 1
    strange = row(10_000, START + timedelta(minutes=202), samples(201, 5_000.0), kind=RowKind.SAMPLES)
    [event] = advance(warm, [strange]).events
    assert event.incident.origin == "anomaly"
