"""What one alert costs as the window in which incidents are open grows: it must stay flat.

A window is filled with N new alerts, within a minute and within an hour of the rows' own time, ten to a webhook. All
of them stay open. `filled in` is the CPU time of all of them: 20,000 within a minute must take less than a minute.
The percentiles are of the last quarter of them: `an alert` each webhook timed by itself and divided by ten; what ticks
do falls on the webhook that comes after the tick, as in operation, and `worst webhook` shows it. `to decide` is the
part that says where one alert belongs, alert by alert: with a linker against 400 others once there are so many, which
must take less than 10 ms. Then a minute passes in clock rows: `worst tick` is what closing, merging and grouping anew
cost at once. Nothing is stored and no vectors come: what is measured is the thinking, in CPU time of this process:
with the fallback, with a linker that was learned from the same kind of alerts, and with one that people corrected.
Hardly two of them belong together, so that each is compared with as many others as there may be.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from unittest.mock import patch

from benchmarks.pipeline import PER_WEBHOOK, START, World, rows_of
from bridge.analysis import clustering
from bridge.analysis.gate import LinkFit, linker_row
from bridge.analysis.learning import History, Sighting, Taught, fit_linker
from bridge.analysis.text import template_of
from bridge.analysis.verdicts import Verdict
from bridge.app.garbage import collect_seldom
from bridge.model import Alert, InboxRow, RowKind
from bridge.pipeline import TICK_S, Common, State, advance
from bridge.pipeline.links import Links

SIZES = (100, 400, 1_000, 4_000, 20_000)
WITHIN_S = (60.0, 3600.0)
LEARNED, LEARNED_EVERY_S = 3000, 20.0
#: So many alerts in a row are one correction, of which so many belong together.
CORRECTED, TOGETHER = 20, 4
CLOCK_ROWS = 12  # a minute of ticks
#: Where it is decided, by way: who holds the function, and its name.
DECIDES: dict[str, tuple[Any, str]] = {"fallback": (clustering, "choose")}
DECIDES_BY_LINKS: tuple[Any, str] = (Links, "choose")


def show(sizes: Sequence[int] = SIZES) -> None:
    """Print the curve."""
    collect_seldom()  # as the analyst does
    print(f"{'':37} {'an alert, us':>15} {'to decide, ms':>15} {'worst, ms':>15}")
    heads = {
        "way": 9, "alerts": 8, "within": 8, "filled in": 9, "p50": 7, "p99": 7, "p50 ": 7, "p99 ": 7, "webhook": 7,
        "tick": 7, "incidents": 10,
    }  # fmt: skip
    print(" ".join(f"{head:>{width}}" for head, width in heads.items()))
    ways = {"fallback": [], "linker": [_learned()], "corrected": [_learned(corrected=True)]}
    for way, first in ways.items():
        for within_s in WITHIN_S:
            for size in sizes:
                _measure(size, within_s, way, first)


def _learned(*, corrected: bool = False) -> InboxRow:
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
    linker = fit_linker(history, _said(sightings) if corrected else ())
    if corrected and linker.corrected is None:
        raise RuntimeError("the linker learned nothing from the corrections")
    fit = LinkFit(fit=1, linker=linker, verdict=Verdict(way="linker"))
    return InboxRow(
        id=1, received_at=START, tenant="default", source="", kind=RowKind.LINKER, body=linker_row(fit)
    )


def _said(sightings: Sequence[Sighting]) -> list[Taught]:
    """Return corrections after which hardly two alerts belong together, as before."""
    said = []
    for first in range(0, len(sightings), CORRECTED):
        keys = [each.key for each in sightings[first : first + CORRECTED]]
        groups = (tuple(keys[:TOGETHER]), *((key,) for key in keys[TOGETHER:]))
        said.append(Taught(incident=f"{first}", groups=groups))
    return said


@contextmanager
def _timed_calls(way: str) -> Iterator[list[float]]:
    """Time every decision; give the list of seconds."""
    holder, name = DECIDES.get(way, DECIDES_BY_LINKS)
    decide: Callable[..., Any] = getattr(holder, name)
    spent: list[float] = []

    def timed(*given: Any, **named: Any) -> Any:
        begin = time.thread_time()
        decided = decide(*given, **named)
        spent.append(time.thread_time() - begin)
        return decided

    with patch.object(holder, name, timed):
        yield spent


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
    with _timed_calls(way) as decided:
        spent = _timed(state, rows)
    p50, p99 = (1e6 * each / PER_WEBHOOK for each in _percentiles(spent))
    decided_p50, decided_p99 = (1e3 * each for each in _percentiles(decided))
    tick_ms = 1e3 * max(_timed(state, ticks))
    print(
        f"{way:>9} {size:8,} {within_s:6.0f} s {sum(spent):7.2f} s {p50:7.0f} {p99:7.0f} "
        f"{decided_p50:7.2f} {decided_p99:7.2f} {1e3 * max(_last(spent)):7.1f} {tick_ms:7.1f} "
        f"{len(state.tenants['default'].groups):10,}",
        flush=True,
    )


def _last(spent: Sequence[float]) -> Sequence[float]:
    return spent[-max(1, len(spent) // 4) :]


def _percentiles(spent: Sequence[float]) -> list[float]:
    """Return the median and the 99th percentile of the last quarter."""
    last = sorted(_last(spent))
    return [last[int(len(last) * q)] for q in (0.5, 0.99)]


def _timed(state: State, rows: Sequence[InboxRow]) -> list[float]:
    spent = []
    for row in rows:
        begin = time.process_time()
        advance(state, [row])
        spent.append(time.process_time() - begin)
    return spent
