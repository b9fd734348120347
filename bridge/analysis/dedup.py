"""Dedup: is this alert news? One state per (source, fingerprint), one table of legal moves.

Rules (each measured on real Alertmanagers, 0.25 to 0.33):

* A resolve is matched by (source, fingerprint), never by startsAt: after a restart of Prometheus and
  Alertmanager the resolve carries another startsAt than the firing it ends.
* Content is no identity over time: fire, resolve, fire again can give a byte-identical "firing", and an HA peer
  can send a stale "firing" seconds after another peer's "resolved". Both look the same, so such a firing is
  *disputed*: it waits `dispute_s`, then counts. A resolve that comes meanwhile ends the dispute.
* A stale copy that was counted is taken back by the resolve of the peer that sent it, minutes later and with an
  end that is known already: what one peer sends about a group comes in order. The peer is its `externalURL`;
  peers that share one are taken for one, so any resolve takes it back.
* A resolve of a firing that was never told is an episode all the same: it began and ended.
* The status of a whole notification is never looked at (it lies when alerts were truncated).
* An alert that is never resolved and never repeated is believed for two repeat and group intervals.
* What all Alertmanagers of a source list, or do not list, settles what webhooks leave open (`standing` says when that
  is certain). An end that is found this way is no end that anybody told: it is our time, not the sender's.

Decision: a table plus a classification of signals, instead of nested conditions, so that the pairs nobody
thought of raise a KeyError in a test rather than pick a branch. Rejected: a seen-set of content hashes, the way
every open peer does it, because it swallows real re-fires.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from zlib import crc32

from msgspec.structs import replace

from bridge.model import Alert, Change, Word


class WatchState(StrEnum):
    """What is believed about one alert."""

    NEW = "new"  # never seen, or forgotten
    FIRING = "firing"
    RESOLVED = "resolved"
    DISPUTED = "disputed"  # resolved, but a firing of the old episode came after that
    EXPIRED = "expired"  # was firing, and its resolve never came


class Signal(StrEnum):
    """What was heard, as seen from what is believed."""

    FIRES = "fires"  # a firing that began after the last known end, or with no end known
    FIRES_OLD = "fires_old"  # a firing that began before the last known end
    ENDS = "ends"
    ENDS_OLD = "ends_old"  # the end of an earlier episode than the one that fires
    ENDS_UNHEARD = "ends_unheard"  # the end of a firing that nobody told us of, or that was in doubt
    SILENT = "silent"  # nothing for as long as anything is believed
    SETTLED = "settled"  # the dispute's time is over
    LISTED = "listed"  # Alertmanager lists it as firing
    ABSENT = "absent"  # no Alertmanager lists it


_W, _S, _C = WatchState, Signal, Change
#: Every legal pair; anything else is a bug. `forget` in the comment means that the watch is dropped.
MOVES: dict[tuple[WatchState, Signal], tuple[WatchState, Change]] = {
    (_W.NEW, _S.FIRES): (_W.FIRING, _C.FIRST_SEEN),
    (_W.NEW, _S.ENDS_UNHEARD): (_W.RESOLVED, _C.RESOLVED),  # an episode that is over when we hear of it
    (_W.FIRING, _S.FIRES): (_W.FIRING, _C.REPEATED),  # ALTERED where the annotations differ
    (_W.FIRING, _S.ENDS): (_W.RESOLVED, _C.RESOLVED),
    (_W.FIRING, _S.ENDS_OLD): (_W.FIRING, _C.STALE),
    (_W.FIRING, _S.SILENT): (_W.EXPIRED, _C.EXPIRED),
    (_W.RESOLVED, _S.FIRES): (_W.FIRING, _C.REOPENED),
    (_W.RESOLVED, _S.FIRES_OLD): (_W.DISPUTED, _C.DISPUTED),
    (_W.RESOLVED, _S.ENDS): (_W.RESOLVED, _C.REPEATED),
    (_W.RESOLVED, _S.ENDS_UNHEARD): (_W.RESOLVED, _C.RESOLVED),
    (_W.RESOLVED, _S.SILENT): (_W.NEW, _C.STALE),  # forget
    (_W.DISPUTED, _S.FIRES): (_W.FIRING, _C.REOPENED),
    (_W.DISPUTED, _S.FIRES_OLD): (_W.DISPUTED, _C.REPEATED),
    (_W.DISPUTED, _S.ENDS): (_W.RESOLVED, _C.STALE),
    (_W.DISPUTED, _S.ENDS_UNHEARD): (_W.RESOLVED, _C.RESOLVED),  # another end: the firing in doubt was real
    (_W.DISPUTED, _S.SETTLED): (_W.FIRING, _C.REOPENED),
    (_W.EXPIRED, _S.FIRES): (_W.FIRING, _C.REOPENED),  # also with the old startsAt: nobody said it had ended
    (_W.EXPIRED, _S.ENDS): (_W.RESOLVED, _C.RESOLVED),  # the end that was given up comes after all
    (_W.EXPIRED, _S.SILENT): (_W.NEW, _C.STALE),  # forget
    (_W.NEW, _S.LISTED): (_W.FIRING, _C.FIRST_SEEN),
    (_W.FIRING, _S.LISTED): (_W.FIRING, _C.REPEATED),
    (_W.RESOLVED, _S.LISTED): (_W.FIRING, _C.REOPENED),
    (_W.DISPUTED, _S.LISTED): (_W.FIRING, _C.REOPENED),
    (_W.EXPIRED, _S.LISTED): (_W.FIRING, _C.REOPENED),
    (_W.FIRING, _S.ABSENT): (_W.EXPIRED, _C.GONE),  # as after an expiry: an end may be told yet, or a firing
    (_W.DISPUTED, _S.ABSENT): (_W.RESOLVED, _C.STALE),  # it was a late copy
}


class Watch(Word, frozen=True, kw_only=True):
    """What is remembered of one alert between notifications."""

    state: WatchState
    starts_at: datetime  # of the episode that fires or fired last (its identity)
    ended_at: datetime | None  # the last end that was told; an expiry is no end that anybody told
    heard_at: datetime  # received_at of the last notification that named it
    annotations_crc: int
    fired_at: datetime  # startsAt as sent of the firing that opened that episode: not our clock
    disputed_alert: Alert | None = None
    disputed_at: datetime | None = None
    disputed_group: str = ""  # Alertmanager group of the disputed firing
    doubted_peer: str | None = None  # who sent the firing that is, or was, in doubt; None: there is no doubt
    listed: bool = False  # an Alertmanager that was asked has listed this firing


class Decision(Word, frozen=True, kw_only=True):
    """What one signal means. `watch` None: forget.

    `opens` and `ends` together: an episode that is over when it is heard of. `ends` after an expiry: the episode
    that was given up ended then.
    """

    change: Change
    watch: Watch | None
    opens: datetime | None = None  # a new episode begins; its identity's starts_at
    ends: datetime | None = None  # the running episode ends then
    disputed: bool = False  # the episode was opened by a firing that may be a stale copy


def annotations_crc(annotations: dict[str, str]) -> int:
    """Return a checksum that changes when annotations do (not an identity)."""
    return crc32("\0".join(f"{name}\0{annotations[name]}" for name in sorted(annotations)).encode())


def observe(
    watch: Watch | None,
    alert: Alert,
    received_at: datetime,
    *,
    peer: str = "",
    unheard_since: datetime | None = None,
) -> Decision:
    """Decide what an alert means.

    Args:
        watch: What is remembered of it, None for nothing.
        alert: What was said.
        received_at: When it was received.
        peer: The Alertmanager that said so.
        unheard_since: An alert that is not remembered and claims to fire at least since then may have been heard,
            given up and forgotten (a silence hid it): its episode begins now, for its startsAt names that one.
            None where nothing was forgotten yet.
    """
    signal = _signal(watch, alert, peer)
    before = WatchState.NEW if watch is None else watch.state
    state, change = MOVES[before, signal]
    crc = annotations_crc(alert.annotations)
    anew = watch is None and unheard_since is not None and alert.starts_at <= unheard_since
    if change is Change.REPEATED and state is WatchState.FIRING and watch and watch.annotations_crc != crc:
        change = Change.ALTERED
    if change in {Change.FIRST_SEEN, Change.REOPENED}:
        return _opened(watch, alert, received_at, change, crc, anew=anew)
    if signal is Signal.ENDS_UNHEARD:
        return _unheard(watch, alert, received_at, crc, anew=anew)
    assert watch is not None  # noqa: S101 - the table has no other move from NEW
    if change is Change.DISPUTED:
        disputed = replace(
            watch, state=state, heard_at=received_at, disputed_alert=alert, disputed_at=received_at,
            doubted_peer=peer,
        )  # fmt: skip
        return Decision(change=change, watch=disputed)
    if state is WatchState.RESOLVED:
        return _resolved(watch, alert.ends_at or received_at, received_at, change)
    if change is Change.STALE:
        return Decision(change=change, watch=watch)
    return Decision(change=change, watch=replace(watch, heard_at=received_at, annotations_crc=crc))


def settle(watch: Watch, now: datetime) -> Decision:
    """Decide a dispute whose time is over: without a resolve in between the firing counts.

    The new episode begins when the disputed firing was heard: the alert was not firing before that, and its
    own startsAt already names the episode that ended.
    """
    return _counted(watch, now, Signal.SETTLED)


def listed(
    watch: Watch | None, alert: Alert, received_at: datetime, *, unheard_since: datetime | None = None
) -> Decision:
    """Decide what it means that Alertmanager lists an alert as firing, for certain.

    `alert` is what it lists, for a dispute what was said; `unheard_since` is that of `observe`.
    """
    before = WatchState.NEW if watch is None else watch.state
    state, change = MOVES[before, Signal.LISTED]
    if watch is not None and change is Change.REPEATED:
        return Decision(change=change, watch=replace(watch, state=state, heard_at=received_at, listed=True))
    if watch is not None and before is WatchState.DISPUTED:
        counted = _counted(watch, received_at, Signal.LISTED)
        heard = counted.watch and replace(counted.watch, heard_at=received_at, listed=True)
        return replace(counted, disputed=False, watch=heard)
    is_over = watch is not None and watch.ended_at is not None and alert.starts_at <= watch.ended_at
    is_old = watch is None and unheard_since is not None and alert.starts_at <= unheard_since
    crc = annotations_crc(alert.annotations)
    opened = _opened(watch, alert, received_at, change, crc, anew=is_over or is_old)
    return replace(opened, watch=opened.watch and replace(opened.watch, listed=True))


def absent(watch: Watch, ends_at: datetime, received_at: datetime) -> Decision:
    """Decide what it means that no Alertmanager lists an alert, for certain; it was first missed at `ends_at`."""
    state, change = MOVES[watch.state, Signal.ABSENT]
    if change is Change.STALE:
        return _resolved(watch, watch.ended_at or ends_at, received_at, change)
    gone = replace(watch, state=state, heard_at=received_at, listed=False)
    return Decision(change=change, watch=gone, ends=ends_at)


def _counted(watch: Watch, now: datetime, signal: Signal) -> Decision:
    state, change = MOVES[watch.state, signal]
    begins = _later(watch, watch.disputed_at or now)
    fired_at = watch.disputed_alert.starts_at if watch.disputed_alert else begins
    settled = replace(
        watch, state=state, starts_at=begins, fired_at=fired_at, disputed_alert=None, disputed_at=None,
        disputed_group="",
    )  # fmt: skip
    return Decision(change=change, watch=settled, opens=begins, disputed=True)


def silence(watch: Watch, now: datetime) -> Decision:
    """Decide what it means that nothing was heard for as long as anything is believed."""
    state, change = MOVES[watch.state, Signal.SILENT]
    if state is WatchState.NEW:
        return Decision(change=change, watch=None)
    return Decision(change=change, watch=replace(watch, state=state, heard_at=now), ends=now)


def patience(*, repeat_interval_s: float, group_interval_s: float) -> timedelta:
    """Return how much silence about an alert is ordinary: two full repeats of its Alertmanager."""
    return timedelta(seconds=2 * (repeat_interval_s + group_interval_s))


def _signal(watch: Watch | None, alert: Alert, peer: str) -> Signal:
    if not alert.firing:
        return _signal_of_end(watch, alert, peer)
    if watch is None or watch.state in {WatchState.FIRING, WatchState.EXPIRED}:
        return Signal.FIRES
    if watch.ended_at is None or alert.starts_at > watch.ended_at:
        return Signal.FIRES
    return Signal.FIRES_OLD


def _signal_of_end(watch: Watch | None, alert: Alert, peer: str) -> Signal:
    """Say which firing a resolve ends. Only the sender's own times are compared: its clock may be far from ours."""
    if watch is None:
        return Signal.ENDS_UNHEARD
    known, ends_at = watch.ended_at, alert.ends_at
    match watch.state:
        case WatchState.FIRING if ends_at is not None:
            is_other = ends_at < watch.fired_at != alert.starts_at
            is_old = is_other or (known is not None and ends_at <= known)
            return Signal.ENDS_OLD if is_old and peer != watch.doubted_peer else Signal.ENDS
        case WatchState.RESOLVED if known is not None and ends_at is not None:
            return Signal.ENDS_UNHEARD if known < alert.starts_at <= ends_at else Signal.ENDS
        case WatchState.DISPUTED if known is not None and ends_at is not None:
            return Signal.ENDS_UNHEARD if ends_at > known else Signal.ENDS
        case _:
            return Signal.ENDS


def _opened(
    watch: Watch | None, alert: Alert, received_at: datetime, change: Change, crc: int, *, anew: bool
) -> Decision:
    # The identity is the startsAt, unless that names an episode that ended already.
    begins = received_at if anew else alert.starts_at
    if watch is not None and begins <= watch.starts_at:
        begins = _later(watch, received_at)
    fresh = Watch(
        state=WatchState.FIRING, starts_at=begins, ended_at=watch.ended_at if watch else None,
        heard_at=received_at, annotations_crc=crc, fired_at=alert.starts_at,
    )  # fmt: skip
    return Decision(change=change, watch=fresh, opens=begins)


def _unheard(watch: Watch | None, alert: Alert, received_at: datetime, crc: int, *, anew: bool) -> Decision:
    """Decide a resolve whose firing was not told, or not believed: an episode that is over."""
    ends_at = alert.ends_at or received_at
    begins = received_at if anew else alert.starts_at
    if watch is not None and watch.disputed_at is not None:
        begins = _later(watch, watch.disputed_at)  # its startsAt names the episode before
    elif watch is not None and begins <= watch.starts_at:
        begins = _later(watch, received_at)
    over = Watch(
        state=WatchState.RESOLVED, starts_at=begins, heard_at=received_at, annotations_crc=crc,
        ended_at=max(ends_at, watch.ended_at) if watch is not None and watch.ended_at else ends_at,
        fired_at=alert.starts_at,
    )  # fmt: skip
    return Decision(change=Change.RESOLVED, watch=over, opens=begins, ends=ends_at)


def _resolved(watch: Watch, ends_at: datetime, received_at: datetime, change: Change) -> Decision:
    ended = max(ends_at, watch.ended_at) if watch.ended_at else ends_at
    resolved = replace(
        watch, state=WatchState.RESOLVED, ended_at=ended, heard_at=received_at, disputed_alert=None,
        disputed_at=None, disputed_group="", doubted_peer=None,
    )  # fmt: skip
    return Decision(change=change, watch=resolved, ends=ends_at if change is Change.RESOLVED else None)


def _later(watch: Watch, at: datetime) -> datetime:
    """Return `at`, or a moment after the last episode began: no two episodes of an alert have one identity."""
    return max(at, watch.starts_at + timedelta(microseconds=1))
