"""Counting: how many firings of something in a window of time, and how rare so many are.

Theory: firings come in clumps (a host takes ten alerts with it), so a window's count is taken for a Poisson number of
clumps. How large a clump is, is the variance of the counts over their mean (quasi-Poisson; McCullagh and Nelder,
Generalized Linear Models, 2nd edition, section 6.2), drawn towards what it is for others of its sort while little is
known. The rate of clumps has a Gamma posterior, so that the tail is negative binomial (`statistics.gamma_poisson_tail`)
and little history makes for a modest surprise.

Rules: a window is [k w, (k+1) w) since the epoch, and its count so far is asked about while it runs: the last answer is
the strangest, so that asking again costs no false alarm. Windows in which nothing fired are not visited: how many there
were follows from the time, and all fades with a half-life of two weeks. A window that was strange teaches no more than
the most that is usual, so that a storm does not become normal at once, and what lasts does.

Decision: closed forms that are touched only where something fires, rather than a detector that wants a value of each
series at each tick. A tenant has thousands of rules and services, and next to all of them are silent next to always;
the cost of time passing must be that of what happens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime

from msgspec.structs import replace

from bridge.analysis.statistics import decay, gamma_poisson_tail
from bridge.model import Word

HALF_LIFE_S = 14 * 86_400.0
#: Windows that must have passed before anything is said.
LEAST_WINDOWS = 7.0
PRIOR_SHAPE = 0.5  # Jeffreys' prior of a Poisson rate
#: Firings of others of its sort that a clump's size is drawn towards.
CLUMP_WEIGHT = 4.0
#: Firings and their square sum that a sort begins with: clumps of three.
FIRST_CLUMPS = (5.0, 15.0)
#: What is known of a sort's clumps is halved beyond so many firings: it follows the tenant.
MOST_CLUMPED = 2_000.0
#: A strange window teaches this many deviations above the mean at most.
USUAL_DEVIATIONS = 6.0
#: Clumps that are told apart; more of them are taken for larger ones, which errs towards silence.
MOST_CLUMPS = 1_000


class Tally(Word, frozen=True, array_like=True):
    """Firings of one thing in windows of one length."""

    window: int = -1  # the newest in which something fired, epoch s // length
    current: int = 0  # firings in it
    total: float = 0.0  # of the windows before, faded
    squares: float = 0.0  # the same of their squares


class Counted(Word, frozen=True, kw_only=True):
    """What is known of one thing whose firings are counted."""

    since: datetime  # from when on it is known when nothing fired
    busy_at: datetime  # beginning of the last tick in which something did
    tallies: tuple[Tally, ...]  # one per length of window


class Clumps(Word, frozen=True, array_like=True):
    """How large clumps are, over all things of one sort: per length of window firings, and squares of counts."""

    totals: tuple[float, ...]
    squares: tuple[float, ...]


class Finding(Word, frozen=True, kw_only=True):
    """How rare a count is."""

    window_s: float
    count: int
    usual: float  # mean count of a window
    tail: float  # P(at least so many)


def first_clumps(windows: int) -> Clumps:
    """Return what is believed of a sort of which nothing was seen, for so many lengths of window."""
    return Clumps(totals=(FIRST_CLUMPS[0],) * windows, squares=(FIRST_CLUMPS[1],) * windows)


def counted(
    known: Counted, number: int, at: datetime, windows_s: Sequence[float], clumps: Clumps
) -> tuple[Counted, Clumps]:
    """Return what is known after `number` more firings in the tick that began at `at`; times do not go back.

    What windows that are over teach of the size of clumps goes into the second.
    """
    tallies, totals, squares = [], list(clumps.totals), list(clumps.squares)
    for place, window_s in enumerate(windows_s):
        tally, window = known.tallies[place], int(at.timestamp() // window_s)
        if window == tally.window:
            tallies.append(replace(tally, current=tally.current + number))
            continue
        learned = _usual_at_most(known, tally, window_s, clumps, place)
        fade = decay(1.0, (at - known.busy_at).total_seconds(), HALF_LIFE_S)
        tallies.append(
            Tally(
                window=window, current=number, total=(tally.total + learned) * fade,
                squares=(tally.squares + learned * learned) * fade,
            )
        )  # fmt: skip
        totals[place] += learned
        squares[place] += learned * learned
        if totals[place] > MOST_CLUMPED:
            totals[place], squares[place] = totals[place] / 2.0, squares[place] / 2.0
    return (
        replace(known, busy_at=at, tallies=tuple(tallies)),
        Clumps(totals=tuple(totals), squares=tuple(squares)),
    )


def findings(
    known: Counted, at: datetime, windows_s: Sequence[float], clumps: Clumps, *, season: float
) -> list[Finding]:
    """Return how rare the counts of the windows are in which the tick lies that began at `at`.

    `season` is how busy this hour is, 1 on average; it counts for windows of up to an hour. Nothing is said of windows
    of which fewer than `LEAST_WINDOWS` have passed.
    """
    found = []
    for place, window_s in enumerate(windows_s):
        tally = known.tallies[place]
        windows = _windows(known, at, window_s)
        if windows < LEAST_WINDOWS or not tally.current:
            continue
        size = max(_clump(tally, windows, clumps, place), tally.current / MOST_CLUMPS)
        factor = season if window_s <= 3600.0 else 1.0  # noqa: PLR2004 - an hour
        tail = gamma_poisson_tail(
            max(1, int(tally.current / size + 1e-9)), shape=PRIOR_SHAPE + tally.total / size,
            exposure=windows + 1.0, span=factor,
        )  # fmt: skip
        found.append(
            Finding(window_s=window_s, count=tally.current, usual=tally.total / windows * factor, tail=tail)
        )
    return found


def _windows(known: Counted, at: datetime, window_s: float) -> float:
    """Return how many windows have passed, faded as counts are."""
    watched_s = max(0.0, (at - known.since).total_seconds())
    faded_s = HALF_LIFE_S / math.log(2.0) * (1.0 - decay(1.0, watched_s, HALF_LIFE_S))
    return faded_s / window_s


def _clump(tally: Tally, windows: float, clumps: Clumps, place: int) -> float:
    """Return how many firings come together, at least 1."""
    pooled = clumps.squares[place] / clumps.totals[place]
    own = (tally.squares + CLUMP_WEIGHT * pooled) / (tally.total + CLUMP_WEIGHT)
    return max(1.0, own - tally.total / max(1.0, windows))


def _usual_at_most(known: Counted, tally: Tally, window_s: float, clumps: Clumps, place: int) -> float:
    """Return what a window that is over teaches: its count, but no more than is usual once that is known."""
    windows = _windows(known, known.busy_at, window_s)
    if windows < LEAST_WINDOWS:
        return float(tally.current)
    size, mean = _clump(tally, windows, clumps, place), tally.total / windows
    return min(float(tally.current), mean + USUAL_DEVIATIONS * math.sqrt(size * mean + size * size))
