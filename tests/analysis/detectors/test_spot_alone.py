"""One series in plain numbers: not a bit differs from the bank, whatever the series is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.analysis.detectors.spot import ACCEPTED_AFTER, WARM_UP, SpotBank
from bridge.analysis.detectors.spot_alone import SpotAlone

STEP_S = 300.0
ROWS = 900
DICE = np.random.default_rng(11)
TIMES = 1_700_000_000 + STEP_S * np.arange(ROWS)


def in_bank(bank: SpotBank, times, values) -> list[float]:
    found = []
    for time_s, value in zip(times, values, strict=True):
        found.append(bank.score_one(0, time_s, value))
        bank.learn_one(0, time_s, value, found[-1])
    return found


def assert_same(times, values, *, before: int = 0) -> None:
    """Hold what is found alone, after `before` values in a bank, to what a bank finds."""
    bank, begun, back = SpotBank(1), SpotBank(1), SpotBank(1)
    expected = in_bank(bank, times, values)
    in_bank(begun, times[:before], values[:before])
    alone = SpotAlone(begun, 0)
    kept = begun.row(0)
    found = [
        alone.step(float(when), float(value))
        for when, value in zip(times[before:], values[before:], strict=True)
    ]
    assert np.array_equal(found, expected[before:], equal_nan=True)
    alone.put_back(back, 0)
    assert back.row(0) == bank.row(0)
    assert begun.row(0) == kept


def shifted() -> np.ndarray:
    values = 20 + 5 * np.sin(np.arange(ROWS) / 46) + DICE.normal(0, 0.1, ROWS)
    values[400:] += 50
    return values


def broken() -> np.ndarray:
    values = DICE.normal(size=ROWS)
    values[::7], values[5::91], values[6::97] = np.nan, 1e308, -np.inf
    return values


SERIES = {
    "noise": DICE.normal(size=ROWS),
    "a constant": np.full(ROWS, 5.0),
    "zeros": np.zeros(ROWS),
    "a shift that is taken over": shifted(),
    "all sizes": DICE.normal(size=ROWS) * 10.0 ** DICE.integers(-300, 300, ROWS),
    "few levels": np.repeat(DICE.integers(0, 4, ROWS // 50), 50).astype(float),
    "counts": DICE.poisson(0.2, ROWS).astype(float),
    "no numbers among them": broken(),
}


@pytest.mark.parametrize("before", [0, 1, int(WARM_UP), 333])
@pytest.mark.parametrize("name", SERIES)
def test_scores_and_memory_are_those_of_the_bank(name, before):
    assert ROWS - 400 > ACCEPTED_AFTER
    assert_same(TIMES, SERIES[name], before=before)


def test_times_that_are_missing_far_off_or_go_back_are_as_in_the_bank():
    times = np.cumsum(DICE.exponential(3000.0, ROWS)) + 1.7e9
    times[100::50], times[33::40] = np.nan, times[33::40] - 1e6
    times[450::100] += 1e6
    times[700], times[701] = 1e300, -1e300
    assert_same(times, SERIES["noise"])


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.one_of(st.floats(0, 2e6), st.floats()),
            st.one_of(st.floats(-10, 10), st.integers(0, 3).map(float), st.floats()),
        ),
        max_size=90,
    ),
    before=st.integers(0, 90),
)
def test_no_series_tells_them_apart(rows, before):
    # What comes first is usual, so that the rows meet a detector that speaks.
    times = np.array([*TIMES[:70], *(when for when, _ in rows)])
    values = np.array([*SERIES["noise"][:70], *(value for _, value in rows)])
    assert_same(times, values, before=min(before, len(times)))
