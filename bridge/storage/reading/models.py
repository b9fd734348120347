"""Which models a tenant has: its linker, whether it groups alerts and on what evidence; the detectors of its series."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from datetime import datetime

import msgspec

from bridge.analysis.reports import Record
from bridge.analysis.settings import AnalysisSettings
from bridge.analysis.verdicts import LEAST_SIGHTINGS, Verdict, in_force
from bridge.analysis.watching import Alarm, Measured, alarm_of
from bridge.model import Word

#: Series whose detectors are told, those that were measured last.
MAX_SERIES = 200


class _Record(Word, frozen=True, kw_only=True):
    """What is told of a `pipeline.state.TenantRecord`, which the front does not load."""

    linked_at: datetime | None = None
    link_since: datetime | None = None


class _Table(Word, frozen=True, kw_only=True):
    families: tuple[str, ...] = ()


class _Linker(Word, frozen=True, kw_only=True):
    table: _Table
    pairs: int = 0
    labelled: int = 0


class _Fit(Word, frozen=True, kw_only=True):
    """What is told of an `analysis.gate.LinkFit`: all but what was learned."""

    fit: int
    linker: _Linker
    verdict: Verdict


def listed(store: sqlite3.Connection | None, tenant: str, settings: AnalysisSettings) -> list[Record]:
    """Return the models of a tenant; a linker that has learned nothing yet says what it lacks."""
    found: _Fit | None = None
    record, sightings = _Record(), 0
    if store is not None:
        row = store.execute("SELECT body FROM link_fit WHERE tenant = ?", (tenant,)).fetchone()
        found = msgspec.msgpack.decode(row[0], type=_Fit) if row else None
        row = store.execute("SELECT body FROM tenant_state WHERE tenant = ?", (tenant,)).fetchone()
        record = msgspec.msgpack.decode(row[0], type=_Record) if row else record
        counted = store.execute("SELECT count(*) FROM sighting WHERE tenant = ?", (tenant,)).fetchone()
        sightings = counted[0]
    series = [] if store is None else _series(store, tenant)
    return [_linker(found, record, sightings, settings), *series]


def _series(store: sqlite3.Connection, tenant: str) -> list[Record]:
    """Return the detectors of series of samples, and what firings are counted by."""
    alarms = {
        name: msgspec.msgpack.decode(body, type=Alarm)
        for name, body in store.execute("SELECT name, body FROM alarm WHERE tenant = ?", (tenant,))
    }
    counted = store.execute("SELECT count(*) FROM counted WHERE tenant = ?", (tenant,)).fetchone()[0]
    stored = store.execute("SELECT name, body FROM measured WHERE tenant = ?", (tenant,))
    measured = [(name, msgspec.msgpack.decode(body, type=Measured)) for name, body in stored]
    measured.sort(key=lambda item: item[0])
    measured.sort(key=lambda item: item[1].heard_at, reverse=True)
    told: list[Record] = []
    if counted:
        told.append({
            "name": "counts", "model": "gamma-poisson", "reason": "few fire: the tails are known in closed form",
            "series": counted,
        })  # fmt: skip
    return told + [_detector(name, each, alarms) for name, each in measured[:MAX_SERIES]]


def _detector(name: str, measured: Measured, alarms: Mapping[str, Alarm]) -> Record:
    alarm = alarms.get(alarm_of(name))
    return {
        "name": "series",
        "series": name,
        "model": measured.standing.model,
        "reason": measured.standing.reason,
        "trials": measured.standing.trials,
        "challenger": measured.standing.challenger or None,
        "wins": measured.standing.wins,
        "useful": measured.standing.useful,
        "false_alarms": measured.standing.false_alarms,
        "reviewed_at": measured.reviewed_at,
        "values": measured.values,
        "since": measured.since,
        "heard_at": measured.heard_at,
        "newest": measured.newest,
        "score": None if measured.score is None else round(measured.score, 4),
        "unusual_since": None if alarm is None else alarm.since,
    }


def _linker(found: _Fit | None, record: _Record, sightings: int, settings: AnalysisSettings) -> Record:
    verdict = found.verdict if found is not None else None
    way = in_force(settings.grouping, verdict)
    told = verdict or Verdict()
    return {
        "name": "linker",
        "acts": way == "linker",
        "way": way,
        "reason": _reason(verdict, sightings, settings),
        "forced_by_settings": settings.grouping != "auto",
        "fit": None if found is None else found.fit,
        "since": record.link_since,
        "asked_at": record.linked_at,
        "sightings": sightings,
        "pairs": found.linker.pairs if found is not None else 0,
        "labelled": found.linker.labelled if found is not None else 0,
        "families": len(found.linker.table.families) if found is not None else 0,
        "units": told.units,
        "examined": told.examined,
        "of": told.of or None,
        "evidence": [msgspec.to_builtins(each) for each in told.evidence],
    }


def _reason(verdict: Verdict | None, sightings: int, settings: AnalysisSettings) -> str:
    """Return why alerts are grouped the way they are."""
    if settings.grouping == "auto":
        return _lacking(sightings, settings) if verdict is None else verdict.reason
    said = f"the configuration says `grouping: {settings.grouping}`"
    if settings.grouping == "linker" and verdict is None:
        return f"{said}, but {_lacking(sightings, settings)}"
    return said


def _lacking(sightings: int, settings: AnalysisSettings) -> str:
    """Return why nothing was learned yet."""
    if not settings.models:
        return "nothing is learned: models are switched off"
    if sightings < LEAST_SIGHTINGS:
        return f"{sightings} of {LEAST_SIGHTINGS} alerts to learn from"
    return "the first linker is being learned"
