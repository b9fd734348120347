"""What one alert costs as the window in which incidents are open grows: it must stay flat.

A window is filled with N new alerts, within a minute and within an hour of the rows' own time, ten to a webhook. The
percentiles are of the last quarter of them, each webhook timed by itself and divided by ten. What ticks do falls on
the webhook that comes after the tick, as in operation: `worst webhook` shows it. Then a minute passes in clock rows:
`worst tick` is what closing, merging and grouping anew cost at once. Nothing is stored and no vectors come: what is
measured is the thinking, in CPU time of this process.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from datetime import timedelta

from benchmarks.pipeline import PER_WEBHOOK, START, World, rows_of
from bridge.model import InboxRow, RowKind
from bridge.pipeline import TICK_S, Common, State, advance

SIZES = (1_000, 5_000, 20_000, 50_000)
WITHIN_S = (60.0, 3600.0)
CLOCK_ROWS = 12  # a minute of ticks


def show(sizes: Sequence[int] = SIZES) -> None:
    """Print the curve."""
    heads = {
        "alerts": 8, "within": 8, "filled in": 10, "p50 us": 8, "p99 us": 8, "worst webhook": 14, "worst tick": 11,
        "incidents": 10,
    }  # fmt: skip
    print(" ".join(f"{head:>{width}}" for head, width in heads.items()))
    for within_s in WITHIN_S:
        for size in sizes:
            _measure(size, within_s)


def _measure(size: int, within_s: float) -> None:
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
    gc.collect()
    spent = _timed(state, rows)
    last = sorted(spent[-len(spent) // 4 :])
    p50, p99 = (1e6 * last[int(len(last) * q)] / PER_WEBHOOK for q in (0.5, 0.99))
    tick_ms = 1e3 * max(_timed(state, ticks))
    groups = len(state.tenants["default"].groups)
    print(
        f"{size:8,} {within_s:6.0f} s {sum(spent):8.2f} s {p50:8.0f} {p99:8.0f} {1e3 * last[-1]:11.1f} ms "
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
