"""What a destination can start now: frozen requests and due lines, the urgent ones first. Only reads.

Tenants with a backlog take turns at a destination that they share: of as many as may start each has its part, so that
one tenant's backlog does not delay another's events.

Rule: one reading costs no more than what may be started, however long the backlog: each question is served by an
index and bounded, and lines are read one by one until there are enough deliveries.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec

from bridge.delivery import Due, Frozen, Line, LineKey, Room, Told
from bridge.storage.deliveries.lines import members
from bridge.storage.deliveries.rows import COLUMNS, IS_OPEN, delivery_of, key_of, told_of
from bridge.storage.times import microseconds, moment_of

Rows = list[Any]

#: The first column of both.
DUE_AT = 0
_REQUESTS = (
    "SELECT due_at, id, body, event_ids, step FROM request"
    " WHERE destination = ? AND claimed = 0 AND due_at <= ? AND urgent <= ? ORDER BY due_at, id LIMIT ?"
)
_URGENT_REQUESTS = _REQUESTS.replace("urgent <= ?", "urgent = 1")
_LINES = (
    "SELECT due_at, tenant, incident, told_seq, told_kind, told_maybe, memory FROM line"
    " WHERE destination = ? AND due_at <= ? AND urgent <= ? ORDER BY due_at LIMIT ?"
)
_ONE_LINE = (
    "SELECT due_at, tenant, incident, told_seq, told_kind, told_maybe, memory FROM line"
    " WHERE destination = ? AND tenant = ? AND incident = ?"
)
#: As a constant, so that the index of urgent lines serves it.
_URGENT_LINES = _LINES.replace("urgent <= ?", "urgent = 1")
#: The tenants of which something waits, one step in the index for each.
_TENANTS = (
    "WITH RECURSIVE waiting (tenant) AS ("
    " SELECT min(tenant) FROM line WHERE destination = :destination AND due_at IS NOT NULL"
    " UNION ALL SELECT (SELECT min(tenant) FROM line WHERE destination = :destination AND due_at IS NOT NULL"
    " AND tenant > waiting.tenant) FROM waiting WHERE waiting.tenant IS NOT NULL)"
    " SELECT tenant FROM waiting WHERE tenant IS NOT NULL"
)


def due(connection: sqlite3.Connection, *, destination: str, now: datetime, room: Room) -> Due:
    """Return what may start now within `room`, in one view of the store."""
    connection.execute("BEGIN")  # one moment for all the questions
    try:
        frozen, lines = _found(connection, destination, microseconds(now), room)
        return Due(
            frozen=tuple(_frozen(connection, destination, row) for row in frozen),
            lines=tuple(_lines(connection, destination, lines, room)),
            next_at=_next_at(connection, destination),
        )
    finally:
        connection.execute("ROLLBACK")


def _found(connection: sqlite3.Connection, destination: str, now_us: int, room: Room) -> tuple[Rows, Rows]:
    """Return requests and lines: the urgent of both, then what else there is room for."""
    at = (destination, now_us)
    if room.by_age:
        requests = connection.execute(_REQUESTS, (*at, 1, room.requests)).fetchall()
        lines = connection.execute(_LINES, (*at, 1, room.lines)).fetchall()
        if lines and requests and lines[0][DUE_AT] < requests[0][DUE_AT]:
            del requests[room.requests - 1 :]  # room for the oldest of all
        return requests, lines
    requests = connection.execute(_URGENT_REQUESTS, (*at, room.requests)).fetchall()
    lines = _by_turns(connection, _URGENT_LINES, at, room.lines, room.turn)
    # Urgent lines need requests of their own; what is frozen and not urgent gets what they leave.
    needed = -(-len(lines) * room.requests // max(1, room.lines))
    left = max(0, room.requests - len(requests) - needed)
    requests += connection.execute(_REQUESTS, (*at, 0, left)).fetchall()
    lines += _by_turns(connection, _LINES, (*at, 0), room.lines - len(lines), room.turn)
    if room.fresh and lines:
        del requests[room.requests - 1 :]
    return requests, lines


def _by_turns(
    connection: sqlite3.Connection, question: str, asked: tuple[Any, ...], most: int, turn: int
) -> Rows:
    """Return at most so many lines, the oldest first; if more are due, of each tenant its part, and another's first."""
    rows = connection.execute(question, (*asked, most)).fetchall()
    if len(rows) < most or most < 1:
        return rows
    tenants = [tenant for (tenant,) in connection.execute(_TENANTS, {"destination": asked[0]})]
    if len(tenants) < 2:  # noqa: PLR2004 - nobody to share with
        return rows
    of_one = question.replace("destination = ?", "destination = ? AND tenant = ?")
    found = [
        (place, (number - turn) % len(tenants), row)
        for number, tenant in enumerate(tenants)
        for place, row in enumerate(connection.execute(of_one, (asked[0], tenant, *asked[1:], most)))
    ]
    return [row for _, _, row in sorted(found, key=lambda each: each[:2])[:most]]


def _next_at(connection: sqlite3.Connection, destination: str) -> datetime | None:
    (first,) = connection.execute(
        "SELECT min(due_at) FROM"
        " (SELECT min(due_at) AS due_at FROM request WHERE destination = ? AND claimed = 0"
        " UNION ALL SELECT min(due_at) FROM line WHERE destination = ? AND due_at IS NOT NULL)",
        (destination, destination),
    ).fetchone()
    return None if first is None else moment_of(first)


def _frozen(connection: sqlite3.Connection, destination: str, row: Sequence[Any]) -> Frozen:
    _, number, request, event_ids, step = row
    deliveries = members(connection, number)
    told: dict[LineKey, Told] = {}
    overtaken = False
    for delivery in deliveries:
        line = (destination, *key_of(delivery))
        columns = connection.execute(
            "SELECT told_seq, told_kind, told_maybe FROM line"
            " WHERE destination = ? AND tenant = ? AND incident = ?",
            line,
        ).fetchone()
        told[key_of(delivery)] = told_of(*columns) if columns else Told()
        newer = connection.execute(
            f"SELECT 1 FROM delivery WHERE destination = ? AND tenant = ? AND incident = ? AND {IS_OPEN}"  # noqa: S608
            " AND seq > ? AND request IS NULL LIMIT 1",
            (*line, delivery.seq),
        ).fetchone()
        overtaken = overtaken or newer is not None
    return Frozen(
        id=number, request=request, step=step, told=told, overtaken=overtaken,
        event_ids=msgspec.json.decode(event_ids, type=tuple[str, ...]), deliveries=tuple(deliveries),
    )  # fmt: skip


def _lines(connection: sqlite3.Connection, destination: str, found: Rows, room: Room) -> Iterator[Line]:
    read = 0
    for row in found:
        if room.deliveries is not None and read >= room.deliveries:
            return
        line = _line(connection, destination, row, room.follow)
        read += len(line.waiting)
        yield line


def _line(connection: sqlite3.Connection, destination: str, row: Sequence[Any], follow: int | None) -> Line:
    _, tenant, incident, *told, memory = row
    waiting = connection.execute(
        f"SELECT {COLUMNS} FROM delivery WHERE destination = ? AND tenant = ? AND incident = ? AND {IS_OPEN}"  # noqa: S608
        " ORDER BY seq LIMIT ?",
        (destination, tenant, incident, -1 if follow is None else follow),
    ).fetchall()
    return Line(
        key=LineKey(tenant, incident),
        waiting=tuple(delivery_of(each) for each in waiting),
        told=told_of(*told),
        memory=None if memory is None else msgspec.json.decode(memory, type=dict[str, str]),
    )


def crowded(connection: sqlite3.Connection, *, destination: str, limit: int) -> tuple[Line, ...]:
    """Return lines in which several deliveries wait, those with the most first, whether due or not.

    Lines that a request holds are not among them: whether a page went that an end has to resolve is known only
    when it is settled.

    Cost: all that waits for the destination is looked at.
    """
    connection.execute("BEGIN")
    try:
        crowd = connection.execute(
            f"SELECT tenant, incident FROM delivery WHERE destination = ? AND {IS_OPEN}"  # noqa: S608
            " GROUP BY tenant, incident HAVING count(*) > 1 AND count(request) = 0 ORDER BY count(*) DESC LIMIT ?",
            (destination, limit),
        ).fetchall()
        rows = [connection.execute(_ONE_LINE, (destination, *key)).fetchone() for key in crowd]
        return tuple(_line(connection, destination, row, None) for row in rows)
    finally:
        connection.execute("ROLLBACK")
