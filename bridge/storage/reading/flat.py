"""Incidents as rows of a table, for BI: read with what their episodes and events say, page by page."""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec

from bridge.analysis.reports import Told, ToldEpisode, flat_record
from bridge.model import EventKind, Incident
from bridge.storage.reading.pages import Cursor, Page, all_of, next_of, read_cursor
from bridge.storage.times import moment_of

_COUNTED = (EventKind.ACKNOWLEDGED.value, EventKind.ESCALATED.value, EventKind.REOPENED.value)


def listed(
    store: sqlite3.Connection,
    tenant: str | None,
    service: str,
    filters: tuple[list[str], list[Any]],
    *,
    limit: int,
    cursor: str | None,
) -> Page:
    """Return the incidents that `filters` (as `chosen` gives them) let through, newest first.

    `service` is the label that names one. Cost: every episode of them is read, some 5 us each.

    Raises:
        ValueError: `cursor` is not one that this list gave out.
    """
    where, values = filters
    if cursor is not None:
        after = read_cursor(cursor, tenant)
        where.append("(opened_at, tenant, id) < (?, ?, ?)")
        values += [after.at, after.tenant, after.id]
    question = (
        f"SELECT body, opened_at, tenant, id FROM incident {all_of(where)}"  # noqa: S608 - fixed texts only
        " ORDER BY opened_at DESC, tenant DESC, id DESC LIMIT ?"
    )
    rows = store.execute(question, (*values, limit + 1)).fetchall()
    items = tuple(
        flat_record(msgspec.msgpack.decode(body, type=Incident), _told(store, owner, identity), service)
        for body, _, owner, identity in rows[:limit]
    )
    return Page(
        items=items, next=next_of(rows, limit, lambda row: Cursor(at=row[1], tenant=row[2], id=row[3]))
    )


def _told(store: sqlite3.Connection, tenant: str, incident: str) -> Told:
    of = (tenant, incident)
    bodies = store.execute("SELECT body FROM episode WHERE tenant = ? AND incident = ?", of)
    counts = {
        kind: (count, first)
        for kind, count, first in store.execute(
            "SELECT kind, count(*), min(at) FROM event WHERE tenant = ? AND incident = ? AND kind IN (?, ?, ?)"
            " GROUP BY kind",
            (*of, *_COUNTED),
        )
    }
    acknowledged, escalated, reopened = (counts.get(kind, (0, None)) for kind in _COUNTED)
    return Told(
        episodes=[msgspec.msgpack.decode(body, type=ToldEpisode) for (body,) in bodies],
        acknowledged_at=None if acknowledged[1] is None else moment_of(acknowledged[1]),
        escalations=escalated[0],
        reopened=reopened[0],
    )
