"""Tails of counts: calibrated on what is usual, small for what is not, modest where little is known."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.analysis.counting import Clumps, Counted, Tally, counted, findings, first_clumps

BEGIN = datetime(2026, 1, 5, tzinfo=UTC)
WINDOWS = (300.0, 3600.0)
DAY = 288  # ticks


def lived(
    numbers: list[int], windows: tuple[float, ...] = WINDOWS
) -> tuple[Counted, Clumps, list[list[float]]]:
    """Return what is known after these counts of five minutes each, and the tails of the windows on the way."""
    known = Counted(since=BEGIN, busy_at=BEGIN, tallies=(Tally(),) * len(windows))
    clumps, tails = first_clumps(len(windows)), []
    for tick, number in enumerate(numbers):
        if number:
            at = BEGIN + timedelta(seconds=300 * tick)
            before = clumps
            known, clumps = counted(known, number, at, windows, clumps)
            tails.append([found.tail for found in findings(known, at, windows, before, season=1.0)])
    return known, clumps, tails


def poisson(dice: random.Random, mean: float) -> int:
    count, passed = 0, dice.expovariate(1.0)
    while passed < mean:
        count, passed = count + 1, passed + dice.expovariate(1.0)
    return count


@pytest.mark.parametrize("mean", [0.02, 0.3, 3.0])
@pytest.mark.parametrize("clump", [1, 5])
def test_what_is_usual_is_rarely_strange(mean: float, clump: int):
    """A tail of one in a thousand comes about once in a thousand windows, whether things come alone or in clumps."""
    dice = random.Random(7)
    days = 40
    numbers = [
        sum(1 + (clump > 1) * dice.randrange(2 * clump - 1) for _ in range(poisson(dice, mean)))
        for _ in range(days * DAY)
    ]
    _, _, tails = lived(numbers, (300.0,))
    strange = sum(1 for each in tails if each and each[0] < 1e-3)
    assert strange <= 4 * days * DAY / 1000
    assert sum(1 for each in tails if each and each[0] < 1e-6) <= 1


def test_ten_times_as_many_are_strange():
    dice = random.Random(3)
    numbers = [poisson(dice, 0.5) for _ in range(20 * DAY)]
    known, clumps, _ = lived(numbers)
    at = BEGIN + timedelta(seconds=300 * len(numbers))
    known, _ = counted(known, 12, at, WINDOWS, clumps)
    [short, _] = findings(known, at, WINDOWS, clumps, season=1.0)
    assert (short.window_s, short.count) == (300.0, 12)
    assert short.usual == pytest.approx(0.5, rel=0.2)
    assert short.tail < 1e-6


def test_nothing_is_said_before_enough_windows_have_passed():
    _, _, tails = lived([1] * 20)
    assert tails[0] == []
    assert [len(each) for each in tails][-1] == 1  # five minutes are told, an hour is not


def test_a_busy_hour_is_expected():
    known, clumps, _ = lived([1] * (3 * DAY))
    at = BEGIN + timedelta(days=3)
    known, _ = counted(known, 6, at, WINDOWS, clumps)
    quiet = findings(known, at, WINDOWS, clumps, season=0.5)[0].tail
    busy = findings(known, at, WINDOWS, clumps, season=4.0)[0].tail
    assert quiet < busy


def test_a_storm_does_not_become_normal_at_once_and_what_lasts_does():
    usual = [1, 0, 0, 0] * (5 * DAY // 4)
    after_storm, clumps, _ = lived([*usual, 500, *usual])
    at = BEGIN + timedelta(seconds=300 * (2 * len(usual) + 1))
    again, _ = counted(after_storm, 100, at, WINDOWS, clumps)
    assert findings(again, at, WINDOWS, clumps, season=1.0)[0].tail < 1e-6
    _, _, tails = lived([*usual, *[20] * (10 * DAY)])
    assert tails[len(usual) // 4 + 1][0] < 1e-4
    assert tails[-1][0] > 1e-3


@given(st.lists(st.integers(0, 10**6), max_size=40), st.lists(st.integers(1, 10**6), max_size=40))
def test_tails_are_probabilities_whatever_comes(numbers: list[int], gaps: list[int]):
    known = Counted(since=BEGIN, busy_at=BEGIN, tallies=(Tally(),) * 2)
    clumps, at = first_clumps(2), BEGIN
    for number, gap_s in zip(numbers, gaps, strict=False):
        at += timedelta(seconds=300 * gap_s // 300)
        known, clumps = counted(known, number, at, WINDOWS, clumps)
        for found in findings(known, at, WINDOWS, clumps, season=1.0):
            assert 0.0 <= found.tail <= 1.0
            assert found.usual >= 0.0
