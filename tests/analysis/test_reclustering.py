"""What a new partition of alerts asks of the incidents that they are in, and what two rounds agree on."""

from __future__ import annotations

from collections import Counter

import pytest
from groups import episode, group
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from timeline import START

from bridge.analysis.incidents import EpisodeKey, Group
from bridge.analysis.reclustering import Wish, agreed, wishes


def key(number: int) -> EpisodeKey:
    return ("default", f"alert-{number:02}", START)


def keys(*numbers: int) -> tuple[EpisodeKey, ...]:
    return tuple(key(number) for number in numbers)


def asked(clusters: str, homes: str) -> list[Wish]:
    """Return the wishes for alerts of which alert n is in cluster `clusters[n]` and in incident `homes[n]`.

    Incidents are as old as their letters are early.
    """
    partition = {key(number): ord(cluster) for number, cluster in enumerate(clusters)}
    home = {key(number): name for number, name in enumerate(homes)}
    return wishes(partition, home, {name: aged(name) for name in set(homes)})


def aged(name: str) -> Group:
    found = group([episode()], opened=ord(name))
    found.head = replace(found.head, id=name)
    return found


def said(found: list[Wish]) -> list[str]:
    """Return wishes in short: `b>a` all of b, `b>a 12` alerts 1 and 2 of it, `b> 12` on their own."""
    return [
        f"{wish.source}>{wish.target} {''.join(str(int(each[1][-2:])) for each in wish.keys)}".rstrip()
        for wish in found
    ]


@pytest.mark.parametrize(
    ("clusters", "homes", "wanted"),
    [
        ("", "", []),
        ("1122", "aabb", []),  # as it is
        ("1111", "aabb", ["b>a"]),  # of equals the older takes in
        ("11111", "abbbb", ["a>b"]),  # the larger takes in
        ("111222", "aaaaaa", ["a> 345"]),  # of two halves the first keeps the name
        ("122", "aaa", ["a> 0"]),  # the larger part keeps the name
        ("1122", "aaab", ["a>b 2"]),  # a part goes where the rest of its cluster is
        ("11222", "aaabb", ["a>b 2"]),
        ("123", "aaa", ["a> 1", "a> 2"]),  # all fall apart
        ("111333", "aabbbb", ["b>a 2"]),  # not the smaller part's whole incident
        ("1112223", "aaaabba", ["a>b 3", "a> 6"]),
        (
            "112233",
            "ababab",
            ["b>a 1", "a> 2", "a> 4"],
        ),  # who has most there, or is older, is asked for first
    ],
)
def test_what_a_partition_asks(clusters: str, homes: str, wanted: list[str]) -> None:
    assert said(asked(clusters, homes)) == wanted


def test_wishes_do_not_depend_on_the_order_of_alerts() -> None:
    clusters, homes = "1112223", "aaaabba"
    partition = {key(number): ord(cluster) for number, cluster in enumerate(clusters)}
    home = {key(number): name for number, name in enumerate(homes)}
    groups = {name: aged(name) for name in "ab"}
    turned = dict(reversed(partition.items()))
    assert wishes(turned, dict(reversed(home.items())), groups) == wishes(partition, home, groups)


drawn = st.lists(st.tuples(st.sampled_from("1234"), st.sampled_from("abcd")), max_size=14)


@given(drawn)
def test_each_alert_is_wished_for_at_most_once_and_no_split_empties_an_incident(
    pairs: list[tuple[str, str]],
) -> None:
    homes = [home for _, home in pairs]
    found = asked("".join(cluster for cluster, _ in pairs), "".join(homes))
    moved: Counter[EpisodeKey] = Counter()
    sizes = Counter(homes)
    for wish in found:
        assert wish.source != wish.target
        mine = wish.keys or tuple(key(number) for number, home in enumerate(homes) if home == wish.source)
        moved.update(mine)
        assert all(homes[int(each[1][-2:])] == wish.source for each in mine)
    assert all(number == 1 for number in moved.values())
    for name, size in sizes.items():
        split = sum(len(wish.keys) for wish in found if wish.source == name and not wish.target)
        leaving = sum(len(wish.keys) for wish in found if wish.source == name)
        assert split < size
        assert leaving < size or not split, "if all of it is others', nothing is split off"


@given(drawn)
def test_granting_wishes_round_after_round_ends_in_the_partition(pairs: list[tuple[str, str]]) -> None:
    clusters, homes = [cluster for cluster, _ in pairs], [home for _, home in pairs]
    for turn in range(12):
        found = asked("".join(clusters), "".join(homes))
        if not found:
            break
        wish = found[0]
        target = wish.target or chr(ord("e") + turn)
        mine = {int(each[1][-2:]) for each in wish.keys} or {
            n for n, home in enumerate(homes) if home == wish.source
        }
        homes = [target if number in mine else home for number, home in enumerate(homes)]
    assert len(set(zip(clusters, homes, strict=True))) == len(set(clusters)) == len(set(homes)) or not pairs


# ---- two rounds ------------------------------------------------------------------------------------------

MERGE = Wish(source="b", target="a")
PART = Wish(source="b", target="a", keys=keys(1))
MORE = Wish(source="b", target="a", keys=keys(1, 2))
SPLIT = Wish(source="b", target="", keys=keys(1))


def anything(wish: Wish) -> bool:
    del wish
    return True


def test_a_wish_acts_in_the_second_round_that_has_it() -> None:
    acting, waiting = agreed([MERGE, SPLIT], (), anything)
    assert acting == []
    acting, waiting = agreed([SPLIT, PART], waiting, anything)
    assert acting == [SPLIT]
    assert waiting == (PART.name,)


def test_a_wish_that_a_round_does_not_have_begins_anew() -> None:
    _, waiting = agreed([MERGE], (), anything)
    _, waiting = agreed([], waiting, anything)
    assert agreed([MERGE], waiting, anything) == ([], (MERGE.name,))


def test_a_part_is_the_same_wish_with_other_alerts_but_all_of_it_is_another() -> None:
    _, waiting = agreed([PART], (), anything)
    assert agreed([MORE], waiting, anything)[0] == [MORE]
    assert agreed([MERGE], waiting, anything)[0] == []
    assert len({MERGE.name, PART.name, SPLIT.name}) == 3


def test_what_may_not_be_neither_acts_nor_waits() -> None:
    assert agreed([MERGE, SPLIT], (MERGE.name,), lambda wish: wish is SPLIT) == ([], (SPLIT.name,))
