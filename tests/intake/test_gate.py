"""Who may send, through a real HTTP server: each kind of credential, rotated, wrong, and another's."""

from __future__ import annotations

import asyncio
import base64
import time

import pytest
from bodies import alert, body
from doors import JSON, URL, status_line
from signing import SECRET, key_pair, key_set, signature, token

from bridge.auth import SIGNATURE_HEADER, TIMESTAMP_HEADER, Denied, Grant, Keyring, Signer
from bridge.auth.jwts import Issuer, Keys

GOOD = body(alert())
TOKEN = "acme-token-0123456789"
BEARER = JSON | {"Authorization": f"Bearer {TOKEN}"}


def grant(tenant: str = "acme", **more) -> Grant:
    return Grant(tenant=tenant, role="sender", **more)


def signed(text: bytes = GOOD, secret: str = SECRET, age_s: float = 0.0) -> dict[str, str]:
    at = f"{time.time() - age_s:.0f}"
    return JSON | {SIGNATURE_HEADER: signature(text, at, secret), TIMESTAMP_HEADER: at}


async def test_a_source_that_a_credential_is_bound_to_is_the_only_one(doors):
    door = await doors(tokens=[(TOKEN, grant(source="eu"))])
    assert (await door.post(GOOD, f"{URL}/eu", headers=BEARER))[0] == 200
    for path in (URL, f"{URL}/us", "/v1/recorder/us"):
        status, answer = await door.post(GOOD, path, headers=BEARER)
        assert (status, answer) == (403, {"error": "these credentials may not send as this source"})
    assert [row[:2] for row in door.inbox.rows] == [("acme", "eu")]


async def test_a_signed_body_is_taken_and_kept_as_it_came(doors):
    ring = Keyring(
        signers=[Signer(SECRET.encode(), grant("acme")), Signer(b"of-another-0123456", grant("other"))]
    )
    door = await doors(keyring=ring)
    assert (await door.post(GOOD, headers=signed()))[0] == 200
    assert (await door.post(GOOD, headers=signed(secret="of-another-0123456")))[0] == 200
    assert [(row[0], row[3]) for row in door.inbox.rows] == [("acme", GOOD), ("other", GOOD)]


@pytest.mark.parametrize(
    "shown",
    [
        {"text": b"another body"},
        {"secret": "another-secret-01234"},
        {"age_s": 900},
        {"age_s": -900},
        None,
    ],
    ids=str,
)
async def test_a_body_that_is_not_signed_so_leaves_nothing_behind(doors, shown):
    headers = JSON if shown is None else signed(**shown)
    door = await doors(keyring=Keyring(signers=[Signer(SECRET.encode(), grant())]))
    status, answer = await door.post(GOOD, headers=headers)
    assert (status, answer) == (401, {"error": "credentials are missing or not accepted"})
    assert door.inbox.rows == []
    assert door.intake.budget.held_bytes == 0
    assert len(door.meter.whys) == 1


async def test_a_body_of_no_use_from_a_stranger_does_not_reach_the_quarantine(doors):
    door = await doors(keyring=Keyring(signers=[Signer(SECRET.encode(), grant())]))
    assert (await door.post(b"no json", headers=signed()))[0] == 401
    assert door.inbox.rows == []
    assert (await door.post(b"no json", headers=signed(b"no json")))[0] == 400
    assert len(door.inbox.rows) == 1


async def test_a_large_signed_body_is_taken(doors):
    large = body(*[alert(name=f"a{number}") for number in range(4000)])
    assert len(large) > 1 << 20
    door = await doors(keyring=Keyring(signers=[Signer(SECRET.encode(), grant())]))
    assert (await door.post(large, headers=signed(large)))[0] == 200
    assert (await door.post(large, headers=signed(large[:-1] + b" ")))[0] == 401


async def test_two_headers_of_one_name_are_no_credential(doors):
    door = await doors(tokens=[(TOKEN, grant())])
    both = f"Authorization: Bearer {TOKEN}\nAuthorization: Bearer {TOKEN}"
    reader, writer = await door.raw(
        f"POST {URL} HTTP/1.1\nHost: x\nContent-Length: {len(GOOD)}\n{both}", GOOD
    )
    assert await status_line(reader) == b"HTTP/1.1 401 Unauthorized"
    writer.close()


async def test_every_refusal_says_the_same(doors):
    """Which part was wrong is in nobody's answer: not the user, the password, the address or the time."""
    outside = grant(allow_from=(("192.0.2.0/24",),))
    ring = Keyring(
        [(TOKEN, outside)],
        passwords=[("am", "password", grant())],
        signers=[Signer(SECRET.encode(), grant(source="eu"))],
    )
    door = await doors(keyring=ring)
    shown: list[dict[str, str]] = [
        {}, {"Authorization": "Bearer x"}, {"Authorization": f"Bearer {TOKEN}"}, {"Authorization": "Bearer a.b.c"},
        *({"Authorization": "Basic " + base64.b64encode(pair).decode()} for pair in (b"am:x", b"x:password")),
        signed(), signed(age_s=900), {"Authorization": "Negotiate x"},
    ]  # fmt: skip
    answers = [await door.post(GOOD, headers=JSON | headers) for headers in shown]
    assert {str(each) for each in answers} == {str(answers[0])}
    assert answers[0][0] == 401
    assert len(set(door.meter.whys)) > 4  # the log knows more
    assert not any(secret in " ".join(door.meter.whys) for secret in (TOKEN, SECRET, "am:", "cGFzc"))


ONE, TWO = key_pair("ES256", "one"), key_pair("ES256", "two")


def jwts(held: Keys) -> Keyring:
    acme = grant(shape="jwt")
    return Keyring(
        verifiers=[
            Issuer(
                issuer="https://login.example.com", audience="tocsin", algorithms=("ES256",), keys=held, secret=None,
                leeway_s=0.0, grant_of=lambda _claims: acme, tenants=("acme",),
            )
        ]
    )  # fmt: skip


async def test_keys_that_are_missing_are_fetched_and_then_the_token_is_good(doors):
    held = Keys("x")
    fetched: list[str] = []

    async def fetch(place: str) -> bool:
        fetched.append(place)
        held.take(key_set(ONE))
        return True

    door = await doors(keyring=jwts(held), fetch=fetch)
    for _ in range(2):
        assert (await door.post(GOOD, headers=JSON | {"Authorization": f"Bearer {token(ONE)}"}))[0] == 200
    assert fetched == ["x"]
    assert (await door.post(GOOD, headers=JSON | {"Authorization": f"Bearer {token(TWO)}"}))[0] == 401
    assert door.meter.shapes == {"jwt": 2}


async def test_keys_that_cannot_be_had_are_answered_503_and_not_401(doors):
    """Alertmanager tries a 503 again at once, and a 401 only with the next group interval."""

    async def fetch(_place: str) -> bool:
        await asyncio.sleep(0)
        return False

    door = await doors(keyring=jwts(Keys("x")), fetch=fetch)
    status, _ = await door.post(GOOD, headers=JSON | {"Authorization": f"Bearer {token(ONE)}"})
    assert status == 503
    assert door.meter.reasons == {"keys": 1}
    assert door.inbox.rows == []


async def test_a_signature_of_one_who_may_not_come_from_here_is_refused(doors):
    signer = Signer(SECRET.encode(), grant(allow_from=(("192.0.2.0/24",),)))
    door = await doors(keyring=Keyring(signers=[signer]))
    assert (await door.post(GOOD, headers=signed()))[0] == 401
    assert isinstance(door.intake.gate.keyring.placed(signer.grant, "127.0.0.1"), Denied)
