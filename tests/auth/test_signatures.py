"""Bodies that their sender signed, as Grafana documents it: HMAC-SHA256 in hex over `timestamp:body`."""

from __future__ import annotations

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st
from signing import SECRET, signature

from bridge.auth import (
    PAGERDUTY_SIGNATURE,
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    Denied,
    Grant,
    Keyring,
    Shown,
    Signed,
    Signer,
)
from bridge.auth.signatures import MOST_SIGNATURES

GRAFANA = Grant(tenant="acme", role="sender", shape="signature", source="grafana")
OTHER = Grant(tenant="other", role="sender", shape="signature")
NOW_S = 1_700_000_000.0
BODY = b'{"alerts":[]}'


def keyring(*signers: Signer) -> Keyring:
    return Keyring(signers=signers or [Signer(SECRET.encode(), GRAFANA)])


def answer(
    ring: Keyring,
    headers: dict[str, str],
    *,
    body: bytes = BODY,
    source: str = "grafana",
    now_s: float = NOW_S,
) -> Grant | Denied:
    said = ring.admit(Shown(peer="192.0.2.1", header=headers.get, source=source), now_s)
    if isinstance(said, Signed):
        return said.settle(body)
    assert isinstance(said, Grant | Denied)
    return said


def signed(body: bytes = BODY, secret: str = SECRET, at_s: float = NOW_S) -> dict[str, str]:
    return {SIGNATURE_HEADER: signature(body, f"{at_s:.0f}", secret), TIMESTAMP_HEADER: f"{at_s:.0f}"}


def test_the_scheme_is_the_documented_one():
    """Computed once by hand with openssl: printf '1700000000:{"alerts":[]}' | openssl dgst -sha256 -hmac SECRET."""
    known = "8af4ae43bc06b6a50704b0c38859f56431f2b93754d84903a14ce04b8bde9f73"
    assert answer(keyring(), {SIGNATURE_HEADER: known, TIMESTAMP_HEADER: "1700000000"}) == GRAFANA
    assert answer(keyring(), {SIGNATURE_HEADER: known.upper(), TIMESTAMP_HEADER: "1700000000"}) == GRAFANA


@pytest.mark.parametrize(
    "headers",
    [
        signed(secret="another-secret-0123456"),
        signed(body=b'{"alerts":[ ]}'),
        {SIGNATURE_HEADER: signed()[SIGNATURE_HEADER]},  # without a time it would hold for ever
        signed() | {TIMESTAMP_HEADER: f"{NOW_S + 1:.0f}"},  # not the time that was signed
        signed() | {TIMESTAMP_HEADER: ""},
        signed() | {TIMESTAMP_HEADER: "1700000000.0"},
        signed() | {TIMESTAMP_HEADER: "\N{ARABIC-INDIC DIGIT ONE}" + "0" * 9},
        signed() | {SIGNATURE_HEADER: ""},
        signed() | {SIGNATURE_HEADER: "sha256=" + signed()[SIGNATURE_HEADER]},
        signed() | {SIGNATURE_HEADER: signed()[SIGNATURE_HEADER][:-1]},
    ],
)
def test_what_is_not_signed_so_is_turned_away(headers):
    assert isinstance(answer(keyring(), headers), Denied)


@pytest.mark.parametrize(
    ("age_s", "good"), [(0, True), (300, True), (-300, True), (301, False), (-301, False)]
)
def test_a_signature_is_good_for_five_minutes_either_way(age_s, good):
    assert isinstance(answer(keyring(), signed(at_s=NOW_S - age_s)), Grant) is good


def test_without_a_signature_nobody_signed():
    assert answer(keyring(), {}) == Denied(shape="none", why="nothing was shown")


def test_a_secret_for_one_source_is_none_for_another():
    assert answer(keyring(), signed(), source="grafana") == GRAFANA
    assert isinstance(answer(keyring(), signed(), source="default"), Denied)


def test_two_secrets_are_good_while_one_is_rotated_and_each_is_its_own_tenants():
    new = "a-new-secret-0123456789"
    ring = keyring(
        Signer(SECRET.encode(), GRAFANA), Signer(new.encode(), GRAFANA), Signer(b"others-secret-0123", OTHER)
    )
    assert answer(ring, signed()) == answer(ring, signed(secret=new)) == GRAFANA
    assert answer(ring, signed(secret="others-secret-0123")) == OTHER
    assert isinstance(answer(keyring(Signer(new.encode(), GRAFANA)), signed()), Denied)


def test_headers_may_have_other_names():
    signer = Signer(SECRET.encode(), OTHER, header="X-Signature", timestamp_header="X-Time", max_age_s=10)
    headers = {"X-Signature": signed()[SIGNATURE_HEADER], "X-Time": signed()[TIMESTAMP_HEADER]}
    assert answer(keyring(signer), headers) == OTHER
    assert isinstance(answer(keyring(signer), headers, now_s=NOW_S + 11), Denied)
    assert answer(keyring(signer), signed()) == Denied(shape="none", why="nothing was shown")


def test_no_secret_can_be_seen():
    assert SECRET not in repr(keyring()) + repr(vars(keyring()))


class Counted(Signer):
    """Counts the digests that it makes."""

    made = 0

    def digest(self, timestamp: str, body: bytes) -> bytes:
        self.made += 1
        return super().digest(timestamp, body)


@pytest.mark.parametrize("place", [0, 3, MOST_SIGNATURES - 1])
def test_a_body_is_digested_once_for_each_secret_however_many_signatures_are_shown(place):
    good = Counted(b"pagerduty-secret-1", OTHER, scheme="pagerduty")
    other = Counted(b"pagerduty-secret-2", GRAFANA, scheme="pagerduty")
    shown = [f"{number:064x}" for number in range(MOST_SIGNATURES)]
    shown[place] = hmac.new(b"pagerduty-secret-1", BODY, "sha256").hexdigest()
    headers = {PAGERDUTY_SIGNATURE: ",".join(f"v1={each}" for each in shown)}

    said = keyring(good, other).admit(Shown(peer="192.0.2.1", header=headers.get, scheme="pagerduty"), NOW_S)

    assert isinstance(said, Signed)
    assert said.settle(BODY) == OTHER
    assert (good.made, other.made) == (1, 1)


@given(st.text(max_size=70), st.text(max_size=20))
def test_no_header_breaks_it(left, right):
    assert isinstance(answer(keyring(), {SIGNATURE_HEADER: left, TIMESTAMP_HEADER: right}), Denied)
