"""Whose alerts precede whose: found where it is so, and not where chance or a common cause made it look so."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from timeline import START

from bridge.analysis import precedence
from bridge.analysis.precedence import (
    LAG_S,
    MAX_BESIDE,
    MAX_ONSETS,
    MAX_ORDERS,
    QUIET_S,
    SHIFT_S,
    Onset,
    Order,
    Pair,
    coin_tail,
    halved,
    hear,
    key_of,
    learned,
    surplus,
)
from bridge.analysis.topology import Service


class Ear:
    """Hears alerts at seconds from the beginning."""

    def __init__(self) -> None:
        self.onsets: tuple[Onset, ...] = ()
        self.orders: dict[Pair, Order] = {}

    def hears(self, at_s: float, service: str, *, started_s: float | None = None) -> None:
        starts_at = moment(at_s if started_s is None else started_s)
        heard = hear(self.onsets, key(service), starts_at, moment(at_s))
        if heard is not None:
            self.onsets = heard.onsets
            for pair in heard.near:
                order = self.orders.get(pair, Order())
                self.orders[pair] = Order(near=order.near + 1, apart=order.apart)
            for pair in heard.apart:
                order = self.orders.get(pair, Order())
                self.orders[pair] = Order(near=order.near, apart=order.apart + 1)

    def counted(self) -> dict[str, tuple[int, int]]:
        return {f"{name(a)} {name(b)}": (each.near, each.apart) for (a, b), each in self.orders.items()}


def moment(at_s: float) -> datetime:
    return START + timedelta(seconds=at_s)


def key(service: str) -> str:
    found = key_of(Service(name=service))
    assert found is not None
    return found


def name(key: str) -> str:
    return key.rpartition(chr(31))[2]


def said(orders: dict[Pair, Order]) -> list[str]:
    chart = learned(orders)
    names = [service.title for service in chart.services]
    return [f"{names[call.callee]} precedes {names[call.caller]}: {call.evidence}" for call in chart.calls]


def after_heard(times: Iterable[tuple[float, str]]) -> dict[Pair, Order]:
    ear = Ear()
    for at_s, service in sorted(times):
        ear.hears(at_s, service)
    return ear.orders


# ---- counting --------------------------------------------------------------------------------------------


def test_an_onset_is_counted_with_those_shortly_before():
    ear = Ear()
    for at_s, service in ((0, "db"), (100, "shop"), (LAG_S, "web"), (LAG_S + 101, "late")):
        ear.hears(at_s, service)
    assert ear.counted() == {"db shop": (1, 0), "shop web": (1, 0), "db web": (1, 0), "web late": (1, 0)}


def test_a_storm_counts_once():
    ear = Ear()
    for at_s in range(0, 7200, 20):
        ear.hears(at_s, "db")
        ear.hears(at_s + 10, "shop")
    assert ear.counted() == {"db shop": (1, 0)}
    ear.hears(7200 + QUIET_S, "db")
    ear.hears(7210 + QUIET_S, "shop")
    assert ear.counted() == {"db shop": (2, 0)}


def test_it_counts_when_an_alert_started_and_not_when_it_was_heard():
    ear = Ear()
    ear.hears(100, "shop", started_s=90)
    ear.hears(200, "db", started_s=60)
    assert ear.counted() == {"db shop": (1, 0)}


def test_a_wrong_clock_does_little_harm():
    ear = Ear()
    ear.hears(1000, "db", started_s=10**8)
    ear.hears(1100, "shop", started_s=-(10**8))
    first, second = ear.onsets
    assert second.at_ms - first.at_ms == (100 - LAG_S) * 1000


def test_what_starts_together_has_no_order():
    ear = Ear()
    ear.hears(0, "db")
    ear.hears(0, "shop")
    assert ear.counted() == {}


def test_chance_is_the_same_pair_half_an_hour_apart():
    ear = Ear()
    ear.hears(0, "db")
    ear.hears(SHIFT_S + 100, "shop")
    ear.hears(SHIFT_S + LAG_S + 100, "web")
    assert ear.counted() == {"db shop": (0, 1), "shop web": (1, 0)}


def test_memory_is_bounded():
    ear = Ear()
    for number in range(1000):
        ear.hears(number, f"s{number}")
    assert len(ear.onsets) == MAX_ONSETS
    assert sum(each.near for each in ear.orders.values()) <= 1000 * MAX_BESIDE
    orders = {(f"a{number}", "b"): Order(near=number % 7) for number in range(MAX_ORDERS + 1)}
    dropped = surplus(orders)
    assert len(orders) - len(dropped) == MAX_ORDERS // 2
    assert min(orders[pair].near for pair in orders.keys() - set(dropped)) >= max(
        orders[pair].near for pair in dropped
    )
    assert surplus(dict(list(orders.items())[1:])) == []
    assert surplus(dict(reversed(orders.items()))) == dropped


def test_a_storm_of_too_many_services_counts_no_further():
    """Its beginning is forgotten, and with it what chance brings."""
    ear = Ear()
    for number in range(MAX_ONSETS):
        ear.hears(number * 10, f"s{number}")
    before = dict(ear.orders)
    ear.hears(MAX_ONSETS * 10, "one-more")
    assert ear.orders == before


def test_counts_fade_to_nothing():
    assert halved(Order(near=5, apart=1)) == Order(near=2)
    assert halved(Order(near=1, apart=1)) is None


@pytest.mark.parametrize("service", [Service(name="x" * 300), Service(name="a", namespace=chr(31))])
def test_names_that_no_table_should_hold_are_not_counted(service: Service):
    assert key_of(service) is None


@given(st.lists(st.tuples(st.floats(0, 4000), st.sampled_from("abcd")), max_size=40))
def test_every_pair_is_counted_with_two_services_and_in_bounds(times: list[tuple[float, str]]):
    orders = after_heard(times)
    assert all(one != other for one, other in orders)
    assert sum(each.near + each.apart for each in orders.values()) <= 2 * MAX_BESIDE * len(times)


# ---- learning --------------------------------------------------------------------------------------------


def incidents(count: int, draw: random.Random) -> list[float]:
    return [number * 20_000 + draw.uniform(0, 5000) for number in range(count)]


def test_what_always_precedes_is_learned_with_its_evidence():
    draw = random.Random(1)
    times = [
        (at + lag, service)
        for at in incidents(15, draw)
        for service, lag in (("db", 0), ("shop", draw.uniform(5, 200)))
    ]
    assert said(after_heard(times)) == ["db precedes shop: first in 15 of 15, p<0.001"]


def test_a_few_times_are_no_evidence():
    times = [
        (at + lag, service)
        for at in incidents(6, random.Random(1))
        for service, lag in (("db", 0), ("shop", 60))
    ]
    assert said(after_heard(times)) == []


def test_what_comes_together_in_either_order_is_not_learned():
    draw = random.Random(2)
    times = [(at + draw.uniform(0, 120), service) for at in incidents(60, draw) for service in ("db", "shop")]
    assert said(after_heard(times)) == []


def test_what_is_always_there_precedes_nothing():
    """A service that alerts every 31 minutes is before anything, and as often half an hour earlier."""
    draw = random.Random(3)
    end = 60 * 20_000
    times = [(at, "flap") for at in range(0, end, 1860)] + [(at, "shop") for at in incidents(60, draw)]
    assert said(after_heard(times)) == []


def test_chance_is_hardly_ever_taken_for_an_order():
    """200 worlds of ten services that know nothing of each other: 1 in 100 worlds may err."""
    wrong = 0
    for seed in range(200):
        draw = random.Random(seed)
        times = [(draw.uniform(0, 20 * 86_400), f"s{number}") for number in range(10) for _ in range(150)]
        wrong += bool(said(after_heard(times)))
    assert wrong <= 4


def test_the_order_of_the_table_changes_nothing():
    orders = {(f"\x1f\x1fs{n % 9}", f"\x1f\x1ft{n % 7}"): Order(near=n % 40) for n in range(200)}
    assert learned(orders) == learned(dict(reversed(orders.items())))


@pytest.mark.parametrize(
    ("heads", "tosses", "expected"), [(0, 9, 1.0), (5, 5, 1 / 32), (3, 4, 5 / 16), (9, 10, 11 / 1024)]
)
def test_the_tail_of_a_coin(heads: int, tosses: int, expected: float):
    assert coin_tail(heads, tosses) == pytest.approx(expected)


def test_many_tosses_are_bounded_from_above():
    exact = precedence.MAX_EXACT
    assert coin_tail(140, 201) >= coin_tail(140, exact) * 0.5
    assert coin_tail(150, 300) == 1.0
    assert coin_tail(300_000, 500_000) == 0.0
