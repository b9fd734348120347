"""The closed forms of `analysis.statistics`, held against scipy and against what must hold of any tail."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import geom, nbinom

from bridge.analysis.statistics import decay, gamma_poisson_tail, geometric_tail

COUNTS = st.integers(0, 300)
SHAPES = st.floats(0.1, 1000.0)
EXPOSURES = st.floats(300.0, 2e6)
SPANS = st.floats(1.0, 2e6)
ROUNDING = 1e-9


def tail(count: int, shape: float, exposure: float, span: float) -> float:
    return gamma_poisson_tail(count, shape=shape, exposure=exposure, span=span)


@given(COUNTS, SHAPES, EXPOSURES, SPANS)
def test_a_gamma_poisson_tail_is_that_of_the_negative_binomial(count, shape, exposure, span):
    expected = nbinom.sf(count - 1, shape, exposure / (exposure + span))
    assert tail(count, shape, exposure, span) == pytest.approx(expected, abs=ROUNDING)


@given(st.integers(1, 300), SHAPES, EXPOSURES, SPANS, st.floats(1.0, 10.0))
def test_a_tail_falls_the_longer_one_has_watched_and_grows_with_the_window_and_with_what_was_seen(
    count, shape, exposure, span, factor
):
    plain = tail(count, shape, exposure, span)
    assert tail(count, shape, exposure * factor, span) <= plain + ROUNDING
    assert tail(count, shape, exposure, span * factor) >= plain - ROUNDING
    assert tail(count, shape * factor, exposure, span) >= plain - ROUNDING


@given(st.integers(1, 300), st.floats(1.001, 1000.0))  # scipy warns of a mean of one
def test_a_geometric_tail_is_that_of_scipy(size, mean):
    assert geometric_tail(size, mean) == pytest.approx(geom.sf(size - 1, 1 / mean), abs=ROUNDING)


@given(st.integers(-5, 300), st.floats(0.0, 1000.0), st.floats(0.0, 1000.0))
def test_a_size_is_the_less_unusual_the_larger_sizes_are_on_average(size, mean, more):
    assert 0.0 <= geometric_tail(size, mean) <= geometric_tail(size, mean + more) + ROUNDING <= 1.0 + ROUNDING


@given(st.floats(0.0, 1e9), st.floats(0.0, 1e7), st.floats(0.0, 1e7))
def test_decay_in_two_steps_is_decay_in_one(value, first_s, second_s):
    half_life_s = 14 * 86_400.0
    twice = decay(decay(value, first_s, half_life_s), second_s, half_life_s)
    assert twice == pytest.approx(decay(value, first_s + second_s, half_life_s), rel=1e-9, abs=1e-300)
