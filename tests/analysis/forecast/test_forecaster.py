"""The forecaster: nothing it says depends on the future, and what it learned survives a restart."""

from __future__ import annotations

from functools import lru_cache

import msgspec
import numpy as np
import pytest
from events import DAY_S, HOUR_S, announced, chance, hours_of
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bridge.analysis.forecast.forecaster import Forecaster, ForecasterState
from bridge.analysis.forecast.kept import ACTED
from bridge.analysis.forecast.occurrences import Occurrence, Occurrences
from bridge.analysis.forecast.reasons import NO_SKILL

HORIZON_S = 4 * HOUR_S


def begun(events, **options):
    return Forecaster(since_s=float(events.starts[0]), horizon_s=HORIZON_S, step_s=HOUR_S, **options)


@lru_cache
def told(make, seed, days):
    events = make(seed, days=days)
    return events, hours_of(events), tuple(begun(events).forecasts(hours_of(events), events))


def test_what_can_be_seen_coming_is_published_with_better_probabilities_than_the_reference():
    events, origins, found = told(announced, 1, 60)
    assert found[-1].published
    assert found[-1].model == "logistic"
    late = slice(len(found) // 2, None)
    happened = events.begun(origins, origins + HORIZON_S)[late] > 0
    said, reference = (
        np.array([getattr(each, name) for each in found])[late] for name in ("said", "reference")
    )
    assert ((said - happened) ** 2).mean() < 0.9 * ((reference - happened) ** 2).mean()


@pytest.mark.parametrize("seed", range(4))
def test_chance_is_met_with_silence_and_the_reference(seed):
    _, _, found = told(chance, seed, 60)
    assert not any(each.published for each in found)
    assert all(each.model == "reference" and each.probability == each.reference for each in found)


@pytest.mark.parametrize("make", [announced, chance])
def test_all_are_probabilities(make):
    assert all(0.0 < each.probability < 1.0 for each in told(make, 1, 60)[2])


@given(st.integers(0, 700))
@settings(max_examples=8, deadline=None)
def test_what_happens_after_an_origin_changes_nothing_that_was_said(cut):
    events, origins, found = told(announced, 1, 60)
    now_s = float(origins[cut])
    known = [
        replace(each, end_s=None) if each.end_s is not None and each.end_s > now_s else each
        for each in events.events if each.start_s <= now_s
    ]  # fmt: skip
    other = Occurrences(
        [*known, *(Occurrence(now_s + 1.0 + each, None, "x", "y", "z") for each in range(50))]
    )
    forecaster = begun(events)
    assert tuple(forecaster.forecasts(origins[: cut + 1], other)) == found[: cut + 1]


def test_rows_in_another_order_are_the_same_events():
    events, origins, found = told(announced, 1, 60)
    twice = [*events.events, *events.events[:20]]
    mixed = [twice[number] for number in np.random.default_rng(0).permutation(len(twice))]
    first, second = Occurrences(twice), Occurrences(mixed)
    few = origins[:300]
    assert list(begun(first).forecasts(few, first)) == list(begun(second).forecasts(few, second))
    assert found  # the twenty are events of their own: they are not taken for copies
    assert len(first) == len(events) + 20


@pytest.mark.parametrize("part", [1, 7, 500])
def test_how_origins_are_put_into_calls_changes_nothing(part):
    events, origins, found = told(announced, 1, 60)
    forecaster = begun(events)
    few = origins[:400]
    parts = [
        each for at in range(0, len(few), part) for each in forecaster.forecasts(few[at : at + part], events)
    ]
    assert tuple(parts) == found[:400]


def test_learning_survives_a_restart():
    events, origins, found = told(announced, 1, 60)
    forecaster = begun(events)
    half = 700
    list(forecaster.forecasts(origins[:half], events))
    stored = msgspec.msgpack.encode(forecaster.state())
    again = Forecaster.of(msgspec.msgpack.decode(stored, type=ForecasterState))
    assert again.state() == forecaster.state()
    assert tuple(again.forecasts(origins[half:], events)) == found[half:]


def test_forecasts_that_people_acted_on_teach_nothing():
    events = announced(2, days=30)
    origins = hours_of(events)
    forecaster = begun(events)
    list(forecaster.forecasts(origins[:300], events))
    forecaster.acted(float(origins[299]))
    bets = forecaster.trust.bets
    forecaster.settle(float(origins[299]) + HORIZON_S, events)
    assert forecaster.trust.bets == bets
    assert sum(flags & ACTED > 0 for flags in forecaster.state().kept.flags) == 4


def test_what_moved_the_odds_is_said_in_words():
    events, origins, _ = told(announced, 1, 60)
    forecaster = begun(events)
    last = next(
        each
        for each in range(len(origins) - 1, 0, -1)
        if events.begun(origins[each] - HOUR_S, origins[each]) > 1
    )
    list(forecaster.forecasts(origins[: last + 1], events))
    found = forecaster.reasons(float(origins[last]), events, scopes=("incidents of db",))
    assert "incident" in found[0].text
    assert found[0].text.endswith("times the odds")
    assert found[0].factor > 1.0
    assert len(found) <= 3


def test_without_models_there_are_no_reasons():
    events = chance(1, days=5)
    assert begun(events).reasons(float(events.starts[-1]), events, scopes=("incidents",)) == ()
    assert "no skill" in NO_SKILL


def test_one_entity_is_forecast_from_its_own_events_and_from_all():
    every = Occurrences([*announced(3, days=40).events, *chance(3, days=40).events])
    own = every.of(entity="db")
    assert 0 < len(own) < len(every)
    forecaster = begun(own)
    found = list(forecaster.forecasts(hours_of(own), own, every))
    assert found[-1].said != found[-1].reference
    assert (
        forecaster.reasons(float(hours_of(own)[-1]), own, every, scopes=("incidents of db", "incidents"))
        is not None
    )


def test_a_gap_of_a_year_is_no_trouble():
    events = Occurrences(
        [
            *chance(1, days=10).events,
            *(replace(each, start_s=each.start_s + 365 * DAY_S) for each in chance(2, days=3).events),
        ]
    )
    found = list(begun(events).forecasts(hours_of(events)[::24], events))
    assert found[-40].probability < 0.2
