"""Fitting: a linker from a history, and from what people said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from bridge.analysis.learning.history import SHIFTS_S, History
from bridge.analysis.learning.judge import Judge
from bridge.analysis.learning.words import Key, Linker, Table, Taught
from bridge.analysis.pairs import FEATURES, LAG_EDGES, LAGS, Columns, Floats, Ints
from bridge.analysis.trees import NO_TREES, Grown, stored

#: Two halves of the history, in turns of that long.
FOLD_S = 43_200.0
MAX_PAIRS = 40_000  # of either kind that trees are grown from
TREES, DEPTH, RATE, LEAST_LEAF, RIDGE = 70, 5, 0.1, 40, 5.0
#: Pairs that a cell of the table is shrunk with, and those that what a family does with any other is.
SHRINK, SHRINK_COMPANY = 2.0, 3.0
LEAST_LABELLED = 200  # pairs, some of either kind, before labels are learned from
MAX_CELLS = 20_000  # pairs of families in the table, those seen most


def fit_linker(history: History, taught: Sequence[Taught] = (), *, until: int | None = None) -> Linker:
    """Learn from the first `until` sightings of a history, and from what people said.

    Args:
        history: What was seen.
        taught: Corrections, oldest first. Of an episode the newest one that names it counts.
        until: How many sightings may be looked at, from the beginning; None: all.

    Seconds for some thousands of sightings.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # noqa: PLC0415

    with threadpool_limits(1):  # a second thread would add up in another order
        pairs = _Pairs(history, until)
        table = pairs.table(None)
        grown = _grown(*pairs.sample())
        linker = Linker(table=table, common=history.common, unlabelled=grown, pairs=pairs.near_count)
        labelled, together = _labelled(history, taught, until)
        if len(together) < LEAST_LABELLED or together.all() or not together.any():
            return linker
        judge = Judge(linker)
        features = judge.features(history.columns, *labelled)
        features = np.column_stack([features, judge.without_labels(features).astype(np.float32)])
        corrected = _grown(features, together, np.ones(len(together)))
    return msgspec.structs.replace(linker, corrected=corrected, labelled=len(together))


class _Pairs:
    """The near and the shifted pairs of a history."""

    def __init__(self, history: History, until: int | None) -> None:
        self._history = history
        at_s = history.at_s[:until]
        span_s = max(1.0, float(at_s[-1] - at_s[0])) if len(at_s) else 1.0
        self._near = history.near(0, until)
        shifts = [shift for shift in SHIFTS_S if shift < span_s / 2]
        parts = [history.near(0, until, sign * shift) for shift in shifts for sign in (1, -1)]
        weights = [
            np.full(len(part[0]), span_s / (span_s - shift) / (2 * len(shifts)))
            for shift, part in zip([shift for shift in shifts for _ in (1, -1)], parts, strict=True)
        ]
        empty = np.zeros(0, np.int64)
        self._shifted = (
            tuple(np.concatenate(each) for each in zip(*parts, strict=True))
            if parts
            else (empty, empty, np.zeros(0))
        )
        self._weights = np.concatenate(weights) if weights else np.zeros(0)
        self.near_count = len(self._near[0])
        self._begin = float(at_s[0]) if len(at_s) else 0.0
        columns = history.columns
        self._related = [self._related_of(columns, pairs) for pairs in (self._near, self._shifted)]

    @staticmethod
    def _related_of(columns: Columns, pairs: tuple[NDArray[Any], ...]) -> Ints:
        earlier, later = pairs[0], pairs[1]
        return columns.related(earlier, later)

    def _half(self, pairs: tuple[NDArray[Any], ...]) -> Ints:
        """Return in which half of the history each pair is, 0 or 1."""
        turns: Ints = ((self._history.at_s[pairs[1]] - self._begin) // FOLD_S).astype(np.int64) % 2
        return turns

    def table(self, half: int | None) -> Table:
        """Count one half of the history, or all of it."""
        families = len(self._history.families)
        cells, counts = [], []
        for pairs, related, weights in (
            (self._near, self._related[0], np.ones(self.near_count)),
            (self._shifted, self._related[1], self._weights),
        ):
            mine = slice(None) if half is None else self._half(pairs) == half
            family = self._history.columns.family
            code = (family[pairs[0][mine]] * families + family[pairs[1][mine]]) * 2 + related[mine]
            bins = np.searchsorted(LAG_EDGES, np.abs(pairs[2][mine]))
            cells.append(code * LAGS + bins)
            counts.append(weights[mine])
        return _table(self._history.families, cells, counts)

    def sample(self) -> tuple[Floats, NDArray[np.bool_], NDArray[np.float64]]:
        """Return features, whether the pair is near, and weights; the table of one half serves the other."""
        judges = [Judge(Linker(table=self.table(half), common={}, unlabelled=NO_TREES)) for half in (1, 0)]
        rows, near, weights = [], [], []
        for is_near, pairs, weight in (
            (True, self._near, np.ones(self.near_count)), (False, self._shifted, self._weights),
        ):  # fmt: skip
            step = max(1, -(-len(pairs[0]) // MAX_PAIRS))
            few = tuple(each[::step] for each in pairs)
            half = self._half(few)
            features = np.empty((len(few[0]), len(FEATURES)), np.float32)
            for number, judge in enumerate(judges):
                mine = half == number
                features[mine] = judge.features(
                    self._history.columns, few[0][mine], few[1][mine], few[2][mine]
                )
            rows.append(features)
            near.append(np.full(len(features), is_near))
            weights.append(weight[::step] * step)
        return np.concatenate(rows), np.concatenate(near), np.concatenate(weights)


def _table(families: tuple[str, ...], cells: Sequence[Ints], counts: Sequence[NDArray[np.float64]]) -> Table:
    """Return the table of lifts from weighed pairs, near and shifted; a cell is a pair of families and a lag."""
    size = len(families)
    codes, places = np.unique(np.concatenate(cells), return_inverse=True)
    split = len(cells[0])
    near = np.bincount(places[:split], weights=counts[0], minlength=len(codes))
    shifted = np.bincount(places[split:], weights=counts[1], minlength=len(codes))
    pair_codes, pair_of = np.unique(codes // LAGS, return_inverse=True)
    by_lag = np.zeros((2, len(pair_codes), LAGS))
    by_lag[0, pair_of, codes % LAGS], by_lag[1, pair_of, codes % LAGS] = near, shifted
    related = pair_codes % 2
    of_relation = np.stack(
        [by_lag[:, related == each].sum(axis=1) for each in (0, 1)], axis=1
    )  # near/shifted, related, lag
    usual = (of_relation[0] + 1) / (of_relation[1] + 1)
    overall = (of_relation[0].sum(axis=1) + 1) / (of_relation[1].sum(axis=1) + 1)
    profile = usual / overall[:, None]
    totals = by_lag.sum(axis=2)
    company = np.zeros((2, size * 2))
    for family in (pair_codes // 2 // max(size, 1), pair_codes // 2 % max(size, 1)):
        for each in (0, 1):
            company[each] += np.bincount(family * 2 + related, weights=totals[each], minlength=size * 2)[
                : size * 2
            ]
    overalls = np.tile(overall, size)
    lift_of_family = (company[0] + SHRINK_COMPANY * overalls) / (company[1] + SHRINK_COMPANY)
    one, other = pair_codes // 2 // max(size, 1) * 2 + related, pair_codes // 2 % max(size, 1) * 2 + related
    expected = np.sqrt(lift_of_family[one] * lift_of_family[other])
    lift = (totals[0] + SHRINK * expected) / (totals[1] + SHRINK)
    expected_at = lift[:, None] * profile[related]
    lift_at = (by_lag[0] + SHRINK * expected_at) / (by_lag[1] + SHRINK)
    rows = np.column_stack([lift, totals.sum(axis=0) + 1, lift_at])
    kept = np.sort(np.argsort(-totals.sum(axis=0), kind="stable")[:MAX_CELLS])
    return Table(
        families=families, cells=pair_codes[kept].astype("<u4").tobytes(), lifts=_logs(rows[kept]),
        company=_logs(lift_of_family), profile=_logs(profile),
    )  # fmt: skip


def _logs(values: NDArray[np.float64]) -> bytes:
    return np.log2(np.maximum(values, 1e-4)).astype("<f2").tobytes()


def spoken_of(taught: Sequence[Taught]) -> dict[Key, tuple[int, int]]:
    """Return the newest correction that names each episode, and in which of its groups: their numbers.

    What an older correction put together with something that a newer one names goes along with that, into the newer
    one's group: else one incident that was corrected again and again would look like several. Where the newer ones took
    it to different places, nothing is known of the rest.
    """
    said: dict[Key, tuple[int, int]] = {}
    for lesson in reversed(range(len(taught))):
        labels: list[tuple[tuple[Key, ...], tuple[int, int]]] = []
        for number, group in enumerate(taught[lesson].groups):
            newer = {said[key] for key in group if key in said}
            if len(newer) <= 1:
                labels.append((group, newer.pop() if newer else (lesson, number)))
        for group, label in labels:
            for key in group:
                said.setdefault(key, label)
    return said


def _labelled(
    history: History, taught: Sequence[Taught], until: int | None
) -> tuple[tuple[Ints, Ints], NDArray[np.bool_]]:
    """Return the pairs of which people said whether they belong together, and what they said.

    Of two corrections of different incidents each is right about its own: their episodes do not belong together.
    """
    said = spoken_of(taught)
    incidents = {name: number for number, name in enumerate(dict.fromkeys(each.incident for each in taught))}
    labels = np.full((len(history.sightings), 3), -1, np.int64)
    for row, each in enumerate(history.sightings):
        if each.key in said:
            lesson, group = said[each.key]
            labels[row] = lesson, group, incidents[taught[lesson].incident]
    earlier, later, _ = history.near(0, until)
    one, other = labels[earlier], labels[later]
    together = (one[:, 0] == other[:, 0]) & (one[:, 1] == other[:, 1])
    told = (one[:, 0] >= 0) & (other[:, 0] >= 0) & ((one[:, 0] == other[:, 0]) | (one[:, 2] != other[:, 2]))
    step = max(1, -(-int(told.sum()) // (2 * MAX_PAIRS)))
    return (earlier[told][::step], later[told][::step]), together[told][::step]


def _grown(rows: Floats, target: NDArray[np.bool_], weights: NDArray[np.float64]) -> Grown:
    if target.all() or not target.any():
        return NO_TREES
    from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: PLC0415 - only the child pays for it

    trees = HistGradientBoostingClassifier(
        max_iter=TREES, max_depth=DEPTH, max_leaf_nodes=31, learning_rate=RATE, min_samples_leaf=LEAST_LEAF,
        l2_regularization=RIDGE, early_stopping=False, random_state=0,
    )  # fmt: skip
    return stored(trees.fit(rows, target, weights / weights.mean()))
