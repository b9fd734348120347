"""From the verdicts on one request to everything that is committed about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec.structs import replace

from bridge.delivery.coalescing import LineKey, Told, told_after
from bridge.delivery.steps import Policy, next_step
from bridge.delivery.work import LineChange, Settlement
from bridge.model import Delivered, Delivery, DeliveryState, Pending, Reject, Retry, Split, Verdict
from bridge.ports import Memory

#: Below this a destination promises nothing about what is left of an event.
SMALLEST_BYTES = 2048


def settle(
    request: int,
    deliveries: Sequence[Delivery],
    told: Mapping[LineKey, Told],
    verdicts: Sequence[Verdict],
    now: datetime,
    jitter: float,
    policy: Policy,
    *,
    size_bytes: int = 0,
) -> Settlement:
    """Return what becomes of a request of `size_bytes` and its deliveries, at least one, all of one destination.

    A batch whose every event is retried goes again as it was, at the latest of their times. A batch that was
    refused whole is taken apart first: one bad event must not take the others with it. An event that is too
    large by itself is made anew at half the size, until it is `SMALLEST_BYTES`; then it is given up.

    What a blocked destination refused is rendered anew the next time, under the same event ids: nothing of it
    was accepted, and the reason may stand in its bytes (a channel, an index), which only a corrected
    configuration can change.
    """
    verdicts = _taken_apart(verdicts, size_bytes)
    after = [
        next_step(delivery, verdict, now, jitter, policy)
        for delivery, verdict in zip(deliveries, verdicts, strict=True)
    ]
    if len(after) == 1 and isinstance(verdicts[0], Split):
        after = [replace(after[0], fit_bytes=size_bytes // 2)]
    asked = [each.next_at for each in after if each.state is DeliveryState.PENDING]
    keep_until = min(asked, default=None)
    if _goes_again(after, verdicts):
        keep_until = max(each.next_at for each in after)
        after = [replace(each, next_at=keep_until) for each in after]
    return Settlement(
        destination=deliveries[0].destination,
        request=request,
        deliveries=tuple(after),
        lines=_line_changes(deliveries, after, told, verdicts),
        keep_until=keep_until,
    )


def _taken_apart(verdicts: Sequence[Verdict], size_bytes: int) -> Sequence[Verdict]:
    if len(verdicts) == 1:
        only = verdicts[0]
        is_small = size_bytes // 2 < SMALLEST_BYTES
        return [Reject(reason=only.reason)] if isinstance(only, Split) and is_small else verdicts
    if all(isinstance(each, Reject) for each in verdicts):
        return [Split(reason=each.reason) for each in verdicts if isinstance(each, Reject)]
    return verdicts


def _goes_again(after: Sequence[Delivery], verdicts: Sequence[Verdict]) -> bool:
    """Return whether the same bytes are sent again."""
    return all(isinstance(each, Retry | Pending) for each in verdicts) and all(
        each.state is DeliveryState.WAITING for each in after
    )


def _line_changes(
    before: Sequence[Delivery],
    after: Sequence[Delivery],
    told: Mapping[LineKey, Told],
    verdicts: Sequence[Verdict],
) -> tuple[LineChange, ...]:
    known = dict(told)
    memories: dict[LineKey, Memory] = {}
    for old, new, verdict in zip(before, after, verdicts, strict=True):
        key = LineKey(old.tenant, old.incident)
        known[key] = told_after(known.get(key, Told()), old, new, verdict)
        if isinstance(verdict, Delivered) and verdict.memory is not None:
            memories[key] = verdict.memory
    return tuple(
        LineChange(key=key, told=value, memory=memories.get(key))
        for key, value in known.items()
        if key in memories or value != told.get(key)
    )
