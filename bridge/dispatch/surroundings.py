"""What the dispatcher is given: its store, the outbox, a clock, a meter, its settings."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import msgspec
from typing_extensions import override

from bridge.delivery import (
    Backlog,
    Claim,
    Diverted,
    Due,
    Fallback,
    GivenUp,
    Line,
    LineChange,
    OutboxPlace,
    OutboxRow,
    Policy,
    Retention,
    Room,
    Settlement,
    Tidied,
)
from bridge.model import Delivery, Event, Word
from bridge.ports import Request, Sender

#: Called with a destination's name, the kind of trouble ("blocked", "unreachable", "dead_letters", "stuck" or
#: "unconfigured") and why; None when it is over. Called again now and then while it lasts.
OnTrouble = Callable[[str, str, str | None], Awaitable[None]]
#: Waits until the event is set or the time has come.
Pause = Callable[[asyncio.Event, datetime], Awaitable[None]]
Clock = Callable[[], datetime]


class Outbox(Protocol):
    """What the analyst has committed. The calls block and may raise StorageError."""

    def read(self, after_id: int, limit: int) -> list[OutboxRow]:
        """Return up to `limit` rows with an id above `after_id`, in order."""
        ...

    def end(self) -> OutboxPlace | None:
        """Return the highest id ever given out and in which outbox, None while there is none."""
        ...

    def event(self, event_id: str) -> bytes | None:
        """Return an event as JSON, None if it is no longer kept."""
        ...


class Book(Protocol):
    """Where deliveries are kept. A call is one transaction; if it raises StorageError nothing was kept."""

    async def follow_clock(self) -> float:
        """Move what waits along with a clock that was set back; return by how many seconds, 0 if it was not."""
        ...

    async def recover(self) -> int:
        """Make due what was under way when the last process ended."""
        ...

    async def adopt(self, marks: Mapping[str, str]) -> int:
        """Thaw what was frozen under other settings of its destination; return how many requests."""
        ...

    async def cursor(self) -> OutboxPlace:
        """Return the last outbox row taken in."""
        ...

    async def rewind(self, outbox: str) -> None:
        """Read `outbox` from its beginning."""
        ...

    async def take_in(self, outbox_rows: Sequence[OutboxRow]) -> frozenset[str]:
        """Add outbox rows and move the cursor; return the destinations that have new work."""
        ...

    async def due(self, destination: str, room: Room) -> Due:
        """Return what a destination can start now."""
        ...

    async def claim(
        self, settled: Sequence[Delivery], claims: Sequence[Claim], lines: Sequence[LineChange] = ()
    ) -> list[int | None]:
        """End `settled`, change `lines` and freeze `claims`; return their ids, None where a delivery was gone."""
        ...

    async def reclaim(self, request: int) -> bool:
        """Mark a frozen request as under way again; False if it is gone."""
        ...

    async def unclaim(self, request: int, due_at: datetime) -> None:
        """Let a request whose attempt broke off here go again at `due_at`."""
        ...

    async def thaw(self, request: int) -> None:
        """Forget a frozen request; what is open of it is rendered anew."""
        ...

    async def settle(self, settlement: Settlement) -> None:
        """Commit what became of a request."""
        ...

    async def hasten(self, destination: str) -> None:
        """Make due what waits only because the whole destination was in trouble."""
        ...

    async def backlog(self) -> dict[str, Backlog]:
        """Return what each destination does not have yet."""
        ...

    async def free_bytes(self) -> int:
        """Return how much room the disk of the store has."""
        ...

    async def thaw_overtaken(self, destination: str) -> None:
        """Forget frozen requests that a newer event of the same incident waits behind."""
        ...

    async def crowded(self, destination: str, limit: int) -> Sequence[Line]:
        """Return lines in which several deliveries wait, those with the most first."""
        ...

    async def give_up(self, destination: str, count: int, reason: str, retention: Retention) -> GivenUp:
        """Make dead letters of the oldest events that wait, at most so many."""
        ...

    async def divert(
        self, destination: str, to: str, *, died_since: datetime, since: datetime | None
    ) -> Diverted:
        """Give a destination's newer dead letters, and what waits of `since` on if that is given, to its fallback."""
        ...

    async def tidy(self, retention: Retention) -> Tidied:
        """Delete what has ended long enough ago."""
        ...


class DispatchMeter(Protocol):
    """What is counted. Labels are bounded: destinations come from the configuration, results from a list."""

    def counted(self, destination: str, result: str, events: int) -> None:
        """Count events by what became of them.

        `result` is one of delivered, duplicate, continued (a further call is due), pending, retry, split,
        blocked, dead, superseded, not_wanted, diverted (given to the fallback, beside what became of them).
        """

    def attempted(self, destination: str, seconds: float) -> None:
        """Observe how long one attempt took."""

    def backlog(self, destination: str, backlog: Backlog) -> None:
        """Show what a destination does not have yet."""

    def blocked(self, destination: str, *, is_blocked: bool) -> None:
        """Show whether a destination refuses us."""

    def concurrency(self, destination: str, limit: int) -> None:
        """Show how many requests may be under way."""


class SilentMeter(DispatchMeter):
    """Counts nothing."""

    @override
    def counted(self, destination: str, result: str, events: int) -> None:
        """Do nothing."""

    @override
    def attempted(self, destination: str, seconds: float) -> None:
        """Do nothing."""

    @override
    def backlog(self, destination: str, backlog: Backlog) -> None:
        """Do nothing."""

    @override
    def blocked(self, destination: str, *, is_blocked: bool) -> None:
        """Do nothing."""

    @override
    def concurrency(self, destination: str, limit: int) -> None:
        """Do nothing."""


class DispatchSettings(Word, frozen=True, kw_only=True):
    """How the dispatcher behaves, beside what each destination's policy says."""

    policies: dict[str, Policy] = msgspec.field(default_factory=dict)  # by destination; others have Policy()
    #: By destination, something that changes when its settings do. Without one its settings never change.
    marks: dict[str, str] = msgspec.field(default_factory=dict)
    #: By destination, what takes out of an event what it is not to have; others have all of it.
    redactors: dict[str, Callable[[Event], Event]] = msgspec.field(default_factory=dict)
    fallbacks: dict[str, Fallback] = msgspec.field(default_factory=dict)  # by destination; no loops
    retention: Retention = Retention()
    max_waiting: int = (
        1_000_000  # events of one destination; fewer where the disk is small (`delivery.bounds`)
    )
    attempt_timeout_s: float = 30.0  # one request and its answer
    poll_s: float = 0.25  # how often the outbox is looked at without being told
    look_every_s: float = 1.0  # how often a worker looks for what a person sent off again
    take_in_rows: int = 500  # outbox rows of one transaction
    stop_s: float = 8.0  # what is under way may take so long to finish when we stop
    measure_every_s: float = 10.0
    tidy_every_s: float = 3600.0
    unreachable_after_s: float = 120.0  # a destination that takes nothing is told of after so long
    stuck_after_s: float = 900.0  # an event that fails while others pass is told of after so long
    remind_every_s: float = 3600.0  # trouble that lasts is told again

    def policy(self, destination: str) -> Policy:
        """Return the policy of a destination."""
        return self.policies.get(destination, _DEFAULT_POLICY)


_DEFAULT_POLICY = Policy()


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Everything a worker is given."""

    book: Book
    outbox: Outbox
    senders: Mapping[type[Request], Sender]
    clock: Clock
    pause: Pause
    jitter: Callable[[], float]  # 0..1, drawn anew each time
    meter: DispatchMeter
    settings: DispatchSettings
    thread: Executor  # for what blocks: reading events and rendering requests


def pause_by(clock: Clock) -> Pause:
    """Return the pause of real life, measured by `clock`."""

    async def pause(signal: asyncio.Event, until: datetime) -> None:
        left_s = (until - clock()).total_seconds()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(left_s, 0.0)):
                await signal.wait()

    return pause
