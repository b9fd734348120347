"""Threads that do what blocks: each has one thing to look after, and one piece of work at a time.

Decision: threads of our own rather than an executor's. A file on a dead server or a frozen file system hangs in
the kernel, where nobody can end it. In a shared executor it would take a place from every other file, and the
interpreter waits for an executor's threads when it ends, which then would be never.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable

CLOSE_S = 1.0  # how long the end waits for one of them; what hangs is left to the kernel

Work = Callable[[], None]


class Worker:
    """One daemon thread, begun with its first work. Use and end it in one event loop; `turn` says whose turn it is."""

    def __init__(self, name: str) -> None:
        self.turn = asyncio.Lock()
        self._name = name
        self._asked: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def do(self, work: Work) -> None:
        """Do `work` in the thread; raise what it raises."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Exception | None] = loop.create_future()

        def asked() -> None:
            error: Exception | None = None
            try:
                work()
            except Exception as caught:  # noqa: BLE001 - raised again where it was asked for
                error = caught
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(lambda: None if done.done() else done.set_result(error))

        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        self._asked.put(asked)
        error = await done
        if error is not None:
            raise error

    async def end(self, work: Work) -> None:
        """Do a last work when its turn comes, and end the thread; wait a moment for both."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S), self.turn:
                if self._thread is not None:
                    await self.do(work)
        self._asked.put(None)

    def _run(self) -> None:
        while (work := self._asked.get()) is not None:
            work()
