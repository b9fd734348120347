"""Events: what an incident says of itself, once at the end of a row or tick, and when it says so again.

Rules: of two events due at once the one that says more is made. An incident that keeps changing says so at most
every `UPDATE_EVERY_S`. The event, its score and its way to the destinations are made together, so a first message
about a webhook of fifty alerts speaks of fifty.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec.structs import replace

from bridge.analysis import anomaly, incidents
from bridge.analysis.incidents import Group
from bridge.model import EventKind
from bridge.pipeline.desk import Desk
from bridge.pipeline.state import OutboxEntry, Tenant

UPDATE_EVERY_S = 30.0  # an incident that keeps changing says so at most this often
#: Which of two events due at once says more; the other is left out.
SAYS_MORE: dict[EventKind, int] = {
    EventKind.REMINDER: 0, EventKind.UPDATED: 1, EventKind.CLOSED: 2, EventKind.ESCALATED: 3,
    EventKind.REOPENED: 4, EventKind.OPENED: 5, EventKind.MERGED: 6, EventKind.SPLIT: 6,
    EventKind.ACKNOWLEDGED: 6, EventKind.FORECAST: 6, EventKind.RECOMMENDATION: 6,
}  # fmt: skip


class Events:
    """Collects what is to be said and says it."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._due: dict[tuple[str, str], EventKind] = {}  # tenant, incident

    def due(self, tenant: Tenant, group: Group, kind: EventKind) -> None:
        """Let an event be made at the end of this row or tick."""
        self._desk.touch(tenant, group)
        key = (tenant.name, group.head.id)
        said = self._due.get(key)
        if said is None or SAYS_MORE[kind] > SAYS_MORE[said]:
            self._due[key] = kind

    def due_later(self, tenant: Tenant, group: Group) -> None:
        """Let an update be made as soon as the incident may speak again."""
        self._desk.touch(tenant, group)
        if not group.progress.pending_update:
            group.progress = replace(group.progress, pending_update=True)
            self._arm_update(tenant, group, group.progress.event_at or self._desk.now)

    def make(self) -> None:
        """Make the events that are due."""
        while self._due:
            (name, incident), kind = next(iter(self._due.items()))
            del self._due[name, incident]
            tenant = self._desk.state.tenants[name]
            group = tenant.groups[incident]
            if kind in {EventKind.ESCALATED, EventKind.REOPENED}:
                incidents.note_escalation(group, self._desk.now)
            self._score(tenant, group)
            self._publish(tenant, group, kind)

    def _score(self, tenant: Tenant, group: Group) -> None:
        sizes: dict[str, int] = {}
        for template, count in group.templates.items():
            family = self._desk.family_of(tenant, template)
            sizes[family] = sizes.get(family, 0) + count
        if sizes:
            habit, opened_at = tenant.record.habit, group.head.opened_at
            value = anomaly.score(sizes, tenant.habits, habit, opened_at=opened_at, now=self._desk.now)
            group.head = replace(group.head, anomaly=value)

    def _publish(self, tenant: Tenant, group: Group, kind: EventKind) -> None:
        desk = self._desk
        group.progress = replace(group.progress, pending_update=False)
        external_url = desk.settings.external_url
        event = incidents.event_of(group, kind, desk.now, degraded=desk.free, external_url=external_url)
        desk.out.events.append(event)
        desk.out.count(f"event:{kind.value}")
        for due in desk.state.router.due(group, event):
            desk.out.outbox.append(
                OutboxEntry(
                    tenant=tenant.name, destination=due.destination, event_id=event.event_id,
                    incident=group.head.id, seq=event.seq, kind=kind.value, at=desk.now,
                    not_before=due.not_before,
                )
            )  # fmt: skip
        self._arm_reminder(tenant, group)

    # ---- alarms --------------------------------------------------------------------------------------------

    def update(self, tenant: Tenant, key: tuple[str, ...]) -> None:
        """Say what changed, if the last word is long enough ago."""
        group = tenant.groups.get(key[0])
        if group is None or not group.progress.pending_update or group.progress.event_at is None:
            return
        if self._desk.now < group.progress.event_at + timedelta(seconds=UPDATE_EVERY_S):
            self._arm_update(tenant, group, group.progress.event_at)
        else:
            self.due(tenant, group, EventKind.UPDATED)

    def remind(self, tenant: Tenant, key: tuple[str, ...]) -> None:
        """Say that an incident is still open, if a route's reminder is due."""
        group = tenant.groups.get(key[0])
        at = None if group is None else self._desk.state.router.remind_at(group)
        if group is None or at is None:
            return
        if self._desk.now < at:
            self._arm_reminder(tenant, group)
        else:
            self.due(tenant, group, EventKind.REMINDER)

    def rearm(self, tenant: Tenant, group: Group) -> None:
        """Arm what the incident still has to say."""
        if group.progress.pending_update and group.progress.event_at is not None:
            self._arm_update(tenant, group, group.progress.event_at)
        self._arm_reminder(tenant, group)

    def _arm_update(self, tenant: Tenant, group: Group, said_at: datetime) -> None:
        self._desk.arm(tenant, "update", (group.head.id,), said_at + timedelta(seconds=UPDATE_EVERY_S))

    def _arm_reminder(self, tenant: Tenant, group: Group) -> None:
        at = self._desk.state.router.remind_at(group)
        if at is not None:
            self._desk.arm(tenant, "remind", (group.head.id,), at)
