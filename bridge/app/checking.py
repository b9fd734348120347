"""`tocsin check`: a configuration looked at, destinations and Alertmanagers asked, a marked test event sent.

Rules: what is tried here is what the dispatcher does, by the same connectors and senders; only the waiting
and the store are left out. A probe changes nothing at a destination. Alertmanagers of
sources are asked as the rounds do it. A test event says that it is one, in its
title, its labels and its incident id; what it opened is closed again where a destination keeps things open.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bridge import config
from bridge.app.destinations import connectors_of, senders
from bridge.app.kinds import known_kinds
from bridge.app.peers import Peers, UnansweredError
from bridge.config import DestinationSettings, PollSettings, Settings
from bridge.errors import ConfigError
from bridge.model import (
    Delivered,
    Duplicate,
    Event,
    EventEpisode,
    EventKind,
    IncidentState,
    IncidentView,
    Pending,
    RootSuspect,
    Verdict,
    Word,
    event_id,
)
from bridge.ports import Connector, Memory, Rendered, Sender

#: How long one attempt may take; a person waits for it.
ATTEMPT_S = 15.0
#: A destination whose event needs more calls than this is not understood.
MAX_STEPS = 5
GOOD = (Delivered, Duplicate, Pending)


class Finding(Word, frozen=True, kw_only=True):
    """What became of one destination."""

    destination: str
    good: bool
    text: str


class Checked(Word, frozen=True, kw_only=True):
    """What `check` found."""

    faults: tuple[str, ...] = ()  # of the configuration, each with its place
    notes: tuple[str, ...] = ()  # allowed, and worth a look
    findings: tuple[Finding, ...] = ()
    peers: tuple[Finding, ...] = ()  # Alertmanagers that were asked

    @property
    def good(self) -> bool:
        """Whether all is well."""
        return not self.faults and all(each.good for each in (*self.findings, *self.peers))

    def record(self) -> dict[str, Any]:
        """Return it for `--json`."""
        findings = [
            {"destination": each.destination, "good": each.good, "text": each.text} for each in self.findings
        ]
        peers = [
            {"alertmanager": each.destination, "good": each.good, "text": each.text} for each in self.peers
        ]
        return {
            "good": self.good, "faults": self.faults, "notes": self.notes, "destinations": findings,
            "alertmanagers": peers,
        }  # fmt: skip


def schema() -> dict[str, Any]:
    """Return the JSON Schema of the configuration."""
    return config.schema(known_kinds())


def check(
    path: Path,
    *,
    connect: bool = False,
    send_test: str | None = None,
    say: Callable[[str], object] | None = None,
) -> Checked:
    """Check a configuration and, if asked, its destinations; `say` is told each thing as it is found.

    Raises:
        ConfigError: `send_test` names no destination.
    """
    tell = say or (lambda _text: None)
    try:
        settings = config.load(path, known_kinds(), os.environ)
    except ConfigError as error:
        for fault in error.faults:
            tell(fault)
        return Checked(faults=error.faults)
    for note in settings.notes:
        tell(f"note: {note}")
    destinations, routes = len(settings.destinations), len(settings.analysis.routes)
    tell(f"{path}: good, {destinations} destination(s), {routes} route(s)")
    findings = asyncio.run(_try(settings, connect=connect, send_test=send_test, tell=tell))
    peers = asyncio.run(_ask_all(settings.polls, tell)) if connect and settings.polls else ()
    return Checked(notes=settings.notes, findings=findings, peers=peers)


async def _try(
    settings: Settings, *, connect: bool, send_test: str | None, tell: Callable[[str], object]
) -> tuple[Finding, ...]:
    findings: list[Finding] = []
    async with AsyncExitStack() as stack:
        by_protocol = senders()
        for sender in by_protocol.values():
            stack.push_async_callback(sender.close)
        asked = settings.destinations if connect else ()
        # All at once: one that says nothing keeps nobody waiting for the others.
        for found in await asyncio.gather(
            *(probe(each.name, _connector(each), by_protocol) for each in asked)
        ):
            findings.append(found)
            tell(_line(found))
        if send_test is not None:
            chosen = _named(settings, send_test)
            findings.append(await send_test_event(chosen.name, _connector(chosen), by_protocol))
            tell(_line(findings[-1]))
    return tuple(findings)


async def _ask_all(polls: Sequence[PollSettings], tell: Callable[[str], object]) -> tuple[Finding, ...]:
    findings: list[Finding] = []
    peers = Peers()
    try:
        for poll in polls:
            for address in poll.alertmanagers:
                findings.append(await ask(peers, poll, address))
                tell(_line(findings[-1]))
    finally:
        await peers.close()
    return tuple(findings)


async def ask(peers: Peers, poll: PollSettings, address: str) -> Finding:
    """Ask an Alertmanager what it lists, and whether it has the receiver that sends here."""
    name = f"{poll.source} ({address})"
    try:
        answer = await peers.ask(poll, address)
        receivers = await peers.receivers(poll, address)
    except UnansweredError as error:
        return Finding(destination=name, good=False, text=str(error))
    if poll.receiver not in receivers:
        text = (
            f"has no receiver {poll.receiver!r}, so nothing can be missed; set sources[].receiver to one of: "
        )
        return Finding(destination=name, good=False, text=text + ", ".join(receivers))
    ours = sum(poll.receiver in alert.receivers for alert in answer.listing.alerts)
    return Finding(
        destination=name, good=True, text=f"answers; {ours} alert(s) for {poll.receiver} are listed"
    )


async def probe(name: str, connector: Connector, by_protocol: Mapping[type, Sender]) -> Finding:
    """Ask a destination whether address and credentials work."""
    request = connector.probe()
    if request is None:
        return Finding(
            destination=name, good=True, text=f"cannot be asked without sending; try --send-test {name}"
        )
    try:
        verdict = await _attempt(connector, Rendered(request=request, event_ids=("probe",)), by_protocol)
    except Exception as error:  # noqa: BLE001 (what a vendor's library says of credentials that it cannot read)
        return Finding(
            destination=name, good=False, text=f"cannot be asked ({type(error).__name__}: {error})"
        )
    if isinstance(verdict, GOOD):
        return Finding(destination=name, good=True, text="answers")
    return Finding(destination=name, good=False, text=_reason(verdict))


async def send_test_event(name: str, connector: Connector, by_protocol: Mapping[type, Sender]) -> Finding:
    """Send a test event, and its end where the destination would keep it open."""
    now = datetime.now(UTC)
    incident = f"test-{uuid.uuid4().hex[:16]}"
    memory: Memory | None = None
    for number, kind in enumerate((EventKind.OPENED, EventKind.CLOSED), start=1):
        if kind is EventKind.CLOSED and not connector.caps.updates:
            break
        verdict, memory = await _deliver(
            connector, test_event(incident, number, kind, now), memory, by_protocol
        )
        if not isinstance(verdict, GOOD):
            return Finding(
                destination=name, good=False, text=f"the test event was not taken: {_reason(verdict)}"
            )
    return Finding(destination=name, good=True, text=f"took the test event {incident}; look for it there")


def test_event(incident: str, seq: int, kind: EventKind, now: datetime) -> Event:
    """Return an event that says it is a test."""
    closed_at = now if kind is EventKind.CLOSED else None
    labels = {"alertname": "TocsinTest", "severity": "info", "test": "true"}
    why = "sent by `tocsin check --send-test`"
    episode = EventEpisode(
        fingerprint="0" * 16, starts_at=now, ends_at=closed_at, source="tocsin", labels=labels,
        annotations={"summary": "A test; nothing is wrong."}, generator_url="", severity="info",
        demoted=False, why=why,
    )  # fmt: skip
    suspect = RootSuspect(fingerprint="0" * 16, starts_at=now, confidence=1.0, why=why)
    return Event(
        event_id=event_id("default", incident, seq, kind), kind=kind, seq=seq, at=now, tenant="default",
        degraded=False,
        incident=IncidentView(
            id=incident, state=IncidentState.OPEN if closed_at is None else IncidentState.CLOSED,
            origin="tocsin", title="Test event from Tocsin, please ignore",
            summary="Somebody ran `tocsin check --send-test`. Nothing is wrong.", severity="info",
            anomaly=None, anomaly_reason="a test", opened_at=now, closed_at=closed_at, alerts_total=1,
            alerts_firing=int(closed_at is None), common_labels=labels, episodes=(episode,), truncated=0,
            root=(suspect,), merged_into=None, split_from=None, escalations=0, url="",
        ),
    )  # fmt: skip


async def _deliver(
    connector: Connector, event: Event, memory: Memory | None, by_protocol: Mapping[type, Sender]
) -> tuple[Verdict, Memory | None]:
    """Send one event, with all the calls that it needs; return the last verdict and what is remembered."""
    verdict: Verdict = Delivered()
    step = ""
    for _ in range(MAX_STEPS):
        if step == "" and not connector.wants(event, memory):
            return Delivered(), memory
        verdict = await _attempt(connector, connector.render([event], memory, step), by_protocol)
        if not isinstance(verdict, Delivered):
            return verdict, memory
        memory = memory if verdict.memory is None else verdict.memory
        step = verdict.next_step
        if not step:
            break
    return verdict, memory


async def _attempt(connector: Connector, rendered: Rendered, by_protocol: Mapping[type, Sender]) -> Verdict:
    sealed = connector.seal(rendered.request, rendered.event_ids, datetime.now(UTC))
    response = await by_protocol[type(sealed)].send(sealed, timeout_s=ATTEMPT_S)
    return connector.judge(rendered, response)[0]


def _connector(destination: DestinationSettings) -> Connector:
    return connectors_of([destination])[destination.name]


def _named(settings: Settings, name: str) -> DestinationSettings:
    for each in settings.destinations:
        if each.name == name:
            return each
    known: Sequence[str] = [each.name for each in settings.destinations]
    raise ConfigError((f"there is no destination named {name!r}; there are: {', '.join(known) or 'none'}",))


def _reason(verdict: Verdict) -> str:
    return getattr(verdict, "reason", "") or type(verdict).__name__.lower()


def _line(finding: Finding) -> str:
    return f"{finding.destination}: {'good' if finding.good else 'BAD'}, {finding.text}"
