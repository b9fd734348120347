"""The window: the alerts of the last quarter of an hour as columns, and in which incident each of them is.

Rules: it is derived from the episodes in memory, their texts, the topology and the linker in force; whenever one of
those changes for more than the newest alert, it is stale and built anew at its next use, as after a restart. What it
answers does not depend on the order in which alerts of one moment came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from zlib import crc32

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
        self._marks = np.zeros(256, np.int64)  # of equal rows the smaller goes first
        self._weighed: dict[
            int, tuple[Ints, Ints]
        ] = {}  # row, counted from the first ever -> partners and weights

    def __len__(self) -> int:
        return len(self.keys)

    def add(self, episode: Episode, incident: str | None = None, area: str = "") -> int:
        """Add the newest alert and return its row; it is in no incident yet unless one is named."""
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
        self._row_of[key] = self._dropped + row
        if row >= len(self._incident):
            self._incident = np.concatenate([self._incident, np.full(len(self._incident), NOBODY)])
            self._marks = np.concatenate([self._marks, np.zeros(len(self._marks), np.int64)])
        self._marks[row] = crc32("\0".join((*key[:2], key[2].isoformat())).encode())
        self._incident[row] = NOBODY if incident is None else self._number(incident)
        return row

    def remove_newest(self) -> None:
        """Take back the last `add`."""
        key = self.keys.pop()
        self._seen_s.pop()
        self._areas.pop()
        del self._row_of[key]
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
        """Forget what is older than the window, and of a storm what is oldest; alerts of one moment go together."""
        since_s = now.timestamp() - WINDOW_S
        rows = 0
        while rows < len(self._seen_s) and (
            self._seen_s[rows] < since_s
            or (len(self._seen_s) - rows > MAX_ROWS and self._seen_s[rows] < self._seen_s[-1])
        ):
            rows += 1
        while 0 < rows < len(self._seen_s) and self._seen_s[rows] == self._seen_s[rows - 1]:
            rows += 1
        if rows:
            for key in self.keys[:rows]:
                if self._row_of[key] < self._dropped + rows:
                    del self._row_of[key]
            for row in range(self._dropped, self._dropped + rows):
                self._weighed.pop(row, None)
            self._dropped += rows
            self.columns.drop(rows)
            left = len(self.keys) - rows
            for column in (self._incident, self._marks):
                column[:left] = column[rows : len(self.keys)].copy()
            del self.keys[:rows], self._seen_s[:rows], self._areas[:rows]

    # ---- what is asked -------------------------------------------------------------------------------------

    def rows_in(self, takes: Callable[[str], bool]) -> Ints:
        """Return the rows of incidents that `takes` says yes to, in no order that means anything."""
        incident = self._incident[: len(self.keys)]
        taken = [
            number
            for number in np.unique(incident).tolist()
            if number >= 0 and takes(self._incidents[number])
        ]
        rows: Ints = np.flatnonzero(np.isin(incident, taken))
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

        `rows` are in order. A pair is weighed once, when the newer of the two is first asked about; what it weighs
        depends on nothing that changes while this window lives.
        """
        ever = rows + self._dropped
        fresh = np.array(
            [place for place, row in enumerate(ever.tolist()) if row not in self._weighed], np.int64
        )
        is_fresh = np.zeros(len(rows), np.bool_)
        is_fresh[fresh] = True
        places = np.arange(len(rows))
        one = np.repeat(fresh, len(rows))
        other = np.tile(places, len(fresh))
        wanted = (other < one) | ((other != one) & ~is_fresh[other])
        one, other = one[wanted], other[wanted]
        if len(one):
            weights = weigh(rows[one], rows[other])
            ends = np.searchsorted(one, fresh, "right")
            begins = np.searchsorted(one, fresh, "left")
            for place, begin, end in zip(fresh.tolist(), begins, ends, strict=True):
                self._weighed[int(ever[place])] = (ever[other[begin:end]], weights[begin:end])
        return self._known_links(ever)

    def _known_links(self, ever: Ints) -> tuple[Ints, Ints, Ints]:
        place_of = np.full(len(self.keys), NOBODY)
        place_of[ever - self._dropped] = np.arange(len(ever))
        parts: list[tuple[Ints, Ints, Ints]] = []
        for place, row in enumerate(ever.tolist()):
            partners, weights = self._weighed.get(row, (NO_ROWS, NO_ROWS))
            here = partners >= self._dropped
            places = place_of[partners[here] - self._dropped]
            among = places >= 0
            found = places[among]
            parts.append((np.minimum(found, place), np.maximum(found, place), weights[here][among]))
        if not parts:
            return NO_ROWS, NO_ROWS, NO_ROWS
        one, other, weight = (np.concatenate(each) for each in zip(*parts, strict=True))
        return one, other, weight

    @property
    def incidents(self) -> int:
        """How many incidents the window has ever heard of."""
        return len(self._incidents)

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


def built(
    window: Window,
    episodes: Iterable[tuple[Episode, str]],
    now: datetime,
    area_of: Callable[[Mapping[str, str]], str],
) -> Window:
    """Fill an empty window with the episodes of the last quarter of an hour and their incidents; return it."""
    since_s = now.timestamp() - WINDOW_S
    lately = [each for each in episodes if each[0].seen_at.timestamp() >= since_s]
    lately.sort(key=lambda each: (each[0].seen_at, each[0].source, each[0].fingerprint, each[0].starts_at))
    for episode, incident in lately:
        window.add(episode, incident, area_of(episode.labels))
    window.prune(now)
    return window
