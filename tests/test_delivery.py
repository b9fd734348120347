"""Delivery: the table of moves, what follows each verdict, coalescing, and the flow of one destination."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from builders import at
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bridge.delivery import (
    FINAL,
    MOVES,
    OPEN,
    BatchSize,
    Concurrency,
    Gate,
    Line,
    LineKey,
    Policy,
    Taking,
    Told,
    coalesce,
    dropped,
    may_wait,
    move,
    next_step,
    overdue,
    retried,
    settle,
    shed_of,
    told_after,
    unanswered,
)
from bridge.model import (
    Blocked,
    Delivered,
    Delivery,
    DeliveryState,
    Duplicate,
    EventKind,
    Pending,
    Reject,
    Retry,
    Split,
    Verdict,
)
from bridge.ports import Caps

S = DeliveryState
NOW = at(1000)
POLICY = Policy()
EVERY = Caps(mode="every", max_events=10, max_bytes=10_000, delivery_class="best effort")
CHAT = Caps(mode="newest", max_events=1, max_bytes=10_000, delivery_class="best effort")
PAGER = replace(CHAT, pages=True)
KEY = LineKey("default", "i1")


def delivery(seq: int = 1, kind: EventKind = EventKind.OPENED, **changes: Any) -> Delivery:
    """Return a delivery of incident i1 that was tried once."""
    values: dict[str, Any] = {
        "event_id": f"i1-{seq}", "destination": "d", "tenant": "default", "incident": "i1", "seq": seq,
        "kind": kind, "state": S.WAITING, "created_at": at(seq), "next_at": at(seq), "attempts": 1,
    }  # fmt: skip
    return Delivery(**(values | changes))


def untried(*kinds: EventKind) -> tuple[Delivery, ...]:
    """Return deliveries of these kinds that wait, numbered from 1."""
    return tuple(delivery(seq, kind, attempts=0) for seq, kind in enumerate(kinds, start=1))


# ---- moves -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", list(S))
@pytest.mark.parametrize("target", list(S))
def test_exactly_the_moves_of_the_table_are_possible(source: S, target: S) -> None:
    before = delivery(state=source)
    if target in MOVES[source]:
        assert move(before, target).state is target
    else:
        with pytest.raises(ValueError, match=f"from {source} to {target}"):
            move(before, target)


def test_every_state_is_open_final_or_dead() -> None:
    assert set(MOVES) == OPEN | FINAL | {S.DEAD} == set(S)
    assert all(not MOVES[state] for state in FINAL)


def test_what_is_dead_goes_on_only_by_a_person() -> None:
    dead = delivery(state=S.DEAD, reason="refused", attempts=7)
    again = retried(dead, NOW)
    assert (again.state, again.attempts, again.next_at, again.created_at) == (
        S.WAITING,
        0,
        NOW,
        dead.created_at,
    )
    assert dropped(dead).state is S.DROPPED
    with pytest.raises(ValueError, match="given up"):
        retried(delivery(), NOW)


# ---- verdicts ----------------------------------------------------------------------------------------------

# One row per verdict: the state it is given in, the verdict, the state after, and when it goes on (s).
VERDICTS: list[tuple[S, Verdict, S, float]] = [
    (S.WAITING, Delivered(), S.DELIVERED, 0),
    (S.WAITING, Delivered(next_step="thread"), S.WAITING, 0),
    (S.WAITING, Duplicate(), S.DELIVERED, 0),
    (S.WAITING, Retry(reason="busy", after_s=7), S.WAITING, 7),
    (S.WAITING, Retry(reason="busy"), S.WAITING, 0.5),  # half of the first second, by jitter
    (S.WAITING, Split(reason="too large"), S.WAITING, 0),
    (S.WAITING, Reject(reason="bad"), S.DEAD, 0),
    (S.WAITING, Reject(reason="bad", final=False), S.WAITING, 30),
    (S.WAITING, Blocked(reason="401"), S.WAITING, 60),  # behind what was not refused yet
    (S.WAITING, Pending(token="t", after_s=3), S.PENDING, 3),
    (S.PENDING, Delivered(), S.DELIVERED, 0),
    (S.PENDING, Pending(token="t", after_s=3), S.PENDING, 3),
    (S.PENDING, Retry(reason="no answer", whole_destination=True, after_s=4), S.PENDING, 4),  # asking failed
    (S.PENDING, Retry(reason="it was lost", after_s=4), S.WAITING, 4),  # it goes again
    (S.PENDING, Blocked(reason="401"), S.PENDING, 60),
    (S.PENDING, Reject(reason="bad"), S.DEAD, 0),
]


@pytest.mark.parametrize(("state", "verdict", "then", "after_s"), VERDICTS)
def test_each_verdict_leads_to_its_state(state: S, verdict: Verdict, then: S, after_s: float) -> None:
    before = delivery(state=state, token="t" if state is S.PENDING else "", pending_since=None)
    after = next_step(before, verdict, NOW, 0.5, POLICY)
    assert after.state is then
    if then in OPEN:
        assert after.next_at == NOW + timedelta(seconds=after_s)
    assert (after.delivered_at == NOW) is (then is S.DELIVERED)


def test_an_unknown_end_is_flagged_as_a_possible_repeat_and_stays_flagged() -> None:
    unknown = next_step(delivery(), Retry(reason="timeout", maybe_sent=True), NOW, 0, POLICY)
    refused = next_step(unknown, Retry(reason="503"), NOW, 0, POLICY)
    assert unknown.maybe_duplicate
    assert next_step(refused, Delivered(), NOW, 0, POLICY).maybe_duplicate
    assert unanswered(delivery(), NOW).maybe_duplicate


def test_an_event_that_is_refused_alone_is_given_up_after_some_tries_and_says_how_many() -> None:
    refused = Reject(reason="HTTP 403", final=False)
    current, waits = delivery(), []
    while current.state is S.WAITING:
        current = next_step(current, refused, NOW, 0, POLICY)
        waits.append((current.next_at - NOW).total_seconds())
    assert (current.state, current.reason) == (S.DEAD, "refused 8 times; last: HTTP 403")
    assert waits[:-1] == [30, 60, 120, 240, 480, 960, 1920]
    assert retried(current, NOW).refusals == 0


def test_a_further_call_of_an_event_has_its_own_patience() -> None:
    tired = delivery(attempts=12)
    assert next_step(tired, Delivered(next_step="thread"), NOW, 0, POLICY).attempts == 0


def test_an_acknowledgement_that_never_comes_sends_the_event_again() -> None:
    policy = Policy(pending_s=60)
    waiting = next_step(delivery(), Pending(token="t", after_s=10), NOW, 0, policy)
    later = next_step(waiting, Pending(token="t", after_s=10), NOW + timedelta(seconds=61), 0, policy)
    assert (later.state, later.maybe_duplicate, later.token) == (S.WAITING, True, "")


def test_nothing_is_given_up_for_its_age_unless_a_horizon_is_set() -> None:
    late = NOW + timedelta(days=400)
    assert next_step(delivery(), Retry(reason="503"), late, 0, POLICY).state is S.WAITING
    assert overdue(delivery(), late, POLICY) is None


def test_beyond_its_horizon_a_delivery_is_given_up_and_says_why() -> None:
    policy = Policy(retry_horizon_s=100)
    after = next_step(delivery(), Retry(reason="HTTP 503"), at(1 + 101), 0, policy)
    assert (after.state, after.reason) == (S.DEAD, "its retry horizon of 100 s passed; last: HTTP 503")
    assert next_step(delivery(), Retry(reason="HTTP 503"), at(1 + 100), 0, policy).state is S.WAITING


def test_what_a_person_sends_off_again_has_a_new_horizon() -> None:
    policy = Policy(retry_horizon_s=100)
    again = retried(delivery(state=S.DEAD), at(5000))
    assert overdue(again, at(5099), policy) is None
    assert overdue(again, at(5101), policy) is not None


verdicts = st.one_of(
    st.builds(Delivered, next_step=st.sampled_from(["", "thread"])),
    st.builds(Duplicate),
    st.builds(
        Retry,
        reason=st.just("r"),
        after_s=st.none() | st.floats(-10, 1e9),
        whole_destination=st.booleans(),
        maybe_sent=st.booleans(),
    ),
    st.builds(Split, reason=st.just("s")),
    st.builds(Reject, reason=st.just("x"), final=st.booleans()),
    st.builds(Blocked, reason=st.just("b")),
    st.builds(Pending, token=st.just("t"), after_s=st.floats(-10, 1e9)),
)


@given(st.lists(st.tuples(verdicts, st.floats(0, 1), st.floats(0, 1e6)), max_size=40))
def test_no_sequence_of_verdicts_leaves_the_table(steps: list[tuple[Verdict, float, float]]) -> None:
    current, now = delivery(attempts=0), NOW
    for verdict, jitter, passed_s in steps:
        if current.state not in OPEN:
            break
        now += timedelta(seconds=passed_s)
        tried = replace(current, attempts=current.attempts + 1)
        after = next_step(tried, verdict, now, jitter, Policy(retry_horizon_s=1e7))
        assert after.state in MOVES[current.state]
        assert after.state is not S.PENDING or after.token
        assert after.pending_since is None or after.state is S.PENDING
        current = after


@given(st.integers(1, 10_000), st.floats(0, 1), st.none() | st.floats(-1e6, 1e12))
def test_a_wait_is_never_shorter_than_asked_and_never_beyond_the_caps(
    attempts: int, jitter: float, after_s: float | None
) -> None:
    wait_s = POLICY.wait_s(attempts, jitter, after_s)
    believed_s = min(max(after_s or 0, 0), POLICY.max_after_s)
    assert believed_s <= wait_s <= max(believed_s, POLICY.backoff_cap_s)
    assert POLICY.backoff_s(attempts, jitter) <= 2.0 ** min(attempts - 1, 60)


def test_full_jitter_takes_the_whole_range() -> None:
    assert [POLICY.backoff_s(n, 1.0) for n in (1, 2, 3, 9, 10, 99)] == [1, 2, 4, 256, 300, 300]
    assert POLICY.backoff_s(9, 0.0) == 0


# ---- a whole request ---------------------------------------------------------------------------------------


def settled(before: list[Delivery], *verdicts: Verdict, jitter: float = 0.0) -> Any:
    """Return what becomes of request 7 with these deliveries."""
    return settle(7, before, {}, verdicts, NOW, jitter, POLICY)


def batch(count: int) -> list[Delivery]:
    """Return deliveries of different incidents."""
    return [delivery(event_id=f"e{n}", incident=f"i{n}") for n in range(count)]


def test_a_batch_that_is_retried_whole_keeps_its_bytes_until_the_latest_time() -> None:
    result = settled(batch(2), Retry(reason="503", after_s=5), Retry(reason="503", after_s=9))
    assert result.keep_until == NOW + timedelta(seconds=9)
    assert [each.next_at for each in result.deliveries] == [result.keep_until] * 2


def test_a_batch_of_which_some_went_is_not_sent_whole_again() -> None:
    result = settled(batch(2), Delivered(), Retry(reason="full", after_s=5))
    assert result.keep_until is None
    assert [each.state for each in result.deliveries] == [S.DELIVERED, S.WAITING]


def test_a_batch_that_was_refused_whole_is_taken_apart_and_a_single_event_is_given_up() -> None:
    apart = settled(batch(2), Reject(reason="HTTP 400"), Reject(reason="HTTP 400"))
    assert [each.state for each in apart.deliveries] == [S.WAITING, S.WAITING]
    assert apart.keep_until is None
    assert settled(batch(1), Reject(reason="HTTP 400")).deliveries[0].state is S.DEAD


@pytest.mark.parametrize(
    ("size_bytes", "state", "fit_bytes"),
    [(100_000, S.WAITING, 50_000), (4096, S.WAITING, 2048), (4095, S.DEAD, 0), (0, S.DEAD, 0)],
)
def test_a_single_event_that_is_too_large_goes_again_at_half_the_size_as_long_as_that_is_something(
    size_bytes: int, state: S, fit_bytes: int
) -> None:
    verdict = Split(reason="413")
    result = settle(7, batch(1), {}, [verdict], NOW, 0.0, POLICY, size_bytes=size_bytes)
    assert (result.deliveries[0].state, result.deliveries[0].fit_bytes) == (state, fit_bytes)
    assert result.keep_until is None


def test_of_several_that_are_too_large_together_none_is_given_up() -> None:
    assert [each.state for each in settled(batch(2), Split(reason="413"), Split(reason="413")).deliveries] == [
        S.WAITING, S.WAITING,
    ]  # fmt: skip


def test_what_awaits_an_acknowledgement_keeps_its_request_also_beside_a_failure() -> None:
    result = settled(batch(2), Pending(token="t", after_s=3), Retry(reason="full", after_s=50))
    assert result.keep_until == NOW + timedelta(seconds=3)
    assert result.deliveries[1].next_at == NOW + timedelta(seconds=50)


def test_memory_and_what_was_told_are_part_of_what_is_committed() -> None:
    result = settled([delivery(3)], Delivered(memory={"ts": "1.2"}))
    (change,) = result.lines
    assert (change.key, change.memory, change.told) == (
        KEY, {"ts": "1.2"}, Told(seq=3, kind=EventKind.OPENED),
    )  # fmt: skip


def test_told_never_goes_back_and_a_timeout_leaves_a_doubt_that_success_ends() -> None:
    told = Told(seq=5, kind=EventKind.CLOSED)
    old = delivery(3)
    assert told_after(told, old, next_step(old, Delivered(), NOW, 0, POLICY), Delivered()) == told
    doubt = Retry(reason="timeout", maybe_sent=True)
    new = delivery(6)
    doubted = told_after(told, new, next_step(new, doubt, NOW, 0, POLICY), doubt)
    assert doubted.maybe
    assert not told_after(doubted, new, next_step(new, Delivered(), NOW, 0, POLICY), Delivered()).maybe


# ---- coalescing --------------------------------------------------------------------------------------------

OPENED, UPDATED, ESCALATED, CLOSED, REOPENED, MERGED, ACKED = (
    EventKind.OPENED, EventKind.UPDATED, EventKind.ESCALATED, EventKind.CLOSED, EventKind.REOPENED,
    EventKind.MERGED, EventKind.ACKNOWLEDGED,
)  # fmt: skip
NOTHING, TOLD_OPENED = Told(), Told(seq=0, kind=OPENED)


def planned(
    caps: Caps,
    *kinds: EventKind,
    told: Told = NOTHING,
    unwanted: tuple[EventKind, ...] = (),
    at_most: int = 1,
) -> tuple[list[int], dict[int, S]]:
    """Return the seqs that go and the final states of the others."""
    line = Line(key=KEY, waiting=untried(*kinds), told=told)
    plan = coalesce(line, caps, lambda each: each.kind not in unwanted, NOW, POLICY, at_most=at_most)
    return [each.seq for each in plan.send], {each.seq: each.state for each in plan.settled}


@pytest.mark.parametrize(
    ("caps", "kinds", "told", "send", "ended"),
    [
        # Every event goes, one after the other.
        (EVERY, [OPENED, UPDATED, CLOSED], Told(), [1], {}),
        # Chat hears the newest state, and of what was over unseen one message.
        (CHAT, [OPENED, UPDATED], Told(), [2], {1: S.SUPERSEDED}),
        (CHAT, [OPENED, CLOSED], Told(), [2], {1: S.SUPERSEDED}),
        # A pager hears nothing of what was over unseen, however often it came and went.
        (PAGER, [OPENED, CLOSED], Told(), [], {1: S.SUPERSEDED, 2: S.SUPERSEDED}),
        (PAGER, [OPENED, MERGED], Told(), [], {1: S.SUPERSEDED, 2: S.SUPERSEDED}),
        (PAGER, [REOPENED, CLOSED], Told(seq=0, kind=CLOSED), [], {1: S.SUPERSEDED, 2: S.SUPERSEDED}),
        # It hears of the end of what it was told, and nothing that the end has overtaken.
        (PAGER, [CLOSED], TOLD_OPENED, [1], {}),
        (PAGER, [ESCALATED, CLOSED], TOLD_OPENED, [2], {1: S.SUPERSEDED}),
        # ... or of what it may have been told.
        (PAGER, [OPENED, CLOSED], Told(maybe=True), [2], {1: S.SUPERSEDED}),
        (PAGER, [OPENED, CLOSED, REOPENED], Told(), [3], {1: S.SUPERSEDED, 2: S.SUPERSEDED}),
        # An old state that a person sent off again does not overwrite a newer one.
        (PAGER, [OPENED], Told(seq=4, kind=CLOSED), [], {1: S.SUPERSEDED}),
        (EVERY, [OPENED], Told(seq=4, kind=CLOSED), [1], {}),
    ],
)
def test_which_deliveries_of_an_incident_go(
    caps: Caps, kinds: list[EventKind], told: Told, send: list[int], ended: dict[int, S]
) -> None:
    assert planned(caps, *kinds, told=told) == (send, ended)


def test_what_is_not_wanted_needs_no_request_and_supersedes_nothing() -> None:
    assert planned(EVERY, UPDATED, OPENED, unwanted=(UPDATED,)) == ([2], {1: S.DELIVERED})
    assert planned(PAGER, OPENED, UPDATED, unwanted=(UPDATED,)) == ([1], {2: S.DELIVERED})
    assert planned(CHAT, OPENED, CLOSED, unwanted=(CLOSED,)) == ([1], {2: S.DELIVERED})


@pytest.mark.parametrize("end", [CLOSED, MERGED, ACKED])
def test_a_page_does_not_go_after_an_end_that_the_pager_has_no_use_for(end: EventKind) -> None:
    """PagerDuty has nothing to resolve and does not want the end; the trigger before it must not go either."""
    assert planned(PAGER, OPENED, end, unwanted=(end,)) == ([], {1: S.SUPERSEDED, 2: S.DELIVERED})


@pytest.mark.parametrize(
    ("kinds", "unwanted", "told"),
    [
        ((OPENED, CLOSED), (CLOSED,), Told(seq=2, kind=CLOSED)),
        ((OPENED, CLOSED), (), Told(seq=2, kind=CLOSED)),
        ((OPENED, MERGED), (MERGED,), Told(seq=2, kind=MERGED)),
        # The incident goes on: what was held back may still be told if a person asks for it.
        ((OPENED, ACKED), (ACKED,), None),
        ((OPENED, UPDATED), (), None),
    ],
)
def test_an_end_that_needs_no_request_counts_as_told(
    kinds: tuple[EventKind, ...], unwanted: tuple[EventKind, ...], told: Told | None
) -> None:
    line = Line(key=KEY, waiting=untried(*kinds))
    assert coalesce(line, PAGER, lambda each: each.kind not in unwanted, NOW, POLICY).told == told


def test_after_a_page_that_may_have_arrived_its_end_goes_wanted_or_not() -> None:
    assert planned(PAGER, OPENED, CLOSED, unwanted=(CLOSED,), told=Told(maybe=True)) == (
        [2],
        {1: S.SUPERSEDED},
    )


def test_between_the_calls_of_an_event_nothing_overtakes_it() -> None:
    begun = delivery(1, OPENED, step="thread")
    line = Line(key=KEY, waiting=(begun, delivery(2, CLOSED, attempts=0)), told=Told(seq=1, kind=OPENED))
    assert coalesce(line, PAGER, lambda _: True, NOW, POLICY).send == (begun,)


@pytest.mark.parametrize(
    ("caps", "unwanted", "send", "ended"),
    [
        (CHAT, (), [3], {1: S.SUPERSEDED, 2: S.SUPERSEDED}),
        (CHAT, (CLOSED,), [2], {1: S.SUPERSEDED, 3: S.DELIVERED}),
        (CHAT, (UPDATED, CLOSED), [1], {}),  # nothing goes instead
        (EVERY, (), [1], {}),
    ],
)
def test_what_is_left_of_an_event_and_refused_for_itself_gives_way_to_something_newer(
    caps: Caps, unwanted: tuple[EventKind, ...], send: list[int], ended: dict[int, S]
) -> None:
    begun = delivery(1, OPENED, step="somebody@example.com", refusals=1)
    waiting = (begun, delivery(2, UPDATED, attempts=0), delivery(3, CLOSED, attempts=0))
    line = Line(key=KEY, waiting=waiting, told=Told(seq=1, kind=OPENED))
    plan = coalesce(line, caps, lambda each: each.kind not in unwanted, NOW, POLICY)
    assert [each.seq for each in plan.send] == send
    assert {each.seq: each.state for each in plan.settled} == ended


def test_a_dead_letter_of_several_calls_is_not_finished_once_something_newer_was_told() -> None:
    begun = retried(delivery(2, CLOSED, step="thread", state=S.DEAD), NOW)
    line = Line(key=KEY, waiting=(begun,), told=Told(seq=9, kind=UPDATED))
    plan = coalesce(line, PAGER, lambda _: True, NOW, POLICY)
    assert (plan.send, [each.state for each in plan.settled]) == ((), [S.SUPERSEDED])
    assert coalesce(line, EVERY, lambda _: True, NOW, POLICY).send == (begun,)


def test_nothing_goes_behind_an_acknowledgement_that_is_awaited() -> None:
    waiting = (delivery(1, state=S.PENDING), delivery(2, attempts=0))
    plan = coalesce(Line(key=KEY, waiting=waiting), EVERY, lambda _: True, NOW, POLICY)
    assert (plan.send, plan.settled) == ((), ())


def test_only_a_destination_that_takes_batches_in_order_gets_several_events_of_one_incident() -> None:
    assert planned(EVERY, OPENED, UPDATED, CLOSED, at_most=2)[0] == [1]
    assert planned(replace(EVERY, atomic=True), OPENED, UPDATED, CLOSED, at_most=2)[0] == [1, 2]


def test_a_state_too_old_to_be_told_is_given_up_before_it_is_sent() -> None:
    line = Line(key=KEY, waiting=untried(OPENED, UPDATED))
    plan = coalesce(line, CHAT, lambda _: True, NOW, Policy(retry_horizon_s=10))
    assert (plan.send, [each.state for each in plan.settled]) == ((), [S.DEAD, S.DEAD])


@given(
    st.lists(st.sampled_from(list(EventKind)), max_size=8),
    st.sets(st.sampled_from(list(EventKind))),
    st.builds(Told, kind=st.none() | st.sampled_from(list(EventKind)), maybe=st.booleans()),
    st.sampled_from([EVERY, CHAT, PAGER, replace(EVERY, atomic=True)]),
)
def test_coalescing_loses_nothing_and_never_sends_what_it_ended(
    kinds: list[EventKind], unwanted: set[EventKind], told: Told, caps: Caps
) -> None:
    send, ended = planned(caps, *kinds, told=told, unwanted=tuple(unwanted), at_most=3)
    assert not set(send) & set(ended)
    assert send == sorted(send)
    if caps.mode == "newest":
        # Everything is decided at once: nothing of the line is left behind.
        assert set(send) | set(ended) == set(range(1, len(kinds) + 1))
        assert len(send) <= 1
    elif kinds:
        assert send or ended


# ---- flow --------------------------------------------------------------------------------------------------


def run(flow: Concurrency, answers: list[tuple[float, bool]]) -> Concurrency:
    """Return the value after full rounds of these answers: (seconds, back pressure)."""
    now = flow.next_at or NOW
    for took_s, pressed in answers:
        now += timedelta(seconds=took_s)
        flow = flow.full().answered(None if pressed else took_s, now, pressed=pressed)
    return flow


def test_concurrency_grows_while_answers_stay_quick_and_stops_at_its_maximum() -> None:
    assert run(Concurrency(), [(0.1, False)] * 8).limit > 1
    assert run(Concurrency(), [(0.1, False)] * 200).limit == 16


def test_concurrency_does_not_grow_without_need() -> None:
    flow, now = Concurrency(), NOW
    for _ in range(50):
        now += timedelta(seconds=0.1)
        flow = flow.answered(0.1, now)
    assert flow.limit == 1


def test_back_pressure_and_slow_answers_shrink_it_but_never_below_one() -> None:
    grown = run(Concurrency(), [(0.1, False)] * 200)
    assert run(grown, [(0.1, True)] * 3).limit < grown.limit
    assert run(grown, [(5.0, False)]).limit < grown.limit
    assert run(grown, [(0.1, True)] * 100).limit == 1


def failures(gate: Gate, count: int, jitter: float = 1.0) -> Gate:
    """Return the gate after failures in a row, one a second."""
    for number in range(count):
        moment = NOW + timedelta(seconds=number)
        gate = gate.failed(None, moment, moment, jitter, POLICY)
    return gate


def test_the_breaker_opens_after_failures_in_a_row_and_then_lets_one_through() -> None:
    assert failures(Gate(), 4).room(at(1010)) == "all"
    tripped = failures(Gate(), 5)
    assert tripped.resume_at == NOW + timedelta(seconds=4 + 1)
    assert tripped.room(NOW + timedelta(seconds=4.5)) == "none"
    assert tripped.room(NOW + timedelta(seconds=5)) == "one"
    assert tripped.passed(NOW + timedelta(seconds=5)) == Gate()


def test_failures_that_were_under_way_together_count_once() -> None:
    gate = Gate()
    for number in range(16):
        gate = gate.failed(None, NOW, NOW + timedelta(milliseconds=number + 1), 1.0, POLICY)
    assert gate.failures == 1


def test_a_success_that_began_before_the_trouble_does_not_end_it() -> None:
    blocked = Gate().refused("HTTP 401", NOW, POLICY)
    assert blocked.passed(NOW - timedelta(seconds=1)) == blocked
    assert blocked.passed(NOW + timedelta(seconds=61)) == Gate()


def test_retry_after_holds_for_the_whole_destination_and_is_not_shortened() -> None:
    gate = Gate().failed(40.0, NOW, NOW, 0.0, POLICY)
    gate = gate.failed(1.0, NOW, NOW, 0.0, POLICY)
    assert gate.room(NOW + timedelta(seconds=39)) == "none"
    assert gate.room(NOW + timedelta(seconds=40)) == "all"


def test_a_refusal_is_asked_about_once_a_minute() -> None:
    gate = Gate().refused("HTTP 401", NOW, POLICY)
    assert [gate.room(NOW + timedelta(seconds=s)) for s in (0, 59, 60)] == ["none", "none", "one"]


def refused(count: int = 1, failing_since: float | None = None, first: int = 0) -> list[Delivery]:
    """Return deliveries of different incidents that were refused before, at START plus so many seconds."""
    since = None if failing_since is None else at(failing_since)
    return [delivery(incident=f"i{number}", failing_since=since) for number in range(first, first + count)]


BLOCKED = Blocked(reason="HTTP 403")
FULL = Reject(reason="disk full", final=False)


@pytest.mark.parametrize(
    ("taking", "deliveries", "verdicts", "expected"),
    [
        # Nothing was taken since it was first refused: the destination refuses us.
        (Taking(), refused(), [BLOCKED], [BLOCKED]),
        (Taking(), refused(1, 5), [BLOCKED], [BLOCKED]),
        (Taking(accepted_at=at(4)), refused(1, 5), [BLOCKED], [BLOCKED]),
        # Others were: it is this event's own.
        (Taking(accepted_at=at(6)), refused(1, 5), [BLOCKED], [Reject(reason="HTTP 403", final=False)]),
        # One that is refused for the first time proves nothing, whatever was taken before.
        (Taking(accepted_at=at(6)), refused(), [BLOCKED], [BLOCKED]),
        # A failure is laid at its door, too, unless it is certainly the destination's.
        (Taking(accepted_at=at(6)), refused(1, 5), [Retry(reason="500")], [Retry(reason="500", of_event=True)]),
        (
            Taking(accepted_at=at(6)), refused(1, 5),
            [Retry(reason="503", whole_destination=True)], [Retry(reason="503", whole_destination=True)],
        ),
        # In a batch it is looked for.
        (Taking(), refused(2), [BLOCKED] * 2, [Split(reason="HTTP 403")] * 2),
        (Taking(), refused(2), [Delivered(), BLOCKED], [Delivered(), Split(reason="HTTP 403")]),
        # What is rejected is rejected ...
        (Taking(), refused(), [Reject(reason="400")], [Reject(reason="400")]),
        # ... but not one incident after the other.
        (
            Taking(rejected=frozenset(LineKey("default", f"j{number}") for number in range(4))),
            refused(), [Reject(reason="400")],
            [Blocked(reason="400; it rejected 5 incidents in a row and took none")],
        ),
        (
            Taking(rejected=frozenset(LineKey("default", f"i{number}") for number in range(4))),
            refused(), [Reject(reason="400")], [Reject(reason="400")],
        ),
        # It is the same with those that the answer to a batch names, unless it took others of them ...
        (
            Taking(rejected=frozenset(LineKey("default", f"j{number}") for number in range(4))),
            refused(2), [Reject(reason="400"), Retry(reason="not tried")],
            [Blocked(reason="400; it rejected 5 incidents in a row and took none"), Retry(reason="not tried")],
        ),
        (
            Taking(rejected=frozenset(LineKey("default", f"j{number}") for number in range(4))),
            refused(2), [Reject(reason="400"), Delivered()], [Reject(reason="400"), Delivered()],
        ),
        # ... and a batch that is rejected whole says nothing about any of them.
        (Taking(), refused(9), [Reject(reason="400")] * 9, [Split(reason="400")] * 9),
        # What may pass counts against an event only while others are taken.
        (Taking(), refused(1, 5), [FULL], [Retry(reason="disk full")]),
        (Taking(accepted_at=at(6)), refused(1, 5), [FULL], [FULL]),
        # A later call shows by itself that the destination takes something: it took the first.
        (Taking(), [delivery(step="thread")], [FULL], [FULL]),
        (Taking(), [delivery(step="thread")], [BLOCKED], [BLOCKED]),
        (Taking(), refused(2), [FULL, Retry(reason="x")], [Split(reason="disk full"), Retry(reason="x")]),
    ],
)  # fmt: skip
def test_whose_fault_a_refusal_is(
    taking: Taking, deliveries: list[Delivery], verdicts: list[Verdict], expected: list[Verdict]
) -> None:
    assert list(taking.attributed(verdicts, deliveries)) == expected


def test_what_blocks_without_an_answer_is_no_fault_of_an_event() -> None:
    taking = Taking(accepted_at=at(6))
    for count in (1, 2):
        blocked = [Blocked(reason="No space left on device")] * count
        assert list(taking.attributed(blocked, refused(count, 5), answered=False)) == blocked


def test_what_was_refused_and_rejected_counts_until_something_is_taken() -> None:
    taking = (
        Taking().after([BLOCKED], refused(1), at(1)).after([Reject(reason="400")], refused(1, None, 1), at(2))
    )
    assert (taking.refused, taking.rejected) == (
        {LineKey("default", "i0")}, {LineKey("default", "i1")},
    )  # fmt: skip
    assert taking.after([Retry(reason="503")], refused(), at(3)).failed == {LineKey("default", "i0")}
    assert taking.after([Delivered()], refused(), at(3)) == Taking(accepted_at=at(3))
    # A slow answer does not make the newest acceptance older.
    assert Taking(accepted_at=at(9)).after([Delivered()], refused(), at(3)) == Taking(accepted_at=at(9))


MIB = 2**20


@pytest.mark.parametrize(
    ("free_bytes", "waiting", "destinations", "most", "allowed"),
    [
        (4 * MIB, 0, 1, 10**6, 1024),  # a quarter, a KiB each
        (4 * MIB, 0, 4, 10**6, 256),  # shared equally
        (4 * MIB, 0, 4, 100, 100),  # never more than this
        (0, 4096, 1, 10**6, 1024),  # what waits already is room, too: nothing swings
        (3 * MIB, 1024, 1, 10**6, 1024),
        (0, 0, 3, 10**6, 0),
        (MIB, 0, 0, 10**6, 256),
    ],
)
def test_a_backlog_has_its_share_of_the_disk(
    free_bytes: int, waiting: int, destinations: int, most: int, allowed: int
) -> None:
    assert may_wait(free_bytes, waiting, destinations, most) == allowed


def test_a_batch_halves_when_too_large_and_grows_by_one() -> None:
    size = BatchSize.of(100).too_large(100)
    assert (size.limit, size.taken().limit) == (50, 51)
    assert size.too_large(3).too_large(1).limit == 1
    assert BatchSize.of(5).taken().limit == 5


@pytest.mark.parametrize(
    ("waiting", "count", "shed"),
    [
        ({"a": 10, "b": 2}, 3, {"a": 3}),
        ({"a": 10, "b": 2}, 9, {"a": 8, "b": 1}),
        ({"a": 5, "b": 5, "c": 1}, 3, {"a": 1, "b": 2}),
        ({"a": 5}, 9, {"a": 5}),
        ({}, 4, {}),
        ({"a": 3, "b": 3}, 0, {}),
    ],
)
def test_who_has_most_waiting_makes_room(waiting: dict[str, int], count: int, shed: dict[str, int]) -> None:
    assert shed_of(waiting, count) == shed


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 50)), st.integers(0, 200))
def test_room_is_made_by_levelling(waiting: dict[str, int], count: int) -> None:
    shed = shed_of(waiting, count)
    assert sum(shed.values()) == min(count, sum(waiting.values()))
    left = {name: number - shed.get(name, 0) for name, number in waiting.items()}
    assert all(number >= 0 for number in left.values())
    level = max(left.values(), default=0)
    assert all(left[name] >= level - 1 for name in shed)
