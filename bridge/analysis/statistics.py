"""Small statistics that several thinking rooms share. Pure Python: the analyst's loop loads no scipy."""

from __future__ import annotations

import math


def gamma_poisson_tail(count: int, *, shape: float, exposure: float, span: float) -> float:
    """Return P(X >= count) for a Poisson count whose rate has a Gamma posterior.

    Args:
        count: Observed events in `span`, >= 0.
        shape: Gamma shape: prior shape plus events seen (> 0).
        exposure: Gamma rate: prior exposure plus time watched, in the unit of `span` (> 0).
        span: Length of the window, same unit (> 0).

    Returns:
        A probability 0..1; small means unusual. Cost grows with `count`, which callers keep below a few hundred.

    Source: the posterior predictive of a Gamma-Poisson model is negative binomial (Gelman et al., Bayesian Data
    Analysis, 3rd edition, section 2.6).
    """
    if count <= 0:
        return 1.0
    success = exposure / (exposure + span)
    log_fail = math.log1p(-success)
    log_term = shape * math.log(success)  # P(X = 0)
    below = math.exp(log_term)
    for k in range(1, count):
        log_term += math.log((shape + k - 1) / k) + log_fail
        below += math.exp(log_term)
    return min(1.0, max(0.0, 1.0 - below))


def geometric_tail(size: int, mean: float) -> float:
    """Return P(S >= size) for a geometric size with `mean` >= 1; small means unusually large."""
    if size <= 1:
        return 1.0
    keep = 1.0 - 1.0 / max(1.0, mean)
    return keep ** (size - 1) if keep > 0.0 else 0.0


def decay(value: float, elapsed_s: float, half_life_s: float) -> float:
    """Return what is left of `value` after `elapsed_s`."""
    return value * math.exp2(-max(0.0, elapsed_s) / half_life_s)
