"""What people said of incidents, and where an incident stands that something is to be said of."""

from __future__ import annotations

import sqlite3

import msgspec

from bridge.analysis.feedback import Action, EpisodeRef
from bridge.analysis.reports import Record, action_record
from bridge.model import Incident, IncidentState, Word
from bridge.storage.times import moment_of


class Standing(Word, frozen=True, kw_only=True):
    """Where an incident stands, as far as it decides what can be said of it."""

    state: IncidentState
    merged_into: str | None
    episodes: tuple[EpisodeRef, ...]


def standing(store: sqlite3.Connection, tenant: str, incident: str) -> Standing | None:
    """Return where an incident stands; None if there is none. Cost grows with its episodes."""
    where = "WHERE tenant = ? AND id = ?"
    row = store.execute(f"SELECT body FROM incident {where}", (tenant, incident)).fetchone()  # noqa: S608
    if row is None:
        return None
    found = msgspec.msgpack.decode(row[0], type=Incident)
    episodes = store.execute(
        "SELECT fingerprint, starts_at, source FROM episode WHERE tenant = ? AND incident = ?",
        (tenant, incident),
    )
    return Standing(
        state=found.state,
        merged_into=found.merged_into,
        episodes=tuple(
            EpisodeRef(fingerprint=each[0], starts_at=moment_of(each[1]), source=each[2]) for each in episodes
        ),
    )


def action(store: sqlite3.Connection, tenant: str, name: str) -> Action | None:
    """Return what a person did; None if nothing of that id is kept."""
    row = store.execute("SELECT body FROM action WHERE tenant = ? AND id = ?", (tenant, name)).fetchone()
    return msgspec.msgpack.decode(row[0], type=Action) if row else None


def listed(store: sqlite3.Connection, tenant: str, incident: str) -> list[Record]:
    """Return what people did with an incident, oldest first."""
    rows = store.execute(
        "SELECT body FROM action WHERE tenant = ? AND id IN"
        " (SELECT action FROM action_on WHERE tenant = ? AND incident = ?)",
        (tenant, tenant, incident),
    )
    found = [msgspec.msgpack.decode(row[0], type=Action) for row in rows]
    return [action_record(each) for each in sorted(found, key=lambda each: each.number)]
