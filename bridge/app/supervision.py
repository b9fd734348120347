"""The front's side of the analyst: starts it, hears it, kills it when it is silent, starts it anew.

Rules: what to do is decided in `bridge.app.recovery`; here are only the process, the pipe and the durable
rows. The analyst lives in its own process group, so that an interrupt from the terminal reaches the front
alone and a kill takes its models along. Its messages are bounded; one that is not understood is logged and
passed over.

What the listener has to hear does not depend on the durable rows: a full disk must not keep an event from going out.
What could not be written down is written down with the next commit.

Decision: messages are read and silence is noticed in one loop, rather than in a task each. There is one
order of what happened, and nothing to lock.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from bridge.app.recovery import BLAME_AFTER, End, Launch, Recovery
from bridge.errors import StorageError
from bridge.model import OWN_SOURCE, RowKind

logger = logging.getLogger(__name__)

#: How often silence is looked for.
LOOK_S = 0.5
#: Vectors of a few hundred templates are the largest message.
MAX_MESSAGE_BYTES = 32 << 20
#: How long an analyst that was asked to stop may take for its batch.
STOP_S = 4.0


class Rows(Protocol):
    """The durable side: the inbox of this front."""

    async def put(self, tenant: str, source: str, kind: RowKind, body: bytes) -> int:
        """Append a row and return its id after the commit."""

    async def note_death(self, low: int, high: int) -> int:
        """Count one more death with exactly this batch and return how many that makes."""

    async def clear_deaths(self, through: int) -> None:
        """Forget deaths of batches up to this id."""

    async def add_skip(self, row: int) -> None:
        """Remember a row that must never be touched again."""

    async def skips(self) -> Sequence[int]:
        """Return the rows that must never be touched again."""

    async def drop_skips(self, through: int) -> None:
        """Forget such rows up to this id: they are behind the cursor."""

    async def blamed(self, deaths: int) -> Sequence[int]:
        """Return the rows that were alone in so many deaths."""


class Listener(Protocol):
    """Who wants to know how the analyst is doing. Nothing here may block or raise."""

    def analyst_is(self, *, up: bool) -> None:
        """It became ready, or it ended."""

    def analyst_restarts(self, reason: str, deaths_in_a_row: int) -> None:
        """It ended without being asked to."""

    def analyst_says(self, message: Mapping[str, Any]) -> None:
        """It said something that is not about its process."""


def command(data: Path, launch: Launch, skips: Sequence[int], *, log_level: str = "INFO") -> list[str]:
    """Return the command line of an analyst."""
    words = [sys.executable, "-m", "bridge.app.analyst", "--data", str(data), "--log-level", log_level]
    if launch.careful_through:
        words += ["--careful-through", str(launch.careful_through)]
    if launch.model_free:
        words += ["--models-after", str(launch.models_after_s)]
    return words + [word for row in skips for word in ("--skip", str(row))]


class Supervisor:
    """One analyst at a time, for as long as `run` runs."""

    def __init__(
        self,
        *,
        start: Callable[[Launch, Sequence[int]], Awaitable[Process]],
        rows: Rows,
        recovery: Recovery,
        listener: Listener,
        clock: Callable[[], float],
    ) -> None:
        self._start = start
        self._rows = rows
        self._recovery = recovery
        self._listener = listener
        self._clock = clock
        self._process: Process | None = None
        self._stopping = asyncio.Event()
        self._killed_by_us = False
        self._woken = False  # a wake is on its way that was not answered by any word
        self._stop_by = float("inf")  # on `clock`
        self._ahead: tuple[int, int] | None = None  # a row and its deaths, counted before it was worked on
        self._suspects = True  # there may be deaths written down up to the cursor
        self._skips: Sequence[int] = ()

    async def run(self) -> None:
        """Keep an analyst running until `stop`."""
        try:
            await self._blame()
            launch = self._recovery.first()
            while not self._stopping.is_set():
                launch = await self._live(launch)
        finally:
            if self._process is not None:  # this worker is cut off: the front ends in disorder
                kill_group(self._process.pid)
                await self._process.communicate()  # its pipes are closed and its end is known

    def wake(self) -> None:
        """Tell the analyst that there are new rows. Cheap: called for every commit."""
        if not self._woken and self._recovery.ready:
            self._woken = True
            self._tell(b'{"do":"wake"}\n')

    async def stop(self) -> None:
        """Let the analyst finish its batch and end; `run` returns."""
        self._stopping.set()
        self._stop_by = self._clock() + STOP_S
        process = self._process
        if process is None:  # it is being started, perhaps: `_look` ends it in time
            return
        self._tell(b'{"do":"stop"}\n')
        try:
            async with asyncio.timeout(STOP_S):
                await process.wait()
        except TimeoutError:
            self._kill(process)

    # ---- one process -------------------------------------------------------------------------------------

    async def _live(self, launch: Launch) -> Launch:
        """Let one analyst live and end; return how the next one starts."""
        await self._pause(launch.delay_s)
        if self._stopping.is_set():
            return launch
        try:
            self._skips = await self._rows.skips()
            process = await self._start(launch, self._skips)
        except StorageError as error:
            logger.warning("The inbox does not answer: %s", error, extra={"event": "analyst_trouble"})
            return msgspec.structs.replace(launch, delay_s=1.0)
        except OSError as error:  # no file, no memory, or no process is left: the intake goes on
            return self._not_started(launch, error)
        self._launched(process, launch)
        await self._hear_out(process)
        return await self._ended(process, launch)

    async def _blame(self) -> None:
        """Name the rows that took whole fronts along, as the fronts before this one counted them."""
        if not self._recovery.counts_ahead:
            return
        try:
            for row in await self._rows.blamed(BLAME_AFTER[End.KILLED]):
                await self._rows.add_skip(row)
        except StorageError as error:
            logger.warning("The inbox does not answer: %s", error, extra={"event": "analyst_trouble"})

    def _not_started(self, launch: Launch, error: OSError) -> Launch:
        launch = self._recovery.not_launched(launch)
        logger.error(
            "The analyst could not be started and is tried again: %s.",
            error.strerror or error,
            extra={"event": "analyst_not_started", "delay_s": launch.delay_s},
        )
        self._listener.analyst_restarts("not_started", self._recovery.deaths_in_a_row)
        return launch

    def _launched(self, process: Process, launch: Launch) -> None:
        self._process = process
        self._killed_by_us = self._woken = False
        self._recovery.launched(self._clock())
        logger.info(
            "The analyst was started.",
            extra={"event": "analyst_started", "pid": process.pid, "model_free": launch.model_free},
        )
        if self._stopping.is_set():  # asked while it was being started
            self._tell(b'{"do":"stop"}\n')

    async def _hear_out(self, process: Process) -> None:
        """Hear a process until it has closed its mouth and is gone."""
        words = process.stdout
        assert words is not None  # noqa: S101 - the pipe was asked for
        while True:
            line: bytes | None = None
            try:
                async with asyncio.timeout(LOOK_S):
                    line = await words.readline()
            except TimeoutError:
                pass
            except ValueError:  # longer than the bound: what it is about cannot be known
                logger.warning("The analyst said too much at once.", extra={"event": "analyst_unclear"})
                continue
            if line == b"":
                break
            if line:
                await self._hear(line)
            self._look(process)
        await process.wait()

    def _look(self, process: Process) -> None:
        if self._clock() > self._stop_by:  # it was told late, since it was only being started
            self._kill(process)
            return
        silent_s = self._recovery.silence(self._clock())
        if silent_s is None or self._killed_by_us:
            return
        logger.error(
            "The analyst said nothing for too long and is killed.",
            extra={"event": "analyst_killed", "pid": process.pid, "silent_s": round(silent_s, 1)},
        )
        self._kill(process)

    def _kill(self, process: Process) -> None:
        self._killed_by_us = True
        kill_group(process.pid)

    async def _ended(self, process: Process, launch: Launch) -> Launch:
        self._process = None
        self._listener.analyst_is(up=False)
        kill_group(process.pid)  # models that outlived it
        if self._stopping.is_set():
            logger.info("The analyst has ended.", extra={"event": "analyst_stopped"})
            return launch
        end = self._end_of(process)
        batch = self._recovery.batch
        deaths = await self._deaths(end, batch)
        launch = self._recovery.died(self._clock(), end, deaths)
        logger.error(
            "The analyst ended without being asked to and is started anew.",
            extra={
                "event": "analyst_ended", "pid": process.pid, "code": process.returncode, "reason": end.value,
                "batch": list(batch or ()), "deaths": deaths, "delay_s": launch.delay_s,
            },
        )  # fmt: skip
        self._listener.analyst_restarts(end.value, self._recovery.deaths_in_a_row)
        if launch.set_aside is not None:
            await self._set_aside(launch.set_aside)
        return launch

    async def _deaths(self, end: End, batch: tuple[int, int] | None) -> int:
        """Return how many analysts died with this batch, the last one included; 0 where it is not to blame."""
        if batch is None or end is End.STALLED:
            return 0
        if self._ahead is not None and batch == (self._ahead[0], self._ahead[0]):
            return self._ahead[1]
        self._suspects = True
        try:
            return await self._rows.note_death(*batch)
        except StorageError:
            logger.exception("A death of the analyst was not counted.", extra={"event": "analyst_ended"})
            return 0

    async def _set_aside(self, row: int) -> None:
        try:
            await self._rows.add_skip(row)
        except StorageError:  # the next death will say so again
            logger.exception("A row that kills analysts was not noted.", extra={"event": "analyst_trouble"})

    def _end_of(self, process: Process) -> End:
        if self._killed_by_us:
            return End.STALLED if self._recovery.saving else End.SILENT
        return End.KILLED if process.returncode == -signal.SIGKILL else End.CRASHED

    # ---- its words ---------------------------------------------------------------------------------------

    async def _hear(self, line: bytes) -> None:
        self._woken = False
        self._recovery.heard(self._clock())
        try:
            message = msgspec.json.decode(line, type=dict[str, Any])
            await self._take(message)
        except (msgspec.MsgspecError, KeyError, TypeError, ValueError):
            logger.warning("The analyst said something unclear.", extra={"event": "analyst_unclear"})
        except StorageError as error:
            logger.warning("A row of the analyst was not stored: %s", error, extra={"event": "row_lost"})

    async def _take(self, message: dict[str, Any]) -> None:
        match message["say"]:
            case "alive":
                return
            case "begin":
                await self._began(message)
            case "saving":
                self._recovery.saves()
                return
            case "ready":
                self._recovery.became_ready()
                self._listener.analyst_is(up=True)
                logger.info(
                    "The analyst is ready.", extra={"event": "analyst_ready", "cursor": message["cursor"]}
                )
            case "committed":
                self._recovery.committed(int(message["cursor"]))
                self._listener.analyst_says(message)
                await self._committed(int(message["cursor"]))
                return
            case "row":
                await self._rows.put(
                    message["tenant"], OWN_SOURCE, RowKind(message["kind"]), message["body"].encode()
                )
            case _:
                pass
        self._listener.analyst_says(message)

    async def _began(self, message: Mapping[str, Any]) -> None:
        low, high = int(message["from"]), int(message["to"])
        self._recovery.began(low, high, int(message.get("bytes", 0)), int(message.get("alerts", 0)))
        if low == high and self._recovery.counts_ahead:
            self._suspects = True
            self._ahead = (low, await self._rows.note_death(low, low))

    async def _committed(self, cursor: int) -> None:
        """Forget what is written down about rows up to the cursor; if that fails, with the next commit."""
        if self._suspects:
            await self._rows.clear_deaths(cursor)
            self._suspects = self._recovery.careful
        if self._skips and self._skips[0] <= cursor:
            await self._rows.drop_skips(cursor)
            self._skips = [row for row in self._skips if row > cursor]

    def _tell(self, line: bytes) -> None:
        process = self._process
        if process is not None and process.stdin is not None and not process.stdin.is_closing():
            process.stdin.write(line)

    async def _pause(self, delay_s: float) -> None:
        if delay_s > 0:
            try:
                async with asyncio.timeout(delay_s):
                    await self._stopping.wait()
            except TimeoutError:
                return


async def start_analyst(words: Sequence[str], environ: Mapping[str, str] | None = None) -> Process:
    """Start a process in its own group, with pipes for its orders and words; it logs where we log.

    `environ` is added to our own environment.
    """
    return await asyncio.create_subprocess_exec(
        *words, stdin=PIPE, stdout=PIPE, limit=MAX_MESSAGE_BYTES, start_new_session=True,
        env=os.environ | (environ or {}),
    )  # fmt: skip


def kill_group(group: int) -> None:
    """Kill what is left of a process group that we started."""
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # gone, or its number is already somebody else's
        return
