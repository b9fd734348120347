"""The past of a series: its newest samples, whatever blocks they are in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.pipeline import histories
from bridge.pipeline.histories import History


@given(st.lists(st.integers(0, 40), max_size=30), st.integers(1, 30), st.integers(1, 9))
def test_a_past_holds_the_newest_samples_and_what_is_stored_brings_it_back(
    portions: list[int], history: int, block: int
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(histories, "HISTORY", history)
        patched.setattr(histories, "BLOCK", block)
        past, stored, lived = History(), dict[int, bytes](), 0
        for number, portion in enumerate(portions):
            past.open += [
                (100.0 + each, float(each), each % 3 == 0) for each in range(lived, lived + portion)
            ]
            lived += portion
            if number % 4 != 3:
                for first, held in past.close(lived).items():
                    if held is None:
                        del stored[first]
                    else:
                        stored[first] = held
            expected = np.arange(max(0, lived - history), lived)
            again = History(stored, tuple(past.open))
            assert again.stored() == past.stored()
            for each in (past, again):
                times_s, values, marks = each.read()
                assert times_s.tolist() == (100.0 + expected).tolist()
                assert values.tolist() == expected.tolist()
                assert marks.tolist() == (expected % 3 == 0).tolist()
        assert sum(len(held) for held in stored.values()) <= 13 * (history + block)
        assert len(stored) <= 2 + 2 * history // block


def test_times_that_are_none_are_drawn_in() -> None:
    past = History(learned=((-5.0, 1.0, False), (1e18, 2.0, False)))
    assert past.read()[0].tolist() == [0.0, 2.0**32 - 1]
