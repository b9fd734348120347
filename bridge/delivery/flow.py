"""One whole destination: how much may be under way, whether it is asked at all, how large a batch may be.

Four small values, each replaced by the next after every attempt.

`Concurrency` is the adaptive request concurrency of Vector (its adaptive_concurrency/controller.rs): one more
while answers stay as quick as they were and the limit was reached, a tenth less on back pressure or when
answers get slow. Vector goes to 200; 16 is enough for incidents, and kind.

`Gate` is the circuit breaker and the pause of a destination that refuses us. Half open it lets one attempt
through at a time.

`BatchSize` halves when a request was too large and grows by one with each success.

`Taking` tells whose fault a refusal is. A 403 can come from a revoked token or from a filter that dislikes one
text, and the answer does not say which. So what was refused goes behind the others, and if another is taken
meanwhile, the refusal was the event's own. The other way round, a destination that rejects incident after
incident and takes none is set up wrongly: it blocks before everything is thrown into the dead letters.
Rejected: to trust the status alone. 401 and 403 for one event stopped whole destinations, and a 400 for
everything (a wrong signing secret) emptied the outbox into the dead letters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

from msgspec.structs import replace

from bridge.delivery.coalescing import LineKey
from bridge.delivery.steps import Policy
from bridge.model import Blocked, Delivered, Delivery, Duplicate, Pending, Reject, Retry, Split, Verdict, Word

MAX_CONCURRENCY = 16
MAX_REJECTED = 5  # incidents in a row, none taken between: that is no fault of the incidents
_ALPHA = 0.4  # weight of the newest interval in the moving mean and variance
_KEPT_RATIO = 0.9  # of the limit, after back pressure
_DEVIATIONS = 2.5  # answers slower than the mean by this much are back pressure


class Concurrency(Word, frozen=True, kw_only=True):
    """How many requests may be under way at once; `limit` is 1..`max_limit`."""

    limit: int = 1
    max_limit: int = MAX_CONCURRENCY
    reached: bool = False  # the limit was in the way during this interval
    pressed: bool = False  # the destination asked for less during this interval
    total_s: float = 0.0  # of this interval's answers
    answers: int = 0
    mean_s: float | None = None  # of past intervals
    variance: float = 0.0
    next_at: datetime | None = None  # when this interval ends

    def full(self) -> Concurrency:
        """Return the value after the limit was reached."""
        return self if self.reached else replace(self, reached=True)

    def answered(self, took_s: float | None, now: datetime, *, pressed: bool = False) -> Concurrency:
        """Return the value after an attempt ended; `took_s` is None unless it succeeded."""
        seen = replace(
            self,
            pressed=self.pressed or pressed,
            total_s=self.total_s + (0.0 if took_s is None else max(took_s, 0.0)),
            answers=self.answers + (took_s is not None),
        )
        if seen.mean_s is not None and (seen.next_at is None or now >= seen.next_at):
            return _interval_ended(replace(seen, limit=_adjusted(seen)), now)
        if seen.mean_s is None and seen.answers:
            return _interval_ended(seen, now)
        return seen


def _adjusted(seen: Concurrency) -> int:
    mean_s = seen.mean_s or 0.0
    current_s = seen.total_s / seen.answers if seen.answers else None
    slow = current_s is not None and current_s > mean_s + _DEVIATIONS * math.sqrt(seen.variance)
    quick = current_s is not None and current_s <= mean_s
    if seen.reached and quick and not seen.pressed:
        return min(seen.limit + 1, seen.max_limit)
    if seen.pressed or slow:
        return max(1, int(seen.limit * _KEPT_RATIO))
    return seen.limit


def _interval_ended(seen: Concurrency, now: datetime) -> Concurrency:
    mean_s, variance = seen.mean_s, seen.variance
    if seen.answers:
        current_s = seen.total_s / seen.answers
        if mean_s is None:
            mean_s = current_s
        else:
            # Finch, "Incremental calculation of weighted mean and variance" (2009), section 9.
            increment = _ALPHA * (current_s - mean_s)
            variance = (1 - _ALPHA) * (variance + (current_s - mean_s) * increment)
            mean_s += increment
    return replace(
        seen, mean_s=mean_s, variance=variance, next_at=now + timedelta(seconds=mean_s or 0.0),
        total_s=0.0, answers=0, reached=False, pressed=False,
    )  # fmt: skip


class Gate(Word, frozen=True, kw_only=True):
    """Whether a destination is asked now. Blocked (it refuses us) and tripped (it fails) are told apart."""

    failures: int = 0  # in a row, those under way at the same time counted once
    counted_at: datetime | None = None
    resume_at: datetime | None = None  # nothing starts before
    blocked: str = ""  # why it refuses us, "" if it does not
    tripped: bool = False
    disabled: bool = False  # refused in the words of somebody who wants to be left alone

    def room(self, now: datetime) -> Literal["none", "one", "all"]:
        """Return how much may be under way: "one" is a trial after a pause."""
        if self.resume_at is not None and now < self.resume_at:
            return "none"
        return "one" if self.blocked or self.tripped else "all"

    def failed(
        self, after_s: float | None, started_at: datetime, now: datetime, jitter: float,
        policy: Policy,
    ) -> Gate:  # fmt: skip
        """Return the gate after an attempt of `started_at` told of trouble of the whole destination.

        `after_s` is the destination's own Retry-After; it holds for everything that would go there.
        """
        stale = self.counted_at is not None and started_at < self.counted_at
        failures = self.failures if stale else self.failures + 1
        tripped = failures >= policy.trip_after
        wait_s = 0.0 if after_s is None else min(max(after_s, 0.0), policy.max_after_s)
        if tripped and not stale:
            wait_s = max(wait_s, policy.trial_wait_s(failures - policy.trip_after + 1, jitter))
        resume_at = now + timedelta(seconds=wait_s)
        return replace(
            self, failures=failures, tripped=tripped, counted_at=self.counted_at if stale else now,
            resume_at=max(resume_at, self.resume_at or resume_at),
        )  # fmt: skip

    def refused(self, reason: str, now: datetime, policy: Policy, *, disabled: bool = False) -> Gate:
        """Return the gate after the destination refused us, for the first time or again."""
        wait_s = policy.disabled_s if disabled else policy.probe_every_s
        return replace(
            self, blocked=reason, counted_at=now, resume_at=now + timedelta(seconds=wait_s), disabled=disabled,
        )  # fmt: skip

    def passed(self, started_at: datetime) -> Gate:
        """Return the gate after the destination took something that was begun since the last trouble."""
        return self if self.counted_at is not None and started_at < self.counted_at else Gate()


class Taking(Word, frozen=True, kw_only=True):
    """What a destination took lately, and what it refused and rejected since."""

    accepted_at: datetime | None = None  # when the newest attempt of which something was taken had begun
    refused: frozenset[LineKey] = frozenset()  # incidents of which something was refused since
    rejected: frozenset[LineKey] = frozenset()  # incidents of which something was rejected since
    failed: frozenset[LineKey] = frozenset()  # incidents of which something failed since

    def attributed(
        self, verdicts: Sequence[Verdict], deliveries: Sequence[Delivery], *, answered: bool = True
    ) -> tuple[Verdict, ...]:
        """Return the verdicts with each refusal and failure laid at the door of event or destination.

        Of several that were refused together nobody knows which one it was; smaller requests find it. So it is
        with several that were rejected whole; the ones that an answer names are judged like one that was alone.
        Without an answer (`answered` is false) nobody has looked at an event: what blocks then is our own side.
        """
        is_alone = len(verdicts) == 1
        if not is_alone and all(isinstance(each, Reject) and each.final for each in verdicts):
            return tuple(Split(reason=each.reason) for each in verdicts if isinstance(each, Reject))
        is_taken = any(isinstance(each, Delivered | Duplicate | Pending) for each in verdicts)
        rejected = frozenset() if is_taken else self.rejected | _rejected(verdicts, deliveries)
        return tuple(
            verdict
            if isinstance(verdict, Blocked) and not answered
            else self._attributed(verdict, delivery, len(rejected), is_alone=is_alone)
            for verdict, delivery in zip(verdicts, deliveries, strict=True)
        )

    def after(
        self, verdicts: Sequence[Verdict], deliveries: Sequence[Delivery], started_at: datetime
    ) -> Taking:
        """Return the value after an attempt that had begun at `started_at`; `verdicts` are attributed."""
        if any(isinstance(each, Delivered | Duplicate | Pending) for each in verdicts):
            return Taking(accepted_at=max(started_at, self.accepted_at or started_at))
        lines = [LineKey(each.tenant, each.incident) for each in deliveries]
        told = list(zip(verdicts, lines, strict=True))
        refused = {line for verdict, line in told if isinstance(verdict, Blocked)}
        rejected = _rejected(verdicts, deliveries)
        failed = {line for verdict, line in told if isinstance(verdict, Retry)}
        return replace(
            self,
            refused=self.refused | refused,
            rejected=self.rejected | rejected,
            failed=self.failed | failed,
        )

    def _attributed(self, verdict: Verdict, delivery: Delivery, rejected: int, *, is_alone: bool) -> Verdict:
        """Return one verdict attributed; `rejected` incidents were rejected since something was taken."""
        is_own = self._took_others_since(delivery.failing_since)
        match verdict:
            case Blocked(disabled=True) | Reject(wished=True):
                return verdict
            case Reject(final=True, reason=reason) if rejected >= MAX_REJECTED:
                return Blocked(reason=f"{reason}; it rejected {rejected} incidents in a row and took none")
            case Reject(final=final) if final or delivery.step:
                return verdict  # with a step: it has taken the event's first call, so it is well
            case Blocked(reason=reason) | Reject(reason=reason) if not is_alone:
                return Split(reason=reason)
            case Blocked(reason=reason) | Reject(reason=reason) if is_own:
                return Reject(reason=reason, final=False)
            case Reject(reason=reason):
                # "My disk is full" is said to each event in turn; that counts against none of them.
                return Retry(reason=reason)
            case Retry(whole_destination=False) if is_alone and is_own:
                return replace(verdict, of_event=True)
            case _:
                return verdict

    def _took_others_since(self, failing_since: datetime | None) -> bool:
        return (
            failing_since is not None and self.accepted_at is not None and self.accepted_at >= failing_since
        )


def _rejected(verdicts: Sequence[Verdict], deliveries: Sequence[Delivery]) -> frozenset[LineKey]:
    return frozenset(
        LineKey(delivery.tenant, delivery.incident)
        for verdict, delivery in zip(verdicts, deliveries, strict=True)
        if isinstance(verdict, Reject) and verdict.final and not verdict.wished
    )


class BatchSize(Word, frozen=True, kw_only=True):
    """How many events one request may carry, 1..`max_events`."""

    max_events: int
    limit: int

    @classmethod
    def of(cls, max_events: int) -> BatchSize:
        """Return the size to begin with."""
        return cls(max_events=max_events, limit=max_events)

    def too_large(self, events: int) -> BatchSize:
        """Return the size after a request of `events` was too large."""
        return replace(self, limit=max(1, min(self.limit, events // 2)))

    def taken(self) -> BatchSize:
        """Return the size after a success."""
        return self if self.limit == self.max_events else replace(self, limit=self.limit + 1)
