"""Parts of lists and exports, and what asks for them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec

from bridge.analysis.reports import Record
from bridge.model import IncidentState, Word
from bridge.storage.times import microseconds

#: What is said to a cursor that is none, or another tenant's: nothing tells the one from the other.
FOREIGN = "not a cursor that this list gave out"


class Cursor(Word, frozen=True, kw_only=True):
    """Where the next page begins: after this row, in the list's own order.

    `tenant` is that of the row, so that no tenant goes on in another's list.
    """

    #: `opened_at` in microseconds since the epoch, or the number in lists that are ordered by it; in SQLite's range.
    at: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
    tenant: str = ""
    id: str = ""


class Page(Word, frozen=True, kw_only=True):
    """Part of a list. `next` is the text to ask the following part with, None at the end."""

    items: tuple[Record, ...]
    next: str | None


class Lines(Word, frozen=True, kw_only=True):
    """Part of an export: JSON lines, and where to go on (None at the end)."""

    lines: tuple[bytes, ...]
    next: Cursor | None


def write_cursor(cursor: Cursor) -> str:
    """Return the cursor as text for a URL."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(cursor)).decode().rstrip("=")


def read_cursor(text: str, tenant: str | None) -> Cursor:
    """Return the cursor that `write_cursor` wrote for this tenant; None stands for all of them.

    Raises:
        ValueError: The text is not one of ours, or was given to another tenant.
    """
    try:
        packed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        cursor = msgspec.msgpack.decode(packed, type=Cursor)
    except (binascii.Error, msgspec.MsgspecError, UnicodeError, ValueError) as error:
        raise ValueError(FOREIGN) from error
    if tenant not in {None, cursor.tenant}:
        raise ValueError(FOREIGN)
    return cursor


def chosen(
    tenant: str | None,
    states: Sequence[IncidentState] = (),
    severity: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> tuple[list[str], list[Any]]:
    """Return conditions and their values for the filters that were given."""
    where: list[str] = []
    values: list[Any] = []
    if tenant is not None:
        where.append("tenant = ?")
        values.append(tenant)
    if states:
        where.append(f"state IN ({', '.join('?' * len(states))})")
        values += [state.value for state in states]
    if severity is not None:
        where.append("severity = ?")
        values.append(severity)
    if since is not None:
        where.append("opened_at >= ?")
        values.append(microseconds(since))
    if until is not None:
        where.append("opened_at < ?")
        values.append(microseconds(until))
    return where, values


def all_of(where: Sequence[str]) -> str:
    """Return the WHERE of all conditions."""
    return f"WHERE {' AND '.join(where)}" if where else ""


def next_of(rows: Sequence[Any], limit: int, cursor_of: Callable[[Any], Cursor]) -> str | None:
    """Return where the next page begins; `rows` has one more than `limit` if there is one."""
    return write_cursor(cursor_of(rows[limit - 1])) if len(rows) > limit else None
