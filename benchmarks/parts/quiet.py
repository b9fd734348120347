"""Generated series in which nothing is wrong: every alarm on them is a false one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

STEP_S = 300.0
START_S = 1_704_067_200.0  # a Monday
WEEK_ROWS = int(7 * 86400 / STEP_S)


def quiet(seed: int, weeks: float, of_each: int) -> tuple[list[str], Floats, Floats]:
    """Return names, times in epoch s (rows,), and values (rows, series)."""
    rng = np.random.default_rng(seed)
    times_s = START_S + STEP_S * np.arange(int(weeks * WEEK_ROWS))
    names, columns = [], []
    for _ in range(of_each):
        for name, values in _each(rng, times_s):
            names.append(name)
            columns.append(values)
    return names, times_s, np.column_stack(columns)


def _each(rng: np.random.Generator, times_s: Floats) -> Iterator[tuple[str, Floats]]:
    rows = len(times_s)
    phase = rng.uniform(0, 2 * np.pi)
    day = np.sin(times_s / 86400 * 2 * np.pi + phase)
    is_weekend = (times_s // 86400 + 3) % 7 >= 5
    noise = rng.normal(size=rows)
    yield "Gaussian noise", 50 + 5 * noise
    yield "day and night", 100 + 40 * day + 4 * noise
    yield "working week", (100 + 50 * day) * np.where(is_weekend, 0.4, 1.0) * np.exp(0.08 * noise)
    yield "slow wandering", 20 + _autoregressive(noise, 0.98)
    yield "heavy tails", 10 + rng.standard_t(3, rows)
    yield "latencies", np.exp(3 + 0.5 * noise)
    yield "rare counts", rng.poisson(0.05, rows).astype(float)
    yield "busy counts", rng.poisson(np.exp(1.5 + 0.8 * day)).astype(float)
    yield "bursty counts", rng.negative_binomial(0.3, 0.2, rows).astype(float)
    yield "two levels", np.where(rng.random(rows) < 0.2, 80.0, 20.0) + noise
    yield "constant", np.full(rows, 7.0)


def _autoregressive(noise: Floats, keep: float) -> Floats:
    found = np.empty_like(noise)
    last = 0.0
    for row, fresh in enumerate(noise):
        last = found[row] = keep * last + fresh
    return found
