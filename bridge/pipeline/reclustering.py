"""Re-clustering: the open window is clustered anew every half minute, and what two rounds agree on is done.

Rules: a round comes only after an alert came, or while a wish waits for its second round. Of a storm the newest
`MOST_NODES` alerts are clustered: the cost grows with the square, and older ones have been. What was done says why.
What is left undone, since people were called for the incident, is counted when a round wishes it that the one before
did not.
"""

from __future__ import annotations

import numpy as np
from msgspec.structs import replace

from bridge.analysis import correlation, reclustering
from bridge.analysis.clustering import by_age, may_merge
from bridge.analysis.incidents import EpisodeKey
from bridge.analysis.pairs import WINDOW_S, Ints
from bridge.analysis.reclustering import Wish
from bridge.pipeline.desk import Desk
from bridge.pipeline.links import UNIT, Links
from bridge.pipeline.regrouping import Regrouping, refusal
from bridge.pipeline.state import Tenant
from bridge.pipeline.window import Window

MOST_NODES = 300
WHY = "by how all alerts of the last quarter of an hour hang together"


class Reclustering:
    """Clusters anew."""

    def __init__(self, desk: Desk, links: Links, regrouping: Regrouping) -> None:
        self._desk = desk
        self._links = links
        self._regrouping = regrouping

    def regroup(self, tenant: Tenant, key: tuple[str, ...]) -> None:
        """Cluster the open window, and do what this round and the one before wish."""
        del key
        record = tenant.record
        if record.regroup_at is None:
            return
        if self._desk.now < record.regroup_at:
            self._links.rearm(tenant)
            return
        self._desk.keep_record(tenant, replace(record, regroup_at=None))
        if self._links.way(tenant) != "linker":
            self._wait(tenant, (), ())
            return
        window = self._links.window(tenant)
        rows = window.in_order(
            window.rows_in(lambda incidents: [self._may_change(tenant, each) for each in incidents])
        )
        home = {window.key_of(row): window.incident_of(row) for row in rows.tolist()}
        partition = self._partition(tenant, window, rows)
        found = reclustering.wishes(partition, home, tenant.groups)
        acting, waiting = reclustering.agreed(
            found, tenant.record.regroup_wishes, lambda wish: self._may(tenant, wish)
        )
        advice = tuple(sorted({wish.name for wish in found if self._would_call(tenant, wish)}))
        for name in advice:
            if name not in tenant.record.regroup_advice:
                self._desk.out.count("regroup:advice")
        for wish in acting:
            self._grant(tenant, wish)
        self._wait(tenant, waiting, advice)
        if waiting:
            self._links.arm_round(tenant)

    def _may_change(self, tenant: Tenant, incident: str) -> bool:
        return self._links.takes(tenant, incident) and not tenant.groups[incident].progress.by_hand

    def _partition(self, tenant: Tenant, window: Window, rows: Ints) -> dict[EpisodeKey, int]:
        nodes = rows[-MOST_NODES:]
        one, other, weights = window.links(
            nodes, lambda left, right: self._links.weights(tenant, window, left, right)[0]
        )
        near = np.abs(window.columns.at_s[nodes[other]] - window.columns.at_s[nodes[one]]) <= WINDOW_S
        one, other, weights = one[near], other[near], weights[near]
        keys = [window.key_of(row) for row in nodes.tolist()]
        if self._desk.settings.reclustering == "hdbscan":
            odds = (weights / UNIT).tolist()
            found = correlation.by_density(
                len(keys), list(zip(one.tolist(), other.tolist(), odds, strict=True))
            )
        else:
            links = list(zip(one.tolist(), other.tolist(), weights.tolist(), strict=True))
            found = correlation.contract(len(keys), links)
        return dict(zip(keys, found, strict=True))

    def _may(self, tenant: Tenant, wish: Wish) -> bool:
        """Say whether a wish can be granted."""
        source = tenant.groups[wish.source]
        target = tenant.groups[wish.target] if wish.target else None
        if self._would_call(tenant, wish):
            return False
        if target is not None and not may_merge(*by_age(source, target)):
            return False
        return not refusal(source, target, wish.keys or None)

    def _would_call(self, tenant: Tenant, wish: Wish) -> bool:
        """Say whether what would leave calls people again who were called for the incident that it is in."""
        source = tenant.groups[wish.source]
        leaving = [source.episodes[key] for key in wish.keys if key in source.episodes]
        return source.progress.rung_at is not None and any(each.severity == "critical" for each in leaving)

    def _grant(self, tenant: Tenant, wish: Wish) -> None:
        source = tenant.groups.get(wish.source)
        target = tenant.groups.get(wish.target) if wish.target else None
        if source is None or (wish.target and target is None) or not self._may(tenant, wish):
            return  # another wish of this round has changed what it speaks of
        if target is None:
            self._regrouping.split(tenant, source, wish.keys, WHY)
            self._desk.out.count("regroup:split")
        elif wish.keys:
            self._regrouping.move(tenant, source, target, wish.keys, f"moved {WHY}")
            self._desk.out.count("regroup:moved")
        else:
            self._regrouping.merge(tenant, *by_age(source, target), f"merged {WHY}")
            self._desk.out.count("regroup:merged")

    def _wait(self, tenant: Tenant, waiting: tuple[str, ...], advice: tuple[str, ...]) -> None:
        record = tenant.record
        if (waiting, advice) != (record.regroup_wishes, record.regroup_advice):
            self._desk.keep_record(tenant, replace(record, regroup_wishes=waiting, regroup_advice=advice))
