"""Clustering: which incident takes an episode in, and when two incidents turn out to be one.

Theory: an episode is attached at once to the most probable incident among those that share something with it and
were active within the window; below one half it founds its own. An inverted index from what alerts name (token,
family, Alertmanager group) to active incidents gives the candidates, newest first and capped, so the cost of an
alert does not grow with the number of open incidents.

An alert that fits two incidents well is evidence that they are one. When enough of that has gathered, the younger
is merged into the older at the next tick; incidents that are long open do not merge.

Decision: clusters are compared through the tokens they hold, not alert by alert: an incident of ten thousand
alerts is as cheap to join as one of ten.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta

from bridge.analysis.entities import GENERIC_WEIGHT, Token
from bridge.analysis.incidents import Group
from bridge.analysis.linking import Features, Link, burst, probability, worth
from bridge.model import IncidentState, Origin, Word

JOIN_AT = 0.5
LIVELY = (IncidentState.OPEN, IncidentState.QUIET)  # states in which an incident takes alerts in
#: An alert speaks for a merge when the second-best incident would have taken it, too, and not by a hair.
BRIDGE_AT = 0.55
MERGE_EVIDENCE = 3  # alerts that fit both, at least
MERGE_SHARE = 0.3  # of the smaller incident's alerts
MERGE_WITHIN_S = 1800.0
PER_TOKEN = 8  # newest incidents looked at per token
MAX_SCORED = 6  # incidents scored per alert
SAID_FROM = 0.1  # what is worth less is no reason that anybody wants to read


class Newcomer(Word, frozen=True, kw_only=True):
    """What clustering needs to know of an episode that looks for its incident."""

    tokens: tuple[Token, ...]
    origin: Origin
    group: str  # key of its Alertmanager group: `linking.group_token`
    family: str  # key of its family: `linking.family_token`
    template: str
    at: datetime


class Choice(Word, frozen=True, kw_only=True):
    """Where an episode goes. `incident` None: it founds its own. `also`: others that would have taken it."""

    incident: str | None
    link: Link | None
    also: tuple[str, ...] = ()


class Index:
    """Active incidents by what they hold, each list in order of (opened_at, id).

    Rebuilt from the groups on loading and never stored; its order depends on nothing but what is stored, so that
    a restart changes no choice.
    """

    def __init__(self) -> None:
        self._by_key: dict[str, list[tuple[datetime, str]]] = {}
        self._keys_of: dict[str, dict[str, None]] = {}

    def note(self, incident: str, opened_at: datetime, keys: Iterable[str]) -> None:
        """Let `incident` be found by `keys`, too."""
        mine = self._keys_of.setdefault(incident, {})
        for key in keys:
            if key not in mine:
                mine[key] = None
                insort(self._by_key.setdefault(key, []), (opened_at, incident))

    def drop(self, incident: str, opened_at: datetime) -> None:
        """Let nobody find `incident` any more. Does nothing for one that is not here."""
        for key in self._keys_of.pop(incident, {}):
            members = self._by_key[key]
            del members[bisect_left(members, (opened_at, incident))]
            if not members:
                del self._by_key[key]

    def newest(self, key: str) -> list[str]:
        """Return the newest incidents under `key`, at most `PER_TOKEN`."""
        return [incident for _, incident in self._by_key.get(key, [])[-PER_TOKEN:]]

    def spread(self, key: str) -> int:
        """Return how many active incidents hold `key`."""
        return len(self._by_key.get(key, ()))

    def holds(self, incident: str) -> bool:
        """Say whether the incident can be found."""
        return incident in self._keys_of

    def __len__(self) -> int:
        return len(self._keys_of)


def keys_of(newcomer: Newcomer) -> list[str]:
    """Return the keys under which an incident that took in `newcomer` can be found."""
    keys = (*(token.key for token in newcomer.tokens), newcomer.group, newcomer.family)
    return [key for key in keys if key]


def choose(
    newcomer: Newcomer,
    index: Index,
    groups: dict[str, Group],
    *,
    window_s: float,
    sensitivity: float,
    likeness: Callable[[str, Group], float | None],
    rarity: Callable[[str], float],
) -> Choice:
    """Return the incident that takes `newcomer` in, with the link that explains it.

    `likeness(template, group)` gives the cosine of the texts, None where it is unknown; `rarity(key)` how rare it
    is, 0..1, that an incident holds a key. Cost is bounded by `MAX_TOKENS * PER_TOKEN + MAX_SCORED`, whatever
    the number of open incidents.
    """
    named = _Named(newcomer, index, rarity)
    links: list[tuple[float, str, Features]] = []
    since = newcomer.at - timedelta(seconds=window_s)
    for incident in _candidates(named, index):
        group = groups[incident]
        head = group.head
        if head.active_at >= since and head.state in LIVELY and head.origin == newcomer.origin:
            features = _features(named, group, likeness)
            if features is not None:
                links.append((probability(features, sensitivity), incident, features))
    if not links:
        return Choice(incident=None, link=None)
    links.sort(key=lambda link: (-link[0], groups[link[1]].head.opened_at, link[1]))
    chance, incident, features = links[0]
    link = Link(probability=chance, features=features)
    if chance < JOIN_AT:
        return Choice(incident=None, link=link)
    also = tuple(other for other_chance, other, _ in links[1:] if other_chance >= BRIDGE_AT)
    return Choice(incident=incident, link=link, also=also if chance >= BRIDGE_AT else ())


class _Named:
    """What a newcomer names, each thing with what sharing it is worth."""

    __slots__ = ("family_rare", "group_rare", "newcomer", "terms", "total")

    def __init__(self, newcomer: Newcomer, index: Index, rarity: Callable[[str], float]) -> None:
        self.newcomer = newcomer
        valued = worth(newcomer.tokens, rarity)
        self.total = sum(token.weight for token in newcomer.tokens)
        #: What is shared counts less where several open incidents hold it.
        self.terms = [(token.key, value, value / (index.spread(token.key) or 1)) for token, value in valued]
        #: How rare its group and its family are, 0 where they say nothing.
        self.group_rare, self.family_rare = (
            rare if key and (rare := rarity(key)) >= GENERIC_WEIGHT else 0.0
            for key in (newcomer.group, newcomer.family)
        )


def _candidates(named: _Named, index: Index) -> list[str]:
    """Return the incidents that share most with a newcomer at a glance, at most `MAX_SCORED`."""
    newcomer = named.newcomer
    keys = [(newcomer.group, named.group_rare), (newcomer.family, named.family_rare)]
    keys += [(key, value) for key, value, _ in named.terms if value >= GENERIC_WEIGHT]
    shared: dict[str, float] = {}
    for key, value in keys:
        if value:
            for incident in index.newest(key):
                shared[incident] = shared.get(incident, 0.0) + value
    if len(shared) <= MAX_SCORED:
        return list(shared)
    ranked = sorted([(-value, incident) for incident, value in shared.items()])
    return [incident for _, incident in ranked[:MAX_SCORED]]


def _features(named: _Named, group: Group, likeness: Callable[[str, Group], float | None]) -> Features | None:
    """Return what speaks for a newcomer belonging to `group`; None if they share nothing in particular."""
    newcomer = named.newcomer
    size, held = len(group.episodes), group.held
    near = _Nearness(newcomer.at)
    shared = 0.0
    names = []
    for key, value, term in named.terms:
        if key in held:
            number, last = held[key]
            share = number / size
            shared += term * share
            if value >= SAID_FROM:
                names.append(key)
            if value >= GENERIC_WEIGHT:
                near.see(share, last)
    group_rare, family_rare = named.group_rare, named.family_rare
    of_group = near.see_key(held, newcomer.group, size) * group_rare if group_rare else 0.0
    of_family = near.see_key(held, newcomer.family, size) * family_rare if family_rare else 0.0
    if near.lag_s is None:
        return None
    return Features(
        lag_s=near.lag_s, burst=near.burst, shared=shared / named.total if named.total else 0.0,
        shared_keys=tuple(names), same_kind=newcomer.template in group.templates, family=of_family,
        group=of_group, text=likeness(newcomer.template, group),
    )  # fmt: skip


class _Nearness:
    """How close in time the alerts of an incident are that share something with a newcomer.

    Being close counts by the share of the incident's alerts that it is close to: an incident that has seen every
    service is never more than a second away from anything.
    """

    __slots__ = ("_at", "burst", "lag_s")

    def __init__(self, at: datetime) -> None:
        self._at = at
        self.burst = 0.0
        self.lag_s: float | None = None

    def see(self, share: float, last: datetime) -> None:
        """Take in that a share of the alerts, the last of them at `last`, has something in common."""
        if share > self.burst:  # burst() is at most 1
            lag_s = max(0.0, (self._at - last).total_seconds())
            near = share * burst(lag_s)
            if self.lag_s is None or near > self.burst:
                self.burst, self.lag_s = near, lag_s

    def see_key(self, held: Mapping[str, tuple[int, datetime]], key: str, size: int) -> float:
        """Take in what an incident of `size` alerts holds under `key`, and return its share."""
        found = held.get(key)
        if found is None:
            return 0.0
        self.see(found[0] / size, found[1])
        return found[0] / size


def by_age(one: Group, other: Group) -> tuple[Group, Group]:
    """Return two groups as (older, younger)."""
    older, younger = sorted((one, other), key=lambda group: (group.head.opened_at, group.head.id))
    return older, younger


def may_merge(older: Group, younger: Group) -> bool:
    """Say whether two incidents began so close together that they can be one, and nobody grouped them by hand."""
    by_hand = older.progress.by_hand or younger.progress.by_hand
    return not by_hand and (younger.head.opened_at - older.head.opened_at).total_seconds() <= MERGE_WITHIN_S


def bridged(older: Group, younger: Group) -> bool:
    """Say whether the alerts that fit both are enough to call two incidents one."""
    count = younger.progress.bridges.get(older.head.id, 0)
    smaller = min(len(older.episodes), len(younger.episodes))
    return count >= max(MERGE_EVIDENCE, MERGE_SHARE * smaller) and may_merge(older, younger)
