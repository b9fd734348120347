"""The frames sender: syslog over TCP and TLS with octet counting (RFC 6587, RFC 5425), and RELP.

One connection per address is kept and opened anew when it broke; one request at a time uses it.

Rule: over plain TCP and TLS "accepted" means no more than "handed to the kernel": 500 of 500 messages were
lost when a receiver was killed at the wrong moment. Only RELP answers for each message.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Sequence

from aiohappyeyeballs import start_connection
from tenacity.wait import wait_base
from typing_extensions import override

from bridge.ports import Frames, FramesResponse, Request, Response, Sender, Unreached
from connectors.transport.attempts import CONNECT_S, Trust, attempt, short_wait
from connectors.transport.names import Found, Names
from connectors.transport.relp import RelpError, RelpSession

UNASKED_BYTES = 64 * 1024
NEXT_ADDRESS_S = 0.25  # RFC 8305 section 5
CLOSE_S = 1.0  # how long the end waits for a farewell

Key = tuple[str, str, str]  # address, transport, ca_file


class FramesSender(Sender):
    """Sends `Frames` requests. Close it in the loop that it was used in."""

    def __init__(self, *, wait: wait_base | None = None, names: Names | None = None) -> None:
        self._wait = wait if wait is not None else short_wait()
        self._names = names or Names()
        self._trust = Trust()
        self._links: dict[Key, _Link] = {}
        self._turns: dict[Key, asyncio.Lock] = {}

    @override
    async def send(self, request: Request, *, timeout_s: float) -> Response:
        if not isinstance(request, Frames):
            return Unreached(reason="not frames", maybe_sent=False, kind="local")
        key = (request.address, request.transport, request.ca_file)
        turn = self._turns.setdefault(key, asyncio.Lock())
        try:
            async with asyncio.timeout(timeout_s):
                await turn.acquire()
        except TimeoutError:
            return Unreached(reason=f"{request.address} is busy", maybe_sent=False, kind="timeout")
        try:
            return await attempt(lambda: self._once(key, request, timeout_s), self._wait)
        finally:
            turn.release()

    async def _once(self, key: Key, request: Frames, timeout_s: float) -> Response:
        link = await self._link(key, min(CONNECT_S, timeout_s))
        if isinstance(link, Unreached):
            return link
        try:
            async with asyncio.timeout(timeout_s):
                response = await link.send(request.frames)
        except TimeoutError:
            reason = f"{request.address} did not take the messages within {timeout_s:g} s"
            response = Unreached(reason=reason, maybe_sent=True, kind="timeout")
        except (OSError, EOFError, RelpError) as error:
            reason = f"{request.address} broke off: {_words(error)}"
            response = Unreached(reason=reason, maybe_sent=True, kind="reset")
        finally:
            if not link.is_idle:
                self._drop(key)
        return response

    async def _link(self, key: Key, timeout_s: float) -> _Link | Unreached:
        """Return the kept connection, or a new one, or why there is none."""
        address = key[0]
        kept = self._links.get(key)
        if kept is not None:
            if await kept.is_usable():
                return kept
            self._drop(key)
        try:
            context = await self._trust.context(key[2]) if key[1].endswith("tls") else None
        except OSError as error:
            reason = f"ca_file cannot be used: {_words(error)}"
            return Unreached(reason=reason, maybe_sent=False, kind="local")
        try:
            async with asyncio.timeout(timeout_s):
                link = await self._connect(address, context, is_relp=key[1].startswith("relp"))
        except TimeoutError:
            return Unreached(reason=f"no connection to {address} in time", maybe_sent=False, kind="connect")
        except ssl.SSLError as error:
            return Unreached(reason=f"TLS with {address}: {_words(error)}", maybe_sent=False, kind="tls")
        except (OSError, EOFError, RelpError, ValueError) as error:
            reason = f"no connection to {address}: {_words(error)}"
            return Unreached(reason=reason, maybe_sent=False, kind="connect")
        self._links[key] = link
        return link

    async def _connect(self, address: str, context: ssl.SSLContext | None, *, is_relp: bool) -> _Link:
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        addresses = await self._names.addresses(host, int(port))
        reader, writer = await _opened(addresses, context, host)
        link = _Link(reader, writer, is_relp=is_relp)
        try:
            await link.open()
        except BaseException:
            link.abort()
            raise
        return link

    def _drop(self, key: Key) -> None:
        link = self._links.pop(key, None)
        if link is not None:
            link.abort()

    @override
    async def close(self) -> None:
        """Close what is kept open, all at once; what does not end in a moment is cut off."""
        await asyncio.gather(*(self._close(key) for key in tuple(self._links)))

    async def _close(self, key: Key) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S), self._turns.setdefault(key, asyncio.Lock()):
                link = self._links.get(key)
                if link is not None:
                    await link.close()
        self._drop(key)


async def _opened(
    addresses: Found, context: ssl.SSLContext | None, name: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a connection to the first of `addresses` that takes one; certificates are checked against `name`.

    The next address is tried beside one that keeps silent (RFC 8305): one behind a firewall that swallows what
    is sent there took the whole time, and the others were never tried.
    """
    connected = await start_connection(addresses, happy_eyeballs_delay=NEXT_ADDRESS_S)
    server_name = name if context is not None else None
    return await asyncio.open_connection(sock=connected, ssl=context, server_hostname=server_name)


class _Link:
    """One open connection, with or without RELP on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_relp: bool) -> None:
        self._reader, self._writer = reader, writer
        self._relp = RelpSession(reader, writer) if is_relp else None
        self.is_idle = True  # False while something was begun and not brought to its end

    async def is_usable(self) -> bool:
        """Return whether the far side still listens; reads what it may have sent unasked."""
        await asyncio.sleep(0)  # lets the loop read the end that may have come
        while self.is_idle and not self._writer.is_closing():
            try:
                async with asyncio.timeout(0):
                    received = await self._reader.read(UNASKED_BYTES)
            except TimeoutError:
                return True
            # RELP says nothing unasked but that it closes; elsewhere words mean nothing, only the end does.
            if not received or self._relp is not None:
                break
        return False

    async def open(self) -> None:
        if self._relp is not None:
            await self._relp.open()

    async def send(self, frames: Sequence[bytes]) -> Response:
        self.is_idle = False
        if self._relp is not None:
            response = await self._relp.send(frames)
            self.is_idle = not self._relp.is_broken
            return response
        for frame in frames:
            self._writer.write(b"%d %b" % (len(frame), frame))  # octet counting, RFC 6587 section 3.4.1
            await self._writer.drain()
        self.is_idle = True
        return FramesResponse(accepted=len(frames))

    def abort(self) -> None:
        self._writer.transport.abort()

    async def close(self) -> None:
        try:
            if self._relp is not None and await self.is_usable():
                await self._relp.close()
            self._writer.close()
            await self._writer.wait_closed()
        except (OSError, EOFError, RelpError):
            self.abort()


def _words(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
