"""Linkers that were learned from nothing: trees of one test each, written down, so that no test waits for a fit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bridge.analysis.gate import LinkFit, Verdict, Way, linker_row
from bridge.analysis.learning import Linker, Table
from bridge.analysis.pairs import FEATURES, LAGS
from bridge.analysis.trees import MAX_LEAVES, NO_TREES, Grown

#: What a test asks of a pair: a feature, the most that goes left, and what is added left and right of it.
Stump = tuple[str, float, float, float]
NOT_FIRST = 0xFFFFFFFE  # the leaves that remain when a test is false: all but the left one
VERDICT = len(FEATURES)  # the column behind the features: what is thought without labels


def grown(*stumps: Stump, base: float = 0.0) -> Grown:
    """Return trees of one test each."""
    leaves = np.zeros((len(stumps), MAX_LEAVES), "<f4")
    leaves[:, :2] = [stump[2:] for stump in stumps] or np.zeros((0, 2))
    columns = [VERDICT if stump[0] == "verdict" else FEATURES.index(stump[0]) for stump in stumps]
    return Grown(
        trees=len(stumps), base=base, tree=np.arange(len(stumps)).astype("<u2").tobytes(),
        feature=np.array(columns, np.uint8).tobytes(),
        threshold=np.array([stump[1] for stump in stumps], "<f4").tobytes(),
        remain=np.full(len(stumps), NOT_FIRST, "<u4").tobytes(), leaves=leaves.tobytes(),
    )  # fmt: skip


def table(families: Sequence[str], lifts: Sequence[tuple[str, str, float]]) -> Table:
    """Return a table in which the pairs named come together so many times (as base-two logarithms) more often."""
    named = sorted(families)
    rows = sorted(
        ((named.index(one) * len(named) + named.index(other)) * 2 + related, lift)
        for one, other, lift in lifts
        for related in (0, 1)
    )
    return Table(
        families=tuple(named), cells=np.array([code for code, _ in rows], "<u4").tobytes(),
        lifts=np.array([[lift, 5.0] + [lift] * LAGS for _, lift in rows], "<f2").tobytes(),
        company=np.zeros((len(named), 2), "<f2").tobytes(), profile=np.zeros((2, LAGS), "<f2").tobytes(),
    )  # fmt: skip


def fitted(
    unlabelled: Grown = NO_TREES, *, way: Way = "linker", shift: float = 0.0, fit: int = 1,
    learned: Table | None = None, corrected: Grown | None = None, common: dict[str, float] | None = None,
) -> LinkFit:  # fmt: skip
    """Return a fit whose verdict is that `way` acts."""
    linker = Linker(table=learned or Table(), common=common or {}, unlabelled=unlabelled, corrected=corrected)
    return LinkFit(fit=fit, linker=linker, verdict=Verdict(way=way, shift=shift, reason="so it was written"))


#: Alerts of related things, or soon after each other, share a cause; others do not.
BY_RELATION = grown(("related", 0.5, -1.5, 2.0), ("lag_s", 20.0, 1.0, -1.0))
#: All share one with all.
TOGETHER = grown(base=2.0)
#: Nothing does with anything.
APART = grown(base=-5.0)

#: What rows bring in random timelines; one is none.
LINKERS = (
    linker_row(fitted(BY_RELATION, shift=0.5, fit=1)),
    linker_row(fitted(TOGETHER, shift=0.0, fit=2, common={"namespace=web": 0.1})),
    linker_row(fitted(grown(("kind", 0.5, 3.0, 0.0), ("shared", 0.5, 0.0, 2.0)), shift=1.0, fit=3)),
    linker_row(
        fitted(TOGETHER, corrected=grown(("verdict", 0.0, -2.0, 0.5), ("lag_s", 60.0, 1.0, -2.0)), fit=9)
    ),
    linker_row(fitted(way="bursts", fit=4)),
    linker_row(fitted(way="entities", fit=5)),
    b'{"fit": 6, "linker": "AAAA"}',
)
