"""Routing: which destinations hear of an event, and when at the earliest.

Rules: every matching route applies. A matcher holds from when any firing episode's labels satisfy it; `severity`
is the incident's own. A destination that was told of an incident hears of its end, whatever became of
the labels. `wait` runs from the first event a destination is told; a critical incident never waits.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from msgspec.structs import replace

from bridge.analysis.incidents import Group
from bridge.analysis.matchers import parse
from bridge.analysis.settings import AnalysisSettings, Route
from bridge.model import Episode, Event, EventKind, IncidentState, Word

#: With these an incident is new to whoever hears of it.
_BEGINNINGS = frozenset({EventKind.OPENED, EventKind.SPLIT})
#: Ends that whoever was told of the beginning must hear.
_ENDS = frozenset({EventKind.CLOSED, EventKind.MERGED})


class Due(Word, frozen=True, kw_only=True):
    """One event for one destination, not before `not_before`."""

    destination: str
    not_before: datetime


class Router:
    """The routes with their matchers parsed once."""

    def __init__(self, settings: AnalysisSettings) -> None:
        self.routes = settings.routes
        self._waits = {destination.name: destination.wait_s for destination in settings.destinations}
        #: After that an incident without anything that fires has closed.
        self._over_s = settings.close_after_s + 30.0
        parsed = [tuple((text, parse(text)) for text in route.match) for route in settings.routes]
        #: Per route the texts of its label matchers, and its severity matchers.
        self._by_labels = [[text for text, m in matchers if m.name != "severity"] for matchers in parsed]
        self._by_severity = [[m for _, m in matchers if m.name == "severity"] for matchers in parsed]
        self._matchers = {text: m for matchers in parsed for text, m in matchers if m.name != "severity"}

    def note(self, group: Group, episode: Episode) -> None:
        """Remember which matchers a firing episode's labels satisfy."""
        matched = group.progress.matched
        if len(matched) == len(self._matchers):
            return
        fresh = tuple(
            text
            for text, matcher in self._matchers.items()
            if text not in matched and matcher.holds(episode.labels)
        )
        if fresh:
            group.progress = replace(group.progress, matched=tuple(sorted((*matched, *fresh))))

    def renew(self, group: Group, before: Router, now: datetime) -> None:
        """Let an incident that ran under the routes of `before` go on under these.

        Reminders keep their time where the route is still there; a new one counts from `now`.
        """
        group.progress = replace(group.progress, matched=())
        for episode in group.episodes.values():
            self.note(group, episode)
        due = {before.routes[number]: at for number, at in group.progress.reminders.items()}
        reminders = {number: due[route] for number, route in enumerate(self.routes) if route in due}
        group.progress = replace(group.progress, reminders=reminders)
        if group.progress.event_at is not None:
            group.progress = replace(group.progress, reminders=self._arm(group, now))

    def due(self, group: Group, event: Event) -> list[Due]:
        """Return who hears of `event`, in the order of the routes, and remember whom was told."""
        if event.kind is EventKind.REMINDER:
            return self._reminded(group, event)
        named: dict[str, float] = {}
        for number, route in enumerate(self.routes):
            if event.kind in route.kinds and self._applies(number, route, group):
                for name in route.to:
                    wait_s = self._wait_s(route, name, event)
                    named[name] = min(wait_s, named.get(name, wait_s))
        if event.kind in _ENDS:
            for name in group.progress.told:
                if any(event.kind in route.kinds and name in route.to for route in self.routes):
                    named.setdefault(name, 0.0)
        told = dict(group.progress.told)
        listed = []
        for name, wait_s in named.items():
            due = event.at + timedelta(seconds=wait_s)
            first = told[name] = min(told.get(name, due), due)  # sooner where it rose while it waited
            listed.append(Due(destination=name, not_before=max(first, event.at)))
        reminders = self._arm(group, event.at)
        group.progress = replace(group.progress, told=told, reminders=reminders)
        return listed

    def ahead(self, event: Event, labels: Mapping[str, str]) -> list[Due]:
        """Return who hears of a forecast, by its own labels: the routes that name its kind, whatever their origin."""
        severity = {"severity": labels.get("severity", "")}
        named: dict[str, None] = {}
        for number, route in enumerate(self.routes):
            if (
                event.kind in route.kinds
                and route.tenant in {None, event.tenant}
                and route.min_anomaly is None
                and all(self._matchers[text].holds(labels) for text in self._by_labels[number])
                and all(matcher.holds(severity) for matcher in self._by_severity[number])
            ):
                named.update(dict.fromkeys(route.to))
        return [Due(destination=name, not_before=event.at) for name in named]

    def remind_at(self, group: Group) -> datetime | None:
        """Return when the next reminder is due, None when nobody asked for one, or somebody is at work."""
        if not _reminds(group) or not group.progress.reminders:
            return None
        return min(group.progress.reminders.values())

    def _reminded(self, group: Group, event: Event) -> list[Due]:
        """Return the destinations of the routes that are due, and arm those routes anew."""
        reminders = dict(group.progress.reminders)
        names: dict[str, None] = {}
        for number, at in group.progress.reminders.items():
            route = self.routes[number]
            if at > event.at or not route.repeat_s:
                continue
            reminders[number] = event.at + timedelta(seconds=route.repeat_s)
            if event.kind in route.kinds and self._applies(number, route, group):
                names.update(dict.fromkeys(route.to))
        group.progress = replace(group.progress, reminders=reminders)
        return [Due(destination=name, not_before=event.at) for name in names]

    def _arm(self, group: Group, now: datetime) -> dict[int, datetime]:
        """Return when each route's next reminder is due; only an open incident reminds that nobody acknowledged."""
        if not _reminds(group):
            return {}
        reminders = dict(group.progress.reminders)
        for number, route in enumerate(self.routes):
            if route.repeat_s and number not in reminders and self._applies(number, route, group):
                reminders[number] = now + timedelta(seconds=route.repeat_s)
        return reminders

    def _applies(self, number: int, route: Route, group: Group) -> bool:
        head = group.head
        if route.tenant not in {None, head.tenant} or head.origin not in route.origin:
            return False
        if route.min_anomaly is not None and (head.anomaly.value or 0.0) < route.min_anomaly:
            return False
        if not all(text in group.progress.matched for text in self._by_labels[number]):
            return False
        severity: Mapping[str, str] = {"severity": head.severity}
        return all(matcher.holds(severity) for matcher in self._by_severity[number])

    def _wait_s(self, route: Route, name: str, event: Event) -> float:
        own_s = self._waits.get(name, 0.0)
        if own_s and event.kind in _BEGINNINGS and not event.incident.alerts_firing:
            return self._over_s  # it was over when we heard of it: nobody is called, a chat hears of it once
        if event.incident.severity == "critical":
            return 0.0
        return own_s if route.wait_s is None else route.wait_s


def _reminds(group: Group) -> bool:
    return group.head.state is IncidentState.OPEN and group.head.acknowledged_at is None
