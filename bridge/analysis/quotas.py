"""Quotas: how much of everybody's machine one tenant may take, and from when to when it takes more.

Rules: pure, a table of four numbers. A quota is exceeded from the first alert above it on, and is not any more when
what it bounds is well below it again: a tenth below what is held, and for alerts a whole minute with a fifth less than
allowed. Minutes are those of the clock, so that results do not depend on when anybody looked.

Nothing is refused for any of these: an alert that is not taken in and then resolves is never heard of again. While one
is exceeded the tenant's alerts are grouped by time alone, without models and without learning from them.

Decision: means over a minute rather than over a second. A storm begins with its worst second, when Alertmanager tells
of whole groups at once, and that is what Tocsin is for.
"""

from __future__ import annotations

from typing import Literal

from msgspec.structs import replace

from bridge.model import Word

#: What is bounded.
QuotaName = Literal["alerts_per_s", "fingerprints", "templates", "open_incidents"]
QUOTA_NAMES: tuple[QuotaName, ...] = ("alerts_per_s", "fingerprints", "templates", "open_incidents")
MINUTE_S = 60
#: Of a quota: what a whole minute may have, and what may be held, for it not to be exceeded any more.
CALM_RATE, CALM_HELD = 0.8, 0.9


class Quotas(Word, frozen=True, kw_only=True):
    """What thinking allows one tenant. Far above what is ordinary."""

    tenant: str = ""
    alerts_per_s: float = 5_000.0  # mean over a minute, resends included
    fingerprints: int = 250_000  # distinct alerts that are remembered
    templates: int = 20_000  # texts that differ in more than numbers and their alerts' own labels
    open_incidents: int = 20_000  # open, quiet, or over so lately that they may reopen


class Held(Word, frozen=True, kw_only=True):
    """What one tenant holds now."""

    fingerprints: int
    templates: int
    open_incidents: int


class Usage(Word, frozen=True, kw_only=True):
    """What one tenant has taken lately, and which quotas it exceeds."""

    minute: int = 0  # of the clock, since the epoch
    alerts: int = 0  # in that minute
    before: int = 0  # in the minute before it
    over: tuple[QuotaName, ...] = ()  # in the order of `QUOTA_NAMES`


def counted(usage: Usage, now_s: float, alerts: int) -> Usage:
    """Return the usage after `alerts` more at `now_s` (epoch s), which never goes back."""
    minute = int(now_s) // MINUTE_S
    if minute == usage.minute:
        return replace(usage, alerts=usage.alerts + alerts)
    before = usage.alerts if minute == usage.minute + 1 else 0
    return replace(usage, minute=minute, alerts=alerts, before=before)


def judged(usage: Usage, held: Held, quotas: Quotas) -> Usage:
    """Return the usage with what it exceeds now; call it after `counted`."""
    used, calm = figures(usage, held, quotas), {"alerts_per_s": CALM_RATE}
    over = tuple(
        name
        for name in QUOTA_NAMES
        if used[name] > (calm.get(name, CALM_HELD) if name in usage.over else 1.0)
    )
    return usage if over == usage.over else replace(usage, over=over)


def figures(usage: Usage, held: Held, quotas: Quotas) -> dict[QuotaName, float]:
    """Return how much of each quota is used, 1.0 for all of it: of alerts the larger of this minute and the last."""
    return {
        "alerts_per_s": max(usage.alerts, usage.before) / (quotas.alerts_per_s * MINUTE_S),
        "fingerprints": held.fingerprints / quotas.fingerprints,
        "templates": held.templates / quotas.templates,
        "open_incidents": held.open_incidents / quotas.open_incidents,
    }
