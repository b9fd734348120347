"""The servers that the intake's benchmarks compare, one process each: `python parts/servers.py KIND --data DIR`.

ceiling   aiohttp reads the body and answers 200: nothing can be faster
rawlog    the physical reference: a preallocated log, overwritten, one fdatasync for all who wait
naive     what one would write first: one commit per request, on the event loop's thread
tocsin    Tocsin's intake and inbox without the rest of the sidecar
early     Tocsin's intake answering before the commit: the control that must lose what it acknowledged
unsynced  Tocsin's intake with synchronous=OFF: the control that must be seen not to sync

Prints `listening on PORT` when it is ready.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import queue
import signal
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import uvloop
from aiohttp import web

from bridge.auth import Keyring
from bridge.intake import BACKLOG, Gate, Intake, NoMeter, Runner, routes
from bridge.model import RowKind
from bridge.storage.inbox import InboxWriter
from bridge.storage.inbox import file as inbox_file
from bridge.webhooks import envelope

PATH = "/v1/alertmanager"
LOG_BYTES = 1 << 30


class Cleared:
    """An inbox that says yes first and writes later."""

    def __init__(self, inbox: InboxWriter, tasks: asyncio.TaskGroup) -> None:
        self._inbox = inbox
        self._tasks = tasks

    async def put(self, tenant: str, source: str, kind: RowKind, body: bytes) -> int:
        """Answer before the commit."""
        self._tasks.create_task(self._inbox.put(tenant, source, kind, body))
        return 0


class RawLog:
    """Appends frames to a preallocated file that is overwritten from its start when it is full."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_RDWR)
        os.posix_fallocate(self._file, 0, LOG_BYTES)
        # Blocks that were never written still cost the file system's journal a write.
        for at in range(0, LOG_BYTES, 1 << 20):
            os.pwrite(self._file, b"\0" * (1 << 20), at)
        os.fsync(self._file)
        self._at = 0
        self._queue: queue.SimpleQueue[tuple[asyncio.Future[None], bytes]] = queue.SimpleQueue()
        threading.Thread(target=self._run, daemon=True).start()

    async def put(self, body: bytes) -> None:
        """Return after the fdatasync."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.put((done, body))
        await done

    def _run(self) -> None:
        while True:
            batch = [self._queue.get()]
            with contextlib.suppress(queue.Empty):
                while True:
                    batch.append(self._queue.get_nowait())
            frame = b"".join(len(body).to_bytes(4, "big") + body for _, body in batch)
            if self._at + len(frame) > LOG_BYTES:
                self._at = 0
            self._at += os.pwrite(self._file, frame, self._at)
            os.fdatasync(self._file)
            batch[0][0].get_loop().call_soon_threadsafe(_finish, [done for done, _ in batch])


def _finish(waiting: list[asyncio.Future[None]]) -> None:
    for done in waiting:
        if not done.done():
            done.set_result(None)


@contextlib.asynccontextmanager
async def ceiling(_data: Path) -> AsyncIterator[list[web.RouteDef]]:
    async def receive(request: web.Request) -> web.Response:
        await request.read()
        return web.Response()

    yield [web.post(PATH, receive)]


@contextlib.asynccontextmanager
async def rawlog(data: Path) -> AsyncIterator[list[web.RouteDef]]:
    log = RawLog(data / "raw.log")

    async def receive(request: web.Request) -> web.Response:
        body = await request.read()
        envelope.check(body)
        await log.put(body)
        return web.Response()

    yield [web.post(PATH, receive)]


@contextlib.asynccontextmanager
async def naive(data: Path) -> AsyncIterator[list[web.RouteDef]]:
    connection = sqlite3.connect(data / "naive.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE inbox(id INTEGER PRIMARY KEY, received_at INTEGER, body BLOB)")

    async def receive(request: web.Request) -> web.Response:
        body = await request.read()
        envelope.check(body)
        connection.execute(
            "INSERT INTO inbox(received_at, body) VALUES (?, ?)", [time.time_ns() // 1000, body]
        )
        return web.Response()

    yield [web.post(PATH, receive)]


@contextlib.asynccontextmanager
async def tocsin(data: Path, *, early: bool = False) -> AsyncIterator[list[web.RouteDef]]:
    writer = InboxWriter(data / "inbox.db", clock_us=lambda: time.time_ns() // 1000)
    writer.start()
    try:
        async with asyncio.TaskGroup() as tasks:
            yield routes(Intake(Cleared(writer, tasks) if early else writer, Gate(Keyring(), wall=time.time)))
    finally:
        writer.close()


@contextlib.asynccontextmanager
async def unsynced(data: Path) -> AsyncIterator[list[web.RouteDef]]:
    ordinary = inbox_file.open_writer

    def careless(*arguments: Any, **named: Any) -> sqlite3.Connection:
        connection = ordinary(*arguments, **named)
        connection.execute("PRAGMA synchronous=OFF")
        return connection

    inbox_file.open_writer = careless
    async with tocsin(data) as found:
        yield found


KINDS: dict[str, Callable[[Path], contextlib.AbstractAsyncContextManager[list[web.RouteDef]]]] = {
    "ceiling": ceiling,
    "rawlog": rawlog,
    "naive": naive,
    "tocsin": tocsin,
    "early": lambda data: tocsin(data, early=True),
    "unsynced": unsynced,
}


async def serve(kind: str, data: Path, port: int) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with KINDS[kind](data) as found:
        application = web.Application(client_max_size=1 << 30)
        application.add_routes(found)
        runner = Runner(application, NoMeter())  # below all of them what `tocsin serve` runs
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port, backlog=BACKLOG)
        await site.start()
        print(f"listening on {runner.addresses[0][1]}", flush=True)
        await stopped.wait()
        await runner.cleanup()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("kind", choices=KINDS)
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--port", type=int, default=0)
    given = arguments.parse_args()
    uvloop.run(serve(given.kind, given.data, given.port))


if __name__ == "__main__":
    main()
