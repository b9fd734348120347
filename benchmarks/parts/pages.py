"""Who is called: pages per true incident, and criticals of which nobody was told.

A page is what a route `severity="critical"` to PagerDuty makes: an event that calls (opened, escalated, reopened) of an
incident whose severity is critical; events with one dedup key are one page. A true incident deserves a call if one of
its alerts is critical. It is *missed* if none of its critical episodes stands, in the end, in an incident that called.
A call belongs to the true incident whose critical alert was the newest in the incident that called.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.parts.played import Page, Played
from benchmarks.parts.streams import Firing, Stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """Counts of the reported part."""

    deserving: int  # true incidents with a critical alert
    pages: int  # different dedup keys
    missed: int
    again: int  # true incidents for which people were called more than once
    for_nothing: int  # calls of incidents without any critical alert that had begun


def called(stream: Stream, played: Played) -> Called:
    """Return who was called in the reported part."""
    reported = {firing.incident for firing in stream.items(reported=True)}
    critical = [firing for firing in stream.firings if firing.critical and firing.incident in reported]
    standing: dict[str, list[Firing]] = {}
    for firing in critical:
        standing.setdefault(played.incident_of(firing.key), []).append(firing)
    pages: dict[str, Page] = {}
    for page in played.pages:
        if page.at >= stream.split_at:
            pages.setdefault(page.dedup_key, page)
    told = {played.follow(page.incident) for page in played.pages}
    heard = {firing.incident for firing in critical if played.incident_of(firing.key) in told}
    times: Counter[str] = Counter()
    for page in pages.values():
        begun = [each for each in standing.get(played.follow(page.incident), ()) if each.starts_at <= page.at]
        times[max(begun, key=lambda each: (each.starts_at, each.fingerprint)).incident if begun else ""] += 1
    deserving = {firing.incident for firing in critical}
    return Called(
        deserving=len(deserving), pages=len(pages), missed=len(deserving - heard),
        again=sum(1 for name, number in times.items() if name and number > 1), for_nothing=times[""],
    )  # fmt: skip


def said(name: str, figures: Sequence[Called]) -> str:
    """Return what there is to say of one way of grouping, over all worlds."""
    total = {
        key: sum(getattr(each, key) for each in figures)
        for key in ("deserving", "pages", "missed", "again", "for_nothing")
    }
    ratio = total["pages"] / max(1, total["deserving"])
    return (
        f"{name}: {total['pages']} pages for {total['deserving']} true incidents with a critical alert = {ratio:.2f}"
        f" (at most 1.1); missed: {total['missed']} (must be 0); called more than once for {total['again']};"
        f" called for no critical alert of the reported part: {total['for_nothing']}"
    )
