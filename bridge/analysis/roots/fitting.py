"""Fitting: a ranking from the roots that people named, and whether it may act."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bridge.analysis.causal_graph import Scene, key_of, looked_at
from bridge.analysis.precedence import coin_tail
from bridge.analysis.ranking import importance
from bridge.analysis.roots.features import (
    NONE,
    RECORD,
    baseline,
    record_of,
    seen_alone,
    softmax,
)
from bridge.analysis.roots.suspecting import Insight
from bridge.analysis.roots.words import FEATURES, NamedRoot, Ranker, RootVerdict, Rows

LEAST_NAMED = 30  # incidents with a named root
MOST_NAMED = 400  # the newest, that are learned from
SLICES = 10  # of time, each judged by what the others teach
SIGNIFICANT = 0.05
RIDGE = 1.0
ROUNDS = 30  # of Newton's method, each step halved until it leads upwards
STILL = 1e-6  # no weight moves by more: done
MAX_RECORDS = 2000
HEATS = (0.5, 0.7, 1.0, 1.4, 2.0, 3.0)  # confidences are softened by one of them


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
    rows = np.concatenate([seen_alone(scene), NONE])
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
    rows[:-1, RECORD] = [record_of(name, records, usual) for name in templates]
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
            chances = softmax(each @ weights)
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


def _log_chance(scores: NDArray[np.float64], root: int) -> float:
    top = float(scores.max())
    return float(scores[root]) - top - math.log(float(np.exp(scores - top).sum()))
