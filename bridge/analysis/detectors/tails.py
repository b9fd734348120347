"""Tails: how rare is a deviation this large, learned from the deviations that a series had.

Theory: peaks over a threshold (Pickands; Siffer et al., Anomaly Detection in Streams with Extreme Value Theory, KDD
2017: SPOT and, with a drifting baseline, DSPOT). Below a threshold u that few deviations exceed, their own frequency is
the tail probability; above it the excesses follow a generalised Pareto law whatever the distribution was, so that
values never seen before have one, too. As all deviations here are positive and relative to their own scale, the law is
taken for its heavy branch in logarithms: log(z/u) is exponential with mean gamma (Hill, Annals of Statistics 1975),
p(z) = P(u) (z/u)^(-1/gamma).

Assumptions: deviations are comparable over the memory (about `MEMORY` values, older ones fade), and as good as
independent; where they are not, alarms come in clusters, which is what a hold-off is for.

Decision: Hill's estimate rather than Grimshaw's maximum likelihood, because it is one weighted mean, never fails to
converge, errs towards tails that are too heavy (silence) and, shrunk towards `GAMMA_PRIOR`, is usable after sixty
values. And histograms over the logarithm, quarter octaves, rather than lists of peaks: they fade with time by
multiplication, need no sorting, and have a fixed size. A light (Gaussian) tail is overestimated by that, a tenfold at
p = 1e-4; it is so for all series alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge.analysis.detectors.surprise import FLAGGED, tail_of

Floats = NDArray[np.float64]
Small = NDArray[np.float32]

BINS = 64
LOWEST = -4.0  # octaves of the scale, where bins begin
STEP = 0.25  # octaves
LEAST, MOST = -60.0, 600.0  # octaves
MEMORY = 8000.0
#: Which share of the values lies above u; but at least `PEAKS` of them.
ABOVE = 0.03
PEAKS = 8.0
GAMMA_PRIOR = 0.3
GAMMA_WEIGHT = 6.0  # peaks
#: The scale is a mean in which nothing counts more than `SCALE_CLIP` times the scale: about the last 500 values.
SCALE_MEMORY = 500.0
SCALE_CLIP = 6.0
SETTLED = 20.0  # values until clipping begins
_EDGES = LOWEST + STEP * np.arange(BINS)
_MIDDLES = _EDGES + STEP / 2
_BINS = np.arange(BINS)
_FLAGGED_TAIL = float(tail_of(np.array(FLAGGED)))


def octaves(deviation: Floats, scale: Floats) -> Floats:
    """Return log2(deviation / scale) between `LEAST` and `MOST`; 0 / 0 is the least."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        found = np.log2(deviation / scale)
    return np.fmin(np.fmax(found, LEAST), MOST)  # fmax takes NaN for the least


def tail(place: Floats, hist: Small, threshold: Floats, above: Floats, gamma: Floats) -> Floats:
    """Return tail probabilities in (0, 1].

    Args:
        place: Octaves of the deviations, shape (...).
        hist: How many values lay where, shape (..., BINS).
        threshold: u, octaves, shape as `place`.
        above: P(deviation > u).
        gamma: Mean excess over u, natural logarithms.
    """
    spot = np.minimum(np.maximum((place - LOWEST) / STEP, 0.0), BINS - 1e-6)
    whole = spot.astype(np.int64)
    higher = (hist * (whole[..., None] < _BINS)).sum(-1, dtype=np.float64)
    own = _rows(hist)[np.arange(whole.size), whole.ravel()].reshape(whole.shape)
    total = hist.sum(-1, dtype=np.float64)
    seen = (higher + own * (1.0 - (spot - whole)) + 0.5) / (total + 1.0)
    beyond = above * np.exp2(-np.maximum(place - threshold, 0.0) / gamma)
    return np.minimum(np.where(place > threshold, beyond, seen), 1.0)


def fitted(hist: Small) -> tuple[Floats, Floats, Floats]:
    """Return (threshold, above, gamma) of histograms of shape (..., BINS)."""
    beyond = np.cumsum(hist[..., ::-1], -1, dtype=np.float64)[..., ::-1]
    total = beyond[..., 0]
    wanted = np.maximum(ABOVE * total, PEAKS)
    place = np.maximum((beyond >= wanted[..., None]).sum(-1) - 1, 0)
    threshold = _EDGES[place]
    peaks = _rows(beyond)[np.arange(place.size), place.ravel()].reshape(place.shape)
    is_peak = place[..., None] <= _BINS
    excess = (hist * is_peak * (_MIDDLES - threshold[..., None])).sum(-1)
    # (z/u)^(-1/gamma) = 2^(-octaves / gamma), gamma being the mean excess in natural logarithms.
    gamma = (excess * np.log(2.0) + GAMMA_PRIOR * GAMMA_WEIGHT) / (peaks + GAMMA_WEIGHT)
    return threshold, peaks / (total + 1.0), gamma


def edge(threshold: Floats, above: Floats, gamma: Floats) -> Floats:
    """Return the octaves from which on a deviation is flagged: nothing further out is learned from."""
    return threshold + gamma * np.log2(np.maximum(above / _FLAGGED_TAIL, 1.0))


def learned(hist: Small, place: Floats) -> Small:
    """Return histograms after one more value each."""
    spot = np.minimum(np.maximum((place - LOWEST) / STEP, 0.0), BINS - 1.0).astype(np.int64)
    more: Small = hist * np.float32(1.0 - 1.0 / MEMORY)
    _rows(more)[np.arange(spot.size), spot.ravel()] += np.float32(1.0)
    return more


def _rows(hist: NDArray[Any]) -> NDArray[Any]:
    return hist.reshape(-1, BINS)


def rescaled(scale: Floats, deviation: Floats, count: Floats) -> Floats:
    """Return scales after one more deviation each, `count` before it."""
    free = (count < SETTLED) | (scale == 0.0)
    usual = np.where(free, deviation, np.minimum(deviation, SCALE_CLIP * scale))
    return np.where(count == 0.0, deviation, scale + (usual - scale) / np.minimum(count + 1.0, SCALE_MEMORY))
