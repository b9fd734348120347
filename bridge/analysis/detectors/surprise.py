"""The one scale of all scores: a tail probability as a surprise between 0 and 1.

score = min(1, -log10(p) / 12). Its meaning is p, so a threshold is a rate of false alarms: a series with n values a
week whose detector is right about p crosses `threshold_for(alarms, n)` `alarms` times a week where nothing is wrong.

Decision: the logarithm rather than 1 - p, which for everything worth an alarm is 1.0 to the eye and soon to a float;
and twelve decades rather than more, because no history of a series supports a smaller p: beyond it all is the same.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

DECADES = 12.0
#: From here on a value is not learned from as it is: p <= 1e-4. Once in two months of five-minute values by chance,
#: so next to nothing that is usual is kept from teaching.
FLAGGED = 4.0 / DECADES


def score_of(tail: Floats) -> Floats:
    """Return the scores 0..1 of tail probabilities; NaN stays NaN."""
    with np.errstate(divide="ignore", invalid="ignore"):
        score: Floats = np.clip(-np.log10(tail) / DECADES, 0.0, 1.0) + 0.0  # no -0.0
    return score


def tail_of(score: Floats) -> Floats:
    """Return the tail probabilities of scores."""
    tail: Floats = 10.0 ** (-DECADES * score)
    return tail


def is_flagged(score: Floats) -> Bools:
    """Say which scores are too high for their values to be learned from as they are; NaN is not."""
    return score >= FLAGGED


def threshold_for(alarms_a_week: float, values_a_week: float) -> float:
    """Return the score above which a series with so many values gives so many false alarms a week (both > 0)."""
    return float(score_of(np.array([min(1.0, alarms_a_week / values_a_week)]))[0])
