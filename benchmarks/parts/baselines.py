"""What grouping must beat: each rule that people use today, with its parameter chosen on what is not reported.

All work on items in order of their start (see `streams`), know nothing of the truth, and give each item a group.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from benchmarks.parts.metrics import Agreement, Touching, agreement, touching
from benchmarks.parts.streams import GROUP_INTERVAL_S, Firing

Groups = list[Hashable]
Encode = Callable[[Sequence[str]], Sequence[bytes]]

GAPS_S = (1, 2, 3, 5, 7, 10, 15, 20, 30, 45, 60, 90, 120, 180, 240, 300, 420, 600, 900)
WINDOWS_S = (30, 60, 90, 120, 150, 180, 240, 300, 420, 600, 900, 1800)
TEXT_WINDOWS_S = (900, 3600)
TEXT_SIZES = (2, 3, 5)

_NUMBER = re.compile(r"(?<![\w.-])\d[\d.,]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A baseline with the parameter that was best on the training part."""

    groups: Groups  # of the reported items
    how: str


def alertmanager(items: Sequence[Firing], names: Sequence[str]) -> Groups:
    """Return Alertmanager's own groups: equal labels, for as long as anything in the group fires."""
    until: dict[Hashable, datetime] = {}
    number: dict[Hashable, int] = {}
    groups: Groups = []
    for item in items:
        key = tuple(item.labels.get(name, "") for name in names)
        if key not in until or item.starts_at > until[key] + timedelta(seconds=GROUP_INTERVAL_S):
            number[key] = number.get(key, 0) + 1
        until[key] = max(item.ends_at, until.get(key, item.ends_at))
        groups.append((key, number[key]))
    return groups


def time_gap(items: Sequence[Firing], gap_s: float) -> Groups:
    """Return sessions per cluster: a new one after `gap_s` without a new alert."""
    last: dict[str, datetime] = {}
    number: dict[str, int] = {}
    groups: Groups = []
    for item in items:
        cluster = item.labels.get("cluster", "")
        if cluster not in last or item.starts_at - last[cluster] > timedelta(seconds=gap_s):
            number[cluster] = number.get(cluster, 0) + 1
        last[cluster] = item.starts_at
        groups.append((cluster, number[cluster]))
    return groups


def fixed_window(items: Sequence[Firing], window_s: float, origin_s: float = 0.0) -> Groups:
    """Return windows per cluster, counted from `origin_s` (epoch)."""
    return [
        (item.labels.get("cluster", ""), (item.starts_at.timestamp() - origin_s) // window_s)
        for item in items
    ]


def text_clusters(items: Sequence[Firing], encode: Encode, window_s: float, least: int) -> Groups:
    """Return HDBSCAN's clusters of the texts of one window; what it calls noise stands alone.

    Texts keep the names of things and lose their numbers.
    """
    import numpy as np  # noqa: PLC0415 - other baselines do without
    from hdbscan import HDBSCAN  # noqa: PLC0415

    windows: dict[float, list[int]] = {}
    for place, item in enumerate(items):
        windows.setdefault(item.starts_at.timestamp() // window_s, []).append(place)
    groups: Groups = [("alone", place) for place in range(len(items))]
    for window, places in sorted(windows.items()):
        if len(places) <= least + 1:
            continue
        vectors = encode([text_of(items[place]) for place in places])
        points = np.stack([np.frombuffer(vector, "<f2") for vector in vectors]).astype(np.float64)
        found = HDBSCAN(min_cluster_size=least, min_samples=least, core_dist_n_jobs=1).fit_predict(points)
        for place, label in zip(places, found.tolist(), strict=True):
            if label >= 0:
                groups[place] = (window, label)
    return groups


def text_of(item: Firing) -> str:
    """Return what an alert says, without its numbers."""
    said = [
        item.labels["alertname"],
        *(item.annotations.get(name, "") for name in ("summary", "description")),
    ]
    return _NUMBER.sub("0", ": ".join(text for text in said if text))


def chosen(
    training: Sequence[Firing],
    reported: Sequence[Firing],
    tries: Iterable[tuple[str, Callable[[Sequence[Firing]], Groups]]],
    by: str,
    judge: Callable[[Sequence[Firing], Groups], Agreement | Touching] | None = None,
) -> Choice:
    """Return the groups of the reported items by whichever of `tries` has the best figure `by` on the training items.

    Of equals the first is taken. `judge` makes the figures: `judged` if None.
    """
    best: tuple[float, str, Callable[[Sequence[Firing]], Groups]] | None = None
    for name, group in tries:
        figure = getattr((judge or judged)(training, group(training)), by)
        if best is None or figure > best[0]:
            best = (figure, name, group)
    assert best is not None
    return Choice(groups=best[2](reported), how=f"{best[1]} ({by} {best[0]:.3f} on the training part)")


def judged(items: Sequence[Firing], groups: Groups) -> Agreement:
    """Return how groups agree with the truth of the items."""
    return agreement([item.incident for item in items], groups)


def judged_attack(items: Sequence[Firing], groups: Groups) -> Touching:
    """Return how groups agree with the truth where only what is no noise is known."""
    return touching(
        [item.incident for item in items], groups, {item.incident for item in items if not item.noise}
    )
