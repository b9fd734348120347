"""Heartbeats: kept out of grouping, missed when they do not come, and never for longer than their own rhythm."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace
from thinking import SHARING, Thinking, ends, fires, same

from bridge.analysis.settings import Heartbeat
from bridge.pipeline import finish

SETTINGS = replace(SHARING, heartbeats=(Heartbeat(match=('alertname="Watchdog"',), missing_after_s=900.0),))
BEAT = fires("Watchdog", severity="none", cluster="eu-1")


@pytest.fixture
def thinking() -> Thinking:
    return Thinking(SETTINGS)


def test_a_heartbeat_is_no_incident_and_no_watch(thinking: Thinking) -> None:
    for minute in range(0, 60, 5):
        thinking.hears(f"{minute}m", BEAT)
    assert thinking.told() == []
    assert not thinking.tenant.watches


def test_its_absence_is_one_critical_incident_of_its_own(thinking: Thinking, tmp_path: Path) -> None:
    thinking.hears("0s", BEAT, fires("A", cluster="eu-1", severity="warning"))
    thinking.clock("16m")
    opened = thinking.events[-1].incident
    assert thinking.told()[-1] == "900s #2 opened critical"
    assert opened.origin == "heartbeat"
    assert opened.title == "WatchdogMissing in cluster eu-1"
    episode = opened.episodes[0]
    assert episode.labels["heartbeat"] == "Watchdog"
    assert episode.why == "Watchdog was last heard 03:00:00 UTC"
    assert episode.annotations["summary"].startswith("Watchdog was not heard for 15 min. ")
    assert same(thinking, thinking.restarted(tmp_path))


def test_nothing_joins_an_absence(thinking: Thinking) -> None:
    thinking.hears("0s", BEAT)
    thinking.clock("16m")
    thinking.hears("16m", fires("WatchdogMissing", starts="16m", cluster="eu-1", severity="critical"))
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


def opened(thinking: Thinking) -> list[str]:
    return [line for line in thinking.told() if " opened " in line]


def test_the_copies_of_an_ha_pair_do_not_hide_the_rhythm(thinking: Thinking, tmp_path: Path) -> None:
    for hour in range(12):
        thinking.hears(f"{hour}h", BEAT)
        thinking.hears(f"{hour * 3600 + 1}s", BEAT)
    assert len(opened(thinking)) == 2, "as with a single Alertmanager: then an hour is its rhythm"
    assert same(thinking, thinking.restarted(tmp_path))


def test_a_heartbeat_that_was_relabelled_is_not_missed(thinking: Thinking, tmp_path: Path) -> None:
    for minute in (0, 5, 10):
        thinking.hears(f"{minute}m", BEAT)
    for minute in range(15, 120, 5):
        thinking.hears(f"{minute}m", fires("Watchdog", severity="none", cluster="eu-1", site="a"))
    assert thinking.told() == []
    assert len(thinking.tenant.beats) == 1
    assert same(thinking, thinking.restarted(tmp_path))


def test_another_heartbeat_that_was_there_before_replaces_none(thinking: Thinking) -> None:
    for minute in range(0, 120, 5):
        thinking.hears(f"{minute}m", fires("Watchdog", severity="none", cluster="us-1"))
        if minute < 20:
            thinking.hears(f"{minute}m", BEAT)
    assert opened(thinking) == ["1800s #1 opened critical"]


def test_an_absence_is_given_up_after_a_week(thinking: Thinking, tmp_path: Path) -> None:
    thinking.hears("0s", BEAT)
    thinking.clock("8d")
    assert thinking.told() == [
        "900s #1 opened critical", "604800s #1 updated critical", "605100s #1 closed critical",
    ]  # fmt: skip
    assert thinking.events[-1].incident.expired
    assert not thinking.tenant.beats
    assert same(thinking, thinking.restarted(tmp_path))


def test_an_absence_teaches_what_is_usual(thinking: Thinking) -> None:
    thinking.hears("0s", BEAT)
    thinking.clock("16m")
    assert len(thinking.tenant.habits) == 1


# ---- time in which nobody listened -------------------------------------------------------------------------


def test_silence_counts_only_while_somebody_listens(thinking: Thinking, tmp_path: Path) -> None:
    """The front was down for nine hours: no heartbeat is missed, no alert is given up for that."""
    thinking.hears("0s", BEAT, fires("A", severity="warning"))
    thinking.started("9h")
    thinking.hears("32405s", BEAT, fires("A", severity="warning"))
    thinking.clock("17h")
    assert opened(thinking) == ["0s #1 opened warning", "33305s #2 opened critical"]
    assert not any(" closed " in line for line in thinking.told())
    assert same(thinking, thinking.restarted(tmp_path))


def test_a_heartbeat_that_does_not_come_after_a_start_is_missed_from_then(thinking: Thinking) -> None:
    thinking.hears("0s", BEAT)
    thinking.started("9h")
    thinking.clock("10h")
    assert opened(thinking) == [f"{9 * 3600 + 900}s #1 opened critical"]


def test_starting_again_and_again_hides_no_silence(thinking: Thinking) -> None:
    thinking.hears("0s", BEAT)
    for minute in range(1, 20):
        thinking.clock(f"{minute * 60 - 5}s")
        thinking.started(f"{minute}m")
    assert opened(thinking) == ["900s #1 opened critical"]


def test_an_alert_in_doubt_that_becomes_a_heartbeat_is_not_opened_when_that_is_settled() -> None:
    one = Thinking()
    one.hears("0s", fires("Pulse"))
    one.hears("40s", ends("Pulse", at="40s"))
    one.hears("45s", fires("Pulse"))  # a late copy, or it fires again
    beat = Heartbeat(match=('alertname="Pulse"',), missing_after_s=900.0)
    one.settings("50s", replace(SHARING, heartbeats=(beat,)))
    one.clock("10m")
    assert one.tenant.firing == {}
    assert one.tenant.watches == {}
