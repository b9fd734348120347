"""The one straight path: row -> notification -> dedup -> family -> incident -> event -> outbox.

Rules: ticks that are due before a row run before it. Events are made at the end of a row or tick. Each part owns
one step (`alerts`, `heartbeats`, `gathering`, `aging`, `events`, `fits`), all work at one `Desk`; here are only
the rows, the clock, and the table of what rings.

Decision: alarms (`Timers`) instead of scanning all incidents each tick; the cost of time passing is the number of
things that are due, not of things that are open.

Decision: a present for each tenant that is behind, rather than one for all. Whoever reads the inbox may let a tenant's
rows wait, so that one in a storm does not keep the others waiting (`bridge.turns`); time goes on without it, and what
its rows make of it is what they would have made in the order of the inbox. Rows that concern all wait until nobody is.

Decision: new settings drop all alarms and the index and derive them anew, exactly as loading does. Adjusting what
is armed would be a second way to the same state, and after a restart another one.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from functools import partial

import msgspec

from bridge.analysis import topology
from bridge.analysis.clustering import Index
from bridge.analysis.settings import AnalysisSettings
from bridge.errors import PayloadError
from bridge.model import OWN_SOURCE, Fault, InboxRow, Notification, RowKind
from bridge.pipeline.aging import Aging
from bridge.pipeline.alerts import Alerts
from bridge.pipeline.counts import Counts
from bridge.pipeline.desk import Desk
from bridge.pipeline.erasing import Erasing
from bridge.pipeline.events import Events
from bridge.pipeline.feedback import Corrections
from bridge.pipeline.fits import Fits
from bridge.pipeline.forecasts import Forecasts
from bridge.pipeline.gathering import Gathering
from bridge.pipeline.heartbeats import Heartbeats
from bridge.pipeline.linkers import Linkers
from bridge.pipeline.links import Links
from bridge.pipeline.measuring import Measuring
from bridge.pipeline.quotas import Quotas
from bridge.pipeline.reclustering import Reclustering
from bridge.pipeline.reconciling import Reconciling
from bridge.pipeline.redacting import Redacting
from bridge.pipeline.regrouping import Regrouping
from bridge.pipeline.reviews import Reviews
from bridge.pipeline.state import EPOCH, Outcome, State, Tenant, Timers, day_of, midnight_of, next_of, time_of
from bridge.pipeline.surges import Surges
from bridge.pipeline.tidying import tidy
from bridge.pipeline.unusual import Unusual
from bridge.webhooks import alertmanager, grafana

#: A restart within this time is none for those who send: Alertmanager tries again.
DEAF_S = 60.0
#: Alerts and alarms between two signs of life: about 50 ms.
PROGRESS_STEPS = 200


#: Rows that concern all, whatever tenant their sender wrote on them.
_OF_ALL = frozenset({RowKind.CLOCK, RowKind.STARTED, RowKind.SETTINGS})


class Path:
    """One run along the path: the state it changes and the outcome it fills."""

    def __init__(
        self,
        state: State,
        outcome: Outcome,
        progress: Callable[[], None] = lambda: None,
        redacting: Redacting | None = None,
    ) -> None:
        desk = self._desk = Desk(state, outcome)
        self._redacting = redacting or Redacting()
        self._progress = progress
        self._steps = 0
        self._events = Events(desk)
        self._links = Links(desk)
        self._linkers = Linkers(desk, self._links)
        self._gathering = Gathering(desk, self._events, self._links)
        regrouping = Regrouping(desk, self._events, self._gathering)
        self._forecasts = Forecasts(desk, progress)
        self._aging = Aging(desk, self._events, self._gathering, regrouping, self._forecasts)
        self._corrections = Corrections(desk, self._events, self._aging, regrouping)
        self._unusual = Unusual(desk, self._events, self._gathering)
        self._counts = Counts(desk, self._events, self._unusual)
        surges = Surges(desk, regrouping)
        self._alerts = Alerts(desk, self._gathering, surges, self._linkers, self._counts)
        self._heartbeats = Heartbeats(desk, self._gathering)
        self._fits = Fits(desk, self._gathering)
        self._quotas = Quotas(desk, self._fits)
        self._reviews = Reviews(desk)
        self._reconciling = Reconciling(desk, self._alerts, self._gathering, self._heartbeats, self._step)
        self._rows: dict[RowKind, Callable[[InboxRow], None]] = {
            RowKind.WEBHOOK: partial(self._webhook, alertmanager.parse),
            RowKind.GRAFANA: partial(self._webhook, grafana.parse),
            RowKind.REJECTED: self._rejected,
            RowKind.CLOCK: lambda _row: None,  # time has run, that is all
            RowKind.STARTED: lambda _row: None,  # see `take`
            RowKind.VECTORS: self._fits.vectors,
            RowKind.FAMILIES: self._fits.families,
            RowKind.MODE: self._fits.mode,
            RowKind.SETTINGS: self._new_settings,
            RowKind.TOPOLOGY: self._new_chart,
            RowKind.LINKER: self._linkers.linker,
            RowKind.FEEDBACK: self._feedback,
            RowKind.FOUND: self._reconciling.found,
            RowKind.RECORDED: self._reconciling.recorded,
            RowKind.SAMPLES: Measuring(desk, self._unusual, self._reviews, self._step).samples,
            RowKind.REVIEWS: self._reviews.take,
            RowKind.REPLAYED: lambda _row: None,  # the store marks the entry
            RowKind.ERASE: Erasing(
                desk, self._events, self._gathering, self._aging, self._alerts, self.rearm
            ).take,
        }
        self._rings: dict[str, Callable[[Tenant, tuple[str, ...]], None]] = {
            "settle": self._alerts.settle,
            "silent": self._alerts.silent,
            "beat": self._heartbeats.late,
            "close": self._aging.close,
            "merge": self._aging.merge,
            "forget": self._aging.forget,
            "cool": self._gathering.cool,
            "update": self._events.update,
            "ring": self._events.ring,
            "remind": self._events.remind,
            "fit": self._fits.fit,
            "forecast": self._forecasts.tick,
            "learn": self._linkers.learn,
            "count": self._counts.tick,
            "review": self._reviews.review,
            "quota": self._quotas.look,
            "calm": self._unusual.calm,
            "regroup": Reclustering(desk, self._links, regrouping).regroup,
        }

    # ---- rows and time -------------------------------------------------------------------------------------

    def take(self, row: InboxRow) -> None:
        """Let time run up to the row, then do what it says, without what is to be taken out of it."""
        row = self._redacted(row)
        if row.kind is RowKind.STARTED:
            self._resume(row.received_at)
        known = None if row.kind in _OF_ALL else self._desk.state.tenants.get(row.tenant)
        if known is not None and known.record.behind_at is not None:
            self._follow(known, row.received_at)
        else:
            self.run_clock(row.received_at)
        if known is not None:
            self._desk.turn_to(known)
        else:
            self._desk.turn_to_all()
        self._rows[row.kind](row)
        self._events.make()

    def _redacted(self, row: InboxRow) -> InboxRow:
        settings, out = self._desk.settings, self._desk.out
        kept = self._redacting.row(row, settings)
        out.rows.append(kept)
        counts = self._redacting.of(settings, row.tenant).counts
        for kind, number in counts.items():
            out.count(f"redacted:{kind}", number)
        counts.clear()
        return kept

    def hold(self, names: Collection[str]) -> None:
        """Let tenants be behind from here on: time goes on for the others, and for each of these with its own rows."""
        for name in sorted(names):
            tenant = self._desk.tenant(name)
            if tenant.record.behind_at is None:
                self._desk.keep_behind(tenant, self._desk.state.common.clock)

    def let_go(self, names: Collection[str]) -> None:
        """Let those that were behind and are not among `names` be where the others are."""
        there = [
            (tenant, tenant.record.behind_at)
            for tenant in self._desk.tenants()
            if tenant.record.behind_at is not None and tenant.name not in names
        ]
        if there:
            self.run_clock(max(at for _, at in there))
        for tenant, at in there:
            self._run([tenant], at, self._desk.state.common.clock)
            self._desk.keep_behind(tenant, None)

    def run_clock(self, until: datetime, *, ignore: Callable[[str], bool] = lambda _kind: False) -> None:
        """Ring every alarm that is due at a tick not after `until`; `ignore` names kinds that do not ring.

        It is `until` then. Time does not go back: after a later row an earlier one counts as coming now.
        """
        desk = self._desk
        before = desk.state.common.clock
        until = max(until, before)
        self._run([each for each in desk.tenants() if each.record.behind_at is None], before, until, ignore)
        if day_of(until) != day_of(before):
            desk.now = midnight_of(until)
            self._reviews.choose()
        desk.now = until
        desk.keep_common(msgspec.structs.replace(desk.state.common, clock=until))

    def _follow(self, tenant: Tenant, until: datetime) -> None:
        """Let time run for one tenant that is behind."""
        before = tenant.record.behind_at or until
        until = max(until, before)
        self._run([tenant], before, until)
        self._desk.keep_behind(tenant, until)

    def _run(
        self,
        tenants: Sequence[Tenant],
        before: datetime,
        until: datetime,
        ignore: Callable[[str], bool] = lambda _kind: False,
    ) -> None:
        """Ring these tenants' alarms, and tidy at each midnight after `before`: when, is no other tenant's business."""
        midnight = midnight_of(before) + timedelta(days=1)
        while tenants and midnight <= until and before != EPOCH:
            self._ring_through(tenants, midnight, ignore)
            for tenant in tenants:
                self._desk.turn_to(tenant)
                self._desk.now = midnight
                tidy(self._desk, tenant)
            midnight += timedelta(days=1)
        self._ring_through(tenants, until, ignore)

    def _ring_through(
        self, tenants: Sequence[Tenant], until: datetime, ignore: Callable[[str], bool]
    ) -> None:
        while (tick := next_of(tenants)) is not None and time_of(tick) <= until:
            for tenant in tenants:
                if tenant.timers.next_tick() == tick:
                    self._desk.turn_to(tenant)
                    self._desk.now = time_of(tick)
                    self._ring(tenant, tick, ignore)
                    self._events.make()

    def _resume(self, at: datetime) -> None:
        """Let silence count from `at` if nobody listened until then: before any alarm of that time rings."""
        common = self._desk.state.common
        if at - common.clock > timedelta(seconds=DEAF_S) and common.clock != EPOCH:
            self._desk.keep_common(msgspec.structs.replace(common, resumed_at=at))

    def _ring(self, tenant: Tenant, tick: int, ignore: Callable[[str], bool]) -> None:
        while tenant.timers.next_tick() == tick:
            _, kind, key = tenant.timers.ring()
            self._step()
            if not ignore(kind):
                self._rings[kind](tenant, key)

    def _webhook(self, parse: Callable[..., Notification], row: InboxRow) -> None:
        try:
            notification = parse(row.body, tenant=row.tenant, source=row.source)
        except PayloadError as error:
            self._desk.quarantine(row, "body", Fault(reason=str(error), body=row.body))
            return
        tenant = self._desk.tenant(row.tenant)
        if row.source != OWN_SOURCE:
            self._quotas.hear(tenant, len(notification.alerts))
        for fault in notification.faults:
            self._desk.quarantine(row, "alert", fault)
        for alert in notification.alerts:
            self._step()
            if not self._heartbeats.hear(tenant, alert):
                self._alerts.hear(tenant, alert, notification)

    def _step(self) -> None:
        """Say now and then that a large webhook, or a tick at which much is due, is being worked on."""
        self._steps += 1
        if self._steps % PROGRESS_STEPS == 0:
            self._progress()

    def _rejected(self, row: InboxRow) -> None:
        told = msgspec.json.decode(row.body)
        fault = Fault(reason=str(told["reason"]), body=base64.b64decode(told["body_base64"]))
        self._desk.quarantine(row, "body", fault)

    def _new_chart(self, row: InboxRow) -> None:
        """Let a topology act from here on. One that cannot be used is set aside, and the one before goes on."""
        try:
            chart = topology.read(row.body)
        except ValueError as error:
            self._desk.quarantine(row, "body", Fault(reason=str(error), body=row.body))
            return
        self._desk.keep_chart(row.tenant, chart)

    def _feedback(self, row: InboxRow) -> None:
        """Do what a person said, and learn from it before long."""
        self._corrections.take(row)
        self._linkers.plan(self._desk.tenant(row.tenant))

    # ---- settings and loading ------------------------------------------------------------------------------

    def _new_settings(self, row: InboxRow) -> None:
        settings = msgspec.json.decode(row.body, type=AnalysisSettings)
        if settings == self._desk.state.common.settings:
            return  # a front says them at each start, and a renewal costs as much as all that is open
        before = self._desk.state.router
        self._desk.use(settings)
        self._heartbeats.settle_in()
        for tenant in self._desk.tenants():
            self._desk.turn_to(tenant)
            self._quotas.look(tenant)
            self._heartbeats.renew(tenant, self._alerts)
            for group in tenant.groups.values():
                self._desk.state.router.renew(group, before, self._desk.now)
                self._aging.renew(tenant, group)
                self._desk.touch(tenant, group)
            self.rearm(tenant)

    def rearm(self, tenant: Tenant) -> None:
        """Derive alarms and index from what is stored of a tenant."""
        self._desk.turn_to(tenant)
        tenant.timers, tenant.index = Timers(), Index()
        self._alerts.rearm(tenant)
        self._heartbeats.rearm(tenant)
        for group in list(tenant.groups.values()):
            self._aging.rearm(tenant, group)
            self._events.rearm(tenant, group)
        self._fits.plan(tenant)
        self._counts.rearm(tenant)
        self._unusual.rearm(tenant)
        self._links.rearm(tenant)
        self._linkers.rearm(tenant)
        self._forecasts.rearm(tenant)
        self._reviews.rearm(tenant)
        self._quotas.rearm(tenant)
