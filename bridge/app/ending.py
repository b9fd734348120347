"""The end that comes in any case: a process that was asked to stop is gone after so many seconds.

Rule: nothing that was acknowledged is lost by it, since that is on the disk already. What is cut off is what waits for
a disk that hangs, for a thread in it, or for a bug of ours.

Decision: a thread of its own that ends the process, rather than a deadline on each wait. Waits that cannot be bounded
are in places that nobody thinks of: the executor's threads, a file's close, the interpreter's own end.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)

#: The orderly end takes at most 9 s, and 10 were promised.
LIMIT_S = 9.5
EXIT_CODE = 1


def end_within(limit_s: float, end: Callable[[int], None] = os._exit) -> threading.Timer:
    """End the process after `limit_s` unless it has ended by then; return the timer, already started."""
    timer = threading.Timer(limit_s, _cut_off, (limit_s, end))
    timer.daemon = True
    timer.start()
    return timer


def _cut_off(limit_s: float, end: Callable[[int], None]) -> None:
    logger.critical(
        "Tocsin did not come to its end in %.1f s and is cut off; everything acknowledged is on the disk.",
        limit_s,
        extra={"event": "front_cut_off"},
    )
    end(EXIT_CODE)
