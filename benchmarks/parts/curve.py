"""What one alert costs as the window in which incidents are open grows: it must stay flat.

A window is filled with N new alerts, within a minute and within an hour of the rows' own time, ten to a webhook. The
percentiles are of the last quarter of them, each webhook timed by itself and divided by ten. What ticks do falls on
the webhook that comes after the tick, as in operation: `worst webhook` shows it. Then a minute passes in clock rows:
`worst tick` is what closing, merging and grouping anew cost at once. Nothing is stored and no vectors come: what is
measured is the thinking, in CPU time of this process: with the fallback, and with a linker that was learned from the
same kind of alerts. Hardly two of them belong together, so that each is compared with as many others as there may be.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from datetime import timedelta

from benchmarks.pipeline import PER_WEBHOOK, START, World, rows_of
from bridge.analysis.gate import LinkFit, linker_row
from bridge.analysis.learning import History, Sighting, fit_linker
from bridge.analysis.text import template_of
from bridge.analysis.verdicts import Verdict
from bridge.model import Alert, InboxRow, RowKind
from bridge.pipeline import TICK_S, Common, State, advance

SIZES = (1_000, 5_000, 20_000, 50_000)
WITHIN_S = (60.0, 3600.0)
LEARNED, LEARNED_EVERY_S = 3000, 20.0
CLOCK_ROWS = 12  # a minute of ticks


def show(sizes: Sequence[int] = SIZES) -> None:
    """Print the curve."""
    heads = {
        "way": 9,
        "alerts": 8, "within": 8, "filled in": 10, "p50 us": 8, "p99 us": 8, "worst webhook": 14, "worst tick": 11,
        "incidents": 10,
    }  # fmt: skip
    print(" ".join(f"{head:>{width}}" for head, width in heads.items()))
    for way, first in {"fallback": [], "linker": [_learned()]}.items():
        for within_s in WITHIN_S:
            for size in sizes:
                _measure(size, within_s, way, first)


def _learned() -> InboxRow:
    """Return the row of a linker that is in force."""
    world = World(2)
    sightings = []
    for number in range(LEARNED):
        at = START - timedelta(seconds=(LEARNED - number) * LEARNED_EVERY_S)
        labels, _ = world.fresh(at, number % 160)
        alert = Alert(tenant="", source="", fingerprint=f"{number:x}", labels=labels, annotations={}, firing=True,
                      starts_at=at, ends_at=None)  # fmt: skip
        sightings.append(Sighting(at.timestamp(), "", alert.fingerprint, at, template_of(alert).id, labels))
    history = History(sightings, families={}, vectors={}, charts=(), label="service")
    fit = LinkFit(fit=1, linker=fit_linker(history), verdict=Verdict(way="linker"))
    return InboxRow(
        id=1, received_at=START, tenant="default", source="", kind=RowKind.LINKER, body=linker_row(fit)
    )


def _measure(size: int, within_s: float, way: str, first: Sequence[InboxRow]) -> None:
    world = World(1)
    rows = rows_of(world, ["n" * PER_WEBHOOK] * (size // PER_WEBHOOK), 1, START, size / within_s)
    ticks = [
        InboxRow(
            id=len(rows) + number, received_at=rows[-1].received_at + timedelta(seconds=number * TICK_S),
            tenant="", source="", kind=RowKind.CLOCK, body=b"",
        )
        for number in range(1, CLOCK_ROWS + 1)
    ]  # fmt: skip
    state = State(Common())
    advance(state, first)
    gc.collect()
    spent = _timed(state, rows)
    last = sorted(spent[-len(spent) // 4 :])
    p50, p99 = (1e6 * last[int(len(last) * q)] / PER_WEBHOOK for q in (0.5, 0.99))
    tick_ms = 1e3 * max(_timed(state, ticks))
    groups = len(state.tenants["default"].groups)
    print(
        f"{way:>9} {size:8,} {within_s:6.0f} s {sum(spent):8.2f} s {p50:8.0f} {p99:8.0f} {1e3 * last[-1]:11.1f} ms "
        f"{tick_ms:8.1f} ms {groups:10,}",
        flush=True,
    )


def _timed(state: State, rows: Sequence[InboxRow]) -> list[float]:
    spent = []
    for row in rows:
        begin = time.process_time()
        advance(state, [row])
        spent.append(time.process_time() - begin)
    return spent
