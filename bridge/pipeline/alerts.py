"""Alerts: what one alert changes, from dedup to its episode.

Rules: a resend changes nothing but the watch; only what dedup calls an opening becomes an episode, and every
episode teaches what is usual, and which services follow which.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec.structs import replace

from bridge.analysis import dedup, entities, linking
from bridge.analysis.clustering import Newcomer
from bridge.analysis.dedup import Watch, WatchState
from bridge.analysis.families import own_family
from bridge.analysis.incidents import AlertKey
from bridge.model import OWN_SOURCE, Alert, Change, Episode, Notification, Origin
from bridge.pipeline import precedences
from bridge.pipeline.counts import Counts
from bridge.pipeline.desk import Desk
from bridge.pipeline.gathering import Gathering
from bridge.pipeline.linkers import Linkers
from bridge.pipeline.state import Tenant
from bridge.pipeline.surges import Surges


class Alerts:
    """Hears alerts, and their silence."""

    def __init__(
        self, desk: Desk, gathering: Gathering, surges: Surges, linkers: Linkers, counts: Counts
    ) -> None:
        self._desk = desk
        self._gathering = gathering
        self._surges = surges
        self._linkers = linkers
        self._counts = counts

    def hear(self, tenant: Tenant, alert: Alert, notification: Notification) -> None:
        """Take in one alert of a webhook."""
        key = (alert.source, alert.fingerprint)
        before = tenant.watches.get(key)
        decision = dedup.observe(
            before, alert, self._desk.now, peer=notification.external_url,
            unheard_since=tenant.record.forgotten_start if before is None else None,
        )  # fmt: skip
        self._desk.out.count(f"change:{decision.change.value}")
        if alert.firing and before is not None and before.state is WatchState.FIRING:
            self._gathering.mark(tenant, key, "")  # Alertmanager tells of nothing that it holds back
        watch = decision.watch
        if watch is not None and decision.change is Change.DISPUTED:
            watch = replace(watch, disputed_group=notification.group_key)
        self.keep(tenant, key, watch)
        if decision.opens is not None:
            self._open(tenant, alert, decision, notification.group_key, before)
        if decision.ends is not None:
            self._gathering.end(tenant, key, decision.ends)
        elif decision.change is Change.ALTERED:
            self._gathering.alter(tenant, key, alert.annotations)

    def believe(self, tenant: Tenant, alert: Alert, why: str) -> None:
        """Let an alert fire that Alertmanager lists; `why` is added to why it is where it is."""
        key = (alert.source, alert.fingerprint)
        before = tenant.watches.get(key)
        decision = dedup.listed(
            before, alert, self._desk.now,
            unheard_since=tenant.record.forgotten_start if before is None else None,
        )  # fmt: skip
        self._desk.out.count(f"change:{decision.change.value}")
        self.keep(tenant, key, decision.watch)
        if decision.opens is not None:
            group_key = "" if before is None else before.disputed_group
            self._open(tenant, alert, decision, group_key, before)
            self._gathering.remark(tenant, key, why)

    def miss(self, tenant: Tenant, key: AlertKey, decision: dedup.Decision, why: str) -> None:
        """Act on a decision about an alert that no Alertmanager lists."""
        self._desk.out.count(f"change:{decision.change.value}")
        self.keep(tenant, key, decision.watch)
        if decision.ends is not None:
            self._gathering.end(tenant, key, decision.ends, why=why)

    def drop(self, tenant: Tenant, key: AlertKey) -> None:
        """Let go of an alert that became a heartbeat: its episode ends, its watch is forgotten."""
        self.keep(tenant, key, None)
        self._gathering.end(tenant, key, self._desk.now)

    def _open(
        self, tenant: Tenant, alert: Alert, decision: dedup.Decision, group_key: str, before: Watch | None
    ) -> None:
        desk = self._desk
        template = desk.template_of(tenant, alert)
        episode = Episode(
            tenant=tenant.name, source=alert.source, fingerprint=alert.fingerprint,
            starts_at=decision.opens or desk.now, ends_at=None, seen_at=desk.now, labels=alert.labels,
            annotations=alert.annotations, generator_url=alert.generator_url, group_key=group_key,
            severity=desk.severity_of(alert), template=template, incident="", why="",
            disputed=decision.disputed,
        )  # fmt: skip
        origin: Origin = "tocsin" if alert.source == OWN_SOURCE else "alerts"
        newcomer = Newcomer(
            tokens=entities.tokens_of(alert.labels), origin=origin, template=template, at=desk.now,
            group=linking.group_token(alert.source, group_key),
            family=linking.family_token(desk.family_of(tenant, template)),
        )  # fmt: skip
        heard_at = None if before is None else before.heard_at
        along = self._gathering.join(tenant, episode, newcomer, heard_at=heard_at)
        if along:
            self._surges.take_along(tenant, episode, along)
        service = desk.topology_of(tenant).service_of(episode.labels, newcomer.tokens)
        if origin == "alerts":
            is_new = own_family(template) not in tenant.habits
            self._counts.count(tenant, episode, service, is_new=is_new)
        desk.learn(tenant, template)
        if origin == "alerts":
            self._linkers.sight(tenant, episode)
            precedences.hear(desk, tenant, episode, service)

    def keep(self, tenant: Tenant, key: AlertKey, watch: Watch | None) -> None:
        """Remember an alert as `watch`, or forget it, and arm what is expected of it."""
        self._desk.out.watches[tenant.name, key[0], key[1]] = watch
        if watch is None:
            self._forget(tenant, key)
            return
        tenant.watches[key] = watch
        self._arm(tenant, key, watch)

    def _forget(self, tenant: Tenant, key: AlertKey) -> None:
        """Let go of a watch, but for when the newest episode began whose watch was let go."""
        watch = tenant.watches.pop(key, None)
        newest = tenant.record.forgotten_start
        if watch is not None and (newest is None or newest < watch.starts_at):
            self._desk.keep_record(tenant, replace(tenant.record, forgotten_start=watch.starts_at))

    # ---- alarms --------------------------------------------------------------------------------------------

    def settle(self, tenant: Tenant, key: tuple[str, ...]) -> None:
        """Let a disputed firing count once its time is over."""
        alert_key = (key[0], key[1])
        watch = tenant.watches.get(alert_key)
        if watch is None or watch.disputed_alert is None or watch.disputed_at is None:
            return
        if self._desk.now < self._settles_at(watch.disputed_at):
            self._arm(tenant, alert_key, watch)
            return
        decision = dedup.settle(watch, self._desk.now)
        self._desk.out.count(f"change:{decision.change.value}")
        self.keep(tenant, alert_key, decision.watch)
        self._open(tenant, watch.disputed_alert, decision, watch.disputed_group, watch)

    def silent(self, tenant: Tenant, key: tuple[str, ...]) -> None:
        """Stop believing an alert that was not named for too long, or forget it."""
        alert_key = (key[0], key[1])
        watch = tenant.watches.get(alert_key)
        if watch is None:
            return
        disputed = watch.state is WatchState.DISPUTED  # heard just now, whatever it was before
        if disputed or self._desk.now < self._desk.believed_until(tenant, key[0], watch.heard_at):
            self._arm(tenant, alert_key, watch)
            return
        decision = dedup.silence(watch, self._desk.now)
        if decision.change is not Change.STALE:  # to forget what is over is no alert
            self._desk.out.count(f"change:{decision.change.value}")
        self.keep(tenant, alert_key, decision.watch)
        if decision.ends is not None:
            self._gathering.end(tenant, alert_key, self._desk.now, expired=True)

    def rearm(self, tenant: Tenant) -> None:
        """Arm what is still expected of every alert."""
        for key, watch in tenant.watches.items():
            self._arm(tenant, key, watch)

    def _arm(self, tenant: Tenant, key: AlertKey, watch: Watch) -> None:
        if watch.state is WatchState.DISPUTED and watch.disputed_at is not None:
            self._desk.arm(tenant, "settle", key, self._settles_at(watch.disputed_at))
        else:
            until = self._desk.believed_until(tenant, key[0], watch.heard_at)
            self._desk.arm(tenant, "silent", key, until)

    def _settles_at(self, disputed_at: datetime) -> datetime:
        return disputed_at + timedelta(seconds=self._desk.settings.dispute_s)
