"""Does Tocsin put together what has one cause, and keep apart what has not? On generated and on recorded incidents.

    python benchmarks/grouping.py [--seeds 0,1,2] [--days 14] [--rules DIR]    # generated worlds
    python benchmarks/grouping.py --data DIR [--noise 60]                      # recorded: ops-alerts and soc-alerts
    python benchmarks/grouping.py --pages                                      # who is called, and for what not
    python benchmarks/grouping.py --curve                                      # cost of an alert as the window grows
    python benchmarks/grouping.py --ablation                                   # what each feature is worth
    ... --fast                                                                 # one world, 6 days, no text baseline

DIR holds `ops-alerts/*.csv` and `soc-alerts/*.csv.zst`. Tocsin's rows are the real path (`pipeline.advance` over the
bytes of webhooks, vectors of the real encoder a tick later), from empty models through the history; only the reported
part is scored, by the incident in which each episode stands in the end, merges followed. Every parameter of a baseline
is the best of its grid on the training part; a line under each table says which. Two runs print the same figures.

What the figures are not:

* The generator and the linker have one author's idea of how faults spread; train and test come from one world. The
  generated tables check the mechanics. They are no expectation for anybody's own alerts.
* Few worlds: differences below about 0.03 mean nothing.
* Every noise alert is an incident of its own, so the ideal number of groups is large and the best compression is not
  the best grouping; compression stands beside the agreement and is no aim.
* The recorded faults came one at a time; that they overlap is made here. Which row belongs to which fault is known
  because of that, and whether the alerts hold enough to tell two faults apart is not: ten services, of which a fault
  reaches most. `fixed window, knows the grid` counts its windows from the first incident, which no real one can.
* V-measure is not printed: it is above 0.85 for everything.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import msgspec
import yaml

from benchmarks.parts import ablation, baselines, curve, recorded, storms
from benchmarks.parts.baselines import Choice, Groups, chosen, judged
from benchmarks.parts.metrics import Agreement, agreement, averaged
from benchmarks.parts.pages import called, said
from benchmarks.parts.person import operator
from benchmarks.parts.played import Played, Vectors, play, progress
from benchmarks.parts.streams import Firing, Stream
from bridge.analysis.settings import AnalysisSettings
from bridge.config import load_topology
from bridge.model import RowKind

SPACINGS_S = (120.0, 300.0, 600.0)
TEXT_TRAINING = timedelta(days=1)  # a text takes ten milliseconds
HEADS = ("P", "R", "F1", "B3 P", "B3 R", "B3 F1", "ARI", "found", "groups", "compr.")
LAST_COLUMN = "ARI by row"


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way of running Tocsin: a row of the table."""

    name: str
    settings: AnalysisSettings = field(default_factory=AnalysisSettings)
    topology: bool = True
    feedback_days: float = 0.0


def ways(given: argparse.Namespace) -> list[Way]:
    """Return the rows of Tocsin."""
    listed = [
        Way(name="tocsin, fallback only", settings=AnalysisSettings(grouping="bursts")),
        Way(name="tocsin, entities only", settings=AnalysisSettings(grouping="entities")),
        Way(name="tocsin, no labels"),
    ]
    if given.data:
        listed.append(Way(name="tocsin, history corrected", feedback_days=365))
    else:
        listed += [
            Way(name="tocsin, no labels, no topology", topology=False),
            Way(name="tocsin, HDBSCAN re-clusters", settings=AnalysisSettings(reclustering="hdbscan")),
            Way(name="tocsin, 1 day of feedback", feedback_days=1),
            Way(name="tocsin, 3 days of feedback", feedback_days=3),
        ]
    return [way for way in listed if not given.only or any(part in way.name for part in given.only)]


# ---- one stream ----------------------------------------------------------------------------------------


@dataclass(slots=True)
class Table:
    """The rows of one table: a name and one agreement per stream."""

    rows: dict[str, list[Agreement]] = field(default_factory=dict)
    by_row: dict[str, list[float]] = field(default_factory=dict)
    how: list[str] = field(default_factory=list)

    def add(self, name: str, stream: Stream, items: Sequence[Firing], groups: Groups) -> None:
        """Judge groups of the reported items."""
        self.rows.setdefault(name, []).append(judged(items, groups))
        if stream.rows:
            self.by_row.setdefault(name, []).append(by_row(stream, items, groups))

    def choose(self, name: str, stream: Stream, items: Sequence[Firing], choice: Choice) -> None:
        """Judge a baseline and remember how it was chosen."""
        self.add(name, stream, items, choice.groups)
        self.how.append(f"{stream.name}: {name}: {choice.how}")

    def print(self, title: str) -> None:
        """Print the means over the streams, and under them how parameters were chosen."""
        heads = (*HEADS, *([LAST_COLUMN] if self.by_row else []))
        width = max(map(len, self.rows))
        print(f"\n{title}\n{'':{width}} " + " ".join(f"{head:>6}" for head in heads))
        for name, figures in self.rows.items():
            print(f"{name:{width}} " + " ".join(f"{cell:>6}" for cell in _cells(averaged(figures))), end="")
            values = self.by_row.get(name)
            print(f" {sum(values) / len(values):10.3f}" if values else "")
        for line in self.how:
            print(f"  {line}")
        sys.stdout.flush()


def _cells(figures: Agreement) -> list[str]:
    names = ("precision", "recall", "f1", "b3_precision", "b3_recall", "b3_f1", "ari", "found")
    return [
        *(f"{getattr(figures, name):.3f}" for name in names),
        f"{figures.groups}",
        f"{figures.compression:.2f}",
    ]


def by_row(stream: Stream, items: Sequence[Firing], groups: Groups) -> float:
    """Return the ARI row by row: each row in the group of its episode, against its own incident."""
    truth = [incident for item in items for incident in stream.rows[item.key]]
    guess = [group for item, group in zip(items, groups, strict=True) for _ in stream.rows[item.key]]
    return agreement(truth, guess).ari


def compare(table: Table, stream: Stream, vectors: Vectors, *, by: str, text: bool) -> None:
    """Add the baselines, each chosen by the figure `by` on the training items."""
    items, training = stream.items(reported=True), stream.items(reported=False)
    second = "namespace" if any("namespace" in item.labels for item in items) else "service"
    for names in (("alertname", "cluster"), ("cluster", second)):
        table.add(f"alertmanager ({', '.join(names)})", stream, items, baselines.alertmanager(items, names))
    gaps = _tries("gap", baselines.GAPS_S, baselines.time_gap)
    table.choose("time gap per cluster", stream, items, chosen(training, items, gaps, by))
    windows = _tries("window", baselines.WINDOWS_S, baselines.fixed_window)
    table.choose("fixed window", stream, items, chosen(training, items, windows, by))
    if stream.on_grid:
        origin_s = recorded.START.timestamp()
        grid = _tries(
            "window", baselines.WINDOWS_S, lambda each, s: baselines.fixed_window(each, s, origin_s)
        )
        table.choose("fixed window, knows the grid", stream, items, chosen(training, items, grid, by))
    if text:
        lately = [item for item in training if item.starts_at >= stream.split_at - TEXT_TRAINING] or training
        tries = [
            (
                f"window {window_s} s, clusters of {least}",
                lambda each, w=window_s, n=least: baselines.text_clusters(each, vectors, w, n),
            )
            for window_s in baselines.TEXT_WINDOWS_S
            for least in baselines.TEXT_SIZES
        ]
        progress(f"{stream.name}: texts")
        table.choose("text alone (MiniLM, HDBSCAN)", stream, items, chosen(lately, items, tries, by))


def _tries(
    what: str, values: Iterable[int], method: Callable[[Sequence[Firing], float], Groups]
) -> list[tuple[str, Callable[[Sequence[Firing]], Groups]]]:
    return [(f"{what} {value} s", lambda items, value=value: method(items, value)) for value in values]


def think(table: Table, stream: Stream, vectors: Vectors, listed: Iterable[Way]) -> dict[str, Played]:
    """Add Tocsin's rows; return what came of each."""
    items = stream.items(reported=True)
    found = {}
    for way in listed:
        played, groups = played_groups(stream, vectors, way)
        unheard = played.unheard(items)
        if unheard:
            table.how.append(f"{stream.name}: {way.name}: {unheard} episodes came out under another start")
        table.add(way.name, stream, items, groups)
        found[way.name] = played
    return found


def played_groups(stream: Stream, vectors: Vectors, way: Way) -> tuple[Played, Groups]:
    """Let a stream through Tocsin; return what came of it and the incidents of the reported items."""
    rows = topology_rows(stream) if way.topology and stream.topology else []
    who = operator(stream, way.feedback_days) if way.feedback_days else None
    begin = time.perf_counter()
    name = f"{stream.name}: {way.name}"
    played = play(stream, vectors, settings=way.settings, operator=who, first_rows=rows, name=name)
    sys.stderr.write(
        f"{name}: {played.rows} rows, {played.seconds:.0f} s of CPU, {time.perf_counter() - begin:.0f} s\n"
    )
    return played, [played.incident_of(item.key) for item in stream.items(reported=True)]


def topology_rows(stream: Stream) -> list[tuple[RowKind, bytes]]:
    """Return the row that tells the known topology, as a start with that topology file writes it."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump({"services": stream.topology}, file)
        file.flush()
        chart = load_topology(Path(file.name), {}).chart
    return [(RowKind.TOPOLOGY, msgspec.json.encode(chart))]


# ---- the tables ----------------------------------------------------------------------------------------


def generated(given: argparse.Namespace, vectors: Vectors, listed: list[Way]) -> None:
    """Print the table of the generated worlds, and who was called."""
    table = Table()
    calls: dict[str, list] = {}
    for seed in given.seeds:
        stream = storms.storm(seed, days=given.days, reported_days=given.reported, rules=given.rules)
        overlap, faults = storms.overlapping(stream)
        items = stream.items(reported=True)
        table.how.append(
            f"{stream.name}: {len(items)} alerts reported, {sum(item.noise for item in items)} of them noise; "
            f"{faults} faults, {overlap / max(1, faults):.0%} of which overlap another of their cluster; "
            f"ideal: {len({item.incident for item in items})} groups"
        )
        if not given.pages:
            compare(table, stream, vectors, by="f1", text=not (given.fast or given.no_text))
        for name, played in think(table, stream, vectors, listed).items():
            calls.setdefault(name, []).append(called(stream, played))
    days = f"{given.days:g} days, the last {given.reported:g} reported"
    table.print(f"Generated worlds, {days}, mean of seeds {', '.join(map(str, given.seeds))}")
    if calls:
        print("\nWho is called (route: severity critical, to a pager)")
        for name, figures in calls.items():
            print(said(name, figures))


def real(given: argparse.Namespace, vectors: Vectors, listed: list[Way]) -> None:
    """Print the tables of the recorded streams."""
    for file in recorded.ops_files(given.data / "ops-alerts"):
        for spacing_s in given.spacings:
            table = Table()
            stream = recorded.ops(file, spacing_s, noise_an_hour=given.noise)
            items = stream.items(reported=True)
            compare(table, stream, vectors, by="ari", text=not (given.fast or given.no_text))
            most = [Counter(stream.rows[item.key]).most_common(1)[0][0] for item in items]
            table.add("oracle, one incident per episode", stream, items, most)
            think(table, stream, vectors, listed)
            incidents = len({item.incident for item in items})
            table.print(
                f"{file.stem}, incidents {spacing_s:.0f} s apart, second half: {incidents} incidents, "
                f"{len(items)} episodes{f', {given.noise:g} noise alerts an hour' if given.noise else ''}"
            )
    companies = [recorded.soc(file) for file in recorded.soc_files(given.data / "soc-alerts")]
    for stream in companies:
        others = [item for other in companies if other is not stream for item in other.items(reported=True)]
        attacked(stream, _by_start(others), vectors, listed)


def attacked(stream: Stream, training: Sequence[Firing], vectors: Vectors, listed: list[Way]) -> None:
    """Print the table of one attack among noise."""
    items = stream.items(reported=True)
    attack = sum(not item.noise for item in items)
    rows = {
        f"alertmanager ({', '.join(names)})": baselines.alertmanager(items, names)
        for names in (("alertname", "cluster"), ("cluster", "host"))
    }
    how = []
    for name, what, values, method in (
        ("time gap per cluster", "gap", baselines.GAPS_S, baselines.time_gap),
        ("fixed window", "window", baselines.WINDOWS_S, baselines.fixed_window),
    ):
        choice = chosen(training, items, _tries(what, values, method), "f1", baselines.judged_attack)
        rows[name] = choice.groups
        how.append(f"{name}: {choice.how}")
    for way in listed:
        rows[way.name] = played_groups(stream, vectors, way)[1]
    width = max(map(len, rows))
    print(
        f"\nsoc-alerts {stream.name}: {attack} episodes of an attack's phases, {len(items) - attack} of noise"
    )
    print(
        f"{'':{width}} {'P':>6} {'R':>6} {'F1':>6} {'found':>6} {'groups of the attack':>21} {'noise in them':>14}"
    )
    for name, groups in rows.items():
        figures = baselines.judged_attack(items, groups)
        print(
            f"{name:{width}} {figures.precision:6.3f} {figures.recall:6.3f} {figures.f1:6.3f} {figures.found:6.3f} "
            f"{figures.groups:21} {figures.strangers:14}"
        )
    print("\n".join(f"  {line}" for line in how), flush=True)


def _by_start(items: Iterable[Firing]) -> list[Firing]:
    return sorted(items, key=lambda item: (item.starts_at, item.fingerprint))


def asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seeds", type=lambda text: [int(each) for each in text.split(",")], default=[0, 1, 2]
    )
    parser.add_argument("--days", type=float, default=14.0, help="history and reported part together")
    parser.add_argument("--reported", type=float, default=4.0, help="days that are scored")
    parser.add_argument(
        "--rules", type=Path, help="draw the texts from public rules (JSON lines) in this folder"
    )
    parser.add_argument("--data", type=Path, help="recorded alerts instead of generated worlds")
    parser.add_argument(
        "--spacings", type=lambda text: [float(each) for each in text.split(",")], default=list(SPACINGS_S)
    )
    parser.add_argument("--noise", type=float, default=0.0, help="noise alerts an hour mixed into ops-alerts")
    parser.add_argument("--pages", action="store_true", help="count who is called")
    parser.add_argument("--curve", action="store_true", help="cost per alert as the open window grows")
    parser.add_argument("--ablation", action="store_true", help="one row per feature that is left out")
    parser.add_argument("--only", action="append", help="rows of Tocsin with this in their name")
    parser.add_argument(
        "--no-text", action="store_true", help="without the baseline of texts alone, minutes a world"
    )
    parser.add_argument("--fast", action="store_true", help="one world, 4 and 2 days, no text baseline")
    given = parser.parse_args()
    if given.fast:
        given.seeds, given.days, given.reported = given.seeds[:1], 6.0, 2.0
    return given


def world(seed: int, given: argparse.Namespace, vectors: Vectors) -> ablation.World:
    """Return a generated world as links see it."""
    stream = storms.storm(seed, days=given.days, reported_days=given.reported, rules=given.rules)
    return ablation.World(stream, topology_rows(stream)[0][1], vectors)


def main() -> None:
    given = asked()
    if given.curve:
        curve.show()
        return
    vectors = Vectors()
    if given.ablation:
        ablation.show([world(seed, given, vectors) for seed in given.seeds])
        return
    listed = ways(given)
    if given.data:
        real(given, vectors, listed)
    else:
        generated(given, vectors, listed)


if __name__ == "__main__":
    main()
