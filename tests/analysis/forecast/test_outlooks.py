"""Outlooks: one forecast per target at a tick, with words, and all that must be remembered in one record."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from events import announced, chance
from msgspec.structs import replace

from bridge.analysis.forecast.occurrences import Occurrence, Occurrences
from bridge.analysis.forecast.outlooks import Outlook, acted, look_ahead, step_of, targets_of
from bridge.analysis.forecast.reasons import NO_SKILL
from bridge.analysis.forecast.targets import ANY, Target

HORIZON_S = 4 * 3600.0
TRAINS = announced(1, days=45, length=16)


def ticks(events, number):
    """Return the newest ticks of a series, oldest first."""
    last = int(events.starts[-1] // 3600) * 3600
    return [datetime.fromtimestamp(last - 3600 * each, UTC) for each in reversed(range(number))]


def run(events, target=ANY, number=30, *, through=lambda outlook: outlook):
    outlook, told = None, []
    for now in ticks(events, number):
        known = Occurrences([each for each in events.events if each.start_s <= now.timestamp()])
        outlook = through(look_ahead(outlook, target, known, now, horizon_s=HORIZON_S))
        told.append(outlook.newest)
    return outlook, told


def stored(outlook):
    return msgspec.msgpack.decode(msgspec.msgpack.encode(outlook), type=Outlook)


def test_what_can_be_seen_coming_is_told_with_reasons_and_how_many_are_expected():
    _, told = run(TRAINS)
    newest = told[-1]
    assert newest.published
    assert newest.why_silent == ""
    assert newest.reasons
    assert all("times the odds" in each for each in newest.reasons)
    assert newest.until - newest.at == timedelta(hours=4)
    assert 0 <= newest.expected_low < newest.expected < newest.expected_high


def test_chance_is_told_as_no_skill_without_reasons():
    _, told = run(chance(1, days=40), number=3)
    assert not told[-1].published
    assert told[-1].why_silent == NO_SKILL
    assert told[-1].reasons == ()
    assert told[-1].probability == told[-1].reference


def test_a_restart_between_any_two_ticks_changes_nothing():
    assert run(TRAINS, through=stored)[1] == run(TRAINS)[1]


def test_of_one_service_and_one_severity():
    mixed = Occurrences(
        [
            *TRAINS.events,
            *(replace(each, entity="web", severity="minor") for each in chance(2, days=45).events),
        ]
    )
    assert set(targets_of(mixed)) == {
        ANY,
        Target("severity", "major"),
        Target("severity", "minor"),
        Target("service", "db"),
        Target("service", "web"),
    }
    _, told = run(mixed, Target("service", "db"), number=2)
    assert (told[-1].aim, told[-1].name) == ("service", "db")
    _, told = run(mixed, Target("severity", "minor"), number=2)
    assert (told[-1].aim, told[-1].name) == ("severity", "minor")


def test_what_has_no_history_is_no_target():
    few = Occurrences([Occurrence(float(each), None, "x", "minor") for each in range(19)])
    assert targets_of(few) == (ANY,)
    assert (
        look_ahead(None, Target("service", "y"), few, datetime(2026, 1, 1, tzinfo=UTC), horizon_s=HORIZON_S)
        is None
    )


def test_of_many_services_the_busiest_are_targets():
    many = Occurrences([Occurrence(float(each), None, f"s-{each % 30}") for each in range(3000)])
    assert [each.name for each in targets_of(many)[1:]] == [
        f"s-{each}" for each in (0, 1, 10, 11, 12, 13, 14, 15)
    ]


def test_another_horizon_begins_anew():
    outlook, _ = run(TRAINS, number=1)
    now = ticks(TRAINS, 1)[0] + timedelta(hours=1)
    other = look_ahead(outlook, ANY, TRAINS, now, horizon_s=2 * HORIZON_S)
    assert other.newest.until - other.newest.at == timedelta(hours=8)
    assert other.forecaster.reference.horizon_s == 2 * HORIZON_S


def test_a_forecast_that_people_acted_on_is_marked():
    outlook, told = run(TRAINS, number=2)
    marked = acted(outlook, told[-1].at)
    assert any(each.acted for each in marked.forecaster.awaited)
    assert not any(each.acted for each in outlook.forecaster.awaited)


@pytest.mark.parametrize(
    ("horizon_s", "step_s"), [(900.0, 900.0), (3600.0, 900.0), (4 * 3600.0, 3600.0), (86_400.0, 3600.0)]
)
def test_origins_are_a_quarter_of_the_horizon_apart_an_hour_at_most(horizon_s, step_s):
    assert step_of(horizon_s) == step_s
