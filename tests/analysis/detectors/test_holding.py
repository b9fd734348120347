"""Hold-off: one alarm for one anomaly."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.analysis.detectors.holding import HOLD, REPEATED, HoldOff

ONE = np.array([0])


def told(scores: list[float], hold: HoldOff | None = None) -> list[float]:
    hold = hold or HoldOff(1)
    found = []
    for score in scores:
        found.append(float(hold.score_many(ONE, np.array([score]))[0]))
        hold.learn_many(ONE, np.array([score]))
    return found


def test_the_first_score_is_told_and_what_repeats_it_is_not():
    assert told([0.5, 0.4, 0.5]) == [0.5, pytest.approx(0.4 * REPEATED), pytest.approx(0.5 * REPEATED)]


def test_a_higher_score_is_news():
    assert told([0.3, 0.6, 0.5]) == [0.3, 0.6, pytest.approx(0.05)]


def test_after_enough_quiet_values_the_next_anomaly_is_news_again():
    quiet = [0.0] * int(HOLD)
    assert told([0.5, *quiet, 0.4])[-1] == 0.4
    assert told([0.5, *quiet[:-1], 0.4])[-1] == pytest.approx(0.04)


def test_an_anomaly_that_goes_on_is_told_once_however_long_it_lasts():
    assert sum(score > 0.1 for score in told([0.5] * 1000)) == 1


def test_what_is_unknown_stays_unknown_and_counts_as_quiet():
    found = told([0.5, *[np.nan] * int(HOLD), 0.4])
    assert np.isnan(found[1:-1]).all()
    assert found[-1] == 0.4


def test_every_threshold_sees_each_anomaly_once():
    scores = [0.1, 0.2, 0.35, 0.3, 0.8, 0.7, 0.2]
    for threshold in (0.15, 0.33, 0.5):
        crossed = np.array(told(scores)) >= threshold
        first = int(np.flatnonzero(np.array(scores) >= threshold)[0])
        assert crossed[first]


def test_it_comes_back_equal():
    hold = HoldOff(1)
    told([0.5, 0.1], hold)
    again = HoldOff.from_state(hold.state())
    assert told([0.4, 0.6], again) == told([0.4, 0.6], hold)
