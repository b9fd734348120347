"""Values for tests, sensible unless told otherwise: `event(...)`, `view(...)`, `episode(...)`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from bridge.model import (
    Event,
    EventEpisode,
    EventKind,
    IncidentState,
    IncidentView,
    RootSuspect,
    event_id,
)

#: When every built thing happens unless told otherwise: 2026-11-23 22:00:00 UTC.
START = datetime(2026, 11, 23, 22, 0, 0, tzinfo=UTC)
TENANT = "default"
INCIDENT = "3f1c9a7d52e84b06"


def at(seconds: float) -> datetime:
    """Return START plus some seconds."""
    return START + timedelta(seconds=seconds)


def episode(name: str = "HighLatency", number: int = 0, **changes: Any) -> EventEpisode:
    """Return one firing episode of `name`; `number` tells several apart."""
    labels = {
        "alertname": name,
        "service": "checkout",
        "instance": f"10.0.0.{number}:9100",
        "severity": "critical",
    }
    values: dict[str, Any] = {
        "fingerprint": f"{number:016x}",
        "starts_at": at(number),
        "ends_at": None,
        "source": "default",
        "labels": labels,
        "annotations": {"summary": f"p99 latency of checkout on node {number} above 2 s"},
        "generator_url": "https://prometheus.example.com/graph?g0.expr=up",
        "severity": "critical",
        "demoted": False,
        "why": "it opened the incident" if number == 0 else "same service within 30 s",
    }
    return EventEpisode(**(values | changes))


def view(*, episodes: int | tuple[EventEpisode, ...] = 2, **changes: Any) -> IncidentView:
    """Return an open incident; `episodes` is how many, or which."""
    listed = (
        tuple(episode(number=number) for number in range(episodes)) if isinstance(episodes, int) else episodes
    )
    values: dict[str, Any] = {
        "id": INCIDENT,
        "state": IncidentState.OPEN,
        "origin": "alerts",
        "title": "checkout: HighLatency on 2 instances",
        "summary": "HighLatency fires on 2 instances of checkout since 22:00.",
        "severity": "critical",
        "anomaly": 0.9731,
        "anomaly_reason": "4 times the usual rate for this hour",
        "opened_at": START,
        "closed_at": None,
        "alerts_total": len(listed),
        "alerts_firing": sum(each.ends_at is None for each in listed),
        "common_labels": {"service": "checkout"},
        "episodes": listed,
        "truncated": 0,
        "root": (RootSuspect(fingerprint=f"{0:016x}", starts_at=START, confidence=0.8, why="it came first"),),
        "merged_into": None,
        "split_from": None,
        "escalations": 0,
        "url": "https://tocsin.example.com/incidents/" + INCIDENT,
    }
    return IncidentView(**(values | changes))


def event(
    kind: EventKind = EventKind.OPENED,
    seq: int = 1,
    *,
    incident: IncidentView | None = None,
    tenant: str = TENANT,
    degraded: bool = False,
    **changes: Any,
) -> Event:
    """Return an event of `kind` at START plus `seq` seconds; `changes` go into its incident's view.

    A `closed` or `merged` event has the state that belongs to it unless told otherwise.
    """
    incident = incident or view(**(_state_of(kind, seq) | changes))
    return Event(
        event_id=event_id(tenant, incident.id, seq, kind),
        kind=kind,
        seq=seq,
        at=at(seq),
        tenant=tenant,
        degraded=degraded,
        incident=incident,
    )


def _state_of(kind: EventKind, seq: int) -> dict[str, Any]:
    match kind:
        case EventKind.CLOSED:
            return {"state": IncidentState.CLOSED, "closed_at": at(seq), "alerts_firing": 0}
        case EventKind.MERGED:
            return {"state": IncidentState.MERGED, "merged_into": "77aa77aa77aa77aa"}
        case _:
            return {}
