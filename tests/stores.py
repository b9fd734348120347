"""Stores with something in them, filled by the same path as live ones."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
from timeline import START, alert, webhook

from bridge import pipeline
from bridge.analysis import gate
from bridge.analysis.gate import LinkFit
from bridge.analysis.learning import Linker, Table
from bridge.analysis.settings import AnalysisSettings
from bridge.analysis.trees import NO_TREES
from bridge.analysis.verdicts import Evidence, Verdict
from bridge.model import InboxRow, RowKind
from bridge.storage.state import StateStore

FRONT = "front-1"
WON = Verdict(
    way="linker", shift=0.5, reason="linker is best", units=60, examined=24, of="isolated bursts",
    evidence=(
        Evidence(way="entities", f1=0.6, precision=0.7, recall=0.5),
        Evidence(way="bursts", f1=0.5, precision=0.4, recall=0.8),
        Evidence(way="linker", f1=0.9, precision=0.9, recall=0.9, shift=0.5),
    ),
)  # fmt: skip


def row(
    number: int, at: datetime, body: bytes, *, tenant: str = "default", kind: RowKind = RowKind.WEBHOOK
) -> InboxRow:
    """Return an inbox row."""
    source = "default" if kind is RowKind.WEBHOOK else ""
    return InboxRow(id=number, received_at=at, tenant=tenant, source=source, kind=kind, body=body)


def fill(path: Path, rows: Sequence[InboxRow]) -> None:
    """Put rows through the pipeline into the store at `path`."""
    with closing(StateStore(path)) as store:
        state = store.load()
        for each in rows:
            store.commit(pipeline.advance(state, [each]), front=FRONT, rows=[each])


def firing(name: str, at: datetime, *, severity: str = "warning", **labels: str) -> bytes:
    """Return a webhook in which one alert fires, in a group of its own."""
    told = {"alertname": name, "severity": severity, "service": name.lower(), **labels}
    return webhook([alert(told, starts=at)], group=f"{{}}:{{alertname={name!r}}}")


def apart(count: int, *, tenant: str = "default", first: int = 1) -> list[InboxRow]:
    """Return rows that open `count` incidents an hour apart, every third critical."""
    rows = []
    for number in range(count):
        at = START + timedelta(hours=number)
        severity = "critical" if number % 3 == 0 else "warning"
        body = firing(f"Alert{number:03}", at, severity=severity)
        rows.append(row(first + number, at, body, tenant=tenant))
    return rows


def linker_row(
    number: int, at: datetime, verdict: Verdict, *, tenant: str = "default", fit: int = 1
) -> InboxRow:
    """Return the row that brings a linker which has learned nothing but its verdict."""
    table = Table(families=("a", "b"), company=bytes(8), profile=bytes(24))
    linker = Linker(table=table, common={}, unlabelled=NO_TREES, pairs=40, labelled=7)
    body = gate.linker_row(LinkFit(fit=fit, linker=linker, verdict=verdict))
    return row(number, at, body, tenant=tenant, kind=RowKind.LINKER)


def settings_row(number: int, at: datetime, settings: AnalysisSettings | None = None) -> InboxRow:
    """Return the row by which settings come into force."""
    body = msgspec.json.encode(settings or AnalysisSettings())
    return row(number, at, body, tenant="", kind=RowKind.SETTINGS)
