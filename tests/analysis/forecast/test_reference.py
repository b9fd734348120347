"""The reference: how likely an event is by how often they come, and at which hours."""

from __future__ import annotations

import numpy as np
import pytest
from events import DAY_S, HOUR_S, MONDAY_S, chance, hours_of
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.analysis.forecast.reference import Reference

HORIZON_S = 4 * HOUR_S


def run(events, *, horizon_s=HORIZON_S, step_s=HOUR_S, until=None):
    """Let a reference run along; return what it said and itself."""
    reference = Reference(since_s=float(events.starts[0]), horizon_s=horizon_s)
    said = []
    origins = hours_of(events, horizon_s, step_s)[:until]
    for origin in origins.tolist():
        step(reference, events, origin, said)
    return origins, np.array(said), reference


def step(reference, events, origin, said):
    since = reference.at_s
    reference.advance(origin, events.starts[(events.starts > since) & (events.starts <= origin)])
    passed = np.array(reference.passed(origin))
    reference.learn(origin, (events.begun(passed, passed + reference.horizon_s) > 0).tolist())
    said.append(reference.ask(origin, 0.25))


def test_it_says_how_often_they_come():
    events = chance(1, days=80, per_day=3.0)
    _, said, _ = run(events)
    assert said[-480:].mean() == pytest.approx(1 - np.exp(-3.0 * 4 / 24), abs=0.05)


def test_it_learns_at_which_hours_they_come():
    events = chance(2, days=80, per_day=4.0, daily=2.0)
    origins, said, _ = run(events)
    hour = origins[-480:] / HOUR_S % 24
    assert said[-480:][hour == 10].mean() > 5 * said[-480:][hour == 22].mean()


def test_it_follows_when_they_come_more_often():
    slow = chance(3, days=60, per_day=0.5)
    fast = chance(4, days=20, per_day=12.0, since_s=MONDAY_S + 60 * DAY_S)
    events = type(slow)([*slow.events, *fast.events])
    _, said, _ = run(events)
    assert said[-24:].mean() > 0.7


def test_trains_are_not_taken_for_many_chances():
    """Forty events within a minute, every second day, are one chance in two days."""
    burst = chance(5, days=1).events[0]
    events = type(chance(5))(
        type(burst)(MONDAY_S + day * 2 * DAY_S + (day * 37 % 24) * HOUR_S + number)
        for day in range(50) for number in range(40)
    )  # fmt: skip
    _, said, _ = run(events)
    assert said[-500:].mean() < 0.25


@given(
    st.lists(st.floats(0, 20 * DAY_S), max_size=60),
    st.lists(st.floats(60, 10 * DAY_S), min_size=2, max_size=6),
)
@settings(max_examples=40, deadline=None)
def test_a_longer_horizon_is_never_less_likely_and_all_are_probabilities(offsets, horizons):
    reference = Reference(since_s=MONDAY_S, horizon_s=HORIZON_S)
    reference.advance(MONDAY_S + 20 * DAY_S, np.sort(np.array(offsets, np.float64)) + MONDAY_S)
    said = [reference.probability(horizon) for horizon in sorted(horizons)]
    assert said == sorted(said)
    assert all(0.0 < each < 1.0 for each in said)


def test_more_events_are_expected_where_more_came_and_the_interval_holds_them():
    few, many = (run(chance(6, days=40, per_day=each))[2].expected(DAY_S) for each in (1.0, 20.0))
    for mean, low, high in (few, many):
        assert 0.0 <= low < mean < high
    assert many[0] > 5 * few[0]
    assert many[1] < 20 < many[2]


def test_what_it_learned_survives_being_stored():
    events = chance(7, days=30, daily=1.0)
    origins, said, _ = run(events)
    _, _, half = run(events, until=len(origins) // 2)
    half = Reference.of(half.state())
    rest: list[float] = []
    for origin in origins[len(origins) // 2 :].tolist():
        step(half, events, origin, rest)
    assert rest == said[len(origins) // 2 :].tolist()
    assert Reference.of(half.state()).state() == half.state()
