"""No way across: two tenants that hold the same, every endpoint, every method of every store that is asked for them.

Endpoints are taken from the router and methods from the readers themselves, so that a new one cannot be forgotten: it
fails here until it is said how it is asked, or why it belongs to everybody.
"""

from __future__ import annotations

import inspect
import json
import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
from desks import Desk, kept
from neighbours import OPERATOR, TENANTS, Neighbours, lived
from timeline import START

from bridge.analysis.erasing import Erase
from bridge.analysis.feedback import EpisodeRef, FeedbackKind
from bridge.app.auditing import AuditLog
from bridge.delivery import OutboxRow
from bridge.model import RowKind
from bridge.storage.deliveries import DeliveryStore
from bridge.storage.deliveries.reading import DeliveryReader
from bridge.storage.reading import StateReader

Lived = tuple[Desk, list[OutboxRow]]
MINE, THEIRS = TENANTS
#: Paths that show nothing of any tenant, and answer everybody alike.
OPEN = {"/", "/-/healthy", "/-/ready", "/metrics", "/openapi.json"}
#: What is asked of each path that shows a tenant's own: query strings, `{incident}` stands for one of its ids.
READ = {
    "/api/v1/incidents": ("", "?limit=1", "?state=open,quiet,closed,merged", "?severity=critical", "?id={incident}",
                          "?since=2026-01-05T03:00:00Z"),
    "/api/v1/incidents/{id}": ("",),
    "/api/v1/bi/incidents": ("", "?limit=1", "?state=open,quiet,closed,merged", "?until=2027-01-05T03:00:00Z"),
    "/api/v1/bi/incidents.csv": ("", "?limit=1", "?since=2026-01-05T03:00:00Z"),
    "/api/v1/deliveries": ("", "?limit=1", "?state=dead", "?destination=file", "?incident={incident}"),
    "/api/v1/quarantine": ("", "?limit=1"),
    "/api/v1/quarantine/{id}": ("",),
    "/api/v1/models": ("",),
    "/api/v1/forecasts": ("",),
    "/api/v1/recommendations": ("",),
    "/api/v1/topology": ("",),
    "/api/v1/stats": ("",),
    "/api/v1/export": ("", "?format=jsonl", "?since=2026-01-05T09:00:00Z"),
    "/api/v1/audit": ("", "?limit=1"),
    "/api/v1/erase": ("",),
}  # fmt: skip
#: What is done to a thing of each path: verbs with their bodies; `{other}` stands for another incident of the owner.
ACT = {
    "/api/v1/incidents/{id}/{verb}": {
        "ack": {}, "close": {"confirm": True}, "note": {"text": "mine now"}, "merge": {"into": "{other}"},
        "split": {"episodes": [{"fingerprint": "{fingerprint}", "starts_at": START.isoformat()}]},
        "feedback": {"kind": "false_alarm"},
    },
    "/api/v1/actions/{id}/undo": {"": {}},
    "/api/v1/deliveries/{id}/{action}": {"retry": {}, "drop": {}},
    "/api/v1/quarantine/{id}/replay": {"": {}},
}  # fmt: skip
#: Where a tenant sends: what comes in is its own, whatever it names.
SEND = {f"/v1/{kind}{rest}" for kind in ("alertmanager", "grafana", "recorder") for rest in ("", "/{source}")}
#: Where what people press elsewhere comes in, of an incident that it names.
PRESS = {
    "/v1/slack": ("payload", {"type": "block_actions", "user": {"id": "U1"},
                              "actions": [{"action_id": "tocsin_ack", "value": "{incident}"}]}),
    "/v1/pagerduty": ("", {"event": {"id": "E1", "event_type": "incident.acknowledged",
                                     "agent": {"type": "user_reference", "id": "P1"},
                                     "data": {"incident_key": "{incident}/e0"}}}),
}  # fmt: skip
#: What has to name the tenant that asks.
NAMED = {"/api/v1/erase"}
#: Of the operator's tenant alone.
OPERATORS = {"/-/reload"}
#: What has no HEAD, since it has no length before it is read.
STREAMED = {"/api/v1/export"}
LISTS = ("incidents", "bi/incidents", "deliveries", "quarantine", "audit")


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Lived]]:
    folder = tmp_path_factory.mktemp("neighbours")
    with lived(folder) as both:
        yield folder, both


@pytest.fixture
async def both(past: tuple[Path, Lived], tmp_path: Path) -> AsyncIterator[Neighbours]:
    (tmp_path / "state.db").symlink_to(past[0] / "state.db")
    neighbours = Neighbours(tmp_path)
    await neighbours.begin(past[1][1])
    async with neighbours.answering():
        yield neighbours


class Things:
    """The ids of what one tenant has."""

    def __init__(self, incidents: list[str], action: str, deliveries: list[str], entries: list[str]) -> None:
        self.incidents, self.action, self.deliveries, self.entries = incidents, action, deliveries, entries

    @classmethod
    async def of(cls, both: Neighbours, tenant: str) -> Things:
        listed = {name: (await both.json(tenant, f"/api/v1/{name}"))["items"] for name in LISTS}
        return cls(
            [each["incident"] for each in listed["incidents"]], f"act-of-{tenant}",
            [str(each["id"]) for each in listed["deliveries"]], [str(each["id"]) for each in listed["quarantine"]],
        )  # fmt: skip

    def of_path(self, path: str) -> list[str]:
        found = {"incidents": self.incidents, "actions": [self.action], "deliveries": self.deliveries,
                 "quarantine": self.entries}  # fmt: skip
        return found[path.split("/")[3]]

    def filled(self, text: str) -> str:
        filled = text.replace("{incident}", self.incidents[0]).replace("{other}", self.incidents[-1])
        return filled.replace("{fingerprint}", "0" * 16)


def paths_of(both: Neighbours) -> set[tuple[str, str]]:
    """Return method and path of everything that the front answers."""
    routes = both.listening._runner.app.router.routes()
    return {(route.method, route.resource.canonical) for route in routes}


def asked_of(things: Things, path: str) -> list[str]:
    """Return the addresses with which a tenant's things are read at a path."""
    if "{id}" in path:
        return [path.replace("{id}", name) for name in things.of_path(path)]
    return [path + things.filled(query) for query in READ[path]]


def done_to(things: Things, path: str) -> list[tuple[str, bytes]]:
    """Return the addresses and bodies with which a tenant's things are acted on at a path."""
    return [
        (re.sub(r"\{(verb|action)\}", verb, path).replace("{id}", name), things.filled(json.dumps(body)).encode())
        for name in things.of_path(path)
        for verb, body in ACT[path].items()
    ]  # fmt: skip


def as_if_unknown(text: str) -> str:
    """Return an address or body in which every id is one that never was."""
    named = re.sub(r"(?<=inc-|act-)[0-9a-z-]+", lambda found: "9" * len(found[0]), text)
    return re.sub(r"(?<=/)[0-9]+(?=/|$)", "9999", named)


def without_ids(answer: tuple[int, dict[str, str], bytes], asked: str) -> tuple[int, dict[str, str], bytes]:
    """Return an answer without what it repeats of the question."""
    status, headers, body = answer
    for name in re.findall(r"(?:inc|act)-[0-9a-z-]+", asked):
        body = body.replace(name.encode(), b"ID")
    return status, headers, body


async def test_it_is_said_how_every_endpoint_is_asked(both: Neighbours) -> None:
    said = {("GET", path) for path in {*OPEN, *READ}} | {("HEAD", path) for path in {*OPEN, *READ} - STREAMED}
    said |= {("POST", path) for path in {*ACT, *SEND, *PRESS, *NAMED, *OPERATORS}}
    said |= {("PUT", path) for path in SEND if "grafana" in path}
    assert paths_of(both) == said


async def test_a_tenant_reads_its_own_and_nothing_of_another(both: Neighbours) -> None:
    for reader, other in ((MINE, THEIRS), (THEIRS, MINE)):
        things, foreign = await Things.of(both, reader), await Things.of(both, other)
        assert not set(things.incidents) & set(foreign.incidents)
        secret = [other, *foreign.incidents]
        for path in READ:
            own = ""
            for address in asked_of(things, path):
                for method in ("GET",) if path in STREAMED else ("GET", "HEAD"):
                    status, headers, body = await both.ask(reader, method, address)
                    assert status == 200, (address, body)
                    shown = f"{headers}{body.decode()}"
                    assert not [each for each in secret if each in shown], (
                        f"{address} shows {reader} another's"
                    )
                    own += shown
            assert reader in own, f"{path} shows {reader} nothing of its own: this test shows nothing of it"


async def test_what_is_another_tenants_is_answered_as_if_it_did_not_exist(both: Neighbours) -> None:
    foreign = await Things.of(both, THEIRS)
    asked = [
        ("GET", address, b"")
        for path in READ
        for address in asked_of(foreign, path)
        if "inc-" in address or "{id}" in path
    ]
    asked += [("POST", address, body) for path in ACT for address, body in done_to(foreign, path)]
    assert len(asked) > 40
    for method, address, body in asked:
        theirs = await both.ask(MINE, method, address, body)
        nobodys = await both.ask(MINE, method, as_if_unknown(address), as_if_unknown(body.decode()).encode())
        assert without_ids(theirs, f"{address} {body.decode()}") == without_ids(
            nobodys, as_if_unknown(f"{address} {body.decode()}")
        ), address


async def test_actions_change_nothing_of_another(both: Neighbours) -> None:
    def of_theirs() -> list[object]:
        with closing(sqlite3.connect(both.folder / "delivery.db")) as db:
            rows = db.execute("SELECT * FROM delivery WHERE tenant = ? ORDER BY id", (THEIRS,)).fetchall()
            rows += db.execute("SELECT * FROM line WHERE tenant = ? ORDER BY incident", (THEIRS,)).fetchall()
        audit = both.log.page(THEIRS, limit=1000, cursor=None)
        return [rows, audit, [each for each in both.box.rows if each[0] == THEIRS]]

    foreign, own, before = await Things.of(both, THEIRS), await Things.of(both, MINE), of_theirs()
    for path in ACT:
        for address, body in done_to(foreign, path):
            status, _, told = await both.ask(MINE, "POST", address, body)
            assert status in {400, 404}, (address, told)
        # The same on its own works, or this would show nothing; and naming another's thing beside it does not help.
        done = [await both.ask(MINE, "POST", address, body) for address, body in done_to(own, path)]
        assert 202 in {status for status, _, _ in done}, (path, done)
    into = {"into": foreign.incidents[0]}
    status, _, _ = await both.ask(
        MINE, "POST", f"/api/v1/incidents/{own.incidents[0]}/merge", json.dumps(into).encode()
    )
    assert status == 404
    for path in SEND:
        address = path.replace("{source}", f"am-{THEIRS}")
        status, _, _ = await both.ask(MINE, "POST", address, b'{"alerts": [{}]}')
        assert status in {200, 400}
    assert of_theirs() == before
    assert {tenant for tenant, *_ in both.box.rows} == {MINE}


def pressed(path: str, incident: str) -> bytes:
    field, body = PRESS[path]
    text = json.dumps(body).replace("{incident}", incident)
    return (urlencode({field: text}) if field else text).encode()


async def test_what_is_pressed_reaches_no_incident_of_another(both: Neighbours) -> None:
    foreign, own = await Things.of(both, THEIRS), await Things.of(both, MINE)
    for path in PRESS:
        theirs = await both.ask(MINE, "POST", path, pressed(path, foreign.incidents[0]))
        nobodys = await both.ask(MINE, "POST", path, pressed(path, as_if_unknown(foreign.incidents[0])))
        assert without_ids(theirs, foreign.incidents[0]) == without_ids(
            nobodys, as_if_unknown(foreign.incidents[0])
        )
        assert both.box.rows == []
        status, _, told = await both.ask(MINE, "POST", path, pressed(path, own.incidents[0]))
        assert (status, len(json.loads(told)["actions"])) == (200, 1), told
        assert [tenant for tenant, *_ in both.box.rows] == [MINE]
        both.box.rows.clear()


async def test_nobody_erases_or_counts_what_is_another_s(both: Neighbours) -> None:
    def wish(tenant: str, of: str) -> bytes:
        label = {"name": "host", "value": f"host-{of}"}
        return json.dumps({"tenant": tenant, "label": label, "dry_run": True}).encode()

    theirs = await both.ask(MINE, "POST", "/api/v1/erase", wish(THEIRS, THEIRS))
    assert theirs == await both.ask(MINE, "POST", "/api/v1/erase", wish("nobody", "nobody"))
    assert theirs[0] == 403
    found = [json.loads((await both.ask(MINE, "POST", "/api/v1/erase", wish(MINE, of)))[2]) for of in TENANTS]
    assert [each["counts"]["episodes"] for each in found] == [1, 0]
    assert both.box.rows == []


async def test_a_cursor_of_one_tenant_is_none_of_another(both: Neighbours) -> None:
    for name in LISTS:
        page = await both.json(THEIRS, f"/api/v1/{name}?limit=1")
        assert page["next"], name
        theirs = await both.ask(MINE, "GET", f"/api/v1/{name}?limit=1&cursor={page['next']}")
        made_up = await both.ask(MINE, "GET", f"/api/v1/{name}?limit=1&cursor=nonsense")
        assert theirs[0] == 400
        assert theirs == made_up, name
        more = await both.json(THEIRS, f"/api/v1/{name}?limit=1&cursor={page['next']}")
        assert more["items"], name


async def test_a_filter_names_only_the_destinations_that_a_tenant_has(both: Neighbours) -> None:
    status, _, body = await both.ask(MINE, "GET", f"/api/v1/deliveries?destination=siem-{THEIRS}")
    assert status == 400
    assert json.loads(body)["detail"] == f"destination: must be one of file, siem-{MINE}"
    assert body == (await both.ask(MINE, "GET", f"/api/v1/deliveries?destination=siem-{'x' * 5}"))[2]


async def test_the_configuration_and_its_faults_are_the_operators(both: Neighbours) -> None:
    for tenant in TENANTS:
        status, _, body = await both.ask(tenant, "POST", "/-/reload", b"")
        assert (status, MINE in body.decode() or THEIRS in body.decode()) == (403, False)
    assert (await both.ask(OPERATOR, "POST", "/-/reload", b""))[0] == 200


async def test_what_is_open_answers_everybody_alike(both: Neighbours) -> None:
    for path in OPEN:
        answers = [await both.ask(tenant, "GET", path) for tenant in (*TENANTS, "nobody")]
        assert answers[0] == answers[1] == answers[2], path
        assert not [each for each in TENANTS if each in answers[0][2].decode()]


# ---- the stores themselves -------------------------------------------------------------------------------

Ask = Callable[[Any, str, Things], Any]
#: How each method that is asked for one tenant is asked for another's things.
ASKED: dict[str, Ask] = {
    "StateReader.incidents": lambda it, tenant, _: it.incidents(tenant, limit=1000),
    "StateReader.flat_incidents": lambda it, tenant, _: it.flat_incidents(tenant, limit=1000),
    "StateReader.incident": lambda it, tenant, of: [it.incident(tenant, each) for each in of.incidents],
    "StateReader.standing": lambda it, tenant, of: [it.standing(tenant, each) for each in of.incidents],
    "StateReader.action": lambda it, tenant, of: it.action(tenant, of.action),
    "StateReader.erasures": lambda it, tenant, _: it.erasures(tenant),
    "StateReader.erasing": lambda it, tenant, _: [it.erasing(tenant, f"era-{each}") for each in TENANTS],
    "StateReader.meant": lambda it, tenant, _: it.meant(tenant, Erase(id="era", fingerprint="f"), START),
    "StateReader.quarantine": lambda it, tenant, _: it.quarantine(tenant, limit=1000),
    "StateReader.quarantined": lambda it, tenant, of: [it.quarantined(tenant, int(each)) for each in of.entries],
    "StateReader.topology": lambda it, tenant, _: it.topology(tenant, limit=100),
    "StateReader.models": lambda it, tenant, _: it.models(tenant),
    "StateReader.forecasts": lambda it, tenant, _: it.forecasts(tenant),
    "StateReader.recommendations": lambda it, tenant, _: it.recommendations(tenant),
    "StateReader.stats": lambda it, tenant, _: it.stats(tenant),
    "StateReader.incident_lines": lambda it, tenant, _: it.incident_lines(tenant),
    "StateReader.history_lines": lambda it, tenant, _: it.history_lines(tenant),
    "DeliveryStore.listed": lambda it, tenant, _: it.listed(tenant, limit=1000),
    "DeliveryStore.of_incident": lambda it, tenant, of: [it.of_incident(tenant, each) for each in of.incidents],
    "DeliveryStore.counts": lambda it, tenant, _: it.counts(tenant),
    "DeliveryStore.destinations": lambda it, tenant, _: it.destinations(tenant),
    "AuditLog.page": lambda it, tenant, _: it.page(tenant, limit=1000, cursor=None),
}  # fmt: skip
#: Methods that are asked for a tenant and change something: `test_actions_change_nothing_of_another`.
CHANGING = {"DeliveryStore.erase", "DeliveryStore.retry", "DeliveryStore.drop", "AuditLog.end"}
#: Methods that are asked for no tenant: for the process itself, never for somebody who asks.
EVERYBODYS = {
    "StateReader.all_incidents",  # the report of an operator's command
    "StateReader.position", "StateReader.charts", "StateReader.measured_until",  # where a front begins
    "StateReader.stored",  # of the front, which looks whose quota is full
    "AuditLog.prune", "DeliveryStore.newest_request", "DeliveryStore.write_anew",  # of the front's chores
    "AuditLog.begin", "AuditLog.write",  # the entry says whose it is
    "DeliveryStore.close", "DeliveryStore.follow_clock", "DeliveryStore.outstanding",
    # of the dispatcher, which serves all tenants by their destinations
    *(f"DeliveryStore.{name}" for name in (
        "recover", "adopt", "cursor", "rewind", "take_in", "due", "claim", "reclaim", "unclaim", "thaw", "settle",
        "hasten", "backlog", "free_bytes", "thaw_overtaken", "crowded", "give_up", "divert", "tidy",
    )),
}  # fmt: skip


def methods() -> Iterator[tuple[str, bool]]:
    """Yield the name of every public method of the readers, and whether it is asked for a tenant."""
    for reader in (StateReader, DeliveryStore, AuditLog):
        for name, each in inspect.getmembers(reader):
            if not name.startswith("_"):
                asks = callable(each) and "tenant" in inspect.signature(each).parameters
                yield f"{reader.__name__}.{name}", asks


def test_it_is_said_how_every_method_of_a_store_is_asked() -> None:
    assert issubclass(DeliveryStore, DeliveryReader)
    found = dict(methods())
    assert {name for name, asks in found.items() if asks} == ASKED.keys() | CHANGING
    assert {name for name, asks in found.items() if not asks} == EVERYBODYS


async def test_a_store_tells_nothing_of_another_tenant(both: Neighbours) -> None:
    stores = {"StateReader": both.reading, "DeliveryStore": both.deliveries, "AuditLog": both.log}
    own, foreign = await Things.of(both, MINE), await Things.of(both, THEIRS)
    secret = [THEIRS, *foreign.incidents]
    for name, ask in ASKED.items():
        store = stores[name.partition(".")[0]]
        shown = "".join(told(ask(store, MINE, of)) for of in (own, foreign))
        assert not [each for each in secret if each in shown], name
        assert MINE in shown or name in {
            "StateReader.standing",
            "StateReader.erasing",
            "StateReader.meant",
            "DeliveryStore.counts",
        }, f"{name} shows nothing"
        nobody = told(ask(store, "nobody", own))
        assert not [each for each in TENANTS if each in nobody], name


async def test_a_store_changes_nothing_for_another_tenant(both: Neighbours) -> None:
    foreign = await Things.of(both, THEIRS)
    for delivery in foreign.deliveries:
        assert not await both.deliveries.retry(MINE, delivery)
        assert not await both.deliveries.drop(MINE, delivery)
    await both.deliveries.erase(MINE, 2**62, lambda _: "")
    assert vars(await Things.of(both, THEIRS)) == vars(foreign)


def told(answer: object) -> str:
    return f"{answer!r} {msgspec.json.encode(answer, enc_hook=repr).decode()}"


# ---- the thinking ----------------------------------------------------------------------------------------


def test_what_one_says_of_another_s_incidents_changes_nothing_of_theirs(tmp_path: Path) -> None:
    """Straight into the inbox, past every check of the API: the thinking itself keeps them apart."""

    def of_theirs() -> dict[str, list[tuple[Any, ...]]]:
        return {
            table: [row for row in rows if THEIRS in row and table != "history"]
            for table, rows in kept(tmp_path / "state.db").items()
        }

    with lived(tmp_path) as (desk, _):
        theirs = list(desk.state.tenants[THEIRS].groups)
        refs = tuple(
            EpisodeRef(fingerprint=each.fingerprint, starts_at=each.starts_at)
            for group in desk.state.tenants[THEIRS].groups.values()
            for each in group.episodes.values()
        )
        before = of_theirs()
        assert any(before.values())
        for number, kind in enumerate(FeedbackKind):
            for incident in theirs:
                said = {
                    "action": f"act-{number}-{incident}", "kind": kind, "incident": incident, "into": theirs[0],
                    "undoes": f"act-of-{THEIRS}", "text": "mine now", "confirm": True,
                    "episodes": msgspec.to_builtins(refs[:3]),
                }  # fmt: skip
                desk.take("8h", RowKind.FEEDBACK, msgspec.json.encode(said), MINE)
        assert of_theirs() == before
