"""Unusual: anomalies of what is watched, the incidents they open, and what they mean for those that are open.

Rules: an anomaly opens an incident of its own (`origin: anomaly`), one for each thing that is watched, however long it
lasts; nothing joins it and it joins nothing. It is over when nothing strange was seen for `hold_s`, also because
nothing was seen at all; back soon after, it reopens its incident. It calls nobody: its severity is warning, and only a
route that names the origin leads anywhere. An incident of alerts about the same thing becomes as surprising as the
anomaly is.

Decision: alerts never join an anomaly's incident, although both speak of one thing. An alert that did would be told
only where anomalies are.
"""

from __future__ import annotations

import math
from datetime import timedelta

from msgspec.structs import replace

from bridge.analysis import entities, linking
from bridge.analysis.clustering import Newcomer
from bridge.analysis.families import own_family
from bridge.analysis.watching import ACCEPTED_AFTER_S, Alarm, alert_key, is_about, said_of_chance
from bridge.model import Alert, Episode, IncidentState, Score
from bridge.pipeline.desk import Desk
from bridge.pipeline.events import Events
from bridge.pipeline.gathering import Gathering
from bridge.pipeline.state import Tenant

#: Anomalies of one tenant that have an incident at a time; more are one thing, which these tell of.
MAX_ALARMS = 50
#: No surprise is larger: tail probabilities below are all the same.
MOST_SURPRISE = 12.0
_LIVE = frozenset({IncidentState.OPEN, IncidentState.QUIET})


class Unusual:
    """Opens and ends the incidents of anomalies."""

    def __init__(self, desk: Desk, events: Events, gathering: Gathering) -> None:
        self._desk = desk
        self._events = events
        self._gathering = gathering

    def seen(self, tenant: Tenant, name: str, alarm: Alarm) -> None:
        """Take in that something strange was seen of `name`: it is new, or goes on."""
        before = tenant.alarms.get(name)
        if before is None and len(tenant.alarms) >= MAX_ALARMS:
            self._desk.out.count("anomaly:untold")
            return
        if before is not None:
            newer = replace(alarm, since=before.since, usual=before.usual)
            alarm = newer if newer.surprise > before.surprise else replace(before, last_at=alarm.last_at)
        self._keep(tenant, name, alarm)
        if before is None:
            self._desk.out.count("anomaly:opened")
            if self._desk.out.trace is not None:
                self._desk.out.trace.alarms.append((tenant.name, name, alarm))
            self._open(tenant, name, alarm)
        if before is None or alarm.surprise > before.surprise:
            self._tell(tenant, name, alarm)
            self._raise_others(tenant, alarm)

    def goes_on(self, tenant: Tenant, name: str) -> None:
        """Take in that what was strange of `name` is as it was then."""
        alarm = tenant.alarms[name]
        if (self._desk.now - alarm.since).total_seconds() < ACCEPTED_AFTER_S:
            self._keep(tenant, name, replace(alarm, last_at=self._desk.now))

    def calm(self, tenant: Tenant, key: tuple[str, ...]) -> None:
        """End an anomaly of which nothing was seen for long enough."""
        alarm = tenant.alarms.get(key[0])
        if alarm is None:
            return
        over_at = alarm.last_at + timedelta(seconds=alarm.hold_s)
        if self._desk.now < over_at:
            self._desk.arm(tenant, "calm", key, over_at)
            return
        del tenant.alarms[key[0]]
        self._desk.out.alarms[tenant.name, key[0]] = None
        self._gathering.end(tenant, alert_key(key[0]), self._desk.now, why="usual again")

    def rearm(self, tenant: Tenant) -> None:
        """Arm the end of each anomaly."""
        for name, alarm in tenant.alarms.items():
            self._arm(tenant, name, alarm)

    def _keep(self, tenant: Tenant, name: str, alarm: Alarm) -> None:
        tenant.alarms[name] = self._desk.out.alarms[tenant.name, name] = alarm
        self._arm(tenant, name, alarm)

    def _arm(self, tenant: Tenant, name: str, alarm: Alarm) -> None:
        self._desk.arm(tenant, "calm", (name,), alarm.last_at + timedelta(seconds=alarm.hold_s))

    def _open(self, tenant: Tenant, name: str, alarm: Alarm) -> None:
        now, key = self._desk.now, alert_key(name)
        alert = Alert(
            tenant=tenant.name, source=key[0], fingerprint=key[1], labels=alarm.labels,
            annotations={"summary": f"{alarm.why}: {said_of_chance(alarm.by_chance)}"},
            firing=True, starts_at=now, ends_at=None,
        )  # fmt: skip
        template = self._desk.template_of(tenant, alert)
        episode = Episode(
            tenant=tenant.name, source=key[0], fingerprint=key[1], starts_at=now, ends_at=None, seen_at=now,
            labels=alert.labels, annotations=alert.annotations, generator_url="", group_key="",
            severity="warning", template=template, incident="", why="no alert says so: it was seen in what is watched",
        )  # fmt: skip
        newcomer = Newcomer(
            tokens=entities.tokens_of(alarm.labels), origin="anomaly", template=template, at=now, group="",
            family=linking.family_token(own_family(template)),
        )  # fmt: skip
        self._gathering.resume(tenant, episode, newcomer)

    def _tell(self, tenant: Tenant, name: str, alarm: Alarm) -> None:
        """Let the incident of an anomaly say how strange it is."""
        running = tenant.firing.get(alert_key(name))
        if running is None:
            return
        group = tenant.groups[running[0]]
        value = round(math.exp(-alarm.by_chance), 4)
        reason = f"{said_of_chance(alarm.by_chance)}: {alarm.why}"
        group.head = replace(group.head, anomaly=Score(value=value, reason=reason))
        self._events.due_later(tenant, group, group.episodes[running[1]])

    def _raise_others(self, tenant: Tenant, alarm: Alarm) -> None:
        """Let open incidents of alerts about the same thing speak of it."""
        for group in tenant.groups.values():
            if group.head.state in _LIVE and group.head.origin == "alerts" and is_about(alarm, group.held):
                self._events.rescore_later(tenant, group)


def surprise_of(tail: float) -> float:
    """Return -log10 of a tail probability, 0 to `MOST_SURPRISE`."""
    return min(MOST_SURPRISE, max(0.0, -math.log10(max(tail, 1e-300))))
