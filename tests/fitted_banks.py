"""Fitted detectors that were fitted already, each slot alike: what the contract says of a detector holds for them."""

from __future__ import annotations

import numpy as np

from bridge.analysis.detectors.autoencoder import Autoencoder
from bridge.analysis.detectors.fitted import FittedBank, ask_of
from bridge.analysis.detectors.forest import Forest

_ROWS = np.arange(2600)
#: Counts of a busy series with a day, five minutes each.
USUAL = np.random.default_rng(99).poisson(6 + 3 * np.sin(_ROWS * np.pi / 144)).astype(float)


def _fit(kind: type[FittedBank]) -> bytes:
    fit = kind.fit(ask_of("t", "s", 1, (1_700_000_000 - 300.0 * _ROWS[::-1], USUAL)))
    assert fit is not None
    return fit


class _Ready(FittedBank):
    FIT: bytes

    def grow(self, count: int) -> None:
        first = len(self)
        super().grow(count)
        for slot in range(first, count):
            self.take(slot, self.FIT)

    def drop(self, series) -> None:
        super().drop(series)
        for slot in series:
            self.take(slot, self.FIT)


class ReadyForest(_Ready, Forest):
    FIT = _fit(Forest)


class ReadyAutoencoder(_Ready, Autoencoder):
    FIT = _fit(Autoencoder)
