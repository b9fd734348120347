"""The file of the inbox: its tables, where its numbers begin, and the small questions that only its writer may ask.

Rule: an id and a time are never used twice, whatever becomes of the file. What state.db has read is the floor below
which an inbox never begins: an analyst reads only what lies above its cursor.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from bridge.model import RowKind, Word
from bridge.storage.sqlite import Schema, open_writer

#: Rows deleted in one transaction, so that a webhook never waits for a large one.
DELETE_ROWS = 500
#: Bodies are 10 to 60 kB: fewer, larger pages halve what SQLite costs per body (4 KiB is its default).
PAGE_BYTES = 16 << 10


class Position(Word, frozen=True, kw_only=True):
    """How far an analyst has read: the id and the time (microseconds since the epoch) of its last row."""

    id: int
    at_us: int


def _first(database: Any) -> None:
    database.execute(
        "CREATE TABLE inbox(id INTEGER PRIMARY KEY AUTOINCREMENT, received_at INTEGER NOT NULL,"
        " tenant TEXT NOT NULL, source TEXT NOT NULL, kind TEXT NOT NULL, body BLOB NOT NULL)"
    )
    database.execute(
        "CREATE TABLE death(row_from INTEGER NOT NULL, row_to INTEGER NOT NULL, count INTEGER NOT NULL,"
        " PRIMARY KEY(row_from, row_to)) WITHOUT ROWID"
    )
    database.execute("CREATE TABLE skip(id INTEGER PRIMARY KEY)")


SCHEMA = Schema("inbox", (_first,))


def opened(path: Path) -> sqlite3.Connection:
    """Open the file for its writer; create it if it is not there.

    Raises:
        StorageError: It cannot be used.
    """
    connection = open_writer(path, SCHEMA, page_bytes=PAGE_BYTES)
    connection.execute("PRAGMA wal_autocheckpoint=0")
    return connection


def end_of(connection: sqlite3.Connection) -> Position:
    """Return the highest id that was ever used, and the time of the newest row; 0 in an empty file."""
    newest = connection.execute("SELECT received_at FROM inbox ORDER BY id DESC LIMIT 1").fetchone()
    used = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'inbox'").fetchone()
    return Position(id=used[0] if used else 0, at_us=newest[0] if newest else 0)


def begin_after(connection: sqlite3.Connection, position: Position) -> None:
    """Let the next row get an id above `position` and a time not before it.

    A clock row holds the place, which the state has already behind it. It stays until there is a newer one.
    """
    connection.execute(
        "INSERT INTO inbox(id, received_at, tenant, source, kind, body) VALUES (?, ?, '', '', ?, x'')",
        (position.id, position.at_us, RowKind.CLOCK.value),
    )


# ---- retention and the supervisor's rows, each in somebody's transaction ---------------------------------


def delete_some(connection: sqlite3.Connection, last_id: int, before_us: int) -> int:
    """Delete the oldest rows that may go. Since time never goes back by id, they are the first ones."""
    oldest = connection.execute(
        "SELECT id, received_at FROM inbox WHERE id <= ? AND id < (SELECT max(id) FROM inbox)"
        " ORDER BY id LIMIT ?",
        [last_id, DELETE_ROWS],
    ).fetchall()
    old = [row for row, received_at in oldest if received_at < before_us]
    if not old:
        return 0
    # What asks for an erase stays until that is done.
    return connection.execute(
        "DELETE FROM inbox WHERE id <= ? AND kind <> ?", [old[-1], RowKind.ERASE.value]
    ).rowcount


def note_death(connection: sqlite3.Connection, low: int, high: int) -> int:
    """Count one more death of the analyst with the batch `low`..`high`; return how many that makes."""
    counted = connection.execute(
        "INSERT INTO death VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET count = count + 1 RETURNING count",
        [low, high],
    ).fetchall()
    return int(counted[0][0])


def clear_deaths(connection: sqlite3.Connection, through: int) -> int:
    """Forget deaths of batches that ended at or before `through`."""
    return connection.execute("DELETE FROM death WHERE row_to <= ?", [through]).rowcount


def add_skip(connection: sqlite3.Connection, row: int) -> int:
    """Remember a row that must never be touched again."""
    return connection.execute("INSERT OR IGNORE INTO skip VALUES (?)", [row]).rowcount


def skips(connection: sqlite3.Connection) -> tuple[int, ...]:
    """Return the rows that must never be touched again, in order."""
    return tuple(row for (row,) in connection.execute("SELECT id FROM skip ORDER BY id").fetchall())


def drop_skips(connection: sqlite3.Connection, through: int) -> int:
    """Forget such rows up to `through`."""
    return connection.execute("DELETE FROM skip WHERE id <= ?", [through]).rowcount


def blamed(connection: sqlite3.Connection, deaths: int) -> tuple[int, ...]:
    """Return the rows that were alone in at least so many deaths."""
    found = connection.execute("SELECT row_from FROM death WHERE row_from = row_to AND count >= ?", [deaths])
    return tuple(row for (row,) in found.fetchall())
