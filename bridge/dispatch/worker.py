"""One destination: finds what is due, sends it within its limits, commits what came of it.

Theory: the worker holds no queue. Each round asks the store for as much as may start now, so the bound on
what is in memory is the concurrency limit times the batch size. A line that is under way is not found again
until its answer is committed; that is what keeps an incident's events in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec.structs import replace

from bridge.delivery import Frozen, Line, LineKey, Room, Settlement, Told, overdue, settle
from bridge.dispatch.alarms import Alarms
from bridge.dispatch.preparing import Preparing, Ready
from bridge.dispatch.sending import Answer, Sending
from bridge.dispatch.standing import Standing
from bridge.dispatch.surroundings import Surroundings
from bridge.dispatch.telling import Telling
from bridge.errors import StorageError
from bridge.model import Delivery, DeliveryState, Verdict, Word
from bridge.ports import Connector, Rendered, Request, Unreached, decode_request, size_bytes

#: How many deliveries of a line are read where each event goes; unwanted ones are passed over.
FOLLOW = 8
#: How many events one round looks at, at most; the next round follows at once.
ROUND_EVENTS = 500
#: What is urgent goes first, but one request in so many that are taken is the oldest: warnings still go, too.
TURNS = 4
#: How many lines are gone through at once when a backlog has to make room.
SHED_LINES = 200
#: How long to wait before trying again what failed for our own reasons.
OWN_WAIT = timedelta(seconds=1)
BUG_WAIT = timedelta(seconds=60)


class Attempt(Word, frozen=True, kw_only=True):
    """A claimed request about to be sent, with its deliveries as they are during the attempt."""

    request: int
    rendered: Rendered
    deliveries: tuple[Delivery, ...]
    told: dict[LineKey, Told]
    asks: bool = False


class Worker:
    """Delivers to one destination until stopped."""

    def __init__(self, name: str, connector: Connector, around: Surroundings, alarms: Alarms) -> None:
        self.name = name
        self._connector = connector
        self._around = around
        self._policy = around.settings.policy(name)
        self._standing = Standing(name, connector.caps.max_events, self._policy, around, alarms)
        redact = around.settings.redactors.get(name)
        self._prepare = Preparing(connector, around.outbox.event, self._policy, redact)
        self._sending = Sending(name, connector, around)
        self._telling = Telling(name, around.meter)
        self._signal = asyncio.Event()
        self._under_way: set[asyncio.Task[None]] = set()
        self._turn = 0
        self._is_stopping = False

    def wake(self) -> None:
        """Look for work now."""
        self._signal.set()

    def stop(self) -> None:
        """Start nothing more; `run` returns when what is under way is done, or has had its time."""
        self._is_stopping = True
        self._signal.set()

    async def run(self) -> None:
        """Deliver until stopped. What is cut off then goes again at the next start, with the same bytes."""
        async with asyncio.TaskGroup() as attempts:
            while not self._is_stopping:
                self._signal.clear()
                until = await self._start_or_wait(attempts)
                if not self._is_stopping:
                    await self._around.pause(self._signal, until)
            await self._finish()

    async def _start_or_wait(self, attempts: asyncio.TaskGroup) -> datetime:
        try:
            return await self._start_what_is_due(attempts)
        except StorageError as error:
            self._telling.store_failed(error)
        except Exception:  # noqa: BLE001 (a bug here must not end the intake, which lives in the same process)
            self._telling.bug("Work for a destination could not be started.")
        return self._around.clock() + OWN_WAIT

    async def _finish(self) -> None:
        deadline = self._around.clock() + timedelta(seconds=self._around.settings.stop_s)
        while self._under_way and self._around.clock() < deadline:
            self._signal.clear()
            await self._around.pause(self._signal, deadline)
        for task in self._under_way:
            task.cancel()

    def down_s(self, now: datetime) -> float:
        """Return for how long the destination has refused us or taken nothing; 0 if it has not."""
        return self._standing.down_s(now)

    async def shed(self, count: int, reason: str) -> None:
        """Let `count` waiting events make room, as far as that goes at once.

        Where the newest state of an incident goes, older ones are left out first; then the oldest events are
        given up.

        Raises:
            StorageError: The store, or the events, cannot be read or written.
        """
        around = self._around
        if self._connector.caps.mode == "newest":
            await around.book.thaw_overtaken(self.name)
            lines = await around.book.crowded(self.name, SHED_LINES)
            prepared = await asyncio.get_running_loop().run_in_executor(
                around.thread, self._prepare.leave_out, lines, around.clock()
            )
            if prepared.settled:
                await around.book.claim(prepared.settled, [], prepared.lines)
                self._telling.settled(prepared.settled)
                return
        given_up = await around.book.give_up(self.name, count, reason, around.settings.retention)
        self._telling.given_up(given_up, reason)

    # ---- starting ----------------------------------------------------------------------------------------

    async def _start_what_is_due(self, attempts: asyncio.TaskGroup) -> datetime:
        """Start as much as may start; return when to look again."""
        while True:
            now = self._around.clock()
            self._standing.look(now)
            look_at = now + timedelta(seconds=self._around.settings.look_every_s)
            room = self._standing.room(now, len(self._under_way))
            if self._is_stopping or room <= 0:
                resume_at = self._standing.gate.resume_at
                return look_at if resume_at is None or resume_at <= now else min(look_at, resume_at)
            if self._probes(attempts, now):
                return look_at
            did_something, next_at = await self._start_some(attempts, room, now)
            if not did_something:
                if next_at is None and not self._under_way:
                    self._standing.nothing_waits(now)
                return look_at if next_at is None or next_at <= now else min(look_at, next_at)

    async def _start_some(
        self, attempts: asyncio.TaskGroup, room: int, now: datetime
    ) -> tuple[bool, datetime | None]:
        """Start up to `room` attempts; return whether there may be more, and when the next thing is due."""
        size = 1 if self._standing.is_trying(now) else self._standing.size.limit
        due = await self._around.book.due(self.name, self._room(room, size, now))
        for frozen in due.frozen:
            room -= await self._start_again(attempts, frozen)
        has_new = room > 0 and bool(due.lines) and await self._start_new(attempts, due.lines, room, size)
        return bool(due.frozen) or has_new, due.next_at

    def _room(self, requests: int, size: int, now: datetime) -> Room:
        """Return how much of the backlog to look at for `requests` attempts of `size` events."""
        caps, events = self._connector.caps, min(requests * size, ROUND_EVENTS)
        if caps.mode == "newest":
            follow, deliveries = None, None
        elif caps.atomic:
            follow, deliveries = max(FOLLOW, size), max(FOLLOW, events)
        else:
            follow, deliveries = FOLLOW, None
        self._turn += 1
        is_turn_of_all = self._standing.accepted % TURNS == TURNS - 1
        is_fresh = self._standing.wants_another(now)
        return Room(
            requests=requests, lines=events, follow=follow, deliveries=deliveries, fresh=is_fresh,
            by_age=is_turn_of_all and not is_fresh, turn=self._turn,
        )  # fmt: skip

    def _probes(self, attempts: asyncio.TaskGroup, now: datetime) -> bool:
        """Start a probe if that is how a destination that refuses us is asked."""
        if not self._standing.probes(now):
            return False
        request = self._connector.probe()
        if request is None:
            return False
        self._start(attempts, self._probe(request))
        return True

    async def _start_again(self, attempts: asyncio.TaskGroup, frozen: Frozen) -> bool:
        """Send a frozen request again, or ask for its acknowledgement; False if it is not to go."""
        is_asked = any(each.state is DeliveryState.PENDING for each in frozen.deliveries)
        if not is_asked and not self._is_still_meant(frozen):
            await self._around.book.thaw(frozen.id)
            return False
        if not await self._around.book.reclaim(frozen.id):
            return False
        by_id = {each.event_id: each for each in frozen.deliveries}
        deliveries = tuple(by_id[each] for each in frozen.event_ids if each in by_id)
        rendered = Rendered(
            request=decode_request(frozen.request),
            event_ids=tuple(each.event_id for each in deliveries),
            step=frozen.step,
        )
        attempt = Attempt(
            request=frozen.id, rendered=rendered, told=frozen.told, asks=is_asked,
            deliveries=deliveries if is_asked else _tried(deliveries),
        )  # fmt: skip
        self._start(attempts, self._attempt(attempt))
        return True

    def _is_still_meant(self, frozen: Frozen) -> bool:
        """Return whether the same bytes are to go again; else what is open of them is decided on anew."""
        if len(frozen.deliveries) != len(frozen.event_ids):
            return False
        if frozen.step:
            return True  # what was begun is finished
        now = self._around.clock()
        is_replaced = frozen.overtaken and self._connector.caps.mode == "newest"
        return not is_replaced and not any(overdue(each, now, self._policy) for each in frozen.deliveries)

    async def _start_new(
        self, attempts: asyncio.TaskGroup, lines: Sequence[Line], room: int, size: int
    ) -> bool:
        """Render, claim and send what is due for the first time; False if nothing came of it."""
        around = self._around
        prepared = await asyncio.get_running_loop().run_in_executor(
            around.thread, self._prepare, lines, around.clock(), room, size
        )
        if not prepared.ready and not prepared.settled:
            return False
        ids = await around.book.claim(
            prepared.settled, [each.claim for each in prepared.ready], prepared.lines
        )
        self._telling.settled(prepared.settled)
        for number, ready in zip(ids, prepared.ready, strict=True):
            if number is not None:
                self._start(attempts, self._attempt(_first_attempt(number, ready)))
        return True

    def _start(self, attempts: asyncio.TaskGroup, work: Coroutine[Any, Any, None]) -> None:
        self._standing.needs_trial = False
        task = attempts.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._signal.set()

    # ---- attempting --------------------------------------------------------------------------------------

    async def _attempt(self, attempt: Attempt) -> None:
        try:
            await self._try(attempt)
        except Exception:  # noqa: BLE001 (as above)
            self._telling.bug("An attempt ended in an error.")
            await self._let_go(attempt)

    async def _try(self, attempt: Attempt) -> None:
        started_at = self._around.clock()
        answer = await self._answer(attempt)
        now = self._around.clock()
        if not attempt.asks:
            verdicts = self._standing.taking.attributed(
                answer.verdicts, attempt.deliveries, answered=not isinstance(answer.response, Unreached)
            )
            answer = replace(answer, verdicts=verdicts)
        settlement = settle(
            attempt.request, attempt.deliveries, attempt.told, answer.verdicts, now,
            self._around.jitter(), self._policy, size_bytes=size_bytes(attempt.rendered.request),
        )  # fmt: skip
        is_recovered = self._standing.learn(answer, attempt.deliveries, started_at, now, asks=attempt.asks)
        if not attempt.asks:
            self._standing.learn_size(answer.verdicts)
        self._telling.attempted(attempt.deliveries, settlement, answer, (now - started_at).total_seconds())
        await self._commit(settlement)
        if is_recovered:
            await self._hasten()

    async def _answer(self, attempt: Attempt) -> Answer:
        if not attempt.asks:
            return await self._sending.send(attempt.rendered)
        # One request is one acknowledgement, unless the destination gave each event its own.
        verdicts: dict[str, Verdict] = {}
        answer = Answer(response=Unreached(reason="nothing to ask for", maybe_sent=False), verdicts=())
        for token in dict.fromkeys(each.token for each in attempt.deliveries):
            event_ids = tuple(each.event_id for each in attempt.deliveries if each.token == token)
            answer = await self._sending.ask(replace(attempt.rendered, event_ids=event_ids), token)
            verdicts.update(zip(event_ids, answer.verdicts, strict=True))
        return replace(answer, verdicts=tuple(verdicts[each.event_id] for each in attempt.deliveries))

    async def _probe(self, request: Request) -> None:
        try:
            answer = await self._sending.probe(request)
            self._standing.learn_probe(answer, self._around.clock())
        except Exception:  # noqa: BLE001 (as above)
            self._telling.bug("A probe ended in an error.")
            self._standing.put_off(self._around.clock())

    async def _commit(self, settlement: Settlement) -> None:
        """Commit what came of an attempt; while the store fails the line stays under way, nothing repeats."""
        never = asyncio.Event()
        while True:
            try:
                await self._around.book.settle(settlement)
            except StorageError as error:
                self._telling.store_failed(error)
                if self._is_stopping:
                    return  # it is still marked as under way: the next start sends the same bytes again
                await self._around.pause(never, self._around.clock() + OWN_WAIT)
            else:
                return

    async def _let_go(self, attempt: Attempt) -> None:
        """Let a request that a bug of ours has cut off go again; claimed, it would hold its lines for ever."""
        try:
            await self._around.book.unclaim(attempt.request, self._around.clock() + BUG_WAIT)
        except StorageError as error:
            self._telling.store_failed(error)  # then it goes at the next start

    async def _hasten(self) -> None:
        try:
            await self._around.book.hasten(self.name)
        except StorageError as error:
            self._telling.store_failed(error)  # then what waited goes at its own time


def _tried(deliveries: Sequence[Delivery]) -> tuple[Delivery, ...]:
    """Return the deliveries as the store has them once their request is claimed."""
    return tuple(replace(each, attempts=each.attempts + 1) for each in deliveries)


def _first_attempt(number: int, ready: Ready) -> Attempt:
    return Attempt(
        request=number,
        rendered=replace(ready.rendered, event_ids=ready.claim.event_ids),
        deliveries=_tried(ready.claim.deliveries),
        told=ready.told,
    )
