"""What a detector promises is checked against what it said before."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.analysis.detectors.checked import FROM, FROM_TAIL, Checked
from bridge.analysis.detectors.surprise import score_of, tail_of

ONE = np.array([0])


def learned(scores: np.ndarray) -> Checked:
    checked = Checked(1)
    for score in scores:
        checked.learn_many(ONE, np.array([score]))
    return checked


def of(checked: Checked, *scores: float) -> list[float]:
    return [float(checked.score_many(ONE, np.array([score]))[0]) for score in scores]


HONEST = score_of(np.random.default_rng(1).random(4000))


def test_an_honest_detector_is_believed() -> None:
    for score in (0.05, 0.2, 0.4, 0.9):
        assert of(learned(HONEST), score)[0] == pytest.approx(score, rel=0.25)


def test_a_promise_that_was_broken_again_and_again_is_taken_back_to_what_it_means() -> None:
    loud = np.minimum(1.0, 3.0 * HONEST)
    threshold = 4.0 / 12.0
    assert np.mean(loud >= threshold) > 100 * tail_of(np.array(threshold))
    checked = learned(loud)
    told = checked.score_many(np.zeros(4000, int), loud)
    assert np.mean(told >= threshold) <= 8 * tail_of(np.array(threshold))


def test_scores_keep_their_order_and_are_never_raised() -> None:
    scores = np.linspace(0.0, 1.0, 200)
    for past in (HONEST, 0.1 * HONEST, np.minimum(1.0, 3.0 * HONEST), np.full(500, 1.0)):
        told = np.array(of(learned(past), *scores))
        assert (np.diff(told) >= 0.0).all()
        assert (told <= scores + 1e-12).all()


def test_a_lone_anomaly_teaches_next_to_nothing() -> None:
    calm, struck = learned(HONEST), learned(np.append(HONEST, 1.0))
    assert of(struck, 0.8)[0] > 0.95 * of(calm, 0.8)[0]


def test_before_anything_was_seen_all_is_believed_and_nan_stays() -> None:
    assert of(Checked(1), 0.3, 1.0) == pytest.approx([0.3, 1.0])
    assert np.isnan(of(Checked(1), np.nan)[0])
    checked = learned(HONEST)
    before = checked.state()
    checked.learn_many(ONE, np.array([np.nan]))
    assert checked.state() == before
    assert score_of(np.array(FROM_TAIL)) == pytest.approx(FROM)
