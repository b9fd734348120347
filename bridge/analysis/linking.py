"""Linking: how likely does an episode share its cause with an incident, and why.

The first linker, without learning: time burst, shared labels weighted by what they name and by how few open
incidents have them, same kind of alert, similar text, same Alertmanager group. It is the fallback that a learned
linker has to beat.

Theory: every feature is in 0..1 and enters one logistic score, so the reasons are the terms of a sum. Two alerts
seconds apart need something in common; minutes apart they need a lot. Labels are read as *entities*: `instance`,
`node` and `host` name the same kind of thing, ports and the random part of a pod's name are cut, so that rules
written by different people meet.

What an incident holds counts by the share of its alerts that hold it, nearness in time included: the time feature
is that of the alerts with something in common, multiplied by their share. Otherwise a large incident, which has
seen every namespace and is never more than a second old, draws in whatever comes (a stream of 20,000 unrelated
alerts became a dozen incidents that way; it is about a thousand now).

Decision: rarity is 1/n over the incidents that are open *now* instead of an IDF table over history: no memory
that grows with label cardinality, and the same value after a restart.

Without models (`model-free`) the family and text features are absent and the others carry on.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import lru_cache

import numpy as np

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
    "workload": _WORKLOAD, "job_name": _WORKLOAD, "container": ("container", 0.5),
    "database": ("database", 0.9), "datname": ("database", 0.9), "db": ("database", 0.9),
    "queue": ("queue", 0.9), "topic": ("queue", 0.9), "volume": ("volume", 0.9),
    "persistentvolumeclaim": ("volume", 0.9), "device": ("device", 0.4), "mountpoint": ("device", 0.4),
    "rack": ("rack", 0.8), "zone": ("zone", 0.4), "namespace": ("namespace", 0.5),
    "cluster": ("cluster", 0.25), "job": ("job", 0.2), "team": ("team", 0.2), "region": ("region", 0.15),
    "env": ("env", 0.1), "environment": ("env", 0.1), "datacenter": ("zone", 0.4), "dc": ("zone", 0.4),
}  # fmt: skip
OTHER_WEIGHT = 0.3
#: Labels that name the rule, its importance or the sender, never the thing that is broken.
SILENT_LABELS = frozenset(
    {"alertname", "severity", "prometheus", "prometheus_replica", "replica", "receiver", "alertstate",
     "__name__", "endpoint", "metrics_path", "rule_group", "runbook_url"}
)  # fmt: skip
MAX_TOKENS = 24  # per alert: label sets beyond that are machine noise

FAMILY_MARK = "\0family "
GROUP_MARK = "\0group "

_PORT = re.compile(r":\d{1,5}$")
#: ReplicaSet and DaemonSet pods end in generated parts; a StatefulSet's in its ordinal.
_POD_SUFFIX = re.compile(r"(?:-[a-f0-9]{6,10})?-[a-z0-9]{5}$|-\d{1,4}$")

BURST_S = 90.0  # e-folding time of the time feature
ALIKE_AT = 0.6  # below that cosine two texts differ to a reader, too
IN_MINUTES_FROM_S = 120.0
#: Logit weights, set by hand from what each feature must be able to do alone; see the module docstring.
BIAS, BURST, SHARED, FAMILY, TEXT, GROUP = -2.2, 2.1, 3.2, 1.3, 1.0, 1.0


class Token(Word, frozen=True, kw_only=True):
    """One thing an alert names."""

    key: str  # "host=db-1"
    weight: float


class Features(Word, frozen=True, kw_only=True):
    """What speaks for an episode belonging to an incident; all 0..1."""

    lag_s: float
    burst: float
    shared: float
    shared_keys: tuple[str, ...]
    family: float
    text: float | None
    group: float


class Link(Word, frozen=True, kw_only=True):
    """Probability 0..1 that an episode and an incident share a cause, with the reasons."""

    probability: float
    features: Features


def tokens_of(labels: Mapping[str, str]) -> tuple[Token, ...]:
    """Return what the labels name, heaviest first, at most `MAX_TOKENS`."""
    found: dict[str, float] = {}
    for name in sorted(labels):
        value = labels[name]
        if name in SILENT_LABELS or not value:
            continue
        kind, weight = ENTITY_LABELS.get(name, (name, OTHER_WEIGHT))
        key = f"{kind}={_bare(kind, value)}"
        if weight > found.get(key, 0.0):
            found[key] = weight
    ranked = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return tuple(Token(key=key, weight=weight) for key, weight in ranked[:MAX_TOKENS])


def _bare(kind: str, value: str) -> str:
    if kind == "host":
        return _PORT.sub("", value)
    if kind == "workload":
        return _POD_SUFFIX.sub("", value)
    return value


def family_token(family: str) -> str:
    """Return the key under which incidents with alerts of `family` are found."""
    return FAMILY_MARK + family


def group_token(source: str, group_key: str) -> str:
    """Return the key under which incidents with alerts of one Alertmanager group are found; "" for none.

    A route without `group_by` puts everything into one group (`{}:{}`), which says nothing.
    """
    return "" if not group_key or group_key.endswith(":{}") else f"{GROUP_MARK}{source} {group_key}"


def burst(lag_s: float) -> float:
    """Return the time feature of a lag, 1 at once and falling."""
    return math.exp(-max(0.0, lag_s) / BURST_S)


def probability(features: Features, sensitivity: float) -> float:
    """Return the probability of a common cause. `sensitivity` 0..1 moves it by up to two logits either way."""
    score = BIAS + BURST * features.burst + SHARED * features.shared + FAMILY * features.family
    score += GROUP * features.group + (sensitivity - 0.5) * 4.0
    if features.text is not None:
        score += TEXT * features.text
    return 1.0 / (1.0 + math.exp(-score))


@lru_cache(maxsize=16_384)
def likeness(left: bytes, right: bytes) -> float:
    """Return the cosine of two unit vectors (little-endian float16), rounded to four digits; 1 is equal."""
    product = np.frombuffer(left, "<f2").astype(np.float32) @ np.frombuffer(right, "<f2").astype(np.float32)
    return round(float(product), 4)


def explain(link: Link) -> str:
    """Return why an episode joined, as a sentence with its numbers."""
    features = link.features
    reasons = [f"{_lag(features.lag_s)} after the last alert"]
    if features.shared_keys:
        reasons.append("same " + ", ".join(key.replace("=", " ", 1) for key in features.shared_keys[:3]))
    if features.family:
        reasons.append("same kind of alert")
    elif features.text is not None and features.text >= ALIKE_AT:
        reasons.append(f"similar text ({features.text:.2f})")
    if features.group:
        reasons.append("same Alertmanager group")
    return f"{', '.join(reasons)} (p={link.probability:.2f})"


def _lag(lag_s: float) -> str:
    return f"{lag_s:.0f} s" if lag_s < IN_MINUTES_FROM_S else f"{lag_s / 60:.0f} min"
