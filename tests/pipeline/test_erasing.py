"""Erasing: what becomes of incidents, of what was learned, and of who waits for them, in one row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import timeline
from thinking import SHARING, Thinking, ends, fires, same
from timeline import after

from bridge.analysis.erasing import MASK, Erase, Label
from bridge.analysis.settings import Destination, Route
from bridge.model import IncidentState, RowKind
from bridge.pipeline import Outcome, advance

BY_HOST = Erase(id="era-1", label=Label(name="host", value="pc-anna-3"))
ROUTED = msgspec.structs.replace(
    SHARING, destinations=(Destination(name="pager", wait_s=0.0),), routes=(Route(to=("pager",)),)
)


def erases(thinking: Thinking, at: str, what: Erase = BY_HOST, **where: Any) -> Outcome:
    return thinking.row(at, RowKind.ERASE, msgspec.json.encode(what), **where)


def test_an_open_incident_of_which_nothing_is_left_closes_so_that_its_page_ends() -> None:
    thinking = Thinking(ROUTED)
    thinking.hears("0s", fires("DiskFull", host="pc-anna-3", severity="critical"))
    erases(thinking, "10s")
    group = thinking.group
    assert (group.head.state, group.head.title, group.head.common_labels) == (IncidentState.CLOSED, MASK, {})
    assert [(event.seq, event.kind.value) for event in thinking.events] == [(1, "opened"), (2, "closed")]
    assert thinking.events[-1].incident.episodes == ()
    assert [entry.kind for entry in thinking.outbox] == ["opened", "closed"]
    thinking.clock("2h")
    assert thinking.tenant.groups == {}


def test_an_incident_that_keeps_alerts_is_worded_anew_and_says_so() -> None:
    thinking = Thinking(ROUTED)
    thinking.hears("0s", fires("DiskFull", host="pc-anna-3", node="rack-4", severity="critical"))
    thinking.hears("5s", fires("RackHot", node="rack-4", severity="warning"))
    assert len(thinking.group.episodes) == 2
    erases(thinking, "60s")
    event = thinking.events[-1]
    assert (event.kind.value, event.incident.severity, event.incident.alerts_total) == (
        "updated",
        "warning",
        1,
    )
    assert [each.labels["alertname"] for each in event.incident.episodes] == ["RackHot"]
    assert "DiskFull" not in msgspec.json.encode(event).decode()
    assert thinking.group.head.state is IncidentState.OPEN


def test_an_incident_in_which_nothing_fires_any_more_goes_quiet() -> None:
    thinking = Thinking(ROUTED)
    thinking.hears("0s", fires("DiskFull", host="pc-anna-3", node="rack-4"))
    thinking.hears("1s", fires("RackHot", node="rack-4"))
    thinking.hears("2s", ends("RackHot", "2s", node="rack-4"))
    erases(thinking, "60s")
    assert thinking.group.head.state is IncidentState.QUIET
    thinking.clock("1h")
    assert [event.kind.value for event in thinking.events][-1] == "closed"


def test_an_alert_that_fires_on_is_new_when_it_is_sent_again() -> None:
    thinking = Thinking(ROUTED)
    thinking.hears("0s", fires("DiskFull", host="pc-anna-3"))
    erases(thinking, "10s")
    thinking.hears("5m", fires("DiskFull", host="pc-anna-3"))
    assert [event.kind.value for event in thinking.events] == ["opened", "closed", "opened"]
    assert len({event.incident.id for event in thinking.events}) == 2


def test_other_alerts_lose_the_word_and_keep_their_place() -> None:
    thinking = Thinking(ROUTED)
    thinking.hears("0s", fires("Backup", job="nightly", note="pc-anna-3 is late, pc-anna-33 is not"))
    (before,) = thinking.group.episodes
    erases(thinking, "10s")
    (episode,) = thinking.group.episodes.values()
    assert list(thinking.group.episodes) == [before]
    assert episode.annotations["summary"] == f"{MASK} is late, pc-anna-33 is not"
    assert [event.kind.value for event in thinking.events] == ["opened"], "it is no news"


def test_a_label_that_is_a_common_word_is_no_word_of_other_texts() -> None:
    thinking = Thinking(ROUTED)
    thinking.hears("0s", fires("A", env="on", host="x-1"), fires("B", note="the lamp is on", host="x-1"))
    erases(thinking, "10s", Erase(id="era-1", label=Label(name="env", value="on")))
    texts = [each.annotations["summary"] for each in thinking.group.episodes.values()]
    assert texts == ["the lamp is on"]


def test_a_label_value_that_is_one_of_our_own_words_breaks_nothing() -> None:
    thinking = Thinking(ROUTED)
    thinking.hears(
        "0s", fires("A", host="x-1", severity="critical"), fires("B", host="x-1", severity="warning")
    )
    erases(thinking, "10s", Erase(id="era-1", label=Label(name="severity", value="critical")))
    assert [each.name for each in thinking.group.episodes.values()] == ["B"]
    thinking.hears("20s", fires("C", state="default", host="x-1"))
    erases(thinking, "30s", Erase(id="era-2", label=Label(name="state", value="default")))
    (key,) = thinking.group.episodes
    assert key[0] == "default", "it is the name of the source"


def test_what_came_later_than_the_time_that_was_named_stays() -> None:
    thinking = Thinking(ROUTED)
    thinking.hears("0s", fires("Old", host="pc-anna-3"))
    thinking.hears("60s", fires("New", host="pc-anna-3"))
    erases(thinking, "2m", msgspec.structs.replace(BY_HOST, before=after("30s")))
    assert [each.name for each in thinking.group.episodes.values()] == ["New"]


def test_what_a_person_said_of_it_is_not_read_any_more() -> None:
    thinking = Thinking(ROUTED)
    thinking.hears("0s", fires("DiskFull", host="pc-anna-3"))
    action = thinking.says("5s", "act-1", "note", incident=thinking.group.head.id, text="call Anna")
    assert action.text == "call Anna"
    thinking.says("6s", "act-2", "useful", incident=thinking.group.head.id)
    assert thinking.tenant.lessons
    erases(thinking, "10s")
    assert (thinking.tenant.actions["act-1"].text, thinking.tenant.lessons) == (MASK, {})


def test_a_tenant_without_a_time_keeps_nothing_but_numbers_that_are_used_once() -> None:
    thinking = Thinking(ROUTED)
    thinking.hears("0s", fires("DiskFull", host="pc-anna-3"), fires("Load", service="shop"))
    erases(thinking, "10s", Erase(id="era-1"))
    tenant = thinking.tenant
    learned: list[Any] = [
        tenant.templates, tenant.habits, tenant.sightings, tenant.watches, tenant.orders, tenant.actions,
        tenant.pending, tenant.counted, tenant.happened, tenant.firing, tenant.kin,
    ]  # fmt: skip
    assert not any(learned)
    assert all(not group.episodes for group in tenant.groups.values())
    assert tenant.record.sighted == 2
    thinking.hears("20s", fires("DiskFull", host="pc-anna-3"))
    assert thinking.events[-1].kind.value == "opened"


def test_a_tenant_that_is_erased_while_it_is_behind_stays_where_it_is() -> None:
    thinking = Thinking(ROUTED)
    thinking.hears("0s", fires("DiskFull", host="pc-anna-3"))
    other = timeline.row(3, after("60s"), timeline.webhook([fires("A", starts="60s")]), tenant="other")
    advance(thinking.state, [other], behind={"default"})
    body = msgspec.json.encode(Erase(id="era-1"))
    advance(thinking.state, [timeline.row(2, after("10s"), body, kind=RowKind.ERASE)], behind={"default"})
    assert thinking.tenant.record.behind_at == after("10s")


def test_an_erase_that_is_done_or_cannot_be_understood_changes_nothing() -> None:
    thinking = Thinking(ROUTED)
    thinking.hears("0s", fires("DiskFull", host="pc-anna-3"))
    picture = thinking.state.picture()
    assert not erases(thinking, "0s", msgspec.structs.replace(BY_HOST, sealed=True)).erasures
    assert thinking.state.picture() == picture
    outcome = thinking.row("0s", RowKind.ERASE, b'{"id": 7, "pc-anna-3"')
    assert [(each.what, each.body) for each in outcome.quarantined] == [("body", b"")]


def test_a_restart_after_each_row_changes_nothing(tmp_path: Path) -> None:
    thinking = Thinking(ROUTED)
    thinking.hears("0s", fires("DiskFull", host="pc-anna-3", node="rack-4"), fires("RackHot", node="rack-4"))
    thinking.hears("5s", fires("Lone", host="pc-anna-3", severity="critical"))
    erases(thinking, "10s")
    thinking.hears("20s", fires("DiskFull", host="pc-anna-3", node="rack-4"))
    thinking.clock("2h")
    assert same(thinking.restarted(tmp_path), thinking)
