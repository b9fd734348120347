"""Promise 8 with the real commands: what a sidecar lived through, replayed from its export, is the same bytes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sidecars import PATIENCE_S, ROOT, Sidecar, until
from timeline import alert, webhook

from bridge.model import RowKind
from bridge.storage.inbox import InboxReader
from bridge.storage.state import StateStore

CONFIGURATION = "analysis: {close_after: 1s}\n"
KINDS = ("DiskFull", "QueueTooLong", "PodCrashLooping", "LatencyHigh", "CertificateExpires")


def storm(begun: datetime) -> list[bytes]:
    """Sixty webhooks: five kinds on four hosts begin, are told again, and are over."""
    told = []
    for number in range(60):
        kind, host, again = KINDS[number % 5], f"host-{number // 5 % 4}", number // 20
        one = alert(
            {"alertname": kind, "host": host, "severity": ("critical", "warning")[number % 2]},
            starts=begun, ends=datetime.now(UTC) if again == 2 else None,
            annotations={"summary": f"{kind} on {host} since the deployment"},
        )  # fmt: skip
        bad: list[dict[str, object]] = [{"labels": 7}] if number == 7 else []
        told.append(webhook([one, *bad], group=f"{{}}:{kind}"))
    return told


def tocsin(*words: object, seed: str = "0") -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bridge", *map(str, words)], cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": seed},
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(120)
def test_an_export_of_what_was_lived_through_replays_to_the_same_bytes(
    make: Callable[..., Sidecar], tmp_path: Path
) -> None:
    """With models, a kill of the analyst in the middle, resends, ends and a bad alert."""
    sidecar = make(CONFIGURATION)
    sidecar.start()
    analyst = sidecar.analyst()
    until(lambda: sidecar.metric("tocsin_models_up") == 1, "the models")
    for number, body in enumerate(storm(datetime.now(UTC))):
        if number == 30:
            until(lambda: stats(sidecar)["inbox_backlog"] == 0, "the first half is understood")
            os.kill(analyst, signal.SIGKILL)
        assert sidecar.ask("POST", "/v1/alertmanager", body)[0] == 200
    until(lambda: "closed" in {event["kind"] for event in sidecar.events()}, "an end")
    sidecar.send("AfterTheStorm")
    with closing(
        InboxReader(sidecar.data / "inbox.db")
    ) as rows:  # those asked before the kill may have been lost
        until(lambda: rows.newest_body(RowKind.VECTORS) is not None, "vectors")
    until(lambda: stats(sidecar)["inbox_backlog"] == 0, "all is understood")
    assert sidecar.metric('tocsin_analyst_restarts_total{reason="killed"}') == 1
    assert sidecar.end() == 0
    with closing(StateStore(sidecar.data / "state.db")) as store:
        ended = store.load().common.clock

    for form in ("webhooks", "jsonl"):
        tocsin("export", "--format", form, "--data", sidecar.data, "--out", tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "webhooks.jsonl").read_bytes().splitlines()]
    kinds = [line.get("kind", "webhook") for line in lines]
    assert kinds.count("webhook") == 61
    assert set(kinds) >= {"mode", "vectors"}, "models took part"
    lived = (tmp_path / "incidents.jsonl").read_bytes()
    assert len({json.loads(line)["state"] for line in lived.splitlines()}) > 1, "some are over, some are not"
    for seed in ("1", "4242"):
        out = tmp_path / f"replayed-{seed}"
        tocsin(
            "replay", tmp_path / "webhooks.jsonl", "--until", ended.isoformat(), "--incidents", out, seed=seed
        )
        assert out.read_bytes() == lived


def stats(sidecar: Sidecar) -> dict[str, int]:
    found: dict[str, int] = json.loads(sidecar.ask("GET", "/api/v1/stats")[1])
    return found
