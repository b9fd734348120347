"""Isolation Forest: a window is strange if a few random cuts set it apart from all others.

Paper: Liu, Ting and Zhou, "Isolation Forest", ICDM 2008. Each tree cuts a small sample of the rows at random places
until every row stands alone; the fewer cuts a row needs on average, the stranger it is. Here a row is nine features
of the last 24 values of a series: the level, the step, how far from the hour before, spread and range, which way it
goes, how long it stood still, the time of day.

Cost: a fit of 4,000 values 0.2 s (scikit-learn, in the models' process); a score 10 us in a batch, mostly for walking
down 32 trees; 24 KiB of memory for each series.

Assumptions: what is strange is rare in the history and differs in one or a few features. All that is far out is
equally far out for a forest, so its scores end where those of its history end: it does not say how extreme a spike is.

Decision: one row in six that the trees are grown of is drawn at random from a wide box around the history. Cuts
lie between the least and the greatest value of a sample, so without them a tree has no cut beyond the history: a spike
unlike any before would share the leaf of the highest usual value, and what never changed would never be strange.

Decision: trees are stored as full trees of depth 7 in arrays (node i has the children 2i+1 and 2i+2), 128 rows and 32
trees for each. A leaf further up is a path of tests that always go left. One gather per level then walks all rows down
all trees of all series at once. Rejected: the bit masks of `analysis.trees`, whose 128 leaves would need four words
per test and whose tables are made for one ensemble, not for a thousand small ones. Rejected: the paper's 256 rows and
100 trees, six times the memory.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from bridge.analysis.detectors.bank import Floats
from bridge.analysis.detectors.fitted import FittedBank, Unit, hours, own_columns
from bridge.analysis.detectors.slots import Column, Ints

TREES, DEPTH = 32, 7
ROWS = 2**DEPTH  # each tree's sample
NODES = 2**DEPTH - 1
#: Path lengths are stored in sixteenths: a row of 128 is 15 long at most.
FRACTION = 16
#: What of the window is "just now", and what is "the hour before" when values come each five minutes.
NOW, BEFORE = 6, 12
FEATURES = 9
#: Rows of pure chance, as a share of the history's, and how far beyond its range they may lie.
CHANCE, BEYOND = 0.2, 2.0

_MOVING, _SHARED = own_columns(24, 1)

Bytes = NDArray[np.uint8]
Narrow = NDArray[np.float32]


class Forest(FittedBank):
    """An Isolation Forest for each of many series."""

    NAME = "isolation-forest"
    WINDOW = 24
    VIEWS = 1
    LEARNED = (
        *_SHARED, Column("feature", "|u1", (TREES, NODES)), Column("threshold", "<f4", (TREES, NODES)),
        Column("length", "|u1", (TREES, ROWS)),
    )  # fmt: skip
    COLUMNS: ClassVar[tuple[Column, ...]] = (*_MOVING, *LEARNED)

    feature: Bytes
    threshold: Narrow
    length: Bytes

    @override
    @classmethod
    def learn(
        cls, windows: Floats, times_s: Floats, unit: Unit, seed: int
    ) -> tuple[NDArray[np.generic], ...]:
        return grown(features(windows, times_s, np.array([[unit.jump, unit.daily]])), seed)

    @override
    def strangeness(self, series: Ints, windows: Floats, times_s: Floats) -> Floats:
        rows = features(windows, times_s, self.unit[series][:, 2:])
        return -lengths(rows, series, self.feature, self.threshold, self.length)[:, None]


def features(windows: Floats, times_s: Floats, unit: Floats) -> Narrow:
    """Return the nine features of each window, shape (n, 9).

    Args:
        windows: In the unit of the series, shape (n, 24).
        times_s: Of the newest value, shape (n,).
        unit: The usual step and whether hours are known, shape (n or 1, 2).
    """
    newest, before = windows[:, -1], windows[:, -1 - BEFORE : -1]
    middle = before.sum(axis=1) / BEFORE
    spread = np.sqrt(((before - middle[:, None]) ** 2).sum(axis=1) / BEFORE)
    going = windows[:, -NOW:].sum(axis=1) / NOW - windows[:, :BEFORE].sum(axis=1) / BEFORE
    moved = windows[:, :-1] != newest[:, None]
    still = np.where(moved.any(axis=1), moved[:, ::-1].argmax(axis=1) + 1, windows.shape[1])
    found = np.empty((len(windows), FEATURES), np.float32)
    found[:, 0], found[:, 1] = newest, np.arcsinh((newest - windows[:, -2]) / unit[:, 0])
    found[:, 2], found[:, 3] = newest - middle, spread
    found[:, 4], found[:, 5] = windows.max(axis=1) - windows.min(axis=1), going
    found[:, 6], found[:, 7:] = np.log2(still), hours(times_s) * unit[:, 1:]
    return found


def lengths(rows: Narrow, series: Ints, feature: Bytes, threshold: Narrow, length: Bytes) -> Floats:
    """Return each row's path length, summed over the trees of its series."""
    tree = series[:, None] * TREES + np.arange(TREES)
    at = tree * NODES
    number = np.arange(0, rows.size, FEATURES)[:, None]
    node = np.zeros_like(tree)
    tests, edges, told = feature.reshape(-1), threshold.reshape(-1), rows.reshape(-1)
    for _ in range(DEPTH):
        test = at + node
        node = 2 * node + 1 + (told.take(number + tests.take(test)) > edges.take(test))
    found: Floats = length.reshape(-1).take(tree * ROWS + node - NODES).sum(axis=1, dtype=np.int64) / FRACTION
    return found


def grown(rows: Narrow, seed: int) -> tuple[Bytes, Narrow, Bytes]:
    """Grow a forest and return its features, thresholds and path lengths."""
    from sklearn.ensemble import IsolationForest  # noqa: PLC0415  (only the models' process pays for it)

    rows = np.concatenate((rows, chance(rows, seed)))
    forest = IsolationForest(n_estimators=TREES, max_samples=min(ROWS, len(rows)), random_state=seed)
    forest.fit(rows)
    feature = np.zeros((TREES, NODES), np.uint8)
    threshold = np.full((TREES, NODES), np.inf, np.float32)
    length = np.zeros((TREES, ROWS), np.uint8)
    for number, estimator in enumerate(forest.estimators_):
        _laid_out(estimator.tree_, feature[number], threshold[number], length[number])
    return feature, threshold, length


def chance(rows: Narrow, seed: int) -> Narrow:
    """Return rows anywhere in the box of the history's and around it, `CHANCE` for each of them."""
    low, high = rows.min(axis=0), rows.max(axis=0)
    reach = BEYOND * np.maximum(high - low, 1.0)
    dice = np.random.default_rng(seed)
    drawn = dice.uniform(low - reach, high + reach, (round(CHANCE * len(rows)), FEATURES))
    return drawn.astype(np.float32)


def _laid_out(tree: Any, feature: Bytes, threshold: Narrow, length: Bytes) -> None:
    """Write a tree of scikit-learn into its row of each array."""
    waiting = [(0, 0, 0)]  # its node, ours, its depth
    while waiting:
        theirs, ours, depth = waiting.pop()
        if tree.children_left[theirs] < 0:
            place = ours
            for _ in range(DEPTH - depth):
                place = 2 * place + 1
            held = int(tree.n_node_samples[theirs])
            length[place - NODES] = round((depth + _further(held)) * FRACTION)
        else:
            feature[ours] = tree.feature[theirs]
            edge = np.float32(tree.threshold[theirs])
            # Rounded down: no float32 between it and the double it stands for would go another way.
            threshold[ours] = (
                np.nextafter(edge, np.float32(-np.inf)) if edge > tree.threshold[theirs] else edge
            )
            waiting.append((int(tree.children_left[theirs]), 2 * ours + 1, depth + 1))
            waiting.append((int(tree.children_right[theirs]), 2 * ours + 2, depth + 1))


def _further(held: int) -> float:
    """Return how many more cuts a leaf of so many rows would have needed on average (the paper's c(n))."""
    if held <= 1:
        return 0.0
    if held == 2:  # noqa: PLR2004
        return 1.0
    return 2.0 * (float(np.log(held - 1.0)) + 0.5772156649) - 2.0 * (held - 1.0) / held
