"""Webhook to committed incident on one core: alerts a second, and where the time goes.

Rows of 10 alerts go from an inbox-like list through parse, dedup, families, linking, clustering, incidents and
routing into one committed transaction per batch (state, events, outbox, history, cursor), in one thread, on the
machine's own disk. The mix is the target's: 50 % new episodes, 30 % resends, 20 % resolves, 99.9 % known templates,
20,000 episodes open before the clock starts.

    python benchmarks/pipeline.py [--alerts 30000] [--open 20000] [--profile]
"""

from __future__ import annotations

import argparse
import cProfile
import io
import json
import pstats
import random
import resource
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bridge.analysis.settings import AnalysisSettings, Destination, Route
from bridge.app.garbage import collect_seldom
from bridge.model import InboxRow, RowKind
from bridge.pipeline import Common, Outcome, Redacting, State, advance
from bridge.storage.state import StateStore
from bridge.webhooks.alertmanager import fingerprint_of

START = datetime(2026, 1, 5, 3, 0, 0, tzinfo=UTC)
SETTINGS = AnalysisSettings(
    destinations=(Destination(name="siem", wait_s=0.0), Destination(name="chat", wait_s=30.0)),
    routes=(Route(to=("siem",)), Route(match=('severity="critical"',), to=("chat",))),
)
PER_WEBHOOK = 10
NAMESPACES = 160
#: Share of one stage in the profile: the function that is the stage, as file and name.
STAGES = {
    "redact": ("redacting.py", "row"),
    "parse the webhook": ("alertmanager.py", "parse"),
    "template (cached)": ("text.py", "template_of"),
    "dedup": ("dedup.py", "observe"),
    "linking and clustering": ("clustering.py", "choose"),
    "enter the incident": ("gathering.py", "_enter"),
    "anomaly: learn": ("anomaly.py", "learn"),
    "anomaly: score": ("events.py", "_score"),
    "event, title, summary": ("incidents.py", "event_of"),
    "commit": ("store.py", "commit"),
}


class World:
    """A fleet whose alerts are drawn from 200 rules over 4,000 services on 8,000 hosts."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.firing: list[tuple[dict[str, str], str]] = []
        self.serial = 0

    def fresh(self, at: datetime, namespace: int) -> tuple[dict[str, str], str]:
        """Return a new firing alert's labels and startsAt; its service is one of the namespace's."""
        self.serial += 1
        rule = self.draw.randrange(200)
        service = namespace + NAMESPACES * self.draw.randrange(4000 // NAMESPACES)
        labels = {
            "alertname": f"Rule{rule}", "severity": ("info", "warning", "critical")[rule % 3],
            "instance": f"node-{self.draw.randrange(8000)}:9100", "service": f"svc-{service}",
            "namespace": f"ns-{namespace}", "cluster": f"eu-{service % 4}", "job": f"job-{rule % 30}",
            "team": f"team-{service % 40}", "env": "prod", "pod": f"svc-{service}-7d9f8b6c5-{self.serial:05x}",
            "prometheus": "monitoring/k8s", "region": "eu",
        }  # fmt: skip
        alert = (labels, at.isoformat())
        self.firing.append(alert)
        return alert

    def body(self, kinds: str, at: datetime) -> bytes:
        """Return a webhook with one alert per letter: n new, r resend, e ends."""
        alerts = []
        namespace = self.draw.randrange(NAMESPACES)
        for kind in kinds:
            if kind == "n" or not self.firing:
                labels, starts = self.fresh(at, namespace)
            elif kind == "r":
                labels, starts = self.firing[self.draw.randrange(len(self.firing))]
            else:
                labels, starts = self.firing.pop(self.draw.randrange(len(self.firing)))
            alerts.append(self._alert(labels, starts, at if kind == "e" else None))
        group = f'{{}}:{{namespace="ns-{namespace}"}}'
        return json.dumps(
            {"version": "4", "groupKey": group, "receiver": "tocsin", "alerts": alerts}
        ).encode()

    def _alert(self, labels: dict[str, str], starts: str, ends: datetime | None) -> dict[str, object]:
        # One text in a thousand is of a kind never seen.
        odd = (
            f" of kind {chr(97 + self.serial % 26) * (1 + self.serial % 19)}"
            if self.draw.random() < 0.001
            else ""
        )
        rule = labels["alertname"]
        texts = {
            "summary": f"{rule} on {labels['instance']}{odd}",
            "description": f"{rule}: {labels['service']} in {labels['namespace']} is at {self.draw.random():.3f} "
            f"for more than 5 minutes on {labels['pod']}, please look at the runbook.",
        }
        return {
            "status": "resolved" if ends else "firing", "labels": labels, "annotations": texts,
            "startsAt": starts, "endsAt": ends.isoformat() if ends else "0001-01-01T00:00:00Z",
            "generatorURL": "http://prometheus:9090/graph?g0.expr=up", "fingerprint": fingerprint_of(labels),
        }  # fmt: skip


def rows_of(world: World, kinds: list[str], first: int, at: datetime, per_s: float) -> list[InboxRow]:
    """Return rows of `kinds`, one webhook each, arriving evenly."""
    rows = []
    for number, kind in enumerate(kinds):
        when = at + timedelta(seconds=number * PER_WEBHOOK / per_s)
        body = world.body(kind, when)
        rows.append(
            InboxRow(id=first + number, received_at=when, tenant="default", source="default",
                     kind=RowKind.WEBHOOK, body=body)
        )  # fmt: skip
    return rows


def run(store: StateStore, state: State, rows: list[InboxRow], per_batch: int) -> tuple[float, float, int]:
    """Return wall seconds, CPU seconds and the number of events, for all rows committed."""
    events = 0
    redacting = Redacting()
    begin, begin_cpu = time.perf_counter(), time.process_time()
    for start in range(0, len(rows), per_batch):
        batch = rows[start : start + per_batch]
        outcome: Outcome = advance(state, batch, redacting=redacting)
        store.commit(outcome, front="front-1", rows=batch)
        events += len(outcome.events)
    return time.perf_counter() - begin, time.process_time() - begin_cpu, events


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--alerts", type=int, default=30_000)
    parser.add_argument("--open", type=int, default=20_000)
    parser.add_argument("--per-batch", type=int, default=64, help="webhooks per transaction")
    parser.add_argument("--rate", type=float, default=3000.0, help="alerts a second in the rows' own time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--profile", action="store_true", help="where the time goes (slower: the profiler costs)"
    )
    given = parser.parse_args()
    collect_seldom()  # as the analyst does
    world = World(given.seed)
    with tempfile.TemporaryDirectory() as folder:
        store = StateStore(Path(folder) / "state.db")
        state = State(Common(settings=SETTINGS))
        filling = rows_of(world, ["n" * PER_WEBHOOK] * (given.open // PER_WEBHOOK), 1, START, 20.0)
        fill_s, _, _ = run(store, state, filling, given.per_batch)
        print(
            f"filled: {given.open} open episodes, {len(state.tenants['default'].groups)} incidents, {fill_s:.1f} s"
        )
        mix = "nnnnnrrree"
        kinds = ["".join(world.draw.sample(mix, PER_WEBHOOK)) for _ in range(given.alerts // PER_WEBHOOK)]
        rows = rows_of(
            world, kinds, len(filling) + 1, filling[-1].received_at + timedelta(seconds=1), given.rate
        )
        profiler = cProfile.Profile()
        if given.profile:
            profiler.enable()
        wall_s, cpu_s, events = run(store, state, rows, given.per_batch)
        profiler.disable()
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        groups = state.tenants["default"].groups
        print(
            f"{given.alerts} alerts in {wall_s:.2f} s = {given.alerts / wall_s:,.0f} alerts/s"
            f" ({given.alerts / cpu_s:,.0f} per CPU second), {events} events,"
            f" {len(groups)} incidents in memory, {rss:.0f} MB"
        )
        if given.profile:
            _print_stages(profiler, wall_s)
        store.close()


def _print_stages(profiler: cProfile.Profile, wall_s: float) -> None:
    stats = pstats.Stats(profiler, stream=io.StringIO())
    print(f"\n{'stage':28} {'share':>6}  (of {wall_s:.2f} s under the profiler)")
    for stage, (file, name) in STAGES.items():
        spent = sum(
            cumulative
            for (path, _, function), (_, _, _, cumulative, _) in stats.stats.items()  # type: ignore[attr-defined]
            if function == name and path.endswith(f"/{file}") and (name != "commit" or "storage" in path)
        )
        print(f"{stage:28} {spent / wall_s:6.1%}")


if __name__ == "__main__":
    main()
