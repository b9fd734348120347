"""Anomalies of samples: what opens an incident, what it is told, when it is over, and whom it reaches."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from thinking import Thinking, ends, fires, same
from timeline import START

from bridge.analysis.samples import Line, Samples
from bridge.analysis.settings import DEFAULT_ORIGINS, AnalysisSettings, Destination, Route
from bridge.model import IncidentState, RowKind
from bridge.pipeline import Common, State, advance, finish, unusual
from bridge.storage.state import StateStore

SETTINGS = AnalysisSettings(
    destinations=(Destination(name="all", wait_s=0.0), Destination(name="pager", wait_s=0.0)),
    routes=(Route(to=("pager",)), Route(to=("all",), origin=(*DEFAULT_ORIGINS, "anomaly"))),
)
SHOP = {"service": "shop"}
#: Minutes of history before anything happens.
PAST = 600


def measured(
    thinking: Thinking, minutes: range, value: Callable[[int], float], *, labels: dict[str, str] = SHOP,
    name: str = "load", late_s: float = 10.0,
) -> None:  # fmt: skip
    """Let one value a minute come, each in a row of its own."""
    begin = START.timestamp()
    for minute in minutes:
        line = Line(labels=labels, points=((begin + 60.0 * minute, value(minute)),))
        body = msgspec.json.encode(Samples(name=name, step_s=60.0, lines=(line,)))
        thinking.row(f"{60 * minute + late_s}s", RowKind.SAMPLES, body)


def usual(minute: int) -> float:
    return 10.0 + random.Random(minute).gauss(0.0, 1.0)


def high(minute: int) -> float:
    return 40.0 + usual(minute)


class Past:
    """Ten hours of one series in which nothing happens, to be gone on from."""

    def __init__(self, folder: Path) -> None:
        self.thinking = Thinking(SETTINGS)
        measured(self.thinking, range(PAST), usual)
        self._store = StateStore(folder / "state.db")
        whole = State(Common(settings=SETTINGS))
        rows = self.thinking.rows
        self._store.commit(advance(whole, rows), front="front-1", rows=rows[-1:])

    def go_on(self) -> Thinking:
        made = Thinking(SETTINGS)
        made.rows = list(self.thinking.rows)
        made.state = self._store.load()
        return made


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Past:
    return Past(tmp_path_factory.mktemp("past"))


@pytest.fixture
def thinking(past: Past) -> Thinking:
    return past.go_on()


def test_nothing_is_told_of_what_is_usual(past: Past):
    assert past.thinking.told() == []
    [series] = past.thinking.tenant.measured.values()
    assert (series.values, series.standing.model) == (PAST, "spot")
    assert series.score is not None
    assert 9.0 < (series.lately or 0.0) < 11.0


def test_a_strong_anomaly_opens_one_incident_that_lasts_as_long_as_it_does(thinking: Thinking):
    measured(thinking, range(PAST, PAST + 60), high)
    measured(thinking, range(PAST + 60, PAST + 100), usual)
    told = thinking.told()
    opened = f"{60 * PAST + 10}s"
    assert told[0] == f"{opened} #1 opened warning"
    assert {line.split()[1] for line in told} == {"#1"}
    assert told[-1].endswith("#1 closed warning")
    over_s = 60 * (PAST + 59) + 10 + 300 + SETTINGS.close_after_s
    assert told[-1].startswith(f"{over_s:g}s")
    first = thinking.events[0].incident
    assert first.origin == "anomaly"
    assert first.title == "UnusualValue on shop"
    assert first.anomaly is not None
    assert 0.5 < first.anomaly <= 1.0
    assert 'load{service="shop"} is 5' in first.anomaly_reason
    assert "by chance" in first.anomaly_reason
    assert first.episodes[0].labels["series"] == "load"


def test_it_reaches_only_a_route_that_names_the_origin(thinking: Thinking):
    measured(thinking, range(PAST, PAST + 30), high)
    measured(thinking, range(PAST + 30, PAST + 60), usual)
    assert thinking.sent("all")
    assert thinking.sent("pager") == []


def test_what_goes_on_for_longer_than_a_day_is_the_new_normal(thinking: Thinking):
    measured(thinking, range(PAST, PAST + 1500), high)
    assert [line.split()[2] for line in thinking.told()].count("opened") == 1
    [event] = [event for event in thinking.events if event.kind == "closed"]
    hours = (event.at - thinking.events[0].at).total_seconds() / 3600.0
    assert 24.0 < hours < 24.5
    assert not thinking.tenant.alarms


def test_it_is_over_when_no_samples_come_any_more(thinking: Thinking):
    measured(thinking, range(PAST, PAST + 5), high)
    thinking.clock(f"{PAST + 60}m")
    assert [line.split()[2] for line in thinking.told()][-1] == "closed"


def test_one_that_comes_back_soon_reopens_its_incident(thinking: Thinking):
    measured(thinking, range(PAST, PAST + 5), high)
    measured(thinking, range(PAST + 5, PAST + 25), usual)
    measured(thinking, range(PAST + 25, PAST + 30), lambda minute: 60.0 + usual(minute))
    kinds = [line.split()[1:3] for line in thinking.told()]
    assert ["#1", "reopened"] in kinds
    assert ["#2", "opened"] not in kinds


def test_old_samples_only_teach():
    late = Thinking(SETTINGS)
    measured(late, range(PAST), usual, late_s=7200.0)
    measured(late, range(PAST, PAST + 20), high, late_s=7200.0)
    assert late.told() == []
    assert late.tenant.measured['load{service="shop"}'].values == PAST + 20


def test_a_budget_that_is_smaller_makes_it_less_sensitive(past: Past):
    kinds = {}
    for alarms in (1.0, 1e-9):
        thinking = past.go_on()
        changed = msgspec.structs.replace(SETTINGS, false_alarms_a_week=alarms)
        thinking.settings(f"{PAST}m", changed)
        measured(thinking, range(PAST, PAST + 20), high)
        kinds[alarms] = len(thinking.events)
    assert kinds[1.0] > 0
    assert kinds[1e-9] == 0


def test_an_incident_of_alerts_about_the_same_thing_becomes_as_surprising(thinking: Thinking):
    """Before the anomaly and after it began, and not one about something else."""
    thinking.hears(f"{PAST}m", fires("Slow", starts=f"{PAST}m", service="shop"),
                   fires("Full", starts=f"{PAST}m", host="db-9", cluster="far"), group="{}:{}")  # fmt: skip
    thinking.hears(
        f"{PAST + 1}m", fires("Full", starts=f"{PAST + 1}m", host="db-8", cluster="far"), group="{}:{x}"
    )
    measured(thinking, range(PAST + 2, PAST + 10), high)
    thinking.hears(f"{PAST + 11}m", fires("Errors", starts=f"{PAST + 11}m", app="shop"), group="{}:{y}")
    surprised = {
        episode.name: group.progress.surprise_why
        for group in thinking.tenant.groups.values()
        if group.head.origin == "alerts"
        for episode in group.episodes.values()
    }
    assert surprised["Slow"].startswith('load{service="shop"} is ')
    assert surprised["Errors"].startswith('load{service="shop"} is ')
    assert not surprised["Full"].startswith("load")


def test_nothing_joins_an_anomaly(thinking: Thinking):
    measured(thinking, range(PAST, PAST + 3), high)
    thinking.hears(f"{PAST + 3}m", fires("UnusualValue", starts=f"{PAST + 3}m", service="shop"))
    origins = sorted(group.head.origin for group in thinking.tenant.groups.values())
    assert origins == ["alerts", "anomaly"]


def test_what_a_person_closed_stays_closed_while_it_lasts(thinking: Thinking):
    measured(thinking, range(PAST, PAST + 3), high)
    incident = thinking.group.head.id
    thinking.says(f"{PAST + 3}m", "act-1", "close", incident=incident, author="mia")
    assert thinking.group.head.state is IncidentState.CLOSED
    measured(thinking, range(PAST + 4, PAST + 30), high)
    measured(thinking, range(PAST + 30, PAST + 40), usual)
    assert [line.split()[2] for line in thinking.told()].count("closed") == 1
    assert not thinking.tenant.alarms


def test_what_a_person_closed_says_nothing_when_it_becomes_worse(thinking: Thinking):
    measured(thinking, range(PAST, PAST + 1), lambda _minute: 22.0)
    thinking.says(f"{PAST + 1}m", "act-1", "close", incident=thinking.group.head.id, author="mia")
    before = thinking.group.head.anomaly
    measured(thinking, range(PAST + 1, PAST + 10), lambda minute: 500.0 + usual(minute))
    assert thinking.group.head.anomaly != before
    assert [line.split()[2] for line in thinking.told()] == ["opened", "closed"]


def test_a_series_whose_way_it_is_to_be_strange_soon_tells_nothing():
    """A promise of a tail probability that is not kept is not believed for long."""
    thinking = Thinking(SETTINGS)
    noise = random.Random(5)
    measured(thinking, range(600), lambda minute: (5.0 if minute % 97 == 96 else 0.0) + 0.1 * noise.random())
    opened = [line.split()[2] for line in thinking.told()].count("opened")
    assert 1 <= opened <= 2
    assert thinking.counts["anomaly:often"] >= 3
    chance = [event.incident.anomaly_reason for event in thinking.events if event.kind == "opened"]
    assert chance[-1].startswith("about once a week by chance")


@pytest.mark.parametrize(
    ("value", "model", "why"),
    [
        (lambda minute: float(minute % 20 == 0), "counts", "counts, 95% of them zero"),
        (lambda minute: float(minute % 4 == 0) + 0.01 * usual(minute), "shape", "the same shape every 4 min"),
        (lambda minute: 0.5 * (minute % 20 == 0), "spot", "one value 95% of the time"),
        (usual, "spot", "its level holds"),
    ],
)
def test_a_series_that_is_known_well_enough_gets_the_detector_for_its_kind(
    value: Callable[[int], float], model: str, why: str, tmp_path: Path
):
    thinking = Thinking(SETTINGS)
    measured(thinking, range(199), value)
    assert thinking.tenant.measured['load{service="shop"}'].standing.model == "spot"
    with closing(StateStore(tmp_path / "state.db")) as store:
        rows, state = thinking.rows, State(Common(settings=SETTINGS))
        store.commit(advance(state, rows), front="front-1", rows=rows)
        measured(thinking, range(199, 203), value)
        store.commit(advance(state, thinking.rows[199:]), front="front-1", rows=thinking.rows[199:])
        assert store.load().picture() == state.picture() == thinking.state.picture()
    series = thinking.tenant.measured['load{service="shop"}']
    assert series.standing.model == model
    assert why in series.standing.reason
    assert series.score is not None, "it was warm from its first value on"


def test_incidents_of_anomalies_are_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(unusual, "MAX_ALARMS", 2)
    thinking = Thinking(SETTINGS)
    begin = START.timestamp()
    for minute in range(130):
        lines = tuple(
            Line(labels={"service": name}, points=((begin + 60.0 * minute, usual(minute) + 50.0 * (minute >= 125)),))
            for name in ("a", "b", "c", "d")
        )  # fmt: skip
        body = msgspec.json.encode(Samples(name="load", step_s=60.0, lines=lines))
        thinking.row(f"{60 * minute + 10}s", RowKind.SAMPLES, body)
    assert len(thinking.tenant.alarms) == 2
    assert thinking.counts["anomaly:opened"] == 2
    assert thinking.counts["anomaly:untold"] >= 2


def test_restarts_change_nothing(tmp_path: Path):
    thinking = Thinking(SETTINGS)
    measured(thinking, range(90), usual)
    measured(thinking, range(90, 100), lambda minute: math.nan if minute == 95 else high(minute))
    thinking.hears("100m", fires("Slow", starts="100m", service="shop"))
    thinking.hears("101m", ends("Slow", "101m", starts="100m", service="shop"))
    measured(thinking, range(102, 125), usual)
    assert thinking.counts["anomaly:opened"] == 1
    assert same(thinking, thinking.restarted(tmp_path))


def test_a_restart_does_not_change_how_often_something_comes_by_chance(tmp_path: Path):
    """Series come in another order from the store, and sums of these steps depend on it."""
    thinking, begin = Thinking(SETTINGS), START.timestamp()

    def row(at: str, name: str, step_s: float, *values: float) -> None:
        last = len(values) - 1
        points = tuple((begin + 60.0 * (number - last), value) for number, value in enumerate(values))
        told = Samples(name=name, step_s=step_s, lines=(Line(labels={}, points=points),))
        thinking.row(at, RowKind.SAMPLES, msgspec.json.encode(told))

    for name, step_s in {"e": 71.7, "c": 92.2, "b": 40.1, "a": 80.3, "d": 45.0}.items():
        row("1s", name, step_s, *map(usual, range(100)))
    begin += 60.0
    row("61s", "a", 80.3, 80.0)
    assert thinking.tenant.alarms
    assert same(thinking, thinking.restarted(tmp_path))


def test_a_recording_ends_when_its_anomalies_do(thinking: Thinking):
    measured(thinking, range(PAST, PAST + 3), high)
    thinking.take(finish(thinking.state))
    assert thinking.told()[-1].endswith("closed warning")
