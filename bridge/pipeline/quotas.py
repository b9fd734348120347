"""Quotas on the path: counts what a tenant takes, and thinks with less for it while that is too much.

Rules: judged before a webhook's alerts are heard, and again at each full minute while one is exceeded, so that it ends
by itself. A tenant above one is thought as without models: by time alone (`bursts`), with no new texts for the encoder
and nothing to learn from. Only that tenant is.
"""

from __future__ import annotations

from datetime import timedelta

from msgspec.structs import replace

from bridge.analysis import quotas
from bridge.analysis.families import EncodeAsk
from bridge.analysis.quotas import MINUTE_S, Usage
from bridge.model import Template
from bridge.pipeline.desk import Desk
from bridge.pipeline.fits import Fits
from bridge.pipeline.state import EPOCH, Tenant


class Quotas:
    """Judges usage."""

    def __init__(self, desk: Desk, fits: Fits) -> None:
        self._desk = desk
        self._fits = fits

    def hear(self, tenant: Tenant, alerts: int) -> None:
        """Count alerts that a webhook brings."""
        self._judge(tenant, alerts)

    def look(self, tenant: Tenant, key: tuple[str, ...] = ()) -> None:
        """Judge anew: a minute is over, or there are other settings."""
        del key
        self._judge(tenant, 0)

    def rearm(self, tenant: Tenant) -> None:
        """Arm the next look, if a quota is exceeded."""
        if tenant.record.usage.over:
            minute = timedelta(minutes=int(self._desk.now.timestamp()) // MINUTE_S + 1)
            self._desk.arm(tenant, "quota", (), EPOCH + minute)

    def _judge(self, tenant: Tenant, alerts: int) -> None:
        before = tenant.record.usage
        usage = quotas.counted(before, self._desk.now.timestamp(), alerts)
        usage = quotas.judged(usage, tenant.held(), self._desk.quotas_of(tenant))
        if usage is not before:
            self._desk.keep_record(tenant, replace(tenant.record, usage=usage))
        if bool(usage.over) is not bool(before.over):
            self._change(tenant, before, usage)
        self.rearm(tenant)

    def _change(self, tenant: Tenant, before: Usage, after: Usage) -> None:
        self._desk.free = self._desk.is_free(tenant)
        for name in sorted({*before.over, *after.over}):
            self._desk.out.count(f"quota:{name}")
        self._fits.change(tenant)
        missing = [record for record in tenant.templates.values() if not record.vector]
        if missing and not after.over:
            texts = tuple(Template(id=record.id, text=record.text) for record in missing)
            self._desk.out.asks.append(EncodeAsk(tenant=tenant.name, templates=texts))
