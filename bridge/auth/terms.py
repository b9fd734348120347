"""The words of admission: what a caller shows, what it may do then, and why it is turned away.

Rules: no secret is in any of these. `why` of a `Denied` is for the log of whoever runs Tocsin, never for the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

from bridge.model import Word

Role = Literal["sender", "viewer", "responder", "admin"]
#: Higher may do what lower may, except that a `sender` may not read.
ROLE_RANK: dict[str, int] = {"sender": 0, "viewer": 1, "responder": 2, "admin": 3}
DEFAULT_TENANT = "default"
#: What a caller showed. `loopback`: nothing, and nothing is asked of this machine.
Shape = Literal["none", "loopback", "token", "password", "jwt", "signature", "certificate"]
#: Networks, in groups: a caller's address must be in one of each group.
Networks = tuple[tuple[str, ...], ...]


class Grant(Word, frozen=True, kw_only=True):
    """What a credential allows."""

    tenant: str
    role: Role
    shape: Shape = "token"
    source: str | None = None  # the only source it may send as; None for all of the tenant's
    allow_from: Networks = ()
    actor: str = ""  # who that is, for the log: the credential's place in the configuration, or a name


class Denied(Word, frozen=True, kw_only=True):
    """It may do nothing. The caller is told no more than that."""

    shape: Shape
    why: str


class KeysNeeded(Word, frozen=True, kw_only=True):
    """Who signed can be said only once the keys of `place` are there (again)."""

    place: str


def no_header(_name: str) -> str | None:
    """Return that there is no header."""
    return None


class Shown(Word, frozen=True, kw_only=True):
    """What a request shows of who sends it."""

    peer: str | None  # the address of the other end of the connection; None if it is gone
    authorization: str | None = None  # the header's value; "" where it stands more than once
    header: Callable[[str], str | None] = no_header  # any other header; None unless it stands exactly once
    source: str | None = None  # what it sends as; None where it does not send
    scheme: str = "grafana"  # how a body is signed where it was sent to; but for "grafana" it has to be
    certificate: Mapping[str, Any] | None = (
        None  # of the client, verified, as `SSLSocket.getpeercert` gives it
    )


class Verified(Word, frozen=True, kw_only=True):
    """What a signed token grants, and until when it may be believed without another look."""

    grant: Grant
    until_s: float


class Verifier(Protocol):
    """Knows the tokens of one issuer."""

    def verify(self, token: str) -> Verified | Denied | KeysNeeded:
        """Return what a token grants."""
