"""What Alertmanager lists and records, held against what webhooks told: repaired, settled, marked, and never paged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from thinking import SHARING, Thinking, ends, fires, listed, same
from timeline import after, stamp

from bridge.analysis.settings import Destination, Heartbeat, Route, Source
from bridge.model import Episode, EventKind, RowKind
from bridge.webhooks.alertmanager import fingerprint_of

SETTINGS = replace(
    SHARING,
    sources=(Source(tenant="default", name="default", group_interval_s=30.0),),
    heartbeats=(Heartbeat(match=('alertname="Watchdog"',), missing_after_s=900.0),),
    destinations=(Destination(name="pager", wait_s=0.0),),
    routes=(Route(to=("pager",)),),
)
DB = {"instance": "db-1:9100", "severity": "critical"}
#: Longer than a webhook may be on its way (two group intervals), and more.
LATER = "5m"


def thinking() -> Thinking:
    return Thinking(SETTINGS)


def fired() -> Thinking:
    """An alert that a webhook told of and that Alertmanager lists."""
    one = thinking()
    one.hears("0s", fires("Down", **DB))
    one.finds("30s", listed("Down", **DB))
    return one


def episodes(one: Thinking) -> list[Episode]:
    groups = one.state.tenants["default"].groups.values()
    return sorted(
        (episode for group in groups for episode in group.episodes.values()), key=lambda each: each.starts_at
    )


def kinds(one: Thinking) -> list[EventKind]:
    return [event.kind for event in one.events]


def fingerprint(name: str, **labels: str) -> str:
    return fingerprint_of({"alertname": name, **labels})


# ---- gone ---------------------------------------------------------------------------------------------------


def test_a_resolve_that_never_came_is_found() -> None:
    one = fired()
    one.finds(LATER, left={fingerprint("Down", **DB): 100.0})
    (episode,) = episodes(one)
    assert (episode.ends_at, episode.expired) == (after("200s"), False)
    assert episode.why.endswith("; gone from Alertmanager, no resolve came")
    assert one.counts["change:gone"] == one.counts["reconciled:ended"] == 1
    one.clock("20m")
    assert kinds(one)[-1] is EventKind.CLOSED
    assert not one.events[-1].incident.expired


def test_what_left_before_anybody_looked_ends_when_that_is_found() -> None:
    one = fired()
    one.finds(LATER)
    assert episodes(one)[0].ends_at == after(LATER)


@pytest.mark.parametrize(
    "found",
    [{"settled": False}, {"silent": ("http://am-1",)}, {"left": {fingerprint("Down", **DB): 59.0}}],
    ids=["one round", "a peer is silent", "it left just now"],
)
def test_nothing_ends_before_everybody_has_agreed(found: dict[str, Any]) -> None:
    one = fired()
    one.finds(LATER, **found)
    assert episodes(one)[0].firing


def test_alerts_of_another_source_do_not_end() -> None:
    one = fired()
    one.hears("31s", fires("Down", **DB), source="eu")
    one.finds("32s", listed("Down", **DB), source="eu")
    one.finds("20m", source="eu")
    assert [(episode.source, episode.firing) for episode in episodes(one)] == [
        ("default", True),
        ("eu", False),
    ]


def test_what_these_alertmanagers_never_listed_does_not_end() -> None:
    one = thinking()
    one.hears("0s", fires("Down", **DB))
    one.finds(LATER)
    assert episodes(one)[0].firing


def test_a_resolve_that_comes_after_all_changes_nothing_any_more() -> None:
    one = fired()
    one.finds(LATER)
    one.clock("306s")  # an update tells that it is over
    told = len(one.events)
    one.hears("310s", ends("Down", at="200s", **DB))
    assert episodes(one)[0].ends_at == after(LATER)
    assert len(one.events) == told


def test_it_fires_again_whatever_clock_its_sender_has() -> None:
    one = fired()
    one.finds(LATER)
    one.hears("6m", fires("Down", starts="10s", **DB))
    assert [episode.firing for episode in episodes(one)] == [False, True]


# ---- missed -------------------------------------------------------------------------------------------------


def test_a_firing_that_no_webhook_named_is_found() -> None:
    one = thinking()
    one.finds(LATER, listed("Down", starts="2m", **DB))
    (episode,) = episodes(one)
    assert (episode.starts_at, episode.severity) == (after("2m"), "critical")
    assert episode.why == "first alert of this incident; Alertmanager lists it, but no webhook named it"
    assert kinds(one) == [EventKind.OPENED]
    assert one.counts["reconciled:opened"] == 1
    one.hears("6m", fires("Down", starts="2m", **DB))  # now it comes
    assert len(episodes(one)) == 1


@pytest.mark.parametrize(
    "changes",
    [{"stands": False}, {"ours": False}, {"unprocessed": True}, {"told": False}, {"suppressed": "muted"}],
)
def test_what_is_not_certain_or_not_for_us_is_not_opened(changes: dict[str, Any]) -> None:
    one = thinking()
    one.finds(LATER, listed("Down", **changes, **DB))
    assert episodes(one) == []


def test_what_came_back_unheard_is_opened_where_all_peers_list_it() -> None:
    one = fired()
    one.hears("60s", ends("Down", at="60s", **DB))
    one.finds(LATER, listed("Down", starts="2m", everywhere=False, **DB))
    assert not any(episode.firing for episode in episodes(one))
    one.finds("6m", listed("Down", starts="2m", **DB))
    assert [episode.starts_at for episode in episodes(one) if episode.firing] == [after("2m")]


def test_a_heartbeat_is_neither_missed_nor_heard() -> None:
    one = thinking()
    one.hears("0s", fires("Watchdog"))
    one.finds(LATER, listed("Watchdog"))
    one.clock("16m")
    assert [episode.labels["alertname"] for episode in episodes(one)] == ["WatchdogMissing"]


# ---- disputed -----------------------------------------------------------------------------------------------


def disputed() -> Thinking:
    one = thinking()
    one.hears("0s", fires("Down", **DB), group="g")
    one.hears("40s", ends("Down", at="40s", **DB), group="g")
    one.hears("45s", fires("Down", **DB), group="g")
    return one


def test_a_doubt_ends_at_once_where_all_peers_list_it() -> None:
    one = disputed()
    one.finds("48s", listed("Down", stands=False, **DB), settled=False)
    first, second = episodes(one)
    assert (first.firing, second.firing, second.disputed) == (False, True, False)
    assert second.starts_at == after("45s")
    assert second.why.endswith("every Alertmanager lists it: the firing in doubt is real")
    one.clock("3m")
    assert one.counts["reconciled:settled"] == 1
    assert len(episodes(one)) == 2


def test_a_doubt_ends_at_once_where_no_peer_lists_it() -> None:
    one = disputed()
    one.finds("48s", settled=False)
    one.clock("3m")
    assert [episode.firing for episode in episodes(one)] == [False]
    assert one.counts["reconciled:taken_back"] == 1


@pytest.mark.parametrize(
    "found",
    [{"began_s": 4.0}, {"silent": ("http://am-1",)}],
    ids=["the round began before it", "a peer is silent"],
)
def test_time_decides_where_the_round_cannot(found: dict[str, Any]) -> None:
    one = disputed()
    one.finds("48s", **found)
    one.clock("3m")
    assert [episode.firing for episode in episodes(one)] == [False, True]


# ---- held back ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["silenced", "inhibited", "muted"])
def test_what_is_held_back_is_marked_and_believed_on(by: Any) -> None:
    one = fired()
    one.finds("60s", listed("Down", suppressed=by, **DB))
    assert episodes(one)[0].suppressed == by
    for hour in range(1, 20):
        one.finds(f"{hour}h", listed("Down", suppressed=by, **DB))
    (episode,) = episodes(one)
    assert (episode.firing, episode.suppressed) == (True, by)
    assert one.events[-1].incident.episodes[0].suppressed == by
    assert EventKind.CLOSED not in kinds(one)


def test_the_mark_goes_when_it_is_not_held_back_any_more() -> None:
    one = fired()
    one.finds("60s", listed("Down", suppressed="silenced", **DB))
    one.finds("90s", listed("Down", **DB))
    assert episodes(one)[0].suppressed == ""
    one.finds("2m", listed("Down", suppressed="silenced", **DB))
    one.hears("3m", fires("Down", **DB))  # Alertmanager tells of nothing that it holds back
    assert episodes(one)[0].suppressed == ""
    assert (one.counts["reconciled:suppressed"], one.counts["reconciled:unsuppressed"]) == (2, 1)


def test_the_mark_goes_with_the_end() -> None:
    one = fired()
    one.finds("60s", listed("Down", suppressed="silenced", **DB))
    one.hears("3m", ends("Down", at="3m", **DB))
    assert episodes(one)[0].suppressed == ""


def test_what_was_never_told_of_and_is_held_back_pages_nobody_and_is_noted_by_name() -> None:
    one = thinking()
    one.finds("60s", listed("Down", suppressed="silenced", **DB))
    one.finds(LATER, listed("Down", suppressed="inhibited", **DB))
    assert one.events == []
    hidden = one.state.tenants["default"].record.hidden["Down"]
    assert (hidden.by, hidden.source) == ("inhibited", "default")
    assert (hidden.first_at, hidden.last_at) == (after("60s"), after(LATER))


def test_of_many_names_that_are_held_back_the_newest_are_remembered() -> None:
    one = thinking()
    for number in range(120):
        one.finds(f"{number}s", listed(f"Down{number}", suppressed="silenced"))
    hidden = one.state.tenants["default"].record.hidden
    assert len(hidden) == 100
    assert "Down119" in hidden
    assert "Down19" not in hidden


def owed() -> Thinking:
    """People were called for one alert, and for another that came too soon after that they are to be called later."""
    one = fired()
    one.hears("40s", fires("Full", starts="40s", **DB))
    one.finds("60s", listed("Down", **DB), listed("Full", starts="40s", suppressed="silenced", **DB))
    return one


def test_people_are_not_called_for_what_they_silenced_meanwhile() -> None:
    one = owed()
    assert one.group.progress.ring_at == after("15m")
    one.clock("20m")
    assert EventKind.ESCALATED not in kinds(one)


def test_people_are_called_for_what_fires_on_after_its_silence() -> None:
    one = owed()
    one.clock("20m")
    one.finds("21m", listed("Down", **DB), listed("Full", starts="40s", **DB))
    assert kinds(one)[-1] is EventKind.ESCALATED


# ---- the event recorder -------------------------------------------------------------------------------------


def event(
    kind: str, name: str, *, starts: str = "0s", ends_at: str = "0s", **labels: str
) -> dict[str, object]:
    named = {"alertname": name, **labels}
    details = {
        "fingerprint": str(int(fingerprint_of(named), 16)),
        "labels": {"labels": [{"key": key, "value": value} for key, value in named.items()]},
        "startsAt": stamp(after(starts)), "endsAt": stamp(after(ends_at)),
    }  # fmt: skip
    what = {"alert": {"details": details}} if kind == "alertResolved" else {"mutedAlert": details}
    return {"instance": "am-0", "data": {kind: what}}


@pytest.mark.parametrize(
    ("kind", "by"), [("silenceMutedAlert", "silenced"), ("inhibitionMutedAlert", "inhibited")]
)
def test_the_recorder_tells_who_holds_back_what_fires(kind: str, by: str) -> None:
    one = fired()
    one.records("60s", event(kind, "Down", **DB), event(kind, "Slow", **DB))
    assert [(episode.name, episode.suppressed) for episode in episodes(one)] == [("Down", by)]
    assert list(one.state.tenants["default"].record.hidden) == ["Slow"]
    assert one.counts[f"recorded:{kind}"] == 2


def test_the_recorder_tells_of_an_end_that_a_silence_hid() -> None:
    one = fired()
    one.records("60s", event("silenceMutedAlert", "Down", **DB))
    one.records("2m", event("alertResolved", "Down", ends_at="110s", **DB))
    (episode,) = episodes(one)
    assert (episode.ends_at, episode.suppressed) == (after("110s"), "")


def test_the_end_of_an_alert_that_was_never_told_of_opens_nothing() -> None:
    one = thinking()
    one.records("2m", event("alertResolved", "Down", ends_at="110s", **DB))
    one.records("3m", event("silenceMutedAlert", "Watchdog"))
    assert one.events == []
    assert one.state.tenants["default"].record.hidden == {}


# ---- what makes no sense, and restarts ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (RowKind.FOUND, b"[]"),
        (RowKind.FOUND, b'{"asked": 1, "began_s": 1e300}'),
        (RowKind.FOUND, b'{"asked": 1, "left": {"a": -1}}'),
        (
            RowKind.FOUND,
            b'{"asked": 1, "listed": [{"fingerprint": "a", "starts_at": "2026-01-01T00:00:00"}]}',
        ),
        (RowKind.FOUND, b'{"asked": 1, "unusable": [{"reason": "x", "body_base64": "x"}]}'),
        (RowKind.FOUND, b"\xff"),
        (RowKind.RECORDED, b"{}"),
        (RowKind.RECORDED, b"\xff"),
    ],
)
def test_a_row_that_makes_no_sense_is_quarantined(kind: RowKind, body: bytes) -> None:
    (entry,) = thinking().row("0s", kind, body).quarantined
    assert (entry.what, entry.body) == ("body", body)
    assert entry.reason


def test_what_could_not_be_used_is_quarantined_with_its_reason() -> None:
    unusable = {"reason": "unusable alert in a list: no labels", "body_base64": "e30="}
    (found,) = thinking().finds("0s", unusable=(unusable,)).quarantined
    assert (found.what, found.reason, found.body) == ("alert", unusable["reason"], b"{}")
    (recorded,) = thinking().records("0s", {"data": {"silenceMutedAlert": 7}}).quarantined
    assert recorded.body == b'{"data": {"silenceMutedAlert": 7}}'


def test_restarts_change_nothing(tmp_path: Path) -> None:
    one = disputed()
    one.finds("48s", listed("Down", **DB), listed("Slow", starts="10s", **DB))
    one.finds("60s", listed("Down", suppressed="silenced", **DB), listed("Hidden", suppressed="inhibited"))
    one.records("70s", event("silenceMutedAlert", "Slow", **DB), event("silenceMutedAlert", "Other"))
    one.finds(LATER, listed("Slow", suppressed="silenced", told=False, **DB))
    one.clock("30m")
    assert one.counts["change:gone"] == 1
    assert same(one, one.restarted(tmp_path))
