"""Learning to link: from a tenant's own history to the probability that two alerts share a cause.

Theory. Without labels: pairs of alerts that began within a quarter of an hour (*near*) are some by cause and some by
chance; pairs of alerts that would be near if one of them were moved by hours (*shifted*) are all by chance. Where a
kind of pair is r times as dense among the near as among the shifted, 1 - 1/r of the near ones are not by chance. The
ratio comes from trees that tell near from shifted pairs apart (density ratio by classification: Sugiyama, Suzuki and
Kanamori, Density Ratio Estimation in Machine Learning, 2012). How often two families come together, at all and at
which distance, is counted into a table first, shrunk towards what each of them does with any other, and is a feature
like the others; half of the history counts for the other half, so that nothing is learned from itself.

With labels: incidents that people confirmed, merged or split give pairs that belong together and pairs that do not.
Trees over the same features and the unlabelled verdict learn to correct it.

Rules: a fit is a pure function of its ask: one thread, no randomness, ordered input. It runs in the models' process
(scikit-learn grows the trees); `Judge` uses the result without it.

Decision: trees, for a sum of bins could not tell which of a rule's partners is meant at which lag: 0.86 instead of
0.93 (pairwise F1) with three days of labels on a generated world that nothing was tuned to. Decision: shifts of hours
in both directions rather than random partners, which would lose what belongs to the time of day.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from bridge.analysis.entities import tokens_of
from bridge.analysis.families import own_family
from bridge.analysis.linking import likeness
from bridge.analysis.pairs import (
    FEATURES,
    LAG_EDGES,
    LAGS,
    SEEN_ALONE,
    WINDOW_S,
    Columns,
    Floats,
    Ints,
    Rows,
    traits_of,
)
from bridge.analysis.topology import Chart, Topology
from bridge.analysis.trees import NO_TREES, Ensemble, Grown, stored
from bridge.model import Word

Key = tuple[str, str, datetime]  # source, fingerprint, starts_at

#: By how much one alert of a pair is moved, s; both ways.
SHIFTS_S = (2700.0, 7200.0, 21_600.0, 43_200.0)
#: Two halves of the history, in turns of that long.
FOLD_S = 43_200.0
MAX_PAIRS = 40_000  # of either kind that trees are grown from
MAX_PARTNERS = 400  # of one alert
TREES, DEPTH, RATE, LEAST_LEAF, RIDGE = 70, 5, 0.1, 40, 5.0
#: Pairs that a cell of the table is shrunk with, and those that what a family does with any other is.
SHRINK, SHRINK_COMPANY = 2.0, 3.0
LEAST_LABELLED = 200  # pairs, some of either kind, before labels are learned from
MAX_COMMON = 2000  # keys that a linker remembers as common
MAX_SQUARE = 1 << 19  # pairs of families up to which a linker in force has a place for each
MAX_CELLS = 20_000  # pairs of families in the table, those seen most
COMMON_SHARE = 0.05  # what is named in that share of the hours, or less, is as rare as anything
SURE = 0.995  # no probability is nearer to 0 or 1


class Sighting(Word, frozen=True, array_like=True):
    """One episode as learning remembers it."""

    at_s: float  # when it began, epoch s
    source: str
    fingerprint: str
    starts_at: datetime
    template: str
    labels: dict[str, str]

    @property
    def key(self) -> Key:
        """The identity of the episode."""
        return (self.source, self.fingerprint, self.starts_at)


class Taught(Word, frozen=True, kw_only=True):
    """What one correction says: episodes of one group belong together, those of different groups do not."""

    incident: str  # that it was said of
    groups: tuple[tuple[Key, ...], ...]


class Table(Word, frozen=True, kw_only=True):
    """How often families come together. Binary fields are little-endian; base-two logarithms are float16."""

    families: tuple[str, ...] = ()
    cells: bytes = b""  # uint32 each: (earlier * families + later) * 2 + related, ascending
    lifts: bytes = b""  # 2 + LAGS per cell: lift, pairs seen, lift at each lag
    company: bytes = b""  # 2 per family: lift with any other, unrelated and related
    profile: bytes = b""  # LAGS each, unrelated and related: what is usual at each lag


class Linker(Word, frozen=True, kw_only=True):
    """What a fit learned, as it is stored."""

    table: Table
    common: dict[str, float]  # how rare a key is, 0..1, of those that are not as rare as anything
    unlabelled: Grown
    corrected: Grown | None = None  # None: too few labels
    pairs: int = 0  # near pairs it was learned from
    labelled: int = 0  # labelled ones


# ---- using what was learned ------------------------------------------------------------------------------


class Judge:
    """A linker in force. Cost: about 0.1 ms for 50 pairs, 0.3 ms for 400, twice that where people corrected it."""

    def __init__(self, linker: Linker) -> None:
        """Build its tables.

        Raises:
            ValueError: They do not fit together.
        """
        self.linker = linker
        table = linker.table
        self.families = {family: number for number, family in enumerate(table.families)}
        self._size = len(table.families)
        self._cells = np.frombuffer(table.cells, "<u4").astype(np.int64)
        self._lifts = np.frombuffer(table.lifts, "<f2").astype(np.float32).reshape(-1, 2 + LAGS)
        self._company = np.frombuffer(table.company, "<f2").astype(np.float32).reshape(-1, 2)
        self._profile = np.frombuffer(table.profile, "<f2").astype(np.float32).reshape(-1, LAGS)
        sizes = (len(self._lifts), len(self._company), len(self._profile))
        if sizes != (len(self._cells), self._size, 2 if self._size else len(self._profile)):
            raise ValueError(f"its table has parts of different sizes: {sizes}")
        # Where each cell is, in a square of all pairs as long as the families are few.
        self._places: Ints | None = None
        if 2 * self._size**2 <= MAX_SQUARE:
            self._places = np.full(max(1, 2 * self._size**2), -1)
            self._places[self._cells] = np.arange(len(self._cells))
        self._unlabelled = Ensemble(linker.unlabelled, len(FEATURES))
        self._corrected = Ensemble(linker.corrected, len(FEATURES) + 1) if linker.corrected else None

    def rarity(self, key: str) -> float:
        """Return how rare it is that an alert names a key, 0..1."""
        return self.linker.common.get(key, 1.0)

    def features(
        self, columns: Columns, earlier: Rows, later: Rows, lag_s: NDArray[np.float64] | None = None
    ) -> Floats:
        """Return one row of `FEATURES` for each pair; rows of `columns` were added with `families`' numbers."""
        lag = np.abs(columns.at_s[later] - columns.at_s[earlier] if lag_s is None else lag_s)
        seen = columns.pairs(earlier, later, lag)
        rows = np.empty((len(seen), len(FEATURES)), np.float32, order="F")
        rows[:, :SEEN_ALONE] = seen
        rows[:, SEEN_ALONE:] = self.lifts(
            columns.family[earlier], columns.family[later], seen[:, 7].astype(np.int64), lag
        )
        return rows

    def lifts(self, left: Ints, right: Ints, related: Ints, lag: NDArray[np.float64]) -> Floats:
        """Return what the table says of pairs of families: the features from `SEEN_ALONE` on.

        One of `left` and `right` may be a single number.
        """
        found = np.zeros((len(related), len(FEATURES) - SEEN_ALONE), np.float32, order="F")
        bins = np.searchsorted(LAG_EDGES, lag)
        mine, theirs = self._companies(left, related), self._companies(right, related)
        expected = (mine + theirs) / 2
        usual = self._profile[related, bins] if len(self._profile) else np.zeros(len(related), np.float32)
        known, cell = self._found(left, right, related)
        found[:, 0] = np.where(known, self._lifts[cell, 0] if len(self._lifts) else 0, expected)
        found[:, 1], found[:, 2] = mine, theirs
        found[:, 3] = np.where(
            known, self._lifts[cell, 2 + bins] if len(self._lifts) else 0, expected + usual
        )
        found[:, 4] = np.where(known, self._lifts[cell, 1] if len(self._lifts) else 0, 0)
        known, cell = self._found(right, left, related)
        found[:, 5] = np.where(known, self._lifts[cell, 0] if len(self._lifts) else 0, expected)
        return found

    def _companies(self, family: Ints, related: Ints) -> Floats:
        if not self._size:
            return np.zeros(len(related), np.float32)
        return np.where(family >= 0, self._company[np.maximum(family, 0), related], np.float32(0))

    def _found(self, left: Ints, right: Ints, related: Ints) -> tuple[NDArray[np.bool_], Ints]:
        if not len(self._cells):
            return np.zeros(len(related), np.bool_), np.zeros(len(related), np.int64)
        codes = (left * self._size + right) * 2 + related
        if self._places is not None:
            at = self._places.take(codes, mode="clip")
            return (at >= 0) & (left >= 0) & (right >= 0), np.maximum(at, 0)
        at = np.minimum(np.searchsorted(self._cells, codes), len(self._cells) - 1)
        return (self._cells[at] == codes) & (left >= 0) & (right >= 0), at

    def logits(self, rows: Floats) -> NDArray[np.float64]:
        """Return the log odds that the pairs share a cause, as people would label them where people did."""
        without = unlabelled_logits(self._unlabelled.sums(rows))
        if self._corrected is None:
            return without
        more = np.empty((len(rows), len(FEATURES) + 1), np.float32, order="F")
        more[:, :-1], more[:, -1] = rows, without
        return self._corrected.sums(more)

    def without_labels(self, rows: Floats) -> NDArray[np.float64]:
        """Return the log odds by the unlabelled verdict alone."""
        return unlabelled_logits(self._unlabelled.sums(rows))


def unlabelled_logits(log_ratio: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the log odds of 1 - 1/r; `log_ratio` is ln r."""
    most = math.log(SURE / (1 - SURE))
    excess = np.expm1(np.clip(log_ratio, 0.0, 20.0))
    logits: NDArray[np.float64] = np.clip(np.log(np.maximum(excess, 1e-9)), -most, most)
    return logits


# ---- a history as columns --------------------------------------------------------------------------------


class History:
    """Sightings by when they began, as columns."""

    def __init__(
        self, sightings: Sequence[Sighting], *, families: Mapping[str, str], vectors: Mapping[str, bytes],
        charts: Sequence[Chart], label: str, common_until: int | None = None,
    ) -> None:  # fmt: skip
        """Read all of it; the order of `sightings` does not matter.

        How common a label is, is counted in the first `common_until` of them, in time; None: in all.
        """
        self.sightings = sorted(sightings, key=lambda each: (each.at_s, each.key))
        self.common = common_of(self.sightings[:common_until])
        topology = Topology(charts, label=label)
        self.columns = Columns(topology, likeness_of(vectors), max(16, len(self.sightings)))
        names = {
            each.template: families.get(each.template) or own_family(each.template) for each in self.sightings
        }
        self.families = tuple(sorted(set(names.values())))
        numbers = {family: number for number, family in enumerate(self.families)}
        for each in self.sightings:
            traits = traits_of(
                each.labels, tokens_of(each.labels), at_s=each.at_s, template=each.template,
                family=names[each.template], topology=topology, rarity=lambda key: self.common.get(key, 1.0),
            )  # fmt: skip
            self.columns.add(traits, numbers[names[each.template]])
        self.at_s = self.columns.at_s[: len(self.sightings)]

    def near(
        self, first: int = 0, last: int | None = None, shift_s: float = 0.0
    ) -> tuple[Ints, Ints, NDArray[np.float64]]:
        """Return (earlier, later, lag) of all pairs of rows `first` to `last` within the window.

        `shift_s`: the later alert is moved by so much before it is asked. Of one thing that returned no pair is made.
        """
        at_s = self.at_s[first:last]
        moved = at_s + shift_s
        until = np.searchsorted(at_s, moved, "left") if shift_s else np.arange(len(at_s))
        since = np.maximum(np.searchsorted(at_s, moved - WINDOW_S, "left"), until - MAX_PARTNERS)
        number = np.maximum(until - since, 0)
        later = np.repeat(np.arange(len(at_s)), number)
        begin = np.repeat(np.cumsum(number) - number, number)
        earlier = np.arange(len(later)) - begin + np.repeat(since, number)
        lag = moved[later] - at_s[earlier]
        earlier, later = earlier + first, later + first
        kept = ~self.columns.same_thing(earlier, later)
        return earlier[kept], later[kept], lag[kept]


def common_of(sightings: Iterable[Sighting]) -> dict[str, float]:
    """Return how rare each key is, 0..1, counted in hours that name it; what is rare is left out."""
    hours: dict[str, set[int]] = {}
    every: set[int] = set()
    for each in sightings:
        hour = int(each.at_s // 3600)
        every.add(hour)
        for token in tokens_of(each.labels):
            hours.setdefault(token.key, set()).add(hour)
    shares = {key: len(mine) / (len(every) + 20) for key, mine in hours.items()}
    common = sorted((-share, key) for key, share in shares.items() if share > COMMON_SHARE)[:MAX_COMMON]
    return {key: round(math.log(-share) / math.log(COMMON_SHARE), 3) for share, key in common}


def likeness_of(vectors: Mapping[str, bytes]) -> Callable[[str, str], float | None]:
    """Return the cosine of two templates' texts, None where one has no vector or they are of two models."""

    def asked(left: str, right: str) -> float | None:
        one, other = vectors.get(left, b""), vectors.get(right, b"")
        return likeness(one, other) if one and len(one) == len(other) else None

    return lru_cache(maxsize=65_536)(asked)


# ---- fitting ---------------------------------------------------------------------------------------------


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
    """Return the newest correction that names each episode, and in which of its groups: their numbers."""
    return {
        key: (lesson, number)
        for lesson, each in enumerate(taught)
        for number, group in enumerate(each.groups)
        for key in group
    }


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
