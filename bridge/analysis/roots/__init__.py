"""Roots: which alert of an incident probably came first, why, and how likely that is.

Theory. "Most severe, then earliest" is hard to beat: in two thirds of generated storms the first of that order was a
root, which no causal method and no combination of them reached. So it is the order that acts, and everything else only
explains, until people have named roots. (Topology parts alerts that are equally severe and began at the same moment,
which nothing but chance would.) Then a conditional logit (McFadden 1974: a softmax over an incident's own alerts of a
weighted sum of their features) learns from what they named how much rank, time, learned order, topology, the number of
alerts about the same thing and the kind's own record are worth to this tenant.

A learned confidence must be able to say that it was none of them, or it would name a root wherever two alerts stand
together. So each named incident teaches twice: as it was, and without its root, where "none of these" is right. The
share of that stands beside the alerts' own, and a confidence is what is left for an alert.

Rules: it acts only where it was right significantly more often than the baseline on at least `LEAST_NAMED` incidents of
this tenant, each judged by a fit that knew nothing of it or of its neighbours in time. Otherwise the baseline acts, and
the verdict says why. A learned confidence is a probability that was calibrated on the same incidents; that of the
baseline is the reciprocal of the rank, normalised: an order, no probability.

Decision: a dozen weights rather than trees. A tenant names some dozens of roots, not thousands, and a weighted sum can
be read.

`words` is what is learned from and what was learned, `features` tells alerts apart, `suspecting` names and explains,
`fitting` learns.
"""

from __future__ import annotations

from bridge.analysis.roots.features import baseline, rows_of
from bridge.analysis.roots.fitting import LEAST_NAMED, fit_ranker
from bridge.analysis.roots.suspecting import Insight, suspects
from bridge.analysis.roots.words import FEATURES, NO_RANKER, NamedRoot, Ranker, RootVerdict, Sample

__all__ = [
    "FEATURES",
    "LEAST_NAMED",
    "NO_RANKER",
    "Insight",
    "NamedRoot",
    "Ranker",
    "RootVerdict",
    "Sample",
    "baseline",
    "fit_ranker",
    "rows_of",
    "suspects",
]
