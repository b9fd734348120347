"""The figures of benchmarks/grouping.py: small cases counted by hand, and the same by the definition."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.parts.metrics import agreement, averaged, touching

GROUPINGS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=14)


def test_a_grouping_that_is_the_truth_is_perfect_whatever_its_names() -> None:
    figures = agreement("aabbc", [7, 7, 1, 1, 0])
    assert (figures.f1, figures.b3_f1, figures.ari, figures.found) == (1, 1, 1, 1)


def test_pairs_are_counted_as_by_hand() -> None:
    # Truth {1 2 3} {4 5}; groups {1 2} {3 4 5}: right pairs 12, 45; made 12, 34, 35, 45; meant 12, 13, 23, 45.
    figures = agreement("aaabb", "xxyyy")
    assert (figures.precision, figures.recall, figures.f1) == (2 / 4, 2 / 4, 1 / 2)
    assert figures.ari == pytest.approx((2 - 1.6) / (4 - 1.6))


def test_b_cubed_weighs_items() -> None:
    # Precision of 1, 2: 1; of 3: 1/3; of 4, 5: 2/3. Recall of 1, 2: 2/3; of 3: 1/3; of 4, 5: 1.
    figures = agreement("aaabb", "xxyyy")
    assert figures.b3_precision == pytest.approx((1 + 1 + 1 / 3 + 2 / 3 + 2 / 3) / 5)
    assert figures.b3_recall == pytest.approx((2 / 3 + 2 / 3 + 1 / 3 + 1 + 1) / 5)


def test_an_incident_is_found_by_a_group_that_shares_half_of_both() -> None:
    assert agreement("aaabb", "xxyyy").found == 1  # {1 2} of {1 2 3} and {4 5} of {3 4 5}: 2/3 both
    assert agreement("aaaa", "wxyz").found == 0
    assert agreement("aabb", "xxxx").found == 1  # a half of it is enough


def test_lone_items_are_no_incidents_that_are_found() -> None:
    assert agreement("aaabcd", "zzzvwx").found == 1
    assert agreement("aaabcd", "tuvwxy").found == 0


def test_whoever_merges_everything_compresses_best_and_agrees_least() -> None:
    figures = agreement("aabbccdd", "xxxxxxxx")
    assert figures.compression == 7 / 8
    assert (figures.precision, figures.recall, figures.ari) == (4 / 28, 1, 0)


def test_a_grouping_of_lone_items_only_has_no_wrong_pair() -> None:
    figures = agreement("aab", "xyz")
    assert (figures.precision, figures.recall, figures.f1) == (1, 0, 0)


@given(GROUPINGS)
def test_the_figures_are_those_of_the_definition(labels: list[tuple[int, int]]) -> None:
    truth, guess = [a for a, _ in labels], [b for _, b in labels]
    pairs = list(combinations(range(len(labels)), 2))
    made = {pair for pair in pairs if guess[pair[0]] == guess[pair[1]]}
    meant = {pair for pair in pairs if truth[pair[0]] == truth[pair[1]]}
    figures = agreement(truth, guess)
    assert figures.precision == pytest.approx(len(made & meant) / len(made) if made else 1)
    assert figures.recall == pytest.approx(len(made & meant) / len(meant) if meant else 1)
    of_group = [{i for i, b in enumerate(guess) if b == guess[place]} for place in range(len(labels))]
    of_truth = [{i for i, a in enumerate(truth) if a == truth[place]} for place in range(len(labels))]
    precise = [len(mine & true) / len(mine) for mine, true in zip(of_group, of_truth, strict=True)]
    assert figures.b3_precision == pytest.approx(sum(precise) / len(precise))


@given(GROUPINGS, st.randoms())
def test_the_order_of_items_changes_no_digit(labels: list[tuple[int, int]], dice) -> None:
    before = agreement([a for a, _ in labels], [b for _, b in labels])
    dice.shuffle(labels)
    assert agreement([a for a, _ in labels], [b for _, b in labels]) == before


def test_worlds_are_averaged_and_their_counts_added() -> None:
    figures = averaged([agreement("aab", "xxy"), agreement("aab", "xyz")])
    assert (figures.recall, figures.items, figures.groups) == (0.5, 6, 5)


def test_among_strangers_only_pairs_that_touch_a_known_incident_are_judged() -> None:
    # Known a, b. Groups {a a n} {a b} {n n}: right 1; made 3 + 1; meant 3 + 0; the two strangers alone are not judged.
    figures = touching("aanabnn", "xxxyyzz", {"a", "b"})
    assert (figures.precision, figures.recall) == (1 / 4, 1 / 3)
    assert (figures.groups, figures.strangers, figures.found) == (2, 1, 1)
