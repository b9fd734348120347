"""Entities: labels of different rules meet in what they name, and an exporter is not what its alert is about."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.analysis.entities import (
    ENTITY_LABELS,
    GENERIC_WEIGHT,
    MAX_TOKENS,
    OTHER_WEIGHT,
    SILENT_LABELS,
    subject_of,
    tokens_of,
)


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
        ({"pod": "shop-7d9f8b6c5-x2x4z", "container": ""}, {"cronjob": "shop"}, "workload=shop"),
        ({"pod": "postgres-0"}, {"statefulset": "postgres"}, "workload=postgres"),
        ({"instance": "10.0.0.7:443"}, {"instance": "10.0.0.7:9100"}, "host=10.0.0.7"),  # two exporters
        ({"pod": "fluentd-x2x4z"}, {"daemonset": "fluentd"}, "workload=fluentd"),
        ({"job_name": "backup-28391234"}, {"cronjob": "backup"}, "workload=backup"),
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
        ("fluentd-x2x4z", "fluentd"),  # DaemonSet
        ("backup-28391234-x2x4z", "backup"),  # CronJob
        ("postgres-0", "postgres"),  # StatefulSet
        ("postgres-replica-12", "postgres-replica"),
        ("shop", "shop"),
        ("kube-apiserver-master", "kube-apiserver-master"),
        ("shop-front", "shop-front"),  # five letters, but Kubernetes makes up no vowels
        ("shop-carts", "shop-carts"),
    ],
)
def test_the_generated_part_of_a_pods_name_is_cut(pod: str, workload: str) -> None:
    assert keys(pod=pod) == [f"workload={workload}"]


@pytest.mark.parametrize("name", ["shop-front", "shop-admin", "shop-x2x4z", "postgres-0"])
def test_the_name_of_a_deployment_is_nobodys_to_cut(name: str) -> None:
    assert keys(deployment=name) == [f"workload={name}"]


def test_only_hosts_lose_ports_and_only_pods_lose_hashes() -> None:
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


# ---- who scraped is not what is broken ----------------------------------------------------------------------

STATE_METRICS = {
    "instance": "10.244.1.5:8443", "job": "kube-state-metrics", "service": "kube-state-metrics",
    "container": "kube-rbac-proxy-main", "pod": "kube-state-metrics-5f9d8c7b6d-x2x4z", "namespace": "monitoring",
}  # fmt: skip
NODE_EXPORTER = {
    "job": "node-exporter", "service": "prometheus-prometheus-node-exporter", "container": "node-exporter",
    "pod": "prometheus-prometheus-node-exporter-x2x4z", "namespace": "monitoring",
}  # fmt: skip


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        (STATE_METRICS | {"node": "worker-7"}, ["host=worker-7"]),
        (
            STATE_METRICS | {"namespace": "shop", "pod": "cart-7d9f8b6c5-x2x4z", "container": "cart"},
            ["workload=cart", "container=cart", "namespace=shop"],
        ),
        (STATE_METRICS | {"namespace": "shop", "deployment": "cart"}, ["workload=cart", "namespace=shop"]),
        (STATE_METRICS, []),
        (NODE_EXPORTER | {"instance": "worker-7:9100"}, ["host=worker-7"]),
        (NODE_EXPORTER | {"instance": "worker-7:9100", "namespace": "infra"}, ["host=worker-7"]),
        (
            {"job": "kubelet", "service": "kube-prometheus-stack-kubelet", "instance": "10.0.0.7:10250",
             "namespace": "kube-system"},
            ["host=10.0.0.7"],
        ),
        ({"job": "blackbox", "instance": "https://shop.example.com"}, ["host=https://shop.example.com"]),
        ({"job": "checkout", "service": "checkout", "pod": "checkout-7d9f8b6c5-x2x4z"},
         ["service=checkout", "workload=checkout", "job=checkout"]),
        ({"daemonset": "node-exporter", "namespace": "monitoring"}, ["workload=node-exporter", "namespace=monitoring"]),
    ],
)  # fmt: skip
def test_an_exporter_is_not_what_its_alert_is_about(labels: dict[str, str], named: list[str]) -> None:
    assert keys(**labels) == named


def test_what_an_alert_is_about_is_its_most_specific_thing_or_nothing() -> None:
    assert subject_of({"alertname": "A", "cluster": "eu-1"}) is None
    subject = subject_of({"cluster": "eu-1", "instance": "db-1:9100", "service": "db"})
    assert subject is not None
    assert (subject.kind, subject.value, subject.said) == ("host", "db-1", "db-1:9100")


# ---- what sharing a label is worth -------------------------------------------------------------------------


def test_the_more_special_a_label_the_heavier() -> None:
    found = weights(instance="a", service="b", rack="c", namespace="d", cluster="e", region="f", env="g")
    assert found == {
        "host=a": 1.0, "service=b": 0.9, "rack=c": 0.8, "namespace=d": 0.5, "cluster=e": 0.25, "region=f": 0.15,
        "env=g": 0.1,
    }  # fmt: skip


def test_a_label_nobody_knows_brings_nobody_together() -> None:
    """An external label stands on every alert."""
    assert weights(monitor="prod") == {"monitor=prod": OTHER_WEIGHT}
    assert OTHER_WEIGHT < GENERIC_WEIGHT


@pytest.mark.parametrize("name", ["job", "cluster", "team", "region", "env"])
def test_labels_that_half_of_all_alerts_share_bring_nobody_together(name: str) -> None:
    (token,) = tokens_of({name: "node"})
    assert token.weight < GENERIC_WEIGHT


def test_a_job_weighs_a_fifth() -> None:
    assert weights(job="node") == {"job=node": 0.2}
