"""Correlation clustering: a partition that agrees best with signed links, and HDBSCAN over the same links.

Theory: each pair of alerts has a weight, positive where they probably share a cause, negative where they probably do
not. Greedy additive edge contraction (Keuper et al., Efficient decomposition of image and mesh graphs by lifted
multicuts, ICCV 2015) joins the two clusters with the largest positive sum of links between them until no sum is
positive. It needs no number of clusters, and one link does not join what many keep apart, unless it is the
strongest of all: greed begins with that.

Rules: the same links give the same partition, whatever order they come in; ties go to the smaller numbers.

Decision: a sum of links rather than their mean. The mean forgets how much evidence there is: of two alerts that could
go to a lone one or to an incident of fifty, the fifty know more.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LEAST_CLUSTER = 2  # of HDBSCAN


def contract(number: int, links: Sequence[tuple[int, int, float]]) -> list[int]:
    """Return for each of `number` nodes the smallest node of its cluster.

    `links` are (one, other, weight) with one < other, each pair at most once. Cost grows with the links, a second for
    some hundred thousand.
    """
    sums: list[dict[int, float]] = [{} for _ in range(number)]
    for one, other, weight in sorted(links):
        sums[one][other] = sums[other][one] = weight
    heap = [(-weight, one, other) for one, other, weight in links if weight > 0]
    heapq.heapify(heap)
    into = list(range(number))
    gone = [False] * number
    while heap:
        weight, one, other = heapq.heappop(heap)
        if gone[one] or gone[other] or sums[one].get(other) != -weight:
            continue
        del sums[one][other]
        for third, more in sums[other].items():
            if third != one:
                total = sums[one].get(third, 0.0) + more
                sums[one][third] = sums[third][one] = total
                del sums[third][other]
                if total > 0:
                    heapq.heappush(heap, (-total, min(one, third), max(one, third)))
        sums[other] = {}
        gone[other] = True
        into[other] = one
    return [_end(into, node) for node in range(number)]


def _end(into: list[int], node: int) -> int:
    while into[node] != node:
        into[node] = into[into[node]]
        node = into[node]
    return node


def by_density(number: int, links: Sequence[tuple[int, int, float]]) -> list[int]:
    """Return a partition by HDBSCAN over 1 - p as the distance, as `contract` does; pairs without a link are far apart.

    What HDBSCAN calls noise is a cluster of its own. Loads scikit-learn at the first call.
    """
    from sklearn.cluster import HDBSCAN  # noqa: PLC0415 - a second and 136 MB, for those who ask for it

    if number <= LEAST_CLUSTER:
        return contract(number, links)
    distances: NDArray[np.float64] = np.ones((number, number))
    np.fill_diagonal(distances, 0.0)
    for one, other, weight in links:
        distances[one, other] = distances[other, one] = 1.0 / (1.0 + np.exp(weight))
    found = HDBSCAN(
        min_cluster_size=LEAST_CLUSTER, min_samples=1, metric="precomputed", cluster_selection_epsilon=0.5, n_jobs=1,
        copy=True,
    )  # fmt: skip
    labels = found.fit_predict(distances).tolist()
    first: dict[int, int] = {}
    return [node if label < 0 else first.setdefault(label, node) for node, label in enumerate(labels)]
