"""What Google's services share: the words of their errors, and whose credentials a request goes with."""

from __future__ import annotations

import json

import pytest
from builders import START, event
from destinations import build
from googles import ERRORS, because, refused
from pydantic import ValidationError

from bridge.model import Blocked, Retry
from bridge.ports import Auth, HttpResponse
from connectors.clouds.google import judge_google

KEY = json.dumps({"type": "service_account", "private_key": "not-really", "client_email": "a@b.c"})


@pytest.mark.parametrize(("answer", "verdict"), ERRORS)
def test_every_documented_error_leads_to_its_verdict(answer, verdict):
    judged = judge_google(answer)

    assert type(judged) is verdict
    told = json.loads(answer.body)["error"]["message"] if answer.body.startswith(b"{") else ""
    assert told in judged.reason


@pytest.mark.parametrize(
    ("delay", "after_s"),
    [("3.5s", 3.5), ("30s", 30.0), ("-1s", None), ("soon", None), ("1e9s", None), (7, None)],
)
def test_a_wait_stands_in_the_details(delay, after_s):
    detail = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}

    judged = judge_google(refused(429, "RESOURCE_EXHAUSTED", "Quota exceeded.", details=[detail]))

    assert judged == Retry(
        reason="HTTP 429 RESOURCE_EXHAUSTED: Quota exceeded.", after_s=after_s, whole_destination=True
    )


def test_a_wait_in_the_header_goes_first():
    detail = {"retryDelay": "3s"}
    answer = refused(503, "UNAVAILABLE", "Try later.", details=[detail])

    judged = judge_google(HttpResponse(status=503, headers={"retry-after": "60"}, body=answer.body))

    assert judged == Retry(reason="HTTP 503 UNAVAILABLE: Try later.", after_s=60.0, whole_destination=True)


def test_a_quota_that_is_told_of_as_a_refusal_is_waited_for():
    assert isinstance(
        judge_google(refused(403, "PERMISSION_DENIED", "x", **because("RATE_LIMIT_EXCEEDED"))), Retry
    )
    assert isinstance(
        judge_google(refused(403, "PERMISSION_DENIED", "x", **because("BILLING_DISABLED"))), Blocked
    )


@pytest.mark.parametrize("key", ["{}", "no json", '{"type":"authorized_user"}', '["service_account"]'])
def test_a_key_that_is_none_is_told_of_when_the_configuration_is_read(key):
    with pytest.raises(ValidationError, match="type one of: external_account, service_account") as caught:
        build("pubsub", key=key)

    assert key not in str(caught.value)


def test_a_key_can_be_read_from_a_file_and_is_never_shown(tmp_path):
    (tmp_path / "key.json").write_text(KEY)
    connector = build("pubsub", key_file=str(tmp_path / "key.json"))
    rendered = connector.render([event()], None, "")

    sealed = connector.seal(rendered.request, rendered.event_ids, START)

    assert sealed.auth == Auth(
        vendor="google", options={"scope": "https://www.googleapis.com/auth/pubsub", "key": KEY}
    )
    assert rendered.request.auth is None
    assert "not-really" not in repr(vars(connector))


def test_an_emulator_gets_no_credentials():
    connector = build("pubsub", url="http://localhost:8085", key=KEY)
    rendered = connector.render([event()], None, "")

    assert connector.seal(rendered.request, rendered.event_ids, START).auth is None
    assert connector.probe() is None
