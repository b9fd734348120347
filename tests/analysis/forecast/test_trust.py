"""The right to publish is earned, and lost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.analysis.forecast.trust import Trust, TrustState


def bet(trust, said, reference, truth, *, seed=0, number=1000):
    """Bet on `number` horizons; return after how many it was earned, None if never."""
    chosen = np.random.default_rng(seed)
    for each in range(number):
        trust.learn(trust.purse(each * 4.0, 4.0), said, reference, happened=bool(chosen.random() < truth))
        if trust.earned:
            return each
    return None


def test_nothing_is_earned_at_first():
    assert Trust().e_value == 1.0
    assert not Trust().earned


def test_a_better_model_earns_it_and_a_worse_one_does_not():
    assert bet(Trust(), 0.3, 0.1, 0.3) is not None
    assert bet(Trust(), 0.1, 0.3, 0.3) is None


def test_where_the_reference_is_right_hardly_any_model_earns_it_however_often_one_looks():
    chosen = np.random.default_rng(1)
    won = 0
    for seed in range(200):
        said = float(chosen.uniform(0.05, 0.5))
        won += bet(Trust(), said, 0.2, 0.2, seed=seed, number=400) is not None
    assert won <= 10


def test_it_is_lost_at_drift_and_earned_anew():
    trust = Trust()
    assert bet(trust, 0.3, 0.1, 0.3) is not None
    chosen = np.random.default_rng(2)
    for each in range(2000, 2400):
        trust.learn(trust.purse(each * 4.0, 4.0), 0.3, 0.1, happened=bool(chosen.random() < 0.1))
    assert trust.drifts > 0
    assert not trust.earned
    assert bet(trust, 0.3, 0.1, 0.3, seed=3) is not None


def test_horizons_of_one_purse_do_not_overlap():
    trust = Trust()
    purses = [trust.purse(float(hour), 4.0) for hour in range(12)]
    assert purses == [0, 1, 2, 3] * 3


def test_of_very_many_origins_in_one_horizon_some_are_not_bet_on():
    trust = Trust()
    purses = [trust.purse(float(each), 1e6) for each in range(200)]
    assert max(purses) == 95
    assert purses[-1] == -1


@given(st.lists(st.tuples(st.floats(0.001, 0.999), st.floats(0.001, 0.999), st.booleans()), max_size=40))
def test_what_was_earned_survives_being_stored(bets):
    trust = Trust()
    for number, (said, reference, happened) in enumerate(bets):
        trust.learn(trust.purse(number, 4.0), said, reference, happened=happened)
    assert Trust(trust.state()).state() == trust.state()
    assert Trust(trust.state()).e_value == pytest.approx(trust.e_value)
    assert TrustState() == Trust().state()
