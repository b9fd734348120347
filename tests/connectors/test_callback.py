"""Signed callbacks, verified with the library that receivers use."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
from builders import event
from cases.callback import SIGNING_SECRET
from destinations import build
from standardwebhooks import Webhook, WebhookVerificationError

from bridge.model import Blocked, Delivered, EventKind
from bridge.ports import HttpResponse

OTHER = "whsec_" + base64.b64encode(b"another-secret-of-32-bytes-long!").decode()


def sealed(secret: str = SIGNING_SECRET, *, now: datetime | None = None):
    connector = build("callback", secret=secret)
    rendered = connector.render([event(EventKind.ESCALATED, 2)], None, "")
    # The library reads the wall clock to refuse old messages.
    return connector.seal(rendered.request, rendered.event_ids, now or datetime.now(tz=UTC))


def test_a_receiver_verifies_the_message_and_reads_the_event():
    request = sealed()

    body = Webhook(SIGNING_SECRET).verify(request.body, request.headers)

    assert body["type"] == "incident.escalated"
    assert body["timestamp"] == "2026-11-23T22:00:02.000000Z"
    assert body["data"]["event_id"] == request.headers["webhook-id"]
    assert body["data"]["schema"] == "tocsin.event/1"


@pytest.mark.parametrize("secret", [SIGNING_SECRET, OTHER])
def test_while_a_key_is_rotated_receivers_with_either_key_verify(secret):
    request = sealed(f"{OTHER}\n{SIGNING_SECRET}")

    assert Webhook(secret).verify(request.body, request.headers)


@pytest.mark.parametrize("change", ["body", "key", "time", "id"])
def test_a_message_that_was_changed_is_refused(change):
    request = sealed(now=datetime.now(tz=UTC) - timedelta(hours=1) if change == "time" else None)
    headers = request.headers | ({"webhook-id": "other"} if change == "id" else {})
    body = request.body.replace(b"escalated", b"closed") if change == "body" else request.body

    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER if change == "key" else SIGNING_SECRET).verify(body, headers)


def test_every_attempt_has_the_same_id_and_body_and_its_own_time():
    now = datetime.now(tz=UTC)
    first, second = sealed(now=now), sealed(now=now + timedelta(minutes=5))

    assert (first.body, first.headers["webhook-id"]) == (second.body, second.headers["webhook-id"])
    assert first.headers["webhook-timestamp"] != second.headers["webhook-timestamp"]
    assert "." not in first.headers["webhook-id"]


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_any_2xx_is_success(status):
    connector = build("callback")
    rendered = connector.render([event()], None, "")

    assert connector.judge(rendered, HttpResponse(status=status, headers={}, body=b"<html>")) == (
        Delivered(),
    )


def test_gone_blocks_and_says_that_the_receiver_disabled_it():
    connector = build("callback")
    rendered = connector.render([event()], None, "")

    (verdict,) = connector.judge(rendered, HttpResponse(status=410, headers={}, body=b""))

    assert isinstance(verdict, Blocked)
    assert "disabled" in verdict.reason


def test_the_body_is_json_of_the_event_itself():
    request = sealed()

    assert json.loads(request.body)["data"]["incident"]["episodes"][0]["labels"]["alertname"] == "HighLatency"
