"""What is told of forecasts and of what they recommend, out of a store that really thought."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import pytest
from desks import FRONT, Desk, host
from msgspec.structs import replace
from timeline import after

from bridge.analysis.forecast.reasons import NO_SKILL
from bridge.analysis.forecast.targets import ANY
from bridge.model import RowKind
from bridge.pipeline import Outcome
from bridge.storage.reading import StateReader
from bridge.storage.state import StateStore

SLOW = host("Slow", "db-1", service="shop")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def desk(path: Path) -> Iterator[Desk]:
    """Twenty incidents, one each ten minutes, the newest of which fires."""
    with closing(StateStore(path)) as store, patch("bridge.pipeline.forecasts.LEAST_EVENTS", 5):
        desk = Desk(store)
        for number in range(10):
            begins = 60 * number
            desk.fires(f"{begins}m", SLOW, starts=f"{begins}m")
            if number == 8:
                (incident,) = (
                    group.head.id for group in desk.state.tenants["default"].groups.values() if group.firing
                )
                said = {
                    "action": "act-1", "kind": "note", "incident": incident, "text": "restarted the pool",
                }  # fmt: skip
                desk.take(f"{begins + 5}m", RowKind.FEEDBACK, json.dumps(said).encode())
            desk.take(f"{begins + 10}m", RowKind.CLOCK, b"", "")
            if number < 9:
                desk.ends(f"{begins + 10}m", SLOW)
        desk.take("10h", RowKind.CLOCK, b"", "")
        yield desk


def publish(desk: Desk, *, hours: float = 4.0) -> None:
    """Let the forecast that stands be one that earned it."""
    outlook = desk.state.tenants["default"].outlooks[ANY]
    newest = replace(
        outlook.newest, published=True, reasons=("3 incidents in the last hour: 2.4 times the odds",),
        why_silent="", until=outlook.newest.at + timedelta(hours=hours),
    )  # fmt: skip
    outcome = Outcome()
    outcome.outlooks["default", "any", ""] = replace(outlook, newest=newest)
    desk.store.commit(outcome, front=FRONT, rows=())


@pytest.mark.usefixtures("desk")
def test_a_forecast_without_skill_says_so(path: Path) -> None:
    told = StateReader(path).forecasts("default")
    (item,) = told["items"]
    assert (item["aim"], item["name"], item["published"]) == ("any", None, False)
    assert (item["at"], item["until"]) == (after("10h"), after("14h"))
    assert (item["why_silent"], item["reasons"]) == (NO_SKILL, ())
    assert item["probability"] == item["reference"] > 0.5
    assert item["expected_low"] <= item["expected"] <= item["expected_high"]
    assert item["evidence"] <= item["evidence_needed"]
    assert told["lacking"] is None


@pytest.mark.usefixtures("desk")
def test_without_a_forecast_it_is_said_what_is_lacking(path: Path) -> None:
    assert StateReader(path.with_name("none.db")).forecasts("default")["lacking"].startswith("0 of 20")
    assert StateReader(path).forecasts("other") == {
        "items": [], "next": None, "lacking": "0 of 20 incidents to learn from",
    }  # fmt: skip


@pytest.mark.usefixtures("desk")
def test_without_a_published_forecast_nothing_is_recommended(path: Path) -> None:
    assert StateReader(path).recommendations("default") == []
    assert StateReader(path.with_name("none.db")).recommendations("default") == []


def test_what_people_wrote_in_an_incident_alike_is_recommended_with_its_evidence(
    desk: Desk, path: Path
) -> None:
    publish(desk)
    (advice,) = StateReader(path).recommendations("default")
    assert advice["about"] == "done"
    assert "restarted the pool" in advice["text"]
    assert advice["forecast"] == {"aim": "any", "name": None, "until": after("14h")}
    assert len(advice["incidents"]) == 1
    assert advice["evidence"][-1] == "forecast: 3 incidents in the last hour: 2.4 times the odds"
    assert StateReader(path).recommendations("other") == []


def test_a_forecast_whose_time_has_passed_recommends_nothing(desk: Desk, path: Path) -> None:
    publish(desk, hours=0.0)
    assert StateReader(path).recommendations("default") == []
