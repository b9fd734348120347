"""Characteristics: what kind of series this is, in a dozen numbers, from its own past and nothing else.

Theory: which detector suits a series can be told from few properties, as for forecasting methods (Wang, Smith and
Hyndman, "Characteristic-based clustering for time series data", 2006; Kang, Hyndman and Smith-Miles, "Visualising
forecasting algorithm performance using time series instance spaces", 2017): its length, how sparse and how discrete
it is, how strongly a day or a week repeats, whether its level holds, how heavy its tails are.

Rules: a pure function of times and values. Every number is finite and in the range that its comment gives, for any
input at all; what cannot be known yet is 0. No number depends on the unit of the values, but for `whole` and
`zeros`, which are about counts.

Decision: autocorrelation instead of a decomposition (STL, as `tsfeatures` has it). It needs one Fourier transform,
stands gaps (each lag is divided by the pairs that were there), and half a day of history says nothing about a day
instead of something wrong. Values are drawn in to the 1st and 99th percentile first, or one spike decides it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bridge.model import Word

Floats = NDArray[np.float64]

#: Only the newest points are looked at: two weeks of minutes, eight weeks of five minutes.
MOST_CELLS = 20_160
DAY_S, WEEK_S = 86_400.0, 604_800.0
#: A lag is only spoken of when this many times as much was seen.
LEAST_CYCLES = 2.5
#: Blocks that are compared to see whether the level holds.
BLOCKS = 10
#: A hill of the autocorrelation this high, against the highest, is as good.
ALMOST = 0.9
#: Beyond this a value says no more than that it is huge.
_HUGE = 1e150
#: A time beyond the year 9999 is none.
_LATEST_S = 2.6e11


class Characteristics(Word, frozen=True, kw_only=True):
    """What a series is like. Shares and correlations are 0..1."""

    points: int  # usable values
    step_s: float  # the usual time from one point to the next; 0 with fewer than two
    span_s: float  # from the first point to the last
    missing: float  # share of the places on the grid of `step_s` without a usable value
    zeros: float  # share of the values that are 0
    whole: float  # share of the values that are whole numbers and not below 0
    commonest: float  # share of the commonest value: 1 is a constant
    distinct: float  # distinct values as a share of all
    dispersion: (
        float  # variance / mean as a share, v / (v + m): 0.5 for Poisson counts; 0 where the mean is <= 0
    )
    memory: float  # autocorrelation from one point to the next
    day: float  # autocorrelation at a day
    week: float  # at a week
    cycle: float  # at the strongest other lag, beyond where the memory of the last points ends
    cycle_s: float  # that lag; 0 without one
    trend: float  # share of the variance that a straight line explains
    wander: float  # share of the variance that lies between blocks of the past, not inside of them
    spikes: (
        float  # share of the range (1 - quartile distance / (99.5th - 0.5th percentile)): 0.7 for a normal
    )


#: Of a series nobody has seen yet.
UNSEEN = Characteristics(
    points=0, step_s=0.0, span_s=0.0, missing=0.0, zeros=0.0, whole=0.0, commonest=0.0, distinct=0.0, dispersion=0.0,
    memory=0.0, day=0.0, week=0.0, cycle=0.0, cycle_s=0.0, trend=0.0, wander=0.0, spikes=0.0,
)  # fmt: skip


def characteristics(times_s: Floats, values: Floats) -> Characteristics:
    """Return what the series is like.

    Args:
        times_s: Epoch seconds, in any order, of equal shape with `values`; of two equal times the later row counts.
        values: NaN and infinities are gaps.

    Cost: about 2 ms for 4,000 points; grows like n log n up to `MOST_CELLS`.
    """
    times_s, values = _usable(times_s, values)
    if not len(values):
        return UNSEEN
    step_s = _step(times_s)
    grid = _grid(times_s, values, step_s)
    seen = grid[np.isfinite(grid)]
    _, counts = np.unique(values, return_counts=True)
    whole = (values >= 0.0) & (values == np.floor(values))
    repeating = _repeating(grid, step_s)
    return Characteristics(
        points=len(values), step_s=step_s, span_s=float(times_s[-1] - times_s[0]),
        missing=_share(1.0 - len(seen) / len(grid)), zeros=_share(float(np.mean(values == 0.0))),
        whole=_share(float(np.mean(whole))), commonest=_share(float(counts.max()) / len(values)),
        distinct=_share(len(counts) / len(values)), dispersion=_dispersion(values), **repeating,
        trend=_trend(times_s, values), wander=_wander(values), spikes=_spikes(values),
    )  # fmt: skip


def _usable(times_s: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Return the newest points in order of time, one for each time, without gaps and without what overflows."""
    good = np.isfinite(values) & (np.abs(times_s) < _LATEST_S)
    times_s, values = times_s[good], np.clip(values[good], -_HUGE, _HUGE)
    order = np.argsort(times_s, kind="stable")
    times_s, values = times_s[order], values[order]
    last = np.append(times_s[1:] != times_s[:-1], True)[: len(times_s)]
    return times_s[last][-MOST_CELLS:], values[last][-MOST_CELLS:]


def _share(value: float) -> float:
    return min(1.0, max(0.0, value)) if np.isfinite(value) else 0.0


def _step(times_s: Floats) -> float:
    return float(np.median(np.diff(times_s))) if len(times_s) > 1 else 0.0


def _grid(times_s: Floats, values: Floats, step_s: float) -> Floats:
    """Return the values on a grid of `step_s` that ends with the newest, NaN where there is none."""
    if step_s <= 0.0:
        return values
    back = np.rint(np.minimum((times_s[-1] - times_s) / step_s, MOST_CELLS))
    near = back < MOST_CELLS
    cells = back[near].astype(np.int64)
    grid = np.full(int(cells.max()) + 1, np.nan)
    grid[cells] = values[near]
    return grid[::-1]


def _scaled(values: Floats) -> Floats:
    """Return values without a unit, drawn in to their 1st and 99th percentile: finite, around 0."""
    low, middle, high = np.quantile(values, (0.01, 0.5, 0.99))
    drawn = np.clip(values, low, high) - middle
    widest = float(np.max(np.abs(drawn), initial=0.0))
    return drawn / widest if widest > 0.0 else np.zeros_like(drawn)


def _repeating(grid: Floats, step_s: float) -> dict[str, float]:
    """Return `memory`, `day`, `week`, `cycle` and `cycle_s`."""
    found = dict.fromkeys(("memory", "day", "week", "cycle", "cycle_s"), 0.0)
    there = np.isfinite(grid)
    if step_s <= 0.0 or not there.any():
        return found
    level = np.zeros(len(grid))
    level[there] = _scaled(grid[there])
    level[there] -= level[there].mean()
    again = _autocorrelation(level, there)
    found["memory"] = _share(float(again[1])) if len(again) > 1 else 0.0
    for name, lag_s in (("day", DAY_S), ("week", WEEK_S)):
        lag = round(lag_s / step_s)
        if 1 < lag < len(again):
            found[name] = _share(float(again[max(1, lag - 1) : lag + 2].max()))
    below = np.flatnonzero(again <= 0.0)
    if len(below):
        # Past the first lag without any likeness, the highest hill is what the series does again and again; of its
        # multiples, which are hills too, the first.
        rest = again[below[0] :]
        high = int(np.argmax(rest >= ALMOST * rest.max()))
        top = high + int(np.argmax(rest[high : 2 * high + 1]))
        found["cycle"], found["cycle_s"] = _share(float(rest[top])), float(below[0] + top) * step_s
    if found["cycle"] == 0.0:
        found["cycle_s"] = 0.0
    return found


def _autocorrelation(level: Floats, there: NDArray[np.bool_]) -> Floats:
    """Return the autocorrelation at lags 0, 1, ... up to what was seen `LEAST_CYCLES` times, gaps left out."""
    lags = int(len(level) / LEAST_CYCLES) + 1
    size = 1 << int(2 * len(level) - 1).bit_length()
    products = np.fft.irfft(np.abs(np.fft.rfft(level, size)) ** 2, size)[:lags]
    pairs = np.rint(np.fft.irfft(np.abs(np.fft.rfft(there.astype(np.float64), size)) ** 2, size)[:lags])
    mean: Floats = products / np.maximum(pairs, 1.0)
    variance = float(mean[0])
    if variance <= 1e-12:  # noqa: PLR2004 - of values within -1..1: a constant, but for rounding
        return np.zeros(lags)
    return np.where(pairs >= 0.25 * pairs[0], mean / variance, 0.0)


def _dispersion(values: Floats) -> float:
    top = float(np.max(np.abs(values)))
    shrunk = values / top if top > 0.0 else values
    mean, variance = float(np.mean(shrunk)), float(np.var(shrunk))
    if mean <= 0.0:
        return 0.0
    return variance / (variance + mean / top)


def _trend(times_s: Floats, values: Floats) -> float:
    if len(values) < BLOCKS:
        return 0.0
    along, level = _scaled(times_s), _scaled(values)  # one unit for both; a lone time far away is drawn in
    along, level = along - along.mean(), level - level.mean()
    spread = float(np.dot(along, along) * np.dot(level, level))
    return _share(float(np.dot(along, level)) ** 2 / spread) if spread > 0.0 else 0.0


def _wander(values: Floats) -> float:
    """Return the share of the variance between `BLOCKS` equal blocks, less what chance alone would give."""
    if len(values) < 2 * BLOCKS:
        return 0.0
    level = _scaled(values)
    total = float(np.var(level))
    means = np.array([part.mean() for part in np.array_split(level, BLOCKS)])
    return _share(float(np.var(means)) / total - BLOCKS / len(values)) if total > 0.0 else 0.0


def _spikes(values: Floats) -> float:
    if len(values) < 2 * BLOCKS:
        return 0.0
    bottom, low, high, top = np.quantile(values / 4, (0.005, 0.25, 0.75, 0.995)).tolist()
    return _share(1.0 - (high - low) / (top - bottom)) if top > bottom else 0.0
