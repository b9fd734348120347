"""Reading the inbox, in another process than its writer."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from bridge.errors import DamagedError, DamagedInboxError, StorageError
from bridge.model import InboxRow, RowKind
from bridge.storage.sqlite import open_reader, storage_error
from bridge.storage.times import moment_of
from bridge.turns import Waiting


class InboxReader:
    """Reads rows, in another process than the writer. Not for several threads at once."""

    def __init__(self, path: Path) -> None:
        """Open `path` for reading.

        Raises:
            StorageError: It is not there or cannot be read.
        """
        self._connection = open_reader(path)

    def read(self, after: int, max_rows: int, max_bytes: int) -> list[InboxRow]:
        """Return the rows after id `after`, in order; at most so many, but at least one if there is any.

        Raises:
            StorageError: The file cannot be read, or a row is of a newer release.
        """
        rows: list[InboxRow] = []
        size = 0
        question = (
            "SELECT id, received_at, tenant, source, kind, body FROM inbox WHERE id > ? ORDER BY id LIMIT ?"
        )
        try:
            # Closed at once: an open cursor would keep the log from being emptied.
            with closing(self._connection.execute(question, [after, max_rows])) as found:
                for row in found:
                    size += len(row[5])
                    if rows and size > max_bytes:
                        break
                    rows.append(_row(row))
        except sqlite3.Error as error:
            raise _unreadable(error) from error
        return rows

    def waiting(self, after: int, max_rows: int) -> list[Waiting]:
        """Return what is known of the rows after id `after` without their bodies, in order; at most so many.

        Cost: 2 us a row. SQLite tells the length of a body without reading it.

        Raises:
            StorageError: The file cannot be read, or a row is of a newer release.
        """
        question = (
            "SELECT id, received_at, tenant, kind, length(body) FROM inbox WHERE id > ? ORDER BY id LIMIT ?"
        )
        try:
            found = self._connection.execute(question, [after, max_rows]).fetchall()
        except sqlite3.Error as error:
            raise _unreadable(error) from error
        return [
            Waiting(row, at_us, tenant, _kind(kind, row), size) for row, at_us, tenant, kind, size in found
        ]

    def fetch(self, ids: Sequence[int]) -> list[InboxRow]:
        """Return these rows, in order of their ids.

        Raises:
            StorageError: The file cannot be read, or a row is of a newer release.
        """
        question = (
            "SELECT id, received_at, tenant, source, kind, body FROM inbox"
            " WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id"
        )
        try:
            with closing(self._connection.execute(question, [json.dumps(ids)])) as found:
                return [_row(row) for row in found]
        except sqlite3.Error as error:
            raise _unreadable(error) from error

    def newest_id(self) -> int:
        """Return the id of the newest row; 0 before the first.

        Raises:
            StorageError: The file cannot be read.
        """
        try:
            newest = self._connection.execute("SELECT max(id) FROM inbox").fetchall()
        except sqlite3.Error as error:
            raise _unreadable(error) from error
        return int(newest[0][0] or 0)

    def newest_body(self, kind: RowKind) -> bytes | None:
        """Return the body of the newest row of a kind; None if there is none. Looks through all rows.

        Raises:
            StorageError: The file cannot be read.
        """
        question = "SELECT body FROM inbox WHERE kind = ? ORDER BY id DESC LIMIT 1"
        try:
            found = self._connection.execute(question, [kind.value]).fetchall()
        except sqlite3.Error as error:
            raise _unreadable(error) from error
        return bytes(found[0][0]) if found else None

    def newest_topologies(self) -> list[InboxRow]:
        """Return the newest topology of each tenant and of all together, in order. Looks through all rows.

        Raises:
            StorageError: The file cannot be read.
        """
        question = (
            "SELECT id, received_at, tenant, source, kind, body FROM inbox WHERE id IN"
            " (SELECT max(id) FROM inbox WHERE kind = ? GROUP BY tenant) ORDER BY id"
        )
        try:
            return [_row(row) for row in self._connection.execute(question, [RowKind.TOPOLOGY.value])]
        except sqlite3.Error as error:
            raise _unreadable(error) from error

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()


def _unreadable(error: sqlite3.Error) -> StorageError:
    ours = storage_error(error, "cannot read the inbox")
    # Never a DamagedError, by which the analyst would take its own file for the broken one.
    return DamagedInboxError(str(ours)) if isinstance(ours, DamagedError) else StorageError(str(ours))


def _row(stored: tuple[Any, ...]) -> InboxRow:
    row_id, received_us, tenant, source, kind, body = stored
    return InboxRow(
        id=row_id,
        received_at=moment_of(received_us),
        tenant=tenant,
        source=source,
        kind=_kind(kind, row_id),
        body=body,
    )


def _kind(kind: str, row_id: int) -> RowKind:
    try:
        return RowKind(kind)
    except ValueError as error:
        raise StorageError(
            f"inbox row {row_id} is of the kind {kind!r} of a newer release of Tocsin: start that release"
        ) from error
