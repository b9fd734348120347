"""Forecasts: which incidents there were, and at fixed ticks how likely the next ones are.

Rules: an incident is noted at each forecast and when it is let go of, as it stands then: when it began, whether it is
over, which services it is about, how severe it is. Those of anomalies and of Tocsin itself are none, nor is one that
was merged. A forecast is made at every multiple of the step, once there were `LEAST_EVENTS`; what was not made because
nobody listened is not made later. Targets that are new begin few at a time.

Decision: what happened is a table of its own rather than read from the incidents. Those lose their place in memory
when they are over, and thinking never asks the store.

Decision: in the tick rather than in the models' child. A target takes some 10 ms, half a second when it begins.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from msgspec.structs import replace

from bridge.analysis.announcing import (
    Announced,
    advised,
    announcement,
    is_new_advice,
    is_news,
    is_unusual,
    labels_of,
    recommendation,
)
from bridge.analysis.forecast.occurrences import Occurrence, Occurrences
from bridge.analysis.forecast.outlooks import look_ahead, step_of, targets_of
from bridge.analysis.forecast.targets import LEAST_EVENTS, Target
from bridge.analysis.incidents import Group
from bridge.model import Event, EventKind, Forecast, IncidentState
from bridge.pipeline.desk import Desk
from bridge.pipeline.precedents import Precedents
from bridge.pipeline.state import EPOCH, OutboxEntry, Tenant

MAX_HAPPENED = 5_000
#: Services of one incident that are told apart, those that most of its alerts are about.
MAX_SERVICES = 16
#: Targets that begin in one tick: each goes through its past first.
MAX_NEW = 2
_SERVICE = "service="  # how `analysis.entities` names one
_COUNTED = frozenset({"alerts", "heartbeat"})


class Forecasts:
    """Notes what happened and looks ahead."""

    def __init__(self, desk: Desk, progress: Callable[[], None] = lambda: None) -> None:
        self._desk = desk
        self._progress = progress
        self._precedents = Precedents(desk)

    # ---- what happened -------------------------------------------------------------------------------------

    def note(self, tenant: Tenant, group: Group) -> None:
        """Remember an incident as it stands."""
        incident = group.head.id
        self._precedents.note(tenant, group)
        if group.head.state is IncidentState.MERGED:
            self._drop(tenant, incident)
        elif group.head.origin in _COUNTED:
            occurrence = _occurrence(group)
            if tenant.happened.get(incident) != occurrence:
                tenant.happened[incident] = occurrence
                self._desk.out.happened[tenant.name, incident] = occurrence

    def _bound(self, tenant: Tenant) -> None:
        """Forget what is too old and what is too much, the oldest first."""
        oldest_s = self._desk.now.timestamp() - self._desk.settings.kept_s(tenant.name, "incidents")
        by_age = sorted((each.start_s, incident) for incident, each in tenant.happened.items())
        surplus = len(by_age) - MAX_HAPPENED
        for number, (start_s, incident) in enumerate(by_age):
            if number < surplus or start_s < oldest_s:
                self._drop(tenant, incident)

    def _drop(self, tenant: Tenant, incident: str) -> None:
        if tenant.happened.pop(incident, None) is not None:
            self._desk.out.happened[tenant.name, incident] = None

    # ---- looking ahead -------------------------------------------------------------------------------------

    def plan(self, tenant: Tenant) -> None:
        """Arm the next forecast if none is due."""
        if tenant.record.forecast_at is None:
            self._next(tenant, self._desk.now)

    def rearm(self, tenant: Tenant) -> None:
        """Arm the forecast that is due."""
        if tenant.record.forecast_at is not None:
            self._desk.arm(tenant, "forecast", (), tenant.record.forecast_at)

    def _next(self, tenant: Tenant, after: datetime) -> None:
        self._at(tenant, self._origin(after + timedelta(microseconds=1)))

    def _at(self, tenant: Tenant, at: datetime | None) -> None:
        self._desk.keep_record(tenant, replace(tenant.record, forecast_at=at))
        self.rearm(tenant)

    def _origin(self, at: datetime) -> datetime:
        """Return the first origin that is not before `at`."""
        step = timedelta(seconds=step_of(self._desk.settings.horizon_s))
        return EPOCH + -(-(at - EPOCH) // step) * step

    def tick(self, tenant: Tenant, key: tuple[str, ...]) -> None:
        """Forecast, if it is time and there is enough to learn from."""
        del key
        due, now = tenant.record.forecast_at, self._desk.now
        if due is None:
            return
        # A new horizon may have other origins, and while nobody listened there was nobody to tell.
        due = self._origin(max(due, self._desk.state.common.resumed_at))
        if now < due:
            self._at(tenant, due)
            return
        for group in tenant.groups.values():
            self.note(tenant, group)
        self._bound(tenant)
        self._precedents.bound(tenant)
        if len(tenant.happened) < LEAST_EVENTS:
            self._at(tenant, None)  # an idle front is spared the time until something happens again
            return
        self._look(tenant)
        self._next(tenant, now)

    def _look(self, tenant: Tenant) -> None:
        desk = self._desk
        events = Occurrences(tenant.happened.values())
        targets = targets_of(events)
        for gone in sorted(tenant.outlooks.keys() - set(targets)):
            del tenant.outlooks[gone]
            desk.out.outlooks[tenant.name, gone.aim, gone.name] = None
        self._pass_over(tenant)
        begun = 0
        for target in targets:
            is_new = target not in tenant.outlooks
            if is_new and begun >= MAX_NEW:
                continue
            begun += is_new
            self._ahead(tenant, target, events)
            self._progress()

    def _ahead(self, tenant: Tenant, target: Target, events: Occurrences) -> None:
        desk = self._desk
        before = tenant.outlooks.get(target)
        outlook = look_ahead(before, target, events, desk.now, horizon_s=desk.settings.horizon_s)
        if outlook is None:
            return
        tenant.outlooks[target] = outlook
        desk.out.outlooks[tenant.name, target.aim, target.name] = outlook
        if desk.out.trace is not None:
            desk.out.trace.outlooks.append((tenant.name, outlook))
        desk.out.count(f"forecast:{'published' if outlook.newest.published else 'silent'}")
        self._tell(tenant, outlook.newest)
        self._advise(tenant, outlook.newest)

    # ---- telling -------------------------------------------------------------------------------------------

    def _tell(self, tenant: Tenant, newest: Forecast) -> None:
        """Let those who asked for it hear of a forecast that says something new."""
        desk, name = self._desk, f"{newest.aim} {newest.name}"
        if not is_news(newest, tenant.record.announced.get(name)):
            return
        event = announcement(newest, tenant.name, degraded=desk.free, external_url=desk.settings.external_url)
        if not self._send(tenant, event, newest):
            return  # nobody asked: it stands in the list of forecasts
        told = Announced(until=newest.until, probability=newest.probability)
        desk.keep_record(tenant, replace(tenant.record, announced={**tenant.record.announced, name: told}))

    def _advise(self, tenant: Tenant, newest: Forecast) -> None:
        """Let those who asked for it hear of what is recommended, if it is something new."""
        desk, name = self._desk, f"{newest.aim} {newest.name}"
        is_asked = any(EventKind.RECOMMENDATION in route.kinds for route in desk.settings.routes)
        if not is_asked or not is_unusual(newest):
            return
        advice = self._precedents.advice(tenant, newest)
        if not is_new_advice(newest, advice, tenant.record.advised.get(name)):
            return
        event = recommendation(
            newest, advice, tenant.name, degraded=desk.free, external_url=desk.settings.external_url
        )
        if self._send(tenant, event, newest):
            told = advised(newest, advice)
            desk.keep_record(tenant, replace(tenant.record, advised={**tenant.record.advised, name: told}))

    def _send(self, tenant: Tenant, event: Event, newest: Forecast) -> bool:
        """Let an event go to those who asked for its kind; say whether anybody did."""
        desk = self._desk
        listed = desk.state.router.ahead(event, labels_of(newest, desk.settings.topology_label))
        if not listed:
            return False
        desk.out.events.append(event)
        desk.out.count(f"event:{event.kind.value}")
        for due in listed:
            desk.out.outbox.append(
                OutboxEntry(
                    tenant=tenant.name, destination=due.destination, event_id=event.event_id,
                    incident=event.incident.id, seq=event.seq, kind=event.kind.value, at=desk.now,
                    not_before=due.not_before,
                )
            )  # fmt: skip
        return True

    def _pass_over(self, tenant: Tenant) -> None:
        """Forget what was told of a time that has passed."""
        record, now = tenant.record, self._desk.now
        announced = {name: told for name, told in record.announced.items() if told.until > now}
        advice = {name: told for name, told in record.advised.items() if told.until > now}
        if len(announced) < len(record.announced) or len(advice) < len(record.advised):
            self._desk.keep_record(tenant, replace(record, announced=announced, advised=advice))


def _occurrence(group: Group) -> Occurrence:
    head = group.head
    named = sorted(
        (-number, key.removeprefix(_SERVICE))
        for key, (number, _) in group.held.items()
        if key.startswith(_SERVICE)
    )
    return Occurrence(
        start_s=head.opened_at.timestamp(),
        end_s=None if head.closed_at is None else head.closed_at.timestamp(),
        entity="|".join(sorted(name for _, name in named[:MAX_SERVICES])),
        severity=head.severity,
        text=head.title,
    )
