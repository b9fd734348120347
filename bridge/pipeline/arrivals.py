"""Arrivals: how many alerts began when, cluster by cluster, which is all that grouping by bursts looks at.

Rules: alerts are counted by the second in which they began. What is asked concerns the last minutes, so older seconds
are let go, and so is what goes out of memory: the answers are the same whenever that happens and after a restart, which
counts the episodes in memory. Cost per alert does not grow with their number.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import accumulate, islice
from typing import NamedTuple

from bridge.analysis.bursts import AREA_LABEL, BEFORE_S, SILENCE_S, SURGE_S, is_surge
from bridge.analysis.incidents import EpisodeKey
from bridge.model import Episode

#: An alert that is told of later than that counts as if it had begun so long ago.
LATE_S = 300.0
#: So far back, and over so many alerts, it is looked for what was going on.
BACK_S, MOST_BACK = 300.0, 500
#: So long ago a question can reach.
KEPT_S = LATE_S + BACK_S + 2.0
#: How many seconds there may be before old ones are looked for.
MOST_SECONDS = 4 * int(KEPT_S)

Arrived = tuple[float, EpisodeKey]


class Surge(NamedTuple):
    """Ten seconds in which many more alerts began than the minute before would lead one to expect."""

    ends: int  # its last second
    recent: int  # how many began in it
    before: int  # in the `BEFORE_S` before it


class Arrivals:
    """The last minutes of one tenant."""

    def __init__(self) -> None:
        self._areas: dict[str, dict[int, list[Arrived]]] = {}  # each second in order
        self._seconds = 0
        self._most_seconds = MOST_SECONDS

    def add(self, episode: Episode) -> None:
        """Count an alert that is news. It is counted once, whatever becomes of it."""
        arrived = _arrived(episode)
        seconds = self._areas.setdefault(area_of(episode), {})
        second = int(arrived[0])
        if second not in seconds:
            seconds[second] = []
            self._seconds += 1
        insort(seconds[second], arrived)
        if self._seconds > self._most_seconds:
            self._prune(episode.seen_at)

    def remove(self, episode: Episode) -> None:
        """Let go of an alert that goes out of memory."""
        arrived, area = _arrived(episode), area_of(episode)
        seconds, second = self._areas.get(area, {}), int(arrived[0])
        here = seconds.get(second, [])
        place = bisect_left(here, arrived)
        if here[place : place + 1] != [arrived]:
            return  # its second was let go before
        del here[place]
        if not here:
            del seconds[second]
            self._seconds -= 1
        if not seconds:
            del self._areas[area]

    def __len__(self) -> int:
        """How many alerts are remembered."""
        return sum(len(arrived) for seconds in self._areas.values() for arrived in seconds.values())

    def _prune(self, now: datetime) -> None:
        since = math.floor(now.timestamp() - KEPT_S)
        for area, seconds in list(self._areas.items()):
            kept = {second: arrived for second, arrived in seconds.items() if second >= since}
            if kept:
                self._areas[area] = kept
            else:
                del self._areas[area]
        self._seconds = sum(map(len, self._areas.values()))
        self._most_seconds = max(MOST_SECONDS, 2 * self._seconds)  # many clusters: not again at each alert

    def surge_of(self, episode: Episode) -> Surge | None:
        """Return the first surge that an alert which is not counted yet is part of, or makes one by coming.

        What began after it may have been told of before it, so all windows that it lies in are looked at.
        """
        seconds, second = self._areas.get(area_of(episode), {}), int(arrived_s(episode))
        recent_s, whole_s = int(SURGE_S), int(SURGE_S + BEFORE_S)
        later = [second + ahead for ahead in range(1, recent_s) if second + ahead in seconds]
        first, last = second - whole_s + 1, max(later, default=second)
        sums = [0, *accumulate(len(seconds.get(each, ())) for each in range(first, last + 1))]
        for ends in (second, *later):
            place = ends - first + 1  # of the sum up to and with that second
            recent = sums[place] - sums[place - recent_s] + 1
            before = sums[place - recent_s] - sums[place - whole_s]
            if is_surge(recent, before):
                return Surge(ends, recent, before)
        return None

    def back_from(self, episode: Episode, since: int | None = None) -> Iterator[Arrived]:
        """Yield what came before an alert in its cluster, the newest first, back to the last silence.

        At most `BACK_S` back, and `MOST_BACK` alerts. `since`: begin with this second in place of the alert's own.
        """
        seconds = self._areas.get(area_of(episode), {})
        begin = int(arrived_s(episode)) if since is None else since
        second, found = begin, 0
        for now in range(begin, begin - int(BACK_S), -1):
            if now in seconds:
                second = now
                for arrived in reversed(seconds[now]):
                    found += 1
                    if found > MOST_BACK:
                        return
                    yield arrived
            if second - now >= SILENCE_S:
                return

    def fellows(self, episode: Episode, surge: Surge) -> list[EpisodeKey]:
        """Return the alerts that began in a surge in the cluster of an alert, in order."""
        seconds, first = self._areas.get(area_of(episode), {}), surge.ends - int(SURGE_S) + 1
        return [key for each in range(first, surge.ends + 1) for _, key in seconds.get(each, ())]

    def since(self, episode: Episode, surge: Surge) -> list[EpisodeKey]:
        """Return what began after a surge in the cluster of an alert, in order; at most `MOST_BACK` alerts."""
        seconds, until = self._areas.get(area_of(episode), {}), math.ceil(episode.seen_at.timestamp())
        later = (key for each in range(surge.ends + 1, until + 1) for _, key in seconds.get(each, ()))
        return list(islice(later, MOST_BACK))


def arrived_s(episode: Episode) -> float:
    """Return when an alert began, epoch s, as far as its sender can be believed."""
    seen_s = episode.seen_at.timestamp()
    return max(min(episode.starts_at.timestamp(), seen_s), seen_s - LATE_S)


def _arrived(episode: Episode) -> Arrived:
    return arrived_s(episode), (episode.source, episode.fingerprint, episode.starts_at)


def area_of(episode: Episode) -> str:
    """Return in which cluster an alert is, "" if it does not say: what happens in one is no surge in another."""
    return episode.labels.get(AREA_LABEL, "")


def counted(episodes: Iterable[Episode], now: datetime) -> Arrivals:
    """Return the arrivals of these episodes, as far as they can matter from now on."""
    arrivals = Arrivals()
    since_s = now.timestamp() - KEPT_S
    for episode in episodes:
        if episode.seen_at.timestamp() >= since_s:
            arrivals.add(episode)
    return arrivals
