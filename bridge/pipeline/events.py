"""Events: what an incident says of itself, once at the end of a row or tick, and when it says so again.

Rules: of two events due at once the one that says more is made. An incident that keeps changing says so at most
every `UPDATE_EVERY_S`. The event, its score and its way to the destinations are made together, so a first message
about a webhook of fifty alerts speaks of fifty.
"""

from __future__ import annotations

from datetime import timedelta

from msgspec.structs import replace

from bridge.analysis import anomaly, calling, extent, incidents, watching
from bridge.analysis.incidents import Group, Said
from bridge.analysis.ranking import importance
from bridge.analysis.wording import FLAPS_FROM
from bridge.model import Episode, EventKind, IncidentState
from bridge.pipeline.desk import Desk
from bridge.pipeline.state import OutboxEntry, Tenant

UPDATE_EVERY_S = 30.0  # an incident that keeps changing says so at most this often
FLAPS_EVERY_S = 900.0  # one where nothing happens but that alerts it has had come and go
#: People are called with these.
CALLS = frozenset({EventKind.OPENED, EventKind.ESCALATED, EventKind.REOPENED})
#: Which of two events due at once says more; the other is left out.
SAYS_MORE: dict[EventKind, int] = {
    EventKind.REMINDER: 0, EventKind.UPDATED: 1, EventKind.CLOSED: 2, EventKind.ESCALATED: 3,
    EventKind.REOPENED: 4, EventKind.OPENED: 5, EventKind.SPLIT: 6, EventKind.ACKNOWLEDGED: 6,
    EventKind.FORECAST: 6, EventKind.RECOMMENDATION: 6, EventKind.MERGED: 7,
}  # fmt: skip


class Events:
    """Collects what is to be said and says it."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._due: dict[tuple[str, str], EventKind] = {}  # tenant, incident
        self._said: dict[tuple[str, str], Said] = {}

    def due(self, tenant: Tenant, group: Group, kind: EventKind, said: Said | None = None) -> None:
        """Let an event be made at the end of this row or tick; `said` is what a person says with it."""
        self._desk.touch(tenant, group)
        key = (tenant.name, group.head.id)
        if said is not None:
            self._said[key] = said
        other = self._due.get(key)
        if other is None or SAYS_MORE[kind] > SAYS_MORE[other]:
            self._due[key] = kind

    def sign(self, tenant: Tenant, group: Group, said: Said) -> None:
        """Let the event that is due of an incident, if one is, carry what a person says."""
        key = (tenant.name, group.head.id)
        if key in self._due:
            self._said[key] = said

    def call(self, tenant: Tenant, group: Group, episode: Episode) -> None:
        """Call people for a critical alert that they were not told of: at once, or when they may be called again."""
        forget_after_s = self._desk.settings.reopen_within_s
        due = calling.call_at(group, episode, self._desk.now, forget_after_s=forget_after_s)
        if due is None:
            return
        ring_at = group.progress.ring_at
        if due <= self._desk.now:
            self.due(tenant, group, EventKind.ESCALATED)
        elif ring_at is None or due < ring_at:
            group.progress = replace(group.progress, ring_at=due)
            self._desk.arm(tenant, "ring", (group.head.id,), due)

    def due_later(self, tenant: Tenant, group: Group, episode: Episode) -> None:
        """Let an update about an episode be made as soon as the incident may speak of that again."""
        times = group.alerts[episode.source, episode.fingerprint].times
        self._update_within(tenant, group, FLAPS_EVERY_S if times >= FLAPS_FROM else UPDATE_EVERY_S)

    def _update_within(self, tenant: Tenant, group: Group, every_s: float) -> None:
        self._desk.touch(tenant, group)
        if group.head.state is IncidentState.CLOSED:
            return  # a person closed it: what becomes of what fires on in it is no news
        due = (group.progress.event_at or self._desk.now) + timedelta(seconds=every_s)
        if group.progress.update_at is None or due < group.progress.update_at:
            group.progress = replace(group.progress, update_at=due)
            self._desk.arm(tenant, "update", (group.head.id,), due)

    def surprise(self, tenant: Tenant, group: Group, surprise: float, why: str) -> None:
        """Let an incident be as surprising as this, if it was less, and say so before long."""
        if surprise > group.progress.surprise:
            self._desk.out.count("anomaly:raised")
            group.progress = replace(group.progress, surprise=surprise, surprise_why=why)
            self.rescore_later(tenant, group)

    def rescore_later(self, tenant: Tenant, group: Group) -> None:
        """Let an update be made as soon as the incident may speak again: it is scored with each word."""
        self._update_within(tenant, group, UPDATE_EVERY_S)

    def make(self) -> None:
        """Make the events that are due."""
        while self._due:
            (name, incident), kind = next(iter(self._due.items()))
            del self._due[name, incident]
            tenant = self._desk.state.tenants[name]
            group = tenant.groups[incident]
            if kind in CALLS:
                if kind is not EventKind.OPENED:
                    calling.note_escalation(group)
                    group.head = replace(group.head, acknowledged_at=None)  # of what nobody knew yet
                calling.note_call(group, self._desk.now)
            self._score(tenant, group)
            self._publish(tenant, group, kind)

    def _score(self, tenant: Tenant, group: Group) -> None:
        sizes: dict[str, int] = {}
        for template, count in group.templates.items():
            family = self._desk.family_of(tenant, template)
            sizes[family] = sizes.get(family, 0) + count
        habit, now = tenant.record.habit, self._desk.now
        if not sizes or habit is None or group.head.origin == "anomaly":
            return
        also = watching.surprises(tenant.alarms, group.held)
        also += extent.tails(tenant.record.extent, len(group.alerts), extent.things_in(group.held))
        surprise, reason = anomaly.surprise_of(
            sizes, tenant.habits, habit, opened_at=group.head.opened_at, now=now, also=also
        )
        if surprise >= group.progress.surprise:
            group.progress = replace(group.progress, surprise=surprise, surprise_why=reason)
        score = anomaly.ranked(
            tenant.record.experience, group.progress.surprise, group.progress.surprise_why,
            since=habit.since, now=now,
        )  # fmt: skip
        group.head = replace(group.head, anomaly=score)

    def _publish(self, tenant: Tenant, group: Group, kind: EventKind) -> None:
        desk = self._desk
        if kind is not EventKind.REMINDER:  # that goes to few: what changed is still to be told to the others
            group.progress = replace(group.progress, update_at=None)
        said = self._said.pop((tenant.name, group.head.id), None)
        event = incidents.event_of(
            group, kind, desk.now, degraded=desk.free, external_url=desk.settings.external_url, said=said,
            insight=desk.insight_of(tenant),
        )  # fmt: skip
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
        if group is None or group.progress.update_at is None:
            return
        if self._desk.now < group.progress.update_at:
            self._desk.arm(tenant, "update", key, group.progress.update_at)
        else:
            self.due(tenant, group, EventKind.UPDATED)

    def ring(self, tenant: Tenant, key: tuple[str, ...]) -> None:
        """Call people for the critical alerts that came too soon after the last call, if they still fire."""
        group = tenant.groups.get(key[0])
        if group is None or group.progress.ring_at is None:
            return
        if self._desk.now < group.progress.ring_at:
            self._desk.arm(tenant, "ring", key, group.progress.ring_at)
            return
        group.progress = replace(group.progress, ring_at=None)
        self._desk.touch(tenant, group)
        for episode in sorted(group.firing.values(), key=importance):
            if episode.suppressed:
                continue  # people silenced it: they are called if it fires on after that
            self.call(tenant, group, episode)

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
        progress, key = group.progress, (group.head.id,)
        if progress.update_at is not None:
            self._desk.arm(tenant, "update", key, progress.update_at)
        if progress.ring_at is not None:
            self._desk.arm(tenant, "ring", key, progress.ring_at)
        self._arm_reminder(tenant, group)

    def _arm_reminder(self, tenant: Tenant, group: Group) -> None:
        at = self._desk.state.router.remind_at(group)
        if at is not None:
            self._desk.arm(tenant, "remind", (group.head.id,), at)
