"""Incidents: the legal moves, splits and merges, who is rung again, and what an event holds."""

from __future__ import annotations

import itertools

import pytest
from groups import at, episode, group
from hypothesis import given
from hypothesis import strategies as st

from bridge.analysis import incidents
from bridge.analysis.incidents import ESCALATE_EVERY_S, MOVES, Signal, event_of, incident_id, merge, split
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
    ],
)
def test_a_legal_move(before: IncidentState, signal: Signal, after: IncidentState) -> None:
    made = states()[before]
    assert made.move(signal) is before
    assert made.head.state is after
    assert MOVES[before, signal] is after


def test_every_other_move_is_a_bug_and_changes_nothing() -> None:
    others = set(itertools.product(S, Signal)) - set(MOVES)
    assert len(others) == 9
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
    younger = group([episode("B", 50, "critical")], opened=50)
    merge(older, younger, at(70), "3 alerts fitted both incidents")
    assert older.head.severity == "critical"
    assert older.head.active_at == at(50)
    assert {one.incident for one in older.episodes.values()} >= {older.head.id}
    assert older.episodes[key(episode("B", 50, "critical"))].why == "3 alerts fitted both incidents"
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


# ---- ringing again ---------------------------------------------------------------------------------------


def rings(made: incidents.Group, one: incidents.Episode, now: float) -> bool:
    made.add(one)
    return incidents.escalates(made, one, at(now))


def test_a_rising_severity_always_rings() -> None:
    made = group([episode("A", 0, "info")])
    assert rings(made, episode("B", 1, "warning"), 1)
    assert rings(made, episode("C", 2, "critical"), 2)
    assert made.head.severity == "critical"
    assert not rings(made, episode("D", 3, "warning"), 3)
    assert made.head.severity == "critical"


def test_new_criticals_ring_at_most_every_quarter_of_an_hour() -> None:
    made = group([episode("A", 0, "warning")])
    assert rings(made, episode("B", 1, "critical", host="h0"), 1)
    storm = [rings(made, episode("B", 2 + n, "critical", host=f"h{n}"), 2 + n) for n in range(1, 50)]
    assert not any(storm)
    later = 1 + ESCALATE_EVERY_S
    assert not rings(made, episode("B", later, "critical", host="h0"), later), "that host was told"
    assert rings(made, episode("B", later, "critical", host="h99"), later)
    assert not rings(made, episode("B", later + 1, "critical", host="h98"), later + 1)


def test_what_was_told_is_remembered_in_bounds() -> None:
    made = group([episode("A", 0, "warning")])
    for number in range(100):
        now = 1 + number * ESCALATE_EVERY_S
        assert rings(made, episode("B", now, "critical", host=f"h{number}"), now)
    assert len(made.progress.paged_names) == 64


# ---- events ----------------------------------------------------------------------------------------------


def test_an_event_lists_a_hundred_episodes_worst_and_earliest_first() -> None:
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
    assert not closed(gone, episode("A", 70, ended=80)), "that alert was heard again, and its resolve came"
    open_again = group([gone, episode("B", 100)])
    assert not event_of(
        open_again, EventKind.UPDATED, at(200), degraded=False, external_url=""
    ).incident.expired


# ---- what goes where in a split and a merge ----------------------------------------------------------------


def test_ids_are_what_they_were_in_the_release_before() -> None:
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
    assert incidents.escalates(whole, one, at(0))
    incidents.note_escalation(whole, at(0))
    stays, leaves = split(whole, [key(other), key(other)], at(60))
    assert (stays.progress.escalations, stays.progress.paged_names) == (1, ("A",))
    assert leaves.progress == incidents.Progress()
    assert (stays.head.id, stays.head.generation) == (whole.head.id, 1)
    assert "B" not in stays.templates
    assert leaves.common == other.labels


def test_a_merge_keeps_what_was_told_and_drops_what_the_younger_was_to_say() -> None:
    older, younger = group([episode("A", 0, "critical")]), group([episode("B", 50, "critical")], opened=50)
    for one in (older, younger):
        assert incidents.escalates(one, next(iter(one.episodes.values())), at(50))
    younger.progress = incidents.replace(younger.progress, reminders={0: at(900)}, bridges={older.head.id: 3})
    merge(older, younger, at(70), "")
    assert older.progress.paged_names == ("A", "B")
    assert (younger.progress.reminders, younger.progress.bridges) == ({}, {})
    assert (younger.held, younger.templates, younger.firing) == ({}, {}, {})
    assert older.templates == {"A": 1, "B": 1}
    assert older.common == {"severity": "critical"}
    assert not incidents.escalates(older, episode("B", 2000, "critical"), at(2000)), "both were told of it"


def test_escalations_are_counted_so_that_the_next_page_has_its_own_key() -> None:
    made = group([episode()])
    incidents.note_escalation(made, at(10))
    incidents.note_escalation(made, at(20))
    assert (made.progress.escalations, made.progress.escalated_at) == (2, at(20))
    event = event_of(made, EventKind.ESCALATED, at(20), degraded=False, external_url="")
    assert event.incident.escalations == 2
