"""Residuals with extreme-value tails: a value against what its series does at this time of day, and has just done.

Theory: four views of each value, each a deviation whose tail `tails` learns (SPOT, Siffer et al., KDD 2017):

* value: from what is expected. Expected is what erred least lately of a slow level, the level of this time of day, and
  that of this hour of the week, the latter two with a drift of their own (a selection, per series, again and again).
* step: from the last few values. What jumps is strange although it lands where the series has been before.
* shift: the mean deviation of about the last three hundred values. What is only a little off, but stays so.
* calm: by how much the last fifty deviated less than usual. A flat line is never off and yet strange.

The smallest of the four tail probabilities, times four (Bonferroni), is the value's.

Learning: levels take at most `LEVEL_CLIP` scales of a deviation, scales at most six of them, tails at most the edge of
what is flagged. So a spike leaves next to nothing behind, and a lasting shift of R scales is the new normal after about
140 log2 R values; one that stays on one side of all that is usual is taken over as a whole after `ACCEPTED_AFTER`.

Assumptions: values are more or less numbers on a scale (mostly zero counts are for `counts`), a day has 24 h in
UTC, and deviations further apart than a few values are nearly independent. It needs `WARM_UP` values before it speaks,
and a day or a week before seasons help.

Cost: about 150 array operations a call to score and learn; 4 us a value in a bank of thousands, 0.4 ms alone.
Memory: 4.4 KiB a series.

Decision: seasons as tables of levels rather than a fitted decomposition (STL, Holt-Winters): nothing to refit, nothing
to go unstable, and gaps, restarts and odd rhythms need no care. What the tables cannot say goes into the tails.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from bridge.analysis.detectors import tails
from bridge.analysis.detectors.bank import Bank, bounded
from bridge.analysis.detectors.slots import Column, Ints
from bridge.analysis.detectors.surprise import score_of

Floats = NDArray[np.float64]

VIEWS = 4
DAY_BINS, WEEK_BINS = 96, 168
WARM_UP = 60.0
SLOW_MEMORY = 288.0  # values that the slow level remembers: a day of five minutes each
FAST_WEIGHT = 0.4
SHIFT_WEIGHT = 2.0 / 289.0  # of the mean deviation: about three hundred values
UNREST_WEIGHT = 2.0 / 49.0  # of the mean absolute deviation that calm is about
CALMEST = 1e-6  # of the usual deviation; below that all is the same
DRIFT_WEIGHT = 0.02  # of a season as a whole
FEW_VISITS = 3.0  # until then a time of day takes what comes in whole
SEASON_VISITS = 12.0  # as many visits of a time of day are remembered
ERROR_WEIGHT = 0.01
LEVEL_CLIP = 4.0
STEP_CLIP = 100.0
ACCEPTED_AFTER = 288.0
#: Nothing is known of a step over a gap of so many usual intervals.
GAP = 12.0
#: Tails are fitted anew after so many values.
FIT_EVERY = 8
#: Deviations below this share of the value are rounding.
ROUNDING = 1e-9
TINY = 1e-300


class SpotBank(Bank):
    """Seasonal robust residuals, SPOT tails; see the module."""

    NAME = "spot"
    COLUMNS = (
        Column("count"),
        Column("time_s"),
        Column("interval_s"),
        Column("slow"),
        Column("fast"),
        Column("shift"),
        Column("unrest"),
        Column("drift", shape=(2,)),
        Column("error", shape=(3,)),
        Column("outside"),  # values in a row on one side of all that is usual, signed
        Column("day", shape=(DAY_BINS,)),
        Column("day_visits", "<f4", (DAY_BINS,)),
        Column("week", shape=(WEEK_BINS,)),
        Column("week_visits", "<f4", (WEEK_BINS,)),
        Column("scale", shape=(VIEWS,)),
        Column("hist", "<f4", (VIEWS, tails.BINS)),
        Column("threshold", shape=(VIEWS,)),
        Column("above", shape=(VIEWS,), first=1.0),
        Column("gamma", shape=(VIEWS,), first=1.0),
    )
    count: Floats
    time_s: Floats
    interval_s: Floats
    slow: Floats
    fast: Floats
    shift: Floats
    unrest: Floats
    drift: Floats
    error: Floats
    outside: Floats
    day: Floats
    day_visits: NDArray[np.float32]
    week: Floats
    week_visits: NDArray[np.float32]
    scale: Floats
    hist: NDArray[np.float32]
    threshold: Floats
    above: Floats
    gamma: Floats

    #: What `score_many` has thought, for a `learn_many` of the same values that follows; no part of the state.
    _thought: _Views | None = None

    @override
    def score_many(self, series: Ints, times_s: Floats, values: Floats) -> Floats:
        known = bounded(values)
        view = self._thought = _Views(self, series, times_s, np.where(np.isnan(known), 0.0, known))
        deviations = view.deviations
        scale = self.scale[series]
        place = tails.octaves(deviations, scale)
        tail = tails.tail(
            place, self.hist[series], self.threshold[series], self.above[series], self.gamma[series]
        )
        count = self.count[series]
        # Where nothing ever deviated, anything is as rare as one in all that were seen.
        never = (scale == 0.0) & (deviations > 0.0)
        tail = np.where(never, 1.0 / (count[:, None] + 2.0), tail)
        score = score_of(np.minimum(tail.min(-1) * VIEWS, 1.0))
        return np.where(np.isnan(known) | (count < WARM_UP), np.nan, score)

    @override
    def learn_many(self, series: Ints, times_s: Floats, values: Floats, scores: Floats) -> None:
        known = bounded(values)
        usable = ~np.isnan(known)
        if not usable.all():
            series, times_s, known = series[usable], times_s[usable], known[usable]
        if len(series) == 0:
            return
        view = self._thought
        if view is None or not view.is_of(series, times_s, known):
            view = _Views(self, series, times_s, known)
        self._thought = None
        self._learn_tails(series, view.deviations)
        self._learn_levels(series, view)
        self.count[series] += 1.0
        self._fit(series)

    @override
    def drop(self, series: Ints) -> None:
        self._thought = None
        super().drop(series)

    @override
    def put(self, series: int, row: bytes) -> None:
        self._thought = None
        super().put(series, row)

    def _learn_tails(self, series: Ints, deviations: Floats) -> None:
        scale, count = self.scale[series], self.count[series][:, None]
        scale = tails.rescaled(scale, deviations, count)
        self.scale[series] = scale
        place = tails.octaves(deviations, scale)
        most = tails.edge(self.threshold[series], self.above[series], self.gamma[series])
        settled = count >= WARM_UP
        self.hist[series] = tails.learned(
            self.hist[series], np.where(settled, np.minimum(place, most), place)
        )

    def _fit(self, series: Ints) -> None:
        due = series[self.count[series] % FIT_EVERY == 0]
        if len(due):
            self.threshold[due], self.above[due], self.gamma[due] = tails.fitted(self.hist[due])

    def _learn_levels(self, series: Ints, view: _Views) -> None:
        count, value = view.count, view.value
        usual = view.most(self.scale[series][:, 0], LEVEL_CLIP)
        self._learn_seasons(series, view, usual)
        miss = value - view.slow
        self.slow[series] = view.slow + _clipped(miss, usual) / np.minimum(count + 1.0, SLOW_MEMORY)
        step = _clipped(value - view.fast, view.most(self.scale[series][:, 1], STEP_CLIP))
        self.fast[series] = np.where(view.is_gap, value, view.fast + FAST_WEIGHT * step)
        self.shift[series], self.unrest[series] = view.shift, view.unrest
        elapsed = np.maximum(times_or(view.elapsed_s), 0.0)
        interval = self.interval_s[series]
        self.interval_s[series] = np.where(
            interval == 0.0, elapsed, interval + 0.1 * (np.minimum(elapsed, 2.0 * interval) - interval)
        )
        self.time_s[series] = view.time_s
        self._accept(series, view, np.where(np.abs(view.residual) > usual, np.sign(view.residual), 0.0))

    def _learn_seasons(self, series: Ints, view: _Views, usual: Floats) -> None:
        for number, (table, visits, place) in enumerate(view.seasons()):
            level, seen = view.levels[number], view.visits[number]
            miss = view.value - view.expected[:, number + 1]
            is_known = seen > 0
            self.drift[series, number] += np.where(is_known, DRIFT_WEIGHT * _clipped(miss, usual), 0.0)
            wide = np.where(seen < FEW_VISITS, np.inf, 2.0 * usual)
            table[series, place] = np.where(
                is_known,
                level + _clipped(view.value - level, wide) / np.minimum(seen + 1.0, SEASON_VISITS),
                view.value,
            )
            visits[series, place] = seen + 1.0
        error = np.abs(view.value[:, None] - view.expected)
        error[:, 1:] = np.where(view.is_known, error[:, 1:], 1.02 * error[:, :1])
        # One wild value must not choose for a hundred.
        known = self.error[series]
        most = np.where(view.count[:, None] < tails.SETTLED, np.inf, 10.0 * known + usual[:, None])
        self.error[series] = known + ERROR_WEIGHT * (np.minimum(error, most) - known)

    def _accept(self, series: Ints, view: _Views, side: Floats) -> None:
        """Take over a change that stays on one side of all that is usual."""
        outside = self.outside[series]
        outside = np.where((side != 0.0) & (np.sign(outside) != -side), outside + side, side)
        there = np.abs(outside) >= ACCEPTED_AFTER
        if there.any():
            place = series[there]
            self.slow[place] = self.fast[place] = view.value[there]
            self.drift[place] += view.residual[there][:, None]
            self.shift[place] = 0.0
            outside = np.where(there, 0.0, outside)
        self.outside[series] = outside


class _Views:
    """What a bank thinks of values before it has learned from them."""

    def __init__(self, bank: SpotBank, series: Ints, times_s: Floats, values: Floats) -> None:
        self._bank = bank
        self._asked = (series.copy(), times_s.copy(), values.copy())
        self._series = series
        self.value = values
        self.count = bank.count[series]
        is_first = self.count == 0.0
        self.slow = np.where(is_first, values, bank.slow[series])
        self.fast = np.where(is_first, values, bank.fast[series])
        before = bank.time_s[series]
        when = np.where(np.isfinite(times_s), times_s, before)
        self.elapsed_s = np.where(is_first, 0.0, when - before)
        self.time_s = np.where(is_first, when, np.maximum(when, before))
        interval = bank.interval_s[series]
        self.is_gap = (self.elapsed_s > GAP * interval) & (interval > 0.0)
        day = np.mod(self.time_s, 86400.0)
        week = np.mod(self.time_s, 7 * 86400.0)
        self._places = (
            np.minimum((day / (86400.0 / DAY_BINS)).astype(np.int64), DAY_BINS - 1),
            np.minimum((week / (7 * 86400.0 / WEEK_BINS)).astype(np.int64), WEEK_BINS - 1),
        )
        self._expect()
        self.deviations = self._deviations()

    def is_of(self, series: Ints, times_s: Floats, values: Floats) -> bool:
        """Say whether this was thought of these very values."""
        return all(map(np.array_equal, self._asked, (series, times_s, values)))

    def seasons(self) -> list[tuple[Floats, NDArray[np.float32], Ints]]:
        """Return (levels, visits, place of these values) of the day and of the week."""
        bank = self._bank
        return [
            (bank.day, bank.day_visits, self._places[0]),
            (bank.week, bank.week_visits, self._places[1]),
        ]

    def _expect(self) -> None:
        bank, series = self._bank, self._series
        expected, known = [self.slow], []
        self.levels: list[Floats] = []
        self.visits: list[NDArray[np.float32]] = []
        for number, (table, visits, place) in enumerate(self.seasons()):
            self.levels.append(table[series, place])
            self.visits.append(visits[series, place])
            is_known = self.visits[number] > 0
            known.append(is_known)
            level = np.where(is_known, self.levels[number], self.slow)
            expected.append(level + bank.drift[series, number])
        self.expected = np.column_stack(expected)
        self.is_known = np.column_stack(known)
        error = bank.error[series]
        error[:, 1:] = np.where(self.is_known, error[:, 1:], np.inf)
        chosen = np.argmin(error, 1)
        self.residual = self.value - self.expected[np.arange(len(series)), chosen]

    def most(self, scale: Floats, scales: float) -> Floats:
        """Return how large a deviation is still taken in whole: so many scales, anything before they are known."""
        is_free = (self.count < tails.SETTLED) | (scale == 0.0)
        return np.where(is_free, np.inf, scales * scale)

    def _deviations(self) -> Floats:
        """Return the deviations of value, step, shift and calm, >= 0, shape (n, VIEWS)."""
        bank, series = self._bank, self._series
        scale = bank.scale[series][:, 0]
        residual = _clipped(self.residual, self.most(scale, 2.0 * LEVEL_CLIP))
        shift, unrest = bank.shift[series], bank.unrest[series]
        self.shift = shift + SHIFT_WEIGHT * (residual - shift)
        self.unrest = unrest + UNREST_WEIGHT * (np.abs(residual) - unrest)
        step = np.where(self.is_gap, 0.0, self.value - self.fast)
        found = np.abs(np.column_stack([self.residual, step, self.shift]))
        rounding = ROUNDING * np.maximum(np.abs(self.value), np.abs(self.fast))
        found = np.where(found <= rounding[:, None], 0.0, found)
        usual = np.maximum(scale, rounding)
        calm = np.where(scale > rounding, usual / np.maximum(self.unrest, CALMEST * usual + TINY), 0.0)
        return np.column_stack([found, calm])


def times_or(elapsed_s: Floats) -> Floats:
    """Return elapsed times; what is no number is none."""
    return np.where(np.isfinite(elapsed_s), elapsed_s, 0.0)


def _clipped(values: Floats, most: Floats | float) -> Floats:
    clipped: Floats = np.minimum(np.maximum(values, -most), most)
    return clipped
