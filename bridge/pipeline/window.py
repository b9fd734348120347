"""The window: the alerts of the last quarter of an hour as columns, and in which incident each of them is.

Rules: it is derived from the episodes in memory, their texts, the topology and the linker in force; whenever one of
those changes for more than the newest alert, it is stale and built anew at its next use, as after a restart. What it
answers does not depend on the order in which alerts of one moment came: where they are too many, their marks say
which of them stay.

Decision: rows that are forgotten lie before the first one for a while and are moved out of the way together. In a
storm every alert pushes another out of the window, and moving two thousand rows up for one costs as much as deciding
where it belongs.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from bridge.analysis.entities import tokens_of
from bridge.analysis.incidents import EpisodeKey
from bridge.analysis.learning import Judge
from bridge.analysis.pairs import WINDOW_S, Columns, Ints, Rows, Traits, begun_s, traits_of
from bridge.analysis.topology import Topology
from bridge.model import Episode

#: Alerts that are remembered: more in a quarter of an hour are a storm, and the newest speak for it.
MAX_ROWS = 2000
MAX_PARTNERS = 400  # that one alert is compared with
MAX_INCIDENTS = 4000  # whose names are remembered
MAX_NAMES = 200_000  # that the columns remember
FORGOTTEN = 500  # rows that are moved out of the way together
#: Further apart, s, than any two alerts of a window, and a power of two: it is added without rounding.
FAR_APART_S = 4096.0
NOBODY = -1
NO_ROWS = np.zeros(0, np.int64)
#: Says of each of some incidents, by their ids, whether it takes alerts in.
Takes = Callable[[Sequence[str]], Sequence[bool]]


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
        self._keys: list[EpisodeKey] = []
        self._seen_s: list[float] = []
        self._first = 0  # row that is not forgotten
        self._dropped = 0
        self._traits: tuple[Mapping[str, str], Traits] | None = None  # of the alert that was compared last
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
        return len(self._keys) - self._first

    @property
    def keys(self) -> list[EpisodeKey]:
        """The alerts that are here, in the order of their rows."""
        return self._keys[self._first :]

    def homes(self) -> dict[EpisodeKey, str]:
        """Return in which incident each alert is that is here."""
        return {self._keys[row]: self.incident_of(row) for row in range(self._first, len(self._keys))}

    def key_of(self, row: int) -> EpisodeKey:
        """Return which alert a row is."""
        return self._keys[row]

    def add(self, episode: Episode, incident: str) -> int:
        """Add the newest alert and return its row."""
        row = self.try_out(episode)
        self._row_of[self._keys[row]] = self._dropped + row
        self._incident[row] = self._number(incident)
        self._numbers[row] = self._added
        self._added += 1
        return row

    def try_out(self, episode: Episode) -> int:
        """Add an alert that is in no incident yet, and return its row. Next of all `remove_newest` must come."""
        traits = self._traits_of(episode)
        row = self.columns.add(traits, self.judge.families.get(traits.family, NOBODY))
        key = (episode.source, episode.fingerprint, episode.starts_at)
        self._keys.append(key)
        self._seen_s.append(episode.seen_at.timestamp())
        if row >= len(self._incident):
            self._incident, self._marks, self._numbers = (
                np.concatenate([column, np.zeros_like(column)]) for column in self._all()
            )
        self._marks[row] = mark_of(key)
        self._incident[row] = NOBODY
        return row

    def _traits_of(self, episode: Episode) -> Traits:
        """Return what is compared of an alert; it is tried out first and added next, as the same."""
        at_s = begun_s(episode.starts_at, episode.seen_at)
        if self._traits is not None and self._traits[0] is episode.labels:
            known = self._traits[1]
            if known.template == episode.template:
                return known if known.at_s == at_s else known._replace(at_s=at_s)
        traits = traits_of(
            episode.labels, tokens_of(episode.labels), at_s=at_s, template=episode.template,
            family=self._family_of(episode.template), topology=self.topology, rarity=self.judge.rarity,
        )  # fmt: skip
        self._traits = (episode.labels, traits)
        return traits

    def _all(self) -> tuple[Ints, Ints, Ints]:
        return (self._incident, self._marks, self._numbers)

    def remove_newest(self) -> None:
        """Take back the last `try_out`."""
        self._keys.pop()
        self._seen_s.pop()
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
        """Forget what is older than the window, and of a storm what is oldest. Not after `try_out`."""
        seen_s = self._seen_s
        first = bisect_left(seen_s, now.timestamp() - WINDOW_S, self._first)
        surplus = len(seen_s) - first - MAX_ROWS
        if surplus > 0:
            first += surplus
            self._smallest_first(first, seen_s[first - 1])
        if first > self._first:
            for key in self._keys[self._first : first]:
                del self._row_of[key]
            for number in self._numbers[self._first : first].tolist():
                self._weighed.pop(number, None)
            self._first = first
            if first >= FORGOTTEN:
                self._move_up()

    def _move_up(self) -> None:
        """Let the first row be the first one that is not forgotten."""
        rows, left = self._first, len(self._keys) - self._first
        self._first = 0
        self._dropped += rows
        self.columns.drop(rows)
        for column in self._all():
            column[:left] = column[rows : rows + left].copy()
        del self._keys[:rows], self._seen_s[:rows]
        numbers, places = np.unique(self._incident[:left], return_inverse=True)
        self._incident[:left] = places
        self._incidents = [self._incidents[number] for number in numbers.tolist()]
        self._number_of = {incident: number for number, incident in enumerate(self._incidents)}

    def _smallest_first(self, rows: int, moment_s: float) -> None:
        """Let those that go, of the moment in which the rows before `rows` end, be those with the smallest marks."""
        begin = bisect_left(self._seen_s, moment_s, self._first)
        end = bisect_right(self._seen_s, moment_s, self._first)
        for row in range(begin, rows) if end > rows else ():
            self._swap(row, row + int(np.argmin(self._marks[row:end])))

    def _swap(self, one: int, other: int) -> None:
        if one == other:
            return
        self.columns.swap(one, other)
        for column in self._all():
            column[[one, other]] = column[[other, one]]
        keys = self._keys
        keys[one], keys[other] = keys[other], keys[one]
        for row in (one, other):
            self._row_of[keys[row]] = self._dropped + row

    # ---- what is asked -------------------------------------------------------------------------------------

    def rows_in(self, takes: Takes) -> Ints:
        """Return the rows of incidents that `takes` says yes to, in the order of the rows."""
        incident = self._incident[self._first : len(self._keys)]
        rows = np.flatnonzero(incident >= 0)
        numbers = incident[rows]
        taken: Ints = self._first + rows[self._said(numbers, takes)[numbers]]
        return taken

    def _said(self, numbers: Ints, takes: Takes) -> NDArray[np.bool_]:
        """Return by number what `takes` says of these incidents, no for all others."""
        said = np.zeros(len(self._incidents), np.bool_)
        asked = np.flatnonzero(np.bincount(numbers))
        said[asked] = takes([self._incidents[number] for number in asked.tolist()])
        return said

    def in_order(self, rows: Ints) -> Ints:
        """Return rows by when they began."""
        ordered: Ints = rows[np.lexsort((self._marks[rows], self.columns.at_s[rows]))]
        return ordered

    def partners(self, row: int, takes: Takes) -> Ints:
        """Return which rows the newest alert is compared with, of incidents that `takes` says yes to.

        Those near it go first, then those that began last.
        """
        first = self._first
        if row - first <= MAX_PARTNERS:
            return self.rows_in(takes)
        near = self.columns.nearness(slice(first, row), row)
        rows = self._nearest(np.arange(first, row), near)
        numbers = self._incident[rows]
        if self._said(numbers, takes)[numbers].all():
            return rows  # as nearly always: hundreds of incidents need not be asked
        rows = self.rows_in(takes)
        return rows if len(rows) <= MAX_PARTNERS else self._nearest(rows, near[rows - first])

    def _nearest(self, rows: Ints, near: Ints) -> Ints:
        """Return the `MAX_PARTNERS` rows to compare with, of more; of one moment those with the smallest marks."""
        at_s = self.columns.at_s[rows]
        place = near * FAR_APART_S + (at_s - at_s.min())
        least = np.partition(place, -MAX_PARTNERS)[-MAX_PARTNERS]
        chosen = place > least
        equal = np.flatnonzero(place == least)
        missing = MAX_PARTNERS - int(np.count_nonzero(chosen))
        chosen[equal[np.argsort(self._marks[rows[equal]], kind="stable")[:missing]]] = True
        nearest: Ints = rows[chosen]
        return nearest

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

    def incident_numbers(self, rows: Ints) -> Ints:
        """Return for rows that are in incidents a number for each of these; it means nothing beyond this window."""
        return self._incident[rows]

    def incident_of(self, row: int) -> str:
        """Return the incident of a row that is in one."""
        return self._incidents[int(self._incident[row])]

    def logits(self, one: Ints, other: Ints | int) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Return the log odds that the pairs share a cause, and their features; `other` may be one row of all."""
        at_s = self.columns.at_s
        marks = self._marks
        turned = (at_s[one] > at_s[other]) | ((at_s[one] == at_s[other]) & (marks[one] > marks[other]))
        earlier: Ints = one
        later: Rows = other
        if turned.any():
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
) -> Window:
    """Fill an empty window with the episodes of the last quarter of an hour and their incidents; return it."""
    since_s = now.timestamp() - WINDOW_S
    lately = [each for each in episodes if each[0].seen_at.timestamp() >= since_s]
    lately.sort(key=_place)
    for episode, incident in lately[-MAX_ROWS:]:
        window.add(episode, incident)
    return window


def _place(each: tuple[Episode, str]) -> tuple[datetime, int]:
    episode = each[0]
    return (episode.seen_at, mark_of((episode.source, episode.fingerprint, episode.starts_at)))
