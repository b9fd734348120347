"""Topology: which service calls which, so that an alert can be set beside the alerts of its neighbours.

Theory: what breaks is felt by those who call it, so the way from a caller to what it calls says in which direction
trouble travels, and two hops are as far as it can still be told from chance. Services come from up to three origins,
each a `Chart`: the topology file, the service graph that Prometheus holds, and what was learned from the order in
which alerts come. The first that knows an edge names it. What was learned is no call: `a` *precedes* `b`, and the
follower stands where a caller stands. It counts only where the other two do not know both services; where they do,
that they name no edge is an answer.

Rule for hubs: an edge always counts as one hop, but no way of two hops begins at a service that calls more than `HUB`
others, ends at one that more than `HUB` call, or leads through one that does either; and the callers of a service
that more than `HUB` call are not near it (nor its callees, where it calls so many). The database that everything
calls would make everything the neighbour of everything; it is itself near each of its callers.

Decision: `hops` asks two small sets whether they meet instead of reading a table of all pairs within two hops: the
table of 10,000 services in a dense graph holds tens of millions of pairs, the sets hold what the edges are, and with
`HUB` as the bound of both a question costs a few microseconds either way.

Decision: a name that several services have and that the alert's cluster and namespace do not tell apart is
unknown. A wrong neighbour costs more than none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Literal

import msgspec

from bridge.analysis.entities import ENTITY_LABELS, EXPORTER_LABELS, REMEMBERED, Token, tokens_of
from bridge.model import Word

#: Where an edge comes from, best first.
Origin = Literal["file", "prometheus", "learned"]
ORIGINS: tuple[Origin, ...] = ("file", "prometheus", "learned")
SAID_ORIGINS: dict[Origin, str] = {
    "file": "topology file",
    "prometheus": "service graph",
    "learned": "learned",
}

DEFAULT_LABEL = "service"
MAX_SERVICES = 20_000  # of one chart
MAX_CALLS = 200_000  # of one chart
MAX_SAME_NAME = 500  # of one chart: looking for the right one reads them all
LONGEST_NAME = 256
FAR = 99  # hops between what is not within two
HUB = 50  # more callers, or more callees, than that make a hub
MAX_NEAR = 256
_NEAR_CACHED = 4096
_FOUND_CACHED = 16_384
_KINDS = ("service", "workload")
_PLACES = frozenset({"cluster", "namespace"})
#: Every label that what is asked can depend on, but for the configured one.
_ABOUT = EXPORTER_LABELS | {name for name, (kind, _) in ENTITY_LABELS.items() if kind in {*_KINDS, *_PLACES}}


class Service(Word, frozen=True, kw_only=True):
    """One service. Without a cluster or a namespace it is the one of that name in all of them."""

    name: str
    cluster: str = ""
    namespace: str = ""
    also: tuple[str, ...] = ()  # what its alerts may call it besides

    @property
    def title(self) -> str:
        """Its name with the place that tells it from others: `cluster/namespace/name`."""
        return "/".join(part for part in (self.cluster, self.namespace, self.name) if part)


class Call(Word, frozen=True, array_like=True):
    """One edge between services of one chart, by their indices. Of what was learned the follower is the caller."""

    caller: int
    callee: int
    evidence: str = ""


class Chart(Word, frozen=True, kw_only=True):
    """What one origin knows."""

    origin: Origin
    services: tuple[Service, ...] = ()
    calls: tuple[Call, ...] = ()


class Edge(Word, frozen=True, kw_only=True):
    """One edge between two nodes of a topology: `caller` calls `callee`, or, learned, comes after it."""

    caller: int
    callee: int
    origin: Origin
    evidence: str


def read(body: bytes) -> Chart:
    """Return the chart that a row holds.

    Raises:
        ValueError: It holds none that can be used; the message says why.
    """
    try:
        chart = msgspec.json.decode(body, type=Chart)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"no topology: {error}") from error
    count = len(chart.services)
    if any(not (0 <= call.caller < count and 0 <= call.callee < count) for call in chart.calls):
        raise ValueError("a call of the topology leads to no service")
    if count > MAX_SERVICES or len(chart.calls) > MAX_CALLS:
        raise ValueError(f"a topology has at most {MAX_SERVICES} services and {MAX_CALLS} calls")
    return chart


class Topology:
    """Services as nodes 0, 1, ..., and who calls whom. Never changes; equal charts make equal ones."""

    def __init__(self, charts: Iterable[Chart] = (), *, label: str = DEFAULT_LABEL) -> None:
        """Join the charts, the one that is trusted most first.

        Args:
            charts: What is known; a chart's own services differ from one another.
            label: The label whose value names an alert's service.

        Costs 0.2 s for 10,000 services with 50,000 calls.
        """
        self.label = label
        self._services: list[Service] = []
        self._by_name: dict[str, list[int]] = {}
        self._edges: dict[tuple[int, int], Edge] = {}
        for chart in charts:
            self._join(chart)
        self._link()
        self._about = _ABOUT | {label}
        self._known = lru_cache(maxsize=_FOUND_CACHED)(self._node_of)
        self._neighbours = lru_cache(maxsize=_NEAR_CACHED)(self._near)
        self._version = ""

    def _join(self, chart: Chart) -> None:
        known = len(self._services)  # by a better origin
        nodes = [self._node_for(service, known) for service in chart.services]
        for call in chart.calls:
            pair = caller, callee = nodes[call.caller], nodes[call.callee]
            settled = chart.origin == "learned" and max(pair) < known
            if caller != callee and pair not in self._edges and not settled:
                self._edges[pair] = Edge(
                    caller=caller, callee=callee, origin=chart.origin, evidence=call.evidence
                )

    def _node_for(self, service: Service, known: int) -> int:
        """Return the node of a better origin that this is, or make one."""
        if known:
            same = [node for node in self._by_name.get(service.name, ()) if node < known]
            found = self._fitting(same, {"cluster": service.cluster, "namespace": service.namespace})
            if found is not None:
                return found
        self._services.append(service)
        for name in dict.fromkeys((service.name, *service.also)):
            self._by_name.setdefault(name, []).append(len(self._services) - 1)
        return len(self._services) - 1

    def _link(self) -> None:
        nodes = range(len(self._services))
        callees: list[list[int]] = [[] for _ in nodes]
        callers: list[list[int]] = [[] for _ in nodes]
        for caller, callee in sorted(self._edges):
            callees[caller].append(callee)
            callers[callee].append(caller)
        #: What is near on one side; nothing on the side on which a hub is one.
        self._callees = [tuple(several) if len(several) <= HUB else () for several in callees]
        self._callers = [tuple(several) if len(several) <= HUB else () for several in callers]
        hubs = {node for node in nodes if max(len(callees[node]), len(callers[node])) > HUB}
        #: Where a way of two hops can lead through.
        self._onward = [frozenset(several).difference(hubs) for several in self._callees]
        self._inward = [frozenset(several).difference(hubs) for several in self._callers]

    # ---- what an alert is about ----------------------------------------------------------------------------

    def node_of(self, labels: Mapping[str, str]) -> int | None:
        """Return the service that an alert is about, None if it names none that is known.

        The configured label comes first, then every other label that names a service or a workload, pods without what
        was generated. Costs two microseconds for labels that were asked about lately.
        """
        if not self._services:
            return None
        about = self._asked(labels)
        return self._known(about) if _is_short(about) else self._node_of(about)

    def service_of(self, labels: Mapping[str, str], tokens: Sequence[Token]) -> Service | None:
        """Return the service that an alert names, whether it is known or not; None if it names none.

        An exporter that names itself by the configured label is none. `tokens` is what the labels name
        (`entities.tokens_of`). Costs a few microseconds.
        """
        name = labels.get(self.label, "")
        named = _named(tokens)
        if not name or (self.label in EXPORTER_LABELS and name not in [token.said for token in tokens]):
            name = named.get("service") or named.get("workload", "")
        if not name:
            return None
        place = _place_of(labels, named)
        return Service(name=name, cluster=place["cluster"], namespace=place["namespace"])

    def _asked(self, labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        return tuple([item for item in labels.items() if item[0] in self._about])

    def _node_of(self, about: tuple[tuple[str, str], ...]) -> int | None:
        labels = dict(about)
        tokens = tokens_of(labels)
        names = [token.value for kind in _KINDS for token in tokens if token.kind == kind]
        place = _place_of(labels, _named(tokens))
        for name in (labels.get(self.label, ""), *names):
            nodes = self._by_name.get(name)
            if nodes:
                return self._fitting(nodes, place)
        return None

    def _fitting(self, nodes: Sequence[int], place: Mapping[str, str]) -> int | None:
        """Return the one of these nodes that agrees best with a place, None if none or several do."""
        best: list[int] = []
        most = -1
        for node in nodes:
            agreed = _agreement(self._services[node], place)
            if agreed > most:
                best, most = [node], agreed
            elif agreed == most >= 0:
                best.append(node)
        return best[0] if len(best) == 1 else None

    # ---- who is near whom ----------------------------------------------------------------------------------

    def hops(self, a: int, b: int) -> int:
        """Return how one gets from `a` to `b`, both nodes: +1 `a` calls it, +2 through one other, 0 it is the same.

        -1 and -2 are the other way round, `FAR` is neither. Where both directions lead there the shorter counts, then
        the call. Costs one to three microseconds.
        """
        if a == b:
            return 0
        if (a, b) in self._edges:
            return 1
        if (b, a) in self._edges:
            return -1
        if not self._onward[a].isdisjoint(self._inward[b]):
            return 2
        return FAR if self._onward[b].isdisjoint(self._inward[a]) else -2

    def near(self, node: int, limit: int = 64) -> tuple[int, ...]:
        """Return the nodes within two hops, at most `limit` (and `MAX_NEAR`).

        Nearest first, what is called before who calls, then by number. Cached; else some 100 us, a few ms at most.
        """
        return self._neighbours(node)[:limit]

    def _near(self, node: int) -> tuple[int, ...]:
        found = dict.fromkeys((*self._callees[node], *self._callers[node]))
        for ways, beyond, hops in ((self._onward, self._callees, 2), (self._inward, self._callers, -2)):
            for far in sorted({far for way in ways[node] for far in beyond[way]}):
                if len(found) < MAX_NEAR and self.hops(node, far) == hops:
                    found[far] = None
        return tuple(found)

    def calls(self, a: int, b: int) -> bool:
        """Say whether `a` calls `b`, itself or through one other, by edges that nobody merely learned."""
        if self._is_call(a, b):
            return True
        return any(
            self._is_call(a, way) and self._is_call(way, b) for way in self._onward[a] & self._inward[b]
        )

    def _is_call(self, a: int, b: int) -> bool:
        edge = self._edges.get((a, b))
        return edge is not None and edge.origin != "learned"

    def said(self, a: int, b: int) -> str:
        """Return how two nodes within two hops stand to each other, in words; "" for others."""
        hops = self.hops(a, b)
        caller, callee = (a, b) if hops > 0 else (b, a)
        if abs(hops) == 1:
            return self._said_edge(self._edges[caller, callee])
        if abs(hops) != 2:  # noqa: PLR2004 - hops
            return ""
        way = min(self._onward[caller] & self._inward[callee])
        first, second = self._edges[caller, way], self._edges[way, callee]
        return f"{self._said_edge(first)}, {self._said_edge(second)}"

    def _said_edge(self, edge: Edge) -> str:
        caller, callee = self.name(edge.caller), self.name(edge.callee)
        if edge.origin == "learned":
            return f"{callee} precedes {caller} ({edge.evidence or SAID_ORIGINS[edge.origin]})"
        return f"{caller} calls {callee} ({SAID_ORIGINS[edge.origin]})"

    # ---- all of it -----------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._services)

    def name(self, node: int) -> str:
        """Return what a node is called: with cluster and namespace only where others have its name."""
        service = self._services[node]
        return service.title if len(self._by_name[service.name]) > 1 else service.name

    def services(self) -> tuple[Service, ...]:
        """Return the services in order of their nodes."""
        return tuple(self._services)

    def edge(self, a: int, b: int) -> Edge | None:
        """Return the edge by which `a` calls `b`, None if there is none."""
        return self._edges.get((a, b))

    def edges(self) -> tuple[Edge, ...]:
        """Return all edges, by the nodes they lead from and to."""
        return tuple(edge for _, edge in sorted(self._edges.items()))

    @property
    def version(self) -> str:
        """A digest of the label, the services and the edges; what an edge was seen by does not change it."""
        if not self._version:
            edges = [(edge.caller, edge.callee, edge.origin) for edge in self.edges()]
            whole = msgspec.json.encode([self.label, self._services, edges])
            self._version = blake2b(whole, digest_size=8).hexdigest()
        return self._version


def _is_short(about: Iterable[tuple[str, str]]) -> bool:
    """Say whether labels may be remembered: caches count entries, not bytes."""
    return all(len(value) <= REMEMBERED for _, value in about)


def _named(tokens: Iterable[Token]) -> dict[str, str]:
    """Return the first service, workload, cluster and namespace among tokens."""
    found: dict[str, str] = {}
    for token in tokens:
        kind, _, value = token.key.partition("=")
        if kind in _PLACES or kind in _KINDS:
            found.setdefault(kind, value)
    return found


def _place_of(labels: Mapping[str, str], named: Mapping[str, str]) -> dict[str, str]:
    """Return the cluster and the namespace of what an alert is about, "" where it does not say so."""
    namespace = named.get("namespace", "")
    if namespace:  # that of who was scraped, where both are there
        namespace = labels.get("exported_namespace") or namespace
    return {"cluster": named.get("cluster", ""), "namespace": namespace}


def _agreement(service: Service, place: Mapping[str, str]) -> int:
    """Return on how much a service and a place agree, -1 where they contradict each other."""
    agreed = 0
    for mine, theirs in (
        (service.cluster, place.get("cluster")), (service.namespace, place.get("namespace")),
    ):  # fmt: skip
        if mine and theirs:
            if mine != theirs:
                return -1
            agreed += 1
    return agreed
