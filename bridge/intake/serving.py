"""The server below the door: its connections, how many may wait, and what never gets as far as the door.

Rules: the server is made by `Runner`, for the intake's promises hold only so. Idle connections are bounded, the
oldest go first, because each is a file and without a free file nobody gets in. What is refused before a handler
sees it (a path that is not there, another method, something that is no HTTP) is counted like every refusal.

Theory of operation. aiohttp closes an idle connection after `keepalive_timeout`, which must be longer than any
`group_interval`, and it gives a connection that never sends a request just as long. So `sweep` looks at all
connections from time to time. One that waits is known by its number of requests: the same number at the next look
means that it waited all the time between.

Who takes nothing of an answer is known in the same way: writing stands since the same stop, and what waits has not
become less. What is larger than the buffers (64 KiB and the kernel's) waits in memory until it is taken, so a client
has to take `TAKE_BYTES` of it every `TAKE_S`, or is cut off.

Every answer carries `PROTECTION`, those that are given before any handler sees a request included: a browser must not
guess what an answer is, or keep it. What a page can be made of, an answer to GET, carries `PAGE_PROTECTION` as well: it
must not be shown in another page, load anything or say where it was. Webhooks are spared that, for seven headers are
4 % of what one costs.

Decision: no connection is closed that has waited for less than a second, even if there are too many. In a storm of
new groups two thousand arrive at once, and each is about to send.

Decision: a peer may have three quarters of all connections and not less, for most have one: Alertmanager, or a proxy
before everybody. The last quarter is for who comes to see what is wrong.

Decision: no Strict-Transport-Security. It holds for all ports of a host name, and beside Tocsin there is usually
something that has no TLS.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Final, NamedTuple

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler
from aiohttp.web_protocol import RequestHandler
from multidict import istr
from typing_extensions import override

from bridge.intake.terms import IntakeMeter
from bridge.model import Word

#: How `aiohttp.web.AppRunner` has to be made for this room's promises to hold. `keepalive_timeout` is longer
#: than any `group_interval` in use, so that an Alertmanager seldom meets a connection that is just closing.
SERVER_OPTIONS: Final[dict[str, Any]] = {
    "auto_decompress": False,
    "access_log": None,
    "keepalive_timeout": 3630.0,
    "lingering_time": 10.0,
}
#: Alertmanager opens more than 2,000 connections at once when as many groups are new.
BACKLOG: Final = 4096
#: How long a new connection may take for the head of its first request.
HEAD_S: Final = 20.0
#: Younger ones are about to send.
YOUNG_S: Final = 1.0
#: So much of an answer that waits for it a client has to take, in so long.
TAKE_BYTES: Final = 64 << 10
TAKE_S: Final = 60.0
#: The share of all connections that one peer may have.
PEER_SHARE: Final = 0.75
#: What every answer says of how it is to be handled. Names that are folded already save half of the time.
PROTECTION: Final[dict[str, str]] = {
    istr("Server"): "Tocsin",
    istr("X-Content-Type-Options"): "nosniff",
    istr("Cache-Control"): "no-store",
}
#: What one says besides that a page can be made of.
PAGE_PROTECTION: Final[dict[str, str]] = {
    istr(
        "Content-Security-Policy"
    ): "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    istr("X-Frame-Options"): "DENY",
    istr("Referrer-Policy"): "no-referrer",
    istr("Cross-Origin-Resource-Policy"): "same-origin",
}
_MALFORMED: Final = "this is no HTTP that is understood here"
_BROKEN: Final = "something went wrong in here; the log says what"
_PROBLEM: Final = "application/problem+json"


class Connections(Word, frozen=True, kw_only=True):
    """What a sweep found and did."""

    open: int
    waiting: int  # of these, for a request; those that were closed are not among them
    headless: int = 0  # closed, since they never sent one
    idle: int = 0  # closed, since too many waited
    slow: int = 0  # closed, since they took nothing of an answer
    crowded: int = 0  # closed since the look before as soon as they came: there were too many


class Connection(RequestHandler):
    """One connection."""

    __slots__ = ("_meter", "stops")

    def __init__(self, server: web.Server, meter: IntakeMeter, **options: Any) -> None:
        super().__init__(server, **options)
        self._meter = meter
        self.stops = 0  # how often writing had to stop until the client takes something

    @property
    def requests(self) -> int:
        """How many requests came on it."""
        return self._request_count

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for a request."""
        return self._waiter is not None

    @property
    def is_stopped(self) -> bool:
        """Whether an answer waits until the client takes some of it."""
        return self._paused

    @property
    def waits_bytes(self) -> int:
        """How much of an answer waits, beyond what the kernel has taken."""
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    @override
    def pause_writing(self) -> None:
        self.stops += 1
        super().pause_writing()

    @override
    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:  # fmt: skip
        if isinstance(exc, HttpProcessingError):
            self._meter.refused("malformed")
        status = super().handle_error(request, status, exc, message).status  # which also logs it
        said = _MALFORMED if isinstance(exc, HttpProcessingError) else _BROKEN
        body = msgspec.json.encode({"type": "about:blank", "title": said, "status": status, "detail": said})
        answer = web.Response(
            status=status, body=body, content_type=_PROBLEM, headers=PROTECTION | PAGE_PROTECTION
        )
        answer.force_close()
        return answer


class _Stop(NamedTuple):
    """Writing stands since then, for the so manieth time, with so much that waits."""

    number: int
    waits_bytes: int
    since_s: float


class Server(web.Server):
    """Makes our connections, and knows which of them wait."""

    def __init__(self, made: web.Server, meter: IntakeMeter, most: int | None, **options: Any) -> None:
        super().__init__(made.request_handler, request_factory=made.request_factory, **options)
        self._meter = meter
        self._most = most
        self._peers: Counter[object] = Counter()
        self._peer_of: dict[RequestHandler, object] = {}
        self._crowded = 0
        self._stopped: dict[Connection, _Stop] = {}
        self._options = options
        self._since: dict[tuple[Connection, int], float] = {}  # with so many requests it waits at least since

    @override
    def __call__(self) -> RequestHandler:
        return Connection(self, self._meter, loop=self._loop, **self._options)

    @override
    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        address = transport.get_extra_info("peername")
        peer = self._peer_of[handler] = address[0] if isinstance(address, tuple) else None
        self._peers[peer] += 1
        most = self._most
        if most is not None and (len(self._peer_of) > most or self._peers[peer] > max(1, most * PEER_SHARE)):
            self._crowded += 1
            transport.abort()

    @override
    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        if handler in self._peer_of:
            peer = self._peer_of.pop(handler)
            self._peers[peer] -= 1
            if not self._peers[peer]:
                del self._peers[peer]

    def sweep(self, now_s: float, max_waiting: int) -> Connections:
        """Close who never sends or never takes anything and, if more than `max_waiting` wait, the oldest of them.

        Call it every few seconds; `now_s` is of any steady clock.
        """
        every = [each for each in self.connections if isinstance(each, Connection)]
        waiting = [(each, each.requests) for each in every if each.is_waiting]
        self._since = {key: self._since.get(key, now_s) for key in waiting}
        headless = {key for key in waiting if not key[1] and now_s - self._since[key] >= HEAD_S}
        left = [key for key in waiting if key not in headless]
        left.sort(key=self._since.__getitem__)
        idle = [key for key in left[: max(0, len(left) - max_waiting)] if now_s - self._since[key] >= YOUNG_S]
        for connection, _ in (*headless, *idle):
            connection.force_close()
        crowded, self._crowded = self._crowded, 0
        return Connections(
            open=len(every), waiting=len(left) - len(idle), headless=len(headless), idle=len(idle),
            slow=self._cut_off(every, now_s), crowded=crowded,
        )  # fmt: skip

    def _cut_off(self, every: list[Connection], now_s: float) -> int:
        """Cut off who takes nothing of an answer; return how many."""
        before, self._stopped = self._stopped, {}
        for each in every:
            if each.is_stopped:
                stop = _Stop(each.stops, each.waits_bytes, now_s)
                known = before.get(each, stop)
                is_same = known.number == stop.number and known.waits_bytes - stop.waits_bytes < TAKE_BYTES
                self._stopped[each] = known if is_same else stop
        slow = [each for each, stop in self._stopped.items() if now_s - stop.since_s >= TAKE_S]
        for connection in slow:
            if connection.transport is not None:
                connection.transport.abort()  # to close it would wait for what is not taken
        return len(slow)


class Runner(web.AppRunner):
    """Runs the application below the door."""

    def __init__(
        self, app: web.Application, meter: IntakeMeter, *, most: int | None = None, **options: Any
    ) -> None:
        """Take the application, who counts, and how many connections there may be at once."""
        super().__init__(app, **SERVER_OPTIONS, **options)
        app.on_response_prepare.append(_protect)
        self._meter = meter
        self._most = most

    @override
    async def _make_server(self) -> Server:
        return Server(await super()._make_server(), self._meter, self._most, **self._kwargs)

    def sweep(self, now_s: float, max_waiting: int) -> Connections:
        """Do what `Server.sweep` does, if there is a server."""
        server = self.server
        if isinstance(server, Server):
            return server.sweep(now_s, max_waiting)
        return Connections(open=0, waiting=0)


async def _protect(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(PROTECTION)
    if request.method in {"GET", "HEAD"}:
        response.headers.update(PAGE_PROTECTION)


def strays(meter: IntakeMeter) -> Any:
    """Return the middleware that counts what nobody answers: a POST to no path of ours, another method."""

    @web.middleware
    async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
        error = request.match_info.http_exception
        if error is not None and error.status == web.HTTPMethodNotAllowed.status_code:
            meter.refused("method")
        elif error is not None and request.method == "POST":
            meter.refused("path")
        return await handler(request)

    return count
