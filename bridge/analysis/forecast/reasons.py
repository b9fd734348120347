"""Reasons: which of the things known at an origin moved the odds, in words and by how much.

Theory: the models add up log odds, so what each feature adds can be read off and put as "so many times the odds". Each
is measured against its own usual value. Features that tell one story (how many lately, how long ago) are one reason.
Cost: some microseconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bridge.analysis.forecast.features import (
    CALENDAR,
    ENDED_S,
    FORGOTTEN_S,
    HASHED,
    RECENT,
    SIZES,
    WINDOWS_S,
    Rows,
)
from bridge.analysis.forecast.occurrences import Floats
from bridge.model import Word

NO_SKILL = (
    "no skill here: what is given is how often incidents come at such hours, which nothing known beat so far"
)
LEAST_FACTOR = 1.05  # of the odds, either way, that is worth a word
_UNITS = ((86_400.0, "day"), (3600.0, "hour"), (60.0, "minute"))


class Reason(Word, frozen=True, kw_only=True):
    """One thing that moved the odds."""

    text: str  # whole: "3 incidents of checkout in the last hour: 2.4 times the odds"
    factor: float  # of the odds


def reasons(row: Rows, parts: Floats, scopes: Sequence[str], *, most: int = 3) -> tuple[Reason, ...]:
    """Return what moved the odds most, first the largest.

    Args:
        row: The features of one origin.
        parts: What each adds to the log odds: the reference's own bending first, then one per feature.
        scopes: What is counted, as words: "incidents of checkout"; everything second, where the target is less.
        most: How many reasons at most.
    """
    told: list[tuple[float, str]] = [(float(parts[0]), "how often they come at such hours")]
    at = 0
    size = len(WINDOWS_S) + len(RECENT)
    for scope in scopes:
        mine = parts[1 + at : 1 + at + size]
        told.append((float(mine.sum()), _lately(row[at : at + size], mine, scope)))
        at += size
    for number, words in (
        (len(ENDED_S), "what ended lately"), (1, _open(float(row[at + len(ENDED_S)]))),
        (CALENDAR, "the time of the day and of the week"),
        *((SIZES[kind], f"{_HASHED[kind]} in the last {_span(window)}") for kind, window in HASHED),
    ):  # fmt: skip
        told.append((float(parts[1 + at : 1 + at + number].sum()), words))
        at += number
    told.sort(key=lambda each: (-abs(each[0]), each[1]))
    return tuple(
        Reason(text=f"{words}: {factor_words(math.exp(moved))}", factor=math.exp(moved))
        for moved, words in told[:most]
        if abs(moved) >= math.log(LEAST_FACTOR)
    )


def factor_words(factor: float) -> str:
    """Return "2.4 times the odds"."""
    return f"{factor:.2g} times the odds" if factor < 1.0 else f"{factor:.1f} times the odds"


def _lately(row: Rows, parts: Floats, scope: str) -> str:
    """Return the count or the age that moved the odds most, in its own direction."""
    moved = parts.sum()
    best = int(np.argmax(parts if moved > 0.0 else -parts))
    if best < len(WINDOWS_S):
        number = round(math.expm1(float(row[best])))
        named = scope if number != 1 else scope.replace("incidents", "incident", 1)
        return f"{number or 'no'} {named} in the last {_span(WINDOWS_S[best])}"
    age_s = (FORGOTTEN_S + 600.0) / math.exp(float(row[best])) - 600.0
    if age_s >= FORGOTTEN_S * 0.99:
        return f"{scope} not for a month"
    number = RECENT[best - len(WINDOWS_S)]
    if number == 1:
        return f"the last {scope.replace('incidents', 'incident', 1)} began {_age(age_s)} ago"
    return f"the last {number} {scope} began within {_age(age_s)}"


def _open(logarithm: float) -> str:
    number = round(math.expm1(logarithm))
    return "none is open" if number == 0 else "1 is open" if number == 1 else f"{number} are open"


def _span(seconds: float) -> str:
    """Return "hour", "4 hours", "15 minutes": what stands after "the last"."""
    for size, unit in _UNITS:
        if seconds >= size * 0.99:
            number = round(seconds / size)
            return unit if number == 1 else f"{number} {unit}s"
    return "minute"


def _age(seconds: float) -> str:
    """Return "1 hour", "4 hours", "15 minutes"."""
    text = _span(seconds)
    return text if text[0].isdigit() else f"1 {text}"


_HASHED = {"entity": "what was hit", "severity": "how severe it was", "text": "what it said"}
