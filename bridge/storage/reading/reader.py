"""Reading what the analyst has committed: incidents, events, quarantine, history. Never writes.

Rules: `state.db` belongs to the analyst; this room opens it read-only, for one question at a time, and lets
go. A file that is not there yet, or has no tables yet, is an empty store: the front answers before the
analyst has ever run. Lists are read in pages by key, never by one long cursor, because a reader that stays
open keeps the analyst's write-ahead log from being emptied.

Decision: one connection per question (about 0.1 ms) rather than a pool. Questions run in threads of their own
(`asyncio.to_thread`), a connection belongs to one thread, and a file replaced by a restore is noticed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from bridge.analysis.erasing import Erase, Eraser
from bridge.analysis.feedback import Action
from bridge.analysis.reports import Record, incident_item, incident_record, line_of, links, topology_record
from bridge.analysis.settings import AnalysisSettings
from bridge.analysis.topology import ORIGINS, Chart, Topology
from bridge.analysis.watching import Measured
from bridge.model import Episode, Incident, IncidentState, Word
from bridge.storage.inbox import Position
from bridge.storage.reading import erasures, feedback, flat, forecasts, history, models, quarantine
from bridge.storage.reading.erasures import Meant
from bridge.storage.reading.feedback import Standing
from bridge.storage.reading.pages import Cursor, Lines, Page, all_of, chosen, next_of, read_cursor
from bridge.storage.reading.quarantine import Quarantined
from bridge.storage.sqlite import open_reader, told
from bridge.storage.times import moment_of

#: How many incidents, with all their episodes, one page of an export holds.
PAGE_INCIDENTS = 200


class _Record(Word, frozen=True, kw_only=True):
    """What is told of a `pipeline.state.TenantRecord`, which the front does not load."""

    hidden: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)


class _Common(Word, frozen=True, kw_only=True):
    """What is read here of what all tenants share."""

    settings: AnalysisSettings
    clock: datetime


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
        where, values = chosen(tenant, states, severity, since)
        if beginning is not None:
            # People leave out the word that all ids begin with.
            where.append("(substr(id, 1, ?) = ? OR substr(id, instr(id, '-') + 1, ?) = ?)")
            values += [len(beginning), beginning] * 2
        if cursor is not None:
            after = read_cursor(cursor, tenant)
            where.append("(opened_at, tenant, id) < (?, ?, ?)")
            values += [after.at, after.tenant, after.id]
        question = (
            "SELECT body, opened_at, tenant, id, (SELECT count(*) FROM episode"  # noqa: S608 - fixed texts only
            " WHERE episode.tenant = incident.tenant AND episode.incident = incident.id)"
            f" FROM incident {all_of(where)} ORDER BY opened_at DESC, tenant DESC, id DESC LIMIT ?"
        )
        with self._open() as store:
            rows = store.execute(question, (*values, limit + 1)).fetchall() if store else []
        items = tuple(incident_item(_incident(row[0]), row[4]) for row in rows[:limit])
        return Page(
            items=items, next=next_of(rows, limit, lambda row: Cursor(at=row[1], tenant=row[2], id=row[3]))
        )

    def flat_incidents(
        self,
        tenant: str | None,
        *,
        states: Sequence[IncidentState] = (),
        severity: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page:
        """Return incidents as rows of a table, newest `opened_at` first: `reports.flat_record`.

        Raises:
            ValueError: `cursor` is not one that this list gave out.
        """
        with self._open() as store:
            if store is None:
                return Page(items=(), next=None)
            filters = chosen(tenant, states, severity, since, until)
            service = _settings(store).topology_label
            return flat.listed(store, tenant, service, filters, limit=limit, cursor=cursor)

    def incident(self, tenant: str, incident: str) -> Record | None:
        """Return the whole incident with `episodes`, `links`, `events` and `actions`; None if there is none."""
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
            actions = feedback.listed(store, tenant, incident)
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
            "acknowledged_at": found.acknowledged_at,
            "verdict": found.verdict or None,
            "actions": actions,
        }

    def all_incidents(self) -> Iterator[Incident]:
        """Yield the incidents of every tenant, by `opened_at` and id."""
        after: tuple[Any, ...] = (-(1 << 62), "", "")
        question = (
            "SELECT body, opened_at, id, tenant FROM incident WHERE (opened_at, id, tenant) > (?, ?, ?)"
            " ORDER BY opened_at, id, tenant LIMIT ?"
        )
        while True:
            with self._open() as store:
                rows = store.execute(question, (*after, PAGE_INCIDENTS)).fetchall() if store else []
            yield from (_incident(row[0]) for row in rows)
            if len(rows) < PAGE_INCIDENTS:
                return
            after = rows[-1][1:]

    def standing(self, tenant: str, incident: str) -> Standing | None:
        """Return where an incident stands; None if there is none."""
        with self._open() as store:
            return feedback.standing(store, tenant, incident) if store else None

    def action(self, tenant: str, action: str) -> Action | None:
        """Return what a person did; None if nothing of that id is kept."""
        with self._open() as store:
            return feedback.action(store, tenant, action) if store else None

    def erasures(self, tenant: str) -> list[Record]:
        """Return what was erased, newest first: `id`, `by`, `until`, `state` (working or done) and `counts`."""
        with self._open() as store:
            return erasures.listed(store, tenant) if store else []

    def erasing(self, tenant: str, erasure: str) -> str | None:
        """Return how far the analyst is with an erasure, "done" at the end; None if it does not know it.

        Raises:
            StorageError: The file is there and cannot be read.
        """
        with self._open() as store:
            question = "SELECT stage FROM erasure WHERE tenant = ? AND id = ?"
            row = store and store.execute(question, (tenant, erasure)).fetchone()
        return str(row[0]) if row else None

    def meant(self, tenant: str, erase: Erase, now: datetime) -> Meant:
        """Return what an erase would find among incidents, and the fingerprints of its alerts.

        Cost: all of a tenant's episodes are read, some 10 us each.
        """
        with self._open() as store:
            return erasures.meant(store, tenant, Eraser(erase, now)) if store else Meant()

    def quarantine(self, tenant: str | None, *, limit: int = 100, cursor: str | None = None) -> Page:
        """Return what could not be used, newest first, without its bytes.

        Raises:
            ValueError: `cursor` is not one that this list gave out.
        """
        with self._open() as store:
            return quarantine.listed(store, tenant, limit, cursor) if store else Page(items=(), next=None)

    def quarantined(self, tenant: str | None, number: int) -> Quarantined | None:
        """Return one entry of the quarantine with its bytes; None if it is not there or not theirs."""
        with self._open() as store:
            return quarantine.entry(store, tenant, number) if store else None

    def position(self, front: str) -> Position | None:
        """Return where the newest row of `front` stands that was understood; None before the first.

        Raises:
            StorageError: The file is there and cannot be read.
        """
        with self._open() as store:
            question = "SELECT max(id), max(at) FROM cursor WHERE front = ?"
            row = store and store.execute(question, (front,)).fetchone()
        return Position(id=row[0], at_us=row[1]) if row and row[0] is not None else None

    def stored(self) -> dict[str, int]:
        """Return the bytes of history by tenant, packed.

        Raises:
            StorageError: The file is there and cannot be read.
        """
        with self._open() as store:
            return dict(store.execute("SELECT tenant, bytes FROM stored").fetchall()) if store else {}

    def charts(self, origin: str) -> dict[str, Chart]:
        """Return what one origin knows of who calls whom, by tenant.

        Raises:
            StorageError: The file is there and cannot be read.
        """
        with self._open() as store:
            question = "SELECT tenant, body FROM chart WHERE origin = ? ORDER BY tenant"
            rows = store.execute(question, (origin,)).fetchall() if store else []
        return {tenant: msgspec.msgpack.decode(body, type=Chart) for tenant, body in rows}

    def measured_until(self) -> dict[tuple[str, str], float]:
        """Return by tenant and query until when there are samples, epoch s: of its series the one that has most.

        Raises:
            StorageError: The file is there and cannot be read.
        """
        ends: dict[tuple[str, str], float] = {}
        with self._open() as store:
            for tenant, body in store.execute("SELECT tenant, body FROM measured") if store else ():
                found = msgspec.msgpack.decode(body, type=Measured)
                key = (tenant, found.query)
                ends[key] = max(found.newest_s, ends.get(key, 0.0))
        return ends

    def topology(self, tenant: str, *, limit: int) -> Record:
        """Return who calls whom as the tenant's alerts are seen: at most `limit` services, and edges."""
        with self._open() as store:
            question = "SELECT tenant, origin, body FROM chart WHERE tenant IN ('', ?)"
            rows = store.execute(question, (tenant,)).fetchall() if store else []
            settings = _settings(store)
        charts = {(row[1], row[0]): msgspec.msgpack.decode(row[2], type=Chart) for row in rows}
        ordered = sorted(charts, key=lambda key: (ORIGINS.index(key[0]), key[1]))
        joined = Topology([charts[key] for key in ordered], label=settings.topology_label)
        return topology_record(joined, limit)

    def models(self, tenant: str) -> list[Record]:
        """Return which models a tenant has, whether they act, and on what evidence."""
        with self._open() as store:
            return models.listed(store, tenant, _settings(store))

    def forecasts(self, tenant: str) -> Record:
        """Return what is forecast as `items`, and what is `lacking` where nothing is."""
        with self._open() as store:
            items = forecasts.listed(store, tenant) if store else []
            return {"items": items, "next": None, "lacking": forecasts.lacking(store, tenant)}

    def recommendations(self, tenant: str) -> list[Record]:
        """Return what to do about what is forecast; cost grows with the newest incidents, to some 100 ms."""
        with self._open() as store:
            common = store and _common(store)
            return forecasts.recommended(store, tenant, common.clock) if store and common else []

    def stats(self, tenant: str | None) -> Record:
        """Return how far the analyst is and what it holds: `cursor`, `processed_until`, counts and `hidden`."""
        where, values = chosen(tenant)
        with self._open() as store:
            if store is None:
                return _stats((0, None), [], [], 0, 0, 0)
            reached = store.execute(
                "SELECT coalesce(max(id), 0), max(at) FROM cursor WHERE tenant IN ('', ?)", (tenant or "",)
            ).fetchone()
            states = store.execute(
                f"SELECT state, count(*) FROM incident {all_of(where)} GROUP BY state",  # noqa: S608
                values,
            ).fetchall()
            hidden = [
                {"alertname": name, **msgspec.to_builtins(each, builtin_types=(datetime,))}
                for (body,) in store.execute(
                    f"SELECT body FROM tenant_state {all_of(where)} ORDER BY tenant",  # noqa: S608
                    values,
                )
                for name, each in sorted(msgspec.msgpack.decode(body, type=_Record).hidden.items())
            ]
            counts = [
                store.execute(f"SELECT count(*) FROM {table}", values).fetchone()[0]  # noqa: S608
                for table in (
                    f"episode {all_of(where)}",
                    f"episode {all_of([*where, 'ends_at IS NULL'])}",
                    f"quarantine {all_of(where)}",
                )
            ]
        return _stats(reached, states, hidden, *counts)

    def incident_lines(
        self, tenant: str | None, *, since: datetime | None = None, after: Cursor | None = None
    ) -> Lines:
        """Return one page of whole incidents as JSON lines, by `opened_at` and id, after `after`."""
        where, values = chosen(tenant, since=since)
        if after is not None:
            where.append("(opened_at, id, tenant) > (?, ?, ?)")
            values += [after.at, after.id, after.tenant]
        question = (
            f"SELECT body, opened_at, tenant, id FROM incident {all_of(where)}"  # noqa: S608
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
        """Return one page of the history as replay input, in the order in which it was thought.

        With `since` it begins with the settings and the mode that were in force then.
        """
        with self._open() as store:
            return history.lines(store, tenant, since, after) if store else Lines(lines=(), next=None)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection | None]:
        """Give a connection in one read transaction, or None while there is no store yet."""
        if not self._path.exists():
            yield None
            return
        with closing(open_reader(self._path)) as store, told(f"cannot read {self._path.name}"):
            store.execute("BEGIN")
            yield store if _has_tables(store) else None


def _has_tables(store: sqlite3.Connection) -> bool:
    found = store.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'incident'").fetchone()
    return found is not None


def _settings(store: sqlite3.Connection | None) -> AnalysisSettings:
    """Return the settings in force; the defaults before any were told."""
    common = store and _common(store)
    return common.settings if common else AnalysisSettings()


def _common(store: sqlite3.Connection) -> _Common | None:
    common = store.execute("SELECT body FROM common").fetchone()
    return msgspec.msgpack.decode(common[0], type=_Common) if common else None


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


def _stats(
    reached: Sequence[Any],
    states: Sequence[Sequence[Any]],
    hidden: Sequence[Record],
    episodes: int,
    firing: int,
    quarantined: int,
) -> Record:
    by_state = dict.fromkeys((state.value for state in IncidentState), 0) | {row[0]: row[1] for row in states}
    return {
        "cursor": reached[0],
        "processed_until": None if reached[1] is None else moment_of(reached[1]),
        "incidents": by_state,
        "episodes": episodes,
        "episodes_firing": firing,
        "quarantined": quarantined,
        "hidden": hidden,
    }
