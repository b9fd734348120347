"""NAB's windowed Gaussian, the detector whose published figure the harness is checked by."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

WINDOW, STEP = 6400, 100
SMALLEST = 1e-6  # standard deviation in place of 0


def scores(values: Floats) -> Floats:
    """Return 1 - P(Z >= |z|) of each value under the Gaussian of the window before it; the first has 0.

    The window grows to `WINDOW` values and then moves on by `STEP` at a time.
    """
    found = np.zeros(len(values))
    mean, deviation = 0.0, 1.0
    for row, value in enumerate(values):
        if row:
            found[row] = 1.0 - 0.5 * math.erfc(abs(value - mean) / deviation / math.sqrt(2.0))
        is_full = row >= WINDOW
        if not is_full or (row + 1 - WINDOW) % STEP == 0:
            window = values[max(0, row + 1 - WINDOW) : row + 1]
            mean, deviation = float(window.mean()), float(window.std()) or SMALLEST
    return found
