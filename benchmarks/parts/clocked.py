"""Detectors whose learned part comes by the clock, played as a sidecar plays them: fits and reviews between two rows.

A row of the past is never asked about again and the future is never seen: a fit or a review at row n knows the values
of its series before row n, and acts from row n on. It runs outside of the measured time; a sidecar has it done by
another process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge.analysis.champions import Standing
from bridge.analysis.detectors.fitted import FittedBank, ask_of
from bridge.analysis.detectors.spot import SpotBank
from bridge.analysis.detectors.surprise import is_flagged
from bridge.analysis.reviewing import HISTORY, SeriesAsk, reviewed
from bridge.app.scoring import is_look
from bridge.pipeline.banks import Banks

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DAY_ROWS = 288
#: Nightly trials are what a sidecar does; here they come each fourth day, a benchmark is to end.
TRIAL_ROWS = 4 * DAY_ROWS


class _Pasts:
    """What each series' rows were, and what of it was flagged."""

    def __init__(self, count: int) -> None:
        self._rows: list[list[tuple[float, float, bool]]] = [[] for _ in range(count)]

    def learn(self, series: Ints, times_s: Floats, values: Floats, scores: Floats) -> None:
        for slot, *told in zip(
            series.tolist(), times_s.tolist(), values.tolist(), is_flagged(scores).tolist(), strict=True
        ):
            self._rows[slot].append((told[0], told[1], told[2]))

    def of(self, slot: int) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        times_s, values, marks = (np.array(part) for part in zip(*self._rows[slot][-HISTORY:], strict=True))
        return times_s, values, marks.astype(bool)


class Refitted:
    """A fitted detector alone: a fit each day of rows."""

    def __init__(self, kind: type[FittedBank], count: int) -> None:
        self._kind, self._bank = kind, kind(count)
        self._pasts = _Pasts(count)

    def score_many(self, series: Ints, times_s: Floats, values: Floats) -> Floats:
        return self._bank.score_many(series, times_s, values)

    def learn_many(self, series: Ints, times_s: Floats, values: Floats, scores: Floats) -> None:
        self._bank.learn_many(series, times_s, values, scores)
        self._pasts.learn(series, times_s, values, scores)

    def tick(self, series: Ints, row: int) -> None:
        if (row + 1) % (DAY_ROWS if self._kind.LEAST < HISTORY // 4 else 7 * DAY_ROWS):
            return
        for slot in series.tolist():
            times_s, values, marks = self._pasts.of(slot)
            fit = self._kind.fit(ask_of("nab", str(slot), row, (times_s, values), marks))
            if fit is not None:
                self._bank.take(slot, fit)


class Reviewed:
    """What a sidecar does with its busiest series: one detector each, a review each day of rows."""

    def __init__(self, count: int, *, with_trials: bool) -> None:
        first = Standing(model=SpotBank.NAME, reason="", since_tick=0)
        self.standings = [first] * count
        self._banks, self._pasts, self._with_trials = Banks(), _Pasts(count), with_trials

    def score_many(self, series: Ints, times_s: Floats, values: Floats) -> Floats:
        scores = np.full(len(series), np.nan)
        for places, model in self._by_model(series):
            bank, slots = self._places(series[places], model)
            scores[places] = bank.score_many(slots, times_s[places], values[places])
        return scores

    def learn_many(self, series: Ints, times_s: Floats, values: Floats, scores: Floats) -> None:
        for places, model in self._by_model(series):
            bank, slots = self._places(series[places], model)
            bank.learn_many(slots, times_s[places], values[places], scores[places])
        self._pasts.learn(series, times_s, values, scores)

    def _by_model(self, series: Ints) -> Sequence[tuple[Ints, str]]:
        spoken = np.array([self.standings[slot].model for slot in series.tolist()])
        return [(np.flatnonzero(spoken == model), model) for model in dict.fromkeys(spoken.tolist())]

    def _places(self, series: Ints, model: str) -> tuple[Any, Ints]:
        found = [self._banks.place(str(slot), model) for slot in series.tolist()]
        return found[0][0], np.array([slot for _, slot in found])

    def tick(self, series: Ints, row: int) -> None:
        is_due = (row + 1) % TRIAL_ROWS == 0 if self._with_trials else is_look(row + 1)
        if not is_due:
            return
        asks = []
        for slot in series.tolist():
            times_s, values, marks = self._pasts.of(slot)
            snapshot = ask_of("nab", str(slot), row, (times_s, values), marks)
            asks.append(SeriesAsk(snapshot=snapshot, standing=self.standings[slot], lived=row + 1))
        for slot, review in zip(series.tolist(), reviewed(asks, with_trials=self._with_trials), strict=True):
            self.standings[slot] = review.standing
            if review.row:
                self._banks.put(str(slot), review.standing.model, review.row)
            elif review.fit:
                self._banks.take(str(slot), review.standing.model, review.fit)
