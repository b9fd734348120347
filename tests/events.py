"""Series of events: chance alone with a season and a drift, and such that announce themselves."""

from __future__ import annotations

import numpy as np

from bridge.analysis.forecast.occurrences import Occurrence, Occurrences

HOUR_S, DAY_S = 3600.0, 86_400.0
MONDAY_S = 1_700_438_400.0  # 2023-11-20


def chance(
    seed: int, *, days: int = 60, per_day: float = 3.0, daily: float = 0.0, since_s: float = MONDAY_S
) -> Occurrences:
    """Events by chance alone, more of them at noon if `daily` is above 0."""
    chosen = np.random.default_rng(seed)
    hours = np.arange(days * 24)
    rate = np.exp(-daily * np.cos(2 * np.pi * hours / 24))
    number = chosen.poisson(rate * per_day / 24 / rate.mean())
    starts = since_s + np.repeat(hours, number) * HOUR_S + chosen.uniform(0, HOUR_S, number.sum())
    ends = starts + chosen.exponential(HOUR_S, len(starts))
    return Occurrences(
        Occurrence(float(start), float(end), f"service-{number % 3}", "minor", "it is slow")
        for number, (start, end) in enumerate(zip(starts, ends, strict=True))
    )


def announced(seed: int, *, days: int = 60, length: int = 6, since_s: float = MONDAY_S) -> Occurrences:
    """Events that come in trains: after one, more follow within hours."""
    chosen = np.random.default_rng(seed)
    starts: list[float] = []
    for first in np.cumsum(chosen.exponential(1.5 * DAY_S, days)):
        if first < days * DAY_S:
            train = np.cumsum(chosen.exponential(2 * HOUR_S, chosen.poisson(length) + 1))
            starts += (since_s + first + train).tolist()
    return Occurrences(Occurrence(start, start + 600.0, "db", "major", "train") for start in starts)


def hours_of(events: Occurrences, horizon_s: float = 4 * HOUR_S, step_s: float = HOUR_S) -> np.ndarray:
    """Return the origins of a series."""
    first = np.ceil(events.starts[0] / step_s) * step_s
    return np.arange(first, events.starts[-1] - horizon_s + 1e-6, step_s)
