"""The one shape in which an incident is shown: API, replay and export all build it here.

Rules: pure; the same incident and episodes give the same bytes, whatever order they were stored or read in.
The field names are fixed (those of `tocsin replay --incidents`): people grep them, tests compare files of them.

Decision: plain dicts in a fixed key order rather than a second set of Structs: the shape is an answer,
nothing in the program reads it back, and `msgspec` writes it without a copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from bridge.analysis.feedback import Action
from bridge.analysis.topology import Topology
from bridge.model import SEVERITY_RANK, CausalGraph, Episode, Incident, RootSuspect, Severity, Word

Record = dict[str, Any]
#: The label that says whose an alert is.
TEAM = "team"


#: The columns of an incident as a row of a table, in order, with their types as SQL calls them.
FLAT = {
    "tenant": "text", "incident": "text", "state": "text", "origin": "text", "severity": "text", "title": "text",
    "summary": "text", "opened_at": "timestamptz", "acknowledged_at": "timestamptz", "closed_at": "timestamptz",
    "time_to_acknowledge_s": "double", "time_to_close_s": "double", "anomaly": "double", "rule": "text", "team": "text",
    "service": "text", "namespace": "text", "cluster": "text", "alerts_total": "integer", "alerts_firing": "integer",
    "firings": "integer", "firings_demoted": "integer", "escalations": "integer", "reopened": "integer",
    "verdict": "text", "root_rule": "text", "root_confidence": "double", "merged_into": "text", "split_from": "text",
    "degraded": "boolean",
}  # fmt: skip


class ToldEpisode(Word, frozen=True, kw_only=True):
    """What a row of a table needs of an episode; the rest of one is not decoded."""

    fingerprint: str
    starts_at: datetime
    labels: dict[str, str]
    severity: Severity
    demoted: bool = False

    @property
    def name(self) -> str:
        """The alert name."""
        return self.labels.get("alertname") or "unnamed alert"


class Told(Word, frozen=True, kw_only=True):
    """What a row of a table needs beside the incident itself."""

    episodes: Sequence[ToldEpisode] = ()
    acknowledged_at: datetime | None = None  # first, whatever came afterwards
    escalations: int = 0
    reopened: int = 0


def incident_record(incident: Incident, episodes: Iterable[Episode]) -> Record:
    """Return the whole incident as `--incidents` and the API show it; a merged one has no episodes."""
    return {
        **_heading(incident),
        "episodes": [_episode(each) for each in sorted(episodes, key=_earliest_first)],
        **_ending(incident),
        "causal_graph": _graph(incident.graph),
    }


def incident_item(incident: Incident, episode_count: int) -> Record:
    """Return the incident as a list shows it: the count in place of the episodes."""
    return {**_heading(incident), "episode_count": episode_count, **_ending(incident)}


def flat_record(incident: Incident, told: Told, service: str) -> Record:
    """Return the incident as one row of a table: `FLAT` in this order, no value nested.

    `service` is the label that names one.
    """
    worst = min(told.episodes, key=_worst_first, default=None)
    labels = {**(worst.labels if worst else {}), **incident.common_labels}
    first = incident.root[0] if incident.root else None
    names = {each.fingerprint: each.name for each in told.episodes}
    return {
        "tenant": incident.tenant,
        "incident": incident.id,
        "state": incident.state.value,
        "origin": incident.origin,
        "severity": incident.severity,
        "title": incident.title,
        "summary": incident.summary,
        "opened_at": incident.opened_at,
        "acknowledged_at": told.acknowledged_at,
        "closed_at": incident.closed_at,
        "time_to_acknowledge_s": _seconds(incident.opened_at, told.acknowledged_at),
        "time_to_close_s": _seconds(incident.opened_at, incident.closed_at),
        "anomaly": incident.anomaly.value,
        "rule": worst.name if worst else None,
        "team": labels.get(TEAM) or None,
        "service": labels.get(service) or None,
        "namespace": labels.get("namespace") or None,
        "cluster": labels.get("cluster") or None,
        "alerts_total": incident.alerts_total,
        "alerts_firing": incident.alerts_firing,
        "firings": len(told.episodes),
        "firings_demoted": sum(each.demoted for each in told.episodes),
        "escalations": told.escalations,
        "reopened": told.reopened,
        "verdict": incident.verdict or None,
        "root_rule": names.get(first.fingerprint) if first else None,
        "root_confidence": first.confidence if first else None,
        "merged_into": incident.merged_into,
        "split_from": incident.split_from,
        "degraded": incident.degraded,
    }


def _seconds(since: datetime, until: datetime | None) -> float | None:
    return None if until is None else (until - since).total_seconds()


def _worst_first(episode: ToldEpisode) -> tuple[object, ...]:
    return -SEVERITY_RANK[episode.severity], episode.starts_at, episode.fingerprint


def links(episodes: Iterable[Episode]) -> list[Record]:
    """Return why each episode belongs to its incident, earliest first."""
    return [
        {"fingerprint": each.fingerprint, "starts_at": each.starts_at, "source": each.source, "why": each.why}
        for each in sorted(episodes, key=_earliest_first)
    ]


def action_record(action: Action) -> Record:
    """Return what a person did, as the incident shows it."""
    return {
        "id": action.id,
        "at": action.at,
        "kind": action.kind.value,
        "text": action.text,
        "author": action.author,
        "state": action.state.value,
        "reason": action.reason,
        "undoes": action.undoes or None,
    }


def line_of(record: Record) -> bytes:
    """Return one JSON line: UTF-8, no spaces, one newline at its end."""
    return msgspec.json.encode(record) + b"\n"


def _heading(incident: Incident) -> Record:
    return {
        "incident": incident.id,
        "tenant": incident.tenant,
        "origin": incident.origin,
        "state": incident.state.value,
        "opened_at": incident.opened_at,
        "closed_at": incident.closed_at,
        "title": incident.title,
        "summary": incident.summary,
        "severity": incident.severity,
        "anomaly": incident.anomaly.value,
    }


def _ending(incident: Incident) -> Record:
    return {"root": [_suspect(each) for each in incident.root], "merged_into": incident.merged_into}


def _episode(episode: Episode) -> Record:
    return {
        "fingerprint": episode.fingerprint,
        "starts_at": episode.starts_at,
        "ends_at": episode.ends_at,
        "source": episode.source,
        "labels": dict(sorted(episode.labels.items())),
        "demoted": episode.demoted,
        "suppressed": episode.suppressed,
        "why": episode.why,
    }


def _suspect(suspect: RootSuspect) -> Record:
    return {
        "fingerprint": suspect.fingerprint,
        "starts_at": suspect.starts_at,
        "confidence": suspect.confidence,
        "why": suspect.why,
    }


def _graph(graph: CausalGraph) -> Record:
    return {
        "nodes": [
            {
                "fingerprint": node.fingerprint, "starts_at": node.starts_at, "source": node.source, "name": node.name,
                "severity": node.severity,
            }
            for node in graph.nodes
        ],
        "edges": [
            {"from": edge.earlier, "to": edge.later, "word": edge.word, "lag_s": edge.lag_s, "why": edge.why}
            for edge in graph.edges
        ],
    }  # fmt: skip


def _earliest_first(episode: Episode) -> tuple[object, str, str]:
    return episode.starts_at, episode.source, episode.fingerprint


def topology_record(topology: Topology, limit: int) -> Record:
    """Return who calls whom as the API shows it: at most `limit` services and as many edges, and how many there are."""
    services, edges = topology.services(), topology.edges()
    return {
        "version": topology.version,
        "label": topology.label,
        "services_total": len(services),
        "edges_total": len(edges),
        "services": [
            {"name": each.name, "cluster": each.cluster or None, "namespace": each.namespace or None}
            for each in services[:limit]
        ],
        "edges": [
            {
                "kind": "precedes" if edge.origin == "learned" else "calls",
                "from": topology.name(edge.callee if edge.origin == "learned" else edge.caller),
                "to": topology.name(edge.caller if edge.origin == "learned" else edge.callee),
                "origin": edge.origin,
                "evidence": edge.evidence or None,
                "said": topology.said(edge.caller, edge.callee),
            }
            for edge in edges[:limit]
        ],
    }
