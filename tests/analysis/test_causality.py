"""Which kinds of alerts precede which others: planted orders are found, and nothing is found where there is none."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binom

from bridge.analysis.causality import (
    FALSE_DISCOVERIES,
    LEAST_LIFT,
    MAX_EXACT,
    MIN_EVENTS,
    Causes,
    Orders,
    adjusted,
    coins_tail,
    fit_causes,
    lift_of,
)
from bridge.analysis.learning import History, Sighting
from bridge.analysis.topology import Call, Chart, Service

START = datetime(2026, 1, 5, tzinfo=UTC)
DAY_S = 86_400.0
SERVICES = (Service(name="shop"), Service(name="db"), Service(name="mail"))
CHART = Chart(origin="file", services=SERVICES, calls=(Call(0, 1),))


def sighting(at_s: float, name: str, service: str, host: str = "") -> Sighting:
    at = START + timedelta(seconds=at_s)
    labels = {"alertname": name, "service": service, **({"host": host} if host else {})}
    return Sighting(at.timestamp(), "default", f"{name} {service} {host}", at, f"t-{name}", labels)


def found(sightings: list[Sighting], *charts: Chart) -> Causes:
    return fit_causes(History(sightings, families={}, vectors={}, charts=charts or (CHART,), label="service"))


def orders(causes: Causes) -> set[tuple[str, str]]:
    return {(edge.earlier.removeprefix("t:t-"), edge.later.removeprefix("t:t-")) for edge in causes.edges}


def lone(dice: random.Random, name: str, number: int, days: int = 6, services: int = 2) -> list[Sighting]:
    """Let alerts come whenever they like."""
    return [
        sighting(dice.uniform(0, days * DAY_S), name, f"s{dice.randrange(services)}", f"h{dice.randrange(3)}")
        for _ in range(number)
    ]


def planted(seed: int, *, faults: int = 30, wrong: float = 0.0) -> list[Sighting]:
    """Let a slow database be felt by the shop 20 to 40 s later, `wrong` of the times before."""
    dice = random.Random(seed)
    told = [*lone(dice, "Mail", 150), *lone(dice, "Disk", 60)]
    for _ in range(faults):
        at = dice.uniform(0, 6 * DAY_S)
        lag = dice.uniform(20, 40) * (-1 if dice.random() < wrong else 1)
        told += [sighting(at, "DbSlow", "db", f"db-{n}") for n in range(dice.randint(1, 3))]
        told += [sighting(at + lag + dice.uniform(0, 9), "ShopErrors", "shop", f"shop-{n}") for n in range(4)]
    return told


@pytest.mark.parametrize("seed", range(5))
def test_a_planted_order_is_found_with_its_lag_and_no_other(seed: int) -> None:
    causes = found(planted(seed, wrong=0.1))
    assert orders(causes) == {("DbSlow", "ShopErrors")}
    (edge,) = causes.edges
    assert 20 <= edge.lag_s <= 42
    assert edge.first / edge.events > 0.75
    assert edge.lift > edge.lift_low > LEAST_LIFT
    assert edge.p <= edge.q < FALSE_DISCOVERIES


def test_topology_supports_an_order_against_the_calls_and_not_a_learned_chart() -> None:
    assert found(planted(1)).edges[0].supported
    callee = Chart(origin="file", services=SERVICES, calls=(Call(1, 0),))
    (edge,) = found(planted(1), callee).edges
    assert edge.related
    assert not edge.supported
    learned = Chart(origin="learned", services=SERVICES, calls=(Call(0, 1),))
    assert not found(planted(1), learned).edges[0].supported


def test_independent_alerts_precede_nothing() -> None:
    worlds = []
    for seed in range(50):
        dice = random.Random(seed)
        rates = [dice.choice((10, 60, 240)) for _ in range(10)]
        worlds.append([each for kind, rate in enumerate(rates) for each in lone(dice, f"K{kind}", rate)])
    assert sum(bool(found(world).edges) for world in worlds) <= 1


def test_bursts_of_one_kind_and_single_alerts_of_another_have_no_order() -> None:
    """Neither the loud kind comes first because it is loud, nor the rare one because a burst is long."""
    wrong = 0
    for seed in range(30):
        dice = random.Random(seed)
        told = []
        for number in range(60):
            at = number * 8000.0 + dice.uniform(0, 1500)
            told += [sighting(at + step * 5, "Loud", "s0", f"h{step}") for step in range(dice.randint(8, 20))]
            told.append(sighting(number * 8000.0 + dice.uniform(0, 1500), "Rare", "s0", "r"))
        wrong += bool(found(told).edges)
    assert wrong <= 1


def test_a_common_cause_that_shows_in_either_order_has_no_direction() -> None:
    dice = random.Random(4)
    told = lone(dice, "Mail", 100)
    for _ in range(60):
        at = dice.uniform(0, 6 * DAY_S)
        told += [sighting(at + dice.uniform(0, 60), kind, "db") for kind in ("DbSlow", "DbErrors")]
    causes = found(told)
    assert causes.asked
    assert not causes.edges


def test_alerts_that_return_say_one_thing_and_not_one_at_each_return() -> None:
    told = [
        sighting(fault * DAY_S + turn * 1000.0 + lag_s, name, service)
        for fault in range(4)
        for turn in range(3)
        for lag_s, name, service in ((0, "DbSlow", "db"), (90, "ShopErrors", "shop"))
    ]
    assert found(told) == Causes()


def test_a_loud_kind_does_not_come_first_because_it_is_loud() -> None:
    """Four alerts of one kind and one of another within a minute, in any order."""
    wrong = 0
    for seed in range(10):
        dice = random.Random(seed)
        told = lone(dice, "Mail", 60)
        for _ in range(80):
            at = dice.uniform(0, 6 * DAY_S)
            told += [sighting(at + dice.uniform(0, 60), "DbSlow", "db", f"db-{n}") for n in range(4)]
            told.append(sighting(at + dice.uniform(0, 60), "DbErrors", "db"))
        wrong += bool(found(told).edges)
    assert wrong <= 1


def test_what_comes_together_no_more_often_than_what_is_moved_stands_out_from_nothing() -> None:
    """Every three hours: moved by six or by twelve the two meet as well."""
    told = []
    for number in range(60):
        at = number * 10_800.0
        told += [sighting(at, "DbSlow", "db"), sighting(at + 20, "ShopErrors", "shop")]
    assert not found(told).edges


def test_first_alerts_of_one_moment_have_no_order() -> None:
    dice = random.Random(5)
    told = []
    for _ in range(40):
        at = dice.uniform(0, 6 * DAY_S)
        told += [sighting(at, "DbSlow", "db"), sighting(at + 0.4, "ShopErrors", "shop")]
    assert found(told) == Causes()


def test_an_order_that_was_seen_too_seldom_is_not_told() -> None:
    assert not found(planted(2, faults=MIN_EVENTS - 1)).edges
    assert found(planted(2, faults=3 * MIN_EVENTS)).edges


def test_what_is_always_near_everything_stands_out_from_nothing() -> None:
    dice = random.Random(6)
    told = []
    for number in range(800):
        at = number * 600.0
        told += [sighting(at, "DbSlow", "db"), sighting(at + 20 + dice.uniform(0, 9), "ShopErrors", "shop")]
    assert not found(told).edges


def test_too_short_a_history_says_nothing() -> None:
    assert found([]) == Causes()
    assert found([sighting(at, f"K{at % 2}", "db") for at in range(0, 5000, 100)]) == Causes()


def test_the_order_in_which_sightings_come_in_changes_nothing() -> None:
    told = planted(3)
    shuffled = told[:]
    random.Random(1).shuffle(shuffled)
    assert found(told) == found(shuffled)


def test_what_lies_after_the_slice_is_not_looked_at() -> None:
    told = sorted(planted(7), key=lambda each: each.at_s)
    whole = History(told, families={}, vectors={}, charts=(CHART,), label="service")
    half = History(told[:150], families={}, vectors={}, charts=(CHART,), label="service")
    assert fit_causes(whole, until=150).edges == fit_causes(half).edges != fit_causes(whole).edges


def test_what_was_found_survives_storage_and_is_asked_in_its_order() -> None:
    causes = found(planted(1))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(causes), type=Causes) == causes
    known = Orders(causes)
    assert known.edge("t:t-DbSlow", "t:t-ShopErrors", related=True) == causes.edges[0]
    assert known.edge("t:t-ShopErrors", "t:t-DbSlow", related=True) is None
    assert known.edge("t:t-DbSlow", "t:t-ShopErrors", related=False) is None


# ---- the statistics ------------------------------------------------------------------------------------------


@given(st.integers(1, 60), st.integers(0, 60), st.floats(0.5, 0.95))
def test_the_tail_of_equal_coins_is_the_binomial_one(coins: int, heads: int, chance: float) -> None:
    heads = min(heads, coins)
    told = coins_tail(heads, np.full(coins, chance))
    exact = float(binom.sf(heads - 1, coins, chance))
    assert told == pytest.approx(exact, abs=1e-9) or (told == 1.0 and heads <= coins * chance)


@given(st.integers(MAX_EXACT + 1, 900), st.floats(0.5, 0.9), st.floats(0, 1))
def test_the_bound_for_many_coins_is_never_below_the_tail(coins: int, chance: float, share: float) -> None:
    heads = round(coins * share)
    assert coins_tail(heads, np.full(coins, chance)) >= float(binom.sf(heads - 1, coins, chance)) - 1e-12


@given(st.lists(st.floats(0, 1), max_size=40))
def test_adjusted_values_are_ascending_and_no_smaller_than_what_they_adjust(values: list[float]) -> None:
    values.sort()
    told = adjusted(values)
    assert told == sorted(told)
    assert all(p <= q + 1e-12 for p, q in zip(values, told, strict=True))


def test_the_adjusted_values_of_a_known_list() -> None:
    assert adjusted([0.01, 0.02, 0.03, 0.5]) == pytest.approx([0.04, 0.04, 0.04, 0.5])


@given(st.integers(5, 300), st.integers(0, 400), st.sampled_from([2, 4, 8]))
def test_the_bound_of_the_lift_is_near_the_exact_one(seen: int, chance: int, looks: int) -> None:
    """Exact: of all occasions seen in `looks` + 1 looks a binomial share is that of the unmoved one."""
    _, low = lift_of(seen, chance, looks)
    share = float(beta.ppf(0.05, seen, chance + 1))
    assert low < 1.25 * looks * share / (1 - share)
