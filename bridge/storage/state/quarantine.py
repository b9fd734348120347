"""What could not be used, kept with its bytes: packed, and bounded at each insert.

Rules: each tenant has rows and bytes of its own, so that nobody's garbage drives out what another has to look at; the
oldest go first, the newest stays however large it is. Bytes of an alert or a rejected body are cut at `BODY_BYTES`,
since a person looks at them. A row that was set aside is a webhook that somebody was promised would not be lost: it is
kept whole, to be sent again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import zstandard

from bridge.model import Word

ROWS = 10_000  # of one tenant
BYTES = 128 << 20  # of one tenant, packed
BODY_BYTES = 1 << 20  # a longer one is kept cut; its length is in the reason

_INSERT = (
    "insert into quarantine (tenant, source, received_at, inbox_id, what, reason, body, size)"
    " values (?, ?, ?, ?, ?, ?, ?, ?)"
)
_TOO_MANY = (
    "delete from quarantine where tenant = ? and id <="
    " (select id from quarantine where tenant = ? order by id desc limit 1 offset ?)"
)
#: The newest one whose bytes, together with those of all that are newer, are too many.
_TOO_MUCH = (
    "delete from quarantine where tenant = ? and id <= (select max(id) from (select id, sum(length(body))"
    " over (order by id desc) as total from quarantine where tenant = ?) where total > ?)"
    " and id < (select max(id) from quarantine where tenant = ?)"
)


class Entry(Word, frozen=True, kw_only=True):
    """Something to be kept. `what`: alert, body or row."""

    tenant: str
    source: str
    received_at: int  # microseconds since the epoch
    inbox_id: int
    what: str
    reason: str
    body: bytes


def insert(db: sqlite3.Connection, entries: Sequence[Entry]) -> None:
    """Keep entries, and let go of the oldest that are too many; inside of somebody's transaction."""
    if not entries:
        return
    compress = zstandard.ZstdCompressor(level=1).compress
    rows = []
    for entry in entries:
        reason, body = entry.reason, entry.body
        if entry.what != "row" and len(body) > BODY_BYTES:
            reason = f"{reason} (first {BODY_BYTES} of {len(body)} bytes)"
            body = body[:BODY_BYTES]
        rows.append((
            entry.tenant, entry.source, entry.received_at, entry.inbox_id, entry.what, reason, compress(body),
            len(body),
        ))  # fmt: skip
    db.executemany(_INSERT, rows)
    for tenant in {entry.tenant for entry in entries}:
        db.execute(_TOO_MANY, (tenant, tenant, ROWS))
        db.execute(_TOO_MUCH, (tenant, tenant, BYTES, tenant))


def mark_replayed(db: sqlite3.Connection, tenant: str, number: int, at: int) -> None:
    """Note that an entry was sent again at `at`, microseconds since the epoch."""
    db.execute("update quarantine set replayed_at = ? where id = ? and tenant = ?", (at, number, tenant))
