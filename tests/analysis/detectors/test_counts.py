"""Counts: tails of bursts and silences, and the arithmetic below them, against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats

from bridge.analysis.detectors.counts import CountsBank, count_tails, log_gamma, normal_tail
from bridge.analysis.detectors.surprise import is_flagged

STEP_S = 300.0
MONDAY_S = 1_704_067_200.0


def scores_of(values) -> np.ndarray:
    bank, found = CountsBank(1), []
    for row, value in enumerate(values):
        found.append(bank.score_one(0, MONDAY_S + STEP_S * row, value))
        bank.learn_one(0, MONDAY_S + STEP_S * row, value, found[-1])
    return np.array(found)


def test_rare_counts_have_their_usual_ones_and_a_burst_stands_out():
    values = np.random.default_rng(0).poisson(0.05, 700).astype(float)
    values[600] = 6
    scores = scores_of(values)
    assert is_flagged(scores[600])
    assert is_flagged(scores[60:600]).sum() <= 2


def test_silence_of_a_busy_series_shows_within_a_few_values():
    values = np.random.default_rng(0).poisson(4.0, 620).astype(float)
    values[600:] = 0
    assert is_flagged(scores_of(values)[600:]).any()


def test_many_small_excesses_add_up():
    values = np.random.default_rng(0).poisson(1.0, 640).astype(float)
    values[600:] = 4
    scores = scores_of(values)
    assert not is_flagged(scores[600])
    assert is_flagged(scores[605:]).any()


def test_series_that_come_in_bursts_learn_that_they_do():
    rng = np.random.default_rng(0)
    assert is_flagged(scores_of(rng.negative_binomial(0.2, 0.05, 700))[300:]).mean() < 0.01


@pytest.mark.parametrize("mean", [0.01, 0.5, 3.0, 40.0, 90.0])
@pytest.mark.parametrize("dispersion", [1.0, 1.5, 4.0])
def test_tails_are_those_of_a_negative_binomial(mean, dispersion):
    far = int(mean + 5 * np.sqrt(mean * dispersion)) + 2
    many = np.unique(np.linspace(0, far, 9).astype(int)).astype(float)
    at_least, at_most = count_tails(many, np.full(len(many), mean), np.full(len(many), dispersion))
    is_poisson = dispersion == 1.0
    law = stats.poisson(mean) if is_poisson else stats.nbinom(mean / (dispersion - 1), 1 / dispersion)
    above, below = many > mean, many < mean
    assert at_least[above] == pytest.approx(law.sf(many[above] - 1), rel=0.05)
    assert at_most[below] == pytest.approx(law.cdf(many[below]), rel=0.05)
    assert (at_least[~above] == 1).all()


def test_large_counts_have_the_normal_law():
    at_least, _ = count_tails(np.array([1300.0]), np.array([1000.0]), np.array([4.0]))
    assert at_least[0] == pytest.approx(stats.norm.sf(300 / np.sqrt(4000)), rel=1e-6)


def test_arithmetic():
    x = np.array([1e-6, 0.3, 1.0, 2.0, 55.5, 1e7])
    assert log_gamma(x) == pytest.approx(special.gammaln(x), rel=1e-10, abs=1e-10)
    z = np.array([-8.0, -1.0, 0.0, 0.5, 3.0, 9.0])
    assert normal_tail(z) == pytest.approx(stats.norm.sf(z), rel=1e-6)
