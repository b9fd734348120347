"""Every change of `delivery.db`, each one function on a connection inside somebody's transaction.

Rule: whoever changes which deliveries of a line are open, or whether a request holds them, calls `_refresh`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from msgspec.structs import replace

from bridge.delivery import (
    OPEN,
    Claim,
    LineChange,
    LineKey,
    OutboxRow,
    Retention,
    Settlement,
    Tidied,
    dropped,
    retried,
    unanswered,
)
from bridge.model import Delivery, DeliveryState
from bridge.storage.deliveries.rows import (
    COLUMNS,
    IS_OPEN,
    delivery_of,
    key_of,
    microseconds,
    pack,
    values_of,
)

_IN_LINE = f"destination = ? AND tenant = ? AND incident = ? AND {IS_OPEN}"
_CHANGES = ", ".join(
    f"{name} = :{name}"
    for name in Delivery.__struct_fields__
    if name not in {"event_id", "destination", "tenant", "incident", "seq", "kind"}
)


#: How many ended deliveries one transaction deletes; others wait for it.
MAX_TIDIED = 5_000


# ---- taking in -------------------------------------------------------------------------------------------


def take_in(connection: sqlite3.Connection, rows: Sequence[OutboxRow], now: datetime) -> frozenset[str]:
    """Add outbox rows and move the cursor behind them; rows that are known already change nothing."""
    touched = set()
    for row in rows:
        # The outbox has the inbox's time, which a clock that was once ahead keeps ahead: what counts is the wait.
        first = microseconds(min(row.not_before, now + (row.not_before - row.at)))
        added = connection.execute(
            "INSERT INTO delivery (tenant, destination, event_id, incident, seq, kind, state, created_at,"
            " next_at, attempts, token, step, reason, maybe_duplicate, with_destination, changed_at)"
            " VALUES (?, ?, ?, ?, ?, ?, 'waiting', ?, ?, 0, '', '', '', 0, 0, ?)"
            " ON CONFLICT (destination, event_id) DO NOTHING",
            (
                row.tenant, row.destination, row.event_id, row.incident, row.seq, row.kind.value,
                microseconds(row.at), first, microseconds(now),
            ),
        )  # fmt: skip
        if added.rowcount:
            touched.add(row.destination)
            _join_line(connection, row, first, microseconds(now))
    if rows:
        set_cursor(connection, max(row.id for row in rows))
    return frozenset(touched)


def _join_line(connection: sqlite3.Connection, row: OutboxRow, first: int, now_us: int) -> None:
    connection.execute(
        "INSERT INTO line (tenant, destination, incident, due_at, held, told_seq, told_maybe, changed_at)"
        " VALUES (?, ?, ?, ?, 0, 0, 0, ?) ON CONFLICT DO UPDATE SET changed_at = excluded.changed_at,"
        " due_at = CASE WHEN held THEN due_at ELSE min(ifnull(due_at, excluded.due_at), excluded.due_at) END",
        (row.tenant, row.destination, row.incident, first, now_us),
    )


def cursor(connection: sqlite3.Connection) -> int:
    """Return the id of the last outbox row that was taken in; 0 at first."""
    row = connection.execute("SELECT id FROM outbox_cursor WHERE name = 'outbox'").fetchone()
    return int(row[0]) if row else 0


def set_cursor(connection: sqlite3.Connection, row_id: int) -> None:
    """Remember the last outbox row that was taken in."""
    connection.execute(
        "INSERT INTO outbox_cursor (name, id) VALUES ('outbox', ?)"
        " ON CONFLICT (name) DO UPDATE SET id = excluded.id",
        (row_id,),
    )


# ---- claiming --------------------------------------------------------------------------------------------


def claim(
    connection: sqlite3.Connection, settled: Sequence[Delivery], claims: Sequence[Claim], now: datetime
) -> list[int | None]:
    """End what needs no request and freeze `claims`; return their ids, None where a delivery was gone.

    Each claim stands by itself: one whose deliveries a person has just dropped does not spoil the others.
    """
    for delivery in settled:
        _write(connection, delivery, now, "AND request IS NULL")
    _refresh_all(connection, settled)
    return [_claim(connection, each, now) for each in claims]


def _claim(connection: sqlite3.Connection, claimed: Claim, now: datetime) -> int | None:
    connection.execute("SAVEPOINT claim")
    request = connection.execute(
        "INSERT INTO request (destination, body, event_ids, step, claimed, due_at) VALUES (?, ?, ?, ?, 1, ?)",
        (claimed.destination, claimed.request, pack(claimed.event_ids), claimed.step, microseconds(now)),
    ).lastrowid
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
    _refresh_all(connection, claimed.deliveries)
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


def thaw(connection: sqlite3.Connection, request: int) -> None:
    """Forget a frozen request that is not under way; what is open of it waits in its lines again."""
    taken = connection.execute("DELETE FROM request WHERE id = ? AND claimed = 0", (request,))
    if taken.rowcount:
        _release(connection, request)


# ---- settling --------------------------------------------------------------------------------------------


def settle(connection: sqlite3.Connection, settlement: Settlement, now: datetime) -> None:
    """Commit what became of a request: states, what was told, memory, and the request itself."""
    for change in settlement.lines:
        _change_line(connection, settlement.destination, change, now)
    for delivery in settlement.deliveries:
        # A person may have dropped it meanwhile; then the answer changes nothing.
        _write(connection, delivery, now, "AND request = :request", settlement.request)
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
    _refresh_all(connection, settlement.deliveries)


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
                f"UPDATE delivery SET {_CHANGES} WHERE destination = :destination AND event_id = :event_id",  # noqa: S608
                values_of(replace(freed_state, maybe_duplicate=True)),
            )
    connection.execute("UPDATE delivery SET request = NULL WHERE request = ?", (request,))
    _refresh_all(connection, freed)


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


def members(connection: sqlite3.Connection, request: int) -> list[Delivery]:
    """Return the open deliveries of a request, in order."""
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM delivery WHERE request = ? AND {IS_OPEN} ORDER BY id",  # noqa: S608
        (request,),
    )
    return [delivery_of(row) for row in rows]


# ---- the whole destination, the whole store --------------------------------------------------------------


def recover(connection: sqlite3.Connection, now: datetime) -> int:
    """Make due what was under way when the process ended, flagged as a possible repeat; return how much."""
    cut_off = connection.execute("SELECT id FROM request WHERE claimed = 1").fetchall()
    for (request,) in cut_off:
        for delivery in members(connection, request):
            _write(connection, unanswered(delivery, now), now, "AND request = :request", request)
            connection.execute(
                "UPDATE line SET told_maybe = 1 WHERE destination = ? AND tenant = ? AND incident = ?",
                (delivery.destination, delivery.tenant, delivery.incident),
            )
        connection.execute(
            "UPDATE request SET claimed = 0, due_at = ? WHERE id = ?", (microseconds(now), request)
        )
    return len(cut_off)


def hasten(connection: sqlite3.Connection, destination: str, now: datetime) -> None:
    """Make due what waits only because its whole destination was in trouble, which is over."""
    now_us = microseconds(now)
    waits = f"destination = ? AND {IS_OPEN} AND with_destination = 1 AND next_at > ?"
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM delivery WHERE {waits}",  # noqa: S608
        (destination, now_us),
    ).fetchall()
    carried = f"SELECT request FROM delivery WHERE {waits}"  # noqa: S608
    connection.execute(
        f"UPDATE request SET due_at = ? WHERE claimed = 0 AND id IN ({carried})",  # noqa: S608
        (now_us, destination, now_us),
    )
    connection.execute(f"UPDATE delivery SET next_at = ? WHERE {waits}", (now_us, destination, now_us))  # noqa: S608
    _refresh_all(connection, [delivery_of(row) for row in rows])


def retry(connection: sqlite3.Connection, tenant: str, delivery_id: int, now: datetime) -> str | None:
    """Send a dead letter off again; return its destination, None if there is no such dead letter."""
    found = _one(connection, tenant, delivery_id)
    if found is None or found.state is not DeliveryState.DEAD:
        return None
    _write(connection, retried(found, now), now, "AND state = 'dead'", is_open=False)
    connection.execute(
        "INSERT INTO line (tenant, destination, incident, held, told_seq, told_maybe, changed_at)"
        " VALUES (?, ?, ?, 0, 0, 0, ?) ON CONFLICT DO NOTHING",
        (tenant, found.destination, found.incident, microseconds(now)),
    )
    _refresh_all(connection, [found])
    return found.destination


def drop(connection: sqlite3.Connection, tenant: str, delivery_id: int, now: datetime) -> str | None:
    """End a waiting, pending or dead delivery for good; return its destination, None if there is none."""
    found = _one(connection, tenant, delivery_id)
    if found is None or found.state not in {*OPEN, DeliveryState.DEAD}:
        return None
    _write(connection, dropped(found), now, "", is_open=False)
    _leave_request(connection, delivery_id, found.state)
    _refresh_all(connection, [found])
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


# ---- shared ----------------------------------------------------------------------------------------------


def _write(
    connection: sqlite3.Connection,
    delivery: Delivery,
    now: datetime,
    condition: str,
    request: int | None = None,
    *,
    is_open: bool = True,
) -> None:
    where = f"destination = :destination AND event_id = :event_id {condition}"
    connection.execute(
        f"UPDATE delivery SET {_CHANGES}, changed_at = :changed_at"  # noqa: S608
        f" WHERE {where}{f' AND {IS_OPEN}' if is_open else ''}",
        values_of(delivery) | {"changed_at": microseconds(now), "request": request},
    )


def _one(connection: sqlite3.Connection, tenant: str, delivery_id: int) -> Delivery | None:
    row = connection.execute(
        f"SELECT {COLUMNS} FROM delivery WHERE id = ? AND tenant = ?",  # noqa: S608
        (delivery_id, tenant),
    ).fetchone()
    return delivery_of(row) if row else None


def _refresh_all(connection: sqlite3.Connection, deliveries: Iterable[Delivery]) -> None:
    for destination, key in dict.fromkeys((each.destination, key_of(each)) for each in deliveries):
        _refresh(connection, destination, key)


def _refresh(connection: sqlite3.Connection, destination: str, key: LineKey) -> None:
    """Say anew when the line's first delivery may go.

    A first delivery that was tried has its own time. Otherwise the earliest of the line counts: an older
    event that still waits goes together with, or right before, a newer one that must not wait.
    """
    line = (destination, *key)
    head = connection.execute(
        f"SELECT next_at, attempts > 0 OR step <> '' FROM delivery WHERE {_IN_LINE} ORDER BY seq LIMIT 1",  # noqa: S608
        line,
    ).fetchone()
    (requests,) = connection.execute(f"SELECT count(request) FROM delivery WHERE {_IN_LINE}", line).fetchone()  # noqa: S608
    due_at, held = None, False
    if requests:
        held = True
    elif head is not None and head[1]:
        due_at, held = head[0], True
    elif head is not None:
        (due_at,) = connection.execute(f"SELECT min(next_at) FROM delivery WHERE {_IN_LINE}", line).fetchone()  # noqa: S608
    connection.execute(
        "UPDATE line SET due_at = ?, held = ? WHERE destination = ? AND tenant = ? AND incident = ?",
        (due_at, held, *line),
    )
