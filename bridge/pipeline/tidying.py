"""Tidying: what was not used for long is forgotten, once a day, so that memory follows what a tenant has now.

Rules: a template goes when no alert had it for `retention.history`, or when there are more than `MAX_TEMPLATES` and
it is the one used least lately; never one that an incident in memory has. A habit goes when what is left of it is
less than noise. What people said, what links are learned from and series that are silent go when incidents of that time
are not kept any more (`retention.incidents`). What the order of services is learned from is halved every month.

Decision: as time runs past midnight rather than at an alarm: an alarm that is always armed would make an idle front
tell the time every few seconds for nothing.
"""

from __future__ import annotations

from datetime import timedelta

from msgspec.structs import replace

from bridge.analysis.anomaly import HALF_LIFE_S
from bridge.analysis.families import own_family
from bridge.pipeline.desk import Desk
from bridge.pipeline.precedences import fade
from bridge.pipeline.series import Series
from bridge.pipeline.state import Tenant, day_of

#: Real tenants have hundreds (5,664 texts of a storm were 7 templates); more is text that cannot be masked.
MAX_TEMPLATES = 20_000
HABIT_S = 5 * HALF_LIFE_S  # a thirty-second of it is left


def tidy(desk: Desk, tenant: Tenant) -> None:
    """Forget what one tenant has not used for long."""
    held = {template for group in tenant.groups.values() for template in group.templates}
    oldest = day_of(desk.now - timedelta(seconds=desk.settings.kept_s(tenant.name, "history")))
    by_use = sorted(tenant.templates.values(), key=lambda record: (record.used_day, record.id))
    surplus = len(by_use) - MAX_TEMPLATES
    for number, record in enumerate(by_use):
        if (record.used_day < oldest or number < surplus) and record.id not in held:
            desk.drop_template(tenant, record.id)
            desk.drop_habit(tenant, own_family(record.id))
    ready = sum(1 for record in tenant.templates.values() if record.vector)
    if ready < tenant.record.fitted_templates:  # or the next fit would wait for what is gone
        desk.keep_record(tenant, replace(tenant.record, fitted_templates=ready))
    fade(desk, tenant)
    _forget(desk, tenant)
    faded = desk.now - timedelta(seconds=HABIT_S)
    for family in [family for family, habit in tenant.habits.items() if habit.updated_at < faded]:
        desk.drop_habit(tenant, family)


def _forget(desk: Desk, tenant: Tenant) -> None:
    """Forget what people said, and what is learned from, when incidents of that time are not kept any more."""
    oldest = desk.now - timedelta(seconds=desk.settings.kept_s(tenant.name, "incidents"))
    oldest_s = oldest.timestamp()
    for name, action in list(tenant.actions.items()):
        if action.at < oldest and not any(incident in tenant.groups for incident in action.incidents):
            desk.drop_action(tenant, name)
    for number, sighting in list(tenant.sightings.items()):
        if sighting.at_s < oldest_s:
            desk.drop_sighting(tenant, number)
    series = Series(desk)
    for name, known in list(tenant.measured.items()):
        if known.heard_at < oldest:
            series.drop(tenant, name)
