"""Prometheus is asked who calls whom: a real one, and stand-ins that are broken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheuses import answering, scraping
from servers import free_port

from bridge.analysis.topology import Call, Chart, Service, read
from bridge.app import prometheus as asking
from bridge.app.service_graphs import ServiceGraphs
from bridge.errors import StorageError
from bridge.model import RowKind
from bridge.telemetry import Telemetry

METRICS = """\
# TYPE traces_service_graph_request_total counter
traces_service_graph_request_total{{client="shop",server="db"}} {count}
traces_service_graph_request_total{{client="idle",server="db"}} 7
# TYPE istio_requests_total counter
istio_requests_total{{reporter="source",source_workload="web",source_workload_namespace="eu",\
destination_workload="shop-v1",destination_workload_namespace="eu",destination_service_name="shop",response_code="200"}} {count}
"""


class Bench:
    """Everything around the asking."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, Chart]] = []
        self.servers: list[tuple[str, str]] = []
        self.stored: dict[str, Chart] = {}
        self.now = 0.0
        self.full = False
        self.telemetry = Telemetry()
        self.graphs = ServiceGraphs(
            put=self.put, servers=lambda: self.servers, stored=lambda: self.stored, telemetry=self.telemetry,
            clock=lambda: self.now,
        )  # fmt: skip

    async def put(self, tenant: str, source: str, kind: RowKind, body: bytes) -> int:
        if self.full:
            raise StorageError("no room")
        assert (source, kind) == ("tocsin", RowKind.TOPOLOGY)
        self.rows.append((tenant, read(body)))
        return len(self.rows)

    def failed(self) -> float:
        return self.telemetry.value("tocsin_service_graph_polls_total", result="failed")


def calls(chart: Chart) -> list[str]:
    names = [service.title for service in chart.services]
    return [f"{names[call.caller]} > {names[call.callee]}" for call in chart.calls]


@pytest.fixture
def bench() -> Bench:
    return Bench()


# ---- a real Prometheus -----------------------------------------------------------------------------------


@pytest.fixture
async def prometheus(tmp_path: Path) -> AsyncIterator[str]:
    """A Prometheus that scrapes counters which grow at each scrape."""
    async with scraping(tmp_path, lambda scrapes: METRICS.format(count=10 * scrapes)) as url:
        await answering(url, "increase(istio_requests_total[1h]) > 0")
        yield url


async def test_a_real_prometheus_says_who_calls_whom(bench: Bench, prometheus: str):
    bench.servers = [("east", prometheus)]
    await bench.graphs.look()
    await bench.graphs.look()
    [(tenant, chart)] = bench.rows
    assert tenant == "east"
    assert calls(chart) == ["shop > db", "eu/web > eu/shop"]
    assert bench.telemetry.value("tocsin_service_graph_polls_total", result="done") == 2
    assert bench.telemetry.value("tocsin_service_graph_edges") == 2


# ---- stand-ins -------------------------------------------------------------------------------------------


def graph(*pairs: str) -> str:
    series = ",".join(
        f'{{"metric":{{"client":"{pair[0]}","server":"{pair[1]}"}},"value":[1,"2"]}}' for pair in pairs
    )
    return f'{{"status":"success","data":{{"resultType":"vector","result":[{series}]}}}}'


class Standing:
    """What a server answers; one question is for the service graph, one for Istio."""

    def __init__(self) -> None:
        self.answer: web.Response | None = None
        self.text = graph("ab")
        self.asked: list[str] = []

    async def query(self, request: web.Request) -> web.Response:
        self.asked.append(request.query["query"])
        if self.answer is not None:
            return web.Response(status=self.answer.status, body=self.answer.body, headers=self.answer.headers)
        return web.Response(text=self.text if "client" in request.query["query"] else graph())


@pytest.fixture
async def standing(bench: Bench) -> AsyncIterator[Standing]:
    made = Standing()
    application = web.Application()
    application.router.add_get("/prefix/api/v1/query", made.query)
    async with TestServer(application) as server:
        bench.servers = [("east", f"http://127.0.0.1:{server.port}/prefix")]
        yield made


async def test_only_what_changes_is_told(bench: Bench, standing: Standing):
    for text in (graph("ab"), graph("ab"), graph("bc"), graph()):
        standing.text = text
        await bench.graphs.look()
        bench.now += 300.0
    assert [(tenant, calls(chart)) for tenant, chart in bench.rows] == [
        ("east", ["a > b"]),
        ("east", ["a > b", "b > c"]),
    ]
    bench.now += 86_400.0
    await bench.graphs.look()
    assert bench.rows[-1] == ("east", Chart(origin="prometheus"))


async def test_a_state_that_is_begun_anew_is_told_all_of_it(bench: Bench, standing: Standing):
    bench.graphs.tell_anew()
    await bench.graphs.look()
    bench.graphs.tell_anew()
    standing.text = graph()
    await bench.graphs.look()
    assert [calls(chart) for _, chart in bench.rows] == [["a > b"], ["a > b"]]


async def test_a_front_goes_on_from_what_the_state_holds(bench: Bench, standing: Standing):
    stored = Chart(origin="prometheus", services=(Service(name="a"), Service(name="b")), calls=(Call(0, 1),))
    bench.stored = {"east": stored, "gone": stored}
    standing.text = graph()
    await bench.graphs.look()
    await bench.graphs.look()
    assert bench.rows == [("gone", Chart(origin="prometheus"))]
    bench.servers = []
    await bench.graphs.look()
    assert bench.rows[1:] == [("east", Chart(origin="prometheus"))]


@pytest.mark.parametrize(
    "answer",
    [
        web.Response(status=500, text="oops"),
        web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}),
        web.Response(status=400, text='{"status":"error","error":"no such metric"}'),
        web.Response(text="<html>"),
        web.Response(text='{"status":"success","data":{"resultType":"scalar","result":[1,"2"]}}'),
        web.Response(body=b"x" * 70_000),
    ],
)
async def test_a_server_that_fails_changes_nothing_and_is_told(
    bench: Bench,
    standing: Standing,
    answer: web.Response,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(asking, "MAX_ANSWER_BYTES", 65_536)
    await bench.graphs.look()
    standing.answer = answer
    for _ in range(3):
        bench.now += 86_400.0
        await bench.graphs.look()
    assert len(bench.rows) == 1
    assert bench.failed() == 3
    assert [record.event for record in caplog.records] == ["service_graph_unread"]  # type: ignore[attr-defined]
    assert "127.0.0.1" not in caplog.text
    standing.answer = None
    await bench.graphs.look()
    assert len(bench.rows) == 1


async def test_a_server_that_is_not_there_is_no_hindrance_for_others(bench: Bench, standing: Standing):
    del standing
    bench.servers = [
        ("west", f"http://127.0.0.1:{free_port()}"),
        ("east", f"http://127.0.0.1:{free_port()}"),
        *bench.servers,
    ]
    await bench.graphs.look()
    assert [(tenant, calls(chart)) for tenant, chart in bench.rows] == [("east", ["a > b"])]
    assert bench.failed() == 2


async def test_a_server_that_is_silent_is_given_up(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(asking, "TIMEOUT_S", 0.2)
    async with await asyncio.start_server(listened, "127.0.0.1", 0) as silent:
        bench.servers = [("east", f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}")]
        await bench.graphs.look()
    assert bench.failed() == 1


async def listened(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Listen to all of it and say nothing."""
    await reader.read()
    writer.close()
    await writer.wait_closed()


async def test_what_the_inbox_did_not_take_is_told_at_the_next_look(bench: Bench, standing: Standing):
    del standing
    bench.full = True
    with pytest.raises(StorageError):
        await bench.graphs.look()
    bench.full = False
    await bench.graphs.look()
    assert [calls(chart) for _, chart in bench.rows] == [["a > b"]]
