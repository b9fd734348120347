"""Incidents in their working form, for tests of thinking: `group([episode("NodeDown", host="db-1")])`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec.structs import replace

from bridge.analysis import incidents
from bridge.analysis.incidents import Group
from bridge.model import SEVERITY_RANK, Episode, Origin, Severity

START = datetime(2026, 1, 5, 3, 0, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """Return START plus some seconds."""
    return START + timedelta(seconds=seconds)


def episode(
    name: str = "NodeDown",
    start: float = 0.0,
    severity: Severity = "warning",
    *,
    ended: float | None = None,
    text: str = "",
    changes: dict[str, Any] | None = None,
    **labels: str,
) -> Episode:
    """Return an episode that began at `start`; its fingerprint follows from name and labels."""
    told = {"alertname": name, "severity": severity, **labels}
    values: dict[str, Any] = {
        "tenant": "default", "source": "am", "fingerprint": "-".join(told.values()), "starts_at": at(start),
        "ends_at": None if ended is None else at(ended), "seen_at": at(start), "labels": told,
        "annotations": {"summary": text} if text else {}, "generator_url": "", "group_key": "",
        "severity": severity, "template": name, "incident": "", "why": "",
    }  # fmt: skip
    return Episode(**(values | (changes or {})))


def group(episodes: Sequence[Episode], *, origin: Origin = "alerts", opened: float = 0.0) -> Group:
    """Return an open incident of these episodes, the first of which founded it."""
    made = incidents.found(episodes[0], origin, at(opened), degraded=False)
    for each in episodes:
        made.add(each)
    worst = max((each.severity for each in episodes), key=SEVERITY_RANK.__getitem__)
    newest = max(each.seen_at for each in episodes)
    made.head = replace(made.head, severity=worst, active_at=newest)
    return made
