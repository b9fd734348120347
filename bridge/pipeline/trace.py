"""Trace: what happens between two commits and that the state does not keep; only for who asks for it.

Rules: nothing that is decided reads it. What it holds is in the order in which it came, and the same however rows were
batched, so that whoever draws it gets the same picture. Live nobody asks, and nothing is gathered.

Decision: with the outcome rather than in the state. A plot of a year is a replay's business; what stands in the state
is paid for by every sidecar at every restart.
"""

from __future__ import annotations

from typing import NamedTuple

from bridge.analysis.forecast.outlooks import Outlook
from bridge.analysis.watching import Alarm


class Sampled(NamedTuple):
    """One sample, and how strange it was."""

    tenant: str
    series: str
    at_s: float
    value: float
    score: float | None  # None while the detector warms up


class Trace:
    """What one call of `advance` did."""

    def __init__(self) -> None:
        self.outlooks: list[tuple[str, Outlook]] = []  # by tenant: `Outcome.outlooks` has only the newest
        self.samples: list[Sampled] = []
        self.alarms: list[tuple[str, str, Alarm]] = []  # that began: tenant, name
