"""CloudEvents, read with the library of its own working group."""

from __future__ import annotations

import json

import pytest
from builders import TENANT, event
from cases.callback import SIGNING_SECRET
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from cloudevents.core.formats.json import JSONFormat
from destinations import build, nasty_event
from golden_events import EVENTS
from standardwebhooks import Webhook

from bridge.model import EventKind
from connectors.formats import cloudevents


def received(told, size_bytes: int = 10**7):
    """Return what a receiver makes of an event; its library refuses what the standard does not allow."""
    body = cloudevents.structured(told, size_bytes)
    assert len(body) <= size_bytes
    return from_http_event(
        HTTPMessage(headers={"content-type": cloudevents.CONTENT_TYPE}, body=body), JSONFormat()
    )


@pytest.mark.parametrize("name", EVENTS)
def test_every_golden_event_is_a_cloud_event(name):
    told = EVENTS[name]

    got = received(told)

    assert got.get_id() == told.event_id
    assert got.get_subject() == told.incident.id
    assert got.get_time() == told.at
    assert got.get_data()["event_id"] == told.event_id


@pytest.mark.parametrize("size", [100_000, 4096, 2048])
def test_the_hardest_event_fits_and_stays_one(size):
    got = received(nasty_event(), size)

    assert got.get_data()["incident"]["alerts_total"] == 100


def test_its_attributes_tell_the_tenant_the_kind_and_the_order():
    got = received(event(EventKind.ESCALATED, 12))

    assert got.get_source() == f"/tocsin/{TENANT}"
    assert got.get_type() == "tocsin.incident.escalated"
    assert got.get_extension("sequence") == "0000000012"
    assert (got.get_extension("severitytext"), got.get_extension("severitynumber")) == ("critical", 18)


def test_a_tenant_cannot_break_out_of_the_source():
    assert received(event(tenant="a b/é?#")).get_source() == "/tocsin/a%20b%2F%C3%A9%3F%23"


def test_a_callback_carries_it_signed():
    connector = build("callback_cloudevents")
    rendered = connector.render([event()], None, "")
    sealed = connector.seal(rendered.request, rendered.event_ids, event().at)

    assert sealed.headers["content-type"] == "application/cloudevents+json"
    assert json.loads(sealed.body)["id"] == sealed.headers["webhook-id"]
    assert Webhook(SIGNING_SECRET).sign("x", event().at, sealed.body.decode()).startswith("v1,")
