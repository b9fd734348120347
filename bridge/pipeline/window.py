"""The window: the alerts of the last quarter of an hour as columns, and in which incident each of them is.

Rules: it is derived from the episodes in memory, their texts, the topology and the linker in force; whenever one of
those changes for more than the newest alert, it is stale and built anew at its next use, as after a restart. What it
answers does not depend on the order in which alerts of one moment came: where they are too many, their marks say
which of them stay.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from bridge.analysis.entities import tokens_of
from bridge.analysis.incidents import EpisodeKey
from bridge.analysis.learning import Judge
from bridge.analysis.pairs import WINDOW_S, Columns, Ints, begun_s, traits_of
from bridge.analysis.topology import Topology
from bridge.model import Episode

#: Alerts that are remembered: more in a quarter of an hour are a storm, and the newest speak for it.
MAX_ROWS = 2000
MAX_PARTNERS = 400  # that one alert is compared with
MAX_INCIDENTS = 4000  # whose names are remembered
MAX_NAMES = 200_000  # that the columns remember
NOBODY = -1
NO_ROWS = np.zeros(0, np.int64)


class Window:
    """One tenant's window."""

    def __init__(
        self, judge: Judge, topology: Topology, likeness: Callable[[str, str], float | None],
        family_of: Callable[[str], str],
    ) -> None:  # fmt: skip
        """Begin empty; `family_of(template)` is as families are named now."""
        self.judge = judge
        self.topology = topology
        self._family_of = family_of
        self.columns = Columns(topology, likeness)
        self.keys: list[EpisodeKey] = []
        self._seen_s: list[float] = []
        self._areas: list[str] = []
        self._dropped = 0
        self._row_of: dict[EpisodeKey, int] = {}  # counted from the first row ever
        self._incidents: list[str] = []
        self._number_of: dict[str, int] = {}
        self._incident = np.full(256, NOBODY)
        self._marks = np.zeros(256, np.int64)  # of rows of one moment the smaller goes first
        self._numbers = np.zeros(256, np.int64)  # of rows, counted from the first ever
        self._added = 0
        self._weighed: dict[
            int, tuple[Ints, Ints]
        ] = {}  # by a row's number: those of its partners, and weights

    def __len__(self) -> int:
        return len(self.keys)

    def add(self, episode: Episode, incident: str, area: str = "") -> int:
        """Add the newest alert and return its row."""
        row = self.try_out(episode, area)
        self._row_of[self.keys[row]] = self._dropped + row
        self._incident[row] = self._number(incident)
        self._numbers[row] = self._added
        self._added += 1
        return row

    def try_out(self, episode: Episode, area: str = "") -> int:
        """Add an alert that is in no incident yet, and return its row. Next of all `remove_newest` must come."""
        at_s = begun_s(episode.starts_at, episode.seen_at)
        family = self._family_of(episode.template)
        traits = traits_of(
            episode.labels, tokens_of(episode.labels), at_s=at_s, template=episode.template, family=family,
            topology=self.topology, rarity=self.judge.rarity,
        )  # fmt: skip
        row = self.columns.add(traits, self.judge.families.get(family, NOBODY))
        key = (episode.source, episode.fingerprint, episode.starts_at)
        self.keys.append(key)
        self._seen_s.append(episode.seen_at.timestamp())
        self._areas.append(area)
        if row >= len(self._incident):
            self._incident = np.concatenate([self._incident, np.full(len(self._incident), NOBODY)])
            self._marks = np.concatenate([self._marks, np.zeros_like(self._marks)])
            self._numbers = np.concatenate([self._numbers, np.zeros_like(self._numbers)])
        self._marks[row] = mark_of(key)
        self._incident[row] = NOBODY
        return row

    def remove_newest(self) -> None:
        """Take back the last `try_out`."""
        self.keys.pop()
        self._seen_s.pop()
        self._areas.pop()
        self.columns.number -= 1

    def place(self, key: EpisodeKey, incident: str) -> None:
        """Note in which incident an alert is now; does nothing for one that is not here."""
        row = self._row_of.get(key)
        if row is not None:
            self._incident[row - self._dropped] = self._number(incident)

    def holds(self, key: EpisodeKey) -> bool:
        """Say whether an alert is here."""
        return key in self._row_of

    def _number(self, incident: str) -> int:
        number = self._number_of.setdefault(incident, len(self._incidents))
        if number == len(self._incidents):
            self._incidents.append(incident)
        return number

    def prune(self, now: datetime) -> None:
        """Forget what is older than the window, and of a storm what is oldest."""
        seen_s = self._seen_s
        rows = bisect_left(seen_s, now.timestamp() - WINDOW_S)
        surplus = len(seen_s) - rows - MAX_ROWS
        if surplus > 0:
            rows += surplus
            self._smallest_first(rows, seen_s[rows - 1])
        if rows:
            for key in self.keys[:rows]:
                del self._row_of[key]
            for number in self._numbers[:rows].tolist():
                self._weighed.pop(number, None)
            self._dropped += rows
            self.columns.drop(rows)
            left = len(self.keys) - rows
            for column in (self._incident, self._marks, self._numbers):
                column[:left] = column[rows : len(self.keys)].copy()
            del self.keys[:rows], self._seen_s[:rows], self._areas[:rows]

    def _smallest_first(self, rows: int, moment_s: float) -> None:
        """Let those that go, of the moment in which the first `rows` end, be the ones with the smallest marks."""
        begin, end = bisect_left(self._seen_s, moment_s), bisect_right(self._seen_s, moment_s)
        for row in range(begin, rows) if end > rows else ():
            self._swap(row, row + int(np.argmin(self._marks[row:end])))

    def _swap(self, one: int, other: int) -> None:
        self.columns.swap(one, other)
        for column in (self._incident, self._marks, self._numbers):
            column[[one, other]] = column[[other, one]]
        keys, areas = self.keys, self._areas
        keys[one], keys[other] = keys[other], keys[one]
        areas[one], areas[other] = areas[other], areas[one]
        for row in (one, other):
            self._row_of[keys[row]] = self._dropped + row

    # ---- what is asked -------------------------------------------------------------------------------------

    def rows_in(self, takes: Callable[[str], bool]) -> Ints:
        """Return the rows of incidents that `takes` says yes to, in no order that means anything."""
        incident = self._incident[: len(self.keys)]
        said = np.zeros(len(self._incidents) + 1, np.bool_)  # the last is nobody's
        for number in np.unique(incident).tolist():
            said[number] = number >= 0 and takes(self._incidents[number])
        rows: Ints = np.flatnonzero(said[incident])
        return rows

    def in_order(self, rows: Ints) -> Ints:
        """Return rows by when they began."""
        ordered: Ints = rows[np.lexsort((self._marks[rows], self.columns.at_s[rows]))]
        return ordered

    def partners(self, rows: Ints, row: int) -> Ints:
        """Return which rows an alert is compared with: those near it first, then the newest."""
        if len(rows) <= MAX_PARTNERS:
            return rows
        near = self.columns.nearness(rows, np.full(len(rows), row))
        ranked = np.lexsort((self._marks[rows], -self.columns.at_s[rows], -near))
        chosen: Ints = rows[ranked[:MAX_PARTNERS]]
        return chosen

    def links(self, rows: Ints, weigh: Callable[[Ints, Ints], Ints]) -> tuple[Ints, Ints, Ints]:
        """Return what the pairs of these rows weigh, as places in `rows`: (one, other, weight), one before other.

        `rows` are in order. A pair is weighed once, when it is first asked about; what it weighs depends on nothing
        that changes while this window lives.
        """
        numbers = self._numbers[rows]
        one, other, weights = self._known_links(numbers)
        known = np.tri(len(rows), dtype=np.bool_)
        known[one, other] = True
        later, earlier = np.nonzero(~known.T)
        if not len(later):
            return one, other, weights
        fresh = weigh(rows[earlier], rows[later])
        for place in np.unique(later).tolist():
            mine = slice(*np.searchsorted(later, [place, place + 1]).tolist())
            partners, before = self._weighed.get(int(numbers[place]), (NO_ROWS, NO_ROWS))
            self._weighed[int(numbers[place])] = (
                np.concatenate([partners, numbers[earlier[mine]]]), np.concatenate([before, fresh[mine]])
            )  # fmt: skip
        return (
            np.concatenate([one, earlier]), np.concatenate([other, later]), np.concatenate([weights, fresh])
        )  # fmt: skip

    def _known_links(self, numbers: Ints) -> tuple[Ints, Ints, Ints]:
        order = np.argsort(numbers)
        ascending = numbers[order]
        parts: list[tuple[Ints, Ints, Ints]] = [(NO_ROWS, NO_ROWS, NO_ROWS)]
        for place, number in enumerate(numbers.tolist()):
            partners, weights = self._weighed.get(number, (NO_ROWS, NO_ROWS))
            at = np.minimum(np.searchsorted(ascending, partners), len(ascending) - 1)
            here = ascending[at] == partners
            found = order[at[here]]
            parts.append((np.minimum(found, place), np.maximum(found, place), weights[here]))
        one, other, weight = (np.concatenate(each) for each in zip(*parts, strict=True))
        return one, other, weight

    @property
    def is_worn(self) -> bool:
        """Whether it remembers too much of what is not in it any more."""
        return len(self._incidents) > MAX_INCIDENTS or self.columns.remembered > MAX_NAMES

    def incidents_of(self, rows: Ints) -> tuple[list[str], Ints]:
        """Return the incidents of rows that are in some, each once, and for each row its place among them."""
        numbers, places = np.unique(self._incident[rows], return_inverse=True)
        return [self._incidents[number] for number in numbers.tolist()], places

    def incident_of(self, row: int) -> str:
        """Return the incident of a row that is in one."""
        return self._incidents[int(self._incident[row])]

    def area_of(self, row: int) -> str:
        """Return in which cluster the alert of a row is, "" if it does not say."""
        return self._areas[row]

    def logits(self, one: Ints, other: Ints) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Return the log odds that the pairs share a cause, and their features."""
        at_s = self.columns.at_s
        marks = self._marks
        turned = (at_s[one] > at_s[other]) | ((at_s[one] == at_s[other]) & (marks[one] > marks[other]))
        earlier, later = np.where(turned, other, one), np.where(turned, one, other)
        features = self.judge.features(self.columns, earlier, later)
        return self.judge.logits(features), features


def mark_of(key: EpisodeKey) -> int:
    """Return a number that says nothing, by which alerts of one moment are ordered."""
    digest = blake2b("\0".join((*key[:2], key[2].isoformat())).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def built(
    window: Window,
    episodes: Iterable[tuple[Episode, str]],
    now: datetime,
    area_of: Callable[[Mapping[str, str]], str],
) -> Window:
    """Fill an empty window with the episodes of the last quarter of an hour and their incidents; return it."""
    since_s = now.timestamp() - WINDOW_S
    lately = [each for each in episodes if each[0].seen_at.timestamp() >= since_s]
    lately.sort(key=_place)
    for episode, incident in lately[-MAX_ROWS:]:
        window.add(episode, incident, area_of(episode.labels))
    return window


def _place(each: tuple[Episode, str]) -> tuple[datetime, int]:
    episode = each[0]
    return (episode.seen_at, mark_of((episode.source, episode.fingerprint, episode.starts_at)))
