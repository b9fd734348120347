"""The straight path: what bad rows become, what large ones cost, and what is left when it is over."""

from __future__ import annotations

import base64
import itertools
import json
from datetime import timedelta
from pathlib import Path

import pytest
import timeline
from msgspec.structs import replace
from thinking import SHARING, Thinking, ends, fires, same
from timeline import after, webhook

from bridge.analysis.incidents import MAX_EVENT_EPISODES
from bridge.analysis.settings import Destination, Route
from bridge.model import EventKind, IncidentState, RowKind
from bridge.pipeline import finish


@pytest.fixture
def thinking() -> Thinking:
    return Thinking()


# ---- what cannot be used ---------------------------------------------------------------------------------


def test_a_malformed_alert_is_set_aside_and_the_others_go_on(thinking: Thinking) -> None:
    bad = {**fires("B"), "startsAt": "yesterday"}
    outcome = thinking.hears("0s", fires("A"), bad, fires("C", host="other"))
    (aside,) = outcome.quarantined
    assert (aside.what, aside.inbox_id, aside.tenant, aside.source) == ("alert", 1, "default", "default")
    assert "startsAt" in aside.reason
    assert json.loads(aside.body) == bad
    assert {event.incident.title.split()[0] for event in thinking.events} == {"A", "C"}
    assert thinking.counts["quarantined"] == 1


def test_a_webhook_whose_every_alert_is_bad_opens_nothing(thinking: Thinking, tmp_path: Path) -> None:
    outcome = thinking.hears("0s", *({**fires(f"A{n}"), "status": "maybe"} for n in range(5)))
    assert len(outcome.quarantined) == 5
    assert thinking.told() == []
    assert same(thinking, thinking.restarted(tmp_path))


def test_a_body_that_is_no_webhook_is_set_aside_whole(thinking: Thinking) -> None:
    outcome = thinking.row("0s", RowKind.WEBHOOK, b'{"alerts": 7}')
    (aside,) = outcome.quarantined
    assert (aside.what, aside.body) == ("body", b'{"alerts": 7}')
    assert thinking.state.tenants == {}


def test_a_rejected_body_is_set_aside_with_the_reason_it_was_given(thinking: Thinking) -> None:
    told = {"reason": "not JSON", "body_base64": base64.b64encode(b"\xff{").decode()}
    (aside,) = thinking.row("0s", RowKind.REJECTED, json.dumps(told).encode()).quarantined
    assert (aside.what, aside.reason, aside.body) == ("body", "not JSON", b"\xff{")


# ---- what Alertmanager says that is not so ---------------------------------------------------------------


def test_a_truncated_group_with_a_lying_status_ends_only_what_it_names(
    thinking: Thinking, tmp_path: Path
) -> None:
    """`max_alerts: 64`: 64 resolved are sent, 6 still fire and are cut off, and the status says "resolved"."""
    hosts = [f"h{n:02}" for n in range(70)]
    thinking.hears("0s", *(fires("Down", host=host) for host in hosts), group='{}:{alertname="Down"}')
    body = webhook(
        [ends("Down", "60s", host=host) for host in hosts[:64]], group='{}:{alertname="Down"}', truncated=6
    )
    assert json.loads(body)["status"] == "resolved"
    thinking.row("60s", RowKind.WEBHOOK, body)
    assert (thinking.group.head.state, len(thinking.group.firing)) == (IncidentState.OPEN, 6)
    thinking.clock("1h")
    assert thinking.group.head.state is IncidentState.OPEN
    assert same(thinking, thinking.restarted(tmp_path))


def test_the_same_alert_under_two_receivers_is_one(thinking: Thinking) -> None:
    thinking.hears("0s", fires("A"), group='{}/{team="x"}:{}')
    thinking.hears("0s", fires("A"), group="{}:{}")
    assert len(thinking.group.episodes) == 1


def test_the_same_alert_of_two_sources_or_tenants_is_two(thinking: Thinking) -> None:
    thinking.hears("0s", fires("A"), source="eu")
    thinking.hears("0s", fires("A"), source="us")
    thinking.hears("0s", fires("A"), tenant="other")
    assert len(thinking.tenant.watches) == len(thinking.tenant.firing) == 2
    assert {event.tenant for event in thinking.events} == {"default", "other"}


def test_an_alert_that_was_silenced_for_a_day_fires_on_without_harm(
    thinking: Thinking, tmp_path: Path
) -> None:
    """It expires, is forgotten, and then comes with the startsAt it always had: no id may be given twice."""
    thinking.hears("0s", fires("A", severity="warning"))
    thinking.hears("24h", fires("A", severity="warning"))
    assert thinking.told() == [
        "0s #1 opened warning", "29400s #1 updated warning", "29700s #1 closed warning", "86400s #2 opened warning",
    ]  # fmt: skip
    assert len({event.event_id for event in thinking.events}) == 4
    assert same(thinking, thinking.restarted(tmp_path))


def test_it_fires_on_in_an_incident_that_others_kept_open(thinking: Thinking, tmp_path: Path) -> None:
    thinking.hears("0s", fires("A", host="h"), fires("B", host="h"))
    for hour in range(4, 25, 4):
        thinking.hears(f"{hour}h", fires("B", host="h"))
    thinking.hears("24h", fires("A", host="h"))
    again = [episode for episode in thinking.group.episodes.values() if episode.name == "A"]
    assert [episode.firing for episode in again] == [False, True]
    assert again[0].expired
    assert same(thinking, thinking.restarted(tmp_path))


def test_times_of_a_row_that_go_back_count_as_now(thinking: Thinking) -> None:
    thinking.hears("10m", fires("A"))
    thinking.hears("5m", fires("B", host="other"))
    assert thinking.events[-1].at == after("10m")
    assert thinking.state.common.clock == after("10m")


# ---- what is large ---------------------------------------------------------------------------------------


def test_a_storm_in_one_webhook_is_one_message(thinking: Thinking, tmp_path: Path) -> None:
    storm = [fires("Down", host=f"h{n}", rack="r1", severity="critical") for n in range(5000)]
    thinking.hears("0s", *storm, group='{}:{alertname="Down"}')
    (event,) = thinking.events
    assert event.kind is EventKind.OPENED
    assert event.incident.alerts_total == 5000
    assert (len(event.incident.episodes), event.incident.truncated) == (MAX_EVENT_EPISODES, 4900)
    assert event.incident.title == "Down in rack r1 (5000 alerts)"
    thinking.hears("30s", *storm, group='{}:{alertname="Down"}')
    thinking.clock("10m")
    assert [event.kind.value for event in thinking.events] == ["opened"], "a resend says nothing"
    assert same(thinking, thinking.restarted(tmp_path))


def test_an_endless_storm_speaks_every_thirty_seconds(thinking: Thinking) -> None:
    for second in range(0, 300, 2):
        thinking.hears(f"{second}s", fires("Down", starts=f"{second}s", host=f"h{second}", rack="r1"))
    times = [event.at for event in thinking.events]
    assert len(times) == 10
    assert all(later - earlier >= timedelta(seconds=30) for earlier, later in itertools.pairwise(times))


def test_nothing_is_left_of_an_incident_that_can_no_longer_reopen(thinking: Thinking) -> None:
    for round_number in range(3):
        hour = 20 * round_number
        names = [f"A{round_number}x{n}" for n in range(50)]
        thinking.hears(f"{hour}h", *(fires(name, starts=f"{hour}h", host=name) for name in names))
        at = f"{hour * 3600 + 60}s"
        thinking.hears(at, *(ends(name, at, starts=f"{hour}h", host=name) for name in names))
    tenant = thinking.tenant
    assert tenant.ladders == {}
    assert set(tenant.kin) == {kin for group in tenant.groups.values() for kin in group.kin}
    held = [episode.starts_at for group in tenant.groups.values() for episode in group.episodes.values()]
    assert held == [after("40h")] * 50, "those of the last round"
    thinking.clock("60h")
    assert (tenant.groups, tenant.firing, tenant.homes, tenant.kin, tenant.watches) == ({}, {}, {}, {}, {})
    assert len(tenant.index) == 0
    assert len(tenant.timers) == 0
    assert thinking.state.next_tick() is None


# ---- who hears -------------------------------------------------------------------------------------------

ROUTED = replace(
    SHARING,
    destinations=(Destination(name="file", wait_s=0.0), Destination(name="chat", wait_s=30.0)),
    routes=(Route(to=("file",)), Route(to=("chat",), repeat_s=3600.0, match=('severity!="info"',))),
)


def test_an_open_incident_reminds_and_a_quiet_one_does_not(tmp_path: Path) -> None:
    thinking = Thinking(ROUTED)
    thinking.hears("0s", fires("A", severity="warning"))
    thinking.clock("150m")
    assert thinking.sent("chat") == [("opened", 0, 30), ("reminder", 3600, 0), ("reminder", 7200, 0)]
    thinking.hears("151m", ends("A", "151m", severity="warning"))
    thinking.clock("10h")
    assert thinking.sent("chat")[3:] == [("updated", 9060, 0), ("closed", 9360, 0)]
    assert ("reminder", 3600, 0) not in thinking.sent("file")
    assert same(thinking, thinking.restarted(tmp_path))


def test_a_reminder_that_was_due_while_it_was_quiet_does_not_ring_when_it_is_back(tmp_path: Path) -> None:
    thinking = Thinking(ROUTED)
    thinking.hears("0s", fires("A", severity="warning"))
    thinking.hears("3590s", ends("A", "3590s", severity="warning"))
    thinking.hears("3602s", fires("A", starts="3601s", severity="warning"))
    thinking.clock("3h")
    reminders = [at for kind, at, _ in thinking.sent("chat") if kind == "reminder"]
    assert reminders == [7220.0, 10_820.0][: len(reminders)]
    assert len(reminders) == 1
    assert same(thinking, thinking.restarted(tmp_path))


def test_a_reminder_does_not_swallow_the_update_of_those_who_want_none(tmp_path: Path) -> None:
    thinking = Thinking(replace(ROUTED, window_s=7200.0, sensitivity=0.9))
    thinking.hears("0s", fires("A", service="shop", severity="warning"))
    thinking.hears("3590s", fires("B", service="shop", starts="3590s", severity="warning"))
    thinking.hears("3595s", fires("C", service="shop", starts="3595s", severity="warning"))
    thinking.clock("4000s")
    assert thinking.sent("file") == [("opened", 0, 0), ("updated", 3590, 0), ("updated", 3620, 0)]
    assert ("reminder", 3600, 0) in thinking.sent("chat")
    assert thinking.events[-1].incident.alerts_total == 3
    assert same(thinking, thinking.restarted(tmp_path))


def test_what_was_over_when_it_was_heard_of_waits_for_its_end_where_people_are(tmp_path: Path) -> None:
    """A SIEM hears all of it at once; chat and pager would otherwise be told of something that is over."""
    thinking = Thinking(ROUTED)
    thinking.hears("0s", ends("A", "-20s", starts="-10m", severity="critical"))
    thinking.clock("10m")
    assert thinking.sent("file") == [("opened", 0, 0), ("closed", 300, 0)]
    assert thinking.sent("chat") == [("opened", 0, 330), ("closed", 300, 0)]
    assert same(thinking, thinking.restarted(tmp_path))


def test_a_critical_that_fires_after_all_does_not_wait_for_that(tmp_path: Path) -> None:
    thinking = Thinking(ROUTED)
    thinking.hears("0s", ends("A", "-20s", starts="-10m", severity="critical"))
    thinking.hears("60s", fires("A", starts="55s", severity="critical"))
    assert thinking.sent("chat")[1:] == [("escalated", 60, 0)]
    assert same(thinking, thinking.restarted(tmp_path))


def test_a_rising_severity_is_told_at_once_though_the_first_word_still_waits() -> None:
    thinking = Thinking(ROUTED)
    thinking.hears("0s", fires("A", service="shop", severity="warning"))
    thinking.hears("10s", fires("B", service="shop", severity="critical", starts="10s"))
    assert thinking.sent("chat") == [("opened", 0, 30), ("escalated", 10, 0)]
    assert thinking.group.progress.escalations == 1


def test_a_state_stored_by_another_start_goes_on(tmp_path: Path) -> None:
    """Everything at once: routes, quiet, dispute and reminders across a restart after each row."""
    thinking = Thinking(ROUTED)
    thinking.hears("0s", fires("A", host="h", severity="info"), fires("B", host="h", severity="warning"))
    thinking.hears("40s", ends("A", "40s", host="h", severity="info"))
    thinking.hears("50s", fires("A", host="h", severity="info"))
    thinking.hears("70s", fires("C", host="h", starts="70s", severity="critical"))
    thinking.clock("90m")
    for name, severity in (("A", "info"), ("B", "warning"), ("C", "critical")):
        thinking.hears("91m", ends(name, "91m", host="h", severity=severity))
    thinking.clock("92m")
    thinking.hears("99m", fires("B", host="h", starts="98m", severity="warning"))
    thinking.clock("3h")
    assert same(thinking, thinking.restarted(tmp_path))
    kinds = [event.kind.value for event in thinking.events]
    assert {"opened", "escalated", "updated", "closed", "reopened", "reminder"} <= set(kinds)


# ---- the end of a recording ------------------------------------------------------------------------------


def test_finish_lets_time_run_until_everything_is_closed(thinking: Thinking) -> None:
    thinking.hears("0s", fires("A", severity="warning"))
    thinking.take(finish(thinking.state))
    assert thinking.told()[-1] == "29700s #1 closed warning"
    assert thinking.events[-1].incident.expired
    assert thinking.state.common.clock == after("29700s")


def test_finish_stops_where_it_is_told_to(thinking: Thinking) -> None:
    thinking.hears("0s", fires("A", severity="warning"))
    thinking.take(finish(thinking.state, after("1h")))
    assert thinking.told() == ["0s #1 opened warning"]
    assert thinking.state.common.clock == after("1h")


def test_the_address_of_tocsin_is_in_its_events() -> None:
    thinking = Thinking(replace(SHARING, external_url="https://tocsin.example/"))
    thinking.hears("0s", fires("A"))
    incident = thinking.events[0].incident
    assert incident.url == f"https://tocsin.example/api/v1/incidents/{incident.id}"
    assert thinking.events[0].at == timeline.START


def test_what_is_forgotten_is_no_late_copy():
    thinking = Thinking()
    thinking.hears("0s", fires("Slow"))
    thinking.hears("1m", ends("Slow", "1m"))
    thinking.clock("3d")
    assert thinking.tenant.watches == {}
    changes = {name: number for name, number in thinking.counts.items() if name.startswith("change:")}
    assert changes == {"change:first_seen": 1, "change:resolved": 1}
