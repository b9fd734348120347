"""Tocsin's own troubles as alerts of source `tocsin`, so that they become incidents like any others.

Rules: an alert is a webhook row like those that Alertmanager sends, put into the inbox under the first
tenant. Reporting never waits and never raises: it notes what is true now, and `run` brings the inbox up to
that, trying again while the inbox does not take it. What fires is also kept in a small file, so that the
next front resolves what this one could not; a trouble that still lasts is then raised anew.

Limit: these alerts pass through the very analyst and destinations they may be about. That is why the shipped
Prometheus rules watch Tocsin from outside, and the shipped Alertmanager sends `Tocsin.*` past it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from bridge.errors import StorageError
from bridge.model import OWN_SOURCE, RowKind, Severity, Word
from bridge.telemetry import Telemetry, mask

logger = logging.getLogger(__name__)

AGAIN_S = 5.0
#: A firing alert is told again so often, or it would expire like one whose resolve never comes.
RESEND_S = 3600.0

#: What may be raised: how bad it is, and what is told of it. `{reason}` and labels are filled in.
TROUBLES: dict[str, tuple[Severity, str]] = {
    "TocsinDestinationBlocked": (
        "critical",
        "Destination {destination} refuses Tocsin: {reason}. Everything is kept and goes out later.",
    ),
    "TocsinDestinationUnreachable": (
        "critical",
        "Destination {destination} takes nothing: {reason}. Everything is kept for it.",
    ),
    "TocsinDeliveryStuck": ("warning", "Destination {destination}: {reason}."),
    "TocsinDestinationMissing": ("warning", "Destination {destination}: {reason}."),
    "TocsinDeadLetters": ("warning", "Destination {destination}: {reason}."),
    "TocsinAnalystDown": (
        "critical",
        "The analyst does not stay up: {reason}. Webhooks are kept; incidents are late.",
    ),
    "TocsinRowSetAside": (
        "warning",
        "A webhook could not be understood: {reason}. See `tocsin quarantine list`.",
    ),
    "TocsinIntakeRejecting": (
        "warning",
        "Requests with a wrong token or a bad body arrive at the door: {reason}.",
    ),
    "TocsinStateLost": (
        "critical",
        "The analyst's state was broken and is begun anew from the last hour's webhooks: {reason}.",
    ),
    "TocsinStoreRenewed": ("critical", "{store} was broken, and a new one is begun: {reason}."),
    "TocsinClockAhead": (
        "warning",
        "The machine's clock was set back: {reason}. Incidents keep the later time; deliveries do not wait.",
    ),
    "TocsinAlertmanagerSilent": (
        "warning",
        "Alertmanager {alertmanager} of source {source} cannot be asked: {reason}. Webhooks come in as ever.",
    ),
    "TocsinQuotaExceeded": (
        "warning",
        "A quota of this tenant is exceeded: {reason}. Other tenants notice nothing.",
    ),
    "TocsinDiskFilling": (
        "critical",
        "The disk of the stores is nearly full: {reason}. When it is full webhooks get 503.",
    ),
}


class Firing(Word, frozen=True, kw_only=True):
    """One alert about ourselves."""

    tenant: str
    labels: dict[str, str]
    reason: str
    starts_at: str


class Troubles:
    """What is wrong with this front now."""

    def __init__(
        self,
        *,
        put: Callable[[str, str, RowKind, bytes], Awaitable[int]],
        tenant: str,
        file: Path,
        clock: Callable[[], datetime],
        telemetry: Telemetry,
    ) -> None:
        self._put = put
        self._tenant = tenant
        self._file = file
        self._clock = clock
        self._telemetry = telemetry
        self._firing: dict[str, Firing] = {}
        self._waiting: dict[str, tuple[Firing, bool]] = {}  # to be told: the newest state of each
        self._news = asyncio.Event()
        for left in self._left():
            self._waiting[_identity(left)] = (left, False)
            self._news.set()

    def is_wrong(self, name: str, reason: str, *, of: str | None = None, **labels: str) -> None:
        """Raise an alert of `TROUBLES`; again with another reason changes nothing until it is told again.

        `of` is the only tenant that it is about, and that hears of it; None: the first one hears.
        """
        labels = _labels(name, of, labels)
        key = _key(labels)
        if key in self._firing:
            return
        tenant = self._tenant if of is None else of
        firing = Firing(tenant=tenant, labels=labels, reason=mask(reason), starts_at=_written(self._clock()))
        self._firing[key] = firing
        self._tell(firing, fires=True)

    def is_well(self, name: str, *, of: str | None = None, **labels: str) -> None:
        """Resolve an alert if it fires."""
        firing = self._firing.pop(_key(_labels(name, of, labels)), None)
        if firing is not None:
            self._tell(firing, fires=False)

    def report(self, name: str, reason: str | None, *, of: str | None = None, **labels: str) -> None:
        """Raise with a reason, resolve without one."""
        if reason is None:
            self.is_well(name, of=of, **labels)
        else:
            self.is_wrong(name, reason, of=of, **labels)

    def move_to(self, tenant: str) -> None:
        """Let another tenant hear of what is wrong: the first one of a changed configuration."""
        if tenant == self._tenant:
            return
        self._tenant = tenant
        for key, firing in list(self._firing.items()):
            if "tenant" in firing.labels:
                continue  # it is that one's alone
            self._tell(firing, fires=False)
            self._firing[key] = msgspec.structs.replace(firing, tenant=tenant)
            self._tell(self._firing[key], fires=True)

    def firing(self) -> tuple[Firing, ...]:
        """Return what is wrong now."""
        return tuple(self._firing.values())

    async def run(self) -> None:
        """Bring what is told up to what is true, for ever.

        What lasts is told again by the clock, whatever comes and goes meanwhile.
        """
        clock = asyncio.get_running_loop().time
        again_at = clock() + RESEND_S
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(again_at):
                    await self._news.wait()
            if clock() >= again_at:
                again_at = clock() + RESEND_S
                self._waiting |= {_identity(firing): (firing, True) for firing in self._firing.values()}
            await self.tell_all()
            if self._waiting:
                await asyncio.sleep(AGAIN_S)

    async def tell_all(self) -> None:
        """Put everything that waits into the inbox; what it does not take waits on."""
        self._news.clear()
        waiting, self._waiting = self._waiting, {}
        if not waiting:
            return
        # First the file, with what is told to end, too: a front that is killed now leaves nothing firing for ever.
        await self._keep(firing for firing, _ in waiting.values())
        try:
            for tenant in sorted({firing.tenant for firing, _ in waiting.values()}):
                told = [(firing, fires) for firing, fires in waiting.values() if firing.tenant == tenant]
                await self._put(tenant, OWN_SOURCE, RowKind.WEBHOOK, webhook(told, _written(self._clock())))
        except StorageError as error:
            self._waiting = waiting | self._waiting
            self._news.set()
            logger.warning("An own alert waits: %s", error, extra={"event": "own_alert"})
        else:
            await self._keep()

    def _tell(self, firing: Firing, *, fires: bool) -> None:
        logger.log(
            logging.WARNING if fires else logging.INFO,
            "%s: %s" if fires else "%s is over: %s",
            firing.labels["alertname"],
            summary_of(firing),
            extra={"event": "own_alert", "firing": fires},
        )
        self._waiting[_identity(firing)] = (firing, fires)
        self._telemetry.set("tocsin_own_alerts_firing", len(self._firing))
        self._news.set()

    async def _keep(self, also: Iterable[Firing] = ()) -> None:
        """Write down what fires, and what else the next front has to end; on a full disk that is not possible."""
        kept = {_identity(one): one for one in (*self._firing.values(), *also)}
        content = json.dumps([[one.labels, one.reason, one.starts_at, one.tenant] for one in kept.values()])
        try:
            await asyncio.to_thread(_write, self._file, content)
        except OSError as error:
            logger.warning(
                "Own alerts could not be written down: %s",
                error.strerror or error,
                extra={"event": "own_alert"},
            )

    def _left(self) -> list[Firing]:
        """Return what the front before this one left firing; an unreadable file leaves nothing."""
        try:
            kept = json.loads(self._file.read_text("utf-8"))
            left = [
                Firing(tenant=str(tenant), labels=dict(labels), reason=str(reason), starts_at=str(starts_at))
                for labels, reason, starts_at, tenant in kept
            ]
            for firing in left:
                summary_of(firing)  # what nothing can be told of cannot be told to end
        except (OSError, ValueError, TypeError, KeyError):
            return []
        return left


def _write(file: Path, content: str) -> None:
    """Replace a file by another that is whole."""
    unfinished = file.with_name(f".{file.name}.new")
    with unfinished.open("w", encoding="utf-8") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
    unfinished.replace(file)


def webhook(alerts: list[tuple[Firing, bool]], now: str) -> bytes:
    """Return the body that Alertmanager would send for these alerts, each with whether it fires."""
    body: dict[str, Any] = {
        "version": "4",
        "groupKey": '{}/{job="tocsin"}:{}',
        "truncatedAlerts": 0,
        "status": "firing" if any(fires for _, fires in alerts) else "resolved",
        "receiver": "tocsin",
        "groupLabels": {},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "",
        "alerts": [
            {
                "status": "firing" if fires else "resolved",
                "labels": firing.labels,
                "annotations": {
                    "summary": summary_of(firing),
                    "description": firing.reason,
                },
                "startsAt": firing.starts_at,
                "endsAt": "0001-01-01T00:00:00Z" if fires else now,
                "generatorURL": "",
            }
            for firing, fires in alerts
        ],
    }
    return json.dumps(body).encode()


def summary_of(firing: Firing) -> str:
    """Return what people read of a trouble: with which part, why, and what it means for them."""
    _, told = TROUBLES[firing.labels["alertname"]]
    return told.format_map(firing.labels | {"reason": firing.reason.strip().rstrip(".")})


def _identity(firing: Firing) -> str:
    return json.dumps([firing.tenant, firing.labels], sort_keys=True)


def _labels(name: str, of: str | None, more: dict[str, str]) -> dict[str, str]:
    severity, _ = TROUBLES[name]
    own = {} if of is None else {"tenant": of}
    return {"alertname": name, "severity": severity, "job": "tocsin", **own, **more}


def _key(labels: dict[str, str]) -> str:
    return json.dumps(labels, sort_keys=True)


def _written(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
