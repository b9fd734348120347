"""Erasing webhooks as they came, and the rows that ask for it.

Rules: what is erased leaves its row, which becomes one that only tells the time, or loses what is meant: numbers and
times stay as they were. A row that asks for an erase stands with what it erases until all the stores are done, then
without it until the file was written anew, and then as a row that tells the time. So a process that is killed finds
what it was at, and an analyst that reads all of it once more erases again or nothing.
"""

from __future__ import annotations

import base64
import binascii
import sqlite3
from datetime import datetime

import msgspec

from bridge.analysis.erasing import Eraser
from bridge.model import RowKind, Word
from bridge.storage.times import microseconds, moment_of

#: Rows of one transaction, which webhooks wait for.
ROWS = 20
#: What models answered is packed, and was taken in: nobody needs it.
_PACKED = frozenset({RowKind.LINKER, RowKind.REVIEWS})


class EraseRow(Word, frozen=True, kw_only=True):
    """A row that asks for an erase."""

    id: int
    received_at: datetime
    tenant: str
    body: bytes


def asked(connection: sqlite3.Connection) -> tuple[EraseRow, ...]:
    """Return the rows that ask for an erase which is not done, in order. Looks through all rows."""
    rows = connection.execute(
        "SELECT id, received_at, tenant, body FROM inbox WHERE kind = ? ORDER BY id", [RowKind.ERASE.value]
    ).fetchall()
    return tuple(
        EraseRow(id=number, received_at=moment_of(at), tenant=tenant, body=body)
        for number, at, tenant, body in rows
    )


def erase_some(
    connection: sqlite3.Connection, row: EraseRow, eraser: Eraser, after: int
) -> tuple[int, int] | None:
    """Take what is erased out of a few rows above `after` that came before the one that asks for it.

    Returns the last of them and how many had something; None: there are no more.
    """
    found = connection.execute(
        "SELECT id, kind, body FROM inbox WHERE tenant = ? AND id > ? AND id < ? AND received_at <= ?"
        " AND kind NOT IN (?, ?) ORDER BY id LIMIT ?",
        [
            row.tenant, after, row.id, microseconds(min(eraser.until, row.received_at)), RowKind.ERASE.value,
            RowKind.CLOCK.value, ROWS,
        ],
    ).fetchall()  # fmt: skip
    changed = 0
    for number, kind, body in found:
        left = row_without(eraser, RowKind(kind), body)
        if left is None:
            clear(connection, number)
        elif left is not body:
            connection.execute("UPDATE inbox SET body = ? WHERE id = ?", [left, number])
        changed += left is not body
    return (found[-1][0], changed) if found else None


def seal(connection: sqlite3.Connection, number: int, body: bytes) -> int:
    """Let a row that asks for an erase hold `body` from here on."""
    return connection.execute("UPDATE inbox SET body = ? WHERE id = ?", [body, number]).rowcount


def clear(connection: sqlite3.Connection, number: int) -> int:
    """Let a row do nothing but tell the time."""
    return connection.execute(
        "UPDATE inbox SET kind = ?, source = '', body = x'' WHERE id = ?", [RowKind.CLOCK.value, number]
    ).rowcount


def row_without(eraser: Eraser, kind: RowKind, body: bytes) -> bytes | None:
    """Return the body of a row without what is erased, the same object if it holds none; None: it goes whole."""
    if kind is RowKind.TOPOLOGY and _origin_of(body) == "file":
        return body  # that one is the configuration's
    if eraser.everything or kind in _PACKED:
        return None
    if kind is RowKind.REJECTED:
        return None if eraser.touches(_rejected(body)) else body
    cleaned = eraser.body(body)
    return body if cleaned is None and not eraser.is_in(body) else cleaned


def _origin_of(body: bytes) -> str:
    try:
        return str(msgspec.json.decode(body)["origin"])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError, KeyError):
        return ""


def _rejected(body: bytes) -> bytes:
    try:
        return base64.b64decode(msgspec.json.decode(body)["body_base64"])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError, KeyError, binascii.Error):
        return body
