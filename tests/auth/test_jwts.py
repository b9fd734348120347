"""Signed tokens: who is believed, and what is not."""

from __future__ import annotations

import base64
import hmac
import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from signing import AUDIENCE, ISSUER, KeyPair, key_pair, key_set, token

from bridge.auth import Denied, Grant, Keyring, KeysNeeded, Shown
from bridge.auth.jwts import Issuer, Keys, KeySetError

ACME = Grant(tenant="acme", role="sender", shape="jwt")
ONE = key_pair("ES256", "one")
SHARED = "a-secret-that-two-share-0123456789abcdef"


def keys(*pairs: KeyPair) -> Keys:
    found = Keys("https://login.example.com/keys")
    if pairs:
        found.take(key_set(*pairs))
    return found


def issuer(held: Keys | None = None, **more) -> Issuer:
    options = {
        "issuer": ISSUER, "audience": AUDIENCE, "algorithms": ("RS256", "ES256", "EdDSA"), "secret": None,
        "leeway_s": 30.0, "grant_of": lambda claims: ACME if claims.get("sub") == "robot" else None,
    } | more  # fmt: skip
    return Issuer(keys=keys(ONE) if held is None and options["secret"] is None else held, **options)


def answer(shown: str, *issuers: Issuer, now_s: float | None = None) -> object:
    ring = Keyring(verifiers=issuers or [issuer()])
    now_s = time.time() if now_s is None else now_s
    return ring.admit(Shown(peer="192.0.2.1", authorization=f"Bearer {shown}"), now_s)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA", "PS256", "ES384", "ES512"])
def test_a_token_of_the_issuer_is_good(algorithm):
    pair = key_pair(algorithm, "one")
    assert answer(token(pair), issuer(keys(pair), algorithms=(algorithm,))) == ACME


@pytest.mark.parametrize(
    "bad",
    [
        {"lasts_s": -31},  # expired, past the leeway
        {"nbf": 9_999_999_999},
        {"exp": None},
        {"exp": "soon"},
        {"iss": None},
        {"iss": "https://elsewhere.example.com"},
        {"aud": None},
        {"aud": "another"},
        {"aud": []},
        {"sub": "another"},
        {"sub": None},
    ],
    ids=str,
)
def test_a_token_that_says_something_else_is_turned_away(bad):
    assert isinstance(answer(token(ONE, **bad)), Denied)


def test_clocks_may_differ_by_the_leeway():
    assert answer(token(ONE, lasts_s=-20)) == ACME
    assert isinstance(answer(token(ONE, lasts_s=-20), issuer(leeway_s=0.0)), Denied)


def test_an_audience_may_be_one_of_several():
    assert answer(token(ONE, aud=["another", AUDIENCE])) == ACME


def test_a_token_of_another_key_with_the_same_id_is_turned_away():
    stranger = KeyPair(key_pair("ES256", "stranger").private, "ES256", "one", {})
    said = answer(token(stranger))
    assert isinstance(said, Denied)
    assert "signature" in said.why


def test_no_token_is_believed_without_a_signature():
    header = base64.urlsafe_b64encode(b'{"alg":"none","kid":"one"}').decode().rstrip("=")
    claims = token(ONE).split(".")[1]
    assert isinstance(answer(f"{header}.{claims}."), Denied)
    assert isinstance(answer(f"{header}.{claims}.x"), Denied)


def test_a_public_key_is_no_shared_secret():
    """The classic confusion: HS256 with the public key as its secret."""
    public = ONE.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    header = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"one","typ":"JWT"}').decode().rstrip("=")
    signed = f"{header}.{token(ONE).split('.')[1]}"
    forged = base64.urlsafe_b64encode(hmac.digest(public, signed.encode(), "sha256")).decode().rstrip("=")
    assert isinstance(answer(f"{signed}.{forged}"), Denied)
    with pytest.raises(ValueError, match="algorithms must be"):
        issuer(algorithms=("HS256",))
    with pytest.raises(ValueError, match="algorithms must be"):
        issuer(secret=SHARED, algorithms=("RS256",))


def test_an_algorithm_that_is_not_pinned_is_turned_away():
    other = key_pair("ES384", "one")
    assert isinstance(answer(token(other), issuer(keys(other))), Denied)


def test_a_shared_secret_is_good_for_its_algorithm_only():
    one = issuer(secret=SHARED, algorithms=("HS256",))
    said = {"iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + 600, "sub": "robot"}
    assert answer(jwt.encode(said, SHARED, "HS256"), one) == ACME
    assert isinstance(answer(jwt.encode(said, SHARED + "x", "HS256"), one), Denied)
    assert isinstance(answer(jwt.encode(said, SHARED + "x" * 32, "HS512"), one), Denied)
    assert isinstance(answer(token(ONE), one), Denied)


def test_a_key_that_is_not_there_is_asked_for_and_only_for_tokens_of_this_issuer():
    place = "https://login.example.com/keys"
    assert answer(token(key_pair("ES256", "two"))) == KeysNeeded(place=place)
    assert answer(token(ONE), issuer(keys())) == KeysNeeded(place=place)
    assert isinstance(answer(token(key_pair("ES256", "two"), iss="https://elsewhere.example.com")), Denied)


def test_a_token_without_an_id_is_of_the_only_key():
    bare = token(ONE._replace(kid=""))
    assert answer(bare) == ACME
    assert isinstance(answer(bare, issuer(keys(ONE, key_pair("ES256", "two")))), Denied)


def test_rotated_keys_are_taken_over_and_tokens_of_a_key_that_is_gone_are_not():
    held, two = keys(ONE), key_pair("ES256", "two")
    ring = Keyring(verifiers=[issuer(held)])
    shown = Shown(peer="192.0.2.1", authorization=f"Bearer {token(ONE)}")
    assert ring.admit(shown, time.time()) == ACME
    assert held.take(key_set(two))
    ring.forget()
    assert isinstance(ring.admit(shown, time.time()), KeysNeeded)
    assert not held.take(key_set(two))  # nothing new


def test_a_token_that_was_good_is_no_longer_after_its_end():
    ring = Keyring(verifiers=[issuer(leeway_s=0.0)])
    shown = Shown(peer="192.0.2.1", authorization=f"Bearer {token(ONE, lasts_s=2)}")
    now_s = time.time()
    assert ring.admit(shown, now_s) == ACME
    [known] = ring._remembered.values()
    assert now_s < known.until_s <= now_s + 2
    ring._verifiers = (issuer(keys(), issuer="https://nobody.example.com"),)  # who would not find it good
    assert ring.admit(shown, now_s + 1) == ACME
    assert isinstance(ring.admit(shown, now_s + 3), Denied)


def test_two_issuers_stand_side_by_side():
    other = Grant(tenant="other", role="viewer", shape="jwt")
    two = key_pair("EdDSA", "two")
    both = [
        issuer(),
        issuer(keys(two), issuer="https://two.example.com", grant_of=lambda _claims: other),
    ]
    assert answer(token(ONE), *both) == ACME
    assert answer(token(two, iss="https://two.example.com"), *both) == other
    assert isinstance(answer(token(two), *both), KeysNeeded | Denied)


@pytest.mark.parametrize(
    "text",
    [
        b"", b"[]", b"{}", b'{"keys": 1}', b'{"keys": []}', b'{"keys": [1, null, {}]}', b'{"keys": [{"kty": "RSA"}]}',
        b'{"keys": [{"kty": "oct", "k": "AAAA"}]}', b'{"keys": [{"kty": []}]}', b"[" * 100_000, b"\xff",
        json.dumps({"keys": [ONE.public | {"use": "enc"}]}).encode(),
        json.dumps({"keys": [ONE.public | {"alg": "HS256"}]}).encode(),
        json.dumps({"keys": [ONE.public | {"x": "!"}]}).encode(),
        json.dumps({"keys": [ONE.public] * 101}).encode(),
    ],
    ids=lambda text: text[:30].decode("latin-1"),
)  # fmt: skip
def test_what_is_no_set_of_keys_changes_nothing(text):
    held = keys(ONE)
    with pytest.raises(KeySetError):
        held.take(text)
    assert answer(token(ONE), issuer(held)) == ACME


def test_symmetric_keys_of_a_set_are_passed_over():
    mixed = json.dumps({"keys": [{"kty": "oct", "k": "AAAA", "kid": "two"}, ONE.public]}).encode()
    held = Keys("x")
    assert held.take(mixed)
    assert held.find("two", "HS256") is None


@given(st.text(alphabet=st.characters(max_codepoint=0x17F), max_size=80))
def test_no_text_breaks_it(text):
    assert isinstance(answer(text), Denied)
    assert isinstance(answer(f"{text}.{text}.{text}"), Denied)


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_no_bytes_in_a_token_break_it(header, claims):
    def part(text: bytes) -> str:
        return base64.urlsafe_b64encode(text).decode().rstrip("=")

    assert isinstance(answer(f"{part(header)}.{part(claims)}.AAAA"), Denied)
    deep = part(b'{"alg":' + b"[" * 4000)
    assert isinstance(answer(f"{deep}.{deep}.AAAA"), Denied)
