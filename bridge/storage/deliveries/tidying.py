"""What is deleted from `delivery.db`, and what of it nobody can retry any more."""

from __future__ import annotations

import sqlite3
from datetime import datetime, timedelta

from bridge.delivery import Retention, Tidied
from bridge.storage.deliveries.rows import microseconds

#: How many ended deliveries one transaction deletes; others wait for it.
MAX_TIDIED = 5_000


def tidy(connection: sqlite3.Connection, retention: Retention, now: datetime) -> Tidied:
    """Delete what ended long enough ago (`MAX_TIDIED` at a time), and dead letters beyond their bounds."""

    def before(kept_s: float) -> int:
        return microseconds(now - timedelta(seconds=kept_s))

    lost: dict[str, int] = {}
    ended = connection.execute(
        "DELETE FROM delivery WHERE id IN (SELECT id FROM delivery"
        " WHERE state IN ('delivered', 'superseded', 'dropped') AND changed_at < ? LIMIT ?)",
        (before(retention.ended_s), MAX_TIDIED),
    ).rowcount
    counts = connection.execute(
        "SELECT destination, count(*) FROM delivery WHERE state = 'dead' GROUP BY destination"
    ).fetchall()
    for destination, count in counts:
        gone = connection.execute(
            "DELETE FROM delivery WHERE state = 'dead' AND destination = ? AND (changed_at < ? OR id IN"
            " (SELECT id FROM delivery WHERE state = 'dead' AND destination = ?"
            " ORDER BY changed_at, id LIMIT ?))",
            (destination, before(retention.dead_s), destination, max(0, count - retention.max_dead)),
        ).rowcount
        if gone:
            lost[destination] = gone
            _count_lost(connection, destination, gone)
    connection.execute(
        "DELETE FROM line WHERE due_at IS NULL AND held = 0 AND changed_at < ?", (before(retention.memory_s),)
    )
    return Tidied(ended=ended, lost=lost, more=ended == MAX_TIDIED)


def _count_lost(connection: sqlite3.Connection, destination: str, count: int) -> None:
    connection.execute(
        "INSERT INTO lost (destination, count) VALUES (?, ?)"
        " ON CONFLICT (destination) DO UPDATE SET count = count + excluded.count",
        (destination, count),
    )
