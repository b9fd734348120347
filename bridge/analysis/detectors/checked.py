"""Checked scores: a detector that promises small tail probabilities too often is believed less.

Theory: if a detector is right about p, a share of p0 of its scores lies at or above the surprise of p0, and what they
exceed it by is exponential with the mean of one factor of e (the probability integral transform; the exponential as the
limit of excesses: Pickands 1975). So two numbers per series, the share and the mean excess, say how far off it is, and
p = share * exp(-excess / mean) is what its score really means on this series.

Rules: scores are only ever taken back, never raised: that a detector was too modest so far is no evidence for an
alarm. Both numbers begin as promised, with the weight of `PRIOR_VALUES` and `PRIOR_EXCESSES`. A single score counts for
at most `MOST_EXCESS` mean excesses, so an anomaly teaches little.

Decision: for detectors whose law is assumed (`counts`) or stands still between fits (`forest`, `autoencoder`). `spot`
and `shape` learn the tails of what they see as they go; to check them once more only adds noise.

Cost: a dozen array operations. Memory: 24 bytes a series.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bridge.analysis.detectors.slots import Column, Ints, Slots
from bridge.analysis.detectors.surprise import DECADES, score_of

Floats = NDArray[np.float64]

#: From this score on a promise is checked: p0 = 0.01.
FROM_TAIL = 0.01
FROM = 2.0 / DECADES
#: One factor of e, as a score.
PROMISED = 1.0 / (DECADES * float(np.log(10.0)))
PRIOR_VALUES, PRIOR_EXCESSES = 100.0, 8.0
MOST_EXCESS = 3.0
MEMORY = 3000.0  # values


class Checked(Slots):
    """How far each series' scores have been from what they promise."""

    COLUMNS = (Column("seen"), Column("high"), Column("excess"))
    seen: Floats
    high: Floats
    excess: Floats

    def score_many(self, series: Ints, scores: Floats) -> Floats:
        """Return what the scores mean on their series; nothing is changed. NaN stays NaN."""
        share, mean = self._found(series)
        above = np.maximum(scores - FROM, 0.0)
        tail = share * np.exp(-above / mean)
        # Below, one straight line from 0 to where the checked part begins.
        below = scores * (score_of(share) / FROM)
        return np.where(scores > FROM, score_of(tail), below)

    def learn_many(self, series: Ints, scores: Floats) -> None:
        """Take the scores in, as they were before `score_many`."""
        there = ~np.isnan(scores)
        series, scores = series[there], scores[there]
        _, mean = self._found(series)
        high, fade = scores > FROM, 1.0 - 1.0 / MEMORY
        more = np.where(high, np.minimum(scores - FROM, MOST_EXCESS * mean), 0.0)
        self.seen[series] = self.seen[series] * fade + 1.0
        self.high[series] = self.high[series] * fade + high
        self.excess[series] = self.excess[series] * fade + more

    def _found(self, series: Ints) -> tuple[Floats, Floats]:
        """Return the share of high scores and their mean excess, neither below what was promised."""
        high = self.high[series]
        share = (high + PRIOR_VALUES * FROM_TAIL) / (self.seen[series] + PRIOR_VALUES)
        mean = (self.excess[series] + PRIOR_EXCESSES * PROMISED) / (high + PRIOR_EXCESSES)
        return np.maximum(share, FROM_TAIL), np.maximum(mean, PROMISED)
