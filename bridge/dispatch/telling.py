"""What is logged and counted about an attempt: one line each, and its events by result."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence

from bridge.delivery import GivenUp, Settlement
from bridge.dispatch.sending import Answer
from bridge.dispatch.surroundings import DispatchMeter
from bridge.errors import StorageError
from bridge.model import Blocked, Delivery, DeliveryState, Duplicate, Split, Verdict

_LOG = logging.getLogger(__name__)


class Telling:
    """Logs and counts for one destination."""

    def __init__(self, name: str, meter: DispatchMeter) -> None:
        self._name = name
        self._meter = meter

    def attempted(
        self, before: Sequence[Delivery], settlement: Settlement, answer: Answer, took_s: float
    ) -> None:
        """Tell of an attempt. That nothing has changed since the last one is told at DEBUG only."""
        after = settlement.deliveries
        results = Counter(map(_result, answer.verdicts, after))
        self._meter.attempted(self._name, took_s)
        self._count(results)
        reasons = [new.reason for old, new in zip(before, after, strict=True) if new.reason != old.reason]
        is_news = any(reasons) or not (results["retry"] or results["pending"])
        level = logging.ERROR if results["dead"] else logging.INFO if is_news else logging.DEBUG
        _LOG.log(
            level,
            "%s",
            _sentence(self._name, results),
            extra={
                "event": "delivery_attempt",
                "stage": "sending",
                "destination": self._name,
                "results": dict(results),
                "first": before[0].event_id,
                "took_s": round(took_s, 4),
                "reason": next(filter(None, reasons), ""),
            },
        )

    def settled(self, deliveries: Iterable[Delivery]) -> None:
        """Tell of deliveries that ended without a request."""
        deliveries = list(deliveries)
        self._count(Counter(map(_settled_as, deliveries)))
        for delivery in deliveries:
            if delivery.state is DeliveryState.DEAD:
                _LOG.error(
                    "A delivery was given up.",
                    extra={
                        "event": "delivery_dead",
                        "destination": self._name,
                        "first": delivery.event_id,
                        "reason": delivery.reason,
                    },
                )

    def given_up(self, given_up: GivenUp, reason: str) -> None:
        """Tell of events that were given up to make room, all in one line."""
        if given_up.events:
            self._count(Counter({"dead": given_up.events}))
            _LOG.error(
                "Waiting events were given up to make room.",
                extra={
                    "event": "delivery_dead", "destination": self._name, "count": given_up.events,
                    "reason": reason,
                },
            )  # fmt: skip
        if given_up.lost:
            _LOG.error(
                "Dead letters were dropped to make room.",
                extra={"event": "dead_letters_lost", "destination": self._name, "count": given_up.lost},
            )

    def store_failed(self, error: StorageError) -> None:
        """Tell that the store failed."""
        _LOG.error(
            "The delivery store failed; it is tried again.",
            extra={"event": "dispatch_storage", "destination": self._name, "reason": str(error)},
        )

    def bug(self, message: str) -> None:
        """Tell of an exception that nobody expected, with its traceback."""
        _LOG.exception(message, extra={"event": "dispatch_bug", "destination": self._name})

    def _count(self, results: Counter[str]) -> None:
        for result, events in results.items():
            self._meter.counted(self._name, result, events)


#: What is said of events by their result.
_SAID = {
    "duplicate": "known there already",
    "continued": "half told",
    "pending": "not acknowledged yet",
    "retry": "to be tried again",
    "split": "to be sent in smaller parts",
    "blocked": "refused for now and kept",
    "dead": "given up",
}


def _sentence(name: str, results: Counter[str]) -> str:
    """Return what came of an attempt, such as "Delivered 2 events to siem"."""
    events = f"{results.total()} event{'' if results.total() == 1 else 's'}"
    if set(results) == {"delivered"}:
        return f"Delivered {events} to {name}."
    told = ", ".join(f"{number} {_SAID.get(result, result)}" for result, number in results.items())
    return f"Tried to send {events} to {name}: {told}."


def _settled_as(delivery: Delivery) -> str:
    return "not_wanted" if delivery.state is DeliveryState.DELIVERED else delivery.state.value


def _result(verdict: Verdict, after: Delivery) -> str:
    if isinstance(verdict, Duplicate):
        return "duplicate"
    if after.state is not DeliveryState.WAITING:
        return after.state.value
    if isinstance(verdict, Split | Blocked):
        return type(verdict).__name__.lower()
    return "retry" if after.reason else "continued"
