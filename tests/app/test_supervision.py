"""The supervisor with a real child process that is told to be silent, to die or to talk nonsense."""

# ruff: noqa: ARG002 - what stands in for something keeps its signature

from __future__ import annotations

import asyncio
import errno
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from bridge.app.recovery import Launch, Patience, Recovery
from bridge.app.supervision import Supervisor, command, start_analyst
from bridge.errors import StoreFullError
from bridge.model import RowKind

#: A child that reads its script: one word an action. `dumb` never says anything again.
CHILD = textwrap.dedent(
    """
    import json, os, signal, sys, time
    def say(**message): print(json.dumps(message), flush=True)
    for action in sys.argv[1].split():
        if action == "ready": say(say="ready", cursor=0)
        elif action.startswith("begin"): low, high = action[5:].split("-"); say(say="begin", **{"from": int(low), "to": int(high)})
        elif action.startswith("commit"): say(say="committed", cursor=int(action[6:]), at="2026-01-01T00:00:00+00:00", counters={})
        elif action == "nonsense": print("{not json", flush=True); say(say="begin"); say(say="row", kind="no such kind", tenant="t", body="")
        elif action == "row": say(say="row", kind="vectors", tenant="t", body="{}")
        elif action == "models": say(say="models", up=True)
        elif action == "saving": say(say="saving")
        elif action == "deaf": sys.stdin.close()
        elif action == "dumb": time.sleep(600)
        elif action == "die": os.kill(os.getpid(), signal.SIGABRT)
        elif action == "shot": os.kill(os.getpid(), signal.SIGKILL)
        elif action == "orders":
            for line in sys.stdin:
                order = json.loads(line)["do"]
                say(say="heard", order=order)
                if order == "stop": break
    """
)
QUICK = Patience(silence_s=0.2, row_silence_s=0.2, start_s=5.0, restart_limit_s=0.1)


class Rows:
    """The durable side, in memory."""

    def __init__(self) -> None:
        self.put_rows: list[tuple[RowKind, bytes]] = []
        self.deaths: dict[tuple[int, int], int] = {}
        self.skipped: list[int] = []
        self.cleared: list[int] = []
        self.dropped: list[int] = []
        self.took_fronts: list[int] = []
        self.is_full = False

    async def put(self, tenant: str, source: str, kind: RowKind, body: bytes) -> int:
        self.put_rows.append((kind, body))
        return len(self.put_rows)

    async def note_death(self, low: int, high: int) -> int:
        self.deaths[low, high] = self.deaths.get((low, high), 0) + 1
        return self.deaths[low, high]

    async def clear_deaths(self, through: int) -> None:
        if self.is_full:
            raise StoreFullError("no room")
        self.cleared.append(through)

    async def add_skip(self, row: int) -> None:
        self.skipped.append(row)

    async def skips(self) -> Sequence[int]:
        return list(self.skipped)

    async def drop_skips(self, through: int) -> None:
        self.dropped.append(through)

    async def blamed(self, deaths: int) -> Sequence[int]:
        return self.took_fronts


class Play:
    """Starts one child per script, notes what the supervisor did, and ends it after the last script."""

    def __init__(self, *scripts: str) -> None:
        self.scripts = list(scripts)
        self.rows = Rows()
        self.launches: list[tuple[Launch, tuple[int, ...]]] = []
        self.ends: list[str] = []
        self.said: list[Mapping[str, Any]] = []
        self.up: list[bool] = []
        self.pids: list[int] = []
        self.recovery = Recovery(QUICK)
        self.clock = time.monotonic
        self.refusals = 0  # of the system to start a process
        self.over = asyncio.Event()
        self.supervisor: Supervisor | None = None

    async def start(self, launch: Launch, skips: Sequence[int]) -> asyncio.subprocess.Process:
        if self.refusals:
            self.refusals -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        self.launches.append((launch, tuple(skips)))
        script = self.scripts.pop(0)
        process = await start_analyst([sys.executable, "-c", CHILD, script])
        self.pids.append(process.pid)
        return process

    def analyst_is(self, *, up: bool) -> None:
        self.up.append(up)

    def analyst_restarts(self, reason: str, deaths_in_a_row: int) -> None:
        self.ends.append(reason)

    def analyst_says(self, message: Mapping[str, Any]) -> None:
        self.said.append(message)
        if message["say"] == "ready" and not self.scripts:
            self.over.set()

    async def run(self, *, wake: bool = False) -> None:
        supervisor = self.supervisor = Supervisor(
            start=self.start, rows=self.rows, recovery=self.recovery, listener=self, clock=self.clock,
        )  # fmt: skip
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            group.create_task(supervisor.run())
            await self.over.wait()
            if wake:
                supervisor.wake()
                supervisor.wake()
            await supervisor.stop()


async def test_a_silent_analyst_is_killed_and_started_anew_without_models():
    play = Play("ready begin3-9 dumb", "ready orders")
    await play.run()
    assert play.ends == ["silent"]
    assert play.rows.deaths == {(3, 9): 1}
    launch, skips = play.launches[1]
    assert launch.model_free
    assert launch.careful_through == 9
    assert skips == ()
    assert play.up == [True, False, True, False]


async def test_a_row_that_kills_alone_is_never_touched_again():
    play = Play("ready begin3-9 die", "ready begin4-4 die", "ready begin4-4 die", "ready orders")
    await play.run()
    assert play.ends == ["crashed", "crashed", "crashed"]
    assert play.rows.skipped == [4]
    assert play.launches[-1][1] == (4,)


async def test_an_analyst_shot_by_somebody_else_says_less_about_its_row():
    play = Play("ready begin3-9 shot", "ready begin4-4 shot", "ready begin4-4 shot", "ready orders")
    await play.run()
    assert play.ends == ["killed", "killed", "killed"]
    assert play.rows.skipped == []


async def test_a_commit_clears_the_suspicion():
    play = Play("ready begin3-9 die", "ready begin3-3 commit3 begin4-4 commit4 die", "ready orders")
    await play.run()
    assert play.rows.cleared == [3, 4]


async def test_a_death_while_it_saves_is_the_disks_and_blames_no_row():
    play = Play("ready begin4-4 saving dumb", "ready orders")
    play.recovery = Recovery(Patience(save_s=0.2, silence_s=0.2))
    await play.run()
    assert play.ends == ["stalled"]
    assert play.rows.deaths == {}


async def test_a_process_that_cannot_be_started_is_tried_again_and_the_front_lives_on():
    play = Play("ready orders")
    play.refusals = 2
    await play.run()
    assert play.ends == ["not_started", "not_started"]
    assert [launch.delay_s for launch, _ in play.launches] == [QUICK.restart_limit_s]


async def test_the_listener_hears_of_a_commit_though_nothing_can_be_written_down():
    play = Play("ready begin3-9 die", "ready begin3-3 commit3 begin4-4 commit4 orders", "ready orders")
    play.scripts.pop()
    play.rows.is_full = True
    await play.run()
    assert [said["cursor"] for said in play.said if said["say"] == "committed"] == [3, 4]
    assert play.rows.cleared == []


async def test_what_could_not_be_forgotten_is_forgotten_with_the_next_commit():
    play = Play("ready begin3-9 die", "ready begin3-9 commit9 begin10-10 commit10 orders")
    real = play.analyst_says

    def heard(message: Mapping[str, Any]) -> None:
        real(message)
        if message["say"] == "committed":
            play.rows.is_full = message["cursor"] == 9

    play.analyst_says = heard  # type: ignore[method-assign]
    await play.run()
    assert play.rows.cleared == [10]


async def test_rows_that_are_behind_the_cursor_need_not_be_skipped_any_more():
    play = Play("ready commit3 commit4 commit9 orders")
    play.rows.skipped = [4, 12]
    await play.run()
    assert play.launches[0][1] == (4, 12)
    assert play.rows.dropped == [4]


async def test_a_row_that_takes_fronts_along_is_counted_before_and_named_by_the_next_front():
    play = Play("ready begin5-5 commit5 begin6-6 shot", "ready orders")
    play.recovery.distrust(4, 9)
    play.rows.took_fronts = [7]
    await play.run()
    assert play.rows.deaths == {(5, 5): 1, (6, 6): 1}  # once each, although the analyst died with the second
    assert play.rows.cleared == [5]
    assert play.launches[0][1] == (7,)
    assert play.launches[0][0].careful_through == 9


async def test_an_analyst_that_does_not_hear_the_end_is_killed_though_it_was_only_being_started():
    play = Play("deaf dumb")
    play.recovery = Recovery(Patience(start_s=1e9, start_limit_s=1e9))  # its silence is not why
    play.clock = lambda: next(times)
    times = (float(second) for second in range(100_000))

    async def started_late(launch: Launch, skips: Sequence[int]) -> asyncio.subprocess.Process:
        play.over.set()  # the end is asked for while this process is not there yet
        while not supervisor_stopping(play):
            await asyncio.sleep(0)
        return await real(launch, skips)

    real, play.start = play.start, started_late  # type: ignore[method-assign]
    await play.run()
    assert play.ends == []


def supervisor_stopping(play: Play) -> bool:
    assert play.supervisor is not None
    return play.supervisor._stopping.is_set()


async def test_what_the_analyst_offers_becomes_a_row_and_nonsense_is_passed_over():
    play = Play("nonsense row ready orders")
    await play.run()
    assert (RowKind.VECTORS, b"{}") in play.rows.put_rows
    assert play.ends == []


async def test_wakes_are_sent_once_until_the_analyst_speaks_and_stop_is_obeyed():
    play = Play("ready orders")
    await play.run(wake=True)
    assert [said["order"] for said in play.said if said["say"] == "heard"] == ["wake", "stop"]
    assert play.ends == []


@pytest.mark.parametrize(
    ("launch", "words"),
    [
        (Launch(), []),
        (Launch(model_free=True, models_after_s=20.0), ["--models-after", "20.0"]),
        (Launch(careful_through=7), ["--careful-through", "7"]),
    ],
)
def test_the_command_line_says_how_to_start(launch: Launch, words: list[str]):
    assert command(Path("d"), launch, ())[3:] == ["--data", "d", "--log-level", "INFO", *words]


def test_rows_that_kill_are_named_on_the_command_line():
    assert command(Path("d"), Launch(), [4, 9])[-4:] == ["--skip", "4", "--skip", "9"]
