"""Two tenants that hold the same, side by side in the same stores, behind everything that a front answers.

Both have sent the same alerts with the same fingerprints at the same times, and have incidents, deliveries, quarantine,
feedback, models, forecasts and an audit log of them. Wherever a tenant may write something its own name is written, so
that whoever reads that name has read something of its.
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
from aiohttp import ClientSession
from desks import FRONT, Desk, samples
from doors import Box
from msgspec.structs import replace
from stores import WON, linker_row
from timeline import START, after, alert, stamp, webhook

from bridge.analysis.erasing import Erase
from bridge.analysis.forecast.targets import ANY
from bridge.analysis.settings import AnalysisSettings, Destination, Keeping, Route, Source
from bridge.analysis.topology import Call, Chart, Service
from bridge.api import AnalystHealth, Api, DestinationHealth, Health, QuotaHealth, Reloaded, Surroundings
from bridge.app.auditing import AuditLog
from bridge.app.listening import Listening
from bridge.app.surface import every_route
from bridge.auth import (
    PAGERDUTY_SIGNATURE,
    ROLE_RANK,
    SLACK_SIGNATURE,
    SLACK_TIMESTAMP,
    Grant,
    Keyring,
    Signer,
)
from bridge.delivery import OutboxRow, Retention
from bridge.intake import Gate, Intake
from bridge.model import EventKind, RowKind
from bridge.pipeline import Outcome
from bridge.redaction import Redact
from bridge.storage.deliveries import DeliveryStore
from bridge.storage.reading import StateReader
from bridge.storage.state import StateStore
from bridge.telemetry import IntakeCounters, Telemetry
from bridge.webhooks.alertmanager import check_usable

#: No name is part of anything that everybody is told.
TENANTS = ("lilac", "mauve")
OPERATOR = "house"


def secret_of(scheme: str, tenant: str) -> bytes:
    """Return with what a vendor signs for a tenant."""
    return f"{scheme}-secret-of-{tenant}".encode()


def signed(path: str, tenant: str, body: bytes) -> dict[str, str]:
    """Return the headers with which a vendor signs what is sent to a path; none for a path that is no vendor's."""
    at = f"{START.timestamp():.0f}"
    if path == "/v1/slack":
        digest = hmac.new(secret_of("slack", tenant), f"v0:{at}:".encode() + body, "sha256").hexdigest()
        return {SLACK_SIGNATURE: f"v0={digest}", SLACK_TIMESTAMP: at}
    if path == "/v1/pagerduty":
        return {
            PAGERDUTY_SIGNATURE: f"v1={hmac.new(secret_of('pagerduty', tenant), body, 'sha256').hexdigest()}"
        }
    return {}


KEYRING = Keyring(
    [
        (f"token-of-{tenant}", Grant(tenant=tenant, role="admin", actor=tenant))
        for tenant in (*TENANTS, OPERATOR)
    ]
    + [(f"token-of-a-{role}", Grant(tenant=TENANTS[0], role=role)) for role in ROLE_RANK],  # type: ignore[arg-type]
    signers=[
        Signer(
            secret_of(scheme, tenant),
            Grant(tenant=tenant, role="responder", shape="signature"),
            scheme=scheme,
        )
        for scheme in ("slack", "pagerduty")
        for tenant in TENANTS
    ],
)
SETTINGS = AnalysisSettings(
    grouping="entities",
    horizon_s=3600.0,
    sources=tuple(Source(tenant=tenant, name=f"am-{tenant}") for tenant in TENANTS),
    destinations=(Destination(name="file", wait_s=0.0), *(Destination(name=f"siem-{each}", wait_s=0.0) for each in TENANTS)),
    routes=(
        Route(to=("file",), kinds=tuple(EventKind)),
        *(Route(to=(f"siem-{tenant}",), tenant=tenant) for tenant in TENANTS),
    ),
    keeping=tuple(Keeping(tenant=tenant) for tenant in TENANTS),
    tenant_redacts={tenant: Redact() for tenant in TENANTS},
)  # fmt: skip
SLOW = {"alertname": "Slow", "instance": "db-1:9100", "severity": "critical", "service": "shop"}


def live(store: StateStore, deliveries_of: list[OutboxRow], tenants: tuple[str, ...] = TENANTS) -> Desk:
    """Let the same happen to each tenant, by turns; note what is to be delivered."""
    desk = Desk(store)
    desk.use("0s", SETTINGS)

    def each(when: str, kind: RowKind, body_of: Any) -> None:
        for tenant in tenants:
            outcome = desk.take(when, kind, body_of(tenant), tenant)
            for entry in outcome.outbox:
                deliveries_of.append(
                    OutboxRow(
                        id=len(deliveries_of) + 1, urgent=False,
                        **msgspec.to_builtins(entry, builtin_types=(type(START),)) | {"kind": EventKind(entry.kind)},
                    )
                )  # fmt: skip

    def slow(when: str, *, begins: str, ends: bool = False) -> Any:
        return lambda tenant: webhook([
            alert(SLOW, starts=after(begins), ends=after(when) if ends else None,
                  annotations={"summary": f"{tenant} is slow", "runbook_url": f"https://wiki/{tenant}"}),
        ])  # fmt: skip

    each("0s", RowKind.TOPOLOGY, _chart)
    each("0s", RowKind.RECORDED, _silenced)
    each("0s", RowKind.ERASE, lambda tenant: msgspec.json.encode(Erase(id=f"era-{tenant}", fingerprint="f")))
    for number in range(8):
        begins = f"{60 * number}m"
        each(begins, RowKind.WEBHOOK, slow(begins, begins=begins))
        if number == 1:
            each("61m", RowKind.FEEDBACK, lambda tenant: _note(desk, tenant))
        if number < 7:
            each(
                f"{60 * number + 10}m",
                RowKind.WEBHOOK,
                slow(f"{60 * number + 10}m", begins=begins, ends=True),
            )
    each("421m", RowKind.WEBHOOK, lambda tenant: webhook([alert(_own(tenant)), {"labels": tenant}]))
    each("421m", RowKind.REJECTED, _rejected)
    each("422m", RowKind.SAMPLES, lambda tenant: samples("422m", [1.0, 2.0] * 150, name=f"load of {tenant}"))
    for tenant in tenants:
        won = replace(WON, reason=f"{tenant} is best")
        desk.number += 1
        desk.hear(linker_row(desk.number, after("422m"), won, tenant=tenant))
    desk.take("8h", RowKind.CLOCK, b"", "")
    for tenant in tenants:
        _publish(desk, tenant)
    return desk


def _own(tenant: str) -> dict[str, str]:
    return {"alertname": "Own", "host": f"host-{tenant}", "severity": "warning"}


def _chart(tenant: str) -> bytes:
    services = (Service(name=f"shop-{tenant}"), Service(name="db"))
    return msgspec.json.encode(Chart(origin="prometheus", services=services, calls=(Call(0, 1, tenant),)))


def _silenced(tenant: str) -> bytes:
    details = {
        "fingerprint": "7", "labels": {"labels": [{"key": "alertname", "value": f"Hidden-{tenant}"}]},
        "startsAt": stamp(START), "endsAt": stamp(START), "resolved": True,
    }  # fmt: skip
    return json.dumps([{"instance": "am-0", "data": {"silenceMutedAlert": {"mutedAlert": details}}}]).encode()


def _note(desk: Desk, tenant: str) -> bytes:
    (incident,) = (group.head.id for group in desk.state.tenants[tenant].groups.values() if group.firing)
    return json.dumps(
        {"action": f"act-of-{tenant}", "kind": "note", "incident": incident, "text": f"{tenant} restarted it",
         "author": f"somebody at {tenant}"}
    ).encode()  # fmt: skip


def _rejected(tenant: str) -> bytes:
    body = base64.b64encode(webhook([alert(_own(tenant))])).decode()
    return json.dumps({"reason": f"{tenant} sent too much", "body_base64": body}).encode()


def _publish(desk: Desk, tenant: str) -> None:
    """Let the forecast that stands be one that earned it."""
    outlook = desk.state.tenants[tenant].outlooks[ANY]
    newest = replace(
        outlook.newest, published=True, reasons=(f"{tenant} has had many",), why_silent="", until=after("30h")
    )
    outcome = Outcome()
    outcome.outlooks[tenant, "any", ""] = replace(outlook, newest=newest)
    desk.store.commit(outcome, front=FRONT, rows=())


@contextmanager
def lived(folder: Path) -> Iterator[tuple[Desk, list[OutboxRow]]]:
    """Give a state in which both have lived, and what is to be delivered of it."""
    entries: list[OutboxRow] = []
    with (
        closing(StateStore(folder / "state.db")) as store,
        patch("bridge.pipeline.forecasts.LEAST_EVENTS", 5),
    ):
        yield live(store, entries), entries


class Neighbours:
    """Everything that a front answers, over stores that two tenants share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.box = Box()
        self.log = AuditLog(folder, wall=START.timestamp, keep_s=lambda: 86_400.0)
        self.deliveries = DeliveryStore(folder / "delivery.db", clock=lambda: after("9h"))
        self.reading = StateReader(folder / "state.db")
        self.client: Any = None
        self.listening: Any = None

    async def begin(self, entries: list[OutboxRow]) -> None:
        """Take in what is to be delivered; two dead letters of each tenant, and an entry in its audit log."""
        await self.deliveries.adopt({"file": "", **{f"siem-{tenant}": "" for tenant in TENANTS}})
        await self.deliveries.take_in(entries)
        for tenant in TENANTS:
            await self.deliveries.give_up(f"siem-{tenant}", 2, f"{tenant} is full", Retention())
            for _ in range(2):
                name = await self.log.begin(
                    {"tenant": tenant, "actor": tenant, "action": "note", "target": tenant}
                )
                await self.log.end(name, tenant=tenant, done=True, after={"text": tenant})

    def surroundings(self) -> Surroundings:
        return Surroundings(
            authenticate=self._who, authenticate_whole=self.gate.admit_whole, put=self.box.put, check=check_usable, newest_row=lambda: 500,
            ready=self._ready, audit=self.log, operator=lambda: OPERATOR, reload=self._reload, health=self._health,
            metrics=lambda: b"tocsin_ready 1.0\n",
        )  # fmt: skip

    async def _who(self, request: Any) -> Grant | None:
        found = await self.gate.admit(request)
        return found if isinstance(found, Grant) else None

    async def _ready(self) -> str:
        return ""

    async def _reload(self) -> Reloaded:
        return Reloaded(notes=tuple(f"of {tenant}" for tenant in TENANTS))

    def _health(self, tenant: str) -> Health:
        names = [name for route in SETTINGS.routes if route.tenant in {None, tenant} for name in route.to]
        return Health(
            analyst=AnalystHealth(up=True, models="work", degraded=False),
            destinations=tuple(DestinationHealth(name=name, state="working") for name in names),
            quotas=(
                QuotaHealth(name="in_flight", limit=None, used=None, exceeded=False),
                QuotaHealth(name="alerts_per_s", limit=5000.0, used=1.5, exceeded=True),
            ),
        )

    @asynccontextmanager
    async def answering(self) -> AsyncIterator[Neighbours]:
        telemetry = Telemetry()
        counters = IntakeCounters(telemetry)
        self.gate = Gate(KEYRING, wall=START.timestamp)
        api = Api(self.reading, self.deliveries, self.surroundings())
        self.listening = Listening(
            every_route(Intake(self.box, self.gate), api, "1.2.3"), counters, telemetry
        )
        url = await self.listening.start("127.0.0.1", 0)
        try:
            async with ClientSession(url) as self.client:
                yield self
        finally:
            await self.listening.close()
            api.close()
            self.deliveries.close()

    async def ask(
        self, tenant: str, method: str, path: str, body: bytes | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers but for the time, and body of an answer."""
        headers = {"Authorization": f"Bearer token-of-{tenant}", "Content-Type": "application/json"}
        headers |= signed(path, tenant, body or b"")
        async with self.client.request(method, path, data=body, headers=headers) as answer:
            told = {name: value for name, value in answer.headers.items() if name != "Date"}
            return answer.status, told, await answer.read()

    async def json(self, tenant: str, path: str) -> Any:
        status, _, body = await self.ask(tenant, "GET", path)
        assert status == 200, body
        return json.loads(body)
