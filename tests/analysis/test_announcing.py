"""Announcing forecasts: what is worth a word, once, and to whom."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from bridge.analysis.announcing import (
    Announced,
    advised,
    announcement,
    is_new_advice,
    is_news,
    labels_of,
    recommendation,
)
from bridge.analysis.routing import Router
from bridge.analysis.settings import AnalysisSettings, Route
from bridge.model import Advice, EventKind, Forecast

NOW = datetime(2026, 1, 5, 3, 0, tzinfo=UTC)
FORECAST = Forecast(
    aim="service", name="shop", at=NOW, until=NOW + timedelta(hours=4), probability=0.6, published=True, reference=0.2,
    expected=0.3, expected_low=0.0, expected_high=1.0, reasons=("3 incidents in the last hour: 2.4 times the odds",),
)  # fmt: skip
AHEAD = (EventKind.FORECAST,)


@pytest.mark.parametrize(
    ("changes", "news"),
    [
        ({}, True),
        ({"published": False}, False),
        ({"probability": 0.3}, False),  # not twice the odds of one in five
        ({"probability": 0.34}, True),
        ({"probability": 0.05}, False),  # less likely than usual
    ],
)
def test_what_was_earned_and_is_more_than_usual_is_news(changes, news):
    assert is_news(replace(FORECAST, **changes), None) is news


def test_the_same_is_told_once_until_its_time_has_passed_or_it_has_doubled():
    told = Announced(until=NOW + timedelta(hours=3), probability=0.6)
    assert not is_news(FORECAST, told)
    assert is_news(replace(FORECAST, probability=0.76), told)
    assert is_news(FORECAST, replace(told, until=NOW))


def test_the_event_says_what_until_when_and_why_and_is_the_same_in_a_replay():
    event = announcement(FORECAST, "east", degraded=False, external_url="https://tocsin.example/")
    view = event.incident
    assert view.title == "An incident of shop is likely until 2026-01-05 07:00 UTC (60%)"
    assert view.summary == "At such hours it is 20%.\n3 incidents in the last hour: 2.4 times the odds."
    assert (view.severity, view.alerts_total, view.episodes) == ("info", 0, ())
    assert view.url == "https://tocsin.example/api/v1/forecasts"
    assert (event.kind, event.seq, event.at, event.forecast) == (EventKind.FORECAST, 1, NOW, FORECAST)
    again = announcement(FORECAST, "east", degraded=False, external_url="")
    assert again.event_id == event.event_id
    others = [replace(FORECAST, name="pay"), replace(FORECAST, at=NOW + timedelta(hours=1))]
    ids = {announcement(each, "east", degraded=False, external_url="").incident.id for each in others}
    assert len(ids | {view.id}) == 3


@pytest.mark.parametrize(
    ("route", "hears"),
    [
        (Route(kinds=AHEAD), True),
        (Route(kinds=AHEAD, origin=("alerts",)), True),
        (Route(), False),  # by default nobody hears of what has not begun
        (Route(kinds=AHEAD, match=('service="shop"',)), True),
        (Route(kinds=AHEAD, match=('service="pay"',)), False),
        (Route(kinds=AHEAD, match=('severity="critical"',)), False),
        (Route(kinds=AHEAD, min_anomaly=0.1), False),
        (Route(kinds=AHEAD, tenant="east"), True),
        (Route(kinds=AHEAD, tenant="west"), False),
    ],
)
def test_only_a_route_that_names_the_kind_and_fits_leads_anywhere(route, hears):
    router = Router(AnalysisSettings(routes=(replace(route, to=("chat",)), replace(route, to=("chat",)))))
    event = announcement(FORECAST, "east", degraded=False, external_url="")
    found = router.ahead(event, labels_of(FORECAST, "service"))
    assert [each.destination for each in found] == (["chat"] if hears else [])
    assert all(each.not_before == NOW for each in found)


def test_a_severity_is_matched_by_severity_and_anything_by_nothing():
    critical = replace(FORECAST, aim="severity", name="critical")
    route = Route(kinds=AHEAD, match=('severity="critical"',), to=("chat",))
    event = announcement(critical, "east", degraded=False, external_url="")
    assert Router(AnalysisSettings(routes=(route,))).ahead(event, labels_of(critical, "service"))
    assert labels_of(replace(FORECAST, aim="any", name=""), "service") == {}


# ---- what is recommended -----------------------------------------------------------------------------------

ADVICE = (
    Advice(about="done", text="Consider what helped before", score=0.8, evidence=("inc-1: closed 5 min after", "f")),
    Advice(about="runbook", text="Have the runbook at hand", score=0.5, evidence=("Slow fires now",)),
)  # fmt: skip


def test_what_is_recommended_is_told_once_for_its_time_unless_it_is_something_else():
    assert is_new_advice(FORECAST, ADVICE, None)
    told = advised(replace(FORECAST, until=NOW + timedelta(hours=3)), ADVICE)
    assert not is_new_advice(FORECAST, ADVICE, told)
    newer = [replace(each, evidence=("newer figures",), score=0.1) for each in reversed(ADVICE)]
    assert not is_new_advice(FORECAST, newer, told), "the same words with other figures"
    assert is_new_advice(FORECAST, ADVICE[:1], told)
    assert is_new_advice(FORECAST, ADVICE, replace(told, until=NOW))


@pytest.mark.parametrize("changes", [{"published": False}, {"probability": 0.3}])
def test_nothing_is_recommended_because_of_what_is_usual_or_was_not_earned(changes):
    assert not is_new_advice(replace(FORECAST, **changes), ADVICE, None)
    assert not is_new_advice(FORECAST, (), None)


def test_a_recommendation_says_before_what_and_on_what_evidence():
    event = recommendation(FORECAST, ADVICE, "east", degraded=True, external_url="https://tocsin.example")
    view = event.incident
    assert view.title == (
        "Before an incident of shop, likely until 2026-01-05 07:00 UTC (60%): 2 recommendations"
    )
    assert view.summary == (
        "Consider what helped before (inc-1: closed 5 min after)\nHave the runbook at hand (Slow fires now)"
    )
    assert (event.kind, event.seq, event.degraded, view.severity) == (
        EventKind.RECOMMENDATION,
        1,
        True,
        "info",
    )
    assert (event.forecast, event.recommendations) == (FORECAST, ADVICE)
    assert view.url == "https://tocsin.example/api/v1/recommendations"
    assert view.id.startswith("rc-")
    again = recommendation(FORECAST, ADVICE, "east", degraded=False, external_url="")
    assert again.event_id == event.event_id
    assert "one recommendation" in recommendation(
        FORECAST, ADVICE[:1], "east", degraded=False, external_url=""
    ).incident.title  # fmt: skip


def test_names_of_any_length_do_not_make_an_event_of_any_length():
    long = replace(ADVICE[0], text="x" * 9_000, evidence=("y" * 9_000,) * 4)
    event = recommendation(FORECAST, (long,) * 5, "east", degraded=False, external_url="")
    assert len(event.incident.summary) < 5_000
    assert max(len(why) for each in event.recommendations for why in each.evidence) <= 400
