"""A cluster behind `_bulk`: its items, its versions, and a cluster that fails in every documented way."""

from __future__ import annotations

import json
import re
import time
from itertools import pairwise
from pathlib import Path
from timeit import repeat
from typing import Any

import pytest
import tenacity
from aiohttp import web
from aiohttp.test_utils import TestServer
from builders import START, episode, event
from cases.elastic import leaves, pairs
from destinations import CASES, build, nasty_event
from pydantic import ValidationError

from bridge.model import Blocked, Delivered, Duplicate, EventKind, Reject, Retry, Split
from bridge.ports import HttpResponse, Rendered
from connectors.transport.http import HttpSender

PAGE = Path(__file__).parents[2] / "docs" / "connectors" / "elastic.md"
KEY = CASES["elastic"]["api_key"]
STREAM = "logs-tocsin.incident-default"


def error(kind: str, reason: str = "why") -> dict[str, str]:
    return {"type": kind, "reason": reason}


#: status of an item, its error, what it leads to.
ITEMS = [
    (201, None, Delivered),
    (200, None, Delivered),
    (409, error("version_conflict_engine_exception", "document already exists (current version [1])"), Duplicate),
    (429, error("es_rejected_execution_exception"), Retry),
    (429, error("cluster_block_exception", "disk usage exceeded flood-stage watermark"), Retry),
    (503, error("unavailable_shards_exception"), Retry),
    (500, error("exception"), Retry),
    (413, error("too_large"), Split),
    (400, error("document_parsing_exception", "failed to parse field [a] of type [date]"), Reject),
    (400, error("mapper_parsing_exception"), Reject),
    (400, error("strict_dynamic_mapping_exception"), Reject),
    (400, error("illegal_argument_exception", "only write ops with an op_type of create are allowed"), Blocked),
    (403, error("security_exception", "action is unauthorized"), Blocked),
    (403, error("cluster_block_exception", "index read-only / allow delete (api)"), Blocked),
    (404, error("index_not_found_exception", "no such index"), Blocked),
]  # fmt: skip


def answer(*items: dict[str, Any], status: int = 200) -> HttpResponse:
    body = {"errors": any("error" in told for item in items for told in item.values()), "items": items}
    return HttpResponse(status=status, headers={}, body=json.dumps(body).encode())


def item(operation: str, status: int, told: dict[str, str] | None = None) -> dict[str, Any]:
    return {operation: {"status": status} | ({"error": told} if told else {})}


def rendered(count: int = 1, case: str = "elastic_stream", **settings: Any) -> Rendered:
    events = [event(EventKind.UPDATED, seq) for seq in range(1, count + 1)]
    return build(case, **settings).render(events, None, "")


@pytest.mark.parametrize(("status", "told", "verdict"), ITEMS)
def test_each_item_leads_to_its_own_verdict_and_not_to_that_of_others(status, told, verdict):
    others = item("create", 201), item("create", 429, error("es_rejected_execution_exception"))

    judged = build("elastic_stream").judge(
        rendered(3), answer(others[0], item("create", status, told), others[1])
    )

    assert [type(each) for each in judged] == [Delivered, verdict, Retry]
    if told and verdict is not Duplicate:
        assert told["reason"] in judged[1].reason


def test_a_busy_cluster_is_given_time_as_a_whole():
    (verdict,) = build("elastic_stream").judge(rendered(), answer(item("create", 429, error("x"))))

    assert isinstance(verdict, Retry)
    assert verdict.whole_destination


@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        (item("index", 201), Delivered),
        (item("index", 409, error("version_conflict_engine_exception")), Delivered),
        (item("index", 503, error("unavailable_shards_exception")), Retry),
        (item("index", 403, error("security_exception")), Blocked),
        (item("index", 400, error("mapper_parsing_exception")), Reject),
    ],
)
def test_an_event_is_delivered_when_its_state_is_too(state, verdict):
    judged = build("elastic").judge(
        rendered(2, "elastic"), answer(item("create", 201), state, item("create", 201), item("index", 200))
    )

    assert [type(each) for each in judged] == [verdict, Delivered]
    if verdict in {Retry, Blocked, Reject}:
        assert "item of the state" in judged[0].reason


def test_an_answer_that_was_cut_is_asked_for_again_in_smaller_batches():
    whole = answer(*(item("create", 400, error("document_parsing_exception")) for _ in range(3))).body
    cut = HttpResponse(status=200, headers={}, body=whole[:-10])

    assert {type(each) for each in build("elastic_stream").judge(rendered(3), cut)} == {Split}
    assert {type(each) for each in build("elastic_stream").judge(rendered(1), cut)} == {Blocked}


def test_a_refusal_of_the_whole_request_throws_no_event_away():
    refused = HttpResponse(
        status=400, headers={}, body=b'{"error":{"type":"illegal_argument_exception"},"status":400}'
    )

    assert {type(each) for each in build("elastic_stream").judge(rendered(3), refused)} == {Blocked}


def test_what_is_no_incident_has_no_state():
    forecast = event(EventKind.FORECAST)

    operations = [
        operation for operation, _ in pairs(build("elastic").render([forecast], None, "").request.body)
    ]

    assert [*operations[0]] == ["create"]
    assert len(operations) == 1


def test_what_an_analyst_searches_by_stands_in_the_fields_of_ecs():
    nodes = tuple(
        episode(
            "NodeDown", number,
            labels={"alertname": "NodeDown", "node": f"db-{number}", "cluster": "eu-1", "namespace": "shop"},
            annotations={"summary": "it is down", "runbook_url": "https://runbooks.example/node"},
        )
        for number in range(30)
    )  # fmt: skip
    sent = build("elastic").render([event(EventKind.CLOSED, 9, episodes=nodes)], None, "").request.body
    (created, document), (indexed, state) = pairs(sent)

    assert created["create"]["_id"] == document["event"]["id"]
    assert indexed["index"] == {
        "_index": "tocsin-incidents", "_id": f"default:{document['tocsin']['incident']['id']}",
        "version": 9, "version_type": "external",
    }  # fmt: skip
    assert "original" not in state["event"]
    assert state["event"]["id"] == document["event"]["id"]
    fields = leaves(document)
    assert fields["rule.name"] == "NodeDown"
    assert fields["related.hosts"] == [f"db-{number}" for number in range(30)]
    assert fields["orchestrator.cluster.name"] == "eu-1"
    assert fields["event.type"] == ["end"]
    assert fields["event.duration"] == 9_000_000_000
    assert fields["event.reference"] == "https://runbooks.example/node"
    assert len(document["tocsin"]["alerts"]) == 20
    assert document["tocsin"]["alerts_not_listed"] == 10
    assert json.loads(document["event"]["original"])["incident"]["alerts_total"] == 30


def test_labels_cannot_become_fields_that_fight_each_other():
    labels = {"a": "1", "a.b": "2", "": "3", "..": "4", "x" * 500: "5"} | {f"l{n}": "v" for n in range(99)}
    document = pairs(rendered_of(common_labels=labels))[0][1]

    assert document["labels"]["a"] == "1"
    assert document["labels"]["a_b"] == "2"
    assert len(document["labels"]) == 32
    assert all(re.fullmatch(r"\w{1,64}", name, re.ASCII) for name in document["labels"])


def rendered_of(**changes: Any) -> bytes:
    return build("elastic_stream").render([event(**changes)], None, "").request.body


def test_the_template_in_the_docs_has_every_field_that_is_sent():
    blocks = re.findall(r"```json\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    mappings = json.loads(blocks[0])["template"]["mappings"]
    known = {
        re.sub(r"\.?properties\.?", ".", path).strip(".").removesuffix(".type").removesuffix(".ignore_above")
        for path in leaves(mappings["properties"])
    }
    events = [
        nasty_event(size=100, count=4),
        event(EventKind.CLOSED, 3),
        event(merged_into="x", split_from="y"),
    ]

    for each in events:
        for _, document in pairs(build("elastic").render([each], None, "").request.body):
            document.pop("labels", None)
            assert set(leaves(document)) <= known


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"username": "u"}, "go together"),
        ({"username": "u", "password": "p"}, "either api_key or"),
        ({"api_key": None, "password": "p"}, "go together"),
        ({"data_stream": "Logs-*"}, "data_stream"),
        ({"state_index": "a/b"}, "state_index"),
        ({"url": "https://h/?pretty"}, "no \\? and no #"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, said):
    with pytest.raises(ValidationError, match=said):
        build("elastic", **changes)


def test_an_ordinary_event_is_rendered_in_less_than_200_us():
    connector, ordinary = build("elastic"), event(episodes=3)

    seconds = min(
        repeat(lambda: connector.render([ordinary], None, ""), timer=time.thread_time, number=1, repeat=300)
    )

    assert seconds < 200e-6 * 2  # a machine that tests run on is not idle


# ---- a cluster --------------------------------------------------------------------------------------------


class Cluster:
    """A fake with the documented semantics of `create` and external versions; faults are queued in `faults`."""

    def __init__(self) -> None:
        self.documents: dict[tuple[str, str], tuple[int, dict[str, Any]]] = {}
        self.faults: list[str] = []
        self.key = KEY

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/_bulk", self.bulk)
        app.router.add_get("/", self.root)
        return app

    async def root(self, request: web.Request) -> web.Response:
        if request.headers.get("authorization") != f"ApiKey {self.key}":
            return self.refused(401, "unable to authenticate with provided credentials")
        if "may only write" in self.faults:
            return self.refused(403, "action [cluster:monitor/main] is unauthorized for API key")
        return web.json_response({"version": {"number": "9.4.0"}, "tagline": "You Know, for Search"})

    @staticmethod
    def refused(status: int, reason: str) -> web.Response:
        return web.json_response(
            {"error": {"type": "security_exception", "reason": reason}, "status": status}, status=status
        )

    async def bulk(self, request: web.Request) -> web.Response:
        if request.headers.get("authorization") != f"ApiKey {self.key}":
            return self.refused(401, "unable to authenticate with provided credentials")
        assert request.query["filter_path"].startswith("errors,items.*.status,")
        assert request.content_type == "application/x-ndjson"
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "too large":
            raise web.HTTPRequestEntityTooLarge(max_size=1, actual_size=2)
        items = [
            self.take(*operation.popitem(), document, busy=fault == "busy" and number == 0)
            for number, (operation, document) in enumerate(pairs(await request.read()))
        ]
        if fault == "reset after accept":
            assert request.transport is not None
            request.transport.abort()
        return web.json_response({"errors": True, "items": items})

    def take(self, operation: str, where: dict, document: dict, *, busy: bool) -> dict[str, Any]:
        key, version = (where["_index"], where["_id"]), where.get("version", 1)
        if busy:
            return item(operation, 429, error("es_rejected_execution_exception"))
        known = self.documents.get(key)
        if known is not None and (operation == "create" or version <= known[0]):
            return item(operation, 409, error("version_conflict_engine_exception"))
        self.documents[key] = (version, document)
        return item(operation, 201)

    def of(self, index: str) -> list[dict[str, Any]]:
        return [document for (name, _), (_, document) in self.documents.items() if name == index]


@pytest.fixture
async def cluster():
    fake = Cluster()
    async with TestServer(fake.app()) as server:
        fake.url = str(server.make_url("/"))
        yield fake


@pytest.fixture
async def sender():
    sender = HttpSender(wait=tenacity.wait_none())
    yield sender
    await sender.close()


async def deliver(cluster: Cluster, sender: HttpSender, batch: Rendered, **settings: Any):
    connector = build("elastic", url=cluster.url, **settings)
    response = await sender.send(connector.seal(batch.request, batch.event_ids, START), timeout_s=10)
    return connector.judge(batch, response)


async def test_a_repeat_is_one_document_and_the_newest_state_stays(cluster, sender):
    both = rendered(2, "elastic")
    cluster.faults = ["reset after accept"]

    lost = await deliver(cluster, sender, both)
    again = await deliver(cluster, sender, both)
    first = build("elastic").render([event(EventKind.UPDATED, 1)], None, "")
    late = await deliver(cluster, sender, first)

    assert all(isinstance(each, Retry) and each.maybe_sent for each in lost)
    assert again == (Duplicate(),) * 2
    assert late == (Duplicate(),)
    assert sorted(each["event"]["sequence"] for each in cluster.of(STREAM)) == [1, 2]
    assert [each["event"]["sequence"] for each in cluster.of("tocsin-incidents")] == [2]


async def test_states_that_come_in_any_order_end_with_the_newest(cluster, sender):
    for seq in (3, 1, 4, 2):
        await deliver(cluster, sender, build("elastic").render([event(EventKind.UPDATED, seq)], None, ""))

    (state,) = cluster.of("tocsin-incidents")
    assert state["event"]["sequence"] == 4
    assert len(cluster.of(STREAM)) == 4


async def test_only_what_a_busy_cluster_did_not_take_goes_again(cluster, sender):
    cluster.faults = ["busy"]

    verdicts = await deliver(cluster, sender, rendered(3, "elastic"))

    assert [type(each) for each in verdicts] == [Retry, Delivered, Delivered]


async def test_a_request_that_is_too_large_is_split(cluster, sender):
    cluster.faults = ["too large"]

    assert {type(each) for each in await deliver(cluster, sender, rendered(2, "elastic"))} == {Split}


async def test_a_wrong_key_blocks_and_a_corrected_one_delivers_the_same_bytes(cluster, sender):
    batch = rendered(1, "elastic")

    (refused,) = await deliver(cluster, sender, batch, api_key="d3Jvbmc=")
    (taken,) = await deliver(cluster, sender, batch)

    assert isinstance(refused, Blocked)
    assert "unable to authenticate" in refused.reason
    assert "d3Jvbmc=" not in refused.reason
    assert taken == Delivered()


@pytest.mark.parametrize(
    ("fault", "key", "good"), [("", KEY, True), ("may only write", KEY, True), ("", "eA==", False)]
)
async def test_the_probe_tells_a_wrong_key_from_one_that_may_only_write(cluster, sender, fault, key, good):
    cluster.faults = [fault]
    connector = build("elastic", url=cluster.url, api_key=key)
    probe = Rendered(request=connector.probe(), event_ids=("x",))

    response = await sender.send(connector.seal(probe.request, (), START), timeout_s=10)

    assert isinstance(connector.judge(probe, response)[0], Delivered if good else Blocked)
    assert cluster.documents == {}


def test_several_events_of_one_request_keep_their_order():
    sequences = [document["event"]["sequence"] for _, document in pairs(rendered(5).request.body)]

    assert all(first < second for first, second in pairwise(sequences))
