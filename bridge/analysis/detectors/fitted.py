"""Fitted detectors: what is learned by the clock in the models' process, and asked here with a few array operations.

Theory: a forest or a network needs all of a series' recent past at once and seconds of a processor, which the path of
an alert has not. So the two halves are apart: `fit(ask)` is a pure function of a snapshot of one series, in a process
that may import scikit-learn or torch; what it returns is bytes, the rows of the columns that hold what was learned.
`take` puts them in force for a series. Between two fits the learned part stands still; only the window, the last
values of the series, moves on.

From a strangeness in the unit of its model to a tail probability: a fit asks its own history, keeps a table of
quantiles for what is usual, and beyond the 95th percentile a generalised Pareto distribution by probability weighted
moments (Hosking and Wallis, "Parameter and quantile estimation for the generalized Pareto distribution", 1987; that a
tail beyond a high threshold has this shape: Pickands 1975). A shape below 0, a tail that ends, is taken for 0.

Rules: a fit is seeded by who asked for what and when, its rows are in order, it runs in one thread; the same ask gives
the same bytes. A fit learns nothing from what was flagged, unless it is more than a fifth of the history: then it is
how the series is now. What was flagged does not enter the window either, unless `PATIENCE` came in a row.
"""

from __future__ import annotations

from abc import abstractmethod
from hashlib import blake2b
from typing import ClassVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from typing_extensions import override

from bridge.analysis.detectors.bank import FARTHEST, Bank, Floats, bounded
from bridge.analysis.detectors.slots import Column, Ints
from bridge.analysis.detectors.surprise import is_flagged, score_of
from bridge.model import Word

Bools = NDArray[np.bool_]

#: Flagged values in a row after which they are taken for the new usual.
PATIENCE = 12
#: If more of the history than this was flagged, it is learned from all the same.
MOST_FLAGGED = 0.2
QUANTILES = 64
#: The tail begins where this share of the history is less strange.
TAIL_FROM = 0.95
#: The heaviest tail that is believed.
MOST_SHAPE = 0.5
#: Values that a fit needs, of any model.
LEAST_POINTS = 200
_ROUNDING = 1e-12
_DAY_S = 86_400.0
_LATEST_S = 2.6e11  # beyond the year 9999 a time has no hour


class FitAsk(Word, frozen=True, kw_only=True):
    """All that one fit may know: the recent past of one series, oldest first."""

    tenant: str
    series: str  # how its owner calls it
    tick: int  # of the snapshot
    times_s: bytes  # float64 each
    values: bytes  # float64 each, as they came
    flagged: bytes  # one byte each, 1 = was too strange to learn from

    def read(self) -> tuple[Floats, Floats, Bools]:
        """Return times, values and what was flagged, without the values that are no number.

        Raises:
            ValueError: The parts differ in length.
        """
        times_s, values = np.frombuffer(self.times_s, "<f8"), bounded(np.frombuffer(self.values, "<f8"))
        flagged = np.frombuffer(self.flagged, np.uint8).astype(np.bool_)
        if not len(times_s) == len(values) == len(flagged):
            raise ValueError("a snapshot has as many times, values and flags")
        good = np.isfinite(values) & (np.abs(times_s) < _LATEST_S)
        return times_s[good], values[good], flagged[good]

    def seed(self, model: str) -> int:
        """Return the seed of a fit, 32 bits."""
        named = "\0".join((self.tenant, self.series, model, str(self.tick))).encode()
        return int.from_bytes(blake2b(named, digest_size=4).digest(), "little")


def ask_of(
    tenant: str, series: str, tick: int, history: tuple[Floats, Floats], flagged: Bools | None = None
) -> FitAsk:
    """Return the ask for a history of (times, values)."""
    times_s, values = (np.ascontiguousarray(part, "<f8") for part in history)
    marks = np.zeros(len(values), np.uint8) if flagged is None else flagged.astype(np.uint8)
    return FitAsk(
        tenant=tenant, series=series, tick=tick, times_s=times_s.tobytes(), values=values.tobytes(),
        flagged=marks.tobytes(),
    )  # fmt: skip


class Unit(Word, frozen=True, kw_only=True):
    """What makes the values of one series comparable with others'."""

    middle: float
    spread: float  # > 0
    jump: float  # the usual size of a step from one value to the next, in spreads, > 0
    daily: float  # 1 if the history is long enough to know hours, else 0


def unit_of(times_s: Floats, values: Floats) -> Unit:
    """Return the unit of a history, by medians; where half of it is one value, by what is left."""
    middle = float(np.median(values))
    # Not so small that rounding looks like a change, nor that a huge value has no finite distance.
    spread = max(_typical(np.abs(values - middle)), _ROUNDING * abs(middle), 1.0 / FARTHEST)
    jump = _typical(np.abs(np.diff(values))) / spread
    daily = float(times_s.max() - times_s.min() >= 2.0 * _DAY_S)
    return Unit(middle=middle, spread=spread, jump=jump if jump > 0.0 else 1.0, daily=daily)


def _typical(sizes: Floats) -> float:
    """Return the median of sizes >= 0, or of those above 0, or 1."""
    above = sizes[sizes > 0.0]
    if not len(above):
        return 1.0
    # A few steps beside a constant must not make the unit as small as rounding.
    usual = float(np.median(sizes))
    return 1.4826 * usual if usual > 0.0 else float(np.median(above))


class FittedBank(Bank):
    """A detector whose learned part comes from `fit`, for many series."""

    #: Values in the window, the newest included.
    WINDOW: ClassVar[int]
    #: How many kinds of strangeness the model tells apart.
    VIEWS: ClassVar[int]
    #: Values that a fit of this model needs.
    LEAST: ClassVar[int] = LEAST_POINTS
    #: What was learned; `own_columns` puts the shared ones in front.
    LEARNED: ClassVar[tuple[Column, ...]]

    recent: Floats
    held: Ints
    refused: Ints
    fitted: Ints
    unit: Floats
    ranks: Floats
    tails: Floats

    @classmethod
    @abstractmethod
    def learn(
        cls, windows: Floats, times_s: Floats, unit: Unit, seed: int
    ) -> tuple[NDArray[np.generic], ...]:
        """Return what the model learns, as the columns of its own in `LEARNED`; only in the models' process.

        Args:
            windows: Rows in the unit, oldest first, shape (n, WINDOW).
            times_s: Of the newest value of each, shape (n,).
            unit: Of the series.
            seed: Of all chance.
        """

    @abstractmethod
    def strangeness(self, series: Ints, windows: Floats, times_s: Floats) -> Floats:
        """Return how strange each window is in each of the views, shape (n, VIEWS), higher = stranger.

        Shapes as in `learn`; all of these series have been fitted.
        """

    @classmethod
    def fit(cls, ask: FitAsk) -> bytes | None:
        """Return what is learned from a snapshot, for `take`; None with fewer than `LEAST` usable values."""
        times_s, values, flagged = ask.read()
        if flagged.sum() <= MOST_FLAGGED * len(values):
            times_s, values = times_s[~flagged], values[~flagged]
        if len(values) < cls.LEAST:
            return None
        unit = unit_of(times_s, values)
        numbers = np.array([unit.middle, unit.spread, unit.jump, unit.daily])
        windows = np.ascontiguousarray(sliding_window_view(_in_unit(values, numbers), cls.WINDOW))
        ends_s = times_s[cls.WINDOW - 1 :]
        bank = cls(1)
        bank.unit[0] = numbers
        learned = cls.learn(windows, ends_s, unit, ask.seed(cls.NAME))
        for column, found in zip(cls.LEARNED[-len(learned) :], learned, strict=True):
            getattr(bank, column.name)[0] = found
        strange = bank.strangeness(np.zeros(len(windows), np.int64), windows, ends_s)
        for view in range(cls.VIEWS):
            bank.ranks[0, view], bank.tails[0, view] = _tail_of(strange[:, view])
        return b"".join(getattr(bank, column.name)[0].tobytes() for column in cls.LEARNED)

    @classmethod
    def fit_bytes(cls) -> int:
        """Return how long a fit is."""
        return sum(column.bytes_each for column in cls.LEARNED)

    def take(self, series: int, fit: bytes) -> None:
        """Put a fit in force for a series; its window stays. ValueError where it is of another length."""
        if len(fit) != self.fit_bytes():
            raise ValueError(f"a fit of {len(fit)} bytes, {self.fit_bytes()} are expected")
        at = 0
        for column in self.LEARNED:
            found = np.frombuffer(fit, column.dtype, int(np.prod(column.shape, dtype=np.int64)), at)
            getattr(self, column.name)[series] = found.reshape(column.shape)
            at += column.bytes_each
        self.fitted[series] = 1

    @override
    def score_many(self, series: Ints, times_s: Floats, values: Floats) -> Floats:
        values = bounded(values)
        ready = (self.fitted[series] > 0) & (self.held[series] >= self.WINDOW - 1) & np.isfinite(values)
        scores = np.full(len(series), np.nan)
        if ready.any():
            asked = series[ready]
            windows = np.column_stack((self.recent[asked], values[ready]))
            windows = _in_unit(windows, self.unit[asked][:, :, None])
            strange = self.strangeness(asked, windows, times_s[ready])
            tails = np.stack(
                [_tails(strange[:, v], self.ranks[asked, v], self.tails[asked, v]) for v in range(self.VIEWS)]
            )
            scores[ready] = score_of(np.minimum(1.0, tails.min(axis=0) * self.VIEWS))
        return scores

    @override
    def learn_many(self, series: Ints, times_s: Floats, values: Floats, scores: Floats) -> None:
        values = bounded(values)
        there = np.isfinite(values)
        flagged = there & is_flagged(scores) & (self.refused[series] < PATIENCE)
        self.refused[series[flagged]] += 1
        taken = there & ~flagged
        series, values = series[taken], values[taken]
        # Patience returns only with a usual value: a lasting change is let in from its thirteenth value on.
        self.refused[series[~is_flagged(scores[taken])]] = 0
        self.recent[series, :-1] = self.recent[series, 1:]
        self.recent[series, -1] = values
        self.held[series] = np.minimum(self.held[series] + 1, self.WINDOW - 1)


def own_columns(window: int, views: int) -> tuple[tuple[Column, ...], tuple[Column, ...]]:
    """Return the columns that every fitted detector has: what moves on, and what a fit brings."""
    moving = (
        Column("recent", "<f8", (window - 1,)), Column("held", "<i2"), Column("refused", "<i2"), Column("fitted", "<i2")
    )  # fmt: skip
    learned = (
        Column("unit", "<f8", (4,)),
        Column("ranks", "<f4", (views, QUANTILES)),
        Column("tails", "<f8", (views, 4)),
    )
    return moving, learned


def hours(times_s: Floats) -> Floats:
    """Return the sine and cosine of the time of day (UTC), shape (n, 2)."""
    angle = np.where(np.abs(times_s) < _LATEST_S, times_s, 0.0) % _DAY_S * (2.0 * np.pi / _DAY_S)
    return np.column_stack((np.sin(angle), np.cos(angle)))


def _in_unit(values: Floats, unit: Floats) -> Floats:
    """Return values as distances from the middle in spreads, far ones drawn in by an area hyperbolic sine.

    `unit` has the numbers of a `Unit`, along the axis before the last where there is one for each row.
    """
    middle, spread = (unit[0], unit[1]) if unit.ndim == 1 else (unit[:, 0], unit[:, 1])
    drawn: Floats = np.arcsinh((values - middle) / spread)
    return drawn


def _tail_of(strange: Floats) -> tuple[Floats, Floats]:
    """Return the quantiles of what is usual and (threshold, scale, shape, share beyond) of the tail."""
    ordered = np.sort(strange)
    ranks = np.quantile(ordered, np.linspace(0.0, TAIL_FROM, QUANTILES))
    start = float(ranks[-1])
    beyond = ordered[ordered > start] - start
    share = max(1, len(beyond)) / (len(ordered) + 1.0)
    if not len(beyond) or float(beyond.max()) <= 0.0:
        return ranks, np.array([start, max(1e-9, 0.05 * abs(start)), 0.0, share])
    weights = (len(beyond) - np.arange(len(beyond)) - 0.65) / len(beyond)
    mean, weighted = float(beyond.mean()), float(np.mean(np.clip(weights, 0.0, 1.0) * beyond))
    apart = mean - 2.0 * weighted
    shape = 2.0 - mean / apart if apart > 0.0 else 0.0
    shape = min(MOST_SHAPE, max(0.0, shape))
    return ranks, np.array([start, mean * (1.0 - shape), shape, share])


def _tails(strange: Floats, ranks: Floats, tails: Floats) -> Floats:
    """Return the tail probability of each strangeness; parameters one row each."""
    start, scale, shape, share = tails.T
    below = np.sum(strange[:, None] > ranks, axis=1) / QUANTILES
    usual = 1.0 - below * (1.0 - share)
    out = np.maximum(0.0, strange - start) / scale
    heavy = shape > 1e-6  # noqa: PLR2004 - below it is an exponential tail
    power = np.exp(-np.log1p(np.where(heavy, shape, 1.0) * out) / np.where(heavy, shape, 1.0))
    beyond: Floats = share * np.where(heavy, power, np.exp(-out))
    return np.where(strange > start, beyond, usual)
