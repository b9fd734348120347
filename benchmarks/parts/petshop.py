"""PetShop: metrics of a traced shop every five minutes, with injected issues, made into alerts by thresholds.

A folder (`high_traffic`, `low_traffic`) holds `graph.csv` (who calls whom: the row's component those in whose columns
stands a 1), `noissue/metrics.csv` (two days), `train` and `test` issues of 25 minutes each with `target.json`.

How a metric becomes an alert (decided once, before anything was measured): of each component the average latency and
the average availability are looked at. Latency above, or availability below, what the first day without issues exceeded
in a thousandth of its time, and beyond twice its distance from the median, fires: `LatencyHigh` (warning) and
`AvailabilityLow` (critical), at the end of the five minutes. A component that fires on is one alert.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

STEP_S = 300.0
RARE = 0.001
#: Metric -> (alert name, severity, +1: what is high fires, -1: what is low).
WATCHED = {"latency": ("LatencyHigh", "warning", 1), "availability": ("AvailabilityLow", "critical", -1)}


@dataclass(frozen=True, slots=True)
class Series:
    """One statistic of one component."""

    component: str
    metric: str
    times_s: np.ndarray
    values: np.ndarray


@dataclass(frozen=True, slots=True)
class Alert:
    """A threshold was crossed."""

    at_s: float
    component: str
    name: str
    severity: str


@dataclass(frozen=True, slots=True)
class Issue:
    """One injected issue: what fired, and the component that was broken."""

    name: str
    alerts: list[Alert]
    root: str


class Shop:
    """One folder: thresholds from its first day without issues."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._quiet = list(_series(folder / "noissue" / "metrics.csv"))
        half = len(self._quiet[0].times_s) // 2
        self._limits = {(each.component, each.metric): _limit(each, half) for each in self._quiet}
        self._half = half

    def issues(self, part: str) -> list[Issue]:
        """Return the issues of `train` or `test`, by number."""
        folders = sorted((self.folder / part).iterdir(), key=lambda each: int(each.name.rpartition("_")[2]))
        found = []
        for folder in folders:
            told = json.loads((folder / "target.json").read_bytes())
            series = list(_series(folder / "metrics.csv"))
            name = f"{self.folder.name} {part} {folder.name}"
            found.append(Issue(name, self._fired(series), told["root_cause"]["node"]))
        return found

    def quiet(self, rows: int = 5) -> list[list[Alert]]:
        """Return what fires in each period, as long as an issue's, of the second day without issues."""
        periods = []
        length = len(self._quiet[0].times_s)
        for first in range(self._half, length - rows + 1, rows):
            part = [
                Series(e.component, e.metric, e.times_s[first : first + rows], e.values[first : first + rows])
                for e in self._quiet
            ]
            periods.append(self._fired(part))
        return periods

    def history(self) -> list[Alert]:
        """Return what fires on both days without issues."""
        return self._fired(self._quiet)

    def topology(self) -> list[tuple[str, str]]:
        """Return (caller, callee)."""
        with (self.folder / "graph.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        names = rows[0][1:]
        return [
            (row[0], name)
            for row in rows[1:]
            for name, cell in zip(names, row[1:], strict=True)
            if float(cell)
        ]

    def _fired(self, series: Sequence[Series]) -> list[Alert]:
        found = []
        for each in series:
            limit = self._limits.get((each.component, each.metric))
            if limit is None:
                continue
            name, severity, sign = WATCHED[each.metric]
            fires = np.nan_to_num(each.values * sign, nan=-np.inf) > limit
            begins = np.flatnonzero(fires & ~np.concatenate([[False], fires[:-1]]))
            found += [
                Alert(float(each.times_s[row]) + STEP_S, each.component, name, severity) for row in begins
            ]
        return sorted(found, key=lambda alert: (alert.at_s, alert.component, alert.name))


def _limit(series: Series, half: int) -> float | None:
    values = series.values[:half] * WATCHED[series.metric][2]
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    middle, high = np.median(values), np.quantile(values, 1 - RARE)
    return float(middle + 2 * (high - middle))


def _series(path: Path) -> Iterator[Series]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    cells = [[float(cell) if cell else np.nan for cell in row] for row in rows[4:]]
    table = np.array(cells)
    for column, (component, metric, statistic) in enumerate(zip(*rows[:3], strict=True)):
        if column and metric in WATCHED and statistic == "Average":
            yield Series(component, metric, table[:, 0], table[:, column])
