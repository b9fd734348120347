"""An incident's event as an event of Google's Unified Data Model (UDM), as Google SecOps (Chronicle) takes it.

What is searched by stands where UDM has it: `metadata.product_event_type` (`incident.opened`, ...),
`metadata.product_log_id` (the event id), `principal.hostname` or `.ip` and `principal.application` (the machine and the
service), `security_result.rule_name`, `.severity`, `.alert_state`. The first security result is the incident, with its
id and counts in `detection_fields`; each further one is an alert, with its labels. Labels that all alerts share stand
in `additional`.

Decision: `GENERIC_EVENT`, the one type that demands no nouns. An alert can be about anything, a machine or none; an
event of another type without the nouns that it demands is refused, and a request with it.
Decision: `metadata.id` follows from the event id, so that a repeat has the same. Whether SecOps drops repeats by it is
nowhere written, so that nothing is promised.
Source: cloud.google.com/chronicle/docs/reference/udm-field-list and .../unified-data-model/udm-usage.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from datetime import datetime
from ipaddress import ip_address
from typing import Any

from bridge.model import NAMESPACE, Event, EventEpisode, Severity
from connectors.common import OVER, clip, encode, one_line, rfc3339, smallest
from connectors.wording import (
    AHEAD,
    alert_line,
    host,
    host_of,
    is_web,
    label,
    name_of,
    suspect,
    together,
    worst,
)

VENDOR = PRODUCT = "Tocsin"
SEVERITIES: dict[Severity, str] = {"critical": "CRITICAL", "warning": "MEDIUM", "info": "INFORMATIONAL"}
FIRING, OVER_STATE = "ALERTING", "NOT_ALERTING"
#: How much is told, from all to the least: alerts, labels of one of them, characters of a text.
DETAILS = ((25, 30, 1024), (8, 10, 300), (0, 0, 100))
TITLE_CHARACTERS, MAX_NOUNS, LINK_CHARACTERS = 200, 20, 1000
TERSE = 100


def udm(event: Event, size_bytes: int) -> bytes:
    """Return the event as JSON of at most `size_bytes`: alerts and texts give way, never ids and counts.

    Below 2 KiB nothing is promised.
    """
    return smallest((encode(_udm(event, *details)) for details in DETAILS), size_bytes)


def _udm(event: Event, alerts: int, labels: int, characters: int) -> dict[str, Any]:
    view = event.incident
    made: dict[str, Any] = {
        "metadata": {
            "id": str(uuid.uuid5(NAMESPACE, f"udm\n{event.event_id}")),
            "event_timestamp": rfc3339(event.at),
            "event_type": "GENERIC_EVENT",
            "vendor_name": VENDOR,
            "product_name": PRODUCT,
            "product_event_type": f"incident.{event.kind.value}",
            "product_log_id": event.event_id,
            "description": _text(view.title, min(TITLE_CHARACTERS, characters)),
            **_link("url_back_to_product", view.url),
        },
        "security_result": [
            _incident(event, characters),
            *(_alert(each, labels, characters) for each in view.episodes[:alerts]),
        ],
    }
    principal = _noun(host(event), characters) | _application(event, characters)
    about = [_noun(each, characters) for each in _other_hosts(event, characters)] if alerts else []
    shared = _labels(view.common_labels, labels, characters)
    return (
        made
        | ({"principal": principal} if principal else {})
        | ({"about": about} if about else {})
        | ({"additional": {each["key"]: each["value"] for each in shared}} if shared else {})
    )


def _incident(event: Event, characters: int) -> dict[str, Any]:
    view, found = event.incident, worst(event)
    return {
        "summary": _text(view.title, min(TITLE_CHARACTERS, characters)),
        "severity": SEVERITIES[view.severity],
        "severity_details": view.severity,
        "alert_state": OVER_STATE if view.state in OVER or event.kind in AHEAD else FIRING,
        "category_details": [view.origin],
        "first_discovered_time": rfc3339(view.opened_at),
        "detection_fields": [
            {"key": key, "value": value} for key, value in _fields(event, characters) if value
        ],
        **({"rule_name": _text(name_of(found), characters)} if found else {}),
        **(
            {"description": _text(view.summary, 2 * characters)}
            if view.summary and characters > TERSE
            else {}
        ),
        **_time("last_discovered_time", view.closed_at),
        **_link("url_back_to_product", view.url),
    }


def _fields(event: Event, characters: int) -> Iterator[tuple[str, str]]:
    view = event.incident
    yield "incident_id", view.id
    yield "incident_state", view.state.value
    yield "sequence", str(event.seq)
    yield "tenant", _text(event.tenant, characters)
    yield "alerts", f"{view.alerts_firing} of {view.alerts_total} firing"
    yield "alerts_total", str(view.alerts_total)
    yield "alerts_firing", str(view.alerts_firing)
    yield "anomaly", "" if view.anomaly is None else f"{view.anomaly:.4f}"
    yield "merged_into", view.merged_into or ""
    yield "split_from", view.split_from or ""
    yield "decided_without_models", "true" if event.degraded else ""
    yield "first_suspect", _text(suspect(event), characters)
    yield "one_incident_because", _text(together(event), characters)


def _alert(episode: EventEpisode, labels: int, characters: int) -> dict[str, Any]:
    about = _noun(host_of(episode.labels), characters)
    summary = episode.annotations.get("summary") or episode.annotations.get("description") or ""
    return {
        "rule_name": _text(name_of(episode), characters),
        "summary": _text(summary, characters) or _text(alert_line(episode), characters),
        "severity": SEVERITIES[episode.severity],
        "severity_details": episode.severity,
        "alert_state": FIRING if episode.ends_at is None else OVER_STATE,
        "first_discovered_time": rfc3339(episode.starts_at),
        **({"rule_labels": found} if (found := _labels(episode.labels, labels, characters)) else {}),
        **({"about": about} if about else {}),
        **_time("last_discovered_time", episode.ends_at),
        **_link("url_back_to_product", episode.generator_url),
    }


def _labels(labels: dict[str, str], count: int, characters: int) -> list[dict[str, str]]:
    kept = sorted(labels.items())[:count]
    return [{"key": _text(key, characters), "value": _text(value, characters)} for key, value in kept]


def _noun(name: str, characters: int) -> dict[str, Any]:
    """Return a machine: UDM wants an address and a name in different fields."""
    name = _text(name, min(255, characters))
    if not name:
        return {}
    try:
        return {"ip": [str(ip_address(name))]}
    except ValueError:
        return {"hostname": name}


def _application(event: Event, characters: int) -> dict[str, str]:
    service = label(event, "service") or label(event, "job")
    return {"application": _text(service, characters)} if service else {}


def _other_hosts(event: Event, characters: int) -> Iterable[str]:
    own = host(event)
    found = (host_of(each.labels)[:characters] for each in event.incident.episodes)
    return list(dict.fromkeys(each for each in found if each and each != own[:characters]))[:MAX_NOUNS]


def _text(text: str, characters: int) -> str:
    return clip(one_line(text[: 2 * characters]), characters)


def _time(field: str, time: datetime | None) -> dict[str, str]:
    return {} if time is None else {field: rfc3339(time)}


def _link(field: str, url: str) -> dict[str, str]:
    return {field: url} if is_web(url) and len(url) <= LINK_CHARACTERS else {}
