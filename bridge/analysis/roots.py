"""Roots: which alert of an incident probably came first, why, and how likely that is.

Theory. "Most severe, then earliest" is hard to beat: in two thirds of generated storms the first of that order was a
root, which no causal method and no combination of them reached. So it is the order that acts, and everything else only
explains, until people have named roots. (Topology parts alerts that are equally severe and began at the same moment,
which nothing but chance would.) Then a conditional logit (McFadden 1974: a softmax over an incident's own alerts of a
weighted sum of their features) learns from what they named how much rank, time, learned order, topology, the number of
alerts about the same thing and the kind's own record are worth to this tenant.

A learned confidence must be able to say that it was none of them, or it would name a root wherever two alerts stand
together. So each named incident teaches twice: as it was, and without its root, where "none of these" is right. The
share of that stands beside the alerts' own, and a confidence is what is left for an alert.

Rules: it acts only where it was right significantly more often than the baseline on at least `LEAST_NAMED` incidents of
this tenant, each judged by a fit that knew nothing of it or of its neighbours in time. Otherwise the baseline acts, and
the verdict says why. A learned confidence is a probability that was calibrated on the same incidents; that of the
baseline is the reciprocal of the rank, normalised: an order, no probability.

Decision: a dozen weights rather than trees. A tenant names some dozens of roots, not thousands, and a weighted sum can
be read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from itertools import groupby
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from bridge.analysis.causal_graph import EpisodeKey, Scene, key_of, looked_at, said_s
from bridge.analysis.causality import NO_ORDERS, Orders
from bridge.analysis.precedence import coin_tail
from bridge.analysis.ranking import MAX_SUSPECTS, Alarm, importance
from bridge.analysis.topology import Topology
from bridge.model import SEVERITY_RANK, RootSuspect, Severity, Word

LEAST_NAMED = 30  # incidents with a named root
MOST_NAMED = 400  # the newest, that are learned from
SLICES = 10  # of time, each judged by what the others teach
SIGNIFICANT = 0.05
RIDGE = 1.0
ROUNDS = 30  # of Newton's method, each step halved until it leads upwards
STILL = 1e-6  # no weight moves by more: done
#: Incidents that a kind's record is shrunk with.
SHRINK = 2.0
MAX_RECORDS = 2000
HEATS = (0.5, 0.7, 1.0, 1.4, 2.0, 3.0)  # confidences are softened by one of them

#: What is told apart, one weight each.
FEATURES = (
    "severity", "rank", "earliest", "lag", "precedes", "preceded", "called by", "calls", "same thing", "machine",
    "record", "none of these",
)  # fmt: skip
_RECORD = FEATURES.index("record")
_NONE = np.array([[float(name == "none of these") for name in FEATURES]])

Rows = NDArray[np.float64]


class Sample(Word, frozen=True, kw_only=True):
    """One alert as it was when it first fired in an incident that people said something about."""

    source: str
    fingerprint: str
    starts_at: datetime
    seen_at: datetime
    labels: dict[str, str]
    template: str
    severity: Severity


class NamedRoot(Word, frozen=True, kw_only=True):
    """An incident and what a person named as its root."""

    root: EpisodeKey
    alerts: tuple[Sample, ...]


class RootVerdict(Word, frozen=True, kw_only=True):
    """Which ranking acts, and why."""

    acts: bool = False
    reason: str = "no root was named yet"
    named: int = 0
    baseline: float = 0.0  # share of them of which it had the root first
    learned: float = 0.0


class Ranker(Word, frozen=True, kw_only=True):
    """What was learned from named roots, as it is stored."""

    weights: tuple[float, ...] = ()  # of `FEATURES`
    #: Template -> times it was the root, incidents that had it.
    records: dict[str, tuple[int, int]] = msgspec.field(default_factory=dict)
    usual: float = 0.0  # what a kind without a record has: the share of the alerts that were roots
    verdict: RootVerdict = RootVerdict()


#: Where nothing was learned: the baseline acts.
NO_RANKER = Ranker()


class Insight(NamedTuple):
    """What is known beside an incident's own alerts."""

    topology: Topology
    family_of: Callable[[str], str]  # of a template
    orders: Orders = NO_ORDERS
    ranker: Ranker = NO_RANKER

    def scene(self, alerts: Sequence[Alarm]) -> Scene:
        """Set alerts of one incident beside each other."""
        return Scene(alerts, topology=self.topology, family_of=self.family_of, orders=self.orders)


def baseline(ranked: Sequence[Alarm], scene: Scene | None) -> list[Alarm]:
    """Return alerts, given by `importance`, as they are suspected while nothing better is known.

    Of those that are equally severe and began at the same moment, as all do that one evaluation of rules found, the one
    that more of the others call comes first. Only those that are told are put in order.
    """
    if scene is None:
        return list(ranked)
    number = {id(each): place for place, each in enumerate(scene.alerts)}
    found: list[Alarm] = []
    for _, tie in groupby(ranked, key=lambda each: importance(each)[:2]):
        equals = list(tie)
        if len(equals) > 1 and len(found) < MAX_SUSPECTS:
            called = {id(each): scene.called_more(number[id(each)]) for each in equals if id(each) in number}
            equals.sort(key=lambda each: -called.get(id(each), 0))
        found += equals
    return found


# ---- who is suspected --------------------------------------------------------------------------------------


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
        chances = _chances(rows_of(scene, acting), acting)
        order = np.argsort(-chances, kind="stable")[:MAX_SUSPECTS].tolist()
        listed = [scene.alerts[place] for place in order]
        confidences = [float(chances[place]) for place in order]
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


# ---- features ----------------------------------------------------------------------------------------------


def rows_of(scene: Scene, ranker: Ranker) -> Rows:
    """Return one row of `FEATURES` for each alert of a scene."""
    rows = _seen_alone(scene)
    rows[:, _RECORD] = [_record(each.template, ranker.records, ranker.usual) for each in scene.alerts]
    return rows


def _seen_alone(scene: Scene) -> Rows:
    """Return the features without the kinds' records."""
    number = len(scene.alerts)
    rows = np.zeros((number, len(FEATURES)))
    severities = np.array([SEVERITY_RANK[each.severity] for each in scene.alerts], float)
    rows[:, 0] = severities - severities.max()
    place_of = {id(each): place for place, each in enumerate(scene.alerts)}
    by_rank = [place_of[id(each)] for each in baseline(sorted(scene.alerts, key=importance), scene)]
    rows[by_rank, 1] = 1.0 / np.arange(1, number + 1)
    rows[:, 2] = 1.0 / np.arange(1, number + 1)
    begun_s = np.array(scene.begun_s)
    rows[:, 3] = np.log1p(begun_s - begun_s[0]) / math.log1p(900.0)
    others = max(1, number - 1)
    for pair in scene.pairs:
        if pair.learned:
            rows[pair.earlier, 4] += 1 / others
            rows[pair.later, 5] += 1 / others
        if pair.called:
            rows[pair.earlier, 6] += 1 / others
            rows[pair.later, 7] += 1 / others
    about = [scene.about(place) for place in range(number)]
    counts = {name: about.count(name) for name in set(about)}
    rows[:, 8] = [counts[name] / number if name else 0.0 for name in about]
    rows[:, 9] = [float(scene.is_machine(place)) for place in range(number)]
    return rows


def _record(template: str, records: Mapping[str, tuple[int, int]], usual: float) -> float:
    """Return how much more often than an alert of no special kind this kind was the root, as a logarithm."""
    if not usual:
        return 0.0
    roots, had = records.get(template, (0, 0))
    return math.log((roots + SHRINK * usual) / (had + SHRINK) / usual)


# ---- learning ----------------------------------------------------------------------------------------------


class _Case(NamedTuple):
    """One incident that is learned from. Behind the rows of its alerts stands one for "none of these"."""

    rows: Rows
    templates: tuple[str, ...]
    root: int  # its row
    usual: int  # the row that the baseline has first
    bare: Rows  # without the root
    bare_templates: tuple[str, ...]


def fit_ranker(
    named: Iterable[NamedRoot], insight: Insight, *, without: AbstractSet[str] = frozenset()
) -> Ranker:
    """Learn from named roots and say whether what was learned may act.

    Args:
        named: What people said; the newest `MOST_NAMED` count.
        insight: What is known beside them. Its ranker is not asked.
        without: Features to leave out.

    Costs seconds for `MOST_NAMED` incidents.
    """
    listed = sorted(
        named, key=lambda each: min((key_of(a)[::-1] for a in each.alerts), default=each.root[::-1])
    )
    left_out = [FEATURES.index(name) for name in without]
    cases = [case for each in listed[-MOST_NAMED:] if (case := _case(each, insight, left_out)) is not None]
    if len(cases) < LEAST_NAMED:
        return Ranker(
            verdict=RootVerdict(
                named=len(cases),
                reason=f"{len(cases)} incidents with a named root are too few to tell, {LEAST_NAMED} are needed",
            )
        )
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # noqa: PLC0415 - the child has it

    judged: list[tuple[NDArray[np.float64], _Case]] = []
    with threadpool_limits(1):  # a second thread would add up in another order
        for number in range(SLICES):
            first, last = (len(cases) * bound // SLICES for bound in (number, number + 1))
            taught = _learned([*cases[:first], *cases[last:]], left_out)
            judged += [(_scores(case, taught), case) for case in cases[first:last]]
        ranker = _learned(cases, left_out)
    heat = min(HEATS, key=lambda each: -sum(_log_chance(scores / each, case.root) for scores, case in judged))
    return Ranker(
        weights=tuple(round(weight / heat, 6) for weight in ranker.weights), records=ranker.records,
        usual=ranker.usual, verdict=_decided(judged),
    )  # fmt: skip


def _decided(judged: Sequence[tuple[NDArray[np.float64], _Case]]) -> RootVerdict:
    mine = [int(np.argmax(scores[:-1])) == case.root for scores, case in judged]
    usual = [case.usual == case.root for _, case in judged]
    won = sum(one and not other for one, other in zip(mine, usual, strict=True))
    lost = sum(other and not one for one, other in zip(mine, usual, strict=True))
    chance = coin_tail(won, won + lost)
    acts = chance < SIGNIFICANT
    shares = sum(mine) / len(judged), sum(usual) / len(judged)
    told = (
        f"the learned ranking had the root first in {shares[0]:.0%} of {len(judged)} incidents, severity and time in"
        f" {shares[1]:.0%} (right where the other was wrong: {won} against {lost}, p={chance:.2g})"
    )
    return RootVerdict(
        acts=acts, reason=f"{told}; {'it acts' if acts else 'severity and time act'}", named=len(judged),
        baseline=round(shares[1], 4), learned=round(shares[0], 4),
    )  # fmt: skip


def _case(named: NamedRoot, insight: Insight, left_out: Sequence[int]) -> _Case | None:
    ranked = sorted(named.alerts, key=importance)
    scene = insight.scene(looked_at(ranked))
    places = {key_of(each): place for place, each in enumerate(scene.alerts)}
    if len(places) < 2 or named.root not in places:  # noqa: PLR2004 - there is nothing to choose
        return None
    bare = insight.scene([each for each in scene.alerts if key_of(each) != named.root])
    return _Case(
        _seen(scene, left_out), tuple(each.template for each in scene.alerts), places[named.root],
        places[key_of(baseline(ranked, scene)[0])], _seen(bare, left_out), tuple(each.template for each in bare.alerts),
    )  # fmt: skip


def _seen(scene: Scene, left_out: Sequence[int]) -> Rows:
    rows = np.concatenate([_seen_alone(scene), _NONE])
    rows[:, left_out] = 0.0
    return rows


def _learned(cases: Sequence[_Case], left_out: Sequence[int]) -> Ranker:
    """Return weights and records; each case is taught with records that do not know it."""
    roots: dict[str, int] = {}
    had: dict[str, int] = {}
    for case in cases:
        for template in set(case.templates):
            had[template] = had.get(template, 0) + 1
        roots[case.templates[case.root]] = roots.get(case.templates[case.root], 0) + 1
    usual = len(cases) / sum(len(case.templates) for case in cases)
    taught, right = [], []
    for case in cases:
        mine = case.templates[case.root]
        others = {name: (roots.get(name, 0) - (name == mine), had[name] - 1) for name in case.templates}
        taught.append(_with_records(case.rows, case.templates, others, usual))
        taught.append(_with_records(case.bare, case.bare_templates, others, usual))
        right += [case.root, len(case.bare_templates)]
    kept = sorted(had, key=lambda name: (-had[name], name))[:MAX_RECORDS]
    records = {name: (roots.get(name, 0), had[name]) for name in kept}
    for rows in taught:
        rows[:, left_out] = 0.0
    weights = _weights(taught, right)
    return Ranker(weights=tuple(weights.tolist()), records=records, usual=round(usual, 6))


def _with_records(
    rows: Rows, templates: Sequence[str], records: Mapping[str, tuple[int, int]], usual: float
) -> Rows:
    rows = rows.copy()
    rows[:-1, _RECORD] = [_record(name, records, usual) for name in templates]
    return rows


def _weights(taught: Sequence[Rows], roots: Sequence[int]) -> NDArray[np.float64]:
    """Return the weights of a conditional logit with a ridge, by Newton's method."""
    weights = np.zeros(len(FEATURES))
    spread = np.concatenate(taught).std(axis=0)
    scale = np.where(spread > 1e-9, spread, 1.0)  # noqa: PLR2004 - what never differs
    rows = [each / scale for each in taught]
    reached = _likelihood(rows, roots, weights)
    for _ in range(ROUNDS):
        slope = -RIDGE * weights
        bend = RIDGE * np.eye(len(weights))
        for each, root in zip(rows, roots, strict=True):
            chances = _softmax(each @ weights)
            mean = chances @ each
            slope += each[root] - mean
            bend += (each * chances[:, None]).T @ each - np.outer(mean, mean)
        step = np.linalg.solve(bend, slope)
        while (now := _likelihood(rows, roots, weights + step)) < reached and np.abs(step).max() > STILL:
            step /= 2
        if np.abs(step).max() <= STILL:
            break
        weights, reached = weights + step, now
    found: NDArray[np.float64] = weights / scale
    return found


def _likelihood(rows: Sequence[Rows], roots: Sequence[int], weights: NDArray[np.float64]) -> float:
    """Return the penalised log likelihood of the weights."""
    told = sum(_log_chance(each @ weights, root) for each, root in zip(rows, roots, strict=True))
    return told - RIDGE * float(weights @ weights) / 2


def _scores(case: _Case, ranker: Ranker) -> NDArray[np.float64]:
    """Return the scores of a case's alerts, and behind them that of none."""
    rows = _with_records(case.rows, case.templates, ranker.records, ranker.usual)
    scores: NDArray[np.float64] = rows @ np.array(ranker.weights)
    return scores


def _chances(rows: Rows, ranker: Ranker) -> NDArray[np.float64]:
    """Return the probability of each alert that it is the root; that it is none of them is missing in their sum."""
    return _softmax(np.concatenate([rows, _NONE]) @ np.array(ranker.weights))[:-1]


def _softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    raised = np.exp(scores - scores.max())
    found: NDArray[np.float64] = raised / raised.sum()
    return found


def _log_chance(scores: NDArray[np.float64], root: int) -> float:
    top = float(scores.max())
    return float(scores[root]) - top - math.log(float(np.exp(scores - top).sum()))
