"""Rarity: what stands in every incident says nothing, whatever its name; memory is bounded and the same in a replay."""

from __future__ import annotations

import random

import pytest

from bridge.analysis.rarity import CELLS, HALVE_AT, Rarity


def after(incidents: int, *keys: str, of: int = 1) -> Rarity:
    """Return what is known after so many incidents, every `of`-th of which names `keys`."""
    rarity = Rarity()
    for number in range(incidents):
        rarity.count_incident()
        rarity.count([f"host=h{number}", *(keys if number % of == 0 else ())])
    return rarity


def test_what_was_never_named_is_as_rare_as_anything() -> None:
    assert Rarity().of("host=db-1") == 1.0


def test_what_stands_in_every_incident_says_next_to_nothing_and_what_stands_in_one_says_all() -> None:
    rarity = after(500, "monitor=prod")
    assert rarity.of("monitor=prod") < 0.05
    assert rarity.of("host=h77") == 1.0


def test_the_more_incidents_name_it_the_less_it_says() -> None:
    values = [after(200, "namespace=shop", of=of).of("namespace=shop") for of in (1, 2, 5, 10, 100)]
    assert values == sorted(values)
    assert values[0] < 0.1
    assert values[-1] == 1.0


def test_the_first_few_incidents_call_nothing_common() -> None:
    assert after(1, "service=shop").of("service=shop") == 1.0
    assert after(3, "service=shop").of("service=shop") > 0.6


def test_old_incidents_fade() -> None:
    rarity = after(HALVE_AT, "service=old")
    before = rarity.of("service=old")
    for _ in range(5 * HALVE_AT):
        rarity.count_incident()
    assert before < 0.1
    assert rarity.of("service=old") > 0.9


def test_memory_does_not_grow_and_collisions_move_little() -> None:
    rarity = Rarity()
    draw = random.Random(1)
    for _ in range(1000):
        rarity.count_incident()
        rarity.count(f"pod={draw.randrange(10**9)}" for _ in range(10))
    assert len(rarity.stored()) == 2 * CELLS + 4
    assert rarity.of("host=never-seen") > 0.95


@pytest.mark.parametrize("incidents", [0, 3, HALVE_AT + 7])
def test_it_is_stored_and_loaded_without_a_difference(incidents: int) -> None:
    rarity = after(incidents, "a=b", of=3)
    loaded = Rarity(rarity.stored())
    assert loaded.stored() == rarity.stored()
    for one in (rarity, loaded):
        one.count_incident()
        one.count(["a=b"])
    assert loaded.stored() == rarity.stored()
    assert loaded.of("a=b") == rarity.of("a=b")
