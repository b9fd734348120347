"""Changes of `delivery.db` that are no attempt: what comes in, what recovers, what people do.

Each is one function on a connection inside somebody's transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime

from bridge.delivery import OPEN, LineKey, OutboxPlace, OutboxRow, dropped, retried, unanswered
from bridge.model import DeliveryState, EventKind
from bridge.storage.deliveries.claiming import thaw
from bridge.storage.deliveries.lines import IN_LINE, members, one, refresh, refresh_all, write
from bridge.storage.deliveries.rows import COLUMNS, ERA, IS_OPEN, delivery_of
from bridge.storage.times import microseconds

#: Time servers set a clock back by less all the time.
SET_BACK_S = 5.0
#: What goes sooner for something urgent: all that failed, unless the destination asked for the wait.
SOONER = "(until_recovery = 1 OR stuck_since IS NOT NULL)"
#: What may give way to something newer, which coalescing decides: the rest of an event, refused for itself.
GIVES_WAY = "step <> '' AND refusals > 0 AND request IS NULL"

# ---- taking in -------------------------------------------------------------------------------------------


def take_in(connection: sqlite3.Connection, rows: Sequence[OutboxRow], now: datetime) -> frozenset[str]:
    """Add outbox rows and move the cursor behind them; rows that are known already change nothing."""
    touched = set()
    for row in rows:
        # The outbox has the inbox's time, which a clock that was once ahead keeps ahead: what counts is the wait.
        first = microseconds(min(row.not_before, now + (row.not_before - row.at)))
        added = connection.execute(
            "INSERT INTO delivery (tenant, destination, event_id, incident, seq, kind, urgent, state, created_at,"
            " next_at, attempts, token, step, reason, maybe_duplicate, until_recovery, changed_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, 'waiting', ?, ?, 0, '', '', '', 0, 0, ?)"
            " ON CONFLICT (destination, event_id) DO NOTHING",
            (
                row.tenant, row.destination, row.event_id, row.incident, row.seq, row.kind.value,
                row.urgent, microseconds(row.at), first, microseconds(now),
            ),
        )  # fmt: skip
        if added.rowcount:
            touched.add(row.destination)
            _join_line(connection, row, first, microseconds(now))
            if row.urgent or row.kind is EventKind.ESCALATED:
                _reopen(connection, row, first, SOONER)
            elif row.kind is not EventKind.UPDATED:
                _reopen(connection, row, first, GIVES_WAY)
    if rows:
        set_cursor(connection, max(row.id for row in rows))
    return frozenset(touched)


def _join_line(connection: sqlite3.Connection, row: OutboxRow, first: int, now_us: int) -> None:
    connection.execute(
        "INSERT INTO line (tenant, destination, incident, due_at, held, urgent, told_seq, told_maybe, changed_at)"
        " VALUES (?, ?, ?, ?, 0, ?, 0, 0, ?) ON CONFLICT DO UPDATE SET changed_at = excluded.changed_at,"
        " urgent = max(urgent, excluded.urgent),"
        " due_at = CASE WHEN held THEN due_at ELSE min(ifnull(due_at, excluded.due_at), excluded.due_at) END",
        (row.tenant, row.destination, row.incident, first, row.urgent, now_us),
    )


def _reopen(connection: sqlite3.Connection, row: OutboxRow, first: int, which: str) -> None:
    """Let what has joined not wait for the next try of an older event, if that is one of `which`."""
    head = connection.execute(
        f"SELECT id, request FROM delivery WHERE {IN_LINE}"  # noqa: S608
        f" AND {which} ORDER BY seq LIMIT 1",
        (row.destination, row.tenant, row.incident),
    ).fetchone()
    if head is None:
        return
    number, request = head
    connection.execute("UPDATE delivery SET next_at = min(next_at, ?) WHERE id = ?", (first, number))
    if request is not None:
        connection.execute(
            "UPDATE request SET due_at = min(due_at, ?), urgent = max(urgent, ?) WHERE id = ? AND claimed = 0",
            (first, row.urgent, request),
        )
    refresh(connection, row.destination, LineKey(row.tenant, row.incident))


def cursor(connection: sqlite3.Connection) -> OutboxPlace:
    """Return the last outbox row that was taken in."""
    row = connection.execute("SELECT outbox, id FROM outbox_cursor").fetchone()
    return OutboxPlace(outbox=row[0], id=row[1])


def set_cursor(connection: sqlite3.Connection, row_id: int) -> None:
    """Remember the last outbox row that was taken in."""
    connection.execute("UPDATE outbox_cursor SET id = ?", (row_id,))


def rewind(connection: sqlite3.Connection, outbox: str) -> None:
    """Begin at the first row of `outbox`; it is another one than was read before.

    Its events are numbered from the beginning, so all that is known is moved an `ERA` down: what still waits of
    the old state is older than anything new, and keeps its order and its place before or behind what was told.
    What was told says nothing about the new events but that something may have been: an end still goes.
    What has ended keeps its number, which is only shown.
    """
    connection.execute("UPDATE outbox_cursor SET outbox = ?, id = 0", (outbox,))
    connection.execute(
        "UPDATE line SET told_seq = told_seq - ?, told_maybe = max(told_maybe, told_kind IS NOT NULL)", (ERA,)
    )
    connection.execute(
        f"UPDATE delivery SET seq = seq - ? WHERE {IS_OPEN} OR state = 'dead'",  # noqa: S608
        (ERA,),
    )


# ---- the whole destination, the whole store --------------------------------------------------------------


def follow_clock(connection: sqlite3.Connection, now: datetime) -> float:
    """Move what waits along with a clock that was set back, and return by how many seconds it was; mostly 0.

    The store's newest change tells what the time has been. Without this, what was to go again in a minute would wait
    for as long as the clock had been ahead. Looks at every row: for a start.
    """
    now_us = microseconds(now)
    newest = (
        "SELECT max(changed_at) FROM (SELECT changed_at FROM delivery UNION ALL SELECT changed_at FROM line)"
    )
    latest = connection.execute(newest).fetchone()[0]
    back_us = 0 if latest is None else latest - now_us
    if back_us <= SET_BACK_S * 1e6:
        return 0.0
    for table, column in (("delivery", "next_at"), ("request", "due_at"), ("line", "due_at")):
        connection.execute(
            f"UPDATE {table} SET {column} = max({column} - ?, ?) WHERE {column} > ?",  # noqa: S608 - names of ours
            (back_us, now_us, now_us),
        )
    for table, column in (
        *((each, "changed_at") for each in ("delivery", "line")),
        *(("delivery", each) for each in ("pending_since", "failing_since", "stuck_since", "asked_at")),
    ):
        connection.execute(
            f"UPDATE {table} SET {column} = ? WHERE {column} > ?",  # noqa: S608 - as above
            (now_us, now_us),
        )
    return back_us / 1e6


def recover(connection: sqlite3.Connection, now: datetime) -> int:
    """Make due what was under way when the process ended, flagged as a possible repeat; return how much."""
    cut_off = connection.execute("SELECT id FROM request WHERE claimed = 1").fetchall()
    for (request,) in cut_off:
        for delivery in members(connection, request):
            write(connection, unanswered(delivery, now), now, "AND request = :request", request)
            connection.execute(
                "UPDATE line SET told_maybe = 1 WHERE destination = ? AND tenant = ? AND incident = ?",
                (delivery.destination, delivery.tenant, delivery.incident),
            )
        connection.execute(
            "UPDATE request SET claimed = 0, due_at = ? WHERE id = ?", (microseconds(now), request)
        )
    return len(cut_off)


def hasten(connection: sqlite3.Connection, destination: str, now: datetime) -> None:
    """Make due what waits for its destination to take something again, which it has.

    Each goes at the place in the order that its age gives it, not behind all that was not tried meanwhile.
    """
    now_us = microseconds(now)
    waits = f"destination = ? AND {IS_OPEN} AND until_recovery = 1 AND next_at > ?"
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM delivery WHERE {waits}",  # noqa: S608
        (destination, now_us),
    ).fetchall()
    carried = f"SELECT request FROM delivery WHERE {waits}"  # noqa: S608
    connection.execute(
        f"UPDATE request SET due_at = ? WHERE claimed = 0 AND id IN ({carried})",  # noqa: S608
        (now_us, destination, now_us),
    )
    connection.execute(
        f"UPDATE delivery SET next_at = min(created_at, ?) WHERE {waits}",  # noqa: S608
        (now_us, destination, now_us),
    )
    refresh_all(connection, [delivery_of(row) for row in rows])


# ---- people ----------------------------------------------------------------------------------------------


def retry(connection: sqlite3.Connection, tenant: str, delivery_id: int, now: datetime) -> str | None:
    """Send a dead letter off again; return its destination, None if there is no such dead letter."""
    found = one(connection, tenant, delivery_id)
    if found is None or found.state is not DeliveryState.DEAD:
        return None
    write(connection, retried(found, now), now, "AND state = 'dead'", is_open=False)
    connection.execute(
        "INSERT INTO line (tenant, destination, incident, held, told_seq, told_maybe, changed_at)"
        " VALUES (?, ?, ?, 0, ?, 0, ?) ON CONFLICT DO NOTHING",
        (tenant, found.destination, found.incident, min(0, found.seq - 1), microseconds(now)),
    )
    refresh_all(connection, [found])
    return found.destination


def drop(connection: sqlite3.Connection, tenant: str, delivery_id: int, now: datetime) -> str | None:
    """End a waiting, pending or dead delivery for good; return its destination, None if there is none."""
    found = one(connection, tenant, delivery_id)
    if found is None or found.state not in {*OPEN, DeliveryState.DEAD}:
        return None
    write(connection, dropped(found), now, "", is_open=False)
    _leave_request(connection, delivery_id, found.state)
    refresh_all(connection, [found])
    return found.destination


def _leave_request(connection: sqlite3.Connection, delivery_id: int, state: DeliveryState) -> None:
    """Take a dropped delivery out of its request, unless that is under way: its answer sorts it out."""
    request = connection.execute(
        "SELECT request.id FROM delivery JOIN request ON request.id = delivery.request"
        " WHERE delivery.id = ? AND claimed = 0",
        (delivery_id,),
    ).fetchone()
    if request is None:
        return
    connection.execute("UPDATE delivery SET request = NULL WHERE id = ?", (delivery_id,))
    if state is DeliveryState.WAITING or not members(connection, request[0]):
        thaw(connection, request[0])
