"""The inbox: the only input and the only clock. One writer thread appends rows, the analyst reads them.

Rules: `put` returns after the fsync of its row, or raises and nothing of the row is kept. Ids and
`received_at` never go back, also across restarts: ids are AUTOINCREMENT (a plain rowid is used again once
the table is empty), and the newest row is never deleted, because the time of the next one is measured by
it.

Theory of operation. Group commit without a timer: while one batch is being fsynced, the next one queues;
when the fsync is over, everything that queued is the next batch. One `executemany`, one COMMIT and one
`call_soon_threadsafe` per batch. So the cost of the fsync is shared by as many as wait for it, and a lone
webhook waits for nobody.

A failed commit (no room, an I/O error) is rolled back and told to everyone who waited; the next batch tries
again. After anything but a full disk the connection is opened anew, since its view of the file may be
wrong.

Decision: one blob row per webhook by plain sqlite3. Rows per alert cost 1.3 to 1.6 times, sqlite-utils'
insert 1.2 to 1.9 times, aiosqlite and apsw gained nothing.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

from bridge.errors import StorageError
from bridge.model import InboxRow, RowKind
from bridge.storage.checkpoints import Checkpoints, close_quietly
from bridge.storage.sqlite import Schema, open_reader, open_writer, storage_error, transaction

Result = TypeVar("Result")

#: One batch. More would make those who wait for it wait longer than the fsync is worth.
MAX_BATCH_ROWS = 2_000
MAX_BATCH_BYTES = 8 << 20
#: What may wait for its commit. The intake's own byte budget is smaller; this stops everything else.
MAX_QUEUED_BYTES = 512 << 20
#: Rows deleted in one transaction, so that a webhook never waits for a large one.
DELETE_ROWS = 500
#: Bodies are 10 to 60 kB: fewer, larger pages halve what SQLite costs per body (4 KiB is its default).
PAGE_BYTES = 16 << 10
#: How long `close` waits for the last commit of a disk that hangs.
CLOSE_S = 10.0

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INSERT = "INSERT INTO inbox(received_at, tenant, source, kind, body) VALUES (?, ?, ?, ?, ?)"


class _Row(NamedTuple):
    """A row that waits for its commit."""

    done: asyncio.Future[int]
    tenant: str
    source: str
    kind: str
    body: bytes


class _Chore(NamedTuple):
    """Something else that only the writer thread may do, in a transaction of its own."""

    done: asyncio.Future[Any]
    work: Callable[[sqlite3.Connection], Any]


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


class InboxWriter:
    """Appends rows. One per front; called from its one event loop, while all SQL runs in one thread."""

    def __init__(
        self,
        path: Path,
        *,
        clock_us: Callable[[], int],
        on_commit: Callable[[float, int, int], None] | None = None,
    ) -> None:
        """Prepare; nothing is opened before `start`.

        Args:
            path: The file; created if it is not there.
            clock_us: The time, in microseconds since the epoch. Called in the writer thread.
            on_commit: Told seconds, rows and bytes of each commit, in the writer thread. Must not raise.
        """
        self._path = path
        self._clock_us = clock_us
        self._on_commit = _nobody if on_commit is None else on_commit
        self._queue: SimpleQueue[_Row | _Chore | None] = SimpleQueue()
        self._connection: sqlite3.Connection | None = None
        self._log = Checkpoints(path)
        self._writer = threading.Thread(target=self._write_until_closed, name="inbox-writer", daemon=True)
        self._open = False
        self._last_us = 0
        self._newest_id = 0
        #: Bytes of rows that wait for their commit.
        self.queued_bytes = 0
        #: Why the last batch was not committed; "" when it was.
        self.trouble = ""

    @property
    def newest_id(self) -> int:
        """The id of the newest committed row; 0 before the first."""
        return self._newest_id

    def start(self) -> None:
        """Open the file and begin to take rows.

        Raises:
            StorageError: The file cannot be used.
        """
        connection = self._connected()
        try:
            newest = connection.execute("SELECT received_at FROM inbox ORDER BY id DESC LIMIT 1").fetchone()
            used = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'inbox'").fetchone()
        except sqlite3.Error as error:
            raise storage_error(error, f"cannot read {self._path.name}") from error
        self._last_us = newest[0] if newest else 0
        self._newest_id = used[0] if used else 0
        self._open = True
        self._writer.start()
        self._log.start()

    def close(self) -> None:
        """Commit what is queued, then let go of the file. Rows put later are refused."""
        if not self._open:
            return
        self._open = False
        self._queue.put(None)
        self._writer.join(CLOSE_S)
        self._log.close()

    async def put(self, tenant: str, source: str, kind: RowKind, body: bytes) -> int:
        """Append a row; return its id once it is on the disk.

        Raises:
            StoreFullError: There is no room; the same row may succeed later.
            StorageError: It was not committed for another reason, or the inbox is closed or far behind.
        """
        if self.queued_bytes + len(body) > MAX_QUEUED_BYTES:
            raise StorageError("too much waits to be written; try again")
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.queued_bytes += len(body)
        try:
            self._submit(_Row(done, tenant, source, kind.value, body))
            return await done
        finally:
            self.queued_bytes -= len(body)

    async def delete_through(self, last_id: int, before_us: int) -> int:
        """Delete rows up to `last_id` that were received before `before_us`; return how many.

        The newest row stays. Deletes in small transactions between which webhooks are committed.

        Raises:
            StorageError: A delete failed; what was deleted before stays deleted.
        """
        total = 0
        while deleted := await self._chore(lambda it: _delete_some(it, last_id, before_us)):
            total += deleted
        return total

    async def note_death(self, low: int, high: int) -> int:
        """Count one more death of the analyst with the batch `low`..`high`; return how many that makes."""
        count = (
            "INSERT INTO death VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET count = count + 1 RETURNING count"
        )
        return await self._chore(lambda it: int(it.execute(count, [low, high]).fetchall()[0][0]))

    async def clear_deaths(self, through: int) -> None:
        """Forget deaths of batches that ended at or before `through`."""
        await self._chore(lambda it: it.execute("DELETE FROM death WHERE row_to <= ?", [through]).rowcount)

    async def add_skip(self, row: int) -> None:
        """Remember a row that must never be touched again."""
        await self._chore(lambda it: it.execute("INSERT OR IGNORE INTO skip VALUES (?)", [row]).rowcount)

    async def skips(self) -> tuple[int, ...]:
        """Return the rows that must never be touched again, in order."""
        rows = await self._chore(lambda it: it.execute("SELECT id FROM skip ORDER BY id").fetchall())
        return tuple(row for (row,) in rows)

    # ---- the event loop's side ---------------------------------------------------------------------------

    async def _chore(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._submit(_Chore(done, work))
        return await done

    def _submit(self, item: _Row | _Chore) -> None:
        if not self._open:
            raise StorageError("the inbox is closed")
        self._queue.put(item)

    # ---- the writer thread -------------------------------------------------------------------------------

    def _write_until_closed(self) -> None:
        going_on = True
        while going_on:
            rows, chores, going_on = self._gather(self._queue.get())
            self._log.finish(self._connection)
            if rows:
                self._commit(rows)
            for chore in chores:
                self._do(chore)
        self._let_go()

    def _gather(self, item: _Row | _Chore | None) -> tuple[list[_Row], list[_Chore], bool]:
        """Return everything that is queued, `item` first, as far as one batch goes; False: after it, end."""
        rows: list[_Row] = []
        chores: list[_Chore] = []
        size = 0
        try:
            while True:
                if item is None:
                    return rows, chores, False
                if isinstance(item, _Row):
                    rows.append(item)
                    size += len(item.body)
                else:
                    chores.append(item)
                if len(rows) >= MAX_BATCH_ROWS or size >= MAX_BATCH_BYTES:
                    return rows, chores, True
                item = self._queue.get_nowait()
        except Empty:
            return rows, chores, True

    def _commit(self, rows: list[_Row]) -> None:
        waiting = [row.done for row in rows]
        started = time.perf_counter()
        try:
            newest = self._append(rows)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may wait for ever
            _tell(waiting, _fail_all, waiting, self._failed(error))
            return
        self._newest_id = newest
        self.trouble = ""
        self._log.appended()
        _tell(waiting, _number_all, waiting, newest - len(rows) + 1)
        self._on_commit(time.perf_counter() - started, len(rows), sum(len(row.body) for row in rows))

    def _append(self, rows: list[_Row]) -> int:
        """Commit `rows` and return the id of the last."""
        self._last_us = now = max(self._clock_us(), self._last_us)
        with transaction(self._connected()) as connection:
            connection.executemany(
                _INSERT, [(now, row.tenant, row.source, row.kind, row.body) for row in rows]
            )
            return int(connection.execute("SELECT last_insert_rowid()").fetchone()[0])

    def _do(self, chore: _Chore) -> None:
        try:
            with transaction(self._connected()) as connection:
                result = chore.work(connection)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may wait for ever
            _tell([chore.done], _fail_all, [chore.done], self._failed(error))
        else:
            self._log.appended()
            _tell([chore.done], _set, chore.done, result)

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            connection = open_writer(self._path, SCHEMA, page_bytes=PAGE_BYTES)
            connection.execute("PRAGMA wal_autocheckpoint=0")
            self._connection = connection
        return self._connection

    def _failed(self, error: Exception) -> StorageError:
        """Return `error` as one of ours, and let go of a connection that may not be sound any more."""
        ours = error if isinstance(error, StorageError) else StorageError(f"did not commit: {error!r}")
        self.trouble = str(ours)
        if type(ours) is StorageError:
            self._let_go()
        return ours

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        close_quietly(connection)


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
            raise storage_error(error, "cannot read the inbox") from error
        return rows

    def newest_id(self) -> int:
        """Return the id of the newest row; 0 before the first.

        Raises:
            StorageError: The file cannot be read.
        """
        try:
            newest = self._connection.execute("SELECT max(id) FROM inbox").fetchall()
        except sqlite3.Error as error:
            raise storage_error(error, "cannot read the inbox") from error
        return int(newest[0][0] or 0)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()


def _delete_some(connection: sqlite3.Connection, last_id: int, before_us: int) -> int:
    """Delete the oldest rows that may go. Since time never goes back by id, they are the first ones."""
    oldest = connection.execute(
        "SELECT id, received_at FROM inbox WHERE id <= ? AND id < (SELECT max(id) FROM inbox)"
        " ORDER BY id LIMIT ?",
        [last_id, DELETE_ROWS],
    ).fetchall()
    old = [row for row, received_at in oldest if received_at < before_us]
    if not old:
        return 0
    return connection.execute("DELETE FROM inbox WHERE id <= ?", [old[-1]]).rowcount


def _row(stored: tuple[Any, ...]) -> InboxRow:
    row_id, received_us, tenant, source, kind, body = stored
    try:
        known = RowKind(kind)
    except ValueError as error:
        raise StorageError(
            f"inbox row {row_id} is of the kind {kind!r} of a newer release of Tocsin: start that release"
        ) from error
    return InboxRow(
        id=row_id,
        received_at=_EPOCH + timedelta(microseconds=received_us),
        tenant=tenant,
        source=source,
        kind=known,
        body=body,
    )


def _nobody(_seconds: float, _rows: int, _bytes: int) -> None:
    """Hear of a commit, and do nothing."""


# ---- from the writer thread to those who wait ------------------------------------------------------------


def _tell(waiting: list[asyncio.Future[Any]], how: Callable[..., None], *details: object) -> None:
    """Call `how(*details)` in the loop that waits. All of a batch wait in one loop."""
    try:
        waiting[0].get_loop().call_soon_threadsafe(how, *details)
    except RuntimeError:
        return  # The loop was closed: nobody waits any more.


def _set(done: asyncio.Future[Any], result: object) -> None:
    if not done.done():  # Whoever waited may have been cancelled.
        done.set_result(result)


def _number_all(waiting: Iterable[asyncio.Future[int]], first_id: int) -> None:
    for row, done in enumerate(waiting, first_id):
        if not done.done():
            done.set_result(row)


def _fail_all(waiting: Iterable[asyncio.Future[Any]], error: StorageError) -> None:
    for done in waiting:
        if not done.done():
            # One exception each: raising one in many tasks would grow its traceback without end.
            done.set_exception(type(error)(str(error)))
