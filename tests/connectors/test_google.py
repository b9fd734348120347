"""What Google's services share: the words of their errors, whose credentials a request goes with, all of the way."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl

import pytest
from aiohttp.test_utils import TestServer
from builders import START, event
from certificates import make_certificate
from destinations import build
from googles import ERRORS, Bucket, TokenServer, Topic, because, key_of, refused
from pydantic import ValidationError
from sidecars import NO_MODELS, Sidecar, until

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


@pytest.mark.parametrize("status", [400, 403, 413, 429])
def test_a_token_that_somebody_in_between_repeats_is_in_no_reason(status):
    told = refused(status, "INVALID_ARGUMENT", "bad authorization: Bearer ya29.a0Af_B-yC", details=[])
    page = HttpResponse(
        status=status, headers={}, body=b"<html>Bearer eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJ4.c2ln</html>"
    )

    assert not any(part in str([judge_google(told), judge_google(page)]) for part in ("a0Af", "eyJ", "c2ln"))


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


# ---- all of the way --------------------------------------------------------------------------------------


async def test_an_alert_becomes_an_incident_in_a_bucket_and_in_a_topic(tmp_path):
    topic, bucket, tokens = Topic(), Bucket(), TokenServer()
    certificate, key = make_certificate(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    published, stored = TestServer(topic.app(), scheme="https"), TestServer(bucket.app(), scheme="https")
    await published.start_server(ssl=tls)
    await stored.start_server(ssl=tls)
    async with published, stored, TestServer(tokens.app()) as given:
        (tmp_path / "key.json").write_text(key_of(str(given.make_url("/token"))))
        common = f"key_file: {tmp_path}/key.json, ca_file: {certificate}"
        configuration = (
            f"{NO_MODELS}destinations:\n"
            f"  - {{name: bus, kind: pubsub, project: example-monitoring, topic: incidents, url: '{published.make_url('/')}', "
            f"{common}}}\n"
            f"  - {{name: lake, kind: gcs, bucket: example-incidents, url: '{stored.make_url('/')}', {common}}}\n"
            "routes: [{to: [bus, lake]}]\n"
        )
        sidecar = Sidecar(tmp_path, configuration)
        await asyncio.to_thread(_seen, sidecar, topic, bucket)

    (message,), ((name, body),) = topic.messages, bucket.objects.items()
    assert name.startswith("incidents/year=")
    assert json.loads(base64.b64decode(message["data"])) == json.loads(body)
    assert json.loads(body)["incident"]["episodes"][0]["labels"]["alertname"] == "DiskFull"
    assert {each[:11] for each in topic.bearers | bucket.bearers} == {"Bearer ya29"}
    assert len(tokens.asked) == 2  # one for each scope
    assert "ya29" not in sidecar.log.read_text("utf-8")


def _seen(sidecar: Sidecar, topic: Topic, bucket: Bucket) -> None:
    try:
        sidecar.start()
        sidecar.send("DiskFull")
        until(lambda: topic.messages and bucket.objects, "the message and the object")
    finally:
        if sidecar.process is not None:
            sidecar.process.kill()
            sidecar.process.wait()
