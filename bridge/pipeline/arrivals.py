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
from typing import NamedTuple

from bridge.analysis.bursts import AREA_LABEL, BEFORE_S, SILENCE_S, SURGE_S
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


class Around(NamedTuple):
    """How many alerts began before one in its cluster."""

    recent: int  # in the last `SURGE_S`, without it
    before: int  # in the `BEFORE_S` before these


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

    def around(self, episode: Episode) -> Around:
        """Count what came before an alert that is not counted yet. Of one second all count as before it."""
        seconds, second = self._areas.get(area_of(episode), {}), int(arrived_s(episode))
        recent = sum(len(seconds.get(second - ago, ())) for ago in range(int(SURGE_S)))
        before = sum(
            len(seconds.get(second - ago, ())) for ago in range(int(SURGE_S), int(SURGE_S + BEFORE_S))
        )
        return Around(recent, before)

    def back_from(self, episode: Episode) -> Iterator[Arrived]:
        """Yield what came before an alert in its cluster, the newest first, back to the last silence.

        At most `BACK_S` back, and `MOST_BACK` alerts.
        """
        seconds, begin = self._areas.get(area_of(episode), {}), int(arrived_s(episode))
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

    def fellows(self, episode: Episode) -> list[EpisodeKey]:
        """Return the alerts that began in the `SURGE_S` before one in its cluster, in order."""
        seconds, second = self._areas.get(area_of(episode), {}), int(arrived_s(episode))
        return [key for ago in reversed(range(int(SURGE_S))) for _, key in seconds.get(second - ago, ())]


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
