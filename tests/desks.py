"""A state store under test: rows are advanced and committed one by one, as the analyst does it."""

from __future__ import annotations

import base64
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import timeline

from bridge.analysis.samples import Line, Samples
from bridge.analysis.settings import AnalysisSettings, Destination, Heartbeat, Route
from bridge.analysis.topology import Call, Chart, Service
from bridge.model import InboxRow, IncidentState, RowKind
from bridge.pipeline import Outcome, advance
from bridge.storage.state import StateStore

FRONT = "front-1"
TABLES = (
    "common", "cursor", "tenant_state", "incident", "episode", "event", "outbox", "quarantine", "history",
    "watch", "beat", "template", "habit", "rarity", "chart", "service_order", "action", "action_on", "lesson",
    "sighting", "link_fit", "measured", "bank_row", "sample_block", "counted", "pending", "alarm", "happened", "past",
    "outlook", "erasure",
)  # fmt: skip
SETTINGS = AnalysisSettings(
    grouping="entities",  # the labels say which alerts are in one incident
    sensitivity=0.7,
    horizon_s=900.0,
    heartbeats=(Heartbeat(match=('alertname="Watchdog"',), missing_after_s=900.0),),
    destinations=(Destination(name="file", wait_s=0.0), Destination(name="chat", wait_s=30.0)),
    routes=(Route(to=("file",)), Route(match=('severity="critical"',), to=("chat",), repeat_s=3600.0)),
)


TOPOLOGY = Chart(
    origin="file", services=(Service(name="shop"), Service(name="db", namespace="web")), calls=(Call(0, 1),)
)


class Desk:
    """Rows one after the other, each advanced and committed as the analyst does it."""

    def __init__(self, store: StateStore, *, compared: bool = False) -> None:
        self.store = store
        self.compared = compared  # with what is loaded, after each row
        self.state = store.load()
        self.number = 0

    def row(self, when: str, kind: RowKind, body: bytes = b"", tenant: str = "default") -> InboxRow:
        self.number += 1
        at = timeline.after(when)
        return timeline.row(self.number, at, body, kind=kind, tenant=tenant)

    def take(self, when: str, kind: RowKind, body: bytes = b"", tenant: str = "default") -> Outcome:
        return self.hear(self.row(when, kind, body, tenant))

    def hear(self, row: InboxRow) -> Outcome:
        outcome = advance(self.state, [row])
        self.store.commit(outcome, front=FRONT, rows=[row])
        if self.compared:
            assert self.store.load().picture() == self.state.picture()
        return outcome

    def tell(self, when: str, kind: RowKind, **told: Any) -> Outcome:
        return self.take(when, kind, json.dumps(told).encode())

    def fires(self, when: str, *alerts: dict[str, str], tenant: str = "default", starts: str = "") -> Outcome:
        starts_at = timeline.after(starts or when)
        sent = [timeline.alert(labels, starts=starts_at) for labels in alerts]
        return self.take(when, RowKind.WEBHOOK, timeline.webhook(sent), tenant)

    def ends(self, when: str, *alerts: dict[str, str]) -> Outcome:
        at = timeline.after(when)
        sent = [timeline.alert(labels, ends=at) for labels in alerts]
        return self.take(when, RowKind.WEBHOOK, timeline.webhook(sent))

    def use(self, when: str, settings: AnalysisSettings) -> Outcome:
        return self.take(when, RowKind.SETTINGS, msgspec.json.encode(settings), "")

    def states(self) -> set[IncidentState]:
        groups = [group for tenant in self.state.tenants.values() for group in tenant.groups.values()]
        return {group.head.state for group in groups}


def host(name: str, host: str, severity: str = "warning", **labels: str) -> dict[str, str]:
    return {"alertname": name, "instance": f"{host}:9100", "severity": severity, **labels}


WATCHDOG = {"alertname": "Watchdog", "severity": "none"}


def mixed(store: StateStore, *, compared: bool = False) -> Desk:
    """Live through heartbeats that come and go, vectors, families, a merge, an end, faults and two tenants."""
    desk = Desk(store, compared=compared)
    desk.use("0s", SETTINGS)
    desk.take("0s", RowKind.TOPOLOGY, msgspec.json.encode(TOPOLOGY), "")
    desk.fires("0s", WATCHDOG, {"alertname": "Watchdog", "severity": "none", "cluster": "eu"})
    desk.fires("1s", host("NodeDown", "db-1", "critical"))
    desk.fires("2s", host("Latency", "web-1"))
    for number, name in enumerate(("Errors", "Restarts", "Queue", "Disk")):
        desk.fires(f"{number + 3}s", host(name, "db-1", node="web-1"))
    vectors = {
        template: base64.b64encode(np.array([number, 1], "<f2").tobytes()).decode()
        for number, template in enumerate(sorted(desk.state.tenants["default"].templates))
    }
    desk.tell("10s", RowKind.VECTORS, model="test", vectors=vectors)
    desk.tell("11s", RowKind.FAMILIES, fit=1, assign=dict.fromkeys(sorted(vectors)[:3], "f:1.1"))
    desk.fires("12s", host("Cert", "mail-9", "info"), tenant="other")
    desk.fires("13s", host("Mail", "mail-9", "info"))
    desk.ends("20s", host("Mail", "mail-9", "info"))
    desk.take("30s", RowKind.WEBHOOK, b"[]")
    desk.take("31s", RowKind.WEBHOOK, timeline.webhook([timeline.alert(host("Good", "ok-1")), {"labels": 7}]))
    incident = min(desk.state.tenants["default"].groups)
    said = {"action": "act-1", "kind": "useful", "incident": incident}
    desk.take("32s", RowKind.FEEDBACK, json.dumps(said).encode())
    desk.fires("14m", WATCHDOG)  # the other one goes missing
    desk.fires("20m", host("Mail", "new-1"))
    desk.ends("21m", host("Mail", "new-1"))
    desk.fires("1310s", host("Mail", "new-1"), starts="20m")  # a late copy, or it fires again
    desk.tell("22m", RowKind.MODE, model_free=True)
    desk.take("22m", RowKind.SAMPLES, samples("22m", [1.0, 2.0] * 150 + [1e9]))
    return desk


def samples(until: str, values: list[float], *, name: str = "load") -> bytes:
    """Return values of one series, one a minute, the last at `until`."""
    end_s = timeline.after(until).timestamp()
    points = tuple((end_s - 60.0 * back, value) for back, value in enumerate(reversed(values)))
    return msgspec.json.encode(
        Samples(name=name, step_s=60.0, lines=(Line(labels={"service": "shop"}, points=points),))
    )


def kept(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of every table."""
    with closing(sqlite3.connect(path)) as db:
        return {table: sorted(db.execute(f"select * from {table}"), key=repr) for table in TABLES}  # noqa: S608


def trigger(path: Path, name: str, when: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"create trigger {name} {when} begin select raise(abort, 'not today'); end")


def untrigger(path: Path, name: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"drop trigger {name}")
