"""HTTP in: who sends, may it come in, is it a webhook, is it on the disk, then 200.

Rules: 200 only after the commit. 503 for everything that may be better in a moment (no room, no memory, a
slow sender), because Alertmanager tries a 5xx again within seconds and a 4xx, 429 included, only at the
next `group_interval`. 4xx for what can never be good. Reasons are short and free of secrets: Alertmanager
logs them. Nothing is read before its bytes are reserved from one budget, so that no number of senders can
use more memory.

Theory of operation. A body whose length was announced reserves all of it first, a chunked one piece by
piece; it is given back with the answer. A body of another shape goes to quarantine as a row of its own, at
a bounded rate, so that a misguided sender cannot fill the disk. Compressed bodies are refused unread; the
server must be run with `SERVER_OPTIONS`, or aiohttp would unpack them before anybody asks.

Decision: the body is read here and not by `request.read()`, which copies twice and knows neither budget nor
deadline. A body that came together with its headers, as nearly all do, is taken without a timer.
"""

from __future__ import annotations

import asyncio
import base64
import re
from typing import Any, Final, Literal, Protocol

import msgspec
from aiohttp import StreamReader, web
from aiohttp.http_exceptions import BadHttpMessage

from bridge.auth import Grant, Keyring
from bridge.errors import PayloadError, StorageError, StoreFullError
from bridge.model import OWN_SOURCE, RowKind, Word
from bridge.webhooks import envelope

DEFAULT_SOURCE = "default"
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

Refusal = Literal[
    "source", "credentials", "role", "encoding", "content_type", "too_large", "payload",
    "busy", "slow", "broken", "disk_full", "storage",
]  # fmt: skip
_STATUS: Final[dict[Refusal, int]] = {
    "source": 400, "credentials": 401, "role": 403, "encoding": 415, "content_type": 415, "too_large": 413,
    "payload": 400, "busy": 503, "slow": 503, "broken": 400, "disk_full": 503, "storage": 503,
}  # fmt: skip
_JSON: Final = {"Content-Type": "application/json; charset=utf-8"}
_JSON_TYPE: Final = re.compile(r"application/(?:[a-z0-9!#$&^_.+-]+\+)?json", re.IGNORECASE).fullmatch
_SOURCE_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}").fullmatch
#: A chunked body reserves this much at a time.
_PIECE_BYTES: Final = 64 << 10


class IntakeSettings(Word, frozen=True, kw_only=True):
    """What the door lets in."""

    max_body_bytes: int = 64 << 20  # 413 above; 10,000 alerts in one group are 8.8 MB
    budget_bytes: int = 256 << 20  # of all bodies that are being read or wait for their commit; 503 above
    body_timeout_s: float = 20.0  # for a whole body to arrive; 503 after
    retry_after_s: int = 1
    rejected_bytes_per_min: int = 8 << 20  # of bodies that go to quarantine; more are only counted


class Inbox(Protocol):
    """Where webhooks are kept."""

    async def put(self, tenant: str, source: str, kind: RowKind, body: bytes) -> int:
        """Append a row and return its id after the commit; StorageError if it was not kept."""


class IntakeMeter(Protocol):
    """Who counts. Called on the event loop, per request: must be quick and never raise."""

    def accepted(self, alerts: int, size_bytes: int) -> None:
        """Hear of a webhook that was committed."""

    def refused(self, reason: Refusal) -> None:
        """Hear of a request that was not answered 200."""


class NoMeter:
    """Counts nothing."""

    def accepted(self, alerts: int, size_bytes: int) -> None:
        """Hear of a webhook that was committed."""

    def refused(self, reason: Refusal) -> None:
        """Hear of a request that was not answered 200."""


class _RefusedError(Exception):
    """The request gets no 200. `detail` goes to the sender."""

    def __init__(self, reason: Refusal, detail: str) -> None:
        super().__init__(detail)
        self.reason: Refusal = reason
        self.detail = detail


class Budget:
    """Bytes of bodies that may be held at once."""

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self.held_bytes = 0


class Hold:
    """One request's part of the budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.size_bytes = 0

    def grow(self, size: int) -> None:
        """Hold `size` bytes more; refuse the request if they are not left."""
        if self._budget.held_bytes + size > self._budget.total_bytes:
            raise _RefusedError("busy", "too much is being received; try again")
        self._budget.held_bytes += size
        self.size_bytes += size

    def release(self) -> None:
        """Give everything back."""
        self._budget.held_bytes -= self.size_bytes
        self.size_bytes = 0


class Allowance:
    """Bytes that may be spent per minute; saved up for at most one minute."""

    def __init__(self, bytes_per_min: int) -> None:
        self._per_min = bytes_per_min
        self._left = float(bytes_per_min)
        self._asked_at_s = 0.0

    def spend(self, size: int, now_s: float) -> bool:
        """Spend `size` bytes at `now_s` (of any steady clock); False, and nothing spent, if too many."""
        gained = (now_s - self._asked_at_s) / 60 * self._per_min
        self._left = min(self._left + gained, float(self._per_min))
        self._asked_at_s = now_s
        if size > self._left:
            return False
        self._left -= size
        return True


class Intake:
    """The door. One per front; `keyring` may be replaced at any time, as a reload does."""

    def __init__(
        self,
        inbox: Inbox,
        keyring: Keyring,
        settings: IntakeSettings | None = None,
        meter: IntakeMeter | None = None,
    ) -> None:
        self.keyring = keyring
        self._inbox = inbox
        self._settings = IntakeSettings() if settings is None else settings
        self._meter = NoMeter() if meter is None else meter
        # A body of the largest size must fit, or it would be answered 503 for ever.
        self.budget = Budget(max(self._settings.budget_bytes, self._settings.max_body_bytes))
        self._quarantine = Allowance(self._settings.rejected_bytes_per_min)

    async def receive(self, request: web.Request) -> web.Response:
        """Answer one webhook."""
        hold = Hold(self.budget)
        try:
            source = _source(request)
            grant = self._admitted(request)
            _check_types(request)
            body = await self._body(request, hold)
            alerts = await self._kept(grant.tenant, source, body)
        except _RefusedError as refused:
            return self._refusal(refused)
        finally:
            hold.release()
        self._meter.accepted(alerts, len(body))
        return web.Response(body=b'{"received":%d}' % alerts, headers=_JSON)

    def _admitted(self, request: web.Request) -> Grant:
        grant = self.keyring.admit(request.headers.get("Authorization"), peer_of(request))
        if grant is None:
            raise _RefusedError("credentials", "credentials are missing or not accepted")
        return grant

    async def _body(self, request: web.Request, hold: Hold) -> bytes:
        """Return the whole body; what the sender announced is held before anything is read."""
        content = request.content
        announced = request.content_length
        limit_bytes, limit_s = self._settings.max_body_bytes, self._settings.body_timeout_s
        if announced is not None:
            if announced > limit_bytes:
                raise _too_large(limit_bytes)
            hold.grow(announced)
        try:
            if announced and content.is_eof():
                return content.read_nowait()
            async with asyncio.timeout(limit_s):
                return await (_chunked(content, hold, limit_bytes) if announced is None else content.read())
        except TimeoutError as error:
            raise _RefusedError("slow", f"the body did not arrive within {limit_s:g} s; try again") from error
        except (web.RequestPayloadError, BadHttpMessage, ConnectionError) as error:
            raise _RefusedError("broken", "the body could not be read") from error

    async def _kept(self, tenant: str, source: str, body: bytes) -> int:
        """Return how many alerts `body` holds, once it is on the disk."""
        try:
            alerts = envelope.check(body).alerts
        except PayloadError as error:
            await self._set_aside(tenant, source, str(error), body)
            raise _RefusedError("payload", str(error)) from error
        try:
            await self._inbox.put(tenant, source, RowKind.WEBHOOK, body)
        except StoreFullError as error:
            raise _RefusedError("disk_full", "no room on the disk; try again") from error
        except StorageError as error:
            raise _RefusedError("storage", "not committed; try again") from error
        return alerts

    async def _set_aside(self, tenant: str, source: str, reason: str, body: bytes) -> None:
        """Keep a body that can never be good for a person to look at, as far as the allowance goes."""
        row = msgspec.json.encode({"reason": reason, "body_base64": base64.b64encode(body).decode()})
        if self._quarantine.spend(len(row), asyncio.get_running_loop().time()):
            try:
                await self._inbox.put(tenant, source, RowKind.REJECTED, row)
            except StorageError:
                return  # The answer is 400 all the same: this body will not be better when there is room.

    def _refusal(self, refused: _RefusedError) -> web.Response:
        self._meter.refused(refused.reason)
        status = _STATUS[refused.reason]
        answer = web.Response(
            status=status, body=msgspec.json.encode({"error": refused.detail}), headers=_JSON
        )
        if status == web.HTTPServiceUnavailable.status_code:
            answer.headers["Retry-After"] = str(self._settings.retry_after_s)
        elif refused.reason == "credentials":
            answer.headers["WWW-Authenticate"] = 'Bearer realm="tocsin"'
        return answer


def routes(intake: Intake) -> list[web.RouteDef]:
    """Return the routes of the webhooks that Tocsin understands."""
    return [
        web.post("/v1/alertmanager", intake.receive),
        web.post("/v1/alertmanager/{source}", intake.receive),
    ]


def peer_of(request: web.Request) -> str | None:
    """Return the address of the other end of the connection; None if it has none."""
    transport = request.transport
    peer = transport.get_extra_info("peername") if transport is not None else None
    return str(peer[0]) if isinstance(peer, tuple) else None


def _source(request: web.Request) -> str:
    source = request.match_info.get("source", DEFAULT_SOURCE)
    if not _SOURCE_NAME(source):
        raise _RefusedError(
            "source", "a source is named by 1 to 64 letters, digits, dots, dashes, underscores"
        )
    if source == OWN_SOURCE:
        raise _RefusedError("source", f"the source {OWN_SOURCE} is Tocsin's own, choose another name")
    return source


def _check_types(request: web.Request) -> None:
    headers = request.headers
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise _RefusedError("encoding", "send the body without Content-Encoding")
    kind = headers.get("Content-Type")
    if kind is not None and kind != "application/json" and not _JSON_TYPE(kind.partition(";")[0].strip()):
        raise _RefusedError("content_type", "send Content-Type: application/json")


async def _chunked(content: StreamReader, hold: Hold, limit_bytes: int) -> bytes:
    """Return a body of unknown length; what it takes is held as it comes."""
    pieces: list[bytes] = []
    size = 0
    while piece := await content.readany():
        size += len(piece)
        if size > limit_bytes:
            raise _too_large(limit_bytes)
        if size > hold.size_bytes:
            hold.grow(max(size - hold.size_bytes, _PIECE_BYTES))
        pieces.append(piece)
    return b"".join(pieces)


def _too_large(limit_bytes: int) -> _RefusedError:
    return _RefusedError("too_large", f"the body is larger than {limit_bytes} bytes")
