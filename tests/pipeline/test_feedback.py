"""What people say of incidents: what it changes, what it teaches, what is refused, and how it is taken back."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from thinking import SHARING, Thinking, ends, fires, listed, same
from timeline import after

from bridge.analysis import lessons
from bridge.analysis.incidents import Group
from bridge.analysis.lessons import Lesson, samples_of
from bridge.analysis.settings import AnalysisSettings, Destination, Route
from bridge.model import Event, RowKind
from bridge.pipeline import advance, feedback
from bridge.pipeline.state import Tenant
from bridge.storage.state import StateStore

REMINDED = msgspec.structs.replace(
    SHARING,
    destinations=(Destination(name="chat", wait_s=0.0),),
    routes=(Route(to=("chat",), repeat_s=3600.0),),
)
NODE = fires("NodeDown", instance="db-1", severity="critical")
DISK = fires("Disk", instance="db-1")
CERT = fires("Cert", host="mail-9")


def two_incidents(settings: AnalysisSettings = REMINDED) -> Thinking:
    """One of two alerts, one of one."""
    run = Thinking(settings)
    run.hears("0s", NODE, DISK)
    run.hears("1s", CERT)
    assert len(run.tenant.groups) == 2
    return run


def incident(run: Thinking, name: str) -> Group:
    """Return the incident that has the alert of this name."""
    return next(
        group
        for group in run.tenant.groups.values()
        if any(episode.name == name for episode in group.episodes.values())
    )


def ref(run: Thinking, name: str, **more: Any) -> dict[str, Any]:
    """Return how a person names an alert's episode."""
    group = incident(run, name)
    episode = next(each for each in group.episodes.values() if each.name == name)
    return {"fingerprint": episode.fingerprint, "starts_at": episode.starts_at, **more}


def kinds(events: list[Event]) -> list[str]:
    return [event.kind.value for event in events]


def names(lesson: Lesson) -> list[list[str]]:
    return [[sample.labels["alertname"] for sample in group] for group in lesson.groups]


def state_of(run: Thinking, name: str) -> str:
    return incident(run, name).head.state.value


# ---- acknowledged, closed, noted -------------------------------------------------------------------------


def test_an_acknowledged_incident_says_so_once_and_reminds_no_more() -> None:
    run = two_incidents()
    before = len(run.events)
    run.says("10s", "a1", "ack", incident=incident(run, "Cert").head.id, author="mia", text="on it")
    again = run.says("20s", "a2", "ack", incident=incident(run, "Cert").head.id)
    (told,) = run.events[before:]
    assert (told.kind.value, told.note, told.author) == ("acknowledged", "on it", "mia")
    assert (again.state, again.reason) == ("applied", "it was acknowledged before")
    run.clock("3h")
    reminded = {event.incident.id for event in run.events if event.kind == "reminder"}
    assert reminded == {incident(run, "NodeDown").head.id}


def test_an_escalation_ends_an_acknowledgement() -> None:
    run = two_incidents()
    run.says("10s", "a1", "ack", incident=incident(run, "Cert").head.id)
    run.hears("60s", fires("Cert", host="mail-9", severity="critical", starts="60s"))
    assert run.events[-1].kind == "escalated"
    assert incident(run, "Cert").head.acknowledged_at is None
    run.clock("3h")
    assert incident(run, "Cert").head.id in {e.incident.id for e in run.events if e.kind == "reminder"}


def test_what_is_closed_by_hand_stays_closed_while_its_alert_fires_on(tmp_path: Path) -> None:
    run = two_incidents()
    one = incident(run, "Cert").head.id
    run.says("10s", "a1", "close", incident=one, text="renewed")
    assert (run.events[-1].kind.value, run.events[-1].note, state_of(run, "Cert")) == (
        "closed",
        "renewed",
        "closed",
    )
    before = len(run.events)
    for hour in range(1, 30):
        run.hears(f"{hour}h", CERT, NODE)
    told = [event for event in run.events[before:] if event.incident.id == one]
    assert told == []
    assert run.tenant.groups[one].firing, "it is not forgotten while it fires"
    run.hears("30h", ends("Cert", "30h", host="mail-9"))
    assert state_of(run, "Cert") == "closed"
    assert [event for event in run.events[before:] if event.incident.id == one] == []
    run.clock("32h")
    assert one not in run.tenant.groups
    assert same(run, run.restarted(tmp_path))


def test_what_is_closed_by_hand_says_nothing_when_its_alert_is_silenced() -> None:
    run = two_incidents()
    one = incident(run, "Cert").head.id
    run.says("10s", "a1", "close", incident=one)
    run.finds("20s", listed("Cert", host="mail-9", suppressed="silenced"))
    run.clock("5m")
    assert run.counts["reconciled:suppressed"] == 1
    assert [event.kind for event in run.events if event.incident.id == one] == ["opened", "closed"]


def test_new_settings_do_not_forget_what_was_closed_while_it_fires() -> None:
    run = two_incidents()
    one = incident(run, "Cert").head.id
    run.says("10s", "a1", "close", incident=one)
    run.settings("20s", msgspec.structs.replace(REMINDED, close_after_s=60.0))
    run.clock("2h")
    assert run.tenant.groups[one].firing


def test_what_was_closed_while_it_fires_is_not_pruned(tmp_path: Path) -> None:
    run = two_incidents(msgspec.structs.replace(REMINDED, incidents_s=60.0))
    one = incident(run, "Cert").head.id
    run.says("10s", "a1", "close", incident=one)
    for hour in range(1, 30):
        run.hears(f"{hour}h", CERT)
    with closing(StateStore(tmp_path / "state.db")) as store:
        state = store.load()
        state.common = msgspec.structs.replace(state.common, settings=run.first_settings)
        store.commit(advance(state, run.rows), front="front-1", rows=run.rows)
        store.prune(after("30h"), run.state.common)
        assert run.tenant.groups[one].episodes == store.load().tenants["default"].groups[one].episodes


def test_what_is_closed_by_hand_reopens_when_its_alert_fires_anew() -> None:
    run = two_incidents()
    run.says("10s", "a1", "close", incident=incident(run, "Cert").head.id)
    run.hears("60s", ends("Cert", "60s", host="mail-9"))
    run.hears("70s", fires("Cert", host="mail-9", starts="70s"))
    assert (run.events[-1].kind.value, state_of(run, "Cert")) == ("reopened", "open")


def test_a_worse_alert_of_the_same_thing_reopens_what_was_closed_by_hand() -> None:
    run = two_incidents()
    run.says("10s", "a1", "close", incident=incident(run, "Cert").head.id)
    run.hears("60s", fires("Cert", host="mail-9", severity="critical", starts="60s"))
    assert (run.events[-1].kind.value, run.events[-1].incident.severity) == ("reopened", "critical")


def test_a_note_is_told_and_kept() -> None:
    run = two_incidents()
    done = run.says(
        "10s", "a1", "note", incident=incident(run, "Cert").head.id, text="asked the CA", author="mia"
    )
    assert (run.events[-1].kind.value, run.events[-1].note, run.events[-1].author) == (
        "updated",
        "asked the CA",
        "mia",
    )
    assert (done.text, done.state) == ("asked the CA", "applied")
    assert (
        run.says("11s", "a2", "note", incident=incident(run, "Cert").head.id, text=" ").reason
        == "a note needs a text"
    )


def test_only_events_that_a_person_caused_carry_a_note() -> None:
    run = two_incidents()
    assert b"note" not in msgspec.json.encode(run.events[0])


# ---- what belongs together -------------------------------------------------------------------------------


def test_a_merge_teaches_that_all_of_it_belongs_together() -> None:
    run = two_incidents()
    gone, into = incident(run, "Cert").head.id, incident(run, "NodeDown").head.id
    done = run.says("10s", "a1", "merge", incident=gone, into=into, author="mia")
    assert [(each.kind.value, each.author) for each in run.events[-2:]] == [
        ("merged", "mia"),
        ("updated", "mia"),
    ]
    assert done.incidents == (gone, into)
    assert run.tenant.groups[gone].head.merged_into == into
    (together,) = names(run.tenant.lessons["a1"])
    assert sorted(together) == ["Cert", "Disk", "NodeDown"]
    assert run.tenant.groups[into].progress.by_hand
    assert ref(run, "Cert")["fingerprint"] in {
        each.fingerprint for each in run.tenant.groups[into].episodes.values()
    }


def test_a_merge_by_its_episodes_keeps_the_oldest_that_is_open() -> None:
    run = two_incidents()
    into = incident(run, "NodeDown").head.id
    run.says("10s", "a1", "merge", episodes=[ref(run, "Cert"), ref(run, "Disk")])
    assert incident(run, "Cert").head.id == into


def test_a_split_teaches_what_left_and_what_stayed() -> None:
    run = two_incidents()
    one = incident(run, "NodeDown").head.id
    done = run.says("10s", "a1", "split", incident=one, episodes=[ref(run, "Disk")], text="another disk")
    assert incident(run, "Disk").head.split_from == one
    assert names(run.tenant.lessons["a1"]) == [["Disk"], ["NodeDown"]]
    assert done.incidents == (one, incident(run, "Disk").head.id)
    assert all(incident(run, name).progress.by_hand for name in ("Disk", "NodeDown"))


def test_nobody_is_called_for_what_had_ended_when_it_was_split_off() -> None:
    run = two_incidents(
        msgspec.structs.replace(REMINDED, destinations=(Destination(name="chat", wait_s=30.0),))
    )
    run.hears("60s", ends("NodeDown", "60s", instance="db-1", severity="critical"))
    run.says("70s", "a1", "split", episodes=[ref(run, "NodeDown")])
    left = incident(run, "NodeDown").head.id
    (entry,) = [each for each in run.outbox if each.incident == left]
    assert (entry.kind, (entry.not_before - entry.at).total_seconds()) == ("split", 330.0)


def test_a_move_teaches_where_it_belongs_and_where_not() -> None:
    run = two_incidents()
    target = incident(run, "Cert").head.id
    run.says(
        "10s", "a1", "move", incident=incident(run, "Disk").head.id, episodes=[ref(run, "Disk")], into=target
    )
    assert incident(run, "Disk").head.id == target
    assert sorted(map(sorted, names(run.tenant.lessons["a1"]))) == [["Cert", "Disk"], ["NodeDown"]]


def test_a_move_may_name_the_incident_by_an_episode_of_it() -> None:
    run = two_incidents()
    run.says("10s", "a1", "move", episodes=[ref(run, "Disk")], beside=ref(run, "Cert"))
    assert incident(run, "Disk").head.id == incident(run, "Cert").head.id


def test_an_episode_may_be_named_by_a_time_at_which_it_fired_in_any_zone() -> None:
    run = two_incidents()
    named = ref(run, "Disk")
    later = {**named, "starts_at": "2026-01-05T04:00:05+01:00"}
    run.says("10s", "a1", "split", episodes=[later])
    assert incident(run, "Disk").head.split_from
    before = {**named, "starts_at": "2026-01-05T02:59:00Z"}
    assert run.says("20s", "a2", "root", episodes=[before]).state == "refused"


def test_episodes_of_several_incidents_leave_together() -> None:
    run = two_incidents()
    done = run.says("10s", "a1", "split", episodes=[ref(run, "Disk"), ref(run, "Cert")])
    assert done.state == "applied"
    assert incident(run, "Disk").head.id == incident(run, "Cert").head.id != incident(run, "NodeDown").head.id


def test_alerts_do_not_merge_what_a_person_split() -> None:
    run = two_incidents()
    run.says("10s", "a1", "split", episodes=[ref(run, "Disk")])
    for number in range(8):
        run.hears(f"{20 + number}s", fires(f"Late{number}", instance="db-1", starts=f"{20 + number}s"))
    assert incident(run, "Disk").head.id != incident(run, "NodeDown").head.id
    assert not incident(run, "Disk").progress.bridges


# ---- root and verdicts -----------------------------------------------------------------------------------


def test_the_root_that_a_person_names_is_the_first_suspect() -> None:
    run = two_incidents()
    run.says("10s", "a1", "root", episodes=[ref(run, "Disk")], author="mia")
    first, *others = run.events[-1].incident.root
    assert (first.fingerprint, first.confidence, first.why) == (
        ref(run, "Disk")["fingerprint"],
        1.0,
        "named by mia",
    )
    assert first.fingerprint not in {each.fingerprint for each in others}
    lesson = run.tenant.lessons["a1"]
    assert lesson.root is not None
    assert lesson.root[1] == first.fingerprint
    assert len(lesson.groups[0]) == 2


def test_a_verdict_is_kept_and_a_useful_incident_is_a_confirmed_one() -> None:
    run = two_incidents()
    one, other = incident(run, "NodeDown").head.id, incident(run, "Cert").head.id
    run.says("10s", "a1", "useful", incident=one)
    run.says("11s", "a2", "false_alarm", incident=other)
    assert (run.tenant.groups[one].head.verdict, run.tenant.groups[other].head.verdict) == (
        "useful",
        "false_alarm",
    )
    assert len(run.tenant.lessons["a1"].groups) == 1
    assert run.tenant.lessons["a2"].groups == ()
    assert [each.labels["alertname"] for each in run.tenant.lessons["a2"].alarms] == ["Cert"]


def test_a_close_teaches_only_where_it_confirms() -> None:
    run = two_incidents()
    run.says("10s", "a1", "close", incident=incident(run, "Cert").head.id)
    run.says("11s", "a2", "close", incident=incident(run, "NodeDown").head.id, confirm=True)
    assert list(run.tenant.lessons) == ["a2"]
    assert len(run.tenant.lessons["a2"].groups[0]) == 2


def test_lessons_are_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(lessons, "MAX_LESSONS", 2)
    monkeypatch.setattr(feedback, "MAX_ACTIONS", 3)
    run = two_incidents()
    for number in range(5):
        run.says(f"{10 + number}s", f"a{number}", "useful", incident=incident(run, "Cert").head.id)
    assert list(run.tenant.lessons) == ["a3", "a4"]
    assert list(run.tenant.actions) == ["a2", "a3", "a4"]
    assert same(run, run.restarted(tmp_path))


def test_a_lesson_has_a_sample_per_alert_and_not_too_many() -> None:
    run = Thinking()
    run.hears("0s", *(fires("Big", pod=f"p{number}") for number in range(150)), group='{}:{service="shop"}')
    episodes = [each for group in run.tenant.groups.values() for each in group.episodes.values()]
    few = episodes[:3]
    many, three = samples_of([episodes, few])
    assert (len(many), len(three)) == (lessons.MAX_SAMPLES - 3, 3)
    again = msgspec.structs.replace(few[0], starts_at=few[0].starts_at.replace(minute=59))
    assert len(samples_of([[*few, again]])[0]) == 3


# ---- undo ------------------------------------------------------------------------------------------------

CORRECTIONS: dict[str, Any] = {
    "merge": lambda run: {"episodes": [ref(run, "Disk"), ref(run, "Cert")]},
    "split": lambda run: {"episodes": [ref(run, "Disk")]},
    "move": lambda run: {"episodes": [ref(run, "Disk")], "beside": ref(run, "Cert")},
    "root": lambda run: {"episodes": [ref(run, "Disk")]},
    "useful": lambda run: {"incident": incident(run, "NodeDown").head.id},
    "false_alarm": lambda run: {"incident": incident(run, "NodeDown").head.id},
    "close": lambda run: {"incident": incident(run, "NodeDown").head.id, "confirm": True},
    "ack": lambda run: {"incident": incident(run, "NodeDown").head.id},
    "note": lambda run: {"incident": incident(run, "NodeDown").head.id, "text": "x"},
}  # fmt: skip


def grouping(tenant: Tenant) -> list[Any]:
    """What a person sees of the incidents that hold something."""
    return sorted(
        (group.head.state.value, group.head.verdict, group.head.acknowledged_at, group.progress.root,
         group.progress.by_hand, sorted(each.name for each in group.episodes.values()))
        for group in tenant.groups.values() if group.episodes
    )  # fmt: skip


@pytest.mark.parametrize("kind", CORRECTIONS)
def test_after_an_undo_nothing_was_learned_and_all_is_as_it_was(kind: str, tmp_path: Path) -> None:
    run, never = two_incidents(), two_incidents()
    for each in (run, never):
        each.says("5s", "first", "useful", incident=incident(each, "Cert").head.id)
    assert run.says("10s", "a1", kind, **CORRECTIONS[kind](run)).state == "applied"
    undone = run.says("20s", "a2", "undo", undoes="a1")
    assert (undone.state, undone.reason) == ("applied", "")
    assert run.tenant.actions["a1"].state == "undone"
    assert run.tenant.lessons == never.tenant.lessons
    assert grouping(run.tenant) == grouping(never.tenant)
    assert same(run, run.restarted(tmp_path))


def test_a_merge_that_is_taken_back_opens_the_younger_again() -> None:
    run = two_incidents()
    gone = incident(run, "Cert").head.id
    run.says("10s", "a1", "merge", episodes=[ref(run, "Disk"), ref(run, "Cert")])
    before = len(run.events)
    run.says("20s", "a2", "undo", undoes="a1")
    told = [(event.incident.id == gone, event.kind.value) for event in run.events[before:]]
    assert sorted(told) == [(False, "split"), (True, "reopened")]
    assert run.tenant.groups[gone].head.merged_into is None


def test_what_cannot_be_restored_is_said_and_the_lesson_goes_all_the_same() -> None:
    run = two_incidents()
    run.says("10s", "a1", "merge", episodes=[ref(run, "Disk"), ref(run, "Cert")])
    run.clock("90m")  # the merged one is forgotten
    undone = run.says("91m", "a2", "undo", undoes="a1")
    assert "is over for too long to take its episodes back" in undone.reason
    assert run.tenant.lessons == {}


def test_a_merge_of_very_many_episodes_is_not_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedback, "MAX_RESTORED", 0)
    run = two_incidents()
    run.says("10s", "a1", "merge", episodes=[ref(run, "Disk"), ref(run, "Cert")])
    assert "too many" in run.says("11s", "a2", "undo", undoes="a1").reason
    assert run.tenant.lessons == {}


def test_an_undo_of_one_verdict_brings_back_the_one_before() -> None:
    run = two_incidents()
    one = incident(run, "Cert").head.id
    run.says("10s", "a1", "useful", incident=one)
    run.says("11s", "a2", "false_alarm", incident=one)
    run.says("12s", "a3", "undo", undoes="a2")
    assert run.tenant.groups[one].head.verdict == "useful"


def test_a_close_of_what_has_ended_meanwhile_stays() -> None:
    run = two_incidents()
    run.says("10s", "a1", "close", incident=incident(run, "Cert").head.id)
    run.hears("20s", ends("Cert", "20s", host="mail-9"))
    assert "stays closed" in run.says("30s", "a2", "undo", undoes="a1").reason


# ---- what is refused -------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[Any, str]] = {
    "unknown incident": (lambda _run: {"kind": "ack", "incident": "inc-0"}, "inc-0 is not known"),
    "unknown episode": (
        lambda run: {"kind": "root", "episodes": [ref(run, "Disk", source="elsewhere")]},
        "no incident that can still change has it",
    ),
    "an episode of another incident": (
        lambda run: {"kind": "split", "incident": incident(run, "Cert").head.id, "episodes": [ref(run, "Disk")]},
        "not inc-",
    ),
    "nothing named": (lambda _run: {"kind": "split"}, "name the incident or its episodes"),
    "all episodes": (lambda run: {"kind": "split", "episodes": [ref(run, "Cert")]}, "a split leaves some behind"),
    "with itself": (
        lambda run: {"kind": "merge", "incident": incident(run, "Cert").head.id, "into": incident(run, "Cert").head.id},
        "into itself",
    ),
    "one alone": (lambda run: {"kind": "merge", "episodes": [ref(run, "Cert")]}, "a merge needs two incidents"),
    "where it is": (
        lambda run: {"kind": "move", "episodes": [ref(run, "Disk")], "beside": ref(run, "NodeDown")},
        "where they should go",
    ),
    "two roots": (lambda run: {"kind": "root", "episodes": [ref(run, "Disk"), ref(run, "Cert")]}, "is one"),
    "unknown action": (lambda _run: {"kind": "undo", "undoes": "a0"}, "a0 is not known"),
    "an action of nobody": (lambda _run: {"kind": "undo"}, "without an id"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_is_refused_with_its_reason_and_changes_nothing(what: str, tmp_path: Path) -> None:
    run = two_incidents()
    make, reason = REFUSED[what]
    before = grouping(run.tenant)
    done = run.says("10s", "a1", **make(run))
    assert done.state == "refused"
    assert reason in done.reason
    assert grouping(run.tenant) == before
    assert run.tenant.lessons == {}
    assert run.counts["feedback:refused"] == 1
    assert same(run, run.restarted(tmp_path))


def test_an_undo_of_an_undo_and_of_what_is_undone_or_was_refused_is_refused() -> None:
    run = two_incidents()
    run.says("10s", "a1", "useful", incident=incident(run, "Cert").head.id)
    run.says("11s", "a2", "undo", undoes="a1")
    run.says("12s", "a3", "ack", incident="inc-0")
    reasons = [
        run.says(f"2{n}s", f"u{n}", "undo", undoes=each).reason for n, each in enumerate(("a2", "a1", "a3"))
    ]
    assert reasons == [
        "a2 is an undo: say again what it took back", "a1 is not in force: it is undone",
        "a3 is not in force: it is refused",
    ]  # fmt: skip


def test_an_action_acts_once_however_often_it_comes() -> None:
    run = two_incidents()
    for at in ("10s", "20s"):
        run.says(at, "a1", "note", incident=incident(run, "Cert").head.id, text="x")
    assert kinds(run.events).count("updated") == 1


def test_closed_and_merged_incidents_are_refused_where_that_makes_no_sense() -> None:
    run = two_incidents()
    gone = incident(run, "Cert").head.id
    run.says("10s", "a1", "merge", episodes=[ref(run, "Disk"), ref(run, "Cert")])
    assert "was merged into" in run.says("11s", "a2", "ack", incident=gone).reason
    one = incident(run, "NodeDown").head.id
    run.says("12s", "a3", "close", incident=one)
    assert run.says("13s", "a4", "close", incident=one).reason == f"{one} is closed already"


def test_what_is_forgotten_can_still_be_noted_and_judged() -> None:
    run = two_incidents()
    run.hears("20s", ends("Cert", "20s", host="mail-9"))
    one = incident(run, "Cert").head.id
    run.clock("2h")
    assert one not in run.tenant.groups
    done = run.says("3h", "a1", "note", incident=one, text="it was the CA")
    assert (done.state, done.incidents) == ("applied", (one,))
    assert "over for too long" in run.says("3h", "a2", "false_alarm", incident=one).reason
    assert run.says("3h", "a3", "merge", incident=one, into=incident(run, "Disk").head.id).state == "refused"


def test_a_row_that_is_no_feedback_goes_to_quarantine() -> None:
    run = Thinking()
    for body in (
        b"[]",
        b'{"kind":"nonsense","action":"a"}',
        b"\xff",
        b'{"kind":"ack"}',
        b'{"x":' + b"[" * 100_000,
    ):
        outcome = run.row("1s", RowKind.FEEDBACK, body)
        assert [each.what for each in outcome.quarantined] == ["body"]


def test_feedback_is_kept_with_its_tenant(tmp_path: Path) -> None:
    run = two_incidents()
    run.says("10s", "a1", "useful", incident=incident(run, "Cert").head.id)
    run.row("11s", RowKind.FEEDBACK, b'{"action":"a1","kind":"ack","incident":"inc-0"}', tenant="other")
    assert run.state.tenants["other"].actions["a1"].state == "refused"
    assert run.tenant.actions["a1"].state == "applied"
    assert same(run, run.restarted(tmp_path))
