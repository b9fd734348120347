"""NAB's corpus and NAB's scoring rule, written anew from its published description and checked against its figures.

Lavin and Ahmad, Evaluating Real-time Anomaly Detection Algorithms - the Numenta Anomaly Benchmark (ICMLA 2015), and
the rule as the benchmark's release 1.1 applies it: of each anomaly's window the earliest detection counts, the more the
earlier it is (a scaled sigmoid, 1 at the left edge, about 0 at the right); one outside costs a false alarm, less
just after a window; a window without one costs a miss. The first 15 % of a series, at most 750 rows, do not count.
One threshold for all series: the one with the best sum. 0 is a detector that says nothing, 100 a perfect one.
"""

from __future__ import annotations

import csv
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: What a false alarm and a miss cost; a timely detection is worth 1.
PROFILES = {"standard": (0.11, 1.0), "low FP": (0.22, 1.0), "low FN": (0.11, 2.0)}
PROBATION = 0.15
PROBATION_ROWS = 5000
#: Windows after which a false alarm costs all of it, in lengths of the window before.
FAR = 3.0


@dataclass(frozen=True, slots=True)
class Series:
    """One file of the corpus."""

    name: str
    times_s: Floats
    values: Floats
    windows: tuple[tuple[int, int], ...]  # first and last row of each anomaly

    @property
    def probation(self) -> int:
        """How many rows at the beginning do not count."""
        return int(PROBATION * min(len(self.values), PROBATION_ROWS))

    @property
    def is_held_out(self) -> bool:
        """Say whether it was left out of all choices: half of the files, by a hash of their names."""
        return zlib.crc32(self.name.encode()) % 2 == 1

    @property
    def weeks(self) -> float:
        """How long it lasts after the probation."""
        return float(self.times_s[-1] - self.times_s[self.probation]) / (7 * 86400)


def corpus(path: Path) -> list[Series]:
    """Return all files below `path`/data in the order of their names."""
    labels = json.loads((path / "labels/combined_windows.json").read_text())
    return [_series(path / "data" / name, name, labels[name]) for name in sorted(labels)]


def _series(path: Path, name: str, windows: list[list[str]]) -> Series:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    times = [_epoch_s(row["timestamp"]) for row in rows]
    places = {time: place for place, time in reversed(list(enumerate(times)))}  # the first of equal times
    spans = tuple((places[_epoch_s(first)], places[_epoch_s(last)]) for first, last in windows)
    return Series(name, np.array(times), np.array([float(row["value"]) for row in rows]), spans)


def _epoch_s(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@dataclass(frozen=True, slots=True)
class Result:
    """What a detector is worth on one profile."""

    score: float  # 0..100, below 0 for one that is worse than silence
    threshold: float
    found: int
    windows: int
    false_alarms: int


def best(series: Sequence[Series], scores: Sequence[Floats], profile: str) -> Result:
    """Return the score under the threshold that is best for these series together."""
    steps = np.concatenate([_steps(one, found, profile) for one, found in zip(series, scores, strict=True)])
    steps = steps[np.argsort(-steps[:, 0], kind="stable")]
    windows = sum(len(one.windows) for one in series)
    totals = np.concatenate([[0.0], np.cumsum(steps[:, 1])])
    last_of_equals = np.concatenate([[True], np.diff(steps[:, 0]) != 0, [True]])
    at = int(np.argmax(np.where(last_of_equals, totals, -np.inf)))
    threshold = float(steps[at - 1, 0]) if at else np.inf
    found = sum(_found(one, own, threshold) for one, own in zip(series, scores, strict=True))
    return Result(
        score=_normalised(float(totals[at]), windows, profile),
        threshold=threshold,
        found=found,
        windows=windows,
        false_alarms=sum(_false(one, own, threshold) for one, own in zip(series, scores, strict=True)),
    )


def at_threshold(series: Sequence[Series], scores: Sequence[Floats], profile: str, threshold: float) -> float:
    """Return the score, 0..100, under a threshold that was chosen elsewhere."""
    total = 0.0
    for one, found in zip(series, scores, strict=True):
        steps = _steps(one, found, profile)
        total += float(steps[steps[:, 0] >= threshold, 1].sum())
    return _normalised(total, sum(len(one.windows) for one in series), profile)


def false_alarms_a_week(series: Sequence[Series], scores: Sequence[Floats], threshold: float) -> float:
    """Return how often a series crosses the threshold in a week where no anomaly is marked."""
    alarms = sum(_false(one, found, threshold) for one, found in zip(series, scores, strict=True))
    return alarms / sum(one.weeks for one in series)


def _normalised(total: float, windows: int, profile: str) -> float:
    _, miss = PROFILES[profile]
    return 100.0 * total / (windows * (1.0 + miss)) if windows else 0.0


def _steps(one: Series, scores: Floats, profile: str) -> Floats:
    """Return (score, what the sum gains once the threshold is as low as it) of a series, against silence."""
    false_alarm, miss = PROFILES[profile]
    worth = _worth(one)
    counts = np.arange(len(scores)) >= one.probation
    inside = _inside(one)
    usable = counts & ~np.isnan(scores)
    outside = usable & ~inside
    steps = [np.column_stack([scores[outside], worth[outside] * false_alarm])]
    for first, last in one.windows:
        rows = np.flatnonzero(usable[first : last + 1]) + first
        rows = rows[np.argsort(-scores[rows], kind="stable")]
        reached = np.maximum.accumulate(worth[rows])
        gained = np.diff(reached, prepend=-miss)
        steps.append(np.column_stack([scores[rows], gained]))
    return np.concatenate(steps)


def _worth(one: Series) -> Floats:
    """Return what a detection at each row counts: (0, 1] in a window, down to -1 outside."""
    rows = np.arange(len(one.values))
    place = np.full(len(rows), FAR)
    for first, last in one.windows:
        width = last - first + 1
        after = rows > last
        place[after] = (rows[after] - last) / max(1.0, width - 1.0)
    worth = np.where(place >= FAR, -1.0, _sigmoid(place))
    for first, last in one.windows:
        width = last - first + 1
        own = np.arange(first, last + 1)
        worth[own] = _sigmoid(-(last - own + 1) / width) / _sigmoid(np.float64(-1.0))
    return worth


def _sigmoid(place: Floats) -> Floats:
    sigmoid: Floats = 2.0 / (1.0 + np.exp(5.0 * place)) - 1.0
    return sigmoid


def _inside(one: Series) -> NDArray[np.bool_]:
    inside = np.zeros(len(one.values), bool)
    for first, last in one.windows:
        inside[first : last + 1] = True
    return inside


def _found(one: Series, scores: Floats, threshold: float) -> int:
    crossed = np.nan_to_num(scores, nan=-1.0) >= threshold
    crossed[: one.probation] = False
    return sum(bool(crossed[first : last + 1].any()) for first, last in one.windows)


def _false(one: Series, scores: Floats, threshold: float) -> int:
    crossed = np.nan_to_num(scores, nan=-1.0) >= threshold
    crossed[: one.probation] = False
    return int((crossed & ~_inside(one)).sum())
