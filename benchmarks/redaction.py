"""What redaction adds to the way of an alert from its webhook to a committed incident: side by side, in one thread.

Three stores take in the same rows in turns, a batch each, in a changing order: one takes nothing out, one what is taken
out by default (secrets), one everything (all detectors, two rules for labels, one for annotations). The mix is that of
pipeline.py; instances are addresses, one text in a hundred holds a secret and one in ten an e-mail address.

Told are CPU seconds for each alert, the ratio to taking nothing out, and what redacting itself takes of it.

    python benchmarks/redaction.py [--alerts 9000] [--open 3000]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path

from msgspec.structs import replace
from pipeline import PER_WEBHOOK, SETTINGS, START, World, rows_of
from typing_extensions import override

from bridge.analysis.settings import AnalysisSettings
from bridge.app.garbage import collect_seldom
from bridge.model import InboxRow, RowKind
from bridge.pipeline import Common, Redacting, State, advance
from bridge.redaction import Redact, Rule
from bridge.storage.state import StateStore
from bridge.webhooks import alertmanager

EVERYTHING = Redact(
    labels=(Rule(name="pod", action="hash"), Rule(regex="(?:.*_)?region", action="drop")),
    annotations=(Rule(name="query*", action="mask"),),
    email="mask", ip="hash", card="mask", phone="mask",
)  # fmt: skip
WAYS = {"nothing": Redact(secrets="keep"), "default": Redact(), "everything": EVERYTHING}


class Open(World):
    """A fleet that says more than it should."""

    @override
    def fresh(self, at, namespace):
        labels, starts = super().fresh(at, namespace)
        labels["instance"] = f"10.{self.draw.randrange(32)}.{self.draw.randrange(250)}.{namespace}:9100"
        return labels, starts

    @override
    def _alert(self, labels, starts, ends):
        alert = super()._alert(labels, starts, ends)
        said = ""
        if self.draw.random() < 0.01:
            said = " last error: postgres://app:hunter2@db:5432/shop refused"
        elif self.draw.random() < 0.1:
            said = f" owner: user{self.draw.randrange(500)}@corp.example"
        alert["annotations"]["description"] += said
        return alert


class Way:
    """One way to redact, with a state and a store of its own."""

    def __init__(self, folder: Path, redact: Redact) -> None:
        folder.mkdir()
        self.settings: AnalysisSettings = replace(SETTINGS, redact=redact)
        self.store = StateStore(folder / "state.db")
        self.state = State(Common(settings=self.settings))
        self.redacting = Redacting(b"k" * 32)
        self.cpu_s = 0.0

    def close(self) -> None:
        self.store.close()

    def take(self, rows: list[InboxRow]) -> None:
        begin = time.process_time()
        outcome = advance(self.state, rows, redacting=self.redacting)
        self.store.commit(outcome, front="front-1", rows=rows)
        self.cpu_s += time.process_time() - begin


def alone_s(redact: Redact, rows: list[InboxRow]) -> float:
    """Return the CPU seconds that redacting the rows takes by itself, texts seen for the first time included."""
    redacting, settings = Redacting(b"k" * 32), replace(SETTINGS, redact=redact)
    begin = time.process_time()
    for row in rows:
        redacting.row(row, settings)
    return time.process_time() - begin


def parse_s(rows: list[InboxRow]) -> float:
    """Return the CPU seconds that parsing them takes."""
    begin = time.process_time()
    for row in rows:
        alertmanager.parse(row.body, tenant=row.tenant, source=row.source)
    return time.process_time() - begin


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--alerts", type=int, default=9000)
    parser.add_argument("--open", type=int, default=3000)
    parser.add_argument("--per-batch", type=int, default=32, help="webhooks per transaction")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    collect_seldom()
    world = Open(given.seed)
    filling = rows_of(world, ["n" * PER_WEBHOOK] * (given.open // PER_WEBHOOK), 1, START, 20.0)
    kinds = [
        "".join(world.draw.sample("nnnnnrrree", PER_WEBHOOK)) for _ in range(given.alerts // PER_WEBHOOK)
    ]
    rows = rows_of(world, kinds, len(filling) + 1, filling[-1].received_at + timedelta(seconds=1), 3000.0)
    assert all(row.kind is RowKind.WEBHOOK for row in rows)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as opened:
        ways = {
            name: opened.enter_context(closing(Way(Path(folder) / name, redact)))
            for name, redact in WAYS.items()
        }
        for way in ways.values():
            way.take(filling)
            way.cpu_s = 0.0
        order = list(ways.values())
        for start in range(0, len(rows), given.per_batch):
            for way in order:
                way.take(rows[start : start + given.per_batch])
            order.append(order.pop(0))
        usual = ways["nothing"].cpu_s
        print(
            f"{given.alerts} alerts of {len(rows[0].body) // PER_WEBHOOK} bytes, {given.open} open before; "
            f"parsing takes {parse_s(rows) / given.alerts * 1e6:.1f} us an alert"
        )
        print(f"{'taken out':12}{'us an alert':>12}{'ratio':>8}{'redacting alone, us':>22}")
        for name, way in ways.items():
            alone = alone_s(WAYS[name], rows) / given.alerts * 1e6
            print(f"{name:12}{way.cpu_s / given.alerts * 1e6:12.1f}{way.cpu_s / usual:8.3f}{alone:22.1f}")


if __name__ == "__main__":
    main()
