"""What a series is like is read from its past, whatever that past holds."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.analysis.characteristics import UNSEEN, Characteristics, characteristics

MINUTE, DAY = 60.0, 86_400.0


def of(values: np.ndarray, step_s: float = 300.0) -> Characteristics:
    return characteristics(1.7e9 + np.arange(len(values)) * step_s, np.asarray(values, float))


def noise(points: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=points)


def days(number: int, step_s: float = 300.0) -> np.ndarray:
    return np.sin(np.arange(int(number * DAY / step_s)) * step_s * 2 * math.pi / DAY)


def test_a_day_that_repeats_is_seen_and_noise_has_none() -> None:
    assert of(days(10) + 0.3 * noise(2880)).day > 0.6
    assert of(noise(2880)).day < 0.1


def test_a_day_is_not_spoken_of_before_two_and_a_half_were_seen() -> None:
    assert of(days(2)).day == 0.0
    assert of(days(3)).day > 0.8


def test_a_week_is_more_than_a_day_when_weekends_differ() -> None:
    weekend = np.repeat(np.arange(28) % 7 >= 5, 24)
    found = of(np.where(weekend, 0.0, 3.0 + days(28, 3600)) + 0.1 * noise(672), 3600)
    assert found.week > found.day + 0.2


def test_a_cycle_of_its_own_is_found_with_its_length() -> None:
    found = of(np.tile([0, 0, 1, 5, 9, 4, 1, 0, 0, 0], 100) + 0.2 * noise(1000), MINUTE)
    assert found.cycle > 0.8
    assert found.cycle_s % (10 * MINUTE) == 0


def test_a_straight_line_is_a_trend_and_a_random_walk_wanders() -> None:
    assert of(np.arange(500) + noise(500)).trend > 0.95
    assert of(np.cumsum(noise(4000))).wander > 0.5
    assert of(noise(4000)).wander < 0.02


def test_counts_are_told_from_measurements() -> None:
    rare = np.random.default_rng(2).poisson(0.05, 3000)
    found = of(rare)
    assert found.whole == 1.0
    assert found.zeros > 0.9
    assert found.dispersion == pytest.approx(0.5, abs=0.1)
    assert of(noise(100)).whole == 0.0


def test_spikes_stand_out_from_a_normal_spread() -> None:
    calm = noise(3000)
    spiked = np.where(np.arange(3000) % 97 == 0, 60.0, calm)
    assert of(calm).spikes == pytest.approx(0.74, abs=0.05)
    assert of(spiked).spikes > 0.95


def test_gaps_are_missing_and_do_not_hide_the_day() -> None:
    values = days(10) + 0.1 * noise(2880)
    values[np.random.default_rng(3).random(2880) < 0.3] = np.nan
    found = of(values)
    assert found.missing == pytest.approx(0.3, abs=0.03)
    assert found.day > 0.8


def test_a_constant_is_nothing_but_constant() -> None:
    found = of(np.full(500, 7.5))
    assert found.commonest == 1.0
    assert (found.memory, found.day, found.trend, found.wander, found.spikes) == (0.0,) * 5


def test_the_unit_of_the_values_changes_nothing_else() -> None:
    values = days(5) + 0.2 * noise(1440) + 9.0
    plain, scaled = of(values), of(values * 4096.0)
    for name in ("memory", "day", "cycle", "trend", "wander", "spikes", "commonest"):
        assert getattr(scaled, name) == pytest.approx(getattr(plain, name), abs=1e-9)


def test_of_two_equal_times_the_later_row_counts_and_the_order_of_rows_does_not() -> None:
    times, values = np.array([30.0, 10.0, 20.0, 10.0]), np.array([3.0, 9.0, 2.0, 1.0])
    assert characteristics(times, values) == characteristics(
        np.array([10.0, 20.0, 30.0]), np.array([1.0, 2.0, 3.0])
    )


def test_nothing_usable_is_unseen() -> None:
    assert characteristics(np.array([]), np.array([])) == UNSEEN
    assert characteristics(np.array([1.0, np.nan]), np.array([np.inf, 1.0])) == UNSEEN


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.integers(-50, 5_000).map(float), st.floats()),
            st.one_of(st.floats(), st.integers(-3, 3).map(float), st.sampled_from([1e308, -1e308, 5e-324])),
        ),
        max_size=60,
    )
)
def test_whatever_comes_every_number_is_finite_and_in_its_range(rows: list[tuple[float, float]]) -> None:
    with np.errstate(all="raise", under="ignore"):
        found = characteristics(np.array([r[0] for r in rows]), np.array([r[1] for r in rows]))
    numbers = msgspec.structs.asdict(found)
    assert all(math.isfinite(number) for number in numbers.values())
    shares = set(numbers) - {"points", "step_s", "span_s", "cycle_s"}
    assert all(0.0 <= numbers[name] <= 1.0 for name in shares)
