"""Announcing: when a forecast, or what is recommended because of it, is worth a word, and the event that carries it.

Rules: only what models have earned to say, only where it is more than usual, and not the same again before its time has
passed. It calls nobody: its severity is info, and only a route that names the kind leads anywhere. What is recommended
is told where its forecast is more than usual, and again only when it is something else, or the time it was about has
passed: the same words with newer figures are no news.

Decision: each announcement has an id and a sequence of its own rather than one per target that goes on for ever. It is
about one stretch of time, and nothing of it has to be remembered when that has passed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from hashlib import blake2b

from msgspec.structs import replace

from bridge.model import (
    Advice,
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
EVIDENCE_CHARS = 400
#: How ids of what is no incident begin, and where it stands in the API.
_OF_KIND = {EventKind.FORECAST: ("fc-", "forecasts"), EventKind.RECOMMENDATION: ("rc-", "recommendations")}


class Announced(Word, frozen=True, kw_only=True):
    """What was last told of a target."""

    until: datetime
    probability: float


class Advised(Word, frozen=True, kw_only=True):
    """What was last recommended because of a target's forecast."""

    until: datetime
    what: str  # a digest


def is_unusual(forecast: Forecast) -> bool:
    """Return whether a forecast was earned, and says that more is likely than usual."""
    return forecast.published and _odds(forecast.probability) >= WORTH * _odds(forecast.reference)


def is_news(forecast: Forecast, told: Announced | None) -> bool:
    """Return whether a forecast says something that is neither usual nor known."""
    if not is_unusual(forecast):
        return False
    odds = _odds(forecast.probability)
    return told is None or told.until <= forecast.at or odds >= AGAIN * _odds(told.probability)


def advised(forecast: Forecast, advice: Sequence[Advice]) -> Advised:
    """Return what is told by recommending this; evidence is left out, which changes with every hour."""
    told = "\n".join(sorted(f"{each.about} {each.text}" for each in advice))
    return Advised(until=forecast.until, what=blake2b(told.encode(), digest_size=8).hexdigest())


def is_new_advice(forecast: Forecast, advice: Sequence[Advice], told: Advised | None) -> bool:
    """Return whether something is recommended, with evidence, that was not before for this time."""
    if not advice or not is_unusual(forecast):
        return False
    return told is None or told.until <= forecast.at or told.what != advised(forecast, advice).what


def announcement(forecast: Forecast, tenant: str, *, degraded: bool, external_url: str) -> Event:
    """Return the event that tells of a forecast; the same in every replay."""
    view = _view(forecast, tenant, EventKind.FORECAST, (_title(forecast), _summary(forecast)), external_url)
    return _event(view, EventKind.FORECAST, forecast, tenant, degraded=degraded)


def recommendation(
    forecast: Forecast, advice: Sequence[Advice], tenant: str, *, degraded: bool, external_url: str
) -> Event:
    """Return the event that recommends what to do before what is forecast; the same in every replay."""
    kind = EventKind.RECOMMENDATION
    said = _advice_title(forecast, len(advice)), _advice_summary(advice)
    event = _event(
        _view(forecast, tenant, kind, said, external_url), kind, forecast, tenant, degraded=degraded
    )
    return replace(event, recommendations=tuple(map(_bounded, advice)))


def _view(
    forecast: Forecast, tenant: str, kind: EventKind, said: tuple[str, str], external_url: str
) -> IncidentView:
    named = f"{tenant}\n{forecast.aim}\n{forecast.name}\n{forecast.at.isoformat()}"
    beginning, page = _OF_KIND[kind]
    identity = beginning + blake2b(named.encode(), digest_size=8).hexdigest()
    return IncidentView(
        id=identity, state=IncidentState.OPEN, origin="tocsin", title=said[0], summary=said[1],
        severity="info", anomaly=None, anomaly_reason="a forecast has no score", opened_at=forecast.at, closed_at=None,
        alerts_total=0, alerts_firing=0, common_labels=labels_of(forecast, "service"), episodes=(), truncated=0,
        root=(), merged_into=None, split_from=None, escalations=0,
        url=f"{external_url.rstrip('/')}/api/v1/{page}" if external_url else "",
    )  # fmt: skip


def _event(view: IncidentView, kind: EventKind, forecast: Forecast, tenant: str, *, degraded: bool) -> Event:
    return Event(
        event_id=event_id(tenant, view.id, 1, kind), kind=kind, seq=1, at=forecast.at, tenant=tenant,
        degraded=degraded, incident=view, forecast=forecast,
    )  # fmt: skip


def labels_of(forecast: Forecast, service_label: str) -> dict[str, str]:
    """Return the labels that routes match a forecast by."""
    label = {"severity": "severity", "service": service_label}.get(forecast.aim)
    return {} if label is None else {label: forecast.name}


def _title(forecast: Forecast) -> str:
    what = _what(forecast)
    when = f"{forecast.until:%Y-%m-%d %H:%M} UTC"
    return f"{what[0].upper()}{what[1:]} is likely until {when} ({forecast.probability:.0%})"


def _what(forecast: Forecast) -> str:
    return {
        "any": "an incident", "severity": f"a {forecast.name} incident",
        "service": f"an incident of {forecast.name}",
    }[forecast.aim]  # fmt: skip


def _advice_title(forecast: Forecast, number: int) -> str:
    things = "one recommendation" if number == 1 else f"{number} recommendations"
    when = f"{forecast.until:%Y-%m-%d %H:%M} UTC"
    return f"Before {_what(forecast)}, likely until {when} ({forecast.probability:.0%}): {things}"


def _advice_summary(advice: Sequence[Advice]) -> str:
    """Return a line for each, with the evidence that weighs most; that of the forecast is the forecast's to tell."""
    return "\n".join(f"{each.text} ({each.evidence[0]})" for each in map(_bounded, advice))


def _bounded(advice: Advice) -> Advice:
    """Return a recommendation as an event carries it: kinds and things may have names of any length."""
    cut = tuple(each[:EVIDENCE_CHARS] for each in advice.evidence)
    return replace(advice, text=advice.text[:EVIDENCE_CHARS], evidence=cut)


def _summary(forecast: Forecast) -> str:
    usual = f"At such hours it is {forecast.reference:.0%}."
    return "\n".join((usual, *(f"{reason}." for reason in forecast.reasons)))


def _odds(probability: float) -> float:
    return probability / (1.0 - probability)
