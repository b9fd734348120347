"""Gathering: how an episode comes into its incident, and how it ends there.

Rules: an alert that fired before goes back to its own incident for as long as that is remembered; otherwise
clustering chooses, or the alert founds its own. Every way in and out moves the incident's state through the
MOVES table and has episode and incident stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from heapq import nsmallest

from msgspec.structs import replace

from bridge.analysis import clustering, incidents, linking
from bridge.analysis.clustering import Newcomer
from bridge.analysis.incidents import Group, Signal
from bridge.model import Episode, EventKind, Incident, IncidentState, Origin
from bridge.pipeline.desk import Desk
from bridge.pipeline.events import Events
from bridge.pipeline.state import AlertKey, Tenant

TEXTS_COMPARED = 4  # templates of an incident that a newcomer's text is compared with, in order of their ids


class Gathering:
    """Puts episodes into incidents and keeps the index that incidents are found by."""

    def __init__(self, desk: Desk, events: Events) -> None:
        self._desk = desk
        self._events = events

    # ---- in ------------------------------------------------------------------------------------------------

    def join(self, tenant: Tenant, episode: Episode, newcomer: Newcomer) -> None:
        """Put an episode where it belongs: its own incident of before, a likely one, or a new one."""
        back = self._remembered(tenant, episode, newcomer.origin)
        if back is not None:
            if (episode.source, episode.fingerprint, episode.starts_at) in back.episodes:
                # It fires on with the startsAt of an episode that expired and whose watch was forgotten.
                episode = replace(episode, starts_at=self._desk.now)
            self._enter(tenant, back, replace(episode, why="fires again"), newcomer)
            return
        settings = self._desk.settings
        choice = clustering.choose(
            newcomer, tenant.index, tenant.groups, window_s=settings.window_s,
            sensitivity=settings.sensitivity, likeness=self._likeness(tenant),
        )  # fmt: skip
        if choice.incident is None or choice.link is None:
            self.found(tenant, replace(episode, why="first alert of this incident"), newcomer)
            return
        group = tenant.groups[choice.incident]
        self._bridge(tenant, group, choice.also)
        self._enter(tenant, group, replace(episode, why=linking.explain(choice.link)), newcomer)

    def found(self, tenant: Tenant, episode: Episode, newcomer: Newcomer) -> None:
        """Open an incident of which `episode` is the first."""
        group = incidents.found(episode, newcomer.origin, self._desk.now, degraded=self._desk.free)
        tenant.groups[group.head.id] = group
        self._events.due(tenant, group, EventKind.OPENED)
        self._enter(tenant, group, episode, newcomer)

    def _remembered(self, tenant: Tenant, episode: Episode, origin: Origin) -> Group | None:
        """Return the incident that had this alert, if it is going on or closed so recently that it reopens."""
        group = tenant.groups.get(tenant.last_incident.get((episode.source, episode.fingerprint), ""))
        if group is None or group.head.state is IncidentState.MERGED or group.head.origin != origin:
            return None
        return group

    def _enter(self, tenant: Tenant, group: Group, episode: Episode, newcomer: Newcomer) -> None:
        """Put an episode into its incident, whatever the incident's state was."""
        desk = self._desk
        episode = replace(episode, incident=group.head.id)
        before = group.move(Signal.FIRES)
        group.add(episode, newcomer.tokens)
        degraded = group.head.degraded or desk.free
        group.head = replace(group.head, active_at=desk.now, closed_at=None, degraded=degraded)
        if before is not IncidentState.OPEN:
            group.progress = replace(group.progress, quiet_at=None, forget_at=None)
        tenant.point_to(group, episode)
        desk.keep_episode(tenant, episode)
        if tenant.index.holds(group.head.id):
            group.hold(newcomer.family, newcomer.at)
            tenant.index.note(group.head.id, group.head.opened_at, clustering.keys_of(newcomer))
        else:
            self.index(tenant, group)
        desk.state.router.note(group, episode)
        rings = incidents.escalates(group, episode, desk.now)
        if before is IncidentState.CLOSED:
            self._events.due(tenant, group, EventKind.REOPENED)
        elif rings:
            self._events.due(tenant, group, EventKind.ESCALATED)
        self._events.due_later(tenant, group)

    def _likeness(self, tenant: Tenant) -> Callable[[str, Group], float | None]:
        if self._desk.free:
            return lambda _template, _group: None

        def cosine(template: str, group: Group) -> float | None:
            record = tenant.templates.get(template)
            if record is None or not record.vector:
                return None
            others = [tenant.templates[other].vector for other in nsmallest(TEXTS_COMPARED, group.templates)]
            # Vectors of another length are another model's: they say nothing about these.
            alike = [other for other in others if len(other) == len(record.vector)]
            return max((linking.likeness(record.vector, other) for other in alike), default=None)

        return cosine

    def _bridge(self, tenant: Tenant, chosen: Group, also: Sequence[str]) -> None:
        """Note that an alert fits several incidents; enough of that merges them at the next tick."""
        for other in also:
            older, younger = clustering.by_age(chosen, tenant.groups[other])
            if not clustering.may_merge(older, younger):
                continue
            bridges = dict(younger.progress.bridges)
            bridges[older.head.id] = bridges.get(older.head.id, 0) + 1
            younger.progress = replace(younger.progress, bridges=bridges)
            self._desk.touch(tenant, younger)
            if clustering.bridged(older, younger):
                self._desk.arm(tenant, "merge", (younger.head.id, older.head.id), self._desk.now)

    # ---- out -----------------------------------------------------------------------------------------------

    def end(self, tenant: Tenant, key: AlertKey, ends_at: datetime, *, expired: bool = False) -> None:
        """End the running episode of an alert; the incident goes quiet with its last one."""
        running = tenant.firing.pop(key, None)
        if running is None:
            return
        group = tenant.groups[running[0]]
        episode = group.episodes[running[1]]
        ended = replace(episode, ends_at=max(ends_at, episode.starts_at), expired=expired)
        group.add(ended)
        self._desk.keep_episode(tenant, ended)
        if not group.firing:
            group.move(Signal.ALL_ENDED)
            group.progress = replace(group.progress, quiet_at=self._desk.now, reminders={})
            self.arm_close(tenant, group)
        self._events.due_later(tenant, group)

    def alter(self, tenant: Tenant, key: AlertKey, annotations: dict[str, str]) -> None:
        """Keep the newest annotations; they are no news to anybody."""
        running = tenant.firing.get(key)
        if running is not None:
            group = tenant.groups[running[0]]
            altered = replace(group.episodes[running[1]], annotations=annotations)
            group.add(altered)
            self._desk.keep_episode(tenant, altered)

    def arm_close(self, tenant: Tenant, group: Group) -> None:
        """Arm the end of a quiet incident."""
        if group.progress.quiet_at is not None:
            due = group.progress.quiet_at + timedelta(seconds=self._desk.settings.close_after_s)
            self._desk.arm(tenant, "close", (group.head.id,), due)

    # ---- being found ---------------------------------------------------------------------------------------

    def index(self, tenant: Tenant, group: Group) -> None:
        """Let an incident be found by all it holds, with its families as they are named now."""
        if group.head.origin == "heartbeat":
            return  # nothing joins an absence
        group.name_families(lambda template: self._desk.family_of(tenant, template))
        tenant.index.note(group.head.id, group.head.opened_at, group.held)
        self._desk.arm(tenant, "cool", (group.head.id,), self.cools_at(group.head))

    def cools_at(self, head: Incident) -> datetime:
        """Return until when an incident takes in alerts that are new to it, as far as is known."""
        return head.active_at + timedelta(seconds=self._desk.settings.window_s)

    def cool(self, tenant: Tenant, key: tuple[str, ...]) -> None:
        """Take an incident that no alert joined for the window out of the index."""
        group = tenant.groups.get(key[0])
        if group is None:
            return
        if self._desk.now < self.cools_at(group.head):
            self._desk.arm(tenant, "cool", key, self.cools_at(group.head))
        else:
            tenant.index.drop(key[0], group.head.opened_at)

    def reindex(self, tenant: Tenant) -> None:
        """Index the active incidents anew: their templates' families have changed."""
        for group in tenant.groups.values():
            if tenant.index.holds(group.head.id):
                tenant.index.drop(group.head.id, group.head.opened_at)
                self.index(tenant, group)
