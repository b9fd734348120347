"""Events that a destination does not take are given to its fallback.

Each is one function on a connection inside somebody's transaction.

Rules: an event goes to a fallback once; the fallback's own delivery is one like any other, in its incident's line, and
says instead of which destination it is. An event that the fallback has by a route of its own is not doubled. What
waits goes on waiting where it was: its destination still gets it when it works again.
"""

from __future__ import annotations

import sqlite3
from datetime import datetime

from bridge.delivery import Diverted, LineKey
from bridge.model import Delivery
from bridge.storage.deliveries.lines import refresh
from bridge.storage.deliveries.rows import COLUMNS, delivery_of
from bridge.storage.times import microseconds

#: How many events one transaction diverts; others wait for it.
MAX_DIVERTED = 500


def divert(
    connection: sqlite3.Connection,
    destination: str,
    to: str,
    died_since: datetime,
    since: datetime | None,
    now: datetime,
) -> Diverted:
    """Give the dead letters of a destination to its fallback; also what waits, if `since` is given.

    Args:
        connection: With a transaction.
        destination: Which one does not take them.
        to: Its fallback.
        died_since: Of the dead letters, those that became one then or later.
        since: Of what waits, what was made then or later; what is held back and was not tried stays out.
        now: The time.
    """
    dead = _found(connection, destination, "state = 'dead' AND changed_at >= ?", (microseconds(died_since),))
    waiting = [] if since is None else _found(
        connection, destination, "state = 'waiting' AND created_at >= ? AND (attempts > 0 OR next_at <= ?)",
        (microseconds(since), microseconds(now)),
    )  # fmt: skip
    events = sum(_gave(connection, delivery, to, now) for delivery in (*dead, *waiting))
    return Diverted(
        events=events,
        through=max((each.created_at for each in waiting), default=None),
        more=max(len(dead), len(waiting)) == MAX_DIVERTED,
    )


def _found(
    connection: sqlite3.Connection, destination: str, condition: str, values: tuple[int, ...]
) -> list[Delivery]:
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM delivery WHERE destination = ? AND diverted = 0 AND {condition}"  # noqa: S608
        " ORDER BY created_at, id LIMIT ?",
        (destination, *values, MAX_DIVERTED),
    )
    return [delivery_of(row) for row in rows.fetchall()]


def _gave(connection: sqlite3.Connection, delivery: Delivery, to: str, now: datetime) -> bool:
    """Give one event to the fallback; False if that has it already."""
    now_us = microseconds(now)
    connection.execute(
        "UPDATE delivery SET diverted = 1 WHERE destination = ? AND event_id = ?",
        (delivery.destination, delivery.event_id),
    )
    added = connection.execute(
        "INSERT INTO delivery (tenant, destination, event_id, incident, seq, kind, urgent, state, created_at,"
        " next_at, attempts, token, step, reason, maybe_duplicate, until_recovery, changed_at, asked_at, instead_of)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, 'waiting', ?, ?, 0, '', '', '', 0, 0, ?, ?, ?)"
        " ON CONFLICT (destination, event_id) DO NOTHING",
        (
            delivery.tenant, to, delivery.event_id, delivery.incident, delivery.seq, delivery.kind.value,
            delivery.urgent, microseconds(delivery.created_at), now_us, now_us, now_us,
            delivery.instead_of or delivery.destination,
        ),
    )  # fmt: skip
    if not added.rowcount:
        return False
    connection.execute(
        "INSERT INTO line (tenant, destination, incident, held, told_seq, told_maybe, changed_at)"
        " VALUES (?, ?, ?, 0, ?, 0, ?) ON CONFLICT DO NOTHING",
        (delivery.tenant, to, delivery.incident, min(0, delivery.seq - 1), now_us),
    )
    refresh(connection, to, LineKey(delivery.tenant, delivery.incident))
    return True
