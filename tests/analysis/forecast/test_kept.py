"""What was told is kept in columns, the newest of it, exactly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.analysis.forecast.kept import ACTED, Kept, KeptState, columns_of

probability = st.floats(0.001, 0.999)


@given(st.lists(st.tuples(probability, probability, st.integers(0, 7)), max_size=30), st.integers(1, 12))
def test_the_newest_are_kept_and_come_back_equal(rows, most):
    kept = Kept(most)
    for number, (reference, mixed, flags) in enumerate(rows):
        kept.add(number * 3600.0, reference, mixed, flags)
    assert len(kept) == min(most, len(rows))
    assert Kept(most, kept.state()).state() == kept.state()
    newest = [(number, *row) for number, row in enumerate(rows)][-most:]
    learned = [row for row in newest if not row[3] & ACTED]
    found = columns_of(kept.state())
    assert found.origins.tolist() == [number * 3600.0 for number, *_ in learned]
    assert found.mixed.tolist() == [mixed for _, _, mixed, _ in learned]
    assert found.happened.tolist() == [bool(flags & 1) for *_, flags in learned]


def test_what_people_acted_on_is_not_learned_from():
    kept = Kept(10)
    for number in range(5):
        kept.add(float(number), 0.1, 0.2, 0)
    kept.act(0.0, 3.0)
    assert columns_of(kept.state()).origins.tolist() == [0.0, 3.0, 4.0]


def test_fewer_can_be_stored():
    kept = Kept(10)
    for number in range(5):
        kept.add(float(number), 0.1, 0.2, 0)
    assert columns_of(kept.state(2)).origins.tolist() == [3.0, 4.0]


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="different lengths"):
        Kept(3, KeptState(origins=b"\0" * 8))
