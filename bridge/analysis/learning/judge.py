"""Judge: a linker in force, which says of pairs of alerts how likely they share a cause."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bridge.analysis.learning.words import Linker
from bridge.analysis.pairs import FEATURES, LAG_EDGES, LAGS, SEEN_ALONE, Columns, Floats, Ints, Rows
from bridge.analysis.trees import Ensemble

MAX_SQUARE = 1 << 19  # pairs of families up to which a linker in force has a place for each
SURE = 0.995  # no probability is nearer to 0 or 1


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
