"""Precedence: which service's alerts come before which other's, learned from the order in which they start.

Theory: an onset is the first alert of a service after `QUIET_S` without any, so that a storm counts once. Where one
service's onset is followed by another's within `LAG_S`, the pair is counted in that order. Two exact one-sided binomial
tests must both hold: the order against its opposite (a fair coin), and the count against that of the same pair with
`SHIFT_S` between, which is what chance brings. Over all pairs that were seen often enough the false discovery rate is
bounded after Benjamini and Hochberg, Controlling the False Discovery Rate, 1995; the worse of two p-values is one
itself (Berger, Multiparameter hypothesis testing and acceptance sampling, 1982).

What is learned is that one *precedes* the other, never that it is called by it or the cause: both may follow a third.

Decision: the time an alert started, not the time it was heard: Alertmanager holds back what joins a group for minutes.
A start that is older than `LAG_S` when it is heard counts as `LAG_S` old, so that a wrong clock does little harm.

Decision: a table that is cut to the half that was seen most once it is full, rather than the space-saving algorithm.
That one hands the count of what it drops to what takes its place, and so makes evidence that nobody saw.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from typing import NamedTuple

from bridge.analysis.topology import Call, Chart, Service
from bridge.model import Word

LAG_S = 300.0
QUIET_S = 1800.0
SHIFT_S = 1800.0
#: An onset is of use until another can be `SHIFT_S` and `LAG_S` later.
KEPT_S = SHIFT_S + 2 * LAG_S
MAX_ONSETS = 64  # a storm of more services counts no further: what chance brings would be forgotten
MAX_BESIDE = 8  # onsets that one is counted with: those nearest in time
HEARD_EVERY_S = 60.0  # how exactly it is known when a service was heard last
MAX_ORDERS = 4096  # pairs
MIN_SEEN = 6  # times a pair must have been seen, in either order, to be judged
FALSE_DISCOVERIES = 0.01
LEARN_EVERY_S = 3600.0
HALVE_EVERY_DAYS = 30
MAX_EXACT = 200  # observations from which on the tail is bounded instead of summed
LONGEST = 200  # letters of a service
BETWEEN = "\x1f"
_LAG_MS, _SHIFT_MS = int(LAG_S * 1000), int(SHIFT_S * 1000)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Pair = tuple[str, str]  # who came first, who followed


class Onset(Word, frozen=True, array_like=True):
    """A service's first alert after quiet."""

    service: str  # `key_of`
    at_ms: int  # since the epoch; datetimes would cost ten times as much
    heard_ms: int  # its newest alert, to `HEARD_EVERY_S`


class Order(Word, frozen=True, kw_only=True):
    """How often one service's onset was followed by another's."""

    near: int = 0  # within `LAG_S`
    apart: int = 0  # the same, `SHIFT_S` later: what chance brings


class Heard(NamedTuple):
    """What an alert changes."""

    onsets: tuple[Onset, ...]
    near: tuple[Pair, ...] = ()
    apart: tuple[Pair, ...] = ()


def key_of(service: Service) -> str | None:
    """Return what a service is counted by; None for a name that no table should hold."""
    parts = (service.cluster, service.namespace, service.name)
    whole = BETWEEN.join(parts)
    return whole if whole.count(BETWEEN) == len(parts) - 1 and len(whole) <= LONGEST else None


def hear(onsets: tuple[Onset, ...], service: str, starts_at: datetime, now: datetime) -> Heard | None:
    """Return what an alert of `service` that opens now changes; None where it changes nothing.

    Args:
        onsets: Those of late, in order of their hearing.
        service: What it is about, `key_of`.
        starts_at: When it began to fire, by its sender's clock.
        now: When it was heard.

    Costs a few microseconds, an onset up to 70.
    """
    now_ms = _ms(now)
    mine = next((onset for onset in reversed(onsets) if onset.service == service), None)
    if mine is not None and now_ms - mine.heard_ms < QUIET_S * 1000:
        if now_ms - mine.heard_ms < HEARD_EVERY_S * 1000:
            return None
        going_on = Onset(service, mine.at_ms, now_ms)
        return Heard(tuple([going_on if onset is mine else onset for onset in onsets]))
    at_ms = min(max(_ms(starts_at), now_ms - _LAG_MS), now_ms)
    near: list[tuple[int, str, Pair]] = []
    apart: list[tuple[int, str, Pair]] = []
    for onset in onsets:
        other, lag_ms = onset.service, at_ms - onset.at_ms
        if _SHIFT_MS < lag_ms <= _SHIFT_MS + _LAG_MS:
            apart.append((lag_ms, other, (other, service)))
        elif -_LAG_MS <= lag_ms <= _LAG_MS and lag_ms and other != service:
            near.append((abs(lag_ms), other, (other, service) if lag_ms > 0 else (service, other)))
    if len(onsets) >= MAX_ONSETS and onsets[0].at_ms > at_ms - _SHIFT_MS - _LAG_MS:
        near = []  # too much begins at once for chance to be known
    since_ms = now_ms - KEPT_S * 1000
    kept = [onset for onset in onsets[-MAX_ONSETS + 1 :] if onset.heard_ms >= since_ms]
    return Heard((*kept, Onset(service, at_ms, now_ms)), _nearest(near), _nearest(apart))


def _nearest(found: list[tuple[int, str, Pair]]) -> tuple[Pair, ...]:
    return tuple([pair for _, _, pair in sorted(found)[:MAX_BESIDE] if pair[0] != pair[1]])


def _ms(at: datetime) -> int:
    elapsed = at - _EPOCH
    return elapsed.days * 86_400_000 + elapsed.seconds * 1000 + elapsed.microseconds // 1000


def surplus(orders: Mapping[Pair, Order]) -> list[Pair]:
    """Return the pairs to forget: none until the table is full, then all but the half that was seen most."""
    if len(orders) <= MAX_ORDERS:
        return []
    ranked = sorted([(-order.near, -order.apart, pair) for pair, order in orders.items()])
    return [pair for _, _, pair in ranked[MAX_ORDERS // 2 :]]


def halved(order: Order) -> Order | None:
    """Return what is left of a count after its half-life, None if that is nothing."""
    left = Order(near=order.near // 2, apart=order.apart // 2)
    return left if left != Order() else None


def learned(orders: Mapping[Pair, Order]) -> Chart:
    """Return which services precede which, as far as there is evidence. Costs up to 0.1 s for a full table."""
    none = Order()
    judged: list[tuple[float, Pair, int, int]] = []
    tested = 0
    for pair, order in orders.items():
        both = order.near + orders.get((pair[1], pair[0]), none).near
        if both < MIN_SEEN:
            continue
        tested += 1 + ((pair[1], pair[0]) not in orders)  # the other direction is asked about as well
        if order.near * 2 > both:
            chance = max(coin_tail(order.near, both), coin_tail(order.near, order.near + order.apart))
            judged.append((chance, pair, order.near, both))
    judged.sort(key=itemgetter(0, 1))
    passed = 0
    for rank, (chance, *_) in enumerate(judged, 1):
        if chance <= FALSE_DISCOVERIES * rank / tested:
            passed = rank
    return _chart(judged[:passed])


def coin_tail(heads: int, tosses: int) -> float:
    """Return the probability of at least so many heads; above `MAX_EXACT` tosses Hoeffding's bound of it."""
    if tosses > MAX_EXACT:
        beyond = max(0.0, heads - tosses / 2)
        return math.exp(-2.0 * beyond * beyond / tosses)
    return math.ldexp(float(sum(math.comb(tosses, count) for count in range(heads, tosses + 1))), -tosses)


def _chart(found: Sequence[tuple[float, Pair, int, int]]) -> Chart:
    names = {key: number for number, key in enumerate(sorted({key for _, pair, *_ in found for key in pair}))}
    calls = [
        Call(names[follower], names[first], f"first in {near} of {both}, p{_said(chance)}")
        for chance, (first, follower), near, both in found
    ]
    return Chart(origin="learned", services=tuple(map(_service, names)), calls=tuple(calls))


def _said(chance: float) -> str:
    return f"={chance:.3f}" if chance >= 0.001 else "<0.001"  # noqa: PLR2004 - three digits


def _service(key: str) -> Service:
    cluster, namespace, name = key.split(BETWEEN)
    return Service(cluster=cluster, namespace=namespace, name=name)
