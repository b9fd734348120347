"""Dedup: each legal move by the behaviour of Alertmanager that makes it, and no way out of the table."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest
from builders import at
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bridge.analysis.dedup import (
    MOVES,
    Decision,
    Signal,
    Watch,
    WatchState,
    absent,
    annotations_crc,
    listed,
    observe,
    patience,
    settle,
    silence,
)
from bridge.model import Alert, Change

S, Sig, C = WatchState, Signal, Change


@dataclass(frozen=True)
class Heard:
    """What is heard when (seconds after the beginning): an alert, or that time has passed."""

    what: str  # fires, ends, settled, silent, listed, absent
    seconds: float
    starts: float = 0.0
    ends: float | None = None  # of a resolve; None: when it is heard
    told: str = "90 %"
    peer: str = "am-0"


def fires(seconds: float, starts: float = 0.0, told: str = "90 %", peer: str = "am-0") -> Heard:
    return Heard("fires", seconds, starts, told=told, peer=peer)


def ends(seconds: float, when: float | None = None, starts: float = 0.0, peer: str = "am-0") -> Heard:
    return Heard("ends", seconds, starts, when, peer=peer)


def settled(seconds: float) -> Heard:
    return Heard("settled", seconds)


def silent(seconds: float) -> Heard:
    return Heard("silent", seconds)


def lists(seconds: float, starts: float = 0.0) -> Heard:
    """Alertmanager lists it."""
    return Heard("listed", seconds, starts)


def misses(seconds: float, since: float | None = None) -> Heard:
    """No Alertmanager lists it, since `since`."""
    return Heard("absent", seconds, ends=since)


def alert(heard: Heard) -> Alert:
    end = heard.seconds if heard.ends is None else heard.ends
    return Alert(
        tenant="default", source="am", fingerprint="00c0ffee00c0ffee",
        labels={"alertname": "HighCPU", "instance": "web-0"}, annotations={"summary": heard.told},
        firing=heard.what != "ends", starts_at=at(heard.starts),
        ends_at=None if heard.what != "ends" else at(end),
    )  # fmt: skip


def hear(watch: Watch | None, heard: Heard) -> Decision:
    if heard.what in {"fires", "ends"}:
        return observe(watch, alert(heard), at(heard.seconds), peer=heard.peer)
    if heard.what == "listed":
        return listed(watch, alert(heard), at(heard.seconds))
    assert watch is not None
    if heard.what == "absent":
        return absent(watch, at(heard.seconds if heard.ends is None else heard.ends), at(heard.seconds))
    return (settle if heard.what == "settled" else silence)(watch, at(heard.seconds))


def after(*history: Heard) -> Watch | None:
    watch = None
    for heard in history:
        watch = hear(watch, heard).watch
    return watch


# ---- the table ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """The last of what was heard makes the move `row`; `opens` and `ends` are what becomes of episodes then."""

    behaviour: str
    row: tuple[WatchState, Signal]
    heard: tuple[Heard, ...]
    change: Change
    state: WatchState
    opens: float | None = None
    ends: float | None = None
    forgets: bool = False


FIRED = fires(0)
OVER = (FIRED, ends(40))
LATE = (*OVER, fires(45, peer="am-1"))  # an HA peer's copy of the firing, or a real one
COUNTED = (*LATE, settled(75))
LOST = (FIRED, silent(29_400))
CASES = (
    Case("the first notification of a group", (S.NEW, Sig.FIRES), (FIRED,), C.FIRST_SEEN, S.FIRING, opens=0),
    Case("a resolve whose firing was never told: it fired while we were away", (S.NEW, Sig.ENDS_UNHEARD),
         (ends(40),), C.RESOLVED, S.RESOLVED, opens=0, ends=40),
    Case("the group sent again, by a repeat or by the other peer", (S.FIRING, Sig.FIRES),
         (FIRED, fires(5)), C.REPEATED, S.FIRING),
    Case("the value in its annotations has changed when the group is sent again", (S.FIRING, Sig.FIRES),
         (FIRED, fires(300, told="95 %")), C.ALTERED, S.FIRING),
    Case("startsAt has jumped on after a restart, and it fires on", (S.FIRING, Sig.FIRES),
         (FIRED, fires(300, starts=39)), C.REPEATED, S.FIRING),
    Case("it is over", (S.FIRING, Sig.ENDS), OVER, C.RESOLVED, S.RESOLVED, ends=40),
    Case("the resolve carries a later startsAt after a restart of both Prometheus and Alertmanager",
         (S.FIRING, Sig.ENDS), (FIRED, ends(60, starts=39)), C.RESOLVED, S.RESOLVED, ends=60),
    Case("fired, resolved and fired within a group_interval: the end that was never sent comes now",
         (S.FIRING, Sig.ENDS), (fires(0, starts=-60), ends(60, when=-20)), C.RESOLVED, S.RESOLVED, ends=-20),
    Case("the peer that sent the late firing learns of the resolve a group_interval later",
         (S.FIRING, Sig.ENDS), (*COUNTED, ends(345, when=40, peer="am-1")), C.RESOLVED, S.RESOLVED, ends=40),
    Case("its sender's clock was ahead when it fired: the end lies before the beginning", (S.FIRING, Sig.ENDS),
         (fires(0, starts=50), ends(20, when=20, starts=50)), C.RESOLVED, S.RESOLVED, ends=20),
    Case("after a late firing was counted, the other peer tells the known end once more",
         (S.FIRING, Sig.ENDS_OLD), (*COUNTED, ends(345, when=40)), C.STALE, S.FIRING),
    Case("an HA peer tells the end of the episode before the one that fires", (S.FIRING, Sig.ENDS_OLD),
         (*OVER, fires(60, starts=55), ends(65, when=40)), C.STALE, S.FIRING),
    Case("the resolve never comes, a silence has swallowed it", (S.FIRING, Sig.SILENT), LOST,
         C.EXPIRED, S.EXPIRED, ends=29_400),
    Case("it fires again with a startsAt of its own", (S.RESOLVED, Sig.FIRES), (*OVER, fires(90, starts=80)),
         C.REOPENED, S.FIRING, opens=80),
    Case("the firing is the same byte for byte: a peer that missed the resolve, or a real one",
         (S.RESOLVED, Sig.FIRES_OLD), LATE, C.DISPUTED, S.DISPUTED),
    Case("a firing out of order: its resolve was told first", (S.RESOLVED, Sig.FIRES_OLD),
         (ends(40), fires(45)), C.DISPUTED, S.DISPUTED),
    Case("the resolve told again, by the other peer or with its group", (S.RESOLVED, Sig.ENDS),
         (*OVER, ends(46, when=40)), C.REPEATED, S.RESOLVED),
    Case("a firing between two notifications: only its end is told, and it began after the last one",
         (S.RESOLVED, Sig.ENDS_UNHEARD), (*OVER, ends(90, when=80, starts=60)), C.RESOLVED, S.RESOLVED,
         opens=60, ends=80),
    Case("it has been over for hours", (S.RESOLVED, Sig.SILENT), (*OVER, silent(29_440)), C.STALE, S.NEW,
         forgets=True),
    Case("a firing that is new beyond doubt follows the one in doubt", (S.DISPUTED, Sig.FIRES),
         (*LATE, fires(60, starts=55)), C.REOPENED, S.FIRING, opens=55),
    Case("the firing in doubt is sent again", (S.DISPUTED, Sig.FIRES_OLD), (*LATE, fires(50)), C.REPEATED, S.DISPUTED),
    Case("the peer that sent the late firing has learnt of the resolve", (S.DISPUTED, Sig.ENDS),
         (*LATE, ends(60, when=40)), C.STALE, S.RESOLVED),
    Case("the firing in doubt was real, for it has an end of its own", (S.DISPUTED, Sig.ENDS_UNHEARD),
         (*LATE, ends(60, when=55)), C.RESOLVED, S.RESOLVED, opens=45, ends=55),
    Case("no resolve follows: the firing counts", (S.DISPUTED, Sig.SETTLED), COUNTED,
         C.REOPENED, S.FIRING, opens=45),
    Case("the silence is over and it fires on with the startsAt it always had", (S.EXPIRED, Sig.FIRES),
         (*LOST, fires(40_000)), C.REOPENED, S.FIRING, opens=40_000),
    Case("the resolve comes after all", (S.EXPIRED, Sig.ENDS), (*LOST, ends(30_000)), C.RESOLVED, S.RESOLVED,
         ends=30_000),
    Case("nothing is ever heard of it again", (S.EXPIRED, Sig.SILENT), (*LOST, silent(58_800)), C.STALE, S.NEW,
         forgets=True),
    Case("no webhook has named it, and Alertmanager lists it", (S.NEW, Sig.LISTED), (lists(700),),
         C.FIRST_SEEN, S.FIRING, opens=0),
    Case("it is still listed", (S.FIRING, Sig.LISTED), (FIRED, lists(700)), C.REPEATED, S.FIRING),
    Case("its resolve was a mistake of one peer, all of them list it", (S.RESOLVED, Sig.LISTED),
         (*OVER, lists(700)), C.REOPENED, S.FIRING, opens=700),
    Case("it fires on with a startsAt from before the end that was told: that names an episode that is over",
         (S.RESOLVED, Sig.LISTED), (*OVER, lists(700, starts=20)), C.REOPENED, S.FIRING, opens=700),
    Case("it has fired again and no webhook said so", (S.RESOLVED, Sig.LISTED), (*OVER, lists(700, starts=60)),
         C.REOPENED, S.FIRING, opens=60),
    Case("all peers list what is in doubt", (S.DISPUTED, Sig.LISTED), (*LATE, lists(50)), C.REOPENED, S.FIRING,
         opens=45),
    Case("it was given up, and Alertmanager lists it", (S.EXPIRED, Sig.LISTED), (*LOST, lists(40_000)),
         C.REOPENED, S.FIRING, opens=40_000),
    Case("no peer lists it any more", (S.FIRING, Sig.ABSENT), (FIRED, misses(700, since=60)), C.GONE, S.EXPIRED,
         ends=60),
    Case("no peer lists what is in doubt", (S.DISPUTED, Sig.ABSENT), (*LATE, misses(50)), C.STALE, S.RESOLVED),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.behaviour)
def test_what_alertmanager_does_means(case: Case) -> None:
    before = after(*case.heard[:-1])
    assert (S.NEW if before is None else before.state) is case.row[0]
    decision = hear(before, case.heard[-1])
    assert decision.change is case.change
    assert decision.opens == (None if case.opens is None else at(case.opens))
    assert decision.ends == (None if case.ends is None else at(case.ends))
    assert (decision.watch is None) is case.forgets
    assert (S.NEW if decision.watch is None else decision.watch.state) is case.state


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.behaviour)
def test_each_case_is_decided_by_its_own_row_and_without_it_is_an_error(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = after(*case.heard[:-1])
    monkeypatch.delitem(MOVES, case.row)
    with pytest.raises(KeyError):
        hear(before, case.heard[-1])


def test_every_row_has_its_case() -> None:
    assert {case.row for case in CASES} == set(MOVES)
    for case in CASES:
        state, change = MOVES[case.row]
        assert (case.state, C.REPEATED if case.change is C.ALTERED else case.change) == (state, change)


@pytest.mark.parametrize("history", [(FIRED,), OVER, LOST], ids=["firing", "resolved", "expired"])
def test_only_a_dispute_can_be_settled(history: tuple[Heard, ...]) -> None:
    watch = after(*history)
    assert watch is not None
    with pytest.raises(KeyError):
        settle(watch, at(50_000))


def test_silence_does_not_decide_a_dispute() -> None:
    watch = after(*LATE)
    assert watch is not None
    with pytest.raises(KeyError):
        silence(watch, at(50_000))


# ---- what the table does not show --------------------------------------------------------------------------


def test_a_real_refire_begins_when_it_was_heard_because_its_own_startsat_names_the_episode_before() -> None:
    decision = hear(after(*LATE), settled(75))
    assert decision.disputed
    assert decision.opens == at(45)
    assert decision.watch is not None
    assert (decision.watch.disputed_alert, decision.watch.disputed_at) == (None, None)


def test_an_episode_that_began_when_it_was_heard_ends_by_the_clock_of_its_sender() -> None:
    # The sender's clock is five minutes behind: all its times lie before the time the firing was heard.
    watch = after(fires(0, -300), ends(40, -260), fires(50, -300), settled(80))
    decision = hear(watch, ends(100, -200))
    assert (decision.change, decision.ends) == (C.RESOLVED, at(-200))


@pytest.mark.parametrize(
    ("since", "peer"),
    [((), "am-0"), ((silent(29_475), fires(40_000)), "am-0"), ((silent(29_475), fires(40_000)), "am-1")],
    ids=["at once", "expired in between", "expired in between, by the peer that sent the late firing"],
)
def test_an_end_that_is_known_does_not_end_a_real_refire_whose_startsat_is_the_old_one(
    since: tuple[Heard, ...], peer: str
) -> None:
    watch = after(*COUNTED, *since)
    assert watch is not None
    again = hear(watch, ends(40_010, when=40, peer=peer))
    assert (again.change, again.ends, again.watch) == (C.STALE, None, watch)
    assert hear(watch, ends(40_020)).change is C.RESOLVED


def test_peers_that_share_one_address_are_taken_for_one() -> None:
    watch = after(FIRED, ends(40), fires(45), settled(75))
    assert hear(watch, ends(345, when=40)).change is C.RESOLVED


@pytest.mark.parametrize("when", [40, 55])
def test_a_resolve_in_a_dispute_forgets_the_doubt(when: float) -> None:
    watch = hear(after(*LATE), ends(60, when=when)).watch
    assert watch is not None
    assert (watch.disputed_alert, watch.disputed_at, watch.doubted_peer) == (None, None, None)
    assert watch.ended_at == at(when)


def test_an_end_that_lies_in_the_future_delays_the_next_firing_by_the_dispute_and_no_more() -> None:
    # The sender's clock was an hour ahead when it resolved, and is right again.
    watch = after(FIRED, ends(40, when=3640), fires(100, starts=95))
    assert watch is not None
    assert watch.state is S.DISPUTED
    watch = hear(watch, settled(130)).watch
    assert hear(watch, ends(200)).change is C.RESOLVED


def test_a_resolve_without_an_end_ends_when_it_is_heard() -> None:
    told = Alert(
        tenant="default", source="am", fingerprint="00c0ffee00c0ffee", labels={}, annotations={}, firing=False,
        starts_at=at(0), ends_at=None,
    )  # fmt: skip
    assert observe(after(FIRED), told, at(33)).ends == at(33)


def test_an_earlier_end_told_late_does_not_move_the_known_one() -> None:
    watch = after(*OVER, ends(50, when=20))
    assert watch is not None
    assert watch.ended_at == at(40)


def test_a_firing_that_began_at_the_known_end_is_disputed_and_one_a_moment_later_is_not() -> None:
    assert hear(after(*OVER), fires(50, starts=40)).change is C.DISPUTED
    assert hear(after(*OVER), fires(50, starts=40.000_001)).change is C.REOPENED


def test_an_alert_is_believed_for_two_repeats_and_group_intervals() -> None:
    watch = after(FIRED, fires(300))
    assert watch is not None
    until = watch.heard_at + patience(repeat_interval_s=14_400, group_interval_s=300)
    assert until == at(300) + timedelta(hours=8, minutes=10)


def test_the_checksum_sees_every_change_and_no_order() -> None:
    one = {"summary": "a", "description": "b"}
    assert annotations_crc(one) == annotations_crc({"description": "b", "summary": "a"})
    for other in (
        {},
        {"summary": "b", "description": "a"},
        {"summary": "a"},
        {"summarya": "", "description": "b"},
    ):
        assert annotations_crc(one) != annotations_crc(other)


def test_an_end_that_nobody_told_is_not_compared_with_a_sender_whose_clock_is_behind() -> None:
    watch = after(FIRED, misses(700, since=60))
    assert hear(watch, fires(800, starts=-300)).change is C.REOPENED


def test_the_end_of_what_was_gone_is_taken_in_when_it_is_told_after_all() -> None:
    told = hear(after(FIRED, misses(700, since=60)), ends(800, when=55))
    assert (told.change, told.ends) == (C.RESOLVED, at(55))


def test_a_dispute_that_was_settled_by_all_peers_is_none_any_more() -> None:
    counted, taken_back = hear(after(*LATE), lists(50)), hear(after(*LATE), misses(50))
    assert not counted.disputed
    for decision in (counted, taken_back):
        assert decision.watch is not None
        assert (decision.watch.disputed_alert, decision.watch.disputed_at) == (None, None)
    assert taken_back.watch is not None
    assert taken_back.watch.ended_at == at(40)


@pytest.mark.parametrize("history", [OVER, LOST], ids=["resolved", "expired"])
def test_nothing_that_is_over_can_be_missed(history: tuple[Heard, ...]) -> None:
    with pytest.raises(KeyError):
        hear(after(*history), misses(50_000))


def test_what_was_forgotten_and_is_listed_with_its_old_startsat_is_an_episode_of_its_own() -> None:
    decision = listed(None, alert(lists(90_000)), at(90_000), unheard_since=at(60_000))
    assert decision.opens == at(90_000)


# ---- any history -------------------------------------------------------------------------------------------

_times = st.integers(-60, 60)
_steps = st.tuples(
    st.sampled_from(("fires", "fires", "ends", "time", "listed", "absent")),
    st.sampled_from((0, 1, 5, 29, 31, 300, 29_401, 60_000)),  # seconds since the step before
    st.booleans(),  # a sender's times are relative to the beginning, so that they meet, or to when it is heard
    _times,
    _times,
    st.sampled_from(("90 %", "95 %")),
    st.sampled_from(("am-0", "am-1")),
)


def _due(watch: Watch) -> tuple[datetime, Heard]:
    """Return when time alone decides about `watch`, and what it decides."""
    if watch.state is S.DISPUTED:
        assert watch.disputed_at is not None
        due = watch.disputed_at + timedelta(seconds=30)
        return due, settled((due - at(0)).total_seconds())
    due = watch.heard_at + patience(repeat_interval_s=14_400, group_interval_s=300)
    return due, silent((due - at(0)).total_seconds())


class Life:
    """One alert's watch through a history, with what must hold at every step of any history."""

    def __init__(self) -> None:
        self.watch: Watch | None = None
        self.running = False
        self.given_up = False
        self.began: list[datetime] = []  # since it was last forgotten

    def take(self, heard: Heard) -> None:
        if heard.what == "absent" and (self.watch is None or self.watch.state not in {S.FIRING, S.DISPUTED}):
            return
        decision = hear(self.watch, heard)
        self._check(decision)
        self.watch = decision.watch
        if heard.what in {"fires", "ends", "listed"}:
            self._resend(heard)

    def _check(self, decision: Decision) -> None:
        if decision.opens is not None:
            assert not self.running
            assert decision.opens not in self.began
            self.began.append(decision.opens)
            self.running = True
        if decision.ends is not None:
            assert self.running or self.given_up
            self.running = False
        self.given_up = decision.change in {C.EXPIRED, C.GONE}
        if decision.watch is None:
            self.began = []
        assert self.running is (decision.watch is not None and decision.watch.state is S.FIRING)
        assert decision.watch is None or (decision.watch.state is S.DISPUTED) is (
            decision.watch.disputed_alert is not None
        )

    def _resend(self, heard: Heard) -> None:
        again = hear(self.watch, heard)
        assert again.change in {C.REPEATED, C.STALE}
        assert (again.opens, again.ends) == (None, None)
        assert again.watch is not None
        assert self.watch is not None
        # The checksum decides nothing but whether annotations are stored anew.
        assert again.watch == replace(self.watch, annotations_crc=again.watch.annotations_crc)

    def pass_to(self, now: datetime) -> None:
        while self.watch is not None:
            due, what = _due(self.watch)
            if due > now:
                return
            self.take(what)


@given(st.lists(_steps, max_size=20))
def test_no_history_leaves_the_table_and_a_resend_changes_nothing(
    steps: list[tuple[str, int, bool, int, int, str, str]],
) -> None:
    life, now_s = Life(), 0
    for what, pause_s, is_relative, starts, over, told, peer in steps:
        now_s += pause_s
        life.pass_to(at(now_s))
        if what != "time":
            base_s = now_s if is_relative else 0
            life.take(Heard(what, now_s, base_s + starts, base_s + over, told, peer))
