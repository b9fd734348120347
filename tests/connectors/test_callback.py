"""Signed callbacks, verified with the library that receivers use."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from builders import event
from cases.callback import JWT_KEY, SIGNING_SECRET
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from destinations import build
from pydantic import ValidationError
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
    assert verdict.disabled
    assert "disabled" in verdict.reason


@pytest.mark.parametrize("status", [401, 403, 404, 405, 451])
def test_only_gone_disables(status):
    connector = build("callback")
    rendered = connector.render([event()], None, "")

    (verdict,) = connector.judge(rendered, HttpResponse(status=status, headers={}, body=b""))

    assert isinstance(verdict, Blocked)
    assert not verdict.disabled


def test_the_body_is_json_of_the_event_itself():
    request = sealed()

    assert json.loads(request.body)["data"]["incident"]["episodes"][0]["labels"]["alertname"] == "HighLatency"


# ---- bearer tokens ---------------------------------------------------------------------------------------


def pem(key) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def public(key) -> str:
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


RSA, ED = rsa.generate_private_key(65537, 2048), ed25519.Ed25519PrivateKey.generate()


def token_of(now: datetime, **changes: str) -> tuple[str, bytes, str]:
    connector = build("callback", **changes)
    rendered = connector.render([event(EventKind.ESCALATED, 2)], None, "")
    request = connector.seal(rendered.request, rendered.event_ids, now)
    scheme, _, token = request.headers["authorization"].partition(" ")
    assert scheme == "Bearer"
    return token, request.body, rendered.event_ids[0]


@pytest.mark.parametrize(
    ("algorithm", "key", "known"),
    [("HS256", JWT_KEY, JWT_KEY), ("RS256", pem(RSA), public(RSA)), ("EdDSA", pem(ED), public(ED))],
    ids=["HS256", "RS256", "EdDSA"],
)
def test_a_receiver_verifies_the_token_of_this_event_and_body(algorithm, key, known):
    token, body, event_id = token_of(datetime.now(tz=UTC), jwt_key=key, jwt_algorithm=algorithm)

    claims = jwt.decode(
        token, known, [algorithm], audience="https://automation.example.com",
        options={"require": ["iss", "aud", "jti", "iat", "exp"]},
    )  # fmt: skip

    assert claims["jti"] == event_id
    assert claims["exp"] - claims["iat"] == 300
    assert claims["body_sha256"] == hashlib.sha256(body).hexdigest()


def test_a_token_holds_five_minutes_and_for_its_audience_alone():
    old, _, _ = token_of(datetime.now(tz=UTC) - timedelta(seconds=301), jwt_key=JWT_KEY, jwt_audience="soc")
    new, _, _ = token_of(datetime.now(tz=UTC), jwt_key=JWT_KEY, jwt_audience="soc")

    assert jwt.decode(new, JWT_KEY, ["HS256"], audience="soc")
    with pytest.raises(jwt.ExpiredSignatureError):
        jwt.decode(old, JWT_KEY, ["HS256"], audience="soc")
    with pytest.raises(jwt.InvalidAudienceError):
        jwt.decode(new, JWT_KEY, ["HS256"], audience="https://automation.example.com")


def test_a_token_tells_nothing_of_the_path_and_is_hidden_where_an_answer_repeats_it():
    connector = build("callback", jwt_key=JWT_KEY)
    rendered = connector.render([event()], None, "")
    request = connector.seal(rendered.request, rendered.event_ids, datetime.now(tz=UTC))
    token = request.headers["authorization"].removeprefix("Bearer ")

    (verdict,) = connector.judge(
        rendered, HttpResponse(status=401, headers={}, body=f"invalid token: {token}.".encode())
    )

    assert "/hooks" not in str(jwt.decode(token, options={"verify_signature": False}))
    assert verdict.reason == "HTTP 401: invalid token: ********. (the credentials were refused)"


def test_without_a_key_there_is_no_token():
    assert "authorization" not in sealed().headers


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [
        ("HS256", "too-short"),
        ("HS256", public(RSA)),
        ("RS256", JWT_KEY),
        ("RS256", pem(ED)),
        ("EdDSA", pem(RSA)),
        ("EdDSA", pem(ec.generate_private_key(ec.SECP256R1()))),
    ],
)
def test_a_key_that_does_not_fit_its_algorithm_is_a_fault_that_does_not_show_it(algorithm, key):
    with pytest.raises(ValidationError, match=f"key of {algorithm}") as caught:
        build("callback", jwt_key=key, jwt_algorithm=algorithm)

    assert key.splitlines()[-1] not in str(caught.value)
