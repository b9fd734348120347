"""The read API over real stores and a real HTTP client."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any, Literal

import msgspec
import pytest
from aiohttp import ClientPayloadError, ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer
from desks import TOPOLOGY, Desk
from stores import FRONT, WON, apart, fill, firing, linker_row, row
from timeline import START, alert, webhook

from bridge.analysis.topology import Call, Chart, Service
from bridge.api import (
    AnalystHealth,
    Api,
    DestinationHealth,
    Health,
    Reloaded,
    Surroundings,
    answering,
    explain,
)
from bridge.api.waiting import explained
from bridge.app.auditing import AuditLog
from bridge.auth import Grant, Keyring, Shown, Signer
from bridge.delivery import OutboxRow
from bridge.errors import StorageError, StoreFullError
from bridge.intake import Gate
from bridge.model import EventKind, RowKind
from bridge.pipeline import Outcome
from bridge.storage.deliveries import DeliveryStore
from bridge.storage.reading import StateReader
from bridge.storage.state import StateStore
from bridge.webhooks.alertmanager import check_usable

TOKENS = {role: f"token-of-a-{role}" for role in ("sender", "viewer", "responder", "admin")}
KEYRING = Keyring(
    [(token, Grant(tenant="default", role=role)) for role, token in TOKENS.items()]  # type: ignore[arg-type]
    + [("token-of-another", Grant(tenant="other", role="admin"))],
    signers=[
        Signer(
            f"{scheme}-secret-of-{tenant}-{number}".encode(),
            Grant(tenant=tenant, role="responder", shape="signature"),
            scheme=scheme,
        )
        for scheme in ("slack", "pagerduty")
        for tenant in ("default", "other")
        for number in (1, 2)
    ],
)


class World:
    """One API with what surrounds it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "state.db"
        self.deliveries = DeliveryStore(folder / "delivery.db", clock=lambda: START)
        self.rows: list[tuple[str, str, RowKind, bytes]] = []
        self.why_not_ready = ""
        self.put_fault: Exception | None = None
        self.reloaded = Reloaded()
        self.health = Health(analyst=AnalystHealth(up=True, models="work", degraded=False), destinations=())
        self.client: Any = None

    async def put(self, tenant: str, source: str, kind: RowKind, body: bytes) -> int:
        if self.put_fault:
            raise self.put_fault
        self.rows.append((tenant, source, kind, body))
        return 100 + len(self.rows)

    async def authenticate(self, request: web.Request) -> Grant | None:
        shown = Shown(peer=request.remote, authorization=request.headers.get("Authorization"))
        found = KEYRING.admit(shown, 0.0)
        return found if isinstance(found, Grant) else None

    async def ready(self) -> str:
        return self.why_not_ready

    async def reload(self) -> Reloaded:
        return self.reloaded

    def trouble(self, state: Literal["blocked", "unreachable"], reason: str) -> None:
        siem = DestinationHealth(name="siem", state=state, reason=reason, since="2026-01-05T03:00:00Z")
        self.health = msgspec.structs.replace(self.health, destinations=(siem,))

    def surroundings(self) -> Surroundings:
        return Surroundings(
            authenticate=self.authenticate,
            authenticate_whole=Gate(KEYRING, wall=START.timestamp).admit_whole,
            put=self.put,
            check=check_usable,
            newest_row=lambda: 7,
            ready=self.ready,
            audit=AuditLog(self.path.parent, wall=lambda: 1_767_582_000.0, keep_s=lambda: 86400.0),
            operator=lambda: "default",
            reload=self.reload,
            health=lambda _tenant: self.health,
            metrics=lambda: b"tocsin_ready 1.0\n",
        )

    async def ask(self, path: str, role: str = "viewer", **more: Any) -> ClientResponse:
        method = more.pop("method", "GET")
        token = TOKENS.get(role, role)
        headers = {"Authorization": f"Bearer {token}"} | more.pop("headers", {})
        answer: ClientResponse = await self.client.request(method, path, headers=headers, **more)
        return answer

    async def json(self, path: str, role: str = "viewer", **more: Any) -> Any:
        answer = await self.ask(path, role, **more)
        assert answer.status < 300, await answer.text()
        return json.loads(await answer.read())


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(World(tmp_path)) as it:
        yield it


@asynccontextmanager
async def running(it: World, reading: StateReader | None = None) -> AsyncIterator[World]:
    application = web.Application(middlewares=[explain])
    api = Api(reading or StateReader(it.path), it.deliveries, it.surroundings())
    application.add_routes(api.routes())
    async with TestClient(TestServer(application)) as client:
        it.client = client
        yield it
    api.close()
    it.deliveries.close()


async def dead_letter(it: World, event_id: str = "e-1", tenant: str = "default") -> int:
    """Put one delivery into the store and return its id."""
    entry = OutboxRow(
        id=1, tenant=tenant, destination="siem", event_id=event_id, incident="inc-1", seq=1,
        kind=EventKind.OPENED, at=START, not_before=START,
    )  # fmt: skip
    await it.deliveries.take_in([entry])
    return int(it.deliveries.listed(tenant).items[0]["id"])


async def problem_of(answer: ClientResponse) -> dict[str, Any]:
    assert answer.content_type == "application/problem+json"
    told: dict[str, Any] = json.loads(await answer.read())
    assert told["status"] == answer.status
    assert {"type", "title", "detail"} <= set(told)
    return told


# ---- reading ---------------------------------------------------------------------------------------------


async def test_before_the_analyst_has_run_every_list_is_empty(world: World) -> None:
    for path in ("incidents", "quarantine", "deliveries"):
        assert await world.json(f"/api/v1/{path}") == {"items": [], "next": None}
    stats = await world.json("/api/v1/stats")
    assert (stats["inbox_backlog"], stats["processed_until"]) == (7, None)


async def test_who_calls_whom_is_shown_with_where_it_comes_from(world: World) -> None:
    empty = await world.json("/api/v1/topology")
    assert (empty["services"], empty["edges"], empty["label"]) == ([], [], "service")
    with closing(StateStore(world.path)) as store:
        desk = Desk(store)
        learned = Chart(
            origin="learned",
            services=(Service(name="mail"), Service(name="queue")),
            calls=(Call(0, 1, "p<0.001"),),
        )
        foreign = Chart(origin="prometheus", services=(Service(name="secret"),))
        for tenant, chart in (("", TOPOLOGY), ("other", foreign)):
            desk.take("0s", RowKind.TOPOLOGY, msgspec.json.encode(chart), tenant)
        store.commit(outcome_with(learned), front=FRONT, rows=())
    told = await world.json("/api/v1/topology")
    assert (told["services_total"], told["edges_total"]) == (4, 2)
    assert told["services"][1] == {"name": "db", "cluster": None, "namespace": "web"}
    assert told["edges"] == [
        {"kind": "calls", "from": "shop", "to": "db", "origin": "file", "evidence": None,
         "said": "shop calls db (topology file)"},
        {"kind": "precedes", "from": "queue", "to": "mail", "origin": "learned", "evidence": "p<0.001",
         "said": "queue precedes mail (p<0.001)"},
    ]  # fmt: skip
    assert "secret" not in json.dumps(told)
    short = await world.json("/api/v1/topology?limit=1")
    assert (len(short["services"]), len(short["edges"]), short["edges_total"]) == (1, 1, 2)


def outcome_with(chart: Chart) -> Outcome:
    outcome = Outcome()
    outcome.charts["default", chart.origin] = chart
    return outcome


async def test_the_linker_is_shown_with_its_evidence(world: World) -> None:
    fill(world.path, [*apart(1), linker_row(2, START, WON)])
    told = await world.json("/api/v1/models")
    assert told["next"] is None
    [linker] = told["items"]
    assert (linker["name"], linker["acts"], linker["since"]) == ("linker", True, "2026-01-05T03:00:00Z")
    assert [each["f1"] for each in linker["evidence"]] == [0.6, 0.5, 0.9]
    assert (await world.json("/api/v1/models", "token-of-another"))["items"][0]["fit"] is None
    stats = await world.json("/api/v1/stats")
    assert stats["grouping"] == {"way": "linker", "reason": "linker is best"}


async def test_forecasts_and_recommendations_say_what_they_lack(world: World) -> None:
    fill(world.path, apart(5))
    told = await world.json("/api/v1/forecasts")
    assert told == {"items": [], "next": None, "lacking": "5 of 20 incidents to learn from"}
    assert await world.json("/api/v1/recommendations") == {"items": [], "next": None}
    assert (await world.ask("/api/v1/forecasts", "sender")).status == 403
    assert (await world.ask("/api/v1/recommendations?limit=1")).status == 400


async def test_incidents_are_listed_and_paged(world: World) -> None:
    fill(world.path, apart(5))
    first = await world.json("/api/v1/incidents?limit=3")
    second = await world.json("/api/v1/incidents", params={"limit": 3, "cursor": first["next"]})
    assert [len(first["items"]), len(second["items"]), second["next"]] == [3, 2, None]
    opened = [item["opened_at"] for item in first["items"] + second["items"]]
    assert opened == sorted(opened, reverse=True)
    assert first["items"][0]["episode_count"] == 1


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("state=open", 5),
        ("state=closed,merged", 0),
        ("state=closed&state=open", 5),
        ("severity=critical", 2),
        ("since=2026-01-05T06:00:00Z", 2),
        ("since=2026-01-05T07:00:00%2B01:00", 2),
        ("since=2026-01-05T07:00:00+01:00", 2),
        ("limit=1", 1),
        ("id=%25", 0),
        ("", 5),
    ],
)
async def test_filters(world: World, query: str, count: int) -> None:
    fill(world.path, apart(5))
    assert len((await world.json(f"/api/v1/incidents?{query}"))["items"]) == count


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("state=broken", "state"),
        ("state=open,broken", "state"),
        ("severity=page", "severity"),
        ("since=yesterday", "since"),
        ("since=2026-01-05T06:00:00", "since"),
        ("since=0001-01-01T00:00:00%2B05:00", "since"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("limit=1e2", "limit"),
        ("limit=0000000000100000", "limit"),
        ("limit=\u0663", "limit"),
        ("cursor=nonsense", "cursor"),
        ("sevrity=critical", "sevrity"),
    ],
)
async def test_a_bad_parameter_is_named(world: World, query: str, parameter: str) -> None:
    answer = await world.ask(f"/api/v1/incidents?{query}")
    told = await problem_of(answer)
    assert answer.status == 400
    assert told["parameter"] == parameter
    assert told["detail"].startswith(parameter)


async def test_one_incident_is_given_whole(world: World) -> None:
    fill(world.path, apart(1))
    [item] = (await world.json("/api/v1/incidents"))["items"]
    found = await world.json(f"/api/v1/incidents/{item['incident']}")
    assert {"episodes", "links", "root", "events", "deliveries"} <= set(found)
    assert found["events"][0]["kind"] == "opened"
    assert found["deliveries"] == []


async def test_incidents_are_found_by_the_beginning_of_their_ids(world: World) -> None:
    fill(world.path, apart(5))
    ids = [item["incident"] for item in (await world.json("/api/v1/incidents"))["items"]]
    for length in (1, 4, len(ids[0])):
        found = (await world.json(f"/api/v1/incidents?id={ids[0][:length]}"))["items"]
        expected = [each for each in ids if each.startswith(ids[0][:length])]
        assert [item["incident"] for item in found] == expected
    [found] = (await world.json(f"/api/v1/incidents?id={ids[0].removeprefix('inc-')}"))["items"]
    assert found["incident"] == ids[0]


async def test_what_belongs_to_another_tenant_does_not_exist(world: World) -> None:
    fill(world.path, apart(1))
    [item] = (await world.json("/api/v1/incidents"))["items"]
    other = "token-of-another"
    assert (await world.json("/api/v1/incidents", other))["items"] == []
    answer = await world.ask(f"/api/v1/incidents/{item['incident']}", other)
    assert answer.status == (await world.ask("/api/v1/incidents/none")).status == 404
    assert await (await world.ask("/api/v1/export", other)).read() == b""
    await dead_letter(world)
    assert (await world.json("/api/v1/deliveries", other))["items"] == []


BI = "/api/v1/bi/incidents"


async def table_of(it: World, query: str = "") -> list[dict[str, str]]:
    answer = await it.ask(f"{BI}.csv{query}")
    assert (answer.status, answer.content_type, answer.charset) == (200, "text/csv", "utf-8")
    return list(csv.DictReader(io.StringIO((await answer.read()).decode(), newline="")))


async def test_incidents_are_a_flat_table_of_what_reports_ask_for(world: World) -> None:
    named = {"team": "shop", "namespace": "prod", "cluster": "eu"}
    rows = [
        row(1, START, firing("Slow", START, severity="critical", **named)),
        row(2, START, firing("Down", START, severity="warning", **named)),
    ]
    fill(world.path, rows)
    incident = (await world.json(BI))["items"][0]["incident"]
    said = [{"action": "act-1", "kind": "ack", "incident": incident, "text": "", "author": "ann"}]
    with closing(StateStore(world.path)) as store:
        Desk(store).take("90s", RowKind.FEEDBACK, msgspec.json.encode(said[0]))

    items = (await world.json(BI))["items"]

    found = next(each for each in items if each["rule"] == "Slow")
    assert {name: found[name] for name in (
        "state", "severity", "team", "service", "namespace", "cluster", "time_to_acknowledge_s", "time_to_close_s",
        "alerts_total", "firings", "firings_demoted", "escalations", "reopened", "verdict", "degraded",
    )} == {
        "state": "open", "severity": "critical", "team": "shop", "service": "slow", "namespace": "prod", "cluster": "eu",
        "time_to_acknowledge_s": 90.0, "time_to_close_s": None, "alerts_total": 2, "firings": 2, "firings_demoted": 0,
        "escalations": 0, "reopened": 0, "verdict": None, "degraded": found["degraded"],
    }  # fmt: skip
    assert not [name for each in items for name, value in each.items() if isinstance(value, list | dict)]


async def test_csv_has_the_same_rows_and_columns_as_json(world: World) -> None:
    fill(world.path, apart(5))
    items, rows = (await world.json(BI))["items"], await table_of(world)

    assert [list(each) for each in rows] == [list(each) for each in items] != []
    assert [each["incident"] for each in rows] == [each["incident"] for each in items]
    by_header = await world.ask(BI, headers={"Accept": "text/csv;q=0.9"})
    assert await by_header.read() == await (await world.ask(f"{BI}.csv")).read()
    assert (await world.ask(BI, headers={"Accept": "application/json, text/csv"})).content_type == (
        "application/json"
    )


async def test_an_empty_table_has_its_columns(world: World) -> None:
    assert await world.json(BI) == {"items": [], "next": None}
    header = (await (await world.ask(f"{BI}.csv")).text()).strip().split(",")
    assert header[:3] == ["tenant", "incident", "state"]


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("?since=2026-01-05T04:00:00Z&until=2026-01-05T06:00:00Z", 2),
        ("?until=2026-01-05T03:00:00Z", 0),
        ("?severity=critical", 2),
        ("?state=closed", 0),
        ("?limit=2", 2),
        ("", 5),
    ],
)
async def test_a_table_is_filtered(world: World, query: str, count: int) -> None:
    fill(world.path, apart(5))
    assert len((await world.json(f"{BI}{query}"))["items"]) == len(await table_of(world, query)) == count


async def test_a_table_goes_on_with_a_cursor_or_a_link(world: World) -> None:
    fill(world.path, apart(5))
    first = await world.json(f"{BI}?limit=3")
    second = await world.json(f"{BI}?limit=3&cursor={first['next']}")
    assert [len(first["items"]), len(second["items"]), second["next"]] == [3, 2, None]

    answer = await world.ask(f"{BI}.csv?limit=3")
    link = answer.links["next"]["url"]
    more = await world.client.get(link.relative(), headers={"Authorization": f"Bearer {TOKENS['viewer']}"})
    rows = list(csv.DictReader(io.StringIO(await more.text(), newline="")))
    assert [each["incident"] for each in rows] == [each["incident"] for each in second["items"]]
    assert "Link" not in more.headers
    assert (await problem_of(await world.ask(f"{BI}?cursor=nonsense")))["parameter"] == "cursor"
    assert (await problem_of(await world.ask(f"{BI}?untill=x")))["parameter"] == "untill"


async def test_who_has_a_table_already_is_told_so(world: World) -> None:
    fill(world.path, apart(2))
    answer = await world.ask(BI)
    tag = answer.headers["ETag"]
    for given in (tag, f"W/{tag}", f'"other", {tag}'):
        same = await world.ask(BI, headers={"If-None-Match": given})
        assert (same.status, await same.read(), same.headers["ETag"]) == (304, b"", tag)
    assert (await world.ask(f"{BI}.csv", headers={"If-None-Match": tag})).status == 200
    fill(world.path, [row(9, START + timedelta(hours=9), firing("New", START + timedelta(hours=9)))])
    assert (await world.ask(BI, headers={"If-None-Match": tag})).status == 200


async def test_stats_count_and_say_how_far_behind(world: World) -> None:
    fill(world.path, apart(5))
    await dead_letter(world)
    stats = await world.json("/api/v1/stats")
    assert stats["inbox_backlog"] == 2
    assert stats["processed_until"] == "2026-01-05T07:00:00Z"
    assert stats["incidents"]["open"] == 5
    assert stats["deliveries"]["waiting"] == 1


async def test_stats_say_how_the_parts_are_doing(world: World) -> None:
    world.trouble("blocked", "HTTP 403")
    stats = await world.json("/api/v1/stats")
    assert stats["analyst"] == {"up": True, "models": "work", "degraded": False}
    assert stats["destinations"] == [
        {"name": "siem", "state": "blocked", "reason": "HTTP 403", "since": "2026-01-05T03:00:00Z"}
    ]


@pytest.mark.parametrize(
    ("state", "blocked", "reason"),
    [
        (None, False, "in line"),
        ("blocked", True, "the destination refuses: HTTP 403"),
        ("unreachable", False, "the destination does not answer: HTTP 403"),
    ],
)
async def test_a_delivery_that_waits_says_why(world: World, state: Any, blocked: bool, reason: str) -> None:
    await dead_letter(world)
    if state is not None:
        world.trouble(state, "HTTP 403")
    [item] = (await world.json("/api/v1/deliveries"))["items"]
    assert (item["state"], item["blocked"], item["reason"]) == ("waiting", blocked, reason)


def test_each_kind_of_waiting_has_its_own_words() -> None:
    """State, attempts, its own reason, when it is due: what is shown; it was made at three o'clock."""
    three, four = datetime(2026, 1, 5, 3, tzinfo=UTC), datetime(2026, 1, 5, 4, tzinfo=UTC)
    rows = [
        ("waiting", 0, "", four, "held back until then, as its route says"),
        ("waiting", 2, "HTTP 500", four, "HTTP 500"),
        ("pending", 1, "", four, "sent, and not acknowledged yet"),
        ("waiting", 0, "", three, "in line"),
        ("dead", 20, "HTTP 400", None, "HTTP 400"),
        ("delivered", 1, "", None, ""),
    ]
    for state, attempts, own, next_at, shown in rows:
        item = {"destination": "siem", "state": state, "attempts": attempts, "reason": own,
                "next_at": next_at, "created_at": three}  # fmt: skip
        assert explained([item], ())[0]["reason"] == shown, (state, attempts, own)


async def test_an_export_is_streamed_part_by_part(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(world.path, apart(5))
    monkeypatch.setattr("bridge.storage.reading.reader.PAGE_INCIDENTS", 2)
    monkeypatch.setattr("bridge.storage.reading.history.PAGE_BYTES", 1)
    webhooks = await (await world.ask("/api/v1/export?format=webhooks")).read()
    assert [set(json.loads(line)) for line in webhooks.splitlines()] == [
        {"received_at", "tenant", "source", "body"}
    ] * 5
    incidents = await (await world.ask("/api/v1/export?format=jsonl&since=2026-01-05T06:00:00Z")).read()
    assert [json.loads(line)["title"].split()[0] for line in incidents.splitlines()] == [
        "Alert003",
        "Alert004",
    ]
    assert (await problem_of(await world.ask("/api/v1/export?format=parquet")))["parameter"] == "format"


class Breaks(StateReader):
    """A store that fails after its first part."""

    def history_lines(self, tenant: str | None, *, since: Any = None, after: Any = None) -> Any:
        if after is not None:
            raise StorageError("the disk is gone")
        return super().history_lines(tenant, since=since)


async def test_an_export_that_cannot_go_on_breaks_off_and_does_not_end_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.storage.reading.history.PAGE_BYTES", 1)
    it = World(tmp_path)
    fill(it.path, apart(3))
    async with running(it, Breaks(it.path)):
        answer = await it.ask("/api/v1/export")
        with pytest.raises(ClientPayloadError):
            await answer.read()


async def test_a_store_that_cannot_be_read_is_temporary(world: World) -> None:
    world.path.write_bytes(b"no database" * 1000)
    answer = await world.ask("/api/v1/incidents")
    assert answer.status == 503
    assert "state.db" in (await problem_of(answer))["detail"]


async def test_more_questions_than_may_wait_are_told_to_come_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "MAX_WAITING", 0)
    answer = await world.ask("/api/v1/incidents")
    assert answer.status == 503
    assert "try again" in (await problem_of(answer))["detail"]


class Hangs(StateReader):
    """A store that answers nobody until it is let."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.let = Event()

    def quarantined(self, tenant: str | None, number: int) -> Any:  # noqa: ARG002 - it stands in for the store's
        self.let.wait(20.0)


async def test_questions_that_were_given_up_on_hold_up_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The intake looks through large bodies in the threads of the event loop."""
    monkeypatch.setattr(answering, "READ_S", 0.05)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
    it = World(tmp_path)
    store = Hangs(it.path)
    async with running(it, store):
        try:
            answers = await asyncio.gather(*(it.ask("/api/v1/quarantine/1") for _ in range(8)))
            assert [answer.status for answer in answers] == [503] * 8
            assert "did not answer" in (await problem_of(answers[0]))["detail"]
            async with asyncio.timeout(5.0):
                assert await asyncio.to_thread(lambda: "looked through") == "looked through"
        finally:
            store.let.set()


# ---- who may -----------------------------------------------------------------------------------------------

READS = [
    "incidents",
    "bi/incidents",
    "bi/incidents.csv",
    "incidents/x",
    "deliveries",
    "quarantine",
    "quarantine/1",
    "stats",
    "export",
]


@pytest.mark.parametrize("path", READS)
async def test_without_a_good_token_nothing_is_read(world: World, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic eDp5"}):
        answer = await world.client.get(f"/api/v1/{path}", headers=headers)
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        await problem_of(answer)


@pytest.mark.parametrize("path", READS)
async def test_a_sender_may_not_read(world: World, path: str) -> None:
    answer = await world.ask(f"/api/v1/{path}", "sender")
    assert answer.status == 403
    assert "viewer" in (await problem_of(answer))["detail"]


@pytest.mark.parametrize(
    ("path", "role", "least"),
    [
        ("/api/v1/deliveries/1/retry", "viewer", "responder"),
        ("/api/v1/deliveries/1/drop", "viewer", "responder"),
        ("/api/v1/quarantine/1/replay", "viewer", "responder"),
        ("/-/reload", "responder", "admin"),
    ],
)
async def test_an_action_needs_its_role(world: World, path: str, role: str, least: str) -> None:
    assert (await world.ask(path, role, method="POST")).status == 403
    assert (await world.ask(path, least, method="POST")).status in {200, 404}


async def test_another_sites_page_may_not_act(world: World) -> None:
    answer = await world.ask("/-/reload", "admin", method="POST", headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status == 403


# ---- acting ------------------------------------------------------------------------------------------------


async def test_a_destination_that_does_not_exist_is_no_empty_list(world: World) -> None:
    await dead_letter(world)
    chat = DestinationHealth(name="chat", state="working")
    world.health = msgspec.structs.replace(world.health, destinations=(chat,))
    assert (await world.json("/api/v1/deliveries?destination=chat"))["items"] == []
    answer = await world.ask("/api/v1/deliveries?destination=siemm")
    assert answer.status == 400
    assert "must be one of chat, siem" in (await answer.json())["detail"]


async def test_a_delivery_is_dropped_and_retried(world: World) -> None:
    number = await dead_letter(world)
    assert (await world.ask(f"/api/v1/deliveries/{number}/retry", "responder", method="POST")).status == 404
    dropped = await world.ask(f"/api/v1/deliveries/{number}/drop", "responder", method="POST")
    assert (dropped.status, await dropped.json()) == (202, {"id": str(number)})
    [item] = (await world.json("/api/v1/deliveries?state=dropped&destination=siem"))["items"]
    assert item["id"] == number
    for strange in ("0", "x", "9" * 40, "-1"):
        answer = await world.ask(f"/api/v1/deliveries/{strange}/drop", "responder", method="POST")
        assert answer.status == 404


async def quarantine(it: World) -> None:
    """Set an alert aside, whose bytes are a good alert but for one field."""
    body = webhook([{**alert({"alertname": "Odd"}), "startsAt": "never"}])
    fill(it.path, [row(1, START, body)])


async def test_an_alert_that_is_still_unusable_is_shown_and_not_sent_again(world: World) -> None:
    """It would only copy itself."""
    await quarantine(world)
    shown = await world.json("/api/v1/quarantine/1")
    assert json.loads(shown["body"])["startsAt"] == "never"
    answer = await world.ask("/api/v1/quarantine/1/replay", "responder", method="POST")
    assert answer.status == 409
    assert "`startsAt` is not an RFC 3339 time" in (await problem_of(answer))["detail"]
    assert world.rows == []


async def test_a_row_that_was_set_aside_goes_in_again_whole_and_is_marked(world: World) -> None:
    body = webhook([alert({"alertname": f"Big{number}"}) for number in range(20_000)])
    with closing(StateStore(world.path)) as store:
        store.quarantine_row(row(1, START, body), "an analyst died of it", front=FRONT)
    answer = await world.ask("/api/v1/quarantine/1/replay", "responder", method="POST")
    assert (answer.status, await answer.json()) == (202, {"id": 101})
    sent, mark = world.rows
    assert sent == ("default", "default", RowKind.WEBHOOK, body)
    assert mark == ("default", "default", RowKind.REPLAYED, b'{"id":1}')
    fill(world.path, [row(2, START, mark[3], kind=mark[2])])
    [item] = (await world.json("/api/v1/quarantine"))["items"]
    assert item["replayed_at"] == "2026-01-05T03:00:00Z"


async def test_bytes_that_are_no_text_are_shown_in_base64(world: World) -> None:
    rejected = json.dumps({"reason": "not UTF-8", "body_base64": "/w=="}).encode()
    fill(world.path, [row(1, START, rejected, kind=RowKind.REJECTED)])
    shown = await world.json("/api/v1/quarantine/1")
    assert shown["body_base64"] == "/w=="
    answer = await world.ask("/api/v1/quarantine/1/replay", "responder", method="POST")
    assert answer.status == 409
    assert "cannot be used" in (await problem_of(answer))["detail"]
    assert world.rows == []


@pytest.mark.parametrize("number", ["0", "2", "x", "9" * 40, "\u0661"])
async def test_there_is_nothing_under_a_number_that_was_not_given(world: World, number: str) -> None:
    await quarantine(world)
    assert (await world.ask(f"/api/v1/quarantine/{number}")).status == 404


@pytest.mark.parametrize("fault", [StoreFullError("no room"), StorageError("closed")])
async def test_a_replay_that_is_not_on_the_disk_is_not_said_to_be(world: World, fault: Exception) -> None:
    with closing(StateStore(world.path)) as store:
        store.quarantine_row(row(1, START, webhook([alert({"alertname": "A"})])), "bad", front=FRONT)
    world.put_fault = fault
    answer = await world.ask("/api/v1/quarantine/1/replay", "responder", method="POST")
    assert answer.status == 503


async def test_a_reload_tells_the_faults_that_kept_the_old_configuration(world: World) -> None:
    answer = await world.ask("/-/reload", "admin", method="POST")
    assert (answer.status, await answer.text()) == (200, "reloaded\n")
    world.reloaded = Reloaded(faults=("tocsin.yaml:3: lisen: unknown key",))
    answer = await world.ask("/-/reload", "admin", method="POST")
    assert answer.status == 400
    assert (await problem_of(answer))["faults"] == list(world.reloaded.faults)


async def test_only_the_first_tenant_reloads_since_the_file_is_about_all_of_them(world: World) -> None:
    world.reloaded = Reloaded(faults=("tocsin.yaml:3: default's token",))
    answer = await world.ask("/-/reload", "token-of-another", method="POST")
    assert answer.status == 403
    assert "faults" not in await problem_of(answer)


async def test_a_reload_tells_what_waits_for_a_restart_and_what_looks_like_a_mistake(world: World) -> None:
    world.reloaded = Reloaded(
        later=("listen", "limits.max_body"), notes=("destinations.a: no route leads here",)
    )
    answer = await world.ask("/-/reload", "admin", method="POST")
    assert answer.status == 200
    assert (await answer.text()).splitlines() == [
        "reloaded",
        "changed, and in force only after a restart: listen, limits.max_body",
        "note: destinations.a: no route leads here",
    ]


# ---- paths that are none -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/webhook", "/v1/alertmanager/", "/v1/alertmanager/a/b", "/api/v1/nope", "/api/v1/incidents/"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_wrong_path_is_told_where_webhooks_go(world: World, path: str, method: str) -> None:
    answer = await world.client.request(method, path)
    assert answer.status == 404
    assert "webhooks go to POST /v1/alertmanager[/SOURCE]" in (await problem_of(answer))["detail"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/api/v1/incidents", "GET, HEAD"),
        ("GET", "/api/v1/deliveries/1/retry", "POST"),
        ("PUT", "/", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(
    world: World, method: str, path: str, allowed: str
) -> None:
    answer = await world.client.request(method, path)
    assert (answer.status, answer.headers["Allow"]) == (405, allowed)
    assert allowed in (await problem_of(answer))["detail"]


async def test_the_root_points_at_what_there_is(world: World) -> None:
    page = await (await world.client.get("/")).text()
    links = set(re.findall(r'href="([^"]+)"', page))
    for link in links - {"/openapi.json"}:  # which describes the intake as well: tests/test_openapi.py
        assert (await world.ask(link, "admin")).status == 200
    assert "/v1/alertmanager" in page


# ---- open to all -------------------------------------------------------------------------------------------


async def test_machines_need_no_token(world: World) -> None:
    assert (await world.client.get("/-/healthy")).status == 200
    assert (await world.client.get("/-/ready")).status == 200
    metrics = await world.client.get("/metrics")
    assert await metrics.text() == "tocsin_ready 1.0\n"
    world.why_not_ready = "no room on the disk"
    answer = await world.client.get("/-/ready")
    assert (answer.status, await answer.text()) == (503, "Tocsin is not ready: no room on the disk\n")


async def test_many_readers_at_once_are_all_answered(world: World) -> None:
    fill(world.path, [row(1, START, firing("One", START))])
    ask: Callable[[], Awaitable[Any]] = lambda: world.json("/api/v1/incidents")  # noqa: E731
    answers = await asyncio.gather(*(ask() for _ in range(30)))
    assert {len(answer["items"]) for answer in answers} == {1}
