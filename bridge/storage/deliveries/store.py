"""The dispatcher's face of `delivery.db`: asynchronous, every write group-committed on one thread.

Rule: reads of what is due have a thread and a connection of their own, so that neither a long fsync nor the
API's questions are waited for.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

from bridge.delivery import (
    Backlog,
    Claim,
    Diverted,
    Due,
    GivenUp,
    Line,
    LineChange,
    OutboxPlace,
    OutboxRow,
    Retention,
    Room,
    Settlement,
    Stuck,
    Tidied,
)
from bridge.errors import DamagedError, StorageError
from bridge.model import Delivery
from bridge.storage.deliveries import claiming, diverting, erasing, finding, moving, rows, tidying
from bridge.storage.deliveries.committing import GroupCommit
from bridge.storage.deliveries.reading import DeliveryReader, row_number
from bridge.storage.deliveries.rows import IS_OPEN
from bridge.storage.sqlite import open_reader, open_writer, storage_error, write_anew
from bridge.storage.times import moment_of

Answer = TypeVar("Answer")


class DeliveryStore(DeliveryReader):
    """`delivery.db`. Made in the event loop's thread; `close` when nothing awaits it any more."""

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], datetime],
        on_damage: Callable[[str], None] | None = None,
    ) -> None:
        """Open the store, and make it if it is not there.

        Args:
            path: The file.
            clock: The time, aware UTC.
            on_damage: Told why the file is taken to be broken, each time that it shows.

        Raises:
            DamagedError: It is broken.
            StorageError: It cannot be opened, or a newer release wrote it.
        """
        super().__init__(path)
        self._clock = clock
        self._on_damage = on_damage
        self._writer = GroupCommit(partial(open_writer, path, rows.SCHEMA, wipes=True), "delivery-writer")
        self._writer.start()
        self._reading = open_reader(path)
        self._thread = ThreadPoolExecutor(1, "delivery-reader")
        # What looks at a whole backlog takes its time, and must not keep a destination from its next event.
        self._counting = open_reader(path)
        self._counter = ThreadPoolExecutor(1, "delivery-counter")
        self._asked = 0

    @property
    def outstanding(self) -> int:
        """How many callers wait for a thread of the store."""
        return self._asked + self._writer.outstanding

    def close(self) -> None:
        """Finish what was asked for and close the file."""
        self._writer.close()
        for thread, connection in ((self._thread, self._reading), (self._counter, self._counting)):
            thread.shutdown()
            connection.close()

    # ---- what the dispatcher asks ------------------------------------------------------------------------

    async def follow_clock(self) -> float:
        """Move what waits along with a clock that was set back; return by how many seconds, 0 if it was not."""
        return await self._write(partial(moving.follow_clock, now=self._clock()))

    async def recover(self) -> int:
        """Make due what was under way when the last process ended; return how many requests that were."""
        return await self._write(partial(moving.recover, now=self._clock()))

    async def adopt(self, marks: Mapping[str, str]) -> int:
        """Remember what each destination's settings look like; thaw what was frozen under others."""
        return await self._write(partial(claiming.adopt, marks=marks))

    async def cursor(self) -> OutboxPlace:
        """Return the last outbox row taken in."""
        return await self._write(moving.cursor)

    async def rewind(self, outbox: str) -> None:
        """Read `outbox` from its beginning: known events change nothing, new ones count anew."""
        await self._write(partial(moving.rewind, outbox=outbox))

    async def take_in(self, outbox_rows: Sequence[OutboxRow]) -> frozenset[str]:
        """Add outbox rows and move the cursor, at once; return the destinations that have new work."""
        return await self._write(partial(moving.take_in, rows=outbox_rows, now=self._clock()))

    async def due(self, destination: str, room: Room) -> Due:
        """Return what a destination can start now; lines that are held by a request are not among it."""
        return await self._read(partial(finding.due, destination=destination, now=self._clock(), room=room))

    async def claim(
        self, settled: Sequence[Delivery], claims: Sequence[Claim], lines: Sequence[LineChange] = ()
    ) -> list[int | None]:
        """End `settled`, change `lines` and freeze `claims`; return their ids, None where a delivery was gone."""
        job = partial(claiming.claim, settled=settled, claims=claims, lines=lines, now=self._clock())
        return await self._write(job)

    async def reclaim(self, request: int) -> bool:
        """Mark a frozen request as under way again; False if it is gone."""
        return await self._write(partial(claiming.reclaim, request=request, now=self._clock()))

    async def unclaim(self, request: int, due_at: datetime) -> None:
        """Let a request whose attempt broke off here go again at `due_at`."""
        job = partial(claiming.unclaim, request=request, due_at=due_at, now=self._clock())
        await self._write(job)

    async def thaw(self, request: int) -> None:
        """Forget a frozen request; what is open of it is rendered anew."""
        await self._write(partial(claiming.thaw, request=request))

    async def settle(self, settlement: Settlement) -> None:
        """Commit what became of a request, with what was told and memory."""
        await self._write(partial(claiming.settle, settlement=settlement, now=self._clock()))

    async def hasten(self, destination: str) -> None:
        """Make due what waits only because the whole destination was in trouble."""
        await self._write(partial(moving.hasten, destination=destination, now=self._clock()))

    async def backlog(self) -> dict[str, Backlog]:
        """Return what each destination does not have yet; those that lack nothing may be missing."""
        return await self._count(_backlog)

    async def free_bytes(self) -> int:
        """Return how much room the disk of the store has."""
        return await self._count(lambda _: _free_bytes(self._path))

    async def thaw_overtaken(self, destination: str) -> None:
        """Forget frozen requests that a newer event of the same incident waits behind."""
        await self._write(partial(claiming.thaw_overtaken, destination=destination))

    async def crowded(self, destination: str, limit: int) -> tuple[Line, ...]:
        """Return lines in which several deliveries wait, those with the most first."""
        return await self._count(partial(finding.crowded, destination=destination, limit=limit))

    async def give_up(self, destination: str, count: int, reason: str, retention: Retention) -> GivenUp:
        """Make dead letters of the oldest events that wait, at most so many; return what became of them."""
        return await self._write(
            partial(
                tidying.give_up, destination=destination, count=count, reason=reason, retention=retention,
                now=self._clock(),
            )
        )  # fmt: skip

    async def divert(
        self, destination: str, to: str, *, died_since: datetime, since: datetime | None
    ) -> Diverted:
        """Give a destination's newer dead letters, and what waits of `since` on if that is given, to its fallback."""
        job = partial(
            diverting.divert,
            destination=destination,
            to=to,
            died_since=died_since,
            since=since,
            now=self._clock(),
        )
        return await self._write(job)

    async def newest_request(self) -> int:
        """Return the highest number that a request ever had."""
        return await self._writer.do(erasing.newest)

    async def erase(self, tenant: str, through: int, masked: Callable[[str], str]) -> int:
        """Forget a tenant's requests up to number `through`; return how many of them have to be waited for."""
        return await self._writer.do(partial(erasing.erase, tenant=tenant, through=through, masked=masked))

    async def write_anew(self) -> bool:
        """Write the file without what was deleted; deliveries wait for it. False: try again."""
        return await self._writer.do_alone(write_anew)

    async def tidy(self, retention: Retention) -> Tidied:
        """Delete what has ended long enough ago. Call again while there is `more`."""
        return await self._write(partial(tidying.tidy, retention=retention, now=self._clock()))

    # ---- what people ask ---------------------------------------------------------------------------------

    async def retry(self, tenant: str, delivery: str) -> bool:
        """Let a dead delivery go again; False if there is no such dead delivery."""
        return await self._on_one(moving.retry, tenant, delivery)

    async def drop(self, tenant: str, delivery: str) -> bool:
        """Give a waiting, pending or dead delivery up for good; False if there is none."""
        return await self._on_one(moving.drop, tenant, delivery)

    async def _on_one(self, act: Callable[..., str | None], tenant: str, delivery: str) -> bool:
        number = row_number(delivery)
        if number is None:
            return False
        job = partial(act, tenant=tenant, delivery_id=number, now=self._clock())
        return await self._write(job) is not None

    async def _write(self, job: Callable[[sqlite3.Connection], Answer]) -> Answer:
        try:
            return await self._writer.do(job)
        except DamagedError as error:
            self._damaged(error)
            raise

    def _damaged(self, error: StorageError) -> None:
        if isinstance(error, DamagedError) and self._on_damage is not None:
            self._on_damage(str(error))

    async def _read(self, ask: Callable[[sqlite3.Connection], Answer]) -> Answer:
        return await self._in(self._thread, ask, self._reading)

    async def _count(self, ask: Callable[[sqlite3.Connection], Answer]) -> Answer:
        return await self._in(self._counter, ask, self._counting)

    async def _in(
        self,
        thread: ThreadPoolExecutor,
        ask: Callable[[sqlite3.Connection], Answer],
        connection: sqlite3.Connection,
    ) -> Answer:
        self._asked += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(thread, ask, connection)
        except sqlite3.Error as error:
            ours = storage_error(error, f"{self._path.name} cannot be read")
            self._damaged(ours)
            raise ours from error
        finally:
            self._asked -= 1


def _free_bytes(path: Path) -> int:
    try:
        return shutil.disk_usage(path.parent).free
    except OSError as error:
        raise StorageError(f"the disk of {path.name} cannot be measured: {error.strerror}") from error


def _backlog(connection: sqlite3.Connection) -> dict[str, Backlog]:
    found: dict[str, Backlog] = {}
    for destination, waiting, oldest in connection.execute(
        f"SELECT destination, count(*), min(created_at) FROM delivery WHERE {IS_OPEN} GROUP BY destination"  # noqa: S608
    ):
        found[destination] = Backlog(waiting=waiting, oldest_at=moment_of(oldest))
    longest = (
        "SELECT destination, min(stuck_since), incident, reason FROM delivery WHERE stuck_since IS NOT NULL"
    )
    for destination, since, incident, reason in connection.execute(
        f"{longest} AND {IS_OPEN} GROUP BY destination"
    ):
        stuck = Stuck(since=moment_of(since), incident=incident, reason=reason)
        found[destination] = msgspec.structs.replace(found[destination], stuck=stuck)
    for column, question in (
        ("dead", "SELECT destination, count(*) FROM delivery WHERE state = 'dead' GROUP BY destination"),
        ("lost", "SELECT destination, count FROM lost"),
    ):
        for destination, count in connection.execute(question):
            found[destination] = msgspec.structs.replace(found.get(destination, Backlog()), **{column: count})
    return found
