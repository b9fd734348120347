"""Forecasts in the pipeline: what is noted, when it is looked ahead, and that nothing of it is lost."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import timeline
from groups import episode, group
from msgspec.structs import replace
from thinking import Thinking, ends, fires, same

from bridge.analysis.forecast.outlooks import look_ahead
from bridge.analysis.forecast.reasons import NO_SKILL
from bridge.analysis.forecast.targets import ANY, Target
from bridge.analysis.settings import AnalysisSettings, Destination, Route
from bridge.model import EventKind, Origin
from bridge.pipeline import Outcome, forecasts
from bridge.pipeline.desk import Desk

SETTINGS = AnalysisSettings(grouping="entities", reopen_within_s=60.0, close_after_s=10.0, window_s=60.0)
HOURS = 24


@pytest.fixture(autouse=True)
def few() -> Iterator[None]:
    """Let three incidents be enough, of a target as of all together."""
    with (
        patch.object(forecasts, "LEAST_EVENTS", 3),
        patch("bridge.analysis.forecast.outlooks.LEAST_EVENTS", 3),
    ):
        yield


@pytest.fixture
def thinking() -> Thinking:
    return Thinking(SETTINGS)


def incident(thinking: Thinking, minute: float, name: str = "Slow", **labels: str) -> None:
    """Let an incident begin and end within some seconds."""
    at, over = f"{60 * minute:g}s", f"{60 * minute + 1:g}s"
    thinking.hears(at, fires(name, starts=at, **labels))
    thinking.hears(over, ends(name, over, starts=at, **labels))


def busy(thinking: Thinking, hours: int = HOURS) -> None:
    """Let an incident of a service begin in each hour, and a tick pass after it."""
    for hour in range(hours):
        incident(thinking, 60 * hour + 7 * (hour % 5), service="shop", severity="critical")
    thinking.clock(f"{hours}h")


def test_there_is_a_forecast_of_each_target_at_the_full_hour(thinking: Thinking):
    busy(thinking)
    told = {target: outlook.newest for target, outlook in thinking.tenant.outlooks.items()}
    assert list(told) == [ANY, Target("severity", "critical"), Target("service", "shop")]
    now = timeline.after(f"{HOURS}h")
    assert {each.at for each in told.values()} == {now}
    assert {each.until for each in told.values()} == {now + timedelta(hours=4)}
    assert all(0.5 < each.probability < 1.0 for each in told.values())
    assert {each.why_silent for each in told.values()} == {NO_SKILL}
    assert thinking.counts["forecast:silent"] == len(told) * (HOURS - 2) - 1, "two targets begin at a time"


def test_what_happened_says_when_what_and_of_which_service(thinking: Thinking):
    incident(thinking, 1, service="shop", severity="critical")
    thinking.clock("10m")
    (noted,) = thinking.tenant.happened.values()
    assert (noted.start_s, noted.entity, noted.severity) == (
        timeline.after("60s").timestamp(), "shop", "critical",
    )  # fmt: skip
    assert noted.end_s is not None
    assert "Slow" in noted.text


def test_an_open_incident_is_noted_at_the_tick_and_its_end_later(thinking: Thinking):
    thinking.hears("70m", fires("Slow", starts="70m", service="shop"))
    incident(thinking, 71, "Other", service="pay")
    thinking.clock("2h")
    ends_of = {each.entity: each.end_s for each in thinking.tenant.happened.values()}
    assert ends_of["shop"] is None
    assert ends_of["pay"] is not None
    thinking.hears("130m", ends("Slow", "130m", starts="70m", service="shop"))
    thinking.clock("3h")
    assert all(each.end_s is not None for each in thinking.tenant.happened.values())


def test_a_merged_incident_did_not_happen(thinking: Thinking):
    thinking.hears("70m", fires("Slow", starts="70m", service="shop"))
    thinking.hears("71m", fires("Full", starts="71m", service="pay"))
    incident(thinking, 72, "Other", service="db")
    thinking.clock("2h")
    assert len(thinking.tenant.happened) == 3
    older, younger = (
        each.head.id for each in thinking.tenant.groups.values() if each.head.state.value == "open"
    )
    thinking.says("125m", "act-1", "merge", incident=younger, into=older)
    incident(thinking, 126, "Another", service="db")
    thinking.clock("3h")
    assert younger not in thinking.tenant.happened
    assert older in thinking.tenant.happened


@pytest.mark.parametrize(
    ("origin", "noted"), [("alerts", 1), ("heartbeat", 1), ("anomaly", 0), ("tocsin", 0)]
)
def test_an_anomaly_and_what_tocsin_says_of_itself_are_not_noted(
    thinking: Thinking, origin: Origin, noted: int
):
    outcome = Outcome()
    desk = Desk(thinking.state, outcome)
    tenant = desk.tenant("default")
    forecasts.Forecasts(desk).note(tenant, group([episode()], origin=origin))
    assert len(tenant.happened) == len(outcome.happened) == noted


def test_too_few_incidents_keep_nobody_awake(thinking: Thinking):
    incident(thinking, 1)
    thinking.clock("10m")
    assert thinking.tenant.record.forecast_at == timeline.after("1h")
    thinking.clock("61m")
    assert thinking.tenant.record.forecast_at is None
    assert thinking.tenant.outlooks == {}


def test_what_is_not_made_because_nobody_listens_is_not_made_later(thinking: Thinking):
    busy(thinking, 5)
    made = thinking.counts["forecast:silent"]
    thinking.started("1745m")
    assert thinking.counts["forecast:silent"] == made
    assert thinking.tenant.record.forecast_at == timeline.after("30h")
    thinking.clock("30h")
    assert thinking.counts["forecast:silent"] == made + 3


def test_another_horizon_has_other_origins(thinking: Thinking):
    busy(thinking, 5)
    thinking.settings("301m", replace(SETTINGS, horizon_s=900.0))
    thinking.clock("6h")
    thinking.clock("375m")
    newest = thinking.tenant.outlooks[ANY].newest
    assert (newest.at, newest.until) == (timeline.after("375m"), timeline.after("390m"))
    thinking.settings("376m", SETTINGS)
    thinking.clock("419m")
    assert thinking.tenant.outlooks[ANY].newest.at == timeline.after("375m")
    thinking.clock("7h")
    assert thinking.tenant.outlooks[ANY].newest.at == timeline.after("7h")


def test_what_is_kept_is_bounded_by_number_and_age(thinking: Thinking):
    with patch.object(forecasts, "MAX_HAPPENED", 4):
        busy(thinking, 8)
        starts = sorted(each.start_s for each in thinking.tenant.happened.values())
        assert len(starts) == 4
        assert starts[0] > timeline.after("4h").timestamp() - 1.0
        thinking.settings("481m", replace(SETTINGS, incidents_s=2 * 3600.0))
        thinking.clock("9h")
        assert len(thinking.tenant.happened) == 1


def test_a_target_that_is_none_any_more_is_forgotten(thinking: Thinking):
    with patch.object(forecasts, "MAX_HAPPENED", 4):
        busy(thinking, 6)
        assert Target("service", "shop") in thinking.tenant.outlooks
        for hour in range(6, 12):
            incident(thinking, 60 * hour, "Full", service="pay", severity="info")
        thinking.clock("12h")
    assert Target("service", "shop") not in thinking.tenant.outlooks
    assert Target("service", "pay") in thinking.tenant.outlooks


def test_a_restart_after_each_row_changes_nothing(thinking: Thinking, tmp_path: Path):
    busy(thinking, 10)
    assert same(thinking, thinking.restarted(tmp_path))


# ---- telling -----------------------------------------------------------------------------------------------

TOLD = replace(
    SETTINGS,
    destinations=(Destination(name="chat", wait_s=30.0),),
    routes=(Route(to=("chat",)), Route(to=("chat",), kinds=(EventKind.FORECAST,))),
)


@pytest.fixture
def earned() -> Iterator[None]:
    """Let every forecast be one that was earned, and that says more than usual."""

    def published(*given: Any, **more: Any) -> Any:
        outlook = look_ahead(*given, **more)
        if outlook is None:
            return None
        said = {"published": True, "probability": 0.8, "reference": 0.5, "why_silent": ""}
        return replace(outlook, newest=replace(outlook.newest, **said))

    with patch.object(forecasts, "look_ahead", published):
        yield


@pytest.mark.usefixtures("earned")
def test_a_forecast_goes_where_a_route_names_its_kind_and_not_again_while_it_holds(tmp_path: Path):
    thinking = Thinking(TOLD)
    busy(thinking, 9)
    told = [event for event in thinking.events if event.kind is EventKind.FORECAST]
    assert {event.seq for event in told} == {1}
    assert len({event.incident.id for event in told}) == len(told)
    of_any = [event for event in told if event.forecast.aim == "any"]
    assert [event.at for event in of_any] == [timeline.after("3h"), timeline.after("7h")]
    sent = [entry for entry in thinking.outbox if entry.kind == "forecast"]
    assert {entry.event_id for entry in sent} == {event.event_id for event in told}
    assert all(entry.not_before == entry.at for entry in sent)
    assert same(thinking, thinking.restarted(tmp_path))


@pytest.mark.usefixtures("earned")
def test_nobody_hears_of_a_forecast_who_did_not_ask():
    thinking = Thinking(replace(TOLD, routes=TOLD.routes[:1]))
    busy(thinking, 5)
    assert "forecast" not in {event.kind.value for event in thinking.events}
    assert thinking.tenant.record.announced == {}


# ---- recommending ------------------------------------------------------------------------------------------

ADVISED = replace(
    SETTINGS, destinations=TOLD.destinations, routes=(Route(to=("chat",), kinds=(EventKind.RECOMMENDATION,)),)
)
RUNBOOK = "https://runbooks.example/slow"


def advised(thinking: Thinking, hours: int = 9) -> list[Any]:
    """Let an incident in which somebody wrote what helped be among many, and return what was recommended."""
    thinking.hears("1m", fires("Slow", starts="1m", service="shop", severity="critical"))
    (open_one,) = (group.head.id for group in thinking.tenant.groups.values())
    thinking.says("2m", "act-1", "note", incident=open_one, text="restarted the pool")
    thinking.hears("3m", ends("Slow", "3m", starts="1m", service="shop", severity="critical"))
    for hour in range(1, hours):
        incident(thinking, 60 * hour + 7 * (hour % 5), service="shop", severity="critical")
    thinking.clock(f"{hours}h")
    return [event for event in thinking.events if event.kind is EventKind.RECOMMENDATION]


@pytest.mark.usefixtures("earned")
def test_what_helped_before_is_recommended_once_for_its_time(tmp_path: Path):
    thinking = Thinking(ADVISED)
    told = advised(thinking)
    of_shop = [event for event in told if event.forecast.aim == "service"]
    assert [event.at for event in of_shop] == [timeline.after("4h"), timeline.after("8h")]
    assert "restarted the pool" in of_shop[0].incident.summary
    assert {each.about for event in told for each in event.recommendations} == {"done"}
    sent = [entry for entry in thinking.outbox if entry.kind == "recommendation"]
    assert {entry.event_id for entry in sent} == {event.event_id for event in told}
    assert {event.kind for event in thinking.events if event.kind is EventKind.FORECAST} == set()
    assert same(thinking, thinking.restarted(tmp_path))


@pytest.mark.usefixtures("earned")
def test_something_else_is_recommended_before_its_time_has_passed():
    thinking = Thinking(ADVISED)
    advised(thinking, 4)
    linked = fires("Slow", starts="4h", service="shop", severity="critical")
    thinking.hears("4h", linked | {"annotations": {"runbook_url": RUNBOOK}})
    thinking.clock("5h")
    told = [event for event in thinking.events if event.kind is EventKind.RECOMMENDATION]
    of_shop = [event for event in told if event.forecast.aim == "service"]
    assert [event.at for event in of_shop] == [timeline.after("4h"), timeline.after("5h")]
    assert {each.link for each in of_shop[1].recommendations} == {"", RUNBOOK}


@pytest.mark.usefixtures("earned")
def test_without_anything_to_go_by_or_anybody_who_asked_nothing_is_recommended():
    thinking = Thinking(ADVISED)
    busy(thinking, 9)
    assert "recommendation" not in {event.kind.value for event in thinking.events}
    deaf = Thinking(TOLD)
    assert advised(deaf) == []
    assert deaf.tenant.record.advised == {}


def test_what_is_remembered_is_bounded_and_forgotten_with_its_incident(thinking: Thinking):
    with patch("bridge.pipeline.precedents.MAX_PASTS", 3):
        busy(thinking, 6)
        kept = sorted(each.past.opened_at for each in thinking.tenant.pasts.values())
        assert len(kept) == 3
        assert kept[0] > timeline.after("3h")
        thinking.settings("361m", replace(SETTINGS, incidents_s=2 * 3600.0))
        incident(thinking, 362)
        thinking.clock("7h")
        assert len(thinking.tenant.pasts) < 4
        assert min(each.past.opened_at for each in thinking.tenant.pasts.values()) >= timeline.after("5h")


def test_an_incident_that_reopens_is_no_past_one(thinking: Thinking):
    thinking.settings("0s", replace(SETTINGS, reopen_within_s=7200.0))
    for minute, service in ((10, "pay"), (20, "mail"), (50, "shop")):
        incident(thinking, minute, f"Slow{minute}", service=service)
    thinking.clock("1h")
    assert len(thinking.tenant.pasts) == 3
    thinking.hears("70m", fires("Slow50", starts="70m", service="shop"))
    thinking.clock("2h")
    open_one = next(
        group.head.id for group in thinking.tenant.groups.values() if group.head.state.value == "open"
    )
    assert group_ids(thinking) - thinking.tenant.pasts.keys() == {open_one}


def group_ids(thinking: Thinking) -> set[str]:
    return set(thinking.tenant.groups)
