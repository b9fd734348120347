"""Events as columns: counts by binary search are those of a plain loop."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bridge.analysis.forecast.features import features, kinds_of
from bridge.analysis.forecast.occurrences import Occurrence, Occurrences

times = st.integers(0, 400_000).map(float)
event = st.builds(
    Occurrence,
    times,
    st.none() | times,
    st.sampled_from(["", "a", "b|c", "b, c"]),
    st.sampled_from(["", "minor"]),
    st.text(max_size=20),
)


@given(st.lists(event, max_size=30), times, times)
def test_counts_are_those_of_a_loop(rows, since, until):
    events = Occurrences(rows)
    at = np.array([max(since, until)])
    begin = np.array([min(since, until)])
    good = [each for each in rows if each.end_s is not None and each.end_s >= each.start_s]
    assert events.begun(begin, at)[0] == sum(begin[0] < each.start_s <= at[0] for each in rows)
    assert events.ended(begin, at)[0] == sum(begin[0] < each.end_s <= at[0] for each in good)
    still = [each for each in rows if begin[0] < each.start_s <= at[0]]
    gone = [each for each in still if each in good and each.end_s <= at[0] and each.end_s > begin[0]]
    assert events.open_since(begin, at)[0] == len(still) - len(gone)


@given(st.lists(event, max_size=30), times)
def test_a_row_of_features_knows_nothing_of_what_comes_after(rows, now):
    known = [
        Occurrence(each.start_s, each.end_s if each.end_s is not None and each.end_s <= now else None, each.entity, each.severity, each.text)
        for each in rows if each.start_s <= now
    ]  # fmt: skip
    origin = np.array([now])
    assert (features(origin, Occurrences(rows)) == features(origin, Occurrences(known))).all()


def test_columns_are_as_many_as_their_kinds():
    events = Occurrences([Occurrence(1.0)])
    assert features(np.array([2.0]), events).shape == (1, len(kinds_of(1)))
    assert features(np.array([2.0]), events, events).shape == (1, len(kinds_of(2)))


def test_of_one_entity_or_severity():
    events = Occurrences(
        [Occurrence(1.0, None, "a|b", "minor"), Occurrence(2.0, None, "b", "major"), Occurrence(3.0)]
    )
    assert events.of(entity="b").starts.tolist() == [1.0, 2.0]
    assert events.of(severity="major").starts.tolist() == [2.0]
    assert events.of(entity="b", severity="minor").starts.tolist() == [1.0]
