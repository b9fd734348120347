"""Pairs: what two alerts have in common, as numbers that a learned linker weighs and an explanation says.

Theory: whether two alerts share a cause shows in how far apart they began, how their services stand to each other,
whether they name the same machine and the same place, whether they are of one kind, how alike their texts are, what
rare things both name, and how much more often than by chance their kinds come together, at all and at this distance.
The last is counted by `analysis.learning`; everything else can be seen in the two alerts.

Rules: of a pair the alert that began first is the earlier one. Unknown is a value of its own, never a guess. Times
are those of the sender where they are believable: an alert cannot begin after it was heard, nor long before.

Decision: columns of numbers rather than objects. One alert is compared with 400 others in a few array operations,
and a fit with a hundred thousand pairs in as many. Names become numbers that mean nothing beyond this table, so that
a table which is built anew after a restart gives the same features. Where one alert is compared with many its side of
the pairs is one number a column, not as many copies of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bridge.analysis.answers import Answers
from bridge.analysis.entities import SPECIFIC_WEIGHT, Token
from bridge.analysis.topology import FAR, Topology

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
#: Some rows, rows that lie beside each other, or one that stands in all pairs.
Rows = Ints | slice | int

WINDOW_S = 900.0  # alerts further apart are no pair
MAX_TOKENS = 8  # heaviest ones of an alert that are compared
#: Edges of coarse lags, s: how often two kinds come together is counted between them.
LAG_EDGES = np.array([15.0, 60.0, 120.0, 240.0, 480.0])
LAGS = len(LAG_EDGES) + 1
TEXT_EDGES = np.array([0.2, 0.35, 0.5, 0.65, 0.8])

#: How the services of an earlier and a later alert stand to each other.
NO_SERVICE, SAME_SERVICE, CALLER_LATER, CALLEE_LATER, CALLER_2, CALLEE_2, APART, UNCHARTED = range(8)
#: The columns of names.
WHAT, TEMPLATE, FAMILY, NAME, SERVICE, NODE, HOST, CLUSTER, NAMESPACE = range(9)
_OF_HOPS = {0: SAME_SERVICE, -1: CALLER_LATER, 1: CALLEE_LATER, -2: CALLER_2, 2: CALLEE_2, FAR: APART}
UNKNOWN, SAME, OTHER = range(3)  # machine
SAME_SPACE, OTHER_SPACE, SAME_CLUSTER, OTHER_CLUSTER = range(4)
_OF_SPACES = np.array([SAME_CLUSTER, SAME_SPACE, OTHER_SPACE])  # by UNKNOWN, SAME, OTHER
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
    """Alerts as rows of numbers. Rows are added at the end and dropped from the beginning.

    What is asked about pairs takes rows for the earlier and for the later alert, of which one may be the same in all
    pairs: then it is that row's number.
    """

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
        self._nodes: dict[int, int] = {}  # in the topology -> in these columns
        self._templates: dict[str, int] = {}
        self._node_of: list[int] = []
        self._template_of: list[str] = []
        self._stands = Answers(self._stand, self._node_of)
        self._texts = Answers(self._text, self._template_of)
        self._calls = Answers(self._call, self._node_of)
        self.number = 0
        self.at_s = np.zeros(size)
        self.family = np.zeros(size, np.int64)
        self._ids = np.zeros((9, size), np.int64)
        self._tokens = np.zeros((MAX_TOKENS, size), np.int32)
        self._worths = np.zeros((MAX_TOKENS, size), np.float32)

    def add(self, traits: Traits, family: int = -1) -> int:
        """Add an alert and return its row; `family` is its number in the table of lifts, -1 if it has none."""
        row = self.number
        if row == len(self.at_s):
            self._grow()
        self.at_s[row] = traits.at_s
        self.family[row] = family
        number = self._numbered
        self._ids[:, row] = (
            number("what", traits.what), self._template(traits.template), number("family", traits.family),
            number("name", traits.name), number("service", traits.service), self._node(traits.node),
            number("host", traits.host), number("cluster", traits.cluster), number("namespace", traits.namespace),
        )  # fmt: skip
        none = [-1] * (MAX_TOKENS - len(traits.tokens))
        self._tokens[:, row] = [*(number("token", key) for key, _ in traits.tokens), *none]
        self._worths[:, row] = [*(worth for _, worth in traits.tokens), *none]
        self.number += 1
        return row

    def drop(self, rows: int) -> None:
        """Forget the first rows; the others move up. Costs as much as there are others."""
        left = self.number - rows
        for column in self._all():
            column[..., :left] = column[..., rows : self.number].copy()
        self.number = left

    def swap(self, one: int, other: int) -> None:
        """Let two rows change places."""
        for column in self._all():
            column[..., [one, other]] = column[..., [other, one]]

    def _all(self) -> tuple[NDArray[Any], ...]:
        return (self.at_s, self.family, self._ids, self._tokens, self._worths)

    @property
    def remembered(self) -> int:
        """How many names and pairs of names are remembered, those of rows that were dropped among them."""
        return len(self._numbers) + len(self._stands) + len(self._texts)

    def same_thing(self, earlier: Rows, later: Rows) -> NDArray[np.bool_]:
        """Say of each pair whether it is one thing that returned."""
        same: NDArray[np.bool_] = self._ids[WHAT, earlier] == self._ids[WHAT, later]
        return same

    def pairs(self, earlier: Rows, later: Rows, lag_s: NDArray[np.float64]) -> Floats:
        """Return what can be seen in the pairs alone: one row each, the first `SEEN_ALONE` of `FEATURES`."""
        seen = np.empty((len(lag_s), SEEN_ALONE), np.float32, order="F")
        seen[:, 0] = service = self._services(earlier, later)
        seen[:, 1] = host = self._alike(HOST, earlier, later)
        seen[:, 2] = self._area(earlier, later)
        seen[:, 3] = self._kind(earlier, later)
        seen[:, 4] = self._texts.of(self._ids[TEMPLATE, earlier], self._ids[TEMPLATE, later])
        seen[:, 5] = self._shared(earlier, later)
        seen[:, 6] = np.round(lag_s, 3)
        seen[:, 7] = related_of(service, host)
        return seen

    def related(self, earlier: Rows, later: Rows) -> Ints:
        """Return 1 for pairs of one machine, of one service or of services near each other, 0 for others."""
        return related_of(*self.standing(earlier, later))

    def returned(self, within_s: float) -> NDArray[np.bool_]:
        """Say of each row whether the same thing began before it, at most so long ago."""
        what, at_s = self._ids[WHAT, : self.number], self.at_s[: self.number]
        order = np.lexsort((at_s, what))
        again = np.zeros(self.number, np.bool_)
        again[order[1:]] = (np.diff(what[order]) == 0) & (np.diff(at_s[order]) <= within_s)
        return again

    def standing(self, earlier: Rows, later: Rows) -> tuple[Ints, Ints]:
        """Return how the services and how the machines of each pair stand to each other."""
        return self._services(earlier, later), self._alike(HOST, earlier, later)

    def called(self, earlier: Ints, later: Ints, service: Ints) -> NDArray[np.bool_]:
        """Say of each pair whether the later one's service is known, not only learned, to call the earlier one's.

        `service` is how the services stand to each other.
        """
        asked = np.flatnonzero((service == CALLER_LATER) | (service == CALLER_2))
        found = np.zeros(len(service), np.bool_)
        found[asked] = self._calls.of(self._ids[NODE, later[asked]], self._ids[NODE, earlier[asked]]) > 0
        return found

    def nearness(self, one: Rows, other: Rows) -> Ints:
        """Return how much is to be expected of comparing two alerts, 0..3: related, of one name, in one place."""
        ids, place = self._ids, (CLUSTER, NAMESPACE)
        one_place = np.logical_and.reduce([ids[each, one] == ids[each, other] for each in place])
        near: Ints = self.related(one, other) + (ids[NAME, one] == ids[NAME, other]) + one_place
        return near

    def _services(self, earlier: Rows, later: Rows) -> Ints:
        ids = self._ids
        left, right, node, other_node = (
            ids[SERVICE, earlier],
            ids[SERVICE, later],
            ids[NODE, earlier],
            ids[NODE, later],
        )
        named = (left >= 0) & (right >= 0)
        stand = np.where(named, UNCHARTED, NO_SERVICE)
        asked = (node >= 0) & (other_node >= 0)
        if asked.any():
            stand[asked] = self._stands.of(*(each[asked] for each in np.broadcast_arrays(node, other_node)))
        stand[named & (left == right) & (ids[CLUSTER, earlier] == ids[CLUSTER, later])] = SAME_SERVICE
        return stand

    def _stand(self, earlier: int, later: int) -> int:
        return _OF_HOPS[self._topology.hops(self._node_of[earlier], self._node_of[later])]

    def _call(self, caller: int, called: int) -> int:
        return self._topology.calls(self._node_of[caller], self._node_of[called])

    def _text(self, left: int, right: int) -> int:
        cosine = self._likeness(self._template_of[left], self._template_of[right])
        return 0 if cosine is None else 1 + int(np.searchsorted(TEXT_EDGES, cosine))

    def _alike(self, column: int, earlier: Rows, later: Rows) -> Ints:
        left, right = self._ids[column, earlier], self._ids[column, later]
        return np.where((left < 0) | (right < 0), UNKNOWN, np.where(left == right, SAME, OTHER))

    def _area(self, earlier: Rows, later: Rows) -> Ints:
        """Return how the places stand to each other."""
        space, cluster = self._alike(NAMESPACE, earlier, later), self._alike(CLUSTER, earlier, later)
        return np.where(cluster == OTHER, OTHER_CLUSTER, _OF_SPACES[space])

    def _kind(self, earlier: Rows, later: Rows) -> Ints:
        same = [self._ids[each, earlier] == self._ids[each, later] for each in (TEMPLATE, NAME, FAMILY)]
        return np.where(
            same[0], ONE_TEMPLATE, np.where(same[1], ONE_NAME, np.where(same[2], ONE_FAMILY, OTHER_KIND))
        )

    def _shared(self, earlier: Rows, later: Rows) -> Floats:
        """Return what the shared labels are worth, at most about 4."""
        mine, worths, theirs = self._tokens[:, earlier], self._worths[:, earlier], self._tokens[:, later]
        if mine.ndim < theirs.ndim:
            mine, worths = mine[:, None], worths[:, None]
        if theirs.ndim == 1:
            theirs = theirs[: max(1, int(np.count_nonzero(theirs >= 0)))]
        both = mine == theirs[0]
        for theirs_at in theirs[1:]:
            both |= mine == theirs_at
        both &= mine >= 0
        shared: Floats = np.zeros(both.shape[-1], np.float32)
        for worth in np.where(both, worths, np.float32(0)):  # in order, so that no pair depends on another
            shared += worth
        return np.round(shared, 3, out=shared)

    def _numbered(self, of: str, name: str) -> int:
        return self._numbers.setdefault((of, name), len(self._numbers)) if name else -1

    def _node(self, node: int) -> int:
        if node < 0:
            return -1
        number = self._nodes.setdefault(node, len(self._node_of))
        if number == len(self._node_of):
            self._node_of.append(node)
        return number

    def _template(self, template: str) -> int:
        number = self._templates.setdefault(template, len(self._template_of))
        if number == len(self._template_of):
            self._template_of.append(template)
        return number

    def _grow(self) -> None:
        for name in ("at_s", "family", "_ids", "_tokens", "_worths"):
            column = getattr(self, name)
            setattr(self, name, np.concatenate([column, np.zeros_like(column)], axis=-1))


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
