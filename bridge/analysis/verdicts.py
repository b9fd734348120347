"""Verdicts: which way of grouping acts for a tenant, on what evidence: the words of `analysis.gate`.

Decision: a room of their own, since the front shows verdicts, and what finds them loads numpy.
"""

from __future__ import annotations

from typing import Literal

from bridge.analysis.settings import Grouping, Way
from bridge.model import Word

#: What ways are examined with.
Undisputed = Literal["isolated bursts", "confirmed incidents"]
FALLBACK: Way = "bursts"
LEAST_SIGHTINGS = 300  # alerts that a tenant must have had before a linker is learned
#: Before there was an exam to choose it.
UNCONFIRMED_SHIFT = 1.5


class Evidence(Word, frozen=True, kw_only=True):
    """How one way did in the exam."""

    way: Way
    f1: float
    precision: float
    recall: float
    shift: float = 0.0


class Verdict(Word, frozen=True, kw_only=True):
    """Which way acts, and why."""

    way: Way = FALLBACK
    shift: float = UNCONFIRMED_SHIFT  # log odds that a link must exceed
    reason: str = "nothing was learned yet"
    units: int = 0  # incidents there were to learn from and to be examined with
    examined: int = 0
    of: Undisputed | Literal[""] = ""
    evidence: tuple[Evidence, ...] = ()


def in_force(grouping: Grouping, verdict: Verdict | None) -> Way:
    """Return how a tenant's alerts are grouped; `verdict` is of its newest fit, None before the first."""
    if grouping == "auto":
        return verdict.way if verdict is not None else FALLBACK
    return FALLBACK if grouping == "linker" and verdict is None else grouping
