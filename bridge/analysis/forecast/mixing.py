"""Mixing: how far each of several models and the reference are trusted, and how sure the mixture may be.

Theory: a Bayesian mixture is behind the best of its members by no more than the logarithm of one over the trust it
began with, whatever happens; with the reference among them a mixture cannot lose much to it. What is left of
overconfidence is taken out by Platt's scaling of what the mixture adds to the reference's log odds, fitted to
forecasts that were made before their outcome was known (Platt 1999), and itself held back towards no change.

Rules: only outcomes whose horizon has passed. Cost: some microseconds an outcome.

Decision: Platt's two numbers at every count rather than isotonic steps above 1,000 events: steps say 0 and 1, which
the log score does not forgive.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bridge.analysis.forecast.logistic import logit, sigmoid
from bridge.analysis.forecast.occurrences import Floats

#: How far the reference is trusted to begin with; the models share the rest.
REFERENCE_TRUST = 0.5
SHARE = 1e-3  # of the trust, that goes round per horizon
#: Pseudo-events that hold the scaling at no change.
SCALE_PENALTY, SHIFT_PENALTY = 10.0, 30.0
LEAST, MOST_SCALE = 1e-6, 1.5


class Mixture:
    """Trust in each member: the reference first, then the models."""

    def __init__(self, members: int, trust: Floats | None = None) -> None:
        """Begin with half of the trust in the reference, or with a stored trust."""
        begun = np.full(members, (1.0 - REFERENCE_TRUST) / max(1, members - 1))
        begun[0] = REFERENCE_TRUST if members > 1 else 1.0
        self._begun = begun
        self.trust = begun.copy() if trust is None else trust

    def said(self, probabilities: Floats) -> float:
        """Return the mixture of what the members say."""
        return float(np.clip(self.trust @ probabilities, LEAST, 1.0 - LEAST))

    def learn(self, probabilities: Floats, weight: float, *, happened: bool) -> None:
        """Learn from what the members said and what came of it."""
        likelihood = probabilities if happened else 1.0 - probabilities
        trust = self.trust * np.maximum(likelihood, LEAST) ** weight
        trust /= trust.sum()
        share = SHARE * weight
        self.trust = (1.0 - share) * trust + share * self._begun


def scaling(
    reference_logits: Floats, said_logits: Floats, happened: NDArray[np.bool_], weights: Floats
) -> tuple[float, float]:
    """Return (shift, scale): log odds = reference + shift + scale * (said - reference)."""
    added = said_logits - reference_logits
    found = np.array([0.0, 1.0])
    design = np.column_stack([np.ones(len(added)), added])
    spread = float((weights * added**2).sum() / max(weights.sum(), 1e-9))
    held = np.array([SHIFT_PENALTY, SCALE_PENALTY * max(spread, 1e-4)])
    for _ in range(8):
        said = sigmoid(reference_logits + design @ found)
        slope = design.T @ (weights * (happened - said)) - held * (found - [0.0, 1.0])
        curve = (design * (weights * said * (1.0 - said))[:, None]).T @ design
        found = found + np.linalg.solve(curve + np.diag(held), slope)
    return float(np.clip(found[0], -1.0, 1.0)), float(np.clip(found[1], 0.0, MOST_SCALE))


def scaled(reference: float, said: float, shift: float, scale: float) -> float:
    """Return the probability after scaling."""
    base, mixed = logit(np.array([reference, said]))
    return float(sigmoid(np.array([base + shift + scale * (mixed - base)]))[0])
