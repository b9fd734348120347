"""Splunk's collector: its codes, its batches, and a collector that fails in every documented way."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import tenacity
from aiohttp import web
from aiohttp.test_utils import TestServer
from builders import START, episode, event
from destinations import build
from pydantic import ValidationError

from bridge.model import Blocked, Delivered, EventKind, Pending, Reject, Retry, Split
from bridge.ports import HttpResponse, Rendered, Unreached
from connectors.transport.http import HttpSender

TOKEN = "0aa11bb2-0000-4000-8000-0123456789ab"
#: Source: help.splunk.com, "Troubleshoot HTTP Event Collector"; status, code, text, what it leads to here.
CODES = [
    (200, 0, "Success", Delivered),
    (403, 1, "Token disabled", Blocked),
    (401, 2, "Token is required", Blocked),
    (401, 3, "Invalid authorization", Blocked),
    (403, 4, "Invalid token", Blocked),
    (400, 5, "No data", Reject),
    (400, 6, "Invalid data format", Reject),
    (400, 7, "Incorrect index", Blocked),
    (500, 8, "Internal server error", Retry),
    (503, 9, "Server is busy", Retry),
    (400, 10, "Data channel is missing", Blocked),
    (400, 11, "Invalid data channel", Blocked),
    (400, 12, "Event field is required", Reject),
    (400, 13, "Event field cannot be blank", Reject),
    (400, 14, "ACK is disabled", Blocked),
    (400, 15, "Error in handling indexed fields", Reject),
    (400, 16, "Query string authorization is not enabled", Blocked),
    (200, 17, "HEC is healthy", Delivered),
    (503, 18, "HEC is unhealthy, queues are full", Retry),
    (400, 21, "Invalid token", Blocked),
    (400, 22, "Token disabled", Blocked),
    (503, 23, "Server is shutting down", Retry),
    (429, 26, "Queue at capacity", Retry),
    (400, 9, "a busy server behind a proxy that changes statuses", Retry),
    (400, 99, "something new", Blocked),
    (405, None, "a server that is no collector", Blocked),
    (407, None, "a proxy wants credentials", Blocked),
    (400, None, "The plain HTTP request was sent to HTTPS port", Blocked),
]


def answer(status: int, **fields) -> HttpResponse:
    return HttpResponse(status=status, headers={}, body=json.dumps(fields).encode())


def rendered(count: int = 1) -> Rendered:
    return build("splunk").render([event(EventKind.UPDATED, seq) for seq in range(1, count + 1)], None, "")


@pytest.mark.parametrize(("status", "code", "text", "verdict"), CODES)
def test_every_documented_code_leads_to_its_verdict(status, code, text, verdict):
    (judged,) = build("splunk").judge(rendered(), answer(status, code=code, text=text))

    assert type(judged) is verdict
    if not isinstance(judged, Delivered):
        assert ("write https://" if "HTTPS port" in text else text) in judged.reason


def test_one_bad_event_is_rejected_and_the_others_go_again():
    refused = answer(400, text="Invalid data format", code=6, **{"invalid-event-number": 1})

    verdicts = build("splunk").judge(rendered(3), refused)

    assert [type(verdict) for verdict in verdicts] == [Retry, Reject, Retry]
    assert verdicts[0].maybe_sent


@pytest.mark.parametrize("number", [None, -1, 3, "1", 1.0])
def test_a_bad_event_that_is_not_named_is_looked_for_in_smaller_batches(number):
    refused = answer(400, text="Invalid data format", code=6, **{"invalid-event-number": number})

    assert [type(verdict) for verdict in build("splunk").judge(rendered(3), refused)] == [Split] * 3


@pytest.mark.parametrize("body", [b"", b"<html>Please log in</html>", b'{"ok":true}', b'{"code":true}'])
def test_a_200_that_is_no_collectors_blocks_and_loses_nothing(body):
    (verdict,) = build("splunk").judge(rendered(), HttpResponse(status=200, headers={}, body=body))

    assert isinstance(verdict, Blocked)


def test_a_batch_is_json_objects_back_to_back():
    decoder, text, ids = json.JSONDecoder(), rendered(3).request.body.decode(), []
    while text:
        record, end = decoder.raw_decode(text)
        ids.append(record["fields"]["event_id"])
        assert record["event"]["event_id"] == record["fields"]["event_id"]
        text = text[end:].lstrip("\n")

    assert tuple(ids) == rendered(3).event_ids


@pytest.mark.parametrize(
    "url", ["https://h:8088/services/collector", "https://h:8088/?a=1", "https://h:8088/#x"]
)
def test_an_address_is_scheme_host_and_port(url):
    with pytest.raises(ValidationError, match="scheme, host and port only"):
        build("splunk", url=url)


def test_without_an_index_the_tokens_own_is_used():
    body = build("splunk", index=None).render([event()], None, "").request.body

    assert "index" not in json.loads(body)


def test_what_a_soc_searches_by_is_indexed():
    nodes = tuple(
        episode(
            "NodeDown", number, labels={"alertname": "NodeDown", "node": f"db-{number}", "cluster": "eu-1"}
        )
        for number in range(30)
    )
    fields = json.loads(build("splunk").render([event(episodes=nodes)], None, "").request.body)["fields"]

    assert (fields["state"], fields["severity"], fields["origin"]) == ("open", "critical", "alerts")
    assert (fields["signature"], fields["cluster"]) == (["NodeDown"], ["eu-1"])
    assert fields["dest"] == [f"db-{number}" for number in range(20)]  # as many as are worth an index
    assert "namespace" not in fields  # HEC wants no empty field
    assert all(isinstance(value, str | list) for value in fields.values())


# ---- indexer acknowledgement --------------------------------------------------------------------------------


def pending(**answered: Any) -> tuple[Any, Rendered, Any]:
    """Return a connector, what it sent, and what it makes of an answer that accepts it."""
    connector = build("splunk", indexer_acknowledgement=True)
    sent = connector.render([event(EventKind.UPDATED, seq) for seq in (1, 2)], None, "")
    (verdict, same) = connector.judge(sent, answer(200, text="Success", code=0, **answered))
    assert verdict == same
    return connector, sent, verdict


def test_what_is_accepted_is_pending_under_the_number_of_its_own_channel():
    connector, sent, verdict = pending(ackId=7)
    again = connector.render([event(EventKind.UPDATED, seq) for seq in (1, 2)], None, "")
    other = connector.render([event(EventKind.UPDATED, 3)], None, "")
    channels = [each.request.headers["x-splunk-request-channel"] for each in (sent, again, other)]

    assert isinstance(verdict, Pending)
    assert channels[0] == channels[1] != channels[2]
    question = connector.seal(connector.ask(verdict.token), sent.event_ids, START)
    assert question.url == "https://splunk.example.com:8088/services/collector/ack"
    assert question.headers["x-splunk-request-channel"] == channels[0]
    assert question.headers["authorization"] == f"Splunk {TOKEN}"
    assert json.loads(question.body) == {"acks": [7]}


@pytest.mark.parametrize(
    ("told", "verdict"),
    [
        (answer(200, acks={"7": True}), Delivered),
        (answer(200, acks={"7": False}), Pending),
        (answer(200, acks={"8": True}), Pending),
        (answer(200, acks={}), Pending),
        (answer(200, acks={"7": "true"}), Pending),
        (answer(200, text="Success", code=0), Blocked),
        (HttpResponse(status=200, headers={}, body=b"<html>Please log in</html>"), Blocked),
        (answer(400, text="ACK is disabled", code=14), Blocked),
        (answer(403, text="Invalid token", code=4), Blocked),
        (answer(400, text="Invalid data format", code=6), Blocked),
        (answer(503, text="Server is busy", code=9), Retry),
        (answer(500, text="Internal server error", code=8), Retry),
        (answer(413), Retry),
        (Unreached(reason="reset", maybe_sent=True, kind="reset"), Retry),
    ],
)
def test_each_answer_to_the_question_leads_to_its_verdict_and_none_rejects(told, verdict):
    connector, sent, accepted = pending(ackId=7)
    question = Rendered(request=connector.ask(accepted.token), event_ids=sent.event_ids)

    judged = connector.judge(question, told)

    assert {type(each) for each in judged} == {verdict}
    if verdict is Pending:
        assert judged[0].token == accepted.token
    if verdict is Retry:  # the event is not at fault, so it does not go again for it
        assert judged[0].maybe_sent or judged[0].whole_destination


def test_an_answer_without_a_number_leads_to_the_question_that_tells_why():
    connector, _, verdict = pending()

    assert isinstance(verdict, Pending)
    assert json.loads(connector.ask(verdict.token).body) == {"acks": [0]}


def test_without_the_setting_nothing_is_asked():
    assert build("splunk").ask("channel 1") is None
    assert "x-splunk-request-channel" not in rendered().request.headers


def test_the_probe_asks_whether_the_token_may_ask():
    connector = build("splunk", indexer_acknowledgement=True)
    probe = Rendered(request=connector.seal(connector.probe(), (), START), event_ids=("x",))

    assert probe.request.url.endswith("/services/collector/ack")
    assert connector.judge(probe, answer(200, acks={"0": False})) == (Delivered(),)
    (refused,) = connector.judge(probe, answer(400, text="ACK is disabled", code=14))
    assert isinstance(refused, Blocked)
    assert "take `indexer_acknowledgement` out" in refused.reason


# ---- a collector ------------------------------------------------------------------------------------------


class Collector:
    """A fake of Splunk's HEC with its documented answers; the next faults are queued in `faults`."""

    def __init__(self) -> None:
        self.stored: list[str] = []
        self.faults: list[str] = []
        self.requests = 0
        self.released = asyncio.Event()

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/services/collector/event", self.collect)
        app.router.add_get("/services/collector/health/1.0", self.health)
        return app

    async def health(self, _request: web.Request) -> web.Response:
        return web.json_response({"text": "HEC is healthy", "code": 17})

    async def collect(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        if request.headers.get("authorization") != f"Splunk {TOKEN}":
            return web.json_response({"text": "Invalid token", "code": 4}, status=403)
        records = self.records(await request.text())
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "busy":
            return web.json_response(
                {"text": "Server is busy", "code": 9}, status=503, headers={"Retry-After": "3"}
            )
        if fault == "redirect":
            raise web.HTTPTemporaryRedirect("/services/collector/event")
        if fault == "slow":
            await self.released.wait()
        self.stored += [record["fields"]["event_id"] for record in records]
        if fault == "reset after accept":
            assert request.transport is not None
            request.transport.abort()
        if fault == "endless":
            return web.Response(body=b" " * 10_000_000)
        return web.json_response({"text": "Success", "code": 0})

    @staticmethod
    def records(text: str) -> list[dict]:
        decoder, records = json.JSONDecoder(), []
        while text:
            record, end = decoder.raw_decode(text)
            records.append(record)
            text = text[end:].lstrip()
        return records


@pytest.fixture
async def collector():
    fake = Collector()
    async with TestServer(fake.app()) as server:
        fake.url = str(server.make_url("/"))
        yield fake
        fake.released.set()


@pytest.fixture
async def sender():
    sender = HttpSender(wait=tenacity.wait_none())
    yield sender
    await sender.close()


async def deliver(
    collector: Collector, sender: HttpSender, batch: Rendered, *, timeout_s: float = 10, **settings
):
    connector = build("splunk", url=collector.url, **settings)
    response = await sender.send(connector.seal(batch.request, batch.event_ids, START), timeout_s=timeout_s)
    return connector.judge(batch, response)


async def test_a_batch_is_stored_once_and_in_order(collector, sender):
    assert await deliver(collector, sender, rendered(3)) == (Delivered(),) * 3
    assert tuple(collector.stored) == rendered(3).event_ids


async def test_a_connection_that_breaks_after_the_store_leaves_a_duplicate_with_one_id(collector, sender):
    collector.faults = ["reset after accept"]

    (first,) = await deliver(collector, sender, rendered())
    (second,) = await deliver(collector, sender, rendered())

    assert isinstance(first, Retry)
    assert first.maybe_sent
    assert second == Delivered()
    assert len(collector.stored) == 2
    assert set(collector.stored) == set(rendered().event_ids)


async def test_a_busy_collector_is_waited_for_as_long_as_it_says(collector, sender):
    collector.faults = ["busy"]

    (verdict,) = await deliver(collector, sender, rendered())

    assert isinstance(verdict, Retry)
    assert verdict.whole_destination
    assert verdict.after_s == 3.0
    assert collector.requests == 1  # an answer is never asked for twice within an attempt


async def test_a_slow_collector_may_have_taken_it(collector, sender):
    collector.faults = ["slow"]

    (verdict,) = await deliver(collector, sender, rendered(), timeout_s=0.2)

    assert isinstance(verdict, Retry)
    assert verdict.maybe_sent


async def test_a_wrong_token_blocks_and_is_not_shown(collector, sender):
    (verdict,) = await deliver(collector, sender, rendered(), token="not-the-token")

    assert isinstance(verdict, Blocked)
    assert "not-the-token" not in verdict.reason


async def test_a_redirect_is_not_followed(collector, sender):
    collector.faults = ["redirect"]

    (verdict,) = await deliver(collector, sender, rendered())

    assert isinstance(verdict, Blocked)
    assert collector.requests == 1
    assert collector.stored == []


async def test_an_endless_answer_is_cut(collector, sender):
    collector.faults = ["endless"]
    connector = build("splunk", url=collector.url)
    batch = rendered()

    response = await sender.send(connector.seal(batch.request, batch.event_ids, START), timeout_s=10)

    assert len(response.body) == 64 * 1024


async def test_the_probe_asks_for_its_health(collector, sender):
    connector = build("splunk", url=collector.url)
    probe = Rendered(request=connector.probe(), event_ids=("x",))

    response = await sender.send(connector.seal(probe.request, (), START), timeout_s=10)

    assert connector.judge(probe, response) == (Delivered(),)
    assert collector.stored == []
