"""What a vendor's library does in a thread because it blocks: to find credentials, to renew a token.

Decision: a daemon thread for each piece of work (one a minute at most) rather than an executor's: a metadata server
that hangs would take a place from everybody, and the interpreter waits for an executor's threads when it ends. Nor a
`Worker` of the transport: one for each set of credentials would idle between renewals.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

Told = TypeVar("Told")


def in_a_thread(work: Callable[[], Told], name: str) -> asyncio.Future[Told]:
    """Start `work` in a thread of its own; what it raises is raised where its result is awaited.

    Await it behind `asyncio.shield`, so that whoever leaves early takes it from nobody else.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Told] = loop.create_future()

    def run() -> None:
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 (raised in the loop)
            tell(done.set_exception, error)
        else:
            tell(done.set_result, result)

    def tell(how: Callable[[Any], None], what: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(lambda: None if done.done() else how(what))

    threading.Thread(target=run, name=name, daemon=True).start()
    return done
