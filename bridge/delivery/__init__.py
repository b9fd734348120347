"""How an event reaches a destination: the legal moves, what follows a verdict, what a newer state replaces.

Rules: pure; the time and the luck of the draw are arguments, every value is frozen, and what a value becomes
is a new value. `steps` is about one delivery, `coalescing` about the deliveries of one incident, `settling` about
one request, `flow` about one whole destination, `bounds` about all that waits; `work` holds what store and
dispatcher hand each other. Nothing is waited for here: a wait is a `next_at` or a `resume_at` in the future.

Decision: a delivery's state lives in the store and not in an object of a worker, so that a process that is
killed between any two lines loses nothing but time.
"""

from __future__ import annotations

from bridge.delivery.bounds import may_wait, shed_of
from bridge.delivery.coalescing import Coalesced, Line, LineKey, Told, coalesce, told_after
from bridge.delivery.flow import BatchSize, Concurrency, Gate, Taking
from bridge.delivery.settling import settle
from bridge.delivery.steps import (
    FINAL,
    MOVES,
    OPEN,
    Policy,
    dropped,
    move,
    next_step,
    overdue,
    retried,
    unanswered,
)
from bridge.delivery.work import (
    Backlog,
    Claim,
    Diverted,
    Due,
    Fallback,
    Frozen,
    GivenUp,
    LineChange,
    OutboxPlace,
    OutboxRow,
    Retention,
    Room,
    Settlement,
    Stuck,
    Tidied,
)

__all__ = [
    "FINAL",
    "MOVES",
    "OPEN",
    "Backlog",
    "BatchSize",
    "Claim",
    "Coalesced",
    "Concurrency",
    "Diverted",
    "Due",
    "Fallback",
    "Frozen",
    "Gate",
    "GivenUp",
    "Line",
    "LineChange",
    "LineKey",
    "OutboxPlace",
    "OutboxRow",
    "Policy",
    "Retention",
    "Room",
    "Settlement",
    "Stuck",
    "Taking",
    "Tidied",
    "Told",
    "coalesce",
    "dropped",
    "may_wait",
    "move",
    "next_step",
    "overdue",
    "retried",
    "settle",
    "shed_of",
    "told_after",
    "unanswered",
]
