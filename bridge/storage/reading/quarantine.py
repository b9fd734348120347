"""Reading what could not be used."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import zstandard

from bridge.analysis.reports import Record
from bridge.model import Word
from bridge.storage.reading.pages import Cursor, Page, all_of, chosen, next_of, read_cursor
from bridge.storage.times import moment_of


class Quarantined(Word, frozen=True, kw_only=True):
    """Something that could not be used, with its bytes. `what` is "alert", "body" or "row"."""

    id: int
    tenant: str
    source: str
    received_at: datetime
    inbox_id: int
    what: str
    reason: str
    body: bytes
    replayed_at: datetime | None  # when it was last sent again


def listed(store: sqlite3.Connection, tenant: str | None, limit: int, cursor: str | None) -> Page:
    """Return one page, newest first, without the bytes.

    Raises:
        ValueError: `cursor` is not one that this list gave out.
    """
    where, values = chosen(tenant)
    if cursor is not None:
        where.append("id < ?")
        values.append(read_cursor(cursor, tenant).at)
    rows = store.execute(
        "SELECT id, tenant, source, received_at, inbox_id, what, reason, size, replayed_at FROM quarantine"  # noqa: S608
        f" {all_of(where)} ORDER BY id DESC LIMIT ?",
        (*values, limit + 1),
    ).fetchall()
    return Page(
        items=tuple(_item(row) for row in rows[:limit]),
        next=next_of(rows, limit, lambda row: Cursor(at=row[0], tenant=row[1])),
    )


def entry(store: sqlite3.Connection, tenant: str | None, number: int) -> Quarantined | None:
    """Return one entry with its bytes; None if it is not there or not theirs."""
    where, values = chosen(tenant)
    where.append("id = ?")
    row = store.execute(
        "SELECT id, tenant, source, received_at, inbox_id, what, reason, body, replayed_at"  # noqa: S608
        f" FROM quarantine {all_of(where)}",
        (*values, number),
    ).fetchone()
    if row is None:
        return None
    body = zstandard.ZstdDecompressor().decompressobj().decompress(row[7])
    return Quarantined(
        id=row[0], tenant=row[1], source=row[2], received_at=moment_of(row[3]), inbox_id=row[4], what=row[5],
        reason=row[6], body=body, replayed_at=_maybe(row[8]),
    )  # fmt: skip


def _item(row: Sequence[Any]) -> Record:
    return {
        "id": row[0], "tenant": row[1], "source": row[2], "received_at": moment_of(row[3]),
        "inbox_id": row[4], "what": row[5], "reason": row[6], "body_bytes": row[7], "replayed_at": _maybe(row[8]),
    }  # fmt: skip


def _maybe(since_epoch_us: int | None) -> datetime | None:
    return None if since_epoch_us is None else moment_of(since_epoch_us)
