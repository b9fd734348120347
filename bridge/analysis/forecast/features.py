"""What is known at an origin: counts, recencies, what is open, what it is about, and the calendar.

Rules: a row looks at nothing after its origin. Counts come from binary searches in ascending times, so that a million
events cost hardly more per origin than a hundred. The order of the columns is that of `kinds_of`; `reasons` has words
for each.

Decision: entities, severities and words are hashed into a few columns each. A vocabulary would have to be learned,
stored and forgotten, and most of it would be seen too rarely to learn a weight for.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from bridge.analysis.forecast.occurrences import (
    ENTITY_BUCKETS,
    SEVERITY_BUCKETS,
    TEXT_BUCKETS,
    Floats,
    Ints,
    Occurrences,
    counted,
)

HOUR_S, DAY_S = 3600.0, 86_400.0
WINDOWS_S = (900.0, HOUR_S, 4 * HOUR_S, 12 * HOUR_S, DAY_S, 3 * DAY_S, 7 * DAY_S)
RECENT = (1, 2, 4)  # the last event, the last but one, ...
ENDED_S = (HOUR_S, 4 * HOUR_S, DAY_S)
#: With the last event's recency and what is open, what a model of few features goes by.
FEW_S = (DAY_S, 7 * DAY_S)
CALENDAR = 9
SATURDAY = 5
SIZES = {"entity": ENTITY_BUCKETS, "severity": SEVERITY_BUCKETS, "text": TEXT_BUCKETS}
FORGOTTEN_S = 30 * DAY_S  # nothing is longer ago than that
HASHED = (("entity", 7 * DAY_S), ("entity", DAY_S), ("severity", DAY_S), ("text", DAY_S))

Rows = NDArray[np.float32]


def kinds_of(scopes: int) -> list[str]:
    """Return of each column whether it is one of the `few`, else `recent`, `calendar` or `hashed`."""
    counts = ["few" if window in FEW_S else "recent" for window in WINDOWS_S]
    recencies = ["few" if number == 1 else "recent" for number in RECENT]
    hashed = sum(SIZES[kind] for kind, _ in HASHED)
    return [
        *((counts + recencies) * scopes), *["recent"] * len(ENDED_S), "few", *["calendar"] * CALENDAR,
        *["hashed"] * hashed,
    ]  # fmt: skip


def features(origins: Floats, own: Occurrences, every: Occurrences | None = None) -> Rows:
    """Return one row of columns, as `kinds_of` has them, per origin.

    Args:
        origins: Epoch s, ascending.
        own: Events of the target.
        every: All events, where the target is not all of them.
    """
    context = own if every is None else every
    parts: list[NDArray[np.floating]] = []
    for events in (own,) if every is None else (own, every):
        parts += [np.log1p(events.begun(origins - window, origins)) for window in WINDOWS_S]
        parts += list(_recencies(origins, events))
    parts += [np.log1p(context.ended(origins - window, origins)) for window in ENDED_S]
    parts.append(np.log1p(context.open_since(origins - DAY_S, origins)))
    parts += list(_calendar(origins))
    for kind, window in HASHED:
        parts += [np.log1p(counted(times, origins - window, origins)) for times in context.times_of(kind)]
    return np.column_stack(parts).astype(np.float32)


def _recencies(origins: Floats, events: Occurrences) -> Iterator[Floats]:
    """Yield how recent the last events are: 0 for never, more for sooner."""
    before: Ints = np.searchsorted(events.starts, origins, "right")
    for number in RECENT:
        age_s = np.full(len(origins), FORGOTTEN_S)
        known = before >= number
        age_s[known] = origins[known] - events.starts[before[known] - number]
        yield np.log((FORGOTTEN_S + 600.0) / (np.minimum(age_s, FORGOTTEN_S) + 600.0))


def _calendar(origins: Floats) -> Iterator[Floats]:
    day = origins / DAY_S
    weekday = np.floor(day + 3) % 7  # 0 is Monday
    for order in (1, 2):
        yield np.sin(2 * np.pi * order * day)
        yield np.cos(2 * np.pi * order * day)
    week = (day + 3) / 7
    for order in (1, 2):
        yield np.sin(2 * np.pi * order * week)
        yield np.cos(2 * np.pi * order * week)
    yield (weekday >= SATURDAY).astype(np.float64)
