"""Prometheus is asked for samples: a real one, and stand-ins that are broken."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheuses import answering, scraping
from servers import free_port

from bridge.analysis.samples import Samples, read
from bridge.app import prometheus as asking
from bridge.app import sampling
from bridge.app.sampling import LOOK_BACK_S, REST_S, SETTLE_S, Sampling
from bridge.config import SeriesSettings
from bridge.errors import StorageError
from bridge.model import RowKind
from bridge.telemetry import Telemetry

NOW_S = 1_767_582_000.0  # a full hour
LOAD = SeriesSettings(
    tenant="east", source="am", name="load", query="sum(load)", url="", step_s=60.0, labels={"team": "db"}
)


class Bench:
    """Everything around the asking."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, Samples]] = []
        self.series: list[SeriesSettings] = []
        self.stored: dict[tuple[str, str], float] = {}
        self.now = NOW_S
        self.full = False
        self.heard: asyncio.Queue[None] = asyncio.Queue()  # a row
        self.telemetry = Telemetry()
        self.sampling = self.started()

    def started(self) -> Sampling:
        return Sampling(
            put=self.put, series=lambda: self.series, stored=lambda: self.stored, telemetry=self.telemetry,
            wall=lambda: self.now,
        )  # fmt: skip

    async def put(self, tenant: str, source: str, kind: RowKind, body: bytes) -> int:
        if self.full:
            raise StorageError("no room")
        assert kind is RowKind.SAMPLES
        self.rows.append((tenant, source, read(body)))
        self.heard.put_nowait(None)
        return len(self.rows)

    async def look(self) -> None:
        """Look once, and wait for all answers."""
        async with asyncio.TaskGroup() as group:
            await self.sampling.look(group)

    def times(self) -> list[float]:
        """When the samples were that were told, from now."""
        return [at - NOW_S for _, _, row in self.rows for line in row.lines for at, _ in line.points]

    def failed(self) -> float:
        return self.telemetry.value("tocsin_series_polls_total", result="failed")


class Standing:
    """A server that has a value for every step."""

    def __init__(self) -> None:
        self.answer: web.Response | None = None
        self.asked: list[dict[str, str]] = []

    async def range(self, request: web.Request) -> web.Response:
        self.asked.append(dict(request.query))
        if self.answer is not None:
            return web.Response(status=self.answer.status, body=self.answer.body, headers=self.answer.headers)
        start, end, step = (float(request.query[name]) for name in ("start", "end", "step"))
        values = [[start + step * number, "1"] for number in range(round((end - start) / step) + 1)]
        result = [{"metric": {"job": "a"}, "values": values}]
        return web.Response(
            text=json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}})
        )


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
async def standing(bench: Bench) -> AsyncIterator[Standing]:
    made = Standing()
    application = web.Application()
    application.router.add_get("/prefix/api/v1/query_range", made.range)
    async with TestServer(application) as server:
        bench.series = [replace(LOAD, url=f"http://127.0.0.1:{server.port}/prefix")]
        yield made


async def test_a_real_prometheus_has_the_samples(tmp_path: Path):
    """NaN and infinities that were scraped are left out and counted; what it has is told with its own times."""
    bench = Bench()
    scraped = 'load{pod="a"} 7\nload{pod="b"} NaN\nload{pod="c"} +Inf\n'
    async with scraping(tmp_path, lambda _: scraped) as url:
        await answering(url, 'load{pod="a"}')
        bench.now = time.time() + SETTLE_S + 2.0
        bench.series = [replace(LOAD, url=url, query='sum by (pod) ({__name__="load"})', step_s=1.0)]
        bench.stored = {("east", "load"): bench.now - SETTLE_S - 4.0}
        await bench.look()
    [(tenant, source, row)] = bench.rows
    assert (tenant, source, row.name, row.step_s) == ("east", "am", "load", 1.0)
    assert [line.labels for line in row.lines] == [{"pod": "a", "team": "db"}]
    assert {value for _, value in row.lines[0].points} == {7.0}
    assert all(at == int(at) for at, _ in row.lines[0].points)
    assert row.refused["not_a_number"] >= 2
    assert bench.failed() == 0


async def test_each_step_is_asked_for_once_and_when_it_is_over(bench: Bench, standing: Standing):
    bench.stored = {("east", "load"): NOW_S - 180.0}
    for _ in range(3):
        await bench.look()
    assert bench.times() == [-120.0, -60.0]
    bench.now += SETTLE_S
    await bench.look()
    bench.now += 60.0
    await bench.look()
    assert bench.times() == [-120.0, -60.0, 0.0, 60.0]
    assert len(standing.asked) == 3
    assert bench.rows[0][2].lines[0].labels == {"job": "a", "team": "db"}


async def test_a_restart_leaves_no_gap(bench: Bench, standing: Standing):
    del standing
    bench.stored = {("east", "load"): NOW_S - 300.0}
    await bench.look()
    bench.stored = {("east", "load"): NOW_S - 60.0}
    bench.now += 300.0
    bench.sampling = bench.started()
    await bench.look()
    assert bench.times() == [-240.0, -180.0, -120.0, -60.0, 0.0, 60.0, 120.0, 180.0, 240.0]


async def test_a_new_series_tells_its_past_bounded_and_oldest_first(bench: Bench, standing: Standing):
    bench.series = [replace(bench.series[0], step_s=300.0)]
    for _ in range(7):
        await bench.look()
        bench.now += 5.0
    assert bench.times() == [-300.0 * ago for ago in range(round(LOOK_BACK_S / 300.0) - 1, -1, -1)]
    assert len(standing.asked) == 5


async def test_the_past_waits_for_what_is_now_and_for_whoever_learns(bench: Bench, standing: Standing):
    """Alerts stand in the same inbox: the past of many series must not fill it before they can be learned from."""
    now = bench.series[0]
    past = [replace(now, name=name, query=name) for name in ("old-1", "old-2")]
    bench.series = [*past, now]
    bench.stored = {("east", "load"): NOW_S - 120.0}
    for _ in range(3):
        await bench.look()
    assert [asked["query"] for asked in standing.asked] == ["sum(load)", "old-1"]
    for _ in range(20):
        bench.now += 1.0
        await bench.look()
    asked = [asked["query"] for asked in standing.asked[2:]]
    assert 6 <= len(asked) <= 12, "500 steps take half a second to learn from"
    assert asked.count("sum(load)") == 1
    assert abs(asked.count("old-1") - asked.count("old-2")) <= 1


@pytest.mark.parametrize(
    "answer",
    [
        web.Response(status=500, text="oops"),
        web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}),
        web.Response(status=400, text='{"status":"error","error":"bad_data: parse error"}'),
        web.Response(text="<html>"),
        web.Response(text='{"status":"success","data":{"resultType":"scalar","result":[1,"2"]}}'),
    ],
)
async def test_a_server_that_fails_is_told_once_and_asked_again_from_there(
    bench: Bench, standing: Standing, answer: web.Response, caplog: pytest.LogCaptureFixture
):
    bench.stored = {("east", "load"): NOW_S - 120.0}
    standing.answer = answer
    for _ in range(3):
        await bench.look()
        bench.now += REST_S
    assert bench.failed() == 3
    assert [record.event for record in caplog.records] == ["samples_unread"]  # type: ignore[attr-defined]
    assert "127.0.0.1" not in caplog.text
    standing.answer = None
    await bench.look()
    assert bench.times() == [-60.0, 0.0, 60.0]


async def test_while_a_server_fails_it_is_left_alone(bench: Bench, standing: Standing):
    standing.answer = web.Response(status=500)
    for _ in range(5):
        await bench.look()
        bench.now += REST_S / 10
    assert len(standing.asked) == 1


async def test_of_too_much_less_is_asked(bench: Bench, standing: Standing, monkeypatch: pytest.MonkeyPatch):
    del standing
    monkeypatch.setattr(asking, "MAX_ANSWER_BYTES", 3000)
    monkeypatch.setattr(sampling, "MOST_STEPS", 400)
    bench.stored = {("east", "load"): NOW_S - 60.0 * 300}
    for _ in range(12):
        await bench.look()
        bench.now += REST_S
    assert bench.times()[:3] == [-60.0 * 299, -60.0 * 298, -60.0 * 297]
    assert max(bench.times()) >= 0.0
    assert 0 < bench.failed() < 5


async def test_a_server_that_is_not_there_is_no_hindrance_for_others(bench: Bench, standing: Standing):
    del standing
    gone = replace(LOAD, name="gone", url=f"http://127.0.0.1:{free_port()}")
    bench.series = [gone, *bench.series]
    bench.stored = {("east", "load"): NOW_S - 120.0}
    await bench.look()
    assert bench.times() == [-60.0]
    assert bench.failed() == 1


async def test_a_server_that_never_answers_delays_nobody_else(bench: Bench, standing: Standing):
    answers, asked = asyncio.Event(), 0

    async def hang(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        await answers.wait()
        return await standing.range(request)

    application = web.Application()
    application.router.add_get("/api/v1/query_range", hang)
    async with TestServer(application) as hanging, asyncio.timeout(20.0):
        stuck = replace(LOAD, name="stuck", url=f"http://127.0.0.1:{hanging.port}")
        bench.series = [stuck, *bench.series]
        bench.stored = {("east", "load"): NOW_S - 120.0, ("east", "stuck"): NOW_S - 120.0}
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                while bench.heard.empty():  # it looks again and again
                    await bench.sampling.look(group)
                    await asyncio.sleep(0)
                bench.heard.get_nowait()
                bench.now += 60.0
            assert bench.times() == [-60.0, 0.0, 60.0]
            assert asked == 1, "it is not asked again while it is asked"
            answers.set()
    assert [row.name for _, _, row in bench.rows] == ["load"] * 3 + ["stuck"]
    assert bench.times()[3:] == [-60.0], "what it was asked for, when it could answer"
    assert bench.failed() == 0


async def test_at_most_so_many_servers_are_asked_at_once(
    bench: Bench, standing: Standing, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sampling, "MOST_AT_ONCE", 2)
    together = most = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal together, most
        together += 1
        most = max(most, together)
        await asyncio.sleep(0)  # others have their turn
        answered = await standing.range(request)
        together -= 1
        return answered

    application = web.Application()
    application.router.add_get("/{server}/api/v1/query_range", answer)
    async with TestServer(application) as server:
        url = f"http://127.0.0.1:{server.port}"
        bench.series = [replace(LOAD, name=f"s{number}", url=f"{url}/{number}") for number in range(6)]
        bench.stored = {("east", each.name): NOW_S - 120.0 for each in bench.series}
        bench.sampling = bench.started()
        await bench.look()
    assert {row.name for _, _, row in bench.rows} == {each.name for each in bench.series}
    assert most <= 2


async def test_what_the_inbox_did_not_take_is_told_after_a_rest(
    bench: Bench, standing: Standing, caplog: pytest.LogCaptureFixture
):
    bench.stored = {("east", "load"): NOW_S - 120.0}
    bench.full = True
    await bench.look()
    assert [record.event for record in caplog.records] == ["row_lost"]  # type: ignore[attr-defined]
    bench.full = False
    await bench.look()
    assert len(standing.asked) == 1
    bench.now += REST_S
    await bench.look()
    assert bench.times() == [-60.0, 0.0]


async def test_a_changed_configuration_and_a_state_begun_anew_are_asked_for_anew(
    bench: Bench, standing: Standing
):
    bench.stored = {("east", "load"): NOW_S - 120.0}
    await bench.look()
    bench.series = [replace(bench.series[0], query="other")]
    await bench.look()
    bench.sampling.tell_anew()
    await bench.look()
    assert [asked["query"] for asked in standing.asked] == ["sum(load)", "other", "other"]
    assert bench.times() == [-60.0] * 3
    bench.series = []
    bench.now += 600.0
    await bench.look()
    assert len(standing.asked) == 3
