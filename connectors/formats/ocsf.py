"""Formats `ocsf-incident` and `ocsf-detection`: an event as a finding of the Open Cybersecurity Schema Framework.

Version 1.8.0. `ocsf-incident` is the class Incident Finding (2005, profile `incident`): one incident, with a finding
per alert. `ocsf-detection` is Detection Finding (2004): the incident itself as the one finding, its alerts as related
events and its machines as resources; for consumers that know no incidents, Security Lake's among them.

What links them: `metadata.uid` is the event id, the same in every repeat; `metadata.correlation_uid` the incident,
`metadata.sequence` the event's number in it, `metadata.tenant_uid` the tenant. What the schema has no place for stands
in `unmapped`, as `tocsin.event/1` names it; `comment` is not used, since 1.9 takes it away.

Decision: an incident is New when it opened or reopened and In Progress whatever else happens to it while it is open,
Resolved while nothing of it fires, Closed in the end. That somebody acknowledged it is `metadata.event_code`: no event
says whether that still holds. The schema demands an assignee of every incident; it is the team that the labels name, or
a group by the name `unassigned`, never a person that nobody assigned.
Source: https://schema.ocsf.io/1.8.0/classes/incident_finding and detection_finding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from ipaddress import ip_address
from typing import Any, NamedTuple

from msgspec import UNSET, Struct

from bridge.model import Event, EventEpisode, EventKind, IncidentState, Severity
from connectors.common import OVER, encode, fit, milliseconds
from connectors.wording import RUNBOOK, alert_line, host_of, is_web, label, name_of, suspect, together, worst

VERSION = "1.8.0"
CATEGORY, CATEGORY_NAME = 2, "Findings"


class Coded(NamedTuple):
    """A number of the schema's and the caption that belongs to it."""

    uid: int
    caption: str


INCIDENT_FINDING, DETECTION_FINDING = Coded(2005, "Incident Finding"), Coded(2004, "Detection Finding")
CREATE, UPDATE, CLOSE = Coded(1, "Create"), Coded(2, "Update"), Coded(3, "Close")
NEW, IN_PROGRESS, RESOLVED = Coded(1, "New"), Coded(2, "In Progress"), Coded(4, "Resolved")
CLOSED = Coded(5, "Closed")  # of an incident; 5 of a detection is "Archived"
SEVERITIES: dict[Severity, Coded] = {
    "critical": Coded(5, "Critical"),
    "warning": Coded(3, "Medium"),
    "info": Coded(1, "Informational"),
}
PRIORITIES: dict[Severity, Coded] = {
    "critical": Coded(4, "Critical"),
    "warning": Coded(2, "Medium"),
    "info": Coded(1, "Low"),
}
HOSTNAME, ADDRESS = Coded(1, "Hostname"), Coded(2, "IP Address")
RULE = 1  # `analytic.type_id` of an alerting rule
#: What an incident of these kinds was before: nothing, or over.
CREATING = frozenset({EventKind.OPENED, EventKind.FORECAST, EventKind.RECOMMENDATION})
BEGINNING = CREATING | {EventKind.REOPENED}
#: The labels by which rules name who is to look.
TEAMS = ("team", "owner")
UNASSIGNED = "unassigned"
MAX_VALUES = 50  # machines and alert names that stand in lists of their own


def incident_finding(event: Event, size_bytes: int) -> bytes:
    """Return the event as Incident Finding, JSON of at most `size_bytes`; see `common.fit` for what is cut."""
    return fit(event, size_bytes, _incident)


def detection_finding(event: Event, size_bytes: int) -> bytes:
    """Return the event as Detection Finding, JSON of at most `size_bytes`; see `common.fit` for what is cut."""
    return fit(event, size_bytes, _detection)


def _incident(event: Event) -> bytes:
    view = event.incident
    priority = PRIORITIES[view.severity]
    machines = _machines(event, "finding_info_list[].tags[].value")
    return encode(
        _base(event, INCIDENT_FINDING, _status(event, CLOSED))
        | {
            "assignee_group": {"name": _team(event)},
            "desc": view.summary,
            "finding_info_list": [_finding(event, each) for each in view.episodes] or [_whole(event)],
            "priority_id": priority.uid,
            "priority": priority.caption,
        }
        | ({"src_url": view.url} if is_web(view.url) else {})
        | ({"observables": machines} if machines else {})
    )


def _detection(event: Event) -> bytes:
    machines, resources = _machines(event, "resources[].name"), _resources(event)
    runbook = _runbook(event)
    return encode(
        _base(event, DETECTION_FINDING, _status(event, RESOLVED))
        | {
            "is_alert": True,
            "finding_info": _whole(event)
            | {
                "related_events": [_related(event, each) for each in event.incident.episodes],
                "related_events_count": event.incident.alerts_total,
            },
        }
        | ({"remediation": {"desc": "Runbook", "references": [runbook]}} if runbook else {})
        | ({"resources": resources} if resources else {})
        | ({"observables": machines} if machines else {})
    )


# ---- what both classes have ------------------------------------------------------------------------------


def _base(event: Event, finding: Coded, status: Coded) -> dict[str, Any]:
    view, activity, severity = event.incident, _activity(event), SEVERITIES[event.incident.severity]
    made = {
        "activity_id": activity.uid,
        "activity_name": activity.caption,
        "category_uid": CATEGORY,
        "category_name": CATEGORY_NAME,
        "class_uid": finding.uid,
        "class_name": finding.caption,
        "type_uid": finding.uid * 100 + activity.uid,
        "type_name": f"{finding.caption}: {activity.caption}",
        "severity_id": severity.uid,
        "severity": severity.caption,
        "status_id": status.uid,
        "status": status.caption,
        "status_detail": f"{view.state.value}, {event.kind.value}",
        "time": milliseconds(event.at),
        "start_time": milliseconds(view.opened_at),
        "count": view.alerts_total,
        "message": view.title,
        "metadata": _metadata(event, finding),
        "unmapped": _unmapped(event),
    }
    if view.closed_at is not None:
        end = milliseconds(view.closed_at)
        made |= {"end_time": end, "duration": max(end - milliseconds(view.opened_at), 0)}
    return made


def _metadata(event: Event, finding: Coded) -> dict[str, Any]:
    return {
        "product": {"name": "Tocsin", "vendor_name": "Tocsin"},
        "version": VERSION,
        "profiles": ["incident"] if finding is INCIDENT_FINDING else [],
        "uid": event.event_id,
        "correlation_uid": event.incident.id,
        "sequence": event.seq,
        "tenant_uid": event.tenant,
        "event_code": event.kind.value,
        "log_name": "tocsin",
        "log_version": event.schema,
        "is_truncated": event.incident.truncated > 0,
    }


def _activity(event: Event) -> Coded:
    if event.incident.state in OVER:
        return CLOSE
    return CREATE if event.kind in CREATING else UPDATE


def _status(event: Event, over: Coded) -> Coded:
    if event.incident.state in OVER:
        return over
    if event.incident.state is IncidentState.QUIET:
        return RESOLVED
    return NEW if event.kind in BEGINNING else IN_PROGRESS


def _team(event: Event) -> str:
    return next((team for name in TEAMS if (team := label(event, name).strip())), UNASSIGNED)


def _unmapped(event: Event) -> dict[str, Any]:
    """Return what the schema has no place for; what is nothing is left out."""
    view = event.incident
    told: dict[str, Any] = {
        "origin": view.origin,
        "alerts_total": view.alerts_total,
        "alerts_firing": view.alerts_firing,
        "truncated": view.truncated,
        "escalations": view.escalations,
        "anomaly": view.anomaly,
        "anomaly_reason": view.anomaly_reason,
        "common_labels": view.common_labels,
        "root": view.root,
        "suspect": suspect(event),
        "together": together(event),
        "merged_into": view.merged_into,
        "split_from": view.split_from,
        "expired": view.expired,
        "degraded": event.degraded,
        "note": event.note,
        "author": event.author,
        "forecast": event.forecast,
        "recommendations": event.recommendations,
    }
    return {key: value for key, value in told.items() if _says_something(value)}


def _says_something(value: object) -> bool:
    if isinstance(value, Struct):
        return True
    return value is not UNSET and value is not None and value not in ("", (), {})


# ---- alerts and machines ---------------------------------------------------------------------------------


def _whole(event: Event) -> dict[str, Any]:
    """Return the incident itself as a finding."""
    view = event.incident
    alerts = list(dict.fromkeys(map(name_of, view.episodes)))[:MAX_VALUES]
    sources = list(dict.fromkeys(each.source for each in view.episodes))[:MAX_VALUES]
    made = {
        "uid": view.id,
        "title": view.title,
        "desc": view.summary,
        "created_time": milliseconds(view.opened_at),
        "modified_time": milliseconds(event.at),
        **_seen(event, view.opened_at, view.closed_at),
        "tags": _tags(view.common_labels),
        "types": alerts,
        "data_sources": sources,
        "src_url": view.url if is_web(view.url) else "",
    }
    return {key: value for key, value in made.items() if value not in ("", [])}


def _finding(event: Event, episode: EventEpisode) -> dict[str, Any]:
    """Return one alert as a finding; `related_events_count` is how often it has fired in the incident."""
    name = name_of(episode)
    made = {
        "uid": episode.fingerprint,
        "title": alert_line(episode),
        "desc": _text(episode),
        "created_time": milliseconds(episode.starts_at),
        **_seen(event, episode.starts_at, episode.ends_at),
        "types": [name],
        "analytic": {"name": name, "type_id": RULE, "type": "Rule"},
        "data_sources": [episode.source],
        "related_events_count": episode.times,
        "tags": _tags(episode.labels),
        "src_url": episode.generator_url if is_web(episode.generator_url) else "",
    }
    return {key: value for key, value in made.items() if value not in ("", [])}


def _related(event: Event, episode: EventEpisode) -> dict[str, Any]:
    """Return one alert as a related event; `count` is how often it has fired in the incident."""
    severity = SEVERITIES[episode.severity]
    made = {
        "uid": episode.fingerprint,
        "title": alert_line(episode),
        "desc": _text(episode),
        "created_time": milliseconds(episode.starts_at),
        **_seen(event, episode.starts_at, episode.ends_at),
        "severity_id": severity.uid,
        "severity": severity.caption,
        "status": "resolved" if episode.ends_at is not None else "firing",
        "count": episode.times,
        "tags": _tags(episode.labels),
    }
    return {key: value for key, value in made.items() if value not in ("", [])}


def _seen(event: Event, begin: datetime, end: datetime | None) -> dict[str, int]:
    last = end if end is not None else max(event.at, begin)
    return {"first_seen_time": milliseconds(begin), "last_seen_time": milliseconds(last)}


def _text(episode: EventEpisode) -> str:
    return episode.annotations.get("summary") or episode.annotations.get("description") or ""


def _tags(labels: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in sorted(labels.items())]


def _hosts(episodes: Iterable[EventEpisode]) -> dict[str, EventEpisode]:
    """Return the machines that alerts name, at most 50, each with its worst alert."""
    found: dict[str, EventEpisode] = {}
    for each in episodes:
        host = host_of(each.labels)
        if host and len(found) < MAX_VALUES:
            found.setdefault(host, each)
    return found


def _machines(event: Event, where: str) -> list[dict[str, Any]]:
    """Return the machines as observables: what an analyst searches all sources by."""
    return [
        {"name": where, "type_id": kind.uid, "type": kind.caption, "value": host}
        for host in _hosts(event.incident.episodes)
        for kind in (ADDRESS if _is_address(host) else HOSTNAME,)
    ]


def _resources(event: Event) -> list[dict[str, Any]]:
    return [
        {"name": host, "type": "host", ("ip" if _is_address(host) else "hostname"): host}
        | ({"namespace": episode.labels["namespace"]} if episode.labels.get("namespace") else {})
        for host, episode in _hosts(event.incident.episodes).items()
    ]


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _runbook(event: Event) -> str:
    found = worst(event)
    url = found.annotations.get(RUNBOOK, "").strip() if found else ""
    return url if is_web(url) else ""
