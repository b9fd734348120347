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

from bridge.ports import Auth, Http, Unreached


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
            self._made[vendor] = cast("Authorizer", module.authorizer())
        return self._made[vendor]
