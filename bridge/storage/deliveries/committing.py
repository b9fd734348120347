"""Group commit: one thread writes, and everything that queued during the last fsync shares the next one.

Rules: a job is a function of the connection; it runs between BEGIN and COMMIT and its result is given out
only after the commit. Jobs of one transaction stand or fall by themselves as long as SQLite itself is well:
an error of the job undoes that job (a savepoint). An error of SQLite undoes the transaction; then each job is
tried alone, so that one that can never be written does not take others with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from bridge.errors import StorageError, StoreFullError
from bridge.storage.sqlite import storage_error

Result = TypeVar("Result")
Job = Callable[[sqlite3.Connection], Any]

#: Jobs of one transaction; bounds how long the first of them waits for the last.
MAX_JOBS = 256


class _Asked:
    """A job and who waits for it."""

    def __init__(self, job: Job, loop: asyncio.AbstractEventLoop, *, alone: bool = False) -> None:
        self.job = job
        self.alone = alone  # in no transaction, and with nobody
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()
        self.result: Any = None
        self.error: Exception | None = None

    def answer(self) -> None:
        """Wake who waits; to be called in the loop's thread."""
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


class GroupCommit:
    """The one writer of one SQLite file."""

    def __init__(self, open_connection: Callable[[], sqlite3.Connection], name: str) -> None:
        """Open the connection.

        Raises:
            StorageError: That failed.
        """
        self._open = open_connection
        self._connection = open_connection()
        self._asked: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._closed = False
        #: How many callers wait; each caller has at most one job, which is what bounds the queue.
        self.outstanding = 0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    async def do(self, job: Callable[[sqlite3.Connection], Result]) -> Result:
        """Return the job's result once it is committed. What was asked for is done even if nobody waits.

        Raises:
            StorageError: Nothing of the job was kept.
            StoreFullError: Nothing was kept because the disk has no room.
        """
        return await self._do(job, alone=False)

    async def do_alone(self, job: Callable[[sqlite3.Connection], Result]) -> Result:
        """Return the job's result; it runs in no transaction, and others wait for it.

        Raises:
            StorageError: It failed.
        """
        return await self._do(job, alone=True)

    async def _do(self, job: Callable[[sqlite3.Connection], Result], *, alone: bool) -> Result:
        if self._closed:
            raise StorageError("the store is closed")
        asked = _Asked(job, asyncio.get_running_loop(), alone=alone)
        self.outstanding += 1
        self._asked.put(asked)
        try:
            result: Result = await asked.future
        finally:
            self.outstanding -= 1
        return result

    def close(self) -> None:
        """Finish what was asked for and close the connection."""
        if self._closed:
            return
        self._closed = True
        self._asked.put(None)
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        held: _Asked | None = None
        while (first := held or self._asked.get()) is not None:
            batch, held = [first], None
            is_last = False
            while len(batch) < MAX_JOBS and not (is_last or held or first.alone):
                try:
                    following = self._asked.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    is_last = True
                elif following.alone:
                    held = following
                else:
                    batch.append(following)
            if first.alone:
                self._do_alone(first)
            else:
                self._commit(batch)
            _answer_all(batch)
            if is_last:
                break

    def _commit(self, batch: Sequence[_Asked]) -> None:
        try:
            self._together(batch)
        except sqlite3.Error as error:
            self._undo()
            if len(batch) > 1:
                for asked in batch:
                    self._commit([asked])
                return
            batch[0].error = storage_error(error, "deliveries were not committed")
            if not isinstance(batch[0].error, StoreFullError):
                self._reopen()

    def _do_alone(self, asked: _Asked) -> None:
        try:
            asked.result = asked.job(self._connection)
        except sqlite3.Error as error:
            asked.error = storage_error(error, "deliveries could not be worked on")
        except Exception as error:  # noqa: BLE001 (the caller gets it; the thread must live on)
            asked.error = error

    def _together(self, batch: Sequence[_Asked]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        for asked in batch:
            asked.error = None
            self._connection.execute("SAVEPOINT job")
            try:
                asked.result = asked.job(self._connection)
            except sqlite3.Error:
                raise
            except Exception as error:  # noqa: BLE001 (the caller gets it; the thread must live on)
                self._connection.execute("ROLLBACK TO job")
                asked.error = error
            self._connection.execute("RELEASE job")
        self._connection.execute("COMMIT")

    def _reopen(self) -> None:
        """Open the file anew: after an I/O error the connection's view of it may be wrong."""
        with contextlib.suppress(StorageError, sqlite3.Error):
            fresh = self._open()
            self._connection.close()
            self._connection = fresh

    def _undo(self) -> None:
        # SQLite has already rolled back after a full disk; then there is nothing to undo.
        if self._connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")


def _answer_all(batch: Sequence[_Asked]) -> None:
    """Wake who waits, with one call into each loop: that call costs more than a small job."""
    for loop in {asked.loop for asked in batch}:
        # The loop is closed if whoever waited has gone; the work itself is done.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_answer_each, [asked for asked in batch if asked.loop is loop])


def _answer_each(batch: Sequence[_Asked]) -> None:
    for asked in batch:
        asked.answer()
