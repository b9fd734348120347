"""An inbox under test: a clock that is set by hand and can hold its writer up, and what was written."""

from __future__ import annotations

import asyncio
import threading

from bridge.model import InboxRow, RowKind
from bridge.storage.inbox import InboxReader, InboxWriter

HOOK = RowKind.WEBHOOK


class Clock:
    """A clock that is set by hand, and that can hold the writer thread up in the middle of a commit."""

    def __init__(self, now_us: int = 1_000) -> None:
        self.now_us = now_us
        self.asked = threading.Event()
        self.going = threading.Event()
        self.going.set()

    def __call__(self) -> int:
        self.asked.set()
        self.going.wait(10)
        return self.now_us


class Commits(list[int]):
    """How many rows each commit had."""

    def __call__(self, seconds: float, rows: int, size_bytes: int) -> None:
        assert seconds > 0
        assert size_bytes >= rows
        self.append(rows)


def rows(path, after: int = 0, max_rows: int = 1000, max_bytes: int = 1 << 30) -> list[InboxRow]:
    reader = InboxReader(path)
    try:
        return reader.read(after, max_rows, max_bytes)
    finally:
        reader.close()


async def held_up(
    writer: InboxWriter, clock: Clock, others: int, body: bytes = b"x"
) -> list[asyncio.Task[int]]:
    """Put one row whose commit is under way, and `others` that have to queue behind it."""
    clock.going.clear()
    clock.asked.clear()
    tasks = [asyncio.Task(writer.put("t", "s", HOOK, body))]
    await asyncio.to_thread(clock.asked.wait, 10)
    tasks += [asyncio.Task(writer.put("t", "s", HOOK, body)) for _ in range(others)]
    while writer.queued_bytes < len(body) * (others + 1):
        await asyncio.sleep(0)
    return tasks
