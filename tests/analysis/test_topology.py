"""Topology: what an alert is about, and who is near whom."""

from __future__ import annotations

import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.analysis.entities import tokens_of
from bridge.analysis.topology import (
    FAR,
    HUB,
    MAX_NEAR,
    MAX_SERVICES,
    Call,
    Chart,
    Origin,
    Service,
    Topology,
    read,
)


def chart(*ways: str, origin: Origin = "file", evidence: str = "") -> Chart:
    """`chart("shop > api > db")`: shop calls api, which calls db."""
    names = list(dict.fromkeys(name for way in ways for name in way.split(" > ")))
    calls = [
        Call(names.index(caller), names.index(callee), evidence)
        for way in ways
        for caller, callee in zip(way.split(" > "), way.split(" > ")[1:], strict=False)
    ]
    return Chart(origin=origin, services=tuple(Service(name=name) for name in names), calls=tuple(calls))


def node(topology: Topology, name: str) -> int:
    found = topology.node_of({topology.label: name})
    assert found is not None
    return found


def hops(topology: Topology, a: str, b: str) -> int:
    return topology.hops(node(topology, a), node(topology, b))


def near(topology: Topology, name: str) -> list[str]:
    return [topology.name(each) for each in topology.near(node(topology, name))]


# ---- who is near whom ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("shop", "shop", 0), ("shop", "api", 1), ("api", "shop", -1), ("shop", "db", 2), ("db", "shop", -2),
        ("shop", "disk", FAR), ("disk", "shop", FAR), ("shop", "mail", FAR),
    ],
)  # fmt: skip
def test_hops_say_the_direction_of_the_calls(a: str, b: str, expected: int) -> None:
    assert hops(Topology([chart("shop > api > db > disk", "cron > mail")]), a, b) == expected


def test_a_known_call_leads_over_two_edges_at_most_and_over_none_that_was_learned() -> None:
    topology = Topology([chart("shop > api > db > disk"), chart("cron > mail > shop", origin="learned")])

    def calls(a: str, b: str) -> bool:
        return topology.calls(node(topology, a), node(topology, b))

    assert calls("shop", "api")
    assert calls("shop", "db")
    assert not calls("shop", "disk")
    assert not calls("api", "shop")
    assert not calls("cron", "mail")
    assert not calls("mail", "api"), "half of the way is learned"


def test_in_a_cycle_the_shorter_way_counts_and_then_the_call() -> None:
    topology = Topology([chart("a > b > c > a", "x > y > x", "p > q > r > s > p")])

    assert hops(topology, "a", "b") == 1
    assert hops(topology, "a", "c") == -1  # shorter than through b
    assert hops(topology, "x", "y") == hops(topology, "y", "x") == 1
    assert hops(topology, "p", "r") == hops(topology, "r", "p") == 2


def test_a_service_that_calls_itself_has_no_edge() -> None:
    topology = Topology([chart("a > a > b")])

    assert [topology.name(edge.callee) for edge in topology.edges()] == ["b"]
    assert near(topology, "a") == ["b"]


def test_the_nearest_come_first() -> None:
    topology = Topology([chart("shop > api > db", "front > shop", "browser > front")])

    assert near(topology, "shop") == ["api", "front", "db", "browser"]
    assert topology.near(node(topology, "shop"), limit=1) == (node(topology, "api"),)


def test_what_everything_calls_is_near_its_callers_and_they_are_not_near_it() -> None:
    names = [f"s{number}" for number in range(HUB + 1)]
    topology = Topology([chart(*(f"{name} > dns > root" for name in names), "s0 > s1", "far > s0")])

    assert near(topology, "s2") == ["dns"]
    assert near(topology, "dns") == ["root"]
    assert hops(topology, "dns", "s7") == -1  # an edge is an edge
    assert hops(topology, "s7", "root") == FAR  # but none leads on through a hub
    assert hops(topology, "s7", "s8") == FAR
    assert hops(topology, "far", "s1") == 2


def test_one_caller_less_makes_no_hub() -> None:
    topology = Topology([chart(*(f"s{number} > dns > root" for number in range(HUB)))])

    assert len(near(topology, "dns")) == HUB + 1
    assert hops(topology, "s7", "root") == 2


def test_a_gateway_that_calls_everything_is_a_hub_too() -> None:
    topology = Topology([chart(*(f"gateway > s{number}" for number in range(HUB + 1)), "user > gateway")])

    assert near(topology, "gateway") == ["user"]
    assert near(topology, "s3") == ["gateway"]
    assert hops(topology, "user", "s3") == FAR


graphs = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=40)


def numbered(pairs: list[tuple[int, int]], origin: Origin = "file") -> Chart:
    services = tuple(Service(name=f"s{number}") for number in range(10))
    return Chart(origin=origin, services=services, calls=tuple(Call(*pair) for pair in pairs))


@given(graphs)
def test_hops_and_near_agree_with_walking_the_graph(pairs: list[tuple[int, int]]) -> None:
    topology = Topology([numbered(pairs)])
    edges = {pair for pair in pairs if pair[0] != pair[1]}
    two = {(a, d) for a, b in edges for c, d in edges if b == c and a != d}
    for a in range(10):
        for b in range(10):
            ways = [(a, b) in edges, (b, a) in edges, (a, b) in two, (b, a) in two]
            expected = (
                0 if a == b else next((h for h, way in zip((1, -1, 2, -2), ways, strict=True) if way), FAR)
            )
            assert topology.hops(a, b) == expected
            assert (b in topology.near(a)) == (expected in {1, -1, 2, -2})
        distances = [abs(topology.hops(a, b)) for b in topology.near(a)]
        assert distances == sorted(distances)
        assert len(set(topology.near(a))) == len(distances)


@given(graphs, st.randoms(use_true_random=False))
def test_the_order_of_the_calls_changes_nothing(pairs: list[tuple[int, int]], random: object) -> None:
    shuffled = list(pairs)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = Topology([numbered(pairs)]), Topology([numbered(shuffled)])

    assert one.version == other.version
    assert [one.near(a) for a in range(10)] == [other.near(a) for a in range(10)]


# ---- what an alert is about ------------------------------------------------------------------------------


SHOP = Topology([chart("shop > db")])


@pytest.mark.parametrize(
    "labels",
    [
        {"service": "shop"},
        {"app": "shop"},
        {"deployment": "shop", "namespace": "prod"},
        {"pod": "shop-6d4cf56db6-x2x4z"},
        {"statefulset": "shop", "pod": "shop-0"},
        {"service": "kube-state-metrics", "job": "kube-state-metrics", "pod": "shop-6d4cf56db6-x2x4z"},
        {"service": "no-such-thing", "app": "shop"},
    ],
)
def test_a_service_is_found_by_what_its_alerts_are_labelled_with(labels: dict[str, str]) -> None:
    assert SHOP.node_of({"alertname": "Latency", "severity": "critical", **labels}) == 0


@pytest.mark.parametrize(
    "labels", [{}, {"service": "mail"}, {"instance": "shop"}, {"service": ""}, {"service": "x" * 5000}]
)
def test_what_names_no_known_service_is_unknown(labels: dict[str, str]) -> None:
    assert SHOP.node_of(labels) is None
    assert Topology().node_of(labels) is None


def test_the_configured_label_comes_first() -> None:
    topology = Topology([chart("shop > db")], label="component_id")

    assert topology.node_of({"component_id": "db", "service": "shop"}) == 1
    assert topology.node_of({"service": "shop"}) == 0


def placed(*places: tuple[str, str, str], origin: Origin = "file") -> Chart:
    return Chart(
        origin=origin,
        services=tuple(
            Service(cluster=cluster, namespace=namespace, name=name) for cluster, namespace, name in places
        ),
    )


def test_cluster_and_namespace_tell_services_of_one_name_apart() -> None:
    topology = Topology([placed(("eu", "a", "db"), ("eu", "b", "db"), ("us", "a", "db"), ("", "", "shop"))])

    assert topology.node_of({"service": "db", "cluster": "eu", "namespace": "b"}) == 1
    assert topology.node_of({"service": "db", "cluster": "us"}) == 2
    assert topology.node_of({"service": "db", "namespace": "a"}) is None  # of two one does not know which
    assert topology.node_of({"service": "db", "cluster": "asia"}) is None
    assert topology.node_of({"service": "shop", "cluster": "asia", "namespace": "q"}) == 3
    assert [topology.name(each) for each in range(4)] == ["eu/a/db", "eu/b/db", "us/a/db", "shop"]


def test_the_namespace_of_who_was_scraped_is_no_place() -> None:
    topology = Topology([placed(("", "a", "db"), ("", "b", "db"))])

    assert topology.node_of({"service": "db", "namespace": "monitoring", "exported_namespace": "b"}) == 1
    assert topology.node_of({"app": "db", "namespace": "b", "job": "kube-state-metrics"}) == 1


@given(
    st.dictionaries(
        st.sampled_from(["service", "app", "pod", "namespace", "cluster", "job"]), st.text(max_size=300)
    )
)
def test_any_labels_have_an_answer_and_always_the_same(labels: dict[str, str]) -> None:
    topology = Topology([placed(("eu", "a", "db"), ("", "", "db"), ("", "", ""))])
    backwards = dict(reversed(labels.items()))

    assert topology.node_of(labels) == topology.node_of(labels) == topology.node_of(backwards)


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        ({"service": "mail", "namespace": "web", "cluster": "eu"}, "eu/web/mail"),
        ({"app": "mail", "pod": "mail-6d4cf56db6-x2x4z"}, "mail"),
        ({"service": "kube-state-metrics", "job": "kube-state-metrics", "namespace": "web", "deployment": "mail"}, "web/mail"),
        ({"service": "prometheus-node-exporter", "namespace": "monitoring"}, None),
        ({"instance": "mail-1:9100"}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_an_alert_names_its_service_known_or_not(labels: dict[str, str], named: str | None) -> None:
    found = SHOP.service_of(labels, tokens_of(labels))

    assert (found and found.title) == named


def test_an_alert_names_its_service_by_the_configured_label_first() -> None:
    labels = {"unit": "billing", "service": "shop"}
    found = Topology(label="unit").service_of(labels, tokens_of(labels))

    assert found == Service(name="billing")


def test_other_names_of_a_service_lead_to_it() -> None:
    topology = Topology(
        [Chart(origin="prometheus", services=(Service(name="reviews", also=("reviews-v1",)),))]
    )

    assert topology.node_of({"pod": "reviews-v1-6d4cf56db6-x2x4z"}) == 0
    assert topology.name(0) == "reviews"


# ---- where it comes from ---------------------------------------------------------------------------------


def test_an_edge_says_who_told_of_it() -> None:
    topology = Topology([
        chart("shop > db"),
        chart("shop > db > disk", origin="prometheus"),
        chart("mail > queue", origin="learned", evidence="14 of 15 times"),
    ])  # fmt: skip
    said = {
        edge.origin: (topology.name(edge.caller), topology.name(edge.callee)) for edge in topology.edges()
    }

    assert said == {"file": ("shop", "db"), "prometheus": ("db", "disk"), "learned": ("mail", "queue")}
    assert topology.said(node(topology, "shop"), node(topology, "db")) == "shop calls db (topology file)"
    assert topology.said(node(topology, "db"), node(topology, "shop")) == "shop calls db (topology file)"
    assert topology.said(node(topology, "disk"), node(topology, "shop")) == (
        "shop calls db (topology file), db calls disk (service graph)"
    )
    assert (
        topology.said(node(topology, "queue"), node(topology, "mail"))
        == "queue precedes mail (14 of 15 times)"
    )
    assert topology.said(node(topology, "queue"), node(topology, "shop")) == ""


def test_what_was_learned_counts_only_where_nobody_knows_both_services() -> None:
    topology = Topology(
        [chart("shop > db", "web > db"), chart("shop > web", "shop > lamp", origin="learned")]
    )

    assert hops(topology, "shop", "web") == FAR
    assert hops(topology, "shop", "lamp") == 1


def test_a_service_that_two_origins_know_is_one() -> None:
    topology = Topology([
        placed(("", "prod", "shop"), ("", "test", "shop")),
        placed(("eu", "prod", "shop"), ("", "dev", "shop"), ("", "", "shop"), origin="prometheus"),
    ])  # fmt: skip

    assert [service.title for service in topology.services()] == [
        "prod/shop",
        "test/shop",
        "dev/shop",
        "shop",
    ]


def test_the_version_follows_edges_and_not_their_evidence() -> None:
    one = Topology([chart("shop > db", origin="prometheus", evidence="12 calls")])

    assert one.version == Topology([chart("shop > db", origin="prometheus", evidence="99 calls")]).version
    assert one.version != Topology([chart("db > shop", origin="prometheus")]).version
    assert one.version != Topology([chart("shop > db")]).version
    assert one.version != Topology([chart("shop > db", origin="prometheus")], label="app").version


@pytest.mark.parametrize("call", [Call(0, 2), Call(-1, 0), Call(5, 5)])
def test_a_call_to_nowhere_is_refused(call: Call) -> None:
    broken = Chart(origin="file", services=(Service(name="a"), Service(name="b")), calls=(call,))

    with pytest.raises(ValueError, match="leads to no service"):
        read(msgspec.json.encode(broken))


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'{"origin": "gossip"}', b'{"origin": "file", "calls": [[0]]}', b"\xff", b"{" * 100_000],
)
def test_what_is_no_topology_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="no topology"):
        read(body)


def test_a_topology_is_read_as_it_was_written() -> None:
    written = chart("shop > db", origin="prometheus", evidence="12 requests")

    assert read(msgspec.json.encode(written)) == written


def test_a_topology_beyond_the_bounds_is_refused() -> None:
    services = tuple(Service(name=str(number)) for number in range(MAX_SERVICES + 1))

    with pytest.raises(ValueError, match="at most"):
        read(msgspec.json.encode(Chart(origin="file", services=services)))


# ---- bounds ----------------------------------------------------------------------------------------------


def test_ten_thousand_services_are_built_and_asked_in_no_time() -> None:
    count = 10_000
    services = tuple(Service(name=f"s{number}") for number in range(count))
    calls = tuple(Call(n, (n * step + step) % count) for n in range(count) for step in (2, 3, 5, 7, 11))
    before = time.process_time()
    topology = Topology([Chart(origin="file", services=services, calls=calls)])
    assert topology.version
    for number in range(count):
        assert topology.hops(number, (number * 7 + 7) % count) in {0, 1, -1}
    for number in range(0, count, 20):
        assert topology.near(number)
    assert time.process_time() - before < 5.0  # about 0.6


def test_a_dense_graph_stays_bounded() -> None:
    services = tuple(Service(name=f"s{number}") for number in range(2000))
    calls = tuple(Call(n, (n + step * step) % 2000) for n in range(2000) for step in range(1, HUB))
    topology = Topology([Chart(origin="file", services=services, calls=calls)])

    assert len(topology.near(7, limit=10_000)) == MAX_NEAR
    assert len(topology.near(7)) == 64
