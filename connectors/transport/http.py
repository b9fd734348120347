"""The HTTP sender: one kept session, no redirects, no proxies from the environment, answers cut at 64 KiB (or as told).

Rule: no URL, header or body enters a reason; they may hold secrets. Only the host does.

Decision: answers are asked for without compression, so that "cut at 64 KiB" bounds memory, not just the wire.

Rule: an address that is not from the configuration (`Http.foreign`) is connected to only if it is public. Those
connections are kept apart: a kept one to a private address must not serve a stranger's request.

Rule: credentials of a cloud (`Http.auth`) are added here, since to find them takes I/O (`vendors`). An attempt with
credentials that the cloud no longer takes is made once more with new ones; that is safe, it took nothing.

Rule: a body that is to be a Parquet file (`Http.shape`) is made before the credentials, which may sign it (`bodies`).

Decision: no limit on connections here. The dispatcher bounds what is under way per destination; a limit per host
let two destinations that hang starve a third one behind the same proxy.
"""

from __future__ import annotations

import asyncio
import io
from urllib.parse import urlsplit

import aiohttp
from tenacity.wait import wait_base
from typing_extensions import override

from bridge.ports import Auth, Http, HttpResponse, Request, Response, Sender, Unreached
from connectors.transport.attempts import CONNECT_S, Trust, attempt, short_wait
from connectors.transport.bodies import Bodies
from connectors.transport.names import Names, Resolver
from connectors.transport.places import public_socket
from connectors.transport.vendors import Authorizer, Authorizers, refuses

BODY_BYTES = 64 * 1024
PIECE_BYTES = 256 * 1024  # a body above this is written in pieces
KEPT_S = 4.0  # shorter than the idle limit of common servers (5 s), so that a kept connection is rarely dead


class HttpSender(Sender):
    """Sends `Http` requests. Close it in the loop that it was used in."""

    def __init__(
        self,
        *,
        wait: wait_base | None = None,
        names: Names | None = None,
        body_bytes: int = BODY_BYTES,
        authorizers: Authorizers | None = None,
    ) -> None:
        self._authorizers = authorizers or Authorizers()
        self._body_bytes = body_bytes
        self._wait = wait if wait is not None else short_wait()
        self._names = names or Names()
        self._trust = Trust()
        self._bodies = Bodies()
        self._sessions: dict[bool, aiohttp.ClientSession] = {}  # by whether the address is a stranger's

    @override
    async def send(self, request: Request, *, timeout_s: float) -> Response:
        if not isinstance(request, Http):
            return Unreached(reason="not an HTTP request", maybe_sent=False, kind="local")
        made = await self._bodies.made(request, timeout_s=timeout_s) if request.shape else request
        if isinstance(made, Unreached):
            return made
        if made.auth is None:
            return await attempt(lambda: self._once(made, timeout_s), self._wait)
        return await self._authorized(made, made.auth, timeout_s)

    async def _authorized(self, request: Http, auth: Auth, timeout_s: float) -> Response:
        """Send with a vendor's credentials; where they are refused, once more with new ones."""
        try:
            authorizer = await self._authorizer(auth.vendor)
        except ImportError:
            reason = f'credentials of {auth.vendor} need more: pip install "tocsin[{auth.vendor}]"'
            return Unreached(reason=reason, maybe_sent=False, kind="local")
        response = await self._signed(request, auth, authorizer, timeout_s)
        if isinstance(response, HttpResponse) and refuses(auth.vendor, response) and authorizer.forget(auth):
            response = await self._signed(request, auth, authorizer, timeout_s)
        return response

    async def _authorizer(self, vendor: str) -> Authorizer:
        if self._authorizers.knows(vendor):
            return self._authorizers.of(vendor)
        return await asyncio.to_thread(self._authorizers.of, vendor)

    async def _signed(self, request: Http, auth: Auth, authorizer: Authorizer, timeout_s: float) -> Response:
        signed = await authorizer.authorize(request, auth, timeout_s=timeout_s)
        if isinstance(signed, Unreached):
            return signed
        return await attempt(lambda: self._once(signed, timeout_s), self._wait)

    async def _once(self, request: Http, timeout_s: float) -> Response:
        host = _host(request.url)
        try:
            return await self._exchange(request, timeout_s)
        except aiohttp.ConnectionTimeoutError:
            return Unreached(reason=f"no connection to {host} in time", maybe_sent=False, kind="connect")
        except TimeoutError:
            reason = f"no answer from {host} within {timeout_s:g} s"
            return Unreached(reason=reason, maybe_sent=True, kind="timeout")
        except aiohttp.ClientSSLError as error:
            return Unreached(reason=f"TLS with {host}: {_tls(error)}", maybe_sent=False, kind="tls")
        except aiohttp.ClientConnectorError as error:
            cause = error.os_error
            reason = f"no connection to {host}: {cause.strerror or str(cause) or type(cause).__name__}"
            return Unreached(reason=reason, maybe_sent=False, kind="connect")
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError, ValueError):
            reason = f"the address or a header of the request to {host} cannot be sent"
            return Unreached(reason=reason, maybe_sent=False, kind="local")
        except (aiohttp.ClientError, OSError) as error:
            reason = f"{host} broke off: {type(error).__name__}"
            return Unreached(reason=reason, maybe_sent=True, kind="reset")

    async def _exchange(self, request: Http, timeout_s: float) -> Response:
        try:
            context = await self._trust.context(request.ca_file)
        except OSError as error:
            reason = f"ca_file cannot be used: {error.strerror or type(error).__name__}"
            return Unreached(reason=reason, maybe_sent=False, kind="local")
        async with self._opened(foreign=request.foreign).request(
            request.method,
            request.url,
            headers=request.headers,
            data=_data(request.body),
            ssl=context,
            timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=min(CONNECT_S, timeout_s)),
            allow_redirects=False,
        ) as answer:
            body = await _first(answer.content, self._body_bytes)
            headers = {name.lower(): value for name, value in answer.headers.items()}
            return HttpResponse(status=answer.status, headers=headers, body=body)

    def _opened(self, *, foreign: bool) -> aiohttp.ClientSession:
        if foreign not in self._sessions:
            self._sessions[foreign] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0,
                    limit_per_host=0,
                    keepalive_timeout=KEPT_S,
                    resolver=Resolver(self._names),
                    socket_factory=public_socket if foreign else None,
                ),
                headers={"User-Agent": "tocsin", "Accept-Encoding": "identity"},
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
            )
        return self._sessions[foreign]

    @override
    async def close(self) -> None:
        await self._bodies.close()
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()
            await asyncio.sleep(0)  # one turn for the transports to see that they are closed


def _data(body: bytes) -> bytes | io.BytesIO | None:
    """Return a body as aiohttp is to write it: a large one in pieces, so that others have their turn."""
    return io.BytesIO(body) if len(body) > PIECE_BYTES else body or None


async def _first(content: aiohttp.StreamReader, size_bytes: int) -> bytes:
    parts, room = [], size_bytes
    while room > 0:
        part = await content.read(room)
        if not part:
            break
        parts.append(part)
        room -= len(part)
    return b"".join(parts)


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or "the destination"
    except ValueError:
        return "the destination"


def _tls(error: aiohttp.ClientSSLError) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return getattr(error.certificate_error, "verify_message", "") or "the certificate was refused"
    return getattr(error.os_error, "reason", "") or "the handshake failed"
