"""Incidents: the legal moves, splits and merges, who is rung again, and what an event holds."""

from __future__ import annotations

import itertools

import pytest
from groups import at, episode, group
from hypothesis import given
from hypothesis import strategies as st

from bridge.analysis import calling, incidents
from bridge.analysis.incidents import MOVES, Signal, event_of, incident_id
from bridge.analysis.regrouping import merge, split
from bridge.model import EventKind, IncidentState

S = IncidentState


def states() -> dict[IncidentState, incidents.Group]:
    """One incident in every state, brought there by legal moves."""
    made = {state: group([episode()]) for state in S}
    made[S.QUIET].move(Signal.ALL_ENDED)
    made[S.CLOSED].move(Signal.ALL_ENDED)
    made[S.CLOSED].move(Signal.QUIET_OVER)
    made[S.MERGED].move(Signal.MERGED)
    return made


@pytest.mark.parametrize(
    ("before", "signal", "after"),
    [
        (S.OPEN, Signal.FIRES, S.OPEN),  # one more alert
        (S.OPEN, Signal.ALL_ENDED, S.QUIET),
        (S.QUIET, Signal.FIRES, S.OPEN),  # flapping
        (S.QUIET, Signal.QUIET_OVER, S.CLOSED),
        (S.CLOSED, Signal.FIRES, S.OPEN),  # reopened
        (S.OPEN, Signal.MERGED, S.MERGED),
        (S.QUIET, Signal.MERGED, S.MERGED),
        (S.CLOSED, Signal.MERGED, S.MERGED),
        (S.OPEN, Signal.CLOSED_BY_HAND, S.CLOSED),
        (S.QUIET, Signal.CLOSED_BY_HAND, S.CLOSED),
        (S.CLOSED, Signal.ALL_ENDED, S.CLOSED),  # closed by hand, and what fired on has ended
        (S.MERGED, Signal.TAKEN_BACK, S.QUIET),
    ],
)
def test_a_legal_move(before: IncidentState, signal: Signal, after: IncidentState) -> None:
    made = states()[before]
    assert made.move(signal) is before
    assert made.head.state is after
    assert MOVES[before, signal] is after


def test_every_other_move_is_a_bug_and_changes_nothing() -> None:
    others = set(itertools.product(S, Signal)) - set(MOVES)
    assert len(others) == 12
    for before, signal in others:
        made = states()[before]
        with pytest.raises(KeyError):
            made.move(signal)
        assert made.head.state is before


# ---- counts ----------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy"), st.booleans()), min_size=1, max_size=12)
)
def test_counts_do_not_depend_on_how_episodes_came(given_episodes: list[tuple[str, str, bool]]) -> None:
    """What is kept up to date step by step is what a loaded incident counts anew."""
    live = group([episode("First", host="h")])
    for number, (name, host, over) in enumerate(given_episodes, 1):
        one = episode(name, number, host=host, service="shop")
        live.add(one)
        if over:
            live.add(incidents.replace(one, ends_at=at(number + 1)))
    loaded = incidents.Group(live.head, live.progress, reversed(list(live.episodes.values())))
    assert loaded.held == live.held
    assert loaded.templates == live.templates
    assert loaded.common == live.common
    assert loaded.firing == live.firing
    assert loaded.alerts == live.alerts


def test_an_episode_told_anew_is_not_counted_twice() -> None:
    made = group([episode("A", host="h")])
    made.add(episode("A", host="h", ended=60))
    assert made.held["host=h"][0] == 1
    assert not made.firing


# ---- identity --------------------------------------------------------------------------------------------


def test_an_id_is_the_same_in_every_replay() -> None:
    assert incident_id(episode()) == incident_id(episode())
    assert incident_id(episode()).startswith("inc-")


def test_an_alert_that_fires_on_with_its_old_start_opens_another_incident() -> None:
    """It was silenced for a day: it expired here, its watch was forgotten, and then it fires on."""
    again = episode(changes={"seen_at": at(100_000)})
    assert incident_id(again) != incident_id(episode())


# ---- split and merge -------------------------------------------------------------------------------------


def key(one: incidents.Episode) -> incidents.EpisodeKey:
    return (one.source, one.fingerprint, one.starts_at)


def test_a_split_gives_both_sides_their_episodes_severity_and_state() -> None:
    bad, mild, over = (
        episode("A", 0, "critical"),
        episode("B", 5, "warning"),
        episode("C", 6, "info", ended=9),
    )
    stays, leaves = split(group([bad, mild, over]), [key(mild), key(over)], at(60))
    assert list(stays.episodes) == [key(bad)]
    assert stays.head.severity == "critical"
    assert leaves.head.severity == "warning"
    assert leaves.head.state is S.OPEN
    assert leaves.head.split_from == stays.head.id
    assert {one.incident for one in leaves.episodes.values()} == {leaves.head.id}
    assert (leaves.head.seq, leaves.head.opened_at) == (0, at(60))
    assert all(one.why == f"split from {stays.head.id}" for one in leaves.episodes.values())


def test_what_stays_without_a_firing_alert_goes_quiet_and_so_does_what_leaves() -> None:
    over, fires = episode("A", 0, ended=9), episode("B", 5)
    stays, leaves = split(group([over, fires]), [key(fires)], at(60))
    assert (stays.head.state, stays.progress.quiet_at) == (S.QUIET, at(60))
    stays, leaves = split(group([over, fires]), [key(over)], at(60))
    assert (leaves.head.state, leaves.progress.quiet_at) == (S.QUIET, at(60))


def test_an_alert_split_off_merged_back_and_split_off_again_gets_another_id() -> None:
    one, other = episode("A"), episode("B", 5)
    whole = group([one, other])
    ids = {whole.head.id}
    for number in range(1, 4):
        whole, left = split(whole, [key(other)], at(60 * number))
        assert left.head.generation == number
        ids.add(left.head.id)
        merge(whole, left, at(60 * number + 30), "back")
    assert len(ids) == 4


@pytest.mark.parametrize(
    "leaving",
    [[], ["all"], ["unknown"]],
    ids=["nothing leaves", "everything leaves", "somebody else's leaves"],
)
def test_a_split_that_is_none(leaving: list[str]) -> None:
    one, other = episode("A"), episode("B", 5)
    keys = {"all": [key(one), key(other)], "unknown": [key(episode("C"))]}
    with pytest.raises(ValueError, match="some, but not all"):
        split(group([one, other]), keys[leaving[0]] if leaving else [], at(60))


def test_a_merge_moves_everything_into_the_older() -> None:
    older = group([episode("A", 0)])
    younger = group([episode("B", 50, "critical", changes={"why": "same host"})], opened=50)
    merge(older, younger, at(70), "3 alerts fitted both incidents")
    assert older.head.severity == "critical"
    assert older.head.active_at == at(50)
    assert {one.incident for one in older.episodes.values()} >= {older.head.id}
    moved = older.episodes[key(episode("B", 50, "critical", changes={"why": "same host"}))]
    assert moved.why == "same host; 3 alerts fitted both incidents"
    assert younger.head.state is S.MERGED
    assert (younger.head.merged_into, younger.head.closed_at) == (older.head.id, at(70))
    assert not younger.episodes
    assert younger.head.title == "B", "its last title stays readable"
    event = event_of(younger, EventKind.MERGED, at(70), degraded=False, external_url="")
    assert event.incident.title == "B"
    assert event.incident.merged_into == older.head.id


def test_a_quiet_incident_that_takes_in_a_firing_one_is_open() -> None:
    older = group([episode("A", 0, ended=5)])
    older.move(Signal.ALL_ENDED)
    older.progress = incidents.replace(older.progress, quiet_at=at(5))
    merge(older, group([episode("B", 50)], opened=50), at(70), "")
    assert (older.head.state, older.progress.quiet_at) == (S.OPEN, None)


def test_two_quiet_incidents_are_quiet_since_the_later_end() -> None:
    older, younger = group([episode("A", 0, ended=5)]), group([episode("B", 50, ended=60)], opened=50)
    for one, since in ((older, 5), (younger, 60)):
        one.move(Signal.ALL_ENDED)
        one.progress = incidents.replace(one.progress, quiet_at=at(since))
    merge(older, younger, at(70), "")
    assert (older.head.state, older.progress.quiet_at) == (S.QUIET, at(60))


# ---- calling people again --------------------------------------------------------------------------------

FORGET_S = 1800.0


def joins(made: incidents.Group, one: incidents.Episode) -> incidents.Episode:
    made.add(one)
    return one


def calls(made: incidents.Group, one: incidents.Episode, now: float) -> bool:
    return calling.call_at(made, joins(made, one), at(now), forget_after_s=FORGET_S) is not None


def test_a_rising_severity_raises_the_incident_and_a_lower_one_does_not_lower_it() -> None:
    made = group([episode("A", 0, "info")])
    assert [incidents.raised(made, episode(n, 1, s)) for n, s in (("B", "warning"), ("C", "critical"))] == [
        True
    ] * 2
    assert not incidents.raised(made, episode("D", 3, "warning"))
    assert made.head.severity == "critical"


def test_people_are_called_for_critical_names_and_entities_that_they_were_not_told_of() -> None:
    made = group([episode("A", 0, "critical", host="h0")])
    assert calls(made, episode("A", 0, "critical", host="h0"), 0)
    calling.note_call(made, at(0))
    assert not calls(made, episode("A", 60, "critical", host="h0", changes={"fingerprint": "x"}), 60)
    assert not calls(made, episode("B", 60, "warning", host="h9"), 60), "not critical"
    assert not calls(made, episode("C", 60, "critical", host="h9", ended=70), 80), "it is over"
    assert calls(made, episode("B", 60, "critical", host="h0"), 60), "another name"
    assert calls(made, episode("A", 60, "critical", host="h1"), 60), "another host"


def test_all_that_fires_when_people_are_called_was_told() -> None:
    made = group([episode("A", n, "critical", host=f"h{n}") for n in range(3)])
    calling.note_call(made, at(5))
    assert set(made.progress.criticals_told) == {"A", "host=h0", "host=h1", "host=h2"}
    assert made.progress.rung_at == at(5)


def test_what_was_told_is_news_again_half_an_hour_after_it_ended_and_not_while_it_goes_on() -> None:
    down = episode("Down", 0, "critical", host="h0")
    made = group([down])
    calling.note_call(made, at(0))
    later = episode("Down", 9000, "critical", host="h0", changes={"fingerprint": "other"})
    assert not calls(made, later, 9000), "the first still fires"
    over = joins(made, incidents.replace(down, ends_at=at(9010)))
    made.add(incidents.replace(later, ends_at=at(9010)))
    calling.note_end(made, over, at(9010))
    again = episode("Down", 9020, "critical", host="h0")
    assert not calls(made, again, 9010 + FORGET_S)
    assert calls(made, again, 9011 + FORGET_S)


def test_a_new_kind_is_told_a_quarter_of_an_hour_after_the_last_call_and_more_of_the_same_ever_later() -> (
    None
):
    made = group([episode("A", 0, "critical", host="h0")])
    host, kind = (joins(made, episode(name, 5, "critical", host="h1")) for name in ("A", "B"))
    assert calling.call_at(made, host, at(5), forget_after_s=FORGET_S) == at(5), "nobody was called before"
    made.progress = incidents.replace(
        made.progress, rung_at=at(0), criticals_told={"A": at(0), "host=h0": at(0)}
    )
    for escalations, minutes in ((0, 15), (1, 30), (2, 60), (4, 240), (9, 240)):
        made.progress = incidents.replace(made.progress, escalations=escalations)
        due = [calling.call_at(made, one, at(5), forget_after_s=FORGET_S) for one in (host, kind)]
        assert due == [at(60 * minutes), at(900)]


def test_what_was_told_is_remembered_in_bounds_and_beyond_them_only_a_new_name_is_news() -> None:
    storm = [episode("Down", n, "critical", host=f"h{n}") for n in range(1000)]
    made = group(storm)
    calling.note_call(made, at(1000))
    assert len(made.progress.criticals_told) <= calling.MAX_TOLD + 1
    assert not calls(made, episode("Down", 1001, "critical", host="new"), 1001)
    assert calls(made, episode("Fire", 1002, "critical", host="new"), 1002)


# ---- events ----------------------------------------------------------------------------------------------


def test_an_event_speaks_of_the_newest_episode_of_each_alert_and_says_how_often_it_fired() -> None:
    flaps = [
        episode("A", 60 * n, host="h", ended=60 * n + 30, changes={"fingerprint": "f"}) for n in range(150)
    ]
    event = event_of(
        group([*flaps, episode("B", 9)]), EventKind.UPDATED, at(9000), degraded=False, external_url=""
    )
    listed = event.incident.episodes
    assert [(one.labels["alertname"], one.times, one.starts_at) for one in listed] == [
        ("B", 1, at(9)), ("A", 150, at(60 * 149)),
    ]  # fmt: skip
    assert (event.incident.alerts_total, event.incident.truncated) == (2, 0)
    assert {(one.fingerprint, one.starts_at) for one in event.incident.root} >= {("f", at(0))}


def test_an_event_says_what_is_given_up_and_what_is_disputed() -> None:
    made = group([episode("A", changes={"expired": True}, ended=5), episode("B", changes={"disputed": True})])
    listed = event_of(made, EventKind.UPDATED, at(9), degraded=False, external_url="").incident.episodes
    assert [(one.labels["alertname"], one.expired, one.disputed) for one in listed] == [
        ("B", False, True), ("A", True, False),
    ]  # fmt: skip


def test_an_event_lists_a_hundred_alerts_worst_and_earliest_first() -> None:
    made = group([episode("A", n, "critical" if n == 200 else "warning", host=f"h{n}") for n in range(250)])
    event = event_of(made, EventKind.OPENED, at(300), degraded=False, external_url="https://t.example/")
    listed = event.incident.episodes
    assert (len(listed), event.incident.truncated, event.incident.alerts_total) == (100, 150, 250)
    assert listed[0].severity == "critical"
    assert [one.starts_at for one in listed[1:]] == [at(n) for n in range(99)]
    assert event.incident.url == f"https://t.example/api/v1/incidents/{made.head.id}"


def test_sequences_count_up_and_ids_follow_from_them() -> None:
    made = group([episode()])
    told = [event_of(made, EventKind.UPDATED, at(n), degraded=False, external_url="") for n in range(3)]
    assert [event.seq for event in told] == [1, 2, 3]
    assert len({event.event_id for event in told}) == 3
    assert made.head.changed_at == at(2)
    assert told[0].incident.url == ""


def test_suspects_are_ranked_by_severity_then_time() -> None:
    made = group([episode("A", 5), episode("B", 0), episode("C", 9, "critical")])
    root = event_of(made, EventKind.OPENED, at(10), degraded=False, external_url="").incident.root
    assert [one.fingerprint[0] for one in root] == ["C", "B", "A"]
    assert sum(one.confidence for one in root) == pytest.approx(1.0, abs=0.001)
    assert root[0].why == "critical, started 03:00:09 UTC (rank 1 by severity, then time)"


def closed(*episodes: incidents.Episode) -> bool:
    made = group(episodes)
    made.move(Signal.ALL_ENDED)
    made.move(Signal.QUIET_OVER)
    return event_of(made, EventKind.CLOSED, at(900), degraded=False, external_url="").incident.expired


def test_a_closed_incident_says_whether_a_resolve_never_came() -> None:
    gone = episode("A", 0, ended=60, changes={"expired": True})
    assert closed(gone)
    assert closed(gone, episode("B", 0, ended=60))
    assert not closed(episode("A", 0, ended=60))
    heard_again = episode("A", 70, ended=80, changes={"fingerprint": gone.fingerprint})
    assert not closed(gone, heard_again), "that alert was heard again, and its resolve came"
    open_again = group([gone, episode("B", 100)])
    assert not event_of(
        open_again, EventKind.UPDATED, at(200), degraded=False, external_url=""
    ).incident.expired


# ---- what goes where in a split and a merge ----------------------------------------------------------------


def test_ids_stay_what_they_are_from_release_to_release() -> None:
    """Stored incidents, event ids and every destination's tickets hang on them."""
    assert incident_id(episode()) == "inc-3f9c270d7e78c8bc"
    assert incident_id(episode(), "inc-1", 1) == "inc-ff020458cd171bd9"


def test_an_id_names_the_alert_its_tenant_and_where_it_was_split_from() -> None:
    changed = [
        {"tenant": "east"},
        {"source": "am2"},
        {"fingerprint": "f"},
        {"starts_at": at(1)},
        {"seen_at": at(1)},
    ]
    ids = {incident_id(episode(changes=each)) for each in [{}, *changed]}
    ids |= {
        incident_id(episode(), "inc-1"),
        incident_id(episode(), "inc-2"),
        incident_id(episode(), "inc-1", 2),
    }
    assert len(ids) == 9
    assert incident_id(episode(changes={"annotations": {"summary": "x"}})) == incident_id(episode())


def test_a_split_leaves_what_was_told_with_what_stays() -> None:
    one, other = episode("A", 0, "critical"), episode("B", 5)
    whole = group([one, other])
    calling.note_escalation(whole)
    calling.note_call(whole, at(0))
    stays, leaves = split(whole, [key(other), key(other)], at(60))
    assert (stays.progress.escalations, list(stays.progress.criticals_told)) == (1, ["A"])
    assert leaves.progress == incidents.Progress()
    assert (stays.head.id, stays.head.generation) == (whole.head.id, 1)
    assert "B" not in stays.templates
    assert leaves.common == other.labels


def test_a_merge_keeps_what_was_told_and_drops_what_the_younger_was_to_say() -> None:
    older, younger = group([episode("A", 0, "critical")]), group([episode("B", 50, "critical")], opened=50)
    for one in (older, younger):
        calling.note_call(one, at(50))
    younger.progress = incidents.replace(younger.progress, reminders={0: at(900)}, bridges={older.head.id: 3})
    younger.head = incidents.replace(younger.head, degraded=True)
    merge(older, younger, at(70), "")
    assert set(older.progress.criticals_told) == {"A", "B"}
    assert older.head.degraded
    assert (younger.progress.reminders, younger.progress.bridges) == ({}, {})
    assert (younger.held, younger.templates, younger.firing, younger.alerts) == ({}, {}, {}, {})
    assert older.templates == {"A": 1, "B": 1}
    assert older.common == {"severity": "critical"}
    assert not calls(older, episode("B", 90, "critical"), 90), "both were told of it"


def test_escalations_are_counted_so_that_the_next_page_has_its_own_key() -> None:
    made = group([episode()])
    calling.note_escalation(made)
    calling.note_escalation(made)
    event = event_of(made, EventKind.ESCALATED, at(20), degraded=False, external_url="")
    assert event.incident.escalations == 2
