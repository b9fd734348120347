"""Tails and decay, against what they say they are."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.analysis.statistics import decay, gamma_poisson_tail, geometric_tail


def negative_binomial_tail(count: int, shape: float, exposure: float, span: float) -> float:
    """The posterior predictive, summed term by term from its textbook form."""
    p = exposure / (exposure + span)
    terms = (
        math.exp(math.lgamma(shape + k) - math.lgamma(shape) - math.lgamma(k + 1)) * p**shape * (1 - p) ** k
        for k in range(count)
    )
    return 1.0 - sum(terms)


@pytest.mark.parametrize(("count", "shape"), [(1, 0.5), (3, 0.5), (5, 20.5), (40, 7.0)])
def test_the_tail_is_that_of_the_posterior_predictive(count: int, shape: float) -> None:
    told = gamma_poisson_tail(count, shape=shape, exposure=1000.0, span=300.0)
    assert told == pytest.approx(negative_binomial_tail(count, shape, 1000.0, 300.0), abs=1e-9)


@given(st.integers(0, 300), st.floats(0.1, 500), st.floats(1, 1e7), st.floats(0.1, 1e6))
def test_a_tail_is_a_probability_and_more_is_rarer(
    count: int, shape: float, exposure: float, span: float
) -> None:
    here = gamma_poisson_tail(count, shape=shape, exposure=exposure, span=span)
    further = gamma_poisson_tail(count + 1, shape=shape, exposure=exposure, span=span)
    assert 0.0 <= further <= here <= 1.0


def test_none_at_all_is_never_surprising() -> None:
    assert gamma_poisson_tail(0, shape=0.5, exposure=1.0, span=1.0) == 1.0


@given(st.integers(1, 400), st.floats(1.0, 1e4))
def test_a_geometric_size_has_the_mean_it_was_given(size: int, mean: float) -> None:
    told = geometric_tail(size, mean)
    assert 0.0 <= told <= 1.0
    assert geometric_tail(size + 1, mean) <= told


def test_geometric_sizes() -> None:
    assert geometric_tail(1, 3.0) == 1.0
    assert geometric_tail(2, 1.0) == 0.0, "bursts that always were of one alert"
    assert sum(geometric_tail(size, 4.0) for size in range(1, 300)) == pytest.approx(4.0)


def test_decay_halves_in_a_half_life_and_never_grows() -> None:
    assert decay(8.0, 20.0, 10.0) == pytest.approx(2.0)
    assert decay(8.0, -5.0, 10.0) == 8.0
