"""Bursts: grouping by time alone, and the stretches of a history in which one thing happened by itself.

Theory: where alerts keep coming, a new incident shows as a *surge*: many more in some seconds than the minute before
would lead one to expect. From there on alerts belong to the new incident, which brings most of them, until the next
surge; a silence ends one, too. Expectation is Poisson.

An *isolated* burst is a run of alerts with silence around it in its cluster. Whatever caused it, it was alone, so it
is one incident without anybody having said so: the gate (`analysis.gate`) grades with those.

Rules: nothing here looks at what an alert is about, but for its cluster.

Decision: a surge by a test of counts rather than a gap or a window of fixed length alone. Gaps that are right for a
quiet tenant never come in a busy one, and windows are right when incidents start at their edges. The constants were
chosen on the first halves of two recorded streams, the silence on these and on generated worlds that no figure is
reported of; from 90 to 180 s it makes no difference.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

AREA_LABEL = "cluster"  # what happens in one is no surge in another
SILENCE_S = 120.0  # so long nothing came: what comes then is something else
SURGE_S = 10.0  # so long a surge is looked for
BEFORE_S = 60.0  # before that so long it is what is usual
LEAST_SURGE = 4  # alerts
SURGE_FACTOR = 2.0  # times what is expected
SURPRISE = 1e-5  # probability of so many by chance
#: Two surges in a shorter time are one.
SURGE_REST_S = 90.0
#: What is expected of a silent minute, alerts.
LEAST_USUAL = 0.5

#: Silence around an isolated burst, and within one at most, s.
ALONE_S, TOGETHER_S = 180.0, 120.0
LEAST_BURST, MOST_BURST = 6, 400  # different alerts


def is_surge(recent: int, before: int) -> bool:
    """Say whether `recent` alerts in `SURGE_S` are many more than `before` in the `BEFORE_S` before that promise."""
    expected = max(before, LEAST_USUAL) / BEFORE_S * SURGE_S
    return recent >= max(LEAST_SURGE, SURGE_FACTOR * expected) and _chance(recent, expected) < SURPRISE


def _chance(count: int, expected: float) -> float:
    """Return P(X >= count) of a Poisson count, or a bound of it that is below `SURPRISE`; `count` > `expected`.

    The bound is Chernoff's. Without it a large count costs as many steps, and nothing is left of exp(-expected).
    """
    bound = math.exp(count - expected - count * math.log(count / expected))
    if bound < SURPRISE:
        return bound
    term, below = math.exp(-expected), 0.0
    for number in range(count):
        below += term
        term *= expected / (number + 1)
    return max(0.0, 1.0 - below) if below < 1.0 - 1e-9 else term * (1 + expected / (count + 1))


def surges(at_s: Sequence[float]) -> list[int]:
    """Return the number of the incident of each alert; `at_s` are in order.

    As it would be done live: a surge is seen when it is there, and what came in the last `SURGE_S` goes with it.
    """
    numbers: list[int] = []
    opened_s = -math.inf
    for place, now_s in enumerate(at_s):
        current = numbers[-1] if numbers else -1
        if not numbers or now_s - at_s[place - 1] > SILENCE_S:
            numbers.append(current + 1)
            opened_s = now_s
            continue
        first = bisect_left(at_s, now_s - SURGE_S, 0, place)
        before = first - bisect_left(at_s, now_s - SURGE_S - BEFORE_S, 0, first)
        if now_s - opened_s >= SURGE_REST_S and is_surge(place + 1 - first, before):
            numbers[first:] = [current + 1] * (place - first)
            numbers.append(current + 1)
            opened_s = now_s
        else:
            numbers.append(current)
    return numbers


def surges_by_area(at_s: Sequence[float], areas: Sequence[str]) -> list[tuple[str, int]]:
    """Return the area and its number of the incident of each alert: a surge in one cluster is none in another."""
    found: list[tuple[str, int]] = [("", 0)] * len(at_s)
    for area in sorted(set(areas)):
        mine = [place for place, other in enumerate(areas) if other == area]
        for place, number in zip(mine, surges([at_s[each] for each in mine]), strict=True):
            found[place] = (area, number)
    return found


def isolated(at_s: Sequence[float], areas: Sequence[str], things: Sequence[str]) -> list[list[int]]:
    """Return the isolated bursts of a history, as places in it; times are in order.

    Args:
        at_s: When each alert began.
        areas: In which cluster; those without one are in all.
        things: What it is: an alert that returns counts once, and alone it is no burst.
    """
    found: list[list[int]] = []
    for area in sorted(set(areas)):
        mine = [place for place, other in enumerate(areas) if other == area]
        start = 0
        for end in range(1, len(mine) + 1):
            if end < len(mine) and at_s[mine[end]] - at_s[mine[end - 1]] <= ALONE_S:
                continue
            run = mine[start:end]
            if _is_burst([at_s[place] for place in run], [things[place] for place in run]):
                found.append(run)
            start = end
    return sorted(found)


def _is_burst(at_s: Sequence[float], things: Sequence[str]) -> bool:
    gaps = [later - earlier for earlier, later in pairwise(at_s)]
    return LEAST_BURST <= len(set(things)) <= MOST_BURST and max(gaps, default=math.inf) <= TOGETHER_S
