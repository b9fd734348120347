"""What is told apart of an incident's alerts, their order while nothing better is known, and what weights say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from bridge.analysis.causal_graph import Scene
from bridge.analysis.ranking import MAX_SUSPECTS, Alarm, importance
from bridge.analysis.roots.words import FEATURES, Ranker, Rows
from bridge.model import SEVERITY_RANK

#: Incidents that a kind's record is shrunk with.
SHRINK = 2.0
RECORD = FEATURES.index("record")
NONE = np.array([[float(name == "none of these") for name in FEATURES]])


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


def rows_of(scene: Scene, ranker: Ranker) -> Rows:
    """Return one row of `FEATURES` for each alert of a scene."""
    rows = seen_alone(scene)
    rows[:, RECORD] = [record_of(each.template, ranker.records, ranker.usual) for each in scene.alerts]
    return rows


def seen_alone(scene: Scene) -> Rows:
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


def record_of(template: str, records: Mapping[str, tuple[int, int]], usual: float) -> float:
    """Return how much more often than an alert of no special kind this kind was the root, as a logarithm."""
    if not usual:
        return 0.0
    roots, had = records.get(template, (0, 0))
    return math.log((roots + SHRINK * usual) / (had + SHRINK) / usual)


def chances(rows: Rows, ranker: Ranker) -> NDArray[np.float64]:
    """Return the probability of each alert that it is the root; that it is none of them is missing in their sum."""
    return softmax(np.concatenate([rows, NONE]) @ np.array(ranker.weights))[:-1]


def softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return probabilities whose logarithms are `scores`, but for what they have in common."""
    raised = np.exp(scores - scores.max())
    found: NDArray[np.float64] = raised / raised.sum()
    return found
