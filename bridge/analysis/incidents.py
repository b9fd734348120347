"""Incidents: episodes believed to share one cause, the moves an incident may make, and what it says of itself.

Rules: an incident with a firing episode is never quiet; quiet for `close_after` is closed; a closed one reopens
within `reopen_within`. Everything that changes the state goes through `MOVES`. `Group` is the working form: it
keeps counts up to date so that an alert costs the same in an incident of ten as in one of ten thousand; the
`Incident` that is stored and shown is rendered from it.

Decision: an incident's id is a hash of its first episode and of when that was heard. The startsAt alone comes again:
an alert that was silenced for a day, expired here and was forgotten fires on with the startsAt it always had.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import blake2b

import msgspec
from msgspec.structs import replace

from bridge.analysis.linking import (
    FAMILY_MARK,
    Token,
    family_token,
    group_token,
    tokens_of,
)
from bridge.analysis.wording import entity_of, summary_of, title_of
from bridge.model import (
    SEVERITY_RANK,
    Episode,
    Event,
    EventEpisode,
    EventKind,
    Incident,
    IncidentState,
    IncidentView,
    Origin,
    RootSuspect,
    Score,
    Severity,
    Word,
    event_id,
)

EpisodeKey = tuple[str, str, datetime]  # source, fingerprint, starts_at; the tenant is the group's
MAX_EVENT_EPISODES = 100
MAX_SUSPECTS = 5
#: A pager is rung again for new criticals at most this often per incident; a rising severity always rings.
ESCALATE_EVERY_S = 900.0


class Signal(StrEnum):
    """What may happen to an incident's state."""

    FIRES = "fires"  # an episode joined or fires
    ALL_ENDED = "all_ended"
    QUIET_OVER = "quiet_over"  # close_after has passed
    MERGED = "merged"  # its episodes went elsewhere


_I, _S = IncidentState, Signal
#: Every legal move; anything else is a bug.
MOVES: dict[tuple[IncidentState, Signal], IncidentState] = {
    (_I.OPEN, _S.FIRES): _I.OPEN,
    (_I.OPEN, _S.ALL_ENDED): _I.QUIET,
    (_I.QUIET, _S.FIRES): _I.OPEN,
    (_I.QUIET, _S.QUIET_OVER): _I.CLOSED,
    (_I.CLOSED, _S.FIRES): _I.OPEN,  # reopened
    (_I.OPEN, _S.MERGED): _I.MERGED,
    (_I.QUIET, _S.MERGED): _I.MERGED,
}


class Progress(Word, frozen=True, kw_only=True):
    """What an incident must remember besides what it shows; stored beside it."""

    quiet_at: datetime | None = None
    forget_at: datetime | None = None  # of one that is over: until then it is kept in memory and reopens
    escalations: int = 0
    escalated_at: datetime | None = None
    paged_names: tuple[str, ...] = ()  # critical alert names and entities that have been told
    event_at: datetime | None = None  # of the newest event
    pending_update: bool = False
    matched: tuple[str, ...] = ()  # route matchers that an episode has satisfied
    told: dict[str, datetime] = msgspec.field(default_factory=dict)  # destination -> its first event is due
    reminders: dict[int, datetime] = msgspec.field(default_factory=dict)  # route -> next reminder is due
    bridges: dict[str, int] = msgspec.field(default_factory=dict)  # other incident -> alerts that fit both


class Group:
    """The working form of one incident: its episodes and the counts that decisions need."""

    __slots__ = (
        "common", "episodes", "firing", "head", "held", "progress", "templates",
    )  # fmt: skip

    def __init__(self, head: Incident, progress: Progress, episodes: Iterable[Episode] = ()) -> None:
        self.head = head
        self.progress = progress
        self.episodes: dict[EpisodeKey, Episode] = {}
        self.firing: dict[EpisodeKey, Episode] = {}
        #: What its episodes name (tokens, Alertmanager groups, families) -> how many do, and when last.
        self.held: dict[str, tuple[int, datetime]] = {}
        self.templates: dict[str, int] = {}
        self.common: dict[str, str] | None = None
        for episode in episodes:
            self.add(episode)

    def add(self, episode: Episode, tokens: tuple[Token, ...] | None = None) -> None:
        """Take in an episode or the newer form of one that is here already; `tokens` if they are known."""
        key = (episode.source, episode.fingerprint, episode.starts_at)
        known = key in self.episodes
        self.episodes[key] = episode
        if episode.ends_at is None:
            self.firing[key] = episode
        else:
            self.firing.pop(key, None)
        if not known:
            self._count(episode, tokens_of(episode.labels) if tokens is None else tokens)

    def _count(self, episode: Episode, tokens: tuple[Token, ...]) -> None:
        for token in tokens:
            self.hold(token.key, episode.seen_at)
        group = group_token(episode.source, episode.group_key)
        if group:
            self.hold(group, episode.seen_at)
        self.templates[episode.template] = self.templates.get(episode.template, 0) + 1
        if self.common is None:
            self.common = dict(episode.labels)
        else:
            labels = episode.labels
            gone = [name for name, value in self.common.items() if labels.get(name) != value]
            for name in gone:
                del self.common[name]

    def hold(self, key: str, at: datetime, number: int = 1) -> None:
        """Count `number` more episodes under a key that they can be found by."""
        known = self.held.get(key)
        self.held[key] = (number, at) if known is None else (known[0] + number, max(known[1], at))

    def name_families(self, family_of: Callable[[str], str]) -> None:
        """Count the episodes by family anew; families are not stored with them, because fits rename them."""
        for key in [key for key in self.held if key.startswith(FAMILY_MARK)]:
            del self.held[key]
        for episode in self.episodes.values():
            self.hold(family_token(family_of(episode.template)), episode.seen_at)

    def move(self, signal: Signal) -> IncidentState:
        """Make one legal move and return the state before it."""
        before = self.head.state
        self.head = replace(self.head, state=MOVES[before, signal])
        return before


def incident_id(episode: Episode, parent: str = "", generation: int = 0) -> str:
    """Return the id of the incident that this episode opens; the same in every replay.

    `parent` and `generation` tell those apart that are born of splits.
    """
    times = (episode.starts_at.isoformat(), episode.seen_at.isoformat())
    name = "\n".join((episode.tenant, episode.source, episode.fingerprint, *times, parent, str(generation)))
    return "inc-" + blake2b(name.encode(), digest_size=8).hexdigest()


def found(episode: Episode, origin: Origin, at: datetime, *, degraded: bool) -> Group:
    """Return a new incident's group, without its first episode (the caller adds it, named after the group)."""
    head = Incident(
        id=incident_id(episode), tenant=episode.tenant, origin=origin, state=IncidentState.OPEN, opened_at=at,
        closed_at=None, changed_at=at, active_at=at, title="", summary="", severity=episode.severity,
        anomaly=Score(value=None, reason="not scored yet"), seq=0, alerts_total=0, alerts_firing=0,
        common_labels={}, degraded=degraded,
    )  # fmt: skip
    return Group(head, Progress())


def importance(episode: Episode) -> tuple[int, datetime, str, str]:
    """Return the sort key "most severe, then earliest", ties by identity."""
    return (-SEVERITY_RANK[episode.severity], episode.starts_at, episode.fingerprint, episode.source)


def counted(group: Group) -> Incident:
    """Return the incident with its counts as they stand and the words of its newest event. Cheap."""
    return replace(
        group.head,
        alerts_total=len(group.episodes),
        alerts_firing=len(group.firing),
        common_labels=dict(sorted((group.common or {}).items())),
    )


def rendered(group: Group) -> Incident:
    """Return the incident in full: counts, title, summary, suspects. Cost grows with its episodes."""
    if not group.episodes:
        return counted(group)  # merged: its last words stay readable
    ranked = sorted(group.episodes.values(), key=importance)
    common = group.common or {}
    return replace(
        counted(group),
        title=title_of(ranked, common),
        summary=summary_of(ranked, common, firing=len(group.firing)),
        root=suspects(ranked),
    )


def suspects(ranked: list[Episode]) -> tuple[RootSuspect, ...]:
    """Return what probably came first: most severe, then earliest.

    This ranking is the baseline that a learned one must beat. Its confidences are the ranks' reciprocal weights,
    normalised: an order, not a calibrated probability.
    """
    listed = ranked[:MAX_SUSPECTS]
    total = sum(1 / rank for rank in range(1, len(listed) + 1))
    return tuple(
        RootSuspect(
            fingerprint=episode.fingerprint, starts_at=episode.starts_at,
            confidence=round(1 / rank / total, 4),
            why=f"{episode.severity}, started {episode.starts_at:%H:%M:%S} UTC (rank {rank} by severity, then time)",
        )
        for rank, episode in enumerate(listed, 1)
    )  # fmt: skip


def event_of(group: Group, kind: EventKind, at: datetime, *, degraded: bool, external_url: str) -> Event:
    """Count up the incident's sequence and return the event, with at most 100 episodes in it."""
    group.head = replace(group.head, seq=group.head.seq + 1, changed_at=at)
    group.head = incident = rendered(group)
    group.progress = replace(group.progress, event_at=at)
    ranked = sorted(group.episodes.values(), key=importance)[:MAX_EVENT_EPISODES]
    view = IncidentView(
        id=incident.id, state=incident.state, origin=incident.origin, title=incident.title,
        summary=incident.summary, severity=incident.severity, anomaly=incident.anomaly.value,
        anomaly_reason=incident.anomaly.reason, opened_at=incident.opened_at, closed_at=incident.closed_at,
        alerts_total=incident.alerts_total, alerts_firing=incident.alerts_firing,
        common_labels=incident.common_labels, episodes=tuple(map(_event_episode, ranked)),
        truncated=len(group.episodes) - len(ranked), root=incident.root, merged_into=incident.merged_into,
        split_from=incident.split_from, escalations=group.progress.escalations,
        url=f"{external_url.rstrip('/')}/api/v1/incidents/{incident.id}" if external_url else "",
        expired=incident.state is IncidentState.CLOSED and _gave_up(group),
    )  # fmt: skip
    return Event(
        event_id=event_id(incident.tenant, incident.id, incident.seq, kind), kind=kind, seq=incident.seq, at=at,
        tenant=incident.tenant, degraded=degraded or incident.degraded, incident=view,
    )  # fmt: skip


def _gave_up(group: Group) -> bool:
    """Say whether the last that is known of some alert is that its resolve never came."""
    newest: dict[tuple[str, str], Episode] = {}
    for episode in sorted(group.episodes.values(), key=lambda episode: (episode.seen_at, episode.starts_at)):
        newest[episode.source, episode.fingerprint] = episode
    return any(episode.expired for episode in newest.values())


def escalates(group: Group, episode: Episode, now: datetime) -> bool:
    """Say whether a joined episode rings the pager anew, and remember it.

    The severity rises: always. A critical alert name or entity that was not told: at most every
    `ESCALATE_EVERY_S`, because in a storm every host is a new entity and nobody is to be woken for each.
    """
    rises = SEVERITY_RANK[episode.severity] > SEVERITY_RANK[group.head.severity]
    if rises:
        group.head = replace(group.head, severity=episode.severity)
    if episode.severity != "critical":
        return rises
    told = group.progress.paged_names
    fresh = [name for name in (episode.name, entity_of(episode.labels)) if name and name not in told]
    if not fresh and not rises:
        return False
    since = group.progress.escalated_at
    if not rises and since is not None and now - since < timedelta(seconds=ESCALATE_EVERY_S):
        return False
    group.progress = replace(group.progress, paged_names=(*told, *fresh)[-64:], escalated_at=now)
    return True


def note_escalation(group: Group, now: datetime) -> None:
    """Count an escalation: PagerDuty's next page gets the next dedup key."""
    group.progress = replace(group.progress, escalations=group.progress.escalations + 1, escalated_at=now)


def split(group: Group, leaving: list[EpisodeKey], at: datetime) -> tuple[Group, Group]:
    """Return (what stays, what leaves) as two groups; the new one knows where it came from.

    Both carry the next generation, so that an alert that is split off, merged back and split off again opens
    another incident each time.

    Raises:
        ValueError: `leaving` names no episode, all of them, or one that is not here.
    """
    unknown = [key for key in leaving if key not in group.episodes]
    if not leaving or unknown or len(set(leaving)) == len(group.episodes):
        raise ValueError("a split needs some, but not all, of the incident's episodes")
    gone = {key: group.episodes[key] for key in leaving}
    first = min(gone.values(), key=importance)
    generation = group.head.generation + 1
    new_id = incident_id(first, group.head.id, generation)
    head = replace(
        group.head, id=new_id, generation=generation, split_from=group.head.id, seq=0, opened_at=at,
        changed_at=at, active_at=at, severity=worst(gone.values()),
        state=IncidentState.OPEN if any(e.firing for e in gone.values()) else IncidentState.QUIET,
    )  # fmt: skip
    left = Group(
        replace(head, root=()), Progress(quiet_at=None if head.state is IncidentState.OPEN else at),
        [replace(e, incident=new_id, why=f"split from {group.head.id}") for e in gone.values()],
    )  # fmt: skip
    staying = [episode for key, episode in group.episodes.items() if key not in gone]
    stays = Group(
        replace(group.head, severity=worst(staying), generation=generation), group.progress, staying
    )
    if not stays.firing and stays.head.state is IncidentState.OPEN:
        stays.move(Signal.ALL_ENDED)
        stays.progress = replace(stays.progress, quiet_at=at)
    return stays, left


def merge(older: Group, younger: Group, at: datetime, why: str) -> None:
    """Move the younger incident's episodes into the older one. The younger stays, empty, and says where to."""
    for episode in sorted(younger.episodes.values(), key=importance):
        older.add(replace(episode, incident=older.head.id, why=why))
    worse = max(older.head.severity, younger.head.severity, key=SEVERITY_RANK.__getitem__)
    older.head = replace(
        older.head, severity=worse, active_at=max(older.head.active_at, younger.head.active_at)
    )
    if older.firing and older.head.state is not IncidentState.OPEN:
        older.move(Signal.FIRES)
    quiet = [at for at in (older.progress.quiet_at, younger.progress.quiet_at) if at is not None]
    older.progress = replace(older.progress, quiet_at=None if older.firing else max(quiet, default=at))
    names = dict.fromkeys((*older.progress.paged_names, *younger.progress.paged_names))
    older.progress = replace(older.progress, paged_names=tuple(names)[-64:])
    younger.head = rendered(younger)  # its last title stays readable
    younger.move(Signal.MERGED)
    younger.head = replace(younger.head, merged_into=older.head.id, closed_at=at)
    younger.episodes, younger.firing, younger.held = {}, {}, {}
    younger.templates, younger.common = {}, None
    younger.progress = replace(younger.progress, quiet_at=None, reminders={}, bridges={})


def worst(episodes: Iterable[Episode]) -> Severity:
    """Return the highest severity among the episodes."""
    return max((episode.severity for episode in episodes), key=SEVERITY_RANK.__getitem__)


def _event_episode(episode: Episode) -> EventEpisode:
    return EventEpisode(
        fingerprint=episode.fingerprint, starts_at=episode.starts_at, ends_at=episode.ends_at,
        source=episode.source, labels=episode.labels, annotations=episode.annotations,
        generator_url=episode.generator_url, severity=episode.severity, demoted=episode.demoted,
        why=episode.why,
    )  # fmt: skip
