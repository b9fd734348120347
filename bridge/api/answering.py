"""The handlers: one per path, each behind its door."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from bridge.api.asking import Asked, problem, refuse
from bridge.api.correcting import Correcting
from bridge.api.elsewhere import welcome
from bridge.api.erasing import Erasing
from bridge.api.pressing import Pressing
from bridge.api.recording import recorded
from bridge.api.reporting import table
from bridge.api.surroundings import Credential, Deliveries, Entry, Listed, Part, Reading, Surroundings
from bridge.api.waiting import explained
from bridge.auth import ROLE_RANK, is_foreign
from bridge.errors import PayloadError, StorageError, UndecidedError
from bridge.model import SEVERITY_RANK, DeliveryState, IncidentState, RowKind

Answer = TypeVar("Answer")
Handler = Callable[[web.Request, Credential], Awaitable[web.StreamResponse]]

#: Questions asked of the stores at once, and how many may wait or be asked. Reading shares two cores with intake.
READERS = 4
MAX_WAITING = 64
#: How long a question may take, the time in which it waits for its turn included.
READ_S = 30.0
#: How long a client of an export may take to accept one page before it is cut off.
WRITE_S = 60.0
EXPORT_FORMATS = ("webhooks", "jsonl")


class Api:
    """The handlers. One per front; `close` it.

    Decision: threads of its own. A question that was given up on goes on in its thread, since SQLite cannot be told to
    stop from here; in the threads of the event loop it would hold up the intake, which needs them for large bodies.
    """

    def __init__(self, reading: Reading, deliveries: Deliveries, around: Surroundings) -> None:
        self._reading = reading
        self._deliveries = deliveries
        self._around = around
        self._readers = ThreadPoolExecutor(READERS, "reading")
        self._waiting = 0
        self._correcting = Correcting(reading, self._read, around)
        self._pressing = Pressing(self._correcting, around)
        self._erasing = Erasing(reading, self._read, around)

    def close(self) -> None:
        """Let go of the threads, without waiting for a question that is still being asked."""
        self._readers.shutdown(wait=False, cancel_futures=True)

    def routes(self) -> list[web.RouteDef]:
        """Return what to add to the application's router."""
        return [
            web.get("/api/v1/incidents", self._for("viewer", self.incidents)),
            web.get("/api/v1/incidents/{id}", self._for("viewer", self.incident)),
            web.get("/api/v1/bi/incidents", self._for("viewer", self.flat_incidents)),
            web.get("/api/v1/bi/incidents.csv", self._for("viewer", self.flat_incidents)),
            web.post(
                "/api/v1/incidents/{id}/{verb:ack|close|note|merge|split|feedback}",
                self._for("responder", self._correcting.say),
            ),
            web.post("/api/v1/actions/{id}/undo", self._for("responder", self._correcting.undo)),
            web.post("/v1/slack", self._pressing.slack),
            web.post("/v1/pagerduty", self._pressing.pagerduty),
            web.get("/api/v1/deliveries", self._for("viewer", self.deliveries)),
            web.post("/api/v1/deliveries/{id}/{action:retry|drop}", self._for("responder", self.redeliver)),
            web.get("/api/v1/quarantine", self._for("viewer", self.quarantine)),
            web.get("/api/v1/quarantine/{id}", self._for("viewer", self.quarantined)),
            web.post("/api/v1/quarantine/{id}/replay", self._for("responder", self.replay)),
            web.get("/api/v1/models", self._for("viewer", self.models)),
            web.get("/api/v1/forecasts", self._for("viewer", self.forecasts)),
            web.get("/api/v1/recommendations", self._for("viewer", self.recommendations)),
            web.get("/api/v1/topology", self._for("viewer", self.topology)),
            web.get("/api/v1/stats", self._for("viewer", self.stats)),
            # Not HEAD: what is streamed has no head of its own, and its lines would follow all the same.
            web.get("/api/v1/export", self._for("viewer", self.export), allow_head=False),
            web.get("/api/v1/audit", self._for("admin", self.audit)),
            web.get("/api/v1/erase", self._for("admin", self._erasing.erasures)),
            web.post("/api/v1/erase", self._for("admin", self._erasing.erase)),
            web.post("/-/reload", self._for("admin", self.reload)),
            web.get("/-/healthy", self.healthy),
            web.get("/-/ready", self.ready),
            web.get("/metrics", self.metrics),
            web.get("/", welcome),
        ]

    # ---- reading ---------------------------------------------------------------------------------------

    async def incidents(self, request: web.Request, who: Credential) -> web.StreamResponse:
        """Answer GET /api/v1/incidents."""
        asked = Asked(request, {"id", "state", "severity", "since", "limit", "cursor"})
        return await self._list(
            partial(
                self._reading.incidents,
                who.tenant,
                beginning=asked.text("id"),
                states=tuple(IncidentState(each) for each in asked.several("state", IncidentState)),
                severity=asked.one_of("severity", SEVERITY_RANK),
                since=asked.moment("since"),
                limit=asked.limit(),
                cursor=asked.text("cursor"),
            )
        )

    async def flat_incidents(self, request: web.Request, who: Credential) -> web.StreamResponse:
        """Answer GET /api/v1/bi/incidents and /api/v1/bi/incidents.csv: a table."""
        asked = Asked(request, {"state", "severity", "since", "until", "limit", "cursor"})
        page = await self._page(
            partial(
                self._reading.flat_incidents,
                who.tenant,
                states=tuple(IncidentState(each) for each in asked.several("state", IncidentState)),
                severity=asked.one_of("severity", SEVERITY_RANK),
                since=asked.moment("since"),
                until=asked.moment("until"),
                limit=asked.limit(),
                cursor=asked.text("cursor"),
            )
        )
        return table(request, page.items, page.next)

    async def incident(self, request: web.Request, who: Credential) -> web.StreamResponse:
        """Answer GET /api/v1/incidents/{id}."""
        incident = request.match_info["id"]
        found = await self._read(partial(self._reading.incident, who.tenant, incident))
        if found is None:
            raise problem(404, "no incident of this id; GET /api/v1/incidents lists them")
        sent = await self._read(partial(self._deliveries.of_incident, who.tenant, incident))
        found["deliveries"] = explained(sent, self._around.health(who.tenant).destinations)
        return _json(found)

    async def deliveries(self, request: web.Request, who: Credential) -> web.StreamResponse:
        """Answer GET /api/v1/deliveries."""
        asked = Asked(request, {"state", "destination", "incident", "limit", "cursor"})
        destination = asked.text("destination")
        if destination is not None:
            # A name that is misspelt must not look like a destination without anything to do.
            routed = {each.name for each in self._around.health(who.tenant).destinations}
            told = await self._read(partial(self._deliveries.destinations, who.tenant))
            asked.one_of("destination", sorted(routed.union(told)))
        return await self._list(
            partial(
                self._deliveries.listed,
                who.tenant,
                states=tuple(DeliveryState(each) for each in asked.several("state", DeliveryState)),
                destination=destination,
                incident=asked.text("incident"),
                limit=asked.limit(),
                cursor=asked.text("cursor"),
            ),
            lambda items: explained(items, self._around.health(who.tenant).destinations),
        )

    async def quarantine(self, request: web.Request, who: Credential) -> web.StreamResponse:
        """Answer GET /api/v1/quarantine."""
        asked = Asked(request, {"limit", "cursor"})
        return await self._list(
            partial(self._reading.quarantine, who.tenant, limit=asked.limit(), cursor=asked.text("cursor"))
        )

    async def quarantined(self, request: web.Request, who: Credential) -> web.StreamResponse:
        """Answer GET /api/v1/quarantine/{id}: with `body` as text, or `body_base64` where it is no text."""
        entry = await self._entry(request, who)
        shown = msgspec.to_builtins(entry, builtin_types=(bytes, datetime))
        return _json(shown | _shown_bytes(shown.pop("body")))

    async def models(self, request: web.Request, who: Credential) -> web.StreamResponse:
        """Answer GET /api/v1/models."""
        Asked(request, set())
        return _json({"items": await self._read(partial(self._reading.models, who.tenant)), "next": None})

    async def forecasts(self, request: web.Request, who: Credential) -> web.StreamResponse:
        """Answer GET /api/v1/forecasts."""
        Asked(request, set())
        return _json(await self._read(partial(self._reading.forecasts, who.tenant)))

    async def recommendations(self, request: web.Request, who: Credential) -> web.StreamResponse:
        """Answer GET /api/v1/recommendations."""
        Asked(request, set())
        found = await self._read(partial(self._reading.recommendations, who.tenant))
        return _json({"items": found, "next": None})

    async def topology(self, request: web.Request, who: Credential) -> web.StreamResponse:
        """Answer GET /api/v1/topology."""
        asked = Asked(request, {"limit"})
        return _json(await self._read(partial(self._reading.topology, who.tenant, limit=asked.limit())))

    async def stats(self, request: web.Request, who: Credential) -> web.StreamResponse:
        """Answer GET /api/v1/stats."""
        Asked(request, set())
        stats = await self._read(partial(self._reading.stats, who.tenant))
        counts = await self._read(partial(self._deliveries.counts, who.tenant))
        linker = (await self._read(partial(self._reading.models, who.tenant)))[0]
        backlog = max(0, self._around.newest_row() - stats["cursor"])
        health = self._around.health(who.tenant)
        return _json(
            {
                "inbox_backlog": backlog,
                **stats,
                "grouping": {name: linker[name] for name in ("way", "reason")},
                "deliveries": counts,
                "analyst": health.analyst,
                "destinations": health.destinations,
                "quotas": health.quotas,
            }
        )

    async def audit(self, request: web.Request, who: Credential) -> web.StreamResponse:
        """Answer GET /api/v1/audit: who changed what, newest first."""
        asked = Asked(request, {"limit", "cursor"})
        page = partial(self._around.audit.page, who.tenant, limit=asked.limit(), cursor=asked.text("cursor"))
        return await self._list(page)

    async def export(self, request: web.Request, who: Credential) -> web.StreamResponse:
        """Answer GET /api/v1/export: JSON lines as long as there are any."""
        asked = Asked(request, {"format", "since"})
        form, since = asked.one_of("format", EXPORT_FORMATS) or "webhooks", asked.moment("since")
        read = self._reading.history_lines if form == "webhooks" else self._reading.incident_lines
        ask = partial(read, who.tenant, since=since)
        part = await self._read(partial(ask, after=None))
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        try:
            await self._stream(response, part, ask)
        except (StorageError, TimeoutError, web.HTTPException):
            # The head is gone, so no status can tell it: break off, or part would be taken for all.
            if request.transport is not None:
                request.transport.abort()
        return response

    async def _stream(self, response: web.StreamResponse, part: Part, ask: Callable[..., Part]) -> None:
        while True:
            async with asyncio.timeout(WRITE_S):
                await response.write(b"".join(part.lines))
            if part.next is None:
                break
            part = await self._read(partial(ask, after=part.next))
        await response.write_eof()

    # ---- acting ----------------------------------------------------------------------------------------

    async def redeliver(self, request: web.Request, who: Credential) -> web.StreamResponse:
        """Answer POST /api/v1/deliveries/{id}/retry and /drop."""
        delivery, action = request.match_info["id"], request.match_info["action"]
        act = self._deliveries.retry if action == "retry" else self._deliveries.drop
        async with recorded(
            self._around.audit, request, who, f"delivery_{action}", target=delivery
        ) as change:
            if not await act(who.tenant, delivery):
                raise problem(
                    404, f"no delivery of this id that one can {action}; GET /api/v1/deliveries lists them"
                )
            change.after = {"state": "waiting" if action == "retry" else "dropped"}
        return _json({"id": delivery}, status=202)

    async def replay(self, request: web.Request, who: Credential) -> web.StreamResponse:
        """Answer POST /api/v1/quarantine/{id}/replay: the same bytes go through the inbox once more."""
        entry = await self._entry(request, who)
        body = _webhook_of(entry)
        try:
            await self._read(partial(self._around.check, body))
        except PayloadError as error:
            raise problem(409, f"it still cannot be used: {error}") from error
        before = {"what": entry.what, "source": entry.source}
        async with recorded(
            self._around.audit, request, who, "quarantine_replay", target=str(entry.id), before=before
        ) as change:
            row = await self._around.put(who.tenant, entry.source, RowKind.WEBHOOK, body)
            with suppress(StorageError):  # it was sent again all the same
                mark = msgspec.json.encode({"id": entry.id})
                await self._around.put(who.tenant, entry.source, RowKind.REPLAYED, mark)
            change.after = {"row": row}
        return _json({"id": row}, status=202)

    async def reload(self, request: web.Request, who: Credential) -> web.StreamResponse:
        """Answer POST /-/reload: 200, or 400 with every fault, and then the old configuration stays.

        The file is about all tenants, and so are its faults: they are told to the operator's tenant only.
        """
        if who.tenant != self._around.operator():
            raise problem(
                403, "the configuration is the operator's: ask with a credential of the first tenant"
            )
        async with recorded(self._around.audit, request, who, "reload") as change:
            told = await self._around.reload()
            change.after = {"faults": len(told.faults), "later": list(told.later)}
        if told.faults:
            detail = "the new configuration has faults; the old one stays"
            raise problem(400, detail, faults=list(told.faults))
        lines = ["reloaded"]
        if told.later:
            lines.append(f"changed, and in force only after a restart: {', '.join(told.later)}")
        return web.Response(text="\n".join([*lines, *(f"note: {note}" for note in told.notes), ""]))

    # ---- for machines, open to all ---------------------------------------------------------------------

    async def healthy(self, _request: web.Request) -> web.StreamResponse:
        """Answer GET /-/healthy: this process answers."""
        return web.Response(text="Tocsin is healthy.\n")

    async def ready(self, _request: web.Request) -> web.StreamResponse:
        """Answer GET /-/ready: intake can commit, whatever the analyst does."""
        why_not = await self._around.ready()
        if why_not:
            return web.Response(status=503, text=f"Tocsin is not ready: {why_not}\n")
        return web.Response(text="Tocsin is ready.\n")

    async def metrics(self, _request: web.Request) -> web.StreamResponse:
        """Answer GET /metrics in Prometheus' text format."""
        body = self._around.metrics()
        return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    # ---- between ---------------------------------------------------------------------------------------

    def _for(self, role: str, handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Return the handler behind its door: who asks, may they, and a store's trouble told as 503."""

        async def answered(request: web.Request) -> web.StreamResponse:
            try:
                return await handler(request, await self._admitted(request, role))
            except (StorageError, UndecidedError) as error:
                raise problem(503, f"{error}; try again") from error

        return answered

    async def _admitted(self, request: web.Request, role: str) -> Credential:
        who = await self._around.authenticate(request)
        if who is None:
            raise problem(401, "send `Authorization: Bearer <token>` with a token that Tocsin knows")
        if ROLE_RANK[who.role] < ROLE_RANK[role]:
            raise problem(403, f"this needs the role {role}; these credentials have {who.role}")
        # Without credentials (loopback) a browser is the way in for a foreign page: it says so itself.
        if is_foreign(request.headers.get("Sec-Fetch-Site")) and request.method != "GET":
            raise problem(403, "actions are not taken from another site's page")
        return who

    async def _read(self, question: Callable[[], Answer]) -> Answer:
        """Ask a store in a thread of ours; at most `READERS` at once, those that were given up on included."""
        if self._waiting >= MAX_WAITING:
            raise problem(503, "too many questions at once; try again")
        self._waiting += 1
        try:
            async with asyncio.timeout(READ_S):
                return await asyncio.get_running_loop().run_in_executor(self._readers, question)
        except TimeoutError as error:
            raise problem(503, f"the store did not answer in {READ_S:.0f} s; try again") from error
        finally:
            self._waiting -= 1

    async def _list(
        self,
        question: Callable[[], Listed],
        shown: Callable[[Sequence[Mapping[str, Any]]], Sequence[Mapping[str, Any]]] = tuple,
    ) -> web.Response:
        page = await self._page(question)
        return _json({"items": shown(page.items), "next": page.next})

    async def _page(self, question: Callable[[], Listed]) -> Listed:
        try:
            return await self._read(question)
        except ValueError as error:  # a store says so to a cursor that it did not give out
            refuse("cursor", str(error))

    async def _entry(self, request: web.Request, who: Credential) -> Entry:
        text = request.match_info["id"]
        is_number = text.isascii() and text.isdecimal() and len(text) < 19  # noqa: PLR2004 - SQLite's integers
        number = int(text) if is_number else 0
        entry = await self._read(partial(self._reading.quarantined, who.tenant, number))
        if entry is None:
            raise problem(404, "nothing of this id is in quarantine; GET /api/v1/quarantine lists it")
        return entry


def _json(answer: object, *, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(answer), status=status, content_type="application/json")


def _shown_bytes(body: bytes) -> dict[str, str]:
    try:
        return {"body": body.decode()}
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(body).decode()}


def _webhook_of(entry: Entry) -> bytes:
    """Return the bytes to send again; a lone alert gets the envelope it came without."""
    if entry.what != "alert":
        return entry.body
    return b'{"version":"4","receiver":"","groupKey":"","truncatedAlerts":0,"alerts":[%s]}' % entry.body
