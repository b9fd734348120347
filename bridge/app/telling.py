"""What the front tells the inbox by itself: that it begins to listen, what is in force, and that time passes.

In force are the settings and the topology file. The file is told at every start as well, and where there is none, that
there is none: only the state knows which one it has.

Rules: nothing here waits for anybody. What the inbox does not take is told again a second later. A clock row also
tries a disk that was full: it is as large as what failed, since a few bytes nearly always find room.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

import msgspec

from bridge.analysis.settings import AnalysisSettings
from bridge.analysis.topology import Chart
from bridge.app.recovery import clock_row_due
from bridge.app.troubles import Troubles
from bridge.config import Settings
from bridge.errors import StorageError
from bridge.model import OWN_SOURCE, RowKind
from bridge.storage.inbox import InboxWriter
from bridge.telemetry import Telemetry

logger = logging.getLogger(__name__)

LOOK_S = 1.0
#: So far ahead of the wall the inbox's clock is worth an alert: the machine's clock was wrong, then set back.
AHEAD_S = 60.0


class Telling:
    """One front's own rows, and its eye on the inbox."""

    def __init__(
        self,
        inbox: InboxWriter,
        *,
        settings: Callable[[], Settings],
        timers: Callable[[], bool],
        behind: Callable[[], bool] = lambda: False,
        troubles: Troubles,
        telemetry: Telemetry,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        """Prepare.

        Args:
            inbox: Where rows go.
            settings: What holds now.
            timers: Whether anything waits for time to pass.
            behind: Whether one tenant's rows wait while others' are thought: then rows do not tell the time to all.
            troubles: Where an alert about the inbox's clock goes.
            telemetry: Where its lead is shown.
            clock: Seconds of a steady clock.
            wall: Seconds since the epoch.
        """
        self._inbox = inbox
        self._settings = settings
        self._timers = timers
        self._behind = behind
        self._troubles = troubles
        self._clock = clock
        self._wall = wall
        self._start_told = False
        self._why_waiting = ""
        self._told: AnalysisSettings | None = None  # the settings that were put last
        self._told_topology: Chart | None = None
        self._row_at = self._time_told_at = clock()
        telemetry.watch("tocsin_inbox_clock_ahead_seconds", self.ahead_s)

    def ahead_s(self) -> float:
        """Return by how much the inbox's clock, which never goes back, is ahead of the one on the wall."""
        return max(0.0, self._inbox.newest_at_us / 1e6 - self._wall())

    def rows_came(self) -> None:
        """Note that the inbox took rows of any kind: time has been told."""
        self._row_at = self._clock()

    def tell_anew(self) -> None:
        """Tell once more what is in force, for a state that is begun anew.

        What the inbox held of it is gone, an hour after it was understood.
        """
        self._told = self._told_topology = None

    async def run(self) -> None:
        """Look after all of it, for ever.

        Looking is a task of its own: telling waits for the disk, and a disk that hangs has to be noticed.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_looking())
            group.create_task(self._keep_telling())

    def look(self) -> None:
        """Look at the inbox and its clock."""
        self._inbox.look()
        self._look_at_clock()

    async def tell(self) -> None:
        """Tell what is due."""
        await self.tell_settings()
        timers = self._timers() or bool(self._inbox.trouble)
        told_at = self._time_told_at if self._behind() else self._row_at
        if clock_row_due(self._clock() - told_at, timers=timers):
            self.rows_came()
            self._time_told_at = self._clock()
            with suppress(StorageError):  # the intake says so to whoever sends
                await self._put(RowKind.CLOCK, bytes(self._inbox.failed_bytes))

    async def tell_settings(self) -> None:
        """Put settings and topology in force if others were put last, and at first that this front begins to listen.

        At every start: alerts did not fall silent while nobody listened, and the state may be another than last
        time's.
        """
        try:
            if not self._start_told:
                await self._put(RowKind.STARTED, b"{}")
                self._start_told = True
            wanted = self._settings().analysis
            if wanted != self._told:
                await self._put(RowKind.SETTINGS, msgspec.json.encode(wanted))
                self._told = wanted
            chart = self._settings().topology
            if chart != self._told_topology:
                await self._inbox.put("", OWN_SOURCE, RowKind.TOPOLOGY, msgspec.json.encode(chart))
                self._told_topology = chart
        except StorageError as error:
            if str(error) != self._why_waiting:  # once a second would be too often
                logger.warning("The settings wait: %s", error, extra={"event": "row_lost"})
            self._why_waiting = str(error)
        else:
            self._why_waiting = ""

    async def _put(self, kind: RowKind, body: bytes) -> None:
        await self._inbox.put(self._settings().tenants[0], OWN_SOURCE, kind, body)

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            self.look()

    async def _keep_telling(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await self.tell()

    def _look_at_clock(self) -> None:
        ahead_s = self.ahead_s()
        reason = None
        if ahead_s > AHEAD_S:
            reason = f"the newest webhook is dated {ahead_s:.0f} s after the machine's clock"
        self._troubles.report("TocsinClockAhead", reason)
