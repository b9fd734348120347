"""From the writer thread to those who wait in the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from bridge.errors import StorageError


def tell(waiting: list[asyncio.Future[Any]], how: Callable[..., None], *details: object) -> None:
    """Call `how(*details)` in the loop that waits. All of a batch wait in one loop."""
    try:
        waiting[0].get_loop().call_soon_threadsafe(how, *details)
    except RuntimeError:
        return  # The loop was closed: nobody waits any more.


def set_result(done: asyncio.Future[Any], result: object) -> None:
    """Give one who waits a result."""
    if not done.done():  # Whoever waited may have been cancelled.
        done.set_result(result)


def number_all(waiting: Iterable[asyncio.Future[int]], first_id: int) -> None:
    """Give all who wait the ids of their rows."""
    for row, done in enumerate(waiting, first_id):
        if not done.done():
            done.set_result(row)


def fail_all(waiting: Iterable[asyncio.Future[Any]], error: StorageError) -> None:
    """Tell all who wait what went wrong."""
    for done in waiting:
        if not done.done():
            # One exception each: raising one in many tasks would grow its traceback without end.
            done.set_exception(type(error)(str(error)))
