"""Links: which incident a learned linker puts an alert into, and the open window that it looks at.

Rules: which way acts is the verdict of the newest fit (`analysis.gate`), unless the settings name one; the others are
in `gathering`. An alert goes to an incident at once, by the links it has then; `reclustering` looks again. What is
added up are whole ten-thousandths, so that the order in which alerts of one moment came decides nothing.

Decision: sums of links decide here, too, as they do in the re-clustering: another rule would put an alert where the
next round takes it away from.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from bridge.analysis.clustering import LIVELY
from bridge.analysis.incidents import Group
from bridge.analysis.learning import Judge, Linker, Table, likeness_of
from bridge.analysis.pairs import Ints, said
from bridge.analysis.settings import Way
from bridge.analysis.trees import NO_TREES
from bridge.analysis.verdicts import in_force
from bridge.model import FOUNDED, Episode
from bridge.pipeline.desk import Desk
from bridge.pipeline.state import Tenant, tick_at, time_of
from bridge.pipeline.window import Window, built

REGROUP_EVERY_S = 30
#: Log odds of one thing that returns.
SAME_THING = 2.0
UNIT = 10_000  # of a log odds of 1
#: Log odds above the shift, in sum, from which on a critical alert is no news to people who were called already.
SURE = 2.0
#: What a way knows before anything was learned.
NOTHING = Linker(table=Table(), common={}, unlabelled=NO_TREES)


class Chosen(NamedTuple):
    """Where an alert goes and why. `group` None: a new incident. `sure`: it belongs there beyond doubt."""

    group: Group | None
    why: str
    sure: bool = False


class Links:
    """Chooses incidents by links."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def way(self, tenant: Tenant) -> Way:
        """Return how this tenant's alerts are grouped: by time alone while it takes more than it may."""
        if tenant.record.usage.over:
            return "bursts"
        known = tenant.link_fit
        return in_force(self._desk.settings.grouping, known.verdict if known is not None else None)

    # ---- the window ----------------------------------------------------------------------------------------

    def window(self, tenant: Tenant) -> Window:
        """Return the open window, built anew if it is stale."""
        topology = self._desk.topology_of(tenant)
        window = tenant.window
        if window is None or window.topology is not topology or window.is_worn:
            window = tenant.window = self._built(tenant)
        window.prune(self._desk.now)
        return window

    def _built(self, tenant: Tenant) -> Window:
        desk, free = self._desk, self._desk.free  # a window outlives this desk
        vectors = {} if free else {name: record.vector for name, record in tenant.templates.items()}
        empty = Window(
            self._judge(tenant), desk.topology_of(tenant), likeness_of(vectors),
            lambda template: tenant.family_of(template, model_free=free),
        )  # fmt: skip
        episodes = (
            (episode, group.head.id)
            for group in tenant.groups.values()
            if group.head.origin == "alerts"
            for episode in group.episodes.values()
        )
        return built(empty, episodes, desk.now)

    def _judge(self, tenant: Tenant) -> Judge:
        linker = tenant.link_fit.linker if tenant.link_fit is not None else NOTHING
        if tenant.judge is None or tenant.judge.linker is not linker:
            tenant.judge = Judge(linker)
        return tenant.judge

    def takes(self, tenant: Tenant, incident: str) -> bool:
        """Say whether an incident takes alerts in."""
        return self._takers(tenant, [incident])[0]

    @staticmethod
    def _takers(tenant: Tenant, incidents: Sequence[str]) -> list[bool]:
        groups = tenant.groups
        return [
            (group := groups.get(incident)) is not None
            and (head := group.head).state in LIVELY
            and head.origin == "alerts"
            for incident in incidents
        ]

    def weights(
        self, tenant: Tenant, window: Window, one: Ints, other: Ints | int
    ) -> tuple[Ints, NDArray[np.float64], NDArray[np.float32]]:
        """Return what links weigh, in `UNIT`s above the shift, their log odds and their features.

        `other` may be one row of all.
        """
        logits, features = window.logits(one, other)
        learned = tenant.link_fit.verdict.shift if tenant.link_fit is not None else 0.0
        shift = learned - (self._desk.settings.sensitivity - 0.5) * 4.0
        same = window.columns.same_thing(one, other)
        weights: Ints = np.round(np.where(same, SAME_THING, logits - shift) * UNIT).astype(np.int64)
        return weights, logits, features

    # ---- an alert that comes -------------------------------------------------------------------------------

    def choose(self, tenant: Tenant, episode: Episode) -> Chosen:
        """Return the incident that takes an alert in, by a learned linker."""
        window = self.window(tenant)
        row = window.try_out(episode)
        chosen = self._by_links(tenant, window, row)
        window.remove_newest()
        return chosen

    def _by_links(self, tenant: Tenant, window: Window, row: int) -> Chosen:
        rows = window.partners(row, partial(self._takers, tenant))
        if not len(rows):
            return Chosen(None, FOUNDED)
        weights, logits, features = self.weights(tenant, window, rows, row)
        incident = window.incident_numbers(rows)
        sums = np.bincount(incident, weights)  # of whole numbers, so exact
        sums[np.bincount(incident) == 0] = -np.inf
        most = float(sums.max())
        fits = np.flatnonzero(sums[incident] == most)
        place = int(fits[0])
        if most > 0 or np.ptp(logits[fits]):  # else all that fit as badly say the same
            place = int(fits[self._strongest(tenant, window, rows[fits], weights[fits])])
        chance = 1.0 / (1.0 + float(np.exp(-logits[place])))
        if most <= 0:
            return Chosen(None, f"{FOUNDED}: the likeliest link to another is too weak (p={chance:.2f})")
        group = tenant.groups[window.incident_of(int(rows[place]))]
        other_alert = group.episodes.get(window.key_of(int(rows[place])))
        name = "" if other_alert is None else other_alert.name
        why = said(features[place].tolist(), other=name, chance=chance)
        return Chosen(group, why, sure=most >= SURE * UNIT)

    @staticmethod
    def _strongest(tenant: Tenant, window: Window, rows: Ints, weights: Ints) -> int:
        """Return the place of the row with the strongest link in the oldest incident of those that rows are in."""
        incident, groups = window.incident_numbers(rows), tenant.groups
        first = np.unique(incident, return_index=True)[1]
        heads = [groups[window.incident_of(int(rows[each]))].head for each in first.tolist()]
        oldest = min(range(len(heads)), key=lambda each: (heads[each].opened_at, heads[each].id))
        mine = np.flatnonzero(incident == incident[first[oldest]])
        strongest: list[int] = mine[weights[mine] == weights[mine].max()].tolist()
        return min(strongest, key=lambda each: window.key_of(int(rows[each])))

    def entered(self, tenant: Tenant, group: Group, episode: Episode) -> None:
        """Take note of an alert that is in its incident now."""
        if group.head.origin != "alerts":
            return
        if tenant.arrivals is not None:
            tenant.arrivals.add(episode)
        if self.way(tenant) == "linker":
            window = self.window(tenant)
            key = (episode.source, episode.fingerprint, episode.starts_at)
            if window.holds(key):
                window.place(key, group.head.id)
            else:
                window.add(episode, group.head.id)
            self.arm_round(tenant)

    def arm_round(self, tenant: Tenant) -> None:
        """Let the open window be looked at again at the next full half minute."""
        if tenant.record.regroup_at is None:
            tick = (tick_at(self._desk.now) // REGROUP_EVERY_S + 1) * REGROUP_EVERY_S
            self._desk.keep_record(tenant, replace(tenant.record, regroup_at=time_of(tick)))
            self._desk.arm(tenant, "regroup", (), time_of(tick))

    def rearm(self, tenant: Tenant) -> None:
        """Let the window be built anew, and the next round come."""
        tenant.window = None
        if tenant.record.regroup_at is not None:
            self._desk.arm(tenant, "regroup", (), tenant.record.regroup_at)
