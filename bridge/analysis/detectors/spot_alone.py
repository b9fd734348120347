"""One series of a `SpotBank` in plain numbers: the same scores and the same memory, byte for byte, a value at a time.

Theory is that of `detectors.spot`. A bank pays for some two hundred array operations a tick, which is little for
thousands of series and nearly all of the time for one. Here a level is a float; arrays are left where there are many
numbers (the tails).

Rules: logarithms, powers and long sums are numpy's, as in the bank, and all else goes in the bank's own order of
operations, so that not a bit differs. `tests/analysis/detectors/test_spot_alone.py` holds it to that on anything a
series may be; a change of one of the two is a change of both.

Decision: a second telling of one detector rather than a quarter of an hour for a long file. Compiling would need a
dependency of 100 MB or a compiler at installation; wider calls are impossible, since each value needs what the one
before it taught.

Cost: a seventh of what a bank of one costs, about 0.1 ms a value. Memory: about 10 KiB.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bridge.analysis.detectors import spot, tails
from bridge.analysis.detectors.bank import FARTHEST, Floats
from bridge.analysis.detectors.spot import SpotBank
from bridge.analysis.detectors.surprise import DECADES

_INF = math.inf
_ALL = np.arange(spot.VIEWS)
#: For each bin, which are higher.
_HIGHER = np.arange(tails.BINS)[:, None] < np.arange(tails.BINS)
_FADE = np.float32(1.0 - 1.0 / tails.MEMORY)
_ONE = np.float32(1.0)
_BIN_S = (86400.0 / spot.DAY_BINS, 7 * 86400.0 / spot.WEEK_BINS)


class SpotAlone:
    """One series, taken out of a bank; the bank is not changed."""

    def __init__(self, bank: SpotBank, series: int) -> None:
        self.count = float(bank.count[series])
        self.time_s = float(bank.time_s[series])
        self.interval_s = float(bank.interval_s[series])
        self.slow, self.fast = float(bank.slow[series]), float(bank.fast[series])
        self.shift, self.unrest = float(bank.shift[series]), float(bank.unrest[series])
        self.drift: list[float] = bank.drift[series].tolist()
        self.error: list[float] = bank.error[series].tolist()
        self.outside = float(bank.outside[series])
        self.levels: tuple[list[float], list[float]] = (
            bank.day[series].tolist(), bank.week[series].tolist(),
        )  # fmt: skip
        self.visits: tuple[list[float], list[float]] = (
            bank.day_visits[series].tolist(), bank.week_visits[series].tolist(),
        )  # fmt: skip
        self.scale: list[float] = bank.scale[series].tolist()
        self.hist: NDArray[np.float32] = bank.hist[series].copy()
        self._take(bank.threshold[series], bank.above[series], bank.gamma[series])

    def put_back(self, bank: SpotBank, series: int) -> None:
        """Write what is remembered into a bank's slot."""
        for name in ("count", "time_s", "interval_s", "slow", "fast", "shift", "unrest", "drift", "error",
                     "outside", "scale", "hist", "threshold", "above", "gamma"):  # fmt: skip
            getattr(bank, name)[series] = getattr(self, name)
        bank.day[series], bank.week[series] = self.levels
        bank.day_visits[series], bank.week_visits[series] = self.visits

    def step(self, time_s: float, value: float) -> float:
        """Return the score of the next value, as `score_many` gives it, and learn the value."""
        if not math.isfinite(value):
            return math.nan
        value = min(max(value, -FARTHEST), FARTHEST)
        view = _View(self, time_s, value)
        score = self._score(view.deviations)
        self._learn(view)
        return score

    def _score(self, deviations: list[float]) -> float:
        if self.count < spot.WARM_UP:
            return math.nan
        never = 1.0 / (self.count + 2.0)
        least = min(
            never if scale == 0.0 and deviation > 0.0 else tail
            for tail, scale, deviation in zip(
                self._tails(_octaves(deviations, self.scale)), self.scale, deviations, strict=True
            )
        )
        least = min(least * spot.VIEWS, 1.0)
        if least == 0.0:
            return 1.0
        return min(max(-float(np.log10(least)) / DECADES, 0.0), 1.0) + 0.0

    def _tails(self, places: list[float]) -> list[float]:
        """Return what `tails.tail` does."""
        spots = [min(max((place - tails.LOWEST) / tails.STEP, 0.0), tails.BINS - 1e-6) for place in places]
        wholes = [int(each) for each in spots]
        own: list[float] = self.hist[_ALL, wholes].tolist()
        higher: list[float] = np.add.reduce(self.hist * _HIGHER[wholes], -1, np.float64).tolist()
        total: list[float] = np.add.reduce(self.hist, -1, np.float64).tolist()
        found = []
        for view, place in enumerate(places):
            beyond = place - self.threshold[view]
            if beyond > 0.0:
                tail = self.above[view] * float(np.exp2(-beyond / self.gamma[view]))
            else:
                inside = own[view] * (1.0 - (spots[view] - wholes[view]))
                tail = (higher[view] + inside + 0.5) / (total[view] + 1.0)
            found.append(min(tail, 1.0))
        return found

    # -- learning, in the order of the bank

    def _learn(self, view: _View) -> None:
        self._learn_tails(view.deviations)
        usual = self.most(self.scale[0], spot.LEVEL_CLIP)
        self._learn_seasons(view, usual)
        value, count = view.value, self.count
        self.slow = view.slow + _clipped(value - view.slow, usual) / min(count + 1.0, spot.SLOW_MEMORY)
        step = _clipped(value - view.fast, self.most(self.scale[1], spot.STEP_CLIP))
        self.fast = value if view.is_gap else view.fast + spot.FAST_WEIGHT * step
        self.shift, self.unrest = view.shift, view.unrest
        elapsed = max(view.elapsed_s, 0.0) if math.isfinite(view.elapsed_s) else 0.0
        interval = self.interval_s
        self.interval_s = (
            elapsed if interval == 0.0 else interval + 0.1 * (min(elapsed, 2.0 * interval) - interval)
        )
        self.time_s = view.time_s
        self._accept(view, usual)
        self.count = count + 1.0
        if self.count % spot.FIT_EVERY == 0:
            self._take(*tails.fitted(self.hist))

    def _take(self, threshold: Floats, above: Floats, gamma: Floats) -> None:
        self.threshold: list[float] = threshold.tolist()
        self.above: list[float] = above.tolist()
        self.gamma: list[float] = gamma.tolist()
        self._edge: list[float] = tails.edge(threshold, above, gamma).tolist()

    def _learn_tails(self, deviations: list[float]) -> None:
        count = self.count
        is_free = count < tails.SETTLED
        memory = min(count + 1.0, tails.SCALE_MEMORY)
        scales = []
        for deviation, scale in zip(deviations, self.scale, strict=True):
            usual = deviation if is_free or scale == 0.0 else min(deviation, tails.SCALE_CLIP * scale)
            scales.append(deviation if count == 0.0 else scale + (usual - scale) / memory)
        self.scale = scales
        places = _octaves(deviations, scales)
        if count >= spot.WARM_UP:
            places = [min(place, edge) for place, edge in zip(places, self._edge, strict=True)]
        hist = self.hist
        hist *= _FADE
        for view, place in enumerate(places):
            spotted = int(min(max((place - tails.LOWEST) / tails.STEP, 0.0), tails.BINS - 1.0))
            hist[view, spotted] += _ONE

    def _learn_seasons(self, view: _View, usual: float) -> None:
        value = view.value
        errors = [abs(value - expected) for expected in view.expected]
        for season, (place, seen) in enumerate(zip(view.places, view.visits, strict=True)):
            levels, level = self.levels[season], view.levels[season]
            if seen > 0.0:
                miss = _clipped(value - view.expected[season + 1], usual)
                self.drift[season] += spot.DRIFT_WEIGHT * miss
                wide = _INF if seen < spot.FEW_VISITS else 2.0 * usual
                levels[place] = level + _clipped(value - level, wide) / min(seen + 1.0, spot.SEASON_VISITS)
            else:
                self.drift[season] += 0.0
                levels[place] = value
                errors[season + 1] = 1.02 * errors[0]
            self.visits[season][place] = seen + 1.0
        is_free = self.count < tails.SETTLED
        for number, (error, known) in enumerate(zip(errors, self.error, strict=True)):
            most = _INF if is_free else 10.0 * known + usual
            self.error[number] = known + spot.ERROR_WEIGHT * (min(error, most) - known)

    def _accept(self, view: _View, usual: float) -> None:
        side = math.copysign(1.0, view.residual) if abs(view.residual) > usual else 0.0
        outside = self.outside
        goes_on = side != 0.0 and outside * side >= 0.0
        outside = outside + side if goes_on else side
        if abs(outside) >= spot.ACCEPTED_AFTER:
            self.slow = self.fast = view.value
            self.drift = [drift + view.residual for drift in self.drift]
            self.shift = outside = 0.0
        self.outside = outside

    def most(self, scale: float, scales: float) -> float:
        """Return how large a deviation is still taken in whole: so many scales, anything before they are known."""
        return _INF if self.count < tails.SETTLED or scale == 0.0 else scales * scale


class _View:
    """What is thought of a value before it is learned."""

    __slots__ = (
        "deviations", "elapsed_s", "expected", "fast", "is_gap", "levels", "places", "residual", "shift",
        "slow", "time_s", "unrest", "value", "visits",
    )  # fmt: skip

    def __init__(self, own: SpotAlone, time_s: float, value: float) -> None:
        self.value = value
        is_first = own.count == 0.0
        self.slow = value if is_first else own.slow
        self.fast = value if is_first else own.fast
        when = time_s if math.isfinite(time_s) else own.time_s
        self.elapsed_s = 0.0 if is_first else when - own.time_s
        self.time_s = when if is_first else max(when, own.time_s)
        self.is_gap = self.elapsed_s > spot.GAP * own.interval_s and own.interval_s > 0.0
        self._expect(own)
        self._deviate(own)

    def _expect(self, own: SpotAlone) -> None:
        self.places = (
            min(int(self.time_s % 86400.0 / _BIN_S[0]), spot.DAY_BINS - 1),
            min(int(self.time_s % (7 * 86400.0) / _BIN_S[1]), spot.WEEK_BINS - 1),
        )
        self.levels = [levels[place] for levels, place in zip(own.levels, self.places, strict=True)]
        self.visits = [visits[place] for visits, place in zip(own.visits, self.places, strict=True)]
        self.expected = [self.slow]
        chosen, least = self.slow, own.error[0]
        for season, (level, seen) in enumerate(zip(self.levels, self.visits, strict=True)):
            expected = (level if seen > 0.0 else self.slow) + own.drift[season]
            self.expected.append(expected)
            if seen > 0.0 and own.error[season + 1] < least:
                chosen, least = expected, own.error[season + 1]
        self.residual = self.value - chosen

    def _deviate(self, own: SpotAlone) -> None:
        scale = own.scale[0]
        residual = _clipped(self.residual, own.most(scale, 2.0 * spot.LEVEL_CLIP))
        self.shift = own.shift + spot.SHIFT_WEIGHT * (residual - own.shift)
        self.unrest = own.unrest + spot.UNREST_WEIGHT * (abs(residual) - own.unrest)
        step = 0.0 if self.is_gap else self.value - self.fast
        rounding = spot.ROUNDING * max(abs(self.value), abs(self.fast))
        self.deviations = [
            0.0 if each <= rounding else each for each in (abs(self.residual), abs(step), abs(self.shift))
        ]
        usual = max(scale, rounding)
        least = spot.CALMEST * usual + spot.TINY
        self.deviations.append(usual / max(self.unrest, least) if scale > rounding else 0.0)


def _octaves(deviations: list[float], scales: list[float]) -> list[float]:
    """Return what `tails.octaves` does."""
    ratios = [
        deviation / scale if scale else _INF if deviation else 0.0
        for deviation, scale in zip(deviations, scales, strict=True)
    ]
    logs: list[float] = np.log2([each or 1.0 for each in ratios]).tolist()
    return [
        min(max(log, tails.LEAST), tails.MOST) if ratio else tails.LEAST
        for log, ratio in zip(logs, ratios, strict=True)
    ]


def _clipped(value: float, most: float) -> float:
    return min(max(value, -most), most)
