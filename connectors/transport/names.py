"""Names to addresses, each looked up in a thread of its own, and never twice at once.

Decision: not the event loop's `getaddrinfo`. It runs in an executor that all share (with uvloop, four threads for
the whole process), and a name server that is dead holds a thread for twenty seconds and more: one dead name,
tried again and again, kept every other destination from being looked up. Here a name that hangs holds one thread,
whoever asks for it meanwhile waits for the same answer, and the end of the process waits for none of them.

Rule: a name leads to hosts only (`places`); what else a name server answers is left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from aiohttp.abc import AbstractResolver, ResolveResult
from typing_extensions import override

from connectors.transport.attempts import CONNECT_S
from connectors.transport.places import is_somewhere, is_written_out

#: What `socket.getaddrinfo` returns: family, type, protocol, canonical name, address.
Found = Sequence[tuple[Any, ...]]


class _Key(NamedTuple):
    host: str
    port: int
    family: int


class Names:
    """Looks names up. Used in one event loop."""

    def __init__(
        self, look_up: Callable[..., Found] = socket.getaddrinfo, within_s: float = CONNECT_S
    ) -> None:
        self._look_up = look_up
        self._within_s = within_s
        self._asked: dict[_Key, asyncio.Future[Found | OSError]] = {}

    async def addresses(self, host: str, port: int, family: int = socket.AF_UNSPEC) -> Found:
        """Return the addresses of a name, at least one.

        Raises:
            OSError: there is none, or the lookup takes too long. (It goes on, and its late answer serves
                whoever asks then.)
        """
        key = _Key(host, port, family)
        if key not in self._asked:
            self._asked[key] = asyncio.get_running_loop().create_future()
            threading.Thread(
                target=self._run, args=(key, self._asked[key]), name="names", daemon=True
            ).start()
        try:
            async with asyncio.timeout(self._within_s):
                found = await asyncio.shield(self._asked[key])
        except TimeoutError:
            raise OSError(f"the name {host} cannot be looked up in time") from None
        if isinstance(found, OSError):
            raise found
        if is_written_out(host):
            return found
        kept = [each for each in found if is_somewhere(str(each[4][0]))]
        if not kept:
            raise OSError(f"the name {host} leads to no host")
        return kept

    def _run(self, key: _Key, asked: asyncio.Future[Found | OSError]) -> None:
        found: Found | OSError
        try:
            found = self._look_up(key.host, key.port, family=key.family, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # a label of more than 63 characters is a UnicodeError
            found = error if isinstance(error, OSError) else OSError(f"{key.host} is no host name")

        def answer() -> None:
            del self._asked[key]
            if not asked.done():
                asked.set_result(found)

        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            asked.get_loop().call_soon_threadsafe(answer)


class Resolver(AbstractResolver):
    """`Names` as aiohttp asks for it."""

    def __init__(self, names: Names) -> None:
        self._names = names

    @override
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host, host=str(address[0]), port=int(address[1]), family=found_family, proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for found_family, _, protocol, _, address in await self._names.addresses(host, port, family)
        ]  # fmt: skip

    @override
    async def close(self) -> None:
        """Nothing is kept open."""
