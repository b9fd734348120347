"""Aging: what becomes of an incident by time alone. Quiet ones close, closed ones are forgotten, bridged ones merge.

Rules: an alarm may ring early, then it is armed anew; whether something happens is decided by what is stored, so
that a loaded state and one that ran on agree. `rearm` arms every alarm that a stored incident implies.
"""

from __future__ import annotations

from msgspec.structs import replace

from bridge.analysis import anomaly, clustering, extent
from bridge.analysis.incidents import Group, Said, Signal
from bridge.model import EventKind, IncidentState
from bridge.pipeline.desk import Desk
from bridge.pipeline.events import Events
from bridge.pipeline.forecasts import Forecasts
from bridge.pipeline.gathering import Gathering
from bridge.pipeline.regrouping import Regrouping
from bridge.pipeline.state import Tenant, forgotten

_OVER = frozenset({IncidentState.CLOSED, IncidentState.MERGED})


class Aging:
    """Closes, merges and forgets."""

    def __init__(
        self,
        desk: Desk,
        events: Events,
        gathering: Gathering,
        regrouping: Regrouping,
        forecasts: Forecasts,
    ) -> None:
        self._desk = desk
        self._events = events
        self._gathering = gathering
        self._regrouping = regrouping
        self._forecasts = forecasts

    def close(self, tenant: Tenant, key: tuple[str, ...]) -> None:
        """Close an incident that was quiet for long enough."""
        group = tenant.groups.get(key[0])
        if group is None or group.head.state is not IncidentState.QUIET or group.progress.quiet_at is None:
            return
        now = self._desk.now
        if now < self._gathering.closes_at(group, group.progress.quiet_at):
            self._gathering.arm_close(tenant, group)
            return
        group.move(Signal.QUIET_OVER)
        self._close(tenant, group, None)

    def close_by_hand(self, tenant: Tenant, group: Group, said: Said) -> None:
        """Close an incident because a person says so, whatever fires in it."""
        group.move(Signal.CLOSED_BY_HAND)
        self._close(tenant, group, said)

    def open_by_hand(self, tenant: Tenant, group: Group, said: Said) -> None:
        """Open an incident that a person closed while it fired, and that fires."""
        group.move(Signal.FIRES)
        group.head = replace(group.head, closed_at=None)
        group.progress = replace(group.progress, quiet_at=None, forget_at=None)
        self._gathering.show(tenant, group)
        self._events.due(tenant, group, EventKind.REOPENED, said)

    def _close(self, tenant: Tenant, group: Group, said: Said | None) -> None:
        now = self._desk.now
        group.head = replace(group.head, closed_at=now)
        group.progress = replace(group.progress, update_at=None, ring_at=None, reminders={}, bridges={})
        tenant.index.drop(group.head.id, group.head.opened_at)
        self._gathering.settle_over(tenant, group)
        self._events.due(tenant, group, EventKind.CLOSED, said)
        self._remember(tenant, group)
        self._forecasts.plan(tenant)

    def _remember(self, tenant: Tenant, group: Group) -> None:
        """Let an incident that is over enter the tenant's experience, once; an anomaly's says nothing of others."""
        if not group.progress.counted and group.head.origin != "anomaly":
            group.progress = replace(group.progress, counted=True)
            before = tenant.record.experience
            experience = anomaly.experienced(before, group.progress.surprise, self._desk.now)
            sizes = tenant.record.extent
            if group.head.origin == "alerts":
                sizes = extent.learned(sizes, len(group.alerts), extent.things_in(group.held), self._desk.now)
            self._desk.keep_record(tenant, replace(tenant.record, experience=experience, extent=sizes))

    def merge(self, tenant: Tenant, key: tuple[str, ...]) -> None:
        """Merge the younger incident into the older if enough alerts fitted both and both go on."""
        younger, older = tenant.groups.get(key[0]), tenant.groups.get(key[1])
        if younger is None:
            return
        if older is None or older.head.state in _OVER or younger.head.state in _OVER:
            self._unbridge(tenant, younger, key[1])
        elif clustering.bridged(older, younger):
            count = younger.progress.bridges[older.head.id]
            self._regrouping.merge(tenant, older, younger, f"{count} alerts fitted both incidents")

    def _unbridge(self, tenant: Tenant, younger: Group, older: str) -> None:
        """Drop the evidence for a merge that came too late: it must not act after a restart."""
        bridges = {other: count for other, count in younger.progress.bridges.items() if other != older}
        younger.progress = replace(younger.progress, bridges=bridges)
        self._desk.touch(tenant, younger)

    def forget(self, tenant: Tenant, key: tuple[str, ...]) -> None:
        """Let go of an incident that can no longer reopen."""
        group = tenant.groups.get(key[0])
        if group is None or group.progress.forget_at is None:
            return
        if self._desk.now < group.progress.forget_at:
            self._desk.arm(tenant, "forget", key, group.progress.forget_at)
        else:
            self._let_go(tenant, group)

    def _let_go(self, tenant: Tenant, group: Group) -> None:
        self._forecasts.note(tenant, group)
        tenant.release(group.head.id)

    def renew(self, tenant: Tenant, group: Group) -> None:
        """Let new settings decide how long an incident that is over is remembered."""
        if group.head.state in _OVER and not group.firing:
            self._desk.forget_later(tenant, group, group.head.closed_at or group.head.changed_at)

    def rearm(self, tenant: Tenant, group: Group) -> None:
        """Arm what time will do to an incident, let it be found if it still can be, or let it go."""
        if group.head.state in _OVER:
            self._rearm_over(tenant, group)
            return
        self._gathering.show(tenant, group)
        self._gathering.arm_close(tenant, group)
        for other in group.progress.bridges:
            older = tenant.groups.get(other)
            if older is not None and older.head.state not in _OVER and clustering.bridged(older, group):
                self._desk.arm(tenant, "merge", (group.head.id, other), self._desk.now)

    def _rearm_over(self, tenant: Tenant, group: Group) -> None:
        if forgotten(group.progress, self._desk.now):
            self._let_go(tenant, group)
        elif group.progress.forget_at is not None:
            self._desk.arm(tenant, "forget", (group.head.id,), group.progress.forget_at)
