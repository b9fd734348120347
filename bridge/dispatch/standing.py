"""What is known of one destination: how much it takes at once, whether it fails or refuses us.

Theory: trouble is told of by age, not by the breaker: a destination that has taken nothing for two minutes although
something was tried is told of, whatever it answers. (A breaker that counts failures in a row never opened for the
one incident that a pager answered with 502 through the night.)

Rule: this lives in memory only. After a restart a destination begins with a clean sheet and one request at a
time; what it thinks of us is found out by asking.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime

from bridge.delivery import BatchSize, Concurrency, Gate, Policy, Taking
from bridge.dispatch.alarms import Alarms
from bridge.dispatch.sending import Answer
from bridge.dispatch.surroundings import Surroundings
from bridge.model import Blocked, Delivered, Delivery, Duplicate, Pending, Reject, Retry, Split, Verdict
from bridge.ports import Unreached

_LOG = logging.getLogger(__name__)
#: After so long without anything taken, the first that is brings all that failed meanwhile with it.
SILENCE_S = 10.0
#: So many incidents that fail in a row are not each at fault.
MAX_SUSPECTS = 8


class Standing:
    """One destination as its answers show it."""

    def __init__(
        self, name: str, max_events: int, policy: Policy, around: Surroundings, alarms: Alarms
    ) -> None:
        self.name = name
        self.gate = Gate()
        self.concurrency = Concurrency()
        self.size = BatchSize.of(max(1, max_events))
        self.taking = Taking()
        self.accepted = 0  # requests of which something was taken
        #: Since when nothing was taken although something was tried, and why.
        self.silent_since: datetime | None = None
        self._silence = ""
        self._blocked_since: datetime | None = None
        #: A probe went well, or its answer was unclear: one real attempt decides.
        self.needs_trial = False
        self._policy = policy
        self._around = around
        self._alarms = alarms

    def is_trying(self, now: datetime) -> bool:
        """Return whether one event alone finds out how things are."""
        return self.needs_trial or self.gate.room(now) != "all"

    def wants_another(self, now: datetime) -> bool:
        """Return whether the one event that is tried is to be one that did not fail yet.

        It may be those few that are at fault. But each one that is tried is frozen, so a destination that is
        dead does not get ever new ones.
        """
        return self.is_trying(now) and len(self.taking.failed) < MAX_SUSPECTS

    @property
    def _has_one_suspect(self) -> bool:
        """Whether only one incident was refused yet. It waits; another may be tried at once."""
        return self.gate.blocked != "" and not self.gate.disabled and len(self.taking.refused) == 1

    def room(self, now: datetime, under_way: int) -> int:
        """Return how many attempts may start now, 0 or less for none."""
        room = "one" if self.needs_trial or self._has_one_suspect else self.gate.room(now)
        if room == "none":
            return 0
        if room == "one":
            return 1 - under_way
        if under_way >= self.concurrency.limit:
            self.concurrency = self.concurrency.full()
        return self.concurrency.limit - under_way

    def probes(self, now: datetime) -> bool:
        """Return whether a harmless request is to find out whether we are still refused."""
        return self.gate.blocked != "" and not self.needs_trial and self.gate.room(now) == "one"

    def learn(
        self,
        answer: Answer,
        deliveries: Sequence[Delivery],
        started_at: datetime,
        now: datetime,
        *,
        asks: bool = False,
    ) -> bool:
        """Take from an answer what it says about the destination; return whether trouble is over.

        A destination that is asked (`asks`) for an acknowledgement takes nothing by answering: it may refuse
        everything new all the same.
        """
        verdicts = answer.verdicts
        if not asks:
            self.taking = self.taking.after(verdicts, deliveries, started_at)
        retries = [each for each in verdicts if isinstance(each, Retry)]
        refused = next((each for each in verdicts if isinstance(each, Blocked)), None)
        is_answered = refused is None and len(retries) < len(verdicts)
        took_s = (now - started_at).total_seconds() if is_answered else None
        self.concurrency = self.concurrency.answered(took_s, now, pressed=bool(retries))
        self._around.meter.concurrency(self.name, self.concurrency.limit)
        if refused is not None:
            self.refused(refused, now)
        elif not is_answered:
            self._failed(answer, retries, deliveries, started_at, now)
        is_over = is_answered and not (asks and self.gate.blocked) and self._passed(started_at)
        if any(isinstance(each, Delivered | Duplicate | Pending) for each in verdicts):
            self.accepted += 1
            return self._heard(now) or is_over
        if retries and not all(each.of_event for each in retries):
            self.silent_since, self._silence = self.silent_since or now, retries[0].reason
        return is_over

    def _heard(self, now: datetime) -> bool:
        """Note that something was taken; return whether that ends a silence in which others may have failed."""
        since, self.silent_since = self.silent_since, None
        self._alarms.over(self.name, "unreachable")
        return since is not None and (now - since).total_seconds() >= SILENCE_S

    def look(self, now: datetime) -> None:
        """Tell of a destination that has taken nothing for too long. Why it refuses us is told elsewhere."""
        if self.silent_since is None or self.gate.blocked:
            return
        silent_s = (now - self.silent_since).total_seconds()
        if silent_s >= self._around.settings.unreachable_after_s:
            self._alarms.wrong(self.name, "unreachable", self._silence)

    def down_s(self, now: datetime) -> float:
        """Return for how long it has refused us or taken nothing; 0 if it has not."""
        blocked_since = self._blocked_since if self.gate.blocked else None
        since = min(filter(None, (blocked_since, self.silent_since)), default=now)
        return (now - since).total_seconds()

    def nothing_waits(self, now: datetime) -> None:
        """Note that there is nothing to try: nobody is silent then, and a good probe is the last word."""
        self.silent_since = None
        self._alarms.over(self.name, "unreachable")
        if self.needs_trial:
            self.needs_trial = False
            self._passed(now)

    def learn_size(self, verdicts: Sequence[Verdict]) -> None:
        """Take from the verdicts on a request how many events the next one may carry."""
        if len(verdicts) > 1 and (
            any(isinstance(each, Split) for each in verdicts)
            or all(isinstance(each, Reject) for each in verdicts)
        ):
            self.size = self.size.too_large(len(verdicts))
        elif any(isinstance(each, Delivered | Duplicate | Pending) for each in verdicts):
            self.size = self.size.taken()

    def learn_probe(self, answer: Answer, now: datetime) -> None:
        """Take from a probe's answer whether we are still refused.

        A good answer only says that an event is worth trying: address and credentials may be well while the
        channel or the index is not, or the disk is full of everything but an empty line.
        """
        verdict = answer.verdicts[0]
        if not isinstance(verdict, Delivered | Duplicate):
            self.refused(verdict if isinstance(verdict, Blocked) else Blocked(reason=self.gate.blocked), now)
        self.needs_trial = not isinstance(verdict, Blocked) and not isinstance(answer.response, Unreached)

    def refused(self, verdict: Blocked, now: datetime) -> None:
        """Stop asking for anything but whether we are still refused."""
        reason = verdict.reason
        if not self.gate.blocked:
            self._blocked_since = now
            _LOG.error(
                "A destination refuses us; everything for it is kept.",
                extra={"event": "destination_blocked", "destination": self.name, "reason": reason},
            )
        self.gate = self.gate.refused(reason, now, self._policy, disabled=verdict.disabled)
        self._around.meter.blocked(self.name, is_blocked=True)
        self._alarms.wrong(self.name, "blocked", reason)

    def put_off(self, now: datetime) -> None:
        """Ask a destination that refuses us again only when it is next due: a probe came to nothing."""
        self.gate = self.gate.refused(self.gate.blocked, now, self._policy, disabled=self.gate.disabled)

    def _passed(self, started_at: datetime) -> bool:
        was_in_trouble = self._is_in_trouble
        self.gate = self.gate.passed(started_at)
        if not was_in_trouble or self._is_in_trouble:
            return False
        _LOG.info(
            "A destination works again.", extra={"event": "destination_recovered", "destination": self.name}
        )
        self._around.meter.blocked(self.name, is_blocked=False)
        self._alarms.over(self.name, "blocked")
        return True

    def _fails_for_all(self, now: datetime) -> bool:
        """Return whether events of several incidents fail and nothing has been taken for a while."""
        silent_s = 0.0 if self.silent_since is None else (now - self.silent_since).total_seconds()
        return len(self.taking.failed) > 1 and silent_s >= SILENCE_S

    @property
    def _is_in_trouble(self) -> bool:
        return self.gate.tripped or self.gate.blocked != ""

    def _failed(
        self,
        answer: Answer,
        retries: Sequence[Retry],
        deliveries: Sequence[Delivery],
        started_at: datetime,
        now: datetime,
    ) -> None:
        shared = [each for each in retries if each.whole_destination]
        is_own = all(each.of_event for each in retries)
        is_unheard = isinstance(answer.response, Unreached) or self._fails_for_all(now)
        is_whole = bool(shared) or (is_unheard and not is_own)
        # One event that fails again and again says nothing about the destination; many that fail at once do.
        if not is_whole and all(each.attempts > 1 for each in deliveries):
            return
        reason, was_tripped = retries[0].reason, self.gate.tripped
        after_s = max((each.after_s for each in shared if each.after_s is not None), default=None)
        self.gate = self.gate.failed(after_s, started_at, now, self._around.jitter(), self._policy)
        if self.gate.tripped and not was_tripped:
            _LOG.warning(
                "A destination fails; it is tried now and then.",
                extra={"event": "destination_unreachable", "destination": self.name, "reason": reason},
            )
