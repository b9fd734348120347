"""Learning to link: from a tenant's own history to the probability that two alerts share a cause.

Theory. Without labels: pairs of alerts that began within a quarter of an hour (*near*) are some by cause and some by
chance; pairs of alerts that would be near if one of them were moved by hours (*shifted*) are all by chance. Where a
kind of pair is r times as dense among the near as among the shifted, 1 - 1/r of the near ones are not by chance. The
ratio comes from trees that tell near from shifted pairs apart (density ratio by classification: Sugiyama, Suzuki and
Kanamori, Density Ratio Estimation in Machine Learning, 2012). How often two families come together, at all and at
which distance, is counted into a table first, shrunk towards what each of them does with any other, and is a feature
like the others; half of the history counts for the other half, so that nothing is learned from itself.

With labels: incidents that people confirmed, merged or split give pairs that belong together and pairs that do not.
Trees over the same features and the unlabelled verdict learn to correct it.

Rules: a fit is a pure function of its ask: one thread, no randomness, ordered input. It runs in the models' process
(scikit-learn grows the trees); `Judge` uses the result without it.

Decision: trees, for a sum of bins could not tell which of a rule's partners is meant at which lag: 0.86 instead of
0.93 (pairwise F1) with three days of labels on a generated world that nothing was tuned to. Decision: shifts of hours
in both directions rather than random partners, which would lose what belongs to the time of day.

`words` is what is learned from and what was learned, `history` sets what was seen into columns, `fitting` learns,
`judge` uses it.
"""

from __future__ import annotations

from bridge.analysis.learning.fitting import fit_linker, spoken_of
from bridge.analysis.learning.history import SHIFTS_S, History, common_of, likeness_of
from bridge.analysis.learning.judge import Judge
from bridge.analysis.learning.words import Key, Linker, Sighting, Table, Taught
from bridge.analysis.pairs import FEATURES

__all__ = [
    "FEATURES",
    "SHIFTS_S",
    "History",
    "Judge",
    "Key",
    "Linker",
    "Sighting",
    "Table",
    "Taught",
    "common_of",
    "fit_linker",
    "likeness_of",
    "spoken_of",
]
