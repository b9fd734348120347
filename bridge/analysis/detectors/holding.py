"""Hold-off: one alarm for one anomaly, whatever the threshold is.

Theory: what is strange stays strange for a while. The first score of a rise says it all; scores after it that are no
higher repeat it. They are told at a tenth, until a higher one comes, or until nothing near the told one was seen for
`HOLD` values. So a count of crossings is a count of anomalies, which is what "false alarms a week" counts.

Decision: relative to the score that was told, not to a threshold, so that every threshold, also one that is chosen
later, sees each anomaly once; and counted in values, not in seconds, because detectors learn by values.

Cost: a dozen array operations. Memory: 16 bytes a series.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bridge.analysis.detectors.slots import Column, Ints, Slots

Floats = NDArray[np.float64]

HOLD = 120.0
#: What is held off is told at this share: a tenth of the worst is still far below any useful threshold.
REPEATED = 0.1
#: A score this much below the told one belongs to it still: one decade of tail probability.
NEAR = 1.0 / 12.0


class HoldOff(Slots):
    """The last told score of each series."""

    COLUMNS = (Column("told"), Column("quiet"))
    told: Floats
    quiet: Floats

    def score_many(self, series: Ints, scores: Floats) -> Floats:
        """Return what is told of scores: themselves, or a tenth of them while they repeat; nothing is changed."""
        return np.where(scores > self._held(series), scores, REPEATED * scores)

    def learn_many(self, series: Ints, scores: Floats) -> None:
        """Take the scores in (as they were before `score_many`)."""
        held, quiet = self._held(series), self.quiet[series]
        is_news = scores > held
        goes_on = scores >= held - NEAR
        self.told[series] = np.where(is_news, scores, held)
        self.quiet[series] = np.where(is_news | goes_on, 0.0, quiet + 1.0)

    def _held(self, series: Ints) -> Floats:
        return np.where(self.quiet[series] < HOLD, self.told[series], 0.0)
