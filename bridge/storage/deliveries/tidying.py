"""What makes room in `delivery.db`: what ended is deleted, what is too much is given up."""

from __future__ import annotations

import sqlite3
from datetime import datetime, timedelta

from bridge.delivery import GivenUp, Retention, Tidied, move, shed_of
from bridge.model import DeliveryState
from bridge.storage.deliveries.lines import refresh_all, write
from bridge.storage.deliveries.rows import COLUMNS, IS_OPEN, delivery_of
from bridge.storage.times import microseconds

#: How many ended deliveries one transaction deletes; others wait for it.
MAX_TIDIED = 5_000


def tidy(connection: sqlite3.Connection, retention: Retention, now: datetime) -> Tidied:
    """Delete what ended long enough ago (`MAX_TIDIED` at a time), and dead letters beyond their bounds."""

    def before(kept_s: float) -> int:
        return microseconds(now - timedelta(seconds=kept_s))

    ended = connection.execute(
        "DELETE FROM delivery WHERE id IN (SELECT id FROM delivery"
        " WHERE state IN ('delivered', 'superseded', 'dropped') AND changed_at < ? LIMIT ?)",
        (before(retention.ended_s), MAX_TIDIED),
    ).rowcount
    names = connection.execute("SELECT DISTINCT destination FROM delivery WHERE state = 'dead'").fetchall()
    lost = {name: _bury(connection, name, retention, now) for (name,) in names}
    # What is remembered of a page or a message that is open is needed for as long as it is.
    connection.execute(
        "DELETE FROM line WHERE due_at IS NULL AND held = 0 AND changed_at < ?"
        " AND (ifnull(memory, '{}') = '{}' OR told_kind IN ('closed', 'merged'))",
        (before(retention.memory_s),),
    )
    return Tidied(
        ended=ended, lost={name: count for name, count in lost.items() if count}, more=ended == MAX_TIDIED
    )


def give_up(
    connection: sqlite3.Connection,
    destination: str,
    count: int,
    reason: str,
    retention: Retention,
    now: datetime,
) -> GivenUp:
    """Make dead letters of `count` events that wait, and bound what there is of those.

    Of the tenants that have most there, the oldest: one tenant's backlog does not cost another its events. What is
    under way, or frozen to go again, is left alone: it may have arrived.
    """
    waits = f"destination = ? AND {IS_OPEN} AND state = 'waiting' AND request IS NULL"
    counts = dict(
        connection.execute(
            f"SELECT tenant, count(*) FROM delivery WHERE {waits} GROUP BY tenant",  # noqa: S608
            (destination,),
        ).fetchall()
    )
    oldest = [
        delivery_of(row)
        for tenant, number in shed_of(counts, min(count, MAX_TIDIED)).items()
        for row in connection.execute(
            f"SELECT {COLUMNS} FROM delivery WHERE {waits} AND tenant = ? ORDER BY created_at LIMIT ?",  # noqa: S608
            (destination, tenant, number),
        ).fetchall()
    ]
    for delivery in oldest:
        write(connection, move(delivery, DeliveryState.DEAD, reason=reason), now, "AND request IS NULL")
    refresh_all(connection, oldest)
    return GivenUp(events=len(oldest), lost=_bury(connection, destination, retention, now))


def _bury(connection: sqlite3.Connection, destination: str, retention: Retention, now: datetime) -> int:
    """Delete the dead letters of a destination that are too old or too many; return how many."""
    (count,) = connection.execute(
        "SELECT count(*) FROM delivery WHERE state = 'dead' AND destination = ?", (destination,)
    ).fetchone()
    oldest = microseconds(now - timedelta(seconds=retention.dead_s))
    gone = connection.execute(
        "DELETE FROM delivery WHERE state = 'dead' AND destination = ? AND (changed_at < ? OR id IN"
        " (SELECT id FROM delivery WHERE state = 'dead' AND destination = ?"
        " ORDER BY changed_at, created_at, id LIMIT ?))",
        (destination, oldest, destination, max(0, count - retention.max_dead)),
    ).rowcount
    if gone:
        _count_lost(connection, destination, gone)
    return gone


def _count_lost(connection: sqlite3.Connection, destination: str, count: int) -> None:
    connection.execute(
        "INSERT INTO lost (destination, count) VALUES (?, ?)"
        " ON CONFLICT (destination) DO UPDATE SET count = count + excluded.count",
        (destination, count),
    )
