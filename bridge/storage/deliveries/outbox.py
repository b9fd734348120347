"""Reading what the analyst has put into its outbox. Never writes.

Rules: `state.db` belongs to the analyst. A file that is not there yet, or has no tables yet, is an empty
outbox: the dispatcher runs before the analyst ever has. The calls block, so the dispatcher has a thread for
them.

Decision: how urgent an event is comes from the event and not from a column of the outbox. It is an affair of
delivery, and so the analyst's transaction does not grow by it.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import msgspec

from bridge.delivery import OutboxPlace, OutboxRow
from bridge.model import EventKind
from bridge.storage.sqlite import open_reader, storage_error
from bridge.storage.times import moment_of

_NO_TABLE = "no such table"


class _Incident(msgspec.Struct):
    severity: str = ""


class _Head(msgspec.Struct):
    """What decides who goes first; the rest of the event is passed over (a tenth of a millisecond for 100 KB)."""

    incident: _Incident


class OutboxReader:
    """The outbox and the events of one `state.db`. For one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    def read(self, after_id: int, limit: int) -> list[OutboxRow]:
        """Return up to `limit` rows with an id above `after_id`, in order.

        Raises:
            StorageError: The file is there and cannot be read.
        """
        rows = self._ask(
            "SELECT id, tenant, destination, event_id, incident, seq, kind, at, not_before FROM outbox"
            " WHERE id > ? ORDER BY id LIMIT ?",
            (after_id, limit),
        )
        urgent = {event_id: self._is_urgent(event_id) for event_id in {row[3] for row in rows}}
        return [
            OutboxRow(
                id=row[0], tenant=row[1], destination=row[2], event_id=row[3], incident=row[4], seq=row[5],
                kind=EventKind(row[6]), at=moment_of(row[7]), not_before=moment_of(row[8]), urgent=urgent[row[3]],
            )
            for row in rows
        ]  # fmt: skip

    def _is_urgent(self, event_id: str) -> bool:
        body = self.event(event_id)
        try:
            return body is not None and msgspec.json.decode(body, type=_Head).incident.severity == "critical"
        except msgspec.MsgspecError:  # whoever delivers it will say so
            return False

    def end(self) -> OutboxPlace | None:
        """Return the highest id that was ever given out and in which outbox, None while there is none.

        A place above it, or in another outbox, was read in another file: the state was restored or begun anew.
        """
        rows = self._ask(
            "SELECT id, (SELECT seq FROM sqlite_sequence WHERE name = 'outbox') FROM outbox_identity", ()
        )
        return OutboxPlace(outbox=rows[0][0], id=rows[0][1] or 0) if rows else None

    def event(self, event_id: str) -> bytes | None:
        """Return an event as JSON, None if it is no longer kept.

        Raises:
            StorageError: The file is there and cannot be read.
        """
        rows = self._ask("SELECT body FROM event WHERE event_id = ?", (event_id,))
        if not rows:
            return None
        body = rows[0][0]
        return body.encode() if isinstance(body, str) else bytes(body)

    def close(self) -> None:
        """Let go of the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, question: str, values: tuple[object, ...]) -> list[Any]:
        connection = self._opened()
        if connection is None:
            return []
        try:
            return connection.execute(question, values).fetchall()
        except sqlite3.Error as error:
            self.close()
            if _NO_TABLE in str(error):
                return []
            raise storage_error(error, f"{self._path.name} cannot be read") from error

    def _opened(self) -> sqlite3.Connection | None:
        """Open the file if it is there, and anew if another took its place."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            self.close()
            return None
        if self._connection is not None and self._file != (found.st_dev, found.st_ino):
            self.close()
        if self._connection is None:
            self._connection = open_reader(self._path)
            self._file = (found.st_dev, found.st_ino)
        return self._connection
