"""One delivery: which moves are legal, and what each verdict makes of it.

Theory: an event waits, is sent, and the verdict either ends it or says when to go on. Waiting is full jitter
over an exponential bound (AWS, "Exponential Backoff And Jitter", 2015), never shorter than what the
destination asked for. Nothing is given up for its age unless a horizon is set: an outage expires nothing.
A kind whose protocol names the waits (`Policy.waits_s`, Standard Webhooks) has those instead, up to a tenth longer.

An event that is refused although the destination takes others (`Reject` that is not `final`) is tried a few
times more, then given up: the refusal may have come from a filter between us, but it holds its incident's line.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from msgspec.structs import replace

from bridge.model import (
    Blocked,
    Delivered,
    Delivery,
    DeliveryState,
    Duplicate,
    Pending,
    Reject,
    Retry,
    Split,
    Verdict,
    Word,
)

_S = DeliveryState

#: From each state, the states that may follow. A state may follow itself while the event is under way.
MOVES: dict[DeliveryState, frozenset[DeliveryState]] = {
    _S.WAITING: frozenset({_S.WAITING, _S.PENDING, _S.DELIVERED, _S.SUPERSEDED, _S.DEAD, _S.DROPPED}),
    # What the destination has accepted is no longer superseded: its acknowledgement is waited for.
    _S.PENDING: frozenset({_S.PENDING, _S.WAITING, _S.DELIVERED, _S.DEAD, _S.DROPPED}),
    _S.DEAD: frozenset({_S.WAITING, _S.DROPPED}),
    _S.DELIVERED: frozenset(),
    _S.SUPERSEDED: frozenset(),
    _S.DROPPED: frozenset(),
}
#: Under way: later events of the same incident stand behind it.
OPEN = frozenset({_S.WAITING, _S.PENDING})
FINAL = frozenset({_S.DELIVERED, _S.SUPERSEDED, _S.DROPPED})

#: 2**30 s is beyond every cap; a larger exponent only makes a larger number.
_MAX_DOUBLINGS = 30
#: By this share a named wait may be longer, so that what failed together does not come back together.
_LATER = 0.1
_ALREADY_THERE = "the destination already had it"
_UNKNOWN_END = "an attempt ended without an answer"


class Policy(Word, frozen=True, kw_only=True):
    """How patient one destination is waited for."""

    retry_horizon_s: float | None = None  # given up this long after the event was made; None: never
    max_after_s: float = 3600.0  # the longest Retry-After that is believed
    backoff_base_s: float = 1.0
    backoff_cap_s: float = 300.0  # of one event
    urgent_cap_s: float = 30.0  # of one whose incident is critical
    trial_cap_s: float = 30.0  # between two trials of a destination that fails: one request costs it nothing
    pending_s: float = 600.0  # an acknowledgement that takes longer is taken as lost: the event is sent again
    trip_after: int = 5  # failures in a row that open the circuit breaker
    probe_every_s: float = 60.0  # how often a destination that refuses us is asked again
    max_refusals: int = 8  # of one event while others are taken; with the waits below about an hour
    refusal_base_s: float = 30.0
    refusal_cap_s: float = 3600.0
    waits_s: tuple[
        float, ...
    ] = ()  # of one event, urgent or not, instead of the backoff; the last one repeated
    disabled_s: float = 86_400.0  # how often a destination that wants to be left alone is asked again

    def backoff_s(self, attempts: int, jitter: float, *, urgent: bool = False) -> float:
        """Return the wait after `attempts` (>= 1) failures; `jitter` in 0..1 picks from the whole range."""
        doublings = min(max(attempts, 1) - 1, _MAX_DOUBLINGS)
        cap_s = min(self.backoff_cap_s, self.urgent_cap_s) if urgent else self.backoff_cap_s
        return jitter * min(cap_s, self.backoff_base_s * 2.0**doublings)

    def trial_wait_s(self, failures: int, jitter: float) -> float:
        """Return the pause after a destination has failed `failures` (>= 1) times since its breaker opened."""
        return min(self.trial_cap_s, self.backoff_s(failures, jitter))

    def refusal_wait_s(self, refusals: int) -> float:
        """Return the wait after an event was refused by its own fault `refusals` (>= 1) times."""
        doublings = min(max(refusals, 1) - 1, _MAX_DOUBLINGS)
        return min(self.refusal_cap_s, self.refusal_base_s * 2.0**doublings)

    def wait_s(self, attempts: int, jitter: float, after_s: float | None, *, urgent: bool = False) -> float:
        """Return the longer of the event's own wait and what the destination asked for (the latter is capped)."""
        asked_s = min(max(after_s or 0.0, 0.0), self.max_after_s)
        if self.waits_s:
            own_s = self.waits_s[min(max(attempts, 1), len(self.waits_s)) - 1] * (1 + _LATER * jitter)
        else:
            own_s = self.backoff_s(attempts, jitter, urgent=urgent)
        return max(asked_s, own_s)


def move(delivery: Delivery, state: DeliveryState, **changes: Any) -> Delivery:
    """Return the delivery in `state` with `changes`.

    Raises:
        ValueError: `MOVES` does not allow it. That is a bug of the caller, never of a destination.
    """
    if state not in MOVES[delivery.state]:
        raise ValueError(f"a delivery cannot go from {delivery.state} to {state}")
    return replace(delivery, state=state, **changes)


def next_step(delivery: Delivery, verdict: Verdict, now: datetime, jitter: float, policy: Policy) -> Delivery:
    """Return what becomes of an attempted delivery (its `attempts` counts that attempt).

    Args:
        delivery: In state waiting or pending.
        verdict: What the connector made of the answer. `Split` means "again at once, with fewer events"; of a
            single event the caller makes it a `Reject` before.
        now: The time of the answer.
        jitter: 0..1, drawn anew for each verdict.
        policy: Of the destination.

    Raises:
        ValueError: The delivery had ended.
    """
    match verdict:
        case Delivered() | Duplicate():
            return _delivered(delivery, verdict, now)
        case Retry():
            return _again(delivery, verdict, now, jitter, policy)
        case Split(reason=reason):
            return move(
                delivery, _S.WAITING,
                next_at=now, reason=reason, token="", pending_since=None, until_recovery=False,
            )  # fmt: skip
        case Blocked():
            return _blocked(delivery, verdict, now, policy)
        case Reject():
            return _rejected(delivery, verdict, now, policy)
        case Pending():
            return _pending(delivery, verdict, now, jitter, policy)


def overdue(delivery: Delivery, now: datetime, policy: Policy) -> Delivery | None:
    """Return the delivery as given up if its horizon has passed, else None."""
    horizon_s, since = policy.retry_horizon_s, delivery.asked_at or delivery.created_at
    if horizon_s is None or now - since <= timedelta(seconds=horizon_s):
        return None
    reason = f"its retry horizon of {horizon_s:g} s passed"
    return _dead(delivery, f"{reason}; last: {delivery.reason}" if delivery.reason else reason)


def unanswered(delivery: Delivery, now: datetime) -> Delivery:
    """Return a delivery whose attempt was cut off (the process ended): it goes again and may be a repeat."""
    return move(
        delivery,
        delivery.state,
        next_at=now,
        maybe_duplicate=delivery.state is _S.WAITING or delivery.maybe_duplicate,
        reason=_UNKNOWN_END if delivery.state is _S.WAITING else delivery.reason,
    )


def retried(delivery: Delivery, now: datetime) -> Delivery:
    """Return a given-up delivery as a person sends it off again, with a new horizon and its old age.

    Raises:
        ValueError: It was not given up.
    """
    if delivery.state is not _S.DEAD:
        raise ValueError("only what was given up can be retried")
    return move(
        delivery, _S.WAITING,
        asked_at=now, next_at=now, attempts=0, token="", reason="retried by a person",
        until_recovery=False, pending_since=None, failing_since=None, stuck_since=None, refusals=0,
    )  # fmt: skip


def dropped(delivery: Delivery) -> Delivery:
    """Return the delivery as a person ends it.

    Raises:
        ValueError: It had ended.
    """
    return move(delivery, _S.DROPPED, reason="dropped by a person", token="", pending_since=None)


def _delivered(delivery: Delivery, verdict: Delivered | Duplicate, now: datetime) -> Delivery:
    step = verdict.next_step if isinstance(verdict, Delivered) else ""
    state = _S.WAITING if step else _S.DELIVERED
    return move(
        delivery, state,
        step=step, token="", pending_since=None, until_recovery=False, next_at=now,
        failing_since=None, stuck_since=None, refusals=0,
        attempts=0 if step else delivery.attempts,  # the next call has its own patience
        delivered_at=None if step else now,
        reason=_ALREADY_THERE if isinstance(verdict, Duplicate) else "",
    )  # fmt: skip


def _again(delivery: Delivery, verdict: Retry, now: datetime, jitter: float, policy: Policy) -> Delivery:
    waiting_s = policy.wait_s(delivery.attempts, jitter, verdict.after_s, urgent=delivery.urgent)
    next_at = now + timedelta(seconds=waiting_s)
    given_up = overdue(replace(delivery, reason=verdict.reason), now, policy)
    if given_up is not None:
        return given_up
    if delivery.state is _S.PENDING and (verdict.whole_destination or verdict.maybe_sent):
        # Asking failed, which says nothing about the event itself.
        return _pending(
            delivery,
            Pending(token=delivery.token, after_s=waiting_s, reason=verdict.reason),
            now,
            jitter,
            policy,
        )
    return move(
        delivery, _S.WAITING,
        next_at=next_at, reason=verdict.reason, token="", pending_since=None,
        # A wait that the destination asked for, for this event alone, is kept whatever becomes of others.
        until_recovery=not verdict.of_event and (verdict.whole_destination or verdict.after_s is None),
        failing_since=delivery.failing_since or now,
        stuck_since=(delivery.stuck_since or now) if verdict.of_event else None,
        maybe_duplicate=delivery.maybe_duplicate or verdict.maybe_sent or delivery.state is _S.PENDING,
    )  # fmt: skip


def _pending(delivery: Delivery, verdict: Pending, now: datetime, jitter: float, policy: Policy) -> Delivery:
    since = delivery.pending_since or now
    if now - since > timedelta(seconds=policy.pending_s):
        return move(
            delivery, _S.WAITING,
            next_at=now + timedelta(seconds=policy.backoff_s(delivery.attempts, jitter)),
            reason="no acknowledgement in time", token="", pending_since=None, maybe_duplicate=True,
            # It was taken, so nothing else tells of it: one that is never acknowledged would be sent for ever.
            failing_since=delivery.failing_since or now, stuck_since=delivery.stuck_since or now,
        )  # fmt: skip
    return move(
        delivery, _S.PENDING,
        token=verdict.token, reason=verdict.reason, pending_since=since,
        next_at=now + timedelta(seconds=min(max(verdict.after_s, 0.0), policy.max_after_s)),
    )  # fmt: skip


def _blocked(delivery: Delivery, verdict: Blocked, now: datetime, policy: Policy) -> Delivery:
    # A minute behind the others: the next to be tried is one that was not refused yet.
    return move(
        delivery, delivery.state,
        next_at=now + timedelta(seconds=policy.probe_every_s), reason=verdict.reason, until_recovery=True,
        failing_since=delivery.failing_since or now,
    )  # fmt: skip


def _rejected(delivery: Delivery, verdict: Reject, now: datetime, policy: Policy) -> Delivery:
    refusals = delivery.refusals + 1
    if verdict.final:
        return _dead(delivery, verdict.reason)
    if refusals >= policy.max_refusals:
        return _dead(delivery, f"refused {refusals} times; last: {verdict.reason}")
    return move(
        delivery, _S.WAITING,
        next_at=now + timedelta(seconds=policy.refusal_wait_s(refusals)), reason=verdict.reason, token="",
        pending_since=None, until_recovery=False, refusals=refusals,
        failing_since=delivery.failing_since or now, stuck_since=delivery.stuck_since or now,
    )  # fmt: skip


def _dead(delivery: Delivery, reason: str) -> Delivery:
    return move(delivery, _S.DEAD, reason=reason, token="", pending_since=None, until_recovery=False)
