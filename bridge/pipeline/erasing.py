"""Erasing: what is in memory of an alert, of all that carry a label, or of a tenant, goes at once.

Rules: an incident that loses all of its alerts stays as a tombstone, with its id, its times and its sequence of events,
and one that was open closes, so that a page that is open somewhere is resolved. One that keeps some is counted and
worded anew, and says so. An alert that fires on is new when it is sent again: it is at its source that it has to end.
Reports and lessons go the same way (`forgetting`). What is stored and not in memory is gone through afterwards
(`storage.state.erasing`).

Decision: a tombstone rather than no incident. What was delivered names it, an event sequence with a gap looks like a
lost event, and a page whose incident vanished would stay open for ever.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from bridge.analysis.erasing import Erase, Eraser, blank_incident, parted
from bridge.analysis.incidents import Group, Said, Signal, rendered
from bridge.analysis.text import TemplateCache
from bridge.model import Episode, EventKind, Fault, InboxRow, IncidentState
from bridge.pipeline.aging import Aging
from bridge.pipeline.alerts import Alerts
from bridge.pipeline.desk import Desk
from bridge.pipeline.events import Events
from bridge.pipeline.forgetting import Forgetting
from bridge.pipeline.gathering import Gathering
from bridge.pipeline.state import Erasure, Tenant

_LIVELY = frozenset({IncidentState.OPEN, IncidentState.QUIET})
_SAID = Said(text="what it was about was erased", author="")


class Erasing:
    """Obeys erase rows."""

    def __init__(
        self,
        desk: Desk,
        events: Events,
        gathering: Gathering,
        aging: Aging,
        alerts: Alerts,
        rearm: Callable[[Tenant], None],
    ) -> None:
        """Prepare; `rearm` derives a tenant's alarms and index from what is left."""
        self._desk = desk
        self._events = events
        self._gathering = gathering
        self._aging = aging
        self._alerts = alerts
        self._rearm = rearm

    def take(self, row: InboxRow) -> None:
        """Erase what a row says; one that is done says nothing."""
        try:
            erase = msgspec.json.decode(row.body, type=Erase)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            # Without its bytes: they may hold what was to be erased.
            self._desk.quarantine(row, "body", Fault(reason="no erase that is understood", body=b""))
            return
        if erase.sealed:
            return
        desk, tenant = self._desk, self._desk.tenant(row.tenant)
        eraser = Eraser(erase, desk.now)
        gone: list[Episode] = []
        tenant.window = tenant.arrivals = None
        hit = [
            incident
            for incident, group in sorted(tenant.groups.items())
            if self._part(tenant, group, eraser, gone)
        ]
        lost = frozenset(each.incident for each in gone)
        self._watched(tenant, eraser, gone)
        Forgetting(desk).forget(tenant, eraser, lost, gone)
        for incident in hit:
            self._reword(tenant, tenant.groups[incident], lost)
        self._reword_merged(tenant, lost)
        self._rearm(tenant)
        desk.state.texts = TemplateCache()
        desk.out.erasures.append(
            Erasure(
                tenant=tenant.name, row=row.id, erase=erase, until=eraser.until, incidents=tuple(sorted(lost)),
                episodes=len(gone),
            )
        )  # fmt: skip
        desk.out.count("erased")

    # ---- incidents -------------------------------------------------------------------------------------------

    def _part(self, tenant: Tenant, group: Group, eraser: Eraser, gone: list[Episode]) -> bool:
        """Take what is meant out of an incident; say whether there was anything."""
        left = parted(group.head, group.progress, group.episodes.values(), eraser)
        if left is None:
            return False
        for each in left.meant:
            self._desk.drop_episode(tenant, (each.source, each.fingerprint, each.starts_at))
        for each in left.masked:
            self._desk.keep_episode(tenant, each)
        gone += left.meant
        for key in group.firing:
            if tenant.firing.get(key[:2], ("",))[0] == group.head.id:
                tenant.end(key[:2])
        tenant.leave(group)
        tenant.adopt(left.group)
        self._settle(tenant, left.group, lost=bool(left.meant))
        return True

    def _settle(self, tenant: Tenant, group: Group, *, lost: bool) -> None:
        """Let the state of an incident follow what is left in it."""
        desk = self._desk
        desk.touch(tenant, group)
        if group.head.state is IncidentState.OPEN and group.episodes and not group.firing:
            group.move(Signal.ALL_ENDED)
            group.progress = replace(group.progress, quiet_at=desk.now, ring_at=None, reminders={})
        if not group.episodes:
            group.progress = replace(group.progress, counted=True)  # it teaches nothing
        if group.head.state is IncidentState.CLOSED and lost:
            self._gathering.settle_over(tenant, group)

    def _reword(self, tenant: Tenant, group: Group, lost: frozenset[str]) -> None:
        """Let an incident speak of what is left in it, and close if that is nothing."""
        lively = group.head.state in _LIVELY
        if group.episodes:
            group.head = rendered(group, self._desk.insight_of(tenant))
            if lively and group.head.id in lost:
                self._events.due(tenant, group, EventKind.UPDATED)
        elif group.head.state is not IncidentState.MERGED:
            group.head = blank_incident(group.head)
            if lively:
                self._aging.close_by_hand(tenant, group, _SAID)

    def _reword_merged(self, tenant: Tenant, lost: frozenset[str]) -> None:
        """Take the last words from incidents whose alerts went on in one that lost some."""
        for group in tenant.groups.values():
            if group.head.state is IncidentState.MERGED and group.head.merged_into in lost:
                group.head = blank_incident(group.head)
                self._desk.touch(tenant, group)

    # ---- alerts ----------------------------------------------------------------------------------------------

    def _watched(self, tenant: Tenant, eraser: Eraser, gone: list[Episode]) -> None:
        """Forget alerts of which nothing is left, and heartbeats that are meant."""
        erased = {(each.source, each.fingerprint) for each in gone}
        for key, watch in sorted(tenant.watches.items()):
            doubtful = watch.disputed_alert
            labels = {} if doubtful is None else doubtful.labels
            is_meant = key in erased or eraser.means(labels, key[1], watch.heard_at)
            if is_meant and key not in tenant.firing and not tenant.homes.get(key):
                self._alerts.keep(tenant, key, None)
            elif (cleaned := eraser.word(watch)) is not watch:
                self._alerts.keep(tenant, key, cleaned)
        for key, beat in sorted(tenant.beats.items()):
            if eraser.means(beat.labels, key[1], beat.heard_at):
                del tenant.beats[key]
                self._desk.out.beats[tenant.name, key[0], key[1]] = None
            elif (cleaned_beat := eraser.word(beat)) is not beat:
                tenant.beats[key] = self._desk.out.beats[tenant.name, key[0], key[1]] = cleaned_beat
