"""The model: log odds of the reference plus a sum of weighted features, held back by a quadratic penalty.

Theory: ridge logistic regression with an offset (le Cessie and van Houwelingen, Applied Statistics 1992), fitted by
Newton's method. With all weights at nothing it says what the reference says, so that a strong penalty means "trust the
reference", not "say one half". Origins whose horizons overlap tell the same thing several times: each counts as the
share of its horizon that is its own, and half after `HALF_LIFE_S`.

Rules: a fit is a pure function of its ask: ordered input, no randomness; the caller keeps it on one thread. Scoring is
a product and a sum.

Decision: Newton's steps in numpy rather than scikit-learn, which knows no offset. Decision: logistic rather than
boosted trees, which did worse at some hundred events: trees learn what a series of chance looks like.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bridge.analysis.forecast.features import Rows
from bridge.analysis.forecast.occurrences import Floats
from bridge.model import Word

HALF_LIFE_S = 365 * 86_400.0
STEPS = 12  # of Newton at most; six are usual
INTERCEPT_PENALTY = 3.0
NEAR = 1e-5  # the top: no weight moves further
LEAST_SCALE = 1e-3
MOST_LOGIT = 3.0  # how far a model may move the log odds of the reference


class Weights(Word, frozen=True, kw_only=True):
    """What a fit learned, as it is stored: float32, little-endian; one weight per column after an intercept."""

    mean: bytes
    scale: bytes
    weight: bytes


class Model:
    """Weights that are ready to score."""

    def __init__(self, weights: Weights) -> None:
        """Read them.

        Raises:
            ValueError: Their parts are of different sizes.
        """
        self._mean = np.frombuffer(weights.mean, "<f4").astype(np.float64)
        self._scale = np.frombuffer(weights.scale, "<f4").astype(np.float64)
        self._weight = np.frombuffer(weights.weight, "<f4").astype(np.float64)
        if not len(self._mean) == len(self._scale) == len(self._weight) - 1:
            raise ValueError("a model's parts are of different sizes")

    def shifts(self, rows: Rows, reference_logits: Floats) -> Floats:
        """Return by how much each row moves the log odds of the reference."""
        found: Floats = np.clip(
            self.parts(rows, reference_logits).sum(axis=1) + self._weight[0], -MOST_LOGIT, MOST_LOGIT
        )
        return found

    def parts(self, rows: Rows, reference_logits: Floats) -> Floats:
        """Return what each column adds: the reference's own log odds first, then the features."""
        columns = _with_reference(rows, reference_logits)
        found: Floats = (columns - self._mean) / self._scale * self._weight[1:]
        return found


def fit(
    rows: Rows, reference_logits: Floats, happened: NDArray[np.bool_], weights: Floats, penalties: Floats
) -> Weights:
    """Learn weights.

    Args:
        rows: Features, one row per origin.
        reference_logits: What the reference said there.
        happened: Whether an event began within the horizon.
        weights: How much each origin counts, >= 0, some of them above.
        penalties: On the squared weight of each standardised column, the reference's own log odds first, in events;
            infinite: the column has no say.
    """
    seen = _with_reference(rows, reference_logits)
    total = weights.sum()
    mean = (weights[:, None] * seen).sum(axis=0) / total
    scale = np.sqrt((weights[:, None] * (seen - mean) ** 2).sum(axis=0) / total)
    used = np.isfinite(penalties) & (scale > LEAST_SCALE)  # a column that never moves has no say either
    scale[~used] = 1.0
    design = np.column_stack([np.ones(len(seen)), (seen[:, used] - mean[used]) / scale[used]])
    held = np.concatenate([[INTERCEPT_PENALTY], penalties[used]])
    weight = np.zeros(len(penalties) + 1)
    weight[np.concatenate([[True], used])] = _newton(
        design, reference_logits, happened.astype(np.float64), weights, held
    )
    return Weights(mean=_bytes(mean), scale=_bytes(scale), weight=_bytes(weight))


def _newton(design: Floats, offset: Floats, happened: Floats, weights: Floats, held: Floats) -> Floats:
    weight = np.zeros(design.shape[1])
    for _ in range(STEPS):
        said = sigmoid(offset + design @ weight)
        slope = design.T @ (weights * (happened - said)) - held * weight
        curve = (design * (weights * said * (1.0 - said))[:, None]).T @ design
        step = np.linalg.solve(curve + np.diag(held + 1e-9), slope)
        longest = float(np.abs(step).max())
        weight += step / max(1.0, longest)  # no step is longer than 1: far from the top Newton overshoots
        if longest < NEAR:
            break
    return weight


def _with_reference(rows: Rows, reference_logits: Floats) -> Floats:
    return np.column_stack([reference_logits, rows.astype(np.float64)])


def sigmoid(logits: Floats) -> Floats:
    """Return probabilities of log odds."""
    found: Floats = 1.0 / (1.0 + np.exp(-np.clip(logits, -40.0, 40.0)))
    return found


def logit(probabilities: Floats) -> Floats:
    """Return log odds of probabilities, none of them 0 or 1."""
    found: Floats = np.log(probabilities) - np.log1p(-probabilities)
    return found


def _bytes(values: Floats) -> bytes:
    return values.astype("<f4").tobytes()
