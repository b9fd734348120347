"""Incidents: episodes believed to share one cause, the moves an incident may make, and what it says of itself.

Rules: an incident with a firing episode is never quiet; quiet for `close_after` is closed; a closed one reopens
within `reopen_within`. A person may close one in which something fires: it stays closed while that fires on, and
reopens as others do, when an alert of it fires anew. Everything that changes the state goes through `MOVES`. `Group` is
the working form: it keeps counts up to date so that an alert costs the same in an incident of ten as in one of ten
thousand; the `Incident` that is stored and shown is rendered from it. An alert that fires twenty times is one alert
with twenty episodes: what is shown and sent speaks of its newest.

Decision: an incident's id is a hash of its first episode and of when that was heard. The startsAt alone comes again:
an alert that was silenced for a day, expired here and was forgotten fires on with the startsAt it always had.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from enum import StrEnum
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from msgspec.structs import replace

from bridge.analysis.entities import SPECIFIC_WEIGHT, Token, tokens_of
from bridge.analysis.linking import FAMILY_MARK, family_token, group_token
from bridge.analysis.ranking import MAX_SUSPECTS, importance
from bridge.analysis.wording import Facts, summary_of, title_of
from bridge.model import (
    SEVERITY_RANK,
    CausalGraph,
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

if TYPE_CHECKING:
    from bridge.analysis.roots import Insight

AlertKey = tuple[str, str]  # source, fingerprint; the tenant is the group's
EpisodeKey = tuple[str, str, datetime]  # source, fingerprint, starts_at
MAX_EVENT_EPISODES = 100


class Signal(StrEnum):
    """What may happen to an incident's state."""

    FIRES = "fires"  # an episode joined or fires
    ALL_ENDED = "all_ended"
    QUIET_OVER = "quiet_over"  # close_after has passed
    MERGED = "merged"  # its episodes went elsewhere
    CLOSED_BY_HAND = "closed_by_hand"
    TAKEN_BACK = "taken_back"  # a person takes a merge back: episodes return


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
    (_I.CLOSED, _S.MERGED): _I.MERGED,  # a person says so later
    (_I.OPEN, _S.CLOSED_BY_HAND): _I.CLOSED,
    (_I.QUIET, _S.CLOSED_BY_HAND): _I.CLOSED,
    (_I.CLOSED, _S.ALL_ENDED): _I.CLOSED,  # what a person closed while it fired
    (_I.MERGED, _S.TAKEN_BACK): _I.QUIET,
}


class Progress(Word, frozen=True, kw_only=True):
    """What an incident must remember besides what it shows; stored beside it."""

    quiet_at: datetime | None = None
    began_s: float | None = None  # when its first alerts began, epoch s, if grouping by time needs to know
    forget_at: datetime | None = None  # of one that is over: until then it is kept in memory and reopens
    patience_s: float = 0.0  # the longest quiet after which it fired again
    escalations: int = 0
    rung_at: datetime | None = None  # when people were last called
    ring_at: datetime | None = None  # criticals that were not told are waiting until then
    #: Critical alert names and entities that people were told of -> when, or when the last of them ended.
    criticals_told: dict[str, datetime] = msgspec.field(default_factory=dict)
    event_at: datetime | None = None  # of the newest event
    update_at: datetime | None = None  # when what has changed since is told, at the latest
    matched: tuple[str, ...] = ()  # route matchers that an episode has satisfied
    told: dict[str, datetime] = msgspec.field(default_factory=dict)  # destination -> its first event is due
    reminders: dict[int, datetime] = msgspec.field(default_factory=dict)  # route -> next reminder is due
    surprise: float = 0.0  # the most surprising it has been: `analysis.anomaly`
    surprise_why: str = ""
    counted: bool = False  # it has entered the tenant's experience
    bridges: dict[str, int] = msgspec.field(default_factory=dict)  # other incident -> alerts that fit both
    root: EpisodeKey | None = None  # what a person named as having come first
    root_by: str = ""
    by_hand: bool = False  # a person put together what is in it: nothing but a person regroups it


#: What kind of alert it is, and the specific things it is about.
Kin = tuple[str, ...]


class Seen(NamedTuple):
    """The episodes of one alert in an incident."""

    first: EpisodeKey
    newest: EpisodeKey
    times: int


class Group:
    """The working form of one incident: its episodes and the counts that decisions need."""

    __slots__ = (
        "alerts", "common", "episodes", "firing", "head", "held", "kin", "progress", "templates",
    )  # fmt: skip

    def __init__(self, head: Incident, progress: Progress, episodes: Iterable[Episode] = ()) -> None:
        self.head = head
        self.progress = progress
        self.episodes: dict[EpisodeKey, Episode] = {}
        self.alerts: dict[AlertKey, Seen] = {}
        self.firing: dict[EpisodeKey, Episode] = {}
        #: What its episodes name (tokens, Alertmanager groups, families) -> how many do, and when last.
        self.held: dict[str, tuple[int, datetime]] = {}
        self.templates: dict[str, int] = {}
        self.kin: dict[Kin, None] = {}
        self.common: dict[str, str] | None = None
        for episode in episodes:
            self.add(episode)

    def add(self, episode: Episode, tokens: tuple[Token, ...] | None = None) -> list[str]:
        """Take in an episode or the newer form of one that is here already; `tokens` if they are known.

        Returns:
            What no episode of this incident has named before.
        """
        key = (episode.source, episode.fingerprint, episode.starts_at)
        known = key in self.episodes
        self.episodes[key] = episode
        if episode.ends_at is None:
            self.firing[key] = episode
        else:
            self.firing.pop(key, None)
        if known:
            return []
        seen = self.alerts.get(key[:2])
        if seen is None:
            self.alerts[key[:2]] = Seen(key, key, 1)
        else:
            self.alerts[key[:2]] = Seen(min(seen.first, key), max(seen.newest, key), seen.times + 1)
        tokens = tokens_of(episode.labels) if tokens is None else tokens
        kin = kin_of(episode.template, tokens)
        if kin:
            self.kin[kin] = None
        return self._count(episode, tokens)

    def _count(self, episode: Episode, tokens: tuple[Token, ...]) -> list[str]:
        keys = [token.key for token in tokens]
        group = group_token(episode.source, episode.group_key)
        if group:
            keys.append(group)
        fresh = [key for key in keys if key not in self.held]
        for key in keys:
            self.hold(key, episode.seen_at)
        self.templates[episode.template] = self.templates.get(episode.template, 0) + 1
        if self.common is None:
            self.common = dict(episode.labels)
        else:
            labels = episode.labels
            gone = [name for name, value in self.common.items() if labels.get(name) != value]
            for name in gone:
                del self.common[name]
        return fresh

    def newest(self) -> list[Episode]:
        """Return the newest episode of each alert."""
        return [self.episodes[seen.newest] for seen in self.alerts.values()]

    def hold(self, key: str, at: datetime) -> None:
        """Count one more episode under a key that it can be found by."""
        known = self.held.get(key)
        self.held[key] = (1, at) if known is None else (known[0] + 1, max(known[1], at))

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


def kin_of(template: str, tokens: tuple[Token, ...]) -> Kin:
    """Return what is alike in two alerts of one kind about one thing; empty if nothing in particular is named."""
    named = [token.key for token in tokens if token.weight >= SPECIFIC_WEIGHT]
    return (template, *named) if named else ()


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


def urgency(episode: Episode) -> tuple[bool, int, datetime, str, str]:
    """Return the sort key of what is told first: what fires now, then `importance`."""
    return (not episode.firing, *importance(episode))


def counted(group: Group) -> Incident:
    """Return the incident with its counts as they stand and the words of its newest event. Cheap."""
    return replace(
        group.head,
        alerts_total=len(group.alerts),
        alerts_firing=len(group.firing),
        common_labels=dict(sorted((group.common or {}).items())),
    )


def rendered(group: Group, insight: Insight | None = None) -> Incident:
    """Return the incident in full: counts, title, summary, suspects, causal graph. Cost grows with its alerts.

    `insight` is what is known beside them; None: nothing.
    """
    if not group.episodes:
        return counted(group)  # merged: its last words stay readable
    # The front reads incidents without numpy, and renders none.
    from bridge.analysis.causal_graph import graph_of, looked_at  # noqa: PLC0415
    from bridge.analysis.roots import NO_RANKER, suspects  # noqa: PLC0415

    facts = facts_of(group)
    first = sorted((group.episodes[seen.first] for seen in group.alerts.values()), key=importance)
    scene = None if insight is None else insight.scene(looked_at(first))
    ranker = NO_RANKER if insight is None else insight.ranker
    return replace(
        counted(group), title=title_of(facts), summary=summary_of(facts),
        root=_named_first(group, suspects(first, scene, ranker)),
        graph=CausalGraph() if scene is None else graph_of(scene, root=_first_of_root(group)),
    )  # fmt: skip


def facts_of(group: Group) -> Facts:
    """Return what the words of an incident are made from."""
    ranked = sorted(group.newest(), key=urgency)
    number = len(group.episodes)
    return Facts(
        ranked=ranked,
        times={key: seen.times for key, seen in group.alerts.items() if seen.times > 1},
        first_at=min(seen.first[2] for seen in group.alerts.values()),
        common=group.common or {},
        shared=tuple(t for t in tokens_of(ranked[0].labels) if group.held.get(t.key, (0,))[0] == number),
        firing=len(group.firing),
    )


def _named_first(group: Group, ranked: tuple[RootSuspect, ...]) -> tuple[RootSuspect, ...]:
    """Return the suspects led by the one that a person named, if it is in the incident."""
    named = None if group.progress.root is None else group.episodes.get(group.progress.root)
    if named is None:
        return ranked
    first = RootSuspect(
        fingerprint=named.fingerprint, starts_at=named.starts_at, confidence=1.0,
        why=f"named by {group.progress.root_by}",
    )  # fmt: skip
    same = (named.fingerprint, named.starts_at)
    others = [each for each in ranked if (each.fingerprint, each.starts_at) != same]
    return (first, *others[: MAX_SUSPECTS - 1])


def _first_of_root(group: Group) -> EpisodeKey | None:
    """Return the first episode of the alert that a person named, None if none was or it is not here any more."""
    named = group.progress.root
    seen = None if named is None else group.alerts.get(named[:2])
    return None if seen is None else seen.first


class Said(NamedTuple):
    """What a person said that an event is about."""

    text: str
    author: str


def event_of(
    group: Group,
    kind: EventKind,
    at: datetime,
    *,
    degraded: bool,
    external_url: str,
    said: Said | None = None,
    insight: Insight | None = None,
) -> Event:
    """Count up the incident's sequence and return the event, with at most 100 episodes in it."""
    group.head = replace(group.head, seq=group.head.seq + 1, changed_at=at)
    group.head = incident = rendered(group, insight)
    group.progress = replace(group.progress, event_at=at)
    ranked = sorted(group.newest(), key=urgency)[:MAX_EVENT_EPISODES]
    view = IncidentView(
        id=incident.id, state=incident.state, origin=incident.origin, title=incident.title,
        summary=incident.summary, severity=incident.severity, anomaly=incident.anomaly.value,
        anomaly_reason=incident.anomaly.reason, opened_at=incident.opened_at, closed_at=incident.closed_at,
        alerts_total=incident.alerts_total, alerts_firing=incident.alerts_firing,
        common_labels=incident.common_labels,
        episodes=tuple(_event_episode(each, group.alerts[each.source, each.fingerprint].times) for each in ranked),
        truncated=len(group.alerts) - len(ranked), root=incident.root, merged_into=incident.merged_into,
        split_from=incident.split_from, escalations=group.progress.escalations,
        url=f"{external_url.rstrip('/')}/api/v1/incidents/{incident.id}" if external_url else "",
        expired=incident.state is IncidentState.CLOSED and gave_up(group),
    )  # fmt: skip
    return Event(
        event_id=event_id(incident.tenant, incident.id, incident.seq, kind), kind=kind, seq=incident.seq, at=at,
        tenant=incident.tenant, degraded=degraded or incident.degraded, incident=view,
        note=said.text if said and said.text else msgspec.UNSET,
        author=said.author if said and said.author else msgspec.UNSET,
    )  # fmt: skip


def gave_up(group: Group) -> bool:
    """Say whether the last that is known of some alert is that its resolve never came."""
    return any(episode.expired for episode in group.newest())


def raised(group: Group, episode: Episode) -> bool:
    """Let an episode that joins raise the incident's severity; say whether it did."""
    rises = SEVERITY_RANK[episode.severity] > SEVERITY_RANK[group.head.severity]
    if rises:
        group.head = replace(group.head, severity=episode.severity)
    return rises


def worst(episodes: Iterable[Episode]) -> Severity:
    """Return the highest severity among the episodes."""
    return max((episode.severity for episode in episodes), key=SEVERITY_RANK.__getitem__)


def _event_episode(episode: Episode, times: int) -> EventEpisode:
    return EventEpisode(
        fingerprint=episode.fingerprint, starts_at=episode.starts_at, ends_at=episode.ends_at,
        source=episode.source, labels=episode.labels, annotations=episode.annotations,
        generator_url=episode.generator_url, severity=episode.severity, demoted=episode.demoted,
        why=episode.why, times=times, expired=episode.expired, disputed=episode.disputed,
        suppressed=episode.suppressed,
    )  # fmt: skip
