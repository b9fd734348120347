"""The supervisor with a real child process that is told to be silent, to die or to talk nonsense."""

# ruff: noqa: ARG002 - what stands in for something keeps its signature

from __future__ import annotations

import asyncio
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from bridge.app.recovery import Launch, Patience, Recovery
from bridge.app.supervision import Supervisor, command, start_analyst
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

    async def put(self, tenant: str, source: str, kind: RowKind, body: bytes) -> int:
        self.put_rows.append((kind, body))
        return len(self.put_rows)

    async def note_death(self, low: int, high: int) -> int:
        self.deaths[low, high] = self.deaths.get((low, high), 0) + 1
        return self.deaths[low, high]

    async def clear_deaths(self, through: int) -> None:
        self.cleared.append(through)

    async def add_skip(self, row: int) -> None:
        self.skipped.append(row)

    async def skips(self) -> Sequence[int]:
        return self.skipped


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
        self.over = asyncio.Event()

    async def start(self, launch: Launch, skips: Sequence[int]) -> asyncio.subprocess.Process:
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
        supervisor = Supervisor(
            start=self.start, rows=self.rows, recovery=Recovery(QUICK), listener=self, tenant="default",
            clock=time.monotonic,
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
    assert [body for kind, body in play.rows.put_rows if kind is RowKind.MODE] == [
        b'{"model_free":false}',
        b'{"model_free":true}',
    ]
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


async def test_models_that_work_end_the_model_free_mode():
    play = Play("ready die", "ready models die", "ready orders")
    await play.run()
    modes = [body for kind, body in play.rows.put_rows if kind is RowKind.MODE]
    assert modes == [
        b'{"model_free":false}', b'{"model_free":true}', b'{"model_free":false}', b'{"model_free":true}',
    ]  # fmt: skip


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
