"""Pub/Sub: what a message carries, and a topic that answers as the service does."""

from __future__ import annotations

import base64
import json

import pytest
import tenacity
from aiohttp.test_utils import TestServer
from builders import START, episode, event, view
from destinations import build
from googles import ERRORS, Topic
from pydantic import ValidationError

from bridge.model import Blocked, Delivered, EventKind, Reject, Retry, Split
from bridge.ports import HttpResponse, Rendered
from connectors.transport.http import HttpSender


def rendered(count: int = 1) -> Rendered:
    return build("pubsub").render([event(EventKind.UPDATED, seq) for seq in range(1, count + 1)], None, "")


def messages(batch: Rendered) -> list[dict]:
    return json.loads(batch.request.body)["messages"]


def published(*ids: str) -> HttpResponse:
    return HttpResponse(status=200, headers={}, body=json.dumps({"messageIds": ids}).encode())


def test_a_message_is_the_event_and_what_subscriptions_filter_by():
    found = episode(
        "NodeDown", labels={"alertname": "NodeDown", "node": "db-1", "cluster": "eu-1", "namespace": ""}
    )
    (message,) = messages(build("pubsub").render([event(episodes=(found,), common_labels={})], None, ""))

    assert (
        json.loads(base64.b64decode(message["data"]))["incident"]["episodes"][0]["labels"]["node"] == "db-1"
    )
    assert message["orderingKey"] == "3f1c9a7d52e84b06"
    assert message["attributes"] == {
        "content-type": "application/json", "schema": "tocsin.event/1", "event_id": event().event_id,
        "incident": "3f1c9a7d52e84b06", "kind": "opened", "seq": "1", "state": "open", "severity": "critical",
        "origin": "alerts", "tenant": "default", "alertname": "NodeDown", "host": "db-1", "cluster": "eu-1",
    }  # fmt: skip


def test_a_cloud_event_has_its_attributes_beside_ours():
    (message,) = messages(build("pubsub_cloudevents").render([event()], None, ""))
    told = {
        name.removeprefix("ce-"): value for name, value in message["attributes"].items() if name[:3] == "ce-"
    }

    assert (told["specversion"], told["type"], told["source"]) == (
        "1.0",
        "tocsin.incident.opened",
        "/tocsin/default",
    )
    assert (told["id"], told["severitynumber"]) == (message["attributes"]["event_id"], "18")
    assert message["attributes"]["content-type"] == "application/json"


def test_what_is_written_as_ocsf_says_so():
    (message,) = messages(build("pubsub", format="ocsf-detection").render([event()], None, ""))

    assert message["attributes"]["schema"] == "ocsf-detection"
    assert json.loads(base64.b64decode(message["data"]))["class_uid"] == 2004


def test_attributes_keep_to_their_limit_in_bytes():
    long = episode(labels={"alertname": "é" * 2000, "service": "日" * 2000})
    batch = build("pubsub").render([event(incident=view(episodes=(long,), common_labels={}))], None, "")
    attributes = messages(batch)[0]["attributes"]

    assert len(attributes["alertname"].encode()) <= 200
    assert attributes["service"].endswith("日…")


def test_a_batch_is_the_messages_in_order():
    assert [each["attributes"]["event_id"] for each in messages(rendered(3))] == list(rendered(3).event_ids)


def test_a_batch_keeps_to_a_thousand_messages_and_ten_megabytes():
    caps = build("pubsub").caps

    assert (caps.max_events, caps.max_bytes, caps.atomic) == (1000, 10_000_000, True)
    with pytest.raises(ValidationError, match="max_bytes"):
        build("pubsub", max_bytes=10_000_001)


@pytest.mark.parametrize(("answer", "verdict"), ERRORS)
def test_every_documented_error_of_one_message_leads_to_its_verdict(answer, verdict):
    assert [type(each) for each in build("pubsub").judge(rendered(), answer)] == [verdict]


@pytest.mark.parametrize(("answer", "verdict"), [each for each in ERRORS if each[1] is Reject])
def test_which_of_several_was_refused_is_found_by_smaller_requests(answer, verdict):
    assert verdict is Reject
    assert [type(each) for each in build("pubsub").judge(rendered(3), answer)] == [Split] * 3


@pytest.mark.parametrize("ids", [(), ("1",), ("1", "2", "3")])
def test_a_success_that_does_not_name_every_message_is_none(ids):
    assert [type(each) for each in build("pubsub").judge(rendered(2), published(*ids))] == [Blocked] * 2


def test_a_probe_tells_of_a_permission_that_is_missing():
    connector = build("pubsub")
    probe = Rendered(request=connector.seal(connector.probe(), (), START), event_ids=("x",))

    assert probe.request.url.endswith("/topics/incidents:testIamPermissions")
    (verdict,) = connector.judge(probe, HttpResponse(status=200, headers={}, body=b"{}"))
    assert isinstance(verdict, Blocked)
    assert "may not pubsub.topics.publish" in verdict.reason


@pytest.mark.parametrize(
    "changes",
    [{"project": "Example"}, {"topic": "projects/p/topics/t"}, {"topic": "a b"}, {"url": "https://h/v1"}],
)
def test_names_that_cannot_be_are_told_of_when_the_configuration_is_read(changes):
    with pytest.raises(ValidationError):
        build("pubsub", **changes)


# ---- a topic ----------------------------------------------------------------------------------------------


@pytest.fixture
async def topic():
    fake = Topic()
    async with TestServer(fake.app()) as server:
        fake.url = str(server.make_url("/"))
        yield fake


async def deliver(topic: Topic, batch: Rendered):
    connector, sender = build("pubsub", url=topic.url), HttpSender(wait=tenacity.wait_none())
    response = await sender.send(connector.seal(batch.request, batch.event_ids, START), timeout_s=10)
    await sender.close()
    return connector.judge(batch, response)


async def test_a_thousand_messages_are_taken_at_once_and_in_order(topic):
    batch = rendered(1000)

    assert await deliver(topic, batch) == (Delivered(),) * 1000
    assert tuple(topic.stored) == batch.event_ids


async def test_a_connection_that_breaks_after_the_store_leaves_a_repeat_with_one_id(topic):
    topic.faults = ["reset after accept"]

    (first,) = await deliver(topic, rendered())
    (second,) = await deliver(topic, rendered())

    assert (type(first), first.maybe_sent, second) == (Retry, True, Delivered())
    assert topic.stored == list(rendered().event_ids) * 2


async def test_a_quota_is_waited_for_as_long_as_it_says(topic):
    topic.faults = [HttpResponse(status=429, headers={"Retry-After": "7"}, body=b"")]

    (verdict,) = await deliver(topic, rendered())

    assert (type(verdict), verdict.after_s, verdict.whole_destination) == (Retry, 7.0, True)
