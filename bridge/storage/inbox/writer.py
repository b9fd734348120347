"""Appending rows: one writer thread, one commit for all who wait.

Rules: `put` returns after the fsync of its row, or raises. Ids and `received_at` never go back, also across restarts
and a lost file: ids are AUTOINCREMENT (a plain rowid is used again once the table is empty), the newest row is never
deleted, because the time of the next one is measured by it, and both begin above what the state has read.

Theory of operation. Group commit without a timer: while one batch is being fsynced, the next one queues;
when the fsync is over, everything that queued is the next batch. One `executemany`, one COMMIT and one
`call_soon_threadsafe` per batch. So the cost of the fsync is shared by as many as wait for it, and a lone
webhook waits for nobody.

A failed commit (no room, an I/O error) is rolled back and told to everyone who waited; the next batch tries
again. After anything but a full disk the connection is opened anew, since its view of the file may be
wrong. The trouble is over when as much as failed was committed: on a full disk a clock row of a few bytes still fits,
and would say so every second while every webhook is refused.

A disk that hangs answers nothing. Who waited for `GIVE_UP_S` is told to come again, and nobody is let in who would
have to wait, too; what was queued is committed if the disk comes back, and arrives twice then, as a resend does.

Decision: one blob row per webhook by plain sqlite3. Rows per alert cost 1.3 to 1.6 times, sqlite-utils'
insert 1.2 to 1.9 times, aiosqlite and apsw gained nothing.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

from bridge.analysis.erasing import Eraser
from bridge.errors import DamagedError, MisplacedError, StorageError
from bridge.model import RowKind
from bridge.storage.checkpoints import Checkpoints, close_quietly
from bridge.storage.inbox import erasing, file
from bridge.storage.inbox.erasing import EraseRow
from bridge.storage.inbox.file import Position
from bridge.storage.inbox.waiting import fail_all, number_all, set_result, tell
from bridge.storage.place import Place
from bridge.storage.sqlite import storage_error, transaction, write_anew

Result = TypeVar("Result")

#: One batch. More would make those who wait for it wait longer than the fsync is worth.
MAX_BATCH_ROWS = 2_000
MAX_BATCH_BYTES = 8 << 20
#: What may wait for its commit. The intake's own byte budget is smaller; this stops everything else.
MAX_QUEUED_BYTES = 512 << 20
#: How old a row may be that waits for its commit, before the disk counts as hanging.
STALL_S = 5.0
#: How long a row waits for a disk that hangs, looked at every second. Alertmanager waits for 10 s and more.
GIVE_UP_S = 9.0
#: How long `close` waits for the last commit of a disk that hangs: the whole end takes at most 10 s.
CLOSE_S = 2.0

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
    alone: bool = False  # in no transaction


class InboxWriter:
    """Appends rows. One per front; called from its one event loop, while all SQL runs in one thread."""

    def __init__(
        self,
        path: Path,
        *,
        clock_us: Callable[[], int],
        on_commit: Callable[[float, int, int], None] | None = None,
        on_damage: Callable[[str], None] | None = None,
    ) -> None:
        """Prepare; nothing is opened before `start`.

        Args:
            path: The file; created if it is not there.
            clock_us: The time, in microseconds since the epoch. Called in the writer thread.
            on_commit: Told seconds, rows and bytes of each commit, in the writer thread. Must not raise.
            on_damage: Told why the file is taken to be broken, in the writer thread. Must not raise.
        """
        self._path = path
        self._clock_us = clock_us
        self._on_commit = _nobody if on_commit is None else on_commit
        self._on_damage = on_damage
        self._queue: SimpleQueue[_Row | _Chore | None] = SimpleQueue()
        self._connection: sqlite3.Connection | None = None
        self._place: Place | None = None
        self._log = Checkpoints(path)
        self._writer = threading.Thread(target=self._write_until_closed, name="inbox-writer", daemon=True)
        self._open = False
        self._newest = Position(id=0, at_us=0)
        self._put_bytes = 0  # changed by the loop alone
        self._written_bytes = 0  # changed by the writer alone
        self._waiting: dict[asyncio.Future[Any], float] = {}  # since when, on the monotonic clock
        self._busy_since: float | None = (
            None  # when the writer began what it is at; none waits for it, perhaps
        )
        self._stalled_s = 0.0
        self._misplaced = ""
        self._failure = ""
        self._failed_bytes = 0

    @property
    def newest_id(self) -> int:
        """The id of the newest committed row; 0 before the first."""
        return self._newest.id

    @property
    def newest_at_us(self) -> int:
        """The time of the newest committed row, microseconds since the epoch; 0 before the first."""
        return self._newest.at_us

    @property
    def queued_bytes(self) -> int:
        """Bytes of rows that wait for their commit."""
        return self._put_bytes - self._written_bytes

    @property
    def trouble(self) -> str:
        """Why rows are not, or may not be, committed now; "" when all is well."""
        if self._stalled_s > STALL_S:
            return f"the disk has not answered for {self._stalled_s:.0f} s"
        return self._misplaced or self._failure

    @property
    def failed_bytes(self) -> int:
        """How much was to be written when a commit failed last; as much has to succeed for the trouble to be over."""
        return self._failed_bytes if self._failure else 0

    def start(self, floor: Position | None = None) -> bool:
        """Open the file and begin to take rows.

        Args:
            floor: What the state has read. Ids and times go on above it, whatever the file holds.

        Returns:
            Whether the file held less than that: it was lost, or is an older copy.

        Raises:
            StorageError: The file cannot be used.
        """
        try:
            connection = self._connected()
            self._place = Place(self._path)
            self._newest = file.end_of(connection)
            is_behind = floor is not None and self._newest.id < floor.id
            if floor is not None and is_behind:
                with transaction(connection):
                    file.begin_after(connection, floor)
                self._newest = Position(id=floor.id, at_us=max(floor.at_us, self._newest.at_us))
        except (sqlite3.Error, StorageError) as error:
            self._let_go()
            self._place = None
            if isinstance(error, sqlite3.Error):
                raise storage_error(error, f"cannot read {self._path.name}") from error
            raise
        self._open = True
        self._writer.start()
        self._log.start()
        return is_behind

    def close(self) -> None:
        """Commit what is queued, then let go of the file. Rows put later are refused."""
        if not self._open:
            return
        self._open = False
        self._queue.put(None)
        self._writer.join(CLOSE_S)
        self._log.close()

    def look(self) -> None:
        """Find out whether the disk hangs and the file is where it was; call it every second.

        Who waited too long is told so: by its StorageError.
        """
        now = time.monotonic()
        busy_since = self._busy_since
        busy_s = 0.0 if busy_since is None else now - busy_since
        self._stalled_s = max((now - since for since in self._waiting.values()), default=busy_s)
        for done, since in list(self._waiting.items()):
            if now - since > GIVE_UP_S and not done.done():
                done.set_exception(StorageError("the disk does not answer; try again"))
        try:
            if self._place is not None:
                self._place.check_file()
        except MisplacedError as error:
            self._misplaced = str(error)
        else:
            self._misplaced = ""

    async def put(self, tenant: str, source: str, kind: RowKind, body: bytes) -> int:
        """Append a row; return its id once it is on the disk.

        Raises:
            StoreFullError: There is no room; the same row may succeed later.
            StorageError: It was not committed for another reason, or the inbox is closed, hangs or is far behind.
        """
        if self.queued_bytes + len(body) > MAX_QUEUED_BYTES:
            raise StorageError("too much waits to be written; try again")
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._put_bytes += len(body)
        try:
            self._submit(_Row(done, tenant, source, kind.value, body))
        except StorageError:
            self._put_bytes -= len(body)
            raise
        return await self._waited(done)

    async def delete_through(self, last_id: int, before_us: int) -> int:
        """Delete rows up to `last_id` that were received before `before_us`; return how many.

        The newest row stays. Deletes in small transactions between which webhooks are committed.

        Raises:
            StorageError: A delete failed; what was deleted before stays deleted.
        """
        total = 0
        while deleted := await self._chore(lambda it: file.delete_some(it, last_id, before_us)):
            total += deleted
        return total

    async def erasing(self) -> tuple[EraseRow, ...]:
        """Return the rows that ask for an erase which is not done. Looks through all rows."""
        return await self._chore(erasing.asked)

    async def erase(self, row: EraseRow, eraser: Eraser) -> int:
        """Take what is erased out of the rows before `row`; return how many had something.

        In small transactions between which webhooks are committed.

        Raises:
            StorageError: One failed; what was done before stays done.
        """
        changed, after = 0, 0
        while (
            done := await self._chore(partial(erasing.erase_some, row=row, eraser=eraser, after=after))
        ) is not None:
            after, number = done
            changed += number
        return changed

    async def seal_erase(self, row: int, body: bytes) -> None:
        """Let a row that asks for an erase hold `body` from here on."""
        await self._chore(partial(erasing.seal, number=row, body=body))

    async def clear_erase(self, row: int) -> None:
        """Let a row that asked for an erase do nothing but tell the time."""
        await self._chore(partial(erasing.clear, number=row))

    async def write_anew(self) -> bool:
        """Write the file without what was deleted; webhooks wait for it. False: try again."""
        return await self._chore(write_anew, alone=True)

    async def note_death(self, low: int, high: int) -> int:
        """Count one more death of the analyst with the batch `low`..`high`; return how many that makes."""
        return await self._chore(lambda it: file.note_death(it, low, high))

    async def clear_deaths(self, through: int) -> None:
        """Forget deaths of batches that ended at or before `through`."""
        await self._chore(partial(file.clear_deaths, through=through))

    async def add_skip(self, row: int) -> None:
        """Remember a row that must never be touched again."""
        await self._chore(partial(file.add_skip, row=row))

    async def skips(self) -> tuple[int, ...]:
        """Return the rows that must never be touched again, in order."""
        return await self._chore(file.skips)

    async def drop_skips(self, through: int) -> None:
        """Forget such rows up to this id: they are behind the cursor."""
        await self._chore(partial(file.drop_skips, through=through))

    async def blamed(self, deaths: int) -> tuple[int, ...]:
        """Return the rows that were alone in at least so many deaths."""
        return await self._chore(partial(file.blamed, deaths=deaths))

    # ---- the event loop's side ---------------------------------------------------------------------------

    async def _chore(self, work: Callable[[sqlite3.Connection], Result], *, alone: bool = False) -> Result:
        done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._submit(_Chore(done, work, alone))
        return await self._waited(done)

    def _submit(self, item: _Row | _Chore) -> None:
        if not self._open:
            raise StorageError("the inbox is closed")
        if self._stalled_s > STALL_S:
            raise StorageError("the disk does not answer; try again")
        self._queue.put(item)

    async def _waited(self, done: asyncio.Future[Result]) -> Result:
        self._waiting[done] = time.monotonic()
        try:
            return await done
        finally:
            del self._waiting[done]

    # ---- the writer thread -------------------------------------------------------------------------------

    def _write_until_closed(self) -> None:
        going_on = True
        while going_on:
            rows, chores, going_on = self._gather(self._queue.get())
            self._busy_since = time.monotonic()
            self._log.finish(self._connection)
            if rows:
                self._commit(rows)
            for chore in chores:
                self._do(chore)
            self._busy_since = None
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
        size = sum(len(row.body) for row in rows)
        started = time.perf_counter()
        try:
            newest = self._append(rows)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may wait for ever
            self._written_bytes += size
            ours = self._failed(error)
            self._failure, self._failed_bytes = str(ours), max(self._failed_bytes, size)
            tell(waiting, fail_all, waiting, ours)
            return
        self._newest = newest
        self._written_bytes += size
        if size >= self._failed_bytes:
            self._failure, self._failed_bytes = "", 0
        self._log.appended()
        tell(waiting, number_all, waiting, newest.id - len(rows) + 1)
        self._on_commit(time.perf_counter() - started, len(rows), size)

    def _append(self, rows: list[_Row]) -> Position:
        """Commit `rows` and return where the last one stands."""
        now = max(self._clock_us(), self._newest.at_us)
        with transaction(self._connected()) as connection:
            connection.executemany(
                _INSERT, [(now, row.tenant, row.source, row.kind, row.body) for row in rows]
            )
            newest = int(connection.execute("SELECT last_insert_rowid()").fetchone()[0])
            if self._place is not None:
                self._place.check()
        return Position(id=newest, at_us=now)

    def _do(self, chore: _Chore) -> None:
        try:
            if chore.alone:
                result = chore.work(self._connected())
            else:
                with transaction(self._connected()) as connection:
                    result = chore.work(connection)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may wait for ever
            tell([chore.done], fail_all, [chore.done], self._failed(error))
        else:
            self._log.appended()
            tell([chore.done], set_result, chore.done, result)

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            if self._place is not None:
                self._place.check_file()  # or an empty file would be made where one was moved away
            self._connection = file.opened(self._path)
        return self._connection

    def _failed(self, error: Exception) -> StorageError:
        """Return `error` as one of ours, and let go of a connection that may not be sound any more."""
        ours = error if isinstance(error, StorageError) else StorageError(f"did not commit: {error!r}")
        if type(ours) in {StorageError, DamagedError}:
            self._let_go()
        if isinstance(ours, DamagedError) and self._on_damage is not None:
            self._on_damage(str(ours))
        return ours

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        close_quietly(connection)
        if self._place is not None:
            self._place.closed()


def _nobody(_seconds: float, _rows: int, _bytes: int) -> None:
    """Hear of a commit, and do nothing."""
