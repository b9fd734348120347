"""The causal graph of one incident: which of its alerts came before which others, and what speaks for it.

Rules: of two alerts that began at least `TIE_S` and at most a quarter of an hour apart there is an edge where the
history says that the one's kind precedes the other's, or where the other one's service itself calls the one's. It says
*causes* only where both hold (or the learned order is within one host or one service), or where a person named the
root; everything else *precedes*. An alert keeps the `MAX_BEFORE` edges that say most about what came before it. At most
`MAX_ALERTS` alerts are looked at: those that are worst, and those that were first. Alerts without an edge are left out.

Decision: made when an incident is rendered and stored with it. What the history and the topology said then is part of
why the incident was told as it was; whoever reads has neither.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from operator import attrgetter
from typing import NamedTuple, TypeVar

import numpy as np
from msgspec.structs import replace

from bridge.analysis.causality import TIE_S, Orders, Precedes, supports
from bridge.analysis.entities import tokens_of
from bridge.analysis.pairs import (
    CALLER_LATER,
    WINDOW_S,
    Columns,
    Ints,
    Traits,
    begun_s,
    related_of,
    traits_of,
)
from bridge.analysis.ranking import Alarm
from bridge.analysis.topology import Topology
from bridge.model import CausalEdge, CausalGraph, CausalNode, CausalWord

MAX_ALERTS = 100
MAX_WORST = 60  # of them; the others are those that were first
MAX_BEFORE = 2  # edges into one alert
MINUTES_FROM_S = 120.0
NAMED = "a person named it as the root"

EpisodeKey = tuple[str, str, datetime]  # source, fingerprint, starts_at


AlarmT = TypeVar("AlarmT", bound=Alarm)


class Pair(NamedTuple):
    """Two alerts of a scene by their numbers, the one that began first, and what is known of them."""

    earlier: int
    later: int
    lag_s: float
    learned: Precedes | None
    direct: bool  # the later one's service itself calls the earlier one's
    called: bool  # it does, or another one in between
    supported: bool  # topology agrees that the earlier one may cause the later


def looked_at(ranked: Sequence[AlarmT]) -> list[AlarmT]:
    """Return the alerts that are looked at, of all in order of their rank."""
    if len(ranked) <= MAX_ALERTS:
        return list(ranked)
    early = sorted(ranked[MAX_WORST:], key=attrgetter("starts_at", "fingerprint", "source"))
    return [*ranked[:MAX_WORST], *early[: MAX_ALERTS - MAX_WORST]]


class Scene:
    """The alerts of one incident set beside each other. Costs some 10 ms for a hundred."""

    def __init__(
        self, alerts: Sequence[Alarm], *, topology: Topology, family_of: Callable[[str], str], orders: Orders
    ) -> None:
        """Compare at most `MAX_ALERTS` alerts; `family_of` names the family of a template."""
        timed = [
            (begun_s(each.starts_at, each.seen_at), each.fingerprint, each.source, each) for each in alerts
        ]
        timed.sort(key=lambda each: each[:3])
        self.alerts = [each[3] for each in timed]  # by when they began
        self.begun_s = [each[0] for each in timed]
        self._topology = topology
        self._called_more: dict[int, int] = {}  # by node
        families = [family_of(each.template) for each in self.alerts]
        columns = Columns(topology, lambda _one, _other: None, max(1, len(timed)))
        self._traits = [
            self._add(columns, *each) for each in zip(self.alerts, self.begun_s, families, strict=True)
        ]
        self.pairs = self._compared(columns, families, orders)

    def _add(self, columns: Columns, alert: Alarm, at_s: float, family: str) -> Traits:
        traits = traits_of(
            alert.labels, tokens_of(alert.labels), at_s=at_s, template=alert.template, family=family,
            topology=self._topology, rarity=lambda _key: 1.0,
        )  # fmt: skip
        columns.add(traits)
        return traits

    def _compared(self, columns: Columns, families: Sequence[str], orders: Orders) -> list[Pair]:
        """Return the pairs of which something is known."""
        if not len(orders) and not len(self._topology):
            return []
        at_s = np.array(self.begun_s)
        earlier, later = np.triu_indices(len(at_s), 1)
        lag_s = at_s[later] - at_s[earlier]
        kept = (lag_s >= TIE_S) & (lag_s <= WINDOW_S) & ~columns.same_thing(earlier, later)
        earlier, later, lag_s = earlier[kept], later[kept], lag_s[kept]
        service, host = columns.standing(earlier, later)
        called = columns.called(earlier, later, service)
        direct = called & (service == CALLER_LATER)
        supported = supports(service, host, called)
        edges = _edges(earlier, later, related_of(service, host), families, orders)
        known = called | np.array([edge is not None for edge in edges], np.bool_)
        return [
            Pair(
                int(earlier[row]), int(later[row]), round(float(lag_s[row]), 1), edges[row], bool(direct[row]),
                bool(called[row]), bool(supported[row]),
            )
            for row in np.flatnonzero(known).tolist()
        ]  # fmt: skip

    # ---- what is said of it ------------------------------------------------------------------------------------

    def name(self, number: int) -> str:
        """Return what an alert is called."""
        return self.alerts[number].labels.get("alertname") or "unnamed alert"

    def about(self, number: int) -> str:
        """Return the service or the machine that an alert is about, "" if it names neither."""
        return self._traits[number].service or self._traits[number].host

    def is_machine(self, number: int) -> bool:
        """Say whether an alert is about a machine and no service."""
        return bool(self._traits[number].host) and not self._traits[number].service

    def called_more(self, number: int) -> int:
        """Return how many of the others' services call that of an alert, less those that it calls."""
        node = self._traits[number].node
        if node not in self._called_more:
            others = [each.node for each in self._traits if each.node not in {-1, node}] if node >= 0 else []
            calls = self._topology.calls
            self._called_more[node] = sum(calls(each, node) - calls(node, each) for each in others)
        return self._called_more[node]

    def support(self, pair: Pair) -> str:
        """Return what topology says of a pair, "" for nothing."""
        one, other = self._traits[pair.earlier], self._traits[pair.later]
        if pair.called:
            return self._topology.said(other.node, one.node)
        if not pair.supported:
            return ""
        if one.host and one.host == other.host:
            return f"same host {one.host}"
        return f"same service {one.service}"

    def order(self, pair: Pair) -> str:
        """Return what the history says of a pair, "" for nothing."""
        learned = pair.learned
        if learned is None:
            return ""
        earlier, later = self.name(pair.earlier), self.name(pair.later)
        return f"{earlier} precedes {later} in {learned.first} of {learned.events} cases"


def _edges(
    earlier: Ints, later: Ints, related: Ints, families: Sequence[str], orders: Orders
) -> list[Precedes | None]:
    """Return what was learned of each pair; every two families are asked about once."""
    names = sorted(set(families))
    number = np.array([names.index(family) for family in families], np.int64)
    codes, places = np.unique(
        (number[earlier] * len(names) + number[later]) * 2 + related, return_inverse=True
    )
    found = [
        orders.edge(names[code // 2 // len(names)], names[code // 2 % len(names)], related=bool(code % 2))
        for code in codes.tolist()
    ]
    return [found[place] for place in places.tolist()]


def graph_of(scene: Scene, *, root: EpisodeKey | None = None) -> CausalGraph:
    """Return the causal graph of an incident; `root` is what a person named as having come first."""
    named = next((number for number, each in enumerate(scene.alerts) if key_of(each) == root), None)
    before: dict[int, list[Pair]] = {}
    for pair in scene.pairs:
        if pair.later != named and (pair.learned or pair.direct or pair.earlier == named):
            before.setdefault(pair.later, []).append(pair)
    edges: list[CausalEdge] = []
    for later in sorted(before):
        best = sorted(before[later], key=lambda pair: _worth(pair, named))[:MAX_BEFORE]
        edges += [
            CausalEdge(pair.earlier, later, _word(pair, named), pair.lag_s, _why(scene, pair, named))
            for pair in best
        ]
    if named is not None:
        begun = scene.begun_s
        edges += [
            CausalEdge(named, other, "causes", round(begun[other] - begun[named], 1), NAMED)
            for other in range(len(scene.alerts))
            if other != named and other not in before
        ]
    return _drawn(scene, edges)


def key_of(alert: Alarm) -> EpisodeKey:
    """Return the identity of an alert's episode."""
    return (alert.source, alert.fingerprint, alert.starts_at)


def _word(pair: Pair, named: int | None) -> CausalWord:
    return "causes" if pair.earlier == named or (pair.learned and pair.supported) else "precedes"


def _worth(pair: Pair, named: int | None) -> tuple[bool, bool, bool, float, int]:
    """Return the sort key of what says most about an alert first."""
    sure = _word(pair, named) == "causes"
    return (pair.earlier != named, not sure, pair.learned is None, pair.lag_s, pair.earlier)


def _why(scene: Scene, pair: Pair, named: int | None) -> str:
    reasons = [
        NAMED if pair.earlier == named else "", f"{said_s(pair.lag_s)} before",
        scene.order(pair), scene.support(pair),
    ]  # fmt: skip
    return "; ".join(reason for reason in reasons if reason)


def said_s(seconds: float) -> str:
    """Return a lag in words."""
    return f"{seconds:.0f} s" if seconds < MINUTES_FROM_S else f"{seconds / 60:.0f} min"


def _drawn(scene: Scene, edges: Sequence[CausalEdge]) -> CausalGraph:
    """Return a graph of the alerts that have an edge, numbered anew."""
    used = sorted({end for edge in edges for end in (edge.earlier, edge.later)})
    place = {number: index for index, number in enumerate(used)}
    nodes = []
    for number in used:
        alert = scene.alerts[number]
        nodes.append(
            CausalNode(alert.source, alert.fingerprint, alert.starts_at, scene.name(number), alert.severity)
        )
    moved = [replace(edge, earlier=place[edge.earlier], later=place[edge.later]) for edge in edges]
    return CausalGraph(nodes=tuple(nodes), edges=tuple(moved))
