"""`tocsin backtest`: what would have been forecast at each origin, had Tocsin run then.

Rules: the path is that of live forecasts; a line depends on nothing that began or ended after its origin. The file is
whole or not there. Deterministic: no clock but the events' own.
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import numpy as np

from bridge.analysis.forecast.forecaster import Forecaster
from bridge.analysis.forecast.occurrences import Occurrences
from bridge.app.events_file import EventsFile, read_events
from bridge.app.screen import Progress, count, span
from bridge.errors import RefusedError, StorageError

HEADER = "origin,probability,published,model\n"
MAX_ORIGINS = 5_000_000
#: Forecasts that wait for their outcome at a time: a kilobyte each.
MAX_AWAITED = 50_000
PART = 512  # origins between two steps of the progress bar


def backtest(
    path: Path, *, horizon_s: float, step_s: float, out: Path | None, say: Callable[[str], None]
) -> None:
    """Forecast at every multiple of the step; write one line for each.

    Raises:
        RefusedError: The file cannot be used, or there would be too many origins.
        StorageError: The output cannot be written.
    """
    with Progress("read") as progress:
        found = read_events(path, progress)
        events = Occurrences(found.events)
    _tell(found, say)
    first, number = origins_of(events, horizon_s=horizon_s, step_s=step_s)
    if not number:
        say(f"{count(len(events), 'event')}, no origin: their time is shorter than {span(horizon_s)}.")
    with Progress("backtest", number) as progress, _written(out) as file:
        file.write(HEADER)
        published = 0
        for line, is_published in _lines(events, first, number, horizon_s, step_s, is_text=found.is_text):
            file.write(line)
            published += is_published
            progress(1)
    if number:
        say(
            f"{count(len(events), 'event')}, {count(number, 'origin')}; the right to publish was there at"
            f" {published / number:.0%} of them."
        )


def _tell(found: EventsFile, say: Callable[[str], None]) -> None:
    if found.went_back:
        say(f"{count(found.went_back, 'row')} began before the row above; sorted by time.")
    if found.ended_early:
        say(f"{count(found.ended_early, 'end')} before the start; taken for unknown.")


def origins_of(events: Occurrences, *, horizon_s: float, step_s: float) -> tuple[int, int]:
    """Return the first origin, in steps, and how many there are.

    Raises:
        RefusedError: They are too many, or too many would wait for their outcome.
    """
    if horizon_s / step_s > MAX_AWAITED:
        least = math.ceil(horizon_s / MAX_AWAITED / 60)
        raise RefusedError(f"{horizon_s / step_s:,.0f} steps in a horizon; write --step {least}m or more")
    if not len(events):
        return 0, 0
    first = math.ceil(events.starts[0] / step_s)
    last = math.floor((events.starts[-1] - horizon_s) / step_s)
    number = max(0, last - first + 1)
    if number > MAX_ORIGINS:
        fitting = (events.starts[-1] - events.starts[0]) / MAX_ORIGINS
        raise RefusedError(f"{number:,} origins; write --step {math.ceil(fitting / 60)}m or more")
    return first, number


def _lines(
    events: Occurrences, first: int, number: int, horizon_s: float, step_s: float, *, is_text: bool
) -> Iterator[tuple[str, bool]]:
    if not number:
        return
    forecaster = Forecaster(since_s=float(events.starts[0]), horizon_s=horizon_s, step_s=step_s)
    for begin in range(first, first + number, PART):
        origins = np.arange(begin, min(begin + PART, first + number), dtype=np.float64) * step_s
        for each in forecaster.forecasts(origins, events):
            origin = _origin(each.origin_s, is_text=is_text)
            yield f"{origin},{each.probability:.6f},{each.published:d},{each.model}\n", each.published


def _origin(origin_s: float, *, is_text: bool) -> str:
    if is_text:
        return datetime.fromtimestamp(origin_s, UTC).isoformat().replace("+00:00", "Z")
    return f"{origin_s:.0f}" if origin_s.is_integer() else repr(origin_s)


@contextmanager
def _written(out: Path | None) -> Iterator[IO[str]]:
    """Open the output; a named file takes its place when all of it was written."""
    if out is None:
        yield sys.stdout
        return
    try:
        with tempfile.NamedTemporaryFile(
            "w", dir=out.parent, prefix=f".{out.name}.", encoding="utf-8", delete=False
        ) as file:
            unfinished = Path(file.name)
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
            except BaseException:
                unfinished.unlink()
                raise
        unfinished.chmod(0o644)
        unfinished.replace(out)
    except OSError as error:
        raise StorageError(f"cannot write {out}: {error.strerror or error}") from error
