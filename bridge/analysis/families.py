"""Families: templates that say nearly the same thing, found by HDBSCAN over their vectors.

Rules: same templates, same answer, in whatever order they come. Only `fit` and `predict` import numpy,
hdbscan and sklearn, so the words and names here cost nothing; they run in the models' child process. A
family's id is `f:<fit>.<n>` after the fit that first found it, so no id is given twice as long as fits
count upwards; a template that no family takes in is its own, `t:<template id>`.

Decision: ids survive a refit by majority, not by likeness. A new cluster takes over an old id if it holds
more than half of that family or comes to more than half from it, the largest overlap choosing first; an id
changes only where most of a family really went elsewhere. Rejected: an optimal (Hungarian) assignment,
which may move an id away from its majority to please another cluster. Rejected: names by content, which
change at every fit.

Decision: families of 3 and more, `min_samples` 2, excess of mass. A family should be one kind of alert.
With the usual 5 and 5, HDBSCAN put 413 of 500 and 720 of 1,000 unlike public rule texts into one family;
with 3 and 2 the largest in 48 draws of 200 to 2,000 of those texts had 37, mean cosine inside 0.59 to 0.70.
Rejected: the leaves of the tree, which hold less on real texts too, but tear plain clusters apart (up to
half of 2,400 synthetic templates became noise). Chosen by looking at those rules, so no figures to expect
elsewhere.

Figures behind the limits: below 200 templates HDBSCAN calls most of them noise; PCA to 48 dimensions makes
a fit of 5,000 eight times cheaper but changes the result a little, so it waits until it is needed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from bridge.model import Template, Word

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Below this HDBSCAN finds no families worth the name.
MIN_TEMPLATES = 200
#: Above this many templates the fit runs on principal components.
PCA_ABOVE = 2_000
PCA_DIMENSIONS = 48
MIN_FAMILY_SIZE = 3
NEIGHBOURS = 2


class EncodeAsk(Word, frozen=True, kw_only=True):
    """Texts that need vectors."""

    tenant: str
    templates: tuple[Template, ...]


class FitAsk(Word, frozen=True, kw_only=True):
    """A snapshot of all that one fit may know. `fit` counts upwards per tenant, no number is used twice."""

    tenant: str
    fit: int
    templates: tuple[tuple[str, bytes, str], ...]  # (template id, vector, family so far or "")


class Fitted:
    """What `predict` needs of a fit. Large, bound to library versions: made anew from its ask, not stored."""

    __slots__ = ("_clusterer", "_components", "_names")

    def __init__(self, clusterer: Any, components: Any, names: dict[int, str]) -> None:
        """Keep HDBSCAN's `clusterer`, the PCA before it (None: none) and the family of each of its labels."""
        self._clusterer = clusterer
        self._components = components
        self._names = names

    def family(self, template_id: str, vector: bytes) -> str:
        """Return the family that HDBSCAN's `approximate_predict` puts one template into."""
        from hdbscan import approximate_predict  # noqa: PLC0415  (only the child pays for it)

        if not self._names:
            return own_family(template_id)
        points = _matrix((vector,))
        if self._components is not None:
            points = self._components.transform(points)
        labels, _ = approximate_predict(self._clusterer, points)
        return self._names.get(int(labels[0]), own_family(template_id))


class Families:
    """The result of one fit: `assign` names the family of each template, `fitted` predicts more of them."""

    __slots__ = ("assign", "fitted")

    def __init__(self, assign: dict[str, str], fitted: Fitted) -> None:
        """Hold both."""
        self.assign = assign
        self.fitted = fitted


def own_family(template_id: str) -> str:
    """Return the family of a template that belongs to no other."""
    return f"t:{template_id}"


def fit(ask: FitAsk) -> Families:
    """Group the templates of `ask` and name the groups after the families they come from.

    Single-threaded; seconds for some thousands of templates. Fewer than `MIN_TEMPLATES` all stay alone.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # noqa: PLC0415

    templates = sorted(ask.templates)
    ids = [template_id for template_id, _, _ in templates]
    if len(ids) < MIN_TEMPLATES:
        return Families({template_id: own_family(template_id) for template_id in ids}, Fitted(None, None, {}))
    with threadpool_limits(1):  # a second thread would add up in another order
        clusterer, components = _cluster(_matrix(vector for _, vector, _ in templates))
    members: dict[int, list[str]] = {}
    for template_id, label in zip(ids, clusterer.labels_.tolist(), strict=True):
        if label >= 0:
            members.setdefault(label, []).append(template_id)
    before = {template_id: family for template_id, _, family in templates if family.startswith("f:")}
    names = named(members, before, ask.fit)
    assign = {template_id: own_family(template_id) for template_id in ids}
    for label, template_ids in members.items():
        assign.update(dict.fromkeys(template_ids, names[label]))
    return Families(assign, Fitted(clusterer, components, names))


def predict(fitted: Fitted, templates: Iterable[tuple[str, bytes]]) -> dict[str, str]:
    """Return the family of each (template id, vector), as the last fit would have it.

    One at a time: a matrix product of many rows rounds differently, and how templates arrive must not matter.
    """
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    with threadpool_limits(1):
        return {template_id: fitted.family(template_id, vector) for template_id, vector in templates}


def named(members: dict[int, list[str]], before: dict[str, str], fit_number: int) -> dict[int, str]:
    """Return the family id of each cluster label, kept from `before` (template id -> family) by majority.

    `members` is the clusters' content by label. Clusters without a majority get new ids, in the order of
    their smallest template id.
    """
    names: dict[int, str] = {}
    taken: set[str] = set()
    for label, family in _majorities(members, before):
        if label not in names and family not in taken:
            names[label] = family
            taken.add(family)
    fresh = sorted(
        (min(template_ids), label) for label, template_ids in members.items() if label not in names
    )
    for number, (_, label) in enumerate(fresh, start=1):
        names[label] = f"f:{fit_number}.{number}"
    return names


def _majorities(members: dict[int, list[str]], before: dict[str, str]) -> Sequence[tuple[int, str]]:
    """Return (label, old family) where one holds most of the other, the largest overlap first."""
    sizes = Counter(before.values())
    found: list[tuple[int, str, str, int]] = []
    for label, template_ids in members.items():
        shared = Counter(before[template_id] for template_id in template_ids if template_id in before)
        for family, count in shared.items():
            if 2 * count > sizes[family] or 2 * count > len(template_ids):
                found.append((-count, family, min(template_ids), label))
    return [(label, family) for _, family, _, label in sorted(found)]


def _matrix(vectors: Iterable[bytes]) -> NDArray[np.float64]:
    """Return one row per vector of little-endian float16."""
    import numpy as np  # noqa: PLC0415

    return np.stack([np.frombuffer(vector, "<f2") for vector in vectors]).astype(np.float64)


def _cluster(points: NDArray[np.float64]) -> tuple[Any, Any]:
    """Return the fitted HDBSCAN of `points` and the PCA before it (None for few points)."""
    from hdbscan import HDBSCAN  # noqa: PLC0415
    from sklearn.decomposition import PCA  # noqa: PLC0415

    components = None
    if len(points) > PCA_ABOVE:
        # By the eigenvalues of the covariance: exact, so there is no seed that a result could depend on.
        components = PCA(min(PCA_DIMENSIONS, points.shape[1]), svd_solver="covariance_eigh")
        points = components.fit_transform(points)
    clusterer = HDBSCAN(
        min_cluster_size=MIN_FAMILY_SIZE,
        min_samples=NEIGHBOURS,
        core_dist_n_jobs=1,
        prediction_data=True,
    )
    return clusterer.fit(points), components
