from __future__ import annotations

import pytest

from bridge.auth import DEFAULT_TENANT, ROLE_RANK, Grant, Keyring, is_foreign, is_loopback

ACME = Grant(tenant="acme", role="sender")
OTHER = Grant(tenant="other", role="admin")
KEYRING = Keyring([("acme-token-0123456789", ACME), ("øther-token-0123456789", OTHER)])


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
    assert KEYRING.admit(header, "127.0.0.1") == grant


def test_with_tokens_the_peer_does_not_count():
    assert KEYRING.admit(None, "127.0.0.1") is None
    assert KEYRING.admit("Bearer acme-token-0123456789", "203.0.113.9") == ACME


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
    expected = Grant(tenant=DEFAULT_TENANT, role="admin") if inside else None
    assert Keyring().admit("Bearer whatever", peer) == expected


def test_no_token_can_be_seen():
    shown = repr(KEYRING) + repr(vars(KEYRING)) + str(KEYRING.admit("Bearer acme-token-0123456789", None))
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
