"""Surprise: one scale whose meaning is a tail probability."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.analysis.detectors.surprise import is_flagged, score_of, tail_of, threshold_for


def test_a_score_is_the_logarithm_of_a_tail_probability():
    assert score_of(np.array([1.0, 1e-3, 1e-12, 1e-200, 0.0])).tolist() == [0.0, 0.25, 1.0, 1.0, 1.0]
    assert tail_of(score_of(np.array([0.02, 1e-6]))) == pytest.approx([0.02, 1e-6])
    assert np.isnan(score_of(np.array([np.nan]))[0])


def test_a_wish_for_fewer_alarms_is_a_higher_threshold():
    five_minutes = 7 * 288
    assert threshold_for(1.0, five_minutes) == pytest.approx(score_of(np.array([1 / five_minutes]))[0])
    assert threshold_for(0.1, five_minutes) > threshold_for(1.0, five_minutes)
    assert threshold_for(1e9, five_minutes) == 0.0


def test_what_is_unknown_is_not_flagged():
    assert is_flagged(np.array([np.nan, 0.3, 0.5])).tolist() == [False, False, True]
