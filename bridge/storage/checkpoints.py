"""Moving SQLite's write-ahead log into its file while somebody else goes on writing.

Rules: the thread here survives every error, because a log that nobody moves fills the disk. It never makes
a writer wait: PASSIVE, on a connection of its own.

Theory of operation. SQLite would checkpoint inside the commit that makes the log too long, which was the
p99 of the intake (86 ms against 45). A thread takes that over, and the writer sets `wal_autocheckpoint=0`.
But under load such checkpoints never catch up, and only a log that was moved to its end is used again from
its beginning. So above `LOG_LIMIT_BYTES` the writer finishes the rest itself between two commits, when
nothing is appended.
"""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

from bridge.storage.sqlite import open_writer

EVERY_S = 0.25
#: About two seconds of the most that the intake can take in.
LOG_LIMIT_BYTES = 256 << 20
#: How long `close` waits for a disk that hangs.
CLOSE_S = 1.0


class Checkpoints:
    """The checkpoints of one file. `appended` and `finish` belong to its writer's thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = threading.Thread(target=self._run, name=f"{path.stem}-checkpoint", daemon=True)
        self._closing = threading.Event()
        self._changed = False  # something was committed since the last checkpoint
        self._too_long = False

    def start(self) -> None:
        """Begin to move pages every `EVERY_S`."""
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._closing.set()
        self._thread.join(CLOSE_S)

    def appended(self) -> None:
        """Hear that there is something to move."""
        self._changed = True

    def finish(self, connection: sqlite3.Connection | None) -> None:
        """Move what is left if the log became too long; on the writer's connection, between two commits."""
        if self._too_long and connection is not None:
            self._too_long = False
            try:
                _checkpoint(connection)
            except sqlite3.Error:
                return  # The next commit will meet the same fault and tell those who wait for it.

    def _run(self) -> None:
        connection: sqlite3.Connection | None = None
        while not self._closing.wait(EVERY_S):
            if not self._changed:
                continue
            self._changed = False
            try:
                connection = connection or open_writer(self._path)
                self._too_long = _checkpoint(connection) > LOG_LIMIT_BYTES
            except Exception:  # noqa: BLE001 - see the rules
                self._changed = True
                close_quietly(connection)
                connection = None
        close_quietly(connection)


def close_quietly(connection: sqlite3.Connection | None) -> None:
    """Close a connection that may be broken, or is none."""
    if connection is not None:
        try:
            connection.close()
        except sqlite3.Error:
            return  # A file that is broken enough not to be closed is not ours to mend.


def _checkpoint(connection: sqlite3.Connection) -> int:
    """Move what can be moved without waiting; return the length of the log in bytes."""
    _busy, frames, _moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    return int(frames) * int(page_bytes)
