"""The server below the door: its connections, how many may wait, and what never gets as far as the door.

Rules: the server is made by `Runner`, for the intake's promises hold only so. Idle connections are bounded, the
oldest go first, because each is a file and without a free file nobody gets in. What is refused before a handler
sees it (a path that is not there, another method, something that is no HTTP) is counted like every refusal.

Theory of operation. aiohttp closes an idle connection after `keepalive_timeout`, which must be longer than any
`group_interval`, and it gives a connection that never sends a request just as long. So `sweep` looks at all
connections from time to time. One that waits is known by its number of requests: the same number at the next look
means that it waited all the time between.

Decision: no connection is closed that has waited for less than a second, even if there are too many. In a storm of
new groups two thousand arrive at once, and each is about to send.
"""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler
from aiohttp.web_protocol import RequestHandler
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


class Connections(Word, frozen=True, kw_only=True):
    """What a sweep found and did."""

    open: int
    waiting: int  # of these, for a request; those that were closed are not among them
    headless: int = 0  # closed, since they never sent one
    idle: int = 0  # closed, since too many waited


class Connection(RequestHandler):
    """One connection."""

    __slots__ = ("_meter",)

    def __init__(self, server: web.Server, meter: IntakeMeter, **options: Any) -> None:
        super().__init__(server, **options)
        self._meter = meter

    @property
    def requests(self) -> int:
        """How many requests came on it."""
        return self._request_count

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for a request."""
        return self._waiter is not None

    @override
    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:  # fmt: skip
        if isinstance(exc, HttpProcessingError):
            self._meter.refused("malformed")
        return super().handle_error(request, status, exc, message)


class Server(web.Server):
    """Makes our connections, and knows which of them wait."""

    def __init__(self, made: web.Server, meter: IntakeMeter, **options: Any) -> None:
        super().__init__(made.request_handler, request_factory=made.request_factory, **options)
        self._meter = meter
        self._options = options
        self._since: dict[tuple[Connection, int], float] = {}  # with so many requests it waits at least since

    @override
    def __call__(self) -> RequestHandler:
        return Connection(self, self._meter, loop=self._loop, **self._options)

    def sweep(self, now_s: float, max_waiting: int) -> Connections:
        """Close who never sends anything and, if more than `max_waiting` wait, the oldest of them.

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
        return Connections(
            open=len(every), waiting=len(left) - len(idle), headless=len(headless), idle=len(idle)
        )


class Runner(web.AppRunner):
    """Runs the application below the door."""

    def __init__(self, app: web.Application, meter: IntakeMeter, **options: Any) -> None:
        super().__init__(app, **SERVER_OPTIONS, **options)
        self._meter = meter

    @override
    async def _make_server(self) -> Server:
        return Server(await super()._make_server(), self._meter, **self._kwargs)

    def sweep(self, now_s: float, max_waiting: int) -> Connections:
        """Do what `Server.sweep` does, if there is a server."""
        server = self.server
        if isinstance(server, Server):
            return server.sweep(now_s, max_waiting)
        return Connections(open=0, waiting=0)


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
