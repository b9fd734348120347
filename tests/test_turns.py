"""Whose rows are thought next."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.model import RowKind
from bridge.turns import CLOCK, ROW_BYTES, Reached, Turns, Waiting, queue_of

ALL = 1 << 40


def waiting(*tenants: str, first: int = 1, size: int = 100, kind: RowKind = RowKind.WEBHOOK) -> list[Waiting]:
    return [Waiting(number, number, name, kind, size) for number, name in enumerate(tenants, first)]


def turns(*rows: Waiting) -> Turns:
    made = Turns(Reached(0, 0))
    made.note(rows)
    return made


def taken(one: Turns, max_rows: int = 1, max_bytes: int = ALL) -> list[int]:
    """Take a turn."""
    turn = one.pick(max_rows, max_bytes)
    one.done(turn.ids)
    return list(turn.ids)


def test_one_tenant_goes_in_the_order_of_the_inbox():
    one = turns(*waiting(*"aaaaa"))
    assert [taken(one, 2) for _ in range(3)] == [[1, 2], [3, 4], [5]]
    assert one.reached == Reached(5, 5)
    assert not one


def test_who_waits_with_one_row_is_next_whatever_another_has_in_front_of_it():
    one = turns(*waiting(*"aaaaaaaaab"))
    assert taken(one) == [1]
    assert taken(one) == [10]
    assert [taken(one) for _ in range(8)] == [[number] for number in range(2, 10)]


def test_who_can_be_done_with_does_not_wait_for_those_who_wait_on():
    one = turns(*waiting(*"aaaaaaaaabc"))
    assert taken(one, 4) == [10, 11]
    assert taken(one, 4) == [1, 2, 3, 4]


def test_those_who_wait_on_have_every_other_turn_however_many_are_done_at_once():
    one = turns(*waiting(*"a" * 40))
    got = []
    for number in range(10):
        one.note(waiting(f"b{number}", first=41 + number))
        got.append(taken(one, 4))
    assert sum(1 for ids in got if any(row <= 40 for row in ids)) == 5


def test_tenants_that_all_have_a_backlog_share_alike_by_bytes():
    rows = [row for number in range(200) for row in (
        Waiting(2 * number + 1, 0, "large", RowKind.WEBHOOK, 10_000), Waiting(2 * number + 2, 0, "small", RowKind.WEBHOOK, 1000),
    )]  # fmt: skip
    one = turns(*rows)
    got = [row for _ in range(66) for row in taken(one)]
    large = sum(1 for row in got if row % 2)
    assert large * (10_000 + ROW_BYTES) == pytest.approx((66 - large) * (1000 + ROW_BYTES), rel=0.2)


def test_who_was_alone_for_long_owes_nothing_to_who_comes():
    one = turns(*waiting(*"a" * 100))
    for _ in range(50):
        taken(one)
    one.note(waiting(*"b" * 100, first=101))
    got = [row for _ in range(20) for row in taken(one)]
    assert 8 <= sum(1 for row in got if row <= 100) <= 12


def test_a_row_that_concerns_all_waits_for_those_before_it_and_those_behind_wait_for_it():
    settings = Waiting(4, 4, "a", RowKind.SETTINGS, 10)
    one = turns(*waiting(*"aab"), settings, *waiting(*"bc", first=5))
    assert sorted(taken(one, 10) + taken(one, 10)) == [1, 2, 3]
    assert taken(one, 10) == [4]
    assert taken(one, 10) == [5, 6]


def test_rows_of_all_and_the_time_are_told_by_their_kinds():
    assert queue_of("a", RowKind.CLOCK) == CLOCK
    assert queue_of("a", RowKind.STARTED) is None
    assert queue_of("", RowKind.TOPOLOGY) is None
    assert queue_of("a", RowKind.TOPOLOGY) == "a"


def test_behind_is_who_waits_with_an_older_row_than_anothers_that_was_taken():
    one = turns(*waiting(*"aaab"))
    first = one.pick(1, ALL)
    assert (first.ids, first.behind) == ((1,), frozenset())
    one.done(first.ids)
    second = one.pick(1, ALL)
    assert (second.ids, second.behind) == ((4,), {"a"})
    one.done(second.ids)
    assert one.reached == Reached(1, 2)
    assert one.pick(1, ALL).behind == {"a"}
    assert one.pick(9, ALL).behind == frozenset()


def test_what_was_picked_and_not_done_is_picked_again():
    one = turns(*waiting(*"ab"))
    assert one.pick(2, ALL) == one.pick(2, ALL)


def test_what_was_taken_before_a_restart_is_not_taken_again():
    one = Turns(Reached(1, 0), {"b": 4})
    one.note(waiting(*"abcb", first=2))
    assert taken(one, 10) == [2, 4, 5]
    assert one.reached == Reached(5, 5)


def test_a_turn_is_bounded_by_bytes_and_is_at_least_one_row():
    one = turns(*waiting(*"aaaa", size=1000))
    assert taken(one, 10, 2500) == [1, 2]
    assert taken(one, 10, 1) == [3]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 50), st.booleans()), max_size=60),
    st.lists(st.integers(1, 5), min_size=1, max_size=5),
)
def test_every_row_is_taken_once_and_each_tenants_in_order(
    told: list[tuple[str, int, bool]], most: list[int]
) -> None:
    rows = [
        Waiting(number, number, name, RowKind.STARTED if of_all and size < 5 else RowKind.WEBHOOK, size)
        for number, (name, size, of_all) in enumerate(told, 1)
    ]
    one, got = Turns(Reached(0, 0)), []
    for step, row in enumerate(rows):
        one.note([row])
        if step % 3 == 0:
            got += taken(one, most[step % len(most)], 60)
    while one:
        got += taken(one, most[len(got) % len(most)], 60)
    assert sorted(got) == [row.id for row in rows]
    assert one.reached.id == len(rows)
    for name in "abc":
        mine = [row for row in got if queue_of(rows[row - 1].tenant, rows[row - 1].kind) == name]
        assert mine == sorted(mine)
    for row in rows:
        if row.kind is RowKind.STARTED:
            assert set(got[: got.index(row.id)]) == set(range(1, row.id))
