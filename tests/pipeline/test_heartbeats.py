"""Heartbeats: kept out of grouping, missed when they do not come, and never for longer than their own rhythm."""

from __future__ import annotations

from pathlib import Path

import pytest
from thinking import Thinking, ends, fires, same

from bridge.analysis.settings import AnalysisSettings, Heartbeat
from bridge.pipeline import finish

SETTINGS = AnalysisSettings(heartbeats=(Heartbeat(match=('alertname="Watchdog"',), missing_after_s=900.0),))
BEAT = fires("Watchdog", severity="none", cluster="eu-1")


@pytest.fixture
def thinking() -> Thinking:
    return Thinking(SETTINGS)


def test_a_heartbeat_is_no_incident_and_no_watch(thinking: Thinking) -> None:
    for minute in range(0, 60, 5):
        thinking.hears(f"{minute}m", BEAT)
    assert thinking.told() == []
    assert not thinking.tenant.watches
    assert thinking.counts["heartbeats"] == 12


def test_its_absence_is_one_critical_incident_of_its_own(thinking: Thinking, tmp_path: Path) -> None:
    thinking.hears("0s", BEAT, fires("A", cluster="eu-1", severity="warning"))
    thinking.clock("16m")
    opened = thinking.events[-1].incident
    assert thinking.told()[-1] == "900s #2 opened critical"
    assert opened.origin == "heartbeat"
    assert opened.title == "HeartbeatMissing on cluster eu-1"
    episode = opened.episodes[0]
    assert episode.labels["heartbeat"] == "Watchdog"
    assert episode.why == "Watchdog was last heard 03:00:00 UTC"
    assert episode.annotations["summary"].startswith("Watchdog was not heard for 15 min. ")
    assert same(thinking, thinking.restarted(tmp_path))


def test_nothing_joins_an_absence(thinking: Thinking) -> None:
    thinking.hears("0s", BEAT)
    thinking.clock("16m")
    thinking.hears("16m", fires("HeartbeatMissing", starts="16m", cluster="eu-1", severity="critical"))
    assert len(thinking.tenant.groups) == 2


def test_its_return_ends_the_incident(thinking: Thinking, tmp_path: Path) -> None:
    thinking.hears("0s", BEAT)
    thinking.hears("30m", BEAT)
    thinking.clock("40m")
    assert thinking.told() == [
        "900s #1 opened critical",
        "1800s #1 updated critical",
        "2100s #1 closed critical",
    ]
    assert not thinking.events[-1].incident.expired
    assert same(thinking, thinking.restarted(tmp_path))


def test_each_absence_is_told_anew(thinking: Thinking) -> None:
    for minute in (0, 30, 60):
        thinking.hears(f"{minute}m", BEAT)
    thinking.clock("90m")
    opened = [line for line in thinking.told() if " opened " in line]
    assert [line.split()[1] for line in opened] == ["#1", "#2", "#3"][: len(opened)]
    assert len(opened) >= 2


def test_a_resolved_heartbeat_is_missing_when_its_time_is_over(thinking: Thinking) -> None:
    """Alertmanager says "resolved" by itself when Prometheus is gone."""
    thinking.hears("0s", BEAT)
    thinking.hears("5m", ends("Watchdog", "5m", severity="none", cluster="eu-1"))
    thinking.clock("20m")
    assert thinking.told() == ["900s #1 opened critical"]


def test_a_slow_repeat_interval_stops_raising_false_alarms(thinking: Thinking, tmp_path: Path) -> None:
    for hour in range(0, 24, 4):
        thinking.hears(f"{hour}h", BEAT)
    thinking.clock("24h")
    opened = [line for line in thinking.told() if " opened " in line]
    assert len(opened) == 2, "two gaps in a row were as long: that is its rhythm"
    thinking.clock("48h")
    assert len([line for line in thinking.told() if " opened " in line]) == 3, (
        "and when it really stops, it is missed"
    )
    assert same(thinking, thinking.restarted(tmp_path))


def test_one_outage_does_not_make_deaf_to_the_next(thinking: Thinking) -> None:
    for minute in (*range(0, 30, 5), *range(360, 390, 5)):
        thinking.hears(f"{minute}m", BEAT)
    thinking.clock("9h")
    opened = [line for line in thinking.told() if " opened " in line]
    assert opened == ["2400s #1 opened critical", "24000s #2 opened critical"]


def test_heartbeats_of_two_sources_are_two(thinking: Thinking) -> None:
    thinking.hears("0s", BEAT, source="am-1")
    thinking.hears("0s", BEAT, source="am-2")
    thinking.hears("10m", BEAT, source="am-2")
    thinking.clock("20m")
    assert thinking.told() == ["900s #1 opened critical"]


def test_a_recording_that_ends_misses_no_heartbeat(thinking: Thinking) -> None:
    thinking.hears("0s", BEAT, fires("A", severity="warning"))
    thinking.take(finish(thinking.state))
    assert [line.split()[2] for line in thinking.told()] == ["opened", "updated", "closed"]
