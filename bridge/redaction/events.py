"""An event for a destination that is to know less than what was kept.

Rules: every text of it that comes from alerts or people is looked through; ids, fingerprints, times and numbers stay,
so that what a destination is told of one incident belongs together. The values of labels that a rule takes are taken
out of an alert's texts, and out of those of the incident, which are made of all its alerts' labels.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from bridge.model import Advice, Event, EventEpisode, Forecast, IncidentView, RootSuspect
from bridge.redaction.redactor import MOST_FOLLOWED, Redactor


def redacted_event(event: Event, redactor: Redactor) -> Event:
    """Return the event as the destination may have it."""
    view = event.incident
    follow = redactor.followed(
        view.common_labels,
        *(each.labels for each in view.episodes),
        most=MOST_FOLLOWED * (1 + len(view.episodes)),
    )

    def told(text: str) -> str:
        return redactor.text(follow(text))

    return replace(
        event,
        incident=_incident(view, redactor, told),
        note=_if_set(event.note, told),
        author=_if_set(event.author, told),
        forecast=_forecast(event.forecast, told),
        recommendations=_advice(event.recommendations, told),
    )


def _incident(view: IncidentView, redactor: Redactor, told: Callable[[str], str]) -> IncidentView:
    return replace(
        view,
        title=told(view.title),
        summary=told(view.summary),
        anomaly_reason=told(view.anomaly_reason),
        common_labels=redactor.labels(view.common_labels),
        episodes=tuple(_episode(each, redactor) for each in view.episodes),
        root=tuple(_suspect(each, told) for each in view.root),
    )


def _episode(each: EventEpisode, redactor: Redactor) -> EventEpisode:
    follow = redactor.followed(each.labels)
    return replace(
        each,
        labels=redactor.labels(each.labels),
        annotations=redactor.annotations(each.annotations, follow),
        generator_url=redactor.text(follow(each.generator_url)),
        why=redactor.text(follow(each.why)),
    )


def _suspect(each: RootSuspect, told: Callable[[str], str]) -> RootSuspect:
    return replace(each, why=told(each.why))


def _if_set(text: str | msgspec.UnsetType, told: Callable[[str], str]) -> str | msgspec.UnsetType:
    return told(text) if isinstance(text, str) else text


def _forecast(
    forecast: Forecast | msgspec.UnsetType, told: Callable[[str], str]
) -> Forecast | msgspec.UnsetType:
    if not isinstance(forecast, Forecast):
        return forecast
    return replace(
        forecast,
        name=told(forecast.name),
        reasons=tuple(map(told, forecast.reasons)),
        why_silent=told(forecast.why_silent),
    )


def _advice(
    given: tuple[Advice, ...] | msgspec.UnsetType, told: Callable[[str], str]
) -> tuple[Advice, ...] | msgspec.UnsetType:
    if not isinstance(given, tuple):
        return given
    return tuple(
        replace(each, text=told(each.text), evidence=tuple(map(told, each.evidence)), link=told(each.link))
        for each in given
    )
