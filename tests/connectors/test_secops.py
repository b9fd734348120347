"""Google SecOps: where UDM has what a SOC searches by, and an instance that answers as the service does."""

from __future__ import annotations

import json
import uuid

import pytest
import tenacity
from aiohttp import web
from aiohttp.test_utils import TestServer
from builders import START, at, episode, event
from destinations import build
from googles import ERRORS
from pydantic import ValidationError

from bridge.model import Blocked, Delivered, EventKind, Reject, Retry, Split
from bridge.ports import HttpResponse, Rendered
from connectors.transport.http import HttpSender

PATH = "/v1alpha/projects/example-security/locations/eu/instances/5f0c6a1e-0000-4000-8000-0123456789ab/events:import"


def rendered(count: int = 1) -> Rendered:
    return build("secops").render([event(EventKind.UPDATED, seq) for seq in range(1, count + 1)], None, "")


def udm(*args, **changes) -> dict:
    body = json.loads(build("secops").render([event(*args, **changes)], None, "").request.body)
    return body["inline_source"]["events"][0]["udm"]


def fields(result: dict) -> dict[str, str]:
    return {each["key"]: each["value"] for each in result["detection_fields"]}


def test_what_a_soc_searches_by_stands_in_the_fields_of_udm():
    node = episode(
        "NodeDown", labels={"alertname": "NodeDown", "instance": "db-1:9100", "job": "node"}, severity="warning",
        ends_at=at(60),
    )  # fmt: skip
    disk = episode(
        "DiskFull", 1, labels={"alertname": "DiskFull", "instance": "[2001:db8::1]:9100"}, annotations={}
    )
    made = udm(
        EventKind.ESCALATED, 2, episodes=(disk, node), common_labels={"cluster": "eu-1"}, alerts_firing=1
    )

    metadata = made["metadata"]
    assert metadata["event_timestamp"] == "2026-11-23T22:00:02.000000Z"
    assert (metadata["vendor_name"], metadata["product_event_type"]) == ("Tocsin", "incident.escalated")
    assert made["principal"] == {"ip": ["2001:db8::1"]}
    assert made["about"] == [{"hostname": "db-1"}]
    assert made["additional"] == {"cluster": "eu-1"}
    incident, first, second = made["security_result"]
    assert (incident["rule_name"], incident["severity"], incident["alert_state"]) == (
        "DiskFull", "CRITICAL", "ALERTING",
    )  # fmt: skip
    assert fields(incident)["incident_id"] == "3f1c9a7d52e84b06"
    assert fields(incident)["alerts"] == "1 of 2 firing"
    assert (first["about"], first["summary"]) == ({"ip": ["2001:db8::1"]}, "DiskFull on [2001:db8::1]:9100")
    assert (second["severity"], second["alert_state"]) == ("MEDIUM", "NOT_ALERTING")
    assert second["last_discovered_time"] == "2026-11-23T22:01:00.000000Z"
    assert {"key": "job", "value": "node"} in second["rule_labels"]


def test_an_incident_that_is_over_alerts_no_more():
    incident = udm(EventKind.CLOSED, 3)["security_result"][0]

    assert (incident["alert_state"], incident["last_discovered_time"]) == (
        "NOT_ALERTING", "2026-11-23T22:00:03.000000Z",
    )  # fmt: skip


def test_a_repeat_has_the_same_ids_and_another_event_others():
    once, again, other = udm(), udm(), udm(EventKind.UPDATED, 2)

    assert once["metadata"]["id"] == again["metadata"]["id"] != other["metadata"]["id"]
    assert uuid.UUID(once["metadata"]["id"]).version == 5
    assert once["metadata"]["product_log_id"] == event().event_id


def test_a_link_that_is_none_is_left_out():
    bad = episode(generator_url="javascript:alert(1)")

    made = udm(episodes=(bad,), url="")

    assert "url_back_to_product" not in made["metadata"]
    assert not any("url_back_to_product" in each for each in made["security_result"])


@pytest.mark.parametrize(("answer", "verdict"), ERRORS)
def test_every_documented_error_of_one_event_leads_to_its_verdict(answer, verdict):
    assert [type(each) for each in build("secops").judge(rendered(), answer)] == [verdict]


def test_which_of_several_was_refused_is_found_by_smaller_requests():
    refused = next(answer for answer, verdict in ERRORS if verdict is Reject)

    assert [type(each) for each in build("secops").judge(rendered(3), refused)] == [Split] * 3


@pytest.mark.parametrize(
    "changes",
    [
        {"instance": "not-an-uuid"},
        {"region": "EU"},
        {"project": "a/b"},
        {"version": "v9"},
        {"url": "https://h/x"},
    ],
)
def test_names_that_cannot_be_are_told_of_when_the_configuration_is_read(changes):
    with pytest.raises(ValidationError):
        build("secops", **changes)


# ---- an instance ------------------------------------------------------------------------------------------


class Instance:
    """A fake of an instance: takes a request whole or not at all; the next faults are queued in `faults`."""

    def __init__(self) -> None:
        self.stored: list[str] = []
        self.faults: list[str | HttpResponse] = []

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post(PATH, self.take)
        return app

    async def take(self, request: web.Request) -> web.Response:
        events = (await request.json())["inline_source"]["events"]
        fault = self.faults.pop(0) if self.faults else ""
        if isinstance(fault, HttpResponse):
            return web.Response(status=fault.status, headers=fault.headers, body=fault.body)
        self.stored += [each["udm"]["metadata"]["product_log_id"] for each in events]
        if fault == "reset after accept":
            assert request.transport is not None
            request.transport.abort()
        return web.json_response(text="{}\n")


@pytest.fixture
async def instance():
    fake = Instance()
    async with TestServer(fake.app()) as server:
        fake.url = str(server.make_url("/"))
        yield fake


async def deliver(instance: Instance, batch: Rendered):
    connector, sender = build("secops", url=instance.url), HttpSender(wait=tenacity.wait_none())
    response = await sender.send(connector.seal(batch.request, batch.event_ids, START), timeout_s=10)
    await sender.close()
    return connector.judge(batch, response)


async def test_a_batch_is_taken_whole_and_in_order(instance):
    assert await deliver(instance, rendered(3)) == (Delivered(),) * 3
    assert tuple(instance.stored) == rendered(3).event_ids


async def test_a_connection_that_breaks_after_the_store_leaves_a_repeat_with_one_id(instance):
    instance.faults = ["reset after accept"]

    (first,) = await deliver(instance, rendered())
    (second,) = await deliver(instance, rendered())

    assert (type(first), first.maybe_sent, second) == (Retry, True, Delivered())
    assert len(set(instance.stored)) == 1


async def test_a_quota_is_waited_for_as_long_as_it_says(instance):
    instance.faults = [HttpResponse(status=429, headers={"Retry-After": "7"}, body=b"")]

    (verdict,) = await deliver(instance, rendered())

    assert (type(verdict), verdict.after_s) == (Retry, 7.0)


def test_a_login_page_in_between_is_no_success():
    page = HttpResponse(status=200, headers={}, body=b"<html>{}</html>")

    assert [type(each) for each in build("secops").judge(rendered(), page)] == [Blocked]
