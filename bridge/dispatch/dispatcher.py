"""Starts the workers, takes in the outbox, measures, tidies, and ends all of it cleanly."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from msgspec.structs import replace

from bridge.delivery import Backlog, OutboxPlace, OutboxRow, may_wait
from bridge.dispatch.alarms import Alarms
from bridge.dispatch.diverting import Diverting
from bridge.dispatch.surroundings import (
    Book,
    Clock,
    DispatchMeter,
    DispatchSettings,
    OnTrouble,
    Outbox,
    Pause,
    SilentMeter,
    Surroundings,
    pause_by,
)
from bridge.dispatch.worker import OWN_WAIT, Worker
from bridge.errors import StorageError
from bridge.ports import Connector, Request, Sender

_LOG = logging.getLogger(__name__)
Asked = TypeVar("Asked")


#: A clock that is set back by more than this begins a new round of deliveries.
SET_BACK = timedelta(seconds=5)


class Dispatcher:
    """Brings every event to its destinations. `run` it in a TaskGroup; `stop` lets it end by itself.

    It also ends by itself when the clock was set back, as if it had been told to stop: everything here waits for a
    time, in memory and in the store, and a new one begins by moving what waits along (`Book.follow_clock`).

    Args:
        store: Where deliveries are kept; open as long as this runs.
        outbox: What the analyst has committed; asked in a thread of its own.
        connectors: One per destination. What waits for a name that is not here waits on.
        senders: One per kind of request. They are not closed here.
        clock: The time, aware UTC.
        jitter: 0..1, drawn anew for each wait.
        on_trouble: See `OnTrouble`.
        settings: How patient and how eager to be.
        meter: Counts; nothing if not given.
        pause: How to wait; by the real clock if not given.
        thread: Where blocking calls run; a thread of its own if not given.
    """

    def __init__(  # noqa: PLR0913 (the one place where everything comes together; most have a default)
        self,
        store: Book,
        outbox: Outbox,
        connectors: Mapping[str, Connector],
        senders: Mapping[type[Request], Sender],
        *,
        clock: Clock,
        jitter: Callable[[], float],
        on_trouble: OnTrouble,
        settings: DispatchSettings | None = None,
        meter: DispatchMeter | None = None,
        pause: Pause | None = None,
        thread: Executor | None = None,
    ) -> None:
        settings = settings or DispatchSettings()
        self._owns_thread = thread is None
        self._around = Surroundings(
            book=store,
            outbox=outbox,
            senders=senders,
            clock=clock,
            pause=pause or pause_by(clock),
            jitter=jitter,
            meter=meter or SilentMeter(),
            settings=settings,
            thread=thread or ThreadPoolExecutor(1, "dispatch"),
        )
        self._alarms = Alarms(on_trouble, settings.remind_every_s)
        self.workers = {
            name: Worker(name, connector, self._around, self._alarms)
            for name, connector in connectors.items()
        }
        self._diverting = Diverting(self.workers, self._around)
        self._unconfigured: set[str] = set()  # destinations that have something in the store
        self._signal = asyncio.Event()
        self._stopped = asyncio.Event()

    def wake(self) -> None:
        """Look at the outbox and for due work now, for instance because the analyst has committed."""
        self._signal.set()
        for worker in self.workers.values():
            worker.wake()

    def stop(self) -> None:
        """Start nothing more; `run` returns within `settings.stop_s` and a commit."""
        self._stopped.set()
        self._signal.set()
        for worker in self.workers.values():
            worker.stop()

    @property
    def has_ended(self) -> bool:
        """Whether it was told to stop, or stops by itself."""
        return self._stopped.is_set()

    async def run(self) -> None:
        """Deliver until stopped. A store that fails is waited for, here and later."""
        try:
            await self._recover()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._take_in())
                group.create_task(self._look_after())
                for worker in self.workers.values():
                    group.create_task(worker.run())
        finally:
            if self._owns_thread:
                self._around.thread.shutdown(wait=False)

    async def _recover(self) -> None:
        """Make due what the last process left under way; nothing may start before.

        What was frozen under other settings of its destination is rendered anew: a wrong channel or index
        stands in the frozen bytes.
        """
        marks = {name: self._around.settings.marks.get(name, "") for name in self.workers}
        while not self._stopped.is_set():
            try:
                back_s = await self._around.book.follow_clock()
                if back_s:
                    _LOG.warning(
                        "The clock was set back; what waits does not wait for longer.",
                        extra={"event": "clock_set_back", "seconds": round(back_s, 3)},
                    )
                await self._around.book.recover()
                await self._around.book.adopt(marks)
            except StorageError as error:
                _LOG.warning(
                    "The delivery store cannot be begun with; it is tried again.",
                    extra={"event": "dispatch_storage", "reason": str(error)},
                )
                await self._around.pause(self._stopped, self._around.clock() + OWN_WAIT)
            else:
                return

    # ---- the outbox --------------------------------------------------------------------------------------

    async def _take_in(self) -> None:
        place: OutboxPlace | None = None
        while not self._stopped.is_set():
            self._signal.clear()
            wait = timedelta(seconds=self._around.settings.poll_s)
            try:
                end = await self._ask(self._around.outbox.end)
                if end is not None and (place is None or end.outbox != place.outbox or end.id < place.id):
                    place = await self._resumed(end)
                if place is not None and (rows := await self._take(place.id)):
                    place = replace(place, id=rows[-1].id)
                    continue
            except StorageError as error:
                _LOG.warning(
                    "The outbox could not be taken in; it is tried again.",
                    extra={"event": "dispatch_storage", "reason": str(error)},
                )
                wait = OWN_WAIT
            except Exception:  # noqa: BLE001 (a bug here must not end the intake, which lives in the same process)
                _bug("The outbox could not be taken in.")
                wait = OWN_WAIT
            if not self._stopped.is_set():
                await self._around.pause(self._signal, self._around.clock() + wait)

    async def _resumed(self, end: OutboxPlace) -> OutboxPlace:
        """Return where to go on in the outbox that ends there; at its beginning if it was not read before."""
        known = await self._around.book.cursor()
        if known.outbox == end.outbox and known.id <= end.id:
            return known
        if known.outbox:
            _LOG.warning(
                "The state was restored or begun anew; its outbox is read from the beginning.",
                extra={"event": "outbox_rewound", "cursor": known.id, "newest": end.id},
            )
        await self._around.book.rewind(end.outbox)
        return OutboxPlace(outbox=end.outbox)

    async def _take(self, after_id: int) -> list[OutboxRow]:
        """Take in what is next in the outbox, and return it."""
        most = self._around.settings.take_in_rows
        rows = await self._ask(partial(self._around.outbox.read, after_id, most))
        for destination in await self._around.book.take_in(rows) if rows else ():
            if destination in self.workers:
                self.workers[destination].wake()
        return rows

    async def _ask(self, question: Callable[[], Asked]) -> Asked:
        return await asyncio.get_running_loop().run_in_executor(self._around.thread, question)

    # ---- looking after -----------------------------------------------------------------------------------

    async def _look_after(self) -> None:
        settings = self._around.settings
        measure_at = tidy_at = self._around.clock()
        latest = measure_at
        while not self._stopped.is_set():
            now = self._around.clock()
            if now < latest - SET_BACK:
                self.stop()
                return
            latest = now
            try:
                if now >= measure_at:
                    measure_at = now + timedelta(seconds=settings.measure_every_s)
                    backlogs = await self._around.book.backlog()
                    self._measure(backlogs, now)
                    await self._make_room(backlogs)
                    await self._diverting.look(now)
                if now >= tidy_at:
                    tidy_at = await self._tidy(now)
            except StorageError as error:
                _LOG.warning(
                    "The delivery store could not be measured or tidied.",
                    extra={"event": "dispatch_storage", "reason": str(error)},
                )
            except Exception:  # noqa: BLE001 (as above)
                _bug("The deliveries could not be looked after.")
            try:
                await self._alarms.tell(now)
            except Exception:  # noqa: BLE001 (as above)
                _bug("Trouble with a destination could not be told.")
            await self._around.pause(self._stopped, now + timedelta(seconds=settings.look_every_s))

    def _measure(self, backlogs: Mapping[str, Backlog], now: datetime) -> None:
        for name in self.workers:
            backlog = backlogs.get(name, Backlog())
            self._around.meter.backlog(name, backlog)
            dead = "" if not backlog.dead else (
                f"{backlog.dead} events were given up: `tocsin deliveries list`, then retry or drop"
            )  # fmt: skip
            self._alarm(name, "dead_letters", dead)
            self._alarm(name, "stuck", self._why_stuck(name, backlog, now))
        self._unconfigured |= backlogs.keys() - self.workers.keys()
        for name in self._unconfigured:
            self._wait_for(name, backlogs.get(name, Backlog()))

    async def _make_room(self, backlogs: Mapping[str, Backlog]) -> None:
        """Let no backlog take the disk from the intake; see `bridge.delivery.bounds`."""
        waiting = sum(each.waiting for each in backlogs.values())
        free_bytes = await self._around.book.free_bytes()
        allowed = may_wait(free_bytes, waiting, len(self.workers), self._around.settings.max_waiting)
        for name, worker in self.workers.items():
            too_many = backlogs.get(name, Backlog()).waiting - allowed
            if too_many > 0:
                await worker.shed(too_many, f"given up to make room: more than {allowed} events waited")

    def _why_stuck(self, name: str, backlog: Backlog, now: datetime) -> str:
        stuck = backlog.stuck
        if stuck is None or (now - stuck.since).total_seconds() < self._around.settings.stuck_after_s:
            return ""
        return (
            f"an event of incident {stuck.incident} has failed since {stuck.since:%Y-%m-%d %H:%M:%S} UTC "
            f"({stuck.reason}) while others pass; what follows of that incident waits behind it: "
            f"`tocsin deliveries list --state waiting --destination {name}`, then drop it"
        )

    def _wait_for(self, name: str, backlog: Backlog) -> None:
        """Tell of events for a destination that is not configured (any more); they wait for its return."""
        self._around.meter.backlog(name, backlog)
        waiting = "" if not backlog.waiting else (
            f"{backlog.waiting} events wait for a destination that is not configured; configure it under this "
            f"name again, or drop them: `tocsin deliveries list --state waiting --destination {name}`"
        )  # fmt: skip
        self._alarm(name, "unconfigured", waiting)

    def _alarm(self, name: str, kind: str, reason: str) -> None:
        if reason:
            self._alarms.wrong(name, kind, reason)
        else:
            self._alarms.over(name, kind)

    async def _tidy(self, now: datetime) -> datetime:
        """Delete a part of what is old; return when to go on."""
        settings = self._around.settings
        tidied = await self._around.book.tidy(settings.retention)
        for destination, count in tidied.lost.items():
            _LOG.error(
                "Dead letters were dropped to make room.",
                extra={"event": "dead_letters_lost", "destination": destination, "count": count},
            )
        return now if tidied.more else now + timedelta(seconds=settings.tidy_every_s)


def _bug(message: str) -> None:
    _LOG.exception(message, extra={"event": "dispatch_bug"})
