"""A partition that agrees with signed links, whatever order they come in."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from bridge.analysis.correlation import by_density, contract


def test_two_groups_that_hold_together_and_push_each_other_off() -> None:
    links = [(0, 1, 2.0), (1, 2, 2.0), (3, 4, 2.0), (2, 3, 0.5), (0, 3, -1.0), (1, 4, -1.0)]
    assert contract(6, links) == [0, 0, 0, 3, 3, 5]


def test_one_link_does_not_join_what_many_keep_apart() -> None:
    pairs = list(combinations(range(6), 2))
    links = [(a, b, 2.0 if (a < 3) == (b < 3) else -0.6) for a, b in pairs if (a, b) != (2, 3)] + [
        (2, 3, 1.5)
    ]
    assert contract(6, links) == [0, 0, 0, 3, 3, 3]


def test_without_a_positive_link_everybody_is_alone() -> None:
    assert contract(3, [(0, 1, -0.1), (1, 2, 0.0)]) == [0, 1, 2]
    assert contract(0, []) == []


weights = st.integers(-8, 8).map(lambda n: n / 2)
graphs = st.integers(2, 9).flatmap(
    lambda n: st.tuples(st.just(n), st.lists(weights, min_size=n * (n - 1) // 2, max_size=n * (n - 1) // 2))
)


@given(graphs, st.randoms())
def test_the_order_of_links_changes_nothing_and_no_join_is_left(graph, dice) -> None:
    number, drawn = graph
    links = [(a, b, weight) for (a, b), weight in zip(combinations(range(number), 2), drawn, strict=True)]
    found = contract(number, links)
    shuffled = list(links)
    dice.shuffle(shuffled)
    assert contract(number, shuffled) == found
    for one, other in combinations(sorted(set(found)), 2):
        between = sum(w for a, b, w in links if {found[a], found[b]} == {one, other})
        assert between <= 0
    assert all(found[root] == root and root <= node for node, root in enumerate(found))


def test_hdbscan_finds_the_same_plain_groups() -> None:
    links = [(a, b, 4.0 if (a < 4) == (b < 4) else -4.0) for a, b in combinations(range(8), 2)]
    assert by_density(8, links) == contract(8, links) == [0] * 4 + [4] * 4
    assert by_density(2, [(0, 1, 3.0)]) == [0, 0]
