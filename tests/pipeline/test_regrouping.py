"""Episodes that go from incident to incident: each stands in one, both sides say so, and a restart changes nothing."""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from comparing import answers, derived, differences, examples
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from thinking import Thinking, ends, fires
from timelines import BASE, SHARING, timelines

from bridge.analysis.incidents import EpisodeKey, Group
from bridge.model import Event, InboxRow
from bridge.pipeline import Common, Outcome, State, advance
from bridge.pipeline.desk import Desk
from bridge.pipeline.events import Events
from bridge.pipeline.gathering import Gathering
from bridge.pipeline.links import Links
from bridge.pipeline.regrouping import Regrouping, refusal
from bridge.pipeline.state import OutboxEntry, Tenant
from bridge.storage.state import StateStore

FRONT = "front-1"


class Hand:
    """Regroups a state between two rows."""

    def __init__(self, state: State) -> None:
        self.outcome = Outcome()
        desk = Desk(state, self.outcome)
        self._events = Events(desk)
        self.regrouping = Regrouping(desk, self._events, Gathering(desk, self._events, Links(desk)))

    def done(self) -> Outcome:
        self._events.make()
        return self.outcome


def regroup(state: State, wish: tuple[str, int, int, int]) -> Outcome:
    """Merge, split or move as the numbers say, or do nothing where that cannot be done."""
    hand = Hand(state)
    what, first, second, share = wish
    for _, tenant in sorted(state.tenants.items()):
        groups = [group for _, group in sorted(tenant.groups.items())]
        if not groups:
            continue
        source, target = groups[first % len(groups)], groups[second % len(groups)]
        keys = sorted(source.episodes)
        some = keys[: max(1, share % (len(keys) + 1))]
        if what == "merge" and not refusal(source, target):
            hand.regrouping.merge(tenant, target, source, "so it was wished")
        elif what == "split" and not refusal(source, None, some):
            hand.regrouping.split(tenant, source, some, "so it was wished")
        elif what == "move" and not refusal(source, target, some):
            hand.regrouping.move(tenant, source, target, some, "so it was wished")
        elif what == "revive" and source.head.state.value == "merged":
            holder = tenant.groups.get(source.head.merged_into or "")
            if holder is not None and not refusal(holder, None, (its := sorted(holder.episodes)[:share])):
                hand.regrouping.revive(tenant, source, holder, its, "so it was wished")
    return hand.done()


_wishes = st.tuples(
    st.sampled_from(("merge", "merge", "split", "split", "move", "move", "revive", "revive")),
    st.integers(0, 5), st.integers(0, 5), st.integers(0, 4),
)  # fmt: skip
_plans = st.lists(st.tuples(st.lists(_wishes, max_size=2), st.booleans()), min_size=5, max_size=12)


def check(state: State) -> None:
    """What is so after any step."""
    for tenant in state.tenants.values():
        seen: dict[EpisodeKey, str] = {}
        for incident, group in tenant.groups.items():
            assert incident == group.head.id
            state = group.head.state.value
            assert (state == "open") == bool(group.firing) or (state == "closed" and tenant.actions)
            # What was erased leaves a closed incident without alerts.
            assert group.episodes or state in {"merged", "closed"}
            assert not (group.episodes and state == "merged")
            for key, episode in group.episodes.items():
                assert episode.incident == incident
                assert key not in seen, "an episode stands in two incidents"
                seen[key] = incident
                if episode.firing:
                    assert tenant.firing[key[:2]] == (incident, key)
        for incident, key in tenant.firing.values():
            assert tenant.groups[incident].episodes[key].firing


@examples(40)
@given(timelines(), _plans)
def test_whatever_is_regrouped_stays_true_and_survives_restarts(
    rows: list[InboxRow], plan: list[tuple[list[tuple[str, int, int, int]], bool]]
) -> None:
    events: list[Event] = []
    outbox: list[OutboxEntry] = []
    other_events: list[Event] = []
    other_outbox: list[OutboxEntry] = []
    other = State(Common(settings=BASE))
    with tempfile.TemporaryDirectory() as folder, closing(StateStore(Path(folder) / "state.db")) as store:
        running = State(Common(settings=BASE))
        for number, row in enumerate(rows):
            wishes, restarts = plan[number % len(plan)]
            for step in (lambda state, row=row: advance(state, [row]), *map(_wished, wishes)):
                outcome = step(running)
                events += outcome.events
                outbox += outcome.outbox
                store.commit(outcome, front=FRONT, rows=[row])
                check(running)
                told = step(other)
                other_events += told.events
                other_outbox += told.outbox
            if restarts:
                loaded = store.load()
                assert differences(loaded, running) == []
                for name, tenant in loaded.tenants.items():
                    assert derived(tenant) == derived(running.tenants[name])
                assert answers(loaded) == answers(running)
                running = loaded
        count = "select count(*), count(distinct tenant || source || fingerprint || starts_at) from episode"
        total, different = store._db.execute(count).fetchone()
        assert total == different
    assert (events, outbox) == (other_events, other_outbox)
    assert differences(running, other) == []
    seqs: dict[str, list[int]] = {}
    for event in events:
        seqs.setdefault(event.incident.id, []).append(event.seq)
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in seqs.values())


def _wished(wish: tuple[str, int, int, int]):
    return lambda state: regroup(state, wish)


# ---- what is said -----------------------------------------------------------------------------------------


def two_incidents() -> tuple[Thinking, Group, Group]:
    run = Thinking(SHARING)
    run.hears("0s", fires("NodeDown", instance="db-1", severity="critical"), fires("Disk", instance="db-1"))
    run.hears("1s", fires("Cert", host="mail-9"))
    one, other = run.tenant.groups.values()
    return run, one, other


def kinds(outcome: Outcome) -> list[tuple[str, str]]:
    return [(event.incident.id, event.kind.value) for event in outcome.events]


def key_of(tenant: Tenant, name: str) -> EpisodeKey:
    return next(
        key for group in tenant.groups.values() for key, each in group.episodes.items() if each.name == name
    )


def test_a_split_is_told_on_both_sides_and_the_new_one_knows_where_from() -> None:
    run, one, _ = two_incidents()
    hand = Hand(run.state)
    left = hand.regrouping.split(run.tenant, one, [key_of(run.tenant, "Disk")], "two causes")
    assert kinds(hand.done()) == [(one.head.id, "split"), (left.head.id, "split")]
    assert left.head.split_from == one.head.id
    assert [each.why for each in left.episodes.values()] == [f"split from {one.head.id}: two causes"]
    run.hears("20s", ends("Disk", "20s", instance="db-1"))
    assert run.tenant.groups[left.head.id].head.state.value == "quiet"
    assert run.tenant.groups[one.head.id].head.state.value == "open"


def test_people_are_not_called_again_for_what_was_split_off() -> None:
    run, one, _ = two_incidents()
    hand = Hand(run.state)
    left = hand.regrouping.split(run.tenant, one, [key_of(run.tenant, "NodeDown")], "")
    hand.done()
    assert list(left.progress.criticals_told) == ["NodeDown", "host=db-1"]


def test_a_move_takes_an_episode_along_with_its_alarms() -> None:
    run, one, other = two_incidents()
    hand = Hand(run.state)
    hand.regrouping.move(run.tenant, one, other, [key_of(run.tenant, "Disk")], "it is the mail")
    assert kinds(hand.done()) == [(one.head.id, "updated"), (other.head.id, "updated")]
    assert other.episodes[key_of(run.tenant, "Disk")].why.endswith("; it is the mail")
    run.hears("20s", ends("NodeDown", "20s", instance="db-1", severity="critical"))
    assert run.tenant.groups[one.head.id].head.state.value == "quiet"
    run.clock("20m")
    assert run.tenant.groups[one.head.id].head.state.value == "closed"
    assert other.head.state.value == "open"


def test_what_goes_to_and_fro_for_one_reason_says_it_once() -> None:
    run, one, other = two_incidents()
    disk = key_of(run.tenant, "Disk")
    before = one.episodes[disk].why
    for source, target in ((one, other), (other, one), (one, other)):
        Hand(run.state).regrouping.move(run.tenant, source, target, [disk], "moved by how it hangs together")
    assert other.episodes[disk].why == f"{before}; moved by how it hangs together"


def test_moving_the_last_episode_is_a_merge() -> None:
    run, one, other = two_incidents()
    hand = Hand(run.state)
    hand.regrouping.move(run.tenant, other, one, [key_of(run.tenant, "Cert")], "")
    assert kinds(hand.done()) == [(other.head.id, "merged"), (one.head.id, "updated")]
    assert other.head.merged_into == one.head.id


def test_a_critical_that_moves_in_escalates() -> None:
    run, one, other = two_incidents()
    hand = Hand(run.state)
    hand.regrouping.move(run.tenant, one, other, [key_of(run.tenant, "NodeDown")], "")
    assert kinds(hand.done()) == [(one.head.id, "updated"), (other.head.id, "escalated")]
    assert run.tenant.groups[one.head.id].head.severity == "warning"


def test_what_is_split_from_a_closed_incident_is_closed_and_forgotten_in_time() -> None:
    run, one, _ = two_incidents()
    run.hears(
        "60s",
        ends("NodeDown", "60s", instance="db-1", severity="critical"),
        ends("Disk", "60s", instance="db-1"),
    )
    run.clock("10m")
    assert run.tenant.groups[one.head.id].head.state.value == "closed"
    hand = Hand(run.state)
    left = hand.regrouping.split(run.tenant, one, [key_of(run.tenant, "Disk")], "")
    hand.done()
    assert left.head.state.value == "closed"
    run.clock("2h")
    assert not {one.head.id, left.head.id} & set(run.tenant.groups)


# ---- what is refused --------------------------------------------------------------------------------------


def test_what_cannot_be_is_refused_with_its_reason() -> None:
    run, one, other = two_incidents()
    assert refusal(one, one) == "an incident cannot be put into itself"
    assert refusal(one, None, list(one.episodes)).startswith("these are all episodes of")
    assert refusal(one, None, list(other.episodes)).startswith("1 of the episodes named are not in")
    assert refusal(one, None, []).startswith("all of the episodes named are not in")
    hand = Hand(run.state)
    with pytest.raises(ValueError, match="into itself"):
        hand.regrouping.merge(run.tenant, one, one, "")
    hand.regrouping.merge(run.tenant, one, other, "")
    hand.done()
    assert refusal(other, one).startswith(f"{other.head.id} was merged into {one.head.id}")
    assert refusal(one, other).startswith("a merged incident has no episodes")


def test_what_goes_on_is_not_put_into_what_is_closed() -> None:
    run, one, other = two_incidents()
    run.hears("60s", ends("Cert", "60s", host="mail-9"))
    run.clock("10m")
    assert other.head.state.value == "closed"
    assert refusal(one, other).startswith("what goes on cannot be put into what is closed")
    assert refusal(other, one) == ""


def test_kinds_of_incidents_do_not_mix() -> None:
    run, one, _ = two_incidents()
    run.hears("2s", fires("Blocked", destination="siem"), source="tocsin")
    own = next(group for group in run.tenant.groups.values() if group.head.origin == "tocsin")
    assert "do not mix" in refusal(own, one)


def test_evidence_for_a_merge_does_not_outlive_a_split() -> None:
    """It spoke for the whole; without this a restart would find that it is enough for what is left."""
    run, one, other = two_incidents()
    other.progress = replace(other.progress, bridges={one.head.id: 9})
    hand = Hand(run.state)
    hand.regrouping.split(run.tenant, one, [key_of(run.tenant, "Disk")], "")
    hand.done()
    assert other.progress.bridges == {}
