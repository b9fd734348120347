"""What ranking learns from, and what it learned, as it is stored."""

from __future__ import annotations

from datetime import datetime

import msgspec
import numpy as np
from numpy.typing import NDArray

from bridge.analysis.causal_graph import EpisodeKey
from bridge.model import Severity, Word

#: What is told apart, one weight each.
FEATURES = (
    "severity", "rank", "earliest", "lag", "precedes", "preceded", "called by", "calls", "same thing", "machine",
    "record", "none of these",
)  # fmt: skip

Rows = NDArray[np.float64]


class Sample(Word, frozen=True, kw_only=True):
    """One alert as it was when it first fired in an incident that people said something about."""

    source: str
    fingerprint: str
    starts_at: datetime
    seen_at: datetime
    labels: dict[str, str]
    template: str
    severity: Severity


class NamedRoot(Word, frozen=True, kw_only=True):
    """An incident and what a person named as its root."""

    root: EpisodeKey
    alerts: tuple[Sample, ...]


class RootVerdict(Word, frozen=True, kw_only=True):
    """Which ranking acts, and why."""

    acts: bool = False
    reason: str = "no root was named yet"
    named: int = 0
    baseline: float = 0.0  # share of them of which it had the root first
    learned: float = 0.0


class Ranker(Word, frozen=True, kw_only=True):
    """What was learned from named roots, as it is stored."""

    weights: tuple[float, ...] = ()  # of `FEATURES`
    #: Template -> times it was the root, incidents that had it.
    records: dict[str, tuple[int, int]] = msgspec.field(default_factory=dict)
    usual: float = 0.0  # what a kind without a record has: the share of the alerts that were roots
    verdict: RootVerdict = RootVerdict()


#: Where nothing was learned: the baseline acts.
NO_RANKER = Ranker()
