"""The desk: the state in hand, the outcome being filled, the present moment, and the small steps all others take.

Rules: `now` is the row's time or the tick's own, never a clock, and for no tenant does it go back: whoever begins with
a tenant's row or alarm calls `turn_to` first. Whatever is kept in the state is written down in the outcome by the same
call, so that storing the outcome and loading it gives the same state. An alarm is never armed in the past: one that is
overdue rings at the next tick.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec.structs import replace

from bridge.analysis import anomaly, dedup, incidents, rounds
from bridge.analysis.families import EncodeAsk, own_family
from bridge.analysis.feedback import Action
from bridge.analysis.incidents import EpisodeKey, Group
from bridge.analysis.lessons import Lesson
from bridge.analysis.quotas import Quotas
from bridge.analysis.roots import Insight
from bridge.analysis.routing import Router
from bridge.analysis.settings import AnalysisSettings, Source
from bridge.analysis.topology import Chart, Topology
from bridge.model import Alert, Episode, Fault, InboxRow, Severity, Template
from bridge.pipeline.state import (
    Common,
    Outcome,
    Quarantined,
    State,
    TemplateRecord,
    Tenant,
    TenantRecord,
    day_of,
)

#: The template of all texts that are more than a tenant may have.
OVER_QUOTA = Template(id="0" * 16, text="one of more texts than the quota of templates allows")
#: How much a tenant may take of which nothing else was said.
USUAL = Quotas()


class Desk:
    """One run's state and outcome."""

    def __init__(self, state: State, outcome: Outcome) -> None:
        self.state = state
        self.out = outcome
        self.now = state.common.clock
        self.settings = state.common.settings
        self.turn_to_all()
        self._sources = _sources_of(self.settings)
        self._quotas = _quotas_of(self.settings)

    def turn_to(self, tenant: Tenant) -> None:
        """Work for one tenant from here on: at its own present, with models or without as it stands with this one."""
        self.now = tenant.record.behind_at or self.state.common.clock
        self.free = self.is_free(tenant)

    def turn_to_all(self) -> None:
        """Work for all tenants, or one that is new, from here on."""
        self.now = self.state.common.clock
        self.free = self.state.common.model_free or not self.settings.models

    def is_free(self, tenant: Tenant) -> bool:
        """Say whether a tenant's alerts are thought without models."""
        told = tenant.record.model_free
        free = self.state.common.model_free if told is None else told
        return free or not self.settings.models or bool(tenant.record.usage.over)

    # ---- what all tenants share ----------------------------------------------------------------------------

    def keep_common(self, common: Common) -> None:
        """Replace what all tenants share; new settings are in force from here on."""
        if common.settings is not self.settings:
            self.settings = common.settings
            self.state.router = Router(common.settings)
            for tenant in self.state.tenants.values():
                tenant.climb_by(common.settings.severity_label)
            self._sources = _sources_of(common.settings)
            self._quotas = _quotas_of(common.settings)
            self.state.redraw()  # alerts may name their service by another label
        self.state.common = self.out.common = common

    def use(self, settings: AnalysisSettings) -> None:
        """Put settings in force."""
        self.keep_common(replace(self.state.common, settings=settings))

    def tenant(self, name: str) -> Tenant:
        """Return the tenant, made and kept at its first row."""
        found = self.state.tenants.get(name)
        if found is None:
            found = self.state.tenant(name)
            self.out.tenants[name] = found.record
        return found

    def tenants(self) -> list[Tenant]:
        """Return all tenants by name: the order they were first heard in is lost in a restart."""
        return [tenant for _, tenant in sorted(self.state.tenants.items())]

    # ---- keeping -------------------------------------------------------------------------------------------

    def arm(self, tenant: Tenant, kind: str, key: tuple[str, ...], at: datetime) -> None:
        """Let an alarm ring at the first tick not before `at`, and not before now."""
        tenant.timers.arm(kind, key, max(at, self.now))

    def keep_record(self, tenant: Tenant, record: TenantRecord) -> None:
        """Keep what one tenant's thinking remembers."""
        tenant.record = self.out.tenants[tenant.name] = record

    def keep_behind(self, tenant: Tenant, at: datetime | None) -> None:
        """Let a tenant that is behind be at a time of its own; None: it is where the others are."""
        self.keep_record(tenant, replace(tenant.record, behind_at=at))

    def keep_chart(self, tenant: str, chart: Chart) -> None:
        """Let what one origin knows be used from here on; `tenant` "" means by all of them."""
        if chart != self.state.charts.get((tenant, chart.origin), Chart(origin=chart.origin)):
            kept = chart if chart.services else None
            self.state.keep_chart(tenant, chart.origin, kept)
            self.out.charts[tenant, chart.origin] = kept

    def keep_template(self, tenant: Tenant, record: TemplateRecord) -> None:
        """Keep a template in its newest form."""
        tenant.templates[record.id] = self.out.templates[tenant.name, record.id] = record

    def drop_template(self, tenant: Tenant, template: str) -> None:
        """Forget a template."""
        del tenant.templates[template]
        self.out.templates[tenant.name, template] = None

    def drop_habit(self, tenant: Tenant, family: str) -> None:
        """Forget what is usual for a family; does nothing where nothing is known."""
        if tenant.habits.pop(family, None) is not None:
            self.out.habits[tenant.name, family] = None

    def drop_sighting(self, tenant: Tenant, number: int) -> None:
        """Forget an alert that links are learned from."""
        del tenant.sightings[number]
        self.out.sightings[tenant.name, number] = None

    def keep_action(self, tenant: Tenant, action: Action) -> None:
        """Keep what a person did in its newest form."""
        tenant.actions[action.id] = self.out.actions[tenant.name, action.id] = action

    def drop_action(self, tenant: Tenant, action: str) -> None:
        """Forget what a person did, with what it taught."""
        del tenant.actions[action]
        self.out.actions[tenant.name, action] = None
        self.drop_lesson(tenant, action)

    def keep_lesson(self, tenant: Tenant, lesson: Lesson) -> None:
        """Keep what a correction teaches."""
        tenant.lessons[lesson.action] = self.out.lessons[tenant.name, lesson.action] = lesson

    def drop_lesson(self, tenant: Tenant, action: str) -> None:
        """Forget what an action taught; does nothing where it taught nothing."""
        if tenant.lessons.pop(action, None) is not None:
            self.out.lessons[tenant.name, action] = None

    def keep_episode(self, tenant: Tenant, episode: Episode) -> None:
        """Have an episode stored in its newest form; its incident holds it."""
        key = (tenant.name, episode.source, episode.fingerprint, episode.starts_at)
        self.out.episodes[key] = episode

    def drop_episode(self, tenant: Tenant, key: EpisodeKey) -> None:
        """Have an episode deleted; its incident holds it no more."""
        self.out.episodes[tenant.name, *key] = None

    def touch(self, tenant: Tenant, group: Group) -> None:
        """Have an incident stored as it stands at the end."""
        self.out.touched[tenant.name, group.head.id] = group

    def forget_later(self, tenant: Tenant, group: Group, over_since: datetime) -> None:
        """Remember an incident that is over for as long as it can reopen, or the ends it gave up can be told."""
        # A second more, so that it is never forgotten at the tick that closed it.
        due = over_since + timedelta(seconds=self.settings.reopen_within_s + 1.0)
        if incidents.gave_up(group):
            sources = {episode.source for episode in group.newest() if episode.expired}
            # From the end on, whenever a front resumed: what is loaded is bounded by the same time.
            due = max(due, *(over_since + self.patience(tenant, source) for source in sources))
        group.progress = replace(group.progress, forget_at=due)
        self.arm(tenant, "forget", (group.head.id,), due)

    def quarantine(self, row: InboxRow, what: str, fault: Fault) -> None:
        """Set bytes aside that cannot be used; `what` is "alert" or "body"."""
        self.out.count("quarantined")
        self.out.quarantined.append(
            Quarantined(
                tenant=row.tenant, source=row.source, received_at=row.received_at, inbox_id=row.id, what=what,
                reason=fault.reason, body=fault.body,
            )
        )  # fmt: skip

    # ---- reading an alert ----------------------------------------------------------------------------------

    def template_of(self, tenant: Tenant, alert: Alert) -> str:
        """Return the id of the alert's template; one that was never seen is kept, and a vector asked for.

        Of a tenant that has more than it may have, all that are new are one.
        """
        template = self.state.texts.template_of(alert)
        over = tenant.record.usage.over
        if "templates" in over and template.id not in tenant.templates:
            template = OVER_QUOTA
        known, today = tenant.templates.get(template.id), day_of(self.now)
        if known is None:
            self.keep_template(tenant, TemplateRecord(id=template.id, text=template.text, used_day=today))
            if not over:
                self.out.asks.append(EncodeAsk(tenant=tenant.name, templates=(template,)))
        elif known.used_day != today:
            self.keep_template(tenant, replace(known, used_day=today))
        return template.id

    def learn(self, tenant: Tenant, template: str) -> None:
        """Learn from an episode that opens what is usual.

        For its template always, so that the habit is there without models, too, and for the family that HDBSCAN
        put the template into.
        """
        for kind in dict.fromkeys((own_family(template), tenant.templates[template].family)):
            if kind:
                habit = anomaly.learn(tenant.habits.get(kind), self.now)
                tenant.habits[kind] = self.out.habits[tenant.name, kind] = habit
        usual = anomaly.learn(tenant.record.habit, self.now, by_hour=True)
        self.keep_record(tenant, replace(tenant.record, habit=usual))

    def charts_of(self, tenant: Tenant) -> tuple[Chart, ...]:
        """Return what a tenant's topology is made of, the chart that is trusted most first."""
        return self.state.charts_of(tenant.name)

    def topology_of(self, tenant: Tenant) -> Topology:
        """Return what is known of who calls whom; nothing is known at first."""
        return self.state.topology_of(tenant.name)

    def family_of(self, tenant: Tenant, template: str) -> str:
        """Return the family of a template as thinking stands: HDBSCAN's, or the template itself."""
        return tenant.family_of(template, model_free=self.free)

    def insight_of(self, tenant: Tenant) -> Insight:
        """Return what is known beside an incident's own alerts: without models the topology alone."""
        known = Insight(self.topology_of(tenant), lambda template: self.family_of(tenant, template))
        if self.free or tenant.link_fit is None:
            return known
        return known._replace(orders=tenant.known_orders(), ranker=tenant.link_fit.ranker)

    def believed_until(self, tenant: Tenant, source: str, heard_at: datetime) -> datetime:
        """Return until when an alert of `source` that was last named at `heard_at` is believed to fire.

        Time in which nobody listened does not count.
        """
        return max(heard_at, self.state.common.resumed_at) + self.patience(tenant, source)

    def patience(self, tenant: Tenant, source: str) -> timedelta:
        """Return how long an alert of `source` is believed to fire without being named."""
        known = self._source(tenant, source)
        return dedup.patience(
            repeat_interval_s=known.repeat_interval_s, group_interval_s=known.group_interval_s
        )

    def settle(self, tenant: Tenant, source: str) -> timedelta:
        """Return for how long a webhook about an alert of `source` may be on its way."""
        return timedelta(seconds=rounds.settle_s(self._source(tenant, source).group_interval_s))

    def quotas_of(self, tenant: Tenant) -> Quotas:
        """Return how much a tenant may take."""
        return self._quotas.get(tenant.name, USUAL)

    def _source(self, tenant: Tenant, source: str) -> Source:
        return self._sources.get((tenant.name, source)) or Source(tenant=tenant.name, name=source)

    def severity_of(self, alert: Alert) -> Severity:
        """Return what the alert's severity label means here."""
        said = alert.labels.get(self.settings.severity_label, "").strip().lower()
        return self.settings.severities.get(said, self.settings.unknown_severity)


def _sources_of(settings: AnalysisSettings) -> dict[tuple[str, str], Source]:
    return {(source.tenant, source.name): source for source in settings.sources}


def _quotas_of(settings: AnalysisSettings) -> dict[str, Quotas]:
    return {quotas.tenant: quotas for quotas in settings.quotas}
