"""Credentials of the clouds, by their vendors' own libraries: they find them, renew them and sign with them.

Each vendor is a module here with a function `authorizer() -> Authorizer`; it is imported when the first request needs
it, so that an extra nobody installed is in nobody's way. `tocsin check` has said before what is missing.

Rules: what blocks (a metadata service, a token endpoint) runs in a thread. Tokens are kept in memory until shortly
before they expire, asked for once at a time, and never logged. No reason holds a credential.

Decision: the vendors' libraries, not code of ours, although the signatures are short: chains of credentials (workload
identity, instance metadata, federation) change with the clouds, and security code is not written here.
"""

from __future__ import annotations

from importlib import import_module
from typing import Protocol, cast

from bridge.ports import Auth, Http, HttpResponse, Unreached

UNAUTHORIZED = 401
#: AWS says otherwise than with a 401 that credentials have ended, or are none it knows (any more).
AWS_REFUSALS = (b"ExpiredToken", b"InvalidClientTokenId", b"InvalidAccessKeyId", b"UnrecognizedClient")
AWS_STATUSES = frozenset({400, 403})


class Authorizer(Protocol):
    """Adds one vendor's credentials to requests."""

    async def authorize(self, request: Http, auth: Auth, *, timeout_s: float) -> Http | Unreached:
        """Return the request with its credentials.

        `Unreached` of kind "local" says that there are none, or that they were refused (the destination is blocked);
        of kind "connect" that the vendor could not be asked (it is tried again).
        """
        ...

    def forget(self, auth: Auth) -> bool:
        """Drop what is kept for `auth`, since it was refused; return whether new credentials may differ."""
        ...


def refuses(vendor: str, response: HttpResponse) -> bool:
    """Return whether a cloud's answer is about the credentials themselves, so that new ones may help."""
    if vendor == "aws" and response.status in AWS_STATUSES:
        return any(word in response.body for word in AWS_REFUSALS)
    return response.status == UNAUTHORIZED


class Authorizers:
    """The vendors' authorizers, made when they are first needed."""

    def __init__(self) -> None:
        self._made: dict[str, Authorizer] = {}

    def of(self, vendor: str) -> Authorizer:
        """Return the one of a vendor.

        Raises:
            ImportError: Its extra is not installed.
        """
        if vendor not in self._made:
            module = import_module(f"{__name__}.{vendor}")
            self._made.setdefault(vendor, cast("Authorizer", module.authorizer()))
        return self._made[vendor]

    def knows(self, vendor: str) -> bool:
        """Return whether `of` need not import anything, which takes some tenths of a second."""
        return vendor in self._made
