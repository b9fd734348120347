"""The causal graph says what came before what, why, and "causes" only where topology or a person supports it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from groups import at, episode

from bridge.analysis.causal_graph import (
    MAX_ALERTS,
    MAX_BEFORE,
    MAX_WORST,
    NAMED,
    EpisodeKey,
    Scene,
    graph_of,
    key_of,
    looked_at,
)
from bridge.analysis.causality import NO_ORDERS, Causes, Orders, Precedes
from bridge.analysis.families import own_family
from bridge.analysis.ranking import importance
from bridge.analysis.topology import Call, Chart, Origin, Service, Topology
from bridge.model import CausalGraph, Episode

NAMES = ("front", "shop", "db")
DB = episode("DbSlow", 0, service="db")
SHOP = episode("ShopErrors", 24, service="shop")
FRONT = episode("FrontErrors", 40, service="front")


def topology(*calls: str, origin: Origin = "file") -> Topology:
    pairs = [tuple(map(NAMES.index, call.split(" > "))) for call in calls]
    services = tuple(Service(name=name) for name in NAMES)
    return Topology([Chart(origin=origin, services=services, calls=tuple(Call(*pair) for pair in pairs))])


def learned(*orders: str, related: bool = True) -> Orders:
    edges = [
        Precedes(*map(own_family, order.split(" > ")), related, 21, 23, 20.0, 30.0, 9.0, 1e-6, 1e-5, related)
        for order in orders
    ]
    return Orders(Causes(edges=tuple(edges), asked=99))


def graph(
    alerts: Sequence[Episode],
    known: Topology | None = None,
    orders: Orders = NO_ORDERS,
    root: EpisodeKey | None = None,
) -> CausalGraph:
    scene = Scene(alerts, topology=known or Topology(), family_of=own_family, orders=orders)
    return graph_of(scene, root=root)


def told(found: CausalGraph) -> list[tuple[str, str, str]]:
    return [(found.nodes[e.earlier].name, e.word, found.nodes[e.later].name) for e in found.edges]


def test_without_history_and_topology_there_is_no_graph() -> None:
    assert graph([DB, SHOP, FRONT]) == CausalGraph()
    assert graph([]) == CausalGraph()


def test_a_learned_order_alone_precedes() -> None:
    found = graph([DB, SHOP], orders=learned("DbSlow > ShopErrors", related=False))
    assert told(found) == [("DbSlow", "precedes", "ShopErrors")]
    assert found.edges[0].lag_s == 24.0
    assert found.edges[0].why == "24 s before; DbSlow precedes ShopErrors in 21 of 23 cases"


def test_a_direct_call_alone_precedes_and_one_through_another_says_nothing() -> None:
    found = graph([DB, SHOP, FRONT], topology("front > shop", "shop > db"))
    assert told(found) == [("DbSlow", "precedes", "ShopErrors"), ("ShopErrors", "precedes", "FrontErrors")]
    assert found.edges[0].why == "24 s before; shop calls db (topology file)"


def test_a_learned_order_that_agrees_with_the_calls_causes() -> None:
    known, orders = topology("shop > db"), learned("DbSlow > ShopErrors")
    found = graph([DB, SHOP], known, orders)
    assert told(found) == [("DbSlow", "causes", "ShopErrors")]
    assert found.edges[0].why.endswith("in 21 of 23 cases; shop calls db (topology file)")


def test_a_learned_order_against_the_calls_precedes() -> None:
    found = graph([DB, SHOP], topology("db > shop"), learned("DbSlow > ShopErrors"))
    assert told(found) == [("DbSlow", "precedes", "ShopErrors")]


def test_what_was_merely_learned_of_services_supports_nothing() -> None:
    learned_chart = topology("shop > db", origin="learned")
    assert told(graph([DB, SHOP], learned_chart, learned("DbSlow > ShopErrors"))) == [
        ("DbSlow", "precedes", "ShopErrors")
    ]
    assert not graph([DB, SHOP], learned_chart).edges


def test_a_learned_order_on_one_host_causes() -> None:
    one, other = episode("DiskFull", 0, host="db-1"), episode("WritesFail", 30, host="db-1")
    found = graph([one, other], orders=learned("DiskFull > WritesFail"))
    assert told(found) == [("DiskFull", "causes", "WritesFail")]
    assert "same host db-1" in found.edges[0].why


def test_an_order_is_told_only_in_its_direction_and_its_relation() -> None:
    assert (
        not graph([DB, SHOP], topology("shop > db"), learned("ShopErrors > DbSlow"))
        .edges[0]
        .why.count("cases")
    )
    assert not graph([DB, SHOP], orders=learned("DbSlow > ShopErrors", related=True)).edges


def test_alerts_of_one_moment_or_of_another_quarter_of_an_hour_have_no_order() -> None:
    known = topology("shop > db")
    assert not graph([DB, episode("ShopErrors", 0.5, service="shop")], known).edges
    assert not graph([DB, episode("ShopErrors", 901, service="shop")], known).edges
    assert graph([DB, episode("ShopErrors", 899, service="shop")], known).edges


def test_what_a_person_named_causes_what_follows_and_nothing_comes_before_it() -> None:
    known, orders = topology("shop > db", "front > shop"), learned("DbSlow > ShopErrors")
    lone = episode("Mail", 90, service="mail")
    found = graph([DB, SHOP, FRONT, lone], known, orders, root=key_of(SHOP))
    assert told(found) == [
        ("ShopErrors", "causes", "FrontErrors"),
        ("ShopErrors", "causes", "DbSlow"),
        ("ShopErrors", "causes", "Mail"),
    ]
    assert found.edges[0].why == f"{NAMED}; 16 s before; front calls shop (topology file)"
    assert found.edges[1].lag_s == -24.0


def test_a_root_that_is_not_there_changes_nothing() -> None:
    known = topology("shop > db")
    assert graph([DB, SHOP], known, root=("am", "elsewhere", at(0))) == graph([DB, SHOP], known)


def test_an_alert_keeps_what_says_most_about_it() -> None:
    early = [episode("DbSlow", second, service="db", host=f"d{second}") for second in range(0, 20, 2)]
    found = graph([*early, SHOP], topology("shop > db"))
    assert [edge.lag_s for edge in found.edges] == [6.0, 8.0]
    assert len(found.edges) == MAX_BEFORE
    cause = episode("DbDown", 1, service="db")
    found = graph([*early, cause, SHOP], topology("shop > db"), learned("DbDown > ShopErrors"))
    assert [(edge.word, edge.lag_s) for edge in found.edges] == [("causes", 23.0), ("precedes", 6.0)]


def test_of_a_storm_the_worst_and_the_first_are_looked_at() -> None:
    late = [episode(f"Worst{n}", 500 + n, "critical", service="shop") for n in range(MAX_WORST)]
    early = [episode(f"Info{n}", n, "info", service="db") for n in range(300)]
    seen = looked_at(sorted([*early, *late], key=importance))
    assert len(seen) == MAX_ALERTS
    assert {each.name for each in seen} == {each.name for each in [*late, *early[: MAX_ALERTS - MAX_WORST]]}
    found = graph(seen, topology("shop > db"))
    assert len(found.nodes) <= MAX_ALERTS
    assert len(found.edges) <= MAX_BEFORE * MAX_ALERTS


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_the_order_in_which_alerts_are_given_changes_nothing(order: tuple[int, ...]) -> None:
    alerts = [DB, SHOP, FRONT]
    known, orders = topology("front > shop", "shop > db"), learned("DbSlow > ShopErrors")
    assert graph([alerts[n] for n in order], known, orders) == graph(alerts, known, orders)
