"""Reconciling: what Alertmanager's API and its event recorder say, held against what webhooks have told.

Rules: what follows is decided by `analysis.standing`; here it is done, for the alerts of one source, in the order of
their fingerprints. An alert that a webhook has told of and that is held back is marked and believed on; one that was
never told of is nobody's news: it is noted by name (`TenantRecord.hidden`) and opens nothing, since whoever silenced it
chose not to hear of it. Heartbeats are left alone: they prove that webhooks come, which a list does not.

Of the recorder's events those count that no webhook brings: what a silence or an inhibition held back, and the end of
an alert while it was held back. The others are counted in the metrics and change nothing, for a notification tells
neither who got it nor whether that was us.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec
from msgspec.structs import replace

from bridge.analysis import dedup, standing
from bridge.analysis.dedup import Signal, Watch, WatchState
from bridge.analysis.incidents import AlertKey
from bridge.analysis.rounds import Content, Found, Standing
from bridge.errors import PayloadError
from bridge.model import Alert, Fault, InboxRow, Notification, Suppression
from bridge.pipeline.alerts import Alerts
from bridge.pipeline.desk import Desk
from bridge.pipeline.gathering import Gathering
from bridge.pipeline.heartbeats import Heartbeats
from bridge.pipeline.state import Hidden, Tenant
from bridge.webhooks.recorder import parse_record

#: What is listed is written down as heard at most so often in the time for which it is believed.
REFRESHES = 4
#: Names of held back alerts that are remembered, of the newest.
MAX_HIDDEN = 100


class Reconciling:
    """Brings what is believed up to what is true."""

    def __init__(
        self,
        desk: Desk,
        alerts: Alerts,
        gathering: Gathering,
        heartbeats: Heartbeats,
        step: Callable[[], None],
    ) -> None:
        self._desk = desk
        self._alerts = alerts
        self._gathering = gathering
        self._heartbeats = heartbeats
        self._step = step

    # ---- the API -------------------------------------------------------------------------------------------

    def found(self, row: InboxRow) -> None:
        """Take in what a round over all peers of a source found."""
        try:
            found = msgspec.json.decode(row.body, type=Found)
            faults = [
                Fault(reason=each.reason, body=base64.b64decode(each.body_base64)) for each in found.unusable
            ]
        except (msgspec.MsgspecError, binascii.Error, UnicodeDecodeError) as error:
            self._desk.quarantine(
                row, "body", Fault(reason=f"not what a round finds: {error}", body=row.body)
            )
            return
        tenant = self._desk.tenant(row.tenant)
        for fault in faults:
            self._desk.quarantine(row, "alert", fault)
        listed = {each.fingerprint: each for each in found.listed}
        for fingerprint, each in sorted(listed.items()):
            self._step()
            self._listed(tenant, (row.source, fingerprint), each, found)
        if not found.silent:
            self._missing(tenant, row.source, listed, found)

    def _listed(self, tenant: Tenant, key: AlertKey, each: Standing, found: Found) -> None:
        watch = tenant.watches.get(key)
        if each.content is not None and self._heartbeats.expects(each.content.labels):
            return
        ruling = self._ruled(tenant, key, watch, each, found)
        if watch is None or watch.state is not WatchState.FIRING:
            if ruling.signal is Signal.LISTED:
                self._believe(tenant, key, watch, each, ruling.why)
            elif each.suppressed and each.content is not None:
                self._note_hidden(tenant, key, each.content.labels, each.suppressed)
            return
        if ruling.signal is Signal.LISTED:
            self._refresh(tenant, key, watch)
            self._mark(tenant, key, each.suppressed)

    def _missing(self, tenant: Tenant, source: str, listed: dict[str, Standing], found: Found) -> None:
        """End what is believed to fire and is listed nowhere, and take back what was in doubt."""
        believed = {WatchState.FIRING, WatchState.DISPUTED}
        missing = sorted(
            key
            for key, watch in tenant.watches.items()
            if key[0] == source and key[1] not in listed and watch.state in believed
        )
        for key in missing:
            self._step()
            watch = tenant.watches[key]
            ruling = self._ruled(tenant, key, watch, None, found)
            if ruling.signal is not Signal.ABSENT:
                continue
            missed_at = self._desk.now - timedelta(seconds=found.left.get(key[1], 0.0))
            self._desk.out.count(
                "reconciled:" + ("ended" if watch.state is WatchState.FIRING else "taken_back")
            )
            self._alerts.miss(tenant, key, dedup.absent(watch, missed_at, self._desk.now), ruling.why)

    def _ruled(
        self, tenant: Tenant, key: AlertKey, watch: Watch | None, each: Standing | None, found: Found
    ) -> standing.Ruling:
        settle = self._desk.settle(tenant, key[0])
        left_s = found.left.get(key[1])
        return standing.ruled(watch, each, found, self._desk.now, left_s=left_s, settle=settle)

    def _believe(self, tenant: Tenant, key: AlertKey, watch: Watch | None, each: Standing, why: str) -> None:
        """Let an alert fire that no webhook named, or that was in doubt."""
        if watch is not None and watch.disputed_alert is not None:
            alert, what = watch.disputed_alert, "settled"
        elif each.content is not None:
            alert, what = _alert(tenant, key, each.starts_at, each.content), "opened"
        else:
            return  # what it says of itself comes again with a later round
        self._desk.out.count(f"reconciled:{what}")
        self._alerts.believe(tenant, alert, why)

    def _refresh(self, tenant: Tenant, key: AlertKey, watch: Watch) -> None:
        """Let a listed alert be believed on; seldom, since each time is a row to write."""
        stale_at = watch.heard_at + self._desk.patience(tenant, key[0]) / REFRESHES
        if not watch.listed or self._desk.now >= stale_at:
            heard_at = self._desk.now if self._desk.now >= stale_at else watch.heard_at
            refreshed = dedup.listed(watch, _nobody(tenant, key, watch), heard_at)
            self._alerts.keep(tenant, key, refreshed.watch)

    # ---- the event recorder --------------------------------------------------------------------------------

    def recorded(self, row: InboxRow) -> None:
        """Take in what the event recorder sent."""
        try:
            record = parse_record(row.body, tenant=row.tenant, source=row.source)
        except PayloadError as error:
            self._desk.quarantine(row, "body", Fault(reason=str(error), body=row.body))
            return
        tenant = self._desk.tenant(row.tenant)
        for fault in record.faults:
            self._desk.quarantine(row, "alert", fault)
        for kind, number in record.counts.items():
            self._desk.out.count(f"recorded:{kind}", number)
        for held in record.held:
            self._step()
            if not self._heartbeats.expects(held.labels):
                self._held(tenant, (row.source, held.fingerprint), held.labels, held.by)
        told = Notification(
            tenant=row.tenant,
            source=row.source,
            group_key="",
            external_url=record.peer,
            alerts=record.resolved,
        )
        for alert in record.resolved:
            self._step()
            watch = tenant.watches.get((alert.source, alert.fingerprint))
            if watch is not None and watch.state in {WatchState.FIRING, WatchState.EXPIRED}:
                self._alerts.hear(tenant, alert, told)

    def _held(self, tenant: Tenant, key: AlertKey, labels: dict[str, str], by: Suppression) -> None:
        watch = tenant.watches.get(key)
        if watch is None or watch.state is not WatchState.FIRING:
            self._note_hidden(tenant, key, labels, by)
            return
        if self._desk.now >= watch.heard_at + self._desk.patience(tenant, key[0]) / REFRESHES:
            self._alerts.keep(tenant, key, replace(watch, heard_at=self._desk.now))
        self._mark(tenant, key, by)

    # ---- what is held back ---------------------------------------------------------------------------------

    def _mark(self, tenant: Tenant, key: AlertKey, suppressed: Suppression) -> None:
        if self._gathering.mark(tenant, key, suppressed):
            self._desk.out.count("reconciled:" + ("suppressed" if suppressed else "unsuppressed"))

    def _note_hidden(self, tenant: Tenant, key: AlertKey, labels: dict[str, str], by: Suppression) -> None:
        """Remember by name that something is held back that was never told of."""
        name = labels.get("alertname") or "unnamed alert"
        before = tenant.record.hidden.get(name)
        now = self._desk.now
        noted = Hidden(source=key[0], by=by, first_at=now if before is None else before.first_at, last_at=now)
        hidden = {**tenant.record.hidden, name: noted}
        while len(hidden) > MAX_HIDDEN:
            del hidden[min(hidden, key=lambda one: (hidden[one].last_at, one))]
        self._desk.out.count("reconciled:hidden")
        self._desk.keep_record(tenant, replace(tenant.record, hidden=dict(sorted(hidden.items()))))


def _alert(tenant: Tenant, key: AlertKey, starts_at: datetime, content: Content) -> Alert:
    return Alert(
        tenant=tenant.name, source=key[0], fingerprint=key[1], labels=content.labels, firing=True,
        annotations=content.annotations, starts_at=starts_at, ends_at=None, generator_url=content.generator_url,
    )  # fmt: skip


def _nobody(tenant: Tenant, key: AlertKey, watch: Watch) -> Alert:
    """Return an alert without a content, where nothing but its being listed counts."""
    return _alert(tenant, key, watch.fired_at, Content(labels={}, annotations={}))
