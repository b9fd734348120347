"""Standing: what follows from what Alertmanager lists, for an alert that is believed to be firing, over or in doubt.

Rules: a webhook may always be on its way, so that nothing follows before a round has been agreed with for as long as
that takes (`rounds.settle_s`), and nothing against a webhook that came within that time. Gone is only what an
Alertmanager that was asked has listed before: an address that belongs to another one must not end everything. Only
what is sent to Tocsin's receiver is missed. What is suppressed is neither ended nor opened: it fires, and people chose
not to hear of it. A dispute is settled at once, by a round that began after it, where all peers agree.

Decision: two steps, each a table or a plain condition: what a round says of one alert (`Seen`), then what that means
for what is believed (`RULINGS`). Every pair is in the table with its reason, those of which nothing follows, too.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from bridge.analysis.dedup import Signal, Watch, WatchState
from bridge.analysis.rounds import Found, Standing
from bridge.model import Word


class Seen(StrEnum):
    """What a round says of one alert."""

    EVERYWHERE = "everywhere"  # every peer has listed it for long enough (in a dispute: since it began)
    STANDS = "stands"  # a peer has listed it for long enough
    LISTED = "listed"  # a peer lists it
    HELD = "held"  # those that list it hold it back
    ABSENT = "absent"  # no peer lists it, for long enough (in a dispute: since it began)
    UNSURE = "unsure"  # too early, or not everybody answered


class Ruling(Word, frozen=True, kw_only=True):
    """What follows. `signal` None: nothing."""

    signal: Signal | None
    why: str


def _does(signal: Signal, why: str) -> Ruling:
    return Ruling(signal=signal, why=why)


def _waits(why: str) -> Ruling:
    return Ruling(signal=None, why=why)


_W, _N = WatchState, Seen
_EARLY = _waits("a webhook may be on its way")
_LISTED = _does(Signal.LISTED, "Alertmanager lists it")
_MISSED = _does(Signal.LISTED, "Alertmanager lists it, but no webhook named it")
_OVER = _waits("it is over here, too")
_HIDDEN = _waits("Alertmanager holds it back, so nobody is to hear of it")
_CONTRADICTED = _waits("its end was told; an Alertmanager that lists it may have missed that")
_DOUBTED = _waits("the Alertmanagers do not agree: time decides")
#: Every pair of what is believed and what is seen.
RULINGS: dict[tuple[WatchState, Seen], Ruling] = {
    (_W.NEW, _N.EVERYWHERE): _MISSED,
    (_W.NEW, _N.STANDS): _MISSED,
    (_W.NEW, _N.LISTED): _EARLY,
    (_W.NEW, _N.HELD): _HIDDEN,
    (_W.NEW, _N.ABSENT): _OVER,
    (_W.NEW, _N.UNSURE): _EARLY,
    (_W.FIRING, _N.EVERYWHERE): _LISTED,
    (_W.FIRING, _N.STANDS): _LISTED,
    (_W.FIRING, _N.LISTED): _LISTED,
    (_W.FIRING, _N.HELD): _does(Signal.LISTED, "Alertmanager lists it and holds it back"),
    (_W.FIRING, _N.ABSENT): _does(Signal.ABSENT, "gone from Alertmanager, no resolve came"),
    (_W.FIRING, _N.UNSURE): _EARLY,
    (_W.RESOLVED, _N.EVERYWHERE): _does(Signal.LISTED, "every Alertmanager lists it again, but no webhook named it"),
    (_W.RESOLVED, _N.STANDS): _CONTRADICTED,
    (_W.RESOLVED, _N.LISTED): _EARLY,
    (_W.RESOLVED, _N.HELD): _HIDDEN,
    (_W.RESOLVED, _N.ABSENT): _OVER,
    (_W.RESOLVED, _N.UNSURE): _EARLY,
    (_W.DISPUTED, _N.EVERYWHERE): _does(Signal.LISTED, "every Alertmanager lists it: the firing in doubt is real"),
    (_W.DISPUTED, _N.STANDS): _DOUBTED,
    (_W.DISPUTED, _N.LISTED): _DOUBTED,
    (_W.DISPUTED, _N.HELD): _DOUBTED,
    (_W.DISPUTED, _N.ABSENT): _does(Signal.ABSENT, "no Alertmanager lists it: the firing in doubt was a late copy"),
    (_W.DISPUTED, _N.UNSURE): _DOUBTED,
    (_W.EXPIRED, _N.EVERYWHERE): _MISSED,
    (_W.EXPIRED, _N.STANDS): _MISSED,
    (_W.EXPIRED, _N.LISTED): _EARLY,
    (_W.EXPIRED, _N.HELD): _HIDDEN,
    (_W.EXPIRED, _N.ABSENT): _OVER,
    (_W.EXPIRED, _N.UNSURE): _EARLY,
}  # fmt: skip


def ruled(
    watch: Watch | None,
    standing: Standing | None,
    found: Found,
    now: datetime,
    *,
    left_s: float | None,
    settle: timedelta,
) -> Ruling:
    """Say what follows for one alert from a round.

    Args:
        watch: What is believed of it, None for nothing.
        standing: What the round says of it, None if it is not listed.
        found: The round.
        now: When its row was received.
        left_s: How long ago it was first missed, where that is known.
        settle: For how long a webhook may be on its way.
    """
    believed = WatchState.NEW if watch is None else watch.state
    return RULINGS[believed, seen(watch, standing, found, now, left_s=left_s, settle=settle)]


def seen(
    watch: Watch | None,
    standing: Standing | None,
    found: Found,
    now: datetime,
    *,
    left_s: float | None,
    settle: timedelta,
) -> Seen:
    """Say what a round says of one alert; the arguments are those of `ruled`."""
    if watch is not None and watch.disputed_at is not None:
        return _seen_in_dispute(watch.disputed_at, standing, found, now)
    # Too lately for a list to be held against it.
    was_named = watch is not None and watch.heard_at > now - settle
    if standing is None:
        is_old = left_s is None or left_s >= settle.total_seconds()
        is_known = watch is not None and watch.listed
        sure = found.settled and not found.silent and is_old and is_known and not was_named
        return Seen.ABSENT if sure else Seen.UNSURE
    if standing.suppressed:
        return Seen.HELD
    if standing.unprocessed:
        return Seen.UNSURE
    if was_named or not (standing.stands and standing.ours):
        return Seen.LISTED
    return Seen.EVERYWHERE if standing.everywhere and not found.silent else Seen.STANDS


def _seen_in_dispute(disputed_at: datetime, standing: Standing | None, found: Found, now: datetime) -> Seen:
    if found.silent or now - timedelta(seconds=found.began_s) <= disputed_at:
        return Seen.UNSURE
    if standing is None:
        return Seen.ABSENT
    if standing.suppressed or standing.unprocessed:
        return Seen.HELD
    return Seen.EVERYWHERE if standing.everywhere else Seen.LISTED
