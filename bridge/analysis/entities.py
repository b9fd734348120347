"""Entities: what the labels of an alert name, so that rules written by different people meet.

Theory: `instance`, `node` and `host` name the same kind of thing; ports and the generated part of a pod's name
are cut. A label is worth what sharing it says: two alerts of one host more than two of one cluster.

Exporters name themselves. An alert that comes through kube-state-metrics carries that exporter's `instance`,
`service`, `container` and often its `pod`, whatever it is about; a node exporter its own pod and namespace.
Such values are no entities, or every alert of a cluster would share one.

Decision: a list of the exporters that the world runs (kube-prometheus, the operator's chart, the Prometheus
exporters page) rather than `service == job`: an application is scraped under its own name as often as not.
What the list does not know, `rarity` learns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from operator import itemgetter

from bridge.model import Word

_HOST = ("host", 1.0)
_SERVICE = ("service", 0.9)
_WORKLOAD = ("workload", 0.9)
#: Label name -> (what it names, how much sharing it says). Labels that are not here say `OTHER_WEIGHT`.
ENTITY_LABELS: dict[str, tuple[str, float]] = {
    "instance": _HOST, "node": _HOST, "host": _HOST, "hostname": _HOST, "nodename": _HOST,
    "kubernetes_node": _HOST, "exported_instance": _HOST, "server": _HOST,
    "service": _SERVICE, "app": _SERVICE, "application": _SERVICE, "svc": _SERVICE,
    "app_kubernetes_io_name": _SERVICE, "component": _SERVICE, "service_name": _SERVICE,
    "pod": _WORKLOAD, "deployment": _WORKLOAD, "statefulset": _WORKLOAD, "daemonset": _WORKLOAD,
    "workload": _WORKLOAD, "job_name": _WORKLOAD, "cronjob": _WORKLOAD, "container": ("container", 0.5),
    "database": ("database", 0.9), "datname": ("database", 0.9), "db": ("database", 0.9),
    "destination": ("destination", 0.9), "queue": ("queue", 0.9), "topic": ("queue", 0.9), "volume": ("volume", 0.9),
    "persistentvolumeclaim": ("volume", 0.9), "device": ("device", 0.4), "mountpoint": ("device", 0.4),
    "rack": ("rack", 0.8), "zone": ("zone", 0.4), "namespace": ("namespace", 0.5),
    "exported_namespace": ("namespace", 0.5), "cluster": ("cluster", 0.25), "job": ("job", 0.2),
    "team": ("team", 0.2), "region": ("region", 0.15), "env": ("env", 0.1), "environment": ("env", 0.1),
    "datacenter": ("zone", 0.4), "dc": ("zone", 0.4),
}  # fmt: skip
#: Of a label nobody has heard of: it adds to what is shared and brings nobody together by itself, since external
#: labels (`monitor`, `org`, `prometheus_group`) stand on every alert.
OTHER_WEIGHT = 0.25
GENERIC_WEIGHT = 0.3  # lighter ones bring nobody together by themselves
SPECIFIC_WEIGHT = 0.5  # from here on a label says what an alert is about
#: Labels that name the rule, its importance or the sender, never the thing that is broken.
SILENT_LABELS = frozenset(
    {"alertname", "severity", "prometheus", "prometheus_replica", "replica", "receiver", "alertstate",
     "__name__", "endpoint", "metrics_path", "rule_group", "runbook_url"}
)  # fmt: skip
MAX_TOKENS = 24  # per alert: label sets beyond that are machine noise
REMEMBERED = 256  # characters of a value that is remembered: caches count entries, not bytes

_PORT = re.compile(r":\d{1,5}$")
#: What Kubernetes generates has no vowels and no 0, 1 and 3 (k8s.io/apimachinery/pkg/util/rand); older
#: ReplicaSets ended in a number; a StatefulSet's pod ends in its ordinal.
_RANDOM = "[bcdfghjklmnpqrstvwxz2456789]"
_POD_SUFFIX = re.compile(
    rf"(?:-(?:{_RANDOM}{{6,10}}|[a-f0-9]{{6,10}}|\d{{6,10}}))?-{_RANDOM}{{5}}$|-\d{{1,4}}$"
)
_JOB_SUFFIX = re.compile(r"-\d{6,10}$")  # the minute a CronJob was scheduled for

_ABOUT_OTHERS = r"kube-state-metrics|kubelet|cadvisor|kube-rbac-proxy"
_EXPORTER = re.compile(
    rf"(?:[\w-]+-)?(?:{_ABOUT_OTHERS}|node-exporter|windows-exporter|blackbox(?:-exporter)?|snmp(?:-exporter)?"
    r"|ipmi-exporter|process-exporter|pushgateway)(?:-.*|:\d+)?"
)
_STATE_METRICS = re.compile(r"(?:[\w-]+-)?kube-state-metrics(?:-.*|:\d+)?")
#: Labels under which an exporter may name itself.
_SCRAPED = ("service", "app", "app_kubernetes_io_name", "component", "container", "pod", "job")
#: Every label by which `tokens_of` tells who scraped from what is broken.
EXPORTER_LABELS = frozenset({*_SCRAPED, "namespace"})
#: Namespaces in which exporters live: no place of the thing they speak of.
_SCRAPED_NAMESPACES = frozenset({"monitoring", "observability", "metrics", "prometheus", "kube-system"})


class Token(Word, frozen=True, kw_only=True):
    """One thing an alert names."""

    key: str  # "host=db-1"
    weight: float  # 0..1: how much sharing it says
    said: str  # the label's own value, "db-1:9100"

    @property
    def kind(self) -> str:
        """What it is: host, service, namespace, or the label's own name."""
        return self.key.split("=", 1)[0]

    @property
    def value(self) -> str:
        """Its name without what is generated."""
        return self.key.split("=", 1)[1]


def tokens_of(labels: Mapping[str, str]) -> tuple[Token, ...]:
    """Return what the labels name, heaviest first, at most `MAX_TOKENS`."""
    return _tokens_of(tuple(labels.items()))


@lru_cache(maxsize=256)  # each step of an alert's way asks again
def _tokens_of(listed: tuple[tuple[str, str], ...]) -> tuple[Token, ...]:
    labels = dict(listed)
    hidden = _of_the_exporter(labels)
    found: dict[str, tuple[tuple[float, str], Token]] = {}
    for name in sorted(labels):
        value = labels[name]
        if name in SILENT_LABELS or name in hidden or not value:
            continue
        ranked = (_remembered if len(value) <= REMEMBERED else _ranked)(name, value)
        key = ranked[1].key
        if key not in found or ranked[0] < found[key][0]:
            found[key] = ranked
    return tuple(token for _, token in sorted(found.values(), key=itemgetter(0))[:MAX_TOKENS])


def subject_of(labels: Mapping[str, str]) -> Token | None:
    """Return the most specific thing the labels name, None when they name nothing in particular."""
    tokens = tokens_of(labels)
    return tokens[0] if tokens and tokens[0].weight >= SPECIFIC_WEIGHT else None


def _of_the_exporter(labels: Mapping[str, str]) -> frozenset[str]:
    """Return the labels that name who scraped, not what is broken."""
    own = {name for name in _SCRAPED if name in labels and _is_exporter(labels[name])}
    if not own:
        return frozenset()
    namespace = labels.get("namespace", "")
    about_others = any(re.search(_ABOUT_OTHERS, labels[name]) for name in own)
    if namespace in _SCRAPED_NAMESPACES or not about_others:
        own.add("namespace")
    if any(_STATE_METRICS.fullmatch(labels[name]) for name in own & {"service", "job", "container", "pod"}):
        own.add("instance")
    return frozenset(own)


@lru_cache(maxsize=16_384)
def _is_exporter(value: str) -> bool:
    return _EXPORTER.fullmatch(value) is not None


def _ranked(name: str, value: str) -> tuple[tuple[float, str], Token]:
    """Return what one label names, with its place among others."""
    kind, weight = ENTITY_LABELS.get(name, (name, OTHER_WEIGHT))
    token = Token(key=f"{kind}={_bare(name, kind, value)}", weight=weight, said=value)
    return (-weight, token.key), token


_remembered = lru_cache(maxsize=65_536)(_ranked)  # labels come again and again


def _bare(name: str, kind: str, value: str) -> str:
    if kind == "host":
        return _PORT.sub("", value)
    if name == "pod":
        return _POD_SUFFIX.sub("", value)
    if name == "job_name":
        return _JOB_SUFFIX.sub("", value)
    return value
