"""What a destination does not take goes to its fallback: dead letters soon, what waits once it is down for long.

Rule: the store remembers what was given. Here is only how far was looked, so that an hour of backlog is not gone
through at each look; after a restart it is gone through once more.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from bridge.delivery import Fallback
from bridge.dispatch.surroundings import Surroundings
from bridge.dispatch.worker import Worker

_LOG = logging.getLogger(__name__)
#: Events are made nearly in the order of their times; so far back it is looked again.
SLACK = timedelta(minutes=10)
#: Dead letters of so long before the start are still given: the last process may have ended before it did.
BEFORE = timedelta(hours=1)
_ALWAYS = datetime(1970, 1, 2, tzinfo=UTC)


class Diverting:
    """Gives events to fallbacks."""

    def __init__(self, workers: Mapping[str, Worker], around: Surroundings) -> None:
        self._workers = workers
        self._around = around
        #: A fallback that is new is not told of all that was ever given up.
        self._died_since = around.clock() - BEFORE
        self._looked: dict[str, datetime] = {}  # by destination that is down, how far

    async def look(self, now: datetime) -> None:
        """Give what is due to be given.

        Raises:
            StorageError: The store cannot be read or written; it is looked again.
        """
        for name, fallback in self._around.settings.fallbacks.items():
            if name in self._workers and fallback.to in self._workers:
                await self._divert(name, fallback, now)

    async def _divert(self, name: str, fallback: Fallback, now: datetime) -> None:
        is_down = self._workers[name].down_s(now) > fallback.after_s
        if not is_down:
            self._looked.pop(name, None)
        total, more = 0, True
        while more:
            since = self._looked.get(name, _ALWAYS) if is_down else None
            diverted = await self._around.book.divert(
                name, fallback.to, died_since=self._died_since, since=since
            )
            total, more = total + diverted.events, diverted.more
            if diverted.through is not None:
                self._looked[name] = max(diverted.through - SLACK, _ALWAYS)
        if total:
            self._around.meter.counted(name, "diverted", total)
            _LOG.warning(
                "Events of a destination that does not take them go to its fallback.",
                extra={
                    "event": "delivery_diverted", "destination": name, "fallback": fallback.to, "count": total,
                },
            )  # fmt: skip
            self._workers[fallback.to].wake()
