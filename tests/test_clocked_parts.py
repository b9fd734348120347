"""The benchmark fits and reviews between two rows, and never with a row that is still to come."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from benchmarks.parts.clocked import DAY_ROWS, Refitted, Reviewed
from bridge.analysis.detectors.forest import Forest

ROWS = DAY_ROWS + 30
TIMES = 1.7e9 + 300.0 * np.arange(ROWS)


def play(scorer: Refitted | Reviewed, values: np.ndarray) -> np.ndarray:
    found, one = [], np.array([0])
    for row, value in enumerate(values):
        scores = scorer.score_many(one, TIMES[row : row + 1], np.array([value]))
        scorer.learn_many(one, TIMES[row : row + 1], np.array([value]), scores)
        scorer.tick(one, row)
        found.append(scores[0])
    return np.array(found)


@pytest.mark.parametrize("make", [partial(Refitted, Forest, 1), partial(Reviewed, 1, with_trials=False)])
def test_a_score_knows_no_row_after_its_own(make: partial[Refitted | Reviewed]) -> None:
    values = np.random.default_rng(1).poisson(0.1, ROWS).astype(float)
    other = values.copy()
    other[DAY_ROWS + 10 :] = 50.0
    first, second = play(make(), values), play(make(), other)
    assert np.array_equal(first[: DAY_ROWS + 10], second[: DAY_ROWS + 10], equal_nan=True)
    assert second[DAY_ROWS + 10] > np.nanmax(first)


def test_a_forest_speaks_from_its_first_fit_on() -> None:
    scores = play(Refitted(Forest, 1), np.random.default_rng(2).normal(size=ROWS))
    assert np.isnan(scores[:DAY_ROWS]).all()
    assert not np.isnan(scores[DAY_ROWS:]).any()


def test_a_review_changes_who_speaks_by_what_was_seen() -> None:
    scorer = Reviewed(1, with_trials=False)
    play(scorer, np.random.default_rng(3).poisson(0.1, ROWS).astype(float))
    assert scorer.standings[0].model == "counts"
