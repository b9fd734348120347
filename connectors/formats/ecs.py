"""The Elastic Common Schema (ECS): an event as a document that Kibana and detection rules know how to read.

`event.kind` is `alert`: ECS has no `incident`, and `signal` is what Elastic's own rules write. What people search by
stands in ECS fields: `rule.name`, `host.name`, `related.hosts`, `service.name`, `orchestrator.*`, `log.level`,
`event.severity` (1..10, as in CEF), `event.risk_score` (how unusual, 0..100). What ECS has no word for stands under
`tocsin`, a name that ECS leaves to its users; the whole event is the text `event.original`, which is stored and not
indexed.

Rule: the set of field names is fixed but for `labels`, which is bounded and whose names are made harmless. Labels and
annotations of alerts would otherwise become thousands of fields, and two that differ by a dot (`a`, `a.b`) make a
document that Elasticsearch refuses.

Source: elastic/ecs 9.4.0, generated/ecs/ecs_flat.yml; the fields used are the same since 8.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

import msgspec

from bridge.model import Event, EventEpisode, EventKind
from connectors.common import clip, encode, fit_quoted, one_line, rfc3339, smallest, ten_severity
from connectors.wording import (
    RUNBOOK,
    alert_line,
    host,
    host_of,
    is_web,
    label,
    name_of,
    place_of,
    suspect,
    together,
    worst,
)

VERSION = "9.4.0"
#: Kibana reads no keyword longer than this (`ignore_above` of ECS).
KEYWORD_CHARACTERS = 1024
NAMES, LABELS, LABEL_CHARACTERS = 100, 32, 64
#: How many alerts are listed, how long their texts are: as much as fits. The whole event holds all of them.
LISTED = ((20, 500), (5, 200), (0, 200), (0, 40))
#: Below this the whole event is left out rather than cut to nothing.
ORIGINAL_BYTES = 4096
_TYPES = {
    EventKind.OPENED: "start",
    EventKind.CLOSED: "end",
    EventKind.MERGED: "end",
    EventKind.FORECAST: "info",
    EventKind.RECOMMENDATION: "info",
}
_NO_NAME = re.compile(r"[^A-Za-z0-9_]")
_MICROSECOND = timedelta(microseconds=1)


def document(event: Event, size_bytes: int) -> bytes:
    """Return the event as a JSON document of at most `size_bytes`, without line ends and without `event.original`.

    Below about 600 bytes nothing can be promised.
    """
    return smallest(_made(event), size_bytes)


def with_original(made: bytes, event: Event, size_bytes: int) -> bytes:
    """Return a document with the whole event in it, of at most `size_bytes`; as it was where there is no room."""
    room = size_bytes - len(made) - len('"original":,')
    if room < ORIGINAL_BYTES:
        return made
    quoted = encode(fit_quoted(event, room))
    # The first that looks so is the key: what stands before it has no texts of others, and texts hold no bare quotes.
    return made.replace(b'"event":{', b'"event":{"original":' + quoted + b",", 1)


def _made(event: Event) -> Iterator[bytes]:
    for count, characters in LISTED:
        yield encode(_document(event, count, characters))


def _document(event: Event, count: int, characters: int) -> dict[str, Any]:
    is_whole = characters > LISTED[-1][1]
    document: dict[str, Any] = {
        "@timestamp": rfc3339(event.at),
        "ecs": {"version": VERSION},
        "message": _message(event, characters),
        "event": _event(event, characters),
        "log": {"level": event.incident.severity},
        "observer": {"vendor": "Tocsin", "product": "Tocsin", "type": "alertmanager"},
        "tocsin": _tocsin(event, count, characters),
    }
    if is_whole:
        document |= _affected(event)
        document["tags"] = ["tocsin", *(["degraded"] if event.degraded else [])]
    return document


def _message(event: Event, characters: int) -> str:
    view = event.incident
    title = _line(view.title, characters)
    summary = _line(view.summary, characters * 2) if characters > LISTED[-1][1] else ""
    return f"{title}: {summary}" if summary.strip() else title


def _event(event: Event, characters: int) -> dict[str, Any]:
    view = event.incident
    found = worst(event)
    runbook = found.annotations.get(RUNBOOK, "").strip() if found else ""
    fields: dict[str, Any] = {
        "kind": "alert",
        "type": [_TYPES.get(event.kind, "change")],
        "id": event.event_id,
        "action": f"incident-{event.kind.value}",
        "sequence": event.seq,
        "severity": ten_severity(view),
        "module": "tocsin",
        "dataset": "tocsin.incident",
        "start": rfc3339(view.opened_at),
    }
    if view.anomaly is not None:
        fields["risk_score"] = round(view.anomaly * 100, 1)
    if view.closed_at is not None:
        fields["end"] = rfc3339(view.closed_at)
        fields["duration"] = max(0, (view.closed_at - view.opened_at) // _MICROSECOND * 1000)
    if characters > LISTED[-1][1]:
        reason = suspect(event) or together(event)
        fields |= _given(reason=_line(reason, KEYWORD_CHARACTERS))
        fields |= _given(url=_web(view.url), reference=_web(runbook))
    return fields


def _web(url: str) -> str:
    return url if len(url) <= KEYWORD_CHARACTERS and is_web(url) else ""


def _affected(event: Event) -> dict[str, Any]:
    """Return what it is about, in the fields that others name machines and services with."""
    view = event.incident
    found = worst(event)
    hosts = _distinct(host_of(each.labels) for each in view.episodes[:NAMES])
    cluster, namespace = _keyword(label(event, "cluster")), _keyword(label(event, "namespace"))
    runbook = _web(found.annotations.get(RUNBOOK, "").strip()) if found else ""
    orchestrator = _given(cluster=_given(name=cluster), namespace=namespace)
    author = "" if event.author is msgspec.UNSET else _keyword(event.author)
    return _given(
        rule=_given(name=_keyword(name_of(found)) if found else "", reference=runbook),
        host=_given(name=_keyword(host(event))),
        service=_given(name=_keyword(label(event, "service"))),
        orchestrator=orchestrator,
        related=_given(hosts=hosts),
        labels=_labels(view.common_labels),
        user=_given(name=author),
    )


def _tocsin(event: Event, count: int, characters: int) -> dict[str, Any]:
    view = event.incident
    fields: dict[str, Any] = {
        "tenant": event.tenant,
        "incident": {
            "id": view.id,
            "state": view.state.value,
            "origin": view.origin,
            "escalations": view.escalations,
            "alerts_total": view.alerts_total,
            "alerts_firing": view.alerts_firing,
        },
    }
    if characters <= LISTED[-1][1]:
        return fields
    fields["incident"] |= _given(
        title=_line(view.title, characters),
        names=_distinct(map(name_of, view.episodes[:NAMES])),
        merged_into=view.merged_into,
        split_from=view.split_from,
    )
    fields["incident"]["expired"] = view.expired
    if event.note is not msgspec.UNSET:
        fields["note"] = clip(event.note, characters)
    listed = view.episodes[:count]
    fields["alerts"] = [_alert(each, characters) for each in listed]
    fields["alerts_not_listed"] = view.truncated + len(view.episodes) - len(listed)
    return fields


def _alert(episode: EventEpisode, characters: int) -> dict[str, Any]:
    summary = episode.annotations.get("summary") or episode.annotations.get("description") or ""
    return _given(
        name=_keyword(name_of(episode)),
        text=_line(alert_line(episode), characters),
        host=_keyword(host_of(episode.labels)),
        place=_keyword(place_of(episode.labels)),
        severity=episode.severity,
        source=_keyword(episode.source),
        fingerprint=episode.fingerprint,
        starts_at=rfc3339(episode.starts_at),
        ends_at=None if episode.ends_at is None else rfc3339(episode.ends_at),
        summary=_line(summary, characters),
        why=_line(episode.why, characters),
    )


def _labels(labels: dict[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in sorted(labels):
        if len(found) == LABELS:
            break
        harmless = _NO_NAME.sub("_", name[:LABEL_CHARACTERS])
        if harmless and labels[name]:
            found.setdefault(harmless, _line(labels[name], LABEL_CHARACTERS * 4))
    return found


def _line(text: str, characters: int) -> str:
    # Cut first: an annotation may be a megabyte.
    return one_line(clip(text, characters))


def _keyword(text: str) -> str:
    return _line(text, LABEL_CHARACTERS * 4)


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(_keyword(text) for text in texts if text))


def _given(**fields: Any) -> dict[str, Any]:
    """Return the fields that say something; an empty text or list is none."""
    return {name: value for name, value in fields.items() if value not in (None, "", [], {})}
