"""Shapes: is the way the last values ran one that this series knows? Sub-PCA, online.

Theory: windows of `WINDOW` values of a series with a usual shape lie near a plane of few dimensions. The plane is that
of the largest eigenvalues of the windows' second moments, which fade; what a window leaves outside of it, against what
windows usually leave, is the deviation whose tail `tails` learns. The idea is principal component analysis on
subsequences (Aggarwal, Outlier Analysis, 2nd edition, section 3.3), of all detectors of TSB-AD the best on
univariate streams (Liu and Paparrizos, The Elephant in the Room, NeurIPS 2024: VUS-PR 0.42).

Learning: values are taken relative to a slow level and scale, no further out than `FARTHEST_SCALES`. A window that is
flagged adds nothing to the moments, and a row of them counts once among the residuals, as the edge of what is flagged;
once `ACCEPTED_AFTER` came in a row, that is how the series runs now.

Assumptions: values come in an even rhythm, the shape that matters is about `WINDOW` values long, and there are hundreds
of values. It needs `WARM_UP` values before it speaks. A single value on a quiet stream is better seen by `spot`.

Cost: 10 us a value in a bank of thousands, most of it the moments; eigenvectors every `FIT_EVERY` values, 0.2 ms.
Memory: 6 KiB a series.

Decision: moments and eigenvectors rather than a matrix profile (the distance to the nearest earlier window): that must
keep all earlier windows, and grows with them; this has a fixed size and forgets.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from bridge.analysis.detectors import tails
from bridge.analysis.detectors.bank import Bank, bounded
from bridge.analysis.detectors.slots import Column, Ints
from bridge.analysis.detectors.surprise import is_flagged, score_of

Floats = NDArray[np.float64]

WINDOW = 24
#: Dimensions of the plane.
RANK = 4
WARM_UP = 144.0
#: Windows from which on residuals are taken: the plane is not one before.
PLANE_FROM = 72.0
MEMORY = 2016.0
LEVEL_MEMORY = 288.0
FARTHEST_SCALES = 50.0
#: What is learned of a window goes no further out than this.
LEARNED_SCALES = 8.0
FIT_EVERY = 24
ACCEPTED_AFTER = 96.0
#: Scales; what is left below that is rounding.
ROUNDING = 1e-9


class ShapeBank(Bank):
    """Sub-PCA with SPOT tails; see the module."""

    NAME = "shape"
    COLUMNS = (
        Column("count"),
        Column("level"),
        Column("size"),  # mean absolute deviation from the level
        Column("recent", shape=(WINDOW - 1,)),
        Column("moments", shape=(WINDOW, WINDOW)),
        Column("plane", shape=(WINDOW, RANK)),
        Column("strange"),  # flagged windows in a row
        Column("windows"),  # residuals seen
        Column("scale"),
        Column("hist", "<f4", (tails.BINS,)),
        Column("threshold"),
        Column("above", first=1.0),
        Column("gamma", first=1.0),
    )
    count: Floats
    level: Floats
    size: Floats
    recent: Floats
    moments: Floats
    plane: Floats
    strange: Floats
    windows: Floats
    scale: Floats
    hist: NDArray[np.float32]
    threshold: Floats
    above: Floats
    gamma: Floats

    @override
    def score_many(self, series: Ints, times_s: Floats, values: Floats) -> Floats:
        known = bounded(values)
        is_known = ~np.isnan(known)
        window = self._window(series, np.where(is_known, known, 0.0))
        place = tails.octaves(self._left(series, window), self.scale[series])
        tail = tails.tail(
            place, self.hist[series], self.threshold[series], self.above[series], self.gamma[series]
        )
        is_ready = is_known & (self.count[series] >= WARM_UP) & (self.scale[series] > 0.0)
        return np.where(is_ready, score_of(tail), np.nan)

    @override
    def learn_many(self, series: Ints, times_s: Floats, values: Floats, scores: Floats) -> None:
        known = bounded(values)
        usable = ~np.isnan(known)
        if not usable.all():
            series, known, scores = series[usable], known[usable], scores[usable]
        if len(series) == 0:
            return
        window = self._window(series, known)
        strange = np.where(is_flagged(scores), self.strange[series] + 1.0, 0.0)
        is_taken = (strange == 0.0) | (strange >= ACCEPTED_AFTER)
        self.strange[series] = strange
        is_counted = is_taken | (strange == 1.0)
        self._learn_tail(series[is_counted], window[is_counted])
        count = self.count[series]
        fade = np.where(is_taken, 1.0 / np.minimum(np.maximum(count - WINDOW + 2.0, 1.0), MEMORY), 0.0)
        moments = self.moments[series]
        learned = np.clip(window, -LEARNED_SCALES, LEARNED_SCALES)
        moments += fade[:, None, None] * (learned[:, :, None] * learned[:, None, :] - moments)
        self.moments[series] = moments
        self.recent[series] = window[:, 1:]
        self._learn_level(series, known)
        self.count[series] = count + 1.0
        self._fit(series)

    def _window(self, series: Ints, values: Floats) -> Floats:
        """Return the last values, relative to the level, the newest last, shape (n, WINDOW)."""
        size = self.size[series]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            place = (values - self.level[series]) / size
        place = np.where(np.isnan(place), 0.0, np.clip(place, -FARTHEST_SCALES, FARTHEST_SCALES))
        place = np.where(self.count[series] == 0.0, 0.0, place)
        return np.concatenate([self.recent[series], place[:, None]], 1)

    def _left(self, series: Ints, window: Floats) -> Floats:
        """Return how much of each window lies outside of its plane, its length, >= 0."""
        plane = self.plane[series]
        inside = np.einsum("nw,nwr->nr", window, plane)
        outside = window - np.einsum("nr,nwr->nw", inside, plane)
        left: Floats = np.sqrt((outside * outside).sum(-1))
        return np.where(left < ROUNDING, 0.0, left)

    def _learn_tail(self, series: Ints, window: Floats) -> None:
        is_plane = self.count[series] >= PLANE_FROM
        series, window = series[is_plane], window[is_plane]
        if len(series) == 0:
            return
        left = self._left(series, window)
        seen = self.windows[series]
        scale = tails.rescaled(self.scale[series], left, seen)
        self.scale[series] = scale
        place = tails.octaves(left, scale)
        most = tails.edge(self.threshold[series], self.above[series], self.gamma[series])
        place = np.where(self.count[series] >= WARM_UP, np.minimum(place, most), place)
        self.hist[series] = tails.learned(self.hist[series], place)
        self.windows[series] = seen + 1.0

    def _learn_level(self, series: Ints, values: Floats) -> None:
        count, size = self.count[series], self.size[series]
        memory = np.minimum(count + 1.0, LEVEL_MEMORY)
        level = np.where(count == 0.0, values, self.level[series])
        most = np.where((count < tails.SETTLED) | (size == 0.0), np.inf, 4.0 * size)
        miss = np.clip(values - level, -most, most)
        self.level[series] = level + miss / memory
        self.size[series] = size + (np.abs(miss) - size) / memory

    def _fit(self, series: Ints) -> None:
        due = series[(self.count[series] % FIT_EVERY == 0) & (self.count[series] >= PLANE_FROM)]
        if len(due):
            _, vectors = np.linalg.eigh(self.moments[due])
            self.plane[due] = vectors[:, :, -RANK:]
        due = series[(self.windows[series] % 8 == 0) & (self.windows[series] > 0)]
        if len(due):
            self.threshold[due], self.above[due], self.gamma[due] = tails.fitted(self.hist[due])
