"""Reasons: what moved the odds, the most first, in words that a person can check."""

from __future__ import annotations

import numpy as np
import pytest
from events import HOUR_S, MONDAY_S

from bridge.analysis.forecast.features import features, kinds_of
from bridge.analysis.forecast.occurrences import Occurrence, Occurrences
from bridge.analysis.forecast.reasons import reasons

NOW_S = MONDAY_S + 10 * HOUR_S
COLUMNS = len(kinds_of(1))
HOUR_COUNT, LAST, LAST_BUT_ONE, OPEN = 1, 7, 8, 13


def told(moved: dict[int, float], ages_s=(600.0, 1200.0, 1800.0), scope="incidents of checkout"):
    """Say what is told where the features with these numbers moved the odds."""
    events = Occurrences([Occurrence(NOW_S - age) for age in ages_s])
    parts = np.zeros(1 + COLUMNS)
    for number, added in moved.items():
        parts[1 + number] = added
    return [each.text for each in reasons(features(np.array([NOW_S]), events)[0], parts, (scope,))]


def test_how_many_came_lately():
    assert told({HOUR_COUNT: np.log(2.4)}) == ["3 incidents of checkout in the last hour: 2.4 times the odds"]
    assert told({HOUR_COUNT: np.log(2.4)}, ages_s=(60.0,)) == [
        "1 incident of checkout in the last hour: 2.4 times the odds"
    ]
    assert told({HOUR_COUNT: -np.log(2)}, ages_s=(7200.0,)) == [
        "no incidents of checkout in the last hour: 0.5 times the odds"
    ]


@pytest.mark.parametrize(
    ("ages_s", "number", "text"),
    [
        ((2400.0,), LAST, "the last incident of checkout began 40 minutes ago: 2.0 times the odds"),
        ((3600.0,), LAST, "the last incident of checkout began 1 hour ago: 2.0 times the odds"),
        (
            (60.0, 7200.0),
            LAST_BUT_ONE,
            "the last 2 incidents of checkout began within 2 hours: 2.0 times the odds",
        ),
        ((), LAST, "incidents of checkout not for a month: 2.0 times the odds"),
    ],
)
def test_how_long_ago_the_last_ones_came(ages_s, number, text):
    assert told({number: np.log(2)}, ages_s=ages_s) == [text]


def test_what_tells_one_story_is_one_reason_and_the_largest_comes_first():
    found = told({HOUR_COUNT: 0.3, LAST: 0.4, OPEN: 1.2})
    assert found[0] == "3 are open: 3.3 times the odds"
    assert found[1].endswith("2.0 times the odds")
    assert len(found) == 2


def test_what_hardly_moves_the_odds_is_no_reason():
    assert told({OPEN: 0.01}) == []
