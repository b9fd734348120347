"""Requests of `delivery.db`: claimed before they are sent, settled or thawed afterwards.

Each is one function on a connection inside somebody's transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec.structs import replace

from bridge.delivery import Claim, LineChange, Settlement, unanswered
from bridge.model import Delivery, DeliveryState
from bridge.storage.deliveries.lines import CHANGES, members, refresh_all, write
from bridge.storage.deliveries.rows import pack, values_of
from bridge.storage.times import microseconds


def claim(
    connection: sqlite3.Connection,
    settled: Sequence[Delivery],
    claims: Sequence[Claim],
    lines: Sequence[LineChange],
    now: datetime,
) -> list[int | None]:
    """End what needs no request and freeze `claims`; return their ids, None where a delivery was gone.

    Each claim stands by itself: one whose deliveries a person has just dropped does not spoil the others.
    `lines` is what ending `settled`, all of one destination, changes about their lines.
    """
    for delivery in settled:
        write(connection, delivery, now, "AND request IS NULL")
    for change in lines:
        _change_line(connection, settled[0].destination, change, now)
    refresh_all(connection, settled)
    return [_claim(connection, each, now) for each in claims]


def _claim(connection: sqlite3.Connection, claimed: Claim, now: datetime) -> int | None:
    connection.execute("SAVEPOINT claim")
    request = connection.execute(
        "INSERT INTO request (destination, body, event_ids, step, claimed, urgent, due_at)"
        " VALUES (?, ?, ?, ?, 1, ?, ?)",
        (
            claimed.destination, claimed.request, pack(claimed.event_ids), claimed.step,
            any(each.urgent for each in claimed.deliveries), microseconds(now),
        ),
    ).lastrowid  # fmt: skip
    taken = 0
    for delivery in claimed.deliveries:
        taken += connection.execute(
            "UPDATE delivery SET request = ?, attempts = attempts + 1, changed_at = ?"
            " WHERE destination = ? AND event_id = ? AND state = 'waiting' AND request IS NULL",
            (request, microseconds(now), delivery.destination, delivery.event_id),
        ).rowcount
    if taken != len(claimed.deliveries):
        connection.execute("ROLLBACK TO claim")
        connection.execute("RELEASE claim")
        return None
    connection.execute("RELEASE claim")
    refresh_all(connection, claimed.deliveries)
    return request


def reclaim(connection: sqlite3.Connection, request: int, now: datetime) -> bool:
    """Mark a frozen request as under way again; False if it is gone or under way."""
    taken = connection.execute("UPDATE request SET claimed = 1 WHERE id = ? AND claimed = 0", (request,))
    if not taken.rowcount:
        return False
    connection.execute(
        "UPDATE delivery SET attempts = attempts + 1, changed_at = ? WHERE request = ? AND state = 'waiting'",
        (microseconds(now), request),
    )
    return True


def unclaim(connection: sqlite3.Connection, request: int, due_at: datetime, now: datetime) -> None:
    """Let a request whose attempt broke off here go again at `due_at`; it may be a repeat then."""
    for delivery in members(connection, request):
        again = replace(unanswered(delivery, now), next_at=due_at)
        write(connection, again, now, "AND request = :request", request)
    connection.execute(
        "UPDATE request SET claimed = 0, due_at = ? WHERE id = ? AND claimed = 1",
        (microseconds(due_at), request),
    )


def thaw(connection: sqlite3.Connection, request: int) -> None:
    """Forget a frozen request that is not under way; what is open of it waits in its lines again."""
    taken = connection.execute("DELETE FROM request WHERE id = ? AND claimed = 0", (request,))
    if taken.rowcount:
        _release(connection, request)


def thaw_overtaken(connection: sqlite3.Connection, destination: str) -> None:
    """Forget frozen requests behind whose first event a newer one of the same incident waits."""
    overtaken = connection.execute(
        "SELECT DISTINCT request.id FROM request JOIN delivery AS old ON old.request = request.id"
        " JOIN delivery AS new ON new.destination = old.destination AND new.tenant = old.tenant"
        " AND new.incident = old.incident AND new.seq > old.seq AND new.request IS NULL"
        " AND new.state IN ('waiting', 'pending')"
        " WHERE request.destination = ? AND claimed = 0 AND request.step = '' AND old.state = 'waiting'",
        (destination,),
    ).fetchall()
    for (request,) in overtaken:
        thaw(connection, request)


def adopt(connection: sqlite3.Connection, marks: Mapping[str, str]) -> int:
    """Remember the destinations and the marks of their settings; return how many requests were thawed.

    Where the mark is another than before, what is frozen and not under way is rendered anew. What awaits an
    acknowledgement was accepted and keeps its request.
    """
    thawed = 0
    for name, mark in marks.items():
        known = connection.execute("SELECT mark FROM destination WHERE name = ?", (name,)).fetchone()
        connection.execute(
            "INSERT INTO destination (name, mark) VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET mark = excluded.mark",
            (name, mark),
        )
        if known is None or known[0] == mark:
            continue
        stale = connection.execute(
            "SELECT id FROM request WHERE destination = ? AND claimed = 0 AND NOT EXISTS"
            " (SELECT 1 FROM delivery WHERE request = request.id AND state = 'pending')",
            (name,),
        ).fetchall()
        for (request,) in stale:
            thaw(connection, request)
        thawed += len(stale)
    return thawed


# ---- settling --------------------------------------------------------------------------------------------


def settle(connection: sqlite3.Connection, settlement: Settlement, now: datetime) -> None:
    """Commit what became of a request: states, what was told, memory, and the request itself."""
    for change in settlement.lines:
        _change_line(connection, settlement.destination, change, now)
    for delivery in settlement.deliveries:
        # A person may have dropped it meanwhile; then the answer changes nothing.
        write(connection, delivery, now, "AND request = :request", settlement.request)
    kept = None if settlement.keep_until is None else _still_carried(connection, settlement.request)
    if settlement.keep_until is None or kept is None:
        connection.execute("DELETE FROM request WHERE id = ?", (settlement.request,))
        _release(connection, settlement.request)
    else:
        connection.execute(
            "UPDATE request SET claimed = 0, due_at = ? WHERE id = ?",
            (microseconds(settlement.keep_until), settlement.request),
        )
        connection.execute(
            "UPDATE delivery SET request = NULL WHERE request = ? AND state <> ?", (settlement.request, kept)
        )
    refresh_all(connection, settlement.deliveries)


def _still_carried(connection: sqlite3.Connection, request: int) -> str | None:
    """Return in which state deliveries still need a request, None if it is done with.

    An acknowledgement is asked for with what was sent. The bytes go again only if each of their events does.
    """
    members = connection.execute("SELECT state FROM delivery WHERE request = ?", (request,)).fetchall()
    states = [DeliveryState(state) for (state,) in members]
    if DeliveryState.PENDING in states:
        return DeliveryState.PENDING.value
    row = connection.execute(
        "SELECT json_array_length(event_ids) FROM request WHERE id = ?", (request,)
    ).fetchone()
    is_whole = row is not None and states == [DeliveryState.WAITING] * row[0]
    return DeliveryState.WAITING.value if is_whole else None


def _release(connection: sqlite3.Connection, request: int) -> None:
    freed = members(connection, request)
    for delivery in freed:
        if delivery.state is DeliveryState.PENDING:
            # Without its request the acknowledgement cannot be waited for: it is sent again.
            freed_state = replace(delivery, state=DeliveryState.WAITING, token="", pending_since=None)
            connection.execute(
                f"UPDATE delivery SET {CHANGES} WHERE destination = :destination AND event_id = :event_id",  # noqa: S608
                values_of(replace(freed_state, maybe_duplicate=True)),
            )
    connection.execute("UPDATE delivery SET request = NULL WHERE request = ?", (request,))
    refresh_all(connection, freed)


def _change_line(connection: sqlite3.Connection, destination: str, change: LineChange, now: datetime) -> None:
    told = change.told
    connection.execute(
        "UPDATE line SET told_seq = ?, told_kind = ?, told_maybe = ?, memory = ifnull(?, memory),"
        " changed_at = ? WHERE destination = ? AND tenant = ? AND incident = ?",
        (
            told.seq, None if told.kind is None else told.kind.value, told.maybe,
            None if change.memory is None else pack(change.memory), microseconds(now),
            destination, change.key.tenant, change.key.incident,
        ),
    )  # fmt: skip
