"""Rounds: what stands and what left is agreed on by rounds over all peers, and few of them are worth a row."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from builders import at
from hypothesis import given
from hypothesis import strategies as st

from bridge.analysis.rounds import AGAIN_S, CONTENT_AGAIN_S, Answer, Found, Rounds, Standing, settle_s
from bridge.model import Fault, Listed, Listing

SETTLE_S = 60.0
ONE, TWO = "http://am-0", "http://am-1"


def lists(*names: str, young: bool = False, faults: tuple[Fault, ...] = (), **changes: Any) -> Answer:
    """Return the answer of a peer that lists alerts of these names."""
    usual: dict[str, Any] = {
        "suppressed": "",
        "unprocessed": False,
        "receivers": ("tocsin",),
        "starts_at": at(0),
    }
    alerts = tuple(
        Listed(
            fingerprint=name, labels={"alertname": name}, annotations={}, generator_url="", **(usual | changes)
        )
        for name in names
    )  # fmt: skip
    return Answer(listing=Listing(alerts=alerts, faults=faults), is_young=young)


class Bench:
    """Rounds over two peers, each told when there is something to tell."""

    def __init__(self) -> None:
        self.rounds = Rounds((ONE, TWO), receiver="tocsin", settle_s=SETTLE_S)

    def ask(self, second: float, one: Answer | None, two: Answer | None, **options: bool) -> Found | None:
        """Let a round begin; what it finds is told a second later."""
        self.rounds.take({ONE: one, TWO: two}, second)
        found = self.rounds.row(second + 1, **options)
        if found is not None:
            self.rounds.told(found, second + 1)
        return found

    def both(self, second: float, *names: str, **options: Any) -> Found | None:
        return self.ask(second, lists(*names, **options), lists(*names, **options))


def only(found: Found | None) -> Standing:
    assert found is not None
    (standing,) = found.listed
    return standing


def test_two_group_intervals_settle() -> None:
    assert settle_s(300) == 600


def test_the_first_round_tells_all_it_knows() -> None:
    found = Bench().both(0, "A")
    assert found is not None
    assert (found.asked, found.silent, found.began_s, found.settled) == (2, (), 1.0, False)
    standing = only(found)
    assert standing.content is None  # nothing follows from it yet
    assert (standing.everywhere, standing.ours, standing.stands) == (True, True, False)


def test_what_every_round_lists_stands_after_the_settling_time_and_says_so_once() -> None:
    bench = Bench()
    bench.both(0, "A")
    assert bench.both(30, "A") is None
    standing = only(bench.both(60, "A"))
    assert standing.stands
    assert standing.content is not None
    assert standing.content.labels == {"alertname": "A"}
    assert bench.both(90, "A") is None


def test_one_round_is_not_enough_however_short_the_settling_time_is() -> None:
    rounds = Rounds((ONE,), receiver="tocsin", settle_s=0.001)
    rounds.take({ONE: lists("A")}, 0)
    assert not only(rounds.row(1)).stands


def test_an_alert_that_went_and_came_back_stands_anew() -> None:
    bench = Bench()
    bench.both(0, "A")
    bench.both(30)
    bench.both(40, "A")
    assert not only(bench.both(70, "A", suppressed="silenced")).stands
    assert only(bench.both(100, "A", suppressed="silenced")).stands


def test_what_left_is_told_with_its_age_until_that_is_over_the_settling_time() -> None:
    bench = Bench()
    bench.both(0, "A", "B")
    left = bench.both(30, "B")
    assert left is not None
    assert left.left == {"A": 1.0}
    assert bench.both(60, "B") is not None  # B stands, rounds are settled
    gone = bench.both(90, "B")
    assert gone is not None
    assert (gone.left, gone.settled) == ({"A": 61.0}, True)
    assert bench.both(120, "B") is None


def test_nothing_leaves_in_a_round_in_which_a_peer_is_silent_or_has_just_started() -> None:
    for other in (None, lists(young=True)):
        bench = Bench()
        bench.both(0, "A")
        found = bench.ask(30, lists(), other)
        assert found is not None
        assert (found.silent, found.left, found.settled) == ((TWO,), {}, False)


def test_rounds_are_settled_only_after_an_unbroken_series_of_whole_ones() -> None:
    bench = Bench()
    bench.both(0)
    bench.ask(30, lists(), None)
    assert (found := bench.both(60)) is not None
    assert not found.settled
    assert bench.both(90) is None
    assert (found := bench.both(120)) is not None
    assert found.settled


def test_peers_that_do_not_agree() -> None:
    bench = Bench()
    active = lists("A", starts_at=at(5), receivers=("pager",))
    held = lists("A", suppressed="silenced", starts_at=at(3))
    standing = only(bench.ask(0, active, held))
    assert (standing.suppressed, standing.starts_at, standing.everywhere, standing.ours) == (
        "",
        at(3),
        True,
        True,
    )
    assert only(Bench().ask(0, held, active)).suppressed == ""
    assert only(bench.ask(30, held, held)).suppressed == "silenced"
    alone = only(bench.ask(60, lists(), lists("A", receivers=("pager",))))
    assert (alone.everywhere, alone.ours) == (False, False)


def test_what_one_peer_has_looked_at_is_looked_at() -> None:
    fresh, known = lists("A", unprocessed=True), lists("A")
    assert only(Bench().ask(0, fresh, fresh)).unprocessed
    assert not only(Bench().ask(0, fresh, known)).unprocessed


def test_a_round_that_says_the_same_is_told_seldom_or_when_somebody_waits() -> None:
    bench = Bench()
    bench.both(0)
    bench.both(60)
    assert bench.both(90) is None
    assert bench.ask(95, lists(), lists(), wanted=True) is not None
    assert bench.both(95 + AGAIN_S - 1) is None
    assert bench.both(95 + AGAIN_S) is not None


def test_annotations_that_change_all_the_time_are_no_news_and_are_told_anew_now_and_then() -> None:
    bench = Bench()
    told = [bench.both(minute * 60.0, "A") for minute in range(115)]
    contents = [only(found).content for found in told if found is not None]
    assert len(contents) - contents.count(None) == 2
    assert len(contents) == pytest.approx(115 * 60 / AGAIN_S, abs=2)


def test_what_came_back_is_told_of_anew_once_something_may_follow_from_it() -> None:
    bench = Bench()
    for second in (0.0, 60.0):
        bench.both(second, "A")
    bench.both(90)
    assert only(bench.both(100, "A")).content is None
    assert only(bench.both(160, "A")).content is not None


def test_what_is_held_back_is_told_of_at_once_and_what_others_get_is_not() -> None:
    assert only(Bench().both(0, "A", suppressed="silenced")).content is not None
    bench = Bench()
    bench.both(0, "A", receivers=("pager",))
    assert only(bench.both(60, "A", receivers=("pager",))).content is None


def test_a_row_that_did_not_get_in_is_told_again() -> None:
    rounds = Rounds((ONE,), receiver="tocsin", settle_s=SETTLE_S)
    rounds.take({ONE: lists("A")}, 0)
    first = rounds.row(1)
    rounds.take({ONE: lists("A")}, 30)
    again = rounds.row(31)
    assert first is not None
    assert again == msgspec.structs.replace(first, began_s=1.0)


def test_a_fault_that_stays_in_the_list_is_told_once() -> None:
    fault = Fault(reason="unusable alert", body=b"7")
    bench = Bench()
    found = bench.ask(0, lists(faults=(fault,)), lists())
    assert found is not None
    assert [each.reason for each in found.unusable] == ["unusable alert"]
    assert bench.ask(30, lists(faults=(fault,)), lists()) is None


def test_memory_does_not_grow_while_a_peer_is_dead() -> None:
    bench = Bench()
    for number in range(400):
        bench.ask(number * 30.0, lists(f"pod-{number}"), None)
    rounds = bench.rounds
    assert len(rounds._first_s) + len(rounds._left_s) <= 2
    assert len(rounds._content_told_s) <= CONTENT_AGAIN_S / 30 + 1


answers = st.one_of(
    st.none(),
    st.builds(
        lambda names, young, held: lists(*names, young=young, suppressed=held),
        st.sets(st.sampled_from("ABC")).map(sorted), st.booleans(), st.sampled_from(["", "silenced"]),
    ),
)  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from([1.0, 30.0, 61.0]), answers, answers), max_size=12))
def test_what_is_always_so(steps: list[tuple[float, Answer | None, Answer | None]]) -> None:
    bench, second = Bench(), 0.0
    for pause_s, one, two in steps:
        second += pause_s
        found = bench.ask(second, one, two)
        if found is None:
            continue
        listed = {standing.fingerprint for standing in found.listed}
        assert not listed & set(found.left)
        assert not (found.settled and found.silent)
        assert msgspec.json.decode(msgspec.json.encode(found), type=Found) == found
        assert bench.rounds.row(second + 1) is None  # it is told
