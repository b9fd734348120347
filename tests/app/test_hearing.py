"""What the front makes of the analyst's words."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bridge.app.hearing import ASIDE_S, DEATHS, Calls, Hearing
from bridge.app.troubles import Troubles
from bridge.model import RowKind
from bridge.telemetry import Telemetry

NOON_S = datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp()


class Desk:
    """A hearing with a clock and an inbox of so many rows."""

    def __init__(self, folder: Path) -> None:
        self.now = 100.0
        self.newest = 0
        self.events = self.doubts = 0
        self.states_lost = 0
        self.bodies: list[bytes] = []
        self.damages: list[str] = []
        self.telemetry = Telemetry()
        self.troubles = Troubles(
            put=self.put, tenant="t", file=folder / "troubles.json", clock=lambda: datetime(2026, 1, 1, tzinfo=UTC),
            telemetry=self.telemetry,
        )  # fmt: skip
        self.hearing = Hearing(
            self.telemetry,
            self.troubles,
            newest_id=lambda: self.newest,
            calls=Calls(
                events=self.heard, state_lost=self.lost, inbox_damaged=self.damages.append, doubt=self.doubt
            ),
            clock=lambda: self.now,
            wall=lambda: NOON_S + self.now,
        )

    async def put(self, _tenant: str, _source: str, _kind: RowKind, body: bytes) -> int:
        self.bodies.append(body)
        return 1

    def lost(self) -> None:
        self.states_lost += 1

    def doubt(self) -> None:
        self.doubts += 1

    def heard(self) -> None:
        self.events += 1

    def firing(self) -> int:
        return int(self.telemetry.value("tocsin_own_alerts_firing"))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def committed(cursor: int, **counters: int) -> Mapping[str, Any]:
    named = {name.replace("_", ":", 1): number for name, number in counters.items()}
    return {
        "say": "committed",
        "cursor": cursor,
        "at": "2026-01-01T12:01:40+00:00",
        "counters": named,
        "took_s": 0.2,
    }


def test_counts_of_the_pipeline_become_metrics(desk: Desk):
    desk.hearing.analyst_says(
        committed(
            3,
            change_first_seen=2,
            change_repeated=5,
            event_opened=1,
            quarantined=1,
            quarantined_row=1,
            other=7,
        )
    )
    value = desk.telemetry.value
    assert value("tocsin_alerts_total", change="first_seen") == 2
    assert value("tocsin_alerts_total", change="repeated") == 5
    assert value("tocsin_incident_events_total", kind="opened") == 1
    assert value("tocsin_quarantined_total", what="content") == 1
    assert value("tocsin_quarantined_total", what="row") == 1
    assert value("tocsin_analyst_batch_seconds_count") == 1


def test_the_dispatcher_is_woken_by_events_only(desk: Desk):
    desk.hearing.analyst_says(committed(1, change_repeated=1))
    assert desk.events == 0
    desk.hearing.analyst_says(committed(2, event_updated=1))
    assert desk.events == 1


def test_the_lag_is_the_age_of_what_is_not_understood(desk: Desk):
    assert desk.telemetry.value("tocsin_analyst_lag_seconds") == 0
    desk.newest = 5
    desk.now += 30.0
    assert desk.telemetry.value("tocsin_inbox_backlog_rows") == 5
    assert desk.telemetry.value("tocsin_analyst_lag_seconds") == 30.0
    desk.hearing.analyst_says(committed(4))  # received at second 100 of the same day
    assert desk.telemetry.value("tocsin_analyst_lag_seconds") == 30.0
    desk.hearing.analyst_says(committed(5))
    assert desk.telemetry.value("tocsin_analyst_lag_seconds") == 0


def test_time_is_told_often_until_the_analyst_says_that_nothing_waits(desk: Desk):
    assert desk.hearing.timers
    desk.hearing.analyst_says(
        {"say": "gauges", "gauges": {"due": 0.0, "incidents_open": 4, "models_up": 1.0}}
    )
    assert not desk.hearing.timers
    assert desk.telemetry.value("tocsin_incidents_open") == 4
    assert desk.telemetry.value("tocsin_models_up") == 1
    desk.hearing.analyst_is(up=False)
    assert desk.telemetry.value("tocsin_models_up") == 0


def test_ways_of_grouping_are_told_and_one_without_an_exam_has_no_series(desk: Desk):
    told = {"grouping:entities": 2.0, "grouping:bursts": 0.0, "grouping:linker": 1.0, "verdict_age_s": 60.0}
    desk.hearing.analyst_says({"say": "gauges", "gauges": {**told, "exam_f1:linker": 0.9}})
    value = desk.telemetry.value
    assert (
        value("tocsin_grouping_tenants", way="entities"),
        value("tocsin_grouping_tenants", way="linker"),
    ) == (2, 1)
    assert value("tocsin_grouping_verdict_age_seconds") == 60
    assert value("tocsin_grouping_exam_f1", way="linker") == 0.9
    desk.hearing.analyst_says({"say": "gauges", "gauges": told})
    assert b"tocsin_grouping_exam_f1{" not in desk.telemetry.render()


def test_what_clustering_anew_did_is_counted(desk: Desk):
    desk.hearing.analyst_says(committed(1, regroup_merged=2, regroup_advice=1))
    assert desk.telemetry.value("tocsin_regrouped_total", action="merged") == 2
    assert desk.telemetry.value("tocsin_regrouped_total", action="advice") == 1


def test_somebody_is_asked_while_a_firing_is_in_doubt(desk: Desk):
    for disputed, doubts in ((0.0, 0), (1.0, 1), (1.0, 2), (0.0, 2)):
        desk.hearing.analyst_says({"say": "gauges", "gauges": {"disputed": disputed}})
        assert desk.doubts == doubts


def test_an_analyst_that_does_not_stay_up_is_an_alert_until_a_batch_is_done(desk: Desk):
    for deaths in range(1, DEATHS):
        desk.hearing.analyst_restarts("crashed", deaths)
    assert desk.firing() == 0
    desk.hearing.analyst_restarts("crashed", DEATHS)
    assert desk.firing() == 1
    assert desk.telemetry.value("tocsin_analyst_restarts_total", reason="crashed") == DEATHS
    desk.hearing.analyst_says(committed(1))
    assert desk.firing() == 0


def test_a_row_that_was_set_aside_is_an_alert_for_an_hour(desk: Desk):
    desk.hearing.analyst_says(
        {"say": "aside", "row": 4, "tenant": "t", "source": "s", "reason": "KeyError: 'x'"}
    )
    desk.hearing.look()
    assert desk.firing() == 1
    desk.now += ASIDE_S + 1
    desk.hearing.look()
    assert desk.firing() == 0


def test_a_state_that_was_lost_is_an_alert_for_an_hour(desk: Desk):
    desk.hearing.analyst_says({"say": "state_lost", "kept": "state.db.damaged-1", "reason": "malformed"})
    desk.hearing.look()
    assert desk.firing() == 1
    assert desk.states_lost == 1
    desk.now += ASIDE_S + 1
    desk.hearing.look()
    assert desk.firing() == 0


@pytest.mark.parametrize(
    ("message", "event"),
    [
        ({"say": "failed", "from": 1, "to": 9, "reason": "KeyError", "trace": "..."}, "batch_failed"),
        ({"say": "trouble", "reason": "the disk is full"}, "analyst_trouble"),
        ({"say": "models", "up": True}, "models_joined"),
        ({"say": "models", "up": False}, "models_lost"),
    ],
)
def test_what_it_says_is_logged_once(
    desk: Desk, caplog: pytest.LogCaptureFixture, message: Mapping[str, Any], event: str
):
    with caplog.at_level("INFO", "bridge"):
        desk.hearing.analyst_says(message)
    assert [vars(record)["event"] for record in caplog.records] == [event]


def test_what_a_row_of_the_analysts_own_counted_is_counted_and_commits_nothing(desk: Desk):
    desk.newest = 5
    desk.hearing.analyst_says(committed(3))
    desk.hearing.analyst_says({"say": "counted", "counters": {"event:opened": 2}})
    assert desk.telemetry.value("tocsin_incident_events_total", kind="opened") == 2
    assert (desk.events, desk.hearing.backlog) == (1, 2)


def test_an_inbox_that_the_analyst_cannot_read_is_told_to_its_writer(desk: Desk):
    desk.hearing.analyst_says({"say": "inbox_damaged", "reason": "malformed"})
    assert desk.damages == ["malformed"]


def test_a_store_that_was_begun_anew_is_an_alert_for_an_hour(desk: Desk):
    desk.hearing.store_renewed("inbox.db", "12 rows could be read")
    assert desk.firing() == 1
    desk.now += ASIDE_S - 1
    desk.hearing.look()
    assert desk.firing() == 1
    desk.now += 2
    desk.hearing.look()
    assert desk.firing() == 0
