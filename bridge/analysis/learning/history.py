"""A history as columns, how common its labels are, and which pairs of it lie near each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from bridge.analysis.entities import tokens_of
from bridge.analysis.families import own_family
from bridge.analysis.learning.words import Sighting
from bridge.analysis.linking import likeness
from bridge.analysis.pairs import WINDOW_S, Columns, Ints, traits_of
from bridge.analysis.topology import Chart, Topology

#: By how much one alert of a pair is moved, s; both ways.
SHIFTS_S = (2700.0, 7200.0, 21_600.0, 43_200.0)
MAX_PARTNERS = 400  # of one alert
MAX_COMMON = 2000  # keys that a linker remembers as common
COMMON_SHARE = 0.05  # what is named in that share of the hours, or less, is as rare as anything


class History:
    """Sightings by when they began, as columns."""

    def __init__(
        self, sightings: Sequence[Sighting], *, families: Mapping[str, str], vectors: Mapping[str, bytes],
        charts: Sequence[Chart], label: str, common_until: int | None = None,
    ) -> None:  # fmt: skip
        """Read all of it; the order of `sightings` does not matter.

        How common a label is, is counted in the first `common_until` of them, in time; None: in all.
        """
        self.sightings = sorted(sightings, key=lambda each: (each.at_s, each.key))
        self.common = common_of(self.sightings[:common_until])
        topology = Topology(charts, label=label)
        self.columns = Columns(topology, likeness_of(vectors), max(16, len(self.sightings)))
        names = {
            each.template: families.get(each.template) or own_family(each.template) for each in self.sightings
        }
        self.families = tuple(sorted(set(names.values())))
        numbers = {family: number for number, family in enumerate(self.families)}
        for each in self.sightings:
            traits = traits_of(
                each.labels, tokens_of(each.labels), at_s=each.at_s, template=each.template,
                family=names[each.template], topology=topology, rarity=lambda key: self.common.get(key, 1.0),
            )  # fmt: skip
            self.columns.add(traits, numbers[names[each.template]])
        self.at_s = self.columns.at_s[: len(self.sightings)]

    def near(
        self, first: int = 0, last: int | None = None, shift_s: float = 0.0
    ) -> tuple[Ints, Ints, NDArray[np.float64]]:
        """Return (earlier, later, lag) of all pairs of rows `first` to `last` within the window.

        `shift_s`: the later alert is moved by so much before it is asked. Of one thing that returned no pair is made.
        """
        at_s = self.at_s[first:last]
        moved = at_s + shift_s
        until = np.searchsorted(at_s, moved, "left") if shift_s else np.arange(len(at_s))
        since = np.maximum(np.searchsorted(at_s, moved - WINDOW_S, "left"), until - MAX_PARTNERS)
        number = np.maximum(until - since, 0)
        later = np.repeat(np.arange(len(at_s)), number)
        begin = np.repeat(np.cumsum(number) - number, number)
        earlier = np.arange(len(later)) - begin + np.repeat(since, number)
        lag = moved[later] - at_s[earlier]
        earlier, later = earlier + first, later + first
        kept = ~self.columns.same_thing(earlier, later)
        return earlier[kept], later[kept], lag[kept]


def common_of(sightings: Iterable[Sighting]) -> dict[str, float]:
    """Return how rare each key is, 0..1, counted in hours that name it; what is rare is left out."""
    hours: dict[str, set[int]] = {}
    every: set[int] = set()
    for each in sightings:
        hour = int(each.at_s // 3600)
        every.add(hour)
        for token in tokens_of(each.labels):
            hours.setdefault(token.key, set()).add(hour)
    shares = {key: len(mine) / (len(every) + 20) for key, mine in hours.items()}
    common = sorted((-share, key) for key, share in shares.items() if share > COMMON_SHARE)[:MAX_COMMON]
    return {key: round(math.log(-share) / math.log(COMMON_SHARE), 3) for share, key in common}


def likeness_of(vectors: Mapping[str, bytes]) -> Callable[[str, str], float | None]:
    """Return the cosine of two templates' texts, None where one has no vector or they are of two models."""

    def asked(left: str, right: str) -> float | None:
        one, other = vectors.get(left, b""), vectors.get(right, b"")
        return likeness(one, other) if one and len(one) == len(other) else None

    return lru_cache(maxsize=65_536)(asked)
