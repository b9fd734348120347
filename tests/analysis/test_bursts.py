"""Surges in a stream of times, and stretches with silence around them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.analysis.bursts import ALONE_S, LEAST_BURST, is_surge, isolated, surges, surges_by_area


def steady(start: float, end: float, every: float) -> list[float]:
    return [start + every * n for n in range(int((end - start) / every))]


def test_a_surge_in_a_busy_stream_begins_an_incident() -> None:
    times = sorted(steady(0, 600, 3) + steady(300, 310, 0.25))
    numbers = surges(times)
    assert numbers[0] == 0
    assert set(numbers) == {0, 1}
    assert 290 <= min(at for at, number in zip(times, numbers, strict=True) if number == 1) <= 301


def test_a_busy_stream_by_itself_is_one_incident() -> None:
    assert set(surges(steady(0, 3000, 1))) == {0}


@pytest.mark.parametrize("before", [60, 600, 4_400, 4_500, 60_000, 6_000_000])
def test_a_surge_is_seen_however_much_comes(before: int) -> None:
    assert is_surge(before // 2, before)
    assert not is_surge(before // 5, before)


def test_silence_ends_an_incident() -> None:
    assert surges([0, 10, 1000, 1010]) == [0, 0, 1, 1]


def test_two_surges_close_to_each_other_are_one() -> None:
    times = sorted(steady(0, 10, 0.5) + steady(200, 210, 0.5) + steady(240, 250, 0.2))
    assert set(surges(times)) == {0, 1}


def test_a_surge_in_one_cluster_is_none_in_another() -> None:
    times = sorted(steady(0, 600, 5) + steady(300, 310, 0.5))
    areas = ["a" if at in set(steady(0, 600, 5)) and at % 10 else "b" for at in times]
    found = surges_by_area(times, areas)
    assert {number for area, number in found if area == "a"} == {0}
    assert {number for area, number in found if area == "b"} == {0, 1}


@given(st.lists(st.floats(0, 5000), max_size=200).map(sorted))
def test_numbers_never_go_back(times: list[float]) -> None:
    numbers = surges(times)
    assert numbers == sorted(numbers)
    assert len(numbers) == len(times)


def test_a_burst_is_alone_in_its_cluster_and_of_different_things() -> None:
    burst = steady(1000, 1000 + 10 * LEAST_BURST, 10)
    times = [0.0, *burst, burst[-1] + ALONE_S + 1]
    things = [f"t{n}" for n in range(len(times))]
    areas = ["x"] * len(times)
    assert isolated(times, areas, things) == [list(range(1, 1 + len(burst)))]
    assert isolated(times, areas, ["t"] * len(times)) == []
    near = [burst[0] - 10, *times[1:]]
    assert isolated(near, areas, things) == [list(range(len(burst) + 1))]
    other = ["y", *areas[1:]]
    assert isolated(near, other, things) == [list(range(1, 1 + len(burst)))]
