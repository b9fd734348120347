"""Tails: what was seen has its frequency, what was not has the law of excesses."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bridge.analysis.detectors import tails


def learned(deviations: np.ndarray) -> tuple[np.ndarray, tuple]:
    hist = np.zeros((1, tails.BINS), np.float32)
    for each in tails.octaves(deviations, np.ones(len(deviations))):
        hist = tails.learned(hist, np.array([each]))
    return hist, tails.fitted(hist)


def tail(deviation: float, hist, fit) -> float:
    return float(tails.tail(np.array([np.log2(deviation)]), hist, *fit)[0])


def test_a_power_law_is_continued_beyond_what_was_seen():
    """P(z) = z^-3: gamma is 1/3."""
    hist, fit = learned(np.random.default_rng(0).pareto(3.0, 6000) + 1.0)
    assert fit[2][0] == pytest.approx(1 / 3, rel=0.25)
    for deviation in (1.5, 3.0, 10.0, 100.0):
        assert tail(deviation, hist, fit) == pytest.approx(deviation**-3, rel=0.8)


def test_a_light_tail_is_never_called_lighter_than_it_is():
    hist, fit = learned(np.abs(np.random.default_rng(0).normal(size=6000)))
    for deviation in (3.5, 4.0, 5.0):
        assert tail(deviation, hist, fit) > 0.7 * 2 * stats.norm.sf(deviation)


def test_tails_fall_with_the_deviation():
    hist, fit = learned(np.random.default_rng(0).exponential(size=800))
    found = [tail(each, hist, fit) for each in np.geomspace(0.1, 1e6, 60)]
    assert (np.diff(found) <= 1e-9).all()
    assert min(found) > 0


def test_what_is_no_deviation_is_not_strange():
    hist, fit = learned(np.random.default_rng(0).exponential(size=800))
    nothing = tails.octaves(np.array([0.0]), np.array([0.0]))
    assert tails.tail(nothing, hist, *fit)[0] == pytest.approx(1.0, abs=0.01)


def test_old_deviations_fade():
    hist = np.zeros((1, tails.BINS), np.float32)
    for _ in range(100):
        hist = tails.learned(hist, np.array([5.0]))
    for _ in range(int(3 * tails.MEMORY)):
        hist = tails.learned(hist, np.array([0.0]))
    assert hist[0, int((5.0 - tails.LOWEST) / tails.STEP)] < 6.0


def test_one_wild_deviation_moves_the_scale_a_little_and_a_constant_none_at_all():
    scale = tails.rescaled(np.array([1.0]), np.array([1e9]), np.array([1000.0]))
    assert scale[0] == pytest.approx(1.01)
    assert tails.rescaled(np.array([0.0]), np.array([0.0]), np.array([1000.0]))[0] == 0.0
    assert tails.rescaled(np.array([0.0]), np.array([5.0]), np.array([1000.0]))[0] > 0.0
