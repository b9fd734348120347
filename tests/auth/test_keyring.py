from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.auth import (
    DEFAULT_TENANT,
    ROLE_RANK,
    CertificateRule,
    Denied,
    Grant,
    Keyring,
    Shown,
    Signer,
    is_foreign,
    is_loopback,
)

ACME = Grant(tenant="acme", role="sender")
OTHER = Grant(tenant="other", role="admin")
KEYRING = Keyring([("acme-token-0123456789", ACME), ("øther-token-0123456789", OTHER)])


def admitted(
    keyring: Keyring, authorization: str | None, peer: str | None = "127.0.0.1", **more
) -> Grant | None:
    """Return what is granted; None if it is denied."""
    answer = keyring.admit(Shown(peer=peer, authorization=authorization, **more), 0.0)
    assert isinstance(answer, Grant | Denied)
    return answer if isinstance(answer, Grant) else None


@pytest.mark.parametrize(
    ("header", "grant"),
    [
        ("Bearer acme-token-0123456789", ACME),
        ("bearer acme-token-0123456789", ACME),
        ("Bearer  acme-token-0123456789 ", ACME),
        ("Bearer øther-token-0123456789", OTHER),
        (None, None),
        ("", None),
        ("Bearer", None),
        ("Bearer ", None),
        ("acme-token-0123456789", None),
        ("Basic acme-token-0123456789", None),
        ("Bearer acme-token-012345678", None),
        ("Bearer acme-token-01234567890", None),
        ("Bearer ACME-token-0123456789", None),
        ("Bearer \udcff\udcfe", None),  # what aiohttp makes of bytes that are not UTF-8
    ],
)
def test_a_token_names_its_tenant(header, grant):
    assert admitted(KEYRING, header) == grant


def test_with_tokens_the_peer_does_not_count():
    assert admitted(KEYRING, None) is None
    assert admitted(KEYRING, "Bearer acme-token-0123456789", "203.0.113.9") == ACME


@pytest.mark.parametrize(
    ("peer", "inside"),
    [
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("10.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("fe80::1%eth0", False),
        ("0.0.0.0", False),
        ("", False),
        ("localhost", False),
        (None, False),
    ],
)
def test_without_tokens_only_loopback_is_let_in(peer, inside):
    assert is_loopback(peer) is inside
    open_ring = Keyring()
    assert open_ring.is_open
    granted = admitted(open_ring, "Bearer whatever", peer)
    assert granted == (
        Grant(tenant=DEFAULT_TENANT, role="admin", shape="loopback", actor="loopback") if inside else None
    )


def test_no_token_can_be_seen():
    shown = repr(KEYRING) + repr(vars(KEYRING)) + str(admitted(KEYRING, "Bearer acme-token-0123456789"))
    assert "0123456789" not in shown


def test_every_role_has_a_rank():
    assert sorted(ROLE_RANK, key=ROLE_RANK.__getitem__) == ["sender", "viewer", "responder", "admin"]


@pytest.mark.parametrize(
    ("site", "foreign"),
    [
        (None, False),
        ("none", False),
        ("same-origin", False),
        ("cross-site", True),
        ("same-site", True),
        ("", True),
    ],
)
def test_a_browser_says_when_the_page_is_another_sites(site, foreign):
    assert is_foreign(site) is foreign


def test_tenants_are_counted_once_however_many_tokens_they_have():
    tokens = [(f"token-{number}", Grant(tenant=tenant, role="sender")) for number, tenant in enumerate("aab")]
    assert Keyring(tokens).tenants == 2
    assert Keyring().tenants == 1


# ---- passwords, sources, networks ------------------------------------------------------------------------


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


PASSWORDS = Keyring(
    passwords=[("am", "old-password", ACME), ("am", "new:pässword", ACME), ("root", "other", OTHER)],
    key=b"k" * 32,
)


@pytest.mark.parametrize(
    ("header", "grant"),
    [
        (basic("am", "old-password"), ACME),
        (basic("am", "new:pässword"), ACME),  # two at once: one is being rotated
        (basic("am", "old-password").replace("Basic", "basic"), ACME),
        (basic("root", "other"), OTHER),
        (basic("am", "other"), None),  # another's password
        (basic("am", "old-passwor"), None),
        (basic("AM", "old-password"), None),
        (basic("am:old", "password"), None),
        ("Basic", None),
        ("Basic !!!", None),
        ("Basic \udcff", None),
        ("Bearer old-password", None),
        (None, None),
    ],
)
def test_a_user_with_a_password_is_let_in(header, grant):
    assert admitted(PASSWORDS, header) == grant


@given(st.text(max_size=60))
def test_no_header_breaks_the_keyring(header):
    assert admitted(PASSWORDS, header) is None
    assert admitted(KEYRING, f"Bearer {header}") is None
    assert admitted(PASSWORDS, f"Basic {header}") is None


def test_a_token_is_no_password_and_a_password_is_no_token():
    """Both are kept as digests, and one must not stand in for the other."""
    keyring = Keyring([("am:old-password", ACME)], passwords=[("user", "0123456789abcdef", OTHER)])
    assert admitted(keyring, basic("am", "old-password")) is None
    assert admitted(keyring, "Bearer user:0123456789abcdef") is None


@pytest.mark.parametrize(
    ("networks", "peer", "inside"),
    [
        ((), "203.0.113.9", True),
        ((("10.0.0.0/8",),), "10.1.2.3", True),
        ((("10.0.0.0/8",),), "::ffff:10.1.2.3", True),
        ((("10.0.0.0/8",),), "11.1.2.3", False),
        ((("10.0.0.0/8",),), "::1", False),
        ((("10.0.0.0/8",),), None, False),
        ((("10.0.0.0/8",),), "not an address", False),
        ((("192.0.2.1", "2001:db8::/32"),), "2001:db8::7%eth0", True),
        ((("192.0.2.1", "2001:db8::/32"),), "192.0.2.2", False),
        ((("10.0.0.0/8",), ("10.1.0.0/16",)), "10.1.2.3", True),
        ((("10.0.0.0/8",), ("10.1.0.0/16",)), "10.2.2.3", False),  # the tenant's, and not its own
    ],
)
def test_a_credential_counts_only_from_its_networks(networks, peer, inside):
    grant = Grant(tenant="acme", role="sender", allow_from=networks)
    keyring = Keyring([("acme-token-0123456789", grant)])
    assert (admitted(keyring, "Bearer acme-token-0123456789", peer) == grant) is inside


def test_what_is_shown_first_decides():
    certificate = {"subjectAltName": (("DNS", "am.example.com"),)}
    keyring = Keyring(
        [("acme-token-0123456789", ACME)], certificates=[CertificateRule(grant=OTHER, san="am.example.com")]
    )
    assert admitted(keyring, None, certificate=certificate) == OTHER
    assert admitted(keyring, "Bearer acme-token-0123456789", certificate=certificate) == ACME
    assert admitted(keyring, "Bearer wrong", certificate=certificate) is None
    assert admitted(keyring, "", certificate=certificate) is None  # two of them


def test_nothing_is_open_once_anything_is_configured():
    rule = CertificateRule(grant=ACME, san="am.example.com")
    for keyring in (PASSWORDS, Keyring(certificates=[rule]), Keyring(signers=[Signer(b"s" * 16, ACME)])):
        assert not keyring.is_open
        assert admitted(keyring, None, "127.0.0.1") is None


@pytest.mark.parametrize("scheme", ["slack", "pagerduty"])
def test_where_people_press_elsewhere_only_a_signature_counts(scheme):
    """Whoever holds another credential could say that anybody did anything."""
    shown = {
        "token": {"authorization": "Bearer acme-token-0123456789"},
        "certificate": {"certificate": {"subjectAltName": (("DNS", "am.example.com"),)}},
        "this machine": {},
    }
    responder = Grant(tenant="acme", role="responder")
    keyrings = [
        Keyring(),
        Keyring(
            [("acme-token-0123456789", responder)],
            certificates=[CertificateRule(grant=responder, san="am.example.com")],
            signers=[Signer(b"s" * 16, responder, scheme=scheme)],
        ),
    ]
    for keyring in keyrings:
        for more in shown.values():
            answer = keyring.admit(Shown(peer="127.0.0.1", scheme=scheme, **more), 0.0)
            assert isinstance(answer, Denied)


# ---- certificates ----------------------------------------------------------------------------------------

CERTIFICATE = {
    "subject": ((("countryName", "DE"),), (("organizationName", "Acme"),), (("commonName", "am"),)),
    "subjectAltName": (("DNS", "AM.example.com"), ("URI", "spiffe://Acme/am"), ("IP Address", "192.0.2.7")),
}


@pytest.mark.parametrize(
    ("san", "subject", "fits"),
    [
        ("am.example.com", (), True),
        ("AM.EXAMPLE.COM", (), True),
        ("spiffe://Acme/am", (), True),
        ("spiffe://acme/am", (), False),
        ("192.0.2.7", (), True),
        ("am", (), False),  # the common name stands in for no alternative name
        ("example.com", (), False),
        (None, (("CN", "am"),), True),
        (None, (("commonName", "am"), ("O", "Acme")), True),
        (None, (("CN", "am"), ("O", "Other")), False),
        (None, (("CN", "AM"),), False),
        ("am.example.com", (("CN", "am"),), True),
        ("am.example.com", (("CN", "x"),), False),
        ("x.example.com", (("CN", "am"),), False),
        (None, (), False),
    ],
)
def test_a_certificate_is_known_by_its_names(san, subject, fits):
    keyring = Keyring(certificates=[CertificateRule(grant=ACME, san=san, subject=subject)])
    assert admitted(keyring, None, certificate=CERTIFICATE) == (ACME if fits else None)
    assert admitted(keyring, None, certificate={}) is None
