"""Standing: what a list is held to say of an alert, and every pair of that with what is believed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from builders import at
from msgspec.structs import replace

from bridge.analysis.dedup import MOVES, Signal, Watch, WatchState
from bridge.analysis.rounds import Found, Standing
from bridge.analysis.standing import RULINGS, Ruling, Seen, ruled, seen
from bridge.model import Alert

SETTLE = timedelta(seconds=600)
NOW_S = 2000.0
WHOLE = Found(asked=2, settled=True, began_s=1.0)
STANDING = Standing(fingerprint="f", starts_at=at(0), stands=True, everywhere=True, ours=True)
FIRING = Watch(
    state=WatchState.FIRING, starts_at=at(0), ended_at=None, heard_at=at(0), annotations_crc=0, fired_at=at(0),
    listed=True,
)  # fmt: skip
RESOLVED = replace(FIRING, state=WatchState.RESOLVED, ended_at=at(50))
EXPIRED = replace(FIRING, state=WatchState.EXPIRED)
LATE = Alert(
    tenant="t",
    source="s",
    fingerprint="f",
    labels={},
    annotations={},
    firing=True,
    starts_at=at(0),
    ends_at=None,
)
DISPUTED = replace(RESOLVED, state=WatchState.DISPUTED, disputed_alert=LATE, disputed_at=at(NOW_S - 10))
WATCHES = (None, FIRING, RESOLVED, DISPUTED, EXPIRED)


def see(
    watch: Watch | None, standing: Standing | None, found: Found = WHOLE, left_s: float | None = None
) -> Seen:
    return seen(watch, standing, found, at(NOW_S), left_s=left_s, settle=SETTLE)


def rule(watch: Watch | None, standing: Standing | None, found: Found = WHOLE) -> Ruling:
    return ruled(watch, standing, found, at(NOW_S), left_s=None, settle=SETTLE)


def test_every_pair_is_ruled_on_with_a_reason() -> None:
    assert set(RULINGS) == {(state, what) for state in WatchState for what in Seen}
    assert all(ruling.why for ruling in RULINGS.values())


def test_what_is_ruled_is_a_legal_move() -> None:
    for (state, _), ruling in RULINGS.items():
        assert ruling.signal is None or (state, ruling.signal) in MOVES


def test_only_certainty_moves_anything() -> None:
    moving = {pair for pair, ruling in RULINGS.items() if ruling.signal is not None}
    assert {what for state, what in moving if state is not WatchState.FIRING} == {
        Seen.EVERYWHERE, Seen.STANDS, Seen.ABSENT,
    }  # fmt: skip
    ends = {pair for pair, ruling in RULINGS.items() if ruling.signal is Signal.ABSENT}
    assert ends == {(WatchState.FIRING, Seen.ABSENT), (WatchState.DISPUTED, Seen.ABSENT)}


@pytest.mark.parametrize(
    ("watch", "signal"),
    [
        (None, Signal.LISTED),
        (FIRING, Signal.LISTED),
        (RESOLVED, Signal.LISTED),
        (DISPUTED, Signal.LISTED),
        (EXPIRED, Signal.LISTED),
    ],
)
def test_what_every_peer_has_listed_for_long_fires(watch: Watch | None, signal: Signal) -> None:
    assert rule(watch, STANDING).signal is signal


@pytest.mark.parametrize(
    ("watch", "signal"),
    [(FIRING, Signal.ABSENT), (RESOLVED, None), (DISPUTED, Signal.ABSENT), (EXPIRED, None)],
)
def test_what_no_peer_lists_is_over(watch: Watch, signal: Signal | None) -> None:
    assert rule(watch, None).signal is signal


@pytest.mark.parametrize("by", ["silenced", "inhibited", "muted"])
def test_what_is_held_back_is_neither_ended_nor_opened(by: Any) -> None:
    held = replace(STANDING, suppressed=by)
    signals = [rule(watch, held).signal for watch in WATCHES]
    assert signals == [None, Signal.LISTED, None, None, None]


@pytest.mark.parametrize(
    "changes",
    [{"stands": False}, {"ours": False}, {"unprocessed": True}],
    ids=["too young", "another's", "not looked at"],
)
def test_what_may_be_on_its_way_or_is_not_for_us_is_not_missed(changes: dict[str, Any]) -> None:
    standing = replace(STANDING, **changes)
    assert rule(None, standing).signal is None
    assert rule(RESOLVED, standing).signal is None
    assert rule(EXPIRED, standing).signal is None


def test_one_peer_alone_shows_a_missed_firing_and_contradicts_no_end() -> None:
    alone = replace(STANDING, everywhere=False)
    assert rule(None, alone).signal is Signal.LISTED
    assert rule(RESOLVED, alone).signal is None
    assert rule(DISPUTED, alone).signal is None


def test_a_list_without_the_silent_peer_contradicts_no_end_either() -> None:
    silent = replace(WHOLE, silent=("http://am-1",))
    assert see(RESOLVED, STANDING, silent) is Seen.STANDS
    assert see(DISPUTED, STANDING, silent) is Seen.UNSURE


@pytest.mark.parametrize("heard_s", [NOW_S - 599, NOW_S - 1])
def test_a_list_is_not_held_against_a_webhook_that_came_lately(heard_s: float) -> None:
    assert see(replace(FIRING, heard_at=at(heard_s)), None) is Seen.UNSURE
    assert see(replace(RESOLVED, heard_at=at(heard_s)), STANDING) is Seen.LISTED
    assert see(replace(FIRING, heard_at=at(NOW_S - 600)), None) is Seen.ABSENT


@pytest.mark.parametrize(
    ("found", "left_s"),
    [
        (replace(WHOLE, settled=False), None),
        (replace(WHOLE, silent=("http://am-1",)), None),
        (WHOLE, 599.0),
    ],
    ids=["rounds are young", "a peer is silent", "it left just now"],
)
def test_nothing_is_gone_before_everybody_has_agreed_for_long_enough(
    found: Found, left_s: float | None
) -> None:
    assert see(FIRING, None, found, left_s) is Seen.UNSURE


def test_what_left_long_enough_ago_is_gone() -> None:
    assert see(FIRING, None, WHOLE, 600.0) is Seen.ABSENT


def test_what_these_alertmanagers_never_listed_is_not_gone_from_them() -> None:
    """An address of another Alertmanager must not end everything."""
    assert see(replace(FIRING, listed=False), None) is Seen.UNSURE


@pytest.mark.parametrize("began_s", [10.0, 30.0])
def test_a_round_that_began_before_the_doubt_settles_nothing(began_s: float) -> None:
    before = replace(WHOLE, began_s=began_s)
    assert see(DISPUTED, None, before) is Seen.UNSURE
    assert see(DISPUTED, STANDING, before) is Seen.UNSURE


def test_a_doubt_is_settled_by_the_first_round_after_it() -> None:
    first = replace(WHOLE, settled=False)
    assert see(DISPUTED, replace(STANDING, stands=False, ours=False), first) is Seen.EVERYWHERE
    assert see(DISPUTED, None, first) is Seen.ABSENT
    for odd in (replace(STANDING, suppressed="silenced"), replace(STANDING, unprocessed=True)):
        assert see(DISPUTED, odd, first) is Seen.HELD
    assert see(DISPUTED, replace(STANDING, everywhere=False), first) is Seen.LISTED
