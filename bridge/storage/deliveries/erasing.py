"""Erasing what is on its way: requests as they were frozen, and what destinations said of them.

Rules: a request is made of events, which are without what is erased by then; one that is not under way is forgotten and
rendered anew. One that is under way, or waits for its acknowledgement, is waited for: it is there already. All requests
of a tenant are, whatever is in them: to render one again costs less than to read it in every format.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import msgspec

from bridge.storage.deliveries.claiming import thaw
from bridge.storage.deliveries.rows import pack


def newest(connection: sqlite3.Connection) -> int:
    """Return the highest number that a request ever had."""
    found = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'request'").fetchone()
    return int(found[0]) if found else 0


def erase(connection: sqlite3.Connection, tenant: str, through: int, masked: Callable[[str], str]) -> int:
    """Forget a tenant's requests up to number `through`; return how many of them have to be waited for."""
    requests = connection.execute(
        "SELECT request.id, claimed OR EXISTS"
        " (SELECT 1 FROM delivery AS other WHERE other.request = request.id AND other.state = 'pending')"
        " FROM request WHERE id <= ? AND id IN"
        " (SELECT request FROM delivery WHERE tenant = ? AND request IS NOT NULL)",
        (through, tenant),
    ).fetchall()
    for request, is_under_way in requests:
        if not is_under_way:
            thaw(connection, request)
    for number, reason in connection.execute(
        "SELECT id, reason FROM delivery WHERE tenant = ? AND reason <> ''", (tenant,)
    ).fetchall():
        if masked(reason) != reason:
            connection.execute("UPDATE delivery SET reason = ? WHERE id = ?", (masked(reason), number))
    for destination, incident, memory in connection.execute(
        "SELECT destination, incident, memory FROM line WHERE tenant = ? AND memory IS NOT NULL", (tenant,)
    ).fetchall():
        known = msgspec.json.decode(memory, type=dict[str, str])
        left = {name: masked(text) for name, text in known.items()}
        if left != known:
            connection.execute(
                "UPDATE line SET memory = ? WHERE destination = ? AND tenant = ? AND incident = ?",
                (pack(left), destination, tenant, incident),
            )
    return sum(bool(is_under_way) for _, is_under_way in requests)
