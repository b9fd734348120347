"""Pairs: what two alerts have in common, as numbers that a learned linker weighs and an explanation says.

Theory: whether two alerts share a cause shows in how far apart they began, how their services stand to each other,
whether they name the same machine and the same place, whether they are of one kind, how alike their texts are, what
rare things both name, and how much more often than by chance their kinds come together, at all and at this distance.
The last is counted by `analysis.learning`; everything else can be seen in the two alerts.

Rules: of a pair the alert that began first is the earlier one. Unknown is a value of its own, never a guess. Times
are those of the sender where they are believable: an alert cannot begin after it was heard, nor long before.

Decision: columns of numbers rather than objects. One alert is compared with 400 others in a few array operations,
and a fit with a hundred thousand pairs in as many. Names become numbers that mean nothing beyond this table, so that
a table which is built anew after a restart gives the same features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bridge.analysis.entities import SPECIFIC_WEIGHT, Token
from bridge.analysis.topology import FAR, Topology

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

WINDOW_S = 900.0  # alerts further apart are no pair
MAX_TOKENS = 8  # heaviest ones of an alert that are compared
#: Edges of coarse lags, s: how often two kinds come together is counted between them.
LAG_EDGES = np.array([15.0, 60.0, 120.0, 240.0, 480.0])
LAGS = len(LAG_EDGES) + 1
TEXT_EDGES = np.array([0.2, 0.35, 0.5, 0.65, 0.8])

#: How the services of an earlier and a later alert stand to each other.
NO_SERVICE, SAME_SERVICE, CALLER_LATER, CALLEE_LATER, CALLER_2, CALLEE_2, APART, UNCHARTED = range(8)
_OF_HOPS = {0: SAME_SERVICE, -1: CALLER_LATER, 1: CALLEE_LATER, -2: CALLER_2, 2: CALLEE_2, FAR: APART}
UNKNOWN, SAME, OTHER = range(3)  # machine
SAME_SPACE, OTHER_SPACE, SAME_CLUSTER, OTHER_CLUSTER = range(4)
ONE_TEMPLATE, ONE_NAME, ONE_FAMILY, OTHER_KIND = range(4)

#: The columns of a feature matrix.
FEATURES = (
    "service", "host", "area", "kind", "text", "shared", "lag_s", "related",
    "lift", "company of the earlier", "company of the later", "lift at this lag", "seen", "lift the other way",
)  # fmt: skip
IN_MINUTES_FROM_S = 120.0
SAID_SERVICE = {
    SAME_SERVICE: "same service", CALLER_LATER: "its service calls the other's",
    CALLEE_LATER: "called by the other's service", CALLER_2: "its service calls the other's through one between",
    CALLEE_2: "called by the other's service through one between",
}  # fmt: skip
SAID_FROM_PAIRS, SAID_FROM_LIFT = 3.0, 2.0
SEEN_ALONE = 8  # so many of them can be seen without having learned anything


class Traits(NamedTuple):
    """What is compared of one alert."""

    at_s: float  # when it began, epoch s
    what: str  # its kind and what it is about: two of the same are one thing that returns
    template: str
    family: str
    name: str  # alertname
    node: int  # in the topology, -1 if unknown
    service: str
    host: str
    namespace: str
    cluster: str
    tokens: tuple[tuple[str, float], ...]  # key and what sharing it is worth, heaviest first


def begun_s(starts_at: datetime, seen_at: datetime) -> float:
    """Return when an alert began, epoch s: what its sender says, if it can be so."""
    return max(min(starts_at, seen_at), seen_at - timedelta(seconds=WINDOW_S)).timestamp()


def traits_of(
    labels: Mapping[str, str], tokens: Sequence[Token], *, at_s: float, template: str, family: str,
    topology: Topology, rarity: Callable[[str], float],
) -> Traits:  # fmt: skip
    """Return what is compared of one alert. `rarity(key)` is 0..1, higher is rarer."""
    first: dict[str, str] = {}
    for token in tokens:
        first.setdefault(token.kind, token.value)
    node = topology.node_of(labels)
    named = [token.key for token in tokens if token.weight >= SPECIFIC_WEIGHT and token.kind != "namespace"]
    return Traits(
        at_s=at_s, what="\n".join([template, *sorted(named or [token.key for token in tokens])]),
        template=template, family=family, name=labels.get("alertname", ""), node=-1 if node is None else node,
        service=topology.name(node) if node is not None else first.get("service") or first.get("workload", ""),
        host=first.get("host", ""), namespace=first.get("namespace", ""), cluster=first.get("cluster", ""),
        tokens=tuple([(token.key, token.weight * rarity(token.key)) for token in tokens[:MAX_TOKENS]]),
    )  # fmt: skip


class Columns:
    """Alerts as rows of numbers. Rows are added at the end and dropped from the beginning."""

    def __init__(
        self, topology: Topology, likeness: Callable[[str, str], float | None], size: int = 256
    ) -> None:
        """Begin empty, with room for `size` rows at first.

        Args:
            topology: Which service calls which; of the traits' nodes.
            likeness: The cosine of the texts of two templates, None if it is not known.
            size: Rows there is room for before the first growth.
        """
        self._topology = topology
        self._likeness = likeness
        self._numbers: dict[tuple[str, str], int] = {}
        self._hops: dict[int, int] = {}
        self._cosines: dict[int, int] = {}
        self._templates: list[str] = []
        self._template_numbers: dict[str, int] = {}
        self.number = 0
        self.at_s = np.zeros(size)
        self._ids = np.zeros((size, 8), np.int64)
        self._tokens = np.zeros((size, MAX_TOKENS), np.int64)
        self._worths = np.zeros((size, MAX_TOKENS), np.float32)
        self.family = np.zeros(size, np.int64)

    def add(self, traits: Traits, family: int = -1) -> int:
        """Add an alert and return its row; `family` is its number in the table of lifts, -1 if it has none."""
        row = self.number
        if row == len(self.at_s):
            self._grow()
        self.at_s[row] = traits.at_s
        self.family[row] = family
        number = self._numbered
        self._ids[row] = (
            number("what", traits.what), self._template(traits.template), number("family", traits.family),
            number("name", traits.name), number("service", traits.service), traits.node,
            number("host", traits.host),
            number("cluster", traits.cluster) * (1 << 24) + number("namespace", traits.namespace),
        )  # fmt: skip
        self._tokens[row] = -1
        self._worths[row] = 0.0
        for place, (key, worth) in enumerate(traits.tokens):
            self._tokens[row, place] = number("token", key)
            self._worths[row, place] = worth
        self.number += 1
        return row

    def drop(self, rows: int) -> None:
        """Forget the first rows; the others move up."""
        left = self.number - rows
        for column in (self.at_s, self._ids, self._tokens, self._worths, self.family):
            column[:left] = column[rows : self.number].copy()
        self.number = left

    def swap(self, one: int, other: int) -> None:
        """Let two rows change places."""
        for column in (self.at_s, self._ids, self._tokens, self._worths, self.family):
            column[[one, other]] = column[[other, one]]

    @property
    def remembered(self) -> int:
        """How many names and pairs of names are remembered, those of rows that were dropped among them."""
        return len(self._numbers) + len(self._hops) + len(self._cosines)

    def same_thing(self, earlier: Ints, later: Ints) -> NDArray[np.bool_]:
        """Say of each pair whether it is one thing that returned."""
        same: NDArray[np.bool_] = self._ids[earlier, 0] == self._ids[later, 0]
        return same

    def pairs(self, earlier: Ints, later: Ints, lag_s: NDArray[np.float64]) -> Floats:
        """Return what can be seen in the pairs alone: one row each, the first `SEEN_ALONE` of `FEATURES`."""
        left, right = self._ids[earlier], self._ids[later]
        seen = np.empty((len(earlier), SEEN_ALONE), np.float32)
        seen[:, 0] = service = self._services(left, right)
        seen[:, 1] = host = _alike(left[:, 6], right[:, 6])
        seen[:, 2] = _area(left[:, 7], right[:, 7])
        seen[:, 3] = np.where(
            left[:, 1] == right[:, 1], ONE_TEMPLATE,
            np.where(left[:, 3] == right[:, 3], ONE_NAME, np.where(left[:, 2] == right[:, 2], ONE_FAMILY, OTHER_KIND)),
        )  # fmt: skip
        seen[:, 4] = self._texts(left[:, 1], right[:, 1])
        seen[:, 5] = self._shared(earlier, later)
        seen[:, 6] = np.round(lag_s, 3)
        seen[:, 7] = ((service >= SAME_SERVICE) & (service <= CALLEE_2)) | (host == SAME)
        return seen

    def related(self, earlier: Ints, later: Ints) -> Ints:
        """Return 1 for pairs of one machine, of one service or of services near each other, 0 for others."""
        return related_of(*self.standing(earlier, later))

    def returned(self, within_s: float) -> NDArray[np.bool_]:
        """Say of each row whether the same thing began before it, at most so long ago."""
        what, at_s = self._ids[: self.number, 0], self.at_s[: self.number]
        order = np.lexsort((at_s, what))
        again = np.zeros(self.number, np.bool_)
        again[order[1:]] = (np.diff(what[order]) == 0) & (np.diff(at_s[order]) <= within_s)
        return again

    def standing(self, earlier: Ints, later: Ints) -> tuple[Ints, Ints]:
        """Return how the services and how the machines of each pair stand to each other."""
        left, right = self._ids[earlier], self._ids[later]
        return self._services(left, right), _alike(left[:, 6], right[:, 6])

    def called(self, earlier: Ints, later: Ints, service: Ints) -> NDArray[np.bool_]:
        """Say of each pair whether the later one's service is known, not only learned, to call the earlier one's.

        `service` is how the services stand to each other.
        """
        left, right = self._ids[earlier], self._ids[later]
        asked = np.flatnonzero((service == CALLER_LATER) | (service == CALLER_2))
        found = np.zeros(len(left), np.bool_)
        found[asked] = _looked_up(right[asked, 5], left[asked, 5], {}, self._topology.calls) > 0
        return found

    def nearness(self, one: Ints, other: Ints) -> Ints:
        """Return how much is to be expected of comparing two alerts, 0..3: related, of one name, in one place."""
        left, right = self._ids[one], self._ids[other]
        near: Ints = self.related(one, other) + (left[:, 3] == right[:, 3]) + (left[:, 7] == right[:, 7])
        return near

    def _services(self, left: Ints, right: Ints) -> Ints:
        asked = (left[:, 5] >= 0) & (right[:, 5] >= 0)
        named = (left[:, 4] >= 0) & (right[:, 4] >= 0)
        stand = np.where(named, UNCHARTED, NO_SERVICE)
        if asked.any():
            stand[asked] = _looked_up(left[asked, 5], right[asked, 5], self._hops, self._stand)
        stand[named & (left[:, 4] == right[:, 4]) & (left[:, 7] >> 24 == right[:, 7] >> 24)] = SAME_SERVICE
        return stand

    def _stand(self, earlier: int, later: int) -> int:
        return _OF_HOPS[self._topology.hops(earlier, later)]

    def _texts(self, left: Ints, right: Ints) -> Ints:
        return _looked_up(left, right, self._cosines, self._text)

    def _text(self, left: int, right: int) -> int:
        cosine = self._likeness(self._templates[left], self._templates[right])
        return 0 if cosine is None else 1 + int(np.searchsorted(TEXT_EDGES, cosine))

    def _shared(self, earlier: Ints, later: Ints) -> Floats:
        """Return what the shared labels are worth, at most about 4."""
        mine, theirs = self._tokens[earlier], self._tokens[later]
        shared = np.zeros(len(earlier), np.float32)
        for place in range(MAX_TOKENS):
            known = mine[:, place] >= 0
            both = known & (theirs == mine[:, place, None]).any(axis=1)
            shared += np.where(both, self._worths[earlier, place], np.float32(0))
        return np.round(shared, 3)

    def _numbered(self, of: str, name: str) -> int:
        return self._numbers.setdefault((of, name), len(self._numbers)) if name else -1

    def _template(self, template: str) -> int:
        number = self._template_numbers.setdefault(template, len(self._templates))
        if number == len(self._templates):
            self._templates.append(template)
        return number

    def _grow(self) -> None:
        for name in ("at_s", "_ids", "_tokens", "_worths", "family"):
            column = getattr(self, name)
            setattr(self, name, np.concatenate([column, np.zeros_like(column)]))


def said(features: Sequence[float], *, other: str, chance: float) -> str:
    """Return why an alert joined another, as half a sentence with its numbers.

    Args:
        features: Of the pair, as named by `FEATURES`.
        other: Name of the other alert.
        chance: Probability that they share a cause.
    """
    found = dict(zip(FEATURES, features, strict=False))
    lag_s = found["lag_s"]
    reasons = [f"{lag_s:.0f} s" if lag_s < IN_MINUTES_FROM_S else f"{lag_s / 60:.0f} min"]
    reasons[0] += f" from {other}" if other else " apart"
    if found["host"] == SAME:
        reasons.append("same machine")
    if int(found["service"]) in SAID_SERVICE:
        reasons.append(SAID_SERVICE[int(found["service"])])
    elif found["area"] == SAME_SPACE:
        reasons.append("same namespace")
    if found["kind"] in {ONE_TEMPLATE, ONE_NAME}:
        reasons.append("same kind of alert")
    lift, seen = 2.0 ** found["lift at this lag"], 2.0 ** found["seen"] - 1
    if seen >= SAID_FROM_PAIRS and lift >= SAID_FROM_LIFT:
        reasons.append(f"these two kinds come together {lift:.0f} times more often than by chance")
    return f"{', '.join(reasons)} (p={chance:.2f})"


def related_of(service: Ints, host: Ints) -> Ints:
    """Return 1 for pairs of one machine, of one service or of services near each other, 0 for others."""
    found: Ints = (((service >= SAME_SERVICE) & (service <= CALLEE_2)) | (host == SAME)).astype(np.int64)
    return found


def _alike(left: Ints, right: Ints) -> Ints:
    return np.where((left < 0) | (right < 0), UNKNOWN, np.where(left == right, SAME, OTHER))


def _area(left: Ints, right: Ints) -> Ints:
    """Return how the places stand to each other; a number is cluster * 2^24 + namespace, each -1 if unknown."""
    cluster, other_cluster = (left + 1) >> 24, (right + 1) >> 24
    space, other_space = left - (cluster << 24), right - (other_cluster << 24)
    apart = (cluster >= 0) & (other_cluster >= 0) & (cluster != other_cluster)
    unknown = (space < 0) | (other_space < 0)
    near = np.where(unknown, SAME_CLUSTER, np.where(space == other_space, SAME_SPACE, OTHER_SPACE))
    return np.where(apart, OTHER_CLUSTER, near)


def _looked_up(left: Ints, right: Ints, known: dict[int, int], ask: Callable[[int, int], int]) -> Ints:
    """Return `ask(left, right)` for each pair; each different pair is asked about once and remembered."""
    codes = (left << 32) + right
    different, places = np.unique(codes, return_inverse=True)
    found = np.empty(len(different), np.int64)
    for number, code in enumerate(different.tolist()):
        value = known.get(code)
        if value is None:
            value = known[code] = ask(code >> 32, code & 0xFFFFFFFF)
        found[number] = value
    return found[places]
