"""Reading what the analyst has committed: incidents, events, quarantine, history. Never writes.

Rules: `state.db` belongs to the analyst; this room opens it read-only, for one question at a time, and lets
go. A file that is not there yet, or has no tables yet, is an empty store: the front answers before the
analyst has ever run. Lists are read in pages by key, never by one long cursor, because a reader that stays
open keeps the analyst's write-ahead log from being emptied.

Decision: one connection per question (about 0.1 ms) rather than a pool. Questions run in threads of their own
(`asyncio.to_thread`), a connection belongs to one thread, and a file replaced by a restore is noticed.
"""

from __future__ import annotations

import base64
import binascii
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import zstandard

from bridge.analysis.reports import Record, incident_item, incident_record, line_of, links
from bridge.analysis.settings import AnalysisSettings
from bridge.model import Episode, Incident, IncidentState, RowKind, Word
from bridge.storage.inbox import Position
from bridge.storage.sqlite import open_reader, storage_error

#: What one page of exported history may hold, unpacked. One row is always given, however large.
PAGE_BYTES = 4 * 1024 * 1024
#: How many incidents, with all their episodes, one page of an export holds.
PAGE_INCIDENTS = 200

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Cursor(Word, frozen=True, kw_only=True):
    """Where the next page begins: after this row, in the list's own order."""

    at: int  # opened_at in microseconds since the epoch; 0 in lists that are ordered by number alone
    tenant: str = ""
    id: str = ""


class Page(Word, frozen=True, kw_only=True):
    """Part of a list. `next` is the text to ask the following part with, None at the end."""

    items: tuple[Record, ...]
    next: str | None


class Lines(Word, frozen=True, kw_only=True):
    """Part of an export: JSON lines, and where to go on (None at the end)."""

    lines: tuple[bytes, ...]
    next: Cursor | None


class Quarantined(Word, frozen=True, kw_only=True):
    """Something that could not be used, with its bytes. `what` is "alert", "body" or "row"."""

    id: int
    tenant: str
    source: str
    received_at: datetime
    inbox_id: int
    what: str
    reason: str
    body: bytes


def write_cursor(cursor: Cursor) -> str:
    """Return the cursor as text for a URL."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(cursor)).decode().rstrip("=")


def read_cursor(text: str) -> Cursor:
    """Return the cursor that `write_cursor` wrote.

    Raises:
        ValueError: The text is not one of ours.
    """
    try:
        packed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        return msgspec.msgpack.decode(packed, type=Cursor)
    except (binascii.Error, msgspec.MsgspecError, UnicodeError, ValueError) as error:
        raise ValueError("not a cursor that this list gave out") from error


class StateReader:
    """Answers questions about one `state.db`. Threads may share it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def incidents(
        self,
        tenant: str | None,
        *,
        beginning: str | None = None,
        states: Sequence[IncidentState] = (),
        severity: str | None = None,
        since: datetime | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page:
        """Return incidents as list items, newest `opened_at` first; `tenant` None means every tenant.

        `beginning` is that of their ids, with or without the word and the dash in front.

        Raises:
            ValueError: `cursor` is not one that this list gave out.
        """
        where, values = _chosen(tenant, states, severity, since)
        if beginning is not None:
            # People leave out the word that all ids begin with.
            where.append("(substr(id, 1, ?) = ? OR substr(id, instr(id, '-') + 1, ?) = ?)")
            values += [len(beginning), beginning] * 2
        if cursor is not None:
            after = read_cursor(cursor)
            where.append("(opened_at, tenant, id) < (?, ?, ?)")
            values += [after.at, after.tenant, after.id]
        question = (
            "SELECT body, opened_at, tenant, id, (SELECT count(*) FROM episode"  # noqa: S608 - fixed texts only
            " WHERE episode.tenant = incident.tenant AND episode.incident = incident.id)"
            f" FROM incident {_all_of(where)} ORDER BY opened_at DESC, tenant DESC, id DESC LIMIT ?"
        )
        with self._open() as store:
            rows = store.execute(question, (*values, limit + 1)).fetchall() if store else []
        items = tuple(incident_item(_incident(row[0]), row[4]) for row in rows[:limit])
        return Page(
            items=items, next=_next(rows, limit, lambda row: Cursor(at=row[1], tenant=row[2], id=row[3]))
        )

    def incident(self, tenant: str, incident: str) -> Record | None:
        """Return the whole incident with `episodes`, `links` and `events`; None if there is none."""
        with self._open() as store:
            row = (
                store
                and store.execute(
                    "SELECT body FROM incident WHERE tenant = ? AND id = ?", (tenant, incident)
                ).fetchone()
            )
            if not store or not row:
                return None
            episodes = _episodes(store, tenant, incident)
            events = _events(store, tenant, incident)
        found = _incident(row[0])
        return {
            **incident_record(found, episodes),
            "links": links(episodes),
            "events": events,
            "anomaly_reason": found.anomaly.reason,
            "degraded": found.degraded,
            "split_from": found.split_from,
            "alerts_total": found.alerts_total,
            "alerts_firing": found.alerts_firing,
            "common_labels": found.common_labels,
        }

    def events(self, tenant: str, incident: str) -> list[msgspec.Raw]:
        """Return what was said about the incident, as JSON texts in the order of `seq`."""
        with self._open() as store:
            return _events(store, tenant, incident) if store else []

    def quarantine(self, tenant: str | None, *, limit: int = 100, cursor: str | None = None) -> Page:
        """Return what could not be used, newest first, without its bytes.

        Raises:
            ValueError: `cursor` is not one that this list gave out.
        """
        where, values = _chosen(tenant, (), None, None)
        if cursor is not None:
            where.append("id < ?")
            values.append(read_cursor(cursor).at)
        question = (
            "SELECT id, tenant, source, received_at, inbox_id, what, reason, length(body) FROM quarantine"  # noqa: S608
            f" {_all_of(where)} ORDER BY id DESC LIMIT ?"
        )
        with self._open() as store:
            rows = store.execute(question, (*values, limit + 1)).fetchall() if store else []
        return Page(
            items=tuple(_quarantine_item(row) for row in rows[:limit]),
            next=_next(rows, limit, lambda row: Cursor(at=row[0])),
        )

    def quarantined(self, tenant: str | None, number: int) -> Quarantined | None:
        """Return one entry of the quarantine with its bytes; None if it is not there or not theirs."""
        where, values = _chosen(tenant, (), None, None)
        where.append("id = ?")
        question = (
            "SELECT id, tenant, source, received_at, inbox_id, what, reason, body FROM quarantine "  # noqa: S608
            + _all_of(where)
        )
        with self._open() as store:
            row = store.execute(question, (*values, number)).fetchone() if store else None
        if row is None:
            return None
        return Quarantined(
            id=row[0], tenant=row[1], source=row[2], received_at=_moment(row[3]),
            inbox_id=row[4], what=row[5], reason=row[6], body=bytes(row[7]),
        )  # fmt: skip

    def position(self, front: str) -> Position | None:
        """Return where the last row of `front` stands that was understood; None before the first.

        Raises:
            StorageError: The file is there and cannot be read.
        """
        with self._open() as store:
            row = store and store.execute("SELECT id, at FROM cursor WHERE front = ?", (front,)).fetchone()
        return Position(id=row[0], at_us=row[1]) if row else None

    def stats(self, tenant: str | None) -> Record:
        """Return how far the analyst is and what it holds: `cursor`, `processed_until` and counts."""
        where, values = _chosen(tenant, (), None, None)
        with self._open() as store:
            if store is None:
                return _stats((0, None), [], 0, 0, 0)
            reached = store.execute("SELECT coalesce(max(id), 0), max(at) FROM cursor").fetchone()
            states = store.execute(
                f"SELECT state, count(*) FROM incident {_all_of(where)} GROUP BY state",  # noqa: S608
                values,
            ).fetchall()
            counts = [
                store.execute(f"SELECT count(*) FROM {table}", values).fetchone()[0]  # noqa: S608
                for table in (
                    f"episode {_all_of(where)}",
                    f"episode {_all_of([*where, 'ends_at IS NULL'])}",
                    f"quarantine {_all_of(where)}",
                )
            ]
        return _stats(reached, states, *counts)

    def incident_lines(
        self, tenant: str | None, *, since: datetime | None = None, after: Cursor | None = None
    ) -> Lines:
        """Return one page of whole incidents as JSON lines, by `opened_at` and id, after `after`."""
        where, values = _chosen(tenant, (), None, since)
        if after is not None:
            where.append("(opened_at, id, tenant) > (?, ?, ?)")
            values += [after.at, after.id, after.tenant]
        question = (
            f"SELECT body, opened_at, tenant, id FROM incident {_all_of(where)}"  # noqa: S608
            f" ORDER BY opened_at, id, tenant LIMIT {PAGE_INCIDENTS + 1}"
        )
        with self._open() as store:
            rows = store.execute(question, values).fetchall() if store else []
            lines = tuple(
                line_of(incident_record(_incident(body), _episodes(store, owner, identity)))
                for body, _, owner, identity in rows[:PAGE_INCIDENTS]
                if store
            )
        more = len(rows) > PAGE_INCIDENTS
        last = rows[PAGE_INCIDENTS - 1] if more else None
        return Lines(lines=lines, next=last and Cursor(at=last[1], tenant=last[2], id=last[3]))

    def history_lines(
        self, tenant: str | None, *, since: datetime | None = None, after: Cursor | None = None
    ) -> Lines:
        """Return one page of the history as replay input, in the order in which it was received.

        Settings and modes were everyone's: a replay without them would think differently. A tenant gets them
        without what they say of others.
        """
        where, values = _chosen(None, (), None, None)
        where.append("id > ?")
        values.append(after.at if after else 0)
        if tenant is not None:
            where.append("(tenant = ? OR kind IN ('settings', 'mode'))")
            values.append(tenant)
        if since is not None:
            where.append("received_at >= ?")
            values.append(microseconds(since))
        question = (
            "SELECT id, received_at, tenant, source, kind, body FROM history"  # noqa: S608
            f" {_all_of(where)} ORDER BY id"
        )
        lines: list[bytes] = []
        taken, last, unpacker = 0, 0, zstandard.ZstdDecompressor()
        with self._open() as store:
            for row in store.execute(question, values) if store else ():
                if taken >= PAGE_BYTES:
                    return Lines(lines=tuple(lines), next=Cursor(at=last))
                line = _history_line(row, unpacker.decompressobj().decompress(row[5]), tenant)
                lines.append(line)
                taken, last = taken + len(line), row[0]
        return Lines(lines=tuple(lines), next=None)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection | None]:
        """Give a connection in one read transaction, or None while there is no store yet."""
        if not self._path.exists():
            yield None
            return
        with closing(open_reader(self._path)) as store:
            try:
                store.execute("BEGIN")
                yield store if _has_tables(store) else None
            except sqlite3.Error as error:
                raise storage_error(error, f"cannot read {self._path.name}") from error


def microseconds(moment: datetime) -> int:
    """Return a moment as whole microseconds since the epoch."""
    return (moment - _EPOCH) // _MICROSECOND


def _moment(since_epoch_us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=since_epoch_us)


def _has_tables(store: sqlite3.Connection) -> bool:
    found = store.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'incident'").fetchone()
    return found is not None


def _chosen(
    tenant: str | None, states: Sequence[IncidentState], severity: str | None, since: datetime | None
) -> tuple[list[str], list[Any]]:
    """Return conditions and their values for the filters that were given."""
    where: list[str] = []
    values: list[Any] = []
    if tenant is not None:
        where.append("tenant = ?")
        values.append(tenant)
    if states:
        where.append(f"state IN ({', '.join('?' * len(states))})")
        values += [state.value for state in states]
    if severity is not None:
        where.append("severity = ?")
        values.append(severity)
    if since is not None:
        where.append("opened_at >= ?")
        values.append(microseconds(since))
    return where, values


def _all_of(where: Sequence[str]) -> str:
    return f"WHERE {' AND '.join(where)}" if where else ""


def _next(
    rows: Sequence[Any], limit: int, cursor_of: Any
) -> str | None:  # rows: one more than the page, if any
    return write_cursor(cursor_of(rows[limit - 1])) if len(rows) > limit else None


def _incident(body: bytes) -> Incident:
    return msgspec.msgpack.decode(body, type=Incident)


def _episodes(store: sqlite3.Connection, tenant: str, incident: str) -> list[Episode]:
    rows = store.execute("SELECT body FROM episode WHERE tenant = ? AND incident = ?", (tenant, incident))
    return [msgspec.msgpack.decode(row[0], type=Episode) for row in rows]


def _events(store: sqlite3.Connection, tenant: str, incident: str) -> list[msgspec.Raw]:
    rows = store.execute(
        "SELECT body FROM event WHERE tenant = ? AND incident = ? ORDER BY seq", (tenant, incident)
    )
    return [msgspec.Raw(row[0]) for row in rows]


def _quarantine_item(row: Sequence[Any]) -> Record:
    return {
        "id": row[0], "tenant": row[1], "source": row[2], "received_at": _moment(row[3]),
        "inbox_id": row[4], "what": row[5], "reason": row[6], "body_bytes": row[7],
    }  # fmt: skip


def _stats(
    reached: Sequence[Any], states: Sequence[Sequence[Any]], episodes: int, firing: int, quarantined: int
) -> Record:
    by_state = dict.fromkeys((state.value for state in IncidentState), 0) | {row[0]: row[1] for row in states}
    return {
        "cursor": reached[0],
        "processed_until": None if reached[1] is None else _moment(reached[1]),
        "incidents": by_state,
        "episodes": episodes,
        "episodes_firing": firing,
        "quarantined": quarantined,
    }


def _history_line(row: Sequence[Any], body: bytes, asks: str | None) -> bytes:
    """Return one line of replay input; a webhook carries its source, everything else its kind.

    `asks` is the tenant that asks, None for all of them.
    """
    _, received_at, tenant, source, kind, _ = row
    line: Record = {"received_at": _moment(received_at), "tenant": tenant if asks is None else asks}
    line |= {"source": source} if kind == RowKind.WEBHOOK else {"kind": kind}
    if asks is not None and kind == RowKind.SETTINGS:
        body = _narrowed(body, asks)
    # A webhook may span lines as it was sent; `format` takes out white space and touches no value.
    line["body"] = msgspec.Raw(msgspec.json.format(body, indent=-1) if body else b"{}")
    return line_of(line)


def _narrowed(body: bytes, tenant: str) -> bytes:
    """Return analysis settings without the sources, routes and destinations of other tenants."""
    settings = msgspec.json.decode(body, type=AnalysisSettings)
    routes = tuple(route for route in settings.routes if route.tenant in {None, tenant})
    named = {name for route in routes for name in route.to}
    return msgspec.json.encode(
        msgspec.structs.replace(
            settings,
            sources=tuple(source for source in settings.sources if source.tenant == tenant),
            routes=routes,
            destinations=tuple(each for each in settings.destinations if each.name in named),
        )
    )
