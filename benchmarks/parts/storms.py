"""Generated worlds: two clusters of services, and some weeks of faults, overlapping more often than not.

    python benchmarks/parts/storms.py [--seed 0] [--days 14]     # what a world is made of

Setting: 2 clusters with 26 applications and 8 stores each, 20 machines, calls between services of which a topology
file knows 70 %. Faults of nine kinds start 24 times a day; every third brings a second one in the same cluster within
minutes. A fault's own alerts come first, or not: each rule waits for its `for:`. It spreads to callers with a lag per
edge, less surely with each step. Some alerts return before the fault is over. Beside that, some alerts flap for hours
and others come and go by themselves, every third of them by a rule that faults fire, too.

Every seed is another world: names, calls, lags, delays, severities, which labels a rule carries. The same seed gives
the same bytes, whatever PYTHONHASHSEED is.

Truth: all that a fault caused is one incident; every other alert is one of its own (a flapping one for as long as it
returns within half an hour). As in Prometheus there is one alert per label set: one that fires already is not fired
again by a second fault, it goes on, and stays with the first.
"""

from __future__ import annotations

import argparse
import math
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from string import Formatter

from benchmarks.parts.rules import KINDS, OWN, Rule, from_public_rules
from benchmarks.parts.streams import Firing, Stream, first_of_each

START = datetime(2026, 3, 2, tzinfo=UTC)
DAY_S = 86_400.0
CLUSTERS = 2
APPS, STORES, MACHINES, FRONTS = 26, 8, 10, 4  # per cluster
KNOWN_EDGES = 0.7
FAULTS_A_DAY, DOUBLED, DOUBLED_WITHIN_S = 24.0, 0.3, 480.0
SPREAD = (0.6, 0.45, 0.3)  # chance that a caller feels it, per step away
NOISE_A_DAY, FLAPPERS = 400.0, 14
FAULT_MEDIAN_S, FAULT_SIGMA = 1080.0, 0.6
LEAST_FIRING_S, LEAST_PAUSE_S = 75.0, 75.0  # shorter ones an Alertmanager would not tell
RETURNS = 0.12  # share of alerts that end and come back while the fault goes on
EVALUATED_EVERY_S = 15.0

WORDS = (
    "account", "address", "auth", "basket", "billing", "booking", "catalog", "checkout", "claims", "content", "coupon",
    "courier", "currency", "delivery", "discount", "export", "feed", "fraud", "gateway", "geo", "identity", "image",
    "inventory", "invoice", "ledger", "loyalty", "mailer", "media", "notify", "offer", "order", "payment", "pricing",
    "profile", "quote", "rating", "refund", "report", "review", "risk", "search", "session", "shipping", "stock",
    "tariff", "tax", "ticket", "tracking", "voucher", "wallet",
)  # fmt: skip
STORE_KINDS = ("postgres", "mysql", "redis", "kafka", "mongo", "elastic", "rabbit", "cassandra")
TEAMS = ("alder", "birch", "cedar", "elm", "fir", "hazel", "larch", "oak", "pine", "rowan")
#: What a fault of a kind can hit.
HITS: dict[str, tuple[str, ...]] = {
    "node lost": ("node",), "memory": ("node", "app"), "disk": ("store", "node"), "slow store": ("store",),
    "bad release": ("app",), "surge": ("front", "app"), "network": ("node",), "certificate": ("app", "store"),
    "queue": ("store",),
}  # fmt: skip


@dataclass(slots=True)
class Service:
    """One service of one cluster."""

    name: str
    cluster: str
    namespace: str
    team: str
    is_store: bool
    calls: dict[str, float] = field(default_factory=dict)  # name -> median lag until this one feels it, s
    called_by: list[str] = field(default_factory=list)
    pods: list[tuple[str, str]] = field(default_factory=list)  # (pod, node)


@dataclass(slots=True)
class Cluster:
    """One cluster: its services by name, and its machines."""

    name: str
    services: dict[str, Service]
    nodes: list[str]

    def of_kind(self, kind: str) -> list[str]:
        """Return what a fault can hit: names of services or machines."""
        if kind == "node":
            return self.nodes
        apps = [each.name for each in self.services.values() if not each.is_store]
        if kind == "front":
            return apps[:FRONTS]
        return apps if kind == "app" else [each.name for each in self.services.values() if each.is_store]


@dataclass(frozen=True, slots=True)
class Carried:
    """Which labels the alerts of a rule carry in this world."""

    service: bool
    team: bool
    node: bool
    by_state_metrics: bool


class World:
    """All that does not change while time goes on, but for the names of pods."""

    def __init__(self, seed: int, rules: Path | None = None) -> None:
        self.seed = seed
        self.dice = dice = random.Random(f"world {seed}")
        listed = OWN if rules is None else from_public_rules(rules, random.Random(f"rules {seed}"))
        self.rules = [self._varied(rule) for rule in listed]
        self.carried = {
            rule.name: Carried(*(dice.random() < p for p in (0.65, 0.4, 0.3, 0.4))) for rule in self.rules
        }
        self.phase = {rule.name: dice.uniform(0, EVALUATED_EVERY_S) for rule in self.rules}
        self.clusters = [
            self._cluster(name) for name in dice.sample(("ams", "fra", "iad", "lhr", "sin"), CLUSTERS)
        ]

    def _varied(self, rule: Rule) -> Rule:
        dice = self.dice
        for_s = min(600.0, rule.for_s * dice.choice((0.5, 1.0, 1.0, 2.0)))
        severity = rule.severity
        if dice.random() < 0.2:
            severity = {"critical": "warning", "info": "warning"}.get(
                severity, "critical" if rule.role == "root" else "info"
            )
        return replace(rule, for_s=for_s, severity=severity)

    def _cluster(self, name: str) -> Cluster:
        dice = self.dice
        spaces = dice.sample(("core", "shop", "pay", "data", "edge", "ops", "web", "api"), 6)
        teams = {space: dice.choice(TEAMS) for space in spaces}
        nodes = [f"{name}-n{number:02}" for number in dice.sample(range(1, 60), MACHINES)]
        apps = dice.sample(WORDS, APPS)
        stores = [f"{word}-{dice.choice(STORE_KINDS)}" for word in dice.sample(WORDS, STORES)]
        services: dict[str, Service] = {}
        for each in (*apps, *stores):
            space = dice.choice(spaces)
            services[each] = Service(each, name, space, teams[space], each in stores)
        self._draw_calls(services, apps, stores)
        cluster = Cluster(name, services, nodes)
        for service in services.values():
            service.pods = [self.fresh_pod(cluster, service, number) for number in range(dice.randint(2, 4))]
        return cluster

    def _draw_calls(self, services: dict[str, Service], apps: list[str], stores: list[str]) -> None:
        dice = self.dice
        for number, name in enumerate(apps):
            below = apps[max(FRONTS, number + 1) : number + 10]
            called = dice.sample(below, min(len(below), dice.randint(1, 3)))
            if dice.random() < 0.65:
                called += dice.sample(stores, dice.randint(1, 2))
            services[name].calls = {each: dice.lognormvariate(math.log(20.0), 0.6) for each in called}
        for number, name in enumerate(apps[FRONTS:], FRONTS):
            if not any(name in services[other].calls for other in apps[:number]):
                services[dice.choice(apps[:number])].calls[name] = dice.lognormvariate(math.log(20.0), 0.6)
        for service in services.values():
            for called in service.calls:
                services[called].called_by.append(service.name)

    def fresh_pod(self, cluster: Cluster, service: Service, number: int) -> tuple[str, str]:
        """Return a new pod's name and where it runs."""
        letters = "bcdfghjklmnpqrstvwxz2456789"
        tail = "".join(self.dice.choices(letters, k=5))
        name = (
            f"{service.name}-{number}"
            if service.is_store
            else f"{service.name}-{self.dice.getrandbits(36):09x}-{tail}"
        )
        return name, self.dice.choice(cluster.nodes)

    def topology(self) -> list[dict[str, object]]:
        """Return what a topology file knows: 70 % of the calls."""
        dice = random.Random(f"topology {self.seed}")
        return [
            {
                "name": service.name, "cluster": service.cluster, "namespace": service.namespace,
                "calls": [called for called in service.calls if dice.random() < KNOWN_EDGES],
            }
            for cluster in self.clusters
            for service in cluster.services.values()
        ]  # fmt: skip

    def of(self, kind: str, *roles: str) -> list[Rule]:
        """Return the rules of a kind of fault in certain roles."""
        return [rule for rule in self.rules if rule.kind == kind and rule.role in roles]


class History:
    """What happens in a world: candidates for firings, in no order."""

    def __init__(self, world: World, days: float) -> None:
        self.world = world
        self.days = days
        self.dice = random.Random(f"history {world.seed}")
        self.found: list[Firing] = []
        self.root_entity: dict[str, str] = {}

    # ---- one alert -----------------------------------------------------------------------------------------

    def fire(
        self, rule: Rule, cluster: Cluster, on: str | tuple[Service, tuple[str, str]] | Service, onset_s: float,
        over_s: float, incident: str, *, noise: bool = False,
    ) -> None:  # fmt: skip
        """Let a rule's expression hold from `onset_s` to `over_s`; it fires if that outlasts its `for:`."""
        phase = self.world.phase[rule.name]
        starts_s = onset_s + rule.for_s
        starts_s = math.ceil((starts_s - phase) / EVALUATED_EVERY_S) * EVALUATED_EVERY_S + phase
        if over_s - starts_s < LEAST_FIRING_S:
            return
        labels = self._labels(rule, cluster, on)
        spans = [(starts_s, over_s)]
        if not noise and over_s - starts_s > 900 and self.dice.random() < RETURNS:
            ends_s = starts_s + self.dice.uniform(120, 420)
            spans = [(starts_s, ends_s), (ends_s + self.dice.uniform(90, 420), over_s)]
        for first_s, last_s in spans:
            annotations = self._texts(rule, labels, on)
            self.found.append(
                Firing(
                    labels=labels, annotations=annotations, starts_at=_at(first_s), ends_at=_at(last_s),
                    incident=incident, noise=noise, root=rule.role == "root",
                )
            )  # fmt: skip

    def _labels(
        self, rule: Rule, cluster: Cluster, on: str | tuple[Service, tuple[str, str]] | Service
    ) -> dict[str, str]:
        carried = self.world.carried[rule.name]
        labels = {
            "alertname": rule.name,
            "cluster": cluster.name,
            "severity": rule.severity,
            "prometheus": f"monitoring/{cluster.name}",
        }
        if isinstance(on, str):
            if carried.by_state_metrics:
                return labels | {"node": on, "job": "kube-state-metrics"}
            return labels | {"instance": f"{on}:9100", "job": "node-exporter"}
        service = on if isinstance(on, Service) else on[0]
        labels["namespace"] = service.namespace
        if carried.team:
            labels["team"] = service.team
        if isinstance(on, Service):
            return labels | {"service": service.name, "job": service.name}
        pod, node = on[1]
        labels |= {"pod": pod, "job": "kube-state-metrics" if carried.by_state_metrics else service.name}
        if carried.service:
            labels["service"] = service.name
        if carried.node:
            labels["node"] = node
        return labels

    def _texts(
        self, rule: Rule, labels: dict[str, str], on: str | tuple[Service, tuple[str, str]] | Service
    ) -> dict[str, str]:
        node = on if isinstance(on, str) else labels.get("node", "")
        known = {
            "node": node,
            "instance": f"{node}:9100",
            "pod": "",
            "service": "",
            "namespace": "",
            **labels,
        }
        if not isinstance(on, str):
            known["service"] = on.name if isinstance(on, Service) else on[0].name
        known["value"] = f"{self.dice.uniform(1, 100):.1f}"
        return {"summary": _filled(rule.summary, known), "description": _filled(rule.description, known)}

    # ---- one fault -----------------------------------------------------------------------------------------

    def fault(self, incident: str, cluster: Cluster, at_s: float) -> None:
        """Let something break."""
        dice = self.dice
        kind = dice.choice(KINDS)
        hit = dice.choice(HITS[kind])
        what = dice.choice(cluster.of_kind(hit))
        over_s = at_s + max(300.0, dice.lognormvariate(math.log(FAULT_MEDIAN_S), FAULT_SIGMA))
        self.root_entity[incident] = what
        if hit == "node":
            struck = self._strike_node(incident, kind, cluster, what, at_s, over_s)
        else:
            self._strike_service(incident, kind, cluster, cluster.services[what], at_s, over_s)
            struck = {what: at_s}
        self._spread(incident, cluster, struck, over_s)
        if kind == "surge":
            self._press(incident, cluster, what, at_s, over_s)
        if kind in {"memory", "bad release", "node lost"}:
            self._replace_pods(cluster, struck)

    def _strike_node(
        self, incident: str, kind: str, cluster: Cluster, node: str, at_s: float, over_s: float
    ) -> dict[str, float]:
        """Let a machine's alerts fire, and those of what runs on it; return which services feel it, and when."""
        dice = self.dice
        for rule in self._roots(kind, {"node"}):
            self.fire(rule, cluster, node, at_s + dice.uniform(0, 20), self._end(over_s), incident)
        struck: dict[str, float] = {}
        for service in cluster.services.values():
            here = [pod for pod in service.pods if pod[1] == node]
            if not here or dice.random() < 0.35:
                continue
            felt_s = at_s + dice.lognormvariate(math.log(15.0), 0.7)
            for pod in here:
                self._some(incident, self.world.of(kind, "local"), cluster, (service, pod), felt_s, over_s)
            if dice.random() < 0.5:
                struck[service.name] = felt_s
                self._symptoms(incident, cluster, service, felt_s, over_s)
        return struck

    def _strike_service(
        self, incident: str, kind: str, cluster: Cluster, service: Service, at_s: float, over_s: float
    ) -> None:
        dice = self.dice
        for rule in self._roots(kind, {"service", "pod"}):
            pods = service.pods if rule.about == "pod" else [None]
            for pod in pods[: dice.randint(1, len(pods))]:
                on = service if pod is None else (service, pod)
                self.fire(rule, cluster, on, at_s + dice.uniform(0, 20), self._end(over_s), incident)
        local = self.world.of(kind, "local")
        self._some(incident, local, cluster, service, at_s + dice.uniform(5, 60), over_s)
        for pod in service.pods:
            self._some(incident, local, cluster, (service, pod), at_s + dice.uniform(5, 60), over_s)
        self._symptoms(incident, cluster, service, at_s + dice.uniform(5, 40), over_s)

    def _roots(self, kind: str, about: set[str]) -> list[Rule]:
        """Return which of a fault's own rules see it: one, or sometimes two."""
        rules = [rule for rule in self.world.of(kind, "root") if rule.about in about]
        return self.dice.sample(rules, min(len(rules), 1 + (self.dice.random() < 0.4)))

    def _some(
        self, incident: str, rules: list[Rule], cluster: Cluster, on: tuple[Service, tuple[str, str]] | Service,
        felt_s: float, over_s: float,
    ) -> None:  # fmt: skip
        about = "service" if isinstance(on, Service) else "pod"
        for rule in rules:
            if rule.about == about and self.dice.random() < 0.55:
                self.fire(rule, cluster, on, felt_s + self.dice.uniform(0, 30), self._end(over_s), incident)

    def _symptoms(
        self, incident: str, cluster: Cluster, service: Service, felt_s: float, over_s: float
    ) -> None:
        dice = self.dice
        rules = self.world.of("", "caller")
        for rule in dice.sample(rules, dice.randint(1, 3)):
            if rule.about == "service":
                self.fire(rule, cluster, service, felt_s + dice.uniform(0, 20), self._end(over_s), incident)
                continue
            for pod in dice.sample(service.pods, dice.randint(1, len(service.pods))):
                self.fire(
                    rule, cluster, (service, pod), felt_s + dice.uniform(0, 20), self._end(over_s), incident
                )

    def _spread(self, incident: str, cluster: Cluster, struck: dict[str, float], over_s: float) -> None:
        """Let callers feel it, step by step."""
        felt = dict(struck)
        edge = list(struck)
        for chance in SPREAD:
            reached = []
            for name in edge:
                for caller in cluster.services[name].called_by:
                    if caller in felt or self.dice.random() >= chance:
                        continue
                    lag_s = cluster.services[caller].calls[name] * self.dice.lognormvariate(0, 0.5)
                    felt[caller] = felt[name] + lag_s
                    reached.append(caller)
                    self._symptoms(incident, cluster, cluster.services[caller], felt[caller], over_s)
            edge = reached

    def _press(self, incident: str, cluster: Cluster, name: str, at_s: float, over_s: float) -> None:
        """Let what an overloaded service calls feel its load."""
        for called, lag_s in cluster.services[name].calls.items():
            service = cluster.services[called]
            if self.dice.random() < 0.6:
                felt_s = at_s + lag_s
                rules = self.world.of("surge", "callee")
                self._some(incident, rules, cluster, service, felt_s, over_s)
                self._some(
                    incident, rules, cluster, (service, self.dice.choice(service.pods)), felt_s, over_s
                )

    def _replace_pods(self, cluster: Cluster, struck: dict[str, float]) -> None:
        for name in struck:
            service = cluster.services[name]
            for number in range(len(service.pods)):
                if self.dice.random() < 0.5:
                    service.pods[number] = self.world.fresh_pod(cluster, service, number)

    def _end(self, over_s: float) -> float:
        return over_s + self.dice.lognormvariate(math.log(90.0), 0.8)

    # ---- what is no fault ----------------------------------------------------------------------------------

    def noise(self) -> None:
        """Let alerts come that nothing caused: each by itself, and some again and again."""
        dice, world = self.dice, self.world
        own = [rule for rule in world.rules if rule.role == "noise"]
        borrowed = [
            rule for rule in world.rules if rule.role in {"local", "caller"} and rule.severity != "critical"
        ]
        for number in range(round(NOISE_A_DAY * self.days)):
            at_s = dice.uniform(0, self.days * DAY_S)
            rule = dice.choice(own if dice.random() < 0.65 else borrowed)
            lasts_s = rule.for_s + max(90.0, dice.lognormvariate(math.log(400.0), 0.9))
            cluster = dice.choice(world.clusters)
            self.fire(
                rule,
                cluster,
                self._somewhere(rule, cluster),
                at_s,
                at_s + lasts_s,
                f"noise-{number}",
                noise=True,
            )
        for number in range(FLAPPERS):
            self._flap(number, dice.choice(own if dice.random() < 0.65 else borrowed))

    def _somewhere(self, rule: Rule, cluster: Cluster) -> str | tuple[Service, tuple[str, str]] | Service:
        if rule.about == "node":
            return self.dice.choice(cluster.nodes)
        service = self.dice.choice(list(cluster.services.values()))
        return service if rule.about == "service" else (service, self.dice.choice(service.pods))

    def _flap(self, number: int, rule: Rule) -> None:
        dice = self.dice
        cluster = dice.choice(self.world.clusters)
        on = self._somewhere(rule, cluster)
        rule = replace(rule, for_s=0.0)
        at_s, bout = dice.uniform(0, DAY_S), 0
        period_s = dice.uniform(240.0, 900.0)
        while at_s < self.days * DAY_S:
            until_s = at_s + dice.uniform(3600.0, 4 * 3600.0)
            while at_s < until_s:
                fires_s = dice.uniform(0.2, 0.6) * period_s
                self.fire(rule, cluster, on, at_s, at_s + fires_s, f"flap-{number}-{bout}", noise=True)
                at_s += max(fires_s + 90.0, period_s * dice.uniform(0.7, 1.3))
            at_s += dice.uniform(2 * 3600.0, 14 * 3600.0)
            bout += 1


def storm(seed: int, *, days: float = 14.0, reported_days: float = 4.0, rules: Path | None = None) -> Stream:
    """Return the history of a world: `days` in all, the last `reported_days` of which are reported."""
    world = World(seed, rules)
    history = History(world, days)
    for number, (cluster, at_s) in enumerate(_fault_starts(world, days)):
        history.fault(f"fault-{number}", cluster, at_s)
    history.noise()
    return Stream(
        name=f"seed {seed}", firings=list(_one_per_label_set(history.found)),
        split_at=_at((days - reported_days) * DAY_S), topology=world.topology(),
        root_entity=history.root_entity,
    )  # fmt: skip


def _fault_starts(world: World, days: float) -> list[tuple[Cluster, float]]:
    dice = random.Random(f"faults {world.seed}")
    starts: list[tuple[float, int]] = []
    at_s = 0.0
    while (at_s := at_s + dice.expovariate(FAULTS_A_DAY / DAY_S)) < days * DAY_S:
        cluster = dice.randrange(CLUSTERS)
        starts.append((at_s, cluster))
        if dice.random() < DOUBLED:
            starts.append((at_s + dice.uniform(0, DOUBLED_WITHIN_S), cluster))
    return [(world.clusters[cluster], at_s) for at_s, cluster in sorted(starts)]


def _one_per_label_set(candidates: list[Firing]) -> Iterator[Firing]:
    """Let what would fire while it fires already go on firing instead."""
    by_alert: dict[str, list[Firing]] = {}
    for firing in sorted(candidates, key=lambda each: (each.starts_at, each.ends_at, each.incident)):
        alert = by_alert.setdefault(firing.fingerprint, [])
        if alert and firing.starts_at <= alert[-1].ends_at + timedelta(seconds=LEAST_PAUSE_S):
            alert[-1] = replace(alert[-1], ends_at=max(alert[-1].ends_at, firing.ends_at))
        else:
            alert.append(firing)
    for alert in by_alert.values():
        yield from alert


def overlapping(stream: Stream) -> tuple[int, int]:
    """Return how many reported faults overlap another of their cluster, from first alert to last, and how many are."""
    spans: dict[tuple[str, str], list[datetime]] = {}
    for firing in stream.items(reported=True):
        if not firing.noise:
            spans.setdefault((firing.labels["cluster"], firing.incident), []).append(firing.starts_at)
    listed = [(cluster, min(times), max(times)) for (cluster, _), times in sorted(spans.items())]
    overlap = sum(
        any(
            one is not other and one[0] == other[0] and one[1] <= other[2] and other[1] <= one[2]
            for other in listed
        )
        for one in listed
    )
    return overlap, len(listed)


def _at(seconds: float) -> datetime:
    return START + timedelta(milliseconds=round(seconds * 1000))


def _filled(text: str, known: dict[str, str]) -> str:
    return "".join(
        literal + (known.get(name, "") if name else "") for literal, name, _, _ in Formatter().parse(text)
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--days", type=float, default=14.0)
    parser.add_argument("--rules", type=Path)
    given = parser.parse_args()
    stream = storm(given.seed, days=given.days, rules=given.rules)
    items = stream.items(reported=True)
    overlap, faults = overlapping(stream)
    sizes = sorted(Counter(each.incident for each in items if not each.noise).values())
    print(f"{len(stream.firings)} firings, {len(first_of_each(stream.firings))} items, {len(items)} reported: "
          f"{sum(each.noise for each in items)} noise, {faults} faults ({overlap / faults:.0%} overlap another), "
          f"alerts per fault {sizes[0]}/{sizes[len(sizes) // 2]}/{sizes[-1]}")  # fmt: skip
    print(
        f"ideal: {len({each.incident for each in items})} groups, {sum(each.critical for each in items)} criticals"
    )


if __name__ == "__main__":
    main()
