"""Causality: which kinds of alerts come before which others, told from the order in which they began.

Theory. All near pairs of two families make *occasions*: pairs whose times overlap are one, so that a storm counts once
however many alerts it had. An occasion says which of the two families began first. A family *precedes* another where

* they come together more often than chance brings them: the occasions against those of the same history with one of
  the two moved by hours; the lower 95 % bound of the ratio of two Poisson rates (normal in the logarithm) is above 2;
* the order is no chance: how often the one was first against a sum of coins, one per occasion. The coin of an occasion
  shows the family that has n of its N alerts with probability n/N, as it would if they came in any order, and never
  with less than a half, which is what holds where alerts come in bursts. So a family does not come first merely because
  it is loud. The false discovery rate over all pairs that were asked about, in both directions, is bounded after
  Benjamini and Hochberg, Controlling the False Discovery Rate, 1995.

Rules: what returns within `RETURNS_S` does not begin anything and is left out: two alerts that flap for a night would
say one thing all night long. First alerts less than `TIE_S` apart have no order and do not count. Related pairs (one
host, one service, services near each other) and others are counted apart. What is found *precedes*; only topology or a
person makes it a cause: two rules that see one fault with different `for:` come in one order every time, and neither
causes the other.

Decision: counts of occasions rather than a Hawkes process. The process needs a kernel and a day of tuning, its rates
were not stationary on generated storms, and its order ranked roots worse than severity and time did.

Decision: the first alerts of an occasion rather than each alert and its nearest. Where both families come as a burst
the nearest pairs lie in the middle, and their order says little.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bridge.analysis.learning import SHIFTS_S, History
from bridge.analysis.pairs import CALLER_2, CALLER_LATER, SAME, SAME_SERVICE, Ints
from bridge.model import Word

MIN_EVENTS = 5  # occasions with an order
LEAST_LIFT = 2.0
FALSE_DISCOVERIES = 0.01
TIE_S = 1.0
RETURNS_S = 7200.0
NORMAL_95 = 1.96
MAX_EDGES = 2000
MAX_EXACT = 200  # occasions from which on the tail is bounded instead of summed
_SAMPLE = 40  # pairs of an edge that topology is asked about

Times = NDArray[np.float64]


class Precedes(Word, frozen=True, array_like=True):
    """One family comes before another, in the history of one tenant."""

    earlier: str
    later: str
    related: bool  # alerts of one host, one service, or services near each other
    first: int  # occasions in which it came first
    events: int  # occasions with an order
    lag_s: float  # median, from first alert to first alert, where it came first
    lift: float  # occasions, by what chance brings
    lift_low: float  # its lower bound
    p: float
    q: float
    supported: bool  # mostly by topology: one host or service, or the later one calls the earlier


class Causes(Word, frozen=True, kw_only=True):
    """What a fit found: the surest `MAX_EDGES`, and how many directed pairs were asked about."""

    edges: tuple[Precedes, ...] = ()
    asked: int = 0


class Orders:
    """What was found, ready to be asked."""

    def __init__(self, causes: Causes) -> None:
        """Build the table."""
        self._edges = {(edge.earlier, edge.later, edge.related): edge for edge in causes.edges}

    def __len__(self) -> int:
        return len(self._edges)

    def edge(self, earlier: str, later: str, *, related: bool) -> Precedes | None:
        """Return what is known of two families in this order."""
        return self._edges.get((earlier, later, related))


#: Where nothing was learned.
NO_ORDERS = Orders(Causes())


def fit_causes(history: History, *, until: int | None = None) -> Causes:
    """Find which families precede which, in the first `until` sightings of a history.

    Args:
        history: What was seen. A learned chart in it relates services, and supports nothing.
        until: How many sightings may be looked at, from the beginning; None: all.

    Nothing is found in less than `2 * SHIFTS_S[0]` seconds of history. Seconds for some thousands of sightings.
    """
    at_s = history.at_s[:until]
    span_s = float(at_s[-1] - at_s[0]) if len(at_s) else 0.0
    shifts = [shift for shift in SHIFTS_S if shift < span_s / 2]
    if not shifts:
        return Causes()
    near = _pairs_of(history, until, 0.0)
    seen = _counted(near)
    kept = np.sort(np.array([code for code, number in seen.items() if number >= MIN_EVENTS], np.int64))
    chance = dict.fromkeys(kept.tolist(), 0.0)
    for shift in shifts:
        for sign in (1, -1):
            moved = _counted(_pairs_of(history, until, sign * shift).of(kept))
            for code, number in moved.items():
                chance[code] += number * span_s / (span_s - shift)
    found = _Found(history, near.of(kept), looks=2 * len(shifts))
    return found.edges(seen, chance)


class _Pairs(NamedTuple):
    """Near pairs of alerts of two families. A code stands for two families, and whether the two are related."""

    code: Ints
    earlier: Ints  # rows of the history
    later: Ints
    since_s: Times
    until_s: Times

    def of(self, codes: Ints) -> _Pairs:
        """Return those of some codes."""
        mine = np.isin(self.code, codes)
        return _Pairs(
            self.code[mine], self.earlier[mine], self.later[mine], self.since_s[mine], self.until_s[mine]
        )  # fmt: skip


def _pairs_of(history: History, until: int | None, shift_s: float) -> _Pairs:
    earlier, later, lag_s = history.near(0, until, shift_s)
    one, other = history.columns.family[earlier], history.columns.family[later]
    fresh = ~history.columns.returned(RETURNS_S)
    kinds = (one != other) & fresh[earlier] & fresh[later]
    earlier, later, lag_s, one, other = (each[kinds] for each in (earlier, later, lag_s, one, other))
    related = history.columns.related(earlier, later)
    code = (np.minimum(one, other) * len(history.families) + np.maximum(one, other)) * 2 + related
    since_s = history.at_s[earlier]
    order = np.lexsort((since_s, code))
    code, earlier, later, since_s, lag_s = (each[order] for each in (code, earlier, later, since_s, lag_s))
    return _Pairs(code, earlier, later, since_s, since_s + lag_s)


def _starts(pairs: _Pairs) -> NDArray[np.bool_]:
    """Say of each pair whether an occasion begins with it: it overlaps none of its code before."""
    if not len(pairs.code):
        return np.zeros(0, np.bool_)
    different, number = np.unique(pairs.code, return_inverse=True)
    del different
    begin_s = float(pairs.since_s.min())
    apart_s = float(pairs.until_s.max()) - begin_s + 1.0  # so that no pair reaches into the next code
    since, until = (each - begin_s + number * apart_s for each in (pairs.since_s, pairs.until_s))
    starts = np.ones(len(since), np.bool_)
    starts[1:] = since[1:] > np.maximum.accumulate(until)[:-1]
    return starts


def _counted(pairs: _Pairs) -> dict[int, int]:
    """Return how many occasions each code has."""
    codes, numbers = np.unique(pairs.code[_starts(pairs)], return_counts=True)
    return dict(zip(codes.tolist(), numbers.tolist(), strict=True))


class _Occasions(NamedTuple):
    """The occasions of one code, for the family with the smaller number and the other."""

    begun_s: tuple[Times, Times]  # their first alerts
    alerts: tuple[Ints, Ints]  # how many each has


class _Asked(NamedTuple):
    p: float
    code: int
    side: int  # which of the two is first
    first: int
    events: int
    lag_s: float


class _Found:
    """The near pairs that are looked at, and what they say."""

    def __init__(self, history: History, pairs: _Pairs, *, looks: int) -> None:
        self._history = history
        self._pairs = pairs
        self._looks = looks  # times that one of the two was moved

    def edges(self, seen: Mapping[int, int], chance: Mapping[int, float]) -> Causes:
        asked = [each for code, found in self._by_code() for each in _directions(code, found)]
        asked.sort(key=lambda each: (each.p, each.code, each.side))
        found: list[Precedes] = []
        for each, q in zip(asked, adjusted([each.p for each in asked]), strict=True):
            if q >= FALSE_DISCOVERIES or len(found) >= MAX_EDGES:
                break
            lift, low = lift_of(seen[each.code], chance[each.code], self._looks)
            if low > LEAST_LIFT:
                found.append(self._edge(each, q, lift, low))
        return Causes(edges=tuple(found), asked=len(asked))

    def _by_code(self) -> Iterable[tuple[int, _Occasions]]:
        pairs = self._pairs
        if not len(pairs.code):
            return
        small = pairs.code // 2 // len(self._history.families)
        swapped = self._history.columns.family[pairs.earlier] != small
        rows = (
            np.where(swapped, pairs.later, pairs.earlier), np.where(swapped, pairs.earlier, pairs.later)
        )  # fmt: skip
        starts = _starts(pairs)
        begins = np.flatnonzero(starts)
        occasion = np.cumsum(starts) - 1
        firsts = tuple(np.minimum.reduceat(self._history.at_s[each], begins) for each in rows)
        alerts = tuple(self._different(occasion, each) for each in rows)
        codes = pairs.code[begins]
        for code in np.unique(codes).tolist():
            mine = slice(*np.searchsorted(codes, [code, code + 1]).tolist())
            yield code, _Occasions((firsts[0][mine], firsts[1][mine]), (alerts[0][mine], alerts[1][mine]))

    def _different(self, occasion: Ints, rows: Ints) -> Ints:
        """Return how many different rows each occasion has."""
        size = len(self._history.at_s)
        counts: Ints = np.bincount(np.unique(occasion * size + rows) // size)
        return counts

    def _edge(self, asked: _Asked, q: float, lift: float, low: float) -> Precedes:
        size = len(self._history.families)
        both = (asked.code // 2 // size, asked.code // 2 % size)
        earlier, later = both[asked.side], both[1 - asked.side]
        return Precedes(
            earlier=self._history.families[earlier], later=self._history.families[later],
            related=bool(asked.code % 2), first=asked.first, events=asked.events,
            lag_s=round(asked.lag_s, 1), lift=round(lift, 2), lift_low=round(low, 2), p=asked.p, q=q,
            supported=bool(asked.code % 2) and self._supported(asked.code, earlier),
        )  # fmt: skip

    def _supported(self, code: int, earlier: int) -> bool:
        """Say whether most pairs that came in this order are of one host or service, or of a call."""
        pairs, columns = self._pairs, self._history.columns
        mine = np.flatnonzero((pairs.code == code) & (columns.family[pairs.earlier] == earlier))
        mine = mine[:: -(-len(mine) // _SAMPLE) or 1]
        one, other = pairs.earlier[mine], pairs.later[mine]
        service, host = columns.standing(one, other)
        return bool(np.mean(supports(service, host, columns.called(one, other, service))) > 1 / 2)


def supports(service: Ints, host: Ints, called: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Say where topology supports that the earlier alert of a pair causes the later.

    Args:
        service: How the services stand to each other.
        host: How the machines do.
        called: Whether the later one's service is known, not only learned, to call the earlier one's.
    """
    caller = ((service == CALLER_LATER) | (service == CALLER_2)) & called
    found: NDArray[np.bool_] = caller | (service == SAME_SERVICE) | (host == SAME)
    return found


def _directions(code: int, found: _Occasions) -> list[_Asked]:
    """Return both directions of one code, with how likely chance brings such an order."""
    lag_s = found.begun_s[1] - found.begun_s[0]
    told = np.abs(lag_s) >= TIE_S
    events = int(told.sum())
    if events < MIN_EVENTS:
        return []
    share = found.alerts[0][told] / (found.alerts[0][told] + found.alerts[1][told])
    asked = []
    for side, lags, shares in ((0, lag_s[told], share), (1, -lag_s[told], 1.0 - share)):
        first = lags > 0
        p = coins_tail(int(first.sum()), np.maximum(shares, 0.5))
        median_s = float(np.median(lags[first])) if first.any() else 0.0
        asked.append(_Asked(p, code, side, int(first.sum()), events, median_s))
    return asked


def coins_tail(heads: int, chances: NDArray[Any]) -> float:
    """Return the probability of at least so many heads from coins with these chances.

    Above `MAX_EXACT` coins Hoeffding's bound of it (Probability inequalities for sums, 1963).
    """
    mean = float(chances.sum())
    if heads <= mean and heads < len(chances):
        return 1.0  # more than a third in truth, which is the same to whoever asks
    if len(chances) > MAX_EXACT:
        return math.exp(-2.0 * (heads - mean) ** 2 / len(chances))
    mass = np.zeros(len(chances) + 1)
    mass[0] = 1.0
    for chance in chances.tolist():
        mass[1:] = mass[1:] * (1 - chance) + mass[:-1] * chance
        mass[0] *= 1 - chance
    return min(1.0, float(mass[heads:].sum()))


def adjusted(p_values: Sequence[float]) -> list[float]:
    """Return the q-values of ascending p-values: the false discovery rate of a list that ends with each."""
    least, found = 1.0, []
    for rank in range(len(p_values), 0, -1):
        least = min(least, p_values[rank - 1] * len(p_values) / rank)
        found.append(least)
    return found[::-1]


def lift_of(seen: int, chance: float, looks: int) -> tuple[float, float]:
    """Return by how much occasions exceed what chance brings, and the lower 95 % bound.

    Args:
        seen: Occasions there were, at least one.
        chance: Those with one family moved, summed over `looks` moves.
        looks: How often it was moved.
    """
    expected = chance + 0.5
    lift = seen * looks / expected
    return lift, lift * math.exp(-NORMAL_95 * math.sqrt(1 / seen + 1 / expected))
