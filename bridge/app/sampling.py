"""The configured series, as their Prometheus servers have them: asked through `query_range`, told to the inbox.

Rules: read-only, bounded in time and bytes, and never in anybody's way: what cannot be asked is a line in the log and a
count, and is asked again, from where the last answer ended. Each server has one question under way at a time, at most
`MOST_AT_ONCE` servers together, and one that hangs delays no samples but its own. The rows of one server stand in the
order of the configuration; those of several in the order of their answers, which the inbox then fixes. A step is asked
for `SETTLE_S` after it is over, since a scrape takes a moment; what Prometheus learns later than that is not asked for
again. Where a front begins is where the state's samples end, so that a restart leaves no gap; a series that the state
does not know is asked for its last week, which teaches what is usual before the first day is over.

What is past waits for what is now: alerts stand in the same inbox, and learning from a sample takes time. Of all series
that lack more than a few steps one is asked at a look, in turns, and the next one when whoever learns had twice as long
as that takes.

Decision: the front asks, and not the analyst, since whoever replays the rows must see what was seen. Rejected: remote
write towards Tocsin, which needs a change to the Prometheus and sends all of its series or a second list of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from urllib.parse import urlsplit

import aiohttp
import msgspec

from bridge.analysis import samples
from bridge.analysis.samples import Samples
from bridge.app import prometheus
from bridge.config import SeriesSettings
from bridge.errors import StorageError
from bridge.model import RowKind
from bridge.telemetry import Telemetry

logger = logging.getLogger(__name__)

LOOK_S = 1.0
MOST_AT_ONCE = 8
#: A step is asked for so long after its end.
SETTLE_S = 10.0
#: So much of its past is asked for of a series that is new to the state.
LOOK_BACK_S = 7 * 86_400.0
#: Steps in one question; Prometheus answers at most 11,000.
MOST_STEPS = 500
#: Whoever lacks more steps than that asks for its past.
FEW_STEPS = 30
#: What learning takes: for each step of an answer, and for each of its samples.
STEP_COST_S, SAMPLE_COST_S = 1e-3, 5e-5
#: So many times as long the next question about the past waits.
PATIENCE = 2.0
#: After a question that failed the next one to the same series waits so long.
REST_S = 30.0

#: Tenant and name.
Key = tuple[str, str]


class Sampling:
    """The questions of one front."""

    def __init__(
        self,
        *,
        put: Callable[[str, str, RowKind, bytes], Awaitable[int]],
        series: Callable[[], Sequence[SeriesSettings]],
        stored: Callable[[], Mapping[Key, float]],
        telemetry: Telemetry,
        wall: Callable[[], float],
    ) -> None:
        """Prepare.

        Args:
            put: Appends a row to the inbox.
            series: What is configured now.
            stored: Until when the state has samples, epoch s by tenant and name; blocks.
            telemetry: Where it is counted.
            wall: Seconds since the epoch.
        """
        self._put = put
        self._series = series
        self._stored = stored
        self._telemetry = telemetry
        self._wall = wall
        self._asked: dict[Key, _Asked] = {}
        self._turns = 0
        self._past_from_s = float("-inf")  # the next question about the past is not before that
        self._under_way: set[str] = set()  # servers, by address
        self._rests_until_s: dict[str, float] = {}  # servers whose rows the inbox did not take
        self._room = asyncio.Semaphore(MOST_AT_ONCE)

    def tell_anew(self) -> None:
        """Ask anew for all that a state which is begun anew lacks."""
        self._asked.clear()

    async def run(self) -> None:
        """Ask, for ever."""
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    await self.look(group)
                except StorageError as error:
                    logger.warning("Samples wait: %s", error, extra={"event": "row_lost"})
                    await asyncio.sleep(REST_S)
                except Exception:  # a fault of this look: without another nothing would be watched any more
                    logger.exception("Samples cannot be asked for.", extra={"event": "samples_unread"})
                    await asyncio.sleep(REST_S)
                await asyncio.sleep(LOOK_S)

    async def look(self, group: asyncio.TaskGroup) -> None:
        """Let what is due be asked in tasks of `group`, of each series one question; of the past one in all.

        A server that is being asked is left alone until it has answered or its time is over.

        Raises:
            StorageError: The state cannot be read.
        """
        wanted = {(each.tenant, each.name): each for each in self._series()}
        self._asked = {key: asked for key, asked in self._asked.items() if wanted.get(key) == asked.settings}
        new = [key for key in wanted if key not in self._asked]
        if new:
            ends = await asyncio.to_thread(self._stored)
            for key in new:
                since_s = max(ends.get(key, 0.0), self._wall() - LOOK_BACK_S)
                self._asked[key] = _Asked(wanted[key], since_s)
        wall_s = self._wall()
        due = [
            asked for asked in self._asked.values() if asked.is_due(wall_s) and self._is_free(asked, wall_s)
        ]
        past = [asked for asked in due if asked.steps(wall_s) > FEW_STEPS]
        if past:
            due = [asked for asked in due if asked not in past]
            if wall_s >= self._past_from_s:
                due.append(min(past, key=lambda asked: asked.turn))
        servers: dict[str, list[_Asked]] = {}
        for asked in due:
            servers.setdefault(asked.settings.url, []).append(asked)
        self._under_way.update(servers)
        for url, together in servers.items():
            group.create_task(self._visit(url, together))

    def _is_free(self, asked: _Asked, wall_s: float) -> bool:
        url = asked.settings.url
        return url not in self._under_way and wall_s >= self._rests_until_s.get(url, wall_s)

    async def _visit(self, url: str, together: Sequence[_Asked]) -> None:
        """Ask one server, one question after the other, and tell what it answers."""
        self._rests_until_s.pop(url, None)
        try:
            async with self._room, prometheus.session() as session:
                for asked in together:
                    await self._ask(session, asked)
        except StorageError as error:
            logger.warning("Samples wait: %s", error, extra={"event": "row_lost"})
            self._rests_until_s[url] = self._wall() + REST_S
        except Exception:  # a fault of this visit: the others go on
            logger.exception("Samples cannot be asked for.", extra={"event": "samples_unread"})
            self._rests_until_s[url] = self._wall() + REST_S
        finally:
            self._under_way.discard(url)

    async def _ask(self, session: aiohttp.ClientSession, asked: _Asked) -> None:
        settings = asked.settings
        question, until_s = asked.question(self._wall())
        self._turns += 1
        asked.turn = self._turns
        try:
            body = await prometheus.answer_of(session, settings.url, "/api/v1/query_range", question)
            parts = await asyncio.to_thread(
                lambda: samples.parts_of(
                    settings.name, settings.step_s, settings.labels, samples.matrix_of(body)
                )
            )
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            self._failed(asked, error)
            return
        if asked.why:
            logger.info(
                "Samples of %s come again.", settings.name,
                extra={"event": "samples_recovered", "tenant": settings.tenant},
            )  # fmt: skip
        asked.why = ""
        self._telemetry.add("tocsin_series_polls_total", result="done")
        for part in parts:
            await self._tell(settings, part)
        told = sum(len(line.points) for part in parts for line in part.lines)
        takes_s = SAMPLE_COST_S * told + STEP_COST_S * min(told, asked.steps(until_s + SETTLE_S))
        self._past_from_s = max(self._past_from_s, self._wall()) + PATIENCE * takes_s
        asked.until_s = until_s

    async def _tell(self, settings: SeriesSettings, part: Samples) -> None:
        body = await asyncio.to_thread(msgspec.json.encode, part)
        await self._put(settings.tenant, settings.source, RowKind.SAMPLES, body)

    def _failed(self, asked: _Asked, error: Exception) -> None:
        settings, reason = asked.settings, prometheus.reason_of(error)
        self._telemetry.add("tocsin_series_polls_total", result="failed")
        if reason != asked.why:  # once, not at every step
            logger.warning(
                "Samples of %s cannot be had: %s.",
                settings.name,
                reason,
                extra={
                    "event": "samples_unread",
                    "tenant": settings.tenant,
                    "host": urlsplit(settings.url).hostname,
                },
            )
        asked.failed(self._wall(), reason, too_much=isinstance(error, prometheus.TooMuchError))


class _Asked:
    """How far one series was asked for."""

    def __init__(self, settings: SeriesSettings, until_s: float) -> None:
        self.settings = settings
        self.until_s = until_s
        self.why = ""  # it cannot be had; "": it can
        self.turn = 0  # of its newest question
        self._steps = MOST_STEPS
        self._rests_until_s = float("-inf")

    def is_due(self, wall_s: float) -> bool:
        """Say whether a step is over that was not asked for."""
        return self.steps(wall_s) > 0 and wall_s >= self._rests_until_s

    def steps(self, wall_s: float) -> int:
        """Return how many steps are over that were not asked for."""
        return max(0, round((self._last_s(wall_s) - self._first_s()) / self.settings.step_s) + 1)

    def question(self, wall_s: float) -> tuple[dict[str, str], float]:
        """Return what is asked next, and until when the answer then goes."""
        step_s, first_s = self.settings.step_s, self._first_s()
        last_s = min(self._last_s(wall_s), first_s + step_s * (self._steps - 1))
        asked = {
            "query": self.settings.query, "start": f"{first_s:.3f}", "end": f"{last_s:.3f}", "step": f"{step_s:.3f}",
        }  # fmt: skip
        return asked, last_s

    def failed(self, wall_s: float, reason: str, *, too_much: bool) -> None:
        """Rest a while, and ask for less if that was too much."""
        self.why = reason
        self._rests_until_s = wall_s + REST_S
        if too_much:
            self._steps = max(1, self._steps // 2)

    def _first_s(self) -> float:
        """Return the first step, a multiple of its length, that was not asked for."""
        return (self.until_s // self.settings.step_s + 1) * self.settings.step_s

    def _last_s(self, wall_s: float) -> float:
        return (wall_s - SETTLE_S) // self.settings.step_s * self.settings.step_s
