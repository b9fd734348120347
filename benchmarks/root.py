"""Does Tocsin name what came first, and does it stay silent where nothing happened? On true incidents, not its own.

    python benchmarks/root.py [--seeds 0,1,2] [--days 14]     # generated worlds
    python benchmarks/root.py --data DIR                      # recorded: ops-alerts and petshop

DIR holds `ops-alerts/*.csv` and `petshop/*/`. hit@k: the share of true incidents of which an alert of the root stands
among the first k; what never alerted about its root is a miss for everybody (`possible` is the most there is). Where a
baseline has ties, the mean over all orders of them; Tocsin parts alerts of one moment by who calls whom. Kinds of
alerts are told apart by their templates, as a tenant with few of them has it. Nothing is random but the generated
worlds, which a seed makes; two runs print the same.

Rows of Tocsin: as it acts after so many incidents whose root was named, the newest of the earlier part, and what the
learned ranking would have said there had it been allowed to act. Learned orders come from the earlier part alone.

Quiet: periods without a fault, whose alerts are taken for one incident. Claims are edges of the causal graph that
stand on a learned order, and suspects among two or more with a learned probability of at least 0.5, or 0.9 (a
confidence of the baseline is no probability and claims nothing). An edge by a call alone says no more than that, it is
counted beside. `scrambled` is the earlier part with every burst of every kind put anywhere, so that what is found there
is false.

What the figures are not:

* In generated worlds a fault's own rules are mostly critical, which is why severity and time are so good there, and one
  author made both the worlds and the ranking. Rules that see a fault itself fire for nothing else, so who knows the
  record of a kind knows nearly everything; the row without it is the one to look at. They check the mechanics.
* Every third noise alert there is by a rule that faults fire, too, those of their roots among them.
* ops-alerts: one fault at a time, two and a half hours apart here; alerts exist inside of faults only, so nothing can
  be said about quiet. Severity does not exist there. Root: alerts of the component that was broken; what the recording
  names is sometimes a machine or a service of which there is no alert.
* petshop: alerts are made from metrics of five minutes by one rule, so most alerts of an issue begin at once. 36 issues
  of four components; the training issues are all of a fifth one. That a call parts alerts of one moment was decided
  after these figures had been seen once. One issue more or less is 0.03.
* Who names roots here is always right. Nobody is.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from math import comb
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from benchmarks.parts import recorded, storms
from benchmarks.parts.petshop import Alert as Crossed
from benchmarks.parts.petshop import Shop
from benchmarks.parts.streams import SOURCE, Firing, Stream
from bridge.analysis.causal_graph import graph_of, key_of, looked_at
from bridge.analysis.causality import Orders, fit_causes
from bridge.analysis.entities import subject_of
from bridge.analysis.families import own_family
from bridge.analysis.learning import History, Sighting
from bridge.analysis.ranking import importance
from bridge.analysis.roots import Insight, NamedRoot, Ranker, Sample, fit_ranker, suspects
from bridge.analysis.settings import AnalysisSettings
from bridge.analysis.text import TemplateCache
from bridge.analysis.topology import DEFAULT_LABEL, Call, Chart, Service, Topology
from bridge.model import SEVERITY_RANK, Alert
from bridge.webhooks.alertmanager import fingerprint_of

TOPS = (1, 3, 5)
NAMED = (40, 100, 400)
SPACING_S = 9100.0  # no shift by which chance is counted falls on the next fault
QUIET_S = 900.0
CLAIMED_FROM = (0.5, 0.9)
BURST_S = 900.0
SEVERITIES = AnalysisSettings().severities


@dataclass(frozen=True, slots=True)
class Case:
    """One true incident."""

    alerts: list[Sample]  # the first of each label set
    roots: frozenset[tuple]  # keys of alerts of the root

    def named(self) -> NamedRoot | None:
        """Return what a person would say of it: the first alert of the root."""
        own = [each for each in self.alerts if key_of(each) in self.roots]
        first = min(own, key=lambda each: (each.starts_at, each.fingerprint), default=None)
        return None if first is None else NamedRoot(root=key_of(first), alerts=tuple(self.alerts))


@dataclass(slots=True)
class World:
    """What is learned from, and what is asked about."""

    name: str
    earlier: list[Case]
    later: list[Case]
    history: list[Sighting]  # of the earlier part
    chart: Chart
    quiet: list[list[Sample]] = field(default_factory=list)


# ---- worlds --------------------------------------------------------------------------------------------


def generated(seed: int, days: float, reported: float) -> World:
    """Return a generated world."""
    stream = storms.storm(seed, days=days, reported_days=reported)
    world = from_stream(stream, lambda firing: firing.root)
    world.quiet = _quiet(stream)
    return world


def ops(path: Path) -> World:
    """Return a recording; the first half of its incidents is the earlier part."""
    stream = recorded.ops(path, SPACING_S)

    def is_root(firing: Firing) -> bool:
        broken = stream.root_entity.get(firing.incident)
        return broken in {firing.labels.get(name) for name in ("service", "pod", "instance")}

    world = from_stream(stream, is_root)
    world.name = path.stem
    return world


def from_stream(stream: Stream, is_root: Callable[[Firing], bool]) -> World:
    """Return the incidents of a stream: noise teaches, too, and is none."""
    known = {
        firing.key: told(firing.labels, firing.annotations, firing.starts_at) for firing in stream.firings
    }
    incidents: dict[str, list[Firing]] = {}
    for firing in stream.firings:
        if not firing.noise:
            incidents.setdefault(firing.incident, []).append(firing)
    cases: tuple[list[Case], list[Case]] = ([], [])
    for firings in incidents.values():
        firsts: dict[str, Firing] = {}
        for firing in firings:
            firsts.setdefault(firing.fingerprint, firing)
        roots = frozenset(key_of(known[each.key]) for each in firsts.values() if is_root(each))
        late = firings[0].starts_at >= stream.split_at
        cases[late].append(Case([known[each.key] for each in firsts.values()], roots))
    history = [sighting(known[each.key]) for each in stream.firings if each.starts_at < stream.split_at]
    return World(stream.name, *cases, history, chart_of(stream.topology))


def _quiet(stream: Stream) -> list[list[Sample]]:
    """Return the alerts of periods of a quarter of an hour, one after the other, in which no fault shows."""
    faults = [each.starts_at for each in stream.firings if not each.noise]
    busy = {int(at.timestamp() // QUIET_S) + step for at in faults for step in (-1, 0, 1)}
    periods: dict[int, dict[str, Sample]] = {}
    for firing in stream.firings:
        number = int(firing.starts_at.timestamp() // QUIET_S)
        if firing.noise and firing.starts_at >= stream.split_at and number not in busy:
            alert = told(firing.labels, firing.annotations, firing.starts_at)
            periods.setdefault(number, {}).setdefault(firing.fingerprint, alert)
    return [list(alerts.values()) for _, alerts in sorted(periods.items())]


def petshop(folder: Path) -> World:
    """Return one folder of PetShop."""
    shop = Shop(folder)
    parts = []
    for part in ("train", "test"):
        cases = []
        for issue in shop.issues(part):
            alerts = [_crossed(each) for each in _firsts(issue.alerts)]
            roots = frozenset(key_of(each) for each in alerts if each.labels["service"] == issue.root)
            cases.append(Case(alerts, roots))
        parts.append(cases)
    history = [sighting(_crossed(each)) for each in shop.history()]
    history += [sighting(each) for case in parts[0] for each in case.alerts]
    calls = shop.topology()
    names = sorted({name for call in calls for name in call})
    chart = Chart(
        origin="file", services=tuple(Service(name=name) for name in names),
        calls=tuple(Call(names.index(caller), names.index(callee)) for caller, callee in calls),
    )  # fmt: skip
    quiet = [[_crossed(each) for each in _firsts(period)] for period in shop.quiet()]
    return World(f"petshop {folder.name}", *parts, history, chart, quiet)


def _firsts(alerts: Sequence[Crossed]) -> list[Crossed]:
    firsts: dict[tuple[str, str], Crossed] = {}
    for each in alerts:
        firsts.setdefault((each.component, each.name), each)
    return list(firsts.values())


def _crossed(alert: Crossed) -> Sample:
    labels = {"alertname": alert.name, "service": alert.component, "severity": alert.severity}
    return told(
        labels, {"summary": f"{alert.name} of {alert.component}"}, datetime.fromtimestamp(alert.at_s, UTC)
    )


_TEXTS = TemplateCache()


def told(labels: dict[str, str], annotations: dict[str, str], at: datetime) -> Sample:
    """Return an alert as thinking sees it."""
    fingerprint = fingerprint_of(labels)
    template = _TEXTS.template_of(
        Alert(
            tenant="", source=SOURCE, fingerprint=fingerprint, labels=labels, annotations=annotations, firing=True,
            starts_at=at, ends_at=None,
        )
    )  # fmt: skip
    return Sample(
        source=SOURCE, fingerprint=fingerprint, starts_at=at, seen_at=at, labels=labels, template=template.id,
        severity=SEVERITIES.get(labels.get("severity", ""), "warning"),
    )  # fmt: skip


def sighting(alert: Sample) -> Sighting:
    """Return an alert as learning remembers it."""
    at_s = alert.starts_at.timestamp()
    return Sighting(at_s, alert.source, alert.fingerprint, alert.starts_at, alert.template, alert.labels)


def chart_of(services: Sequence[dict[str, Any]]) -> Chart:
    """Return the chart of a topology file's `services:`."""
    listed = [
        Service(name=each["name"], cluster=each.get("cluster", ""), namespace=each.get("namespace", ""))
        for each in services
    ]
    place = {(each.name, each.cluster): number for number, each in enumerate(listed)}
    calls = [
        Call(number, place[callee, listed[number].cluster])
        for number, each in enumerate(services)
        for callee in each["calls"]
    ]
    return Chart(origin="file", services=tuple(listed), calls=tuple(calls))


# ---- rankings ------------------------------------------------------------------------------------------

#: Each gives an alert of a case a key; the least is suspected first, equal keys are a tie.
BASELINES: dict[str, Callable[[Sample, Counter], tuple]] = {
    "random": lambda _alert, _counts: (),
    "earliest": lambda alert, _counts: (alert.starts_at,),
    "alert count, then earliest": lambda alert, counts: (-counts[_thing(alert)], alert.starts_at),
    "severity, then earliest": lambda alert, _counts: (-SEVERITY_RANK[alert.severity], alert.starts_at),
}


def _thing(alert: Sample) -> str:
    subject = subject_of(alert.labels)
    return subject.key if subject else alert.fingerprint


def hits(case: Case, key: Callable[[Sample, Counter], tuple]) -> list[float]:
    """Return the chance that a root is among the first 1, 3, 5, over all orders of ties."""
    counts = Counter(_thing(each) for each in case.alerts)
    keyed = sorted(
        ((key(each, counts), key_of(each) in case.roots) for each in case.alerts), key=lambda each: each[0]
    )
    ties = [[is_root for _, is_root in tie] for _, tie in groupby(keyed, key=lambda each: each[0])]
    return [_chance(ties, top) for top in TOPS]


def _chance(ties: Sequence[Sequence[bool]], top: int) -> float:
    left = top
    for tie in ties:
        roots = sum(tie)
        if left <= 0:
            return 0.0
        if roots:
            drawn = min(left, len(tie))
            return 1 - comb(len(tie) - roots, drawn) / comb(len(tie), drawn)
        left -= len(tie)
    return 0.0


def suspected(case: Case, insight: Insight, ranker: Ranker) -> tuple[list[float], float]:
    """Return hit@1, 3, 5 of Tocsin's own suspects, and the confidence of the first."""
    ranked = sorted(case.alerts, key=importance)
    found = suspects(ranked, insight.scene(looked_at(ranked)), ranker)
    right = [(SOURCE, each.fingerprint, each.starts_at) in case.roots for each in found]
    return [float(any(right[:top])) for top in TOPS], found[0].confidence if found else 0.0


# ---- tables --------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Table:
    """One row per ranking: a list of hits per case."""

    rows: dict[str, list[list[float]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, listed: list[list[float]]) -> None:
        """Add the hits of one world to a row."""
        self.rows.setdefault(name, []).extend(listed)

    def print(self, title: str) -> None:
        """Print the means over all cases."""
        width = max(map(len, self.rows))
        print(f"\n{title}\n{'':{width}} " + " ".join(f"{f'hit@{top}':>6}" for top in TOPS))
        for name, listed in self.rows.items():
            means = [sum(column) / len(listed) for column in zip(*listed, strict=True)]
            print(f"{name:{width}} " + " ".join(f"{mean:6.3f}" for mean in means))
        for note in self.notes:
            print(f"  {note}")
        sys.stdout.flush()


def judge(table: Table, world: World) -> None:
    """Add one world to a table."""
    table.add("possible", [[float(bool(case.roots))] * len(TOPS) for case in world.later])
    for name, key in BASELINES.items():
        table.add(name, [hits(case, key) for case in world.later])
    causes = fit_causes(history_of(world))
    topology = Topology([world.chart], label=DEFAULT_LABEL)
    insight = Insight(topology, own_family, Orders(causes))
    named = [told for case in world.earlier if (told := case.named()) is not None]
    table.notes.append(
        f"{world.name}: {len(world.later)} incidents, {sum(len(c.alerts) for c in world.later)} alerts;"
        f" {len(causes.edges)} of {causes.asked} orders learned, topology supports"
        f" {sum(edge.supported for edge in causes.edges)}"
    )
    table.add("tocsin, nothing named", [suspected(case, insight, Ranker())[0] for case in world.later])
    ranker = Ranker()
    for number in NAMED:
        ranker = fit_ranker(named[-number:], insight)
        table.add(f"tocsin, {number} named", [suspected(case, insight, ranker)[0] for case in world.later])
        table.notes.append(f"{world.name}, {number} named: {ranker.verdict.reason}")
    plain = fit_ranker(named[-NAMED[-1] :], insight, without={"record"})
    if plain.weights:
        plain = replace(plain, verdict=replace(plain.verdict, acts=True))
        name = f"learned from {NAMED[-1]}, without a kind's record"
        table.add(name, [suspected(case, insight, plain)[0] for case in world.later])
    if ranker.weights:
        forced = replace(ranker, verdict=replace(ranker.verdict, acts=True))
        judged = [suspected(case, insight, forced) for case in world.later]
        table.add(f"learned from {NAMED[-1]}, allowed or not", [each for each, _ in judged])
        mean = sum(confidence for _, confidence in judged) / len(judged)
        right = sum(each[0] for each, _ in judged) / len(judged)
        table.notes.append(
            f"{world.name}: its first suspect has {mean:.2f} on average, and is right in {right:.2f}"
        )
    table.notes += [silence(world, insight, ranker)] if world.quiet else []
    table.notes.append(scrambled(world))


def history_of(world: World, moved: Callable[[Sighting], Sighting] = lambda each: each) -> History:
    """Return what the earlier part teaches."""
    sightings = [moved(each) for each in world.history]
    return History(sightings, families={}, vectors={}, charts=[world.chart], label=DEFAULT_LABEL)


def silence(world: World, insight: Insight, ranker: Ranker) -> str:
    """Return in how many quiet periods something is claimed."""
    ordered = several = called = 0
    sure = dict.fromkeys(CLAIMED_FROM, 0)
    for alerts in world.quiet:
        ranked = sorted(alerts, key=importance)
        scene = insight.scene(looked_at(ranked))
        found = suspects(ranked, scene, ranker)
        several += len(alerts) > 1
        learned = any(pair.learned for pair in scene.pairs)
        ordered += learned
        called += bool(graph_of(scene).edges) and not learned
        for least in sure:
            sure[least] += ranker.verdict.acts and len(alerts) > 1 and found[0].confidence >= least
    number = len(world.quiet)
    return (
        f"{world.name}: quiet: {number} periods, {several} with two alerts or more; no learned order claimed in"
        f" {1 - ordered / number:.3f}, no suspect with a probability of "
        + ", of ".join(f"{least:g} or more in {1 - count / number:.3f}" for least, count in sure.items())
        + f"; {called} have an edge by a call alone"
    )


def scrambled(world: World) -> str:
    """Return how many orders are found where there is none: every burst of every kind is put anywhere."""
    dice = random.Random(f"scrambled {world.name}")
    times = [each.at_s for each in world.history]
    first_s, span_s = min(times), max(times) - min(times) + 1
    last: dict[str, tuple[float, float]] = {}  # template -> its newest alert, and by how much its burst moves
    moves: dict[tuple[str, str, datetime], float] = {}
    for each in sorted(world.history, key=lambda each: (each.at_s, each.key)):
        at_s, move_s = last.get(each.template, (float("-inf"), 0.0))
        if each.at_s - at_s > BURST_S:
            move_s = dice.uniform(0, span_s)
        last[each.template] = (each.at_s, move_s)
        moves[each.key] = move_s

    def moved(each: Sighting) -> Sighting:
        at_s = first_s + (each.at_s - first_s + moves[each.key]) % span_s
        return replace(each, at_s=at_s, starts_at=each.starts_at + timedelta(seconds=at_s - each.at_s))

    causes = fit_causes(history_of(world, moved))
    return f"{world.name}: scrambled: {len(causes.edges)} of {causes.asked} orders found"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument(
        "--seeds", type=lambda text: [int(each) for each in text.split(",")], default=[0, 1, 2]
    )
    parser.add_argument("--days", type=float, default=14.0)
    parser.add_argument("--reported", type=float, default=4.0)
    given = parser.parse_args()
    if given.data is None:
        table = Table()
        for seed in given.seeds:
            judge(table, generated(seed, given.days, given.reported))
        table.print(f"Generated worlds, {given.days:g} days, the last {given.reported:g} reported")
        return
    for file in recorded.ops_files(given.data / "ops-alerts"):
        table = Table()
        judge(table, ops(file))
        table.print(f"ops-alerts {file.stem}, second half")
    table = Table()
    for folder in sorted((given.data / "petshop").glob("*_traffic")):
        judge(table, petshop(folder))
    table.print("petshop, test issues")


if __name__ == "__main__":
    main()
