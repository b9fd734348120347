"""How much of each tenant the front lets in, and who is told that a quota is exceeded.

Rules: what is refused is refused at the door, by bytes and room on the disk alone; what thinking allows is counted by
the analyst and only told here. Each exceeded quota is a metric of its tenant and an incident of source `tocsin` in it,
and nobody else's business. Counted in memory: after a restart a minute begins anew.

Decision: no series for a quota that never was exceeded. `/metrics` is open, and shows no tenant's name without need.

Decision: a bucket that may be overdrawn rather than one that refuses what does not fit. How large a body is, is known
for sure only when it was read; a tenant that is even a byte over waits until it has paid for all that it sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from bridge.analysis.quotas import QUOTA_NAMES, Quotas
from bridge.api import QuotaHealth
from bridge.app.troubles import Troubles
from bridge.config import DoorQuotas, Settings
from bridge.telemetry import Telemetry

#: A bucket holds so much, and a quota of bytes counts as exceeded for at least so long after a refusal.
MINUTE_S = 60.0
#: A store that was full is not any more below this share of its quota.
CALM = 0.95

#: What is told of each quota that is exceeded.
_WHY = {
    "bytes_per_s": "more bytes of webhooks a second were sent, so webhooks get 503 and come again",
    "in_flight": "more bytes of webhooks came at once, so webhooks get 503 and come again",
    "storage": "the history has more bytes, so webhooks get 503 until some of it is old, or the quota is raised",
    "alerts_per_s": "more alerts a second came, so alerts are grouped by time alone",
    "fingerprints": "more distinct alerts are remembered, so alerts are grouped by time alone",
    "templates": "there are more texts, so alerts are grouped by time alone and new texts count as one",
    "open_incidents": "more incidents are open at once, so alerts are grouped by time alone",
}


class Bucket:
    """Bytes that may be spent in a minute; may be overdrawn."""

    def __init__(self, now_s: float) -> None:
        self._spent = 0.0
        self._at_s = now_s

    def spent(self, per_s: float, now_s: float) -> float:
        """Return the bytes of which the time was not yet."""
        self._spent = max(0.0, self._spent - (now_s - self._at_s) * per_s)
        self._at_s = now_s
        return self._spent

    def spend(self, size_bytes: int) -> None:
        """Spend so much more."""
        self._spent += size_bytes


class QuotaKeeper:
    """Keeps the quotas of one front's tenants, as `bridge.intake.Quotas`."""

    def __init__(
        self,
        *,
        settings: Callable[[], Settings],
        stored: Callable[[], Mapping[str, int]],
        troubles: Troubles,
        telemetry: Telemetry,
        clock: Callable[[], float],
    ) -> None:
        """Prepare.

        Args:
            settings: What holds now.
            stored: Bytes of history by tenant; blocks, and raises StorageError.
            troubles: Who is told.
            telemetry: Where it is counted.
            clock: Seconds of a steady clock.
        """
        self._settings = settings
        self._stored = stored
        self._troubles = troubles
        self._telemetry = telemetry
        self._clock = clock
        self._buckets: dict[str, Bucket] = {}
        self._full: set[str] = set()
        self._used: dict[tuple[str, str], float] = {}  # by tenant and quota, 1 for all of it
        self._told: set[tuple[str, str]] = set()  # tenant and quota, that are told to be exceeded
        self._refused_at: dict[tuple[str, str], float] = {}  # tenant and quota

    # ---- at the door ---------------------------------------------------------------------------------------

    def refusal(self, tenant: str) -> str | None:
        """Return what the sender is told if the tenant has sent too much, or has too much; else None."""
        if tenant in self._full:
            return self._refuse(tenant, "storage", "no room is left of your quota of storage")
        quotas = self._quotas(tenant)
        bucket = self._buckets.get(tenant)
        if quotas is None or bucket is None:
            return None
        if bucket.spent(quotas.bytes_per_s, self._clock()) <= quotas.bytes_per_s * MINUTE_S:
            return None
        return self._refuse(tenant, "bytes_per_s", "more was sent than your quota of bytes allows; try again")

    def took(self, tenant: str, size_bytes: int) -> None:
        """Hear of a body that was read."""
        bucket = self._buckets.get(tenant)
        if bucket is None:
            bucket = self._buckets[tenant] = Bucket(self._clock())
        bucket.spend(size_bytes)

    def in_flight_bytes(self, tenant: str) -> int | None:
        """Return how much of the budget the tenant may have; None: what everybody may."""
        quotas = self._quotas(tenant)
        return None if quotas is None else quotas.in_flight_bytes

    def crowded(self, tenant: str) -> None:
        """Hear of a body that was refused since too many came at once."""
        self._refuse(tenant, "in_flight", "")

    def _refuse(self, tenant: str, name: str, told: str) -> str:
        self._telemetry.add("tocsin_quota_refused_total", tenant=tenant, quota=name)
        if (tenant, name) not in self._refused_at:
            self._tell(tenant, name, is_over=True)
        self._refused_at[tenant, name] = self._clock()
        return told

    def _quotas(self, tenant: str) -> DoorQuotas | None:
        return self._settings().quotas.get(tenant)

    # ---- for whoever asks ----------------------------------------------------------------------------------

    def health(self, tenant: str) -> tuple[QuotaHealth, ...]:
        """Return how much of each quota a tenant uses, in the order of the configuration."""
        return tuple(
            QuotaHealth(
                name=name,
                limit=limit,
                used=self._used.get((tenant, name)),
                exceeded=(tenant, name) in self._told,
            )
            for name, limit in limits_of(self._settings(), tenant).items()
        )

    # ---- now and then --------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Look at what is stored, and whether what was refused lately is not any more.

        Raises:
            StorageError: What is stored cannot be told.
        """
        for (tenant, name), at_s in list(self._refused_at.items()):
            if name != "storage" and self._clock() - at_s > MINUTE_S:
                del self._refused_at[tenant, name]
                self._tell(tenant, name, is_over=False)
        for tenant, bucket in self._buckets.items():
            quotas = self._quotas(tenant)
            if quotas is not None:
                spent = bucket.spent(quotas.bytes_per_s, self._clock())
                self._use(tenant, "bytes_per_s", spent / (quotas.bytes_per_s * MINUTE_S))
        self._look_at_stored(await asyncio.to_thread(self._stored))

    def _look_at_stored(self, stored: Mapping[str, int]) -> None:
        for tenant in self._settings().tenants:
            quotas = self._quotas(tenant)
            if quotas is None:
                continue
            used = stored.get(tenant, 0) / quotas.storage_bytes
            self._use(tenant, "storage", used)
            is_full = used > (CALM if tenant in self._full else 1.0)
            if is_full is not (tenant in self._full):
                self._full ^= {tenant}
                self._refused_at.pop((tenant, "storage"), None)
                self._tell(tenant, "storage", is_over=is_full)

    # ---- what the analyst says -----------------------------------------------------------------------------

    def hear(self, gauges: Mapping[str, float]) -> None:
        """Take in how much of what thinking allows is used, and what is exceeded."""
        for key, value in gauges.items():
            family, _, rest = key.partition(":")
            name, _, tenant = rest.partition(":")
            if family == "quota":
                self._use(tenant, name, value)
                self._tell(tenant, name, is_over=bool(gauges.get(f"over:{name}:{tenant}")))

    def _use(self, tenant: str, name: str, used: float) -> None:
        self._used[tenant, name] = used

    def _tell(self, tenant: str, name: str, *, is_over: bool) -> None:
        if is_over is ((tenant, name) in self._told):
            return
        self._told ^= {(tenant, name)}
        self._telemetry.set("tocsin_quota_exceeded", float(is_over), tenant=tenant, quota=name)
        why = f"{_WHY[name]} ({name} {_written(name, self._settings(), tenant)})" if is_over else None
        self._troubles.report("TocsinQuotaExceeded", why, of=tenant, quota=name)


def limits_of(settings: Settings, tenant: str) -> dict[str, float | None]:
    """Return every quota of a tenant as it is configured; None for no figure of its own."""
    door = settings.quotas.get(tenant)
    thinking = next((each for each in settings.analysis.quotas if each.tenant == tenant), Quotas())
    return {
        "bytes_per_s": None if door is None else door.bytes_per_s,
        "in_flight": None if door is None else door.in_flight_bytes,
        "storage": None if door is None else door.storage_bytes,
        **{name: getattr(thinking, name) for name in QUOTA_NAMES},
    }


def _written(name: str, settings: Settings, tenant: str) -> str:
    limit = limits_of(settings, tenant)[name]
    return "as its share of limits.budget" if limit is None else f"{limit:,.12g}"
