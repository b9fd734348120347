"""What was erased, and what an erase would find."""

from __future__ import annotations

import sqlite3

import msgspec

from bridge.analysis.erasing import Eraser
from bridge.analysis.reports import Record
from bridge.model import Episode, Word
from bridge.storage.times import moment_of

#: Erasures that are shown.
MOST = 1_000


class Meant(Word, frozen=True, kw_only=True):
    """What an erase would find, as far as it is stored with an incident."""

    episodes: int = 0
    alerts: int = 0
    incidents: int = 0  # that hold one of them
    emptied: int = 0  # of those, which would hold none any more
    fingerprints: tuple[str, ...] = ()


def listed(store: sqlite3.Connection, tenant: str) -> list[Record]:
    """Return a tenant's erasures, newest first."""
    rows = store.execute(
        "SELECT id, chosen_by, until, stage, counts FROM erasure WHERE tenant = ? ORDER BY row DESC, id LIMIT ?",
        (tenant, MOST),
    ).fetchall()
    return [
        {
            "id": identity, "by": by, "until": moment_of(until), "state": "done" if stage == "done" else "working",
            "counts": msgspec.json.decode(counts),
        }
        for identity, by, until, stage, counts in rows
    ]  # fmt: skip


def meant(store: sqlite3.Connection, tenant: str, eraser: Eraser) -> Meant:
    """Go through a tenant's episodes."""
    fingerprints: set[str] = set()
    alerts: set[tuple[str, str]] = set()
    incidents: dict[str, int] = {}
    held: dict[str, int] = {}
    for (body,) in store.execute("SELECT body FROM episode WHERE tenant = ?", (tenant,)):
        episode = msgspec.msgpack.decode(body, type=Episode)
        held[episode.incident] = held.get(episode.incident, 0) + 1
        if eraser.means_episode(episode):
            fingerprints.add(episode.fingerprint)
            alerts.add((episode.source, episode.fingerprint))
            incidents[episode.incident] = incidents.get(episode.incident, 0) + 1
    return Meant(
        episodes=sum(incidents.values()), alerts=len(alerts), incidents=len(incidents),
        emptied=sum(number == held[incident] for incident, number in incidents.items()),
        fingerprints=tuple(sorted(fingerprints)),
    )  # fmt: skip
