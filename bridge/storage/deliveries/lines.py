"""What the changes of `delivery.db` share: one delivery written, one line's time said anew.

Rule: whoever changes which deliveries of a line are open, or whether a request holds them, calls `refresh_all`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from datetime import datetime

from bridge.delivery import LineKey
from bridge.model import Delivery
from bridge.storage.deliveries.rows import COLUMNS, IS_OPEN, delivery_of, key_of, values_of
from bridge.storage.times import microseconds

#: What stands in one line; three values.
IN_LINE = f"destination = ? AND tenant = ? AND incident = ? AND {IS_OPEN}"
#: Everything about a delivery that can change.
CHANGES = ", ".join(
    f"{name} = :{name}"
    for name in Delivery.__struct_fields__
    if name not in {"event_id", "destination", "tenant", "incident", "seq", "kind", "urgent", "instead_of"}
)


def write(
    connection: sqlite3.Connection,
    delivery: Delivery,
    now: datetime,
    condition: str,
    request: int | None = None,
    *,
    is_open: bool = True,
) -> None:
    """Write what has become of a delivery, if it is open (or `is_open` is false) and `condition` holds."""
    where = f"destination = :destination AND event_id = :event_id {condition}"
    connection.execute(
        f"UPDATE delivery SET {CHANGES}, changed_at = :changed_at"  # noqa: S608
        f" WHERE {where}{f' AND {IS_OPEN}' if is_open else ''}",
        values_of(delivery) | {"changed_at": microseconds(now), "request": request},
    )


def one(connection: sqlite3.Connection, tenant: str, delivery_id: int) -> Delivery | None:
    """Return the delivery with this number if it is this tenant's."""
    row = connection.execute(
        f"SELECT {COLUMNS} FROM delivery WHERE id = ? AND tenant = ?",  # noqa: S608
        (delivery_id, tenant),
    ).fetchone()
    return delivery_of(row) if row else None


def members(connection: sqlite3.Connection, request: int) -> list[Delivery]:
    """Return the open deliveries of a request, in order."""
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM delivery WHERE request = ? AND {IS_OPEN} ORDER BY id",  # noqa: S608
        (request,),
    )
    return [delivery_of(row) for row in rows]


def refresh_all(connection: sqlite3.Connection, deliveries: Iterable[Delivery]) -> None:
    """Say anew when the first delivery of each of their lines may go."""
    for destination, key in dict.fromkeys((each.destination, key_of(each)) for each in deliveries):
        refresh(connection, destination, key)


def refresh(connection: sqlite3.Connection, destination: str, key: LineKey) -> None:
    """Say anew when the line's first delivery may go.

    A first delivery that was tried has its own time. Otherwise the earliest of the line counts: an older
    event that still waits goes together with, or right before, a newer one that must not wait.
    """
    line = (destination, *key)
    head = connection.execute(
        f"SELECT next_at, attempts > 0 OR step <> '' FROM delivery WHERE {IN_LINE} ORDER BY seq LIMIT 1",  # noqa: S608
        line,
    ).fetchone()
    requests, urgent = connection.execute(
        f"SELECT count(request), ifnull(max(urgent), 0) FROM delivery WHERE {IN_LINE}",  # noqa: S608
        line,
    ).fetchone()
    due_at, held = None, False
    if requests:
        held = True
    elif head is not None and head[1]:
        due_at, held = head[0], True
    elif head is not None:
        (due_at,) = connection.execute(f"SELECT min(next_at) FROM delivery WHERE {IN_LINE}", line).fetchone()  # noqa: S608
    connection.execute(
        "UPDATE line SET due_at = ?, held = ?, urgent = ?"
        " WHERE destination = ? AND tenant = ? AND incident = ?",
        (due_at, held, urgent, *line),
    )
