"""HTTP in: who sends, may it come in, is it what it should be, is it on the disk, then 200.

Three kinds of bodies come in: webhooks of Alertmanager and of Grafana, and what Alertmanager's event recorder sends.
They differ in their check and in the kind of their rows.

Rules: 200 only after the commit. 503 for everything that may be better in a moment (no room, no memory, a
slow sender), because Alertmanager tries a 5xx again within seconds and a 4xx, 429 included, only at the
next `group_interval`. 4xx for what can never be good. Reasons are short and free of secrets: Alertmanager
logs them. Nothing is read before its bytes are reserved from one budget, so that no number of senders can
use more memory. A tenant that has sent more than its quota of bytes, or has no room left on the disk, gets 503 before
its body is read.

Theory of operation. A body whose length was announced reserves all of it first, a chunked one piece by
piece; it is given back with the answer. A body of another shape goes to quarantine as a row of its own, at
a bounded rate, so that a misguided sender cannot fill the disk. Compressed bodies are refused unread; the
server must be run by `Runner`, or aiohttp would unpack them before anybody asks.

Decision: the body is read here and not by `request.read()`, which copies twice and knows neither budget nor
deadline. A body that came together with its headers, as nearly all do, is taken without a timer.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage

from bridge.auth import Denied, Grant, Signed, is_foreign
from bridge.errors import PayloadError, StorageError, StoreFullError, UndecidedError
from bridge.intake.bodies import announced, chunked, too_large
from bridge.intake.budget import Allowance, Budget, Hold
from bridge.intake.gate import Gate, peer_of
from bridge.intake.terms import (
    STATUS,
    Inbox,
    IntakeMeter,
    IntakeSettings,
    NoMeter,
    NoQuotas,
    Quotas,
    RefusedError,
)
from bridge.model import DEFAULT_SOURCE, OWN_SOURCE, RowKind
from bridge.webhooks import envelope
from bridge.webhooks.recorder import check_record

#: Large bodies that are checked at once. More would take turns with the event loop, not the second processor.
LARGE_CHECKS: Final = 1
_JSON: Final = {"Content-Type": "application/json; charset=utf-8"}
_JSON_TYPE: Final = re.compile(r"application/(?:[a-z0-9!#$&^_.+-]+\+)?json", re.IGNORECASE).fullmatch
_SOURCE_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}").fullmatch


class Incoming(NamedTuple):
    """One kind of body that is taken in."""

    kind: RowKind
    check: Callable[[bytes], int]  # how many things are in it; PayloadError: it can never be good


WEBHOOKS: Final = Incoming(RowKind.WEBHOOK, envelope.check)
GRAFANA: Final = Incoming(RowKind.GRAFANA, envelope.check)
RECORDS: Final = Incoming(RowKind.RECORDED, check_record)


class Intake:
    """The door. One per front."""

    def __init__(
        self,
        inbox: Inbox,
        gate: Gate,
        settings: IntakeSettings | None = None,
        meter: IntakeMeter | None = None,
        quotas: Quotas | None = None,
    ) -> None:
        self.gate = gate
        self._inbox = inbox
        self._settings = IntakeSettings() if settings is None else settings
        self._meter = NoMeter() if meter is None else meter
        self._quotas = NoQuotas() if quotas is None else quotas
        # A body of the largest size must fit, or it would be answered 503 for ever.
        self.budget = Budget(self._settings.budget_bytes, self._settings.max_body_bytes)
        self._rejected: dict[str, Allowance] = {}  # by tenant
        self._large = asyncio.Semaphore(LARGE_CHECKS)

    async def receive(self, request: web.Request) -> web.Response:
        """Answer one webhook."""
        return await self._receive(request, WEBHOOKS)

    async def receive_grafana(self, request: web.Request) -> web.Response:
        """Answer one webhook of Grafana Alerting."""
        return await self._receive(request, GRAFANA)

    async def record(self, request: web.Request) -> web.Response:
        """Answer one request of Alertmanager's event recorder."""
        return await self._receive(request, RECORDS)

    async def _receive(self, request: web.Request, what: Incoming) -> web.Response:
        hold: Hold | None = None
        who: Grant | Signed | None = None
        try:
            source = _source(request)
            who = await self._admitted(request, source)
            _check_types(request)
            hold = self._hold(request, who)
            body = await self._body(request, hold)
            grant = who if isinstance(who, Grant) else await self._signer(request, source, who, body)
            self._quotas.took(grant.tenant, len(body))
            number = await self._kept(grant.tenant, source, what, body)
        except RefusedError as refused:
            if refused.reason == "in_flight" and isinstance(who, Grant):
                self._quotas.crowded(who.tenant)
            return self._refusal(refused)
        finally:
            if hold is not None:
                hold.release()
        if what is not RECORDS:
            self._meter.accepted(number, len(body))
        return web.Response(body=b'{"received":%d}' % number, headers=_JSON)

    async def _admitted(self, request: web.Request, source: str) -> Grant | Signed:
        """Return what the sender may do, or, where a signature has to say so, what that still needs."""
        try:
            who = await self.gate.admit(request, source)
        except UndecidedError as error:
            raise RefusedError("keys", f"{error}; try again") from error
        if isinstance(who, Denied):
            raise _unknown(request)
        if is_foreign(request.headers.get("Sec-Fetch-Site")):
            raise RefusedError("cross_site", "webhooks are not taken from another site's page")
        if isinstance(who, Grant):
            _check_grant(who, source)
            self._check_quotas(who.tenant)
        return who

    def _check_quotas(self, tenant: str) -> None:
        why = self._quotas.refusal(tenant)
        if why is not None:
            raise RefusedError("quota", why)

    async def _signer(self, request: web.Request, source: str, signed: Signed, body: bytes) -> Grant:
        """Return what the signer of a body may do."""
        if envelope.is_large(body):
            async with self._large:
                said = await asyncio.to_thread(signed.settle, body)
        else:
            said = signed.settle(body)
        who = self.gate.settle(request, said)
        if isinstance(who, Denied):
            raise _unknown(request)
        _check_grant(who, source)
        self._check_quotas(who.tenant)
        return who

    def _hold(self, request: web.Request, who: Grant | Signed) -> Hold:
        """Return a body's part of the budget: of the tenant's share, where there are several and it is known."""
        if isinstance(who, Grant) and self.gate.keyring.tenants > 1:
            return Hold(self.budget, who.tenant, self._quotas.in_flight_bytes(who.tenant))
        return Hold(self.budget, peer_of(request))

    async def _body(self, request: web.Request, hold: Hold) -> bytes:
        """Return the whole body; what the sender announced is held before anything is read."""
        content = request.content
        size = request.content_length
        limit_bytes, limit_s = self._settings.max_body_bytes, self._settings.body_timeout_s
        if size is not None:
            if size > limit_bytes:
                raise too_large(limit_bytes)
            hold.grow(size)
        try:
            if size and content.is_eof():
                return content.read_nowait()
            if size is not None:
                return await announced(content, size, limit_s)
            async with asyncio.timeout(limit_s):
                return await chunked(content, hold, limit_bytes)
        except TimeoutError as error:
            raise RefusedError("slow", f"the body came too slowly for {limit_s:g} s; try again") from error
        except (web.RequestPayloadError, BadHttpMessage, ConnectionError) as error:
            raise RefusedError("broken", "the body could not be read") from error

    async def _kept(self, tenant: str, source: str, what: Incoming, body: bytes) -> int:
        """Return how many alerts or events `body` holds, once it is on the disk."""
        try:
            number = await self._checked(what, body)
        except PayloadError as error:
            await self._set_aside(tenant, source, str(error), body)
            raise RefusedError("payload", str(error)) from error
        try:
            await self._inbox.put(tenant, source, what.kind, body)
        except StoreFullError as error:
            raise RefusedError("disk_full", "no room on the disk; try again") from error
        except StorageError as error:
            raise RefusedError("storage", "not committed; try again") from error
        return number

    async def _checked(self, what: Incoming, body: bytes) -> int:
        """Return how much a body holds. A large one is looked at in a thread: the loop goes on meanwhile."""
        if not envelope.is_large(body):
            return what.check(body)
        async with self._large:
            return await asyncio.to_thread(what.check, body)

    async def _set_aside(self, tenant: str, source: str, reason: str, body: bytes) -> None:
        """Keep the beginning of a body that can never be good for a person to look at, as far as it is allowed."""
        kept = body[: self._settings.rejected_bytes]
        allowance = self._rejected.setdefault(tenant, Allowance(self._settings.rejected_bytes_per_min))
        if not allowance.spend(len(kept), asyncio.get_running_loop().time()):
            return
        if len(kept) < len(body):
            reason = f"{reason} (the first {len(kept)} of {len(body)} bytes)"
        row = msgspec.json.encode({"reason": reason, "body_base64": base64.b64encode(kept).decode()})
        try:
            await self._inbox.put(tenant, source, RowKind.REJECTED, row)
        except StorageError:
            return  # The answer is 400 all the same: this body will not be better when there is room.

    def _refusal(self, refused: RefusedError) -> web.Response:
        self._meter.refused(refused.reason)
        status = STATUS[refused.reason]
        answer = web.Response(
            status=status, body=msgspec.json.encode({"error": refused.detail}), headers=_JSON
        )
        if status == web.HTTPServiceUnavailable.status_code:
            answer.headers["Retry-After"] = str(self._settings.retry_after_s)
        elif refused.reason == "credentials":
            answer.headers["WWW-Authenticate"] = 'Bearer realm="tocsin"'
        return answer


def routes(intake: Intake) -> list[web.RouteDef]:
    """Return the routes of what Tocsin understands."""
    return [
        web.post("/v1/alertmanager", intake.receive),
        web.post("/v1/alertmanager/{source}", intake.receive),
        web.post("/v1/grafana", intake.receive_grafana),
        web.post("/v1/grafana/{source}", intake.receive_grafana),
        web.put("/v1/grafana", intake.receive_grafana),
        web.put("/v1/grafana/{source}", intake.receive_grafana),
        web.post("/v1/recorder", intake.record),
        web.post("/v1/recorder/{source}", intake.record),
    ]


def _source(request: web.Request) -> str:
    source = request.match_info.get("source", DEFAULT_SOURCE)
    if not _SOURCE_NAME(source):
        raise RefusedError(
            "source", "a source is named by 1 to 64 letters, digits, dots, dashes, underscores"
        )
    if source == OWN_SOURCE:
        raise RefusedError("source", f"the source {OWN_SOURCE} is Tocsin's own, choose another name")
    return source


def _unknown(request: web.Request) -> RefusedError:
    if peer_of(request) is None:  # gone before it was its turn: nobody knows who it was
        return RefusedError("broken", "the connection was closed")
    return RefusedError("credentials", "credentials are missing or not accepted")


def _check_grant(grant: Grant, source: str) -> None:
    if grant.role == "viewer":
        raise RefusedError("role", "the role viewer may not send; take a token of the role sender")
    if grant.source not in {None, source}:
        raise RefusedError("role", "these credentials may not send as this source")


def _check_types(request: web.Request) -> None:
    headers = request.headers
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise RefusedError("encoding", "send the body without Content-Encoding")
    kind = headers.get("Content-Type")
    if kind is not None and kind != "application/json" and not _JSON_TYPE(kind.partition(";")[0].strip()):
        raise RefusedError("content_type", "send Content-Type: application/json")
