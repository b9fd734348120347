"""The deliveries of one incident to one destination: which goes next, and which a newer state has replaced.

Rules: order is the incident's own (`seq`). An event is not sent while an older one is under way. Where the
destination takes the newest state, a state that was not told yet gives way to a newer one, except between the
calls of one event: what was begun is finished, unless the rest of it is refused although the destination takes
others (one full mailbox of twenty). A due older event is not put off by a newer one that still
waits; it is the newer one that goes at once. A pager is not told of what was over before it could be told.

Theory: `Told` remembers the newest event the destination has. It decides both "was anyone told of this at
all?" and "would this old state overwrite a newer one?", also when the deliveries were deleted long ago.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

from msgspec.structs import replace

from bridge.delivery.steps import Policy, move, overdue
from bridge.model import Delivered, Delivery, DeliveryState, Duplicate, EventKind, Retry, Verdict, Word
from bridge.ports import Caps, Memory

#: After these nothing is left to be told of what was before.
ENDS = frozenset({EventKind.CLOSED, EventKind.MERGED})
#: After these nobody has to be woken any more: a page that did not go yet does not go, even where the
#: destination has no use for the event itself (there is nothing there that it could resolve).
QUIETING = ENDS | {EventKind.ACKNOWLEDGED}

NOT_WANTED = "not for this destination"
REPLACED = "a newer state of the incident went instead"
TOLD_NEWER = "the destination already has a newer state of the incident"
OVER_UNSEEN = "it was over before anyone could be told"


class LineKey(NamedTuple):
    """The incident whose events stand in one line at a destination."""

    tenant: str
    incident: str


class Told(Word, frozen=True, kw_only=True):
    """The newest event that a destination has of one incident. `maybe`: a later one may have arrived too."""

    seq: int = 0
    kind: EventKind | None = None
    maybe: bool = False


class Line(Word, frozen=True, kw_only=True):
    """What waits of one incident at one destination, in order of `seq`, and what was told before."""

    key: LineKey
    waiting: tuple[Delivery, ...]
    told: Told = Told()
    memory: Memory | None = None


class Coalesced(Word, frozen=True, kw_only=True):
    """What to send now, oldest first, and what needs no request any more, already in its final state.

    `told` is what counts as told once `settled` is committed, None if that changes nothing: an end that needed
    no request is an end all the same, and what was before it must not be told when a person retries it.
    """

    send: tuple[Delivery, ...] = ()
    settled: tuple[Delivery, ...] = ()
    told: Told | None = None


def coalesce(
    line: Line,
    caps: Caps,
    wanted: Callable[[Delivery], bool],
    now: datetime,
    policy: Policy,
    *,
    at_most: int = 1,
    has_room: Callable[[], bool] = lambda: True,
) -> Coalesced:
    """Return which deliveries of a line go next.

    Args:
        line: One that is due.
        caps: Of the destination.
        wanted: Whether the connector needs a request for it. Asked as rarely as possible, since it costs the
            event's decoding: newest first where only the newest state goes.
        now: The time.
        policy: Its retry horizon is looked at before anything is sent.
        at_most: How many events of one incident may go together; more than one only where `caps.atomic`.
        has_room: Whether another may follow the first; asked before each, since `wanted` reads its event.

    Returns:
        Nothing to send if nothing of the line is wanted, or if its first event awaits an acknowledgement.
    """
    if not line.waiting or line.waiting[0].state is DeliveryState.PENDING:
        return Coalesced()
    # What was begun is finished, unless a dead letter that a person sent off again is older than what was told.
    if line.waiting[0].step and (caps.mode == "every" or line.waiting[0].seq >= line.told.seq):
        return _begun(line, caps, wanted, now, policy)
    if caps.mode == "newest":
        return _newest(line, caps, wanted, now, policy)
    return _every(line, wanted, now, policy, at_most if caps.atomic else 1, has_room)


def told_after(told: Told, before: Delivery, after: Delivery, verdict: Verdict) -> Told:
    """Return what is told once `verdict` has made `after` of `before`."""
    if isinstance(verdict, Delivered | Duplicate):
        return Told(seq=before.seq, kind=before.kind) if before.seq >= told.seq else told
    if after.state is DeliveryState.PENDING or (isinstance(verdict, Retry) and after.maybe_duplicate):
        return replace(told, maybe=True)
    return told


def _begun(
    line: Line, caps: Caps, wanted: Callable[[Delivery], bool], now: datetime, policy: Policy
) -> Coalesced:
    begun, *later = line.waiting
    if caps.mode == "newest" and begun.refusals:
        instead = _newest(replace(line, waiting=tuple(later)), caps, wanted, now, policy)
        if instead.send:
            return replace(instead, settled=(_superseded(begun, REPLACED), *instead.settled))
    return Coalesced(send=(begun,))


def _every(
    line: Line,
    wanted: Callable[[Delivery], bool],
    now: datetime,
    policy: Policy,
    at_most: int,
    has_room: Callable[[], bool],
) -> Coalesced:
    send: list[Delivery] = []
    settled: list[Delivery] = []
    for delivery in line.waiting:
        if len(send) == at_most or delivery.state is not DeliveryState.WAITING or (send and not has_room()):
            break
        ended = overdue(delivery, now, policy)
        if ended is None and not wanted(delivery):
            ended = _unwanted(delivery, now)
        if ended is None:
            send.append(delivery)
        elif send:
            break  # what comes after an unsent event stays as it is
        else:
            settled.append(ended)
    return Coalesced(send=tuple(send), settled=tuple(settled))


def _newest(
    line: Line, caps: Caps, wanted: Callable[[Delivery], bool], now: datetime, policy: Policy
) -> Coalesced:
    settled = [_superseded(each, TOLD_NEWER) for each in line.waiting if each.seq <= line.told.seq]
    fresh = [each for each in line.waiting if each.seq > line.told.seq]
    while fresh:
        newest = fresh.pop()
        given_up = overdue(newest, now, policy)
        if given_up is not None:
            settled.append(given_up)
            continue
        is_wanted = wanted(newest)
        quiets = caps.pages and newest.kind in QUIETING
        if not is_wanted and not quiets:
            settled.append(_unwanted(newest, now))
            continue
        if quiets and not line.told.maybe and (not is_wanted or _never_told(line.told)):
            settled.append(_superseded(newest, OVER_UNSEEN) if is_wanted else _unwanted(newest, now))
            settled += [_superseded(each, OVER_UNSEEN) for each in fresh]
            told = Told(seq=newest.seq, kind=newest.kind) if newest.kind in ENDS else None
            return Coalesced(settled=_in_order(settled), told=told)
        settled += [_superseded(each, REPLACED) for each in fresh]
        return Coalesced(send=(newest,), settled=_in_order(settled))
    return Coalesced(settled=_in_order(settled))


def _never_told(told: Told) -> bool:
    """Return whether the destination certainly knows of nothing that would have to be ended."""
    return not told.maybe and (told.kind is None or told.kind in ENDS)


def _unwanted(delivery: Delivery, now: datetime) -> Delivery:
    return move(delivery, DeliveryState.DELIVERED, reason=NOT_WANTED, delivered_at=now)


def _superseded(delivery: Delivery, reason: str) -> Delivery:
    return move(delivery, DeliveryState.SUPERSEDED, reason=reason)


def _in_order(settled: Sequence[Delivery]) -> tuple[Delivery, ...]:
    return tuple(sorted(settled, key=lambda each: each.seq))
