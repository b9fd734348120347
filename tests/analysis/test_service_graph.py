"""From answers of Prometheus to who calls whom."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.analysis.service_graph import (
    GONE_AFTER_S,
    MAX_EDGES,
    Seen,
    chart_of,
    pairs_of,
    renewed,
    seen_in,
    series_of,
)
from bridge.analysis.topology import Chart, Service, Topology


def answer(*series: dict[str, str]) -> bytes:
    result = [{"metric": labels, "value": [1700000000.1, "3"]} for labels in series]
    return json.dumps(
        {"status": "success", "data": {"resultType": "vector", "result": result}, "warnings": []}
    ).encode()


def calls(chart: Chart) -> list[str]:
    names = [service.title for service in chart.services]
    return [f"{names[call.caller]} > {names[call.callee]}" for call in chart.calls]


def read(*series: dict[str, str]) -> Chart:
    return chart_of(renewed(Seen(), pairs_of(series_of(answer(*series))), 0.0))


def istio(source: str, destination: str, service: str, namespace: str = "default") -> dict[str, str]:
    return {
        "source_workload": source, "source_workload_namespace": namespace, "destination_workload": destination,
        "destination_workload_namespace": namespace, "destination_service_name": service,
    }  # fmt: skip


def test_a_service_graph_is_who_calls_whom():
    chart = read({"client": "shop", "server": "db"}, {"client": "front", "server": "shop"})
    assert calls(chart) == ["front > shop", "shop > db"]
    assert chart.origin == "prometheus"


def test_a_workload_goes_by_its_service_on_both_sides():
    chart = read(
        istio("productpage-v1", "reviews-v1", "reviews"), istio("productpage-v1", "reviews-v2", "reviews"),
        istio("reviews-v2", "ratings-v1", "ratings"), istio("gateway", "productpage-v1", "productpage"),
    )  # fmt: skip
    assert calls(chart) == [
        "default/gateway > default/productpage", "default/productpage > default/reviews",
        "default/reviews > default/ratings",
    ]  # fmt: skip
    topology = Topology([chart])
    found = topology.node_of({"pod": "reviews-v2-6d4cf56db6-x2x4z", "namespace": "default"})
    assert found is not None
    assert topology.name(found) == "reviews"


def test_what_istio_does_not_know_is_left_out():
    chart = read(
        istio("unknown", "shop-v1", "shop", "unknown"), istio("shop-v1", "unknown", "api.example.com"),
        istio("shop-v1", "unknown", "unknown"), istio("", "", ""), {},
        {"client": "", "server": "shop"}, {"client": "x" * 300, "server": "shop"}, {"client": "a", "server": "a"},
    )  # fmt: skip
    assert calls(chart) == ["default/shop-v1 > api.example.com"]


def test_a_new_version_of_a_workload_makes_no_second_service():
    first = renewed(Seen(), pairs_of([istio("web", "shop-v1", "shop")]), 0.0)
    second = renewed(first, pairs_of([istio("web", "shop-v2", "shop")]), 300.0)
    [service] = [each for each in chart_of(second).services if each.name == "shop"]
    assert service.also == ("shop-v1", "shop-v2")
    assert calls(chart_of(second)) == ["default/web > default/shop"]


def test_an_edge_is_gone_when_it_was_not_seen_for_a_day():
    pairs = pairs_of([{"client": "shop", "server": "db"}])
    seen = renewed(Seen(), pairs, 0.0)
    chart = chart_of(seen)
    quiet = renewed(seen, (), GONE_AFTER_S - 1)
    assert chart_of(quiet) == chart
    assert chart_of(renewed(quiet, (), GONE_AFTER_S)).calls == ()
    again = renewed(quiet, pairs, GONE_AFTER_S - 1)
    assert chart_of(renewed(again, (), GONE_AFTER_S)) == chart


def test_a_restart_goes_on_where_the_state_is():
    chart = read(istio("web", "shop-v1", "shop"), {"client": "a", "server": "b"})
    assert chart_of(seen_in(chart, 5.0)) == chart
    assert chart_of(renewed(seen_in(chart, 5.0), (), 5.0 + GONE_AFTER_S)).services == ()


def test_edges_are_bounded_and_the_newest_stay():
    old = renewed(Seen(), [(Service(name=f"a{n}"), Service(name="b")) for n in range(MAX_EDGES)], 0.0)
    new = renewed(old, [(Service(name="new"), Service(name="b"))], 1.0)
    assert len(new.edges) == MAX_EDGES
    assert (Service(name="new"), Service(name="b")) in new.edges


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"", "does not answer as Prometheus"), (b"<html>", "does not answer as Prometheus"), (b"[]", "does not answer"),
        (b"{}", "no success"), (b'{"status":"error","errorType":"bad_data","error":"parse error"}', "it says: parse error"),
        (b'{"status":"success","data":{"resultType":"matrix","result":[]}}', "something else than a vector"),
        (b'{"status":"success","data":{"resultType":"vector","result":[{"metric":{"client":7}}]}}', "does not answer"),
        (b'{"status":"success","data":{"resultType":"vector"}}', "does not answer"), (b"\xff", "does not answer"),
        (b"[" * 100_000, "does not answer"),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_refused_in_words(body: bytes, what: str):
    with pytest.raises(ValueError, match=what):
        series_of(body)


labels = st.dictionaries(
    st.sampled_from([*istio("", "", ""), "client", "server"]),
    st.sampled_from(["", "unknown", "a", "b", "a-v1"]),
)


@given(st.lists(labels, max_size=12), st.randoms(use_true_random=False))
def test_any_series_make_a_chart_and_their_order_changes_nothing(series: list[dict[str, str]], draw: Any):
    chart = chart_of(renewed(Seen(), pairs_of(series), 0.0))
    shuffled = list(series)
    draw.shuffle(shuffled)
    assert chart_of(renewed(Seen(), pairs_of(shuffled), 0.0)) == chart
    assert len({service.title for service in chart.services}) == len(chart.services)
    assert len(Topology([chart])) == len(chart.services)
