"""Detectors whose learned part comes by the clock, played as a sidecar plays them: fits and reviews between two rows.

A row of the past is never asked about again and the future is never seen: a fit or a review at row n knows the values
of its series before row n, and acts from row n on. It runs outside of the measured time; a sidecar has it done by
another process.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bridge.analysis.detectors.fitted import FittedBank, ask_of
from bridge.analysis.detectors.surprise import is_flagged
from bridge.analysis.selected import HISTORY, Selected, reviewed

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DAY_ROWS = 288
#: Nightly trials are what a sidecar does; here they come each fourth day, a benchmark is to end.
TRIAL_ROWS = 4 * DAY_ROWS


class Refitted:
    """A fitted detector alone: a fit each day of rows."""

    def __init__(self, kind: type[FittedBank], count: int) -> None:
        self._kind, self._bank = kind, kind(count)
        self._past: list[list[tuple[float, float, bool]]] = [[] for _ in range(count)]

    def score_many(self, series: Ints, times_s: Floats, values: Floats) -> Floats:
        return self._bank.score_many(series, times_s, values)

    def learn_many(self, series: Ints, times_s: Floats, values: Floats, scores: Floats) -> None:
        self._bank.learn_many(series, times_s, values, scores)
        for slot, *told in zip(
            series.tolist(), times_s.tolist(), values.tolist(), is_flagged(scores).tolist(), strict=True
        ):
            self._past[slot].append((told[0], told[1], told[2]))

    def tick(self, series: Ints, row: int) -> None:
        if (row + 1) % (DAY_ROWS if self._kind.LEAST < HISTORY // 4 else 7 * DAY_ROWS):
            return
        for slot in series.tolist():
            times_s, values, marks = (
                np.array(part) for part in zip(*self._past[slot][-HISTORY:], strict=True)
            )
            fit = self._kind.fit(ask_of("nab", str(slot), row, (times_s, values), marks.astype(bool)))
            if fit is not None:
                self._bank.take(slot, fit)


class Reviewed:
    """The selection: a review each day of rows, with trials or by class alone."""

    def __init__(self, count: int, *, with_trials: bool) -> None:
        self.bank = Selected(count)
        self._with_trials = with_trials

    def score_many(self, series: Ints, times_s: Floats, values: Floats) -> Floats:
        return self.bank.score_many(series, times_s, values)

    def learn_many(self, series: Ints, times_s: Floats, values: Floats, scores: Floats) -> None:
        self.bank.learn_many(series, times_s, values, scores)

    def tick(self, series: Ints, row: int) -> None:
        if (row + 1) % (TRIAL_ROWS if self._with_trials else DAY_ROWS):
            return
        asks = [self.bank.ask(slot, tenant="nab", name=str(slot), tick=row) for slot in series.tolist()]
        reviews = reviewed(asks, with_trials=self._with_trials)
        for slot, review in zip(series.tolist(), reviews, strict=True):
            self.bank.take(slot, review)
