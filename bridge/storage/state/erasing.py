"""Erasing what is stored: incidents that are over, events, history, quarantine; then the file itself.

Rules: each step is part of somebody's transaction and says how far it has come in the same one, so that a process that
is killed goes on where it was. Nothing here touches an incident that thinking holds in memory but for its past events:
thinking has changed that itself, and what it stores must be what it has. One erasure after the other, in the order of
their rows. What it erases stands in its row until the last of it is found, and goes before the file is written anew.

Decision: in slices between batches rather than with the row. A month of webhooks is minutes of work, and nobody's alert
waits for that.

Decision: `VACUUM` rather than `secure_delete`. That overwrites what is deleted, but leaves copies of a few cells where
pages were split before (a hundred of some 30,000 in a test), and cannot reach what an older release freed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import zstandard

from bridge.analysis.erasing import Erase, Eraser, Parted, blank_event, blank_incident, parted, sealed
from bridge.analysis.gate import linker_row, read_linker
from bridge.analysis.incidents import Progress, rendered
from bridge.model import Episode, Event, Incident, RowKind, Word
from bridge.pipeline.state import Erasure
from bridge.storage.inbox.erasing import row_without
from bridge.storage.times import microseconds, moment_of
from bridge.webhooks.alertmanager import fingerprint_of

INCIDENTS, EVENTS, HISTORY, QUARANTINE, SWEEP, DONE = (
    "incidents", "events", "history", "quarantine", "sweep", "done",
)  # fmt: skip
_NEXT = {INCIDENTS: EVENTS, EVENTS: HISTORY, HISTORY: QUARANTINE, QUARANTINE: SWEEP}
#: Rows of one slice: some tenths of a second.
MOST_INCIDENTS, MOST_ROWS = 50, 100
#: Episodes and events, or kilobytes of history, after which a slice ends: whoever watches would miss a sign of life.
MOST_READ = 4_000
#: What models answered: it may have come after the erase, and was learned before.
_LEARNED = frozenset({RowKind.LINKER, RowKind.REVIEWS, RowKind.FAMILIES, RowKind.VECTORS})
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.decode


class _Asked(Word, frozen=True, kw_only=True):
    """What one erasure erases."""

    erase: Erase
    incidents: tuple[str, ...] = ()


class _Work:
    """One erasure that is not done."""

    def __init__(self, row: tuple[Any, ...]) -> None:
        self.tenant, self.id, self.stage, self.mark, until, body, counts = row
        asked = _unpack(body, type=_Asked)
        self.lost = frozenset(asked.incidents)
        self.until_us = int(until)
        self.eraser = Eraser(asked.erase, moment_of(self.until_us), fingerprint_of=fingerprint_of)
        self.counts: dict[str, int] = msgspec.json.decode(counts)
        self.read = 0  # of this slice

    def count(self, what: str, number: int = 1) -> None:
        """Count what was erased."""
        self.counts[what] = self.counts.get(what, 0) + number


def begin(db: sqlite3.Connection, erasures: Iterable[Erasure]) -> None:
    """Write down what is to be erased; one that is known already is not begun again."""
    for each in erasures:
        counts = {"incidents": len(each.incidents), "episodes": each.episodes}
        db.execute(
            "insert or ignore into erasure values (?, ?, ?, ?, ?, ?, '', ?, ?)",
            (
                each.tenant, each.erase.id, each.row, each.erase.by, microseconds(each.until), INCIDENTS,
                _pack(_Asked(erase=each.erase, incidents=each.incidents)), msgspec.json.encode(counts).decode(),
            ),
        )  # fmt: skip


def is_any(db: sqlite3.Connection) -> bool:
    """Say whether something is to be erased."""
    return db.execute("select 1 from erasure where stage <> ? limit 1", (DONE,)).fetchone() is not None


def step(db: sqlite3.Connection, holds_incident: Callable[[str, str], bool]) -> str:
    """Do a slice of the oldest erasure; return the stage that it is in now, `DONE` where there is none."""
    row = db.execute(
        "select tenant, id, stage, mark, until, body, counts from erasure where stage <> ?"
        " order by row, tenant, id limit 1",
        (DONE,),
    ).fetchone()
    if row is None:
        return DONE
    work = _Work(row)
    if work.stage == SWEEP:
        return SWEEP
    slices: dict[str, Callable[[], bool]] = {
        INCIDENTS: lambda: _incidents(db, work, holds_incident),
        EVENTS: lambda: _forecasts(db, work),
        HISTORY: lambda: _history(db, work),
        QUARANTINE: lambda: _quarantine(db, work),
    }
    stage = work.stage
    if not slices[stage]():
        stage, work.mark = _NEXT[stage], ""
    body = row[5]
    if stage == SWEEP:
        body = _pack(_Asked(erase=sealed(work.eraser.erase)))
    db.execute(
        "update erasure set stage = ?, mark = ?, body = ?, counts = ? where tenant = ? and id = ?",
        (stage, work.mark, body, msgspec.json.encode(work.counts).decode(), work.tenant, work.id),
    )
    return str(stage)


def finish(db: sqlite3.Connection) -> None:
    """Note that the file was written anew."""
    db.execute("update erasure set stage = ? where stage = ?", (DONE, SWEEP))


# ---- incidents and their events --------------------------------------------------------------------------


def _incidents(db: sqlite3.Connection, work: _Work, holds_incident: Callable[[str, str], bool]) -> bool:
    rows = db.execute(
        "select id, body, work from incident where tenant = ? and id > ? order by id limit ?",
        (work.tenant, work.mark, MOST_INCIDENTS),
    ).fetchall()
    for incident, body, progress in rows:
        lost = incident in work.lost
        if not holds_incident(work.tenant, incident):
            lost = _head(db, work, incident, body, progress) or lost
        _events(db, work, incident, lost=lost)
        work.mark = incident
        if work.read >= MOST_READ:
            return True
    return len(rows) == MOST_INCIDENTS


def _head(db: sqlite3.Connection, work: _Work, incident: str, body: bytes, stored: bytes) -> bool:
    """Take what is meant out of an incident that is over; say whether it lost episodes."""
    eraser = work.eraser
    episodes = [
        _unpack(row[0], type=Episode)
        for row in db.execute(
            "select body from episode where tenant = ? and incident = ? order by source, fingerprint, starts_at",
            (work.tenant, incident),
        )
    ]
    work.read += len(episodes)
    head, progress = _unpack(body, type=Incident), _unpack(stored, type=Progress)
    left = parted(head, progress, episodes, eraser)
    if left is not None:
        _episodes(db, left)
        words, progress = left.group.head, left.group.progress
        if left.group.episodes:
            words = rendered(left.group)
        elif left.meant:
            words = blank_incident(words)
    else:
        words = head
    lost = left is not None and bool(left.meant)
    if head.merged_into in work.lost or (eraser.everything and head.opened_at <= eraser.until and not lost):
        words = blank_incident(words)
    if words != head or left is not None:
        db.execute(
            "update incident set body = ?, work = ?, severity = ? where tenant = ? and id = ?",
            (_pack(words), _pack(progress), words.severity, work.tenant, incident),
        )
    if left is not None and left.meant:
        if incident not in work.lost:
            work.count("incidents")
        work.count("episodes", len(left.meant))
    return lost


def _episodes(db: sqlite3.Connection, left: Parted) -> None:
    """Write what is left of the episodes of an incident."""
    db.executemany(
        "delete from episode where tenant = ? and source = ? and fingerprint = ? and starts_at = ?",
        map(_key_of, left.meant),
    )
    db.executemany(
        "update episode set body = ? where tenant = ? and source = ? and fingerprint = ? and starts_at = ?",
        [(_pack(each), *_key_of(each)) for each in left.masked],
    )


def _key_of(episode: Episode) -> tuple[str, str, str, int]:
    return episode.tenant, episode.source, episode.fingerprint, microseconds(episode.starts_at)


def _events(db: sqlite3.Connection, work: _Work, incident: str, *, lost: bool) -> None:
    rows = db.execute(
        "select seq, body from event where tenant = ? and incident = ? and at <= ?",
        (work.tenant, incident, work.until_us),
    ).fetchall()
    work.read += len(rows)
    for seq, body in rows:
        event = msgspec.json.decode(body, type=Event)
        left = _event(work, event, lost=lost)
        if left is not event:
            db.execute(
                "update event set body = ? where tenant = ? and incident = ? and seq = ?",
                (msgspec.json.encode(left), work.tenant, incident, seq),
            )
            work.count("events")


def _event(work: _Work, event: Event, *, lost: bool) -> Event:
    eraser = work.eraser
    carries = any(eraser.is_of(each.labels, each.fingerprint) for each in event.incident.episodes)
    # What was said with the erase itself speaks of what is left.
    if carries or (lost and microseconds(event.at) < work.until_us):
        return blank_event(event, eraser)
    return eraser.word(event)


def _forecasts(db: sqlite3.Connection, work: _Work) -> bool:
    """Take what is erased out of what was told ahead; of a whole tenant nothing is left of that."""
    rows = db.execute(
        "select event_id, body from event where tenant = ? and kind in ('forecast', 'recommendation')"
        " and at <= ? and event_id > ? order by event_id limit ?",
        (work.tenant, work.until_us, work.mark, MOST_ROWS),
    ).fetchall()
    for event_id, body in rows:
        work.mark = event_id
        if work.eraser.everything:
            db.execute("delete from event where event_id = ?", (event_id,))
            work.count("events")
            continue
        event = msgspec.json.decode(body, type=Event)
        left = work.eraser.word(event)
        if left is not event:
            db.execute("update event set body = ? where event_id = ?", (msgspec.json.encode(left), event_id))
            work.count("events")
    return len(rows) == MOST_ROWS


# ---- what came in ----------------------------------------------------------------------------------------


def _history(db: sqlite3.Connection, work: _Work) -> bool:
    rows = db.execute(
        "select seq, received_at, kind, body from history where tenant = ? and seq > ? order by seq limit ?",
        (work.tenant, int(work.mark or 0), MOST_ROWS),
    ).fetchall()
    compress = zstandard.ZstdCompressor(level=1).compress
    for seq, received_at, kind, packed in rows:
        work.mark = str(seq)
        if received_at > work.until_us and kind not in _LEARNED:
            continue
        body = zstandard.ZstdDecompressor().decompressobj().decompress(packed)
        work.read += len(body) >> 10
        left = _without(work.eraser, RowKind(kind), body)
        if left is None:
            db.execute("delete from history where seq = ?", (seq,))
        elif left is not body:
            db.execute("update history set body = ? where seq = ?", (compress(left), seq))
        if left is not body:
            work.count("history")
        if work.read >= MOST_READ:
            return True
    return len(rows) == MOST_ROWS


def _without(eraser: Eraser, kind: RowKind, body: bytes) -> bytes | None:
    if kind is not RowKind.LINKER or eraser.everything:
        return row_without(eraser, kind, body)
    try:
        fit = read_linker(body)
    except (ValueError, KeyError, TypeError, zstandard.ZstdError):
        return None
    left = eraser.word(fit)
    return body if left is fit else linker_row(left)


def _quarantine(db: sqlite3.Connection, work: _Work) -> bool:
    rows = db.execute(
        "select id, received_at, reason, body from quarantine where tenant = ? and id > ? order by id limit ?",
        (work.tenant, int(work.mark or 0), MOST_ROWS),
    ).fetchall()
    for number, received_at, reason, packed in rows:
        work.mark = str(number)
        if received_at > work.until_us:
            continue
        body = zstandard.ZstdDecompressor().decompressobj().decompress(packed)
        if work.eraser.mentions(reason) or work.eraser.touches(body):
            db.execute("delete from quarantine where id = ?", (number,))
            work.count("quarantine")
    return len(rows) == MOST_ROWS
