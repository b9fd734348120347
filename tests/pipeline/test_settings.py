"""Settings that change in the middle of it all: what runs goes on under the new ones, and a restart agrees."""

from __future__ import annotations

from pathlib import Path

import pytest
import timeline
from msgspec.structs import replace
from thinking import SHARING, Thinking, ends, fires, same

from bridge.analysis.settings import Destination, Heartbeat, Route, Source
from bridge.model import EventKind

CHAT, FILE = Destination(name="chat", wait_s=0.0), Destination(name="file", wait_s=0.0)
REMINDING = Route(to=("chat",), repeat_s=3600.0)
BASE = replace(SHARING, destinations=(CHAT, FILE), routes=(REMINDING,))
BEAT = Heartbeat(match=('alertname="Watchdog"',), missing_after_s=600.0)


@pytest.fixture
def thinking() -> Thinking:
    return Thinking(BASE)


def test_a_shorter_quiet_closes_earlier(thinking: Thinking, tmp_path: Path) -> None:
    thinking.hears("0s", fires("A"))
    thinking.hears("30s", ends("A", "30s"))
    thinking.settings("60s", replace(BASE, close_after_s=60.0))
    thinking.clock("10m")
    assert thinking.told()[-1] == "90s #1 closed warning"
    assert same(thinking, thinking.restarted(tmp_path))


def test_what_is_overdue_under_the_new_settings_happens_at_the_next_tick(thinking: Thinking) -> None:
    thinking.hears("0s", fires("A"))
    thinking.hears("30s", ends("A", "30s"))
    thinking.settings("122s", replace(BASE, close_after_s=60.0))
    thinking.clock("10m")
    assert thinking.told()[-1] == "125s #1 closed warning"


def test_a_longer_quiet_closes_later(thinking: Thinking, tmp_path: Path) -> None:
    thinking.hears("0s", fires("A"))
    thinking.hears("30s", ends("A", "30s"))
    thinking.settings("60s", replace(BASE, close_after_s=1200.0))
    thinking.clock("30m")
    assert thinking.told()[-1] == "1230s #1 closed warning"
    assert same(thinking, thinking.restarted(tmp_path))


@pytest.mark.parametrize(
    ("reopen_within_s", "again_at", "incidents"),
    [
        (60.0, "10m", 2),  # it was closed at 330 s: forgotten at once
        (1800.0, "10m", 1),
        (86_400.0, "10h", 1),
    ],
)
def test_how_long_a_closed_incident_reopens(
    thinking: Thinking, tmp_path: Path, reopen_within_s: float, again_at: str, incidents: int
) -> None:
    thinking.hears("0s", fires("A"))
    thinking.hears("30s", ends("A", "30s"))
    thinking.settings("9m", replace(BASE, reopen_within_s=reopen_within_s))
    thinking.hears(again_at, fires("A", starts=again_at))
    assert len({event.incident.id for event in thinking.events}) == incidents
    assert same(thinking, thinking.restarted(tmp_path))


def test_what_was_forgotten_stays_forgotten_when_memory_gets_longer(
    thinking: Thinking, tmp_path: Path
) -> None:
    thinking.hears("0s", fires("A"))
    thinking.hears("30s", ends("A", "30s"))
    thinking.settings("2h", replace(BASE, reopen_within_s=86_400.0))
    thinking.hears("3h", fires("A", starts="3h"))
    assert len({event.incident.id for event in thinking.events}) == 2
    assert same(thinking, thinking.restarted(tmp_path))


def test_a_shorter_window_takes_in_less(thinking: Thinking, tmp_path: Path) -> None:
    thinking.hears("0s", fires("A", host="h"))
    thinking.settings("60s", replace(BASE, window_s=30.0))
    thinking.hears("61s", fires("B", host="h", starts="61s"))
    assert len({event.incident.id for event in thinking.events}) == 2
    assert same(thinking, thinking.restarted(tmp_path))


def test_a_longer_window_takes_in_again(thinking: Thinking, tmp_path: Path) -> None:
    thinking.hears("0s", fires("A", host="h"))
    thinking.clock("16m")
    assert not thinking.tenant.index.holds(thinking.group.head.id)
    thinking.settings("17m", replace(BASE, window_s=7200.0))
    thinking.hears("18m", fires("B", host="h", starts="18m"))
    assert len(thinking.group.episodes) == 2
    assert same(thinking, thinking.restarted(tmp_path))


def test_a_source_that_repeats_more_often_is_believed_less_long(thinking: Thinking, tmp_path: Path) -> None:
    thinking.hears("0s", fires("A"))
    quick = Source(tenant="default", name="default", repeat_interval_s=300.0, group_interval_s=30.0)
    thinking.settings("60s", replace(BASE, sources=(quick,)))
    thinking.clock("20m")
    assert "660s #1 updated warning" in thinking.told()
    assert not thinking.group.firing
    assert same(thinking, thinking.restarted(tmp_path))


# ---- routes ----------------------------------------------------------------------------------------------


def test_new_matchers_are_asked_about_what_fires_already(thinking: Thinking) -> None:
    """The number of matchers stays the same, so a count would not notice."""
    before = replace(BASE, routes=(Route(match=('team="web"',), to=("chat",)),))
    thinking.settings("0s", before)
    thinking.hears("1s", fires("A", team="web"))
    thinking.settings("60s", replace(BASE, routes=(Route(match=('team="db"',), to=("file",)),)))
    thinking.hears("70s", fires("B", team="web", starts="70s"))
    thinking.hears("100s", fires("C", team="web", instance="h", starts="100s"))
    thinking.clock("10m")
    assert thinking.sent("file") == []
    thinking.settings("11m", replace(BASE, routes=(Route(match=('team=~"web|x"',), to=("file",)),)))
    thinking.hears("12m", ends("A", "12m", team="web"))
    thinking.clock("13m")
    assert [kind for kind, _, _ in thinking.sent("file")] == ["updated"]


def test_reminders_keep_their_time_when_their_route_moves(thinking: Thinking, tmp_path: Path) -> None:
    thinking.hears("0s", fires("A"))
    thinking.settings("30m", replace(BASE, routes=(Route(to=("file",)), REMINDING)))
    thinking.clock("2h")
    assert ("reminder", 3600.0, 0.0) in thinking.sent("chat")
    assert all(kind != "reminder" for kind, _, _ in thinking.sent("file"))
    assert same(thinking, thinking.restarted(tmp_path))


def test_a_route_that_is_gone_reminds_no_more_and_a_new_one_counts_from_its_beginning(
    thinking: Thinking, tmp_path: Path
) -> None:
    thinking.hears("0s", fires("A"))
    thinking.settings("30m", replace(BASE, routes=(Route(to=("file",), repeat_s=7200.0),)))
    thinking.clock("3h")
    reminders = [(entry.destination, entry.at) for entry in thinking.outbox if entry.kind == "reminder"]
    assert reminders == [("file", timeline.after("150m"))]
    assert same(thinking, thinking.restarted(tmp_path))


# ---- heartbeats ------------------------------------------------------------------------------------------


def test_what_is_no_heartbeat_any_more_is_not_missed(thinking: Thinking, tmp_path: Path) -> None:
    thinking.settings("0s", replace(BASE, heartbeats=(BEAT,)))
    thinking.hears("1s", fires("Watchdog"))
    thinking.settings("5m", BASE)
    thinking.clock("2h")
    assert thinking.told() == []
    assert thinking.tenant.beats == {}
    assert same(thinking, thinking.restarted(tmp_path))


def test_the_absence_of_what_is_no_heartbeat_any_more_is_over(thinking: Thinking, tmp_path: Path) -> None:
    thinking.settings("0s", replace(BASE, heartbeats=(BEAT,)))
    thinking.hears("0s", fires("Watchdog"))
    thinking.settings("20m", BASE)
    thinking.clock("40m")
    assert thinking.told() == [
        "600s #1 opened critical",
        "1200s #1 updated critical",
        "1500s #1 closed critical",
    ]
    thinking.hears("41m", fires("Watchdog"))
    assert thinking.told()[-1] == "2460s #2 opened warning", (
        "an alert like any other, in an incident of its own"
    )
    assert same(thinking, thinking.restarted(tmp_path))


def test_an_alert_that_becomes_a_heartbeat_ends_and_is_watched(thinking: Thinking, tmp_path: Path) -> None:
    thinking.hears("0s", fires("Watchdog"))
    thinking.settings("60s", replace(BASE, heartbeats=(BEAT,)))
    assert not thinking.group.firing
    assert thinking.tenant.watches == {}
    thinking.hears("2m", fires("Watchdog"))
    thinking.clock("20m")
    assert thinking.told() == [
        "0s #1 opened warning", "60s #1 updated warning", "360s #1 closed warning", "720s #2 opened critical",
    ]  # fmt: skip
    assert same(thinking, thinking.restarted(tmp_path))


def test_patience_with_a_heartbeat_changes_at_once(thinking: Thinking, tmp_path: Path) -> None:
    thinking.settings("0s", replace(BASE, heartbeats=(BEAT,)))
    thinking.hears("0s", fires("Watchdog"))
    thinking.settings("60s", replace(BASE, heartbeats=(replace(BEAT, missing_after_s=120.0),)))
    thinking.clock("10m")
    assert thinking.told() == ["120s #1 opened critical"]
    assert same(thinking, thinking.restarted(tmp_path))


# ---- the rest --------------------------------------------------------------------------------------------


def test_the_same_settings_again_change_nothing(thinking: Thinking) -> None:
    """A front says them at each start."""
    thinking.hears("0s", fires("A"))
    before = thinking.state.tenants["default"].timers
    outcome = thinking.settings("30s", BASE)
    assert not outcome.touched
    assert thinking.state.tenants["default"].timers is before


def test_severity_and_models_follow_the_settings(thinking: Thinking) -> None:
    thinking.settings(
        "0s",
        replace(
            BASE, severity_label="prio", severities={"a": "critical"}, unknown_severity="info", models=False
        ),
    )
    thinking.hears("1s", fires("A", prio=" A ", severity="info"))
    thinking.hears("2s", fires("B", severity="critical", starts="2s"))
    opened = [event for event in thinking.events if event.kind is EventKind.OPENED]
    assert [event.incident.severity for event in opened] == ["critical", "info"]
    assert all(event.degraded for event in opened)


def test_the_end_of_memory_counts_from_the_end_of_the_incident_though_nobody_listened_meanwhile(
    thinking: Thinking, tmp_path: Path
) -> None:
    """What is remembered in memory and what is loaded are bounded by the same time."""
    thinking.hears("1s", fires("Gone", host="a-1"))
    thinking.clock("9h")
    assert thinking.told()[-1].endswith("closed warning")
    thinking.started("12h")
    thinking.settings("12h", replace(SHARING, sensitivity=0.6))
    thinking.clock("18h")
    thinking.hears("18h", fires("Gone", host="a-1"))
    assert same(thinking, thinking.restarted(tmp_path))


def test_thresholds_of_one_alert_meet_whatever_label_tells_the_severity(
    thinking: Thinking, tmp_path: Path
) -> None:
    thinking.settings(
        "0s", replace(SHARING, severity_label="priority", severities={"p1": "critical", "p3": "warning"})
    )
    thinking.hears("1s", fires("DiskFull", starts="1s", priority="p3", mountpoint="/"))
    thinking.hears("40m", fires("DiskFull", starts="40m", priority="p1", mountpoint="/"))
    assert thinking.told()[0] == "1s #1 opened warning"
    assert {line.split()[1] for line in thinking.told()} == {"#1"}
    assert same(thinking, thinking.restarted(tmp_path))


def test_another_severity_label_builds_the_ladders_of_what_fires_anew(
    thinking: Thinking, tmp_path: Path
) -> None:
    thinking.hears("1s", fires("DiskFull", starts="1s", priority="p3", mountpoint="/"))
    thinking.settings("2s", replace(SHARING, severity_label="priority"))
    thinking.hears("40m", fires("DiskFull", starts="40m", priority="p1", mountpoint="/"))
    assert {line.split()[1] for line in thinking.told()} == {"#1"}
    assert same(thinking, thinking.restarted(tmp_path))


def test_an_alert_that_was_a_heartbeat_for_a_while_takes_no_episode_from_its_first_incident(
    thinking: Thinking, tmp_path: Path
) -> None:
    """Its watch is gone, and it fires on with the startsAt that names the episode which ended then."""
    brief = replace(BASE, reopen_within_s=60.0)
    thinking.settings("0s", brief)
    thinking.hears("0s", fires("Watchdog"), fires("B"))
    thinking.settings("60s", replace(brief, heartbeats=(BEAT,)))
    thinking.settings("2m", brief)
    thinking.hears("3m", fires("Watchdog"))
    first, _, second = thinking.tenant.groups.values()
    assert not first.episodes.keys() & second.episodes.keys()
    assert same(thinking, thinking.restarted(tmp_path))


def test_an_alert_that_was_forgotten_early_begins_anew(thinking: Thinking) -> None:
    """It was forgotten under a short repeat_interval; the long one that holds now does not tell of that."""
    thinking.settings(
        "0s", replace(BASE, sources=(Source(tenant="default", name="default", repeat_interval_s=60.0),))
    )
    thinking.hears("0s", fires("A"))
    thinking.hears("10s", ends("A", "10s"))
    thinking.clock("50m")
    assert thinking.tenant.watches == {}
    thinking.settings("55m", BASE)
    thinking.hears("60m", fires("A"))
    assert [key[2] for key in thinking.group.episodes] == [timeline.after("60m")]
