"""What was answered about pairs is asked once, and said again for as many pairs as come."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.analysis import answers
from bridge.analysis.answers import Answers

NUMBERS = st.integers(0, 30)


def answered(one: int, other: int) -> int:
    return (7 * one + other) % 100


@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=60), st.sampled_from([0, 5, 31, 1024]))
def test_answers_are_the_same_in_a_square_and_by_pair(pairs: list[tuple[int, int]], square: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(answers, "MAX_SQUARE", square)
        asked: list[tuple[int, int]] = []
        things: list[int] = []
        known = Answers(lambda one, other: asked.append((one, other)) or answered(one, other), things)
        for begin in range(0, len(pairs), 7):  # there are more things each time
            part = np.array(pairs[begin : begin + 7], np.int64)
            things.extend(range(len(things), int(part.max()) + 1))
            found = known.of(part[:, 0], part[:, 1])
            assert found.tolist() == [answered(one, other) for one, other in part.tolist()]
    if square in {0, 1024}:
        assert len(asked) == len(set(asked)), "each is asked about once"


def test_one_thing_stands_in_all_pairs() -> None:
    known = Answers(answered, range(40))
    many = np.array([3, 39, 0, 3])
    assert known.of(many, np.int64(5)).tolist() == [answered(one, 5) for one in many.tolist()]
    assert known.of(np.int64(5), many).tolist() == [answered(5, one) for one in many.tolist()]


def test_only_what_is_outside_the_square_is_remembered_without_bound() -> None:
    many = np.arange(answers.MAX_SQUARE + 1)
    few, more = Answers(answered, range(100)), Answers(answered, many.tolist())
    few.of(many[:100], many[:100])
    more.of(many, many)
    assert (len(few), len(more)) == (0, len(many))
