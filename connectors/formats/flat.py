"""An event as one flat record, for tables: the columns that people ask a database for.

Rules: pure; one record per event, with the same columns whatever the event; `None` is "not known". Names that are keys
of tables (rule, team, service, ...) are cut at `NAME_CHARACTERS`, because no index takes a label of a megabyte.
The columns and what they mean stand in docs/bi.md; a column may be added, none changes its meaning.

Decision: what an incident is about is told by its worst alert, as everywhere else: `rule`, `service`, `team` of an
incident are what all its alerts share, else the worst alert's. Rejected: a row per alert alone. It makes every question
about incidents a join, and everybody who counts rows counts alerts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from bridge.model import Event, EventEpisode, EventKind, RootSuspect
from connectors.common import clip, encode, fit
from connectors.wording import RUNBOOK, label, name_of, place_of, worst

#: Longest name that is a key: 4 bytes each still leave an index of PostgreSQL (2,704 bytes) room for two.
NAME_CHARACTERS = 200
#: Events about what may come; their `incident` is no incident.
AHEAD = frozenset({EventKind.FORECAST, EventKind.RECOMMENDATION})
#: Below this an event is as short as it gets.
SMALLEST_BYTES = 512
#: NUL as JSON writes it, and not the end of a backslash that is written as two.
_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")

#: Column -> type, as PostgreSQL and DuckDB both name it.
COLUMNS: dict[str, str] = {
    "event_id": "uuid", "tenant": "text", "incident": "text", "seq": "integer", "kind": "text", "at": "timestamptz",
    "state": "text", "origin": "text", "severity": "text", "title": "text", "summary": "text",
    "opened_at": "timestamptz", "closed_at": "timestamptz",
    "anomaly": "double precision", "anomaly_reason": "text",
    "rule": "text", "team": "text", "service": "text", "namespace": "text", "cluster": "text", "place": "text",
    "alerts_total": "integer", "alerts_firing": "integer", "alerts_demoted": "integer", "alerts_unlisted": "integer",
    "firings": "integer", "escalations": "integer",
    "root_rule": "text", "root_confidence": "double precision", "root_why": "text",
    "merged_into": "text", "split_from": "text", "degraded": "boolean", "expired": "boolean", "url": "text",
    "author": "text", "note": "text",
    "forecast_aim": "text", "forecast_name": "text", "forecast_until": "timestamptz",
    "forecast_probability": "double precision", "forecast_reference": "double precision",
    "forecast_published": "boolean",
}  # fmt: skip
#: The same of each alert of an event, which `alerts` lists.
ALERT_COLUMNS: dict[str, str] = {
    "source": "text", "fingerprint": "text", "rule": "text", "severity": "text",
    "team": "text", "service": "text", "namespace": "text", "cluster": "text", "place": "text",
    "starts_at": "timestamptz", "ends_at": "timestamptz", "firings": "integer",
    "demoted": "boolean", "expired": "boolean", "disputed": "boolean", "suppressed": "text",
    "why": "text", "summary": "text", "runbook_url": "text",
}  # fmt: skip


class Named(NamedTuple):
    """The labels that say whose something is."""

    team: str = "team"
    service: str = "service"


def record(event: Event, named: Named) -> dict[str, Any]:
    """Return the event as `COLUMNS`, and its alerts as `alerts`, each of `ALERT_COLUMNS` and its `labels`."""
    view, first = event.incident, worst(event)
    return {
        "event_id": event.event_id, "tenant": event.tenant, "incident": view.id, "seq": event.seq,
        "kind": event.kind, "at": event.at,
        "state": view.state, "origin": view.origin, "severity": view.severity,
        "title": view.title, "summary": view.summary,
        "opened_at": view.opened_at, "closed_at": view.closed_at,
        "anomaly": view.anomaly, "anomaly_reason": view.anomaly_reason or None,
        "rule": _name(name_of(first)) if first else None,
        "team": _name(label(event, named.team)), "service": _name(label(event, named.service)),
        "namespace": _name(label(event, "namespace")), "cluster": _name(label(event, "cluster")),
        "place": _name(place_of(first.labels) if first else ""),
        "alerts_total": view.alerts_total, "alerts_firing": view.alerts_firing,
        "alerts_demoted": sum(each.demoted for each in view.episodes), "alerts_unlisted": view.truncated,
        "firings": sum(each.times for each in view.episodes) + view.truncated, "escalations": view.escalations,
        **_root(event, view.root[0] if view.root else None),
        "merged_into": view.merged_into, "split_from": view.split_from,
        "degraded": event.degraded, "expired": view.expired, "url": view.url or None,
        "author": event.author or None, "note": event.note or None,
        **_forecast(event),
        "alerts": [] if event.kind in AHEAD else [_alert(each, named) for each in view.episodes],
    }  # fmt: skip


def _root(event: Event, first: RootSuspect | None) -> dict[str, Any]:
    if first is None:
        return {"root_rule": None, "root_confidence": None, "root_why": None}
    names = {each.fingerprint: name_of(each) for each in event.incident.episodes}
    return {
        "root_rule": _name(names.get(first.fingerprint, "")),
        "root_confidence": first.confidence,
        "root_why": first.why,
    }


def _forecast(event: Event) -> dict[str, Any]:
    told = event.forecast
    if told is msgspec.UNSET or event.kind is not EventKind.FORECAST:
        return dict.fromkeys(each for each in COLUMNS if each.startswith("forecast_"))
    return {
        "forecast_aim": told.aim,
        "forecast_name": _name(told.name),
        "forecast_until": told.until,
        "forecast_probability": told.probability,
        "forecast_reference": told.reference,
        "forecast_published": told.published,
    }


def _alert(episode: EventEpisode, named: Named) -> dict[str, Any]:
    labels: Mapping[str, str] = episode.labels
    return {
        "source": episode.source, "fingerprint": episode.fingerprint,
        "rule": _name(name_of(episode)), "severity": episode.severity,
        "team": _name(labels.get(named.team, "")), "service": _name(labels.get(named.service, "")),
        "namespace": _name(labels.get("namespace", "")), "cluster": _name(labels.get("cluster", "")),
        "place": _name(place_of(labels)),
        "starts_at": episode.starts_at, "ends_at": episode.ends_at, "firings": episode.times,
        "demoted": episode.demoted, "expired": episode.expired, "disputed": episode.disputed,
        "suppressed": episode.suppressed or None, "why": episode.why,
        "summary": episode.annotations.get("summary") or episode.annotations.get("description"),
        "runbook_url": episode.annotations.get(RUNBOOK), "labels": labels,
    }  # fmt: skip


def _name(text: str) -> str | None:
    return clip(text, NAME_CHARACTERS) or None


def fitted(event: Event, named: Named, size_bytes: int) -> bytes:
    """Return the record as JSON of at most `size_bytes`, shortened as `common.fit` does; never ids and counts.

    NUL, which no database takes in a text, becomes U+FFFD.
    """
    whole = record(event, named)
    encoded, room = encode(whole), size_bytes
    counts = {name: whole[name] for name in ("alerts_demoted", "firings")}
    while len(encoded) > size_bytes and room >= SMALLEST_BYTES:
        shorter = msgspec.json.decode(fit(event, room), type=Event)
        encoded, room = encode({**record(shorter, named), **counts}), room * 3 // 4
    return _NUL.sub(rb"\1\\ufffd", encoded) if rb"\u0000" in encoded else encoded
