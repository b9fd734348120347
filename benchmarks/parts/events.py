"""Series of events for benchmarks/forecast.py: chance alone, chance with a memory, and what a file holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bridge.analysis.forecast.occurrences import Occurrence, Occurrences
from bridge.app.events_file import read_events

HOUR_S, DAY_S, WEEK_HOURS = 3600.0, 86_400.0, 168
SINCE_S = 1_600_041_600.0  # a Monday
KINDS = ("flat", "daily", "daily and weekly", "daily, weekly, drift")


def null(seed: int, *, days: int) -> tuple[str, Occurrences]:
    """Return a Poisson series of one of `KINDS`, in turns: there is nothing to forecast but its rate.

    0.3 to 5 events a day; by the day up to 20 times as many at the peak as opposite of it; at weekends a fifth to four
    fifths of what weekdays have; the drift is a trend of up to 3.3 times either way or a wave of two to seven months.
    """
    chosen = np.random.default_rng(seed)
    kind = seed % len(KINDS)
    per_day = float(np.exp(chosen.uniform(np.log(0.3), np.log(5.0))))
    hours = np.arange(days * 24)
    log_rate = np.zeros(len(hours))
    if kind >= 1:
        peak, height = chosen.uniform(0, 24), chosen.uniform(0.3, 1.5)
        log_rate += height * np.cos(2 * np.pi * (hours % 24 - peak) / 24)
    if kind >= 2:
        log_rate += np.where(hours // 24 % 7 >= 5, np.log(chosen.uniform(0.2, 0.8)), 0.0)
    if kind == 3 and seed % 8 == 3:
        log_rate += chosen.uniform(-1.2, 1.2) * hours / len(hours)
    elif kind == 3:
        log_rate += 0.6 * np.sin(2 * np.pi * hours / (24 * chosen.uniform(60, 200)))
    return KINDS[kind], _poisson(chosen, np.exp(log_rate), per_day)


def remembering(seed: int, *, days: int, follow: float) -> Occurrences:
    """Return a series with a season in which each event brings `follow` others on average, within hours (Hawkes)."""
    chosen = np.random.default_rng(seed)
    hours = np.arange(days * 24)
    rate = np.exp(0.8 * np.cos(2 * np.pi * (hours % 24 - 14) / 24)) * np.where(hours // 24 % 7 >= 5, 0.4, 1.0)
    first = _poisson(chosen, rate, 1.0 - follow).starts
    starts = list(first)
    while len(first):
        children = np.repeat(first, chosen.poisson(follow, len(first)))
        first = children + chosen.exponential(6 * HOUR_S, len(children))
        starts.extend(first)
    return Occurrences(Occurrence(float(each)) for each in starts if each < SINCE_S + days * DAY_S)


def _poisson(chosen: np.random.Generator, rate: np.ndarray, per_day: float) -> Occurrences:
    number = chosen.poisson(rate * per_day / 24 / rate.mean())
    starts = (
        SINCE_S + np.repeat(np.arange(len(rate)), number) * HOUR_S + chosen.uniform(0, HOUR_S, number.sum())
    )
    lasted = chosen.exponential(HOUR_S, len(starts))
    return Occurrences(
        Occurrence(float(start), float(start + each), "", "minor")
        for start, each in zip(starts, lasted, strict=True)
    )


def recorded(path: Path) -> Occurrences:
    """Return the events of a file."""
    return Occurrences(read_events(path).events)
