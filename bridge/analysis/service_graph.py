"""What Prometheus says of who calls whom: from the answers of its query API to a chart, and from charts to news.

Sources: `traces_service_graph_request_total{client,server}` as Grafana Tempo's metrics generator, Alloy and the
OpenTelemetry collector's service graph connector make it; `istio_requests_total` with the labels of Istio's standard
metrics; answers as Prometheus' HTTP API v1 documents them.

Theory: Istio names workloads (`reviews-v1`) on both sides and the Kubernetes service (`reviews`) on the called one. A
workload that is called goes by its service's name wherever it calls others, and its own name leads there as well.

Rules: an edge is news when it is first seen, and gone when it was not seen for `GONE_AFTER_S`: at night nobody may
call. How often somebody calls is no news. What is seen and not called by a name (`unknown`, "") is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from bridge.analysis.prometheus import answer_of
from bridge.analysis.topology import LONGEST_NAME, Call, Chart, Service
from bridge.model import Word

MAX_EDGES = 20_000
GONE_AFTER_S = 86_400.0
WINDOW = "1h"
_ISTIO_LABELS = (
    "source_workload", "source_workload_namespace", "destination_workload", "destination_workload_namespace",
    "destination_service_name",
)  # fmt: skip
#: What is asked, each an instant query. `topk` bounds the answer.
QUERIES = (
    f"topk({MAX_EDGES}, sum by (client, server) (increase(traces_service_graph_request_total[{WINDOW}])) > 0)",
    f"topk({MAX_EDGES}, sum by ({', '.join(_ISTIO_LABELS)}) (increase(istio_requests_total[{WINDOW}])) > 0)",
)
_NOBODY = frozenset({"", "unknown"})

_Identity = tuple[str, str, str]
#: Who calls whom.
Pair = tuple[Service, Service]


class _Sample(msgspec.Struct):
    metric: dict[str, str]


class Seen(Word, frozen=True, kw_only=True):
    """The edges that are known, each with when it was seen last, in seconds of the caller's clock."""

    edges: Mapping[Pair, float] = msgspec.field(default_factory=dict)


def series_of(body: bytes) -> list[dict[str, str]]:
    """Return the labels of each series in the answer to an instant query.

    Raises:
        ValueError: It is no such answer, or tells of an error; the message is safe to log.
    """
    return [sample.metric for sample in answer_of(body, "vector", _Sample)[:MAX_EDGES]]


def pairs_of(series: Iterable[Mapping[str, str]]) -> list[Pair]:
    """Return who calls whom in service-graph and Istio series, each pair once, in order."""
    rows = list(series)
    serves = _services_of_workloads(rows)
    found: set[Pair] = set()
    for labels in rows:
        if "client" in labels or "server" in labels:
            caller, callee = _traced(labels, "client"), _traced(labels, "server")
        else:
            caller, callee = _workload(labels, "source", serves), _called(labels, serves)
        if caller is not None and callee is not None and caller != callee:
            found.add((caller, callee))
    return sorted(found, key=_by_name)


def renewed(seen: Seen, pairs: Iterable[Pair], now_s: float) -> Seen:
    """Return what is known after `pairs` were seen now: what was not seen for long is forgotten."""
    edges = {pair: at_s for pair, at_s in seen.edges.items() if now_s - at_s < GONE_AFTER_S}
    edges.update(dict.fromkeys(pairs, now_s))
    newest = sorted(edges.items(), key=lambda item: (-item[1], _by_name(item[0])))[:MAX_EDGES]
    return Seen(edges=dict(newest))


def chart_of(seen: Seen) -> Chart:
    """Return the edges that are known as a chart: equal for equal edges, whenever each was seen."""
    also: dict[
        _Identity, set[str]
    ] = {}  # a service has the names of all workloads that answered for it of late
    for pair in seen.edges:
        for service in pair:
            also.setdefault(_identity(service), set()).update(service.also)
    numbers = {identity: number for number, identity in enumerate(sorted(also))}
    services = tuple(
        Service(
            name=name,
            namespace=namespace,
            cluster=cluster,
            also=tuple(sorted(also[name, namespace, cluster])),
        )
        for name, namespace, cluster in numbers
    )
    calls = {(numbers[_identity(caller)], numbers[_identity(callee)]) for caller, callee in seen.edges}
    return Chart(origin="prometheus", services=services, calls=tuple(Call(*call) for call in sorted(calls)))


def seen_in(chart: Chart, now_s: float) -> Seen:
    """Return what a stored chart knows, as if it were seen now: where one goes on after a restart."""
    services = chart.services
    return Seen(edges={(services[call.caller], services[call.callee]): now_s for call in chart.calls})


def _services_of_workloads(rows: Iterable[Mapping[str, str]]) -> dict[tuple[str, str], Service]:
    """Return by workload and namespace the service that is called where the workload answers."""
    workloads: dict[tuple[str, str], set[str]] = {}
    names: dict[tuple[str, str], str] = {}
    for labels in rows:
        workload, service = _good(labels, "destination_workload"), _good(labels, "destination_service_name")
        if workload is not None and service is not None:
            place = labels.get("destination_workload_namespace", "")
            # One that answers for several goes by the first of them, whatever the order of the answer.
            name = names[workload, place] = min(service, names.get((workload, place), service))
            workloads.setdefault((name, place), set()).add(workload)
    return {
        (workload, place): Service(
            name=name, namespace=_place(place), also=tuple(sorted(workloads[name, place] - {name}))
        )
        for (workload, place), name in names.items()
    }


def _traced(labels: Mapping[str, str], side: str) -> Service | None:
    name = _good(labels, side)
    return None if name is None else Service(name=name)


def _workload(
    labels: Mapping[str, str], side: str, serves: Mapping[tuple[str, str], Service]
) -> Service | None:
    name, place = _good(labels, f"{side}_workload"), labels.get(f"{side}_workload_namespace", "")
    if name is None:
        return None
    return serves.get((name, place)) or Service(name=name, namespace=_place(place))


def _called(labels: Mapping[str, str], serves: Mapping[tuple[str, str], Service]) -> Service | None:
    """Return who is called: the service of the workload, or what is known of a call that leaves the mesh."""
    found = _workload(labels, "destination", serves)
    name = _good(labels, "destination_service_name")
    return found or (None if name is None else Service(name=name))


def _good(labels: Mapping[str, str], name: str) -> str | None:
    value = labels.get(name, "")
    return value if value not in _NOBODY and len(value) <= LONGEST_NAME else None


def _place(namespace: str) -> str:
    return "" if namespace in _NOBODY else namespace[:LONGEST_NAME]


def _identity(service: Service) -> _Identity:
    return (service.name, service.namespace, service.cluster)


def _by_name(pair: Pair) -> tuple[_Identity, ...]:
    return tuple(map(_identity, pair))
