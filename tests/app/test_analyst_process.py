"""The analyst as a process: the pipe, the real pipeline behind it, and all the ways it ends."""

# ruff: noqa: ARG002 - what stands in for something keeps its signature

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bridge.analysis.families import EncodeAsk, FitAsk
from bridge.analysis.settings import AnalysisSettings
from bridge.app.analyst import FrontGoneError, Pipe, parse
from bridge.app.mind import LateModels
from bridge.app.models import GaveUp, ModelRow
from bridge.model import RowKind, Template
from bridge.storage.inbox import InboxWriter
from bridge.storage.reading import StateReader

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0


def webhook(name: str) -> bytes:
    alert = {
        "status": "firing", "labels": {"alertname": name, "severity": "critical"}, "annotations": {},
        "startsAt": "2026-01-01T00:00:00Z", "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "",
        "fingerprint": "00000000000000aa",
    }  # fmt: skip
    body = {"version": "4", "groupKey": "{}:{}", "truncatedAlerts": 0, "status": "firing", "receiver": "tocsin",
            "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "", "alerts": [alert]}  # fmt: skip
    return json.dumps(body).encode()


async def fill(path: Path, *rows: tuple[RowKind, bytes]) -> None:
    writer = InboxWriter(path, clock_us=lambda: int(time.time() * 1e6))
    writer.start()
    for kind, body in rows:
        await writer.put("default", "default", kind, body)
    writer.close()


class Child:
    """An analyst process, heard line by line."""

    def __init__(self, data: Path, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bridge.app.analyst", "--data", str(data), *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT,
        )  # fmt: skip
        self.heard: list[dict[str, Any]] = []
        self._unread = b""

    def until(self, word: str) -> dict[str, Any]:
        """Hear until it says `word`."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            while b"\n" in self._unread:
                line, _, self._unread = self._unread.partition(b"\n")
                self.heard.append(json.loads(line))
                if self.heard[-1]["say"] == word:
                    return self.heard[-1]
            if not select.select([self.process.stdout], [], [], 1.0)[0]:
                continue
            read = os.read(self.process.stdout.fileno(), 1 << 16)
            assert read, self.process.communicate()[1].decode()
            self._unread += read
        raise AssertionError(f"no {word!r} in {self.heard}")

    def tell(self, order: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(order)
        self.process.stdin.flush()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    """Start analysts on `tmp_path`; what still runs at the end is killed."""
    children: list[Child] = []

    def started(*words: str) -> Child:
        children.append(Child(tmp_path, "--models-after", "1000", *words))
        return children[-1]

    yield started
    for child in children:
        child.process.kill()
        child.process.wait()
        for pipe in (child.process.stdin, child.process.stdout, child.process.stderr):
            assert pipe is not None
            pipe.close()


async def test_a_webhook_becomes_a_committed_incident_and_the_end_of_orders_is_the_end(
    tmp_path: Path, start: Callable[..., Child]
):
    await fill(tmp_path / "inbox.db", (RowKind.WEBHOOK, webhook("DiskFull")))
    child = start()
    assert child.until("ready")["cursor"] == 0
    committed = child.until("committed")
    assert committed["cursor"] == 1
    assert committed["counters"]["event:opened"] == 1
    gauges = child.until("gauges")["gauges"]
    assert (gauges["incidents_open"], gauges["due"], gauges["models_up"]) == (1, 1, 0)
    assert gauges["resident_bytes"] > 0
    assert child.process.stdin is not None
    child.process.stdin.close()
    assert child.process.wait(PATIENCE_S) == 0


async def test_it_goes_on_behind_its_cursor_and_stops_when_told(tmp_path: Path, start: Callable[..., Child]):
    await fill(tmp_path / "inbox.db", (RowKind.WEBHOOK, webhook("DiskFull")))
    first = start()
    first.until("committed")
    first.tell(b'{"do":"stop"}\n')
    assert first.process.wait(PATIENCE_S) == 0
    second = start()
    assert second.until("ready")["cursor"] == 1
    await fill(tmp_path / "inbox.db", (RowKind.WEBHOOK, webhook("DiskFull")))
    second.tell(b'nonsense\n[]\n{"do":"wake"}\n')
    committed = second.until("committed")
    assert committed["cursor"] == 2
    assert "event:opened" not in committed["counters"]


async def test_the_terminals_interrupt_is_the_fronts_and_sigterm_is_a_stop(
    tmp_path: Path, start: Callable[..., Child]
):
    await fill(tmp_path / "inbox.db", (RowKind.WEBHOOK, webhook("DiskFull")))
    child = start()
    child.until("ready")
    child.process.send_signal(signal.SIGINT)
    child.until("committed")
    child.process.send_signal(signal.SIGTERM)
    assert child.process.wait(PATIENCE_S) == 0


async def test_a_row_that_killed_others_goes_to_quarantine(tmp_path: Path, start: Callable[..., Child]):
    await fill(tmp_path / "inbox.db", *[(RowKind.WEBHOOK, webhook(f"A{n}")) for n in range(3)])
    child = start("--skip", "2", "--careful-through", "3")
    assert child.until("aside")["row"] == 2
    while child.until("committed")["cursor"] < 3:
        pass
    assert [said["cursor"] for said in child.heard if said["say"] == "committed"] == [1, 2, 3]


async def test_a_second_analyst_waits_for_the_first(tmp_path: Path, start: Callable[..., Child]):
    await fill(tmp_path / "inbox.db", (RowKind.CLOCK, b""))
    first = start()
    first.until("ready")
    second = start()
    second.until("alive")  # waits, and says so
    assert "ready" not in [said["say"] for said in second.heard]
    first.process.kill()
    second.until("ready")


@pytest.mark.parametrize("damage", [b"this is no database" * 1000, b"SQLite format 3\x00" + b"\xff" * 50_000])
async def test_a_broken_state_is_kept_aside_and_begun_anew_from_the_inbox(
    tmp_path: Path, start: Callable[..., Child], damage: bytes
):
    settings = AnalysisSettings(severities={"critical": "info"})
    await fill(
        tmp_path / "inbox.db",
        (RowKind.WEBHOOK, webhook("DiskFull")),
        (RowKind.SETTINGS, msgspec.json.encode(settings)),
    )
    state = tmp_path / "state.db"
    state.write_bytes(damage)
    child = start()
    said = child.until("state_lost")
    assert (tmp_path / said["kept"]).read_bytes() == damage
    assert said["kept"].startswith("state.db.damaged-")
    assert child.until("committed")["counters"]["event:opened"] == 1
    (item,) = StateReader(state).incidents(None).items
    assert item["severity"] == "info"  # the settings that were told last held from the beginning
    child.tell(b'{"do":"stop"}\n')
    _, logged = await asyncio.to_thread(child.process.communicate)
    assert child.process.returncode == 0
    assert [json.loads(line)["event"] for line in logged.splitlines()] == ["state_lost"]


async def test_a_state_that_breaks_while_it_runs_is_begun_anew_too(
    tmp_path: Path, start: Callable[..., Child]
):
    await fill(tmp_path / "inbox.db", *[(RowKind.WEBHOOK, webhook(f"A{number}")) for number in range(200)])
    first = start()
    first.until("committed")
    first.tell(b'{"do":"stop"}\n')
    assert first.process.wait(PATIENCE_S) == 0
    with closing(sqlite3.connect(tmp_path / "state.db")) as state:
        (page,) = state.execute("select rootpage from sqlite_schema where name = 'watch'").fetchone()
        (size,) = state.execute("pragma page_size").fetchone()
    with (tmp_path / "state.db").open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    second = start()
    second.until("state_lost")
    assert second.until("committed")["cursor"] == 200


async def test_a_store_that_cannot_be_used_ends_it_with_a_reason(tmp_path: Path, start: Callable[..., Child]):
    await fill(tmp_path / "inbox.db", (RowKind.CLOCK, b""))
    (tmp_path / "state.db").mkdir()
    child = start()
    _, logged = await asyncio.to_thread(child.process.communicate)
    assert child.process.returncode == 1
    assert json.loads(logged.splitlines()[-1])["event"] == "analyst_trouble"


async def test_an_inbox_that_ends_before_the_cursor_is_not_read(tmp_path: Path, start: Callable[..., Child]):
    await fill(tmp_path / "inbox.db", *[(RowKind.CLOCK, b"")] * 3)
    first = start()
    first.until("committed")
    first.tell(b'{"do":"stop"}\n')
    assert first.process.wait(PATIENCE_S) == 0
    for file in tmp_path.glob("inbox.db*"):
        file.unlink()
    await fill(tmp_path / "inbox.db", (RowKind.WEBHOOK, webhook("NeverRead")))
    second = start()
    _, logged = await asyncio.to_thread(second.process.communicate)
    assert second.process.returncode == 1
    assert (
        "inbox.db ends at row 1, but up to row 3 was read" in json.loads(logged.splitlines()[-1])["message"]
    )


async def test_a_bug_is_one_line_of_the_log(tmp_path: Path):
    """Whatever it is: the log stays JSON."""
    code = (
        "import sys\n"
        "from bridge.app import analyst\n"
        "analyst.run = lambda *_: 1 / 0\n"
        "sys.exit(analyst.main(['--data', sys.argv[1]]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, stdin=subprocess.DEVNULL, cwd=ROOT,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert json.loads(line)["error_type"] == "ZeroDivisionError"


def test_it_dies_with_a_front_that_is_killed_even_while_stopped(tmp_path: Path):
    """A front of a few lines starts an analyst and is killed."""
    asyncio.run(fill(tmp_path / "inbox.db", (RowKind.CLOCK, b"")))
    front = subprocess.Popen([sys.executable, "-c", FRONT, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT)
    with front:
        assert front.stdout is not None
        pid = int(front.stdout.readline())
        os.kill(pid, signal.SIGSTOP)
        front.kill()
    deadline = time.monotonic() + PATIENCE_S
    while _is_alive(pid):
        assert time.monotonic() < deadline
        select.select([], [], [], 0.02)


FRONT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-m", "bridge.app.analyst", "--data", sys.argv[1], "--models-after", "1000"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
while b"ready" not in child.stdout.readline(): pass
print(child.pid, flush=True)
time.sleep(600)
"""


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_analyst_loads_no_model_library():
    code = "import sys, bridge.app.analyst; print([n for n in ('torch','sklearn','hdbscan','sentence_transformers') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


# ---- pieces ----------------------------------------------------------------------------------------------


def test_a_message_reaches_the_other_end_whole_and_a_dead_front_is_noticed():
    out, into = os.pipe()
    pipe = Pipe(0, into)
    pipe.say({"say": "row", "body": "x" * 1000})
    assert json.loads(os.read(out, 1 << 16))["body"] == "x" * 1000
    os.close(out)
    with pytest.raises(FrontGoneError):
        pipe.say({"say": "alive"})
    os.close(into)


def test_orders_may_come_in_pieces():
    out, into = os.pipe()
    pipe = Pipe(out, 1)
    for piece in (b'{"do":', b'"wake"}\n{"do"', b':"st'):
        os.write(into, piece)
        pipe.listen(1.0)
        assert not pipe.stopping
    os.write(into, b'op"}\n')
    pipe.listen(1.0)
    assert pipe.stopping
    os.close(into)
    os.close(out)


class Process:
    """Models that answer what the test says."""

    def __init__(self) -> None:
        self.ready = False
        self.waiting = 0
        self.results: list[ModelRow | GaveUp] = []
        self.encoded: list[tuple[str, ...]] = []
        self.fits: list[FitAsk] = []

    def submit_encode(self, tenant: str, templates: list[Template]) -> bool:
        self.encoded.append(tuple(template.id for template in templates))
        return True

    def submit_fit(self, ask: FitAsk) -> None:
        self.fits.append(ask)

    def poll(self) -> list[ModelRow | GaveUp]:
        results, self.results = self.results, []
        return results

    def close(self) -> None:
        self.waiting = -1


def encode(*ids: str) -> EncodeAsk:
    return EncodeAsk(tenant="t", templates=tuple(Template(id=each, text=each) for each in ids))


def test_models_join_when_they_are_wanted_and_their_time_has_come():
    process, words = Process(), []
    models = LateModels(lambda: process, words.append, 20.0)  # type: ignore[arg-type, return-value]
    models.ask(encode("a"))
    assert not models.joins(30.0)  # the settings may want none
    models.wanted = True
    assert not models.joins(19.0)
    assert models.joins(20.0)
    assert not models.joins(21.0)
    assert process.encoded == []
    models.ask(encode("a", "b"))
    assert process.encoded == [("a", "b")]
    assert list(models.answers()) == []
    process.ready = True
    process.results = [ModelRow(tenant="t", kind=RowKind.VECTORS, body="{}")]
    assert [row.body for row in models.answers()] == ["{}"]
    assert words == [{"say": "models", "up": True}]
    list(models.answers())
    assert len(words) == 1
    process.ready = False  # its child died
    list(models.answers())
    process.ready = True
    list(models.answers())
    assert [word["up"] for word in words] == [True, False, True]


def test_models_that_are_no_longer_wanted_end_and_come_back_when_they_are():
    """They take several hundred megabytes: a reload with `models: false` gives them back."""
    made, words = [], []

    def make():
        made.append(Process())
        made[-1].ready = True
        return made[-1]

    models = LateModels(make, words.append, 0.0)
    models.wanted = True
    assert models.joins(0.0)
    list(models.answers())
    models.wanted = False
    assert not models.joins(1.0)
    assert made[0].waiting == -1  # closed
    list(models.answers())
    assert not models.up
    models.ask(encode("a"))
    models.wanted = True
    assert models.joins(2.0)
    list(models.answers())
    assert [word["up"] for word in words] == [True, False, True]
    assert len(made) == 2
    assert made[0].encoded == made[1].encoded == []


def test_what_the_models_gave_up_on_is_not_asked_again():
    process, words = Process(), []
    models = LateModels(lambda: process, words.append, 0.0)  # type: ignore[arg-type, return-value]
    models.wanted = True
    models.joins(0.0)
    process.results = [GaveUp(tenant="t", asked="encode", templates=("a",), reason="it died of it")]
    list(models.answers())
    models.ask(encode("a", "b"))
    assert process.encoded == [("b",)]
    assert words == []


def test_a_fit_that_the_models_gave_up_on_is_not_asked_again_but_the_next_one_is():
    """It is the same work, and would end the same way every five minutes."""
    process = Process()
    models = LateModels(lambda: process, [].append, 0.0)  # type: ignore[arg-type, return-value]
    models.wanted = True
    models.joins(0.0)
    process.results = [GaveUp(tenant="t", asked="fit", templates=(), reason="it died of it", fit=4)]
    list(models.answers())
    for tenant, fit in (("t", 4), ("other", 4), ("t", 5)):
        models.ask(FitAsk(tenant=tenant, fit=fit, templates=()))
    assert [(each.tenant, each.fit) for each in process.fits] == [("other", 4), ("t", 5)]


def test_models_that_cannot_be_loaded_are_said_to_be_gone():
    process, words = Process(), []
    models = LateModels(lambda: process, words.append, 0.0)  # type: ignore[arg-type, return-value]
    models.wanted = True
    models.joins(0.0)
    process.results = [GaveUp(tenant="", asked="load", templates=(), reason="no weights")]
    list(models.answers())
    assert words == [{"say": "models", "up": False}]


def test_the_command_line_is_read():
    options = parse(
        ["--data", "d", "--skip", "3", "--skip", "4", "--careful-through", "9", "--models-after", "20"]
    )
    assert (options.skip, options.careful_through, options.models_after) == ([3, 4], 9, 20.0)
