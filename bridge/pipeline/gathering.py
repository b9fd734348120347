"""Gathering: how an episode comes into its incident, and how it ends there.

Rules: time (`bursts`) or a learned linker (`links`) has the first word, where one of them is in force. Where they say
nothing, an alert that fires again soon after it ended goes back to its own incident, and so does one whose end
nobody told; one that fires at another severity goes where it fires already; one of the same kind about the same
thing goes where that was just over; otherwise clustering chooses, or the alert founds its own. Every way in and
out moves the incident's state through the MOVES table and has episode and incident stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from heapq import nsmallest

from msgspec.structs import replace

from bridge.analysis import calling, clustering, incidents, linking
from bridge.analysis.clustering import Newcomer
from bridge.analysis.families import own_family
from bridge.analysis.incidents import AlertKey, EpisodeKey, Group, Signal
from bridge.analysis.settings import Way
from bridge.model import FOUNDED, Episode, EventKind, Incident, IncidentState, Origin, Suppression
from bridge.pipeline import bursts
from bridge.pipeline.desk import Desk
from bridge.pipeline.events import Events
from bridge.pipeline.links import Links
from bridge.pipeline.state import Tenant, tick_at, time_of

#: A quiet incident is waited for this many times its longest quiet so far.
PATIENCE = 2.0
TEXTS_COMPARED = 4  # templates of an incident that a newcomer's text is compared with, in order of their ids


class Gathering:
    """Puts episodes into incidents and keeps the index that incidents are found by."""

    def __init__(self, desk: Desk, events: Events, links: Links) -> None:
        self._desk = desk
        self._events = events
        self._links = links

    # ---- in ------------------------------------------------------------------------------------------------

    def join(
        self, tenant: Tenant, episode: Episode, newcomer: Newcomer, *, heard_at: datetime | None
    ) -> tuple[EpisodeKey, ...]:
        """Put an episode where it belongs: its own incident of before, a likely one, or a new one.

        Return which others should come along to the one that it founded. `heard_at` is when its alert was last named
        before this, None for never.
        """
        way: Way = self._links.way(tenant) if newcomer.origin == "alerts" else "entities"
        if way == "linker":
            self._by_links(tenant, episode, newcomer, heard_at)
            return ()
        if way == "bursts":
            timed = bursts.choose(self._desk, tenant, episode)
            if timed.began_s is not None:
                self.found(tenant, replace(episode, why=timed.why), newcomer, began_s=timed.began_s)
                return timed.along
            if timed.group is not None:
                why = linking.explain_shared(newcomer.tokens, timed.group.held) + timed.why
                self._enter(tenant, timed.group, replace(episode, why=why), newcomer)
                return ()
        if not self._returned(tenant, episode, newcomer, heard_at):
            self._by_entities(tenant, episode, newcomer)
        return ()

    def _by_links(
        self, tenant: Tenant, episode: Episode, newcomer: Newcomer, heard_at: datetime | None
    ) -> None:
        """Put an episode where its links lead; only then where it was before.

        What fires for the second time in half an hour may be hit by another fault, together with what that has hit.
        """
        chosen = self._links.choose(tenant, episode)
        if chosen.group is not None:
            self._enter(tenant, chosen.group, replace(episode, why=chosen.why), newcomer, sure=chosen.sure)
        elif not self._returned(tenant, episode, newcomer, heard_at, alone=True):
            self.found(tenant, replace(episode, why=chosen.why), newcomer)

    def _returned(
        self,
        tenant: Tenant,
        episode: Episode,
        newcomer: Newcomer,
        heard_at: datetime | None,
        *,
        alone: bool = False,
    ) -> bool:
        """Put an episode of what was here before where that is; return whether it was.

        `alone`: what is alike counts only where there was nothing else.
        """
        back = self._remembered(tenant, episode, newcomer.origin, heard_at)
        if back is not None:
            doubt = ", perhaps a late copy of the firing that ended" if episode.disputed else ""
            self._enter(tenant, back, replace(episode, why=f"fires again{doubt}"), newcomer)
            return True
        rung = tenant.ladder_of(episode.labels) if newcomer.origin == "alerts" else None
        if rung is not None:
            why = "the same alert fires already, at another severity or from another source"
            self._enter(tenant, tenant.groups[rung], replace(episode, why=why), newcomer)
            return True
        related = self._related(tenant, newcomer)
        if related is not None and not (alone and len(related.kin) > 1):
            why = "the same kind of alert about the same thing as shortly before"
            self._enter(tenant, related, replace(episode, why=why), newcomer)
            return True
        return False

    def _by_entities(self, tenant: Tenant, episode: Episode, newcomer: Newcomer) -> None:
        """Put an episode of something new into a likely incident, or into one of its own."""
        settings = self._desk.settings
        choice = clustering.choose(
            newcomer, tenant.index, tenant.groups, window_s=settings.window_s,
            sensitivity=settings.sensitivity, likeness=self._likeness(tenant), rarity=tenant.rarity.of,
        )  # fmt: skip
        if choice.incident is None or choice.link is None:
            self.found(tenant, replace(episode, why=FOUNDED), newcomer)
            return
        group = tenant.groups[choice.incident]
        self._bridge(tenant, group, choice.also)
        self._enter(tenant, group, replace(episode, why=linking.explain(choice.link)), newcomer)

    def resume(self, tenant: Tenant, episode: Episode, newcomer: Newcomer) -> None:
        """Put an episode where its alert was a short while ago, or open an incident: nowhere else."""
        back = self._remembered(tenant, episode, newcomer.origin, None)
        if back is None:
            self.found(tenant, episode, newcomer)
        else:
            self._enter(tenant, back, replace(episode, why="it is unusual again"), newcomer)

    def found(
        self, tenant: Tenant, episode: Episode, newcomer: Newcomer, *, began_s: float | None = None
    ) -> None:
        """Open an incident of which `episode` is the first."""
        group = incidents.found(episode, newcomer.origin, self._desk.now, degraded=self._desk.free)
        group.progress = replace(group.progress, began_s=began_s)
        tenant.groups[group.head.id] = group
        if newcomer.origin == "alerts":
            tenant.rarity.count_incident()
        self._events.due(tenant, group, EventKind.OPENED)
        self._enter(tenant, group, episode, newcomer)

    def _remembered(
        self, tenant: Tenant, episode: Episode, origin: Origin, heard_at: datetime | None
    ) -> Group | None:
        """Return the incident that had this alert, if it ended there so recently that it is the same trouble."""
        key = (episode.source, episode.fingerprint)
        group = tenant.home_of(key)
        if group is None or group.head.state is IncidentState.MERGED or group.head.origin != origin:
            return None
        before = group.episodes[group.alerts[key].newest]
        if before.expired:
            return group  # nobody said that it had ended
        within = timedelta(seconds=self._desk.settings.reopen_within_s)
        return group if self._desk.now - (heard_at or before.ends_at or self._desk.now) <= within else None

    def _related(self, tenant: Tenant, newcomer: Newcomer) -> Group | None:
        """Return the incident that went quiet or closed lately and was about the same: a pod that was replaced."""
        since = self._desk.now - timedelta(seconds=self._desk.settings.reopen_within_s)
        lately = [
            group
            for group in tenant.related(incidents.kin_of(newcomer.template, newcomer.tokens))
            if group.head.state in {IncidentState.QUIET, IncidentState.CLOSED}
            and group.head.origin == newcomer.origin
            and group.progress.quiet_at is not None
            and group.progress.quiet_at >= since
        ]
        return max(lately, key=lambda group: (group.head.active_at, group.head.id), default=None)

    def _enter(
        self, tenant: Tenant, group: Group, episode: Episode, newcomer: Newcomer, *, sure: bool = False
    ) -> None:
        """Put an episode into its incident, whatever the incident's state was.

        `sure`: it is part of what people were called for, if they were, and calls nobody again.
        """
        desk = self._desk
        episode = replace(episode, incident=group.head.id)
        if tenant.had(episode):
            # It fires on with the startsAt of an episode that is over, here or in an incident it does not return to.
            episode = replace(episode, starts_at=desk.now)
        before = group.move(Signal.FIRES)
        fresh = group.add(episode, newcomer.tokens)
        degraded = group.head.degraded or desk.free
        group.head = replace(group.head, active_at=desk.now, closed_at=None, degraded=degraded)
        if before is not IncidentState.OPEN:
            self._wake(group)
        if newcomer.origin == "alerts":
            self._count(tenant, group, fresh, newcomer)
        tenant.point_to(group, episode)
        kin = incidents.kin_of(episode.template, newcomer.tokens)
        if kin:
            tenant.relate(kin, group)
        desk.keep_episode(tenant, episode)
        if tenant.index.holds(group.head.id):
            group.hold(newcomer.family, newcomer.at)
            tenant.index.note(group.head.id, group.head.opened_at, clustering.keys_of(newcomer))
        else:
            self.index(tenant, group)
        desk.state.router.note(group, episode)
        if sure:
            calling.note_part(group, episode, desk.now)
        self._tell(tenant, group, episode, before)
        self._links.entered(tenant, group, episode)

    def _tell(self, tenant: Tenant, group: Group, episode: Episode, before: IncidentState) -> None:
        """Let an incident that was in state `before` say what an episode that entered means for it."""
        rises = incidents.raised(group, episode)
        if before is IncidentState.CLOSED:
            group.head = replace(group.head, severity=incidents.worst(group.firing.values()))
            self._events.due(tenant, group, EventKind.REOPENED)
        elif rises:
            self._events.due(tenant, group, EventKind.ESCALATED)
        else:
            self._events.call(tenant, group, episode)
        self._events.due_later(tenant, group, episode)

    def _wake(self, group: Group) -> None:
        """Let a quiet or closed incident go on, and be more patient with its next quiet."""
        progress, now = group.progress, self._desk.now
        quiet_s = 0.0 if progress.quiet_at is None else (now - progress.quiet_at).total_seconds()
        patience_s = max(progress.patience_s, quiet_s)
        group.progress = replace(progress, quiet_at=None, forget_at=None, patience_s=patience_s)

    def _count(self, tenant: Tenant, group: Group, fresh: Sequence[str], newcomer: Newcomer) -> None:
        """Count what this incident had not named before, its kind of alert included."""
        is_known = group.templates[newcomer.template] > 1 or self._has_family(tenant, group, newcomer)
        tenant.rarity.count(fresh if is_known else [*fresh, newcomer.family])
        self._desk.out.rarities[tenant.name] = tenant.rarity

    def _has_family(self, tenant: Tenant, group: Group, newcomer: Newcomer) -> bool:
        """Say whether another template of the newcomer's family is in the incident."""
        family = self._desk.family_of(tenant, newcomer.template)
        if family == own_family(newcomer.template):
            return False
        others = (other for other in group.templates if other != newcomer.template)
        return any(self._desk.family_of(tenant, other) == family for other in others)

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

    def end(
        self, tenant: Tenant, key: AlertKey, ends_at: datetime, *, expired: bool = False, why: str = ""
    ) -> None:
        """End the running episode of an alert; the incident goes quiet with its last one. `why` it ends is added."""
        running = tenant.end(key)
        if running is None:
            self._amend(tenant, key, ends_at)
            return
        group = tenant.groups[running[0]]
        episode = group.episodes[running[1]]
        ending = "given up: no resolve came" if expired else why
        ended = replace(
            episode, ends_at=max(ends_at, episode.starts_at), expired=expired, suppressed="",
            why=f"{episode.why}; {ending}" if ending else episode.why,
        )  # fmt: skip
        group.add(ended)
        calling.note_end(group, ended, self._desk.now)
        self._desk.keep_episode(tenant, ended)
        if not group.firing:
            group.move(Signal.ALL_ENDED)
            group.progress = replace(group.progress, quiet_at=self._desk.now, reminders={})
        if group.head.state is IncidentState.CLOSED:
            self.settle_over(tenant, group)
            self._desk.touch(tenant, group)
            return  # a person closed it: that what fired on has ended is no news
        self.arm_close(tenant, group)
        self._events.due_later(tenant, group, ended)

    def settle_over(self, tenant: Tenant, group: Group) -> None:
        """Let a closed incident be forgotten in time, once nothing of it fires any more."""
        if group.firing:
            group.progress = replace(group.progress, quiet_at=None, forget_at=None)
        elif group.progress.forget_at is None:
            now = self._desk.now
            group.head = replace(group.head, changed_at=now)  # what is loaded is chosen by this
            group.progress = replace(group.progress, quiet_at=group.progress.quiet_at or now)
            self._desk.forget_later(tenant, group, now)

    def _amend(self, tenant: Tenant, key: AlertKey, ends_at: datetime) -> None:
        """Take in the end of an episode that was given up: whoever kept a page open for it hears of that."""
        group = tenant.home_of(key)
        episode = None if group is None else group.episodes[group.alerts[key].newest]
        if group is None or episode is None or not episode.expired:
            return
        told = f"{episode.why}, until {self._desk.now:%H:%M} UTC"
        amended = replace(episode, ends_at=max(ends_at, episode.starts_at), expired=False, why=told)
        group.add(amended)
        self._desk.keep_episode(tenant, amended)
        if group.head.state is IncidentState.CLOSED and not incidents.gave_up(group):
            self._events.due(tenant, group, EventKind.CLOSED)
        elif group.head.state is not IncidentState.CLOSED:
            self._events.due_later(tenant, group, amended)
        self._desk.touch(tenant, group)

    def alter(self, tenant: Tenant, key: AlertKey, annotations: dict[str, str]) -> None:
        """Keep the newest annotations; they are no news to anybody."""
        running = tenant.firing.get(key)
        if running is not None:
            group = tenant.groups[running[0]]
            altered = replace(group.episodes[running[1]], annotations=annotations)
            group.add(altered)
            self._desk.keep_episode(tenant, altered)

    def mark(self, tenant: Tenant, key: AlertKey, suppressed: Suppression) -> bool:
        """Mark the running episode of an alert as held back by Alertmanager, or not; return whether that is new."""
        running = tenant.firing.get(key)
        if running is None:
            return False
        group = tenant.groups[running[0]]
        episode = group.episodes[running[1]]
        if episode.suppressed == suppressed:
            return False
        marked = replace(episode, suppressed=suppressed)
        group.add(marked)
        self._desk.keep_episode(tenant, marked)
        self._events.due_later(tenant, group, marked)
        if not suppressed:
            self._events.call(tenant, group, marked)  # what was owed while it was held back
        return True

    def remark(self, tenant: Tenant, key: AlertKey, why: str) -> None:
        """Add to why the running episode of an alert is where it is."""
        running = tenant.firing.get(key)
        if running is not None:
            group = tenant.groups[running[0]]
            episode = group.episodes[running[1]]
            remarked = replace(episode, why=f"{episode.why}; {why}")
            group.add(remarked)
            self._desk.keep_episode(tenant, remarked)

    def arm_close(self, tenant: Tenant, group: Group) -> None:
        """Arm the end of a quiet incident."""
        if group.progress.quiet_at is not None:
            self._desk.arm(tenant, "close", (group.head.id,), self.closes_at(group, group.progress.quiet_at))

    def closes_at(self, group: Group, quiet_at: datetime) -> datetime:
        """Return until when a quiet incident is waited for: longer after it came back from a long quiet.

        What flaps every six minutes would close and reopen, and call people, all night.
        """
        settings = self._desk.settings
        patience_s = min(PATIENCE * group.progress.patience_s, settings.reopen_within_s)
        return quiet_at + timedelta(seconds=max(settings.close_after_s, patience_s))

    # ---- being found ---------------------------------------------------------------------------------------

    def index(self, tenant: Tenant, group: Group) -> None:
        """Let an incident be found by all it holds, with its families as they are named now."""
        if group.head.origin in {"heartbeat", "anomaly"}:
            return  # nothing joins an absence, or what a model alone has seen
        group.name_families(lambda template: self._desk.family_of(tenant, template))
        tenant.index.note(group.head.id, group.head.opened_at, group.held)
        self._desk.arm(tenant, "cool", (group.head.id,), self.cools_at(group.head))

    def show(self, tenant: Tenant, group: Group) -> None:
        """Let an incident be found by what it holds now, if it still takes alerts in; else by nothing."""
        tenant.index.drop(group.head.id, group.head.opened_at)
        cools = time_of(tick_at(self.cools_at(group.head)))
        if group.head.state in clustering.LIVELY and self._desk.now < cools:
            self.index(tenant, group)

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
        tenant.window = None
        for group in tenant.groups.values():
            if tenant.index.holds(group.head.id):
                tenant.index.drop(group.head.id, group.head.opened_at)
                self.index(tenant, group)
