"""Who is suspected, and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from bridge.analysis.causal_graph import Scene, said_s
from bridge.analysis.causality import NO_ORDERS, Orders
from bridge.analysis.ranking import MAX_SUSPECTS, Alarm, importance
from bridge.analysis.roots.features import baseline, chances, rows_of
from bridge.analysis.roots.words import NO_RANKER, Ranker
from bridge.analysis.topology import Topology
from bridge.model import RootSuspect


class Insight(NamedTuple):
    """What is known beside an incident's own alerts."""

    topology: Topology
    family_of: Callable[[str], str]  # of a template
    orders: Orders = NO_ORDERS
    ranker: Ranker = NO_RANKER

    def scene(self, alerts: Sequence[Alarm]) -> Scene:
        """Set alerts of one incident beside each other."""
        return Scene(alerts, topology=self.topology, family_of=self.family_of, orders=self.orders)


def suspects(
    ranked: Sequence[Alarm], scene: Scene | None = None, ranker: Ranker = NO_RANKER
) -> tuple[RootSuspect, ...]:
    """Return what probably came first.

    Args:
        ranked: The first episode of each alert, by `importance`.
        scene: Those that are looked at, beside each other; None: nothing is known of them.
        ranker: What people taught; it must have earned to act.
    """
    usual = baseline(ranked, scene)
    number = {id(each): place for place, each in enumerate(scene.alerts)} if scene else {}
    acting = ranker if ranker.verdict.acts and len(number) > 1 else NO_RANKER
    if scene is not None and acting.verdict.acts:
        likely = chances(rows_of(scene, acting), acting)
        order = np.argsort(-likely, kind="stable")[:MAX_SUSPECTS].tolist()
        listed = [scene.alerts[place] for place in order]
        confidences = [float(likely[place]) for place in order]
    else:
        listed = usual[:MAX_SUSPECTS]
        total = sum(1 / rank for rank in range(1, len(listed) + 1))
        confidences = [1 / rank / total for rank in range(1, len(listed) + 1)]
    place_of = {id(each): place for place, each in enumerate(usual, 1)}
    found = []
    for rank, (alert, confidence) in enumerate(zip(listed, confidences, strict=True), 1):
        reasons = [_standing(alert, rank, place_of[id(alert)], acting)]
        if scene is not None and id(alert) in number:
            reasons += _reasons(scene, number[id(alert)], len(ranked))
        found.append(
            RootSuspect(
                fingerprint=alert.fingerprint, starts_at=alert.starts_at, confidence=round(confidence, 4),
                why="; ".join(reasons),
            )
        )  # fmt: skip
    return tuple(found)


def _standing(alert: Alarm, rank: int, usual: int, ranker: Ranker) -> str:
    begun = f"{alert.severity}, started {alert.starts_at:%H:%M:%S} UTC"
    if not ranker.verdict.acts:
        return f"{begun} (rank {usual} by severity, then time)"
    roots, had = ranker.records.get(alert.template, (0, 0))
    record = f"; its kind was named in {roots} of {had} incidents that had it" if had else ""
    return f"{begun} (rank {rank} by what people named before, {usual} by severity, then time){record}"


def _reasons(scene: Scene, number: int, alerts: int) -> list[str]:
    """Return what else speaks for an alert of so many, a sentence each."""
    reasons = []
    begun_s = scene.begun_s
    if number == 0 and len(begun_s) > 1 and begun_s[1] > begun_s[0]:
        reasons.append(f"first of {alerts}, {said_s(begun_s[1] - begun_s[0])} before the next")
    reasons += _of_the_moment(scene, number)
    mine = [pair for pair in scene.pairs if pair.earlier == number]
    learned = {scene.name(pair.later): pair for pair in reversed(mine) if pair.learned}
    if learned:
        best = max(
            learned.values(), key=lambda pair: (pair.learned.first if pair.learned else 0, -pair.later)
        )
        known = best.learned
        said = (
            f"its kind precedes {scene.name(best.later)} in {known.first} of {known.events} cases"
            if known
            else ""
        )
        reasons.append(said + _more(len(learned) - 1, "kind"))
    called = {scene.about(pair.later): pair for pair in reversed(mine) if pair.called}
    if called:
        reasons.append(scene.support(called[min(called)]) + _more(len(called) - 1, "caller"))
    return reasons


def _of_the_moment(scene: Scene, number: int) -> list[str]:
    """Return what tells an alert from the others that are as severe and began at the same moment."""
    mine = importance(scene.alerts[number])[:2]
    equals = [
        place for place, each in enumerate(scene.alerts) if place != number and importance(each)[:2] == mine
    ]
    more = scene.called_more(number) if equals else 0
    if not equals or more <= max(map(scene.called_more, equals)):
        return []
    return [f"of {len(equals) + 1} that began at this moment the one that most others call"]


def _more(number: int, what: str) -> str:
    return f" (and {number} more {what if number == 1 else what + 's'})" if number else ""
