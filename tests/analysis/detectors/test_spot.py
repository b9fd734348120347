"""Spot: what each of its views sees."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.analysis.detectors.spot import SpotBank
from bridge.analysis.detectors.surprise import is_flagged

STEP_S = 900.0
DAY = 96
MONDAY_S = 1_704_067_200.0


def daily(days: int, seed: int = 0) -> np.ndarray:
    rows = np.arange(days * DAY)
    return 100 + 40 * np.sin(rows * 2 * np.pi / DAY) + np.random.default_rng(seed).normal(0, 1, len(rows))


def scores_of(values, times=None) -> np.ndarray:
    bank, found = SpotBank(1), []
    times = MONDAY_S + STEP_S * np.arange(len(values)) if times is None else times
    for time_s, value in zip(times, values, strict=True):
        found.append(bank.score_one(0, time_s, value))
        bank.learn_one(0, time_s, value, found[-1])
    return np.array(found)


def test_what_is_usual_at_noon_is_strange_at_midnight():
    values = daily(9)
    noon = values.max()
    values[8 * DAY + 70] = noon
    scores = scores_of(values)
    assert is_flagged(scores[8 * DAY + 70])
    assert is_flagged(scores[5 * DAY : 8 * DAY]).sum() <= 1


def test_a_missing_season_shows():
    values = daily(9)
    values[8 * DAY : 8 * DAY + 48] = 100.0
    scores = scores_of(values)
    assert scores[8 * DAY : 8 * DAY + 48].max() > 2 * np.nanmax(scores[6 * DAY : 8 * DAY])


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("spike", lambda part: part + np.where(np.arange(len(part)) < 1, 12.0, 0.0)),
        ("lasting shift", lambda part: part + 3.0),
        ("flat line", lambda part: np.full(len(part), part[0])),
    ],
)
def test_kinds_of_anomaly_on_noise(name, change):
    values = np.random.default_rng(3).normal(20, 1, 900)
    calm = scores_of(values)
    values[700:] = change(values[700:])
    scores = scores_of(values)
    assert scores[700:].max() > calm[200:].max(), name


def test_a_jump_over_a_gap_is_not_held_against_the_first_value_after_it():
    rng = np.random.default_rng(0)
    values = np.cumsum(rng.normal(0, 0.3, 500)) + 50
    values[400:] += 6.0
    times = MONDAY_S + STEP_S * np.arange(500)
    at_once = scores_of(values, times)[400]
    times[400:] += 40 * STEP_S
    assert scores_of(values, times)[400] < at_once
