"""Announcing: when a forecast is worth a word, and the event that carries it.

Rules: only what models have earned to say, only where it is more than usual, and not the same again before its time has
passed. It calls nobody: its severity is info, and only a route that names the kind leads anywhere.

Decision: each announcement has an id and a sequence of its own rather than one per target that goes on for ever. It is
about one stretch of time, and nothing of it has to be remembered when that has passed.
"""

from __future__ import annotations

from datetime import datetime
from hashlib import blake2b

from bridge.model import (
    Event,
    EventKind,
    Forecast,
    IncidentState,
    IncidentView,
    Word,
    event_id,
)

#: So many times the usual odds are worth a word; and so many times those that were told.
WORTH, AGAIN = 2.0, 2.0


class Announced(Word, frozen=True, kw_only=True):
    """What was last told of a target."""

    until: datetime
    probability: float


def is_news(forecast: Forecast, told: Announced | None) -> bool:
    """Return whether a forecast says something that is neither usual nor known."""
    odds = _odds(forecast.probability)
    if not forecast.published or odds < WORTH * _odds(forecast.reference):
        return False
    return told is None or told.until <= forecast.at or odds >= AGAIN * _odds(told.probability)


def announcement(forecast: Forecast, tenant: str, *, degraded: bool, external_url: str) -> Event:
    """Return the event that tells of a forecast; the same in every replay."""
    named = f"{tenant}\n{forecast.aim}\n{forecast.name}\n{forecast.at.isoformat()}"
    identity = "fc-" + blake2b(named.encode(), digest_size=8).hexdigest()
    view = IncidentView(
        id=identity, state=IncidentState.OPEN, origin="tocsin", title=_title(forecast), summary=_summary(forecast),
        severity="info", anomaly=None, anomaly_reason="a forecast has no score", opened_at=forecast.at, closed_at=None,
        alerts_total=0, alerts_firing=0, common_labels=labels_of(forecast, "service"), episodes=(), truncated=0,
        root=(), merged_into=None, split_from=None, escalations=0,
        url=f"{external_url.rstrip('/')}/api/v1/forecasts" if external_url else "",
    )  # fmt: skip
    kind = EventKind.FORECAST
    return Event(
        event_id=event_id(tenant, identity, 1, kind), kind=kind, seq=1, at=forecast.at, tenant=tenant,
        degraded=degraded, incident=view, forecast=forecast,
    )  # fmt: skip


def labels_of(forecast: Forecast, service_label: str) -> dict[str, str]:
    """Return the labels that routes match a forecast by."""
    label = {"severity": "severity", "service": service_label}.get(forecast.aim)
    return {} if label is None else {label: forecast.name}


def _title(forecast: Forecast) -> str:
    what = {
        "any": "An incident", "severity": f"A {forecast.name} incident",
        "service": f"An incident of {forecast.name}",
    }[forecast.aim]  # fmt: skip
    return f"{what} is likely until {forecast.until:%Y-%m-%d %H:%M} UTC ({forecast.probability:.0%})"


def _summary(forecast: Forecast) -> str:
    usual = f"At such hours it is {forecast.reference:.0%}."
    return "\n".join((usual, *(f"{reason}." for reason in forecast.reasons)))


def _odds(probability: float) -> float:
    return probability / (1.0 - probability)
