"""The scoring rule of the anomaly benchmark does what NAB's description says."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.parts import gaussian, nab


def series(windows=((400, 499),), rows: int = 1000, name: str = "a") -> nab.Series:
    return nab.Series(name, 300.0 * np.arange(rows), np.zeros(rows), windows)


def ringing(*rows: int, length: int = 1000) -> np.ndarray:
    scores = np.zeros(length)
    scores[list(rows)] = 0.9
    return scores


def best(*pairs, profile: str = "standard") -> nab.Result:
    ones, scores = zip(*pairs, strict=True)
    return nab.best(ones, scores, profile)


def test_silence_is_0_and_detections_at_the_beginning_of_all_windows_are_100():
    assert best((series(), np.full(1000, np.nan))).score == 0.0
    perfect = best((series(), ringing(400)), (series(name="b"), ringing(400)))
    assert perfect.score == pytest.approx(100.0, abs=0.1)
    assert (perfect.found, perfect.false_alarms) == (2, 0)


def test_an_earlier_detection_is_worth_more_and_only_the_earliest_counts():
    early, late = best((series(), ringing(410))).score, best((series(), ringing(490))).score
    assert early > late > 50.0
    assert best((series(), ringing(410, 450, 490))).score == pytest.approx(early)


@pytest.mark.parametrize(("profile", "cost"), [("standard", 5.5), ("low FP", 11.0), ("low FN", 11 / 3)])
def test_what_a_false_alarm_costs(profile, cost):
    clean = best((series(), ringing(400)), profile=profile).score
    assert best((series(), ringing(300, 400)), profile=profile).score == pytest.approx(clean - cost)
    soon_after = best((series(), ringing(400, 510)), profile=profile).score
    assert clean - cost < soon_after < clean


def test_the_beginning_does_not_count():
    assert series().probation == 150
    assert series(rows=30_000).probation == 750
    clean = best((series(), ringing(400))).score
    assert best((series(), ringing(10, 149, 400))).score == pytest.approx(clean)


def test_one_threshold_for_all_series():
    quiet, loud = ringing(400) * 0.5, ringing(*range(600, 700))
    found = best((series(), quiet), (series((), name="b"), loud))
    assert found.score == 0.0
    assert found.threshold == np.inf


def test_a_threshold_that_was_chosen_elsewhere():
    scores = [ringing(300, 400)]
    assert nab.at_threshold([series()], scores, "standard", 0.5) == pytest.approx(
        best((series(), scores[0])).score
    )
    assert nab.at_threshold([series()], scores, "standard", 0.95) == 0.0
    weeks = (999 - 150) * 300 / (7 * 86400)
    assert nab.false_alarms_a_week([series()], scores, 0.5) == pytest.approx(1 / weeks)


def test_the_windowed_gaussian_scores_a_value_by_those_before_it():
    scores = gaussian.scores(np.array([1.0, 2.0, 1.0, 2.0, 50.0]))
    assert scores[0] == 0.0
    assert scores[4] > 0.999 > scores[3]
