"""Who is asking: bearer tokens to (tenant, role), in constant time.

Rules: pure. The configured tokens are kept as digests only, so that no repr, dump or log of this room can
show one. Every comparison runs over all tokens; neither time nor answer tells which part was wrong. With no
token configured the machine itself is the credential: loopback peers, tenant `default`, every role.

Decision: compare SHA-256 digests rather than the tokens. `hmac.compare_digest` of unequal lengths returns
at once, which would tell a token's length; digests all have one length.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256
from ipaddress import ip_address
from typing import Literal

from bridge.model import Word

Role = Literal["sender", "viewer", "responder", "admin"]
#: Higher may do what lower may, except that a `sender` may not read.
ROLE_RANK: dict[str, int] = {"sender": 0, "viewer": 1, "responder": 2, "admin": 3}
DEFAULT_TENANT = "default"


class Grant(Word, frozen=True, kw_only=True):
    """What a credential allows."""

    tenant: str
    role: Role


class Keyring:
    """The tokens that are accepted."""

    def __init__(self, tokens: Iterable[tuple[str, Grant]] = ()) -> None:
        self._grants = tuple((_digest(token), grant) for token, grant in tokens)
        #: How many tenants can be told apart.
        self.tenants = len({grant.tenant for _, grant in self._grants}) or 1

    def admit(self, authorization: str | None, peer: str | None) -> Grant | None:
        """Return what the caller may do; None if its credential is missing or not one of ours.

        `authorization` is the header's value, `peer` the address of the other end of the connection.
        """
        if not self._grants:
            return Grant(tenant=DEFAULT_TENANT, role="admin") if is_loopback(peer) else None
        presented = _digest(_bearer(authorization))
        found: Grant | None = None
        for digest, grant in self._grants:  # no early exit: the time is the same for every token
            if hmac.compare_digest(digest, presented):
                found = grant
        return found


@lru_cache(maxsize=1024)
def is_loopback(peer: str | None) -> bool:
    """Return whether `peer` is an address of this machine's loopback."""
    try:
        address = ip_address((peer or "").partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)  # ::ffff:127.0.0.1, how a dual-stack socket shows IPv4
    return (mapped or address).is_loopback


def is_foreign(site: str | None) -> bool:
    """Return whether a browser says that the page of another site sends (`site`: the header Sec-Fetch-Site).

    Without credentials, from loopback, a browser is the way in for such a page. Nothing but browsers has the header.
    """
    return site is not None and site not in {"none", "same-origin"}


def _bearer(authorization: str | None) -> str:
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _digest(token: str) -> bytes:
    # aiohttp hands on bytes that are not UTF-8 as surrogates.
    return sha256(token.encode("utf-8", "surrogateescape")).digest()
