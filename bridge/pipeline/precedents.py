"""Precedents: what is remembered of incidents that are over, and what is recommended by it.

Rules: an incident is remembered when it is let go of, and at each forecast after its end; one that reopens, or was
merged into another, is forgotten. The newest `MAX_PASTS` are kept, none for longer than incidents are. What people
wrote is read where it stands, when something is recommended.

Decision: kept in the state rather than read from the store. Thinking never asks the store, and a replay must recommend
the same.
"""

from __future__ import annotations

from heapq import nsmallest

from bridge.analysis.incidents import Group
from bridge.analysis.precedents import MAX_EPISODES, MAX_PASTS, MAX_SIGNS, precedent_of, recalled, sign_of
from bridge.analysis.recommending import recommend
from bridge.model import Advice, Forecast, IncidentState
from bridge.pipeline.desk import Desk
from bridge.pipeline.state import Tenant


class Precedents:
    """Remembers incidents that are over."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def note(self, tenant: Tenant, group: Group) -> None:
        """Remember an incident, if it is over."""
        incident = group.head.id
        over = group.head.closed_at is not None and group.head.state is not IncidentState.MERGED
        found = None
        if over:
            episodes = (group.episodes[key] for key in nsmallest(MAX_EPISODES, group.episodes))
            found = precedent_of(group.head, episodes)
        if found is None:
            self._drop(tenant, incident)
        elif tenant.pasts.get(incident) != found:
            tenant.pasts[incident] = self._desk.out.pasts[tenant.name, incident] = found

    def bound(self, tenant: Tenant) -> None:
        """Forget what is too old and what is too much, the oldest first."""
        by_age = sorted((each.past.opened_at, incident) for incident, each in tenant.pasts.items())
        kept_s = self._desk.settings.kept_s(tenant.name, "incidents")
        for number, (opened_at, incident) in enumerate(by_age):
            is_old = (self._desk.now - opened_at).total_seconds() > kept_s
            if is_old or number < len(by_age) - MAX_PASTS:
                self._drop(tenant, incident)

    def _drop(self, tenant: Tenant, incident: str) -> None:
        if tenant.pasts.pop(incident, None) is not None:
            self._desk.out.pasts[tenant.name, incident] = None

    def advice(self, tenant: Tenant, forecast: Forecast) -> tuple[Advice, ...]:
        """Return what to do before what is forecast, the best first."""
        keys = nsmallest(MAX_SIGNS, tenant.firing)
        fires = [
            tenant.groups[incident].episodes[key] for incident, key in map(tenant.firing.__getitem__, keys)
        ]
        pasts, orders = recalled(tenant.pasts.values(), tenant.actions.values())
        return recommend(forecast, map(sign_of, fires), pasts, orders, now=self._desk.now)
