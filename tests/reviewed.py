"""Rows that bring reviews: `told(review("load", "shape", lived=3), fit=2)`."""

from __future__ import annotations

import numpy as np

from bridge.analysis import reviewing
from bridge.analysis.champions import Standing
from bridge.analysis.detectors.fitted import ask_of
from bridge.analysis.reviewing import DETECTORS, Review, Reviews

_VALUES = np.random.default_rng(4).normal(size=300)
#: What a forest and an autoencoder learned somewhere.
FITS = {
    model: reviewing.fit_of(
        model, ask_of("t", "s", 1, (1.7e9 + 60.0 * np.arange(2300), np.resize(_VALUES, 2300)))
    )
    for model in DETECTORS
}


def review(series: str, model: str, *, lived: int, tick: int, is_new: bool = True) -> Review:
    """Return a review that lets `model` speak, newly begun or with another fit."""
    standing = Standing(model=model, reason="it won", since_tick=tick, is_won=True, trials=3)
    row = reviewing.warmed(model, FITS[model], 1.7e9 + 60.0 * np.arange(8), _VALUES[:8]) if is_new else b""
    return Review(
        series=series, tick=tick, lived=lived, standing=standing, row=row, fit=b"" if is_new else FITS[model]
    )


def told(*reviews: Review, fit: int) -> bytes:
    """Return the body of a row."""
    return reviewing.told(Reviews(fit=fit, reviews=reviews))
