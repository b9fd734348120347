"""Extent: how large a tenant's incidents become, and over how many things they spread.

Theory: sizes of incidents are heavy-tailed: most are one alert, a few are hundreds. So P(size >= x) is the share of
those of two and more times a power of x (Pareto), its exponent by Hill's estimate (Annals of Statistics, 1975).

Rules: an incident is asked about against those that are over, and teaches once, when it closes. All fades with a
half-life of a month. Nothing is said before `LEAST` incidents.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime

from bridge.analysis.entities import ENTITY_LABELS, SPECIFIC_WEIGHT
from bridge.analysis.statistics import decay
from bridge.model import Word

HALF_LIFE_S = 30 * 86_400.0
LEAST = 20.0
#: Where the power law begins, half a step below two.
FROM = 1.5
_SPECIFIC = frozenset(kind for kind, weight in ENTITY_LABELS.values() if weight >= SPECIFIC_WEIGHT)


class Sizes(Word, frozen=True, array_like=True):
    """Of incidents that are over, faded: how many were of two and more, and the sum of log(size / `FROM`) of those."""

    larger: float = 0.0
    logs: float = 0.0


class Extent(Word, frozen=True, kw_only=True):
    """How large a tenant's incidents were."""

    updated_at: datetime
    incidents: float = 0.0  # faded
    alerts: Sizes = Sizes()
    things: Sizes = Sizes()


def things_in(keys: Iterable[str]) -> int:
    """Return how many hosts, services and the like are among what an incident's alerts name, at least 1."""
    return max(1, sum(1 for key in keys if key.partition("=")[0] in _SPECIFIC))


def learned(extent: Extent | None, alerts: int, things: int, at: datetime) -> Extent:
    """Return the extent after one more incident has closed at `at` (times do not go back)."""
    known = extent or Extent(updated_at=at)
    fade = decay(1.0, (at - known.updated_at).total_seconds(), HALF_LIFE_S)
    return Extent(
        updated_at=at, incidents=known.incidents * fade + 1.0, alerts=_grown(known.alerts, alerts, fade),
        things=_grown(known.things, things, fade),
    )  # fmt: skip


def tails(extent: Extent | None, alerts: int, things: int) -> list[tuple[float, str]]:
    """Return (tail probability, reason) for "is it this large" and "does it spread this far".

    Nothing at first, and nothing of what is one: that is never large.
    """
    if extent is None or extent.incidents < LEAST:
        return []
    asked = ((extent.alerts, alerts, "alerts"), (extent.things, things, "things named"))
    return [
        (_tail(sizes, extent.incidents, size), f"{size:,} {what}, {_often(sizes, extent.incidents)}")
        for sizes, size, what in asked
        if size > 1
    ]


def _grown(sizes: Sizes, size: int, fade: float) -> Sizes:
    is_larger = size > 1
    return Sizes(
        larger=sizes.larger * fade + is_larger,
        logs=sizes.logs * fade + (math.log(size / FROM) if is_larger else 0.0),
    )


def _tail(sizes: Sizes, total: float, size: int) -> float:
    power = (sizes.larger + 1.0) / (sizes.logs + 1.0)
    return float((sizes.larger + 0.5) / (total + 1.0) * (size / FROM) ** -power)


def _often(sizes: Sizes, total: float) -> str:
    return f"{sizes.larger / total:.0%} of {total:.0f} incidents had more than one"
