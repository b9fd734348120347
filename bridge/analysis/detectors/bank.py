"""A bank: the shape of every detector; the contract is told in the package's own docstring."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bridge.analysis.detectors.slots import Ints, Slots

Floats = NDArray[np.float64]

#: Values further out are taken for this one: its square and the difference of two of them are still numbers.
FARTHEST = 1e150


class Bank(Slots):
    """A detector for many series."""

    #: What the column `model`, the API and the docs call it.
    NAME: ClassVar[str]

    @abstractmethod
    def score_many(self, series: Ints, times_s: Floats, values: Floats) -> Floats:
        """Return how strange each value is, 0..1, NaN where nothing can be said; nothing is changed.

        Args:
            series: Slots, each at most once, shape (n,).
            times_s: When, epoch s, shape (n,).
            values: What, shape (n,).
        """

    @abstractmethod
    def learn_many(self, series: Ints, times_s: Floats, values: Floats, scores: Floats) -> None:
        """Take in values with the scores that `score_many` gave them; shapes as there."""

    def score_one(self, series: int, time_s: float, value: float) -> float:
        """Return the score of one value of one series."""
        found = self.score_many(np.array([series]), np.array([time_s]), np.array([value]))
        return float(found[0])

    def learn_one(self, series: int, time_s: float, value: float, score: float) -> None:
        """Take in one value of one series."""
        self.learn_many(np.array([series]), np.array([time_s]), np.array([value]), np.array([score]))


def bounded(values: Floats) -> Floats:
    """Return the values, none further out than `FARTHEST`; what is no number stays none (inf becomes NaN)."""
    return np.where(np.isfinite(values), np.minimum(np.maximum(values, -FARTHEST), FARTHEST), np.nan)
