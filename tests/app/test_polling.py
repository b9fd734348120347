"""Alertmanagers asked what is true: few rows, whatever they answer, and nobody waits for one that hangs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from alertmanagers import Alertmanager, entry
from pydantic import SecretStr
from servers import free_port

from bridge.analysis.rounds import Found
from bridge.app import peers as peers_module
from bridge.app import polling as polling_module
from bridge.app.polling import TROUBLE, Polling
from bridge.app.troubles import Troubles
from bridge.config import PollSettings
from bridge.errors import StorageError
from bridge.model import RowKind
from bridge.telemetry import Telemetry

SOURCE = PollSettings(
    tenant="shop", source="prod", alertmanagers=(), interval_s=0.02, group_interval_s=0.02, receiver="tocsin"
)


class Bench:
    """Two fake peers and what was told of them."""

    def __init__(self, folder: Path, one: Alertmanager, two: Alertmanager) -> None:
        self.one, self.two = one, two
        self.rows: list[Found] = []
        self.where: set[tuple[str, str]] = set()
        self.is_full = False
        self.telemetry = Telemetry()
        self.troubles = Troubles(
            put=self.put, tenant="first", file=folder / "troubles.json", telemetry=self.telemetry,
            clock=lambda: datetime(2026, 1, 1, tzinfo=UTC),
        )  # fmt: skip
        self.polls = [replace(SOURCE, alertmanagers=(one.url, two.url))]

    async def put(self, tenant: str, source: str, kind: RowKind, body: bytes) -> int:
        if self.is_full:
            raise StorageError("no room")
        assert kind is RowKind.FOUND
        self.where.add((tenant, source))
        self.rows.append(msgspec.json.decode(body, type=Found))
        return len(self.rows)

    @contextlib.asynccontextmanager
    async def asking(self) -> AsyncIterator[Polling]:
        loop = asyncio.get_running_loop()
        polling = Polling(
            put=self.put,
            polls=lambda: self.polls,
            troubles=self.troubles,
            telemetry=self.telemetry,
            clock=loop.time,
        )
        task = asyncio.Task(polling.run())
        try:
            yield polling
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def until(self, look: Callable[[], Any]) -> Any:
        """Look again and again until it is so."""
        async with asyncio.timeout(20):
            while not (found := look()):
                await asyncio.sleep(0.002)  # nothing tells when others have done something
        return found

    def newest(self, look: Callable[[Found], Any]) -> Callable[[], Any]:
        """Return a look at what was told last."""
        return lambda: self.rows and look(self.rows[-1])

    def polls_that(self, result: str) -> float:
        return self.telemetry.value("tocsin_polls_total", source="prod", result=result)

    def firing(self) -> list[dict[str, str]]:
        return [each.labels for each in self.troubles.firing()]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with Alertmanager().serving() as one, Alertmanager().serving() as two:
        yield Bench(tmp_path, one, two)


def names(found: Found) -> set[str]:
    known = {entry(name)["fingerprint"]: name for name in ("Down", "Other")}
    return {known[each.fingerprint] for each in found.listed}


async def test_what_both_list_is_told_once_and_then_what_changes(bench: Bench) -> None:
    bench.one.alerts = bench.two.alerts = [entry("Down")]
    async with bench.asking():
        await bench.until(bench.newest(lambda found: found.settled and found.listed[0].stands))
        assert names(bench.rows[0]) == {"Down"}
        number, asked = len(bench.rows), bench.two.asked
        await bench.until(lambda: bench.two.asked > asked + 5)
        assert len(bench.rows) == number
        bench.two.alerts = []
        await bench.until(bench.newest(lambda found: found.listed and not found.listed[0].everywhere))
        bench.one.alerts = []
        await bench.until(bench.newest(lambda found: found.left and not found.listed))
        # A row is counted once it is written, a moment after it can be seen.
        await bench.until(
            lambda: bench.telemetry.value("tocsin_poll_rows_total", source="prod") == len(bench.rows)
        )
    assert bench.where == {("shop", "prod")}
    assert bench.polls_that("answered") > 10


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({"status": 503}, "is answered 503"),
        ({"status": 302}, "is answered 302"),
        ({"alerts": b"<html>"}, "not understood: not JSON"),
        ({"alerts": {"a": 1}}, "not understood: not a list of alerts"),
        ({"alerts": b"[" + b" " * 5000 + b"]"}, "larger than"),
        ({"started": "yesterday"}, "not understood"),
        ({"authorization": "Bearer other"}, "is answered 401"),
    ],
)
async def test_a_peer_that_answers_badly_is_silent(
    bench: Bench, answers: dict[str, Any], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers_module, "MAX_ANSWER_BYTES", 4096)
    monkeypatch.setattr(polling_module, "SILENT_S", 0.05)
    bench.one.alerts = [entry("Down")]
    for name, told in answers.items():
        setattr(bench.two, name, told)
    async with bench.asking():
        found = await bench.until(bench.newest(lambda found: found))
        assert (found.silent, names(found)) == ((bench.two.url,), {"Down"})
        (alert,) = await bench.until(bench.firing)
        assert alert == {
            "alertname": TROUBLE, "severity": "warning", "job": "tocsin", "alertmanager": bench.two.url, "source": "prod",
        }  # fmt: skip
        assert reason in bench.troubles.firing()[0].reason
        fresh = Alertmanager()
        for name in answers:
            setattr(bench.two, name, getattr(fresh, name))
        await bench.until(lambda: not bench.firing())
        await bench.until(bench.newest(lambda found: not found.silent))


async def test_a_peer_that_is_not_there_is_silent(bench: Bench) -> None:
    gone = f"http://127.0.0.1:{free_port()}"
    bench.polls = [replace(SOURCE, alertmanagers=(bench.one.url, gone))]
    async with bench.asking():
        found = await bench.until(bench.newest(lambda found: found))
    assert found.silent == (gone,)


async def test_nothing_is_told_where_nobody_answers(bench: Bench) -> None:
    bench.one.status = bench.two.status = 500
    async with bench.asking():
        await bench.until(lambda: bench.polls_that("failed") > 5)
    assert bench.rows == []


async def test_a_peer_that_has_just_started_by_its_own_clock_is_not_held_for_all_there_is(
    bench: Bench,
) -> None:
    bench.two.started = "2026-01-01T00:00:00Z"
    bench.two.headers = {"Date": "Thu, 01 Jan 2026 00:00:00 GMT"}
    async with bench.asking():
        found = await bench.until(bench.newest(lambda found: found))
        assert found.silent == (bench.two.url,)
        assert bench.polls_that("young") > 0
        bench.two.started = "2025-12-31T23:00:00Z"
        await bench.until(bench.newest(lambda found: not found.silent))


@pytest.mark.parametrize(
    ("given", "header"),
    [
        ({"token": SecretStr("letmein")}, "Bearer letmein"),
        ({"username": "tocsin", "password": SecretStr("letmein")}, "Basic dG9jc2luOmxldG1laW4="),
    ],
)
async def test_credentials_are_shown_and_a_path_before_the_api_is_kept(
    bench: Bench, given: dict[str, Any], header: str
) -> None:
    bench.one.authorization = header
    bench.polls = [replace(SOURCE, alertmanagers=(f"{bench.one.url}/prefix",), **given)]
    async with bench.asking():
        found = await bench.until(bench.newest(lambda found: found))
    assert (found.asked, found.silent) == (1, ())


async def test_what_cannot_be_used_is_told_with_its_reason(bench: Bench) -> None:
    bench.one.alerts = bench.two.alerts = [entry("Down"), {"labels": 7}]
    async with bench.asking():
        found = await bench.until(bench.newest(lambda found: found))
    assert ["unusable alert in a list" in each.reason for each in found.unusable] == [True]
    assert names(found) == {"Down"}


async def test_what_the_inbox_does_not_take_is_told_by_a_later_round(bench: Bench) -> None:
    bench.one.alerts = bench.two.alerts = [entry("Down")]
    bench.is_full = True
    async with bench.asking():
        await bench.until(lambda: bench.two.asked > 3)
        bench.is_full = False
        found = await bench.until(bench.newest(lambda found: found))
    assert names(found) == {"Down"}


async def test_a_doubt_brings_a_round_at_once_that_is_told(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling_module, "BREATH_S", 0.01)
    bench.polls = [replace(bench.polls[0], interval_s=3600.0, group_interval_s=3600.0)]
    async with bench.asking() as polling:
        for number in (1, 2, 3):
            await bench.until(lambda number=number: len(bench.rows) == number)
            polling.want()
        await bench.until(lambda: len(bench.rows) == 4)


async def test_a_changed_configuration_asks_others_and_forgets_the_trouble_of_those_before(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling_module, "SILENT_S", 0.0)
    bench.one.status = 500
    bench.polls = [replace(SOURCE, alertmanagers=(bench.one.url,))]
    async with bench.asking() as polling:
        await bench.until(bench.firing)
        bench.polls = [replace(SOURCE, alertmanagers=(bench.two.url,))]
        polling.change()
        await bench.until(lambda: bench.rows and not bench.firing())
        bench.polls = []
        polling.change()
        number = await bench.until(lambda: bench.two.asked)
        assert number


async def test_sources_take_turns(bench: Bench) -> None:
    bench.polls = [
        replace(SOURCE, source="a", alertmanagers=(bench.one.url,), interval_s=2.0),
        replace(SOURCE, source="b", alertmanagers=(bench.two.url,), interval_s=2.0),
    ]
    loop = asyncio.get_running_loop()
    async with bench.asking():
        await bench.until(lambda: bench.one.asked)
        first_s = loop.time()
        assert bench.two.asked == 0
        await bench.until(lambda: bench.two.asked)
        assert loop.time() - first_s > 0.5


async def test_a_bug_costs_one_round(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = [ZeroDivisionError("oh no")]
    real = peers_module.Peers.ask

    async def ask(*given: Any) -> Any:
        if broken:
            raise broken.pop()
        return await real(*given)

    monkeypatch.setattr(peers_module.Peers, "ask", ask)
    async with bench.asking():
        await bench.until(bench.newest(lambda found: not found.silent))
