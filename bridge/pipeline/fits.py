"""What the models told, and when they are asked: vectors, families, and the mode without models.

Rules: nothing waits for a model. Vectors and families act from the row that brings them. A fit is asked for at a
tick on the full ten minutes, with the templates as they stand at that tick, so that its input does not depend on
how rows were batched.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from bridge.analysis import anomaly
from bridge.analysis.families import MIN_TEMPLATES, FitAsk, own_family
from bridge.model import InboxRow
from bridge.pipeline.desk import Desk
from bridge.pipeline.gathering import Gathering
from bridge.pipeline.state import TemplateRecord, Tenant, tick_at, time_of

FIT_EVERY_S = 600
FIT_GROWTH = 1.05


class Fits:
    """Takes in what the models answered, and asks them."""

    def __init__(self, desk: Desk, gathering: Gathering) -> None:
        self._desk = desk
        self._gathering = gathering

    def vectors(self, row: InboxRow) -> None:
        """Let template vectors act from here on."""
        tenant = self._desk.tenant(row.tenant)
        for template, vector in sorted(msgspec.json.decode(row.body)["vectors"].items()):
            record = tenant.templates.get(template)
            if record is not None:
                self._desk.keep_template(tenant, replace(record, vector=base64.b64decode(vector)))
        tenant.window = None  # texts that were unknown to it are known now
        self.plan(tenant)

    def families(self, row: InboxRow) -> None:
        """Let families act from here on; a new one begins with what is usual for its templates."""
        told = msgspec.json.decode(row.body)
        tenant = self._desk.tenant(row.tenant)
        members: dict[str, list[str]] = {}
        for template, family in sorted(told["assign"].items()):
            record = tenant.templates.get(template)
            if record is not None:
                members.setdefault(family, []).append(own_family(template))
                if record.family != family:
                    self._desk.keep_template(tenant, replace(record, family=family))
        for family, templates in members.items():
            known = [tenant.habits[name] for name in templates if name in tenant.habits]
            if known and family not in tenant.habits:
                pooled = anomaly.pooled(known)
                tenant.habits[family] = self._desk.out.habits[tenant.name, family] = pooled
        self._gathering.reindex(tenant)
        done = max(tenant.record.fit_done, int(told.get("fit") or 0))
        self._desk.keep_record(tenant, replace(tenant.record, fit_done=done))

    def mode(self, row: InboxRow) -> None:
        """Think with or without models from here on.

        It is about all tenants but those it excepts, or `alone` about the one whose row it is, which was behind then.
        """
        told = msgspec.json.decode(row.body)
        free = bool(told["model_free"])
        before = {tenant.name: self._desk.is_free(tenant) for tenant in self._desk.tenants()}
        if told.get("alone"):
            self._keep_mode(self._desk.tenant(row.tenant), free)
        else:
            excepted = frozenset(told.get("except", ()))
            for tenant in self._desk.tenants():
                own = tenant.record.model_free
                kept = self._desk.state.common.model_free if own is None else own
                self._keep_mode(tenant, kept if tenant.name in excepted else None)
            if free != self._desk.state.common.model_free:
                self._desk.keep_common(replace(self._desk.state.common, model_free=free))
        for tenant in self._desk.tenants():
            if self._desk.is_free(tenant) != before.get(tenant.name, free):
                self._desk.turn_to(tenant)
                self.change(tenant)

    def _keep_mode(self, tenant: Tenant, told: bool | None) -> None:
        if tenant.record.model_free is not told:
            self._desk.keep_record(tenant, replace(tenant.record, model_free=told))

    def change(self, tenant: Tenant) -> None:
        """Let the tenant that is worked for be thought in its new mode."""
        # Models that join have no fit to predict from, so one is due; not if they are about to answer the last,
        # or it was what took them down.
        if not self._desk.free and tenant.record.fit_done == tenant.record.fit_asked:
            self._desk.keep_record(tenant, replace(tenant.record, fitted_templates=0))
        self._gathering.reindex(tenant)
        self.plan(tenant)

    def plan(self, tenant: Tenant) -> None:
        """Arm the next fit if there is enough that the last one did not know."""
        if self._wanted(tenant, sum(1 for record in tenant.templates.values() if record.vector)):
            tick = -(-tick_at(self._desk.now) // FIT_EVERY_S) * FIT_EVERY_S
            self._desk.arm(tenant, "fit", (), time_of(tick))

    def fit(self, tenant: Tenant, key: tuple[str, ...]) -> None:
        """Ask for a fit of the families as the templates stand at this tick."""
        del key
        ready = ready_templates(tenant)
        if self._wanted(tenant, len(ready)):
            asked = tenant.record.fit_asked + 1
            self._desk.keep_record(
                tenant, replace(tenant.record, fit_asked=asked, fitted_templates=len(ready))
            )
            self._desk.out.asks.append(fit_ask(tenant, ready))

    def _wanted(self, tenant: Tenant, ready: int) -> bool:
        enough = ready >= MIN_TEMPLATES and ready >= tenant.record.fitted_templates * FIT_GROWTH
        return enough and not self._desk.free


def ready_templates(tenant: Tenant) -> list[TemplateRecord]:
    """Return the templates that have a vector, in order of their ids."""
    return [record for _, record in sorted(tenant.templates.items()) if record.vector]


def fit_ask(tenant: Tenant, ready: Sequence[TemplateRecord]) -> FitAsk:
    """Return what a family fit needs: templates in order of their ids, with vectors and present families."""
    return FitAsk(
        tenant=tenant.name,
        fit=tenant.record.fit_asked,
        templates=tuple((record.id, record.vector, record.family) for record in ready),
    )
