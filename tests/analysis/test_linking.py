"""Linking: labels of different rules meet in what they name, and the score says what each reason is worth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bridge.analysis.clustering import GENERIC_WEIGHT, JOIN_AT
from bridge.analysis.linking import (
    ENTITY_LABELS,
    MAX_TOKENS,
    OTHER_WEIGHT,
    SILENT_LABELS,
    Features,
    Link,
    burst,
    explain,
    family_token,
    group_token,
    likeness,
    probability,
    tokens_of,
)

NOTHING = Features(lag_s=0.0, burst=0.0, shared=0.0, shared_keys=(), family=0.0, text=None, group=0.0)


def keys(**labels: str) -> list[str]:
    return [token.key for token in tokens_of(labels)]


def weights(**labels: str) -> dict[str, float]:
    return {token.key: token.weight for token in tokens_of(labels)}


# ---- what labels name --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["instance", "node", "host", "hostname", "nodename", "kubernetes_node", "server"]
)
def test_whoever_wrote_the_rule_a_host_is_a_host(name: str) -> None:
    assert keys(**{name: "db-1"}) == ["host=db-1"]


@pytest.mark.parametrize(
    ("one", "other", "key"),
    [
        ({"service": "shop"}, {"app": "shop"}, "service=shop"),
        ({"svc": "shop"}, {"app_kubernetes_io_name": "shop"}, "service=shop"),
        ({"pod": "shop-7d9f8b6c5-x2x4z"}, {"deployment": "shop"}, "workload=shop"),
        ({"pod": "shop-7d9f8b6c5-x2x4z"}, {"pod": "shop-5c9d7fbb4d-q9w8p"}, "workload=shop"),
        ({"pod": "postgres-0"}, {"statefulset": "postgres"}, "workload=postgres"),
        ({"instance": "10.0.0.7:443"}, {"instance": "10.0.0.7:9100"}, "host=10.0.0.7"),  # two exporters
        ({"pod": "node-exporter-x2x4z"}, {"daemonset": "node-exporter"}, "workload=node-exporter"),
        ({"datname": "orders"}, {"database": "orders"}, "database=orders"),
        ({"topic": "mail"}, {"queue": "mail"}, "queue=mail"),
        ({"persistentvolumeclaim": "data-0"}, {"volume": "data-0"}, "volume=data-0"),
        ({"dc": "eu-1a"}, {"zone": "eu-1a"}, "zone=eu-1a"),
        ({"env": "prod"}, {"environment": "prod"}, "env=prod"),
    ],
)
def test_labels_that_name_one_thing_meet(one: dict[str, str], other: dict[str, str], key: str) -> None:
    assert keys(**one) == keys(**other) == [key]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"instance": "db-1:9100"}, {"instance": "db-2:9100"}),
        ({"instance": "db-1"}, {"service": "db-1"}),  # a host and a service of one name
        ({"pod": "shop-api-7d9f8b6c5-x2x4z"}, {"pod": "shop-7d9f8b6c5-x2x4z"}),
    ],
)
def test_different_things_stay_apart(one: dict[str, str], other: dict[str, str]) -> None:
    assert not set(keys(**one)) & set(keys(**other))


def test_labels_of_one_kind_and_value_count_once() -> None:
    assert keys(instance="db-1:9100", node="db-1", host="db-1") == ["host=db-1"]


@pytest.mark.parametrize(
    ("value", "host"),
    [
        ("db-1:9100", "db-1"),
        ("db-1", "db-1"),
        ("10.0.0.7:9100", "10.0.0.7"),
        ("10.0.0.7", "10.0.0.7"),
        ("db-1.example.com:443", "db-1.example.com"),
        ("[2001:db8::1]:9100", "[2001:db8::1]"),
        ("db-1:mysql", "db-1:mysql"),
    ],
)
def test_a_port_is_no_part_of_a_host(value: str, host: str) -> None:
    assert keys(instance=value) == [f"host={host}"]


@pytest.mark.parametrize(
    ("pod", "workload"),
    [
        ("shop-7d9f8b6c5-x2x4z", "shop"),  # ReplicaSet
        ("shop-cart-5c9d7fbb4d-q7rtz", "shop-cart"),
        ("node-exporter-x2x4z", "node-exporter"),  # DaemonSet
        ("backup-28391234-x2x4z", "backup"),  # CronJob
        ("postgres-0", "postgres"),  # StatefulSet
        ("postgres-replica-12", "postgres-replica"),
        ("shop", "shop"),
        ("kube-apiserver-master", "kube-apiserver-master"),
    ],
)
def test_the_generated_part_of_a_pods_name_is_cut(pod: str, workload: str) -> None:
    assert keys(pod=pod) == [f"workload={workload}"]


def test_only_hosts_lose_ports_and_only_workloads_lose_hashes() -> None:
    assert keys(service="shop:8080") == ["service=shop:8080"]
    assert keys(node="web-0") == ["host=web-0"]
    assert keys(queue="mail-x2x4z") == ["queue=mail-x2x4z"]


def test_what_names_the_rule_or_the_sender_is_no_token() -> None:
    assert tokens_of(dict.fromkeys(SILENT_LABELS, "x")) == ()
    assert keys(instance="", node="db-1") == ["host=db-1"]


def test_the_heaviest_come_first_and_too_many_are_cut() -> None:
    labels = {f"label{number:02}": "x" for number in range(40)}
    tokens = tokens_of({**labels, "instance": "db-1", "namespace": "shop", "env": "prod", "service": "shop"})
    assert len(tokens) == MAX_TOKENS
    assert [token.key for token in tokens[:3]] == ["host=db-1", "service=shop", "namespace=shop"]
    assert [token.key for token in tokens[3:6]] == ["label00=x", "label01=x", "label02=x"]


@given(
    st.dictionaries(st.sampled_from([*ENTITY_LABELS, "severity", "foo", "bar"]), st.text(max_size=12)),
    st.randoms(),
)
def test_the_order_of_labels_does_not_matter_and_no_key_comes_twice(labels: dict[str, str], dice) -> None:
    items = list(labels.items())
    dice.shuffle(items)
    tokens = tokens_of(dict(items))
    assert tokens == tokens_of(labels)
    assert len({token.key for token in tokens}) == len(tokens)
    assert list(tokens) == sorted(tokens, key=lambda token: (-token.weight, token.key))


# ---- what sharing a label is worth -------------------------------------------------------------------------


def test_the_more_special_a_label_the_heavier() -> None:
    found = weights(instance="a", service="b", rack="c", namespace="d", cluster="e", region="f", env="g")
    assert found == {
        "host=a": 1.0, "service=b": 0.9, "rack=c": 0.8, "namespace=d": 0.5, "cluster=e": 0.25, "region=f": 0.15,
        "env=g": 0.1,
    }  # fmt: skip


def test_a_label_nobody_knows_can_bring_alerts_together() -> None:
    assert weights(shard="7") == {"shard=7": OTHER_WEIGHT}
    assert OTHER_WEIGHT >= GENERIC_WEIGHT


@pytest.mark.parametrize("name", ["job", "cluster", "team", "region", "env"])
def test_labels_that_half_of_all_alerts_share_bring_nobody_together(name: str) -> None:
    (token,) = tokens_of({name: "node"})
    assert token.weight < GENERIC_WEIGHT


def test_a_job_weighs_a_fifth() -> None:
    assert weights(job="node") == {"job=node": 0.2}


def test_a_family_and_a_group_are_found_under_keys_that_no_label_can_have() -> None:
    found = {family_token("x"), group_token("am", '{}:{x="y"}'), *keys(family="x", group="am {}:{x=y}")}
    assert len(found) == 4


def test_a_group_is_that_of_one_source_and_a_route_without_group_by_is_none() -> None:
    assert group_token("am", '{}:{team="db"}') != group_token("am2", '{}:{team="db"}')
    for nothing in ("", "{}:{}", '{}/{team="db"}:{}'):
        assert group_token("am", nothing) == ""


# ---- the score ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "joins"),
    [
        ({"burst": 1.0}, False),  # at the same moment, nothing else
        ({"shared": 1.0}, True),  # the same labels, however long ago
        ({"shared": 0.5}, False),
        ({"shared": 0.5, "burst": 0.5}, True),
        ({"family": 1.0}, False),
        ({"family": 1.0, "burst": 0.5}, True),
        ({"group": 1.0}, False),
        ({"group": 1.0, "burst": 0.6}, True),
        ({"text": 1.0}, False),
        ({"text": 1.0, "family": 1.0}, True),
    ],
    ids=str,
)
def test_what_is_enough_to_join(known: dict[str, float], joins: bool) -> None:
    assert (probability(replace(NOTHING, **known), 0.5) >= JOIN_AT) is joins


_shares = st.floats(0, 1)
_features = st.builds(
    replace, st.just(NOTHING), burst=_shares, shared=_shares, family=_shares, group=_shares,
    text=st.none() | _shares,
)  # fmt: skip


@given(_features, st.sampled_from(("burst", "shared", "family", "group", "text")), _shares)
def test_nothing_that_alerts_have_in_common_speaks_against_them(
    features: Features, name: str, more: float
) -> None:
    value = getattr(features, name) or 0.0
    better = replace(features, **{name: max(value, more)})
    assert 0.0 < probability(features, 0.5) <= probability(better, 0.5) < 1.0


@given(_features, _shares, _shares)
def test_sensitivity_joins_more(features: Features, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert probability(features, low) <= probability(features, high)


def test_a_text_that_is_not_known_changes_nothing() -> None:
    assert probability(replace(NOTHING, text=None), 0.5) == probability(replace(NOTHING, text=0.0), 0.5)


def test_time_fades() -> None:
    assert burst(-5.0) == burst(0.0) == 1.0
    assert burst(90.0) == pytest.approx(0.3679, abs=1e-4)
    assert burst(900.0) < 0.001


def test_likeness_is_the_cosine() -> None:
    one, other, between = (np.array(vector, dtype="<f2").tobytes() for vector in ([1, 0], [0, 1], [0.6, 0.8]))
    assert (likeness(one, one), likeness(one, other)) == (1.0, 0.0)
    assert likeness(one, between) == likeness(between, one) == pytest.approx(0.6, abs=1e-3)


# ---- the reasons -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chance", "known", "sentence"),
    [
        (0.9514, {"lag_s": 4.2, "shared_keys": ("host=db-1",)}, "4 s after the last alert, same host db-1 (p=0.95)"),
        (
            0.8,
            {"lag_s": 119.4, "shared_keys": ("host=db-1", "rack=r7", "zone=a", "env=prod"), "group": 0.2},
            "119 s after the last alert, same host db-1, rack r7, zone a, same Alertmanager group (p=0.80)",
        ),
        (
            0.5,
            {"lag_s": 600.0, "family": 0.01, "text": 0.9},  # one kind includes one text
            "10 min after the last alert, same kind of alert (p=0.50)",
        ),
        (0.7, {"text": 0.6049}, "0 s after the last alert, similar text (0.60) (p=0.70)"),
        (0.7, {"text": 0.59}, "0 s after the last alert (p=0.70)"),
        (0.7, {"lag_s": 1.0, "shared_keys": ("selector=a=b",)}, "1 s after the last alert, same selector a=b (p=0.70)"),
        (
            1.0,
            {"lag_s": 120.0, "shared_keys": ("service=shop",), "family": 1.0, "group": 1.0},
            "2 min after the last alert, same service shop, same kind of alert, same Alertmanager group (p=1.00)",
        ),
    ],
)  # fmt: skip
def test_why_an_alert_joined(chance: float, known: dict[str, object], sentence: str) -> None:
    assert explain(Link(probability=chance, features=replace(NOTHING, **known))) == sentence
