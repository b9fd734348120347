"""Polling: every Alertmanager of a source is asked now and then what is true, and what changed becomes an inbox row.

Rules: nothing here is waited for by anybody. A peer that hangs costs its source one slow round, a bug one round; the
intake shares nothing with them but the inbox. Sources take turns within the interval, evenly spread. A row that the
inbox does not take is told by the next round. A peer that is silent for `SILENT_S` is a trouble of Tocsin's own.

Decision: rounds are no job of `bridge.jobs`. Those run one after the other at the start, and a peer that does not
answer would hold up the look at the disk.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import msgspec

from bridge.analysis.rounds import Answer, Found, Rounds, settle_s
from bridge.app.peers import Peers, UnansweredError
from bridge.app.troubles import Troubles
from bridge.config import PollSettings
from bridge.errors import StorageError
from bridge.model import RowKind
from bridge.telemetry import Telemetry

logger = logging.getLogger(__name__)

#: A peer that has not answered for so long is a trouble.
SILENT_S = 300.0
#: Somebody who waits for a round gets one no sooner than so long after the one before.
BREATH_S = 5.0
TROUBLE = "TocsinAlertmanagerSilent"


class Polling:
    """The rounds of all sources that have Alertmanagers to ask."""

    def __init__(
        self,
        *,
        put: Callable[[str, str, RowKind, bytes], Awaitable[int]],
        polls: Callable[[], Sequence[PollSettings]],
        troubles: Troubles,
        telemetry: Telemetry,
        clock: Callable[[], float],
    ) -> None:
        """Prepare.

        Args:
            put: Appends an inbox row; returns after its commit.
            polls: Which sources are asked, now.
            troubles: Where a silent peer is told.
            telemetry: Where rounds are counted.
            clock: Seconds of a steady clock.
        """
        self._put = put
        self._polls = polls
        self._troubles = troubles
        self._telemetry = telemetry
        self._clock = clock
        self._changed = asyncio.Event()
        self._rounds: list[_Source] = []

    def change(self) -> None:
        """Begin anew with what is configured now."""
        self._changed.set()

    def want(self) -> None:
        """Let a round come soon, and be told: a firing is in doubt."""
        for source in self._rounds:
            source.want()

    async def run(self) -> None:
        """Ask, for ever."""
        while True:
            self._changed.clear()
            polls = tuple(self._polls())
            peers = Peers()
            try:
                async with asyncio.TaskGroup() as group:
                    self._rounds = [self._source(poll, peers) for poll in polls]
                    working = [
                        group.create_task(source.run(after_s=number * source.interval_s / len(polls)))
                        for number, source in enumerate(self._rounds)
                    ]
                    await self._changed.wait()
                    for task in working:
                        task.cancel()
            finally:
                await peers.close()
            for source in self._rounds:
                source.forget()

    def _source(self, poll: PollSettings, peers: Peers) -> _Source:
        return _Source(poll, peers, self._put, self._troubles, self._telemetry, self._clock)


class _Source:
    """The rounds of one source."""

    def __init__(
        self,
        poll: PollSettings,
        peers: Peers,
        put: Callable[[str, str, RowKind, bytes], Awaitable[int]],
        troubles: Troubles,
        telemetry: Telemetry,
        clock: Callable[[], float],
    ) -> None:
        self._poll = poll
        self._peers = peers
        self._put = put
        self._troubles = troubles
        self._telemetry = telemetry
        self._clock = clock
        self._rounds = Rounds(
            poll.alertmanagers, receiver=poll.receiver, settle_s=settle_s(poll.group_interval_s)
        )
        self._silent_since_s: dict[str, float] = {}
        self._wanted = asyncio.Event()

    @property
    def interval_s(self) -> float:
        """How often a round begins."""
        return self._poll.interval_s

    def want(self) -> None:
        """Let the next round come soon, and be told."""
        self._wanted.set()

    def forget(self) -> None:
        """End what was told of peers: they are not asked any more, or told of anew."""
        for peer in self._poll.alertmanagers:
            self._troubles.is_well(TROUBLE, alertmanager=peer, source=self._poll.source)

    async def run(self, *, after_s: float) -> None:
        """Do one round after the other, the first after `after_s`."""
        await asyncio.sleep(after_s)
        while True:
            began_s = self._clock()
            try:
                await self._round(began_s)
            except Exception:  # a fault of this round: without another nothing would be found any more
                logger.exception(
                    "A round over Alertmanagers failed.",
                    extra={"event": "poll_failed", "source": self._poll.source},
                )
            # The distance is kept from the beginning of one to that of the next, or a slow peer would stretch it.
            await self._wait(began_s)

    async def _wait(self, began_s: float) -> None:
        await asyncio.sleep(max(0.0, min(BREATH_S, self.interval_s) - (self._clock() - began_s)))
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, self.interval_s - (self._clock() - began_s))):
                await self._wanted.wait()

    async def _round(self, began_s: float) -> None:
        wanted = self._wanted.is_set()
        self._wanted.clear()
        answers = await asyncio.gather(*(self._ask(peer) for peer in self._poll.alertmanagers))
        heard = dict(zip(self._poll.alertmanagers, answers, strict=True))

        def understood() -> tuple[Found | None, float]:
            self._rounds.take(heard, began_s)
            now_s = self._clock()
            return self._rounds.row(now_s, wanted=wanted), now_s

        found, now_s = await self._peers.in_thread(understood)
        if found is None or len(found.silent) == found.asked == answers.count(None):
            return  # nobody answered: nothing was found
        try:
            body = await self._peers.in_thread(lambda: msgspec.json.encode(found))
            await self._put(self._poll.tenant, self._poll.source, RowKind.FOUND, body)
        except StorageError as error:
            logger.warning("What Alertmanager lists waits: %s", error, extra={"event": "row_lost"})
            return
        await self._peers.in_thread(lambda: self._rounds.told(found, now_s))
        self._telemetry.add("tocsin_poll_rows_total", source=self._poll.source)

    async def _ask(self, peer: str) -> Answer | None:
        began_s = self._clock()
        try:
            answer = await self._peers.ask(self._poll, peer)
        except UnansweredError as error:
            self._is_silent(peer, str(error))
            return None
        self._telemetry.observe("tocsin_poll_seconds", self._clock() - began_s)
        self._count("young" if answer.is_young else "answered")
        if self._silent_since_s.pop(peer, None) is not None:
            logger.info("Alertmanager %s answers again.", peer, extra={"event": "poll_recovered"})
            self._troubles.is_well(TROUBLE, alertmanager=peer, source=self._poll.source)
        return answer

    def _is_silent(self, peer: str, reason: str) -> None:
        self._count("failed")
        now_s = self._clock()
        since_s = self._silent_since_s.setdefault(peer, now_s)
        if since_s == now_s:
            logger.warning(
                "Alertmanager %s cannot be asked: %s.", peer, reason,
                extra={"event": "poll_failed", "source": self._poll.source},
            )  # fmt: skip
        if now_s - since_s >= SILENT_S:
            self._troubles.is_wrong(TROUBLE, reason, alertmanager=peer, source=self._poll.source)

    def _count(self, result: str) -> None:
        self._telemetry.add("tocsin_polls_total", source=self._poll.source, result=result)
